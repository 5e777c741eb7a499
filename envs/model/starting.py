"""VMs of a cluster come, are lost, and are started again.

A VM is started on the host that somebody wants (a policy of placement); where nobody says, the stack itself takes the host with
the most RAM that is not promised to VMs (VMware's rule for restarts; a worst fit, as most schedulers ship), if its stack does that.
It starts only where the hypervisor's own admission lets it (``host.admission``), configured memory stays below the stack's ratio of
RAM, and the host is at work and not in maintenance. Else it waits and is tried again: a first start every second, a restart as its
high availability has it (``restarts.tried``).

A restart boots: the guest is as cold as one that arrives. Its disk is the storage it shares; where that lay in the dead host, it
waits for that host.

Sources: vSphere's availability guide (most unreserved capacity first); cluster.md's timers, see ``restarts``.
"""

from typing import Any

from hvgym.envs.model import restarts
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.copying import end_copy
from hvgym.envs.model.host import admission, overcommit
from hvgym.envs.model.params import TIERS
from hvgym.envs.model.placement import (
    ABSENT,
    CONCURRENCY,
    FREE,
    LOST,
    MAINTENANCE,
    MEMORY,
    NOT_UP,
    NOWHERE,
    RUNNING,
    STORAGE,
    UP,
    WAITING,
    lay_out,
)
from hvgym.envs.model.start import begin_vm


@compiled
def look(c: Any, e: int) -> None:
    """Add up what hosts have promised and what is free, on which `obstacle` relies."""
    for h in range(c.machines.shape[1]):
        machine = c.machines[e, h]
        machine.promised_mib = 0.0
        first, last = machine.first, machine.first + machine.count
        overcommit.account(c.vms[e, first:last], c.vm_specs[e, first:last], c.hosts[e, h], c.host_specs[e, h])
    for v in range(c.residents.shape[1]):
        resident = c.residents[e, v]
        memory_mib = c.vm_specs[e, resident.row].memory_mib
        if resident.host != NOWHERE:
            c.machines[e, resident.host].promised_mib += memory_mib
        if resident.target != NOWHERE and resident.target != resident.host:
            c.machines[e, resident.target].promised_mib += memory_mib


@compiled
def obstacle(c: Any, e: int, v: int, h: int) -> int:
    """What keeps VM `v` from being started on host `h`, after a `look`."""
    machine, spec = c.machines[e, h], c.kinds[e, c.machine_specs[h].kind, v]
    if machine.state != UP:
        return NOT_UP
    if machine.maintenance > 0.0:
        return MAINTENANCE
    if c.cold[v, c.machine_specs[h].kind] != FREE:
        return c.cold[v, c.machine_specs[h].kind]
    if c.residents[e, v].disk_host != NOWHERE and c.residents[e, v].disk_host != h:
        return STORAGE
    return room(c, e, h, spec)


@compiled
def room(c: Any, e: int, h: int, spec: Any) -> int:
    """`FREE`, or `MEMORY` where a host has no room for one more VM of this specification, after a `look`."""
    machine, host, host_spec = c.machines[e, h], c.hosts[e, h], c.host_specs[e, h]
    if machine.promised_mib + spec.memory_mib > c.stack[0].most_overcommit * host_spec.ram_mib:
        return MEMORY
    first, last = machine.first, machine.first + machine.count
    missing = admission.missing_mib(c.vms[e, first:last], c.vm_specs[e, first:last], host, host_spec, spec)
    return MEMORY if missing > 0.0 else FREE


@compiled
def _widest(c: Any, e: int, v: int, again: bool) -> int:
    """The host with the most RAM that is promised to nobody, of those on which VM `v` can start."""
    best, most = NOWHERE, 0.0
    for h in range(c.machines.shape[1]):
        left = c.host_specs[e, h].ram_mib - c.machines[e, h].promised_mib
        if best == NOWHERE or left > most:
            found = obstacle(c, e, v, h) if _may(c, e, h, again) else CONCURRENCY
            if found == FREE:
                best, most = h, left
            else:
                c.residents[e, v].blocked = found
    return best


@compiled
def _may(c: Any, e: int, h: int, again: bool) -> bool:
    return not again or c.machines[e, h].starting < c.ha[0].starts_per_host


@compiled
def put(c: Any, e: int, v: int, h: int) -> None:
    """Let a VM lie on another host, or on none, and be what it is there."""
    resident = c.residents[e, v]
    resident.host = h
    lay_out(c.vms[e], c.vm_specs[e], c.residents[e], c.machines[e], c.order[e], c.spare_vms[e], c.spare_specs[e])
    if h != NOWHERE:
        spec = c.vm_specs[e, resident.row]
        reporting = spec.reporting_share_per_s
        c.vm_specs[e, resident.row] = c.kinds[e, c.machine_specs[h].kind, v]
        spec.reporting_share_per_s = reporting


@compiled
def _boot_on(c: Any, e: int, v: int, h: int) -> None:
    put(c, e, v, h)
    resident, machine, host, host_spec = c.residents[e, v], c.machines[e, h], c.hosts[e, h], c.host_specs[e, h]
    first, last = machine.first, machine.first + machine.count
    vm, spec = c.vms[e, resident.row], c.vm_specs[e, resident.row]
    begin_vm(vm, spec)
    overcommit.account(c.vms[e, first:last], c.vm_specs[e, first:last], host, host_spec)
    admission.boot(vm, spec, host, host_spec)
    overcommit.account(c.vms[e, first:last], c.vm_specs[e, first:last], host, host_spec)
    resident.state, resident.blocked, resident.booted_kind = RUNNING, FREE, c.machine_specs[h].kind
    resident.wanted = NOWHERE
    if c.machine_specs[h].own_storage > 0.0:
        resident.disk_host = h


