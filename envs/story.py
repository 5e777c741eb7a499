"""A story: what a VM's workload holds and touches, written second by second by whoever tells it.

Modelled. Named tiers of memory, each with its own time between touches of a page, share of writes and kind (anonymous or
page cache), and steps that say how large each tier is from a second on; sizes that a step does not name stay as they are.
Memory that leaves one tier at a step goes at once to those of its kind that grow, for it is the same pages used otherwise;
what a tier loses beyond that is freed at once. New memory appears as it is touched for the first time: of a tier whose
pages are touched every tau seconds, the share 1 - exp(-t / tau) of what is new is there after t seconds. A tier with
``fill_mib_per_s`` is written through once at that rate instead, however seldom it is used afterwards.

Nothing is drawn: every seed gives the same demand.

Left out: the curve of new memory is that of a workload at full speed. One that is slowed down touches later; here the next
seconds make up for what a slow one did not get (at most ``growth_mib_per_s`` in one).
"""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.model import params
from hvgym.envs.schema import number


@dataclasses.dataclass(frozen=True)
class StoryTier:
    """A part of a workload's memory. retouch_s: mean time between touches of a page."""

    name: str
    retouch_s: float = number(above=0)
    write_share: float = number(0.3, least=0, most=1)
    page_cache: bool = False
    fill_mib_per_s: float | None = number(None, above=0)


@dataclasses.dataclass(frozen=True)
class StoryStep:
    """From second `at_s` on: sizes of tiers by name, and CPU, disk and network; what is not said stays as it is."""

    at_s: int = number(least=0)
    mib: Mapping[str, float] | None = number(None, least=0)
    cpu_share: float | None = number(None, least=0, most=1)
    disk_mib_per_s: float | None = number(None, least=0)
    net_mib_per_s: float | None = number(None, least=0)


@dataclasses.dataclass(frozen=True)
class Story:
    """Tiers, and steps at rising seconds of which the first is at 0; before a step names it, a tier is empty, disk and
    network rest, and the CPU is at 0.2 of the vCPUs as with other workloads."""

    tiers: tuple[StoryTier, ...]
    steps: tuple[StoryStep, ...]

    def __post_init__(self) -> None:
        names = [tier.name for tier in self.tiers]
        if not 1 <= len(names) <= params.TIERS:
            raise InputError(f"tiers: {len(names)} of them; a story has 1 to {params.TIERS}")
        for i, name in enumerate(names):
            if name in names[:i]:
                raise InputError(f"tiers[{i}].name={name!r}: tiers[{names.index(name)}] has it; give each tier its own")
        if not self.steps:
            raise InputError("steps is empty; a story needs at least one, {at_s: 0, mib: {TIER: SIZE}}")
        if self.steps[0].at_s != 0:
            raise InputError(f"steps[0].at_s={self.steps[0].at_s}: a story begins at 0")
        for i, (before, step) in enumerate(itertools.pairwise(self.steps), start=1):
            if step.at_s <= before.at_s:
                raise InputError(f"steps[{i}].at_s={step.at_s}: must come after steps[{i - 1}].at_s={before.at_s}")
        for i, step in enumerate(self.steps):
            for name in step.mib or {}:
                if name not in names:
                    raise InputError(
                        f"steps[{i}].mib.{name}: unknown tier{nearest(name, names)}; known: {', '.join(names)}"
                    )

    def sizes_mib(self) -> np.ndarray:
        """What tiers are meant to hold from each step on, ``[step, tier]``."""
        sizes = np.zeros((len(self.steps), params.TIERS))
        for i, step in enumerate(self.steps):
            sizes[i] = sizes[max(i - 1, 0)]
            for k, tier in enumerate(self.tiers):
                sizes[i, k] = (step.mib or {}).get(tier.name, sizes[i, k])
        return sizes

    def wanted_mib(self, second: int) -> np.ndarray:
        """What tiers are meant to hold in this second, ``[tier]``."""
        step = max(i for i, step in enumerate(self.steps) if step.at_s <= second)
        return np.asarray(self.sizes_mib()[step])

    def fill(self, demand: np.ndarray) -> None:
        """Write a demand of one slot a second, ``[slot]`` of `params.DEMAND`."""
        is_file = np.array([tier.page_cache for tier in self.tiers] + [False] * (params.TIERS - len(self.tiers)))
        sizes, now_mib = self.sizes_mib(), self.sizes_mib()[0]
        edges = [*(step.at_s for step in self.steps), len(demand)]
        told = {"cpu_share": 0.2, "disk_mib_per_s": 0.0, "net_mib_per_s": 0.0}
        for step, goal_mib, (start, end) in zip(self.steps, sizes, itertools.pairwise(edges), strict=True):
            said = {name: getattr(step, name) for name in told}
            told |= {name: value for name, value in said.items() if value is not None}
            now_mib = _used_otherwise(now_mib, goal_mib, is_file)
            for row in demand[start:end]:
                now_mib = self._grown(now_mib, goal_mib)
                row["tier_mib"] = now_mib
                for name, value in told.items():
                    row[name] = value

    def _grown(self, now_mib: np.ndarray, goal_mib: np.ndarray) -> np.ndarray:
        """Tiers a second later."""
        grown = goal_mib.copy()
        for k, tier in enumerate(self.tiers):
            new_mib = goal_mib[k] - now_mib[k]
            touched_mib = -np.expm1(-1.0 / tier.retouch_s) * new_mib
            grown[k] = now_mib[k] + min(new_mib, touched_mib if tier.fill_mib_per_s is None else tier.fill_mib_per_s)
        return grown


def _used_otherwise(now_mib: np.ndarray, goal_mib: np.ndarray, is_file: np.ndarray) -> np.ndarray:
    """Tiers at the moment of a step, ``[tier]``: those that shrink have, and have fed those of their kind that grow."""
    after = np.minimum(now_mib, goal_mib)
    for kind in (is_file, ~is_file):
        freed, missing = ((now_mib - after) * kind).sum(), (goal_mib - after) * kind
        if missing.sum() > 0.0:
            after = after + missing * min(freed / missing.sum(), 1.0)
    return after
