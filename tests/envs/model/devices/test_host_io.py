"""The host's disk, its link and virtual devices at work: what is served is there to be served, and goes to whom it should.

Expectations are worked out by hand, by bisection, or by the tags of mClock; nothing here asks the model what is right.
"""

import dataclasses
import math

import numpy as np
import pytest

from hvgym.envs import losses
from hvgym.envs.device import DeviceModel
from hvgym.envs.errors import InputError
from hvgym.envs.model.devices import bandwidth, qos, virtual_devices
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, group_files, load, load_group
from hvgym.envs.schema import build
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets, Visibility

PLAIN = Hypervisor("plain", 1, 256.0, 50.0, min_free_share=0.01, exit_us=0.0, nested_walks=False)
NEVER = 1e9
"""A slowdown that no objective minds."""


def hosted(host, *groups, hypervisor=PLAIN, **changes):
    """A host at the start of an episode; ample pCPUs and memory unless said otherwise."""
    machine = Host(**({"ram_mib": 65536.0, "pcpus": 256.0} | host))
    settings = {"episode_s": 1000, "control_interval_s": 1, "slot_s": 1000} | changes
    sim = Simulator(Scenario("s", "", machine, hypervisor, groups, **settings))
    sim.reset([0])
    return sim


def vm(name="vm", hot_mib=100.0, memory_mib=1024.0, cpu_share=0.2, disk=0.0, net=0.0, model=None, nic=None, **changes):
    """A VM that never swaps by itself; `disk` and `net` in MiB/s."""
    demand = Demand(hot_mib=hot_mib, cpu_share=cpu_share, disk_mib_per_s=disk, net_mib_per_s=net)
    return VmGroup(name=name, memory_mib=memory_mib, demand=demand, disk=model, nic=nic, **changes)


def named(group, name):
    return build(DeviceModel, load_group(group, name), group)


def works(kind="emulated", us=10.0, clock_ghz=2.7, **changes):
    """A device that costs so much a request, in the vCPU's thread or in the backend's, and nothing else."""
    walk = 0.0 if kind == "passthrough" else 150.0
    cost = {"backend": "vcpu" if kind == "emulated" else "thread", "host_cycles": us * clock_ghz * 1e3 - walk}
    settings = {"guest_cycles": 1e-9, "exits": 0.0, "exit_cycles": 0.0, "depth": 1e9} | cost | changes
    return DeviceModel("works", "", kind, **settings)


