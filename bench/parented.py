"""A parent run with children, as a tuning or a capacity has it: found again by their tags, whole children left alone.

What is told, ``open``, ``child`` and ``close``, is plain data. So it can stand in the folder of what is recorded (``told``), and be
told again by ``hvgym sync``.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from hvgym.bench import usage
from hvgym.bench.bulk import Point
from hvgym.bench.job_times import now_ms
from hvgym.bench.provenance import origin
from hvgym.bench.recording import NOTE, PARENT, Experiment
from hvgym.bench.views import of_verb

PARENT_TAG, CHILD_TAG = "hvgym.parent", "hvgym.job"
"""Digest or number of what a run is of."""

Figure = tuple[str, float, int]
"""Name, value and step of a metric."""


class Tells(Protocol):
    """What takes what is told; all arguments are plain data, given by name."""

    def open(self, **content: Any) -> None:
        """See `Parented`."""

    def child(self, **content: Any) -> None:
        """See `Parented`."""

    def close(self, **content: Any) -> None:
        """See `Parented`."""


class Parented:
    """An experiment of such runs; folder: the one that the files of its parent lie in."""

    def __init__(self, runs: Path, name: str, folder: Path, server: str = "") -> None:
        """name: of the experiment, VERB/NAME."""
        self._experiment, self._verb, self._folder = Experiment(runs, name, server), name.partition("/")[0], folder
        self._parent, self._recorded, self._end_ms = "", set[str](), 0

    @property
    def experiment(self) -> tuple[str, str]:
        """Name and id, once it is open."""
        return self._experiment.name, self._experiment.id

    def open(
        self,
        key: str,
        title: str,
        note: str,
        params: Mapping[str, Any],
        start_ms: int,
        files: Mapping[str, str],
        searched: Sequence[str] = (),
    ) -> None:
        """Open the parent, or take it up again. A child that a kill cut short is deleted, to be made anew. files: its artifacts of
        text; searched: parameters of children that are shown."""
        self._experiment.open(of_verb(self._verb, searched))
        found = self._experiment.runs(PARENT_TAG, key)
        if found:
            self._parent = found[0].info.run_id
            self._experiment.running(self._parent)
        else:
            tags = {PARENT_TAG: key, NOTE: note} | origin(self._verb)
            self._parent = self._experiment.create(title, tags, start_ms)
            self._experiment.log(self._parent, params=params)
        self._experiment.describe(note)
        for run in self._experiment.runs(PARENT, self._parent):
            if run.info.status == "FINISHED":
                self._recorded.add(run.data.tags[CHILD_TAG])
                self._end_ms = max(self._end_ms, run.info.end_time)
            else:
                self._experiment.delete(run.info.run_id)
        for name, text in files.items():
            self._experiment.text(self._parent, text, name)

    def child(
        self,
        key: str,
        title: str,
        points: Sequence[Figure],
        params: Mapping[str, Any],
        span_ms: Sequence[int],
        took: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> None:
        """Record one, unless it is there. span_ms: beginning and end; took: see ``usage``."""
        if key in self._recorded:
            return
        start, end = span_ms
        run_id = self._experiment.create(title, {CHILD_TAG: key} | dict(tags), start, self._parent)
        all_points = [Point(*point, end) for point in points]
        self._experiment.log(run_id, [*all_points, *usage.points(took, end)], params)
        self._experiment.close(run_id, end)
        self._recorded.add(key)
        self._end_ms = max(self._end_ms, end)

    def close(self, points: Sequence[Figure], took: Mapping[str, float], artifacts: Sequence[str]) -> None:
        """Close the parent with its figures and files when its last child ended: so a second time changes nothing. artifacts: paths
        seen from the folder; those that are gone are left out."""
        end = self._end_ms or now_ms()
        self._experiment.log(self._parent, [*(Point(*point, end) for point in points), *usage.points(took, end)])
        for path in [path for name in artifacts if (path := self._folder / name).is_file()]:
            self._experiment.file(self._parent, path)
        self._experiment.close(self._parent, end)

    def stopped(self, status: str) -> None:
        """Close what is open, after a failure (FAILED) or an interrupt (KILLED)."""
        if self._parent:
            for run in self._experiment.runs(PARENT, self._parent):
                if run.info.status == "RUNNING":
                    self._experiment.delete(run.info.run_id)
            with suppress(Exception):  # it may have been deleted
                self._experiment.close(self._parent, now_ms(), status)
