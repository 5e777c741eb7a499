"""Host memory: who uses what, and the blind swap of last resort.

Modelled. A VM uses the host memory that backs its guest (kernel, resident tiers, free pages once touched) plus an
overhead for its process. When the host runs below its free minimum it swaps pages of VMs by itself, whatever the
policy does: each page is as likely as any other, because the host does not know the guest's ages (RANDOM replacement,
Gelenbe's fixed point). So it writes out hot pages, and pages that the guest has freed, and reads both back. When host
swap is full the largest VM is killed.

Left out: access-bit information (Linux hosts do better than RANDOM), page sharing, compression, states of ESXi, NUMA.

Source: VMware's random victim (Waldspurger, OSDI 2002) and measurements on QEMU guests (docs/validation.md).
"""

from hvgym.envs.model import guest
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import HostRecord, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import put, tiers, total

SWAPPING_MIB = 1.0
"""A second counts as spent in host swap when more than this is swapped in or out."""


FREE_RATE_PER_S = 1e-7
"""Free guest pages are all but never touched; a positive rate keeps the fixed point continuous."""


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
def _kept_mib(vm: VmRecord, spec: VmSpecRecord, rate_per_s: float) -> float:
    """What stays in RAM in the long run when every page is swapped out at this rate and comes back when touched."""
    free = vm.free_backed_mib * FREE_RATE_PER_S / (FREE_RATE_PER_S + rate_per_s)
    touches = tiers(spec.tier_rate_per_s)
    return spec.kernel_mib + spec.overhead_mib + free + total(tiers(vm.resident_mib) * touches / (touches + rate_per_s))


@compiled
def start_settled(vms, vm_specs, host_spec, h) -> None:  # type: ignore[no-untyped-def]
    """Swap the VMs of host `h` out to where blind swapping leads in the long run (Gelenbe's fixed point), if RAM is
    short.

    A host that has been overcommitted for a while has its hot pages back; starting anywhere else would make the first
    minutes of every episode a transient that no policy caused. Free pages for which swap has no room were never
    touched.
    """
    goal = host_spec.ram_mib - host_spec.own_mib - host_spec.min_free_mib
    low, high = 1e-12, 1e3
    for _ in range(60):
        rate = (low * high) ** 0.5
        kept = 0.0
        for v in range(len(vms)):
            if vm_specs[v].host == h:
                kept += _kept_mib(vms[v], vm_specs[v], rate)
        if kept > goal:
            low = rate
        else:
            high = rate
    if high < 1e-11:
        return
    room = host_spec.swap_mib
    for v in range(len(vms)):
        if vm_specs[v].host == h:
            swapped = tiers(vms[v].resident_mib) * (high / (tiers(vm_specs[v].tier_rate_per_s) + high))
            swapped *= min(1.0, room / max(total(swapped), 1e-9))
            put(vms[v].host_swapped_mib, swapped)
            room -= total(swapped)
    for v in range(len(vms)):
        if vm_specs[v].host == h:
            free = vms[v].free_backed_mib * high / (FREE_RATE_PER_S + high)
            vms[v].free_swapped_mib = min(free, max(room, 0.0))
            untouched = free - vms[v].free_swapped_mib
            vms[v].free_backed_mib -= untouched
            vms[v].free_untouched_mib += untouched
            room -= vms[v].free_swapped_mib


@compiled
def count_swapping(host: HostRecord, out_mib: float) -> None:
    """Advance the host's swap counters by this tick's traffic (``tick_swap_mib`` holds what came in)."""
    host.swap_in_mib += host.tick_swap_mib
    host.swap_out_mib += out_mib
    if host.tick_swap_mib + out_mib > SWAPPING_MIB:
        host.swapping_s += 1.0
