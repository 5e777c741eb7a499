"""A JVM as the workload of a VM: its heap under load, balloons, idleness and errors, by hand.

The workload of most tests survives in 1,000 MiB, of which 800 are live; its time is T(h) = 0.9 + 0.2 / (h - 0.8). It has
3,000 MiB of heap and 550 beside it in a VM of 6,144 MiB and four vCPUs: 18 for the kernel, 82.5 of watermark, 5 of caches.
"""

import copy
import dataclasses
import math

import numpy as np
import pytest

from hvgym.envs import losses
from hvgym.envs.errors import InputError
from hvgym.envs.java import JvmGuest, Workload
from hvgym.envs.model.params import CACHE, COLD, HOT, WARM
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, load, load_group, resolve
from hvgym.envs.schema import build
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets, Visibility

PLAIN = Hypervisor("plain", 1, 256.0, 50.0, min_free_share=0.01, exit_us=0.0, nested_walks=False, inflate_mib_per_s=100.0,
                   deflate_mib_per_s=1e4, balloon_interference=0.0, stats_interval_s=1.0)  # fmt: skip
SIMPLE = Workload("simple", "", 1000.0, 1000.0 * 1.048576, 1.0, 0.9, 0.2, 0.8, (), 1.3, 10.0)
LIVE, XMX, BESIDE, LEAST = 800.0, 3000.0, 550.0, 1000.0
FIXED = 18.0 + 82.5 + 5.0
COLLECTS = 4 * 0.8e9 / 2**20
"""MiB of live data that four threads collect in a second."""

ONE_PAGE = 1 / 256


def taking(heap_mib):
    """T(h) of the simple workload with its 800 MiB of live data."""
    return 0.9 + 0.2 / (heap_mib / LEAST - 0.8)


def java(demand=None, hypervisor=PLAIN, ram_mib=65536.0, group=None, **changes):
    """One JVM on an ample host; `changes` are those of the JVM, `group` those of its VM."""
    guest = JvmGuest(**({"workload": SIMPLE, "xmx_mib": XMX} | changes))
    settings = {"memory_mib": 6144.0, "vcpus": 4.0, "guest_swap_mib": 6144.0, "growth_mib_per_s": 1e4, "restart_s": 5.0}
    vm = VmGroup("java", demand or Demand(hot_mib=0.0, cpu_share=0.5), **(settings | (group or {})), jvm=guest)
    sim = Simulator(
        Scenario("s", "", Host(ram_mib=ram_mib, pcpus=64.0), hypervisor, (vm,), episode_s=1000, slot_s=1000)
    )
    sim.reset([0])
    return sim


def ask(sim, memory_mib):
    sim.apply(Targets(np.array([[memory_mib]])))


def live_data(sim, mib):
    sim.demand["tier_mib"][..., HOT] = mib + BESIDE


def missing(sim):
    return float((sim.vms["allocated_mib"] - sim.vms["resident_mib"]).sum())


# ---- the heap and what lies in it


def test_a_jvm_in_its_whole_heap_is_the_unit_of_progress():
    sim = java()
    sim.advance(20)
    vm = sim.vms[0, 0]
    assert vm["progress_s"] == 20.0
    assert vm["heap_mib"] == XMX
    assert vm["allocated_mib"].tolist() == [LIVE + BESIDE, XMX - LIVE, 0.0, 0.0]
    assert vm["gc_share"] == pytest.approx(1.0 - 0.9 / taking(XMX))
    assert vm["gc_s"] == pytest.approx(20.0 * (1.0 - 0.9 / taking(XMX)))
    assert vm["full_pause_s"] == pytest.approx(LIVE / COLLECTS)


def test_collections_are_counted_for_the_time_that_it_runs():
    """A paced service that idles half the time, and one that a link holds back to a half, collect half as long."""
    share = 1.0 - 0.9 / taking(XMX)
    paced, held_back = java(group={"slack": 0.5}), java(Demand(hot_mib=0.0, cpu_share=0.5, net_mib_per_s=2 * 1192.0))
    for sim in (paced, held_back):
        sim.advance(10)
        assert sim.vms["gc_s"][0, 0] == pytest.approx(10.0 * 0.5 * share)


