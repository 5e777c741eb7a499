"""How far running jobs are, as lines of JSON that another process may read while they are written.

    STUDY/progress/KEY.jsonl      of a study's job, by its key
    TRAINING/progress.jsonl       of hvgym train

A line is an object. The first has ``at`` (seconds since the epoch), ``what: start``, ``name``, ``total`` and the process. Those
that follow have ``what`` (train, validate or play), ``steps`` done and ``total``, and where known ``reward`` (mean of a step),
``loss``, ``entropy``, ``multiplier`` and ``slo_s`` (of a constraint), ``steps_per_s``, ``goodput`` (on validation seeds) or
``score`` (of a tuning). The last has ``what: end``, what the job took (``usage``), and ``error`` where there was one. A job that is
taken up again appends: of one step the last line counts (`by_step`).

The clock is that on the wall, so nothing here may enter results, and no line decides anything: a job whose progress cannot be
written goes on without. Lines between which less than `SPACING_S` passed are left out, but for validations.
"""

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from hvgym.bench.usage import Meter

if TYPE_CHECKING:
    from hvgym.envs.backends import AnySimulator
    from hvgym.envs.telemetry import Telemetry

SPACING_S = 0.25
"""Four lines a second are more than anyone reads."""

INTERRUPTED = "interrupted"
"""What ended a job on Ctrl-C, in the place of an error."""

Line = dict[str, Any]


def folder_of(study: Path) -> Path:
    """Where a study's jobs write."""
    return study / "progress"


def file_of(study: Path, key: str) -> Path:
    """Where the job of a key writes."""
    return folder_of(study) / f"{key}.jsonl"


class Progress:
    """Writes the lines of one job; as a context it writes the last one, too."""

    def __init__(self, path: Path, name: str, total: int) -> None:
        self._file, self._meter = _opened(path), Meter()
        self._last_at, self._steps, self._steps_at, self._worked = -math.inf, 0, time.time(), False
        self._put({"what": "start", "name": name, "total": total, "pid": os.getpid(), "node": platform.node()})

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        said = INTERRUPTED if isinstance(error, KeyboardInterrupt) else " ".join(str(error).split())[:1000]
        took = self._meter.figures() if self._worked else {}  # a command that is repeated may find nothing to do
        self._put({"what": "end"} | took | ({} if error is None else {"error": said or type(error).__name__}))
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def note(self, what: str, steps: int, total: int, **figures: float) -> None:
        """Write a line, unless the last one has just been written. Figures that are not finite are left out."""
        self._worked = True
        if what != "validate" and time.time() - self._last_at < SPACING_S and steps < total:
            return
        known = {name: value for name, value in figures.items() if math.isfinite(value)}
        self._put({"what": what, "steps": steps, "total": total, **known})

    def trained(self, steps: int, total: int, reward: float, loss: float, entropy: float, **others: float) -> None:
        """After an update of a learner, with the steps a second since the last one."""
        now = time.time()
        rate = (steps - self._steps) / max(now - self._steps_at, 1e-9) if 0 < self._steps < steps else math.nan
        self._steps, self._steps_at = steps, now
        self.note("train", steps, total, reward=reward, loss=loss, entropy=entropy, **others, steps_per_s=rate)

    def validated(self, steps: int, total: int, **figure: float) -> None:
        """After a validation, with its goodput or score; the time that it took is not training's."""
        self.note("validate", steps, total, **figure)
        self._steps, self._steps_at = steps, time.time()

    def player(self, seeds: int, intervals: int) -> "Callable[[Telemetry, AnySimulator], None]":
        """A ``rollout.Watcher`` for so many episodes of so many control intervals."""
        done, total = 0, seeds * intervals

        def watch(telemetry: "Telemetry", sim: "AnySimulator") -> None:
            nonlocal done
            done += seeds
            self.note("play", done, total)

        return watch

    def _put(self, line: Line) -> None:
        if self._file is None:
            return
        self._last_at = time.time()
        try:
            self._file.write(json.dumps({"at": round(self._last_at, 3)} | line).encode() + b"\n")
            self._file.flush()
        except OSError:  # a full disk, say; what counts is written elsewhere, and says so
            self._file = None


