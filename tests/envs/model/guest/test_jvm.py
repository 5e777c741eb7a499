"""The JVM guest: numbers that one can check by hand, and what must hold of any heap."""

import math

import numpy as np
import pytest

from hvgym.envs import java
from hvgym.envs.errors import InputError
from hvgym.envs.lab import jvm as lab_jvm
from hvgym.envs.model.guest import jvm
from hvgym.envs.scenario import group_files

NAMES = sorted(group_files("jvm"))
H2 = {
    "name": "h2", "description": "", "least_heap_mib": 681.0, "alloc_mb_per_s": 11608.0, "iteration_s": 2.0, "t0": 0.981,
    "a": 0.148, "b": 0.685, "measured_times": [], "first_iteration_times": 1.25, "interpreter_times": 15.3,
}  # fmt: skip
BENCH = {
    "heap_times": [0.9, 1.0, 2.0], "squeezed_heap_times": 4.0, "taken_shares": [0.0, 0.25, 0.9], "devices": ["nvme", "hdd"],
    "vcpus": 4.0, "pages_per_read": 1.6,
}  # fmt: skip


# The curve


def test_time_follows_the_curve_and_ends_in_an_error_below_the_smallest_heap():
    assert jvm.relative_time(2.0, 0.9, 0.3, 0.5) == pytest.approx(0.9 + 0.3 / 1.5)
    assert jvm.relative_time(1.0, 0.9, 0.3, 0.5) == pytest.approx(1.5)
    assert jvm.relative_time(0.999, 0.9, 0.3, 0.5) == math.inf
    assert jvm.gc_share(2.0, 0.9, 0.3, 0.5) == pytest.approx(0.2 / 1.1)
    assert jvm.gc_share(0.5, 0.9, 0.3, 0.5) == 1.0


def test_the_curve_is_the_physical_form_at_the_speed_that_it_implies():
    t0, a, b, least, alloc = 0.95, 0.3, 0.8, 100.0, 2000.0
    speed = alloc * b / a
    for heap in (100.0, 150.0, 400.0):
        load = jvm.collection_load(heap, b * least, alloc, speed)
        assert t0 + load == pytest.approx(jvm.relative_time(heap / least, t0, a, b))


def test_a_heap_full_of_live_data_only_collects():
    assert jvm.collection_load(100.0, 100.0, 50.0, 1000.0) == math.inf
    assert jvm.collection_load(200.0, 100.0, 50.0, 1000.0) == pytest.approx(0.05)


@pytest.mark.parametrize(("heap", "state"), [(99.9, 2), (100.0, 1), (104.9, 1), (105.0, 0), (1000.0, 0)])
def test_a_heap_is_fine_in_a_storm_or_out_of_memory(heap, state):
    assert jvm.heap_state(heap, 100.0) == state


# Collections, and swap under them


def test_a_heap_is_used_up_in_the_time_that_allocation_needs():
    assert jvm.cycle_s(500.0, 100.0, 200.0) == 2.0
    assert jvm.cycle_s(100.0, 200.0, 200.0) == 0.0
    assert jvm.cycle_s(500.0, 100.0, 0.0) == math.inf


def test_a_full_collection_reads_every_swapped_page_of_live_memory():
    assert jvm.full_pause_s(1024.0, 0.0, 512.0, 1e-3, 1.0, 1.0) == 2.0
    assert jvm.full_pause_s(1024.0, 0.25, 512.0, 1e-3, 1.0, 1.0) == pytest.approx(2.0 + 65.536)
    assert jvm.full_pause_s(1024.0, 0.25, 512.0, 1e-3, 8.0, 1.0) == pytest.approx(2.0 + 8.192)
    assert jvm.full_pause_s(1024.0, 0.25, 512.0, 1e-3, 8.0, 4.0) == pytest.approx(2.0 + 2.048)


def test_a_young_collection_copies_survivors_only():
    assert jvm.young_pause_s(200.0, jvm.SURVIVED_SHARE, 1000.0) == pytest.approx(0.01)


def test_missing_memory_is_read_once_a_cycle():
    assert jvm.paging_load(1.0, 2.0, 1e-3, 1.0, 1.0) == pytest.approx(0.128)
    assert jvm.paging_load(1.0, 2.0, 1e-3, 4.0, 2.0) == pytest.approx(0.016)
    assert jvm.paging_load(0.0, 0.0, 1e-3, 1.0, 1.0) == 0.0
    assert jvm.paging_load(1.0, 0.0, 1e-3, 1.0, 1.0) == math.inf


# Heaps that give memory back


def test_a_heap_aware_balloon_stops_before_the_storm():
    assert jvm.heap_balloon_mib(50.0, 400.0, 100.0) == 50.0
    assert jvm.heap_balloon_mib(350.0, 400.0, 100.0) == pytest.approx(295.0)
    assert jvm.heap_balloon_mib(50.0, 102.0, 100.0) == 0.0
    assert jvm.heap_balloon_mib(-5.0, 400.0, 100.0) == 0.0
    left = 400.0 - jvm.heap_balloon_mib(1e9, 400.0, 100.0)
    assert jvm.heap_state(left + 1e-9, 100.0) == jvm.FINE


