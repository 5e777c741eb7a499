"""Guest memory: demand, page faults, allocation and out-of-memory kills. What leaves under pressure is found in ``lru``; ``paging``
carries it out.

Modelled. Pages of tier k are touched at rate lambda_k per second of progress. Missing pages come back when touched (a
fault); under pressure resident pages leave with a hazard that depends on their tier, so that memory just fits. A page
leaves after it has gone untouched through two stages (Linux's active and inactive lists), each of which takes an
exponential time of mean T / 2. Its hazard is h_k(T) = 1 / (T (1 + lambda_k T / 4)) and the fixed point is
R_k = S_k (1 - (1 + lambda_k T / 2)^-2). With one stage this is RANDOM (Gelenbe 1973), with infinitely many LRU (Che,
Tung and Wang, JSAC 2002); two lie between, as real guests do: under Zipf 0.99 the misses measured at seven depths are
0.008 off on average with RANDOM, 0.006 with LRU and 0.005 with two stages. Within a tick the linear equation
dN/dt = -lambda N + h (S - N) is solved exactly, so neither the fixed point nor the flow of faults depends on the length
of the tick; the transient comes from the same equation, hence the slow recovery after a squeeze.

Swap is a disk or zram. Compressed swap eats ``zram_stored_share`` of the memory that it frees, and a guest that finds
nothing left to evict is killed: the cliff. Clean pages: a page faulted in by a read keeps its copy on a disk until it
is written, and then leaves without a write. That alone gives the measured swap-out rate (equal to swap-in under
moderate pressure, 0.70 of it at half the working set). Read-ahead inflates swap-ins by 5 % (measured: 2-10 % under
random access). Swappiness s sets the age at which anonymous pages leave to (200 - s) / s of the age at which page
cache does (a guess: Linux divides its scanning so, and corrects it by refaults).

Pressure stall information: the share of time in which the workload waits for faults or for free memory, averaged over
10 s as the kernel does.

Left out: ages of single pages (new ones, and those that change their tier, count as old as their tier's), MGLRU's
generations (measured on Zipf patterns to differ by 10 % or less), NUMA, transparent huge pages and compaction, zram's
own fragmentation, write-back of zram to disk.

Sources: measurements on QEMU guests (docs/validation.md); constants are in the fields of ``params``.
"""

from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.params import VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import Tiers, put, tiers, total, where

OOM_PATIENCE_S = 2.0
"""A guest that finds no memory kills after 2-3 s (measured)."""

MIN_WATERMARK = 0.2
"""Share of the low watermark that allocations may still use when nothing can be evicted: Linux's low is 1.25 of its min."""

MAX_AGE_S = 1e6
"""Nothing is taken to be older."""

NEGLIGIBLE_MIB = 1e-7
"""Remainders below this (a tenth of a byte) come back at once; else they decay into slow denormal numbers."""

NOTHING_MIB = 1.0
"""A guest with less than this left to evict has nothing left to evict."""

PSI_WEIGHT = 0.09516258196404048
"""1 - exp(-1 s / 10 s): weight of one tick in a ten-second average."""


@compiled
def decay(x: Tiers) -> Tiers:
    """exp(-x), of a number or of every tier: relative error 3e-11 up to x = 2, 2e-5 up to 10; level from 40 on.

    A polynomial and four squarings: several times faster than a call into libm, and the same bits on every machine.
    """
    y = min(x, 40.0) * (-1.0 / 16.0)
    y2 = y * y
    low = (1.0 + y) + y2 * (0.5 + y * (1 / 6))
    high = (1 / 24 + y * (1 / 120)) + y2 * (1 / 720 + y * (1 / 5040))
    e = low + y2 * y2 * high
    e *= e
    e *= e
    e *= e
    return e * e


@compiled
def missing_mib(vm: VmRecord) -> Tiers:
    """Memory of the workload that is not in guest memory."""
    return tiers(vm.allocated_mib) - tiers(vm.resident_mib)


