"""senpai.py's law against its golden sequence, against figures by hand, and against the law written out once more."""

import random

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.agents.proactive.senpai import MIB, Controlled, Law, Senpai, start, tick
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

GIB = 1 << 30
LAW = Law()


def limits(deltas_us: list[int], current_bytes: int = 4 * GIB, law: Law = LAW) -> list[int]:
    """The limit after each tick of these stall times."""
    seen, total_us, out = start(current_bytes, 0, law), 0, []
    for delta_us in deltas_us:
        total_us += delta_us
        seen = tick(seen, total_us, law)
        out.append(seen.limit_bytes)
    return out


def changes(deltas_us: list[int]) -> dict[int, int]:
    """Limits by the tick, from 1, at which they changed."""
    trace = [4 * GIB, *limits(deltas_us)]
    return {at: trace[at] for at in range(1, len(trace)) if trace[at] != trace[at - 1]}


def test_golden_sequence() -> None:
    assert changes([0] * 14 + [5000, 6000] + [0] * 7 + [100] * 7 + [300_000]) == {
        7: 4252016640,
        13: 4209496064,
        16: 4222226432,
        22: 4180000768,
        28: 4138196992,
        31: 8276393984,
    }


@pytest.mark.parametrize(
    ("stalled_us", "limit_bytes"),
    [
        (0, 262_144 - 2622),  # 1 %: 259,522.56 pages
        (1_000, 262_144 - 2622),  # a tenth of the target is still full speed
        (2_000, 262_144 - 656),  # a quarter of it: (5 / 10)^2 of 1 %, 261,488.64 pages
        (10_000, 262_144 - 27),  # at the target (1 / 10)^2 of 1 %: 262,117.8 pages
    ],
)
def test_a_probe_by_stall_time_of_the_interval(stalled_us: int, limit_bytes: int) -> None:
    """From 1 GiB, 262,144 pages, at the seventh tick; parts of a page are cut off."""
    assert limits([stalled_us, 0, 0, 0, 0, 0, 0], GIB) == [GIB] * 6 + [limit_bytes * 4096]


@pytest.mark.parametrize(
    ("stalled_us", "pages"),
    [
        (10_001, 262_799),  # (1.0001 / 20)^2: 262,144 * 1.0025005 = 262,799.49
        (100_000, 327_680),  # ten times the target: a quarter more
        (200_000, 524_288),  # 20 times: twice the limit
        (900_000, 524_288),  # and never more
    ],
)
def test_a_backoff_by_stall_time_comes_at_once(stalled_us: int, pages: int) -> None:
    assert limits([0, 0, stalled_us], GIB)[1:] == [GIB, pages * 4096]


def test_parameters_bound_both_answers() -> None:
    halved = Law(max_backoff_share=0.5)
    assert limits([100_000], GIB, halved) == [294_912 * 4096]  # half of a quarter
    assert limits([900_000], GIB, halved) == [393_216 * 4096]
    slow = Law(probe_coefficient=20_000.0)  # no stall counts as a microsecond: (10,000 / 20,000)^2 of 1 %
    assert limits([0] * 7, GIB, slow)[6] == 261_488 * 4096


def test_stalls_add_up_over_an_interval_and_are_forgotten_after_a_change() -> None:
    assert changes([0, 4000, 4000, 4000, 0]).keys() == {4}  # 12,000 us
    assert changes([0] * 6 + [0, 9000, 0, 0, 0, 0, 0, 9000, 0]).keys() == {7, 13}


def test_after_a_backoff_the_next_probe_is_six_ticks_away() -> None:
    assert changes([0, 0, 20_000] + [0] * 12).keys() == {3, 9, 15}


def test_the_limit_stays_within_its_bounds() -> None:
    assert start(50 * MIB, 0, LAW).limit_bytes == 100 * MIB
    assert start(200 * GIB, 0, LAW).limit_bytes == 100 * GIB
    assert limits([0] * 7, 100 * MIB + 8192)[-1] == 100 * MIB
    assert limits([900_000], 80 * GIB) == [100 * GIB]
    assert start(4096 * 30_000 + 4095, 0, LAW).limit_bytes == 4096 * 30_000


