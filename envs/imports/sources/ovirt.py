"""VM history out of oVirt's (RHV's) data warehouse: its statistics views as CSV, with the configuration of VMs as a further file.

Columns are those of ovirt-dwh (packaging/dbscripts/create_views_4_5.sql), states of its enum_translator
(insert_enum_values.sql), times those of the "Data Warehouse Guide", "Statistics History Views": rounded down to the minute, hour or
day, with a row per state that the VM was in during it and the seconds of each.

Memory is a whole percentage of the configured memory, free being unused and disk caches (vdsm lib/vdsm/virt/vmstats.py), so
it is what the guest uses; 0 says that no agent answered, and is unknown. Of a time in which the VM was in several states the
longest is taken. Maxima of hourly and daily views are rows of their own. Left out: disks and networks (views of their own),
and names of hosts (their ids stand in for them).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.imports.reading import Array, dates_s, files_of, frames, numbers
from hvgym.envs.imports.source import Batch, Column, Options, Source

if TYPE_CHECKING:
    import pandas as pd

PERCENT: Mapping[str, Column] = {
    "memory_usage_percent": Column("guest_used", "memory_usage_percent", "percent", "gauge", "unknown"),
    "cpu_usage_percent": Column("cpu_used", "cpu_usage_percent", "percent", "gauge"),
}

MAXIMA: Mapping[str, str] = {"memory_usage_percent": "max_memory_usage", "cpu_usage_percent": "max_cpu_usage"}

CACHE = Column("guest_cache", "memory_buffered_kb + memory_cached_kb", "KiB", "gauge", "unknown")
CAP = Column("cap", "memory_size_mb", "MiB", "gauge", "unknown")
VCPUS = Column("vcpus", "cpu_per_socket x number_of_sockets", None, "gauge", "unknown")

STATES = {0.0: "off", 1.0: "on", 2.0: "on"}
"""2 is paused: its memory stays. -1 and 3 are unknown and problematic."""

AGAIN = "export v4_5_statistics_vms_resources_usage_samples (or _hourly) as docs/import.md shows for ovirt"


@dataclass(frozen=True)
class _Machine:
    """A version of a VM's configuration."""

    name: str
    cap_mib: float
    vcpus: float


