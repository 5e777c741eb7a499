"""DAMON_RECLAIM: watermarks, quota and tuner in figures by hand, and the ranking by age against what it must conserve."""

import random
from fractions import Fraction

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.agents.proactive.damon import (
    DamonReclaim,
    Quota,
    Stalls,
    Watermarks,
    activated,
    next_quota_bp,
    quota_bytes,
    spread,
)
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""

MIB = 1 << 20
ULONG_MAX = 18446744073709551615
AGES_S = (120, 240, 480, 960, 1920, 3840)


@pytest.mark.parametrize(
    ("free_per_mille", "asleep", "awake"),
    [
        (0, False, False),
        (199, False, False),
        (200, True, True),
        (399, True, True),
        (400, False, True),
        (500, False, True),
        (501, False, False),
    ],
)
def test_it_starts_below_40_percent_free_and_goes_on_from_20_to_50(free_per_mille, asleep, awake) -> None:
    assert activated(False, free_per_mille, Watermarks()) == asleep
    assert activated(True, free_per_mille, Watermarks()) == awake


@pytest.mark.parametrize(
    ("last_bp", "score", "expected_bp"),
    [
        (10_000, 0, 20_000),
        (30_000, 5_000, 45_000),
        (30_000, 10_000, 30_000),
        (40_000, 12_500, 30_000),
        (15_000, 15_000, 10_000),  # never below one byte
        (10**12, 19_999, 10**8),
        (10**12, 20_000, 10_000),
        (10**12, 10**9, 10_000),
        (10_001, 9_999, 10_002),  # 1.0001, cut off
        (1 << 63, 0, 18446744073709545808),  # too large to multiply first: 922337203685477 * 10,000 more
        (ULONG_MAX, 0, ULONG_MAX),
        (ULONG_MAX, 20_000, 10_000),
        (ULONG_MAX - 5, 9_999, ULONG_MAX),
    ],
)
def test_the_tuner_compensates_in_proportion(last_bp: int, score: int, expected_bp: int) -> None:
    assert next_quota_bp(last_bp, score) == expected_bp


