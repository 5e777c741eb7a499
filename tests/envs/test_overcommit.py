"""Host memory: the blind swap of last resort and what a balloon spares."""

import numpy as np
import pytest

from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

PLAIN = Hypervisor("plain", 1, 256.0, 50.0, 0.01)
TAUS = (10.0, 100.0, 1e6, 600.0)


def make(ram_mib, demand, taus=TAUS, touched_share=0.95, swap_share=4.0, **host):
    group = VmGroup(name="vm", memory_mib=4096.0, demand=demand, count=2, guest_swap_mib=4096.0, tier_tau_s=taus)
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


def test_a_balloon_drops_freed_pages_without_reading_them():
    sim = make(5000.0, Demand(hot_mib=500.0))
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