def test_allocation_goes_through_its_room_once_a_cycle_and_writes_every_page():
    """1,000 MiB/s of 32 threads are 125 of four; 2,200 MiB of room are used up in 17.6 s."""
    spec = java().vm_specs[0, 0]
    assert 1.0 / spec["tier_rate_per_s"][WARM] == pytest.approx(2200.0 / 125.0)
    assert spec["tier_touched_share"][WARM] == pytest.approx(1.0 - math.exp(-125.0 / 2200.0))
    assert spec["tier_write_share"][WARM] == 1.0
    assert 1.0 / java(alloc_mib_per_s=1100.0).vm_specs["tier_rate_per_s"][0, 0, WARM] == pytest.approx(2.0)


@pytest.mark.parametrize("heap_aware", [False, True])
def test_live_data_and_room_make_up_the_heap_whatever_the_load(heap_aware):
    sim = java(heap_aware=heap_aware)
    rng = np.random.default_rng(3)
    for turn in range(60):
        live_data(sim, rng.uniform(100.0, 2300.0))
        if turn % 7 == 0:
            ask(sim, rng.uniform(3500.0, 6144.0))
        sim.advance(1)
        allocated = sim.vms["allocated_mib"][0, 0]
        assert allocated[HOT] - BESIDE + allocated[WARM] == pytest.approx(sim.vms["heap_mib"][0, 0], abs=1e-6)
        assert sim.vms["heap_mib"][0, 0] + sim.vms["heap_ballooned_mib"][0, 0] == pytest.approx(XMX)


@pytest.mark.parametrize("cold_mib", [0.0, 500.0])
def test_what_live_data_leave_is_room_in_the_heap_and_nothing_else(cold_mib):
    """Phases move memory within the heap: what lies beside it stays as it is, and the VM as large."""
    demand = Demand(hot_mib=0.0, cold_mib=cold_mib, cpu_share=0.5, phase_s=30.0, phase_swing=0.5)
    sim = Simulator(dataclasses.replace(java(demand).scenario, slot_s=20))
    sim.reset([1])
    live, sizes = [], []
    for _ in range(25):
        sim.advance(40)
        allocated = sim.vms["allocated_mib"][0, 0]
        live.append(float(allocated[HOT]) - BESIDE)
        sizes.append(float(allocated.sum()))
    assert min(live) < LIVE - 100.0 < LIVE + 100.0 < max(live)
    np.testing.assert_allclose(sizes, XMX + BESIDE + cold_mib, atol=1.0)


# ---- a balloon in the heap


def test_a_heap_aware_balloon_takes_from_the_heap_and_no_page_is_missing():
    """3,000 MiB for the VM: 105.5 and 550 are not the heap's, so it keeps 2,344.5."""
    sim = java(heap_aware=True)
    ask(sim, 3000.0)
    for _ in range(60):
        before = float(sim.vms["heap_mib"][0, 0])
        sim.advance(1)
        assert before - sim.vms["heap_mib"][0, 0] <= 100.0 + 1e-9  # as fast as its driver
        assert missing(sim) < ONE_PAGE
    vm = sim.vms[0, 0]
    assert vm["heap_mib"] == pytest.approx(3000.0 - FIXED - BESIDE)
    assert vm["heap_ballooned_mib"] == pytest.approx(XMX - 2344.5)
    assert 6144.0 - vm["balloon_mib"] == pytest.approx(3000.0)
    assert max(vm["swap_in_mib"], vm["swap_out_mib"], vm["major_faults"] / 256) < ONE_PAGE
    assert vm["progress"] == pytest.approx(taking(XMX) / taking(2344.5))


def test_page_cache_and_cold_memory_count_as_taken():
    sim = java(Demand(hot_mib=0.0, cold_mib=200.0, cache_mib=300.0, cpu_share=0.5), heap_aware=True)
    ask(sim, 3500.0)
    sim.advance(60)
    cache = 5.0 * 300.0 / (XMX + BESIDE + 500.0)  # a small part of the kernel's caches gives way to page cache
    assert sim.vms["heap_mib"][0, 0] == pytest.approx(3500.0 - FIXED - BESIDE - 500.0, abs=2 * cache)
    assert missing(sim) < ONE_PAGE


