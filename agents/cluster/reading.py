"""What policies of clusters read: use of CPU and memory by VM and by host, who is where, and what may move.

Rates of a VM are the rise of its counters between two readings over the time between them, so the first reading after a reset has
none (0). A host that is not at work, as far as the stack knows, has no load and takes nothing.
"""

from dataclasses import dataclass

import numpy as np

from hvgym.agents.readings import PAGES_PER_MIB, least_mib
from hvgym.envs.telemetry import Telemetry

ABSENT, WAITING, RUNNING, MOVING, LOST, RESTARTING, REFUSED = range(7)
"""Of ``Places.vm["state"]``; the names of ``envs.model.placement``."""

UP = 0
"""Of ``Places.host["state"]``."""

NOWHERE = -1

COUNTERS = ("cpu_s", "cpu_ready_s", "host_swap_in_mib")
"""Of VMs, from whose rise rates are taken."""


@dataclass(frozen=True)
class Reading:
    """One cluster at one time.

    since_s: time since the last reading, 0 for a first one.
    Of VMs, ``[vm]``: host (index, `NOWHERE` where it has none), state, moving_to, wanted (host to which somebody wants it),
    cpu_cores used (mean since the last reading, as all rates), ready_cores (for which it waited), vcpus, memory_mib (configured),
    used_mib (of the host, its process included), overhead_mib (of that, its process), active_mib (what balloon statistics say is
    not free; used_mib where they say nothing), touched_mib (by the hypervisor's samples; active_mib where there are none),
    committed_mib (by the guest; used_mib where it says nothing), swap_stall (share of time for which it waits for host swap,
    if a page takes as long as its disk operations), min_mib, weight, critical, priority, protected (high availability restarts
    it). Of hosts, ``[host]``: pcpus, cpu_cores used, total_mib, used_mib, free_mib, up, maintenance, seconds until it must be
    empty, copies out and in, vms, psi (memory pressure, 0 to 1), kind (hosts alike), link_mib_per_s (for copies). obstacles ``[vm,
    host]``: 0 where a VM may move to a host, or start there; names ``[host]`` are indices.
    """

    time_s: float
    since_s: float
    host: np.ndarray
    state: np.ndarray
    moving_to: np.ndarray
    wanted: np.ndarray
    cpu_cores: np.ndarray
    ready_cores: np.ndarray
    vcpus: np.ndarray
    memory_mib: np.ndarray
    used_mib: np.ndarray
    overhead_mib: np.ndarray
    active_mib: np.ndarray
    touched_mib: np.ndarray
    committed_mib: np.ndarray
    swap_stall: np.ndarray
    min_mib: np.ndarray
    weight: np.ndarray
    critical: np.ndarray
    priority: np.ndarray
    protected: np.ndarray
    pcpus: np.ndarray
    host_cpu_cores: np.ndarray
    total_mib: np.ndarray
    host_used_mib: np.ndarray
    free_mib: np.ndarray
    up: np.ndarray
    maintenance: np.ndarray
    deadline_s: np.ndarray
    outgoing: np.ndarray
    incoming: np.ndarray
    vms: np.ndarray
    psi: np.ndarray
    kind: np.ndarray
    link_mib_per_s: np.ndarray
    obstacles: np.ndarray

    @property
    def movable(self) -> np.ndarray:
        """VMs that run and are not on their way, ``[vm]``."""
        return np.asarray(self.state == RUNNING)

    @property
    def settled(self) -> np.ndarray:
        """VMs that run, are not on their way, and are not queued for a move that can begin, ``[vm]``."""
        vms = np.arange(len(self.wanted))
        queued = (self.wanted != NOWHERE) & (self.obstacles[vms, self.wanted] == 0)
        return np.asarray(self.movable & ~queued)

    @property
    def heading(self) -> np.ndarray:
        """Host on which each VM is, or will be when its copy, or the one for which it is queued, has ended, ``[vm]``."""
        goal = np.where(self.state == MOVING, self.moving_to, self.wanted)
        there = (self.host != NOWHERE) & (goal != NOWHERE) & ~self.settled
        return np.where(there, goal, self.host)

    @property
    def waits(self) -> np.ndarray:
        """VMs that are to be started, for the first time or again, ``[vm]``."""
        return np.asarray((self.state == WAITING) | (self.state == RESTARTING))

    @property
    def targets(self) -> np.ndarray:
        """Hosts that may take a VM, ``[host]``."""
        return np.asarray(self.up & ~self.maintenance)

    @property
    def allowed(self) -> np.ndarray:
        """Whether a VM may go to a host, ``[vm, host]``; never to where it is."""
        free = self.obstacles == 0
        there = self.host >= 0
        free[np.flatnonzero(there), self.host[there]] = False
        return np.asarray(free)


