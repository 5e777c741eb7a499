"""Evolution strategies: direct search over whole episodes for the weights of `SharedLinear`.

A generation draws `population` sets of weights around a mean, plays each on `seeds` demand seeds of every scenario, the same for
all of them, and moves mean and spread towards the better half (sep-CMA-ES: Ros and Hansen, PPSN 2008, a normal distribution with
a diagonal covariance; the library is ``cmaes``). All of a generation plays in one batch, a lane each. What counts is the part that
a set regains of what stock, the hypervisor as shipped, loses of goodput on the same seeds: so a scenario in which much can
be lost does not drown the others, and the luck of a seed cancels out. The mean, not the luckiest set, is validated.

Where a step's action is noisy and its effect comes minutes later, a policy gradient credits the wrong step; a
perturbed weight is felt for a whole episode. In a prototype the same map with PPO stayed at .38 where this reached .79.

Sources: the prototype on quick (population 24, common seeds in a generation, fitness by each scenario's headroom); `sigma` of .3
was better here than its .1 (both in the first 5,000 episodes). The rest are guesses.
"""

import json
import math
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.learned.linear import SharedLinear, text
from hvgym.agents.learned.safety import constraint_of
from hvgym.agents.learned.training import Judged, Task, Trained, Trainer, Update, Validation
from hvgym.agents.learned.view import FEATURES
from hvgym.agents.policy import Policy, make_policy
from hvgym.envs.files import write_atomically
from hvgym.envs.reward import reward_of
from hvgym.envs.scenario import Scenario, load_group
from hvgym.envs.schema import number

LEAST_LOSS = 0.02
"""Of goodput: where stock loses less, what is regained is counted as a part of this."""

CHECKPOINT = Path("checkpoint") / "state.pkl"


