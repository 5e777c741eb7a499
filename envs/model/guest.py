"""Guest memory: demand, page faults, reclaim by recency, allocation and out-of-memory kills.

Modelled. Pages of tier k are touched at rate lambda_k per second of progress. Missing pages come back when touched (a
fault); under pressure resident pages leave with the hazard h_k(T) = lambda_k / (exp(lambda_k T) - 1), where the age T
is such that memory just fits. The fixed point is R_k = S_k (1 - exp(-lambda_k T)): LRU in Che's approximation (Che,
Tung and Wang, JSAC 2002). The transient comes from the same equation, hence the slow recovery after a squeeze. Within
a tick the linear equation dN/dt = -lambda N + h (S - N) is solved exactly, so neither the fixed point nor the flow of
faults depends on the length of the tick.

Clean pages: a page faulted in by a read keeps its copy on swap until it is written, and then leaves without a write.
That alone gives the measured swap-out rate (equal to swap-in under moderate pressure, 0.70 of it at half the working
set). Read-ahead inflates swap-ins by 5 % (measured: 2-10 % under random access).

Left out: the two lists of Linux's LRU and MGLRU's generations (measured on Zipf patterns to differ by 10 % or less),
swappiness (file and anonymous pages compete by age alone), compressed swap in the guest, NUMA, transparent huge pages.

Sources: measurements on QEMU guests (docs/validation.md); constants are in the fields of ``params``.
"""

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import PAGES_PER_MIB, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import Tiers, put, tiers, total, where

READ_AHEAD = 1.05
"""Swap-ins per fault under random access (measured 1.02-1.10)."""

DIRTY_EXPIRE_S = 30.0
"""Linux writes dirty page cache back after this time (``dirty_expire_centisecs`` 3000)."""

OOM_PATIENCE_S = 2.0
"""A guest that finds no memory kills after 2-3 s (measured)."""

MIN_WATERMARK = 0.2
"""Share of the low watermark that allocations may still use when nothing can be evicted: Linux's low is 1.25 of its min."""

AGE_TOLERANCE_MIB = 0.03
"""The search for the LRU age stops here; what is left over stays in (or comes out of) the watermark."""

NEGLIGIBLE_MIB = 1e-7
"""Remainders below this (a tenth of a byte) come back at once; else they decay into slow denormal numbers."""

MIN_AGE_S, MAX_AGE_S = 0.02, 1e6
MAX_SEARCH = 24


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
    """Guest swap in use: missing anonymous pages, and slots kept by clean resident ones (so it over-counts)."""
    used = total((missing_mib(vm) + tiers(vm.clean_mib)) * (1.0 - tiers(spec.tier_is_file)))
    return min(used, spec.guest_swap_mib)


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
    """What the guest could evict: page cache, and anonymous memory as far as its swap has room."""
    resident, is_file = tiers(vm.resident_mib), tiers(spec.tier_is_file)
    file = total(resident * is_file)
    swapped = total(missing_mib(vm) * (1.0 - is_file))
    anonymous = max(total(resident) - file, 0.0)
    return file + min(anonymous, max(spec.guest_swap_mib - swapped, 0.0))


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
    put(vm.host_swapped_mib, _carried(tiers(vm.host_swapped_mib), leave, arrive))
    return moved


@compiled
def _release(vm: VmRecord, amount: Tiers) -> None:
    """The workload frees `amount` of each tier: missing pages vanish, resident ones become free memory."""
    allocated, resident, swapped = tiers(vm.allocated_mib), tiers(vm.resident_mib), tiers(vm.host_swapped_mib)
    share = where(amount < allocated, amount / allocated, 1.0)
    put(vm.allocated_mib, allocated - share * allocated)
    put(vm.resident_mib, resident - share * resident)
    put(vm.clean_mib, tiers(vm.clean_mib) * (1.0 - share))
    put(vm.host_swapped_mib, swapped - share * swapped)
    vm.free_backed_mib += total(share * resident)
    vm.free_swapped_mib += total(share * swapped)


@compiled
def follow_demand(vm: VmRecord, spec: VmSpecRecord, wanted: Tiers) -> None:
    """Move tiers towards the `wanted` sizes and leave in ``growth_mib`` the new memory to be allocated this tick."""
    vm.growth_mib = 0.0
    change = wanted - tiers(vm.allocated_mib)
    if total(max(change, 0.0 - change)) < 1e-9:
        return
    limit = spec.growth_mib_per_s
    is_file = tiers(spec.tier_is_file)
    limit -= _move_between_tiers(vm, wanted, 1.0 - is_file, limit)
    limit -= _move_between_tiers(vm, wanted, is_file, limit)
    shrink = max(tiers(vm.allocated_mib) - wanted, 0.0)
    if total(shrink) > 0.0:
        _release(vm, shrink)
    growth = min(total(max(wanted - tiers(vm.allocated_mib), 0.0)), limit)
    vm.growth_mib = growth if growth > NEGLIGIBLE_MIB else 0.0


