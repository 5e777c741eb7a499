"""The report of a study: one HTML file that needs nothing else, and its pictures as PNG beside it.

It is drawn from the finished jobs alone: neither policies nor networks are imported, built or played.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hvgym.bench import cluster_picture, density_column, drawing, front, host_picture, pictures, stopping
from hvgym.bench.jobs import Done, job_file
from hvgym.bench.page import Pictures, page
from hvgym.bench.protocol import Protocol
from hvgym.bench.references import NothingScoredError
from hvgym.bench.study import read_study
from hvgym.bench.summary import Table, summarise, tabulate
from hvgym.bench.timeline import Timeline
from hvgym.bench.unscored import write_unscored
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.envs.scenario import Scenario


def write_report(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """Write summary.json, report.html and the pictures of a finished study; return the summary and the files. Where nothing can be
    scored there are no pictures (``unscored``)."""
    protocol, done = read_study(folder)
    try:
        table = tabulate(protocol, done)
    except NothingScoredError:
        return write_unscored(folder, protocol, done)
    summary = summarise(protocol, table)
    density_column.add_density(summary, folder)
    stopping.add_decisions(summary, folder)
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1))
    with drawing.style():
        figures, off = _figures(summary, table, done)
        scenario, lines = pictured(protocol), _lines(protocol, done, folder, pictures.shown(summary))
        top_gib = host_picture.highest_gib(line for _, line in lines.values())
        figures["timeline"] = _episode(scenario, {agent: line for agent, (_, line) in lines.items()}, top_gib)
        for name, figure in figures.items():
            write_atomically(folder / f"{name}.png", drawing.png(figure))
        shown = {name: drawing.svg(figure, name, ALT[name]) for name, figure in figures.items() if name in ALT}
        episode = [_of_agent(scenario, agent, *found, top_gib) for agent, found in lines.items()]
    beside = Pictures(
        shown, scenario["name"], episode, cluster=bool(scenario.get("hosts")), off=off,
        recorded=all(line.killed is not None for _, line in lines.values()),
    )  # fmt: skip
    write_atomically(folder / "report.html", page(protocol, summary, beside))
    files = [folder / name for name in ("report.html", "summary.json", "results.csv")]
    return summary, files + [folder / f"{name}.png" for name in figures]


ALT = {
    "leaderboard": "scores of agents with their intervals",
    "pareto": "goodput over SLO misses of each agent",
    "profile": "share of runs above each score, by agent",
    "training": "goodput on validation seeds over training steps",
}
"""What the page shows of the pictures, in words; scores by scenario are a table there, an episode a picture an agent."""


def _figures(summary: Mapping[str, Any], table: Table, done: Sequence[Done]) -> tuple[dict[str, Any], list[str]]:
    """By name; and the agents that lie outside the picture of the front."""
    best = pictures.shown(summary)
    pareto, off = front.picture(summary, table, best)
    figures = {
        "leaderboard": pictures.leaderboard(summary),
        "scenarios": pictures.scenarios(summary, table),
        "profile": pictures.profile(table, best),
        "pareto": pareto,
    }
    if curves := [result for result in done if result.curve]:
        figures["training"] = pictures.training(curves)
    return figures, off


def pictured(protocol: Protocol) -> Mapping[str, Any]:
    """The scenario of which an episode is drawn: the first in which a host fails, or else the first."""
    return next((scenario for scenario in protocol.scenarios if scenario.get("failures")), protocol.scenarios[0])


def _lines(
    protocol: Protocol, done: Sequence[Done], folder: Path, agents: Sequence[str]
) -> dict[str, tuple[Done, Timeline]]:
    """One episode under each of these agents, of the first job that played it."""
    name = pictured(protocol)["name"]
    first = {one.job.agent["name"]: one for one in reversed(done) if one.job.scenario["name"] == name}
    return {agent: (first[agent], _timeline(first[agent], folder)) for agent in agents if agent in first}


def _episode(scenario: Mapping[str, Any], lines: Mapping[str, Timeline], top_gib: float) -> Any:
    """Who was where on which host, or on a host alone memory sizes and progress."""
    if lines and all(line.cluster is not None for line in lines.values()):
        return cluster_picture.picture(Scenario.from_dict(scenario), lines)
    return host_picture.picture(scenario, lines, top_gib)


def _of_agent(scenario: Mapping[str, Any], agent: str, done: Done, line: Timeline, top_gib: float) -> tuple[str, str]:
    """An agent's episode as SVG, and what it came to."""
    row = done.rows[0]
    said = f"goodput {row['goodput']:.3f}, {row['cost']:.0f} s of SLO misses, {row['oom_kills']:.0f} killed"
    said += f", {row['moves']:.0f} moves" if line.cluster is not None else ""
    figure = _episode(scenario, {agent: line}, top_gib)
    return drawing.svg(figure, f"episode-{agent}", f"memory and progress under {agent}"), said


def _timeline(done: Done, folder: Path) -> Timeline:
    try:
        return Timeline.unpack(done.timeline)
    except InputError as error:
        raise InputError(f"{job_file(folder, done.job)}: {error}; delete it and run hvgym bench again") from None
