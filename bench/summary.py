"""From rows to a verdict: scores between stock and reference, with intervals, and paired differences.

The score of a run is (G - G_stock) / mean(G_reference - G_stock) on its scenario, G_stock that of the same seed: 0 is the
hypervisor as shipped, 1 the clairvoyant reference of the agent's seat (``references``). Where that reference gains too little,
agents of its seat have no score. An agent's figure is the mean over training and evaluation seeds of each scenario, and of these
means the interquartile mean over scenarios (``statistics.iqm_of_scenarios``), with a 95 % stratified bootstrap interval over
seeds: so the reference of a seat is 1 and stock 0 in every study. Each agent is compared with the best heuristic by
paired differences of goodput on equal demand, p-values Holm-corrected. What the rules refuse (``envs.rules``) has no rows: an
agent is scored on the scenarios that it plays, and who plays none is named with the reason. The generator is seeded by the
protocol's hash. A reference that an agent beats is no end of a scale: the summary says so (``beaten``).

The p-value is that of a sign-flip test, which with few pairs cannot be small whatever was measured; the summary says so, and
how many evaluation seeds could show a difference at 5 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import hvgym
from hvgym.agents.policy import SEES_ALL
from hvgym.bench import statistics, undecided
from hvgym.bench.beaten import beaten
from hvgym.bench.identity import is_outside
from hvgym.bench.jobs import Done
from hvgym.bench.protocol import Protocol
from hvgym.bench.references import CLAIRVOYANT, NOTHING_SCORED, SMALLEST_GAP, STOCK, NothingScoredError
from hvgym.bench.rollout import METRICS
from hvgym.bench.same_demand import demands_of
from hvgym.envs.errors import InputError

REPLICATES = 2000

SCORED_AS = "mean over seeds of each scenario, interquartile mean over scenarios"
"""In summaries, to tell them from those of before, which trimmed runs of all scenarios together."""

LEVEL = 0.05
"""Of significance; the intervals are its counterpart, 95 %."""


@dataclass(frozen=True)
class Table:
    """Every metric of every agent, ``[scenario, train_seed, eval_seed]``, NaN on scenarios that it is refused, and its scores on
    those that it plays and whose score its seat has. agents: those that have one such scenario; plays: which, by agent; scored:
    scenarios that have a score for some seat; scored_by: which have one by a reference.
    """

    agents: tuple[str, ...]
    scenarios: tuple[str, ...]
    metrics: dict[str, dict[str, np.ndarray]]
    scored: tuple[str, ...]
    scored_by: dict[str, tuple[str, ...]]
    scores: dict[str, np.ndarray]
    plays: dict[str, tuple[str, ...]]
    sees: dict[str, str]


def tabulate(protocol: Protocol, done: Sequence[Done]) -> Table:
    """Arrange rows as arrays. Raises `InputError` when jobs are missing or nothing can be scored."""
    scenarios = tuple(scenario["name"] for scenario in protocol.scenarios)
    metrics = arranged(protocol, done, METRICS)
    playing = list(metrics)
    goodput = {agent: metrics[agent]["goodput"] for agent in playing}
    scored_by = {
        name: tuple(np.array(scenarios)[(goodput[name] - goodput[STOCK]).mean(axis=(1, 2)) >= SMALLEST_GAP].tolist())
        for name in CLAIRVOYANT
        if name in playing
    }
    scored = tuple(name for name in scenarios if any(name in of_it for of_it in scored_by.values()))
    if not scored:
        raise NothingScoredError(NOTHING_SCORED)
    plays, scores = dict[str, tuple[str, ...]](), dict[str, np.ndarray]()
    for agent in playing:
        counts = scored if agent == STOCK else scored_by.get(protocol.reference(agent), ())
        if names := tuple(name for name in counts if name in protocol.plays(agent)):
            there = np.isin(scenarios, names)
            plays[agent] = names
            scores[agent] = (
                np.zeros(goodput[STOCK][there].shape)
                if agent == STOCK
                else statistics.normalised_score(
                    *(g[there] for g in (goodput[agent], goodput[STOCK], goodput[protocol.reference(agent)]))
                )
            )
    sees = {result.job.agent["name"]: result.sees for result in done}
    return Table(tuple(plays), scenarios, metrics, scored, scored_by, scores, plays, sees)


def arranged(protocol: Protocol, done: Sequence[Done], names: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Metrics of every agent that plays, by agent and name, ``[scenario, train_seed, eval_seed]``; NaN on a scenario that it does
    not play. Blocks of evaluation seeds are joined. Raises `InputError` when jobs are missing.
    """
    missing = {job.key: job for job in protocol.jobs()}
    for result in done:
        missing.pop(result.job.key, None)
    if missing:
        raise InputError(
            f"{len(missing)} jobs are not finished (next: {next(iter(missing.values())).name}); run hvgym bench again"
        )
    scenarios = [scenario["name"] for scenario in protocol.scenarios]
    playing = [agent["name"] for agent in protocol.agents if protocol.plays(agent["name"])]
    return {agent: {name: _arrange(agent, name, scenarios, done) for name in names} for agent in playing}


