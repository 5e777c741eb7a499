"""Evolution strategies: direct search over whole episodes for the weights of a policy (``searched.Searched``).

A generation draws `population` sets of weights around a mean, plays each on `seeds` demand seeds of every scenario, the same for
all of them, and moves mean and spread towards the better half (sep-CMA-ES: Ros and Hansen, PPSN 2008, a normal distribution with
a diagonal covariance; the library is ``cmaes``). All of a generation plays in one batch, a lane each. What counts is how many times
less goodput a set loses than stock, the hypervisor as shipped, on the same seeds, as a logarithm: to halve what is lost is worth
the same in every scenario, so one in which VMs are killed does not drown the others, and the luck of a seed cancels out.

Which way the mean moves in a generation is mostly luck (of its sets, seeds and scenarios), so not the last mean is validated, nor
the luckiest set, but the average of the means of the later half of all generations so far (Polyak and Juditsky, 1992). What
the search begins with is validated too: nothing worse is kept.

Where a step's action is noisy and its effect comes minutes later, a policy gradient credits the wrong step; a
perturbed weight is felt for a whole episode. In a prototype the same map with PPO stayed at .38 where this reached .79.

Sources: the prototype on quick (population 24, common seeds in a generation); `sigma` of .3 was better here than its .1 (both in
the first 5,000 episodes). The rest are guesses.
"""

import dataclasses
import importlib
import json
import math
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.beside import refuse_shadowed
from hvgym.agents.learned.safety import constraint_of
from hvgym.agents.learned.searched import Searched, settings_of, text
from hvgym.agents.learned.training import Judged, Task, Trained, Trainer, Update, Validation
from hvgym.agents.policy import Policy, make_policy
from hvgym.envs.errors import InputError, in_words, nearest
from hvgym.envs.files import write_atomically
from hvgym.envs.reward import reward_of
from hvgym.envs.scenario import Scenario, load_group
from hvgym.envs.schema import number

LEAST_LOSS = 0.02
"""Of goodput: to lose less than this is worth no more."""

AHEAD = 16
"""Generations whose stock is played in one batch: where a policy runs on beneath, two seeds take as long as thirty (a guess)."""

CHECKPOINT = Path("checkpoint") / "state.pkl"


LINEAR = "hvgym.agents.learned.linear.SharedLinear"


