"""How an episode begins: a host that has been running for a while, not one that has just been switched on.

Guests hold their first demand. What does not fit into the host is where its hypervisor leads in the long run: merged, in
host swap (``overcommit.start_settled``), or, where memory is committed, in guests that started smaller and have sorted
their pages; and so is what lies above a VM's own limit (``limits``). Anything else would make the first minutes of every
episode a transient that no policy caused. A VM whose size is given (``settled_mib``) has had it for long; or since its
workload filled its memory, tier by tier, and before it used any (``settled_cold``): then what was filled first is out, hot or
not. Two guests that were measured so read 97 and 89 % of their hot pages back, here 100 and 84 % (docs/validation.md). Only
a VM for which a starting memory is given boots as the episode begins, with that, if the hypervisor has room for it; else it
waits as one that arrives.
"""

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.guest import activity, balloon, lru, paging
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.host import admission, limits, overcommit, sharing, states, victims
from hvgym.envs.model.params import TIERS, DemandRecord, HostRecord, HostSpecRecord, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import tiers, total

NOT_YET = -1.0
"""A rate for which nothing has been computed."""

LONG_S = 1e4
"""A process that has been running for so long is warm."""

SETTLING_TICKS = 200
"""Seconds for which a guest that starts ballooned sorts its pages before the episode begins."""


@compiled
def start(vms, hosts, vm_specs, host_specs, demand, touched_share: float, first, last) -> None:  # type: ignore[no-untyped-def]
    """Put environments first..last-1, of one host each, at the start of an episode: a host that has been running for a while.

    Each guest holds its first demand, and `touched_share` of the rest of its memory is free but still backed. What does
    not fit into the host is where the hypervisor leads in the long run: merged or in host swap, or, where memory is
    committed, in guests that started smaller. VMs that arrive later are not there yet.
    """
    for e in range(first, last):
        for v in range(vms.shape[1]):
            boot(vms[e, v], vm_specs[e, v], demand[e, 0, v], touched_share)
        start_host(vms[e], hosts[e, 0], vm_specs[e], host_specs[e, 0])
        for v in range(vms.shape[1]):
            finish(vms[e, v], vm_specs[e, v], demand[e, 0, v])


@compiled
def boot(vm: VmRecord, spec: VmSpecRecord, demand: DemandRecord, touched_share: float) -> None:
    """What one VM is as the episode begins, before its host has its part: a guest that holds its first demand, or one that is
    yet to be started."""
    begin_vm(vm, spec)
    if spec.arrive_s > 0.0 or spec.starts_small > 0.0:
        vm.arrive_in_s = spec.arrive_s
        vm.asked_mib = spec.memory_mib
    else:
        _start_running(vm, spec, demand, touched_share)


@compiled
def begin_vm(vm: VmRecord, spec: VmSpecRecord) -> None:
    """What is true of every VM before it runs."""
    vm.may_start = vm.disk_device_limit = vm.nic_device_limit = 1.0
    vm.disk_own_mib_per_s = vm.disk_requests_per_s = vm.net_moved_mib_per_s = NOT_YET
    vm.disk_shares, vm.net_shares = spec.disk_shares, spec.net_shares
    vm.disk_tokens = spec.disk_bucket  # a burst is saved up
    vm.limit_mib, vm.limit_size_mib = spec.limit_mib, spec.memory_mib
    vm.limit_age_s = victims.OLDEST_S