def bisect(function, low, high):
    """Root of a falling function."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if function(middle) > 0.0 else (low, middle)
    return 0.5 * (low + high)


def rise(sim, fields, seconds=1):
    """By how much counters of the VMs rise, ``[vm]`` each."""
    before = sim.vms.copy()
    sim.advance(seconds)
    return [(sim.vms[name] - before[name])[0] / seconds for name in fields]


def disk_served(sim, seconds=1):
    return rise(sim, ["disk_mib"], seconds)[0]


def net_served(sim, seconds=1):
    return rise(sim, ["net_mib"], seconds)[0]


# ---- nothing is served that is not there


DISKS, NICS = sorted(group_files("disk")), sorted(group_files("nic"))


def random_host(seed):
    """Any host: devices of every kind, divided or not, guests that swap, a host that swaps, I/O beyond what it carries."""
    rng = np.random.default_rng(seed)
    pick = lambda choices: choices[int(rng.integers(len(choices)))]  # noqa: E731
    divides = rng.random() < 0.6
    count = int(rng.integers(1, 6))
    iops, nic = pick([500.0, 5e3, 1e5]), pick([50.0, 1000.0])
    groups = []
    for _ in range(count):
        shares = {}
        if divides:
            reserved, link = rng.uniform(0, iops / count), rng.uniform(0, nic / count)
            shares = {
                "disk_shares": pick([None, 10.0, 1000.0, 4000.0]),
                "net_shares": pick([None, 10.0, 50.0, 400.0]),
                "disk_reservation_iops": pick([0.0, reserved]),
                "net_reservation_mib_per_s": pick([0.0, link]),
                "disk_limit_iops": pick([None, reserved + rng.uniform(0.01, 1.0) * iops]),
                "net_limit_mib_per_s": pick([None, link + rng.uniform(0.01, 1.0) * nic]),
            }
        groups.append(
            VmGroup(
                name="vm", memory_mib=2048.0, guest_swap_mib=pick([0.0, 4096.0]), vcpus=4.0,
                demand=Demand(hot_mib=pick([100.0, 1500.0]), warm_mib=300.0, cold_mib=200.0, cache_mib=pick([0.0, 400.0]),
                              phase_s=7.0, phase_swing=0.3, cpu_share=rng.uniform(0, 1),
                              disk_mib_per_s=pick([0.0, 20.0, 500.0]), net_mib_per_s=pick([0.0, 20.0, 2000.0])),
                disk=named("disk", pick(DISKS)) if rng.random() < 0.5 else None,
                nic=named("nic", pick(NICS)) if rng.random() < 0.5 else None,
                packet_bytes=pick([1500.0, 16384.0]), disk_waits_per_s=pick([0.0, 0.0, 300.0]),
                net_waits_per_s=pick([0.0, 300.0]), fault_parallelism=pick([1.0, 8.0]), **shares,
            )
        )  # fmt: skip
    pinned = sum(
        2100.0 for group in groups for one in (group.disk, group.nic) if one is not None and one.passes_through
    )
    host = {
        "ram_mib": max(rng.uniform(0.7, 1.2) * 2100.0 * count, pinned) + 1500.0, "disk_iops": iops, "nic_mib_per_s": nic,
        "disk_mib_per_s": pick([100.0, 1000.0]), "disk_latency_us": pick([100.0, 5000.0]), "pcpus": pick([2.0, 64.0]),
    }  # fmt: skip
    return hosted(host, *groups, slot_s=5, episode_s=100), rng


@pytest.mark.parametrize("seed", range(60))
def test_disk_and_link_never_carry_more_than_they_can(seed):
    """Of a disk's second, reads and writes of applications and guests and the deferred writes take at most all."""
    sim, rng = random_host(seed)
    sim.hosts["write_backlog_mib"] = 50.0
    host_spec = sim.host_specs[0, 0]
    for turn in range(30):
        if turn % 10 == 5:
            sim.apply(Targets(rng.uniform(0.4, 1.0, sim.vms.shape) * 2048.0))
        if turn == 15:
            sim.apply(
                Targets(disk_shares=rng.uniform(0, 1000, sim.vms.shape), net_shares=rng.uniform(0, 100, sim.vms.shape))
            )
        backlog, swapped_out = float(sim.hosts["write_backlog_mib"][0, 0]), float(sim.hosts["swap_out_mib"][0, 0])
        (network,) = rise(sim, ["net_mib"])
        host, vms = sim.hosts[0, 0], sim.vms[0]
        new = float(host["swap_out_mib"]) - swapped_out
        deferred = (backlog + new - host["write_backlog_mib"]) / host_spec["disk_mib_per_s"]
        assert deferred >= -1e-9
        deferred += float(vms["written_share"].sum())
        taken = float((vms["progress"] * vms["disk_demand"]).sum())
        assert taken + deferred <= 1.0 + 1e-3
        assert network.sum() <= host_spec["nic_mib_per_s"] * (1 + 1e-9)
        if host["divides_disk"] > 0.0:
            assert vms["given"].sum() + deferred <= 1.0 + 1e-9
        assert 0.0 <= host["disk_utilisation"] <= 1.0


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_pages_that_really_came_back_fit_into_the_disk_too(seed):
    """Not what was expected to be read, but what was, by the guests and of host swap, with 64 KiB and 4 KiB as they cost, and
    what a balloon has read back as read-ahead fetches it."""
    sim, rng = random_host(seed)
    sim.apply(Targets(rng.uniform(0.5, 1.0, sim.vms.shape) * 2048.0))
    sim.advance(40)
    before, started = sim.vms.copy(), float(sim.hosts["swap_in_mib"][0, 0])
    asked = sim.demand["disk_mib_per_s"][0]
    applications = saved_mib = 0.0
    for _ in range(60):
        order = float(sim.hosts["swap_order"][0, 0])
        sim.advance(1)
        slot = min((int(sim.clock_s[0]) - 1) // sim.slot_s, len(asked) - 1)
        applications += float((sim.vms["progress"][0] * asked[slot]).sum())
        saved_mib += float(sim.vms["zeroed_mib"].sum()) * (1.0 - 1.0 / max(8.0 * order, 1.0))
    pages = float((sim.vms["major_faults"] - before["major_faults"]).sum())
    pages += 256.0 * (float(sim.hosts["swap_in_mib"][0, 0]) - started - saved_mib)
    applications += saved_mib  # no operations, but the transfer
    spec = sim.host_specs[0, 0]
    assert pages / spec["disk_iops"] + applications / spec["disk_mib_per_s"] <= 60.0 * 1.02


@pytest.mark.parametrize("divided", [False, True])
def test_a_disk_serves_no_more_asynchronous_traffic_than_it_can(divided):
    """Nobody waits for an operation here, so no wait holds anybody back: only the disk itself can."""
    shares = {"disk_shares": 1000.0} if divided else {}
    sim = hosted({"disk_mib_per_s": 400.0}, vm(disk=300.0, count=2, **shares))
    sim.advance(2)
    served = disk_served(sim, 10)
    assert served.sum() <= 400.0 * (1 + 1e-9)
    np.testing.assert_allclose(served, 200.0, rtol=0.03)


def test_a_full_link_is_full_and_no_fuller():
    sim = hosted({"nic_mib_per_s": 100.0}, vm(net=90.0, net_shares=50.0), vm(net=60.0))
    np.testing.assert_allclose(net_served(sim, 10).sum(), 100.0, rtol=1e-9)


@pytest.mark.parametrize("shares", [None, 50.0])
def test_a_link_is_not_kept_for_packets_that_a_device_cannot_send(shares):
    """An e1000 that is asked for 500 MiB/s sends 31.6; the neighbour's 90 fill what the link has left."""
    nic = named("nic", "e1000")
    sim = hosted(
        {"nic_mib_per_s": 100.0},
        vm(net=500.0, nic=nic, packet_bytes=1500.0, vcpus=64.0, net_shares=shares),
        vm(net=90.0),
    )
    sim.advance(2)
    assert net_served(sim, 5).sum() == pytest.approx(100.0, rel=0.03)


# ---- shares, reservations, limits


SHARES = [(1000.0, 1000.0), (2000.0, 1000.0, 500.0), (1.0, 3.0, 9.0, 27.0), (4000.0, 100.0)]


@pytest.mark.parametrize("shares", SHARES)
def test_busy_vms_get_the_disk_by_their_shares(shares):
    sim = hosted({"disk_mib_per_s": 400.0}, *(vm(disk=500.0, disk_shares=each) for each in shares))
    sim.advance(2)
    np.testing.assert_allclose(disk_served(sim, 20), 400.0 * np.array(shares) / sum(shares), rtol=0.03)


@pytest.mark.parametrize("shares", SHARES)
def test_busy_vms_get_the_link_by_their_shares(shares):
    sim = hosted({"nic_mib_per_s": 400.0}, *(vm(net=500.0, net_shares=each) for each in shares))
    np.testing.assert_allclose(net_served(sim, 20), 400.0 * np.array(shares) / sum(shares), rtol=0.03)


def by_tags(clients, capacity_per_s, seconds=20.0):
    """Requests per second that mClock serves of clients who always have one more, without the first half of the time.

    Weights are small, for tags by shares are never behind the clock.
    """
    small = 0.01 * capacity_per_s / sum(client.weight for client in clients)
    clients = [dataclasses.replace(client, weight=small * client.weight) for client in clients]
    scheduler = qos.Mclock(clients)
    for client in range(len(clients)):
        for _ in range(4):
            scheduler.queue(client, 0.0)
    served = np.zeros(len(clients))
    for turn in range(int(seconds * capacity_per_s)):
        now = turn / capacity_per_s
        chosen = scheduler.serve(now)
        if chosen is not None:
            scheduler.queue(chosen, now)
            served[chosen] += turn >= seconds * capacity_per_s / 2
    return served / (seconds / 2)


@pytest.mark.parametrize("seed", range(12))
def test_the_disk_is_divided_as_mclock_would_request_by_request(seed):
    """Asynchronous traffic without end: each VM gets what the scheduler's tags give it, to 3 % of the disk."""
    rng = np.random.default_rng(seed)
    count, iops = int(rng.integers(2, 6)), 1000.0
    shares = rng.choice([100.0, 500.0, 1000.0, 2000.0], count)
    reserved = rng.choice([0.0, 1.0], count) * rng.uniform(0, iops / count, count)
    limit = np.where(rng.random(count) < 0.4, reserved + rng.uniform(50, 800, count), math.inf)
    expected = by_tags([qos.Client(*each) for each in zip(reserved, limit, shares, strict=True)], iops)
    groups = [
        vm(disk=500.0, disk_shares=w, disk_reservation_iops=r, disk_limit_iops=None if math.isinf(most) else most)
        for w, r, most in zip(shares, reserved, limit, strict=True)
    ]
    sim = hosted({"disk_mib_per_s": 400.0, "disk_iops": iops}, *groups)
    sim.advance(2)
    served = disk_served(sim, 5) / 400.0 * iops
    np.testing.assert_allclose(served, expected, atol=0.03 * iops)
    assert (served <= limit * (1 + 1e-9)).all()
    assert (served >= reserved * (1 - 1e-9)).all()


def random_division(seed):
    """VMs with shares, feasible reservations and limits of disk and link; half of them wait for operations."""
    rng = np.random.default_rng(1000 + seed)
    count = int(rng.integers(1, 7))
    disk, net = rng.dirichlet(np.ones(count)), rng.dirichlet(np.ones(count))
    groups, iops = [], 20_000.0
    for v in range(count):
        reserved = float(rng.choice([0.0, 1.0])) * disk[v] * 0.999 * iops
        link = float(rng.choice([0.0, 1.0])) * net[v] * 999.0
        groups.append(
            vm(
                disk=float(rng.choice([0.0, 10.0, 100.0, 800.0])), net=float(rng.choice([0.0, 10.0, 2000.0])), vcpus=2.0,
                disk_shares=float(rng.choice([1.0, 500.0, 1000.0])), net_shares=float(rng.choice([1.0, 50.0, 100.0])),
                disk_reservation_iops=reserved, net_reservation_mib_per_s=link,
                disk_limit_iops=float(rng.choice([0, 1])) * 2000.0 + reserved + 100.0,
                net_limit_mib_per_s=link + float(rng.uniform(1, 500)),
                disk_waits_per_s=float(rng.choice([0.0, 800.0])),
            )
        )  # fmt: skip
    sim = hosted(
        {"disk_mib_per_s": 400.0, "disk_iops": iops, "nic_mib_per_s": 1000.0, "disk_latency_us": 200.0}, *groups
    )
    sim.hosts["write_backlog_mib"] = float(rng.choice([0.0, 1e6]))
    return sim, groups


@pytest.mark.parametrize("seed", range(60))
def test_limits_are_never_passed_and_feasible_reservations_are_kept(seed):
    """Who waits for no operation gets its reservation, or all it asks for; who waits runs as if the part reserved were an
    M/M/1 disk of its own, or faster."""
    sim, groups = random_division(seed)
    for _ in range(5):
        disk, net, progress = rise(sim, ["disk_mib", "net_mib", "progress_s"])
        for v, group in enumerate(groups):
            asked, link = group.demand.disk_mib_per_s, group.demand.net_mib_per_s
            reserved, limit = group.disk_reservation_iops / 20_000.0, group.disk_limit_iops / 20_000.0
            assert disk[v] <= 400.0 * limit * (1 + 1e-9)
            assert net[v] <= group.net_limit_mib_per_s * (1 + 1e-9)
            net_part = 1.0 if link == 0.0 else min(group.net_reservation_mib_per_s / link, 1.0)
            disk_part = 1.0 if asked == 0.0 else min(400.0 * reserved / asked, 1.0)
            if group.disk_waits_per_s > 0.0 and asked > 0.0 and reserved > 0.0:
                disk_part = own_disk_progress(1.0, group.disk_waits_per_s, asked / 400.0, reserved, 20_000.0)
            if (asked == 0.0 or reserved > 0.0) and (link == 0.0 or group.net_reservation_mib_per_s > 0.0):
                assert progress[v] >= min(disk_part, net_part) * (1 - 1e-6)


def own_disk_progress(without_queue_s, waits, demand, part, iops):
    """Root of 1 / x = c + o w(x), w the queue of an M/M/1 disk of part p of the whole, by bisection."""

    def left(x):
        used = x * demand / part
        return 1.0 / x - without_queue_s - waits * used / ((1.0 - used) * part * iops)

    return bisect(left, 1e-12, min(1.0, part / demand) * (1 - 1e-13))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"disk_reservation_iops": 600.0}, r"vms: disk_reservation_iops adds up to 1200; host.disk_iops=1000 is all"),
        (
            {"net_reservation_mib_per_s": 60.0},
            r"vms: net_reservation_mib_per_s adds up to 120; host.nic_mib_per_s=100 is",
        ),
        (
            {"disk_reservation_iops": 600.0, "disk_limit_iops": 500.0},
            r"disk_reservation_iops=600: .* disk_limit_iops=500",
        ),
        (
            {"net_reservation_mib_per_s": 60.0, "net_limit_mib_per_s": 50.0},
            r"net_reservation_mib_per_s=60: .* net_limit_mib_per_s=50",
        ),
    ],
)
def test_what_cannot_be_promised_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError, match=message) as error:
        hosted({"disk_iops": 1000.0, "nic_mib_per_s": 100.0}, vm(count=2, **changes))
    assert "\n" not in str(error.value)


def test_reservations_that_fill_the_disk_to_the_brim_are_kept():
    sim = hosted({"disk_mib_per_s": 400.0, "disk_iops": 1000.0}, vm(disk=500.0, count=4, disk_reservation_iops=250.0))
    sim.hosts["write_backlog_mib"] = 1e6
    np.testing.assert_allclose(disk_served(sim, 5), 100.0)


@pytest.mark.parametrize(
    ("reserved", "backlog", "served"),
    [(0.0, 1e6, 200.0), (0.8, 1e6, 320.0), (0.0, 40.0, 360.0), (0.8, 0.0, 400.0)],
)
def test_the_hypervisors_writes_are_one_more_client_after_reservations(reserved, backlog, served):
    """A VM of 1,000 shares that wants all of 400 MiB/s, beside writes of the same weight."""
    sim = hosted(
        {"disk_mib_per_s": 400.0, "disk_iops": 1000.0},
        vm(disk=1000.0, disk_shares=1000.0, disk_reservation_iops=1000.0 * reserved),
    )
    sim.hosts["write_backlog_mib"] = backlog
    assert disk_served(sim)[0] == pytest.approx(served)
    assert sim.hosts["write_backlog_mib"][0, 0] == pytest.approx(backlog - (400.0 - served if backlog else 0.0))


def test_the_hypervisors_writes_get_what_a_limit_keeps_from_a_vm():
    """A tenth of the disk for the VM, whatever it asks for: writes may take the nine tenths that deferred ones ever take."""
    sim = hosted({"disk_mib_per_s": 400.0, "disk_iops": 1000.0}, vm(disk=1000.0, disk_limit_iops=100.0))
    sim.hosts["write_backlog_mib"] = 1e6
    assert disk_served(sim)[0] == pytest.approx(40.0)
    assert sim.hosts["write_backlog_mib"][0, 0] == pytest.approx(1e6 - 360.0)


