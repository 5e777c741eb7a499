"""The statistics against numbers worked out by hand, a bootstrap written as plain loops, and known distributions."""

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hvgym.bench.statistics import (
    Estimate,
    FloatArray,
    by_demand,
    holm,
    interval,
    iqm,
    iqm_of_scenarios,
    iqm_rows,
    normalised_score,
    paired_difference,
    performance_profile,
    probability_of_improvement,
    probability_of_improvement_interval,
    repeated,
    score_interval,
    seeded_by,
    seeds_for_power,
    smallest_p_value,
    stratified_bootstrap,
    worst_case_interval,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pooled_mean(batch: FloatArray) -> FloatArray:
    return np.asarray(batch.mean(axis=(1, 2, 3)))


def episodes(*rows: list[float]) -> FloatArray:
    """One scenario, one row of evaluation seeds a training seed: [1, train_seed, eval_seed]."""
    return np.array([rows], dtype=np.float64)


# Interquartile mean


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([100.0, 1.0, 3.0, -100.0], 2.0),  # one dropped at each end
        ([100.0, 1.0, 2.0, 6.0, -100.0], 3.0),  # floor(5/4) = 1 dropped
        ([-9.0, -8.0, 1.0, 2.0, 3.0, 6.0, 80.0, 90.0], 3.0),  # two dropped
        ([-9.0, -8.0, 1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 80.0, 90.0], 4.0),  # floor(10/4) = 2 dropped, 6 kept
        ([0.0, 0.0, 9.0], 3.0),  # too few to drop any
    ],
)
def test_iqm_drops_a_quarter_of_the_values_rounded_down_from_each_end(values: list[float], expected: float) -> None:
    assert iqm(values) == expected


def test_iqm_rows_is_the_iqm_of_each_row() -> None:
    rows = generator().normal(size=(3, 2, 10))
    expected = [[iqm(row) for row in group] for group in rows]
    assert iqm_rows(rows).tolist() == expected


def test_the_score_averages_the_runs_of_a_scenario_and_trims_scenarios() -> None:
    # means 1, 2, 9 and -50: a quarter of four scenarios at each end is one, (1 + 2) / 2; all runs together give (0 + 2 + 2 + 2) / 4
    scores = np.array([[[0.0, 2.0]], [[2.0, 2.0]], [[6.0, 12.0]], [[-102.0, 2.0]]])
    assert float(iqm_of_scenarios(scores)) == 1.5
    assert iqm_of_scenarios(np.stack([scores, scores + 1.0])).tolist() == [1.5, 2.5]


def test_the_reference_scores_one_and_stock_nothing_however_skewed_the_seeds_are() -> None:
    stock = np.zeros((1, 1, 4))
    reference = np.array([[[0.01, 0.01, 0.02, 0.36]]])  # headroom 0.1; IQM of runs would be 0.015 / 0.1
    scores = normalised_score(reference, stock, reference)
    assert iqm(scores) == pytest.approx(0.15)
    assert float(iqm_of_scenarios(scores)) == pytest.approx(1.0)
    assert float(iqm_of_scenarios(normalised_score(stock, stock, reference))) == 0.0


# Stratified bootstrap


