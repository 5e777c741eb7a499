"""Host memory: the blind swap of last resort and what a balloon spares."""

import numpy as np
import pytest

from hvgym.envs.device import DeviceModel
from hvgym.envs.model.devices import io
from hvgym.envs.model.host import overcommit
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

PLAIN = Hypervisor("plain", 1, 256.0, 50.0, min_free_share=0.01, exit_us=0.0, nested_walks=False)
TAUS = (10.0, 100.0, 1e6, 600.0)


def make(ram_mib, demand, taus=TAUS, touched_share=0.95, swap_share=4.0, init_on_alloc=True, **host):
    group = VmGroup(
        name="vm",
        memory_mib=4096.0,
        demand=demand,
        count=2,
        guest_swap_mib=4096.0,
        tier_tau_s=taus,
        init_on_alloc=init_on_alloc,
    )
    machine = Host(ram_mib=ram_mib, swap_share=swap_share, **host)
    sim = Simulator(Scenario("s", "", machine, PLAIN, (group,), episode_s=10_000, touched_share=touched_share))
    sim.reset([0])
    return sim


def test_an_ample_host_never_swaps():
    sim = make(16384.0, Demand(hot_mib=1000.0, cold_mib=1000.0))
    sim.advance(600)
    assert sim.hosts["swap_out_mib"][0, 0] == 0.0
    assert sim.vms["progress_s"].tolist() == [[600.0, 600.0]]


def test_blind_swap_ends_at_gelenbes_fixed_point():
    """In the long run a tier of rate lambda has the share d / (lambda + d) swapped, with one d for all."""
    sim = make(5000.0, Demand(hot_mib=1500.0, warm_mib=1000.0, cold_mib=1200.0), disk_iops=1e9, disk_latency_us=0.001)
    sim.advance(5000)
    before = sim.vms["host_swapped_mib"][0, 0].copy()
    sim.advance(1000)
    swapped, resident = sim.vms["host_swapped_mib"][0, 0], sim.vms["resident_mib"][0, 0]
    np.testing.assert_allclose(swapped[:2], before[:2], rtol=0.02)
    share = swapped[:2] / resident[:2]
    d = share / (1.0 - share) / np.array(TAUS[:2])
    assert d[0] == pytest.approx(d[1], rel=0.08)
    assert share[1] > 5 * share[0] > 0.0


def test_an_episode_starts_where_blind_swapping_leads():
    sim = make(5000.0, Demand(hot_mib=1500.0, warm_mib=1000.0, cold_mib=1200.0), disk_iops=1e9, disk_latency_us=0.001)
    start = sim.vms["host_swapped_mib"][0, 0, :2].copy()
    sim.advance(4000)
    np.testing.assert_allclose(sim.vms["host_swapped_mib"][0, 0, :2], start, rtol=0.15)


def test_the_host_keeps_its_free_minimum_by_itself():
    sim = make(5000.0, Demand(hot_mib=1500.0, warm_mib=500.0, cold_mib=1500.0, burst_mib=500.0, burst_every_s=60.0))
    for _ in range(300):
        sim.advance(1)
        assert sim.hosts["free_mib"][0, 0] >= sim.host_specs["min_free_mib"][0, 0] - 1e-6


def test_host_swap_reads_back_pages_that_the_guest_had_freed():
    sim = make(5000.0, Demand(hot_mib=500.0))
    assert sim.vms["free_swapped_mib"].min() > 100.0
    sim.demand["tier_mib"][..., 0] += 1000.0
    sim.advance(30)
    assert sim.vms["host_swap_in_mib"].min() > 100.0


def test_a_balloon_drops_freed_pages_without_reading_them_where_the_guest_does_not_zero_them():
    sim = make(5000.0, Demand(hot_mib=500.0), init_on_alloc=False)
    swapped = sim.vms["free_swapped_mib"].sum()
    sim.apply(Targets(np.full((1, 2), 800.0)))
    sim.advance(30)
    assert sim.vms["free_swapped_mib"].sum() < 0.05 * swapped
    assert sim.vms["host_swap_in_mib"].sum() < 0.01 * swapped


