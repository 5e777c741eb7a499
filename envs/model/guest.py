"""Guest memory: demand, page faults, reclaim by recency, allocation and out-of-memory kills.

Modelled. Pages of tier k are touched at rate lambda_k per second of progress. Missing pages come back when touched
(a fault); under pressure resident pages leave with the hazard h_k(T) = lambda_k / (exp(lambda_k T) - 1), where the age
T is such that memory just fits. The fixed point is R_k = S_k (1 - exp(-lambda_k T)): LRU in Che's approximation (Che, Tung
and Wang, JSAC 2002). The transient comes from the same equation, hence the slow recovery after a squeeze. Within a tick
the linear equation dN/dt = -lambda N + h (S - N) is solved exactly, so neither the fixed point nor the flow of faults
depends on the length of the tick.

Clean pages: a page faulted in by a read keeps its copy on swap until it is written, and then leaves without a write.
That alone gives the measured swap-out rate (equal to swap-in under moderate pressure, 0.70 of it at half the working
set). Read-ahead inflates swap-ins by 5 % (measured: 2-10 % under random access).

Left out: the two lists of Linux's LRU and MGLRU's generations (measured on Zipf patterns to differ by 10 % or less),
swappiness (file and anonymous pages compete by age alone), compressed swap in the guest, NUMA, transparent huge pages.

Sources: measurements on QEMU guests (docs/validation.md); constants are in the fields of ``params``.
"""

import math

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import PAGES_PER_MIB, TIERS, VmRecord, VmSpecRecord

READ_AHEAD = 1.05
"""Swap-ins per fault under random access (measured 1.02-1.10)."""

DIRTY_EXPIRE_S = 30.0
"""Linux writes dirty page cache back after this time (``dirty_expire_centisecs`` 3000)."""

OOM_PATIENCE_S = 2.0
"""A guest that finds no memory kills after 2-3 s (measured)."""

AGE_TOLERANCE_MIB = 0.1
"""The search for the LRU age stops here; what is left over stays in (or comes out of) the watermark."""

NEGLIGIBLE_MIB = 1e-7
"""Remainders below this (a tenth of a byte) come back at once; else they decay into slow denormal numbers."""

MIN_AGE_S, MAX_AGE_S = 0.02, 1e6


@compiled
def decay(x: float) -> float:
    """exp(-x) for x >= 0, by a polynomial and six squarings: within 3e-14 of libm (relative) up to x = 2, 3e-9 up to 10.

    Several times faster than a call into libm, and the same bits on every machine.
    """
    if x > 40.0:
        return 0.0
    y = x * (-1.0 / 64.0)
    y2 = y * y
    low = (1.0 + y) + y2 * (0.5 + y * (1 / 6))
    high = (1 / 24 + y * (1 / 120)) + y2 * (1 / 720 + y * (1 / 5040))
    e = low + y2 * y2 * high
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    return e * e


@compiled
def total(values) -> float:  # type: ignore[no-untyped-def]
    """Sum over the tiers."""
    result = 0.0
    for k in range(TIERS):
        result += values[k]
    return result


@compiled
def missing_mib(vm: VmRecord) -> float:
    """Memory of the workload that is not in guest memory."""
    return total(vm.allocated_mib) - total(vm.resident_mib)


@compiled
def free_mib(vm: VmRecord) -> float:
    """Free guest memory, backed by the host or not."""
    return vm.free_backed_mib + vm.free_deflated_mib + vm.free_untouched_mib


@compiled
def swap_used_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Guest swap in use: missing anonymous pages, and slots kept by clean resident ones (so it over-counts)."""
    used = 0.0
    for k in range(TIERS):
        if spec.tier_is_file[k] == 0.0:
            used += vm.allocated_mib[k] - vm.resident_mib[k] + vm.clean_mib[k]
    return min(used, spec.guest_swap_mib)


@compiled
def kept_cache_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Kernel caches that anonymous pressure does not displace (page-cache pressure does)."""
    anonymous = 0.0
    everything = 1e-9
    for k in range(TIERS):
        everything += vm.allocated_mib[k]
        anonymous += vm.allocated_mib[k] * (1.0 - spec.tier_is_file[k])
    return spec.kernel_cache_mib * anonymous / everything


