"""Katalyst's two policies in figures by hand, with the amount that it forgets, and on VMs made up for it."""

import random

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.agents.proactive.katalyst import Katalyst, Law, Stats, by_pressure, by_refaults, inactive_mib
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""

LAW = Law()


@pytest.mark.parametrize(
    ("avg60_percent", "expected_mib"), [(0.0, 100.0), (0.02, 80.0), (0.09, 10.0), (0.1, 0.0), (0.5, 0.0)]
)
def test_by_pressure_of_10000_mib_one_percent_goes_and_less_as_it_stalls(avg60_percent, expected_mib) -> None:
    assert by_pressure(Stats(10_000.0, avg60_percent=avg60_percent), LAW) == pytest.approx(expected_mib, abs=1e-9)


def stats(scanned: int, stolen: int, refaulted: int, inactive: float = 500.0) -> Stats:
    return Stats(10_000.0, inactive, 0.0, scanned, stolen, refaulted)


@pytest.mark.parametrize(
    ("now", "last_mib", "expected_mib"),
    [
        (stats(100, 50, 10), 0.0, 50.0),  # nothing happened since: a tenth of the inactive
        (stats(100, 50, 10), 40.0, 50.0),
        (stats(100, 50, 10), 60.0, 63.0),  # 5 % more than the last
        (stats(100, 50, 10), 99.0, 100.0),  # but 1 % of all
        (stats(100, 50, 10, inactive=2000.0), 0.0, 100.0),
        (stats(10_100, 10_050, 110), 60.0, 63.0),  # accuracy 0.9900001
        (stats(10_100, 10_050, 111), 60.0, 59.394006),  # 1 - 101 / 10,000.1
        (stats(10_100, 5050, 2510), 60.0, 30.0006),  # 1 - 2500 / 5000.1
        (stats(10_100, 5050, 9010), 60.0, 0.0),
        (stats(100, 50, 11), 60.0, 0.0),  # one page back, none taken: 1 - 1 / 0.1
        (stats(10_100, 6050, 10), 60.0, 63.0),  # efficiency 0.600004
        (stats(10_100, 6049, 10), 60.0, 60.0),  # 0.599904: the last, by an accuracy of 1
    ],
)
def test_by_refaults(now: Stats, last_mib: float, expected_mib: float) -> None:
    assert by_refaults(stats(100, 50, 10), now, last_mib, LAW) == pytest.approx(expected_mib, rel=1e-6)


def test_what_just_meets_its_target_grows() -> None:
    still = stats(100, 50, 10)
    assert by_refaults(still, still, 60.0, Law(accuracy_target=1.0, efficiency_target=1.0)) == 63.0
    assert Stats() == Stats(0.0, 0.0, 0.0, 0, 0, 0)


def test_thousands_of_random_readings_equal_the_law_written_out_again() -> None:
    draw = random.Random(9)
    for _ in range(5000):
        scanned, stolen, back = draw.randrange(10_000), draw.randrange(10_000), draw.choice([0, draw.randrange(200)])
        usage, inactive, last = draw.uniform(1, 1e5), draw.uniform(0, 1e4), draw.choice([0.0, draw.uniform(0, 1e3)])
        now = Stats(usage, inactive, 0.0, 7 + scanned, 5 + stolen, 3 + back)
        amount = by_refaults(Stats(0.0, 0.0, 0.0, 7, 5, 3), now, last, LAW)
        accuracy = 1 - 10 * back / (10 * stolen + 1)
        good = accuracy >= 0.99 and (10 * stolen + 1) / (10 * scanned + 1) >= 0.6
        most = 0.01 * usage
        expected = min(max(1.05 * last, inactive / 10), most) if good else max(last * accuracy, 0.0)
        assert amount == pytest.approx(expected)
        assert 0.0 <= amount <= max(most, last)


@pytest.mark.parametrize(
    ("usage_mib", "expected_mib"),
    [(1000.0, 500.0), (1024.0, 256.0), (4096.0, 585.142857), (8 * 1024 + 1000.0, 1021.333333), (16384.0, 1260.307692)],
)
def test_the_inactive_list_is_one_part_in_one_and_the_root_of_ten_gib(usage_mib: float, expected_mib: float) -> None:
    """1 : 1 below 1 GiB, 3 at 1 GiB, 6 at 4 GiB, 8 from 8 GiB on (the root of 80), 12 at 16 GiB."""
    assert inactive_mib(usage_mib) == pytest.approx(expected_mib)


