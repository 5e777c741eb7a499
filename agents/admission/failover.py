"""vSphere HA's admission control: does a cluster still run all its VMs when hosts fail?

Two policies look at reservations, never at use. By slots: a slot is the largest CPU and the largest memory reservation of
any VM, every host holds so many, and when the largest hosts fail the others must have a slot for every VM. By percentage:
of each resource a share must be left that no VM has reserved.

One VM with a large reservation makes every slot large; small reservations admit whatever comes, and after a failover the
rest of the cluster is overcommitted. Left out: caps on the size of a slot (das.slotcpuinmhz, das.slotmeminmb), and the
share as failures over hosts (6.5 and later).

Sources: VMware's vSphere Availability guide (6.5, 6.7) for slots and 32 MHz; yellow-bricks.com's HA deepdive for the
percentage and the example of three hosts in the tests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_CPU_MHZ = 32.0
"""What vSphere HA takes a VM without a CPU reservation to reserve."""


@dataclass(frozen=True)
class Resources:
    """Of a host, or reserved by a VM (memory with its overhead)."""

    cpu_mhz: float
    memory_mib: float


def slot_size(vms: Sequence[Resources]) -> Resources:
    """The largest reservation of each resource; there is no default for memory."""
    cpu = max((vm.cpu_mhz or DEFAULT_CPU_MHZ for vm in vms), default=DEFAULT_CPU_MHZ)
    return Resources(cpu, max((vm.memory_mib for vm in vms), default=0.0))


def host_slots(host: Resources, slot: Resources) -> float:
    """Whole slots that a host holds; infinite when a slot takes nothing that it has."""
    by_memory = host.memory_mib / slot.memory_mib if slot.memory_mib > 0.0 else math.inf
    slots = min(host.cpu_mhz / slot.cpu_mhz, by_memory)
    return math.floor(slots) if slots < math.inf else slots


def failover_capacity(hosts: Sequence[Resources], vms: Sequence[Resources]) -> int:
    """How many of the largest hosts may fail so that the others still have a slot for every VM."""
    slots = sorted((host_slots(host, slot_size(vms)) for host in hosts), reverse=True)
    return max((lost for lost in range(len(slots) + 1) if sum(slots[lost:]) >= len(vms)), default=0)


def unreserved_share(total: Resources, vms: Sequence[Resources]) -> Resources:
    """Of each resource, the share that no VM has reserved."""
    cpu = sum(vm.cpu_mhz or DEFAULT_CPU_MHZ for vm in vms)
    memory = sum(vm.memory_mib for vm in vms)
    return Resources((total.cpu_mhz - cpu) / total.cpu_mhz, (total.memory_mib - memory) / total.memory_mib)
