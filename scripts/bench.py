"""``hvgym bench suite=…``: run a suite with several agents; ends with leaderboard, report and the command for the UI.

Stopped at any point, the same command goes on where it was.
"""

import hashlib
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hvgym.bench.suites import MOST_SEEDS
from hvgym.envs.errors import InputError, nearest
from hvgym.scripts import configuration, live
from hvgym.scripts.own_vms import at_origins, print_origins

if TYPE_CHECKING:
    from hvgym.bench.jobs import Done
    from hvgym.bench.protocol import Protocol
    from hvgym.bench.stopping import Plan
    from hvgym.bench.tracking import Place, Tracker
    from hvgym.bench.workers import Workers


@configuration.verb("bench")
def main(config: DictConfig) -> None:
    """Run the study."""
    from hvgym.bench.protocol import check
    from hvgym.bench.report import write_report
    from hvgym.bench.study import opened
    from hvgym.bench.tracking import make_tracker

    to, most = _until_decided(config)
    protocol, swept = _protocol(config), configuration.swept(*OF_ONE_STUDY)
    name = _study_name(config, protocol, swept)
    runs = configuration.runs_folder(config)
    folder = runs / "studies" / name
    workers, tracking = configuration.workers(config), configuration.tracking(config)
    check(protocol)
    plan = _plan(config, protocol, folder, to, most) if most else None
    chosen = [agent["name"] for agent in protocol.agents]
    configuration.print_trace_report(protocol.scenarios[0])
    print_origins(protocol.scenarios)
    place = _place(config, protocol, name, swept)
    for asked in _rounds(protocol, plan):
        with opened(asked, folder) as joined, make_tracker(tracking, runs, place) as tracker:
            print(
                f"study {name}: {len(joined.jobs())} jobs, {len(joined.agents)} agents, {len(joined.scenarios)} scenarios, "
                f"{joined.suite.eval_seeds} evaluation seeds{recorded_at(tracking)}",
                flush=True,
            )
            tracker.start(joined, folder, models=chosen)
            _play(joined, folder, workers, tracker)
            plan, decided = _looked(plan, folder, asked)
            summary, files = write_report(folder)
            tracker.finish(summary, files)
        if decided:
            break
    print_leaderboard(summary)
    print(f"report: {folder / 'report.html'}")
    print_place(tracking, runs, name, folder)


def _play(protocol: "Protocol", folder: Path, workers: "Workers", tracker: "Tracker") -> None:
    """Run the jobs that are missing; a line for each that is finished, and on a terminal one for each that runs."""
    from hvgym.bench.study import run_study

    def on_done(done: "Done", finished: int, total: int) -> None:
        seen(done)
        tracker.job(done)
        goodput = sum(row["goodput"] for row in done.rows) / len(done.rows)
        print(f"[{finished}/{total}] {done.job.name}: goodput {goodput:.4f}", flush=True)

    with live.study(protocol, folder) as seen:
        run_study(protocol, folder, workers, on_done)


def _until_decided(config: DictConfig) -> tuple[str | None, int | None]:
    """With whom to compare, and the most evaluation seeds, of stop=decided; nothing where all seeds are played at once."""
    stop, to = configuration.text(config, "stop"), configuration.text(config, "to")
    most = configuration.number(config, "max_seeds", least=2, most=MOST_SEEDS)
    if stop not in (None, "decided"):
        raise InputError(f"stop={stop!r}: choose decided, or leave it out")
    if stop is None and (to is not None or most is not None):
        key = f"to={to}" if to is not None else f"max_seeds={most}"
        raise InputError(f"{key}: is of stop=decided; give that, too")
    if stop is not None and most is None:
        raise InputError(
            "max_seeds=null: expected a whole number, the evaluation seeds at which stop=decided ends at the latest"
        )
    return to, most


def _plan(config: DictConfig, protocol: "Protocol", folder: Path, to: str | None, most: int) -> "Plan":
    """When it is looked at whom, said on one line."""
    from hvgym.bench import stopping
    from hvgym.bench.references import CLAIRVOYANT
    from hvgym.bench.same_demand import demands_of

    named = configuration.agent_names(config.agents, protocol.suite.agents)
    playing = [agent["name"] for agent in protocol.agents if protocol.plays(agent["name"])]
    if to is not None and to not in playing:
        raise InputError(f"to={to!r}: does not play{nearest(to, playing)}; choose one of {', '.join(playing)}")
    compared = [agent for agent in playing if agent in named and agent not in CLAIRVOYANT]
    plan = stopping.planned(folder, compared, to, protocol, most)
    print(stopping.introduced(plan, len({*demands_of(protocol.scenarios).values()})), flush=True)
    return plan


