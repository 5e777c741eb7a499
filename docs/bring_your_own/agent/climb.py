"""A learner of one's own for ``hvgym train`` and ``hvgym bench``: random search over a linear policy. Copy it, and put your
algorithm into `Climb.train`.

Each round a candidate is drawn around the best weights so far, both play the same demand, and the better one stays. All that the
search goes on from is one JSON file, written as a whole after each round; what is drawn depends on seed and round alone. So a
search that was killed ends in the same bits.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hvgym.agents.learned.training import Task, Trained, Trainer, Update, Validation
from hvgym.agents.learned.view import FEATURES, View
from hvgym.agents.policy import Policy
from hvgym.envs.files import write_atomically
from hvgym.envs.schema import number
from hvgym.envs.telemetry import Targets, Telemetry

STEP = 0.05  # of a VM's memory, at most so much in a period (a guess)


class Linear(Policy):
    """What plays: it is made with ``checkpoint=FILE``, and by the trainer with weights."""

    period_s = 20.0

    def __init__(self, checkpoint: str | Path | None = None, weights: np.ndarray | None = None) -> None:
        self.weights = np.array(json.loads(Path(checkpoint).read_text())) if checkpoint else weights

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._view = View()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm, features = telemetry.vm, self._view.look(telemetry)  # [env, vm, feature]
        change = STEP * np.tanh(features @ self.weights)
        return Targets(np.clip(vm["size_mib"] + change * vm["memory_mib"], vm["min_mib"], vm["memory_mib"]))


@dataclass(frozen=True)
class Climb(Trainer):
    """Its fields are the keys of ``train`` in the YAML. seeds: of demand that a round plays."""

    total_steps: int = number(20_000, least=1)
    validations: int = number(4, least=1)
    seeds: int = number(2, least=1)
    spread: float = number(0.3, above=0)

    def train(self, task: Task) -> Trained:
        """See `Trainer`."""
        task.claim(self)  # refuses a folder of other settings; total_steps and validations may differ
        kept, model = task.folder / "climb.json", task.folder / "best.json"
        state = {"round": 0, "steps": 0, "weights": [0.0] * len(FEATURES), "curve": []}
        if kept.exists():
            state = json.loads(kept.read_text())
        every = self.total_steps / self.validations
        while state["steps"] < self.total_steps:
            rng = np.random.default_rng([task.seed, state["round"]])
            scenario = task.scenarios[state["round"] % len(task.scenarios)]
            demand = [task.first_seed + state["round"] * self.seeds + k for k in range(self.seeds)]
            weights = np.array(state["weights"])
            candidate = weights + self.spread * rng.standard_normal(len(weights))
            old, new = (task.play(scenario, self._policy(task, one), demand).mean() for one in (weights, candidate))
            state["weights"] = (candidate if new > old else weights).tolist()
            before, state["round"] = state["steps"], state["round"] + 1
            state["steps"] += 2 * self.seeds * round(scenario.duration_s / Linear.period_s)
            if task.watch:
                task.watch(Update(state["steps"], max(old, new), -max(old, new), float("nan")))
            if state["steps"] // every > before // every:
                self._validate(task, state, model)
            write_atomically(kept, json.dumps(state))
        return Trained(model, tuple(Validation(**point) for point in state["curve"]))

    def _policy(self, task: Task, weights: np.ndarray) -> Linear:
        policy = Linear(weights=weights)
        policy.declaration = task.declaration  # seat, channels and signals of the YAML, as when it plays
        return policy

    def _validate(self, task: Task, state: dict, model: Path) -> None:
        score = task.validate(self._policy(task, np.array(state["weights"])))
        best = max([score, *(point["score"] for point in state["curve"])])
        if score == best:
            write_atomically(model, json.dumps(state["weights"]))
        state["curve"].append(asdict(Validation(state["steps"], score, best)))
        task.report(Validation(**state["curve"][-1]), self.total_steps)
