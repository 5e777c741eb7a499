"""Tuning: what is searched, what a trial plays and costs, interruption without a trace, the choice on validation seeds.

Most tests replace the rollout: goodput is then a known function of the policy's parameters, and a trial takes no time.
"""

import json
import shutil
import sqlite3
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import yaml
from matplotlib.figure import Figure

from hvgym.agents.learned import ppo, vec_env
from hvgym.agents.learned.training import Trained, Validation
from hvgym.agents.policy import make_policy, policy_class
from hvgym.bench import progress, score_ends, suites, trial, tuned, tuning
from hvgym.bench.progress import file_of, read
from hvgym.bench.protocol import Job, Protocol
from hvgym.bench.space import ends, space_of, with_values
from hvgym.bench.study import run_study
from hvgym.bench.trial import Ground, cost, grounds
from hvgym.bench.tuned import Outcome, Validated, csv_text, validate, yaml_text
from hvgym.bench.tuning import Budget, MedianStop, Trial, Tuning, check, opened, run_trials
from hvgym.envs import lanes, simulator
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import group_files, load, load_group

SHORT = load("no-guest-swap-short").to_dict()
CLUSTER = load("never-converge").to_dict()
REFERENCES = tuple(load_group("agent", name) for name in ("stock", "reference"))
PROXMOX = load_group("agent", "proxmox") | {
    "tune": {"target_share": [0.5, 0.98], "max_change_mib": {"low": 10, "high": 1000, "log": True}}
}
PPO = load_group("agent", "ppo") | {
    "train": {"total_steps": 1000, "envs": 8, "n_steps": 16, "batch_size": 64, "n_epochs": 1, "learning_rate": 0.001,
              "gamma": 0.95, "width": 8, "validations": 3},
    "tune": {"train": {"gamma": [0.9, 0.99], "learning_rate": {"low": 0.0001, "high": 0.01, "log": True}}},
}  # fmt: skip
SIX_STEPS = {"episode_s": 30}
"""With the scenario's control interval of 5 s."""


def tuning_of(agent=PROXMOX, scenarios=(SHORT,), seeds=6, seeds_per_report=2, seed=0):
    return Tuning(agent, REFERENCES, tuple(scenarios), seeds, seeds_per_report, seed)


def hill(policy):
    """The best target is 0.9, and slow ballooning costs a little."""
    return 0.9 - (policy.target_share - 0.9) ** 2 - 0.01 / policy.max_change_mib


@pytest.fixture
def arithmetic(monkeypatch):
    """Rollouts by formula; each call is noted as (split, policy, seeds)."""
    calls = []

    def rollout(scenario, policy, seeds):
        calls.append((scenario.workload.split, policy, list(seeds)))
        name = type(policy).__name__
        value = {"Static": 0.8, "Reference": 0.9}.get(name) or hill(policy)
        return SimpleNamespace(goodput=value + 0.001 * (np.array(seeds) % 4))

    played_by(monkeypatch, rollout)
    return calls


def played_by(monkeypatch, rollout):
    """Trials and the ends of the score."""
    for module in (trial, score_ends):
        monkeypatch.setattr(module, "rollout", rollout)


def grounds_in(folder, scenarios, split, seeds, references=REFERENCES):
    return grounds(scenarios, references, split, seeds, folder / "ends", folder / "t")


def run(database, trials=16, on_trial=lambda trial: None, steps=None, **changes):
    what = tuning_of(**changes)
    places = grounds_in(database.parent, what.scenarios, "train", what.seeds)
    return run_trials(what, Budget(trials, steps), places, database, on_trial)


# ---- the space


def agent_with(**keys):
    return {"name": "a", "_target_": "b.C", "share": 0.5, "count": 10, "kind": "x", "train": {"gamma": 0.95}} | keys


def test_a_space_says_how_each_parameter_is_drawn():
    space = space_of(
        agent_with(
            tune={
                "share": [0, 1],
                "count": {"low": 1, "high": 100, "log": True},
                "kind": {"choices": ["x", "y"]},
                "train": {"gamma": {"low": 0.9, "high": 0.99, "log": True}},
            }
        )
    )
    assert [(p.key, p.original) for p in space] == [("share", 0.5), ("count", 10), ("kind", "x"), ("train.gamma", 0.95)]
    assert [p.distribution for p in space] == [
        optuna.distributions.FloatDistribution(0.0, 1.0),
        optuna.distributions.IntDistribution(1, 100, log=True),
        optuna.distributions.CategoricalDistribution(["x", "y"]),
        optuna.distributions.FloatDistribution(0.9, 0.99, log=True),
    ]


