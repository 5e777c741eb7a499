"""One file of GWA-T-12 as a table of numbers: what is unambiguous is read, of the rest the first fault is told in words.

Read beside the native form: decimal commas (fields are separated by ``;``), times in ISO 8601 (without a zone: UTC) and in
milli-, micro- or nanoseconds since 1970 (told by their size), a ``;`` at the end of lines or of the header alone. A file
may be compressed, and is at most `MOST_BYTES` long as text (a guess: five years of rows every 5 minutes).
"""

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from hvgym.envs.errors import InputError, many

Array = npt.NDArray[np.float64]

NATIVE_COLUMNS = (
    *("Timestamp [ms]", "CPU cores", "CPU capacity provisioned [MHZ]", "CPU usage [MHZ]", "CPU usage [%]"),
    *("Memory capacity provisioned [KB]", "Memory usage [KB]"),
    *("Disk read throughput [KB/s]", "Disk write throughput [KB/s]"),
    *("Network received throughput [KB/s]", "Network transmitted throughput [KB/s]"),
)
TIME, CORES, _, _, CPU_PERCENT, CAPACITY, USAGE, READ, WRITE, RECEIVED, TRANSMITTED = range(len(NATIVE_COLUMNS))

LARGEST_TIME_S = 1e11
"""Above it a timestamp is in ms (1e11 ms is March 1973), 1000 times above it in us, and so on to ns."""

UNITS = ("milliseconds", "microseconds", "nanoseconds")

MOST_BYTES, MOST_HEADER_BYTES = 2**26, 2**16

MOST_LINES = 2**20
"""Ten years of rows every 5 minutes; a line takes some hundred bytes of memory however short it is."""

MOST_VALUE = 1e12
"""Of any column but time: a petabyte in KB."""

DECIMAL_COMMA = re.compile(rb",(?![0-9]{3}(?![0-9]))")
"""A comma that cannot separate thousands: not exactly three digits follow."""

TIMES = "give seconds since 1970, as in 1375308176, or ISO 8601, as in 2013-08-01T00:02:56Z"


@dataclass(frozen=True)
class Rows:
    """The good rows of a file, ``[row, native column]``, times in seconds; what was wrong with the others."""

    table: Array
    lines: int
    first_fault: str  # empty when every row is good
    in_unit: tuple[int, int, int]  # good rows with times in each of UNITS


def read_rows(file: Path) -> Rows:
    """Read a file. Raises `InputError` when it is no such table."""
    numbered = [
        (number, line.rstrip(b"; \t")) for number, line in enumerate(_content(file).splitlines(), 1) if line.strip()
    ]
    if not numbered:
        raise InputError(f"{file}: the file is empty; remove it or fetch it again")
    header = [" ".join(name.split()) for name in numbered[0][1].decode("utf-8-sig", "replace").split(";")]
    positions = _native_positions(file, header)
    lines = [line for _, line in numbered[1:]]
    table = _numbers(_with_seconds(lines, positions[TIME]), len(header), positions)
    good = (np.isfinite(table) & (table >= 0)).all(axis=1) & (table[:, TIME] <= 1000 ** len(UNITS) * LARGEST_TIME_S)
    good &= (table[:, 1:] <= MOST_VALUE).all(axis=1)
    fault = ""
    if not good.all():
        number, line = numbered[1 + int(np.argmin(good))]
        fault = f"line {number}: {_fault(line, len(header), positions)}"
    table = table[good]
    return Rows(table, len(lines), fault, _to_seconds(table[:, TIME]))


def _to_seconds(times: Array) -> tuple[int, int, int]:
    """Scale times in place; return how many were in each of `UNITS`."""
    counts = []
    for power in range(len(UNITS), 0, -1):
        finer = times > LARGEST_TIME_S * 1000 ** (power - 1)
        times[finer] /= 1000**power
        counts.append(int(finer.sum()))
    return counts[2], counts[1], counts[0]


