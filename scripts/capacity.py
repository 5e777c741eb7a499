"""``hvgym capacity agents=[…] scenario=… | workload=…``: density at the SLO, the largest overcommit ratio that every agent carries.

Stopped at any point, the same command goes on where it was.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hvgym.bench import suites
from hvgym.envs.errors import InputError, shown
from hvgym.envs.files import file_name
from hvgym.scripts import configuration, live
from hvgym.scripts.bench import print_place, recorded_at, with_checkpoints

if TYPE_CHECKING:
    from hvgym.bench.capacity import Family
    from hvgym.bench.climbing import Climbing
    from hvgym.bench.density import Point, Rule

MOST_RATIO = 100.0
"""Beyond it no host is overcommitted that anyone runs (a guess); a typing error is more likely."""


@configuration.verb("capacity")
def main(config: DictConfig) -> None:
    """Search every agent's density, print the table, leave picture and CSV; of somebody's own VMs at three levels."""
    from hvgym.bench.capacity_levels import write_together
    from hvgym.bench.density_column import FOLDER

    asked = Asked(_rule(config), _misses(config), _agents(config))
    families, runs = _families(config), configuration.runs_folder(config)
    name = configuration.name(config, "study") or _default_name(list(families.values()))
    for level, family in families.items():
        family.configured_mib()  # says what is wrong before anything is written
        if level in ("", next(iter(families))):
            configuration.print_trace_report(family.scenario)
    found = {
        level: _measured(config, asked, family, f"{name}-{level}" if level else name)
        for level, family in families.items()
    }
    if len(found) > 1:
        folder = runs / "studies" / name / FOLDER
        print_levels(write_together(found, folder))
        print(folder / "capacity.json")


@dataclass(frozen=True)
class Asked:
    """What is asked of every family."""

    rule: "Rule"
    misses: Any
    agents: tuple[dict[str, Any], ...]


def _measured(config: DictConfig, asked: Asked, family: "Family", name: str) -> dict[str, Any]:
    """One family: its summary, as it is in capacity.json."""
    from hvgym.bench.capacity import measure
    from hvgym.bench.capacity_report import write_capacity
    from hvgym.bench.capacity_tracking import make_capacity_tracker
    from hvgym.bench.density_column import FOLDER
    from hvgym.bench.identity import codes_of
    from hvgym.bench.progress import folder_of
    from hvgym.bench.references import STOCK

    runs, workers, tracking = (
        configuration.runs_folder(config),
        configuration.workers(config),
        configuration.tracking(config),
    )
    print(f"capacity {name}: {len(asked.agents)} agents, {family.fleets} fleets{recorded_at(tracking)}", flush=True)
    folder, stock = runs / "studies" / name / FOLDER, configuration.agent(STOCK)
    with make_capacity_tracker(tracking, runs, name) as tracker:
        if tracker:
            tracker.start(family, asked.rule, asked.misses)
        with live.board(folder_of(folder)):
            capacity = measure(
                family, asked.agents, stock, asked.rule, asked.misses, folder, workers, codes_of(asked.agents), _print_point
            )  # fmt: skip
        if not capacity.densities:
            raise InputError("; ".join(f"{agent}: {reason}" for agent, reason in capacity.refused.items()))
        summary, files = write_capacity(capacity, folder)
        if tracker:
            tracker.finish(capacity, summary, files)
    print_densities(summary)
    print("\n".join(str(file) for file in files))
    print_place(tracking, runs, f"capacity/{name}")
    return summary


def _rule(config: DictConfig) -> "Rule":
    from hvgym.bench.density import Rule

    return Rule(
        slo=_number(config, "slo", least=0.0, most=1.0),
        kills=configuration.needed(config, "kills", least=0),
        least=_number(config, "least_ratio", least=0.05, most=MOST_RATIO),
        most=_number(config, "most_ratio", least=0.05, most=MOST_RATIO),
        coarse=_number(config, "coarse", least=0.01, most=MOST_RATIO),
        step=_number(config, "step", least=0.01, most=1.0),
    )


def _number(config: DictConfig, key: str, *, least: float, most: float) -> float:
    given = configuration.number(config, key, least=least, most=most, whole=False)
    if given is None:
        raise InputError(f"{key}=null: expected a number, at least {least:g} and at most {most:g}")
    return float(given)


def _misses(config: DictConfig) -> Any:
    given = configuration.plain(config.misses)
    if given not in ("added", "all"):
        raise InputError(f"misses={shown(given)}: choose one of added, all")
    return given


def _search(config: DictConfig) -> dict[str, Any]:
    """What a clairvoyant is told in place of its YAML: its budget, and to seek what density counts."""
    given = configuration.plain(config.reference)
    if not isinstance(given, dict) or sorted(given) != ["counts", "episodes"]:
        raise InputError(
            f"reference={'null' if given is None else shown(given)}: expected the keys episodes and counts"
        )
    episodes, counts = given["episodes"], given["counts"]
    if not isinstance(episodes, int) or isinstance(episodes, bool) or episodes < 1:
        raise InputError(f"reference.episodes={shown(episodes)}: expected a whole number, at least 1")
    if counts not in ("goodput", "misses"):
        raise InputError(f"reference.counts={shown(counts)}: choose one of goodput, misses")
    return given


def _agents(config: DictConfig) -> tuple[dict[str, Any], ...]:
    from hvgym.bench.references import CLAIRVOYANT

    names = configuration.agent_names(config.agents, ())
    if not names:
        raise InputError("agents=null: expected a list of names, or all")
    agents = with_checkpoints([configuration.agent(name) for name in names], configuration.plain(config.checkpoints))
    agents = tuple(agent | _search(config) if agent["name"] in CLAIRVOYANT else agent for agent in agents)
    own = [file_name("agent.name", agent["name"]) for agent in agents]
    if twice := sorted({name for name in own if own.count(name) > 1}):
        raise InputError(f"agents: two are named {twice[0]!r}; give the YAML of one of them another name")
    return agents


def _families(config: DictConfig) -> dict[str, "Family"]:
    """By level, of somebody's own VMs; the only one as "" where a level is chosen, or there are none."""
    from hvgym.bench.capacity import Family
    from hvgym.bench.identity import sources

    fleets = configuration.needed(config, "fleets", least=2, most=suites.MOST_SEEDS)
    scenario = configuration.scenario(config)
    own = configuration.rules(config) or configuration.plain(config.scenario).get("rules")
    if (
        own is None and scenario.workload.kind == "bitbrains"
    ):  # VMs of somebody's data centre, so what can be done in one
        scenario = replace(scenario, rules="default")
    found = configuration.at_levels(config, [scenario])
    levels = [""] if len(found) == 1 else [str(one.workload.level) for one in found]
    return {level: Family.of(one, fleets, sources([one.to_dict()])) for level, one in zip(levels, found, strict=True)}


