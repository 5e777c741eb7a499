"""Writes docs/ranking.md from the study that ``make ranking`` has run: every packaged agent, original and tuned."""

import json
import sys
from pathlib import Path

from hvgym.bench.summary import ranking

HEAD = """# Every agent on suite quick

Made by `make ranking`: `hvgym bench suite=quick agents=all`, {agents} agents on {seeds} test seeds of each scenario. Score 0 is
never to reclaim and let the hypervisor swap, 1 the clairvoyant oracle; in parentheses the 95 % interval of the interquartile
mean; then the mean score in each scenario, goodput in per cent, seconds in which critical VMs missed an objective, and kills,
both per episode. Policies whose name ends in `_tuned` have the parameters that `hvgym tune agent=NAME suite=quick` found with 40
trials each, on training and validation seeds; the same policy with its original constants stands elsewhere in the table.

"""

READING = """
How to read it. These hosts are overcommitted from the first second and swap all the time, so policies that probe until somebody
stalls (senpai, oomd, TMO, DAMON, Katalyst) find the stall there before they begin, and leave all to the hypervisor; tuned, they
go on regardless. What separates the others is whom they take memory from. docs/policies.md says what each sees and does; other
scenarios, hypervisors and traces rank them differently.
"""


def main() -> None:
    """Write the page beside this file."""
    summary = json.loads((Path(sys.argv[1]) / "summary.json").read_text())
    protocol = json.loads((Path(sys.argv[1]) / "protocol.json").read_text())
    agents = summary["agents"]
    scenarios = list(next(iter(agents.values()))["scenarios"])
    lines = [
        f"| agent | sees | score | {' | '.join(scenarios)} | goodput | SLO s | OOM |",
        "|---" * (6 + len(scenarios)) + "|",
    ]
    for name in ranking(summary):
        result = agents[name]
        score = f"{result['score_iqm']:.2f} ({result['score_lo']:.2f}, {result['score_hi']:.2f})"
        each = " | ".join(f"{result['scenarios'][scenario]['score']:.2f}" for scenario in scenarios)
        tail = f"{100 * result['goodput']:.1f} | {result['cost']:.0f} | {result['oom_kills']:.2f}"
        lines.append(f"| {name} | {result['sees']} | {score} | {each} | {tail} |")
    page = Path(__file__).resolve().with_suffix(".md")
    head = HEAD.format(agents=len(agents), seeds=protocol["identity"]["suite"]["eval_seeds"])
    page.write_text(head + "\n".join(lines) + "\n" + READING)
    print(page)


if __name__ == "__main__":
    main()