def test_the_heap_shrinks_to_1_05_of_the_smallest_and_no_further():
    least = 1.05 * LEAST
    enough = FIXED + BESIDE + least
    sim = java(heap_aware=True)
    ask(sim, enough + 0.01)
    sim.advance(60)
    assert sim.vms["heap_mib"][0, 0] == pytest.approx(least + 0.01)
    assert missing(sim) < ONE_PAGE
    ask(sim, enough - 300.0)
    sim.advance(120)
    assert sim.vms["heap_mib"][0, 0] == pytest.approx(least)
    assert sim.vms["heap_errors"][0, 0] == 0.0
    assert missing(sim) > 250.0  # from here on the guest pages as any other
    assert 6144.0 - sim.vms["balloon_mib"][0, 0] == pytest.approx(enough - 300.0)


def test_room_for_the_balloon_is_made_by_collections():
    """100 of 2,200 MiB of room: a twenty-second of a collection of 800 MiB, and T(2.9) from then on."""
    sim = java(heap_aware=True)
    ask(sim, 3000.0)
    sim.advance(1)
    slower = taking(2900.0) / taking(3000.0)
    assert sim.vms["progress"][0, 0] == pytest.approx(1.0 / (slower + 100.0 / 2200.0 * LIVE / COLLECTS))
    sim.advance(1)
    slower = taking(2800.0) / taking(3000.0)
    assert sim.vms["progress"][0, 0] == pytest.approx(1.0 / (slower + 100.0 / 2100.0 * LIVE / COLLECTS))


def test_collections_for_a_balloon_are_not_taken_for_host_swap():
    """Nothing is swapped on an ample host, so its pressure is none, and no time is lost to its paging."""
    sim = java(heap_aware=True)
    ask(sim, 3000.0)
    for _ in range(5):
        sim.advance(1)
        assert sim.vms["progress"][0, 0] < 1.0
        assert sim.telemetry().vm["host_psi_some10"][0, 0] == 0.0
        assert losses.shares(sim)["host_paging"][0] == 0.0


@pytest.mark.parametrize("heap_mib", [1050.0, 1200.0, 1500.0, 2000.0, 2800.0, 3000.0])
def test_work_in_a_smaller_heap_takes_the_time_of_its_curve(heap_mib):
    sim = java(heap_aware=True)
    ask(sim, heap_mib + FIXED + BESIDE)
    sim.advance(60)
    vm = sim.vms[0, 0]
    assert vm["heap_mib"] == pytest.approx(heap_mib)
    assert vm["heap_time"] == pytest.approx(taking(heap_mib) / taking(XMX))
    assert vm["progress"] == pytest.approx(taking(XMX) / taking(heap_mib))
    assert vm["gc_share"] == pytest.approx(1.0 - 0.9 / taking(heap_mib))
    assert vm["cpu_want"] == pytest.approx(0.5 * 4.0 * taking(heap_mib) / taking(XMX))


def test_the_balloon_gives_way_to_live_data_at_once():
    """At 1,600 MiB of live data the smallest heap is 2,000 MiB, and 2,100 is where storms begin."""
    sim = java(heap_aware=True)
    ask(sim, 1800.0)
    sim.advance(60)
    assert sim.vms["heap_mib"][0, 0] == pytest.approx(1800.0 - FIXED - BESIDE)
    live_data(sim, 1600.0)
    sim.advance(1)
    assert sim.vms["heap_mib"][0, 0] == pytest.approx(2100.0)
    sim.advance(60)
    assert sim.vms["heap_errors"][0, 0] == 0.0
    live_data(sim, LIVE)
    sim.advance(60)
    assert sim.vms["heap_mib"][0, 0] == pytest.approx(1800.0 - FIXED - BESIDE)


def test_a_heap_aware_balloon_gives_back_what_is_asked_no_longer():
    sim = java(heap_aware=True)
    ask(sim, 2500.0)
    sim.advance(60)
    ask(sim, 6144.0)
    sim.advance(60)
    vm = sim.vms[0, 0]
    assert (vm["heap_mib"], vm["heap_ballooned_mib"]) == (XMX, 0.0)
    assert vm["progress"] == pytest.approx(1.0)
    assert vm["allocated_mib"][WARM] == pytest.approx(XMX - LIVE)


