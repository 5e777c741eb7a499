"""Where jobs are played: in this process, in others of this machine, or wherever an engine has them played (``engines``)."""

import importlib.util
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hvgym.envs.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

Submit = Callable[..., Future[Any]]
"""Takes a function of a module and its arguments, as ``Executor.submit`` does."""


@dataclass(frozen=True)
class Engine:
    """One of `ENGINES`, with what it is told in its own words."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


ENGINES = ("joblib", "ray", "slurm")

Workers = int | Engine
"""Processes of this machine, or an engine."""

MANY = 100_000
"""Jobs that an engine may be given at once."""


NEEDS = {"joblib": "joblib", "ray": "ray", "slurm": "submitit"}
"""The package of an engine."""


def check_engine(name: str) -> None:
    """Raise `InputError` where the package of an engine is missing."""
    if importlib.util.find_spec(NEEDS[name]) is None:
        raise InputError(f"workers={name}: its package is missing; pip install 'hvgym[{name}]'")


def at_once(workers: Workers) -> int:
    """How many jobs may be under way."""
    return max(workers, 1) if isinstance(workers, int) else MANY


@contextmanager
def crew(workers: Workers, folder: Path, names: Callable[[], Sequence[str]]) -> Iterator[Submit]:
    """Who plays; ends with the body, and at once where that fails or is interrupted. One worker is this process, which plays as it
    is asked to. folder: for what an engine writes; names: of jobs under way, in the order in which they were given.

    Raises `InputError` where a worker process is gone, or an engine is missing or refuses what it is told.
    """
    if isinstance(workers, Engine):
        from hvgym.bench.engines import engaged

        with engaged(workers, folder) as submit:
            yield submit
    elif workers <= 1:
        yield _here
    else:
        with _pool(workers, names) as submit:
            yield submit


def each(
    items: Sequence[T], give: Callable[[Submit, T], Future[R]], workers: Workers, folder: Path, name: Callable[[T], str]
) -> Iterator[tuple[T, R]]:
    """Have something played for each item, and give it with what came of it when that is finished. give: submits an item."""
    waiting, running = deque(items), dict[Future[R], T]()
    alone = isinstance(workers, int) and min(workers, len(items)) <= 1
    with crew(1 if alone else workers, folder, lambda: [name(item) for item in running.values()]) as submit:
        while waiting or running:
            while waiting and len(running) < (1 if alone else MANY):
                item = waiting.popleft()
                running[give(submit, item)] = item
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running[future], future.result()
                del running[future]


def called(submit: Submit | None, function: Callable[..., R], arguments: Sequence[tuple[Any, ...]]) -> list[R]:
    """What a function gives for each of several arguments, in order; without a crew in this process, one after another."""
    if submit is None:
        return [function(*one) for one in arguments]
    futures = [submit(function, *one) for one in arguments]
    return [future.result() for future in futures]


@contextmanager
def _pool(workers: int, names: Callable[[], Sequence[str]]) -> Iterator[Submit]:
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=follow_parent)
    try:
        yield pool.submit
    except BrokenProcessPool:
        stop_workers(pool)
        started = "; ".join(names()[:workers])  # they start in order
        raise InputError(
            f"a worker process ended by itself, killed (for want of memory?) or by the code of a policy: one of {started}; the "
            "same command goes on"
        ) from None
    except BaseException:
        stop_workers(pool)
        raise
    pool.shutdown()


def _here(function: Callable[..., T], *arguments: Any) -> Future[T]:
    future: Future[T] = Future()
    try:
        future.set_result(function(*arguments))
    except InputError as error:
        future.set_exception(error)
    return future


def follow_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end with it even when it is killed, so that no job runs twice."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def stop_workers(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: their jobs are lost, which is what a rerun is for."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()
