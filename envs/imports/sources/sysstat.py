"""Memory of guests out of sysstat: what ``sadf -d`` prints of a guest's daily files.

The form is that of sysstat (man/sadf.in, man/sar.in; pr_stats.c, rndr_stats.c): cells separated by ``;``, a line
``# hostname;interval;timestamp;…`` before each section and again after a restart, which is a line of its own and says how many
CPUs there are. Sections with a line per device (CPU, IFACE) are added up, or their total is taken. Rows are stamped by the end of
their interval: ``-U`` seconds since 1970, else UTC or local text.

``kbmemused`` has meant three things: total less free (page cache counted), total less free, buffers, cache and slab (since
11.7, needs ``-r ALL`` for kbslab), and total less kbavail. Which one it is is told by the total that fits ``%memused``;
what the guest uses is then total less kbavail, where kbavail is there. Pages of pswpin/s are 4096 bytes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.reading import Array, dates_s, decimal_of, files_of, numbers, text
from hvgym.envs.imports.source import Batch, Column, Options, Source

if TYPE_CHECKING:
    import pandas as pd

PLAIN: Mapping[str, Column] = {
    "kbmemfree": Column("guest_unused", "kbmemfree", "KiB", "gauge", "unknown"),
    "kbavail": Column("guest_usable", "kbavail", "KiB", "gauge", "unknown"),
    "kbcached": Column("guest_cache", "kbcached", "KiB", "gauge", "unknown"),
    "pswpin/s": Column("guest_swap_in", "pswpin/s", "pages/s", "gauge"),
    "pswpout/s": Column("guest_swap_out", "pswpout/s", "pages/s", "gauge"),
    "majflt/s": Column("guest_major_faults", "majflt/s", "count/s", "gauge"),
    "%smem": Column("psi_mem_some", "%smem", "percent", "gauge"),
    "rxkB/s": Column("net_rx", "rxkB/s", "KiB/s", "gauge"),
    "txkB/s": Column("net_tx", "txkB/s", "KiB/s", "gauge"),
    "%steal": Column("cpu_wait", "%steal", "percent", "gauge"),
}
"""Columns that are taken as they stand."""

MADE: Mapping[str, Column] = {
    "total": Column("guest_total", "total that fits %memused", "KiB", "gauge", "unknown"),
    "used": Column("guest_used", "kbmemused", "KiB", "gauge", "unknown"),
    "cpu": Column("cpu_used", "%user + %nice + %system", "percent", "gauge"),
    "cpus": Column("vcpus", "LINUX-RESTART (N CPU)", None, "gauge", "unknown"),
}

START = ("hostname", "interval", "timestamp")

SECTION_ROWS = 50_000

ROUNDING_PERCENT = 0.0101
"""%memused has two decimals."""

FITTING = 0.99
"""Share of rows in which a total has to fit."""

AGAIN = "give what sadf -d -U FILE -- -r ALL -S -B -W prints"


@dataclass
class _Section:
    """Lines below one header, cut into cells."""

    line: int
    names: tuple[str, ...]
    cpus: dict[str, float]
    rows: list[list[str]]
    lines: list[int]


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of all files, section by section. Raises `InputError` as in `Source`."""
    if options.columns:
        raise InputError(f"columns: {', '.join(options.columns)}: sadf has names of its own; leave columns out")
    met = False
    for file in (files := files_of(paths, SOURCE.patterns)):
        for section in _sections(file):
            if section.rows and (batch := _batch(file, section, options)) is not None:
                met = True
                yield batch
    if not met:
        raise InputError(f"{files[0]}: no section about memory is in it; {AGAIN}")


def _sections(file: Path) -> Iterator[_Section]:
    cpus = dict[str, float]()
    section: _Section | None = None
    with text(file) as stream:
        for number, raw in enumerate(stream, 1):
            line = raw.rstrip("\n")
            if not line.strip() or (line == raw and section is not None and section.rows):
                continue  # the last one is still being written, or was cut off: a number may lack digits
            if line.startswith("#"):
                names = tuple(line.lstrip("# ").split(";"))
                if section is not None and section.names != names:
                    yield section
                    section = None
                section = section or _Section(number, _checked(file, number, names), cpus.copy(), [], [])
                continue
            cells = line.split(";")
            if _restarted(cells, cpus):
                continue
            if section is None or len(cells) != len(section.names):
                raise InputError(f"{file}: line {number}: {_misplaced(line, cells, section)}")
            section.rows.append(cells)
            section.lines.append(number)
            if (
                len(section.rows) > SECTION_ROWS and cells[2] != section.rows[-2][2]
            ):  # interfaces of one time stay together
                section.rows.pop(), section.lines.pop()
                yield section
                section = _Section(section.line, section.names, cpus.copy(), [cells], [number])
    if section is not None:
        yield section


def _checked(file: Path, number: int, names: tuple[str, ...]) -> tuple[str, ...]:
    if names[:3] != START:
        raise InputError(f"{file}: line {number}: {shown(';'.join(names), 60)} is no header of sadf -d; {AGAIN}")
    return names


def _restarted(cells: Sequence[str], cpus: dict[str, float]) -> bool:
    """Whether a line tells of a restart (or is a comment of sadc's), and how many CPUs the guest has since then."""
    if len(cells) != 4 or cells[1] != "-1":
        return False
    what, _, many = cells[3].partition("\t")
    if what == "LINUX-RESTART" and (digits := many.strip("( )CPU")).isdigit():
        cpus[cells[0]] = float(digits)
    return True


