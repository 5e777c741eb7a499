"""Who is better, by how much and how sure: agents of a study against one of them, or across studies.

Compared is goodput on equal demand, seed by seed (``statistics``): mean paired difference with its 95 % bootstrap interval,
p-value of the sign-flip test with Holm's correction for all rows of the table (those alike to the bit count once), and the
probability that a run is better than one of the other. The verdict is better or worse where p is at most 5 %, equivalent where a
margin was named and the interval lies within it, better or worse by less than the margin where both hold, alike to the bit where
all rows are, and else no difference shown, which is no proof that there is none. Seeds needed are those of 80 % power at the
observed mean and spread, at the level of Holm's first step (``statistics.seeds_for_power``).

Across studies an agent is compared with itself in the first one, or with one agent of it, on the scenarios and seeds that both
have. Demand follows from seed, VMs and workload, traces by their content; scenarios whose demand differs are left out, and so is
what only one study has.
What else differs (hypervisor, host, code) is what is compared, and is said.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.bench import same_demand, statistics, undecided
from hvgym.bench.identity import TRACES
from hvgym.bench.protocol import Protocol, played
from hvgym.bench.study import read_study
from hvgym.bench.suites import MOST_SEEDS
from hvgym.bench.summary import LEVEL, REPLICATES, arranged, best_heuristic, doubts, one_pair, power_of, tabulate
from hvgym.envs.errors import InputError, nearest

POWER = 0.8


@dataclass(frozen=True)
class Study:
    """A finished study."""

    name: str
    protocol: Protocol
    goodput: Mapping[str, np.ndarray]
    """By agent, ``[scenario, train_seed, eval_seed]``."""
    best: str
    """The best heuristic, or "" where nothing is scored."""

    @cached_property
    def scenarios(self) -> dict[str, dict[str, Any]]:
        """By name."""
        return {scenario["name"]: scenario for scenario in self.protocol.scenarios}

    def traces(self, scenario: str) -> str:
        """Digest of the traces that a scenario was played with, or "" where it has none."""
        path = self.scenarios[scenario].get("workload", {}).get("path")
        sources = self.protocol.sources_of.get(scenario, self.protocol.sources)
        return sources.get(f"{TRACES}{path}", "")


@dataclass(frozen=True)
class Row:
    """One comparison of `name` with `other`. scenarios, seeds: how many are shared; needed: evaluation seeds a scenario for 80 %
    power, infinite where no difference was observed; hypothesis: its number, the same for rows that are alike to the bit."""

    name: str
    other: str
    scenarios: int
    seeds: int
    difference: statistics.PairedTest
    p_holm: float
    improvement: statistics.Estimate
    needed: float
    verdict: str
    hypothesis: int

    @property
    def pairs(self) -> int:
        """Demands x seeds, those whose seeds all gave the same counted once."""
        return _count(self.difference, self.seeds)

    @property
    def more(self) -> str:
        """Seeds that are still needed, in words; nothing where there is a verdict."""
        if self.verdict != UNDECIDED:
            return ""
        return f"{max(self.needed - self.seeds, 1.0):.0f}" if self.needed <= MOST_SEEDS else f">{MOST_SEEDS:,}"


@dataclass(frozen=True)
class Comparison:
    """A table, and what must stand beside it."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def largest(self) -> tuple[int, int]:
        """The most scenarios and the most evaluation seeds of a row."""
        return max(row.scenarios for row in self.rows), max(row.seeds for row in self.rows)

    @property
    def uneven(self) -> bool:
        """Whether a row has fewer."""
        return any((row.scenarios, row.seeds) != self.largest for row in self.rows)

    def name(self, row: Row) -> str:
        """Of a row, with its scenarios x evaluation seeds where they are not the most."""
        return row.name if (row.scenarios, row.seeds) == self.largest else f"{row.name} ({row.scenarios} x {row.seeds})"


UNDECIDED = "no difference shown"


