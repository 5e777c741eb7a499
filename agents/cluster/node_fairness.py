"""NodeFairness-S: Hyper-V's VM load balancing, whose thresholds are published and whose choice of VM is not.

Published: when it acts (a host joins, every 30 minutes), the levels of aggressiveness, what is looked at (memory pressure
now, CPU of five minutes), that it goes from the hottest host to those under the level by live migration, and that it is
off when SCVMM's Dynamic Optimization is on. Ours: a host's pressure is the larger of the two, and the VM that moves is the
smallest that brings its host to the level and keeps its new host there; where there is none, the smallest that keeps its
new host there goes, and the host is looked at again.

Left out: preferred and possible owners but `movable`, affinity, fault domains.

State outside of these functions: when the last pass was, which hosts are new.

Source: Microsoft's Windows Server documents, "VM load balancing" overview and deep dive.
"""

from dataclasses import dataclass

import numpy as np

PERIOD_S = 1800.0
CPU_WINDOW_S = 300.0

MODE_OFF, MODE_ON_JOIN, MODE_ALWAYS = 0, 1, 2
"""AutoBalancerMode; 2 is the default: when a host joins, and every 30 minutes."""

LEVELS = {1: 0.80, 2: 0.70, 3: 0.60}
"""AutoBalancerLevel: pressure above which a host is hot; 1 is the default."""


@dataclass(frozen=True)
class Cluster:
    """Readings of one cluster; the second axis is CPU in cores, memory in MiB."""

    capacity: np.ndarray
    """``[host, 2]``, physical."""
    demand: np.ndarray
    """``[vm, 2]``: CPU used over five minutes, memory asked for now."""
    vm_host: np.ndarray
    """``[vm]``, host index; negative where it does not run."""
    movable: np.ndarray
    """``[vm, host]``, whether the VM may move there."""


def acts(mode: int, joined: bool, since_s: float) -> bool:
    """Whether a pass is due: a host has joined, or the last pass is half an hour ago."""
    return (joined and mode >= MODE_ON_JOIN) or (mode == MODE_ALWAYS and since_s >= PERIOD_S)


def pressures(cluster: Cluster) -> np.ndarray:
    """``[host]``, the larger share of CPU and of memory that is asked for."""
    return (_demand(cluster, cluster.vm_host) / cluster.capacity).max(axis=1)


def balance(cluster: Cluster, level: int = 1) -> list[tuple[int, int]]:
    """Moves of one pass, pairs of VM and new host, the hottest host first; a VM moves once, a hot host takes none."""
    where, hot = cluster.vm_host.copy(), LEVELS[level]
    moves: list[tuple[int, int]] = []
    for host in _hottest_first(pressures(cluster), hot):
        while (found := _move_from(cluster, where, host, hot, {vm for vm, _ in moves})) is not None:
            where[found[0]] = found[1]
            moves.append(found)
    return moves


def _hottest_first(pressure: np.ndarray, hot: float) -> list[int]:
    hosts = np.flatnonzero(pressure > hot)
    return hosts[np.argsort(-pressure[hosts], kind="stable")].tolist()


def _move_from(cluster: Cluster, where: np.ndarray, host: int, hot: float, moved: set[int]) -> tuple[int, int] | None:
    """The next move from a host, or None when it is at the level or nothing may go."""
    used = _demand(cluster, where)
    if (used[host] / cluster.capacity[host]).max() <= hot:
        return None
    vms = np.array([vm for vm in np.flatnonzero(where == host).tolist() if vm not in moved], dtype=int)
    after = ((used + cluster.demand[vms][:, None]) / cluster.capacity).max(axis=2)
    after[~cluster.movable[vms]] = np.inf
    after[:, host] = np.inf
    left = ((used[host] - cluster.demand[vms]) / cluster.capacity[host]).max(axis=1)
    order = np.lexsort((cluster.demand[vms, 1], left > hot))
    for row in order.tolist():
        if after[row].min() <= hot:
            return int(vms[row]), int(np.argmin(after[row]))
    return None


def _demand(cluster: Cluster, where: np.ndarray) -> np.ndarray:
    """``[host, 2]``, sum over its VMs."""
    used = np.zeros_like(cluster.capacity)
    np.add.at(used, where[where >= 0], cluster.demand[where >= 0])
    return used
