"""The host's disk and swap device, and how fast each VM gets on with its work.

Modelled. Guest swap, page-cache misses and the applications' own I/O queue at one disk, with the host's swap or beside it
where that has a device of its own (M/M/1 wait at the utilisation that all of them cause). A VM stalls on its faults, x = 1 /
((1 - slack) taxes / cpu + stalls), with `fault_parallelism` faults in flight; slower VMs send fewer requests, so a device and
its VMs are solved together for the one utilisation at which both agree. Read-ahead saves waits for sequential touches as far
as swapped pages still lie in order (M4). Each I/O request, paging included, goes through the VM's virtual device and costs
what that takes (``virtual_devices``); a fault that the host serves costs an exit. An application may wait for some of its own
operations, one after the other (``disk_waits_per_s``): the bare machine would wait for the idle disk as often, so what slows
the VM is what they take beyond that. A hosted hypervisor's page cache serves part of the guests' reads. The disk serves who
comes first; where it is divided, ``bandwidth`` takes the place of the common queue.

Writes take their part like reads. What a guest swaps out goes to its disk as its free slots lie (``guest.paging``): pages one
by one, an operation each, or in runs, which take the time of their transfer and count as one operation for `RUN_PAGES`; page
cache is written back in runs, and so is the hypervisor's own swap. Of a guest that swaps in and out at once the disk keeps room
for as much swap-out as the last second needed per second of progress, so both slow it down together; what goes beyond is
queued, and goes before reads up to `WRITE_SHARE` of the disk; under a VM's limit, or of its part, each gets half while both
wait (`IN_TURN`). Reclaim frees pages as fast as they can be written.

Nothing reads more than a device can within a second: each VM may use what was planned for it and an equal part of what nobody
planned to use, and where that does not do, as in the second after a squeeze, it is slowed down (``tick``). What it then does not
send of its own, its faults have; so a VM whose limit its application fills gets slow when it must page, but never stands still.

Left out: read/write asymmetry of flash, several disks, an elevator that sorts scattered writes.

Sources: form of the stall and of the queue, docs/validation.md; device figures stand in ``conf/scenario`` and
``host.swap_devices``.
"""

import math

from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.devices import virtual_devices
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.guest import paging
from hvgym.envs.model.host import compression, cpu, overcommit
from hvgym.envs.model.host.swap_devices import READ_AHEAD_PAGES
from hvgym.envs.model.params import (
    PAGES_PER_MIB,
    DemandRecord,
    HostRecord,
    HostSpecRecord,
    VmRecord,
    VmSpecRecord,
)

MAX_UTILISATION = 0.995
"""A queue is never solved beyond this; the wait there is 200 service times."""

WRITE_SHARE = 0.9
"""Deferred writes take at most this share of the disk before reads; the rest waits for the next tick (a guess)."""

IN_TURN = 0.5
"""... and of what a VM is given or limited to, where its reads wait too: both are served in turn (measured: a balloon takes 2 MiB/s
of a guest that pages under a limit of 600 operations a second, which does half of its work meanwhile; the one point behind it)."""

SOLVED = 1e-3
"""The solver stops at a Newton step shorter than this share of the free utilisation; the error left is its square."""

MAX_SEARCH = 20

RUN_PAGES = 42.0
"""Pages that one write takes where they lie together (counted by QEMU as guests began to page; docs/fidelity.md)."""

NOTHING = 1e-12
"""A time, a rate or a share of a disk that is too small to divide by."""

SLOWEST = 0.01
"""Progress below which reads of the last tick are not scaled up any further."""

FILE_READ_AHEAD_PAGES = 32.0
"""Pages that a guest reads at once from a file in sequence (Linux ``read_ahead_kb`` 128)."""

REQUESTS_PER_MIB = 16.0
"""Application I/O comes in requests of 64 KiB (a guess)."""


@compiled
def missed_share(host: HostRecord) -> float:
    """Share of the guests' reads that a host's page cache does not serve; it holds a fair part of what they have evicted."""
    return 1.0 - host.cache_mib / (host.cache_mib + host.tick_evicted_mib) if host.cache_mib > 0.0 else 1.0