def _rounds(protocol: "Protocol", plan: "Plan | None") -> list["Protocol"]:
    """The study with the seeds of each look; once as it is where there is no plan."""
    seeds = plan.looks if plan else [protocol.suite.eval_seeds]
    return [replace(protocol, suite=replace(protocol.suite, eval_seeds=count)) for count in seeds]


def _looked(plan: "Plan | None", folder: Path, asked: "Protocol") -> tuple["Plan | None", bool]:
    """Look whether everything is decided, and say so."""
    from hvgym.bench import stopping
    from hvgym.bench.references import NothingScoredError

    if plan is None:
        return None, False
    try:
        plan, found = stopping.look(plan, folder, asked.suite.eval_seeds)
    except NothingScoredError:  # so there is nobody to compare with yet; the next look has more seeds
        return plan, False
    print("\n".join(stopping.lines(plan, found)), flush=True)
    return plan, all(one.decided for one in found.values())


def _protocol(config: DictConfig) -> "Protocol":
    from hvgym.bench.identity import codes_of, sources
    from hvgym.bench.protocol import Protocol
    from hvgym.bench.references import ends_of

    suite = configuration.suite(config)
    names = configuration.agent_names(config.agents, suite.agents)
    if named := configuration.named_scenarios(config):
        scenarios = at_origins(config, configuration.at_levels(config, named))
        suite = suite.on(tuple(scenario.name for scenario in scenarios))
    else:
        scenarios = at_origins(config, configuration.at_levels(config, configuration.of_suite(config, suite)))
        suite = replace(suite, scenarios=tuple(scenario.name for scenario in scenarios))
    plain = tuple(scenario.to_dict() for scenario in scenarios)
    found = [configuration.agent(name) for name in names]
    if configuration.plain(config.agents) == "all" and not any(
        group["arrive_s"] > 0 for scenario in plain for group in scenario["vms"]
    ):
        found = [agent for agent in found if agent.get("needs") != "arrivals"]
    found += [configuration.agent(name) for name in ends_of(found, plain) if name not in names]
    agents = with_checkpoints(found, configuration.plain(config.checkpoints))
    return Protocol(suite, agents, plain, sources(plain), codes_of(agents))


def with_checkpoints(agents: list[dict[str, Any]], checkpoints: Any) -> tuple[dict[str, Any], ...]:
    """Agents with the networks that the command names, known by their content."""
    checkpoints = {} if checkpoints is None else checkpoints
    if not isinstance(checkpoints, dict):
        raise InputError(f"checkpoints={checkpoints!r}: expected agents and files, as in checkpoints={{ppo:best.zip}}")
    for name in checkpoints:
        if name not in [agent["name"] for agent in agents]:
            raise InputError(f"checkpoints.{name}: no such agent among those that play")
    for agent in agents:
        if path := checkpoints.get(agent["name"]) or agent.get("checkpoint"):
            file = Path(str(path)).expanduser().resolve()
            if not file.is_file():
                raise InputError(f"checkpoints.{agent['name']}={path}: no such file; name the best.zip of a training")
            agent |= {"checkpoint": str(file), "checkpoint_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    return tuple(agents)


OF_ONE_STUDY = ("agents", "workers", "tracking", "tracking.uri", "runs", "study")
"""Keys that may be swept within one study."""


def _study_name(config: DictConfig, protocol: "Protocol", swept: dict[str, str]) -> str:
    """The given name, in a sweep with the combination's values, or one that the protocol determines: the same command finds the
    same study."""
    given = configuration.name(config, "study")
    if given is None:
        return f"{_plain(protocol.suite.name)}-{protocol.hash[:8]}"
    return "-".join([given, *(_plain(f"{key}={value}") for key, value in swept.items())])


def _place(config: DictConfig, protocol: "Protocol", name: str, swept: dict[str, str]) -> "Place":
    """Where MLflow has it: a sweep is one experiment, by the given name or by what its studies have in common."""
    from hvgym.bench.identity import digest_of_text
    from hvgym.bench.tracking import Place

    if not swept:
        return Place(name)
    others = sorted(word for word in configuration.words() if word.partition("=")[0] not in (*swept, *OF_ONE_STUDY))
    common = digest_of_text(" ".join(others))[:8]
    return Place(configuration.name(config, "study") or f"sweep-{_plain('-'.join(swept))}-{common}", swept)


def _plain(text: str) -> str:
    """As part of a name."""
    return re.sub("[^A-Za-z0-9._=-]+", "_", text)[:80]


WIDE = 100
"""Characters of a terminal from which on a score and its interval stand side by side."""


def print_leaderboard(summary: dict[str, Any]) -> None:
    """Best agent first."""
    if "nothing_scored" in summary:
        _print_unscored(summary)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from hvgym.bench import density_column
    from hvgym.bench.beaten import alarms
    from hvgym.bench.summary import doubts, in_part, not_played, not_scored, ranking
    from hvgym.scripts import tables

    console = Console(markup=False)
    below = "\n" if console.width < WIDE else " "
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title=f"suite {summary['suite']}: score 0 = stock, 1 = reference of the seat",
    )
    for name in ("agent", "seat"):
        table.add_column(name, no_wrap=True)
    dense = "capacity" in summary
    started = not any(summary["agents"][agent]["failed_starts"] for agent in summary["agents"])
    labels = {name: label for name, label in tables.LABELS.items() if not (started and name == "failed_starts")}
    for name in ("score\n(95 %)", *(["density\n(95 %)"] if dense else []), *labels.values()):
        table.add_column(name, justify="right", no_wrap=True)
    for agent in ranking(summary):
        r = summary["agents"][agent]
        score = f"{_short(r['score_iqm'])}{below}({_short(r['score_lo'])}, {_short(r['score_hi'])})"
        digits = {"cost": 0, "oom_kills": 2, "failed_starts": 2, "host_swap_s": 0, "p99_slowdown": 1}
        counts = [f"{r[name]:.{places}f}" for name, places in digits.items() if name in labels]
        density = [density_column.shown(summary, agent).replace(" (", "\n(")] if dense else []
        seat = r["seat"].removesuffix("side")
        name = in_part(summary, agent).replace(" of ", "/")  # short: names are long, terminals narrow
        table.add_row(name, seat, score, *density, f"{r['goodput']:.4f}", *counts)
    console.print(table)
    for line in alarms(summary):
        console.print(line, style="bold red", markup=False, highlight=False, soft_wrap=True)
    print(tables.KEY)
    if summary["clusters"]:
        _print_clusters(console, summary)
    if dense:
        print(density_column.line(summary))
    for line in (*not_scored(summary), *not_played(summary)):
        print(line)
    for name, code in summary["code"]["outside"].items():
        print(f"{name}: code outside the package, {code}")
    for line in doubts(summary):
        print(line)