def test_what_one_vm_leaves_goes_to_the_others_by_shares():
    sim = hosted(
        {"disk_mib_per_s": 400.0},
        vm(disk=40.0, disk_shares=2000.0),
        *(vm(disk=900.0, disk_shares=w) for w in (1000, 2000)),
    )
    np.testing.assert_allclose(disk_served(sim, 5), [40.0, 120.0, 240.0], rtol=1e-9)


# ---- a divided disk: progress and wait


@pytest.mark.parametrize("seed", range(200))
def test_progress_on_a_part_of_the_disk_solves_its_own_equation(seed):
    rng = np.random.default_rng(seed)
    sim = hosted({}, vm())
    record, spec = sim.vms[0, 0], sim.host_specs[0, 0]
    busy, waits, demand, part = (
        rng.uniform(1, 3),
        rng.choice([0, 1e2, 1e4]),
        10 ** rng.uniform(-3, 1),
        rng.uniform(1e-3, 1),
    )
    spec["disk_iops"] = 10 ** rng.uniform(2, 6)
    record["unqueued_s"], record["disk_waits"], record["disk_demand"], record["device_limit"] = busy, waits, demand, 1.0
    expected = own_disk_progress(busy, waits, demand, part, float(spec["disk_iops"]))
    assert bandwidth._progress(record, spec, part) == pytest.approx(expected, rel=1e-6)
    record["device_limit"] = 0.5 * expected
    assert bandwidth._progress(record, spec, part) == pytest.approx(0.5 * expected, rel=1e-6)


@pytest.mark.parametrize("asked", [1e-9, 1e-13, 1e-300, 1e-310])
@pytest.mark.parametrize("divided", [False, True])
def test_a_demand_too_small_to_count_costs_nothing(asked, divided):
    """What is left of swapped pages decays without end; neither the VM nor its host may lose its numbers over it."""
    shares = {"disk_shares": 1000.0, "net_shares": 50.0} if divided else {}
    group = vm(disk=asked, net=asked, disk_waits_per_s=10.0, net_waits_per_s=10.0, **shares)
    sim = hosted({"disk_mib_per_s": 400.0}, group, vm(disk=40.0, net=40.0))
    sim.advance(3)
    np.testing.assert_allclose(sim.vms["progress"][0], 1.0, rtol=1e-3)
    assert np.isfinite([sim.vms["disk_latency_s"], sim.vms["net_latency_s"]]).all()
    assert np.isfinite([sim.hosts["disk_wait_s"], sim.hosts["disk_utilisation"]]).all()


