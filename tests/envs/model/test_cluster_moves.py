"""VMs that move: nothing is lost or doubled, links carry what they can, and a copy that ends without its VM leaves no trace."""

import numpy as np
import pytest

from hvgym.envs.model import convergence, migration
from hvgym.envs.model.placement import MOVING, NOWHERE, OBSTACLES, RUNNING
from hvgym.envs.telemetry import Targets

GUEST = ("allocated_mib", "resident_mib", "clean_mib", "balloon_mib", "free_backed_mib", "free_deflated_mib",
         "free_untouched_mib", "swap_in_mib", "swap_out_mib", "file_in_mib", "file_out_mib", "balloon_moved_mib",
         "report_total_mib", "asked_mib")  # fmt: skip
"""What a guest knows of itself."""

LINK = 119.0
APART = {"shared_link": False, "link_mib_per_s": LINK}
QUIET = {"tier_write_share": [0.0, 0.0, 0.0, 0.0]}
"""A VM that only reads."""


def guest(vm):
    return {name: np.array(vm[name]) for name in GUEST}


def arrived(cluster, v, most_s=300):
    return cluster.until(lambda: cluster.place(v)["state"] != MOVING and cluster.place(v)["wanted"] == NOWHERE, most_s)


# What moves


@pytest.mark.parametrize("hypervisor", ["kvm", "esxi", "hyperv", "xen"])
@pytest.mark.parametrize(
    ("size_mib", "postcopy_after_s", "atol"), [(1600.0, None, 1e-9), (1600.0, 3.0, 1e-9), (900.0, None, 0.05)]
)
def test_a_move_leaves_the_guest_as_it_was(clusters, hypervisor, size_mib, postcopy_after_s, atol):
    """Told by a cluster in which nothing moves: guest swap, balloon and page cache travel. A guest under pressure pages a
    third of a MiB a second, and not while it stands still for a tenth of one."""
    rules = {"postcopy_after_s": postcopy_after_s, "slow_to_share": None}
    moved, stayed = (clusters(vms=[QUIET], hosts=[APART], hypervisor=hypervisor, migration=rules) for _ in range(2))
    for cluster in (moved, stayed):
        cluster.sim.apply(Targets(np.full((1, 4), size_mib)))
        cluster.second(60)
    assert stayed.vm(0)["balloon_mib"] == pytest.approx(2048.0 - size_mib)
    home = int(moved.place(0)["host"])
    moved.move(v0=(home + 1) % 3)
    moved.second()
    while moved.place(0)["state"] == MOVING:
        moved.second()
        moved.check()
    assert moved.place(0)["host"] == (home + 1) % 3
    assert moved.place(0)["moves"] == 1
    stayed.second(int(moved.clock_s[0] - stayed.clock_s[0]))
    for name, value in guest(stayed.vm(0)).items():
        np.testing.assert_allclose(moved.vm(0)[name], value, rtol=0, atol=atol, err_msg=name)


def test_an_idle_vm_sends_its_content_once_at_the_speed_of_the_link(clusters):
    cluster = clusters(vms=[{"host": "node-0"} | QUIET], hosts=[APART])
    cluster.second(5)
    content = migration.content_mib(cluster.vm(0), cluster.spec(0))
    took = arrived(cluster.move(v0=1).second(), 0)
    place = cluster.place(0)
    assert place["moved_mib"] == pytest.approx(content, rel=1e-9)
    assert took == pytest.approx(content / LINK, abs=1.0)
    assert place["downtime_s"] == pytest.approx(0.05)


def test_two_copies_share_a_link_and_take_twice_as_long(clusters):
    alone, both = (clusters(vms=[{"host": "node-0"} | QUIET], hosts=[APART]) for _ in range(2))
    for cluster in (alone, both):
        cluster.second(5)
    one = arrived(alone.move(v0=1).second(), 0)
    both.move(v0=1, v1=2).second()
    assert both.host(0)["outgoing"] == 2
    assert both.host(0)["tx_mib_per_s"] == pytest.approx(LINK)
    assert both.host(1)["rx_mib_per_s"] == pytest.approx(LINK / 2)
    assert arrived(both, 0) == pytest.approx(2 * one, abs=2.0)


