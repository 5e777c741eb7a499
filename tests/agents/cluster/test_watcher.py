"""Watcher's strategies that even out load: the golden vectors, cases computed by hand, and what holds for any cluster."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvgym.agents.cluster.watcher import Hosts, Stabilization, Vms, workload_balance, workload_stabilization
from hvgym.envs.errors import InputError


def hosts(vcpus, memory_mib=None, ratio=4.0, used_cores=None, used_mib=None) -> Hosts:
    vcpus = np.array(vcpus, float)
    memory = np.full(len(vcpus), 65536.0) if memory_mib is None else np.array(memory_mib, float)
    cores = np.zeros(len(vcpus)) if used_cores is None else np.array(used_cores, float)
    mib = np.zeros(len(vcpus)) if used_mib is None else np.array(used_mib, float)
    return Hosts(vcpus, memory, vcpus * ratio, memory, cores, mib)


def vms(*rows) -> Vms:
    """Rows of (host, vcpus, memory, used cores, used memory[, active])."""
    host, vcpus, memory, cores, mib, active = zip(*((*row, True)[:6] for row in rows), strict=True)
    return Vms(np.array(host), *(np.array(v, float) for v in (vcpus, memory, cores, mib)), np.array(active))


THREE_OF_8_AND_TWO_OTHERS = vms(
    (0, 4, 1024, 1, 0), (0, 4, 1024, 3, 0), (0, 4, 1024, 4, 0), (1, 4, 1024, 2, 0), (2, 4, 1024, 1, 0)
)
"""Loads of the hosts 8, 2, 1; the mean is 3.667, the excess of the first 4.333."""


def test_a_vm_that_no_host_takes_ends_the_audit():
    """Watcher-1: the VM of 4 leaves the least of the excess; 2 + 4 and 1 + 4 are not below 25 % of 16."""
    assert workload_balance(hosts([16, 16, 16]), THREE_OF_8_AND_TWO_OTHERS, threshold=25.0) == []


def test_the_vm_nearest_to_the_excess_goes_to_the_least_used_host():
    """Watcher-2: below 6.4 both pass."""
    assert workload_balance(hosts([16, 16, 16]), THREE_OF_8_AND_TWO_OTHERS, threshold=40.0) == [(2, 2)]


def test_a_vm_that_does_not_run_is_not_chosen():
    """Without the VM of 4, that of 3 is the nearest below 4.333."""
    still = vms(
        (0, 4, 1024, 1, 0), (0, 4, 1024, 3, 0), (0, 4, 1024, 4, 0, False), (1, 4, 1024, 2, 0), (2, 4, 1024, 1, 0)
    )
    assert workload_balance(hosts([16, 16, 16]), still, threshold=40.0) == [(1, 2)]


def test_a_source_whose_vms_are_all_larger_than_its_excess_gives_way_to_the_next():
    """Loads 10, 8, 0: excess 4 and 2; the first has one VM of 10, the second one of 2."""
    two = vms((0, 4, 1, 10, 0), (1, 4, 1, 2, 0), (1, 4, 1, 6, 0))
    assert workload_balance(hosts([16, 16, 16]), two, threshold=40.0) == [(1, 2)]


def test_a_host_that_is_promised_too_much_takes_nothing():
    cluster = hosts([16, 16, 16], ratio=1.0)
    full = vms((0, 4, 1, 4, 0), (0, 4, 1, 4, 0), (1, 4, 1, 2, 0), (2, 13, 1, 1, 0))
    assert workload_balance(cluster, full, threshold=45.0) == [(0, 1)]  # the least used host has 3 vCPUs left
    full = vms((0, 4, 40000, 4, 0), (0, 4, 1, 4, 0), (1, 4, 30000, 2, 0), (2, 13, 1, 1, 0))
    assert workload_balance(cluster, full, threshold=45.0) == []  # the first of equals is chosen, and h2 has 35536 MiB


def test_memory_is_balanced_in_mib():
    cluster = hosts([1, 1], [1000, 2000])
    placed = vms((0, 1, 100, 0, 100), (0, 1, 100, 0, 200), (1, 1, 100, 0, 20))
    assert workload_balance(cluster, placed, metric="ram", threshold=25.0) == [(0, 1)]  # mean 160, excess 140
    assert workload_balance(cluster, placed, metric="ram", threshold=31.0) == []
    with pytest.raises(InputError, match="metric='disk': expected cpu or ram"):
        workload_balance(cluster, placed, metric="disk")


SEARCH = Stabilization(host_choice="fullsearch")


def test_moves_are_applied_while_the_deviation_falls():
    """Loads .8, .2, .2 of 10 cores, VMs of 2 and 3 on the first.

    3 to either other makes .5, .5, .2 (.141), 2 makes .6, .4, .2 (.163); the first of equals is kept. The VM of 3 goes, and
    after it that of 2 would make .3, .7, .2 (.216).
    """
    cluster = hosts([10, 10, 10], used_cores=[8, 2, 2])
    placed = vms((0, 2, 1, 2, 0), (0, 2, 1, 3, 0))
    assert workload_stabilization(cluster, placed, np.random.default_rng(0), SEARCH) == [(1, 1)]
    assert np.std([0.5, 0.5, 0.2]) == pytest.approx(0.14142, abs=1e-5)


def test_an_audit_stops_below_the_threshold():
    """Loads .9, .1 of 10 cores, VMs of 2: after one .7, .3 (sd .2), after two .5, .5 (sd 0)."""
    cluster = hosts([10, 10], used_cores=[9, 1])
    placed = vms((0, 2, 1, 2, 0), (0, 2, 1, 2, 0), (0, 2, 1, 2, 0))
    rng = np.random.default_rng(0)
    assert workload_stabilization(cluster, placed, rng) == [(0, 1), (1, 1)]
    assert workload_stabilization(cluster, placed, rng, Stabilization(thresholds={"cpu": 0.3})) == [(0, 1)]
    assert workload_stabilization(cluster, placed, rng, Stabilization(thresholds={"cpu": 0.41})) == []


def test_one_metric_below_its_threshold_is_enough():
    """Memory is even from the start: it stops after the first move."""
    cluster = hosts([10, 10], used_cores=[9, 1], used_mib=[1000, 1000])
    placed = vms((0, 2, 1, 2, 1), (0, 2, 1, 2, 1), (0, 2, 1, 2, 1))
    both = Stabilization(metrics=("cpu", "ram"))
    assert workload_stabilization(cluster, placed, np.random.default_rng(0), both) == [(0, 1)]


def test_a_vm_weighs_less_on_a_larger_host():
    """8 of 10 cores and 0 of 40: 4 cores make .4 and .1."""
    cluster = hosts([10, 40], used_cores=[8, 0])
    assert workload_stabilization(cluster, vms((0, 4, 1, 4, 0)), np.random.default_rng(0)) == [(0, 1)]
    assert workload_stabilization(cluster, vms((0, 4, 1, 9, 0)), np.random.default_rng(0)) == [(0, 1)]  # -.1, .225
    assert workload_stabilization(cluster, vms((0, 4, 1, 20, 0)), np.random.default_rng(0)) == []  # -1.2, .5


def test_a_vm_with_two_good_targets_takes_the_better_one_once():
    """Loads .9, .3, 0 and a VM of 1: .8, .4, 0 and .8, .3, .1 are both better than now."""
    cluster = hosts([10, 10, 10], used_cores=[9, 3, 0])
    assert workload_stabilization(cluster, vms((0, 1, 1, 1, 0)), np.random.default_rng(0), SEARCH) == [(0, 2)]


def test_a_vm_that_may_not_move_is_left_out():
    cluster = hosts([10, 10, 10], used_cores=[9, 1, 2])
    placed = vms((0, 2, 1, 2, 0), (0, 2, 1, 3, 0))
    only = workload_stabilization(cluster, placed, np.random.default_rng(0), SEARCH, np.array([True, False]))
    assert only == [(0, 1)]


def test_cycle_takes_the_hosts_in_turn():
    """Host 0's three VMs of 1 are tried on 1, 2 and 1."""
    cluster = hosts([10, 10, 10], used_cores=[9, 1, 1])
    placed = vms((0, 1, 1, 1, 0), (0, 1, 1, 1, 0), (0, 1, 1, 1, 0))
    cycled = workload_stabilization(cluster, placed, np.random.default_rng(0), Stabilization(host_choice="cycle"))
    assert cycled == [(0, 1), (1, 2), (2, 1)]
    with pytest.raises(InputError, match="host_choice='all': expected retry, cycle or fullsearch"):
        Stabilization(host_choice="all")


