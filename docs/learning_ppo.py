"""Why PPO falls here, and what helps: the table of docs/learning-ppo.md.

``python docs/learning_ppo.py FOLDER [TRAININGS]`` trains each arm of `ARMS` on suite micro's two scenarios, on training seeds
alone, and `es` for as many decisions, plays what `JUDGED` has learnt on test seeds, and writes the page. It goes on where it
stopped; an arm takes about half a minute of a core for each of 5 (TRAININGS) training seeds. After a change of the code, delete
FOLDER.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.learned.ppo import PPOTrainer
from hvgym.agents.learned.training import Trainer, trainer_of
from hvgym.agents.policy import declared_by
from hvgym.bench import suites
from hvgym.bench.protocol import policy_of
from hvgym.bench.rollout import rollout
from hvgym.bench.training import task_of, validation_of
from hvgym.envs.files import write_atomically
from hvgym.envs.scenario import load, load_group

SCENARIOS = ("idle-giants-short", "no-guest-swap-short")

SEEDS = 8
"""Validation seeds of each scenario: the packaged default of 4, twice."""

BASE = PPOTrainer(
    total_steps=120_000, envs=64, n_steps=32, batch_size=2048, n_epochs=4, learning_rate=0.01, gamma=0.98, gae_lambda=0.95,
    period_s=10.0, width=0, initial_action=0.1, log_std_init=-1.0, stagger=True, validations=6,
)  # fmt: skip

BEFORE = {
    "action": "absolute", "period_s": 5.0, "gamma": 0.95, "gae_lambda": 0.9, "stagger": False, "learning_rate": 1e-3,
    "initial_action": 0.5,
}  # fmt: skip

ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("relative sizes every 10 s, horizon of 500 s, lanes apart in time", {}),
    "absolute": ("sizes themselves, not their change", {"action": "absolute", "initial_action": 0.5}),
    "before": ("settings of the flat PPO before: absolute, 5 s, horizon of 100 s, in step, a tenth of the rate", BEFORE),
    "in-step": ("all lanes at the same second of their episodes", {"stagger": False}),
    "gsde": ("noise held for 8 decisions (gSDE)", {"exploration": "gsde", "held": 8, "log_std_init": -2.0}),
    "slow": ("a third of the learning rate", {"learning_rate": 0.003}),
    "gamma-95": ("horizon of 200 s", {"gamma": 0.95}),
    "period-30": ("decides every 30 s; as many episodes", {"period_s": 30.0, "total_steps": 40_000, "validations": 5}),
    "quiet": ("noise of e^-2 on each action, not e^-1", {"log_std_init": -2.0}),
    "less-stock": ("reward less that of stock on the same seed, a control variate", {"reward": {"less_stock": True}}),
    "absolute-quiet": (
        "sizes themselves, noise of e^-3", {"action": "absolute", "initial_action": 0.5, "log_std_init": -3.0},
    ),
    "gamma-995": ("horizon of 2,000 s", {"gamma": 0.995}),
    "lambda-1": ("advantages from whole returns", {"gae_lambda": 1.0}),
    "width-32": ("two hidden layers of 32 shared by VMs", {"width": 32}),
}  # fmt: skip
"""By name: what is unlike the base, in words and in keys."""

PAGE = Path(__file__).parent / "learning-ppo.md"

READ = ("base", "absolute", "before", "gsde", "slow", "quiet")
"""Arms of which the page's text tells."""

JUDGED = {
    "ppo, noise held (gsde)": ("ppo", "gsde", "best.zip"),
    "ppo, noise on each decision (base)": ("ppo", "base", "best.zip"),
    "es": ("es", "es", "best.json"),
}
"""Played on test seeds, in words: agent, arm, and what its training leaves."""

RIVALS = ("stock", "static", "proxmox", "greedy")


def trainer(arm: str) -> Trainer:
    """Of an arm, or `es` as its YAML has it but for the length."""
    if arm != "es":
        return replace(BASE, **ARMS[arm][1])
    agent = load_group("agent", "es")
    short = {"total_steps": BASE.total_steps, "validations": BASE.validations, "threads": 1}
    return trainer_of(agent | {"train": agent["train"] | short})


def trained(folder: Path, arm: str, seed: int) -> list[float]:
    """Goodput at each validation of a training of this arm."""
    place = folder / f"{arm}-{seed}"
    kept = place / "curve.json"
    if not kept.exists():
        scenarios, name = [load(name) for name in SCENARIOS], "es" if arm == "es" else "ppo"
        task = task_of(
            scenarios, place, seed, name, validation_of(scenarios, SEEDS, name), lambda point, total: None,
            validation_seeds=SEEDS, declaration=declared_by(load_group("agent", name)),
        )  # fmt: skip
        curve = trainer(arm).train(task).curve
        write_atomically(kept, json.dumps([point.score for point in curve]))
    return [float(score) for score in json.loads(kept.read_bytes())]


def level(agent: dict[str, Any], split: suites.Split = "validation") -> float:
    """Goodput of an agent on as many seeds of a split."""
    policy, seeds = policy_of(agent), suites.seeds(split, SEEDS)
    return float(np.mean([rollout(load(name), policy, seeds, apart=False).goodput.mean() for name in SCENARIOS]))


def tested(folder: Path, words: str, seeds: int) -> list[float]:
    """Goodput on test seeds of what each training has left."""
    agent, arm, left = JUDGED[words]
    models = [folder / f"{arm}-{seed}" / left for seed in range(seeds)]
    return [level(load_group("agent", agent) | {"checkpoint": str(model)}, "test") for model in models]


