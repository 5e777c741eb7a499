"""Suites: frozen data that says which scenarios are played, with which seeds, for training, validation and test.

Splits are disjoint by seed range, and for replayed traces by VM as well (whole correlation clusters). A training run
draws from its own million seeds; the sequence that a lane goes through is hashed from there (``rng.STREAM_EPISODE``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Scenario, load_group, resolve
from hvgym.envs.schema import build, number

Split = Literal["train", "validation", "test"]

FIRST_SEED: dict[Split, int] = {"train": 0, "validation": 1_000_000_000, "test": 2_000_000_000}
SEEDS_PER_TRAINING = 1_000_000

MOST_SEEDS = 10_000
"""Episodes of a scenario are one batch; more would not fit into memory (a guess)."""

REFERENCES = ("static", "oracle")
"""Always played: the score is measured between them."""


@dataclass(frozen=True)
class Suite:
    """A frozen set of scenarios and seeds. train_steps replaces the budget that a learner's own YAML gives."""

    name: str
    description: str
    scenarios: tuple[str, ...]
    agents: tuple[str, ...]
    eval_seeds: int = number(least=2, most=MOST_SEEDS)
    validation_seeds: int = number(4, least=1, most=MOST_SEEDS)
    train_seeds: int = number(1, least=1, most=1000)
    train_steps: int | None = number(None, least=1)

    def __post_init__(self) -> None:
        for name, values in (("scenarios", self.scenarios), ("agents", self.agents)):
            if not values or len(set(values)) != len(values):
                raise InputError(f"{name}={list(values)}: expected names, none twice")

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Suite":
        """Check plain data."""
        return build(Suite, data, "suite")


def seeds(split: Split, count: int) -> range:
    """The first `count` seeds of a split."""
    return range(FIRST_SEED[split], FIRST_SEED[split] + count)


def training_seed(train_seed: int) -> int:
    """First demand seed of a training; lane i draws from this plus i."""
    return FIRST_SEED["train"] + train_seed * SEEDS_PER_TRAINING


def scenario_of(name: str, folders: Iterable[str] = (), **replaced: Mapping[str, Any] | None) -> Scenario:
    """A packaged scenario by name; `replaced`: hypervisor, workload, disk, nic in place of its own, where not None."""
    folders = tuple(folders)
    return resolve(load_group("scenario", name, folders), folders=folders, **replaced)


def split_of(scenario: Scenario, split: Split) -> Scenario:
    """The scenario on the VMs of one split; synthetic demand is split by seed alone."""
    if scenario.workload.kind == "phases":
        return scenario
    return replace(scenario, workload=replace(scenario.workload, split=split))
