"""How many migrations run at once: ESXi's pools by the published example, counts of other stacks at their edges."""

import math

import numpy as np
import pytest

from hvgym.envs.model import concurrency
from hvgym.envs.model.concurrency import HOST, LIMITS, NETWORK, POOL_COST, fits_pools, may_start, pool_most


def started(operations, most):
    """How many of these start, in order, each charged on one host, one network and one datastore."""
    used, running = np.zeros(3), 0
    for operation in operations:
        if fits_pools(used, POOL_COST[operation], most):
            used += POOL_COST[operation]
            running += 1
    return running, used


def test_vector_one_storage_vmotion_and_four_vmotions_fill_a_host_of_10_gbe():
    kinds = [concurrency.STORAGE_VMOTION] + [concurrency.VMOTION] * 5
    running, used = started(kinds, pool_most(10.0))
    assert running == 5
    assert used[HOST] == 8.0
    assert used[NETWORK] == 4.0


@pytest.mark.parametrize(
    ("operation", "gbit", "most"),
    [
        (concurrency.VMOTION, 1.0, 4),
        (concurrency.VMOTION, 10.0, 8),
        (concurrency.VMOTION, 25.0, 8),
        (concurrency.STORAGE_VMOTION, 1.0, 2),
        (concurrency.SHARED_NOTHING, 10.0, 2),
        (concurrency.PROVISIONING, 1.0, 8),
    ],
)
def test_of_one_kind_a_host_takes(operation, gbit, most):
    assert started([operation] * 20, pool_most(gbit))[0] == most


def test_a_datastore_takes_eight_storage_vmotions_of_several_hosts():
    most = pool_most(10.0)
    most[HOST] = math.inf
    assert started([concurrency.STORAGE_VMOTION] * 20, most)[0] == 8
    assert started([concurrency.VMOTION] * 200, np.array([math.inf, 128.0, math.inf]))[0] == 128


def test_no_pool_is_ever_exceeded():
    rng = np.random.default_rng(1)
    for _ in range(200):
        most = pool_most(float(rng.choice([1.0, 10.0])))
        _, used = started(rng.integers(0, 4, 30), most)
        assert (used <= most).all()


def test_cpu_for_vmotion():
    assert concurrency.reserved_cores(1.0) == 0.3
    assert concurrency.reserved_cores(4.0) == pytest.approx(0.4)
    assert concurrency.reserved_cores(10.0) == 1.0


@pytest.mark.parametrize(
    ("stack", "sends", "receives", "cluster", "expected"),
    [
        ("nova", 0, 9, 9, True),
        ("nova", 1, 0, 1, False),
        ("ovirt", 1, 1, 9, True),
        ("ovirt", 2, 0, 2, False),
        ("ovirt", 0, 2, 2, False),
        ("kubevirt", 1, 9, 4, True),
        ("kubevirt", 2, 0, 2, False),
        ("kubevirt", 0, 0, 5, False),
        ("proxmox", 3, 0, 0, True),
        ("proxmox", 4, 0, 0, False),
        ("xenserver", 2, 2, 2, True),
        ("xenserver", 0, 0, 3, False),
        ("hyperv", 2, 0, 0, False),
        ("workstation", 0, 0, 0, False),
    ],
)
def test_counts_of_the_other_stacks(stack, sends, receives, cluster, expected):
    assert may_start(float(sends), float(receives), float(cluster), *LIMITS[stack]) == expected
    assert may_start.py_func(float(sends), float(receives), float(cluster), *LIMITS[stack]) == expected


def test_compiled_and_plain_agree():
    rng = np.random.default_rng(2)
    for _ in range(300):
        used, cost, most = rng.integers(0, 5, (3, 3)).astype(float)
        expected = bool((used + cost <= most).all())
        assert fits_pools(used, cost, most) == expected == fits_pools.py_func(used, cost, most)
