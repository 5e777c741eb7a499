"""hypeman: watermarks, the total that is no difference, the split, steps, and where its loop and a mended one end."""

import numpy as np
import pytest

from hvgym.agents.hypervisors.hypeman import (
    MIB,
    BalloonVm,
    Config,
    Hypeman,
    Sample,
    floor,
    plan,
    step,
    total_reclaim,
    under_pressure,
)
from hvgym.agents.policy import make_policy
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""

GIB = 1024 * MIB
CONFIG = Config()


@pytest.mark.parametrize(
    ("before", "percent", "stressed", "after"),
    [
        (False, 9.0, False, True), (False, 10.0, False, True), (False, 10.9, False, False), (False, 50.0, True, True),
        (True, 12.0, False, True), (True, 14.9, False, True), (True, 15.0, False, False), (True, 16.0, True, True),
    ],
)  # fmt: skip
def test_pressure_begins_at_10_percent_or_a_stall_and_ends_at_15_without(before, percent, stressed, after):
    sample = Sample(1000 * MIB, int(percent * 10) * MIB, stressed)
    assert under_pressure(before, sample, CONFIG) is after


@pytest.mark.parametrize(
    ("pressure", "available", "stressed", "out", "as_coded", "mended"),
    [
        (True, 8, False, 0, 7, 7),
        (True, 12, False, 4, 3, 7),  # as coded, what is out already is handed back
        (True, 16, True, 4, 4, 4),
        (True, 16, False, 4, 0, 3),
        (True, 14, True, 4, 1, 5),
        (False, 8, False, 0, 0, 0),
        (False, 12, False, 4, 0, 4),
        (False, 18, False, 4, 0, 1),
        (False, 40, False, 4, 0, 0),
    ],
)
def test_totals_of_a_host_of_100_gib(pressure, available, stressed, out, as_coded, mended):
    sample = Sample(100 * GIB, available * GIB, stressed)
    assert total_reclaim(pressure, sample, out * GIB, CONFIG) == as_coded * GIB
    assert total_reclaim(pressure, sample, out * GIB, CONFIG, fixed=True) == mended * GIB


def test_a_single_missing_byte_counts_and_none_at_the_watermark_is_a_surplus():
    at = Sample(100 * GIB, 15 * GIB, True)
    assert total_reclaim(True, Sample(at.total, at.available - 1, True), 4, CONFIG) == 1
    assert total_reclaim(True, at, 4, CONFIG) == 4


def test_defaults_in_bytes():
    assert (CONFIG.floor_min, CONFIG.min_adjustment, CONFIG.max_step) == (536870912, 67108864, 268435456)


@pytest.mark.parametrize(("assigned", "least"), [(4096, 2048), (1024, 512), (800, 512), (300, 300)])
def test_a_vm_keeps_half_and_512_mib(assigned, least):
    assert floor(assigned * MIB, CONFIG) == least * MIB


def test_the_split_is_by_headroom():
    """768 MiB of 1 and 2 GiB, with room for 512 and 1,024."""
    assert plan([1024 * MIB, 2048 * MIB], 768 * MIB, CONFIG) == [768 * MIB, 1536 * MIB]


@pytest.mark.parametrize(
    ("assigned_mib", "reclaim", "gives"),
    [([1024, 4096, 4096], 10, [2, 4, 4]), ([512, 4096, 4096], 3, [0, 2, 1]), ([4096, 4096, 4096], 8, [4, 2, 2])],
)
def test_the_rest_of_the_division_comes_from_the_first_with_room(assigned_mib, reclaim, gives):
    """Shares of whole bytes are 1, 4 and 4; 0, 1 and 1; 2, 2 and 2."""
    assigned = [size * MIB for size in assigned_mib]
    assert [a - b for a, b in zip(assigned, plan(assigned, reclaim, CONFIG), strict=True)] == gives


def test_no_vm_gives_more_than_its_room():
    assert plan([512 * MIB + 3] * 3, 8, CONFIG) == [512 * MIB, 512 * MIB, 512 * MIB + 1]


