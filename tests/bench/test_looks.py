"""Colours, marks and lines of agents: fixed by name, and told apart by those who lack a kind of cones too."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from hvgym.bench import cluster_picture, host_picture
from hvgym.bench.looks import DARK, HUES, LIGHT, PLACES, Look, look
from hvgym.envs.scenario import group_files, load

LEAST_APART = 10.0
"""In OKLab, times 100; two are just noticeable."""

VISION = {
    "all cones": np.eye(3),
    "without red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "without green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
"""Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB."""


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    """Ottosson 2020, of linear RGB."""
    cones = np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]) @ rgb
    mixed = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]
    return 100.0 * np.array(mixed) @ np.cbrt(cones)


def apart(colours, vision):
    """The two that are nearest to each other, and how far they are."""
    seen = {name: oklab(np.clip(np.array(VISION[vision]) @ linear(code), 0.0, 1.0)) for name, code in colours.items()}
    return min((float(np.linalg.norm(seen[a] - seen[b])), a, b) for a, b in itertools.combinations(seen, 2))


def luminance(colour):
    return float(np.dot(linear(colour), [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_of_agents_are_told_apart_by_everybody(theme, vision, capsys):
    colours = {name: theme[name] for name in (*HUES, "ink", "dim")}
    distance, one, other = apart(colours, vision)
    with capsys.disabled():
        print(f"\n  {vision}: {one} and {other} are nearest, {distance:.1f}")
    assert distance >= LEAST_APART


def test_one_who_lacks_green_would_mistake_plain_red_and_green():
    """That the simulation shows what it is for."""
    mistaken = {"red": "#c0504d", "green": "#8a7a3c"}
    assert apart(mistaken, "without green")[0] < LEAST_APART < apart(mistaken, "all cones")[0]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_everything_that_is_drawn_stands_out_from_the_page(theme):
    for name in (*HUES, "ink", "dim"):
        high, low = sorted((luminance(theme[name]), luminance(theme["paper"])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 3.0, name


def test_an_agent_looks_the_same_for_ever():
    assert look("proxmox") == Look("blue", "o", "-")
    assert look("proxmox_tuned") == Look("blue", "o", "-", hollow=True)
    assert look("ppo") == Look("brown", "o", "-")
    assert look("esx") == Look("brown", "s", (0, (6, 2)))
    assert look("reference") == Look("ink", "D", "-")
    assert look("stock") == Look("dim", "s", "-")
    assert look("my_policy") == Look("maroon", "P", (0, (2, 1.5)))


def test_packaged_agents_have_looks_of_their_own():
    names = sorted(group_files("agent"))
    assert len(names) > 80
    found = {}
    for name in names:
        other = found.setdefault(look(name), name)
        assert other == name
    assert len(set(PLACES)) == len(PLACES)
    assert set(PLACES) <= set(names)


def test_areas_and_hosts_keep_their_colours_on_a_dark_page():
    """A picture's colours that are those of `LIGHT` follow the page."""
    areas = {vm.colour for name in ("idle-giants", "one-burst") for vm in host_picture.vms_of(load(name).to_dict())}
    hosts = {cluster_picture.host_colour(h) for h in range(21)}
    rounded = {tuple(np.round(255 * np.array(colour)).astype(int).tolist()) for colour in areas | hosts}
    follow = {tuple(np.round(255 * np.array(to_rgb(colour))).astype(int).tolist()) for colour in LIGHT.values()}
    assert len(rounded) == len(areas | hosts)
    assert not rounded & follow
