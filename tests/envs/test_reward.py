"""Rewards beside goodput: their terms by hand, their names in info, stock's course as control variate, functions of one's own."""

import json
import pickle
import sys

import gymnasium
import numpy as np
import pytest

import hvgym  # noqa: F401 - registers
from hvgym.agents.learned.training import trainer_of
from hvgym.agents.policy import make_policy
from hvgym.agents.stock import beneath
from hvgym.bench.rollout import rollout
from hvgym.bench.training import task_of
from hvgym.envs.errors import InputError
from hvgym.envs.host_env import HostEnv
from hvgym.envs.lanes import HostLanes
from hvgym.envs.making import scenario_of
from hvgym.envs.reward import MAX_SLOWDOWN, STEP_VM, Step, Weights, reward_of
from hvgym.envs.rewarding import Follower
from hvgym.envs.scenario import load, load_group
from hvgym.envs.stepping import TERMS
from hvgym.envs.vector_env import HostVectorEnv

SCENARIO = load("no-guest-swap-short")
"""Squeezing it kills, and misses objectives."""

OWN = """
import numpy as np

def churn(step, price):
    return {"work": step.terms["goodput"], "moved": -price * step.terms["balloon_moved_mib"]}

def short(step):
    return np.zeros(1)

def hole(step):
    return step.terms["goodput"] * np.nan

def changes(step):
    return {"a" if step.time_s[0] < 20 else "b": step.terms["goodput"]}

class Deepest:
    def __init__(self, floor):
        self.floor = floor
    def __call__(self, step):
        return np.minimum(step.telemetry.vm["size_mib"].min(axis=1) / self.floor, 1.0)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "ownreward.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "ownreward"
    sys.modules.pop("ownreward", None)


def on_esxi(name):
    return scenario_of(name, hypervisor="esxi")


def squeezed(reward, steps=30, scenario=SCENARIO, **keywords):
    """Rewards and infos of a host whose VMs are all asked for their minimum, then for all they have."""
    env = HostEnv(scenario, reward=reward, **keywords)
    env.reset(seed=7)
    low = -np.ones(env.action_space.shape, np.float32)
    played = [env.step(low if step < steps // 2 else -low) for step in range(steps)]
    return [reward for _, reward, *_ in played], [info for *_, info in played]


def step_of(**given):
    """Two VMs for ten seconds: one critical that did half of its work, one that did all."""
    vm = np.zeros((1, 2), STEP_VM)
    vm["asked_s"], vm["progress_s"], vm["critical"] = 10.0, [[5.0, 10.0]], [[1.0, 0.0]]
    terms = {name: np.zeros(1) for name in TERMS} | {"goodput": np.array([0.75])} | given
    return Step(10.0, np.array([10.0]), terms, vm, np.array([2000.0]), np.array([0.25]), lambda: None)


def test_terms_by_hand():
    step = step_of(cost=np.array([4.0]), balloon_moved_mib=np.array([500.0]))
    terms = Weights(goodput=2.0, slo=1.0, p99=3.0, churn=4.0, host_cpu=8.0)(step)
    assert terms["goodput"] == 1.5
    assert terms["slo"] == -0.4  # 4 of the 10 seconds of one critical VM
    assert terms["p99"] == pytest.approx(-3.0 * np.log(1.99) / np.log(MAX_SLOWDOWN))  # between 1 and 2
    assert terms["churn"] == -1.0  # a quarter of the RAM
    assert terms["host_cpu"] == -2.0


def test_a_vm_that_asks_for_nothing_is_not_slow_and_one_that_stands_is_slowest():
    step = step_of()
    step.vm["asked_s"], step.vm["progress_s"] = [[0.0, 10.0]], 0.0
    assert step.slowdown.tolist() == [[1.0, MAX_SLOWDOWN]]


def test_without_one_the_reward_is_goodput_and_info_as_ever():
    plain, infos = squeezed(None)
    assert plain == [info["goodput"] for info in infos]
    assert tuple(infos[0]) == TERMS
    weighted, more = squeezed({})
    assert weighted == plain
    assert all({name: info[name] for name in TERMS} == one for info, one in zip(more, infos, strict=True))


def test_terms_stand_in_info_and_add_up():
    weights = {"slo": 0.5, "p99": 0.2, "churn": 0.1, "host_cpu": 0.1}
    rewards, infos = squeezed(weights)
    names = [f"reward_{name}" for name in ("goodput", *weights)]
    assert [name for name in infos[0] if name not in TERMS] == names
    for reward, info in zip(rewards, infos, strict=True):
        assert reward == pytest.approx(sum(info[name] for name in names), abs=1e-12)
        assert info["reward_goodput"] == info["goodput"]
    critical = sum(group.critical for group in SCENARIO.groups)
    slo = [-0.5 * info["cost"] / critical / SCENARIO.control_interval_s for info in infos]
    assert [info["reward_slo"] for info in infos] == pytest.approx(slo)
    assert min(slo) < 0.0
    assert min(info["reward_churn"] for info in infos) < 0.0
    assert min(info["reward_p99"] for info in infos) < 0.0


@pytest.mark.parametrize("reward", [{"slo": 1.0, "p99": 0.3, "less_stock": True}, {"churn": 1.0}])
def test_a_lane_of_a_batch_equals_the_scalar_environment(reward):
    scenario = {**SCENARIO.to_dict(), "episode_s": 100}
    batch = gymnasium.make_vec(
        "hvgym/Host-v1", num_envs=3, scenario=scenario, hypervisor="esxi", reward=reward, threads=2
    )
    one = gymnasium.make("hvgym/Host-v1", scenario=scenario, hypervisor="esxi", reward=reward)
    batch.reset(seed=50)
    one.reset(seed=52)
    draws, ended = np.random.default_rng(1), False
    for _ in range(50):
        action = draws.uniform(-1, 1, one.action_space.shape).astype(np.float32)
        _, rewards, _, truncated, infos = batch.step(np.tile(action, (3, 1)))
        if ended:
            assert rewards[2] == 0.0
            ended = False
            one.reset()
            continue
        _, scalar, _, ended, info = one.step(action)
        assert rewards[2] == scalar
        assert truncated[2] == ended
        assert {name: infos[name][2] for name in info} == info


def test_less_stock_takes_off_what_the_hypervisor_gets_by_itself():
    """ESXi's own ballooning, as agent stock plays it, step by step and in sum."""
    scenario = on_esxi("idle-giants-short")
    env = gymnasium.make("hvgym/Host-v1", scenario=scenario, reward={"less_stock": True})
    env.reset(seed=3)
    own, stock, ended = [], [], False
    while not ended:
        _, reward, _, ended, info = env.step(np.ones(env.action_space.shape, np.float32))
        own.append(info["goodput"])
        stock.append(-info["reward_stock"])
        assert reward == pytest.approx(own[-1] - stock[-1], abs=1e-15)
    assert np.ptp(stock) > 0.01
    played = rollout(scenario, make_policy(load_group("agent", "stock")), [3])
    # weighted time asked for differs from step to step by VMs that wait
    assert np.mean(stock) == pytest.approx(played.goodput[0], abs=2e-3)
    assert np.mean(stock) != np.mean(own)


