"""MLflow's client: the store, and an experiment whose runs are found again by their tags.

The store is SQLite under ``runs/``, created under a lock before anything runs (several processes opening a new store at once
corrupt it), artifacts beside it. Every call that records goes through `Experiment`, and there through one method, so what fails is
explained in one place. What is to be recorded, and when, is the trackers' affair (``tracking``, ``training_tracking``,
``trial_tracking``, ``capacity_tracking``), logged models that of ``models``; no other module imports mlflow.
"""

import logging
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from filelock import FileLock

from hvgym.bench import bulk, store
from hvgym.bench.bulk import CONTEXT, NAME, SOURCE_TYPE, NewRun, Point
from hvgym.bench.provenance import Demand
from hvgym.bench.views import View, tags_of
from hvgym.envs.errors import InputError

PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"

MOST_METRICS, MOST_PARAMS, LONGEST_PARAM, LONGEST_TAG = 800, 100, 6000, 8000
"""Of one call (which takes a thousand things in all), and letters."""


ADDRESS = "MLFLOW_TRACKING_URI"

IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
"""Of requests to a server, unless the user's environment has others. What fails is tried again later (``delivery``)."""


def store_uri(runs: Path) -> str:
    """Absolute URI of the SQLite store."""
    return store.database_uri(runs / "mlflow.db")


def open_store(runs: Path) -> Any:
    """Create the store if needed, under a lock, and return a client for it; one that was moved here is told so.

    Raises `InputError` when it is locked or damaged, or there is no room for it.
    """
    with store.explained(runs):
        return _open_store(runs)


def open_server(server: str) -> Any:
    """A client for a server. Nothing is asked yet, and no answer is waited for as long as MLflow does (minutes)."""
    for name, value in IMPATIENT.items():
        os.environ.setdefault(name, value)
    return _mlflow(server).MlflowClient(server)


def _open_store(runs: Path) -> Any:
    runs.mkdir(parents=True, exist_ok=True)
    mlflow, database = _mlflow(store_uri(runs)), runs / "mlflow.db"
    with FileLock(runs / ".mlflow.lock"):
        if not database.exists():
            _create_store(runs)
        store.probe(database)
        client = mlflow.MlflowClient(store_uri(runs))
        client.search_experiments(max_results=1)  # brings an old one up to date
        store.relocate(database, runs / "artifacts")
    return client


def _mlflow(uri: str) -> Any:
    """The module, with an address for its functions that save and load models, which know one for the whole process. It leaves
    that in the environment, too, where the next command of this process would take it for the user's word."""
    _quieten()
    import mlflow

    told = os.environ.get(ADDRESS)
    mlflow.set_tracking_uri(uri)
    os.environ.pop(ADDRESS, None)
    if told is not None:
        os.environ[ADDRESS] = told
    return mlflow


