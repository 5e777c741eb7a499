"""DRS-classic-S and DRS2-S as policies (``drs`` has what they decide, and says what of it is published and what is ours).

Demand of a VM is the CPU that it used and for which it waited (ready time) since the last balancing, and of memory what was active
and a quarter of what it consumes beyond. Active memory is the hypervisor's samples; where there are none, what the guest says is
not free. A host that enters maintenance is emptied at once, whatever the slider says (mandatory moves); a host's capacity is not
lessened by what HA keeps, for admission is HA's own affair here.

Ours, beside what ``drs`` says: a move is taken to last as long as the VM's consumed memory takes over its host's link, and to
write all its active memory once; DRS 2's burst is the most CPU that a VM asked for in five minutes, and it has the limit on moves
of the classic form.

Edge cases. Where there are neither samples nor statistics, all that a VM has of its host counts as active. Before the second
reading no VM has used any CPU. A VM without a minimum has no reservation.

Sources: ``drs``; that maintenance makes DRS act at once is recalled.
"""

import abc
from dataclasses import dataclass

import numpy as np

from hvgym.agents.cluster import drs
from hvgym.agents.cluster.by_lane import LaneByLane, Move, Recent, emptied
from hvgym.agents.cluster.reading import Reading
from hvgym.envs.errors import InputError, shown
from hvgym.envs.telemetry import Visibility

SAMPLE_S = 10.0
"""Of demand: ours, half of the 20 s of vSphere's own counters, and so it sees maintenance soon."""

BURST_S = 300.0
"""DRS 2 takes the most that a VM asked for in it for its burst: ours."""

TEN_GIGABIT_MIB_PER_S, CAP_10G, CAP_1G = 1000.0, 8, 4
"""Link of 10 Gb/s, less overhead, from which on 8 copies of a host run at once; 4 below (VMware's limits, cluster.md §3.2)."""


@dataclass
class Memory:
    """Of one cluster: CPU asked for since the last balancing, and in a burst's time; second of the next balancing."""

    cores: Recent
    burst: Recent
    next_s: float


class Drs(LaneByLane[Memory]):
    """What both forms share. slider: 1 (mandatory moves only) to 5; most_moves_per_host: limit on copies of a host in a period,
    None takes the link's."""

    period_s = SAMPLE_S
    visibility = Visibility.P3
    every_s: float
    """Between two balancings."""

    def __init__(self, slider: int = drs.SLIDER, most_moves_per_host: int | None = None) -> None:
        if slider not in drs.MARGINS:
            raise InputError(f"agent.slider={shown(slider)}: expected a whole number, 1 to 5")
        self.slider, self.most_moves_per_host = slider, most_moves_per_host

    def remember(self, first: Reading) -> Memory:
        """See `LaneByLane`."""
        return Memory(Recent(self.every_s, SAMPLE_S), Recent(BURST_S, SAMPLE_S), first.time_s + self.every_s)

    def moves(self, now: Reading, memory: Memory) -> list[Move]:
        """See `LaneByLane`."""
        if now.since_s == 0.0:
            return []
        for recent in (memory.cores, memory.burst):
            recent.add(now.cpu_cores + now.ready_cores)
        wanted = entitlement(now, memory.cores.mean)
        moves = emptied(now, wanted, capacity(now))
        if now.time_s >= memory.next_s:
            memory.next_s += self.every_s
            moves += self.balanced(now, memory, wanted)
        return moves

    def balanced(self, now: Reading, memory: Memory, wanted: np.ndarray) -> list[Move]:
        """Moves of one balancing, between hosts that are at work and not in maintenance."""
        hosts = np.flatnonzero(now.targets)
        if len(hosts) < 2:
            return []
        cluster = as_cluster(now, wanted, hosts)
        return [(vm, int(hosts[host])) for vm, host in self.choose(now, memory, cluster)]

    @abc.abstractmethod
    def choose(self, now: Reading, memory: Memory, cluster: drs.Cluster) -> list[Move]:
        """Moves among the hosts of `cluster`, by their indices in it."""

    def most(self, now: Reading, cluster: drs.Cluster) -> int:
        """Moves of a host in one balancing."""
        fast = now.link_mib_per_s[now.targets].min() >= TEN_GIGABIT_MIB_PER_S
        cap = (CAP_10G if fast else CAP_1G) if self.most_moves_per_host is None else self.most_moves_per_host
        running = cluster.vm_host >= 0
        mean_s = float(cluster.migration_s[running].mean()) if running.any() else drs.STABLE_S
        return drs.max_moves_per_host(max(mean_s, 1.0), cap)


class DrsClassic(Drs):
    """DRS-classic-S, every five minutes."""

    every_s = drs.PERIOD_S

    def choose(self, now: Reading, memory: Memory, cluster: drs.Cluster) -> list[Move]:
        """See `Drs`."""
        return drs.balance(cluster, self.slider, self.most(now, cluster))


class Drs2(Drs):
    """DRS2-S, every minute."""

    every_s = drs.PERIOD_2_S

    def choose(self, now: Reading, memory: Memory, cluster: drs.Cluster) -> list[Move]:
        """See `Drs`."""
        return drs.improve(cluster, memory.burst.most, now.swap_stall, self.slider, self.most(now, cluster))


def entitlement(now: Reading, cores: np.ndarray) -> np.ndarray:
    """``[vm, 2]``, CPU in cores, memory in MiB; nobody is entitled to less than it asks for, as long as no limits are set."""
    consumed = np.maximum(now.used_mib - now.overhead_mib, 0.0)
    memory_mib = drs.memory_demand_mib(np.minimum(now.touched_mib, consumed), consumed, now.overhead_mib)
    return np.stack([cores, memory_mib], axis=1)


def capacity(now: Reading) -> np.ndarray:
    """``[host, 2]``, of all hosts."""
    total = np.stack([now.pcpus, now.total_mib], axis=1)
    return drs.usable_capacity(total, np.zeros_like(total))


def as_cluster(now: Reading, wanted: np.ndarray, hosts: np.ndarray) -> drs.Cluster:
    """What ``drs`` takes, of these hosts alone; VMs on their way count where they will be."""
    place = np.full(len(now.total_mib) + 1, -1)
    place[hosts] = np.arange(len(hosts))
    link = now.link_mib_per_s[np.maximum(now.host, 0)]
    return drs.Cluster(
        capacity=capacity(now)[hosts],
        entitlement=wanted,
        vm_host=place[now.heading],
        movable=now.allowed[:, hosts] & now.settled[:, None],
        migration_s=now.used_mib / np.maximum(link, 1e-9),
        dirty_mib=np.minimum(now.touched_mib, now.used_mib),
    )
