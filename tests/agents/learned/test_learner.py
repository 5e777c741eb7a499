"""The SB3 side: the batch keeps its conventions, training resumes to the bit, and a trained network plays as it
trained.
"""

import io
import json
import pickle
import tempfile
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import VecMonitor

from hvgym.agents.learned import network
from hvgym.agents.learned.ppo import PPOPolicy, PPOTrainer
from hvgym.agents.learned.training import Task, Update
from hvgym.agents.learned.vec_env import LOSS_SCALE, HostVecEnv
from hvgym.agents.policy import Policy
from hvgym.bench.rollout import rollout
from hvgym.envs.actions import ActionMap
from hvgym.envs.errors import InputError
from hvgym.envs.host_env import HostEnv
from hvgym.envs.scenario import load

SCENARIO = load("no-guest-swap-short")
TINY = PPOTrainer(
    total_steps=1024, envs=8, n_steps=16, batch_size=64, n_epochs=2, validations=4, hidden=(8,), initial_action=0.0
)


def train(scenario, trainer, folder, seed, first_seed, validate, report=lambda point, total: None, **others):
    return trainer.train(Task((scenario,), folder, seed, first_seed, None, validate, report, **others))


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


def test_a_training_that_is_watched_ends_in_the_same_bits(tmp_path):
    updates = list[Update]()
    plain = train(SCENARIO, TINY, tmp_path / "plain", 3, 0, goodput)
    watched = train(SCENARIO, TINY, tmp_path / "watched", 3, 0, goodput, watch=updates.append)
    assert watched.curve == plain.curve
    ours, theirs = (PPO.load(trained.model, device="cpu").policy.state_dict() for trained in (plain, watched))
    assert all((ours[name] == theirs[name]).all() for name in ours)
    assert [update.steps for update in updates] == [*range(128, 1025, 128)]  # 8 hosts, 16 steps a rollout
    assert all(-LOSS_SCALE <= update.reward <= 0.0 for update in updates)
    assert len({update.loss for update in updates}) == len(updates)
    # of a Gaussian with the deviation exp(-1) that it starts with, on 4 VMs
    assert updates[0].entropy == pytest.approx(4 * (0.5 * np.log(2 * np.pi * np.e) - 1.0), rel=0.05)


def test_a_network_is_validated_once_where_validations_are_closer_than_updates(tmp_path):
    """Sixteen are wanted in 512 steps, and a rollout has 128: four networks, with the curve of four validations."""
    asked = list[PPOPolicy]()

    def counted(policy):
        asked.append(policy)
        return goodput(policy)

    settings = replace(TINY, total_steps=512)
    four = train(SCENARIO, settings, tmp_path / "four", 3, 0, goodput)
    close = train(SCENARIO, replace(settings, validations=16), tmp_path / "close", 3, 0, counted)
    assert len(asked) == 4
    assert [point.steps for point in close.curve] == [128, 256, 384, 512]
    assert close.curve == four.curve


def test_another_seed_is_another_training(tmp_path):
    curves = [train(SCENARIO, TINY, tmp_path / str(seed), seed, 0, goodput).curve for seed in (0, 1)]
    assert curves[0] != curves[1]


def test_the_best_model_is_the_one_with_the_best_validation_score(tmp_path):
    trained = train(SCENARIO, TINY, tmp_path, 0, 0, goodput)
    best = max(point.score for point in trained.curve)
    assert goodput(PPOPolicy(trained.model)) == best == trained.curve[-1].best


class Shrinking(Policy):
    """What the network answers before it has learnt."""

    period_s = 5.0

    def decide(self, telemetry):
        return ActionMap(telemetry.vm.shape[1]).targets(np.full(telemetry.vm.shape, -0.05, np.float32), telemetry)


def test_training_learns(tmp_path):
    """From shrinking everything, 40,000 steps are enough to leave the kills behind."""
    settings = PPOTrainer(
        total_steps=40_000, envs=32, n_steps=32, batch_size=512, n_epochs=4, validations=4, initial_action=-0.05
    )
    assert train(SCENARIO, settings, tmp_path, 0, 0, goodput).curve[-1].best > goodput(Shrinking()) + 0.02


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


# ---- the network as a file


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(SCENARIO, TINY, tmp_path_factory.mktemp("net"), 0, 0, goodput).model


