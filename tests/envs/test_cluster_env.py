"""`hvgym/Cluster-v0`: what actions do and what observations say, against the model's counters and against rollouts.

The cluster has two hosts of 16 GiB and, beside VMs of 4 GiB, one that arrives late; host a loses power in its second minute.
"""

import copy
import functools
import json
import pickle
import re
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import hvgym  # noqa: F401  registers the environments
from hvgym.agents.policy import Policy
from hvgym.bench.rollout import rollout
from hvgym.envs import cluster_features
from hvgym.envs.cluster_env import ClusterEnv
from hvgym.envs.cluster_features import HOST_FEATURES, VM_FEATURES, may_go, move_to
from hvgym.envs.cluster_lanes import TERMS
from hvgym.envs.cluster_vector_env import ClusterVectorEnv
from hvgym.envs.errors import InputError
from hvgym.envs.features import VM_FEATURES as HOST_V0S
from hvgym.envs.host_env import HostEnv
from hvgym.envs.model.placement import (
    ABSENT,
    LOST,
    MEMORY,
    MOVING,
    RESTARTING,
    RUNNING,
    WAITING,
)
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import load, load_group, resolve
from hvgym.envs.telemetry import HOST_PLACES, VM_PLACES, Places, Targets

ID, VMS, HOSTS, STEP_S = "hvgym/Cluster-v0", 6, 2, 5
DEMAND = {"hot_mib": 800, "warm_mib": 300, "cold_mib": 200, "cache_mib": 300, "cpu_share": 0.3, "disk_mib_per_s": 1,
          "net_mib_per_s": 5}  # fmt: skip
MODES = list(AutoresetMode)


@functools.cache
def _resolved(hypervisor, rules):
    vms = {"memory_mib": 4096, "min_mib": 1024, "guest_swap_mib": 2048, "demand": DEMAND}
    data = {
        "name": "pair", "description": "", "stack": "proxmox", "episode_s": 300,
        "hosts": [{"name": "a", "ram_mib": 16384, "pcpus": 8}, {"name": "b", "ram_mib": 24576, "pcpus": 16, "clock_ghz": 3.0}],
        "vms": [vms | {"name": "web", "count": 4, "host": "a"}, vms | {"name": "db", "critical": True, "weight": 2.0, "host": "b"},
                vms | {"name": "late", "arrive_s": 30}],
    }  # fmt: skip
    return resolve(data, load_group("hypervisor", hypervisor), rules=rules).to_dict()


def data(episode_s=300, hypervisor="kvm", rules="open", **more):
    """Of `VMS` VMs, the last of which arrives at 30 s."""
    return copy.deepcopy(_resolved(hypervisor, rules)) | {"episode_s": episode_s} | more


POWER_LOSS = [{"host": "a", "at_s": 61, "kind": "power", "lasts_s": None}]


def act(sizes=1.0, **scores):
    """An action: a size for every VM, and scores by VM, as in v0=[.1, .2]; a score that is not given is 0."""
    action = np.zeros((VMS, 1 + HOSTS), np.float32)
    for name, given in scores.items():
        action[int(name[1:]), 1:] = given
    return np.concatenate([np.full(VMS, sizes, np.float32), action[:, 1:].ravel()])


def drawn(steps, lanes=None, seed=0):
    shape = (VMS * (1 + HOSTS),) if lanes is None else (lanes, VMS * (1 + HOSTS))
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (steps, *shape)).astype(np.float32)


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


def places(state, host, obstacles):
    """Of one cluster, from plain lists ``[vm]`` and ``[vm, host]``."""
    vm, hosts = np.zeros((1, len(state)), VM_PLACES), np.zeros((1, len(obstacles[0])), HOST_PLACES)
    vm["state"], vm["host"] = state, host
    return Places(vm, hosts, np.array([obstacles], np.int8))


class EqualScores(Policy):
    """Takes the place of the stack's balancing, and asks for what an action of equal scores does."""

    of_cluster = True
    period_s = 5.0
    declaration = Declaration("outside", ("move_to",), frozenset())

    def decide(self, telemetry):
        return Targets(move_to=move_to(np.zeros(telemetry.places.obstacles.shape), telemetry.places, 0.2))


