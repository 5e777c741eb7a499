"""Suites: frozen data that says which scenarios are played, with which seeds, for training, validation and test.

Splits are disjoint by seed range, and for replayed traces by time, and by VM (whole correlation clusters) where there are enough
(``envs.fleet.splits``); ``workload.split`` of a scenario is kept. A training run
draws from its own million seeds: those of seed s < `TUNING_BLOCK` begin at s million, the next million is for tuning, then
come a billion for validation and a billion for test, and trainings with larger seeds go on above. The sequence that a lane
goes through is hashed from there over 63 bits (``rng.STREAM_EPISODE``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
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

NO_PART_OF_IT = ("agents", "description", "real", "traces")
"""Of a suite's fields, what does not identify a study: agents may be added, and the last two say which scenarios there are."""

PART = "-on-"
"""In the name of a suite's settings on other scenarios."""


@dataclass(frozen=True)
class Real:
    """A packaged scenario on which VMs of GWA-T-12 files take the place of its own. overcommit_scale and episode_s are in the
    place of those of ``conf/workload/bitbrains.yaml``, swap_share of the scenario's own: fuller hosts need more swap."""

    scenario: str
    overcommit_scale: float = number(above=0)
    episode_s: int | None = number(None, least=1)
    swap_share: float | None = number(None, least=0)

    @property
    def name(self) -> str:
        """Of the scenario that it makes."""
        return f"{self.scenario}-real"


@dataclass(frozen=True)
class Suite:
    """A frozen set of scenarios and seeds. train_steps replaces the budget that a learner's own YAML gives, rules those of the
    scenarios (``envs.rules``). real: scenarios beside them where the user has files; traces: the folder of these. Both say what is
    played and are no part of a study's identity, which has the scenarios that follow."""

    name: str
    description: str
    scenarios: tuple[str, ...]
    agents: tuple[str, ...]
    eval_seeds: int = number(least=2, most=MOST_SEEDS)
    validation_seeds: int = number(4, least=1, most=MOST_SEEDS)
    train_seeds: int = number(1, least=1, most=1000)
    train_steps: int | None = number(None, least=1)
    rules: Rules | None = None
    real: tuple[Real, ...] = ()
    traces: str | None = None

    def __post_init__(self) -> None:
        for name, values in (("scenarios", self.scenarios), ("agents", self.agents)):
            none = not values and not (name == "scenarios" and self.traces)
            if none or len(set(values)) != len(values):
                raise InputError(f"{name}={list(values)}: expected names, none twice")
        if self.traces and not self.real:
            raise InputError(
                f"traces={self.traces}: suite {self.name} has no part for traces; workload=bitbrains workload.path="
                f"{self.traces} plays all of its scenarios with them"
            )

    def real_scenarios(self, folders: Iterable[str] = (), **replaced: Any) -> list[Scenario]:
        """Those of real VMs, where there are files; `replaced` as in `scenario_of`."""
        if self.traces is None:
            return []
        folders = tuple(folders)
        path = str(Path(self.traces).expanduser().resolve())
        found = list[Scenario]()
        for one in self.real:
            work = load_group("workload", "bitbrains", folders) | {
                "path": path,
                "overcommit_scale": one.overcommit_scale,
            }
            work |= {} if one.episode_s is None else {"episode_s": one.episode_s}
            data = load_group("scenario", one.scenario, folders) | {"name": one.name}
            if one.swap_share is not None:
                data["host"] = data["host"] | {"swap_share": one.swap_share}
            found.append(resolve(data, folders=folders, **replaced | {"workload": work}))
        return found

    @property
    def left_out(self) -> str:
        """A line on what is left out for want of files; "" where nothing is."""
        if self.traces is not None or not self.real:
            return ""
        names = ", ".join(one.name for one in self.real)
        return f"suite {self.name}: left out for want of real VMs: {names}; suite.traces=DIR names a folder of GWA-T-12 files"

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
