"""Katalyst's transparent memory offloading: its policies by pressure and by refaults, every 30 s for each VM by itself.

Pressure (TMO's law with other constants): 1 % of a VM's memory, less in proportion as ``avg60`` nears 0.1 %. Refaults: of what
was reclaimed since the last time, how much came back? When accuracy, 1 - refaulted / reclaimed, falls below 0.99 or
efficiency, reclaimed / scanned, below 0.6, the last amount shrinks by accuracy; else it grows by 5 % but is at least a tenth
of inactive memory, up to 1 % of the VM's. As coded, the last amount has been overwritten with zero before it is read: it
never grows, and any refault stops reclaim; `fixed` remembers it. `by_pressure` and `by_refaults` are pure.

Fails when: half a minute is too long to notice a turn, a single refault in a period without reclaim counts as total
inaccuracy, the host has plenty (it reclaims all the same).

Surrogate: reclaimed and refaulted pages are the VM's swap traffic on the host, whoever caused it; ``pgscan`` cannot be
observed, pages count as scanned once when they are taken, so that efficiency is 1 and never holds it back; inactive memory
is what Linux lets a list of that size be (`inactive_mib`); ``avg60`` begins at zero when a VM is first seen. Swapping is
on, though off in the original's defaults, under which a VM would lose nothing. Where a reading is missing the original goes
on with zeros for all, as is done here: it takes nothing, and counts from zero the next time. A VM is first acted on when it
is first seen, its counters since its start being the first difference.

Edge cases. Guests are asked nothing, so statistics that are missing, frozen or Windows' change nothing. Limits are
not known.

Sources: kubewharf/katalyst-core ``memory_offloading.go`` (sysadvisor's memory plugin; law) and ``dynamic/tmo`` (defaults),
Linux ``mm/vmscan.c`` (balance of the lists), re-implemented.
"""

import math
from dataclasses import dataclass

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.proactive.tmo import PSI_PERIOD_S, StallAverage
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

PAGES_PER_MIB = 256
CORRECTION_PAGES = 0.1
"""Keeps ratios of nothing to nothing at one."""
INACTIVE_SHARE = 0.1
GROWTH = 1.05


@dataclass(frozen=True)
class Stats:
    """One reading of a cgroup; counters in pages since its start, memory in MiB, pressure in per cent."""

    usage_mib: float = 0.0
    inactive_mib: float = 0.0
    avg60_percent: float = 0.0
    scanned_pages: int = 0
    stolen_pages: int = 0
    refaulted_pages: int = 0


@dataclass(frozen=True)
class Law:
    """The original's defaults."""

    max_probe_share: float = 0.01
    avg60_threshold_percent: float = 0.1
    accuracy_target: float = 0.99
    efficiency_target: float = 0.6


def by_pressure(now: Stats, law: Law) -> float:
    """Memory to take, in MiB."""
    return max(0.0, 1.0 - now.avg60_percent / law.avg60_threshold_percent) * law.max_probe_share * now.usage_mib


def by_refaults(before: Stats, now: Stats, last_mib: float, law: Law) -> float:
    """Memory to take, in MiB, after `last_mib` the last time."""
    stolen = now.stolen_pages - before.stolen_pages + CORRECTION_PAGES
    accuracy = 1.0 - (now.refaulted_pages - before.refaulted_pages) / stolen
    efficiency = stolen / (now.scanned_pages - before.scanned_pages + CORRECTION_PAGES)
    if accuracy < law.accuracy_target or efficiency < law.efficiency_target:
        return max(0.0, last_mib * accuracy)
    return min(max(last_mib * GROWTH, now.inactive_mib * INACTIVE_SHARE), now.usage_mib * law.max_probe_share)


def inactive_mib(usage_mib: float) -> float:
    """Inactive list of a cgroup of this size when Linux has balanced it: one part in 1 + sqrt(10 * GiB)."""
    gib = int(usage_mib // 1024)
    return usage_mib / (1 + (math.isqrt(10 * gib) if gib else 1))


@dataclass
class Engine:
    """What Katalyst remembers of a container."""

    average: StallAverage
    next_s: float
    before: Stats
    last_mib: float


class Katalyst(Policy):
    """Applies `by_pressure`, or `by_refaults` if told to, to every VM."""

    period_s = float(PSI_PERIOD_S)
    visibility = Visibility.P0

    def __init__(
        self,
        refault: bool = False,
        interval_s: float = 30.0,
        max_probe_share: float = Law.max_probe_share,
        avg60_threshold_percent: float = Law.avg60_threshold_percent,
        accuracy_target: float = Law.accuracy_target,
        efficiency_target: float = Law.efficiency_target,
        fixed: bool = False,
    ) -> None:
        self.refault = refault
        self.interval_s = interval_s
        self.law = Law(max_probe_share, avg60_threshold_percent, accuracy_target, efficiency_target)
        self.fixed = fixed
        self._engines: list[list[Engine | None]] = []

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._engines = [[None] * first.vm.shape[1] for _ in range(first.vm.shape[0])]

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        amounts_mib = np.full(telemetry.vm.shape, np.nan)
        names = ("running", "host_psi_some_s", "resident_mib", "host_swap_in_mib", "host_swap_out_mib")
        for lane, engines in enumerate(self._engines):
            row, now_s = telemetry.vm[lane], float(telemetry.time_s[lane])
            columns = [row[name].tolist() for name in names]
            for index, (running, stalled_s, *reading) in enumerate(zip(*columns, strict=True)):
                engine = engines[index] = _averaged(engines[index], now_s, stalled_s) if running else None
                if engine is not None and now_s >= engine.next_s:
                    engine.next_s = now_s + self.interval_s
                    amounts_mib[lane, index] = self._offload(engine, stalled_s, *reading)
        return Targets(reclaim_mib=amounts_mib)

    def _offload(
        self, engine: Engine, stalled_s: float, usage_mib: float, swap_in_mib: float, swap_out_mib: float
    ) -> float:
        """Memory to take of one VM; remembers what the next time needs."""
        if math.isnan(stalled_s + usage_mib + swap_in_mib + swap_out_mib):
            engine.before, engine.last_mib = Stats(), 0.0
            return 0.0
        stolen, refaulted = int(swap_out_mib * PAGES_PER_MIB), int(swap_in_mib * PAGES_PER_MIB)
        pressure_percent = engine.average.avg60_percent
        now = Stats(usage_mib, inactive_mib(usage_mib), pressure_percent, stolen, stolen, refaulted)
        last_mib = engine.last_mib if self.fixed else 0.0
        amount_mib = by_refaults(engine.before, now, last_mib, self.law) if self.refault else by_pressure(now, self.law)
        engine.before, engine.last_mib = now, amount_mib
        return amount_mib


def _averaged(engine: Engine | None, now_s: float, stalled_s: float) -> Engine | None:
    """A VM's engine, made when it is first seen, with its average brought up to date."""
    if math.isnan(stalled_s):
        return engine
    total_us = round(stalled_s * 1e6)
    if engine is None:
        return Engine(StallAverage(now_s, total_us), now_s, Stats(), 0.0)
    engine.average = engine.average.at(now_s, total_us)
    return engine
