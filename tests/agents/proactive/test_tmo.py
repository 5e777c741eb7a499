"""TMO's law in figures by hand, and the kernel's stall averages against decay by hand and a second way to compute them."""

import math
import random

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.agents.proactive.tmo import StallAverage, Tmo, averaged, reclaim_mib
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""


@pytest.mark.parametrize(
    ("pressure", "expected_mib"),
    [(0.0, 5.0), (0.00025, 3.75), (0.0005, 2.5), (0.001, 0.0), (0.002, 0.0), (1.0, 0.0)],
)
def test_of_10000_mib_0_05_percent_goes_and_less_as_it_stalls(pressure: float, expected_mib: float) -> None:
    assert reclaim_mib(10_000.0, pressure, 0.0005, 0.001, 0.01) == pytest.approx(expected_mib, abs=1e-12)


def test_no_more_than_one_percent_goes_at_once() -> None:
    assert reclaim_mib(10_000.0, 0.0, 0.05, 0.001, 0.01) == 100.0
    assert reclaim_mib(10_000.0, 0.0005, 0.05, 0.001, 0.01) == 100.0
    assert reclaim_mib(10_000.0, 0.0009, 0.05, 0.001, 0.01) == pytest.approx(50.0)


def test_thousands_of_random_vms_lose_less_the_more_they_stall() -> None:
    draw = random.Random(1)
    for _ in range(5000):
        size, ratio, threshold = draw.uniform(1, 1e5), draw.uniform(1e-5, 0.1), draw.uniform(1e-4, 0.1)
        low, high = sorted((draw.uniform(0, 0.2), draw.uniform(0, 0.2)))
        most, least = (reclaim_mib(size, pressure, ratio, threshold, 0.01) for pressure in (low, high))
        assert 0.0 <= least <= most <= 0.01 * size
        assert (least > 0.0) == (high < threshold)


def test_the_kernels_step_rounds_up_while_it_rises_and_down_while_it_falls() -> None:
    assert averaged(0, 1677, 2048) == 371  # 1 % from nothing: 1 - 1677 / 2048 = 0.18 %
    assert averaged(0, 1981, 2048) == 67
    assert averaged(371, 1677, 0) == 303  # 303.8
    assert averaged(1, 1981, 0) == 0
    assert averaged(2048, 1677, 0) == 1677
    assert averaged(955, 1677, 0) == 781  # 781.9995
    assert averaged(0, 1677, 955) == 174  # 173 and 1 / 2048
    assert averaged(5, 1981, 5) == 5
    assert averaged(2047, 1981, 2048) == 2048


def test_less_than_one_percent_of_two_seconds_counts_as_none() -> None:
    begun = StallAverage(0.0, 0)
    assert (begun.load10, begun.load60) == (0, 0)
    assert begun.at(2.0, 19_999).load60 == 0
    assert begun.at(2.0, 20_000).load60 == 67
    assert begun.at(2.0, 39_999).load60 == 67
    assert begun.at(2.0, 40_000).load60 == 134  # 134.0 of 4096
    assert begun.at(2.0, 19_999).at(4.0, 39_998).load60 == 0  # what was cut off is not made up for


def test_averages_move_every_two_seconds() -> None:
    begun = StallAverage(10.0, 0)
    assert begun.at(11.0, 1_000_000) is begun
    moved = begun.at(12.0, 1_000_000)  # 50 % of two seconds
    assert (moved.load10, moved.load60) == (18_550, 3350)  # 50 * 371, 50 * 67
    assert (moved.avg10_percent, moved.avg60_percent) == (9.05, 1.63)  # 9.0576, 1.6357
    assert moved.at(13.9, 9_000_000) is moved


def test_read_every_five_seconds_stalls_are_spread_over_the_periods_that_passed() -> None:
    late = StallAverage(0.0, 0).at(5.0, 500_000)  # 10 % of five seconds, two periods
    once = averaged(0, 1981, 20_480)
    assert late.load60 == averaged(once, 1981, 20_480)
    assert (late.updated_s, late.total_us) == (5.0, 500_000)


def test_a_stall_without_end_is_one_hundred_percent() -> None:
    average = StallAverage(0.0, 0)
    for step in range(1, 400):
        average = average.at(2.0 * step, 3_000_000 * step)
    assert (average.avg10_percent, average.avg60_percent) == (100.0, 100.0)


def test_random_stalls_follow_the_exact_decay_within_what_rounding_explains() -> None:
    """Against decay in floating point. A step loses or wins up to a unit, forgotten at the pace of the average: in all
    1 / (1 - 1677 / 2048) and 1 / (1 - 1981 / 2048) units of 1 / 2048 per cent.
    """
    draw = random.Random(2)
    average, total_us, exact10, exact60 = StallAverage(0.0, 0), 0, 0.0, 0.0
    for step in range(1, 3000):
        stalled_us = draw.choice([0, 0, draw.randrange(200_000), draw.randrange(2_000_000)])
        total_us += stalled_us
        average = average.at(2.0 * step, total_us)
        sample = math.floor(stalled_us / 20_000)
        exact10 += (1677 / 2048 - 1) * (exact10 - sample)
        exact60 += (1981 / 2048 - 1) * (exact60 - sample)
        assert average.load10 / 2048 == pytest.approx(exact10, abs=1 / 371)
        assert average.load60 / 2048 == pytest.approx(exact60, abs=1 / 67)
    assert (round(2048 * math.exp(-2 / 10)), round(2048 * math.exp(-2 / 60))) == (1677, 1981)