def test_it_takes_no_more_than_the_balloon_may_hold():
    """Half of 6,144 MiB stays with the VM, so the heap keeps 2,416.5."""
    sim = java(hypervisor=dataclasses.replace(PLAIN, balloon_cap_share=0.5), heap_aware=True)
    ask(sim, 1500.0)
    sim.advance(60)
    assert sim.vms["heap_mib"][0, 0] == pytest.approx(3072.0 - FIXED - BESIDE)
    assert missing(sim) < ONE_PAGE


def test_without_a_balloon_driver_there_is_nothing_in_the_heap():
    sim = java(heap_aware=True, group={"balloon": False})
    ask(sim, 3000.0)
    sim.advance(30)
    assert (sim.vms["heap_mib"][0, 0], sim.vms["balloon_mib"][0, 0]) == (XMX, 0.0)


def test_under_an_ordinary_balloon_the_heap_stays_and_is_paged():
    """The same memory taken, and many times as slow: what the guest swaps of a heap it reads again each cycle."""
    ordinary, aware = java(), java(heap_aware=True)
    for sim in (ordinary, aware):
        ask(sim, 3000.0)
        sim.advance(120)
    assert (ordinary.vms["heap_mib"][0, 0], ordinary.vms["heap_ballooned_mib"][0, 0]) == (XMX, 0.0)
    assert missing(ordinary) == pytest.approx(XMX - 2344.5, abs=5.0)
    assert ordinary.vms["swap_in_mib"][0, 0] > 500.0
    assert ordinary.vms["progress"][0, 0] < aware.vms["progress"][0, 0] - 0.05


def test_pages_that_are_out_lengthen_a_full_collection():
    """Each is read alone, two at a time: live pages of the hot tier by their share of it, and all of the room."""
    sim = java()
    ask(sim, 2500.0)
    sim.advance(120)
    vm = sim.vms[0, 0]
    out = vm["allocated_mib"] - vm["resident_mib"]
    pages = 256.0 * (LIVE / (LIVE + BESIDE) * out[HOT] + out[WARM])
    assert out[HOT] > 1.0
    assert vm["full_pause_s"] == pytest.approx(LIVE / COLLECTS + pages * vm["disk_latency_s"] / 2.0, rel=1e-6)


def test_of_the_two_packaged_services_the_heap_aware_one_loses_less():
    sim = Simulator(load("java-heaps"))
    sim.reset([5])
    sizes = np.full(sim.vms.shape, np.nan)
    sizes[0, :2] = 3600.0
    sim.apply(Targets(sizes))
    sim.advance(600)
    assert sim.vms["heap_ballooned_mib"][0, 0] == 0.0
    assert sim.vms["heap_ballooned_mib"][0, 1] > 1000.0
    assert sim.vms["progress_s"][0, 1] > sim.vms["progress_s"][0, 0] + 30.0


# ---- errors, restarts, warming up


def test_live_data_beyond_the_heap_end_in_an_error_and_a_restart():
    """2,400 of live data need all of 3,000 MiB; a little more, and the process dies, 5 s before it comes back."""
    sim = java()
    live_data(sim, 2400.0)
    sim.advance(5)
    assert sim.vms["heap_errors"][0, 0] == 0.0
    live_data(sim, 2401.0)
    sim.advance(1)
    vm = sim.vms[0, 0]
    assert (vm["heap_errors"], vm["oom_kills"], vm["progress"], vm["process_s"]) == (1.0, 0.0, 0.0, 0.0)
    assert vm["allocated_mib"].sum() == 0.0
    live_data(sim, LIVE)
    before = float(vm["progress_s"])
    sim.advance(5)
    assert sim.vms["progress_s"][0, 0] - before <= 0.011
    for age in range(1, 20):
        sim.advance(1)
        vm = sim.vms[0, 0]
        assert vm["process_s"] == age
        assert vm["heap_time"] == pytest.approx(1.0 / (1.0 - 0.6 * math.exp(-age / 2.5)))
        assert vm["progress"] <= 1.0 - 0.6 * math.exp(-age / 2.5) + 1e-9
    sim.advance(40)
    assert sim.vms["progress"][0, 0] == pytest.approx(1.0, abs=1e-6)
    assert sim.vms["heap_errors"][0, 0] == 1.0
    assert sim.vms["allocated_mib"][0, 0, WARM] == pytest.approx(XMX - LIVE)


