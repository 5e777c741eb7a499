"""How many migrations run at once: ESXi's pools by the published example, counts of other stacks at their edges."""

import math

import numpy as np
import pytest

from hvgym.envs.model import concurrency
from hvgym.envs.model.concurrency import HOST, NETWORK, POOL_COST, charge, fits_pools, may_start, pool_most


def started(operations, most):
    """How many of these start, in order, each charged on one host, one network and one datastore."""
    used, running = np.zeros(3), 0
    for operation in operations:
        if fits_pools(used, operation, most):
            charge(used, operation, 1.0)
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
    ("sends", "receives", "cluster", "expected"),
    [(1, 1, 4, True), (2, 0, 2, False), (0, 3, 3, False), (0, 0, 5, False), (0, 0, 0, True)],
)
def test_counts_of_the_other_stacks(sends, receives, cluster, expected):
    for starts in (may_start, may_start.py_func):
        assert starts(float(sends), float(receives), float(cluster), 2.0, 3.0, 5.0) == expected


def test_compiled_and_plain_agree():
    rng = np.random.default_rng(2)
    for _ in range(300):
        used, most = rng.integers(0, 20, (2, 3)).astype(float)
        operation = int(rng.integers(len(POOL_COST)))
        expected = bool((used + POOL_COST[operation] <= most).all())
        assert fits_pools(used, operation, most) == expected == fits_pools.py_func(used, operation, most)


def test_what_ends_gives_back_what_it_took():
    used = np.array([1.0, 16.0, 4.0])
    for operation in range(len(POOL_COST)):
        charge(used, operation, 1.0)
        charge(used, operation, -1.0)
    assert used.tolist() == [1.0, 16.0, 4.0]
