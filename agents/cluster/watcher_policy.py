"""OpenStack with Watcher as a policy: Nova schedules starts (``nova``), audits balance, and hosts in maintenance are emptied.

An audit runs every `every_s` with one strategy of ``watcher``, on means of measurements over its windows. It is passed over while
any VM moves or is queued to: Watcher begins no audit beside an action plan that is being carried out (recalled). A host that goes
into maintenance is emptied by ``watcher_emptying.host_maintenance`` without a backup host, so Nova's scheduler finds the hosts; VMs
for which it finds none are tried again at the next audit.

Guesses: audits every five minutes, for how often is the operator's affair; measurements every 10 s. An operator who puts a host
into maintenance is taken to start the audit that empties it.

Left out: as in ``watcher``; actions of a plan begin together, and the stack's limit of copies queues them.

Edge cases. A VM that has not run for a whole window counts by what it has. A move to a host that Nova would refuse is not made, and
no other takes its place. Guests' statistics are not read.

Sources: as ``watcher``.
"""

import abc
import dataclasses
from collections import deque

import numpy as np

from hvgym.agents.cluster import watcher
from hvgym.agents.cluster.nova import CPU_RATIO, RAM_RATIO, Scheduler, unplaced
from hvgym.agents.cluster.reading import NOWHERE
from hvgym.agents.cluster.rounds import FloatArray, InRounds, Lane, Move, Round, numbered
from hvgym.agents.cluster.watcher_emptying import host_maintenance
from hvgym.envs.errors import InputError, shown

SAMPLE_S = 10.0
"""Between two measurements: ours."""


class Watcher(InRounds):
    """What the strategies share: metric ``cpu`` or ``ram``; windows of VMs' and of hosts' means; Nova's ratios."""

    period_s = SAMPLE_S

    def __init__(
        self,
        threshold: float,
        vm_window_s: float,
        host_window_s: float,
        metric: str = "cpu",
        every_s: float = 300.0,
        cpu_ratio: float = CPU_RATIO,
        ram_ratio: float = RAM_RATIO,
    ) -> None:
        if metric not in ("cpu", "ram"):
            raise InputError(f"agent.metric={shown(metric)}: choose one of cpu, ram")
        self.threshold, self.metric, self.every_s = threshold, metric, every_s
        self.vm_window_s, self.host_window_s = vm_window_s, host_window_s
        self.scheduler = Scheduler(cpu_ratio, ram_ratio)

    def begin(self, seed: int) -> Lane:
        """See `InRounds`."""
        return _Audits(self, seed)

    @abc.abstractmethod
    def plan(self, hosts: watcher.Hosts, vms: watcher.Vms, rng: np.random.Generator) -> list[Move]:
        """Moves of one audit, by its strategy."""


class WorkloadBalance(Watcher):
    """threshold: percent of a host's capacity."""

    def __init__(
        self,
        threshold: float = watcher.BALANCE_THRESHOLD,
        vm_window_s: float = 300.0,
        metric: str = "cpu",
        every_s: float = 300.0,
        cpu_ratio: float = CPU_RATIO,
        ram_ratio: float = RAM_RATIO,
    ) -> None:
        super().__init__(threshold, vm_window_s, vm_window_s, metric, every_s, cpu_ratio, ram_ratio)

    def plan(self, hosts: watcher.Hosts, vms: watcher.Vms, rng: np.random.Generator) -> list[Move]:
        """See `Watcher`."""
        return watcher.workload_balance(hosts, vms, self.metric, self.threshold)


class WorkloadStabilization(Watcher):
    """threshold: standard deviation of the hosts' loads; host_choice: ``retry``, ``cycle`` or ``fullsearch``."""

    def __init__(
        self,
        threshold: float = watcher.STABILIZATION_THRESHOLD,
        vm_window_s: float = 720.0,
        host_window_s: float = 600.0,
        metric: str = "cpu",
        host_choice: str = "retry",
        retry_count: int = 1,
        every_s: float = 300.0,
        cpu_ratio: float = CPU_RATIO,
        ram_ratio: float = RAM_RATIO,
    ) -> None:
        super().__init__(threshold, vm_window_s, host_window_s, metric, every_s, cpu_ratio, ram_ratio)
        self._settings = watcher.Stabilization(
            (metric,), {metric: threshold}, host_choice=host_choice, retry_count=retry_count
        )

    def plan(self, hosts: watcher.Hosts, vms: watcher.Vms, rng: np.random.Generator) -> list[Move]:
        """See `Watcher`."""
        return watcher.workload_stabilization(hosts, vms, rng, self._settings, vms.active)