@compiled
def _start(c: Any, e: int, v: int, again: bool) -> bool:
    """Start a VM that has no host, where it is wanted or where there is most room; whether that was possible. `again`: after a
    failure, so that the stack's limits on starts at once hold."""
    resident = c.residents[e, v]
    if c.vms[e, resident.row].may_start == 0.0:
        return False
    look(c, e)
    h = resident.wanted
    if h != NOWHERE:
        resident.blocked = obstacle(c, e, v, h) if _may(c, e, h, again) else CONCURRENCY
        if resident.blocked != FREE:
            h = NOWHERE
    if h == NOWHERE and c.stack[0].places > 0.0:
        h = _widest(c, e, v, again)
    if h == NOWHERE:
        return False
    _boot_on(c, e, v, h)
    return True


@compiled
def power_off(vm: Any) -> None:
    """A VM's memory is gone, wherever it was; counters stay."""
    for k in range(TIERS):
        vm.allocated_mib[k] = vm.resident_mib[k] = vm.clean_mib[k] = vm.host_swapped_mib[k] = vm.merged_mib[k] = 0.0
        vm.ungrown_mib[k] = vm.leaving_mib[k] = vm.fault_in_mib[k] = vm.next_missing_mib[k] = 0.0
    vm.zipped_mib = vm.zipped_share = vm.shared_mib = vm.balloon_mib = vm.free_leaving_mib = 0.0
    vm.free_backed_mib = vm.free_swapped_mib = vm.free_deflated_mib = vm.free_untouched_mib = 0.0
    vm.reclaim_mib = vm.replaced_mib = vm.replaced_mib_per_s = vm.queued_single_mib = vm.queued_runs_mib = 0.0
    vm.false_read_mib = vm.double_paged_mib = vm.zeroed_mib = vm.growth_mib = vm.file_growth_mib = 0.0
    vm.granted_mib = vm.inflate_mib = vm.moving = vm.starving = vm.starved_s = vm.heap_ballooned_mib = 0.0
    vm.admitted = vm.working = vm.progress = vm.held_back = vm.down_s = vm.refilling = 0.0
    vm.missing_goal_mib = -1.0
    vm.psi_some10 = vm.host_psi_some10 = 0.0
    vm.arrive_in_s = 1.0  # the hosts' own admission leaves it alone


@compiled
def lose(c: Any, e: int, v: int, since_s: float) -> None:
    """The host of a VM has died under it."""
    resident = c.residents[e, v]
    power_off(c.vms[e, resident.row])
    resident.state, resident.lost_at_s, resident.recovering = LOST, since_s, 1.0
    resident.tries, resident.next_try_s = 0.0, 0.0


@compiled
def leave(c: Any, e: int, v: int) -> None:
    """A VM is deleted."""
    end_copy(c, e, v, False)
    power_off(c.vms[e, c.residents[e, v].row])
    c.residents[e, v].state, c.residents[e, v].recovering = ABSENT, 0.0
    put(c, e, v, NOWHERE)


@compiled
def shut_down(c: Any, e: int, h: int) -> None:
    """A host goes down for its maintenance: what still runs there is forced off, and that is charged as a kill is."""
    for v in range(c.residents.shape[1]):
        resident = c.residents[e, v]
        if resident.host == h and c.vms[e, resident.row].admitted > 0.0:
            vm = c.vms[e, resident.row]
            vm.oom_kills += 1.0
            vm.charged_s += c.vm_specs[e, resident.row].kill_cost_s
            end_copy(c, e, v, False)
            lose(c, e, v, float(c.clock_s[e]))
            put(c, e, v, NOWHERE)
            restarts.release(resident, c.ha[0], float(c.clock_s[e]))


@compiled
def come_and_go(c: Any, e: int) -> None:
    """VMs are deleted at their time, and asked for at theirs."""
    clock_s = c.clock_s[e]
    for v in range(c.residents.shape[1]):
        resident = c.residents[e, v]
        if resident.state != ABSENT and clock_s >= resident.leave_s:
            leave(c, e, v)
        elif resident.state == ABSENT and resident.arrive_s <= clock_s < resident.leave_s:
            resident.state, resident.next_try_s = WAITING, clock_s
        if resident.state == WAITING and not _start(c, e, v, False):
            _wait(c, e, v)


@compiled
def _wait(c: Any, e: int, v: int) -> None:
    """A first start that takes too long is charged once, as on a host alone."""
    resident = c.residents[e, v]
    vm = c.vms[e, resident.row]
    if c.clock_s[e] - resident.arrive_s >= admission.GIVEN_UP_S and vm.failed_starts == 0.0:
        vm.failed_starts = 1.0
        vm.charged_s += c.vm_specs[e, resident.row].kill_cost_s


@compiled
def restart(c: Any, e: int) -> None:
    """Try those VMs again whose turn it is, as many at once as the stack starts."""
    n = restarts.queue(c.residents[e], c.ha[0], float(c.clock_s[e]), c.queue[e])
    if n == 0:
        return
    under_way = restarts.count_starts(c.machines[e], c.residents[e], float(c.clock_s[e]))
    for i in range(n):
        if under_way >= c.ha[0].starts_per_cluster:
            break
        resident = c.residents[e, c.queue[e, i]]
        started = _start(c, e, c.queue[e, i], True)
        if started or resident.blocked != CONCURRENCY:
            restarts.tried(resident, c.ha[0], float(c.clock_s[e]), started)
        if started:
            under_way += 1
            c.machines[e, resident.host].starting += 1.0