def _content(file: Path) -> bytes:
    if file.exists() and not (file.is_file() or file.is_dir()):  # a pipe would be waited for
        raise InputError(f"{file}: no regular file; remove it")
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            return _bounded(file, stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{file}: corrupt gzip ({error}); fetch the file again") from error
    except OSError as error:
        raise InputError(
            f"{file}: cannot be read ({error.strerror}); check that it is a file and its permissions"
        ) from error


def _bounded(file: Path, stream: "IO[bytes] | gzip.GzipFile") -> bytes:
    """The whole file, unless it is out of proportion: a few compressed bytes may stand for gigabytes."""
    first = stream.read(MOST_HEADER_BYTES)
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{file}: written as UTF-16; save it as UTF-8")
    if len(first) == MOST_HEADER_BYTES and b"\n" not in first:
        raise InputError(
            f"{file}: its first line is longer than {MOST_HEADER_BYTES:,} bytes; this is no table of a trace"
        )
    content = first + stream.read(MOST_BYTES - len(first) + 1)
    if len(content) > MOST_BYTES:
        raise InputError(f"{file}: longer than {MOST_BYTES >> 20} MiB as text; split it, or keep a row every 5 minutes")
    if (lines := content.count(b"\n")) > MOST_LINES:
        raise InputError(
            f"{file}: {lines:,} lines or more; at most {MOST_LINES:,} are read, keep a row every 5 minutes"
        )
    return content


def _native_positions(file: Path, header: list[str]) -> list[int]:
    for column in NATIVE_COLUMNS:
        if header.count(column) != 1:
            other = ", ".join(repr(name[:40]) for name in header[:20] if name not in NATIVE_COLUMNS) or "none"
            raise InputError(
                f"{file}: the header has column '{column}' {header.count(column)} times (unknown columns: {other}); "
                f"expected once each, separated by ';': {'; '.join(NATIVE_COLUMNS)}"
            )
    return [header.index(column) for column in NATIVE_COLUMNS]


def _with_seconds(lines: list[bytes], position: int) -> list[bytes]:
    """Lines whose time is written as ISO 8601 have it in seconds instead."""
    if not any(_seconds(line, position) for line in lines[:10]):
        return lines
    changed = []
    for line in lines:
        fields = line.split(b";")
        if seconds := _seconds(line, position):
            fields[position] = seconds
        changed.append(b";".join(fields))
    return changed


def _seconds(line: bytes, position: int) -> bytes | None:
    fields = line.split(b";")
    text = fields[position].strip().decode("ascii", "replace") if position < len(fields) else ""
    if "-" not in text[1:]:  # a number, or nothing; 20130801 too is a number
        return None
    with suppress(ValueError):
        time = datetime.fromisoformat(text)
        return repr((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()).encode()
    return None


def _numbers(lines: list[bytes], width: int, positions: list[int]) -> Array:
    """Return [row, native column]; a row that does not parse has a NaN."""
    import pandas as pd

    text = b"\n".join(lines)
    signs = (b".", b",") if DECIMAL_COMMA.search(text) else (b".",)
    if lines and all(line.count(b";") == width - 1 for line in lines):
        for decimal in (sign.decode() for sign in signs):
            with suppress(ValueError):  # some field is text, or has the other decimal sign
                frame = pd.read_csv(
                    io.BytesIO(text), sep=";", decimal=decimal, names=range(width), usecols=positions, dtype=np.float64,
                    quoting=csv.QUOTE_NONE,
                )  # fmt: skip
                return frame[positions].to_numpy(copy=True)
    tables = (
        np.array([_row(line, width, positions, sign) for line in lines]).reshape(-1, len(positions)) for sign in signs
    )
    return max(tables, key=lambda table: int(np.isfinite(table).all(axis=1).sum()))  # the first of equals


def _row(line: bytes, width: int, positions: Sequence[int], decimal: bytes) -> list[float]:
    other = b"," if decimal == b"." else b"."
    # float() would take 1_000 for a number, and neither sign may separate thousands
    fields = line.replace(b"_", b"?").replace(other, b"?").replace(decimal, b".").split(b";")
    with suppress(ValueError):
        if len(fields) == width:
            return [float(fields[position]) for position in positions]
    return [math.nan] * len(positions)


def _fault(line: bytes, width: int, positions: Sequence[int]) -> str:
    """What is wrong with a row, and what would be right."""
    fields = [field.strip().decode("utf-8", "replace") for field in line.split(b";")]
    if len(fields) != width:
        start, separator = line[:40].decode("utf-8", "replace"), ", separated by ';'" if len(fields) == 1 else ""
        return f"{many(len(fields), 'field')} ({start!r}), expected {width} as in the header{separator}"
    for column, position in zip(NATIVE_COLUMNS, positions, strict=True):
        if wrong := _wrong(fields[position], column == NATIVE_COLUMNS[TIME]):
            return f"column '{column}': {fields[position][:40]!r} {wrong}"
    if b"." in line:
        return "decimal points and commas are mixed; use one of them in the whole file, and no separators of thousands"
    return "each comma has three digits after it, so it may be decimal or separate thousands; write decimal points, or neither"


def _wrong(text: str, is_time: bool) -> str | None:
    if not text:
        return f"is empty; {TIMES if is_time else 'give a number'}"
    try:
        value = float(text.replace("_", "?").replace(",", "."))
    except ValueError:
        if is_time and "-" in text[1:]:
            with suppress(ValueError):
                datetime.fromisoformat(text)
                return None
        right = TIMES if is_time else "give a number, without unit, quotes or separators of thousands"
        return f"is no {'time' if is_time else 'number'}; {right}"
    if not math.isfinite(value) or value < 0:
        return "must be 0 or more and finite; leave the row out where nothing was measured"
    if not is_time and value > MOST_VALUE:
        return f"is out of proportion; at most {MOST_VALUE:g}"
    if is_time and value > 1000 ** len(UNITS) * LARGEST_TIME_S:
        return f"is neither in seconds nor in {', '.join(UNITS)} since 1970; {TIMES}"
    return None
