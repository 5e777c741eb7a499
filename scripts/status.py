"""``hvgym status [STUDY]``: how far a study is that another terminal is playing, or all studies; it reads only."""

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
    console = Console()
    if study is None:
        _print_all(runs, console)
    elif (Path(study).expanduser() / "progress.jsonl").exists():
        _print_training(Path(study).expanduser(), console)
    else:
        _print_study(study_folder(runs, study), console)


def _print_study(folder: Path, console: "Console") -> None:
    from hvgym.bench.standing import standing

    now, found = time.time(), standing(folder)
    print(f"study {folder.name}: {_doing(found)}")
    left = found.seconds_left(now) if found.running else None
    waiting = len(found.jobs) - len(found.finished) - len(found.running)
    print(f"{counts(len(found.finished), len(found.jobs), len(found.running), left)}, {waiting} waiting")
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


def _print_training(folder: Path, console: "Console") -> None:
    from hvgym.bench.progress import State, read

    state = State.of(read(folder / "progress.jsonl"))
    print(f"training {folder.name}: {_doing_of(state)}")
    for line in job_lines({folder.name: state}, lambda key: (None, None), console.width, time.time()):
        console.print(line, soft_wrap=True)


def _doing_of(state: "State") -> str:
    if state.alive:
        return "running"
    if not state.over:
        return f"cut off at {int(100 * state.share)}%; the same command goes on"
    return "finished" if state.error is None else f"stopped: {printable(state.error)}"


def _print_all(runs: Path, console: "Console") -> None:
    """A line a study, a density, a tuning and a training, those that were written last first."""
    rows = sorted([*_studies(runs), *_others(runs)], reverse=True)
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

    for kind, unit, places in (
        ("density", "jobs", (runs / "studies").glob("*/capacity/progress")),
        ("tuning", "trials", (runs / "tune").glob("*/progress")),
        ("training", "%", (runs / "training").glob("*/progress.jsonl")),
    ):
        for place in places:
            files = [place] if place.is_file() else sorted(place.glob("*.jsonl"))
            states = [State.of(read(file)) for file in files]
            if not states:
                continue
            last = max(states, key=lambda state: state.at)
            over = sum(state.over and state.error is None for state in states)
            much = f"{int(100 * last.share)}%" if unit == "%" else f"{over} {unit}"
            folder = place.parent.parent if kind == "density" else place.parent
            doing = "running" if any(state.alive for state in states) else _doing_of(last)
            yield last.at, printable(f"{kind} {folder.name}"), much, doing
