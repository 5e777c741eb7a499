"""VMs of a cluster come, are lost, and are started again.

A VM is started on the host that somebody wants (a policy of placement); where nobody says, the stack itself takes the host with
the most RAM that is not promised to VMs (VMware's rule for restarts; a worst fit, as most schedulers ship), if its stack does that.
Where a policy's choice is refused, such a stack chooses too. A VM that nobody protects waits for its own host.
It starts only where the hypervisor's own admission lets it (``host.admission``), configured memory stays below the stack's ratio of
RAM, and the host takes orders and is not in maintenance. Else it waits and is tried again: a first start every second, from the
second on that ends when it is due, as on a host alone; a restart as its high availability has it (``restarts.tried``). One that was
given up is started where a policy wants it.

A restart boots: the guest is as cold as one that arrives, and what policies asked of it is forgotten. Its disk is the storage it
shares; where that lay in the dead host, it waits for that host.

A host holds memory for copies that it takes in. It counts as used where memory is committed, and by reservations alone where these
decide.

Sources: vSphere's availability guide (most unreserved capacity first); cluster.md's timers, see ``restarts``.
"""

from typing import Any

from hvgym.envs.model import restarts
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.copying import end_copy
from hvgym.envs.model.host import admission, overcommit
from hvgym.envs.model.placement import (
    ABSENT,
    CONCURRENCY,
    FREE,
    LOST,
    MAINTENANCE,
    MEMORY,
    NOT_UP,
    NOWHERE,
    REFUSED,
    RUNNING,
    STORAGE,
    WAITING,
    answers,
    lay_out,
)
from hvgym.envs.model.start import begin_vm


@compiled
def look(c: Any, e: int) -> None:
    """Add up what hosts have promised and what is free, on which `obstacle` relies, after something has changed in a second."""
    for h in range(c.machines.shape[1]):
        first, last = c.machines[e, h].first, c.machines[e, h].first + c.machines[e, h].count
        overcommit.account(c.vms[e, first:last], c.vm_specs[e, first:last], c.hosts[e, h], c.host_specs[e, h])
    add_up_promises(c, e)


@compiled
def add_up_promises(c: Any, e: int) -> None:
    """The part of `look` that does between two seconds, when each host has accounted for itself."""
    for h in range(c.machines.shape[1]):
        c.machines[e, h].promised_mib = c.machines[e, h].reserved_mib = 0.0
    for v in range(c.residents.shape[1]):
        resident = c.residents[e, v]
        if resident.host != NOWHERE:
            _promise(c.machines[e, resident.host], c.vms[e, resident.row], c.vm_specs[e, resident.row])
        if resident.target != NOWHERE and resident.target != resident.host:
            kind = c.machine_specs[resident.target].kind
            _promise(c.machines[e, resident.target], c.vms[e, resident.row], c.kinds[e, kind, v])


@compiled
def _promise(machine: Any, vm: Any, spec: Any) -> None:
    machine.promised_mib += spec.memory_mib
    if vm.admitted > 0.0:
        machine.reserved_mib += spec.min_mib + spec.overhead_mib


@compiled
def obstacle(c: Any, e: int, v: int, h: int) -> int:
    """What keeps VM `v` from being started on host `h`, after a `look`."""
    machine, spec, resident = c.machines[e, h], c.kinds[e, c.machine_specs[h].kind, v], c.residents[e, v]
    if not answers(machine.state):
        return NOT_UP
    if machine.maintenance > 0.0:
        return MAINTENANCE
    if c.cold[v, c.machine_specs[h].kind] != FREE:
        return c.cold[v, c.machine_specs[h].kind]
    if not is_new(resident) and resident.disk_host != (h if c.machine_specs[h].own_storage > 0.0 else NOWHERE):
        return STORAGE
    return MEMORY if _is_full(c, e, h, spec) or missing_mib(c, e, h, spec) > 0.0 else FREE


@compiled
def is_new(resident: Any) -> bool:
    """Whether a VM has never been started, so that its disk lies nowhere yet."""
    return bool(resident.state == ABSENT or resident.state == WAITING)


@compiled
def _is_full(c: Any, e: int, h: int, spec: Any) -> bool:
    """Whether the stack's ratio of configured memory, or its filter of free memory, leaves no room for one more VM of this
    specification, after a `look`."""
    promised, host = c.machines[e, h].promised_mib + spec.memory_mib, c.hosts[e, h]
    if c.stack[0].needs_guaranteed > 0.0 and host.free_mib + host.cache_mib < spec.min_mib + spec.overhead_mib:
        return True
    return bool(promised > c.stack[0].most_overcommit * c.host_specs[e, h].ram_mib)


