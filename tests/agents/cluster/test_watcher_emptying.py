"""Watcher's strategies that empty hosts: cases computed by hand, one of the original's, and what holds for any cluster."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvgym.agents.cluster.watcher import Hosts, Vms
from hvgym.agents.cluster.watcher_emptying import Consolidation, host_maintenance, vm_workload_consolidation


def hosts(vcpus, memory_mib, measured=0.0) -> Hosts:
    vcpus, memory = np.array(vcpus, float), np.array(memory_mib, float)
    return Hosts(vcpus, memory, vcpus, memory, np.full(len(vcpus), measured), np.zeros(len(vcpus)))


def vms(*rows) -> Vms:
    """Rows of (host, vcpus, memory, used cores, used memory[, active])."""
    host, vcpus, memory, cores, mib, active = zip(*((*row, True)[:6] for row in rows), strict=True)
    return Vms(np.array(host), *(np.array(v, float) for v in (vcpus, memory, cores, mib)), np.array(active))


def test_the_least_used_host_is_emptied_as_in_the_originals_first_scenario():
    """Two hosts of 40 vCPUs and 64 MB, a VM of 10 vCPUs and 2 MB on each."""
    plan = vm_workload_consolidation(hosts([40, 40], [64, 64]), vms((0, 10, 2, 1, 1), (1, 10, 2, 3, 1)))
    assert plan == Consolidation([(0, 1)], [0])


def test_an_overloaded_host_loses_its_smallest_vms_to_where_they_fit_by_promise():
    """Like the original's second scenario: six VMs of 10 vCPUs on a host of 16, a host takes one each.

    They use 3 to 8 cores, together 33 of 16: after 3, 4, 5 and 6 have left 15 remain.
    """
    six = vms(*((0, 10, 2, cores, 1) for cores in (8, 7, 6, 5, 4, 3)))
    plan = vm_workload_consolidation(hosts([16] * 5, [64] * 5), six)
    assert plan.moves == [(5, 4), (4, 3), (3, 2), (2, 1)]
    assert plan.emptied == []


def test_packing_goes_to_the_most_used_host_that_takes_the_vm_and_never_down():
    """Use 1 + 2, 4, 6 of 8 cores: the VM of 2 fills the third host, that of 1 goes to the second; the second's stays."""
    four = vms((0, 1, 1, 1, 1), (0, 1, 1, 2, 1), (1, 1, 1, 4, 1), (2, 1, 1, 6, 1))
    assert vm_workload_consolidation(hosts([8, 8, 8], [100] * 3), four) == Consolidation([(1, 2), (0, 1)], [0])


def test_a_vm_that_is_moved_on_migrates_once_and_its_move_comes_last():
    """Hosts of 8 cores: A uses 1 + 1 + 8, B 0.5, C 2.5 + 7.

    A's two VMs of 1 go to B, then C's of 2.5. B (5) now packs onto C (7): 2.5 does not fit, the second VM of 1 does.
    """
    six = vms((0, 1, 1, 1, 1), (0, 1, 1, 1, 1), (0, 1, 1, 8, 1), (1, 1, 1, 0.5, 1), (2, 1, 1, 2.5, 1), (2, 1, 1, 7, 1))
    assert vm_workload_consolidation(hosts([8] * 3, [100] * 3), six).moves == [(0, 1), (4, 1), (1, 2)]


def test_a_vm_that_returns_does_not_move():
    """A uses 1 + 4 + 5.5 of 8: 1 and 4 leave for B, and then A has room for 1 again."""
    three = vms((0, 1, 1, 1, 1), (0, 1, 1, 4, 1), (0, 1, 1, 5.5, 1))
    assert vm_workload_consolidation(hosts([8] * 2, [100] * 2), three).moves == [(1, 1)]


def test_a_vm_without_use_counts_as_all_that_it_was_promised():
    """0 cores used of 4 promised: 5 + 4 is more than 8."""
    idle = vms((0, 4, 1, 0, 1), (1, 4, 1, 5, 1))
    assert vm_workload_consolidation(hosts([8, 8], [100, 100]), idle).moves == []
    hardly = vms((0, 4, 1, 0.01, 1), (1, 4, 1, 5, 1))
    assert vm_workload_consolidation(hosts([8, 8], [100, 100]), hardly).moves == [(0, 1)]


