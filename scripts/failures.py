"""How a verb ends that cannot go on: one line for people, and an exit code. 2 is bad input, 1 any other failure."""

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from hvgym.envs.errors import InputError, in_words

WISH = "HVGYM_FULL_ERROR"
"""Holds what HYDRA_FULL_ERROR was when the command began."""


class Stopped(SystemExit):
    """What stopped a job. Hydra announces every `Exception` with lines of its own and passes this on, from other processes
    too.
    """

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text, exit_code)
        self.text, self.exit_code = text, exit_code


def stop(error: BaseException) -> NoReturn:
    """End a job because of an error; HYDRA_FULL_ERROR=1 shows the traceback as well."""
    raise Stopped(*_told(error)) from error


def _told(error: BaseException) -> tuple[str, int]:
    if in_full() and not isinstance(error, Stopped):
        traceback.print_exception(error)
    return explained(error)


_failed = list[int]()
"""Exit codes of jobs of the multirun that this process plays."""


def note_failed(job: str, error: BaseException) -> None:
    """Tell why a job of a multirun has failed; the others go on."""
    text, code = _told(error)
    _failed.append(said(f"{job}: {text}", code))


def of_the_sweep() -> int:
    """Exit code of the verb that has ended: 0, or of a multirun that of the first job that failed."""
    codes = _failed.copy()
    _failed.clear()
    if not codes:
        return 0
    how_many = f"{len(codes)} jobs of the sweep" if len(codes) > 1 else "one job of the sweep"
    return said(f"{how_many} failed, as told above; the others are finished", codes[0])


@contextmanager
def raising() -> Iterator[None]:
    """Let Hydra raise its errors, where it would print several lines of its own; the user's wish for tracebacks is kept."""
    wish = os.environ.get("HYDRA_FULL_ERROR")
    os.environ |= {"HYDRA_FULL_ERROR": "1", WISH: wish or ""}
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if wish is not None:
            os.environ["HYDRA_FULL_ERROR"] = wish


def in_full() -> bool:
    """Whether the user wants tracebacks."""
    return bool(os.environ.get(WISH))


def explained(error: BaseException) -> tuple[str, int]:
    """What stopped a verb, on one line, and the exit code."""
    if isinstance(error, Stopped):  # a verb's own verdict
        return error.text, error.exit_code
    if isinstance(error, InputError):
        return str(error), 2
    if type(error).__module__.startswith("omegaconf"):  # a value that refers to a key, as in ${key}
        return f"{str(error).splitlines()[0]} (a value with ${{...}} refers to another key)", 2
    if (full := _disk_full(error)) is not None:
        return f"{full}: no space left on device; make room; what is finished is safe, the same command goes on", 1
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}", 1
    if isinstance(error, MemoryError):
        return f"not enough memory ({error or 'for this'}); play fewer seeds, fewer VMs or a shorter episode_s", 1
    if isinstance(error, SystemExit):
        return f"a policy or a library called sys.exit({error.code!r}), so this is no result", 1
    return f"{in_words(error)}; HYDRA_FULL_ERROR=1 shows the traceback", 1


def _disk_full(error: BaseException) -> str | None:
    """Which file did not fit, as far as is known; None for another error. SQLite says it in words."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return str(error.filename or "a file")
    return "a database" if "database or disk is full" in str(error) else None


def said(text: str, code: int) -> int:
    """Print a failure on one line; return its exit code."""
    print(f"hvgym: {' '.join(text.split())}", file=sys.stderr)
    return code
