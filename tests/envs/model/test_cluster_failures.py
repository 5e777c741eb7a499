"""Hosts of a cluster die, are cut off, are emptied; what that costs VMs, when they are back, and what anybody knows of it."""

import numpy as np
import pytest

from hvgym.envs.model import params
from hvgym.envs.model.placement import DEAD, LOST, MOVING, NOWHERE, RESTARTING, RUNNING, UP
from hvgym.envs.telemetry import Targets

APART = {"shared_link": False, "link_mib_per_s": 119.0}
QUIET = {"tier_write_share": [0.0, 0.0, 0.0, 0.0]}
THERE = {"host": "node-1"}
DIES_S, FENCED_S, BOOT_S = 100, 118, 20

COUNTERS = (
    "touches", "major_faults", "swap_in_mib", "swap_out_mib", "file_in_mib", "file_out_mib", "host_swap_in_mib",
    "host_swap_out_mib", "balloon_moved_mib", "disk_mib", "net_mib", "cpu_s", "ready_s", "asked_s", "progress_s",
    "slo_violation_s", "oom_kills", "failed_starts", "charged_s", "heap_errors", "gc_s", "host_stalled_s",
)  # fmt: skip
"""Of a VM, since the episode began."""


def power(host="node-1", at_s=DIES_S, **more):
    return {"failures": [{"host": host, "at_s": at_s, "kind": "power", **more}]}


def fails(kind, host="node-1", at_s=DIES_S, **more):
    return {"failures": [{"host": host, "at_s": at_s, "kind": kind, **more}]}


def advance_to(cluster, clock_s):
    while cluster.clock_s[0] < clock_s:
        cluster.second()
        cluster.check()
    return cluster


# What it costs


def test_goodput_of_a_failure_by_hand(clusters):
    """vSphere fences after 18 s and starts at once; boots take 20 s, then memory comes back at growth_mib_per_s."""
    hit = clusters(
        stack="vsphere", vms=[THERE | {"growth_mib_per_s": 50.0, "weight": 2.0, "critical": True}], **power()
    )
    advance_to(hit, DIES_S)
    before, speed = float(hit.vm(0)["progress_s"]), float(hit.vm(0)["progress"])
    assert before == pytest.approx(DIES_S * speed)
    advance_to(hit, FENCED_S + BOOT_S)
    assert hit.vm(0)["progress_s"] == before
    assert hit.vm(0)["asked_s"] == FENCED_S + BOOT_S
    assert hit.vm(0)["slo_violation_s"] == FENCED_S + BOOT_S - DIES_S
    assert hit.vm(0)["charged_s"] == hit.vm(0)["oom_kills"] == 0.0  # a failure is no kill
    advance_to(hit, 300)
    filled_s = 1300.0 / 50.0
    lost = 300.0 - float(hit.vm(0)["progress_s"]) / speed
    assert lost == pytest.approx(38.0 + 0.5 * filled_s, abs=3.0)
    assert hit.vm(0)["asked_s"] == 300.0
    back_s = DIES_S + hit.place(0)["slowest_recovery_s"]
    assert back_s == pytest.approx(FENCED_S + BOOT_S + 0.5 * filled_s, abs=3.0)
    assert hit.place(0)["outage_s"] == hit.place(0)["slowest_recovery_s"]
    assert hit.recovery_s()[0] == hit.place(0)["slowest_recovery_s"]


def test_unserved_time_counts_until_a_vm_is_back_and_for_ever_if_it_is_not(clusters):
    """Three hosts hold two VMs each and no more: those of the dead one are given up, and one is started where somebody wants it."""
    hosts, vms = [{"ram_mib": 5120.0}], [{"host": f"node-{h}", "name": f"vm-{h}", "count": 2} for h in range(3)]
    cluster = clusters(hosts=hosts, vms=vms, stack="ovirt", ha={"most_tries": 3, "retry_s": (10.0,), "retry_times": ()},
                       **power(lasts_s=400))  # fmt: skip
    cluster.sim.arrays.stack["most_overcommit"] = 1.0
    advance_to(cluster, DIES_S)
    worked_s = cluster.vms["progress_s"][0].copy()
    cluster.until(lambda: cluster.state(2) == "refused", 600)
    assert cluster.state(3) == "refused"
    assert cluster.blocked(2) == "the host's memory"
    assert cluster.place(2)["tries"] == 3
    advance_to(cluster, 500)
    for v in (2, 3):
        assert cluster.vm(v)["asked_s"] == 500.0
        assert cluster.vm(v)["progress_s"] == worked_s[v]
        assert cluster.place(v)["outage_s"] == 400.0
    cluster.until(lambda: cluster.host(1)["state"] == UP)
    cluster.move(v2=1).second()
    assert (cluster.state(2), cluster.state(3)) == ("running", "refused")
    assert cluster.place(2)["restarts"] == 1
    cluster.check()


