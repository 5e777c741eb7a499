"""oVirt's engine as a policy: restarts and evacuations by the weights, and a balancer that moves one VM a minute.

Loads are read every 10 s, and each host's timer (``ovirt.timer_started_s``) runs by them. VMs that wait are placed in the order
of their priority; VMs on a host in maintenance all leave at once, in their order, each to the host that the weights choose, with
those before it pending there; one that has found no host or whose copy has failed is tried again at the next reading. The
balancer passes over hosts at either end of a move, under way or queued.

Memory that is free for scheduling is RAM times the cluster's memory optimisation, less what VMs are configured to have, there or
on their way. The engine's real limit leaves out overheads in the same way but for some 65 MiB a host (recalled).

Guesses: loads every 10 s (the engine asks hosts every 3 s); the first host at work manages the storage pool.

Edge cases. Where fewer than two hosts take part nothing is balanced. Before the second reading no VM has used any CPU. Guests'
statistics are not read.

Sources: as ``ovirt`` and ``ovirt_weights``; order and retries of an evacuation are recalled.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from hvgym.agents.cluster import ovirt, ovirt_weights
from hvgym.agents.cluster.ovirt_weights import FACTORS, Cluster
from hvgym.agents.cluster.reading import MOVING, NOWHERE, RUNNING
from hvgym.agents.cluster.rounds import BoolArray, InRounds, Lane, Move, Round
from hvgym.envs.errors import InputError, shown

SAMPLE_S = 10.0
"""Between two readings of loads: ours."""

UNITS = (FACTORS["cpu"], FACTORS["memory"])
"""Factors of the weight units that tell hosts apart here."""

POLICIES = ("evenly_distributed", "power_saving", "none")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of a cluster. high, low: percent of CPU; least_mib: MinFreeMemoryForUnderUtilized; overcommit: memory optimisation."""

    policy: str
    high: float
    low: float
    least_mib: float
    overcommit: float

    @property
    def weights(self) -> Callable[[Cluster, int], list[np.ndarray]]:
        """Of the policy."""
        return ovirt_weights.weights_saving if self.policy == "power_saving" else ovirt_weights.weights_even

    def proposals(self, cluster: Cluster, busy: BoolArray) -> list[ovirt.Proposal]:
        """Of the policy's balancer."""
        if self.policy == "evenly_distributed":
            return ovirt.evenly_distributed(cluster, busy, self.high, self.least_mib)
        if self.policy == "power_saving":
            return ovirt.power_saving(cluster, busy, self.high, self.low, self.least_mib)
        return []


class Ovirt(InRounds):
    """policy: ``evenly_distributed``, ``power_saving`` (hosts stay on) or ``none``."""

    period_s = SAMPLE_S

    def __init__(
        self,
        policy: str = "evenly_distributed",
        high: float = ovirt_weights.HIGH_PERCENT,
        low: float = ovirt.LOW_PERCENT,
        least_mib: float = 0.0,
        overcommit: float = 1.0,
        every_s: float = ovirt.PERIOD_S,
    ) -> None:
        if policy not in POLICIES:
            raise InputError(f"agent.policy={shown(policy)}: choose one of {', '.join(POLICIES)}")
        self._settings, self._every_s = Settings(policy, high, low, least_mib, overcommit), every_s

    def begin(self, seed: int) -> Lane:
        """See `InRounds`."""
        return _Engine(self._settings, self._every_s)


