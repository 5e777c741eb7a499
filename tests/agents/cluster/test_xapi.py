"""XenServer's failover planner: published vectors, its greed, the worst case against all sequences."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hvgym.agents.cluster import xapi
from hvgym.agents.cluster.xapi import Plan, Pool


def pool(free, vms) -> Pool:
    """VMs are (host, MiB)."""
    return Pool(
        np.array(free, dtype=float),
        np.array([mib for _, mib in vms], dtype=float),
        np.array([host for host, _ in vms], dtype=int),
    )


VECTOR = [(0, 6), (0, 4), (1, 4), (2, 5)]


def test_vector_xapi_1_a_plan_exists():
    there = pool([8, 6, 10], VECTOR)
    assert xapi.failover(there, [0]) == Plan([(0, 2), (1, 1)], [])
    assert xapi.failover(there, [1]) == Plan([(2, 2)], [])
    assert xapi.failover(there, [2]) == Plan([(3, 0)], [])
    assert xapi.plan_exists(there, 1)


def test_vector_xapi_2_the_largest_bin_is_too_small_so_the_pool_is_overcommitted():
    there = pool([8, 5, 10], [(0, 6), (0, 6), (1, 4), (2, 5)])
    assert xapi.failover(there, [0]) == Plan([(0, 2)], [1])
    assert not xapi.plan_exists(there, 1)


def test_only_the_largest_host_is_tried():
    """10 into 12 leaves 2; then the largest is 7: 7 fits; 2 fits. First fit would not have failed either, but sizes
    6, 5, 5 into 10 and 6: 6 into 10 (4 left), 5 into 6 (1 left), 5 nowhere, though 6 into 6 and twice 5 into 10 fit."""
    assert xapi.pack([(0, 10), (1, 7), (2, 2)], [(0, 12), (1, 7)]) == Plan([(0, 0), (1, 1), (2, 0)], [])
    assert xapi.pack([(0, 5), (1, 6), (2, 5)], [(0, 10), (1, 6)]) == Plan([(1, 0), (0, 1)], [2])


def test_of_equal_hosts_the_one_that_took_a_vm_last_comes_first():
    assert xapi.pack([(0, 3)], [(0, 5), (1, 5)]).moves == [(0, 0)]
    assert xapi.pack([(0, 2), (1, 1)], [(0, 7), (1, 5)]).moves == [(0, 0), (1, 0)]


def test_too_few_hosts_can_never_be_planned_for():
    assert xapi.plan_exists(pool([5, 5], []), 2)
    assert not xapi.plan_exists(pool([5, 5], [(0, 1)]), 2)
    assert not xapi.plan_exists(pool([5, 5], []), 3)
    assert xapi.plan_exists(pool([0, 0], [(0, 1)]), 0)


def test_a_vm_fails_twice_when_its_new_host_fails():
    """One failure: 4 into the third host. Two: it must take all 8, and has 7 or 8."""
    assert xapi.plan_exists(pool([4, 4, 7], [(0, 4), (1, 4)]), 1)
    assert not xapi.plan_exists(pool([4, 4, 7], [(0, 4), (1, 4)]), 2)
    assert xapi.plan_exists(pool([4, 4, 8], [(0, 4), (1, 4)]), 2)


def test_when_all_sequences_are_tried():
    assert xapi.sequences_are_tried(32, 2)  # 992
    assert not xapi.sequences_are_tried(33, 1)
    assert xapi.sequences_are_tried(16, 3)  # 3360
    assert not xapi.sequences_are_tried(17, 3)  # 4080
    assert xapi.sequences_are_tried(15, 3)


def test_the_worst_case_by_hand():
    """Largest VM 4: rooms 3, 2, 1; counts 3, 1, 1. Without the largest host 3 rooms: 3 VMs fit; two hosts: 4 into 1."""
    there = pool([12, 8, 7], [(0, 4), (0, 1), (0, 1), (1, 1), (2, 1)])
    assert xapi.worst_case_fits(there, 1)
    assert not xapi.worst_case_fits(there, 2)
    assert not xapi.worst_case_fits(pool([12, 8, 3], [*[(0, 4)] * 3, (1, 1)]), 1)
    assert xapi.worst_case_fits(pool([1], []), 1)


def test_a_pool_of_33_hosts_gets_the_worst_case():
    """One VM of 10 on the first host fits into the second only; taken for a VM on any host it fits nowhere."""
    free, vms = [0.0, 10.0] + [9.0] * 31, [(0, 10), *[(host, 1) for host in range(1, 33)]]
    assert not xapi.plan_exists(pool(free, vms), 1)
    assert xapi.plan_exists(pool(free[:32], vms[:32]), 1)
    assert not xapi.plan_exists(pool(free[:32], vms[:32]), 1, hosts=33)


def test_restart_order():
    order = np.array([2, -1, 0, 1, 0, -5])
    assert xapi.restart_order(order, np.array([False, False, False, False, True, False])) == [2, 3, 0, 1, 5, 4]


@st.composite
def pools(draw):
    hosts = draw(st.integers(2, 5))
    free = draw(st.lists(st.integers(0, 30), min_size=hosts, max_size=hosts))
    vms = draw(st.lists(st.tuples(st.integers(0, hosts - 1), st.integers(1, 12)), max_size=10))
    return pool(free, vms)


@settings(max_examples=300, deadline=None)
@given(pools(), st.integers(0, 3))
def test_a_plan_that_exists_fits_when_it_is_carried_out_host_by_host(there, failures):
    """Independent of the planner's recursion: play every ordered sequence with plain arrays."""
    survives = True
    for sequence in itertools.permutations(range(len(there.free_mib)), failures):
        free, where = there.free_mib.copy(), there.vm_host.copy()
        for dead in sequence:
            free[dead] = -1.0
            for vm in sorted(np.flatnonzero(where == dead), key=lambda vm: -there.vm_mib[vm]):
                host = int(np.argmax(free))
                survives &= bool(free[host] >= there.vm_mib[vm])
                free[host] -= there.vm_mib[vm]
                where[vm] = host
    enough = len(there.free_mib) > failures or (len(there.free_mib) == failures and not len(there.vm_mib))
    assert xapi.plan_exists(there, failures) == (survives and enough)


@settings(max_examples=200, deadline=None)
@given(pools(), st.integers(1, 2))
def test_no_host_is_filled_beyond_its_memory_and_every_vm_is_placed_or_left(there, failures):
    failed = list(range(failures))
    plan = xapi.failover(there, failed)
    taken = np.zeros(len(there.free_mib))
    for vm, host in plan.moves:
        assert host not in failed
        taken[host] += there.vm_mib[vm]
    assert (taken <= there.free_mib).all()
    assert sorted([vm for vm, _ in plan.moves] + plan.left) == np.flatnonzero(np.isin(there.vm_host, failed)).tolist()


@settings(max_examples=300, deadline=None)
@given(pools())
def test_for_one_failure_the_cautious_planner_never_promises_what_the_exact_one_denies(there):
    if xapi.worst_case_fits(there, 1):
        assert xapi.plan_exists(there, 1)