def test_a_restart_remembers_nothing_but_its_counters(clusters):
    """Nor what a policy had asked of it: `power_off` names the counters that stay."""
    cluster = clusters(stack="vsphere", vms=[THERE], **power())
    cluster.sim.apply(Targets(np.full((1, 4), 1000.0), limit_mib=np.full((1, 4), 1500.0)))
    advance_to(cluster, DIES_S)
    assert np.isfinite(cluster.vm(0)["limit_mib"])
    for at, name in enumerate(COUNTERS):
        cluster.vm(0)[name] += 1000.0 + at
    before = cluster.vms[0, 0]
    assert before["balloon_mib"] > 0.0
    cluster.second()
    vm = cluster.vm(0)
    for name in COUNTERS:
        assert vm[name] == before[name] + (1.0 if name == "asked_s" else 0.0), name
    fresh = clusters(vms=[{"arrive_s": 50.0}], stack="vsphere").vm(0)
    for name in params.VM.names:
        if name not in (*COUNTERS, "sample_cpu_s", "sample_progress_s"):
            np.testing.assert_array_equal(vm[name], fresh[name], err_msg=name)
    advance_to(cluster, FENCED_S + BOOT_S + 60)
    assert cluster.vm(0)["balloon_mib"] == 0.0
    assert cluster.vm(0)["resident_mib"].sum() == pytest.approx(1300.0, rel=0.01)
    assert np.isinf(cluster.vm(0)["limit_mib"])


def test_a_host_that_is_back_holds_vms_to_limits_that_were_set_before_it_died(clusters):
    """1,300 MiB, a kernel and a process against 800, of a VM that moves there afterwards."""
    cluster = clusters(stack="vsphere", vms=[{"host": "node-0"} | QUIET], hosts=[APART], **power(lasts_s=100))
    cluster.sim.apply(Targets(limit_mib=np.array([[800.0, np.nan, np.nan, np.nan]])))
    advance_to(cluster, DIES_S + 1)
    cluster.until(lambda: cluster.host(1)["state"] == UP)
    assert cluster.host(1)["count"] == 0
    cluster.move(v0=1).second()
    cluster.until(lambda: cluster.state(0) == "running")
    cluster.second(30)
    assert cluster.place(0)["host"] == 1
    assert cluster.telemetry().vm["resident_mib"][0, 0] == pytest.approx(800.0, abs=1.0)


# Who comes back where


def test_who_is_not_protected_waits_for_its_own_host_and_no_other(clusters):
    lone = [THERE | {"high_availability": False}]
    cluster = clusters(stack="proxmox", vms=lone, **power(lasts_s=100))
    advance_to(cluster, 250)
    assert cluster.state(0) == "lost"
    cluster.until(lambda: cluster.host(1)["state"] == UP)
    assert cluster.clock_s[0] == pytest.approx(DIES_S + 100 + 60, abs=1)
    cluster.until(lambda: cluster.place(0)["state"] == RUNNING, 30)
    assert (cluster.c.residents["host"] == 1).all()
    never = clusters(stack="vsphere", vms=lone, **power(lasts_s=100))
    advance_to(never, 500)
    assert never.state(0) == "lost"
    assert never.vm(0)["asked_s"] == 500.0
    assert never.place(0)["outage_s"] == 400.0


def test_an_unprotected_vm_does_not_go_elsewhere_when_its_host_is_full(clusters):
    cluster = clusters(stack="proxmox", vms=[THERE | {"high_availability": False}], **power(lasts_s=100))
    cluster.until(lambda: cluster.place(0)["state"] == RESTARTING)
    cluster.c.machines["maintenance"][0, 1] = 1.0
    cluster.second(120)
    assert (cluster.state(0), cluster.blocked(0)) == ("restarting", "the host is in maintenance")
    assert cluster.place(0)["host"] == NOWHERE