@inlined
def set_demand(
    vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, demand: DemandRecord
) -> None:
    """What one second of full progress of this VM asks of disk, swap device and CPU."""
    missed = missed_share(host)
    guest_reads = missed * (vm.paging_mib_per_s - vm.zram_fault_mib_per_s) * PAGES_PER_MIB
    vm.disk_demand = demand.disk_mib_per_s / host_spec.disk_mib_per_s
    in_sequence = vm.file_growth_mib
    if vm.file_growth_mib > 0.0:  # new page cache is read in sequence, and the workload waits for it
        vm.fixed_stall_s += vm.file_growth_mib / host_spec.disk_mib_per_s
        vm.disk_demand += vm.file_growth_mib / host_spec.disk_mib_per_s
    if vm.sequential_file_mib_per_s > 0.0:
        fetched = missed * vm.sequential_file_mib_per_s * (1.0 - 1.0 / FILE_READ_AHEAD_PAGES)
        guest_reads -= fetched * PAGES_PER_MIB
        in_sequence += fetched
        vm.fixed_stall_s += fetched / (host_spec.disk_mib_per_s * spec.fault_parallelism)
        vm.disk_demand += fetched / host_spec.disk_mib_per_s
    vm.fault_wait_operations = 0.0
    if guest_reads != 0.0:
        vm.disk_demand += guest_reads / host_spec.disk_iops
        vm.fault_wait_operations = guest_reads / spec.fault_parallelism
    if vm.replaced_mib_per_s > 0.0:
        runs = vm.run_share * vm.replaced_mib_per_s
        vm.disk_demand += write_s(vm.replaced_mib_per_s - runs, runs, host_spec)
    host_reads = 0.0
    if vm.host_fault_mib_per_s + vm.false_read_mib + vm.double_paged_mib + vm.zeroed_mib > 0.0:
        host_reads = _set_swap_demand(vm, spec, host, host_spec)
    paging = guest_reads + in_sequence * PAGES_PER_MIB / FILE_READ_AHEAD_PAGES
    mib = demand.disk_mib_per_s + guest_reads / PAGES_PER_MIB + in_sequence
    exits = virtual_devices.charge(vm, spec, demand, demand.disk_mib_per_s * REQUESTS_PER_MIB, paging, mib)
    exits += host_reads * spec.exit_tax / cpu.EXITS_PER_CPU_S
    vm.sync_wait_operations = spec.disk_waits_per_s
    vm.device_stall_s = (
        (vm.fault_wait_operations + spec.disk_waits_per_s) * vm.disk_latency_s
        + spec.net_waits_per_s * vm.net_latency_s
        - spec.disk_waits_per_s * host_spec.disk_latency_s
    )
    taxes = (1.0 + spec.exit_tax) * (
        1.0 + spec.walk_tax_small + (spec.walk_tax_large - spec.walk_tax_small) * vm.large_share
    )
    vm.busy_share = (1.0 - spec.slack) * taxes + exits / spec.vcpus
    vm.cpu_want = demand.cpu_share * spec.vcpus * taxes + exits
    if spec.watch_tax > 0.0:
        vm.busy_share += spec.watch_tax * (1.0 - spec.slack) * taxes
        vm.cpu_want += spec.watch_tax * demand.cpu_share * spec.vcpus * taxes
    if vm.zram_fault_mib_per_s > 0.0:
        zram = _zram_cpu_s(vm, spec)
        vm.busy_share += zram / spec.fault_parallelism
        vm.cpu_want += zram


@compiled
def _zram_cpu_s(vm: VmRecord, spec: VmSpecRecord) -> float:
    """CPU time that zram takes in a second of full progress."""
    return vm.zram_fault_mib_per_s * PAGES_PER_MIB * spec.zram_fault_s