def test_a_vm_alone_waits_in_an_mm1_queue_of_its_own_traffic():
    """40 of 400 MiB/s, 800 waits: y = x / 10, w = 200 us + y / ((1 - y) 20,000); of it the idle disk's 200 us are normal."""
    sim = hosted(
        {"disk_mib_per_s": 400.0, "disk_iops": 20_000.0, "disk_latency_us": 200.0},
        vm(disk=40.0, disk_waits_per_s=800.0, disk_shares=1000.0),
    )
    sim.advance(5)
    x = own_disk_progress(1.0, 800.0, 0.1, 1.0, 20_000.0)
    assert sim.vms["progress"][0, 0] == pytest.approx(x, rel=1e-9)
    wait = 200e-6 + 0.1 * x / (1.0 - 0.1 * x) / 20_000.0
    assert sim.vms["disk_wait_s"][0, 0] == pytest.approx(wait, rel=1e-9)
    assert sim.telemetry().vm["disk_latency_s"][0, 0] == pytest.approx(wait, rel=1e-9)
    assert 1.0 / x == pytest.approx(1.0 + 800.0 * (wait - 200e-6), rel=1e-9)
    assert sim.hosts["disk_utilisation"][0, 0] == pytest.approx(0.1 * x, rel=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_progress_is_that_of_the_wait_it_reports_or_that_of_its_part(seed):
    """Who waits for operations is as slow as these waits make it, limited or not; who waits for none has its part."""
    sim, groups = random_division(seed)
    sim.advance(5)
    for v, group in enumerate(groups):
        record = sim.vms[0, v]
        by_wait = 1.0 / (1.0 + group.disk_waits_per_s * (record["disk_wait_s"] - 200e-6))
        parts = [by_wait]
        served = record["given"] > bandwidth.LEAST_PART  # else its wait is long, but has an end
        if group.demand.disk_mib_per_s > 0.0 and not (group.disk_waits_per_s > 0.0 and served):
            parts.append(float(record["disk_most"]))
        if group.demand.net_mib_per_s > 0.0:
            parts.append(float(record["net_grant"]))
        assert record["progress"] == pytest.approx(min(parts), rel=1e-6)


def test_host_swap_waits_in_the_vms_own_queue_where_the_disk_is_divided():
    """Alone on the disk but for deferred writes: w = latency + y / ((1 - y) p i), y the part of p that its reads take."""
    group = VmGroup("host", Demand(hot_mib=1500.0, warm_mib=1500.0, cold_mib=500.0), 4096.0, balloon=False, disk_shares=1000.0,
                    tier_tau_s=(20.0, 60.0, 1e6, 600.0), mergeable_share=0.0)  # fmt: skip
    sim = hosted({"ram_mib": 3000.0, "disk_iops": 4000.0, "disk_mib_per_s": 400.0, "disk_latency_us": 200.0}, group)
    sim.advance(60)
    for _ in range(5):
        queued = float(sim.hosts["write_backlog_mib"][0, 0])
        sim.advance(1)
        record, part = sim.vms[0, 0], 1.0 - queued / 400.0
        assert record["swap_wait_operations"] > 10.0
        used = record["progress"] * record["disk_demand"] / part
        assert 0.01 < used < 0.99
        assert record["disk_wait_s"] == pytest.approx(200e-6 + used / ((1.0 - used) * part * 4000.0), rel=1e-6)


def test_a_reservation_protects_from_neighbours_and_a_share_does_less():
    """The reserved half of the disk is worth an M/M/1 queue at half the speed, whatever the neighbours do."""
    host = {"disk_mib_per_s": 400.0, "disk_iops": 20_000.0, "disk_latency_us": 200.0}
    noise = [vm(disk=800.0, count=8)]
    reserved = vm(disk=40.0, disk_waits_per_s=800.0, disk_reservation_iops=10_000.0)
    shared = vm(disk=40.0, disk_waits_per_s=800.0)
    sim = hosted(host, reserved, shared, *noise)
    sim.advance(3)
    first, second = sim.vms["progress"][0, :2]
    assert first == pytest.approx(own_disk_progress(1.0, 800.0, 0.1, 0.5, 20_000.0), rel=1e-6)
    assert first > second + 0.1


def waits_by_tags(load, shares, seed=0):
    """Mean wait, in times that the disk needs for one request, of a VM of Poisson arrivals beside one that never pauses."""
    rng, scheduler = (
        np.random.default_rng(seed),
        qos.Mclock([qos.Client(0.0, math.inf, 1e-4 * each) for each in shares]),
    )
    arrivals, waits, waiting, now = np.cumsum(rng.exponential(1.0 / load, 5000)).tolist(), [], [], 0.0
    for _ in range(3):
        scheduler.queue(1, 0.0)
    while arrivals:
        while arrivals and arrivals[0] <= now:
            waiting.append(arrivals.pop(0))
            scheduler.queue(0, waiting[-1])
        if scheduler.serve(now) == 0:
            waits.append(now - waiting.pop(0))
        else:
            scheduler.queue(1, now)
        now += 1.0
    return float(np.mean(waits))


@pytest.mark.parametrize(
    ("load", "shares"), [(0.1, (1.0, 1.0)), (0.3, (1.0, 1.0)), (0.1, (1.0, 3.0)), (0.2, (1.0, 3.0))]
)
def test_a_vm_below_its_share_waits_about_as_long_as_under_mclock(load, shares):
    """Its neighbour takes all that it leaves, yet not while it has something to do: then each has its share."""
    sim = hosted(
        {"disk_mib_per_s": 400.0, "disk_iops": 20_000.0, "disk_latency_us": 200.0},
        vm(disk=400.0 * load, disk_shares=1000.0 * shares[0]),
        vm(disk=4000.0, disk_shares=1000.0 * shares[1]),
    )
    sim.advance(2)
    wait = (sim.vms["disk_wait_s"][0, 0] - 200e-6) * 20_000.0
    witness = waits_by_tags(load, shares)
    assert 0.6 * witness < wait < 2.5 * witness


def test_a_vm_below_its_share_waits_as_at_the_part_that_its_shares_guarantee():
    """Half of the disk beside one neighbour of the same weight (Parekh and Gallager), however little of it is used."""
    sim = hosted(
        {"disk_mib_per_s": 400.0, "disk_iops": 20_000.0, "disk_latency_us": 200.0},
        vm(disk=40.0, disk_waits_per_s=800.0, disk_shares=1000.0),
        vm(disk=4000.0, disk_shares=1000.0),
    )
    sim.advance(2)
    assert sim.vms["progress"][0, 0] == pytest.approx(own_disk_progress(1.0, 800.0, 0.1, 0.5, 20_000.0), rel=1e-6)


def test_with_no_shares_for_anybody_all_are_still_served_alike():
    sim = hosted(
        {"disk_mib_per_s": 400.0, "nic_mib_per_s": 400.0}, vm(disk=400.0), vm(disk=400.0), vm(net=400.0), vm(net=400.0)
    )
    nothing = np.zeros(sim.vms.shape)
    sim.apply(Targets(disk_shares=nothing, net_shares=nothing))
    sim.advance(3)
    np.testing.assert_allclose(sim.vms["progress"][0], 0.5, rtol=0.01)


# ---- a limit is a token bucket, a device is a queue

FAST = {"disk_mib_per_s": 400.0, "disk_iops": 400e3, "disk_latency_us": 200.0}
"""A disk on which one VM's traffic meets no queue worth the name: 2.5 us a request."""


def one_fault_in_flight(limit_iops):
    """A guest whose files do not fit (they are evicted without a write), one fault at a time; return what it asks of the
    disk, operations a second."""
    group = VmGroup("guest", Demand(hot_mib=700.0), 1024.0, guest_swap_mib=4096.0, fault_parallelism=1.0,
                    tier_tau_s=(12.0, 134.0, 21600.0, 600.0), tier_is_file=(1.0, 1.0, 1.0, 1.0),
                    tier_write_share=(0.0,) * 4, disk_shares=1000.0, disk_limit_iops=limit_iops)  # fmt: skip
    sim = hosted(FAST, group)
    squeezed(sim, 0, 500.0)
    sim.advance(60)
    record = sim.vms[0, 0]
    return float(record["progress"] * record["fault_wait_operations"]), float(record["disk_wait_s"])


def test_fault_2_one_fault_in_flight_gets_all_of_a_limit_of_operations():
    """Measured on QEMU guests: 600 of 600 a second, where a queue served at the limit's rate lets 340 through."""
    unlimited, wait_s = one_fault_in_flight(None)
    assert unlimited > 2000.0
    assert wait_s == pytest.approx(200e-6, rel=1e-3)
    limited, held_back_s = one_fault_in_flight(600.0)
    assert limited == pytest.approx(600.0)
    assert held_back_s < 1.0 / 600.0


@pytest.mark.parametrize("seed", range(20))
def test_below_its_limit_a_vm_runs_as_without_one(seed):
    """To the bit, and so do its neighbours."""
    rng = np.random.default_rng(seed)
    groups = [
        vm(disk=float(rng.uniform(10, 150)), disk_waits_per_s=float(rng.choice([0.0, 800.0])), disk_shares=1000.0)
        for _ in range(int(rng.integers(1, 4)))
    ]
    host = {"disk_mib_per_s": 400.0, "disk_iops": 20_000.0, "disk_latency_us": 200.0}
    free = hosted(host, *groups)
    free.advance(3)
    used = free.vms["given"][0] * 20_000.0
    limits = [
        dataclasses.replace(one, disk_limit_iops=1.01 * float(most)) for one, most in zip(groups, used, strict=True)
    ]
    limited = hosted(host, *limits)
    limited.advance(3)
    for field in ("progress", "disk_wait_s", "disk_latency_s", "disk_mib"):
        assert (limited.vms[field] == free.vms[field]).all(), field


@pytest.mark.parametrize(("waits", "limit"), [(2000.0, 600.0), (2000.0, 1900.0), (10_000.0, 600.0)])
def test_above_its_limit_a_vm_waits_for_what_makes_it_so_slow(waits, limit):
    """One operation after the other, each of its own: a second's work takes 1 s without waits, and x = limit / operations
    a second; so each waits (1 / x - 1) / operations beyond the idle disk's 200 us, which the bare machine has as well."""
    asked = 400.0 * waits / 400e3  # as MiB, of which the disk moves 400 in the time of 400,000 operations
    sim = hosted(FAST, vm(disk=asked, disk_waits_per_s=waits, disk_limit_iops=limit))
    sim.advance(3)
    x = limit / waits
    assert sim.vms["progress"][0, 0] == pytest.approx(x, rel=1e-9)
    assert sim.telemetry().vm["disk_latency_s"][0, 0] == pytest.approx(200e-6 + (1.0 / x - 1.0) / waits, rel=1e-9)


def test_a_limited_vm_whose_operations_do_not_wait_has_the_longest_queue_ahead_of_it():
    """Of 199 operations, 100 a second."""
    sim = hosted(
        {"disk_mib_per_s": 400.0, "disk_iops": 1000.0, "disk_latency_us": 200.0}, vm(disk=500.0, disk_limit_iops=100.0)
    )
    sim.advance(2)
    assert sim.vms["disk_wait_s"][0, 0] == pytest.approx(200e-6 + 1.99, rel=1e-6)
    assert disk_served(sim)[0] == pytest.approx(40.0)


@pytest.mark.parametrize("us", np.linspace(200.0, 300.0, 40).tolist())
def test_a_vm_that_its_virtual_device_slows_is_not_held_back_by_a_limit_that_it_does_not_reach(us):
    """The thread of its device has no time left; the disk itself could do more, and waits are those of its queue."""
    group = vm(disk=4.0 * us, disk_limit_iops=390e3, model=works("paravirtual", us=us))
    sim = hosted(FAST, group)
    sim.advance(2)
    record = sim.vms[0, 0]
    assert record["progress"] == pytest.approx(float(record["device_limit"]), rel=1e-9)
    used = record["progress"] * record["disk_demand"]
    assert record["disk_wait_s"] == pytest.approx(200e-6 + used / (1.0 - used) / 400e3, rel=1e-6)


def test_a_limit_on_one_vm_leaves_its_neighbour_the_rest_of_the_queue():
    """A tenth of the disk for one that would take it all: the other waits as on an M/M/1 disk of nine tenths, and the
    limit itself does not slow it."""
    host = {"disk_mib_per_s": 400.0, "disk_iops": 20_000.0, "disk_latency_us": 200.0}
    database = vm(disk=40.0, disk_waits_per_s=800.0)
    sim = hosted(host, database, vm(disk=4000.0, disk_limit_iops=2000.0))
    sim.advance(3)
    limited = own_disk_progress(1.0, 800.0, 0.1, 0.9, 20_000.0)
    assert sim.vms["progress"][0, 0] == pytest.approx(limited, rel=1e-9)
    sim = hosted(host, database, vm(disk=4000.0, disk_shares=1000.0))
    sim.advance(3)
    assert sim.vms["progress"][0, 0] < limited


# ---- bursts beyond a limit

BURSTS = dataclasses.replace(PLAIN, disk_limits="iops_bursts")
TEN = {"disk_mib_per_s": 400.0, "disk_iops": 10_000.0}
"""A disk of 10,000 operations a second, each as much of it as 0.04 MiB."""


def operations(sim, seconds):
    """Of the first VM in each of these seconds."""
    return np.array([disk_served(sim)[0] / 0.04 for _ in range(seconds)])


def bursting(mib_per_s=800.0, **changes):
    return vm(disk=mib_per_s, **{"disk_limit_iops": 100.0, "disk_burst_iops": 2000.0, "disk_burst_s": 60.0} | changes)


def test_a_burst_lasts_as_long_as_qemus_documentation_says():
    """100 IOPS, bursts of 2,000 for 60 s: in these 6,000 more come in, good for 3 s more, and in the next there are 300."""
    sim = hosted(TEN, bursting(), hypervisor=BURSTS)
    served = operations(sim, 70)
    np.testing.assert_allclose(served[:63], 2000.0)
    assert served[63] == pytest.approx(400.0)
    np.testing.assert_allclose(served[64:], 100.0)
    sim.reset([0])
    np.testing.assert_allclose(operations(sim, 3), 2000.0)


def test_a_gentler_burst_lasts_longer():
    """1,000 a second, 900 beyond the limit: 120,000 are gone after 133 s and 300 of them in the next."""
    sim = hosted(TEN, bursting(40.0), hypervisor=BURSTS)
    served = operations(sim, 140)
    np.testing.assert_allclose(served[:133], 1000.0)
    assert served[133] == pytest.approx(400.0)
    np.testing.assert_allclose(served[134:], 100.0)


def test_a_burst_of_a_second_comes_as_fast_as_the_disk_takes_it():
    """QEMU holds only longer bursts to a rate: 2,000 saved up and 100 that come in, then 100 a second."""
    sim = hosted(TEN, bursting(disk_burst_s=None), hypervisor=BURSTS)
    np.testing.assert_allclose(operations(sim, 3), [2100.0, 100.0, 100.0])


def test_a_burst_comes_back_while_less_than_the_limit_is_used():
    """After 10 s at 40 a second there are 600 more: one second of 700, and 100 from then on."""
    sim = hosted(TEN, bursting(disk_burst_s=2.0), hypervisor=BURSTS, slot_s=1, episode_s=60)
    sim.demand["disk_mib_per_s"][0, 20:30, 0] = 1.6
    served = operations(sim, 35)
    np.testing.assert_allclose(served[:4], [2000.0, 2000.0, 300.0, 100.0])
    np.testing.assert_allclose(served[19:33], [100.0, *[40.0] * 10, 700.0, 100.0, 100.0])


def test_an_idle_vm_saves_up_no_more_than_its_bucket():
    sim = hosted(TEN, bursting(disk_burst_s=2.0), hypervisor=BURSTS, slot_s=1, episode_s=300)
    sim.demand["disk_mib_per_s"][0, 10:290, 0] = 0.0
    served = operations(sim, 293)
    np.testing.assert_allclose(served[290:], [2000.0, 2000.0, 300.0])


def test_a_burst_is_not_spent_on_what_the_link_holds_back():
    """Half of its traffic fits through the link, so half of its 1,600 operations a second get done and are paid."""
    group = bursting(64.0, disk_burst_s=10.0)
    group = dataclasses.replace(group, demand=dataclasses.replace(group.demand, net_mib_per_s=200.0))
    sim = hosted(TEN | {"nic_mib_per_s": 100.0}, group, hypervisor=BURSTS)
    np.testing.assert_allclose(operations(sim, 5), 800.0)
    assert sim.vms["disk_tokens"][0, 0] * 10_000.0 == pytest.approx(20_000.0 - 5 * 700.0)


def test_a_burst_is_held_back_by_reservations_and_the_disk():
    """1,000 operations a second, of which a neighbour has 600; one that may take 2,000 gets the rest and pays for that."""
    host = {"disk_mib_per_s": 400.0, "disk_iops": 1000.0}
    sim = hosted(host, bursting(), vm(disk=800.0, disk_reservation_iops=600.0, disk_shares=1e-3), hypervisor=BURSTS)
    np.testing.assert_allclose([disk_served(sim) for _ in range(5)], 5 * [[160.0, 240.0]], rtol=1e-5)
    assert sim.vms["disk_tokens"][0, 0] * 1000.0 == pytest.approx(120_000.0 - 5 * 300.0, rel=1e-6)


@pytest.mark.parametrize("seed", range(30))
def test_no_window_of_time_gets_more_than_limit_and_bursts_allow(seed):
    """VMs of every kind beside each other: never more than the bucket and the limit's seconds, or than the disk."""
    rng = np.random.default_rng(seed)
    groups = [
        vm(disk=float(rng.choice([2.0, 100.0, 800.0])), net=float(rng.choice([0.0, 300.0])), disk_limit_iops=limit,
           disk_waits_per_s=float(rng.choice([0.0, 500.0])), disk_burst_iops=limit * float(rng.uniform(1, 8)),
           disk_burst_s=float(rng.choice([1.0, 3.0, 20.0])))
        for limit in rng.uniform(50.0, 5000.0, int(rng.integers(1, 5)))
    ]  # fmt: skip
    sim = hosted(TEN | {"nic_mib_per_s": 400.0}, *groups, hypervisor=BURSTS, slot_s=1, episode_s=80)
    sim.demand["disk_mib_per_s"][0] *= rng.choice([0.0, 0.1, 1.0], sim.demand.shape[1:])
    used = np.array([disk_served(sim) / 0.04 for _ in range(80)])
    assert (used.sum(axis=1) <= 10_000.0 * (1 + 1e-9)).all()
    total = np.vstack([np.zeros(len(groups)), np.cumsum(used, axis=0)])
    for v, group in enumerate(groups):
        bucket = group.disk_burst_iops * group.disk_burst_s
        if group.disk_burst_s > 1.0:
            assert used[:, v].max() <= group.disk_burst_iops * (1 + 1e-9)
        for length in range(1, 81):
            most = (total[length:, v] - total[:-length, v]).max()
            assert most <= (bucket + group.disk_limit_iops * length) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"disk_limit_iops": None}, r"disk_burst_iops=2000: needs disk_limit_iops"),
        ({"disk_limit_iops": 3000.0}, r"disk_burst_iops=2000: must be at least disk_limit_iops=3000"),
        ({"disk_burst_iops": None}, r"disk_burst_s=60: needs disk_burst_iops"),
    ],
)
def test_a_burst_that_makes_no_sense_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError, match=message) as error:
        bursting(**changes)
    assert "\n" not in str(error.value)


