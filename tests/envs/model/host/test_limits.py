"""A VM's own limit of host memory: by balloon, compression and swap on ESXi, by reclaim, throttle or a kill in a cgroup."""

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.model.host import limits
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, load_group
from hvgym.envs.schema import build
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

NEVER = (1e9,) * 4
"""Tiers that nobody touches."""

PROCESS_MIB = 50.0

ESXI = Hypervisor("esxi", 1, 0.0, PROCESS_MIB, last_resort="esxi", admission="reservation", limits="esxi", exit_us=0.0,
                  nested_walks=False, balloon_cap_share=0.65, zip_cap_share=0.1, zip_stored_share=0.5)  # fmt: skip
CGROUP = Hypervisor("kvm", 1, 0.0, PROCESS_MIB, limits="cgroup", victims="mglru", exit_us=0.0, nested_walks=False)


def vm(limit_mib, hot_mib=3000.0, **changes):
    given = {"memory_mib": 4096.0, "guest_swap_mib": 4096.0, "mergeable_share": 0.0, "kernel_cache_mib": 0.0}
    demand = Demand(hot_mib=hot_mib, cpu_share=0.1)
    return VmGroup("vm", demand, **(given | {"tier_tau_s": NEVER, "limit_mib": limit_mib} | changes))


def start(group, hypervisor=ESXI, touched_share=0.0, **host):
    """A host of 64 GiB for one VM: memory is never short."""
    machine = Host(**({"ram_mib": 65536.0} | host))
    sim = Simulator(Scenario("s", "", machine, hypervisor, (group,), episode_s=10_000, touched_share=touched_share))
    sim.reset([0])
    return sim


def size_mib(sim):
    return float(sim.vm_specs["memory_mib"][0, 0] - sim.vms["balloon_mib"][0, 0])


def held_mib(sim):
    """Host memory behind the guest."""
    return float(sim.telemetry().vm["resident_mib"][0, 0]) - PROCESS_MIB


def out_mib(sim):
    """What the host took away, compressed or swapped."""
    return float(sim.vms["host_swapped_mib"][0, 0].sum() + sim.vms["free_swapped_mib"][0, 0])


# ---- ESXi: balloon, then compression, then swap


def test_esxis_balloon_holds_a_guest_that_presses_on_its_limit_and_nothing_is_swapped():
    """3,018 MiB are wanted and 2,048 allowed: the guest swaps the rest itself."""
    sim = start(vm(2048.0))
    assert size_mib(sim) == pytest.approx(2048.0)
    sim.advance(60)
    assert held_mib(sim) <= 2048.0 + 1e-6
    assert size_mib(sim) == pytest.approx(2048.0)
    assert out_mib(sim) == pytest.approx(0.0, abs=1e-6)
    assert sim.hosts["free_mib"][0, 0] > 60_000.0


def test_a_guest_below_its_limit_is_left_alone():
    sim = start(vm(2048.0, hot_mib=1000.0))
    sim.advance(60)
    assert size_mib(sim) == 4096.0
    assert held_mib(sim) == pytest.approx(1018.0)


def test_what_esxis_balloon_may_not_take_is_compressed_and_then_swapped():
    """A cap of 65 % leaves 1,433.6 MiB of which 1,000 may stay. x pages are taken, 0.69 x of them kept at half their size:
    x (1 - 0.345) = 433.6, so 662 are out and 456.8 of them compressed."""
    sim = start(vm(1000.0), touched_share=1.0)
    assert size_mib(sim) == pytest.approx(0.35 * 4096.0)
    assert held_mib(sim) == pytest.approx(1000.0)
    assert out_mib(sim) == pytest.approx(433.6 / 0.655, rel=1e-3)
    assert sim.vms["zipped_mib"][0, 0] == pytest.approx(0.69 * 433.6 / 0.655, rel=1e-3)


def test_without_a_driver_esxi_compresses_as_much_as_it_may_and_swaps_the_rest():
    """970 MiB must go; slots hold a tenth of 4,096, 819.2 of pages: 970 + 409.6 are taken, all but 819.2 of them swapped."""
    sim = start(vm(2048.0, balloon=False))
    sim.advance(10)
    assert size_mib(sim) == 4096.0
    assert held_mib(sim) == pytest.approx(2048.0)
    assert sim.vms["zipped_mib"][0, 0] == pytest.approx(819.2)
    assert out_mib(sim) == pytest.approx(970.0 + 409.6)
    assert sim.telemetry().vm["host_swap_mib"][0, 0] == pytest.approx(560.4)


def test_a_limit_that_the_compressed_pool_would_pass_sends_its_pages_to_swap():
    """200 MiB less 18 of kernel are 182 of slots, for 364 MiB of pages, though a pool may have 409.6."""
    sim = start(vm(200.0, balloon=False))
    sim.advance(10)
    assert held_mib(sim) == pytest.approx(200.0)
    assert sim.vms["zipped_mib"][0, 0] == pytest.approx(364.0)
    assert sim.telemetry().vm["host_swap_mib"][0, 0] == pytest.approx(3000.0 - 364.0)
    assert sim.vms["oom_kills"][0, 0] == 0.0


