"""The public contract in one place, over everything that the package registers: what Gymnasium, its wrappers and vector
environments, and Stable-Baselines3 expect of an environment. Runs on every Gymnasium from 1.1 on.
"""

import copy
import functools
import gc
import multiprocessing
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as vector_wrappers
from stable_baselines3.common import env_checker as sb3

import hvgym  # noqa: F401  registers the environments
from hvgym.envs import cluster_lanes
from hvgym.envs.scenario import load
from hvgym.envs.stepping import TERMS

IDS = [name for name in gym.registry if name.startswith("hvgym/")]
ID, OF_CLUSTERS = "hvgym/Host-v1", "hvgym/Cluster-v0"
NAMES = {
    ID: ["idle-giants-short", "no-guest-swap-short", "tight-hdd", "sibling-bursts", "cache-hogs"],
    OF_CLUSTERS: [None],  # the scenario that it plays where none is named
}
CASES = [(env_id, name) for env_id in IDS for name in NAMES[env_id]]
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


@pytest.mark.parametrize(("env_id", "name"), CASES)
def test_gymnasiums_checker_passes_with_warnings_as_errors(env_id, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mode in gym.make(env_id, scenario=name).metadata["render_modes"]:
            check_env(gym.make(env_id, scenario=name, render_mode=mode).unwrapped)
        check_env(gym.make(env_id, scenario=name).unwrapped, skip_render_check=True)


@pytest.mark.parametrize(("env_id", "name"), CASES)
def test_stable_baselines3s_checker_passes_with_warnings_as_errors(env_id, name):
    """But for one: it recommends to flatten matrices, which its own MultiInputPolicy does."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*unconventional shape.*")
        sb3.check_env(gym.make(env_id, scenario=name).unwrapped)


@pytest.mark.parametrize("env_id", IDS)
def test_everything_can_be_made_alone_in_a_batch_and_under_gymnasiums_vector_environments(env_id):
    scenario, terms = (data(), TERMS) if env_id == ID else (None, cluster_lanes.TERMS)
    for render_mode in (None, *gym.make(env_id, scenario=scenario).metadata["render_modes"]):
        env = gym.make(f"hvgym:{env_id}", scenario=scenario, render_mode=render_mode)
        assert env.render_mode == render_mode
    for mode in ("sync", "vector_entry_point"):
        batch = gym.make_vec(env_id, num_envs=3, vectorization_mode=mode, scenario=scenario)
        observations, infos = batch.reset(seed=1)
        assert batch.observation_space.contains(observations)
        assert batch.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        assert set(infos) == set(terms) | {f"_{name}" for name in terms}


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_the_former_environment_says_where_it_went(make):
    with pytest.raises(gym.error.DeprecatedEnv, match="Please use `hvgym/Host-v1` instead"):
        make("hvgym/Host-v0")


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
    same(results[4], kept[4])
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
    with pytest.raises(ValueError, match=r"autoreset_mode='Next'.*known: NextStep, SameStep, Disabled"):
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
        wrapped = wrap(env)
        seen.append([wrapped.reset(seed=4), *(wrapped.step(action)[:4] for action in actions(14, 3))])
    for theirs, ours in zip(*seen, strict=True):
        np.testing.assert_equal(ours[0], theirs[0])
        if len(ours) == 4:
            for one, other in zip(ours[1:], theirs[1:], strict=True):
                np.testing.assert_equal(one, other)


def test_lists_of_infos_say_what_each_lane_ended_with():
    batch = gym.make_vec(ID, num_envs=2, scenario=data(), autoreset_mode="SameStep")
    wrapped = vector_wrappers.DictInfoToList(batch)
    wrapped.reset(seed=0)
    for action in actions(10, 2):
        _, rewards, _, _, infos = wrapped.step(action)
    for lane in range(2):
        assert infos[lane]["final_info"]["goodput"] == rewards[lane]
        assert infos[lane]["goodput"] == 0.0  # the new episode's


@pytest.mark.parametrize("mode", MODES)
def test_recorded_episodes_have_their_length_and_what_was_earned(mode):
    batch = gym.make_vec(ID, num_envs=2, scenario=data(), autoreset_mode=mode)
    wrapped = vector_wrappers.RecordEpisodeStatistics(batch)
    wrapped.reset(seed=0)
    earned = sum(wrapped.step(action)[1] for action in actions(9, 2))
    _, rewards, _, _, infos = wrapped.step(actions(1, 2, seed=1)[0])
    np.testing.assert_allclose(infos["episode"]["r"], earned + rewards)
    assert infos["episode"]["l"].tolist() == [10, 10]


def test_gymnasium_collects_a_picture_of_every_step():
    env = gym.make(ID, scenario=data(), render_mode="rgb_array_list")
    env.reset(seed=0)
    for action in actions(10):
        env.step(action)
    frames = env.render()
    assert len(frames) == 11
    assert len({frame.tobytes() for frame in frames}) == 11


def test_a_video_shows_every_step(tmp_path):
    pytest.importorskip("moviepy")  # RecordVideo's own requirement, and not ours
    env = gym.wrappers.RecordVideo(gym.make(ID, scenario=data(), render_mode="rgb_array"), str(tmp_path / "videos"))
    env.reset(seed=0)
    for action in actions(10):
        env.step(action)
    env.close()
    assert (tmp_path / "videos" / "rl-video-episode-0.mp4").stat().st_size > 1000


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
