"""Shares of disk and link by importance, set once: what an operator does who knows which VMs matter and looks no further.

vSphere's levels are in the proportion 1 : 2 : 4. A VM that is marked critical gets the high level, any other the normal
one, of the disk (1,000 shares normal) and of the link (50). Shares bind only while the device is short, so what critical
VMs leave goes to the others.

Fails when: the critical are many, for shares are relative; a critical VM is its own worst neighbour; half of the device is
not enough for it (shares promise a part, no rate and no latency).

Edge cases. Nothing is read but the configuration, so no statistics can mislead it. A VM that starts gets its shares at the
next decision; one without a mark is taken for one that is not critical. Limits and reservations stay the scenario's.

Sources: VMware's vSphere Resource Management guide (low, normal and high disk shares 500, 1,000 and 2,000); network shares of
25, 50 and 100 are recalled.
"""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

NORMAL_DISK_SHARES, NORMAL_NET_SHARES = 1000.0, 50.0


class StaticShares(Policy):
    """Critical VMs get `high_ratio` times the normal shares."""

    period_s = 60.0
    visibility = Visibility.P0

    def __init__(self, high_ratio: float = 2.0) -> None:
        self.high_ratio = high_ratio

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm = telemetry.vm
        level = np.where(vm["critical"] > 0.0, self.high_ratio, 1.0)
        running = vm["running"] > 0.0
        return Targets(
            disk_shares=np.where(running, level * NORMAL_DISK_SHARES, np.nan),
            net_shares=np.where(running, level * NORMAL_NET_SHARES, np.nan),
        )
