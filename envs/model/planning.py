"""What moves in one guest within a second: faults first, then growth, then the balloon, as reclaim and the devices allow.

A plan is made at the speed at which the VM would work, from costs at the start of the second. Under pressure reclaim gets its
goal (``guest.lru``) and the balloon what it leaves; where the plan would read more than the devices can, it is made again,
slower, until it fits. Nothing moves here: ``tick`` carries the plan out.
"""

from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.devices import io
from hvgym.envs.model.guest import lru, paging
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.params import HostRecord, HostSpecRecord, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import tiers, total

FASTER = 1.25
"""A balloon that had to wait for host swap tries a quarter more in the next second: it begins where it was, and seldom anew."""

REPLANS, FEW_REPLANS, HASTE = 14, 5, 0.02
"""A plan that reads too much is made anew so often, each time slowed down a little more than in proportion; the last is the
fastest that fitted, or stands still. So often for a balloon alone, which then does not move."""

FULL, FULL_STEP, LEAST_OVER = 0.8, 0.02, 0.1
"""A slower plan is good enough when it uses so much of what it may, or is so near to one that reads too much; one that uses less
than the last is tried ten times as fast."""


@inlined
def _ration(
    vm: VmRecord,
    spec: VmSpecRecord,
    host: HostRecord,
    host_spec: HostSpecRecord,
    room: float,
    faults: float,
    pace: float,
) -> None:
    """Under pressure: growth and balloon get what reclaim can free, at `pace` times its speed, and reclaim gets its goal.

    Reclaim frees pages as fast as the guest's kernel works and its disk writes. A guest starves when nothing is left to
    evict and the workload waits for memory: to grow, or to fault pages back in while the balloon takes whatever becomes free.
    """
    growth, free, wish = vm.granted_mib, max(room, 0.0), vm.inflate_mib
    evictable = guest.evictable_mib(vm, spec)
    reclaimable = min(evictable, spec.reclaim_mib_per_s)
    needed = min(growth + wish - room, reclaimable)
    if needed > 0.0:
        reclaimable = min(reclaimable, io.writable_mib(vm, spec, host, host_spec, needed))
    reclaimable *= pace
    supply = free + min(max(growth + vm.inflate_mib - free, 0.0), reclaimable)
    last = guest.MIN_WATERMARK * spec.watermark_mib + min(room, 0.0) if evictable < guest.NOTHING_MIB else 0.0
    vm.granted_mib = min(growth, supply + max(last, 0.0))
    vm.inflate_mib = max(min(vm.inflate_mib, supply - vm.granted_mib), 0.0)
    if vm.inflate_mib <= guest.NEGLIGIBLE_MIB < wish:
        vm.balloon_slept = 1.0
    change = max(room - vm.granted_mib - vm.inflate_mib, -reclaimable)
    if vm.moving > 0.0 or evictable > 1e-6:
        vm.moving = 1.0
        if faults > change or guest.fault_back(vm, spec) > change:
            missing = total(guest.missing_mib(vm) * tiers(spec.tier_gain))
            vm.missing_goal_mib = min(max(missing - change, 0.0), missing + evictable)
    if vm.granted_mib < growth - 1e-6 and evictable - reclaimable < guest.NOTHING_MIB:
        vm.starving = 1.0
    if evictable < guest.NOTHING_MIB and faults > guest.NOTHING_MIB and wish > guest.NOTHING_MIB:
        vm.starving = 1.0


@inlined
def plan_memory(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, pace: float) -> None:
    """Decide what comes and goes in one guest in this tick, of which the balloon wants ``inflate_mib``.

    Faults are served first, then growth, then the balloon: an inflation under pressure gets what reclaim has left.
    """
    vm.starving = vm.balloon_slept = 0.0
    vm.granted_mib = vm.growth_mib * vm.progress
    if vm.granted_mib > vm.free_backed_mib:  # what is not backed comes as fast as threads can touch it first
        most = vm.free_backed_mib + spec.fault_parallelism / spec.first_touch_s_per_mib
        vm.granted_mib = min(vm.granted_mib, most)
    vm.missing_goal_mib = -1.0
    vm.moving = 1.0 if total(guest.missing_mib(vm)) > 1e-9 else 0.0
    room = guest.free_mib(vm) - guest.reserve_mib(vm, spec)
    new = vm.granted_mib + vm.inflate_mib
    faults = (
        vm.fault_mib_per_s * vm.progress * (1.0 - spec.zram_stored_share)
    )  # a lower bound, and often enough to know
    if vm.moving > 0.0 and faults + new <= room:
        faults = guest.fault_back(vm, spec)
    if faults + new > room:
        _ration(vm, spec, host, host_spec, room, faults, pace)


@inlined
def _planned(
    vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, slower: float
) -> tuple[float, float, float, float, float]:
    """What the planned tick, `slower` than first, does with its disk, and reads of host swap that nobody touches, for threads of
    the guest's kernel and for the workload; then what its disk and the host's swap device can do within the second. What else
    the VM does with its disk slows down too, and leaves it to faults."""
    faults = kernel = workload = 0.0
    if vm.moving > 0.0:
        faults = io.missed_share(host) * total(tiers(vm.fault_in_mib) * tiers(spec.tier_keeps_copy))
    swap_room = max(vm.swap_room_mib, guest.NEGLIGIBLE_MIB)
    if vm.host_fault_mib_per_s + vm.free_swapped_mib > 0.0:
        most = paging.most_host_reads_mib(vm, vm.granted_mib, vm.inflate_mib)
        if most > min(vm.kernel_room_mib, swap_room):  # read-ahead makes the workload's reads cheap, not the kernel's
            kernel, workload = paging.host_reads_mib(vm, spec, vm.granted_mib, vm.inflate_mib)
    room, other = vm.fault_room_mib + vm.other_disk_mib, slower * vm.other_disk_mib
    if host_spec.swap_is_disk > 0.0:
        return faults + (kernel + workload) + other, kernel, workload, room + swap_room, swap_room
    return faults + other, kernel, workload, room, swap_room


