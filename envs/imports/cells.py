"""Cells of a table as numbers and times. What cannot be read in exactly one way is refused, with its line and column."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from hvgym.envs.errors import InputError, shown

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]

UNKNOWN = frozenset(("", "nan", "null", "none", "-", "n/a", "na"))
"""Of a cell in small letters: nothing is said."""

COMMA = re.compile(r"\s*-?\d+,\d+\s*")

THOUSANDS = re.compile(r"\s*-?[1-9]\d{0,2}(,\d{3})+\s*")
"""What 1,507 may be written for as well; 0,507 and 1507,123 have no separator of thousands."""

UTC_NAME = " UTC"
"""Behind a date, as BigQuery writes it."""

SAMPLED_CELLS = 10_000
"""That decide on the decimal sign."""


def numbers(cells: "pd.Series", file: Path, column: str, decimal: str = ".") -> Array:
    """Cells as float64, NaN where nothing is said. Raises `InputError` for the first cell that is no number; `cells` are str, their
    index is the line in the file."""
    import pandas as pd

    found = pd.to_numeric(cells if decimal == "." else _with_points(cells), errors="coerce").to_numpy(
        np.float64, copy=True
    )
    odd = np.flatnonzero(~np.isfinite(found))
    if len(odd):
        words = cells.iloc[odd].str.strip()
        wrong = ~words.str.lower().isin(UNKNOWN).to_numpy()
        if wrong.any():
            first = int(np.argmax(wrong))
            raise _no_number(file, column, int(cells.index[odd[first]]), str(words.iloc[first]), decimal)
        found[odd] = np.nan
    return found


def _with_points(cells: "pd.Series") -> "pd.Series":
    """What already has a point is no number then, for it may separate thousands."""
    return cells.str.replace(".", "?", regex=False).str.replace(",", ".", regex=False)


def _no_number(file: Path, column: str, line: int, cell: str, decimal: str) -> InputError:
    if "," in cell and "." in cell:
        right = "has both signs; write one decimal sign and no separators of thousands"
    elif re.fullmatch(r"-?\d{1,3}([.,' \u00a0\u202f]\d{3})+", cell):
        right = "may have a separator of thousands; write numbers without them"
    elif {",": ".", ".": ","}[decimal] in cell and re.fullmatch(r"-?[\d.,]+", cell):
        right = f"has another decimal sign than the rest of the column ({decimal!r}); use one in the whole file"
    else:
        right = "is no number; write one without unit or separators of thousands, or leave the cell empty"
    return InputError(f"{file}: line {line}: column '{column}': {shown(cell, 40)} {right}")


def decimal_of(cells: Iterable[str], separator: str) -> str:
    """The decimal sign: a comma where more than 5 % of cells look like one and it does not separate the cells."""
    if separator == ",":
        return "."
    sample = list(islice(cells, SAMPLED_CELLS))
    return "," if sum(COMMA.fullmatch(cell) is not None for cell in sample) > 0.05 * len(sample) else "."


def has_decimal_commas(cells: "pd.Series", file: Path, column: str) -> bool:
    """Whether commas of a column are decimal signs. Raises `InputError` where each of them may separate thousands."""
    if "," not in "".join(cells):  # much faster than a look into each cell
        return False
    commas = cells[cells.str.contains(",", regex=False)]
    if commas.str.fullmatch(THOUSANDS).all():
        raise InputError(
            f"{file}: line {int(commas.index[0])}: column '{column}': {shown(commas.iloc[0], 40)} may be decimal or have a "
            "separator of thousands, as three digits follow each comma of the column; write numbers without separators of "
            "thousands and with decimal points"
        )
    return len(commas) > int(cells.str.contains(".", regex=False).sum())


def dates_s(
    cells: "pd.Series", file: Path, column: str, zone: str | None, formats: Sequence[str] = (), fold: int | None = None
) -> Array:
    """Seconds since 1970 UTC of dates in ISO 8601, or else in one of `formats` (as of strptime). `zone`: of dates that name none.
    `fold`: of an hour that the clocks repeat the first (0) or the second. Raises `InputError` for what is no date, for a date
    without a zone, and for an hour that the clocks skip, or repeat where `fold` is None."""
    import pandas as pd

    codes, words = pd.factorize(cells)
    tz = zone_of(zone)
    found = np.empty(len(words))
    for i, word in enumerate(words):
        try:
            found[i] = _seconds(_date(str(word), formats), tz, fold)
        except ValueError as error:
            line = int(cells.index[int(np.argmax(codes == i))])
            raise InputError(f"{file}: line {line}: column '{column}': {shown(word, 40)} {error}") from error
    return found[codes]


def zone_of(zone: str | None) -> ZoneInfo | None:
    """A time zone by its name. Raises `InputError` where none is called so."""
    try:
        return None if zone is None else ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"zone={shown(zone)}: no time zone is called so; give one as in zone=Europe/Berlin") from error


def _date(word: str, formats: Sequence[str]) -> datetime:
    bare = word.strip()
    named = bare.endswith(UTC_NAME)
    bare = bare.removesuffix(UTC_NAME)
    for pattern in (None, *formats):
        try:
            date = datetime.fromisoformat(bare) if pattern is None else datetime.strptime(bare, pattern)
        except ValueError:
            continue
        if named and date.tzinfo is not None:
            raise ValueError("names two time zones; write it as 2013-08-01T00:02:56Z")
        return date.replace(tzinfo=UTC) if named else date
    also = f", or as {' or '.join(formats)}" if formats else ""
    raise ValueError(f"is no date; write it as 2013-08-01T00:02:56Z{also}")


def _seconds(date: datetime, zone: ZoneInfo | None, fold: int | None) -> float:
    if date.tzinfo is not None:
        return date.timestamp()
    if zone is None:
        raise ValueError("names no time zone; say which it is, as in zone=Europe/Berlin or zone=UTC")
    first, second = date.replace(tzinfo=zone), date.replace(tzinfo=zone, fold=1)
    if first.utcoffset() != second.utcoffset():
        if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != date:
            raise ValueError(f"never was in {zone.key}: clocks skip that hour; is this another zone? zone=UTC, say")
        if fold is not None:
            return (first, second)[fold].timestamp()
        raise ValueError(f"was twice in {zone.key}: clocks repeat that hour; export the file in UTC or with offsets")
    return first.timestamp()
