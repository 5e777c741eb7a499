"""One constant for all: every VM keeps the same share of what lies between its minimum and its configured size.

The best that a policy can do which looks at nothing, once the share has been tuned on other seeds of the same scenarios;
whatever reacts has to beat it. It does not know the host: a share that is too large leaves the rest to the hypervisor,
one that is too small leaves memory unused. Tuned shares hold for the scenarios on which they were found.

Edge cases. Nothing is read, so no statistics can mislead it. A VM that starts gets its size at the next decision,
whatever it started with. No minimum is one of 0; limits are not known.
"""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.readings import least_mib
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


class BestConstant(Policy):
    """Sizes every running VM at `share` of the way from its minimum to its configured size."""

    period_s = 10.0
    visibility = Visibility.P0

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm, least = telemetry.vm, least_mib(telemetry.vm)
        sizes = least + self.share * (vm["memory_mib"] - least)
        return Targets(np.where(vm["running"] > 0.0, sizes, np.nan))