def looped_bootstrap(scores: FloatArray, replicates: int) -> list[float]:
    """The same procedure in plain Python, down to the generator: IQM of the means of resampled scenarios."""
    draw = random.Random(7)
    results = []
    for _ in range(replicates):
        means: list[float] = []
        for scenario in scores.tolist():
            runs: list[float] = []
            episodes_drawn = [draw.randrange(len(scenario[0])) for _ in scenario[0]]
            for _ in scenario:
                train_seed = draw.choice(scenario)
                runs += [train_seed[episode] for episode in episodes_drawn]
            means.append(sum(runs) / len(runs))
        means.sort()
        kept = means[len(means) // 4 : len(means) - len(means) // 4]
        results.append(sum(kept) / len(kept))
    return results


def test_bootstrap_agrees_with_plain_loops() -> None:
    scores = generator(1).exponential(size=(5, 4, 5)) + np.arange(4)[None, :, None]
    fast = stratified_bootstrap(scores, iqm_of_scenarios, generator(2), 20_000)
    slow = looped_bootstrap(scores, 5_000)
    assert np.std(fast) == pytest.approx(np.std(slow), rel=0.04)
    levels = [0.025, 0.25, 0.5, 0.75, 0.975]
    np.testing.assert_allclose(np.quantile(fast, levels), np.quantile(slow, levels), atol=0.1 * float(np.std(slow)))


@pytest.mark.parametrize(
    ("scores", "variance"),
    [
        (episodes([0.0, 0.0], [2.0, 2.0]), 0.5),  # only training seeds differ: 1 / 2 seeds
        (episodes([0.0, 2.0], [0.0, 2.0]), 0.5),  # only episodes differ: 1 / 2 draws, common to both training seeds
        (episodes([0.0, 2.0], [2.0, 4.0]), 1.0),  # both: 1 / 2 + 1 / 2
        (np.array([[[0.0, 2.0]], [[5.0, 7.0]]]), 0.25),  # two scenarios drawn apart: (1 / 2 + 1 / 2) / 2**2
    ],
)
def test_variance_of_the_mean_is_what_both_levels_and_all_scenarios_contribute(
    scores: FloatArray, variance: float
) -> None:
    replicates = stratified_bootstrap(scores, pooled_mean, generator(), 40_000)
    assert replicates.var() == pytest.approx(variance, rel=0.04)


def test_scenarios_are_strata_that_never_lend_runs_to_each_other() -> None:
    scores = np.stack([np.zeros((3, 4)), np.full((3, 4), 10.0)])
    assert set(stratified_bootstrap(scores, pooled_mean, generator(), 200)) == {5.0}


def test_blocks_bound_memory_and_lose_no_replicate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvgym.bench.statistics._BLOCK_FLOATS", 50)
    seen = []

    def spy(batch: FloatArray) -> FloatArray:
        seen.append(batch.shape)
        return pooled_mean(batch)

    assert stratified_bootstrap(np.zeros((2, 2, 3)), spy, generator(), 10).shape == (10,)
    assert seen == [(4, 2, 2, 3), (4, 2, 2, 3), (2, 2, 2, 3)]


def test_a_statistic_may_return_several_numbers() -> None:
    profile = stratified_bootstrap(
        episodes([0.0, 1.0]), lambda batch: (batch > 0.5).mean(axis=3)[:, 0], generator(), 10
    )
    assert profile.shape == (10, 1)
    assert set(profile.ravel()) == {0.0, 0.5, 1.0}


# Intervals


def test_interval_holds_the_middle_of_the_replicates() -> None:
    assert interval(np.arange(101.0), confidence=0.9) == pytest.approx((5.0, 95.0))


def test_score_interval_is_the_iqm_of_scenarios_between_the_percentiles_of_its_bootstrap() -> None:
    scores = generator(3).normal(size=(2, 3, 4))
    expected = interval(stratified_bootstrap(scores, iqm_of_scenarios, generator(4), 500), 0.8)
    assert score_interval(scores, generator(4), 500, 0.8) == Estimate(float(iqm_of_scenarios(scores)), *expected)


def score_of_normal_runs(rng: np.random.Generator) -> Estimate:
    by_train_seed = rng.normal(size=(3, 12, 1)) + 0.5 * rng.normal(size=(3, 12, 6))
    return score_interval(by_train_seed, rng, 300)


def difference_of_normal_runs(rng: np.random.Generator) -> Any:
    demand = 10.0 * rng.normal(size=(3, 1, 20))
    a, b = demand + rng.normal(size=(3, 8, 1)) + rng.normal(size=(3, 1, 20)), demand + rng.normal(size=(3, 1, 20))
    return paired_difference(a, b, rng, 300, permutations=1)


def chance_of_normal_runs(rng: np.random.Generator) -> Estimate:
    won = probability_of_improvement_interval(rng.normal(size=(3, 1, 20)), rng.normal(size=(3, 1, 20)), rng, 300)
    return Estimate(won.value - 0.5, won.lo - 0.5, won.hi - 0.5)


@pytest.mark.parametrize("estimate", [score_of_normal_runs, difference_of_normal_runs, chance_of_normal_runs])
def test_intervals_cover_a_true_value_of_zero_about_95_times_in_100(
    estimate: Callable[[np.random.Generator], Any],
) -> None:
    found = [estimate(generator(data_set)) for data_set in range(200)]
    assert 0.88 <= np.mean([e.lo <= 0.0 <= e.hi for e in found]) <= 0.99


# Performance profile and probability of improvement


def test_performance_profile_counts_runs_strictly_above_each_threshold() -> None:
    scores = np.array([[[0.0, 0.5]], [[0.5, 1.0]]])
    assert performance_profile(scores, [-1.0, 0.0, 0.5, 0.9, 1.0]).tolist() == [1.0, 0.75, 0.25, 0.25, 0.0]


def test_probability_of_improvement_counts_pairs_and_half_of_the_ties_scenario_by_scenario() -> None:
    a = np.array([[[1.0, 3.0]], [[5.0, 5.0]]])
    b = np.array([[[1.0, 2.0]], [[0.0, 9.0]]])
    # scenario 0: 1=1, 1<2, 3>1, 3>2 give 2.5 of 4; scenario 1: 2 of 4
    assert probability_of_improvement(a, b) == 0.5625
    assert probability_of_improvement(b, a) == 0.4375


def test_interval_of_the_probability_of_improvement_follows_from_all_resamples_by_hand() -> None:
    a, b = episodes([1.0, 3.0]), episodes([0.0, 2.0])
    # demand drawn (0,0): 1>0, share 1; (1,1): 3>2, share 1; one of each: 3 of 4 pairs. Never less: both met the same
    found = probability_of_improvement_interval(a, b, generator(), 200, confidence=0.98)
    assert found == Estimate(0.75, 0.75, 1.0)


def test_interval_of_the_probability_of_improvement_weighs_pairs_by_how_often_each_run_is_drawn() -> None:
    a, b = episodes([0.0], [0.0], [0.0], [4.0]), episodes([1.0])
    # share won = drawn copies of the one winner / 4, binomial(4, 1/4): quantile 0.1 is 0, 0.9 is 2 of 4
    assert probability_of_improvement_interval(a, b, generator(), 4_000, confidence=0.8) == Estimate(0.25, 0.0, 0.5)


# Paired difference


def test_a_better_agent_has_a_positive_difference_and_a_small_p_value() -> None:
    demand = generator(5).normal(scale=100.0, size=(4, 1, 10))
    worse = demand + generator(6).normal(scale=0.1, size=(4, 1, 10))
    better = demand + 1.0 + generator(7).normal(scale=0.1, size=(4, 3, 10))
    found = paired_difference(better, worse, generator())
    assert 0.9 < found.lo < found.mean < found.hi < 1.1
    assert found.p_value == 1 / 10_001  # no random pattern of 10,000 is as extreme, plus the observed one


def test_swapping_the_agents_negates_the_mean_and_mirrors_the_interval() -> None:
    a, b = generator(8).normal(size=(3, 4, 5)), generator(9).normal(size=(3, 1, 5))
    forward, backward = paired_difference(a, b, generator()), paired_difference(b, a, generator())
    assert backward.mean == -forward.mean != 0.0
    assert (backward.lo, backward.hi) == pytest.approx((-forward.hi, -forward.lo), rel=1e-12)
    assert backward.p_value == forward.p_value


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (episodes([0.0, 2.0], [0.0, 2.0]), episodes([0.0, 0.0])),  # one draw of demand serves both training seeds
        (episodes([0.0, 0.0], [2.0, 2.0]), episodes([0.0, 0.0])),  # training seeds of a
        (episodes([2.0, 2.0]), episodes([0.0, 0.0], [2.0, 2.0])),  # training seeds of b
    ],
)
def test_difference_is_0_or_2_in_a_quarter_of_the_resamples_each(a: FloatArray, b: FloatArray) -> None:
    found = paired_difference(a, b, generator(), confidence=0.8)
    assert (found.mean, found.lo, found.hi) == (1.0, 0.0, 2.0)
    narrower = paired_difference(a, b, generator(), confidence=0.3)  # from 35 % to 65 %: the middle half is 1
    assert (narrower.lo, narrower.hi) == (1.0, 1.0)


