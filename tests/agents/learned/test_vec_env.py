"""Hosts as a VecEnv: Stable-Baselines3's conventions, lanes that equal the environment, several scenarios side by side."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import VecMonitor

from hvgym.agents.learned.network import Network, SharedNetwork
from hvgym.agents.learned.seeing import Acting
from hvgym.agents.learned.vec_env import LOSS_SCALE, HostVecEnv
from hvgym.agents.stock import beneath
from hvgym.bench.rollout import rollout
from hvgym.envs.host_env import HostEnv
from hvgym.envs.rules import declared, refusal
from hvgym.envs.scenario import load, load_group, resolve
from hvgym.envs.view import HOST_FEATURES, VM_FEATURES

FOUR = replace(load("no-guest-swap-short"), episode_s=100)
EIGHT = replace(load("idle-giants-short"), episode_s=200)
HOST, VM = len(HOST_FEATURES), len(VM_FEATURES)


def batch(scenarios=(FOUR,), lanes=3, **others):
    return HostVecEnv(scenarios, lanes, Acting(), **others)


def test_sb3_checker_passes_with_warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(HostEnv(FOUR))


def test_a_lane_equals_the_scalar_environment():
    lanes, scalar = batch(seed=50), HostEnv(FOUR, beneath=beneath)
    observations = lanes.reset()
    observation, _ = scalar.reset(seed=52)
    rng = np.random.default_rng(1)
    for _ in range(25):
        assert observations[2].tobytes() == observation.tobytes()
        action = rng.uniform(-1, 1, 4).astype(np.float32)
        observations, rewards, dones, infos = lanes.step(np.tile(action, (3, 1)))
        observation, reward, _, truncated, _ = scalar.step(action)
        assert rewards[2] == np.float32(LOSS_SCALE * (reward - 1.0))
        assert dones[2] == truncated
        if truncated:
            assert infos[2]["terminal_observation"].tobytes() == observation.tobytes()
            assert infos[2]["TimeLimit.truncated"] is True
            assert infos[2]["episode"]["l"] == 20
            observation, _ = scalar.reset()


def test_sb3_wrappers_and_algorithms_take_it():
    model = PPO("MlpPolicy", VecMonitor(batch(lanes=4)), n_steps=8, batch_size=16, n_epochs=1, device="cpu")
    model.learn(64)
    assert model.num_timesteps == 64


def test_several_scenarios_are_padded_to_the_most_vms_and_a_lane_is_what_it_is_alone():
    both, alone = batch((FOUR, EIGHT), 4, seed=7), batch((FOUR,), 2, seed=7)
    seen, own = both.reset(), alone.reset()
    assert seen.shape == (4, HOST + 8 * VM)
    present = seen[:, HOST:].reshape(4, 8, VM)[..., 0]
    assert present.tolist() == [[1.0] * 4 + [0.0] * 4] * 2 + [[1.0] * 8] * 2
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 8)).astype(np.float32)
    for _ in range(22):
        assert seen[:2, : HOST + 4 * VM].tobytes() == own.tobytes()
        assert not seen[:2, HOST + 4 * VM :].any()
        seen, rewards, dones, _ = both.step(actions)
        own, of_own, of_its, _ = alone.step(actions[:2, :4])
        assert rewards[:2].tolist() == of_own.tolist()
        assert dones.tolist() == [*of_its.tolist(), False, False]


def test_staggered_lanes_end_apart_and_then_play_whole_episodes():
    lanes = batch(lanes=4, stagger=True)
    lanes.reset()
    ends = [[] for _ in range(4)]
    for step in range(1, 61):
        dones = lanes.step(np.zeros((4, 4), np.float32))[2]
        for lane in np.flatnonzero(dones):
            ends[lane].append(step)
    assert ends == [[5, 25, 45], [10, 30, 50], [15, 35, 55], [20, 40, 60]]


def test_what_the_shared_network_cannot_answer_is_refused():
    with pytest.raises(Exception, match=r"channels=\['move'\]: choose of memory, reclaim, .*, sharing"):
        Acting(channels=("move",))


def test_a_channel_of_the_host_is_the_mean_of_what_is_said_beside_its_vms():
    """Places where no VM is do not count; blocks of VMs stay as they are."""
    acting = Acting(channels=("sharing", "memory"))
    assert acting.answers == 2
    answers = np.array([[[0.5, -0.5, 0.25, 0.9], [1.0, 0.0, -0.5, -9.0]]], np.float32)  # memory first, as in an action
    actions = acting.actions(answers, vms=3)
    np.testing.assert_allclose(actions, [[0.5, -0.5, 0.25, 0.9, 0.5 / 3]], rtol=1e-6)
    lanes = HostVecEnv((FOUR,), 2, acting)
    assert lanes.action_space.shape == (2 * lanes.vms,)
    lanes.reset()
    told = np.zeros((2, 2, lanes.vms), np.float32)
    told[:, 1] = [[0.5], [-1.0]]
    lanes.step(told.reshape(2, -1))
    assert lanes.parts[0].simulator.hosts["scan_pages_per_s"][:, 0].tolist() == [0.75 * 125_000.0, 0.0]


class Still:
    """A network that leaves all sizes as they are, and keeps what it was shown."""

    def __init__(self):
        self.seen = []

    def act(self, features, memory):
        self.seen.append(features)
        return np.zeros((len(features), 1, features.shape[1]))


@pytest.mark.parametrize("hypervisor", ["kvm", "xen"])
@pytest.mark.parametrize("signals", ["any", ["balloon", "config", "host", "host_psi_some10"], ["balloon", "page_ages"]])
def test_training_sees_what_its_policy_may_read(signals, hypervisor):
    """Bit for bit, with the delays and costs of what is declared."""
    who = declared({"signals": signals})
    data = load_group("scenario", "no-guest-swap-short") | {
        "hypervisor": hypervisor,
        "rules": "default",
        "episode_s": 100,
    }
    scenario = resolve(data | {"control_interval_s": 10})
    if refusal(who, scenario):
        pytest.skip(f"{hypervisor} has no ages of pages inside")
    player = SharedNetwork.of(Network(Still(), Acting(), 10.0))
    player.declaration = who
    rollout(scenario, player, [50, 51], apart=False)
    lanes = batch((scenario,), 2, seed=50, who=who)
    seen = [lanes.reset()] + [lanes.step(np.zeros((2, 4), np.float32))[0] for _ in range(9)]
    for observed, played in zip(seen, player.network.actor.seen, strict=True):
        assert observed[:, HOST:].reshape(2, 4, VM).tobytes() == played[..., :VM].astype(np.float32).tobytes()
        assert observed[:, :HOST].tobytes() == played[:, 0, VM:].astype(np.float32).tobytes()
