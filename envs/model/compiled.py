"""How the model is compiled: numba, without the GIL, cached on disk.

Numba's own cache notices a change in the file of the function only, not in the functions it calls, so an edit in
``memory.py`` would leave yesterday's ``tick`` in place. Here the cache folder is named after the content of every
source file that compiled code of the world is made of, and of those beside the function (the reference's are in ``agents``):
any edit there gives a new folder, an edit elsewhere none. ``NUMBA_CACHE_DIR`` still chooses the parent. A file of the
cache that was cut short or damaged is made anew; a folder that cannot be written means no cache, and one warning.
"""

import functools
import hashlib
import multiprocessing
import os
import pickle
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

F = TypeVar("F", bound=Callable[..., Any])

_ENVS = Path(__file__).resolve().parent.parent
_MARK = re.compile(rb"^@(compiled|inlined)$", re.MULTILINE)
_DIGEST_BYTES = hashlib.sha256().digest_size


@functools.cache
def cache_folder(beside: Path = _ENVS) -> Path | None:
    """Folder for code compiled from exactly these sources: the world's, and those of a folder of functions.

    None where no folder can be written.
    """
    world = [
        *(_ENVS / "model").rglob("*.py"),
        *(path for path in _ENVS.glob("*.py") if _MARK.search(path.read_bytes())),
    ]
    others = [] if beside.is_relative_to(_ENVS) else beside.glob("*.py")
    digest = hashlib.sha256()
    for source in sorted({*world, *others}):
        digest.update(source.name.encode() + source.read_bytes())
    parent = _writable_parent()
    return None if parent is None else parent / f"model-{digest.hexdigest()[:16]}"


@functools.cache
def _writable_parent() -> Path | None:
    """Where this user's compiled code is kept. Numba would try other places by itself, under names that do not tell
    versions of the code apart."""
    try:
        chosen = os.environ.get("NUMBA_CACHE_DIR")
        parent = Path(chosen or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "hvgym"))
        parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=parent).close()
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        if multiprocessing.parent_process() is None:  # once, not from every worker
            print(
                f"hvgym: compiled code cannot be kept ({error}), so every start compiles for a minute or more; set "
                "NUMBA_CACHE_DIR to a folder that can be written",
                file=sys.stderr,
            )
        return None
    return parent


class _CacheFile(IndexDataCacheFile):
    """Files of the cache with a digest at their end: a crash of the machine may leave a file of the right length but not
    the right content."""

    def _dump(self, obj: Any) -> bytes:
        data: bytes = super()._dump(obj)
        return data + hashlib.sha256(data).digest()

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        data, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            raise ValueError(f"{name}: damaged")
        return pickle.loads(data)


class _Cache(FunctionCache):
    """Numba's cache of one function; what cannot be read is compiled again, what cannot be written is not kept."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _CacheFile(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """See numba."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # unpickling bytes that were damaged raises anything
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """See numba."""
        with suppress(OSError):  # a full disk: the code in memory is as good
            super().save_overload(sig, data)


def entry(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """The code of a compiled `function` for arguments of the types of these, to be called again and again.

    Whoever calls `function` itself has the types of all arguments found first, a microsecond for a dozen arrays. This code
    does not look: it may be called with arrays of the same kinds only, best with these.
    """
    compile_for: Callable[..., Callable[..., Any]] = function.compile  # type: ignore[attr-defined]
    return compile_for(tuple(map(numba.typeof, arguments)))


def compiled(function: F) -> F:
    """Compile `function` on first call; IEEE arithmetic (no fast-math), so that results do not depend on the batch.

    Compiled code may not allocate: without numba's runtime (``_nrt``) handing a slice of an array to a function costs
    nothing; with it, an atomic count up and down, which came to a sixth of the time of a tick.
    """
    return _compiled(function, forceinline=False)


def inlined(function: F) -> F:
    """As `compiled`, but made part of whatever compiled code calls it: for what few places call, for each VM and second.

    LLVM would leave functions of this size apart, and calls took a tenth of the time of a tick.
    """
    return _compiled(function, forceinline=True)


def _compiled(function: F, forceinline: bool) -> F:
    options = {"nogil": True, "error_model": "numpy", "_nrt": False, "forceinline": forceinline}
    dispatcher: Any = numba.njit(**options)(function)
    folder = cache_folder(Path(function.__code__.co_filename).resolve().parent)
    previous = numba.config.CACHE_DIR
    try:
        if folder is not None:
            numba.config.CACHE_DIR = str(folder)
            dispatcher._cache = _Cache(function)
    finally:
        numba.config.CACHE_DIR = previous
    result: F = dispatcher
    return result
