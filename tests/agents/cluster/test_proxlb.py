"""ProxLB: the golden vectors, each quirk by a case computed by hand, and what holds for any cluster."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvgym.agents.cluster import proxlb
from hvgym.agents.cluster.proxlb import Guests, Hot, Nodes, Pressure
from hvgym.envs.errors import InputError

A, B, C = 0, 1, 2


def nodes(*used, total=100.0, reserve=0.0, maintenance=()) -> Nodes:
    ill = np.isin(np.arange(len(used)), list(maintenance))
    return Nodes(np.full(len(used), total), np.array(used, float), np.full(len(used), reserve), ill)


def guests(*placed, assigned=None, order=None, group=None) -> Guests:
    """Pairs (node, used memory); sorted by used memory unless told otherwise."""
    used = np.array([mib for _, mib in placed], float)
    return Guests(
        np.array([node for node, _ in placed]),
        used,
        used if assigned is None else np.array(assigned, float),
        used if order is None else np.array(order, float),
        np.arange(len(placed)) if group is None else np.array(group),
    )


def test_small_guests_leave_the_fullest_node_until_balance_is_reached():
    """ProxLB-1; guests g1, g2, g3, g5, g4."""
    placed = guests((A, 4), (A, 16), (A, 20), (C, 10), (B, 30))
    assert proxlb.rebalance(nodes(80, 60, 40), placed) == [(0, C), (1, C)]


def test_the_target_is_stale_so_a_run_overshoots():
    """ProxLB-2: the third guest too goes to C, which is then at 72, above A at 56, while B stays at 40."""
    assert proxlb.rebalance(nodes(90, 40, 38), guests((A, 8), (A, 12), (A, 14))) == [(0, C), (1, C), (2, C)]


def test_a_run_starts_above_the_difference_or_at_the_threshold():
    assert not proxlb.out_of_balance(np.array([50.0, 40.0]))
    assert proxlb.out_of_balance(np.array([50.1, 40.0]))
    assert proxlb.out_of_balance(np.array([75.0, 70.0]), threshold=75.0)
    assert not proxlb.out_of_balance(np.array([74.9, 70.0]), threshold=75.0)
    assert not proxlb.out_of_balance(np.array([75.0, 70.0]), threshold=0.0)
    assert proxlb.rebalance(nodes(80, 75), guests((A, 1)), threshold=75.0) == [(0, B)]
    assert proxlb.rebalance(nodes(80, 75), guests((A, 1))) == []


def test_larger_guests_first_on_request():
    placed = guests((A, 4), (A, 16), (A, 20))
    assert proxlb.rebalance(nodes(80, 60, 40), placed, larger_first=True) == [(2, C)]


def test_guests_are_sorted_by_what_the_code_adds_up_not_by_memory():
    """Used cores 3, 1, 2: the guest of 16 goes first, and 64, 60, 56 are balanced."""
    placed = guests((A, 4), (A, 16), (A, 20), order=[3, 1, 2])
    assert proxlb.rebalance(nodes(80, 60, 40), placed) == [(1, C)]


def test_a_guest_that_does_not_fit_is_passed_over():
    full = Nodes(np.array([100.0, 50.0]), np.array([90.0, 40.0]), np.zeros(2), np.zeros(2, bool))
    two = guests((A, 10), (A, 9.5), order=[1, 2])
    assert proxlb.rebalance(full, two) == []  # 90 % and 80 %: balanced
    assert proxlb.rebalance(full, two, balanciness=5.0) == [(1, B)]  # 10 of 10 free is too much


def test_assigned_mode_asks_for_the_fullest_node_by_used_memory():
    placed = guests((A, 10), (A, 10), (B, 10), assigned=[60, 40, 10])
    assert proxlb.rebalance(nodes(30, 20), placed, mode="used", balanciness=20) == []
    assert proxlb.rebalance(nodes(30, 20), placed, mode="assigned") == [(0, B)]  # then A 20, B 30 by used memory
    assert proxlb.rebalance(nodes(20, 30), placed, mode="assigned") == []


def test_the_reserve_counts_only_after_a_move_has_touched_the_node():
    """15 leaves although B would then use 55 of 50 MiB; after that 5 finds no room."""
    placed = guests((A, 15), (A, 5), order=[1, 2])
    assert proxlb.rebalance(nodes(90, 40, reserve=50.0), placed) == [(0, B)]
    assert proxlb.rebalance(nodes(90, 40), placed) == [(0, B), (1, B)]


def test_the_reserve_counts_in_percents_too_once_a_node_is_touched():
    """After 4 has left, 49 and 40 are 9 % of 100 MiB apart, and 11.25 % of 80."""
    placed = guests((A, 4), (A, 1), order=[1, 2])
    assert proxlb.rebalance(nodes(53, 36), placed) == [(0, B)]
    assert proxlb.rebalance(nodes(53, 36, reserve=20.0), placed) == [(0, B), (1, B)]


def test_a_group_moves_as_one_and_stops_when_its_node_is_no_longer_the_fullest():
    together = guests((A, 10), (A, 10), (A, 30), group=[7, 7, 1])
    assert proxlb.rebalance(nodes(90, 40), together) == [(2, B)]  # the group of one first: then A 60, B 70
    assert proxlb.rebalance(nodes(90, 40), guests((A, 10), (A, 10), group=[7, 7])) == [(0, B), (1, B)]
    assert proxlb.rebalance(nodes(70, 58), guests((A, 10), (A, 10), group=[7, 7])) == [(0, B)]


def test_guests_of_a_node_in_maintenance_go_where_it_is_emptiest_at_their_turn():
    """10 to C (40, then 50), 20 to B (the first of two at 50)."""
    cluster = nodes(30, 50, 40, maintenance=[A])
    assert proxlb.rebalance(cluster, guests((A, 10), (A, 20)), balanciness=1000.0) == [(0, C), (1, B)]
    tight = Nodes(np.array([100.0, 10.0]), np.array([70.0, 5.0]), np.zeros(2), np.array([True, False]))
    assert proxlb.rebalance(tight, guests((A, 70)), balanciness=1000.0) == [(0, B)]  # 70 into 5: it is not asked
    assert proxlb.rebalance(nodes(50, 50, maintenance=[A, B]), guests((A, 10))) == []


def test_broken_affinity_forces_a_run_unless_it_is_the_last_guests():
    balanced = nodes(50, 45, 40)
    spread = guests((A, 5), (B, 5), (A, 6), group=[1, 1, 2])
    assert proxlb.affinity_broken(balanced, spread)
    assert proxlb.rebalance(balanced, spread) == [(2, C)]  # then B is the fullest, and the group's first is on A
    assert not proxlb.affinity_broken(balanced, guests((A, 5), (A, 5), group=[1, 1]))
    ill = nodes(50, 45, 40, maintenance=[A])
    assert proxlb.affinity_broken(ill, guests((A, 5), (B, 5)))
    assert not proxlb.affinity_broken(ill, guests((B, 5), (A, 5)))


def test_heat_takes_both_means_or_one_spike():
    full, some = np.array([0.2, 0.2, 0.1, 0.0]), np.array([0.2, 0.1, 0.9, 0.0])
    spikes = np.array([0.0, 0.0, 0.0, 1.0])
    assert list(proxlb.hot(full, some, spikes)) == [True, False, False, True]
    assert list(proxlb.hot(full, some, spikes, Hot(0.1, 0.1, 2.0))) == [True, True, True, False]


def pressed(node_spikes, guest_spikes, heat=True) -> Pressure:
    """The first node hot, or nobody."""
    none = np.zeros(len(guest_spikes), bool)
    return Pressure(np.array(node_spikes), np.array(guest_spikes), np.arange(len(node_spikes)) < int(heat), none)


def test_in_psi_mode_the_guest_under_most_pressure_leaves_when_its_turn_comes():
    placed = guests((A, 4), (A, 5), (A, 6))
    stalls = pressed([1.2, 0.1, 0.05], [0.2, 0.9, 0.5])
    assert proxlb.rebalance(nodes(80, 50, 60), placed, mode="psi", pressure=stalls) == [(1, C), (2, C)]
    assert (
        proxlb.rebalance(nodes(80, 50, 60), placed, mode="psi", pressure=pressed([1.2, 0, 0], [1, 2, 3], False)) == []
    )


def test_in_psi_mode_a_guest_that_is_not_next_enters_the_last_one_again():
    """A 57 - 4 - 4 = 49 in the books is below B's 50, so the third guest stays, though A really holds 53."""
    placed = guests((A, 4), (A, 5), (A, 6))
    stalls = pressed([1.2, 0.1, 0.05], [0.9, 0.2, 0.5])
    assert proxlb.rebalance(nodes(57, 50, 10), placed, mode="psi", pressure=stalls) == [(0, C)]
    assert proxlb.rebalance(nodes(59, 50, 10), placed, mode="psi", pressure=stalls) == [(0, C), (2, C)]


