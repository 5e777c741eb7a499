"""The screen of an episode: it fits any terminal, says the same without colours, and its events are those that happened."""

import dataclasses
import re

import numpy as np
import pytest

from hvgym.envs.backends import simulator
from hvgym.envs.course import BLOCKS, NOTHING, Course, round_above_gib
from hvgym.envs.events import Log
from hvgym.envs.lines import length, padded, plain, short_names
from hvgym.envs.model.placement import MOVING
from hvgym.envs.scenario import Scenario, load
from hvgym.envs.screen import Screen, beside
from hvgym.envs.telemetry import Targets

SIZES = [(80, 24), (200, 50), (40, 12), (24, 6)]


def many(**host):
    """Sixty-four VMs, of which a fourth arrives late."""
    demand = {"hot_mib": 300, "warm_mib": 100, "cold_mib": 200}
    group = {"memory_mib": 1024, "min_mib": 256, "guest_swap_mib": 1024, "demand": demand}
    base = load("one-burst").to_dict()
    vms = [group | {"name": "web", "count": 48}, group | {"name": "build", "count": 16, "arrive_s": 30}]
    return Scenario.from_dict(base | {"name": "many", "episode_s": 300, "host": {"ram_mib": 40000} | host, "vms": vms})


def named(name):
    return many() if name == "many" else load(name)


def played(scenario, seconds, seed=3, ask=None):
    """The simulator after so many seconds, and its screen; ask: (second, Targets)."""
    sim = simulator(scenario)
    sim.reset([seed])
    screen = Screen(sim, 0, f"{scenario.name} under nobody")
    for now in range(0, seconds, scenario.control_interval_s):
        if ask and now == ask[0]:
            sim.apply(ask[1])
        sim.advance(scenario.control_interval_s)
        screen.note(sim)
    return sim, screen


def words(screen):
    return [event.words for event in screen.log.events]