@compiled
def missing_mib(c: Any, e: int, h: int, spec: Any) -> float:
    """`admission.missing_mib` on a host which copies may be on their way to, after a `look`."""
    machine, host, host_spec = c.machines[e, h], c.hosts[e, h], c.host_specs[e, h]
    if host_spec.admission == admission.RESERVATION:
        unreserved = host_spec.ram_mib - c.machine_specs[h].own_mib - machine.reserved_mib
        swap_left = host_spec.swap_mib - host.swap_used_mib
        return max(spec.min_mib + spec.overhead_mib - unreserved, spec.memory_mib - spec.min_mib - swap_left)
    first, last = machine.first, machine.first + machine.count
    return admission.missing_mib(c.vms[e, first:last], c.vm_specs[e, first:last], host, host_spec, spec)


@compiled
def room_for_running(c: Any, e: int, v: int, h: int) -> int:
    """`FREE`, or `MEMORY` where host `h` has no room for a VM that runs elsewhere, after a `look`.

    Where memory is committed that takes what the VM has, its balloon left out, and nothing of that can be paged.
    """
    host, host_spec, vm = c.hosts[e, h], c.host_specs[e, h], c.vms[e, c.residents[e, v].row]
    spec = c.kinds[e, c.machine_specs[h].kind, v]
    if host_spec.admission == admission.COMMIT:
        has_mib = spec.memory_mib - vm.balloon_mib + spec.overhead_mib
        missing = has_mib + host_spec.min_free_mib - host.free_mib
    else:
        missing = missing_mib(c, e, h, spec)
    return MEMORY if _is_full(c, e, h, spec) or missing > 0.0 else FREE


@compiled
def _widest(c: Any, e: int, v: int, again: bool) -> int:
    """The host with the most RAM that is promised to nobody, of those on which VM `v` can start."""
    best, most, nearest = NOWHERE, 0.0, FREE
    for h in range(c.machines.shape[1]):
        left = c.host_specs[e, h].ram_mib - c.machines[e, h].promised_mib
        found = _obstacle_now(c, e, v, h, again)
        nearest = max(nearest, found)  # obstacles are in order: what stands late in their list passes sooner
        if found == FREE and (best == NOWHERE or left > most):
            best, most = h, left
    c.residents[e, v].blocked = nearest
    return best


@compiled
def _obstacle_now(c: Any, e: int, v: int, h: int, again: bool) -> int:
    """`obstacle`, and the stack's limit on starts at once."""
    found = obstacle(c, e, v, h)
    if found == FREE and again and c.machines[e, h].starting >= c.ha[0].starts_per_host:
        return CONCURRENCY
    return found


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
    """Start a VM that has no host, where it is wanted or where there is most room, after a `look`, which a start makes stale;
    whether that was possible. `again`: after a failure, so that the stack's limits on starts at once hold, and that one without
    protection stays with its host."""
    resident = c.residents[e, v]
    if c.vms[e, resident.row].may_start == 0.0:
        return False
    h = resident.wanted
    if h != NOWHERE:
        resident.blocked = _obstacle_now(c, e, v, h, again)
        if resident.blocked != FREE:
            h = NOWHERE
            if again and not restarts.is_protected(resident, c.ha[0]):
                return False
    if h == NOWHERE and c.stack[0].places > 0.0:
        h = _widest(c, e, v, again)
    if h == NOWHERE:
        return False
    _boot_on(c, e, v, h)
    return True


@compiled
def power_off(c: Any, e: int, row: int) -> None:
    """A VM is as one that has never been started; counters stay."""
    c.spare_vms[e, row] = c.vms[e, row]
    c.vms[e, row] = c.blank[0]
    vm, spec, old = c.vms[e, row], c.vm_specs[e, row], c.spare_vms[e, row]
    vm.touches, vm.major_faults, vm.gc_s, vm.host_stalled_s = (
        old.touches,
        old.major_faults,
        old.gc_s,
        old.host_stalled_s,
    )
    vm.swap_in_mib, vm.swap_out_mib, vm.file_in_mib, vm.file_out_mib = (
        old.swap_in_mib, old.swap_out_mib, old.file_in_mib, old.file_out_mib,
    )  # fmt: skip
    vm.host_swap_in_mib, vm.host_swap_out_mib = old.host_swap_in_mib, old.host_swap_out_mib
    vm.balloon_moved_mib, vm.disk_mib, vm.net_mib = old.balloon_moved_mib, old.disk_mib, old.net_mib
    vm.cpu_s, vm.ready_s, vm.asked_s, vm.progress_s = old.cpu_s, old.ready_s, old.asked_s, old.progress_s
    vm.slo_violation_s, vm.oom_kills, vm.failed_starts = old.slo_violation_s, old.oom_kills, old.failed_starts
    vm.charged_s, vm.heap_errors = old.charged_s, old.heap_errors
    vm.sample_cpu_s, vm.sample_progress_s = vm.cpu_s, vm.progress_s
    begin_vm(vm, spec)
    vm.asked_mib = spec.memory_mib
    vm.arrive_in_s = 1.0  # the hosts' own admission leaves it alone


