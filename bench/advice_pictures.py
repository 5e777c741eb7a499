"""Pictures of an advice: how far hosts may be filled under each policy, and what VMs work with over the history against their
RAM."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hvgym.bench import drawing
from hvgym.bench.advice_facts import needed_by_host
from hvgym.bench.advice_own import OwnFleet
from hvgym.bench.looks import LIGHT, look
from hvgym.envs.fleet.evidence import LEVELS

OFFSET = {"low": 0.24, "mid": 0.0, "high": -0.24}
"""Of a level's line within a policy's row."""

MARK = {"low": "^", "mid": "o", "high": "v"}

MOST_POINTS = 700
"""Of a curve over time; more are a stretch's highest each."""


def pictures(own: OwnFleet, summary: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Figures by name, each with what it shows in words; to be made within ``drawing.style``."""
    return {
        "ratios": (ratios(summary), "safe overcommit ratio of each policy at three readings, with intervals"),
        "needed": (needed(own), "memory that VMs work with over the history, against RAM"),
    }


def ratios(summary: Mapping[str, Any]) -> Any:
    """A row a policy, in it a line a level."""
    policies = summary["policies"]
    figure, grid = drawing.new_axes((8.6, 1.5 + 0.5 * len(policies)))
    axes = grid[0, 0]
    names = list(policies)[::-1]
    for row, name in enumerate(names):
        for level, one in policies[name]["levels"].items():
            _row(axes, row + OFFSET[level], level, one, look(name).colour)
    _lines(axes, summary)
    axes.set_yticks(range(len(names)), [drawing.wrapped(name) for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("configured memory over RAM")
    axes.grid(axis="x", alpha=0.25)
    for level in LEVELS:
        axes.plot([], [], MARK[level], color=LIGHT["dim"], label=f"{level} reading of the data")
    drawing.legend_above(figure)
    return figure


def _row(axes: Any, y: float, level: str, one: Mapping[str, Any], colour: str) -> None:
    least = min(float(ratio) for ratio in one["curve"])
    lo, value, hi = (max(one[key], least) for key in ("lo", "density", "hi"))
    axes.plot([lo, hi], [y, y], color=colour, linewidth=4, alpha=0.35, solid_capstyle="butt")
    mark = MARK[level] if one["density"] > 0.0 else "<"
    axes.plot(value, y, mark, color=colour, markersize=6, markerfacecolor=colour)


def _lines(axes: Any, summary: Mapping[str, Any]) -> None:
    """Where her hosts are, and where they would be with one less."""
    top = len(summary["policies"]) - 0.42
    for value, text in ((summary["today"], "today"), (summary["n_plus_one"]["after"], "one host lost")):
        if value is not None:
            axes.axvline(value, color=LIGHT["ink"], linewidth=1, linestyle=(0, (4, 2)))
            axes.annotate(text, (value, top), xytext=(3, -8), textcoords="offset points", fontsize=8)


def needed(own: OwnFleet) -> Any:
    """Of the host that is fullest, at three readings."""
    figure, grid = drawing.new_axes((8.6, 3.4))
    axes = grid[0, 0]
    history, case = own.history, own.case
    for level, shade in zip(LEVELS, (0.45, 1.0, 0.45), strict=True):
        most = needed_by_host(own, level).max(axis=1) / 1024
        days, highest = _highest(most, history.slot_s / 86400)
        colour = LIGHT["blue"] if level == "mid" else LIGHT["sky"] if level == "low" else LIGHT["orange"]
        axes.plot(days, highest, color=colour, linewidth=1.1, alpha=max(shade, 0.8), label=f"{level} reading")
    axes.axhline(case.ram_mib / 1024, color=LIGHT["ink"], linewidth=1, linestyle=(0, (4, 2)), label="RAM of a host")
    length = own.windows.slots * history.slot_s / 86400
    for start, hard in zip(own.windows.starts, own.windows.hard, strict=True):
        begin = start * history.slot_s / 86400
        axes.axvspan(begin, begin + length, color=LIGHT["maroon"] if hard else LIGHT["green"], alpha=0.22, linewidth=0)
    axes.axvspan(-1, -1, color=LIGHT["maroon"], alpha=0.22, label="hardest windows played")
    axes.axvspan(-1, -1, color=LIGHT["green"], alpha=0.22, label="random windows played")
    axes.set_xlim(0, history.days)
    axes.set_ylim(0)
    axes.set_xlabel("days of the history")
    axes.set_ylabel(f"GiB that {'the fullest host' if case.hosts > 1 else 'the host'} needs")
    drawing.legend_above(figure)
    return figure


def _highest(values: np.ndarray, step_days: float) -> tuple[np.ndarray, np.ndarray]:
    """The highest of each of at most `MOST_POINTS` stretches, at their middles."""
    width = max(1, -(-len(values) // MOST_POINTS))
    padded = np.concatenate([values, np.full(-len(values) % width, values[-1])]).reshape(-1, width)
    return (np.arange(len(padded)) + 0.5) * width * step_days, padded.max(axis=1)
