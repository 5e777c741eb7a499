"""Where a study is recorded: in MLflow (``study_tracking``) or nowhere."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hvgym.bench.jobs import Done
from hvgym.bench.protocol import Protocol as StudyProtocol


class Tracker(Protocol):
    """Where a study is recorded."""

    def start(self, protocol: StudyProtocol, folder: Path, models: Collection[str] = ()) -> None:
        """Open the study's run. models: agents whose policies are logged; their code is imported for it."""

    def job(self, done: Done) -> None:
        """Record one finished job; a job that is recorded already is left alone."""

    def finish(self, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """Record the leaderboard and the report, and what is still missing."""


class NoTracker:
    """Records nothing, imports nothing."""

    def start(self, protocol: StudyProtocol, folder: Path, models: Collection[str] = ()) -> None:
        """See `Tracker`."""

    def job(self, done: Done) -> None:
        """See `Tracker`."""

    def finish(self, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """See `Tracker`."""


@dataclass(frozen=True)
class Place:
    """The experiment of a study, by name, and in a sweep this combination's values of the swept keys."""

    experiment: str
    swept: Mapping[str, str] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        """What tells this combination's runs from others of the same name."""
        return "".join(f", {key}={value}" for key, value in self.swept.items())


@contextmanager
def make_tracker(kind: str, runs: Path, place: Place) -> Iterator[Tracker]:
    """`kind` is none, mlflow, or the address of a server. A study that fails or is interrupted is marked so."""
    if kind == "none":
        yield NoTracker()
        return
    if kind != "mlflow":
        from hvgym.bench.remote_tracking import remote

        with remote(runs, place, kind) as at_server:
            yield at_server
        return
    from hvgym.bench.curves import followed
    from hvgym.bench.recording import marked
    from hvgym.bench.study_tracking import MlflowTracker

    with marked(MlflowTracker(runs, place)) as tracker, followed(tracker.look):
        yield tracker
