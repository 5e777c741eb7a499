"""The simulated host as a `Backend`: what a policy drives, and what real guests could stand in for.

A batch of environments, one seed each. Memory is plain structured arrays; time is advanced by the compiled model in
contiguous chunks of lanes, on as many threads as asked for. Lanes share nothing, so neither their number nor the
threads change a result.
"""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from hvgym.envs import telemetry as tele
from hvgym.envs.demand import DemandSource, demand_source
from hvgym.envs.model import params, start, tick
from hvgym.envs.scenario import Scenario
from hvgym.envs.telemetry import HiddenState, Targets, Telemetry


class Backend(Protocol):
    """What rollouts and policies know of a host, simulated or real."""

    def reset(self, seeds: Sequence[int]) -> Telemetry:
        """Start one episode per seed."""

    def apply(self, targets: Targets) -> None:
        """Ask for memory sizes; balloons approach them."""

    def advance(self, seconds: int) -> Telemetry:
        """Let time pass and read every signal."""


class Simulator:
    """`lanes` independent hosts of one scenario. Arrays: vms, vm_specs ``[env, vm]``; hosts, host_specs ``[env,
    host]``.
    """

    def __init__(
        self, scenario: Scenario, lanes: int = 1, threads: int = 1, source: DemandSource | None = None
    ) -> None:
        self.scenario = scenario
        self.lanes = lanes
        self._source = source or demand_source(scenario)
        vms = len(scenario.groups)
        self.vms = np.zeros((lanes, vms), params.VM)
        self.hosts = np.zeros((lanes, 1), params.HOST)
        self.vm_specs = np.zeros((lanes, vms), params.VM_SPEC)
        self.host_specs = np.zeros((lanes, 1), params.HOST_SPEC)
        self.demand = np.zeros((lanes, self._source.slots, vms), params.DEMAND)
        self.clock_s = np.zeros(lanes, np.int64)
        self.vm_signals = np.zeros((lanes, vms), tele.VM_TELEMETRY)
        self.host_signals = np.zeros((lanes, 1), tele.HOST_TELEMETRY)
        self.chunks = _chunks(lanes, threads)
        self._pool = ThreadPoolExecutor(len(self.chunks)) if len(self.chunks) > 1 else None

    def __getstate__(self) -> dict[str, Any]:
        """Threads do not travel; the copy makes its own."""
        return self.__dict__ | {"_pool": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pool = ThreadPoolExecutor(len(self.chunks)) if len(self.chunks) > 1 else None

    @property
    def slot_s(self) -> int:
        """Length of a slot of the demand."""
        return self._source.slot_s

    def each_chunk(self, work: Callable[[int, int], Any]) -> None:
        """Call ``work(first, last)`` for every chunk of lanes, on the threads."""
        if self._pool is None:
            work(*self.chunks[0])
        else:
            list(self._pool.map(lambda chunk: work(*chunk), self.chunks))

    def reset(self, seeds: Sequence[int]) -> Telemetry:
        """Start one episode per lane. The same seed gives the same demand, whatever the lane."""
        if len(seeds) != self.lanes:
            raise ValueError(f"{len(seeds)} seeds for {self.lanes} lanes")
        for lane, seed in enumerate(seeds):
            self.reset_lane(lane, int(seed))
        return self.telemetry()

    def reset_lane(self, lane: int, seed: int) -> None:
        """Start an episode in one lane."""
        self._source.fill(seed, self.vm_specs[lane], self.host_specs[lane], self.demand[lane])
        self.vms[lane] = np.zeros((), params.VM)
        self.hosts[lane] = np.zeros((), params.HOST)
        self.clock_s[lane] = 0
        share = self.scenario.touched_share
        start.start(self.vms, self.hosts, self.vm_specs, self.host_specs, self.demand, share, lane, lane + 1)
        self.read(lane, lane + 1)

    def apply(self, targets: Targets) -> None:
        """Ask for memory sizes, ``[env, vm]``; they are held within [min_mib, memory_mib], NaN leaves a VM as it is."""
        asked = np.asarray(targets.memory_mib, np.float64)
        if asked.shape != self.vms.shape:
            raise ValueError(f"targets of shape {asked.shape}, expected {self.vms.shape}")
        asked = np.clip(asked, self.vm_specs["min_mib"], self.vm_specs["memory_mib"])
        self.vms["asked_mib"] = np.where(np.isnan(asked), self.vms["asked_mib"], asked)

    def run(self, seconds: int, first: int, last: int) -> None:
        """Advance lanes first..last-1 and read their signals (no Python between ticks)."""
        tick.advance(
            self.vms,
            self.hosts,
            self.vm_specs,
            self.host_specs,
            self.demand,
            self.clock_s,
            self.slot_s,
            seconds,
            first,
            last,
        )
        self.read(first, last)

    def read(self, first: int, last: int) -> None:
        """Refresh the signals of lanes first..last-1."""
        tele.read(self.vms, self.hosts, self.vm_specs, self.host_specs, self.vm_signals, self.host_signals, first, last)

    def advance(self, seconds: int) -> Telemetry:
        """Let `seconds` pass in every lane."""
        self.each_chunk(lambda first, last: self.run(seconds, first, last))
        return self.telemetry()

    def telemetry(self) -> Telemetry:
        """A reading that later ticks do not change."""
        return Telemetry(self.clock_s.astype(np.float64), self.vm_signals.copy(), self.host_signals.copy())

    def hidden(self) -> HiddenState:
        """The truth, for clairvoyant bounds and scorers."""
        return HiddenState(self.vms, self.hosts, self.vm_specs, self.host_specs, self.demand, self.clock_s, self.slot_s)


def _chunks(lanes: int, threads: int) -> list[tuple[int, int]]:
    edges = np.linspace(0, lanes, min(max(threads, 1), lanes) + 1).astype(int).tolist()
    return list(itertools.pairwise(edges))