def read(folder: Path, name: str) -> Study:
    """Read a study, to be called so. Raises `InputError` when it is not finished."""
    protocol, done = read_study(folder)
    goodput = {agent: of_it["goodput"] for agent, of_it in arranged(protocol, done, ["goodput"]).items()}
    try:
        best = best_heuristic(protocol, tabulate(protocol, done))
    except InputError:  # nothing can be scored
        best = ""
    return Study(name, protocol, goodput, best)


def compare(
    studies: Sequence[Study], to: str | None = None, agents: Sequence[str] | None = None, margin: float | None = None
) -> Comparison:
    """Compare agents of one study with `to` (the best heuristic if not told), or across studies with `to` of the first one (each
    agent with itself if not told). agents: only these; margin: of goodput, within which a difference does not matter.

    Raises `InputError` for unknown agents, and where nothing is shared.
    """
    first = studies[0]
    _check_names(studies, to, agents)
    if len(studies) == 1 and to is None and not first.best:
        raise InputError(
            f"to=null: study {first.name} has no best heuristic, for nothing in it is scored; name an agent, to=NAME"
        )
    baseline = to or (first.best if len(studies) == 1 else None)
    left_out = dict[str, None]()
    common = {study.name: _common_scenarios(study, first, left_out) for study in studies}
    if baseline is None:
        left_out |= dict.fromkeys(_agents_of_one(studies, agents))
    pairs = [pair for pair in _pairs(studies, baseline) if agents is None or pair.agent in agents]
    pairs = [played for pair in pairs if (played := _played_by_both(pair, common[pair.study.name], left_out))]
    if not pairs:
        why = "; ".join(left_out) or "one agent alone"
        raise InputError(f"{', '.join(study.name for study in studies)}: nothing to compare; {why}")
    rng = statistics.seeded_by(figures for pair in pairs for figures in (pair.a, pair.b))
    rows = sorted(_rows(pairs, rng, len(studies) > 1, margin), key=lambda row: -row.difference.mean)
    return Comparison(tuple(rows), (*_notes(studies, to, baseline, margin), *_few_seeds(rows), *left_out))


def _rows(pairs: "Sequence[Pair]", rng: np.random.Generator, several: bool, margin: float | None) -> list[Row]:
    tests = [statistics.paired_difference(pair.a, pair.b, rng, REPLICATES, demands=pair.demands) for pair in pairs]
    found, differences = list[Row](), [pair.a.mean(axis=1) - pair.b.mean(axis=1) for pair in pairs]
    adjusted, hypotheses = statistics.holm_of_distinct([test.p_value for test in tests], differences)
    level = LEVEL / len(set(hypotheses))
    counts = (_count(test, pair.a.shape[2]) for test, pair in zip(tests, pairs, strict=True))
    few = _too_few(dict(zip(hypotheses, counts, strict=True)))
    for pair, test, p, hypothesis, difference in zip(pairs, tests, adjusted, hypotheses, differences, strict=True):
        improvement = statistics.probability_of_improvement_interval(
            pair.a, pair.b, rng, REPLICATES, demands=pair.demands
        )
        needed = statistics.seeds_for_power(statistics.by_demand(difference, pair.demands), level, POWER, test.fixed)
        names = (_label(pair.study, pair.agent, several), _label(pair.first, pair.other, several))
        shape, verdict = (
            (pair.a.shape[0], pair.a.shape[2]),
            _verdict(test, float(p), None if hypothesis in few else margin),
        )
        found.append(Row(*names, *shape, test, float(p), improvement, needed, verdict, hypothesis))
    return found


def _count(test: statistics.PairedTest, seeds: int) -> int:
    """Pairs of a test, those whose seeds all gave the same counted once."""
    return test.fixed + (test.demands - test.fixed) * seeds


def _too_few(pairs: Mapping[int, int]) -> dict[int, float]:
    """Hypotheses, by number with their pairs, whose p-value could not be small whatever was measured, and what it would be; their
    intervals are too narrow to show that nothing differs, either."""
    smallest = statistics.holm([statistics.smallest_p_value(count) for count in pairs.values()])
    return {hypothesis: float(p) for hypothesis, p in zip(pairs, smallest, strict=True) if p > LEVEL}


