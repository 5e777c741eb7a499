"""Learning curves for MLflow, from the progress of trainings (``progress``) while they run and after.

A training's points are reward, loss, entropy, a constraint's multiplier and missed seconds, steps a second and validation
goodput at their steps and times, and beside each validation the levels of stock and of the reference (``levels``), as lines
beside the curve. A thread looks for what is new every few seconds. A step that a training went through twice, as one that was
killed does, has its last values when the run is made anew, and its first ones where they have been recorded.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hvgym.bench.bulk import Point
from hvgym.bench.progress import Line, by_step

EVERY_S = 3.0
"""How often new points are looked for; an update of a learner takes about a second."""

FIGURES = {
    "train": ("reward", "loss", "entropy", "multiplier", "slo_s", "steps_per_s"),
    "validate": ("goodput",),
}
"""What a line of each kind has."""


class Curve:
    """The points of one training that have not been given yet."""

    def __init__(self, levels: Callable[[], Mapping[str, float]]) -> None:
        self._levels, self._given = levels, set[tuple[str, int]]()

    def points(self, lines: Iterable[Line]) -> list[Point]:
        """Of the steps in these lines that are new."""
        lines, found = list(lines), list[Point]()
        for what, names in FIGURES.items():
            for step, line in by_step(lines, what).items():
                if (what, step) not in self._given:
                    self._given.add((what, step))
                    found += _of_line(what, step, line, names)
        validated = [point for point in found if point.name == "validation_goodput"]
        levels = self._levels() if validated else {}
        beside = [
            Point(f"validation_goodput_{name}", value, point.step, point.at_ms)
            for point in validated
            for name, value in levels.items()
        ]
        return found + beside

    def rest(self, curve: Iterable[Mapping[str, float]], at_ms: int) -> list[Point]:
        """Validations of a finished training that no line had, at the time when it ended."""
        lines = [
            {"at": at_ms / 1000, "what": "validate", "steps": int(point["steps"]), "goodput": point["score"]}
            for point in curve
        ]
        return self.points(lines)


def _of_line(what: str, step: int, line: Line, names: Iterable[str]) -> list[Point]:
    prefix, at_ms = "validation_" if what == "validate" else "", round(line["at"] * 1000)
    return [Point(f"{prefix}{name}", float(line[name]), step, at_ms) for name in names if _is_number(line.get(name))]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@contextmanager
def followed(look: Callable[[], None], every_s: float = EVERY_S) -> Iterator[None]:
    """Call `look` every few seconds in a thread of its own. What fails there ends the thread only: at the end of a study everything
    that is missing is recorded again, and what fails then is said."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every_s):
            try:
                look()
            except Exception:
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