@pytest.mark.parametrize(("net", "copies"), [(5.0, LINK - 20.0), (25.0, 0.5 * LINK)])
def test_on_a_shared_link_vms_come_first_up_to_half_of_it(clusters, net, copies):
    """Four VMs of so much traffic; and it stays so, second after second."""
    vm = {"host": "node-0", "demand": {"net_mib_per_s": net}} | QUIET
    cluster = clusters(vms=[vm], hosts=[{"link_mib_per_s": LINK, "nic_mib_per_s": LINK}])
    cluster.second(5)
    speed = float(cluster.vm(1)["progress"])
    cluster.move(v0=1)
    for _ in range(10):
        cluster.second()
        assert cluster.host(0)["tx_mib_per_s"] == pytest.approx(copies)
        assert cluster.host(0)["net_mib_per_s"] == pytest.approx(min(4 * net, LINK - copies))
        assert cluster.vm(1)["progress"] == pytest.approx(min(speed, (LINK - copies) / (4 * net)), rel=1e-3)
        cluster.check()
    arrived(cluster, 0)
    cluster.second(2)
    assert (cluster.c.host_specs["nic_mib_per_s"] == LINK).all()
    assert cluster.vm(1)["progress"] == pytest.approx(speed)


def test_vms_whose_traffic_begins_while_the_link_is_full_have_it_back_a_second_later(clusters):
    vm = {"host": "node-0", "demand": {"net_mib_per_s": 10.0}} | QUIET
    cluster = clusters(vms=[vm], hosts=[{"link_mib_per_s": LINK, "nic_mib_per_s": LINK}])
    cluster.move(v0=1).second()  # nobody has sent anything yet
    assert cluster.host(0)["tx_mib_per_s"] == pytest.approx(0.98 * LINK)
    assert cluster.vm(1)["progress"] < 0.1
    cluster.second()
    assert cluster.host(0)["tx_mib_per_s"] == pytest.approx(LINK - 40.0)
    assert cluster.vm(1)["progress"] > 0.9


def test_a_shared_link_is_one_wire_whose_lesser_figure_holds(clusters):
    cluster = clusters(hosts=[{"link_mib_per_s": 119.0, "nic_mib_per_s": 1192.0}])
    assert (cluster.c.host_specs["nic_mib_per_s"] == 119.0).all()
    assert (cluster.c.machine_specs["link_mib_per_s"] == 119.0).all()


def test_swapped_pages_are_read_back_before_they_are_sent(clusters):
    cluster = clusters(vms=[{"host": "node-0", "count": 5}], hosts=[APART | {"ram_mib": 7168.0}])
    vm = cluster.vm(0)
    swapped = migration.swapped_mib(vm)
    assert swapped > 100.0
    resident, read = vm["resident_mib"].sum(), vm["host_swap_in_mib"].copy()
    cluster.move(v0=1).second()
    sent = []
    while cluster.state(0) == "moving":
        sent.append(float(cluster.host(0)["tx_mib_per_s"]))
        cluster.second()
    assert sent == pytest.approx([LINK] * len(sent))  # the disk is faster than the link, to the last page
    vm = cluster.vm(0)
    assert vm["resident_mib"].sum() == pytest.approx(resident, abs=1.0)
    assert migration.swapped_mib(vm) == 0.0
    assert vm["host_swap_in_mib"] - read > 0.95 * swapped
    cluster.check()


def test_a_little_swap_is_read_in_a_little_time(clusters):
    cluster = clusters(vms=[{"host": "node-0"} | QUIET], hosts=[APART])
    cluster.vm(0)["host_swapped_mib"][2] = 10.0
    cluster.c.host_specs["swap_mib_per_s"] = 50.0
    cluster.move(v0=1).second()
    assert cluster.host(0)["tx_mib_per_s"] == pytest.approx(10.0 + 0.8 * LINK)
    assert cluster.vm(0)["host_swap_in_mib"] == 10.0


