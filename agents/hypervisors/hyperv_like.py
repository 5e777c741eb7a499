"""A surrogate of Hyper-V's Dynamic Memory: what Microsoft published of it, and an invented balancer for what it did not.

Published: a guest reports what it has committed plus a floor for its kernel; its host aims at that demand and a buffer of
20 %, within minimum and maximum. When memory is short buffers go first, by weight, then guests page. A guest refuses to
let its available memory fall below its floor, and reports nothing in its first 30 s.

Invented here (`divide`): buffers filled at one share times weight, as far as they fit; when even demands do not fit, memory
at one share of demand times weight, nobody above its demand. Guesses: a step down of at most 5 % (as oVirt's MOM; growth
is at once), a decision every 5 s, the memory left free for the root partition.

Sees committed memory. Fails when: a guest lives on page cache, which is not committed (the buffer is all it gets); a guest
commits much and touches little; memory is touched before it is given. Telemetry's shares stand for the memory weight. A
guest that does not report keeps what it has. The startup memory of a VM that waits is not divided, so the others make room
for it (Smart Paging is said to begin only when none can be reclaimed from others). Left out: hot-add and its 128 MiB pieces
(the balloon gives instead), room for a VM that is not told its startup memory, Smart Paging (the model's).

Edge cases. No statistics: the guest keeps what it has, and that is not divided. Frozen: the last report counts; what
Hyper-V makes of a guest that falls silent is not published. Windows: committed memory is what its own driver reports
too (Linux's report is made to look like it). Start: a VM keeps its startup memory until its first report, 30 s later.
Limits: the configured size is the maximum, and no minimum is one of 0.

Sources: Linux ``drivers/hv/hv_balloon.c`` (report, floor, refusal, delay), Microsoft's overview of Dynamic Memory (buffer:
1000 MB and 20 % make 1200 MB; weight).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hvgym.agents.hypervisors.esx import level_at
from hvgym.agents.policy import Policy
from hvgym.agents.readings import least_mib, shares_of, started_before
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

FLOORS_MIB = (
    (128.0, 8.0, 2.0),
    (512.0, 40.0, 4.0),
    (2048.0, 104.0, 8.0),
    (8192.0, 232.0, 16.0),
    (math.inf, 488.0, 32.0),
)
"""A Linux guest's floor: below a size, a constant and the size divided."""


@dataclass(frozen=True)
class DynamicVm:
    """One VM as its host sees it; MiB. size: assigned now; demand: committed memory and floor; weight above 0."""

    minimum: float
    maximum: float
    size: float
    demand: float
    available: float
    floor: float
    weight: float


def floor_mib(held_mib: float) -> float:
    """Memory that a Linux guest holding `held_mib` keeps available."""
    constant, divisor = next(row[1:] for row in FLOORS_MIB if held_mib < row[0])
    return constant + held_mib / divisor


def demanded(vm: DynamicVm, level: float) -> float:
    """Size of a VM at `level` times weight of its demand, at most all of it."""
    return min(max(vm.demand * min(level * vm.weight, 1.0), vm.minimum), vm.maximum)


def buffered(vm: DynamicVm, buffer_share: float, level: float) -> float:
    """Size of a VM at its demand and `level` times weight of its buffer, at most all of it."""
    return min(max(vm.demand * (1.0 + buffer_share * min(level * vm.weight, 1.0)), vm.minimum), vm.maximum)


def divide(vms: Sequence[DynamicVm], capacity: float, buffer_share: float) -> list[float]:
    """Sizes of all VMs within `capacity`: demands first, then buffers; the minimums when they do not fit."""
    full = [buffered(vm, buffer_share, 1.0 / vm.weight) for vm in vms]
    if math.fsum(full) <= capacity:
        return full
    if math.fsum(demanded(vm, 1.0 / vm.weight) for vm in vms) > capacity:
        bends = [share / vm.weight for vm in vms for share in (vm.minimum / vm.demand, vm.maximum / vm.demand, 1.0)]
        return _fill(demanded, vms, bends, capacity)
    bends = [
        share / vm.weight
        for vm in vms
        for share in (1.0, *((bound / vm.demand - 1.0) / buffer_share for bound in (vm.minimum, vm.maximum)))
    ]
    return _fill(lambda vm, level: buffered(vm, buffer_share, level), vms, bends, capacity)


