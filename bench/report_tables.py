"""The tables of the report: leaderboard, comparison with the best heuristic, scores by scenario; and what they say in words."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hvgym.agents.policy import SEES_ALL
from hvgym.bench import density_column
from hvgym.bench.looks import Look, look
from hvgym.bench.pictures import score_text
from hvgym.bench.references import ENDS
from hvgym.bench.summary import LEVEL, in_part, ranking

OF_CLUSTERS = {"outage_s": "outage, s", "recovery_s": "recovery, s", "downtime_s": "downtime, s", "moves": "moves"}
"""Columns beside, where a scenario has several hosts (of ``rollout.OF_CLUSTERS``)."""

ABOUT_CLUSTERS = """\
Outage: seconds without service after failures of hosts, summed over VMs; recovery: the longest from a failure until a VM was back
at work; downtime: seconds for which VMs stood still at the end of copies; moves: VMs copied to another host while they ran."""

BETTER, WORSE, UNCLEAR = "better", "worse", "no difference shown"

FOLDED = 24
"""More lines than this of what is said in short before are opened by a click."""

FLAT = 5
"""Names of more scenarios than this stand upright."""

STRONGEST = 0.55
"""How much of a cell's colour covers the page at a score of 1 or -1; text stays readable on it."""


def first_words(summary: Mapping[str, Any]) -> str:
    """Who is best, and what is known of the lead."""
    contenders = [agent for agent in ranking(dict(summary)) if agent not in ENDS]
    if not contenders:
        return "Only stock and references have scores."
    best = contenders[0]
    lead = f"{agent_cell(best)} has the best score of those that do not see the future, {_score(summary, best)}."
    if best in summary["refused"]:
        lead += f" It plays {_played(summary, best)}."
        everywhere = [agent for agent in contenders if agent not in summary["refused"]]
        if everywhere:
            lead += (
                f" Of those that play everything {agent_cell(everywhere[0])} is best, {_score(summary, everywhere[0])}."
            )
        return lead
    heuristic = summary["best_heuristic"]
    if best == heuristic or best not in summary["paired_to_best_heuristic"]:
        return lead
    said = {BETTER: "does better than", WORSE: "does worse than", UNCLEAR: "cannot be told from"}
    verdict = said[verdict_of(summary["paired_to_best_heuristic"][best])]
    return f"{lead} In goodput it {verdict} {agent_cell(heuristic)}, the best heuristic."


def _score(summary: Mapping[str, Any], agent: str) -> str:
    result = summary["agents"][agent]
    return f"{result['score_iqm']:.2f} (95 % interval {result['score_lo']:.2f} to {result['score_hi']:.2f})"


def _played(summary: Mapping[str, Any], agent: str) -> str:
    total = len(summary["agents"][agent]["scenarios"])
    return f"{total - len(summary['refused'][agent])} of {total} scenarios"


def verdict_of(test: Mapping[str, float]) -> str:
    """By the corrected p-value, not by the interval."""
    if test["p_holm"] > LEVEL:
        return UNCLEAR
    return BETTER if test["goodput_difference"] > 0.0 else WORSE


def leaderboard(summary: dict[str, Any]) -> str:
    """Best score first."""
    dense = ["density"] if "capacity" in summary else []
    clusters = OF_CLUSTERS.values() if summary["clusters"] else ()
    starts = ["failed starts"] if _starts_fail(summary) else []
    heads = [
        "agent",
        "score",
        *dense,
        "goodput",
        "SLO misses, s",
        "OOM kills",
        *starts,
        "host swap, s",
        "p99 slow-down",
        *clusters,
    ]
    return _table(heads, [_row(agent, summary) for agent in ranking(summary)])


def _starts_fail(summary: Mapping[str, Any]) -> bool:
    """Whether any does; mostly none, and the pane of MLflow, 800 pixels on a screen of 1,440, has no room for a column of zeros."""
    return any(result["failed_starts"] for result in summary["agents"].values())


def _row(agent: str, summary: dict[str, Any]) -> str:
    result = summary["agents"][agent]
    density = density_column.shown(summary, agent).partition(" (")
    return _cells(
        _over(agent_cell(agent, in_part(summary, agent)), f"{result['seat']}, {result['sees']}"),
        _over(f"{result['score_iqm']:.3f}", f"[{result['score_lo']:.3f}, {result['score_hi']:.3f}]"),
        *([_over(html.escape(density[0]), "".join(density[1:]).strip())] if "capacity" in summary else []),
        f"{result['goodput']:.4f}", f"{result['cost']:.0f}", f"{result['oom_kills']:.2f}",
        *([f"{result['failed_starts']:.2f}"] if _starts_fail(summary) else []),
        f"{result['host_swap_s']:.0f}", f"{result['p99_slowdown']:.2f}",
        *([f"{result[name]:.1f}" for name in OF_CLUSTERS] if summary["clusters"] else []),
    )  # fmt: skip