def _quieten() -> None:
    """What MLflow says of its work is for nobody here, and what fails is raised too."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow  # noqa: F401 - it sets the level of its loggers

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _create_store(runs: Path) -> None:
    """Make the store beside its place and move it there when it is whole: one that is cut short never opens again."""
    _quieten()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    fresh = runs / ".mlflow.db.new"
    fresh.unlink(missing_ok=True)
    fresh.with_name(f"{fresh.name}-journal").unlink(missing_ok=True)
    made = SqlAlchemyStore(store.database_uri(fresh), (runs / "artifacts").resolve().as_uri())
    made.engine.dispose()
    os.replace(fresh, runs / "mlflow.db")


class Experiment:
    """One experiment and its runs. Every method raises `InputError` in one line when MLflow cannot record."""

    def __init__(self, runs: Path, name: str, server: str = "") -> None:
        """server: its address; where there is none, the store under `runs`."""
        self.client = open_server(server) if server else open_store(runs)
        self._runs, self._name, self._server, self.name = runs, name, server, name
        self.id = self._place = ""

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Whatever the client does for a tracker."""
        with store.explained(self._runs, self._server):
            return function(*arguments, **keywords)

    def open(self, shown: Mapping[str, View]) -> None:
        """Find the experiment or make it; one that was deleted in the UI comes back. shown: its views in the UI."""
        self.id = str(self.call(self._found, tags_of(shown)))

    def _found(self, tags: Mapping[str, str]) -> str:
        experiment = self._made(self._name, tags)
        if self._name == "train" and self._why_not(experiment):  # the one name that the user cannot choose
            experiment = self._made(f"train ({'server' if self._server else 'local'})", tags)
        self._place, self.name = experiment.artifact_location, str(experiment.name).removeprefix("hvgym/")
        if experiment.lifecycle_stage == "deleted":  # nothing can be recorded in it
            self.client.restore_experiment(experiment.experiment_id)
        for key in [key for key in tags if experiment.tags.get(key) != tags[key]]:
            self.client.set_experiment_tag(experiment.experiment_id, key, tags[key])
        if reason := self._why_not(experiment):
            raise InputError(reason)
        return str(experiment.experiment_id)

    def _made(self, name: str, tags: Mapping[str, str]) -> Any:
        """The experiment of a name; it is made where there is none."""
        with FileLock(self._runs / ".mlflow.lock"):
            experiment = self.client.get_experiment_by_name(f"hvgym/{name}")
            if experiment is None:
                place = self._artifacts(name)
                made = self.client.create_experiment(f"hvgym/{name}", artifact_location=place, tags=dict(tags))
                experiment = self.client.get_experiment(made)
        return experiment

    def _why_not(self, experiment: Any) -> str:
        """Why artifacts of the experiment cannot be written from here; empty where they can."""
        name, place = experiment.name, experiment.artifact_location
        if not self._server and place.startswith("mlflow-artifacts:"):
            return f"{name} was recorded through a server, which has its artifacts; give tracking.uri=http://HOST:PORT again"
        if self._server and place.startswith("file:") and not store.path_of(place).is_dir():
            other = "" if self._name == "train" else "; choose study=NAME"
            return f"{name} was recorded on the server's machine, in files that are not here ({place}){other}"
        return ""

    def _artifacts(self, name: str) -> str | None:
        """Where artifacts go; a server knows its own place."""
        if self._server:
            return None
        place = (self._runs / "artifacts" / name).resolve()
        place.mkdir(parents=True, exist_ok=True)
        return place.as_uri()

    def describe(self, note: str) -> None:
        """Set the text above the experiment's runs."""
        self.call(self.client.set_experiment_tag, self.id, NOTE, note)

    def runs(self, tag: str, value: str) -> list[Any]:
        """All runs that carry a tag of this value, but those deleted in the UI; oldest first."""
        return self._pages(f"tags.`{tag}` = '{value}'")

    def _pages(self, query: str) -> list[Any]:
        found, token = list[Any](), None
        while token != "":
            page = self.call(
                self.client.search_runs, [self.id], query, max_results=5000, order_by=["start_time"], page_token=token
            )
            found, token = found + list(page), page.token or ""
        return found

    def create(self, name: str, tags: Mapping[str, str], start_ms: int, parent: str = "") -> str:
        """Open a run; its id. It is below another where `parent` names one."""
        tags = _tags(name, tags, parent)
        return str(self.call(self.client.create_run, self.id, start_time=start_ms, tags=tags).info.run_id)

    def add(self, runs: Sequence[NewRun]) -> list[str]:
        """Record runs at once where the store allows it; their ids."""
        if runs and self._at_once:
            return list(self.call(bulk.add_runs, self._runs / "mlflow.db", self.id, self._place, runs))
        return [self._add(run) for run in runs]

    def _add(self, run: NewRun) -> str:
        run_id = self.create(run.tags[NAME], run.tags, run.start_ms)
        self.log(run_id, run.points, run.params)
        if run.demands:
            self.demands(run_id, run.demands)
        for name, text in run.files.items():
            self.text(run_id, text, name)
        if run.end_ms is not None:
            self.close(run_id, run.end_ms)
        return run_id

    def log_many(self, points: Mapping[str, Sequence[Point]]) -> None:
        """Record points of several runs, each later than what its metric has."""
        if points and self._at_once:
            self.call(bulk.add_points, self._runs / "mlflow.db", points)
            return
        for run_id, of_it in points.items():
            self.log(run_id, of_it)

    @cached_property
    def _at_once(self) -> bool:
        """Whether the store is a file that can be written without the client."""
        here = not self._server and self._place.startswith("file:")
        return here and bool(self.call(bulk.fits, self._runs / "mlflow.db"))

    def log(
        self,
        run_id: str,
        points: Iterable[Point] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Record metrics, parameters and tags in as few calls as MLflow allows; a point that is there already changes nothing.
        What is no finite number is left out."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(p.name, float(p.value), p.at_ms, p.step) for p in points if math.isfinite(p.value)]
        given = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in (params or {}).items()]
        said = [RunTag(key, value[:LONGEST_TAG]) for key, value in (tags or {}).items()]
        while metrics or given or said:
            self.call(self.client.log_batch, run_id, metrics[:MOST_METRICS], given[:MOST_PARAMS], said)
            metrics, given, said = metrics[MOST_METRICS:], given[MOST_PARAMS:], []

    def demands(self, run_id: str, demands: Sequence[Demand]) -> None:
        """Record what a run was trained, validated and tested on, as its inputs."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(one.name, one.digest, SOURCE_TYPE, one.source, profile=one.profile),
                [InputTag(CONTEXT, one.context)],
            )
            for one in demands
        ]
        self.call(self.client.log_inputs, run_id, inputs)

    def file(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Copy a file to a run's artifacts."""
        self.call(self.client.log_artifact, run_id, str(path), folder)

    def text(self, run_id: str, text: str, name: str) -> None:
        """Write a file of a run's artifacts; one of this name is replaced."""
        self.call(self.client.log_text, run_id, text, name)

    def running(self, run_id: str) -> None:
        """Mark a run so again."""
        self.call(self.client.update_run, run_id, status="RUNNING")

    def close(self, run_id: str, end_ms: int, status: str = "FINISHED") -> None:
        """Mark a run as over."""
        self.call(self.client.set_terminated, run_id, status, end_ms)

    def delete(self, run_id: str) -> None:
        """Take a run out of sight, as the UI does."""
        self.call(self.client.delete_run, run_id)

    def holds(self, runs: Collection[str], files: Mapping[str, str]) -> bool:
        """Whether the experiment has these runs, and runs their file where it lies on this machine."""
        if self._at_once:
            found = self.call(bulk.active, self._runs / "mlflow.db", self.id)
        else:
            found = {run.info.run_id for run in self._pages("")}
        places = (f"{self._place}/{run_id}/artifacts" for run_id in files)
        return set(runs) <= found and all(map(lies_there, places, files.values()))

    def is_deleted(self, run_id: str) -> bool:
        """Whether a run has been taken out of sight."""
        return bool(self.call(self.client.get_run, run_id).info.lifecycle_stage == "deleted")

    def furnished(self, run: Any, *names: str) -> bool:
        """Whether a run has these artifacts, wherever they lie: asks the server for every run."""
        if not self._server:
            return lies_there(run.info.artifact_uri, *names)
        return set(names) <= {found.path for found in self.call(self.client.list_artifacts, run.info.run_id)}

    def model_lies_there(self, model: Any, name: str) -> bool:
        """The same of a logged model."""
        if not self._server:
            return lies_there(model.artifact_location, name)
        return name in {found.path for found in self.call(self.client.list_logged_model_artifacts, model.model_id)}


