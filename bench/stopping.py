"""Seeds are added until it is decided: looks that are planned beforehand, and false decisions at most 5 % over all of them.

Each look has twice the evaluation seeds of the one before, the last one the most that are allowed. At a look an agent is decided
when the interval of its mean paired difference of goodput excludes zero; a decision stands. The 5 % are divided by Bonferroni:
equally over the agents that are compared, and of an agent's part one half is kept for the last look and the other divided equally
over those before. So they hold over all looks and agents together, whatever the dependence between them (a group sequential test by
the union bound; Jennison and Turnbull, "Group Sequential Methods", 2000). Boundaries of O'Brien and Fleming have a little more
power and need joint normality. Where the other agent is not named beforehand, it is the best heuristic by the rows of the first
look; then every pair of them counts as a comparison.

Kills are rare and dear: an agent that has not killed in ten episodes may in the eleventh, and lose more than it has gained. Tests
for symmetric differences, and bootstraps, decide wrongly there in half of all studies. So the interval is one that supposes no
shape (``statistics.worst_case_interval``), with the worst case added once: the largest difference that was seen, or one kill of the
VM of most weight as the episode begins.

Decisions are about new demand for the agents as trained. Scenarios in which every seed gave the same, as stories do, have none, and
say nothing here (their differences are exact); where there are no others, there is nothing to add seeds for. Left out: kills of
several VMs at once, where none was seen; stopping because nothing is to be expected any more (two agents that play alike to the bit
go on to the last look).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from hvgym.bench import statistics
from hvgym.bench.jobs import read_json
from hvgym.bench.protocol import Protocol
from hvgym.bench.same_demand import demands_of
from hvgym.bench.study import read_protocol, read_study
from hvgym.bench.summary import LEVEL, arranged, best_heuristic, tabulate
from hvgym.envs.errors import InputError, many
from hvgym.envs.files import write_atomically
from hvgym.envs.scenario import Scenario

FILE = "stopping.json"
"""In a study's folder: the plan, and what was decided."""

FIXED_POWER = 0.8

BEYOND = 100
"""Replicates of an interval that lie beyond its two ends together."""


@dataclass(frozen=True)
class Plan:
    """Which agents are compared with which, and with how many evaluation seeds it is looked at. to: None until the first look
    has chosen it; named: whether the command named it; scenarios, by name, and train_seeds: what the study has, which must not
    change between looks."""

    agents: tuple[str, ...]
    looks: tuple[int, ...]
    to: str | None = None
    named: bool = False
    scenarios: tuple[str, ...] = ()
    train_seeds: int = 1

    @property
    def comparisons(self) -> int:
        """How many share the error: all pairs where the other agent is chosen by rows (stock may be chosen, too)."""
        return len(self.agents) if self.named else math.comb(len({*self.agents, "stock"}), 2)

    def error(self, look: int) -> float:
        """Of one comparison at the look of this index, two-sided."""
        part = LEVEL / self.comparisons
        before = len(self.looks) - 1
        if before == 0:
            return part
        return part / 2 if look == before else part / 2 / before


@dataclass(frozen=True)
class Decision:
    """Where a comparison stands. seeds: with which the interval was made; decided: whether it excludes zero."""

    seeds: int
    mean: float
    lo: float
    hi: float
    confidence: float

    @property
    def decided(self) -> bool:
        """Whether zero is excluded."""
        return self.lo > 0.0 or self.hi < 0.0


def looks(first: int, most: int) -> tuple[int, ...]:
    """Doubling from the first to the most."""
    found = [first]
    while found[-1] < most:
        found.append(min(2 * found[-1], most))
    return tuple(found)


def planned(folder: Path, agents: Sequence[str], to: str | None, asked: Protocol, most: int) -> Plan:
    """The plan of a study; one that it has already goes on. What a study holds without a plan is the first look.

    asked: the study, its evaluation seeds those of the first look.

    Raises `InputError` when there are enough seeds already, or another plan.
    """
    path = folder / FILE
    compared = tuple(agent for agent in agents if agent != to)
    suites = [asked.suite, *([read_protocol(folder).suite] if (folder / "protocol.json").exists() else [])]
    scenarios = tuple(sorted({name for suite in suites for name in suite.scenarios}))
    train_seeds = max(suite.train_seeds for suite in suites)
    if path.exists():
        plan = _read(path)[0]
        same = set(plan.agents) == set(compared) and plan.looks[-1] == most and (plan.to if plan.named else None) == to
        if not same or (plan.scenarios, plan.train_seeds) != (scenarios, train_seeds):
            raise InputError(
                f"{path}: this study was planned with max_seeds={plan.looks[-1]}, agents {', '.join(plan.agents)}"
                f"{f' and to={plan.to}' if plan.named else ''}, on {', '.join(plan.scenarios)} with {plan.train_seeds} training "
                "seed(s); another plan would make more false decisions; choose study=NAME"
            )
        return plan
    first = max(suite.eval_seeds for suite in suites)
    if most <= first:
        raise InputError(f"max_seeds={most}: must be more than the {first} evaluation seeds of the first look")
    if not compared:
        raise InputError(f"agents: nobody to compare with {to}; agents=[...] names them")
    return Plan(compared, looks(first, most), to, to is not None, scenarios, train_seeds)


