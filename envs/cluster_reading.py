"""What an operator can read of a cluster, written into the arrays of the telemetry.

A host that has failed is read as it was last read until the others have noticed, and one that is cut off from the network until
that is back; so are its VMs, and what stands in the way of moves there. VMs look as if they ran until their host is noticed. Nobody
notices a host that dies slowly: it looks as if it were at work.
"""

import math
from typing import Any

from hvgym.envs import telemetry
from hvgym.envs.model import convergence, failure, moving, starting
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.placement import ISOLATED, LOST, MOVING, NOWHERE, RUNNING, UP, WAITING


@compiled
def _noticed(machine: Any) -> bool:
    """Whether the others know what has become of a host."""
    return not failure.is_silent(machine) or machine.noticed_s >= 0.0


@compiled
def _answers(machine: Any) -> bool:
    """Whether there are new figures of a host: it tells them, or it is known to have none."""
    return machine.state != ISOLATED and _noticed(machine)


@compiled
def _vm_answers(c: Any, e: int, v: int) -> bool:
    host = c.residents[e, v].host
    return host == NOWHERE or _answers(c.machines[e, host])


@compiled
def read(c: Any, rows_signals, vm_signals, host_signals, first: int, last: int) -> None:  # type: ignore[no-untyped-def]
    """Fill signals of clusters first..last-1: vm_signals ``[env, vm]``, host_signals ``[env, host]``; rows_signals ``[env, row]``
    is scratch."""
    for e in range(first, last):
        for h in range(c.machines.shape[1]):
            machine = c.machines[e, h]
            if not _answers(machine):
                continue
            a, b = machine.first, machine.first + machine.count
            telemetry.read_host(
                c.vms[e, a:b],
                c.hosts[e, h],
                c.vm_specs[e, a:b],
                c.host_specs[e, h],
                rows_signals[e, a:b],
                host_signals[e, h],
            )
        for v in range(c.residents.shape[1]):
            resident = c.residents[e, v]
            if not _vm_answers(c, e, v):
                continue
            if resident.host == NOWHERE:
                telemetry.read_vm(c.vms[e, resident.row], c.vm_specs[e, resident.row], rows_signals[e, resident.row])
            vm_signals[e, v] = rows_signals[e, resident.row]
            vm_signals[e, v].waiting = 1.0 if resident.state == WAITING else 0.0


@compiled
def read_activity(c: Any, vm_signals, first: int, last: int) -> None:  # type: ignore[no-untyped-def]
    """Fill samples and page ages of clusters first..last-1."""
    for e in range(first, last):
        for v in range(c.residents.shape[1]):
            resident = c.residents[e, v]
            if not _vm_answers(c, e, v):
                continue
            host = c.hosts[e, max(resident.host, 0)]
            telemetry.read_ages(c.vms[e, resident.row], host, c.vm_specs[e, resident.row], v, vm_signals[e, v])


@compiled
def _index(h: int) -> float:
    return math.nan if h == NOWHERE else float(h)


@compiled
def _read_place(c: Any, e: int, v: int, place: Any) -> None:
    resident = c.residents[e, v]
    copy, moving_now = resident.copy, resident.state == MOVING
    known = resident.host == NOWHERE or _noticed(c.machines[e, resident.host])
    place.host = _index(resident.host)
    place.state = RUNNING if resident.state == LOST and not known else resident.state
    place.moving_to = _index(resident.target)
    place.wanted = _index(resident.wanted)
    place.copied_mib = copy.sent_mib if moving_now else 0.0
    place.remaining_mib = convergence.left_mib(copy) if moving_now else 0.0
    place.round = copy.round if moving_now else 0.0
    place.throttle = copy.throttle if moving_now else 0.0
    place.blocked = resident.blocked
    place.since_lost_s = c.clock_s[e] - resident.lost_at_s if known and resident.recovering > 0.0 else math.nan
    place.restart_priority, place.restarts = resident.priority, resident.restarts_it
    place.tries, place.moves = resident.tries, resident.moves


@compiled
def _read_machine(c: Any, e: int, h: int, place: Any) -> None:
    machine, spec = c.machines[e, h], c.machine_specs[h]
    place.state = machine.state if failure.is_silent(machine) and _noticed(machine) else UP
    place.maintenance = machine.maintenance
    place.deadline_s = machine.deadline_s - c.clock_s[e] if machine.maintenance * machine.deadline_s > 0.0 else math.nan
    place.pcpus, place.kind = c.host_specs[e, h].pcpus, spec.kind
    place.link_mib_per_s, place.nic_mib_per_s = spec.link_mib_per_s, spec.nic_mib_per_s
    if not _answers(machine):
        return
    place.net_mib_per_s = machine.net_mib_per_s
    place.copies_mib_per_s = max(machine.tx_mib_per_s, machine.rx_mib_per_s)
    place.outgoing, place.incoming, place.vms = machine.outgoing, machine.incoming, machine.count


@compiled
def read_places(c: Any, vms, hosts, obstacles) -> None:  # type: ignore[no-untyped-def]
    """Fill vms ``[env, vm]``, hosts ``[env, host]`` and obstacles ``[env, vm, host]`` as in `telemetry.Places`."""
    for e in range(len(vms)):
        starting.look(c, e)
        for h in range(hosts.shape[1]):
            _read_machine(c, e, h, hosts[e, h])
        for v in range(vms.shape[1]):
            _read_place(c, e, v, vms[e, v])
            resident = c.residents[e, v]
            for h in range(hosts.shape[1]):
                if h == resident.host:
                    obstacles[e, v, h] = 0
                elif not _noticed(c.machines[e, h]):
                    continue
                elif resident.host == NOWHERE or vms[e, v].state == LOST:
                    obstacles[e, v, h] = starting.obstacle(c, e, v, h)
                else:
                    obstacles[e, v, h] = moving.obstacle(c, e, v, h)
