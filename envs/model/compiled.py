"""How the model is compiled: numba, without the GIL, cached on disk.

Numba's own cache notices a change in the file of the function only, not in the functions it calls, so an edit in
``memory.py`` would leave yesterday's ``tick`` in place. Here the cache folder is named after the content of every
source file that compiled code of the world is made of, and of those beside the function (the oracle's are in ``agents``):
any edit there gives a new folder, an edit elsewhere none. ``NUMBA_CACHE_DIR`` still chooses the parent.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

_ENVS = Path(__file__).resolve().parent.parent


@functools.cache
def cache_folder(beside: Path = _ENVS) -> Path:
    """Folder for code compiled from exactly these sources: the world's, and those of a folder of functions."""
    world = [
        *(_ENVS / "model").rglob("*.py"),
        *(path for path in _ENVS.glob("*.py") if b"@compiled" in path.read_bytes()),
    ]
    others = [] if beside.is_relative_to(_ENVS) else beside.glob("*.py")
    digest = hashlib.sha256()
    for source in sorted({*world, *others}):
        digest.update(source.name.encode() + source.read_bytes())
    parent = os.environ.get("NUMBA_CACHE_DIR") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "hvgym"
    )
    return Path(parent) / f"model-{digest.hexdigest()[:16]}"


def compiled(function: F) -> F:
    """Compile `function` on first call; IEEE arithmetic (no fast-math), so that results do not depend on the batch.

    Compiled code may not allocate: without numba's runtime (``_nrt``) handing a slice of an array to a function costs
    nothing; with it, an atomic count up and down, which came to a sixth of the time of a tick.
    """
    previous = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder(Path(function.__code__.co_filename).resolve().parent))
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy", _nrt=False)(function)
    finally:
        numba.config.CACHE_DIR = previous
