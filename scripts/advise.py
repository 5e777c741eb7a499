"""``hvgym advise workload=DIR host.ram_mib=N hypervisor=NAME``: how far somebody's own hosts may be overcommitted, on one page.

Stopped at any point, the same command goes on where it was.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hvgym.envs.errors import InputError, many, shown
from hvgym.envs.files import file_name
from hvgym.scripts import configuration, live
from hvgym.scripts.bench import print_place, recorded_at, with_checkpoints

if TYPE_CHECKING:
    from hvgym.bench.advice_own import OwnFleet, Question
    from hvgym.bench.climbing import Climbing
    from hvgym.bench.density import Point, Rule

FOLDER = "advice"
"""Of all advice, under runs."""

PRODUCTION = (
    "stock", "static", "proxmox", "proxmox_tuned", "mom_vdsm", "mom_vdsm_tuned", "esx", "squeezed", "selfballoon", "hyperv_like",
    "workstation_trim", "tmo",
)  # fmt: skip
"""Who plays where nobody is named: what stacks run, with the tuned copies of those that have parameters to set; beside them whom
the package has trained."""

SHOWN = 8
"""VMs that suffer, on a terminal."""


@configuration.verb("advise")
def main(config: DictConfig) -> None:
    """Play her VMs, print the answer, leave page and figures."""
    from hvgym.bench.advice import measure, reaching
    from hvgym.bench.advice_own import own_fleet
    from hvgym.bench.advice_report import write_advice
    from hvgym.bench.advice_tracking import make_advice_tracker
    from hvgym.bench.identity import codes_of
    from hvgym.bench.progress import folder_of
    from hvgym.bench.references import STOCK
    from hvgym.envs.fleet.doubts import doubts

    rule, agents = _rule(config), _agents(config)
    runs, workers, tracking = (
        configuration.runs_folder(config),
        configuration.workers(config),
        configuration.tracking(config),
    )
    name, question = configuration.name(config, "study"), _question(config)
    own = own_fleet(question)
    rule = reaching(rule, own.case)
    name = name or _default_name(question, own)
    print("\n".join([*own.history.lines(), *doubts(own.history)]))
    print(f"advice {name}: {_played(own)}{recorded_at(tracking)}", flush=True)
    folder = runs / FOLDER / name
    with make_advice_tracker(tracking, runs, name) as tracker:
        if tracker:
            tracker.start(own, rule)
        with live.board(folder_of(folder)):
            stock = configuration.agent(STOCK)
            advice = measure(own.case, agents, stock, rule, folder, workers, codes_of(agents), _print_point)
        if not advice.found:
            raise InputError("; ".join(f"{agent}: {reason}" for agent, reason in advice.refused.items()))
        summary, files = write_advice(own, advice, folder)
        if tracker:
            tracker.finish(advice, summary, files)
    print_advice(summary)
    print("\n".join(str(file) for file in files))
    print_place(tracking, runs, f"advise/{name}")


def _question(config: DictConfig) -> "Question":
    from hvgym.bench.advice_own import Question

    host = _host(config)
    counts = {
        "hosts": configuration.needed(config, "hosts", least=1, most=1000),
        "hardest": configuration.needed(config, "hardest", least=1, most=10_000),
        "random": configuration.needed(config, "random", least=0, most=10_000),
        "window_s": configuration.number(config, "window_s", least=60),
        "floor": _number(config, "floor", least=0.0, most=1.0),
        "seed": configuration.seed(config),
        "without": _without(config),
    }
    folder = _workload(config)
    ram_mib, swap_mib = host.pop("ram_mib", None), host.pop("swap_mib", None)
    if not ram_mib:
        said = "null" if ram_mib is None else "0"
        raise InputError(
            f"host.ram_mib={said}: expected the RAM of one of your hosts in MiB; 128 GiB are host.ram_mib=131072"
        )
    hypervisor = configuration.chosen(config, "hypervisor")
    if hypervisor is None:
        raise InputError("hypervisor=null: expected a name; hvgym list hypervisors shows them")
    return Question(str(folder), _with_devices(hypervisor), ram_mib, host=host, swap_mib=swap_mib, **counts)


def _with_devices(hypervisor: dict[str, Any]) -> dict[str, Any]:
    from hvgym.envs.scenario import load_group

    devices = {
        kind: load_group(kind, hypervisor[kind], configuration.folders())
        for kind in ("disk", "nic")
        if isinstance(hypervisor.get(kind), str)
    }
    return hypervisor | devices


def _workload(config: DictConfig) -> Path:
    """The folder of the table."""
    given = configuration.plain(config.workload)
    if isinstance(given, dict):  # as ``words`` writes a key that is a group of other verbs
        given = given.get("name")
    if not isinstance(given, str) or not given:
        raise InputError(f"workload={shown(given) if given else 'null'}: expected the folder that hvgym import wrote")
    folder = Path(given).expanduser().resolve()
    if not folder.is_dir():
        raise InputError(f"workload={given}: there is no such folder; hvgym import writes one")
    return folder


def _host(config: DictConfig) -> dict[str, Any]:
    """What is said of a host; amounts and numbers are checked."""
    host = configuration.plain(config.host)
    if not isinstance(host, dict):
        raise InputError(f"host={shown(host)}: expected keys, as in host.ram_mib=131072")
    for key in ("ram_mib", "swap_mib", "own_mib", "pcpus"):
        value = host.get(key)
        right = isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 <= value < 2.0**60
        if value is not None and not right:
            what = "a number of processors" if key == "pcpus" else "a number of MiB; 128 GiB are 131072"
            raise InputError(f"host.{key}={shown(value)}: expected {what}")
    return {key: value for key, value in host.items() if value is not None}


def _without(config: DictConfig) -> tuple[str, ...]:
    given = configuration.plain(config.without)
    names = given if isinstance(given, list) else [given]
    if not all(isinstance(name, (str, int)) and not isinstance(name, bool) for name in names):
        raise InputError(f"without={shown(given)}: expected a list of names of VMs")
    return tuple(str(name) for name in names)


def _rule(config: DictConfig) -> "Rule":
    from hvgym.bench.density import Rule

    return Rule(
        slo=_number(config, "slo", least=0.0, most=1.0),
        kills=configuration.needed(config, "kills", least=0),
        least=_number(config, "least_ratio", least=0.05, most=20.0),
        most=_number(config, "most_ratio", least=0.05, most=20.0),
    )


def _number(config: DictConfig, key: str, *, least: float, most: float) -> float:
    given = configuration.number(config, key, least=least, most=most, whole=False)
    if given is None:
        raise InputError(f"{key}=null: expected a number, at least {least:g} and at most {most:g}")
    return float(given)


def _agents(config: DictConfig) -> tuple[dict[str, Any], ...]:
    names = configuration.agent_names(config.agents, (*PRODUCTION, *configuration.agents_with_weights()))
    agents = with_checkpoints([configuration.agent(name) for name in names], configuration.plain(config.checkpoints))
    own = [file_name("agent.name", agent["name"]) for agent in agents]
    if twice := sorted({name for name in own if own.count(name) > 1}):
        raise InputError(f"agents: two are named {twice[0]!r}; give the YAML of one of them another name")
    return tuple(agents)


def _default_name(question: "Question", own: "OwnFleet") -> str:
    letters = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in Path(question.folder).name)
    return f"{letters.strip('-') or 'vms'}-{question.hypervisor['name']}-{own.case.hash[:8]}"


def _played(own: "OwnFleet") -> str:
    windows = own.windows
    hard = sum(windows.hard)
    return (
        f"{many(len(own.case.names), 'VM')} on {many(own.case.hosts, 'host')}, the {many(hard, 'hardest window')} and "
        f"{many(windows.count - hard, 'random one')}, {100 * windows.share:.1f} % of the history"
    )


def _print_point(job: "Climbing", point: "Point", share: float, count: int) -> None:
    missed = round(100 * share, 2) + 0.0  # never -0.00
    more = "" if point.fits.all() else ", VMs do not fit"
    print(f"[{count}] {job.name}: missed {missed:.2f} %, killed {point.kills.sum():.0f}{more}", flush=True)


def print_advice(summary: Mapping[str, Any]) -> None:
    """Verdict, policies, who suffers; the page has the rest."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from hvgym.bench import advice_words

    console = Console(markup=False)
    console = console if console.is_terminal else Console(markup=False, width=max(console.width, 120))
    print()
    for line in [*summary["verdict"], *advice_words.savings(summary), advice_words.n_plus_one(summary)]:
        console.print(line, markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title="safe ratio at three readings")
    for head in ("policy", "safe", "low", "middle", "high"):
        table.add_column(head, justify="left" if head == "policy" else "right", no_wrap=True)
    table.add_column("then (middle)", overflow="fold")
    for name, one in summary["policies"].items():
        levels = one["levels"]
        shown_levels = [f"{levels[level]['shown']} ({levels[level]['interval']})" for level in ("low", "mid", "high")]
        safe = one["safe_shown"] if one["safe"] > 0.0 else "none"
        table.add_row(advice_words.title(name, one), safe, *shown_levels, levels["mid"]["then"])
    console.print(table)
    _print_suffering(summary, console)
    console.print("\n".join(f"Not known: {line}" for line in summary["unknown"]), markup=False, highlight=False)


def _print_suffering(summary: Mapping[str, Any], console: Any) -> None:
    from hvgym.bench import advice_words

    name, found = next(iter(summary["suffering"].items()))
    hurt = [row for row in found["vms"] if row["missed"] > 0.0 or row["kills"] > 0.0][:SHOWN]
    if hurt:
        who = "first" if found["failed"] else "most, though nothing failed"
        print(f"Who suffers {who}, under {name} at ratio {found['ratio']:.2f} ({found['level']} reading):")
    for row in hurt:
        said = f"  {row['name']}: {advice_words.share(row['missed'])} missed, {row['kills']:.0f} killed; {row['why']}"
        console.print(said, markup=False, highlight=False)
