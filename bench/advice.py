"""How far somebody's own hosts may be overcommitted under each policy, at every level of what her data says.

    runs/advice/NAME/case.json      what is played
                     jobs/KEY.json  one agent at one level and ratio; KEY is the hash of what determines it
                     advice.json, advice.html, advice.png (``advice_report``)

The search of a density (``density``, ``climbing``) is made for each agent at each level, on the same windows, and her own hosts
are played beside. Misses and kills that the same VMs have on hosts with twice their memory are not the overcommitment's and do
not count.

The interval resamples days (``advice_windows``). Which policy is better is "undecided" where the order of two changes between
levels. Leave-one-VM-out takes a VM's misses and kills out of what was played; nothing is played without it. One VM decides where
it makes the better of two policies the worse.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.policy import ClairvoyantPolicy, declared_by, policy_class
from hvgym.bench.advice_case import Case, Job, Rows
from hvgym.bench.advice_windows import draws_by_day
from hvgym.bench.capacity import AMPLE_RATIO, what_plays
from hvgym.bench.climbing import Climb, Few, Played, climb
from hvgym.bench.density import Curve, FloatArray, Point, Rule, Search
from hvgym.bench.jobs import read_json
from hvgym.bench.protocol import learns, policy_of
from hvgym.bench.references import STOCK
from hvgym.bench.study import locked
from hvgym.bench.workers import Workers
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically
from hvgym.envs.rules import of_hosts
from hvgym.envs.rules import refusal as refused_by_rules
from hvgym.envs.scenario import Scenario, load_group

AGAIN = "delete it and run hvgym advise again"

SEED = 16
"""Of the draws, the same for every case."""


@dataclass(frozen=True)
class OfLevel:
    """One agent at one level. curve: as counted; today: her own hosts, as counted."""

    raw: Curve
    curve: Curve
    search: Search
    today: Point


@dataclass(frozen=True, eq=False)
class Advice:
    """What was found. agents: who played for each; found: by agent and level, in the order asked; ample: by level, hosts with
    twice the VMs' memory."""

    case: Case
    rule: Rule
    draws: FloatArray
    ample: dict[str, Point]
    stock: dict[str, Any]
    agents: dict[str, dict[str, Any]]
    found: dict[str, dict[str, OfLevel]]
    refused: dict[str, str]
    codes: dict[str, str]
    folder: Path

    def job(self, agent: str, level: str, ratio: float) -> Job:
        """One that was played."""
        plays = self.agents[agent]
        return Job(self.case, level, plays, ratio, self.codes.get(str(plays["name"]), ""))

    def rows(self, agent: str, level: str, ratio: float) -> Rows:
        """What it left."""
        return self._left(self.job(agent, level, ratio))

    def ample_rows(self, level: str) -> Rows:
        """What stock left on hosts with twice the VMs' memory."""
        return self._left(Job(self.case, level, self.stock, ample_ratio(self.case), self.codes.get("stock", "")))

    def _left(self, job: Job) -> Rows:
        rows = job.rows(self.folder)
        if rows is None:
            raise InputError(f"{job.file(self.folder)}: is gone; run hvgym advise again")
        return rows


def refusal(agent: Mapping[str, Any], case: Case) -> str | None:
    """Why an agent cannot be played; None where it can."""
    if learns(agent):
        return (
            f"has not been trained; hvgym train agent={agent['name']} leaves a best.zip, and "
            f"checkpoints={{{agent['name']}:best.zip}} plays it"
        )
    try:
        if issubclass(policy_class(agent), ClairvoyantPolicy):
            return "sees the future, which no operator does"
        if of_hosts(agent):
            return "moves VMs between hosts, which is not played here"
        if agent.get("needs") == "arrivals":
            return "decides which VMs start, and yours run already"
        policy_of(agent)
    except InputError as error:
        return str(error)
    return refused_by_rules(declared_by(agent), Scenario.from_dict(case.levels["mid"][0]))


