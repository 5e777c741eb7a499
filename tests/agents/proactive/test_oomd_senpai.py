"""oomd's senpai in both modes, against sequences and figures by hand and against the law written out once more."""

import random

import numpy as np
import pytest

from hvgym.agents.policy import Policy, make_policy
from hvgym.agents.proactive.oomd_senpai import (
    ImmediateLaw,
    OomdImmediate,
    OomdSenpai,
    Pressure,
    Usage,
    lower_bytes,
    start,
    swap_is_valid,
    tick,
    tick_immediate,
)
from hvgym.agents.proactive.senpai import Controlled, Law
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

MIB, GIB = 1 << 20, 1 << 30
LAW = Law(max_bytes=10 * GIB)
ROOMY = Usage(current=4 * GIB, unreclaimable=0, protected=0, most=64 * GIB)
CALM = Pressure(0.0, 0.0)


def limits(deltas_us: list[int], usage: Usage = ROOMY) -> list[int]:
    """The limit after each look, these stall times apart."""
    seen, total_us, out = start(usage, 0, LAW), 0, []
    for delta_us in deltas_us:
        total_us += delta_us
        seen = tick(seen, usage, total_us, LAW)
        out.append(seen.limit_bytes)
    return out


def changes(deltas_us: list[int]) -> dict[int, int]:
    """Limits by the look, from 1, at which they changed."""
    trace = [4 * GIB, *limits(deltas_us)]
    return {at: trace[at] for at in range(1, len(trace)) if trace[at] != trace[at - 1]}


def test_a_sequence_by_hand_has_its_probes_seven_looks_apart() -> None:
    """senpai.py's golden stalls: probes of 1 %, 11,000 us count as one target, 300,000 us double the limit."""
    assert changes([0] * 14 + [5000, 6000] + [0] * 7 + [100] * 7 + [300_000]) == {
        7: 4252016640,
        14: 4209496064,
        16: 4220018688,  # (1 / 20)^2, where senpai.py has (1.1 / 20)^2
        23: 4177817600,
        30: 4136038400,
        31: 8272076800,
    }


@pytest.mark.parametrize(
    ("stalled_us", "pages"),
    [
        (0, 259_522),  # 1 %
        (1000, 259_522),
        (1999, 261_488),  # 5.002 counts as 5: (5 / 10)^2 of 1 %
        (4000, 262_039),  # 2.5 counts as 2
        (6000, 262_117),  # 1.7 counts as 1
        (9999, 262_117),
    ],
)
def test_a_probe_by_stall_time_counts_whole_targets(stalled_us: int, pages: int) -> None:
    assert limits([stalled_us] + [0] * 6, Usage(GIB, 0, 0, 64 * GIB)) == [GIB] * 6 + [pages * 4096]


@pytest.mark.parametrize(
    ("stalled_us", "pages"),
    [
        (10_000, 262_799),  # the target itself: (1 / 20)^2
        (19_999, 262_799),
        (20_000, 264_765),  # (2 / 20)^2
        (199_999, 498_728),  # (19 / 20)^2
        (200_000, 524_288),
        (999_999, 524_288),
    ],
)
def test_a_backoff_by_stall_time_comes_at_once(stalled_us: int, pages: int) -> None:
    assert limits([0, stalled_us], Usage(GIB, 0, 0, 64 * GIB)) == [GIB, pages * 4096]


def test_parameters_bound_both_answers() -> None:
    usage = Usage(GIB, 0, 0, 64 * GIB)
    halved = Law(max_backoff_share=0.5, max_bytes=10 * GIB)
    assert tick(start(usage, 0, halved), usage, 100_000, halved).limit_bytes == 294_912 * 4096  # half of a quarter
    assert tick(start(usage, 0, halved), usage, 900_000, halved).limit_bytes == 393_216 * 4096
    slow = Law(probe_coefficient=20_000.0)  # no stall counts as a microsecond: (10,000 / 20,000)^2 of 1 %
    assert tick(Controlled(GIB, 0, 0, 0), usage, 0, slow).limit_bytes == 261_488 * 4096


