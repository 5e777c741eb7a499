"""Constraints: the multiplier by hand, the bound that it holds, and evolution strategies' penalty."""

import itertools
import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.learned.es import EvolutionStrategy
from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.safety import Constraint, Lagrangian, constraint_of
from hvgym.agents.learned.training import Judged, Task, trainer_of
from hvgym.agents.learned.view import FEATURES
from hvgym.bench.training import task_of
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group

SCENARIO = load("no-guest-swap-short")
CONSTANT = FEATURES.index("constant")


def test_the_multiplier_rises_above_the_bound_and_falls_below():
    """Two hosts; a control interval of 10 s, two of them a rollout, an episode of 100 s."""
    lagrangian = Lagrangian(Constraint(slo_s=10.0, step=0.1, most=0.25), 100.0, 2)
    assert math.isnan(lagrangian.seconds)
    assert lagrangian.charge(np.array([5.0, 10.0]), 10.0).tolist() == [0.0, 0.0]
    assert lagrangian.multiplier == 0.0  # the rollout has not ended
    lagrangian.charge(np.array([0.0, 1.0]), 10.0)
    assert lagrangian.seconds == pytest.approx((0.75 + 0.05) / 2 * 100.0)
    assert lagrangian.multiplier == 0.1  # 40 s are three bounds too many, which count as one
    assert lagrangian.charge(np.array([5.0, 10.0]), 10.0) == pytest.approx([0.05, 0.1])
    lagrangian.charge(np.array([0.0, 0.0]), 10.0)
    assert lagrangian.multiplier == 0.2
    for _ in range(4):
        lagrangian.charge(np.array([10.0, 10.0]), 10.0)
    assert lagrangian.multiplier == 0.25  # its most
    lagrangian.charge(np.array([0.5, 0.5]), 10.0)
    lagrangian.charge(np.array([0.5, 0.5]), 10.0)
    assert lagrangian.multiplier == pytest.approx(0.25 - 0.1 * 0.5)  # 5 s, half a bound below
    for _ in range(20):
        lagrangian.charge(np.zeros(2), 10.0)
    assert lagrangian.multiplier == 0.0


def test_it_goes_on_in_the_same_bits_from_a_pickle():
    costs = np.random.default_rng(1).uniform(0, 5, (40, 3))
    whole, cut = (Lagrangian(Constraint(slo_s=7.0), 600.0, 3) for _ in range(2))
    ours = [whole.charge(cost, 5.0).tolist() for cost in costs]
    theirs = [cut.charge(cost, 5.0).tolist() for cost in costs[:20]]
    cut = pickle.loads(pickle.dumps(cut))
    assert theirs + [cut.charge(cost, 5.0).tolist() for cost in costs[20:]] == ours
    assert cut.multiplier == whole.multiplier > 0.0


def test_a_learner_that_weighs_costs_against_reward_is_led_to_the_bound():
    """A toy whose cost is 50 s less the more it is charged: the multiplier finds where it is 20 s."""
    lagrangian = Lagrangian(Constraint(slo_s=20.0, step=0.05), 100.0, 1)
    for _ in range(400):
        lagrangian.charge(np.array([max(50.0 - 60.0 * lagrangian.multiplier, 0.0) / 100.0 * 5.0]), 5.0)
    assert lagrangian.seconds == pytest.approx(20.0, abs=0.5)
    assert lagrangian.multiplier == pytest.approx(0.5, abs=0.01)


def test_the_excess_is_charged_and_nothing_below():
    constraint = Constraint(slo_s=60.0, penalty=10.0)
    assert constraint.excess(60.0, 600.0) == 0.0
    assert constraint.excess(90.0, 600.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (60, "agent.train.constraint=60: expected a group of keys"),
        ({}, "agent.train.constraint.slo_s: missing"),
        ({"slo_s": -1}, "agent.train.constraint.slo_s=-1: must be at least 0"),
        ({"slo": 1}, r"agent.train.constraint.slo: unknown key \(did you mean 'slo_s'\?\)"),
    ],
)
def test_what_is_no_constraint_is_refused_before_anything_is_played(given, said):
    agent = load_group("agent", "es")
    with pytest.raises(InputError, match=said):
        trainer_of(agent | {"train": agent["train"] | {"constraint": given}})
    assert constraint_of(None) is None


def rising():
    """Scores that rise with every validation, so that what is kept is what was learnt last."""
    scores = itertools.count()
    return lambda policy: float(next(scores))


