"""Miss-ratio curves, working sets and their balance against hand-computed answers and against every other division."""

import itertools

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.agents.working_sets.meb import (
    MemoryBalancer,
    TrackedVm,
    balance,
    fewest_misses,
    hull,
    miss_curve,
    working_set_mib,
)
from hvgym.bench.rollout import rollout
from hvgym.envs.scenario import load, load_group
from hvgym.envs.telemetry import AGES_S, HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

CURVE = ((400.0, 100.0), (600.0, 20.0), (800.0, 4.0), (1000.0, 0.0))
"""5 % of the trapped accesses, 5 MiB/s, are met 15/16 of the way from 600 to 800 MiB."""


def test_a_curve_by_hand():
    """Of 1000 MiB in use 600 are idle for the first age, 400 for the second; 2 MiB/s come back from swap for 30 s."""
    curve = miss_curve(1000.0, (600.0, 400.0), (100.0, 20.0), 2.0, 30.0)
    assert curve == ((400.0, 102.0), (600.0, 22.0), (1000.0, 2.0), (1060.0, 0.0))


def test_an_error_of_sizes_moves_the_measured_points_and_never_beyond_what_is_in_use():
    curve = miss_curve(1000.0, (600.0, 400.0, 50.0), (100.0, 20.0, 5.0), 0.0, 30.0, size_factor=1.1)
    assert [size for size, _ in curve] == pytest.approx([440.0, 660.0, 1000.0, 1000.0, 1000.0])


def test_more_idle_than_in_use_is_a_size_of_zero():
    assert miss_curve(100.0, (130.0,), (1.0,), 0.0, 30.0)[0] == (0.0, 1.0)


@pytest.mark.parametrize(
    ("curve", "cut_off", "expected"),
    [
        (CURVE, 0.05, 787.5),
        (CURVE, 0.20, 600.0),
        (CURVE, 0.60, 500.0),
        (CURVE, 0.01, 950.0),
        (CURVE, 0.0, 1000.0),
        (((300.0, 0.0), (900.0, 0.0)), 0.05, 300.0),
        (((300.0, 10.0), (900.0, 8.0)), 0.05, 900.0),
    ],
)
def test_a_working_set_by_hand(curve, cut_off, expected):
    assert working_set_mib(curve, cut_off) == pytest.approx(expected, abs=1e-9)


def test_a_hull_by_hand():
    points = [(0.0, 100.0), (10.0, 90.0), (20.0, 40.0), (30.0, 35.0), (40.0, 0.0), (50.0, 0.0), (40.0, 7.0)]
    assert hull(points) == [(0.0, 100.0), (20.0, 40.0), (40.0, 0.0)]


def test_a_hull_lies_below_all_points_and_is_convex():
    rng = np.random.default_rng(3)
    for _ in range(1000):
        points = list(zip(rng.integers(0, 20, 9) * 10.0, rng.integers(0, 30, 9) * 1.0, strict=True))
        corners = hull(points)
        sizes, misses = (np.array(column) for column in zip(*corners, strict=True))
        assert set(corners) <= set(points)
        assert misses[-1] == min(miss for _, miss in points)
        assert all(miss >= np.interp(size, sizes, misses) - 1e-9 for size, miss in points)
        slopes = np.diff(misses) / np.diff(sizes)
        assert (np.diff(slopes) > 0).all()
        assert (slopes < 0).all()


def test_what_does_not_fit_goes_where_it_saves_most():
    """Hot pages, missed every 5 s, go first; then 0.04 a second saved by the first VM, 0.02 by the second, 0.005."""
    first = TrackedVm(100.0, 2000.0, ((400.0, 10.0), (600.0, 2.0), (1000.0, 0.0)))
    second = TrackedVm(100.0, 2000.0, ((200.0, 6.0), (500.0, 0.0)))
    assert fewest_misses([first, second], 600.0) == [400.0, 200.0]
    assert fewest_misses([first, second], 700.0) == [500.0, 200.0]
    assert fewest_misses([first, second], 900.0) == [600.0, 300.0]
    assert fewest_misses([first, second], 1200.0) == [700.0, 500.0]
    assert fewest_misses([first, second], 9999.0) == [1000.0, 500.0]


