"""Dates as a program writes them in the language of its user: which of the usual forms a file has.

Day and month in ``3/4/2017`` are told apart by a number above 12 anywhere in the sample, or else by which reading keeps the
file's dates closer together. Where both readings do, nothing is guessed.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from pathlib import Path

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.cells import UTC_NAME

SHAPE = re.compile(
    r"(?P<a>\d{1,4})(?P<sign>[/.-])(?P<b>\d{1,2})(?P=sign)(?P<c>\d{2,4})[ T,]+\d{1,2}(?P<colon>[:.])\d{2}"
    r"(?P<seconds>(?P=colon)\d{2})?(?P<part>[.,]\d{1,7})?(?P<half>\s*[AaPp]\.?[Mm]\.?)?"
)
"""A date that is not ISO 8601, and a time of day."""

YEAR_FIRST = re.compile(
    r"\d{4}(?P<sign>[/.-] ?)\d{1,2}(?P=sign)\d{1,2}(?P<dot>\.?) +\d{1,2}(?P<colon>[:.])\d{2}"
    r"(?P<seconds>(?P=colon)\d{2})?(?P<part>[.,]\d{1,7})?(?P<half>\s*[AaPp]\.?[Mm]\.?)?"
)
"""As in Japan, China (2026/01/08 0:00:00) and Hungary (2026. 01. 08. 0:00:00): the month follows, whoever writes it."""


def formats_of(words: Iterable[str], file: Path, column: str, how: str) -> tuple[str, ...]:
    """The strptime formats in which dates are written; none where they are ISO 8601. `how`: to write them so that nobody has to
    guess, for the message. Raises `InputError` where day and month cannot be told apart."""
    words = [word.strip().removesuffix(UTC_NAME) for word in words]
    for word in words:
        if (shape := YEAR_FIRST.fullmatch(word)) and not _is_iso(word):
            day = shape["sign"].join(("%Y", "%m", "%d")) + shape["dot"]
            return tuple(f"{day} {clock}" for clock in _clocks(shape["colon"], bool(shape["half"])))
    shapes = [
        (word, shape)
        for word in words
        if (shape := SHAPE.fullmatch(word)) and len(shape["a"]) < 3 and int(shape["a"]) and int(shape["b"])
    ]  # a day or month 0 is no date, and whoever reads the cells names its line
    if not shapes:
        return ()
    first = shapes[0][1]
    order = _order([(int(shape["a"]), int(shape["b"]), int(shape["c"])) for _, shape in shapes], first["sign"])
    if order is None:
        raise InputError(
            f"{file}: column '{column}': {shown(shapes[0][0], 40)} may be month/day or day/month, and no "
            f"other date of the file tells which; {how}"
        )
    year = "%Y" if len(first["c"]) == 4 else "%y"
    day = first["sign"].join((*order, year))
    return tuple(f"{day} {clock}" for clock in _clocks(first["colon"], bool(first["half"])))


def _is_iso(word: str) -> bool:
    try:
        datetime.fromisoformat(word)
    except ValueError:
        return False
    return True


def _clocks(colon: str, halves: bool) -> tuple[str, ...]:
    if halves:
        return f"%I{colon}%M{colon}%S %p", f"%I{colon}%M %p"
    return f"%H{colon}%M{colon}%S", f"%H{colon}%M", f"%H{colon}%M{colon}%S.%f"


def _order(dates: Sequence[tuple[int, int, int]], sign: str) -> tuple[str, str] | None:
    day_first, month_first = ("%d", "%m"), ("%m", "%d")
    if sign == ".":  # no locale of Windows has month.day.year
        return day_first
    if any(a > 12 for a, _, _ in dates):
        return day_first
    if any(b > 12 for _, b, _ in dates):
        return month_first
    as_day, as_month = _span_days([(b, a, y) for a, b, y in dates]), _span_days(dates)
    if as_day == as_month:
        return None
    return day_first if as_day < as_month else month_first


def _span_days(dates: Sequence[tuple[int, int, int]]) -> int:
    """Of (month, day, year)."""
    days = [date(year if year > 99 else 2000 + year, month, min(day, 28)).toordinal() for month, day, year in dates]
    return max(days) - min(days)