@compiled
def free_mib(vm: VmRecord) -> float:
    """Free guest memory, backed by the host or not."""
    return vm.free_backed_mib + vm.free_deflated_mib + vm.free_untouched_mib


@compiled
def swap_used_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Guest swap in use: missing anonymous pages, and slots that resident ones keep (so it over-counts)."""
    used = total(missing_mib(vm) * (1.0 - tiers(spec.tier_is_file)) + tiers(vm.slot_mib))
    return min(used, spec.guest_swap_mib)


@compiled
def pool_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Guest memory that compressed swap takes."""
    return total(missing_mib(vm) * (1.0 - tiers(spec.tier_gain)))


@compiled
def kept_cache_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Kernel caches that anonymous pressure does not displace (page-cache pressure does)."""
    allocated = tiers(vm.allocated_mib)
    anonymous = total(allocated * (1.0 - tiers(spec.tier_is_file)))
    return spec.kernel_cache_mib * anonymous / (total(allocated) + 1e-9)


@compiled
def reserve_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Free memory that the guest does not hand to the workload."""
    return spec.watermark_mib + kept_cache_mib(vm, spec)


@compiled
def evictable_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """What the guest would gain if it evicted all it can: page cache, and anonymous memory as far as swap has room."""
    resident, is_file = tiers(vm.resident_mib), tiers(spec.tier_is_file)
    file = total(resident * is_file)
    swapped = total(missing_mib(vm) * (1.0 - is_file))
    anonymous = max(total(resident) - file, 0.0)
    return file + min(anonymous, max(spec.guest_swap_mib - swapped, 0.0)) * (1.0 - spec.zram_stored_share)


@compiled
def _carried(pages: Tiers, leave: Tiers, arrive: Tiers) -> Tiers:
    """`pages` after the share `leave` of each tier's went, and together came where `arrive` says."""
    leaving = leave * pages
    return pages - leaving + arrive * total(leaving)


@compiled
def _move_between_tiers(vm: VmRecord, wanted: Tiers, of_kind: Tiers, limit: float) -> float:
    """Let shrinking tiers feed growing ones of the same kind, pages keeping their state; return MiB moved."""
    allocated = tiers(vm.allocated_mib)
    grow = max(wanted - allocated, 0.0) * of_kind
    shrink = max(allocated - wanted, 0.0) * of_kind
    moved = min(min(total(grow), total(shrink)), limit)
    if moved <= 0.0:
        return 0.0
    leave = shrink * (moved / total(shrink)) / max(allocated, NEGLIGIBLE_MIB)
    arrive = grow / total(grow)
    put(vm.allocated_mib, _carried(allocated, leave, arrive))
    put(vm.resident_mib, _carried(tiers(vm.resident_mib), leave, arrive))
    put(vm.clean_mib, _carried(tiers(vm.clean_mib), leave, arrive))
    put(vm.slot_mib, _carried(tiers(vm.slot_mib), leave, arrive))
    put(vm.host_swapped_mib, _carried(tiers(vm.host_swapped_mib), leave, arrive))
    return moved


@compiled
def _release(vm: VmRecord, spec: VmSpecRecord, amount: Tiers) -> None:
    """The workload frees `amount` of each tier: missing pages vanish, resident ones (and zram's) become free memory."""
    allocated, resident, swapped = tiers(vm.allocated_mib), tiers(vm.resident_mib), tiers(vm.host_swapped_mib)
    share = where(amount < allocated, amount / allocated, 1.0)
    vm.free_backed_mib += total(share * (allocated - resident) * (1.0 - tiers(spec.tier_gain)))
    put(vm.allocated_mib, allocated - share * allocated)
    put(vm.resident_mib, resident - share * resident)
    put(vm.clean_mib, tiers(vm.clean_mib) * (1.0 - share))
    put(vm.slot_mib, tiers(vm.slot_mib) * (1.0 - share))
    put(vm.host_swapped_mib, swapped - share * swapped)
    vm.free_backed_mib += total(share * resident)
    vm.free_swapped_mib += total(share * swapped)