def _label(study: Study, agent: str, several: bool) -> str:
    return f"{agent} ({study.name})" if several else agent


def _check_names(studies: Sequence[Study], to: str | None, agents: Sequence[str] | None) -> None:
    known = list(dict.fromkeys(agent for study in studies for agent in study.goodput))
    for agent in agents or ():
        if agent not in known:
            raise InputError(f"agents: {agent!r} has no rows there{nearest(agent, known)}; known: {', '.join(known)}")
    if to is not None and to not in studies[0].goodput:
        of_it = studies[0].goodput
        raise InputError(
            f"to={to!r}: no rows in study {studies[0].name}{nearest(to, of_it)}; known: {', '.join(of_it)}"
        )


@dataclass(frozen=True)
class Pair:
    """An agent of a study and whom it is compared with; a, b: their goodput on what both play,
    ``[scenario, train_seed, eval_seed]``."""

    study: Study
    agent: str
    first: Study
    other: str
    a: np.ndarray
    b: np.ndarray
    demands: np.ndarray
    """Number of each scenario's demand (``same_demand``)."""


def _pairs(studies: Sequence[Study], baseline: str | None) -> Iterator[Pair]:
    """With all that either plays."""
    first = studies[0]
    for study in studies if baseline else studies[1:]:
        for agent in study.goodput:
            other = baseline or agent
            if other in first.goodput and not (study is first and agent == other):
                demands = np.array(list(same_demand.demands_of(study.protocol.scenarios).values()))
                yield Pair(study, agent, first, other, study.goodput[agent], first.goodput[other], demands)


def _agents_of_one(studies: Sequence[Study], agents: Sequence[str] | None) -> Iterator[str]:
    """Who has no counterpart, where agents are compared with themselves."""
    first = studies[0]
    for study in studies[1:]:
        for one, other in ((study, first), (first, study)):
            for agent in one.goodput:
                if agent not in other.goodput and (agents is None or agent in agents):
                    refused = any(agent == config["name"] for config in other.protocol.agents)
                    why = f"it plays nowhere in {other.name}" if refused else f"{other.name} does not have it"
                    yield f"{agent} is left out: {why}."


def _common_scenarios(study: Study, first: Study, left_out: dict[str, None]) -> list[tuple[int, int]]:
    """Indices in the one and the other of scenarios with the same demand; says what is left out."""
    found = list[tuple[int, int]]()
    for i, name in enumerate(study.scenarios):
        if name not in first.scenarios:
            left_out[f"{name} is left out: {first.name} does not have it."] = None
        elif differs := _demand_differs(study, first, name):
            left_out[f"{name} is left out: {first.name} and {study.name} differ in {differs}, and so in demand."] = None
        else:
            found.append((i, list(first.scenarios).index(name)))
    for name in first.scenarios:
        if name not in study.scenarios:
            left_out[f"{name} is left out: {study.name} does not have it."] = None
    return found


def _played_by_both(pair: Pair, common: Sequence[tuple[int, int]], left_out: dict[str, None]) -> Pair | None:
    """The pair on the scenarios and seeds that both have; None where there are none."""
    seeds = min(pair.a.shape[2], pair.b.shape[2])
    if pair.a.shape[2] != pair.b.shape[2]:
        longer = pair.study if pair.a.shape[2] > seeds else pair.first
        left_out[f"Evaluation seeds of {longer.name} beyond the first {seeds} are left out: the other has no more."] = (
            None
        )
    both = [(i, j) for i, j in common if not (np.isnan(pair.a[i]).any() or np.isnan(pair.b[j]).any())]
    if len(both) < len(common):
        left_out[
            f"{pair.agent}: compared on {len(both)} of {len(common)} scenarios, elsewhere the rules refuse it or {pair.other}."
        ] = None
    if not both:
        return None
    here, there = zip(*both, strict=True)
    demands = pair.demands[list(here)]
    return replace(pair, a=pair.a[list(here), :, :seeds], b=pair.b[list(there), :, :seeds], demands=demands)


