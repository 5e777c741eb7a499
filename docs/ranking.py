"""Writes docs/ranking.md from the studies that ``make ranking`` has run: every packaged agent, original and tuned."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.bench.criterion import DIAGNOSTIC as OTHER
from hvgym.bench.references import CLAIRVOYANT
from hvgym.bench.statistics import interval, kendall, paired_difference
from hvgym.bench.summary import ranking

HEAD = """# Every agent on suite quick

Made by `make ranking`: `hvgym bench suite=quick agents=all`, {agents} agents on {seeds} test seeds of each scenario, default
rules. Score 0 is stock, the hypervisor as shipped, 1 the clairvoyant reference of the agent's seat ([rules](rules.md)); in
parentheses the 95 % interval of the interquartile mean over the scenarios that an agent plays; then the mean score in each
scenario (empty: the rules refuse it there, or its seat has nothing to win), goodput in per cent, seconds in which critical VMs
missed an objective, and kills, both per episode. Agents that play on different hypervisors have met different demand: **compare
them within a column**, not by the score alone. Policies whose name ends in `_tuned` have the parameters that `hvgym tune
agent=NAME suite=quick` found with 40 trials each, on training and validation seeds; the same policy with its original constants
stands elsewhere in the table. They were tuned under the default rules, on the scenarios that each plays.

"""

READING = """
How to read it. A score below 0 is worse than what the hypervisor does by itself, which on `kvm` and `xen` (squeezed acts only
when a VM starts) is next to nothing. Policies that probe until somebody stalls (senpai, oomd, TMO, DAMON) find the stall on
these hosts, which are overcommitted from the first second, before they begin. What separates the others is whom they take
memory from, and whether they know who matters. docs/policies.md says what each sees and does; [suites](suites.md) what there is
to win where, and what those policies win that think of nothing; [reference](reference.md) whether anybody beats the reference.
{more}"""


ARRIVALS = """
## Who is let in

The policies of admission on `scenario=arrival-wave`, where VMs ask to be started ({seeds} test seeds; the study of the second line
of `make ranking`). Tuned copies come from `hvgym tune agent=NAME scenario=arrival-wave`.

"""


STANDARD = """
## On suite standard

The first line of `make ranking`: {agents} agents, originals and the copies that were tuned on quick, on {seeds} test seeds of each
scenario of generated demand ([suites](suites.md), [workloads](workloads.md)).

"""

TUNED = """
Did tuning on quick carry over? Goodput of the copy less that of the original, in hundredths, on the same demand of the scenarios
that both play (not those of Type 2, devices and bandwidth), with the 95 % interval over seeds, and in how many scenarios the
copy's mean is higher.

| policy | scenarios | copy less original | better in |
|---|--:|--:|--:|
{rows}
"""

AGREEMENT = """
Does the order on quick tell the order on standard? Kendall's tau-b of mean scores on the scenarios of one hypervisor, over the
agents that play and are scored in both suites, with a 95 % interval from drawing agents again.

