"""ESX: the paper's price, the division against plain revocation, the averages, the states, and when balloons move."""

import dataclasses

import numpy as np
import pytest

from hvgym.agents.hypervisors.esx import (
    HARD,
    HIGH,
    LOW,
    SOFT,
    Activity,
    Claim,
    Esx,
    SampledVm,
    active_share,
    affordable_mib,
    claim_of,
    divide,
    next_state,
    plan,
    sampled,
    shares_per_page,
)
from hvgym.agents.policy import make_policy
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""


@pytest.mark.parametrize(("active", "price"), [(1.0, "0.9766"), (0.5, "0.3906"), (0.1, "0.2639"), (0.0, "0.2441")])
def test_golden_prices_of_a_vm_with_1000_shares_and_1024_pages(active, price):
    assert f"{shares_per_page(1000.0, 1024.0, active, 0.75):.4f}" == price


def test_an_idle_vm_with_twice_the_shares_is_taxed_before_an_active_one():
    idle, active = shares_per_page(2000.0, 1024.0, 0.0, 0.75), shares_per_page(1000.0, 1024.0, 1.0, 0.75)
    assert (f"{idle:.4f}", f"{active:.4f}") == ("0.4883", "0.9766")


def test_without_tax_only_shares_count():
    assert shares_per_page(1000.0, 250.0, 0.1, 0.0) == shares_per_page(1000.0, 250.0, 0.9, 0.0) == 4.0


IDLE, BUSY = Claim(1000.0, 0.0, 0.0, 256.0), Claim(1000.0, 256.0, 0.0, 256.0)


@pytest.mark.parametrize(
    ("claims", "capacity", "tax", "expected"),
    [
        ([IDLE, BUSY], 360.0, 0.0, [180, 180]),  # the paper's two VMs of 256 MB
        ([IDLE, BUSY], 360.0, 0.75, [104, 256]),  # the busy one is at its most
        ([IDLE, BUSY], 250.0, 0.75, [50, 200]),
        ([IDLE, BUSY], 300.0, 0.5, [100, 200]),
        ([Claim(2000.0, 0.0, 0.0, 256.0), BUSY], 300.0, 0.75, [100, 200]),
        ([Claim(1000.0, 40.0, 0.0, 256.0), BUSY], 280.0, 0.75, [80, 200]),
        ([Claim(1000.0, 0.0, 70.0, 256.0), BUSY], 250.0, 0.75, [70, 180]),
        ([IDLE, BUSY], 600.0, 0.75, [256, 256]),
        ([Claim(1000.0, 0.0, 70.0, 256.0), Claim(1000.0, 9.0, 30.0, 256.0)], 90.0, 0.75, [70, 30]),
        ([Claim(0.0, 50.0, 10.0, 256.0), BUSY], 200.0, 0.75, [10, 190]),
        ([Claim(0.0, 50.0, 10.0, 256.0)], 200.0, 0.75, [10]),
        ([Claim(0.0, 50.0, 10.0, 256.0)], 300.0, 0.75, [256]),
        ([Claim(0.0, 50.0, 10.0, 256.0), IDLE], 300.0, 0.75, [10, 256]),
        ([], 100.0, 0.75, []),
    ],
)
def test_division_by_hand(claims, capacity, tax, expected):
    assert divide(claims, capacity, tax) == pytest.approx(expected, abs=1e-9)


def some_claims(rng, count):
    high = rng.uniform(100.0, 4000.0, count)
    return [
        Claim(float(s), float(a * h), float(low * h), float(h))
        for s, a, low, h in zip(
            rng.uniform(50.0, 4000.0, count), rng.random(count), rng.uniform(0.0, 0.4, count), high, strict=True
        )
    ]