@compiled
def reserve_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Free memory that the guest does not hand to the workload."""
    return spec.watermark_mib + kept_cache_mib(vm, spec)


@compiled
def _move_between_tiers(vm: VmRecord, spec: VmSpecRecord, wanted, is_file: float, limit: float) -> float:  # type: ignore[no-untyped-def]
    """Let shrinking tiers feed growing ones of the same kind, pages keeping their state; return MiB moved."""
    grow = shrink = 0.0
    for k in range(TIERS):
        if spec.tier_is_file[k] == is_file:
            delta = wanted[k] - vm.allocated_mib[k]
            grow += max(delta, 0.0)
            shrink += max(-delta, 0.0)
    moved = min(min(grow, shrink), limit)
    if moved <= 0.0:
        return 0.0
    resident = clean = swapped = 0.0
    shrink_share = moved / shrink
    for k in range(TIERS):
        delta = vm.allocated_mib[k] - wanted[k]
        if spec.tier_is_file[k] == is_file and delta > 0.0:
            share = delta * shrink_share / vm.allocated_mib[k]
            resident += share * vm.resident_mib[k]
            clean += share * vm.clean_mib[k]
            swapped += share * vm.host_swapped_mib[k]
            vm.allocated_mib[k] -= delta * shrink_share
            vm.resident_mib[k] -= share * vm.resident_mib[k]
            vm.clean_mib[k] -= share * vm.clean_mib[k]
            vm.host_swapped_mib[k] -= share * vm.host_swapped_mib[k]
    for k in range(TIERS):
        delta = wanted[k] - vm.allocated_mib[k]
        if spec.tier_is_file[k] == is_file and delta > 0.0:
            share = delta / grow
            vm.allocated_mib[k] += share * moved
            vm.resident_mib[k] += share * resident
            vm.clean_mib[k] += share * clean
            vm.host_swapped_mib[k] += share * swapped
    return moved


@compiled
def _release(vm: VmRecord, k: int, amount_mib: float) -> None:
    """The workload frees `amount_mib` of tier k: missing pages vanish, resident ones become free memory."""
    share = min(1.0, amount_mib / vm.allocated_mib[k])
    freed = share * vm.resident_mib[k]
    swapped = share * vm.host_swapped_mib[k]
    vm.allocated_mib[k] -= share * vm.allocated_mib[k]
    vm.resident_mib[k] -= freed
    vm.clean_mib[k] -= share * vm.clean_mib[k]
    vm.host_swapped_mib[k] -= swapped
    vm.free_backed_mib += freed
    vm.free_swapped_mib += swapped


@compiled
def follow_demand(vm: VmRecord, spec: VmSpecRecord, wanted) -> None:  # type: ignore[no-untyped-def]
    """Move tiers towards the `wanted` sizes and leave in ``growth_mib`` the new memory to be allocated this tick."""
    vm.growth_mib = 0.0
    limit = spec.growth_mib_per_s
    grow = shrink = 0.0
    for k in range(TIERS):
        delta = wanted[k] - vm.allocated_mib[k]
        grow += max(delta, 0.0)
        shrink += max(-delta, 0.0)
    if grow + shrink < 1e-9:
        return
    if grow > 0.0 and shrink > 0.0:
        for kind in range(2):
            limit -= _move_between_tiers(vm, spec, wanted, float(kind), limit)
    grow = 0.0
    for k in range(TIERS):
        delta = wanted[k] - vm.allocated_mib[k]
        if delta < 0.0:
            _release(vm, k, -delta)
        else:
            grow += delta
    vm.growth_mib = min(grow, max(limit, 0.0))


@compiled
def grow(vm: VmRecord, spec: VmSpecRecord, wanted, granted_mib: float) -> None:  # type: ignore[no-untyped-def]
    """Allocate `granted_mib` of new pages, shared over the tiers that want more; file pages are read from disk."""
    want = 0.0
    for k in range(TIERS):
        want += max(wanted[k] - vm.allocated_mib[k], 0.0)
    for k in range(TIERS):
        new = granted_mib * max(wanted[k] - vm.allocated_mib[k], 0.0) / want
        vm.allocated_mib[k] += new
        vm.resident_mib[k] += new
        if spec.tier_is_file[k] == 1.0:
            vm.clean_mib[k] += new
            vm.file_in_mib += new


@compiled
def fault_demand(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Set the guest and host faults that one second of full progress would meet."""
    guest = host = 0.0
    for k in range(TIERS):
        guest += (vm.allocated_mib[k] - vm.resident_mib[k]) * spec.tier_touched_share[k]
        host += vm.host_swapped_mib[k] * spec.tier_touched_share[k]
    vm.fault_mib_per_s = max(guest, 0.0)
    vm.host_fault_mib_per_s = max(host, 0.0)


@compiled
def fault_back(vm: VmRecord, spec: VmSpecRecord, progress: float) -> float:
    """No pressure: touched pages come back and nothing leaves. Fill the scratch fields; return MiB faulted in."""
    faults = 0.0
    for k in range(TIERS):
        missing = vm.allocated_mib[k] - vm.resident_mib[k]
        left = missing * decay(spec.tier_rate_per_s[k] * progress) if missing > NEGLIGIBLE_MIB else 0.0
        vm.next_missing_mib[k] = left
        vm.fault_in_mib[k] = missing - left
        faults += missing - left
    return faults


