"""MOM's rules against outputs of its own engine, against sums done by hand, and against its rules written out plainly."""

import itertools
import math
import random

import numpy as np
import pytest

from hvgym.agents.hypervisors.mom import (
    Guest,
    Mom,
    Rules,
    balloon,
    grow,
    guarantee,
    large_enough,
    needed,
    scaled_free_share,
    shrink,
)
from hvgym.agents.policy import make_policy
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

VDSM, UPSTREAM = Rules(), Rules(scaled_growth=False)


def guest(minimum: float, size: float, maximum: float, free: float | None) -> Guest:
    """A guest that has been as it is for as long as anybody looked."""
    return Guest(minimum, maximum, size, size, free)


GUESTS = [
    guest(1024, 4096, 4096, 2000),
    guest(1024, 4096, 4096, 300),
    guest(1024, 3000, 4096, 100),
    guest(2048, 2048, 8192, 50),
    guest(2048, 4000, 8192, 3000),
]
"""Of the golden table; MiB."""

PRESSED = {
    0.1999: [3891.2, None, None, None, 3800],
    0.10: [3891.2, None, None, None, 3800],
    0.06: [3891.2, 4041.76, None, None, 3800],
    0.05: [3891.2, 3891.2, 2900, None, 3800],
    0.02: [3891.2, 3891.2, 2850, None, 3800],
}


def answers(host_free: float, rules: Rules) -> list[float | None]:
    return [balloon(one, host_free, rules) for one in GUESTS]


@pytest.mark.parametrize(
    ("host_free", "expected"),
    [*PRESSED.items(), (0.50, [None, None, 3500, 2407.6, 4200]), (0.25, [None, None, 3500, 2407.6, 4200])],
)
def test_golden_table_of_upstream(host_free: float, expected: list[float | None]) -> None:
    assert answers(host_free, UPSTREAM) == expected


@pytest.mark.parametrize(
    ("host_free", "expected"),
    [*PRESSED.items(), (0.50, [None, None, 4096, 3022, 4200]), (0.25, [None, None, 3650, 2510, 4200])],
)
def test_golden_table_of_vdsm(host_free: float, expected: list[float | None]) -> None:
    assert answers(host_free, VDSM) == expected


def test_the_free_share_equals_the_hosts_and_jumps_from_a_twentieth_to_nothing() -> None:
    assert [scaled_free_share(share, VDSM) for share in (0.5, 0.2, 0.1)] == [0.5, 0.2, 0.1]
    assert scaled_free_share(0.0500001, VDSM) == pytest.approx(0.0500001)
    assert scaled_free_share(0.05, VDSM) == 0.0
    assert scaled_free_share(0.02, VDSM) == pytest.approx(-0.03)
    assert scaled_free_share(0.1, Rules(min_guest_free=0.4, pressure_threshold=0.1)) == 0.4
    assert scaled_free_share(0.1, Rules(pressure_critical=0.15)) == pytest.approx(-0.05)


def test_what_a_guest_needs_is_what_it_used_on_average_and_a_share_of_its_size_now() -> None:
    """1100 less 400 and a tenth of 1000."""
    one = Guest(500, 2000, 1000, 1100, 400)
    assert needed(one, 400, 0.1) == 800
    assert needed(one, 400, -0.3) == 500


def test_a_change_must_be_more_than_a_quarter_of_a_percent() -> None:
    one = guest(0, 4000, 8000, 0)
    assert [large_enough(one, size, VDSM) for size in (3989.9, 3990, 4000, 4010, 4010.1)] == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_a_guest_is_never_shrunk_to_more_than_it_has() -> None:
    assert shrink(guest(1024, 3000, 4096, 100), 100, 0.1, VDSM) is None
    assert shrink(guest(3100, 3000, 4096, 2000), 2000, 0.1, VDSM) is None


def test_a_step_too_small_is_not_sent() -> None:
    """It uses 2700 of 3000 and should have 298.5 free: 1.5 away from here, 7.5 would do."""
    assert shrink(guest(1024, 3000, 4096, 300), 300, 0.0995, VDSM) is None
    assert shrink(guest(1024, 3000, 4096, 300), 300, 0.0973, VDSM) == pytest.approx(2991.9)
    assert grow(guest(1024, 4090, 4096, 300), 300, 0.5, VDSM) is None
    assert grow(guest(1024, 4085, 4096, 300), 300, 0.5, VDSM) == 4096