def test_a_vm_on_own_storage_comes_back_with_its_host(clusters):
    hosts = [{"own_storage": True}]
    cluster = clusters(stack="vsphere", hosts=hosts, vms=[THERE], ha={"retry_s": (10.0,), "most_tries": None},
                       **power(lasts_s=100))  # fmt: skip
    advance_to(cluster, 200)
    assert cluster.state(0) == "restarting"
    assert cluster.blocked(0) in ("storage that is not shared", "the host is not at work")
    cluster.until(lambda: cluster.place(0)["state"] == RUNNING, 120)
    assert (cluster.place(0)["host"], cluster.host(1)["state"]) == (1, UP)


def test_a_disk_on_shared_storage_is_not_to_be_had_on_a_host_with_its_own(clusters):
    hosts = [{"name": "node", "count": 2}, {"name": "island", "count": 1, "own_storage": True, "ram_mib": 65536.0}]
    cluster = clusters(stack="vsphere", hosts=hosts, vms=[THERE], **power())
    advance_to(cluster, FENCED_S + 2)
    assert (cluster.c.residents["host"] == 0).all()


def test_limits_on_starts_at_once_are_no_tries(clusters):
    """Twelve VMs, two hosts that start two at once for five seconds each: 3 rounds, and nobody has tried twice."""
    small = THERE | {"count": 12, "memory_mib": 1024.0, "demand": {"hot_mib": 100.0, "cache_mib": 0.0}}
    hosts = [{"ram_mib": 32768.0}]
    cluster = clusters(stack="vsphere", vms=[small], hosts=hosts, ha={"starts_per_host": 2}, **power())
    started = {}
    while cluster.clock_s[0] < FENCED_S + 20:
        cluster.second()
        cluster.check()
        running = int((cluster.c.residents["state"] == RUNNING).sum())
        started.setdefault(running, int(cluster.clock_s[0]) - 1)
    assert started == {12: 0, 0: DIES_S, 4: FENCED_S, 8: FENCED_S + 5}
    assert (cluster.c.residents["tries"] == 1).all()
    assert cluster.c.machines["count"][0].tolist() == [6, 0, 6]


def test_a_policy_that_keeps_a_vm_waiting_costs_it_no_try(clusters):
    cluster = clusters(stack="vsphere", vms=[THERE], ha={"most_tries": 2, "retry_s": (10.0,)}, **power())
    advance_to(cluster, FENCED_S - 1)
    cluster.sim.apply(Targets(admit=np.array([[0.0, 1.0, 1.0, 1.0]])))
    advance_to(cluster, FENCED_S + 100)
    assert [cluster.state(v) for v in range(4)] == ["restarting"] + ["running"] * 3
    cluster.sim.apply(Targets(admit=np.ones((1, 4))))
    cluster.second()
    assert cluster.state(0) == "running"


# Copies whose ends die


@pytest.mark.parametrize(("host", "stays"), [("node-2", True), ("node-0", False)])
@pytest.mark.parametrize("kind", ["power", "isolated"])
def test_a_copy_ends_with_either_end(clusters, host, stays, kind):
    vms = [{"host": "node-0", "count": 2} | QUIET]
    cluster = clusters(stack="vsphere", vms=vms, hosts=[APART], **fails(kind, host, 10))
    cluster.second(5)
    cluster.move(v0=2).second(5)
    assert cluster.state(0) == "moving"
    cluster.second()
    cluster.check()
    assert (cluster.c.machines["incoming_mib"] == 0.0).all()
    assert cluster.place(0)["failed_moves"] == 1
    assert cluster.place(0)["host"] == 0
    assert cluster.state(0) == ("running" if stays or kind == "isolated" else "lost")
    assert (cluster.vm(0)["progress"] > 0.9) == stays


@pytest.mark.parametrize(("host", "restarts_at"), [("node-0", 20), ("node-2", 38)])
def test_a_post_copy_needs_both_its_ends(clusters, host, restarts_at):
    """Without its source it dies at once, which its host tells; with its host as any VM."""
    cluster = clusters(stack="vsphere", vms=[{"host": "node-0", "count": 1} | QUIET], hosts=[APART],
                       migration={"postcopy_after_s": 2.0, "slow_to_share": None}, **power(host, 20))  # fmt: skip
    cluster.second(12)
    cluster.move(v0=2).second(8)
    assert (cluster.state(0), cluster.place(0)["host"]) == ("moving", 2)
    cluster.second()
    assert cluster.place(0)["moves"] == 0
    assert (cluster.c.machines["incoming_mib"] == 0.0).all()
    cluster.until(lambda: cluster.place(0)["state"] == RUNNING, 60)
    assert cluster.clock_s[0] - 1 == restarts_at
    assert cluster.place(0)["lost_at_s"] == 20.0
    cluster.check()


