"""Files as text, whatever they are: gzip told by its content, UTF-8 or UTF-16 by its mark, in bounded memory and time.

What is no text, or not in proportion (a few compressed bytes may stand for gigabytes), ends in one line.
"""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO, cast

from hvgym.envs.errors import InputError

LONGEST_LINE = 2**24
"""Bytes. The widest table that is read (esxtop of a full host) has lines of some 2 MiB."""

MOST_UNPACKED = 2**26
"""Bytes that a compressed file may always unpack to."""

MOST_RATIO = 250
"""Of unpacked to compressed bytes beyond that (a guess): tables of numbers pack 5 to 50 times, gzip ends at 1,032."""

MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def files_of(paths: Sequence[Path], patterns: Sequence[str]) -> list[Path]:
    """Files as they are given, and of folders what matches a pattern (with or without ``.gz``), at any depth, by name with numbers
    by value; each once. Raises `InputError` for what is missing or no regular file, and for a folder without any."""
    found = list[Path]()
    for path in (path.expanduser() for path in paths):
        if path.is_dir():
            found += _inside(path, patterns)
        elif path.is_file():
            found.append(path)
        else:
            wrong = "is no regular file" if path.exists() else "there is no such file or folder"
            raise InputError(f"{path}: {wrong}; give files, or a folder with {' or '.join(patterns)}")
    if not found:
        raise InputError(f"no files are given; give files, or a folder with {' or '.join(patterns)}")
    once = dict[Path, Path]()
    for file in found:
        once.setdefault(file.resolve(), file)
    return list(once.values())


def _inside(folder: Path, patterns: Sequence[str]) -> list[Path]:
    matching = (file for pattern in patterns for end in ("", ".gz") for file in folder.rglob(pattern + end))
    found = sorted({file for file in matching if file.is_file()}, key=lambda file: by_value(file.as_posix()))
    if not found:
        raise InputError(
            f"{folder}: no file in this folder is called {' or '.join(patterns)}; name the files themselves"
        )
    return found


def by_value(name: str) -> list[tuple[int, int, str]]:
    """A key by which vm-9 comes before vm-10."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", name)]


@contextmanager
def text(file: Path, longest_line: int | None = LONGEST_LINE) -> Iterator[TextIO]:
    """A file's text. Raises `InputError`, at once or while it is read, where it is none."""
    try:
        with file.open("rb") as raw:
            first = raw.read(2)
            raw.seek(0)
            packed = first == b"\x1f\x8b"
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
            guarded = io.BufferedReader(_Guarded(file, stream, raw if packed else None, longest_line), 2**16)
            mark = next((code for start, code in MARKS.items() if guarded.peek(4)[:4].startswith(start)), "utf-8")
            yield io.TextIOWrapper(guarded, encoding=mark, newline=None)
    except UnicodeDecodeError as error:
        bad = error.object[error.start : error.start + 1].hex()
        line = _line_of_fault(file, packed, mark)
        raise InputError(
            f"{file}: line {line}: byte 0x{bad} is no {error.encoding.upper()}; save the file as UTF-8"
        ) from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error}); check its permissions") from error


def _line_of_fault(file: Path, packed: bool, encoding: str) -> int:
    """Of the first byte that is no text. What was read before is read again, for the fault knows its place in a piece alone."""
    line, decoder = 1, codecs.getincrementaldecoder(encoding)()
    with gzip.open(file) if packed else file.open("rb") as stream:
        while data := stream.read(2**16):
            try:
                line += decoder.decode(data).count("\n")
            except UnicodeDecodeError as error:
                return line + error.object[: error.start].count(b"\n")
    return line


class _Guarded(io.RawIOBase):
    """A stream that stops in words where it turns out to be no text. `packed`: the compressed file, where there is one."""

    def __init__(self, file: Path, stream: IO[bytes], packed: IO[bytes] | None, longest_line: int | None) -> None:
        self._file, self._stream, self._packed, self._longest_line = file, stream, packed, longest_line
        self._unpacked, self._line, self._wide = 0, 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        data = self._read(len(buffer))
        self._check(data)
        buffer[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{self._file}: corrupt gzip ({error}); fetch the file again") from error

    def _check(self, data: bytes) -> None:
        if self._unpacked == 0:
            if not data:
                raise InputError(f"{self._file}: the file is empty; remove it or export it again")
            self._wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        self._unpacked += len(data)
        if not self._wide and b"\0" in data:
            raise InputError(f"{self._file}: binary, no text; give the file as it was exported, unpacked or as .gz")
        end = data.rfind(b"\n")
        self._line = self._line + len(data) if end < 0 else len(data) - end - 1
        if self._longest_line is not None and self._line > self._longest_line:
            raise InputError(f"{self._file}: a line is longer than {self._longest_line >> 20} MiB; this is no table")
        if self._packed is not None and self._unpacked > max(MOST_UNPACKED, MOST_RATIO * self._packed.tell()):
            raise InputError(
                f"{self._file}: unpacks to more than {MOST_RATIO} times its size; unpack it yourself if that is right"
            )