def test_a_heap_aware_balloon_pays_in_collections():
    assert jvm.heap_aware_time(200.0, 400.0, 100.0, 0.9, 0.3, 0.5) == pytest.approx(1.1)


def test_hotspot_keeps_between_40_and_70_percent_free():
    assert jvm.resized_heap_mib(1000.0, 60.0, 0.0, 4000.0) == pytest.approx(200.0)
    assert jvm.resized_heap_mib(80.0, 60.0, 0.0, 4000.0) == pytest.approx(100.0)
    assert jvm.resized_heap_mib(150.0, 60.0, 0.0, 4000.0) == 150.0
    assert jvm.resized_heap_mib(1000.0, 60.0, 300.0, 4000.0) == 300.0
    assert jvm.resized_heap_mib(80.0, 60.0, 0.0, 90.0) == 90.0


@pytest.mark.parametrize(
    ("collector", "xms", "idle", "wait", "heap"),
    [
        (jvm.NEVER, 0.0, 1e6, 300.0, 1000.0),
        (jvm.G1_PERIODIC, 0.0, 1e6, 0.0, 1000.0),
        (jvm.G1_PERIODIC, 0.0, 59.0, 60.0, 1000.0),
        (jvm.G1_PERIODIC, 0.0, 60.0, 60.0, 200.0),
        (jvm.G1_PERIODIC, 300.0, 60.0, 60.0, 300.0),
        (jvm.ZGC, 0.0, 299.0, jvm.ZGC_UNCOMMIT_S, 1000.0),
        (jvm.ZGC, 0.0, 300.0, jvm.ZGC_UNCOMMIT_S, 60.0),
        (jvm.ZGC, 300.0, 300.0, jvm.ZGC_UNCOMMIT_S, 300.0),
    ],
)
def test_an_idle_heap_shrinks_as_its_collector_does(collector, xms, idle, wait, heap):
    assert jvm.idle_heap_mib(collector, 1000.0, 60.0, xms, idle, wait) == pytest.approx(heap)


def test_idling_never_makes_a_heap_grow():
    for collector in (jvm.NEVER, jvm.G1_PERIODIC, jvm.ZGC):
        assert jvm.idle_heap_mib(collector, 70.0, 60.0, 200.0, 1e3, 1.0) <= 70.0


def test_a_jvm_needs_more_than_its_heap():
    assert jvm.non_heap_mib(500.0, 50.0) == pytest.approx(100.0 + 100.0 + 50.0 + 50.0)


# Warm-up and restarts


def test_speed_rises_from_two_fifths_to_one():
    assert jvm.warm_speed(0.0) == pytest.approx(0.4)
    assert jvm.warm_speed(2.5) == pytest.approx(1.0 - 0.6 / math.e)
    assert jvm.warm_speed(60.0) == pytest.approx(1.0)


def test_work_is_the_sum_of_speed_and_age_its_inverse():
    fine = np.linspace(0.0, 6.0, 60_001)
    summed = np.trapezoid([jvm.warm_speed(age) for age in fine], fine)
    assert jvm.warm_work_s(6.0) == pytest.approx(summed, rel=1e-6)
    assert jvm.age_after_s(jvm.warm_work_s(6.0) - jvm.warm_work_s(1.0), 1.0) == pytest.approx(6.0)
    assert jvm.age_after_s(0.0, 3.0) == pytest.approx(3.0)


def test_a_restart_costs_its_downtime_and_the_warm_up():
    assert jvm.restart_loss_s(30.0) == pytest.approx(31.5)
    assert jvm.restart_loss_s(0.0) == pytest.approx(100.0 - jvm.warm_work_s(100.0))


def test_uncompiled_work_takes_longer():
    assert jvm.compiled_time(0.0, 0.0, 12.6) == 1.0
    assert jvm.compiled_time(0.25, 0.5, jvm.INTERPRETER_TIMES) == pytest.approx(0.25 * 12.6 + 0.5 * 1.54 + 0.25)


def test_progress_is_what_collection_paging_and_warm_up_leave():
    assert jvm.progress(2.0, 0.9, 0.3, 0.5, 0.0, 1e6) == pytest.approx(0.9 / 1.1)
    assert jvm.progress(2.0, 0.9, 0.3, 0.5, 0.7, 0.0) == pytest.approx(0.4 * 0.9 / 1.8)
    assert jvm.progress(0.5, 0.9, 0.3, 0.5, 0.0, 1e6) == 0.0


def test_no_split_of_memory_beats_membalancer():
    live, alloc, speed, room = (100.0, 900.0), (400.0, 100.0), 500.0, 1000.0

    def load(first):
        return sum(
            jvm.collection_load(mib + share, mib, rate, speed)
            for mib, rate, share in zip(live, alloc, (first, room - first), strict=True)
        )

    weights = [jvm.balanced_room(mib, rate, speed) for mib, rate in zip(live, alloc, strict=True)]
    best = room * weights[0] / sum(weights)
    assert best == pytest.approx(400.0)
    assert load(best) <= min(load(first) for first in np.linspace(1.0, 999.0, 999)) + 1e-12


