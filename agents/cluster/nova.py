"""OpenStack Nova's choice of a host for a new VM: filters of capacity, then weights.

Placement first drops hosts where what is allocated already and the request together exceed (total - reserved) * ratio; it
looks at sizes, never at use. The rest are weighed: each weigher's raw values are brought to 0..1 and times its multiplier
are added up, and the highest sum wins.

`Nova` is this as a policy: VMs that wait, or are evacuated from a dead host by Masakari, are scheduled in their order, each with
those before it on the books. Nova moves nothing by itself, not off a host in maintenance either. Placement counts what VMs were
promised at both ends of a move. The original acts when a request comes; here it looks for requests every 10 s (ours).

Left out: weighers that are equal on hosts of one kind (PCI devices, server groups, hypervisor version, image properties,
failed builds, cells), aggregates and availability zones, and the retry on another host when a build fails. Memory in MiB,
disk in GiB; the policy takes disks for shared, so that they are alike on all hosts.

Edge cases. A VM that no host has room for, or may have, is scheduled again at the next look. Statistics of guests and measured
use are not read.

Source: nova (nova/weights.py, scheduler/weights/*.py, scheduler/manager.py, scheduler/filters/*, conf/{compute,scheduler}.py),
read in 2026.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvgym.agents.cluster.reading import NOWHERE
from hvgym.agents.cluster.rounds import InRounds, Lane, Move, Round

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


@dataclass(frozen=True)
class Scheduler:
    """Settings of nova.conf that a scheduler of one cluster goes by."""

    cpu_ratio: float = CPU_RATIO
    ram_ratio: float = RAM_RATIO
    reserved_mib: float = RESERVED_HOST_MEMORY_MIB
    multipliers: Multipliers = Multipliers()

    def hosts(self, at: Round) -> Hosts:
        """All hosts, with what Placement holds: VMs that are there and those that are on their way."""
        now, count = at.now, len(at.now.pcpus)
        coming = np.where(at.going == at.here, NOWHERE, at.going)
        held = np.concatenate([at.here, coming])
        kept = held != NOWHERE
        vcpus, mib = (np.tile(part, 2)[kept] for part in (now.vcpus, now.memory_mib))
        held = held[kept]
        return Hosts(
            vcpus=now.pcpus,
            memory_mib=now.total_mib,
            disk_gib=np.ones(count),
            allocated_vcpus=np.bincount(held, vcpus, count).astype(float),
            allocated_mib=np.bincount(held, mib, count).astype(float),
            allocated_gib=np.zeros(count),
            io_tasks=_io_tasks(at),
            cpu_ratio=self.cpu_ratio,
            ram_ratio=self.ram_ratio,
            reserved_mib=self.reserved_mib,
        )

    def scheduled(self, at: Round, vms: Iterable[int]) -> list[Move]:
        """Hosts for some VMs, one after the other; those without one are missing."""
        now, hosts, found = at.now, self.hosts(at), []
        for vm in vms:
            vcpus, mib = float(now.vcpus[vm]), float(now.memory_mib[vm])
            allowed = at.allowed[vm] & now.targets
            host = select_host(hosts, vcpus, mib, allowed=allowed, multipliers=self.multipliers)
            if host is None:
                continue
            found.append((vm, host))
            hosts.allocated_vcpus[host] += vcpus
            hosts.allocated_mib[host] += mib
            hosts.io_tasks[host] += float(now.waits[vm])
        return found


def _io_tasks(at: Round) -> FloatArray:
    """VMs that are built, ``[host]``; live migrations are not among what counts (compute/stats.py, recalled)."""
    building = np.where(at.now.waits, at.going, NOWHERE)
    return np.bincount(building[building != NOWHERE], minlength=len(at.now.pcpus)).astype(float)


class Nova(InRounds):
    """Arguments are settings of nova.conf; reserved_mib is reserved_host_memory_mb, *_weight are ``*_weight_multiplier``."""

    def __init__(
        self,
        cpu_ratio: float = CPU_RATIO,
        ram_ratio: float = RAM_RATIO,
        reserved_mib: float = RESERVED_HOST_MEMORY_MIB,
        ram_weight: float = 1.0,
        cpu_weight: float = 1.0,
        io_weight: float = -1.0,
        every_s: float = 10.0,
    ) -> None:
        self.period_s = every_s
        by = Multipliers(ram=ram_weight, cpu=cpu_weight, io_tasks=io_weight)
        self._scheduler = Scheduler(cpu_ratio, ram_ratio, reserved_mib, by)

    def begin(self, seed: int) -> Lane:
        """See `InRounds`."""
        return _Requests(self._scheduler)


class _Requests(Lane):
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def moves(self, at: Round) -> list[Move]:
        return self._scheduler.scheduled(at, unplaced(at))


def unplaced(at: Round) -> list[int]:
    """VMs to be scheduled, in order."""
    return [int(vm) for vm in np.flatnonzero(at.unplaced)]