def test_a_full_grown_guest_does_not_grow() -> None:
    assert grow(guest(1024, 4096, 4096, 0), 0, 0.5, VDSM) is None
    assert grow(guest(1024, 5000, 4096, 0), 0, 0.5, VDSM) is None


def test_at_a_fifth_free_guests_grow_and_below_they_shrink() -> None:
    one = guest(1024, 3000, 4096, 2000)
    assert (balloon(one, 0.2, UPSTREAM), balloon(one, 0.19999, UPSTREAM)) == (3150, 2850)


def test_disabled_it_only_grows() -> None:
    """By 5 % or to what is used and the scaled share, even amid pressure."""
    rules = Rules(enabled=False)
    assert balloon(guest(1024, 3000, 4096, 2000), 0.01, rules) == 3150
    assert balloon(guest(1024, 3000, 4096, 2000), 0.3, rules) == 3150


def test_a_guarantee_overrides_and_needs_no_statistics() -> None:
    assert guarantee(guest(1024, 1000, 4096, None)) == 1024
    assert guarantee(guest(1024, 1024, 4096, None)) is None
    for free in (None, 0.0, 900.0):
        for host_free in (0.01, 0.5):
            assert balloon(guest(1024, 1000, 4096, free), host_free, VDSM) == 1024


def test_a_guest_without_statistics_is_left_alone() -> None:
    assert balloon(guest(1024, 3000, 4096, None), 0.01, VDSM) is None
    assert balloon(guest(1024, 3000, 4096, None), 0.5, VDSM) is None


def test_any_guest_gets_what_the_rules_written_out_say() -> None:
    def rules_in_plain_words(g: Guest, h: float, vdsm: bool) -> float | None:
        control = None
        if g.mean_free is not None:
            used = g.mean_size - g.mean_free
            scaled = -0.05 + h if h <= 0.05 else 0.20 * (h / 0.20)
            if h < 0.20:
                floor = max(g.minimum, used + scaled * g.size)
                size = g.size * (1 - 0.05)
                if size < floor:
                    size = floor
                if size <= g.size and abs(size - g.size) > 0.0025 * g.size:
                    control = size
            elif g.size < g.maximum:
                floor = max(g.minimum, used + (scaled if vdsm else 0.20) * g.size)
                size = g.size * (1 + 0.05)
                if size < floor:
                    size = floor
                if size > g.maximum:
                    size = g.maximum
                if abs(size - g.size) > 0.0025 * g.size:
                    control = size
        return g.minimum if g.size < g.minimum else control

    draw = random.Random(2)
    for _ in range(20_000):
        maximum = draw.uniform(512, 20_000)
        size, minimum = draw.uniform(0.3, 1.0) * maximum, draw.uniform(0.0, 0.6) * maximum
        mean = size * draw.uniform(0.9, 1.1)
        free = None if draw.random() < 0.05 else draw.uniform(0.0, 1.0) * mean
        one, host_free = Guest(minimum, maximum, size, mean, free), draw.choice([draw.uniform(0.0, 0.3), 0.05, 0.2])
        assert balloon(one, host_free, VDSM) == rules_in_plain_words(one, host_free, True)
        assert balloon(one, host_free, UPSTREAM) == rules_in_plain_words(one, host_free, False)


CLOCK_S = itertools.count(0, 15)


