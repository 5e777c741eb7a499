"""A cluster as text: what happens is said, in characters, and fits a terminal."""

import re

import numpy as np
import pytest

from hvgym.envs import cluster_view
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.lines import LONGEST_NAME
from hvgym.envs.model.placement import ABSENT, MOVING, NOWHERE
from hvgym.envs.scenario import group_files, load, load_group
from hvgym.envs.telemetry import Targets

CLUSTERS = sorted(name for name in group_files("scenario") if "hosts" in load_group("scenario", name))


def simulated(name, seconds, move=None):
    """A cluster after so many seconds; move: (VM, host, seconds before the end)."""
    sim = ClusterSimulator(load(name))
    sim.reset([3])
    sim.advance(seconds - (move[2] if move else 0))
    if move:
        targets = np.full((1, len(sim.scenario.groups)), np.nan)
        targets[0, move[0]] = move[1]
        sim.apply(Targets(move_to=targets))
        sim.advance(move[2])
    return sim


def shown(sim, height=24, width=80):
    return ["".join(text for text, _ in line) for line in cluster_view.view(sim, 0, "title", width, height)]


def line_of(sim, start):
    return next(line for line in shown(sim) if line.startswith(start))


@pytest.fixture(scope="module")
def failed():
    """Ten seconds after node-1 has lost its power, with front/1 to front/4 and batch-1 on it."""
    return simulated("n-plus-one", 1510)


def test_a_host_that_died_is_said_to_be_dead_and_nobody_to_have_noticed(failed):
    assert line_of(failed, "node-1").endswith("dead for 10 s, not noticed")
    assert line_of(failed, "node-0").endswith("  up")
    assert "█" not in line_of(failed, "node-1")


def test_vms_that_are_down_are_listed_with_their_seconds(failed):
    below = shown(failed)[shown(failed).index(line_of(failed, "not at work")) :]
    down = {line[12:].split()[0]: line for line in below if " s  down" in line}
    assert sorted(down) == ["batch-1/1", "batch-1/2", "front/1", "front/2", "front/3", "front/4"]
    assert all("10 s  down, not taken for dead yet" in line for line in down.values())


def test_a_boot_is_no_kill_and_a_kill_is_none():
    sim = simulated("n-plus-one", 1500)
    at_work, resident = sim.arrays.residents[0, 0]["row"], sim.arrays.residents[0, 0]
    vm = sim.arrays.vms[0, at_work]
    vm["down_s"] = 20.0
    assert re.search(r"!front/1 +OOM", "\n".join(shown(sim)))
    resident["recovering"] = 1.0
    assert re.search(r"~front/1 +boot", "\n".join(shown(sim)))
    resident["recovering"], vm["progress_s"] = 0.0, 0.0
    assert re.search(r"~front/1 +boot", "\n".join(shown(sim)))


def test_every_vm_stands_exactly_once_on_its_host_or_among_those_without():
    sim = simulated("n-plus-one", 1800)
    names, residents = cluster_view.short_names(sim.scenario), sim.arrays.residents[0]
    lines, here, found = shown(sim, height=60), None, {}
    for line in lines[2 : lines.index(line_of(sim, "not at work"))]:
        here = line.split()[0] if line.startswith("node-") else here
        for word in re.findall(r"[a-z][\w-]*/\d+", line):
            assert word not in found
            found[word] = here
    for v, name in enumerate(names):
        host = residents[v]["host"]
        assert found.get(name) == (None if host == NOWHERE else sim.scenario.host_names[host])
        if host == NOWHERE and residents[v]["state"] != ABSENT:
            assert any(name in line and "to be restarted" in line for line in lines)


def test_the_bar_is_the_share_of_memory_that_is_used(failed):
    signals = failed.host_signals[0, 0]
    used = 1.0 - signals["available_mib"] / signals["total_mib"]
    assert line_of(failed, "node-0").count("█") == round(cluster_view.BAR * used)
    assert f"{used * signals['total_mib'] / 1024:.0f}/40" in line_of(failed, "node-0")


def test_a_copy_is_shown_with_its_route_progress_and_what_the_target_holds_for_it():
    sim = simulated("hot-host", 65, move=(0, 1, 4))  # web/1, 12 GiB at 10 Gb/s at most
    assert sim.arrays.residents["state"][0, 0] == MOVING
    place, copy = sim.places().vm[0, 0], sim.arrays.residents["copy"][0, 0]
    sent = place["copied_mib"] / (place["copied_mib"] + place["remaining_mib"])
    speed = place["copied_mib"] / copy["elapsed_s"]
    assert 0.05 < sent < 0.95
    line = line_of(sim, "copies")
    assert line[12:].split()[:4] == ["web/1", "node-0", "->", "node-1"]
    assert f"round {int(copy['round'])} {sent:.0%} sent {speed:.0f} MiB/s" in line
    assert ">web/1" in "\n".join(shown(sim))
    held = sim.arrays.machines[0, 1]["incoming_mib"] / sim.host_signals[0, 1]["total_mib"]
    assert line_of(sim, "node-1").count("▒") == pytest.approx(cluster_view.BAR * held, abs=1.0)
    assert line_of(sim, "node-1").count("▒") > 0
    assert line_of(sim, "node-2").count("▒") == 0


@pytest.mark.parametrize(
    ("second", "words"),
    [(200, "up"), (400, "to be empty by 15:00"), (1000, "in maintenance until 30:00"), (2300, "up")],
)
def test_maintenance_is_said_until_it_ends(second, words):
    assert line_of(simulated("drain-deadline", second), "node-0").endswith(f"  {words}")


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_cluster_fits_a_terminal(name):
    sim = simulated(name, 920)
    for height, width in ((24, 80), (18, 60), (40, 120)):
        lines = shown(sim, height, width)
        assert len(lines) <= height
        assert max(map(len, lines)) <= width
    assert all(line_of(sim, f"{host} ") for host in sim.scenario.host_names)


def test_a_rack_is_shown_by_hosts_alone_with_counts():
    sim = simulated("rack", 920)
    at, progress = sim.arrays.residents["host"][0], sim.vms["progress"][0]
    for h, host in enumerate(sim.scenario.host_names):
        count, worst = line_of(sim, f"{host} ").split()[-1 - len(cluster_view.state_words(sim, 0, h).split()) - 1 :][:2]
        assert int(count) == (at == h).sum()
        assert worst == f"{progress[at == h].min():.0%}"
    assert not any(re.search(r"web/\d+ +\d+%", line) for line in shown(sim))


def test_of_more_hosts_than_lines_those_in_trouble_are_shown():
    sim = simulated("rack", 1530)  # front-3 has crashed at 1500 s
    lines = shown(sim, height=12)
    assert any(line.startswith("front-3 ") for line in lines)
    hosts = sum(line.split()[0] in sim.scenario.host_names for line in lines)
    assert f"and {16 - hosts} hosts more, up and less full" in lines


@pytest.mark.parametrize("name", CLUSTERS)
def test_short_names_are_short_and_no_two_alike(name):
    names = cluster_view.short_names(load(name))
    assert len(set(names)) == len(names) == len(load(name).groups)
    assert max(map(len, names)) <= LONGEST_NAME


def test_short_names_keep_what_tells_groups_apart():
    scenario = load("unlike-hosts")
    assert [name for name in cluster_view.short_names(scenario) if name.startswith("serv")] == [
        "service/1", "service/2", "serv-old/1", "serv-old/2", "serv-new/1", "serv-new/2",
    ]  # fmt: skip