@compiled
def grow(vm: VmRecord, spec: VmSpecRecord, wanted: Tiers, granted_mib: float) -> None:
    """Allocate `granted_mib` of new pages, shared over the tiers that want more; file pages are read from disk."""
    allocated = tiers(vm.allocated_mib)
    want = max(wanted - allocated, 0.0)
    new = want * (granted_mib / total(want))
    put(vm.allocated_mib, allocated + new)
    put(vm.resident_mib, tiers(vm.resident_mib) + new)
    read = new * tiers(spec.tier_is_file)
    put(vm.clean_mib, tiers(vm.clean_mib) + read)
    vm.file_in_mib += total(read)


@compiled
def fault_demand(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Set the guest and host faults that one second of full progress would meet."""
    touched = tiers(spec.tier_touched_share)
    vm.fault_mib_per_s = max(total(missing_mib(vm) * touched), 0.0)
    vm.host_fault_mib_per_s = max(total(tiers(vm.host_swapped_mib) * touched), 0.0)


@compiled
def come_back(missing: Tiers, touches: Tiers) -> Tiers:
    """What is still missing after `touches` (per page, on average), when nothing leaves."""
    return where(missing > NEGLIGIBLE_MIB, missing * decay(touches), 0.0)


@compiled
def fault_back(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Plan a tick in which touched pages come back and nothing leaves; return MiB faulted in."""
    missing = missing_mib(vm)
    left = come_back(missing, tiers(spec.tier_rate_per_s) * vm.progress)
    put(vm.next_missing_mib, left)
    put(vm.fault_in_mib, missing - left)
    return total(missing - left)


@compiled
def _evict_older_than(size: Tiers, missing: Tiers, touches: Tiers, may_leave: Tiers, age_s: float):  # type: ignore[no-untyped-def]
    """Solve one tick with LRU age `age_s`; return what is missing then, what was faulted in, and d missing / d age.

    With mu `touches` per tick and q = exp(-mu T): missing tends to N* = S q at the rate mu / (1 - q). Pages that may
    not leave have q = 0. Pages that are never touched (mu T < 1e-6) leave at the rate 1 / T.
    """
    mu = max(touches, 1e-6 / age_s)
    q = may_leave * decay(mu * age_s)
    rate = mu / (1.0 - q)
    keep = decay(rate)
    fixed = size * q
    excess = missing - fixed
    fault_in = mu * fixed + excess * (1.0 - keep) * (1.0 - q)
    slope = excess * keep * rate * rate * q - mu * fixed * (1.0 - keep)
    return fixed + excess * keep, fault_in, total(slope)


@compiled
def reclaim(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Plan a tick after which ``missing_goal_mib`` is missing: find the LRU age (Newton in 1 / T, warm start)."""
    size = tiers(vm.allocated_mib)
    missing = missing_mib(vm)
    touches = tiers(spec.tier_rate_per_s) * vm.progress
    may_leave = max(tiers(spec.tier_is_file), 1.0 if spec.guest_swap_mib > 0.0 else 0.0)
    age = vm.lru_age_s
    left, fault_in, slope = _evict_older_than(size, missing, touches, may_leave, age)
    for _ in range(MAX_SEARCH):
        error = total(left) - vm.missing_goal_mib
        step = 0.9 if error > 0.0 else -9.0
        if slope * age < -1e-12:
            step = max(-9.0, min(0.9, -error / (slope * age)))
        age = min(max(age / (1.0 - step), MIN_AGE_S), MAX_AGE_S)
        if abs(error) < AGE_TOLERANCE_MIB:
            break
        left, fault_in, slope = _evict_older_than(size, missing, touches, may_leave, age)
    vm.lru_age_s = age
    put(vm.next_missing_mib, left)
    put(vm.fault_in_mib, fault_in)
    if total(left * (1.0 - tiers(spec.tier_is_file))) > spec.guest_swap_mib > 0.0:
        _fill_swap_only(vm, spec, size, missing, touches)


@compiled
def _fill_swap_only(vm: VmRecord, spec: VmSpecRecord, size: Tiers, missing: Tiers, touches: Tiers) -> None:
    """The plan would overfill the guest's swap: evict anonymous pages until it is full, and page cache for the rest."""
    is_file = tiers(spec.tier_is_file)
    left, fault_in = tiers(vm.next_missing_mib), tiers(vm.fault_in_mib)
    stay = come_back(missing, touches)
    least, most = total(stay * (1.0 - is_file)), total(left * (1.0 - is_file))
    share = max(is_file, (spec.guest_swap_mib - least) / (most - least))
    left = stay + share * (left - stay)
    put(vm.fault_in_mib, missing - stay + share * (fault_in - missing + stay))
    cache = (size - left) * is_file
    more = min(1.0, (most - spec.guest_swap_mib) / max(total(cache), NEGLIGIBLE_MIB))
    put(vm.next_missing_mib, left + cache * more)


@compiled
def settle(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Carry out the tick that `fault_back` or `reclaim` planned; return MiB faulted in.

    Evicted pages become free. Those in host swap are read back first if they must be written (double paging).
    """
    resident, is_file, fault_in = tiers(vm.resident_mib), tiers(spec.tier_is_file), tiers(vm.fault_in_mib)
    after = tiers(vm.allocated_mib) - tiers(vm.next_missing_mib)
    evicted = max(resident + fault_in - after, 0.0)
    leave = evicted / max(resident + fault_in, NEGLIGIBLE_MIB)
    writes = tiers(spec.tier_write_share)
    clean = tiers(vm.clean_mib) + fault_in * (1.0 - writes)
    clean /= 1.0 + tiers(spec.tier_rate_per_s) * vm.progress * writes
    written = evicted - min(leave * clean, evicted)
    clean -= leave * clean
    written_back = is_file * max(after - clean, 0.0) * (1.0 / DIRTY_EXPIRE_S)
    clean += written_back
    put(vm.clean_mib, where(clean > NEGLIGIBLE_MIB, min(clean, after), 0.0))
    put(vm.resident_mib, after)
    if vm.host_fault_mib_per_s > 0.0:
        _evict_host_swapped(vm, evicted, written, leave)
    vm.free_backed_mib += total(evicted)
    return _count(vm, is_file, fault_in, written, written_back)


@compiled
def _evict_host_swapped(vm: VmRecord, evicted: Tiers, written: Tiers, leave: Tiers) -> None:
    """Evicted pages that the host swapped out: read back if they must be written, else free and still in host swap."""
    swapped = tiers(vm.host_swapped_mib)
    gone = swapped * min(leave, 1.0)
    read_back = gone * (written / max(evicted, NEGLIGIBLE_MIB))
    put(vm.host_swapped_mib, swapped - gone)
    vm.host_swap_in_mib += total(read_back)
    vm.double_paged_mib += total(read_back)
    vm.free_swapped_mib += total(gone - read_back)


@compiled
def _count(vm: VmRecord, is_file: Tiers, fault_in: Tiers, written: Tiers, written_back: Tiers) -> float:
    """Advance the guest's counters by one tick; return MiB faulted in."""
    faults = total(fault_in)
    file_in = total(is_file * fault_in)
    file_out = total(is_file * written)
    vm.file_in_mib += file_in
    vm.swap_in_mib += (faults - file_in) * READ_AHEAD
    vm.file_out_mib += file_out + total(written_back)
    vm.swap_out_mib += total(written) - file_out
    vm.major_faults += faults * PAGES_PER_MIB
    return faults


@compiled
def use_free(vm: VmRecord, amount_mib: float) -> None:
    """Hand free memory to the workload: recently freed pages first, never-touched ones last.

    Freed pages that the host swapped out are read back although their content is dead (false reads).
    """
    backed = min(amount_mib, vm.free_backed_mib)
    if vm.free_swapped_mib > 0.0 and backed > 0.0:
        false_read = min(vm.free_swapped_mib, backed * vm.free_swapped_mib / vm.free_backed_mib)
        vm.free_swapped_mib -= false_read
        vm.false_read_mib += false_read
        vm.host_swap_in_mib += false_read
    vm.free_backed_mib -= backed
    deflated = min(amount_mib - backed, vm.free_deflated_mib)
    vm.free_deflated_mib -= deflated
    vm.free_untouched_mib -= amount_mib - backed - deflated


@compiled
def kill(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Out of memory: the workload dies, its memory becomes free, and it restarts cold after ``restart_s``."""
    _release(vm, tiers(vm.allocated_mib))
    vm.oom_kills += 1.0
    vm.down_s = spec.restart_s
    vm.refilling = 1.0
    vm.starved_s = 0.0
    vm.lru_age_s = 1e4


@compiled
def report(vm: VmRecord, spec: VmSpecRecord) -> None:
    """What the balloon driver tells when polled: counters are cumulative, and all of it is old by the next tick."""
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