@compiled
def _appearing(vm: VmRecord, spec: VmSpecRecord, lacking: Tiers) -> Tiers:
    """What a second of progress allocates of it: all, or what is touched first; a workload that starts anew loads all again."""
    return lacking if vm.refilling > 0.0 else lacking * tiers(spec.tier_appears)


@inlined
def follow_demand(vm: VmRecord, spec: VmSpecRecord, wanted: Tiers) -> None:
    """Move tiers towards the `wanted` sizes and leave in ``growth_mib`` the new memory to be allocated this tick."""
    vm.growth_mib = vm.file_growth_mib = 0.0
    change = wanted - tiers(vm.allocated_mib)
    if total(max(change, 0.0 - change)) < 1e-9:
        return
    limit = spec.growth_mib_per_s
    is_file = tiers(spec.tier_is_file)
    limit -= _move_between_tiers(vm, wanted, 1.0 - is_file, limit)
    limit -= _move_between_tiers(vm, wanted, is_file, limit)
    shrink = max(tiers(vm.allocated_mib) - wanted, 0.0)
    if total(shrink) > 0.0:
        _release(vm, spec, shrink)
    missing = _appearing(vm, spec, max(wanted - tiers(vm.allocated_mib), 0.0))
    growth = min(total(missing), limit)
    if growth > NEGLIGIBLE_MIB:
        vm.growth_mib = growth
        vm.file_growth_mib = growth * total(missing * is_file) / total(missing)


@compiled
def grow(vm: VmRecord, spec: VmSpecRecord, wanted: Tiers, granted_mib: float) -> None:
    """Allocate `granted_mib` of new pages, shared over the tiers that want more; file pages are read from disk."""
    allocated = tiers(vm.allocated_mib)
    want = _appearing(vm, spec, max(wanted - allocated, 0.0))
    new = want * (granted_mib / total(want))
    put(vm.allocated_mib, allocated + new)
    put(vm.resident_mib, tiers(vm.resident_mib) + new)
    read = new * tiers(spec.tier_is_file)
    put(vm.clean_mib, tiers(vm.clean_mib) + read)
    vm.file_in_mib += total(read)


