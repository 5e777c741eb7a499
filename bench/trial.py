"""What a trial of a tuning plays, and its score: the leaderboard's, 0 is stock and 1 the reference of the agent's seat on the
same seeds.

A policy plays a few seeds of every scenario at a time and reports its mean score so far. A learner is trained on one
scenario after the other and reports after each validation of its training, which here plays the same seeds as a
policy does: its score is that of its best networks. All seeds are of the training split; trainings draw from other ones.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.learned.training import trainer_of
from hvgym.agents.policy import ClairvoyantPolicy, Policy, declared_by, make_policy
from hvgym.bench import score_ends, suites
from hvgym.bench.claims import claims_of, held
from hvgym.bench.progress import Progress, file_of
from hvgym.bench.references import NOTHING_SCORED, SMALLEST_GAP
from hvgym.bench.rollout import rollout
from hvgym.bench.workers import Submit, called
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Scenario

Report = Callable[[float, int, bool], None]
"""Takes the score so far, the environment steps so far, and whether the trial is over; may raise to stop it."""


@dataclass(frozen=True)
class Ground:
    """A scenario on seeds of one split, with what stock got there ``[seed]`` and what the reference gains on average."""

    scenario: Scenario
    seeds: range
    stock: np.ndarray
    gap: float

    def scores(self, policy: Policy | ClairvoyantPolicy, part: slice = slice(None)) -> np.ndarray:
        """The score on each seed."""
        return np.asarray((rollout(self.scenario, policy, self.seeds[part]).goodput - self.stock[part]) / self.gap)

    def steps(self, seeds: int) -> int:
        """Environment steps of an episode on each of so many seeds."""
        return seeds * (self.scenario.duration_s // self.scenario.control_interval_s)


def grounds(
    scenarios: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]], split: suites.Split, count: int, kept: Path,
    watched: Path, submit: Submit | None = None,
) -> list[Ground]:  # fmt: skip
    """Play the ends of the score, stock and reference, on `count` seeds of a split, as far as they are not there yet
    (``score_ends``, with kept and watched). submit: of a crew that plays them.

    Scenarios that tell no policies apart are left out, as in the leaderboard; `InputError` when none remains.
    """
    seeds = suites.tuning_seeds(count) if split == "train" else suites.seeds(split, count)
    apart, found = [suites.split_of(Scenario.from_dict(data), split) for data in scenarios], list[Ground]()
    wanted = [
        (_text(scenario.to_dict()), _text(agent), seeds, kept, watched) for agent in references for scenario in apart
    ]
    goodput = called(submit, score_ends.goodput, wanted)
    for scenario, stock, best in zip(apart, goodput[: len(apart)], goodput[len(apart) :], strict=True):
        gap = float((best - stock).mean())
        if gap >= SMALLEST_GAP:
            found.append(Ground(scenario, seeds, stock, gap))
    if not found:
        raise InputError(NOTHING_SCORED)
    return found


def _text(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


def learns(agent: Mapping[str, Any]) -> bool:
    """Whether a trial of this agent is a training."""
    return bool(agent.get("train"))


def cost(agent: Mapping[str, Any], places: Sequence[Ground]) -> int:
    """Environment steps of a trial that is not stopped, trainings included."""
    playing = sum(place.steps(len(place.seeds)) for place in places)
    if not learns(agent):
        return playing
    trainer = trainer_of(agent)
    return len(places) * trainer.played_steps + trainer.validations * playing


def play(
    agent: Mapping[str, Any],
    places: Sequence[Ground],
    seeds_per_report: int,
    report: Report,
    submit: Submit | None = None,
) -> float:
    """A policy's trial; returns its score. submit: of a crew that plays the scenarios side by side."""
    scores: list[list[float]] = [[] for _ in places]
    seeds, steps = len(places[0].seeds), 0
    for first in range(0, seeds, seeds_per_report):
        part = slice(first, first + seeds_per_report)
        played = called(submit, _scores, [(agent, place, part) for place in places])
        for place, so_far, more in zip(places, scores, played, strict=True):
            so_far += more
            steps += place.steps(len(place.seeds[part]))
        report(float(np.mean(scores)), steps, part.stop >= seeds)
    return float(np.mean(scores))