def test_twenty_thousand_random_ticks_equal_the_law_written_out_again() -> None:
    draw = random.Random(0)
    seen = start(3 * GIB, 0, LAW)
    total_us, limit, integral, wait = 0, 3 * GIB, 0, 6
    for _ in range(20_000):
        delta = draw.choice([0, 0, 0, 0, draw.randrange(3000), draw.randrange(12_000), draw.randrange(300_000) // 9])
        total_us += delta
        seen = tick(seen, total_us, LAW)
        integral += delta
        factor = None
        if integral > 10_000:
            factor = min((integral / 10_000 / 20) ** 2, 1.0)
        elif wait == 0:
            factor = -min((10_000 / max(integral, 1) / 10) ** 2 * 0.01, 0.01)
        if factor is None:
            wait -= 1
        else:
            limit = int(limit + limit * factor)
            limit = min(max(limit, 104_857_600), 107_374_182_400)
            limit -= limit % 4096
            integral, wait = 0, 5
        assert seen == Controlled(limit, total_us, integral, wait)


def reading(time_s: float, vms: list[dict[str, float]]) -> Telemetry:
    """One host; a VM runs unless it says otherwise."""
    vm, host = np.zeros((1, len(vms)), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["running"] = 1.0
    for index, signals in enumerate(vms):
        for name, value in signals.items():
            vm[name][0, index] = value
    return Telemetry(np.array([time_s]), vm, host)


def asked(policy: Senpai, telemetry: Telemetry) -> list[float]:
    targets = policy.decide(telemetry.seen_with(policy.visibility))
    assert targets.memory_mib is None
    assert targets.reclaim_age_s is None
    assert targets.reclaim_mib is not None
    return targets.reclaim_mib[0].tolist()


def begun(vms: int = 1) -> Senpai:
    policy = Senpai()
    policy.reset(reading(0.0, [{}] * vms), 0)
    return policy


def test_what_exceeds_the_limit_is_reclaimed_each_second() -> None:
    policy = begun()
    calm = {"resident_mib": 1000.0, "host_psi_some_s": 3.0}
    assert [asked(policy, reading(t, [calm])) for t in range(7)] == [[0.0]] * 7
    assert asked(policy, reading(7, [calm])) == [10.0]  # 256,000 pages less 1 %
    assert asked(policy, reading(8, [calm])) == [10.0]
    grown = {"resident_mib": 1100.0, "host_psi_some_s": 3.0}
    assert asked(policy, reading(9, [grown])) == [110.0]
    small = {"resident_mib": 900.0, "host_psi_some_s": 3.0}
    assert asked(policy, reading(10, [small])) == [0.0]


def test_use_is_counted_in_whole_pages() -> None:
    policy = begun()
    uneven = {"resident_mib": 1000.0 + 6145 / MIB}
    assert [asked(policy, reading(t, [uneven])) for t in range(7)] == [[0.0]] * 7
    assert asked(policy, reading(7, [uneven])) == [2561 / 256]  # 256,001 pages less 1 %: 253,440.99


def test_stall_seconds_are_counted_in_microseconds() -> None:
    policy = begun()
    asked(policy, reading(0, [{"resident_mib": 1000.0, "host_psi_some_s": 0.25}]))
    backed_off = {"resident_mib": 2000.0, "host_psi_some_s": 0.35}  # 100 ms, ten times the target: 1250 MiB
    assert asked(policy, reading(1, [backed_off])) == [750.0]


def test_a_vm_that_does_not_run_is_left_alone_and_forgotten() -> None:
    policy = begun(2)
    vm = {"resident_mib": 1000.0}
    for t in range(6):
        asked(policy, reading(t, [vm, vm]))
    stopped = asked(policy, reading(6, [vm, vm | {"running": 0.0}]))
    assert stopped[0] == 0.0
    assert np.isnan(stopped[1])
    assert asked(policy, reading(7, [vm, vm])) == [10.0, 0.0]
    assert [asked(policy, reading(t, [vm, vm]))[1] for t in range(8, 15)] == [0.0] * 6 + [10.0]


@pytest.mark.parametrize("signal", ["resident_mib", "host_psi_some_s"])
def test_a_missing_signal_skips_the_tick_and_nothing_else(signal: str) -> None:
    policy = begun()
    vm = {"resident_mib": 1000.0}
    for t in range(7):
        asked(policy, reading(t, [vm]))
    assert np.isnan(asked(policy, reading(7, [vm | {signal: np.nan}]))).all()
    assert asked(policy, reading(8, [vm])) == [10.0]


def test_reset_forgets() -> None:
    policy = begun()
    for t in range(8):
        last = asked(policy, reading(t, [{"resident_mib": 1000.0}]))
    assert last == [10.0]
    policy.reset(reading(0, [{}]), 0)
    assert [asked(policy, reading(t, [{"resident_mib": 1000.0}])) for t in range(8)] == [[0.0]] * 7 + [[10.0]]


def test_a_lane_alone_decides_the_same_bits() -> None:
    draw = np.random.default_rng(0)
    together, alone = Senpai(), Senpai()
    vm, host = np.zeros((3, 4), VM_TELEMETRY), np.zeros((3, 1), HOST_TELEMETRY)
    vm["running"] = 1.0
    together.reset(Telemetry(np.zeros(3), vm, host), 0)
    alone.reset(Telemetry(np.zeros(1), vm[1:2], host[1:2]), 0)
    for t in range(60):
        vm["resident_mib"] = draw.uniform(500.0, 3000.0, (3, 4))
        vm["host_psi_some_s"] += draw.choice([0.0, 0.0, 0.002, 0.05], (3, 4))
        of_all = together.decide(Telemetry(np.full(3, t), vm, host)).reclaim_mib
        of_one = alone.decide(Telemetry(np.full(1, t), vm[1:2], host[1:2])).reclaim_mib
        assert of_all is not None
        np.testing.assert_array_equal(of_all[1:2], of_one)


def test_the_shipped_configuration_is_the_originals_and_looks_every_second() -> None:
    policy = make_policy(load_group("agent", "senpai"))
    assert isinstance(policy, Senpai)
    assert policy.law == Senpai().law == Law(6, 10_000, 0.01, 1.0, 10, 20, 104_857_600, 107_374_182_400)
    assert (policy.period_s, policy.visibility) == (1.0, Visibility.P0)