# Packaged workloads


@pytest.mark.parametrize("name", NAMES)
def test_every_packaged_curve_falls_and_stays_near_its_measurement(name):
    workload = lab_jvm.packaged(name)
    times = [workload.curve.at(h) for h in (*java.MEASURED_AT, 10.0)]
    assert workload.name == name
    assert times == sorted(times, reverse=True)
    worst = 0.22 if name in ("xalan", "fop") else 0.07
    assert times == pytest.approx([*workload.measured_times, 1.0], rel=worst)
    assert 0.0 < workload.live_mib <= workload.least_heap_mib


def test_22_workloads_and_their_mean_are_packaged():
    assert len(NAMES) == 23
    assert lab_jvm.packaged("h2").alloc_mib_per_s == pytest.approx(11070.3, abs=0.1)
    assert lab_jvm.packaged("tradesoap").alloc_mib_per_s == pytest.approx(2400 / 1.048576)
    assert lab_jvm.packaged("kafka").live_mib == pytest.approx(191 / 2)


def test_a_fit_finds_the_curve_that_made_the_points():
    heaps = np.array([1.0, 1.2, 1.5, 2.0, 4.0, 10.0])
    curve = lab_jvm.fitted(heaps, np.array([java.Curve(0.95, 0.3, 0.8).at(h) for h in heaps]))
    assert [curve.at(h) for h in (1.1, 3.0)] == pytest.approx([0.95 + 1.0, 0.95 + 0.3 / 2.2], rel=2e-3)
    assert curve == pytest.approx((0.95, 0.3, 0.8), rel=0.02)


# The bench


def test_heaps_are_played_as_asked():
    rows = lab_jvm.heap_rows(java.Workload.from_dict(H2), lab_jvm.JavaBench.from_dict(BENCH))
    assert [row.heap_mib for row in rows] == pytest.approx([612.9, 681.0, 1362.0])
    assert [row.state for row in rows] == ["out of memory", "storm", "fine"]
    assert rows[0].time == math.inf
    assert rows[2].time == pytest.approx(0.981 + 0.148 / 1.315)
    assert rows[2].gc_share == pytest.approx(0.148 / 1.315 / rows[2].time)


def test_swap_costs_by_device_and_a_heap_aware_balloon_by_its_curve():
    rows = lab_jvm.taken_rows(java.Workload.from_dict(H2), lab_jvm.JavaBench.from_dict(BENCH))
    nvme, hdd, aware = (next(r for r in rows if r.taken_by == name and r.taken_share == 0.25)
                        for name in ("nvme", "hdd", lab_jvm.HEAP_AWARE))  # fmt: skip
    live, heap = 0.685 * 681.0, 4 * 681.0
    cycle = (heap - live) / (11608.0 / 1.048576 / 8.0)
    assert nvme.time - aware.time == pytest.approx(
        0.25 * heap * 256 * 100e-6 / 1.6 / 4 / cycle + 0.148 / (4 - 0.685) - 0.148 / (3 - 0.685)
    )
    assert nvme.full_pause_s - aware.full_pause_s == pytest.approx(0.25 * live * 256 * 100e-6 / 1.6 / 4)
    assert hdd.full_pause_s - aware.full_pause_s == pytest.approx(0.25 * live * 256 * 8e-3 / 1.6)
    assert aware.full_pause_s == pytest.approx(live / (4 * 0.8e9 / 2**20))
    assert aware.heap_mib == pytest.approx(3 * 681.0)
    assert rows[-1].taken_mib == pytest.approx((4 - 1.05) * 681.0)


def test_compressed_memory_is_not_read_ahead():
    bench = lab_jvm.JavaBench.from_dict(BENCH | {"devices": ["zram"], "pages_per_read": 8.0})
    assert bench.reading("zram") == pytest.approx((2.5e-6, 1.0, 4.0))
    assert bench.reading("hdd") == pytest.approx((8e-3, 8.0, 1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": 1.0}, "jvm.b=1.0: must be at least -1 and at most 0.9999"),
        ({"least_heap_mib": 0}, "jvm.least_heap_mib=0: must be above 0"),
        (
            {"measured_times": [1.0, 2.0]},
            "jvm.measured_times=[1.0, 2.0]: expected 7 values, at 1, 2, 3, 4, 5, 6, 8 times",
        ),
        ({"c": 1}, "jvm.c: unknown key"),
    ],
)
def test_a_bad_workload_names_its_key(change, message):
    with pytest.raises(InputError) as error:
        java.Workload.from_dict(H2 | change)
    assert str(error.value).startswith(message)


def test_an_unknown_workload_names_the_known():
    with pytest.raises(InputError, match=r"jvm='h3': unknown; known: avrora"):
        lab_jvm.packaged("h3")
