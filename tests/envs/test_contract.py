"""The public contract in one place, over everything that the package registers: what Gymnasium, its wrappers and vector
environments, and Stable-Baselines3 expect of an environment. Runs on every Gymnasium from 1.1 on.
"""

import copy
import functools
import gc
import json
import multiprocessing
import pickle
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as vector_wrappers
from stable_baselines3.common import env_checker as sb3

import hvgym  # noqa: F401  registers the environments
from hvgym.agents.learned.vec_env import HostVecEnv
from hvgym.envs import features
from hvgym.envs.scenario import load, load_group, resolve
from hvgym.envs.simulator import Simulator
from hvgym.envs.stepping import TERMS
from hvgym.envs.telemetry import Targets

IDS = [name for name in gym.registry if name.startswith("hvgym/")]
ID = "hvgym/Host-v0"
NAMES = ["idle-giants-short", "no-guest-swap-short", "tight-hdd", "sibling-bursts", "cache-hogs"]
NAME, VMS, STEPS = "no-guest-swap-short", 4, 120
MODES = list(AutoresetMode)


def data(episode_s=50):
    """A scenario of 10 steps."""
    return load(NAME).to_dict() | {"episode_s": episode_s}


def actions(steps, lanes=None, seed=0):
    shape = (steps, VMS) if lanes is None else (steps, lanes, VMS)
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape).astype(np.float32)


def same(ours, theirs):
    """Equal values, kinds and keys, however deep."""
    if isinstance(theirs, tuple) or (isinstance(theirs, np.ndarray) and theirs.dtype == object):
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            same(ours[key], theirs[key])
    elif theirs is None:
        assert ours is None
    else:
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


