"""Writes docs/learned.md: what the packaged learned policies win and where they fall short, from the studies of ``make
learned-docs``.

``learned.py scenarios FOLDER TRAININGS`` writes the scenarios with other numbers of VMs, and the agents of other training seeds, as
YAML for those studies; ``learned.py page STUDIES`` writes the page. Sections whose studies are not there stay as the page has them,
and are named; what was never played is left out, and the page says so.
"""

import csv
import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import yaml

from hvgym.agents.policy import declared_by
from hvgym.bench.criterion import DIAGNOSTIC as OTHER
from hvgym.bench.statistics import paired_difference
from hvgym.envs.scaled import with_vms
from hvgym.envs.scenario import load, load_group

DIAGNOSTIC = (*OTHER, "javas-virtualbox", "offices-workstation")
"""Of devices and bandwidth, and of Type 2: played, and not counted."""

SCALED = ("tenants-kvm", "tenants-esxi", "tenants-xen", "tenants-hyperv")
VMS = (4, 8, 16, 64)

SIZES, FULL, RULE, REFERENCE, STOCK = "learned_sizes", "learned_full", "cheapest_pages", "reference", "stock"
MADE = ("generations", "seed", "trained_on")
"""What a file of weights says of its training."""
OURS = (SIZES, FULL, RULE, REFERENCE, "reference_outside", STOCK)
SIZE_CHANNELS = {"memory_mib", "admit"}

TITLES = {
    "standard": "Suite standard, test seeds",
    "standard_ood": "Suite standard_ood: demand on hypervisors, and hosts, that nothing was trained on",
    "quick": "Suite quick, test seeds",
    "vms": "Other numbers of VMs",
    "real-kvm": "Real demand on KVM: VMs of a data centre that nothing was trained on",
    "real-esxi": "Real demand on ESXi",
    "real-xen": "Real demand on Xen",
    "real-hyperv": "Real demand on Hyper-V",
}

HEAD = """# Learned policies against production

Made by `make learned-docs`, after `make learned`, which trains both. Everything here is test data: seeds (and, of real traces,
VMs) on which nothing was trained, tuned or chosen.

- **`learned_sizes`** sets sizes of memory and nothing else: a linear map from what an operator can read of a VM and its host to
  how fast the VM grows or shrinks, shared by all VMs; where a host has less than they ask for, each pays the same price over its
  weight (`agents/learned/linear.py`). There is one map for each kind of host, told apart by what guests say of themselves
  (`agents/learned/by_statistics.py`), each trained by `es` on the training seeds of scenarios of suites quick and standard and of
  a few made for it (listed at the end).
- **`learned_full`** has every channel that its seat has. Where pages can be reclaimed by age (KVM) prices of pages and what is
  kept free are learnt on top of a rule; elsewhere it is `learned_sizes`, with free page reporting where there is any
  (`agents/learned/prices.py`).
- **`cheapest_pages`** is that rule, untrained, on KVM: what it wins is won by channels, not by learning
  (`agents/proactive/cheapest_pages.py`).
- **The best tuned rival** of `learned_sizes` is, on each scenario, the policy among those that set sizes and were tuned on
  standard or quick (`hvgym tune`) which has the highest mean on these very test seeds: it is chosen after the fact, in the
  rivals' favour. Of
  `learned_full` it is the best of all production policies, tuned or not.

**Where they fall short.** On KVM `learned_sizes` closes a twentieth of the way on offices-kvm and crowd-kvm: there the host swaps,
and chooses itself what it takes; with its further channels `learned_full` closes most of it. On quick it is behind on mixed-tenants
and cache-hogs. On ESXi a host may be filled no further than with the best tuned rival. On KVM it lets light VMs die where a host
has far too little: 12 kills an episode with 64 VMs, with the best tuned rival less than one. On Xen with 16 and 64 VMs nothing is
decided against selfballoon_tuned.

**And real demand.** On VMs of a data centre (below) there is little to win: stock reaches 97.6 of 98.0 on KVM. `learned_sizes`
is better than the best tuned rival on one of twelve scenarios (idle-giants on Hyper-V) and .3 behind on one (cache-hogs on KVM); on
the others nothing is decided. One host of eight loses a VM 66 times in web-siblings on Xen and Hyper-V.
Two faults were mended after these very episodes had shown them, so they
are no longer untouched test data: one host lost a VM 488 times until no guest was asked below 512 MiB (hypeman's floor, tried on
training demand), and `learned_full` and its untrained rule lost 39 and 41 VMs on KVM until no more counted as free than is
available. On suite standard's four hosts of real VMs,
24 seeds each ([ranking](ranking.md), `make ranking-real TRACES=DIR`), the mean of `learned_full` is above that of every
production policy on each (KVM 97.54, coldest_first 97.49; ESXi 93.6, proportional 92.7; Hyper-V 91.5, stock 87.9; Xen 96.3,
meb_tuned 95.7), and that of `learned_sizes` on all but KVM (96.8); but on Xen and Hyper-V it kills two VMs an episode, and the
weights before were 1.4 and 2.1 better there. On real *guests* see [fidelity](fidelity.md).

Goodput in hundredths. Differences are paired by demand, with a 95 % bootstrap interval over test seeds; **bold** where it
excludes 0. *Way* is the part of the distance from the rival to the clairvoyant reference that is closed. SLO: seconds an episode
in which critical VMs missed their objective. Kills: an episode's.
"""