@dataclass(frozen=True)
class _Configuration:
    versions: Mapping[str, _Machine]  # by history_id
    latest: Mapping[str, _Machine]  # by vm_id


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of all files of statistics. Raises `InputError` as in `Source`."""
    known = [column.quantity for column in PERCENT.values()]
    if unknown := [name for name in options.columns if name not in known]:
        raise InputError(
            f"columns: {', '.join(unknown)}: the warehouse's names are fixed but for {' and '.join(known)}"
        )
    files = files_of(paths, SOURCE.patterns)
    configured = [file for file in files if _is_configuration(file)]
    configuration = _configuration(configured)
    statistics = [file for file in files if file not in configured]
    if not statistics:
        raise InputError(f"{files[0]}: configuration of VMs, without statistics; {AGAIN}")
    for file in statistics:
        table = None
        for table in _settled(frames(file)):
            yield from _batches(file, table, configuration, options)
        if table is None:
            raise InputError(f"{file}: a header without rows; {AGAIN}")


def _is_configuration(file: Path) -> bool:
    names = _names(file)
    return "memory_size_mb" in names and "history_datetime" not in names


def _names(file: Path) -> set[str]:
    table = next(frames(file, rows=1), None)
    return set() if table is None else {str(name) for name in table.columns}


def _configuration(files: Iterable[Path]) -> _Configuration:
    versions, latest = dict[str, _Machine](), dict[str, _Machine]()
    for file in files:
        for table in frames(file):
            _need(file, table, ("vm_id", "vm_name", "memory_size_mb"))
            caps = numbers(table["memory_size_mb"], file, "memory_size_mb")
            order = numbers(table["history_id"], file, "history_id") if "history_id" in table else np.arange(len(table))
            cpus = _product(file, table, ("cpu_per_socket", "number_of_sockets"))
            for i in np.argsort(order, kind="stable"):
                machine = _Machine(table["vm_name"].iloc[i] or table["vm_id"].iloc[i], float(caps[i]), float(cpus[i]))
                latest[table["vm_id"].iloc[i]] = machine
                if "history_id" in table:
                    versions[table["history_id"].iloc[i]] = machine
    return _Configuration(versions, latest)


def _product(file: Path, table: "pd.DataFrame", names: Sequence[str]) -> Array:
    if not set(names) <= set(table.columns):
        return np.full(len(table), np.nan)
    return np.prod([numbers(table[name], file, name) for name in names], axis=0)


def _need(file: Path, table: "pd.DataFrame", names: Sequence[str]) -> None:
    for name in names:
        if name not in table.columns:
            there = shown(", ".join(str(name) for name in table.columns), 120)
            raise InputError(
                f"{file}: line {table.index[0] - 1}: no column is called '{name}'{nearest(name, table.columns)} ({there}); {AGAIN}"
            )


def _settled(tables: "Iterable[pd.DataFrame]") -> "Iterator[pd.DataFrame]":
    """Tables that do not end within a time: rows of one time can be compared."""
    import pandas as pd

    waiting: pd.DataFrame | None = None
    for table in tables:
        if waiting is None or "history_datetime" not in waiting:
            waiting = table
            continue
        last = (waiting["history_datetime"] == waiting["history_datetime"].iloc[-1]).to_numpy()
        start = 0 if last.all() else len(last) - int(np.argmin(last[::-1]))
        if start:
            yield waiting.iloc[:start]
        waiting = pd.concat([waiting.iloc[start:], table])
    if waiting is not None:
        yield waiting


def _batches(file: Path, table: "pd.DataFrame", configuration: _Configuration, options: Options) -> Iterator[Batch]:
    named = {name: options.columns.get(column.quantity, name) for name, column in PERCENT.items()}
    _need(file, table, ("history_datetime", "vm_id", named["memory_usage_percent"]))
    table = _longest(file, table)
    base = _base(file, table, configuration, options)
    cap = tuple(column for column in (CAP, VCPUS) if column.quantity in base)
    values = {
        column: numbers(table[named[name]], file, named[name])
        for name, column in PERCENT.items()
        if named[name] in table
    }
    if {"memory_buffered_kb", "memory_cached_kb"} <= set(table.columns):
        buffered, cached = (numbers(table[name], file, name) for name in ("memory_buffered_kb", "memory_cached_kb"))
        values[CACHE] = buffered + cached
    yield _batch(file, base, values, cap, "mean")
    maxima = {PERCENT[name]: numbers(table[most], file, most) for name, most in MAXIMA.items() if most in table}
    if maxima:
        yield _batch(file, base, maxima, cap, "max")


def _batch(
    file: Path, base: "pd.DataFrame", values: Mapping[Column, Array], cap: tuple[Column, ...], agg: str
) -> Batch:
    frame = base.assign(agg=agg, **{column.quantity: found for column, found in values.items()})
    stopped = (frame["power"] == "off").to_numpy()
    for column in values:
        frame.loc[stopped, column.quantity] = np.nan
    return Batch(file, frame, (*values, *cap))


def _longest(file: Path, table: "pd.DataFrame") -> "pd.DataFrame":
    """Of each VM and time the state that lasted longest."""
    if "seconds_in_status" not in table or not table.duplicated(["vm_id", "history_datetime"]).any():
        return table
    seconds = numbers(table["seconds_in_status"], file, "seconds_in_status")
    best = (
        table.assign(seconds_=seconds).groupby(["vm_id", "history_datetime"], sort=False)["seconds_"].transform("max")
    )
    return table[seconds == best.to_numpy()].drop_duplicates(["vm_id", "history_datetime"])


def _base(file: Path, table: "pd.DataFrame", configuration: _Configuration, options: Options) -> "pd.DataFrame":
    """What all rows of a table have, whatever is measured."""
    import pandas as pd

    machines = _machines(table, configuration)
    frame = pd.DataFrame({
        # a VM that was renamed is one VM all along: sizes are those of the version, the name is the last one
        "vm": [configuration.latest[vm].name if vm in configuration.latest else vm for vm in table["vm_id"]],
        "uuid": table["vm_id"].to_numpy(),
        "time": dates_s(table["history_datetime"], file, "history_datetime", options.zone),
        "end": False,
        "line": table.index.to_numpy(),
        "power": _power(file, table),
    })  # fmt: skip
    if "currently_running_on_host" in table:
        frame["host"] = table["currently_running_on_host"].where(table["currently_running_on_host"] != "").to_numpy()
    if configuration.latest:
        frame["cap"] = [machine.cap_mib if machine else np.nan for machine in machines]
        frame["vcpus"] = [machine.vcpus if machine else np.nan for machine in machines]
    return frame


def _machines(table: "pd.DataFrame", configuration: _Configuration) -> list[_Machine | None]:
    versions = table["vm_configuration_version"] if "vm_configuration_version" in table else [""] * len(table)
    return [
        configuration.versions.get(version) or configuration.latest.get(vm)
        for version, vm in zip(versions, table["vm_id"], strict=True)
    ]


def _power(file: Path, table: "pd.DataFrame") -> list[str]:
    if "vm_status" not in table:
        return ["unknown"] * len(table)
    return [STATES.get(state, "unknown") for state in numbers(table["vm_status"], file, "vm_status")]


SOURCE = Source(
    name="ovirt",
    title="oVirt and RHV: the data warehouse's views as CSV",
    command=(
        "psql ovirt_engine_history -c \"set timezone='UTC'\" "
        '-c "\\copy (select * from v4_5_statistics_vms_resources_usage_hourly order by history_datetime, vm_id) '
        "to 'vms.csv' csv header\" -c \"\\copy (select * from v4_5_configuration_history_vms) to 'config.csv' csv header\""
    ),
    columns=(*PERCENT.values(), CACHE, CAP, VCPUS),
    patterns=("*.csv",),
    read=read,
    notes=(
        "Give both files: statistics name VMs by id and memory in percent; names and sizes are in the configuration (else give "
        "caps=). A VM that was renamed has its last name all along.",
        "Percentages are whole numbers: a VM of 64 GiB is known to 0.6 GiB. 0 of memory means that no guest agent answered.",
        "Samples (a minute) are kept for a day, hours for 60 days, days for 5 years: fetch the samples daily, or live with hours.",
        "Hourly views keep the maximum beside the mean; both are imported.",
        "Times carry their offset; of daily views they are dates, so say zone=.",
    ),
)
