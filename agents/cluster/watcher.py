"""OpenStack Watcher's strategies: audits that end in a list of live migrations.

`workload_balance` takes one VM from a host above a threshold. `workload_stabilization` lowers the standard deviation of the
hosts' loads. `vm_workload_consolidation` empties as many hosts as it can. `host_maintenance` empties a given one.

Hosts and VMs stand in the order of the cluster model. A VM's CPU use is in cores (its utilisation times its vCPUs). What
a metric was averaged over is the caller's: 300 s in balance, 720 s of VMs and 600 s of hosts in stabilization, 3600 s in
consolidation.

Left out: disk, VMs that are excluded, and the other strategies (basic consolidation is offline; zone, energy, heat and
airflow have no counterpart here).

Source: watcher (decision_engine/strategy/strategies/*.py), read in 2026. Its newest consolidation could be read only in its
tests: that a saturated host is passed over before a VM is tried on it is our reading.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hvgym.envs.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Move = tuple[int, int]

BALANCE_THRESHOLD = 25.0
"""Percent of a host's CPU or memory from which it is a source (workload_balance.py)."""
STABILIZATION_THRESHOLD = 0.1
"""Standard deviation of the hosts' loads, per metric (workload_stabilization.py)."""
SATURATED_MIB = 128.0
"""Free memory up to which a host counts as full (vm_workload_consolidation.py)."""


@dataclass(frozen=True)
class Hosts:
    """Hosts that are up and enabled; each array is ``[host]``."""

    vcpus: FloatArray
    memory_mib: FloatArray
    allocatable_vcpus: FloatArray
    """What VMs may be promised: vCPUs times Nova's ratio, less what is reserved."""
    allocatable_mib: FloatArray
    used_cores: FloatArray
    """As the host measures it; so is memory. Balance does not ask for them."""
    used_mib: FloatArray


@dataclass(frozen=True)
class Vms:
    """VMs on those hosts; each array is ``[vm]``."""

    host: IntArray
    vcpus: FloatArray
    memory_mib: FloatArray
    used_cores: FloatArray
    used_mib: FloatArray
    active: BoolArray
    """Neither stopped nor paused."""


