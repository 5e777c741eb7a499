"""CloudSim: detectors on the published vectors, selectors by hand, placement and underload, and properties of a round."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvgym.agents.cluster import cloudsim
from hvgym.agents.cluster.cloudsim import Cluster

HISTORY_1 = np.array([0.5, 0.52, 0.55, 0.6, 0.6, 0.62, 0.65, 0.7, 0.7, 0.72, 0.75, 0.8])


def cluster(cores, vms, mib=None, power=None, migrating=(), history=None) -> Cluster:
    """VMs are (host, demand, cores, MiB)."""
    host, demand, vcpus, vm_mib = (np.array(column, dtype=float) for column in zip(*vms, strict=True))
    hosts = len(cores)
    moving = np.zeros(len(vms), dtype=bool)
    moving[list(migrating)] = True
    return Cluster(
        np.array(cores, dtype=float),
        np.full(hosts, 1e5) if mib is None else np.array(mib, dtype=float),
        np.full(hosts, 1e6),
        np.tile(cloudsim.POWER_G4_W, (hosts, 1)) if power is None else np.array(power),
        host.astype(int),
        demand,
        vcpus,
        vm_mib,
        np.tile(demand[:, None], (1, 5)) if history is None else np.array(history, dtype=float),
        moving,
    )


@pytest.mark.parametrize("order", [1, -1])
def test_vector_cloudsim_1(order):
    history = HISTORY_1[::order]
    assert np.median(history) == pytest.approx(0.635)
    assert np.median(np.abs(history - np.median(history))) == pytest.approx(0.075)
    assert not cloudsim.mad(history, 0.78, 0.0)
    assert cloudsim.iqr(history, 0.78, 0.0)
    assert not cloudsim.thr(history, 0.78, 0.0)
    assert (cloudsim.mad(history, 0.8124, 0.0), cloudsim.mad(history, 0.8126, 0.0)) == (False, True)
    assert (cloudsim.iqr(history, 0.7449, 0.0), cloudsim.iqr(history, 0.7451, 0.0)) == (False, True)


def test_vector_cloudsim_2_a_rising_line_is_overloaded_though_there_is_room():
    history = 0.5 + 0.04 * np.arange(10.0, 0.0, -1.0)  # newest first
    assert history[0] == pytest.approx(0.9)
    seconds = cloudsim.migration_s(1740.0, 1e6)
    assert seconds == pytest.approx(27.84)
    assert cloudsim.lr(history, 0.9, seconds)
    assert not cloudsim.thr(history, 0.79, seconds)
    # 1.2 * 0.94 = 1.128; a safety of 1/0.94 is the edge
    assert not cloudsim.lr(history, 0.9, seconds, safety=0.9999 / 0.94)
    assert cloudsim.lr(history, 0.9, seconds, safety=1.0001 / 0.94)


def test_lr_looks_at_the_last_ten_samples_in_their_order_and_ahead_by_whole_intervals():
    falling = 0.5 + 0.04 * np.arange(1.0, 11.0)
    assert not cloudsim.lr(falling, 1.0, 27.84)
    rising = 0.5 + 0.04 * np.arange(10.0, 0.0, -1.0)
    assert cloudsim.lr(np.concatenate([rising, np.zeros(20) + 9.0]), 0.0, 27.84) == cloudsim.lr(rising, 0.0, 27.84)
    flat = np.concatenate([np.linspace(0.4, 0.31, 10)[::1]])
    assert not cloudsim.lr(flat, 0.0, 300.0)
    # b0 + b1 * (10 + n) = 1 / 1.2 = 0.8333 for y = 0.3 + 0.04 x: at x = 13.33, so four intervals and not three
    line = 0.3 + 0.04 * np.arange(10.0, 0.0, -1.0)
    assert not cloudsim.lr(line, 0.0, 900.0)
    assert cloudsim.lr(line, 0.0, 900.1)


def test_lr_is_least_squares():
    rng = np.random.default_rng(4)
    for _ in range(200):
        history, seconds = rng.uniform(0, 1, 10), float(rng.uniform(0, 900))
        slope, constant = np.polyfit(np.arange(1.0, 11.0), history[::-1], 1)
        expected = 1.2 * (constant + slope * (10 + math.ceil(seconds / 300))) >= 1.0
        assert cloudsim.lr(history, 0.0, seconds) == expected


@pytest.mark.parametrize("detector", [cloudsim.mad, cloudsim.iqr, cloudsim.lr])
def test_short_histories_fall_back_to_70_percent(detector):
    short = HISTORY_1[:9]
    assert detector(short, 0.71, 0.0)
    assert not detector(short, 0.70, 0.0)


def test_selectors_by_hand():
    there = cluster([8], [(0, 2, 4, 4096), (0, 1, 1, 2048), (0, 1.5, 4, 2048)])
    vms = np.arange(3)
    assert cloudsim.smallest_memory(there, vms) == 1  # of equals the first
    assert cloudsim.lowest_use(there, vms) == 2  # 0.5, 1, 0.375
    rng = np.random.default_rng(0)
    draws = [cloudsim.any_vm(there, vms, rng) for _ in range(3000)]
    assert np.bincount(draws) / 3000 == pytest.approx(np.full(3, 1 / 3), abs=0.03)


def test_the_most_correlated_vm_is_the_one_that_the_others_explain():
    """Two VMs move together but for noise, a third on its own."""
    rng = np.random.default_rng(5)
    wave = 1 + np.sin(np.arange(20.0))
    history = [wave, rng.uniform(0.5, 1, 20), wave + rng.normal(0, 0.05, 20)]
    there = cluster([8], [(0, 1, 2, 100)] * 3, history=history)
    found = cloudsim.determination(there.history)
    assert found[0] > 0.9
    assert found[2] > 0.9
    assert found[1] < 0.5
    assert cloudsim.most_correlated(there, np.arange(3)) == int(np.argmax(found))
    # for two rows it is the squared correlation
    pair = cloudsim.determination(there.history[:2])
    assert pair == pytest.approx(np.full(2, np.corrcoef(there.history[:2])[0, 1] ** 2))


def test_determination_is_that_of_least_squares():
    rng = np.random.default_rng(6)
    for _ in range(50):
        rows = rng.uniform(0, 1, (int(rng.integers(2, 12)), 30)) + rng.uniform(0, 1, 30)
        found = cloudsim.determination(rows)
        for row, y in enumerate(rows):
            x = np.vstack([np.ones(30), np.delete(rows, row, axis=0)]).T
            rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
            assert found[row] == pytest.approx(1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum(), abs=1e-6)


def test_vms_that_do_the_same_explain_each_other():
    wave = np.sin(np.arange(20.0))
    found = cloudsim.determination(np.stack([wave, 2 * wave + 1, np.cos(np.arange(20.0)), np.ones(20)]))
    assert found[:2] == pytest.approx([1.0, 1.0])
    assert found[2] < 0.1
    assert found[3] == 0.0


def test_too_few_samples_for_a_regression():
    there = cluster([8], [(0, 1, 2, 300), (0, 1, 2, 100), (0, 1, 2, 200)], history=np.ones((3, 3)))
    assert cloudsim.most_correlated(there, np.arange(3)) == 1
    assert cloudsim.most_correlated(there, np.arange(3), fallback=lambda c, vms: 2) == 2
    assert cloudsim.determination(np.ones((1, 5))).tolist() == [0.0]


def test_histories_keep_thirty_samples_the_newest_first():
    history = np.zeros((2, 0))
    for sample in range(40):
        history = cloudsim.remembered(history, np.array([sample, -sample], dtype=float))
    assert history.shape == (2, 30)
    assert history[0].tolist() == list(range(39, 9, -1))


def test_power_between_the_points():
    tables = np.stack([cloudsim.POWER_G4_W, cloudsim.POWER_G4_W, cloudsim.POWER_G5_W])
    assert cloudsim.power_of(tables, np.array([0.0, 0.15, 1.0])) == pytest.approx([86.0, 91.0, 135.0])
    for use in np.random.default_rng(1).uniform(0, 1, (200, 3)):
        expected = [np.interp(share, np.linspace(0, 1, 11), row) for share, row in zip(use, tables, strict=True)]
        assert cloudsim.power_of(tables, use) == pytest.approx(expected)


def test_pabfd_places_the_largest_first_where_power_rises_least():
    """G4 rises by 3.4 W from 0 to 10 %, by 2 from 60 to 70, by 6 from 60 to 80; 80 % is not over 80, 90 is."""
    there = cluster([10, 10, 10], [(1, 6, 8, 10), (-1, 1, 1, 10), (-1, 2, 2, 10)])
    assert cloudsim.place_all(there, [1], [], cloudsim.thr) == [(1, 1)]
    assert cloudsim.place_all(there, [1, 2], [], cloudsim.thr) == [(2, 1), (1, 0)]
    assert cloudsim.place_all(there, [1, 2], [1], cloudsim.thr) == [(2, 0), (1, 0)]  # 3.4 W from 20 % and from 0
    assert cloudsim.place_all(there, [1], [0, 1, 2], cloudsim.thr) == []


def test_an_empty_host_is_not_asked_whether_it_would_be_overloaded():
    there = cluster([10, 10], [(1, 1, 8, 10), (-1, 9, 10, 10)])
    assert cloudsim.place_all(there, [1], [], cloudsim.thr) == [(1, 0)]


def test_memory_and_cpu_must_fit():
    vms = [(-1, 2, 2, 1000)]
    assert cloudsim.place_all(cluster([2, 4], vms, mib=[999, 1000]), [0], [], cloudsim.thr) == [(0, 1)]
    assert cloudsim.place_all(cluster([2, 1.9], vms, mib=[999, 1000]), [0], [], cloudsim.thr) == []


def test_an_overloaded_host_gives_vms_until_it_is_so_no_more():
    """9 of 10 cores; the smallest in memory has 0.5, the next 1: 7.5 left is not over 8. The other host is at 5."""
    there = cluster([10, 10], [(0, 7.5, 8, 900), (0, 1, 1, 500), (0, 0.5, 1, 400), (1, 5, 8, 100)])
    assert cloudsim.overloaded_hosts(there, cloudsim.thr) == [0]
    moves = cloudsim.optimise(there, cloudsim.thr, cloudsim.smallest_memory)
    assert moves == [(1, 1), (2, 1)]


def test_the_least_used_host_is_emptied_or_left_as_it_is():
    """h3 (1 core) to h2; then h1 and h2 fill up: h1's two VMs of 3 do not both fit."""
    three = cluster([10, 10, 10], [(0, 3, 4, 10), (0, 3, 4, 10), (1, 4, 4, 10), (2, 1, 1, 10)])
    moves = cloudsim.optimise(three, cloudsim.thr, cloudsim.smallest_memory)
    assert moves == [(3, 0)]
    full = cluster([10, 10], [(0, 3, 4, 10), (0, 3, 4, 10), (1, 5, 8, 10)])
    assert cloudsim.optimise(full, cloudsim.thr, cloudsim.smallest_memory) == []


