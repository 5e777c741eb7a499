"""oVirt: the published arithmetic by hand, vetoes, timers, and properties of a move."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvgym.agents.cluster import ovirt
from hvgym.agents.cluster.ovirt import Cluster, Proposal

EVEN = (ovirt.FACTORS["cpu"], ovirt.FACTORS["memory"])


def cluster(cpus, load, free, vms=(), spm=None, timer=None) -> Cluster:
    """VMs are (host, vCPUs, percent, MiB)."""
    host, vcpus, percent, mib = (np.array(column, dtype=float) for column in zip(*vms, strict=True)) if vms else [
        np.zeros(0)
    ] * 4  # fmt: skip
    count = len(cpus)
    return Cluster(
        cpus=np.array(cpus, dtype=float),
        cpu_load_percent=np.array(load, dtype=float),
        free_mib=np.array(free, dtype=float),
        spm=np.zeros(count, dtype=bool) if spm is None else np.array(spm),
        vm_host=host.astype(int),
        vm_vcpus=vcpus,
        vm_cpu_percent=percent,
        vm_mib=mib,
        limit_for_s=np.full(count, np.nan) if timer is None else np.array(timer, dtype=float),
    )


def nobody(count):
    return np.zeros(count, dtype=bool)


NEW = (-1, 2, np.nan, 4000)
"""A VM of two vCPUs that does not run yet."""


def test_vector_ovirt_1_ranks_and_not_weights_decide():
    three = cluster([8, 8, 8], [400, 240, 80], [64000, 16000, 32000], [NEW])
    cpu, memory = ovirt.cpu_weight_even(three, 0), ovirt.memory_weight_even(three, 0)
    assert cpu.tolist() == [1000, 501, 1]
    assert memory.tolist() == [63, 813, 563]
    assert (2 * ovirt.points(cpu)).tolist() == [0, 2, 4]
    assert ovirt.points(memory).tolist() == [2, 0, 1]
    assert ovirt.total_points([cpu, memory], EVEN).tolist() == [2, 2, 5]
    assert ovirt.place(three, 0, [0, 1, 2], ovirt.weights_even, EVEN) == 2


OVERLOADED = [(0, 2, 5, 2048), (0, 4, 50, 4096)]
"""Both VMs of the first host."""


def test_vector_ovirt_2_the_smallest_vm_goes_and_its_own_host_stays_a_candidate():
    three = cluster([16] * 3, [1360, 960, 1056], [50000] * 3, OVERLOADED, timer=[130, np.nan, np.nan])
    proposals = ovirt.evenly_distributed(three, nobody(3))
    assert proposals[0] == Proposal(0, [1, 0])
    assert ovirt.move(three, proposals, ovirt.weights_even, EVEN) == (0, 1)
    # the prediction of the vector, and v2 that would fit as well: (960 + 200) / 16 = 72.5
    assert (960 + three.vm_load(0)) / 16 == 60.625
    assert proposals[1:] == [Proposal(1, [1, 0])]


def test_vector_ovirt_2_nothing_happens_before_two_minutes():
    for timer, found in ((110, 0), (119.9, 0), (120, 2)):
        three = cluster([16] * 3, [1360, 960, 1056], [50000] * 3, OVERLOADED, timer=[timer, np.nan, np.nan])
        assert len(ovirt.evenly_distributed(three, nobody(3))) == found


def test_vector_fence_a_host_of_40_vms_that_manages_storage_is_waited_for_100_s():
    assert ovirt.grace_s(40, spm=True) == 100.0
    assert ovirt.grace_s(1, spm=False) == 60.0  # 60.5, whole seconds


def test_hosts_that_migrate_take_no_part_and_two_must_be_left():
    three = cluster([16] * 3, [1360, 960, 160], [50000] * 3, OVERLOADED, timer=[130, np.nan, np.nan])
    assert ovirt.evenly_distributed(three, np.array([False, True, False]))[0] == Proposal(0, [2, 0])
    assert ovirt.evenly_distributed(three, np.array([True, False, False])) == []
    assert ovirt.evenly_distributed(three, np.array([False, True, True])) == []


def test_weights_may_veto():
    """Other hosts have less memory and the load of the VM is small, so the ranks are drawn and the order decides."""
    two = cluster([16, 16], [1360, 960], [50000, 5000], [(0, 2, 5, 2048)], timer=[130, np.nan])
    proposals = ovirt.evenly_distributed(two, nobody(2))
    assert proposals == [Proposal(0, [1, 0])]
    assert ovirt.move(two, proposals, ovirt.weights_even, (1, 2)) is None
    assert ovirt.move(two, proposals, ovirt.weights_even, (2, 1)) == (0, 1)
    assert ovirt.move(two, [], ovirt.weights_even, EVEN) is None


def test_memory_must_fit_and_be_more_than_what_is_needed():
    vms = [(0, 2, 5, 2048)]
    for free, found in ((2048, 0), (2049, 1)):
        two = cluster([16, 16], [1360, 960], [50000, free], vms, timer=[130, np.nan])
        assert len(ovirt.evenly_distributed(two, nobody(2))) == found


def test_memory_limits_move_a_vm_when_cpus_are_idle():
    vms = [(0, 2, 5, 2048), (0, 2, 7, 2048)]
    two = cluster([16, 16], [160, 160], [900, 30000], vms)
    assert ovirt.evenly_distributed(two, nobody(2)) == []
    assert ovirt.evenly_distributed(two, nobody(2), least_mib=1024, under_used_mib=4096) == [
        Proposal(0, [1, 0]),
        Proposal(1, [1, 0]),
    ]
    one_vm = replace(two, vm_host=np.array([0, 1]))
    assert ovirt.evenly_distributed(one_vm, nobody(2), least_mib=1024, under_used_mib=4096) == []


def test_sources_are_sorted_by_load_and_destinations_too():
    vms = [(0, 1, 5, 10), (1, 1, 5, 10)]
    five = cluster([10] * 5, [850, 900, 300, 100, 630], [9000] * 5, vms, timer=[200, 200, np.nan, np.nan, np.nan])
    assert ovirt.evenly_distributed(five, nobody(5)) == [Proposal(1, [3, 2, 4, 1]), Proposal(0, [3, 2, 4, 0])]


def test_the_load_is_rounded_up_and_the_storage_pool_manager_counts():
    """64 % is no destination; 63.1 % rounds to 64; SPM adds 10 % of one CPU, so 79.5 of 16 CPUs is 80.1 rounded to 81."""
    assert cluster([10], [631], [1]).load_percent.tolist() == [64]
    assert cluster([16], [79.5 * 16], [1], spm=[True]).load_percent.tolist() == [81]
    two = cluster([16, 10], [1360, 631], [9000, 9000], OVERLOADED, timer=[130, np.nan])
    assert ovirt.evenly_distributed(two, nobody(2)) == []


def test_a_host_that_has_just_become_idle_is_no_destination_yet():
    for timer, found in ((60, 0), (120, 1)):
        two = cluster([16, 16], [1360, 0], [9000, 9000], OVERLOADED[:1], timer=[130, timer])
        assert len(ovirt.evenly_distributed(two, nobody(2))) == found


def test_the_timer_runs_at_and_beyond_limits():
    start = ovirt.timer_started_s(80, math.nan, 100.0)
    assert start == 100.0
    assert ovirt.timer_started_s(95, start, 110.0) == 100.0
    assert math.isnan(ovirt.timer_started_s(79, start, 120.0))
    assert ovirt.timer_started_s(0, math.nan, 130.0) == 130.0
    assert ovirt.timer_started_s(20, math.nan, 130.0, low=20) == 130.0
    assert math.isnan(ovirt.timer_started_s(70, math.nan, 130.0))  # QUIRK: between 64 and 80 no timer runs


def test_power_saving_empties_hosts_under_low_after_those_over_the_limit():
    vms = [(0, 1, 5, 10), (1, 1, 5, 10)]
    three = cluster([10] * 3, [150, 850, 400], [9000] * 3, vms, timer=[150, 150, np.nan])
    found = ovirt.power_saving(three, nobody(3))
    assert found == [Proposal(1, [0, 2, 1]), Proposal(0, [2, 0])]
    # the fuller host is preferred: of 15.5 and 40.5 % the second
    assert ovirt.move(three, found, ovirt.weights_saving, EVEN) == (1, 2)


def test_power_saving_weights_by_hand():
    """Loads with the VM of 10 are 50, 30 and 10; h1 is over the limit without it; of 30 and 10 the first is better."""
    three = cluster([10] * 3, [810, 290, 90], [64000, 16000, 32000], [(-1, 1, np.nan, 1000)])
    assert ovirt.cpu_weight_saving(three, 0).tolist() == [1000, 1, 1000]
    # of 70400: 63000, 15000, 31000
    expected = [int(mib / 70400 * 999) + 1 for mib in (63000, 15000, 31000)]
    assert ovirt.memory_weight_saving(three, 0).tolist() == expected == [894, 213, 440]


def test_a_host_short_of_memory_weighs_as_the_worst_in_power_saving():
    """The example of the original: limits of 1 and 4 GB, hosts with 512 MB and twice 2 GB free, a VM of nothing."""
    three = cluster([10] * 3, [10] * 3, [512, 2048, 2048], [(-1, 1, np.nan, 0)])
    weights = ovirt.memory_weight_saving(three, 0, least_mib=1024, under_used_mib=4096)
    assert weights.tolist() == [1000, 909, 909]


def test_the_weight_of_the_host_it_is_on_counts_it_once():
    two = cluster([10, 10], [500, 500], [4000, 4000], [(0, 2, 50, 1000)])
    assert ovirt.cpu_weight_even(two, 0).tolist() == [1, 1000]
    assert ovirt.memory_weight_even(two, 0).tolist() == [1, 1000 - round(2999 * 999 / 3999)]


def test_a_host_over_the_ratio_of_vcpus_is_a_last_resort():
    vms = [(0, 20, 1, 10), (-1, 2, np.nan, 10)]
    two = cluster([10, 10], [10, 700], [4000, 4000], vms)
    assert ovirt.cpu_weight_even(two, 1).tolist() == [1, 1000]
    assert ovirt.cpu_weight_even(two, 1, vcpu_ratio=2.0).tolist() == [1000, 1]


def test_equal_hosts_share_the_better_rank_and_the_first_wins():
    assert ovirt.points(np.array([5.0, 5.0, 9.0, 1.0])).tolist() == [2, 2, 0, 3]
    assert ovirt.select([np.array([3.0, 1.0, 1.0])], [1]) == 1
    assert ovirt.stretched(np.array([7.0, 7.0])).tolist() == [1, 1]
    assert ovirt.stretched(np.array([])).tolist() == []


def test_vm_counts_are_evened_out_from_ten_on():
    vms = [(0, 1, 1, 10)] * 10 + [(1, 1, 1, 10)] * 5 + [(2, 1, 1, 10)] * 6
    three = cluster([100] * 3, [10] * 3, [9000] * 3, vms)
    found = ovirt.vm_evenly_distributed(three, nobody(3))
    assert len(found) == 10
    assert found[0] == Proposal(0, [1, 0])
    assert ovirt.move(three, found, lambda c, vm: [ovirt.count_weight(c, vm)], [2]) == (0, 1)
    nine = cluster([100] * 3, [10] * 3, [9000] * 3, vms[1:])
    assert ovirt.vm_evenly_distributed(nine, nobody(3)) == []
    spm = cluster([100] * 3, [10] * 3, [9000] * 3, vms, spm=[False, False, True])  # 10, 5 and 6 + 5
    assert ovirt.vm_evenly_distributed(spm, nobody(3)) == [Proposal(vm, [1, 2]) for vm in range(15, 21)]


def test_the_filter_drops_hosts_that_are_over_the_limit_for_long():
    three = cluster([10] * 3, [810, 810, 800], [1] * 3, timer=[120, 100, 500])
    assert ovirt.admitted(three).tolist() == [False, True, True]


@st.composite
def clusters(draw):
    hosts = draw(st.integers(2, 6))
    vms = draw(
        st.lists(
            st.tuples(st.integers(0, hosts - 1), st.integers(1, 8), st.integers(0, 100), st.integers(1, 8000)),
            min_size=1,
            max_size=25,
        )
    )
    load = np.zeros(hosts)
    for host, vcpus, percent, _ in vms:
        load[host] += vcpus * percent
    cpus = draw(st.lists(st.integers(4, 32), min_size=hosts, max_size=hosts))
    load = np.minimum(load, 100.0 * np.array(cpus))
    free = draw(st.lists(st.integers(2, 20000), min_size=hosts, max_size=hosts))
    timer = draw(st.lists(st.sampled_from([np.nan, 60.0, 180.0]), min_size=hosts, max_size=hosts))
    return cluster(cpus, load, free, vms, timer=timer)


@settings(max_examples=150, deadline=None)
@given(clusters(), st.sampled_from([ovirt.evenly_distributed, ovirt.power_saving]))
def test_no_destination_is_over_the_limit_or_out_of_memory_with_the_vm(there, balancer):
    for proposal in balancer(there, nobody(len(there.cpus))):
        *targets, source = proposal.hosts
        assert source == there.vm_host[proposal.vm]
        for host in targets:
            assert host != source
            assert (there.cpu_load_percent[host] + there.vm_load(proposal.vm)) / there.cpus[host] <= 80
            assert there.free_mib[host] > there.vm_mib[proposal.vm]


@settings(max_examples=150, deadline=None)
@given(clusters())
def test_an_even_move_goes_from_the_limit_to_below_it(there):
    found = ovirt.move(there, ovirt.evenly_distributed(there, nobody(len(there.cpus))), ovirt.weights_even, EVEN)
    if found is not None:
        vm, host = found
        assert there.load_percent[there.vm_host[vm]] >= 80
        assert there.load_percent[host] < 64


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-100, 100), min_size=1, max_size=12))
def test_points_are_those_of_the_ranking_that_the_original_walks(weights):
    """Down a sorted list; a weight that is worse than the last one takes the rank of its place."""
    rank, last, expected = len(weights), -math.inf, {}
    for place, weight in enumerate(sorted(weights)):
        if weight > last:
            rank, last = len(weights) - 1 - place, weight
        expected[weight] = rank
    assert ovirt.points(np.array(weights, dtype=float)).tolist() == [expected[weight] for weight in weights]


def test_what_is_read_is_not_changed():
    three = cluster([16] * 3, [1360, 960, 1056], [50000] * 3, OVERLOADED, timer=[130, np.nan, np.nan])
    before = [np.copy(getattr(three, name)) for name in three.__dataclass_fields__]
    ovirt.move(three, ovirt.evenly_distributed(three, nobody(3)), ovirt.weights_even, EVEN)
    for name, was in zip(three.__dataclass_fields__, before, strict=True):
        np.testing.assert_array_equal(getattr(three, name), was)


def test_a_vm_that_must_leave_its_host_keeps_its_load_in_the_weights():
    """It uses 8 CPUs; the host with 4 idle ones is full with it, one with 8 is not."""
    three = cluster([16] * 3, [1600, 0, 800], [9000, 9000, 9000], [(0, 8, 100, 100)])
    assert ovirt.place(three, 0, [1, 2], ovirt.weights_even, EVEN) == 1
    assert ovirt.place(three, 0, [2, 1], ovirt.weights_even, EVEN) == 1
    assert three.vm_load(0) == pytest.approx(800)
