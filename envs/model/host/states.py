"""When a hypervisor reclaims by itself: thresholds of free memory, and the state that follows from them.

ESXi: high, clear, soft, hard, low at 100, 64, 32 and 16 % of minFree. Large pages are split and shared from clear on;
soft is for balloons, which are the policies' affair here; from hard on it compresses and swaps; in low, VMs that use
more than their share stand still. minFree is 6, 4, 2 and 1 % of successive slices of RAM (4, 8, 16 GB and the rest); the
two published readings of it differ by 0.2 % at 28 GB (899 and 901 MB), and the smaller is used. How far free memory must
rise above a threshold before the state falls back is unpublished: a tenth, a guess.

Linux (a KVM host, bare metal, the host system of a Type 2 hypervisor): the high, low and min watermarks; the fourth
threshold is half of min. kswapd starts below low and stops at high.

Sources: Mem.MemMinFreePct as described by VMware's engineers; min = 4 sqrt(RAM in KiB) KiB within 128 KiB and 256 MiB,
at least what huge pages recommend (66 MiB with three zones); distance of the watermarks 0.1 % of RAM or a quarter of min
(``watermark_scale_factor`` 10).
"""

import math

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import STATES, HostRecord, HostSpecRecord

HIGH, CLEAR, SOFT, HARD, LOW = range(STATES + 1)
"""ESXi's names of the states."""

ESXI_SHARES = (1.0, 0.64, 0.32, 0.16)
"""Thresholds of clear, soft, hard and low as shares of minFree."""

RISE = 1.1
"""A state ends when free memory is above this many times the threshold that began it (a guess)."""

_SLICES_GIB = ((4.0, 0.06), (8.0, 0.04), (16.0, 0.02), (math.inf, 0.01))
_PUBLISHED_AT_28_GIB_MIB, _COMPUTED_AT_28_GIB_MIB = 899.0, 901.12


def esxi_min_free_mib(ram_mib: float) -> float:
    """ESXi's minFree for a host of this size."""
    left, total = ram_mib / 1024.0, 0.0
    for size, share in _SLICES_GIB[:3]:
        total += share * min(left, size) * 1024.0
        left = max(left - size, 0.0)
    return total * _PUBLISHED_AT_28_GIB_MIB / _COMPUTED_AT_28_GIB_MIB + _SLICES_GIB[3][1] * left * 1024.0


def linux_watermarks_mib(ram_mib: float) -> tuple[float, float, float]:
    """Linux's high, low and min watermarks for a machine of this size."""
    least = min(max(4.0 * math.sqrt(ram_mib * 1024.0) / 1024.0, 0.125), 256.0)
    least = max(least, 66.0 if ram_mib >= 4096.0 else 0.0)
    distance = max(least / 4.0, 0.001 * ram_mib)
    return least + 2.0 * distance, least + distance, least


@compiled
def advance(host: HostRecord, spec: HostSpecRecord) -> None:
    """Set the state that free memory calls for: falls at once, rises with hysteresis."""
    falling = rising = 0.0
    for i in range(STATES):
        if host.free_mib < spec.state_mib[i]:
            falling = i + 1.0
        if host.free_mib < spec.state_mib[i] * RISE:
            rising = i + 1.0
    host.state = min(max(host.state, falling), rising)
