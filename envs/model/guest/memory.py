"""Guest memory: demand, page faults, reclaim by recency, allocation and out-of-memory kills.

Modelled. Pages of tier k are touched at rate lambda_k per second of progress. Missing pages come back when touched (a
fault); under pressure resident pages leave with a hazard that depends on their tier, so that memory just fits. A page
leaves after it has gone untouched through two stages (Linux's active and inactive lists), each of which takes an
exponential time of mean T / 2. Its hazard is h_k(T) = 1 / (T (1 + lambda_k T / 4)) and the fixed point is
R_k = S_k (1 - (1 + lambda_k T / 2)^-2). With one stage this is RANDOM (Gelenbe 1973), with infinitely many LRU (Che,
Tung and Wang, JSAC 2002); two lie between, as real guests do: under Zipf 0.99 the misses measured at seven depths are
0.008 off on average with RANDOM, 0.006 with LRU and 0.005 with two stages. Within a tick the linear equation
dN/dt = -lambda N + h (S - N) is solved exactly, so neither the fixed point nor the flow of faults depends on the length
of the tick; the transient comes from the same equation, hence the slow recovery after a squeeze.

Lists remember. Where reclaim has to reach T below the age A of the oldest page that is still there, what has been idle for
longer goes at once: of tier k the share 1 - g_k(T) / g_k(A), g(T) = 1 - (1 + lambda T / 2)^-2, before any hazard counts. So a
squeeze takes memory that nobody has touched for hours before it takes what was used a second ago, however fast it comes; at a
steady T nothing goes so. A rises by a second a second, and falls to T when pages leave.

Swap is a disk or zram. Compressed swap eats ``zram_stored_share`` of the memory that it frees, and a guest that finds
nothing left to evict is killed: the cliff. Clean pages: a page faulted in by a read keeps its copy on a disk until it
is written, and then leaves without a write. That alone gives the measured swap-out rate (equal to swap-in under
moderate pressure, 0.70 of it at half the working set). Read-ahead inflates swap-ins by 5 % (measured: 2-10 % under
random access). Swappiness s sets the age at which anonymous pages leave to (200 - s) / s of the age at which page
cache does (a guess: Linux divides its scanning so, and corrects it by refaults).

Swap slots. What is swapped out is written together as far as free slots lie together, `swap_order` of it, and else page by page.
A fresh swap area is all in order. Each page that comes back leaves a hole, so order decays by in / (used + in); what is written
beyond what comes back fills room that nobody used, and restores order as far as there is such room. So a guest whose cold memory
goes for the first time is quick, and one that has been paging for a minute writes single pages (measured: 24 and 2 MiB/s under
600 operations a second). That reads decay order so is a guess; Linux's allocator looks for free clusters first.

Pressure stall information: the share of time in which the workload waits for faults or for free memory, averaged over
10 s as the kernel does.

Left out: ages of single pages (new ones, and those that change their tier, count as old as their tier's), MGLRU's
generations (measured on Zipf patterns to differ by 10 % or less), NUMA, transparent huge pages and compaction, zram's
own fragmentation, write-back of zram to disk.

Sources: measurements on QEMU guests (docs/validation.md); constants are in the fields of ``params``.
"""

from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.params import PAGES_PER_MIB, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import Tiers, put, tiers, total, where

READ_AHEAD = 1.05
"""Swap-ins per fault under random access on a disk (measured 1.02-1.10); Linux reads zram without it."""

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

MIN_AGE_S, MAX_AGE_S = 1e-9, 1e6

ALMOST = 1.0 - 1e-9

UNTOUCHED_PER_S = 1e-12
"""Keeps shares by age defined where nothing is touched: then the oldest part of the memory's time leaves."""

NOTHING_MIB = 1.0
"""A guest with less than this left to evict has nothing left to evict."""

PSI_WEIGHT = 0.09516258196404048
"""1 - exp(-1 s / 10 s): weight of one tick in a ten-second average."""

SCATTERED = 1e-3
"""Free swap slots of less order lie anywhere."""

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


