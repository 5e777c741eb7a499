"""OpenStack Nova's choice of a host for a new VM: filters of capacity, then weights.

Placement first drops hosts where what is allocated already and the request together exceed (total - reserved) * ratio; it
looks at sizes, never at use. The rest are weighed: each weigher's raw values are brought to 0..1 and times its multiplier
are added up, and the highest sum wins.

Left out: weighers that are equal on hosts of one kind (PCI devices, server groups, hypervisor version, image properties,
failed builds, cells), aggregates and availability zones, and the retry on another host when a build fails. Memory in MiB,
disk in GiB.

Source: nova (nova/weights.py, scheduler/weights/*.py, scheduler/manager.py, scheduler/filters/*, conf/{compute,scheduler}.py),
read in 2026.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

CPU_RATIO = 4.0
"""initial_cpu_allocation_ratio (conf/compute.py)."""
RAM_RATIO = 1.0
"""initial_ram_allocation_ratio."""
DISK_RATIO = 1.0
"""initial_disk_allocation_ratio."""
RESERVED_HOST_MEMORY_MIB = 512.0
"""reserved_host_memory_mb."""
MAX_IO_TASKS = 8
"""max_io_ops_per_host, of the optional IoOpsFilter."""
MAX_INSTANCES = 50
"""max_instances_per_host, of the optional NumInstancesFilter."""
HOST_SUBSET_SIZE = 1
"""host_subset_size: among how many of the best hosts one is drawn."""


@dataclass(frozen=True)
class Hosts:
    """Hosts in the order of the host manager; each array is ``[host]``. Allocated is what VMs there were promised."""

    vcpus: FloatArray
    memory_mib: FloatArray
    disk_gib: FloatArray
    allocated_vcpus: FloatArray
    allocated_mib: FloatArray
    allocated_gib: FloatArray
    io_tasks: FloatArray
    """VMs that are built, resized, migrated or snapshotted there now."""

    cpu_ratio: float = CPU_RATIO
    ram_ratio: float = RAM_RATIO
    disk_ratio: float = DISK_RATIO
    reserved_mib: float = RESERVED_HOST_MEMORY_MIB


@dataclass(frozen=True)
class Multipliers:
    """``*_weight_multiplier``: below 0 the weigher prefers little (conf/scheduler.py)."""

    ram: float = 1.0
    cpu: float = 1.0
    disk: float = 1.0
    io_tasks: float = -1.0


def fits(hosts: Hosts, vcpus: float, memory_mib: float, disk_gib: float = 0.0) -> BoolArray:
    """Hosts ``[host]`` with room for a VM of this size."""
    cpu = hosts.allocated_vcpus + vcpus <= hosts.vcpus * hosts.cpu_ratio
    memory = hosts.allocated_mib + memory_mib <= (hosts.memory_mib - hosts.reserved_mib) * hosts.ram_ratio
    return cpu & memory & (hosts.allocated_gib + disk_gib <= hosts.disk_gib * hosts.disk_ratio)


def passes_io_tasks(io_tasks: FloatArray, most: int = MAX_IO_TASKS) -> BoolArray:
    """The optional IoOpsFilter, ``[host]``."""
    return np.asarray(io_tasks) < most


def passes_instances(instances: FloatArray, most: int = MAX_INSTANCES) -> BoolArray:
    """The optional NumInstancesFilter, ``[host]``."""
    return np.asarray(instances) < most


def normalised(raw: FloatArray) -> FloatArray:
    """Raw values in 0..1, where these weighers fix the least at 0: clamped there, then divided by the greatest.

    QUIRK: only zeros are all 0; equal values above 0 are all 1, though the manual says that equal values are 0.
    """
    clamped = np.maximum(raw, 0.0)
    most = clamped.max(initial=0.0)
    return clamped / most if most else clamped


def weights(
    free_mib: FloatArray,
    free_vcpus: FloatArray,
    free_gib: FloatArray,
    io_tasks: FloatArray,
    multipliers: Multipliers | None = None,
) -> FloatArray:
    """Weight of each host ``[host]``, the highest wins. Free vCPUs are those after the ratio, and may be negative."""
    by = multipliers or Multipliers()
    pairs = ((by.ram, free_mib), (by.cpu, free_vcpus), (by.disk, free_gib), (by.io_tasks, io_tasks))
    return np.sum([factor * normalised(np.asarray(raw, float)) for factor, raw in pairs], axis=0)


def ranked(hosts: Hosts, allowed: BoolArray, multipliers: Multipliers | None = None) -> list[int]:
    """Allowed hosts, best first; equals stay in their order."""
    left = np.flatnonzero(allowed)
    weight = weights(
        (hosts.memory_mib - hosts.reserved_mib - hosts.allocated_mib)[left],  # without the ratio, unlike vCPUs
        (hosts.vcpus * hosts.cpu_ratio - hosts.allocated_vcpus)[left],
        (hosts.disk_gib - hosts.allocated_gib)[left],
        hosts.io_tasks[left],
        multipliers,
    )
    return [int(host) for host in left[np.argsort(-weight, kind="stable")]]


def select_host(
    hosts: Hosts,
    vcpus: float,
    memory_mib: float,
    disk_gib: float = 0.0,
    allowed: BoolArray | None = None,
    multipliers: Multipliers | None = None,
    subset_size: int = HOST_SUBSET_SIZE,
    rng: np.random.Generator | None = None,
) -> int | None:
    """Host for a new VM, or None if no host has room.

    Args:
        hosts: as allocated now.
        vcpus: of the VM.
        memory_mib: of the VM.
        disk_gib: of the VM.
        allowed: ``[host]``, where it may run at all (architecture, CPU level, host up).
        multipliers: of the weighers.
        subset_size: how many of the best are drawn among; without `rng` the best is taken.
        rng: draws.
    """
    passing = fits(hosts, vcpus, memory_mib, disk_gib)
    order = ranked(hosts, passing if allowed is None else passing & allowed, multipliers)
    best = order[: max(1, subset_size)]
    if not best:
        return None
    return best[0] if rng is None or len(best) == 1 else best[int(rng.integers(len(best)))]
