"""The descheduler: published metric and vectors, cut-off percentages, order of hosts and VMs, limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvgym.agents.cluster import descheduler
from hvgym.agents.cluster.descheduler import Vms


def vms(host, priority=None, usage=None, evictable=None, qos=None) -> Vms:
    count = len(host)
    return Vms(
        np.array(host),
        np.zeros(count) if priority is None else np.array(priority),
        np.ones(count) if qos is None else np.array(qos),
        np.ones(count, dtype=bool) if evictable is None else np.array(evictable),
        usage,
    )


def all_of(count):
    return np.ones(count, dtype=bool)


KV_1 = ([0.9, 0.5, 0.4], [0.2, 0.0, 0.0], [0.62, 0.62, 0.26], [0.0, 0.0, 0.0])
KV_2 = ([0.55, 0.5, 0.45], [0.0] * 3, [0.5] * 3, [0.0] * 3)


def pressure(rows):
    return descheduler.node_pressure(*(np.array(row) for row in rows))


def test_vector_kv_1_the_metric():
    found = pressure(KV_1)
    assert found[0] == 1.0
    assert 3 * np.sqrt(0.3**2 + (0.4 / 3) ** 2 + 0.12**2) == pytest.approx(1.05, abs=2e-3)
    assert found[1:] == pytest.approx([0.36, 0.0])
    assert descheduler.whole_percent(found).tolist() == [100, 36, 0]
    low, high = descheduler.deviation_thresholds(np.array([[100.0], [36.0], [0.0]]), np.array([0.0]), np.array([10.0]))
    assert (round(low[0], 2), round(high[0], 2)) == (45.33, 55.33)


def test_vector_kv_1_two_leave_the_first_host():
    found = descheduler.relieve_and_migrate(pressure(KV_1), vms([0, 0, 0, 0, 1, 2]), all_of(3))
    assert found.over.tolist() == [True, False, False]
    assert found.under.tolist() == [False, True, True]
    assert found.vms == [0, 1]


def test_vector_kv_2_fifteen_is_not_above_fifteen():
    assert descheduler.whole_percent(pressure(KV_2)).tolist() == [15, 0, 0]
    found = descheduler.relieve_and_migrate(pressure(KV_2), vms([0, 0]), all_of(3))
    assert found.vms == []
    assert not found.over.any()


def test_a_percentage_is_cut_off_but_not_for_what_a_float_cannot_say():
    assert 0.29 * 100 < 29
    assert descheduler.whole_percent(np.array([0.29, 0.57, 0.1499, 0.99999])).tolist() == [29, 57, 14, 99]
    for whole in range(101):
        assert descheduler.whole_percent(np.array([whole / 100]))[0] == whole
        assert descheduler.whole_percent(np.array([3 * (whole / 300)]))[0] == whole


def test_pressure_counts_only_where_utilisation_is_high_and_enters_the_mean_only_then():
    quiet = pressure(([0.7, 0.7], [1.0, 0.0], [0.7, 0.7], [1.0, 0.0]))
    assert quiet.tolist() == [0.0, 0.0]
    loud = pressure(([0.71, 0.71], [0.2, 0.0], [0.2, 0.2], [0.0, 0.0]))
    assert loud == pytest.approx([0.3, 0.0])


def test_limits_of_host_and_cycle():
    """Two hosts far above the other four, four VMs each: two and two; with a limit of three, two and one."""
    value, there = np.array([0.9, 0.8, 0, 0, 0, 0]), vms([0] * 4 + [1] * 4)
    assert descheduler.relieve_and_migrate(value, there, all_of(6)).vms == [0, 1, 4, 5]
    assert descheduler.relieve_and_migrate(value, there, all_of(6), total=3).vms == [0, 1, 4]
    assert descheduler.relieve_and_migrate(value[[1, 0, 2, 3, 4, 5]], there, all_of(6), total=3).vms == [4, 5, 0]
    assert descheduler.relieve_and_migrate(value, there, all_of(6), per_host=None).vms == [0, 4]
    assert descheduler.relieve_and_migrate(value, there, all_of(6), per_host=9, total=None).vms == list(range(8))


def test_what_migrates_or_may_not_and_high_priorities_stay():
    value = np.array([0.9, 0.0, 0.0])
    there = vms([0] * 4, priority=[5, 0, 5, 5], qos=[1, 1, 0, 1], evictable=[True, False, True, True])
    assert descheduler.relieve_and_migrate(value, there, all_of(3)).vms == [2, 0]


def test_static_thresholds_of_the_operator():
    value = np.array([0.51, 0.3, 0.2])
    low, high = descheduler.STATIC_LEVELS["medium"]
    found = descheduler.relieve_and_migrate(value, vms([0]), all_of(3), low, high, deviation=False)
    assert found.vms == [0]
    assert found.under.tolist() == [False, False, True]
    assert not descheduler.relieve_and_migrate(value - 0.01, vms([0]), all_of(3), low, high, deviation=False).vms


def two_resources(usage, there, schedulable=None, number=0, low=(20, 20), high=(50, 50), **limits):
    """Hosts of 10 cores and 1000 MiB."""
    usage = np.array(usage, dtype=float)
    return descheduler.low_node_utilisation(
        usage,
        np.tile([10.0, 1000.0], (len(usage), 1)),
        there,
        np.array(low, dtype=float),
        np.array(high, dtype=float),
        all_of(len(usage)) if schedulable is None else np.array(schedulable),
        units=descheduler.RAW_UNITS[:2],
        number_of_nodes=number,
        **limits,
    )


BUSY, IDLE = (8.0, 300.0), (1.0, 100.0)
FOUR = vms([0] * 4, usage=np.tile([1.0, 20.0], (4, 1)))


def test_evicts_until_the_host_is_at_its_target():
    """8 cores, target 5: three VMs of one core."""
    found = two_resources([BUSY, IDLE], FOUR)
    assert found.vms == [0, 1, 2]
    assert (found.under.tolist(), found.over.tolist()) == ([False, True], [True, False])
    assert two_resources([BUSY, IDLE], FOUR, per_host=2).vms == [0, 1]
    assert two_resources([BUSY, IDLE], FOUR, total=1).vms == [0]


def test_stops_when_under_used_hosts_have_no_room_left():
    """There is room for 40 MiB up to the target of 12 %, so VMs of 20 MiB go until none is left: two."""
    found = two_resources([BUSY, (1.0, 80.0)], FOUR, low=(20, 9), high=(50, 12))
    assert found.vms == [0, 1]


def test_room_counts_for_all_over_used_hosts_together():
    usage = np.tile([2.0, 20.0], (6, 1))
    found = two_resources([BUSY, BUSY, IDLE], vms([0, 0, 0, 1, 1, 1], usage=usage))
    assert found.vms == [0, 1]  # room of 4 cores


def test_nothing_happens_where_the_original_does_nothing():
    assert two_resources([BUSY, (3.0, 100.0)], FOUR).vms == []  # none is under-used
    assert two_resources([IDLE, IDLE], FOUR).vms == []  # all are
    assert two_resources([(5.0, 500.0), IDLE], FOUR).vms == []  # none is over-used: 50 is not above 50
    assert two_resources([BUSY, IDLE], FOUR, number=1).vms == []
    assert two_resources([BUSY, IDLE, IDLE], FOUR, number=1).vms != []
    assert two_resources([BUSY, IDLE], FOUR, schedulable=[True, False]).vms == []  # cordoned


def test_under_in_all_resources_and_over_in_any():
    usage = np.array([[50.0, 10.0], [20.0, 20.0], [20.0, 21.0], [51.0, 1.0]])
    under, over = descheduler.classify(usage, np.array([20.0, 20.0]), np.array([50.0, 50.0]), all_of(4))
    assert under.tolist() == [False, True, False, False]
    assert over.tolist() == [False, False, False, True]


def test_memory_decides_the_order_of_hosts_for_it_is_counted_in_bytes():
    usage = np.tile([0.1, 1.0], (2, 1))
    found = two_resources([(9.0, 100.0), (6.0, 101.0), IDLE], vms([0, 1], usage=usage), total=1)
    assert found.vms == [1]


def test_a_resource_without_a_threshold_bounds_only_by_capacity():
    low, high = (20, np.nan), (50, np.nan)
    assert two_resources([(8.0, 990.0), (1.0, 900.0)], FOUR, low=low, high=high).vms == [0, 1, 2]
    assert two_resources([(8.0, 990.0), (1.0, 960.0)], FOUR, low=low, high=high).vms == [0, 1]


def test_deviations_of_two_resources_are_clipped():
    percent = np.array([[90.0, 10.0], [10.0, 10.0]])
    low, high = descheduler.deviation_thresholds(percent, np.array([60.0, 5.0]), np.array([60.0, 5.0]))
    assert low.tolist() == [0.0, 5.0]
    assert high.tolist() == [100.0, 15.0]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=9),
    st.lists(st.integers(0, 8), max_size=40),
)
def test_evictions_come_from_over_used_hosts_within_limits(rows, hosts):
    value = descheduler.node_pressure(*np.array(rows).T)
    there = vms([host % len(rows) for host in hosts])
    found = descheduler.relieve_and_migrate(value, there, all_of(len(rows)))
    assert ((value >= 0) & (value <= 1)).all()
    assert not (found.under & found.over).any()
    assert len(found.vms) == len(set(found.vms)) <= descheduler.PER_CYCLE
    assert all(found.over[there.host[vm]] for vm in found.vms)
    assert np.bincount(there.host[found.vms] if found.vms else [0]).max() <= max(descheduler.PER_HOST, 1)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 1000)), min_size=2, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(1, 300)), max_size=20),
)
def test_a_host_is_left_alone_once_it_is_at_its_target(hosts, guests):
    there = vms(
        [host % len(hosts) for host, _, _ in guests], usage=np.array([g[1:] for g in guests], float).reshape(-1, 2)
    )
    found = two_resources(hosts, there)
    used = np.array(hosts, dtype=float)
    for vm in found.vms:
        assert (used[there.host[vm]] > [5.0, 500.0]).any()
        used[there.host[vm]] -= there.usage[vm]