def look(plan: Plan, folder: Path, seeds: int) -> tuple[Plan, dict[str, Decision]]:
    """Look at the rows of a study with so many evaluation seeds; leave the plan and what is decided in its folder.

    Raises `InputError` where every seed gave the same: more of them decide nothing.
    """
    protocol, done = read_study(folder)
    goodput = {agent: of_it["goodput"] for agent, of_it in arranged(protocol, done, ["goodput"]).items()}
    if statistics.repeated(*goodput.values()).all():
        raise InputError(
            f"stop=decided: every seed gave the same in {', '.join(plan.scenarios)}, so more seeds decide nothing; the rows are "
            f"kept, and hvgym report {folder.name} shows them"
        )
    if plan.to is None:
        among = [agent for agent in goodput if agent in plan.agents or agent == "stock"]
        plan = replace(plan, to=best_heuristic(protocol, tabulate(protocol, done), among))
    demands = list(demands_of(protocol.scenarios).values())
    found = decisions(plan, goodput, seeds, [one_kill(scenario) for scenario in protocol.scenarios], demands)
    content = asdict(plan) | {"level": LEVEL, "decisions": {agent: asdict(one) for agent, one in found.items()}}
    write_atomically(folder / FILE, json.dumps(content, indent=1))
    return plan, found


def one_kill(scenario: Mapping[str, Any]) -> float:
    """Goodput that is lost when the VM of most weight is killed as the episode begins, and does not come back."""
    checked = Scenario.from_dict(scenario)
    weights = [group.weight for group in checked.groups]
    return max(weights) * (checked.duration_s + checked.kill_cost_s) / (sum(weights) * checked.duration_s)


def decisions(
    plan: Plan,
    goodput: Mapping[str, np.ndarray],
    seeds: int,
    worst: npt.ArrayLike,
    demands: npt.ArrayLike | None = None,
) -> dict[str, Decision]:
    """By agent, from goodput ``[scenario, train_seed, eval_seed]`` by agent, at all looks of at most so many seeds. worst: the
    loss of goodput of one kill, ``[scenario]``; demands: the number of its demand (``same_demand``), all apart if not told."""
    assert plan.to is not None
    compared = dict.fromkeys((*plan.agents, *([] if plan.named else ["stock"])))
    found = dict[str, Decision]()
    for agent in compared:
        if agent == plan.to or agent not in goodput:
            continue
        ours, theirs = goodput[agent], goodput[plan.to]
        there = ~(np.isnan(ours).any(axis=(1, 2)) | np.isnan(theirs).any(axis=(1, 2)))
        if there.any():
            drawn_by = np.arange(len(there)) if demands is None else np.asarray(demands)
            found[agent] = _decision(
                plan, ours[there], theirs[there], seeds, np.asarray(worst, float)[there], drawn_by[there]
            )
    return found


def _decision(
    plan: Plan, ours: np.ndarray, theirs: np.ndarray, seeds: int, kill: np.ndarray, demands: np.ndarray
) -> Decision:
    """The first that excludes zero, or the last there is. Replicates are drawn by what is seen, so a look never changes its
    mind."""
    differences = ours.mean(axis=1) - theirs.mean(axis=1)  # [scenario, eval_seed]
    for index, at in enumerate(takewhile(lambda at: at <= seeds, plan.looks)):
        varied, error = ~statistics.repeated(ours[..., :at], theirs[..., :at]), plan.error(index)
        if not varied.any():
            most = float(kill.max())
            decision = Decision(at, float(differences[:, :at].mean()), -most, most, 1.0 - error)
            continue
        seen = statistics.by_demand(differences[varied, :at], demands[varied])
        rng = statistics.seeded_by([seen])
        killed = statistics.by_demand(kill[varied, None], demands[varied])  # in every scenario of a demand at once
        worst = max(float(killed.max()), float(np.abs(seen).max()))
        lo, hi = statistics.worst_case_interval(seen, worst, rng, 1.0 - error, math.ceil(BEYOND / error))
        decision = Decision(at, float(seen.mean()), lo, hi, 1.0 - error)
        if decision.decided:
            break
    return decision


