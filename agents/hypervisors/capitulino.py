"""Automatic ballooning as proposed for QEMU (Capitulino's RFC, never merged): each VM alone answers the host's distress.

Every QEMU listens to the host kernel's memory pressure. On an event it inflates its balloon by a fixed amount, 16 MiB in the
patches, which listen at *medium* (a listener also hears what is worse). The plan was 1, 16 and 128 MiB for low, medium
and critical. Nothing is ever given back by the host: a guest under pressure of its own takes pages out of its balloon.

Fails when: two VMs differ at all, for each gives the same, idle or busy, large or small; host and guest are short at once,
when inflating and deflating cancel; pressure has ended and idle guests stay small. Nothing happens before the host
reclaims.

Surrogates, guesses in all. The kernel's level is the share of scanned pages that reclaim failed to free, which nobody can
read. Its meanings stand in for it (`level`): *low*, the kernel reclaims, available memory below its high watermark;
*medium*, some swapping: below its low watermark, or stalls of 1 %; *critical*, thrashing: below min, or stalls of 20 %. One
event a second. The guest's part, a shrinker of its balloon driver, is carried out here: a guest with less free memory
than the high watermark of a Linux of 4 GiB or more reclaims, and gets 16 MiB a second. A guest that reports nothing gets
nothing.

Edge cases. No statistics: the guest gives like any other and gets nothing back. Frozen: it gets or does not get as
when last heard (the driver itself would know). Windows: free memory includes caches, so it gets little back; the
shrinker is Linux's. Start: a VM gives from its first second on. Limits: none are known, nor is a minimum; the VM's
own holds here.

Sources: KVM wiki, Projects/auto-ballooning (amounts, design); Linux ``mm/vmpressure.c`` and the cgroup documentation of
its levels; watermarks as in ``model.host.states``.
"""

import enum

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.readings import least_mib
from hvgym.envs.model.host.states import linux_watermarks_mib
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


class Level(enum.IntEnum):
    """Levels of the host kernel's memory pressure."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    CRITICAL = 3


def level(available_mib: float, total_mib: float, psi_share: float, medium_psi: float, critical_psi: float) -> Level:
    """Pressure of a Linux host, from its available memory and the share of time stalled on memory."""
    high, low, least = linux_watermarks_mib(total_mib)
    if available_mib < least or psi_share >= critical_psi:
        return Level.CRITICAL
    if available_mib < low or psi_share >= medium_psi:
        return Level.MEDIUM
    return Level.LOW if available_mib < high else Level.NONE


def change_mib(inflate_mib: float, guest_free_mib: float, guest_low_mib: float, deflate_mib: float) -> float:
    """By how much a VM's size changes in a second; free memory of a guest that does not report is NaN."""
    return (deflate_mib if guest_free_mib < guest_low_mib else 0.0) - inflate_mib


class Capitulino(Policy):
    """Moves every balloon by fixed amounts."""

    period_s = 1.0
    visibility = Visibility.P1

    def __init__(
        self,
        low_mib: float = 0.0,
        medium_mib: float = 16.0,
        critical_mib: float = 16.0,
        deflate_mib: float = 16.0,
        guest_low_mib: float = 99.0,
        medium_psi: float = 0.01,
        critical_psi: float = 0.20,
    ) -> None:
        self.inflate_mib = {Level.NONE: 0.0, Level.LOW: low_mib, Level.MEDIUM: medium_mib, Level.CRITICAL: critical_mib}
        self.deflate_mib = deflate_mib
        self.guest_low_mib = guest_low_mib
        self.medium_psi = medium_psi
        self.critical_psi = critical_psi

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`. A balloon that is to stand still keeps the size last asked for."""
        vm = telemetry.vm
        changes = np.zeros(vm.shape)
        for lane in range(len(changes)):
            host = telemetry.host[lane, 0]
            state = level(
                float(host["available_mib"]),
                float(host["total_mib"]),
                float(host["psi_some10"]),
                self.medium_psi,
                self.critical_psi,
            )
            changes[lane] = [
                change_mib(self.inflate_mib[state], free, self.guest_low_mib, self.deflate_mib)
                for free in vm["guest_free_mib"][lane].tolist()
            ]
        sizes = np.clip(vm["size_mib"] + changes, least_mib(vm), vm["memory_mib"])
        moves = (vm["running"] > 0.0) & (changes != 0.0)
        return Targets(np.where(moves, sizes, np.nan))
