"""A cluster as so many hosts alone: what a policy of one host drives, once a host.

Each host of each environment is a lane, and in it are all VMs of the cluster, of which those that run elsewhere look like VMs that
have not been started. So a policy that was written for a host runs on each host of a cluster unchanged, with one memory for each.
Lane e * H + h is host h of environment e.
"""

import dataclasses
from typing import Any

import numpy as np

from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.scenario import Scenario
from hvgym.envs.targets import checked
from hvgym.envs.telemetry import Targets, Telemetry

_GONE = ("running", "waiting", "resident_mib", "host_swap_mib", "shared_mib", "compressed_mib")
"""Signals of a VM that are 0 on a host where it does not run."""


class HostsView:
    """The part of a `Simulator` that rollouts and ``watching`` use. Arrays by VM, ``[env * host, vm]``, are copies."""

    def __init__(self, sim: ClusterSimulator) -> None:
        self._sim = sim
        self._hosts = sim.hosts.shape[1]
        self.lanes = sim.lanes * self._hosts

    @property
    def scenario(self) -> Scenario:
        """The cluster's."""
        return self._sim.scenario

    @property
    def clock_s(self) -> np.ndarray:
        """Seconds since reset, ``[env * host]``."""
        return np.repeat(self._sim.clock_s, self._hosts)

    @property
    def hosts(self) -> np.ndarray:
        """The model's own, ``[env * host, 1]``."""
        return self._sim.hosts.reshape(self.lanes, 1)

    @property
    def host_specs(self) -> np.ndarray:
        """The model's own, ``[env * host, 1]``."""
        return self._sim.host_specs.reshape(self.lanes, 1)

    @property
    def vms(self) -> np.ndarray:
        """VMs that are elsewhere are not admitted."""
        vms = self._spread(self._sim.vms)
        vms["admitted"] *= self._here()
        return vms

    @property
    def vm_specs(self) -> np.ndarray:
        """As on the host where they run."""
        return self._spread(self._sim.vm_specs)

    @property
    def vm_signals(self) -> np.ndarray:
        """As `split` gives them."""
        return self.split(self._sim.telemetry()).vm

    def add_watch_tax(self, lanes: slice, tax: float) -> None:
        """Let all VMs be trapped by who watches their pages; a host's view has no part of that."""
        self._sim.add_watch_tax(slice(None), tax)

    def _spread(self, rows: np.ndarray) -> np.ndarray:
        """Repeat ``[env, vm]`` for every host."""
        return np.repeat(rows, self._hosts, axis=0)

    def _here(self) -> np.ndarray:
        """Whether a VM is on the lane's host, ``[env * host, vm]``."""
        at = self._sim.arrays.residents["host"]
        return np.asarray((at[:, None, :] == np.arange(self._hosts)[None, :, None]).reshape(self.lanes, -1))

    def split(self, telemetry: Telemetry) -> Telemetry:
        """A reading of the cluster as one of every host."""
        vm, here = self._spread(telemetry.vm), self._here()
        for name in _GONE:
            vm[name] = np.where(here, vm[name], 0.0)
        return Telemetry(np.repeat(telemetry.time_s, self._hosts), vm, telemetry.host.reshape(self.lanes, 1))

    def telemetry(self) -> Telemetry:
        """A reading of every host that later ticks do not change."""
        return self.split(self._sim.telemetry())

    def apply(self, targets: Targets) -> None:
        """Carry out what hosts are asked for; what is asked of a VM on a host where it is not is nothing."""
        asked: dict[str, Any] = checked(targets, self.lanes, self._sim.arrays.residents.shape[1], 1)
        here = self._here().reshape(self._sim.lanes, self._hosts, -1)
        for name, given in asked.items():
            if name == "scan_pages_per_s":
                asked[name] = given.reshape(self._sim.lanes, self._hosts)
                continue
            of_hosts = given.reshape(here.shape)
            at = here.argmax(axis=1)[:, None, :]  # its host, or the first where it has none
            asked[name] = np.where(here.any(axis=1), np.take_along_axis(of_hosts, at, axis=1)[:, 0], np.nan)
        self._sim.apply(dataclasses.replace(Targets(), **asked))
