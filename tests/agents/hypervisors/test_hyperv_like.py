"""The Hyper-V surrogate: the published floor and buffer, and an invented balancer checked by hand and by what it must keep."""

import numpy as np
import pytest

from hvgym.agents.hypervisors.hyperv_like import DynamicVm, HypervLike, buffered, demanded, divide, floor_mib, granted
from hvgym.agents.policy import make_policy
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""


@pytest.mark.parametrize(
    ("held", "floor"),
    [
        (16, 16),
        (32, 24),
        (128, 72),
        (512, 168),
        (2048, 360),
        (8192, 744),
        (32768, 1512),
        (127, 71.5),
        (140, 75),
        (600, 179),
        (2100, 363.25),
        (9000, 769.25),
    ],
)
def test_floors_of_the_table_in_hv_balloon(held, floor):
    assert floor_mib(float(held)) == floor


def test_the_floor_has_no_steps():
    for size in (128.0, 512.0, 2048.0, 8192.0):
        assert floor_mib(size - 1e-6) == pytest.approx(floor_mib(size), abs=1e-5)


def vm(demand, weight=1.0, minimum=0.0, maximum=10_000.0, size=5000.0, available=5000.0, floor=0.0):
    return DynamicVm(minimum, maximum, size, demand, available, floor, weight)


def test_1000_mb_with_a_buffer_of_20_percent_are_1200():
    assert divide([vm(1000.0)], 9000.0, 0.20) == [1200.0]


@pytest.mark.parametrize(
    ("vms", "capacity", "expected"),
    [
        ([vm(1000.0), vm(2000.0)], 3600.0, [1200, 2400]),
        ([vm(1000.0), vm(2000.0)], 3300.0, [1100, 2200]),  # half of each buffer
        ([vm(1000.0), vm(2000.0)], 3000.0, [1000, 2000]),
        ([vm(1000.0), vm(2000.0)], 1500.0, [500, 1000]),  # one pressure
        ([vm(1000.0, 0.5), vm(2000.0)], 3600.0, [1200, 2400]),  # all fits: weights do not count
        ([vm(1000.0, 0.5), vm(2000.0)], 3250.0, [1050, 2200]),
        ([vm(1000.0, 0.5), vm(2000.0)], 3550.0, [1150, 2400]),  # the heavier buffer is full
        ([vm(1000.0, 0.5), vm(1000.0)], 1200.0, [400, 800]),
        ([vm(1000.0, 0.5), vm(1000.0)], 1800.0, [800, 1000]),  # nobody gets more than its demand
        ([vm(1000.0, minimum=700.0), vm(1000.0)], 1000.0, [700, 300]),
        ([vm(1000.0, minimum=1500.0), vm(1000.0)], 2600.0, [1500, 1100]),
        ([vm(1000.0, maximum=800.0), vm(1000.0)], 1950.0, [800, 1150]),
        ([vm(1000.0, maximum=600.0), vm(1000.0)], 1500.0, [600, 900]),
        ([vm(1000.0, maximum=1100.0), vm(1000.0)], 2280.0, [1100, 1180]),
        ([vm(1000.0, minimum=1050.0), vm(1000.0)], 2200.0, [1100, 1100]),
        ([vm(1000.0, minimum=700.0), vm(1000.0, minimum=600.0)], 1000.0, [700, 600]),
        ([], 1000.0, []),
    ],
)
def test_division_by_hand(vms, capacity, expected):
    assert divide(vms, capacity, 0.20) == pytest.approx(expected)


def test_no_buffer_is_a_buffer_too():
    assert divide([vm(1000.0), vm(500.0)], 2000.0, 0.0) == [1000.0, 500.0]


def some_vms(rng):
    vms = []
    for _ in range(int(rng.integers(1, 9))):
        maximum = float(rng.uniform(500.0, 9000.0))
        vms.append(vm(float(rng.uniform(0.1, 1.3)) * maximum, float(rng.uniform(0.05, 1.0)),
                      float(rng.uniform(0.0, 0.6)) * maximum, maximum))  # fmt: skip
    return vms