@compiled
def lose(c: Any, e: int, v: int) -> None:
    """A VM is down, for its host has died under it or let it go."""
    resident = c.residents[e, v]
    power_off(c, e, resident.row)
    resident.state, resident.tries, resident.next_try_s = LOST, 0.0, 0.0
    resident.wanted, resident.wanted_s, resident.copy.held_back = NOWHERE, 0.0, 0.0
    serve_no_more(c, e, v)


@compiled
def serve_no_more(c: Any, e: int, v: int) -> None:
    """From this second on a failure keeps a VM from its work."""
    resident = c.residents[e, v]
    if resident.recovering == 0.0:
        resident.lost_at_s, resident.recovering = float(c.clock_s[e]), 1.0


@compiled
def leave(c: Any, e: int, v: int) -> None:
    """A VM is deleted."""
    resident = c.residents[e, v]
    end_copy(c, e, v, False)
    power_off(c, e, resident.row)
    if resident.recovering > 0.0:  # it was never back
        resident.slowest_recovery_s = max(resident.slowest_recovery_s, c.clock_s[e] - resident.lost_at_s)
    resident.state, resident.recovering, resident.blocked, resident.copy.held_back = ABSENT, 0.0, FREE, 0.0
    resident.wanted, resident.wanted_s = NOWHERE, 0.0
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
            lose(c, e, v)
            put(c, e, v, NOWHERE)
            restarts.release(resident, c.ha[0], float(c.clock_s[e]))


@compiled
def come_and_go(c: Any, e: int) -> None:
    """VMs are deleted at their time, and asked for at theirs."""
    clock_s, looked = c.clock_s[e], False
    for v in range(c.residents.shape[1]):
        resident = c.residents[e, v]
        if resident.state != ABSENT and clock_s >= resident.leave_s:
            leave(c, e, v)
            looked = False
        elif resident.state == ABSENT and resident.arrive_s - 1.0 <= clock_s < resident.leave_s:
            resident.state, resident.next_try_s = WAITING, clock_s
        was = resident.state
        if was == WAITING or (was == REFUSED and resident.wanted != NOWHERE):
            if not looked:
                look(c, e)
            looked = not _start(c, e, v, False)
            if was == REFUSED and not looked:
                resident.restarts += 1.0
            elif was == WAITING and looked:
                _wait(c, e, v)


@compiled
def _wait(c: Any, e: int, v: int) -> None:
    """A first start that takes too long is charged once, as on a host alone."""
    resident = c.residents[e, v]
    vm = c.vms[e, resident.row]
    if c.clock_s[e] + 1.0 - resident.arrive_s >= admission.GIVEN_UP_S and vm.failed_starts == 0.0:
        vm.failed_starts = 1.0
        vm.charged_s += c.vm_specs[e, resident.row].kill_cost_s


@compiled
def restart(c: Any, e: int) -> None:
    """Try those VMs again whose turn it is, as many at once as the stack starts."""
    n = restarts.queue(c.residents[e], c.ha[0], float(c.clock_s[e]), c.queue[e])
    if n == 0:
        return
    look(c, e)
    under_way = restarts.count_starts(c.machines[e], c.residents[e], float(c.clock_s[e]))
    for i in range(n):
        if under_way >= c.ha[0].starts_per_cluster:
            break
        resident = c.residents[e, c.queue[e, i]]
        if c.vms[e, resident.row].may_start == 0.0:  # somebody keeps it waiting, which is no try
            continue
        if c.stack[0].places == 0.0 and resident.wanted == NOWHERE:  # whoever places it has not been asked yet
            continue
        started = _start(c, e, c.queue[e, i], True)
        if started or resident.blocked != CONCURRENCY:
            restarts.tried(resident, c.ha[0], float(c.clock_s[e]), started)
        if started:
            under_way += 1
            c.machines[e, resident.host].starting += 1.0
            look(c, e)