@contextmanager
def opened(case: Case, folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone. Raises `InputError` when another holds it, or it is of another case."""
    with locked(folder):
        path = folder / "case.json"
        identity = {"hash": case.hash, "vms": list(case.names), "ram_mib": case.ram_mib, "hosts": case.hosts}
        if path.exists() and (there := read_json(path, AGAIN)) != identity:
            differs = next(key for key in reversed(identity) if there.get(key) != identity[key])
            what = "windows, floors, files or code" if differs == "hash" else differs
            raise InputError(f"{folder}: holds an advice with other {what}; choose study=NAME")
        write_atomically(path, json.dumps(identity, indent=1))
        yield


def measure(
    case: Case, agents: Sequence[dict[str, Any]], stock: dict[str, Any], rule: Rule, folder: Path, workers: Workers = 1,
    codes: Mapping[str, str] | None = None, on_point: Played = lambda job, point, share, count: None,
) -> Advice:  # fmt: skip
    """Play every agent at every level (``workers``); what the folder has is read. Agents that fail are left out
    with their reason; stock plays the hosts with ample memory."""
    codes = dict(codes or {})
    refused = {str(agent["name"]): why for agent in agents if (why := refusal(agent, case)) is not None}
    playing = {str(agent["name"]): agent for agent in agents if agent["name"] not in refused}
    with opened(case, folder):
        draws = draws_by_day(case.days, case.weights, SEED)
        ample = _ample(case, stock, codes, draws, folder, workers, on_point)
        alike = _alike(case, playing)
        climbs = {
            (name, level): _search(case, level, playing[name], codes, rule, draws, ample[level], folder)
            for name in dict.fromkeys(alike.values())
            for level in case.levels
        }
        today = {key: _today(case, key[1], playing[key[0]], codes, draws, ample[key[1]], folder) for key in climbs}
        failed = climb([*today.values(), *climbs.values()], folder, workers, on_point)
    for name, original in alike.items():
        if reason := next((failed[one] for one in failed if one.partition(",")[0] == original), None):
            refused[name] = reason
    found = {
        name: {level: _of_level(climbs[original, level], today[original, level], ample[level]) for level in case.levels}
        for name, original in alike.items()
        if name not in refused
    }
    plays = {name: playing[alike[name]] for name in found}
    return Advice(case, rule, draws, ample, stock, plays, found, refused, codes, folder)


def _alike(case: Case, playing: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """For each agent the first that plays the same; stock plays as the policy that the hypervisor ships with."""
    first, shipped = dict[str, str](), case.hypervisor["stock"]

    def essence(agent: dict[str, Any]) -> str:
        plays = load_group("agent", shipped) if agent["name"] == STOCK and shipped else agent
        return json.dumps(what_plays(plays, case.hypervisor), sort_keys=True)

    return {name: first.setdefault(essence(agent), name) for name, agent in playing.items()}


def reaching(rule: Rule, case: Case) -> Rule:
    """The rule, with a search from her own ratio, where that is less, as far as the one with a host lost, where that is more:
    what is said of them has to be played."""
    lost = case.today * (case.hosts / (case.hosts - 1) if case.hosts > 1 else 1.0)
    least = min(rule.least, rule.ratio(max(math.floor(case.today / rule.step + 1e-9), 1)))
    most = max(rule.most, rule.ratio(rule.index(rule.coarse) * math.ceil(lost / rule.coarse - 1e-9)))
    return replace(rule, least=least, most=most)


def ample_ratio(case: Case) -> float:
    """At which memory is ample: `AMPLE_RATIO`, or her own where her hosts have more."""
    return min(AMPLE_RATIO, case.today)


def _ample(
    case: Case, stock: dict[str, Any], codes: Mapping[str, str], draws: FloatArray, folder: Path, workers: Workers,
    on_point: Played,
) -> dict[str, Point]:  # fmt: skip
    few = {
        level: Few(
            f"ample, {level}", [Job(case, level, stock, ample_ratio(case), codes.get("stock", ""))], draws, None, folder
        )
        for level in case.levels
    }
    if failed := climb(list(few.values()), folder, workers, on_point):
        raise InputError(next(iter(failed.values())))
    ample = {level: one.raw[ample_ratio(case)] for level, one in few.items()}
    if not all(point.fits.all() for point in ample.values()):
        raise InputError(
            f"host: {case.ram_at(ample_ratio(case)) / 1024:.4g} GiB, twice what its VMs have configured or more, do not hold what "
            "they are guaranteed beside what it needs itself; check host.own_mib, the hypervisor and the sizes of the VMs"
        )
    return ample


def _job_at(case: Case, level: str, agent: dict[str, Any], code: str, ratio: float) -> Job:
    return Job(case, level, agent, ratio, code)


def _search(
    case: Case, level: str, agent: dict[str, Any], codes: Mapping[str, str], rule: Rule, draws: FloatArray, taken: Point,
    folder: Path,
) -> Climb:  # fmt: skip
    name = str(agent["name"])
    return Climb(
        f"{name}, {level}", partial(_job_at, case, level, agent, codes.get(name, "")), rule, draws, taken, folder
    )


def _today(
    case: Case,
    level: str,
    agent: dict[str, Any],
    codes: Mapping[str, str],
    draws: FloatArray,
    taken: Point,
    folder: Path,
) -> Few:
    name = str(agent["name"])
    job = Job(case, level, agent, case.today, codes.get(name, ""))
    return Few(f"{name}, {level} today", [job], draws, taken, folder)


def _of_level(search: Climb, today: Few, ample: Point) -> OfLevel:
    (point,) = today.raw.values()
    return OfLevel(dict(search.raw), search.curve, search.search, point.minus(ample))


def densities(advice: Advice, agent: str) -> dict[str, float]:
    """An agent's safe ratio by level; 0 where even the least fails."""
    return {level: one.search.density.value for level, one in advice.found[agent].items()}


def safe(advice: Advice, agent: str) -> float:
    """Its safe ratio at the level at which it is least: so it holds whatever her data leaves open."""
    return min(densities(advice, agent).values())


def is_learned(agent: Mapping[str, Any]) -> bool:
    """Whether what it does was trained, so that no product has a setting for it."""
    return bool(agent.get("weights") or agent.get("train"))


def ranked(advice: Advice) -> list[str]:
    """Agents, best first: by the ratio that is safe at every level, then at mid, then in the order asked. Learned ones come after
    all others, for an operator can set these today."""
    order = list(advice.found)

    def place(name: str) -> tuple[Any, ...]:
        return is_learned(advice.agents[name]), -safe(advice, name), -densities(advice, name)["mid"], order.index(name)

    return sorted(order, key=place)


def undecided(advice: Advice) -> list[tuple[str, str]]:
    """Pairs of agents of which one is better at one level, and the other at another; learned ones apart."""
    found = list[tuple[str, str]]()
    for one, other in combinations(ranked(advice), 2):
        if is_learned(advice.agents[one]) != is_learned(advice.agents[other]):
            continue
        signs = {
            np.sign(densities(advice, one)[level] - densities(advice, other)[level]) for level in advice.case.levels
        }
        if {1.0, -1.0} <= signs:
            found.append((one, other))
    return found


def best_without(advice: Advice, level: str) -> dict[str, str]:
    """VMs without which the best agent of a level is beaten by one that it beats with all, and by which; by what was played."""
    rows = {name: _all_rows(advice, name, level) for name in advice.found}
    ample = advice.ample_rows(level)
    whole = {name: _density_of(one, ample, advice, advice.case.critical) for name, one in rows.items()}
    order = ranked(advice)
    best = max(whole, key=lambda name: (whole[name], -order.index(name)))
    found = dict[str, str]()
    for column, vm in enumerate(advice.case.names):
        counts = advice.case.critical & (np.arange(len(advice.case.names)) != column)
        if not counts.any():
            continue
        left = {name: _density_of(one, ample, advice, counts) for name, one in rows.items()}
        others = [name for name in order if whole[name] < whole[best] and left[name] > left[best]]
        if others:
            found[vm] = max(others, key=lambda name: (left[name], -order.index(name)))
    return found


def _all_rows(advice: Advice, agent: str, level: str) -> dict[float, Rows]:
    return {ratio: advice.rows(agent, level, ratio) for ratio in advice.found[agent][level].raw}


def _density_of(rows: Mapping[float, Rows], ample: Rows, advice: Advice, counts: Any) -> tuple[float, bool]:
    """Of the sample, by the VMs that count alone, kills of the others left out; and whether it may be more, for nothing that was
    played fails."""
    taken = _point(ample, counts)
    curve = {ratio: _point(one, counts).minus(taken) for ratio, one in rows.items()}
    search = Search.on(curve, advice.rule, advice.draws[:1])
    return float(search.holds[0]), bool(np.isinf(search.fails[0]))


def _point(rows: Rows, counts: Any) -> Point:
    point = rows.point(counts)
    return replace(point, kills=(rows.counted["kills"] * counts).sum(axis=1))
