"""How far a study is, from its folder alone: what is finished, runs, waits or was cut off, and how long the rest may take.

It reads, and writes nothing. A job runs when its progress says so and its process is there. Time left is that of the jobs that
run, and of those that wait as long as finished ones of the same agent took, or else of the same kind; it is a guess.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvgym.bench.claims import is_led
from hvgym.bench.jobs import job_file
from hvgym.bench.levels import read_levels
from hvgym.bench.progress import INTERRUPTED, State, file_of, read
from hvgym.bench.protocol import Job, learns
from hvgym.bench.study import read_protocol


@dataclass(frozen=True)
class Standing:
    """Of a study: its jobs by key in the order in which they run, those that are finished, how the others stand that have begun,
    whether a process holds the study, the last error with its time, and the levels of stock and references."""

    jobs: Mapping[str, Job]
    finished: frozenset[str]
    states: Mapping[str, State]
    held: bool
    error: tuple[float, str] | None
    levels: "Levels"

    @property
    def running(self) -> dict[str, State]:
        """Jobs whose process is there."""
        return {key: state for key, state in self._open.items() if state.alive}

    @property
    def workers(self) -> dict[str, int]:
        """How many jobs run on each machine, by its name."""
        return dict(sorted(Counter(str(state.process[1]) for state in self.running.values()).items()))

    @property
    def cut_off(self) -> dict[str, State]:
        """Jobs that had begun and do not run."""
        return {key: state for key, state in self._open.items() if not state.alive and state.steps}

    @property
    def _open(self) -> dict[str, State]:
        return {key: state for key, state in self.states.items() if key not in self.finished}

    def seconds_left(self, now: float) -> float | None:
        """Of all jobs that are not finished, by as many processes as run now."""
        return seconds_left(self.jobs, self.states, self.finished, self.running, now)


class Levels:
    """The goodput of stock and of the reference on the validation seeds of each training, as far as they have been played
    (``levels``): what a validation is looked at beside."""

    def __init__(self, jobs: Mapping[str, Job], folder: Path) -> None:
        self._jobs, self._folder = {key: job for key, job in jobs.items() if learns(job.agent)}, folder

    def of(self, key: str) -> tuple[float | None, float | None]:
        """Of a job: stock, and the reference of its agent; None where it has not been played."""
        if key not in self._jobs:
            return None, None
        job = self._jobs[key]
        found = read_levels(self._folder, job.agent, job.scenario, job.validation_seeds)
        return found.get("stock"), found.get("reference")


def standing(folder: Path) -> Standing:
    """Look at a study's folder. Raises `InputError` where there is none."""
    protocol = read_protocol(folder)
    jobs = {job.key: job for job in protocol.jobs()}
    files = {key: job_file(folder, job) for key, job in jobs.items()}
    finished = frozenset(
        key for key, file in files.items() if file.exists() and file.stat().st_size
    )  # a full disk leaves none
    states = {key: State.of(lines) for key in jobs if (lines := read(file_of(folder, key)))}
    errors = [
        (state.at, f"{jobs[key].name}: {state.error.removeprefix(f'{jobs[key].name}: ')}")
        for key, state in states.items()
        if key not in finished and state.error and state.error != INTERRUPTED
    ]
    return Standing(jobs, finished, states, is_held(folder), max(errors, default=None), Levels(jobs, folder))


def is_held(folder: Path) -> bool:
    """Whether a process works on a study, here or on another machine. Asks for a shared lock for an instant, and writes nothing."""
    import fcntl

    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return is_led(folder)


def seconds_left(
    jobs: Mapping[str, Job],
    states: Mapping[str, State],
    finished: Collection[str],
    running: Mapping[str, State],
    now: float,
) -> float | None:
    """Of the jobs that are not finished; None where nothing tells."""
    took = {key: states[key].at - states[key].began for key in finished if key in states and states[key].over}
    total = 0.0
    for key, job in jobs.items():
        if key in finished:
            continue
        of_it = running[key].seconds_left(now) if key in running else None
        if of_it is None:
            alike = _alike(job, [(jobs[other], seconds) for other, seconds in took.items()])
            if alike is None:
                return None
            of_it = max(alike - (now - running[key].began), 0.0) if key in running else alike
        total += of_it
    return total / max(len(running), 1)


def _alike(job: Job, took: Sequence[tuple[Job, float]]) -> float | None:
    """Mean seconds of finished jobs of the agent, or else of those that learn, or do not, as it does."""
    of_kind = [(other, seconds) for other, seconds in took if learns(other.agent) == learns(job.agent)]
    own = [seconds for other, seconds in of_kind if other.agent["name"] == job.agent["name"]]
    return float(np.mean(own or [seconds for _, seconds in of_kind])) if of_kind else None
