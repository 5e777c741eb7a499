"""Quality of service: reservations, limits and shares as a fluid and by tags, token buckets, windows."""

import math

import numpy as np
import pytest

from hvgym.envs.model.devices import qos

MANY = 500


def divide(want, reservation, limit, weight, capacity):
    given = np.full(len(want), np.nan)
    qos.divide(*(np.array(part, dtype=float) for part in (want, reservation, limit, weight)), capacity, given)
    return given


def all_want(capacity, weight, reservation=None, limit=None):
    count = len(weight)
    return divide([1e9] * count, reservation or [0.0] * count, limit or [math.inf] * count, weight, capacity)


@pytest.mark.parametrize(
    ("capacity", "reservation", "limit", "given"),
    [
        (900, [0, 0], [math.inf, math.inf], [600, 300]),
        (600, [250, 250], [math.inf, math.inf], [350, 250]),
        (400, [250, 250], [math.inf, math.inf], [200, 200]),
        (400, [300, 100], [math.inf, math.inf], [300, 100]),
        (200, [300, 100], [math.inf, math.inf], [150, 50]),
        (900, [0, 0], [100, math.inf], [100, 800]),
        (900, [0, 0], [100, 200], [100, 200]),
        (900, [300, 0], [100, math.inf], [100, 800]),
        (0, [10, 10], [math.inf, math.inf], [0, 0]),
    ],
)
def test_shares_are_raised_to_reservations_and_cut_to_limits(capacity, reservation, limit, given):
    assert all_want(capacity, [2, 1], reservation, limit) == pytest.approx(given, rel=1e-9)


def test_what_one_does_not_want_goes_to_the_others():
    assert divide([100, 1e9, 1e9], [0] * 3, [math.inf] * 3, [2, 1, 1], 900) == pytest.approx([100, 400, 400])
    assert divide([100, 1e9], [500, 0], [math.inf] * 2, [1, 1], 900) == pytest.approx([100, 800])


def test_who_has_no_weight_gets_its_reservation_only():
    assert all_want(900, [0, 1], [100, 0]) == pytest.approx([100, 800])
    assert all_want(900, [0, 0], [100, 50]) == pytest.approx([100, 50])


def cases():
    rng = np.random.default_rng(7)
    for _ in range(MANY):
        n = int(rng.integers(1, 9))
        want = rng.choice([0.0, 1.0, 1e9], n) * rng.exponential(300.0, n)
        limit = np.where(rng.random(n) < 0.5, math.inf, rng.exponential(300.0, n))
        yield (
            want,
            rng.choice([0.0, 1.0], n) * rng.exponential(100.0, n),
            limit,
            rng.uniform(0.1, 10.0, n),
            rng.exponential(600.0),
        )


def test_nothing_is_made_or_wasted_and_reservations_hold_whenever_they_can():
    infeasible = 0
    for want, reservation, limit, weight, capacity in cases():
        given = divide(want, reservation, limit, weight, capacity)
        most = np.minimum(want, limit)
        promised = np.minimum(reservation, most)
        assert np.all(given >= 0.0)
        assert np.all(given <= most * (1 + 1e-12))
        assert given.sum() <= capacity * (1 + 1e-12)
        assert given.sum() == pytest.approx(min(capacity, most.sum()), rel=1e-9)
        if promised.sum() <= capacity:
            assert np.cumsum(given)[-1] <= capacity
            assert np.all(given >= promised * (1 - 1e-12))
            free = (given > promised * (1 + 1e-6)) & (given < most * (1 - 1e-6))
            level = given[free] / weight[free]
            assert level == pytest.approx(np.full(level.shape, level.mean() if len(level) else 0.0), rel=1e-6)
        else:
            infeasible += 1
            assert given == pytest.approx(promised * capacity / promised.sum(), rel=1e-9)
    assert 0 < infeasible < MANY


