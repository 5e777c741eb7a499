"""A VM's own limit of host memory, which binds although the host has plenty.

Modelled. After each second what lies above the limit is taken from the VM, by the victims and through the compression, swap
room and device of the last resort (``overcommit``); the age of the pages that leave is the VM's own, as its cgroup's or its
own page table's lists are.
 - ESXi's limit: hard, process not counted. Once usage presses on it the hypervisor also balloons the VM to that size, up to
   the balloon's cap, for guests choose better; what the balloon has not taken yet, or cannot (no driver, the cap, a guest
   that refuses), is compressed and then swapped at once. It lasts until the VM boots anew or its limit is changed.
 - ``memory.max`` of the cgroup of a VM's process (process counted): hard. Threads that need memory write out others of their
   own first, at whatever speed; when swap has no room, the process is killed: the VM dies and boots again (so does one of
   ESXi's here, whose own swap file would have had room).
 - ``memory.high``: reclaim at the device's speed. What it leaves above throttles the threads that add pages: a wait of
   64 x^2 s, at most 2 s, for each 64 pages, x the overage over the limit; none below 10 ms. It may be passed, nobody dies.

A limit may be set while the VM runs (``Targets.limit_mib``); where its scenario gives a VM none, a cgroup's is ``memory.high``.
What lies above one that is lowered is taken as above: within the second where the limit is hard (a guess: VMware's manuals give
no speed), at the device's speed where it yields. ESXi's balloon goes to one that is raised; pages come back as they are touched.

Pages that come back and leave again within a second pass the limit for that second. Merged pages count once, for nobody;
compressed ones with their slot, and go to swap when slots alone would pass the limit.

Left out: waits of direct reclaim beyond the queue of the device, limits of groups of VMs (resource pools, nested cgroups),
``memory.low`` and ``min``, ``swap.max``, ESXi's own swap file per VM (swap is common), an ESXi balloon that is let go when the
guest needs less (its guest could not use the memory).

Sources: VMware's resource management guide (limit, balloon before compression before swap; without a driver, while it is slow
or at its maximum, the host swaps), ResourceAllocationInfo (a limit is "not exceeded"); Linux's cgroup-v2.rst; the wait is
``calculate_high_delay`` of mm/memcontrol.c, whose comment has 6 ms at 101 % and 639 ms at 110 %.
"""

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.host import overcommit, victims
from hvgym.envs.model.params import PAGES_PER_MIB, HostRecord, HostSpecRecord, VmRecord, VmSpecRecord

EXACT_MIB, ROUNDING_MIB = 1e-9, 1e-6
"""Reclaim ends within the first of a limit; a VM is killed for what lies above the second."""

ROUNDS = 20
"""Rounds of reclaim in a second: what is compressed keeps a part of its room, so one may fall short."""

BATCH_PAGES, SCALE, LONGEST_S, SHORTEST_S = 64.0, 64.0, 2.0, 0.01
"""Of a throttle: pages that are waited for at once, 2^40 / 2^34, and the bounds of a wait (HZ / 100)."""


@compiled
def held_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Host memory behind a VM's guest, which its limit bounds."""
    return overcommit.used_mib(vm, spec) - spec.overhead_mib


@compiled
def _to_take_mib(vm: VmRecord, spec: VmSpecRecord, excess: float) -> float:
    """Pages to be taken so that `excess` becomes free: some stay in RAM, compressed."""
    room = max(spec.zip_cap_mib / spec.zip_stored_share - vm.zipped_mib, 0.0)
    taken = excess / (1.0 - spec.compressible_share * spec.zip_stored_share)
    if spec.zip_cap_mib > 0.0 and taken * spec.compressible_share <= room:
        return taken
    return excess + room * spec.zip_stored_share if spec.zip_cap_mib > 0.0 else excess


@compiled
def _reclaim(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord, most_mib: float) -> float:  # type: ignore[no-untyped-def]
    """Take what lies above the limit of the only VM given, as far as swap has room and `most_mib` allow; return MiB written."""
    vm, spec = vms[0], vm_specs[0]
    written = 0.0
    for _ in range(ROUNDS):
        excess = held_mib(vm, spec) - vm.limit_mib
        room = min(host_spec.swap_mib - host.swap_used_mib, most_mib - written)
        if excess <= EXACT_MIB or room <= 0.0:
            break
        known_s, calm_s = vm.limit_age_s, vm.limit_calm_s
        wanted = min(_to_take_mib(vm, spec, excess), room)
        boot, out = overcommit.swap_boot_only(vms, vm_specs, host, host_spec, wanted)
        if boot > 0.0:
            written += out
            continue
        age_s, leaves_mib = victims.find_age(vms, vm_specs, host_spec, known_s, calm_s, wanted)
        share = min(wanted / max(leaves_mib, 1e-9), 1.0)
        written += overcommit.swap_out(vm, spec, host, host_spec, share)
        vm.limit_age_s, vm.limit_calm_s = victims.aged(age_s, known_s, calm_s, share)
    return written + _empty_pool(vm, spec, host, host_spec, most_mib - written)


