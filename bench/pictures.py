"""The pictures of a study that compare agents: leaderboard, scenarios, profile, learning curves (and ``front``).

Each function draws from the summary or the table and gives a figure; agents have the looks of ``looks``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hvgym.bench import statistics
from hvgym.bench.drawing import legend_above, new_axes, new_panels, wrapped
from hvgym.bench.jobs import Done
from hvgym.bench.looks import LIGHT, look
from hvgym.bench.references import ENDS
from hvgym.bench.summary import Table, in_part, ranking

SCORE_FLOOR = -1.5
"""Pictures are cut here and say so; one agent that kills its guests would squeeze all others into a corner."""

SHOWN = 8
"""More agents than this cannot be told apart as lines: the best are shown, and the references."""

WIDE_IN, DENSITY_IN, ROW_IN = 5.6, 1.8, 0.27
"""Inches: pictures, the panel of densities beside scores, an agent's row."""

PANELS = 12
"""Of pictures with one a scenario, at most."""


def shown(summary: Mapping[str, Any]) -> list[str]:
    """Agents for pictures with one line or column each, best first."""
    agents = ranking(dict(summary))
    best = [agent for agent in agents if agent not in ENDS][: SHOWN - len(ENDS)]
    return [agent for agent in agents if agent in best or agent in ENDS]


def leaderboard(summary: Mapping[str, Any]) -> Any:
    """Scores with their intervals, best first; beside them densities, where there are any."""
    agents = ranking(dict(summary))[::-1]
    dense = "capacity" in summary
    names = [wrapped(in_part(summary, agent), 30) for agent in agents]
    height = sum(ROW_IN + 0.14 * name.count("\n") for name in names) + 1.0
    figure, axes = new_axes(
        (WIDE_IN + DENSITY_IN * dense, height),
        1,
        1 + dense,
        sharey=True,
        gridspec_kw={"width_ratios": (2, 1)[: 1 + dense]},
    )
    found = [one[key] for one in summary["agents"].values() for key in ("density", "density_lo") if one.get(key)]
    least = 0.95 * min(found, default=1.0)
    for y, agent in enumerate(agents):
        _score(axes[0, 0], y, agent, summary["agents"][agent])
        if dense:
            _density(axes[0, 1], y, agent, summary["agents"][agent], least)
    axes[0, 0].set_yticks(range(len(agents)), names)
    axes[0, 0].tick_params(axis="y", length=0)
    axes[0, 0].set_ylim(-0.7, len(agents) - 0.3)
    _ends_of_scale(axes[0, 0])
    if dense:
        axes[0, 1].tick_params(axis="y", length=0)
        axes[0, 1].margins(x=0.25)
        axes[0, 1].set_xlabel("density: overcommit ratio\nat the SLO, 95 % interval")
    return figure


def _score(axes: Any, y: int, agent: str, result: Mapping[str, Any]) -> None:
    score, low, high = (max(result[key], SCORE_FLOOR) for key in ("score_iqm", "score_lo", "score_hi"))
    style = look(agent)
    axes.plot([low, high], [y, y], color=style.colour, linewidth=6, alpha=0.35, solid_capstyle="butt")
    off = score <= SCORE_FLOOR
    axes.plot(score, y, **style.point | ({"marker": "<"} if off else {}), markersize=7)
    text = f"{result['score_iqm']:.1f}, off the scale" if off else f"{result['score_iqm']:.2f}"
    axes.annotate(text, (high, y), textcoords="offset points", xytext=(8, 0), va="center_baseline", fontsize=8)


def _density(axes: Any, y: int, agent: str, result: Mapping[str, Any], least: float) -> None:
    """least: where the picture ends; a density of 0 says that not even the least ratio that was tried holds."""
    if "density" not in result:
        return
    density, low, high = (max(result[key], least) for key in ("density", "density_lo", "density_hi"))
    style = look(agent)
    axes.plot([low, high], [y, y], color=style.colour, linewidth=6, alpha=0.35, solid_capstyle="butt")
    axes.plot(density, y, **style.point | ({} if result["density"] >= least else {"marker": "<"}), markersize=7)
    text = result["density_shown"].partition(" ")[0]
    axes.annotate(text, (high, y), textcoords="offset points", xytext=(8, 0), va="center_baseline", fontsize=8)