def _misplaced(line: str, cells: Sequence[str], section: _Section | None) -> str:
    if section is None:
        return f"{shown(line, 60)} has no header before it; {AGAIN}"
    header = f"{len(section.names)} as in the header of line {section.line}"
    return f"{len(cells)} cells ({shown(line, 60)}), expected {header}; is the file cut off?"


def _batch(file: Path, section: _Section, options: Options) -> Batch | None:
    import pandas as pd

    table = pd.DataFrame(section.rows, columns=list(section.names), index=section.lines, dtype=object)
    table = _whole(table)
    decimal = decimal_of((cell for name in table.columns[3:] for cell in table[name].iloc[:200]), ";")

    @cache
    def cells(name: str) -> Array:
        return numbers(table[name], file, name, decimal)

    values = {PLAIN[name]: cells(name) for name in table.columns if name in PLAIN}
    values |= _memory(table.columns, cells) | _cpu(table.columns, cells)
    if not values:
        return None
    frame = pd.DataFrame({column.quantity: found for column, found in values.items()})
    frame["vm"], frame["time"] = table["hostname"].to_numpy(), _times(file, table["timestamp"], options.zone)
    frame["interval_s"], frame["line"] = cells("interval"), table.index.to_numpy()
    frame["agg"], frame["end"] = "last", True
    frame, columns = _added(frame, tuple(values)), tuple(values)
    if section.cpus:
        frame["vcpus"], columns = frame["vm"].map(section.cpus).astype(float), (*columns, MADE["cpus"])
    return Batch(file, frame, columns)


def _whole(table: "pd.DataFrame") -> "pd.DataFrame":
    """Of a section per CPU the line of all; of one per interface all but the loop."""
    if "CPU" in table:
        return table[table["CPU"].isin(("-1", "all"))]
    return table[table["IFACE"] != "lo"] if "IFACE" in table else table


def _added(frame: "pd.DataFrame", columns: Sequence[Column]) -> "pd.DataFrame":
    """One row a time: rates of interfaces added up."""
    if not frame.duplicated(["vm", "time"]).any():
        return frame
    how: dict[str, str] = dict.fromkeys((column.quantity for column in columns), "sum")
    how |= dict.fromkeys(("interval_s", "line", "agg", "end"), "first")
    return frame.groupby(["vm", "time"], sort=False, as_index=False).agg(how)


def _times(file: Path, cells: "pd.Series", zone: str | None) -> Array:
    if str(cells.iloc[0]).strip().isdigit():
        return numbers(cells, file, "timestamp")
    return dates_s(cells.str.replace(" UTC", "+00:00", regex=False), file, "timestamp", zone)


def _cpu(names: "pd.Index", cells: Callable[[str], Array]) -> dict[Column, Array]:
    parts = [
        name
        for name in ("%user", "%usr", "%nice", "%system", "%sys", "%irq", "%soft", "%guest", "%gnice")
        if name in names
    ]
    return {MADE["cpu"]: np.sum([cells(name) for name in parts], axis=0)} if parts and "CPU" in names else {}


def _memory(names: "pd.Index", cells: Callable[[str], Array]) -> dict[Column, Array]:
    """The guest's total, and what is used where nothing else says it."""
    if "kbmemused" not in names or "kbmemfree" not in names:
        return {}
    used = cells("kbmemused")
    meaning, total = _total(names, cells, used)
    found = {MADE["total"]: total}
    if meaning != "cache counted" and not ("kbavail" in names and (cells("kbavail") > 0).any()):
        found[MADE["used"]] = used
    return found


def _total(names: "pd.Index", cells: Callable[[str], Array], used: Array) -> tuple[str, Array]:
    """Which kbmemused this is, and the total that goes with it."""
    free = cells("kbmemfree")
    ways = {"cache counted": free + used}
    if {"kbbuffers", "kbcached", "kbslab"} <= set(names):
        ways["cache not counted"] = free + used + cells("kbbuffers") + cells("kbcached") + cells("kbslab")
    if "kbavail" in names:
        ways["not available"] = used + cells("kbavail")
    if "%memused" not in names:
        return ("cache counted", ways["cache counted"]) if "kbavail" not in names else ("", np.full(len(used), np.nan))
    percent = cells("%memused")
    for meaning, total in ways.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            fits = np.abs(100.0 * used / total - percent) <= ROUNDING_PERCENT
        if fits.mean() >= FITTING:
            return meaning, total
    with np.errstate(divide="ignore", invalid="ignore"):
        return "by its share", np.where(percent > 0, np.round(100.0 * used / percent), np.nan)


SOURCE = Source(
    name="sysstat",
    title="sysstat in guests: sadf -d, a file a guest or all in one",
    command="for f in /var/log/sysstat/sa??; do sadf -d -U $f -- -u -r ALL -S -B -W -n DEV; done > $(hostname).csv",
    columns=(*PLAIN.values(), *MADE.values()),
    patterns=("*.csv", "*.sadf", "*.txt"),
    read=read,
    notes=(
        "Times are seconds since 1970 with -U; without it text is UTC (or local with -T and -t: then give zone=).",
        "kbmemused counts the page cache in old releases and not in new ones; kbavail (since 11.5) and -r ALL settle it, so "
        "ask for both.",
        "A guest knows no configured memory: its total is a little less than the VM's. Give caps={NAME: MIB}.",
        "The step is that of the collector, 10 minutes unless set otherwise, and memory is what it is at the end of it: peaks "
        "between are not seen. Files are in /var/log/sa on Red Hat's systems.",
        "The VM's name is the guest's hostname; two guests of one name are taken for one VM.",
    ),
)