@pytest.mark.parametrize("name", ["real-guests", "late-arrivals", "many", "storm-1g", "n-plus-one", "rack"])
def test_a_screen_fits_whatever_the_terminal(name):
    scenario = named(name)
    for seconds in (scenario.control_interval_s, min(1800, scenario.duration_s)):
        sim, screen = played(scenario, seconds)
        for width, height in SIZES:
            lines = screen.lines(sim, width, height)
            assert len(lines) <= height
            assert max(map(length, lines)) <= width
            both = beside(*(screen.lines(sim, (width - 3) // 2, height, key=False) for _ in range(2)), (width - 3) // 2)
            assert len(both) <= height
            assert max(map(length, both)) <= width


def test_nothing_of_a_screen_is_wide_or_would_move_the_cursor():
    sim, screen = played(load("storm-1g"), 900)
    text = "".join(plain(screen.lines(sim, 200, 50)))
    assert text.isprintable()
    rich_cells = pytest.importorskip("rich.cells")
    assert rich_cells.cell_len(text) == len(text)


def test_64_vms_are_all_there_on_24_lines():
    sim, screen = played(many(), 60)
    text = "\n".join(plain(screen.lines(sim, 80, 22)))
    assert all(re.search(rf"{re.escape(name)}\s", text) for name in short_names(sim.scenario))
    assert "memory" in text
    assert "build/1, build/2 and 14 more started" in text


def test_where_not_all_vms_have_room_the_slowest_are_there_and_the_others_are_counted():
    sim, screen = played(many(), 200)
    sim.vms["progress"][0] = np.linspace(1.0, 0.3, 64)
    text = "\n".join(plain(screen.lines(sim, 36, 16)))
    left, worst = re.search(r"and (\d+) more, at least (\d+)%", text).groups()
    cells = "\n".join(line for line in text.splitlines() if re.match(r"(web|build)/\d+ ", line))
    shown = [name for name in short_names(sim.scenario) if re.search(rf"{re.escape(name)}\s", cells)]
    assert len(shown) + int(left) == 64
    progress = dict(zip(short_names(sim.scenario), sim.vms["progress"][0], strict=True))
    assert max(progress[name] for name in shown) <= min(v for name, v in progress.items() if name not in shown)
    assert min(v for name, v in progress.items() if name not in shown) == pytest.approx(int(worst) / 100, abs=0.006)


def test_memory_is_told_apart_without_colour():
    """The characters of a VM's bar are the shares of its memory."""
    scenario = load("idle-giants")
    squeeze = Targets(np.where(np.arange(8) < 2, 12000.0, np.nan)[None])
    sim, screen = played(scenario, 600, ask=(0, squeeze))
    line = next(line for line in plain(screen.lines(sim, 160, 40)) if line.startswith("giant/1"))
    bar = re.match(r"giant/1\s+([█▞░○]+)", line)[1]
    vm = sim.vm_signals[0, 0]
    parts = {"█": vm["resident_mib"], "▞": vm["host_swap_mib"], "○": vm["memory_mib"] - vm["size_mib"]}
    assert parts["▞"] > 1000.0
    for mark, mib in parts.items():
        assert bar.count(mark) == pytest.approx(len(bar) * mib / vm["memory_mib"], abs=1.0)
    assert len(bar) == sum(map(bar.count, "█▞░○"))


def test_amounts_stand_beside_the_bar():
    sim, screen = played(load("idle-giants"), 300)
    lines = plain(screen.lines(sim, 100, 40))
    head = next(i for i, line in enumerate(lines) if line.startswith("VM"))
    assert re.search(r"GiB +balloon +host swap +guest swap +work", lines[head])
    amounts = re.findall(r"\s(\d+\.\d)", lines[head + 1])
    vm = sim.vm_signals[0, 0]
    expected = (vm["memory_mib"], vm["memory_mib"] - vm["size_mib"], vm["host_swap_mib"])
    assert amounts[:3] == [f"{mib / 1024:.1f}" for mib in expected]


def test_a_vm_that_waits_says_so_and_why():
    sim, screen = played(load("late-arrivals"), 700)
    line = next(line for line in plain(screen.lines(sim, 160, 40)) if line.startswith("late/2"))
    assert "wait for 100 s: no room on the host" in line
    assert "late/2 waiting: the host has no room" in words(screen)
    assert any("early/1" in said and said.endswith("started") for said in words(screen))
    assert "wait" in next(line for line in plain(screen.lines(sim, 40, 24)) if line.startswith("late/2"))


def test_a_start_that_is_kept_back_is_the_policys_and_then_has_waited():
    keep = Targets(admit=np.array([[1.0] * 4 + [0.0] * 4]))
    scenario = load("late-arrivals")
    sim = simulator(scenario)
    sim.reset([3])
    log = Log(sim)
    sim.apply(keep)
    for second in range(5, 305, 5):
        sim.advance(5)
        log.note(sim)
        if second == 200:
            sim.apply(Targets(admit=np.ones((1, 8))))
    said = {event.words: event.time_s for event in log.events}
    assert said["early/1, early/2 waiting: kept by the policy"] == 120
    assert said["early/1, early/2 started, after a wait of 1:25"] == 205


def test_every_kill_is_said_once():
    scenario = load("no-guest-swap-short")
    sim = simulator(scenario)
    sim.reset([5])
    log = Log(sim)
    least = np.asarray(sim.vm_signals["min_mib"])
    for _ in range(60):
        sim.apply(Targets(least))
        before = sim.vms["oom_kills"][0].sum()
        count = len(log.events)
        sim.advance(5)
        log.note(sim)
        said = [event.words for event in log.events[count:] if "killed: the guest ran out of memory" in event.words]
        assert bool(said) == (sim.vms["oom_kills"][0].sum() > before)
    assert sim.vms["oom_kills"].sum() > 0
    assert any(event.words.endswith("at work again, cold") for event in log.events)


def test_host_swap_and_esxis_states_are_said_when_they_begin():
    _, screen = played(load("idle-giants"), 60)
    assert words(screen)[:2] == ["host: memory state hard: it compresses and swaps", "host: begins to swap out"]
    scenario = load("idle-giants")
    host = dataclasses.replace(scenario.host, ram_mib=131072.0, overcommit=None)
    calm = dataclasses.replace(scenario, host=host)
    assert words(played(calm, 60)[1]) == []


def test_a_better_state_is_said_only_when_it_has_lasted():
    scenario = load("idle-giants")
    sim = simulator(scenario)
    sim.reset([3])
    log = Log(sim)
    said = []
    for second, state in ((5, 3), (10, 2), (15, 3), (20, 1), (50, 1), (79, 1), (80, 1)):
        said += [(second, text) for text, _ in log._of_state(0, "host", state, second)]
    assert said == [
        (5, "host: memory state hard: it compresses and swaps"),
        (80, "host: memory state clear: large pages are split"),
    ]


def test_a_failure_is_told_from_the_loss_to_the_return():
    """n-plus-one: node-1 loses its power at 1500 s."""
    sim, screen = played(load("n-plus-one"), 1800)
    machine = sim.arrays.machines[0, 1]
    said = {event.words: event.time_s for event in screen.log.events}
    assert said["node-1 is dead"] == 1510
    assert said["front/1, front/2 and 4 more down with node-1"] == 1510
    noticed = next(text for text in said if text.startswith("node-1 taken for dead"))
    assert noticed == f"node-1 taken for dead, {machine['noticed_s'] - 1500:.0f} s after it failed"
    assert said["node-1 fenced: its VMs may start elsewhere"] == np.ceil((machine["fenced_s"] + 1) / 10) * 10
    assert said["front/1, front/2 and 2 more cannot be restarted yet: the host's memory"] == 1610


def test_a_restart_is_told_with_the_host_and_the_time_until_it_is_back_at_work():
    failure = {"host": "node-4", "at_s": 100, "kind": "power", "lasts_s": 900}
    scenario = Scenario.from_dict(load("storm-1g").to_dict() | {"maintenance": [], "failures": [failure]})
    sim, screen = played(scenario, 600)
    residents = sim.arrays.residents[0, 16:]
    assert (residents["restarts"] == 1.0).all()
    for resident, name in zip(residents, ("web-4/1", "web-4/2"), strict=True):
        host = scenario.host_names[resident["host"]]
        assert any(name in text and f"restarted on {host}" in text for text in words(screen))
        back = [text for text in words(screen) if name in text and "back at work" in text]
        after_s = int(re.search(r"(\d+) s after its host failed", back[0])[1])
        assert after_s == pytest.approx(resident["slowest_recovery_s"], abs=10)


def test_moves_are_told_with_their_downtime():
    target = np.full((1, 18), np.nan)
    target[0, 0] = 2.0
    sim, screen = played(load("storm-1g"), 290, ask=(20, Targets(move_to=target)))
    resident = sim.arrays.residents[0, 0]
    assert resident["moves"] == 1
    assert "web/1 moving node-0 -> node-2" in words(screen)
    assert f"web/1 moved to node-2, {1e3 * resident['downtime_s']:.0f} ms down" in words(screen)
    assert resident["state"] != MOVING


def test_a_curve_is_drawn_to_scale():
    course = Course(load("idle-giants"))
    course.most = 8
    values = np.array([0.0, 0.5, 1.0, 0.01, 0.25])
    assert course.curve(values, 1.0, 8) == [f"{NOTHING}{BLOCKS[3]}{BLOCKS[7]}{BLOCKS[0]}{BLOCKS[1]}   "]
    assert course.curve(values, 1.0, 8, 2) == ["  █     ", "·██▁▄   "]
    assert course.curve(values, 1.0, 4) == [f"{BLOCKS[3]}{BLOCKS[7]}{BLOCKS[1]} "]


def test_a_curve_shows_what_the_host_had():
    sim, screen = played(load("idle-giants"), 300)
    signals = sim.host_signals[0, 0]
    one = np.ones(1)
    assert screen.course.used(one)[-1] == pytest.approx(1.0 - signals["available_mib"] / signals["total_mib"])
    assert screen.course.swap_mib(one)[-1] == signals["swap_used_mib"]


@pytest.mark.parametrize(
    ("mib", "gib"), [(0, 0.1), (150, 0.2), (1024, 1), (1025, 2), (6000, 10), (10240, 10), (300000, 500)]
)
def test_a_scale_is_round_and_at_least_as_much(mib, gib):
    assert round_above_gib(mib) == pytest.approx(gib)


def test_an_event_that_is_too_long_is_folded():
    _, screen = played(load("n-plus-one"), 1600)
    for event in screen.log.events:
        assert all(length(line) <= 38 for line in event.lines(38))
        assert " ".join(line[1][0] for line in event.lines(38)) == event.words


def test_a_line_is_cut_and_padded_to_its_width():
    line = [("abc", "red"), ("defgh", "")]
    assert padded(line, 5) == [("abc", "red"), ("de", ""), ("", "")]
    assert length(padded(line, 20)) == 20


def test_only_names_that_would_be_alike_are_told_apart_by_their_ends():
    names = short_names(load("noisy-disk"))
    assert names[:4] == ["datab-rese", "database", "idle", "neighbou/1"]
