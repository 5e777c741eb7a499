"""Writes docs/optimum.md: what never to reclaim, the oracle and the relaxed bound reach in each scenario of suite quick."""

import sys
from pathlib import Path

import numpy as np

from hvgym.agents import bound
from hvgym.agents.policy import make_policy
from hvgym.bench import suites
from hvgym.bench.rollout import rollout
from hvgym.envs.scenario import load, load_group
from hvgym.envs.simulator import Simulator

SEEDS = suites.seeds("test", 12)


def row(name: str) -> tuple[float, float, float]:
    """Mean goodput of static, of the oracle and of the bound, per cent of what was asked for."""
    scenario = suites.split_of(load(name), "test")
    sim = Simulator(scenario, len(SEEDS))
    sim.reset(SEEDS)
    most = bound.goodput(sim.hidden(), scenario.duration_s)
    static, oracle = (
        rollout(scenario, make_policy(load_group("agent", agent)), SEEDS).goodput for agent in ("static", "oracle")
    )
    if not (np.maximum(static, oracle) <= most).all():
        raise SystemExit(f"{name}: the bound has been passed")
    return 100 * static.mean(), 100 * oracle.mean(), 100 * most.mean()


def main() -> None:
    """Play and write."""
    lines = [
        "# The optimum",
        "",
        "Written by `make optimum`. Goodput is work done as a share of what was asked for, mean of 12 test seeds.",
        "",
        "The *oracle* (`agents/oracle.py`) is a policy: it sees the true state and the demand to come, tries plans in copies of",
        "the very model and follows the best, through the same actuators as everybody. The *bound* (`agents/bound.py`) is none:",
        "each second's best division of RAM, with free moves and empty queues. Nothing can pass it; tests let every packaged",
        "policy try, and policies that ask for anything. How much of the gap between the two is the oracle's fault, and how",
        "much the bound's generosity, is not known.",
        "",
        "| scenario | static | oracle | bound | of the way from static to the bound, the oracle leaves |",
        "|---|---|---|---|---|",
    ]
    for name in load_group("suite", "quick")["scenarios"]:
        static, oracle, most = row(name)
        lines.append(
            f"| {name} | {static:.1f} % | {oracle:.1f} % | {most:.1f} % | {100 * (most - oracle) / (most - static):.0f} % |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    path = Path(__file__).with_suffix(".md")
    path.write_text("\n".join(lines) + "\n")
    print(path)


if __name__ == "__main__":
    main()
