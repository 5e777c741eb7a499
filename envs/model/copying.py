"""The end of a copy, however it comes: of use to all that makes VMs move, die or go."""

from typing import Any

from hvgym.envs.model import migration
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.placement import MOVING, NOT_ENDED, NOWHERE, RUNNING


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
    resident.copy.phase, resident.copy.throttle = migration.IDLE, 0.0
    resident.copy.held_back = held_back  # of the second that is to come
    resident.state, resident.target, resident.source, resident.disk_left_mib = RUNNING, NOWHERE, NOWHERE, 0.0