def _arrange(agent: str, metric: str, scenarios: Sequence[str], done: Sequence[Done]) -> np.ndarray:
    of_it = [result for result in done if result.job.agent["name"] == agent]
    of_it.sort(key=lambda result: (result.job.train_seed, result.job.first_eval_seed))
    played = [dict[int, list[float]]() for _ in scenarios]
    for result in of_it:
        rows = played[scenarios.index(result.job.scenario["name"])].setdefault(result.job.train_seed, [])
        rows += [row[metric] for row in result.rows]
    shape = next(np.shape(list(rows.values())) for rows in played if rows)
    return np.array([list(rows.values()) or np.full(shape, np.nan) for rows in played])


def summarise(protocol: Protocol, table: Table) -> dict[str, Any]:
    """The content of summary.json."""
    rng = statistics.seeded_by(metrics["goodput"] for metrics in table.metrics.values())
    agents: dict[str, Any] = {}
    demands = demands_of(protocol.scenarios)
    for agent in table.agents:
        scored = [demands[name] for name in table.plays[agent]]
        estimate = statistics.score_interval(table.scores[agent], rng, REPLICATES, demands=scored)
        there = _played(table, agent)
        means = {name: float(table.metrics[agent][name][there].mean()) for name in METRICS if name != "sim_seconds"}
        per_scenario = {
            scenario: {
                "score": float(table.scores[agent][table.plays[agent].index(scenario)].mean())
                if scenario in table.plays[agent]
                else None,
                "goodput": float(table.metrics[agent]["goodput"][i].mean()) if there[i] else None,
            }
            for i, scenario in enumerate(table.scenarios)
        }
        agents[agent] = {"score_iqm": estimate.value, "score_lo": estimate.lo, "score_hi": estimate.hi}
        agents[agent] |= means | {"sees": table.sees[agent], "code": protocol.code(agent), "seat": protocol.seat(agent)}
        agents[agent]["scenarios"] = per_scenario
    not_scored = {by: [name for name in table.scenarios if name not in of_it] for by, of_it in table.scored_by.items()}
    result: dict[str, Any] = {
        "suite": protocol.suite.name,
        "scored_as": SCORED_AS,
        "protocol": protocol.hash,
        "not_scored": not_scored,
        "agents": agents,
    }
    result |= {"rules": protocol.rules, "refused": protocol.refusals}
    result |= {"unscored": [agent for agent in table.metrics if agent not in table.agents]}
    result |= {"clusters": [scenario["name"] for scenario in protocol.scenarios if scenario.get("hosts")]}
    result |= {"beaten": beaten(protocol, table.scenarios, table.metrics)}
    goodput = {agent: metrics["goodput"] for agent, metrics in table.metrics.items()}
    if found := undecided.lines(goodput, protocol.scenarios):
        result["undecided"] = found
    return result | {"code": _code(protocol)} | _compare(protocol, table, rng)


def _played(table: Table, agent: str) -> np.ndarray:
    """Which scenarios an agent plays, bool ``[scenario]``."""
    return ~np.isnan(table.metrics[agent]["goodput"]).all(axis=(1, 2))


def _code(protocol: Protocol) -> dict[str, Any]:
    """What made the rows: the digest of the code of the package that all share, and of the agents' whose code lies outside it."""
    names = [agent["name"] for agent in protocol.agents if is_outside(agent)]
    outside = {name: protocol.codes[name] for name in names if name in protocol.codes}
    return {"hvgym": protocol.sources.get("code", ""), "outside": outside, "summarised_by": hvgym.__version__}


def best_heuristic(protocol: Protocol, table: Table, among: Sequence[str] | None = None) -> str:
    """The agent with the best score of those (among these) that play everything and neither learn nor see the future."""
    learners = {agent["name"] for agent in protocol.agents if agent.get("train")}
    named = [agent for agent in table.agents if among is None or agent in among]
    others = [agent for agent in named if agent not in learners and table.sees[agent] != SEES_ALL]
    everywhere = [agent for agent in others if _played(table, agent).all()]
    return max(everywhere, key=lambda agent: float(statistics.iqm_of_scenarios(table.scores[agent])))


