"""How a learner is trained here, whether by ``train``, ``bench`` or ``tune``: what it may play, and by what it is validated."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.learned.episodes import ended
from hvgym.agents.learned.training import Judged, Task, Trained, Trainer, Update, Validation
from hvgym.agents.policy import Policy
from hvgym.agents.stock import beneath
from hvgym.bench import suites
from hvgym.bench.rollout import goodput_of, rollout
from hvgym.envs.conservation import fault
from hvgym.envs.errors import InputError
from hvgym.envs.rewarding import Follower
from hvgym.envs.rules import Declaration, check_played
from hvgym.envs.scenario import Scenario


def validation_of(scenarios: Sequence[Scenario], seeds: int, agent: str) -> Callable[[Policy], float]:
    """Goodput of a policy on so many validation seeds, mean over the scenarios."""
    apart = [suites.split_of(scenario, "validation") for scenario in scenarios]

    def validate(policy: Policy) -> float:
        played = (goodput(one, policy, suites.seeds("validation", seeds), agent) for one in apart)
        return float(np.mean([each.mean() for each in played]))

    return validate


def goodput(scenario: Scenario, policy: Policy, seeds: Sequence[int], agent: str) -> np.ndarray:
    """Goodput ``[seed]`` of a policy, in one compiled call where it can be played so, with the same result. Raises `InputError` as
    `rollout`."""
    check_played(policy.declaration, scenario, agent)
    sim = ended(scenario, policy, seeds)
    if sim is None:
        return rollout(scenario, policy, seeds, agent=agent, apart=False).goodput
    if found := fault(sim):
        lane, what = found
        raise InputError(
            f"agent {agent}, scenario {scenario.name}, seed {seeds[lane]}: the state of the host does not hold: {what}"
        )
    return goodput_of(sim)


def task_of(
    scenarios: Sequence[Scenario], folder: Path, seed: int, agent: str, validate: Callable[[Policy], float],
    report: Callable[[Validation, int], None], watch: Callable[[Update], None] | None = None,
    sources: Mapping[str, str] | None = None, validation_seeds: int = 0, declaration: Declaration | None = None,
) -> Task:  # fmt: skip
    """A training of an agent on scenarios, of their training split; sources, validation_seeds, declaration: see `Task`. Raises
    `InputError` for a seed that is too large."""

    def play(scenario: Scenario, policy: Policy, seeds: Sequence[int]) -> np.ndarray:
        return goodput(scenario, policy, seeds, agent)

    def judge(scenario: Scenario, policy: Policy, seeds: Sequence[int], reward: Mapping[str, Any] | None) -> Judged:
        follower = Follower(reward, seeds, beneath) if reward is not None else None
        followed = None if follower is None else follower.watch
        played = rollout(scenario, policy, seeds, followed, agent=agent, apart=False)
        return Judged(played.goodput if follower is None else follower.mean(), played.goodput, played.cost)

    return Task(
        tuple(suites.split_of(scenario, "train") for scenario in scenarios), folder, seed, suites.training_seed(seed), play,
        validate, report, watch, declaration or Declaration(), dict(sources or {}), validation_seeds, judge,
    )  # fmt: skip


def train(trainer: Trainer, task: Task) -> Trained:
    """Train. Raises `InputError` also where a trainer of one's own leaves something else than `Trained` says."""
    trained = trainer.train(task)
    who = f"{type(trainer).__module__}.{type(trainer).__name__}.train"
    if not isinstance(trained, Trained) or not trained.curve:
        raise InputError(
            f"{who}: left {type(trained).__name__}; expected Trained(model, curve), a point for each validation"
        )
    model = Path(trained.model)
    if not (model.stem == "best" and model.parent.resolve() == task.folder.resolve() and model.is_file()):
        raise InputError(f"{who}: its model is {model}; expected a file best.SUFFIX in {task.folder}")
    return trained
