"""What hosts hold for copies, and the end of a copy, however it comes: of use to all that makes VMs move, die or go."""

from typing import Any

from hvgym.envs.model import concurrency, convergence
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.host import overcommit
from hvgym.envs.model.placement import MOVING, NOT_ENDED, NOWHERE, RUNNING


@compiled
def held_mib(c: Any, e: int, v: int) -> float:
    """Memory that the end of a copy where the VM does not run holds for it."""
    resident = c.residents[e, v]
    vm, spec = c.vms[e, resident.row], c.vm_specs[e, resident.row]
    used = overcommit.used_mib(vm, spec) + overcommit.host_swapped_mib(vm)
    if resident.host != resident.source:  # post-copy: what has not been sent
        return float(convergence.left_mib(resident.copy))
    if c.kinds[e, c.machine_specs[resident.target].kind, v].committed > 0.0:
        return used
    return spec.overhead_mib + min(resident.copy.sent_mib, used - spec.overhead_mib)


@compiled
def hold_memory(c: Any, e: int) -> None:
    """What a copy holds where its VM does not run is the host's own, not a VM's."""
    for h in range(c.machines.shape[1]):
        c.machines[e, h].incoming_mib = 0.0
    for v in range(c.residents.shape[1]):
        resident = c.residents[e, v]
        if resident.state == MOVING:
            elsewhere = resident.target if resident.host == resident.source else resident.source
            c.machines[e, elsewhere].incoming_mib += held_mib(c, e, v)
    for h in range(c.machines.shape[1]):
        c.host_specs[e, h].own_mib = c.machine_specs[h].own_mib + c.machines[e, h].incoming_mib


@compiled
def moves_disk(c: Any, e: int, v: int, h: int) -> bool:
    """Whether the VM's disk is not where host `h` reaches it."""
    return bool(c.residents[e, v].disk_host != NOWHERE or c.machine_specs[h].own_storage > 0.0)


@compiled
def operation(c: Any, e: int, v: int, h: int) -> int:
    """What a move to host `h` is in ESXi's pools."""
    return concurrency.SHARED_NOTHING if moves_disk(c, e, v, h) else concurrency.VMOTION


@compiled
def count_copy(c: Any, e: int, v: int, sign: float) -> None:
    """A copy of a VM counts at both of its ends (`sign` 1), or no longer (-1)."""
    resident = c.residents[e, v]
    source, target = c.machines[e, resident.source], c.machines[e, resident.target]
    source.outgoing += sign
    target.incoming += sign
    concurrency.charge(source.units, resident.copy_operation, sign)
    concurrency.charge(target.units, resident.copy_operation, sign)


@compiled
def end_copy(c: Any, e: int, v: int, arrived: bool) -> None:
    """A copy is over, whatever came of it."""
    resident = c.residents[e, v]
    if resident.state != MOVING:
        return
    count_copy(c, e, v, -1.0)
    if arrived:
        resident.moves += 1.0
    else:
        resident.failed_moves += 1.0
        resident.blocked = NOT_ENDED
    resident.downtime_s += resident.copy.downtime_s
    held_back = resident.copy.held_back if arrived else 0.0
    resident.copy.phase, resident.copy.throttle = convergence.IDLE, 0.0
    resident.copy.held_back = held_back  # of the second that is to come
    resident.state, resident.target, resident.source, resident.disk_left_mib = RUNNING, NOWHERE, NOWHERE, 0.0
    hold_memory(c, e)
