"""oVirt's balancer: which VM moves, once a minute, in three policies of a cluster.

A host over its limit for two minutes gives up one of its VMs, the one that uses the least CPU first, to hosts that stay
under the limit with it; the weights (``ovirt_weights``) then choose among these and the host it is on, so they may veto.
At most one VM moves a pass.

Left out: filters but `admitted`, power management of hosts (off by default; HostsInReserve 0).

State outside of these functions: when each host's timer started (`timer_started_s`), which hosts migrate (`busy`).

Sources: ovirt-engine 2026-08, ``bll/scheduling`` (policyunits, utils) and ``0000_config.sql``, as facts of a reading.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hvgym.agents.cluster.ovirt_weights import (
    HIGH_PERCENT,
    SPM_VCPUS,
    SPM_VM_GRACE,
    VCPU_PERCENT,
    Cluster,
    Weights,
    count_weight,
    place,
)

PERIOD_S = 60.0
"""Between two passes of the balancer of a cluster."""

LOW_PERCENT = 20.0
"""LowUtilization of power_saving."""

OVERCOMMIT_S = 120.0
"""CpuOverCommitDurationMinutes: how long a host must have been at a limit."""

THRESHOLD_SHARE = 0.8
"""UtilizationThresholdInPercent: destinations are below this share of the limit."""

HIGH_VM_COUNT, MIGRATION_THRESHOLD = 10, 5
"""Presets of vm_evenly_distributed."""

GRACE_S, GRACE_SPM_S, GRACE_VM_S = 60.0, 20.0, 0.5
"""How long a host that does not answer is waited for; more for the storage pool manager and for each VM."""


@dataclass(frozen=True)
class Proposal:
    """A VM that may move, and hosts it may be on, its own the last."""

    vm: int
    hosts: list[int]


Move = tuple[int, int]
"""A VM and its new host."""


def grace_s(vms: int, spm: bool) -> float:
    """How long the engine waits before it takes a silent host for unresponsive; whole seconds."""
    return float(int(GRACE_S + GRACE_SPM_S * spm + GRACE_VM_S * vms))


def timer_started_s(
    load_percent: float, started_s: float, now_s: float, high: float = HIGH_PERCENT, low: float = 0.0
) -> float:
    """When a host's timer started: it runs from the first reading at or beyond a limit, and is cleared (NaN) between.

    One timer serves both limits. QUIRK: power_saving means to take VMs from hosts at 64 % when High is 80, but their timer
    starts at 80, so a host between the two is no source after all.
    """
    if low < load_percent < high:
        return math.nan
    return now_s if math.isnan(started_s) else started_s


def admitted(cluster: Cluster, high: float = HIGH_PERCENT) -> np.ndarray:
    """The filter CpuOverload: ``[host]``, false where load is over `high` and the timer has run for two minutes."""
    return ~((cluster.load_percent > high) & (cluster.limit_for_s >= OVERCOMMIT_S))


def evenly_distributed(
    cluster: Cluster,
    busy: np.ndarray,
    high: float = HIGH_PERCENT,
    least_mib: float = 0.0,
    under_used_mib: float = 0.0,
) -> list[Proposal]:
    """Proposals in order: for CPU, then, where limits are set, for memory (a host below `least_mib` that has two VMs).

    `busy`, ``[host]``: those that migrate a VM; they take no part, nor does a cluster with one host left.
    """
    load, count = cluster.load_percent, cluster.vm_count
    settled = np.isnan(cluster.limit_for_s) | (cluster.limit_for_s >= OVERCOMMIT_S)
    # QUIRK: one timer for both limits, so a host that has just become idle is no destination for two minutes.
    below = _sorted(np.flatnonzero(~busy & settled & (load < _under(high))), cluster)
    proposals = _proposals(cluster, _over(cluster, busy, high), below, high, least_mib)
    short = np.flatnonzero(~busy & (cluster.free_mib < least_mib) & (count > 1))
    roomy = np.flatnonzero(~busy & (cluster.free_mib > under_used_mib))
    return proposals + _proposals(cluster, short.tolist(), roomy.tolist(), high, least_mib) if _two(busy) else []


def power_saving(
    cluster: Cluster,
    busy: np.ndarray,
    high: float = HIGH_PERCENT,
    low: float = LOW_PERCENT,
    least_mib: float = 0.0,
    under_used_mib: float = math.inf,
) -> list[Proposal]:
    """As `evenly_distributed`; sources are hosts over 64 (for a limit of 80), then those under `low`, so as to empty them."""
    load, count = cluster.load_percent, cluster.vm_count
    settled = np.isnan(cluster.limit_for_s) | (cluster.limit_for_s >= OVERCOMMIT_S)
    under = np.flatnonzero(~busy & settled & (load < low) & (count >= 1))
    sources = _over(cluster, busy, _under(high)) + _sorted(under, cluster)
    over = _over(cluster, busy, high)
    targets = [host for host in np.flatnonzero(~busy).tolist() if host not in over]
    proposals = _proposals(cluster, sources, targets, high, least_mib)
    short = np.flatnonzero(~busy & (cluster.free_mib < least_mib) & (count > 1)).tolist()
    empty = np.flatnonzero(~busy & (cluster.free_mib > under_used_mib) & (count >= 1)).tolist()
    roomy = np.flatnonzero(~busy & (cluster.free_mib > least_mib)).tolist()
    return proposals + _proposals(cluster, short + empty, roomy, high, least_mib) if _two(busy) else []


def vm_evenly_distributed(
    cluster: Cluster,
    busy: np.ndarray,
    high_vm_count: int = HIGH_VM_COUNT,
    threshold: int = MIGRATION_THRESHOLD,
    spm_grace: int = SPM_VM_GRACE,
    high: float = HIGH_PERCENT,
) -> list[Proposal]:
    """Proposals from the hosts with the most VMs, if these are at least `high_vm_count`, to hosts with `threshold` fewer."""
    count = count_weight(cluster, 0, spm_grace)
    worst = count[~busy].max(initial=0.0)
    if not _two(busy) or worst < high_vm_count:
        return []
    sources = np.flatnonzero(~busy & (count >= worst)).tolist()
    targets = np.flatnonzero(~busy & (worst - count >= threshold)).tolist()
    return _proposals(cluster, sources, targets, high, 0.0)


def move(cluster: Cluster, proposals: Sequence[Proposal], weights: Weights, factors: Sequence[float]) -> Move | None:
    """The one move of a pass: the first proposal whose best host is not the one that the VM is on."""
    for proposal in proposals:
        host = place(cluster, proposal.vm, proposal.hosts, weights, factors)
        if host != cluster.vm_host[proposal.vm]:
            return proposal.vm, host
    return None


def _under(high: float) -> float:
    """Load below which a host may take VMs: 64 for a limit of 80."""
    return min(float(int(THRESHOLD_SHARE * high)), high - VCPU_PERCENT)


def _over(cluster: Cluster, busy: np.ndarray, limit: float) -> list[int]:
    """Hosts at a limit for two minutes that have VMs, the most loaded first."""
    long = cluster.limit_for_s >= OVERCOMMIT_S
    over = np.flatnonzero(~busy & long & (cluster.load_percent >= limit) & (cluster.vm_count > 0))
    return over[np.argsort(-cluster.load_percent[over], kind="stable")].tolist()


def _sorted(hosts: np.ndarray, cluster: Cluster) -> list[int]:
    """Hosts, the least loaded first."""
    return hosts[np.argsort(cluster.load_percent[hosts], kind="stable")].tolist()


def _two(busy: np.ndarray) -> bool:
    return int((~busy).sum()) >= 2


def _proposals(
    cluster: Cluster, sources: Sequence[int], targets: Sequence[int], high: float, least_mib: float
) -> list[Proposal]:
    """For each source in order, its VMs, the least CPU first, with the targets that stay within limits with it."""
    load = cluster.cpu_load_percent + VCPU_PERCENT * SPM_VCPUS * cluster.spm
    found = []
    for source in sources:
        for vm in _smallest_first(cluster, source):
            fits = (load + cluster.vm_load(vm)) / cluster.cpus <= high
            fits &= cluster.free_mib - cluster.vm_mib[vm] > least_mib
            if valid := [host for host in targets if host != source and fits[host]]:
                found.append(Proposal(vm, [*valid, source]))
    return found


def _smallest_first(cluster: Cluster, host: int) -> list[int]:
    vms = np.flatnonzero(cluster.vm_host == host)
    use = np.nan_to_num(cluster.vm_cpu_percent[vms]) * cluster.vm_vcpus[vms]
    return vms[np.argsort(use, kind="stable")].tolist()
