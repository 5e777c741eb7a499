"""KubeVirtRelieveAndMigrate as a policy: what the descheduler evicts, and where the scheduler puts it.

Each cycle a host's number is made of one minute's CPU use, CPU pressure, memory use and memory pressure (``descheduler``), and VMs
of hosts far above the mean are evicted, two a host and five in all at most. An eviction starts a live migration; the host is the
scheduler's choice: nodes with the soft taint of over-used ones last (its weight outbids all else), then the highest score of least
allocated memory, whole points of 100 of configured memory that is not requested, as the Kubernetes scheduler scores it; of equals
the first, where the original draws. CPU requests, which it scores beside memory, are left out: VMs here have none.

CPU pressure of a host is made of its VMs' ready time: the share of time for which at least one of them waits, if they wait
independently. VMs that move already are not evicted; the cooldown after that is left out (its constants were not found).

Maintenance: a drain migrates a VM only with evictionStrategy LiveMigrate, and shuts it down without, which is how KubeVirt ships.
`evictions: LiveMigrate` is an operator who drains and has set it; with `None` nothing is done for a host that is to be emptied.

Edge cases. Guests' statistics are not read. Before the second reading no VM has used any CPU; a host without VMs has no pressure.

Sources: ``descheduler``; kubevirt's ``virt-config`` for evictionStrategy; the scheduler's scores are recalled.
"""

from dataclasses import dataclass

import numpy as np

from hvgym.agents.cluster import descheduler
from hvgym.agents.cluster.by_lane import LaneByLane, Move, Recent
from hvgym.agents.cluster.reading import Reading
from hvgym.envs.errors import InputError, shown
from hvgym.envs.telemetry import Visibility

SAMPLE_S = 10.0
"""Of a host's use, within the minute of a rate (a guess)."""

BURSTABLE, GUARANTEED = 1, 2
"""Quality of service: a VM whose minimum is all its memory is guaranteed."""

POINTS = 100.0
"""Most of a score (MaxNodeScore)."""

MIGRATE, SHUT_DOWN = "LiveMigrate", "None"


@dataclass
class Memory:
    """Of one cluster: use of hosts, ``[4, host]``, in the last minute, and second of the next cycle."""

    recent: Recent
    next_s: float


class RelieveAndMigrate(LaneByLane[Memory]):
    """interval_s: of cycles; below, above: percent from the mean; per_host, total: limits on evictions; evictions: LiveMigrate or
    None, evictionStrategy of the VMs."""

    period_s = SAMPLE_S
    visibility = Visibility.P0

    def __init__(
        self, interval_s: float = 60.0, below: float = descheduler.RELIEVE_LOW, above: float = descheduler.RELIEVE_HIGH,
        per_host: int = descheduler.PER_HOST, total: int = descheduler.PER_CYCLE, evictions: str = MIGRATE,
    ) -> None:  # fmt: skip
        if evictions not in (MIGRATE, SHUT_DOWN):
            raise InputError(f"agent.evictions={shown(evictions)}: choose one of {MIGRATE}, {SHUT_DOWN}")
        if not interval_s > 0.0:
            raise InputError(f"agent.interval_s={shown(interval_s)}: must be above 0")
        self.interval_s, self.below, self.above = interval_s, below, above
        self.per_host, self.total, self.evictions = per_host, total, evictions

    def remember(self, first: Reading) -> Memory:
        """See `LaneByLane`."""
        return Memory(Recent(descheduler.RATE_S, SAMPLE_S), first.time_s + self.interval_s)

    def moves(self, now: Reading, memory: Memory) -> list[Move]:
        """See `LaneByLane`."""
        if now.since_s == 0.0:
            return []
        memory.recent.add(use_of_hosts(now))
        moves = self._drained(now)
        if now.time_s >= memory.next_s:
            memory.next_s += self.interval_s
            moves += self._cycle(now, memory.recent.mean)
        return moves

    def _cycle(self, now: Reading, use: np.ndarray) -> list[Move]:
        """Hosts that are not ready have no metrics."""
        hosts = np.flatnonzero(now.up)
        if not len(hosts):
            return []
        place = np.full(len(now.up) + 1, -1)
        place[hosts] = np.arange(len(hosts))
        vms = descheduler.Vms(
            host=place[now.host],
            priority=now.priority,
            qos=np.where(now.min_mib >= now.memory_mib, GUARANTEED, BURSTABLE),
            evictable=now.settled & now.allowed.any(axis=1),
        )
        pressure = descheduler.node_pressure(*use[:, hosts])
        found = descheduler.relieve_and_migrate(
            pressure, vms, ~now.maintenance[hosts], self.below, self.above, self.per_host, self.total
        )
        tainted = np.zeros(len(now.up), dtype=bool)
        tainted[hosts] = found.over
        return scheduled(now, found.vms, tainted)

    def _drained(self, now: Reading) -> list[Move]:
        """Off hosts that are to be emptied, where an operator lets them."""
        if self.evictions != MIGRATE:
            return []
        leaves = now.settled & (now.maintenance & now.up)[now.host]
        return scheduled(now, np.flatnonzero(leaves).tolist(), np.zeros(len(now.up), dtype=bool))


def use_of_hosts(now: Reading) -> np.ndarray:
    """``[4, host]``: use of CPU, pressure of CPU, use of memory, pressure of memory, each 0 to 1."""
    cores, calm = np.zeros(len(now.up)), np.ones(len(now.up))
    there = np.flatnonzero(now.host >= 0)
    np.add.at(cores, now.host[there], now.cpu_cores[there])
    np.multiply.at(calm, now.host[there], 1.0 - np.minimum(now.ready_cores[there], 1.0))
    cpu = np.minimum(cores / np.maximum(now.pcpus, 1e-9), 1.0)
    return np.stack([cpu, 1.0 - calm, now.host_used_mib / np.maximum(now.total_mib, 1e-9), now.psi])


def scheduled(now: Reading, vms: list[int], tainted: np.ndarray) -> list[Move]:
    """Hosts for these VMs, in order; those that may go nowhere are missing."""
    requested = np.zeros(len(now.up))
    running = now.heading >= 0
    np.add.at(requested, now.heading[running], now.memory_mib[running])
    moves: list[Move] = []
    for vm in vms:
        to = np.flatnonzero(now.allowed[vm] & now.targets)
        if not len(to):
            continue
        free = 1.0 - (requested[to] + now.memory_mib[vm]) / now.total_mib[to]
        points = np.floor(POINTS * np.maximum(free, 0.0))
        host = int(to[np.lexsort((-points, tainted[to]))[0]])
        requested[host] += now.memory_mib[vm]
        moves.append((vm, host))
    return moves
