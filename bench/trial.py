"""What a trial of a tuning plays, and its score: the leaderboard's, 0 is stock and 1 the reference of the agent's seat on the
same seeds.

A policy plays a few seeds of every scenario at a time and reports its mean score so far. A learner is trained on one
scenario after the other and reports after each validation of its training, which here plays the same seeds as a
policy does: its score is that of its best networks. All seeds are of the training split; trainings draw from other ones.
"""

import functools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.policy import ClairvoyantPolicy, Policy, declared_by, make_policy
from hvgym.bench import suites
from hvgym.bench.progress import Progress
from hvgym.bench.references import NOTHING_SCORED, SMALLEST_GAP
from hvgym.bench.rollout import rollout
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
    scenarios: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]], split: suites.Split, count: int
) -> list[Ground]:
    """Play the ends of the score, stock and reference, on `count` seeds of a split.

    Scenarios that tell no policies apart are left out, as in the leaderboard; `InputError` when none remains.
    """
    seeds = suites.tuning_seeds(count) if split == "train" else suites.seeds(split, count)
    found = list[Ground]()
    for data in scenarios:
        scenario = suites.split_of(Scenario.from_dict(data), split)
        stock, best = (_end(_text(scenario.to_dict()), _text(agent), seeds) for agent in references)
        gap = float((best - stock).mean())
        if gap >= SMALLEST_GAP:
            found.append(Ground(scenario, seeds, stock, gap))
    if not found:
        raise InputError(NOTHING_SCORED)
    return found


@functools.lru_cache(maxsize=256)
def _end(scenario: str, agent: str, seeds: range) -> np.ndarray:
    """Goodput of an end of the score on each seed. Many agents that are tuned one after another have the same ends, and the
    reference takes longer than many trials: each is played once a process."""
    goodput = rollout(Scenario.from_dict(json.loads(scenario)), make_policy(json.loads(agent)), seeds).goodput
    goodput.setflags(write=False)
    return goodput


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
    from hvgym.agents.learned.training import trainer_of

    trainer = trainer_of(agent)
    return len(places) * trainer.played_steps + trainer.validations * playing


def play(agent: Mapping[str, Any], places: Sequence[Ground], seeds_per_report: int, report: Report) -> float:
    """A policy's trial; returns its score."""
    scores: list[list[float]] = [[] for _ in places]
    seeds, steps = len(places[0].seeds), 0
    for first in range(0, seeds, seeds_per_report):
        part = slice(first, first + seeds_per_report)
        for place, so_far in zip(places, scores, strict=True):
            so_far += place.scores(make_policy(agent), part).tolist()
            steps += place.steps(len(place.seeds[part]))
        report(float(np.mean(scores)), steps, part.stop >= seeds)
    return float(np.mean(scores))


def learn(
    agent: Mapping[str, Any], places: Sequence[Ground], seed: int, folder: Path, report: Report,
    progress: Progress | None = None,
) -> float:  # fmt: skip
    """A learner's trial; returns its score, and leaves networks as `network` says."""
    best, steps = list[float](), 0
    for place in places:

        def so_far(
            score: float, played: int, over: bool, done: tuple[float, ...] = tuple(best), before: int = steps
        ) -> None:
            report(float(np.mean([*done, score])), before + played, over and len(done) == len(places) - 1)

        score, played = _train(agent, place, seed, network(folder, place).parent, so_far, progress)
        best.append(score)
        steps += played
    return float(np.mean(best))


def _train(
    agent: Mapping[str, Any], place: Ground, seed: int, folder: Path, report: Report, progress: Progress | None
) -> tuple[float, int]:
    """Train on one scenario; return the score of the best network and the steps, those of validations included."""
    from hvgym.agents.learned.training import Update, Validation, trainer_of
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


def scores_of(agent: Mapping[str, Any], places: Sequence[Ground], folder: Path) -> dict[str, float]:
    """Mean score on each scenario; a learner's networks are read from its trial's folder."""
    scores = {}
    for place in places:
        checkpoint = {"checkpoint": str(network(folder, place))} if learns(agent) else {}
        scores[place.scenario.name] = float(place.scores(make_policy(agent, **checkpoint)).mean())
    return scores
