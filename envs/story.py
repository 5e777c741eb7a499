"""A story: what a VM's workload holds and touches, written second by second by whoever tells it.

Modelled. Named tiers of memory, each with its own time between touches of a page, share of writes and kind (anonymous or
page cache), and steps that say how large each tier is from a second on; sizes that a step does not name stay as they are.
Memory that leaves one tier at a step goes at once to those of its kind that grow, for it is the same pages used otherwise;
what a tier loses beyond that is freed at once. New memory appears as it is used: page cache as it is read, anonymous memory as
it is written for the first time, for until then the kernel shows one page of zeros in all its places. Of a tier whose pages are
touched every tau seconds, a share w of it writes, 1 - exp(-w / tau) of what is missing appears in each second of progress; so of
what is new the share 1 - exp(-w t / tau) is there after t seconds, and later where the workload is slowed down. A tier with
``fill_mib_per_s`` is written through once at that rate instead, however seldom it is used afterwards; so an anonymous tier that
grows needs one of the two, writes or a rate.

Nothing is drawn: every seed gives the same demand.

Left out: a slow workload does not put a rate of filling off; the next seconds make up for what it did not get (at most
``growth_mib_per_s`` in one).
"""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.model import params
from hvgym.envs.schema import number

CPU_SHARE = 0.2
"""Of the vCPUs, where a story does not say: what `Demand` has."""


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
    network rest, and the CPU is at `CPU_SHARE`."""

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

    @property
    def by_touch(self) -> np.ndarray:
        """Whether what a tier lacks appears as it is used, ``[tier]``."""
        filled = [tier.fill_mib_per_s is None for tier in self.tiers]
        return np.array(filled + [False] * (params.TIERS - len(filled)))

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
        sizes = self.sizes_mib()
        now_mib = sizes[0]
        edges = [min(step.at_s, len(demand)) for step in self.steps] + [len(demand)]
        demand["cpu_share"], demand["disk_mib_per_s"], demand["net_mib_per_s"] = CPU_SHARE, 0.0, 0.0
        for step, goal_mib, (start, end) in zip(self.steps, sizes, itertools.pairwise(edges), strict=True):
            grown = self._grown(_used_otherwise(now_mib, goal_mib, is_file), goal_mib, end - start)
            now_mib = grown[-1] if len(grown) else now_mib
            demand["tier_mib"][start:end] = grown
            for name in ("cpu_share", "disk_mib_per_s", "net_mib_per_s"):
                if getattr(step, name) is not None:
                    demand[name][start:] = getattr(step, name)

    def _grown(self, now_mib: np.ndarray, goal_mib: np.ndarray, seconds: int) -> np.ndarray:
        """Tiers in each of so many seconds, ``[second, tier]``; no tier is larger than its goal as they begin."""
        passed_s = np.arange(1.0, seconds + 1.0)
        grown = np.tile(goal_mib, (seconds, 1))
        for k, tier in enumerate(self.tiers):
            if tier.fill_mib_per_s is not None:
                grown[:, k] = np.minimum(now_mib[k] + tier.fill_mib_per_s * passed_s, goal_mib[k])
        return grown


def _used_otherwise(now_mib: np.ndarray, goal_mib: np.ndarray, is_file: np.ndarray) -> np.ndarray:
    """Tiers at the moment of a step, ``[tier]``: those that shrink have, and have fed those of their kind that grow."""
    after = np.minimum(now_mib, goal_mib)
    for kind in (is_file, ~is_file):
        freed, missing = ((now_mib - after) * kind).sum(), (goal_mib - after) * kind
        if missing.sum() > 0.0:
            after = after + missing * min(freed / missing.sum(), 1.0)
    return after
