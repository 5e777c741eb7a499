"""Seeds until it is decided: how often looks deceive, and how rarely they miss, counted on studies drawn at random."""

import json

import numpy as np
import pytest

from hvgym.bench import stopping
from hvgym.bench.protocol import Protocol
from hvgym.bench.stopping import Plan, decisions, looks, planned, power
from hvgym.bench.suites import Suite
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load

STUDIES = 1_000

BOUND = 0.05 + 3.1 * np.sqrt(0.05 * 0.95 / STUDIES)
"""What a share of 5 % stays below in so many studies in 999 of 1,000 (binomial error): 0.071."""

LOSS = 19.0
"""A kill in one episode of twenty, worth what is gained in the others."""


def played(kind, rng):
    """Differences of two agents whose means are equal, [2 scenarios, 1, 16 seeds]."""
    shape = (2, 1, 16)
    if kind == "heavy tails":
        return rng.standard_t(2, shape)
    if kind == "kills":
        return np.where(rng.random(shape) < 1 / (1 + LOSS), -LOSS, 1.0)
    spread = np.array([1.0, 10.0])[:, None, None] if kind == "unlike scenarios" else 1.0
    return spread * rng.normal(size=shape)


@pytest.fixture
def few(monkeypatch):
    """Few replicates are fast, and deceive no more often."""
    monkeypatch.setattr(stopping, "BEYOND", 4)


DEMAND = np.linspace(0.5, 0.6, 16).reshape(1, 1, 16)
"""Goodput of an agent under the demand of 16 seeds."""


def decided(plan, goodput, worst=LOSS):
    return any(one.decided for one in decisions(plan, goodput, plan.looks[-1], [worst, worst]).values())


NAMED = Plan(("a",), (4, 8, 16), "b", named=True)


def share_decided(kind, worst):
    rng, b = np.random.default_rng(1), np.concatenate([DEMAND, DEMAND])
    return np.mean([decided(NAMED, {"a": b + played(kind, rng), "b": b}, worst) for _ in range(STUDIES)])


@pytest.mark.parametrize(
    ("kind", "worst"), [("normal", 0.0), ("heavy tails", 0.0), ("unlike scenarios", 0.0), ("kills", LOSS)]
)
def test_of_agents_that_are_equal_at_most_5_percent_are_told_apart_over_all_looks(kind, worst, few):
    assert share_decided(kind, worst) < BOUND


def test_this_would_notice_looks_that_do_not_share_the_error(few, monkeypatch):
    monkeypatch.setattr(Plan, "error", lambda plan, look: 0.3)
    assert share_decided("normal", 0.0) > BOUND


def test_this_would_notice_an_interval_that_takes_what_was_not_seen_for_impossible(few):
    assert share_decided("kills", 0.0) > BOUND


def test_the_best_of_the_first_look_may_be_compared_with(few):
    rng, found, names = np.random.default_rng(2), 0, ("a", "b", "c", "stock")
    for _ in range(300):
        goodput = {name: played("normal", rng) for name in names}
        best = max(names, key=lambda name: goodput[name][:, :, :4].mean())
        found += decided(Plan(names[:3], (4, 8, 16), best), goodput, 0.0)
    assert found / 300 < 0.05 + 0.039  # binomial error of 300


def test_one_kill_by_hand():
    """Four VMs of weight 1 and one of 4, ten minutes: 4 x (600 + 600) of 8 x 600 seconds of work."""
    scenario = load("no-guest-swap-short").to_dict()
    group = scenario["vms"][0]
    vms = [group | {"name": "light", "count": 4, "weight": 1.0}, group | {"name": "heavy", "count": 1, "weight": 4.0}]
    assert stopping.one_kill(scenario | {"vms": vms, "episode_s": 600, "kill_cost_s": 600.0}) == 1.0


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


def test_a_large_difference_is_decided_at_the_first_look_and_a_decision_stands(monkeypatch):
    monkeypatch.setattr(stopping, "BEYOND", 4_000)
    later = np.concatenate([np.full((1, 1, 8), 0.5), np.full((1, 1, 8), -9.0)], axis=2)
    plan = Plan(("a", "same"), (8, 16), "b", named=True)
    found = decisions(plan, {"a": DEMAND + later, "b": DEMAND, "same": DEMAND}, 16, [0.5])
    # two agents, two looks, two ends: 0.05 / 8. The worst case, -0.5, weighs more than x with (1 - x)**8, which that is at 0.4697
    assert found["a"].seeds == 8
    assert found["a"].lo == pytest.approx(0.5 - 0.4697, abs=0.01)
    assert found["a"].mean == 0.5
    assert found["a"].decided
    assert (found["same"].seeds, found["same"].mean, found["same"].lo, found["same"].hi) == (16, 0.0, *UNSEEN)
    assert not found["same"].decided


UNSEEN = (pytest.approx(-0.5 * 0.2718, abs=0.005), pytest.approx(0.5 * 0.2718, abs=0.005))
"""(1 - x)**16 = 0.05 / 8 at x = 0.2718."""