def _fill(
    size: Callable[[DynamicVm, float], float], vms: Sequence[DynamicVm], bends: Sequence[float], capacity: float
) -> list[float]:
    """Sizes at the level at which they fit."""
    level = level_at(capacity, lambda level: math.fsum(size(vm, level) for vm in vms), bends)
    return [size(vm, level) for vm in vms]


def granted(vm: DynamicVm, target: float, max_shrink_share: float) -> float:
    """What one decision makes of a target: growth at once, shrinking by a step and by what the guest does not refuse."""
    spare = max(vm.available - vm.floor, 0.0)
    return max(target, vm.size * (1.0 - max_shrink_share), vm.size - spare)


class HypervLike(Policy):
    """Applies `divide` and `granted` to every host of the batch."""

    visibility = Visibility.P2

    def __init__(
        self,
        buffer_share: float = 0.20,
        max_shrink_share: float = 0.05,
        report_delay_s: float = 30.0,
        keep_free_share: float = 0.02,
        period_s: float = 5.0,
    ) -> None:
        self.buffer_share = buffer_share
        self.max_shrink_share = max_shrink_share
        self.report_delay_s = report_delay_s
        self.keep_free_share = keep_free_share
        self.period_s = period_s

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`. VMs that have been running for a while have reported long since."""
        self._started_s = np.where(started_before(first), -np.inf, first.time_s[:, None])

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm, host = telemetry.vm, telemetry.host
        self._started_s[vm["running"] == 0.0] = np.nan
        new = (vm["running"] > 0.0) & np.isnan(self._started_s)
        self._started_s = np.where(new, telemetry.time_s[:, None], self._started_s)
        told = ~np.isnan(vm["guest_committed_mib"] + vm["guest_available_mib"] + vm["guest_total_mib"])
        reports = told & (telemetry.time_s[:, None] - self._started_s >= self.report_delay_s)
        sizes = np.full(vm.shape, np.nan)
        for lane in range(len(sizes)):
            there = np.flatnonzero(reports[lane])
            held = float((vm["resident_mib"] - vm["overhead_mib"])[lane, there].sum())
            free = float(host["available_mib"][lane, 0] - self.keep_free_share * host["total_mib"][lane, 0])
            vms = _read(vm[lane, there])
            targets = divide(vms, held + free - _to_start_mib(vm[lane]), self.buffer_share)
            sizes[lane, there] = [
                granted(one, target, self.max_shrink_share) for one, target in zip(vms, targets, strict=True)
            ]
        return Targets(sizes)


def _to_start_mib(row: np.ndarray) -> float:
    """What VMs of one host, ``[vm]`` of telemetry, wait for that are told how to start."""
    waits = (row["waiting"] > 0.0) & ~np.isnan(row["startup_mib"])
    return float((row["startup_mib"] + row["overhead_mib"])[waits].sum())


def _read(row: np.ndarray) -> list[DynamicVm]:
    """Reporting VMs of one host, ``[vm]`` of telemetry. No shares weigh as much as one."""
    names = ("memory_mib", "size_mib", "guest_committed_mib", "guest_available_mib", "guest_total_mib")
    columns = (least_mib(row), *(row[name] for name in names), shares_of(row))
    return [
        DynamicVm(low, high, size, committed + floor_mib(total), available, floor_mib(total), max(shares, 1.0))
        for low, high, size, committed, available, total, shares in zip(*(c.tolist() for c in columns), strict=True)
    ]
