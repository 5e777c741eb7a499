"""Static proportional share: the host's RAM divided over VMs by configured size times shares, once and for all.

What a careful operator sets by hand. It never looks at use, so idle giants keep what workers lack; it does keep the
host out of swap. Above each VM's minimum, memory is filled up at one level per weight until RAM is used
(water-filling). VMs that have yet to start have their part kept for them.

Edge cases. No guest is asked, so no statistics can mislead it. A VM that starts gets its part at the next decision,
whatever it started with. No minimum is one of 0; limits are not known.
"""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.readings import least_mib, shares_of
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


def divide(capacity: float, low: np.ndarray, high: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Divide `capacity` in proportion to `weights`, each within [low, high]; all ``[vm]`` in one unit.

    Returns the minimums when even they do not fit, and the maximums when all fit.
    """
    if high.sum() <= capacity:
        return high.copy()
    if low.sum() >= capacity:
        return low.copy()
    levels = np.sort(np.concatenate([low, high]) / np.concatenate([weights, weights]))
    sums = np.clip(levels[:, None] * weights, low, high).sum(axis=1)
    after = int(np.searchsorted(sums, capacity))
    share = (capacity - sums[after - 1]) / (sums[after] - sums[after - 1])
    level = levels[after - 1] + share * (levels[after] - levels[after - 1])
    return np.asarray(np.clip(level * weights, low, high))


class ProportionalShare(Policy):
    """Divides RAM, less `keep_free_share` and `overhead_mib` per VM, by size times shares."""

    period_s = 60.0
    visibility = Visibility.P0

    def __init__(self, keep_free_share: float = 0.05, overhead_mib: float = 128.0) -> None:
        self.keep_free_share = keep_free_share
        self.overhead_mib = overhead_mib

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm, host = telemetry.vm, telemetry.host
        own = host["total_mib"][:, 0] - host["available_mib"][:, 0] - vm["resident_mib"].sum(axis=1)
        capacity = (1.0 - self.keep_free_share) * host["total_mib"][:, 0] - own - self.overhead_mib * vm.shape[1]
        sizes = np.empty(vm.shape)
        for lane in range(len(vm)):
            weights = vm["memory_mib"][lane] * np.maximum(shares_of(vm[lane]), 1.0)
            sizes[lane] = divide(float(capacity[lane]), least_mib(vm[lane]), vm["memory_mib"][lane], weights)
        return Targets(np.where(vm["running"] > 0.0, sizes, np.nan))
