"""Flat tables: a row for each VM and time, a column for each quantity. What the public traces are."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.imports.reading import Array, frames, numbers
from hvgym.envs.imports.source import ALL, Column, Options
from hvgym.envs.traces.bitbrains import SIZE_TOLERANCE, STANDARD_GIB

if TYPE_CHECKING:
    import pandas as pd


def titled(columns: Sequence[Column], options: Options) -> tuple[Column, ...]:
    """Columns under the names that they have in the user's files."""
    return tuple(replace(column, title=options.columns.get(column.quantity, column.title)) for column in columns)


def there(columns: Sequence[Column], header: Sequence[str]) -> tuple[Column, ...]:
    """Those that a file has. Of two that say the same quantity, the first."""
    found = dict[str, Column]()
    for column in columns:
        if column.title in header:
            found.setdefault(column.quantity, column)
    return tuple(found.values())


def pieces(
    file: Path,
    needed: Sequence[str],
    separator: str | None = None,
    skip: Callable[[str], bool] | None = None,
    header: Sequence[str] | None = None,
) -> "Iterator[pd.DataFrame]":
    """A table in pieces. Raises `InputError` where a column that is needed is not there, and where there is no row."""
    empty = True
    for piece in frames(file, separator, skip=skip, header=header):
        for name in needed:
            if name not in piece.columns:
                raise InputError(
                    f"{file}: no column '{name}'{nearest(name, piece.columns)}; needed are {', '.join(needed)}, the columns are "
                    f"{shown(', '.join(piece.columns), 160)}"
                )
        empty = False
        yield piece
    if empty:
        raise InputError(f"{file}: a header without any row; export it again, or leave the file out")


def values(piece: "pd.DataFrame", columns: Sequence[Column], file: Path, decimal: str = ".") -> dict[str, Array]:
    """By quantity, the cells as numbers."""
    return {column.quantity: numbers(piece[column.title], file, column.title, decimal) for column in columns}


def vm_name(file: Path) -> str:
    """Of a file that holds one VM."""
    return file.name.removesuffix(".gz").removesuffix(".csv")


def next_standard_mib(largest_mib: float) -> float:
    """The standard size of a VM that holds so much: a guess at what it was given, where only what it had is known."""
    gib = largest_mib / 1024 / (1 + SIZE_TOLERANCE)
    return 1024.0 * next((size for size in STANDARD_GIB if size >= gib), 128 * math.ceil(gib / 128))


def said_mib(caps_mib: Mapping[str, float], vm: str, file: Path, why: str) -> float:
    """What the user says 100 % of a VM is (``all``: of every one). Raises `InputError` where nothing is said: `why` it must be."""
    said = caps_mib.get(vm, caps_mib.get(ALL))
    if said is None:
        raise InputError(
            f"{file}: VM {shown(vm)}: {why}; say what 100 % stands for in MiB, as in caps={{all: 16384}}, and take results as "
            "scaled, no sizes of anyone's"
        )
    return float(said)
