"""Proxmox's scheduler: the golden vectors, figures of the original's own tests, and what must hold for any cluster."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hvgym.agents.cluster import pve
from hvgym.agents.cluster.pve import NOWHERE, Nodes, Services
from hvgym.envs.errors import InputError

GIB = 1024.0


def nodes(cores, memory_gib, used_cores, used_gib) -> Nodes:
    cores, memory_gib, used_cores, used_gib = (np.array(v, float) for v in (cores, memory_gib, used_cores, used_gib))
    return Nodes(cores, memory_gib * GIB, used_cores, used_gib * GIB)


def evenly_loaded(loads, moves) -> tuple[Nodes, Services]:
    """Nodes of 100 cores and 100 GiB whose CPU and memory are used alike, and services (node, load)."""
    percent = 100.0 * np.array(loads)
    at, sizes = np.array([node for node, _ in moves]), 100.0 * np.array([load for _, load in moves])
    hundred = np.full(len(loads), 100.0)
    return nodes(hundred, hundred, percent, percent), Services(at, sizes, sizes * GIB)


def test_two_nodes_and_a_vm_that_is_large_in_memory():
    """PVE-1: memory weighs five times as much as CPU."""
    cluster = nodes([16, 16], [64, 64], [4, 8], [32, 16])
    rows = pve.start_rows(cluster, 4.0, 16 * GIB)
    high = 1.0 + math.sqrt((0.75**2 + 0.25**2) / 2.0)
    assert rows == pytest.approx(np.array([[1.5, 1.5, high, 1.75], [high, 1.75, 1.5, 1.5]]))
    assert high == pytest.approx(1.559017, abs=5e-7)
    normal = rows / np.sqrt((rows**2).sum(axis=0))
    assert np.ptp(normal, axis=0) == pytest.approx([0.027279, 0.108465, 0.027279, 0.108465], abs=5e-7)
    scores = pve.start_scores(cluster, 4.0, 16 * GIB)
    assert scores == pytest.approx([1 / 6, 5 / 6], abs=1e-12)
    assert pve.select_node(scores) == 1


def test_three_nodes_of_which_one_is_smaller():
    """PVE-2."""
    cluster = nodes([16, 16, 8], [64, 64, 32], [8, 2, 0], [16, 48, 24])
    rows = pve.start_rows(cluster, 4.0, 8 * GIB)
    printed = [[1.438986, 1.75, 1.649519, 1.75], [1.360844, 1.5, 1.680839, 1.875], [1.414578, 1.5, 1.735980, 2.0]]
    assert rows == pytest.approx(np.array(printed), abs=1e-6)
    scores = pve.start_scores(cluster, 4.0, 8 * GIB)
    assert scores == pytest.approx([0.80914, 0.52948, 0.18867], abs=5e-6)
    assert pve.select_node(scores) == 0


def test_one_move_evens_out_three_nodes_after_three_rounds():
    """PVE-R1."""
    cluster, services = evenly_loaded([0.75, 0.25, 0.20], [(0, 0.2), (0, 0.1)])
    before = pve.imbalance(pve.node_loads(cluster))
    assert before == pytest.approx(0.43899, abs=1e-5)
    rounds, acts = 0, []
    for _ in range(4):
        rounds, act = pve.count_round(rounds, before)
        acts.append(act)
    assert acts == [False, False, True, False]
    assert pve.balancing_move(cluster, services) == (0, 2)
    after = {
        (0.55, 0.45, 0.20): 0.26021,
        (0.55, 0.25, 0.40): 0.21651,
        (0.65, 0.35, 0.20): 0.33072,
        (0.65, 0.25, 0.30): 0.31458,
    }
    assert [pve.imbalance(loads) for loads in after] == pytest.approx(list(after.values()), abs=5e-6)
    assert pve.balancing_move(cluster, services, margin=0.5068) == (0, 2)  # (.43899 - .21651) / .43899 = .507
    assert pve.balancing_move(cluster, services, margin=0.5072) is None


def test_a_move_that_would_swap_high_and_low_is_not_made():
    """PVE-R2."""
    cluster, services = evenly_loaded([0.9, 0.3], [(0, 0.62)])
    assert pve.imbalance(pve.node_loads(cluster)) == pytest.approx(0.5)
    assert pve.imbalance([0.28, 0.92]) == pytest.approx(0.53333, abs=5e-6)
    assert pve.balancing_move(cluster, services) is None
    assert pve.count_round(2, 0.5) == (0, True)  # the count starts anew though nothing moves
    assert pve.imbalance([0.6, 0.4]) == pytest.approx(0.2)
    assert pve.count_round(2, 0.2) == (0, False)


def test_the_threshold_itself_does_not_count():
    assert pve.count_round(2, 0.3) == (0, False)
    assert pve.count_round(0, 0.31, hold_rounds=0) == (0, True)


ORIGINAL = {
    "like": nodes([16, 16, 16], [64, 64, 64], [1.7, 15.184, 5.2], np.array([12334, 529, 9381]) / GIB),
    "unlike": nodes([16, 32, 24], [128, 96, 64], [1.7, 15.184, 5.2], np.array([12334, 529, 9381]) / GIB),
}
"""The clusters of the original's tests (proxmox-resource-scheduling/tests/scheduler.rs)."""


