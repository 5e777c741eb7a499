"""Searches of densities carried on side by side, in rounds of jobs that are played in this or in other processes.

A search (``density``) says which ratios it needs next from the rows of those before; a job is one agent at one of them and leaves a
file, so what has been played is read and never played again. Of whom and of what the jobs are, ``capacity`` and
``advice_jobs`` say.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Protocol

from hvgym.bench.claims import claims_of, once
from hvgym.bench.density import Curve, FloatArray, Point, Rule, Search
from hvgym.bench.workers import Workers, at_once, crew
from hvgym.envs.errors import InputError


class Climbing(Protocol):
    """A job of a search: at one ratio, of a name for people."""

    @property
    def ratio(self) -> float:
        """Where on the grid."""

    @property
    def key(self) -> str:
        """Of all that determines what happens."""

    @property
    def name(self) -> str:
        """For people."""

    def stored(self, folder: Path) -> Point | None:
        """What it left when it was played before; None where there is nothing."""

    def done(self, folder: Path) -> Point:
        """Play it, and leave its file."""


Played = Callable[[Climbing, Point, float, int], None]
"""Told of each job that is finished: the job, what happened, the counted share that was missed, how many are finished."""


class Climb:
    """One search: rounds of jobs, each following from the rows of those before. name: by which it is known if it fails; job: the
    one at a ratio; taken: misses and kills that do not count."""

    def __init__(
        self, name: str, job: Callable[[float], Climbing], rule: Rule, draws: FloatArray, taken: Point, folder: Path
    ) -> None:
        self.name, self._job, self._rule = name, job, rule
        self._draws, self._taken, self._folder = draws, taken, folder
        self.raw = dict[float, Point]()
        self._open = set[float]()

    @property
    def curve(self) -> Curve:
        """What was played, as it counts."""
        return {ratio: point.minus(self._taken) for ratio, point in self.raw.items()}

    @property
    def search(self) -> Search:
        """As far as it has come."""
        return Search.on(self.curve, self._rule, self._draws)

    def share(self, point: Point) -> float:
        """What of a point counts as missed."""
        return float(point.minus(self._taken).missed_share(self._draws[:1])[0])

    def take(self, job: Climbing, point: Point) -> None:
        """A job of the round is finished."""
        self.raw[job.ratio] = point
        self._open.discard(job.ratio)

    def next_round(self, on_stored: Callable[["Climb", Climbing, Point], None]) -> list[Climbing]:
        """Jobs to play; none while a round is open, or when the search is over. Finished ones are read and passed on."""
        while not self._open and (wanted := self.search.wanted()):
            for job in map(self._job, wanted):
                if (point := job.stored(self._folder)) is None:
                    self._open.add(job.ratio)
                else:
                    self.take(job, point)
                    on_stored(self, job, point)
            if self._open:
                return [self._job(ratio) for ratio in sorted(self._open)]
        return []


class Few:
    """Jobs that are played as they are, beside searches. taken: as of a `Climb`; None where all counts."""

    def __init__(
        self, name: str, jobs: Sequence[Climbing], draws: FloatArray, taken: Point | None, folder: Path
    ) -> None:
        self.name, self._jobs, self._folder = name, list(jobs), folder
        self._draws, self._taken = draws, taken
        self.raw = dict[float, Point]()

    def share(self, point: Point) -> float:
        """What of a point counts as missed."""
        counted = point if self._taken is None else point.minus(self._taken)
        return float(counted.missed_share(self._draws[:1])[0])

    def take(self, job: Climbing, point: Point) -> None:
        """A job is finished."""
        self.raw[job.ratio] = point

    def next_round(self, on_stored: Callable[["Few", Climbing, Point], None]) -> list[Climbing]:
        """All that has not been played, once."""
        jobs, self._jobs = self._jobs, []
        left = list[Climbing]()
        for job in jobs:
            if (point := job.stored(self._folder)) is None:
                left.append(job)
            else:
                self.take(job, point)
                on_stored(self, job, point)
        return left


def climb(climbs: Sequence[Climb | Few], folder: Path, workers: Workers, on_point: Played) -> dict[str, str]:
    """Carry all searches to their ends; returns why some failed, by name."""
    refused, count = dict[str, str](), 0

    def told(one: Climb | Few, job: Climbing, point: Point) -> None:
        nonlocal count
        count += 1
        on_point(job, point, one.share(point), count)

    waiting = deque((one, job) for one in climbs for job in one.next_round(told))
    running = dict[Future[Point], tuple[Climb | Few, Climbing]]()
    with crew(workers, folder, lambda: [job.name for _, job in running.values()]) as submit:
        while waiting or running:
            while waiting and len(running) < at_once(workers):
                one, job = waiting.popleft()
                if one.name not in refused:
                    running[submit(_done, job, folder)] = one, job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                one, job = running.pop(future)
                try:
                    point = future.result()
                except InputError as error:
                    refused.setdefault(one.name, str(error))
                    continue
                one.take(job, point)
                told(one, job, point)
                waiting += [(one, more) for more in one.next_round(told)]
    return refused


def _done(job: Climbing, folder: Path) -> Point:
    """Unless another process has finished the job, or is at it."""
    return once(claims_of(folder), job.key, lambda: job.stored(folder), lambda: job.done(folder))