@compiled
def fault_back(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Plan a tick in which touched pages come back and nothing leaves; return MiB of free memory that this takes."""
    missing = missing_mib(vm)
    left = come_back(missing, tiers(spec.tier_rate_per_s) * vm.progress)
    put(vm.next_missing_mib, left)
    put(vm.fault_in_mib, missing - left)
    return total((missing - left) * tiers(spec.tier_gain))


@compiled
def _younger(touches: Tiers, stays: Tiers, age_s: float) -> tuple[Tiers, Tiers]:
    """Share of each tier that has been idle for less than `age_s` (two stages), and its derivative."""
    rate = 0.5 * touches * stays + UNTOUCHED_PER_S
    older = 1.0 / (1.0 + rate * age_s)
    return rate * age_s * older * (1.0 + older), 2.0 * rate * older * older * older


@compiled
def _evict(  # type: ignore[no-untyped-def]
    size: Tiers, missing: Tiers, touches: Tiers, stays: Tiers, leaves: Tiers, known: Tiers, known_s: float, pace: float
):  # fmt: skip
    """Solve one tick in which the untouched leave at `pace` = 1 / T; return what is missing then, what was faulted in,
    and d missing / d pace.

    First go the pages that have been idle for longer than T already: of `known` pages per tier, were they all there, none
    is older than `known_s`. Then, with mu `touches` per tick, age f T (`stays` = f, `leaves` = 1 / f or 0) and hazard h:
    missing tends to N* = S h / (mu + h) at rate mu + h.
    """
    sudden, age_s = 0.0 * size, 1.0 / pace
    if pace * known_s > ALMOST:
        younger, rise = _younger(touches, stays, age_s)
        missing = where(leaves > 0.0, max(size - known * younger, missing), missing)
        sudden = where(leaves > 0.0, known * rise * (age_s * age_s), 0.0)
    quarter = 0.25 * touches * stays
    slower = 1.0 / (pace + quarter)
    hazard = leaves * (pace * pace) * slower
    rate = touches + hazard + 1e-300
    once = 1.0 / rate
    keep = decay(rate)
    fixed = size * (hazard * once)
    excess = missing - fixed
    gone = (1.0 - keep) * once
    fault_in = touches * (fixed + excess * gone)
    slope = (gone * size * touches * once - keep * excess) * hazard * (pace + 2.0 * quarter) * slower
    return fixed + excess * keep, fault_in, slope * age_s + keep * sudden


@compiled
def reclaim(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Plan a tick after which ``missing_goal_mib`` is missing: find the LRU age (Newton in 1 / T, warm start)."""
    size = tiers(vm.allocated_mib)
    missing = missing_mib(vm)
    touches = tiers(spec.tier_rate_per_s) * vm.progress
    stays, leaves, gain = tiers(spec.tier_stays), tiers(spec.tier_leaves), tiers(spec.tier_gain)
    known_s = max(vm.oldest_s - 1.0, MIN_AGE_S)
    younger, _ = _younger(touches, stays, known_s)
    known = (size - missing) / younger
    pace = 1.0 / vm.lru_age_s
    left, fault_in, slope = _evict(size, missing, touches, stays, leaves, known, known_s, pace)
    low, high = 1.0 / MAX_AGE_S, 1.0 / MIN_AGE_S
    for _ in range(MAX_SEARCH):
        error = total(left * gain) - vm.missing_goal_mib
        low, high = (low, pace) if error > 0.0 else (pace, high)
        steep = total(slope * gain) * pace
        step = error / steep if steep > 1e-12 else error * 1e12
        step = max(-0.9, min(0.9, step))
        knows = pace * known_s > ALMOST
        change = slope * (pace * step)
        pace = (
            pace / (1.0 + step) if knows else pace * (1.0 - step)
        )  # what is missing is all but linear in T, or in 1 / T
        if abs(error * step) < AGE_TOLERANCE_MIB and (pace * known_s > ALMOST) == knows:
            left = max(max(min(left - change, size), missing - fault_in), 0.0)
            break
        if not low < pace < high:  # beyond the bend where ages begin to be known
            pace = (low * high) ** 0.5
        left, fault_in, slope = _evict(size, missing, touches, stays, leaves, known, known_s, pace)
    vm.lru_age_s = 1.0 / pace
    vm.oldest_s = min(vm.oldest_s, vm.lru_age_s)
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
def _leaving(vm: VmRecord, spec: VmSpecRecord) -> tuple[Tiers, Tiers, Tiers, Tiers]:
    """Of the tick that `fault_back` or `reclaim` planned: MiB evicted, which share of the pages that is, MiB clean before
    they leave, and what must be written."""
    resident, fault_in = tiers(vm.resident_mib), tiers(vm.fault_in_mib)
    after = tiers(vm.allocated_mib) - tiers(vm.next_missing_mib)
    evicted = max(resident + fault_in - after, 0.0)
    leave = evicted / max(resident + fault_in, NEGLIGIBLE_MIB)
    writes = tiers(spec.tier_write_share)
    clean = tiers(vm.clean_mib) + fault_in * (1.0 - writes) * tiers(spec.tier_keeps_copy)
    clean /= 1.0 + tiers(spec.tier_rate_per_s) * vm.progress * writes
    return evicted, leave, clean, evicted - min(leave * clean, evicted)


@compiled
def _double_paged(vm: VmRecord, evicted: Tiers, leave: Tiers, written: Tiers) -> Tiers:
    """Evicted pages that the host has swapped out and that must be written: they are read back first."""
    return tiers(vm.host_swapped_mib) * min(leave, 1.0) * (written / max(evicted, NEGLIGIBLE_MIB))


@compiled
def most_host_reads_mib(vm: VmRecord, granted_mib: float, inflate_mib: float) -> float:
    """What `host_reads_mib` cannot exceed, at a glance: all that is evicted, and of free pages what is taken."""
    most, taken = 0.0, granted_mib + inflate_mib
    if vm.moving > 0.0:
        after, fault_in = tiers(vm.allocated_mib) - tiers(vm.next_missing_mib), tiers(vm.fault_in_mib)
        most = total(max(tiers(vm.resident_mib) + fault_in - after, 0.0))
        taken += total(fault_in)
    return most + min(taken * swapped_share(vm), vm.free_swapped_mib)


@compiled
def host_reads_mib(vm: VmRecord, spec: VmSpecRecord, granted_mib: float, inflate_mib: float) -> tuple[float, float]:
    """What the planned tick reads from host swap that nobody has touched: evicted pages to be written, and free ones that
    growth, faults and a balloon use again (those for a balloon lie in order, and count as fewer); what of it a thread of the
    kernel waits for, and what the workload does. What `settle`, `use_free` and ``balloon.inflate`` then do."""
    read, used = 0.0, granted_mib
    free, swapped = vm.free_backed_mib, vm.free_swapped_mib
    if vm.moving > 0.0:
        evicted, leave, _, written = _leaving(vm, spec)
        read_back = _double_paged(vm, evicted, leave, written)
        read += total(read_back)
        swapped += total(tiers(vm.host_swapped_mib) * min(leave, 1.0) - read_back)
        free += total(evicted * tiers(spec.tier_gain))
        used += total(tiers(vm.fault_in_mib) * tiers(spec.tier_gain))
    if free <= 0.0:
        return read, 0.0
    zeroed = max(inflate_mib - vm.free_deflated_mib, 0.0) if spec.init_on_alloc > 0.0 else 0.0
    share = swapped / max(free, used + zeroed)
    return read + zeroed / max(vm.ahead_pages, 1.0) * share, vm.host_read_cost * used * share


@inlined
def settle(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Carry out the tick that `fault_back` or `reclaim` planned; return MiB of free memory that faults took.

    Evicted pages become free. Those in host swap are read back first if they must be written (double paging).
    """
    is_file, fault_in = tiers(spec.tier_is_file), tiers(vm.fault_in_mib)
    after = tiers(vm.allocated_mib) - tiers(vm.next_missing_mib)
    evicted, leave, clean, written = _leaving(vm, spec)
    clean -= leave * clean
    written_back = is_file * max(after - clean, 0.0) * (1.0 / DIRTY_EXPIRE_S)
    clean += written_back
    put(vm.clean_mib, where(clean > NEGLIGIBLE_MIB, min(clean, after), 0.0))
    put(vm.resident_mib, after)
    if vm.host_fault_mib_per_s > 0.0:
        _evict_host_swapped(vm, evicted, written, leave)
    gain = tiers(spec.tier_gain)
    vm.free_backed_mib += total(evicted * gain)
    _count(vm, spec, fault_in, written, written_back)
    return total(fault_in * gain)


@inlined
def _evict_host_swapped(vm: VmRecord, evicted: Tiers, written: Tiers, leave: Tiers) -> None:
    """Evicted pages that the host swapped out: read back if they must be written, else free and still in host swap."""
    swapped = tiers(vm.host_swapped_mib)
    gone = swapped * min(leave, 1.0)
    read_back = _double_paged(vm, evicted, leave, written)
    put(vm.host_swapped_mib, swapped - gone)
    vm.host_swap_in_mib += total(read_back)
    vm.double_paged_mib += total(read_back)
    vm.free_swapped_mib += total(gone - read_back)


@inlined
def _count(vm: VmRecord, spec: VmSpecRecord, fault_in: Tiers, written: Tiers, written_back: Tiers) -> None:
    """Advance the guest's counters by one tick."""
    is_file = tiers(spec.tier_is_file)
    faults = total(fault_in)
    file_in = total(is_file * fault_in)
    file_out = total(is_file * written)
    swap_out = total(written) - file_out
    file_out += total(written_back)
    vm.file_in_mib += file_in
    vm.file_out_mib += file_out
    vm.swap_out_mib += swap_out
    vm.major_faults += faults * PAGES_PER_MIB
    vm.queued_runs_mib += file_out
    if spec.zram_stored_share > 0.0:  # compressed swap has no device, and no read-ahead
        vm.swap_in_mib += faults - file_in
    else:
        vm.swap_in_mib += (faults - file_in) * READ_AHEAD
        if faults - file_in + swap_out > 0.0:
            _fill_slots(vm, spec, swap_out, faults - file_in)


@inlined
def _fill_slots(vm: VmRecord, spec: VmSpecRecord, out_mib: float, in_mib: float) -> None:
    """Queue a tick's swap-out as it lies, and let what comes and goes change how the free slots lie."""
    vm.replaced_mib = min(out_mib, in_mib)
    more = out_mib - vm.replaced_mib
    vm.queued_single_mib += (1.0 - vm.swap_order) * more
    vm.queued_runs_mib += vm.swap_order * more
    if more <= 0.0 and vm.swap_order < SCATTERED:
        return
    used = swap_used_mib(vm, spec) + NEGLIGIBLE_MIB
    if more > 0.0:
        room = max(1.0 - used / spec.guest_swap_mib, 0.0)
        vm.swap_order += (1.0 - vm.swap_order) * room * more / (used + more)
    vm.swap_order *= used / (used + in_mib)


@compiled
def _must_be_written(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Share of what reclaim can take that has no copy on a device (of every tier alike, as readily as it leaves)."""
    resident, leaves = tiers(vm.resident_mib), tiers(spec.tier_leaves)
    dirty = max(resident - tiers(vm.clean_mib), 0.0) * tiers(spec.tier_keeps_copy)  # what zram takes is not written
    return total(leaves * dirty) / max(total(leaves * resident), NEGLIGIBLE_MIB)


@compiled
def write_cost(vm: VmRecord, spec: VmSpecRecord, per_single_mib: float, per_runs_mib: float) -> float:
    """What evicting 1 MiB costs its disk, when pages written one by one and those in runs cost so much per MiB."""
    return _must_be_written(vm, spec) * (per_single_mib + vm.swap_order * (per_runs_mib - per_single_mib))


@compiled
def swapped_share(vm: VmRecord) -> float:
    """Of the free memory that was touched, the share in host swap: it is read back as it is used again."""
    return min(vm.free_swapped_mib / vm.free_backed_mib, 1.0) if vm.free_swapped_mib > 0.0 else 0.0


@compiled
def use_free(vm: VmRecord, amount_mib: float) -> None:
    """Hand free memory to the workload: recently freed pages first, never-touched ones last.

    Freed pages that the host swapped out are read back although their content is dead (false reads).
    """
    backed = min(amount_mib, vm.free_backed_mib)
    if vm.free_swapped_mib > 0.0 and backed > 0.0:
        false_read = min(vm.free_swapped_mib, backed * swapped_share(vm))
        vm.free_swapped_mib -= false_read
        vm.false_read_mib += false_read
        vm.host_swap_in_mib += false_read
    vm.free_backed_mib -= backed
    deflated = min(amount_mib - backed, vm.free_deflated_mib)
    vm.free_deflated_mib -= deflated
    vm.free_untouched_mib -= amount_mib - backed - deflated


@compiled
def kill(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Out of memory: the guest's kernel kills the workload."""
    restart(vm, spec)
    vm.oom_kills += 1.0


@compiled
def restart(vm: VmRecord, spec: VmSpecRecord) -> None:
    """The workload dies, its memory becomes free, and it starts cold after ``restart_s``."""
    _release(vm, spec, tiers(vm.allocated_mib))
    vm.down_s = spec.restart_s
    vm.refilling = 1.0
    vm.starved_s = vm.process_s = vm.heap_ballooned_mib = 0.0
    vm.lru_age_s = 1e4
    vm.oldest_s = MAX_AGE_S
    vm.swap_order = 1.0
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
