"""What policies of clusters read: use of CPU and memory by VM and by host, who is where, and what may move.

CPU of a VM is the rise of its counter between two readings over the time between them, so the first reading after a reset, and of a
VM that was started since, has none (0). A host that is not at work, as far as the stack knows, has no load and takes nothing.
"""

from dataclasses import dataclass

import numpy as np

from hvgym.envs.telemetry import Telemetry

ABSENT, WAITING, RUNNING, MOVING, LOST, RESTARTING, REFUSED = range(7)
"""Of ``Places.vm["state"]``; the names of ``envs.model.placement``."""

UP = 0
"""Of ``Places.host["state"]``."""

NOWHERE = -1


@dataclass(frozen=True)
class Reading:
    """One cluster at one time.

    Of VMs, ``[vm]``: host (index, `NOWHERE` where it has none), state, moving_to, cpu_cores used (mean since the last reading),
    vcpus, memory_mib (configured), used_mib (of the host, its process included), active_mib (what balloon statistics say is not
    free; used_mib where they say nothing), min_mib, weight, critical, priority. Of hosts, ``[host]``: pcpus, cpu_cores used,
    total_mib, used_mib, free_mib, up, maintenance, seconds until it must be empty, copies out and in, vms, psi (memory pressure,
    0 to 1). obstacles ``[vm, host]``: 0 where a VM may move to a host, or start there; names ``[host]`` are indices.
    """

    time_s: float
    host: np.ndarray
    state: np.ndarray
    moving_to: np.ndarray
    cpu_cores: np.ndarray
    vcpus: np.ndarray
    memory_mib: np.ndarray
    used_mib: np.ndarray
    active_mib: np.ndarray
    min_mib: np.ndarray
    weight: np.ndarray
    critical: np.ndarray
    priority: np.ndarray
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
    obstacles: np.ndarray

    @property
    def movable(self) -> np.ndarray:
        """VMs that run and are not on their way, ``[vm]``."""
        return np.asarray(self.state == RUNNING)

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
        self._cpu_s = first.vm["cpu_s"].copy()
        self._cores = np.zeros(first.vm.shape)

    def read(self, telemetry: Telemetry) -> list[Reading]:
        """One a lane."""
        gone_s = (telemetry.time_s - self._before_s)[:, None]
        rise = np.maximum(telemetry.vm["cpu_s"] - self._cpu_s, 0.0)
        self._cores = np.where(gone_s > 0.0, rise / np.maximum(gone_s, 1e-9), self._cores)
        self._before_s, self._cpu_s = telemetry.time_s.copy(), telemetry.vm["cpu_s"].copy()
        return [self._one(telemetry, lane) for lane in range(len(telemetry.time_s))]

    def _one(self, telemetry: Telemetry, lane: int) -> Reading:
        places = telemetry.places
        assert places is not None  # the rollout plays policies of clusters on clusters alone
        vm, host, of_vm, of_host = telemetry.vm[lane], telemetry.host[lane], places.vm[lane], places.host[lane]
        used = np.nan_to_num(vm["resident_mib"])
        active = vm["size_mib"] - vm["guest_free_mib"]
        up = of_host["state"] == UP
        return Reading(
            time_s=float(telemetry.time_s[lane]),
            host=_index(of_vm["host"]),
            state=of_vm["state"].astype(int),
            moving_to=_index(of_vm["moving_to"]),
            cpu_cores=self._cores[lane],
            vcpus=vm["vcpus"],
            memory_mib=vm["memory_mib"],
            used_mib=used,
            active_mib=np.where(np.isnan(active), used, active),
            min_mib=vm["min_mib"],
            weight=vm["weight"],
            critical=vm["critical"] > 0.0,
            priority=of_vm["restart_priority"],
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
            psi=np.nan_to_num(host["psi_some10"]),
            obstacles=places.obstacles[lane].astype(int),
        )


def _index(given: np.ndarray) -> np.ndarray:
    """Indices of hosts, `NOWHERE` where there is none."""
    return np.where(np.isnan(given), NOWHERE, given).astype(int)
