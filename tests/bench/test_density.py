"""Density: searches on curves that are written by hand."""

from dataclasses import replace

import numpy as np
import pytest

from hvgym.bench.density import Point, Rule, Search, draws_of
from hvgym.envs.errors import InputError

FLEETS = 8
DRAWS = draws_of(FLEETS, seed=3)


def point(missed, kills=0.0, asked=1000.0):
    """A ratio at which every fleet misses that share (or each its own), and so many kills in the first fleet."""
    killed = np.zeros(FLEETS)
    killed[0] = kills
    return Point(
        np.full(FLEETS, 1.0) * missed * asked, np.full(FLEETS, asked), killed, np.ones(FLEETS), np.ones(FLEETS)
    )


def searched(truth, rule=None, draws=DRAWS):
    """Play what is wanted until nothing is; `truth` gives the point of a ratio."""
    rule, curve, rounds = rule or Rule(), {}, []
    while wanted := Search.on(curve, rule, draws).wanted():
        assert not set(wanted) & set(curve), "a ratio is played twice"
        assert rule.least <= wanted[0] <= wanted[-1] <= rule.most
        rounds.append(wanted)
        curve |= {ratio: truth(ratio) for ratio in wanted}
    return Search.on(curve, rule, draws), rounds


@pytest.mark.parametrize("holds", [0.75, 0.8, 0.95, 1.0, 1.05, 1.2, 1.45, 1.7, 3.95])
def test_the_search_finds_the_last_ratio_of_the_grid_that_holds(holds):
    search, rounds = searched(lambda ratio: point(0.0 if ratio <= holds + 1e-9 else 0.02))
    assert search.density.value == holds
    assert search.density.lo == search.density.hi == holds  # all fleets alike, so no draw differs
    assert (
        sum(map(len, rounds)) <= (holds - 0.75) / 0.25 + 2 + 3
    )  # coarse steps, and a cell of four inner ratios halved


def test_a_share_of_exactly_the_allowed_one_holds_and_one_above_does_not():
    assert searched(lambda ratio: point(0.01))[0].density.value == 4.0
    assert searched(lambda ratio: point(0.01 + 1e-6))[0].density.value == 0.0


def test_a_single_kill_ends_what_misses_nothing():
    search, _ = searched(lambda ratio: point(0.0, kills=float(ratio > 1.5)))
    assert search.density.value == 1.5
    allowed, _ = searched(
        lambda ratio: point(0.0, kills=float(ratio > 1.5)), Rule(kills=1), DRAWS[:1].repeat(2, axis=0)
    )
    assert allowed.density.value == 4.0


def test_a_curve_that_recovers_is_held_to_its_first_failure():
    def truth(ratio):
        return point(0.03 if 1.2 < ratio < 1.6 else 0.0)

    assert searched(truth)[0].density.value == 1.2


def test_a_failure_inside_a_coarse_step_is_found_when_every_ratio_is_played():
    def truth(ratio):
        return point(0.03 if 1.08 < ratio < 1.17 or ratio > 2.0 else 0.0)

    coarse, _ = searched(truth)
    every, rounds = searched(truth, Rule(coarse=0.05))
    assert coarse.density.value == 2.0  # as documented: it lies within a step
    assert every.density.value == 1.05
    assert rounds == [
        [round(0.75 + 0.05 * i, 2)] for i in range(8)
    ]  # from below, and no further than the first failure


def test_a_failure_that_halving_meets_counts_although_a_higher_ratio_holds():
    bad = {1.35, 1.5}

    def truth(ratio):
        return point(0.03 if ratio in bad else 0.0)

    search, rounds = searched(truth)
    assert [1.35] in rounds  # the middle of 1.25 and 1.5
    assert search.density.value == 1.3


def test_ends_of_the_search_are_said_to_be_ends():
    least, most = (searched(lambda ratio, share=share: point(share))[0] for share in (0.5, 0.0))
    assert (least.density.value, least.shown(least.density.value)) == (0.0, "< 0.75")
    assert (most.density.value, most.shown(most.density.value)) == (4.0, "≥ 4.00")
    assert most.shown(1.3) == "1.30"


def test_the_interval_is_that_of_a_bootstrap_over_fleets():
    """Fleet i carries up to 1.0 + 0.1 i and then misses everything: a draw carries what its weakest fleet does."""
    limits = 1.0 + 0.1 * np.arange(FLEETS)

    def truth(ratio):
        return point((ratio > limits + 1e-9).astype(float))

    search, _ = searched(truth, Rule(coarse=0.05))
    weakest = np.array([limits[draw > 0].min() for draw in DRAWS])
    np.testing.assert_allclose(search.holds, np.minimum(weakest, search.ratios[-1]), atol=1e-9)
    assert [search.density.lo, search.density.hi] == np.quantile(
        weakest[1:], [0.025, 0.975], method="inverted_cdf"
    ).tolist()
    assert search.density.value == 1.0
    # by hand: P(fleet 0 is in a draw) = 1 - (7/8)^8 = 0.656, P(neither 0, 1 nor 2) = (5/8)^8 = 0.023
    assert np.mean(search.holds[1:] == 1.0) == pytest.approx(1 - (7 / 8) ** 8, abs=0.04)
    assert (search.density.lo, search.density.hi) == (1.0, 1.2)


def test_halving_finds_the_same_interval_as_playing_every_ratio():
    limits = 1.02 + 0.11 * np.arange(FLEETS)

    def truth(ratio):
        return point(0.004 * np.maximum(ratio - limits, 0.0) / 0.1)

    every, plain = searched(truth, Rule(coarse=0.05))
    halved, rounds = searched(truth)
    assert halved.density == every.density
    assert sum(map(len, rounds)) < sum(map(len, plain))
    assert (halved.holds <= every.holds + 1e-9).all()  # draws between the ends may be in doubt, never beyond


def test_draws_are_the_sample_and_then_the_same_for_every_agent():
    assert (DRAWS[0] == 1.0).all()
    assert (DRAWS.sum(axis=1) == FLEETS).all()
    assert (draws_of(FLEETS, seed=3) == DRAWS).all()
    assert (draws_of(FLEETS, seed=4) != DRAWS).any()


def test_what_ample_memory_misses_too_is_taken_off_fleet_by_fleet():
    ample = point(np.linspace(0.0, 0.07, FLEETS), kills=2.0)
    crowded = point(np.linspace(0.0, 0.07, FLEETS) + 0.005, kills=2.0)
    left = crowded.minus(ample)
    np.testing.assert_allclose(left.missed_share(DRAWS), 0.005)
    assert left.kills.sum() == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coarse": 0.12}, "coarse=0.12: must be a multiple of step=0.05"),
        ({"least": 0.77}, "least_ratio=0.77: must be a multiple of step=0.05"),
        ({"most": 3.99}, "most_ratio=3.99: must be a multiple of step=0.05"),
        ({"least": 4.0}, "least_ratio=4: must be below most_ratio=4"),
    ],
)
def test_ratios_that_are_not_of_the_grid_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Rule(**changes)


def test_a_fleet_that_does_not_fit_fails_even_where_ample_memory_holds_no_more():
    held = point(0.0)
    unfit = replace(held, fits=np.arange(FLEETS) > 0.0)
    assert not Rule().fails(held, DRAWS).any()
    assert Rule().fails(unfit, DRAWS).tolist() == (DRAWS[:, 0] > 0).tolist()