def test_merged_and_compressed_pages_are_whole_again(clusters):
    vms = [{"host": "node-0", "count": 6, "mergeable_share": 0.5}]
    cluster = clusters(vms=vms, hosts=[APART | {"ram_mib": 8192.0}], hypervisor="esxi", stack="vsphere")
    cluster.second(30)
    vm = cluster.vm(0)
    assert vm["zipped_mib"] + vm["shared_mib"] > 50.0
    here = vm["resident_mib"].sum() + vm["free_backed_mib"]
    arrived(cluster.move(v0=1).second(), 0)
    cluster.second()
    vm = cluster.vm(0)
    assert vm["resident_mib"].sum() + vm["free_backed_mib"] == pytest.approx(here, abs=2.0)
    assert vm["zipped_mib"] == vm["host_swapped_mib"].sum() == 0.0
    cluster.check()


def test_the_target_holds_what_has_come_and_the_source_of_a_post_copy_what_has_not_gone(clusters):
    cluster = clusters(vms=[{"host": "node-0"} | QUIET], hosts=[APART], migration={"postcopy_after_s": 6.0})
    cluster.second(5)
    cluster.move(v0=1)
    overhead = cluster.spec(0)["overhead_mib"]
    for passed in range(1, 5):
        cluster.second()
        assert cluster.host(1)["incoming_mib"] == pytest.approx(overhead + passed * LINK)
    cluster.until(lambda: cluster.place(0)["host"] == 1)
    left = convergence.left_mib(cluster.place(0)["copy"])
    assert cluster.place(0)["state"] == MOVING
    assert (cluster.host(0)["incoming_mib"], cluster.host(1)["incoming_mib"]) == (pytest.approx(left), 0.0)
    assert left > 1000.0
    arrived(cluster, 0)
    assert (cluster.c.machines["incoming_mib"] == 0.0).all()
    assert cluster.place(0)["moves"] == 1


def test_demand_goes_with_the_vm(clusters):
    """Of two VMs that do unlike things each goes on with its own after they have changed places."""
    light = {"name": "light", "count": 1, "host": "node-0", "demand": {"cpu_share": 0.1}}
    heavy = {"name": "heavy", "count": 1, "host": "node-1", "memory_mib": 3000.0}
    cluster = clusters(vms=[light, heavy | {"demand": {"cpu_share": 0.6, "hot_mib": 600.0}}])
    cluster.second(5)
    cluster.move(v0=1, v1=0)
    cluster.until(lambda: (cluster.c.residents["moves"] == 1).all())
    cluster.check()
    before = cluster.vms["cpu_s"][0].copy()
    cluster.second(10)
    np.testing.assert_allclose(cluster.vms["cpu_s"][0] - before, [10 * 0.1 * 2, 10 * 0.6 * 2], rtol=0.02)
    np.testing.assert_allclose(cluster.vms["resident_mib"][0][:, 0], [400.0, 600.0], rtol=1e-6)


# What does not move


def test_a_copy_that_is_called_off_leaves_no_trace(clusters):
    hit, spared = (clusters(vms=[{"host": "node-0"}], hosts=[APART]) for _ in range(2))
    hit.move(v0=1, v1=2).second(6)
    assert hit.state(0) == hit.state(1) == "moving"
    hit.move(v0=0, v1=0)
    assert (hit.state(0), hit.blocked(0)) == ("running", "nothing")
    hit.second(60)
    hit.check()
    spared.second(66)
    for name in ("vms", "vm_specs", "hosts", "host_specs"):
        assert getattr(hit.c, name).tobytes() == getattr(spared.c, name).tobytes(), name
    assert (hit.c.machines["incoming_mib"] == 0.0).all()
    assert hit.c.residents["failed_moves"].sum() == 2


