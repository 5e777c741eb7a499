"""Apple's balloon policy: the worked examples of its own tests in MiB, its need and floor, and when it reads and decides."""

from fractions import Fraction

import numpy as np
import pytest

from hvgym.agents.hypervisors.apple import MIB, Apple, Reading, Rules, balloon_floor, buffer_share, need, next_target
from hvgym.agents.policy import make_policy
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""

MAXIMUM = 12 * 1024


def sample(current, needs, host_free=0.5, available=None, floor=0):
    available = current if available is None else available
    return Reading(host_free, current * MIB, needs * MIB, available * MIB, floor * MIB)


def target(*samples, minimum=0, rules=Rules()):  # noqa: B008
    size = next_target(samples, minimum * MIB, MAXIMUM * MIB, rules)
    return None if size is None else size / MIB


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([sample(1250, 1000)], 1200),  # 1000 MB and a buffer of 20 %
        ([sample(8192, 1024)], 8192 * 0.95),
        ([sample(1024, 3072)], 3072 * 1.2),
        ([sample(8192, 11264)], MAXIMUM),
        ([sample(1120, 1000, 0.10)], 1100),
        ([sample(1000, 1000, 0.03)], 980),
        ([sample(2000, 1100, 0.10), sample(1250, 900, 0.50)], 1200),
        ([sample(1250, 1000)] * 3 + [sample(1250, 3000)], 3600),
        ([sample(1201, 1000)], None),
        ([sample(1000, 500, available=280, floor=250)], 970),
        ([sample(1000, 500, available=200, floor=250)], None),
        ([sample(1200, 1000)] * 2 + [sample(1200, 100)], 1140),  # a need that falls waits for its mean
    ],
)
def test_worked_examples_to_the_byte(samples, expected):
    given = target(*samples)
    assert given == expected if expected is None else given == pytest.approx(expected, abs=1 / MIB)


def test_a_guest_below_its_floor_gives_not_a_byte():
    assert target(sample(1000, 500, available=200, floor=250), rules=Rules(min_change=0.0)) is None


def test_a_change_of_a_quarter_per_cent_is_still_too_small():
    assert next_target([Reading(0.5, 4000, 9000, 0, 0)], 0, 4010, Rules()) is None
    assert next_target([Reading(0.5, 4000, 9000, 0, 0)], 0, 4011, Rules()) == 4011


def test_the_minimum_holds():
    assert target(sample(2100, 1000), minimum=2048) == 2048


@pytest.mark.parametrize(
    ("host_free", "share"),
    [(1.0, 0.2), (0.2, 0.2), (0.15, 0.15), (0.0501, 0.0501), (0.05, 0.0), (0.02, -0.03), (0.0, -0.05)],
)
def test_the_buffer_by_free_share_of_the_host(host_free, share):
    assert buffer_share(host_free, Rules()) == pytest.approx(share)


def test_the_buffer_follows_its_rules():
    rules = Rules(buffer=0.4, pressure_threshold=0.5, pressure_critical=0.1)
    assert [buffer_share(free, rules) for free in (0.5, 0.25, 0.1)] == pytest.approx([0.4, 0.2, 0.05])


@pytest.mark.parametrize(
    ("held", "floor"), [(16, 16), (32, 24), (128, 72), (512, 168), (2048, 360), (8192, 744), (32768, 1512)]
)
def test_the_floor_is_hv_balloons(held, floor):
    assert balloon_floor(held * MIB) == floor * MIB


def test_the_floor_drops_what_is_left_of_a_byte():
    assert balloon_floor(2048 * MIB + 31) == 360 * MIB + 1
    assert balloon_floor(8192 * MIB + 31) == 744 * MIB
    assert balloon_floor(2147483648) == 377487360


def test_the_need_of_a_machine_of_2176_mib_with_1024_in_its_balloon():
    """Its kernel manages 2,048; 300 are committed."""
    assert need(300 * MIB, 1024 * MIB, 128 * MIB) == (300 + 232 + 128) * MIB


def exact(samples, minimum, maximum, rules):
    """The rules in fractions."""
    last, count = samples[-1], len(samples)
    free = sum(Fraction(one.host_free) for one in samples) / count
    needs = max(Fraction(sum(one.needs for one in samples), count), Fraction(last.needs))
    if free <= Fraction(rules.pressure_critical):
        share = free - Fraction(0.05)
    else:
        share = Fraction(rules.buffer) * min(free / Fraction(rules.pressure_threshold), 1)
    size = sorted([Fraction(minimum), needs * (1 + share), Fraction(maximum)])[1]
    if size < last.current:
        spare = max(last.available - last.floor, 0)
        size = max(size, last.current * (1 - Fraction(rules.max_shrink)), Fraction(last.current - spare))
    return size if abs(size - last.current) > Fraction(rules.min_change) * last.current else None