def _ends_of_scale(axes: Any) -> None:
    for x, label in ((0.0, "stock"), (1.0, "reference")):
        axes.axvline(x, color=LIGHT["dim"], linewidth=0.8, zorder=0)
        axes.annotate(label, (x, 1.0), xycoords=("data", "axes fraction"), color=LIGHT["dim"], fontsize=8, ha="center",
                      xytext=(0, 2), textcoords="offset points")  # fmt: skip
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.1), max(high + 0.08 * (high - low), 1.2))
    axes.set_xlabel("score: interquartile mean over\nscenarios, 95 % interval over seeds")


def scenarios(summary: Mapping[str, Any], table: Table) -> Any:
    """Mean score of every agent (best first) in every scenario."""
    agents = ranking(dict(summary))
    found = [[summary["agents"][a]["scenarios"][s]["score"] for s in table.scored] for a in agents]
    scores = np.array(found, float)  # NaN where the rules refuse an agent, or its seat has no score
    width = max(WIDE_IN, 2.4 + 0.55 * len(table.scored))
    figure, grid = new_axes((width, 0.22 * len(agents) + 1.3))
    axes = grid[0, 0]
    axes.imshow(np.clip(scores, -1.0, 1.0), cmap="RdBu", vmin=-1.8, vmax=1.8, aspect="auto")
    for (y, x), score in np.ndenumerate(scores):
        if not np.isnan(score):
            cell = axes.text(x, y, score_text(score), ha="center", va="center", fontsize=8, color="black")
            cell.set_in_layout(False)  # it lies within its cell, and there may be thousands
    turned = {"rotation": 35, "ha": "left", "rotation_mode": "anchor"} if len(table.scored) > 5 else {}
    axes.set_xticks(range(len(table.scored)), table.scored, **turned)
    axes.set_yticks(range(len(agents)), agents)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    return figure


def score_text(score: float) -> str:
    """Short, for cells; without a sign where it rounds to 0."""
    return f"{round(score, 2) + 0.0:.2f}" if score > -10 else f"{score:.0f}"


def profile(table: Table, agents: Sequence[str]) -> Any:
    """Share of runs whose score passes each threshold."""
    thresholds = np.linspace(-1.0, 1.2, 221)
    figure, grid = new_axes((WIDE_IN, 3.6))
    axes = grid[0, 0]
    for i, agent in enumerate(agents):
        share, style = statistics.performance_profile(table.scores[agent], thresholds), look(agent)
        every = (4 * i % 30, 30)  # so that marks of lines that meet do not hide each other
        axes.plot(thresholds, share, **style.line | style.point, markersize=5, markevery=every, label=wrapped(agent))
    axes.set_xlabel("score τ")
    axes.set_ylabel("share of runs with score > τ")
    legend_above(figure)
    return figure


def training(done: Sequence[Done]) -> Any:
    """Learning curves, a panel a scenario and a line a training."""
    curves = {(one.job.agent["name"], one.job.scenario["name"], one.job.train_seed): one.curve for one in done}
    names = list(dict.fromkeys(scenario for _, scenario, _ in curves))[:PANELS]
    figure, panels = new_panels(len(names), WIDE_IN, 2.1)
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(wrapped(name), fontsize=9)
        for (agent, scenario, _), curve in curves.items():
            if scenario == name:
                style = look(agent)
                points = [point["steps"] / 1000 for point in curve], [point["score"] for point in curve]
                axes.plot(*points, **style.line | style.point, markersize=4, label=agent)
    legend_above(figure)
    figure.supxlabel("environment steps, thousands", fontsize=9)
    figure.supylabel("goodput on validation seeds", fontsize=9)
    return figure
