"""Long tables: a row for each VM, time and metric, as PowerShell exports what its cmdlets return.

PowerShell writes numbers and dates in the language of its user, quotes every cell, may put a ``#TYPE`` line first and may write
UTF-16. Rows of one piece are put beside each other, a row for each VM and time; what stands in another piece of the file comes
in another row, with the other quantities unknown.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.imports.local_dates import formats_of
from hvgym.envs.imports.reading import dates_s, frames, numbers
from hvgym.envs.imports.source import Batch, Column

if TYPE_CHECKING:
    import pandas as pd

IN_UTC = "write times in UTC, as in @{n='Timestamp';e={$_.Timestamp.ToUniversalTime().ToString('o')}}"
THOUSANDS = re.compile(r"\s*-?\d{1,3},\d{3}\s*")


@dataclass(frozen=True)
class Long:
    """Where such a table says what. `columns`: of a metric's name; `vm_of`: the VM of a cell (None: none) for a column; `added`:
    quantities of which a VM has several at a time, to be added up; `agg` of all rows; `unknown`: what to say where no metric is
    known, given those that are there; `static`: what else is known of a VM, by name of the column and VM."""

    vm: str
    metric: str
    time: str
    value: str
    columns: Callable[[str], tuple[Column, ...]]
    vm_of: Callable[[str, Column], str | None]
    unknown: Callable[[Path, Sequence[str]], InputError]
    agg: str
    added: frozenset[str] = frozenset()
    whole: str | None = None  # column that is empty in rows of the whole VM, and names a part of it in others
    seconds: str | None = None  # column with the interval
    static: "dict[str, dict[str, object]] | None" = None
    host_of: Callable[[str], str] | None = None  # of a metric's name


def is_type_line(line: str) -> bool:
    """Windows PowerShell's first line of a CSV."""
    return line.startswith("#TYPE")


def long_batches(file: Path, shape: Long, zone: str | None) -> Iterator[Batch]:
    """The rows of a file. Raises `InputError` with line and column of what cannot be read."""
    known, formats, decimal, metrics = False, None, ".", set[str]()
    for piece in _whole_times(frames(file, skip=is_type_line), shape, file):
        if formats is None:
            formats = formats_of(piece[shape.time].unique(), file, shape.time, IN_UTC)
        decimal = "," if decimal == "," else _decimal(piece[shape.value], file, shape.value)
        metrics.update(piece[shape.metric].unique())
        rows = _rows(piece, shape, file, zone, formats, decimal)
        if rows is not None:
            known = True
            yield rows
    if not known:
        raise shape.unknown(file, sorted(metrics))


def _whole_times(pieces: "Iterator[pd.DataFrame]", shape: Long, file: Path) -> "Iterator[pd.DataFrame]":
    """Pieces that end where a time ends, so that what is to be added up is together."""
    import pandas as pd

    kept = None
    for piece in pieces:
        _need(piece, shape, file)
        whole = piece if kept is None else pd.concat([kept, piece])
        last = (whole[shape.time] != whole[shape.time].iloc[-1]).to_numpy()
        cut = len(whole) - int(np.argmax(last[::-1])) if last.any() else 0
        kept = whole.iloc[cut:]
        if cut:
            yield whole.iloc[:cut]
    if kept is not None:
        yield kept


def _need(piece: "pd.DataFrame", shape: Long, file: Path) -> None:
    for name in (shape.vm, shape.metric, shape.time, shape.value):
        if name not in piece.columns:
            raise InputError(
                f"{file}: no column '{name}'{nearest(name, piece.columns)}; the columns are "
                f"{shown(', '.join(piece.columns), 120)}, needed are {shape.vm}, {shape.metric}, {shape.time}, {shape.value}"
            )


