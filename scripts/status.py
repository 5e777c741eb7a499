"""``hvgym status [STUDY]``: how far a study is that another terminal is playing, or all studies, and whatever else is under way:
densities, tunings, trainings, advices, imports; it reads only."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.scripts import configuration
from hvgym.scripts.bench import study_folder
from hvgym.scripts.live import clock, counts, job_lines, printable

if TYPE_CHECKING:
    from rich.console import Console

    from hvgym.bench.progress import State
    from hvgym.bench.standing import Standing


@configuration.verb("status")
def main(config: DictConfig) -> None:
    """Print it."""
    from rich.console import Console

    study, runs = configuration.text(config, "study"), configuration.runs_folder(config)
    console = Console(markup=False)
    if study is None:
        _print_all(runs)
        return
    given = [Path(study).expanduser(), *(runs / place / study for place in ("studies", "tune", "training", "advice"))]
    places = list(dict.fromkeys(place.resolve() for folder in given for place in (folder, folder / "capacity")))
    studies = [place for place in places if (place / "protocol.json").exists()]
    others = [place for place in places if place not in studies and _files(place)]
    for place in studies if studies or others else [study_folder(runs, study)]:  # which says what there is
        _print_study(place, console)
    for place in others:
        _print_jobs(place, console)


def _files(folder: Path) -> list[Path]:
    """Where a training, or the jobs of a tuning or a density, write their progress."""
    return [path for path in (folder / "progress.jsonl", *sorted(folder.glob("progress/*.jsonl"))) if path.is_file()]


def _print_study(folder: Path, console: "Console") -> None:
    from hvgym.bench.standing import standing

    now, found = time.time(), standing(folder)
    print(f"study {folder.name}: {_doing(found)}")
    left = found.seconds_left(now) if found.running else None
    waiting = len(found.jobs) - len(found.finished) - len(found.running)
    print(f"{counts(len(found.finished), len(found.jobs), len(found.running), left)}, {waiting} waiting")
    if found.running:
        print(f"workers: {', '.join(f'{count} on {printable(node)}' for node, count in found.workers.items())}")
    for line in job_lines(found.running, found.levels.of, console.width, now):
        console.print(line, soft_wrap=True)
    for key, state in found.cut_off.items():
        print(f"cut off at {int(100 * state.share)}%: {printable(found.jobs[key].name)}")
    if found.error is not None:
        at, text = found.error
        print(f"last error, {clock(now - at)} ago: {printable(text)}")
    if (folder / "report.html").exists():
        print(f"report: {folder / 'report.html'}")


def _doing(found: "Standing") -> str:
    """Whether somebody works on a study, and what there is to do."""
    if found.held:
        return "a process is working on it"
    if len(found.finished) == len(found.jobs):
        return "finished"
    return "no process is working on it; the command that began it goes on"


def _print_jobs(folder: Path, console: "Console") -> None:
    """Of a training, a tuning or a density: nobody knows how many there will be."""
    from hvgym.bench.progress import State, read

    states = {path.stem: State.of(read(path)) for path in _files(folder)}
    last = max(states.values(), key=lambda state: state.at)
    running = {key: state for key, state in states.items() if state.alive}
    print(f"{_title(folder)}: {'running' if running else _doing_of(last)}")
    if (folder / "progress.jsonl") not in _files(folder):
        print(counts(sum(state.over and state.error is None for state in states.values()), None, len(running), None))
    for line in job_lines(running, lambda key: (None, None), console.width, time.time()):
        console.print(line, soft_wrap=True)


KINDS = {"tune": "tuning", "advice": "advice"}
"""What a folder is of, by the one that it lies in."""


def _title(folder: Path) -> str:
    """What a folder is of, by its place."""
    if folder.name == "capacity":
        return printable(f"density {folder.parent.name}")
    return printable(f"{KINDS.get(folder.parent.name, 'training')} {folder.name}")


def _doing_of(state: "State") -> str:
    if state.alive:
        return "running"
    if not state.over:
        return f"cut off at {int(100 * state.share)}%; the same command goes on"
    return "finished" if state.error is None else f"stopped: {printable(state.error)}"


def _print_all(runs: Path) -> None:
    """A line a study, a density, a tuning, a training, an advice and an import, those that were written last first."""
    rows = sorted([*_studies(runs), *_others(runs), *_imports(runs)], reverse=True)
    if not rows:
        print(f"nothing under {runs} yet; hvgym bench plays a study")
        return
    longest, widest = max(len(name) for _, name, _, _ in rows), max(len(much) for _, _, much, _ in rows)
    for at, name, much, doing in rows:
        print(f"{name:<{longest}}  {much:>{widest}}  {clock(time.time() - at):>11} ago  {doing}")


Row = tuple[float, str, str, str]
"""When something was written last, its name, how much of it is finished, what it does."""


def _studies(runs: Path) -> Iterator[Row]:
    from hvgym.bench.standing import standing

    for path in (runs / "studies").glob("*/protocol.json"):
        name, folder = printable(f"study {path.parent.name}"), path.parent
        try:
            found = standing(folder)
        except InputError as error:
            yield path.stat().st_mtime, name, "?", printable(str(error))
            continue
        at = max([path.stat().st_mtime, *(state.at for state in found.states.values())])
        doing = "running" if found.held else "finished" if len(found.finished) == len(found.jobs) else "stopped"
        failed = f", last error: {printable(found.error[1])}" if found.error else ""
        yield at, name, f"{len(found.finished)}/{len(found.jobs)} jobs", f"{doing}{failed}"


def _others(runs: Path) -> Iterator[Row]:
    from hvgym.bench.progress import State, read

    for places in ("studies/*/capacity", "tune/*", "training/*", "advice/*"):
        for folder in runs.glob(places):
            states = [State.of(read(file)) for file in _files(folder)]
            if not states:
                continue
            last = max(states, key=lambda state: state.at)
            over = sum(state.over and state.error is None for state in states)
            unit = "trials" if places == "tune/*" else "jobs"
            much = f"{int(100 * last.share)}%" if places == "training/*" else f"{over} {unit}"
            doing = "running" if any(state.alive for state in states) else _doing_of(last)
            yield last.at, _title(folder), much, doing


def _imports(runs: Path) -> Iterator[Row]:
    """Those that run, and those that were killed; one that has ended leaves its table and nothing here."""
    from hvgym.bench.progress import State, read

    for file in runs.glob("imports/*.jsonl"):
        state = State.of(read(file))
        if state.at:
            doing = "running" if state.alive else "was killed and has left nothing; give the command again"
            yield state.at, printable(f"import {state.name}"), f"{int(100 * state.share)}%", doing