def of_metric(metric: str, hosts: Hosts, vms: Vms) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Capacity and measured use ``[host]`` and the VMs' use ``[vm]`` of ``cpu`` (cores) or ``ram`` (MiB).

    Raises:
        InputError: for another metric.
    """
    if metric not in ("cpu", "ram"):
        raise InputError(f"metric={metric!r}: expected cpu or ram")
    if metric == "cpu":
        return hosts.vcpus, hosts.used_cores, vms.used_cores
    return hosts.memory_mib, hosts.used_mib, vms.used_mib


def per_host(vms: Vms, amount: FloatArray, hosts: int) -> FloatArray:
    """Sum ``[host]`` of something that VMs have."""
    return np.bincount(vms.host, amount, hosts)


def has_room(hosts: Hosts, vms: Vms, vcpus: float, memory_mib: float) -> BoolArray:
    """Hosts ``[host]`` that may be promised this much more."""
    count = len(hosts.vcpus)
    cpu = hosts.allocatable_vcpus - per_host(vms, vms.vcpus, count) >= vcpus
    return cpu & (hosts.allocatable_mib - per_host(vms, vms.memory_mib, count) >= memory_mib)


def workload_balance(hosts: Hosts, vms: Vms, metric: str = "cpu", threshold: float = BALANCE_THRESHOLD) -> list[Move]:
    """One migration (vm, host) at most.

    The VM is the one of the fullest host whose load comes nearest to the host's excess over the mean, and not above it. If
    no host takes it, no other VM is tried (QUIRK).
    """
    capacity, _, load = of_metric(metric, hosts, vms)
    used = per_host(vms, load, len(capacity))
    percent = used / capacity * 100.0
    vm = _vm_nearest_to_excess(vms, load, used, [h for h in _descending(percent) if percent[h] >= threshold])
    if vm is None:
        return []
    takes = (percent < threshold) & (load[vm] + used < threshold / 100.0 * capacity)
    takes &= has_room(hosts, vms, vms.vcpus[vm], vms.memory_mib[vm])
    return [(vm, int(np.argmin(np.where(takes, percent, np.inf))))] if takes.any() else []


def _vm_nearest_to_excess(vms: Vms, load: FloatArray, used: FloatArray, sources: list[int]) -> int | None:
    """Of the first source that has an active VM not larger than its excess, the largest such VM; the first of equals."""
    for host in sources:
        left = np.where((vms.host == host) & vms.active, used[host] - used.mean() - load, -1.0)
        if (left >= 0.0).any():
            return int(np.argmin(np.where(left >= 0.0, left, np.inf)))
    return None


def _descending(values: FloatArray) -> list[int]:
    """Indices from the greatest down; equals stay in their order."""
    return [int(index) for index in np.argsort(-values, kind="stable")]


@dataclass(frozen=True)
class Stabilization:
    """Settings of `workload_stabilization`."""

    metrics: tuple[str, ...] = ("cpu",)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Of metrics that have another than `STABILIZATION_THRESHOLD`."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of metrics that have another than 1."""
    host_choice: str = "retry"
    """Which targets a VM is tried on: ``retry`` some at random, ``cycle`` the next one, ``fullsearch`` all."""
    retry_count: int = 1

    def __post_init__(self) -> None:
        if self.host_choice not in ("retry", "cycle", "fullsearch"):
            raise InputError(f"host_choice={self.host_choice!r}: expected retry, cycle or fullsearch")

    def threshold(self) -> FloatArray:
        """``[metric]``."""
        return np.array([self.thresholds.get(metric, STABILIZATION_THRESHOLD) for metric in self.metrics])

    def weighted(self, deviations: FloatArray) -> FloatArray:
        """Sum over the last axis, ``[..., metric]``."""
        return deviations @ np.array([self.weights.get(metric, 1.0) for metric in self.metrics])


def workload_stabilization(
    hosts: Hosts,
    vms: Vms,
    rng: np.random.Generator,
    settings: Stabilization | None = None,
    movable: BoolArray | None = None,
) -> list[Move]:
    """Migrations (vm, host) in the order in which they lower the standard deviation of the hosts' loads.

    Every VM is tried on some hosts against the loads of now; what improves on these is sorted and applied while it still
    helps after those before it, until one metric is below its threshold (QUIRK: one of them is enough). QUIRK: allocation is
    not asked.

    Args:
        hosts: measured loads of hosts count, not the sum of their VMs.
        vms: their loads are moved.
        rng: draws the hosts to try.
        settings: defaults without.
        movable: ``[vm]``; the original takes active and paused ones.
    """
    how = settings or Stabilization()
    load, vm_load = _relative(hosts, vms, how.metrics)
    limit = how.threshold()
    if len(load) < 2 or not (load.std(axis=0) > limit).any():
        return []
    moves: list[Move] = []
    lowest = 1.0
    for _, vm, target in _improvements(load, vm_load, vms, rng, how, movable):
        if any(vm == done for done, _ in moves):
            continue  # the original's model has no such VM on that host any more
        after = _after(load, vm_load[vm], int(vms.host[vm]), np.array([target]))[0]
        deviations = after.std(axis=0)
        if how.weighted(deviations) < lowest:
            lowest, load = float(how.weighted(deviations)), after
            moves.append((vm, target))
        if (deviations < limit).any():
            break
    return moves


def _relative(hosts: Hosts, vms: Vms, metrics: tuple[str, ...]) -> tuple[FloatArray, FloatArray]:
    """Loads ``[host, metric]`` as shares, and what each VM would add on each host, ``[vm, host, metric]``."""
    parts = [of_metric(metric, hosts, vms) for metric in metrics]
    load = np.stack([used / capacity for capacity, used, _ in parts], axis=-1)
    return load, np.stack([used[:, None] / capacity for capacity, _, used in parts], axis=-1)