@pytest.mark.parametrize("given", [[1, 20.5], [1.5, 20]])
def test_a_range_with_one_fraction_is_drawn_in_fractions(given):
    (parameter,) = space_of(agent_with(tune={"count": given}))
    assert isinstance(parameter.distribution, optuna.distributions.FloatDistribution)


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        (None, "agent=a: has no search space; give its YAML a key tune"),
        ({}, "agent=a: has no search space"),
        ([1], r"agent.tune=\[1\]: expected parameters with their ranges"),
        (
            {"shar": [0, 1]},
            r"agent.tune.shar: no such parameter .did you mean 'share'.*known: share, count, kind, train",
        ),
        ({"name": ["a", "b"]}, "agent.tune.name: no such parameter"),
        ({"train": {"gama": [0, 1]}}, "agent.tune.train.gama: no such parameter .did you mean 'gamma'"),
        ({"train": [0, 1]}, r"agent.tune.train=\[0, 1\]: expected parameters"),
        ({"share": [1, 0]}, "agent.tune.share: low=1 must be below high=0"),
        ({"share": [0.5, 0.5]}, "agent.tune.share: low=0.5 must be below high=0.5"),
        ({"share": [0.1, 0.2, 0.3]}, r"agent.tune.share=\[0.1, 0.2, 0.3\]: expected \[LOW, HIGH\]"),
        ({"share": 0.7}, "agent.tune.share: expected a group of keys, got 0.7"),
        ({"share": {"low": 0.1}}, "agent.tune.share.high: missing"),
        ({"share": {"low": 0.1, "hihg": 1}}, "agent.tune.share.hihg: unknown key .did you mean 'high'"),
        ({"share": ["low", 1]}, "agent.tune.share.low='low': expected a number"),
        ({"share": {"low": 0, "high": 1, "log": True}}, "agent.tune.share.low=0: must be above 0 where log is true"),
        ({"share": [0.6, 1]}, r"agent.tune.share: the agent's own value 0.5 is outside \[0.6, 1\]"),
        ({"share": [0.1, 0.4]}, r"agent.tune.share: the agent's own value 0.5 is outside \[0.1, 0.4\]"),
        ({"kind": [0, 1]}, "agent.tune.kind: the agent's own value 'x' is no number; use choices"),
        ({"kind": {"choices": ["x"]}}, "expected two or more, none twice"),
        ({"kind": {"choices": ["x", "y", "x"]}}, "expected two or more, none twice"),
        ({"kind": {"choices": ["y", "z"]}}, "the agent's own value 'x' is not among them"),
        ({"kind": {"choices": ["x", ["y"]]}}, "expected choices alone, a list of"),
        ({"kind": {"choices": "xy"}}, "expected choices alone, a list of"),
        ({"kind": {"choices": ["x", "y"], "log": True}}, "expected choices alone"),
    ],
)
def test_a_space_that_is_wrong_is_named(tune, message):
    with pytest.raises(InputError, match=message):
        space_of(agent_with(tune=tune))


def test_true_is_no_number():
    with pytest.raises(InputError, match="own value True is no number"):
        space_of(agent_with(flag=True, tune={"flag": [0, 2]}))


def test_drawn_numbers_are_rounded_to_four_digits_within_their_range():
    share, count = space_of(agent_with(share=0.123456, tune={"share": [0.11118, 0.98764], "count": [1, 99999]}))
    assert share.played(0.456789) == 0.4568
    assert share.played(0.0111111 * 20) == 0.2222
    assert share.played(0.11118) == 0.1112
    assert share.played(0.98764) == 0.9876
    low, _ = space_of(agent_with(tune={"share": [0.12341, 0.98766], "count": [1, 99999]}))
    assert low.played(0.123411) == 0.12341  # 0.1234 is below the range
    assert low.played(0.987659) == 0.98766  # 0.9877 is above it
    assert share.played(0.123456) == 0.123456  # the agent's own
    assert count.played(54321) == 54321


def test_values_take_the_place_of_the_agents_own_and_leave_it_alone():
    agent = agent_with(tune={"share": [0, 1]}, train={"gamma": 0.95, "envs": 8})
    before = json.dumps(agent)
    new = with_values(agent, {"share": 0.75, "train.gamma": 0.9})
    assert new == agent_with(share=0.75, train={"gamma": 0.9, "envs": 8})
    assert json.dumps(agent) == before


def test_the_ends_of_a_space_are_all_low_all_high_and_each_choice():
    space = space_of(agent_with(tune={"share": [0.0, 1.0], "kind": {"choices": ["x", "y"]}, "count": [1, 20]}))
    assert ends(space) == [{"share": 0.0, "count": 1}, {"share": 1.0, "count": 20}, {"kind": "x"}, {"kind": "y"}]


@pytest.mark.parametrize("name", [name for name in group_files("agent") if load_group("agent", name).get("tune")])
def test_every_space_of_the_package_can_be_played_to_its_ends(name):
    agent = load_group("agent", name)
    if policy_class(agent).of_cluster:
        ends = (REFERENCES[0], load_group("agent", "cluster_reference"))
        check(Tuning(agent, ends, (CLUSTER,), seeds=1, seeds_per_report=2, seed=0))
    else:
        check(tuning_of(agent, seeds=1))


def test_the_agents_that_came_first_have_a_space():
    for name in ("proxmox", "proportional", "ppo"):
        assert space_of(load_group("agent", name)), name


# ---- what a trial plays, scores and costs


def test_a_score_is_measured_between_stock_and_reference_on_the_same_seeds(monkeypatch, tmp_path):
    found = {"Static": [0.80, 0.70], "Reference": [0.90, 0.90], "Proxmox": [0.86, 0.85]}

    def rollout(scenario, policy, seeds):
        return SimpleNamespace(goodput=np.array([found[type(policy).__name__][seed % 10] for seed in seeds]))

    played_by(monkeypatch, rollout)
    (place,) = grounds_in(tmp_path, [SHORT], "train", 2)
    assert place.gap == pytest.approx(0.15)
    assert place.scores(make_policy(PROXMOX)) == pytest.approx([0.06 / 0.15, 1.0])
    assert place.scores(make_policy(PROXMOX), slice(1, 2)) == pytest.approx([1.0])