def test_a_copy_that_times_out_leaves_no_trace(clusters):
    rules = {"poll_s": 1.0, "timeout_s_per_gib": 4.0, "throttle_most_share": None}
    hit, spared = (clusters(vms=[{"host": "node-0"}], hosts=[APART], migration=rules) for _ in range(2))
    hit.move(v0=1).second(60)
    assert (hit.state(0), hit.blocked(0)) == ("running", "a copy that did not end")
    assert hit.place(0)["failed_moves"] == 1
    assert hit.place(0)["wanted"] == NOWHERE
    spared.second(60)
    for name in ("vms", "vm_specs", "hosts", "host_specs"):
        assert getattr(hit.c, name).tobytes() == getattr(spared.c, name).tobytes(), name


def test_moves_begin_in_the_order_in_which_they_were_wanted(clusters):
    cluster = clusters(vms=[{"host": "node-0"} | QUIET], hosts=[APART], migration={"parallel_per_cluster": 1})
    cluster.second(5)
    cluster.move(v1=1).second(2)
    cluster.move(v3=1).second(2)
    cluster.move(v0=1).second(2)
    assert [cluster.state(v) for v in range(4)] == ["running", "moving", "running", "running"]
    assert cluster.blocked(3) == cluster.blocked(0) == "as many at once as the stack allows"
    cluster.until(lambda: cluster.state(3) == "moving" or cluster.state(0) == "moving")
    assert (cluster.state(3), cluster.state(0)) == ("moving", "running")


def test_a_vm_that_boots_moves_when_it_has_booted(clusters):
    cluster = clusters(vms=[{"arrive_s": 5.0, "count": 1}])
    cluster.until(lambda: cluster.place(0)["state"] == RUNNING)
    cluster.move(v0=(int(cluster.place(0)["host"]) + 1) % 3)
    waited = cluster.until(lambda: cluster.place(0)["moves"] == 1)
    assert waited == pytest.approx(20, abs=1)
    cluster.check()


def test_a_vm_that_is_deleted_while_it_is_copied_is_gone_at_both_ends(clusters):
    cluster = clusters(vms=[{"host": "node-0", "leave_s": 10}], hosts=[APART])
    cluster.move(v0=1).second(9)
    assert cluster.state(0) == "moving"
    for _ in range(4):
        cluster.second()
        cluster.check()
    assert [cluster.state(v) for v in range(4)] == ["absent"] * 4
    assert (cluster.c.machines["count"] == 0).all()
    assert cluster.vm(0)["asked_s"] == 10.0


def test_its_own_host_calls_off_what_was_wanted_in_any_state(clusters):
    cluster = clusters(vms=[{"host": "node-0"}], hosts=[APART], migration={"parallel_per_cluster": 1})
    cluster.move(v0=1, v1=2).second(2)
    cluster.move(v0=2)  # elsewhere: the copy ends, another is wanted
    assert (cluster.state(0), cluster.place(0)["wanted"]) == ("running", 2)
    cluster.move(v0=0, v1=0)
    cluster.second(2)
    assert (cluster.c.residents["wanted"] == NOWHERE).all()
    assert (cluster.c.residents["state"] == RUNNING).all()
    cluster.check()


# Room


def test_a_limit_goes_with_a_vm_that_moves_and_binds_where_it_comes(clusters):
    """1,300 MiB, a kernel and a process against 800; it was set on the first host, and only for the first VM."""
    cluster = clusters(vms=[{"host": "node-0"} | QUIET], hosts=[APART])
    cluster.sim.apply(Targets(limit_mib=np.array([[800.0, np.nan, np.nan, np.nan]])))
    cluster.second(60)
    home = cluster.telemetry().vm[0]
    assert home["limit_mib"].tolist() == pytest.approx([800.0, np.nan, np.nan, np.nan], nan_ok=True)
    assert home["resident_mib"][0] == pytest.approx(800.0, abs=1.0)
    assert (home["resident_mib"][1:] > 1300.0).all()
    arrived(cluster.move(v0=1).second(), 0)
    cluster.second(60)
    there = cluster.telemetry().vm[0]
    assert cluster.place(0)["host"] == 1
    assert there["limit_mib"][0] == 800.0
    assert there["resident_mib"][0] == pytest.approx(800.0, abs=1.0)
    cluster.check()


