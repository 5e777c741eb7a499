"""The simulated host as a `Backend`: what a policy drives, and what real guests could stand in for.

A batch of environments, one seed each. Memory is plain structured arrays; time is advanced by the compiled model in
contiguous chunks of lanes, on as many threads as asked for. Lanes share nothing, so neither their number nor the
threads change a result.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hvgym.envs import telemetry as tele
from hvgym.envs.demand import DemandSource, demand_source
from hvgym.envs.model import params, start, tick
from hvgym.envs.model.guest import balloon
from hvgym.envs.scenario import Scenario
from hvgym.envs.seeds import key_of
from hvgym.envs.targets import check_limits, checked
from hvgym.envs.telemetry import HiddenState, Targets, Telemetry
from hvgym.envs.threads import Threads

LEAST_SHARES = 1e-6
"""Of disk or link, in place of 0: with none at all for anybody, nobody would be served."""


class Backend(Protocol):
    """What rollouts and policies know of a host, simulated or real."""

    def reset(self, seeds: Sequence[int]) -> Telemetry:
        """Start one episode per seed."""

    def apply(self, targets: Targets) -> None:
        """Ask for memory sizes and whatever else a policy decides; balloons approach sizes."""

    def advance(self, seconds: int) -> Telemetry:
        """Let time pass and read every signal."""


class Simulator(Threads):
    """`lanes` independent hosts of one scenario. Arrays: vms, vm_specs ``[env, vm]``; hosts, host_specs ``[env,
    host]``.
    """

    def __init__(
        self, scenario: Scenario, lanes: int = 1, threads: int = 1, source: DemandSource | None = None
    ) -> None:
        super().__init__(lanes, threads)
        self.scenario = scenario
        self.lanes = lanes
        self._source = source or demand_source(scenario)
        vms = len(scenario.groups)
        self.vms = params.zeros((lanes, vms), params.VM)
        self.hosts = params.zeros((lanes, 1), params.HOST)
        self.vm_specs = params.zeros((lanes, vms), params.VM_SPEC)
        self.host_specs = params.zeros((lanes, 1), params.HOST_SPEC)
        self.demand = params.zeros((lanes, self._source.slots, vms), params.DEMAND)
        self.clock_s = np.zeros(lanes, np.int64)
        self._vm_signals = np.zeros((lanes, vms), tele.VM_TELEMETRY)
        self._host_signals = np.zeros((lanes, 1), tele.HOST_TELEMETRY)
        self.unread = False  # whether the model has gone on since the signals were read

    @property
    def slot_s(self) -> int:
        """Length of a slot of the demand."""
        return self._source.slot_s

    @property
    def vm_signals(self) -> np.ndarray:
        """Every signal of the VMs, ``[env, vm]``, page ages and samples as `telemetry` left them."""
        self._read_late()
        return self._vm_signals

    @property
    def host_signals(self) -> np.ndarray:
        """Every signal of the hosts, ``[env, host]``."""
        self._read_late()
        return self._host_signals

    def _read_late(self) -> None:
        """Read signals that were left unread, for who steps an environment seldom asks for all of them."""
        if self.unread:
            self.each_chunk(self.read)
            self.unread = False

    def reset(self, seeds: Sequence[int]) -> Telemetry:
        """Start one episode per lane. The same seed gives the same demand, whatever the lane."""
        if len(seeds) != self.lanes:
            raise ValueError(f"{len(seeds)} seeds for {self.lanes} lanes")
        for lane, seed in enumerate(seeds):
            self.reset_lane(lane, int(seed))
        return self.telemetry()

    def reset_lane(self, lane: int, seed: int) -> None:
        """Start an episode in one lane."""
        seed = key_of(seed)
        self._source.fill(seed, self.vm_specs[lane], self.host_specs[lane], self.demand[lane])
        self.vms[lane] = np.zeros((), params.VM)
        self.hosts[lane] = np.zeros((), params.HOST)
        self.hosts[lane]["seed"] = seed
        self.clock_s[lane] = 0
        share = self.scenario.touched_share
        start.start(self.vms, self.hosts, self.vm_specs, self.host_specs, self.demand, share, lane, lane + 1)
        self.read(lane, lane + 1)

    def apply(self, targets: Targets) -> None:
        """Carry a policy's decision into the model; memory sizes are held within [min_mib, memory_mib].

        Raises `TargetsError`, before anything is changed, for what no host could be told.
        """
        vms, specs = self.vms, self.vm_specs
        asked = checked(targets, self.lanes, vms.shape[1], self.hosts.shape[1])
        check_limits(asked, self.scenario.hypervisor)
        _set(vms, "asked_mib", asked.get("memory_mib"), specs["min_mib"], specs["memory_mib"])
        if "reclaim_mib" in asked:
            _set(vms, "reclaim_mib", asked["reclaim_mib"])
            vms["reclaim_age_s"][~np.isnan(asked["reclaim_mib"])] = 0.0
            _set(vms, "reclaim_age_s", asked.get("reclaim_age_s"))
            self.hosts["reclaims"][:, 0] = (vms["reclaim_mib"] > 0.0).any(axis=1)
        _set(self.hosts, "scan_pages_per_s", asked.get("scan_pages_per_s"))
        if "report_free_pages" in asked:
            _set(specs, "reporting_share_per_s", asked["report_free_pages"] * balloon.REPORTED_PER_S)
        _set(vms, "may_start", asked.get("admit"))
        for name, divides in (("disk_shares", "divides_disk"), ("net_shares", "divides_net")):
            if name in asked:
                _set(vms, name, asked[name], LEAST_SHARES)
                self.hosts[divides][:, 0][(~np.isnan(asked[name])).any(axis=1)] = 1.0
        if "limit_mib" in asked:
            limited = set_limits(vms, specs, asked["limit_mib"])
            self.hosts["limited"][limited] = 1.0

    @property
    def asks(self) -> np.ndarray:
        """Whether a VM wants to run, ``[env, vm]``."""
        return np.asarray((self.vms["admitted"] > 0.0) | (self.vms["arrive_in_s"] <= 0.0))

    def of_host(self, rows: np.ndarray) -> np.ndarray:
        """Give each VM, ``[env, vm]``, what its host has, ``[env, host]``."""
        return np.broadcast_to(rows, self.vms.shape)

    def on_hosts(self, amounts: np.ndarray) -> np.ndarray:
        """Add up what VMs have, ``[env, vm]``, by host, ``[env, host]``."""
        return np.asarray(amounts.sum(axis=1, keepdims=True))

    def add_watch_tax(self, lanes: slice, tax: float) -> None:
        """Let VMs be trapped by who watches their pages."""
        self.vm_specs["watch_tax"][lanes] += tax

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
        tele.read(
            self.vms, self.hosts, self.vm_specs, self.host_specs, self._vm_signals, self._host_signals, first, last
        )

    def advance(self, seconds: int) -> Telemetry:
        """Let `seconds` pass in every lane."""
        self.each_chunk(lambda first, last: self.run(seconds, first, last))
        return self.telemetry()

    def telemetry(self) -> Telemetry:
        """A reading that later ticks do not change."""
        self._read_late()
        self.each_chunk(
            lambda first, last: tele.read_activity(self.vms, self.hosts, self.vm_specs, self._vm_signals, first, last)
        )
        return Telemetry(self.clock_s.astype(np.float64), self._vm_signals.copy(), self._host_signals.copy())

    def hidden(self) -> HiddenState:
        """The truth, for clairvoyant bounds and scorers."""
        return HiddenState(self.vms, self.hosts, self.vm_specs, self.host_specs, self.demand, self.clock_s, self.slot_s)


def _set(
    rows: np.ndarray, field: str, asked: np.ndarray | None, least: np.ndarray | float = 0.0,
    most: np.ndarray | float = np.inf,
) -> None:  # fmt: skip
    """Write what a policy asked for into a field of the model, within bounds; NaN and None leave it."""
    if asked is not None:
        rows[field] = np.where(np.isnan(asked), rows[field], np.clip(asked, least, most))


def set_limits(vms: np.ndarray, specs: np.ndarray, asked_mib: np.ndarray) -> np.ndarray:
    """Set limits of host memory, ``[env, vm]``, process counted; NaN leaves one. A balloon that the old limit called for goes to
    the new one. Return which lanes have a limit, ``[env]``."""
    memory_mib, given = specs["memory_mib"], ~np.isnan(asked_mib)
    limit_mib = np.maximum(asked_mib - specs["overhead_mib"], specs["limit_least_mib"])
    limit_mib = np.where(asked_mib >= memory_mib + specs["overhead_mib"], np.inf, limit_mib)
    ballooned = given & (vms["limit_size_mib"] < memory_mib)
    vms["limit_mib"] = np.where(given, limit_mib, vms["limit_mib"])
    vms["limit_size_mib"] = np.where(ballooned, np.minimum(limit_mib, memory_mib), vms["limit_size_mib"])
    return np.asarray(np.isfinite(vms["limit_mib"]).any(axis=1))