def test_minimums_are_kept_and_so_are_configured_sizes():
    vm = TrackedVm(700.0, 800.0, CURVE)
    assert fewest_misses([vm, vm], 1000.0) == [700.0, 700.0]
    assert fewest_misses([vm, vm], 1450.0) == [750.0, 700.0]
    assert fewest_misses([vm, vm], 5000.0) == [800.0, 800.0]


def misses_at(vm: TrackedVm, size: float) -> float:
    """On the convex hull of the curve, whose hot part is missed once in the youngest age."""
    points = [(0.0, vm.curve[0][1] + vm.curve[0][0] / AGES_S[0]), *vm.curve]
    sizes, misses = zip(*hull(points), strict=True)
    return float(np.interp(size, sizes, misses))


def random_vm(rng: np.random.Generator) -> TrackedVm:
    sizes, misses = np.sort(rng.uniform(50, 1000, 5)), -np.sort(-rng.uniform(0, 100, 5))
    misses[-1] = 0.0
    low = rng.uniform(0, 300)
    return TrackedVm(low, low + rng.uniform(0, 1000), tuple(zip(sizes.tolist(), misses.tolist(), strict=True)))


def test_no_other_division_of_the_same_memory_misses_less():
    rng = np.random.default_rng(4)
    for _ in range(200):
        vms = [random_vm(rng) for _ in range(3)]
        capacity = sum(vm.min_mib for vm in vms) + rng.uniform(0, 1500)
        sizes = fewest_misses(vms, capacity)
        best = sum(map(misses_at, vms, sizes))
        assert sum(sizes) <= capacity + 1e-9
        assert all(vm.min_mib <= size <= vm.memory_mib + 1e-9 for vm, size in zip(vms, sizes, strict=True))
        grids = [np.linspace(vm.min_mib, vm.memory_mib, 9) for vm in vms]
        for other in itertools.product(*grids):
            if sum(other) <= capacity:
                assert sum(map(misses_at, vms, other)) >= best - 1e-9


def test_what_fits_is_shared_in_proportion_to_working_sets():
    small = TrackedVm(100.0, 9000.0, ((1000.0, 0.0),))
    large = TrackedVm(100.0, 9000.0, ((3000.0, 0.0),))
    assert balance([small, large], 8000.0, 0.05) == pytest.approx([2000.0, 6000.0])
    assert balance([small, large], 13_000.0, 0.05) == pytest.approx([4000.0, 9000.0])
    assert balance([small, large], 99_000.0, 0.05) == pytest.approx([9000.0, 9000.0])
    assert balance([small, large], 4000.0, 0.05) == pytest.approx([1000.0, 3000.0])


def test_a_working_set_is_at_least_the_minimum_and_at_most_the_configured_size():
    tiny, huge = TrackedVm(2000.0, 9000.0, ((10.0, 0.0),)), TrackedVm(0.0, 1000.0, ((3000.0, 0.0),))
    assert balance([tiny, huge], 3000.0, 0.05) == pytest.approx([2000.0, 1000.0])
    assert balance([tiny, huge], 4000.0, 0.05) == pytest.approx([3000.0, 1000.0])
    large = TrackedVm(0.0, 9000.0, ((3000.0, 0.0),))
    assert balance([tiny, large], 6000.0, 0.05) == pytest.approx([2400.0, 3600.0])


def test_a_vm_that_uses_nothing_has_a_working_set_of_a_mib():
    nothing, large = TrackedVm(0.0, 9000.0, ((0.0, 0.0),)), TrackedVm(0.0, 9000.0, ((2999.0, 0.0),))
    assert balance([nothing, large], 6000.0, 0.05) == pytest.approx([2.0, 5998.0])


