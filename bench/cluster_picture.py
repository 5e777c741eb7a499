"""The picture of an episode of a cluster: a row a VM, coloured by its host; below it the hosts' memory; what happens, in words.

Colours are Okabe and Ito's, which all can tell apart, without their red, which is left to VMs that are down. A host's number
stands in its colour where there is room, and what is neither at work nor absent is hatched, each in its own way.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hvgym.bench import marks
from hvgym.bench.cluster_timeline import COPIED, DOWN, GIVEN_UP, MAINTENANCE, WAITS, WORKS, ClusterLine
from hvgym.bench.drawing import pairs_of_panels, wrapped
from hvgym.bench.looks import LIGHT, look
from hvgym.bench.timeline import Timeline
from hvgym.envs.model.placement import DEAD, ISOLATED, STALLED, UP
from hvgym.envs.scenario import Scenario

HUES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442", "#8a7a3c")

WHITE = "#fefefe"
"""Also on a dark page, where paper is not (``drawing``)."""

LIGHTER = (0.0, 0.45, 0.7)
"""Towards white, for each further seven hosts."""

HATCHED = {
    COPIED: ("being copied", "#a0a0a0", "////"),
    DOWN: ("down", "#c1121f", "xxxx"),
    WAITS: ("not yet started", LIGHT["paper"], "---"),
    GIVEN_UP: ("given up", LIGHT["ink"], ""),
}
"""Name, colour and hatching of what a VM is."""

TALLEST_IN, ROW_IN, MEMORY_IN, COLUMN_IN, NAMES_IN = 6.0, 0.17, 1.6, 3.0, 1.2
"""Inches: all rows at most, one row, the lower panel, a column, VMs' names."""

COLUMNS = 3
"""Agents beside each other at most; more go below."""

MOST_SHAPES = 400
"""Of a kind; more become pixels, or a page would be too large."""

NUMBERED_VMS, NUMBERED_SHARE = 60, 0.05
"""Up to so many rows they are hatched, and a host's number stands in them where it lasts for such a share of the episode."""


def picture(scenario: Scenario, lines: Mapping[str, Timeline]) -> Any:
    """A figure with a column for each agent, `COLUMNS` in a row."""
    vms_in = float(np.clip(ROW_IN * len(scenario.groups), 1.5, TALLEST_IN))
    figure, pairs, columns = pairs_of_panels(len(lines), COLUMNS, (vms_in, MEMORY_IN), COLUMN_IN, NAMES_IN, 0.8, 0.7)
    for i, ((agent, line), (upper, lower)) in enumerate(zip(lines.items(), pairs, strict=True)):
        assert line.cluster is not None  # the caller's choice of scenario
        _rows(upper, line.minutes, line.cluster)
        marks.draw(upper, line)
        _memory(lower, line.minutes, line.cluster)
        _events(upper, lower, line.minutes, line.cluster, scenario.host_names)
        upper.set_title(wrapped(agent, 32), loc="left", fontweight="bold", color=look(agent).colour)
        _owners(upper, scenario if i % columns == 0 else None)
        lower.tick_params(axis="y", labelleft=i % columns == 0)
        if i % columns == 0:
            lower.set_ylabel("host memory used, %")
    legend = [*_legend(scenario), *marks.legend(list(lines.values()))]
    figure.legend(handles=legend, loc="outside lower center", ncols=1 + 2 * columns, frameon=False, fontsize=8)
    return figure


