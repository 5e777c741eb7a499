"""Host memory: who uses what, and the hypervisor's last resort, which works whatever the policy does.

Modelled. A VM uses the host memory that backs its guest (kernel, resident tiers, free pages once touched), less what is
merged with other pages, and an overhead for its process. A hypervisor that commits (Xen, Hyper-V) gives it its whole
size instead. When free memory falls below the hypervisor's own threshold, it swaps until its goal is free:
 - victims: at random (RANDOM, Gelenbe's fixed point), or across all VMs by accessed bits, as the lists of a Linux host have
   them (``victims``);
 - it cannot tell free guest pages from used ones, so it writes out pages that the guest has freed and reads them back
   when the guest reuses them (false reads), pages that the guest then wants to swap itself (double paging), and clean
   page cache that it could have dropped (silent writes);
 - first goes what nobody has touched since the VM booted: a part of its kernel and process (``boot_only_mib``), and free
   memory that its kernel hands out last (``handed_out_last_mib``); nothing, unless a scenario says so. It is older than what
   workloads hold; of the first nothing is read back. Measured on small guests (docs/fidelity.md): 73 to 97 MiB of 131 that
   kernel and process held were out before any page of an idle workload;
 - pages that compress well enough go to a pool in RAM first, up to a cap per VM;
 - a hosted hypervisor's system has a page cache that VM I/O fills. What is used once gives way first; as far as it is read
   again, VMs' pages are victims beside it in the ratio s / (200 - s), s the host's swappiness. Where VM memory is a mapped
   file, dirty pages are written back every 30 s even without pressure;
 - writes are limited by the device; far below the threshold they are not, because somebody must wait for memory.
When swap is full the largest VM is killed.

A VM's own limit takes the same victims (``limits``). Left out: NUMA, zswap, ESX's compressed pages of a quarter, swap slots'
fragmentation beyond its effect on read-ahead.

Sources: VMware's random victim and state machine (Waldspurger, OSDI 2002; ESXi 6), pathologies after VSwapper (ASPLOS
2014), measurements on QEMU guests (docs/validation.md).
"""

from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.host import compression, states, victims
from hvgym.envs.model.host.swap_devices import DECAYED_ORDER
from hvgym.envs.model.params import HostRecord, HostSpecRecord, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import put, tiers, total

SWAPPING_MIB = 1.0
"""A second counts as spent in host swap when more than this is swapped in or out."""

SLOWER = 12
"""Times that a VM is slowed down until what it touches passes through the swap device within the second."""

URGENT = 0.4
"""Below this share of the threshold swapping is no longer limited by the device (a guess; below ESXi's low state)."""

NEAR_MIB = 0.5
"""A hypervisor that is this near to its goal has reached it."""

WRITE_BEHIND_S = 30.0
"""A host writes a mapped file's dirty pages back after this time (``dirty_expire_centisecs`` 3000)."""

SETTLING_STEPS = 60
"""Bisection of the age at which an episode begins, in its logarithm."""


@inlined
def used_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Host RAM that this VM uses, its process included."""
    if vm.admitted == 0.0:
        return 0.0
    if spec.committed > 0.0:
        return spec.memory_mib - vm.balloon_mib - vm.free_swapped_mib + spec.overhead_mib
    used = (
        vm.free_backed_mib
        - vm.free_swapped_mib
        + victims.here_mib(vm)
        - vm.shared_mib
        + spec.kernel_mib
        + spec.overhead_mib
        - vm.boot_swapped_mib
    )
    if spec.zram_stored_share > 0.0:
        used += guest.pool_mib(vm, spec)
    return used + vm.zipped_mib * spec.zip_stored_share


@compiled
def host_swapped_mib(vm: VmRecord) -> float:
    """Memory of this VM that the host has swapped out or compressed."""
    return total(tiers(vm.host_swapped_mib)) + vm.free_swapped_mib + vm.boot_swapped_mib


@inlined
def swap_in(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Touched pages come back from host swap or the compressed pool; return MiB swapped in.

    Of ``swap_room_mib`` what is left stays for pages that nobody touches; where it does not do, the VM is slowed down.
    """
    if vm.host_fault_mib_per_s <= 0.0:
        return 0.0
    swapped, progress = tiers(vm.host_swapped_mib), vm.progress
    zipped, left = vm.zipped_share, swapped
    for again in range(SLOWER):
        left = guest.come_back(swapped, tiers(spec.tier_rate_per_s) * vm.progress)
        read = (1.0 - zipped) * vm.host_read_cost * total(swapped - left)
        if read <= vm.swap_room_mib:
            break
        over = read / max(vm.swap_room_mib, guest.NEGLIGIBLE_MIB)
        vm.progress = vm.progress / (over * (1.0 + 0.02 * again)) if again < SLOWER - 2 else 0.0
    vm.held_up = progress - vm.progress
    put(vm.host_swapped_mib, left)
    read = total(swapped - left)
    vm.zipped_mib -= zipped * read
    vm.host_swap_in_mib += (1.0 - zipped) * read
    vm.swap_room_mib -= (1.0 - zipped) * vm.host_read_cost * read
    return (1.0 - zipped) * read


