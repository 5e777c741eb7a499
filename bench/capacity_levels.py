"""What the capacities of somebody's own VMs at low, middle and high say together: what holds whatever her data leaves open, and
what they leave undecided.

Each level is a capacity of its own, ``runs/studies/NAME-LEVEL/capacity``. Beside them ``runs/studies/NAME/capacity/capacity.json``
has for each agent the level at which its density is least; a leaderboard of study NAME shows that one.
"""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hvgym.bench.references import CLAIRVOYANT
from hvgym.bench.undecided import RECORD
from hvgym.envs.files import write_atomically

Summaries = Mapping[str, Mapping[str, Any]]
"""The contents of capacity.json by level."""


def together(summaries: Summaries) -> dict[str, Any]:
    """One summary: agents by the ratio that holds at every level, and `undecided`, lines on what depends on the level."""
    first = next(iter(summaries.values()))
    about = {key: first[key] for key in ("hypervisor", "workload", "rules", "fleets", "slo", "kills", "misses", "code")}
    everywhere = [agent for agent in first["agents"] if all(agent in one["agents"] for one in summaries.values())]
    agents = {agent: _least(summaries, agent) for agent in everywhere}
    agents = dict(sorted(agents.items(), key=lambda item: -item[1]["density"]))
    name = str(first["scenario"]).removesuffix(f"-{next(iter(summaries))}")
    refused = {agent: why for one in summaries.values() for agent, why in one["refused"].items()}
    result = about | {"scenario": f"{name} at {', '.join(summaries)}", "agents": agents, "refused": refused}
    return result | {"undecided": undecided(summaries)}


def _least(summaries: Summaries, agent: str) -> dict[str, Any]:
    """An agent's figures at the level at which its density is least, and its densities at all."""
    level = min(summaries, key=lambda one: summaries[one]["agents"][agent]["density"])
    figures = dict(summaries[level]["agents"][agent])
    of_each = {one: summary["agents"][agent]["density"] for one, summary in summaries.items()}
    return figures | {"shown": f"{figures['shown']}, {level}", "level": level, "levels": of_each}


def undecided(summaries: Summaries) -> list[str]:
    """A line for each pair of agents whose order changes between levels, one for each agent whose safe ratio does, and what to
    record; nothing where all levels agree."""
    densities = {
        agent: {level: float(summary["agents"][agent]["density"]) for level, summary in summaries.items()}
        for agent in next(iter(summaries.values()))["agents"]
        if agent not in CLAIRVOYANT and all(agent in summary["agents"] for summary in summaries.values())
    }
    lines = list[str]()
    for one, other in itertools.combinations(densities, 2):
        more = {level: densities[one][level] - densities[other][level] for level in summaries}
        if max(more.values()) > 0.0 > min(more.values()):
            lines.append(
                f"undecided by your data: which is better, {one} or {other}; ratios {_by_level(densities[one])} against "
                f"{_by_level(densities[other])}"
            )
    for agent, of_it in densities.items():
        if max(of_it.values()) > min(of_it.values()):
            least = min(of_it.values())
            safe = f"{least:.2f} holds at all of them" if least > 0.0 else "none holds at all of them"
            lines.append(f"undecided by your data: how far {agent} may go, {_by_level(of_it)}; {safe}")
    return [*lines, RECORD] if lines else []


def _by_level(densities: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.2f} at {level}" if value else f"none at {level}" for level, value in densities.items())


def write_together(summaries: Summaries, folder: Path) -> dict[str, Any]:
    """Write capacity.json of all levels; return its content."""
    summary = together(summaries)
    write_atomically(folder / "capacity.json", json.dumps(summary, indent=1, ensure_ascii=False))
    return summary