@pytest.mark.parametrize(("cluster", "expected"), [("like", 0.4893954724628247), ("unlike", 0.33026013056867354)])
def test_imbalance_is_the_originals_to_the_last_digits(cluster, expected):
    """The figures are from before it was divided by its maximum, here sqrt(2)."""
    variation = pve.imbalance(pve.node_loads(ORIGINAL[cluster])) * math.sqrt(2.0)
    assert abs(variation - expected) <= 2.0 * np.finfo(float).eps


@pytest.mark.parametrize(
    ("cluster", "cores", "memory_gib", "order"),
    [
        ("like", 1.0, 12, [1, 2, 0]),
        ("like", 12.0, 0, [0, 2, 1]),
        ("like", 0.0, 0, [0, 2, 1]),  # no limit: as many cores as the node has
        ("like", 12.0, 12, [1, 2, 0]),
        ("unlike", 1.0, 12, [1, 0, 2]),
        ("unlike", 12.0, 0, [2, 1, 0]),
        ("unlike", 0.0, 0, [0, 2, 1]),
        ("unlike", 12.0, 12, [1, 0, 2]),
    ],
)
def test_starts_are_ranked_as_in_the_originals_tests(cluster, cores, memory_gib, order):
    scores = pve.start_scores(ORIGINAL[cluster], cores, memory_gib * GIB)
    assert list(np.argsort(-scores, kind="stable")) == order


@pytest.mark.parametrize("cluster", ORIGINAL)
def test_brute_force_and_topsis_choose_differently_as_in_the_originals_tests(cluster):
    """vm:101 (0.7 cores, 8 GiB) is on node 1: brute force prefers node 3, TOPSIS node 2."""
    service = Services(np.array([0]), np.array([0.7]), np.array([8 * GIB]))
    best = {m: pve.balancing_move(ORIGINAL[cluster], service, method=m, margin=-9.0) for m in ("bruteforce", "topsis")}
    assert best == {"bruteforce": (0, 2), "topsis": (0, 1)}


def test_like_moves_are_decided_by_name_although_their_sums_round_differently(monkeypatch):
    cluster, services = evenly_loaded([0.3, 0.1, 0.1, 0.1], [(0, 0.2), (0, 0.2)])
    assert pve.balancing_move(cluster, services, margin=-9.0) == (0, 1)
    assert pve.balancing_move(cluster, services, np.array([[0] * 4, [1] * 4]), margin=-9.0) == (1, 1)
    monkeypatch.setattr(pve, "SIGNIFICANT", 1e40)  # nothing is cut off
    assert pve.balancing_move(cluster, services, margin=-9.0) == (0, 3)


def test_what_a_service_uses_beyond_its_nodes_measurement_leaves_nothing():
    cluster, services = evenly_loaded([0.5, 0.1], [(0, 0.2)])
    more = Services(services.node, services.used_cores * 5.0, services.used_mib)  # 100 cores of 50
    assert pve.balancing_move(cluster, more, margin=-9.0) == (0, 1)
    assert pve.imbalance([(0.0 + 0.3) / 2, (1.1 + 0.3) / 2]) == pytest.approx((0.55 / 2) / 0.425)


def test_no_candidate_no_move():
    cluster, services = evenly_loaded([0.9, 0.1], [(0, 0.2)])
    assert pve.balancing_move(cluster, services, allowed=np.zeros((1, 2))) is None
    nobody = Services(np.zeros(0, int), np.zeros(0), np.zeros(0))
    assert pve.balancing_move(cluster, nobody) is None
    with pytest.raises(InputError, match="method='best'"):
        pve.balancing_move(cluster, services, method="best")


def test_basic_counts_a_service_that_moves_at_both_ends():
    at, to = np.array([0, 0, 1, NOWHERE]), np.array([2, NOWHERE, 1, NOWHERE])
    assert list(pve.basic_usage(3, at, to)) == [2, 1, 1]
    assert pve.select_node(-pve.basic_usage(3, at, to)) == 1  # the first of equals


def test_static_adds_maxima_and_no_limit_adds_the_whole_node():
    full = pve.static_usage(np.array([8.0, 16.0]), np.array([100.0, 200.0]), np.array([0, 1, NOWHERE]),
                            np.array([1, NOWHERE, NOWHERE]), np.array([4.0, 0.0, 9.0]), np.array([10.0, 20.0, 30.0]))  # fmt: skip
    assert list(full.used_cores) == [4.0, 4.0 + 16.0]
    assert list(full.used_mib) == [10.0, 30.0]


def test_dynamic_adds_the_maxima_of_guests_that_still_start():
    measured = nodes([8, 8], [1, 1], [2, 1], [0.5, 0.25])
    starting = pve.with_maxima(measured, np.array([1]), np.array([4.0]), np.array([100.0]))
    assert list(starting.used_cores) == [2.0, 5.0]
    assert list(starting.used_mib) == [512.0, 356.0]