def test_a_new_process_has_no_balloon_in_its_heap_yet():
    sim = java(heap_aware=True)
    ask(sim, 3000.0)
    sim.advance(30)
    assert sim.vms["heap_ballooned_mib"][0, 0] > 100.0
    live_data(sim, 2500.0)
    sim.advance(1)
    assert (sim.vms["heap_errors"][0, 0], sim.vms["heap_ballooned_mib"][0, 0]) == (1.0, 0.0)


def test_an_error_comes_back_after_each_restart_while_its_cause_lasts():
    sim = java()
    live_data(sim, 2500.0)
    sim.advance(30)
    assert sim.vms["heap_errors"][0, 0] == 5.0  # one second of it, and five until it runs again
    assert sim.vms["progress_s"][0, 0] < 0.2


def test_warming_up_loses_the_work_that_its_curve_says():
    """0.6 x 2.5 s, less what whole seconds leave out: the sum of 0.6 exp(-t / 2.5) over t = 1, 2, ..."""
    sim = java()
    sim.vms["process_s"] = 0.0
    sim.advance(60)
    lost = 0.6 * math.exp(-0.4) / (1.0 - math.exp(-0.4))
    assert sim.vms["progress_s"][0, 0] == pytest.approx(60.0 - lost, rel=1e-6)


def test_a_killed_jvm_warms_up_too():
    """2,000 MiB more beside the heap, of which the guest has 500: its kernel kills, and the JVM starts anew."""
    sim = java(group={"guest_swap_mib": 0.0, "restart_s": 3.0})
    ask(sim, XMX + BESIDE + FIXED + 500.0)
    sim.advance(60)
    sim.demand["tier_mib"][..., COLD] = 2000.0
    while sim.vms["oom_kills"][0, 0] == 0.0 and sim.clock_s[0] < 200:
        sim.advance(1)
    assert (sim.vms["oom_kills"][0, 0], sim.vms["heap_errors"][0, 0]) == (1.0, 0.0)
    assert sim.vms["process_s"][0, 0] == 0.0
    sim.advance(3 + 1)
    assert sim.vms["heap_time"][0, 0] == pytest.approx(1.0 / (1.0 - 0.6 * math.exp(-0.4)))


def test_a_process_that_runs_at_the_start_is_warm_and_one_that_arrives_is_not():
    assert java().vms["process_s"][0, 0] >= 1000.0
    sim = java(group={"arrive_s": 3.0, "restart_s": 5.0})
    sim.advance(10)
    assert 0.0 < sim.vms["process_s"][0, 0] < 10.0


# ---- idle heaps


def idle(sim, cpu_share=0.01):
    sim.demand["cpu_share"] = cpu_share


IDLE_HEAPS = [
    ("never", 0.0, XMX),
    ("g1_periodic", 0.0, LIVE / 0.3),  # at most 70 % of it free
    ("g1_periodic", 2900.0, 2900.0),
    ("zgc", 1500.0, 1500.0),
]


@pytest.mark.parametrize(("uncommit", "xms_mib", "heap_mib"), IDLE_HEAPS)
def test_an_idle_heap_is_uncommitted_after_its_delay_and_grows_back_when_busy(uncommit, xms_mib, heap_mib):
    sim = java(uncommit=uncommit, xms_mib=xms_mib, idle_s=10.0)
    idle(sim)
    sim.advance(9)
    assert sim.vms["heap_mib"][0, 0] == XMX
    sim.advance(1)
    vm = sim.vms[0, 0]
    assert vm["heap_mib"] == pytest.approx(heap_mib)
    assert vm["allocated_mib"][WARM] == pytest.approx(heap_mib - LIVE)
    assert vm["progress"] == pytest.approx(taking(XMX) / taking(heap_mib))
    idle(sim, 0.5)
    sim.advance(1)
    assert sim.vms["heap_mib"][0, 0] == XMX
    sim.advance(5)
    assert sim.vms["allocated_mib"][0, 0, WARM] == pytest.approx(XMX - LIVE)
    idle(sim)
    sim.advance(9)
    assert sim.vms["heap_mib"][0, 0] == XMX  # the delay begins anew