def by_tags(clients, capacity, seconds=60, in_flight=8, begin=None):
    """Requests per second of VMs that always have requests waiting; those named in `begin` only from then on."""
    scheduler = qos.Mclock(clients)
    served, started = np.zeros(len(clients)), [False] * len(clients)
    for step in range(int(seconds * capacity)):
        now = step / capacity
        for vm in range(len(clients)):
            if not started[vm] and now >= (begin or {}).get(vm, 0.0):
                started[vm] = True
                for _ in range(in_flight):
                    scheduler.queue(vm, now)
        vm = scheduler.serve(now)
        if vm is not None:
            scheduler.queue(vm, now)
            served[vm] += now >= max((begin or {0: 0.0}).values())
    return served / (seconds - max((begin or {0: 0.0}).values()))


@pytest.mark.parametrize(
    ("clients", "capacity"),
    [
        ([(250, math.inf, 2), (250, math.inf, 1)], 1000),
        ([(250, math.inf, 2), (250, math.inf, 1)], 600),
        ([(250, math.inf, 2), (250, math.inf, 1)], 400),
        ([(0, math.inf, 2), (0, math.inf, 1), (0, math.inf, 1)], 800),
        ([(0, 100, 3), (0, math.inf, 1)], 500),
        ([(300, math.inf, 1), (0, math.inf, 4), (0, 150, 5)], 700),
        ([(0, 100, 1), (0, 50, 1)], 500),
    ],
)
def test_scheduler_by_tags_and_fluid_agree(clients, capacity):
    fluid = all_want(capacity, [c[2] for c in clients], [c[0] for c in clients], [c[1] for c in clients])
    assert by_tags([qos.Client(*client) for client in clients], capacity) == pytest.approx(fluid, rel=0.03)


def test_who_comes_back_from_idling_takes_its_share_and_no_more():
    clients = [qos.Client(0.0, math.inf, 2.0), qos.Client(0.0, math.inf, 1.0)]
    assert by_tags(clients, 600, seconds=20, begin={1: 15.0}) == pytest.approx([400, 200], rel=0.03)
    assert by_tags(clients, 600, seconds=20, begin={0: 15.0}) == pytest.approx([400, 200], rel=0.03)


def test_what_shares_gave_in_quiet_times_is_not_held_against_a_reservation():
    clients = [qos.Client(100.0, math.inf, 1.0), qos.Client(0.0, math.inf, 99.0)]
    assert by_tags(clients, 1000, seconds=8, begin={1: 4.0}) == pytest.approx([100, 900], rel=0.03)


def test_a_scheduler_without_requests_serves_nobody():
    scheduler = qos.Mclock([qos.Client(10.0, math.inf, 1.0)])
    assert scheduler.serve(0.0) is None
    scheduler.queue(0, 0.0)
    assert scheduler.serve(0.0) == 0
    assert scheduler.serve(1.0) is None


def test_a_request_above_its_limit_waits_for_its_tag():
    scheduler = qos.Mclock([qos.Client(0.0, 10.0, 1.0)])
    scheduler.queue(0, 0.0)
    scheduler.queue(0, 0.0)
    assert [scheduler.serve(now) for now in (0.0, 0.09, 0.1)] == [0, None, 0]


def test_the_reserved_come_first_and_the_most_overdue_of_them():
    scheduler = qos.Mclock(
        [qos.Client(0.0, math.inf, 100.0), qos.Client(10.0, math.inf, 0.01), qos.Client(5.0, math.inf, 0.01)]
    )
    scheduler.queue(0, 0.0)
    scheduler.queue(2, 0.1)
    scheduler.queue(1, 0.2)
    assert [scheduler.serve(0.3) for _ in range(3)] == [2, 1, 0]


def test_a_token_bucket_grants_its_rate_and_one_burst():
    assert qos.take(0.0, 100.0, 50.0, math.inf, 200.0, 1.0) == (50.0, 0.0)
    assert qos.take(200.0, 500.0, 50.0, math.inf, 200.0, 1.0) == (250.0, 0.0)  # it fills while it is emptied
    assert qos.take(200.0, 500.0, 50.0, 120.0, 200.0, 1.0) == (120.0, 130.0)
    assert qos.take(200.0, 10.0, 50.0, 120.0, 200.0, 1.0) == (10.0, 200.0)
    assert qos.take(20.0, 30.0, 50.0, math.inf, 200.0, 1.0) == (30.0, 40.0)
    assert qos.take(0.0, 80.0, 50.0, math.inf, 0.0, 1.0) == (50.0, 0.0)
    tokens = granted = 0.0
    for _ in range(1000):
        got, tokens = qos.take(tokens, 80.0, 50.0, math.inf, 200.0, 1.0)
        granted += got
    assert granted == 50_000.0


