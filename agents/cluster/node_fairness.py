"""NodeFairness-S: Hyper-V's VM load balancing, whose thresholds are published and whose choice of VM is not.

Published: when it acts (a host joins, every 30 minutes), the levels of aggressiveness, what is looked at (memory pressure
now, CPU of five minutes), that it goes from the hottest host to those under the level by live migration, and that it is
off when SCVMM's Dynamic Optimization is on. Ours: a host's pressure is the larger of the two, and the VM that moves is the
smallest that brings its host to the level and keeps its new host there; where there is none, the smallest that keeps its
new host there goes, and the host is looked at again.

Left out: preferred and possible owners but `movable`, affinity, fault domains.

`NodeFairness` is the policy: it remembers when the last pass was, and which hosts were there. A host in maintenance is drained by
live migration, roles of high priority first, each to the host whose memory is then asked for least (draining is published; order
and choice of the host are recalled). Memory that a VM asks for is its committed memory, as Hyper-V has it; where the guest does not
tell it, what its host gives it.

Edge cases. Guests' statistics are not read but for committed memory. Before the second reading no VM has used any CPU, so nothing
is asked for. A VM without a minimum is moved as any other; limits are the hypervisor's.

Source: Microsoft's Windows Server documents, "VM load balancing" overview and deep dive.
"""

from dataclasses import dataclass

import numpy as np

from hvgym.agents.cluster.by_lane import LaneByLane, Move, Recent, emptied
from hvgym.agents.cluster.reading import Reading
from hvgym.envs.errors import InputError, shown
from hvgym.envs.telemetry import Visibility

SAMPLE_S = 10.0
"""Of CPU, within the window (a guess)."""

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


@dataclass
class Memory:
    """Of one cluster: CPU used, which hosts were up, second of the last pass."""

    cores: Recent
    up: np.ndarray
    last_s: float


class NodeFairness(LaneByLane[Memory]):
    """The balancer of a failover cluster. mode: AutoBalancerMode; level: AutoBalancerLevel; first_pass_s: of an episode, for the
    timer has run before it."""

    period_s = SAMPLE_S
    visibility = Visibility.P2

    def __init__(self, mode: int = MODE_ALWAYS, level: int = 1, first_pass_s: float = PERIOD_S / 2.0) -> None:
        if mode not in (MODE_OFF, MODE_ON_JOIN, MODE_ALWAYS):
            raise InputError(f"agent.mode={shown(mode)}: choose one of 0, 1, 2")
        if level not in LEVELS:
            raise InputError(f"agent.level={shown(level)}: choose one of {', '.join(map(str, LEVELS))}")
        self.mode, self.level, self.first_pass_s = mode, level, first_pass_s

    def remember(self, first: Reading) -> Memory:
        """See `LaneByLane`."""
        return Memory(Recent(CPU_WINDOW_S, SAMPLE_S), first.up, first.time_s + self.first_pass_s - PERIOD_S)

    def moves(self, now: Reading, memory: Memory) -> list[Move]:
        """See `LaneByLane`."""
        if now.since_s == 0.0:
            return []
        memory.cores.add(now.cpu_cores)
        joined = bool((now.up & ~memory.up).any())
        memory.up = now.up
        asked = now.committed_mib + now.overhead_mib
        order = np.argsort(-now.priority, kind="stable")
        moves = emptied(now, asked[:, None], now.total_mib[:, None], order)
        if acts(self.mode, joined, now.time_s - memory.last_s):
            memory.last_s = now.time_s
            moves += self._pass(now, np.stack([memory.cores.mean, asked], axis=1))
        return moves

    def _pass(self, now: Reading, demand: np.ndarray) -> list[Move]:
        """Between hosts that are at work and not in maintenance."""
        hosts = np.flatnonzero(now.targets)
        place = np.full(len(now.up) + 1, -1)
        place[hosts] = np.arange(len(hosts))
        cluster = Cluster(
            capacity=np.stack([now.pcpus, now.total_mib], axis=1)[hosts],
            demand=demand,
            vm_host=place[now.heading],
            movable=now.allowed[:, hosts] & now.settled[:, None],
        )
        return [(vm, int(hosts[host])) for vm, host in balance(cluster, self.level)] if len(hosts) else []