def test_a_jvm_service_is_restarted_on_another_architecture_and_a_native_vm_waits_for_its_own(clusters):
    """Bytecode runs anywhere; a native program is back when its host has booted after the power came back."""
    hosts = [{"name": "old", "count": 1}, {"name": "arm", "count": 2, "cpu": "arm64"}]
    service = {"name": "service", "count": 1, "host": "old", "jvm": {"workload": "spring", "xmx_mib": 1024}}
    native = {"name": "native", "count": 1, "host": "old"}
    cluster = clusters(stack="vsphere", hosts=hosts, vms=[service, native], **power("old", lasts_s=200))
    cluster.move(v0=1, v1=1).second(5)  # neither moves there while it runs
    assert [cluster.blocked(v) for v in range(2)] == ["another architecture"] * 2
    advance_to(cluster, FENCED_S + BOOT_S)
    assert cluster.state(0) == "running"
    assert cluster.place(0)["host"] in (1, 2)
    assert cluster.c.vms["progress_s"][0, cluster.place(0)["row"]] > 0.0
    assert cluster.state(1) == "restarting"
    assert cluster.blocked(1) == "the host is not at work"  # the only one for it
    assert cluster.until(lambda: cluster.place(1)["state"] == RUNNING, 600)
    assert cluster.place(1)["host"] == 0
    assert cluster.clock_s[0] >= DIES_S + 200 + 60  # power, and the host's boot


# Isolation, slow death


def test_vms_of_an_isolated_host_work_for_nobody_until_its_network_is_back(clusters):
    cluster = clusters(stack="vsphere", vms=[THERE], **fails("isolated", lasts_s=50))
    advance_to(cluster, DIES_S)
    speed = float(cluster.vm(0)["progress"])
    advance_to(cluster, DIES_S + 50)
    assert cluster.state(0) == "running"  # left on, and its disk is locked
    assert cluster.vm(0)["progress_s"] == pytest.approx(100.0 * speed)
    assert cluster.vm(0)["asked_s"] == 150.0
    assert cluster.place(0)["outage_s"] == 50.0
    advance_to(cluster, DIES_S + 60)
    assert cluster.vm(0)["progress_s"] == pytest.approx(110.0 * speed)
    assert cluster.place(0)["recovering"] == 0.0
    assert cluster.recovery_s()[0] == 51.0


def test_an_isolated_host_that_switches_its_vms_off_loses_them_to_others(clusters):
    """vSphere 4: off at 14 s, started elsewhere at 15 s; the outage began with the isolation."""
    cluster = clusters(stack="vsphere", vms=[THERE], **fails("isolated", lasts_s=500),
                       ha={"isolated_s": 12.0, "response": "power_off", "response_s": 2.0, "fence_s": 0.0})  # fmt: skip
    advance_to(cluster, DIES_S + 15)
    assert (cluster.state(0), cluster.place(0)["lost_at_s"]) == ("lost", 100.0)
    advance_to(cluster, DIES_S + 16)
    assert cluster.state(0) == "running"
    assert cluster.place(0)["host"] != 1
    advance_to(cluster, DIES_S + 600)
    assert cluster.host(1)["count"] == 0


def test_a_stalled_host_looks_like_any_other_and_takes_vms(clusters):
    cluster = clusters(stack="vsphere", vms=[{"host": "node-0"}], **fails("stall", "node-0", lasts_s=100))
    cluster.sim.advance(DIES_S)
    speed = float(cluster.vm(0)["progress"])
    cluster.sim.advance(5)
    seen = cluster.telemetry().places
    assert seen.host["state"].tolist() == [[UP] * 3]
    assert (seen.obstacles == 0).all()
    assert cluster.vm(0)["progress"] == pytest.approx(0.05 * speed)
    cluster.move(v0=1).second()
    assert cluster.state(0) == "moving"


# Maintenance