def test_nothing_is_split_without_room_or_need():
    assert plan([], 5, CONFIG) == []
    assert plan([512 * MIB], 5, CONFIG) == [512 * MIB]
    assert plan([1024 * MIB], 0, CONFIG) == plan([1024 * MIB], -5, CONFIG) == [1024 * MIB]


def test_thousands_of_splits_give_what_is_asked_within_floors_and_in_proportion():
    rng = np.random.default_rng(1)
    for _ in range(3000):
        assigned = [int(size) for size in rng.integers(256 * MIB, 32 * GIB, int(rng.integers(1, 9)))]
        room = [size - floor(size, CONFIG) for size in assigned]
        reclaim = int(rng.uniform(0.0, 1.3) * sum(room))
        given = [size - one for size, one in zip(assigned, plan(assigned, reclaim, CONFIG), strict=True)]
        assert sum(given) == min(reclaim, sum(room))
        for one, most in zip(given, room, strict=True):
            assert 0 <= one <= most
            if sum(room):
                assert abs(one - min(reclaim, sum(room)) * most / sum(room)) < len(assigned) + 1


@pytest.mark.parametrize(
    ("target", "planned", "since", "expected"),
    [
        (4000, 3900, 5.0, 3900),
        (4000, 3900, 4.9, 4000),  # cooldown
        (4000, 3936, 9.0, 3936),
        (4000, 3937, 9.0, 4000),  # less than 64
        (4000, 3000, 9.0, 3744),  # 256 a step
        (3000, 4000, 9.0, 3256),
        (3000, 3050, 9.0, 3000),
        (2100, 1900, 9.0, 2048),  # the floor
        (2000, 2040, 9.0, 2048),  # below the floor it is lifted even so
        (4090, 5000, 9.0, 4096),
    ],
)
def test_steps_of_a_vm_of_4096_mib(target, planned, since, expected):
    assert step(BalloonVm(4096 * MIB, target * MIB), planned * MIB, since, CONFIG) == expected * MIB


def loop(fixed, out_mib, seconds=600, need_mib=94_208.0):
    """A host of 100 GiB whose one VM of 64 GiB gives at once what it is asked for; MiB out at each poll."""
    policy, size, seen = Hypeman(fixed=fixed), 65536.0 - out_mib, []
    policy.reset(reading(0.0), seed=0)
    for now in range(0, seconds, 2):
        out = 65536.0 - size
        seen.append(out)
        target = asked(policy, reading(float(now), 102_400.0 - need_mib + out, target_mib=size))
        size = size if np.isnan(target) else target
    return seen


def asked(policy, telemetry):
    return float(policy.decide(telemetry.seen_with(policy.visibility)).memory_mib[0, 0])


def reading(seconds, available=10_000.0, psi=0.0, lanes=1, **columns):
    rows, host = np.zeros((lanes, 1), VM_TELEMETRY), np.zeros((lanes, 1), HOST_TELEMETRY)
    given = {"memory_mib": 65536.0, "target_mib": 65536.0, "running": 1.0} | columns
    for name, value in given.items():
        rows[name] = value
    host["total_mib"], host["available_mib"], host["psi_some10"] = 102_400.0, available, psi
    return Telemetry(np.full(lanes, seconds), rows, host)


def test_as_coded_the_loop_stops_half_way_or_swings_about_there():
    """7,168 MiB are missing of 15 %. From 0 in steps of 256 it stops at 3,584; from 154 it swings by 2 * 102."""
    assert set(loop(False, 0.0)[-20:]) == {3584.0}
    assert set(loop(False, 154.0)[-20:]) == {3482.0, 3686.0}


def test_mended_it_reaches_the_watermark_and_stays():
    assert set(loop(True, 0.0)[-20:]) == {7168.0}


def test_mended_it_hands_back_only_the_surplus():
    """Of 15,360 MiB that shall be available 1,000 are missing when 88,040 are needed (it stops 24 above, too few for a
    step), and none when 80,000 are.
    """
    assert set(loop(True, 7168.0, need_mib=88_040.0)[-20:]) == {1024.0}
    assert set(loop(True, 3000.0, need_mib=80_000.0)[-20:]) == {0.0}