def reading(time_s: float, vms: list[dict[str, float]]) -> Telemetry:
    """One host; a VM runs unless it says otherwise."""
    vm, host = np.zeros((1, len(vms)), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["running"] = 1.0
    for index, signals in enumerate(vms):
        for name, value in signals.items():
            vm[name][0, index] = value
    return Telemetry(np.array([time_s]), vm, host)


def asked(policy: Tmo, telemetry: Telemetry) -> list[float]:
    targets = policy.decide(telemetry.seen_with(policy.visibility))
    assert targets.memory_mib is None
    assert targets.reclaim_age_s is None
    assert targets.reclaim_mib is not None
    return targets.reclaim_mib[0].tolist()


def begun(vms: int = 1) -> Tmo:
    policy = Tmo()
    policy.reset(reading(0.0, [{}] * vms), 0)
    return policy


def test_pressure_is_what_a_vm_stalled_since_the_last_time() -> None:
    policy = begun(2)
    vm = {"resident_mib": 10_000.0, "host_psi_some_s": 7.0}
    assert np.isnan(asked(policy, reading(0, [vm, vm]))).all()
    assert asked(policy, reading(6, [vm, vm | {"host_psi_some_s": 7.003}])) == pytest.approx([5.0, 2.5])
    assert asked(policy, reading(12, [vm | {"host_psi_some_s": 7.1}, vm | {"host_psi_some_s": 7.003}])) == [0.0, 5.0]


def test_io_pressure_counts_where_it_is_higher() -> None:
    policy = begun(2)
    vm = {"resident_mib": 10_000.0}
    asked(policy, reading(0, [vm, vm]))
    io, both = {"host_io_psi_some10": 0.0005}, {"host_io_psi_some10": 0.0005, "host_psi_some_s": 0.0045}
    assert asked(policy, reading(6, [vm | io, vm | both])) == pytest.approx([2.5, 1.25])


@pytest.mark.parametrize("signal", ["resident_mib", "host_psi_some_s", "host_io_psi_some10"])
def test_a_vm_that_cannot_be_read_is_left_alone_and_its_stalls_are_counted_later(signal: str) -> None:
    policy = begun()
    vm = {"resident_mib": 10_000.0}
    asked(policy, reading(0, [vm]))
    assert np.isnan(asked(policy, reading(6, [vm | {signal: np.nan}]))).all()
    since = 12.0 if signal == "host_psi_some_s" else 6.0  # the last stall total that is known
    stalled = vm | {"host_psi_some_s": since * 0.0005}
    assert asked(policy, reading(12, [stalled])) == pytest.approx([2.5])


def test_a_vm_that_does_not_run_is_left_alone_and_forgotten() -> None:
    policy = begun()
    vm = {"resident_mib": 10_000.0}
    asked(policy, reading(0, [vm]))
    assert np.isnan(asked(policy, reading(6, [vm | {"running": 0.0}]))).all()
    assert np.isnan(asked(policy, reading(12, [vm]))).all()
    assert asked(policy, reading(18, [vm])) == [5.0]


def test_reset_forgets() -> None:
    policy = begun()
    asked(policy, reading(0, [{"resident_mib": 10_000.0}]))
    policy.reset(reading(0, [{}]), 0)
    assert np.isnan(asked(policy, reading(6, [{"resident_mib": 10_000.0}]))).all()


def test_a_lane_alone_decides_the_same_bits() -> None:
    draw = np.random.default_rng(0)
    together, alone = Tmo(), Tmo()
    vm, host = np.zeros((3, 4), VM_TELEMETRY), np.zeros((3, 1), HOST_TELEMETRY)
    vm["running"] = 1.0
    together.reset(Telemetry(np.zeros(3), vm, host), 0)
    alone.reset(Telemetry(np.zeros(1), vm[1:2], host[1:2]), 0)
    for t in range(0, 300, 6):
        vm["resident_mib"] = draw.uniform(500.0, 3000.0, (3, 4))
        vm["host_psi_some_s"] += draw.choice([0.0, 0.0, 0.002, 0.05], (3, 4))
        of_all = together.decide(Telemetry(np.full(3, t), vm, host)).reclaim_mib
        of_one = alone.decide(Telemetry(np.full(1, t), vm[1:2], host[1:2])).reclaim_mib
        assert of_all is not None
        np.testing.assert_array_equal(of_all[1:2], of_one)


def test_the_shipped_configuration_is_the_papers_and_acts_every_six_seconds() -> None:
    policy = make_policy(load_group("agent", "tmo"))
    assert isinstance(policy, Tmo)
    assert (policy.ratio, policy.threshold, policy.most_share) == (0.0005, 0.001, 0.01)
    assert vars(policy) | UNDECLARED == vars(Tmo()) | UNDECLARED
    assert (policy.period_s, policy.visibility) == (6.0, Visibility.P0)
