"""What a learner's training is given and what it leaves; an algorithm of one's own is one `Trainer` and one YAML.

``train: {_target_: module.Class, …}`` in an agent's YAML names the trainer, a frozen dataclass whose fields are the other keys
(without ``_target_`` it is PPO's). The agent's own ``_target_`` names the `Policy` that plays what was trained: it is made with
``checkpoint=FILE``. Nothing here imports torch.
"""

import abc
import dataclasses
import importlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.beside import check_reward, refuse_shadowed
from hvgym.agents.learned.safety import constraint_of
from hvgym.agents.policy import Policy
from hvgym.envs.errors import InputError, in_words
from hvgym.envs.files import write_atomically
from hvgym.envs.reward import reward_of
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario
from hvgym.envs.schema import build

LENGTH = ("total_steps", "validations", "threads")
"""Settings that say when a training ends and on what it runs, and not what it is: one that is given more steps goes on."""

PPO = "hvgym.agents.learned.ppo.PPOTrainer"


@dataclass(frozen=True)
class Validation:
    """One point of the learning curve: environment steps so far, goodput on validation seeds, best goodput so far."""

    steps: int
    score: float
    best: float


@dataclass(frozen=True)
class Update:
    """Environment steps so far, the mean reward of a step since the last one, the loss of the update and the mean entropy of the
    actions; under a constraint its multiplier and the seconds an episode that critical VMs missed (``safety``); NaN where an
    algorithm has none."""

    steps: int
    reward: float
    loss: float
    entropy: float
    multiplier: float = math.nan
    slo_s: float = math.nan


@dataclass(frozen=True)
class Judged:
    """Means of episodes, each ``[seed]``: reward of a step, goodput, and seconds in which critical VMs missed their objective."""

    reward: np.ndarray
    goodput: np.ndarray
    cost_s: np.ndarray


@dataclass(frozen=True)
class Trained:
    """What a training left: the best model, a file ``best.SUFFIX`` in the training's folder, and its learning curve."""

    model: Path
    curve: tuple[Validation, ...]


def _nobody(point: Validation, total: int) -> None:
    """Nobody follows."""


def _no_judge(scenario: Scenario, policy: Policy, seeds: Sequence[int], reward: Mapping[str, Any] | None) -> Judged:
    raise InputError("agent.train: a reward or constraint needs a task that judges by them")


@dataclass(frozen=True)
class Task:
    """A training. scenarios: what it trains on, of the training split; folder: where it works, and goes on if it was there
    before; seed: of all that it draws but demand; first_seed: the first of a million demand seeds that are its own. play: goodput
    ``[seed]`` of a policy on a scenario and seeds, one lane a seed, all in one batch; validate: goodput of a policy on validation
    seeds, mean over scenarios. report: told of each validation, with the number of steps in all; watch: told of every update.
    judge: as play, by a ``reward`` of ``envs.reward`` beside goodput and missed seconds. declaration: of the agent that is
    trained. sources, validation_seeds: digests of code and traces, and by how many seeds it is validated, where nothing else
    holds them to the folder.
    """

    scenarios: tuple[Scenario, ...]
    folder: Path
    seed: int
    first_seed: int
    play: Callable[[Scenario, Policy, Sequence[int]], np.ndarray]
    validate: Callable[[Policy], float]
    report: Callable[[Validation, int], None] = _nobody
    watch: Callable[[Update], None] | None = None
    declaration: Declaration = field(default_factory=Declaration)
    sources: Mapping[str, str] = field(default_factory=dict)
    validation_seeds: int = 0
    judge: Callable[[Scenario, Policy, Sequence[int], Mapping[str, Any] | None], Judged] = _no_judge

    def claim(self, settings: Any) -> bool:
        """Make the folder this training's; `LENGTH` of it may change. Whether it was nobody's. Raises `InputError` when it holds
        another."""
        if self.holds(settings):
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "training.json", json.dumps(self._identity(settings), indent=1))
        return True

    def _identity(self, settings: Any) -> dict[str, Any]:
        """What no other training in the folder may differ in."""
        played: list[Any] = [scenario.to_dict() for scenario in self.scenarios]
        identity: dict[str, Any] = {"scenario": played[0]} if len(played) == 1 else {"scenarios": played}
        lasting = {name: value for name, value in dataclasses.asdict(settings).items() if name not in LENGTH}
        identity |= {"settings": lasting, "seed": self.seed, "first_seed": self.first_seed}
        played_as = "" if self.declaration == Declaration() else _words(self.declaration)
        held = {"declaration": played_as, "sources": dict(self.sources), "validation_seeds": self.validation_seeds}
        plain: dict[str, Any] = json.loads(
            json.dumps(identity | {name: value for name, value in held.items() if value})
        )
        return plain

    def holds(self, settings: Any) -> bool:
        """Whether the folder is this training's already, and not nobody's. It writes nothing. Raises `InputError` when it holds
        another."""
        wanted, path = self._identity(settings), self.folder / "training.json"
        if not path.exists():
            return False
        try:
            found = json.loads(path.read_bytes())
        except ValueError:
            raise InputError(f"{path}: damaged; delete the folder, or name another one") from None
        if found != wanted:
            parts = found.keys() | wanted.keys() if isinstance(found, dict) else ()
            apart = sorted(part for part in parts if found.get(part) != wanted.get(part))
            raise InputError(
                f"{self.folder}: holds a training with other settings ({', '.join(apart)}); name another folder or delete it"
            )
        return True

    def leave(self) -> None:
        """Give the folder back, where nothing has begun in it."""
        (self.folder / "training.json").unlink(missing_ok=True)