class _Engine(Lane):
    """The engine at work on one cluster."""

    def __init__(self, settings: Settings, every_s: float) -> None:
        self._how, self._every_s = settings, every_s
        self._timers = np.zeros(0)
        self._next_s: float | None = None

    def moves(self, at: Round) -> list[Move]:
        cluster, busy = self._read(at), ~at.now.targets
        starts = np.flatnonzero(at.unplaced)
        starts = starts[np.argsort(-at.now.priority[starts], kind="stable")]
        leaving = np.flatnonzero(at.settled & at.now.maintenance[at.now.host])
        found = []
        for vm in (*starts.tolist(), *leaving.tolist()):
            host = self._scheduled(at, cluster, vm)
            if host is not None:
                found.append((vm, host))
                cluster = _pending(cluster, vm, host)
                busy[host] |= not at.now.waits[vm]
        return found + (self._pass(at, cluster, busy) if self._due(at.now.time_s) else [])

    def _due(self, now_s: float) -> bool:
        if self._next_s is None:
            self._next_s = now_s + self._every_s
        if now_s < self._next_s:
            return False
        self._next_s += self._every_s
        return True

    def _read(self, at: Round) -> Cluster:
        """The cluster of this reading; timers go on."""
        now, count = at.now, len(at.now.pcpus)
        held = np.zeros(count)
        coming = np.where(at.going == at.here, NOWHERE, at.going)
        for place in (at.here, coming):
            held += np.bincount(place[place != NOWHERE], now.memory_mib[place != NOWHERE], count)
        runs = np.isin(now.state, (RUNNING, MOVING))
        cluster = Cluster(
            cpus=now.pcpus,
            cpu_load_percent=100.0 * now.host_cpu_cores,
            free_mib=now.total_mib * self._how.overcommit - held,
            spm=np.arange(count) == np.argmax(now.up),
            vm_host=at.here,
            vm_vcpus=now.vcpus,
            vm_cpu_percent=np.where(runs, 100.0 * now.cpu_cores / np.maximum(now.vcpus, 1e-9), np.nan),
            vm_mib=now.memory_mib,
            limit_for_s=np.full(count, np.nan),
        )
        cluster = dataclasses.replace(cluster, limit_for_s=now.time_s - self._timed(cluster, now.time_s))
        for vm in np.flatnonzero(coming != NOWHERE).tolist():
            cluster.cpu_load_percent[coming[vm]] += cluster.vm_load(vm)
        return cluster

    def _timed(self, cluster: Cluster, now_s: float) -> np.ndarray:
        """Second in which each host's timer started, ``[host]``."""
        low = self._how.low if self._how.policy == "power_saving" else 0.0
        loads = cluster.load_percent
        if not len(self._timers):
            self._timers = np.full(len(loads), np.nan)
        started = zip(loads, self._timers, strict=True)
        self._timers = np.array([ovirt.timer_started_s(load, t, now_s, self._how.high, low) for load, t in started])
        return self._timers

    def _scheduled(self, at: Round, cluster: Cluster, vm: int) -> int | None:
        """The host of all that pass the filters which the weights prefer."""
        passes = at.allowed[vm] & at.now.targets & ovirt.admitted(cluster, self._how.high)
        hosts = np.flatnonzero(passes & (cluster.free_mib >= cluster.vm_mib[vm])).tolist()
        return ovirt_weights.place(cluster, vm, hosts, self._how.weights, UNITS) if hosts else None

    def _pass(self, at: Round, cluster: Cluster, busy: BoolArray) -> list[Move]:
        """The balancer's one move."""
        moving = at.now.movable & (at.going != NOWHERE) | (at.now.state == MOVING)
        for ends in (at.now.host[moving], at.going[moving]):
            busy[ends[ends != NOWHERE]] = True
        found = [self._filtered(at, cluster, one) for one in self._how.proposals(cluster, busy)]
        move = ovirt.move(cluster, [one for one in found if one is not None], self._how.weights, UNITS)
        return [] if move is None else [move]

    def _filtered(self, at: Round, cluster: Cluster, one: ovirt.Proposal) -> ovirt.Proposal | None:
        """A proposal with the hosts that pass the filters, the VM's own among them; None where no other is left."""
        here, admitted = cluster.vm_host[one.vm], ovirt.admitted(cluster, self._how.high)
        hosts = [host for host in one.hosts if admitted[host] and (host == here or at.allowed[one.vm, host])]
        others = at.settled[one.vm] and any(host != here for host in hosts)
        return ovirt.Proposal(one.vm, hosts) if others else None


def _pending(cluster: Cluster, vm: int, host: int) -> Cluster:
    """The cluster with a VM on its way to a host."""
    load, free = cluster.cpu_load_percent.copy(), cluster.free_mib.copy()
    load[host] += cluster.vm_load(vm)
    free[host] -= cluster.vm_mib[vm]
    return dataclasses.replace(cluster, cpu_load_percent=load, free_mib=free)