# Scores


def test_a_vm_moves_only_where_another_host_beats_its_own_by_more_than_the_margin():
    told = places([RUNNING] * 4, [0, 0, 1, 0], [[0, 0, 0]] * 4)
    scores = np.array([[[0.0, 0.25, 0.0], [0.0, 0.5, 0.75], [0.5, 0.25, 0.5], [0.0, 0.26, 0.0]]])
    assert move_to(scores, told, 0.25).tolist() == [[0.0, 2.0, 1.0, 1.0]]


def test_what_is_not_allowed_is_not_chosen_whatever_its_score():
    told = places([RUNNING] * 2, [0, 0], [[0, MEMORY, 0], [0, MEMORY, MEMORY]])
    scores = np.array([[[-1.0, 1.0, -0.5], [-1.0, 1.0, 1.0]]])
    assert move_to(scores, told, 0.2).tolist() == [[2.0, 0.0]]


def test_who_waits_starts_on_the_best_allowed_host_and_who_is_lost_moving_or_absent_is_left_alone():
    states = [WAITING, RESTARTING, WAITING, LOST, MOVING, ABSENT]
    told = places(
        states, [np.nan, np.nan, np.nan, 0, 0, np.nan], [[0, 0], [0, MEMORY], [MEMORY] * 2, [0, 0], [0, 0], [0, 0]]
    )
    scores = np.array([[[-1.0, -0.9]] * 6])
    np.testing.assert_array_equal(move_to(scores, told, 0.2), [[1.0, 0.0, np.nan, np.nan, np.nan, np.nan]])
    assert may_go(told)[0].tolist() == [[True, True], [True, False]] + [[False, False]] * 4


# The environment


def test_an_episode_ends_by_truncation_and_its_rewards_are_the_rollouts_goodput():
    """Each step weighted by what was asked for in it: 5 s of weight 6, and of 7 from the arrival of the last VM on."""
    env = ClusterEnv(data(failures=POWER_LOSS))
    env.reset(seed=3)
    rewards, asked_s, sums = [], [0.0], np.zeros(len(TERMS))
    for step in range(60):
        _, reward, terminated, truncated, info = env.step(act())
        assert (terminated, truncated) == (False, step == 59)
        assert info["goodput"] == reward
        rewards.append(reward)
        asked_s.append((env.simulator.vms["asked_s"] * env.simulator.vm_specs["weight"]).sum())
        sums += list(info.values())
    played = rollout(data_of(failures=POWER_LOSS), EqualScores(), [3])
    asked = np.diff(asked_s)
    assert set(asked[:5]) == {30.0}
    assert set(asked[6:]) == {35.0}
    assert np.dot(rewards, asked) / asked.sum() == pytest.approx(played.goodput[0], rel=1e-12)
    for name in TERMS[1:]:
        if name != "balloon_moved_mib":
            assert sums[TERMS.index(name)] == pytest.approx(getattr(played, name)[0]), name
    assert played.outage_s[0] > 0.0
    assert played.goodput[0] < 0.95


def data_of(**keywords):
    return resolve(data(**keywords))


def test_scores_move_a_vm_and_a_queued_move_is_called_off_when_its_score_goes():
    """Where a stack copies one VM at a time, the rest waits."""
    given = data()
    given["stack"]["migration"]["parallel_per_cluster"] = 1
    env = ClusterEnv(given)
    observation, _ = env.reset(seed=1)
    assert observation["placement"][:, 0].tolist() == [1, 1, 1, 1, 0, 0]
    assert observation["allowed"][0].tolist() == [0, 1]
    everybody = {f"v{v}": [-1.0, 1.0] for v in range(4)}
    observation, *_ = env.step(act(**everybody))
    under_way, queued = observation["moving_to"][:4, 1], observation["vms"][:4, VM_FEATURES.index("queued")]
    assert under_way.sum() == 1
    np.testing.assert_array_equal(under_way + queued + observation["placement"][:4, 1], 1.0)
    observation, *_ = env.step(act())
    assert not observation["vms"][:, VM_FEATURES.index("queued")].any()
    moved = int((under_way + observation["placement"][:4, 1] > 0).sum())
    sums = 0.0
    for _ in range(20):
        observation, *_, info = env.step(act())
        sums += info["moved_gib"]
    assert observation["placement"][:4, 1].sum() == moved
    assert env.simulator.arrays.residents["moves"].sum() == moved < 4