@pytest.mark.parametrize("live", [LIVE, 300.0, 2000.0])
def test_what_zgc_uncommits_when_idle_leaves_an_application_that_still_runs(live):
    """It keeps the live data and what it needs to work; time and progress stay numbers."""
    sim = java(uncommit="zgc", idle_s=10.0)
    idle(sim)
    live_data(sim, live)
    sim.advance(30)
    vm = sim.vms[0, 0]
    assert live <= vm["heap_mib"] < XMX
    for name in ("heap_time", "busy_share", "cpu_want", "gc_share", "gc_s", "full_pause_s", "progress_s"):
        assert np.isfinite(vm[name]), name
    assert vm["progress"] > 0.5


def test_an_application_that_asks_for_nothing_at_all_is_idle_too():
    sim = java(uncommit="zgc", idle_s=10.0)
    idle(sim, 0.0)
    sim.advance(30)
    assert np.isfinite([sim.vms[name][0, 0] for name in ("cpu_want", "gc_s", "progress_s", "cpu_s", "ready_s")]).all()
    assert np.isfinite(sim.hosts["cpu_utilisation"]).all()


def test_a_twentieth_of_its_vcpus_is_busy():
    sim = java(uncommit="g1_periodic", idle_s=10.0)
    idle(sim, 0.05)
    sim.advance(30)
    assert sim.vms["heap_mib"][0, 0] == XMX
    assert sim.vms["idle_s"][0, 0] == 0.0


def test_an_idle_heap_gives_its_memory_to_the_host():
    reporting = dataclasses.replace(PLAIN, free_page_reporting=True)
    used = {}
    for uncommit in ("never", "g1_periodic"):
        sim = java(hypervisor=reporting, uncommit=uncommit, idle_s=10.0)
        idle(sim)
        sim.advance(60)
        used[uncommit] = float(sim.telemetry().vm["resident_mib"][0, 0])
    assert used["never"] - used["g1_periodic"] == pytest.approx(XMX - LIVE / 0.3, abs=1.0)


def test_a_balloon_takes_from_what_the_idle_collector_has_left():
    sim = java(heap_aware=True, uncommit="g1_periodic", idle_s=10.0)
    idle(sim)
    ask(sim, 2500.0)
    sim.advance(60)
    vm = sim.vms[0, 0]
    assert vm["heap_mib"] == pytest.approx(2500.0 - FIXED - BESIDE)
    assert vm["heap_mib"] + vm["heap_ballooned_mib"] == pytest.approx(LIVE / 0.3)
    assert missing(sim) < ONE_PAGE


# ---- where time is lost


def test_losses_know_collections_from_paging():
    ordinary, aware = java(), java(heap_aware=True)
    for sim in (ordinary, aware):
        ask(sim, 1900.0)
        sim.advance(120)
        lost = losses.shares(sim)
        total = sum(float(part[0]) for part in lost.values()) + float(sim.vms["progress"][0, 0])
        assert total == pytest.approx(1.0, abs=1e-9)
        assert set(lost) == set(losses.SAMPLED)
    heap = 1900.0 - FIXED - BESIDE
    assert losses.shares(aware)["collections"][0] == pytest.approx(1.0 - taking(XMX) / taking(heap), rel=1e-6)
    assert losses.shares(aware)["guest_paging"][0] == 0.0
    assert losses.shares(ordinary)["guest_paging"][0] > 0.05
    assert losses.shares(ordinary)["collections"][0] == 0.0


# ---- what is seen of it


