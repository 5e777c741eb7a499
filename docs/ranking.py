"""Writes docs/ranking.md from the studies that ``make ranking`` has run: every packaged agent, original and tuned."""

import json
import sys
from pathlib import Path

from hvgym.bench.summary import ranking

HEAD = """# Every agent on suite quick

Made by `make ranking`: `hvgym bench suite=quick agents=all`, {agents} agents on {seeds} test seeds of each scenario. Score 0 is
stock, the hypervisor as shipped, 1 the clairvoyant reference (docs/rules.md); in parentheses the 95 % interval of the interquartile
mean; then the mean score in each scenario, goodput in per cent, seconds in which critical VMs missed an objective, and kills,
both per episode. Policies whose name ends in `_tuned` have the parameters that `hvgym tune agent=NAME suite=quick` found with 40
trials each, on training and validation seeds; the same policy with its original constants stands elsewhere in the table. They were
tuned on an earlier model (before guests' reclaim took first what has long been idle, and before writes counted), and have not been
tuned anew.

"""

READING = """
How to read it. These hosts are overcommitted from the first second and swap all the time, so policies that probe until somebody
stalls (senpai, oomd, TMO, DAMON, Katalyst) find the stall there before they begin, and leave all to the hypervisor; tuned, they
go on regardless. What separates the others is whom they take memory from. docs/policies.md says what each sees and does; other
scenarios, hypervisors and traces rank them differently.

What the last change of the model did to the order. Guests' swap-out now takes its part of the disk, balloons under pressure go as
fast as the disk writes and read free pages back from the host's swap first. Never to reclaim got worse (goodput 88.2 before, 86.5
now), most on tight-hdd, where writes cost most. `proxmox_tuned` fell from the second place to the fifth (.72 to .66; .80 to .54 on
tight-hdd, which it squeezes most), `meb_tuned` rose from the fifth to the second (.66 to .76), `esx_equal` went from .71 to .74
although it lost on tight-hdd (.62 to .27), and PPO, which was trained anew, from .41 to .60. Page reporting, which makes guests
write nothing, gained (.26 to .32). Policies that drive guests into their own swap stayed last.
"""


ARRIVALS = """
## Who is let in

The policies of admission on `scenario=arrival-wave`, where VMs ask to be started ({seeds} test seeds; the study of the second line
of `make ranking`). Tuned copies come from `hvgym tune agent=NAME scenario=arrival-wave`.

"""


def table(study: Path) -> tuple[str, int, int]:
    """The ranking of a study as Markdown, the number of its agents and that of its test seeds."""
    summary = json.loads((study / "summary.json").read_text())
    protocol = json.loads((study / "protocol.json").read_text())
    agents = summary["agents"]
    scenarios = list(next(iter(agents.values()))["scenarios"])
    lines = [
        f"| agent | sees | score | {' | '.join(scenarios)} | goodput | SLO misses, s | OOM kills |",
        "|---" * (6 + len(scenarios)) + "|",
    ]
    for name in ranking(summary):
        result = agents[name]
        score = f"{result['score_iqm']:.2f} ({result['score_lo']:.2f}, {result['score_hi']:.2f})"
        each = " | ".join(f"{result['scenarios'][scenario]['score']:.2f}" for scenario in scenarios)
        tail = f"{100 * result['goodput']:.1f} | {result['cost']:.0f} | {result['oom_kills']:.2f}"
        lines.append(f"| {name} | {result['sees']} | {score} | {each} | {tail} |")
    return "\n".join(lines) + "\n", len(agents), protocol["identity"]["suite"]["eval_seeds"]


def main() -> None:
    """Write the page beside this file from the studies of all agents and of those of admission."""
    (memory, agents, seeds), (arrivals, _, late_seeds) = (table(Path(study)) for study in sys.argv[1:])
    page = Path(__file__).resolve().with_suffix(".md")
    page.write_text(
        HEAD.format(agents=agents, seeds=seeds) + memory + READING + ARRIVALS.format(seeds=late_seeds) + arrivals
    )
    print(page)


if __name__ == "__main__":
    main()
