"""Kubernetes' descheduler: LowNodeUtilization, and the profile KubeVirtRelieveAndMigrate of OpenShift that is built on it.

Hosts are sorted into under-used (in all resources) and over-used (in any). VMs of over-used hosts are evicted, those of
low priority first, until the host is at its target or the under-used ones have no room left. An eviction of a VM starts a
live migration; where it goes is the scheduler's affair, not the descheduler's.

RelieveAndMigrate has one number a host (`node_pressure`), built from utilisation and pressure stall information (the
kernel needs ``psi=1``). It cannot tell what a VM costs, so it evicts up to a limit a host without looking again.

Left out: namespaces, labels and taints but the soft one on over-used hosts (`Evictions.over`), pods that are not VMs,
HighNodeUtilization, the cooldown after a migration (its constants are in a plugin that was not found).

State outside of these functions: when the last cycle was, what migrates (`evictable`).

Sources: descheduler 2026-06 (``pkg/framework/plugins/nodeutilization``) and OpenShift's operator (rules of Prometheus,
profiles), as facts of a reading.
"""

import math
from dataclasses import dataclass

import numpy as np

RULE_PERIOD_S, RATE_S = 30.0, 60.0
"""How often the rules of Prometheus are evaluated, and over what their rates are taken."""

PER_HOST, PER_CYCLE = 2, 5
"""Evictions that RelieveAndMigrate allows a host, and in all."""

HIGH_UTILISATION = 0.7
"""Pressure counts only where utilisation is above."""

GAIN = 3.0
"""Of a host's distance from the mean."""

RELIEVE_LOW, RELIEVE_HIGH = 0.0, 10.0
"""AsymmetricLow: an under-used host is at most at the mean, an over-used one more than ten points above."""

STATIC_LEVELS = {"low": (10.0, 30.0), "medium": (20.0, 50.0), "high": (40.0, 70.0)}
"""Thresholds in percent without deviations; medium is the default."""

RAW_UNITS = (1000.0, 1048576.0, 1.0)
"""Kubernetes counts CPU in thousandths of a core, memory in bytes, and VMs."""

ROUNDING = 1e-9
"""Three times 0.05 is 15 %, however a float has it."""


@dataclass(frozen=True)
class Evictions:
    """What a cycle evicts, in order, and which hosts it found under-used and over-used (``[host]``)."""

    vms: list[int]
    under: np.ndarray
    over: np.ndarray


@dataclass(frozen=True)
class Vms:
    """VMs of a cluster."""

    host: np.ndarray
    """``[vm]``, host index; negative where it does not run."""
    priority: np.ndarray
    """``[vm]``, less goes first."""
    qos: np.ndarray
    """``[vm]``: 0 best effort, 1 burstable, 2 guaranteed; less goes first among equal priorities."""
    evictable: np.ndarray
    """``[vm]``, whether it may be moved at all, and does not migrate already."""
    usage: np.ndarray | None = None
    """``[vm, resource]`` in the units of hosts; None when the metric cannot tell."""


def node_pressure(
    cpu_util: np.ndarray, cpu_psi: np.ndarray, memory_util: np.ndarray, memory_psi: np.ndarray
) -> np.ndarray:
    """``[host]`` in 0 to 1: how far a host is above the mean of all in utilisation and pressure of CPU and memory.

    Utilisation of memory is 1 - available/allocatable; all are 0 to 1, of one minute.
    """
    dimensions = np.stack(
        [
            cpu_util,
            np.where(cpu_util > HIGH_UTILISATION, cpu_psi, 0.0),
            memory_util,
            np.where(memory_util > HIGH_UTILISATION, memory_psi, 0.0),
        ]
    )
    above = np.maximum(0.0, dimensions - dimensions.mean(axis=1, keepdims=True))
    return np.minimum(1.0, GAIN * np.sqrt((above**2).sum(axis=0)))


def whole_percent(values: np.ndarray) -> np.ndarray:
    """Shares as whole percentages, cut off, but not for a rounding error."""
    return np.floor(values * 100.0 + ROUNDING)