def test_heaps_are_seen_by_an_agent_in_the_guest_only_and_native_vms_have_none():
    scenario = load("java-heaps")
    sim = Simulator(scenario)
    sim.reset([0])
    sizes = np.full(sim.vms.shape, np.nan)
    sizes[0, 1] = 3600.0
    sim.apply(Targets(sizes))
    sim.advance(30)
    telemetry, java_vms = sim.telemetry(), np.array([True, True, False, False, False, False])
    for name in ("heap_mib", "heap_ballooned_mib", "gc_share"):
        assert (np.isfinite(telemetry.vm[name][0]) == java_vms).all()
        for profile in Visibility:
            seen = np.isfinite(telemetry.seen_with(profile).vm[name][0])
            assert (seen == (java_vms & (profile == Visibility.P4))).all()
    assert telemetry.vm["heap_mib"][0, 0] == 4096.0
    assert telemetry.vm["heap_mib"][0, 1] == pytest.approx(4096.0 - telemetry.vm["heap_ballooned_mib"][0, 1])
    assert 0.0 < telemetry.vm["gc_share"][0, 0] < telemetry.vm["gc_share"][0, 1] < 1.0


def test_bytecode_can_be_started_on_any_processor_and_every_policy_sees_it():
    sim = Simulator(load("java-heaps"))
    sim.reset([0])
    for profile in Visibility:
        assert sim.telemetry().seen_with(profile).vm["bytecode"].tolist() == [[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]
    assert {group.name: group.architecture for group in load("java-heaps").vms} == {
        "java": "any, as bytecode", "java-aware": "any, as bytecode", "giant": "that of its host", "worker": "that of its host",
    }  # fmt: skip


# ---- mistakes


def broken(**changes):
    data = copy.deepcopy(load_group("scenario", "java-heaps"))
    data["vms"][1]["jvm"] |= changes
    return data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xmx_mib": 1000}, r"scenario.vms\[1\].jvm: xmx_mib=1000: h2 needs 1075; below"),
        ({"xmx_mib": 700, "least_heap_mib": None}, r"scenario.vms\[1\].jvm: xmx_mib=700: h2 needs 715; below"),
        ({"xms_mib": 5000}, r"scenario.vms\[1\].jvm: xms_mib=5000: must be at most xmx_mib=4096"),
        ({"xmx_mib": 6000}, r"scenario.vms\[1\]: jvm.xmx_mib=6000: with 850 MiB .* does not fit into memory_mib=6144"),
        ({"threads": 2000}, r"scenario.vms\[1\]: jvm.xmx_mib=4096: with 2610 MiB .* does not fit into memory_mib=6144"),
        (
            {"uncommit": "zgcc"},
            r"scenario.vms\[1\].jvm.uncommit='zgcc': choose one of never, g1_periodic, zgc.*mean 'zgc'",
        ),
        ({"idle_s": 0}, r"scenario.vms\[1\].jvm.idle_s=0: must be above 0"),
        ({"heap_aware": 1}, r"scenario.vms\[1\].jvm.heap_aware=1: expected true or false"),
        ({"heap_awre": True}, r"scenario.vms\[1\].jvm.heap_awre: unknown key .did you mean 'heap_aware'"),
        ({"workload": "lusarch"}, r"jvm='lusarch': unknown .did you mean 'lusearch'"),
        ({"xmx_mib": "4g"}, r"scenario.vms\[1\].jvm.xmx_mib='4g': expected a number"),
    ],
)
def test_a_mistake_is_named_in_one_line(changes, message):
    with pytest.raises(InputError, match=message) as error:
        resolve(broken(**changes))
    assert "\n" not in str(error.value)


def test_the_smallest_heap_that_is_allowed_runs():
    sim = java(xmx_mib=1050.0)
    sim.advance(5)
    assert sim.vms["progress"][0, 0] == 1.0
    assert sim.vms["heap_mib"][0, 0] == 1050.0


def test_a_workload_without_figures_of_its_own_is_that_of_its_file():
    h2 = build(Workload, load_group("jvm", "h2"), "jvm")
    guest = JvmGuest(h2, 4096.0)
    assert guest.least_mib == 681.0
    assert guest.allocation_mib_per_s(4.0) == pytest.approx(11608e6 / 2**20 / 8.0)
    assert guest.non_heap_mib == pytest.approx(100 + 100 + 50 + 409.6)
    sim = java(workload=h2, xmx_mib=4096.0)
    assert sim.vms["allocated_mib"][0, 0].tolist() == pytest.approx([681 * 0.685 + 659.6, 4096 - 681 * 0.685, 0, 0])
    assert {HOT, WARM, COLD, CACHE} == {0, 1, 2, 3}