class Reader:
    """Turns readings of a batch into those of single clusters; keeps the counters of the last one."""

    def __init__(self, first: Telemetry) -> None:
        self._before_s = first.time_s.copy()
        self._counted = {name: first.vm[name].copy() for name in COUNTERS}
        self._rates = {name: np.zeros(first.vm.shape) for name in COUNTERS}

    def read(self, telemetry: Telemetry) -> list[Reading]:
        """One a lane."""
        gone_s = telemetry.time_s - self._before_s
        for name in COUNTERS:
            rise = _known(np.maximum(telemetry.vm[name] - self._counted[name], 0.0))
            rate = rise / np.maximum(gone_s, 1e-9)[:, None]
            self._rates[name] = np.where(gone_s[:, None] > 0.0, rate, self._rates[name])
            self._counted[name] = telemetry.vm[name].copy()
        self._before_s = telemetry.time_s.copy()
        return [self._one(telemetry, lane, float(gone_s[lane])) for lane in range(len(gone_s))]

    def _one(self, telemetry: Telemetry, lane: int, since_s: float) -> Reading:
        places = telemetry.places
        assert places is not None  # the rollout plays policies of clusters on clusters alone
        vm, host, of_vm, of_host = telemetry.vm[lane], telemetry.host[lane], places.vm[lane], places.host[lane]
        used = _known(vm["resident_mib"])
        active = vm["size_mib"] - vm["guest_free_mib"]
        active = np.where(np.isnan(active), used, active)
        touched, committed = vm["active_share"] * vm["memory_mib"], vm["guest_committed_mib"]
        up = of_host["state"] == UP
        return Reading(
            time_s=float(telemetry.time_s[lane]),
            since_s=since_s,
            host=_index(of_vm["host"]),
            state=of_vm["state"].astype(int),
            moving_to=_index(of_vm["moving_to"]),
            wanted=_index(of_vm["wanted"]),
            cpu_cores=self._rates["cpu_s"][lane],
            ready_cores=self._rates["cpu_ready_s"][lane],
            vcpus=vm["vcpus"],
            memory_mib=vm["memory_mib"],
            used_mib=used,
            overhead_mib=vm["overhead_mib"],
            active_mib=active,
            touched_mib=np.where(np.isnan(touched), active, touched),
            committed_mib=np.where(np.isnan(committed), used, committed),
            swap_stall=_swap_stall(self._rates["host_swap_in_mib"][lane], vm["disk_latency_s"]),
            min_mib=least_mib(vm),
            weight=vm["weight"],
            critical=vm["critical"] > 0.0,
            priority=of_vm["restart_priority"],
            protected=of_vm["restarts"] > 0.0,
            pcpus=of_host["pcpus"],
            host_cpu_cores=np.where(up, host["cpu_utilisation"] * of_host["pcpus"], 0.0),
            total_mib=host["total_mib"],
            host_used_mib=np.where(up, host["total_mib"] - host["available_mib"], 0.0),
            free_mib=np.where(up, host["available_mib"], 0.0),
            up=up,
            maintenance=of_host["maintenance"] > 0.0,
            deadline_s=of_host["deadline_s"],
            outgoing=of_host["outgoing"],
            incoming=of_host["incoming"],
            vms=of_host["vms"],
            psi=_known(host["psi_some10"]),
            kind=of_host["kind"].astype(int),
            link_mib_per_s=of_host["link_mib_per_s"],
            obstacles=places.obstacles[lane].astype(int),
        )


def _index(given: np.ndarray) -> np.ndarray:
    """Indices of hosts, `NOWHERE` where there is none."""
    return np.where(np.isnan(given), NOWHERE, given).astype(int)


def _known(given: np.ndarray) -> np.ndarray:
    """What nobody knows counts as 0; ``np.nan_to_num`` takes five times as long."""
    return np.where(np.isnan(given), 0.0, given)


def _swap_stall(swap_in_mib_per_s: np.ndarray, latency_s: np.ndarray) -> np.ndarray:
    """Share of time, one page at a time; none where the latency is not known."""
    return np.minimum(1.0, swap_in_mib_per_s * PAGES_PER_MIB * _known(latency_s))