@compiled
def pool_mib(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord) -> float:
    """What the host may swap of this VM, weighted by how readily it takes it."""
    if vm.admitted == 0.0 or spec.committed > 0.0:
        return 0.0
    pages = tiers(vm.resident_mib) - tiers(vm.host_swapped_mib)
    pages /= victims.lingering(host_spec, tiers(spec.tier_rate_per_s) * host.lru_age_s)
    return vm.free_backed_mib - vm.free_swapped_mib + total(pages) * victims.unmerged_share(vm)


@inlined
def swap_out(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, share: float) -> float:
    """Swap out the share of what leaves at the age that ``victims.find_age`` has found; return MiB written."""
    pages, free = tiers(vm.leaving_mib) * share, vm.free_leaving_mib * share
    put(vm.host_swapped_mib, tiers(vm.host_swapped_mib) + pages)
    vm.free_swapped_mib += free
    return _write(vm, spec, host, host_spec, free + total(pages))


@inlined
def _write(vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, taken: float) -> float:
    """Pages that were taken go to the compressed pool or to swap; return MiB written.

    The host's free memory and swap in use follow; `account` would find the same.
    """
    zipped = compression.store(vm, spec, taken, host, host_spec)
    out = taken - zipped
    vm.host_swap_out_mib += out
    host.swap_used_mib += out
    host.free_mib += taken - zipped * spec.zip_stored_share - out * host_spec.swap_stored_share
    return out


@compiled
def reboot(vm: VmRecord, spec: VmSpecRecord) -> None:
    """The host kills a VM's process, and it boots again as it once started; all its memory returns to the host."""
    guest.kill(vm, spec)
    vm.free_untouched_mib += vm.free_backed_mib + vm.free_deflated_mib + vm.balloon_mib
    vm.free_backed_mib = vm.free_swapped_mib = vm.free_deflated_mib = vm.balloon_mib = 0.0
    vm.boot_swapped_mib = vm.zipped_mib = vm.shared_mib = 0.0
    put(vm.merged_mib, 0.0 * tiers(vm.merged_mib))
    vm.limit_size_mib = spec.memory_mib
    vm.limit_age_s, vm.limit_calm_s = victims.OLDEST_S, 0.0
    if spec.starts_small > 0.0:
        vm.asked_mib = spec.startup_mib
        vm.balloon_mib = spec.memory_mib - spec.startup_mib
        vm.free_untouched_mib -= vm.balloon_mib


@compiled
def _kill_largest(vms, vm_specs) -> None:  # type: ignore[no-untyped-def]
    """Host swap is full: the VM that uses most is killed and boots again; all its memory returns to the host.

    Memory that is committed would not return, so those VMs are spared.
    """
    largest, victim = 0.0, -1
    for v in range(len(vms)):
        used = used_mib(vms[v], vm_specs[v]) if vm_specs[v].committed == 0.0 else 0.0
        if used > largest:
            largest, victim = used, v
    if victim >= 0:
        reboot(vms[victim], vm_specs[victim])