@dataclass(frozen=True)
class EvolutionStrategy(Trainer):
    """The ``train`` keys of ``conf/agent/es.yaml``. total_steps: decisions of a host, over all sets, seeds and scenarios; the
    generation that passes it is the last. step, period_s: of the policy (``linear``). threads: for the hosts; changes no result.
    initial_growth: first weight of the constant feature, which makes VMs grow until something is learnt. reward, constraint:
    fitness is the reward of ``envs.reward`` in place of goodput, less a penalty above the bound of ``safety``."""

    total_steps: int = number(2_000_000, least=1)
    population: int = number(24, least=4, most=10_000)
    seeds: int = number(2, least=1, most=1000)
    sigma: float = number(0.3, above=0)
    initial_growth: float = number(0.3)
    step: float = number(0.1, above=0, most=1)
    period_s: float = number(10.0, least=1)
    threads: int = number(1, least=1)
    validations: int = number(12, least=1)
    reward: Mapping[str, Any] | None = None
    constraint: Mapping[str, Any] | None = None

    def steps_of(self, scenarios: Sequence[Scenario]) -> int:
        """Environment steps of a generation."""
        return self.population * self.seeds * sum(s.duration_s // s.control_interval_s for s in scenarios)

    def train(self, task: Task) -> Trained:
        """See `Trainer`."""
        task.claim(self)
        search, curve = _restore(task.folder) or (_Search(self, task.seed), [])
        every = self.steps_of(task.scenarios)
        generations = -(-self.total_steps // every)
        ends = sorted({-(-generations * k // self.validations) for k in range(1, self.validations + 1)})
        for end in ends:
            if search.generation >= end:
                continue
            while search.generation < end:
                self._generation(search, task, every)
            curve.append(self._validated(search, task, every, curve))
            _save(task.folder, search, curve)
            task.report(curve[-1], generations * every)
        return Trained(task.folder / "best.json", tuple(curve))

    def _generation(self, search: "_Search", task: Task, every: int) -> None:
        weights = search.ask()
        first = task.first_seed + search.generation * self.seeds
        seeds = range(first, first + self.seeds)
        fitness, goodput, cost_s = np.zeros(self.population), 0.0, 0.0
        best = _best_of(self.reward)
        for scenario in task.scenarios:
            stock = float(self._judge(task, scenario, _stock(), seeds).reward.mean())
            lanes = self.policy(np.repeat(weights, self.seeds, axis=0))
            judged = self._judge(task, scenario, lanes, [*seeds] * self.population)
            worth = judged.reward.reshape(self.population, self.seeds).mean(axis=1)
            fitness += (
                (worth - self._excess(judged, scenario) - stock) / max(best - stock, LEAST_LOSS) / len(task.scenarios)
            )
            goodput += float(judged.goodput.mean()) / len(task.scenarios)
            cost_s += float(judged.cost_s.mean()) / len(task.scenarios)
        search.tell(weights, fitness)
        if task.watch:
            spread = float(np.log(weights.std(axis=0)).sum())
            slo_s = cost_s if self.constraint is not None else math.nan
            task.watch(Update(search.generation * every, goodput, float(-fitness.mean()), spread, slo_s=slo_s))

    def _judge(self, task: Task, scenario: Scenario, policy: Policy, seeds: Sequence[int]) -> Judged:
        """By goodput alone, unless a reward or a constraint is set."""
        if self.reward is None and self.constraint is None:
            goodput = task.play(scenario, policy, seeds)
            return Judged(goodput, goodput, np.zeros(len(goodput)))
        return task.judge(scenario, policy, seeds, self.reward)

    def _excess(self, judged: Judged, scenario: Scenario) -> "np.ndarray | float":
        """What a set is charged for seconds above the constraint, in goodput, ``[set]``."""
        bound = constraint_of(self.constraint)
        if bound is None:
            return 0.0
        missed_s = judged.cost_s.reshape(self.population, self.seeds).mean(axis=1)
        return np.array([bound.excess(cost_s, scenario.duration_s) for cost_s in missed_s.tolist()])

    def _validated(self, search: "_Search", task: Task, every: int, curve: list[Validation]) -> Validation:
        """Play the mean, and keep it when it is the best so far."""
        score = task.validate(self.policy(search.mean))
        best = max((point.best for point in curve), default=-np.inf)
        if score > best:
            made = {"trained_on": [s.name for s in task.scenarios], "seed": task.seed, "generations": search.generation}
            write_atomically(task.folder / "best.json", text(search.mean, self.step, self.period_s, made))
        return Validation(search.generation * every, score, max(score, best))

    def policy(self, weights: np.ndarray) -> Policy:
        """With these weights, or a set for each lane."""
        policy = SharedLinear.of(weights, self.step, self.period_s)
        policy.threads = self.threads
        return policy


class _Search:
    """sep-CMA-ES with a generator that depends on the generation alone, so that a checkpoint need not hold one."""

    def __init__(self, settings: EvolutionStrategy, seed: int) -> None:
        from cmaes import SepCMA

        mean = np.where(np.array(FEATURES) == "constant", settings.initial_growth, 0.0)
        self._search, self._seed = SepCMA(mean, settings.sigma, population_size=settings.population), seed

    @property
    def generation(self) -> int:
        """How many are done."""
        return int(self._search.generation)

    @property
    def mean(self) -> np.ndarray:
        """Weights ``[feature]``."""
        return np.array(self._search.mean)

    def ask(self) -> np.ndarray:
        """Sets of weights ``[set, feature]``."""
        drawn = np.random.SeedSequence([self._seed, self.generation]).generate_state(1)
        self._search.reseed_rng(int(drawn[0]))
        return np.array([self._search.ask() for _ in range(self._search.population_size)])

    def tell(self, weights: np.ndarray, fitness: np.ndarray) -> None:
        """How good they were; more is better."""
        self._search.tell([(one, -float(worth)) for one, worth in zip(weights, fitness, strict=True)])


def _best_of(reward: Mapping[str, Any] | None) -> float:
    """What is rewarded where nothing is lost, by which a scenario's headroom is measured; of a function of one's own, and beside
    stock, a whole unit above 0."""
    read = reward_of(reward)
    return 1.0 if read is None or read.best == 0.0 else read.best


def _stock() -> Policy:
    policy = make_policy(load_group("agent", "stock"))
    assert isinstance(policy, Policy)
    return policy


def _save(folder: Path, search: _Search, curve: list[Validation]) -> None:
    """Everything, or what was there before."""
    fresh = (folder / CHECKPOINT).with_suffix(".new")
    fresh.parent.mkdir(exist_ok=True)
    fresh.write_bytes(pickle.dumps((search, curve)))
    os.replace(fresh, folder / CHECKPOINT)


def _restore(folder: Path) -> tuple[_Search, list[Validation]] | None:
    """The state of an interrupted training, or None; says so where it cannot be read. It is one's own working file."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        search, curve = pickle.loads(path.read_bytes())
        json.loads((folder / "best.json").read_bytes())
        return search, list(curve)
    except Exception as error:  # a damaged pickle raises anything
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        print(f"{path}: damaged ({reason}); the training begins anew", file=sys.stderr, flush=True)
    return None
