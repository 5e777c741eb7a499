"""What stands in the runs of a study in MLflow: parameters, tags, metrics, the table of episodes, and the leaderboard as text.

A run of an agent, and each of its jobs, has about a dozen metrics of the same names, so that columns line up; the rest is in
tables and in the report. Parameters are what tells agents apart and no constants.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.policy import META_KEYS, SEES_ALL, ClairvoyantPolicy, declared_by, policy_class
from hvgym.bench import density_column
from hvgym.bench.jobs import Done
from hvgym.bench.protocol import Protocol, learns
from hvgym.bench.references import CLAIRVOYANT, STOCK
from hvgym.bench.summary import in_part, ranking

FIGURES = {
    "goodput": "goodput",
    "oom_kills": "kills",
    "cost": "slo_missed_s",
    "p99_slowdown": "p99_slowdown",
    "host_swap_s": "host_swap_s",
}
"""Metrics of an episode and their names in MLflow, where no legend stands beside them."""

WHERE_ANY = ("failed_starts", "outage_s", "downtime_s", "moves")
"""More of them, left out where they are 0 as they are on most hosts."""

SCORES = {"score_iqm": "score", "score_lo": "score_lo", "score_hi": "score_hi"}

DIGITS = 5

SHOWN = 40
"""Rows of a leaderboard in a note, which MLflow cuts off at 8,000 letters."""


def kind(agent: Mapping[str, Any], sees: str) -> str:
    """stock, clairvoyant, learner or heuristic."""
    if agent["name"] == STOCK:
        return "stock"
    if sees == SEES_ALL:
        return "clairvoyant"
    return "learner" if agent.get("train") else "heuristic"


def seen_in_training(agent: Mapping[str, Any]) -> str:
    """The profile that a learner reads while it is trained; its weights keep it."""
    train = agent["train"]
    policy = train.get("policy")
    named = train.get("visibility") or (policy.get("visibility") if isinstance(policy, Mapping) else None)
    made = policy_class(agent)
    return (
        str(named)
        if isinstance(named, str)
        else SEES_ALL
        if issubclass(made, ClairvoyantPolicy)
        else made.visibility.name
    )


def tags_of_agent(agent: Mapping[str, Any], sees: str) -> dict[str, str]:
    """By which runs are filtered."""
    return {"agent": agent["name"], "kind": kind(agent, sees), "seat": declared_by(agent).seat, "visibility": sees}


def tags_of_study(protocol: Protocol, folder: Path) -> dict[str, str]:
    """The same of what all agents play."""
    hypervisors = dict.fromkeys(scenario["hypervisor"]["name"] for scenario in protocol.scenarios)
    tags = {"study": folder.name, "suite": protocol.suite.name, "rules": protocol.rules}
    return tags | {"hypervisor": ", ".join(hypervisors)}


def differing(agents: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By agent, those of its keys that another one has with another value. What only one has tells nobody apart."""
    flat = {agent["name"]: _flatten("agent", agent) for agent in agents}
    values = dict[str, list[str]]()
    for of_it in flat.values():
        for key, value in of_it.items():
            values.setdefault(key, []).append(str(value))
    apart = {key for key, of_it in values.items() if len(set(of_it)) > 1}
    return {name: {key: value for key, value in of_it.items() if key in apart} for name, of_it in flat.items()}