| hypervisor | agents | tau | interval |
|---|--:|--:|--:|
{rows}
"""

DRAWS = 10_000

DIAGNOSTIC = (*OTHER, "javas-virtualbox", "offices-workstation")
"""Of devices and bandwidth, and of Type 2."""


def missing(study: Path) -> str:
    """Seats that have no score, and who plays nowhere, with the reasons."""
    from hvgym.bench.summary import not_scored

    summary = json.loads((study / "summary.json").read_text())
    nowhere = {name: reasons for name, reasons in summary["refused"].items() if name not in summary["agents"]}
    lines = [f"- {line}" for line in not_scored(summary)]
    lines += [
        f"- {name} plays nowhere: {'; '.join(dict.fromkeys(reasons.values()))}" for name, reasons in nowhere.items()
    ]
    return "\n".join(["", "What is not in the table:", "", *lines, ""]) if lines else ""


def table(study: Path) -> tuple[str, int, int]:
    """The ranking of a study as Markdown, the number of its agents and that of its test seeds."""
    summary = json.loads((study / "summary.json").read_text())
    protocol = json.loads((study / "protocol.json").read_text())
    agents = summary["agents"]
    scenarios = list(next(iter(agents.values()))["scenarios"])
    lines = [
        f"| agent | seat | sees | score | {' | '.join(scenarios)} | goodput | SLO misses, s | OOM kills |",
        "|---" * (7 + len(scenarios)) + "|",
    ]
    for name in ranking(summary):
        result = agents[name]
        score = f"{result['score_iqm']:.2f} ({result['score_lo']:.2f}, {result['score_hi']:.2f})"
        scores = (result["scenarios"][scenario]["score"] for scenario in scenarios)
        each = " | ".join("" if one is None else f"{one:.2f}" for one in scores)
        tail = f"{100 * result['goodput']:.1f} | {result['cost']:.0f} | {result['oom_kills']:.2f}"
        lines.append(f"| {name} | {result['seat']} | {result['sees']} | {score} | {each} | {tail} |")
    return "\n".join(lines) + "\n", len(agents), protocol["identity"]["suite"]["eval_seeds"]


def mean_scores(study: Path) -> dict[str, dict[str, float]]:
    """Mean score on the scenarios of memory of a hypervisor, by hypervisor and agent; of those that are scored in all of them."""
    agents = json.loads((study / "summary.json").read_text())["agents"]
    scenarios = json.loads((study / "protocol.json").read_text())["identity"]["scenarios"]
    on = {one["name"]: one["hypervisor"]["name"] for one in scenarios if one["name"] not in DIAGNOSTIC}
    found: dict[str, dict[str, float]] = {}
    for hypervisor in dict.fromkeys(on.values()):
        names = [name for name, its in on.items() if its == hypervisor]
        for agent, result in agents.items():
            scores = [result["scenarios"].get(name, {}).get("score") for name in names]
            if agent not in CLAIRVOYANT and all(score is not None for score in scores):
                found.setdefault(hypervisor, {})[agent] = float(np.mean(scores))
    return found


def agreement(quick: Path, standard: Path) -> str:
    """A row a hypervisor."""
    here, there, rng, rows = mean_scores(quick), mean_scores(standard), np.random.default_rng(0), []
    for hypervisor in here:
        both = sorted(here[hypervisor].keys() & there.get(hypervisor, {}).keys())
        if len(both) < 3:
            continue
        one, other = (np.array([scores[hypervisor][agent] for agent in both]) for scores in (here, there))
        drawn = rng.integers(len(both), size=(DRAWS, len(both)))
        taus = np.array([kendall(one[picked], other[picked]) for picked in drawn])
        lo, hi = interval(taus[np.isfinite(taus)])
        rows.append(f"| {hypervisor} | {len(both)} | {kendall(one, other):.2f} | {lo:.2f} to {hi:.2f} |")
    return AGREEMENT.format(rows="\n".join(rows))


def copies(study: Path) -> str:
    """A row a policy of which original and tuned copy were played."""
    goodput: dict[str, dict[str, list[float]]] = {}
    with (study / "results.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["scenario"] not in DIAGNOSTIC:
                goodput.setdefault(row["agent"], {}).setdefault(row["scenario"], []).append(100 * float(row["goodput"]))
    rows = []
    for name in sorted(agent for agent in goodput if f"{agent}_tuned" in goodput):
        scenarios = [scenario for scenario in goodput[name] if scenario in goodput[f"{name}_tuned"]]
        copy, original = (_array(goodput[agent], scenarios) for agent in (f"{name}_tuned", name))
        test = paired_difference(copy, original, np.random.default_rng(0))
        better = int((copy.mean(axis=(1, 2)) > original.mean(axis=(1, 2))).sum())
        gained = f"{test.mean:+.1f} ({test.lo:+.1f}, {test.hi:+.1f})"
        rows.append(f"| {name} | {len(scenarios)} | {gained} | {better} of {len(scenarios)} |")
    return TUNED.format(rows="\n".join(rows))


def _array(goodput: dict[str, Any], scenarios: Sequence[str]) -> np.ndarray:
    """``[scenario, 1, seed]``."""
    return np.array([[goodput[scenario]] for scenario in scenarios])


def main() -> None:
    """Write the page beside this file from the studies of all agents, of those of admission, and of suite standard."""
    quick, late, standard = map(Path, sys.argv[1:])
    (memory, agents, seeds), (arrivals, _, late_seeds), (generated, players, many) = map(table, (quick, late, standard))
    page = Path(__file__).resolve().with_suffix(".md")
    page.write_text(
        HEAD.format(agents=agents, seeds=seeds)
        + memory
        + READING.format(more=missing(quick))
        + STANDARD.format(agents=players, seeds=many)
        + generated
        + missing(standard)
        + copies(standard)
        + agreement(quick, standard)
        + ARRIVALS.format(seeds=late_seeds)
        + arrivals
    )
    print(page)


if __name__ == "__main__":
    main()