@compiled
def account(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Add up what the VMs of the host use."""
    used = swapped = zipped = 0.0
    for v in range(len(vms)):
        used += used_mib(vms[v], vm_specs[v])
        swapped += host_swapped_mib(vms[v])
        zipped += vms[v].zipped_mib
    host.swap_used_mib = swapped - zipped
    used += host.swap_used_mib * host_spec.swap_stored_share
    host.free_mib = host_spec.ram_mib - host_spec.own_mib - host.cache_mib - used


@compiled
def _pool_of_all_mib(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord) -> float:  # type: ignore[no-untyped-def]
    pool = 0.0
    for v in range(len(vms)):
        pool += pool_mib(vms[v], vm_specs[v], host, host_spec)
    return pool


@compiled
def boot_only_mib(vms, vm_specs) -> float:  # type: ignore[no-untyped-def]
    """What VMs have not touched since they booted and the host still holds: memory of kernels and processes, and what kernels
    hand out last, as far as it is free."""
    mib = 0.0
    for v in range(len(vms)):
        if vm_specs[v].boot_only_mib > 0.0 and vms[v].admitted > 0.0 and vm_specs[v].committed == 0.0:
            mib += vm_specs[v].boot_only_mib - vms[v].boot_swapped_mib + _handed_out_last_mib(vms[v], vm_specs[v])
    return mib


@compiled
def _handed_out_last_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    return max(min(spec.handed_out_last_mib, vm.free_backed_mib) - vm.free_swapped_mib, 0.0)


@compiled
def swap_boot_only(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord, wanted_mib: float):  # type: ignore[no-untyped-def]
    """Swap out up to `wanted_mib` of what VMs have not touched since they booted, of each the same share; return MiB taken and
    MiB written."""
    there = boot_only_mib(vms, vm_specs)
    if there <= guest.NEGLIGIBLE_MIB or wanted_mib <= 0.0:
        return 0.0, 0.0
    share = min(wanted_mib / there, 1.0)
    taken = written = 0.0
    for v in range(len(vms)):
        vm, spec = vms[v], vm_specs[v]
        if spec.boot_only_mib > 0.0 and vm.admitted > 0.0 and spec.committed == 0.0:
            boot = share * (spec.boot_only_mib - vm.boot_swapped_mib)
            free = share * _handed_out_last_mib(vm, spec)
            vm.boot_swapped_mib += boot
            vm.free_swapped_mib += free
            taken += boot + free
            written += _write(vm, spec, host, host_spec, boot + free)
    return taken, written


@compiled
def swap_some(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord, wanted_mib: float) -> float:  # type: ignore[no-untyped-def]
    """Swap out `wanted_mib` of all VMs, or as much as there is; return MiB written."""
    boot, written = swap_boot_only(vms, vm_specs, host, host_spec, wanted_mib)
    wanted_mib -= boot
    if boot > 0.0 and wanted_mib <= guest.NEGLIGIBLE_MIB:
        return written
    known_s, calm_s = host.lru_age_s, host.calm_s
    age_s, leaves_mib = victims.find_age(vms, vm_specs, host_spec, known_s, calm_s, wanted_mib)
    share = min(wanted_mib / max(leaves_mib, 1e-9), 1.0)
    for v in range(len(vms)):
        if vm_specs[v].committed == 0.0 and vms[v].admitted > 0.0:
            written += swap_out(vms[v], vm_specs[v], host, host_spec, share)
    host.lru_age_s, host.calm_s = victims.aged(age_s, known_s, calm_s, share)
    return written


@compiled
def _from_cache(host: HostRecord, host_spec: HostSpecRecord, pool: float, short: float) -> float:
    """Let the host's page cache give its part of what is short; return the rest.

    Linux takes from the cache alone while its pages are used once (``cache_trim_mode``), so VMs give only as far as what
    passes through the cache is read again.
    """
    weight = host_spec.cache_weight * host.tick_reread_mib / (host.tick_io_mib + 1e-9)
    part = short * host.cache_mib / (host.cache_mib + weight * pool + 1e-9)
    given = min(part, host.cache_mib)
    host.cache_mib -= given
    host.free_mib += given
    return short - given


@compiled
def balance(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord, throttled: bool) -> float:  # type: ignore[no-untyped-def]
    """Swap VMs out when free memory is below the hypervisor's threshold, until its goal; return MiB written."""
    written = 0.0
    host.calm_s += 1.0
    account(vms, vm_specs, host, host_spec)
    states.advance(host, host_spec)
    if host.free_mib >= host_spec.min_free_mib or host_spec.swaps == 0.0:
        return written
    yielded = 1.0  # MiB freed per MiB taken; less where some of it stays in RAM, compressed
    for _ in range(len(vms) + 8):
        before = host.free_mib
        short = host_spec.goal_free_mib - before
        if throttled:
            urgent = URGENT * host_spec.min_free_mib - before
            short = min(short, max(host_spec.swap_mib_per_s - written, urgent))
        if short <= NEAR_MIB:
            break
        if host.cache_mib > 0.0:
            pool = _pool_of_all_mib(vms, vm_specs, host, host_spec)
            short = _from_cache(host, host_spec, pool, short)
        room = host_spec.swap_mib - host.swap_used_mib
        if room < short and before < host_spec.min_free_mib:
            _kill_largest(vms, vm_specs)
            account(vms, vm_specs, host, host_spec)
        else:
            written += swap_some(vms, vm_specs, host, host_spec, min(short / yielded, room))
        yielded = min(max(yielded * (host.free_mib - before) / short, 0.1), 1.0)
    return written


@compiled
def kept_mib(vm: VmRecord, spec: VmSpecRecord, host_spec: HostSpecRecord, age_s: float) -> float:
    """What stays in RAM in the long run when the untouched leave at this age and pages come back when touched. What was used only
    while booting goes before any of it; `balance` then takes as much of that as is short."""
    if spec.committed > 0.0:
        return used_mib(vm, spec)
    out = victims.out_share(host_spec, tiers(spec.tier_rate_per_s), age_s) * victims.unmerged_share(vm)
    free_out = vm.free_backed_mib * victims.out_share(host_spec, victims.FREE_RATE_PER_S, age_s)
    return (
        used_mib(vm, spec) - (spec.boot_only_mib - vm.boot_swapped_mib) - free_out - total(tiers(vm.resident_mib) * out)
    )


@compiled
def _settled_age_s(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord) -> float:  # type: ignore[no-untyped-def]
    """Age of eviction at which the VMs of the host just fit."""
    goal = host_spec.ram_mib - host_spec.own_mib - host_spec.goal_free_mib - host.cache_mib
    low, high = victims.YOUNGEST_S, victims.OLDEST_S
    for _ in range(SETTLING_STEPS):
        age_s = (low * high) ** 0.5
        kept = out = 0.0
        for v in range(len(vms)):
            if vms[v].admitted > 0.0:
                here = kept_mib(vms[v], vm_specs[v], host_spec, min(age_s, vms[v].limit_age_s))
                kept += here
                out += used_mib(vms[v], vm_specs[v]) - here
        if kept + out * host_spec.swap_stored_share > goal:
            high = age_s
        else:
            low = age_s
    return low


@compiled
def start_settled(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Swap the VMs of the host out to where its hypervisor leads in the long run, if RAM is short or a VM has a limit.

    A host that has been overcommitted for a while has its hot pages back; starting anywhere else would make the first
    minutes of every episode a transient that no policy caused. Free pages for which swap has no room were never
    touched.
    """
    age_s = _settled_age_s(vms, vm_specs, host, host_spec)
    if age_s > 0.1 * victims.OLDEST_S:
        age_s = victims.OLDEST_S
        if host.limited == 0.0:
            return
    else:
        host.lru_age_s = age_s
    room = host_spec.swap_mib
    for v in range(len(vms)):
        if vms[v].admitted > 0.0 and vm_specs[v].committed == 0.0:
            vm, spec = vms[v], vm_specs[v]
            own_s = min(age_s, vm.limit_age_s)
            if own_s == victims.OLDEST_S:  # nothing is short
                continue
            out = victims.out_share(host_spec, tiers(spec.tier_rate_per_s), own_s) * victims.unmerged_share(vm)
            swapped = tiers(vm.resident_mib) * out
            swapped *= min(1.0, room / max(total(swapped), 1e-9))
            put(vm.host_swapped_mib, swapped)
            room -= total(swapped)
    for v in range(len(vms)):
        if vms[v].admitted > 0.0 and vm_specs[v].committed == 0.0:
            vm, spec = vms[v], vm_specs[v]
            own_s = min(age_s, vm.limit_age_s)
            free = 0.0
            if own_s < victims.OLDEST_S:
                free = vm.free_backed_mib * victims.out_share(host_spec, victims.FREE_RATE_PER_S, own_s)
            vm.free_swapped_mib = min(free, max(room, 0.0))
            untouched = free - vm.free_swapped_mib
            vm.free_backed_mib -= untouched
            vm.free_untouched_mib += untouched
            room -= vm.free_swapped_mib
            out_mib = host_swapped_mib(vm)
            if spec.zip_cap_mib > 0.0:
                vm.zipped_mib = min(out_mib * spec.compressible_share, spec.zip_cap_mib / spec.zip_stored_share)


@compiled
def fill_cache(host: HostRecord, host_spec: HostSpecRecord) -> None:
    """VM I/O of the last tick stays in the page cache of a host through which it passes."""
    if host_spec.cache_weight > 0.0:
        filled = max(host.tick_io_mib, 0.0)
        host.cache_mib += filled
        host.free_mib -= filled


@compiled
def write_behind_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """What a host writes back in a second of VM memory that is a mapped file."""
    writes = tiers(spec.tier_rate_per_s) * tiers(spec.tier_write_share) * (WRITE_BEHIND_S * vm.progress)
    return total((tiers(vm.resident_mib) - tiers(vm.host_swapped_mib)) * (1.0 - guest.decay(writes))) * (
        1.0 / WRITE_BEHIND_S
    )


@compiled
def count_swapping(host: HostRecord, host_spec: HostSpecRecord, out_mib: float) -> None:
    """Advance the host's swap counters by this tick's traffic (``tick_swap_mib`` holds what came in).

    What is written anew lies in order; what comes back leaves holes, and order decays towards ``DECAYED_ORDER``.
    """
    read = host.tick_swap_mib
    host.swap_in_mib += read
    host.swap_out_mib += out_mib
    if read + out_mib > SWAPPING_MIB:
        host.swapping_s += 1.0
        used = max(host.swap_used_mib, 1.0)
        fresh = max(1.0 - used / max(host_spec.swap_mib, 1.0), 0.0)
        host.swap_order += (1.0 - host.swap_order) * fresh * min(out_mib / (used + out_mib), 1.0)
        host.swap_order += (DECAYED_ORDER - host.swap_order) * min(read / (used + read), 1.0)