@inlined
def _set_swap_demand(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord) -> float:
    """Faults that the host serves, from its compressed pool or its swap device; return reads per second of progress."""
    zipped = vm.zipped_share = compression.share_of(vm, overcommit.host_swapped_mib(vm))
    pace = PAGES_PER_MIB / max(vm.progress, SLOWEST)  # what the last tick read, per second of full progress
    faults = vm.host_fault_mib_per_s * PAGES_PER_MIB
    if zipped > 0.0:
        vm.fixed_stall_s += faults * zipped * host_spec.zip_load_s / spec.fault_parallelism
    waits = pages = faults * (1.0 - zipped) + vm.false_read_mib * pace
    fetched = 0.0  # as reads that take as long
    if spec.sequential_share > 0.0:  # read-ahead saves the wait, not the transfer
        waits = pages / (1.0 + spec.sequential_share * max(READ_AHEAD_PAGES * host.swap_order - 1.0, 0.0))
        fetched_s = (pages - waits) / (PAGES_PER_MIB * host_spec.swap_mib_per_s)
        vm.fixed_stall_s += fetched_s / spec.fault_parallelism
        fetched = fetched_s * host_spec.swap_iops
    unawaited = vm.double_paged_mib  # the device waits for these, not the workload
    if vm.zeroed_mib > 0.0:
        unawaited += vm.zeroed_mib / host.ahead_pages
    reads = waits + fetched + unawaited * pace
    vm.swap_wait_operations = waits / spec.fault_parallelism
    if host_spec.swap_is_disk > 0.0:
        vm.disk_demand += reads / host_spec.disk_iops
    else:
        vm.swap_demand = reads / host_spec.swap_iops
    return reads


@compiled
def stall_s(vm: VmRecord, disk_wait_s: float, swap_wait_s: float) -> float:
    """Waits in a second of full progress, when disk and swap operations take this long."""
    disk = (vm.fault_wait_operations + vm.sync_wait_operations) * disk_wait_s
    return disk + vm.swap_wait_operations * swap_wait_s + vm.fixed_stall_s + vm.device_stall_s


@compiled
def speed(vm: VmRecord, disk_wait_s: float, swap_wait_s: float) -> float:
    """Progress of a VM whose disk and swap operations take this long."""
    stall = stall_s(vm, disk_wait_s, swap_wait_s)
    return min(vm.device_limit, vm.cpu_grant / (vm.busy_share + vm.cpu_grant * stall))


@inlined
def writable_mib(
    vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, needed_mib: float
) -> float:
    """Memory that reclaim can free while the disk can write what leaves within the second: in its part of what nobody uses,
    or, for writes go before reads, in its part of what those leave. No limit where `needed_mib` can be written in any case."""
    page_s, run_s = host.page_write_s, host.run_write_s
    room = max(vm.written_share + host.disk_spare, host.write_part)
    if has_queued(vm):
        room -= write_s(vm.queued_single_mib, vm.queued_runs_mib, host_spec)
    if spec.disk_limit == math.inf and needed_mib * max(page_s, run_s) <= room:
        return math.inf
    free = max(room, 0.0) / max(paging.write_cost(vm, spec, page_s, run_s), NOTHING)
    if spec.disk_limit < math.inf:
        used = vm.progress * vm.disk_demand
        operations = max(IN_TURN * vm.disk_allowed, vm.disk_allowed - used) * host_spec.disk_iops
        operations -= write_operations(vm.queued_single_mib, vm.queued_runs_mib)
        cost = paging.write_cost(vm, spec, PAGES_PER_MIB, PAGES_PER_MIB / RUN_PAGES)
        free = min(free, max(operations, 0.0) / max(cost, NOTHING))
    return free


@compiled
def look_at_devices(host: HostRecord, spec: HostSpecRecord) -> None:
    """What is the same for all VMs of a host: for how long writes keep the disk busy, per MiB, pages one by one and in runs; and
    pages of host swap that are read in sequence, as far as they still lie so, in the time of one that is not (read-ahead saves
    operations, not the transfer)."""
    host.page_write_s, host.run_write_s = PAGES_PER_MIB / spec.disk_iops, 1.0 / spec.disk_mib_per_s
    reads = 1.0 / max(READ_AHEAD_PAGES * host.swap_order, 1.0)
    host.ahead_pages = 1.0 / (reads + (1.0 - reads) * spec.swap_iops / (PAGES_PER_MIB * spec.swap_mib_per_s))