def revoke(claims, capacity, tax, chunk):
    """Min-funding revocation as told: whoever pays least per page loses a chunk, again and again."""
    held = [claim.high_mib for claim in claims]

    def price(i):
        return shares_per_page(claims[i].shares, held[i], min(claims[i].active_mib / held[i], 1.0), tax)

    while sum(held) > capacity:
        victim = min((i for i in range(len(held)) if held[i] > claims[i].low_mib), key=price, default=None)
        if victim is None:
            break
        held[victim] = max(held[victim] - chunk, claims[victim].low_mib)
    return held


def test_division_is_where_chunk_by_chunk_revocation_ends():
    """Chunks leave each VM within one chunk of one price, and the sum within one of the capacity: n + 1 chunks in all."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        claims = some_claims(rng, 4)
        capacity = rng.uniform(0.5, 0.95) * sum(claim.high_mib for claim in claims)
        ended = revoke(claims, capacity, 0.75, 4.0)
        assert divide(claims, capacity, 0.75) == pytest.approx(ended, abs=5 * 4.0)


def test_thousands_of_divisions_keep_bounds_capacity_and_one_price():
    rng = np.random.default_rng(2)
    for _ in range(2000):
        claims, tax = some_claims(rng, int(rng.integers(1, 9))), float(rng.uniform(0.0, 0.95))
        low, high = (sum(getattr(claim, name) for claim in claims) for name in ("low_mib", "high_mib"))
        capacity = float(rng.uniform(0.9 * low, 1.1 * high))
        held = divide(claims, capacity, tax)
        assert sum(held) == pytest.approx(min(max(capacity, low), high), rel=1e-9)
        prices = []
        for claim, one in zip(claims, held, strict=True):
            assert claim.low_mib <= one <= claim.high_mib
            if claim.low_mib + 1e-6 < one < claim.high_mib - 1e-6:
                prices.append(shares_per_page(claim.shares, one, min(claim.active_mib / one, 1.0), tax))
        assert prices == pytest.approx([min(prices, default=0.0)] * len(prices), rel=1e-6)


def test_more_capacity_takes_from_nobody_and_more_activity_never_costs():
    rng = np.random.default_rng(3)
    for _ in range(1000):
        claims = some_claims(rng, 5)
        capacity = rng.uniform(0.5, 0.9) * sum(claim.high_mib for claim in claims)
        less, more = divide(claims, capacity, 0.75), divide(claims, 1.05 * capacity, 0.75)
        assert all(b >= a - 1e-6 for a, b in zip(less, more, strict=True))
        first = claims[0]
        busier = Claim(first.shares, first.high_mib, first.low_mib, first.high_mib)
        assert divide([busier, *claims[1:]], capacity, 0.75)[0] >= less[0] - 1e-6


def test_active_pages_come_first_and_idle_ones_at_a_quarter():
    claim, prices = np.array([[10.0], [100.0], [20.0], [300.0]]), np.array([1.0, 5.0, 10.0, 14.0, 100.0])
    expected = [20.0, 50.0, 100.0, 110.0, 300.0]
    assert affordable_mib(claim, prices[:, None], 0.75)[:, 0].tolist() == expected
    assert [affordable_mib(claim[:, 0], x, 0.75) for x in prices] == expected


def test_averages_by_hand():
    past = sampled(None, 0.5, 0.1, 0.5)
    assert past == Activity(0.5, 0.5)
    past = sampled(past, 0.1, 0.1, 0.5)
    assert (past.slow, past.fast) == pytest.approx((0.46, 0.3))
    assert active_share(past, 0.8, 0.5) == pytest.approx(0.55)  # the unfinished period
    assert active_share(past, 0.0, 0.5) == pytest.approx(0.46)  # slow
    assert active_share(Activity(0.2, 0.6), 0.0, 0.5) == pytest.approx(0.6)  # fast


def test_a_vm_never_sampled_counts_as_fully_active():
    assert active_share(None, 0.02, 0.5) == 1.0


def test_the_estimate_rises_fast_and_falls_slowly():
    past = Activity(0.1, 0.1)
    for _ in range(2):
        past = sampled(past, 0.9, 0.1, 0.5)
    assert active_share(past, 0.0, 0.5) == pytest.approx(0.7)
    for _ in range(2):
        past = sampled(past, 0.1, 0.1, 0.5)
    assert active_share(past, 0.0, 0.5) == pytest.approx(max(0.1 + 0.81 * 0.152, 0.25))


BEGINS, ENDS = [40.0, 20.0, 10.0], [66.0, 44.0, 22.0]


@pytest.mark.parametrize(
    ("before", "free", "after"),
    [
        (HIGH, 40.0, HIGH),
        (HIGH, 39.9, SOFT),
        (HIGH, 19.9, HARD),
        (HIGH, 9.9, LOW),
        (SOFT, 66.0, SOFT),
        (SOFT, 66.1, HIGH),
        (SOFT, 20.0, SOFT),
        (SOFT, 19.9, HARD),
        (HARD, 44.0, HARD),
        (HARD, 44.1, SOFT),
        (HARD, 66.1, HIGH),
        (LOW, 22.0, LOW),
        (LOW, 22.1, HARD),
        (LOW, 50.0, SOFT),
        (LOW, 99.0, HIGH),
    ],
)
def test_states_fall_at_a_threshold_and_rise_well_above_the_next(before, free, after):
    assert next_state(before, free, BEGINS, ENDS) == after


def test_states_of_a_host_of_10000_mib():
    begins, ends, goal = Esx().levels_mib(10_000.0)
    assert begins == pytest.approx([400.0, 200.0, 100.0])
    assert ends == pytest.approx([660.0, 440.0, 220.0])
    assert goal == pytest.approx(660.0)


def vm(memory=4000.0, least=0.0, size=None, held=None, swapped=0.0, active=1.0, shares=1000.0):
    size = memory if size is None else size
    return SampledVm(shares, memory, least, size, size if held is None else held, swapped, active)


def test_a_claim_by_hand():
    """It holds 2,500 of the 3,000 left to it, 1,000 are in its balloon and 200 in host swap: 300 it has never touched."""
    claim = claim_of(vm(least=500.0, size=3000.0, held=2500.0, swapped=200.0, active=0.25, shares=2000.0))
    assert claim == Claim(2000.0, 1000.0, 500.0, 3700.0)
    assert claim_of(vm(least=500.0, held=300.0)).low_mib == 300.0
    assert claim_of(vm(held=3900.0, swapped=500.0)).high_mib == 4000.0


def test_a_claim_is_at_most_the_limit_though_more_was_taken():
    """It holds 3,000, 800 are in its balloon and 200 in host swap; limited to 3,500 it claims no more than that."""
    limited = dataclasses.replace(vm(size=3200.0, held=3000.0, swapped=200.0), limit_mib=3500.0)
    assert claim_of(limited).high_mib == 3500.0
    assert claim_of(dataclasses.replace(limited, limit_mib=np.inf)).high_mib == 4000.0


def test_a_roomy_host_gives_a_vm_no_more_than_its_limit():
    """The limit counts the 100 of its process: 2,900 of 4,000, of which it holds 2,500, so its balloon leaves 400 more."""
    roomy = {"free": 5000.0, "total": 20_000.0, "size_mib": 2500.0, "resident_mib": 2600.0}
    assert sizes(begun(reading(**roomy)), reading(**roomy, limit_mib=[[3000.0, np.nan]])) == [[2900.0, 4000.0]]


def test_a_short_host_takes_from_the_idle_vm_what_the_busy_one_is_due():
    """Both hold 2,000 of 4,000; 500 are missing: 3,500 at one price x are 0.25 x and x."""
    idle, busy = vm(size=2000.0, active=0.0), vm(size=2000.0, active=1.0)
    assert plan([idle, busy], -500.0, 0.75, 0.65) == pytest.approx([1400.0, 2800.0])  # 700 and 2,800, and the cap
    assert plan([idle, busy], -500.0, 0.75, 1.0) == pytest.approx([700.0, 2800.0])


def test_in_the_high_state_nobody_shrinks():
    idle, busy = vm(size=2000.0, active=0.0), vm(size=2000.0, active=1.0)
    assert plan([idle, busy], 1000.0, 0.75, 0.65, shrinks=False) == pytest.approx([2000.0, 4000.0])


def test_a_balloon_takes_no_more_than_is_missing_from_a_vm_with_untouched_memory():
    assert plan([vm(held=2500.0)], -100.0, 0.75, 0.65) == pytest.approx([3900.0])


def test_a_balloon_takes_at_most_65_percent_and_nothing_of_the_reservation():
    assert plan([vm()], -3900.0, 0.75, 0.65) == pytest.approx([1400.0])
    assert plan([vm(least=1600.0)], -3900.0, 0.75, 0.65) == pytest.approx([1600.0])


def test_thousands_of_plans_stay_within_bounds_and_shrink_only_when_told():
    rng = np.random.default_rng(4)
    for _ in range(2000):
        vms = []
        for _ in range(int(rng.integers(1, 9))):
            memory = float(rng.uniform(1000.0, 16_000.0))
            size = float(rng.uniform(0.5, 1.0)) * memory
            vms.append(vm(memory, float(rng.uniform(0.0, 0.5)) * memory, size, float(rng.random()) * size,
                          float(rng.random()) * 0.2 * memory, float(rng.random())))  # fmt: skip
        spare, cap = float(rng.uniform(-8000.0, 4000.0)), float(rng.uniform(0.3, 1.0))
        sizes = plan(vms, spare, 0.75, cap)
        kept = plan(vms, spare, 0.75, cap, shrinks=False)
        for one, size, other in zip(vms, sizes, kept, strict=True):
            floor = max(one.min_mib, (1.0 - cap) * one.memory_mib)
            assert floor <= size <= one.memory_mib
            assert other == max(size, min(max(one.size_mib, floor), one.memory_mib))


def test_balloons_together_take_what_is_missing():
    roomy = [vm(held=4000.0), vm(held=3000.0)]
    taken = sum(one.size_mib for one in roomy) - sum(plan(roomy, -1000.0, 0.75, 1.0))
    assert taken == pytest.approx(1000.0)


def reading(seconds=0.0, free=1000.0, total=10_000.0, lanes=1, **columns):
    """Two VMs of 4,000 MiB that hold all of it beside 100 MiB of overhead each."""
    rows, host = np.zeros((lanes, 2), VM_TELEMETRY), np.zeros((lanes, 1), HOST_TELEMETRY)
    rows["limit_mib"] = rows["startup_mib"] = np.nan
    given = {"memory_mib": 4000.0, "size_mib": 4000.0, "shares": 1000.0, "running": 1.0, "overhead_mib": 100.0}
    given |= {"resident_mib": 4100.0, "active_share": np.nan} | columns
    for name, value in given.items():
        rows[name] = value
    host["total_mib"], host["available_mib"] = total, free
    return Telemetry(np.full(lanes, seconds), rows, host)


def begun(first, **arguments):
    policy = Esx(**arguments)
    policy.reset(first, seed=0)
    return policy


def sizes(policy, telemetry):
    return policy.decide(telemetry.seen_with(policy.visibility)).memory_mib.tolist()


def test_it_takes_nothing_while_the_host_is_high():
    assert sizes(begun(reading()), reading(free=450.0)) == [[4000.0, 4000.0]]


def test_below_soft_unsampled_vms_give_alike_until_free_memory_passes_high():
    """300 are free, 660 are the goal: 360 are missing, and nobody's pages are known to be idle."""
    assert sizes(begun(reading()), reading(free=300.0)) == [[pytest.approx(3820.0), pytest.approx(3820.0)]]


