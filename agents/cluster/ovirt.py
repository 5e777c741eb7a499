"""oVirt's scheduler: where a VM starts, and which VM the balancer moves once a minute.

Placement: weight units give every host a weight, less is better; a selector turns weights into ranks and adds the ranks
by factors. Balancing: a host over its limit for two minutes gives up one of its VMs, the one that uses the least CPU
first, to hosts that stay under the limit with it; the weights then choose among these and the host it is on, so they may
veto. At most one VM moves a pass.

`Cluster` holds readings of one cluster. Left out: filters but `admitted`, affinity, NUMA, preferred hosts and the other
units that see nothing here (their factors are in `FACTORS`), CPUs that are pinned exclusively, power management of hosts
(off by default; HostsInReserve 0), threads counted as cores. CPU use is a whole percentage in the original; here it may
have a fraction, which the host's load rounds up.

State outside of these functions: when each host's timer started (`timer_started_s`), which hosts migrate (`busy`).

Sources: ovirt-engine 2026-08, ``bll/scheduling`` (policyunits, utils) and ``0000_config.sql``, as facts of a reading.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

PERIOD_S = 60.0
"""Between two passes of the balancer of a cluster."""

HIGH_PERCENT = 80.0
"""HighUtilization in the presets evenly_distributed and power_saving; 90 where nothing sets it."""

LOW_PERCENT = 20.0
"""LowUtilization of power_saving."""

OVERCOMMIT_S = 120.0
"""CpuOverCommitDurationMinutes: how long a host must have been at a limit."""

VCPU_PERCENT = 10.0
"""VcpuConsumptionPercentage: what a vCPU of a VM that does not run yet is taken to use."""

SPM_VCPUS = 1.0
"""SpmVCpuConsumption: vCPUs that the storage pool manager costs its host."""

THRESHOLD_SHARE = 0.8
"""UtilizationThresholdInPercent: destinations are below this share of the limit."""

MOST_WEIGHT = 1000
"""MaxSchedulerWeight."""

HIGH_VM_COUNT, MIGRATION_THRESHOLD, SPM_VM_GRACE = 10, 5, 5
"""Presets of vm_evenly_distributed."""

FACTORS = {
    "cpu": 2,
    "vms": 2,
    "memory": 1,
    "preferred_hosts": 99,
    "vm_host_affinity": 20,
    "pinning": 5,
    "high_performance": 4,
    "vm_affinity": 1,
    "ha_reservation": 1,
    "hosted_engine": 1,
}
"""Factors of the weight units in the presets; `vms` replaces CPU and memory in vm_evenly_distributed."""

GRACE_S, GRACE_SPM_S, GRACE_VM_S = 60.0, 20.0, 0.5
"""How long a host that does not answer is waited for; more for the storage pool manager and for each VM."""


@dataclass(frozen=True)
class Cluster:
    """One cluster. Percentages are of one CPU: a host of 16 CPUs offers 1600."""

    cpus: np.ndarray
    """``[host]``, that VMs share."""
    cpu_load_percent: np.ndarray
    """``[host]``, sum over its CPUs; with what is pending."""
    free_mib: np.ndarray
    """``[host]``, free for scheduling."""
    spm: np.ndarray
    """``[host]``, whether it manages the storage pool."""
    vm_host: np.ndarray
    """``[vm]``, host index; negative where it does not run."""
    vm_vcpus: np.ndarray
    """``[vm]``."""
    vm_cpu_percent: np.ndarray
    """``[vm]``, of its vCPUs; NaN where it does not run, or is not known."""
    vm_mib: np.ndarray
    """``[vm]``, configured, with overhead."""
    limit_for_s: np.ndarray
    """``[host]``, for how long its timer has run; NaN where it does not run."""

    @property
    def vm_count(self) -> np.ndarray:
        """``[host]``, VMs that run there."""
        return np.bincount(self.vm_host[self.vm_host >= 0], minlength=len(self.cpus))

    @property
    def load_percent(self) -> np.ndarray:
        """``[host]``, of a CPU, with the storage pool manager's work, rounded up."""
        return np.ceil((self.cpu_load_percent + VCPU_PERCENT * SPM_VCPUS * self.spm) / self.cpus)

    def vm_load(self, vm: int) -> float:
        """What the VM adds to a host, in percent of a CPU; a fixed use of each vCPU if its own is not known."""
        percent = self.vm_cpu_percent[vm]
        return float((VCPU_PERCENT if math.isnan(percent) else percent) * self.vm_vcpus[vm])


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


def points(weights: np.ndarray) -> np.ndarray:
    """Rank of each host for one unit's weights: number of hosts but itself, less those that are strictly better."""
    better = (weights[None, :] < weights[:, None]).sum(axis=1)
    return len(weights) - 1 - better


def total_points(weights: Sequence[np.ndarray], factors: Sequence[float]) -> np.ndarray:
    """Points of each host, of all units, by their factors."""
    return np.sum([factor * points(unit) for unit, factor in zip(weights, factors, strict=True)], axis=0)


def select(weights: Sequence[np.ndarray], factors: Sequence[float]) -> int:
    """The host with the most points; of equals the first (in the original: whichever a hash table yields)."""
    return int(np.argmax(total_points(weights, factors)))


def stretched(scores: np.ndarray) -> np.ndarray:
    """Scores spread linearly over 1 to 1000; all 1 when they are equal."""
    low, high = scores.min(initial=math.inf), scores.max(initial=-math.inf)
    if low >= high:
        return np.ones(len(scores))
    return _rounded(1.0 + (scores - low) / (high - low) * (MOST_WEIGHT - 1))