def test_the_lower_bound_is_what_cannot_be_reclaimed_and_100_mib_or_the_guarantee() -> None:
    assert lower_bytes(Usage(4 * GIB, 300 * MIB, 0, 64 * GIB), 100 * MIB) == 400 * MIB
    assert lower_bytes(Usage(4 * GIB, 300 * MIB, GIB, 64 * GIB), 100 * MIB) == GIB


def test_a_limit_stays_within_bounds_of_the_present_use() -> None:
    full = Controlled(4 * GIB, 0, 0, 0)
    assert tick(full, Usage(4 * GIB, 0, 4 * GIB - 8192, 64 * GIB), 0, LAW).limit_bytes == 4 * GIB - 8192
    assert tick(full, Usage(4 * GIB, 4 * GIB, 0, 64 * GIB), 0, LAW).limit_bytes == 4 * GIB + 100 * MIB
    assert tick(full, Usage(GIB, 0, 0, 3 * GIB), 0, LAW).limit_bytes == 3 * GIB
    wide = Controlled(40 * GIB, 0, 0, 0)
    assert tick(wide, Usage(GIB, 0, 0, 64 * GIB), 0, LAW).limit_bytes == 11 * GIB
    assert tick(wide, Usage(GIB + 5, 20 * GIB + 5, 0, 64 * GIB), 0, LAW).limit_bytes == 20 * GIB + 100 * MIB


