"""Several hosts as a `Backend`: what a policy of a cluster drives.

The model's arrays lie host by host (``model.placement``); what this class hands out is by the VMs' own order.
"""

from collections.abc import Sequence

import numpy as np

from hvgym.envs import cluster_specs as specs
from hvgym.envs import telemetry as tele
from hvgym.envs.demand import demand_source
from hvgym.envs.model import cluster, cluster_start, params, placement
from hvgym.envs.model.placement import NOWHERE
from hvgym.envs.scenario import Scenario
from hvgym.envs.seeds import key_of
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import HiddenState, Places, Targets, Telemetry


class ClusterSimulator(Simulator):
    """`lanes` independent clusters of one scenario. `vms` and `vm_specs` are copies by VM, ``[env, vm]``; hosts, host_specs ``[env,
    host]`` the model's own."""

    def __init__(self, scenario: Scenario, lanes: int = 1, threads: int = 1) -> None:
        self._sources = [demand_source(scenario.alone_on(group), alone=False) for group in scenario.hosts]
        super().__init__(scenario, lanes, threads, self._sources[0])
        vms, hosts = len(scenario.groups), len(scenario.host_names)
        self.hosts = params.zeros((lanes, hosts), params.HOST)
        self.host_specs = params.zeros((lanes, hosts), params.HOST_SPEC)
        self._host_signals = np.zeros((lanes, hosts), tele.HOST_TELEMETRY)
        self._names_vms = [f"{group.name}" for group in scenario.groups]
        kinds = params.zeros((lanes, len(scenario.hosts), vms), params.VM_SPEC)
        for k, source in enumerate(self._sources):  # sizes and overheads of a first seed say whether all fit
            source.fill(0, kinds[0, k], self.host_specs[0, :1], self.demand[0])
        self._host_rows = specs.host_rows(scenario, kinds[0])
        self.arrays = cluster.Arrays(
            vms=self.vms, vm_specs=self.vm_specs, hosts=self.hosts, host_specs=self.host_specs,
            machines=np.zeros((lanes, hosts), placement.MACHINE),
            machine_specs=specs.machine_rows(scenario, self._host_rows),
            residents=np.zeros((lanes, vms), placement.RESIDENT),
            order=np.zeros((lanes, vms), np.int64),
            demand=self.demand, now=params.zeros((lanes, vms), params.DEMAND),
            kinds=kinds, live=specs.live_obstacles(scenario), cold=specs.cold_obstacles(scenario),
            disk_mib=np.array([group.disk_mib for group in scenario.groups]),
            failures=specs.failure_rows(scenario), plans=specs.plan_rows(scenario),
            rules=specs.migration_row(scenario), ha=specs.ha_row(scenario), stack=specs.stack_row(scenario),
            spare_vms=params.zeros((lanes, vms), params.VM), spare_specs=params.zeros((lanes, vms), params.VM_SPEC),
            queue=np.zeros((lanes, vms), np.int64), clock_s=self.clock_s, slot_s=np.array([self.slot_s], np.int64),
        )  # fmt: skip

    def by_vm(self, rows: np.ndarray) -> np.ndarray:
        """Copy an array ``[env, row]`` into the VMs' order, ``[env, vm]``."""
        return np.take_along_axis(rows, self.arrays.residents["row"], axis=1)

    def reset_lane(self, lane: int, seed: int) -> None:
        """Start an episode in one lane."""
        seed, c = key_of(seed), self.arrays
        for k, source in enumerate(self._sources):
            source.fill(seed, c.kinds[lane, k], self.host_specs[lane, :1], self.demand[lane])
            specs.fit_clock(self.scenario, k, c.kinds[lane, k])
        self.host_specs[lane] = self._host_rows
        self.vms[lane] = np.zeros((), params.VM)
        self.hosts[lane] = np.zeros((), params.HOST)
        self.hosts[lane]["seed"] = seed
        c.machines[lane] = np.zeros((), placement.MACHINE)
        c.residents[lane] = np.zeros((), placement.RESIDENT)
        self.clock_s[lane] = 0
        specs.begin_residents(self.scenario, c.kinds[lane, 0]["memory_mib"], self.host_specs[lane], c.residents[lane])
        cluster_start.start(c, self.scenario.touched_share, lane, lane + 1)
        self.read(lane, lane + 1)
