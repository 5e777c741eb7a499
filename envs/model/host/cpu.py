"""Who gets the pCPUs: reservations, limits and shares; and what virtualisation takes of them.

Modelled. Each VM wants pCPUs (its demand and the cost of its exits). When all fit, all get them; else each gets its
reservation and the rest is filled up in proportion to shares, none above its limit or its want (M11). The scheduler
hands out a whole second at once, so a VM that wants less than its share loses nothing. Ready time is what a VM wanted
and did not get or, on a busy but sufficient host with more vCPUs than pCPUs, the wait by Erlang's C formula for equal
slices: C / (P (1 - load)) per CPU second, whatever the length of the slice (counted above half load). No vCPU waits and
runs at once.

Time is also lost to two-dimensional page walks, misses per instruction times the extra cycles of a nested walk (25 when
guest and host use 2 MiB pages, 45 for a guest of 4 KiB pages on 2 MiB, 90 when both use 4 KiB), and to timer and
inter-processor exits: `EXITS_PER_CPU_S` times the cost of an exit.

Left out: waits of wake-ups (ready time below saturation slows nothing), lock-holder preemption, NUMA, hyper-threads.

Sources: exit costs and walk cycles as in docs/validation.md; VMware counts ready time so.
"""

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import HostRecord, HostSpecRecord

WALK_CYCLES_2M_2M, WALK_CYCLES_4K_2M, WALK_CYCLES_4K_4K = 25.0, 45.0, 90.0
"""Extra cycles of a TLB miss: guest page size on host page size."""

EXITS_PER_CPU_S = 2000.0
"""Timer, halt and inter-processor exits per second of vCPU time (a guess for a tick of 250-1000 Hz and a few IPIs)."""

LEVEL_STEPS = 50

BUSY, FULL = 0.5, 0.99
"""Load from which waits for a pCPU are counted, and load beyond which the queue's formula is not followed."""


def walk_tax(misses_per_kilo_instruction: float, instructions_per_cycle: float, extra_cycles: float) -> float:
    """Time lost to nested page walks, as a share of native time (M8)."""
    return misses_per_kilo_instruction / 1000.0 * instructions_per_cycle * extra_cycles


@compiled
def _filled(vm, spec, level: float) -> float:  # type: ignore[no-untyped-def]
    """pCPUs of one VM when a share is worth `level`."""
    most = min(vm.cpu_want, spec.cpu_limit)
    return min(max(spec.cpu_shares * level, spec.cpu_reservation), most)


@compiled
def divide(vms, vm_specs, capacity: float) -> None:  # type: ignore[no-untyped-def]
    """Set the CPU grants of the VMs of the host, ``[vm]``: water-filling over shares by bisection."""
    wanted = shares = 0.0
    for v in range(len(vms)):
        wanted += min(vms[v].cpu_want, vm_specs[v].cpu_limit)
        shares += vm_specs[v].cpu_shares
    scarce = wanted > capacity
    low, high = 0.0, 0.0
    if scarce:
        high = 1e6 / max(shares, 1e-9)
        for _ in range(LEVEL_STEPS):
            middle = 0.5 * (low + high)
            filled = 0.0
            for v in range(len(vms)):
                filled += _filled(vms[v], vm_specs[v], middle)
            if filled > capacity:
                high = middle
            else:
                low = middle
    for v in range(len(vms)):
        want = vms[v].cpu_want
        given = _filled(vms[v], vm_specs[v], low) if scarce else min(want, vm_specs[v].cpu_limit)
        vms[v].cpu_grant = given / want if given < want else 1.0


@compiled
def ready_per_cpu_s(pcpus: float, load: float) -> float:
    """Wait for a pCPU per second of CPU time on a host at this load below 1: C / (P (1 - load)), C by Erlang's recursion."""
    if load <= BUSY:
        return 0.0
    load = min(load, FULL)
    blocked = 1.0
    for p in range(1, int(pcpus) + 1):
        blocked = load * pcpus * blocked / (p + load * pcpus * blocked)
    waits = blocked / (1.0 - load * (1.0 - blocked))
    return waits / (pcpus * (1.0 - load))


@compiled
def _vcpus(vms, vm_specs) -> float:  # type: ignore[no-untyped-def]
    """vCPUs that want to run on the host; when there is a pCPU for each, nobody waits."""
    vcpus = 0.0
    for v in range(len(vms)):
        if vms[v].cpu_want > 0.0:
            vcpus += vm_specs[v].vcpus
    return vcpus


@compiled
def share(vms, vm_specs, host: HostRecord, spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Divide the pCPUs that hypervisor, scanning and compression leave, and count ready time.

    Grants are 1 where nobody has changed them: most ticks have pCPUs to spare.
    """
    capacity = max(spec.pcpus * (1.0 - spec.own_cpu_share) - host.tax_cpu, 0.05 * spec.pcpus)
    if host.tick_cpu > capacity or spec.cpu_limited > 0.0:
        divide(vms, vm_specs, capacity)
    scarce = host.tick_cpu > capacity
    queue = (
        0.0 if scarce or _vcpus(vms, vm_specs) <= capacity else ready_per_cpu_s(spec.pcpus, host.tick_cpu / capacity)
    )
    if scarce or queue > 0.0 or spec.cpu_limited > 0.0:
        for v in range(len(vms)):
            want, running = vms[v].cpu_want, vms[v].cpu_want * vms[v].cpu_grant
            waiting = want - running + queue * running
            vms[v].ready_s += min(waiting, max(vm_specs[v].vcpus - running, 0.0))