def _compare(protocol: Protocol, table: Table, rng: np.random.Generator) -> dict[str, Any]:
    """Paired differences of goodput to the best heuristic of those that play everything, on what both play."""
    there = {agent: _played(table, agent) for agent in table.agents}
    best = best_heuristic(protocol, table)
    others = [agent for agent in table.agents if agent != best]
    goodput = {agent: table.metrics[agent]["goodput"] for agent in table.agents}
    both = [(goodput[agent][there[agent]], goodput[best][there[agent]]) for agent in others]
    demands = np.array(list(demands_of(protocol.scenarios).values()))
    tests = [
        statistics.paired_difference(a, b, rng, REPLICATES, demands=demands[there[agent]])
        for agent, (a, b) in zip(others, both, strict=True)
    ]
    differences = [a.mean(axis=1) - b.mean(axis=1) for a, b in both]
    adjusted, hypotheses = statistics.holm_of_distinct([test.p_value for test in tests], differences)
    compared = {
        agent: {"goodput_difference": test.mean, "lo": test.lo, "hi": test.hi, "p_holm": float(p)}
        for agent, test, p in zip(others, tests, adjusted, strict=True)
    }
    same = [name for name, is_so in zip(table.scenarios, statistics.repeated(*goodput.values()), strict=True) if is_so]
    fixed = len({*demands} - {*demands[~np.isin(table.scenarios, same)]})
    power = power_of(len({*demands}), protocol.suite.eval_seeds, len(set(hypotheses)), fixed)
    power["repeated"] = same
    return {"best_heuristic": best, "paired_to_best_heuristic": compared, "significance": power}


def power_of(demands: int, eval_seeds: int, tests: int, fixed: int = 0) -> dict[str, Any]:
    """What the comparisons can show at all: the smallest p-value after Holm's correction, and the seeds that `LEVEL` needs.
    demands: how many the scenarios have; fixed: in how many of them all seeds are one pair."""

    def smallest(seeds: int) -> float:
        return min(1.0, tests * statistics.smallest_p_value(fixed + (demands - fixed) * seeds))

    enough = next((seeds for seeds in range(2, 1000) if smallest(seeds) <= LEVEL), None)
    return {"eval_seeds": eval_seeds, "smallest_p_holm": smallest(eval_seeds), "eval_seeds_needed": enough}


def one_pair(scenarios: Sequence[str]) -> str:
    """A line on scenarios in which every seed gave the same."""
    return (
        f"Every seed gave the same in {', '.join(scenarios)}: there seeds are copies of one pair and count as one; differences "
        "there are exact for this demand, and say nothing of another."
    )


def doubts(summary: dict[str, Any]) -> list[str]:
    """Lines that must stand beside p-values and intervals: that seeds were added until it was decided, what the user's own data do
    not decide, what so few seeds cannot show, and where the two disagree.
    """
    power, lines = summary["significance"], [*summary.get("stopping", ()), *summary.get("undecided", ())]
    if same := power.get("repeated"):
        lines.append(one_pair(same))
    if power["smallest_p_holm"] > LEVEL:
        more = (
            f"suite.eval_seeds={power['eval_seeds_needed']} could"
            if power["eval_seeds_needed"]
            else "compare fewer agents, or on more scenarios"
        )
        lines.append(
            f"{power['eval_seeds']} evaluation seeds cannot show a difference at {LEVEL:.0%}, however large: the smallest p-value "
            f"after Holm's correction is {power['smallest_p_holm']:.2g}; {more}. Intervals of so few seeds are too narrow."
        )
        return lines
    apart = [
        agent
        for agent, test in summary["paired_to_best_heuristic"].items()
        if (test["lo"] > 0.0 or test["hi"] < 0.0) and test["p_holm"] > LEVEL
    ]
    if apart:
        lines.append(
            f"Not significant although the interval excludes 0: {', '.join(apart)}. The p-value counts; it is corrected for the "
            "number of comparisons, the interval is not, and with few seeds it is too narrow."
        )
    return lines


def not_scored(summary: Mapping[str, Any]) -> list[str]:
    """Lines on what has no score: scenarios by reference, and agents that have none at all."""
    lines = [
        f"{scenario}: {reference} gains less than {SMALLEST_GAP:g} of goodput over stock there, so nobody is scored by it"
        for reference, scenarios in summary["not_scored"].items()
        for scenario in scenarios
    ]
    if summary["unscored"]:
        lines.append(f"without a score, for want of such a scenario: {', '.join(summary['unscored'])}")
    return lines


def not_played(summary: dict[str, Any]) -> list[str]:
    """A line for each agent that the rules refuse and reason: everywhere, or where."""
    lines = list[str]()
    for agent, reasons in summary["refused"].items():
        for reason in dict.fromkeys(reasons.values()):
            where = [scenario for scenario, of_it in reasons.items() if of_it == reason]
            named = f" on {', '.join(where)}" if agent in summary["agents"] or len(where) < len(reasons) else ""
            lines.append(f"{agent} is not played{named}: {reason}")
    return lines


def in_part(summary: Mapping[str, Any], agent: str) -> str:
    """An agent's name, and on how many scenarios it is played where that is not all."""
    refused, total = len(summary["refused"].get(agent, ())), len(summary["agents"][agent]["scenarios"])
    return f"{agent} ({total - refused} of {total})" if refused else agent


def ranking(summary: dict[str, Any]) -> list[str]:
    """Agents, best score first."""
    return sorted(summary["agents"], key=lambda agent: -summary["agents"][agent]["score_iqm"])
