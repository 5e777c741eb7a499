"""Many runs, and points of many runs, written into MLflow's SQLite file at once.

MLflow's client takes some thirty milliseconds for a run, as long as a short simulation; here a thousand are one transaction.
They appear whole or not at all. Only the tables of runs are written, in columns that are looked for first (`fits`); a store of
another form, and any server, gets its runs one by one from the client. Nothing here imports mlflow.
"""

import math
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hvgym.bench.store import PATIENCE_S, path_of

if TYPE_CHECKING:
    from hvgym.bench.provenance import Demand

NAME, USER, CONTEXT = "mlflow.runName", "mlflow.user", "mlflow.data.context"

SOURCE_TYPE = "hvgym"
"""Of the datasets that are a run's inputs."""

COLUMNS = {
    "runs": ("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time", "end_time",
             "source_version", "lifecycle_stage", "artifact_uri", "experiment_id"),
    "tags": ("key", "value", "run_uuid"),
    "params": ("key", "value", "run_uuid"),
    "metrics": ("key", "value", "timestamp", "run_uuid", "step", "is_nan"),
    "latest_metrics": ("key", "value", "timestamp", "step", "is_nan", "run_uuid"),
    "datasets": ("dataset_uuid", "experiment_id", "name", "digest", "dataset_source_type", "dataset_source", "dataset_profile"),
    "inputs": ("input_uuid", "source_type", "source_id", "destination_type", "destination_id"),
    "input_tags": ("input_uuid", "name", "value"),
}  # fmt: skip
"""What is written, by table."""


class Point(NamedTuple):
    """A value of a metric at a step and a time (milliseconds since the epoch); what is not finite is left out."""

    name: str
    value: float
    step: int
    at_ms: int


@dataclass(frozen=True)
class NewRun:
    """A run: finished, or where it has no end running. tags: with its name and its parent, as MLflow calls them; points: at most
    one of a metric; files: artifacts of text by name; demands: its inputs."""

    tags: Mapping[str, str]
    params: Mapping[str, str]
    start_ms: int
    end_ms: int | None = None
    points: Sequence[Point] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    demands: "Sequence[Demand]" = ()


def fits(database: Path) -> bool:
    """Whether the tables have these columns and need no others."""
    with closing(sqlite3.connect(database, timeout=PATIENCE_S)) as connection:
        for table, ours in COLUMNS.items():
            found = {row[1]: row for row in connection.execute(f"PRAGMA table_info({table})")}
            needed = {name for name, (_, _, _, not_null, default, _) in found.items() if not_null and default is None}
            if not needed <= set(ours) <= found.keys():
                return False
    return True


def add_runs(database: Path, experiment: str, artifacts: str, runs: Sequence[NewRun]) -> list[str]:
    """Write runs of an experiment, whose artifacts lie below the address of a folder; their ids."""
    ids = [uuid.uuid4().hex for _ in runs]
    places = [f"{artifacts}/{run_id}/artifacts" for run_id in ids]
    for run, place in zip(runs, places, strict=True):
        for name, text in run.files.items():  # before the run: nobody sees half of it
            path_of(place).mkdir(parents=True, exist_ok=True)
            (path_of(place) / name).write_text(text)
    pairs = list(zip(ids, runs, strict=True))
    with _written(database) as connection:
        rows = [
            (run_id, run.tags[NAME], "UNKNOWN", "", "", run.tags.get(USER, ""), "RUNNING" if run.end_ms is None else "FINISHED",
             run.start_ms, run.end_ms, "", "active", place, int(experiment))
            for (run_id, run), place in zip(pairs, places, strict=True)
        ]  # fmt: skip
        _insert(connection, "runs", rows)
        _insert(connection, "tags", [(key, value, run_id) for run_id, run in pairs for key, value in run.tags.items()])
        _insert(
            connection, "params", [(key, value, run_id) for run_id, run in pairs for key, value in run.params.items()]
        )
        _points(connection, {run_id: run.points for run_id, run in pairs})
        _inputs(connection, experiment, {run_id: run.demands for run_id, run in pairs})
    return ids


def active(database: Path, experiment: str) -> set[str]:
    """Ids of an experiment's runs that are not deleted."""
    with closing(sqlite3.connect(database, timeout=PATIENCE_S)) as connection:
        query = "SELECT run_uuid FROM runs WHERE experiment_id = ? AND lifecycle_stage = 'active'"
        return {row[0] for row in connection.execute(query, (int(experiment),))}


def add_points(database: Path, points: Mapping[str, Sequence[Point]]) -> None:
    """Write points by run; each metric's is later than those that are there."""
    with _written(database) as connection:
        _points(connection, points)


def _points(connection: sqlite3.Connection, points: Mapping[str, Sequence[Point]]) -> None:
    pairs = [(run_id, point) for run_id, of_it in points.items() for point in of_it]
    pairs = [(run_id, point) for run_id, point in pairs if math.isfinite(point.value)]
    history = [(point.name, point.value, point.at_ms, run_id, point.step, False) for run_id, point in pairs]
    _insert(connection, "metrics", history, "OR IGNORE")
    latest = [(point.name, point.value, point.at_ms, point.step, False, run_id) for run_id, point in pairs]
    _insert(connection, "latest_metrics", latest, "OR REPLACE")


def _inputs(connection: sqlite3.Connection, experiment: str, demands: "Mapping[str, Sequence[Demand]]") -> None:
    """A dataset is there once an experiment, whatever runs it is an input of."""
    known = {(one.name, one.digest): one for of_it in demands.values() for one in of_it}
    rows = [
        (uuid.uuid4().hex, int(experiment), one.name, one.digest, SOURCE_TYPE, one.source, one.profile)
        for one in known.values()
    ]
    _insert(connection, "datasets", rows, "OR IGNORE")
    query = "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?"
    ids = {key: connection.execute(query, (int(experiment), *key)).fetchone()[0] for key in known}
    edges = [(uuid.uuid4().hex, run_id, one) for run_id, of_it in demands.items() for one in of_it]
    between = [(edge, "DATASET", ids[one.name, one.digest], "RUN", run_id) for edge, run_id, one in edges]
    _insert(connection, "inputs", between)
    _insert(connection, "input_tags", [(edge, CONTEXT, one.context) for edge, _, one in edges])


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]], how: str = "") -> None:
    columns = COLUMNS[table]
    marks = ", ".join("?" * len(columns))
    connection.executemany(f"INSERT {how} INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)


@contextmanager
def _written(database: Path) -> Iterator[sqlite3.Connection]:
    """A transaction, which is taken back when it fails."""
    with closing(sqlite3.connect(database, timeout=PATIENCE_S, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
