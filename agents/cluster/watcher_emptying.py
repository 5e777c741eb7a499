"""OpenStack Watcher's strategies that empty hosts: consolidation onto few of them, and maintenance of one.

`vm_workload_consolidation` relieves hosts that are over their CPU and then packs from the least used into the most used;
its metrics are means of 3600 s, the caller's affair. `host_maintenance` empties one host.

Left out: disk, VMs that are excluded, and hosts that the original drops from its search once they are saturated (no vCPU
free, 128 MiB or less, or use at capacity): nothing fits there anyway but VMs of at most 128 MiB.

Source: watcher (decision_engine/strategy/strategies/vm_workload_consolidation.py, host_maintenance.py), read in 2026; of
its newest consolidation only the tests.
"""

from dataclasses import dataclass

import numpy as np

from hvgym.agents.cluster.watcher import BoolArray, Hosts, Move, Vms, has_room, per_host


@dataclass(frozen=True)
class Consolidation:
    """What `vm_workload_consolidation` plans."""

    moves: list[Move]
    emptied: list[int]
    """Hosts without VMs afterwards, which the strategy disables."""


def vm_workload_consolidation(hosts: Hosts, vms: Vms, movable: BoolArray | None = None) -> Consolidation:
    """Relieve hosts that are over their CPU, then pack from the least used host into the most used.

    Several moves of one VM become one, which then stands behind the others, or none if it returns.
    """
    plan = _Packing(hosts, vms, np.ones(len(vms.host), bool) if movable is None else movable)
    plan.offload()
    plan.consolidate()
    times: dict[int, list[int]] = {}
    for vm, host in plan.moves:
        times.setdefault(vm, []).append(host)
    once = [(vm, places[0]) for vm, places in times.items() if len(places) == 1]
    more = [(vm, places[-1]) for vm, places in times.items() if len(places) > 1 and places[-1] != vms.host[vm]]
    return Consolidation(once + more, [h for h in range(len(hosts.vcpus)) if h not in plan.host])


class _Packing:
    """Where VMs would be and what hosts would hold, planned moves included.

    Use is the greater of the host's own measurement and the sum of its VMs; ``[host, 2]`` and ``[vm, 2]`` are CPU and memory.
    QUIRK: a host's CPU here is its vCPUs times Nova's ratio, so at 4.0 it is never over it. QUIRK: a VM that used nothing is
    taken for one without a measurement, which counts as all that it was promised.
    """

    def __init__(self, hosts: Hosts, vms: Vms, movable: BoolArray) -> None:
        count = len(hosts.vcpus)
        self.movable, self.host = movable, np.array(vms.host)
        self.capacity = np.stack([hosts.allocatable_vcpus, hosts.allocatable_mib], axis=1)
        self.promise = np.stack([vms.vcpus, vms.memory_mib], axis=1)
        self.use = np.stack([vms.used_cores, vms.used_mib], axis=1)
        self.use = np.where(self.use == 0.0, self.promise, self.use)
        self.promised = np.stack([per_host(vms, part, count) for part in self.promise.T], axis=1)
        sums = np.stack([per_host(vms, part, count) for part in self.use.T], axis=1)
        self.used = np.maximum(sums, np.stack([hosts.used_cores, hosts.used_mib], axis=1))
        self.moves: list[Move] = []

    def ascending(self) -> list[int]:
        """Hosts from the least CPU use up."""
        return [int(host) for host in np.argsort(self.used[:, 0], kind="stable")]

    def vms_of(self, host: int) -> list[int]:
        """VMs of a host that may move, from the least CPU use up."""
        here = np.flatnonzero((self.host == host) & self.movable)
        return [int(vm) for vm in here[np.argsort(self.use[here, 0], kind="stable")]]

    def overloaded(self, host: int) -> bool:
        """By CPU alone."""
        return bool(self.used[host, 0] > self.capacity[host, 0])

    def takes(self, vm: int) -> BoolArray:
        """Hosts ``[host]`` with room for a VM, by what is used and by what is promised."""
        used, promised = self.used + self.use[vm], self.promised + self.promise[vm]
        return np.asarray(((used <= self.capacity) & (promised <= self.capacity)).all(axis=1))

    def place(self, vm: int, hosts: list[int]) -> None:
        """Move a VM to the first of some hosts that takes it, or leave it."""
        takes = self.takes(vm)
        host = next((host for host in hosts if takes[host]), None)
        if host is None:
            return
        for table, part in ((self.used, self.use[vm]), (self.promised, self.promise[vm])):
            table[self.host[vm]] -= part
            table[host] += part
        self.host[vm] = host
        self.moves.append((vm, host))

    def offload(self) -> None:
        """Hosts over their CPU, the most used first, lose their smallest VMs to the most used hosts that take them."""
        order = self.ascending()[::-1]
        for host in order:
            for vm in self.vms_of(host):
                if not self.overloaded(host):
                    break
                self.place(vm, [other for other in order if other != host])

    def consolidate(self) -> None:
        """From the least used host up, the largest VMs first, to the most used host that takes them, never to a lesser one."""
        order = self.ascending()
        for rank, host in enumerate(order):
            for vm in self.vms_of(host)[::-1]:
                self.place(vm, order[:rank:-1])


@dataclass(frozen=True)
class Maintenance:
    """How a host is emptied."""

    live: list[tuple[int, int | None]]
    """(vm, host) to migrate; None leaves the host to Nova's scheduler."""
    cold: list[tuple[int, int | None]]
    stopped: list[int]
    enabled: int | None
    """Spare host to be enabled first."""


def host_maintenance(
    hosts: Hosts,
    vms: Vms,
    host: int,
    backup: int | None = None,
    spares: BoolArray | None = None,
    live_allowed: bool = True,
    cold_allowed: bool = True,
) -> Maintenance:
    """Empty one host: all onto the backup, or else onto the smallest spare that takes them all, or else where Nova puts them.

    QUIRK: a backup too small for all is not used for some.

    Args:
        hosts: by what is promised; use does not count.
        vms: active ones migrate live, others cold; without live they migrate cold; without both they are stopped.
        host: to be emptied.
        backup: named by the operator.
        spares: ``[host]`` that Watcher itself disabled before.
        live_allowed: not disable_live_migration.
        cold_allowed: not disable_cold_migration.
    """
    here = vms.host == host
    room = has_room(hosts, vms, float(vms.vcpus[here].sum()), float(vms.memory_mib[here].sum()))
    unused = np.zeros(len(room), bool) if spares is None else np.array(spares, bool)
    unused[host] = False
    by_size = [
        int(spare) for spare in np.argsort(hosts.allocatable_vcpus, kind="stable") if unused[spare] and room[spare]
    ]
    target = backup if backup is not None and room[backup] else next(iter(by_size), None)
    enabled = target if target is not None and unused[target] else None
    plan = Maintenance([], [], [], enabled)
    for vm in (int(vm) for vm in np.flatnonzero(here)):
        if vms.active[vm] and live_allowed:
            plan.live.append((vm, target))
        elif cold_allowed:
            plan.cold.append((vm, target))
        elif vms.active[vm]:
            plan.stopped.append(vm)
    return plan