@compiled
def _evict_older_than(
    vm: VmRecord, spec: VmSpecRecord, progress: float, age_s: float, swap: bool
) -> tuple[float, float]:
    """Solve one tick with LRU age `age_s`. Fill the scratch fields; return missing MiB and its derivative by age.

    With q = exp(-mu T) and mu = lambda * progress: missing tends to N* = S q at the rate mu / (1 - q).
    """
    missing_after = slope = 0.0
    for k in range(TIERS):
        size = vm.allocated_mib[k]
        missing = size - vm.resident_mib[k]
        mu = spec.tier_rate_per_s[k] * progress
        if not swap and spec.tier_is_file[k] == 0.0:
            after = missing * decay(mu)
            vm.fault_in_mib[k] = missing - after
        elif mu * age_s < 1e-6:  # never touched: leaves at the rate 1 / T
            keep = decay(1.0 / age_s)
            after = size + (missing - size) * keep
            vm.fault_in_mib[k] = 0.0
            slope -= (size - missing) * keep / (age_s * age_s)
        else:
            q = decay(mu * age_s)
            rate = mu / (1.0 - q)
            keep = decay(rate)
            fixed = size * q
            excess = missing - fixed
            after = fixed + excess * keep
            vm.fault_in_mib[k] = mu * fixed + excess * (1.0 - keep) * (1.0 - q)
            slope += excess * keep * rate * rate * q - mu * fixed * (1.0 - keep)
        vm.next_missing_mib[k] = after
        missing_after += after
    return missing_after, slope


@compiled
def reclaim(vm: VmRecord, spec: VmSpecRecord, progress: float, missing_goal_mib: float, swap: bool) -> None:
    """Find the LRU age at which `missing_goal_mib` is missing after this tick (Newton in log T, warm start)."""
    for _ in range(24):
        age = vm.lru_age_s
        missing, slope = _evict_older_than(vm, spec, progress, age, swap)
        error = missing - missing_goal_mib
        if slope * age < -1e-12:
            step = max(-1.4, min(1.4, -error / (slope * age)))
        else:
            step = 1.4 if error > 0.0 else -1.4
        vm.lru_age_s = min(max(age * math.exp(step), MIN_AGE_S), MAX_AGE_S)
        if abs(error) < AGE_TOLERANCE_MIB:
            break


@compiled
def settle(vm: VmRecord, spec: VmSpecRecord, progress: float) -> float:
    """Carry out the tick that the scratch fields describe, tier by tier; return MiB faulted in.

    Evicted pages become free. Those in host swap are read back first if they must be written (double paging).
    """
    faults = freed = freed_swapped = read_back = 0.0
    swap_in = swap_out = file_in = file_out = 0.0
    for k in range(TIERS):
        resident = vm.resident_mib[k]
        fault_in = vm.fault_in_mib[k]
        after = vm.allocated_mib[k] - vm.next_missing_mib[k]
        evicted = max(0.0, resident + fault_in - after)
        writes = spec.tier_write_share[k]
        leave = evicted / resident if evicted > 0.0 and resident > 0.0 else 0.0
        clean = vm.clean_mib[k] + fault_in * (1.0 - writes)
        if clean > NEGLIGIBLE_MIB:
            clean /= 1.0 + spec.tier_rate_per_s[k] * progress * writes + leave
        written = evicted - min(leave * clean, evicted)
        if spec.tier_is_file[k] == 1.0:
            written_back = max(resident - clean, 0.0) * (1.0 / DIRTY_EXPIRE_S)
            clean += written_back
            file_out += written + written_back
            file_in += fault_in
        else:
            swap_out += written
            swap_in += fault_in
        vm.clean_mib[k] = min(clean, after) if clean > NEGLIGIBLE_MIB else 0.0
        vm.resident_mib[k] = after
        if vm.host_swapped_mib[k] > 0.0 and evicted > 0.0:
            swapped = vm.host_swapped_mib[k] * min(leave, 1.0)
            vm.host_swapped_mib[k] -= swapped
            read_back += swapped * written / evicted
            freed_swapped += swapped * (1.0 - written / evicted)
        faults += fault_in
        freed += evicted
    vm.free_backed_mib += freed
    vm.free_swapped_mib += freed_swapped
    vm.host_swap_in_mib += read_back
    vm.swap_in_mib += swap_in * READ_AHEAD
    vm.swap_out_mib += swap_out
    vm.file_in_mib += file_in
    vm.file_out_mib += file_out
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
    for k in range(TIERS):
        if vm.allocated_mib[k] > 0.0:
            _release(vm, k, vm.allocated_mib[k])
    vm.oom_kills += 1.0
    vm.down_s = spec.restart_s
    vm.refilling = 1.0
    vm.starved_s = 0.0
    vm.lru_age_s = 1e4


@compiled
def report(vm: VmRecord, spec: VmSpecRecord) -> None:
    """What the balloon driver tells when polled: counters are cumulative, and all of it is old by the next tick."""
    kept = kept_cache_mib(vm, spec)
    caches = kept
    for k in range(TIERS):
        caches += vm.resident_mib[k] * spec.tier_is_file[k]
    free = free_mib(vm)
    file_cache = caches - kept
    vm.report_age_s = 0.0
    vm.report_free_mib = max(free - kept, 0.0)
    vm.report_available_mib = (
        max(free - kept - spec.watermark_mib, 0.0) + kept + file_cache - min(0.5 * file_cache, spec.watermark_mib)
    )
    vm.report_total_mib = spec.memory_mib - vm.balloon_mib
    vm.report_caches_mib = caches
    vm.report_swap_in_mib = vm.swap_in_mib
    vm.report_swap_out_mib = vm.swap_out_mib
    vm.report_major_faults = vm.major_faults
