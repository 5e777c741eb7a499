"""Host memory: who uses what, and the blind swap of last resort.

Modelled. A VM uses the host memory that backs its guest (kernel, resident tiers, free pages once touched) plus an overhead
for its process. When the host runs below its free minimum it swaps pages of VMs by itself, whatever the policy does: each page
is as likely as any other, because the host does not know the guest's ages (RANDOM replacement, Gelenbe's fixed point). So it
writes out hot pages, and pages that the guest has freed, and reads both back. When host swap is full the largest VM is killed.

Left out: access-bit information (Linux hosts do better than RANDOM), page sharing, compression, states of ESXi, NUMA.

Source: VMware's random victim (Waldspurger, OSDI 2002) and measurements on QEMU guests (docs/validation.md).
"""

from hvgym.envs.model import guest
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import HostRecord, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import put, tiers, total

SWAPPING_MIB = 1.0
"""A second counts as spent in host swap when more than this is swapped in or out."""


@compiled
def swappable_mib(vm: VmRecord) -> float:
    """Memory of this VM in host RAM that the host may swap (the guest kernel is taken to stay hot)."""
    return vm.free_backed_mib - vm.free_swapped_mib + total(tiers(vm.resident_mib) - tiers(vm.host_swapped_mib))


@compiled
def used_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Host RAM that this VM uses, its process included."""
    return swappable_mib(vm) + spec.kernel_mib + spec.overhead_mib


@compiled
def host_swapped_mib(vm: VmRecord) -> float:
    """Memory of this VM in host swap."""
    return total(tiers(vm.host_swapped_mib)) + vm.free_swapped_mib


@compiled
def swap_in(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Touched pages come back from host swap; return MiB swapped in."""
    if vm.host_fault_mib_per_s <= 0.0:
        return 0.0
    swapped = tiers(vm.host_swapped_mib)
    left = guest.come_back(swapped, tiers(spec.tier_rate_per_s) * vm.progress)
    put(vm.host_swapped_mib, left)
    read = total(swapped - left)
    vm.host_swap_in_mib += read
    return read


@compiled
def swap_out(vm: VmRecord, share: float) -> float:
    """Swap the same share of all pages of this VM; return MiB swapped out."""
    swapped = tiers(vm.host_swapped_mib)
    pages = share * (tiers(vm.resident_mib) - swapped)
    free = share * (vm.free_backed_mib - vm.free_swapped_mib)
    put(vm.host_swapped_mib, swapped + pages)
    vm.free_swapped_mib += free
    out = free + total(pages)
    vm.host_swap_out_mib += out
    return out


@compiled
def _kill_largest(vms, vm_specs, h) -> None:  # type: ignore[no-untyped-def]
    """Host swap is full: the VM that uses most is killed and boots again; all its memory returns to the host."""
    largest, victim = -1.0, -1
    for v in range(len(vms)):
        if vm_specs[v].host == h and used_mib(vms[v], vm_specs[v]) > largest:
            largest, victim = used_mib(vms[v], vm_specs[v]), v
    if victim >= 0:
        vm = vms[victim]
        guest.kill(vm, vm_specs[victim])
        vm.free_untouched_mib += vm.free_backed_mib + vm.free_deflated_mib + vm.balloon_mib
        vm.free_backed_mib = vm.free_swapped_mib = vm.free_deflated_mib = vm.balloon_mib = 0.0


@compiled
def account(vms, vm_specs, host, host_spec, h) -> None:  # type: ignore[no-untyped-def]
    """Add up what the VMs of host `h` use."""
    used = pool = swapped = 0.0
    for v in range(len(vms)):
        if vm_specs[v].host == h:
            swappable = swappable_mib(vms[v])
            pool += swappable
            used += swappable + vm_specs[v].kernel_mib + vm_specs[v].overhead_mib
            swapped += host_swapped_mib(vms[v])
    host.tick_pool_mib = pool
    host.swap_used_mib = swapped
    host.free_mib = host_spec.ram_mib - host_spec.own_mib - used


@compiled
def balance(vms, vm_specs, host, host_spec, h) -> float:  # type: ignore[no-untyped-def]
    """Swap VMs out until the host has its free minimum again; return MiB swapped out."""
    out = 0.0
    for _ in range(len(vms) + 1):
        account(vms, vm_specs, host, host_spec, h)
        short = host_spec.min_free_mib - host.free_mib
        if short <= 1e-9:
            return out
        room = host_spec.swap_mib - host.swap_used_mib
        share = min(short, room, host.tick_pool_mib) / max(host.tick_pool_mib, 1e-9)
        for v in range(len(vms)):
            if vm_specs[v].host == h and share > 0.0:
                out += swap_out(vms[v], share)
        if room < short:
            _kill_largest(vms, vm_specs, h)
    account(vms, vm_specs, host, host_spec, h)
    return out


@compiled
def count_swapping(host: HostRecord, out_mib: float) -> None:
    """Advance the host's swap counters by this tick's traffic (``tick_swap_mib`` holds what came in)."""
    host.swap_in_mib += host.tick_swap_mib
    host.swap_out_mib += out_mib
    if host.tick_swap_mib + out_mib > SWAPPING_MIB:
        host.swapping_s += 1.0
