"""PDH-CSV 4.0: the wide tables that typeperf, Export-Counter and esxtop's batch mode write.

A row is a time, a column one counter of one instance, ``\\\\host\\Object(instance)\\Counter``: tens of thousands on a full
host. Only the columns that a source asks for are kept, in blocks of rows, so that memory is bounded.

The name of the first column may say the clock, as in ``(PDH-CSV 4.0) (Romance Standard Time)(-60)``: minutes to add for UTC.
PDH cuts it off at the first letter that the code page lacks (Japanese, Chinese, French Windows); then ``zone=`` has to say it.
They were those of the start; where the clocks change during a recording, ``zone=`` is right and the minutes are not. Lines of
words behind the table (typeperf's "The command completed successfully.") and a header repeated when a recorder is started
again are passed over. Form seen in the recordings that public parsers of perfmon and esxtop files are tested with.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.clocks import HOUR_S, is_an_hour, is_skipped
from hvgym.envs.imports.reading import Array, dates_s, numbers, text
from hvgym.envs.imports.source import Batch, Column

if TYPE_CHECKING:
    import pandas as pd

CLOCK = re.compile(r"\(PDH-CSV 4\.0\)(?:\s*\((?P<name>.*)\)\s*\((?P<minutes>-?\d+)\)|\s*\(.*)?\s*", re.DOTALL)
COUNTER = re.compile(r"(?:\\\\(?P<host>[^\\]+))?\\(?P<object>[^\\(]+)\((?P<instance>.*)\)\\(?P<name>[^\\]+)")
DATED = re.compile(r"\s*\d{1,4}[/.-]\d")

FORMATS = ("%m/%d/%Y %H:%M:%S.%f", "%m/%d/%Y %H:%M:%S")
"""Of PDH-CSV, whatever the language of Windows."""

MOST_COUNTERS = 2**18
MOST_CELLS = 1_000_000
MOST_ROWS = 50_000
CLOCKS_SET_BACK_S = 1800.0
"""Stamps that go back by more are a clock that was set back, not a row out of order."""


@dataclass(frozen=True)
class Counter:
    """A column: where it stands in a row and the parts of its name, object and counter in small letters."""

    position: int
    title: str
    host: str
    object: str
    instance: str
    name: str


@dataclass(frozen=True)
class Header:
    """The first line of a file. `utc_minutes`: to add to its stamps for UTC, None where it says nothing."""

    file: Path
    clock: str
    utc_minutes: int | None
    titles: tuple[str, ...]
    counters: tuple[Counter, ...]


Place = tuple[str, str]
"""A VM and its host: a recorder of several hosts has both of a VM that moves, and of two of one name."""


@dataclass
class Layout:
    """Which counters make up which quantity of which VM on which host. Several are added up; `fixed` holds what the header itself
    says."""

    columns: list[Column] = field(default_factory=list)
    parts: dict[tuple[Place, str], list[Counter]] = field(default_factory=dict)  # by VM, host and quantity
    places: dict[Place, None] = field(default_factory=dict)
    fixed: dict[str, dict[Place, float]] = field(default_factory=dict)  # by quantity, VM and host

    def add(self, vm: str, column: Column, counter: Counter) -> None:
        """One more counter of a VM."""
        if column not in self.columns:
            self.columns.append(column)
        place = vm, counter.host
        self.parts.setdefault((place, column.quantity), []).append(counter)
        self.places.setdefault(place)


def header_of(file: Path) -> Header:
    """The header of a file. Raises `InputError` where it is no PDH-CSV."""
    with text(file) as stream:
        row = next((row for row in _rows(file, stream)[0] if row), [""])
    clock = CLOCK.fullmatch(row[0])
    if clock is None:
        raise InputError(
            f"{file}: line 1: column 1 is {shown(row[0], 40)}, expected '(PDH-CSV 4.0)' as typeperf, Export-Counter "
            "-FileFormat csv and esxtop -b write it"
        )
    if len(row) > MOST_COUNTERS:
        raise InputError(
            f"{file}: line 1: {len(row):,} columns; at most {MOST_COUNTERS:,} are read, record fewer counters"
        )
    counters = [
        Counter(place, title, match["host"] or "", match["object"].lower(), match["instance"], match["name"].lower())
        for place, title in enumerate(row)
        if (match := COUNTER.fullmatch(title.strip()))
    ]
    minutes = None if clock["minutes"] is None else int(clock["minutes"])
    return Header(file, row[0], minutes, tuple(row), tuple(counters))


def batches(header: Header, layout: Layout, zone: str | None) -> Iterator[Batch]:
    """The rows of a file, each time once for each VM. Raises `InputError` with line and column of what cannot be read."""
    vms = list(layout.places)
    wanted = [counter for counters in layout.parts.values() for counter in counters]
    place = {counter.position: i for i, counter in enumerate(wanted)}
    most = max(1, min(MOST_CELLS // max(len(wanted), 1), MOST_ROWS // max(len(vms), 1)))
    before_s = -np.inf
    for lines, stamps, cells in _blocks(header, [counter.position for counter in wanted], most):
        time_s = _times_s(header, lines, stamps, zone, before_s)
        before_s = float(time_s[-1])
        values = _values(header, wanted, lines, cells)
        yield Batch(header.file, _melted(layout, vms, place, lines, time_s, values), _columns(layout))
    if before_s == -np.inf:
        raise InputError(f"{header.file}: a header without any row; record longer, or leave the file out")


def _columns(layout: Layout) -> tuple[Column, ...]:
    return (*layout.columns, *(Column(quantity, "counted in the header") for quantity in layout.fixed))


def _rows(file: Path, stream: Any) -> tuple[Iterator[list[str]], Callable[[], int]]:
    """Rows of cells, and the number of the line read last."""
    reader = csv.reader(_whole_lines(file, stream))

    def rows() -> Iterator[list[str]]:
        try:
            yield from reader
        except csv.Error as error:
            raise InputError(f"{file}: line {reader.line_num}: {error}; is a quote left open?") from error

    return rows(), lambda: reader.line_num


def _whole_lines(file: Path, stream: Any) -> Iterator[str]:
    """A recorder that is killed leaves half a line. All cells are quoted, so a last one without its quote may lack digits."""
    for number, line in enumerate(stream, 1):
        if not line.endswith("\n") and line.count('"') % 2:
            raise InputError(
                f"{file}: line {number}: ends within a cell ({shown(line[-20:], 24)}); is the file cut off there? remove that line"
            )
        yield line


def _blocks(header: Header, positions: Sequence[int], most: int) -> Iterator[tuple[list[int], list[str], list[tuple]]]:
    pick = itemgetter(0, 0, *positions)  # the stamp twice: never a single cell, which would come bare
    lines, picked = list[int](), list[tuple]()
    with text(header.file) as stream:
        rows, line = _rows(header.file, stream)
        next(row for row in rows if row)
        for row in rows:
            if not _is_row(header, row, line):
                continue
            lines.append(line())
            picked.append(pick(row))
            if len(lines) == most:
                yield lines, [cells[0] for cells in picked], [cells[2:] for cells in picked]
                lines, picked = [], []
    if lines:
        yield lines, [cells[0] for cells in picked], [cells[2:] for cells in picked]


def _is_row(header: Header, row: list[str], line: Callable[[], int]) -> bool:
    width = len(header.titles)
    if len(row) == width and DATED.match(row[0]):
        return True
    if not "".join(row).strip() or (len(row) < width and not DATED.match(row[0])):
        return False  # nothing, or words
    if tuple(row) == header.titles:
        return False
    if CLOCK.fullmatch(row[0]):
        raise InputError(f"{header.file}: line {line()}: a second header with other counters; split the file there")
    raise InputError(
        f"{header.file}: line {line()}: {len(row)} cells (the first is {shown(row[0], 40)}), expected {width} as in the "
        "header; is the file cut off there?"
    )


def _times_s(header: Header, lines: list[int], stamps: list[str], zone: str | None, before_s: float) -> Array:
    import pandas as pd

    minutes = header.utc_minutes
    fixed = minutes == 0 or (minutes is not None and zone is None)  # esxtop's clock is UTC, whatever zone is said
    cells = pd.Series(stamps, index=lines, dtype=object)
    if fixed or zone is None:
        time_s = dates_s(cells, header.file, header.clock, "UTC" if fixed else zone, FORMATS)
    else:
        time_s = _in_order(header, cells, zone, before_s)
    if fixed and minutes:
        time_s = time_s + 60.0 * minutes
    back = np.diff(time_s, prepend=before_s) < -CLOCKS_SET_BACK_S
    if back.any():
        at = int(np.argmax(back))
        raise InputError(
            f"{header.file}: line {lines[at]}: column '{header.clock}': {stamps[at]} is before the row above; were the clocks "
            "set back? say zone=Europe/Berlin or the like, or give one file for each recording"
        )
    if fixed and minutes:
        _check_put_forward(header, lines, stamps, time_s, before_s)
    return time_s


def _in_order(header: Header, cells: "pd.Series", zone: str, before_s: float) -> Array:
    """Times in a zone. Of an hour that the clocks repeat rows are taken as the first or the second, by which they are nearer to a
    step behind the row above; rows without one by the row below. Raises `InputError` where these do not tell."""
    first, second = (dates_s(cells, header.file, header.clock, zone, FORMATS, fold) for fold in (0, 1))
    twice = first != second
    if not twice.any():
        return first
    steps = np.diff(first)
    step_s = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    times = first.copy()
    edges = np.flatnonzero(np.diff(np.r_[False, twice, False].astype(np.int8))).reshape(-1, 2)
    for start, end in edges.tolist():
        for i in range(start, end):
            above = times[i - 1] if i else before_s
            if np.isfinite(above) and abs(second[i] - above - step_s) < abs(first[i] - above - step_s):
                times[i] = second[i]
        alone = start == 0 and not np.isfinite(before_s) and bool((times[start:end] == first[start:end]).all())
        below = times[end] - times[end - 1] - step_s if end < len(times) else np.nan
        if alone and is_an_hour(np.array([below]), step_s)[0]:
            times[start:end] = second[start:end]
        elif alone or is_an_hour(np.array([below]), step_s)[0]:  # none of an hour that was there twice, or its half
            raise InputError(
                f"{header.file}: line {cells.index[start]}: column '{header.clock}': {shown(cells.iloc[start], 40)} was twice in "
                f"{zone}: clocks repeat that hour, and the rows around it do not tell which; leave the hour out, or record in UTC"
            )
    return times


def _check_put_forward(header: Header, lines: list[int], stamps: list[str], time_s: Array, before_s: float) -> None:
    """The minutes to UTC are those of the start: behind an hour that the clocks skip every row would be an hour late."""
    steps = np.diff(time_s, prepend=before_s if np.isfinite(before_s) else time_s[:1])
    step_s = float(np.median(steps))
    for at in np.flatnonzero(is_an_hour(steps - step_s, step_s)).tolist():
        if is_skipped(time_s[at] - 60.0 * (header.utc_minutes or 0) - step_s - 0.5 * HOUR_S):
            raise InputError(
                f"{header.file}: line {lines[at]}: column '{header.clock}': the hour before {stamps[at]} is missing, as when "
                "clocks are put forward, and the header says how far from UTC they were at the start alone; say "
                "zone=Europe/Berlin or the like"
            )


def _values(header: Header, wanted: Sequence[Counter], lines: list[int], cells: list[tuple]) -> Array:
    """[row, counter]; NaN where nothing was recorded."""
    import pandas as pd

    flat = pd.Series([cell for row in cells for cell in row], dtype=object)
    values = pd.to_numeric(flat, errors="coerce").to_numpy(np.float64, copy=True).reshape(len(cells), len(wanted))
    for i in np.flatnonzero(~np.isfinite(values).all(axis=0)).tolist():
        column = pd.Series([row[i] for row in cells], index=lines, dtype=object)
        values[:, i] = numbers(column, header.file, wanted[i].title)
    return values


def _melted(
    layout: Layout, vms: list[Place], place: Mapping[int, int], lines: list[int], time_s: Array, values: Array
) -> "pd.DataFrame":
    """A row for each time and VM that has any value then."""
    import pandas as pd

    rows = len(time_s)
    said = dict[str, Array]()
    for column in layout.columns:
        matrix = np.full((rows, len(vms)), np.nan)
        for i, vm in enumerate(vms):
            if counters := layout.parts.get((vm, column.quantity)):
                matrix[:, i] = values[:, [place[counter.position] for counter in counters]].sum(axis=1)
        said[column.quantity] = matrix.ravel()
    known = np.isfinite(np.array(list(said.values()))).any(axis=0)
    for quantity, numbered in layout.fixed.items():
        said[quantity] = np.tile([numbered.get(vm, np.nan) for vm in vms], rows)
    frame = pd.DataFrame(
        {
            "vm": np.tile(np.array([vm for vm, _ in vms], dtype=object), rows),
            "time": np.repeat(time_s, len(vms)),
            "host": np.tile(np.array([host for _, host in vms], dtype=object), rows),
            "agg": "last",
            "end": True,
            "line": np.repeat(np.array(lines, dtype=np.int64), len(vms)),
            **said,
        }
    )
    return frame[known]