def growth_learnt(folder, **keys):
    """The weight that is learnt where goodput rises with it from 0 to 1, and above one half objectives are missed: a toy in the
    place of hosts."""

    def judge(scenario, policy, seeds, reward):
        weights = policy.weights[:, CONSTANT] if isinstance(policy, SharedLinear) else np.zeros(1)
        growth = np.clip(np.broadcast_to(weights, len(seeds)), 0.0, 1.0)
        return Judged(growth, growth, 600.0 * np.maximum(growth - 0.5, 0.0))

    updates = []
    trainer = replace(
        EvolutionStrategy(total_steps=400_000, population=8, seeds=1, validations=1, start={"constant": 0.0}), **keys
    )
    task = Task(
        (SCENARIO,),
        folder,
        3,
        0,
        lambda *asked: judge(*asked, None).goodput,
        rising(),
        watch=updates.append,
        judge=judge,
    )
    return json.loads(trainer.train(task).model.read_text())["weights"]["constant"], updates


def test_evolution_stays_at_the_bound(tmp_path):
    free, plain = growth_learnt(tmp_path / "free")
    bound, updates = growth_learnt(tmp_path / "bound", constraint={"slo_s": 60.0})
    assert free > 0.9
    assert bound == pytest.approx(0.6, abs=0.06)  # where 60 s are missed
    assert math.isnan(plain[-1].slo_s)
    assert updates[-1].slo_s == pytest.approx(60.0, abs=60.0)


def test_a_reward_that_is_goodput_trains_the_same_weights(tmp_path):
    settings = EvolutionStrategy(total_steps=2_000, population=4, seeds=2, validations=1)
    said = [
        replace(settings, reward=reward)
        .train(task_of([SCENARIO], tmp_path / name, 3, "es", rising(), lambda point, total: None))
        .model.read_text()
        for name, reward in (("none", None), ("goodput", {"goodput": 1.0}), ("churn", {"churn": 5.0}))
    ]
    weights = [np.array([*json.loads(text)["weights"].values()]) for text in said]
    assert weights[1] == pytest.approx(
        weights[0], rel=1e-9
    )  # the same but for rounding: a mean of steps, not of seconds
    assert np.abs(weights[2] - weights[0]).max() > 1e-3


REWARD = {"churn": 0.2, "less_stock": True}


def hosts(**keywords):
    from hvgym.agents.learned.seeing import Acting
    from hvgym.agents.learned.vec_env import HostVecEnv

    return HostVecEnv([SCENARIO], 2, Acting("absolute"), seed=5, **keywords)


def test_a_learners_rewards_are_those_of_the_hosts_less_the_charge():
    from hvgym.agents.learned.vec_env import LOSS_SCALE

    plain, priced = hosts(), hosts(reward=REWARD, lagrangian=Lagrangian(Constraint(slo_s=0.0, initial=0.5), 1200.0, 8))
    plain.reset()
    priced.reset()
    for _ in range(20):
        _, goodput, *_ = plain.step(-np.ones((2, 4), np.float32))
        multiplier = priced.lagrangian.multiplier
        _, rewards, *_ = priced.step(-np.ones((2, 4), np.float32))
        (lanes,) = priced.parts
        own = lanes.rewards() - multiplier * lanes.costs() / SCENARIO.control_interval_s
        assert rewards == pytest.approx(LOSS_SCALE * own, rel=1e-6)
        assert goodput == pytest.approx(LOSS_SCALE * (lanes.terms[:, 0] - 1.0), rel=1e-6)
    assert priced.lagrangian.multiplier > 0.5
    assert priced.lagrangian.seconds > 0.0


class KilledError(Exception):
    pass


def test_ppo_under_a_constraint_tells_its_multiplier_and_resumes_in_the_same_bits(tmp_path):
    from hvgym.agents.learned.ppo import PPOTrainer

    trainer = PPOTrainer(
        total_steps=384, envs=4, n_steps=16, batch_size=64, n_epochs=1, validations=3, width=0, initial_action=-1.0,
        reward=REWARD, constraint={"slo_s": 1.0},
    )  # fmt: skip

    def train(folder, report=lambda point, total: None):
        updates = []
        task = task_of([SCENARIO], folder, 3, "ppo", lambda policy: float(len(updates)), report, updates.append)
        return trainer.train(task), updates

    def killed(point, total):
        if point.steps >= 256:
            raise KilledError

    whole, told = train(tmp_path / "whole")
    with pytest.raises(KilledError):
        train(tmp_path / "cut", killed)
    resumed, rest = train(tmp_path / "cut")
    assert [update.multiplier for update in told[-len(rest) :]] == [update.multiplier for update in rest]
    assert told[0].multiplier == 0.05  # one step up after the first rollout, in which everything was squeezed
    assert told[-1].multiplier > told[0].multiplier
    assert all(update.slo_s > 1.0 for update in told)
    assert [update.reward for update in told[-len(rest) :]] == [update.reward for update in rest]
    assert whole.curve[-1].steps == resumed.curve[-1].steps == 384
