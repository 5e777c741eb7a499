"""What every source reads with: files, tables of text in pieces, JSON. All of it in bounded memory.

Cells stay text (`frames`) until `numbers` or `dates_s` reads them, so that a fault can be shown as it stands in the file.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.cells import Array, dates_s, decimal_of, numbers
from hvgym.envs.imports.opening import files_of, text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Array", "dates_s", "decimal_of", "documents", "files_of", "frames", "json_of", "numbers", "text"]

SEPARATORS = (";", "\t", ",")

MOST_COLUMNS = 2**18
"""A host's esxtop has some tens of thousands."""

MOST_CELLS = 2**21
"""Of one piece of a table: some 200 MB of text objects."""

MOST_JSON = 2**31
"""Characters of all JSON of a file."""

JSON_PIECE = 2**20

BLANKS = re.compile(r"\s*")


def frames(
    file: Path,
    separator: str | None = None,
    rows: int = 50_000,
    skip: Callable[[str], bool] | None = None,
    header: Sequence[str] | None = None,
) -> "Iterator[pd.DataFrame]":
    """A table in pieces of so many rows, or fewer where it is wide. Cells are str as they stand; the index is the line in the file.

    `separator`: told from the header where None. `skip`: lines that are no part of the table. `header`: names, where the first
    line is a row. Empty lines are left out, and so is a separator at the end of lines. Raises `InputError` for rows of another
    width than the header, and for names that are there twice.
    """
    with text(file) as stream:
        lines = _Lines(stream, skip)
        first = next(lines, None) if header is None else ""
        if first is None:
            raise InputError(f"{file}: no line of it is a header; the file is empty, or another kind")
        names, separator = (
            _header(file, lines.number, first, separator) if header is None else (list(header), separator)
        )
        yield from _pieces(file, csv.reader(lines, delimiter=separator or ","), lines, names, rows)


class _Lines:
    """Lines with their number, but for those that are left out."""

    def __init__(self, stream: TextIO, skip: Callable[[str], bool] | None) -> None:
        self._stream, self._skip, self.number = stream, skip, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for line in self._stream:
            self.number += 1
            if line.strip() and not (self._skip and self._skip(line)):
                return line
        raise StopIteration


def _header(file: Path, number: int, line: str, separator: str | None) -> tuple[list[str], str]:
    bare = re.sub(r'"[^"]*"', "", line)
    sign = separator or max(SEPARATORS, key=bare.count)  # the first of equals
    try:
        names = [name.strip() for name in next(csv.reader([line], delimiter=sign))]
    except csv.Error as error:
        raise InputError(f"{file}: line {number}: {error}; is this a header?") from error
    while names and not names[-1]:
        names.pop()
    if len(names) > MOST_COLUMNS:
        raise InputError(f"{file}: line {number}: {len(names):,} columns; at most {MOST_COLUMNS:,} are read")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"{file}: line {number}: two columns are called {shown(twice)}; give each a name of its own")
    return names, sign


def _pieces(file: Path, reader: Any, lines: _Lines, names: list[str], rows: int) -> "Iterator[pd.DataFrame]":
    width = len(names)
    rows = max(min(rows, MOST_CELLS // max(width, 1)), 1)
    cells, numbered = list[list[str]](), list[int]()
    try:
        for row in reader:
            while len(row) > width and not row[-1].strip():
                row.pop()
            if len(row) != width:
                raise InputError(f"{file}: line {lines.number}: {_ragged(row, width)}")
            cells.append(row)
            numbered.append(lines.number)
            if len(cells) == rows:
                yield _frame(cells, numbered, names)
                cells, numbered = [], []
    except csv.Error as error:
        raise InputError(f"{file}: line {lines.number}: {error}; is a quote left open?") from error
    if cells:
        yield _frame(cells, numbered, names)


def _ragged(row: Sequence[str], width: int) -> str:
    many = f"{len(row)} cell{'' if len(row) == 1 else 's'}"
    return (
        f"{many} ({shown(';'.join(row)[:60], 40)}), expected {width} as in the header; is the file cut off, or edited?"
    )


def _frame(cells: list[list[str]], numbered: list[int], names: list[str]) -> "pd.DataFrame":
    import pandas as pd

    columns = [pd.Series(list(column), index=numbered, dtype=object) for column in zip(*cells, strict=True)]
    return pd.concat(columns, axis=1, keys=names) if columns else pd.DataFrame(index=numbered)


def json_of(file: Path) -> Any:
    """What a file of JSON says. Several documents, one a line or one behind the other, are a list. Raises `InputError` with line
    and column of what is no JSON."""
    found = list(documents(file))
    return found[0] if len(found) == 1 else found


def documents(file: Path) -> Iterator[Any]:
    """The documents of a file one by one, in the memory that the largest of them takes."""
    with text(file, longest_line=None) as stream:
        pieces = _Pieces(file, stream)
        while pieces.at_document():
            yield pieces.document()


class _Pieces:
    """Text of which documents are cut off from the front; more is read when the front is no whole document."""

    def __init__(self, file: Path, stream: TextIO) -> None:
        self._file, self._stream, self._decoder = file, stream, json.JSONDecoder()
        self._buffer, self._at, self._line, self._read, self._ended = "", 0, 1, 0, False

    def at_document(self) -> bool:
        """Skip blanks; whether there is anything then."""
        while True:
            end = BLANKS.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            self._line += self._buffer.count("\n", self._at, end)
            self._at = end
            if end < len(self._buffer) or self._ended:
                return end < len(self._buffer)
            self._more()

    def document(self) -> Any:
        while True:
            try:
                found, end = self._decoder.raw_decode(self._buffer, self._at)
            except (json.JSONDecodeError, RecursionError) as error:
                far = isinstance(error, RecursionError) or error.pos < len(self._buffer) - JSON_PIECE
                if self._ended or far:
                    raise self._no_json(error) from error
            else:
                if self._ended or end < len(self._buffer):
                    self._line += self._buffer.count("\n", self._at, end)
                    self._at = end
                    return found
            self._more()

    def _more(self) -> None:
        rest = self._buffer[self._at :]
        more = self._stream.read(max(JSON_PIECE, len(rest)))  # doubling: a large document is tried a few times
        self._read, self._ended = self._read + len(more), not more
        if self._read > MOST_JSON:
            raise InputError(
                f"{self._file}: more than {MOST_JSON >> 30} GiB of JSON; export fewer VMs or days to a file"
            )
        self._buffer, self._at = rest + more, 0

    def _no_json(self, error: json.JSONDecodeError | RecursionError) -> InputError:
        if isinstance(error, RecursionError):
            return InputError(f"{self._file}: line {self._line}: nested too deep to be a table of measurements")
        line = self._line + self._buffer.count("\n", self._at, error.pos)
        return InputError(
            f"{self._file}: line {line}, column {error.colno}: no JSON ({error.msg}); is the file cut off, or another "
            f"kind? export it again"
        )