def test_what_a_host_measures_beyond_its_vms_counts():
    assert (
        vm_workload_consolidation(hosts([8, 8], [100, 100], measured=7.5), vms((0, 1, 1, 1, 1), (1, 1, 1, 5, 1))).moves
        == []
    )


def test_a_vm_that_must_stay_keeps_its_host_busy():
    two = vms((0, 1, 1, 1, 1), (1, 1, 1, 5, 1))
    assert vm_workload_consolidation(hosts([8, 8], [100, 100]), two, np.array([False, True])) == Consolidation([], [])


def test_a_host_is_emptied_onto_its_backup_or_a_spare_or_wherever():
    cluster = hosts([8, 4, 6, 8], [100, 100, 100, 10])
    placed = vms((0, 3, 20, 1, 1), (0, 2, 20, 1, 1, False), (1, 1, 10, 1, 1))
    onto = host_maintenance(cluster, placed, 0, backup=2)
    assert (onto.live, onto.cold, onto.stopped, onto.enabled) == ([(0, 2)], [(1, 2)], [], None)
    spare = host_maintenance(cluster, placed, 0, backup=1, spares=np.array([True, True, True, True]))
    assert (spare.live, spare.enabled) == ([(0, 2)], 2)  # 5 vCPUs: h1 has 3 left, h3 too little memory
    open_end = host_maintenance(cluster, placed, 0, backup=1)
    assert (open_end.live, open_end.cold, open_end.enabled) == ([(0, None)], [(1, None)], None)


@pytest.mark.parametrize(
    ("live", "cold", "expected"),
    [(True, False, ([0], [], [])), (False, True, ([], [0, 1], [])), (False, False, ([], [], [0]))],
)
def test_what_may_not_migrate_is_stopped_or_left(live, cold, expected):
    placed = vms((0, 3, 20, 1, 1), (0, 2, 20, 1, 1, False))
    plan = host_maintenance(hosts([8, 8], [100, 100]), placed, 0, live_allowed=live, cold_allowed=cold)
    assert ([vm for vm, _ in plan.live], [vm for vm, _ in plan.cold], plan.stopped) == expected


@st.composite
def clusters(draw):
    count = draw(st.integers(1, 5))
    size = st.lists(st.integers(8, 64), min_size=count, max_size=count)
    row = st.tuples(
        st.integers(0, count - 1), st.integers(1, 8), st.integers(1, 16), st.integers(0, 16), st.integers(0, 16)
    )
    return hosts(draw(size), draw(size)), vms(*draw(st.lists(row, min_size=1, max_size=10)))


@given(clusters())
def test_no_host_is_filled_over_its_capacity_and_emptied_hosts_are_empty(drawn):
    cluster, placed = drawn
    plan = vm_workload_consolidation(cluster, placed)
    after = placed.host.copy()
    for vm, host in plan.moves:
        assert host != placed.host[vm]
        after[vm] = host
    assert len({vm for vm, _ in plan.moves}) == len(plan.moves)
    assert set(plan.emptied) == set(range(len(cluster.vcpus))) - set(after)
    count = len(cluster.vcpus)
    for amount, capacity in ((placed.vcpus, cluster.vcpus), (placed.memory_mib, cluster.memory_mib)):
        before, now = np.bincount(placed.host, amount, count), np.bincount(after, amount, count)
        assert (now <= np.maximum(before, capacity)).all()


@given(clusters())
def test_consolidation_of_what_is_not_overloaded_frees_hosts_and_never_fills_empty_ones(drawn):
    cluster, placed = drawn
    use = np.where(placed.used_cores == 0, placed.vcpus, placed.used_cores)
    count = len(cluster.vcpus)
    if (np.bincount(placed.host, use, count) <= cluster.vcpus).all():
        occupied = set(placed.host)
        assert set(vm_workload_consolidation(cluster, placed).emptied) >= set(range(count)) - occupied
