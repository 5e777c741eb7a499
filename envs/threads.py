"""Lanes of a batch advanced in contiguous chunks, each by a thread; lanes share nothing, so neither number changes a result."""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np


class Threads:
    """`lanes` in chunks, of which each thread takes one."""

    def __init__(self, lanes: int, threads: int) -> None:
        self.chunks = _chunks(lanes, threads)
        self._pool: ThreadPoolExecutor | None = None
        self._pool_process = 0

    def __getstate__(self) -> dict[str, Any]:
        """Threads do not travel; the copy makes its own."""
        return self.__dict__ | {"_pool": None, "_pool_process": 0}

    def each_chunk(self, work: Callable[[int, int], Any]) -> None:
        """Call ``work(first, last)`` for every chunk of lanes, on the threads."""
        if len(self.chunks) == 1:
            work(*self.chunks[0])
        else:
            list(self._threads().map(lambda chunk: work(*chunk), self.chunks))

    def _threads(self) -> ThreadPoolExecutor:
        """This process's threads: a forked child has its parent's pool, but none of the threads in it."""
        if self._pool is None or self._pool_process != os.getpid():
            self._pool, self._pool_process = ThreadPoolExecutor(len(self.chunks)), os.getpid()
        return self._pool


def _chunks(lanes: int, threads: int) -> list[tuple[int, int]]:
    edges = np.linspace(0, lanes, min(max(threads, 1), lanes) + 1).astype(int).tolist()
    return list(itertools.pairwise(edges))
