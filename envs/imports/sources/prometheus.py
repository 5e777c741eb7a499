"""VM history out of Prometheus: range queries as JSON, and the tables that Grafana exports.

Read are replies of ``/api/v1/query_range`` (Prometheus documentation, "HTTP API": ``status``, ``data.resultType`` matrix,
values as text), what ``promtool query range -o json`` prints (prometheus/prometheus cmd/promtool/main.go, jsonPrinter: the
matrix alone), VictoriaMetrics' ``/api/v1/export`` (a series a line, times in ms), several of them in one file; and CSV: wide
with a series a column, as Grafana's inspector writes "Series joined by time", or long with ``metric``/labels, ``timestamp``
and ``value``. Metrics and labels: `envs.imports.prometheus_metrics`.

The result of an expression has no metric name: ``columns={guest_used: mem.json}`` says what the nameless series of a file are
(file names may have ``*``; one with the word ``max`` holds maxima). A metric of one's own is named the same way.

Counters of one VM's disks and interfaces are added up. A VM that two hosts report keeps a row for each. Instants are read as
they stand: a range query takes the sample before each step, and sees no peak between.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports import prometheus_metrics as metrics
from hvgym.envs.imports.joining import Series, joined
from hvgym.envs.imports.prometheus_replies import Found, series_of
from hvgym.envs.imports.reading import dates_s, files_of, frames, numbers, text
from hvgym.envs.imports.source import Batch, Column, Options, Source

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("metric", "__name__", "name")
TIMES = ("time", "timestamp", "date")

MOST_SERIES = 10_000
"""Of a table with a series a column; a panel of Grafana has some hundreds."""

DECIMAL_COMMA = re.compile(r"\s*-?\d+,(?!\d{3}\s*$)\d+\s*")

LABEL = re.compile(r'([A-Za-z_][\w.]*)\s*=\s*"((?:[^"\\]|\\.)*)"')

MAXIMA, MEANS = (
    re.compile(r"(?<![a-z])max(imum)?(?![a-z])", re.I),
    re.compile(r"(?<![a-z])(avg|average|mean)(?![a-z])", re.I),
)


@dataclass(frozen=True)
class _Naming:
    """What series without values say of the others: names and hosts of VMs by the label that both have."""

    names: Mapping[str, str]
    hosts: Mapping[str, str]


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of all files. Raises `InputError` as in `Source`, and where no series is one that is known or named by the user."""
    files = files_of(paths, SOURCE.patterns)
    naming = _naming(files)
    met, unknown = False, ""
    for file in files:
        for found in _pieces(file, options):
            known = list(_known(file, found, options, naming))
            unknown = unknown or next((series.metric for series in found), "")
            for batch in joined(file, known):
                met = True
                yield batch
    if not met:
        seen = f"the first is called {shown(unknown)}" if unknown else "there is no series in it"
        raise InputError(
            f"{files[0]}: no metric of a VM's memory or CPU is in it ({seen}); query the metrics that docs/import.md names, or say "
            f"what yours is, as in columns={{guest_used: my:metric}}"
        )


def _known(file: Path, found: Iterable[Found], options: Options, naming: _Naming) -> Iterator[Series]:
    label = options.columns.get("vm")
    for series in found:
        column, rank = _column(file, series.metric, options)
        special = (
            "reported_s" if series.metric in metrics.REPORTED else "power" if series.metric in metrics.POWER else None
        )
        vm = metrics.vm_of(series.metric, series.labels, naming.names, label) if column or special else None
        if vm is None:
            continue
        values = series.values
        if special == "power":
            states = metrics.POWER[series.metric]
            values = np.array(
                [states.get(int(value), "unknown") if np.isfinite(value) else None for value in values], object
            )
        yield Series(
            vm, metrics.host_of(series.metric, series.labels, naming.hosts), metrics.uuid_of(series.labels),
            metrics.group_of(series.labels), _aggregate(file, series.metric), column or special or "", rank,
            metrics.device_of(series.labels), series.times, values,
        )  # fmt: skip


def _column(file: Path, metric: str, options: Options) -> tuple[Column | None, int]:
    """What a series holds, and how much it is to be preferred (0 most) to others of that kind."""
    for quantity, called in options.columns.items():
        if quantity not in ("vm", "time") and (called == metric or fnmatch.fnmatch(file.name, called)):
            return Column(quantity, metric or file.name), 0
    if not metric:
        raise InputError(
            f"{file}: its series have no metric name, as results of expressions have none; say what they are, as in "
            f"columns={{guest_used: {file.name}}}"
        )
    known = metrics.METRICS.get(metric)
    return known, list(metrics.METRICS).index(metric) + 1 if known else 0


def _aggregate(file: Path, metric: str) -> str:
    if metric:
        return "last"
    return "max" if MAXIMA.search(file.stem) else "mean" if MEANS.search(file.stem) else "last"


def _naming(files: Iterable[Path]) -> _Naming:
    names, hosts = dict[str, str](), dict[str, str]()
    for file in files:
        if not _mentions(file, metrics.NAMING):
            continue
        for found in _pieces(file, Options()):
            for series in found:
                if (keys := metrics.NAMING.get(series.metric)) and (key := series.labels.get(keys[0])):
                    names[key] = series.labels.get(keys[1]) or key
                    if host := series.labels.get(keys[2]):
                        hosts[key] = host
    return _Naming(names, hosts)


def _mentions(file: Path, words: Iterable[str]) -> bool:
    before = ""
    with text(file, longest_line=None) as stream:
        while piece := stream.read(2**20):
            if any(word in before + piece for word in words):
                return True
            before = piece[-100:]
    return False


