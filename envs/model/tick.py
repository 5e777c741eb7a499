"""One second of a host, in order: demand, balloon driver, guest reclaim, host reclaim, faults and I/O, progress,
counters.

A tick reads the state at its start to find how fast each VM runs (``io``), moves memory inside each guest at that
speed, and then lets the host restore its free minimum (``overcommit``). Environments in a batch share nothing.
"""

from hvgym.envs.model import balloon, guest, io, overcommit
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import (
    PAGES_PER_MIB,
    TIERS,
    DemandRecord,
    HostRecord,
    HostSpecRecord,
    VmRecord,
    VmSpecRecord,
)
from hvgym.envs.model.tiers import Tiers, tiers, total


@compiled
def _prepare(
    vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, demand: DemandRecord
) -> None:
    """Demand of this tick: wanted memory, expected faults, CPU and network."""
    vm.fault_mib_per_s = vm.host_fault_mib_per_s = 0.0
    vm.disk_demand = vm.fault_wait_operations = 0.0
    if vm.down_s > 0.0:
        vm.growth_mib = 0.0
        vm.down_s -= 1.0
        return
    guest.follow_demand(vm, spec, tiers(demand.tier_mib))
    guest.fault_demand(vm, spec)
    io.set_demand(vm, spec, host_spec, demand)
    host.tick_cpu += demand.cpu_share * spec.vcpus
    host.tick_net_mib_per_s += demand.net_mib_per_s


@compiled
def _grant(available: float, asked: float) -> float:
    return 1.0 if asked <= available else available / asked


@compiled
def _share_host(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord, h: int) -> None:  # type: ignore[no-untyped-def]
    """Divide CPU, network and disk of host `h` among its VMs."""
    host.cpu_grant = _grant(host_spec.pcpus, host.tick_cpu)
    host.net_grant = _grant(host_spec.nic_mib_per_s, host.tick_net_mib_per_s)
    host.cpu_utilisation = 0.0  # filled by what VMs then do
    io.solve_disk(vms, vm_specs, host, host_spec, h)


@compiled
def _run(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, demand: DemandRecord) -> None:
    """Set the speed at which a VM works in this tick; what it touches at that speed comes back from host swap."""
    vm.progress = 0.0
    if vm.down_s <= 0.0:
        vm.progress = io.speed(vm, host, host.disk_wait_s)
        if demand.net_mib_per_s > 0.0:
            vm.progress = min(vm.progress, host.net_grant)
    vm.false_read_mib = vm.double_paged_mib = 0.0
    host.tick_swap_mib += overcommit.swap_in(vm, spec)


@compiled
def _answer_starvation(vm: VmRecord, spec: VmSpecRecord, starving: bool) -> None:
    """Allocations that find nothing to evict end in the balloon's help or in a kill."""
    vm.starved_s = vm.starved_s + 1.0 if starving else 0.0
    if vm.starved_s >= guest.OOM_PATIENCE_S and not balloon.deflate_on_oom(vm, spec):
        guest.kill(vm, spec)


@compiled
def _ration(vm: VmRecord, spec: VmSpecRecord, room: float, faults: float) -> None:
    """Under pressure: growth and balloon get what reclaim can free, and reclaim gets its goal."""
    growth, free = vm.granted_mib, max(room, 0.0)
    evictable = guest.evictable_mib(vm, spec)
    reclaimable = min(evictable, spec.reclaim_mib_per_s)
    supply = free + min(max(growth + vm.inflate_mib - free, 0.0), reclaimable)
    last = guest.MIN_WATERMARK * spec.watermark_mib + min(room, 0.0) if evictable < 1.0 else 0.0
    vm.granted_mib = min(growth, supply + max(last, 0.0))
    vm.inflate_mib = max(min(vm.inflate_mib, supply - vm.granted_mib), 0.0)
    change = max(room - vm.granted_mib - vm.inflate_mib, -reclaimable)
    if vm.moving > 0.0 or evictable > 1e-6:
        vm.moving = 1.0
        if faults > change or guest.fault_back(vm, spec) > change:
            missing = total(guest.missing_mib(vm))
            vm.missing_goal_mib = min(max(missing - change, 0.0), missing + evictable)
    _answer_starvation(vm, spec, vm.granted_mib < growth - 1e-6 and evictable - reclaimable < 1.0)
    if vm.down_s > 0.0:
        vm.growth_mib = vm.granted_mib = vm.inflate_mib = vm.moving = vm.progress = 0.0
        vm.missing_goal_mib = -1.0