def test_thousands_of_decisions_agree_with_the_rules_in_fractions():
    rng, decided = np.random.default_rng(1), 0
    for _ in range(4000):
        maximum = int(rng.integers(256, 16_384)) * MIB
        minimum = int(rng.random() * 0.5 * maximum)
        samples = [
            Reading(float(rng.random() ** 3), *(int(rng.random() * scale * maximum) for scale in (1.0, 1.2, 0.6, 0.3)))
            for _ in range(int(rng.integers(1, 11)))
        ]
        given, expected = next_target(samples, minimum, maximum, Rules()), exact(samples, minimum, maximum, Rules())
        assert (given is None) == (expected is None)
        if given is not None and expected is not None:
            decided += 1
            assert abs(given - expected) < 1.001  # the rest of a byte, and rounding
    assert decided > 3000


def reading(seconds, free=0.5, lanes=1, **columns):
    """One machine of 4,000 MiB that holds all of it: need 1000 + 232 + 250, target 1,778.4, a step of 200."""
    rows, host = np.zeros((lanes, 1), VM_TELEMETRY), np.zeros((lanes, 1), HOST_TELEMETRY)
    given = {"memory_mib": 4000.0, "min_mib": 500.0, "size_mib": 4000.0, "running": 1.0, "guest_committed_mib": 1000.0}
    given |= {"guest_total_mib": 4000.0, "guest_available_mib": 3000.0} | columns
    for name, value in given.items():
        rows[name] = value
    host["total_mib"], host["available_mib"] = 10_000.0, 10_000.0 * free
    return Telemetry(np.full(lanes, seconds), rows, host)


def begun(first=None, **arguments):
    policy = Apple(**arguments)
    policy.reset(first or reading(0.0), seed=0)
    return policy


def size(policy, telemetry):
    return float(policy.decide(telemetry.seen_with(policy.visibility)).memory_mib[0, 0])


def test_it_reads_every_5_s_and_decides_every_10():
    policy = begun()
    given = [size(policy, reading(float(seconds))) for seconds in range(31)]
    assert [seconds for seconds, one in enumerate(given) if not np.isnan(one)] == [10, 20, 30]
    assert given[10] == 3800.0


def test_what_happens_between_readings_is_not_seen():
    policy = begun()
    for seconds in range(31):
        given = size(policy, reading(float(seconds), guest_committed_mib=1000.0 if seconds % 5 == 0 else 3900.0))
    assert given == 3800.0


def test_the_first_decision_rests_on_two_readings_and_later_ones_on_ten():
    """1.2 times a mean of 875 committed and a floor of 232; then of 1,080, eight readings of 1,100 and two of 1,000."""
    low = {"size_mib": 1380.0, "guest_total_mib": 1024.0}
    policy = begun(reading(0.0))
    size(policy, reading(0.0, guest_committed_mib=9000.0, **low))
    size(policy, reading(5.0, **low))
    given = size(policy, reading(10.0, guest_committed_mib=750.0, **low))
    assert given == pytest.approx(1.2 * (875 + 232), abs=1e-5)
    policy = begun(reading(0.0))
    for seconds in range(5, 55, 5):
        size(policy, reading(float(seconds), guest_committed_mib=1100.0, **low))
    size(policy, reading(55.0, guest_committed_mib=1000.0, **low))
    given = size(policy, reading(60.0, guest_committed_mib=1000.0, **low))
    assert given == pytest.approx(1.2 * (1080 + 232), abs=1e-5)


def test_the_mean_of_the_hosts_free_share_narrows_the_buffer():
    low = {"size_mib": 1400.0, "guest_total_mib": 1024.0}
    policy = begun()
    size(policy, reading(5.0, 0.02, **low))
    assert size(policy, reading(10.0, 0.18, **low)) == pytest.approx(1.1 * 1232, abs=1e-5)


def test_a_guest_that_does_not_answer_postpones_the_decision():
    for name in ("guest_committed_mib", "guest_total_mib", "guest_available_mib"):
        policy = begun()
        size(policy, reading(5.0))
        assert np.isnan(size(policy, reading(10.0, **{name: np.nan})))
        assert size(policy, reading(15.0)) == 3800.0
        assert np.isnan(size(policy, reading(20.0)))
        assert size(policy, reading(25.0)) == 3800.0