def _pieces(file: Path, options: Options) -> Iterator[list[Found]]:
    """All series of a file of JSON at once; of a table those of some rows."""
    with text(file, longest_line=None) as stream:
        start = stream.read(4096).lstrip()
    if start.startswith("<"):
        raise InputError(
            f"{file}: a web page (starts with {shown(start[:20])}), perhaps a login; query again with a token"
        )
    if start.startswith(("{", "[")):
        yield series_of(file)
    else:
        for table in frames(file, skip=lambda line: line.startswith(("sep=", '"sep='))):
            yield list(_long(file, table, options) if _has_values(table) else _wide(file, table, options))


def _time_name(file: Path, table: "pd.DataFrame", options: Options) -> str:
    called = options.columns.get("time")
    name = next((name for name in table.columns if name == called or (called is None and name.lower() in TIMES)), None)
    if name is None:
        raise InputError(
            f"{file}: line {table.index[0] - 1}: none of the columns ({shown(', '.join(table.columns))}) is called "
            f"{called or 'Time or timestamp'}; say which it is, as in columns={{time: Zeit}}"
        )
    return str(name)


def _times(file: Path, cells: "pd.Series", name: str, options: Options) -> np.ndarray:
    first = str(cells.iloc[0]).strip()
    if re.fullmatch(r"\d+(\.\d+)?([eE]\+?\d+)?", first):
        return numbers(cells, file, name)
    return dates_s(cells, file, name, options.zone)


def _decimal(table: "pd.DataFrame", names: Iterable[str]) -> str:
    """A comma where one cannot separate thousands: other than three digits follow."""
    return "," if any(DECIMAL_COMMA.fullmatch(cell) for name in names for cell in table[name].iloc[:200]) else "."


def _wide(file: Path, table: "pd.DataFrame", options: Options) -> Iterator[Found]:
    time = _time_name(file, table, options)
    times = _times(file, table[time], time, options)
    rest = [name for name in table.columns if name != time]
    if len(rest) > MOST_SERIES:
        raise InputError(
            f"{file}: {len(rest):,} series in one table; at most {MOST_SERIES:,} are read, so query JSON instead"
        )
    decimal = _decimal(table, rest)
    for name in rest:
        metric, labels = _parsed(str(name))
        yield Found(metric, labels, times, numbers(table[name], file, str(name), decimal))


def _parsed(header: str) -> tuple[str, dict[str, str]]:
    """Metric and labels of ``name{a="b"}``; of a legend of one's own all of it is the VM."""
    start = header.find("{")
    if start < 0:
        return ("", {"vm": header}) if header not in metrics.METRICS else (header, {})
    labels = {key: re.sub(r"\\(.)", r"\1", value) for key, value in LABEL.findall(header[start:])}
    return labels.pop("__name__", header[:start].strip()), labels


def _has_values(table: "pd.DataFrame") -> bool:
    return "value" in {str(name).lower() for name in table.columns}


def _long(file: Path, table: "pd.DataFrame", options: Options) -> Iterator[Found]:
    time = _time_name(file, table, options)
    value = next(str(name) for name in table.columns if str(name).lower() == "value")
    times = _times(file, table[time], time, options)
    values = numbers(table[value], file, value, _decimal(table, [value]))
    keys = [str(name) for name in table.columns if name not in (time, value)]
    groups = table.groupby(keys, sort=False).indices if keys else {(): np.arange(len(table))}
    for key, rows in groups.items():
        said = dict(zip(keys, key if isinstance(key, tuple) else (key,), strict=True))
        name = next((said.pop(name) for name in NAMES[: 3 if "domain" in said else 2] if name in said), "")
        metric, labels = _parsed(name) if "{" in name else (name, {})
        yield Found(metric, {**{k: v for k, v in said.items() if v}, **labels}, times[rows], values[rows])


SOURCE = Source(
    name="prometheus",
    title="Prometheus: range queries as JSON, Grafana's CSV",
    command=(
        "promtool query range -o json --start=2026-01-05T00:00:00Z --end=2026-01-12T00:00:00Z --step=60s http://PROMETHEUS:9090 "
        "'{__name__=~\"libvirt_domain_(memory_stats|info_(maximum|memory|virtual|cpu)).*\"}' > week.json"
    ),
    columns=tuple(metrics.METRICS.values()),
    patterns=("*.json", "*.jsonl", "*.csv"),
    read=read,
    notes=(
        "Prometheus answers with at most 11,000 points a series: 7.6 days at 60 s. Ask for a week at a time, and give all files.",
        "The numbers of a file are held in memory (16 bytes a sample): ask for one metric, or one week, a file.",
        "A range query takes the sample at each step. To keep peaks ask for avg_over_time(METRIC[5m]) and "
        "max_over_time(METRIC[5m]) in two files, mem_avg.json and mem_max.json, with columns={guest_used: 'mem_*.json'}.",
        "Results of expressions have no metric name: say what a file holds, as in columns={guest_used: mem.json}.",
        "libvirt_domain_info_memory_usage_bytes is what the VM is granted, not what it uses.",
        "Guest numbers need the balloon's statistics period (virsh dommemstat VM --period 10), else they are frozen or missing; "
        "Tinkoff's exporter writes 0 for what is missing. Windows needs the driver and its service.",
        "pve_memory_usage_bytes counts the guest's page cache where the balloon reports, and is the host's number else.",
        "Of node_exporter the instance is the VM's name, without its port; it knows no configured memory, MemTotal is a little "
        "less: give caps=, or files of the hypervisor's exporter with the same names.",
        "Grafana: Inspect, Data, 'Series joined by time', with 'Formatted data' off.",
    ),
)
