"""oVirt's weights and selector: which of some hosts is best for a VM.

Weight units give every host a weight, less is better; the selector turns weights into ranks and adds the ranks by factors.

`Cluster` holds readings of one cluster. Left out: affinity, NUMA, preferred hosts and the other units that see nothing here
(their factors are in `FACTORS`), CPUs that are pinned exclusively, threads counted as cores. CPU use is a whole percentage
in the original; here it may have a fraction, which the host's load rounds up.

Source: ovirt-engine 2026-08, ``bll/scheduling/policyunits`` and ``0000_config.sql``, as facts of a reading.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

HIGH_PERCENT = 80.0
"""HighUtilization in the presets evenly_distributed and power_saving; 90 where nothing sets it."""

VCPU_PERCENT = 10.0
"""VcpuConsumptionPercentage: what a vCPU of a VM that does not run yet is taken to use."""

SPM_VCPUS = 1.0
"""SpmVCpuConsumption: vCPUs that the storage pool manager costs its host."""

MOST_WEIGHT = 1000
"""MaxSchedulerWeight."""

SPM_VM_GRACE = 5
"""VMs that the storage pool manager counts for in vm_evenly_distributed."""

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
