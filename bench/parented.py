"""A parent run with children, as a tuning or a capacity has it: found again by their tags, whole children left alone."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hvgym.bench.bulk import Point
from hvgym.bench.job_times import now_ms
from hvgym.bench.provenance import origin
from hvgym.bench.recording import NOTE, PARENT, Experiment
from hvgym.bench.views import VIEWS

PARENT_TAG, CHILD_TAG = "hvgym.parent", "hvgym.job"
"""Digest or number of what a run is of."""


class Parented:
    """An experiment of such runs."""

    def __init__(self, runs: Path, name: str, verb: str, server: str = "") -> None:
        self.experiment, self._verb = Experiment(runs, name, server), verb
        self._parent, self._recorded, self._end_ms = "", set[str](), 0

    def open(self, key: str, title: str, note: str, params: Mapping[str, Any], start_ms: int) -> str:
        """Open the parent, or take it up again; its id. A child that a kill cut short is deleted, to be made anew."""
        self.experiment.open(VIEWS[self._verb])
        found = self.experiment.runs(PARENT_TAG, key)
        if found:
            self._parent = found[0].info.run_id
            self.experiment.running(self._parent)
        else:
            tags = {PARENT_TAG: key, NOTE: note} | origin(self._verb)
            self._parent = self.experiment.create(title, tags, start_ms)
            self.experiment.log(self._parent, params=params)
        self.experiment.describe(note)
        for run in self.experiment.runs(PARENT, self._parent):
            if run.info.status == "FINISHED":
                self._recorded.add(run.data.tags[CHILD_TAG])
                self._end_ms = max(self._end_ms, run.info.end_time)
            else:
                self.experiment.delete(run.info.run_id)
        return self._parent

    def child(
        self,
        key: str,
        title: str,
        points: Sequence[tuple[str, float, int]],
        params: Mapping[str, Any],
        span_ms: tuple[int, int],
        **tags: str,
    ) -> None:
        """Record one, unless it is there. points: name, value, step."""
        if key in self._recorded:
            return
        run_id = self.experiment.create(title, {CHILD_TAG: key} | tags, span_ms[0], self._parent)
        self.experiment.log(run_id, [Point(*point, span_ms[1]) for point in points], params)
        self.experiment.close(run_id, span_ms[1])
        self._recorded.add(key)
        self._end_ms = max(self._end_ms, span_ms[1])

    def close(self, points: Sequence[tuple[str, float, int]], artifacts: Sequence[Path]) -> None:
        """Close the parent with its figures and files when its last child ended: so a second time changes nothing."""
        end = self._end_ms or now_ms()
        self.experiment.log(self._parent, [Point(*point, end) for point in points])
        for path in artifacts:
            self.experiment.file(self._parent, path)
        self.experiment.close(self._parent, end)

    def stopped(self, status: str) -> None:
        """Close what is open, after a failure (FAILED) or an interrupt (KILLED)."""
        if self._parent:
            for run in self.experiment.runs(PARENT, self._parent):
                if run.info.status == "RUNNING":
                    self.experiment.delete(run.info.run_id)
            with suppress(Exception):  # it may have been deleted
                self.experiment.close(self._parent, now_ms(), status)