def test_thousands_of_divisions_keep_bounds_and_capacity_and_serve_demands_before_buffers():
    rng = np.random.default_rng(1)
    for _ in range(3000):
        vms, buffer = some_vms(rng), float(rng.uniform(0.05, 0.5))
        bounds = [(one.minimum, one.maximum) for one in vms]
        least = sum(low for low, _ in bounds)
        needs = [min(max(one.demand, low), high) for one, (low, high) in zip(vms, bounds, strict=True)]
        most = [min(max(one.demand * (1.0 + buffer), low), high) for one, (low, high) in zip(vms, bounds, strict=True)]
        capacity = float(rng.uniform(0.9 * least, 1.1 * sum(most)))
        given = divide(vms, capacity, buffer)
        assert sum(given) == pytest.approx(min(max(capacity, least), sum(most)), rel=1e-9)
        for one, low, need, high in zip(given, (low for low, _ in bounds), needs, most, strict=True):
            assert low <= one <= high
            assert one >= need - 1e-6 if capacity >= sum(needs) else one <= need + 1e-6


def test_more_capacity_takes_from_nobody_and_weight_does_not_hurt():
    rng = np.random.default_rng(2)
    for _ in range(2000):
        vms = some_vms(rng)
        capacity = float(rng.uniform(0.3, 1.2)) * sum(one.demand for one in vms)
        less, more = divide(vms, capacity, 0.2), divide(vms, 1.05 * capacity, 0.2)
        assert all(b >= a - 1e-6 for a, b in zip(less, more, strict=True))
        first = vms[0]
        heavier = DynamicVm(first.minimum, first.maximum, 0.0, first.demand, 0.0, 0.0, 1.0)
        assert divide([heavier, *vms[1:]], capacity, 0.2)[0] >= less[0] - 1e-6


def test_levels_by_hand():
    assert demanded(vm(1000.0, 0.5), 0.6) == 300.0
    assert demanded(vm(1000.0, 0.5), 4.0) == 1000.0
    assert buffered(vm(1000.0, 0.5), 0.2, 1.0) == 1100.0
    assert buffered(vm(1000.0, 0.5), 0.2, 4.0) == 1200.0


@pytest.mark.parametrize(
    ("target", "available", "floor", "expected"),
    [
        (9000.0, 100.0, 500.0, 9000.0),  # growth at once
        (4900.0, 5000.0, 500.0, 4900.0),
        (1000.0, 5000.0, 500.0, 4750.0),  # a step of 5 %
        (1000.0, 600.0, 500.0, 4900.0),  # 100 above its floor
        (1000.0, 400.0, 500.0, 5000.0),  # refused
        (4990.0, 600.0, 500.0, 4990.0),
    ],
)
def test_steps_by_hand(target, available, floor, expected):
    assert granted(vm(1.0, size=5000.0, available=available, floor=floor), target, 0.05) == expected


def reading(seconds=0.0, free=3000.0, total=10_000.0, lanes=1, **columns):
    """Two VMs of 4,000 MiB with 1,000 committed: demand 1,482, with buffer 1,778.4; 500 each of the host are other's."""
    rows, host = np.zeros((lanes, 2), VM_TELEMETRY), np.zeros((lanes, 1), HOST_TELEMETRY)
    rows["limit_mib"] = rows["startup_mib"] = np.nan
    given = {"memory_mib": 4000.0, "min_mib": 500.0, "size_mib": 1600.0, "shares": 1000.0, "running": 1.0}
    given |= {"resident_mib": 1700.0, "overhead_mib": 100.0, "guest_committed_mib": 1000.0}
    given |= {"guest_total_mib": 4000.0, "guest_available_mib": 3000.0} | columns
    for name, value in given.items():
        rows[name] = value
    host["total_mib"], host["available_mib"] = total, free
    return Telemetry(np.full(lanes, seconds), rows, host)


def begun(first=None, **arguments):
    policy = HypervLike(**arguments)
    policy.reset(first or reading(), seed=0)
    return policy


def sizes(policy, telemetry):
    return policy.decide(telemetry.seen_with(policy.visibility)).memory_mib


def test_demand_is_committed_memory_and_the_floor_of_what_the_guest_holds():
    assert sizes(begun(), reading()).tolist() == [[pytest.approx(1.2 * (1000 + 232 + 4000 / 16))] * 2]


def test_a_guests_floor_holds():
    """482 are the floor: one has 20 above it, the other none."""
    held = reading(size_mib=4000.0, guest_available_mib=[[502.0, 400.0]])
    assert sizes(begun(), held).tolist() == [[3980.0, 4000.0]]


def test_short_of_memory_buffers_shrink_to_what_is_free_beyond_the_root_partitions_share():
    """Guests hold 3,200; 100 are free and 200 are kept: 3,100 are 2,964 of demand and 68 of buffer each."""
    shares = {"shares": [[1000.0, 1000.0]]}
    assert sizes(begun(), reading(free=100.0, **shares)).tolist() == [[pytest.approx(1550.0), pytest.approx(1550.0)]]