def _over(above: str, below: str) -> str:
    """Two lines in a cell, the second one small; a column less is what narrow panes need."""
    return f"{above}<small>{html.escape(below)}</small>" if below else above


def compared(summary: dict[str, Any]) -> str:
    """Sentences, and a row an agent."""
    best, tests = summary["best_heuristic"], summary["paired_to_best_heuristic"]
    agents = [agent for agent in ranking(summary) if agent in tests]
    if not agents:
        return ""
    said = f"""<p>Goodput of each agent less that of {agent_cell(best)}, the heuristic with the best score of those that play
everything: means of paired differences on equal demand.</p>"""
    groups = {verdict: [a for a in agents if verdict_of(tests[a]) == verdict] for verdict in (BETTER, WORSE, UNCLEAR)}
    said += "".join(
        f"<p><strong>{verdict.capitalize()}</strong> ({len(names)}): {', '.join(map(html.escape, names))}.</p>"
        for verdict, names in groups.items()
        if names
    )
    rows = [_comparison(agent, tests[agent]) for agent in agents]
    seers = _futures(summary, agents)
    about = f"""<p class="dim">p-values are of sign-flip tests, Holm-corrected for {len(agents)} comparisons;
the word goes by p ≤ {LEVEL:g}. They speak of new demand for the agents as trained, not of training anew.{seers}</p>"""
    table = _table(["agent", "difference", "95 % interval", "p (Holm)", "in a word"], rows)
    return said + folded(table, len(rows), "comparisons") + about


def folded(content: str, lines: int, what: str) -> str:
    """Content of so many lines; to be opened by a click where there are more than `FOLDED`."""
    return f"<details><summary>All {lines} {what}</summary>{content}</details>" if lines > FOLDED else content


def _comparison(agent: str, test: Mapping[str, float]) -> str:
    p_value = "< 0.001" if test["p_holm"] < 0.001 else f"{test['p_holm']:.3f}"
    return _cells(agent_cell(agent), f"{test['goodput_difference']:+.4f}", f"[{test['lo']:+.4f}, {test['hi']:+.4f}]",
                        html.escape(p_value), verdict_of(test))  # fmt: skip


def _futures(summary: Mapping[str, Any], agents: Sequence[str]) -> str:
    found = [agent for agent in agents if summary["agents"][agent]["sees"] == SEES_ALL]
    return f" {html.escape(', '.join(found))} see{'s' if len(found) == 1 else ''} the future." if found else ""


def by_scenario(summary: dict[str, Any]) -> str:
    """A cell a score, bluer the better; only scenarios that some seat has a score for."""
    agents = ranking(summary)
    cells = {agent: summary["agents"][agent]["scenarios"] for agent in agents}
    names = [s for s in cells[agents[0]] if any(cells[agent][s].get("score") is not None for agent in agents)]
    rows = [_cells(agent_cell(agent)) + "".join(_heat(cells[agent][name]) for name in names) for agent in agents]
    return _table(["agent", *names], rows, "heat tall" if len(names) > FLAT else "heat")


def _heat(cell: Mapping[str, Any]) -> str:
    score = cell["score"]
    if score is None:
        return f"<td>{'–' if cell['goodput'] is None else 'none'}</td>"
    strength = round(STRONGEST * min(abs(score), 1.0), 2)
    red, green, blue = (60, 130, 230) if score > 0.0 else (235, 110, 30)
    return f'<td style="background:rgb({red} {green} {blue}/{strength})">{score_text(score)}</td>'


def _table(heads: Sequence[str], rows: Sequence[str], kind: str = "") -> str:
    """From the texts of heads and rows of cells (`_cells`)."""
    head = "".join(f"<th>{html.escape(title)}</th>" for title in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    shown = f' class="{kind}"' if kind else ""
    return f'<div class="scroll"><table{shown}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cells(*contents: str) -> str:
    return "".join(f"<td>{content}</td>" for content in contents)


def agent_cell(agent: str, text: str = "") -> str:
    """An agent's mark and name, which may break after a sign; text: instead of the name alone."""
    name = re.sub(r"([_.-])", r"\1<wbr>", html.escape(text or agent))
    return f'<span class="agent">{mark_of(look(agent))}<span>{name}</span></span>'


def mark_of(style: Look) -> str:
    """The mark of the pictures, as large as a letter."""
    from matplotlib.markers import MarkerStyle

    marker = MarkerStyle(style.mark)
    path = marker.get_transform().transform_path(marker.get_path())
    outline = np.asarray(path.to_polygons(closed_only=False)[0], float)
    scale = 4.0 / abs(outline).max()
    points = " ".join(f"{5 + scale * x:.1f},{5 - scale * y:.1f}" for x, y in outline)
    fill = "none" if style.hollow else f"var(--{style.hue})"
    return (
        f'<svg class="mark" viewBox="0 0 10 10" aria-hidden="true"><polygon points="{points}" '
        f'style="fill:{fill};stroke:var(--{style.hue});stroke-width:1.4"/></svg>'
    )
