"""VMs of a cluster move while they work: which copies run, at what speed, and what is left when one ends.

A move that somebody wants (``Targets.move_to``) waits until the VM has booted, the stack's limits on copies at once allow it,
the target has room for the VM beside its own and others on their way, and nothing stands in the way for good: passed-through
devices, another architecture or hypervisor, a CPU level above the target's, storage that the target cannot reach where the
stack does not move disks, or a hypervisor that cannot. What the copy itself does is ``migration``'s.

Links. Each host has one link for copies, both ways at once; copies of one host share it alike, and each is as slow as the
slower of its two ends. Where VMs use the same link, copies get what VMs would leave, but no less than `COPY_SHARE` of it, and
VMs the rest. Both ends give CPU. The target holds what has arrived, the source all of the VM until the end: a VM that moves is
there twice. Pages in host swap are read back at the source before they are sent, as fast as its swap reads. In post-copy the
target holds all of the VM, the source what it has not sent.

At the target merged pages, compressed and swapped ones, page ages that the host knew and activity samples are as new; the
guest's own memory, page cache, balloon and counters are what they were; the pages lie there in large ones, as fresh memory does
(by post-copy too, where in truth they come one by one). A copy that ends without the VM leaves it where it was.

Left out: the time that a disk's move takes of the disks; that a copy leaves of its share of a link what the other end cannot
take.

Sources: law 1 to 6 of measured migrations (docs/validation.md), vSphere's and QEMU's manuals; one core for about 10 Gb/s at
either end (recalled); VMware's network I/O control gives vMotion and VMs equal shares (recalled).
"""

from typing import Any

from hvgym.envs.model import concurrency, convergence, migration, starting
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.copying import count_copy, end_copy, hold_memory, moves_disk, operation
from hvgym.envs.model.devices.io import NOTHING
from hvgym.envs.model.host import overcommit
from hvgym.envs.model.params import TIERS
from hvgym.envs.model.placement import (
    CONCURRENCY,
    FREE,
    MAINTENANCE,
    MOVING,
    NOT_UP,
    NOWHERE,
    RUNNING,
    STORAGE,
    answers,
)

COPY_SHARE = 0.5
"""Of a link that VMs use too."""

LEAST_NIC_SHARE = 0.02
"""Of a link that VMs use too, which copies never take, so that nothing is divided by 0."""


@compiled
def obstacle(c: Any, e: int, v: int, h: int) -> int:
    """What keeps running VM `v` from moving to host `h`, the limits on copies aside, after a `starting.look`."""
    resident, machine = c.residents[e, v], c.machines[e, h]
    if not answers(machine.state):
        return NOT_UP
    if machine.maintenance > 0.0:
        return MAINTENANCE
    fixed = c.live[v, resident.booted_kind, c.machine_specs[h].kind]
    if fixed != FREE:
        return fixed
    if moves_disk(c, e, v, h) and c.stack[0].moves_storage == 0.0:
        return STORAGE
    return starting.room_for_running(c, e, v, h)


@compiled
def begin_wanted(c: Any, e: int) -> None:
    """Begin the moves that are wanted, in the order in which they were, as far as limits allow."""
    n = _queue(c, e)
    if n > 0:
        starting.look(c, e)
    for i in range(n):
        resident = c.residents[e, c.queue[e, i]]
        resident.blocked = _obstacle_now(c, e, c.queue[e, i], resident.wanted)
        if resident.blocked == FREE and c.vms[e, resident.row].down_s <= 0.0:
            _begin(c, e, c.queue[e, i], resident.wanted)
            hold_memory(c, e)
            starting.look(c, e)


@compiled
def _queue(c: Any, e: int) -> int:
    """VMs that are to move, those that have waited longest first, into ``queue[:n]``; returns n."""
    n = 0
    for v in range(c.residents.shape[1]):
        resident = c.residents[e, v]
        if resident.state != RUNNING or resident.wanted == NOWHERE:
            continue
        if resident.wanted == resident.host:
            resident.wanted = NOWHERE
            continue
        resident.wanted_s += 1.0
        at = n
        while at > 0 and resident.wanted_s > c.residents[e, c.queue[e, at - 1]].wanted_s:
            c.queue[e, at] = c.queue[e, at - 1]
            at -= 1
        c.queue[e, at] = v
        n += 1
    return n


