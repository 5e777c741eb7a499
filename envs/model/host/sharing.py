"""Page sharing: a scanner finds equal pages and keeps one copy (KSM, ESX's transparent page sharing).

Modelled. Of a VM's memory the share m could be merged away: zero pages, pages equal within the VM, pages equal to
another VM's. The scanner finds them at dM/dt = rate / (2 N) (m N - M), N pages in all, because a page merges in the
second pass over it. A write to a merged page copies it again: tier k keeps a / (a + b_k) of its share with
a = rate / (2 N) and b_k the write rate per page, and its share is the larger the more rarely it is written. Memory backed
by 2 MiB pages is not merged; the hypervisor's state says when such pages are split, and the scanner splits what it passes.
When memory is ample, split pages are put together again. Scanning costs CPU per page, a copy on write a fixed stall.

Left out: which pages are equal (m is the VM's), calm-down by checksums, the 64 B of metadata per page, huge zero pages.

Sources: M7 and its cards; KSM's counters on two guests; 2 us per page scanned and 3 us per copy (recalled).
"""

from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.params import PAGES_PER_MIB, HostRecord, HostSpecRecord, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import Tiers, put, tiers, total

ACTIVE_FACTOR = 60.0
"""A hypervisor short of memory merges at once what an earlier pass has hashed: an hour's pass in a minute (a guess)."""

COLLAPSE_PER_S = 1.0 / 600.0
"""Rate at which split pages become large again when memory is ample (a guess; khugepaged takes minutes)."""

UNWRITTEN_S = 600.0
"""Mergeable pages are those not written for about this long (a guess: text, libraries, zero pages)."""

COPY_S = 3e-6
"""Stall of one copy on write (2-4 us, recalled)."""


@compiled
def _goal(vm: VmRecord, spec: VmSpecRecord, writes: Tiers, rate_per_s: float) -> Tiers:
    """What stays merged of each tier in the long run at this rate of merging.

    Mergeable pages gather where nobody writes, for content that is equal elsewhere is content that nobody has changed.
    """
    here = max(tiers(vm.resident_mib) - tiers(vm.host_swapped_mib), 0.0)
    old = here / (1.0 + writes * UNWRITTEN_S)
    mergeable = min(old * (spec.mergeable_share * total(here) / (total(old) + 1e-9)), here)
    return mergeable * ((1.0 - vm.large_share) * rate_per_s / (rate_per_s + writes + 1e-12))


@compiled
def _merge(vm: VmRecord, spec: VmSpecRecord, rate_per_s: float) -> None:
    """One second of merging at this rate and of writes to merged pages."""
    writes = tiers(spec.tier_rate_per_s) * tiers(spec.tier_write_share) * vm.progress
    goal, merged = _goal(vm, spec, writes, rate_per_s), tiers(vm.merged_mib)
    merged = goal + (merged - goal) * guest.decay(writes + rate_per_s)
    put(vm.merged_mib, merged)
    vm.shared_mib = total(merged)
    vm.copy_stall_s = total(merged * writes) * PAGES_PER_MIB * COPY_S


@compiled
def _rate_per_s(vms, vm_specs, host: HostRecord, spec: HostSpecRecord) -> float:  # type: ignore[no-untyped-def]
    """Rate at which a mergeable page of the host is merged: it must be passed twice."""
    pages = 1.0
    for v in range(len(vms)):
        if vms[v].admitted > 0.0:
            pages += vm_specs[v].memory_mib * PAGES_PER_MIB
    hashed = host.state >= spec.large_state > 0.0
    return host.scan_pages_per_s / (2.0 * pages) * (ACTIVE_FACTOR if hashed else 1.0)


@compiled
def settle(vms, vm_specs, host: HostRecord, spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Start where long scanning leads: pages are split where the state allows it, and merged."""
    rate = _rate_per_s(vms, vm_specs, host, spec)
    for v in range(len(vms)):
        vm = vms[v]
        if vm.admitted > 0.0 and rate > 0.0 and host.state >= spec.large_state:
            vm.large_share = 0.0
            writes = tiers(vm_specs[v].tier_rate_per_s) * tiers(vm_specs[v].tier_write_share)
            goal = _goal(vm, vm_specs[v], writes, rate)
            put(vm.merged_mib, goal)
            vm.shared_mib = total(goal)
            host.shared_mib += vm.shared_mib


@compiled
def scan(vms, vm_specs, host: HostRecord, spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Let the scanner of the host run for one second over its VMs; its CPU time is added to ``tax_cpu``."""
    rate = _rate_per_s(vms, vm_specs, host, spec)
    splits = host.state >= spec.large_state
    host.shared_mib = 0.0
    for v in range(len(vms)):
        vm = vms[v]
        if vm.admitted > 0.0:
            if splits:
                vm.large_share -= vm.large_share * min(2.0 * rate, 1.0)
            else:
                vm.large_share += (1.0 - vm.large_share) * COLLAPSE_PER_S
            _merge(vm, vm_specs[v], rate)
            host.shared_mib += vm.shared_mib
    host.tax_cpu += host.scan_pages_per_s * spec.scan_cpu_s


@inlined
def fit(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Pages that the guest or the host has since dropped are merged no longer; what is left is mergeable as before."""
    here = max(tiers(vm.resident_mib) - tiers(vm.host_swapped_mib), 0.0)
    merged, most = tiers(vm.merged_mib), spec.mergeable_share * total(here)
    if most < vm.shared_mib:
        merged = merged * (most / vm.shared_mib)
    merged = min(merged, here)
    put(vm.merged_mib, merged)
    vm.shared_mib = total(merged)