def test_in_psi_mode_a_hot_guest_elsewhere_blocks_all_others():
    placed = guests((A, 4), (B, 5))
    assert proxlb.rebalance(nodes(80, 50), placed, mode="psi", pressure=pressed([1.2, 0.1], [0.5, 0.9])) == []


def test_other_modes_are_refused():
    for mode in ("psi", "free"):
        with pytest.raises(InputError, match=f"mode='{mode}': expected used, assigned, or psi with pressure"):
            proxlb.rebalance(nodes(1, 2), guests((A, 1)), mode=mode)


@st.composite
def clusters(draw):
    """Nodes that hold their guests and something else, none over its memory."""
    count = draw(st.integers(1, 5))
    guest = st.tuples(st.integers(0, count - 1), st.integers(1, 20), st.integers(0, 3))
    placed = draw(st.lists(guest, min_size=1, max_size=12))
    used = np.bincount([n for n, _, _ in placed], [mib for _, mib, _ in placed], count)
    used += draw(st.lists(st.integers(0, 40), min_size=count, max_size=count))
    total = used + draw(st.lists(st.integers(1, 60), min_size=count, max_size=count))
    cluster = Nodes(total, used, np.zeros(count), np.zeros(count, bool))
    return cluster, guests(*[(n, mib) for n, mib, _ in placed], group=[g for _, _, g in placed])


@given(clusters(), st.sampled_from(["used", "assigned"]), st.booleans())
def test_guests_move_once_from_where_they_are_and_nothing_gets_too_full(drawn, mode, larger_first):
    cluster, placed = drawn
    moves = proxlb.rebalance(cluster, placed, mode=mode, larger_first=larger_first)
    assert len({guest for guest, _ in moves}) == len(moves)
    assert len({node for _, node in moves}) <= 1  # one stale target
    used = cluster.used_mib.copy()
    for guest, node in moves:
        assert node != placed.node[guest]
        used[placed.node[guest]] -= placed.used_mib[guest]
        used[node] += placed.used_mib[guest]
    assert (used <= cluster.memory_mib).all()
    assert used.sum() == pytest.approx(cluster.used_mib.sum())


@given(clusters())
def test_a_balanced_cluster_is_left_alone(drawn):
    cluster, placed = drawn
    alone = guests(*zip(placed.node, placed.used_mib, strict=True))
    percent = cluster.used_mib / cluster.memory_mib * 100.0
    if np.ptp(percent) <= proxlb.BALANCINESS:
        assert proxlb.rebalance(cluster, alone) == []