# Checkers


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("name", NAMES)
def test_gymnasiums_checker_passes_with_warnings_as_errors(env_id, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(env_id, scenario=name, render_mode="rgb_array").unwrapped)
        check_env(gym.make(env_id, scenario=name).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("name", NAMES)
def test_stable_baselines3s_checker_passes_with_warnings_as_errors(env_id, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3.check_env(gym.make(env_id, scenario=name).unwrapped)


@pytest.mark.parametrize("env_id", IDS)
def test_everything_can_be_made_alone_in_a_batch_and_under_gymnasiums_vector_environments(env_id):
    for render_mode in (None, "rgb_array", "ansi"):
        env = gym.make(f"hvgym:{env_id}", scenario=data(), render_mode=render_mode)
        assert env.render_mode == render_mode
    for mode in ("sync", "vector_entry_point"):
        batch = gym.make_vec(env_id, num_envs=3, vectorization_mode=mode, scenario=data())
        observations, infos = batch.reset(seed=1)
        assert batch.observation_space.contains(observations)
        assert batch.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        assert set(infos) == set(TERMS) | {f"_{name}" for name in TERMS}


# Infos


def test_reset_and_step_give_the_same_keys_of_the_same_kind():
    env = gym.make(ID, scenario=data())
    _, first = env.reset(seed=0)
    *_, later = env.step(np.zeros(VMS, np.float32))
    assert list(first) == list(later) == list(TERMS)
    assert {type(value) for value in (*first.values(), *later.values())} == {np.float64}
    assert not any(first.values())  # nothing has been earned yet


def test_what_a_batch_hands_out_is_the_callers():
    batch = gym.make_vec(ID, num_envs=2, scenario=data(), autoreset_mode="SameStep")
    batch.reset(seed=0)
    for action in actions(10, 2):
        results = batch.step(action)
    observations, rewards, _, truncated, infos = results
    arrays = [observations, rewards, truncated, *(infos[key] for key in infos if key != "final_info")]
    arrays += [*infos["final_info"].values(), *infos["final_obs"]]
    for i, one in enumerate(arrays):
        assert not any(np.shares_memory(one, other) for other in arrays[:i] if other.dtype != object != one.dtype)
    kept = copy.deepcopy(results)
    batch.step(actions(1, 2, seed=9)[0])
    same(list(results[4].values())[0], list(kept[4].values())[0])
    same(observations, kept[0])
    same(rewards, kept[1])


# Sync against batch


def pair(mode, lanes=3, **keywords):
    sync = SyncVectorEnv([lambda: gym.make(ID, scenario=data(), **keywords)] * lanes, autoreset_mode=mode)
    return sync, gym.make_vec(ID, num_envs=lanes, scenario=data(), autoreset_mode=mode, **keywords)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [None, 4])
def test_a_batch_answers_as_gymnasiums_own_vector_environment_in_every_mode(mode, limit):
    envs = pair(mode, **({} if limit is None else {"max_episode_steps": limit}))
    theirs, ours = (env.reset(seed=[5, 2**63 + 7, 11]) for env in envs)
    same(ours, theirs)
    ended = 0
    for step, action in enumerate(actions(35, 3)):
        theirs, ours = (env.step(action) for env in envs)
        same(ours, theirs)
        ended += int(ours[3].sum())
        if mode is AutoresetMode.DISABLED and ours[3].any():
            theirs, ours = (env.reset(options={"reset_mask": ours[3].copy()}) for env in envs)
            same(ours, theirs)
        elif step == 12:
            mask = np.array([False, True, True])
            theirs, ours = (env.reset(seed=[None, 3, None], options={"reset_mask": mask.copy()}) for env in envs)
            same(ours, theirs)
    assert ended >= 6


def test_a_disabled_batch_refuses_to_step_over_an_end():
    batch = gym.make_vec(ID, num_envs=2, scenario=data(), autoreset_mode=AutoresetMode.DISABLED, max_episode_steps=2)
    batch.reset(seed=0)
    batch.step(np.zeros((2, VMS)))
    batch.reset(options={"reset_mask": np.array([True, False])})
    batch.step(np.zeros((2, VMS)))
    with pytest.raises(gym.error.ResetNeeded, match=r"lanes \[1\]"):
        batch.step(np.zeros((2, VMS)))


@pytest.mark.parametrize(
    ("mask", "error"), [([True, False], TypeError), (np.ones(2), TypeError), (np.ones(3, bool), ValueError),
                        (np.zeros(2, bool), ValueError)],
)  # fmt: skip
def test_a_wrong_reset_mask_is_refused(mask, error):
    batch = gym.make_vec(ID, num_envs=2, scenario=data())
    batch.reset(seed=0)
    with pytest.raises(error, match="reset_mask"):
        batch.reset(options={"reset_mask": mask})


def test_an_unknown_mode_names_those_that_there_are():
    with pytest.raises(ValueError, match="autoreset_mode='Next'.*known: NextStep, SameStep, Disabled"):
        gym.make_vec(ID, num_envs=2, scenario=data(), autoreset_mode="Next")


@pytest.mark.parametrize("limit", [0, 2.5, "ten"])
def test_a_wrong_limit_of_steps_is_refused(limit):
    with pytest.raises(ValueError, match="max_episode_steps="):
        gym.make_vec(ID, num_envs=2, scenario=data(), max_episode_steps=limit)


def test_without_a_limit_an_episode_is_the_scenarios():
    for env in (gym.make(ID, scenario=data()), gym.make(ID, scenario=data(), max_episode_steps=4)):
        env.reset(seed=0)
        truncated = [env.step(action)[3] for action in actions(10 if env.spec.max_episode_steps is None else 4)]
        assert truncated == [False] * (len(truncated) - 1) + [True]


# Actions


def stepped(action):
    env = gym.make(ID, scenario=data()).unwrapped
    env.reset(seed=3)
    return env.step(action)[0].tobytes()


def test_actions_of_any_kind_of_number_are_taken_alike():
    action = np.array([-1.0, -0.25, 0.5, 1.0], np.float32)
    strided, frozen = np.stack([action, action], axis=1)[:, 0], action.copy()
    frozen.flags.writeable = False
    alike = [action.tolist(), tuple(action), action.astype(float), torch.tensor(action), strided, frozen,
             action.astype(">f4"), torch.tensor(action, dtype=torch.float64)]  # fmt: skip
    assert {stepped(one) for one in alike} == {stepped(action)}
    assert stepped([-1, 0, 1, 1]) == stepped(np.array([-1.0, 0.0, 1.0, 1.0], np.float32))
    assert stepped([1e300, -np.inf, 2.0, 0.0]) == stepped(np.array([1.0, -1.0, 1.0, 0.0], np.float32))


def test_no_kind_of_action_compiles_anew():
    from hvgym.envs import stepping

    stepped(np.zeros(VMS, np.float32))
    before = len(stepping.step.signatures)
    for one in ([0.0] * VMS, np.zeros(VMS), np.zeros((VMS, 2), np.float32)[:, 0], torch.zeros(VMS)):
        stepped(one)
    assert len(stepping.step.signatures) == before


def takers():
    """Everything that takes actions, with its shape."""
    env, batch = gym.make(ID, scenario=data()).unwrapped, gym.make_vec(ID, num_envs=3, scenario=data())
    of_sb3 = HostVecEnv(resolve(data()), 3)
    env.reset(seed=0)
    batch.reset(seed=0)
    of_sb3.reset()
    reading = Simulator(resolve(data()), 3).reset([0, 1, 2])
    return {
        "scalar": (env.step, (VMS,), env.simulator),
        "batch": (batch.step, (3, VMS), batch.simulator),
        "sb3": (of_sb3.step, (3, VMS), of_sb3.lanes.simulator),
        "targets_mib": (lambda action: features.targets_mib(action, reading), (3, VMS), None),
    }


@pytest.mark.parametrize("taker", ["scalar", "batch", "sb3", "targets_mib"])
def test_a_wrong_action_is_refused_before_anything_moves(taker):
    step, shape, sim = takers()[taker]
    before = None if sim is None else sim.vms.tobytes()
    for wrong in ((VMS - 1,), (1, VMS), (3, VMS + 1), (VMS, 3), (), (2, 2, VMS)):
        with pytest.raises(ValueError, match=r"action of shape") as told:
            step(np.zeros(wrong, np.float32))
        assert str(wrong) in str(told.value)
        assert str(shape) in str(told.value)
    action = np.zeros(shape, np.float32)
    action.flat[-2] = np.nan
    where = ", ".join(map(str, np.unravel_index(action.size - 2, shape)))
    for one in (action, action.tolist(), torch.tensor(action)):
        with pytest.raises(ValueError, match=rf"action\[{where}\] is NaN"):
            step(one)
    for nonsense in (None, "up", [[0.0], [0.0, 1.0]], {"a": 1}):
        with pytest.raises(ValueError):  # noqa: PT011 - numpy's own words among them
            step(nonsense)
    assert sim is None or sim.vms.tobytes() == before


def test_an_environment_that_has_not_been_reset_says_so():
    for env in (gym.make(ID, scenario=data()).unwrapped, gym.make_vec(ID, num_envs=2, scenario=data())):
        with pytest.raises(gym.error.ResetNeeded):
            env.step(np.zeros(env.action_space.shape))


# Targets


def apply(lanes=2, **channels):
    sim = Simulator(resolve(data()), lanes)
    sim.reset(range(lanes))
    before = sim.vms.tobytes(), sim.hosts.tobytes(), sim.vm_specs.tobytes()
    try:
        sim.apply(Targets(**channels))
    finally:
        assert (sim.vms.tobytes(), sim.hosts.tobytes(), sim.vm_specs.tobytes()) == before


OUT_OF_RANGE = [
    ("memory_mib", np.inf), ("memory_mib", -np.inf), ("reclaim_mib", np.inf), ("reclaim_mib", -1.0),
    ("reclaim_age_s", np.inf), ("reclaim_age_s", -5.0), ("scan_pages_per_s", np.inf), ("scan_pages_per_s", 2e9),
    ("scan_pages_per_s", -1.0), ("report_free_pages", 5.0), ("report_free_pages", 0.5), ("admit", 2.0), ("admit", -1.0),
    ("disk_shares", np.inf), ("disk_shares", -1.0), ("net_shares", 1e308),
]  # fmt: skip


@pytest.mark.parametrize(("channel", "value"), OUT_OF_RANGE)
def test_a_target_that_no_host_could_be_told_is_refused_and_changes_nothing(channel, value):
    given = np.ones((2, 1 if channel == "scan_pages_per_s" else VMS))
    given[1, -1] = value
    others = {"memory_mib": np.full((2, VMS), 512.0)} if channel != "memory_mib" else {}
    where = rf"targets\.{channel}\[1, {given.shape[1] - 1}\]"
    with pytest.raises(ValueError, match=where + rf"={value:g}".replace("+", r"\+")):
        apply(**{channel: given}, **others)


@pytest.mark.parametrize("channel", [channel for channel, _ in OUT_OF_RANGE])
def test_targets_of_another_shape_or_kind_are_refused_by_name(channel):
    for wrong in (np.zeros(VMS), np.zeros((2, VMS + 1)), 5.0):
        with pytest.raises(ValueError, match=rf"targets\.{channel} of shape .* expected \(2, [14]\)"):
            apply(**{channel: wrong})
    with pytest.raises(ValueError, match=rf"targets\.{channel}=.*expected an array of numbers"):
        apply(**{channel: "much"})


def test_what_is_no_targets_is_refused():
    sim = Simulator(resolve(data()))
    sim.reset([0])
    for answer in (None, np.zeros((1, VMS)), {"memory_mib": np.zeros((1, VMS))}):
        with pytest.raises(ValueError, match=rf"a decision of {type(answer).__name__}; expected Targets"):
            sim.apply(answer)


# Seeds


BIG = [2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30]


@pytest.mark.parametrize("seed", [0, 5, *BIG, np.int64(3), np.uint64(2**63 + 1), np.uint8(7)])
def test_lane_i_plays_seed_plus_i_whatever_the_integer(seed):
    batch = gym.make_vec(ID, num_envs=3, scenario=data())
    observations, _ = batch.reset(seed=seed)
    for lane in range(3):
        scalar = gym.make(ID, scenario=data()).unwrapped
        assert scalar.reset(seed=int(seed) + lane)[0].tobytes() == observations[lane].tobytes()
        assert scalar.reset(seed=type(seed)(seed))[0].tobytes() == observations[0].tobytes()


def test_long_seeds_differ_from_each_other_and_from_short_ones():
    def demand(seed):
        env = gym.make(ID, scenario=data()).unwrapped
        env.reset(seed=seed)
        return env.simulator.demand.tobytes()

    seeds = [0, 1, *BIG, 2**63 + 1, 2**64 + 1, 10**30 + 1]
    assert len({demand(seed) for seed in seeds}) == len(seeds)


def test_without_a_seed_each_episode_is_another_and_none_reseeds():
    env, batch = gym.make(ID, scenario=data()).unwrapped, gym.make_vec(ID, num_envs=2, scenario=data())
    for one in (env, batch):
        seen = []
        for seed in (None, None, 4, None, 4, None):
            one.reset(seed=seed)
            seen.append(one.simulator.demand.tobytes())
        assert len(set(seen)) == 4
        assert seen[2:4] == seen[4:6]
    assert batch.simulator.demand[0].tobytes() != batch.simulator.demand[1].tobytes()


def test_a_list_of_seeds_gives_each_lane_its_own_and_none_goes_on():
    batch, scalar = gym.make_vec(ID, num_envs=2, scenario=data()), gym.make(ID, scenario=data()).unwrapped
    batch.reset(seed=10)
    batch.reset(seed=[np.int64(3), None])
    scalar.reset(seed=11)
    scalar.reset()
    assert batch.simulator.demand[1].tobytes() == scalar.simulator.demand[0].tobytes()
    scalar.reset(seed=3)
    assert batch.simulator.demand[0].tobytes() == scalar.simulator.demand[0].tobytes()
    fresh = gym.make_vec(ID, num_envs=2, scenario=data())
    fresh.reset(seed=(1, None))
    assert fresh.simulator.demand[0].tobytes() != fresh.simulator.demand[1].tobytes()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_seeds_is_a_value_error(count):
    batch = gym.make_vec(ID, num_envs=2, scenario=data())
    with pytest.raises(ValueError, match=f"num_envs=2 but got length={count}"):
        batch.reset(seed=list(range(count)))


@pytest.mark.parametrize("seed", [-1, np.int64(-1), 1.5, "3"])
def test_what_is_no_seed_is_gymnasiums_error(seed):
    with pytest.raises(gym.error.Error, match="Seed must be"):
        gym.make(ID, scenario=data()).unwrapped.reset(seed=seed)
    batch = gym.make_vec(ID, num_envs=2, scenario=data())
    with pytest.raises((gym.error.Error, ValueError)):
        batch.reset(seed=seed)
    with pytest.raises(gym.error.Error, match="Seed must be"):
        batch.reset(seed=[0, seed])


# Wrappers


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: gym.wrappers.TimeLimit(env, 4), lambda env: gym.wrappers.RecordEpisodeStatistics(env),
        lambda env: gym.wrappers.NormalizeObservation(env), lambda env: gym.wrappers.FlattenObservation(env),
        lambda env: gym.wrappers.RescaleObservation(env, np.float32(0.0), np.float32(1.0)),
        lambda env: gym.wrappers.RescaleAction(env, np.float32(0.0), np.float32(1.0)),
        lambda env: gym.wrappers.FrameStackObservation(env, 3), lambda env: gym.wrappers.NormalizeReward(env),
        lambda env: gym.wrappers.TimeAwareObservation(gym.wrappers.TimeLimit(env, 8)), lambda env: gym.wrappers.Autoreset(env),
    ],
)  # fmt: skip
def test_scalar_wrappers_run_over_an_end(wrap):
    env = wrap(gym.make(ID, scenario=data()))
    env.reset(seed=0)
    ends = 0
    for _ in range(15):
        *_, truncated, _ = env.step(env.action_space.sample())
        ends += bool(truncated)
        if truncated and not isinstance(env, gym.wrappers.Autoreset):
            env.reset()
    assert ends >= 1


