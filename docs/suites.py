"""Writes docs/suites.md: what there is to win in each scenario of each suite, and who wins it without thought: ``make suites``.

    python docs/suites.py [SEEDS] [SUITE ...] [traces=DIR]

Without names all suites are played; a scenario that stands in several with the same rules is played once. traces: a folder of
GWA-T-12 files, for the scenarios of real VMs that some suites have beside.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hvgym.bench import suites
from hvgym.bench.criterion import LEAST_GAP, MOST_CLOSED, REFERENCES, STOCK, TRIVIAL, Played, play
from hvgym.bench.rollout import Episodes
from hvgym.envs.scenario import Scenario, group_files, load_group

SEEDS = 4

LARGE_GAP = 0.10
"""Wanted of nine in ten scenarios of memory of suite standard."""

CLUSTERS = "cluster"
"""A suite of several hosts, which docs/clusters.md is about."""

INTRODUCTION = """\
# Suites

Written by `make suites`: {seeds} test seeds of each scenario, in {minutes:.0f} minutes of one core.

`stock` is the hypervisor as shipped, score 0. The references, score 1 of their seat, are clairvoyant and confined to the channels
that the hypervisor has for that seat ([rules](rules.md)). The gap is what a reference gains over stock in goodput, in hundredths.
Then, for agents that nobody would call clever, the share of their seat's gap that each closes: never to reclaim (`static`), RAM
divided by size (`proportional`), one share for all (`best_constant`), sizes by lot (`random`), the longest idle pages first
(`coldest_first`). A dash: the rules refuse it there, or its seat's gap is too small to be divided.

A scenario of memory deserves its place where the gap of a seat is at least {gap:g} and no trivial agent closes more than
{most:.0%} of it. Scenarios of bandwidth, of devices and of hosted hypervisors (Type 2) show what those cost, and those of real
VMs (`make suites TRACES=DIR`) whether what is found on generated ones holds; they are diagnostic, and exempt. Kills are an
episode's, of stock, the reference that gains most, and the trivial agent that is killed most.
"""

HEAD = (
    f"| scenario | on | {STOCK} | reference inside | outside | gap inside | outside | "
    f"{' | '.join(TRIVIAL)} | kills | deserves its place |"
)


def percent(share: float | None) -> str:
    """In hundredths; a dash for what is not known."""
    return "–" if share is None else f"{100.0 * share:.1f}"


def verdict(played: Played) -> str:
    """A word, and why."""
    if played.diagnostic is not None:
        return f"diagnostic: {played.diagnostic}"
    return "yes" if played.fault is None else f"no: {played.fault}"


def row(played: Played) -> str:
    """One scenario."""
    means = {agent: float(goodput.mean()) for agent, goodput in played.goodput.items()}
    gaps, closed = played.gaps, played.closed
    best = REFERENCES[max(gaps, key=lambda seat: gaps[seat])]
    kills = (played.kills[STOCK], played.kills[best], max(played.kills[one] for one in TRIVIAL if one in played.kills))
    cells = [played.scenario.name, played.scenario.hypervisor.name, percent(means[STOCK])]
    cells += [percent(means.get(name)) for name in REFERENCES.values()]
    cells += [percent(gaps.get(seat)) for seat in REFERENCES]
    cells += [f"{closed[agent]:.0%}" if agent in closed else "–" for agent in TRIVIAL]
    return f"| {' | '.join([*cells, ' / '.join(f'{one:g}' for one in kills), verdict(played)])} |"


def announcer(said: str) -> Callable[[str, Episodes], None]:
    """Says what has been played, and how long the scenario has taken so far."""
    begun = time.monotonic()

    def announce(agent: str, episodes: Episodes) -> None:
        goodput = percent(float(episodes.goodput.mean()))
        print(f"{said}: {agent} {goodput} %, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)

    return announce


def scenarios_of(name: str, traces: str | None) -> tuple[suites.Suite, list[Scenario]]:
    """A suite, and all that can be played of it."""
    suite = suites.Suite.from_dict(load_group("suite", name))
    suite = replace(suite, traces=traces if suite.real else None)
    found = [suites.scenario_of(one, rules=suite.rules) for one in suite.scenarios]
    return suite, [*found, *suite.real_scenarios(rules=suite.rules)]


def table(name: str, seeds: int, known: dict[tuple[str, str], Played], traces: str | None = None) -> list[str]:
    """One suite; `known` is played by scenario and rules, and added to."""
    suite, played = scenarios_of(name, traces)
    lines = ["", f"## {name}", "", f"{suite.description}.", ""]
    rules, rows, found = set[str](), list[str](), list[Played]()
    for number, scenario in enumerate(played, start=1):
        rules.add(scenario.rules)
        key = (scenario.name, scenario.rules)
        if key not in known:
            said = f"[{name} {number}/{len(played)}] {scenario.name}"
            known[key] = play(scenario, suites.seeds("test", seeds), announcer(said))
        found.append(known[key])
        rows.append(row(known[key]))
        print(rows[-1], flush=True)
    said = f"Rules: {' and '.join(sorted(rules))}. {counted(found)} {left_out(suite)}"
    return [*lines, said.strip(), "", HEAD, f"|---|---|{'--:|' * 10}---|---|", *rows]


def left_out(suite: suites.Suite) -> str:
    """What is not in the table."""
    names = [one.name for one in suite.real] if suite.traces is None else []
    return f"Without files of real VMs (`TRACES=DIR`) these are not played: {', '.join(names)}." if names else ""


def counted(found: list[Played]) -> str:
    """How many of a suite's scenarios of memory leave much to win, and to those who think."""
    memory = [played for played in found if played.diagnostic is None]
    if not memory:
        return ""
    large = sum(max(played.gaps.values(), default=0.0) >= LARGE_GAP for played in memory)
    hard = sum(all(share <= MOST_CLOSED for share in played.closed.values()) for played in memory)
    return (
        f"Of {len(memory)} scenarios of memory {large} have a gap of {100.0 * LARGE_GAP:g} or more, and in {hard} no trivial agent "
        f"closes more than {MOST_CLOSED:.0%}."
    )


def main() -> None:
    """Play, print and write; with names of suites only print."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    traces = next((word.removeprefix("traces=") for word in sys.argv[1:] if word.startswith("traces=")), None)
    chosen = [word for word in sys.argv[1:] if not word.isdigit() and not word.startswith("traces=")]
    seeds, begun = (numbers or [SEEDS])[0], time.process_time()
    known = dict[tuple[str, str], Played]()
    names = chosen or sorted(name for name in group_files("suite") if name != CLUSTERS)
    lines = [line for name in names for line in table(name, seeds, known, traces or None)]
    if chosen:
        return
    minutes = (time.process_time() - begun) / 60.0
    head = INTRODUCTION.format(seeds=seeds, minutes=minutes, gap=100.0 * LEAST_GAP, most=MOST_CLOSED)
    path = Path(__file__).with_suffix(".md")
    path.write_text("\n".join([head.rstrip("\n"), *lines]) + "\n")
    print(path)


if __name__ == "__main__":
    main()
