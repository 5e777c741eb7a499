"""Writes docs/shield.md: what a shield costs and saves, on suite quick: ``make shield``.

python docs/shield.py FOLDER [AGENT or AGENT=CHECKPOINT ...]
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.policy import declared_by
from hvgym.bench import suites
from hvgym.bench.protocol import policy_of
from hvgym.bench.rollout import rollout
from hvgym.envs.rules import refusal
from hvgym.envs.scenario import load_group

AGENTS = ("proxmox_tuned", "greedy_tuned", "learned_sizes", "random", "best_constant_tuned")

SEEDS = 4
"""Test seeds a scenario: differences are paired, and the intervals say what they are worth."""

INTRODUCTION = """\
# What a shield costs

Written by `make shield`: agents with and without `agent.shield=true` (`agents/shield.py`) on suite quick, {seeds} test seeds a
scenario, as far as the rules let them play. Goodput, seconds in which critical VMs missed their objective and kills are means an
episode; the difference of goodput is shielded less bare on the same seeds, with its 95 % interval over episodes (Student's t by
normal approximation); held is the part of the sizes asked for that the shield changed.

It helps who is reckless, and costs who is not. Most of what it costs is blindness: a policy that may not read a guest's available
memory (proxmox reads free memory alone, where page cache counts as used; the inside seats of ESXi, Hyper-V and Xen have no
statistics of guests, and then half of a VM's memory is its floor) is kept from reclaiming what is cold, and the host swaps instead.

| agent | episodes | goodput | shielded | difference | SLO seconds | shielded | kills | shielded | held |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


def main(folder: Path, chosen: Sequence[str]) -> None:
    """Play and write."""
    rows = [_row(*name.partition("=")[::2]) for name in chosen or AGENTS]
    text = INTRODUCTION.format(seeds=SEEDS) + "\n".join(rows) + "\n"
    (folder / "shield.md").write_text(text)
    print(text)


def _row(name: str, checkpoint: str) -> str:
    agent = load_group("agent", name) | ({"checkpoint": checkpoint} if checkpoint else {})
    found: dict[bool, list[Any]] = {False: [], True: []}
    held = []
    for scenario in load_group("suite", "quick")["scenarios"]:
        ground = suites.scenario_of(scenario, rules="default")
        if refusal(declared_by(agent), ground):
            continue
        for shield in found:
            policy = policy_of(agent | {"shield": shield})
            found[shield].append(rollout(ground, policy, suites.seeds("test", SEEDS), agent=name, apart=False))
        held.append(policy.held)  # type: ignore[union-attr]
        print(f"{name} on {scenario}", file=sys.stderr, flush=True)
    bare, safe = found[False], found[True]
    apart = np.concatenate([b.goodput - a.goodput for a, b in zip(bare, safe, strict=True)])
    half = 1.96 * apart.std(ddof=1) / len(apart) ** 0.5

    def mean(episodes: list[Any], figure: str) -> float:
        return float(np.mean([getattr(one, figure).mean() for one in episodes]))

    cells = [f"{len(apart)}", f"{mean(bare, 'goodput'):.4f}", f"{mean(safe, 'goodput'):.4f}"]
    cells += [f"{apart.mean():+.4f} [{apart.mean() - half:+.4f}, {apart.mean() + half:+.4f}]"]
    cells += [f"{mean(one, figure):.1f}" for figure in ("cost", "oom_kills") for one in (bare, safe)]
    return f"| {name} | {' | '.join(cells)} | {100.0 * float(np.mean(held)):.0f} % |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
