"""The environments keep Gymnasium's contract."""

import copy
import json
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import hvgym  # noqa: F401  registers the environments
from hvgym.envs.features import HOST_FEATURES, VM_FEATURES, Observer, targets_mib
from hvgym.envs.host_env import HostEnv, HostVectorEnv
from hvgym.envs.scenario import load
from hvgym.envs.simulator import Simulator

NAMES = ["idle-giants-short", "no-guest-swap-short", "tight-hdd", "sibling-bursts", "cache-hogs"]


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_checker_passes_with_warnings_as_errors(name):
    env = gym.make("hvgym/Host-v0", scenario=name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


def test_make_and_make_vec_find_the_environment():
    env = gym.make("hvgym:hvgym/Host-v0", scenario="idle-giants-short")
    batch = gym.make_vec("hvgym/Host-v0", num_envs=4, scenario="idle-giants-short")
    assert isinstance(env.unwrapped, HostEnv)
    assert isinstance(batch.unwrapped, HostVectorEnv)
    observations, _ = batch.reset(seed=1)
    assert observations.shape == (4, len(HOST_FEATURES) + 8 * len(VM_FEATURES))
    assert batch.observation_space.contains(observations)


@pytest.mark.parametrize("as_data", [False, True])
def test_spec_survives_json(as_data):
    scenario = load("idle-giants-short").to_dict() if as_data else "idle-giants-short"
    env = gym.make("hvgym/Host-v0", scenario=scenario)
    spec = gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
    again = gym.make(spec)
    first, _ = env.reset(seed=4)
    second, _ = again.reset(seed=4)
    assert first.tobytes() == second.tobytes()
    json.dumps(spec.kwargs)


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"]
)
def test_a_copy_in_mid_episode_goes_on_alike_and_apart(clone):
    env = HostEnv("idle-giants-short")
    env.reset(seed=2)
    action = np.zeros(8, np.float32)
    for _ in range(10):
        env.step(action)
    twin = clone(env)
    for _ in range(10):
        ours, theirs = env.step(action), twin.step(action)
        assert ours[0].tobytes() == theirs[0].tobytes()
        assert ours[1] == theirs[1]
    env.step(-np.ones(8, np.float32))
    twin.step(action)
    assert env.simulator.vms.tobytes() != twin.simulator.vms.tobytes()


def test_a_batch_with_threads_can_be_copied():
    batch = HostVectorEnv(4, "idle-giants-short", threads=2)
    batch.reset(seed=0)
    twin = pickle.loads(pickle.dumps(batch))
    action = np.zeros((4, 8), np.float32)
    assert batch.step(action)[0].tobytes() == twin.step(action)[0].tobytes()


def test_episode_ends_by_truncation_after_its_length_and_reward_is_goodput():
    env = HostEnv("idle-giants-short")
    env.reset(seed=0)
    rewards = []
    for step in range(120):
        _, reward, terminated, truncated, info = env.step(np.ones(8, np.float32))
        rewards.append(reward)
        assert not terminated
        assert truncated == (step == 119)
        assert info["goodput"] == reward
    vms, specs = env.simulator.vms[0], env.simulator.vm_specs[0]
    expected = (specs["weight"] * vms["progress_s"]).sum() / (specs["weight"].sum() * 600)
    assert np.mean(rewards) == pytest.approx(expected, rel=1e-12)
    assert 0.0 < expected < 1.0


def test_full_action_is_the_configured_size_and_lowest_the_minimum():
    env = HostEnv("idle-giants-short")
    env.reset(seed=0)
    env.step(np.ones(8, np.float32))
    assert (env.simulator.vms["asked_mib"] == env.simulator.vm_specs["memory_mib"]).all()
    env.step(-np.ones(8, np.float32))
    assert (env.simulator.vms["asked_mib"] == env.simulator.vm_specs["min_mib"]).all()


def test_observer_and_targets_equal_what_the_environment_does():
    """The two ways from readings to observation and from action to sizes give the same bits."""
    env, sim, observer = HostEnv("idle-giants-short"), Simulator(load("idle-giants-short")), Observer()
    observation, _ = env.reset(seed=9)
    telemetry = sim.reset([9])
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert observer.observe(telemetry)[0].tobytes() == observation.tobytes()
        action = rng.uniform(-1, 1, 8).astype(np.float32)
        from hvgym.envs.telemetry import Targets

        sim.apply(Targets(targets_mib(action[None], telemetry)))
        telemetry = sim.advance(5)
        observation, *_ = env.step(action)
        assert sim.vms["asked_mib"].tobytes() == env.simulator.vms["asked_mib"].tobytes()


def test_rates_in_the_observation_are_differences_of_counters():
    env = HostEnv("idle-giants-short")
    env.reset(seed=1)
    env.step(np.ones(8, np.float32))
    before = env.simulator.host_signals["swap_in_mib"][0, 0]
    observation, *_ = env.step(np.ones(8, np.float32))
    rate = (env.simulator.host_signals["swap_in_mib"][0, 0] - before) / 5
    assert observation[HOST_FEATURES.index("swap_in_rate")] == pytest.approx(np.log1p(rate) / 8, rel=1e-6)
    assert rate > 0


def test_a_missing_driver_reads_zero_with_its_mask_at_zero():
    data = load("idle-giants-short").to_dict()
    data["vms"][0]["balloon"] = False
    env = HostEnv(data)
    env.reset(seed=1)
    observation, *_ = env.step(np.ones(8, np.float32))
    vms = observation[len(HOST_FEATURES) :].reshape(8, len(VM_FEATURES))
    reports = VM_FEATURES.index("reports")
    assert vms[:, reports].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert (vms[:2, reports:] == 0).all()
    assert not np.isnan(observation).any()