def test_hosts_with_a_migration_only_and_vms_that_migrate_are_left_alone():
    two = cluster([10, 10], [(0, 1, 4, 10), (1, 2, 4, 10)], migrating=[0])
    assert cloudsim.optimise(two, cloudsim.thr, cloudsim.smallest_memory) == [(1, 0)]
    hot = cluster([10, 10], [(0, 9, 9, 10), (1, 2, 4, 10)], migrating=[0])
    assert cloudsim.optimise(hot, cloudsim.thr, cloudsim.smallest_memory) == []


def test_a_host_that_took_vms_may_be_emptied_in_the_same_round():
    """QUIRK: 1 core goes from h1 to h2, the least used; that is emptied next, so both end on h3."""
    power = np.array([cloudsim.POWER_G4_W, cloudsim.POWER_G4_W * 0.1, cloudsim.POWER_G4_W])
    three = cluster([10, 10, 10], [(0, 8, 8, 900), (0, 1, 1, 10), (1, 1, 1, 10), (2, 3, 4, 10)], power=power)
    assert cloudsim.optimise(three, cloudsim.thr, cloudsim.smallest_memory) == [(1, 2), (2, 2)]


def test_mad_of_a_host_is_that_of_the_sum_of_its_vms():
    """Twelve samples: one VM steady at half of the host, the other the vector less a half."""
    history = np.stack([np.full(12, 5.0), (HISTORY_1 - 0.5) * 10])
    history[1, 0] = 0.0001
    there = cluster([10], [(0, 5, 8, 10), (0, 3.1, 8, 10)], history=history)
    assert cloudsim.overloaded_hosts(there, cloudsim.mad) == []  # 0.81 is not over 0.8125
    more = cluster([10], [(0, 5, 8, 10), (0, 3.2, 8, 10)], history=history)
    assert cloudsim.overloaded_hosts(more, cloudsim.mad) == [0]