def test_what_does_not_fit_by_the_cut_off_is_divided_by_misses():
    vms = [TrackedVm(100.0, 2000.0, CURVE), TrackedVm(100.0, 2000.0, CURVE)]
    assert balance(vms, 1575.0, 0.05) == pytest.approx([787.5, 787.5])
    assert balance(vms, 1574.0, 0.05) == fewest_misses(vms, 1574.0) == pytest.approx([800.0, 774.0])


def reading(time_s: float, swapped_in=(0.0, 0.0), running=(1.0, 1.0), age=0.0, total_mib=10_000.0) -> Telemetry:
    """Two lanes alike: of 2100 MiB and 1100 MiB resident (100 overhead each) half is idle at every age.

    The host uses 500 MiB for itself.
    """
    vm, host = np.zeros((2, 2), VM_TELEMETRY), np.zeros((2, 1), HOST_TELEMETRY)
    vm["min_mib"], vm["memory_mib"], vm["running"] = 200.0, 8000.0, running
    vm["overhead_mib"], vm["resident_mib"] = 100.0, np.array([2100.0, 1100.0]) * running
    for place, name in enumerate(AGES_S):
        vm[f"idle_{name}s_mib"] = [1000.0, 500.0]
        vm[f"woken_{name}s_mib_per_s"] = 100.0 if place == 0 else 1.0
    vm["guest_swap_in_mib"], vm["stats_age_s"] = swapped_in, age
    host["total_mib"] = total_mib
    host["available_mib"] = total_mib - 500.0 - vm["resident_mib"].sum(axis=1)[:, None]
    return Telemetry(np.full(2, time_s), vm, host)


def started(policy: MemoryBalancer, first: Telemetry) -> MemoryBalancer:
    policy.reset(first, seed=0)
    return policy


def test_sizes_of_a_host_by_hand():
    """Working sets 1000 and 500 MiB; 10,000 less 5 %, less 500 of the host's own, less 200 of overheads is 8800."""
    policy = started(MemoryBalancer(noise_share=0.0), reading(0.0))
    assert np.isnan(policy.decide(reading(0.0)).memory_mib).all()
    targets = policy.decide(reading(30.0))
    np.testing.assert_allclose(targets.memory_mib, [[8800 * 2 / 3, 8800 / 3]] * 2)


def test_memory_swapped_in_by_the_guest_counts_towards_its_working_set():
    """300 MiB in 30 s: misses are 110, 11, ... and 10 MiB/s at the present 1000 MiB, none at 1300; 5.5 are allowed."""
    policy = started(MemoryBalancer(noise_share=0.0), reading(0.0))
    sizes = policy.decide(reading(30.0, swapped_in=(0.0, 300.0))).memory_mib[0]
    assert sizes[0] / sizes[1] == pytest.approx(1000.0 / (1000.0 + 300.0 * 0.45))


@pytest.mark.parametrize("missing", ["guest_swap_in_mib", "stats_age_s", "idle_60s_mib", "woken_3840s_mib_per_s"])
def test_a_vm_of_which_something_is_not_known_keeps_its_size_and_what_it_uses(missing):
    policy = started(MemoryBalancer(noise_share=0.0), reading(0.0))
    now = reading(30.0)
    now.vm[missing][:, 1] = np.nan
    sizes = policy.decide(now).memory_mib[0]
    assert np.isnan(sizes[1])
    assert sizes[0] == pytest.approx(8800.0 - 1000.0)


def test_a_vm_that_does_not_run_takes_nothing():
    off = (1.0, 0.0)
    policy = started(MemoryBalancer(noise_share=0.0), reading(0.0, running=off))
    sizes = policy.decide(reading(30.0, running=off)).memory_mib[0]
    np.testing.assert_allclose(sizes, [8000.0, np.nan])
    sizes = policy.decide(reading(60.0, running=off, total_mib=5000.0)).memory_mib[0]
    np.testing.assert_allclose(sizes, [4750.0 - 500.0 - 100.0, np.nan])


