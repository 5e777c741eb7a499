"""Where somebody's own data cannot tell policies apart: their order at the low, middle and high reading of what VMs need differs.

A study of a table plays it at three levels (``envs.fleet.evidence``), a scenario each, named NAME-low, NAME-mid and NAME-high. Two
policies whose order by goodput is not the same at all of them are undecided by the data, however many seeds are played: seeds are
windows of time, and the levels are what is not known of the VMs in every one of them.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hvgym.bench.references import CLAIRVOYANT

SMALLEST_DIFFERENCE = 0.001
"""Of goodput, below which two policies are alike at a level (a guess: half a minute of a VM in eight hours)."""

MOST_LINES = 6

RECORD = (
    "what would decide it: the guests' usable (available) memory, major faults or swap traffic, and memory pressure (PSI), "
    "recorded for two weeks"
)


def lines(goodput: Mapping[str, np.ndarray], scenarios: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each pair of agents whose order changes, and what to record; nothing where no table is played at several levels.

    goodput: ``[scenario, train_seed, eval_seed]`` by agent, NaN where it does not play.
    """
    agents = [agent for agent in goodput if agent not in CLAIRVOYANT]
    found = list[str]()
    for name, places in levels_of(scenarios).items():
        for one, other in itertools.combinations(agents, 2):
            means = {level: float(goodput[one][i].mean() - goodput[other][i].mean()) for level, i in places.items()}
            if max(means.values()) > SMALLEST_DIFFERENCE and min(means.values()) < -SMALLEST_DIFFERENCE:
                shown = ", ".join(f"{mean:+.4f} at {level}" for level, mean in means.items())
                found.append(f"undecided by your data, {name}: {one} less {other} in goodput is {shown}")
    if len(found) > MOST_LINES:
        found[MOST_LINES:] = [f"undecided by your data: {len(found) - MOST_LINES} more pairs"]
    return [*found, RECORD] if found else []


def levels_of(scenarios: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Places of the scenarios that are levels of one, by its name and the level."""
    found = dict[str, dict[str, int]]()
    for place, scenario in enumerate(scenarios):
        work = scenario.get("workload", {})
        level = work.get("level")
        if work.get("kind") == "history" and scenario["name"].endswith(f"-{level}"):
            found.setdefault(scenario["name"].removesuffix(f"-{level}"), {})[level] = place
    return {name: places for name, places in found.items() if len(places) > 1}