# ---- first come, first served: everybody in one queue


def squeezed(sim, vm_index, memory_mib):
    asked = np.full(sim.vms.shape, np.nan)
    asked[0, vm_index] = memory_mib
    sim.apply(Targets(asked))


def mixed(app_mib_per_s=20.0, waits=300.0, iops=4000.0, ram_mib=4400.0, **changes):
    """A guest that swaps, one that the host swaps, one whose application waits for the disk; another may come."""
    paging = VmGroup("guest", Demand(hot_mib=900.0, warm_mib=500.0), 2048.0, guest_swap_mib=4096.0, mergeable_share=0.0,
                     init_on_alloc=False, tier_tau_s=(20.0, 60.0, 1e6, 600.0))  # fmt: skip
    host_paged = VmGroup("host", Demand(hot_mib=1500.0, warm_mib=1500.0, cold_mib=500.0), 4096.0, balloon=False,
                         tier_tau_s=(20.0, 60.0, 1e6, 600.0), mergeable_share=0.0)  # fmt: skip
    application = vm("app", disk=app_mib_per_s, disk_waits_per_s=waits)
    host = {"ram_mib": ram_mib, "disk_iops": iops, "disk_mib_per_s": 400.0, "disk_latency_us": 200.0} | changes
    sim = hosted(host, paging, host_paged, application)
    squeezed(sim, 0, 1200.0)
    return sim


def to_write_s(sim):
    """For how long the disk would be busy with what is queued."""
    vms, host, spec = sim.vms[0], sim.hosts[0, 0], sim.host_specs[0, 0]
    runs = vms["queued_runs_mib"].sum() + host["write_backlog_mib"]
    return float(vms["queued_single_mib"].sum() * 256.0 / spec["disk_iops"] + runs / spec["disk_mib_per_s"])


def test_guest_swap_host_swap_and_applications_wait_in_one_queue():
    """Second by second, the utilisation is the one at which what VMs send and what they wait for agree (bisection)."""
    sim = mixed()
    sim.advance(60)
    spec = sim.vm_specs[0]
    for _ in range(5):
        queued_s = to_write_s(sim)
        sim.advance(1)
        vms = sim.vms[0]
        assert (
            min(vms["fault_wait_operations"][0], vms["swap_wait_operations"][1], vms["sync_wait_operations"][2]) > 10.0
        )
        waits = vms["fault_wait_operations"] + vms["swap_wait_operations"] + spec["disk_waits_per_s"]
        fixed = 1.0 + vms["fixed_stall_s"] - spec["disk_waits_per_s"] * 200e-6

        def speeds(load, waits=waits, fixed=fixed):
            wait = 200e-6 + load / (1.0 - load) / 4000.0
            return 1.0 / (fixed + waits * wait)

        writes = min(queued_s, 0.9)
        demands = vms["disk_demand"]
        load = bisect(lambda load, d=demands, w=writes: (speeds(load) * d).sum() + w - load, 0.0, 0.995)
        assert sim.hosts["disk_utilisation"][0, 0] == pytest.approx(load, abs=2e-3)
        assert sim.vms["progress"][0, 2] == pytest.approx(speeds(load)[2], rel=5e-3)
        assert vms["disk_wait_s"].tolist() == [vms["disk_wait_s"][0]] * 3
        assert sim.hosts["swap_wait_s"][0, 0] == vms["disk_wait_s"][0]


def test_swapping_slows_the_applications_io():
    """That of the guest, and that of the host; the application itself is the same."""
    rates = {}
    for name, squeeze, ram_mib in (("neither", 2048.0, 16384.0), ("guest", 1200.0, 16384.0), ("host", 2048.0, 4400.0)):
        sim = mixed(ram_mib=ram_mib)
        squeezed(sim, 0, squeeze)
        sim.advance(60)
        rates[name] = float(rise(sim, ["progress_s"], 60)[0][2])
    assert rates["neither"] > max(rates["guest"], rates["host"]) + 0.03


def test_an_applications_io_slows_those_who_swap():
    calm, noisy = mixed(app_mib_per_s=0.0), mixed(app_mib_per_s=300.0, waits=0.0)
    before, after = ([], [])
    for sim, result in ((calm, before), (noisy, after)):
        sim.advance(60)
        result.extend(rise(sim, ["progress_s"], 60)[0].tolist())
    assert after[0] < before[0] - 0.02
    assert after[1] < before[1] - 0.02


def test_host_swap_on_a_device_of_its_own_leaves_the_disk_to_the_others():
    shared, apart = mixed(), mixed(swap="nvme")
    for sim in (shared, apart):
        sim.advance(120)
    assert shared.vms["swap_wait_operations"][0, 1] > 10.0
    assert apart.hosts["swap_utilisation"][0, 0] > 0.0
    assert apart.vms["progress_s"][0, 2] > shared.vms["progress_s"][0, 2] + 1.0


def test_a_disk_of_depth_one_serves_one_fault_at_a_time():
    """As many faults take eight times as many waits one after the other."""
    one = works(us=1.0, depth=1.0)
    eight = works(us=1.0, depth=32.0)
    sims = []
    for model in (one, eight):
        group = VmGroup("vm", Demand(hot_mib=900.0, warm_mib=500.0), 2048.0, guest_swap_mib=4096.0, disk=model,
                        fault_parallelism=8.0, tier_tau_s=(20.0, 60.0, 1e6, 600.0))  # fmt: skip
        sim = hosted({"disk_iops": 1e6, "disk_latency_us": 200.0}, group)
        squeezed(sim, 0, 1200.0)
        sim.advance(60)
        sims.append(sim.vms[0, 0])
    for record, parallel in zip(sims, (1.0, 8.0), strict=True):
        assert record["fault_wait_operations"] * parallel == pytest.approx(record["paging_mib_per_s"] * 256.0)
    assert sims[0]["progress"] < 0.8 * sims[1]["progress"]


def test_ide_and_ahci_of_the_packaged_models_differ_by_their_depth():
    depths = [hosted({}, vm(model=named("disk", name), fault_parallelism=8.0)).vm_specs["fault_parallelism"][0, 0]
              for name in ("ide", "ahci")]  # fmt: skip
    assert depths == [1.0, 8.0]


# ---- operations that an application waits for


def test_at_an_idle_disk_the_bare_machine_waits_as_well():
    sim = hosted({"disk_latency_us": 5000.0}, vm(disk_waits_per_s=150.0), vm(net_waits_per_s=150.0))
    sim.advance(20)
    assert sim.vms["progress_s"].tolist() == [[20.0, 20.0]]
    sim = hosted({"disk_latency_us": 5000.0}, vm(disk_waits_per_s=150.0, disk_shares=1000.0))
    sim.advance(20)
    assert sim.vms["progress_s"].tolist() == [[20.0]]


@pytest.mark.parametrize("load", [0.25, 0.5, 0.9])
def test_latency_beyond_the_idle_disks_costs_what_it_adds(load):
    """A neighbour keeps the disk busy and waits for nothing: 1 / x = 1 + n load / (1 - load) / iops."""
    sim = hosted(
        {"disk_latency_us": 300.0, "disk_iops": 20_000.0, "disk_mib_per_s": 400.0},
        vm(disk_waits_per_s=700.0),
        vm(disk=400.0 * load),
    )
    sim.advance(5)
    queue = load / (1.0 - load) / 20_000.0
    assert sim.vms["progress"][0, 0] == pytest.approx(1.0 / (1.0 + 700.0 * queue), rel=1e-3)
    assert sim.telemetry().vm["disk_latency_s"][0, 0] == pytest.approx(300e-6 + queue, rel=1e-3)


