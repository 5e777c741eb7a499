"""A second of a cluster: hosts fail and come back, VMs are started, moved, lost and started again, and each host has its second.

Modelled here: the order of what happens, and where VMs lie (``placement``); what happens is in ``failure`` (timers of high
availability), ``starting`` (first starts and restarts), ``moving`` and ``migration`` (copies) and, for each host by itself, in
``tick``. Hosts meet only in what these do. A cluster of one host runs the bits of that host alone.

Order: failures and maintenance; VMs that are lost, leave, arrive; restarts; moves; then the hosts' seconds; then counters. A VM
is unserved from the second on in which its host has died or is cut off, until it does `SERVES` of its work again.

Left out: the network between hosts but for its links, shared storage as a device of its own (each host's disk stands for its path
to it), and what a VM's users do while it is down.
"""

from typing import Any, NamedTuple

import numpy as np

from hvgym.envs.model import cluster_start, failure, moving, restarts, starting, tick
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.copying import end_copy
from hvgym.envs.model.host import overcommit
from hvgym.envs.model.placement import (
    ABSENT,
    DEAD,
    FREE,
    ISOLATED,
    LOST,
    MOVING,
    NOWHERE,
    RETURNING,
    RUNNING,
    STALLED,
)

STALL = 0.95
"""Share of a second for which VMs of a host that dies slowly stand still (a guess: retries of a failing disk or DIMM)."""

SERVES = 0.5
"""A VM that was lost is back when it does so much of its work."""


class Arrays(NamedTuple):
    """A batch of clusters. Records of ``params`` and ``placement``; rows are those of `lay_out`, VMs their indices.

    vms, vm_specs ``[env, row]``; hosts, host_specs, machines ``[env, host]``; machine_specs ``[host]``; residents ``[env, vm]``;
    order ``[env, row]`` the VM that lies in a row; demand ``[env, slot, vm]``; now ``[env, row]`` the demand of this second; kinds
    ``[env, kind, vm]`` the specifications of VMs by group of hosts; live ``[vm, kind, kind]`` what stands in the way of a running
    VM that booted on hosts of one group and moves to another; cold ``[vm, kind]`` of one that is started; disk_mib ``[vm]``;
    failures ``[failure]``, plans ``[plan]`` of maintenance; rules ``[1]`` of migration, ha ``[1]``, stack ``[1]``; spare_vms,
    spare_specs ``[env, row]`` and queue ``[env, vm]`` scratch; blank ``[1]`` a VM of zeros; clock_s ``[env]``, slot_s ``[1]``.
    """

    vms: np.ndarray
    vm_specs: np.ndarray
    hosts: np.ndarray
    host_specs: np.ndarray
    machines: np.ndarray
    machine_specs: np.ndarray
    residents: np.ndarray
    order: np.ndarray
    demand: np.ndarray
    now: np.ndarray
    kinds: np.ndarray
    live: np.ndarray
    cold: np.ndarray
    disk_mib: np.ndarray
    failures: np.ndarray
    plans: np.ndarray
    rules: np.ndarray
    ha: np.ndarray
    stack: np.ndarray
    spare_vms: np.ndarray
    spare_specs: np.ndarray
    queue: np.ndarray
    blank: np.ndarray
    clock_s: np.ndarray
    slot_s: np.ndarray


@compiled
def _ask_now(c: Any, e: int) -> None:
    """Bring the demand of this second into the order of the rows."""
    slot = tick.slot_at(c.clock_s[e], c.slot_s[0], c.demand.shape[1])
    for row in range(c.now.shape[1]):
        c.now[e, row] = c.demand[e, slot, c.order[e, row]]


@compiled
def _works(state: int) -> bool:
    """Whether VMs of a host in this state exist, whoever they work for."""
    return state != DEAD and state != RETURNING


@compiled
def _follow_plans(c: Any, e: int) -> None:
    """Planned maintenance begins: the host is to be emptied; at the deadline it goes down with what is left, and comes back."""
    clock_s = c.clock_s[e]
    for i in range(len(c.plans)):
        plan, machine = c.plans[i], c.machines[e, c.plans[i].host]
        if clock_s == plan.from_s:
            machine.maintenance, machine.deadline_s, machine.emptied_s = 1.0, plan.deadline_s, -1.0
        elif clock_s == plan.deadline_s:
            starting.shut_down(c, e, plan.host)
            machine.state, machine.since_s, machine.ends_s = DEAD, clock_s, plan.until_s
            machine.heard_s = machine.off_s = machine.noticed_s = machine.fenced_s = clock_s  # nobody has to find out
        elif clock_s == plan.until_s:
            machine.maintenance = 0.0


@compiled
def _come_back(c: Any, e: int) -> None:
    """Hosts that can hold VMs again are as new."""
    for h in range(c.machines.shape[1]):
        machine = c.machines[e, h]
        if _works(machine.state) and machine.was_down > 0.0:
            cluster_start.restart_host(c, e, h)
        machine.was_down = 0.0 if _works(machine.state) else 1.0


@compiled
def _lose(c: Any, e: int) -> None:
    """VMs of hosts that have died are lost; where others know that for sure, they are in the queue of restarts."""
    for v in range(c.residents.shape[1]):
        resident = c.residents[e, v]
        if resident.state == MOVING:
            _break_copy(c, e, v)
        if resident.host == NOWHERE:
            continue
        machine = c.machines[e, resident.host]
        if (resident.state == RUNNING or resident.state == MOVING) and machine.off_s >= 0.0:
            starting.lose(c, e, v)
        if resident.state == LOST and restarts.restartable(resident, machine, c.ha[0]):
            home = resident.host
            starting.put(c, e, v, NOWHERE)
            restarts.release(resident, c.ha[0], float(c.clock_s[e]))
            if not restarts.is_protected(resident, c.ha[0]):
                resident.wanted = home