def reading(time_s: float, vms: list[dict[str, float]]) -> Telemetry:
    """One host; a VM runs unless it says otherwise."""
    vm, host = np.zeros((1, len(vms)), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["running"] = 1.0
    for index, signals in enumerate(vms):
        for name, value in signals.items():
            vm[name][0, index] = value
    return Telemetry(np.array([time_s]), vm, host)


def asked(policy: Katalyst, telemetry: Telemetry) -> list[float]:
    targets = policy.decide(telemetry.seen_with(policy.visibility))
    assert targets.memory_mib is None
    assert targets.reclaim_age_s is None
    assert targets.reclaim_mib is not None
    return targets.reclaim_mib[0].tolist()


def begun(refault: bool = False, fixed: bool = False, vms: int = 1) -> Katalyst:
    policy = Katalyst(refault=refault, fixed=fixed)
    policy.reset(reading(0.0, [{}] * vms), 0)
    return policy


VM = {"resident_mib": 10_000.0}


def acted(policy: Katalyst, series: dict[int, dict[str, float]], until_s: int) -> dict[int, float]:
    """Amounts by second, the signals changing at the seconds of `series`."""
    signals, out = dict(VM), {}
    for t in range(0, until_s, 2):
        signals |= series.get(t, {})
        amount = asked(policy, reading(t, [signals]))[0]
        if not np.isnan(amount):
            out[t] = amount
    return out


def test_by_pressure_it_acts_every_thirty_seconds_from_the_first_on() -> None:
    assert acted(begun(), {}, 92) == {0: 100.0, 30: 100.0, 60: 100.0, 90: 100.0}


def test_pressure_is_avg60_made_of_the_stall_total_in_percent() -> None:
    """60 ms in two seconds count as 3 %: 201 of 2048, printed 0.09; after 15 steps of 1981 / 2048, cut off, 112: 0.05."""
    amounts = acted(begun(), {30: {"host_psi_some_s": 0.06}}, 62)
    assert amounts == pytest.approx({0: 100.0, 30: 10.0, 60: 50.0})


def test_by_refaults_as_coded_it_never_grows_and_any_refault_stops_it() -> None:
    """10,000 MiB have 1/10 inactive (9 GiB, root of 90): 100 MiB of it, which is 1 % of all."""
    swaps = {30: {"host_swap_out_mib": 100.0}, 60: {"host_swap_out_mib": 200.0, "host_swap_in_mib": 2.0}}
    swaps[90] = {"host_swap_out_mib": 300.0}
    assert acted(begun(refault=True), swaps, 92) == pytest.approx({0: 100.0, 30: 100.0, 60: 0.0, 90: 100.0})


def test_by_refaults_fixed_it_remembers_the_last_amount() -> None:
    swaps = {30: {"host_swap_out_mib": 100.0}, 60: {"host_swap_out_mib": 200.0, "host_swap_in_mib": 2.0}}
    amounts = acted(begun(refault=True, fixed=True), swaps, 62)
    assert amounts == pytest.approx({0: 100.0, 30: 100.0, 60: 100.0 * (1 - 512 / 25_600.1)})


def test_a_large_vm_grows_from_a_tenth_of_the_inactive_only_where_it_is_fixed() -> None:
    """40 GiB have one part in 21 inactive; a tenth of that is 195.05 MiB, 1 % of all 409.6 MiB."""
    large = {0: {"resident_mib": 40_960.0}}
    as_coded, fixed = (acted(begun(refault=True, fixed=flag), large, 92) for flag in (False, True))
    assert as_coded == pytest.approx(dict.fromkeys((0, 30, 60, 90), 195.047619))
    assert fixed == pytest.approx({0: 195.047619, 30: 204.8, 60: 215.04, 90: 225.792})


def test_less_than_a_page_is_no_refault() -> None:
    back = {30: {"host_swap_in_mib": 0.0039}, 60: {"host_swap_in_mib": 0.00391}}  # 0.998 and 1.001 pages
    assert acted(begun(refault=True), back, 62) == pytest.approx({0: 100.0, 30: 100.0, 60: 0.0})


def test_counters_since_a_vms_start_are_the_first_difference() -> None:
    lived = {0: {"host_swap_out_mib": 500.0, "host_swap_in_mib": 400.0}}
    for fixed in (False, True):
        assert acted(begun(refault=True, fixed=fixed), lived, 32) == pytest.approx({0: 0.0, 30: 100.0})


@pytest.mark.parametrize("signal", ["resident_mib", "host_swap_in_mib", "host_swap_out_mib", "host_psi_some_s"])
@pytest.mark.parametrize(("refault", "swap_in_mib"), [(False, 0.0), (True, 400.0), (True, 600.0)])
def test_a_missing_reading_takes_nothing_and_counters_begin_at_zero_again(refault, swap_in_mib, signal) -> None:
    busy = {"host_swap_out_mib": 500.0, "host_swap_in_mib": swap_in_mib}
    series = {0: busy, 60: {signal: np.nan}, 62: VM | busy | {"host_psi_some_s": 0.0}}
    for fixed in (False, True):
        amounts = acted(begun(refault=refault, fixed=fixed), series, 122)
        expected = {0: 0.0, 30: 100.0, 60: 0.0, 90: 0.0, 120: 100.0} if refault else {60: 0.0}
        assert amounts == pytest.approx(dict.fromkeys((0, 30, 90, 120), 100.0) | expected)


def test_a_vm_without_stall_times_from_the_start_is_left_alone() -> None:
    assert acted(begun(), {0: {"host_psi_some_s": np.nan}, 10: {"host_psi_some_s": 0.0}}, 44) == {10: 100.0, 40: 100.0}


def test_a_vm_that_does_not_run_is_left_alone_and_begins_anew() -> None:
    policy, out = begun(vms=2), []
    for t in range(0, 62, 2):
        amounts = asked(policy, reading(t, [VM | {"running": 0.0 if 20 <= t < 40 else 1.0}, VM]))
        out.append([t, *amounts]) if not np.isnan(amounts).all() else None
    np.testing.assert_array_equal(
        out, [[0, 100.0, 100.0], [30, np.nan, 100.0], [40, 100.0, np.nan], [60, np.nan, 100.0]]
    )


def test_reset_forgets() -> None:
    for refault in (False, True):
        policy = begun(refault=refault, fixed=True)
        series = {20: {"host_psi_some_s": 0.06, "host_swap_out_mib": 50.0, "host_swap_in_mib": 25.0}}
        first = acted(policy, series, 62)
        policy.reset(reading(0.0, [{}]), 0)
        assert acted(policy, series, 62) == first


@pytest.mark.parametrize("refault", [False, True])
def test_a_lane_alone_decides_the_same_bits(refault: bool) -> None:
    draw = np.random.default_rng(0)
    together, alone = Katalyst(refault, fixed=True), Katalyst(refault, fixed=True)
    vm, host = np.zeros((3, 4), VM_TELEMETRY), np.zeros((3, 1), HOST_TELEMETRY)
    vm["running"] = 1.0
    together.reset(Telemetry(np.zeros(3), vm, host), 0)
    alone.reset(Telemetry(np.zeros(1), vm[1:2], host[1:2]), 0)
    for t in range(0, 600, 2):
        vm["resident_mib"] = draw.uniform(500.0, 30_000.0, (3, 4))
        vm["host_psi_some_s"] += draw.choice([0.0] * 9 + [0.05], (3, 4))
        vm["host_swap_out_mib"] += draw.uniform(0.0, 10.0, (3, 4))
        vm["host_swap_in_mib"] += draw.choice([0.0, 0.0, 0.1], (3, 4))
        of_all = together.decide(Telemetry(np.full(3, t), vm, host)).reclaim_mib
        of_one = alone.decide(Telemetry(np.full(1, t), vm[1:2], host[1:2])).reclaim_mib
        assert of_all is not None
        np.testing.assert_array_equal(of_all[1:2], of_one)


def test_the_shipped_configurations_are_the_originals_defaults() -> None:
    psi, refault = (make_policy(load_group("agent", name)) for name in ("katalyst_psi", "katalyst_refault"))
    for policy, by_refault in ((psi, False), (refault, True)):
        assert isinstance(policy, Katalyst)
        assert policy.law == Law(0.01, 0.1, 0.99, 0.6)
        assert (policy.refault, policy.interval_s, policy.fixed) == (by_refault, 30, False)
        assert vars(policy) | UNDECLARED == vars(Katalyst(refault=by_refault)) | UNDECLARED
        assert (policy.period_s, policy.visibility) == (2.0, Visibility.P0)