@compiled
def _obstacle_now(c: Any, e: int, v: int, h: int) -> int:
    """`obstacle`, and what the source and the limits on copies say."""
    stack, under_way, here = c.stack[0], 0.0, c.residents[e, v].host
    source, target = c.machines[e, here], c.machines[e, h]
    if not answers(source.state):
        return NOT_UP
    for other in range(c.machines.shape[1]):
        under_way += c.machines[e, other].outgoing
    if not concurrency.may_start(
        source.outgoing, target.incoming, under_way, stack.most_out, stack.most_in, stack.most_at_all
    ):
        return CONCURRENCY
    if stack.pools > 0.0:
        does = operation(c, e, v, h)
        if not (
            concurrency.fits_pools(source.units, does, c.machine_specs[here].most_units)
            and concurrency.fits_pools(target.units, does, c.machine_specs[h].most_units)
        ):
            return CONCURRENCY
    return obstacle(c, e, v, h)


@compiled
def _begin(c: Any, e: int, v: int, h: int) -> None:
    resident = c.residents[e, v]
    migration.begin(resident.copy, c.vms[e, resident.row], c.vm_specs[e, resident.row], c.rules[0])
    if moves_disk(c, e, v, h):
        resident.disk_left_mib = c.disk_mib[v]
    resident.state, resident.target, resident.source = MOVING, h, resident.host
    resident.wanted, resident.wanted_s = NOWHERE, 0.0
    resident.copy_operation = operation(c, e, v, h)
    count_copy(c, e, v, 1.0)


@compiled
def cancel(c: Any, e: int, v: int) -> None:
    """Leave the VM where it was; after a switch to post-copy there is no way back."""
    if c.residents[e, v].state == MOVING and c.residents[e, v].host == c.residents[e, v].source:
        end_copy(c, e, v, False)
        starting.look(c, e)  # what was held is free, and is to be read so


@compiled
def room_mib(c: Any, e: int, h: int) -> float:
    """What the link of host `h` carries of copies in a second, each way."""
    link = c.machine_specs[h].link_mib_per_s
    if c.machine_specs[h].shares_link == 0.0:
        return link
    left = max(link - c.hosts[e, h].tick_net_mib_per_s, COPY_SHARE * link)  # of what VMs wanted, not of what they got
    return min(left, (1.0 - LEAST_NIC_SHARE) * link)


@compiled
def _read_back(c: Any, e: int, v: int, most_mib: float) -> float:
    """Pages in the source's swap are read before they can be sent; return what may be sent in this second."""
    resident = c.residents[e, v]
    vm, host, host_spec = c.vms[e, resident.row], c.hosts[e, resident.host], c.host_specs[e, resident.host]
    swapped = overcommit.host_swapped_mib(vm)
    on_device = swapped - vm.zipped_mib
    if on_device <= NOTHING:
        return most_mib
    mib_per_s = host_spec.swap_mib_per_s / c.machines[e, resident.host].outgoing
    read = min(on_device, mib_per_s, most_mib)
    left = 1.0 - read / swapped
    for k in range(TIERS):
        vm.host_swapped_mib[k] *= left
    vm.free_swapped_mib *= left
    vm.boot_swapped_mib *= left
    vm.host_swap_in_mib += read
    host.swap_in_mib += read
    if host_spec.swap_is_disk > 0.0:
        host.write_backlog_mib += read  # it takes the device's time as writing does
    else:
        host.swap_backlog_mib += read
    return min(read + (1.0 - read / mib_per_s) * most_mib, most_mib)