def test_a_place_is_chosen_in_the_originals_order():
    scores = np.array([0.1, 0.9, 0.5, 0.9])
    assert pve.select_node(scores) == 1
    assert pve.select_node(scores, tier=np.array([2, 1, 2, -1])) == 2
    assert pve.select_node(scores, tier=np.array([-1, -1, -1, -1])) is None
    assert pve.select_node(scores, rivals=np.array([0, 1, 0, 0])) == 3
    assert pve.select_node(scores, companions=np.array([1, 0, 2, 0])) == 2
    assert pve.select_node(scores, rivals=np.array([0, 0, 1, 0]), companions=np.array([1, 0, 2, 0])) == 0
    assert pve.select_node(scores, current=0, preference="none") == 0
    assert pve.select_node(scores, current=0, preference="none", returns_to=2) == 2
    assert pve.select_node(scores, current=0, rivals=np.array([1, 0, 0, 0]), preference="none") == 1
    with pytest.raises(InputError, match="expected none, best-score or try-next"):
        pve.select_node(scores, preference="any")


def test_after_a_failed_start_comes_the_node_behind_the_current_one():
    scores = np.array([0.1, 0.9, 0.5, 0.8])
    assert pve.select_node(scores, current=3, preference="try-next") == 2
    assert pve.select_node(scores, current=3, preference="try-next", tried=[3]) == 1
    assert pve.select_node(scores, current=0, preference="try-next", tried=[1]) == 3
    assert pve.select_node(scores, preference="try-next", tried=[0, 1, 2, 3]) is None


@st.composite
def clusters(draw):
    count = draw(st.integers(1, 5))
    size = st.integers(1, 64)
    node = st.tuples(size, size, st.integers(0, 64), st.integers(0, 64))
    cluster = nodes(*zip(*draw(st.lists(node, min_size=count, max_size=count)), strict=True))
    service = st.tuples(st.integers(0, count - 1), st.integers(0, 16), st.integers(0, 16))
    at, cores, memory = zip(*draw(st.lists(service, min_size=1, max_size=6)), strict=True)
    return cluster, Services(np.array(at), np.array(cores, float), np.array(memory, float) * GIB)


def moved(cluster: Nodes, services: Services, move) -> Nodes:
    """By hand, one node at a time."""
    service, target = move
    source = services.node[service]
    cores, memory = cluster.used_cores.copy(), cluster.used_mib.copy()
    cores[source] = max(0.0, cores[source] - services.used_cores[service])
    memory[source] = max(0.0, memory[source] - services.used_mib[service])
    cores[target] += services.used_cores[service]
    memory[target] += services.used_mib[service]
    return Nodes(cluster.cores, cluster.memory_mib, cores, memory)


@given(clusters(), st.sampled_from(["bruteforce", "topsis"]))
def test_a_move_lowers_the_imbalance_by_the_margin_and_leaves_its_node(drawn, method):
    cluster, services = drawn
    move = pve.balancing_move(cluster, services, method=method)
    if move:
        assert move[1] != services.node[move[0]]
        before, after = (pve.imbalance(pve.node_loads(c)) for c in (cluster, moved(cluster, services, move)))
        assert after <= 0.9 * before + 1e-12


@given(clusters())
def test_brute_force_finds_the_least_imbalance_that_trying_every_move_finds(drawn):
    cluster, services = drawn
    tried = {
        (s, n): pve.imbalance(pve.node_loads(moved(cluster, services, (s, n))))
        for s in range(len(services.node))
        for n in range(len(cluster.cores))
        if n != services.node[s]
    }
    move = pve.balancing_move(cluster, services, margin=-np.inf)
    if move:
        assert tried[move] <= min(tried.values()) + 1e-14
        first = next(m for m, value in tried.items() if value <= min(tried.values()) + 1e-14)
        assert move <= first or tried[move] < tried[first]


@given(clusters())
def test_imbalance_lies_between_nought_and_one_and_does_not_ask_for_names(drawn):
    loads = pve.node_loads(drawn[0])
    value = pve.imbalance(loads)
    assert 0.0 <= value <= 1.0 + 1e-12
    assert pve.imbalance(loads[::-1]) == pytest.approx(value)
    assert pve.imbalance(np.eye(len(loads))[0]) == pytest.approx(min(1.0, len(loads) - 1.0))


@given(clusters(), st.integers(0, 16), st.integers(0, 64))
def test_scores_of_a_start_lie_between_nought_and_one_and_do_not_ask_for_names(drawn, cores, memory_gib):
    cluster = drawn[0]
    rows = pve.start_rows(cluster, float(cores), memory_gib * GIB)
    assume((np.ptp(rows, axis=0) > 1e-9).any())  # of nodes alike rounding decides, as in the original
    scores = pve.start_scores(cluster, float(cores), memory_gib * GIB)
    back = Nodes(*(getattr(cluster, name)[::-1] for name in ("cores", "memory_mib", "used_cores", "used_mib")))
    assert ((scores >= 0.0) & (scores <= 1.0)).all()
    assert pve.start_scores(back, float(cores), memory_gib * GIB)[::-1] == pytest.approx(scores, abs=1e-9)