def test_the_ends_of_the_score_are_played_once_for_all_agents_and_tell_splits_and_settings_apart(arithmetic, tmp_path):
    first, again = (grounds_in(tmp_path, [SHORT], "train", 4) for _ in range(2))
    assert [type(policy).__name__ for _, policy, _ in arithmetic] == ["Static", "Reference"]
    assert again[0].stock.tolist() == first[0].stock.tolist()
    assert again[0].gap == first[0].gap
    grounds_in(tmp_path, [SHORT], "validation", 4)
    grounds_in(tmp_path, [SHORT | {"episode_s": 900}], "train", 4)
    assert len(arithmetic) == 6
    grounds_in(tmp_path, [SHORT], "train", 4, [REFERENCES[0], REFERENCES[1] | {"episodes": 7}])
    assert len(arithmetic) == 7  # stock is known
    arithmetic.clear()
    (longer,) = grounds_in(tmp_path, [SHORT], "train", 10)
    assert [len(seeds) for *_, seeds in arithmetic] == [4, 2] * 2  # four seeds were known
    assert longer.stock.tolist() == [0.8 + 0.001 * (seed % 4) for seed in longer.seeds]


def test_ends_that_were_interrupted_go_on_and_say_how_far_they_are(arithmetic, tmp_path, monkeypatch):
    play = score_ends.rollout

    def stopped(scenario, policy, seeds):
        if type(policy).__name__ == "Reference" and len(arithmetic) == 4:
            raise KeyboardInterrupt
        return play(scenario, policy, seeds)

    monkeypatch.setattr(score_ends, "rollout", stopped)
    monkeypatch.setattr(progress, "SPACING_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        grounds_in(tmp_path, [SHORT], "train", 9)  # stock has been played, and four seeds of the reference
    lines = read(file_of(tmp_path / "t", f"reference-{SHORT['name']}"))
    steps = SHORT["episode_s"] // 5
    assert (lines[-2]["steps"], lines[-2]["total"], lines[-1]["error"]) == (4 * steps, 9 * steps, "interrupted")
    arithmetic.clear()
    monkeypatch.setattr(score_ends, "rollout", play)
    (place,) = grounds_in(tmp_path, [SHORT], "train", 9)
    assert [(type(policy).__name__, len(seeds)) for _, policy, seeds in arithmetic] == [
        ("Reference", 4),
        ("Reference", 1),
    ]
    assert place.gap == pytest.approx(0.1)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"goodput": {"x": 1}}', '{"goodput": {"999000000": NaN}}', "null"])
def test_an_end_whose_file_is_damaged_or_cannot_be_written_is_played_anew(arithmetic, tmp_path, damage):
    (first,) = grounds_in(tmp_path, [SHORT], "train", 4)
    for file in (tmp_path / "ends").iterdir():
        file.write_text(damage)
    (again,) = grounds_in(tmp_path, [SHORT], "train", 4)
    assert len(arithmetic) == 4
    assert again.stock.tolist() == first.stock.tolist()
    shutil.rmtree(tmp_path / "ends")
    (tmp_path / "ends").write_text("no folder")
    assert grounds_in(tmp_path, [SHORT], "train", 4)[0].gap == first.gap


def test_ends_of_another_code_are_played_anew(arithmetic, tmp_path, monkeypatch):
    grounds_in(tmp_path, [SHORT], "train", 4)
    monkeypatch.setattr(score_ends, "sources", lambda scenarios, agents: {"code": "another"})
    grounds_in(tmp_path, [SHORT], "train", 4)
    assert len(arithmetic) == 4


def test_a_scenario_that_tells_nothing_apart_is_left_out(monkeypatch, tmp_path):
    def rollout(scenario, policy, seeds):
        gain = 0.1 if scenario.name == SHORT["name"] else 1e-4
        return SimpleNamespace(goodput=np.full(len(seeds), 0.5 + gain * (type(policy).__name__ == "Reference")))

    played_by(monkeypatch, rollout)
    flat = SHORT | {"name": "flat"}
    assert [place.scenario.name for place in grounds_in(tmp_path, [flat, SHORT], "train", 2)] == [SHORT["name"]]
    with pytest.raises(InputError, match=r"no reference gains 0\.01 of goodput over stock in any scenario"):
        grounds_in(tmp_path, [flat], "train", 2)


def place_of(name="one", seeds=4, **changes):
    scenario = load("no-guest-swap-short")
    scenario = replace(scenario, name=name, **(SIX_STEPS | changes))
    return Ground(scenario, range(999_000_000, 999_000_000 + seeds), np.zeros(seeds), 1.0)


def test_a_policy_reports_the_mean_so_far_after_a_few_seeds_of_every_scenario(monkeypatch):
    """Goodput is 0.1 x the seed's number on the first scenario, 1 more on the second; 5 seeds, 2 at a time."""
    monkeypatch.setattr(
        trial,
        "rollout",
        lambda scenario, policy, seeds: SimpleNamespace(
            goodput=np.array([0.1 * (seed % 10) + (scenario.name == "two") for seed in seeds])
        ),
    )
    reports = []
    score = trial.play(PROXMOX, [place_of(seeds=5), place_of("two", 5)], 2, lambda *words: reports.append(words))
    assert [r[0] for r in reports] == pytest.approx([0.05 + 0.5, 0.15 + 0.5, 0.2 + 0.5])
    assert [r[1:] for r in reports] == [(2 * 2 * 6, False), (4 * 2 * 6, False), (5 * 2 * 6, True)]
    assert score == reports[-1][0]