@compiled
def start_host(vms, host: HostRecord, vm_specs, host_spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Lead a host to where its hypervisor leads in the long run; vms and vm_specs are rows ``[vm]`` of its VMs and no others."""
    for v in range(len(vms)):
        host.waiting += 1.0 - vms[v].admitted
    host.scan_pages_per_s = host_spec.scan_pages_per_s
    host.divides_disk, host.divides_net = host_spec.divides_disk, host_spec.divides_net
    host.limited = max(host.limited, host_spec.limited)  # a host that comes back may get VMs that have been limited
    host.lru_age_s = guest.MAX_AGE_S
    host.swap_order = 1.0
    host.disk_wait_s, host.swap_wait_s = host_spec.disk_latency_s, host_spec.swap_latency_s
    for v in range(len(vms)):
        if vms[v].admitted > 0.0 and vm_specs[v].settled_mib < vm_specs[v].memory_mib:
            _start_squeezed(vms[v], vm_specs[v])
    _start_committed(vms, vm_specs, host_spec)
    if host.limited > 0.0:
        _start_limited(vms, vm_specs, host_spec)
    overcommit.account(vms, vm_specs, host, host_spec)
    states.advance(host, host_spec)
    sharing.settle(vms, vm_specs, host, host_spec)
    if host_spec.swaps > 0.0:
        overcommit.start_settled(vms, vm_specs, host, host_spec)
    if host.limited > 0.0:
        limits.enforce(vms, vm_specs, host, host_spec, False)
    overcommit.balance(vms, vm_specs, host, host_spec, False)
    if host.waiting > 0.0:
        admission.start_arrived(vms, vm_specs, host, host_spec)
    states.advance(host, host_spec)
    host.write_backlog_mib = host.swap_backlog_mib = host.tax_cpu = 0.0


@compiled
def finish(vm: VmRecord, spec: VmSpecRecord, demand: DemandRecord) -> None:
    """What one VM has counted, reported and sampled once its host has started; `demand` is its first."""
    vm.host_swap_out_mib = 0.0
    guest.report(vm, spec)
    if vm.admitted > 0.0 and spec.starts_small == 0.0:
        activity.start_sampled(vm, spec, demand.cpu_share)


@compiled
def _start_committed(vms, vm_specs, host_spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Where memory is committed, VMs start between minimum and full size, all at the same share of the way (as XenServer
    divides what there is), and guests have sorted their pages."""
    least = above = 0.0
    for v in range(len(vms)):
        spec = vm_specs[v]
        if vms[v].admitted > 0.0 and spec.committed > 0.0:
            floor = _floor_mib(vms[v], spec)
            if vms[v].balloon_mib > 0.0:  # its size is given
                floor = spec.memory_mib - vms[v].balloon_mib
            else:
                above += spec.memory_mib - floor
            least += floor + spec.overhead_mib
        elif spec.arrive_s <= 0.0 and spec.committed > 0.0:
            least += spec.startup_mib + spec.overhead_mib
    if above <= 0.0:
        return
    share = (host_spec.ram_mib - host_spec.own_mib - 1.01 * host_spec.min_free_mib - least) / above
    share = min(max(share, 0.0), 1.0)
    for v in range(len(vms)):
        vm, spec = vms[v], vm_specs[v]
        if vm.admitted > 0.0 and spec.committed > 0.0 and vm.balloon_mib == 0.0:
            floor = _floor_mib(vm, spec)
            _start_ballooned(vm, spec, (1.0 - share) * (spec.memory_mib - floor))


@compiled
def _start_squeezed(vm: VmRecord, spec: VmSpecRecord) -> None:
    """A VM that has had less than its memory, for long or since its workload filled it, and stays there until somebody asks for
    another size."""
    vm.asked_mib = spec.settled_mib
    _start_ballooned(vm, spec, spec.memory_mib - max(_floor_mib(vm, spec), spec.settled_mib))
    if spec.settled_cold > 0.0:
        _first_filled_out(vm, spec)


@compiled
def _first_filled_out(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Of anonymous memory that is out, let it be what was filled first, tier by tier: the lists of a guest that has filled its
    memory and done nothing else are in that order. So much is out as before."""
    out = 0.0
    for k in range(TIERS):
        if spec.tier_is_file[k] == 0.0:
            out += vm.allocated_mib[k] - vm.resident_mib[k]
    for k in range(TIERS):
        if spec.tier_is_file[k] == 0.0:
            gone = min(out, vm.allocated_mib[k])
            vm.resident_mib[k] = vm.allocated_mib[k] - gone
            out -= gone


@compiled
def _floor_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Smallest size at which this VM can have started."""
    if spec.balloons == 0.0:
        return spec.memory_mib
    anonymous = total(tiers(vm.resident_mib) * (1.0 - tiers(spec.tier_is_file)))
    swappable = min(anonymous, spec.guest_swap_mib)
    held = anonymous - swappable + swappable * spec.zram_stored_share
    needed = held + spec.kernel_mib + guest.reserve_mib(vm, spec) + guest.NOTHING_MIB
    return min(max(needed, spec.min_mib, spec.memory_mib - spec.balloon_cap_mib), spec.memory_mib)


@compiled
def _start_limited(vms, vm_specs, host_spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """VMs that have pressed on their limit for long: ballooned to it where the hypervisor does so, the rest out."""
    for v in range(len(vms)):
        vm, spec = vms[v], vm_specs[v]
        if vm.admitted > 0.0:
            if spec.limit_balloons > 0.0 and limits.held_mib(vm, spec) > vm.limit_mib:
                vm.limit_size_mib = vm.limit_mib
                _start_ballooned(vm, spec, spec.memory_mib - max(_floor_mib(vm, spec), vm.limit_mib))
            limits.set_age(vm, spec, host_spec)


@compiled
def _start_ballooned(vm: VmRecord, spec: VmSpecRecord, balloon_mib: float) -> None:
    """Take `balloon_mib` from a booted guest, page by page until its ages have settled."""
    free = min(max(balloon_mib - vm.balloon_mib, 0.0), max(guest.free_mib(vm) - guest.reserve_mib(vm, spec), 0.0))
    balloon.inflate(vm, spec, free)
    step = (balloon_mib - vm.balloon_mib) / SETTLING_TICKS
    vm.progress = 1.0 - spec.settled_cold  # a workload that has not run has touched nothing again
    for _ in range(2 * SETTLING_TICKS):
        take = min(step, balloon_mib - vm.balloon_mib)
        vm.missing_goal_mib = min(
            total(guest.missing_mib(vm) * tiers(spec.tier_gain)) + take,
            total(guest.missing_mib(vm) * tiers(spec.tier_gain)) + guest.evictable_mib(vm, spec),
        )
        if vm.missing_goal_mib > 0.0:
            lru.reclaim(vm, spec)
            paging.use_free(vm, spec, paging.settle(vm, spec))
            balloon.inflate(vm, spec, min(take, max(guest.free_mib(vm) - guest.reserve_mib(vm, spec), 0.0)))
    vm.progress = 1.0
    vm.lru_age_s = min(
        vm.lru_age_s, guest.MAX_AGE_S
    )  # what nobody touches has no age of its own; the search begins here
    vm.swap_in_mib = vm.swap_out_mib = vm.file_in_mib = vm.file_out_mib = vm.major_faults = vm.balloon_moved_mib = 0.0
    vm.replaced_mib = vm.queued_single_mib = vm.queued_runs_mib = 0.0


@compiled
def _start_running(vm: VmRecord, spec: VmSpecRecord, demand: DemandRecord, touched_share: float) -> None:
    """A guest that has been running for long and holds its first demand."""
    vm.admitted = 1.0
    vm.large_share = 1.0
    vm.process_s = LONG_S
    vm.heap_mib = spec.jvm.xmx_mib
    room = spec.memory_mib - spec.kernel_mib
    for k in range(TIERS):
        size = min(demand.tier_mib[k], room - spec.watermark_mib - spec.kernel_cache_mib)
        vm.allocated_mib[k] = size
        vm.resident_mib[k] = size
        vm.clean_mib[k] = size * spec.tier_is_file[k]
        room -= size
    vm.free_backed_mib = room if spec.pinned > 0.0 else touched_share * room
    vm.free_untouched_mib = room - vm.free_backed_mib
    vm.asked_mib = spec.memory_mib
    vm.missing_goal_mib = -1.0
    vm.run_share = 1.0
    vm.free_runs_mib = spec.guest_swap_mib
    vm.lru_age_s = 1e4
    vm.oldest_s = guest.MAX_AGE_S
    vm.progress = 1.0