def _after(load: FloatArray, vm_load: FloatArray, source: int, targets: IntArray) -> FloatArray:
    """Loads ``[target, host, metric]`` with one VM moved to each target in turn."""
    after = np.tile(load, (len(targets), 1, 1))
    after[:, source] -= vm_load[source]
    after[np.arange(len(targets)), targets] += vm_load[targets]
    return after


def _improvements(
    load: FloatArray,
    vm_load: FloatArray,
    vms: Vms,
    rng: np.random.Generator,
    how: Stabilization,
    movable: BoolArray | None,
) -> list[tuple[float, int, int]]:
    """(deviation afterwards, vm, host) of each trial that is better than now and than the VM's trials before, sorted."""
    now = float(how.weighted(load.std(axis=0)))
    found = []
    for source in range(len(load)):
        tried = _hosts_to_try(np.array([host for host in range(len(load)) if host != source]), rng, how)
        for vm in np.flatnonzero((vms.host == source) & (True if movable is None else movable)):
            best = now
            targets = next(tried)
            for value, target in zip(_trials(load, vm_load[vm], source, targets, how), targets, strict=True):
                if value < best:
                    best = float(value)
                    found.append((best, int(vm), int(target)))
    return sorted(found, key=lambda trial: trial[0])


def _trials(load: FloatArray, vm_load: FloatArray, source: int, targets: IntArray, how: Stabilization) -> FloatArray:
    """Weighted deviation ``[target]`` with the VM on each target."""
    return how.weighted(_after(load, vm_load, source, targets).std(axis=1))


def _hosts_to_try(others: IntArray, rng: np.random.Generator, how: Stabilization) -> Iterator[IntArray]:
    """Targets for one VM of a host after the other."""
    if how.host_choice == "cycle":
        yield from (np.array([host]) for host in itertools.cycle(others))
    while True:
        if how.host_choice == "fullsearch":
            yield others
        else:
            yield rng.choice(others, size=min(how.retry_count, len(others)), replace=False)


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

    QUIRK: a host's CPU here is its vCPUs times Nova's ratio, so at 4.0 it is never over it. Use is the greater of the host's
    own measurement and the sum of its VMs; ``[host, 2]`` and ``[vm, 2]`` are CPU and memory.
    """

    def __init__(self, hosts: Hosts, vms: Vms, movable: BoolArray) -> None:
        count = len(hosts.vcpus)
        self.movable, self.host = movable, np.array(vms.host)
        self.capacity = np.stack([hosts.allocatable_vcpus, hosts.allocatable_mib], axis=1)
        self.promise = np.stack([vms.vcpus, vms.memory_mib], axis=1)
        self.use = np.stack([vms.used_cores, vms.used_mib], axis=1)
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

    def saturated(self, host: int) -> bool:
        """Whether nothing more is tried on a host."""
        free = self.capacity[host] - self.promised[host]
        return bool((free <= [0.0, SATURATED_MIB]).any() or (self.used[host] >= self.capacity[host]).any())

    def fits(self, vm: int, host: int) -> bool:
        """By what is used and by what is promised."""
        room = self.capacity[host]
        used, promised = self.used[host] + self.use[vm], self.promised[host] + self.promise[vm]
        return not self.saturated(host) and bool((used <= room).all() and (promised <= room).all())

    def place(self, vm: int, hosts: list[int]) -> None:
        """Move a VM to the first of some hosts that takes it, or leave it."""
        for host in hosts:
            if self.fits(vm, host):
                for table, part in ((self.used, self.use[vm]), (self.promised, self.promise[vm])):
                    table[self.host[vm]] -= part
                    table[host] += part
                self.host[vm] = host
                self.moves.append((vm, host))
                return

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
    target = backup if backup is not None and room[backup] else (by_size or [None])[0]
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