@pytest.mark.parametrize("field", ["disk_waits_per_s", "net_waits_per_s"])
@pytest.mark.parametrize("kind", ["emulated", "paravirtual"])
def test_a_virtual_device_adds_its_own_time_to_each_wait(field, kind):
    """10 us of work and 30 us in which an empty batch waits for company: 1 / x = 1 + 500 x 40 us."""
    slow = works(kind, us=10.0, window_us=30.0, batch_most=64.0)
    sim = hosted({"disk_latency_us": 300.0}, vm(model=slow, nic=slow, **{field: 500.0}))
    sim.advance(5)
    assert sim.vms["progress"][0, 0] == pytest.approx(1.0 / (1.0 + 500.0 * 40e-6), rel=1e-9)


def test_net_waits_pay_for_the_queue_of_the_link():
    """A link at 0.9 holds nine packets before each of ours: 1 / x = 1 + 1,000 x 9 x 16 KiB / (1,000 MiB/s)."""
    sim = hosted({"nic_mib_per_s": 1000.0}, vm(net_waits_per_s=1000.0, net=1e-6), vm(net=900.0 - 1e-6))
    sim.advance(5)
    queue = 9.0 / 64.0 / 1000.0
    assert sim.vms["net_latency_s"][0, 0] == pytest.approx(queue, rel=1e-6)
    assert sim.vms["progress"][0, 0] == pytest.approx(1.0 / (1.0 + 1000.0 * queue), rel=1e-6)


@pytest.mark.parametrize("seed", range(50))
def test_who_waits_for_a_device_sends_at_the_rate_at_which_queue_and_work_agree(seed):
    rng = np.random.default_rng(seed)
    load, waits, service = 10 ** rng.uniform(-2, 1), 10 ** rng.uniform(0, 4), 10 ** rng.uniform(-6, -3)

    def left(x):
        return 1.0 / x - 1.0 - waits * service * x * load / (2.0 * (1.0 - x * load))

    expected = bisect(left, 1e-9, min(1.0, 1.0 / load) * (1 - 1e-13))
    assert virtual_devices.pace(load, waits, service) == pytest.approx(expected, rel=1e-6)


# ---- the CPU of virtual devices


def test_an_emulated_nic_saturates_one_thread_at_the_packets_that_its_figures_allow():
    """e1000 at 1,500 bytes: 3,000 + 4.5 x 25,000 + 5,000 + 2 x 150 + 0.9 x 1,500 cycles are 22,104 packets/s at 2.7 GHz."""
    sim = hosted({"nic_mib_per_s": 1192.0}, vm(net=48.0, nic=named("nic", "e1000"), packet_bytes=1500.0, vcpus=64.0))
    packets = net_served(sim, 5)[0] * 2**20 / 1500.0
    assert packets == pytest.approx(2.7e9 / (3000 + 4.5 * 25_000 + 5000 + 2 * 150 + 0.9 * 1500), rel=1e-9)
    assert packets == pytest.approx(22_104, rel=1e-4)


def test_a_clock_twice_as_fast_carries_twice_the_packets():
    nic = named("nic", "e1000")
    slow, fast = (
        hosted({"clock_ghz": clock}, vm(net=200.0, nic=nic, packet_bytes=1500.0, vcpus=64.0)) for clock in (2.0, 4.0)
    )
    assert net_served(fast)[0] == pytest.approx(2 * net_served(slow)[0], rel=1e-9)


def test_a_paravirtual_nic_carries_the_same_traffic_with_a_core_to_spare():
    """vhost-net: of 33,554 packets/s, 3,000 cycles of notices for each batch of 1.31 come out of four vCPUs."""
    sim = hosted({}, vm(net=48.0, nic=named("nic", "vhost-net"), packet_bytes=1500.0, vcpus=4.0))
    packets = 48.0 * 2**20 / 1500.0
    batch = 1.0 + packets * 9.3e-6
    own = packets * 3000.0 / batch / 2.7e9
    assert net_served(sim, 5)[0] == pytest.approx(48.0 / (1.0 + own / 4.0), rel=1e-9)
    assert sim.vms["nic_device_limit"][0, 0] == 1.0


def test_a_paravirtual_disk_saturates_its_backend_and_an_iommu_its_walks():
    """10 us a request: 100,000 requests of 64 KiB. IOMMU: a miss of 215 ns for each of 256 pages a MiB."""
    sim = hosted({"disk_mib_per_s": 1e6}, vm(disk=10_000.0, model=works("paravirtual"), vcpus=64.0))
    assert disk_served(sim)[0] == pytest.approx(100_000.0 / 16.0, rel=1e-6)
    direct = works("passthrough", host_cycles=0.0)
    sim = hosted({"nic_mib_per_s": 1e6}, vm(net=50_000.0, nic=direct, vcpus=64.0))
    assert net_served(sim)[0] == pytest.approx(1.0 / (256 * 215e-9), rel=1e-6)


def test_a_backend_takes_pcpus_from_all_vms_of_a_full_host():
    """500 MiB/s in packets of 16 KiB are 32,000, of 10 us each: 0.32 of four pCPUs, which the worker then lacks."""
    worker = vm(cpu_share=1.0, vcpus=4.0)
    gateway = vm(net=500.0, nic=works("paravirtual"), cpu_share=0.0)
    sim = hosted({"pcpus": 4.0}, worker, gateway)
    sim.advance(3)
    assert sim.hosts["tax_cpu"][0, 0] == pytest.approx(0.32, rel=1e-9)
    np.testing.assert_allclose(sim.vms["progress"][0], [(4.0 - 0.32) / 4.0, 1.0], rtol=1e-9)
    idle = hosted({"pcpus": 8.0}, worker, gateway)
    idle.advance(3)
    assert idle.vms["progress"].tolist() == [[1.0, 1.0]]  # with pCPUs to spare nobody notices


def test_a_backend_works_only_for_what_gets_done():
    sim = hosted({"nic_mib_per_s": 250.0}, vm(net=500.0, nic=works("paravirtual"), cpu_share=0.0))
    sim.advance(3)
    assert sim.hosts["tax_cpu"][0, 0] == pytest.approx(0.16, rel=1e-9)


def test_an_emulated_device_takes_the_vcpus_of_its_own_vm():
    """0.32 s of emulation in a second of full progress, on four vCPUs; the neighbour and the tax do not know of it."""
    busy = vm(net=500.0, nic=works(), cpu_share=0.5, vcpus=4.0)
    sim = hosted({"pcpus": 16.0}, busy, vm(cpu_share=1.0))
    sim.advance(3)
    np.testing.assert_allclose(sim.vms["progress"][0], [1.0 / (1.0 + 0.32 / 4.0), 1.0], rtol=1e-9)
    assert sim.hosts["tax_cpu"][0, 0] == 0.0
    assert sim.vms["cpu_want"][0, 0] == pytest.approx(0.5 * 4.0 + 0.32, rel=1e-9)


def test_a_limit_of_all_its_vcpus_is_no_limit():
    """However much its devices take, a VM never runs on more pCPUs than it has vCPUs."""
    sims = [
        hosted({}, vm(net=500.0, nic=works(), cpu_share=1.0, vcpus=2.0, cpu_limit=limit)) for limit in (None, 2.0)
    ]  # fmt: skip
    for sim in sims:
        sim.advance(3)
    assert sims[1].vms["progress"][0, 0] == pytest.approx(sims[0].vms["progress"][0, 0], rel=1e-9)


def test_guest_paging_goes_through_the_virtual_disk_and_costs_as_application_io_does():
    """100 us a request in the vCPU's thread: what pages cost is their number, beside the 64 KiB requests' sixteen a MiB."""
    group = VmGroup("vm", Demand(hot_mib=900.0, warm_mib=500.0, disk_mib_per_s=2.0), 2048.0, guest_swap_mib=4096.0,
                    disk=works(us=100.0), tier_tau_s=(20.0, 60.0, 1e6, 600.0))  # fmt: skip
    sim = hosted({"disk_iops": 1e6, "disk_latency_us": 200.0}, group)
    squeezed(sim, 0, 1200.0)
    sim.advance(60)
    record = sim.vms[0, 0]
    assert record["paging_mib_per_s"] > 1.0
    assert record["disk_cpu"] == pytest.approx((32.0 + 256.0 * record["paging_mib_per_s"]) * 100e-6, rel=1e-9)
    assert record["busy_share"] == pytest.approx(1.0 + record["disk_cpu"] / 2.0, rel=1e-9)
    fault_s = record["disk_wait_s"] + 100e-6  # the host's disk, and its turn in the device
    assert record["disk_latency_s"] == pytest.approx(fault_s, rel=1e-2)
    stall = record["fault_wait_operations"] * record["disk_latency_s"] + record["fixed_stall_s"]
    assert record["progress"] == pytest.approx(1.0 / (record["busy_share"] + stall), rel=1e-3)


def test_costs_follow_the_demand_when_it_changes():
    """What a device takes is found anew when rates change, and only then; the figures are those of a fresh host."""
    sim = hosted({}, vm(disk=100.0, net=100.0, model=named("disk", "virtio-blk"), nic=named("nic", "vhost-net"),
                        disk_waits_per_s=50.0, net_waits_per_s=50.0))  # fmt: skip
    for disk, net in ((100.0, 100.0), (10.0, 100.0), (10.0, 0.0), (0.0, 300.0), (100.0, 100.0)):
        sim.demand["disk_mib_per_s"], sim.demand["net_mib_per_s"] = disk, net
        sim.advance(2)
        fresh = hosted({}, vm(disk=disk, net=net, model=named("disk", "virtio-blk"), nic=named("nic", "vhost-net"),
                              disk_waits_per_s=50.0, net_waits_per_s=50.0))  # fmt: skip
        fresh.advance(2)
        for name in (
            "progress",
            "disk_cpu",
            "nic_cpu",
            "disk_backend_cpu",
            "nic_backend_cpu",
            "disk_latency_s",
            "net_latency_s",
        ):
            assert sim.vms[name][0, 0] == pytest.approx(fresh.vms[name][0, 0], rel=1e-9), name


