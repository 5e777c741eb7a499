"""g-swap's choice of ages in figures by hand, its percentile against numpy's, and its minutes on VMs made up for it."""

import bisect
import math
import random

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.agents.proactive.gswap import COLD_AGES_S, NEVER_S, GSwap, best_age_s, threshold_s
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""

RATES = (50.0, 9.0, 4.0, 3.9, 1.0, 0.0)


def test_pages_are_cold_from_two_minutes_on() -> None:
    assert COLD_AGES_S == (120, 240, 480, 960, 1920, 3840)


@pytest.mark.parametrize(
    ("working_set_mib", "age_s"),
    [(25_000.0, 120.0), (24_999.0, 240.0), (2000.0, 480.0), (1999.0, 960.0), (1000.0, 1920.0), (0.0, 3840.0)],
)
def test_the_best_age_is_the_youngest_within_0_2_percent_of_the_working_set(
    working_set_mib: float, age_s: float
) -> None:
    """2,000 MiB may promote 4 MiB a minute."""
    assert best_age_s(RATES, working_set_mib, 0.002) == age_s


def test_no_age_may_be_old_enough() -> None:
    assert best_age_s((50.0, 9.0, 4.0, 3.9, 1.0, 0.5), 200.0, 0.002) == NEVER_S


@pytest.mark.parametrize(
    ("ordered", "percentile", "expected"),
    [
        ([120.0], 98.0, 120.0),
        ([120.0] * 49 + [960.0], 98.0, 120.0),  # the 49th of 50
        ([120.0] * 48 + [960.0], 98.0, 960.0),  # the 49th of 49: 48.02 is rounded up
        ([120.0, 240.0, 480.0, 960.0], 50.0, 240.0),
        ([120.0, 240.0, 480.0, 960.0], 51.0, 480.0),
        ([120.0, 240.0, 480.0, 960.0], 0.0, 120.0),
        ([120.0, 240.0, 480.0, NEVER_S], 100.0, NEVER_S),
    ],
)
def test_the_percentile_is_the_nearest_rank(ordered: list[float], percentile: float, expected: float) -> None:
    assert threshold_s(ordered, 0.0, percentile) == expected


def test_a_spike_counts_at_once_and_a_lull_does_not() -> None:
    assert threshold_s([120.0] * 99 + [960.0], 960.0, 98.0) == 960.0
    assert threshold_s([120.0, *[480.0] * 99], 120.0, 98.0) == 480.0


def test_thousands_of_random_histories_equal_numpys_percentile() -> None:
    draw = random.Random(5)
    for _ in range(3000):
        history = [draw.choice(COLD_AGES_S) for _ in range(draw.randrange(1, 80))]
        percentile = draw.choice([1.0, 50.0, 90.0, 98.0, 99.0, 100.0])
        of_history = np.percentile(history, percentile, method="inverted_cdf")
        assert threshold_s(sorted(history), history[-1], percentile) == max(of_history, history[-1])


def test_random_rates_the_objective_is_kept_by_the_youngest_age() -> None:
    draw = random.Random(6)
    for _ in range(5000):
        rates = sorted((draw.uniform(0, 20) for _ in COLD_AGES_S), reverse=True)
        working_set = draw.uniform(0.0, 10_000.0)
        age = best_age_s(rates, working_set, 0.002)
        below = [rate for cold, rate in zip(COLD_AGES_S, rates, strict=True) if cold < age]
        assert all(rate > 0.002 * working_set for rate in below)
        assert age == NEVER_S or rates[COLD_AGES_S.index(int(age))] <= 0.002 * working_set


