"""The host's disk and network, and how fast each VM gets on with its work.

Modelled. One disk a host: guest swap, page-cache misses, host swap and the applications' own I/O queue there (M/M/1
wait at the utilisation that all of them cause). A VM stalls on its faults, x = 1 / ((1 - slack) / cpu + stalls), with
`fault_parallelism` faults in flight; slower VMs send fewer requests, so disk and VMs are solved together for the one
utilisation at which both agree. Swap writes are clustered and cost bandwidth, reads cost operations. CPU time is
shared in proportion to demand when it is short; each I/O request, paging included, costs exits (and, hosted, world
switches). Network bandwidth is divided in proportion to demand.

Left out: per-VM shares and reservations, read/write asymmetry of flash, several disks, scheduling delay.

Sources: form of the stall and of the queue, docs/validation.md; device figures stand in ``conf/scenario``.
"""

import math

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import (
    PAGES_PER_MIB,
    DemandRecord,
    HostRecord,
    HostSpecRecord,
    VmRecord,
    VmSpecRecord,
)

MAX_UTILISATION = 0.995
"""A queue is never solved beyond this; the wait there is 200 service times."""

WRITE_SHARE = 0.9
"""Deferred writes take at most this share of the disk; the rest waits for the next tick."""

SOLVED = 1e-3
"""The solver stops at a Newton step shorter than this share of the free utilisation; the error left is its square."""

MAX_SEARCH = 20

REQUESTS_PER_MIB = 16.0
"""Application I/O comes in requests of 64 KiB (a guess)."""


@compiled
def set_demand(vm: VmRecord, spec: VmSpecRecord, host_spec: HostSpecRecord, demand: DemandRecord) -> None:
    """What one second of full progress of this VM asks of disk and CPU."""
    operations = (vm.fault_mib_per_s + vm.host_fault_mib_per_s + vm.false_read_mib) * PAGES_PER_MIB
    reads = operations + vm.double_paged_mib * PAGES_PER_MIB  # the device waits for these, not the workload
    requests = (demand.disk_mib_per_s + demand.net_mib_per_s) * REQUESTS_PER_MIB + operations
    vm.disk_demand = reads / host_spec.disk_iops + demand.disk_mib_per_s / host_spec.disk_mib_per_s
    vm.fault_wait_operations = operations / spec.fault_parallelism
    vm.busy_share = 1.0 - spec.slack + requests * host_spec.io_exit_s / spec.vcpus


@compiled
def speed(vm: VmRecord, host: HostRecord, wait_s: float) -> float:
    """Progress of a VM whose faults take `wait_s` each."""
    return min(1.0, host.cpu_grant / (vm.busy_share + host.cpu_grant * vm.fault_wait_operations * wait_s))


@compiled
def write_load(host: HostRecord, host_spec: HostSpecRecord) -> float:
    """Share of the disk that deferred writes take in this tick; they leave the backlog."""
    load = min(host.write_backlog_mib / host_spec.disk_mib_per_s, WRITE_SHARE)
    host.write_backlog_mib -= load * host_spec.disk_mib_per_s
    return load


@compiled
def wait(host_spec: HostSpecRecord, utilisation: float) -> float:
    """Latency of one operation at this utilisation, queueing included (M/M/1)."""
    return host_spec.disk_latency_s + utilisation / (1.0 - utilisation) / host_spec.disk_iops


@compiled
def _offered(vms, vm_specs, host, host_spec, h, utilisation) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Utilisation that the VMs of host `h` would cause if operations took as long as at this one; and its derivative."""
    latency = wait(host_spec, utilisation)
    load = slope = 0.0
    for v in range(len(vms)):
        vm = vms[v]
        if vm_specs[v].host == h and vm.disk_demand > 0.0:
            x = speed(vm, host, latency)
            load += x * vm.disk_demand
            if x < 1.0:
                slope -= x * x * vm.fault_wait_operations * vm.disk_demand
    free = 1.0 - utilisation
    return load, slope / (host_spec.disk_iops * free * free)


@compiled
def solve_disk(vms, vm_specs, host, host_spec, h) -> None:  # type: ignore[no-untyped-def]
    """Find the utilisation that the VMs cause and suffer at once (bracketed Newton steps on a falling function)."""
    writes = write_load(host, host_spec)
    low, high = 0.0, 1.0
    guess = min(host.disk_utilisation, MAX_UTILISATION)
    for _ in range(MAX_SEARCH):
        load, slope = _offered(vms, vm_specs, host, host_spec, h, guess)
        error = load + writes - guess
        if error > 0.0:
            low = guess
        else:
            high = guess
        step = min(guess + error / (1.0 - slope), MAX_UTILISATION)
        if abs(step - guess) < SOLVED * (1.0 - guess):
            guess = step
            break
        guess = step if low <= step < high else 0.5 * (low + high)
    host.disk_utilisation = guess
    host.disk_wait_s = wait(host_spec, guess)


def touch_latency_s(share: float, miss: float, fault_s: float) -> float:
    """Quantile `share` of the latency of a page touch, of which `miss` fault and take `fault_s` on average.

    A touch is a hit, which costs nothing here, or a fault, whose latency is exponential like the sojourn in an M/M/1
    queue. So the quantile leaves zero exactly where `miss` passes 1 - share, as measured on guests (p50 at 0.5, p90
    at 0.1).
    """
    if share <= 1.0 - miss:
        return 0.0
    return -fault_s * math.log((1.0 - share) / miss)