def test_thousands_of_random_scores_equal_the_published_formula() -> None:
    """max(last * ((goal - score) / goal + 1), least), whole numbers, where the kernel does not saturate."""
    draw = random.Random(7)
    for _ in range(5000):
        last, score = draw.randrange(10_000, 1 << draw.randrange(15, 50)), draw.randrange(30_000)
        exact = last * (Fraction(10_000 - score, 10_000) + 1)
        step = int(exact) if score <= 10_000 else -int(-exact // 1)
        assert next_quota_bp(last, score) == max(step, 10_000)


def test_the_quota_is_the_least_of_its_limits() -> None:
    assert quota_bytes(None, Quota()) == 40 * MIB  # 10 ms at 4 MiB
    assert quota_bytes(None, Quota(time_ms=100)) == 128 * MIB
    assert quota_bytes(30_000, Quota()) == 3
    assert quota_bytes(39_999, Quota()) == 3
    assert quota_bytes(10_000 * 41 * MIB, Quota()) == 40 * MIB
    assert quota_bytes(None, Quota(time_ms=0, size_bytes=7)) == 7
    assert quota_bytes(None, Quota(time_ms=0)) == 128 * MIB
    assert quota_bytes(None, Quota(size_bytes=1)) == 1
    assert quota_bytes(None, Quota(size_bytes=0)) == 40 * MIB
    assert quota_bytes(None, Quota(time_ms=0, size_bytes=0)) == ULONG_MAX


IDLE = [[1000.0, 500.0], [800.0, 300.0], [600.0, 100.0], [400.0, 0.0], [200.0, 0.0], [100.0, 0.0]]


@pytest.mark.parametrize(
    ("amount", "step", "of_vms"),
    [
        (0.0, 5, [0.0, 0.0]),
        (50.0, 5, [50.0, 0.0]),
        (100.0, 5, [100.0, 0.0]),
        (101.0, 4, [101.0, 0.0]),
        (490.0, 2, [420.0, 70.0]),  # 700 are idle for 480 s or longer: 0.7 of each
        (1500.0, 0, [1000.0, 500.0]),
        (9999.0, 0, [1000.0, 500.0]),
    ],
)
def test_the_oldest_goes_first_over_all_vms(amount: float, step: int, of_vms: list[float]) -> None:
    age, amounts = spread(IDLE, amount)
    assert age == step
    assert amounts == pytest.approx(of_vms)


def test_nothing_idle_gives_nothing() -> None:
    assert spread([[0.0, 0.0], [0.0, 0.0]], 10.0) == (0, [0.0, 0.0])
    assert spread([[0.5, 0.0], [0.0, 0.0]], 10.0) == (0, [0.5, 0.0])


def test_thousands_of_random_hosts_never_lose_more_than_the_quota_or_what_is_idle() -> None:
    draw = random.Random(8)
    for _ in range(4000):
        vms = draw.randrange(1, 9)
        by_vm = [sorted((draw.choice([0.0, draw.uniform(0, 500)]) for _ in AGES_S), reverse=True) for _ in range(vms)]
        idle = [list(step) for step in zip(*by_vm, strict=True)]
        amount = draw.uniform(0.0, 1500.0)
        step, amounts = spread(idle, amount)
        assert sum(amounts) == pytest.approx(min(amount, sum(idle[0])))
        assert all(0.0 <= taken <= has for taken, has in zip(amounts, idle[step], strict=True))
        assert all(sum(older) < amount for older in idle[step + 1 :])
        assert step == 0 or sum(idle[step]) >= amount


def test_the_host_stalls_when_any_vm_does() -> None:
    stalls = Stalls(10.0, [3.0, 0.0])
    assert stalls.add(10.0, [3.0, 0.0]) == 0
    assert stalls.add(11.0, [3.5, 0.5]) == 750_000  # 1 - 0.5 * 0.5
    assert stalls.add(13.0, [3.5, 1.0]) == 1_250_000  # a quarter of two seconds
    assert stalls.add(14.0, [9.0, 1.0]) == 2_250_000  # no more than all of it


def test_stalls_that_are_not_known_count_as_none_until_they_are() -> None:
    stalls = Stalls(0.0, [0.0, np.nan])
    assert stalls.add(1.0, [np.nan, 5.0]) == 0
    assert stalls.add(2.0, [0.5, 5.25]) == 625_000  # 1 - 0.5 * 0.75


def reading(time_s: float, vms: list[dict[str, float]], free_mib: float = 3000.0) -> Telemetry:
    """One host of 10,000 MiB; a VM runs unless it says otherwise."""
    vm, host = np.zeros((1, len(vms)), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["running"], host["total_mib"], host["free_mib"], host["available_mib"] = 1.0, 10_000.0, free_mib, 4500.0
    for index, signals in enumerate(vms):
        for name, value in signals.items():
            vm[name][0, index] = value
    return Telemetry(np.array([time_s]), vm, host)


def asked(policy: DamonReclaim, telemetry: Telemetry) -> tuple[list[float], list[float]]:
    targets = policy.decide(telemetry.seen_with(policy.visibility))
    assert targets.memory_mib is None
    assert targets.reclaim_mib is not None
    assert targets.reclaim_age_s is not None
    return targets.reclaim_mib[0].tolist(), targets.reclaim_age_s[0].tolist()


GIANT, SMALL = ({f"idle_{age}s_mib": step[vm] for age, step in zip(AGES_S, IDLE, strict=True)} for vm in (0, 1))


def begun(vms: int = 2, **changes: float) -> DamonReclaim:
    policy = DamonReclaim(**changes)  # type: ignore[arg-type]
    policy.reset(reading(0.0, [{}] * vms), 0)
    return policy


def test_without_a_tuner_it_takes_what_10_ms_move_from_the_oldest() -> None:
    assert asked(begun(), reading(0, [GIANT, SMALL])) == ([40.0, 0.0], [3840.0, 3840.0])
    assert asked(begun(quota_ms=100), reading(0, [GIANT, SMALL])) == ([128.0, 0.0], [1920.0, 1920.0])
    wide = begun(quota_ms=1000, quota_mib=490, mib_per_ms=1)
    amounts, ages = asked(wide, reading(0, [GIANT, SMALL]))
    assert amounts == pytest.approx([420.0, 70.0])
    assert ages == [480.0, 480.0]
    assert asked(begun(quota_ms=0, quota_mib=9000), reading(0, [GIANT, SMALL])) == ([1000.0, 500.0], [120.0, 120.0])
    assert asked(begun(quota_ms=0, quota_mib=9000, min_age_s=900), reading(0, [GIANT, SMALL]))[0] == [400.0, 0.0]


def test_asleep_it_looks_every_five_seconds_and_awake_at_every_one() -> None:
    policy = begun()
    free = [4500.0, *[3000.0] * 6, 4500.0, 5010.0, *[3000.0] * 5, 1999.0, 3000.0]
    amounts = [asked(policy, reading(t, [GIANT, SMALL], mib))[0][0] for t, mib in enumerate(free)]
    assert amounts == [0.0] * 5 + [40.0] * 3 + [0.0] * 5 + [40.0] + [0.0] * 2


def test_free_memory_is_counted_without_page_cache_and_in_whole_per_mille() -> None:
    assert asked(begun(), reading(0, [GIANT, SMALL], 3999.9))[0][0] == 40.0
    assert asked(begun(), reading(0, [GIANT, SMALL], 4000.0))[0][0] == 0.0
    assert asked(begun(), reading(0, [GIANT, SMALL], 1999.9))[0][0] == 0.0
    assert asked(begun(), reading(0, [GIANT, SMALL], 2000.0))[0][0] == 40.0
    policy = begun()
    asked(policy, reading(0, [GIANT, SMALL]))
    assert asked(policy, reading(1, [GIANT, SMALL], 5009.9))[0][0] == 40.0


def test_without_a_reading_of_free_memory_it_stays_as_it_is() -> None:
    policy = begun()
    assert asked(policy, reading(0, [GIANT, SMALL], np.nan))[0] == [0.0, 0.0]
    assert asked(policy, reading(1, [GIANT, SMALL]))[0] == [40.0, 0.0]
    assert asked(policy, reading(2, [GIANT, SMALL], np.nan))[0] == [40.0, 0.0]


def test_the_tuner_doubles_from_a_byte_in_whole_pages_up_to_the_other_limits() -> None:
    policy = begun(mem_pressure_us=5000)
    amounts = [asked(policy, reading(t, [GIANT, SMALL]))[0][0] for t in range(28)]
    assert amounts[:11] == [0.0] * 11  # up to 2,048 bytes
    assert amounts[11:25] == [2.0**step / 256 for step in range(14)]
    assert amounts[25:] == [40.0] * 3  # instead of 64 MiB


def test_the_tuner_steers_by_stalls_of_the_window() -> None:
    policy = begun(mem_pressure_us=5000)
    for t in range(24):
        before = asked(policy, reading(t, [GIANT, SMALL]))[0][0]
    assert before == 16.0
    stalls = [(0.005, 16.0), (0.0075, 24.0), (0.015, 12.0), (0.015, 24.0), (0.030, 0.0), (0.030, 0.0)]
    # the target keeps it, half of it adds half, 1.5 times it halves it, none doubles it, three times it ends it
    after = [
        asked(policy, reading(24 + i, [GIANT | {"host_psi_some_s": s}, SMALL]))[0][0] for i, (s, _) in enumerate(stalls)
    ]
    assert after == pytest.approx([mib for _, mib in stalls])


def test_stalls_while_it_sleeps_count_when_it_wakes() -> None:
    policy = begun(mem_pressure_us=5000)
    for t in range(24):
        asked(policy, reading(t, [GIANT, SMALL]))
    for t in range(24, 29):
        asked(policy, reading(t, [GIANT | {"host_psi_some_s": 0.006}, SMALL], 6000.0))
    woken = asked(policy, reading(29, [GIANT | {"host_psi_some_s": 0.006}, SMALL]))
    assert woken[0] == pytest.approx([12.8, 0.0], abs=1 / 256)  # 1.2 times the target: four fifths of 16 MiB


def test_a_vm_that_does_not_run_or_is_not_known_takes_no_part() -> None:
    policy = begun(4, quota_ms=0, quota_mib=9000)
    unknown = SMALL | {f"idle_{age}s_mib": np.nan for age in AGES_S}
    amounts, ages = asked(policy, reading(0, [GIANT | {"running": 0.0}, SMALL, GIANT, unknown]))
    assert np.isnan(amounts[0])
    assert np.isnan(ages[0])
    assert amounts[1:] == [500.0, 1000.0, 0.0]
    assert ages[1:] == [120.0] * 3
    asleep, _ = asked(policy, reading(1, [GIANT | {"running": 0.0}, SMALL, GIANT, unknown], 9000.0))
    assert np.isnan(asleep[0])
    assert asleep[1:] == [0.0] * 3


def test_a_stopped_vm_leaves_the_quota_to_others() -> None:
    policy = begun(2, quota_ms=0, quota_mib=450)
    assert asked(policy, reading(0, [GIANT | {"running": 0.0}, SMALL]))[0][1] == 450.0


def test_reset_forgets() -> None:
    policy = begun(mem_pressure_us=5000)
    first = [asked(policy, reading(t, [GIANT | {"host_psi_some_s": t / 1000}, SMALL]))[0] for t in range(40)]
    asked(policy, reading(40, [GIANT, SMALL], 9000.0))
    policy.reset(reading(0.0, [{}] * 2), 0)
    assert [asked(policy, reading(t, [GIANT | {"host_psi_some_s": t / 1000}, SMALL]))[0] for t in range(40)] == first


def test_a_lane_alone_decides_the_same_bits() -> None:
    draw = np.random.default_rng(0)
    together, alone = DamonReclaim(mem_pressure_us=5000), DamonReclaim(mem_pressure_us=5000)
    vm, host = np.zeros((3, 4), VM_TELEMETRY), np.zeros((3, 1), HOST_TELEMETRY)
    vm["running"], host["total_mib"] = 1.0, 10_000.0
    together.reset(Telemetry(np.zeros(3), vm, host), 0)
    alone.reset(Telemetry(np.zeros(1), vm[1:2], host[1:2]), 0)
    taken = 0.0
    for t in range(200):
        host["free_mib"] = draw.choice([3000.0] * 40 + [1000.0, 6000.0], (3, 1))
        vm["host_psi_some_s"] += draw.choice([0.0] * 30 + [0.0005, 0.001], (3, 4))
        idle = -np.sort(-draw.uniform(0.0, 50.0, (6, 3, 4)), axis=0)
        for step, age in enumerate(AGES_S):
            vm[f"idle_{age}s_mib"] = idle[step]
        of_all = together.decide(Telemetry(np.full(3, t), vm, host))
        of_one = alone.decide(Telemetry(np.full(1, t), vm[1:2], host[1:2]))
        assert of_all.reclaim_mib is not None
        assert of_all.reclaim_age_s is not None
        np.testing.assert_array_equal(of_all.reclaim_mib[1:2], of_one.reclaim_mib)
        np.testing.assert_array_equal(of_all.reclaim_age_s[1:2], of_one.reclaim_age_s)
        taken += of_all.reclaim_mib[1].sum()
    assert taken > 0.0


def test_the_shipped_configuration_is_the_kernels_with_the_tuner_on() -> None:
    policy = make_policy(load_group("agent", "damon_reclaim"))
    assert isinstance(policy, DamonReclaim)
    assert policy.quota == Quota(10, 128 * MIB, 4 * MIB, 5000)
    assert policy.marks == Watermarks(500, 400, 200)
    assert (policy.ages_s, policy.check_s) == (AGES_S, 5)
    assert vars(DamonReclaim(mem_pressure_us=5000)) | UNDECLARED == vars(policy) | UNDECLARED
    assert DamonReclaim().quota == Quota() == Quota(10, 128 * MIB, 4 * MIB, 0)  # the module's own default: no tuner
    assert (policy.period_s, policy.visibility) == (1.0, Visibility.P0)