# ---- a device that is passed through pins memory


EVERYTHING = {
    "scan_pages_per_s": 1e6, "zip_cap_share": 0.1, "free_page_reporting": True, "large_pages": False,
}  # fmt: skip
SRIOV = named("nic", "sriov-posted")


def crowded(hypervisor=PLAIN, ram_mib=9000.0, **changes):
    """A pinned VM and two that together want more than the host has."""
    pinned = VmGroup("pinned", Demand(hot_mib=500.0, cold_mib=800.0), 4096.0, mergeable_share=0.5, nic=SRIOV, **changes)
    other = VmGroup(
        "other", Demand(hot_mib=1200.0, cold_mib=1500.0), 4096.0, guest_swap_mib=4096.0, count=2, mergeable_share=0.5
    )
    return hosted({"ram_mib": ram_mib}, pinned, other, hypervisor=hypervisor)


@pytest.mark.parametrize("last_resort", ["linux", "esxi", "commit"])
def test_pinned_memory_is_never_resized_swapped_merged_compressed_or_reported(last_resort):
    hypervisor = Hypervisor("any", 1, 256.0, 50.0, last_resort=last_resort, exit_us=0.0, nested_walks=False,
                            admission="commit" if last_resort == "commit" else "always", **EVERYTHING)  # fmt: skip
    sim = crowded(hypervisor)
    for turn in range(60):
        seen = sim.telemetry().vm[0, 0]
        assert (seen["pinned"], seen["memory_mib"], seen["min_mib"], seen["size_mib"]) == (1.0, 4096.0, 4096.0, 4096.0)
        assert seen["target_mib"] == 4096.0
        assert seen["host_swap_mib"] == seen["host_swap_in_mib"] == seen["host_swap_out_mib"] == 0.0
        assert seen["shared_mib"] == seen["compressed_mib"] == 0.0
        assert seen["resident_mib"] == 4096.0 + 50.0
        assert seen["guest_total_mib"] == 4096.0
        if turn % 20 == 0:
            full = np.ones(sim.vms.shape)
            sim.apply(Targets(full * 100.0, full * 500.0, full * turn, report_free_pages=full))
        sim.advance(1)
    others = sim.telemetry().vm[0, 1:]
    assert (others["pinned"] == 0.0).all()
    assert (others["size_mib"] < 4096.0).all()


def test_a_vm_whose_memory_is_all_reserved_is_never_swapped_by_esxi():
    """Nor compressed; a VM of the same size without a reservation is, from the first second on."""
    esxi = Hypervisor("esxi", 1, 256.0, 50.0, last_resort="esxi", exit_us=0.0, nested_walks=False, zip_cap_share=0.1)
    reserved, other = (
        VmGroup("vm", Demand(hot_mib=500.0, cold_mib=1500.0), 4096.0, min_mib=least, guest_swap_mib=4096.0, count=count)
        for least, count in ((4096.0, 1), (0.0, 2))
    )
    sim = hosted({"ram_mib": 9000.0}, reserved, other, hypervisor=esxi)
    for _ in range(30):
        seen = sim.telemetry().vm[0]
        assert seen["host_swap_mib"][0] == seen["compressed_mib"][0] == 0.0
        assert seen["resident_mib"][0] == 4096.0 + 50.0
        assert (seen["host_swap_mib"][1:] > 1.0).all()
        sim.advance(1)


def test_esxi_does_not_halt_a_vm_for_memory_that_is_reserved_for_it():
    """In its lowest state it halts who uses more than shares and reservation say; a process around the VM is no excess."""
    esxi = Hypervisor("esxi", 1, 256.0, 50.0, last_resort="esxi", exit_us=0.0, nested_walks=False)
    reserved, other = (
        VmGroup("vm", Demand(hot_mib=500.0, cold_mib=1500.0), 4096.0, min_mib=least, guest_swap_mib=4096.0, count=count)
        for least, count in ((4096.0, 1), (0.0, 2))
    )
    sim = hosted({"ram_mib": 9000.0}, reserved, other, hypervisor=esxi)
    sim.hosts["state"] = 4.0
    sim.advance(1)
    assert sim.vms["progress"][0, 0] > 0.9


def test_the_same_vm_without_the_device_gives_its_memory():
    hypervisor = Hypervisor("any", 1, 256.0, 50.0, exit_us=0.0, nested_walks=False, **EVERYTHING)
    sim = hosted({"ram_mib": 9000.0}, VmGroup("vm", Demand(hot_mib=500.0, cold_mib=800.0), 4096.0, mergeable_share=0.5),
                 VmGroup("other", Demand(hot_mib=1200.0, cold_mib=1500.0), 4096.0, count=2), hypervisor=hypervisor)  # fmt: skip
    sim.advance(30)
    seen = sim.telemetry().vm[0, 0]
    assert seen["host_swap_mib"] + seen["shared_mib"] + seen["compressed_mib"] > 10.0
    assert seen["pinned"] == 0.0


@pytest.mark.parametrize("returning", ["virtio_mem_vfio", "hyperalloc"])
def test_memory_that_leaves_the_iommu_first_can_be_resized(returning):
    hypervisor = Hypervisor("vfio", 1, 256.0, 50.0, exit_us=0.0, nested_walks=False, returning=returning)
    sim = crowded(hypervisor, ram_mib=16384.0, min_mib=1000.0)
    assert sim.telemetry().vm[0, 0][["pinned", "min_mib"]].tolist() == (1.0, 1000.0)
    squeezed(sim, 0, 2000.0)
    sim.advance(10)
    seen = sim.telemetry().vm[0, 0]
    assert seen["size_mib"] == pytest.approx(2000.0)
    assert seen["resident_mib"] == pytest.approx(2050.0)
    assert seen["host_swap_mib"] == 0.0
    squeezed(sim, 0, 4096.0)
    sim.advance(10)
    assert sim.telemetry().vm[0, 0]["size_mib"] == pytest.approx(4096.0)


def test_pinned_vms_must_fit():
    with pytest.raises(InputError, match=r"scenario.host: 6000 MiB of RAM; the VMs' min_mib .* add up to 8548"):
        hosted({"ram_mib": 6000.0}, vm(memory_mib=4096.0, count=2, nic=SRIOV))


def test_a_pinned_vm_that_arrives_at_a_full_host_is_not_in_swap():
    """Its device writes to all of its memory, so the host must make room, or keep it waiting."""
    sim = hosted({"ram_mib": 6500.0}, VmGroup("other", Demand(hot_mib=1500.0, cold_mib=1000.0), 4096.0, guest_swap_mib=4096.0),
                 VmGroup("pinned", Demand(hot_mib=500.0), 4096.0, nic=SRIOV, arrive_s=5.0))  # fmt: skip
    for _ in range(60):
        sim.advance(1)
        assert sim.telemetry().vm["host_swap_mib"][0, 1] == 0.0
        assert sim.vms["free_swapped_mib"][0, 1] == 0.0


def test_smart_paging_does_not_start_a_pinned_vm_from_swap():
    """Though its memory may be resized later on, what it starts with must be there; a VM without the device starts so."""
    hypervisor = Hypervisor("any", 1, 256.0, 50.0, min_free_share=0.01, last_resort="commit", admission="commit",
                            smart_paging=True, returning="virtio_mem_vfio", exit_us=0.0, nested_walks=False)  # fmt: skip
    bridged = []
    for nic in (None, SRIOV):
        sim = hosted(
            {"ram_mib": 6000.0},
            VmGroup("other", Demand(hot_mib=1500.0), 4096.0, min_mib=4096.0),
            VmGroup("late", Demand(hot_mib=500.0), 4096.0, min_mib=500.0, startup_mib=3000.0, nic=nic, arrive_s=2.0),
            hypervisor=hypervisor,
        )
        most = 0.0
        for _ in range(20):
            sim.advance(1)
            most = max(most, float(sim.vms["free_swapped_mib"][0, 1]))
        bridged.append(most)
    assert bridged[0] > 100.0
    assert bridged[1] == 0.0


def test_killing_for_a_full_host_swap_frees_memory_even_beside_a_pinned_vm():
    """Whoever is killed, the host has memory again within seconds, and does not kill on and on."""
    sim = hosted({"ram_mib": 8192.0, "swap_share": 0.0}, VmGroup("pinned", Demand(hot_mib=500.0), 4096.0, nic=SRIOV),
                 VmGroup("other", Demand(hot_mib=1000.0, cold_mib=500.0), 2500.0, count=2, guest_swap_mib=4096.0),
                 touched_share=0.0)  # fmt: skip
    sim.demand["tier_mib"][0, :, 1:, 0] += 850.0
    sim.advance(30)
    assert 1.0 <= sim.vms["oom_kills"].sum() <= 3.0
    assert sim.hosts["free_mib"][0, 0] > 0.0


# ---- objectives of I/O


def switched(seconds, groups, host=None, noisy=-1, field="disk_mib_per_s", noise=360.0, **changes):
    """Second by second: the neighbour `noisy` is busy in every third second. Returns the busy seconds and the violations."""
    sim = hosted({"disk_mib_per_s": 400.0, "disk_iops": 20_000.0, "nic_mib_per_s": 400.0} | (host or {}), *groups,
                 slot_s=1, episode_s=seconds, **changes)  # fmt: skip
    busy = np.arange(seconds) % 3 == 1
    sim.demand[field][0, :, noisy] = np.where(busy, noise, 0.0)
    missed = [rise(sim, ["slo_violation_s"])[0] for _ in range(seconds)]
    return busy, np.array(missed)