@compiled
def _empty_pool(
    vm: VmRecord, spec: VmSpecRecord, host: HostRecord, host_spec: HostSpecRecord, most_mib: float
) -> float:
    """No page is left to be taken: compressed ones go to swap, for their slots count too; return MiB written."""
    excess = held_mib(vm, spec) - vm.limit_mib
    room = min(host_spec.swap_mib - host.swap_used_mib, most_mib)
    out = min(min(excess / spec.zip_stored_share, vm.zipped_mib), room)
    if excess <= EXACT_MIB or out <= 0.0:
        return 0.0
    vm.zipped_mib -= out
    vm.host_swap_out_mib += out
    host.swap_used_mib += out
    host.free_mib += out * (spec.zip_stored_share - host_spec.swap_stored_share)
    return out


@compiled
def wait_s(overage_share: float) -> float:
    """For how long a thread waits that adds 64 pages to a cgroup so far beyond its ``memory.high``."""
    wait = min(SCALE * overage_share * overage_share, LONGEST_S)
    return wait if wait > SHORTEST_S else 0.0


@compiled
def _enforce(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord, most_mib: float, kills: bool) -> float:  # type: ignore[no-untyped-def]
    """Hold the only VM given to its limit; return MiB written."""
    vm, spec = vms[0], vm_specs[0]
    vm.throttle_s_per_mib = 0.0
    vm.limit_calm_s += 1.0
    if held_mib(vm, spec) <= vm.limit_mib:
        return 0.0
    if spec.limit_balloons > 0.0:
        vm.limit_size_mib = vm.limit_mib
    written = _reclaim(vms, vm_specs, host, host_spec, most_mib if spec.limit_yields > 0.0 else host_spec.swap_mib)
    excess = held_mib(vm, spec) - vm.limit_mib
    if spec.limit_yields > 0.0:
        over = max(excess, 0.0) / (vm.limit_mib + spec.overhead_mib)
        vm.throttle_s_per_mib = wait_s(over) * PAGES_PER_MIB / BATCH_PAGES
    elif excess > ROUNDING_MIB and kills:
        overcommit.reboot(vm, spec)
    return written


@compiled
def enforce(vms, vm_specs, host: HostRecord, host_spec: HostSpecRecord, kills: bool) -> float:  # type: ignore[no-untyped-def]
    """Hold the VMs of the host to their limits; return MiB written. Without `kills`, one that cannot be held stays above."""
    written = 0.0
    overcommit.account(vms, vm_specs, host, host_spec)
    for v in range(len(vms)):
        if vms[v].admitted > 0.0:
            left, killed = max(host_spec.swap_mib_per_s - written, 0.0), vms[v].oom_kills
            written += _enforce(vms[v : v + 1], vm_specs[v : v + 1], host, host_spec, left, kills)
            if vms[v].oom_kills > killed:  # what it had in swap is free for the next
                overcommit.account(vms, vm_specs, host, host_spec)
    return written


@compiled
def throttle(vm: VmRecord, spec: VmSpecRecord) -> None:
    """What a VM above its ``memory.high`` would wait in a second of full progress: for what it touches first, and for what
    comes back from the host's swap."""
    first = max(vm.growth_mib + vm.fault_mib_per_s - vm.free_backed_mib, 0.0)
    vm.fixed_stall_s += (first + vm.host_fault_mib_per_s) * vm.throttle_s_per_mib / spec.fault_parallelism


@compiled
def _settled_mib(vm: VmRecord, spec: VmSpecRecord, host_spec: HostSpecRecord, age_s: float) -> float:
    """Host memory behind a guest in the long run when untouched pages leave at this age."""
    kept = overcommit.kept_mib(vm, spec, host_spec, age_s)
    out = overcommit.used_mib(vm, spec) - kept
    zipped = min(out * spec.compressible_share * spec.zip_stored_share, spec.zip_cap_mib)
    return kept + zipped - spec.overhead_mib


@compiled
def set_age(vm: VmRecord, spec: VmSpecRecord, host_spec: HostSpecRecord) -> None:
    """Find the age at which pages leave a VM that has been running for long and just fits its limit (bisection in its
    logarithm)."""
    if held_mib(vm, spec) <= vm.limit_mib:
        return
    low, high = victims.YOUNGEST_S, victims.OLDEST_S
    for _ in range(overcommit.SETTLING_STEPS):
        age_s = (low * high) ** 0.5
        if _settled_mib(vm, spec, host_spec, age_s) > vm.limit_mib:
            high = age_s
        else:
            low = age_s
    vm.limit_age_s = low
