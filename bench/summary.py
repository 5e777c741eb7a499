"""From rows to a verdict: scores between static and oracle, with intervals, and paired differences.

The score of a run is (G - G_static) / mean(G_oracle - G_static) on its scenario, G_static that of the same seed: 0 is
never to reclaim, 1 the clairvoyant bound. An agent's figure is the interquartile mean over scenarios, training seeds
and evaluation seeds, with a 95 % stratified bootstrap interval. Each agent is compared with the best heuristic by
paired differences of goodput on equal demand, p-values Holm-corrected. The generator is seeded by the protocol's
hash.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hvgym.agents.policy import profile_of
from hvgym.bench import statistics
from hvgym.bench.rollout import METRICS
from hvgym.bench.study import Done, Protocol
from hvgym.envs.errors import InputError

REPLICATES = 2000

SMALLEST_GAP = 1e-4
"""A scenario in which clairvoyance gains less goodput than this tells no policies apart and is left out of the score."""


@dataclass(frozen=True)
class Table:
    """Every metric of every agent, ``[scenario, train_seed, eval_seed]``, and the scores of the scenarios that can be
    scored.
    """

    agents: tuple[str, ...]
    scenarios: tuple[str, ...]
    metrics: dict[str, dict[str, np.ndarray]]
    scored: tuple[str, ...]
    scores: dict[str, np.ndarray]


def tabulate(protocol: Protocol, done: Sequence[Done]) -> Table:
    """Arrange rows as arrays. Raises `InputError` when jobs are missing or nothing can be scored."""
    missing = {job.key: job for job in protocol.jobs()}
    for result in done:
        missing.pop(result.job.key, None)
    if missing:
        raise InputError(
            f"{len(missing)} jobs are not finished (next: {next(iter(missing.values())).name}); run hvgym bench again"
        )
    agents = tuple(agent["name"] for agent in protocol.agents)
    scenarios = tuple(scenario["name"] for scenario in protocol.scenarios)
    metrics = {agent: {name: _arrange(agent, name, scenarios, done) for name in METRICS} for agent in agents}
    static, oracle = metrics["static"]["goodput"], metrics["oracle"]["goodput"]
    tells_apart = (oracle - static).mean(axis=(1, 2)) > SMALLEST_GAP
    if not tells_apart.any():
        raise InputError(
            "oracle gains nothing over static in any scenario, so nothing can be scored; raise overcommit or use other scenarios"
        )
    scored = tuple(name for name, tells in zip(scenarios, tells_apart, strict=True) if tells)
    scores = {
        agent: statistics.normalised_score(*(g[tells_apart] for g in (metrics[agent]["goodput"], static, oracle)))
        for agent in agents
    }
    return Table(agents, scenarios, metrics, scored, scores)


def _arrange(agent: str, metric: str, scenarios: Sequence[str], done: Sequence[Done]) -> np.ndarray:
    """One metric of one agent, ``[scenario, train_seed, eval_seed]``."""
    return np.array(
        [
            [
                [row[metric] for row in result.rows]
                for result in sorted(done, key=lambda result: result.job.train_seed)
                if result.job.agent["name"] == agent and result.job.scenario["name"] == scenario
            ]
            for scenario in scenarios
        ]
    )


def summarise(protocol: Protocol, table: Table) -> dict[str, Any]:
    """The content of summary.json."""
    rng = np.random.default_rng(int(protocol.hash, 16))
    agents: dict[str, Any] = {}
    sees = {agent["name"]: profile_of(agent) for agent in protocol.agents}
    for agent in table.agents:
        estimate = statistics.score_interval(table.scores[agent], rng, REPLICATES)
        means = {name: float(table.metrics[agent][name].mean()) for name in METRICS if name != "sim_seconds"}
        per_scenario = {
            scenario: {
                "score": float(table.scores[agent][table.scored.index(scenario)].mean())
                if scenario in table.scored
                else None,
                "goodput": float(table.metrics[agent]["goodput"][i].mean()),
            }
            for i, scenario in enumerate(table.scenarios)
        }
        agents[agent] = {"score_iqm": estimate.value, "score_lo": estimate.lo, "score_hi": estimate.hi}
        agents[agent] |= means | {"sees": sees[agent], "scenarios": per_scenario}
    not_scored = [scenario for scenario in table.scenarios if scenario not in table.scored]
    result = {"suite": protocol.suite.name, "protocol": protocol.hash, "not_scored": not_scored, "agents": agents}
    return result | _compare(protocol, table, agents, rng)


def _compare(protocol: Protocol, table: Table, agents: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Paired differences of goodput to the best heuristic."""
    learners = {agent["name"] for agent in protocol.agents if agent.get("train")}
    heuristics = [agent for agent in table.agents if agent not in learners and agent != "oracle"]
    best = max(heuristics, key=lambda agent: agents[agent]["score_iqm"])
    others = [agent for agent in table.agents if agent != best]
    goodput = {agent: table.metrics[agent]["goodput"] for agent in table.agents}
    tests = [statistics.paired_difference(goodput[agent], goodput[best], rng, REPLICATES) for agent in others]
    adjusted = statistics.holm([test.p_value for test in tests])
    compared = {
        agent: {"goodput_difference": test.mean, "lo": test.lo, "hi": test.hi, "p_holm": float(p)}
        for agent, test, p in zip(others, tests, adjusted, strict=True)
    }
    return {"best_heuristic": best, "paired_to_best_heuristic": compared}


def ranking(summary: dict[str, Any]) -> list[str]:
    """Agents, best score first."""
    return sorted(summary["agents"], key=lambda agent: -summary["agents"][agent]["score_iqm"])
