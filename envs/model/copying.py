"""What hosts hold for copies, and the end of a copy, however it comes: of use to all that makes VMs move, die or go."""

from typing import Any

from hvgym.envs.model import convergence
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
def end_copy(c: Any, e: int, v: int, arrived: bool) -> None:
    """A copy is over, whatever came of it."""
    resident = c.residents[e, v]
    if resident.state != MOVING:
        return
    c.machines[e, resident.source].outgoing -= 1.0
    c.machines[e, resident.target].incoming -= 1.0
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
