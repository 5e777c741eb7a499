"""What gymnasium.make returns with a seat outside: the hypervisor's own policy beneath, as in a rollout, bit for bit."""

import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from hvgym.agents.policy import Policy
from hvgym.bench.rollout import rollout
from hvgym.envs.actions import MOST_DISK_SHARES, MOST_NET_SHARES
from hvgym.envs.host_env import HostEnv
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario, load_group, resolve
from hvgym.envs.telemetry import Targets

SECONDS = 300


def esxi(episode_s=SECONDS):
    data = resolve(
        load_group("scenario", "idle-giants-short"), load_group("hypervisor", "esxi"), rules="default"
    ).to_dict()
    return Scenario.from_dict(data | {"episode_s": episode_s})


def make(seat="outside", **keywords):
    return gym.make("hvgym/Host-v1", scenario=esxi().to_dict(), seat=seat, **keywords)


class EqualShares(Policy):
    """What an action of zeros asks for."""

    period_s = 5.0
    declaration = Declaration("outside", ("disk_shares", "net_shares"), frozenset({"memory_mib"}))

    def decide(self, telemetry):
        shape = telemetry.vm.shape
        return Targets(
            disk_shares=np.full(shape, MOST_DISK_SHARES**0.5), net_shares=np.full(shape, MOST_NET_SHARES**0.5)
        )


def test_an_episode_is_the_rollout_of_a_policy_that_asks_for_the_same():
    last = {}
    rollout(esxi(), EqualShares(), [7], lambda telemetry, sim: last.update(vms=sim.vms.copy(), hosts=sim.hosts.copy()))
    env = make()
    env.reset(seed=7)
    for _ in range(SECONDS // 5):
        env.step(np.zeros(env.action_space.shape, np.float32))
    sim = env.unwrapped.simulator
    assert sim.vms.tobytes() == last["vms"].tobytes()
    assert sim.hosts.tobytes() == last["hosts"].tobytes()
    assert (sim.vms["balloon_moved_mib"] > 0.0).any()  # the policy beneath was at work


def test_each_episode_is_its_own():
    """What runs beneath begins anew with a reset, its clock too."""
    env, found = make(), []
    for seconds in (SECONDS, 200, SECONDS):
        env.reset(seed=7)
        for _ in range(seconds // 5):
            env.step(np.zeros(env.action_space.shape, np.float32))
        found.append(env.unwrapped.simulator.vms.tobytes())
    assert found[0] == found[2] != found[1]


def test_without_it_nobody_moves_a_balloon():
    env = HostEnv(esxi(), seat="outside")
    env.reset(seed=7)
    for _ in range(SECONDS // 5):
        env.step(np.zeros(env.action_space.shape, np.float32))
    assert not env.simulator.vms["balloon_moved_mib"].any()


def test_inside_it_is_replaced():
    env = make("inside")
    env.reset(seed=7)
    for _ in range(SECONDS // 5):
        env.step(np.ones(env.action_space.shape, np.float32))
    assert not env.unwrapped.simulator.vms["balloon_moved_mib"].any()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_batch_is_the_scalar_environments_in_every_mode_also_over_ends(mode):
    """Lanes end after 8 steps; a mask resets one of them alone, so that their clocks differ."""
    keywords = {"scenario": esxi(40).to_dict(), "seat": "outside"}
    sync = SyncVectorEnv([lambda: gym.make("hvgym/Host-v1", **keywords)] * 3, autoreset_mode=mode)
    batch = gym.make_vec(
        "hvgym/Host-v1", num_envs=3, vectorization_mode="vector_entry_point", autoreset_mode=mode, **keywords
    )
    draws = np.random.default_rng(1)
    for env in (sync, batch):
        env.reset(seed=[5, 6, 7])
    for step in range(20):
        actions = draws.uniform(-1.0, 1.0, sync.action_space.shape).astype(np.float32)
        theirs, ours = (env.step(actions) for env in (sync, batch))
        for one, other in zip(theirs[:4], ours[:4], strict=True):
            np.testing.assert_array_equal(one, other)
        mask = ours[3].copy() if mode is AutoresetMode.DISABLED else np.array([False, step == 3, False])
        if mask.any():
            for env in (sync, batch):
                env.reset(options={"reset_mask": mask.copy()})


def test_it_survives_pickling_and_other_processes():
    env = make()
    env.reset(seed=3)
    action = np.zeros(env.action_space.shape, np.float32)
    for _ in range(4):
        env.step(action)
    twin = pickle.loads(pickle.dumps(env.unwrapped))
    for _ in range(4):
        ours, theirs = env.step(action), twin.step(action)
        np.testing.assert_array_equal(ours[0], theirs[0])
    batch = AsyncVectorEnv([make] * 2)
    try:
        batch.reset(seed=[3, 4])
        for _ in range(8):
            observations = batch.step(np.zeros(batch.action_space.shape, np.float32))[0]
    finally:
        batch.close()
    np.testing.assert_array_equal(observations[0], ours[0])


def test_its_spec_is_plain_data_and_makes_it_anew():
    env = make()
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    json.loads(env.spec.to_json())
    action = np.zeros(env.action_space.shape, np.float32)
    for one in (env, again):
        one.reset(seed=3)
    for _ in range(6):
        results = [one.step(action)[0] for one in (env, again)]
        np.testing.assert_array_equal(*results)
    assert again.unwrapped.simulator.vms.tobytes() == env.unwrapped.simulator.vms.tobytes()
