"""What the default rules hold of delay and cost: readings are as old as their source, settings wait for their channel, and who
watches pages pays for it.

Readings (``seats.Reading``). A source that is refreshed every `every_s` seconds, counted from the start of the episode, is seen as
it was at the last refresh, and `stats_age_s` says so. Of a VM that was started less than `silent_s` ago it says nothing. The clock
is that of the rollout or the environment: a refresh within a step of the environment is one at the end of that step, and a start
is seen at the end of the step in which it happens.

Settings (``seats.Channel``). After a setting that took effect the next of the same VM takes effect `every_s` later; one that is
asked for sooner is held until then, and of several the last one wins. What a policy leaves alone (NaN) holds nothing up.

Cost (``model.host.scanning``). Who declares a signal of `page_ages` pays a pass over the guests' memory for each reading, who asks
for pages by age (`reclaim_age_s` with an amount) one over those VMs, and both at once one. DAMON, sampling and page protection run
all the time for those that declare what needs them. Blocks of 2 MiB look hot whole to all that looks at accessed bits.

Under ``rules=open`` nothing of this is done, and for who sees the hidden state, which reads nothing. Left out: that a decision
itself takes CPU time.
"""

from dataclasses import dataclass

import numpy as np

from hvgym.envs.backends import AnySimulator
from hvgym.envs.hosts_view import HostsView
from hvgym.envs.model.guest import activity
from hvgym.envs.model.host import scanning
from hvgym.envs.model.params import PAGES_PER_MIB
from hvgym.envs.rules import Declaration, channels_of
from hvgym.envs.scenario import Scenario
from hvgym.envs.seats import Method, Reading, Seat, signals_of
from hvgym.envs.targets import checked
from hvgym.envs.telemetry import AGES_S, SIGNAL_GROUPS, VM_SIGNALS, Targets, Telemetry

PASSES: dict[Method, float] = {"walk": scanning.WALK_S, "rmap": scanning.RMAP_S}
"""Methods that are paid by the pass, and CPU time of an entry."""

BY_BITS: tuple[Method, ...] = ("walk", "rmap", "damon")
"""Methods that see blocks of 2 MiB as one."""

_HOST = "host."

_IDLE, _WOKEN = (
    slice(first := [signal.name for signal in VM_SIGNALS].index(name), first + len(AGES_S))
    for name in (f"idle_{AGES_S[0]}s_mib", f"woken_{AGES_S[0]}s_mib_per_s")
)
"""Where signals by age stand in a row of the telemetry, in the order of their ages."""


@dataclass
class _Source:
    """A reading that is held: its signals, of VMs and of hosts, and when each lane's was refreshed, ``[env]``."""

    every_s: int
    silent_s: int
    vm: tuple[str, ...]
    host: tuple[str, ...]
    refreshed_s: np.ndarray

    @staticmethod
    def of(reading: Reading, readable: frozenset[str], lanes: int) -> "_Source":
        names = signals_of(reading.names) & readable
        vm = tuple(sorted(name for name in names if not name.startswith(_HOST)))
        host = tuple(sorted(name.removeprefix(_HOST) for name in names if name.startswith(_HOST)))
        return _Source(reading.every_s, reading.silent_s, vm, host, np.full(lanes, -np.inf))


class _Channel:
    """A channel whose settings are held, entry by entry, ``[env, vm]`` or ``[env, host]``."""

    def __init__(self, every_s: int, shape: tuple[int, ...]) -> None:
        self.every_s = every_s
        self.asked = np.full(shape, np.nan)
        self.free_s = np.full(shape, -np.inf)

    def ask(self, asked: np.ndarray) -> None:
        """The last one wins."""
        self.asked = np.where(np.isnan(asked), self.asked, asked)

    def due(self, clock_s: np.ndarray) -> np.ndarray:
        """What takes effect now; NaN leaves a thing."""
        now = ~np.isnan(self.asked) & (clock_s[:, None] >= self.free_s)
        taken = np.where(now, self.asked, np.nan)
        self.free_s = np.where(now, clock_s[:, None] + self.every_s, self.free_s)
        self.asked[now] = np.nan
        return taken


