"""NodeFairness-S: published levels and moments, and that no host gets hot from what another sheds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvgym.agents.cluster import node_fairness
from hvgym.agents.cluster.node_fairness import Cluster


def cluster(capacity, vms) -> Cluster:
    """VMs are (host, cores, MiB)."""
    host, cores, mib = (np.array(column, dtype=float) for column in zip(*vms, strict=True))
    movable = np.ones((len(vms), len(capacity)), dtype=bool)
    return Cluster(np.array(capacity, dtype=float), np.stack([cores, mib], axis=1), host.astype(int), movable)


TWO = [(10, 10000)] * 2


def test_the_larger_of_cpu_and_memory_is_the_pressure():
    there = cluster(TWO, [(0, 2, 9000), (1, 5, 100), (-1, 9, 9000)])
    assert node_fairness.pressures(there) == pytest.approx([0.9, 0.5])


def test_the_smallest_vm_that_is_enough_goes():
    """90 % of memory: 500 is not enough for the level of 80 %, 1500 is; 3000 is more than is needed."""
    there = cluster(TWO, [(0, 1, 4000), (0, 1, 3000), (0, 1, 500), (0, 1, 1500), (1, 1, 1000)])
    assert node_fairness.balance(there) == [(3, 1)]


def test_where_none_is_enough_small_ones_go_one_by_one():
    there = cluster(TWO, [(0, 1, 900)] * 10)
    assert node_fairness.balance(there) == [(0, 1), (1, 1)]


def test_a_host_that_would_get_hot_takes_nothing():
    there = cluster(TWO, [(0, 1, 9000), (1, 1, 1000)])
    assert node_fairness.balance(there) == []
    there.movable[0, 1] = False
    assert node_fairness.balance(cluster(TWO, [(0, 1, 8000), (1, 1, 1000)])) == []  # 80 % is not above 80 %


@pytest.mark.parametrize(("level", "pressure"), [(1, 0.8), (2, 0.7), (3, 0.6)])
def test_levels_of_aggressiveness(level, pressure):
    for used, moves in ((10_000 * pressure, 0), (10_000 * pressure + 40, 1)):
        there = cluster(TWO, [(0, 1, used - 100), (0, 1, 100)])
        assert len(node_fairness.balance(there, level)) == moves


def test_the_hottest_host_comes_first_and_the_coolest_takes():
    three = cluster(
        [(10, 10000)] * 4,
        [(0, 1, 7000), (0, 1, 1500), (1, 1, 7500), (1, 1, 1500), (2, 1, 100), (3, 1, 6000)],
    )
    assert node_fairness.balance(three) == [(3, 2), (1, 2)]


def test_who_may_not_move_there_does_not():
    there = cluster(TWO, [(0, 1, 7000), (0, 1, 1500)])
    there.movable[1] = False
    assert node_fairness.balance(there) == [(0, 1)]
    there.movable[:] = False
    assert node_fairness.balance(there) == []


def test_when_it_acts():
    assert node_fairness.acts(node_fairness.MODE_ALWAYS, False, 1800.0)
    assert not node_fairness.acts(node_fairness.MODE_ALWAYS, False, 1799.0)
    assert node_fairness.acts(node_fairness.MODE_ALWAYS, True, 0.0)
    assert node_fairness.acts(node_fairness.MODE_ON_JOIN, True, 0.0)
    assert not node_fairness.acts(node_fairness.MODE_ON_JOIN, False, 9000.0)
    assert not node_fairness.acts(node_fairness.MODE_OFF, True, 9000.0)


@st.composite
def clusters(draw):
    hosts = draw(st.integers(2, 5))
    guests = st.tuples(st.integers(-1, hosts - 1), st.integers(0, 50), st.integers(0, 5000))
    vms = [(host, cores / 10, mib) for host, cores, mib in draw(st.lists(guests, min_size=1, max_size=15))]
    return cluster([(10, 10000)] * hosts, vms)


@settings(max_examples=200, deadline=None)
@given(clusters(), st.integers(1, 3))
def test_hot_hosts_only_shed_and_nobody_gets_hot(there, level):
    before, hot = node_fairness.pressures(there), node_fairness.LEVELS[level]
    moves = node_fairness.balance(there, level)
    where = there.vm_host.copy()
    for vm, host in moves:
        assert before[there.vm_host[vm]] > hot
        assert where[vm] == there.vm_host[vm]
        where[vm] = host
    after = node_fairness.pressures(Cluster(there.capacity, there.demand, where, there.movable))
    assert after.max() <= max(before.max(), hot)
    assert (after[before <= hot] <= hot + 1e-12).all()
    assert (after[before > hot] <= before[before > hot] + 1e-12).all()