def test_overhead_is_not_the_guests_and_cannot_be_taken():
    assert sizes(begun(reading()), reading(free=300.0, resident_mib=3000.0, overhead_mib=500.0))[0] == pytest.approx(
        [3820.0, 3820.0]
    )
    gone = reading(free=300.0, resident_mib=[[600.0, 4500.0]], overhead_mib=[[500.0, 500.0]], min_mib=[[100.0, 0.0]])
    assert sizes(begun(gone), gone)[0] == pytest.approx([4000.0, 3640.0])  # the first holds its reservation and no more


def test_a_sampled_idle_vm_gives_first():
    """At one price x: 0.25 x + 0.75 * 400 and 4,000 for 7,640 MiB."""
    policy = begun(reading())
    first = reading(free=300.0, active_periods=1.0, active_share=[[0.1, 1.0]], active_now_share=[[0.0, 0.0]])
    assert sizes(policy, first)[0] == pytest.approx([3640.0, 4000.0])


@pytest.mark.parametrize(("by_size", "expected"), [(True, [3760.0, 1880.0]), (False, [3640.0, 2000.0])])
def test_shares_are_by_size_unless_told_otherwise(by_size, expected):
    """5,640 MiB to VMs of 4,000 and 2,000 with equal shares: 2 to 1, or alike until the second has all of it."""
    two = {"memory_mib": [[4000.0, 2000.0]], "size_mib": [[4000.0, 2000.0]], "resident_mib": [[4100.0, 2100.0]]}
    first = reading(free=300.0, **two)
    assert sizes(begun(first, shares_by_size=by_size), first)[0] == pytest.approx(expected)