class Watching:
    """One policy's, or one environment's, view of a batch and hold on it. Time is each lane's own clock, ``[env]``."""

    def __init__(
        self, who: Declaration, readable: frozenset[str], seat: Seat, sim: AnySimulator | HostsView, every_s: int = 1
    ) -> None:
        lanes, vms = sim.vms.shape
        channels = channels_of(who, sim.scenario)
        self._sim = sim
        shapes = {"scan_pages_per_s": sim.hosts.shape}
        sources = (
            _Source.of(one, readable, lanes) for one in seat.signals if one.every_s > every_s or one.silent_s > 0
        )
        self._sources = [source for source in sources if source.vm or source.host]
        self._held: Telemetry | None = None
        self._started_s = np.full((lanes, vms), np.nan)
        self._channels = {
            one.name: _Channel(one.every_s, shapes.get(one.name, (lanes, vms)))
            for one in seat.channels
            if one.every_s > 1 and one.name in channels
        }
        signals = (who.signals or frozenset()) | who.read_besides(seat)
        self._reads_ages = bool(signals & set(SIGNAL_GROUPS["page_ages"]))
        self._methods = {one.method for one in seat.signals if one.method and signals & signals_of(one.names)}
        self._ages_by = {one.method for one in seat.signals if one.method and "page_ages" in one.names}
        self._asks_by = {one.method for one in seat.channels if one.method and one.name in channels}

    @property
    def steps_s(self) -> tuple[int, ...]:
        """Seconds of which a clock should be no multiple that is larger, lest a refresh or a setting come late."""
        readings = (source.every_s for source in self._sources)
        return tuple(one for one in (*readings, *(channel.every_s for channel in self._channels.values())) if one > 1)

    def is_live(self, every_s: int) -> bool:
        """Whether who decides each `every_s` seconds from the start sees all as it is, and sets it at once."""
        sources = all(source.silent_s == 0 and every_s % source.every_s == 0 for source in self._sources)
        return sources and not self._channels and not self._reads_ages

    @property
    def delays(self) -> bool:
        """Whether some reading is held."""
        return bool(self._sources)

    @property
    def changes(self) -> bool:
        """Whether a reading as the seat has it may differ from what is true now."""
        return bool(self._sources) or (self._reads_ages and bool(self._ages_by & set(BY_BITS)))

    def holds(self, channel: str) -> bool:
        """Whether settings of a channel may have to wait."""
        return channel in self._channels

    def begin(self, telemetry: Telemetry, lanes: slice = slice(None)) -> None:
        """Start episodes in these lanes: all is read anew, and what runs all the time is paid from now on.

        VMs that run have been running for long, but for those that were told with what to start.
        """
        vm = telemetry.vm[lanes]
        booted = np.where(np.isnan(vm["startup_mib"]), -np.inf, telemetry.time_s[lanes, None])
        self._started_s[lanes] = np.where(vm["running"] > 0.0, booted, np.nan)
        for source in self._sources:
            source.refreshed_s[lanes] = -np.inf
        for channel in self._channels.values():
            channel.asked[lanes], channel.free_s[lanes] = np.nan, -np.inf
        self._pay_steadily(lanes)
        self.note(telemetry)

    def _pay_steadily(self, lanes: slice) -> None:
        methods = self._methods | self._asks_by
        host_specs, vms = self._sim.host_specs[lanes], self._sim.vm_specs.shape[1]
        sampled = vms * (activity.SAMPLED_PAGES * scanning.MINOR_FAULT_S / activity.SAMPLE_S)
        host_specs["watching_cpu"] += scanning.DAMON_CPUS * ("damon" in methods) + sampled * ("sampling" in methods)
        if "page_protection" in methods:
            self._sim.add_watch_tax(lanes, scanning.PROTECTION_TAX)

    def note(self, telemetry: Telemetry) -> None:
        """Refresh what is due at this reading, and see which VMs have been started."""
        if not self._sources:
            return
        if any(set(source.vm) & set(SIGNAL_GROUPS["page_ages"]) for source in self._sources):
            telemetry = self._as_watched(telemetry)
        now, running = telemetry.time_s, telemetry.vm["running"] > 0.0
        self._started_s[~running] = np.nan
        self._started_s = np.where(running & np.isnan(self._started_s), now[:, None], self._started_s)
        if self._held is None:
            self._held = Telemetry(now.copy(), telemetry.vm.copy(), telemetry.host.copy())
        for source in self._sources:
            due = np.ones(len(now), np.bool_)
            if source.every_s > 1:
                due = np.floor(now / source.every_s) > np.floor(source.refreshed_s / source.every_s)
            source.refreshed_s[due] = now[due]
            for name in source.vm:
                self._held.vm[name][due] = telemetry.vm[name][due]
            for name in source.host:
                self._held.host[name][due] = telemetry.host[name][due]

    def seen(self, telemetry: Telemetry) -> Telemetry:
        """A reading as the seat has it: ages of blocks, sources as old as they are, nothing of what is silent."""
        telemetry = self._as_watched(telemetry)
        vm, host, now = telemetry.vm, telemetry.host, telemetry.time_s
        for source in self._sources:
            assert self._held is not None  # `begin` comes first
            silent = ~(now[:, None] - self._started_s >= source.silent_s) & (source.silent_s > 0)
            for name in source.vm:
                vm[name] = np.where(silent, np.nan, self._held.vm[name])
            for name in source.host:
                host[name] = self._held.host[name]
            if "stats_age_s" in source.vm:
                vm["stats_age_s"] += (now - source.refreshed_s)[:, None]
        return Telemetry(now, vm, host, telemetry.places)

    def signals_seen(self, telemetry: Telemetry) -> tuple[np.ndarray, np.ndarray]:
        """Those of VMs and of hosts."""
        seen = self.seen(telemetry)
        return seen.vm, seen.host

    def _as_watched(self, telemetry: Telemetry) -> Telemetry:
        """A copy; by accessed bits more of the memory in 2 MiB blocks is hot, as blocks (``model.host.scanning``)."""
        vm = telemetry.vm.copy()
        if self._reads_ages and self._ages_by & set(BY_BITS):
            self._see_blocks(vm)
        return Telemetry(telemetry.time_s.copy(), vm, telemetry.host.copy(), telemetry.places)

    def _see_blocks(self, vm: np.ndarray) -> None:
        state, signals = self._sim.vms, vm.view(np.float64).reshape(*vm.shape, -1)
        there = (state["resident_mib"] - state["host_swapped_mib"]).sum(axis=2)
        there = (there + np.maximum(state["free_backed_mib"] - state["free_swapped_mib"], 0.0))[:, :, None]
        factor = (1.0 + (scanning.HOT_IN_LARGE - 1.0) * self._large_share())[:, :, None]
        idle, woken = signals[:, :, _IDLE], signals[:, :, _WOKEN]
        hot = factor * np.maximum(there - idle, 0.0)
        woken[:] = np.where((hot < there) | (factor == 1.0), factor * woken, 0.0)
        idle[:] = np.where(factor > 1.0, np.maximum(there - hot, 0.0), idle)

    def _large_share(self) -> np.ndarray:
        return np.asarray(self._sim.vms["large_share"] * self._sim.scenario.hypervisor.large_pages)

    def pay_for_reading(self) -> None:
        """A reading of page ages, if this policy reads them."""
        if self._reads_ages:
            self._pass(self._ages_by, np.ones(self._sim.vms.shape, np.bool_))

    def pay_for_asking(self, targets: Targets) -> None:
        """A search for pages by their age, of VMs from which some are asked."""
        if targets.reclaim_age_s is None or targets.reclaim_mib is None:
            return
        amount_mib, age_s = (np.asarray(one, np.float64) for one in (targets.reclaim_mib, targets.reclaim_age_s))
        self._pass(self._asks_by, (amount_mib > 0.0) & ~np.isnan(age_s))

    def _pass(self, methods: set[Method], which: np.ndarray) -> None:
        """Begin a pass over these VMs, ``[env, vm]``, where none is on its way."""
        entry_s = max((PASSES.get(method, 0.0) for method in methods), default=0.0)
        if entry_s == 0.0:
            return
        state, specs, large = self._sim.vms, self._sim.vm_specs, self._large_share()
        mapped = np.maximum(self._sim.vm_signals["resident_mib"] - specs["overhead_mib"], 0.0)
        entries = mapped * PAGES_PER_MIB * (1.0 - large + large / scanning.PAGES_PER_BLOCK)
        takes_s = entry_s * entries * which * (state["admitted"] > 0.0)
        host = self._sim.hosts[:, 0]
        host["pass_left_s"] = np.where(host["pass_left_s"] > 0.0, host["pass_left_s"], takes_s.sum(axis=1))

    def due(self, clock_s: np.ndarray, targets: Targets | None = None) -> Targets | None:
        """What takes effect now of a decision, if there is one, and of those that were held; None where nothing does.

        Raises:
            TargetsError: as `Simulator.apply`.
        """
        if not self._channels:
            return targets
        lanes, vms = self._sim.vms.shape
        asked = {} if targets is None else checked(targets, lanes, vms, self._sim.hosts.shape[1])
        for name, channel in self._channels.items():
            if name in asked:
                channel.ask(asked[name])
            taken = channel.due(clock_s)
            if np.isnan(taken).all():
                asked.pop(name, None)
            else:
                asked[name] = taken
        return Targets(**asked) if asked or targets is not None else None


def watching(
    who: Declaration,
    scenario: Scenario,
    readable: frozenset[str] | None,
    sim: AnySimulator | HostsView,
    every_s: int = 1,
) -> Watching | None:
    """What is held for a policy or an environment that looks each `every_s` seconds or seldom; None where nothing is."""
    if readable is None or scenario.hypervisor.capabilities is None:
        return None
    return Watching(who, readable, scenario.hypervisor.capabilities.seat(who.seat), sim, every_s)