@compiled
def read_cost(vm_spec: VmSpecRecord, host: HostRecord, spec: HostSpecRecord) -> float:
    """Reads of the host's swap device, as long as those of single pages, for a page that a VM touches."""
    if vm_spec.sequential_share == 0.0:
        return 1.0
    waits = 1.0 / (1.0 + vm_spec.sequential_share * max(READ_AHEAD_PAGES * host.swap_order - 1.0, 0.0))
    return waits + (1.0 - waits) * spec.swap_iops / (PAGES_PER_MIB * spec.swap_mib_per_s)


@inlined
def set_rooms(vm: VmRecord, host: HostRecord, spec: HostSpecRecord, read_mib: float) -> None:
    """What the devices can read for a VM within this second at the progress set: what was planned (`read_mib` of host swap
    without a touch among it), and its part of what nobody has planned to use."""
    planned = missed_share(host) * vm.progress * max(vm.paging_mib_per_s - vm.zram_fault_mib_per_s, 0.0)
    vm.kernel_room_mib = host.kernel_room_mib
    faults = vm.host_fault_mib_per_s
    if vm.zipped_mib > 0.0:
        faults *= 1.0 - vm.zipped_share
    vm.swap_room_mib = read_mib + vm.progress * vm.host_read_cost * faults
    other_mib, spare = vm.progress * vm.disk_demand * spec.disk_iops / PAGES_PER_MIB - planned, host.disk_spare
    if spec.swap_is_disk == 0.0:
        vm.swap_room_mib = host.swap_fit * vm.swap_room_mib + host.swap_spare * spec.swap_iops / PAGES_PER_MIB
    elif (
        vm.host_fault_mib_per_s + vm.free_swapped_mib > 0.0
    ):  # both from one disk; a VM's limit does not bind the host's own reads
        spare *= 0.5
        other_mib -= vm.swap_room_mib
        vm.swap_room_mib += spare * spec.disk_iops / PAGES_PER_MIB
    if host.divides_disk > 0.0 and vm.replaced_mib_per_s > 0.0:  # of runs a limit counts the operations, not their time
        runs = vm.run_share * vm.replaced_mib_per_s
        counted = write_operations(0.0, runs) - write_s(0.0, runs, spec) * spec.disk_iops
        other_mib += vm.progress * min(counted, 0.0) / PAGES_PER_MIB
    vm.other_disk_mib = max(other_mib, 0.0)
    vm.fault_room_mib = planned + min(spare, vm.limit_left) * spec.disk_iops / PAGES_PER_MIB


@compiled
def swap_wait_s(vm: VmRecord, host: HostRecord, host_spec: HostSpecRecord) -> float:
    """Latency of an operation of the host's swap for this VM."""
    return vm.disk_wait_s if host_spec.swap_is_disk > 0.0 else host.swap_wait_s