def test_retry_draws_from_the_generator_given():
    cluster = hosts([10] * 6, used_cores=[9, 1, 1, 1, 1, 1])
    placed = vms((0, 1, 1, 1, 0))
    drawn = {tuple(workload_stabilization(cluster, placed, np.random.default_rng(seed))) for seed in range(40)}
    assert drawn == {((0, host),) for host in range(1, 6)}
    again = [workload_stabilization(cluster, placed, np.random.default_rng(5)) for _ in range(2)]
    assert again[0] == again[1]


@st.composite
def clusters(draw):
    count = draw(st.integers(1, 5))
    size = st.integers(4, 64)
    cores = draw(st.lists(size, min_size=count, max_size=count))
    row = st.tuples(
        st.integers(0, count - 1), st.integers(1, 8), st.integers(1, 4000), st.integers(0, 8), st.integers(0, 4000)
    )
    placed = vms(*draw(st.lists(row, min_size=1, max_size=8)))
    own = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    used = np.bincount(placed.host, placed.used_cores, count) + own
    used_mib = np.bincount(placed.host, placed.used_mib, count)
    memory = draw(st.lists(st.integers(4000, 65536), min_size=count, max_size=count))
    return hosts(cores, memory, draw(st.sampled_from([1.0, 4.0])), used, used_mib), placed