def power(plan: Plan, scenarios: int, studies: int = 200) -> tuple[float, float]:
    """How often one comparison is decided rightly, and after how many evaluation seeds on average it ends, where a study of all
    seeds at once would show the difference with `FIXED_POWER`: counted on studies of normal differences, in which a kill costs no
    more than the largest of them.
    """
    normal, rng = NormalDist(), np.random.default_rng(0)
    pairs = scenarios * plan.looks[-1]
    z = normal.inv_cdf(1.0 - LEVEL / plan.comparisons / 2.0) + normal.inv_cdf(FIXED_POWER)
    drawn = z / math.sqrt(pairs) + rng.standard_normal((pairs, studies))
    right, undecided, seeds = 0, np.full(studies, True), np.full(studies, plan.looks[-1])
    for index, at in enumerate(plan.looks):
        lo, hi = _ends(drawn[: scenarios * at], plan.error(index), rng)
        now = undecided & ((lo > 0.0) | (hi < 0.0))
        right, undecided = right + int((now & (lo > 0.0)).sum()), undecided & ~now
        seeds[now] = at
    return right / studies, float(seeds.mean())


def _ends(differences: np.ndarray, error: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals of many studies, ``[study]``, by the same weights; differences ``[pair, study]``."""
    weights = rng.standard_exponential((math.ceil(4.0 / error), len(differences) + 1))
    weights /= weights.sum(axis=1, keepdims=True)
    mean, beyond = weights[:, 1:] @ differences, weights[:, :1] * np.abs(differences).max(axis=0)
    cut = math.floor(error / 2.0 * len(weights))
    return np.partition(mean - beyond, cut, axis=0)[cut], -np.partition(-mean - beyond, cut, axis=0)[cut]


def introduced(plan: Plan, demands: int) -> str:
    """The plan on one line. demands: how many the scenarios have."""
    shown, seeds = power(plan, demands)
    said = f"what {plan.looks[-1]} seeds at once would show with {FIXED_POWER:.0%} is decided with {shown:.0%}"
    return (
        f"stop=decided: looks at {', '.join(map(str, plan.looks))} evaluation seeds, false decisions at most {LEVEL:.0%} over all "
        f"looks and {many(plan.comparisons, 'comparison')}; {said}, after {seeds:.0f} seeds on average"
    )


def lines(plan: Plan, found: Mapping[str, Decision]) -> list[str]:
    """What was decided, agent by agent."""
    return [_line(agent, str(plan.to), one) for agent, one in found.items()]


def _line(agent: str, to: str, one: Decision) -> str:
    verdict = ("better than" if one.mean > 0.0 else "worse than") if one.decided else "not told from"
    interval = f"{one.confidence:.2%} interval [{one.lo:+.4f}, {one.hi:+.4f}]"
    return f"{agent}: {verdict} {to} with {one.seeds} evaluation seeds, {one.mean:+.4f} of goodput, {interval}"


def add_decisions(summary: dict[str, Any], study: Path) -> None:
    """Put what was decided in a study's folder into its summary; nothing where its seeds were not added so."""
    if (study / FILE).exists():
        summary["stopping"] = recorded(study)


def recorded(study: Path) -> list[str]:
    """Lines on a study whose seeds were added until it was decided; none for any other. Raises `InputError` for a damaged file."""
    path = study / FILE
    if not path.exists():
        return []
    plan, found = _read(path)
    said = (
        f"Seeds were added until it was decided, with looks at {', '.join(map(str, plan.looks))}; intervals and p-values for a "
        f"fixed number of seeds do not know of that. What was decided, with at most {LEVEL:.0%} false over all looks:"
    )
    return [said, *lines(plan, found)]


def _read(path: Path) -> tuple[Plan, dict[str, Decision]]:
    data = read_json(path, "delete it, and the plan begins anew")
    try:
        played = tuple(data["scenarios"]), data["train_seeds"]
        plan = Plan(tuple(data["agents"]), tuple(data["looks"]), data["to"], data["named"], *played)
        found = {agent: Decision(**one) for agent, one in data["decisions"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: lacks a key ({error}); delete it, and the plan begins anew") from None
    return plan, found
