"""A planned tick carried out: pages come and go, through the guest's swap, from the host's, and over the free list.

Swap slots, as Linux 6.1 gives them. A page whose first touch reads keeps its slot, one whose first touch writes frees it;
beyond half of the area in use, both do. Evicted again, a page that was written since and has kept its slot goes back there, an
operation of its own. Everything else takes free slots: those of a stretch of which none is in use while there are such
stretches, else the next hole. The elevator puts together what lies side by side while it waits. So where f of the pages written
have kept their slot, and h of the slots around are in use (0 while stretches last), a page lies in a run with probability (1 -
f) (1 - h). `run_share` is that of about the last MiB written, the length of a stretch (a guess), for a few pages that happen to
leave say nothing of those that a balloon will write next. A guest whose cold memory goes for the first time is quick (f = 0):
42 pages an operation, counted by QEMU. One that has been paging for a minute writes 2.7 with an operation here; 2.4 and 3.7
were counted (docs/fidelity.md).

Left out: slots of several kernel threads, and stretches that a program leaves when it ends (only an empty area is whole again).
"""

from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.params import PAGES_PER_MIB, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import Tiers, put, tiers, total, where

READ_AHEAD = 1.05
"""Swap-ins per fault under random access on a disk (measured 1.02-1.10); Linux reads zram without it."""

DIRTY_EXPIRE_S = 30.0
"""Linux writes dirty page cache back after this time (``dirty_expire_centisecs`` 3000)."""

HALF_FULL = 0.5
"""Share of its swap area beyond which Linux frees the slot of every page that comes back (``vm_swap_full``)."""

CLUSTER_PAGES = 256.0
"""Slots of a stretch that Linux looks for as a whole (``SWAPFILE_CLUSTER``); a single page in use spoils it."""


@compiled
def kept_copies(vm: VmRecord, spec: VmSpecRecord) -> Tiers:
    """Of the MiB that the planned tick brings back, what keeps its copy: all that a read brought from a file, and from swap as far
    as no more than half of that is in use."""
    kept = tiers(vm.fault_in_mib) * (1.0 - tiers(spec.tier_write_share)) * tiers(spec.tier_keeps_copy)
    over = guest.swap_used_mib(vm, spec) - HALF_FULL * spec.guest_swap_mib
    if over > 0.0:
        anonymous = kept * (1.0 - tiers(spec.tier_is_file))
        kept -= anonymous * min(over / max(total(anonymous), guest.NEGLIGIBLE_MIB), 1.0)
    return kept


@compiled
def _leaving(vm: VmRecord, spec: VmSpecRecord) -> tuple[Tiers, Tiers, Tiers, Tiers]:
    """Of the tick that `fault_back` or `reclaim` planned: MiB evicted, which share of the pages that is, MiB clean before
    they leave, and what must be written."""
    resident, fault_in = tiers(vm.resident_mib), tiers(vm.fault_in_mib)
    after = tiers(vm.allocated_mib) - tiers(vm.next_missing_mib)
    evicted = max(resident + fault_in - after, 0.0)
    leave = evicted / max(resident + fault_in, guest.NEGLIGIBLE_MIB)
    writes = tiers(spec.tier_write_share)
    clean = tiers(vm.clean_mib) + kept_copies(vm, spec)
    clean /= 1.0 + tiers(spec.tier_rate_per_s) * vm.progress * writes
    return evicted, leave, clean, evicted - min(leave * clean, evicted)


@compiled
def _double_paged(vm: VmRecord, evicted: Tiers, leave: Tiers, written: Tiers) -> Tiers:
    """Evicted pages that the host has swapped out and that must be written: they are read back first."""
    return tiers(vm.host_swapped_mib) * min(leave, 1.0) * (written / max(evicted, guest.NEGLIGIBLE_MIB))


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
    if spec.handed_out_last_mib > 0.0:
        both = backed_mib(vm, spec, used + zeroed, vm.free_deflated_mib)
        used = backed_mib(vm, spec, used, vm.free_deflated_mib)
        zeroed = both - used
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
    slots = tiers(vm.slot_mib) + kept_copies(vm, spec) * (1.0 - is_file)
    stale = min(leave * max(slots - clean, 0.0) * (1.0 - is_file), written)
    put(vm.slot_mib, min(slots - min(leave, 1.0) * slots, after))
    clean -= leave * clean
    written_back = is_file * max(after - clean, 0.0) * (1.0 / DIRTY_EXPIRE_S)
    clean += written_back
    put(vm.clean_mib, where(clean > guest.NEGLIGIBLE_MIB, min(clean, after), 0.0))
    put(vm.resident_mib, after)
    if vm.host_fault_mib_per_s > 0.0:
        _evict_host_swapped(vm, evicted, written, leave)
    gain = tiers(spec.tier_gain)
    vm.free_backed_mib += total(evicted * gain)
    _count(vm, spec, fault_in, written, written_back, total(stale))
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
def _count(
    vm: VmRecord, spec: VmSpecRecord, fault_in: Tiers, written: Tiers, written_back: Tiers, stale_mib: float
) -> None:
    """Advance the guest's counters by one tick; `stale_mib` of what is written has a slot of its own."""
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
            _fill_slots(vm, spec, swap_out, faults - file_in, stale_mib)