HEAD = """# What PPO needs here

Made by `make learning-ppo`: one network for all VMs and both scenarios of suite `micro` ({scenarios}),
{seeds} validation seeds of each, open rules (all guests tell everything), sizes alone. Mean goodput in per cent.
Medians over {trainings} training seeds. Rivals on the same seeds: {rivals}.

PPO with a flat network peaked early and then fell. Suspects: noise on each step's action, which a balloon averages out while its
effect comes minutes later; a horizon shorter than those minutes; lanes in step, of which an update sees the same minutes; sizes
themselves as actions. The base has an answer to each; each arm below changes one thing of it. Steps are decisions of a host.

| arm | unlike the base | decisions | first | middle | last | best | last of each training |
|---|---|---|--:|--:|--:|--:|---|
"""

READING = """
*First*, *middle*, *last*: validations, the first after a sixth of the training. *Best*: of each training its best validation.

**Some trainings of nearly every arm learn nothing.** They end at what `static` gets, {static:.1f}: every VM is asked for all its
memory. Probably sizes stand at their limits there, and noise on single actions hardly moves them. Of the base
{base_stuck} of {trainings} end there (within .5), of `slow` {slow_stuck}, of `quiet` {quiet_stuck}. Others end below 0: there VMs
are killed again and again, from which no gradient leads back either.

**Noise that is held** (`gsde`) leaves that state: its worst training ends at {gsde_worst:.1f}, the base's at {base_worst:.1f}.
So it is the default of `ppo`, with changes of sizes. Sizes themselves (`absolute`) do as well, their worst ends at
{absolute_worst:.1f}; with little noise (`absolute-quiet`) all of them kill. The settings of the flat PPO (`before`) peak first
and fall by {before_fall:.1f}. Two arms whose trainings are apart by as much among themselves differ by chance; with {trainings}
of each nothing below a point is known.
"""

TEST = """
## Trainings on test seeds

Two arms of above, and `es` as its YAML has it, each for {steps:,} decisions on the two scenarios with {count} training seeds;
of each training the best by validation, on {seeds} test seeds of each scenario. Rivals there: {rivals}.

| agent | mean | standard deviation | each training |
|---|--:|--:|---|
{rows}

Left out: noise on parameters for whole episodes, which is what `es` and `ars` do; a value function of whole episodes; longer
scenarios, other hypervisors, and real demand.
"""


def row(arm: str, found: list[list[float]]) -> str:
    """A line of the table."""
    scores, steps = 100.0 * np.median(found, axis=0), replace(BASE, **ARMS[arm][1]).total_steps
    points = " | ".join(f"{scores[at]:.1f}" for at in (0, len(scores) // 2, -1))
    best, ends = 100.0 * np.median(np.max(found, axis=1)), ", ".join(f"{100.0 * curve[-1]:.1f}" for curve in found)
    return f"| {arm} | {ARMS[arm][0]} | {steps:,} | {points} | {best:.1f} | {ends} |"


def in_words(levels: dict[str, float]) -> str:
    """Rivals."""
    return ", ".join(f"`{name}` {100.0 * goodput:.1f}" for name, goodput in levels.items())


def page(levels: dict[str, float], found: dict[str, list[list[float]]]) -> str:
    """The ablation."""
    told: dict[str, float] = {"static": 100.0 * levels["static"], "trainings": len(found["base"])}
    for arm in READ:
        curves = 100.0 * np.array(found[arm])
        last = curves[:, -1]
        told |= {
            f"{arm}_stuck": int((abs(last - told["static"]) <= 0.5).sum()),
            f"{arm}_worst": last.min(),
            f"{arm}_fall": float(np.median(curves.max(axis=1) - last)),
        }
    head = HEAD.format(
        scenarios=", ".join(SCENARIOS), seeds=SEEDS, rivals=in_words(levels), trainings=told["trainings"]
    )
    return head + "\n".join(row(arm, runs) for arm, runs in found.items()) + "\n" + READING.format(**told)


def test_part(levels: dict[str, float], found: dict[str, list[float]]) -> str:
    """What was learnt, on test seeds."""
    rows = [
        f"| {agent} | {100.0 * np.mean(scores):.1f} | {100.0 * np.std(scores, ddof=min(1, len(scores) - 1)):.1f} | "
        f"{', '.join(f'{100.0 * score:.1f}' for score in scores)} |"
        for agent, scores in found.items()
    ]
    count = len(next(iter(found.values())))
    return TEST.format(steps=BASE.total_steps, count=count, seeds=SEEDS, rivals=in_words(levels), rows="\n".join(rows))


def main(folder: Path, seeds: int) -> None:
    """Train what is not there yet, and write the page."""
    rivals = {rival: load_group("agent", rival) for rival in RIVALS}
    found = dict[str, list[list[float]]]()
    for seed in range(seeds):
        for arm in (*ARMS, "es"):
            scores = trained(folder, arm, seed)
            print(arm, seed, " ".join(f"{score:.4f}" for score in scores), flush=True)
            if arm in ARMS:
                found.setdefault(arm, []).append(scores)
    written = page({name: level(agent) for name, agent in rivals.items()}, found)
    written += test_part(
        {name: level(agent, "test") for name, agent in rivals.items()},
        {words: tested(folder, words, seeds) for words in JUDGED},
    )
    write_atomically(PAGE, written)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