def test_every_part_of_a_trial_is_played_by_a_fresh_policy(arithmetic):
    reports = []
    trial.play(PROXMOX, [place_of(), place_of("two")], 2, lambda *words: reports.append(words))
    assert len({id(policy) for _, policy, _ in arithmetic}) == 4
    assert [last for *_, last in reports] == [False, True]


def left(folder, score):
    """What a training leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "best.zip").write_text("a network")
    return Trained(folder / "best.zip", (Validation(16, score, score),))


def learner(monkeypatch, curves):
    """A training that validates at 16, 32, ... steps with the given scores, one curve a scenario; notes its arguments."""
    calls = []

    def learn(trainer, task):
        (scenario,) = task.scenarios
        calls.append((scenario.name, task.seed, task.first_seed, task.folder))
        best = -np.inf
        for i, score in enumerate(curves[scenario.name], 1):
            best = max(best, score)
            task.report(Validation(16 * i, score, best), 16 * len(curves[scenario.name]))
        return left(task.folder, best)

    monkeypatch.setattr(ppo.PPOTrainer, "train", learn)
    return calls


def test_a_learner_reports_its_best_networks_so_far_over_the_scenarios_it_has_trained_on(monkeypatch, tmp_path):
    calls = learner(monkeypatch, {"one": [0.2, 0.1], "two": [0.4, 0.8]})
    reports = []
    score = trial.learn(PPO, [place_of(), place_of("two")], 3, tmp_path, lambda *words: reports.append(words))
    assert [r[0] for r in reports] == pytest.approx([0.2, 0.2, 0.3, 0.5])
    played = 4 * 6  # each validation
    assert [r[1] for r in reports] == [16 + played, 32 + 2 * played, 48 + 3 * played, 64 + 4 * played]
    assert [r[2] for r in reports] == [False, False, False, True]
    assert score == pytest.approx(0.5)
    assert calls == [("one", 3, 3_000_000, tmp_path / "one"), ("two", 3, 3_000_000, tmp_path / "two")]


def test_a_learner_is_validated_by_its_score_on_the_seeds_of_trials(monkeypatch, tmp_path):
    seen = []

    def learn(trainer, task):
        seen.append(task.validate(make_policy(PROXMOX)))
        task.report(Validation(16, 0.0, 0.0), 16)
        return left(task.folder, 0.0)

    monkeypatch.setattr(ppo.PPOTrainer, "train", learn)
    monkeypatch.setattr(
        trial, "rollout", lambda scenario, policy, seeds: SimpleNamespace(goodput=np.array(seeds) - 999_000_000.0)
    )
    trial.learn(PPO, [replace(place_of(), stock=np.ones(4), gap=2.0)], 0, tmp_path, lambda *words: None)
    assert seen == [(1.5 - 1.0) / 2.0]


def test_a_trials_cost_is_all_it_plays_trainings_included():
    places = [place_of(seeds=4), place_of("two", seeds=3)]
    assert cost(PROXMOX, places) == (4 + 3) * 6
    assert cost(PPO, places) == 2 * 1024 + 3 * (4 + 3) * 6  # 1000 steps are eight rollouts of 8 x 16


def test_what_a_trial_counts_is_what_the_simulator_played(monkeypatch, tmp_path):
    """Episodes that ended and steps of training, counted where they happen."""
    counted = {"steps": 0}
    advance, step = simulator.Simulator.advance, vec_env.HostVecEnv.step_wait

    def advanced(self, seconds):
        counted["steps"] += self.lanes
        return advance(self, seconds)

    def stepped(self):
        counted["steps"] += self.num_envs
        return step(self)

    scenario = replace(load("no-guest-swap-short"), **SIX_STEPS)
    place = Ground(scenario, range(999_000_000, 999_000_002), np.zeros(2), 1.0)
    monkeypatch.setattr(simulator.Simulator, "advance", advanced)
    monkeypatch.setattr(vec_env.HostVecEnv, "step_wait", stepped)
    reports = []
    trial.learn(PPO, [place], 0, tmp_path, lambda *words: reports.append(words))
    assert reports[-1][1] == counted["steps"] == cost(PPO, [place]) == 1024 + 3 * 2 * 6
    counted["steps"] = 0
    trial.play(PROXMOX, [place], 1, lambda *words: reports.append(words))
    assert reports[-1][1] == counted["steps"] == cost(PROXMOX, [place]) == 2 * 6


# ---- seeds


def test_a_tuning_plays_training_and_validation_seeds_of_their_splits_and_no_others(arithmetic, tmp_path):
    traced = SHORT | {"workload": {"kind": "bitbrains", "path": "somewhere"}}
    what = tuning_of(scenarios=[traced])
    places = grounds_in(tmp_path, what.scenarios, "train", 6)
    trials = run_trials(what, Budget(8, None), places, tmp_path / "t.db")
    assert {split for split, _, _ in arithmetic} == {"train"}
    assert {seed for *_, seeds in arithmetic for seed in seeds} == set(range(999_000_000, 999_000_006))
    arithmetic.clear()
    validate(what, trials, 3, grounds_in(tmp_path, what.scenarios, "validation", 5), tmp_path / "t")
    assert {split for split, _, _ in arithmetic} == {"validation"}
    assert {seed for *_, seeds in arithmetic for seed in seeds} == set(range(1_000_000_000, 1_000_000_005))


@pytest.mark.parametrize("agent", [PROXMOX, PPO])
def test_no_test_seed_reaches_a_simulator_from_check_to_choice(agent, tmp_path, monkeypatch):
    started, trained = [], []
    reset, reset_lane = simulator.Simulator.reset, lanes.HostLanes.reset

    def reset_noted(self, seeds):
        started.extend(seeds)
        return reset(self, seeds)

    def lane_noted(self, lane, seed):
        trained.extend([] if seed is None else [seed])
        return reset_lane(self, lane, seed)

    monkeypatch.setattr(simulator.Simulator, "reset", reset_noted)
    monkeypatch.setattr(lanes.HostLanes, "reset", lane_noted)
    what = tuning_of(agent, seeds=2, seed=5)
    check(what)
    places = grounds_in(tmp_path, what.scenarios, "train", 2)
    trials = run_trials(what, Budget(2, None), places, tmp_path / "t.db")
    validate(what, trials, 1, grounds_in(tmp_path, what.scenarios, "validation", 2), tmp_path / "t")
    assert set(started) == {0, 999_000_000, 999_000_001, 1_000_000_000, 1_000_000_001}
    assert trained == ([*range(5_000_000, 5_000_008)] * 2 if agent is PPO else [])


def test_trainings_may_not_reach_the_seeds_of_trials_or_of_validation():
    assert suites.tuning_seeds(10**6)[-1] + 1 == suites.FIRST_SEED["validation"]
    for seed in (998, 999, 2000):
        check(tuning_of(seed=seed))
        first = suites.training_seed(seed)
        drawn, kept = range(first, first + suites.SEEDS_PER_TRAINING), suites.tuning_seeds(10**6)
        assert drawn[-1] < kept[0] or kept[-1] < drawn[0]
    for seed in (-1, 2**32):
        with pytest.raises(InputError, match=f"seed={seed}: must be at least 0 and at most 4294967295"):
            check(tuning_of(seed=seed))


# ---- trials


def test_the_first_trial_is_the_agent_as_it_is(arithmetic, tmp_path):
    first = run(tmp_path / "t.db")[0]
    assert first.values == {"target_share": 0.80, "max_change_mib": 100}
    assert not first.stopped
    assert first.score == pytest.approx((0.9 - 0.01 - 0.0001 - 0.8) / 0.1)


def test_what_is_played_is_what_is_recorded(arithmetic, tmp_path):
    trials = run(tmp_path / "t.db")
    played = {(p.target_share, p.max_change_mib) for _, p, _ in arithmetic if type(p).__name__ == "Proxmox"}
    assert played == {(t.values["target_share"], t.values["max_change_mib"]) for t in trials}
    for t in trials[1:]:
        assert 0.5 <= t.values["target_share"] <= 0.98
        assert isinstance(t.values["max_change_mib"], int)
        assert 10 <= t.values["max_change_mib"] <= 1000
        policy = SimpleNamespace(**t.values)
        assert t.score == pytest.approx((hill(policy) - 0.8) / 0.1)


def test_a_search_finds_the_hill(arithmetic, tmp_path):
    best = max(run(tmp_path / "t.db", trials=40), key=lambda t: t.score)
    assert best.values["target_share"] == pytest.approx(0.9, abs=0.02)


def test_the_same_seed_draws_the_same_and_another_another(arithmetic, tmp_path):
    first, again, other = (run(tmp_path / f"{i}.db", seed=seed) for i, seed in enumerate((0, 0, 1)))
    assert first == again
    assert first[0] == other[0]
    assert not {str(t.values) for t in first[1:]} & {str(t.values) for t in other[1:]}


class KilledError(BaseException):
    pass


def killed_until_done(database, monkeypatch, calls_each_time):
    """Runs that die at their so-manieth rollout, one after the other; the trials of the first that lives, and the deaths."""
    rollout, deaths = trial.rollout, 0
    while True:
        left = iter(range(1, calls_each_time + 1))
        played_by(monkeypatch, lambda *words, left=left: rollout(*words) if next(left, 0) else die())
        try:
            return run(database, trials=24), deaths
        except KilledError:
            deaths += 1
        finally:
            played_by(monkeypatch, rollout)


def die():
    raise KilledError


@pytest.mark.parametrize(("calls_each_time", "deaths"), [(3, 15), (11, 5)])
def test_a_tuning_goes_on_where_it_was_killed_to_the_same_trials(
    arithmetic, tmp_path, monkeypatch, calls_each_time, deaths
):
    """The ends take four rollouts, and a trial up to three: so both are cut at every place."""
    whole = run(tmp_path / "whole.db", trials=24)
    cut, died = killed_until_done(tmp_path / "cut" / "t.db", monkeypatch, calls_each_time)
    assert died >= deaths
    assert cut == whole
    assert any(t.stopped for t in whole)
    assert any(not t.stopped for t in whole[tuning.RANDOM_TRIALS + 1 :])


def stop_after(new_trials):
    """Raises when it is told of so many trials."""
    seen = []

    def on_trial(trial):
        seen.append(trial)
        if len(seen) == new_trials:
            raise KilledError

    return on_trial


def test_no_finished_trial_is_played_again(arithmetic, tmp_path):
    run(tmp_path / "t.db", trials=8)
    arithmetic.clear()
    told = []
    assert run(tmp_path / "t.db", trials=8, on_trial=told.append) == told
    assert not arithmetic  # nor the ends of the score


def test_more_trials_go_on_from_the_last_and_fewer_are_the_first(arithmetic, tmp_path):
    whole = run(tmp_path / "whole.db", trials=20)
    assert run(tmp_path / "t.db", trials=12) == whole[:12]
    assert run(tmp_path / "t.db", trials=20) == whole
    assert run(tmp_path / "t.db", trials=7) == whole[:7]


def test_steps_are_never_exceeded_and_used_as_far_as_a_trial_fits(arithmetic, tmp_path):
    """A whole trial is 6 seeds x 120 steps = 720."""
    for steps in (1440, 5000, 12345):
        trials = run(tmp_path / f"{steps}.db", trials=None, steps=steps)
        played = sum(t.steps for t in trials)
        assert steps - 720 < played <= steps
    assert len(trials) > 12345 // 720  # what a stopped trial leaves is used
    assert len(run(tmp_path / "both.db", trials=3, steps=12345)) == 3
    with pytest.raises(InputError, match=r"steps=1439: a trial takes up to 720 .* give at least 1440"):
        run(tmp_path / "less.db", trials=None, steps=1439)
    assert not (tmp_path / "less.db").exists()


def test_a_stopped_trial_played_less_and_none_is_stopped_at_its_end(arithmetic, tmp_path):
    trials = run(tmp_path / "t.db", trials=30)
    stopped = [t for t in trials if t.stopped]
    assert stopped
    assert all(t.steps == 240 * len(t.running) and len(t.running) < 3 for t in stopped)
    assert all(t.steps == 720 and len(t.running) == 3 for t in trials if not t.stopped)
    assert [t.number for t in stopped if t.number < tuning.STOP_AFTER] == []
    for t in stopped:
        earlier = [o.running[len(t.running) - 1] for o in trials[: t.number] if len(o.running) >= len(t.running)]
        assert t.score < np.median(earlier)


def frozen(number, scores, state=optuna.trial.TrialState.COMPLETE):
    made = optuna.trial.create_trial(value=scores[-1], intermediate_values=dict(enumerate(scores)))
    made.number, made.state = number, state
    return made


@pytest.mark.parametrize(
    ("scores", "stops"),
    [
        ([0.29], True),  # the median of 0.1 ... 0.5 is 0.3
        ([0.30], False),
        ([0.9, 0.29], True),  # the last point counts, not the best one
        ([0.1, 0.31], False),
        ([0.1, 0.1, 0.1], False),  # only two have come so far
    ],
)
def test_a_trial_below_the_median_at_its_last_point_is_stopped(scores, stops):
    ends_early = optuna.trial.TrialState.PRUNED
    earlier = [frozen(0, [0.1, 0.5, 0.9]), frozen(1, [0.2, 0.4], ends_early), frozen(2, [0.3, 0.3, 0.9]),
               frozen(3, [0.4, 0.2], ends_early), frozen(4, [0.5, 0.1], ends_early)]  # fmt: skip
    now = frozen(5, scores, optuna.trial.TrialState.RUNNING)
    unfinished = frozen(6, [9.0, 9.0, 9.0], optuna.trial.TrialState.RUNNING)
    book = SimpleNamespace(get_trials=lambda deepcopy: [*earlier, now, unfinished])
    assert MedianStop().prune(book, now) is stops
    book = SimpleNamespace(get_trials=lambda deepcopy: [*earlier[:4], now])
    assert MedianStop().prune(book, now) is False  # four are too few


def test_another_tuning_is_refused_and_the_record_left_alone(arithmetic, tmp_path):
    run(tmp_path / "t.db", trials=4)
    before = (tmp_path / "t.db").read_bytes()
    narrower = PROXMOX | {"tune": {"target_share": [0.7, 0.9]}}
    changes = [{"seed": 1}, {"seeds": 4}, {"seeds_per_report": 3}, {"agent": narrower}]
    changes += [{"agent": PROXMOX | {"max_change_mib": 200}}, {"scenarios": [SHORT | {"episode_s": 300}]}]
    for change in changes:
        with pytest.raises(InputError, match=r"t.db: holds a tuning of another agent.*choose study=NAME"):
            run(tmp_path / "t.db", trials=4, **change)
    assert (tmp_path / "t.db").read_bytes() == before
    hashes = {tuning_of(**change).hash for change in [*changes, {}]}
    hashes |= {replace(tuning_of(), sources={"code": "x"}).hash, replace(tuning_of(), references=REFERENCES[::-1]).hash}
    assert len(hashes) == 9
    assert tuning_of(PROXMOX | {"description": "in other words"}).hash == tuning_of().hash


def test_a_tuning_on_files_that_were_edited_since_says_so(tmp_path):
    then, now = (replace(tuning_of(), sources={"code": "x", "traces /a": digest}) for digest in ("1", "2"))
    with opened(then, tmp_path / "t.db"):
        pass
    said = r"t.db: the files in /a were edited since \(their digest was 1, now it is 2\).*; choose study=NAME"
    with pytest.raises(InputError, match=said), opened(now, tmp_path / "t.db"):
        pass


def test_a_record_whose_creation_was_cut_short_is_made_anew(arithmetic, tmp_path):
    (tmp_path / ".t.db.new").write_bytes(b"half a database")
    (tmp_path / ".t.db.new-journal").write_bytes(b"half a journal")
    assert len(run(tmp_path / "t.db", trials=3)) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ends", "t", "t.db"]


def test_the_record_holds_finished_trials_only(arithmetic, tmp_path):
    with pytest.raises(KilledError):
        run(tmp_path / "t.db", on_trial=stop_after(5))
    with sqlite3.connect(tmp_path / "t.db") as rows:
        assert rows.execute("select number, state from trials").fetchall() == [(i, "COMPLETE") for i in range(5)]


def test_a_trial_whose_agent_fails_is_named_with_its_parameters_and_not_recorded(arithmetic, tmp_path, monkeypatch):
    rollout = trial.rollout

    def failing(scenario, policy, seeds):
        if getattr(policy, "target_share", 0.8) != 0.8:
            raise RuntimeError("out of ideas")
        return rollout(scenario, policy, seeds)

    monkeypatch.setattr(trial, "rollout", failing)
    with pytest.raises(
        InputError, match=r"trial 1 .target_share=0\.\d+, max_change_mib=\d+.: RuntimeError: out of ideas"
    ):
        run(tmp_path / "t.db")
    monkeypatch.setattr(trial, "rollout", rollout)
    assert run(tmp_path / "t.db") == run(tmp_path / "whole.db")


def test_a_learners_trial_in_flight_is_trained_again_from_its_start(monkeypatch, tmp_path):
    """A checkpoint of the killed process is there; with it the reports before it would be missing."""
    places = [place_of(), place_of("two")]
    what = tuning_of(PPO)
    (tmp_path / "t" / "trial-0" / "one" / "checkpoint").mkdir(parents=True)
    seen = []

    def learn(trainer, task):
        seen.append((task.folder / "checkpoint").exists())
        (task.folder / "checkpoint").mkdir(parents=True)
        task.report(Validation(16, trainer.gamma, trainer.gamma), 16)
        return left(task.folder, trainer.gamma)

    monkeypatch.setattr(ppo.PPOTrainer, "train", learn)
    trials = run_trials(what, Budget(12, None), places, tmp_path / "t.db")
    assert not any(seen)
    kept = {path.name for path in (tmp_path / "t").glob("trial-*")}
    assert kept == {f"trial-{t.number}" for t in trials if not t.stopped}
    assert any(t.stopped for t in trials)
    assert not list((tmp_path / "t").rglob("checkpoint"))
    assert len(list((tmp_path / "t").rglob("best.zip"))) == 2 * len(kept)


def test_a_learners_network_plays_the_validation_seeds_of_its_own_scenario(arithmetic, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        trial, "make_policy", lambda agent, checkpoint: asked.append((agent["train"]["gamma"], checkpoint)) or agent
    )
    monkeypatch.setattr(trial, "rollout", lambda scenario, policy, seeds: SimpleNamespace(goodput=np.ones(len(seeds))))
    places = [place_of(), place_of("two")]
    trials = [Trial(0, {"train.gamma": 0.95}, (0.0,), False, 9), Trial(1, {"train.gamma": 0.9}, (1.0,), False, 9)]
    validate(tuning_of(PPO), trials, 1, places, tmp_path)
    assert asked == [
        (gamma, str(tmp_path / f"trial-{number}" / name / "best.zip"))
        for number, gamma in ((0, 0.95), (1, 0.9))
        for name in ("one", "two")
    ]


def test_a_trained_network_has_nothing_to_tune():
    with pytest.raises(InputError, match=r"agent.checkpoint: a trained network has nothing to tune"):
        check(tuning_of(PPO | {"checkpoint": "best.zip"}))


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        (PPO | {"tune": {"train": {"gamma": [0.9, 1.5]}}}, "agent.train.gamma=1.5: must be .*at most 1"),
        (PPO | {"tune": {"train": {"gamma": [0.0, 0.99]}}}, "agent.train.gamma=0.0: must be above 0"),
        (PROXMOX | {"target_shar": 1, "tune": {"target_shar": [0, 2]}}, "unknown key 'target_shar'"),
        (PROXMOX | {"tune": {"target_share": {"choices": [0.8, "x"]}}}, "agent.target_share='x': expected a number"),
    ],
)
def test_a_range_that_the_agent_does_not_take_is_found_before_the_first_trial(agent, message):
    with pytest.raises(InputError, match=message):
        check(tuning_of(agent))


# ---- the choice and what it leaves


def trials_of(*scores, stopped=()):
    return [
        Trial(
            i, {"target_share": 0.8 if i == 0 else 0.5 + 0.01 * i, "max_change_mib": 100}, (s / 2, s), i in stopped, 10
        )
        for i, s in enumerate(scores)
    ]


def outcome_of(scores, trials=None):
    trials = trials or trials_of(*(0.5 for _ in scores))
    validated = [Validated(t, {"one": s - 0.1, "two": s + 0.1}) for t, s in zip(trials, scores, strict=True)]
    return Outcome(PROXMOX, "quick", "hvgym tune suite=quick", 12, 8, trials, validated)


def test_the_best_that_were_played_whole_are_validated_beside_the_original(arithmetic, tmp_path):
    what = tuning_of()
    places = grounds_in(tmp_path, what.scenarios, "validation", 2)
    trials = trials_of(0.1, 0.3, 0.9, 0.7, 0.3, 0.8, 0.05, stopped={2})
    assert [v.trial.number for v in validate(what, trials, 3, places, tmp_path)] == [0, 5, 3, 1]
    assert [v.trial.number for v in validate(what, trials, 99, places, tmp_path)] == [0, 5, 3, 1, 4, 6]
    (first, *_) = validate(what, trials, 1, places, tmp_path)
    assert first.score == pytest.approx((hill(SimpleNamespace(**trials[0].values)) - 0.8) / 0.1)


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.5, 0.4, 0.6], 2), ([0.5, 0.4, 0.3], 0), ([0.5, 0.5, 0.4], 0), ([0.4, 0.5, 0.5], 1), ([0.5], 0)],
)
def test_the_original_stays_unless_another_one_beats_it_on_validation_seeds(scores, best):
    assert outcome_of(scores).best.trial.number == best


def test_a_validated_score_is_the_mean_over_scenarios():
    assert Validated(trials_of(0.0)[0], {"one": 0.2, "two": 0.6}).score == pytest.approx(0.4)


def test_the_tuned_yaml_plays_the_chosen_values_and_says_how_it_came_about():
    text = yaml_text(outcome_of([0.25, 0.4, 0.75], trials_of(0.1, 0.2, 0.3, stopped=())))
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert head == [
        "# Made by: hvgym tune suite=quick",
        "# 3 trials (0 stopped early), 30 environment steps, on 12 training seeds a scenario of quick.",
        "# Mean score on 8 validation seeds a scenario: 0.7500 with these values (trial 2), 0.2500 with the original ones.",
        "# Changed: target_share 0.8 -> 0.52",
    ]
    agent = yaml.safe_load(text)
    expected = {key: value for key, value in PROXMOX.items() if key != "tune"}
    expected |= {"name": "proxmox_tuned", "target_share": 0.52}
    expected["description"] = f"{PROXMOX['description']}; tuned on quick"
    assert agent == expected
    assert make_policy(agent).target_share == 0.52
    assert next(iter(agent)) == "name"


def test_where_nothing_beats_the_original_the_yaml_keeps_its_values_and_says_so():
    text = yaml_text(outcome_of([0.75, 0.4], trials_of(0.1, 0.2, stopped={1})))
    assert "# 2 trials (1 stopped early)" in text
    assert "0.7500 with the original values, which no trial beat: they are kept." in text
    assert "Changed" not in text
    assert yaml.safe_load(text)["target_share"] == 0.80


def test_small_numbers_survive_the_yaml():
    outcome = outcome_of([0.1, 0.2])
    values = {"target_share": 1e-05, "max_change_mib": 100}
    small = replace(outcome.validated[1], trial=replace(outcome.trials[1], values=values))
    outcome = replace(outcome, validated=[outcome.original, small])
    assert yaml.safe_load(yaml_text(outcome))["target_share"] == 1e-05


def test_the_table_of_trials_has_floats_in_full():
    trials = trials_of(0.1, 1 / 3, stopped={1})
    assert csv_text(trials) == (
        "trial,score,stopped,reports,steps,target_share,max_change_mib\n"
        "0,0.1,0,2,10,0.8,100\n1,0.3333333333333333,1,2,10,0.51,100\n"
    )


def test_the_picture_shows_every_trial_once_and_the_original():
    """The original has 0.5 and the best 0.7, so the edge is at 0.5 - 1.5 x 0.2 = 0.2."""
    trials = trials_of(0.5, 0.7, 0.21, 0.19, -7.0, 0.6, stopped={2, 4})
    axes = Figure().subplots()
    tuned._history(axes, trials)
    lines = {line.get_label(): line for line in axes.get_lines()}
    points = {name: sorted(map(tuple, lines[name].get_xydata().tolist())) for name in lines}
    assert points["played whole"] == [(0, 0.5), (1, 0.7), (5, 0.6)]
    assert points["stopped early"] == [(2, 0.21)]
    assert points["below the edge"] == [(3, pytest.approx(0.2)), (4, pytest.approx(0.2))]
    assert lines["best so far"].get_ydata().tolist() == [0.5, 0.7, 0.7, 0.7, 0.7, 0.7]
    assert set(lines["original"].get_ydata()) == {0.5}


def test_the_picture_shows_original_and_tuned_on_each_scenario():
    axes = Figure().subplots()
    tuned._validation(axes, outcome_of([0.25, 0.75]))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["mean", "two", "one"]
    marks = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "o"]
    assert marks == pytest.approx([0.25, 0.75, 0.35, 0.85, 0.15, 0.65])
    axes = Figure().subplots()
    tuned._validation(axes, outcome_of([0.75, 0.25]))
    assert len([line for line in axes.get_lines() if line.get_marker() == "o"]) == 3


def test_the_picture_is_a_png():
    assert tuned.picture(outcome_of([0.25, 0.75])).startswith(b"\x89PNG")


# ---- a space changes nothing that is played


def test_a_search_space_is_no_part_of_a_job_or_of_a_study(tmp_path):
    bare = {key: value for key, value in PROXMOX.items() if key != "tune"}
    jobs = [Job(agent, SHORT, 0, 2, 2) for agent in (bare, PROXMOX, bare | {"target_share": 0.5})]
    assert jobs[0].key == jobs[1].key != jobs[2].key
    assert type(make_policy(PROXMOX)).__name__ == "Proxmox"
    suite = suites.Suite("one", "", (SHORT["name"],), ("stock", "proxmox", "reference"), eval_seeds=2)
    protocol = Protocol(suite, (*REFERENCES, bare), (SHORT,))
    before = run_study(protocol, tmp_path, 1)
    again = run_study(replace(protocol, agents=(*REFERENCES, PROXMOX)), tmp_path, 1)
    assert [result.job.key for result in again] == [result.job.key for result in before]
    with pytest.raises(InputError, match="agent proxmox differs"):
        run_study(replace(protocol, agents=(*REFERENCES, bare | {"target_share": 0.5})), tmp_path, 1)