@compiled
def _over(
    vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, slower: float
) -> tuple[float, float]:
    """By what factor the planned tick, `slower` than first, would read more than its devices can within the second: all of it, and
    reads of host swap alone, of which the guest kernel's thread does one at a time (pages that are to be written to guest swap, or
    zeroed for a balloon)."""
    used, kernel, workload, room, swap_room = _planned(vm, spec, host, host_spec, slower)
    reads = kernel + workload
    over = used / max(room, guest.NEGLIGIBLE_MIB) if used > 0.0 else 0.0
    by_kernel = kernel / vm.kernel_room_mib if kernel > vm.kernel_room_mib else 0.0
    if host_spec.swap_is_disk > 0.0:
        by_device = over if reads > swap_room else 0.0
        return max(over, by_kernel), max(by_kernel, by_device)
    by_swap = reads / swap_room if reads > 0.0 else 0.0
    return max(over, by_kernel, by_swap), max(by_kernel, by_swap)


@inlined
def _fits(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord) -> bool:
    """Whether the tick as first planned reads no more than its devices can: whether `_over` is at most 1, without a division."""
    used, kernel, workload, room, swap_room = _planned(vm, spec, host, host_spec, 1.0)
    by_swap = host_spec.swap_is_disk == 0.0 and kernel + workload > swap_room
    return used <= max(room, guest.NEGLIGIBLE_MIB) and kernel <= vm.kernel_room_mib and not by_swap


@compiled
def _plan_again(
    vm: VmRecord,
    spec: VmSpecRecord,
    host: HostRecord,
    host_spec: HostSpecRecord,
    pace: float,
    age_s: float,
    oldest_s: float,
) -> None:
    """Plan a tick anew from the ages at its start."""
    vm.lru_age_s, vm.oldest_s = age_s, oldest_s
    plan_memory(vm, spec, host, host_spec, pace)
    if vm.missing_goal_mib >= 0.0:
        lru.reclaim(vm, spec)


@inlined
def fit_devices(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord) -> None:
    """Plan anew until what the tick reads passes through the devices within the second: a balloon waits for host swap before
    the workload does; then all is slowed down, but not much more than it must be.

    Costs come from the state at its start, so a sudden squeeze would let a guest fault more than they can deliver. Reads need
    not fall in proportion: a balloon that gets by on free memory evicts nothing.
    """
    if _fits(vm, spec, host, host_spec):
        vm.inflate_cut = max(1.0 - FASTER * (1.0 - vm.inflate_cut), 0.0)
        return
    over, reads = _over(vm, spec, host, host_spec, 1.0)
    progress, age_s, oldest_s = vm.progress, vm.lru_age_s, vm.oldest_s
    waited = False
    for again in range(FEW_REPLANS):
        if reads <= 1.0 or vm.inflate_mib <= guest.NEGLIGIBLE_MIB:
            break
        waited = True
        vm.inflate_mib = vm.inflate_mib / (reads * (1.0 + again * HASTE)) if again < FEW_REPLANS - 1 else 0.0
        _plan_again(vm, spec, host, host_spec, 1.0, age_s, oldest_s)
        over, reads = _over(vm, spec, host, host_spec, 1.0)
    if waited:
        vm.inflate_cut = max(1.0 - max(vm.inflate_mib, guest.NOTHING_MIB) / spec.inflate_mib_per_s, 0.0)
    if over > 1.0:
        _slow_down(vm, spec, host, host_spec, over, age_s, oldest_s)
    vm.held_up += progress - vm.progress


@compiled
def _slow_down(
    vm: VmRecord,
    spec: VmSpecRecord,
    host: HostRecord,
    host_spec: HostSpecRecord,
    over: float,
    age_s: float,
    oldest_s: float,
) -> None:
    """Find about the fastest plan, of workload and balloon alike, that its devices can serve; it is `over` what they can."""
    progress, wish = vm.progress, vm.inflate_mib
    fits, slower, too_fast = 0.0, 1.0, 1.0
    for again in range(REPLANS):
        if over > 1.0:
            too_fast = slower
        elif over > FULL or too_fast - slower < FULL_STEP * too_fast or again == REPLANS - 1:
            break
        else:
            fits = slower
        slower = slower / (max(over, LEAST_OVER) * (1.0 + again * HASTE))
        if not fits < slower < too_fast:
            slower = 0.5 * (fits + too_fast)
        if again == REPLANS - 2:
            slower = fits
        vm.progress, vm.inflate_mib = slower * progress, slower * wish
        _plan_again(vm, spec, host, host_spec, slower, age_s, oldest_s)
        over, _ = _over(vm, spec, host, host_spec, slower)
    if slower < io.SLOWEST and wish > 0.0:  # no device has anything left: the balloon waits, and not the workload
        vm.progress, vm.inflate_mib = progress, 0.0
        _plan_again(vm, spec, host, host_spec, 1.0, age_s, oldest_s)
        over, _ = _over(vm, spec, host, host_spec, 1.0)
        if over > 1.0:
            vm.progress, vm.inflate_mib = slower * progress, slower * wish
            _plan_again(vm, spec, host, host_spec, slower, age_s, oldest_s)