def test_difference_draws_the_demand_of_each_scenario_apart() -> None:
    a = np.array([[[0.0, 2.0]], [[0.0, 2.0]]])
    # each scenario 0, 1, 2 with 1/4, 1/2, 1/4; their mean is 0 in 1/16, 1/2 in 1/4 of the resamples, and so mirrored
    found = paired_difference(a, np.zeros((2, 1, 2)), generator(), confidence=0.8)
    assert (found.mean, found.lo, found.hi) == (1.0, 0.5, 1.5)


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),  # only +++ and ---
        ([3.0, 2.0, -1.0], 4 / 8),  # sums are 6, 4, 2, 0 and their negatives; observed 4
        ([1.0, 2.0, -4.0], 1.0),  # sums are 7, 5, 3, 1 and their negatives; observed -1
        ([0.1, 0.2, -0.3], 1.0),  # a sum of 0 but for rounding
        ([0.0, 0.0, 0.0], 1.0),
    ],
)
def test_p_value_of_three_pairs_is_the_share_of_sign_patterns_as_extreme(
    differences: list[float], p_value: float
) -> None:
    assert paired_difference(episodes(differences), np.zeros((1, 1, 3)), generator(), 10).p_value == p_value


def test_p_value_takes_the_mean_over_training_seeds_before_it_flips_signs() -> None:
    # means over training seeds are (1, 2, 3), as above
    a = episodes([-9.0, 2.0, 6.0], [11.0, 2.0, 0.0])
    assert paired_difference(a, np.zeros((1, 1, 3)), generator(), 10).p_value == 2 / 8