def test_ballooning_cold_memory_beats_blind_swap():
    """RANDOM swaps hot pages too; by hand, its faults are about three times those of LRU here."""
    demand, taus = Demand(hot_mib=1000.0, warm_mib=200.0, cold_mib=2200.0), (10.0, 100.0, 3000.0, 600.0)
    blind, ballooned = (make(3800.0, demand, taus=taus, disk_iops=5000.0) for _ in range(2))
    ballooned.apply(Targets(np.full((1, 2), 1750.0)))
    rates = []
    for sim in (blind, ballooned):
        sim.advance(2000)
        before = sim.vms.copy()
        sim.advance(1000)
        faults = (sim.vms["major_faults"] - before["major_faults"]) / 256
        rates.append((faults + sim.vms["host_swap_in_mib"] - before["host_swap_in_mib"]).sum())
    assert 2.0 < rates[0] / rates[1] < 5.0
    assert ballooned.vms["progress"].sum() > blind.vms["progress"].sum()


def test_a_full_host_swap_kills_the_largest_vm_and_returns_its_memory():
    sim = make(4200.0, Demand(hot_mib=1000.0, cold_mib=500.0), touched_share=0.0, swap_share=0.0)
    assert sim.vms["oom_kills"].sum() == 0.0
    sim.demand["tier_mib"][0, :, 0, 0] += 1800.0
    sim.advance(20)
    assert sim.vms["oom_kills"].tolist() == [[1.0, 0.0]]
    assert sim.vms["resident_mib"][0, 0].sum() == 0.0
    assert sim.hosts["swap_used_mib"][0, 0] == 0.0


def test_slow_disks_slow_faulting_vms_and_utilisation_stays_below_one():
    fast = make(5000.0, Demand(hot_mib=1800.0, warm_mib=700.0), disk_iops=1e6)
    slow = make(5000.0, Demand(hot_mib=1800.0, warm_mib=700.0), disk_iops=500.0, disk_latency_us=8000.0)
    for sim in (fast, slow):
        sim.advance(600)
    assert slow.vms["progress_s"].sum() < fast.vms["progress_s"].sum() < 1200.0
    assert 0.5 < slow.hosts["disk_utilisation"][0, 0] < 1.0


def crowd(pcpus=16.0, nic=1000.0, disk_mib_per_s=400.0, count=2, devices=None, **demand):
    """VMs of two vCPUs on a host with ample memory."""
    group = VmGroup(
        name="vm", memory_mib=1024.0, demand=Demand(hot_mib=100.0, **demand), count=count, **(devices or {})
    )
    host = Host(ram_mib=16384.0, pcpus=pcpus, nic_mib_per_s=nic, disk_mib_per_s=disk_mib_per_s)
    sim = Simulator(Scenario("s", "", host, PLAIN, (group,), episode_s=1000))
    sim.reset([0])
    return sim


def test_cpu_time_is_divided_when_it_is_short():
    """Overcommit 1.4 with all busy leaves each 1 / 1.4 (calibration card 11.1); it shows as a full host."""
    sim = crowd(pcpus=10.0, count=7, cpu_share=1.0)
    sim.advance(10)
    np.testing.assert_allclose(sim.vms["progress_s"] / 10, 1 / 1.4)
    np.testing.assert_allclose(sim.vms["cpu_s"], 10 * 2 / 1.4)
    assert sim.telemetry().host["cpu_utilisation"][0, 0] == pytest.approx(1.0)


def test_a_vm_that_waits_uses_no_cpu():
    """Whoever reads the host's CPU sees work done, not work wanted."""
    sim = crowd(pcpus=16.0, nic=100.0, cpu_share=1.0, net_mib_per_s=100.0)
    sim.advance(10)
    assert sim.telemetry().host["cpu_utilisation"][0, 0] == pytest.approx(0.5 * 4 / 16)
    np.testing.assert_allclose(sim.vms["cpu_s"], 10 * 2 * 0.5)