def _opened(path: Path) -> BinaryIO | None:
    """The file at its end, after a whole line: a kill may have left half of one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+")
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
    except OSError:
        return None
    return file


def read(path: Path) -> list[Line]:
    """All whole lines of a file; none where there is none. What is no line of progress, half a line say, is left out."""
    try:
        return _lines(path.read_bytes())
    except FileNotFoundError:
        return []


def by_step(lines: Iterable[Line], what: str) -> dict[int, Line]:
    """The last line of each step, in the order of steps: the learning curve of a training that may have been taken up again."""
    found = {line["steps"]: line for line in lines if line["what"] == what and isinstance(line.get("steps"), int)}
    return dict(sorted(found.items()))


def follow(folder: Path) -> Callable[[], dict[str, list[Line]]]:
    """Read the files of a folder as they grow: each call gives the lines that are new since the last one, by the file's name
    without its ending (a job's key). Files may appear later, and so may the folder."""
    read_up_to = dict[str, int]()

    def new() -> dict[str, list[Line]]:
        found = dict[str, list[Line]]()
        for path in sorted(folder.glob("*.jsonl")):
            done = read_up_to.get(path.stem, 0)
            with suppress(OSError):
                if path.stat().st_size <= done:
                    continue
                with path.open("rb") as file:
                    file.seek(done)
                    data = file.read()
                whole = data[: data.rfind(b"\n") + 1]
                read_up_to[path.stem] = done + len(whole)
                if lines := _lines(whole):
                    found[path.stem] = lines
        return found

    return new


def _lines(data: bytes) -> list[Line]:
    found = list[Line]()
    for text in data.split(b"\n"):
        with suppress(ValueError, RecursionError):
            line = json.loads(text)
            if isinstance(line, dict) and _is_number(line.get("at")) and isinstance(line.get("what"), str):
                found.append(line)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass
class State:
    """How a job stands by its lines so far: what it does, steps of how many, steps a second, goodput or score of the last
    validation, when it began and when it was heard of last, whether it is over, and what ended it."""

    name: str = ""
    what: str = "start"
    steps: int = 0
    total: int = 0
    steps_per_s: float | None = None
    goodput: float | None = None
    score: float | None = None
    began: float = 0.0
    at: float = 0.0
    over: bool = False
    error: str | None = None
    process: tuple[Any, Any] = (None, None)
    _first: tuple[float, int] | None = None

    @staticmethod
    def of(lines: Sequence[Line]) -> "State":
        """After all of these."""
        state = State()
        for line in lines:
            state = state.after(line)
        return state

    def after(self, line: Line) -> "State":
        """After one line more."""
        at, what = float(line["at"]), line["what"]
        if what == "start":
            name, process = str(line.get("name", "")), (line.get("pid"), line.get("node"))
            return State(
                name,
                total=_whole(line, "total", 0),
                goodput=self.goodput,
                score=self.score,
                began=at,
                at=at,
                process=process,
            )
        if what == "end":
            return replace(self, at=at, over=True, error=str(line["error"]) if "error" in line else None)
        stage_goes_on = (what == "play") == (self.what == "play")
        steps, total = _whole(line, "steps", self.steps), _whole(line, "total", self.total)
        first = self._first if stage_goes_on and self._first and self._first[1] <= steps else (at, steps)
        mean = (steps - first[1]) / (at - first[0]) if at > first[0] and steps > first[1] else None
        before = self.steps_per_s if stage_goes_on else None
        of_stage = (
            before if what == "validate" and before is not None else mean
        )  # a validation's time is not training's
        rate = _figure(line, "steps_per_s", of_stage if of_stage is not None else before)
        goodput, score = _figure(line, "goodput", self.goodput), _figure(line, "score", self.score)
        return replace(
            self,
            what=what,
            steps=steps,
            total=total,
            steps_per_s=rate,
            goodput=goodput,
            score=score,
            at=at,
            _first=first,
        )

    @property
    def share(self) -> float:
        """Of what it does now, in [0, 1]."""
        return min(max(self.steps / self.total, 0.0), 1.0) if self.total > 0 else 0.0

    @property
    def alive(self) -> bool:
        """Whether it is not over, and its process is there (of another machine's it is taken for granted)."""
        pid, node = self.process
        if self.over or not isinstance(pid, int) or pid <= 0:
            return False
        if node != platform.node():
            return True
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        except (OSError, OverflowError):
            return False
        return True

    def seconds_left(self, now: float) -> float | None:
        """Until what it does now is done, at the pace since it began that; None where no pace is known."""
        if self._first is None or self.at <= self._first[0] or self.steps <= self._first[1]:
            return None
        pace = (self.steps - self._first[1]) / (self.at - self._first[0])
        return max((self.total - self.steps) / pace - (now - self.at), 0.0)


def _whole(line: Line, key: str, otherwise: int) -> int:
    value = line.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def _figure(line: Line, key: str, otherwise: float | None) -> float | None:
    return float(line[key]) if _is_number(line.get(key)) else otherwise
