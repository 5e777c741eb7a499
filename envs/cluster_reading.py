"""What an operator can read of a cluster, written into the arrays of the telemetry.

A host that has failed is read as it last was until the others have noticed; VMs on it likewise look as if they ran.
"""

import math
from typing import Any

from hvgym.envs import telemetry
from hvgym.envs.model import migration, moving, starting
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.placement import LOST, MOVING, NOWHERE, UP, WAITING


@compiled
def read(c: Any, rows_signals, vm_signals, host_signals, first: int, last: int) -> None:  # type: ignore[no-untyped-def]
    """Fill signals of clusters first..last-1: vm_signals ``[env, vm]``, host_signals ``[env, host]``; rows_signals ``[env, row]``
    is scratch."""
    for e in range(first, last):
        for h in range(c.machines.shape[1]):
            machine = c.machines[e, h]
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
            host = c.hosts[e, max(resident.host, 0)]
            telemetry.read_ages(c.vms[e, resident.row], host, c.vm_specs[e, resident.row], v, vm_signals[e, v])


@compiled
def _index(h: int) -> float:
    return math.nan if h == NOWHERE else float(h)


@compiled
def _read_place(c: Any, e: int, v: int, place: Any) -> None:
    resident = c.residents[e, v]
    copy, moving_now = resident.copy, resident.state == MOVING
    place.host, place.state = _index(resident.host), resident.state
    place.moving_to = _index(resident.target)
    place.wanted = _index(resident.wanted)
    place.copied_mib = copy.sent_mib if moving_now else 0.0
    place.remaining_mib = migration.left_mib(copy) if moving_now else 0.0
    place.round = copy.round if moving_now else 0.0
    place.throttle = copy.throttle if moving_now else 0.0
    place.blocked = resident.blocked
    place.since_lost_s = c.clock_s[e] - resident.lost_at_s if resident.recovering > 0.0 else math.nan
    place.restart_priority, place.restarts = resident.priority, resident.restarts_it
    place.tries, place.moves = resident.tries, resident.moves


@compiled
def _read_machine(c: Any, e: int, h: int, place: Any) -> None:
    machine, spec = c.machines[e, h], c.machine_specs[h]
    known = machine.state == UP or machine.noticed_s >= 0.0
    place.state = machine.state if known else UP
    place.maintenance = machine.maintenance
    place.deadline_s = machine.deadline_s - c.clock_s[e] if machine.maintenance * machine.deadline_s > 0.0 else math.nan
    place.pcpus, place.kind = c.host_specs[e, h].pcpus, spec.kind
    place.link_mib_per_s, place.nic_mib_per_s = spec.link_mib_per_s, spec.nic_mib_per_s
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
                elif resident.host == NOWHERE or resident.state == LOST:
                    obstacles[e, v, h] = starting.obstacle(c, e, v, h)
                else:
                    obstacles[e, v, h] = moving.obstacle(c, e, v, h)