def host_colour(host: int) -> tuple[float, float, float]:
    """Of a host by its index."""
    from matplotlib.colors import to_rgb

    paler = LIGHTER[host // len(HUES) % len(LIGHTER)]
    red, green, blue = (part + paler * (1.0 - part) for part in to_rgb(HUES[host % len(HUES)]))
    return red, green, blue


def segments(minutes: np.ndarray, mode: np.ndarray, host_of: np.ndarray) -> list[tuple[float, float, int, int]]:
    """Beginning, end, mode and host of the parts of a VM's row, ``[time]``; each point stands for the time since the one before."""
    kind = np.where(mode == WORKS, host_of, -1).astype(int)
    changes = np.flatnonzero((np.diff(mode.astype(int)) != 0) | (np.diff(kind) != 0)) + 1
    edges = np.concatenate([[0.0], minutes])
    bounds = [0, *changes.tolist(), len(minutes)]
    return [(float(edges[a]), float(edges[b]), int(mode[a]), int(kind[a])) for a, b in itertools.pairwise(bounds)]


def events(minutes: np.ndarray, line: ClusterLine, names: Sequence[str]) -> list[tuple[float, str]]:
    """When hosts fail, are to be emptied, go down for that, and come back."""
    found = dict[tuple[float, str], list[str]]()
    before = np.zeros(len(names), int)
    for minute, now in zip(minutes, line.machine.astype(int), strict=True):
        for h in np.flatnonzero(now != before):
            if what := _change(int(before[h]), int(now[h])):
                found.setdefault((float(minute), what), []).append(names[int(h)])
        before = now
    return [(minute, f"{', '.join(hosts)} {what}") for (minute, what), hosts in found.items()]


def _change(before: int, now: int) -> str:
    state, serviced = now % MAINTENANCE, now >= MAINTENANCE
    if serviced and before < MAINTENANCE:
        return "to be emptied"
    if state == before % MAINTENANCE:
        return "" if serviced else "open again"
    if state == DEAD:
        return "off, serviced" if serviced else "dies"
    return {ISOLATED: "cut off", STALLED: "stalls", UP: "is back"}.get(state, "")


def _rows(axes: Any, minutes: np.ndarray, line: ClusterLine) -> None:
    vms = line.mode.shape[1]
    parts = [(v, *part) for v in range(vms) for part in segments(minutes, line.mode[:, v], line.host_of[:, v])]
    bar = {"height": 0.9 if vms <= NUMBERED_VMS else 1.0, "linewidth": 0.0}
    works = [part for part in parts if part[3] == WORKS]
    _bars(axes, works, bar | {"color": [host_colour(part[4]) for part in works]})
    for mode, (_, face, hatch) in HATCHED.items():
        shown = bar | _look(face, hatch if vms <= NUMBERED_VMS else "")  # thinner rows would be all hatching
        _bars(axes, [part for part in parts if part[3] == mode], shown)
    for v, first, last, _, host in works if vms <= NUMBERED_VMS else ():
        if last - first >= NUMBERED_SHARE * minutes[-1]:
            ink = WHITE if np.dot(host_colour(host), (0.299, 0.587, 0.114)) < 0.55 else "black"
            axes.text((first + last) / 2.0, v, str(host), fontsize=6, color=ink, ha="center", va="center_baseline")
    axes.set_xlim(0.0, float(minutes[-1]))
    axes.set_ylim(vms - 0.4, -0.6)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _look(face: str, hatch: str) -> dict[str, Any]:
    return {"facecolor": face, "edgecolor": LIGHT["dim"] if face == LIGHT["paper"] else WHITE, "hatch": hatch}


def _bars(axes: Any, parts: Sequence[tuple[int, float, float, int, int]], shown: Mapping[str, Any]) -> None:
    if parts:
        pixels = len(parts) > MOST_SHAPES
        rows, begins, ends = (np.array([part[i] for part in parts]) for i in range(3))
        axes.barh(rows, ends - begins, left=begins, rasterized=pixels, **shown)


def _memory(axes: Any, minutes: np.ndarray, line: ClusterLine) -> None:
    """A line a host; it breaks where the host is off."""
    for host, used_mib in enumerate(line.used_mib.T):
        style = ("-", "--", ":")[host // len(HUES) % len(LIGHTER)]
        axes.plot(minutes, 100.0 * used_mib / line.ram_mib[host], style, color=host_colour(host), linewidth=1.3)
    axes.set_ylim(0.0, 105.0)


def _events(upper: Any, lower: Any, minutes: np.ndarray, line: ClusterLine, names: Sequence[str]) -> None:
    """A mark in both panels, words in the lower one."""
    for minute, text in events(minutes, line, names):
        for axes in (upper, lower):
            axes.axvline(minute, color=LIGHT["ink"], linewidth=0.8, linestyle=(0, (3, 2)))
        box = {"facecolor": LIGHT["paper"], "edgecolor": "none", "alpha": 0.75, "pad": 0.5}
        lower.text(minute, 3.0, f" {wrapped(text, 28)}", fontsize=7, rotation=90, ha="right", va="bottom", bbox=box)


def _owners(axes: Any, scenario: Scenario | None) -> None:
    """Names of groups of VMs beside their rows; none without a scenario."""
    if scenario is None:
        axes.set_yticks([])
        return
    first = np.cumsum([0, *(group.count for group in scenario.vms)])
    labels = [group.name if group.count == 1 else f"{group.count} {group.name}" for group in scenario.vms]
    axes.set_yticks((first[:-1] + first[1:] - 1) / 2.0, [wrapped(label, 20) for label in labels], fontsize=8)


def _legend(scenario: Scenario) -> list[Any]:
    from matplotlib.patches import Patch

    hosts = [
        Patch(color=host_colour(h), label=wrapped(f"{h}: {name}", 18)) for h, name in enumerate(scenario.host_names)
    ]
    return hosts + [Patch(**_look(face, hatch), linewidth=0.0, label=name) for name, face, hatch in HATCHED.values()]