def test_the_network_is_divided_among_those_who_use_it():
    sim = crowd(nic=100.0, net_mib_per_s=100.0)
    sim.demand["net_mib_per_s"][0, :, 1] = 0.0
    sim.advance(10)
    assert sim.vms["progress_s"].tolist() == [[10.0, 10.0]]
    sim.demand["net_mib_per_s"][0, :, 1] = 300.0
    sim.advance(10)
    np.testing.assert_allclose(sim.vms["progress_s"], 10.0 + 10.0 / 4)
    np.testing.assert_allclose(sim.vms["net_mib"], [[1000.0 + 250.0, 750.0]])


def test_each_io_request_costs_its_exits():
    trap = DeviceModel("trap", "", "emulated", guest_cycles=1.0, exits=1.0, exit_cycles=0.0005 * 2.7e9, depth=32.0)
    sim = crowd(
        disk_mib_per_s=1e6, devices={"disk": trap, "nic": trap, "packet_bytes": 65536.0}, net_mib_per_s=50.0, count=1
    )
    sim.demand["disk_mib_per_s"] = 50.0
    sim.advance(10)  # 1,600 requests of 64 KiB, 0.8 s on two vCPUs
    assert sim.vms["progress_s"][0, 0] == pytest.approx(10 / 1.4)
    assert sim.vms["disk_mib"][0, 0] == pytest.approx(500 / 1.4)


def test_application_io_and_deferred_writes_fill_the_disk():
    sim = crowd(disk_mib_per_s=400.0)
    sim.demand["disk_mib_per_s"] = 50.0
    sim.hosts["write_backlog_mib"] = 500.0
    seen = []
    for _ in range(3):
        sim.advance(1)
        seen.append((float(sim.hosts["disk_utilisation"][0, 0]), float(sim.hosts["write_backlog_mib"][0, 0])))
    np.testing.assert_allclose(seen, [(0.995, 140.0), (0.6, 0.0), (0.25, 0.0)], atol=1e-6)


def test_an_operation_waits_as_in_an_mm1_queue():
    assert io.wait(1e4, 1e-4, 0.0) == 1e-4
    assert io.wait(1e4, 1e-4, 0.5) == pytest.approx(1e-4 + 1e-4)
    assert io.wait(1e4, 1e-4, 0.9) == pytest.approx(1e-4 + 9e-4)


def test_every_fault_takes_the_disk_and_stalls_as_far_as_it_is_not_in_parallel():
    sim = crowd(count=1)
    vm, spec, host_spec = sim.vms[0, 0], sim.vm_specs[0, 0], sim.host_specs[0, 0]
    vm["paging_mib_per_s"], vm["host_fault_mib_per_s"], vm["false_read_mib"] = 1.0, 2.0, 1.0
    host_spec["disk_iops"], spec["fault_parallelism"] = 10_000.0, 4.0
    io.set_demand(vm, spec, sim.hosts[0, 0], host_spec, sim.demand[0, 0, 0])
    assert vm["disk_demand"] == pytest.approx(4 * 256 / 10_000)
    vm["double_paged_mib"] = 1.0
    io.set_demand(vm, spec, sim.hosts[0, 0], host_spec, sim.demand[0, 0, 0])
    assert vm["disk_demand"] == pytest.approx(5 * 256 / 10_000)  # takes the disk, and nobody waits for it
    vm["cpu_grant"] = 1.0
    assert io.speed(vm, 0.001, 0.001) == pytest.approx(1 / (1 + 0.256))
    vm["cpu_grant"] = 0.5  # half the CPU doubles the work, not the wait
    assert io.speed(vm, 0.001, 0.001) == pytest.approx(1 / (2 + 0.256))


