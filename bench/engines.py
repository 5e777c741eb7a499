"""Engines that have jobs played elsewhere: joblib (processes of this machine), ray (a cluster), slurm (a batch system, by submitit).

An engine decides where and when. It is given calls of functions, whose results lie in files that all workers share, and a call whose
worker was lost is given again: what it had finished is read, the rest goes on (``claims``). A worker refuses to play with other code
of hvgym than the process that leads has. Left out: copying of files; the folder of runs is on every machine under the same path.
"""

import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from hvgym.bench.identity import sources
from hvgym.bench.workers import Engine, Submit, check_engine
from hvgym.envs.errors import InputError, in_words

MOST_LOST = 5
"""So often is a call given again whose worker was lost (a guess): one that runs out of memory ends each worker that plays it."""

LOOK_S = 0.1
"""How often it is looked what is finished; shorter than the shortest jobs matters to nobody."""


class LostError(Exception):
    """The worker of a call is gone."""


@dataclass(frozen=True)
class Call:
    """A function of a module, with its arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Place:
    """Where the leading process is, and its code: workers look for modules and files as it does."""

    path: tuple[str, ...]
    folder: str
    code: str

    @staticmethod
    def here() -> "Place":
        """Of this process."""
        return Place(tuple(map(os.path.abspath, sys.path)), str(Path.cwd()), _code())

    def enter(self) -> None:
        """In a worker. Raises `InputError` where hvgym is another here."""
        sys.path += [place for place in self.path if place not in sys.path]
        with suppress(OSError):
            os.chdir(self.folder)
        if _code() != self.code:
            raise InputError(
                f"{platform.node()}: its hvgym has other code ({_code()}) than that of the command ({self.code}); install the same"
            )


@cache
def _code() -> str:
    return sources([])["code"]


Outcome = tuple[Any, BaseException | None]
"""What a call gave, or why not: engines wrap errors, each in its own way."""


def perform(place: Place, calls: Sequence[Call]) -> list[Outcome]:
    """In a worker: make these calls, one after another."""
    found = list[Outcome]()
    for call in calls:
        try:
            place.enter()
            found.append((call.function(*call.arguments), None))
        except Exception as error:
            found.append((None, error if isinstance(error, (InputError, OSError)) else InputError(in_words(error))))
    return found


class Host(Protocol):
    """What is asked of an engine. A handle is its own word for calls that it was given together."""

    again: int
    """How often a lost call is to be given again."""

    def share(self, waiting: int, running: int) -> int:
        """How many of the calls that wait it takes now, in one go; 0 where it has enough."""

    def start(self, calls: Sequence[Call]) -> Any:
        """Have calls made; gives a handle."""

    def outcomes(self, handle: Any) -> list[Outcome] | None:
        """What they gave, once they are over. Raises `LostError`."""

    def stop(self) -> None:
        """End everything that is under way."""

    def close(self) -> None:
        """End when nothing is under way."""


@contextmanager
def engaged(engine: Engine, folder: Path) -> Iterator[Submit]:
    """An engine, until the body ends."""
    check_engine(engine.name)
    try:
        host: Host = HOSTS[engine.name](dict(engine.options), folder)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"workers={engine.name}: {' '.join(in_words(error).split())[:300]}") from error
    pump = Pump(host)
    pump.start()
    try:
        yield pump.submit
    except BaseException:
        pump.end()
        host.stop()
        raise
    pump.end()
    host.close()


class Pump(threading.Thread):
    """Gives calls to an engine, and what they gave to whoever waits for it."""

    def __init__(self, host: Host) -> None:
        super().__init__(daemon=True)
        self._host, self._over = host, threading.Event()
        self._waiting = deque[tuple[Call, Future[Any], int]]()
        self._running = dict[Any, list[tuple[Call, Future[Any], int]]]()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """As of an ``Executor``."""
        future: Future[Any] = Future()
        self._waiting.append((Call(function, arguments), future, 0))
        return future

    def end(self) -> None:
        """Take nothing more."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Until it is ended."""
        try:
            while not self._over.wait(LOOK_S):
                self._give()
                self._take()
        except Exception as error:  # of the engine itself
            said = InputError(f"{' '.join(in_words(error).split())[:300]}; finished jobs are safe, the same command goes on")
            for _, future, _ in [*self._waiting, *(one for of_it in self._running.values() for one in of_it)]:
                future.set_exception(said)

    def _give(self) -> None:
        while count := min(self._host.share(len(self._waiting), len(self._running)), len(self._waiting)):
            taken = [self._waiting.popleft() for _ in range(count)]
            self._running[self._host.start([call for call, _, _ in taken])] = taken

    def _take(self) -> None:
        for handle, taken in list(self._running.items()):
            try:
                outcomes = self._host.outcomes(handle)
            except LostError as error:
                del self._running[handle]
                self._lost(taken, error)
                continue
            if outcomes is None:
                continue
            del self._running[handle]
            for (_, future, _), (value, why) in zip(taken, outcomes, strict=True):
                future.set_result(value) if why is None else future.set_exception(why)

    def _lost(self, taken: Sequence[tuple[Call, Future[Any], int]], error: LostError) -> None:
        for call, future, lost in taken:
            if lost < self._host.again:
                self._waiting.appendleft((call, future, lost + 1))
            else:
                future.set_exception(
                    InputError(f"its workers ended by themselves, killed for want of memory or by the code of a policy ({error}); "
                               "the same command goes on")
                )  # fmt: skip