def test_scenarios_in_which_every_seed_gives_the_same_decide_nothing(few):
    """A story's seeds are copies; beside one that varies they neither help nor hinder, and its decision is that of it alone."""
    plan, story = Plan(("a",), (8, 16), "b", named=True), np.full((1, 1, 16), 0.5)
    alone = decisions(plan, {"a": 0.9 * story, "b": story}, 16, [0.1])["a"]
    assert (alone.seeds, alone.mean, alone.lo, alone.hi, alone.decided) == (16, pytest.approx(-0.05), -0.1, 0.1, False)
    varied = decisions(plan, {"a": DEMAND + 0.2, "b": DEMAND}, 16, [0.1])["a"]
    both = decisions(
        plan, {"a": np.concatenate([DEMAND + 0.2, 0.0 * story]), "b": np.concatenate([DEMAND, story])}, 16, [0.1, 0.1]
    )["a"]
    assert varied.decided
    assert both == varied


def test_the_same_demand_on_two_hosts_decides_as_on_one(few):
    plan, better = Plan(("a",), (8, 16), "b", named=True), DEMAND + np.random.default_rng(2).normal(0.02, 0.05, 16)
    one = decisions(plan, {"a": better, "b": DEMAND}, 16, [0.1])["a"]
    twice = {"a": np.concatenate([better, better]), "b": np.concatenate([DEMAND, DEMAND])}
    assert decisions(plan, twice, 16, [0.1, 0.1], [4, 4])["a"] == one
    assert decisions(plan, twice, 16, [0.1, 0.1])["a"] != one


def test_an_agent_that_could_still_kill_is_not_decided():
    goodput = {"a": DEMAND + 0.1, "b": DEMAND}
    assert decisions(Plan(("a",), (8, 9), "b", named=True), goodput, 8, [0.1])["a"].decided
    assert not decisions(Plan(("a",), (8, 9), "b", named=True), goodput, 8, [0.4])["a"].decided


def test_training_seeds_are_averaged_and_scenarios_that_one_does_not_play_are_left_out():
    nothing = np.full((1, 1, 8), np.nan)
    a = np.concatenate([DEMAND[..., :8] + [[0.1], [0.3]], np.repeat(nothing, 2, axis=1)])
    b = np.concatenate([DEMAND[..., :8]] * 2)
    found = decisions(Plan(("a",), (8, 9), "b", named=True), {"a": a, "b": b}, 8, [0.0, 9.0])
    assert found["a"].mean == pytest.approx(0.2)
    assert found["a"].decided  # what a kill costs elsewhere does not count


def test_power_is_a_little_less_than_that_of_all_seeds_at_once():
    """200 studies; binomial error, 99.9 %: 0.1."""
    one, seeds = power(Plan(("a",), (64,), "b", named=True), 6)
    assert 0.65 < one < 0.85
    assert seeds == 64
    four, seeds = power(Plan(("a",), (8, 16, 32, 64), "b", named=True), 6)
    assert 0.5 < four < one
    assert 44 < seeds < 60


def test_what_is_printed_as_power_is_reached(few):
    """300 studies of normal differences; binomial error of both, 99.9 %: 0.15."""
    rng, plan = np.random.default_rng(3), Plan(("a",), (8, 16, 32), "b", named=True)
    effect = 2.8016 / np.sqrt(2 * 32)  # 1.960 + 0.8416: 80 % with 64 pairs of spread 1 at once
    found = [
        decisions(plan, {"a": effect + rng.normal(size=(2, 1, 32)), "b": np.zeros((2, 1, 32))}, 32, [0.0, 0.0])["a"]
        for _ in range(300)
    ]
    expected, seeds = power(plan, 2)
    assert np.mean([one.lo > 0.0 for one in found]) == pytest.approx(expected, abs=0.15)
    assert np.mean([one.seeds for one in found]) == pytest.approx(seeds, rel=0.12)


def asked(seeds, scenarios=("one",), train_seeds=1):
    return Protocol(Suite("s", "", scenarios, ("a",), eval_seeds=seeds, train_seeds=train_seeds), (), ())


def test_a_plan_is_kept_and_another_is_refused(tmp_path):
    """Other agents, seeds or scenarios would be other looks, at which a decision need not stand."""
    content = {"agents": ["a"], "looks": [8, 16], "to": "b", "named": True, "level": 0.05, "decisions": {}}
    (tmp_path / stopping.FILE).write_text(json.dumps(content | {"scenarios": ["one"], "train_seeds": 1}))
    plan = Plan(("a",), (8, 16), "b", named=True, scenarios=("one",), train_seeds=1)
    assert planned(tmp_path, ["a", "b"], "b", asked(4), 16) == plan
    for agents, to, most, of in (
        (["a"], "b", 32, asked(4)),
        (["a", "c"], "b", 16, asked(4)),
        (["a"], None, 16, asked(4)),
        (["a"], "b", 16, asked(4, scenarios=("other",))),
        (["a"], "b", 16, asked(4, train_seeds=2)),
    ):
        with pytest.raises(
            InputError, match=r"planned with max_seeds=16, agents a and to=b, on one with 1 training seed"
        ):
            planned(tmp_path, agents, to, of, most)
    (tmp_path / stopping.FILE).write_text("{}")
    with pytest.raises(InputError, match=r"stopping.json: lacks a key"):
        planned(tmp_path, ["a"], "b", asked(4), 16)


def test_a_plan_needs_more_seeds_than_the_first_look_and_somebody_to_compare(tmp_path):
    with pytest.raises(InputError, match="max_seeds=8: must be more than the 8 evaluation seeds"):
        planned(tmp_path, ["a"], None, asked(8), 8)
    with pytest.raises(InputError, match="nobody to compare with a"):
        planned(tmp_path, ["a"], "a", asked(8), 16)
