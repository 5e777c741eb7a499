"""Clusters to the bit: one host of a cluster is that host alone, lanes and threads change nothing, and neither does looking."""

import dataclasses

import numpy as np
import pytest

from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

BUSY = {"phase_s": 60.0, "phase_swing": 0.4, "burst_mib": 400.0, "burst_every_s": 90.0, "burst_length_s": 30.0,
        "net_mib_per_s": 20.0, "disk_mib_per_s": 5.0}  # fmt: skip
SHORT = {"count": 1, "ram_mib": 6144.0}
"""A host on which four VMs of 2 GiB are overcommitted."""

OF_WAITING = {"waiting"}
"""Of a host: in a cluster nobody waits for a host."""

OF_ABSENT = {
    "report_age_s", "report_answered", "report_free_mib", "report_available_mib", "report_total_mib", "report_caches_mib",
    "report_swap_in_mib", "report_swap_out_mib", "report_major_faults", "report_committed_mib",
}  # fmt: skip
"""Of a VM that arrives: a host alone polls the statistics of a VM that is not there yet, so its polls fall at other seconds."""


def same(a, b, but=frozenset()):
    return [name for name in a.dtype.names if name not in but and a[name].tobytes() != b[name].tobytes()]


def alone(scenario):
    """The same VMs on the one host of this cluster, which is none."""
    group = scenario.hosts[0]
    single = scenario.alone_on(group)
    return dataclasses.replace(single, vms=tuple(
        dataclasses.replace(one, arrive_s=vm.arrive_s) for one, vm in zip(single.vms, scenario.vms, strict=True)
    ))  # fmt: skip


@pytest.mark.parametrize("hypervisor", ["kvm", "esxi", "hyperv"])
@pytest.mark.parametrize("arrives", [False, True])
def test_a_cluster_of_one_host_is_that_host_alone_to_the_bit(cluster_scenario, hypervisor, arrives):
    vms = [{"demand": BUSY}, {"name": "late", "count": 1, "arrive_s": 100.0, "demand": BUSY}]
    scenario = cluster_scenario(vms=vms if arrives else vms[:1], hosts=[SHORT], hypervisor=hypervisor, stack="vsphere")
    many, one = ClusterSimulator(scenario), Simulator(alone(scenario))
    for sim in (many, one):
        sim.reset([5])
    for second in range(600):
        if second % 60 == 30:
            size = one.vm_specs["memory_mib"] * (0.5 if second % 120 == 30 else 0.9)
            for sim in (many, one):
                sim.apply(Targets(size))
        now, then = many.advance(1), one.advance(1)
        assert same(many.vms[0], one.vms[0], OF_ABSENT if arrives else ()) == [], second
        assert same(many.hosts[0], one.hosts[0], OF_WAITING if arrives else ()) == [], second
        if not arrives:
            assert same(now.vm[0], then.vm[0]) == [], second
            assert same(now.host[0], then.host[0]) == [], second


def eventful(cluster_scenario, **changes):
    """Failures by chance and by list, VMs that come and go, a host to be emptied, unlike hosts."""
    hosts = [{"name": "a", "count": 2, "failures_per_year": 5e4}, {"name": "b", "count": 1, "clock_ghz": 2.0}]
    return cluster_scenario(
        vms=[{"count": 5, "demand": BUSY}, {"name": "late", "count": 2, "arrive_s": 40.0, "leave_s": 250.0}], hosts=hosts,
        failures=[{"host": "b", "at_s": 120, "kind": "crash"}], stack="vsphere",
        maintenance=[{"host": "a-1", "from_s": 20, "deadline_s": 200, "until_s": 400}], **changes,
    )  # fmt: skip


def play(sim, turns=60):
    """Moves and sizes that do not depend on what happens."""
    rng = np.random.default_rng(4)
    shape = sim.arrays.residents.shape[1]
    for _ in range(turns):
        to = np.where(rng.random(shape) < 0.3, rng.integers(0, 3, shape), np.nan)
        size = rng.uniform(600.0, 2048.0, shape)
        lanes = (sim.lanes, 1)
        sim.apply(Targets(np.tile(size, lanes), move_to=np.tile(to, lanes)))
        sim.advance(5)


ARRAYS = ("vms", "vm_specs", "hosts", "host_specs", "machines", "residents", "now", "order")


def test_lanes_and_threads_change_nothing(cluster_scenario):
    scenario = eventful(cluster_scenario)
    batch, threaded = ClusterSimulator(scenario, 3), ClusterSimulator(scenario, 3, threads=2)
    for sim in (batch, threaded):
        sim.reset([7, 8, 9])
        play(sim)
    for name in ARRAYS:
        assert getattr(batch.arrays, name).tobytes() == getattr(threaded.arrays, name).tobytes(), name
    for lane, seed in enumerate([7, 8, 9]):
        single = ClusterSimulator(scenario)
        single.reset([99])
        play(single, 3)  # nothing of what was played before stays
        single.reset([seed])
        play(single)
        for name in ARRAYS:
            assert getattr(single.arrays, name)[0].tobytes() == getattr(batch.arrays, name)[lane].tobytes(), (
                name,
                lane,
            )
        now, then = single.telemetry(), batch.telemetry()
        for mine, theirs in ((now.vm, then.vm), (now.places.vm, then.places.vm), (now.places.host, then.places.host)):
            assert mine[0].tobytes() == theirs[lane].tobytes()
    assert not np.array_equal(batch.arrays.machines["failures"][0], batch.arrays.machines["failures"][1])


def test_looking_changes_nothing(cluster_scenario):
    scenario = eventful(cluster_scenario)
    looked, left = ClusterSimulator(scenario), ClusterSimulator(scenario)
    for sim in (looked, left):
        sim.reset([3])
    for _ in range(400):
        looked.advance(1)
    left.advance(400)
    for name in ("vms", "hosts", "host_specs", "residents"):
        assert same(getattr(looked.arrays, name), getattr(left.arrays, name)) == [], name


def test_k_seconds_at_once_are_k_seconds(cluster_scenario):
    scenario = eventful(cluster_scenario)
    steps, once = ClusterSimulator(scenario), ClusterSimulator(scenario)
    for sim, step in ((steps, 1), (once, 50)):
        sim.reset([3])
        for _ in range(300 // step):
            sim.advance(step)
    assert steps.arrays.vms.tobytes() == once.arrays.vms.tobytes()