@st.composite
def clusters(draw):
    hosts = draw(st.integers(2, 5))
    vms = draw(
        st.lists(
            st.tuples(st.integers(0, hosts - 1), st.integers(1, 20), st.integers(20, 40), st.integers(1, 4000)),
            min_size=1,
            max_size=18,
        )
    )
    samples = draw(st.integers(1, 15))
    seed = draw(st.integers(0, 1000))
    history = np.random.default_rng(seed).uniform(0, 2, (len(vms), samples))
    scaled = [(host, demand / 10, cores / 10, mib) for host, demand, cores, mib in vms]
    return cluster([10.0] * hosts, scaled, mib=[16000] * hosts, history=history)


DETECTORS = [cloudsim.thr, cloudsim.mad, cloudsim.iqr, cloudsim.lr]
SELECTORS = [
    cloudsim.smallest_memory,
    cloudsim.lowest_use,
    cloudsim.most_correlated,
    functools.partial(cloudsim.any_vm, rng=np.random.default_rng(3)),
]


@settings(max_examples=200, deadline=None)
@given(clusters(), st.sampled_from(DETECTORS), st.sampled_from(SELECTORS))
def test_a_round_fills_no_host_and_moves_each_vm_once(there, detector, selector):
    moves = cloudsim.optimise(there, detector, selector)
    assert len({vm for vm, _ in moves}) == len(moves)
    where = there.vm_host.copy()
    for vm, host in moves:
        assert host != there.vm_host[vm]
        where[vm] = host
    for host in {host for _, host in moves}:
        assert there.vm_demand[where == host].sum() <= 10.0 + 1e-6
        assert there.vm_mib[where == host].sum() <= 16000


@settings(max_examples=100, deadline=None)
@given(clusters())
def test_a_host_that_is_not_overloaded_keeps_all_its_vms_or_none(there):
    over = set(cloudsim.overloaded_hosts(there, cloudsim.thr))
    moved = {vm for vm, _ in cloudsim.optimise(there, cloudsim.thr, cloudsim.smallest_memory)}
    for host in set(range(len(there.host_cores))) - over:
        assert len(moved & set(np.flatnonzero(there.vm_host == host).tolist())) in (
            0,
            int((there.vm_host == host).sum()),
        )


@settings(max_examples=100, deadline=None)
@given(clusters())
def test_no_target_of_a_round_is_overloaded_after_it(there):
    moves = cloudsim.optimise(there, cloudsim.thr, cloudsim.smallest_memory)
    where = there.vm_host.copy()
    for vm, host in moves:
        where[vm] = host
    for host in {host for _, host in moves}:
        newcomers = [vm for vm, target in moves if target == host]
        alone = len(newcomers) == 1 and (where == host).sum() == 1  # an empty host is not asked
        assert alone or there.vm_demand[where == host].sum() <= 8.0 + 1e-6