@pytest.mark.parametrize("by_size", [True, False])
def test_telemetrys_shares_count_either_way(by_size):
    """5,640 MiB, 1 to 1.2."""
    tight = reading(free=300.0, shares=[[1000.0, 1200.0]], resident_mib=3100.0, size_mib=3000.0)
    assert sizes(begun(tight, shares_by_size=by_size), tight)[0] == pytest.approx([5640.0 / 2.2, 5640.0 * 1.2 / 2.2])


def test_host_swapped_and_compressed_memory_is_claimed_back():
    """The first holds 1,000, has 1,000 in its balloon and 2,000 elsewhere: all of its 4,000. 4,640 are there, 2,320 each."""
    elsewhere = {"host_swap_mib": [[1000.0, 0.0]], "compressed_mib": [[1000.0, 0.0]]}
    first = reading(free=300.0, resident_mib=[[1100.0, 4100.0]], size_mib=[[3000.0, 4000.0]], **elsewhere)
    assert sizes(begun(first), first)[0] == pytest.approx([4000.0, 2320.0])


def test_it_balances_every_15_s_and_at_once_when_the_state_changes():
    policy = begun(reading())
    moved = [
        not np.isnan(sizes(policy, reading(seconds, free))).any()
        for seconds, free in [(0, 1000), (1, 1000), (14, 1000), (15, 1000), (16, 390), (17, 390), (30, 390), (31, 390)]
    ]
    assert moved == [True, False, False, True, True, False, False, True]


