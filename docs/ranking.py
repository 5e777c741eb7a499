"""Writes docs/ranking.md from the studies that ``make ranking`` has run: suite standard with originals and tuned copies, every
agent on quick, admission, and, where they were played, real VMs.

    python docs/ranking.py FOLDER      that of the studies standard, ranking, arrivals and real

A table has what `hvgym report` has. Originals and copies are compared by paired differences of goodput on the test seeds, with the
sign-flip test and Holm's correction over the table (``bench.statistics``).
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.bench.criterion import DIAGNOSTIC
from hvgym.bench.references import CLAIRVOYANT, STOCK
from hvgym.bench.same_demand import demands_of
from hvgym.bench.statistics import PairedTest, holm_of_distinct, interval, kendall, paired_difference, score_interval
from hvgym.bench.study import read_study
from hvgym.bench.summary import LEVEL, Table, ranking, tabulate

HEAD = """# Ranking

Made by `make ranking` (`make ranking TRACES=DIR` with a folder of GWA-T-12 files for the real VMs). Score 0 is stock, the
hypervisor as shipped, 1 the clairvoyant reference of the agent's seat ([rules](rules.md)): of each scenario the mean over
seeds, and of these the interquartile mean over the scenarios that an agent plays, with the 95 % interval over seeds in
parentheses. A table has then the mean score in each scenario (empty: the rules refuse it there, or its seat has nothing to
win), goodput in per cent, seconds in which critical VMs missed an objective, and kills, both per episode. Agents that play on
different hypervisors have met different demand: **compare them within a column**, not by the score alone.

Policies whose name ends in `_tuned` have the parameters that `hvgym tune agent=NAME suite=SUITE` found with 40 trials each, on
training and validation seeds under the default rules; the head of their YAML says on which suite. The same policy with its original
constants stands elsewhere in the table.

"""

STANDARD = """## Suite standard

`hvgym bench suite=standard`, {agents} agents on {seeds} test seeds of each scenario of generated demand ([suites](suites.md),
[workloads](workloads.md)).

"""

BY_HYPERVISOR = """
On its scenarios of memory alone (not those of Type 2, devices and bandwidth), hypervisor by hypervisor, with 95 % intervals; empty
where an agent is not scored in all of them.

"""

COPIES = """
**{question}**
Goodput of the copy less that of the original, in hundredths, on the same demand of the scenarios of memory that both play, with
the 95 % interval over seeds, the p-value of the sign-flip test, Holm-corrected over the table, and the scenarios in which the
copy's mean is lower.

| policy | tuned on | scenarios | copy less original | p | verdict | lower in |
|---|---|--:|--:|--:|---|---|
{rows}

{plainly}
"""

ON_TEST_SEEDS = "What is tuning worth on seeds that it has not seen?"

ON_REAL = "Do policies that were tuned on generated demand beat their originals on real VMs?"

QUICK = """
## Suite quick

`hvgym bench suite=quick agents=[…]` with every agent, {agents} of them, on {seeds} test seeds of each scenario; of the learners
only `es`, trained on each scenario for as long as the suite says, which takes a minute; `make bench` trains `ppo`.

"""

READING = """
How to read it. A score below 0 is worse than what the hypervisor does by itself, which on `kvm` and `xen` (squeezed acts only
when a VM starts) is next to nothing. Policies that probe until somebody stalls (senpai, oomd, TMO, DAMON) find the stall on
these hosts, which are overcommitted from the first second, before they begin. What separates the others is whom they take
memory from, and whether they know who matters. docs/policies.md says what each sees and does; [suites](suites.md) what there is
to win where, and what those policies win that think of nothing; [reference](reference.md) whether anybody beats the reference.
{more}"""

AGREEMENT = """
Does the order on quick tell the order on standard? Kendall's tau-b of mean scores on the scenarios of memory of one hypervisor,
over the agents that play and are scored in both suites, with a 95 % interval from drawing agents again.

| hypervisor | agents | tau | interval |
|---|--:|--:|--:|
{rows}
"""

OLDER = """

**Played with other code than the rest of this page**: `make ranking-real TRACES=DIR` plays it anew."""

REAL = """
## Real VMs

