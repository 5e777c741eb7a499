"""Self-ballooning against sums done by hand from the driver's arithmetic, and against that arithmetic written out in C's way."""

import math
import random

import numpy as np
import pytest

from hvgym.agents.hypervisors.selfballoon import SelfBalloon, floor_pages, reserve_pages, target_pages
from hvgym.agents.policy import make_policy
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""

MIB = 256
"""In pages."""


@pytest.mark.parametrize(
    ("usable", "expected"),
    [
        (10, 10),  # not worth it
        (16, 16),  # 16 and half of nothing
        (16.5, 16.25),
        (32, 24),
        (64, 43),  # 40 and an eighth of 24
        (104, 48),
        (512, 99 + 413 / 32),
        (1123, 131),
        (4195, 227),
    ],
)
def test_the_floor_by_usable_memory(usable: float, expected: float) -> None:
    assert floor_pages(int(usable * MIB), 0) == int(expected * MIB)


@pytest.mark.parametrize(
    ("edge", "below", "above"),
    [
        (16, 16 * MIB - 1, 16 * MIB),
        (64, 16 * MIB + 24 * MIB - 1, 43 * MIB),
        (512, 99 * MIB - 1, 99 * MIB + 413 * MIB // 32),
    ],
)
def test_the_pieces_of_the_floor_meet_at_16_64_and_512_mib(edge: int, below: int, above: int) -> None:
    assert (floor_pages(edge * MIB - 1, 0), floor_pages(edge * MIB, 0)) == (below, above)


def test_the_reserve_is_taken_from_usable_memory_and_added_to_the_floor() -> None:
    assert floor_pages(32 * MIB + 1000, 1000) == 24 * MIB + 1000
    assert floor_pages(15 * MIB + 1000, 1000) == 15 * MIB + 1000


@pytest.mark.parametrize(("memory_mib", "expected_kib"), [(4096, 12_288), (1024, 6_144), (16_384, 24_576)])
def test_the_reserve_is_half_more_than_four_times_the_root_of_memory(memory_mib: int, expected_kib: int) -> None:
    """4 GiB: the root of 4,194,304 KiB is 2048; 8,192 KiB are least, and 12,288 the high watermark."""
    assert reserve_pages(memory_mib * MIB) * 4 == expected_kib


def test_an_eighth_of_the_way_down_and_all_of_it_up() -> None:
    """Of 4 GiB, with 1000 pages in reserve."""
    size = 500_000
    assert target_pages(size, 100_000, 1_048_576, 1000) == size - 399_000 // 8
    assert target_pages(size, 600_000, 1_048_576, 1000) == 601_000
    assert target_pages(size, 499_000, 1_048_576, 1000) == size
    assert target_pages(size, 600_000, 1_048_576, 1000, up=4) == size + 101_000 // 4
    assert target_pages(size, 100_000, 1_048_576, 1000, down=3) == size - 133_000
    assert target_pages(size, 500_000, 1_048_576, 1000, reserved=50_000) == 551_000


def test_less_than_eight_pages_too_many_stay() -> None:
    assert [target_pages(500_000, 500_000 - excess, 1_048_576, 0) for excess in (7, 8, 15)] == [
        500_000,
        499_999,
        499_999,
    ]


def test_nobody_goes_below_the_floor_even_from_below_it() -> None:
    """1123 MiB keep 131."""
    assert target_pages(140 * MIB, 0, 1123 * MIB, 0) == 131 * MIB
    assert target_pages(100 * MIB, 0, 1123 * MIB, 0) == 131 * MIB


def test_any_guest_agrees_with_the_driver_written_out() -> None:
    def driver(cur: int, committed: int, max_pfn: int, reserve: int, spare: int) -> int:
        goal, tgt = committed + reserve + spare, cur
        if cur > goal:
            tgt = cur - ((cur - goal) // 8)
        elif cur < goal:
            tgt = cur + ((goal - cur) // 1)
        useful = max_pfn - reserve
        if useful < 16 << 8:
            floor = max_pfn
        elif useful < 64 << 8:
            floor = reserve + (16 << 8) + ((useful - (16 << 8)) >> 1)
        elif useful < 512 << 8:
            floor = reserve + (40 << 8) + ((useful - (40 << 8)) >> 3)
        else:
            floor = reserve + (99 << 8) + ((useful - (99 << 8)) >> 5)
        return floor if tgt < floor else tgt

    draw = random.Random(3)
    for _ in range(20_000):
        most = draw.choice([draw.randrange(5000, 200_000), draw.randrange(5000, 8_000_000)])
        size, committed, reserve = (
            draw.randrange(most // 10, most),
            draw.randrange(2 * most),
            draw.randrange(most // 50),
        )
        spare = draw.choice([0, most // 10])
        assert target_pages(size, committed, most, reserve, spare) == driver(size, committed, most, reserve, spare)


def test_left_alone_a_guest_settles_within_seven_pages_of_its_goal() -> None:
    size, goal = 1_000_000, 300_000 + reserve_pages(1_048_576)
    for _ in range(200):
        after = target_pages(size, 300_000, 1_048_576, reserve_pages(1_048_576))
        assert goal <= after <= size
        size = after
    assert size - goal <= 7


def reading(sizes: list[float], committed: list[float]) -> Telemetry:
    """VMs of 4 GiB on one host."""
    vm = np.zeros((1, len(sizes)), VM_TELEMETRY)
    vm["memory_mib"], vm["running"], vm["size_mib"], vm["guest_committed_mib"] = 4096.0, 1.0, sizes, committed
    return Telemetry(np.zeros(1), vm, np.zeros((1, 1), HOST_TELEMETRY))


def asked(telemetry: Telemetry, **changes: float) -> list[list[float]]:
    policy = make_policy(load_group("agent", "selfballoon") | changes)
    assert isinstance(policy, SelfBalloon)
    policy.reset(telemetry, 0)
    targets = policy.decide(telemetry)
    assert targets.memory_mib is not None
    assert targets.reclaim_mib is None
    assert targets.scan_pages_per_s is None
    return targets.memory_mib.tolist()


def test_it_runs_every_5_s_and_sees_committed_memory() -> None:
    assert (SelfBalloon().period_s, SelfBalloon().visibility) == (5.0, Visibility.P2)


def test_guests_of_4_gib_keep_12_mib_in_reserve() -> None:
    """3000 MiB shrink by an eighth of 988; 1000 grow to 2012; 220 stay at the floor of 12 + 99 + 3985 / 32."""
    floor = 12 + 99 + 3985 / 32
    assert asked(reading([3000.0, 1000.0, 220.0], [2000.0, 2000.0, 0.0])) == [
        [3000.0 - 988.0 / 8, 2012.0, math.floor(floor * 256) / 256]
    ]


def test_a_tenth_of_memory_in_whole_mib_is_spared_where_asked() -> None:
    assert asked(reading([1000.0], [2000.0]), reserved_share=0.1) == [[2012.0 + 409.0]]


def test_hysteresis_is_configured() -> None:
    assert asked(reading([3000.0, 1000.0], [2000.0, 2000.0]), down_hysteresis=4, up_hysteresis=2) == [[2753.0, 1506.0]]


def test_guests_that_report_nothing_have_no_balloon_or_do_not_run_are_left_alone() -> None:
    telemetry = reading([3000.0, math.nan, 3000.0, 1000.0], [math.nan, 2000.0, 2000.0, 2000.0])
    telemetry.vm["running"][0, 2] = 0.0
    np.testing.assert_array_equal(asked(telemetry), [[np.nan, np.nan, np.nan, 2012.0]])


def test_a_guest_that_has_committed_more_than_its_memory_gets_all_of_that() -> None:
    assert asked(reading([3000.0], [9000.0])) == [[4096.0]]


def test_hosts_of_a_batch_do_not_touch_each_other() -> None:
    one, two = reading([3000.0, 1000.0], [2000.0, 2000.0]), reading([500.0, 4000.0], [3000.0, math.nan])
    batch = Telemetry(np.zeros(2), np.concatenate([one.vm, two.vm]), np.concatenate([one.host, two.host]))
    np.testing.assert_array_equal(asked(batch), asked(one) + asked(two))


def test_the_packaged_configuration_is_the_default() -> None:
    assert vars(SelfBalloon()) | UNDECLARED == vars(make_policy(load_group("agent", "selfballoon"))) | UNDECLARED
