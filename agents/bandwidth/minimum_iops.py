"""Surrogate of Hyper-V's Storage QoS: critical VMs have a minimum of operations, which comes first; the rest is divided alike.

A policy of Windows Server 2016 gives a virtual disk a minimum and a maximum in normalised operations: 8 KiB or less count as one,
more as several. The policy manager measures every disk and sees to it that each has its minimum before anybody has more; where
minimums do not fit they are met in proportion, and VMs without one get like parts of what is left.

Shares do that where the host divides by shares alone: of a disk that serves T operations a second, s_i = m_i + (T - sum m) / n in
proportion gives each VM its minimum m_i and a like part of the rest. T is what was served in the last period, so a disk that is not
full is taken for smaller than it is, when shares do not bind anyway.

Fails when: an operation of a guest's paging costs more than its size says; the minimum is of another size than the need; latency
is what matters (a minimum is a rate).

Surrogate: the manager's control loop is not published, so period and division are guesses; which VMs have a minimum, and which,
is the operator's: here those marked critical, all the same `minimum_iops`. Hyper-V's own setting is no channel of its profile; the
policy plays where a host has shares. Left out: the maximum, aggregated policies.

Edge cases. Guests are asked nothing, so statistics that are missing, frozen or Windows' change nothing. A VM that starts has the
shares that follow from its minimum, and the last period's rate of all. Limits stay the scenario's. Where no VM is critical, or the
disk is not used, all get alike.

Sources: Microsoft's Storage Quality of Service (Windows Server 2016), and for Hyper-V (2012 R2), where the minimum only alerts.
"""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

OPERATIONS_PER_MIB = 128.0
"""Normalised: 8 KiB each."""

NORMAL_SHARES = 1000.0


def shares(served_iops: np.ndarray, minimum_iops: np.ndarray, vms: np.ndarray) -> np.ndarray:
    """Shares whose mean is `NORMAL_SHARES`, from all operations served a second ``[env, 1]``, minimums and which VMs run
    ``[env, vm]``. The disk serves at least the minimums, else they are in proportion and nothing is left."""
    count = np.maximum(vms.sum(axis=1, keepdims=True), 1)
    wanted = np.where(vms, minimum_iops, 0.0)
    left = np.maximum(served_iops - wanted.sum(axis=1, keepdims=True), 0.0)
    parts = np.where(vms, wanted + left / count, 0.0)
    total = parts.sum(axis=1, keepdims=True)
    return np.where(total > 0.0, NORMAL_SHARES * count * parts / np.where(total > 0.0, total, 1.0), NORMAL_SHARES)


class MinimumIops(Policy):
    """Divides the disk anew every period by what it served in the last."""

    period_s = 5.0
    visibility = Visibility.P0

    def __init__(self, minimum_iops: float = 2000.0) -> None:
        self.minimum_iops = minimum_iops
        self._time_s, self._moved_mib = np.zeros(0), np.zeros((0, 0))

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._time_s, self._moved_mib = first.time_s.copy(), first.vm["disk_mib"].copy()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm, passed_s = telemetry.vm, (telemetry.time_s - self._time_s)[:, None]
        moved_mib = np.nansum(np.maximum(vm["disk_mib"] - self._moved_mib, 0.0), axis=1, keepdims=True)
        self._time_s, self._moved_mib = telemetry.time_s.copy(), vm["disk_mib"].copy()
        served_iops = OPERATIONS_PER_MIB * moved_mib / np.where(passed_s > 0.0, passed_s, np.inf)
        running = vm["running"] > 0.0
        least = np.where(vm["critical"] > 0.0, self.minimum_iops, 0.0)
        return Targets(disk_shares=np.where(running, shares(served_iops, least, running), np.nan))
