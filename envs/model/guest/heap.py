"""A JVM as the workload of a VM: how its heap follows its load, a balloon and the hours of idleness, second by second.

Modelled. Live data are the hot tier (less what is no heap), the room in which it allocates is the warm tier, of which the
collector and the allocation touch every page once per cycle; so what the guest swaps of a heap it reads again each cycle,
and the tiers' physics does the rest. Work takes T(h) of ``jvm``, compared with the whole heap that the JVM would have
alone, and longer while code is not compiled yet.
 - Live data grow and shrink with the demand. When they need more than the heap holds, there is an OutOfMemoryError: the
   process is started anew.
 - A heap-aware balloon turns what is asked of the VM, as far as it is not free, into a smaller heap. Room for it is made by
   collections of the live data, as many as it takes heaps' room; as live data grow it gives way at once.
 - An idle application's heap is uncommitted as its collector does; busy, it grows again.

Left out: collections that compete for CPU with the application beyond T(h), pauses as such (`full_pause_s` says how long one
would be now), and the longer cycle of a heap of which pages are missing.

Sources: as in ``jvm``.
"""

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.guest import balloon, jvm
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.params import HOT, WARM, DemandRecord, VmRecord, VmSpecRecord

IDLE_CPU_SHARE = 0.05
"""An application that asks for less of its vCPUs is idle (a guess; G1's own threshold is a load that is off by default)."""


@compiled
def live_mib(spec: VmSpecRecord, demand: DemandRecord) -> float:
    """Live data of the heap."""
    return max(demand.tier_mib[HOT] - spec.jvm.non_heap_mib, 0.0)


@compiled
def _committed_mib(vm: VmRecord, spec: VmSpecRecord, live: float, least: float, idle: bool) -> float:
    """The heap without a balloon: Xmx, or what an idle collector leaves of it, but never a storm of collections."""
    java = spec.jvm
    if not idle:
        return java.xmx_mib
    left = jvm.idle_heap_mib(java.uncommit, java.xmx_mib, live, java.xms_mib, vm.idle_s, java.idle_s)
    return min(max(left, jvm.STORM_BELOW * least), java.xmx_mib)


@compiled
def _asked_of_heap_mib(vm: VmRecord, spec: VmSpecRecord, demand: DemandRecord, heap: float) -> float:
    """What a heap-aware balloon must take of a heap, for the VM to reach its size without paging."""
    wanted = 0.0
    for k in range(len(demand.tier_mib)):
        wanted += demand.tier_mib[k]
    others = wanted - demand.tier_mib[HOT] - demand.tier_mib[WARM] + spec.jvm.non_heap_mib
    held = spec.kernel_mib + guest.reserve_mib(vm, spec) + others + heap
    return held - (spec.memory_mib - min(spec.memory_mib - balloon.asked_mib(vm), spec.balloon_cap_mib))


@compiled
def follow(vm: VmRecord, spec: VmSpecRecord, demand: DemandRecord) -> bool:
    """Set the heap of this tick; return False where it ended in an OutOfMemoryError."""
    java = spec.jvm
    live = live_mib(spec, demand)
    least = live / java.live_share
    if least > java.xmx_mib:
        guest.restart(vm, spec)
        vm.heap_errors += 1.0
        vm.growth_mib = vm.file_growth_mib = vm.sequential_file_mib_per_s = 0.0
        return False
    idle = demand.cpu_share < IDLE_CPU_SHARE
    vm.idle_s = vm.idle_s + 1.0 if idle else 0.0
    committed = _committed_mib(vm, spec, live, least, idle)
    taken = 0.0
    if java.heap_aware > 0.0 and spec.balloons > 0.0:
        taken = jvm.heap_balloon_mib(_asked_of_heap_mib(vm, spec, demand, committed), committed, least)
        taken = min(taken, vm.heap_ballooned_mib + spec.inflate_mib_per_s)
    room = max(vm.heap_mib - live, 1.0)
    collections = max(taken - vm.heap_ballooned_mib, 0.0) / room
    vm.heap_stall_s = collections * live / java.gc_mib_per_s
    vm.heap_ballooned_mib = taken
    vm.heap_mib = committed - taken
    vm.ungrown_mib[WARM] = demand.tier_mib[WARM] - max(vm.heap_mib - live, 0.0)
    times = vm.heap_mib / least if least > 0.0 else 10.0
    full = java.xmx_mib / least if least > 0.0 else 10.0
    now = jvm.relative_time(times, java.t0, java.a, java.b)
    vm.heap_time = now / jvm.relative_time(full, java.t0, java.a, java.b) / jvm.warm_speed(vm.process_s)
    vm.gc_share = 1.0 - java.t0 / now
    return True


@compiled
def slow(vm: VmRecord, spec: VmSpecRecord) -> None:
    """A second's work takes longer in a smaller heap, while code is compiled, and when a balloon makes room."""
    vm.busy_share = vm.busy_share * vm.heap_time + vm.heap_stall_s
    vm.cpu_want = vm.cpu_want * vm.heap_time + vm.heap_stall_s * spec.vcpus


@compiled
def count(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Seconds of collection, and how long a full one would take now: what is out of the heap is read page by page."""
    vm.gc_s += vm.gc_share * min(vm.progress * vm.busy_share, 1.0)
    live = max(vm.allocated_mib[HOT] - spec.jvm.non_heap_mib, 0.0)
    share = live / max(vm.allocated_mib[HOT], 1.0)
    missing = share * (vm.allocated_mib[HOT] - vm.resident_mib[HOT])
    missing += vm.allocated_mib[WARM] - vm.resident_mib[WARM]
    swapped = share * vm.host_swapped_mib[HOT] + vm.host_swapped_mib[WARM]
    vm.full_pause_s = live / spec.jvm.gc_mib_per_s + jvm.read_s(
        missing + swapped, vm.disk_latency_s, 1.0, spec.fault_parallelism
    )
