"""Goodput against SLO misses: who is beaten by nobody in both, and the picture of it."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from hvgym.agents.policy import SEES_ALL
from hvgym.bench.drawing import legend_above, new_panels, wrapped
from hvgym.bench.looks import LIGHT, look
from hvgym.bench.pictures import PANELS, SCORE_FLOOR, WIDE_IN
from hvgym.bench.summary import Table, ranking

Means = dict[str, tuple[float, float]]
"""SLO misses in seconds and goodput an episode, by agent."""


def front(means: Means) -> list[str]:
    """Agents for whom no other has as few misses and more goodput, or fewer misses and as much; fewest misses first."""
    found = list[str]()
    for agent, (_, goodput) in sorted(means.items(), key=lambda item: (item[1][0], -item[1][1])):
        if not found or goodput > means[found[-1]][1]:
            found.append(agent)
    return found


def means_of(table: Table, agents: Iterable[str]) -> dict[str, Means]:
    """Means over all scenarios under the name "", or, where one of the agents plays only a part, of each scenario."""
    cost, goodput = ({a: table.metrics[a][key].mean(axis=(1, 2)) for a in agents} for key in ("cost", "goodput"))
    if not any(np.isnan(of_it).any() for of_it in goodput.values()):
        return {"": {a: (float(cost[a].mean()), float(goodput[a].mean())) for a in goodput}}
    return {
        name: {a: (float(cost[a][i]), float(goodput[a][i])) for a in goodput if not np.isnan(goodput[a][i])}
        for i, name in enumerate(table.scenarios)
    }


def picture(summary: Mapping[str, Any], table: Table, named: Collection[str]) -> tuple[Any, list[str]]:
    """A panel for each of `means_of`, the front of those who do not see the future as a line; and who lies outside. named: agents
    that are drawn large and stand in the legend, beside those of a front."""
    agents = ranking(dict(summary))
    inside = [agent for agent in agents if summary["agents"][agent]["score_iqm"] > SCORE_FLOOR]
    panels = dict(list(means_of(table, inside).items())[:PANELS])
    fronts = {
        name: front({a: mean for a, mean in means.items() if table.sees[a] != SEES_ALL})
        for name, means in panels.items()
    }
    large = {agent for of_it in fronts.values() for agent in of_it} | set(named)
    figure, grid = new_panels(len(panels), WIDE_IN, 2.4)
    for axes, (name, means) in zip(grid, panels.items(), strict=True):
        axes.set_title(wrapped(name), fontsize=9)
        _frame(axes, max(cost for cost, _ in means.values()))
        line = {"drawstyle": "steps-post", "color": LIGHT["dim"], "linewidth": 1.4, "label": "front"}
        axes.plot(*zip(*(means[agent] for agent in fronts[name]), strict=True), **line)
        for agent in sorted(means, key=lambda one: one in large):
            style = {"markersize": 7, "label": agent} if agent in large else {"markersize": 4}
            axes.plot(*means[agent], linestyle="", **look(agent).point | style)
    figure.supxlabel("SLO misses an episode, s (square-root scale); left is better", fontsize=9)
    figure.supylabel("goodput; up is better", fontsize=9)
    legend_above(figure)
    return figure, [agent for agent in agents if agent not in inside]


def _frame(axes: Any, most_s: float) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0.0)), np.square))
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(labelsize=8)
    axes.set_xlim(0.0, 1.1 * max(most_s, 1.0))
    axes.grid(color=LIGHT["rule"], linewidth=0.6)
    axes.set_axisbelow(True)