@inlined
def _fill_slots(vm: VmRecord, spec: VmSpecRecord, out_mib: float, in_mib: float, stale_mib: float) -> None:
    """Find out how a tick's swap-out lies, and queue what does not take the place of what came in."""
    if out_mib > guest.NEGLIGIBLE_MIB:
        used, fresh, stale = guest.swap_used_mib(vm, spec), out_mib - stale_mib, stale_mib / out_mib
        scattered = max(fresh - vm.free_runs_mib, 0.0) / max(fresh, guest.NEGLIGIBLE_MIB) * (used / spec.guest_swap_mib)
        lies = (1.0 - stale) * (1.0 - scattered)
        vm.run_share += (lies - vm.run_share) * out_mib / (out_mib + CLUSTER_PAGES / PAGES_PER_MIB)
        vm.free_runs_mib = max(vm.free_runs_mib - fresh, spec.guest_swap_mib - CLUSTER_PAGES * used, 0.0)
    vm.replaced_mib = min(out_mib, in_mib)
    more = out_mib - vm.replaced_mib
    vm.queued_single_mib += (1.0 - vm.run_share) * more
    vm.queued_runs_mib += vm.run_share * more


@compiled
def _must_be_written(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Share of what reclaim can take that has no copy on a device (of every tier alike, as readily as it leaves)."""
    resident, leaves = tiers(vm.resident_mib), tiers(spec.tier_leaves)
    dirty = max(resident - tiers(vm.clean_mib), 0.0) * tiers(spec.tier_keeps_copy)  # what zram takes is not written
    return total(leaves * dirty) / max(total(leaves * resident), guest.NEGLIGIBLE_MIB)


@compiled
def write_cost(vm: VmRecord, spec: VmSpecRecord, per_single_mib: float, per_runs_mib: float) -> float:
    """What evicting 1 MiB costs its disk, when pages written one by one and those in runs cost so much per MiB."""
    return _must_be_written(vm, spec) * (per_single_mib + vm.run_share * (per_runs_mib - per_single_mib))


@compiled
def swapped_share(vm: VmRecord) -> float:
    """Of the free memory that was touched, the share in host swap: it is read back as it is used again."""
    return min(vm.free_swapped_mib / vm.free_backed_mib, 1.0) if vm.free_swapped_mib > 0.0 else 0.0


@inlined
def backed_mib(vm: VmRecord, spec: VmSpecRecord, amount_mib: float, deflated_mib: float) -> float:
    """Of so much free memory that is taken, what the host backs: it comes before the untouched (and `deflated_mib`), for pages
    that were freed lie in small pieces, which go first; what the kernel hands out last comes after them."""
    if spec.handed_out_last_mib <= 0.0:
        return min(amount_mib, vm.free_backed_mib)
    first = min(amount_mib, max(vm.free_backed_mib - spec.handed_out_last_mib, 0.0))
    return first + max(amount_mib - first - deflated_mib - vm.free_untouched_mib, 0.0)


@inlined
def use_free(vm: VmRecord, spec: VmSpecRecord, amount_mib: float) -> None:
    """Hand free memory to the workload: recently freed pages first, never-touched ones last.

    Freed pages that the host swapped out are read back although their content is dead (false reads).
    """
    backed = backed_mib(vm, spec, amount_mib, vm.free_deflated_mib)
    if vm.free_swapped_mib > 0.0 and backed > 0.0:
        false_read = min(vm.free_swapped_mib, backed * swapped_share(vm))
        vm.free_swapped_mib -= false_read
        vm.false_read_mib += false_read
        vm.host_swap_in_mib += false_read
    vm.free_backed_mib -= backed
    deflated = min(amount_mib - backed, vm.free_deflated_mib)
    vm.free_deflated_mib -= deflated
    vm.free_untouched_mib -= amount_mib - backed - deflated