def test_less_stock_without_a_hypervisors_own_policy_at_hand_is_refused():
    with pytest.raises(InputError, match=r"less_stock needs hypervisor.stock; make this with gymnasium.make"):
        HostEnv("idle-giants-short", hypervisor="esxi", reward={"less_stock": True})


def test_a_batch_of_stock_plays_like_each_alone():
    """Stock is asked once for a batch that began together, and once for lanes that began apart."""
    scenario = on_esxi("idle-giants-short")
    together = HostLanes(scenario, 3, beneath=beneath, reward={"less_stock": True})
    apart = HostLanes(scenario, 3, threads=2, beneath=beneath, reward={"less_stock": True})
    for lane in range(3):
        together.reset(lane, 10 + lane)
    apart.reset(0, 10)
    apart.reset(1, 11)
    apart.reset(2, 99)
    found = []
    for step in range(6):
        if step == 2:
            apart.reset(2, 12)
        together.step()
        apart.step()
        found.append((together.terms.copy(), apart.terms.copy()))
    for whole, parts in found:
        assert (whole[:2] == parts[:2]).all()
    assert all((found[step][0][2] == found[step + 2][1][2]).all() for step in range(4))


def test_a_batch_travels_with_its_reward(own):
    lanes = HostLanes(SCENARIO, 2, reward={"_target_": f"{own}.churn", "price": 1e-3})
    for lane in range(2):
        lanes.reset(lane, lane)
    lanes.actions[:] = -1.0
    lanes.step()
    copy = pickle.loads(pickle.dumps(lanes))
    lanes.step()
    copy.step()
    assert (lanes.terms == copy.terms).all()
    assert lanes.rewards().tolist() == (lanes.terms[:, 6] + lanes.terms[:, 7]).tolist()


