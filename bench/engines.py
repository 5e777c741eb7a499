"""Engines that have jobs played elsewhere: joblib (processes of this machine), ray (a cluster), slurm (a batch system, by
submitit).

An engine decides where and when a job is played (``pump``). Left out: copying of files; the folder of runs is on every machine
under the same path.
"""

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hvgym.bench.pump import LOOK_S, MOST_LOST, Call, Host, LostError, Outcome, Place, Pump, perform
from hvgym.bench.workers import Engine, Submit, check_engine
from hvgym.envs.errors import InputError, in_words


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


class Joblib:
    """Processes of this machine, by joblib's loky: those of a pool in which one was killed are replaced. options: n_jobs, as joblib
    counts (-1: all cores)."""

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
    """A cluster: that of ``RAY_ADDRESS``, or one that was started on this machine, or else a new one of this machine alone. Ray
    gives lost calls again by itself. options: of a task, as num_cpus, memory or resources, and address."""

    again = 0

    def __init__(self, options: dict[str, Any], folder: Path) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what a later Ray does, and without a warning
        import ray

        self._ray, address = ray, options.pop("address", None)
        self._own = not ray.is_initialized()
        if self._own:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
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
            raise InputError(
                "workers=slurm: no Slurm here (srun is not found); engine.cluster=local plays on this machine"
            )
        self._executor = submitit.AutoExecutor(folder=self._logs, cluster=cluster)
        self._executor.update_parameters(**({"timeout_min": TIMEOUT_MIN, "name": "hvgym"} | options))
        self._running, self._local = list[Any](), cluster == "local"

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
        until = time.monotonic() + PATIENCE_S
        while self._local and time.monotonic() < until and not all(job.done() for job in self._running):
            time.sleep(LOOK_S)

    def close(self) -> None:
        """See `Host`."""
        shutil.rmtree(self._logs, ignore_errors=True)


TASKS = 16
"""Batch jobs at a time, where nothing is said (a guess)."""

PATIENCE_S = 10.0
"""For processes of this machine that were told to end; submitit kills them after a second."""

TIMEOUT_MIN = 240
"""Of a batch job, where nothing is said (a guess); one that is ended so has its finished jobs, and the others are given again."""

HOSTS: dict[str, Callable[[dict[str, Any], Path], Host]] = {"joblib": Joblib, "ray": Ray, "slurm": Slurm}
