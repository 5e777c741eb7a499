"""A memory balancer from miss-ratio curves, after Zhao and Wang's MEB.

Each VM's curve says how many MiB a second would miss at which size. The original traps accesses to pages outside a hot
set and keeps them in a list by recency; here ages of pages give the same curve: with the memory that has not been idle
for T a VM would miss what is touched after being idle for T. The working set is the smallest size whose misses are below
a share of the trapped accesses. If all working sets fit, each VM gets its own and a part of the rest in proportion to
it; if they do not, sizes are chosen that make the sum of predicted misses least.

Sees page ages (P0) and, as the original's process inside the guest does, use of the guest's swap (P1): without that no
curve shows more than a VM has. A VM of which something is not known is left as it is and what it uses is set aside.

Fails when misses do not cost alike (page cache, zram, weights), for what a guest reads again from its page cache, and
on the guest's own reserve of free memory, which is in no curve. Demand that rises is met one period late.

Surrogate: ages in place of the list of trapped pages, with normal noise of 5 % on sizes (95.2 % accuracy reported); what
came back from guest swap within a period counts as that many different pages; sizes by a greedy walk along convex hulls
in place of the original's search. Left out: overhead of trapping, switching tracking off while demand is stable, hot-set
sizing. Period and share of RAM kept free are guesses; the cut-off of 5 % is recalled.

Edge cases. No statistics, or none newer than the last time: the VM is left as it is, and what it uses is set aside
(what the original does when its process in the guest is silent is not said). Windows: only its swap-ins are read.
Start: a VM joins with its second report. No minimum is one of 0; limits are not known.

Sources: Zhao and Wang, Dynamic memory balancing for virtual machines (VEE 2009); Zhao, Jin, Wang, Wang, Luo and Li, Low
cost working set size tracking (USENIX ATC 2011); Wang, Wang, Hou, Luo and Wang, TACO 13(1), 2016.
"""

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hvgym.agents.baselines.proportional import divide
from hvgym.agents.policy import Policy
from hvgym.agents.readings import GuestRate, least_mib, room_for_mib
from hvgym.envs.telemetry import AGES_S, Targets, Telemetry, Visibility

HOT_S = float(AGES_S[0])
"""Pages touched more often than this are the hot set, whose accesses are not trapped."""

Point = tuple[float, float]
"""A size in MiB and the misses at it in MiB/s."""


@dataclass(frozen=True)
class TrackedVm:
    """One VM: bounds of its size and its curve, points of rising size."""

    min_mib: float
    memory_mib: float
    curve: tuple[Point, ...]


def miss_curve(
    used_mib: float, idle_mib: Sequence[float], woken_mib_per_s: Sequence[float], swap_in_mib_per_s: float,
    period_s: float, size_factor: float = 1.0,
) -> tuple[Point, ...]:  # fmt: skip
    """The curve of a VM that uses `used_mib`: `idle_mib` and `woken_mib_per_s` are by age, `size_factor` is the error of
    sizes. At the present size it misses what it swaps in; with all that came back in a period besides, nothing.
    """
    points = [
        (min(max(used_mib - idle, 0.0) * size_factor, used_mib), woken + swap_in_mib_per_s)
        for idle, woken in zip(idle_mib, woken_mib_per_s, strict=True)
    ]
    return (*points, (used_mib, swap_in_mib_per_s), (used_mib + swap_in_mib_per_s * period_s, 0.0))


def working_set_mib(curve: Sequence[Point], cut_off: float) -> float:
    """The smallest size that misses at most the share `cut_off` of what the smallest size of the curve misses."""
    allowed = cut_off * curve[0][1]
    size_before, misses_before = curve[0]
    for size, misses in curve:
        if misses <= allowed:
            if misses_before <= allowed:
                return size
            return size_before + (size - size_before) * (misses_before - allowed) / (misses_before - misses)
        size_before, misses_before = size, misses
    return curve[-1][0]


def hull(points: Sequence[Point]) -> list[Point]:
    """The lower convex hull of points, from the smallest size to the least misses."""
    kept: list[Point] = []
    for size, misses in sorted(points):
        if kept and misses >= kept[-1][1]:
            continue
        while len(kept) > 1 and _slope(kept[-2], kept[-1]) >= _slope(kept[-1], (size, misses)):
            kept.pop()
        kept.append((size, misses))
    return kept


