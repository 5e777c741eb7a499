"""Page sharing: a scanner finds equal pages and keeps one copy (KSM, ESX's transparent page sharing).

Modelled. Of a VM's memory the share m could be merged away: zero pages, pages equal within the VM, pages equal to
another VM's. The scanner finds them at dM/dt = rate / (2 N) (m N - M), N pages in all, because a page merges in the
second pass over it. A write to a merged page copies it again, so merged pages gather where nobody writes: tier k keeps
a / (a + b_k) of its share with a = rate / (2 N) and b_k the write rate per page. Memory backed by 2 MiB pages is not
merged; the hypervisor's state says when such pages are split, and the scanner splits what it passes. When memory is
ample, split pages are put together again. Scanning costs CPU per page, a copy on write a fixed stall.

Left out: which pages are equal (m is the VM's), calm-down by checksums, the 64 B of metadata per page, huge zero pages.

Sources: M7 and its cards; KSM's counters on two guests; 2 us per page scanned and 3 us per copy (recalled).
"""

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import PAGES_PER_MIB, HostRecord, HostSpecRecord, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import tiers, total

ACTIVE_FACTOR = 60.0
"""A hypervisor short of memory merges at once what an earlier pass has hashed: an hour's pass in a minute (a guess)."""

COLLAPSE_PER_S = 1.0 / 600.0
"""Rate at which split pages become large again when memory is ample (a guess; khugepaged takes minutes)."""

COPY_S = 3e-6
"""Stall of one copy on write (2-4 us, recalled)."""


@compiled
def _settled(vm: VmRecord, spec: VmSpecRecord, rate_per_s: float) -> float:
    """What stays merged in the long run at this rate of merging, MiB."""
    writes = tiers(spec.tier_rate_per_s) * tiers(spec.tier_write_share)
    here = tiers(vm.resident_mib) - tiers(vm.host_swapped_mib)
    return spec.mergeable_share * (1.0 - vm.large_share) * total(here * (rate_per_s / (rate_per_s + writes)))


@compiled
def settle(vm: VmRecord, spec: VmSpecRecord, host: HostRecord) -> None:
    """Start where long scanning leads."""
    if host.scan_pages_per_s > 0.0:
        vm.shared_mib = _settled(vm, spec, 1e-4)


@compiled
def _scan(vm: VmRecord, spec: VmSpecRecord, rate_per_s: float, splits: bool) -> None:
    """One second of scanning in which a page is passed with probability 2 x `rate_per_s`."""
    if splits:
        vm.large_share -= vm.large_share * min(2.0 * rate_per_s, 1.0)
    known = max(rate_per_s, 1e-6)
    writes = tiers(spec.tier_rate_per_s) * tiers(spec.tier_write_share)
    kept = (tiers(vm.resident_mib) - tiers(vm.host_swapped_mib)) / (known + writes)
    all_kept = total(kept)
    broken = total(kept * writes) / (all_kept + 1e-9) * vm.progress  # share of merged pages written per second
    goal = spec.mergeable_share * (1.0 - vm.large_share) * all_kept * rate_per_s
    pace = rate_per_s + broken
    vm.shared_mib += (goal - vm.shared_mib) * (pace / (1.0 + pace))
    vm.copy_stall_s = broken * vm.shared_mib * PAGES_PER_MIB * COPY_S


@compiled
def scan(vms, vm_specs, host: HostRecord, spec: HostSpecRecord, h: int) -> None:  # type: ignore[no-untyped-def]
    """Let the scanner of host `h` run for one second over its VMs; its CPU time is added to ``tax_cpu``."""
    pages = 1.0
    for v in range(len(vms)):
        if vm_specs[v].host == h and vms[v].admitted > 0.0:
            pages += vm_specs[v].memory_mib * PAGES_PER_MIB
    splits = host.state >= spec.large_state
    rate = host.scan_pages_per_s / (2.0 * pages)
    if splits and spec.large_state > 0.0:
        rate *= ACTIVE_FACTOR
    for v in range(len(vms)):
        if vm_specs[v].host == h and vms[v].admitted > 0.0:
            _scan(vms[v], vm_specs[v], rate, splits)
            if not splits:
                vms[v].large_share += (1.0 - vms[v].large_share) * COLLAPSE_PER_S
    host.tax_cpu += host.scan_pages_per_s * spec.scan_cpu_s


@compiled
def fit(vm: VmRecord, spec: VmSpecRecord, here_mib: float) -> None:
    """Merged pages that the guest or the host has since dropped are merged no longer."""
    vm.shared_mib = min(vm.shared_mib, spec.mergeable_share * here_mib)