def test_it_balances_at_once_when_a_vm_starts_and_leaves_those_that_do_not_run():
    policy = begun(reading())
    waiting = {"running": [[1.0, 0.0]], "resident_mib": [[4100.0, 0.0]]}
    assert sizes(policy, reading(0, 300.0, **waiting)) == [[pytest.approx(3640.0), pytest.approx(np.nan, nan_ok=True)]]
    assert np.isnan(sizes(policy, reading(1, 300.0, **waiting))).all()
    assert not np.isnan(sizes(policy, reading(2, 300.0))).any()


def test_a_period_of_sampling_counts_once():
    policy = begun(reading())
    for seconds in range(5):
        sizes(policy, reading(seconds, active_periods=1.0, active_share=0.8))
    for seconds in (6, 7):
        sizes(policy, reading(seconds, active_periods=2.0, active_share=0.2))
    (activity, _) = policy._hosts[0].activity
    assert (activity.slow, activity.fast) == pytest.approx((0.74, 0.5))


def test_a_vm_that_starts_anew_is_unsampled():
    policy = begun(reading())
    sizes(policy, reading(0, active_periods=3.0, active_share=0.2))
    sizes(policy, reading(1, active_periods=0.0, active_share=np.nan))
    assert policy._hosts[0].activity == [None, None]
    sizes(policy, reading(2, active_periods=5.0, active_share=0.2))
    sizes(policy, reading(3, active_periods=1.0, active_share=0.6))
    assert policy._hosts[0].activity == [Activity(0.6, 0.6)] * 2


