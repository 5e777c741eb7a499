"""``hvgym`` as a user types it, called in this process: an interpreter of its own with its imports takes seconds of CPU."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hvgym.agents import beside
from hvgym.scripts import cli

COMMAND = [sys.executable, "-m", "hvgym.scripts.cli"]
"""Of a process of its own, for what only that can show: kills and signals, terminals, what is imported."""

LEFT_OUT = ("COLUMNS", "LINES", "HYDRA_FULL_ERROR", "HVGYM_FULL_ERROR")
"""Variables that would change what is printed; a test gives them itself."""


def hvgym(*words, cwd=None, code=0, **variables):
    """What the command prints, which has to end with this code. Nothing of it stays but what it has written to disk."""
    done = ended(words, cwd, variables)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def ended(words, cwd, variables):
    """The command, however it ended."""
    out, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with as_it_was(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        for name in LEFT_OUT:
            os.environ.pop(name, None)
        os.environ.update(variables)
        if cwd is not None:
            os.chdir(cwd)
        code = exit_code([str(word) for word in words])
    said, complained = (stream.buffer.getvalue().decode() for stream in (out, errors))
    return subprocess.CompletedProcess(words, code, said, complained)


def exit_code(words):
    """As the interpreter would end."""
    try:
        return cli.main(words)
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1


@contextlib.contextmanager
def as_it_was(folder: Path | None) -> Iterator[None]:
    """Folder, environment, arguments and search path are put back. Modules of the folder in which a command is called are
    forgotten, for the next test has others of the same name.
    """
    place, environment = Path.cwd(), os.environ.copy()
    arguments, search, besides, modules = sys.argv, sys.path.copy(), beside._BESIDE.copy(), set(sys.modules)
    try:
        yield
    finally:
        os.chdir(place)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        sys.argv, sys.path[:], beside._BESIDE[:] = arguments, search, besides
        for name in sys.modules.keys() - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if folder and file and folder.resolve() in Path(file).resolve().parents:
                del sys.modules[name]
