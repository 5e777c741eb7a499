"""What a tuning, a capacity or an advice has told of itself, as lines of JSON in its folder, so that it can be told again without
playing.

    {"call": "open" | "child" | "close", ...}      see ``parented``

Lines of another key than the last ``open`` are gone: the folder then held something else. A line that is there is not written
again, so a command that is repeated, and tells everything once more, adds nothing.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hvgym.bench import usage
from hvgym.bench.delivery import note_of, recorded
from hvgym.bench.density_column import FOLDER
from hvgym.bench.job_times import span_ms
from hvgym.bench.parented import Figure, Parented, Tells
from hvgym.bench.progress import file_of, read
from hvgym.bench.recording import marked
from hvgym.bench.study_note import Note
from hvgym.bench.tracking import Place
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically

FILE = "told.jsonl"

ADVICE = "advice"
"""The folder of advices below that of all runs."""

BESIDE_HOSTS = ("shadow", "drive")
"""Folders, and verbs, of sessions beside real hosts."""


class Noted:
    """Takes what is told, notes it, and passes it on."""

    def __init__(self, folder: Path, tracker: Parented) -> None:
        self._path, self._tracker, self._lines = folder / FILE, tracker, set[str]()

    def open(self, **content: Any) -> None:
        """See `Parented`."""
        same = _key(self._path) == content["key"]
        lines = [json.dumps(line) for line in _lines(self._path) if same and line["call"] == "child"]
        self._lines = set(lines)
        write_atomically(self._path, "".join(f"{line}\n" for line in (json.dumps({"call": "open"} | content), *lines)))
        self._tracker.open(**content)

    def child(self, **content: Any) -> None:
        """See `Parented`."""
        self._note("child", content)
        self._tracker.child(**content)

    def close(self, **content: Any) -> None:
        """See `Parented`."""
        self._note("close", content)
        self._tracker.close(**content)

    def _note(self, call: str, content: dict[str, Any]) -> None:
        line = json.dumps({"call": call} | content)
        if line not in self._lines:
            self._lines.add(line)
            with self._path.open("a") as file:
                file.write(f"{line}\n")


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines: a kill may have left half of one."""
    found = list[dict[str, Any]]()
    for text in path.read_text().splitlines() if path.exists() else ():
        with suppress(ValueError):
            found.append(json.loads(text))
    return found


def _key(path: Path) -> str:
    return next((str(line["key"]) for line in _lines(path) if line["call"] == "open"), "")


def is_told(folder: Path) -> bool:
    """Whether a folder has something to tell again."""
    return (folder / FILE).is_file()


def _lies_in(path: Path, *folders: Path) -> bool:
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)


def tell_again(folder: Path, runs: Path, server: str, place: Place) -> Note:
    """Record at a server, or where its address is empty under `runs`, what has been told of a folder. What was not closed is marked
    as stopped; of files only those are taken that lie there or under `runs`. Raises `InputError`, also for damaged lines."""
    path, calls = folder / FILE, _lines(folder / FILE)
    with marked(Parented(runs, experiment_of(folder), folder, server)) as tracker:
        try:
            for line in calls:
                _tell(tracker, line, (runs, folder))
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: damaged ({error}); the command that made it writes it again") from None
        if not any(line["call"] == "close" for line in calls):
            tracker.stopped("KILLED")
    return note_of(server, place, tracker)


def _tell(tracker: Parented, line: dict[str, Any], places: Sequence[Path]) -> None:
    """One line; of files only those that lie in these places."""
    call, content = line["call"], {key: value for key, value in line.items() if key != "call"}
    if call == "open":
        tracker.open(**content)
    elif call == "child":
        tracker.child(**content)
    elif call == "close":
        folder = places[-1]
        files = [name for name in content.pop("artifacts") if _lies_in(folder / name, *places)]
        tracker.close(artifacts=files, **content)
    else:
        raise ValueError(f"call {call!r}")


def experiment_of(folder: Path) -> str:
    """Of a tuning (``tune/NAME``), of an advice, of a session beside a real host, or of a capacity in the folder of its study."""
    if folder.parent.name == ADVICE:
        return f"advise/{folder.name}"
    if folder.parent.name in BESIDE_HOSTS:
        return f"{folder.parent.name}/{folder.name}"
    return f"capacity/{folder.parent.name}" if folder.name == FOLDER else f"tune/{folder.name}"


@contextmanager
def noted(kind: str, runs: Path, folder: Path) -> Iterator[Tells | None]:
    """Record what a tuning or a capacity tells, and note it in its folder. kind: none, which gives None, mlflow, or a server's
    address."""
    name = experiment_of(folder)
    with recorded(kind, folder, Place(name), lambda server: Parented(runs, name, folder, server)) as tracker:
        yield None if tracker is None else Noted(folder, tracker)


def tell_child(
    tells: Tells, folder: Path, name: str, key: str, points: Sequence[Figure], jobs: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Tell of an agent whose jobs (keys) lie in a folder; what each took, by key, for agents may share their jobs."""
    lines = {job: read(file_of(folder, job)) for job in jobs}
    spans = [span_ms(folder / "jobs" / f"{job}.json", of_it) for job, of_it in lines.items()]
    took = {job: usage.of(of_it) for job, of_it in lines.items()}
    tells.child(
        key=key,
        title=name,
        points=points,
        params={"agent": name},
        span_ms=(min(start for start, _ in spans), max(end for _, end in spans)),
        took=usage.together(took.values()),
        tags={},
    )
    return took


def seen_from(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Paths as they are noted, so that the folders may be moved together."""
    return [os.path.relpath(path, folder) for path in paths]