@dataclass(frozen=True)
class EvolutionStrategy(Trainer):
    """The ``train`` keys of ``conf/agent/es.yaml``. policy: `_target_` is a `Searched`, the rest its settings; start: weights
    that are not what the class begins with. total_steps: decisions of a host, over all sets, seeds and scenarios; the generation
    that passes it is the last. scenarios: so many of them are drawn for each generation, None is all; episode_s: how much of an
    episode a set plays, None is all of it; kill_cost_s: of a kill in fitness, None is the scenario's own; threads:
    for hosts that are played in one compiled call, which changes no result. reward, constraint: fitness is the reward of
    ``envs.reward`` in place of goodput, less a penalty above the bound of ``safety``."""

    policy: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, float] = field(default_factory=dict)
    total_steps: int = number(2_000_000, least=1)
    population: int = number(24, least=4, most=10_000)
    seeds: int = number(2, least=1, most=1000)
    sigma: float = number(0.3, above=0)
    scenarios: int | None = number(None, least=1)
    episode_s: int | None = number(None, least=1)
    kill_cost_s: float | None = number(None, least=0)
    threads: int = number(1, least=1)
    validations: int = number(12, least=1)
    reward: Mapping[str, Any] | None = None
    constraint: Mapping[str, Any] | None = None

    def check(self, scenarios: Sequence[Scenario]) -> None:
        """See `Trainer`."""
        self.of(self.first())
        for scenario in scenarios:
            self.played(scenario)

    def steps_of(self, scenarios: Sequence[Scenario]) -> int:
        """Environment steps of a generation, where scenarios differ in length that of the mean."""
        steps = sum(one.duration_s // one.control_interval_s for one in map(self.played, scenarios))
        share = 1.0 if self.scenarios is None else min(self.scenarios / len(scenarios), 1.0)
        return max(round(self.population * self.seeds * steps * share), 1)

    def train(self, task: Task) -> Trained:
        """See `Trainer`."""
        task.claim(self)
        search, curve = _restore(task.folder) or self._begun(task)
        every = self.steps_of(task.scenarios)
        generations = -(-self.total_steps // every)
        stock = _Stock(self, task, generations)
        ends = sorted({-(-generations * k // self.validations) for k in range(1, self.validations + 1)})
        for end in ends:
            if search.generation >= end:
                continue
            while search.generation < end:
                self._generation(search, task, every, stock)
            curve.append(self._validated(search, task, every, curve))
            _save(task.folder, search, curve)
            task.report(curve[-1], generations * every)
        return Trained(task.folder / "best.json", tuple(curve))

    def _begun(self, task: Task) -> tuple["_Search", list[Validation]]:
        """The search before its first generation; what it begins with is the best until another is better."""
        search = _Search(self, task.seed)
        policy = self.of(search.mean, task)
        search.start_score = task.validate(policy)
        _keep(policy, task, 0)
        _save(task.folder, search, [])
        return search, []

    def seeds_of(self, task: Task, generation: int, generations: int = 1) -> range:
        """Demand seeds of a generation, or of several."""
        first = task.first_seed + generation * self.seeds
        return range(first, first + generations * self.seeds)

    def _generation(self, search: "_Search", task: Task, every: int, of_stock: "_Stock") -> None:
        weights = search.ask()
        seeds = self.seeds_of(task, search.generation)
        scenarios = search.drawn(len(task.scenarios), self.scenarios)
        fitness, goodput, cost_s = np.zeros(self.population), 0.0, 0.0
        best = _best_of(self.reward)
        for index in scenarios:
            scenario, stock = self.played(task.scenarios[index]), of_stock.mean(index, search.generation)
            of_host = scenario.is_cluster and not self._policy()[0].of_cluster  # one of it runs on every host
            hosts = len(scenario.host_names) if of_host else 1
            lanes = self.of(np.repeat(weights, self.seeds * hosts, axis=0), task)
            judged = self.judge(task, scenario, lanes, [*seeds] * self.population)
            worth = judged.reward.reshape(self.population, self.seeds).mean(axis=1)
            fitness += _above(stock, worth - self._excess(judged, scenario), best) / len(scenarios)
            goodput += float(judged.goodput.mean()) / len(scenarios)
            cost_s += float(judged.cost_s.mean()) / len(scenarios)
        search.tell(weights, fitness)
        if task.watch:
            spread = float(np.log(weights.std(axis=0)).sum())
            slo_s = cost_s if self.constraint is not None else math.nan
            task.watch(Update(search.generation * every, goodput, float(-fitness.mean()), spread, slo_s=slo_s))

    def judge(self, task: Task, scenario: Scenario, policy: Policy, seeds: Sequence[int]) -> Judged:
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

    def played(self, scenario: Scenario) -> Scenario:
        """What a set plays of a scenario."""
        length_s, cost_s = self.episode_s, self.kill_cost_s
        if length_s is not None and length_s < scenario.duration_s:
            if length_s % scenario.control_interval_s:
                interval_s = scenario.control_interval_s
                raise InputError(
                    f"agent.train.episode_s={length_s}: must be a multiple of {interval_s}, as {scenario.name} decides"
                )
            workload = dataclasses.replace(scenario.workload, episode_s=length_s)
            scenario = dataclasses.replace(scenario, workload=workload)
        return scenario if cost_s is None else dataclasses.replace(scenario, kill_cost_s=cost_s)

    def _validated(self, search: "_Search", task: Task, every: int, curve: list[Validation]) -> Validation:
        """Play the average, and keep it when it is the best so far."""
        policy = self.of(search.average, task)
        score = task.validate(policy)
        best = max((point.best for point in curve), default=search.start_score)
        if score > best:
            _keep(policy, task, search.generation)
        return Validation(search.generation * every, score, max(score, best))

    def of(self, weights: np.ndarray, task: Task | None = None) -> Searched:
        """The policy with these weights, or a set for each lane."""
        target, settings = self._policy()
        policy: Searched = target.of(weights, **settings)
        policy.threads = self.threads
        if task is not None:
            policy.declaration = task.declaration
        return policy

    def _policy(self) -> tuple[type[Searched], dict[str, Any]]:
        """Class and settings. Raises `InputError` that names the key."""
        named = dict(self.policy)
        target = str(named.pop("_target_", LINEAR))
        module, _, name = target.rpartition(".")
        where = f"agent.train.policy._target_={target!r}"
        refuse_shadowed(module.partition(".")[0], where)
        try:
            found = getattr(importlib.import_module(module), name)
        except (Exception, SystemExit) as error:
            raise InputError(f"{where} cannot be loaded ({in_words(error)})") from error
        if not (isinstance(found, type) and issubclass(found, Searched) and len(found.names) > 1):
            raise InputError(
                f"{where} is no Searched (agents/learned/searched.py): a policy of two named weights or more"
            )
        return found, settings_of(found, named)

    def first(self) -> np.ndarray:
        """Weights ``[weight]`` with which the search begins."""
        target, _ = self._policy()
        for name in self.start:
            if name not in target.names:
                raise InputError(f"agent.train.start.{name}: unknown weight{nearest(name, target.names)}")
        return np.array([self.start.get(name, target.first.get(name, 0.0)) for name in target.names])


class _Stock:
    """What stock is rewarded in the generations of a training, played some generations ahead."""

    def __init__(self, settings: EvolutionStrategy, task: Task, generations: int) -> None:
        self._settings, self._task, self._generations = settings, task, generations
        # by scenario: a first generation, and rewards ``[generation, seed]``
        self._known = dict[int, tuple[int, np.ndarray]]()

    def mean(self, index: int, generation: int) -> float:
        """Over the seeds of a generation, on a scenario."""
        first, rewards = self._known.get(index, (0, np.zeros((0, 0))))
        if not first <= generation < first + len(rewards):
            first, rewards = self._known[index] = generation, self._play(index, generation)
        return float(rewards[generation - first].mean())

    def _play(self, index: int, generation: int) -> np.ndarray:
        settings, count = self._settings, min(AHEAD, self._generations - generation)
        seeds = settings.seeds_of(self._task, generation, count)
        scenario = settings.played(self._task.scenarios[index])
        return settings.judge(self._task, scenario, _stock(), seeds).reward.reshape(count, settings.seeds)


class _Search:
    """sep-CMA-ES with a generator that depends on the generation alone, so that a checkpoint need not hold one."""

    def __init__(self, settings: EvolutionStrategy, seed: int) -> None:
        from cmaes import SepCMA

        self._search = SepCMA(settings.first(), settings.sigma, population_size=settings.population)
        self._seed = seed
        self._means = list[np.ndarray]()
        self.start_score = -np.inf

    @property
    def generation(self) -> int:
        """How many are done."""
        return int(self._search.generation)

    @property
    def mean(self) -> np.ndarray:
        """Weights ``[weight]``."""
        return np.array(self._search.mean)

    @property
    def average(self) -> np.ndarray:
        """Weights ``[weight]``: the mean of the means of the later half of the generations."""
        return np.mean(self._means[len(self._means) // 2 :], axis=0)

    def ask(self) -> np.ndarray:
        """Sets of weights ``[set, weight]``."""
        drawn = np.random.SeedSequence([self._seed, self.generation]).generate_state(1)
        self._search.reseed_rng(int(drawn[0]))
        return np.array([self._search.ask() for _ in range(self._search.population_size)])

    def drawn(self, of: int, count: int | None) -> list[int]:
        """Which scenarios this generation plays, each as often as the others but for one over a round."""
        if count is None or count >= of:
            return list(range(of))
        turns = [divmod(self.generation * count + place, of) for place in range(count)]
        return sorted(int(np.random.default_rng([self._seed, turn]).permutation(of)[place]) for turn, place in turns)

    def tell(self, weights: np.ndarray, fitness: np.ndarray) -> None:
        """How good they were; more is better."""
        self._search.tell([(one, -float(worth)) for one, worth in zip(weights, fitness, strict=True)])
        self._means.append(self.mean)


def _best_of(reward: Mapping[str, Any] | None) -> float | None:
    """What is rewarded where nothing is lost; None of a function of one's own, and beside stock, where nobody knows."""
    read = reward_of(reward)
    return 1.0 if read is None else read.best or None


def _above(stock: float, worth: np.ndarray, best: float | None) -> np.ndarray:
    """How much better than stock sets are on a scenario, ``[set]``: the logarithm of how many times less they lose; where nobody
    knows what is lost, the difference."""
    if best is None:
        return worth - stock
    return np.asarray(np.log(max(best - stock, LEAST_LOSS)) - np.log(np.maximum(best - worth, LEAST_LOSS)))


def _keep(policy: Searched, task: Task, generations: int) -> None:
    """Write the best weights so far."""
    names = list(dict.fromkeys(scenario.name for scenario in task.scenarios))
    made = {"trained_on": names, "seed": task.seed, "generations": generations}
    write_atomically(task.folder / "best.json", text(policy, made))


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
