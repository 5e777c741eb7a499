"""Why PPO falls here, and what helps: the table of docs/learning-ppo.md.

``python docs/learning_ppo.py FOLDER [seeds]`` trains each arm of `ARMS` on suite micro's two scenarios, on training seeds alone, and
writes the page. It goes on where it stopped; an arm takes about half a minute of a core. After a change of the code, delete FOLDER.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.learned.ppo import PPOTrainer
from hvgym.agents.policy import make_policy
from hvgym.bench import suites
from hvgym.bench.rollout import rollout
from hvgym.bench.training import task_of, validation_of
from hvgym.envs.files import write_atomically
from hvgym.envs.scenario import load, load_group

SCENARIOS = ("idle-giants-short", "no-guest-swap-short")

SEEDS = 8
"""Validation seeds of each scenario: the packaged default of 4, twice."""

BASE = PPOTrainer(
    total_steps=150_000, envs=64, n_steps=32, batch_size=512, n_epochs=4, learning_rate=3e-3, gamma=0.98, gae_lambda=0.95,
    period_s=10.0, width=0, initial_action=0.1, log_std_init=-1.0, validations=8,
)  # fmt: skip

BEFORE = {
    "action": "absolute", "period_s": 5.0, "gamma": 0.95, "gae_lambda": 0.9, "stagger": False, "learning_rate": 1e-3,
    "initial_action": 0.5, "total_steps": 300_000,
}  # fmt: skip

ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("all of the below together", {}),
    "before": ("as it was: absolute sizes every 5 s, gamma .95, lanes in step, one sixth of the updates", BEFORE),
    "absolute": ("sizes themselves, not their change", {"action": "absolute", "initial_action": 0.5}),
    "in-step": ("all lanes at the same second of their episodes", {"stagger": False}),
    "gamma-95": ("horizon of 200 s", {"gamma": 0.95}),
    "gsde-8": ("held exploration, 8 decisions", {"exploration": "gsde", "held": 8, "log_std_init": -2.0}),
    "period-30": ("decides every 30 s, the same hours of demand", {"period_s": 30.0, "total_steps": 50_000}),
    "quiet": ("a third of the noise on each action", {"log_std_init": -2.0}),
    "gamma-995": ("horizon of 2,000 s", {"gamma": 0.995}),
    "lambda-1": ("advantages from whole returns", {"gae_lambda": 1.0}),
    "width-32": ("two hidden layers shared by VMs", {"width": 32}),
    "gsde-32": ("held exploration, 32 decisions", {"exploration": "gsde", "held": 32, "log_std_init": -2.0}),
}
"""By name: what is unlike the base, in words and in keys."""

RIVALS = ("stock", "static", "proxmox", "greedy")


def trained(folder: Path, arm: str, seed: int) -> list[float]:
    """Goodput at each validation of a training of this arm."""
    place = folder / f"{arm}-{seed}"
    kept = place / "curve.json"
    if not kept.exists():
        scenarios = [load(name) for name in SCENARIOS]
        task = task_of(
            scenarios, place, seed, "ppo", validation_of(scenarios, SEEDS, "ppo"), lambda point, total: None,
            validation_seeds=SEEDS,
        )  # fmt: skip
        curve = replace(BASE, **ARMS[arm][1]).train(task).curve
        write_atomically(kept, json.dumps([point.score for point in curve]))
    return [float(score) for score in json.loads(kept.read_bytes())]


def level(agent: str) -> float:
    """Goodput of a rival on the same seeds."""
    policy, seeds = make_policy(load_group("agent", agent)), suites.seeds("validation", SEEDS)
    return float(np.mean([rollout(load(name), policy, seeds, apart=False).goodput.mean() for name in SCENARIOS]))


if __name__ == "__main__":
    place, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    for rival in RIVALS:
        print(rival, round(level(rival), 4), flush=True)
    for number in range(count):
        for name in ARMS:
            scores = trained(place, name, number)
            print(name, number, " ".join(f"{score:.4f}" for score in scores), flush=True)