def leaky_bucket(avg, most, length_s, seconds, step_s=1e-4):
    """QEMU's algorithm as its documentation tells it, operation by operation: I/O fills a bucket of most x length that leaks
    at `avg`, and a second one of a tenth of a second's burst that leaks at `most`; a request passes while neither is full."""
    level = burst_level = 0.0
    passed = np.zeros(seconds)
    for step in range(round(seconds / step_s)):
        level, burst_level = max(level - avg * step_s, 0.0), max(burst_level - most * step_s, 0.0)
        while level <= most * length_s and (length_s <= 1 or burst_level <= most / 10.0):
            level, burst_level = level + 1.0, burst_level + 1.0
            passed[int(step * step_s + 1e-9)] += 1.0
    return passed


@pytest.mark.parametrize(("avg", "most", "length_s"), [(100.0, 2000.0, 6), (300.0, 600.0, 3), (100.0, 1000.0, 1)])
def test_a_burst_is_as_long_as_that_of_qemus_leaky_bucket(avg, most, length_s):
    """Second by second, but for the tenth of a second's operations that QEMU lets through at once."""
    tokens, rate = most * length_s, most if length_s > 1 else math.inf
    granted = []
    for _ in range(10):
        got, tokens = qos.take(tokens, 1e9, avg, rate, most * length_s, 1.0)
        granted.append(got)
    witness = leaky_bucket(avg, most, length_s, 10)
    np.testing.assert_allclose(np.cumsum(granted), np.cumsum(witness), atol=most / 10.0 + 2.0)


@pytest.mark.parametrize("seed", range(20))
def test_no_window_of_time_gets_more_than_bucket_and_rate_allow(seed):
    rng = np.random.default_rng(seed)
    per_s, size = rng.uniform(1, 100), rng.uniform(0, 500)
    most = per_s * rng.uniform(1, 5)
    tokens, total = size, [0.0]
    for asked in rng.choice([0.0, 10.0, 1e3], 200):
        got, tokens = qos.take(tokens, asked, per_s, most, size, 1.0)
        assert got <= min(asked, most)
        assert 0.0 <= tokens <= size
        total.append(total[-1] + got)
    total = np.array(total)
    for length in range(1, 200):
        assert (total[length:] - total[:-length]).max() <= (size + per_s * length) * (1 + 1e-12)


def test_windows_shrink_above_the_threshold_and_grow_below_it():
    assert qos.next_window(40.0, 0.060, 0.030, 0.8, 4.0) == pytest.approx(0.2 * 40 + 0.8 * (20 + 4))
    assert qos.next_window(40.0, 0.020, 0.030, 0.8, 4.0) == pytest.approx(0.2 * 40 + 0.8 * (60 + 4))
    assert qos.next_window(64.0, 0.010, 0.030, 0.8, 4.0) == qos.WINDOW_MOST
    assert qos.next_window(1.0, 10.0, 0.030, 1.0, 0.0) == qos.WINDOW_LEAST


def test_windows_settle_in_proportion_to_shares():
    window = [64.0, 64.0, 64.0]
    shares = (500.0, 1000.0, 2000.0)
    for _ in range(200):
        latency = qos.datastore_latency_s(sum(window), 1000.0, 0.005)
        window = [
            qos.next_window(w, latency, 0.030, 0.8, qos.BETA_PER_SHARE * s) for w, s in zip(window, shares, strict=True)
        ]
    assert window[1] / window[0] == pytest.approx(2.0, rel=1e-3)
    assert window[2] / window[1] == pytest.approx(2.0, rel=1e-3)
    assert sum(window) == pytest.approx(30.0 + 14.0)  # threshold by throughput, and what a period adds


def test_a_datastore_answers_by_littles_law_and_never_faster_than_when_idle():
    assert qos.datastore_latency_s(128.0, 1000.0, 0.005) == 0.128
    assert qos.datastore_latency_s(1.0, 1000.0, 0.005) == 0.005