def test_a_function_of_ones_own(own):
    rewards, infos = squeezed({"_target_": f"{own}.churn", "price": 1e-3})
    for reward, info in zip(rewards, infos, strict=True):
        assert info["reward_moved"] == -1e-3 * info["balloon_moved_mib"]
        assert reward == info["reward_work"] + info["reward_moved"]
    deepest, infos = squeezed({"_target_": f"{own}.Deepest", "floor": 4096})
    assert deepest == [info["reward_own"] for info in infos]
    assert min(deepest) < 0.4 < max(deepest)


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        ("goodput", "reward='goodput': expected weights"),
        ({"sol": 1.0}, r"reward.sol: unknown key \(did you mean 'slo'\?\)"),
        ({"slo": -1.0}, "reward.slo=-1.0: must be at least 0"),
        ({"less_stock": 1}, "reward.less_stock=1: expected true or false"),
        ({"_target_": "nowhere.reward"}, "reward._target_='nowhere.reward' cannot be loaded"),
        ({"_target_": "ownreward.churn"}, "missing a required argument: 'price'; it is called with a step"),
        ({"_target_": "ownreward.churn", "prize": 1}, "'ownreward.churn': missing a required argument"),
        ({"_target_": "ownreward.np"}, "is no function or class"),
        ({"_target_": "ownreward.Deepest"}, "floor"),
        ({"_target_": "ownreward.hole"}, "own is nan; expected finite numbers"),
    ],
)
def test_what_is_no_reward_is_refused_in_one_line(own, reward, said):
    with pytest.raises(InputError, match=said) as refused:
        HostEnv(SCENARIO, reward=reward)
    assert "\n" not in str(refused.value)


def test_answers_of_another_shape_or_name_are_refused(own):
    with pytest.raises(InputError, match=r"own has shape \(1,\); expected \(2,\), one an environment"):
        HostVectorEnv(2, SCENARIO, reward={"_target_": f"{own}.short"})
    with pytest.raises(InputError, match="answers b; it began with a"):
        squeezed({"_target_": f"{own}.changes"})


def test_the_spec_of_an_environment_keeps_its_reward():
    env = gymnasium.make("hvgym/Host-v1", scenario="idle-giants-short", reward={"slo": 0.5})
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert json.loads(env.spec.to_json())["kwargs"]["reward"] == {"slo": 0.5}
    again.reset(seed=1)
    assert "reward_slo" in again.step(again.action_space.sample())[-1]


def test_a_function_beside_the_configuration_of_the_environment(tmp_path, monkeypatch):
    from hvgym.agents import beside

    monkeypatch.setattr(beside, "_BESIDE", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "ourreward.py").write_text("def work(step):\n    return 2.0 * step.terms['goodput']\n")
    env = gymnasium.make("hvgym/Host-v1", config_dir=tmp_path, reward={"_target_": "ourreward.work"})
    env.reset(seed=1)
    _, reward, _, _, info = env.step(env.action_space.sample())
    assert reward == 2.0 * info["goodput"]
    (tmp_path / "statistics.py").write_text("def work(step):\n    return step.terms['goodput']\n")
    with pytest.raises(InputError, match=r"reward._target_='statistics.work': .*rename it"):
        gymnasium.make("hvgym/Host-v1", config_dir=tmp_path, reward={"_target_": "statistics.work"})
    with pytest.raises(InputError, match=r"agent.train.reward._target_='statistics.work': .*rename it"):
        trainer_of(load_group("agent", "es") | {"train": {
            "_target_": "hvgym.agents.learned.es.EvolutionStrategy", "reward": {"_target_": "statistics.work"},
        }})  # fmt: skip
    sys.modules.pop("ourreward", None)


def test_a_rollout_is_rewarded_as_the_environment_is():
    """The static policy asks for nothing, as an environment whose actions ask for all."""
    reward = {"slo": 1.0, "p99": 0.2, "churn": 0.3, "less_stock": True}
    scenario = on_esxi("no-guest-swap-short")
    follower = Follower(reward, [5, 6], beneath)
    rollout(scenario, make_policy(load_group("agent", "static")), [5, 6], follower.watch)
    env = gymnasium.make_vec("hvgym/Host-v1", num_envs=2, scenario=scenario, reward=reward)
    env.reset(seed=5)
    count = scenario.duration_s // scenario.control_interval_s
    played = [env.step(np.ones(env.action_space.shape, np.float32))[1] for _ in range(count)]
    assert follower.mean().tolist() == pytest.approx(np.mean(played, axis=0).tolist(), rel=1e-12)


def test_a_task_judges_by_the_reward(tmp_path):
    task = task_of([SCENARIO], tmp_path, 0, "es", lambda policy: 0.0, lambda point, total: None)
    policy = make_policy(load_group("agent", "static"))
    plain = task.judge(SCENARIO, policy, [1, 2], None)
    priced = task.judge(SCENARIO, policy, [1, 2], {"slo": 1.0})
    assert (plain.reward == plain.goodput).all()
    assert (plain.goodput == task.play(SCENARIO, policy, [1, 2])).all()
    assert (priced.goodput == plain.goodput).all()
    assert (priced.cost_s > 0.0).all()
    assert (priced.reward < plain.reward).all()


def test_a_reward_reads_as_it_was_written():
    assert reward_of(None) is None
    assert reward_of({"goodput": 2.0}).best == 2.0
    assert reward_of({"goodput": 2.0, "less_stock": True}).best == 0.0