def test_fourteen_pairs_are_enumerated_and_fifteen_sampled_with_the_observed_pattern_counted() -> None:
    gains = np.linspace(1.0, 2.0, 15).reshape(1, 1, 15)
    exact = paired_difference(gains[..., :14], np.zeros((1, 1, 14)), generator(), 10, permutations=1)
    sampled = paired_difference(gains, np.zeros((1, 1, 15)), generator(), 10, permutations=99)
    assert exact.p_value == 2 / 2**14
    assert sampled.p_value == 1 / 100


def test_seeds_that_all_give_the_same_are_one_pair_however_many() -> None:
    """A story: a is .1 better with each of 8 seeds. Beside it a scenario that differs with two seeds, by 2 and -1: of the sums of
    +-8 x .1, +-2 and +-1 three in four are as extreme as 1.8."""
    story, other = np.full((1, 1, 8), 0.5), np.zeros((1, 1, 8))
    alone = paired_difference(story + 0.1, story, generator(), 10)
    assert (alone.p_value, alone.fixed) == (1.0, 1)
    assert (alone.mean, alone.lo, alone.hi) == pytest.approx((0.1, 0.1, 0.1))
    varied = np.array([2.0, -1.0, *[0.0] * 6]).reshape(1, 1, 8)
    found = paired_difference(np.concatenate([story + 0.1, varied]), np.concatenate([story, other]), generator(), 10)
    assert found.fixed == 1
    assert found.p_value == 0.75
    assert repeated(story, np.full((1, 2, 8), np.nan)).all()
    assert not repeated(story[..., :1]).any()  # nothing is known from one seed


