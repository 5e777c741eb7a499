"""Generated VMs: their figures, drawn once a seed, and what they use over any span of an endless, stationary history.

The level of a VM wanders on six time scales (``classes.OCTAVES_S``), a part of it with the hour, for few of them strongly; on
top come bursts and, for some classes, a sawtooth. The wandering z becomes x + sqrt(1 + x²) with x = swing * z, which is
positive, near 1 + x for a steady VM and skewed for a restless one. Siblings share most of the wandering, nine bursts in ten and
the figures. I/O is up before and at the beginning of a burst.

Left out: reboots (one a VM in ten months, GWA-T-12), and any trend beyond twelve days.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hvgym.envs.generators import classes, processes
from hvgym.envs.generators.classes import CLASSES, FAMILIES, Class, Family, Generated
from hvgym.envs.generators.draws import Array, Quantiles, uniforms
from hvgym.envs.generators.processes import Keys

SIBLINGS_KEY = 1 << 20
"""Of a group's draws, beyond any VM's index."""

SIBLINGS_JITTER = 0.1
"""Siblings' levels differ by so much to either side (a guess)."""

STRONG_DAY = 0.8
"""Share of the wandering of a VM with a strong daily cycle that follows the hour (a guess; above 20 % of all variance is
published)."""

IO_SWING = 1.3
"""Of I/O from slot to slot (a guess)."""

CPU_PER_IO = (classes.CPU_BURST - 1.0) / (classes.IO_BURST - 1.0)

SAMPLE_S = 300.0
"""Between two estimates of active memory (GWA-T-12), whose error a replayed VM's demand has in it, and so a generated one's."""

LEAST, MOST = 0.0005, 0.96
"""Share of a VM's memory that it uses."""

(
    LEVEL, SWING, STRONG, PER_DAY, TALL, HOT_SHARE, BACKED, DISK, NET, DAY, STEPS, DISK_SWING, NET_SWING, JITTER, BEGIN, ARRIVAL,
    LASTS, ERROR,
) = range(64, 82)  # fmt: skip
"""Streams of draws, beyond those of ``model.rng``."""
SAW, BURST, WANDER = 96, 112, 128


class Figures(NamedTuple):
    """What a VM is like, ``[vm]``; share of its memory, or of its variance."""

    level: Array
    swing: Array
    day: Array
    steps: Array
    per_day: Array
    height_times: Array
    length_times: Array
    hot_share: Array
    backed: Array
    disk_mib_per_s: Array
    net_mib_per_s: Array


class Use(NamedTuple):
    """What VMs do, ``[vm, slot]``: share of their memory in use in the view of their family, and CPU and I/O."""

    share: Array
    cpu_share: Array
    disk_mib_per_s: Array
    net_mib_per_s: Array


class Span(NamedTuple):
    """Slots of a history, each the mean of what happens in it but for the wandering, which is read in its middle."""

    start_s: float
    slots: int
    slot_s: float

    @property
    def times_s(self) -> Array:
        """Middle of each slot."""
        return np.asarray(self.start_s + (np.arange(self.slots) + 0.5) * self.slot_s)

    @property
    def ends_s(self) -> tuple[float, float]:
        """First and last second."""
        return self.start_s, self.start_s + self.slots * self.slot_s