@compiled
def guest_stall_share(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Share of a second at the VM's present progress in which it waits for its own paging, as its kernel counts it."""
    stall = vm.fault_wait_operations * vm.disk_latency_s
    if vm.zram_fault_mib_per_s > 0.0:
        stall += _zram_cpu_s(vm, spec) / spec.fault_parallelism
    return vm.progress * stall


@compiled
def host_stall_share(vm: VmRecord, host: HostRecord, host_spec: HostSpecRecord) -> float:
    """... in which it waits for the host's swap, as the host counts it."""
    return vm.progress * (vm.swap_wait_operations * swap_wait_s(vm, host, host_spec) + vm.fixed_stall_s)


@compiled
def wait(iops: float, latency_s: float, utilisation: float) -> float:
    """Latency of one operation at this utilisation, queueing included (M/M/1)."""
    return latency_s + utilisation / (1.0 - utilisation) / iops


@inlined
def _offered(vms, host, iops, latency_s, utilisation, on_disk, other) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Utilisation of one device that the VMs of the host would cause if its operations took as long as at this one, and
    the derivative. `on_disk`: the device is the disk; `other`: swap operations wait for it too."""
    latency = wait(iops, latency_s, utilisation)
    load = slope = 0.0
    for v in range(len(vms)):
        vm = vms[v]
        demand = vm.disk_demand if on_disk else vm.swap_demand
        if demand > 0.0:
            x = speed(vm, latency if on_disk else vm.disk_wait_s, latency if other else host.swap_wait_s)
            load += x * demand
            if x < vm.device_limit:
                waits = vm.fault_wait_operations + vm.sync_wait_operations if on_disk else 0.0
                waits += vm.swap_wait_operations if other else 0.0
                slope -= x * x * waits * demand
    free = 1.0 - utilisation
    return load, slope / (iops * free * free)


@compiled
def _solve(vms, host, iops, latency_s, writes, guess, on_disk, other) -> float:  # type: ignore[no-untyped-def]
    """Find the utilisation that the VMs cause and suffer at once (bracketed Newton steps on a falling function)."""
    low, high = 0.0, 1.0
    guess = min(guess, MAX_UTILISATION)
    for _ in range(MAX_SEARCH):
        load, slope = _offered(vms, host, iops, latency_s, guess, on_disk, other)
        error = load + writes - guess
        if error > 0.0:
            low = guess
        else:
            high = guess
        step = min(guess + error / (1.0 - slope), MAX_UTILISATION)
        if abs(step - guess) < SOLVED * (1.0 - guess):
            return step
        guess = step if low <= step < high else 0.5 * (low + high)
    return guess


@compiled
def write_load(backlog_mib: float, mib_per_s: float) -> float:
    """Share of a device that deferred writes take in this tick."""
    return min(backlog_mib / mib_per_s, WRITE_SHARE)


@compiled
def write_s(single_mib: float, runs_mib: float, spec: HostSpecRecord) -> float:
    """For how long such writes keep the disk busy: pages one by one cost an operation each, those in runs their transfer."""
    return single_mib * PAGES_PER_MIB / spec.disk_iops + runs_mib / spec.disk_mib_per_s


@compiled
def write_operations(single_mib: float, runs_mib: float) -> float:
    """... and how many operations they are."""
    return (single_mib + runs_mib / RUN_PAGES) * PAGES_PER_MIB


@compiled
def has_queued(vm: VmRecord) -> bool:
    """Whether a guest has written what its disk has not served."""
    return vm.queued_single_mib + vm.queued_runs_mib > 0.0


@compiled
def serve_writes(vm: VmRecord, spec: HostSpecRecord, share: float) -> float:
    """The disk serves this share of what a guest has queued; return the share of its second that this takes."""
    vm.written_share = share * write_s(vm.queued_single_mib, vm.queued_runs_mib, spec)
    vm.queued_single_mib -= share * vm.queued_single_mib
    vm.queued_runs_mib -= share * vm.queued_runs_mib
    if vm.queued_single_mib + vm.queued_runs_mib < guest.NEGLIGIBLE_MIB:
        vm.queued_single_mib = vm.queued_runs_mib = 0.0
    return vm.written_share


@compiled
def queue_replaced(vm: VmRecord) -> None:
    """Of the swap-out that takes the place of swap-in, the disk had kept room for as much as in the last tick; more waits."""
    late = max(vm.replaced_mib - vm.progress * vm.replaced_mib_per_s, 0.0)
    vm.queued_single_mib += (1.0 - vm.run_share) * late
    vm.queued_runs_mib += vm.run_share * late
    vm.replaced_mib_per_s = 0.0
    if vm.progress > SLOWEST and vm.replaced_mib > guest.NEGLIGIBLE_MIB:
        vm.replaced_mib_per_s = vm.replaced_mib / vm.progress


@compiled
def _write_back(vms, host, spec) -> float:  # type: ignore[no-untyped-def]
    """Let the disk of the host serve deferred writes, its guests' and its own alike; return the share that takes."""
    queued = host.write_backlog_mib / spec.disk_mib_per_s
    for v in range(len(vms)):
        if has_queued(vms[v]):
            queued += write_s(vms[v].queued_single_mib, vms[v].queued_runs_mib, spec)
    if queued <= 0.0:
        return 0.0
    load = min(queued, WRITE_SHARE)
    host.write_backlog_mib -= load / queued * host.write_backlog_mib
    for v in range(len(vms)):
        if has_queued(vms[v]):
            serve_writes(vms[v], spec, load / queued)
    return load


@compiled
def solve_swap(vms, host, spec) -> float:  # type: ignore[no-untyped-def]
    """Utilisation and wait of a swap device that is not the disk, with the waits that the disk had in the last tick: the two
    agree over the next ticks. Return the share that deferred writes take."""
    load = write_load(host.swap_backlog_mib, spec.swap_mib_per_s)
    host.swap_backlog_mib -= load * spec.swap_mib_per_s
    host.swap_utilisation = _solve(
        vms, host, spec.swap_iops, spec.swap_latency_s, load, host.swap_utilisation, False, True
    )
    host.swap_wait_s = wait(spec.swap_iops, spec.swap_latency_s, host.swap_utilisation)
    return load


@compiled
def fit_swap(vms, host, spec, written: float) -> None:  # type: ignore[no-untyped-def]
    """What is left of an own swap device once the disk is solved too, which may have made VMs faster than was expected."""
    offered = 0.0
    for v in range(len(vms)):
        vm = vms[v]
        if vm.swap_demand > 0.0:
            offered += vm.swap_demand * min(speed(vm, vm.disk_wait_s, host.swap_wait_s), vm.disk_most)
    left = max(1.0 - written - offered, 1.0 - MAX_UTILISATION)  # a little for those who did not plan to read
    host.swap_spare, host.swap_fit = left / max(host.tick_running, 1.0), 1.0
    if offered > MAX_UTILISATION - written:
        host.swap_fit = (MAX_UTILISATION - written) / offered


@compiled
def solve_disk(vms, host, spec) -> None:  # type: ignore[no-untyped-def]
    """Utilisation and wait of a disk that serves who comes first."""
    load = _write_back(vms, host, spec)
    host.disk_utilisation = _solve(
        vms,
        host,
        spec.disk_iops,
        spec.disk_latency_s,
        load,
        host.disk_utilisation,
        True,
        spec.swap_is_disk > 0.0,
    )
    host.disk_wait_s = wait(spec.disk_iops, spec.disk_latency_s, host.disk_utilisation)
    for v in range(len(vms)):
        vms[v].disk_wait_s, vms[v].disk_most, vms[v].limit_left = host.disk_wait_s, 1.0, 1.0
    host.disk_spare = (1.0 - host.disk_utilisation) / max(host.tick_running, 1.0)
    if host.disk_utilisation >= MAX_UTILISATION:
        _overrun(vms, host, spec, MAX_UTILISATION - load)


@compiled
def _overrun(vms, host, spec, left: float) -> None:  # type: ignore[no-untyped-def]
    """More comes than even this wait holds back, for some of it is asynchronous: all get on in proportion to what they send."""
    offered, _ = _offered(
        vms,
        host,
        spec.disk_iops,
        spec.disk_latency_s,
        host.disk_utilisation,
        True,
        spec.swap_is_disk > 0.0,
    )
    if offered > left:
        for v in range(len(vms)):
            if vms[v].disk_demand > 0.0:
                vms[v].disk_most = speed(vms[v], host.disk_wait_s, swap_wait_s(vms[v], host, spec)) * left / offered


def touch_latency_s(share: float, miss: float, fault_s: float) -> float:
    """Quantile `share` of the latency of a page touch, of which `miss` fault and take `fault_s` on average.

    A touch is a hit, which costs nothing here, or a fault, whose latency is exponential like the sojourn in an M/M/1
    queue. So the quantile leaves zero exactly where `miss` passes 1 - share, as measured on guests (p50 at 0.5, p90
    at 0.1).
    """
    if share <= 1.0 - miss:
        return 0.0
    return -fault_s * math.log((1.0 - share) / miss)