def test_the_same_demand_on_two_hosts_is_one_draw() -> None:
    """Where both hosts give the same, all is as on one of them; taken for two draws, they would say twice as much."""
    a, b = generator(1).normal(0.4, 1.0, (1, 1, 10)), np.zeros((1, 1, 10))
    one = paired_difference(a, b, generator())
    twice_a, twice_b = np.concatenate([a, a]), np.concatenate([b, b])
    both = paired_difference(twice_a, twice_b, generator(), demands=[7, 7])
    assert (both.mean, both.lo, both.hi, both.p_value) == pytest.approx((one.mean, one.lo, one.hi, one.p_value))
    assert (both.demands, both.fixed) == (1, 0)
    apart = paired_difference(twice_a, twice_b, generator())
    assert apart.demands == 2
    assert apart.p_value < one.p_value
    assert apart.hi - apart.lo == pytest.approx((one.hi - one.lo) / np.sqrt(2.0), rel=0.1)
    scores = score_interval(twice_a, generator(), demands=[0, 0])
    assert (scores.lo, scores.hi) == pytest.approx((one.lo, one.hi), abs=0.05)
    won = probability_of_improvement_interval(twice_a, twice_b, generator(), demands=[0, 0])
    alone = probability_of_improvement_interval(a, b, generator())
    assert (won.lo, won.hi) == (alone.lo, alone.hi)


def test_differences_of_one_demand_are_added_and_the_mean_stays() -> None:
    differences = np.array([[1.0, 2.0], [3.0, 5.0], [-4.0, 0.0]])
    found = by_demand(differences, [3, 1, 3])
    np.testing.assert_allclose(found, np.array([[3.0, 5.0], [-3.0, 2.0]]) * 2 / 3)
    assert found.mean() == pytest.approx(differences.mean())
    with pytest.raises(ValueError, match="demands has shape"):
        by_demand(differences, [1, 2])


@pytest.mark.parametrize("pairs", [1, 2, 4, 8, 14, 15, 40])
def test_no_p_value_is_smaller_than_its_number_of_pairs_allows(pairs: int) -> None:
    """All differences of one sign: that pattern and its mirror, 2 of 2**n; sampled, the observed one of 10,001 at least."""
    a = np.arange(1.0, pairs + 1.0).reshape(1, 1, pairs)
    p = paired_difference(a, np.zeros_like(a), np.random.default_rng(0), replicates=10).p_value
    if pairs <= 14:
        assert p == smallest_p_value(pairs) == 2.0 ** (1 - pairs)
    else:
        assert p >= smallest_p_value(pairs) == 1 / 10_001


def test_sampled_p_value_agrees_with_every_pattern_of_sixteen_pairs() -> None:
    differences = np.linspace(-1.5, 3.0, 16)
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product([-1.0, 1.0], repeat=16)]
    exact = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-9)
    sampled = paired_difference(differences.reshape(2, 1, 8), np.zeros((2, 1, 8)), generator(), 10).p_value
    assert 0.03 < exact < 0.1
    assert sampled == pytest.approx(exact, abs=0.01)


# Intervals with the worst case


def test_equal_differences_are_as_far_from_the_worst_as_their_number_says() -> None:
    # the worst case weighs w with P(w > x) = (1 - x)**8: 2.5 % beyond x = 1 - 0.025**(1/8) = 0.3694
    lo, hi = worst_case_interval([1.0] * 8, 3.0, generator(), 0.95, 200_000)
    assert lo == pytest.approx(1.0 - 0.3694 * 4.0, abs=0.02)
    assert hi == pytest.approx(1.0 + 0.3694 * 2.0, abs=0.02)