def _decimal(cells: "pd.Series", file: Path, column: str) -> str:
    """Cells are quoted, so that a comma in them separates no cells whatever separates them."""
    commas = cells[cells.str.contains(",", regex=False)]
    if len(commas) and commas.str.fullmatch(THOUSANDS).all():
        raise InputError(
            f"{file}: line {commas.index[0]}: column '{column}': {shown(commas.iloc[0], 40)} may be decimal or have a separator "
            "of thousands; export plain numbers, as in @{n='Value';e={$_.Value.ToString([cultureinfo]::InvariantCulture)}}"
        )
    return "," if len(commas) else "."


def _rows(
    piece: "pd.DataFrame", shape: Long, file: Path, zone: str | None, formats: Sequence[str], decimal: str
) -> Batch | None:
    import pandas as pd

    if shape.whole is not None and shape.whole in piece.columns:
        piece = piece[piece[shape.whole].str.strip() == ""]
    said = {metric: shape.columns(metric) for metric in piece[shape.metric].unique()}
    piece = piece[piece[shape.metric].map(lambda metric: bool(said[metric])).to_numpy(bool)]
    if piece.empty:
        return None
    time_s = pd.Series(dates_s(piece[shape.time], file, shape.time, zone, formats), index=piece.index)
    values = pd.Series(numbers(piece[shape.value], file, shape.value, decimal), index=piece.index)
    columns = list(dict.fromkeys(column for metric in said for column in said[metric]))
    parts = list[pd.DataFrame]()
    for column in columns:
        of = piece[shape.metric].map(lambda metric, column=column: column in said[metric]).to_numpy(bool)
        vm = piece[shape.vm][of].map(lambda cell, column=column: shape.vm_of(cell.strip(), column))
        host = piece[shape.metric][of].map(shape.host_of) if shape.host_of else ""
        part = pd.DataFrame({"vm": vm, "host": host, "time": time_s[of], "value": values[of]}).dropna(subset=["vm"])
        parts.append(_one_each(part, column, shape, file).assign(quantity=column.quantity))
    frame = _beside(pd.concat(parts), shape, piece)
    return Batch(file, frame, tuple(columns) + _static_columns(shape))


def _one_each(part: "pd.DataFrame", column: Column, shape: Long, file: Path) -> "pd.DataFrame":
    """One value for each VM and time: the only one, or their sum."""
    grouped = part.assign(line=part.index).groupby(["vm", "host", "time"], sort=False)
    found = grouped.agg(value=("value", "first"), line=("line", "first"))
    if column.quantity in shape.added:
        found["value"] = grouped["value"].sum(min_count=1)
    else:
        unlike = (grouped["value"].max() - grouped["value"].min()).fillna(0.0) > 0
        if unlike.any():
            first = found[unlike].reset_index().iloc[0]
            raise InputError(
                f"{file}: line {int(first['line'])}: VM {shown(first['vm'])} has two values of {column.title} at one time; "
                "are they of several devices (add Instance to the columns), or two VMs of one name?"
            )
    return found.reset_index()


def _beside(long: "pd.DataFrame", shape: Long, piece: "pd.DataFrame") -> "pd.DataFrame":
    quantities = list(dict.fromkeys(long["quantity"]))
    keys = ["vm", "host", "time"]
    wide = long.pivot(index=keys, columns="quantity", values="value")[quantities]
    wide["line"] = long.groupby(keys)["line"].min()
    wide = wide.reset_index().sort_values("line", kind="stable", ignore_index=True)
    wide.columns.name = None
    frame = (wide if shape.host_of else wide.drop(columns="host")).assign(agg=shape.agg, end=True)
    if shape.seconds is not None and shape.seconds in piece.columns:
        frame["interval_s"] = piece[shape.seconds].loc[frame["line"]].astype(float).to_numpy()
    for name, by_vm in (shape.static or {}).items():
        frame[name] = frame["vm"].map(by_vm)
    return frame


def _static_columns(shape: Long) -> tuple[Column, ...]:
    units = {"cap": "MiB", "vcpus": None}
    return tuple(
        Column(name, f"{name} of the list of VMs", units[name]) for name in shape.static or {} if name in units
    )