@pytest.mark.parametrize(
    "wrap",
    [
        vector_wrappers.NormalizeObservation, vector_wrappers.NormalizeReward, vector_wrappers.RecordEpisodeStatistics,
        vector_wrappers.DictInfoToList, vector_wrappers.FlattenObservation, vector_wrappers.ClipAction,
        lambda env: vector_wrappers.RescaleObservation(env, np.float32(0.0), np.float32(1.0)),
        lambda env: vector_wrappers.RescaleAction(env, np.float32(0.0), np.float32(1.0)),
    ],
)  # fmt: skip
def test_vector_wrappers_see_in_the_batch_what_they_see_in_gymnasiums_own(wrap):
    seen = []
    for env in pair(AutoresetMode.NEXT_STEP):
        wrapped, results = wrap(env), []
        results.append(wrapped.reset(seed=4))
        for action in actions(14, 3):
            results.append(wrapped.step(action)[:4])
        seen.append(results)
    for theirs, ours in zip(*seen, strict=True):
        np.testing.assert_equal(ours[0], theirs[0])
        if len(ours) == 4:
            for one, other in zip(ours[1:], theirs[1:], strict=True):
                np.testing.assert_equal(one, other)


def test_lists_of_infos_say_what_each_lane_ended_with():
    batch = gym.make_vec(ID, num_envs=2, scenario=data(), autoreset_mode="SameStep")
    wrapped = vector_wrappers.DictInfoToList(vector_wrappers.RecordEpisodeStatistics(batch))
    wrapped.reset(seed=0)
    earned = np.zeros(2)
    for action in actions(10, 2):
        _, rewards, _, _, infos = wrapped.step(action)
        earned += rewards
    for lane in range(2):
        assert infos[lane]["final_info"]["goodput"] == rewards[lane]
        assert infos[lane]["goodput"] == 0.0  # the new episode's
        assert infos[lane]["episode"]["r"] == pytest.approx(earned[lane])
        assert infos[lane]["episode"]["l"] == 10


