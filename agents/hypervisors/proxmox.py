"""Proxmox VE's automatic ballooning, as pvestatd runs it every 10 s.

The host aims at 80 % of its memory used. What is above or below that goal is spread over VMs in proportion to shares
*above each VM's minimum*, at most 100 MiB per VM and cycle; VMs that report little free memory (at most a quarter of
their minimum; caches do not count) are spared when shrinking and served first when growing. `plan` and `distribute`
are pure and in bytes, as the original, so that they can be compared with it.

Fails when: a VM below its fair surplus is idle (it is never shrunk), demand rises faster than 10 MiB/s per VM, a
cache-full guest looks pressured. It never reacts to swap or PSI. The original starts VMs at their minimum; here the
VMs of an episode have been running for a while, and it takes them over at the size they have.

Source: algorithm and constants of pve-manager ``PVE/AutoBalloon.pm`` and ``PVE/Service/pvestatd.pm``, re-implemented
from a description.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

MIB = 1 << 20
DEAD_BAND = 10 * MIB
DEFAULT_SHARES = 1000


@dataclass(frozen=True)
class BalloonedVm:
    """One VM as the original sees it; bytes. `free` is the guest's free memory without caches, None when not reported."""

    vmid: int
    minimum: int
    balloon: int
    maximum: int
    free: int | None
    shares: int | None = None


def distribute(vms: Sequence[BalloonedVm], sizes: dict[int, int], amount: int, max_change: int) -> int:
    """Spread `amount` bytes (negative: take away) over `vms`, updating `sizes`; return what is left.

    The cap of `max_change` counts from each VM's size at the start of the cycle, not of the pass.
    """
    rest = amount
    open_vms = list(vms)
    changed = True
    while rest and changed and open_vms:
        changed = False
        surplus = sum(sizes[vm.vmid] - vm.minimum for vm in open_vms) + rest
        shares = sum(_shares(vm) for vm in open_vms)
        for vm in tuple(open_vms):
            desired = vm.minimum + math.floor(surplus * _shares(vm) / shares)
            desired = max(vm.minimum, min(desired, vm.maximum))
            if amount > 0 and desired > vm.balloon:
                size = min(desired, vm.balloon + max_change)
            elif desired < vm.balloon:
                size = max(desired, vm.balloon - max_change)
            else:
                open_vms.remove(vm)
                continue
            if size != sizes[vm.vmid]:
                rest -= size - sizes[vm.vmid]
                sizes[vm.vmid] = size
                changed = True
    return rest


def plan(vms: Sequence[BalloonedVm], goal: int, max_change: int = 100 * MIB) -> dict[int, int]:
    """Return the new size, in bytes, of every VM that changes; `goal` is host memory to hand out (negative: to get
    back).
    """
    sizes = {vm.vmid: vm.balloon for vm in vms}
    managed = [vm for vm in vms if _shares(vm) > 0]
    roomy = [vm for vm in managed if _has_free_memory(vm)]
    pressed = [vm for vm in managed if not _has_free_memory(vm)]
    if abs(goal) > DEAD_BAND:
        rest = distribute(pressed if goal > 0 else roomy, sizes, goal, max_change)
        if rest == goal:
            distribute(managed, sizes, rest, max_change)
    return {vm.vmid: sizes[vm.vmid] for vm in vms if sizes[vm.vmid] != vm.balloon}


def _shares(vm: BalloonedVm) -> int:
    return DEFAULT_SHARES if vm.shares is None else vm.shares


def _has_free_memory(vm: BalloonedVm) -> bool:
    return vm.free is not None and vm.free > 0.25 * vm.minimum and vm.balloon >= vm.minimum


class Proxmox(Policy):
    """Applies `plan` to every host of the batch."""

    period_s = 10.0
    visibility = Visibility.P1

    def __init__(self, target_share: float = 0.80, max_change_mib: float = 100.0) -> None:
        self.target_share = target_share
        self.max_change_mib = max_change_mib

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        sizes = np.full(telemetry.vm.shape, np.nan)
        for lane in range(len(sizes)):
            host = telemetry.host[lane, 0]
            used = host["total_mib"] - host["available_mib"]
            goal = int((host["total_mib"] * self.target_share - used) * MIB)
            for index, size in plan(_read(telemetry.vm[lane]), goal, int(self.max_change_mib * MIB)).items():
                sizes[lane, index] = size / MIB
        return Targets(sizes)


def _read(row: np.ndarray) -> list[BalloonedVm]:
    """The managed VMs of one host, ``[vm]`` of telemetry; one that is stopped or has no balloon is skipped."""
    names = ("min_mib", "size_mib", "memory_mib", "guest_free_mib", "shares", "running")
    columns = [row[name].tolist() for name in names]
    return [
        BalloonedVm(
            index,
            int(low * MIB),
            int(size * MIB),
            int(high * MIB),
            None if math.isnan(free) else int(free * MIB),
            None if math.isnan(shares) else int(shares),
        )
        for index, (low, size, high, free, shares, running) in enumerate(zip(*columns, strict=True))
        if running > 0.0 and not math.isnan(size)
    ]
