"""Seeds until it is decided: how often looks deceive, and how rarely they miss, counted on studies drawn at random."""

import json

import numpy as np
import pytest

from hvgym.bench import stopping
from hvgym.bench.stopping import Plan, decisions, looks, planned, power
from hvgym.envs.errors import InputError

STUDIES = 1_500

BOUND = 0.05 + 3.1 * np.sqrt(0.05 * 0.95 / STUDIES)
"""What a share of 5 % stays below in so many studies in 999 of 1,000 (binomial error): 0.067."""


def noise(kind, rng, shape):
    if kind == "heavy tails":
        return rng.standard_t(2, shape)
    spread = np.array([1.0, 10.0])[:, None, None] if kind == "unlike scenarios" else 1.0
    return spread * rng.normal(size=shape)


@pytest.fixture
def few_subsets(monkeypatch):
    """The test is exact with any number of subsets; few are fast."""
    monkeypatch.setattr(stopping, "SUBSETS", 200)
    monkeypatch.setattr(stopping, "BEYOND", 4)


def decided(plan, goodput):
    return any(one.decided for one in decisions(plan, goodput, plan.looks[-1]).values())


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "unlike scenarios"])
def test_of_agents_that_are_equal_at_most_5_percent_are_told_apart_over_all_looks(kind, few_subsets):
    rng, plan = np.random.default_rng(1), Plan(("a",), (4, 8, 16), "b", named=True)
    found = [decided(plan, {name: noise(kind, rng, (2, 1, 16)) for name in "ab"}) for _ in range(STUDIES)]
    assert 0.01 < np.mean(found) < BOUND


def test_looks_that_do_not_share_the_error_deceive_more_often(few_subsets, monkeypatch):
    """So this simulation would notice."""
    monkeypatch.setattr(Plan, "error", lambda plan, look: 0.05)
    rng, plan = np.random.default_rng(1), Plan(("a",), (4, 8, 16), "b", named=True)
    assert np.mean([decided(plan, {name: noise("normal", rng, (2, 1, 16)) for name in "ab"}) for _ in range(STUDIES)]) > BOUND


def chosen_by_rows(named):
    """Share of studies of four equal agents in which the best at the first look is told from any other."""
    rng, found, names = np.random.default_rng(2), 0, ("a", "b", "c", "stock")
    for _ in range(STUDIES):
        goodput = {name: noise("normal", rng, (2, 1, 16)) for name in names}
        best = max(names, key=lambda name: goodput[name][:, :, :4].mean())
        others = tuple(name for name in names if name != best) if named else names[:3]
        found += decided(Plan(others, (4, 8, 16), best, named=named), goodput)
    return found / STUDIES


def test_the_best_of_the_first_look_may_be_compared_with(few_subsets):
    assert chosen_by_rows(named=False) < BOUND


def test_the_error_is_divided_over_looks_and_comparisons():
    plan = Plan(("a", "b"), (8, 16, 32, 64), "c", named=True)
    assert [plan.error(index) for index in range(4)] == pytest.approx([0.0125 / 3, 0.0125 / 3, 0.0125 / 3, 0.0125])
    assert sum(plan.error(index) for index in range(4)) * plan.comparisons == pytest.approx(0.05)
    assert Plan(("a", "b"), (8, 16)).comparisons == 3  # a, b and stock in pairs
    assert Plan(("a", "b", "stock"), (8, 16)).comparisons == 3
    assert Plan(("a",), (8,), "b", named=True).error(0) == 0.05


@pytest.mark.parametrize(
    ("first", "most", "expected"), [(8, 64, (8, 16, 32, 64)), (8, 50, (8, 16, 32, 50)), (3, 4, (3, 4))]
)
def test_each_look_has_twice_the_seeds(first, most, expected):
    assert looks(first, most) == expected


