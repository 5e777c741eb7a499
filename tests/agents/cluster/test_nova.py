"""Nova's weighers and filters: the golden vectors and the rules that they rest on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvgym.agents.cluster import nova
from hvgym.agents.cluster.nova import Hosts, Multipliers


def hosts(*rows, **settings) -> Hosts:
    """Rows of (vcpus, memory, disk, allocated vcpus, allocated memory, allocated disk, I/O tasks)."""
    return Hosts(*(np.array(column, float) for column in zip(*rows, strict=True)), **settings)


def test_the_host_that_is_good_in_all_wins():
    """Nova-1: 1 + 1/3 + 1 - 1, 1/2 + 40/48 + 1 - 0, 1/4 + 1 + 1 - 1/2."""
    weight = nova.weights([64000, 32000, 16000], [16, 40, 48], [100, 100, 100], [2, 0, 1])
    assert weight == pytest.approx([4 / 3, 7 / 3, 1.75], abs=1e-12)


def test_a_tie_goes_to_the_first_host():
    """Nova-2: too many vCPUs are promised on both, which weighs nothing."""
    weight = nova.weights([8000, 4000], [-4, -2], [100, 200], [0, 0])
    assert weight == pytest.approx([1.5, 1.5], abs=1e-12)
    pair = hosts((0, 8512, 100, 4, 0, 0, 0), (0, 4512, 200, 2, 0, 0, 0))
    assert nova.ranked(pair, np.array([True, True])) == [0, 1]
    swapped = hosts((0, 4512, 200, 2, 0, 0, 0), (0, 8512, 100, 4, 0, 0, 0))
    assert nova.ranked(swapped, np.array([True, True])) == [0, 1]


def test_equal_values_weigh_one_unless_they_are_nought():
    assert list(nova.normalised(np.array([5.0, 5.0]))) == [1.0, 1.0]
    assert list(nova.normalised(np.array([0.0, 0.0]))) == [0.0, 0.0]
    assert list(nova.normalised(np.array([-3.0, -1.0]))) == [0.0, 0.0]
    assert list(nova.normalised(np.array([-3.0, 2.0, 8.0]))) == [0.0, 0.25, 1.0]


def test_memory_is_promised_once_and_vcpus_four_times():
    """Of 8192 MiB 512 are the host's own."""
    one = hosts((4, 8192, 100, 12, 4096, 50, 0))
    assert nova.fits(one, 4, 3584, 50).all()
    assert not nova.fits(one, 4.5, 3584, 50).any()
    assert not nova.fits(one, 4, 3585, 50).any()
    assert not nova.fits(one, 4, 3584, 51).any()
    assert nova.fits(replace(one, ram_ratio=1.5), 4, 7424, 50).all()
    assert nova.select_host(one, 4, 3585) is None


def test_optional_filters_count_tasks_and_instances():
    assert list(nova.passes_io_tasks(np.array([7, 8]))) == [True, False]
    assert list(nova.passes_instances(np.array([49, 50]))) == [True, False]


def test_hosts_that_are_not_allowed_do_not_weigh_in():
    """Without the giant, h2's memory is the measure, and h1 wins by vCPUs."""
    three = hosts((64, 900000, 0, 0, 0, 0, 0), (30, 10512, 0, 0, 0, 0, 0), (10, 10512, 0, 0, 0, 0, 0))
    assert nova.select_host(three, 1, 100) == 0
    assert nova.select_host(three, 1, 100, allowed=np.array([False, True, True])) == 1
    assert nova.select_host(three, 1, 20000, allowed=np.array([False, True, True])) is None


def test_a_negative_multiplier_stacks():
    two = hosts((16, 10512, 0, 0, 0, 0, 0), (16, 10512, 0, 8, 5000, 0, 0))
    assert nova.select_host(two, 1, 100) == 0
    assert nova.select_host(two, 1, 100, multipliers=Multipliers(ram=-1.0, cpu=0.0)) == 1


def test_one_of_the_best_is_drawn_when_a_subset_is_asked_for():
    four = hosts(*((16, 10512, 0, used, 0, 0, 0) for used in (3, 0, 2, 1)))
    rng = np.random.default_rng(3)
    drawn = {nova.select_host(four, 1, 100, subset_size=2, rng=rng) for _ in range(50)}
    assert drawn == {1, 3}
    assert nova.select_host(four, 1, 100, subset_size=2) == 1


ROW = st.tuples(*(st.integers(1, 64), st.integers(600, 9000), st.integers(0, 50)), *(st.integers(0, 40),) * 4)


@given(st.lists(ROW, min_size=1, max_size=6), st.integers(1, 16), st.integers(1, 4000), st.integers(0, 20))
def test_the_host_taken_has_room_and_weighs_most_of_those_that_have(rows, vcpus, memory_mib, disk_gib):
    cluster = hosts(*rows)
    room = nova.fits(cluster, vcpus, memory_mib, disk_gib)
    host = nova.select_host(cluster, vcpus, memory_mib, disk_gib)
    if host is None:
        assert not room.any()
        return
    assert cluster.allocated_mib[host] + memory_mib <= cluster.memory_mib[host] - 512
    assert cluster.allocated_vcpus[host] + vcpus <= 4 * cluster.vcpus[host]
    left = np.flatnonzero(room)
    weight = nova.weights(
        (cluster.memory_mib - 512 - cluster.allocated_mib)[left],
        (4 * cluster.vcpus - cluster.allocated_vcpus)[left],
        (cluster.disk_gib - cluster.allocated_gib)[left],
        cluster.io_tasks[left],
    )
    assert host == left[np.argmax(weight)]
