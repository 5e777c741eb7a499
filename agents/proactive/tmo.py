"""TMO: take a little of every VM, the less the more it stalls, every six seconds.

reclaim = memory * ratio * max(0, 1 - PSI / threshold). As long as nothing stalls, 0.05 % of a VM goes each time; at the
threshold, 0.1 % of time stalled, nothing does. Memory comes back by faults only. Pressure is the share of the last period
that the VM's process waited for memory, or the I/O pressure of its cgroup where that is higher. Beside the law stands
how Linux averages stalls (`StallAverage`), which others read.

Fails when: a surplus is needed soon (0.5 % a minute is all it gives), a fault costs much and comes rarely (a disk's stalls
fit below the threshold), the host has plenty (it reclaims all the same).

Surrogate: the window of PSI and how I/O pressure is weighed are not published; usage is host RAM, VMM included. Left out:
file cache against anonymous memory by the cost of refaults (a VM's memory is all anonymous), the limit on writes for the
endurance of an SSD. A VM whose pressure is not known is left alone.

Edge cases. Guests are asked nothing, so statistics that are missing, frozen or Windows' change nothing. A VM that
starts is acted on from its second period on. Limits are not known.

Sources: Weiner et al., "TMO: Transparent Memory Offloading in Datacenters" (ASPLOS 2022), law and constants from Meta's
accounts of it; Linux ``kernel/sched/psi.c`` and ``include/linux/sched/loadavg.h`` for the averages.
"""

import math
from dataclasses import dataclass

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

PSI_PERIOD_S = 2
FIXED_1 = 1 << 11
EXP_10S, EXP_60S = 1677, 1981
"""exp(-2 s / 10 s) and exp(-2 s / 60 s) in units of 1 / FIXED_1, as the kernel has them."""


def averaged(load: int, exp: int, active: int) -> int:
    """One step of the kernel's running average; all in units of 1 / FIXED_1, rounded up while it rises."""
    rising = FIXED_1 - 1 if active >= load else 0
    return (load * exp + active * (FIXED_1 - exp) + rising) // FIXED_1


@dataclass(frozen=True)
class StallAverage:
    """PSI's ``some`` averages of a cgroup, made from its stall total as the kernel makes them.

    Every two seconds a sample in whole per cent is averaged in, so that less than 20 ms of stall in a period counts as
    none. Loads are per cent in units of 1 / FIXED_1. Read more rarely, stalls count as spread evenly over the time between.
    """

    updated_s: float
    total_us: int
    load10: int = 0
    load60: int = 0

    def at(self, now_s: float, total_us: int) -> "StallAverage":
        """The averages at `now_s`, with the stall total at `total_us`."""
        passed_s = now_s - self.updated_s
        if passed_s < PSI_PERIOD_S:
            return self
        sample = min((total_us - self.total_us) * 100 // round(passed_s * 1e6), 100) * FIXED_1
        load10, load60 = self.load10, self.load60
        for _ in range(int(passed_s // PSI_PERIOD_S)):
            load10, load60 = averaged(load10, EXP_10S, sample), averaged(load60, EXP_60S, sample)
        return StallAverage(now_s, total_us, load10, load60)

    @property
    def avg10_percent(self) -> float:
        """As ``memory.pressure`` prints it, two decimals cut off."""
        return (self.load10 * 100 // FIXED_1) / 100

    @property
    def avg60_percent(self) -> float:
        """As ``memory.pressure`` prints it, two decimals cut off."""
        return (self.load60 * 100 // FIXED_1) / 100


def reclaim_mib(current_mib: float, pressure: float, ratio: float, threshold: float, most_share: float) -> float:
    """Memory to take from a VM of `current_mib`, `pressure` being the share of time that it stalls."""
    return current_mib * min(ratio * max(0.0, 1.0 - pressure / threshold), most_share)


class Tmo(Policy):
    """Applies `reclaim_mib` to every VM by itself."""

    period_s = 6.0
    visibility = Visibility.P0

    def __init__(self, ratio: float = 0.0005, threshold: float = 0.001, most_share: float = 0.01) -> None:
        self.ratio = ratio
        self.threshold = threshold
        self.most_share = most_share
        self._last: list[list[tuple[float, float] | None]] = []

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._last = [[None] * first.vm.shape[1] for _ in range(first.vm.shape[0])]

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        amounts_mib = np.full(telemetry.vm.shape, np.nan)
        names = ("running", "resident_mib", "host_psi_some_s", "host_io_psi_some10")
        for lane, last in enumerate(self._last):
            row, now_s = telemetry.vm[lane], float(telemetry.time_s[lane])
            columns = [row[name].tolist() for name in names]
            for index, (running, resident_mib, stalled_s, io) in enumerate(zip(*columns, strict=True)):
                before = last[index]
                if not running:
                    last[index] = None
                elif not math.isnan(stalled_s):
                    last[index] = (now_s, stalled_s)
                    if before is not None and not math.isnan(resident_mib + io):
                        pressure = max((stalled_s - before[1]) / (now_s - before[0]), io)
                        amounts_mib[lane, index] = self._amount_mib(resident_mib, pressure)
        return Targets(reclaim_mib=amounts_mib)

    def _amount_mib(self, resident_mib: float, pressure: float) -> float:
        return reclaim_mib(resident_mib, pressure, self.ratio, self.threshold, self.most_share)
