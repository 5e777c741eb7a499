"""MLflow: experiment = study, parent run = protocol, child run = job, evaluation episodes = table rows, policies =
pyfunc models. A tuning is an experiment of its own (``trial_tracking``).

The store is SQLite under ``runs/``, created under a lock before anything runs (several processes opening a new store
at once corrupt it), artifacts beside it. Only the process that leads a study writes. A run is found again by its
tags, so a study that goes on after a kill neither repeats a child nor leaves one half-written, and one whose artifacts
were deleted is made anew. A policy is logged as a model only where the command itself chose the agent: what a study from
elsewhere names is not imported. This is the only module that imports mlflow.
"""

import json
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from filelock import FileLock

from hvgym.agents.policy import declared_by
from hvgym.bench import store
from hvgym.bench.beaten import alarms
from hvgym.bench.identity import outside_roots
from hvgym.bench.jobs import Done
from hvgym.bench.logged import example_rows, model_class
from hvgym.bench.logged import from_row as from_row  # models that were logged by hvgym 0.1 name it here
from hvgym.bench.protocol import Protocol as StudyProtocol
from hvgym.bench.rollout import METRICS
from hvgym.envs.errors import InputError

E = TypeVar("E", bound="Experiment")

JOB_TAG, STUDY_TAG = "hvgym.job", "hvgym.study"

MODEL_TAG = "hvgym.model"
"""Of a job: logged, none (it sees the hidden state), or left out (the command did not choose the agent)."""


ALARM_TAG = "hvgym.beaten"
"""Of a study: the first agent that beats its reference."""


