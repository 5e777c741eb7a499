"""One second of a host, in order: arrivals, sharing, demand, balloon driver, guest reclaim, faults and I/O, progress,
counters, and at last the hypervisor's own reclaim.

A tick reads the state at its start to find how fast each VM runs (``cpu``, ``io``), moves memory inside each guest at that
speed, and then lets the hypervisor restore its free minimum (``overcommit``). Environments in a batch share nothing.
"""

from hvgym.envs.model import planning
from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.devices import bandwidth, io
from hvgym.envs.model.guest import activity, balloon, heap, lru, paging
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.host import admission, compression, cpu, limits, overcommit, proactive, scanning, sharing
from hvgym.envs.model.params import (
    PAGES_PER_MIB,
    DemandRecord,
    HostRecord,
    HostSpecRecord,
    VmRecord,
    VmSpecRecord,
)
from hvgym.envs.model.tiers import Tiers, tiers, total


@compiled
def _open(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """What a host does before its VMs work: start those that arrive, scan for equal pages, say how far VMs may grow."""
    host.tick_cpu = host.tick_net_mib_per_s = host.tick_swap_mib = host.tick_io_mib = 0.0
    host.tick_reread_mib = host.tick_running = 0.0
    host.deflate_share = 1.0
    host.clock_s += 1.0
    io.look_at_devices(host, host_spec)
    if host.waiting > 0.0:
        admission.admit(vms, vm_specs, host, host_spec)
    if host_spec.commits > 0.0:
        _limit_growth(vms, vm_specs, host, host_spec)
    if host.cache_mib > 0.0 or host.state >= host_spec.block_state:
        _sum_up(vms, vm_specs, host)
    if host.scan_pages_per_s > 0.0 or host.shared_mib > 0.0:
        sharing.scan(vms, vm_specs, host, host_spec)


@compiled
def _limit_growth(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Where memory is committed, balloons deflate into what is free, all by the same share of what they want."""
    growth = 0.0
    for v in range(len(vms)):
        if vms[v].admitted > 0.0:
            wanted = vms[v].balloon_mib - balloon.wanted_mib(vms[v], vm_specs[v])
            growth += min(max(wanted, 0.0), vm_specs[v].deflate_mib_per_s)
    if growth > 0.0:
        host.deflate_share = min(max(host.free_mib - host_spec.min_free_mib, 0.0) / growth, 1.0)


@compiled
def _sum_up(vms, vm_specs, host: HostRecord) -> None:  # type: ignore[no-untyped-def]
    """What guests have evicted to their disks, and the shares of those that run."""
    host.tick_evicted_mib = host.tick_shares = 0.0
    for v in range(len(vms)):
        if vms[v].admitted > 0.0:
            host.tick_shares += vm_specs[v].shares
            host.tick_evicted_mib += total(guest.missing_mib(vms[v]))


@compiled
def _wanted(vm: VmRecord, demand: DemandRecord) -> Tiers:
    """Memory that the workload wants now: its demand, less what a JVM's heap leaves of it."""
    return tiers(demand.tier_mib) - tiers(vm.ungrown_mib)


@inlined
def _prepare(vm: VmRecord, spec: VmSpecRecord, demand: DemandRecord) -> None:
    """Demand of this tick: wanted memory and expected faults."""
    vm.fault_mib_per_s = vm.paging_mib_per_s = vm.host_fault_mib_per_s = vm.zram_fault_mib_per_s = 0.0
    vm.replaced_mib = vm.written_share = 0.0
    vm.disk_demand = vm.swap_demand = vm.fault_wait_operations = vm.swap_wait_operations = vm.cpu_want = 0.0
    vm.net_want_mib_per_s = 0.0
    vm.fixed_stall_s, vm.cpu_grant = vm.copy_stall_s, 1.0
    vm.working = 0.0
    if vm.down_s > 0.0 or vm.admitted == 0.0:
        vm.growth_mib = vm.file_growth_mib = vm.sequential_file_mib_per_s = 0.0
        vm.down_s -= vm.admitted
        return
    vm.process_s += 1.0
    if spec.jvm.present > 0.0 and not heap.follow(vm, spec, demand):
        return
    vm.working = 1.0
    guest.follow_demand(vm, spec, _wanted(vm, demand))
    guest.fault_demand(vm, spec)


@inlined
def _price(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, demand: DemandRecord) -> None:
    """What the demand of this tick asks of devices, CPU and network."""
    host.tick_running += 1.0
    if host.limited > 0.0:
        limits.throttle(vm, spec)
    io.set_demand(vm, spec, host, host_spec, demand)
    if spec.jvm.present > 0.0:
        heap.slow(vm, spec)
    vm.cpu_want = min(vm.cpu_want, spec.vcpus)  # more cannot run at once
    host.tick_cpu += vm.cpu_want
    vm.net_want_mib_per_s = demand.net_mib_per_s * vm.device_limit
    host.tick_net_mib_per_s += vm.net_want_mib_per_s


@compiled
def _share_host(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Divide CPU, network and disk of the host among its VMs."""
    watching = scanning.charge(host, host_spec) if host.pass_left_s + host_spec.watching_cpu > 0.0 else 0.0
    cpu.share(vms, vm_specs, host, host_spec)
    host.tax_cpu, host.cpu_utilisation = 0.0, watching / host_spec.pcpus  # filled by what is then done
    if host.tick_net_mib_per_s > 0.0:
        bandwidth.divide_link(vms, vm_specs, host, host_spec)
    swapped_out = 0.0
    if host_spec.swap_is_disk == 0.0:
        swapped_out = io.solve_swap(vms, host, host_spec)
    if host.divides_disk > 0.0:
        bandwidth.divide_disk(vms, vm_specs, host, host_spec)
    else:
        io.solve_disk(vms, host, host_spec)
    if host_spec.swap_is_disk > 0.0:
        host.swap_wait_s = host.disk_wait_s
    else:
        io.fit_swap(vms, host, host_spec, swapped_out)
    host.kernel_room_mib = 1.0 / (PAGES_PER_MIB * host.swap_wait_s)
    host.write_part = io.WRITE_SHARE / max(host.tick_running, 1.0)


@compiled
def _blocked(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord) -> bool:
    """In its lowest state ESXi halts VMs that use more than their shares entitle them to."""
    if host.state < host_spec.block_state:
        return False
    entitled = (host_spec.ram_mib - host_spec.own_mib) * spec.shares / max(host.tick_shares, 1e-9)
    return overcommit.used_mib(vm, spec) > max(entitled, spec.min_mib + spec.overhead_mib)


@inlined
def _run(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, demand: DemandRecord) -> None:
    """Set the speed at which a VM works in this tick."""
    read_before_mib = vm.double_paged_mib
    if vm.free_swapped_mib + vm.host_fault_mib_per_s > 0.0:
        vm.ahead_pages, vm.host_read_cost = host.ahead_pages, io.read_cost(spec, host, host_spec)
        read_before_mib += vm.host_read_cost * vm.false_read_mib + vm.zeroed_mib / vm.ahead_pages
    if read_before_mib > 0.0:
        read_before_mib /= max(vm.progress, io.SLOWEST)
    vm.progress = 0.0
    if vm.working > 0.0 and not _blocked(vm, spec, host, host_spec):
        vm.progress = min(io.speed(vm, vm.disk_wait_s, io.swap_wait_s(vm, host, host_spec)), vm.disk_most)
        vm.disk_latency_s += vm.disk_wait_s
        if demand.net_mib_per_s > 0.0:
            vm.progress = min(vm.progress, vm.net_grant)
        if vm.held_back > 0.0:
            vm.progress *= 1.0 - vm.held_back
    vm.false_read_mib = vm.double_paged_mib = vm.zeroed_mib = vm.held_up = 0.0
    io.set_rooms(vm, host, host_spec, vm.progress * read_before_mib)


@compiled
def _answer_starvation(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Allocations that find nothing to evict end in the balloon's help or in a kill."""
    vm.starved_s = vm.starved_s + 1.0 if vm.starving > 0.0 else 0.0
    if vm.starved_s >= guest.OOM_PATIENCE_S and not balloon.deflate_on_oom(vm, spec):
        guest.kill(vm, spec)
        vm.growth_mib = vm.granted_mib = vm.inflate_mib = vm.moving = vm.progress = 0.0
        vm.missing_goal_mib = -1.0


@inlined
def _move_memory(vm: VmRecord, spec: VmSpecRecord, wanted: Tiers) -> float:
    """Carry out the plan; return the progress that is left."""
    progress, growth = vm.progress, vm.growth_mib * vm.progress
    used = 0.0
    if vm.moving > 0.0:
        used = paging.settle(vm, spec)
        short = max(used + vm.granted_mib + vm.inflate_mib - guest.free_mib(vm), 0.0)
        cut = min(short, vm.inflate_mib)  # reclaim fell short of its goal: the balloon waits, and then growth
        vm.inflate_mib -= cut
        vm.granted_mib -= min(short - cut, vm.granted_mib)
    if vm.granted_mib > 0.0:
        guest.grow(vm, spec, wanted, vm.granted_mib)
        if vm.granted_mib > vm.free_backed_mib:
            first_touched = vm.granted_mib - vm.free_backed_mib
            progress *= max(1.0 - first_touched * spec.first_touch_s_per_mib / spec.fault_parallelism, 0.0)
    paging.use_free(vm, spec, used + vm.granted_mib)
    if vm.inflate_mib > 0.0:
        balloon.inflate(vm, spec, vm.inflate_mib)
        progress *= 1.0 - spec.balloon_interference * vm.inflate_mib / spec.inflate_mib_per_s
    return progress * vm.granted_mib / growth if growth > 0.0 else progress


@compiled
def _refill_share(vm: VmRecord, wanted: Tiers) -> float:
    """After a kill the workload is as far as its memory is back."""
    have, want = total(tiers(vm.allocated_mib)), total(wanted)
    if have >= 0.99 * want:
        vm.refilling = 0.0
        return 1.0
    return max(have / want, 0.01)


@compiled
def _disk_traffic(vm: VmRecord, spec: VmSpecRecord) -> tuple[float, float]:
    """MiB that the guest's paging has written to and read from its disk since reset."""
    if spec.zram_stored_share > 0.0:
        return vm.file_out_mib, vm.file_in_mib
    return vm.swap_out_mib + vm.file_out_mib, vm.swap_in_mib + vm.file_in_mib


@inlined
def _finish(
    vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, demand: DemandRecord
) -> None:
    """Move one VM's memory as planned."""
    written, read = _disk_traffic(vm, spec)
    swapped_in = vm.host_swap_in_mib
    stalled = io.guest_stall_share(vm, spec)
    stalled += vm.held_up
    growth = vm.growth_mib * vm.progress
    if growth > 0.0:
        stalled += 1.0 - vm.granted_mib / growth
    guest.feel_pressure(vm, stalled, io.host_stall_share(vm, host, host_spec))
    done = _move_memory(vm, spec, _wanted(vm, demand))
    if vm.refilling > 0.0 and vm.down_s <= 0.0:
        done *= _refill_share(vm, _wanted(vm, demand))
    if vm.replaced_mib + vm.replaced_mib_per_s > 0.0:
        io.queue_replaced(vm)
    written_now, read_now = _disk_traffic(vm, spec)
    written, read = written_now - written, read_now - read
    io_mib = demand.disk_mib_per_s * done + written + read
    host.tick_swap_mib += vm.host_swap_in_mib - swapped_in
    host.tick_io_mib += io_mib
    host.tick_reread_mib += read
    if host_spec.writes_behind > 0.0:
        host.write_backlog_mib += overcommit.write_behind_mib(vm, spec)
    vm.done, vm.io_mib = done, io_mib


@inlined
def _conclude(
    vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, demand: DemandRecord
) -> None:
    """What follows from the moves of one VM's memory, and the counters."""
    if spec.reporting_share_per_s > 0.0:
        guest.report_free_pages(vm, spec)
    if vm.shared_mib > 0.0:
        sharing.fit(vm, spec)
    if vm.zipped_mib > 0.0:
        compression.fit(vm, spec, overcommit.host_swapped_mib(vm))
    _count(vm, spec, host, host_spec, demand, vm.io_mib, vm.done)


@compiled
def _misses_objective(vm: VmRecord, spec: VmSpecRecord, demand: DemandRecord, done: float) -> bool:
    """Whether a second in which so much of the work got done missed the VM's objectives."""
    if done * spec.slo_slowdown < 1.0:
        return True
    if vm.disk_latency_s > spec.slo_disk_latency_s or vm.net_latency_s > spec.slo_net_latency_s:
        return True
    disk = min(demand.disk_mib_per_s, spec.slo_disk_mib_per_s)
    net = min(demand.net_mib_per_s, spec.slo_net_mib_per_s)
    return demand.disk_mib_per_s * done < disk or demand.net_mib_per_s * done < net


@inlined
def _count(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, demand: DemandRecord,
           io_mib: float, done: float) -> None:  # fmt: skip
    """Advance the counters of one VM by a tick in which it got `done` of its work done and moved `io_mib`."""
    touched_mib = total(tiers(spec.tier_rate_per_s) * tiers(vm.allocated_mib)) * vm.progress + vm.granted_mib
    vm.touches += touched_mib * PAGES_PER_MIB
    vm.disk_mib += io_mib
    vm.net_mib += demand.net_mib_per_s * done
    vm.cpu_s += demand.cpu_share * spec.vcpus * done
    host.cpu_utilisation += demand.cpu_share * spec.vcpus * done / host_spec.pcpus
    host.tax_cpu += (vm.disk_backend_cpu + vm.nic_backend_cpu) * done
    vm.progress = done
    vm.progress_s += done
    activity.advance_sampling(vm, spec)
    if vm.admitted > 0.0 or vm.arrive_in_s <= 0.0:
        vm.asked_s += 1.0
        if spec.critical == 1.0 and _misses_objective(vm, spec, demand, done):
            vm.slo_violation_s += 1.0
    if spec.jvm.present > 0.0:
        heap.count(vm, spec)


@inlined
def _guests(vms, host: HostRecord, vm_specs, host_spec: HostSpecRecord, demands) -> None:  # type: ignore[no-untyped-def]
    """Let all VMs work for a tick. Stage by stage, not VM by VM: the processor then overlaps the long chains of
    arithmetic of several VMs."""
    for v in range(len(vms)):
        _run(vms[v], vm_specs[v], host, host_spec, demands[v])
    for v in range(len(vms)):  # what a VM touches at that speed comes back from host swap
        host.tick_swap_mib += overcommit.swap_in(vms[v], vm_specs[v])
    for v in range(len(vms)):
        balloon.approach(vms[v], vm_specs[v], host.deflate_share)
        vms[v].oldest_s = min(vms[v].oldest_s + 1.0, guest.MAX_AGE_S)
        planning.plan_memory(vms[v], vm_specs[v], host, host_spec, 1.0)
    for v in range(len(vms)):
        if vms[v].missing_goal_mib >= 0.0:
            lru.reclaim(vms[v], vm_specs[v])
    for v in range(len(vms)):
        if vms[v].moving > 0.0 or vms[v].free_swapped_mib > 0.0 < vms[v].granted_mib + vms[v].inflate_mib:
            planning.fit_devices(vms[v], vm_specs[v], host, host_spec)
        if vms[v].starving + vms[v].starved_s > 0.0:
            _answer_starvation(vms[v], vm_specs[v])
    for v in range(len(vms)):
        _finish(vms[v], vm_specs[v], host, host_spec, demands[v])
    for v in range(len(vms)):
        _conclude(vms[v], vm_specs[v], host, host_spec, demands[v])


@compiled
def _close(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """The hypervisor's own work after a second: its page cache, limits, its last resort, its state."""
    overcommit.fill_cache(host, host_spec)
    limited = limits.enforce(vms, vm_specs, host, host_spec, True) if host.limited > 0.0 else 0.0
    written = overcommit.balance(vms, vm_specs, host, host_spec, True) + limited
    if host.reclaims > 0.0:
        written += proactive.reclaim(vms, vm_specs, host, host_spec)
        overcommit.account(vms, vm_specs, host, host_spec)
    overcommit.count_swapping(host, host_spec, written)
    if host_spec.swap_is_disk > 0.0:
        host.write_backlog_mib += written
    else:
        host.swap_backlog_mib += written


@compiled
def _report(vm: VmRecord, spec: VmSpecRecord, host: HostRecord) -> None:
    vm.report_age_s += 1.0
    due = vm.report_age_s >= spec.stats_interval_s > 0.0
    if due and host.clock_s < spec.stats_frozen_s:
        guest.report(vm, spec)


@compiled
def tick(vms, host: HostRecord, vm_specs, host_spec: HostSpecRecord, demands) -> None:  # type: ignore[no-untyped-def]
    """Advance one host by one second; vms, vm_specs and demands are rows ``[vm]`` of its VMs and no others."""
    _open(vms, vm_specs, host, host_spec)
    for v in range(len(vms)):
        _prepare(vms[v], vm_specs[v], demands[v])
    for v in range(len(vms)):
        if vms[v].working > 0.0:
            _price(vms[v], vm_specs[v], host, host_spec, demands[v])
        elif vms[v].free_swapped_mib > 0.0:  # its balloon may read, too
            host.tick_running += 1.0
    _share_host(vms, vm_specs, host, host_spec)
    _guests(vms, host, vm_specs, host_spec, demands)
    _close(vms, vm_specs, host, host_spec)
    for v in range(len(vms)):
        _report(vms[v], vm_specs[v], host)


@compiled
def slot_at(clock_s: int, slot_s: int, slots: int) -> int:
    """Slot of the demand that holds at this second; the last holds for ever."""
    return min(clock_s // slot_s, slots - 1)


@compiled
def advance(vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s, ticks, first, last) -> None:  # type: ignore[no-untyped-def]
    """Advance environments first..last-1, of one host each, by `ticks` seconds.

    Arrays: vms, vm_specs ``[env, vm]``; hosts, host_specs ``[env, host]``; demand ``[env, slot, vm]``; clock_s
    ``[env]`` (int64, seconds since reset, advanced here).
    """
    for e in range(first, last):
        for _ in range(ticks):
            slot = slot_at(clock_s[e], slot_s, demand.shape[1])
            tick(vms[e], hosts[e, 0], vm_specs[e], host_specs[e, 0], demand[e, slot])
            clock_s[e] += 1
