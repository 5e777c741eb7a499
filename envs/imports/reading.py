"""What every source reads with: files, tables of text in pieces, JSON. All of it in bounded memory.

Cells stay text (`frames`) until `numbers` or `dates_s` reads them, so that a fault can be shown as it stands in the file.
"""

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hvgym.envs.errors import InputError, many, shown
from hvgym.envs.imports.cells import Array, dates_s, decimal_of, has_decimal_commas, numbers
from hvgym.envs.imports.opening import files_of, text

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Array",
    "dates_s",
    "decimal_of",
    "documents",
    "elements",
    "files_of",
    "frames",
    "has_decimal_commas",
    "numbers",
    "text",
]

SEPARATORS = (";", "\t", ",")

MOST_COLUMNS = 2**18
"""A host's esxtop has some tens of thousands."""

MOST_CELLS = 2**21
"""Of one piece of a table: some 200 MB of text objects."""

LINES_A_BLOCK = 10_000

MOST_JSON = 2**31
"""Characters of all JSON of a file."""

JSON_PIECE = 2**20

LONGEST_OPENING = 256
"""Characters, of what comes before a list's first element."""

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
    width than the header, and for names that are there twice. A header that stands again is left out.
    """
    with text(file) as stream:
        lines = _Lines(stream, skip)
        names, sign = (list(header), separator or ",") if header is not None else _header(file, lines, separator)
        rows = max(min(rows, MOST_CELLS // max(len(names), 1)), 1)
        while block := lines.block(rows):
            if any('"' in line and line.count('"') % 2 for line in block):  # a cell may go on in the next line
                for piece in _slowly(file, lines, names, sign, rows, alone=False):
                    yield _without_headers(piece, names) if header is None else piece
                return
            found = _at_once(block, lines.numbers, names, sign)
            for piece in [found] if found is not None else _slowly(file, lines, names, sign, rows, alone=True):
                yield _without_headers(piece, names) if header is None else piece


def _without_headers(piece: "pd.DataFrame", names: Sequence[str]) -> "pd.DataFrame":
    """Without the header where it stands again: files that were put behind each other, a recorder that was started anew."""
    if not len(names):
        return piece
    likely = (piece[names[0]].str.strip() == names[0]).to_numpy()
    if not likely.any():
        return piece
    again = likely.copy()
    again[likely] = (piece[likely].apply(lambda column: column.str.strip()) == list(names)).all(axis=1)
    return piece[~again]


class _Lines:
    """Lines but for those that are left out. `numbers` of those of the last block; `number` of the last one that was read."""

    def __init__(self, stream: TextIO, skip: Callable[[str], bool] | None) -> None:
        self._stream, self._skip, self._block, self._read = stream, skip, list[str](), 0
        self.numbers, self.number = list[int](), 0

    def block(self, count: int) -> list[str]:
        """So many lines, or fewer; none at the end."""
        self._block = []
        while not self._block and (lines := list(islice(self._stream, count))):
            numbered = range(self._read + 1, self._read + len(lines) + 1)
            self._read += len(lines)
            if self._skip or any(map(str.isspace, lines)):
                kept = [(number, line) for number, line in zip(numbered, lines, strict=True) if self._is_row(line)]
                self.numbers, self._block = [number for number, _ in kept], [line for _, line in kept]
            else:
                self.numbers, self._block = list(numbered), lines
        return self._block

    def _is_row(self, line: str) -> bool:
        return not line.isspace() and not (self._skip and self._skip(line))

    def again(self, alone: bool) -> Iterator[str]:
        """The lines of the last block, and those that follow it unless it is `alone`; `number` keeps step."""
        while self._block:
            for line, number in zip(self._block, self.numbers, strict=True):
                self.number = number
                yield line
            if alone or not self.block(LINES_A_BLOCK):
                return


def _header(file: Path, lines: _Lines, separator: str | None) -> tuple[list[str], str]:
    first = lines.block(1)
    if not first:
        raise InputError(f"{file}: no line of it is a header; the file is empty, or another kind")
    number, line = lines.numbers[0], first[0]
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
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(f"{file}: line {number}: two columns are called {shown(twice)}; give each a name of its own")
    return names, sign


def _at_once(block: Sequence[str], numbered: Sequence[int], names: list[str], sign: str) -> "pd.DataFrame | None":
    """A block of lines that each hold a row, by Arrow; None where that finds rows of another width."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.csv as arrow

    data = "".join(block).encode()
    try:
        table = arrow.read_csv(
            pa.BufferReader(data),
            arrow.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
            arrow.ParseOptions(delimiter=sign, ignore_empty_lines=False),
            arrow.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != len(block):
        return None
    columns = {name: table[name].to_numpy() for name in names}
    return pd.DataFrame(columns, index=list(numbered), dtype=object)


def _slowly(file: Path, lines: _Lines, names: list[str], sign: str, rows: int, alone: bool) -> "Iterator[pd.DataFrame]":
    """The last block row by row, which knows where a fault is, and what follows it unless it is `alone`."""
    width = len(names)
    cells, numbered = list[list[str]](), list[int]()
    try:
        for row in csv.reader(lines.again(alone), delimiter=sign):
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
    return (
        f"{many(len(row), 'cell')} ({shown(';'.join(row)[:60], 40)}), expected {width} as in the header; is the file "
        "cut off, or edited?"
    )


def _frame(cells: list[list[str]], numbered: list[int], names: list[str]) -> "pd.DataFrame":
    import pandas as pd

    columns = [pd.Series(list(column), index=numbered, dtype=object) for column in zip(*cells, strict=True)]
    return pd.concat(columns, axis=1, keys=names) if columns else pd.DataFrame(index=numbered)


def documents(file: Path) -> Iterator[Any]:
    """The documents of a file of JSON one by one, in the memory that the largest of them takes. Raises `InputError` with line and
    column for what is no JSON, and for a document that is neither list nor object."""
    with text(file, longest_line=None) as stream:
        pieces = _Pieces(file, stream)
        while pieces.at_document():
            line, found = pieces.line, pieces.document()
            if not isinstance(found, list | dict):
                raise InputError(
                    f"{file}: line {line}: {shown(found)} stands alone, expected a list or an object; is it another kind of file? "
                    "export it again"
                )
            yield found


def elements(file: Path, key: str) -> Iterator[Any]:
    """The elements of lists one by one, in the memory that the largest element takes: of documents that are lists, or else of each
    list that is called `key`. Nothing else in the file is looked at; where there is no such list ask `documents`."""
    with text(file, longest_line=None) as stream:
        pieces = _Pieces(file, stream)
        opening = re.compile(r"\[" if pieces.at_list() else f'"{re.escape(key)}"' + r"\s*:\s*\[")
        while pieces.enter(opening):
            while pieces.at_element():
                yield pieces.document()


class _Pieces:
    """Text of which documents are cut off from the front; more is read when the front is no whole document."""

    def __init__(self, file: Path, stream: TextIO) -> None:
        self._file, self._stream, self._decoder = file, stream, json.JSONDecoder()
        self._buffer, self._at, self._line, self._read, self._ended = "", 0, 1, 0, False

    @property
    def line(self) -> int:
        """Where the front is."""
        return self._line

    def at_document(self) -> bool:
        """Skip blanks; whether there is anything then."""
        while True:
            end = BLANKS.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            self._pass(end)
            if end < len(self._buffer) or self._ended:
                return end < len(self._buffer)
            self._more()

    def at_list(self) -> bool:
        return self.at_document() and self._buffer[self._at] == "["

    def enter(self, opening: re.Pattern[str]) -> bool:
        """Go behind the next match; whether there is one. It is no longer than `LONGEST_OPENING`."""
        while (found := opening.search(self._buffer, self._at)) is None:
            if self._ended:
                return False
            self._pass(max(self._at, len(self._buffer) - LONGEST_OPENING))
            self._more()
        self._pass(found.end())
        return True

    def at_element(self) -> bool:
        """Go to the next element of a list; whether there is one. Its end is passed."""
        while self.at_document():
            sign = self._buffer[self._at]
            if sign not in ",]":
                return True
            self._pass(self._at + 1)
            if sign == "]":
                return False
        raise InputError(f"{self._file}: line {self._line}: ends within a list; is the file cut off? export it again")

    def _pass(self, end: int) -> None:
        self._line += self._buffer.count("\n", self._at, end)
        self._at = end

    def document(self) -> Any:
        while True:
            try:
                found, end = self._decoder.raw_decode(self._buffer, self._at)
            except (json.JSONDecodeError, RecursionError) as error:
                far = isinstance(error, RecursionError) or error.pos < len(self._buffer) - JSON_PIECE
                if self._ended or far:
                    raise self._no_json(error) from error
            except ValueError as error:  # more digits than Python reads
                raise self._too_long() from error
            else:
                if self._ended or end < len(self._buffer):
                    self._pass(end)
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

    def _too_long(self) -> InputError:
        most = sys.get_int_max_str_digits()
        found = re.compile(rf"\d{{{most + 1}}}").search(self._buffer, self._at)
        place = found.start() if found else self._at
        line = self._line + self._buffer.count("\n", self._at, place)
        return InputError(
            f"{self._file}: line {line}: {shown(self._buffer[place : place + 40], 20)} is a number of more than {most:,} digits, "
            "which nothing measures; is the file damaged? export it again"
        )

    def _no_json(self, error: json.JSONDecodeError | RecursionError) -> InputError:
        if isinstance(error, RecursionError):
            return InputError(f"{self._file}: line {self._line}: nested too deep to be a table of measurements")
        line = self._line + self._buffer.count("\n", self._at, error.pos)
        return InputError(
            f"{self._file}: line {line}, column {error.colno}: no JSON ({error.msg}); is the file cut off, or another "
            f"kind? export it again"
        )
