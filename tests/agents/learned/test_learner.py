"""The SB3 side: the batch keeps its conventions, training resumes to the bit, and a trained network plays as it
trained.
"""

import warnings

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import VecMonitor

from hvgym.agents.learned.ppo import PPOPolicy, TrainSettings, train
from hvgym.agents.learned.vec_env import LOSS_SCALE, HostVecEnv
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.host_env import HostEnv
from hvgym.envs.scenario import load

SCENARIO = load("no-guest-swap-short")
TINY = TrainSettings(total_steps=1024, envs=8, n_steps=16, batch_size=64, n_epochs=2, validations=4, hidden=(8,))


def test_sb3_checker_passes_with_warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(HostEnv(SCENARIO))


def test_a_lane_of_the_vec_env_equals_the_scalar_environment():
    batch, scalar = HostVecEnv(SCENARIO, 3, seed=50), HostEnv(SCENARIO)
    observations = batch.reset()
    observation, _ = scalar.reset(seed=52)
    rng = np.random.default_rng(1)
    for _ in range(130):
        assert observations[2].tobytes() == observation.tobytes()
        action = rng.uniform(-1, 1, 4).astype(np.float32)
        observations, rewards, dones, infos = batch.step(np.tile(action, (3, 1)))
        observation, reward, _, truncated, _ = scalar.step(action)
        assert rewards[2] == np.float32(LOSS_SCALE * (reward - 1.0))
        assert dones[2] == truncated
        if truncated:
            assert infos[2]["terminal_observation"].tobytes() == observation.tobytes()
            assert infos[2]["TimeLimit.truncated"] is True
            assert infos[2]["episode"]["l"] == 120
            observation, _ = scalar.reset()


def test_sb3_wrappers_and_algorithms_take_the_vec_env():
    model = PPO("MlpPolicy", VecMonitor(HostVecEnv(SCENARIO, 4)), n_steps=8, batch_size=16, n_epochs=1, device="cpu")
    model.learn(64)
    assert model.num_timesteps == 64


def goodput(policy):
    return float(rollout(SCENARIO, policy, [1_000_000_000]).goodput.mean())


class KilledError(Exception):
    pass


def kill_after(points):
    def report(point, total):
        points.append(point)
        if len(points) == 2:
            raise KilledError

    return report


def test_an_interrupted_training_ends_in_the_same_bits(tmp_path):
    whole = train(SCENARIO, TINY, tmp_path / "whole", 3, 0, goodput)
    with pytest.raises(KilledError):
        train(SCENARIO, TINY, tmp_path / "cut", 3, 0, goodput, kill_after([]))
    resumed = train(SCENARIO, TINY, tmp_path / "cut", 3, 0, goodput)
    assert resumed.curve == whole.curve
    assert len(whole.curve) == 4
    ours, theirs = (PPO.load(t.model, device="cpu").policy.state_dict() for t in (whole, resumed))
    assert all((ours[name] == theirs[name]).all() for name in ours)


def test_another_seed_is_another_training(tmp_path):
    curves = [train(SCENARIO, TINY, tmp_path / str(seed), seed, 0, goodput).curve for seed in (0, 1)]
    assert curves[0] != curves[1]


def test_the_best_model_is_the_one_with_the_best_validation_score(tmp_path):
    trained = train(SCENARIO, TINY, tmp_path, 0, 0, goodput)
    best = max(point.score for point in trained.curve)
    assert goodput(PPOPolicy(trained.model)) == best == trained.curve[-1].best


def test_training_learns(tmp_path):
    """From squeezing everything, 40,000 steps are enough to leave the kills behind."""
    settings = TrainSettings(
        total_steps=40_000, envs=32, n_steps=32, batch_size=512, n_epochs=4, validations=4, initial_action=-0.5
    )
    curve = train(SCENARIO, settings, tmp_path, 0, 0, goodput).curve
    assert curve[-1].best > curve[0].score + 0.02


def test_a_network_plays_in_a_rollout_as_in_the_environment(tmp_path):
    """The environment is driven by SB3's own `PPO.load` and `predict`."""
    policy = PPOPolicy(train(SCENARIO, TINY, tmp_path, 0, 0, goodput).model)
    model = PPO.load(tmp_path / "best.zip", device="cpu")
    env = HostEnv(SCENARIO)
    observation, _ = env.reset(seed=77)
    rewards, ended = [], False
    while not ended:
        action, _ = model.predict(observation[None], deterministic=True)
        observation, reward, _, ended, _ = env.step(action[0])
        rewards.append(reward)
    assert float(rollout(SCENARIO, policy, [77]).goodput[0]) == pytest.approx(np.mean(rewards), rel=1e-12)


def test_bad_checkpoints_are_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"agent.checkpoint is missing"):
        PPOPolicy()
    with pytest.raises(InputError, match=r"nowhere.zip: no such file"):
        PPOPolicy("nowhere.zip")
    policy = PPOPolicy(train(SCENARIO, TINY, tmp_path, 0, 0, goodput).model)
    with pytest.raises(InputError, match=r"this host has 8 VMs"):
        rollout(load("idle-giants-short"), policy, [0])


def test_a_folder_of_another_training_is_refused(tmp_path):
    train(SCENARIO, TINY, tmp_path, 0, 0, goodput)
    with pytest.raises(InputError, match="other settings"):
        train(SCENARIO, TINY, tmp_path, 1, 0, goodput)