DENSITY_TITLE, TRAININGS = "Density at the SLO", "Five trainings"

DENSITY = """Configured memory over RAM, up to which critical VMs miss their objective in at most 1 % of their seconds and no VM is
killed, over 16 fleets of test seeds, with its 95 % bootstrap interval over fleets (`hvgym capacity`, [capacity](capacity.md)).
The rival is again the best in hindsight. *Gain* is ours over the rival's; the aim is 10 %."""

SPREAD = """Suite standard, test seeds: the packaged weights first, then the same training with other seeds (`make learned SEED=1`
to 4, `make learned-trainings`), against the best of the tuned rivals of sizes that were played beside them. *Better*, *worse*: on
so many scenarios, by intervals without 0. No training was left out or chosen. Of `learned_full` the part for Linux hosts is trained
anew; elsewhere it plays the packaged maps."""

PAGE = Path(__file__).with_suffix(".md")

Rows = dict[str, dict[str, list[dict[str, float]]]]
"""Rows by scenario and agent, in the order of seeds."""


def read(study: Path) -> Rows:
    """What a study has played."""
    found: Rows = {}
    with (study / "results.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            values = {name: float(row[name]) for name in ("eval_seed", "goodput", "cost", "oom_kills")}
            found.setdefault(row["scenario"], {}).setdefault(row["agent"], []).append(values)
    for agents in found.values():
        for rows in agents.values():
            rows.sort(key=lambda one: one["eval_seed"])
    return found


def mean(rows: Iterable[Mapping[str, float]], name: str = "goodput") -> float:
    """Of one figure."""
    return float(np.mean([row[name] for row in rows]))


def sizes_alone(agent: str) -> bool:
    """Whether a packaged agent sets sizes of memory, and no other channel but who starts."""
    channels = declared_by(load_group("agent", agent)).channels
    return channels is not None and "memory_mib" in channels and set(channels) <= SIZE_CHANNELS


def rivals(agents: Iterable[str], tuned_sizes: bool) -> list[str]:
    """Production policies; tuned_sizes: only those that were tuned and set sizes alone."""
    others = [name for name in agents if name not in OURS and not name.startswith("learned_")]
    return [name for name in others if name.endswith("_tuned") and sizes_alone(name)] if tuned_sizes else others


def best(agents: Mapping[str, list[dict[str, float]]], names: Iterable[str]) -> str | None:
    """The one with the highest mean."""
    return max(names, key=lambda name: mean(agents[name]), default=None)


@dataclasses.dataclass(frozen=True)
class Against:
    """Ours against another on a scenario, in goodput; way: None where the reference is no better than the rival."""

    scenario: str
    ours: str
    other: str
    difference: float
    lo: float
    hi: float
    way: float | None
    slo_s: tuple[float, float]
    kills: tuple[float, float]

    @property
    def text(self) -> str:
        """The difference in hundredths."""
        said = f"{100 * self.difference:+.1f} ({100 * self.lo:+.1f}, {100 * self.hi:+.1f})"
        return f"**{said}**" if self.lo > 0.0 or self.hi < 0.0 else said


def against(scenario: str, agents: Mapping[str, list[dict[str, float]]], ours: str, other: str) -> Against:
    """Both on the same demand."""
    one, two = ([row["goodput"] for row in agents[name]] for name in (ours, other))
    test = paired_difference([[one]], [[two]], np.random.default_rng(0), permutations=1)
    gap = mean(agents[REFERENCE]) - mean(agents[other]) if REFERENCE in agents else 0.0
    slo, kills = (tuple(mean(agents[name], key) for name in (ours, other)) for key in ("cost", "oom_kills"))
    way = (mean(agents[ours]) - mean(agents[other])) / gap if gap > 0.005 else None
    return Against(scenario, ours, other, test.mean, test.lo, test.hi, way, slo, kills)  # type: ignore[arg-type]


def compared(rows: Rows, ours: str, tuned_sizes: bool, other: str | None = None) -> list[Against]:
    """Ours against the best rival of each scenario, or against one that is named; where both were played."""
    found = []
    for scenario, agents in rows.items():
        rival = other if other else best(agents, rivals(agents, tuned_sizes))
        if scenario not in DIAGNOSTIC and ours in agents and rival in agents:
            found.append(against(scenario, agents, ours, str(rival)))
    return found


def summary(found: list[Against], whom: str) -> str:
    """In one line: on how many scenarios better, and how far."""
    if not found:
        return f"- Against {whom}: not played."
    better, worse = sum(one.lo > 0.0 for one in found), sum(one.hi < 0.0 for one in found)
    ways = [one.way for one in found if one.way is not None]
    way = f"; median way to the reference {np.median(ways):.0%}" if ways else ""
    slo, kills = (np.mean([getattr(one, name) for one in found], axis=0) for name in ("slo_s", "kills"))
    gained = 100 * np.mean([one.difference for one in found])
    return (
        f"- {found[0].ours} against {whom}: better on {better} of {len(found)} scenarios, worse on {worse} (interval without 0); "
        f"mean {gained:+.1f}{way}; SLO {slo[0]:,.0f} s against {slo[1]:,.0f}, kills {kills[0]:.2f} against {kills[1]:.2f}."
    )


def section(name: str, rows: Rows) -> list[str]:
    """Table and summaries of one study."""
    seeds = max(len(one) for agents in rows.values() for one in agents.values())
    sizes, full = compared(rows, SIZES, True), compared(rows, FULL, False)
    rule = compared(rows, FULL, False, RULE)
    by_scenario = [{one.scenario: one for one in found} for found in (sizes, full, rule)]
    of_sizes = [
        "| scenario | stock | best tuned rival of sizes | learned_sizes | difference | way | reference |",
        "|---|--:|---|--:|--:|--:|--:|",
    ]
    of_all = [
        "| scenario | best rival of all | rule | learned_full | less the rival | less the rule | reference |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for scenario, agents in rows.items():
        one, two, three = (found.get(scenario) for found in by_scenario)
        values = {agent: f"{100 * mean(agents[agent]):.1f}" if agent in agents else "" for agent in OURS}
        kind = " (diagnostic)" if scenario in DIAGNOSTIC else ""
        of_sizes.append(
            f"| {scenario}{kind} | {values[STOCK]} | {_rival(one, agents)} | {values[SIZES]} | {one.text if one else ''} | "
            f"{_way(one)} | {values[REFERENCE]} |"
        )
        of_all.append(
            f"| {scenario}{kind} | {_rival(two, agents)} | {values[RULE]} | {values[FULL]} | {two.text if two else ''} | "
            f"{three.text if three else ''} | {values[REFERENCE]} |"
        )
    played = sorted({agent for agents in rows.values() for agent in rivals(agents, False)})
    whole = any(REFERENCE in agents for agents in rows.values())
    unplayed = "" if whole else " Not all rivals, and no reference; `make learned-docs` plays them."
    kvm = [scenario for scenario in rows if RULE in rows[scenario]]
    lines = [
        *(
            f"## {TITLES.get(name, name)}",
            "",
            f"{seeds} seeds. Rivals that were played: {', '.join(played)}.{unplayed}",
            "",
        ),
        *(*of_sizes, "", *of_all, ""),
        summary(sizes, "the best tuned rival that sets sizes"),
        summary(full, "the best of all production policies"),
    ]
    lines += [summary(rule, "the untrained rule with the same channels")] if kvm else []
    return [*lines, ""]


def _rival(one: Against | None, agents: Mapping[str, list[dict[str, float]]]) -> str:
    return "" if one is None else f"{one.other} {100 * mean(agents[one.other]):.1f}"


def _way(one: Against | None) -> str:
    return "" if one is None or one.way is None else f"{one.way:.0%}"


def density(studies: Path) -> list[str]:
    """How far hosts may be overcommitted, where that was played on all four."""
    files = {name: studies / f"density-{name}" / "capacity" / "capacity.json" for name in SCALED}
    if not all(file.is_file() for file in files.values()):  # a part would replace a table of all
        return []
    lines = [_density(name, json.loads(file.read_text())["agents"]) for name, file in files.items()]
    head = "| scenario | stock | best tuned rival of sizes | learned_sizes | gain | best rival of all | learned_full | gain |"
    return [
        f"## {DENSITY_TITLE}",
        "",
        *DENSITY.splitlines(),
        "",
        head,
        "|---|--:|---|--:|--:|---|--:|--:|",
        *lines,
        "",
    ]


def _density(scenario: str, agents: Mapping[str, Mapping[str, float]]) -> str:
    """A row."""

    def densest(names: list[str]) -> str:
        return max(names, key=lambda name: agents[name]["density"])

    cells = [scenario, f"{agents[STOCK]['shown']}"]
    for ours, tuned_sizes in ((SIZES, True), (FULL, False)):
        rival = densest(rivals(agents, tuned_sizes))
        most, least = agents[ours]["density"], agents[rival]["density"]
        gain = f"{most / least - 1.0:+.0%}" if least > 0.0 else ""
        cells += [f"{rival} {agents[rival]['shown']}", f"{agents[ours]['shown']}", gain]
    return f"| {' | '.join(cells)} |"


def trainings(rows: Rows) -> list[str]:
    """The spread over training seeds, each against the rivals that were played beside them."""
    lines = []
    for ours in (SIZES, FULL):
        others = sorted({name for agents in rows.values() for name in agents if name.startswith(f"{ours}_seed")})
        found = {name: compared(rows, name, True) for name in (ours, *others)} if others else {}
        found = {name: against_rivals for name, against_rivals in found.items() if against_rivals}
        lines += [_training(name, against_rivals, rows) for name, against_rivals in found.items()]
        means = [_mean_of(name, rows) for name in found]
        if len(found) > 1:
            lines.append(f"| *standard deviation of {ours}* | {100 * np.std(means, ddof=1):.2f} | | | | | |")
    if not lines:
        return []
    head = "| training | goodput | better | worse | mean difference | SLO, s | kills |"
    return [f"## {TRAININGS}", "", *SPREAD.splitlines(), "", head, "|---|--:|--:|--:|--:|--:|--:|", *lines, ""]


def _mean_of(agent: str, rows: Rows) -> float:
    """Goodput over the scenarios that count."""
    counted = [agents[agent] for scenario, agents in rows.items() if scenario not in DIAGNOSTIC and agent in agents]
    return float(np.mean([mean(one) for one in counted]))


def _training(name: str, found: list[Against], rows: Rows) -> str:
    """A row of the table."""
    better, worse = sum(one.lo > 0.0 for one in found), sum(one.hi < 0.0 for one in found)
    gained = 100 * np.mean([one.difference for one in found])
    slo_s, kills = (np.mean([getattr(one, figure)[0] for one in found]) for figure in ("slo_s", "kills"))
    return f"| {name} | {100 * _mean_of(name, rows):.1f} | {better} | {worse} | {gained:+.1f} | {slo_s:,.0f} | {kills:.2f} |"


def made() -> list[str]:
    """How the packaged weights came about, by their files."""
    lines = ["## How they were trained", ""]
    for name in (SIZES, FULL):
        content = json.loads((Path(__file__).parents[1] / "agents" / "learned" / f"{name}.json").read_text())
        if not content.get("generations"):
            lines.append(f"- {name}: not trained; its weights are those with which the search begins (`make learned`).")
            continue
        whole = content["generations"]
        parts = (
            {f" on {kind}": {key: content[key][kind] for key in MADE} for kind in whole}
            if isinstance(whole, dict)
            else {"": content}
        )
        lines += [
            f"- {name}{where}: {part['generations']} generations of `es`, training seed {part['seed']}, on "
            f"{', '.join(part['trained_on'])}; {len(content['weights']) // len(parts)} weights."
            for where, part in parts.items()
        ]
    return [*lines, ""]


def sections(text: str) -> dict[str, list[str]]:
    """Of a page: lines by the title of their section, title and empty lines included."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("## "):
            found[line[3:]] = []
        if found:
            list(found.values())[-1].append(line)
    return {title: [*"\n".join(lines).rstrip().splitlines(), ""] for title, lines in found.items()}


def page(studies: Path, place: Path = PAGE) -> None:
    """Write the page; a section without a study stays as the page has it."""
    kept = sections(place.read_text()) if place.is_file() else {}
    played = {
        name: read(studies / name) for name in (*TITLES, "trainings") if (studies / name / "results.csv").is_file()
    }
    made_now = {TITLES[name]: section(name, rows) for name, rows in played.items() if name in TITLES}
    made_now |= {DENSITY_TITLE: density(studies), TRAININGS: trainings(played.get("trainings", {}))}
    lines, missing = [HEAD], []
    for title in (*TITLES.values(), DENSITY_TITLE, TRAININGS):
        if not made_now.get(title) and title in kept:
            print(f"kept as it was: {title}")
        found = made_now.get(title) or kept.get(title, [])
        lines += found
        missing += [] if found else [title]
    lines += made()
    lines += [f"Not played yet: {'; '.join(missing)}.", ""] if missing else []
    place.write_text("\n".join(lines).rstrip() + "\n")
    print(place)


def write_scenarios(folder: Path, trainings: Path) -> None:
    """Scenarios with other numbers of VMs, and an agent for each other training that has ended, as YAML below a folder."""
    for kind in ("scenario", "agent"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name in SCALED:
        for vms in VMS:
            scenario = with_vms(load(name), vms)
            (folder / "scenario" / f"{scenario.name}.yaml").write_text(
                yaml.safe_dump(scenario.to_dict(), sort_keys=False)
            )
    for model in sorted(trainings.glob("learned_*-seed[1-9]*/best.json")):  # seed 0 is the packaged one
        name, _, seed = model.parent.name.rpartition("-seed")
        agent = {key: value for key, value in load_group("agent", name).items() if key != "weights"}
        agent |= {"name": f"{name}_seed{seed}", "checkpoint": str(model.resolve())}
        (folder / "agent" / f"{agent['name']}.yaml").write_text(yaml.safe_dump(agent, sort_keys=False))
    print(folder)


if __name__ == "__main__":
    if sys.argv[1] == "page":
        page(Path(sys.argv[2]))
    else:
        write_scenarios(Path(sys.argv[2]), Path(sys.argv[3]))
