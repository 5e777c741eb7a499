"""What a user may hand over: actions, targets, seeds, and what an environment is made of. Right in any form, or refused with
one line that says where and what would be right.
"""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

import hvgym  # noqa: F401  registers the environments
from hvgym.agents.learned.seeing import Acting
from hvgym.agents.learned.vec_env import HostVecEnv
from hvgym.envs import features, stepping
from hvgym.envs.scenario import load, load_group, resolve
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

ID, NAME, VMS = "hvgym/Host-v1", "no-guest-swap-short", 4


def data():
    """A scenario of 10 steps."""
    return load(NAME).to_dict() | {"episode_s": 50}


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
    stepped(np.zeros(VMS, np.float32))
    before = len(stepping.step.signatures)
    for one in ([0.0] * VMS, np.zeros(VMS), np.zeros((VMS, 2), np.float32)[:, 0], torch.zeros(VMS)):
        stepped(one)
    assert len(stepping.step.signatures) == before


def takers():
    """Everything that takes actions, with its shape."""
    env, batch = gym.make(ID, scenario=data()).unwrapped, gym.make_vec(ID, num_envs=3, scenario=data())
    of_sb3 = HostVecEnv([resolve(data())], 3, Acting())
    env.reset(seed=0)
    batch.reset(seed=0)
    of_sb3.reset()
    reading = Simulator(resolve(data()), 3).reset([0, 1, 2])
    return {
        "scalar": (env.step, (VMS,), env.simulator),
        "batch": (batch.step, (3, VMS), batch.simulator),
        "sb3": (of_sb3.step, (3, VMS), of_sb3.parts[0].simulator),
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
    ("disk_shares", np.inf), ("disk_shares", -1.0), ("net_shares", 1e308), ("limit_mib", np.inf), ("limit_mib", -1.0),
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
    assert env.reset(seed=4)[0].tobytes() == again.reset(seed=4)[0].tobytes()
    json.dumps(env.spec.kwargs)
    batch = gym.make_vec(ID, num_envs=2, autoreset_mode=AutoresetMode.SAME_STEP, max_episode_steps=5, **keywords)
    twin = gym.make_vec(EnvSpec.from_json(batch.spec.to_json()))
    assert (twin.num_envs, twin.autoreset_mode) == (2, AutoresetMode.SAME_STEP)
    assert batch.reset(seed=4)[0].tobytes() == twin.reset(seed=4)[0].tobytes()


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
        ({"scenario": "nowhere/mine.yaml"}, r"nowhere/mine\.yaml: cannot be read \(No such file"),
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
        with pytest.raises(ValueError, match=r"mine\.yaml(:\d+:\d+)?: (not valid YAML|expected keys and values)"):
            gym.make(ID, scenario=path)


@pytest.mark.parametrize(
    "given",
    [np.ma.masked_all(8), np.ones(8) * 1j, ["0.5"] * 8, {"a": 1}, torch.ones(8, requires_grad=True), [None] * 8],
    ids=["masked", "complex", "text", "dict", "needs gradients", "None"],
)
def test_what_is_no_plain_number_is_refused(given):
    env = gym.make(ID, scenario="idle-giants-short", disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="expected numbers in"):
        env.unwrapped.step(given)


@pytest.mark.parametrize(("name", "count"), [("num_envs", 0), ("num_envs", 1.5), ("threads", "a"), ("threads", 0)])
def test_a_batch_of_nothing_is_refused(name, count):
    with pytest.raises(ValueError, match=f"{name}="):
        gym.make_vec(ID, **({"num_envs": 2} | {name: count}))


def test_a_picture_before_the_first_reset_is_refused_as_gymnasium_does():
    env = gym.make(ID, scenario="idle-giants-short", render_mode="rgb_array")
    with pytest.raises(gym.error.ResetNeeded):
        env.unwrapped.render()


def test_a_number_out_of_proportion_is_refused():
    plain = load("idle-giants-short").to_dict()
    plain["vms"][0]["weight"] = 1e308
    with pytest.raises(ValueError, match=r"weight=1e\+308: must be at most 1e\+15 in size"):
        gym.make(ID, scenario=plain)