def _words(who: Declaration) -> str:
    """A declaration in one line, the same for the same."""
    parts = {name: getattr(who, name) for name in ("seat", "channels", "interfaces")}
    besides = [[channel, sorted(signals)] for channel, signals in who.signals_with]
    kept = {"as_seat": True} if who.as_seat else {}
    return json.dumps(parts | {"signals": who.signals and sorted(who.signals), "signals_with": besides} | kept)


def shared_out(lanes: int, parts: int) -> list[int]:
    """Where the lanes of each of so many scenarios end, as evenly as can be; first 0."""
    ends: list[int] = np.linspace(0, lanes, parts + 1).astype(int).tolist()
    return ends


class Trainer(abc.ABC):
    """An algorithm with its settings: a frozen dataclass with a field for each key of ``train``."""

    total_steps: int
    """Environment steps of a training: decisions of a host."""
    validations: int
    """Points of its learning curve."""

    @property
    def played_steps(self) -> int:
        """Environment steps that it plays in truth, where it plays them in blocks."""
        return self.total_steps

    def check(self, scenarios: Sequence[Scenario]) -> None:  # noqa: B027
        """Raise `InputError` where it cannot train on these; asked before anything is played or written."""

    def check_declared(self, who: Declaration, scenarios: Sequence[Scenario]) -> None:  # noqa: B027
        """Raise `InputError` where it would train what its agent could not play there; asked as `check`."""

    @abc.abstractmethod
    def train(self, task: Task) -> Trained:
        """Train, or go on where the folder holds a part of this training, and end in the same bits as one that was never
        interrupted. Raises `InputError` when the folder belongs to another training, and when the training fails."""


def trainer_of(agent: Mapping[str, Any]) -> Trainer:
    """The trainer that a learner's YAML names. Raises `InputError` that names the key, its value, and what would be right."""
    keys = dict(agent.get("train") or {})
    target = str(keys.pop("_target_", PPO))
    module, _, name = target.rpartition(".")
    refuse_shadowed(module.partition(".")[0], f"agent.train._target_={target!r}")
    try:
        found = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise InputError(f"agent.train._target_={target!r} cannot be loaded ({in_words(error)})") from error
    if not (isinstance(found, type) and issubclass(found, Trainer) and dataclasses.is_dataclass(found)):
        raise InputError(
            f"agent.train._target_={target!r} is no Trainer (agents/learned/training.py): a dataclass that is one"
        )
    trainer: Trainer = build(found, keys, "agent.train")
    check_reward(reward := getattr(trainer, "reward", None), "agent.train.reward")
    reward_of(reward, "agent.train.reward")
    constraint_of(getattr(trainer, "constraint", None))
    return trainer