def cpu_weight_even(cluster: Cluster, vm: int, vcpu_ratio: float = 0.0) -> np.ndarray:
    """Weight of every host by its CPU load with the VM; a host over the ratio of vCPUs to CPUs (0: no limit) a 1000-fold."""
    return stretched(_rounded(_load_with(cluster, vm) * _ratio_penalty(cluster, vm, vcpu_ratio)))


def cpu_weight_saving(cluster: Cluster, vm: int, high: float = HIGH_PERCENT, vcpu_ratio: float = 0.0) -> np.ndarray:
    """As `cpu_weight_even`, negated: the fuller the better; hosts above `high` without the VM get the worst weight."""
    over = cluster.cpu_load_percent + VCPU_PERCENT * SPM_VCPUS * cluster.spm > high * cluster.cpus
    scores = -_rounded(_load_with(cluster, vm) * _ratio_penalty(cluster, vm, vcpu_ratio))
    weights = np.full(len(scores), float(MOST_WEIGHT))
    weights[~over] = stretched(scores[~over])
    return weights


def memory_weight_even(cluster: Cluster, vm: int) -> np.ndarray:
    """Weight of every host by its free memory with the VM: the more the better."""
    free = cluster.free_mib - np.where(_elsewhere(cluster, vm), cluster.vm_mib[vm], 0.0)
    most = cluster.free_mib.max()
    return MOST_WEIGHT - _rounded((free - 1.0) * (MOST_WEIGHT - 1) / (most - 1.0))


def memory_weight_saving(
    cluster: Cluster, vm: int, least_mib: float = 0.0, under_used_mib: float = math.inf
) -> np.ndarray:
    """Weight of every host by its free memory with the VM: the less the better, but below `least_mib` the worst.

    A host below is weighed as if it were that much beyond `under_used_mib`; the emptiest has 1/1.1 of the worst weight.
    """
    free = cluster.free_mib - np.where(_elsewhere(cluster, vm), cluster.vm_mib[vm], 0.0)
    most = 1.1 * cluster.free_mib.max()
    free = np.where(free < least_mib, np.minimum(most, under_used_mib + least_mib - free), free)
    return np.trunc(free / most * (MOST_WEIGHT - 1)) + 1.0


def count_weight(cluster: Cluster, vm: int, spm_grace: int = SPM_VM_GRACE) -> np.ndarray:
    """Weight of every host by its VMs; the storage pool manager counts for `spm_grace` more. It is the same for any VM."""
    return (cluster.vm_count + spm_grace * cluster.spm).astype(float)


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


Weights = Callable[[Cluster, int], list[np.ndarray]]
"""Weights of all hosts for a VM, one array a unit."""


def weights_even(cluster: Cluster, vm: int) -> list[np.ndarray]:
    """Units of evenly_distributed, and of no policy: CPU and memory."""
    return [cpu_weight_even(cluster, vm), memory_weight_even(cluster, vm)]


def weights_saving(cluster: Cluster, vm: int) -> list[np.ndarray]:
    """Units of power_saving: CPU and memory."""
    return [cpu_weight_saving(cluster, vm), memory_weight_saving(cluster, vm)]


def place(cluster: Cluster, vm: int, hosts: Sequence[int], weights: Weights, factors: Sequence[float]) -> int:
    """The best of these hosts for a VM; weights are taken over these hosts only."""
    return int(hosts[select(weights(_only(cluster, hosts), vm), factors)])


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


def _elsewhere(cluster: Cluster, vm: int) -> np.ndarray:
    """``[host]``, whether the VM would be new there."""
    return np.arange(len(cluster.cpus)) != cluster.vm_host[vm]


def _load_with(cluster: Cluster, vm: int) -> np.ndarray:
    """``[host]``, load of a CPU if the VM ran there."""
    added = np.where(_elsewhere(cluster, vm), cluster.vm_load(vm), 0.0)
    return (cluster.cpu_load_percent + VCPU_PERCENT * SPM_VCPUS * cluster.spm + added) / cluster.cpus


def _ratio_penalty(cluster: Cluster, vm: int, vcpu_ratio: float) -> np.ndarray:
    vcpus = np.bincount(
        cluster.vm_host[cluster.vm_host >= 0],
        weights=cluster.vm_vcpus[cluster.vm_host >= 0],
        minlength=len(cluster.cpus),
    )
    ratio = (vcpus + np.where(_elsewhere(cluster, vm), cluster.vm_vcpus[vm], 0.0)) / cluster.cpus
    return np.where((vcpu_ratio > 0.0) & (ratio >= vcpu_ratio), float(MOST_WEIGHT), 1.0)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Halves go up."""
    return np.floor(values + 0.5)


def _only(cluster: Cluster, hosts: Sequence[int]) -> Cluster:
    """The cluster as if it had these hosts only; VMs of others do not run."""
    kept = np.asarray(hosts)
    new = np.full(len(cluster.cpus) + 1, -1)
    new[kept] = np.arange(len(kept))
    return Cluster(
        cluster.cpus[kept],
        cluster.cpu_load_percent[kept],
        cluster.free_mib[kept],
        cluster.spm[kept],
        new[cluster.vm_host],
        cluster.vm_vcpus,
        cluster.vm_cpu_percent,
        cluster.vm_mib,
        cluster.limit_for_s[kept],
    )