def _flatten(prefix: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if prefix == "agent" and key in META_KEYS - {"train", "checkpoint_sha256"}:
            continue
        if isinstance(value, Mapping):
            flat |= _flatten(f"{prefix}.{key}", value)
        else:
            flat[f"{prefix}.{key}"] = value
    return flat


def settings(agent: Mapping[str, Any]) -> dict[str, Any]:
    """All keys of an agent by dotted name."""
    return _flatten("agent", agent)


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Metrics of episodes, by their names in MLflow."""
    found = {shown: float(np.mean([row[name] for row in rows])) for name, shown in FIGURES.items()}
    more = {name: float(np.mean([row[name] for row in rows])) for name in WHERE_ANY}
    return found | {name: value for name, value in more.items() if value}


def figures(summary: Mapping[str, Any], agent: str) -> dict[str, float]:
    """Metrics of an agent, by their names in MLflow; nothing of one that has no score.

    In as many digits as columns of MLflow hold; results.csv has all of them.
    """
    if agent not in summary["agents"]:
        return {}
    found = summary["agents"][agent]
    scores_shown = {key: shown for key, shown in SCORES.items() if key in found}
    names = scores_shown | FIGURES | {name: name for name in WHERE_ANY if found.get(name)}
    names |= {name: name for name in density_column.FIGURES if name in found}
    values = {shown: float(found[name]) for name, shown in names.items()}
    paired = summary.get("paired_to_best_heuristic", {}).get(agent)
    values |= {"p_holm": paired["p_holm"]} if paired else {}
    return {name: float(f"{value:.{DIGITS}g}") for name, value in values.items()}


def scores(protocol: Protocol, done: Iterable[Done], summary: Mapping[str, Any]) -> dict[str, float]:
    """The score of each job by its key, where its scenario has one for its agent (``statistics.normalised_score``)."""
    done = list(done)
    goodput = dict[tuple[str, str], dict[int, float]]()
    for result in done:
        if result.job.agent["name"] in (STOCK, *CLAIRVOYANT):
            of_it = goodput.setdefault((result.job.agent["name"], result.job.scenario["name"]), {})
            of_it |= {int(row["eval_seed"]): row["goodput"] for row in result.rows}
    found = dict[str, float]()
    for result in done:
        agent, scenario = result.job.agent["name"], result.job.scenario["name"]
        of_agent = summary["agents"].get(agent, {}).get("scenarios", {})
        if of_agent.get(scenario, {}).get("score") is None:
            continue
        stock = goodput[STOCK, scenario]
        if agent == STOCK:
            found[result.job.key] = 0.0
            continue
        best = goodput[protocol.reference(agent), scenario]
        gap = float(np.mean([best[seed] - stock[seed] for seed in stock]))
        gain = [row["goodput"] - stock[int(row["eval_seed"])] for row in result.rows]
        found[result.job.key] = float(np.mean(gain)) / gap
    return found


def episodes(done: Done) -> str:
    """Evaluation episodes as rows, in the form of MLflow's tables."""
    columns = list(done.rows[0])
    return json.dumps({"columns": columns, "data": [[row[name] for name in columns] for row in done.rows]})


def leaderboard(summary: Mapping[str, Any]) -> str:
    """The leaderboard as a Markdown table, best agent first."""
    dense = "capacity" in summary
    heads = ["agent", "seat", "score (95 %)", *(["density (95 %)"] if dense else [])]
    heads += ["goodput", "kills", "SLO missed, s", "p99 slowdown", "host swap, s"]
    lines = [f"| {' | '.join(heads)} |", f"|{'|'.join(['---', '---', *['---:'] * (len(heads) - 2)])}|"]
    scored = "nothing_scored" not in summary
    order = ranking(dict(summary)) if scored else list(summary["agents"])
    for name in order[:SHOWN]:
        of_it = summary["agents"][name]
        score = f"{of_it['score_iqm']:.3f} ({of_it['score_lo']:.3f}, {of_it['score_hi']:.3f})" if scored else "–"
        cells = [in_part(summary, name), of_it["seat"], score]
        cells += [density_column.shown(dict(summary), name)] if dense else []
        cells += [f"{of_it['goodput']:.4f}", f"{of_it['oom_kills']:.2f}", f"{of_it['cost']:.0f}"]
        cells += [f"{of_it['p99_slowdown']:.1f}", f"{of_it['host_swap_s']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    if len(order) > SHOWN:
        lines.append(f"\n{len(order) - SHOWN} more stand in report.html.")
    return "\n".join(lines)


def note(protocol: Protocol, summary: Mapping[str, Any] | None = None) -> str:
    """The text beside a study's run: what is played and, once it is known, who won."""
    learners = [agent["name"] for agent in protocol.agents if learns(agent)]
    trained = f", {protocol.suite.train_seeds} trainings each of {', '.join(learners)}" if learners else ""
    head = (
        f"Suite **{protocol.suite.name}**: {len(protocol.agents)} agents on {len(protocol.scenarios)} scenarios, "
        f"{protocol.suite.eval_seeds} evaluation seeds{trained}; {protocol.rules} rules."
    )
    if summary is None:
        return head
    scale = "Score 0 is stock, 1 the reference of the seat."
    key = f"{' '.join(summary.get('nothing_scored', [scale]))} The report is the artifact report.html."
    return f"{head} {key}\n\n{leaderboard(summary)}"