def _default_name(families: "Sequence[Family]") -> str:
    scenario = families[0].scenario
    name = str(scenario["name"])
    if len(families) > 1:
        name = name.removesuffix(f"-{scenario['workload']['level']}")
    content = "".join(family.hash for family in families)
    found = families[0].hash if len(families) == 1 else hashlib.sha256(content.encode()).hexdigest()
    return f"{file_name('scenario.name', name)}-{scenario['hypervisor']['name']}-{found[:8]}"


def _print_point(job: "Climbing", point: "Point", share: float, count: int) -> None:
    unfit = int((point.fits == 0.0).sum())
    more = f", {unfit} fleets do not fit" if unfit else ""
    missed = round(100 * share, 2) + 0.0  # never -0.00
    print(f"[{count}] {job.name}: missed {missed:.2f} %, killed {point.kills.sum():.0f}{more}", flush=True)


def print_densities(summary: Mapping[str, Any]) -> None:
    """Densest agent first; then who could not be played, and why."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    where = f"{summary['scenario']} on {summary['hypervisor']}"
    title = f"density at the SLO: {where}, {summary['fleets']} fleets, {summary['rules']} rules"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title)
    table.add_column("agent", no_wrap=True)
    host = f"VMs a host\nof {summary['fleet_gib']:.0f} GiB"
    for name in ("ratio\n(95 % interval)", host, "GiB saved\nper 100 VMs"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("then", overflow="fold")
    for agent, figures in summary["agents"].items():
        saved = figures["gib_saved_per_100_vms"]
        vms = f"{figures['vms_a_host']:.1f}" if figures["density"] else "–"
        table.add_row(agent, figures["shown"], vms, "–" if saved is None else f"{saved:.0f}", figures["stopped_by"])
    console = Console(markup=False)
    (console if console.is_terminal else Console(markup=False, width=max(console.width, 120))).print(table)
    print(_key(summary))
    for agent, reason in summary["refused"].items():
        print(f"{agent}: not played: {reason}")


def print_levels(summary: Mapping[str, Any]) -> None:
    """What the levels say together."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=f"{summary['scenario']}: density")
    table.add_column("agent", no_wrap=True)
    levels = list(dict.fromkeys(level for figures in summary["agents"].values() for level in figures["levels"]))
    for head in ("safe at all", *levels):
        table.add_column(head, justify="right", no_wrap=True)
    for agent, figures in summary["agents"].items():
        ratios = [figures["density"], *figures["levels"].values()]
        table.add_row(agent, *(f"{ratio:.2f}" if ratio else "none" for ratio in ratios))
    console = Console(markup=False)
    (console if console.is_terminal else Console(markup=False, width=max(console.width, 120))).print(table)
    for line in summary["undecided"]:
        print(line)


def _key(summary: Mapping[str, Any]) -> str:
    """What the numbers mean, on a few lines."""
    from hvgym.bench.density_column import killed

    ample = summary["ample"]
    lines = [
        "Ratio: configured memory over RAM, up to which, at every ratio that was played, critical VMs",
        f"miss their objective in at most {100 * summary['slo']:g} % of their seconds and {killed(summary['kills'])}.",
    ]
    if summary["misses"] == "added":
        lines.append(
            f"Not counted: what the same fleets have on hosts with twice their memory ({100 * ample['missed']:.2f} % missed, "
            f"{ample['kills']:.0f} killed);\nmisses=all counts it."
        )
    lines += [f"{agent}: {how}." for agent, how in summary["searched"].items()]
    return "\n".join(lines)