def new_run(
    name: str, tags: Mapping[str, str], params: Mapping[str, Any], start_ms: int, parent: str = "", **more: Any
) -> NewRun:
    """A run for `Experiment.add`, cut to what MLflow takes; more: see `NewRun`."""
    given = {key: str(value)[:LONGEST_PARAM] for key, value in params.items()}
    return NewRun(_tags(name, tags, parent), given, start_ms, **more)


def _tags(name: str, tags: Mapping[str, str], parent: str) -> dict[str, str]:
    below = {PARENT: parent} if parent else {}
    return {key: value[:LONGEST_TAG] for key, value in tags.items() if value} | {NAME: name} | below


def lies_there(uri: str, *names: str) -> bool:
    """Whether artifacts are below an address; taken for granted where they do not lie in this machine's files."""
    return not uri.startswith("file:") or all((store.path_of(uri) / name).is_file() for name in names)


class Stoppable(Protocol):
    """What can be marked."""

    def stopped(self, status: str) -> None:
        """Close the runs that are still open, after a failure (FAILED) or an interrupt (KILLED)."""


S = TypeVar("S", bound=Stoppable)


@contextmanager
def marked(tracker: S) -> Iterator[S]:
    """Mark what fails or is interrupted so."""
    try:
        yield tracker
    except BaseException as error:
        with suppress(Exception):  # what stopped it is what counts
            tracker.stopped("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
