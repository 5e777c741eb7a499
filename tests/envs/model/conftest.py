"""Small clusters for tests, made of plain dictionaries, with what must hold of them at any second."""

import dataclasses

import numpy as np
import pytest

from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.conservation import fault
from hvgym.envs.model import placement
from hvgym.envs.model.placement import LOST, MOVING, NOWHERE, RUNNING
from hvgym.envs.scenario import resolve
from hvgym.envs.telemetry import Targets

HOST = {
    "name": "node",
    "count": 3,
    "ram_mib": 16384.0,
    "pcpus": 8.0,
    "disk_iops": 60000.0,
    "repair_s": 120.0,
    "boot_s": 60.0,
}
DEMAND = {"hot_mib": 400.0, "warm_mib": 300.0, "cold_mib": 300.0, "cache_mib": 300.0, "cpu_share": 0.2}
VM = {
    "name": "vm",
    "count": 4,
    "memory_mib": 2048.0,
    "min_mib": 512.0,
    "guest_swap_mib": 1024.0,
    "restart_s": 20.0,
    "demand": DEMAND,
}
TOLERANCE_MIB = 1e-6


def scenario_of(vms=(VM,), hosts=(HOST,), hypervisor="kvm", stack="proxmox", **changes):
    """A checked scenario; VMs and hosts are dictionaries that say what differs from `VM` and `HOST`."""
    data = {
        "name": "small", "description": "", "episode_s": 3600, "control_interval_s": 5, "slot_s": 10,
        "hypervisor": hypervisor, "stack": stack,
        "hosts": [HOST | one for one in hosts],
        "vms": [VM | one | {"demand": DEMAND | one.get("demand", {})} for one in vms],
    }  # fmt: skip
    return resolve(data | changes)


class Cluster:
    """A cluster that goes on second by second; `v` and `h` are indices of VMs and hosts."""

    def __init__(self, scenario=None, seed=1, lanes=1, threads=1, migration=None, ha=None, **keys):
        scenario = scenario or scenario_of(**keys)
        for key, changes in (("migration", migration), ("ha", ha)):
            if changes:
                stack = scenario.stack
                changed = dataclasses.replace(getattr(stack, key), **changes)
                scenario = dataclasses.replace(scenario, stack=dataclasses.replace(stack, **{key: changed}))
        self.sim = ClusterSimulator(scenario, lanes, threads)
        self.sim.reset([seed + lane for lane in range(lanes)])
        self.c = self.sim.arrays

    def __getattr__(self, name):
        return getattr(self.sim, name)

    def second(self, seconds=1):
        self.sim.run(seconds, 0, self.sim.lanes)
        self.sim.unread = True
        return self

    def until(self, true, most_s=600):
        """Go on until that holds; how long it took."""
        for passed in range(most_s):
            if true():
                return passed
            self.second()
        raise AssertionError(f"not within {most_s} s")

    def vm(self, v):
        return self.c.vms[0, self.c.residents[0, v]["row"]]

    def spec(self, v):
        return self.c.vm_specs[0, self.c.residents[0, v]["row"]]

    def place(self, v):
        return self.c.residents[0, v]

    def state(self, v):
        return placement.STATES[self.place(v)["state"]]

    def blocked(self, v):
        return placement.OBSTACLES[self.place(v)["blocked"]]

    def host(self, h):
        return self.c.machines[0, h]

    def move(self, **to):
        """Say where VMs are wanted: v0=2."""
        asked = np.full(self.c.residents.shape, np.nan)
        for name, h in to.items():
            asked[:, int(name[1:])] = h
        self.sim.apply(Targets(move_to=asked))
        return self

    def check(self):
        check(self.sim)


def check(sim):
    """What holds of every cluster after every second, whatever happens to it."""
    c = sim.arrays
    assert fault(sim) is None
    for e in range(sim.lanes):
        residents, machines = c.residents[e], c.machines[e]
        _check_rows(c, e, residents, machines)
        state, host = residents["state"], residents["host"]
        runs = (state == RUNNING) | (state == MOVING)
        admitted = c.vms["admitted"][e][residents["row"]] > 0.0
        assert (admitted == runs).all(), "only what runs has memory"
        assert ((host != NOWHERE) == (runs | (state == LOST))).all()
        dead = np.isin(machines["state"], (placement.DEAD, placement.RETURNING))
        assert not dead[host[runs]].any(), "a VM runs on a dead host"
        _check_copies(c, e, residents, machines)
        _check_off(c.vms[e][residents["row"]][~runs])


def _check_rows(c, e, residents, machines):
    rows = residents["row"]
    assert sorted(rows) == list(range(len(rows)))
    assert (c.order[e][rows] == np.arange(len(rows))).all()
    at = 0
    for h, machine in enumerate(machines):
        there = np.flatnonzero(residents["host"] == h)
        assert (machine["first"], machine["count"]) == (at, len(there))
        assert (rows[there] == np.arange(at, at + len(there))).all()
        at += len(there)


def _check_copies(c, e, residents, machines):
    """Counts, memory and links of copies."""
    moving = residents["state"] == MOVING
    hosts = np.arange(len(machines))
    for field, at in (("outgoing", "source"), ("incoming", "target")):
        counted = (residents[at][moving][:, None] == hosts).sum(axis=0)
        assert (machines[field] == counted).all()
        assert (residents[at][~moving] == NOWHERE).all()
    assert (residents["source"][moving] != residents["target"][moving]).all()
    spec, own = c.machine_specs, c.host_specs["own_mib"][e]
    np.testing.assert_array_equal(own, spec["own_mib"] + machines["incoming_mib"])
    assert (machines["incoming_mib"] >= 0.0).all()
    assert (machines["incoming_mib"][machines["outgoing"] + machines["incoming"] == 0.0] == 0.0).all()
    for way in ("tx_mib_per_s", "rx_mib_per_s"):
        assert (machines[way] <= spec["link_mib_per_s"] * (1.0 + 1e-12)).all()
    busy = np.maximum(machines["tx_mib_per_s"], machines["rx_mib_per_s"]) + machines["net_mib_per_s"]
    shared = spec["shares_link"] > 0.0
    assert (busy[shared] <= spec["nic_mib_per_s"][shared] * (1.0 + 1e-12)).all()


def _check_off(vms):
    """A VM that is down holds nothing."""
    for name in ("allocated_mib", "resident_mib", "host_swapped_mib", "merged_mib", "balloon_mib", "free_backed_mib",
                 "free_untouched_mib", "free_deflated_mib", "shared_mib", "zipped_mib", "progress", "process_s"):  # fmt: skip
        assert (vms[name] == 0.0).all(), name


@pytest.fixture(scope="session")
def clusters():
    return Cluster


@pytest.fixture(scope="session")
def cluster_scenario():
    return scenario_of


@pytest.fixture(scope="session")
def check_cluster():
    return check
