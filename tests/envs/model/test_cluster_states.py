"""Whatever happens to a cluster, every VM is in one state and one place, and memory and links add up (``conftest.check``)."""

import dataclasses

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hvgym.envs import conservation
from hvgym.envs.model.placement import NOWHERE, RUNNING
from hvgym.envs.telemetry import Targets

SECONDS = 200
FAILURES = ("power", "crash", "isolated", "stall")


@st.composite
def vms(draw, hosts):
    """A group of VMs, now and then one that comes or goes, that nobody protects, or that a host is too small for."""
    arrives = draw(st.sampled_from([0.0, 0.0, 30.0]))
    demand = {
        "hot_mib": draw(st.floats(0, 700)), "warm_mib": draw(st.floats(0, 500)), "cold_mib": draw(st.floats(0, 500)),
        "cache_mib": draw(st.floats(0, 700)), "phase_s": 30.0, "phase_swing": draw(st.floats(0, 1)),
        "burst_mib": draw(st.floats(0, 500)), "burst_every_s": 40.0, "burst_length_s": 15.0,
        "net_mib_per_s": draw(st.sampled_from([0.0, 30.0])), "disk_mib_per_s": draw(st.sampled_from([0.0, 5.0])),
    }  # fmt: skip
    return {
        "name": f"vm-{draw(st.integers(0, 10**9))}", "count": draw(st.integers(1, 3)), "demand": demand, "arrive_s": arrives,
        "memory_mib": draw(st.sampled_from([1024.0, 2048.0, 3000.0])), "min_mib": draw(st.sampled_from([0.0, 400.0])),
        "leave_s": draw(st.sampled_from([None, None, 150])), "host": draw(st.sampled_from([None, *hosts])) if not arrives else None,
        "high_availability": draw(st.booleans()), "restart_priority": draw(st.integers(0, 3)),
        "swap": draw(st.sampled_from(["disk", "zram"])), "guest_swap_mib": draw(st.sampled_from([0.0, 1024.0])),
        "mergeable_share": draw(st.floats(0, 0.5)), "restart_s": 5.0, "disk_mib": 300.0,
    }  # fmt: skip


@st.composite
def scenarios(draw, make):
    stack = draw(st.sampled_from(["vsphere", "proxmox", "hyperv", "xenserver", "ovirt", "kubevirt", "nova"]))
    hypervisor = {"vsphere": "esxi", "hyperv": "hyperv", "xenserver": "xen"}.get(stack, "kvm")
    link = draw(st.sampled_from([119.0, 1192.0]))
    hosts = [
        {
            "name": name, "count": count, "ram_mib": draw(st.sampled_from([10240.0, 16384.0])), "link_mib_per_s": link,
            "shared_link": draw(st.booleans()), "own_storage": draw(st.sampled_from([False, False, True])),
            "clock_ghz": draw(st.sampled_from([2.0, 3.0])), "boot_s": 20.0, "repair_s": 40.0,
        }
        for name, count in (("a", 2), ("b", 1))
    ]  # fmt: skip
    names = ["a-0", "a-1", "b"]
    failures = draw(st.lists(st.fixed_dictionaries({
        "host": st.sampled_from(names), "at_s": st.integers(1, 200), "kind": st.sampled_from(FAILURES),
        "lasts_s": st.sampled_from([None, 30.0, 60.0]),
    }), max_size=4))  # fmt: skip
    plans = [{"host": "b", "from_s": 20, "deadline_s": 60, "until_s": 120}] if draw(st.booleans()) else []
    groups = draw(st.lists(vms(names), min_size=2, max_size=4, unique_by=lambda vm: vm["name"]))
    scenario = make(vms=groups, hosts=hosts, hypervisor=hypervisor, stack=stack, failures=failures, maintenance=plans)
    migration = dataclasses.replace(
        scenario.stack.migration, postcopy_after_s=draw(st.sampled_from([None, None, 3.0])), prepare_s_per_gib=0.5
    )
    return dataclasses.replace(scenario, stack=dataclasses.replace(scenario.stack, migration=migration))


@settings(max_examples=16, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(st.data(), st.integers(0, 2**32))
def test_whatever_happens_every_vm_is_in_one_place_and_memory_and_links_add_up(clusters, cluster_scenario, data, seed):
    cluster = clusters(data.draw(scenarios(cluster_scenario)), seed=seed)
    rng = np.random.default_rng(seed)
    shape = cluster.c.residents.shape
    asked, seen = np.zeros(shape[1]), set()
    for second in range(SECONDS):
        if second % 5 == 0:
            cluster.sim.apply(Targets(
                rng.uniform(0.3, 1.0, shape) * cluster.vm_specs["memory_mib"],
                move_to=np.where(rng.random(shape) < 0.2, rng.integers(0, 3, shape), np.nan),
                maintenance=np.where(rng.random((1, 3)) < 0.05, rng.integers(0, 2, (1, 3)), np.nan),
                admit=np.where(rng.random(shape) < 0.1, 0.0, 1.0),
            ))  # fmt: skip
        asks = cluster.asks[0]
        cluster.second()
        cluster.check()
        if second % 7 == 0:
            cluster.telemetry()
        asked += asks | cluster.asks[0]
        seen |= set(cluster.c.residents["state"][0].tolist())
    asked_s = cluster.vms["asked_s"][0]
    assert (np.abs(asked_s - asked) <= 1.0).all(), "a second was counted twice, or not"
    assert (cluster.vms["progress_s"][0] <= asked_s + 1e-9).all()


def test_the_check_of_a_result_sees_memory_that_copies_do_not_hold(clusters):
    cluster = clusters(vms=[{"host": "node-0"}], hosts=[{"shared_link": False, "link_mib_per_s": 119.0}])
    cluster.move(v0=1).second(5)
    assert conservation.fault(cluster.sim) is None
    cluster.c.host_specs["own_mib"][0, 1] -= 1.0
    assert conservation.fault(cluster.sim) == (0, "memory of the host does not add up to its RAM")
    cluster.c.host_specs["own_mib"][0, 1] += 1.0
    cluster.vm(1)["resident_mib"][0] += 1.0
    assert conservation.fault(cluster.sim)[1].startswith("memory of a guest")


@pytest.mark.parametrize("stack", ["vsphere", "nova", "kubevirt"])
def test_a_vm_whose_host_may_still_run_it_is_not_started_elsewhere(clusters, stack):
    """Its host is cut off: it is started elsewhere only once it is down there."""
    failures = [{"host": "node-1", "at_s": 10, "kind": "isolated", "lasts_s": 900}]
    cluster = clusters(stack=stack, vms=[{"host": "node-1"}], failures=failures)
    for _ in range(600):
        cluster.second()
        machine = cluster.host(1)
        elsewhere = (cluster.c.residents["state"] == RUNNING) & (cluster.c.residents["host"] != 1)
        assert not elsewhere.any() or machine["off_s"] >= 0.0 or machine["state"] != 2
        assert not elsewhere.any() or machine["fenced_s"] >= machine["off_s"]
    ran = cluster.c.residents["host"][0]
    assert (ran != 1).all() if stack != "vsphere" else (ran == 1).all()
    assert NOWHERE not in ran