def test_a_vm_that_arrives_starts_where_its_score_is_best_and_is_masked_before():
    for best, scores in ((0, [0.5, 0.4]), (1, [0.4, 0.5])):
        env = ClusterEnv(data())
        observation, _ = env.reset(seed=1)
        seen = []
        for _ in range(8):
            assert observation["vm_mask"].tolist()[:-1] == [1] * 5
            seen.append(observation["vm_mask"][-1])
            if not seen[-1]:
                assert not observation["vms"][-1].any()
                assert not any(observation[key][-1].any() for key in ("allowed", "placement", "moving_to"))
            observation, *_ = env.step(act(v5=scores))
        assert 0.0 in seen
        assert observation["placement"][-1, best] in (0.0, 1.0)
        assert observation["vm_mask"][-1] == 1.0


def test_memory_sizes_are_those_of_host_v0():
    env = ClusterEnv(data())
    env.reset(seed=1)
    for size, asked in ((1.0, 4096.0), (-1.0, 1024.0), (0.0, 2560.0)):
        env.step(act(size))
        assert env.simulator.vms["asked_mib"].tolist() == [[asked] * VMS]


def test_every_feature_is_the_signal_it_is_named_after():
    """From raw readings with numpy, while a copy is under way, a host is in maintenance and a VM has been lost."""
    plan = [{"host": "b", "from_s": 10, "deadline_s": 250, "until_s": None}]
    env = ClusterEnv(data(maintenance=plan, failures=[{"host": "a", "at_s": 72, "kind": "power", "lasts_s": None}]))
    env.reset(seed=4)
    checked, states = set(), set()
    for step in range(60):
        before = env.simulator.telemetry()
        scores = {f"v{v}": [0.0, 1.0] for v in range(4)} if step < 1 else {"v4": [1.0, 0.0]}
        observation, *_ = env.step(act(-0.5, **scores))
        now = env.simulator.telemetry()
        checked |= set(now.places.vm["state"][0].astype(int).tolist())
        states |= set(now.places.host["state"][0].astype(int).tolist())
        _compare(observation, now, before)
    assert {ABSENT, RUNNING, MOVING, RESTARTING} <= checked  # one that is lost looks as it did until that is noticed
    assert states == {0, 1}