def test_where_memory_is_committed_a_vm_brings_its_balloon_and_needs_what_it_has(clusters):
    giant, there = (
        {"name": "giant", "count": 2, "memory_mib": 6144.0},
        {"name": "there", "count": 1, "memory_mib": 9000.0},
    )
    vms = [giant | {"host": "node-0"}, there | {"host": "node-1"}]
    cluster = clusters(vms=vms, hosts=[{"count": 2}], hypervisor="hyperv", stack="hyperv")
    cluster.sim.apply(Targets(np.array([[3000.0, 6144.0, 9000.0]])))
    cluster.second(60)
    has = [float(6144.0 - cluster.vm(v)["balloon_mib"]) for v in range(2)]
    free = float(cluster.c.hosts[0, 1]["free_mib"])
    assert has[0] < cluster.spec(1)["startup_mib"] < free - 500.0 < has[1] - 500.0  # it would start there
    cluster.move(v1=1).second(3)
    assert (cluster.state(1), cluster.blocked(1)) == ("running", "the host's memory")
    balloon = float(cluster.vm(0)["balloon_mib"])
    arrived(cluster.move(v0=1).second(), 0)
    assert cluster.place(0)["host"] == 1
    assert cluster.vm(0)["balloon_mib"] == pytest.approx(balloon)
    cluster.check()


@pytest.mark.parametrize(("hypervisor", "stack", "min_mib"), [("esxi", "vsphere", 7200.0), ("hyperv", "hyperv", 512.0)])
def test_a_copy_under_way_takes_its_room_at_once(clusters, hypervisor, stack, min_mib):
    """Two VMs that each have room, but not both."""
    vms = [{"memory_mib": 8000.0, "min_mib": min_mib, "count": 1, "host": f"node-{h}"} for h in range(2)]
    vms = [one | {"name": f"vm-{h}"} for h, one in enumerate(vms)]
    cluster = clusters(vms=vms, hosts=[APART], hypervisor=hypervisor, stack=stack)
    cluster.c.host_specs["min_free_mib"][0, 2] += 500.0  # where memory is committed they would both just fit
    cluster.move(v0=2, v1=2).second()
    assert [cluster.state(v) for v in range(2)] == ["moving", "running"]
    assert cluster.blocked(1) == "the host's memory"
    cluster.second(5)
    assert cluster.state(1) == "running"
    cluster.move(v0=0).second()  # its room is free again
    assert cluster.state(1) == "moving"


# How many at once