@given(clusters(), st.sampled_from(["cpu", "ram"]), st.integers(5, 95))
def test_balance_moves_at_most_one_vm_and_the_target_stays_below_the_threshold(drawn, metric, threshold):
    cluster, placed = drawn
    moves = workload_balance(cluster, placed, metric, threshold)
    assert len(moves) <= 1
    for vm, host in moves:
        assert host != placed.host[vm]
        load, capacity = (
            (placed.used_cores, cluster.vcpus) if metric == "cpu" else (placed.used_mib, cluster.memory_mib)
        )
        after = np.bincount(np.where(np.arange(len(load)) == vm, host, placed.host), load, len(capacity))
        assert after[host] < threshold / 100.0 * capacity[host]
        promised = np.bincount(np.where(np.arange(len(load)) == vm, host, placed.host), placed.vcpus, len(capacity))
        assert promised[host] <= cluster.allocatable_vcpus[host]


@given(clusters(), st.sampled_from(["retry", "cycle", "fullsearch"]), st.integers(0, 9))
def test_each_move_of_stabilization_lowers_the_deviation(drawn, choice, seed):
    cluster, placed = drawn
    moves = workload_stabilization(cluster, placed, np.random.default_rng(seed), Stabilization(host_choice=choice))
    load = cluster.used_cores / cluster.vcpus
    deviations = [load.std()]
    for vm, host in moves:
        load[placed.host[vm]] -= placed.used_cores[vm] / cluster.vcpus[placed.host[vm]]
        load[host] += placed.used_cores[vm] / cluster.vcpus[host]
        assert host != placed.host[vm]
        deviations.append(load.std())
    assert (np.diff(deviations) < 1e-12).all()
    assert len({vm for vm, _ in moves}) == len(moves)
