"""Self-ballooning of Linux guests on Xen: each guest follows its own committed memory, and no host decides anything.

Every 5 s a guest aims at what it has committed and the kernel's reserve: an eighth of the way down, all of the way up
(`target_pages`). It does not go below a floor that grows ever more slowly with its size (`floor_pages`), and below 16 MiB of
usable memory it does not balloon. Kernels from 3.14 on add 10 % of the guest's memory, after guests had run out of theirs:
``reserved_share``. All in pages of 4 KiB, divisions cut, as the original.

Sees committed memory. Fails when: a guest lives on page cache or its kernel needs much (neither is committed), memory is
committed and never touched (nobody needs it), the host is full (a guest grows whether or not there is memory), or there is
plenty (guests shrink all the same).

Surrogate. The driver reads its own kernel; here it knows what the guest last reported, which may be a minute old on Xen, and
a guest that reports nothing keeps its size. A VM's size stands for the guest's total RAM, without what the kernel takes at
boot. The reserve is the guest's high watermarks, 1.5 times min_free_kbytes; reserves of low zones are left out. Left out:
transcendent memory, so no swap to RAM and nothing to shrink there; a minimum of usable memory set by hand.

Edge cases. No statistics: the guest keeps its size (the driver, which reads its own kernel, would go on). Frozen: it
goes on to what it last reported. Windows: the driver is Linux's; what is committed counts whoever reports it. Start:
a guest follows its goal from its first report on, up to the memory that it began with. Limits: none are known.

Sources: ``drivers/xen/xen-selfballoon.c`` of Linux 3.1 to 5.2 (steps, floor, 10 %); ``mm/page_alloc.c`` (watermarks);
re-implemented from a description.
"""

import math

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

PAGES_PER_MIB = 256

FLOORS_MIB = ((64, 16, 2), (512, 40, 8), (math.inf, 99, 32))
"""Below so much usable memory: keep so much, and of what is above it one part in so many."""

NOT_WORTH_MIB = 16
"""A guest with less usable memory does not balloon."""


def reserve_pages(most_pages: int) -> int:
    """A guest's high watermarks: half more than min_free_kbytes, the root of 16 times its KiB."""
    least_kib = math.isqrt(16 * 4 * most_pages)
    return (least_kib + least_kib // 2) // 4


def floor_pages(most_pages: int, reserve: int) -> int:
    """Size below which a guest of `most_pages` does not go."""
    usable = most_pages - reserve
    if usable < NOT_WORTH_MIB * PAGES_PER_MIB:
        return most_pages
    keep, part = next(
        (keep * PAGES_PER_MIB, part) for below, keep, part in FLOORS_MIB if usable < below * PAGES_PER_MIB
    )
    return reserve + keep + (usable - keep) // part


def target_pages(
    size: int, committed: int, most: int, reserve: int, reserved: int = 0, down: int = 8, up: int = 1
) -> int:
    """A guest's next size; `reserved` pages are spared for caches."""
    goal = committed + reserve + reserved
    target = size - (size - goal) // down if size > goal else size + (goal - size) // up
    return max(target, floor_pages(most, reserve))


class SelfBalloon(Policy):
    """Lets every guest of the batch balloon itself."""

    period_s = 5.0
    visibility = Visibility.P2

    def __init__(self, down_hysteresis: int = 8, up_hysteresis: int = 1, reserved_share: float = 0.0) -> None:
        self.down_hysteresis = down_hysteresis
        self.up_hysteresis = up_hysteresis
        self.reserved_share = reserved_share

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm = telemetry.vm
        balloons = (vm["running"] > 0.0) & ~np.isnan(vm["size_mib"]) & ~np.isnan(vm["guest_committed_mib"])
        sizes = np.full(vm.shape, np.nan)
        for place in zip(*np.nonzero(balloons), strict=True):
            size, committed, most = (vm[name][place] for name in ("size_mib", "guest_committed_mib", "memory_mib"))
            sizes[place] = self._size_mib(size, committed, most)
        return Targets(sizes)

    def _size_mib(self, size_mib: float, committed_mib: float, most_mib: float) -> float:
        size, committed, most = (round(mib * PAGES_PER_MIB) for mib in (size_mib, committed_mib, most_mib))
        reserved = int(most_mib * self.reserved_share) * PAGES_PER_MIB  # the driver keeps it in whole MiB
        target = target_pages(
            size, committed, most, reserve_pages(most), reserved, self.down_hysteresis, self.up_hysteresis
        )
        return min(target, most) / PAGES_PER_MIB  # a balloon holds no more than what it was filled with