def test_while_the_balloon_is_slow_the_host_swaps_and_the_limit_holds_every_second():
    """The guest grows by 100 MiB a second from 1,000 to 3,000; its driver takes 20."""
    hypervisor = build(Hypervisor, {**load_group("hypervisor", "esxi"), "disk": None, "nic": None,
                                    "inflate_mib_per_s": 20.0, "deflate_on_oom_mib_per_s": 0.0}, "hypervisor")  # fmt: skip
    sim = start(vm(2048.0, hot_mib=1000.0), hypervisor)
    sim.demand["tier_mib"][..., 0] = 3000.0
    overhead, most_out = float(sim.vm_specs["overhead_mib"][0, 0]), 0.0
    for _ in range(120):
        sim.advance(1)
        assert sim.telemetry().vm["resident_mib"][0, 0] - overhead <= 2048.0 + 1e-6
        most_out = max(most_out, out_mib(sim))
    assert most_out > 500.0
    assert size_mib(sim) == pytest.approx(2048.0)
    assert sim.vms["oom_kills"][0, 0] == 0.0


def test_a_policys_size_below_the_limit_wins_and_one_above_does_not():
    sim = start(vm(2048.0))
    for asked, size in ((1500.0, 1500.0), (4096.0, 2048.0)):
        sim.apply(Targets(np.array([[asked]])))
        sim.advance(30)
        assert size_mib(sim) == pytest.approx(size)


# ---- cgroups


def test_memory_max_counts_the_process_and_swaps_what_lies_above():
    """3,018 MiB of guest and 50 of its process against 2,048."""
    sim = start(vm(2048.0), CGROUP)
    sim.advance(10)
    seen = sim.telemetry().vm[0, 0]
    assert seen["resident_mib"] == pytest.approx(2048.0)
    assert seen["limit_mib"] == 2048.0
    assert seen["host_swap_mib"] == pytest.approx(3068.0 - 2048.0)
    assert size_mib(sim) == 4096.0


def test_memory_max_holds_every_second_of_a_growing_guest():
    sim = start(vm(2048.0, hot_mib=500.0, tier_tau_s=(8.0, 134.0, 21600.0, 600.0)), CGROUP)
    sim.demand["tier_mib"][..., 0] = 3000.0
    for _ in range(100):
        sim.advance(1)
        assert sim.telemetry().vm["resident_mib"][0, 0] <= 2048.0 + 1e-6
    assert sim.vms["progress"][0, 0] < 0.5  # it touches all of its 3,000 MiB every 8 s
    assert sim.vms["oom_kills"][0, 0] == 0.0


def test_what_a_limit_swaps_passes_through_the_hosts_device():
    sim = start(vm(2048.0, hot_mib=1000.0), CGROUP)
    sim.demand["tier_mib"][..., 0] = 3000.0
    sim.advance(60)
    assert sim.vms["host_swap_out_mib"][0, 0] == pytest.approx(3068.0 - 2048.0)
    assert sim.hosts["swap_out_mib"][0, 0] == pytest.approx(sim.vms["host_swap_out_mib"][0, 0])
    assert sim.hosts["swapping_s"][0, 0] >= 10.0


def test_memory_max_kills_a_vm_of_which_nothing_can_be_swapped_and_it_boots_with_nothing():
    sim = start(vm(2048.0, hot_mib=1500.0, restart_s=1000.0), CGROUP, swap_share=0.0)
    sim.advance(10)
    assert sim.vms["oom_kills"][0, 0] == 0.0
    sim.demand["tier_mib"][..., 0] = 3000.0
    sim.advance(30)
    assert sim.vms["oom_kills"][0, 0] == 1.0
    assert sim.telemetry().vm["resident_mib"][0, 0] == pytest.approx(18.0 + PROCESS_MIB)
    assert sim.hosts["free_mib"][0, 0] > 60_000.0


def test_a_killed_vms_swap_serves_the_next():
    """1,966 MiB of swap hold the 1,020 of one VM, not of two: the first is killed, and the second has room."""
    groups = (vm(2048.0, hot_mib=1500.0, restart_s=1000.0), vm(2048.0, hot_mib=1500.0, restart_s=1000.0))
    sim = Simulator(Scenario("s", "", Host(ram_mib=65536.0, swap_share=0.03), CGROUP, groups, touched_share=0.0))
    sim.reset([0])
    sim.demand["tier_mib"][..., 0] = 3000.0
    sim.advance(60)
    assert sorted(sim.vms["oom_kills"][0].tolist()) == [0.0, 1.0]
    assert sim.hosts["swap_used_mib"][0, 0] == pytest.approx(1020.0)


def test_memory_high_reclaims_to_the_limit_where_swap_is_fast():
    sim = start(vm(2048.0, hot_mib=500.0, limit_kind="high"), CGROUP)
    sim.demand["tier_mib"][..., 0] = 3000.0
    sim.advance(60)
    assert sim.telemetry().vm["resident_mib"][0, 0] == pytest.approx(2048.0)


