"""Shadowing and driving in MLflow: an experiment VERB/NAME, one run: figures of each VM over time, page and rows as artifacts."""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hvgym.bench.identity import digest_of_text
from hvgym.bench.job_times import now_ms
from hvgym.bench.parented import Figure, Tells
from hvgym.bench.told import noted

if TYPE_CHECKING:
    from hvgym.bench.driving import Session

CURVES = ("size_mib", "guest_available_mib", "asked_mib")

MOST_POINTS = 500
"""Of a curve."""


class DrivingTracker:
    """Tells of one session."""

    def __init__(self, tells: Tells) -> None:
        self._tells = tells

    def start(self, session: "Session", agent: str) -> None:
        """Open the run."""
        params = {
            "agent": agent, "host": session.host.settings.name, "vms": len(session.host.names), "acts": session.acts,
            "channels": ", ".join(session.host.channels()),
        }  # fmt: skip
        at_ms = now_ms()
        self._tells.open(
            key=digest_of_text(json.dumps([params, at_ms])), title="drive" if session.acts else "shadow",
            note="A policy beside a real host. Open the artifact **report.html**.", params=params, start_ms=at_ms, files={},
        )  # fmt: skip

    def finish(self, folder: Path, files: Sequence[Path]) -> None:
        """Figures over the time, and the files."""
        with (folder / "decisions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        times = sorted({float(row["time_s"]) for row in rows})
        kept = set(times[:: -(-len(times) // MOST_POINTS)]) if times else set()
        summary = json.loads((folder / "summary.json").read_text())
        points: list[Figure] = [(name, float(summary[name]), 0) for name in ("decisions", "sent", "held")]
        for row in rows:
            if float(row["time_s"]) in kept:
                points += [
                    (f"{row['vm']}/{name}", float(row[name]), round(float(row["time_s"])))
                    for name in CURVES
                    if row[name]
                ]
        self._tells.close(points=points, took={}, artifacts=[str(file.relative_to(folder)) for file in files])


@contextmanager
def make_driving_tracker(kind: str, runs: Path, folder: Path) -> Iterator[DrivingTracker | None]:
    """`kind` is none, which gives None, mlflow, or the address of a server. What fails or is interrupted is marked so."""
    with noted(kind, runs, folder) as tells:
        yield DrivingTracker(tells) if tells else None
