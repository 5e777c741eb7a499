"""Never reclaim: every VM keeps its configured size and the hypervisor swaps when RAM runs out. The zero of the score.

Edge cases. Nothing is read; a VM that starts small is told its configured size like any other. Limits are the
hypervisor's.
"""

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


class Static(Policy):
    """Asks for the configured size."""

    period_s = 60.0
    visibility = Visibility.P0

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        return Targets(telemetry.vm["memory_mib"].copy())