def test_old_statistics_and_a_counter_that_went_back_are_not_a_rate():
    policy = started(MemoryBalancer(noise_share=0.0), reading(0.0))
    assert np.isnan(policy.decide(reading(30.0, age=30.0)).memory_mib).all()
    assert not np.isnan(policy.decide(reading(60.0, swapped_in=(9.0, 9.0))).memory_mib).any()
    assert np.isnan(policy.decide(reading(90.0, swapped_in=(9.0, 1.0))).memory_mib[:, 1]).all()
    assert not np.isnan(policy.decide(reading(120.0, swapped_in=(9.0, 1.0))).memory_mib).any()


def test_a_rate_is_measured_between_reports_not_between_decisions():
    """300 MiB between the reports of second 0 and second 20."""
    policy = started(MemoryBalancer(noise_share=0.0), reading(0.0))
    sizes = policy.decide(reading(30.0, swapped_in=(0.0, 300.0), age=10.0)).memory_mib[0]
    curve = miss_curve(1000.0, (500.0,) * 10, (100.0,) + (1.0,) * 9, 15.0, 30.0)
    assert sizes[0] / sizes[1] == pytest.approx(1000.0 / working_set_mib(curve, 0.05))


def test_reset_forgets_counters_and_begins_the_noise_anew():
    policy = started(MemoryBalancer(), reading(0.0))
    once = policy.decide(reading(30.0)).memory_mib
    again = policy.decide(reading(60.0)).memory_mib
    assert (once != again).all()
    policy.reset(reading(0.0), seed=0)
    assert np.isnan(policy.decide(reading(0.0)).memory_mib).all()
    started(policy, reading(0.0))
    np.testing.assert_array_equal(policy.decide(reading(30.0)).memory_mib, once)
    policy.reset(reading(0.0), seed=1)
    assert (policy.decide(reading(30.0)).memory_mib != once).all()


def test_noise_is_that_of_the_stated_accuracy():
    policy = started(MemoryBalancer(noise_share=0.05), reading(0.0))
    ratios = []
    for time_s in range(30, 30_000, 30):
        sizes = policy.decide(reading(float(time_s))).memory_mib[0]
        ratios.append(np.log(sizes[0] / sizes[1] / 2.0))
    assert np.std(ratios) == pytest.approx(0.05 * 2**0.5, rel=0.1)
    assert abs(np.mean(ratios)) < 0.01


def test_a_lane_decides_alone_as_it_does_in_a_batch_and_lanes_draw_apart():
    def of_lane(telemetry, lane):
        return Telemetry(telemetry.time_s[lane:][:1], telemetry.vm[lane:][:1], telemetry.host[lane:][:1])

    readings = [reading(0.0), reading(30.0), reading(60.0, swapped_in=(40.0, 90.0))]
    for one in readings:
        one.vm["resident_mib"][1] += 1.0
    together, alone = MemoryBalancer(), MemoryBalancer()
    together.reset(readings[0], seed=0)
    alone.reset(of_lane(readings[0], 1), seed=0)
    for one in readings:
        sizes = together.decide(one).memory_mib
        np.testing.assert_array_equal(sizes[1:], alone.decide(of_lane(one, 1)).memory_mib)
    ratio = sizes[:, 0] / sizes[:, 1]
    assert abs(ratio[1] / ratio[0] - 1.0) > 0.01


def test_the_packaged_policy_is_the_class_with_its_defaults():
    packaged, plain = make_policy(load_group("agent", "meb")), MemoryBalancer()
    arguments = {"period_s": 30.0, "cut_off": 0.05, "noise_share": 0.05, "keep_free_share": 0.05}
    assert vars(plain) == arguments
    assert {key: value for key, value in vars(packaged).items() if key != "declaration"} == arguments
    assert packaged.visibility == Visibility.P1


def test_it_takes_from_idle_giants_what_working_vms_need():
    seen = []
    rollout(
        load("idle-giants-short"), MemoryBalancer(), [7], lambda now, sim: seen.append(now.vm["size_mib"][0].copy())
    )
    assert (seen[-1][:2] < 0.6 * 16_384).all()
    assert seen[-1][2:].mean() > 0.7 * 4096
