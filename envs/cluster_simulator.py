"""Several hosts as a `Backend`: what a policy of a cluster drives.

The model's arrays lie host by host (``model.placement``); what this class hands out is by the VMs' own order.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hvgym.envs import cluster_reading
from hvgym.envs import cluster_specs as specs
from hvgym.envs import telemetry as tele
from hvgym.envs.demand import demand_source
from hvgym.envs.model import cluster, cluster_start, params, placement
from hvgym.envs.model.guest import balloon
from hvgym.envs.scenario import Scenario
from hvgym.envs.seeds import key_of
from hvgym.envs.simulator import LEAST_SHARES, set_limits
from hvgym.envs.targets import check_limits, checked
from hvgym.envs.telemetry import HiddenState, Places, Targets, Telemetry
from hvgym.envs.threads import Threads


class ClusterSimulator(Threads):
    """`lanes` independent clusters of one scenario. `vms` and `vm_specs` are copies by VM, ``[env, vm]``; hosts, host_specs and
    machines ``[env, host]``, residents ``[env, vm]`` are the model's own."""

    def __init__(self, scenario: Scenario, lanes: int = 1, threads: int = 1) -> None:
        super().__init__(lanes, threads)
        self.scenario, self.lanes = scenario, lanes
        self._sources = [demand_source(scenario.alone_on(group), alone=False) for group in scenario.hosts]
        self.slot_s = self._sources[0].slot_s
        vms, hosts, kinds = len(scenario.groups), len(scenario.host_names), len(scenario.hosts)
        self._vm_signals = np.zeros((lanes, vms), tele.VM_TELEMETRY)
        self._rows_signals = np.zeros((lanes, vms), tele.VM_TELEMETRY)
        self._host_signals = np.zeros((lanes, hosts), tele.HOST_TELEMETRY)
        self._places = np.zeros((lanes, vms), tele.VM_PLACES), np.zeros((lanes, hosts), tele.HOST_PLACES)
        self._obstacles = np.zeros((lanes, vms, hosts), np.int8)
        self._clock_ghz = np.array([group.clock_ghz for group in scenario.hosts for _ in group.names])
        self.unread = False  # whether the model has gone on since the signals were read
        specs_by_kind = params.zeros((lanes, kinds, vms), params.VM_SPEC)
        demand = params.zeros((lanes, self._sources[0].slots, vms), params.DEMAND)
        self._fill(0, specs_by_kind[0], demand[0])  # sizes and overheads of a first seed say whether all fit
        self._host_rows = specs.host_rows(scenario, specs_by_kind[0])
        self.arrays = cluster.Arrays(
            vms=params.zeros((lanes, vms), params.VM),
            vm_specs=params.zeros((lanes, vms), params.VM_SPEC),
            hosts=params.zeros((lanes, hosts), params.HOST),
            host_specs=params.zeros((lanes, hosts), params.HOST_SPEC),
            machines=np.zeros((lanes, hosts), placement.MACHINE),
            machine_specs=specs.machine_rows(scenario, self._host_rows),
            residents=np.zeros((lanes, vms), placement.RESIDENT),
            order=np.zeros((lanes, vms), np.int64),
            demand=demand,
            now=params.zeros((lanes, vms), params.DEMAND),
            kinds=specs_by_kind,
            live=specs.live_obstacles(scenario),
            cold=specs.cold_obstacles(scenario),
            disk_mib=np.array([group.disk_mib for group in scenario.groups]),
            failures=specs.failure_rows(scenario),
            plans=specs.plan_rows(scenario),
            rules=specs.migration_row(scenario),
            ha=specs.ha_row(scenario),
            stack=specs.stack_row(scenario),
            spare_vms=params.zeros((lanes, vms), params.VM),
            spare_specs=params.zeros((lanes, vms), params.VM_SPEC),
            queue=np.zeros((lanes, vms), np.int64),
            blank=params.zeros((1,), params.VM),
            clock_s=np.zeros(lanes, np.int64),
            slot_s=np.array([self.slot_s], np.int64),
        )

    def _fill(self, seed: int, kinds: np.ndarray, demand: np.ndarray) -> None:
        """Write specifications ``[kind, vm]`` and demand ``[slot, vm]`` of an episode."""
        host = params.zeros((1,), params.HOST_SPEC)
        for k, source in enumerate(self._sources):
            source.fill(seed, kinds[k], host, demand)
            specs.fit_clock(self.scenario, k, kinds[k])

    @property
    def clock_s(self) -> np.ndarray:
        """Seconds since reset, ``[env]``."""
        return self.arrays.clock_s

    @property
    def hosts(self) -> np.ndarray:
        """``[env, host]`` of `params.HOST`."""
        return self.arrays.hosts

    @property
    def host_specs(self) -> np.ndarray:
        """``[env, host]`` of `params.HOST_SPEC`."""
        return self.arrays.host_specs

    @property
    def vms(self) -> np.ndarray:
        """A copy by VM, ``[env, vm]`` of `params.VM`."""
        return self.by_vm(self.arrays.vms)

    @property
    def vm_specs(self) -> np.ndarray:
        """A copy by VM, ``[env, vm]`` of `params.VM_SPEC`."""
        return self.by_vm(self.arrays.vm_specs)

    def by_vm(self, rows: np.ndarray) -> np.ndarray:
        """Copy an array ``[env, row]``, or a field of it, into the VMs' order, ``[env, vm]``."""
        at: np.ndarray = self.arrays.residents["row"]
        return np.asarray(rows[np.arange(self.lanes)[:, None], at])

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
        if self.unread:
            self.each_chunk(self.read)
            self.unread = False

    def reset(self, seeds: Sequence[int]) -> Telemetry:
        """Start one episode per lane. The same seed gives the same demand and failures, whatever the lane."""
        if len(seeds) != self.lanes:
            raise ValueError(f"{len(seeds)} seeds for {self.lanes} lanes")
        for lane, seed in enumerate(seeds):
            self.reset_lane(lane, int(seed))
        return self.telemetry()

    def reset_lane(self, lane: int, seed: int) -> None:
        """Start an episode in one lane."""
        seed, c = key_of(seed), self.arrays
        self._fill(seed, c.kinds[lane], c.demand[lane])
        c.host_specs[lane] = self._host_rows
        for rows, record in ((c.vms, params.VM), (c.hosts, params.HOST), (c.machines, placement.MACHINE)):
            rows[lane] = np.zeros((), record)
        c.residents[lane] = np.zeros((), placement.RESIDENT)
        c.hosts[lane]["seed"] = seed
        c.clock_s[lane] = 0
        specs.begin_residents(self.scenario, seed, c.kinds[lane, 0]["memory_mib"], self._host_rows, c.residents[lane])
        cluster_start.start(c, self.scenario.touched_share, lane, lane + 1)
        self.unread = True

    def apply(self, targets: Targets) -> None:
        """Carry a policy's decision into the model. Raises `TargetsError`, before anything is changed, for what no stack could be
        told."""
        c = self.arrays
        asked = checked(targets, self.lanes, c.residents.shape[1], c.hosts.shape[1])
        check_limits(asked, self.scenario.hypervisor)
        least, most = self.by_vm(c.vm_specs["min_mib"]), self.by_vm(c.vm_specs["memory_mib"])
        self._set("asked_mib", asked.get("memory_mib"), least, most)
        if "reclaim_mib" in asked:
            self._set("reclaim_mib", asked["reclaim_mib"])
            self._set("reclaim_age_s", np.where(np.isnan(asked["reclaim_mib"]), np.nan, 0.0))
            self._set("reclaim_age_s", asked.get("reclaim_age_s"))
            wanted = self.by_vm(c.vms["reclaim_mib"]) > 0.0
            c.hosts["reclaims"] = self._on_hosts(wanted)
        if "scan_pages_per_s" in asked:
            given = asked["scan_pages_per_s"]
            c.hosts["scan_pages_per_s"] = np.where(np.isnan(given), c.hosts["scan_pages_per_s"], given)
        if "report_free_pages" in asked:
            self._set("reporting_share_per_s", asked["report_free_pages"] * balloon.REPORTED_PER_S, rows=c.vm_specs)
        self._set("may_start", asked.get("admit"))
        for name, divides in (("disk_shares", "divides_disk"), ("net_shares", "divides_net")):
            if name in asked:
                self._set(name, asked[name], LEAST_SHARES)
                c.hosts[divides] = np.maximum(c.hosts[divides], self._on_hosts(~np.isnan(asked[name])))
        if "limit_mib" in asked:
            by_row = np.empty_like(asked["limit_mib"])
            by_row[np.arange(self.lanes)[:, None], c.residents["row"]] = asked["limit_mib"]
            c.hosts["limited"][set_limits(c.vms, c.vm_specs, by_row)] = 1.0  # wherever its VM may move
        self._apply_places(asked)

    def _apply_places(self, asked: dict[str, np.ndarray]) -> None:
        """Moves, maintenance and the order of restarts."""
        c = self.arrays
        for name, rows, field in (
            ("maintenance", c.machines, "maintenance"),
            ("restart_priority", c.residents, "priority"),
        ):
            if name in asked:
                rows[field] = np.where(np.isnan(asked[name]), rows[field], asked[name])
        if "move_to" in asked:
            given = ~np.isnan(asked["move_to"])
            cluster.want(c, np.where(given, asked["move_to"], placement.NOWHERE).astype(np.int64))

    @property
    def asks(self) -> np.ndarray:
        """Whether a VM is asked to run, ``[env, vm]``."""
        return np.asarray(self.arrays.residents["state"] != placement.ABSENT)

    def of_host(self, rows: np.ndarray) -> np.ndarray:
        """Give each VM, ``[env, vm]``, what its host has, ``[env, host]``; one without a host gets the first one's."""
        return np.asarray(np.take_along_axis(rows, np.maximum(self.arrays.residents["host"], 0), axis=1))

    def on_hosts(self, amounts: np.ndarray) -> np.ndarray:
        """Add up what VMs have, ``[env, vm]``, by host, ``[env, host]``."""
        at = self.arrays.residents["host"]
        return np.stack([np.where(at == h, amounts, 0.0).sum(axis=1) for h in range(self.hosts.shape[1])], axis=1)

    def add_watch_tax(self, lanes: slice, tax: float) -> None:
        """Let VMs be trapped by who watches their pages, wherever they are."""
        for rows in (self.arrays.vm_specs, self.arrays.kinds):
            rows["watch_tax"][lanes] += tax

    def _on_hosts(self, which: np.ndarray) -> np.ndarray:
        """Whether a host, ``[env, host]``, has any of these VMs, ``[env, vm]``."""
        at = self.arrays.residents["host"]
        return np.stack([(which & (at == h)).any(axis=1) for h in range(self.hosts.shape[1])], axis=1).astype(
            np.float64
        )

    def _set(
        self, field: str, asked: np.ndarray | None, least: Any = 0.0, most: Any = np.inf, rows: np.ndarray | None = None
    ) -> None:
        """Write what a policy asked for, ``[env, vm]``, into a field of the model, within bounds; NaN and None leave it."""
        if asked is None:
            return
        rows = self.arrays.vms if rows is None else rows
        at = np.arange(self.lanes)[:, None], self.arrays.residents["row"]
        rows[field][at] = np.where(np.isnan(asked), rows[field][at], np.clip(asked, least, most))

    def run(self, seconds: int, first: int, last: int) -> None:
        """Advance lanes first..last-1."""
        cluster.advance(self.arrays, seconds, first, last)

    def read(self, first: int, last: int) -> None:
        """Refresh the signals of lanes first..last-1."""
        cluster_reading.read(self.arrays, self._rows_signals, self._vm_signals, self._host_signals, first, last)

    def advance(self, seconds: int) -> Telemetry:
        """Let `seconds` pass in every lane."""
        self.each_chunk(lambda first, last: self.run(seconds, first, last))
        self.unread = True
        return self.telemetry()

    def telemetry(self) -> Telemetry:
        """A reading that later ticks do not change."""
        self._read_late()
        self.each_chunk(lambda first, last: cluster_reading.read_activity(self.arrays, self._vm_signals, first, last))
        return Telemetry(
            self.clock_s.astype(np.float64), self._vm_signals.copy(), self._host_signals.copy(), self.places()
        )

    def places(self) -> Places:
        """The stack's view, as it is now."""
        vm, host = self._places
        cluster_reading.read_places(self.arrays, vm, host, self._obstacles)
        host["clock_ghz"] = self._clock_ghz
        return Places(vm.copy(), host.copy(), self._obstacles.copy())

    def leave_starts_to_policies(self) -> None:
        """From now on a VM starts where a policy says, and waits until one does."""
        self.arrays.stack["places"] = 0.0

    def recovery_s(self) -> np.ndarray:
        """The longest time from a failure of a host until a VM of it was back at work, ``[env]``; one that is not yet counts until
        now."""
        residents = self.arrays.residents
        still = np.where(residents["recovering"] > 0.0, self.clock_s[:, None] - residents["lost_at_s"], 0.0)
        return np.asarray(np.maximum(residents["slowest_recovery_s"], still).max(axis=1))

    def hidden(self) -> HiddenState:
        """The truth, for clairvoyant bounds and scorers; VMs by their own order."""
        c = self.arrays
        return HiddenState(self.vms, c.hosts, self.vm_specs, c.host_specs, c.demand, c.clock_s, self.slot_s)