def test_a_vm_moves_at_most_each_6_s_of_polls_of_2():
    moved = np.flatnonzero(np.diff(loop(False, 0.0, seconds=40)))
    assert np.diff(moved).tolist() == [3] * (len(moved) - 1)


def test_a_stall_counts_from_the_second_decimal_of_a_percent():
    policy = Hypeman()
    policy.reset(reading(0.0), seed=0)
    quiet = {"available": 50_000.0, "target_mib": 65_000.0}
    assert asked(policy, reading(0.0, psi=0.00009, **quiet)) == 65_256.0
    policy.reset(reading(0.0), seed=0)
    assert np.isnan(asked(policy, reading(0.0, psi=0.0001, **quiet)))


def test_targets_beyond_the_vm_are_not_reclaim():
    policy = Hypeman()
    policy.reset(reading(0.0), seed=0)
    assert np.isnan(asked(policy, reading(0.0, 50_000.0, psi=0.5, target_mib=70_000.0)))


def two(seconds, available, running):
    rows, host = np.zeros((1, 2), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    rows["memory_mib"], rows["target_mib"], rows["running"] = 8192.0, 8192.0, running
    host["total_mib"], host["available_mib"] = 102_400.0, available
    return Telemetry(np.array([seconds]), rows, host)


def test_vms_that_do_not_run_give_nothing_and_have_no_cooldown():
    policy = Hypeman()
    policy.reset(two(0.0, 15_000.0, 1.0), seed=0)
    given = policy.decide(two(0.0, 10_240.0, [[1.0, 0.0]])).memory_mib
    np.testing.assert_array_equal(given, [[7936.0, np.nan]])
    policy.decide(two(2.0, 10_240.0, 0.0))
    given = policy.decide(two(4.0, 10_240.0, 1.0)).memory_mib
    np.testing.assert_array_equal(given, [[7936.0, 7936.0]])


def test_reset_forgets_pressure_and_cooldown():
    policy = Hypeman()
    policy.reset(reading(0.0), seed=0)
    assert asked(policy, reading(0.0, 9000.0)) == 65_280.0
    policy.reset(reading(0.0), seed=0)
    assert np.isnan(asked(policy, reading(1.0, 12_000.0)))
    assert asked(policy, reading(2.0, 9000.0)) == 65_280.0


def test_pressure_lasts_between_the_watermarks():
    policy = Hypeman()
    policy.reset(reading(0.0), seed=0)
    asked(policy, reading(0.0, 9000.0))
    assert asked(policy, reading(6.0, 12_000.0)) == 65_280.0


def test_lanes_do_not_meet():
    rng = np.random.default_rng(2)
    batch, alone = Hypeman(), [Hypeman() for _ in range(3)]
    batch.reset(reading(0.0, lanes=3), seed=0)
    for policy in alone:
        policy.reset(reading(0.0), seed=0)
    for seconds in range(0, 80, 2):
        both = reading(float(seconds), lanes=3, target_mib=rng.uniform(40_000.0, 65_000.0, (3, 1)))
        both.host["available_mib"][:, 0] = rng.uniform(5000.0, 20_000.0, 3)
        together = batch.decide(both).memory_mib
        for lane, policy in enumerate(alone):
            one = Telemetry(both.time_s[[lane]], both.vm[[lane]], both.host[[lane]])
            np.testing.assert_array_equal(asked(policy, one), together[lane, 0])


def test_period_visibility_and_configuration():
    policy = make_policy(load_group("agent", "hypeman"))
    assert vars(policy) | UNDECLARED == vars(Hypeman()) | UNDECLARED
    assert policy.config == Config()
    assert (policy.period_s, policy.visibility, policy.fixed) == (2.0, Visibility.P0, False)


def test_settings_reach_the_controller():
    assert Hypeman(11, 16, 40, 256, 32, 128, 7.0).config == Config(11, 16, 40, 256 * MIB, 32 * MIB, 128 * MIB, 7.0)
