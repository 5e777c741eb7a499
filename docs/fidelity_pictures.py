"""Pictures of docs/fidelity.md: progress of both worlds, and time lines of one over the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hvgym.bench.fidelity_figures import NEAR
from hvgym.bench.looks import COLOURS, look

ACCEPTED = "#f7e3dc"
SHOWN, SMOOTH_S, DPI = 3, 5, 100
"""Policies in a picture of time lines; seconds over which real progress is averaged, which is the model's interval."""


def progress(path: Path, kept: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Measured against modelled, a panel a scenario, with the band that counts as near."""
    figure = Figure((3.4 * len(kept), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (scenario, by_policy) in zip(figure.subplots(1, len(kept), squeeze=False)[0], kept.items(), strict=True):
        ends = np.array([0.0, 1.02])
        axes.fill_between(ends, ends - NEAR, ends + NEAR, color=ACCEPTED, linewidth=0)
        low = 1.0
        for name, found in by_policy.items():
            real, got = [one["progress"] for one in found], model[scenario][name]["progress"]
            axes.plot(real, [got] * len(real), linestyle="-", linewidth=0.8, label=name, **look(name).point)
            low = min(low, got, *real)
        axes.set_xlim(low - 0.05, 1.02)
        axes.set_ylim(low - 0.05, 1.02)
        axes.set_title(scenario, fontsize=9, loc="left")
        axes.set_xlabel("progress, real")
        axes.set_ylabel("model")
        axes.legend(fontsize=6, frameon=False, loc="lower right")
    figure.savefig(path, dpi=DPI)


def shown(kept: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """The best, the worst and one between, by real progress."""
    ordered = sorted(kept, key=lambda name: -np.mean([one["progress"] for one in kept[name]]))
    places = dict.fromkeys((0, len(ordered) // 2, len(ordered) - 1))
    return [ordered[place] for place in places][:SHOWN]


def timelines(path: Path, kept: Mapping[str, list[dict[str, Any]]], model: Mapping[str, Any]) -> None:
    """A column a policy; above progress, below sizes, a colour a VM; real solid, the model dashed."""
    names = shown(kept)
    figure = Figure((3.8 * len(names), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(names), squeeze=False, sharex=True, sharey="row")
    for column, name in enumerate(names):
        real, one = kept[name][0], model[name]
        for vm, colour in zip(real["by_vm"], COLOURS, strict=False):
            index = list(real["by_vm"]).index(vm)
            for world, dash in ((real, "-"), (one, "--")):
                done = _smooth(np.asarray(world["seconds"], dtype=float)[:, index])
                grid[0, column].plot(SMOOTH_S * (np.arange(len(done)) + 0.5), done, dash, color=colour, linewidth=1.2)
                rows = [row for row in world["rows"] if row["vm"] == vm and row["size_mib"] is not None]
                label = vm if dash == "-" else None
                times, sizes = [row["time_s"] for row in rows], [row["size_mib"] for row in rows]
                grid[1, column].plot(times, sizes, dash, color=colour, linewidth=1.2, label=label)
        grid[0, column].set_title(name, fontsize=9, loc="left")
        grid[1, column].set_xlabel("seconds")
    grid[0, 0].set_ylabel("progress (real —, model – –)")
    grid[1, 0].set_ylabel("size, MiB")
    figure.legend(
        *grid[1, 0].get_legend_handles_labels(),
        fontsize=7,
        frameon=False,
        loc="outside upper right",
        ncols=len(COLOURS),
    )
    figure.savefig(path, dpi=DPI)


def _smooth(seconds: Sequence[float] | np.ndarray) -> np.ndarray:
    """Means over `SMOOTH_S`."""
    whole = len(seconds) // SMOOTH_S * SMOOTH_S
    return np.asarray(seconds)[:whole].reshape(-1, SMOOTH_S).mean(axis=1)