class _Audits(Lane):
    """Watcher and Nova at work on one cluster."""

    def __init__(self, how: Watcher, seed: int) -> None:
        self._how, self._seed = how, seed
        self._vms, self._hosts = Means(how.vm_window_s), Means(how.host_window_s)
        self._next_s: float | None = None
        self._asked: frozenset[int] = frozenset()
        """Hosts in maintenance for which an audit has run."""

    def moves(self, at: Round) -> list[Move]:
        due = self._due(at)
        leaving = self._leaving(at, due)
        found = self._how.scheduler.scheduled(at, unplaced(at) + leaving)
        if due and not leaving and not at.migrating:
            found += self._audited(at)
        return found

    def _due(self, at: Round) -> bool:
        """Keep what is measured; whether it is time for an audit."""
        now = at.now
        if self._next_s is None:  # nothing has been measured yet
            self._next_s = now.time_s + self._how.every_s
            return False
        self._vms.add(np.where(at.here != NOWHERE, np.stack([now.cpu_cores, now.used_mib]), np.nan))
        self._hosts.add(np.where(now.up, np.stack([now.host_cpu_cores, now.host_used_mib]), np.nan))
        if now.time_s < self._next_s:
            return False
        self._next_s += self._how.every_s
        return True

    def _leaving(self, at: Round, due: bool) -> list[int]:
        """VMs that the strategy of maintenance moves now, host by host."""
        now = at.now
        hosts = frozenset(np.flatnonzero(now.maintenance & now.up).tolist())
        fresh = hosts if due else hosts - self._asked
        self._asked = hosts
        if not fresh:
            return []
        model, vms, which, enabled = self._model(at, now.up)
        number = numbered(enabled, len(now.up))
        plans = [host_maintenance(model, vms, int(number[host])) for host in sorted(fresh)]
        return [vm for plan in plans for one, _ in plan.live if at.settled[vm := int(which[one])]]

    def _audited(self, at: Round) -> list[Move]:
        model, vms, which, enabled = self._model(at, at.now.targets)
        if not len(enabled):
            return []
        audit = int(at.now.time_s // self._how.period_s)
        rng = np.random.Generator(np.random.Philox(key=self._seed, counter=[0, audit, 0, 0]))
        moves = self._how.plan(model, vms, rng)
        return [(int(which[vm]), int(enabled[host])) for vm, host in moves]

    def _model(self, at: Round, enabled: np.ndarray) -> tuple[watcher.Hosts, watcher.Vms, np.ndarray, np.ndarray]:
        """Watcher's model of some hosts; its VMs and hosts by their own indices."""
        now, nova, on = at.now, self._how.scheduler, np.flatnonzero(enabled)
        here = numbered(on, len(enabled))[at.here]
        which = np.flatnonzero(here != NOWHERE)
        (vm_cores, vm_mib), (cores, mib) = self._vms.mean(now.cpu_cores.shape), self._hosts.mean(enabled.shape)
        hosts = watcher.Hosts(
            vcpus=now.pcpus[on],
            memory_mib=now.total_mib[on],
            allocatable_vcpus=now.pcpus[on] * nova.cpu_ratio,
            allocatable_mib=(now.total_mib[on] - nova.reserved_mib) * nova.ram_ratio,
            used_cores=cores[on],
            used_mib=mib[on],
        )
        vms = watcher.Vms(
            here[which], now.vcpus[which], now.memory_mib[which], vm_cores[which], vm_mib[which], at.settled[which]
        )
        return hosts, vms, which, on


@dataclasses.dataclass
class Means:
    """CPU and memory over a window, of measurements a sample apart; ``[2, vm or host]``, NaN where there was none."""

    window_s: float

    def __post_init__(self) -> None:
        self._kept: deque[FloatArray] = deque(maxlen=max(round(self.window_s / SAMPLE_S), 1))

    def add(self, measured: FloatArray) -> None:
        """The newest."""
        self._kept.append(measured)

    def mean(self, shape: tuple[int, ...]) -> FloatArray:
        """``[2, ...]``, of what there is; 0 where there is nothing."""
        kept = np.stack(self._kept) if self._kept else np.full((1, 2, *shape), np.nan)
        known = ~np.isnan(kept)
        return np.asarray(np.where(known, kept, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