@compiled
def _copy_one(c: Any, e: int, v: int) -> None:
    """A second of one copy."""
    resident = c.residents[e, v]
    source, target = c.machines[e, resident.source], c.machines[e, resident.target]
    left = min(room_mib(c, e, resident.source) / source.outgoing, room_mib(c, e, resident.target) / target.incoming)
    sent = 0.0
    if resident.disk_left_mib > 0.0:  # the disk first, then memory
        by_disks = min(
            c.machine_specs[resident.source].disk_mib_per_s / source.outgoing,
            c.machine_specs[resident.target].disk_mib_per_s / target.incoming,
        )
        sent = min(left, by_disks, resident.disk_left_mib)
        resident.disk_left_mib -= sent
        left -= sent
    if resident.disk_left_mib <= 0.0:
        vm, spec = c.vms[e, resident.row], c.vm_specs[e, resident.row]
        if resident.host == resident.source:
            left = _read_back(c, e, v, left)
        sent += migration.advance(resident.copy, vm, spec, c.rules[0], left)
    resident.moved_mib += sent
    cpus = sent * c.stack[0].cpu_per_mib_per_s
    source.tx_mib_per_s += sent
    target.rx_mib_per_s += sent
    source.copy_cpu += cpus
    target.copy_cpu += cpus


@compiled
def _arrive(c: Any, e: int, v: int) -> None:
    """The VM runs at the target from now on, with what its guest holds; what the source's host knew of it stays behind."""
    resident = c.residents[e, v]
    h = resident.target
    starting.put(c, e, v, h)
    vm = c.vms[e, resident.row]
    for k in range(TIERS):
        vm.host_swapped_mib[k] = vm.merged_mib[k] = 0.0
    vm.free_swapped_mib = vm.boot_swapped_mib = vm.zipped_mib = vm.zipped_share = vm.shared_mib = 0.0
    vm.false_read_mib = vm.double_paged_mib = vm.zeroed_mib = vm.reclaim_mib = 0.0
    vm.large_share = 1.0
    vm.sample_cpu_s, vm.sample_progress_s, vm.sample_periods = vm.cpu_s, vm.progress_s, 0.0
    if moves_disk(c, e, v, h):
        resident.disk_host = h if c.machine_specs[h].own_storage > 0.0 else NOWHERE


@compiled
def copy(c: Any, e: int) -> None:
    """A second of all copies; VMs change hosts, and hosts feel what copies take."""
    any_one = False
    for h in range(c.machines.shape[1]):
        machine = c.machines[e, h]
        any_one = any_one or machine.outgoing + machine.incoming + machine.copying > 0.0
    if not any_one:
        return
    for h in range(c.machines.shape[1]):
        machine = c.machines[e, h]
        machine.tx_mib_per_s = machine.rx_mib_per_s = machine.copy_cpu = 0.0
        machine.copying = machine.outgoing + machine.incoming  # so that the second after the last one clears all this
    for v in range(c.residents.shape[1]):
        if c.residents[e, v].state == MOVING:
            _copy_one(c, e, v)
    for v in range(c.residents.shape[1]):
        resident = c.residents[e, v]
        if resident.state != MOVING:
            continue
        result = resident.copy.result
        if resident.host == resident.source and (
            result == convergence.DONE or resident.copy.phase == convergence.POSTCOPY
        ):
            _arrive(c, e, v)
        if result == convergence.DONE:
            end_copy(c, e, v, True)
        elif result == convergence.ABORTED:
            end_copy(c, e, v, False)
    _weigh_on_hosts(c, e)


@compiled
def _weigh_on_hosts(c: Any, e: int) -> None:
    """What copies take of memory, CPU and link of their hosts."""
    hold_memory(c, e)
    for h in range(c.machines.shape[1]):
        machine, spec = c.machines[e, h], c.machine_specs[h]
        c.hosts[e, h].tax_cpu += machine.copy_cpu  # which a tick begins anew
        if spec.shares_link > 0.0:
            taken = max(machine.tx_mib_per_s, machine.rx_mib_per_s)
            c.host_specs[e, h].nic_mib_per_s = spec.nic_mib_per_s - taken