def test_a_disk_objective_is_missed_exactly_while_the_disk_is_slow():
    """At 0.9 an operation takes 100 us and 9 x 50 us; the limit is 500 us. Who is not critical has no objective."""
    critical, lax, plain = (
        vm(slo_disk_latency_ms=ms, critical=flag, slo_slowdown=NEVER, disk_waits_per_s=10.0)
        for ms, flag in ((0.5, True), (0.6, True), (0.5, False))
    )
    busy, missed = switched(30, (critical, lax, plain, vm()))
    np.testing.assert_array_equal(missed[:, 0], busy.astype(float))
    assert missed[:, 1:].sum() == 0.0


def test_a_network_objective_is_missed_exactly_while_the_link_is_slow():
    """At 0.9 nine packets of 16 KiB lie before one: 352 us at 400 MiB/s."""
    critical, lax, plain = (
        vm(net=1e-6, slo_net_latency_ms=ms, critical=flag, slo_slowdown=NEVER)
        for ms, flag in ((0.34, True), (0.36, True), (0.34, False))
    )
    busy, missed = switched(30, (critical, lax, plain, vm(net=1.0)), field="net_mib_per_s")
    np.testing.assert_array_equal(missed[:, 0], busy.astype(float))
    assert missed[:, 1:].sum() == 0.0


def test_the_time_in_a_virtual_device_counts_into_its_objective():
    slow = works(us=400.0)
    sim = hosted({"disk_latency_us": 100.0}, *(vm(model=slow, nic=slow, critical=True, slo_slowdown=NEVER, **objective)
                 for objective in ({"slo_disk_latency_ms": 0.49}, {"slo_disk_latency_ms": 0.51},
                                   {"slo_net_latency_ms": 0.39}, {"slo_net_latency_ms": 0.41})))  # fmt: skip
    sim.advance(7)
    assert sim.vms["slo_violation_s"].tolist() == [[7.0, 0.0, 7.0, 0.0]]


@pytest.mark.parametrize(("field", "kind"), [("disk_mib_per_s", "disk"), ("net_mib_per_s", "net")])
def test_a_bandwidth_objective_is_missed_exactly_while_less_is_served_than_it_says_and_is_asked_for(field, kind):
    """Shares alike: the noisy neighbour and a VM that wants 300 of 400 MiB/s get 200 each. Asking for less is no miss."""
    shares = {f"{kind}_shares": 100.0}
    for asked, objective, critical, expected in (
        (300.0, 250.0, True, 1.0), (300.0, 190.0, True, 0.0), (150.0, 250.0, True, 0.0), (300.0, 250.0, False, 0.0),
    ):  # fmt: skip
        mine = vm(**{kind: asked}, critical=critical, slo_slowdown=NEVER, **{f"slo_{field}": objective}, **shares)
        busy, missed = switched(30, (mine, vm(**shares)), field=field, noise=1000.0)
        np.testing.assert_array_equal(missed[:, 0], expected * busy)


def test_a_second_in_which_several_objectives_are_missed_counts_once():
    group = vm(net=300.0, disk=1.0, critical=True, slo_slowdown=1.01, slo_net_mib_per_s=299.0, slo_net_latency_ms=1e-9,
               slo_disk_latency_ms=1e-9, slo_disk_mib_per_s=1.0)  # fmt: skip
    sim = hosted({"nic_mib_per_s": 100.0}, group)
    sim.advance(9)
    assert sim.vms["slo_violation_s"].tolist() == [[9.0]]


# ---- policies


@pytest.mark.parametrize(("kind", "full"), [("disk", 400.0), ("net", 400.0)])
def test_a_policys_shares_divide_from_then_on_and_what_is_missing_stays(kind, full):
    host = {"disk_mib_per_s": 400.0, "nic_mib_per_s": 400.0}
    served = disk_served if kind == "disk" else net_served
    name = f"{kind}_shares"
    sim = hosted(host, vm(**{kind: 500.0}, count=2))
    normal = 1000.0 if kind == "disk" else 50.0
    assert sim.telemetry().vm[name].tolist() == [[normal, normal]]
    sim.apply(Targets(**{name: np.array([[np.nan, np.nan]])}))
    assert sim.hosts[f"divides_{kind}"][0, 0] == 0.0  # nothing was asked for
    sim.apply(Targets(**{name: np.array([[3.0 * normal, np.nan]])}))
    sim.advance(1)
    np.testing.assert_allclose(served(sim), [0.75 * full, 0.25 * full], rtol=1e-9)
    assert sim.telemetry().vm[name].tolist() == [[3.0 * normal, normal]]
    sim.apply(Targets(**{name: np.array([[np.nan, 9.0 * normal]])}))
    np.testing.assert_allclose(served(sim, 5), [0.25 * full, 0.75 * full], rtol=1e-9)
    sim.apply(Targets(**{name: np.array([[0.0, np.nan]])}))
    np.testing.assert_allclose(served(sim, 5), [0.0, full], rtol=1e-9, atol=1e-6)
    sim.reset([0])
    assert sim.telemetry().vm[name].tolist() == [[normal, normal]]
    assert sim.hosts[f"divides_{kind}"][0, 0] == 0.0


def test_a_policys_shares_leave_reservations_and_limits_alone():
    host = {"disk_mib_per_s": 400.0, "disk_iops": 1000.0}
    sim = hosted(
        host, vm(disk=500.0, disk_reservation_iops=500.0), vm(disk=500.0, disk_limit_iops=100.0), vm(disk=500.0)
    )
    sim.apply(Targets(disk_shares=np.array([[1.0, 1e6, 1e3]])))
    np.testing.assert_allclose(disk_served(sim, 3), [200.0, 40.0, 160.0], rtol=1e-9)


def test_a_lane_whose_policy_asks_for_nothing_is_not_divided():
    sim = Simulator(
        Scenario("s", "", Host(ram_mib=65536.0, disk_mib_per_s=400.0), PLAIN, (vm(disk=500.0, count=2),)), 2
    )
    sim.reset([0, 0])
    sim.apply(Targets(disk_shares=np.array([[np.nan, np.nan], [1.0, 2.0]])))
    assert sim.hosts["divides_disk"].tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize("name", ["disk_shares", "net_shares"])
@pytest.mark.parametrize("shape", [(2,), (1, 3), (2, 1)])
def test_shares_of_a_wrong_shape_raise(name, shape):
    sim = hosted({}, vm(count=2))
    with pytest.raises(ValueError, match=rf"targets.{name} of shape"):
        sim.apply(Targets(**{name: np.ones(shape)}))


def test_what_a_host_shows_of_disk_and_network_is_seen_by_every_policy():
    sim = hosted({}, vm(disk_shares=7.0, net_shares=3.0, net=1.0))
    sim.advance(1)
    for profile in Visibility:
        seen = sim.telemetry().seen_with(profile).vm[0, 0]
        assert (seen["disk_shares"], seen["net_shares"], seen["pinned"], seen["bytecode"]) == (7.0, 3.0, 0.0, 0.0)
        assert seen["net_mib"] == 1.0


def test_a_divided_link_keeps_others_out_of_the_way():
    """Who gets all it asks for waits for one packet of each other sender at most, who is cut for a whole ring (256)."""
    sim = hosted({"nic_mib_per_s": 400.0}, vm(net=10.0, net_shares=50.0), vm(net=500.0), vm(net=600.0), vm())
    sim.advance(1)
    packet = 1.0 / 64.0 / 400.0
    np.testing.assert_allclose(sim.vms["net_latency_s"][0], [2 * packet, 256 * packet, 256 * packet, 0.0], rtol=1e-9)


# ---- what is lost, and the packaged scenarios


def lost(*groups, host=None):
    sim = hosted({"disk_iops": 20_000.0, "disk_mib_per_s": 400.0} | (host or {}), *groups)
    sim.advance(3)
    result = {name: float(part[0]) for name, part in losses.shares(sim).items() if part[0] > 1e-9}
    return result, 1.0 - sim.vms["progress"][0]


def test_losses_name_waits_for_io_traps_and_whatever_no_thread_had_time_for():
    """Each VM alone with its cause: 700 waits at a half-full disk; 0.32 s of traps on four vCPUs; a link that is too thin."""
    causes, missing = lost(vm(disk_waits_per_s=700.0), vm(disk=200.0))
    assert causes == {"io_waits": pytest.approx(0.5 * missing[0])}
    assert missing[0] == pytest.approx(1.0 - 1.0 / (1.0 + 700.0 / 20_000.0), rel=1e-2)
    causes, missing = lost(vm(net=500.0, nic=works(), vcpus=4.0))
    assert causes == {"exits": pytest.approx(1.0 - 1.0 / 1.08)}
    assert causes["exits"] == pytest.approx(missing[0])
    causes, missing = lost(vm(net=500.0), host={"nic_mib_per_s": 100.0})
    assert causes == {"waiting": pytest.approx(0.8)}


def test_of_two_gateways_alike_the_emulated_one_is_held_back_by_its_thread():
    """Beside exits and waits, never beyond 22,104 packets/s; the other carries what it is asked for to some percent."""
    sim = Simulator(load("emulated-nic"))
    sim.reset([3])
    sim.advance(30)
    emulated, paravirtual = net_served(sim, 60)[:2] * 2**20 / 1500.0
    assert emulated <= 22_104.2
    assert emulated > 15_000.0
    assert paravirtual > 1.4 * emulated
    assert sim.vms["slo_violation_s"][0, 0] == 90.0


def test_of_two_databases_alike_the_one_with_a_reservation_misses_its_objective_less_often():
    sim = Simulator(load("noisy-disk"))
    sim.reset([3])
    sim.advance(600)
    reserved, shared = sim.vms["slo_violation_s"][0, :2]
    assert reserved < 0.5 * shared
    assert sim.vms["progress_s"][0, 0] > sim.vms["progress_s"][0, 1]