def fewest_misses(vms: Sequence[TrackedVm], capacity_mib: float) -> list[float]:
    """Sizes that add up to at most the capacity (or the minimums) at which the sum of misses along the hulls is least."""
    sizes = [vm.min_mib for vm in vms]
    left = capacity_mib - sum(sizes)
    for _, index, length in sorted(_steps(vms)):
        given = min(length, max(left, 0.0))
        sizes[index] += given
        left -= given
    return sizes


def balance(vms: Sequence[TrackedVm], capacity_mib: float, cut_off: float) -> list[float]:
    """Sizes of VMs that share `capacity_mib`."""
    sets = [min(max(working_set_mib(vm.curve, cut_off), vm.min_mib, 1.0), vm.memory_mib) for vm in vms]
    if sum(sets) > capacity_mib:
        return fewest_misses(vms, capacity_mib)
    high = np.array([vm.memory_mib for vm in vms])
    return divide(capacity_mib, np.array(sets), high, np.array(sets)).tolist()


def _slope(left: Point, right: Point) -> float:
    return (right[1] - left[1]) / (right[0] - left[0])


def _steps(vms: Sequence[TrackedVm]) -> list[tuple[float, int, float]]:
    """Slope, VM and length of every piece of the hulls within each VM's bounds; hot pages miss once in `HOT_S`."""
    steps = []
    for index, vm in enumerate(vms):
        size, misses = vm.curve[0]
        corners = hull([(0.0, misses + size / HOT_S), *vm.curve])
        for left, right in itertools.pairwise(corners):
            length = min(right[0], vm.memory_mib) - max(left[0], vm.min_mib)
            if length > 0.0:
                steps.append((_slope(left, right), index, length))
    return steps


class MemoryBalancer(Policy):
    """Applies `balance` to every host of the batch."""

    visibility = Visibility.P1

    def __init__(
        self, period_s: float = 30.0, cut_off: float = 0.05, noise_share: float = 0.05, keep_free_share: float = 0.05
    ) -> None:
        self.period_s = period_s
        self.cut_off = cut_off
        self.noise_share = noise_share
        self.keep_free_share = keep_free_share

    def reset(self, first: Telemetry, seed: int) -> None:
        """Forget counters, and seed each lane's noise by what it shows first: no lane depends on the others."""
        self._swap_in = GuestRate(first, first.vm["guest_swap_in_mib"])
        shown = [zlib.crc32(row.tobytes()) for row in first.vm["resident_mib"]]
        self._noise = [np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, key]))) for key in shown]

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        swap_in = self._swap_in.update(telemetry, telemetry.vm["guest_swap_in_mib"])
        sizes = np.full(telemetry.vm.shape, np.nan)
        for lane, vm in enumerate(telemetry.vm):
            factors = np.maximum(1.0 + self.noise_share * self._noise[lane].standard_normal(len(vm)), 0.0)
            known, tracked = _track(vm, swap_in[lane], factors, self.period_s)
            if tracked:
                room = room_for_mib(vm, telemetry.host[lane, 0], known, self.keep_free_share)
                sizes[lane, known] = balance(tracked, room, self.cut_off)
        return Targets(sizes)


def _track(
    vm: np.ndarray, swap_in_mib_per_s: np.ndarray, factors: np.ndarray, period_s: float
) -> tuple[np.ndarray, list[TrackedVm]]:
    """Which VMs of one host, ``[vm]``, have all that a curve needs, and these."""
    idle = np.stack([vm[f"idle_{age}s_mib"] for age in AGES_S], axis=1)
    woken = np.stack([vm[f"woken_{age}s_mib_per_s"] for age in AGES_S], axis=1)
    known = ~np.isnan(swap_in_mib_per_s + idle.sum(axis=1) + woken.sum(axis=1))
    used = vm["resident_mib"] - vm["overhead_mib"]
    columns = (least_mib(vm), vm["memory_mib"], used, idle, woken, swap_in_mib_per_s, factors)
    return known, [
        TrackedVm(low, high, miss_curve(in_use, ages, touched, swapped, period_s, factor))
        for low, high, in_use, ages, touched, swapped, factor in zip(*(c[known].tolist() for c in columns), strict=True)
    ]
