"""Pictures of an episode say what happened in it."""

import gymnasium as gym
import numpy as np
import pytest

import hvgym  # noqa: F401  registers the environments
from hvgym.envs import render
from hvgym.envs.history import guest_swapped_mib
from hvgym.envs.scenario import load

NAME, STEPS = "no-guest-swap-short", 120
FULL, LEAST = np.ones(4, np.float32), -np.ones(4, np.float32)


def played(render_mode, actions, name=NAME):
    env = gym.make("hvgym/Host-v1", scenario=name, render_mode=render_mode)
    env.reset(seed=5)
    for action in actions:
        env.step(action)
    return env


def part(image, panel):
    """The inside of a panel."""
    top, bottom = panel
    return image[top + 1 : bottom - 1, render.LEFT + 1 : render.RIGHT - 1]


def share_of(image, panel, colour):
    return float((part(image, panel) == colour).all(axis=-1).mean())


def test_no_mode_draws_nothing_and_keeps_nothing():
    env = played(None, [FULL])
    assert env.render() is None
    assert env.unwrapped._lanes.histories is None


def test_an_image_is_as_large_as_promised_and_never_the_same_object():
    env = played("rgb_array", [FULL] * 3)
    first, second = env.render(), env.render()
    assert first.shape == (480, 640, 3)
    assert first.dtype == np.uint8
    assert first is not second
    assert (first == second).all()


def test_what_lies_ahead_is_grey_and_what_is_played_is_not():
    env = played("rgb_array", [FULL] * (STEPS // 2))
    image = env.render()
    grey = (part(image, render.SWAP) == render.FUTURE).all(axis=(0, 2))
    assert abs(int(np.argmax(grey)) - grey.size // 2) <= 6
    assert grey[grey.size // 2 + 6 :].all()
    played_out = played("rgb_array", [FULL] * STEPS).render()
    assert share_of(played_out, render.HOST, render.FUTURE) == 0.0


def test_host_memory_is_drawn_to_scale():
    """Each VM's pixels in a column are its share of the host's RAM."""
    env = played("rgb_array", [FULL] * STEPS)
    image, sim = env.render(), env.unwrapped.simulator
    column = part(image, render.HOST)[:, -2]
    ram = sim.host_specs["ram_mib"][0, 0]
    for v, colour in enumerate(render._colours(sim.scenario)):
        rows = int((column == colour).all(axis=-1).sum())
        expected = sim.vm_signals["resident_mib"][0, v] / ram * (render.HOST[1] - render.HOST[0])
        assert rows == pytest.approx(expected, abs=2.5)


def test_balloons_and_kills_show():
    calm, squeezed = played("rgb_array", [FULL] * 60), played("rgb_array", [LEAST] * 60)
    colours = render._colours(calm.unwrapped.simulator.scenario)
    for env, inflated in ((calm, False), (squeezed, True)):
        assert (sum(share_of(env.render(), render.BALLOONS, colour) for colour in colours) > 0.1) == inflated
    assert squeezed.unwrapped.simulator.vms["oom_kills"].sum() > 0
    dead = render.SPEED_COLOURS[0]
    assert share_of(squeezed.render(), render.PROGRESS, dead) > 2.0 * share_of(calm.render(), render.PROGRESS, dead)


def test_both_kinds_of_swap_have_their_colour():
    env = played("rgb_array", [np.full(8, -0.6, np.float32)] * 60, "idle-giants-short")
    sim = env.unwrapped.simulator
    assert guest_swapped_mib(sim).sum() > 500.0
    assert share_of(env.render(), render.SWAP, render.GUEST_SWAP) > 0.05
    hosts = played("rgb_array", [FULL] * STEPS)
    assert hosts.unwrapped.simulator.vm_signals["host_swap_mib"].sum() > 100.0
    assert share_of(hosts.render(), render.SWAP, render.HOST_SWAP) > 0.05


def test_a_vm_that_has_not_arrived_is_grey_and_said_to_wait():
    env = gym.make("hvgym/Host-v1", scenario="late-arrivals", render_mode="ansi")
    env.reset(seed=0)
    assert "waits" in env.render()
    vms = env.action_space.shape[0]
    env = gym.make("hvgym/Host-v1", scenario="late-arrivals", render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(env.unwrapped._lanes.histories[0].most // 8):
        env.step(np.ones(vms, np.float32))
    assert share_of(env.render(), render.PROGRESS, render.NOT_STARTED) > 0.01


def test_a_table_has_a_row_for_each_vm_and_one_for_the_host():
    env = played("ansi", [FULL] * 3)
    lines = env.render().splitlines()
    sim = env.unwrapped.simulator
    assert lines[0].startswith("no-guest-swap-short on esxi, 0:15 of 10:00   goodput 0.")
    assert [line.split("  ")[0] for line in lines[2:]] == [*render.names(sim.scenario), "host"]
    sizes = [int(line[14:].split()[0]) for line in lines[2:-1]]
    assert sizes == [round(size) for size in sim.vm_signals["size_mib"][0]]


def test_a_second_episode_is_drawn_afresh_and_steps_beyond_the_end_are_left_out():
    env = gym.make("hvgym/Host-v1", scenario=NAME, render_mode="rgb_array").unwrapped
    env.reset(seed=5)
    first = env.render()
    for _ in range(STEPS + 5):
        env.step(FULL)
    env.render()
    env.reset(seed=5)
    assert (env.render() == first).all()


def test_every_lane_of_a_batch_has_its_picture():
    batch = gym.make_vec("hvgym/Host-v1", num_envs=2, scenario=NAME, render_mode="rgb_array")
    batch.reset(seed=5)
    alone = played("rgb_array", [])
    frames = batch.render()
    assert len(frames) == 2
    assert (frames[0] == alone.render()).all()
    for _ in range(STEPS + 3):
        batch.step(np.ones((2, 4), np.float32))
    assert not (batch.render()[0] == batch.render()[1]).all()


@pytest.mark.parametrize("name", ["arrival-wave", "java-heaps", "idle-giants"])
def test_other_scenarios_are_drawn_too(name):
    env = gym.make("hvgym/Host-v1", scenario=name, render_mode="rgb_array")
    env.reset(seed=0)
    env.step(np.zeros(len(load(name).groups), np.float32))
    assert env.render().std() > 10.0
