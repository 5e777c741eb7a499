"""A latency target for the disks of critical VMs, kept by halving what their neighbours may use (Linux's io.latency).

The kernel's controller gives a cgroup a target. In each window in which the group misses it, its peers with a looser target,
or none, may have half as many requests in flight as before, down to one. In each window in which it is met they get a
sixteenth of the full queue back, and all of it in the end. A peer that did 5 % of the I/O or less is spared: sometimes a group is
its own worst enemy. Here shares of the disk stand for the depth of a queue.

Fails when: the target lies below what the device can do, for then neighbours stay at the floor for ever and critical VMs are no
faster; critical VMs disturb each other (they have one target, so nobody gives way); the trouble is not the disk's.

Surrogates, guesses in all. The kernel's target is the operator's, in microseconds; here it is `target_ratio` times the least
latency that the VM has had since the start, which needs no knowledge of the device. The window is a second, the kernel's longest.
A queue depth of one is a floor of 1/`depth` of the normal shares. Left out: delays for what is written on a group's behalf (swap),
the percentile that counts on flash (here it is the mean), the scaling cookie that remembers how far all are from normal.

Edge cases. Guests are asked nothing, so statistics that are missing, frozen or Windows' change nothing. A VM whose latency is not
known misses nothing. One that starts has normal shares. Limits and reservations stay the scenario's. Where no VM is critical,
shares stay normal.

Source: Linux ``block/blk-iolatency.c`` (halving, 1/16, 5 %, windows of 100 ms to 1 s), ``cgroup-v2.rst``.
"""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

NORMAL_SHARES = 1000.0
CUT, RETURN_SHARE = 0.5, 1.0 / 16.0
SPARED_SHARE = 0.05
"""Of the I/O since the last decision: who did no more is not to blame."""


class IoLatency(Policy):
    """Scales the disk shares of VMs that are not critical."""

    period_s = 1.0
    visibility = Visibility.P0

    def __init__(self, target_ratio: float = 2.0, depth: float = 64.0) -> None:
        self.target_ratio = target_ratio
        self.depth = depth
        self._scale = self._least_s = self._moved_mib = np.zeros((0, 0))

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._scale = np.ones(first.vm.shape)
        self._least_s = np.full(first.vm.shape, np.inf)
        self._moved_mib = first.vm["disk_mib"].copy()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm = telemetry.vm
        running, latency_s = vm["running"] > 0.0, vm["disk_latency_s"]
        critical = running & (vm["critical"] > 0.0)
        done_mib = np.maximum(vm["disk_mib"] - self._moved_mib, 0.0)
        self._moved_mib = vm["disk_mib"].copy()
        busy = running & (done_mib > SPARED_SHARE * done_mib.sum(axis=1, keepdims=True))
        known = running & (done_mib > 0.0) & (latency_s > 0.0)  # what did nothing has no latency
        self._least_s = np.where(known, np.fmin(self._least_s, latency_s), self._least_s)
        missed = (critical & known & (latency_s > self.target_ratio * self._least_s)).any(axis=1, keepdims=True)
        cut = np.where(busy, np.maximum(CUT * self._scale, 1.0 / self.depth), self._scale)
        more = np.minimum(self._scale + RETURN_SHARE, 1.0)
        scale = np.where(critical | ~running, 1.0, np.where(missed, cut, more))
        self._scale = scale
        return Targets(disk_shares=np.where(running, NORMAL_SHARES * scale, np.nan))