def reading(time_s: float, vms: list[dict[str, float]]) -> Telemetry:
    """One host; a VM runs unless it says otherwise."""
    vm, host = np.zeros((1, len(vms)), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["running"] = 1.0
    for index, signals in enumerate(vms):
        for name, value in signals.items():
            vm[name][0, index] = value
    return Telemetry(np.array([time_s]), vm, host)


def asked(policy: GSwap, telemetry: Telemetry) -> list[tuple[float, float]]:
    """Memory and age by VM."""
    targets = policy.decide(telemetry.seen_with(policy.visibility))
    assert targets.memory_mib is None
    assert targets.reclaim_mib is not None
    assert targets.reclaim_age_s is not None
    return list(zip(targets.reclaim_mib[0].tolist(), targets.reclaim_age_s[0].tolist(), strict=True))


def vm(promoted: dict[int, float], resident_mib: float = 3000.0) -> dict[str, float]:
    """A VM of 2,000 MiB touched within two minutes, with promotions in MiB a minute; 3,000 less 1,000 that idle."""
    idle = dict(zip(COLD_AGES_S, (1000.0, 800.0, 600.0, 400.0, 200.0, 100.0), strict=True))
    signals = {f"idle_{age}s_mib": amount for age, amount in idle.items()}
    signals |= {f"woken_{age}s_mib_per_s": promoted.get(age, 0.0) / 60.0 for age in COLD_AGES_S}
    return signals | {"resident_mib": resident_mib}


CALM, BUSY, WILD = vm({}), vm({120: 6.0, 240: 3.0}), vm(dict.fromkeys(COLD_AGES_S, 100.0))
NOTHING = [(0.0, pytest.approx(math.nan, nan_ok=True))]


def begun(vms: int = 1, warmup_s: float = 120.0) -> GSwap:
    policy = GSwap(warmup_s=warmup_s)
    policy.reset(reading(0.0, [{}] * vms), 0)
    return policy


def test_after_the_warm_up_all_that_idles_for_longer_than_the_threshold_goes() -> None:
    policy = begun(2)
    assert asked(policy, reading(0, [CALM, BUSY])) == NOTHING * 2
    assert asked(policy, reading(60, [CALM, BUSY])) == NOTHING * 2
    assert asked(policy, reading(120, [CALM, BUSY])) == [(1000.0, 120.0), (800.0, 240.0)]


def test_minutes_of_the_warm_up_count_in_the_history() -> None:
    policy = begun()
    asked(policy, reading(0, [BUSY]))
    asked(policy, reading(60, [CALM]))
    assert asked(policy, reading(120, [CALM])) == [(800.0, 240.0)]


def test_the_working_set_is_what_was_touched_within_two_minutes() -> None:
    policy = begun(2, warmup_s=0.0)
    edge = vm({120: 4.0})
    smaller = edge | {"resident_mib": 2999.0}
    assert asked(policy, reading(0, [edge, smaller])) == [(1000.0, 120.0), (800.0, 240.0)]


def test_a_bad_minute_stops_it_until_the_percentile_forgives_it() -> None:
    policy = begun(warmup_s=0.0)
    assert asked(policy, reading(0, [WILD])) == NOTHING
    minutes = [asked(policy, reading(60 * (minute + 1), [CALM])) for minute in range(49)]
    assert minutes[:48] == [NOTHING] * 48
    assert minutes[48] == [(1000.0, 120.0)]  # the 49th of 50
    assert asked(policy, reading(3600, [WILD])) == NOTHING
    assert asked(policy, reading(3660, [CALM])) == NOTHING  # two of 52 are more than 2 %


def test_a_vm_that_does_not_run_is_left_alone_and_begins_anew() -> None:
    policy = begun(warmup_s=60.0)
    asked(policy, reading(0, [WILD]))
    assert np.isnan(asked(policy, reading(60, [CALM | {"running": 0.0}]))).all()
    assert asked(policy, reading(120, [CALM])) == NOTHING
    assert asked(policy, reading(180, [CALM])) == [(1000.0, 120.0)]


@pytest.mark.parametrize("signal", ["resident_mib", "idle_120s_mib", "woken_120s_mib_per_s", "woken_3840s_mib_per_s"])
def test_a_minute_without_a_signal_is_skipped(signal: str) -> None:
    policy = begun(warmup_s=0.0)
    assert asked(policy, reading(0, [CALM | {signal: np.nan}])) == NOTHING
    assert asked(policy, reading(60, [BUSY])) == [(800.0, 240.0)]
    assert asked(policy, reading(120, [BUSY | {signal: np.nan}])) == NOTHING
    assert asked(policy, reading(180, [CALM])) == [(800.0, 240.0)]


def test_reset_forgets() -> None:
    policy = begun()
    for t in (0, 60, 120):
        asked(policy, reading(t, [WILD]))
    policy.reset(reading(0, [{}]), 0)
    assert [asked(policy, reading(t, [CALM])) for t in (0, 60, 120)] == [NOTHING, NOTHING, [(1000.0, 120.0)]]


def test_a_lane_alone_decides_the_same_bits_and_as_written_out_again() -> None:
    draw = np.random.default_rng(0)
    together, alone = GSwap(percentile=90.0), GSwap(percentile=90.0)
    vms, host = np.zeros((3, 4), VM_TELEMETRY), np.zeros((3, 1), HOST_TELEMETRY)
    vms["running"] = 1.0
    together.reset(Telemetry(np.zeros(3), vms, host), 0)
    alone.reset(Telemetry(np.zeros(1), vms[1:2], host[1:2]), 0)
    history: list[float] = []
    for minute in range(60):
        vms["resident_mib"] = draw.uniform(3000.0, 6000.0, (3, 4))
        idle, rates = draw.uniform(0.0, 2000.0, (6, 3, 4)), draw.exponential(0.1, (6, 3, 4))
        idle, rates = -np.sort(-idle, axis=0), -np.sort(-rates, axis=0)
        for step, age in enumerate(COLD_AGES_S):
            vms[f"idle_{age}s_mib"], vms[f"woken_{age}s_mib_per_s"] = idle[step], rates[step]
        of_all = together.decide(Telemetry(np.full(3, 60.0 * minute), vms, host))
        of_one = alone.decide(Telemetry(np.full(1, 60.0 * minute), vms[1:2], host[1:2]))
        assert of_all.reclaim_mib is not None
        assert of_all.reclaim_age_s is not None
        np.testing.assert_array_equal(of_all.reclaim_mib[1:2], of_one.reclaim_mib)
        np.testing.assert_array_equal(of_all.reclaim_age_s[1:2], of_one.reclaim_age_s)
        most = 0.002 * (vms["resident_mib"][1, 2] - idle[0, 1, 2])
        best = min(
            (age for age, rate in zip(COLD_AGES_S, rates[:, 1, 2], strict=True) if rate * 60 <= most), default=1e9
        )
        bisect.insort(history, best)
        age = max(float(np.percentile(history, 90.0, method="inverted_cdf")), best)
        expected = idle[COLD_AGES_S.index(int(age)), 1, 2] if minute >= 2 and age < 1e9 else 0.0
        assert of_all.reclaim_mib[1, 2] == expected


def test_the_shipped_configuration_decides_every_minute() -> None:
    policy = make_policy(load_group("agent", "gswap"))
    assert isinstance(policy, GSwap)
    assert (policy.percentile, policy.warmup_s, policy.slo_per_min) == (98, 120, 0.002)
    assert vars(policy) | UNDECLARED == vars(GSwap()) | UNDECLARED
    assert (policy.period_s, policy.visibility) == (60.0, Visibility.P0)