class Fleet:
    """VMs of given classes and sizes, memory_mib ``[vm]``."""

    def __init__(self, vms: Sequence[Generated], memory_mib: npt.ArrayLike) -> None:
        self.vms = tuple(vms)
        self.memory_mib = np.asarray(memory_mib, np.float64)
        by_size = (classes.LENGTH_BY_SIZE, classes.HEIGHT_BY_SIZE, classes.LEVEL_BY_SIZE)
        self._longer, self._taller, level = (np.interp(self.memory_mib, classes.SIZES_MIB, times) for times in by_size)
        self._level_times = np.array(
            [
                np.clip(CLASSES[vm.kind].level, 0.8, 1.0) if vm.family == "resident" else CLASSES[vm.kind].level * times
                for vm, times in zip(vms, level, strict=True)
            ]
        )
        self.own: Keys = np.arange(len(vms), dtype=np.int64)
        numbers = np.array([vm.siblings for vm in vms], np.int64)
        self.related = numbers >= 0
        self.shared: Keys = np.where(self.related, SIBLINGS_KEY + numbers, self.own)
        self._families = {name: np.array([vm.family == name for vm in vms]) for name in FAMILIES}
        self._batch = np.array([vm.family == "resident" and vm.kind == "batch" for vm in vms])
        self._given = np.array([np.nan if vm.level is None else vm.level for vm in vms])
        self.saw_s = self.by_class(lambda one: one.saw_s)
        view = [0 if vm.family == "hot_set" else 1 for vm in vms]
        self.saw = np.array([CLASSES[vm.kind].saw[which] for vm, which in zip(vms, view, strict=True)])
        self._error = np.array([1.0 / FAMILIES[vm.family].sampled_pages for vm in vms])[:, None]
        self._cpu = self.by_class(lambda one: one.cpu_share)[:, None]
        self.octaves = np.array([FAMILIES[vm.family].octaves for vm in vms])

    def by_class(self, read: Callable[[Class], float]) -> Array:
        """A figure of each VM's class, ``[vm]``."""
        return np.array([read(CLASSES[vm.kind]) for vm in self.vms])

    def _by_family(self, seed: int, stream: int, read: Callable[[Family], Quantiles]) -> Array:
        """A draw from a distribution of each VM's family, siblings alike, ``[vm]``."""
        drawn = uniforms(seed, stream, self.shared, 0)
        values = np.zeros(len(self.vms))
        for name, members in self._families.items():
            values[members] = read(FAMILIES[name]).at(drawn[members])
        return values

    def figures(self, seed: int) -> Figures:
        """Draw what each VM is like."""
        level, swing = self._level(seed), self._by_family(seed, SWING, lambda family: family.swing)
        swing = np.where(self._batch, classes.RESIDENT_BATCH_SWING, swing * self.by_class(lambda one: one.swing))
        strong = np.array([FAMILIES[vm.family].strong_days for vm in self.vms])
        is_strong = uniforms(seed, STRONG, self.shared, 0) < strong
        return Figures(
            level,
            swing,
            np.where(is_strong, STRONG_DAY, self.by_class(lambda one: one.day)),
            self.by_class(lambda one: one.steps),
            self._by_family(seed, PER_DAY, lambda family: family.per_day) * self.by_class(lambda one: one.bursts),
            self._by_family(seed, TALL, lambda family: family.height_times)
            * self.by_class(lambda one: one.height)
            * self._taller,
            self._by_family(seed, LASTS, lambda family: family.length_times)
            * self.by_class(lambda one: one.length)
            * self._longer,
            self._by_family(seed, HOT_SHARE, lambda family: family.hot_share),
            self._by_family(seed, BACKED, lambda family: family.backed),
            classes.DISK_MIB_PER_S.at(uniforms(seed, DISK, self.shared, 0)) * self.by_class(lambda one: one.disk),
            classes.NET_MIB_PER_S.at(uniforms(seed, NET, self.shared, 0)) * self.by_class(lambda one: one.net),
        )

    def _level(self, seed: int) -> Array:
        """Median share of memory in use."""
        drawn = self._by_family(seed, LEVEL, lambda family: family.level)
        drawn = np.where(self._batch, classes.RESIDENT_BATCH_LEVEL, drawn * self._level_times)
        drawn = np.where(np.isnan(self._given), drawn, self._given)
        jitter = SIBLINGS_JITTER * (2.0 * uniforms(seed, JITTER, self.own, 0) - 1.0)
        return np.clip(drawn * (1.0 + jitter * self.related), LEAST, 0.93)

    def use(self, seed: int, figures: Figures, span: Span) -> Use:
        """What the VMs do over a span."""
        bent = figures.swing[:, None] * self._wandering(seed, figures, span.times_s)
        share = figures.level[:, None] * (bent + np.sqrt(1.0 + bent * bent))
        if self.saw.any():
            share += self.saw[:, None] * processes.sawtooth(seed, SAW, self.shared, span.times_s, self.saw_s)
        raised, busy = self._bursts(seed, figures, span)
        disk, net = (self._io(seed, stream, span) for stream in (DISK_SWING, NET_SWING))
        share = np.clip(share + raised, LEAST, MOST)
        error = np.sqrt(share * (1.0 - share) * self._error) * processes.held(
            seed, ERROR, self.own, span.times_s, np.full(len(self.vms), SAMPLE_S)
        )
        return Use(
            np.clip(share + error, LEAST, MOST),
            np.minimum(self._cpu * (1.0 + CPU_PER_IO * (busy - 1.0)), 1.0),
            np.minimum(figures.disk_mib_per_s[:, None] * disk * busy, classes.MOST_IO_MIB_PER_S),
            np.minimum(figures.net_mib_per_s[:, None] * net * busy, classes.MOST_IO_MIB_PER_S),
        )

    def _wandering(self, seed: int, figures: Figures, times_s: Array) -> Array:
        """Standard normal processes, siblings' mostly alike, ``[vm, slot]``."""
        smooth = np.maximum(1.0 - figures.day - figures.steps, 0.0)
        total = np.sqrt(figures.day)[:, None] * processes.daily(seed, DAY, self.shared, times_s)
        if figures.steps.any():
            steps_s = self.by_class(lambda one: one.steps_s)
            total += np.sqrt(figures.steps)[:, None] * self._shared_mostly(
                processes.held, seed, STEPS, times_s, steps_s
            )
        for number, period_s in enumerate(classes.OCTAVES_S):
            weight = np.sqrt(self.octaves[:, number] * smooth)
            periods_s = np.full(len(self.vms), period_s)
            total += weight[:, None] * self._shared_mostly(processes.wander, seed, WANDER + number, times_s, periods_s)
        return total

    def _shared_mostly(
        self, process: Callable[..., Array], seed: int, stream: int, times_s: Array, period_s: Array
    ) -> Array:
        """A process of each VM's own, that of siblings correlated."""
        own = process(seed, stream, self.own, times_s, period_s)
        if not self.related.any():
            return own
        ours = np.where(self.related, classes.SIBLING_CORRELATION, 0.0)[:, None]
        return np.sqrt(ours) * process(seed, stream, self.shared, times_s, period_s) + np.sqrt(1.0 - ours) * own

    def _bursts(self, seed: int, figures: Figures, span: Span) -> tuple[Array, Array]:
        """What bursts add to the share of memory, and I/O over that at rest, both ``[vm, slot]``."""
        shape = (len(self.vms), span.slots)
        begin_s, end_s = span.ends_s
        raised, busy = np.zeros(shape), np.ones(shape)
        for name, members in self._families.items():
            if not members.any():
                continue
            family = FAMILIES[name]
            found = processes.bursts(
                seed, BURST, self.own, self.shared, classes.SIBLING_CORRELATION, (begin_s, end_s + classes.IO_SLOT_S),
                figures.per_day * members, family.length_s, figures.length_times,
            )  # fmt: skip
            height = family.height.at(found.height) * figures.height_times[found.vm]
            raised += processes.painted(shape, span.slot_s, begin_s, found.vm, found.begin_s, found.end_s, height)
            busy += _busy(shape, span, found, height)
        return raised, busy

    def _io(self, seed: int, stream: int, span: Span) -> Array:
        """I/O at rest over its mean, ``[vm, slot]``: a skewed process that changes every few minutes."""
        bent = IO_SWING * processes.wander(
            seed, stream, self.own, span.times_s, np.full(len(self.vms), classes.IO_SLOT_S)
        )
        return (bent + np.sqrt(1.0 + bent * bent)) ** 2 / (1.0 + 2.0 * IO_SWING**2)


def _busy(shape: tuple[int, int], span: Span, found: processes.Bursts, height: Array) -> Array:
    """What bursts add to I/O, over that at rest: before they begin, as they begin, and until they end."""
    tall = np.minimum(height / classes.FULL_BURST, 1.0)
    first_s = np.minimum(found.begin_s + classes.IO_SLOT_S, found.end_s)
    early_s = found.begin_s - classes.IO_SLOT_S * found.lead
    parts = (
        (early_s, found.begin_s, classes.IO_LEAD),
        (found.begin_s, first_s, classes.IO_BURST),
        (first_s, found.end_s, classes.IO_AFTER),
    )
    added = [
        processes.painted(shape, span.slot_s, span.start_s, found.vm, begin_s, end_s, tall * (times - 1.0))
        for begin_s, end_s, times in parts
    ]
    return added[0] + added[1] + added[2]


def first_second(seed: int, days: int = 30) -> float:
    """When in the history an episode begins: on any five minutes of so many days, so at any hour."""
    return float(np.floor(uniforms(seed, BEGIN, -1, 0)[0] * days * 288) * 300.0)