def reading(
    available: float, sizes: list[float], free: list[float], time_s: float | None = None, total: float = 10_000.0
) -> Telemetry:
    """One host of `total` MiB with VMs of 1 to 4 GiB, 15 s after the one before."""
    vm, host = np.zeros((1, len(sizes)), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["min_mib"], vm["memory_mib"], vm["running"] = 1024.0, 4096.0, 1.0
    vm["size_mib"], vm["guest_free_mib"] = sizes, free
    host["total_mib"], host["available_mib"] = total, available
    return Telemetry(np.array([float(next(CLOCK_S)) if time_s is None else time_s]), vm, host)


def made(name: str, vms: int = 2, **changes: object) -> Mom:
    policy = make_policy(load_group("agent", name) | changes)
    assert isinstance(policy, Mom)
    policy.reset(reading(0.0, [4096.0] * vms, [0.0] * vms), 0)
    return policy


def sizes(policy: Mom, telemetry: Telemetry) -> list[float]:
    asked = policy.decide(telemetry).memory_mib
    assert asked is not None
    return asked[0].tolist()


def scan(policy: Mom, telemetry: Telemetry) -> float:
    rates = policy.decide(telemetry).scan_pages_per_s
    assert rates is not None
    return float(rates[0, 0])


def test_both_keep_the_periods_of_their_originals_and_see_balloon_statistics() -> None:
    assert (made("mom_vdsm").period_s, made("mom_upstream").period_s) == (15.0, 5.0)
    assert made("mom_vdsm").visibility == Visibility.P1


def test_vdsm_decides_at_every_sample_and_upstream_at_every_second() -> None:
    for name, step_s, expected in (("mom_vdsm", 15.0, [True] * 4), ("mom_upstream", 5.0, [True, False, True, False])):
        policy = made(name)
        readings = [reading(500.0, [4096.0] * 2, [2000.0] * 2, step_s * i) for i in range(4)]
        assert [not math.isnan(sizes(policy, one)[0]) for one in readings] == expected, name


def test_targets_are_whole_kib_cut_as_by_the_controller() -> None:
    """4096 MiB less 5 % is 3,984,588.8 KiB."""
    asked = sizes(made("mom_vdsm"), reading(1500.0, [4096.0, 3000.0], [2000.0, 100.0]))
    assert asked[0] * 1024 == 3_984_588
    assert math.isnan(asked[1])


def test_the_engines_period_is_configured() -> None:
    policy = made("mom_upstream", engine_s=20)
    asked = [sizes(policy, reading(500.0, [4096.0] * 2, [2000.0] * 2, 5.0 * i))[0] for i in range(5)]
    assert [not math.isnan(size) for size in asked] == [True, False, False, False, True]


def test_the_host_is_judged_by_the_mean_of_its_last_ten_samples() -> None:
    """Ten samples at half the host, then samples at nothing: a tenth of the mean goes each time."""
    policy = made("mom_vdsm")
    for _ in range(12):
        sizes(policy, reading(5000.0, [3000.0] * 2, [2000.0] * 2))
    seen = [sizes(policy, reading(0.0, [3000.0] * 2, [2000.0] * 2))[0] for _ in range(8)]
    assert seen == [3150.0] * 6 + [2850.0] * 2  # 0.5 falls to 0.2 with the sixth and below with the seventh


def test_a_guest_is_judged_by_its_mean_use_and_its_size_now() -> None:
    """It used 1000 of 3000, then 1800 of 2000: 1400 on average, and half of its 2000 is to be free."""
    policy = made("mom_vdsm")
    sizes(policy, reading(5000.0, [3000.0, 4096.0], [2000.0, 0.0]))
    assert sizes(policy, reading(5000.0, [2000.0, 4096.0], [200.0, 0.0]))[0] == 2400.0


def test_the_eleventh_sample_of_a_guest_is_forgotten() -> None:
    """Half of 2000 is to be free. It once had 3000 and used none, then uses 1600 of 2000."""
    policy = made("mom_vdsm")
    sizes(policy, reading(5000.0, [3000.0, 4096.0], [3000.0, 0.0]))
    seen = [sizes(policy, reading(5000.0, [2000.0, 4096.0], [400.0, 0.0]))[0] for _ in range(10)]
    assert seen[-2:] == [1440.0 + 1000.0, 1600.0 + 1000.0]  # a tenth of the mean used nothing


def test_samples_without_free_memory_leave_the_guest_alone_and_do_not_count_later() -> None:
    policy = made("mom_vdsm")
    assert math.isnan(sizes(policy, reading(5000.0, [2000.0, 4096.0], [math.nan, 0.0]))[0])
    assert math.isnan(sizes(policy, reading(5000.0, [2000.0, 4096.0], [math.nan, 0.0]))[0])
    assert sizes(policy, reading(5000.0, [2000.0, 4096.0], [400.0, 0.0]))[0] == 2600.0  # 1600 used, 1000 to be free
    assert math.isnan(sizes(policy, reading(5000.0, [2000.0, 4096.0], [math.nan, 0.0]))[0])


def test_a_guest_below_its_guarantee_gets_it_even_without_statistics() -> None:
    assert sizes(made("mom_vdsm"), reading(100.0, [1000.0, 4096.0], [math.nan, 0.0]))[0] == 1024.0


def test_upstream_does_not_know_a_guest_that_reports_too_little() -> None:
    """Its collectors demand all statistics, so there is no guest to guarantee anything to."""
    policy = made("mom_upstream")
    assert math.isnan(sizes(policy, reading(100.0, [1000.0, 4096.0], [math.nan, 0.0], 0.0))[0])
    assert sizes(policy, reading(100.0, [1000.0, 4096.0], [10.0, 0.0], 10.0))[0] == 1024.0


@pytest.mark.parametrize(("agent", "mean_size"), [("mom_vdsm", 7000.0 / 3), ("mom_upstream", 2500.0)])
def test_a_sample_without_statistics_counts_in_the_mean_of_sizes_for_vdsm_only(agent: str, mean_size: float) -> None:
    """Sizes of 3000, 2000 and 2000, the second without free memory; half of the host is free, the guest 100 of 2000."""
    policy = made(agent)
    for size, free, time_s in ((3000.0, 100.0, 0.0), (2000.0, math.nan, 30.0), (2000.0, 100.0, 60.0)):
        asked = sizes(policy, reading(5000.0, [size, 4096.0], [free, 0.0], time_s))[0]
    share = 0.5 if agent == "mom_vdsm" else 0.2
    assert asked == int(1024 * max(1.05 * 2000.0, mean_size - 100.0 + share * 2000.0)) / 1024


def test_frozen_statistics_count_as_if_they_were_new() -> None:
    new, old = made("mom_vdsm"), made("mom_vdsm")
    for time_s in (0.0, 15.0, 30.0):
        fresh = reading(800.0, [3000.0, 3000.0], [1000.0, 500.0], time_s)
        frozen = reading(800.0, [3000.0, 3000.0], [1000.0, 500.0], time_s)
        frozen.vm["stats_age_s"] = 3600.0
        assert sizes(old, frozen) == sizes(new, fresh) == [2850.0, 2850.0]


def test_no_guarantee_is_one_of_nothing() -> None:
    """A tenth of the host is free: a guest with free memory gives 5 %, one that needs 2990 and a tenth of 3000 nothing."""
    for least in (0.0, math.nan):
        seen = reading(1000.0, [3000.0, 3000.0], [2900.0, 10.0], 0.0)
        seen.vm["min_mib"] = least
        np.testing.assert_array_equal(sizes(made("mom_vdsm"), seen), [2850.0, math.nan])


def test_a_vm_without_a_balloon_or_not_running_is_not_acted_on_and_a_start_begins_anew() -> None:
    policy = made("mom_vdsm")
    assert math.isnan(sizes(policy, reading(5000.0, [math.nan, 4096.0], [1000.0, 0.0]))[0])
    policy = made("mom_vdsm")
    stopped = reading(5000.0, [2000.0, 4096.0], [400.0, 0.0])
    sizes(policy, reading(5000.0, [2000.0, 4096.0], [2000.0, 0.0]))
    stopped.vm["running"][0, 0] = 0.0
    assert math.isnan(sizes(policy, stopped)[0])
    assert sizes(policy, reading(5000.0, [2000.0, 4096.0], [400.0, 0.0]))[0] == 2600.0  # and not what both mean


def test_a_balloon_that_was_away_does_not_count_in_the_mean() -> None:
    policy = made("mom_vdsm")
    sizes(policy, reading(5000.0, [2000.0, 4096.0], [400.0, 0.0]))
    sizes(policy, reading(5000.0, [math.nan, 4096.0], [400.0, 0.0]))
    assert sizes(policy, reading(5000.0, [2000.0, 4096.0], [400.0, 0.0]))[0] == 2600.0


def test_a_reset_forgets_and_hosts_of_a_batch_do_not_touch_each_other() -> None:
    alone = [sizes(made("mom_vdsm"), reading(free, [3000.0] * 2, [1500.0] * 2)) for free in (5000.0, 600.0, 100.0)]
    policy, lanes = made("mom_vdsm"), [reading(free, [3000.0] * 2, [1500.0] * 2) for free in (5000.0, 600.0, 100.0)]
    batch = Telemetry(*(np.concatenate([getattr(one, part) for one in lanes]) for part in ("time_s", "vm", "host")))
    for _ in range(2):
        policy.reset(batch, 0)
        targets = policy.decide(batch)
        assert targets.memory_mib is not None
        np.testing.assert_array_equal(targets.memory_mib, alone)
        policy.decide(Telemetry(batch.time_s, batch.vm[::-1], batch.host[::-1]))


def test_page_sharing_stops_where_all_vms_fit_with_a_fifth_to_spare() -> None:
    """Of 10,000 MiB, 2,000 are kept; two VMs have 8,192 MiB of addresses, whatever their balloons took."""
    for total, runs in ((10_241.0, False), (10_239.0, True)):
        policy = made("mom_vdsm")
        rate = scan(policy, reading(5000.0, [1024.0] * 2, [500.0] * 2, total=total))
        assert (rate > 0.0) == runs


def test_overhead_counts_as_addresses_and_a_vm_that_does_not_run_does_not() -> None:
    telemetry = reading(5000.0, [1024.0] * 2, [500.0] * 2, total=10_241.0)
    telemetry.vm["overhead_mib"] = 1.0
    assert scan(made("mom_vdsm"), telemetry) > 0.0
    telemetry.vm["running"][0, 1] = 0.0
    assert scan(made("mom_vdsm"), telemetry) == 0.0


def test_its_batch_starts_from_the_kernels_100_pages() -> None:
    """10,000 MiB sleep 16 ms (16.384, cut); pressed it adds 300, else it takes 50, and the mean decides."""
    policy = made("mom_vdsm", 3)
    rates = [scan(policy, reading(free, [4096.0] * 3, [0.0] * 3)) for free in (1500.0, 1500.0, 4500.0, 500.0)]
    assert [rate * 0.016 for rate in rates] == pytest.approx([400, 700, 650, 600])  # means 1500, 1500, 2500, 2000
    fresh = made("mom_vdsm", 3)
    assert scan(fresh, reading(3000.0, [4096.0] * 3, [0.0] * 3)) * 0.016 == pytest.approx(64)


def test_a_stop_keeps_the_batch() -> None:
    policy = made("mom_vdsm", history=1)
    hosts = ((500.0, 10_000.0), (9000.0, 11_000.0), (500.0, 10_000.0))
    rates = [scan(policy, reading(free, [4096.0] * 2, [0.0] * 2, total=total)) for free, total in hosts]
    assert [rate * 0.016 for rate in rates] == pytest.approx([400, 0, 700])


def test_without_its_page_sharing_it_leaves_the_scanner_alone() -> None:
    assert made("mom_vdsm", ksm=False).decide(reading(500.0, [4096.0] * 2, [0.0] * 2)).scan_pages_per_s is None
    assert made("mom_upstream").decide(reading(500.0, [4096.0] * 2, [0.0] * 2)).scan_pages_per_s is None
    beside = made("mom_upstream", 3, ksm=True)
    assert scan(beside, reading(500.0, [4096.0] * 3, [0.0] * 3, 0.0)) > 0.0
    assert math.isnan(scan(beside, reading(500.0, [4096.0] * 3, [0.0] * 3, 5.0)))  # no decision, no change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 2850.0),
        ({"enabled": False}, 3150.0),
        ({"enabled": False, "max_change": 0.1}, 3300.0),
        ({"pressure_threshold": 0.1}, 3150.0),
        ({"pressure_critical": 0.15, "max_change": 0.9}, 1349.9990234375),  # 1500 used, less 0.05 of 3000
        ({"min_guest_free": 0.9}, 2850.0),
        ({"min_guest_free": 0.9, "max_change": 0.3}, 2850.0),  # 1500 used and 0.45 of 3000
        ({"max_change": 0.1}, 2700.0),
        ({"min_change": 0.06}, math.nan),
    ],
)
def test_every_constant_of_the_configuration_counts(change: dict[str, float], expected: float) -> None:
    """A tenth of the host free; 3000 MiB of which half are used."""
    asked = sizes(made("mom_vdsm", **change), reading(1000.0, [3000.0] * 2, [1500.0] * 2))[0]
    assert asked == pytest.approx(expected, abs=1e-3, nan_ok=True)


def test_the_default_is_vdsms() -> None:
    given = vars(made("mom_vdsm"))
    assert vars(Mom()) == {key: value for key, value in given.items() if key not in ("lanes", "declaration")}


def test_a_key_that_it_does_not_know_is_named() -> None:
    with pytest.raises(InputError, match="presure_critical"):
        make_policy(load_group("agent", "mom_vdsm") | {"presure_critical": 0.05})