`hvgym bench suite=standard 'suite.scenarios=[]' suite.traces=DIR`: VMs of GWA-T-12 in the place of generated ones, {agents}
agents on {seeds} test seeds of each scenario. VMs and weeks are those of the test part, which no tuning has seen; nothing was
tuned on such files at all.{older}

Real VMs hold much and touch little. A host that swaps by itself does nearly what the reference does (kvm). Where guests have what
they are given and their own swap (xen, hyperv), the reference keeps all alive and no policy does. Who takes a VM down to its
minimum kills it once its swap is full, again and again, for guarantees shrink with the ratio here; learned policies do that too.

"""

GOODPUTS = """
Goodput in per cent, and kills per episode, of everyone, also where the reference gains too little for a score; first who gains most
on stock where it plays.

"""

ARRIVALS = """
## Who is let in

The policies of admission on `scenario=arrival-wave`, where VMs ask to be started ({seeds} test seeds). Tuned copies come from
`hvgym tune agent=NAME scenario=arrival-wave`.

"""

REAL_VMS, ON_QUICK = "\n## Real VMs\n", "\n## Suite quick\n"
"""Where these parts of the page begin."""

DRAWS = 10_000


def read(study: Path) -> dict[str, Any]:
    """What a study has found."""
    found: dict[str, Any] = json.loads((study / "summary.json").read_text())
    return found


def missing(study: Path) -> str:
    """Seats that have no score, and who plays nowhere, with the reasons."""
    from hvgym.bench.summary import not_scored

    summary, scenarios = read(study), len(read_protocol(study)["identity"]["scenarios"])
    nowhere = {name: reasons for name, reasons in summary["refused"].items() if len(reasons) == scenarios}
    lines = [f"- {line}" for line in not_scored(summary)]
    lines += [
        f"- {name} plays nowhere: {'; '.join(dict.fromkeys(reasons.values()))}" for name, reasons in nowhere.items()
    ]
    return "\n".join(["", "What is not in the table:", "", *lines, ""]) if lines else ""


def table(study: Path) -> str:
    """The ranking of a study as Markdown."""
    summary = read(study)
    agents = summary["agents"]
    scenarios = list(next(iter(agents.values()))["scenarios"])
    lines = [
        f"| agent | seat | sees | score | {' | '.join(scenarios)} | goodput | SLO misses, s | OOM kills |",
        "|---" * (7 + len(scenarios)) + "|",
    ]
    for name in ranking(summary):
        result = agents[name]
        score = f"{result['score_iqm']:.2f} ({result['score_lo']:.2f}, {result['score_hi']:.2f})"
        scores = (result["scenarios"][scenario]["score"] for scenario in scenarios)
        each = " | ".join("" if one is None else f"{one:.2f}" for one in scores)
        tail = f"{100 * result['goodput']:.1f} | {result['cost']:.0f} | {result['oom_kills']:.2f}"
        lines.append(f"| {name} | {result['seat']} | {result['sees']} | {score} | {each} | {tail} |")
    return "\n".join(lines) + "\n"


def counts(study: Path) -> dict[str, int]:
    """How many agents have a row, on how many seeds."""
    protocol = json.loads((study / "protocol.json").read_text())
    return {"agents": len(read(study)["agents"]), "seeds": protocol["identity"]["suite"]["eval_seeds"]}


def of_memory(study: Path) -> dict[str, list[str]]:
    """Scenarios of memory by hypervisor: not of devices, bandwidth and Type 2."""
    found: dict[str, list[str]] = {}
    for one in json.loads((study / "protocol.json").read_text())["identity"]["scenarios"]:
        if one["name"] not in DIAGNOSTIC and one["hypervisor"]["type"] != 2:
            found.setdefault(one["hypervisor"]["name"], []).append(one["name"])
    return found


def scores_on(found: Table, agent: str, names: Sequence[str]) -> np.ndarray | None:
    """Scores of an agent on these scenarios, ``[scenario, train_seed, eval_seed]``; None where it is not scored on all."""
    plays = found.plays.get(agent, ())
    return found.scores[agent][[plays.index(name) for name in names]] if set(names) <= set(plays) else None


def by_hypervisor(study: Path, found: Table) -> str:
    """A row an agent, a column a hypervisor."""
    groups, demands = of_memory(study), demands_of(read_protocol(study)["identity"]["scenarios"])
    lines = [f"| agent | {' | '.join(groups)} |", "|---|" + "--:|" * len(groups)]
    for agent in ranking(read(study)):
        cells = [cell(scores_on(found, agent, names), [demands[name] for name in names]) for names in groups.values()]
        if any(cells):
            lines.append(f"| {agent} | {' | '.join(cells)} |")
    heads = "; ".join(f"{name}: {', '.join(names)}" for name, names in groups.items())
    return BY_HYPERVISOR + "\n".join([*lines, "", f"{heads}.", ""])


def cell(scores: np.ndarray | None, demands: Sequence[int]) -> str:
    """A score and its interval. demands: the number of each scenario's."""
    if scores is None:
        return ""
    found = score_interval(scores, np.random.default_rng(0), demands=demands)
    return f"{found.value:.2f} ({found.lo:.2f}, {found.hi:.2f})"


