"""Memory sizes drawn anew every minute, uniformly between each VM's minimum and its configured size.

What no thought at all achieves. A scenario on which it closes much of the way to the reference asks for no more than that some
memory is taken. Draws are by counter (Philox, keyed with the seed, counted by period), so that a size depends on seed, time and VM
alone, in whatever batch it is drawn.

Edge cases. Nothing is read but the configuration, so no statistics can mislead it. A VM that starts gets a size at the next
decision, whatever it started with. No minimum is one of 0; limits are not known.
"""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.readings import least_mib
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


class RandomSizes(Policy):
    """Draws a size for every running VM."""

    period_s = 60.0
    visibility = Visibility.P0

    def __init__(self) -> None:
        self._seed = 0

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._seed = seed

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm, least = telemetry.vm, least_mib(telemetry.vm)
        drawn = np.stack([self._drawn(int(now_s // self.period_s), vm.shape[1]) for now_s in telemetry.time_s])
        return Targets(np.where(vm["running"] > 0.0, least + drawn * (vm["memory_mib"] - least), np.nan))

    def _drawn(self, period: int, vms: int) -> np.ndarray:
        """One number in [0, 1) a VM; the counter's second word is the period, its first one counts the draws in it."""
        return np.random.Generator(np.random.Philox(key=self._seed, counter=[0, period, 0, 0])).random(vms)