def test_a_video_shows_every_step(tmp_path):
    pytest.importorskip("moviepy")  # RecordVideo's own requirement, and not ours
    env = gym.wrappers.RecordVideo(gym.make(ID, scenario=data(), render_mode="rgb_array"), str(tmp_path))
    env.reset(seed=0)
    for action in actions(10):
        env.step(action)
    env.close()
    assert (tmp_path / "rl-video-episode-0.mp4").stat().st_size > 1000


# Copies and processes


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("render_mode", [None, "ansi", "rgb_array"])
def test_a_copy_in_mid_episode_goes_on_alike_and_apart(clone, render_mode):
    env = gym.make(ID, scenario=data(), render_mode=render_mode)
    env.reset(seed=2)
    for action in actions(7):
        env.step(action)
    twin = clone(env)
    for action in actions(2, seed=1):
        same(env.step(action), twin.step(action))
    if render_mode is not None:
        np.testing.assert_array_equal(env.render(), twin.render())
    same(env.reset(), twin.reset())
    env.step(-np.ones(VMS, np.float32))
    twin.step(np.ones(VMS, np.float32))
    assert env.unwrapped.simulator.vms.tobytes() != twin.unwrapped.simulator.vms.tobytes()


def threaded():
    batch = gym.make_vec(ID, num_envs=4, scenario=data(), threads=2)
    batch.reset(seed=0)
    batch.step(actions(1, 4)[0])
    return batch