class Joblib:
    """Processes of this machine, by joblib's loky: one that is killed is replaced. options: n_jobs, as joblib counts (-1: all cores)."""

    again = MOST_LOST

    def __init__(self, options: dict[str, Any], folder: Path) -> None:
        from joblib import effective_n_jobs

        n_jobs = options.pop("n_jobs", -1)
        if options or not isinstance(n_jobs, int):
            raise InputError(f"engine.{next(iter(options), 'n_jobs')}: joblib takes n_jobs, a whole number")
        self._place, self._workers = Place.here(), int(effective_n_jobs(n_jobs))

    def _pool(self) -> Any:
        """The pool, or another one where that is broken."""
        from joblib.externals.loky import get_reusable_executor

        return get_reusable_executor(self._workers, timeout=None, initializer=follow, initargs=(os.getpid(),))

    def share(self, waiting: int, running: int) -> int:
        """One at a time, and some to spare: the calls of a pool that breaks are all lost."""
        return 1 if running < 2 * self._workers else 0

    def start(self, calls: Sequence[Call]) -> Any:
        """See `Host`."""
        while True:
            try:
                return self._pool().submit(perform, self._place, list(calls))
            except BrokenProcessPool:  # it breaks just now
                time.sleep(LOOK_S)

    def outcomes(self, handle: Any) -> list[Outcome] | None:
        """See `Host`."""
        if not handle.done():
            return None
        try:
            return handle.result()
        except BrokenProcessPool as error:
            raise LostError(type(error).__name__) from error

    def stop(self) -> None:
        """See `Host`."""
        self._pool().shutdown(wait=True, kill_workers=True)

    close = stop


def follow(parent: int) -> None:
    """In a process of joblib: leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Ray:
    """A cluster: that of ``RAY_ADDRESS``, or one that was started on this machine, or else a new one of this machine alone. Ray gives
    lost calls again by itself. options: of a task, as num_cpus, memory or resources, and address."""

    again = 0

    def __init__(self, options: dict[str, Any], folder: Path) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what a later Ray does, and without a warning
        import ray

        self._ray, address = ray, options.pop("address", None)
        self._own = not ray.is_initialized()
        if self._own:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=False if address is None else None)
        self._task = ray.remote(**({"num_cpus": 1, "max_retries": MOST_LOST} | options))(perform)
        self._place = ray.put(Place.here())
        self._running = dict[Any, Any]()

    def share(self, waiting: int, running: int) -> int:
        """All, one a task."""
        return 1

    def start(self, calls: Sequence[Call]) -> Any:
        """See `Host`."""
        task = self._task.remote(self._place, list(calls))
        handle = task.future()
        self._running[handle] = task
        return handle

    def outcomes(self, handle: Any) -> list[Outcome] | None:
        """See `Host`."""
        if not handle.done():
            return None
        del self._running[handle]
        try:
            return handle.result()
        except self._ray.exceptions.RayError as error:
            raise LostError(type(error).__name__) from error

    def stop(self) -> None:
        """See `Host`."""
        for task in self._running.values():
            with suppress(Exception):
                self._ray.cancel(task, force=True)
        self.close()

    def close(self) -> None:
        """See `Host`."""
        if self._own:
            self._ray.shutdown()


class Slurm:
    """A batch system, by submitit: up to ``tasks`` batch jobs at a time, each with a bundle of calls that gets smaller as the rest
    does, so that the start of a process is paid seldom and the last ones end together. options: tasks, cluster (local: processes of
    this machine), and submitit's parameters, as timeout_min, mem_gb or slurm_partition."""

    again = MOST_LOST

    def __init__(self, options: dict[str, Any], folder: Path) -> None:
        import submitit

        self._submitit, self._place, self._logs = submitit, Place.here(), folder / "slurm"
        cluster, self._tasks = options.pop("cluster", "slurm"), options.pop("tasks", TASKS)
        if not isinstance(self._tasks, int) or self._tasks < 1:
            raise InputError(f"engine.tasks={self._tasks!r}: expected a whole number, at least 1")
        if cluster == "slurm" and shutil.which("srun") is None:
            raise InputError("workers=slurm: no Slurm here (srun is not found); engine.cluster=local plays on this machine")
        self._executor = submitit.AutoExecutor(folder=self._logs, cluster=cluster)
        self._executor.update_parameters(**({"timeout_min": TIMEOUT_MIN, "name": "hvgym"} | options))
        self._running = list[Any]()

    def share(self, waiting: int, running: int) -> int:
        """Half of an equal part, as long as there are free tasks: guided self-scheduling (Polychronopoulos and Kuck, 1987)."""
        return -(-waiting // (2 * self._tasks)) if running < self._tasks else 0

    def start(self, calls: Sequence[Call]) -> Any:
        """See `Host`."""
        job = self._executor.submit(perform, self._place, list(calls))
        self._running.append(job)
        return job

    def outcomes(self, handle: Any) -> list[Outcome] | None:
        """See `Host`."""
        if not handle.done():
            return None
        self._running.remove(handle)
        try:
            found: list[Outcome] = handle.result()
        except (self._submitit.core.utils.UncompletedJobError, self._submitit.core.utils.FailedJobError) as error:
            raise LostError(f"{str(error).splitlines()[0]}; {self._logs} holds what they said") from error
        return found

    def stop(self) -> None:
        """See `Host`."""
        for job in self._running:
            with suppress(Exception):
                job.cancel(check=False)

    def close(self) -> None:
        """See `Host`."""
        shutil.rmtree(self._logs, ignore_errors=True)


TASKS = 16
"""Batch jobs at a time, where nothing is said (a guess)."""

TIMEOUT_MIN = 240
"""Of a batch job, where nothing is said (a guess); one that is ended so has its finished jobs, and the others are given again."""

HOSTS: dict[str, Callable[[dict[str, Any], Path], Host]] = {"joblib": Joblib, "ray": Ray, "slurm": Slurm}
