"""To do nothing. From inside it takes the place of what the hypervisor ships with: nobody reclaims, the hypervisor swaps when
RAM runs out (agent ``static``). From outside the hypervisor's own policy runs on beneath it: the hypervisor as shipped, the zero
of the score (agent ``stock``).

Edge cases. No statistics are read. A VM keeps the size that it was last asked to have: what it was told to start with, for
nobody gives it more, or what it had been ballooned to. Limits are the hypervisor's.
"""

from hvgym.agents.policy import Policy
from hvgym.envs.rules import Declaration
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


class Static(Policy):
    """Asks for nothing."""

    period_s = 60.0
    visibility = Visibility.P0
    declaration = Declaration(channels=(), signals=frozenset())

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        return Targets()