def _print_unscored(summary: dict[str, Any]) -> None:
    """What was measured where nobody has a score, and why."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from hvgym.bench import unscored
    from hvgym.bench.summary import not_played

    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=f"suite {summary['suite']}: no scores"
    )
    table.add_column("agent", no_wrap=True)
    for head, _ in unscored.COLUMNS.values():
        table.add_column(head, justify="right", no_wrap=True)
    for row in unscored.rows(summary):
        table.add_row(*row)
    Console(markup=False).print(table)
    for line in (*not_played(summary), *summary["nothing_scored"]):
        print(line)


def _print_clusters(console: Any, summary: dict[str, Any]) -> None:
    """What failures and moves did, in the same order."""
    from rich import box
    from rich.table import Table

    from hvgym.bench.summary import ranking
    from hvgym.scripts import tables

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title="failures and moves")
    table.add_column("agent", no_wrap=True)
    for label in tables.OF_CLUSTERS.values():
        table.add_column(label, justify="right")
    for agent in ranking(summary):
        table.add_row(agent, *(f"{summary['agents'][agent][name]:.1f}" for name in tables.OF_CLUSTERS))
    console.print(table)
    print(tables.KEY_OF_CLUSTERS)


def _short(score: float) -> str:
    """Three digits or so."""
    return f"{score:.2f}" if abs(score) < 10.0 else f"{score:.1f}"


def print_place(tracking: str, runs: Path, experiment: str, folder: Path | None = None) -> None:
    """Say where MLflow shows it. folder: of a study, where a server's note lies."""
    if tracking == "mlflow":
        print(f"MLflow UI: hvgym ui {shlex.quote(f'runs={runs}')}   (or: make ui)")
    elif tracking != "none":
        from hvgym.bench.remote_tracking import read_note

        note = read_note(folder) if folder else None
        shown = note.place.experiment if note else experiment
        print(f"MLflow UI: {note.page if note else tracking}   (experiment hvgym/{shown})")


def recorded_at(tracking: str) -> str:
    """What a verb says of it when it begins; nothing of the store beside the results."""
    return "" if tracking in ("none", "mlflow") else f", recorded at {tracking}"


def study_folder(runs: Path, name: str) -> Path:
    """The folder of a study given by name or by path."""
    for folder in (runs / "studies" / name, Path(name).expanduser()):
        if (folder / "protocol.json").exists():
            return folder.resolve()
    known = sorted(path.parent.name for path in (runs / "studies").glob("*/protocol.json"))
    raise InputError(
        f"study={name!r}: not found under {runs / 'studies'}; known: {', '.join(known) or 'none yet, run hvgym bench'}"
    )
