"""Proxmox VE's automatic ballooning, as pvestatd runs it every 10 s.

The host aims at 80 % of its memory used. What is above or below that goal is spread over VMs in proportion to shares
*above each VM's minimum*, at most 100 MiB per VM and cycle; VMs that report little free memory (at most a quarter of
their minimum; caches do not count) are spared when shrinking and served first when growing. When those served first gain
nothing *net*, all are considered. A VM without a balloon, without a configured minimum or with shares of 0 is left alone.
`plan` and `distribute` are pure and in bytes, as the original, so that they can be compared with it.

Fails when: a VM below its fair surplus is idle (it is never shrunk), demand rises faster than 10 MiB/s per VM, a
cache-full guest looks pressured. It never reacts to swap or PSI. Left out: a VM that is being migrated is skipped by the
original; here none is.

Edge cases. No statistics: the VM counts as pressured, so it is served first and shrunk last. Frozen: the last free
memory counts, however old. Windows: its free memory includes caches, so it rarely looks pressured. Start: a VM is
told its minimum at once (at the next cycle here) and grows from there; VMs that run when an episode begins are taken
over at the size they have, but for those that are told how to start, for they start then. Limits: it knows none.

Source: algorithm and constants of pve-manager ``PVE/AutoBalloon.pm`` and ``PVE/Service/pvestatd.pm``, and of the start of a
VM in ``PVE/QemuServer.pm``, re-implemented from a description.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.readings import started_before
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

MIB = 1 << 20
DEAD_BAND = 10 * MIB
DEFAULT_SHARES = 1000


@dataclass(frozen=True)
class BalloonedVm:
    """One VM as the original sees it; bytes. minimum, balloon: 0 where there is none. `free` is the guest's free memory
    without caches, None when not reported.
    """

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
            desired = vm.minimum + int(surplus / shares * _shares(vm))
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
    managed = [vm for vm in vms if vm.balloon and vm.minimum and _shares(vm)]
    roomy = [vm for vm in managed if _has_free_memory(vm)]
    pressed = [vm for vm in managed if not _has_free_memory(vm)]
    if goal > DEAD_BAND:
        rest = distribute(pressed, sizes, goal, max_change)
        if rest >= goal:  # they gained nothing together, though some may have grown and others shrunk
            distribute(managed, sizes, rest, max_change)
    elif goal < -DEAD_BAND:
        rest = distribute(roomy, sizes, goal, max_change)
        if rest <= goal:
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

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._ran = started_before(first)

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        runs = telemetry.vm["running"] > 0.0
        starts, self._ran = runs & ~self._ran & (telemetry.vm["min_mib"] > 0.0), runs
        sizes = np.where(starts, telemetry.vm["min_mib"], np.nan)
        for lane in range(len(sizes)):
            host = telemetry.host[lane, 0]
            used = host["total_mib"] - host["available_mib"]
            goal = int((host["total_mib"] * self.target_share - used) * MIB)
            vms = _read(telemetry.vm[lane], runs[lane] & ~starts[lane])
            for index, size in plan(vms, goal, int(self.max_change_mib * MIB)).items():
                sizes[lane, index] = size / MIB
        return Targets(sizes)


def _read(row: np.ndarray, there: np.ndarray) -> list[BalloonedVm]:
    """The VMs of one host, ``[vm]`` of telemetry, that are `there`."""
    names = ("min_mib", "size_mib", "memory_mib", "guest_free_mib", "shares")
    columns = [row[name][there].tolist() for name in names]
    return [
        BalloonedVm(
            index,
            _bytes(low) or 0,
            _bytes(size) or 0,
            _bytes(high) or 0,
            _bytes(free),
            None if math.isnan(shares) else int(shares),
        )
        for index, low, size, high, free, shares in zip(np.flatnonzero(there).tolist(), *columns, strict=True)
    ]


def _bytes(mib: float) -> int | None:
    """None where it is not known."""
    return None if math.isnan(mib) else int(mib * MIB)