def test_a_batch_with_threads_can_be_copied():
    batch = threaded()
    twin = pickle.loads(pickle.dumps(batch))
    action = actions(1, 4, seed=1)[0]
    same(batch.step(action), twin.step(action))


def _step_and_send(batch, pipe):
    pipe.send(batch.step(actions(1, 4, seed=1)[0])[0])
    del batch
    gc.collect()
    pipe.send("ended")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_an_environment_that_has_used_threads_goes_on_in_a_forked_process():
    batch = threaded()
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_step_and_send, args=(batch, theirs))
    child.start()
    try:
        assert ours.poll(60), "the child hangs"
        observations = ours.recv()
        assert ours.poll(60)
        assert ours.recv() == "ended"
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()
    same(batch.step(actions(1, 4, seed=1)[0])[0], observations)


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_gymnasiums_processes_answer_as_the_batch_does_after_threads_were_used(context):
    threaded()
    batch = gym.make_vec(ID, num_envs=2, scenario=data(), threads=2)
    make = functools.partial(gym.make, "hvgym:" + ID, scenario=data())  # a spawned process knows nothing of this module
    theirs = AsyncVectorEnv([make] * 2, context=context)
    try:
        same(batch.reset(seed=6), theirs.reset(seed=6))
        for action in actions(13, 2):
            same(batch.step(action), theirs.step(action))
    finally:
        theirs.close()


