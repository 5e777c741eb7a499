"""A study that is recorded at a server (``delivery``); a note in its folder says so (``study_note``)."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hvgym.bench.delivery import Courier, delivered
from hvgym.bench.identity import targets
from hvgym.bench.jobs import Done
from hvgym.bench.protocol import Protocol
from hvgym.bench.recording import marked
from hvgym.bench.report import write_report
from hvgym.bench.study import read_study
from hvgym.bench.study_note import Note as Note
from hvgym.bench.study_note import read_note as read_note
from hvgym.bench.study_note import write_note
from hvgym.bench.study_tracking import MlflowTracker
from hvgym.bench.tracking import Place


class RemoteTracker:
    """A `Tracker` that hands everything to a courier."""

    def __init__(self, runs: Path, place: Place, server: str) -> None:
        self._place, self._server = place, server
        self.courier = Courier(server, lambda: MlflowTracker(runs, place, server), MlflowTracker.look)
        self._folder: Path | None = None
        self._finished = False

    def start(self, protocol: Protocol, folder: Path, models: Collection[str] = ()) -> None:
        """See `Tracker`."""
        self._folder = folder
        write_note(folder, Note(self._server, self._place, whole=False))
        self.courier.tell(lambda tracker: tracker.start(protocol, folder, models))

    def job(self, done: Done) -> None:
        """See `Tracker`."""
        self.courier.tell(lambda tracker: tracker.job(done))

    def finish(self, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """See `Tracker`."""
        self.courier.tell(lambda tracker: tracker.finish(summary, artifacts))
        self._finished = True

    def note(self) -> None:
        """Once the courier is back, note that nothing is missing where that is so."""
        tracker = self.courier.tracker
        if self._finished and tracker is not None and self._folder is not None:
            write_note(self._folder, Note(self._server, self._place, True, tracker.experiment))


@contextmanager
def remote(runs: Path, place: Place, server: str) -> Iterator[RemoteTracker]:
    """Record a study at a server while the body runs."""
    tracker = RemoteTracker(runs, place, server)
    with delivered(tracker.courier, f"hvgym sync {shlex.quote(f'runs={runs}')}"):
        yield tracker
    tracker.note()


def deliver(folder: Path, runs: Path, server: str, place: Place) -> Note:
    """Record at a server, or where its address is empty under `runs`, whatever a study's folder has and it lacks.

    Hold the study's lock meanwhile. A study that is not finished is marked as stopped. Raises `InputError`.
    """
    protocol, done = read_study(folder)
    with marked(MlflowTracker(runs, place, server)) as tracker:
        tracker.start(protocol, folder, loggable(protocol, done, folder))
        for result in done:
            tracker.job(result)
        if len(done) == len(protocol.jobs()):
            tracker.finish(*write_report(folder))
        else:
            tracker.stopped("KILLED")
        return Note(server, place, True, tracker.experiment)


def loggable(protocol: Protocol, done: Sequence[Done], folder: Path) -> list[str]:
    """Agents that are logged as models though no command chose them: the package's own, with networks that lie in the study."""
    foreign = {result.job.agent["name"] for result in done if not _inside(result.model, folder)}
    return [
        agent["name"]
        for agent in protocol.agents
        if all(target.startswith("hvgym.") for target in targets(agent))
        and not agent.get("checkpoint")
        and agent["name"] not in foreign
    ]


def _inside(model: str | None, folder: Path) -> bool:
    return model is None or (folder / model).resolve().is_relative_to(folder.resolve())
