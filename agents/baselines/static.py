"""Never reclaim: every VM keeps its configured size and the hypervisor swaps when RAM runs out. The zero of the score.

Edge cases. No statistics are read. A VM that was told to start with less keeps what it started with, for nobody gives it more
(Hyper-V without Dynamic Memory's balancer, libvirt's currentMemory). Limits are the hypervisor's.
"""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


class Static(Policy):
    """Asks for the configured size, of VMs that started with it."""

    period_s = 60.0
    visibility = Visibility.P0

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        return Targets(np.where(np.isnan(telemetry.vm["startup_mib"]), telemetry.vm["memory_mib"], np.nan))
