"""Suites: frozen data that says which scenarios are played, with which seeds, for training, validation and test.

Splits are disjoint by seed range, and for replayed traces by VM (whole correlation clusters) or by time as well
(``envs.fleet.splits``); ``workload.split`` of a scenario is kept. A training run
draws from its own million seeds: those of seed s < `TUNING_BLOCK` begin at s million, the next million is for tuning, then
come a billion for validation and a billion for test, and trainings with larger seeds go on above. The sequence that a lane
goes through is hashed from there over 63 bits (``rng.STREAM_EPISODE``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from hvgym.envs.errors import InputError
from hvgym.envs.rules import Rules
from hvgym.envs.scenario import Scenario, load_group, resolve
from hvgym.envs.schema import build, number

Split = Literal["train", "validation", "test"]

FIRST_SEED: dict[Split, int] = {"train": 0, "validation": 1_000_000_000, "test": 2_000_000_000}
SEEDS_PER_TRAINING = 1_000_000
SEEDS_PER_SPLIT = 1_000_000_000
"""Of validation and test."""

TUNING_BLOCK = 999
"""Which million of training seeds the trials of a tuning play."""

LARGEST_TRAINING_SEED = 2**32 - 1
"""numpy's generator, which Stable-Baselines3 draws minibatches from, takes no larger one."""

MOST_SEEDS = 10_000
"""Episodes of a scenario are one batch; more would not fit into memory (a guess)."""

REPLAYED = ("bitbrains", "history")
"""Workloads that play what real VMs did, so that a split must keep VMs or times apart."""

PART = "-on-"
"""In the name of a suite's settings on other scenarios."""


@dataclass(frozen=True)
class Suite:
    """A frozen set of scenarios and seeds. train_steps replaces the budget that a learner's own YAML gives, rules those of the
    scenarios (``envs.rules``)."""

    name: str
    description: str
    scenarios: tuple[str, ...]
    agents: tuple[str, ...]
    eval_seeds: int = number(least=2, most=MOST_SEEDS)
    validation_seeds: int = number(4, least=1, most=MOST_SEEDS)
    train_seeds: int = number(1, least=1, most=1000)
    train_steps: int | None = number(None, least=1)
    rules: Rules | None = None

    def __post_init__(self) -> None:
        for name, values in (("scenarios", self.scenarios), ("agents", self.agents)):
            if not values or len(set(values)) != len(values):
                raise InputError(f"{name}={list(values)}: expected names, none twice")

    @property
    def whole(self) -> str:
        """The name of the suite of which this may be a part."""
        return self.name.partition(PART)[0]

    def on(self, scenarios: tuple[str, ...]) -> "Suite":
        """Its settings on other scenarios, under a name that says so."""
        return replace(self, name=f"{self.name}{PART}{'-'.join(scenarios)}"[:60], scenarios=scenarios)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Suite":
        """Check plain data."""
        return build(Suite, data, "suite")


def seeds(split: Split, count: int) -> range:
    """The first `count` seeds of a split. Raises `InputError` when it has not so many."""
    if split == "train":
        raise ValueError("trainings and tunings have seeds of their own: training_seed, tuning_seeds")
    return _within(range(FIRST_SEED[split], FIRST_SEED[split] + count), SEEDS_PER_SPLIT)


def tuning_seeds(count: int) -> range:
    """Seeds of the training split that no training draws from. Raises `InputError` when there are not so many."""
    first = FIRST_SEED["train"] + TUNING_BLOCK * SEEDS_PER_TRAINING
    return _within(range(first, first + count), SEEDS_PER_TRAINING)


def _within(found: range, most: int) -> range:
    if len(found) > most:
        raise InputError(f"seeds={len(found)}: at most {most} are kept apart from those of other splits")
    return found


def training_seed(train_seed: int) -> int:
    """First demand seed of a training; lane i draws from this plus i. Raises `InputError` for a seed that is too large."""
    if not 0 <= train_seed <= LARGEST_TRAINING_SEED:
        raise InputError(f"seed={train_seed}: must be at least 0 and at most {LARGEST_TRAINING_SEED}")
    if train_seed < TUNING_BLOCK:
        return FIRST_SEED["train"] + train_seed * SEEDS_PER_TRAINING
    above = FIRST_SEED["test"] + SEEDS_PER_SPLIT
    return above + (train_seed - TUNING_BLOCK) * SEEDS_PER_TRAINING


def scenario_of(name: str, folders: Iterable[str] = (), **replaced: Any) -> Scenario:
    """A packaged scenario by name; `replaced`: hypervisor, workload, disk, nic, rules, stack in place of its own."""
    folders = tuple(folders)
    return resolve(load_group("scenario", name, folders), folders=folders, **replaced)


def split_of(scenario: Scenario, split: Split) -> Scenario:
    """The scenario on one split of replayed VMs, unless it names its own; other demand is split by seed alone."""
    if scenario.workload.kind not in REPLAYED or scenario.workload.split is not None:
        return scenario
    return replace(scenario, workload=replace(scenario.workload, split=split))
