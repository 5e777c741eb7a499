"""How the model is compiled: numba, without the GIL, cached on disk.

Numba's own cache notices a change in the file of the function only, not in the functions it calls, so an edit in
``guest.py`` would leave yesterday's ``tick`` in place. Here the cache folder is named after the content of every
source file of the model: any edit gives a new folder. ``NUMBA_CACHE_DIR`` still chooses the parent.
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
def cache_folder() -> Path:
    """Folder for compiled code of exactly this version of the sources."""
    digest = hashlib.sha256()
    for source in sorted(_ENVS.rglob("*.py")):
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
    numba.config.CACHE_DIR = str(cache_folder())
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy", _nrt=False)(function)
    finally:
        numba.config.CACHE_DIR = previous