class Tracker(Protocol):
    """Where a study is recorded."""

    def start(self, protocol: StudyProtocol, models: Collection[str] = ()) -> None:
        """Open the study's parent run. models: agents whose policies are logged; their code is imported for it."""

    def job(self, done: Done, folder: Path) -> None:
        """Record one finished job; a job that is recorded already is left alone."""

    def finish(self, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """Record the leaderboard and the report."""


class NoTracker:
    """Records nothing, imports nothing."""

    def start(self, protocol: StudyProtocol, models: Collection[str] = ()) -> None:
        """See `Tracker`."""

    def job(self, done: Done, folder: Path) -> None:
        """See `Tracker`."""

    def finish(self, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """See `Tracker`."""


@contextmanager
def make_tracker(kind: str, runs: Path, study: str) -> Iterator[Tracker]:
    """`kind` is mlflow or none. A study that fails or is interrupted is marked so."""
    if kind == "none":
        yield NoTracker()
        return
    if kind != "mlflow":
        raise InputError(f"tracking={kind!r}: choose one of mlflow, none")
    with marked(MlflowTracker(runs, study)) as tracker:
        yield tracker


@contextmanager
def marked(experiment: E) -> Iterator[E]:
    """Mark what fails or is interrupted so."""
    try:
        yield experiment
    except BaseException as error:
        with suppress(Exception):  # what stopped it is what counts
            experiment.stopped("FAILED" if isinstance(error, Exception) else "KILLED")
        raise


def store_uri(runs: Path) -> str:
    """Absolute URI of the SQLite store."""
    return store.database_uri(runs / "mlflow.db")


def open_store(runs: Path) -> Any:
    """Create the store if needed, under a lock, and return a client for it; one that was moved here is told so.

    Raises `InputError` when it is locked or damaged, or there is no room for it.
    """
    with store.explained(runs):
        return _open_store(runs)


def _open_store(runs: Path) -> Any:
    runs.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails is raised too
    database = runs / "mlflow.db"
    mlflow.set_tracking_uri(store_uri(runs))
    with FileLock(runs / ".mlflow.lock"):
        if not database.exists():
            _create_store(runs)
        store.probe(database)
        client = mlflow.MlflowClient(store_uri(runs))
        client.search_experiments(max_results=1)  # brings an old one up to date
        store.relocate(database, runs / "artifacts")
    return client


def _create_store(runs: Path) -> None:
    """Make the store beside its place and move it there when it is whole: one that is cut short never opens again."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    fresh = runs / ".mlflow.db.new"
    fresh.unlink(missing_ok=True)
    fresh.with_name(f"{fresh.name}-journal").unlink(missing_ok=True)
    made = SqlAlchemyStore(store.database_uri(fresh), (runs / "artifacts").resolve().as_uri())
    made.engine.dispose()
    os.replace(fresh, runs / "mlflow.db")


class Experiment:
    """One experiment: a parent run, and children that are found again by their tags."""

    def __init__(self, runs: Path, name: str) -> None:
        self._client = open_store(runs)
        self._runs, self._name = runs, name
        self._experiment = self._parent = ""
        self._recorded: set[str] = set()

    def _open_parent(self, key: str, title: str, note: str, params: Mapping[str, Any]) -> None:
        self._experiment = self._experiment_id()
        found = self._search(f"tags.`{STUDY_TAG}` = '{key}'")
        if found:
            self._parent = found[0].info.run_id
            self._client.update_run(self._parent, status="RUNNING")
        else:
            tags = {STUDY_TAG: key, "mlflow.runName": title, "mlflow.note.content": note}
            self._parent = self._client.create_run(self._experiment, tags=tags).info.run_id
            self._log_params(self._parent, params)
        self._recorded = self._finished_jobs()

    def _experiment_id(self) -> str:
        name = f"hvgym/{self._name}"
        with FileLock(self._runs / ".mlflow.lock"):
            experiment = self._client.get_experiment_by_name(name)
            if experiment is not None:
                if experiment.lifecycle_stage == "deleted":  # in the UI; nothing can be recorded in it
                    self._client.restore_experiment(experiment.experiment_id)
                return str(experiment.experiment_id)
            place = (self._runs / "artifacts" / self._name).resolve()
            place.mkdir(parents=True, exist_ok=True)
            tags = {
                "mlflow.experimentKind": "custom_model_development"
            }  # opens the UI on metrics, not on traces of chats
            return str(self._client.create_experiment(name, artifact_location=place.as_uri(), tags=tags))

    def _search(self, query: str) -> list[Any]:
        return list(self._client.search_runs([self._experiment], query, max_results=50_000))

    def _finished_jobs(self) -> set[str]:
        """Keys recorded whole; a child that a kill cut short, or whose artifacts are gone, is deleted and made anew."""
        finished = set()
        for run in self._search(f"tags.`mlflow.parentRunId` = '{self._parent}'"):
            if run.info.status == "FINISHED" and self._is_whole(run):
                finished.add(run.data.tags[JOB_TAG])
            else:
                self._client.delete_run(run.info.run_id)
        return finished

    def _is_whole(self, run: Any) -> bool:
        """Whether a finished child still has what belongs to it."""
        return True

    def stopped(self, status: str) -> None:
        """Close the runs that are still open, after a failure (FAILED) or an interrupt (KILLED)."""
        if self._parent:
            self._finished_jobs()
            self._client.set_terminated(self._parent, status)

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(run_id, params=[Param(key, str(value)[:500]) for key, value in params.items()])

    def _log_metrics(self, run_id: str, points: Sequence[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, float(value), 0, step) for name, value, step in points]
        for first in range(0, len(metrics), 1000):
            self._client.log_batch(run_id, metrics=metrics[first : first + 1000])

    def _open_child(self, key: str, title: str, **tags: str) -> str:
        tags = {JOB_TAG: key, "mlflow.parentRunId": self._parent, "mlflow.runName": title} | tags
        return str(self._client.create_run(self._experiment, tags=tags).info.run_id)

    def _close_child(self, run_id: str, key: str) -> None:
        self._client.set_terminated(run_id)
        self._recorded.add(key)

    def _close_parent(self, points: Sequence[tuple[str, float, int]], artifacts: Sequence[Path]) -> None:
        self._log_metrics(self._parent, points)
        for path in artifacts:
            self._client.log_artifact(self._parent, str(path))
        self._client.set_terminated(self._parent)


class MlflowTracker(Experiment):
    """Records a study in MLflow."""

    def start(self, protocol: StudyProtocol, models: Collection[str] = ()) -> None:
        """See `Tracker`."""
        params = {"suite": protocol.suite.name, "eval_seeds": protocol.suite.eval_seeds, "rules": protocol.rules}
        self._models = frozenset(models)
        with store.explained(self._runs):
            self._open_parent(protocol.hash, self._name, _note(protocol), params)
            content = {"agents": protocol.agents, "codes": protocol.codes} | protocol.identity
            self._client.log_dict(self._parent, content, "protocol.json")

    def job(self, done: Done, folder: Path) -> None:
        """See `Tracker`."""
        if done.job.key not in self._recorded:
            with store.explained(self._runs):
                self._record(done, folder)

    def _record(self, done: Done, folder: Path) -> None:
        job = done.job
        chosen = "logged" if job.agent["name"] in self._models else "left out"
        run_id = self._open_child(job.key, job.name, **{MODEL_TAG: "none" if done.sees == "all" else chosen})
        params = {"agent": job.agent["name"], "scenario": job.scenario["name"], "train_seed": job.train_seed}
        params |= {"seat": declared_by(job.agent).seat}
        self._log_params(run_id, params | {"code": job.code or "hvgym"} | _flatten("agent", job.agent))
        means = [(name, float(np.mean([row[name] for row in done.rows])), 0) for name in METRICS]
        curve = [("validation_goodput", point["score"], int(point["steps"])) for point in done.curve]
        self._log_metrics(run_id, means + curve)
        table = {name: [row[name] for row in done.rows] for name in done.rows[0]}
        self._client.log_table(run_id, table, "episodes.json")
        self._client.log_dict(run_id, job.scenario, "scenario.json")
        if done.sees != "all" and chosen == "logged":
            self._log_model(run_id, done, folder)
        self._close_child(run_id, job.key)

    def _is_whole(self, run: Any) -> bool:
        artifacts, model = store.path_of(run.info.artifact_uri), run.data.tags.get(MODEL_TAG)
        if not all((artifacts / name).is_file() for name in ("episodes.json", "scenario.json")):
            return False
        if model == "logged":
            return self._model_lies_there(run.info.run_id)
        return model == "none" or run.data.params.get("agent") not in self._models

    def _model_lies_there(self, run_id: str) -> bool:
        query = f"source_run_id = '{run_id}'"
        found = self._client.search_logged_models([self._experiment], filter_string=query)
        return any((store.path_of(model.artifact_location) / "MLmodel").is_file() for model in found)

    def _log_model(self, run_id: str, done: Done, folder: Path) -> None:
        import mlflow

        checkpoint = folder / done.model if done.model else done.checkpoint
        files = [Path(checkpoint), Path(checkpoint).with_suffix(".json")] if checkpoint else []
        artifacts = {
            name: str(file) for name, file in zip(("checkpoint", "meta"), files, strict=False) if file.exists()
        }
        example = example_rows(_vm_count(done))
        sizes = example[[name for name in example if name.endswith(".size_mib")]]
        answer = sizes.rename(columns=lambda name: name.replace("size_mib", "target_mib"))
        with mlflow.start_run(run_id=run_id, nested=True):
            mlflow.pyfunc.log_model(
                name="policy",
                python_model=policy_model(done.job.agent),
                artifacts=artifacts or None,
                code_paths=[str(root) for root in outside_roots(done.job.agent)] or None,
                signature=mlflow.models.infer_signature(example, answer),
                input_example=example,
                pip_requirements=["hvgym"],
            )

    def finish(self, summary: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """See `Tracker`."""
        points = [
            (f"{agent}/{name}", value, 0)
            for agent, result in summary["agents"].items()
            for name, value in result.items()
            if isinstance(value, float)
        ]
        with store.explained(self._runs):
            for line in alarms(summary)[:1]:  # the report has them all
                self._client.set_tag(self._parent, ALARM_TAG, line)
            self._close_parent(points, artifacts)


def _note(protocol: StudyProtocol) -> str:
    names = ", ".join(agent["name"] for agent in protocol.agents)
    return (
        f"Suite **{protocol.suite.name}**: {names}. Open the artifact report.html for the leaderboard with intervals."
    )


def _flatten(prefix: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if key in ("description", "tune"):
            continue
        if isinstance(value, Mapping):
            flat |= _flatten(f"{prefix}.{key}", value)
        else:
            flat[f"{prefix}.{key}"] = value
    return flat


def _vm_count(done: Done) -> int:
    return sum(int(group["count"]) for group in done.job.scenario["vms"])


def policy_model(agent: Mapping[str, Any]) -> Any:
    """An agent as an MLflow python model: rows are successive readings of one host, the answer one row of sizes per
    reading.
    """
    import mlflow

    return model_class(mlflow.pyfunc.PythonModel)(agent)


def read_leaderboard(runs: Path, study: str) -> dict[str, float]:
    """Metrics of a study's parent run, as the UI shows them."""
    client = open_store(runs)
    experiment = client.get_experiment_by_name(f"hvgym/{study}")
    if experiment is None:
        raise InputError(f"study={study!r}: not in {runs / 'mlflow.db'}")
    runs_found = client.search_runs([experiment.experiment_id], f"tags.`{STUDY_TAG}` != ''")
    return dict(json.loads(json.dumps(runs_found[0].data.metrics)))