def agreement(quick: tuple[Path, Table], standard: tuple[Path, Table]) -> str:
    """A row a hypervisor."""
    rng, rows = np.random.default_rng(0), []
    for hypervisor in of_memory(quick[0]):
        here, there = (means(*study, hypervisor) for study in (quick, standard))
        both = sorted(here.keys() & there.keys())
        if len(both) < 3:
            continue
        one, other = (np.array([scores[agent] for agent in both]) for scores in (here, there))
        drawn = rng.integers(len(both), size=(DRAWS, len(both)))
        taus = np.array([kendall(one[picked], other[picked]) for picked in drawn])
        lo, hi = interval(taus[np.isfinite(taus)])
        rows.append(f"| {hypervisor} | {len(both)} | {kendall(one, other):.2f} | {lo:.2f} to {hi:.2f} |")
    return AGREEMENT.format(rows="\n".join(rows))


def means(study: Path, found: Table, hypervisor: str) -> dict[str, float]:
    """Mean score of agents on all scenarios of memory of a hypervisor."""
    names = of_memory(study).get(hypervisor, [])
    scores = {agent: scores_on(found, agent, names) for agent in found.agents if agent not in CLAIRVOYANT and names}
    return {agent: float(one.mean()) for agent, one in scores.items() if one is not None}


def copies(study: Path, found: Table, question: str) -> str:
    """A row a policy of which original and copy were played, and in words who gains."""
    names = [name for of_it in of_memory(study).values() for name in of_it]
    memory = np.isin(found.scenarios, names)
    demands = np.array(list(demands_of(read_protocol(study)["identity"]["scenarios"]).values()))
    tests, differences = dict[str, PairedTest](), dict[str, np.ndarray]()
    there = dict[str, list[str]]()
    for policy in sorted(agent for agent in found.metrics if f"{agent}_tuned" in found.metrics):
        copy, original = (found.metrics[agent]["goodput"] for agent in (f"{policy}_tuned", policy))
        both = memory & ~np.isnan(copy).any(axis=(1, 2)) & ~np.isnan(original).any(axis=(1, 2))
        if both.any():
            there[policy] = np.array(found.scenarios)[both].tolist()
            tests[policy] = paired_difference(
                100 * copy[both], 100 * original[both], np.random.default_rng(0), demands=demands[both]
            )
            differences[policy] = 100 * (copy[both] - original[both]).mean(axis=1)
    adjusted, _ = holm_of_distinct([test.p_value for test in tests.values()], list(differences.values()))
    verdicts = {policy: verdict(test, p) for (policy, test), p in zip(tests.items(), adjusted, strict=True)}
    tuned_on = {agent["name"]: agent["description"] for agent in read_protocol(study)["agents"]}
    rows = [
        row(policy, tuned_on[f"{policy}_tuned"], there[policy], tests[policy], p, verdicts[policy], differences[policy])
        for policy, p in zip(tests, adjusted, strict=True)
    ]
    return COPIES.format(question=question, rows="\n".join(rows), plainly="\n".join(plainly(verdicts)))


def read_protocol(study: Path) -> dict[str, Any]:
    """What a study compares."""
    found: dict[str, Any] = json.loads((study / "protocol.json").read_text())
    return found


