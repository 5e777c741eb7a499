"""What a policy may have the host take of a VM before memory is short: cgroup reclaim, oldest pages first.

The host swaps out the amount asked for, first what kernel and process have not touched since they booted, then free guest
pages that it still backs (nobody has touched them since), then the workload's in order of age: of those idle for at least
``reclaim_age_s`` by their accessed bits, or, without such an age, in the order of the host's lists (``victims``). Compression,
swap room and the device's speed limit it as they limit the last resort; what a second cannot take waits for the next.
Hypervisors that commit memory or do not page take nothing.

Left out: ``memory.high`` that throttles a VM which grows beyond it, the order of file and anonymous pages (QEMU's memory
is all anonymous), CPU time of a scan by the kernel's lists (of one by age see ``scanning``).
"""

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.guest import activity
from hvgym.envs.model.host import compression, victims
from hvgym.envs.model.params import HostRecord, HostSpecRecord, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import Tiers, put, tiers, total

YOUNGEST_S, OLDEST_S = 1e-3, 1e9
AGE_STEPS = 40
"""Bisection of the age in its logarithm: 28 powers of e by 2^40."""


@compiled
def _idle_mib(vm: VmRecord, spec: VmSpecRecord, host_spec: HostSpecRecord, age_s: float, by_lists: bool) -> Tiers:
    """The workload's memory in host RAM that counts as idle for `age_s`, by tier."""
    if not by_lists:
        return activity.idle_pages_mib(vm, spec, age_s)
    idle = tiers(vm.resident_mib) * victims.out_share(host_spec, tiers(spec.tier_rate_per_s), age_s)
    return max(idle - tiers(vm.host_swapped_mib), 0.0)


@compiled
def _age_s(
    vm: VmRecord, spec: VmSpecRecord, host_spec: HostSpecRecord, amount_mib: float, least_s: float, by_lists: bool
) -> float:
    """The age, at least `least_s`, beyond which `amount_mib` of pages (or all there are) lie."""
    low, high = max(least_s, YOUNGEST_S), OLDEST_S
    if total(_idle_mib(vm, spec, host_spec, low, by_lists)) <= amount_mib:
        return low
    for _ in range(AGE_STEPS):
        middle = (low * high) ** 0.5
        if total(_idle_mib(vm, spec, host_spec, middle, by_lists)) > amount_mib:
            low = middle
        else:
            high = middle
    return high


@compiled
def _take(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, most_mib: float) -> float:
    """Take up to `most_mib` of what was asked for of one VM; return MiB written."""
    amount = min(vm.reclaim_mib, most_mib)
    boot = min(spec.boot_only_mib - vm.boot_swapped_mib, amount)
    vm.boot_swapped_mib += boot
    free = min(vm.free_backed_mib - vm.free_swapped_mib, amount - boot)
    vm.free_swapped_mib += free
    out = boot + free
    if amount > out:
        by_lists = vm.reclaim_age_s <= 0.0
        age_s = _age_s(vm, spec, host_spec, amount - out, vm.reclaim_age_s, by_lists)
        pages = _idle_mib(vm, spec, host_spec, age_s, by_lists) * victims.unmerged_share(vm)
        pages *= min((amount - out) / max(total(pages), 1e-9), 1.0)
        put(vm.host_swapped_mib, tiers(vm.host_swapped_mib) + pages)
        out += total(pages)
    vm.reclaim_mib = vm.reclaim_mib - amount if amount < vm.reclaim_mib else 0.0
    out -= compression.store(vm, spec, out, host, host_spec)
    vm.host_swap_out_mib += out
    return out


@compiled
def reclaim(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord) -> float:  # type: ignore[no-untyped-def]
    """Serve what a policy has asked of the VMs of the host; return MiB written in this second."""
    written, left = 0.0, 0.0
    for v in range(len(vms)):
        vm, spec = vms[v], vm_specs[v]
        if vm.reclaim_mib > 0.0:
            if host_spec.swaps == 0.0 or spec.committed > 0.0 or vm.admitted == 0.0:
                vm.reclaim_mib = 0.0
                continue
            room = max(host_spec.swap_mib - host.swap_used_mib - written, 0.0)
            written += _take(vm, spec, host, host_spec, min(room, host_spec.swap_mib_per_s - written))
            left += vm.reclaim_mib
    host.reclaims = 1.0 if left > 0.0 else 0.0
    return written