# Specs, scenarios, hypervisors


def written(folder: Path) -> Path:
    """A user's folder with a scenario that names a hypervisor beside it."""
    for group, name, content in (
        ("scenario", "mine", load_group("scenario", NAME) | {"name": "mine", "hypervisor": "house", "episode_s": 50}),
        ("hypervisor", "house", load_group("hypervisor", "kvm") | {"name": "house"}),
    ):
        (folder / group).mkdir(exist_ok=True)
        (folder / group / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder / "scenario" / "mine.yaml"


GIVEN = {
    "name": lambda folder: {"scenario": NAME},
    "nothing": lambda folder: {},
    "path": lambda folder: {"scenario": str(written(folder))},
    "path object": lambda folder: {"scenario": written(folder)},
    "name in a folder": lambda folder: {"scenario": written(folder).stem, "config_dir": folder},
    "file's data": lambda folder: {"scenario": load_group("scenario", NAME) | {"hypervisor": "kvm"}},
    "whole data": lambda folder: {"scenario": data()},
    "object": lambda folder: {"scenario": load(NAME)},
    "groups by name": lambda folder: {
        "scenario": NAME, "hypervisor": "kvm", "disk": "ide", "nic": "e1000", "workload": "phases",
    },
    "groups as data": lambda folder: {
        "scenario": load(NAME), "hypervisor": load_group("hypervisor", "xen"), "disk": load_group("disk", "ide"),
        "nic": load_group("nic", "e1000"), "workload": {"kind": "phases", "episode_s": 50},
    },
}  # fmt: skip


@pytest.mark.parametrize("given", GIVEN)
def test_a_spec_goes_through_json_whatever_the_environment_was_made_with(given, tmp_path):
    keywords = GIVEN[given](tmp_path)
    env = gym.make(ID, **keywords)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert env.unwrapped.simulator.scenario == again.unwrapped.simulator.scenario
    same(env.reset(seed=4), again.reset(seed=4))
    json.dumps(env.spec.kwargs)
    batch = gym.make_vec(ID, num_envs=2, autoreset_mode=AutoresetMode.SAME_STEP, max_episode_steps=5, **keywords)
    twin = gym.make_vec(EnvSpec.from_json(batch.spec.to_json()))
    assert (twin.num_envs, twin.autoreset_mode) == (2, AutoresetMode.SAME_STEP)
    same(batch.reset(seed=4), twin.reset(seed=4))


def test_what_is_given_is_what_is_played(tmp_path):
    def played(**keywords):
        return gym.make(ID, **keywords).unwrapped.simulator.scenario

    assert played(scenario=str(written(tmp_path))).hypervisor.name == "house"
    assert played(scenario="mine", config_dir=tmp_path).duration_s == 50
    assert played(scenario=load_group("scenario", NAME) | {"hypervisor": "kvm"}).hypervisor.name == "kvm"
    chosen = played(scenario=NAME, hypervisor="xen", disk="ide", nic={**load_group("nic", "e1000")})
    expected = resolve(load_group("scenario", NAME), load_group("hypervisor", "xen"), disk=load_group("disk", "ide"),
                       nic=load_group("nic", "e1000"))  # fmt: skip
    assert chosen == expected
    assert played(scenario=load(NAME), hypervisor="xen").hypervisor == expected.hypervisor


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"scenario": "idle-giant"}, "did you mean 'idle-giants'"),
        ({"scenario": "nowhere/mine.yaml"}, r"scenario='nowhere/mine\.yaml': cannot be read \(No such file"),
        ({"scenario": 5}, "expected a name, the path of a YAML, or a group of keys"),
        ({"scenario": NAME, "hypervisor": "kwm"}, "hypervisor='kwm': unknown .did you mean 'kvm'"),
        ({"scenario": NAME, "disk": 3}, "disk=3: expected a name or a group of keys"),
        ({"scenario": NAME, "nic": {"colour": "red"}}, "unknown key 'colour'|colour: unknown key"),
        ({"scenario": NAME, "config_dir": "nowhere"}, "config_dir='nowhere': no such folder"),
        ({"scenario": NAME, "render_mode": "human_being"}, "render_mode='human_being': unknown"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*render_mode.*")
def test_a_wrong_argument_is_named_with_what_would_be_right(keywords, said):
    with pytest.raises(ValueError, match=said):
        gym.make(ID, **keywords)


def test_a_broken_file_is_named(tmp_path):
    for text in ("vms: [", "- a list"):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match="mine.yaml: (not valid YAML|expected keys and values)"):
            gym.make(ID, scenario=path)
