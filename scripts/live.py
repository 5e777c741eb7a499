"""What a verb shows on a terminal while jobs run: a line a job, drawn from what the jobs write (``bench.progress``).

Where nobody watches, with no terminal or under CI (environment variable ``CI``), nothing of it is shown.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hvgym.bench.progress import State, follow

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.text import Text

    from hvgym.bench.jobs import Done
    from hvgym.bench.protocol import Protocol

COMPILING = "The model is compiled for this machine first, which takes a minute or two, once."

REFRESHES_PER_S = 2
"""How often the lines are drawn anew."""

WIDE, ENOUGH = 110, 80
"""Characters of a terminal on which the levels of stock and reference have room, with their names and without."""

BAR, MOST_NAME = 12, 40
"""Characters."""

Levels = Callable[[str], tuple[float | None, float | None]]
"""Goodput of stock and of the reference on a training's validation seeds, by its job's key, as far as they are known."""


def watched(console: "Console") -> bool:
    """Whether somebody sees lines that are drawn anew."""
    return console.is_terminal and not console.is_dumb_terminal and not os.environ.get("CI")


def cold() -> bool:
    """Whether this machine has yet to compile the model."""
    from hvgym.envs.model.compiled import cache_folder

    folder = cache_folder()
    return folder is None or not any(folder.rglob("tick.advance-*.nbi"))


@contextmanager
def board(
    folder: Path,
    levels: Levels = lambda key: (None, None),
    below: Callable[[Mapping[str, State], Mapping[str, State]], str] | None = None,
) -> Iterator[None]:
    """Show the jobs that write into a folder, as long as they run. below: a line for all, of the states of all jobs by key, and of
    those that run."""
    from rich.console import Console
    from rich.live import Live

    console = Console(markup=False)
    if not watched(console):
        yield
        return
    if cold():
        console.print(COMPILING)
    drawn = Board(folder, levels, below)
    with Live(
        get_renderable=lambda: drawn.draw(console.width, console.height),
        console=console,
        refresh_per_second=REFRESHES_PER_S,
        transient=True,
    ):
        yield


@contextmanager
def study(protocol: "Protocol", folder: Path) -> "Iterator[Callable[[Done], None]]":
    """Show the jobs of a study as they run. Gives what wants to be told of every job that is finished."""
    from hvgym.bench.progress import folder_of
    from hvgym.bench.standing import Levels, seconds_left

    jobs, finished = {job.key: job for job in protocol.jobs()}, set[str]()

    def seen(done: "Done") -> None:
        finished.add(done.job.key)

    def below(states: Mapping[str, State], running: Mapping[str, State]) -> str:
        left = seconds_left(jobs, states, tuple(finished), running, time.time())
        return counts(len(finished), len(jobs), len(running), left)

    with board(folder_of(folder), Levels(jobs, folder).of, below):
        yield seen


class Board:
    """The lines of the jobs of a folder, those that began after it was made."""

    def __init__(
        self,
        folder: Path,
        levels: Levels = lambda key: (None, None),
        below: Callable[[Mapping[str, State], Mapping[str, State]], str] | None = None,
    ) -> None:
        self._new, self._levels, self._below = follow(folder), levels, below
        self._states, self._begun = dict[str, State](), set[str]()
        self._take()
        self._begun.clear()

    def _take(self) -> None:
        for key, lines in self._new().items():
            self._begun.add(key)
            for line in lines:
                self._states[key] = self._states.get(key, State()).after(line)

    def draw(self, width: int, height: int) -> "Group":
        """What stands there now, in no more lines than the terminal has."""
        from rich.console import Group
        from rich.text import Text

        self._take()
        running = {key: self._states[key] for key in self._begun if not self._states[key].over}
        lines = job_lines(running, self._levels, width, time.time())[: max(height - 2, 1)]
        if self._below is not None:
            lines.append(Text(self._below(self._states, running), style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*lines)


def job_lines(states: Mapping[str, State], levels: Levels, width: int, now: float) -> "list[Text]":
    """A line a job, the longest names first cut: name, bar, share, steps a second, validation, time left."""
    from rich.text import Text

    rows = [_cells(state, levels(key), width, now) for key, state in states.items()]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(5)]
    widths[0] = min(widths[0], MOST_NAME, max(width - BAR - sum(widths[1:]) - 5, 8))
    lines = list[Text]()
    for state, (name, *others) in zip(states.values(), rows, strict=True):
        cut = name if len(name) <= widths[0] else f"{name[: widths[0] - 1]}…"
        line = Text(f"{cut:<{widths[0]}} ", no_wrap=True, overflow="ellipsis")
        full = round(BAR * state.share)
        line.append("━" * full, style="green").append("·" * (BAR - full), style="dim")
        share, rate, figures, left = others
        line.append(f" {share:>{widths[1]}} {rate:>{widths[2]}} ").append(f"{figures:<{widths[3]}}", style="cyan")
        line.append(f" {left:>{widths[4]}}")
        lines.append(line)
    return lines


def _cells(state: State, levels: tuple[float | None, float | None], width: int, now: float) -> list[str]:
    """Of one line, without the bar."""
    rate = "" if state.steps_per_s is None else f"{short(state.steps_per_s)}/s"
    left = state.seconds_left(now)
    figures = list[str]()
    if state.score is not None:
        figures.append(f"score {state.score:.2f}")
    if state.goodput is not None:
        figures.append(f"validation {state.goodput:.3f}")
        known = [(name, value) for name, value in zip(("stock", "reference"), levels, strict=True) if value is not None]
        if width >= WIDE:
            figures += [f"{name} {value:.3f}" for name, value in known]
        elif width >= ENOUGH and known:
            figures.append(f"({'–'.join(f'{value:.3f}' for _, value in known)})")
    return [
        printable(state.name),
        f"{int(100 * state.share)}%",
        rate,
        " ".join(figures),
        "" if left is None else clock(left),
    ]


def short(number: float) -> str:
    """Three digits or so."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.{1 if number < 100 * size else 0}f}{letter}"
    return f"{number:.0f}"


def clock(seconds: float) -> str:
    """Minutes and seconds, of an hour and more hours and minutes, then days."""
    whole = round(seconds)
    if whole >= 48 * 3600:
        return f"{whole // (24 * 3600)} days"
    return f"{whole // 60}:{whole % 60:02d}" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def printable(text: str) -> str:
    """Without what would move the cursor: names may come from elsewhere."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def counts(finished: int, total: int | None, running: int, left: float | None) -> str:
    """How far all jobs are together."""
    of_all = f"{finished} jobs finished" if total is None else f"{finished} of {total} jobs finished"
    about = "" if left is None or total == finished else f", about {clock(left)} left"
    return f"{of_all}, {running} running{about}"