def test_reset_forgets_samples_state_and_clock():
    policy = begun(reading())
    sizes(policy, reading(0, 50.0, active_periods=1.0, active_share=0.1))
    policy.reset(reading(), seed=0)
    assert sizes(policy, reading(0, 500.0)) == [[4000.0, 4000.0]]
    assert sizes(policy, reading(1, 300.0)) == sizes(begun(reading()), reading(1, 300.0))


def test_a_lane_alone_decides_the_same():
    rng = np.random.default_rng(5)
    batch, alone = begun(reading(lanes=3)), [begun(reading()) for _ in range(3)]
    for seconds in range(40):
        frees, shares = rng.uniform(50.0, 1200.0, 3), rng.random((3, 2))
        both = reading(seconds, 0.0, lanes=3, active_periods=seconds // 3, active_share=shares, size_mib=3500.0)
        both.host["available_mib"][:, 0] = frees
        together = sizes(batch, both)
        for lane, policy in enumerate(alone):
            one = Telemetry(both.time_s[[lane]], both.vm[[lane]], both.host[[lane]])
            np.testing.assert_array_equal(sizes(policy, one)[0], together[lane])


class Anxious(Esx):
    """Looks at every host in every second."""

    def _calls(self, telemetry):
        return np.ones(len(telemetry.vm), np.bool_)


def test_a_host_that_is_left_alone_would_have_decided_nothing(monkeypatch):
    """Averages, states, starts and gaps in what is told, for an hour: looking only where something happened changes no bit."""
    rng, lanes = np.random.default_rng(11), 4
    policies = begun(reading(lanes=lanes)), Anxious()
    policies[1].reset(reading(lanes=lanes), seed=0)
    free, runs, periods = np.full(lanes, 900.0), np.ones((lanes, 2)), np.zeros((lanes, 2))
    looked = list[float]()
    monkeypatch.setattr(policies[0], "_decide", lambda *told: (looked.append(told[1]), Esx._decide(policies[0], *told)))
    for seconds in range(3600):
        free = np.clip(free + rng.normal(0.0, 15.0, lanes), 20.0, 1200.0)
        runs = np.where(rng.random((lanes, 2)) < 0.002, 1.0 - runs, runs)
        periods = np.where(rng.random((lanes, 2)) < 0.03, periods + 1.0, periods) * runs
        shares = np.where(periods > 0.0, rng.random((lanes, 2)), np.nan)
        size = rng.uniform(2000.0, 4000.0, (lanes, 2))
        now = reading(seconds, lanes=lanes, running=runs, active_periods=periods, active_share=shares, size_mib=size)
        now.host["available_mib"][:, 0] = np.where(rng.random(lanes) < 0.01, np.nan, free)
        answers = [sizes(policy, now) for policy in policies]
        np.testing.assert_array_equal(*answers)
    assert [host.state for host in policies[0]._hosts] == [host.state for host in policies[1]._hosts]
    assert len(looked) < 0.3 * 3600 * lanes


def test_it_polls_each_second_and_sees_sampled_activity_but_no_guest():
    policy = make_policy(load_group("agent", "esx"))
    assert (policy.period_s, policy.visibility) == (1.0, Visibility.P3)
    assert vars(policy) | UNDECLARED == vars(Esx()) | UNDECLARED


def test_no_tax_is_a_tax():
    assert Esx(idle_tax=0.0).idle_tax == 0.0


@pytest.mark.parametrize("tax", [1.0, -0.1])
def test_a_tax_that_takes_all_is_refused(tax):
    with pytest.raises(InputError, match="idle_tax"):
        Esx(idle_tax=tax)