@compiled
def _break_copy(c: Any, e: int, v: int) -> None:
    """A copy of which one end has died or is cut off: the VM stays at its source; after a switch to post-copy, without the rest of
    its memory, it dies, which its host tells."""
    resident = c.residents[e, v]
    source, target = c.machines[e, resident.source], c.machines[e, resident.target]
    if source.off_s < 0.0 and source.state != ISOLATED and target.off_s < 0.0 and target.state != ISOLATED:
        return
    runs_at_target = resident.host == resident.target
    end_copy(c, e, v, False)
    if runs_at_target and target.off_s < 0.0:
        starting.lose(c, e, v)
        if restarts.is_protected(resident, c.ha[0]):
            starting.put(c, e, v, NOWHERE)
            restarts.release(resident, c.ha[0], float(c.clock_s[e]))


@compiled
def _hold_back(c: Any, e: int) -> None:
    """For which share of this second vCPUs stand still: for a copy, on a host that dies slowly, or where nobody reaches them."""
    for v in range(c.residents.shape[1]):
        resident = c.residents[e, v]
        if resident.host == NOWHERE:
            continue
        vm, state = c.vms[e, resident.row], c.machines[e, resident.host].state
        held = 0.0
        if resident.state == MOVING:
            held = resident.copy.held_back
        elif resident.copy.held_back > 0.0:  # what its last copy left of the second in which it stopped
            held, resident.copy.held_back = resident.copy.held_back, 0.0
        if state == STALLED:
            held = max(held, STALL)
        elif state == ISOLATED:
            held = 1.0
            starting.serve_no_more(c, e, v)
        vm.held_back = held


@compiled
def _second_of_hosts(c: Any, e: int) -> None:
    for h in range(c.machines.shape[1]):
        machine = c.machines[e, h]
        first, last = machine.first, machine.first + machine.count
        if not _works(machine.state):
            c.hosts[e, h].clock_s += 1.0
            overcommit.account(c.vms[e, first:last], c.vm_specs[e, first:last], c.hosts[e, h], c.host_specs[e, h])
            continue
        tick.tick(
            c.vms[e, first:last], c.hosts[e, h], c.vm_specs[e, first:last], c.host_specs[e, h], c.now[e, first:last]
        )
        if machine.copy_cpu > 0.0:
            c.hosts[e, h].cpu_utilisation += machine.copy_cpu / c.host_specs[e, h].pcpus
        machine.net_mib_per_s = min(c.hosts[e, h].tick_net_mib_per_s, c.host_specs[e, h].nic_mib_per_s)
        if machine.maintenance > 0.0 and machine.emptied_s < 0.0 and machine.count == 0 and machine.outgoing == 0.0:
            machine.emptied_s = c.clock_s[e]


@compiled
def _count(c: Any, e: int) -> None:
    """What a second without a host costs a VM, and whether one that was lost is back."""
    for v in range(c.residents.shape[1]):
        resident = c.residents[e, v]
        vm, spec = c.vms[e, resident.row], c.vm_specs[e, resident.row]
        if resident.state == ABSENT:
            vm.progress = 0.0
            continue
        if resident.host == NOWHERE or resident.state == LOST:
            vm.progress = 0.0
            vm.asked_s += 1.0
            vm.slo_violation_s += spec.critical
        if resident.recovering > 0.0:
            resident.outage_s += 1.0
            if (resident.state == RUNNING or resident.state == MOVING) and vm.progress >= SERVES:
                resident.recovering = 0.0
                took_s = c.clock_s[e] + 1.0 - resident.lost_at_s
                resident.slowest_recovery_s = max(resident.slowest_recovery_s, took_s)


@compiled
def second(c: Any, e: int) -> None:
    """Advance one cluster by one second."""
    clock_s = float(c.clock_s[e])
    if len(c.plans) > 0:
        _follow_plans(c, e)
    failure.advance(c.machines[e], c.machine_specs, c.ha[0], c.failures, c.hosts[e, 0].seed, clock_s)
    _come_back(c, e)
    _lose(c, e)
    starting.come_and_go(c, e)
    starting.restart(c, e)
    moving.begin_wanted(c, e)
    moving.copy(c, e)
    _hold_back(c, e)
    _ask_now(c, e)
    _second_of_hosts(c, e)
    _count(c, e)
    c.clock_s[e] += 1


@compiled
def advance(c: Any, ticks: int, first: int, last: int) -> None:
    """Advance clusters first..last-1 by `ticks` seconds."""
    for e in range(first, last):
        for _ in range(ticks):
            second(c, e)


@compiled
def want(c: Any, asked) -> None:  # type: ignore[no-untyped-def]
    """Note where VMs are wanted, ``[env, vm]`` (below 0: nothing is said); its own host calls off what was wanted, and a copy."""
    for e in range(len(asked)):
        for v in range(asked.shape[1]):
            resident, h = c.residents[e, v], asked[e, v]
            if h == NOWHERE or h == resident.wanted or (resident.state == MOVING and h == resident.target):
                continue
            if resident.state == MOVING:
                moving.cancel(c, e, v)
            resident.wanted, resident.wanted_s = h, 0.0
            if h == resident.host:
                resident.wanted, resident.blocked = NOWHERE, FREE
