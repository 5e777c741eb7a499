"""What all learners of Stable-Baselines3 share here: one network for all VMs, hosts in batches, checkpoints, validation.

A learner decides every `period_s`, on one scenario or on several at once. The best network by validation score, on seeds that
training never draws, is what training returns. A training that was killed goes on where it stopped (``checkpoints``) and ends
in the same bits as one that was not.
"""

import abc
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hvgym.agents.learned import checkpoints, network
from hvgym.agents.learned.safety import Lagrangian, constraint_of
from hvgym.agents.learned.seeing import HOST, VM, Acting
from hvgym.agents.learned.training import Task, Trained, Trainer, Update, Validation
from hvgym.envs import offers
from hvgym.envs.actions import KEYS
from hvgym.envs.errors import InputError, in_words
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario
from hvgym.envs.schema import number

OFF_POLICY = 32
"""Decisions between two changes of a constraint's multiplier: PPO's rollout."""


@dataclass(frozen=True)
class SB3Trainer(Trainer):
    """Keys of ``train`` that these learners share. total_steps: decisions of a host; envs: hosts at once; action, step, channels:
    how answers are read (``envs.actions``); visibility: the profile whose signals it reads (``envs.telemetry``); width, attention:
    of the network (``shared``); start: a ``best.zip`` whose weights it begins with; initial_action: without one, before anything is
    learnt; stagger: see ``vec_env``."""

    total_steps: int = number(1_000_000, least=1)
    envs: int = number(64, least=1, most=1_000_000)
    threads: int = number(1, least=1)
    period_s: float = number(10.0, least=1)
    action: Literal["relative", "absolute", "water_filling"] = "relative"
    step: float = number(0.1, above=0, most=1)
    width: int = number(32, least=0, most=4096)
    attention: bool = False
    visibility: Literal["P0", "P1", "P2", "P3", "P4"] = "P1"
    channels: tuple[str, ...] = ("memory",)
    start: str | None = None
    initial_action: float = number(0.2, least=-1, most=1)
    learning_rate: float = number(3e-4, above=0)
    gamma: float = number(0.98, above=0, most=1)
    stagger: bool = True
    validations: int = number(10, least=1)
    reward: Mapping[str, Any] | None = None
    constraint: Mapping[str, Any] | None = None

    @abc.abstractmethod
    def model(self, env: Any, seed: int) -> Any:
        """A fresh model of Stable-Baselines3 on these hosts."""

    @property
    @abc.abstractmethod
    def algorithm(self) -> Any:
        """Its class."""

    @property
    def at_once(self) -> int:
        """Steps that it plays at least before it can stop."""
        return self.envs

    @property
    def decisions_between(self) -> int:
        """How many decisions of each host a constraint's multiplier stands still."""
        return OFF_POLICY

    @property
    def played_steps(self) -> int:
        """See `Trainer`: whole rollouts are played."""
        return self.at_once * -(-self.total_steps // self.at_once)

    @property
    def acting(self) -> Acting:
        """How its actions are read."""
        return Acting(self.action, self.step, self.channels)

    def network_of(self, env: Any) -> dict[str, Any]:
        """Arguments of a policy of ``policies``."""
        layout = (HOST, VM, env.vms, self.acting.answers)
        return {"layout": layout, "width": self.width, "attention": self.attention, "start": self.initial_action}

    def hosts(self, scenarios: Sequence[Scenario]) -> int:
        """How many it plays at once."""
        return self.envs

    def check(self, scenarios: Sequence[Scenario]) -> None:
        """See `Trainer`."""
        if self.hosts(scenarios) < len(scenarios):
            raise InputError(f"agent.train.envs={self.envs}: at least one for each of {len(scenarios)} scenarios")
        check_period(self.period_s, scenarios)
        self.acting  # noqa: B018 - its channels are checked
        if self.start is not None and not Path(self.start).is_file():
            raise InputError(f"agent.train.start={self.start}: no such file; name the best.zip of another training")

    def check_declared(self, who: Declaration, scenarios: Sequence[Scenario]) -> None:
        """See `Trainer`."""
        check_signals(who, scenarios)
        for key in self.channels if any(scenario.rules != "open" for scenario in scenarios) else ():
            if who.channels is not None and KEYS[key] not in who.channels:
                raise InputError(
                    f"agent.train.channels: {key!r} sets {KEYS[key]}, which agent.channels lacks; add it there"
                )
        check_settable(who, self.acting, scenarios)

    def train(self, task: Task) -> Trained:
        """See `Trainer`."""
        import torch
        from stable_baselines3.common.logger import Logger

        self.check(task.scenarios)
        self.check_declared(task.declaration, task.scenarios)
        torch.set_num_threads(1)  # faster than two for small networks, and the sum order is fixed
        fresh = task.claim(self)
        try:
            model, curve = checkpoints.restore(task.folder, self.algorithm) or (self._begin(task), [])
        except InputError:
            if fresh:
                task.leave()
            raise
        model.set_logger(
            Logger(folder=None, output_formats=[])
        )  # SB3's own would leave a folder in /tmp for each stage
        every = -(-self.total_steps // self.validations)
        if self.start is not None and not curve:  # what it begins with is the best until another is better
            self._validated(model, curve, task)
        while not curve or curve[-1].steps < self.total_steps:
            # a rollout may go beyond several goals: a network is validated once, at the last one that it passed
            goal = min(every * (model.num_timesteps // every + 1), self.total_steps)
            _learn(model, goal - model.num_timesteps, task.seed, task.watch)
            self._validated(model, curve, task)
        return Trained(task.folder / "best.zip", tuple(curve))

    def _begin(self, task: Task) -> Any:
        import torch

        from hvgym.agents.learned.vec_env import HostVecEnv

        paced = [replace(scenario, control_interval_s=int(self.period_s)) for scenario in task.scenarios]
        hosts = self.hosts(task.scenarios)
        env = HostVecEnv(
            paced,
            hosts,
            self.acting,
            task.first_seed,
            self.threads,
            self.stagger,
            self.reward,
            self._lagrangian(paced),
            task.declaration,
            self.visibility,
        )
        try:
            pickle.dumps(env)  # as checkpoints do, with the reward in it
        except Exception as error:
            raise InputError(
                f"agent.train.reward: cannot be kept in a checkpoint ({in_words(error)}); keep no lambda, open file or lock in it"
            ) from None
        model = self.model(env, task.seed)
        if self.start is not None:
            network.begin_with(Path(self.start), model.policy, self.acting)
            if hasattr(model, "weights"):  # ARS searches around these, which it read from the policy as it was made
                model.weights = torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach()
        model.first_seed = task.first_seed
        env.seed(task.first_seed)
        model._last_obs = env.reset()
        model._last_episode_starts = np.ones(hosts, dtype=bool)
        return model

    def _lagrangian(self, scenarios: Sequence[Scenario]) -> Lagrangian | None:
        """Whose multiplier moves after `decisions_between`."""
        constraint = constraint_of(self.constraint)
        if constraint is None:
            return None
        episode_s = sum(scenario.duration_s for scenario in scenarios) / len(scenarios)
        return Lagrangian(constraint, episode_s, self.decisions_between)

    def _validated(self, model: Any, curve: list[Validation], task: Task) -> None:
        """Score the network, and keep it when it is the best so far, with all that the training goes on from."""
        candidate = task.folder / "candidate.zip"
        made = {"trained_on": [one.name for one in task.scenarios], "seed": task.seed, "steps": model.num_timesteps}
        network.save(model, candidate, self.acting, self.period_s, made, self.visibility)
        curve.append(keep_best(candidate, model.num_timesteps, curve, task))
        checkpoints.save(task.folder, model, curve)
        task.report(curve[-1], self.total_steps)


def check_period(period_s: float, scenarios: Sequence[Scenario]) -> None:
    """Raise `InputError` where episodes are no whole number of periods."""
    for scenario in scenarios:
        if period_s != int(period_s) or scenario.duration_s % int(period_s):
            raise InputError(
                f"agent.train.period_s={period_s:g}: {scenario.name} has episodes of {scenario.duration_s} s; "
                "expected a whole number of seconds that divides it"
            )


def check_signals(who: Declaration, scenarios: Sequence[Scenario]) -> None:
    """Raise `InputError` where a network would be trained on more than it could read when it plays."""
    if who.as_seat and any(scenario.rules == "open" for scenario in scenarios):
        raise InputError(
            "agent.signals='seat': hosts under open rules show a learner everything; train with rules=default"
        )


def check_settable(who: Declaration, acting: Acting, scenarios: Sequence[Scenario]) -> None:
    """Raise `InputError` for a cluster, and where its seat has nothing that actions would set."""
    for scenario in scenarios:
        offers.check_alone(scenario)
        offers.chosen(scenario, who.seat, acting.channels)


def keep_best(candidate: Path, steps: int, curve: list[Validation], task: Task) -> Validation:
    """Score a network in a file, and make it the best one when it is."""
    policy = network.SharedNetwork(candidate)
    policy.declaration = task.declaration
    score = task.validate(policy)
    best = max((point.best for point in curve), default=-np.inf)
    if score > best:
        os.replace(candidate, task.folder / "best.zip")
    else:
        candidate.unlink()
    return Validation(steps, score, max(score, best))


def _learn(model: Any, steps: int, seed: int, watch: Callable[[Update], None] | None) -> None:
    """Train on. Raises `InputError` when weights or answers of the network are no longer finite numbers."""
    from hvgym.agents.learned.updates import Updates

    try:
        model.learn(steps, Updates(watch) if watch else None, reset_num_timesteps=False, progress_bar=False)
        finite = all(bool(tensor.isfinite().all()) for tensor in model.policy.state_dict().values())
    except ValueError as error:
        if not str(error).startswith("Expected parameter "):  # torch's, of a distribution that cannot be drawn from
            raise
        finite = False
    if not finite:
        raise InputError(
            f"the training with seed {seed} diverged by step {model.num_timesteps}: the network is no longer made of finite "
            "numbers; lower agent.train.learning_rate"
        ) from None
