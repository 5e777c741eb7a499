"""squeezed, XenServer's Dynamic Memory Control: all domains squeezed alike between their minimum and maximum.

Every domain gets its minimum and the same share gamma of the range up to its maximum, such that 72 MiB of the host stay free
(`squeezing.share_out`). Memory moves in two phases (`squeezing.iterate`): while a domain has to give, only those that give
are told; what came free is handed out later, so the host never runs dry. A check every 10 s; when targets are off, a pass
every second until all are reached and nothing changes. A driver without progress for 5 s is stuck: for the rest of these
passes the others do without it, and it may keep no more than it has. A domain off its target for 20 s is flagged as
uncooperative; nothing here reads the flag. For a VM that waits its share, or at least its minimum, is freed first; the share
takes its minimum for free already, as in the original. All in KiB.

Sees sizes only, of host and VMs: no pressure, no use. Fails when: needs differ (all get the same gamma), a driver creeps (a
page a second is progress), memory is short that no balloon governs.

Surrogate. A VM's size stands for what it holds of the host, and free is what would be left if each held its size: that is
so where memory is committed (Xen); a host that has promised more than it has lacks the difference. A VM that waits is
served at the next check, alone, once, if it fits beside all minimums; what was freed for it stays free until the check
after, which is all that a reservation does here. What it needs to boot is what it is told to start with, else
``boot_share`` of its memory, a guess. Left out: maximums that the hypervisor enforces, offsets calibrated at boot,
scrubbing, Dom0's own balloon. The original's tolerance of 512 KiB decides only what it logs.

Edge cases. No guest statistics are looked at, so it makes no difference whether they are missing, frozen or Windows';
a driver that is absent or hangs shows by its lack of progress. Start: the memory of a VM is freed first, as said
above; then it has a part in gamma. A range that is not known is the present target, as in the original; a minimum of
0 is a number (XenServer supports none below a quarter of the maximum). Limits: the maximum is the configured size.

Source: algorithm and constants of xen-api's ``squeezed/lib/squeeze.ml``, ``squeezed/src/squeeze_xen.ml`` and
``memory_server.ml``, re-implemented from a description.
"""

import math
from typing import Any

import numpy as np

from hvgym.agents.hypervisors.squeezing import ABSENT, BALLOONS, HOST, MUTE, NOTHING, VM, WAITS, look
from hvgym.agents.policy import Policy
from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

KIB_PER_MIB = 1024


@inlined
def kib(mib: float) -> int:
    """Whole KiB, half to even."""
    return int(np.rint(mib * KIB_PER_MIB))


@compiled
def read(vm: Any, row: Any, boot_share: float) -> None:
    """What a VM is by its telemetry; one that waits as if it ran with nothing."""
    vm.kind, vm.actual = ABSENT, 0
    if row.waiting > 0.0:
        vm.kind = WAITS
        least = row.startup_mib
        if np.isnan(least):
            least = max(0.0 if np.isnan(row.min_mib) else row.min_mib, boot_share * row.memory_mib)
        vm.minimum = vm.target = kib(least + row.overhead_mib)
        vm.maximum = kib(row.memory_mib + row.overhead_mib)
    elif row.running > 0.0 and np.isnan(row.size_mib):
        vm.kind = MUTE
        vm.minimum = vm.maximum = vm.target = vm.actual = kib(row.memory_mib)
    elif row.running > 0.0:
        vm.kind, vm.target, vm.actual = BALLOONS, kib(row.target_mib), kib(row.size_mib)
        bounded = not np.isnan(row.min_mib)
        vm.minimum = kib(row.min_mib) if bounded else vm.target
        vm.maximum = kib(row.memory_mib) if bounded else vm.target


@compiled
def free_mib(rows: Any, host_free_mib: float) -> float:
    """What a host would have free if its VMs held what they are told they have."""
    lacking_mib = 0.0
    for v in range(len(rows)):
        promised_mib = rows[v].size_mib + rows[v].overhead_mib - rows[v].resident_mib
        if rows[v].running > 0.0 and not np.isnan(promised_mib):
            lacking_mib += promised_mib
    return host_free_mib - lacking_mib


@compiled
def look_at_all(
    hosts: Any, vms: Any, rows: Any, host_rows: Any, time_s: Any, told_mib: Any, keep_free: int, check_s: float,
    stuck_after_s: float, boot_share: float,
) -> None:  # fmt: skip
    """Every host whose check has come or whose passes are under way; told_mib ``[env, vm]``: NaN where nothing is sent."""
    for lane in range(len(hosts)):
        if time_s[lane] < hosts[lane].checks_at_s:
            continue
        for v in range(vms.shape[1]):
            read(vms[lane, v], rows[lane, v], boot_share)
            vms[lane, v].told = NOTHING
        free = kib(free_mib(rows[lane], host_rows[lane, 0].free_mib))
        look(hosts[lane], vms[lane], free, time_s[lane], keep_free, check_s, stuck_after_s)
        for v in range(vms.shape[1]):
            if vms[lane, v].told != NOTHING:
                told_mib[lane, v] = vms[lane, v].told / KIB_PER_MIB


class Squeezed(Policy):
    """Runs squeezed on every host of the batch."""

    period_s = 1.0
    visibility = Visibility.P0

    def __init__(
        self,
        check_s: float = 10.0,
        keep_free_mib: float = 72.0,
        stuck_after_s: float = 5.0,
        uncooperative_after_s: float = 20.0,
        boot_share: float = 0.5,
    ) -> None:
        self.check_s = check_s
        self.keep_free = round(keep_free_mib * KIB_PER_MIB)
        self.stuck_after_s = stuck_after_s
        self.uncooperative_after_s = uncooperative_after_s
        self.boot_share = boot_share

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self.vms = np.zeros(first.vm.shape, VM)
        self.vms["cooperated_at_s"] = math.nan
        self.hosts = np.zeros(len(first.vm), HOST)
        self.hosts["checks_at_s"], self.hosts["serves"] = -math.inf, NOTHING

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        told_mib = np.full(telemetry.vm.shape, math.nan)
        look_at_all(
            self.hosts, self.vms, np.ascontiguousarray(telemetry.vm), np.ascontiguousarray(telemetry.host),
            telemetry.time_s.astype(np.float64), told_mib, self.keep_free, float(self.check_s),
            float(self.stuck_after_s), float(self.boot_share),
        )  # fmt: skip
        return Targets(told_mib)

    def uncooperative(self, lane: int, now_s: float) -> frozenset[int]:
        """VMs of one host that have been off their targets for so long."""
        late = now_s - self.vms["cooperated_at_s"][lane] > self.uncooperative_after_s
        return frozenset(np.flatnonzero(late).tolist())
