"""Writes docs/ranking.md from the studies that ``make ranking`` has run: every packaged agent, original and tuned."""

import json
import sys
from pathlib import Path

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


def main() -> None:
    """Write the page beside this file from the studies of all agents and of those of admission."""
    (memory, agents, seeds), (arrivals, _, late_seeds) = (table(Path(study)) for study in sys.argv[1:])
    page = Path(__file__).resolve().with_suffix(".md")
    page.write_text(
        HEAD.format(agents=agents, seeds=seeds)
        + memory
        + READING.format(more=missing(Path(sys.argv[1])))
        + ARRIVALS.format(seeds=late_seeds)
        + arrivals
    )
    print(page)


if __name__ == "__main__":
    main()