def test_a_large_difference_is_decided_at_the_first_look_and_a_decision_stands():
    up = 0.5 + np.linspace(-0.1, 0.1, 8).reshape(1, 1, 8)
    later = np.concatenate([up, np.full((1, 1, 8), -9.0)], axis=2)
    plan = Plan(("a", "same"), (8, 16), "b", named=True)
    found = decisions(plan, {"a": later, "b": np.zeros((1, 1, 16)), "same": np.zeros((1, 1, 16))}, 16)
    # 8 pairs, 0.05 / 2 / 2 / 1 = 0.0125: of 256 subsets one is cut at each end, the empty one
    assert found["a"].seeds == 8
    assert (found["a"].lo, found["a"].hi) == (0.4, 0.6)
    assert found["a"].mean == pytest.approx(0.5)
    assert found["a"].decided
    assert found["same"] == stopping.Decision(16, 0.0, 0.0, 0.0, 0.9875)
    assert not found["same"].decided


def test_training_seeds_are_averaged_and_scenarios_that_one_does_not_play_are_left_out():
    nothing = np.full((1, 1, 8), np.nan)
    a = np.concatenate([np.stack([np.full(8, 0.1), np.full(8, 0.3)])[None], np.repeat(nothing, 2, axis=1)])
    found = decisions(Plan(("a",), (8, 9), "b", named=True), {"a": a, "b": np.zeros((2, 1, 8))}, 8)
    assert found["a"].mean == pytest.approx(0.2)


def test_power_is_that_of_one_look_where_there_is_one_and_little_less_with_four():
    one, seeds = power(Plan(("a",), (64,), "b", named=True))
    assert one == pytest.approx(0.8, abs=0.01)
    assert seeds == 64
    four, seeds = power(Plan(("a",), (8, 16, 32, 64), "b", named=True))
    assert 0.70 < four < 0.78
    assert 40 < seeds < 56


def test_what_is_printed_as_power_is_reached(few_subsets):
    """400 studies of normal differences; binomial error, 99.9 %: 0.07."""
    rng, plan = np.random.default_rng(3), Plan(("a",), (8, 16, 32), "b", named=True)
    effect = 2.8016 / np.sqrt(2 * 32)  # 1.960 + 0.8416: 80 % with 64 pairs of spread 1 at once
    found = [
        decisions(plan, {"a": effect + rng.normal(size=(2, 1, 32)), "b": np.zeros((2, 1, 32))}, 32)["a"]
        for _ in range(400)
    ]
    expected, seeds = power(plan)
    assert np.mean([one.lo > 0.0 for one in found]) == pytest.approx(expected, abs=0.07)
    assert np.mean([one.seeds for one in found]) == pytest.approx(seeds, rel=0.08)


def test_a_plan_is_kept_and_another_is_refused(tmp_path):
    content = {"agents": ["a"], "looks": [8, 16], "to": "b", "named": True, "level": 0.05, "decisions": {}}
    (tmp_path / stopping.FILE).write_text(json.dumps(content))
    assert planned(tmp_path, ["a", "b"], "b", 4, 16) == Plan(("a",), (8, 16), "b", named=True)
    for agents, to, most in ((["a"], "b", 32), (["a", "c"], "b", 16), (["a"], None, 16)):
        with pytest.raises(InputError, match=r"planned with max_seeds=16, agents a and to=b; another plan"):
            planned(tmp_path, agents, to, 4, most)
    (tmp_path / stopping.FILE).write_text("{}")
    with pytest.raises(InputError, match=r"stopping.json: lacks a key .'agents'."):
        planned(tmp_path, ["a"], "b", 4, 16)


def test_a_plan_needs_more_seeds_than_the_first_look_and_somebody_to_compare(tmp_path):
    with pytest.raises(InputError, match="max_seeds=8: must be more than the 8 evaluation seeds"):
        planned(tmp_path, ["a"], None, 8, 8)
    with pytest.raises(InputError, match="nobody to compare with a"):
        planned(tmp_path, ["a"], "a", 8, 16)