def test_the_end_of_an_interval_of_one_difference_by_hand() -> None:
    # its weight is uniform on [0, 1]: from -1 to 1 with equal chances, so a tenth is left beyond -0.8; at the other end all is 1
    lo, hi = worst_case_interval([1.0], 1.0, generator(), 0.8, 200_000)
    assert (lo, hi) == (pytest.approx(-0.8, abs=0.01), pytest.approx(1.0, abs=1e-12))


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3])
def test_a_rare_loss_is_covered_though_it_was_not_seen(rate: float) -> None:
    """A loss that is worth all gains, so the mean is 0; binomial error of 1,000 data sets, 99.9 %: 0.022."""
    rng, loss = generator(21), (1.0 - rate) / rate
    found = [
        worst_case_interval(np.where(rng.random(20) < rate, -loss, 1.0), max(loss, 1.0), rng, 0.95, 400)
        for _ in range(1_000)
    ]
    assert np.mean([lo > 0.0 or hi < 0.0 for lo, hi in found]) < 0.05 + 0.022


def test_with_many_pairs_the_interval_is_that_of_the_normal_law() -> None:
    lo, hi = worst_case_interval(generator(5).normal(size=4_000), 10.0, generator(6), 0.95, 4_000)
    mean = generator(5).normal(size=4_000).mean()
    assert lo == pytest.approx(mean - 1.96 / np.sqrt(4_000) - 10.0 / 4_000, abs=0.003)
    assert hi == pytest.approx(mean + 1.96 / np.sqrt(4_000) + 10.0 / 4_000, abs=0.003)


def test_a_difference_beyond_the_worst_is_refused() -> None:
    with pytest.raises(ValueError, match="no less than every difference"):
        worst_case_interval([2.0], 1.0, generator())


# Seeds that are needed


def test_seeds_for_power_by_hand() -> None:
    # mean 1, root mean square and spread sqrt(2): (1.95996 + 0.84162)**2 x 2 = 15.7 pairs
    assert seeds_for_power([[0.0, 2.0]], 0.05) == 16
    # two scenarios have two pairs a seed: 7.8
    assert seeds_for_power([[0.0, 2.0], [2.0, 0.0]], 0.05) == 8
    # no spread within scenarios, 1 and 3: (1.95996 x sqrt(5) / 2)**2 = 4.8 pairs, of which none can show 5 %; six can
    assert seeds_for_power([[1.0, 1.0], [3.0, 3.0]], 0.05) == 3
    assert seeds_for_power([[1.0, -1.0]], 0.05) == np.inf
    # 6 pairs are the least; one of them is a story, whatever its seeds, so the other scenario needs 5
    assert seeds_for_power([[1.0, 1.0], [1.0, 1.0]], 0.05, fixed=1) == 5
    assert seeds_for_power([[1.0, 1.0]], 0.05, fixed=1) == np.inf


def test_with_the_seeds_for_power_four_of_five_studies_show_the_difference() -> None:
    """Observed once with many seeds, then played with as many as that asks for; binomial error of 400, 99.9 %: 0.06."""
    rng, effects = generator(22), np.array([[0.3], [0.9]])
    seeds = int(seeds_for_power(effects + rng.normal(size=(2, 20_000)), 0.05))
    shown = 0
    for _ in range(400):
        played = (effects + rng.normal(size=(2, seeds)))[:, None]
        shown += paired_difference(played, np.zeros_like(played), rng, 1, permutations=999).p_value <= 0.05
    assert 0.74 <= shown / 400 <= 0.90


# Repeatability


@pytest.mark.parametrize(
    "compute",
    [
        lambda a, b, rng: score_interval(a, rng),
        lambda a, b, rng: paired_difference(a, b, rng),
        lambda a, b, rng: probability_of_improvement_interval(a, b, rng),
    ],
)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(compute: Callable[..., Any]) -> None:
    a, b = generator(11).normal(size=(2, 3, 10)), generator(12).normal(size=(2, 1, 10))
    assert compute(a, b, generator(1)) == compute(a, b, generator(1))
    assert compute(a, b, generator(1)) != compute(a, b, generator(2))