def test_a_guest_whose_last_answer_is_too_old_has_not_answered():
    policy = begun()
    size(policy, reading(5.0, stats_age_s=300.0))
    assert np.isnan(size(policy, reading(10.0, stats_age_s=301.0)))
    assert size(policy, reading(15.0, stats_age_s=300.0)) == 3800.0
    impatient = begun(patience_s=10.0)
    size(impatient, reading(5.0))
    assert np.isnan(size(impatient, reading(10.0, stats_age_s=11.0)))


def test_a_machine_without_a_minimum_has_one_of_nothing():
    policy = begun()
    size(policy, reading(5.0, min_mib=np.nan))
    assert size(policy, reading(10.0, min_mib=np.nan)) == 3800.0


def test_a_vm_that_starts_gets_a_controller_of_its_own_and_loses_it_when_it_stops():
    policy = begun(reading(0.0, running=0.0))
    for seconds in (5.0, 10.0, 15.0):
        assert np.isnan(size(policy, reading(seconds, running=0.0)))
    given = [size(policy, reading(seconds)) for seconds in (20.0, 25.0, 30.0)]
    assert np.isnan(given).tolist() == [True, True, False]
    size(policy, reading(35.0, running=0.0))
    given = [size(policy, reading(seconds)) for seconds in (40.0, 45.0, 50.0)]
    assert np.isnan(given).tolist() == [True, True, False]


def test_reset_forgets_readings_and_clock():
    policy = begun()
    for seconds in (5.0, 10.0):
        size(policy, reading(seconds, guest_committed_mib=3900.0))
    policy.reset(reading(12.0), seed=0)
    given = [size(policy, reading(seconds)) for seconds in (12.0, 17.0, 22.0)]
    assert np.isnan(given).tolist() == [True, True, False]
    assert given[2] == 3800.0


def test_the_guests_own_floor_and_the_vms_minimum_reach_the_decision():
    floor = begun()
    size(floor, reading(5.0))
    assert size(floor, reading(10.0, guest_available_mib=532.0)) == pytest.approx(3950.0)  # the floor of 4,000 is 482
    least = begun()
    size(least, reading(5.0))
    assert size(least, reading(10.0, min_mib=3900.0)) == 3900.0


def test_what_the_kernel_sets_aside_is_needed_too():
    low = {"size_mib": 1400.0, "guest_total_mib": 1024.0}
    policy = begun(set_aside_mib=100.0)
    size(policy, reading(5.0, **low))
    assert size(policy, reading(10.0, **low)) == pytest.approx(1.2 * 1332, abs=1e-5)


def test_lanes_do_not_meet():
    rng = np.random.default_rng(3)
    batch, alone = begun(reading(0.0, lanes=3)), [begun() for _ in range(3)]
    for seconds in range(0, 100, 5):
        both = reading(float(seconds), lanes=3, guest_committed_mib=rng.uniform(500.0, 4000.0, (3, 1)))
        both.host["available_mib"][:, 0] = rng.uniform(100.0, 3000.0, 3)
        together = batch.decide(both.seen_with(Visibility.P2)).memory_mib
        for lane, policy in enumerate(alone):
            one = Telemetry(both.time_s[[lane]], both.vm[[lane]], both.host[[lane]])
            np.testing.assert_array_equal(size(policy, one), together[lane, 0])


def test_a_machine_settles_where_the_original_does():
    """4,096 MiB, 500 committed, 32 used beyond: h = 1.2 (500 + 104 + h / 8) in at least 26 steps of 5 %."""
    policy, held, changes = begun(reading(0.0)), 4096.0, 0
    for seconds in range(5, 1005, 5):
        columns = {"size_mib": held, "guest_total_mib": held, "memory_mib": 4096.0, "min_mib": 0.0}
        given = size(
            policy, reading(float(seconds), guest_committed_mib=500.0, guest_available_mib=held - 532, **columns)
        )
        if not np.isnan(given):
            assert given >= 0.95 * held - 1e-6
            held, changes = given, changes + 1
    assert held == pytest.approx(1.2 * 604 / 0.85, rel=0.01)
    assert changes >= 26


def test_period_visibility_and_configuration():
    policy = make_policy(load_group("agent", "apple"))
    assert vars(policy) | UNDECLARED == vars(Apple()) | UNDECLARED
    assert (policy.period_s, policy.visibility) == (5.0, Visibility.P2)
