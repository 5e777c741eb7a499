"""Whether a study's rows come out here as they stand in its folder, to the bit.

A sample of rows is spread over the jobs. An episode does not depend on those that are played beside it, so rows are played alone;
where one differs, its whole job is played as it was, for a policy of somebody's own may mix its episodes. Networks play as they
are; where that is asked for they are trained again, too (``retraining``). Densities: see ``capacity_validate``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import hvgym
from hvgym.bench.identity import code_of, here, sources
from hvgym.bench.jobs import Done
from hvgym.bench.protocol import learns
from hvgym.bench.replay import Difference, differences, play_again
from hvgym.bench.retraining import train_again
from hvgym.bench.workers import Submit, Workers, each
from hvgym.envs.errors import InputError

Sample = list[tuple[Done, tuple[int, ...]]]
"""Jobs with the evaluation seeds that are played again."""


@dataclass(frozen=True)
class Checked:
    """A job of which rows were played again: how many, what differs in them, and why it could not be played where it could not.
    trained: whether its network was trained again, too, and then plays them; apart: what differs in that training, in words."""

    done: Done
    rows: int
    differences: tuple[Difference, ...] = ()
    failed: str = ""
    trained: bool = False
    apart: tuple[str, ...] = ()

    @property
    def wrong_rows(self) -> int:
        """Rows that are not equal."""
        return self.rows if self.failed or self.apart else len({difference.seed for difference in self.differences})


def sample(done: Sequence[Done], rows: int | None, seed: int) -> Sample:
    """So many rows drawn from as many jobs as there are, then from the same ones again; None is all rows."""
    rng = np.random.default_rng(seed)
    order = [done[int(i)] for i in rng.permutation(len(done))]
    drawn = [[int(result.rows[int(i)]["eval_seed"]) for i in rng.permutation(len(result.rows))] for result in order]
    rounds = [(turn, job) for job, seeds in enumerate(drawn) for turn in range(len(seeds))]
    taken: dict[int, list[int]] = {}
    for turn, job in sorted(rounds)[:rows]:
        taken.setdefault(job, []).append(drawn[job][turn])
    return [(order[job], tuple(sorted(seeds))) for job, seeds in taken.items()]


def check_job(done: Done, folder: Path, seeds: Sequence[int]) -> Checked:
    """Play rows of a job again and compare them."""
    try:
        found = differences(done, play_again(done, folder, seeds))
        if found and len(seeds) < len(done.rows):
            seeds = [int(row["eval_seed"]) for row in done.rows]
            found = differences(done, play_again(done, folder, seeds))
    except InputError as error:
        return Checked(done, len(seeds), failed=str(error))
    return Checked(done, len(seeds), tuple(found))


def check_training(done: Done, folder: Path, seeds: Sequence[int], first: Done) -> Checked:
    """Train a learner again, play rows of a job of its with the new network, and compare all of it. first: the job that trained."""
    try:
        apart, found = train_again(done, first, folder, seeds)
    except InputError as error:
        return Checked(done, len(seeds), failed=str(error), trained=True)
    return Checked(done, len(seeds), tuple(found), trained=True, apart=tuple(apart))


def trainings(drawn: Sample, done: Sequence[Done]) -> dict[str, Done]:
    """Which jobs of a sample are to train again, by key, and what trained their networks: one job of each training."""
    by_key, found = {result.job.key: result for result in done}, dict[str, Done]()
    for result, _ in drawn:
        first = by_key.get(result.job.trained_by or result.job.key)
        if learns(result.job.agent) and first is not None and first not in found.values():
            found[result.job.key] = first
    return found


def _call(done: Done, folder: Path, seeds: Sequence[int], firsts: Mapping[str, Done]) -> Callable[[], Checked]:
    first = firsts.get(done.job.key)
    return partial(check_training, done, folder, seeds, first) if first else partial(check_job, done, folder, seeds)


def check_jobs(
    drawn: Sample, folder: Path, workers: Workers, firsts: Mapping[str, Done] | None = None
) -> Iterator[Checked]:
    """The same for all of a sample (``workers``); each as it is finished. firsts: see `trainings`."""

    def give(submit: Submit, one: tuple[Done, tuple[int, ...]]) -> Future[Checked]:
        return submit(_call(one[0], folder, one[1], firsts or {}))

    for _, checked in each(drawn, give, workers, folder, lambda one: one[0].job.name):
        yield checked


def other_here(done: Sequence[Done]) -> list[str]:
    """What is different about this place from those where the rows were made, a line a difference."""
    lines = list[str]()
    for result in done:
        lines += _apart({"hvgym": result.version}, {"hvgym": hvgym.__version__})
        lines += _apart(result.made_on, here())
        lines += _apart(result.job.sources, _sources_here(result))
        name = f"code of {result.job.agent['name']}"
        lines += _apart({name: result.job.code}, {name: code_of(result.job.agent)})
        if not result.made_on:
            lines.append("machine and libraries: not recorded there")
    return list(dict.fromkeys(lines))


def _sources_here(done: Done) -> dict[str, str]:
    try:
        return sources([done.job.scenario])
    except InputError:  # an agent that the hypervisor ships with is not here
        return {}


def _apart(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: {there[key]} there, {here.get(key) or 'nothing'} here" for key in there if there[key] != here.get(key)
    ]