@pytest.mark.parametrize(
    ("stack", "hypervisor", "link_mib_per_s", "hosts", "out", "at_all"),
    [
        ("proxmox", "kvm", 1192.0, 3, 4, 8),
        ("nova", "kvm", 1192.0, 3, 1, 2),
        ("ovirt", "kvm", 1192.0, 3, 2, 2),  # the target takes two
        ("ovirt", "kvm", 1192.0, 4, 2, 4),
        ("kubevirt", "kvm", 1192.0, 3, 2, 4),
        ("kubevirt", "kvm", 1192.0, 6, 2, 5),
        ("xenserver", "xen", 1192.0, 4, 3, 3),
        ("hyperv", "hyperv", 1192.0, 4, 2, 4),
        ("vsphere", "esxi", 1192.0, 3, 8, 8),  # the target's network takes 8, of a link of 10 Gb/s
        ("vsphere", "esxi", 119.2, 3, 4, 4),  # 4 of 1 Gb/s
        ("vsphere", "esxi", 1192.0, 4, 8, 16),
    ],
)
def test_as_many_vms_move_at_once_as_the_stack_lets_them(
    clusters, stack, hypervisor, link_mib_per_s, hosts, out, at_all
):
    """All VMs of one half of the hosts are wanted on the other, ten of each."""
    sources = hosts // 2 if hosts > 3 else 2
    targets = hosts - sources
    vms = [{"name": f"on{h}", "count": 10, "host": f"node-{h}", "memory_mib": 1024.0} | QUIET for h in range(sources)]
    host = {"count": hosts, "ram_mib": 65536.0, "shared_link": False, "link_mib_per_s": link_mib_per_s}
    cluster = clusters(stack=stack, hypervisor=hypervisor, vms=vms, hosts=[host])
    cluster.move(**{f"v{v}": sources + v // 10 % targets for v in range(10 * sources)}).second()
    waiting = [v for v in range(10 * sources) if cluster.place(v)["wanted"] != NOWHERE]
    assert 10 - sum(v < 10 for v in waiting) == out
    assert 10 * sources - len(waiting) == at_all
    assert {cluster.blocked(v) for v in waiting} == {"as many at once as the stack allows"}
    assert cluster.until(lambda: (cluster.c.residents["moves"] == 1).all(), 600)
    assert (cluster.c.machines["units"] == 0.0).all()


def test_a_disk_that_moves_takes_half_of_an_esxi_host(clusters):
    vms = [{"host": "node-0", "disk_mib": 2000.0} | QUIET]
    cluster = clusters(stack="vsphere", hypervisor="esxi", vms=vms, hosts=[APART | {"own_storage": True}])
    cluster.move(v0=1, v1=1, v2=1).second()
    assert [cluster.state(v) for v in range(3)] == ["moving", "moving", "running"]
    assert cluster.c.machines["units"][0, :2].tolist() == [[2.0, 32.0, 8.0]] * 2


# Disks


def test_where_storage_is_not_shared_the_disk_moves_first(clusters):
    cluster = clusters(vms=[{"host": "node-0", "disk_mib": 1000.0} | QUIET], hosts=[APART | {"own_storage": True}])
    cluster.second(5)
    content = migration.content_mib(cluster.vm(0), cluster.spec(0))
    assert cluster.place(0)["disk_host"] == 0
    cluster.move(v0=1).second()
    assert cluster.place(0)["disk_left_mib"] == pytest.approx(1000.0 - LINK)
    assert cluster.place(0)["copy"]["sent_mib"] == 0.0
    took = arrived(cluster, 0)
    assert took == pytest.approx((1000.0 + content) / LINK, abs=2.0)
    assert (cluster.place(0)["disk_host"], cluster.place(1)["disk_host"]) == (1, 0)
    assert cluster.place(0)["moved_mib"] == pytest.approx(1000.0 + content)


def test_a_stack_that_moves_no_disks_says_so(clusters):
    cluster = clusters(hosts=[{"own_storage": True}], stack="kubevirt", vms=[{"host": "node-0"}])
    cluster.move(v0=1).second(3)
    assert (cluster.state(0), cluster.blocked(0)) == ("running", "storage that is not shared")


@pytest.mark.parametrize(
    ("here", "there", "vm", "why"),
    [
        ({"cpu": "x86-64-v4"}, {"cpu": "x86-64-v3"}, {}, "its CPU level is above the host's"),
        ({}, {"cpu": "arm64"}, {}, "another architecture"),
        ({}, {"hypervisor": "xen"}, {}, "another hypervisor"),
        ({}, {}, {"disk": "nvme-passthrough"}, "its devices are passed through"),
        ({"hypervisor": "workstation"}, {}, {}, "this hypervisor moves no running VM"),
    ],
)
def test_obstacles_say_why(clusters, here, there, vm, why):
    hosts = [{"name": "a", "count": 1} | here, {"name": "b", "count": 1} | there]
    cluster = clusters(hosts=hosts, vms=[{"count": 1, "host": "a"} | vm])
    cluster.move(v0=1).second(2)
    assert (cluster.state(0), cluster.blocked(0)) == ("running", why)
    assert OBSTACLES[cluster.places().obstacles[0, 0, 1]] == why