def deviation_thresholds(percent: np.ndarray, below: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high thresholds around the mean of hosts, ``[resource]`` in percent of 0 to 100; NaN sets none."""
    mean = percent.mean(axis=0)
    return np.clip(mean - below, 0.0, 100.0), np.clip(mean + above, 0.0, 100.0)


def classify(
    percent: np.ndarray, low: np.ndarray, high: np.ndarray, schedulable: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which hosts are under-used and which over-used; those that are cordoned are never under-used, nor one that is both.

    `percent` is ``[host, resource]``; a resource whose threshold is NaN is not looked at.
    """
    under = ~(percent > low).any(axis=1) & schedulable
    return under, (percent > high).any(axis=1) & ~under


def low_node_utilisation(
    usage: np.ndarray,
    capacity: np.ndarray,
    vms: Vms,
    low: np.ndarray,
    high: np.ndarray,
    schedulable: np.ndarray,
    units: tuple[float, ...] = RAW_UNITS,
    deviation: bool = False,
    number_of_nodes: int = 0,
    per_host: int | None = None,
    total: int | None = None,
) -> Evictions:
    """One cycle. `usage` and `capacity` are ``[host, resource]``, thresholds ``[resource]`` in percent (NaN: none).

    With `deviation`, `low` and `high` are distances from the mean. Nothing happens while no host is over-used, none or at
    most `number_of_nodes` are under-used, or all are. `units` say what one unit of a resource is in Kubernetes' own.
    """
    raw, most = np.floor(usage * units + ROUNDING), np.floor(capacity * units + ROUNDING)
    percent = raw / np.maximum(most, 1.0) * 100.0
    if deviation:
        low, high = deviation_thresholds(percent, low, high)
    under, over = classify(percent, low, high, schedulable)
    nothing = Evictions([], under, over)
    if not over.any() or under.all() or under.sum() <= max(number_of_nodes, 0):
        return nothing
    target = np.where(np.isnan(high), most, np.floor(high * 0.01 * most + ROUNDING))
    room = (target - raw)[under].sum(axis=0)
    evicted: list[int] = []
    for host in _fullest_first(raw, over):
        left = None if total is None else total - len(evicted)
        evicted += _evict(host, raw[host].copy(), target[host], room, vms, units, per_host, left)
    return Evictions(evicted, under, over)


def relieve_and_migrate(
    pressure: np.ndarray,
    vms: Vms,
    schedulable: np.ndarray,
    below: float = RELIEVE_LOW,
    above: float = RELIEVE_HIGH,
    per_host: int | None = PER_HOST,
    total: int | None = PER_CYCLE,
    deviation: bool = True,
) -> Evictions:
    """One cycle of KubeVirtRelieveAndMigrate on the hosts' `pressure`, as of `node_pressure`.

    QUIRK: what a VM contributes to the number is not known, so nothing is tested again after an eviction; with no limit a
    host, one VM goes.
    """
    value = whole_percent(pressure)[:, None]
    unknown = Vms(vms.host, vms.priority, vms.qos, vms.evictable)
    low, high = np.array([below]), np.array([above])
    return low_node_utilisation(
        value,
        np.full_like(value, 100.0),
        unknown,
        low,
        high,
        schedulable,
        (1.0,),
        deviation,
        per_host=per_host,
        total=total,
    )


def _fullest_first(raw: np.ndarray, over: np.ndarray) -> list[int]:
    """Over-used hosts in order of use.

    QUIRK: use is the plain sum of thousandths of a core, bytes and VMs, so memory decides alone.
    """
    hosts = np.flatnonzero(over)
    return hosts[np.argsort(-raw[hosts].sum(axis=1), kind="stable")].tolist()


def _evict(
    host: int,
    used: np.ndarray,
    target: np.ndarray,
    room: np.ndarray,
    vms: Vms,
    units: tuple[float, ...],
    per_host: int | None,
    left: int | None,
) -> list[int]:
    """VMs that go from one host; takes what they use from `used` and from `room`, which all hosts share."""
    evicted: list[int] = []
    if not _goes_on(used, target, room):
        return evicted
    most = min(math.inf if per_host is None else per_host, math.inf if left is None else left)
    for vm in _lowest_priority_first(vms, host):
        if len(evicted) >= most:
            break
        evicted.append(vm)
        if vms.usage is None:
            if per_host is None:
                break
            continue
        taken = np.floor(vms.usage[vm] * units + ROUNDING)
        used -= taken
        room -= taken
        if not _goes_on(used, target, room):
            break
    return evicted


def _goes_on(used: np.ndarray, target: np.ndarray, room: np.ndarray) -> bool:
    """Whether the host is above its target in any resource, and under-used hosts have room in all."""
    return bool((used > target).any() and (room > 0.0).all())


def _lowest_priority_first(vms: Vms, host: int) -> list[int]:
    there = np.flatnonzero((vms.host == host) & vms.evictable)
    return there[np.lexsort((vms.qos[there], vms.priority[there]))].tolist()