@inlined
def fault_demand(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Set the guest and host faults that one second of full progress would meet; zram's are those without a disk.

    A page that comes back while reclaim goes on may leave and be missed again, so then every touch of a missing page is a
    fault; else only the first is.
    """
    touched = tiers(spec.tier_touched_share)
    missing = missing_mib(vm)
    vm.fault_mib_per_s = vm.paging_mib_per_s = max(total(missing * touched), 0.0)
    vm.zram_fault_mib_per_s = vm.sequential_file_mib_per_s = 0.0
    if vm.fault_mib_per_s > 0.0:
        paging = missing * (tiers(spec.tier_rate_per_s) if vm.missing_goal_mib >= 0.0 else touched)
        vm.paging_mib_per_s = max(total(paging), 0.0)
        if spec.sequential_share > 0.0:
            vm.sequential_file_mib_per_s = max(total(paging * tiers(spec.tier_is_file)), 0.0) * spec.sequential_share
        if spec.zram_stored_share > 0.0:
            vm.zram_fault_mib_per_s = max(total(paging * (1.0 - tiers(spec.tier_is_file))), 0.0)
    vm.host_fault_mib_per_s = max(total(tiers(vm.host_swapped_mib) * touched), 0.0)


@compiled
def come_back(missing: Tiers, touches: Tiers) -> Tiers:
    """What is still missing after `touches` (per page, on average), when nothing leaves."""
    return where(missing > NEGLIGIBLE_MIB, missing * decay(touches), 0.0)


@inlined
def fault_back(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Plan a tick in which touched pages come back and nothing leaves; return MiB of free memory that this takes."""
    missing = missing_mib(vm)
    left = come_back(missing, tiers(spec.tier_rate_per_s) * vm.progress)
    put(vm.next_missing_mib, left)
    put(vm.fault_in_mib, missing - left)
    return total((missing - left) * tiers(spec.tier_gain))


@compiled
def kill(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Out of memory: the guest's kernel kills the workload, and its operator pays."""
    restart(vm, spec)
    vm.oom_kills += 1.0
    vm.charged_s += spec.kill_cost_s


@compiled
def restart(vm: VmRecord, spec: VmSpecRecord) -> None:
    """The workload dies, its memory becomes free, and it starts cold after ``restart_s``."""
    _release(vm, spec, tiers(vm.allocated_mib))
    vm.down_s = spec.restart_s
    vm.refilling = 1.0
    vm.starved_s = vm.process_s = vm.heap_ballooned_mib = 0.0
    vm.lru_age_s = 1e4
    vm.oldest_s = MAX_AGE_S
    vm.run_share = 1.0
    vm.free_runs_mib = spec.guest_swap_mib
    vm.replaced_mib = vm.queued_single_mib = vm.queued_runs_mib = 0.0


@inlined
def feel_pressure(vm: VmRecord, guest_share: float, host_share: float) -> None:
    """Average the shares of time stalled on memory, as PSI's ``some avg10``: what the guest sees and what the host does."""
    vm.psi_some10 += PSI_WEIGHT * (min(guest_share, 1.0) - vm.psi_some10)
    vm.host_psi_some10 += PSI_WEIGHT * (min(host_share, 1.0) - vm.host_psi_some10)
    vm.host_stalled_s += min(host_share, 1.0)


@compiled
def report_free_pages(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Free page reporting: the guest tells the host which pages are free, and the host drops them."""
    excess = vm.free_backed_mib - spec.watermark_mib
    if excess > 0.0:
        amount = spec.reporting_share_per_s * excess
        vm.free_swapped_mib -= amount * vm.free_swapped_mib / vm.free_backed_mib
        vm.free_backed_mib -= amount
        vm.free_deflated_mib += amount


@compiled
def report(vm: VmRecord, spec: VmSpecRecord) -> None:
    """What the balloon driver tells when polled: counters are cumulative, and all of it is old by the next tick."""
    vm.report_answered = 1.0
    kept = kept_cache_mib(vm, spec)
    file_cache = total(tiers(vm.resident_mib) * tiers(spec.tier_is_file))
    free = free_mib(vm)
    vm.report_age_s = 0.0
    vm.report_free_mib = max(free - kept, 0.0)
    vm.report_available_mib = (
        max(free - kept - spec.watermark_mib, 0.0) + kept + file_cache - min(0.5 * file_cache, spec.watermark_mib)
    )
    vm.report_total_mib = spec.memory_mib - vm.balloon_mib
    vm.report_caches_mib = kept + file_cache
    vm.report_swap_in_mib = vm.swap_in_mib
    vm.report_swap_out_mib = vm.swap_out_mib
    vm.report_major_faults = vm.major_faults
    anonymous = total(tiers(vm.allocated_mib) * (1.0 - tiers(spec.tier_is_file)))
    vm.report_committed_mib = spec.commit_ratio * anonymous
    if spec.stats_windows > 0.0:
        _report_windows(vm, spec, max(free - kept, 0.0), kept, file_cache)


@compiled
def _report_windows(vm: VmRecord, spec: VmSpecRecord, free: float, kept: float, file_cache: float) -> None:
    """Windows' free memory (AvailPhys) has the standby list in it: clean page cache here. CacheBytes is what else is cached
    and active; the driver's "available" is AvailPhys and half of that, so it counts standby pages as both.
    """
    standby = min(total(tiers(vm.clean_mib) * tiers(spec.tier_is_file)), file_cache)
    vm.report_free_mib = free + standby
    vm.report_caches_mib = kept + file_cache - standby
    vm.report_available_mib = vm.report_free_mib + 0.5 * vm.report_caches_mib
