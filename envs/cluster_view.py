"""A cluster at a moment, as text: a line a host, below it its VMs, then copies under way and VMs that are not at work.

It shows the truth, also what nobody has noticed yet. Everything is said in characters; the styles beside them (of ``rich``) only
repeat it. Where hosts and VMs do not fit into the height, hosts stand alone with counts.
"""

from collections.abc import Sequence

import numpy as np

from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.course import Course
from hvgym.envs.lines import Line, cut, heading, short_names, style_of
from hvgym.envs.model.placement import (
    DEAD,
    ISOLATED,
    LOST,
    MOVING,
    NOWHERE,
    OBSTACLES,
    REFUSED,
    RESTARTING,
    RETURNING,
    RUNNING,
    STALLED,
    UP,
    WAITING,
)
from hvgym.envs.render import clock

MODES = ("ansi",)
"""Of an environment."""

WIDTH, HEIGHT = 80, 24

LONGEST_HOST, BAR, NARROW_BAR = 12, 18, 6
"""Characters."""

WIDE_ENOUGH, CURVE_FROM, CURVE_MOST = 64, 104, 60
"""Characters of a line from which on hosts have swap and CPU beside them, and curves; and most of a curve."""

KEY = "memory: █ used ▒ held for copies · free    VMs: > copied ~ not yet back ! down"

MARKS = ("█", "blue"), ("▒", "magenta"), ("·", "dim")
"""Of a host's memory: used, held for copies, free."""


def table(sim: ClusterSimulator, lane: int) -> str:
    """The whole as plain text, as many lines as it takes."""
    scenario = sim.scenario
    title = f"{scenario.name} on {scenario.hypervisor.name}"
    lines = view(sim, lane, title, WIDTH, 3 + len(scenario.host_names) + 3 * len(scenario.groups))
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def view(sim: ClusterSimulator, lane: int, title: str, width: int = WIDTH, height: int = HEIGHT) -> list[Line]:
    """At most `height` lines of at most `width` characters."""
    lines = [heading(sim, lane, title, width), *body(sim, lane, width, height - 2), [(KEY, "dim")]]
    return [cut(line, width) for line in lines]