def _compare(observation, now, before):
    vm, place, host, of_host = now.vm[0], now.places.vm[0], now.host[0], now.places.host[0]
    state = place["state"]

    def rate(after, earlier, scale):
        return np.log1p(np.maximum(after - earlier, 0.0) / STEP_S) / scale

    expected = {
        name: state == STATE for name, STATE in
        (("waiting", WAITING), ("running", RUNNING), ("moving", MOVING), ("lost", LOST), ("restarting", RESTARTING), ("refused", 6))
    }  # fmt: skip
    lost_s = np.nan_to_num(place["since_lost_s"])
    expected |= {
        "memory_share": vm["memory_mib"] / 24576.0, "min_share": np.full(VMS, 0.25), "size": vm["size_mib"] / vm["memory_mib"],
        "resident": np.minimum(vm["resident_mib"] / vm["memory_mib"], 1.0), "critical": vm["critical"],
        "disk_rate": rate(vm["disk_mib"], before.vm[0]["disk_mib"], 8.0), "weight": [0.5, 0.5, 0.5, 0.5, 1.0, 0.5],
        "cpu_share": vm["vcpus"] / 16.0, "net_rate": rate(vm["net_mib"], before.vm[0]["net_mib"], 10.0),
        "ready_rate": np.clip((vm["cpu_ready_s"] - before.vm[0]["cpu_ready_s"]) / (STEP_S * vm["vcpus"]), 0.0, 1.0),
        "pinned": np.zeros(VMS), "bytecode": np.zeros(VMS), "queued": ~np.isnan(place["wanted"]), "blocked": place["blocked"] > 0,
        "copied": np.minimum(place["copied_mib"] / 4096.0, 1.0), "remaining": np.minimum(place["remaining_mib"] / 4096.0, 1.0),
        "throttle": place["throttle"], "restarts": place["restarts"], "recovering": ~np.isnan(place["since_lost_s"]),
        "lost_for": np.minimum(lost_s / 600.0, 1.0),
    }  # fmt: skip
    assert set(VM_FEATURES) - set(expected) <= set(HOST_V0S)
    there = state != ABSENT
    for name, value in expected.items():
        found = observation["vms"][:, VM_FEATURES.index(name)]
        np.testing.assert_allclose(found, np.where(there, value, 0.0), rtol=1e-5, atol=1e-6, err_msg=name)
    up, lasts_s = of_host["state"] == 0, np.maximum(np.nan_to_num(of_host["deadline_s"]), 0.0)
    expected = {
        "available": up * host["available_mib"] / host["total_mib"], "cpu_utilisation": up * host["cpu_utilisation"],
        "net_rate": up * np.log1p(of_host["net_mib_per_s"]) / 10.0,
        "copies_rate": up * np.log1p(of_host["copies_mib_per_s"]) / 10.0,
        "outgoing": of_host["outgoing"] / 8.0, "incoming": of_host["incoming"] / 8.0, "vms": of_host["vms"] / 6.0,
        "ram_share": [16384 / 24576, 1.0], "cpu_share": [0.5, 1.0], "clock": of_host["clock_ghz"] / 8.0, "up": up,
        "link_rate": np.log1p([1192.0, 1192.0]) / 10.0, "dead": of_host["state"] == 1, "maintenance": of_host["maintenance"],
        "has_deadline": ~np.isnan(of_host["deadline_s"]), "deadline": lasts_s / 3600.0,
    }  # fmt: skip
    for name, value in expected.items():
        found = observation["hosts"][:, HOST_FEATURES.index(name)]
        np.testing.assert_allclose(found, np.broadcast_to(value, HOSTS), rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(observation["host_mask"], up)
    np.testing.assert_array_equal(observation["vm_mask"], there)
    here = np.where(np.isnan(place["host"])[:, None], 0.0, place["host"][:, None] == [0, 1])
    np.testing.assert_array_equal(observation["placement"], here)
    np.testing.assert_array_equal(observation["moving_to"], place["moving_to"][:, None] == [0, 1])
    assert observation["allowed"].tolist() == may_go(now.places)[0].tolist()


def test_reset_and_step_give_the_same_keys_of_the_same_kind():
    env = gym.make(ID, scenario=data())
    _, first = env.reset(seed=0)
    *_, later = env.step(act())
    assert list(first) == list(later) == list(TERMS)
    assert {type(value) for value in (*first.values(), *later.values())} == {np.float64}
    assert not any(first.values())


# Seats


def test_beneath_actions_from_outside_the_hypervisors_own_policy_runs_on_every_host_as_in_a_rollout():
    tight = [{"name": "a", "ram_mib": 8192, "pcpus": 8}, {"name": "b", "ram_mib": 6144, "pcpus": 8}]
    given = data(hypervisor="esxi", rules="default")
    given["hosts"] = [host | tight[i] for i, host in enumerate(given["hosts"])]
    last = {}
    rollout(resolve(given), EqualScores(), [7],
            lambda telemetry, sim: last.update(vms=sim.vms.copy(), hosts=sim.hosts.copy()))  # fmt: skip
    env = gym.make(ID, scenario=given)
    assert env.unwrapped.channels == ("move_to",)
    env.reset(seed=7)
    for _ in range(60):
        env.step(np.where(np.arange(VMS * 3) < VMS, -1.0, 0.0))  # memory sizes count for nothing here
    sim = env.unwrapped.simulator
    assert sim.vms.tobytes() == last["vms"].tobytes()
    assert sim.hosts.tobytes() == last["hosts"].tobytes()
    assert (sim.vms["balloon_moved_mib"] > 0.0).any()
    alone = ClusterEnv(given)
    alone.reset(seed=7)
    for _ in range(60):
        alone.step(act())
    assert not alone.simulator.vms["balloon_moved_mib"].any()


@pytest.mark.parametrize(
    ("hypervisor", "seat", "channels"),
    [("kvm", "outside", ("memory_mib", "move_to")), ("esxi", "outside", ("move_to",)),
     ("esxi", "inside", ("memory_mib", "move_to"))],
)  # fmt: skip
def test_channels_say_which_parts_count_and_what_a_seat_lacks_reads_nothing(hypervisor, seat, channels):
    env = ClusterEnv(data(hypervisor=hypervisor, rules="default"), seat=seat)
    assert env.channels == channels
    env.reset(seed=0)
    observation, *_ = env.step(act(-1.0))
    asked = set(env.simulator.vms["asked_mib"][0].tolist())
    assert asked == ({1024.0} if "memory_mib" in channels else {4096.0})
    reports = observation["vms"][:5, VM_FEATURES.index("reports")]
    assert (reports == (1.0 if hypervisor == "kvm" else 0.0)).all()


def test_wrong_scenarios_seats_and_margins_are_refused_on_one_line():
    with pytest.raises(InputError, match=r"scenario='idle-giants': has a host alone; play it in hvgym/Host-v1"):
        ClusterEnv("idle-giants")
    with pytest.raises(InputError, match=r"scenario='pair': is a cluster of 2 hosts; play it in hvgym/Cluster-v0"):
        HostEnv(data())
    with pytest.raises(InputError, match=r"seat='aside': choose one of inside, outside"):
        ClusterEnv(data(), seat="aside")
    for margin in (-0.1, 2.1, "much", True, np.nan):
        with pytest.raises(InputError, match=r"move_margin=.*a number from 0 to 2"):
            ClusterEnv(data(), move_margin=margin)
    with pytest.raises(InputError, match=r"render_mode='rgb_array': unknown.*known: ansi"):
        ClusterEnv(data(), render_mode="rgb_array")


@pytest.mark.parametrize("wrong", [np.zeros(VMS), np.full(VMS * 3, np.nan), "stay"])
def test_wrong_actions_are_refused(wrong):
    env = ClusterEnv(data())
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action"):
        env.step(wrong)


# Gymnasium; ``test_contract`` has the rest


def test_gymnasiums_checker_passes_with_warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for keywords in ({"scenario": data()}, {"scenario": data(hypervisor="esxi", rules="default")}):
            check_env(gym.make(ID, render_mode="ansi", **keywords).unwrapped)
            check_env(gym.make(ID, **keywords).unwrapped, skip_render_check=True)


def test_observations_stay_in_their_space_over_failures_moves_and_arrivals():
    env = ClusterEnv(data(failures=[*POWER_LOSS, {"host": "b", "at_s": 150, "kind": "crash", "lasts_s": 60}]))
    observation, _ = env.reset(seed=5)
    for action in drawn(60, seed=2):
        observation, *_ = env.step(action)
        assert env.observation_space.contains(observation)
        assert all(np.isfinite(part).all() and part.min() >= 0.0 for part in observation.values())
    assert env.simulator.arrays.residents["moves"].sum() > 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rules", ["open", "default"])
def test_a_batch_answers_as_gymnasiums_own_vector_environment_in_every_mode(mode, rules):
    """Under default rules on ESXi, whose own policy runs beneath and whose readings are 20 s old."""
    given = data(40, "kvm" if rules == "open" else "esxi", rules)
    sync = SyncVectorEnv([lambda: gym.make(ID, scenario=given)] * 3, autoreset_mode=mode)
    batch = gym.make_vec(ID, num_envs=3, scenario=given, autoreset_mode=mode)
    theirs, ours = (env.reset(seed=[5, 2**63 + 7, 11]) for env in (sync, batch))
    same(ours, theirs)
    ended = 0
    for step, action in enumerate(drawn(25, 3)):
        theirs, ours = (env.step(action) for env in (sync, batch))
        same(ours, theirs)
        ended += int(ours[3].sum())
        mask = ours[3].copy() if mode is AutoresetMode.DISABLED else np.array([False, step == 3, False])
        if mask.any():
            theirs, ours = (
                env.reset(seed=[None, 3, None], options={"reset_mask": mask.copy()}) for env in (sync, batch)
            )
            same(ours, theirs)
    assert ended >= 6


def test_threads_and_neighbours_change_nothing():
    one, many = ClusterVectorEnv(1, data()), ClusterVectorEnv(4, data(), threads=2)
    same(one.reset(seed=8)[0]["vms"][0], many.reset(seed=6)[0]["vms"][2])
    for action in drawn(30, 4):
        theirs, ours = one.step(action[2:3]), many.step(action)
        for key in ours[0]:
            same(ours[0][key][2], theirs[0][key][0])
        assert ours[1][2] == theirs[1][0]


def test_what_a_batch_hands_out_is_the_callers():
    batch = ClusterVectorEnv(2, data(15), autoreset_mode="SameStep")
    batch.reset(seed=0)
    for action in drawn(3, 2):
        results = batch.step(action)
    assert results[3].all()
    kept = copy.deepcopy(results)
    batch.step(drawn(1, 2, seed=9)[0])
    same(results, kept)


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["deepcopy", "pickle"]
)
def test_a_copy_in_mid_episode_goes_on_alike_and_apart(clone):
    env = gym.make(ID, scenario=data(hypervisor="esxi", rules="default"), render_mode="ansi")
    env.reset(seed=2)
    for action in drawn(7):
        env.step(action)
    twin = clone(env)
    for action in drawn(4, seed=1):
        same(twin.step(action), env.step(action))
    assert twin.render() == env.render()
    same(twin.reset(), env.reset())
    env.step(act(-1.0))
    assert twin.unwrapped.simulator.clock_s[0] == 0