def test_ten_thousand_random_looks_equal_the_law_written_out_again() -> None:
    draw = random.Random(3)
    seen, total_us, limit, cumulative, wait = start(ROOMY, 0, LAW), 0, 4 * GIB, 0, 6
    for _ in range(10_000):
        current = draw.randrange(GIB, 8 * GIB)
        usage = Usage(current, draw.randrange(GIB // 4), draw.randrange(GIB // 2), 16 * GIB)
        delta = draw.choice([0, 0, 0, 0, draw.randrange(3000), draw.randrange(15_000), draw.randrange(300_000)])
        total_us += delta
        cumulative += delta
        seen = tick(seen, usage, total_us, LAW)
        if cumulative >= 10_000:
            factor = min((cumulative // 10_000 / 20) ** 2, 1.0)
        elif wait > 0:
            wait -= 1
            assert seen == Controlled(limit, total_us, cumulative, wait)
            continue
        else:
            factor = -min((10_000 // max(cumulative, 1) / 10) ** 2 * 0.01, 0.01)
        limit = min(int(limit + limit * factor), 16 * GIB, current + 10 * GIB)
        limit = max(limit, usage.protected, usage.unreclaimable + 100 * MIB) // 4096 * 4096
        cumulative, wait = 0, 6
        assert seen == Controlled(limit, total_us, 0, 6)


def test_immediate_backoff_takes_one_percent_of_what_lies_above_the_lower_bound() -> None:
    law, usage = ImmediateLaw(), Usage(1100 * MIB, 0, 0, 64 * GIB)
    assert tick_immediate(0, usage, CALM, None, law) == (6, 10 * MIB)
    assert tick_immediate(0, Usage(1100 * MIB, 0, 600 * MIB, 64 * GIB), CALM, None, law) == (6, 5 * MIB)
    assert tick_immediate(0, Usage(1100 * MIB, 500 * MIB, 0, 64 * GIB), CALM, None, law) == (6, 5 * MIB)
    assert tick_immediate(0, Usage(100 * MIB, 0, 0, 64 * GIB), CALM, None, law) == (0, 0)
    assert tick_immediate(0, Usage(100 * MIB + 199, 0, 0, 64 * GIB), CALM, None, law) == (6, 1)
    assert tick_immediate(0, Usage(100 * MIB + 1, 0, 0, 64 * GIB), CALM, None, law) == (6, 0)


def test_immediate_backoff_waits_six_looks_and_then_until_pressure_is_low() -> None:
    law, usage = ImmediateLaw(), Usage(1100 * MIB, 0, 0, 64 * GIB)
    ticks, acted = 6, []
    for look in range(1, 30):
        pressed = 8 <= look <= 17
        ticks, size = tick_immediate(ticks, usage, Pressure(0.1 if pressed else 0.0, 0.0), None, law)
        if size:
            acted.append(look)
    assert acted == [7, 18, 25]


@pytest.mark.parametrize(
    ("pressure", "acts"),
    [
        (Pressure(0.09, 0.09), True),
        (Pressure(0.1, 0.0), False),
        (Pressure(0.0, 0.1), False),
        (Pressure(10.0, 0.0), False),
    ],
)
def test_a_tenth_of_a_percent_of_either_pressure_holds_it_back(pressure: Pressure, acts: bool) -> None:
    assert (tick_immediate(0, ROOMY, pressure, None, ImmediateLaw())[1] > 0) == acts


@pytest.mark.parametrize(
    ("used_share", "as_coded", "fixed"),
    [(None, True, True), (0.0, False, True), (0.79, False, True), (0.8, True, False), (1.0, True, False)],
)
def test_swap_validation_as_coded_is_the_opposite_of_what_it_is_for(used_share, as_coded, fixed) -> None:
    for law, valid in (
        (ImmediateLaw(swap_validation=True), as_coded),
        (ImmediateLaw(swap_validation=True, fixed=True), fixed),
    ):
        assert swap_is_valid(used_share, law) == valid
        assert (tick_immediate(0, ROOMY, CALM, used_share, law)[1] > 0) == valid
    assert tick_immediate(0, ROOMY, CALM, used_share, ImmediateLaw())[1] > 0  # off by default


def test_thousands_of_random_looks_keep_immediate_backoff_within_bounds() -> None:
    draw = random.Random(4)
    for _ in range(5000):
        usage = Usage(draw.randrange(8 * GIB), draw.randrange(GIB), draw.randrange(2 * GIB), 64 * GIB)
        pressure = Pressure(draw.choice([0.0, draw.random() / 5]), draw.choice([0.0, draw.random() / 5]))
        ticks = draw.randrange(7)
        law = ImmediateLaw(swap_validation=draw.random() < 0.5, fixed=draw.random() < 0.5)
        after, size = tick_immediate(ticks, usage, pressure, draw.choice([None, draw.random()]), law)
        above = usage.current - max(usage.unreclaimable + 100 * MIB, usage.protected)
        assert 0 <= size <= max(0.01 * above, 0.0)
        assert after == (ticks - 1 if ticks else 6 if size else 0)


def reading(time_s: float, vms: list[dict[str, float]], **host_signals: float) -> Telemetry:
    """One host of 64 GiB with 10,000 MiB of swap; VMs run unless they say otherwise."""
    vm, host = np.zeros((1, len(vms)), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["limit_mib"] = vm["startup_mib"] = np.nan
    vm["running"] = 1.0
    for index, signals in enumerate(vms):
        for name, value in signals.items():
            vm[name][0, index] = value
    for name, value in ({"total_mib": 65_536.0, "swap_total_mib": 10_000.0} | host_signals).items():
        host[name] = value
    return Telemetry(np.array([time_s]), vm, host)


def asked(policy: Policy, telemetry: Telemetry) -> list[float]:
    targets = policy.decide(telemetry.seen_with(policy.visibility))
    assert targets.memory_mib is None
    assert targets.reclaim_age_s is None
    assert targets.reclaim_mib is not None
    return targets.reclaim_mib[0].tolist()


def begun(policy: Policy, vms: int = 1) -> Policy:
    policy.reset(reading(0.0, [{}] * vms), 0)
    return policy


VM = {"resident_mib": 1000.0, "overhead_mib": 50.0, "min_mib": 100.0}


def test_classic_the_engine_looks_every_five_seconds_and_the_limit_holds_every_second() -> None:
    policy = begun(OomdSenpai())
    assert [asked(policy, reading(t, [VM])) for t in range(35)] == [[0.0]] * 35
    assert asked(policy, reading(35, [VM])) == [10.0]  # the seventh look after the one that took it over
    assert asked(policy, reading(36, [VM])) == [10.0]
    assert asked(policy, reading(37, [VM | {"resident_mib": 1100.0}])) == [110.0]
    assert asked(policy, reading(38, [VM | {"resident_mib": 900.0}])) == [0.0]


def test_classic_a_limit_does_not_pass_that_of_the_cgroup() -> None:
    """After 20 targets of stall it may have twice its 1000 MiB, but memory.max is 1200: what is above that is taken."""
    for most, taken in ((np.nan, 0.0), (1200.0, 300.0)):
        policy = begun(OomdSenpai())
        asked(policy, reading(0, [VM | {"limit_mib": most}]))
        asked(policy, reading(5, [VM | {"limit_mib": most, "host_psi_some_s": 0.2}]))
        grown = VM | {"limit_mib": most, "host_psi_some_s": 0.2, "resident_mib": 1500.0}
        assert asked(policy, reading(6, [grown])) == [taken]


def test_classic_use_is_counted_in_whole_pages() -> None:
    policy = begun(OomdSenpai())
    uneven = VM | {"resident_mib": 1000.0 + 6145 / MIB}
    amounts = [asked(policy, reading(t, [uneven])) for t in range(36)]
    assert amounts == [[0.0]] * 35 + [[2561 / 256]]  # 256,001 pages less 1 %: 253,440.99


def test_classic_stall_seconds_are_microseconds_and_count_between_looks() -> None:
    policy = begun(OomdSenpai())
    asked(policy, reading(0, [VM | {"host_psi_some_s": 0.5}]))
    later = VM | {"resident_mib": 2000.0, "host_psi_some_s": 0.6}  # ten targets: 1250 MiB
    assert asked(policy, reading(4, [later])) == [1000.0]
    assert asked(policy, reading(5, [later])) == [750.0]


def test_classic_the_guarantee_is_a_floor_and_without_swap_nothing_can_go() -> None:
    policy, no_swap = begun(OomdSenpai()), begun(OomdSenpai())
    for t in range(40):
        guaranteed = asked(policy, reading(t, [VM | {"min_mib": 995.0}]))
        kept = asked(no_swap, reading(t, [VM], swap_total_mib=0.0))
    assert guaranteed == [5.0]
    assert kept == [0.0]


def test_classic_overhead_cannot_be_reclaimed() -> None:
    policy = begun(OomdSenpai())
    for t in range(36):
        last = asked(policy, reading(t, [VM | {"overhead_mib": 896.0}]))
    assert last == [4.0]


@pytest.mark.parametrize("change", [{"running": 0.0}, {"resident_mib": np.nan}, {"host_psi_some_s": np.nan}])
def test_classic_a_vm_that_stops_or_cannot_be_read_is_dropped_and_taken_up_anew(change: dict[str, float]) -> None:
    policy = begun(OomdSenpai(), 2)
    for t in range(36):
        asked(policy, reading(t, [VM, VM]))
    first, second = asked(policy, reading(36, [VM | change, VM]))
    assert np.isnan(first)
    assert second == 10.0
    assert np.isnan(asked(policy, reading(37, [VM, VM]))[0])  # until the next look
    assert asked(policy, reading(40, [VM, VM])) == [0.0, 10.0]


def act_times(policy: Policy, until_s: int, **signals: float) -> list[int]:
    begun(policy)
    return [t for t in range(until_s) if not np.isnan(asked(policy, reading(t, [VM | signals])))[0]]


def test_immediate_acts_at_the_seventh_look() -> None:
    assert act_times(OomdImmediate(), 120) == [35, 70, 105]
    policy = begun(OomdImmediate())
    assert [asked(policy, reading(t, [VM])) for t in range(36)][35] == [8.5]  # 1 % of 1000 - 50 - 100


def test_immediate_the_guarantee_is_a_floor_and_without_swap_nothing_can_go() -> None:
    policy = begun(OomdImmediate())
    amounts = [asked(policy, reading(t, [VM | {"min_mib": 800.0}])) for t in range(36)]
    assert amounts[35] == [2.0]
    policy = begun(OomdImmediate())
    assert all(np.isnan(asked(policy, reading(t, [VM], swap_total_mib=0.0)))[0] for t in range(80))


def test_immediate_memory_pressure_is_made_of_the_stall_total() -> None:
    """100 ms in one second leave 0.9 % in avg10 and 0.16 % in avg60, which falls below 0.1 % later, half a minute on."""
    policy, acted = begun(OomdImmediate()), []
    for t in range(90):
        stalled_s = 0.1 if t >= 32 else 0.0
        if not np.isnan(asked(policy, reading(t, [VM | {"host_psi_some_s": stalled_s}])))[0]:
            acted.append(t)
    assert acted == [65]  # avg60 by 1981 / 2048, cut off: 335 units at 32 s, 205 (0.10 %) at 60 s, 198 at 62 s


def test_immediate_a_short_stall_shows_in_the_short_average_only() -> None:
    """20 ms: 0.18 % of ten seconds, 0.03 % of sixty; after six seconds 203 / 2048, printed 0.09."""
    policy = begun(OomdImmediate())
    amounts = [asked(policy, reading(t, [VM | {"host_psi_some_s": 0.02 if t >= 34 else 0.0}]))[0] for t in range(60)]
    assert [t for t in range(60) if amounts[t] > 0.0] == [40]


def test_immediate_io_pressure_of_the_moment_holds_it_back() -> None:
    policy = begun(OomdImmediate())
    amounts = [asked(policy, reading(t, [VM | {"host_io_psi_some10": 0.002 * (t == 35)}]))[0] for t in range(60)]
    assert [t for t in range(60) if amounts[t] > 0.0] == [40]


def test_immediate_io_pressure_is_averaged_over_sixty_seconds() -> None:
    """Ten seconds of 0.668 % and one of none: 0.668 (1 - e^(-10/60)) e^(-1/60) = 0.1009 %."""
    for io, at in ((0.00668, [40]), (0.0066, [35])):
        policy = begun(OomdImmediate())
        series = [VM | {"host_io_psi_some10": io if 25 <= t < 35 else 0.0} for t in range(60)]
        amounts = [asked(policy, reading(t, [vm]))[0] for t, vm in enumerate(series)]
        assert [t for t in range(60) if amounts[t] > 0.0] == at


def test_immediate_io_pressure_holds_it_back_in_both_averages() -> None:
    assert act_times(OomdImmediate(), 80, host_io_psi_some10=0.001) == []
    assert act_times(OomdImmediate(), 60, host_io_psi_some10=0.0009) == [35]
    policy, acted = begun(OomdImmediate()), []
    for t in range(100):
        io = 0.01 if 20 <= t < 30 else 0.0
        if not np.isnan(asked(policy, reading(t, [VM | {"host_io_psi_some10": io}])))[0]:
            acted.append(t)
    assert acted == [55, 90]  # ten seconds of 1 % make 0.154 %, and 60 ln 1.54 = 25.7 s after the last 0.1 %


@pytest.mark.parametrize(
    ("used_mib", "as_coded", "fixed"), [(7_990.0, [], [35]), (8_000.0, [35], []), (10_000.0, [35], [])]
)
def test_immediate_swap_validation_reads_the_hosts_swap(used_mib, as_coded, fixed) -> None:
    for flag, expected in ((False, as_coded), (True, fixed)):
        policy = begun(OomdImmediate(swap_validation=True, fixed=flag))
        amounts = [asked(policy, reading(t, [VM], swap_used_mib=used_mib))[0] for t in range(60)]
        assert [t for t in range(60) if amounts[t] > 0.0] == expected


@pytest.mark.parametrize(("used_mib", "expected"), [(0.0, [35]), (0.5, [])])
def test_immediate_the_smallest_swap_is_a_swap(used_mib: float, expected: list[int]) -> None:
    policy = begun(OomdImmediate(swap_validation=True, fixed=True))
    amounts = [asked(policy, reading(t, [VM], swap_total_mib=0.5, swap_used_mib=used_mib))[0] for t in range(60)]
    assert [t for t in range(60) if amounts[t] > 0.0] == expected


@pytest.mark.parametrize(
    "change",
    [{"running": 0.0}, {"resident_mib": np.nan}, {"host_psi_some_s": np.nan}, {"host_io_psi_some10": np.nan}],
)
def test_immediate_a_vm_that_stops_or_cannot_be_read_is_dropped_and_taken_up_anew(change: dict[str, float]) -> None:
    policy, acted = begun(OomdImmediate(), 2), ([], [])
    for t in range(80):
        amounts = asked(policy, reading(t, [VM | change if t == 12 else VM, VM]))
        for vm, amount in enumerate(amounts):
            if not np.isnan(amount):
                acted[vm].append(t)
    assert acted == ([50], [35, 70])  # taken up at 15 s


@pytest.mark.parametrize("cls", [OomdSenpai, OomdImmediate])
def test_reset_forgets(cls: type[Policy]) -> None:
    policy = begun(cls())
    first = [asked(policy, reading(t, [VM])) for t in range(45)]
    begun(policy)
    np.testing.assert_array_equal([asked(policy, reading(t, [VM])) for t in range(45)], first)


@pytest.mark.parametrize("cls", [OomdSenpai, OomdImmediate])
def test_a_lane_alone_decides_the_same_bits(cls: type[Policy]) -> None:
    draw = np.random.default_rng(0)
    together, alone = cls(), cls()
    vm, host = np.zeros((3, 4), VM_TELEMETRY), np.zeros((3, 1), HOST_TELEMETRY)
    vm["limit_mib"] = vm["startup_mib"] = np.nan
    vm["running"], host["total_mib"], host["swap_total_mib"] = 1.0, 65_536.0, [[0.0], [100.0], [100.0]]
    together.reset(Telemetry(np.zeros(3), vm, host), 0)
    alone.reset(Telemetry(np.zeros(1), vm[1:2], host[1:2]), 0)
    acted = 0
    for t in range(150):
        vm["resident_mib"] = draw.uniform(500.0, 3000.0, (3, 4))
        vm["host_psi_some_s"] += draw.choice([0.0] * 30 + [0.002, 0.05], (3, 4))
        of_all = together.decide(Telemetry(np.full(3, t), vm, host)).reclaim_mib
        of_one = alone.decide(Telemetry(np.full(1, t), vm[1:2], host[1:2])).reclaim_mib
        assert of_all is not None
        np.testing.assert_array_equal(of_all[1:2], of_one)
        acted += int((np.nan_to_num(of_all[1]) > 0.0).sum())
    assert acted > 0


def test_the_shipped_configurations() -> None:
    classic = make_policy(load_group("agent", "oomd_senpai"))
    immediate, fixed = (make_policy(load_group("agent", name)) for name in ("oomd_immediate", "oomd_fixed"))
    assert isinstance(classic, OomdSenpai)
    assert isinstance(immediate, OomdImmediate)
    assert isinstance(fixed, OomdImmediate)
    assert classic.law == OomdSenpai().law == Law(6, 10_000, 0.01, 1.0, 10, 20, 100 * MIB, 10 * GIB)
    assert (
        immediate.law
        == OomdImmediate().law
        == ImmediateLaw()
        == ImmediateLaw(6, 0.01, 0.1, 0.1, 100 * MIB, 0.8, False, False)
    )
    assert fixed.law == ImmediateLaw(6, 0.01, 0.1, 0.1, 100 * MIB, 0.8, True, True)
    for policy in (classic, immediate, fixed):
        assert (policy.period_s, policy.visibility) == (1.0, Visibility.P0)