def test_what_is_left_at_the_deadline_is_forced_off_and_charged(clusters):
    """One copy of four is through; one is under way, two wait."""
    plan = {"maintenance": [{"host": "node-1", "from_s": 10, "deadline_s": 40, "until_s": 300}]}
    cluster = clusters(stack="vsphere", vms=[THERE | QUIET], hosts=[APART], migration={"parallel_out": 1}, **plan)
    advance_to(cluster, 11)
    cluster.move(v0=0, v1=0, v2=0, v3=0)
    advance_to(cluster, 40)
    assert [cluster.state(v) for v in range(4)] == ["running", "moving", "running", "running"]
    cluster.second()
    cluster.check()
    assert cluster.host(1)["state"] == DEAD
    assert cluster.vms["oom_kills"][0].tolist() == [0, 1, 1, 1]
    assert cluster.vms["charged_s"][0].tolist() == [0, 600, 600, 600]
    assert (cluster.c.residents["state"] == RUNNING).all()  # and started elsewhere at once
    assert (cluster.c.machines["incoming_mib"] == 0.0).all()
    advance_to(cluster, 320)
    assert cluster.host(1)["state"] == UP
    assert cluster.host(1)["emptied_s"] < 0.0


def test_a_host_that_is_emptied_in_time_costs_nobody_anything(clusters):
    plan = {"maintenance": [{"host": "node-1", "from_s": 10, "deadline_s": 200, "until_s": 300}]}
    cluster = clusters(stack="vsphere", vms=[THERE | QUIET], **plan)
    advance_to(cluster, 11)
    assert cluster.move(v0=1, v1=0, v2=0, v3=2).host(1)["emptied_s"] < 0.0
    cluster.move(v0=2)
    advance_to(cluster, 150)
    assert 10.0 < cluster.host(1)["emptied_s"] < 60.0
    advance_to(cluster, 320)
    assert cluster.vms["oom_kills"].sum() == cluster.vms["charged_s"].sum() == 0.0
    assert (cluster.vms["asked_s"] == 320.0).all()


# What anybody knows


def test_a_dead_host_looks_up_until_it_is_noticed(clusters):
    cluster = clusters(stack="vsphere", vms=[{}], **power())
    cluster.sim.advance(DIES_S)
    before = cluster.telemetry()
    v = int(np.flatnonzero(before.places.vm["host"][0] == 1)[0])
    for second in range(1, 15):
        now = cluster.sim.advance(1)
        assert cluster.state(v) == "lost"
        assert now.vm[0, v].tobytes() == before.vm[0, v].tobytes(), second
        assert now.host[0, 1].tobytes() == before.host[0, 1].tobytes(), second
        assert now.places.host["state"].tolist() == [[UP] * 3]
        assert now.places.vm["state"][0, v] == RUNNING
        assert np.isnan(now.places.vm["since_lost_s"][0, v])
        assert (now.places.obstacles == 0).all()
    cluster.sim.advance(2)
    now = cluster.telemetry()
    assert now.places.host["state"].tolist() == [[UP, DEAD, UP]]
    assert now.places.vm["state"][0, v] == LOST
    assert now.places.vm["since_lost_s"][0, v] == 16.0
    assert now.vm["running"][0, v] == 0.0
    assert now.places.obstacles[0, v, 0] == 0
    others = [u for u in range(4) if u != v]
    assert (now.places.obstacles[0, others, 1] > 0).all()


def test_a_host_that_stalls_after_it_was_dead_once_is_not_given_away(clusters):
    failures = [
        {"host": "node-1", "at_s": 50, "kind": "crash", "lasts_s": 70},
        {"host": "node-1", "at_s": 200, "kind": "stall"},
    ]
    cluster = clusters(stack="vsphere", vms=[{}], failures=failures)
    cluster.sim.advance(210)
    assert cluster.telemetry().places.host["state"].tolist() == [[UP] * 3]


def test_an_isolated_host_cannot_be_read(clusters):
    cluster = clusters(stack="vsphere", vms=[THERE], **fails("isolated", lasts_s=60))
    cluster.sim.advance(DIES_S)
    before = cluster.telemetry()
    now = cluster.sim.advance(40)
    assert now.places.host["state"][0, 1] == 2
    assert now.vm[0, 0].tobytes() == before.vm[0, 0].tobytes()
    now = cluster.sim.advance(40)
    assert now.vm["cpu_s"][0, 0] > before.vm["cpu_s"][0, 0]
    assert cluster.place(0)["state"] not in (LOST, MOVING)