def in_queue(sim):
    """MiB that the disk has to write."""
    guests = sim.vms["queued_single_mib"] + sim.vms["queued_runs_mib"]
    return float(guests.sum() + sim.hosts["write_backlog_mib"][0, 0])


def test_swap_writes_of_host_and_guests_reach_the_disk():
    sim = make(5000.0, Demand(hot_mib=1500.0, warm_mib=500.0, cold_mib=1500.0), disk_mib_per_s=100.0)
    sim.apply(Targets(np.array([[2000.0, 4096.0]])))
    sim.demand["tier_mib"][..., 0] += 300.0
    for _ in range(10):
        written = sim.vms["swap_out_mib"].sum() + sim.hosts["swap_out_mib"].sum()
        queued = in_queue(sim)
        sim.advance(1)
        new = sim.vms["swap_out_mib"].sum() + sim.hosts["swap_out_mib"].sum() - written
        kept_room = sim.vms["replaced_mib"].sum()  # written as reads came in
        served = queued + new - in_queue(sim)
        assert -1e-9 <= served <= 90.0 + kept_room + 1e-4
    assert min(sim.vms["swap_out_mib"][0, 0], sim.hosts["swap_out_mib"][0, 0]) > 1.0


def test_the_disk_of_a_vm_shows_its_own_paging_to_the_operator():
    sim = make(16384.0, Demand(hot_mib=1500.0, cold_mib=500.0))
    sim.apply(Targets(np.full((1, 2), 1500.0)))
    sim.advance(60)
    paging = sum(sim.vms[name] for name in ("swap_in_mib", "swap_out_mib", "file_in_mib", "file_out_mib"))
    assert paging.min() > 100.0
    np.testing.assert_allclose(sim.telemetry().vm["disk_mib"], paging)


def test_a_second_of_swap_traffic_counts_above_1_mib():
    sim = make(16384.0, Demand(hot_mib=100.0))
    host = sim.hosts[0, 0]
    for swapped_in, swapped_out in ((0.9, 0.0), (0.6, 0.6), (0.0, 2.0)):
        host["tick_swap_mib"] = swapped_in
        overcommit.count_swapping(host, sim.host_specs[0, 0], swapped_out)
    assert host["swapping_s"] == 2.0
    assert host["swap_out_mib"] == pytest.approx(2.6)


def test_the_largest_vm_is_the_victim_and_its_balloon_goes_with_it():
    sim = make(4200.0, Demand(hot_mib=1000.0, cold_mib=500.0), touched_share=0.0, swap_share=0.0)
    sim.apply(Targets(np.array([[3000.0, 4096.0]])))
    sim.advance(3)
    assert sim.vms["balloon_mib"][0, 0] > 1000.0
    sim.demand["tier_mib"][0, :, 1, 0] += 2300.0
    sim.advance(30)
    assert sim.vms["oom_kills"].tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(("progress", "violations"), [(0.92, 0.0), (0.90, 10.0)])
def test_a_critical_vm_misses_its_objective_where_slowdown_passes_it(progress, violations):
    sim = crowd(pcpus=4.0 * progress, cpu_share=1.0)
    sim.vm_specs["critical"][0, 0], sim.vm_specs["slo_slowdown"] = 1.0, 1.1  # 1 / 1.1 is 0.909
    sim.advance(10)
    assert sim.vms["slo_violation_s"].tolist() == [[violations, 0.0]]


def test_targets_are_held_within_minimum_and_size_and_missing_ones_change_nothing():
    sim = make(16384.0, Demand(hot_mib=100.0))
    sim.vm_specs["min_mib"] = 1000.0
    sim.apply(Targets(np.array([[500.0, 9999.0]])))
    assert sim.vms["asked_mib"].tolist() == [[1000.0, 4096.0]]
    sim.apply(Targets(np.array([[np.nan, 2000.0]])))
    assert sim.vms["asked_mib"].tolist() == [[1000.0, 2000.0]]