def _scores(agent: Mapping[str, Any], place: Ground, part: slice) -> list[float]:
    found: list[float] = place.scores(make_policy(agent), part).tolist()
    return found


def learn(
    agent: Mapping[str, Any], places: Sequence[Ground], seed: int, folder: Path, report: Report,
    progress: Progress | None = None, submit: Submit | None = None,
) -> float:  # fmt: skip
    """A learner's trial; returns its score, and leaves networks as `network` says. submit: of a crew that trains on all scenarios
    side by side; their reports then come afterwards in the same order, and what is stopped has been trained in vain."""
    best, steps = list[float](), 0
    apart = [submit(_train_apart, agent, place, seed, folder) for place in places] if submit else [None] * len(places)
    for place, future in zip(places, apart, strict=True):

        def so_far(
            score: float, played: int, over: bool, done: tuple[float, ...] = tuple(best), before: int = steps
        ) -> None:
            report(float(np.mean([*done, score])), before + played, over and len(done) == len(places) - 1)

        if future is None:
            score, played = _train(agent, place, seed, network(folder, place).parent, so_far, progress)
        else:
            score, played = _told_again(future, apart, so_far)
        best.append(score)
        steps += played
    return float(np.mean(best))


Told = list[tuple[float, int, bool]]


def _train_apart(agent: Mapping[str, Any], place: Ground, seed: int, folder: Path) -> tuple[float, int, Told]:
    """In another process: train on one scenario, and keep what is to be reported. Its progress lies beside that of the trial.

    A worker that was lost may have left a checkpoint: what it had reported is not in that, so it is trained from the start.
    """
    told, name, place_of = Told(), f"{folder.name}-{place.scenario.name}", network(folder, place).parent
    title, total = f"{folder.name} on {place.scenario.name}", trainer_of(agent).total_steps

    def keep(score: float, steps: int, over: bool) -> None:
        told.append((score, steps, over))

    with (
        held(claims_of(folder.parent), name, lambda: False),
        Progress(file_of(folder.parent, name), title, total) as progress,
    ):
        shutil.rmtree(place_of, ignore_errors=True)
        score, played = _train(agent, place, seed, place_of, keep, progress)
    return score, played, told


def _told_again(future: Future[Any], others: Sequence[Future[Any] | None], report: Report) -> tuple[float, int]:
    """Report what a training in another process has told. Where that stops the trial, all of its trainings end first: its folder is
    about to be removed."""
    score, played, told = future.result()
    try:
        for point in told:
            report(*point)
    except Exception:
        wait([one for one in others if one is not None and not one.cancel()])
        raise
    return score, played


def _train(
    agent: Mapping[str, Any], place: Ground, seed: int, folder: Path, report: Report, progress: Progress | None
) -> tuple[float, int]:
    """Train on one scenario; return the score of the best network and the steps, those of validations included."""
    from hvgym.agents.learned.training import Update, Validation
    from hvgym.bench.training import task_of, train

    points = list[Validation]()

    def steps() -> int:
        return points[-1].steps + len(points) * place.steps(len(place.seeds))

    def on_point(point: Validation, total: int) -> None:
        points.append(point)
        if progress:
            progress.validated(point.steps, total, score=point.score)
        report(point.best, steps(), point.steps >= total)

    def on_update(update: Update) -> None:
        if progress:
            progress.trained(total=trainer.total_steps, **asdict(update))

    trainer, name = trainer_of(agent), str(agent["name"])
    validate = lambda policy: float(place.scores(policy).mean())  # noqa: E731
    who = declared_by(agent)
    train(trainer, task_of([place.scenario], folder, seed, name, validate, on_point, on_update, declaration=who))
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    return points[-1].best, steps()


def network(folder: Path, place: Ground) -> Path:
    """Where a trial's folder has the best network of a scenario; as PPO calls it where there is none yet."""
    found = sorted((folder / place.scenario.name).glob("best.*"))
    return found[0] if found else folder / place.scenario.name / "best.zip"


def scores_of(agent: Mapping[str, Any], place: Ground, folder: Path) -> float:
    """Mean score on a scenario; a learner's network is read from its trial's folder."""
    checkpoint = {"checkpoint": str(network(folder, place))} if learns(agent) else {}
    return float(place.scores(make_policy(agent, **checkpoint)).mean())