@compiled
def _plan_memory(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Decide what comes and goes in one guest in this tick.

    Faults are served first, then growth, then the balloon: an inflation under pressure gets what reclaim has left.
    """
    balloon.approach(vm, spec)
    vm.granted_mib = vm.growth_mib * vm.progress
    vm.missing_goal_mib = -1.0
    vm.moving = 1.0 if total(guest.missing_mib(vm)) > 1e-9 else 0.0
    room = guest.free_mib(vm) - guest.reserve_mib(vm, spec)
    new = vm.granted_mib + vm.inflate_mib
    faults = vm.fault_mib_per_s * vm.progress  # a lower bound, and often enough to know
    if vm.moving > 0.0 and faults + new <= room:
        faults = guest.fault_back(vm, spec)
    if faults + new > room:
        _ration(vm, spec, room, faults)
    else:
        vm.starved_s = 0.0


@compiled
def _move_memory(vm: VmRecord, spec: VmSpecRecord, wanted: Tiers) -> float:
    """Carry out the plan; return the progress that is left."""
    progress, growth = vm.progress, vm.growth_mib * vm.progress
    used = guest.settle(vm, spec) if vm.moving > 0.0 else 0.0
    if vm.granted_mib > 0.0:
        guest.grow(vm, spec, wanted, vm.granted_mib)
    guest.use_free(vm, used + vm.granted_mib)
    if vm.inflate_mib > 0.0:
        balloon.inflate(vm, vm.inflate_mib)
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
def _finish(
    vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, demand: DemandRecord
) -> None:
    """Move one VM's memory as planned and count what the tick did."""
    written, read = vm.swap_out_mib + vm.file_out_mib, vm.swap_in_mib + vm.file_in_mib
    swapped_in = vm.host_swap_in_mib
    done = _move_memory(vm, spec, tiers(demand.tier_mib))
    if vm.refilling > 0.0 and vm.down_s <= 0.0:
        done *= _refill_share(vm, tiers(demand.tier_mib))
    written, read = vm.swap_out_mib + vm.file_out_mib - written, vm.swap_in_mib + vm.file_in_mib - read
    host.write_backlog_mib += written
    host.tick_swap_mib += vm.host_swap_in_mib - swapped_in
    vm.touches += total(tiers(spec.tier_rate_per_s) * tiers(vm.allocated_mib)) * PAGES_PER_MIB * vm.progress
    vm.disk_mib += demand.disk_mib_per_s * done + written + read
    vm.net_mib += demand.net_mib_per_s * done
    vm.cpu_s += demand.cpu_share * spec.vcpus * done
    host.cpu_utilisation += demand.cpu_share * spec.vcpus * done / host_spec.pcpus
    vm.progress = done
    vm.progress_s += done
    if spec.critical == 1.0 and done * spec.slo_slowdown < 1.0:
        vm.slo_violation_s += 1.0


@compiled
def _guests(vms, hosts, vm_specs, host_specs, demands) -> None:  # type: ignore[no-untyped-def]
    """Let all VMs work for a tick. Stage by stage, not VM by VM: the processor then overlaps the long chains of
    arithmetic of several VMs."""
    for v in range(len(vms)):
        _run(vms[v], vm_specs[v], hosts[vm_specs[v].host], demands[v])
    for v in range(len(vms)):
        _plan_memory(vms[v], vm_specs[v])
    for v in range(len(vms)):
        if vms[v].missing_goal_mib >= 0.0:
            guest.reclaim(vms[v], vm_specs[v])
    for v in range(len(vms)):
        h = vm_specs[v].host
        _finish(vms[v], vm_specs[v], hosts[h], host_specs[h], demands[v])


@compiled
def _report(vm: VmRecord, spec: VmSpecRecord) -> None:
    vm.report_age_s += 1.0
    if spec.stats_interval_s > 0.0 and vm.report_age_s >= spec.stats_interval_s:
        guest.report(vm, spec)


@compiled
def tick(vms, hosts, vm_specs, host_specs, demands) -> None:  # type: ignore[no-untyped-def]
    """Advance one environment by one second; arguments are rows ``[vm]`` and ``[host]``."""
    for h in range(len(hosts)):
        hosts[h].tick_cpu = hosts[h].tick_net_mib_per_s = hosts[h].tick_swap_mib = 0.0
    for v in range(len(vms)):
        h = vm_specs[v].host
        _prepare(vms[v], vm_specs[v], hosts[h], host_specs[h], demands[v])
    for h in range(len(hosts)):
        _share_host(vms, vm_specs, hosts[h], host_specs[h], h)
    _guests(vms, hosts, vm_specs, host_specs, demands)
    for h in range(len(hosts)):
        swapped_out = overcommit.balance(vms, vm_specs, hosts[h], host_specs[h], h)
        hosts[h].write_backlog_mib += swapped_out
        overcommit.count_swapping(hosts[h], swapped_out)
    for v in range(len(vms)):
        _report(vms[v], vm_specs[v])


@compiled
def advance(vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s, ticks, first, last) -> None:  # type: ignore[no-untyped-def]
    """Advance environments first..last-1 by `ticks` seconds.

    Arrays: vms, vm_specs ``[env, vm]``; hosts, host_specs ``[env, host]``; demand ``[env, slot, vm]``; clock_s
    ``[env]`` (int64, seconds since reset, advanced here). The last slot of the demand holds for ever.
    """
    slots = demand.shape[1]
    for e in range(first, last):
        for _ in range(ticks):
            slot = min(clock_s[e] // slot_s, slots - 1)
            tick(vms[e], hosts[e], vm_specs[e], host_specs[e], demand[e, slot])
            clock_s[e] += 1


@compiled
def start(vms, hosts, vm_specs, host_specs, demand, touched_share: float, first, last) -> None:  # type: ignore[no-untyped-def]
    """Put environments first..last-1 at the start of an episode: a host that has been running for a while.

    Each guest holds its first demand, and `touched_share` of the rest of its memory is free but still backed. What does
    not fit into the host is in host swap already, where blind swapping leads in the long run.
    """
    for e in range(first, last):
        for v in range(vms.shape[1]):
            _boot(vms[e, v], vm_specs[e, v], demand[e, 0, v], touched_share)
        for h in range(hosts.shape[1]):
            hosts[e, h].write_backlog_mib = 0.0
            overcommit.start_settled(vms[e], vm_specs[e], host_specs[e, h], h)
            overcommit.balance(vms[e], vm_specs[e], hosts[e, h], host_specs[e, h], h)
            hosts[e, h].disk_wait_s = host_specs[e, h].disk_latency_s
        for v in range(vms.shape[1]):
            vms[e, v].host_swap_out_mib = 0.0
            guest.report(vms[e, v], vm_specs[e, v])


@compiled
def _boot(vm: VmRecord, spec: VmSpecRecord, demand: DemandRecord, touched_share: float) -> None:
    room = spec.memory_mib - spec.kernel_mib
    for k in range(TIERS):
        size = min(demand.tier_mib[k], room - spec.watermark_mib - spec.kernel_cache_mib)
        vm.allocated_mib[k] = size
        vm.resident_mib[k] = size
        vm.clean_mib[k] = size * spec.tier_is_file[k]
        room -= size
    vm.free_backed_mib = touched_share * room
    vm.free_untouched_mib = room - vm.free_backed_mib
    vm.asked_mib = spec.memory_mib
    vm.lru_age_s = 1e4
    vm.progress = 1.0
