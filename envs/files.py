"""Files that are there whole or not at all, and names that may become one."""

import contextlib
import os
import re
import secrets
from pathlib import Path

from hvgym.envs.errors import InputError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file beside its place, and move it there when it is on the disk: a kill or a full disk leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")  # machines may share a number
    try:
        with fresh.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def file_name(key: str, value: object) -> str:
    """A name that becomes part of a path. Raises `InputError` that names the key when it could lead elsewhere."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
        raise InputError(f"{key}={value!r}: use letters, digits, '.', '_' and '-'; the first a letter or digit")
    return value
