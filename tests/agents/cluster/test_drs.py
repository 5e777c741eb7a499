"""DRS-classic-S and DRS2-S: published priorities on their vectors, and that no move makes worse what it is for."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvgym.agents.cluster import drs
from hvgym.agents.cluster.drs import Cluster


def cluster(capacity, vms, migration_s=10.0, dirty_mib=0.0) -> Cluster:
    """VMs are (host, cores, MiB)."""
    host, cores, mib = (np.array(column, dtype=float) for column in zip(*vms, strict=True))
    return Cluster(
        np.array(capacity, dtype=float),
        np.stack([cores, mib], axis=1),
        host.astype(int),
        np.ones((len(vms), len(capacity)), dtype=bool),
        np.full(len(vms), migration_s),
        np.full(len(vms), dirty_mib),
    )


def test_vector_drs_1():
    assert drs.priority(0.20, 4) == 2
    assert [slider for slider in range(1, 6) if drs.target_deviation(slider, 4) < 0.20] == [2, 3, 4, 5]
    assert drs.target_deviation(3, 4) == pytest.approx(0.1)


def test_vector_drs_2():
    assert drs.priority(0.05, 4) == 5
    assert [slider for slider in range(1, 6) if drs.target_deviation(slider, 4) < 0.05] == [5]


def test_displayed_targets():
    """0.141 for two hosts, 0.1 for four, at the default slider."""
    assert drs.target_deviation(drs.SLIDER, 2) == pytest.approx(0.1414, abs=1e-4)
    assert drs.target_deviation(drs.SLIDER, 4) == pytest.approx(0.1)


@settings(max_examples=120, deadline=None)
@given(st.integers(1, 600), st.integers(1, 64), st.integers(2, 5))
def test_a_slider_allows_a_priority_exactly_when_the_deviation_is_above_its_target(thousandths, hosts, slider):
    deviation, target = thousandths / 1000, drs.target_deviation(slider, hosts)
    if abs(deviation - target) > 1e-9:
        assert (drs.priority(deviation, hosts) <= slider) == (deviation > target)


def test_priorities_are_two_to_six_unless_rules_speak():
    assert drs.priority(0.0, 8) == 6
    assert drs.priority(5.0, 8) == 2
    assert drs.priority(3 * 0.1 / math.sqrt(4), 4) == 3  # 3 steps, not 3.0000000000000004
    assert drs.target_deviation(1, 4) == math.inf


def test_memory_demand_and_capacity_by_hand():
    assert drs.memory_demand_mib(np.array([1000.0]), np.array([5000.0]), np.array([100.0])).tolist() == [2100.0]
    assert drs.memory_demand_mib(np.array([1000.0]), np.array([500.0]), np.array([0.0])).tolist() == [1000.0]
    assert drs.usable_capacity(np.array([100.0]), np.array([20.0])) == pytest.approx([75.2])


def test_moves_per_host_fit_into_a_period_and_onto_the_link():
    assert drs.max_moves_per_host(50.0) == 6
    assert drs.max_moves_per_host(10.0) == 8
    assert drs.max_moves_per_host(10.0, link_cap=4) == 4
    assert drs.max_moves_per_host(301.0) == 0


HOT = [(0, 4, 1000), (0, 4, 1000), (0, 4, 1000), (1, 2, 1000)]
"""The first host is asked for 12 of its 10 cores, the second for 2."""


def test_a_hot_host_gives_a_vm_to_an_idle_one_and_then_it_is_even_enough():
    """Loads 1.2 and 0.2: deviation 0.5. One VM: 0.8 and 0.6: 0.1, under the target 0.141."""
    there = cluster([(10, 20000)] * 2, HOT)
    assert drs.imbalance(drs.loads(there)) == pytest.approx(0.5)
    assert drs.balance(there) == [(0, 1)]
    assert drs.balance(there, slider=1) == []
    assert drs.goodness(there)[0, 1] == pytest.approx(0.4)


def test_cost_and_benefit_by_hand():
    """2 cores more are served for 300 s; 0.3 cores for 10 s cost 3; 100 of 20000 MiB are 0.05 of 10 cores for 10 s."""
    there = cluster([(10, 20000)] * 2, HOT, dirty_mib=100.0)
    assert drs.worth(there)[0, 1] == pytest.approx(600 - 3 - 0.5)
    edge = 600 / (0.3 + 100 / 20000 * 10)
    for seconds, moves in ((0.999 * edge, [(0, 1)]), (1.001 * edge, [])):
        assert drs.balance(replace(there, migration_s=np.full(4, seconds))) == moves


def test_imbalance_alone_does_not_pay_when_all_get_what_they_are_entitled_to():
    calm = cluster([(10, 20000)] * 2, [(0, 3, 100), (0, 3, 100), (1, 0.1, 100)])
    assert drs.imbalance(drs.loads(calm)) > drs.target_deviation(3, 2)
    assert drs.balance(calm) == []


def test_memory_counts_as_cpu_does():
    tight = cluster([(10, 10000)] * 2, [(0, 0.1, 6000), (0, 0.1, 6000), (1, 0.1, 100)])
    assert drs.balance(tight) == [(0, 1)]


def test_what_may_not_move_stays_and_hosts_have_limits():
    there = cluster([(10, 20000)] * 3, [*HOT, (0, 4, 1000), (2, 1, 1000)])
    assert len(drs.balance(there)) == 2
    assert len(drs.balance(there, most_per_host=1)) == 1
    assert drs.balance(there, most_per_host=0) == []
    fixed = replace(there, movable=np.zeros((6, 3), dtype=bool))
    assert drs.balance(fixed) == []


@st.composite
def clusters(draw):
    hosts = draw(st.integers(2, 5))
    guests = st.tuples(st.integers(-1, hosts - 1), st.integers(0, 60), st.integers(0, 6000))
    vms = [(host, cores / 10, mib) for host, cores, mib in draw(st.lists(guests, min_size=1, max_size=15))]
    sizes = draw(st.lists(st.tuples(st.integers(5, 20), st.integers(4000, 20000)), min_size=hosts, max_size=hosts))
    return cluster(sizes, vms, migration_s=draw(st.floats(1, 60)), dirty_mib=draw(st.floats(0, 100)))


@settings(max_examples=100, deadline=None)
@given(clusters(), st.integers(1, 5))
def test_every_move_lowers_the_imbalance_and_serves_more(there, slider):
    def served(now):
        """In shares of hosts' cores; the memory's share is worth as much."""
        return float((np.minimum(drs.loads(now), 1.0).sum(axis=1) * now.capacity[:, 0]).sum())

    now = there
    for vm, host in drs.balance(there, slider):
        after = replace(now, vm_host=np.where(np.arange(len(now.vm_host)) == vm, host, now.vm_host))
        assert drs.imbalance(drs.loads(now)) > drs.target_deviation(slider, len(now.capacity))
        assert drs.imbalance(drs.loads(after)) < drs.imbalance(drs.loads(now))
        assert served(after) > served(now)
        now = after


@settings(max_examples=100, deadline=None)
@given(clusters())
def test_the_benefit_is_what_is_served_after_less_before(there):
    def served(now):
        return float((np.minimum(drs.loads(now), 1.0).sum(axis=1) * now.capacity[:, 0]).sum())

    found = drs.worth(there)
    for vm, host in np.ndindex(found.shape):
        if 0 <= there.vm_host[vm] != host:
            after = replace(there, vm_host=np.where(np.arange(len(there.vm_host)) == vm, host, there.vm_host))
            cores, mib = there.capacity[host]
            cost = (0.3 + there.dirty_mib[vm] / mib * cores) * there.migration_s[vm]
            assert found[vm, host] == pytest.approx((served(after) - served(there)) * 300 - cost, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(clusters())
def test_goodness_is_the_difference_of_two_imbalances(there):
    good = drs.goodness(there)
    for vm, host in np.ndindex(good.shape):
        if there.vm_host[vm] < 0 or there.vm_host[vm] == host:
            assert good[vm, host] == -np.inf
            continue
        after = replace(there, vm_host=np.where(np.arange(len(there.vm_host)) == vm, host, there.vm_host))
        expected = drs.imbalance(drs.loads(there)) - drs.imbalance(drs.loads(after))
        assert good[vm, host] == pytest.approx(expected, abs=1e-6)


def test_scores_by_hand():
    """Asked for 12 of 10 cores: a sixth of the time waits. On the idle host nothing does, and 8 are spare for 6."""
    there = cluster([(10, 20000)] * 2, HOT)
    found = drs.scores(there, np.full(4, 6.0), np.zeros(4))
    assert found[0] == pytest.approx([100 * 10 / 12 * 2 / 6, 100.0])
    assert found[3, 1] == 100.0
    assert found[3, 0] == 0.0  # nothing is spare there
    assert drs.cluster_score(found[[0, 1, 2, 3], there.vm_host], np.array([1.0, 1.0, 1.0, 3.0])) == pytest.approx(
        (3 * 100 * 10 / 12 * 2 / 6 + 300) / 6
    )


def test_each_part_of_a_score_counts_by_itself():
    one = np.ones(1)
    assert drs.score(0.1 * one, 0 * one, 0 * one, one, one) == pytest.approx([90])
    assert drs.score(0 * one, 0.2 * one, 0 * one, one, one) == pytest.approx([80])
    assert drs.score(0 * one, 0 * one, 0.5 * one, one, one) == pytest.approx([50])
    assert drs.score(0 * one, 0 * one, 0 * one, 0.25 * one, one) == pytest.approx([25])
    assert drs.score(0 * one, 0 * one, 0 * one, -one, 0 * one) == pytest.approx([100])
    assert drs.score(0 * one, 0 * one, 0 * one, -one, one) == pytest.approx([0])
    assert drs.cluster_score(np.zeros(0), np.zeros(0)) == 100.0


def test_a_vm_moves_where_it_is_better_off_by_the_margin_and_the_penalty():
    """28 points on the hot host, 100 on the idle one."""
    there = cluster([(10, 20000)] * 2, HOT)
    moves = drs.improve(there, np.full(4, 6.0), np.zeros(4))
    assert moves[0] == (0, 1)
    assert drs.improve(there, np.full(4, 6.0), np.zeros(4), slider=1) == []
    assert drs.migration_penalty(np.array([30.0])) == pytest.approx([1.0])
    slow = replace(there, migration_s=np.full(4, 30 * 63.0))
    assert drs.improve(slow, np.full(4, 6.0), np.zeros(4)) == []


@settings(max_examples=100, deadline=None)
@given(clusters(), st.integers(2, 5))
def test_every_vm_that_moves_is_better_off_at_that_moment_and_moves_once(there, slider):
    burst, stall = np.full(len(there.vm_host), 4.0), np.zeros(len(there.vm_host))
    moves = drs.improve(there, burst, stall, slider)
    assert len({vm for vm, _ in moves}) == len(moves) <= drs.LINK_CAP
    now = there
    for vm, host in moves:
        found = drs.scores(now, burst, stall)
        assert ((found >= 0) & (found <= 100)).all()
        assert found[vm, host] - found[vm, now.vm_host[vm]] > drs.MARGINS[slider]
        now = replace(now, vm_host=np.where(np.arange(len(now.vm_host)) == vm, host, now.vm_host))


@pytest.mark.parametrize(("neighbours", "found"), [(10, []), (1, [(0, 1)])])
def test_a_vm_does_not_move_where_the_others_lose_more_than_it_and_those_that_stay_win(neighbours, found):
    """Two VMs of 10 cores on one host of 10 score 50. Where 5 are asked for the one that moves would score 67, and the one that
    stays 100; ten VMs there would lose 33 each, one alone as much but once."""
    there = cluster([(10, 20000)] * 2, [(0, 10, 1), (0, 10, 1), *[(1, 5 / neighbours, 1)] * neighbours])
    assert drs.improve(there, np.zeros(2 + neighbours), np.zeros(2 + neighbours)) == found