def rewritten(source, target, **members):
    """A copy of an archive with members replaced; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = members.get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


class Harm:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_network_answers_as_stable_baselines3_does_to_the_bit(trained):
    ours, theirs = network.load(trained), PPO.load(trained, device="cpu")
    observations = np.random.default_rng(0).uniform(-1, 1, (64, ours.inputs)).astype(np.float32)
    assert ours.act(observations).tobytes() == theirs.predict(observations, deterministic=True)[0].tobytes()
    with torch.no_grad():
        ours.layers[-1].bias.fill_(7.0)
    assert (ours.act(observations) == 1.0).all()


def test_reading_a_network_runs_no_code_that_it_carries(trained, tmp_path):
    """Pickled objects lie in ``data``, which SB3 would load, or in the weights themselves."""
    mark, weights = tmp_path / "mark", io.BytesIO()
    torch.save({"action_net.weight": Harm(mark)}, weights)
    data = json.dumps(
        {"policy_class": {":serialized:": __import__("base64").b64encode(pickle.dumps(Harm(mark))).decode()}}
    )
    PPOPolicy(rewritten(trained, tmp_path / "best.zip", data=data))
    assert not mark.exists()
    with pytest.raises(InputError, match=r"bad.zip: not a best.zip"):
        PPOPolicy(rewritten(trained, tmp_path / "bad.zip", **{"policy.pth": weights.getvalue()}))
    assert not mark.exists()


def test_a_network_of_before_with_its_figures_beside_it_still_plays(trained, tmp_path):
    old = rewritten(trained, tmp_path / "best.zip", **{"hvgym.json": None})
    with pytest.raises(InputError, match=r"best.zip: not a best.zip"):
        PPOPolicy(old)
    old.with_suffix(".json").write_text('{"control_interval_s": 5}')
    assert goodput(PPOPolicy(old)) == goodput(PPOPolicy(trained))


@pytest.mark.parametrize("length", [0, 100, 5000])
def test_a_network_that_was_cut_short_is_one_line(trained, tmp_path, length):
    (tmp_path / "best.zip").write_bytes(trained.read_bytes()[:length])
    with pytest.raises(InputError, match=r"best.zip: not a best.zip as hvgym train writes it") as caught:
        PPOPolicy(tmp_path / "best.zip")
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused(trained, tmp_path):
    with zipfile.ZipFile(trained) as archive:
        weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    weights["action_net.bias"][0] = float("nan")
    changed = io.BytesIO()
    torch.save(weights, changed)
    with pytest.raises(InputError, match="its weights are not finite numbers"):
        PPOPolicy(rewritten(trained, tmp_path / "best.zip", **{"policy.pth": changed.getvalue()}))


# ---- interrupted and damaged trainings


@pytest.mark.parametrize("file", ["state.pkl", "model.zip", "best.zip"])
def test_a_damaged_checkpoint_is_named_and_the_training_ends_in_the_same_bits(tmp_path, capsys, file):
    whole = train(SCENARIO, TINY, tmp_path / "whole", 3, 0, goodput)
    with pytest.raises(KilledError):
        train(SCENARIO, TINY, tmp_path / "cut", 3, 0, goodput, kill_after([]))
    damaged = tmp_path / "cut" / file if file == "best.zip" else tmp_path / "cut" / "checkpoint" / file
    damaged.write_bytes(damaged.read_bytes()[:200])
    capsys.readouterr()
    resumed = train(SCENARIO, TINY, tmp_path / "cut", 3, 0, goodput)
    said = capsys.readouterr().err
    assert "checkpoint: damaged" in said
    assert said.count("\n") == 1
    assert resumed.curve == whole.curve
    assert goodput(PPOPolicy(resumed.model)) == goodput(PPOPolicy(whole.model))


def test_a_damaged_checkpoint_leaves_the_older_one(tmp_path, capsys):
    train(SCENARIO, TINY, tmp_path, 3, 0, goodput)
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.pkl").write_bytes(b"")
    points = []
    train(SCENARIO, TINY, tmp_path, 3, 0, goodput, lambda point, total: points.append(point))
    assert points == []  # the older one was at the end
    assert "checkpoint: damaged" in capsys.readouterr().err


def test_a_training_whose_claim_was_cut_short_says_so(tmp_path):
    (tmp_path / "training.json").write_text('{"scen')
    with pytest.raises(InputError, match=r"training.json: damaged; delete the folder"):
        train(SCENARIO, TINY, tmp_path, 0, 0, goodput)


def test_other_code_is_another_training(tmp_path):
    train(SCENARIO, TINY, tmp_path, 0, 0, goodput, sources={"code": "one"})
    with pytest.raises(InputError, match=r"holds a training with other settings .sources"):
        train(SCENARIO, TINY, tmp_path, 0, 0, goodput, sources={"code": "two"})


def test_another_number_of_validation_seeds_is_another_training(tmp_path):
    """The best network is the best of one yardstick."""
    train(SCENARIO, TINY, tmp_path, 0, 0, goodput, validation_seeds=2)
    with pytest.raises(InputError, match=r"holds a training with other settings .validation_seeds"):
        train(SCENARIO, TINY, tmp_path, 0, 0, goodput, validation_seeds=8)


def test_a_training_that_diverges_is_one_line_with_seed_and_step(tmp_path):
    with pytest.raises(InputError, match=r"the training with seed 4 diverged by step \d+: the network") as caught:
        train(SCENARIO, replace(TINY, learning_rate=1e30), tmp_path, 4, 0, goodput)
    assert "tensor" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_training_leaves_nothing_outside_its_folder(tmp_path, monkeypatch):
    """Stable-Baselines3's logger makes a folder of its own where temporary files lie."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "temporary").mkdir()
    train(SCENARIO, TINY, tmp_path / "training", 0, 0, lambda policy: 0.0)
    assert list((tmp_path / "temporary").iterdir()) == []
