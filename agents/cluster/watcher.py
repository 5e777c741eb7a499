"""OpenStack Watcher's strategies that even out load: audits that end in a list of live migrations.

`workload_balance` takes one VM from a host above a threshold. `workload_stabilization` lowers the standard deviation of the
hosts' loads. Those that empty hosts are in ``watcher_emptying``.

Hosts and VMs stand in the order of the cluster model. A VM's CPU use is in cores (its utilisation times its vCPUs). What
a metric was averaged over is the caller's: 300 s in balance, 720 s for VMs and 600 s for hosts in stabilization.

Left out: disk, VMs that are excluded, and the other strategies (basic consolidation is offline; zone, energy, heat and
airflow have no counterpart here).

Source: watcher (decision_engine/strategy/strategies/workload_balance.py, workload_stabilization.py), read in 2026.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

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
    return np.asarray(np.bincount(vms.host, amount, hosts), float)


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
    helps after those before it, until one metric is below its threshold (QUIRK: one of them is enough). QUIRK: what hosts
    may be promised is not asked.

    Args:
        hosts: measured loads of hosts count, not the sum of their VMs.
        vms: their loads are moved.
        rng: draws the hosts to try.
        settings: defaults without.
        movable: ``[vm]``; the original takes active and paused ones.
    """
    how = settings or Stabilization()
    load, vm_load = _relative(hosts, vms, how.metrics)
    if len(load) < 2 or not (load.std(axis=0) > how.threshold()).any():
        return []
    trials = _improvements(load, vm_load, vms, rng, how, movable)
    return _applied(load, vm_load, vms, [(vm, target) for _, vm, target in trials], how)


def _applied(load: FloatArray, vm_load: FloatArray, vms: Vms, trials: list[Move], how: Stabilization) -> list[Move]:
    """Trials that still lower the deviation after those before them, until a metric is even enough."""
    moves: dict[int, int] = {}
    lowest = 1.0  # QUIRK: not the deviation of now, so nothing is applied from above 1
    for vm, target in trials:
        if vm in moves:
            continue  # in the original's model the VM has left its host
        after = load.copy()
        after[vms.host[vm]] -= vm_load[vm, vms.host[vm]]
        after[target] += vm_load[vm, target]
        deviations = after.std(axis=0)
        if how.weighted(deviations) < lowest:
            lowest, load = float(how.weighted(deviations)), after
            moves[vm] = target
        if (deviations < how.threshold()).any():
            break
    return list(moves.items())


def _relative(hosts: Hosts, vms: Vms, metrics: tuple[str, ...]) -> tuple[FloatArray, FloatArray]:
    """Loads ``[host, metric]`` as shares, and what each VM would add on each host, ``[vm, host, metric]``."""
    parts = [of_metric(metric, hosts, vms) for metric in metrics]
    load = np.stack([used / capacity for capacity, used, _ in parts], axis=-1)
    return load, np.stack([used[:, None] / capacity for capacity, _, used in parts], axis=-1)


def _after(load: FloatArray, vm_load: FloatArray, source: IntArray) -> FloatArray:
    """Loads ``[vm, target, host, metric]`` with each VM alone moved from its source to each target in turn."""
    vm, target = np.arange(len(source))[:, None], np.arange(len(load))
    after = np.tile(load, (len(source), len(load), 1, 1))
    after[vm, target, source[:, None]] -= vm_load[vm, source[:, None]]
    after[vm, target, target] += vm_load
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
    deviation = how.weighted(_after(load, vm_load, vms.host).std(axis=2))
    found = []
    for source in range(len(load)):
        tried = _hosts_to_try(np.array([host for host in range(len(load)) if host != source]), rng, how)
        for vm in np.flatnonzero((vms.host == source) & (True if movable is None else movable)):
            best = now
            for target in next(tried):
                if deviation[vm, target] < best:
                    best = float(deviation[vm, target])
                    found.append((best, int(vm), int(target)))
    return sorted(found, key=lambda trial: trial[0])


def _hosts_to_try(others: IntArray, rng: np.random.Generator, how: Stabilization) -> Iterator[IntArray]:
    """Targets for one VM of a host after the other."""
    if how.host_choice == "cycle":
        yield from (np.array([host]) for host in itertools.cycle(others))
    while True:
        if how.host_choice == "fullsearch":
            yield others
        else:
            yield rng.choice(others, size=min(how.retry_count, len(others)), replace=False)