def test_memory_high_without_swap_is_passed_slowly_and_kills_nobody():
    """At 110 % 64 pages wait 0.64 s: a MiB in 2.56 s, with two faults in flight 0.78 MiB a second of the 100 that are wanted."""
    sim = start(vm(2048.0, hot_mib=1500.0, limit_kind="high"), CGROUP, swap_share=0.0)
    sim.demand["tier_mib"][..., 0] = 3500.0
    while sim.telemetry().vm["resident_mib"][0, 0] < 1.1 * 2048.0:
        sim.advance(1)
    before = sim.telemetry().vm["resident_mib"][0, 0]
    sim.advance(10)
    assert (sim.telemetry().vm["resident_mib"][0, 0] - before) / 10.0 == pytest.approx(2.0 / 2.56, rel=0.1)
    assert sim.vms["progress"][0, 0] < 0.01
    assert sim.telemetry().vm["host_psi_some10"][0, 0] > 0.5
    assert sim.vms["oom_kills"][0, 0] == 0.0


@pytest.mark.parametrize(
    ("usage", "milliseconds"), [(1.00, 0), (1.01, 0), (1.02, 25), (1.05, 159), (1.10, 639), (1.17, 1849), (1.18, 2000)]
)
def test_the_throttle_is_the_kernels_table_with_what_is_below_10_ms_left_out(usage, milliseconds):
    assert 1e3 * limits.wait_s(usage - 1.0) == pytest.approx(milliseconds, abs=1.5)


def test_a_limit_leaves_the_other_vms_alone():
    group = vm(None, hot_mib=3000.0)
    alone, beside = start(group, CGROUP), start(vm(2048.0), CGROUP)
    both = Simulator(Scenario("s", "", Host(ram_mib=65536.0), CGROUP, (group, vm(2048.0)), touched_share=0.0))
    both.reset([0])
    for sim in (alone, beside, both):
        sim.advance(50)
    assert both.vms["progress_s"][0].tolist() == [alone.vms["progress_s"][0, 0], beside.vms["progress_s"][0, 0]]
    assert both.telemetry().vm["resident_mib"][0].tolist() == pytest.approx([3068.0, 2048.0])


def test_an_episode_begins_where_the_limit_leads_in_the_long_run():
    """Pages of a rate of 1/10 and 1/1,000 a second leave and come back; what is out of each stays the same."""
    taus = (10.0, 1000.0, 1e6, 600.0)
    group = vm(2048.0, hot_mib=0.0, tier_tau_s=taus, guest_swap_mib=0.0)
    group = VmGroup(**{**vars(group), "demand": Demand(hot_mib=1000.0, warm_mib=1500.0)})
    sim = start(group, CGROUP, disk_iops=1e9, disk_latency_us=1e-3)
    began = sim.vms["host_swapped_mib"][0, 0, :2].copy()
    sim.advance(4000)
    np.testing.assert_allclose(sim.vms["host_swapped_mib"][0, 0, :2], began, rtol=0.15)


# ---- where there is none


@pytest.mark.parametrize("name", ["xen", "hyperv", "virtualbox", "workstation"])
def test_hypervisors_without_a_limit_say_so(name):
    hypervisor = load_group("hypervisor", name) | {"disk": None, "nic": None}
    with pytest.raises(InputError, match=rf"vms\[0\].limit_mib=2048: hypervisor {name} has no limit below a VM's size"):
        start(vm(2048.0), build(Hypervisor, hypervisor, "hypervisor"))


@pytest.mark.parametrize(
    ("changes", "hypervisor", "message"),
    [
        ({"limit_kind": "high"}, ESXI, r"limit_kind='high' is a cgroup's"),
        ({"limit_mib": None, "limit_kind": "high"}, CGROUP, r"limit_kind='high': needs limit_mib"),
        ({"limit_mib": 100.0}, CGROUP, r"limit_mib=100: guest kernel and process need 176"),
        ({"min_mib": 3000.0}, CGROUP, r"limit_mib=2048: must be at least min_mib=3000"),
    ],
)
def test_a_limit_that_cannot_be_is_one_line(changes, hypervisor, message):
    with pytest.raises(InputError, match=message) as error:
        start(vm(**({"limit_mib": 2048.0} | changes)), hypervisor)
    assert "\n" not in str(error.value)


def test_pinned_memory_cannot_be_limited():
    sriov = load_group("nic", "sriov")
    data = {"name": "s", "description": "", "host": {"ram_mib": 65536}, "hypervisor": {"name": "kvm", "type": 1, "own_mib": 0,
            "vm_overhead_mib": 50, "limits": "cgroup"},
            "vms": [{"name": "vm", "memory_mib": 4096, "limit_mib": 2048, "nic": sriov, "demand": {"hot_mib": 1}}]}  # fmt: skip
    with pytest.raises(InputError, match=r"vms\[0\].limit_mib=2048: a passed-through device pins all of its memory"):
        Scenario.from_dict(data)