def verdict(test: PairedTest, p: float) -> str:
    """In a word."""
    if test.mean == test.lo == test.hi == 0.0:
        return "alike to the bit"
    return ("better" if test.mean > 0.0 else "worse") if p <= LEVEL else "undecided"


def row(
    policy: str, described: str, names: Sequence[str], test: PairedTest, p: float, said: str, differences: np.ndarray
) -> str:
    """One policy."""
    gained = f"{test.mean:+.2f} ({test.lo:+.2f}, {test.hi:+.2f})"
    lower = [name for name, mean in zip(names, differences.mean(axis=1), strict=True) if mean < 0.0]
    on = described.rpartition("tuned on ")[2]
    return f"| {policy} | {on} | {len(names)} | {gained} | {p:.2g} | {said} | {', '.join(lower)} |"


def plainly(verdicts: Mapping[str, str]) -> Iterator[str]:
    """A line for each verdict, with names."""
    lines = (
        ("better", "Better"),
        ("worse", "**Worse**"),
        ("undecided", "Not shown either way"),
        ("alike to the bit", "Alike"),
    )
    for said, shown in lines:
        if names := [policy for policy, one in verdicts.items() if one == said]:
            yield f"{shown}, {len(names)} of {len(verdicts)}: {', '.join(names)}."


def real_vms(study: Path) -> str:
    """The part on real VMs."""
    found = tabulate(*read_study(study))
    parts = [table(study), missing(study), goodputs(found), copies(study, found, ON_REAL)]
    codes = {one.name: json.loads((one / "summary.json").read_text())["code"] for one in whole_studies(study.parent)}
    older = OLDER if codes.get("standard", codes[study.name]) != codes[study.name] else ""
    return REAL.format(**{**counts(study), "agents": len(found.metrics), "older": older}) + "".join(parts)


def whole_studies(folder: Path) -> list[Path]:
    """Those of a folder that have been played to their end."""
    return sorted(summary.parent for summary in folder.glob("*/summary.json"))


def goodputs(found: Table) -> str:
    """A row an agent, who gains most on stock first, a column a scenario; also where nobody has a score."""
    mean = {
        agent: {name: of_it[name].mean(axis=(1, 2)) for name in ("goodput", "oom_kills")}
        for agent, of_it in found.metrics.items()
    }
    order = sorted(mean, key=lambda agent: -float(np.nanmean(mean[agent]["goodput"] - mean[STOCK]["goodput"])))
    lines = [f"| agent | {' | '.join(found.scenarios)} |", "|---|" + "--:|" * len(found.scenarios)]
    for agent in order:
        pairs = zip(mean[agent]["goodput"], mean[agent]["oom_kills"], strict=True)
        cells = ("" if np.isnan(goodput) else f"{100 * goodput:.2f} ({kills:.1f})" for goodput, kills in pairs)
        lines.append(f"| {agent} | {' | '.join(cells)} |")
    return GOODPUTS + "\n".join([*lines, ""])


def generated(folder: Path, real: str) -> str:
    """The whole page, with this part on real VMs."""
    standard, quick, arrivals = (folder / name for name in ("standard", "ranking", "arrivals"))
    of_standard, of_quick = (tabulate(*read_study(study)) for study in (standard, quick))
    parts = [
        HEAD, STANDARD.format(**counts(standard)), table(standard), missing(standard),
        by_hypervisor(standard, of_standard), copies(standard, of_standard, ON_TEST_SEEDS), real,
        QUICK.format(**counts(quick)), table(quick), READING.format(more=missing(quick)),
        agreement((quick, of_quick), (standard, of_standard)),
        ARRIVALS.format(**counts(arrivals)), table(arrivals),
    ]  # fmt: skip
    return "".join(parts)


def main() -> None:
    """Write the page beside this file from the studies of a folder; what was not played there stays as it is."""
    folder, page = Path(sys.argv[1]), Path(__file__).resolve().with_suffix(".md")
    before, rest = page.read_text().split(REAL_VMS, 1)
    old, mark, after = rest.partition(ON_QUICK)
    real = real_vms(folder / "real") if (folder / "real" / "summary.json").exists() else REAL_VMS + old
    whole = (folder / "standard" / "summary.json").exists()
    page.write_text(generated(folder, real) if whole else before + real + mark + after)
    print(page)


if __name__ == "__main__":
    main()