def _demand_differs(study: Study, first: Study, name: str) -> str:
    """The first key of a scenario that decides over demand and is not the same; "" where there is none. Traces whose content is
    known are the same wherever they lie."""
    one, two = study.scenarios[name], first.scenarios[name]
    traces = [study.traces(name), first.traces(name)]
    if all(traces):
        if traces[0] != traces[1]:
            return "traces"
        one, two = ({**scenario, "workload": {**scenario["workload"], "path": ""}} for scenario in (one, two))
    return same_demand.difference(one, two)


def _verdict(test: statistics.PairedTest, p: float, margin: float | None) -> str:
    if test.mean == test.lo == test.hi == 0.0:
        return "alike to the bit"
    shown = ("better" if test.mean > 0.0 else "worse") if p <= LEVEL else ""
    if margin is not None and -margin < test.lo and test.hi < margin:
        return f"{shown}, by less than {margin:g}" if shown else f"equivalent within {margin:g}"
    return shown or UNDECIDED


def _notes(studies: Sequence[Study], to: str | None, baseline: str | None, margin: float | None) -> list[str]:
    """What must stand beside the table."""
    lines = [
        "Paired differences of goodput on equal demand with 95 % bootstrap intervals. p: of sign flips, Holm-corrected over the "
        "table, for the agents as trained; it supposes symmetric differences, which those of rare kills are not. P(better): that "
        "a run is better than one of the other, ties half.",
        f"Seeds still needed: evaluation seeds a scenario for {POWER:.0%} power at the observed mean and spread (normal "
        "approximation, Lachin 1981; Holm's first level).",
    ]
    if margin is not None:
        lines.append(f"Equivalent, or by less than {margin:g}: the 95 % interval lies within ±{margin:g} of goodput.")
    if baseline and to is None:
        lines.append(
            f"{baseline} was chosen as the best heuristic by the same rows, which flatters it: where the other was named "
            "beforehand, say so with to=NAME."
        )
    for study in studies[1:]:
        lines += _differences(study, studies[0])
    for study in studies:
        same = statistics.repeated(*study.goodput.values())
        if names := [name for name, is_so in zip(study.scenarios, same, strict=True) if is_so]:
            lines.append(one_pair(names))
        lines += undecided.lines(study.goodput, study.protocol.scenarios)
    return list(dict.fromkeys(lines))


def _few_seeds(rows: Sequence[Row]) -> Iterator[str]:
    """For rows whose p-value could not be small whatever was measured, the sentence of bench and report."""
    few, hypotheses = _too_few({row.hypothesis: row.pairs for row in rows}), {row.hypothesis for row in rows}
    alike = dict[tuple[int, int, int, float], list[str]]()
    for row in rows:
        if row.hypothesis in few:
            place = (row.difference.demands, row.seeds, row.difference.fixed, few[row.hypothesis])
            alike.setdefault(place, []).append(row.name)
    for (demands, seeds, fixed, p), names in alike.items():
        power = power_of(demands, seeds, len(hypotheses), fixed) | {"smallest_p_holm": p}
        for line in doubts({"significance": power, "paired_to_best_heuristic": {}}):
            yield line if len(names) == len(rows) else f"{', '.join(names)}: {line}"


def _differences(study: Study, first: Study) -> Iterator[str]:
    """What is compared across studies, beside the agents."""
    if study.protocol.sources.get("code") != first.protocol.sources.get("code"):
        yield f"{study.name} was played by other code of hvgym than {first.name}."
    for name in (name for name in study.scenarios if name in first.scenarios):
        one, two = study.scenarios[name], first.scenarios[name]
        if keys := [key for key in same_demand.BESIDE_DEMAND if one.get(key) != two.get(key) and key != "description"]:
            yield f"{name} differs between {first.name} and {study.name} in {', '.join(keys)}."
    ours, theirs = ({agent["name"]: played(agent) for agent in one.protocol.agents} for one in (study, first))
    for name in (name for name in ours if name in theirs):
        if ours[name] != theirs[name]:
            yield f"{name} has other settings in {study.name} than in {first.name}."
        if study.protocol.codes.get(name) != first.protocol.codes.get(name):
            yield f"{name} was played by other code of its own in {study.name} than in {first.name}."