def test_room_is_made_for_a_vm_that_waits_and_is_told_its_startup_memory():
    """One holds 1,600 and 600 are free beyond the root's: 1,778.4 fit, but not beside 1,000 and 100: 1,482 is its demand."""
    alone = {"running": [[1.0, 0.0]], "waiting": [[0.0, 1.0]], "resident_mib": [[1700.0, 0.0]], "free": 800.0}
    told = alone | {"startup_mib": [[np.nan, 1000.0]]}
    assert sizes(begun(reading(**alone)), reading(**alone))[0, 0] == pytest.approx(1778.4)
    assert sizes(begun(reading(**told)), reading(**told))[0, 0] == 1520.0  # a step towards 1,100
    nearly = told | {"free": 1700.0}
    assert sizes(begun(reading(**nearly)), reading(**nearly))[0, 0] == pytest.approx(1778.4)


def test_shares_are_the_weights_and_none_is_the_least():
    """136 of buffer by weight 2 : 1, and all but nothing of it to the heavier beside a VM without shares."""
    assert sizes(begun(), reading(free=100.0, shares=[[2000.0, 1000.0]]))[0] == pytest.approx(
        [1482 + 136 * 2 / 3, 1482 + 136 / 3]
    )
    nobody = sizes(begun(), reading(free=100.0, shares=[[1000.0, 0.0]], size_mib=1500.0))[0]
    assert nobody == pytest.approx([1482 + 136 / 1.001, 1482 + 0.136 / 1.001])
    assert sizes(begun(), reading(free=100.0, shares=0.0))[0] == pytest.approx([1550.0, 1550.0])


def test_a_guest_that_does_not_report_is_left_alone_and_what_it_holds_is_not_divided():
    told = sizes(begun(), reading(free=100.0, size_mib=1550.0, guest_committed_mib=[[np.nan, 1000.0]]))
    np.testing.assert_allclose(told, [[np.nan, 1500.0]])  # 1,600 less the 100 that are missing


@pytest.mark.parametrize("name", ["guest_committed_mib", "guest_available_mib", "guest_total_mib"])
def test_a_report_that_lacks_a_part_is_none(name):
    given = sizes(begun(), reading(**{name: [[np.nan, 1000.0]]}))
    assert np.isnan(given).tolist() == [[True, False]]


def test_the_last_report_counts_however_old():
    assert sizes(begun(), reading(stats_age_s=3600.0)).tolist() == sizes(begun(), reading()).tolist()


def test_a_vm_that_starts_reports_after_30_s_and_those_of_the_beginning_at_once():
    waiting = reading(running=[[1.0, 0.0]])
    policy = begun(waiting)
    assert np.isnan(sizes(policy, waiting)[0]).tolist() == [False, True]
    seen = [np.isnan(sizes(policy, reading(seconds))[0]).tolist() for seconds in (20.0, 25.0, 49.0, 50.0)]
    assert seen == [[False, True], [False, True], [False, True], [False, False]]
    sizes(policy, reading(60.0, running=[[1.0, 0.0]]))
    assert np.isnan(sizes(policy, reading(65.0))[0]).tolist() == [False, True]
    policy.reset(reading(), seed=0)
    assert not np.isnan(sizes(policy, reading(66.0))).any()


def test_a_vm_that_is_told_how_to_start_starts_with_the_episode_and_keeps_that_for_30_s():
    first = reading(startup_mib=[[1000.0, np.nan]])
    policy = begun(first)
    seen = [
        np.isnan(sizes(policy, reading(seconds, startup_mib=[[1000.0, np.nan]]))[0]).tolist()
        for seconds in (0.0, 25.0, 30.0)
    ]
    assert seen == [[True, False], [True, False], [False, False]]


def test_lanes_do_not_meet():
    both = reading(lanes=2)
    both.host["available_mib"][:, 0] = [100.0, 3000.0]
    both.vm["guest_committed_mib"][1] = [700.0, 1200.0]
    policy = HypervLike()
    policy.reset(both, seed=0)
    together = sizes(policy, both)
    for lane in range(2):
        one = Telemetry(both.time_s[[lane]], both.vm[[lane]], both.host[[lane]])
        np.testing.assert_array_equal(sizes(begun(one), one)[0], together[lane])


def test_period_visibility_and_configuration():
    policy = make_policy(load_group("agent", "hyperv_like"))
    assert vars(policy) | UNDECLARED == vars(HypervLike()) | UNDECLARED
    assert (policy.period_s, policy.visibility) == (5.0, Visibility.P2)
    assert begun(max_shrink_share=0.5, buffer_share=0.1, report_delay_s=0.0).period_s == 5.0