def body(sim: ClusterSimulator, lane: int, width: int, height: int, course: Course | None = None) -> list[Line]:
    """Hosts, VMs and what they wait for, at most `height` lines; course: where there is room, each host has its curve."""
    copies, idle = _copies(sim, lane), _not_at_work(sim, lane)
    least = min(len(copies), 2) + min(len(idle), 2)
    hosts = _hosts_with_vms(sim, lane, width, course)
    if len(hosts) + least + 1 > height:
        hosts = _hosts_with_counts(sim, lane, max(height - 1 - least, 1), width, course)
    left = height - 1 - len(hosts)
    for_copies = max(min(len(copies), left - min(len(idle), max(2, left // 2))), 0)
    lines = [_columns(sim, width, course), *hosts, *_labelled("copies", copies, for_copies, width)]
    return [*lines, *_labelled("not at work", idle, left - for_copies, width)]


def state_words(sim: ClusterSimulator, lane: int, h: int) -> str:
    """What a host does, in words."""
    machine, now_s = sim.arrays.machines[lane, h], int(sim.clock_s[lane])
    state, until = int(machine["state"]), float(machine["ends_s"])
    if machine["maintenance"] > 0.0 and state == UP:
        return (
            f"to be empty by {clock(int(machine['deadline_s']))}" if machine["deadline_s"] > 0.0 else "in maintenance"
        )
    if machine["maintenance"] > 0.0 and state == DEAD:
        return f"in maintenance until {clock(int(until))}" if np.isfinite(until) else "in maintenance"
    if state == UP:
        return "up"
    if state == RETURNING:
        return f"returning, up at {clock(int(until))}"
    words = {DEAD: "dead", ISOLATED: "isolated", STALLED: "stalled"}[state]
    unseen = ", not noticed" if machine["noticed_s"] < 0.0 else ""
    return f"{words} for {max(now_s - int(machine['since_s']), 0)} s{unseen}"


def _hosts_with_vms(sim: ClusterSimulator, lane: int, width: int, course: Course | None) -> list[Line]:
    names, residents = short_names(sim.scenario), sim.arrays.residents[lane]
    cells = [_cell(sim, lane, v, name, max(map(len, names))) for v, name in enumerate(names)]
    a_line = max(1, (width - 2) // (len(cells[0][0]) + 1))
    lines = list[Line]()
    for h in range(len(sim.scenario.host_names)):
        lines.append(_host(sim, lane, h, width, course))
        here = [cells[v] for v in np.flatnonzero(residents["host"] == h)]
        for first in range(0, len(here), a_line):
            lines.append([("  ", ""), *((f"{text} ", style) for text, style in here[first : first + a_line])])
    return lines


def _hosts_with_counts(sim: ClusterSimulator, lane: int, most: int, width: int, course: Course | None) -> list[Line]:
    """Hosts alone; where not all have room, those that are not up and the fullest."""
    hosts = range(len(sim.scenario.host_names))
    shown = list(hosts)
    if len(shown) > most:
        full = _used_share(sim, lane)
        worst = sorted(hosts, key=lambda h: (sim.arrays.machines["state"][lane, h] == UP, -full[h]))
        shown = sorted(worst[: most - 1])
    lines = [_host(sim, lane, h, width, course) for h in shown]
    if len(shown) < len(hosts):
        rest = len(hosts) - len(shown)
        lines.append([(f"and {rest} hosts more, up and less full" if shown else f"{rest} hosts", "dim")])
    return lines


def _used_share(sim: ClusterSimulator, lane: int) -> np.ndarray:
    signals = sim.host_signals[lane]
    return np.asarray(1.0 - signals["available_mib"] / signals["total_mib"])


def _columns(sim: ClusterSimulator, width: int, course: Course | None) -> Line:
    """Heads of the hosts' columns."""
    until_now = f" {'memory until now':<{_curve_width(width, course)}}" if _curve_width(width, course) else ""
    memory = f"{'host':<{_name_width(sim)}} {'memory':<{_bar_width(width)}}{until_now} {'GiB':>{_gib_width(sim)}}"
    return [(f"{memory}{' swap  CPU' if width >= WIDE_ENOUGH else ''} VMs worst  state", "dim")]


def _bar_width(width: int) -> int:
    return BAR if width >= WIDE_ENOUGH else NARROW_BAR


def _curve_width(width: int, course: Course | None) -> int:
    """Characters of a host's memory until now; 0 where it has no place."""
    return min(width - CURVE_FROM + BAR, CURVE_MOST) if course is not None and width >= CURVE_FROM else 0


def _name_width(sim: ClusterSimulator) -> int:
    return min(max(map(len, sim.scenario.host_names)), LONGEST_HOST)


def _gib_width(sim: ClusterSimulator) -> int:
    return 2 * len(f"{sim.host_specs['ram_mib'].max() / 1024:.0f}") + 1


def _host(sim: ClusterSimulator, lane: int, h: int, width: int, course: Course | None) -> Line:
    """Memory, swap, CPU, number of VMs, the least progress of one, and the state."""
    machine = sim.arrays.machines[lane, h]
    name = f"{sim.scenario.host_names[h][:LONGEST_HOST]:<{_name_width(sim)}} "
    there = sim.vms["progress"][lane][sim.arrays.residents["host"][lane] == h]
    worst = float(there.min()) if len(there) else 1.0
    count = f" {len(there):3d} ", (f"{worst:5.0%}" if len(there) else f"{'-':>5}")
    style = "bold red" if machine["state"] != UP else "yellow" if machine["maintenance"] > 0.0 else "green"
    state = f"  {state_words(sim, lane, h)}", style
    if machine["state"] in (DEAD, RETURNING):
        gone = f" {'-':>4} {'-':>4}" if width >= WIDE_ENOUGH else ""
        blank = f"{'':<{_bar_width(width)}}", f" {'-':>{_gib_width(sim)}}{gone}{''.join(count)}"
        return [(name, "bold"), (blank[0], ""), *_curve(sim, lane, h, width, course), (blank[1], "dim"), state]
    memory, figures = _memory(sim, lane, h, width)
    line = [(name, "bold"), *memory, *_curve(sim, lane, h, width, course), (f"{figures}{count[0]}", "")]
    return [*line, (count[1], style_of(worst)), state]


def _memory(sim: ClusterSimulator, lane: int, h: int, width: int) -> tuple[Line, str]:
    """A bar of a host's memory, and the figures beside it."""
    machine, signals, wide = sim.arrays.machines[lane, h], sim.host_signals[lane, h], _bar_width(width)
    total_mib = float(signals["total_mib"])
    held_mib = min(float(machine["incoming_mib"]), total_mib)
    used_mib = max(total_mib - float(signals["available_mib"]) - held_mib, 0.0)
    edges = np.round(np.cumsum([0.0, used_mib, held_mib, total_mib]) / total_mib * wide).clip(0, wide).astype(int)
    bar = [(mark * int(b - a), colour) for (mark, colour), a, b in zip(MARKS, edges[:-1], edges[1:], strict=True)]
    gib = f"{(used_mib + held_mib) / 1024:.0f}/{total_mib / 1024:.0f}"
    others = f" {signals['swap_used_mib'] / 1024:4.1f} {signals['cpu_utilisation']:4.0%}"
    return bar, f" {gib:>{_gib_width(sim)}}{others if width >= WIDE_ENOUGH else ''}"


def _curve(sim: ClusterSimulator, lane: int, h: int, width: int, course: Course | None) -> Line:
    """A host's memory until now, where there is room."""
    if course is None or not (wide := _curve_width(width, course)):
        return []
    alone = np.zeros(len(sim.scenario.host_names))
    alone[h] = 1.0
    return [(f" {course.curve(course.used(alone), 1.0, wide)[0]}", "blue")]


def _cell(sim: ClusterSimulator, lane: int, v: int, name: str, width: int) -> tuple[str, str]:
    resident, vm = sim.arrays.residents[lane, v], sim.arrays.vms[lane, sim.arrays.residents[lane, v]["row"]]
    progress = float(vm["progress"])
    if resident["state"] == LOST:
        return f"!{name:<{width}} lost", "bold red"
    if vm["down_s"] > 0.0:
        boots = resident["recovering"] > 0.0 or vm["progress_s"] == 0.0  # else it was killed for want of memory
        return f"{'~' if boots else '!'}{name:<{width}} {'boot' if boots else ' OOM'}", "bold red"
    mark = ">" if resident["state"] == MOVING else "~" if resident["recovering"] > 0.0 else " "
    return f"{mark}{name:<{width}} {progress:4.0%}", style_of(progress)


def _copies(sim: ClusterSimulator, lane: int) -> list[tuple[str, str]]:
    """A line each: who, from where to where, how far, how fast (the mean since it began)."""
    names, hosts, places = short_names(sim.scenario), sim.scenario.host_names, sim.places().vm[lane]
    lines, width = list[tuple[str, str]](), max(map(len, names))
    for v in np.flatnonzero(sim.arrays.residents["state"][lane] == MOVING):
        resident, place = sim.arrays.residents[lane, v], places[v]
        copy = resident["copy"]
        sent_mib, left_mib = float(place["copied_mib"]), float(place["remaining_mib"])
        sent = sent_mib / max(sent_mib + left_mib, 1.0)
        route = f"{hosts[int(resident['source'])]} -> {hosts[int(resident['target'])]}"
        speed = sent_mib / max(float(copy["elapsed_s"]), 1.0)
        words = f"{names[v]:<{width}}  {route}  round {int(copy['round'])} {sent:.0%} sent {speed:.0f} MiB/s"
        if resident["disk_left_mib"] > 0.0:
            words += f"  disk {resident['disk_left_mib'] / 1024:.1f} GiB left"
        elif copy["throttle"] > 0.0:
            words += f"  slowed {copy['throttle']:.0%}"
        lines.append((words, "magenta"))
    return lines


def _not_at_work(sim: ClusterSimulator, lane: int) -> list[tuple[str, str]]:
    """VMs that are lost, wait for a start, or are not back at work since their host failed; for how long, and why."""
    names, hosts, residents = short_names(sim.scenario), sim.scenario.host_names, sim.arrays.residents[lane]
    now_s, found, width = float(sim.clock_s[lane]), list[tuple[float, str, str]](), max(map(len, names))
    for v, resident in enumerate(residents):
        state = int(resident["state"])
        since_s = now_s - float(resident["arrive_s" if state == WAITING else "lost_at_s"])
        why = "" if resident["blocked"] == 0 else f": {OBSTACLES[int(resident['blocked'])]}"
        tries = f", {int(resident['tries'])} tries" if resident["tries"] > 1.0 else ""
        words = {
            LOST: "down, not taken for dead yet",
            RESTARTING: f"to be restarted{tries}{why}",
            WAITING: f"waits for its start{why}",
            REFUSED: f"given up{tries}{why}",
        }.get(state, "")
        if state in (RUNNING, MOVING) and resident["recovering"] > 0.0 and resident["host"] != NOWHERE:
            words = f"started on {hosts[int(resident['host'])]}, not yet back at half of its work"
        if words:
            found.append((since_s, f"{names[v]:<{width}} {since_s:5.0f} s  {words}", "red"))
    return [(text, style) for _, text, style in sorted(found, key=lambda one: -one[0])]


def _labelled(label: str, lines: Sequence[tuple[str, str]], most: int, width: int) -> list[Line]:
    """A part with its name at the left, no longer than so many lines."""
    if most <= 0 or not lines:
        return []
    shown = list(lines[: most if len(lines) <= most else most - 1])
    if len(shown) < len(lines):
        shown.append((f"and {len(lines) - len(shown)} more", "dim"))
    if width < WIDE_ENOUGH:
        return [[("  ", ""), line] for line in shown]
    return [[(f"{label if i == 0 else '':<12}", "bold"), line] for i, line in enumerate(shown)]