def test_its_spec_is_plain_data_and_makes_it_anew():
    env = gym.make(
        ID, scenario=load("hot-host"), rules="default", stack="kubevirt", move_margin=np.float64(0.5), seat="outside"
    )
    text = env.spec.to_json()
    assert json.loads(text)["kwargs"]["move_margin"] == 0.5
    again = gym.make(gym.envs.registration.EnvSpec.from_json(text))
    action = np.random.default_rng(0).uniform(-1.0, 1.0, env.action_space.shape).astype(np.float32)
    for one in (env, again):
        one.reset(seed=3)
    for _ in range(6):
        results = [one.step(action) for one in (env, again)]
        same(*results)
    assert env.unwrapped.simulator.arrays.residents["moves"].sum() > 0


def test_gymnasiums_processes_answer_as_the_batch_does():
    make = functools.partial(gym.make, "hvgym:" + ID, scenario=data())
    theirs, batch = AsyncVectorEnv([make] * 2), ClusterVectorEnv(2, data())
    try:
        same(batch.reset(seed=6), theirs.reset(seed=6))
        for action in drawn(5, 2):
            same(batch.step(action), theirs.step(action))
    finally:
        theirs.close()


def test_its_table_says_where_vms_are_and_what_became_of_a_host():
    env = gym.make(ID, scenario=data(failures=POWER_LOSS), render_mode="ansi")
    env.reset(seed=1)
    env.step(act(v0=[0.0, 1.0]))
    head, columns, *lines = env.render().splitlines()
    assert head.startswith("pair on kvm   0:05")
    assert columns.split() == ["host", "memory", "GiB", "swap", "CPU", "VMs", "worst", "state"]
    a, b = (next(i for i, line in enumerate(lines) if line.startswith(f"{name} ")) for name in "ab")
    assert lines[a].endswith("  up")
    assert any("web/1  a -> b" in line for line in lines) or "web/1" in lines[b + 1]
    assert "db" in lines[b + 1]
    for _ in range(55):  # Proxmox takes it for dead after two minutes and a half
        env.step(act())
    a = next(line for line in env.render().splitlines() if line.startswith("a "))
    assert re.search(r"dead for \d+ s$", a)
    assert gym.make(ID, scenario=data()).unwrapped.render_mode is None


def test_shapes_are_said_before_anything_runs():
    env = ClusterEnv()
    vms, hosts = len(env.simulator.scenario.groups), len(env.simulator.scenario.host_names)
    assert {key: space.shape for key, space in env.observation_space.items()} == cluster_features.shapes(vms, hosts)
    assert env.action_space.shape == (vms + vms * hosts,)