# Holm's correction


def test_holm_multiplies_by_the_hypotheses_left_keeps_order_and_never_decreases() -> None:
    # sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.5
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    # sorted 0.01, 0.04, 0.05 times 3, 2, 1 is 0.03, 0.08, 0.05: the last is lifted to 0.08
    assert holm([0.05, 0.01, 0.04]) == pytest.approx([0.08, 0.03, 0.08])


def test_holm_stops_at_one_and_takes_no_comparisons_for_none() -> None:
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


# Normalised score


def test_normalised_score_pairs_the_numerator_and_averages_the_denominator() -> None:
    stock = np.array([[[1.0, 3.0]], [[0.0, 0.0]]])
    reference = np.array([[[1.0, 7.0]], [[10.0, 30.0]]])  # 0 and 4, 10 and 30 above stock: 2 and 20 on average
    agent = np.array([[[1.0, 4.0], [2.0, 3.0]], [[5.0, 10.0], [-20.0, 0.0]]])
    expected = [[[0.0, 0.5], [0.5, 0.0]], [[0.25, 0.5], [-1.0, 0.0]]]
    assert normalised_score(agent, stock, reference).tolist() == expected


def test_stock_scores_exactly_0_and_the_reference_1_on_average() -> None:
    stock = generator(13).uniform(size=(3, 1, 7))
    reference = stock + generator(14).uniform(size=(3, 1, 7))
    assert not normalised_score(stock, stock, reference).any()
    assert normalised_score(reference, stock, reference).mean(axis=2) == pytest.approx(np.ones((3, 1)), rel=1e-12)


def test_a_scenario_without_headroom_is_named() -> None:
    stock, reference = np.zeros((3, 1, 2)), np.ones((3, 1, 2))
    reference[2] = 1e-9
    with pytest.raises(ValueError, match="scenario 2: reference - stock is 1e-09"):
        normalised_score(stock, stock, reference)


# What is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iqm([0.0, np.nan]), r"values\[1\] is nan"),
        (lambda: score_interval(episodes([1.0, np.inf]), generator()), r"scores\[0, 0, 1\] is inf"),
        (lambda: performance_profile(np.zeros((2, 3)), [0.0]), r"scores has shape \(2, 3\)"),
        (lambda: performance_profile(np.zeros((1, 0, 3)), [0.0]), "scores is empty"),
        (lambda: stratified_bootstrap(np.zeros((1, 1, 2)), pooled_mean, generator(), 0), "replicates is 0"),
        (lambda: interval([0.0, 1.0], 95.0), "confidence is 95.0"),
        (lambda: holm([0.1, 1.5]), "p_values must lie in"),
        (lambda: holm([0.1, np.nan]), "p_values must lie in"),
        (
            lambda: paired_difference(np.zeros((1, 1, 2)), np.zeros((1, 1, 3)), generator()),
            r"a has shape \(1, 1, 2\), b \(1, 1, 3\)",
        ),
        (
            lambda: probability_of_improvement(np.zeros((1, 1, 2)), np.zeros((2, 1, 2))),
            r"a has shape \(1, 1, 2\), b \(2, 1, 2\)",
        ),
        (
            lambda: normalised_score(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), np.ones((1, 1, 2))),
            "stock and reference have 2 and 1 training seeds",
        ),
    ],
)
def test_bad_input_is_refused_with_a_line_that_names_it(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_draws_hang_on_the_figures_and_on_nothing_else() -> None:
    figures = [np.array([[0.25, np.nan]]), np.array([[0.5]])]
    drawn = seeded_by(figures).integers(1 << 62, size=4)
    assert drawn.tolist() == seeded_by(np.copy(one) for one in figures).integers(1 << 62, size=4).tolist()
    assert drawn.tolist() != seeded_by(reversed(figures)).integers(1 << 62, size=4).tolist()
