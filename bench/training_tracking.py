"""Trainings by ``hvgym train`` in MLflow: the experiment ``hvgym/train`` has a run for each, with its learning curve while it
runs, its settings as parameters and its best network as a model.

A run is found again by what determines the network and the name of its folder; one that a kill cut short is made anew from the
progress that the folder holds.
"""

import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hvgym.agents.learned.training import trainer_of
from hvgym.agents.policy import profile_of
from hvgym.bench import run_contents, usage
from hvgym.bench.bulk import Point
from hvgym.bench.curves import Curve
from hvgym.bench.delivery import note_of, recorded
from hvgym.bench.identity import digest_of_text, targets
from hvgym.bench.job_times import first_ms, now_ms
from hvgym.bench.jobs import read_json
from hvgym.bench.levels import read_mean
from hvgym.bench.models import Models, ground_of, model_name, vms_of
from hvgym.bench.progress import Line, State, by_step, read
from hvgym.bench.protocol import policy_of
from hvgym.bench.provenance import demands_of_training, environment, origin
from hvgym.bench.recording import Experiment, marked
from hvgym.bench.references import rules_of
from hvgym.bench.study_note import Note
from hvgym.bench.tracking import Place
from hvgym.bench.views import of_verb
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically

TRAINING_TAG = "hvgym.training"

FILES = ("training.json", "environment.json")

TOLD = "told.json"
"""In a training's folder: what it is, for ``hvgym sync``."""

AGAIN = "the hvgym train that made it delivers it"

WORK = ("train", "validate")
"""What lines of progress tell, but for beginning and end."""


@dataclass(frozen=True)
class Training:
    """What is trained and where; ground: the name of the scenario, or of all of them; swept: values of the keys of a multirun;
    sources: see ``identity``."""

    agent: dict[str, Any]
    scenarios: Sequence[dict[str, Any]]
    ground: str
    seed: int
    validation_seeds: int
    folder: Path
    swept: Mapping[str, str]
    sources: Mapping[str, str]

    @property
    def plain(self) -> dict[str, Any]:
        """All but the folder, as plain data."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "folder"}

    @property
    def key(self) -> str:
        """Of what determines the network, and of the folder's name."""
        content = [self.folder.name, self.agent, self.played, self.seed, self.validation_seeds]
        return digest_of_text(json.dumps(content, sort_keys=True))

    @property
    def played(self) -> Any:
        """The scenario, or all of them."""
        return self.scenarios[0] if len(self.scenarios) == 1 else list(self.scenarios)

    @property
    def levels(self) -> dict[str, float]:
        """Goodput of stock and reference on the validation seeds, as far as it is known."""
        return read_mean(self.folder, self.agent, self.scenarios, self.validation_seeds)


class TrainingTracker:
    """Records a training."""

    def __init__(self, runs: Path, training: Training, server: str = "") -> None:
        self._experiment, self._training = Experiment(runs, "train", server), training
        self._models, self._lock = Models(self._experiment), threading.Lock()
        self._run, self._whole = "", False
        self._from_the_beginning()

    @property
    def experiment(self) -> tuple[str, str]:
        """Name and id, once it is open."""
        return self._experiment.name, self._experiment.id

    def _from_the_beginning(self) -> None:
        """Take nothing of the learning curve for recorded; a point that is there already changes nothing."""
        self._curve = Curve(lambda: self._training.levels)
        self._read = 0

    def start(self) -> None:
        """Open the run, unless the training is recorded whole."""
        training = self._training
        self._experiment.open(of_verb("train"))
        for run in self._experiment.runs(TRAINING_TAG, training.key):
            self._models.find({run.info.run_id})
            if (
                run.info.status == "FINISHED"
                and self._experiment.furnished(run, *FILES)
                and self._models.of(run.info.run_id)
            ):
                self._run, self._whole = run.info.run_id, True
                return
            self._experiment.delete(run.info.run_id)
            self._models.find({run.info.run_id}, gone={run.info.run_id})
        agent = training.agent
        hypervisors = {scenario["hypervisor"]["name"]: None for scenario in training.scenarios}
        tags = {TRAINING_TAG: training.key, "stage": "training", "scenario": training.ground}
        tags |= {"hypervisor": ", ".join(hypervisors), "rules": rules_of(training.scenarios)}
        tags |= run_contents.tags_of_agent(agent, "") | origin("train")
        began = first_ms([], [training.folder / "progress.jsonl"])
        self._run = self._experiment.create(training.folder.name, tags, began)
        params = {"agent": agent["name"], "scenario": training.ground, "seed": training.seed}
        self._experiment.log(self._run, params=params | dict(training.swept) | run_contents.settings(agent))
        of_it = demands_of_training(training.ground, training.scenarios, training.seed, training.validation_seeds)
        self._experiment.demands(self._run, of_it)
        self._experiment.text(self._run, environment(training.scenarios[0]), "environment.json")

    def look(self) -> None:
        """Record what the training has told since the last time. A run that was deleted meanwhile is made anew at the end."""
        with self._lock:
            if self._run and not self._whole:
                try:
                    self._look()
                except InputError:
                    self._from_the_beginning()
                    if not self._experiment.is_deleted(self._run):
                        raise

    def _look(self) -> None:
        lines = read(self._training.folder / "progress.jsonl")
        fresh, self._read = lines[self._read :], len(lines)
        if points := self._curve.points(fresh):
            self._experiment.log(self._run, points)

    def finish(self, model: Path, curve: list[dict[str, float]]) -> None:
        """Record the network."""
        if self._whole:
            return
        if self._experiment.is_deleted(self._run):
            self._from_the_beginning()
            self.start()
        self.look()
        training, best = self._training, max(point["best"] for point in curve)
        with self._lock:
            lines = read(training.folder / "progress.jsonl")
            end = _end_ms(lines)
            points = [
                *self._curve.rest(curve, end),
                *usage.points(usage.of(lines), end),
                Point("best_validation_goodput", best, int(curve[-1]["steps"]), end),
            ]
            sees = profile_of(policy_of(training.agent | {"checkpoint": str(model)}))
            self._experiment.log(self._run, points, tags={"visibility": sees})
            name = training.agent["name"]
            title = model_name(name, training.ground, training.seed)
            self._models.log(self._run, title, training.agent, vms_of(training.scenarios), model)
            ground = ground_of(training.played, training.validation_seeds, training.sources)
            self._models.register(model_name(name, training.ground), self._run, training.key, best, ground)
            self._experiment.file(self._run, training.folder / "training.json")
            self._experiment.close(self._run, end)

    def stopped(self, status: str) -> None:
        """Close the run, after a failure (FAILED) or an interrupt (KILLED)."""
        with self._lock, suppress(Exception):
            if self._run and not self._whole:
                self._experiment.close(self._run, now_ms(), status)


def _end_ms(lines: Sequence[Line]) -> int:
    """When it last learned: the same command may have looked at it since."""
    told = [line["at"] for line in lines if line["what"] in WORK]
    return round(told[-1] * 1000) if told else now_ms()


@contextmanager
def make_training_tracker(kind: str, runs: Path, training: Training) -> Iterator[TrainingTracker | None]:
    """`kind` is none, which gives None, mlflow, or the address of a server. What fails or is interrupted is marked so."""
    if kind != "none":
        write_atomically(training.folder / TOLD, json.dumps(training.plain, indent=1))
    make = lambda server: TrainingTracker(runs, training, server)  # noqa: E731
    with recorded(kind, training.folder, Place("train", training.swept), make, TrainingTracker.look) as tracker:
        yield tracker


def read_training(folder: Path) -> Training:
    """The training of a folder. Raises `InputError` that names the file when it is damaged."""
    path = folder / TOLD
    content = read_json(path, AGAIN)
    try:
        return Training(folder=folder, **content)
    except TypeError as error:
        raise InputError(f"{path}: lacks a key or has one too many ({error}); {AGAIN}") from None


def deliver_training(folder: Path, runs: Path, server: str, place: Place) -> Note:
    """Record at a server, or where its address is empty under `runs`, the training of a folder. One that is not finished is marked
    as stopped. Raises `InputError`, also for a policy from outside the package, whose code would be run."""
    training, lines = read_training(folder), read(folder / "progress.jsonl")
    if State.of(lines).alive:
        raise InputError(f"{folder}: a process is training there; it delivers by itself")
    if not all(target.startswith("hvgym.") for target in targets(training.agent)):
        raise InputError(f"{folder}: agent {training.agent['name']} is from outside the package; {AGAIN}")
    curve, total = curve_of(lines), trainer_of(training.agent).total_steps
    with marked(TrainingTracker(runs, training, server)) as tracker:
        tracker.start()
        models = sorted(folder.glob("best.*"))
        if models and curve and curve[-1]["steps"] >= total:
            tracker.finish(models[0], curve)
        else:
            tracker.look()
            tracker.stopped("KILLED")
    return note_of(server, place, tracker)


def curve_of(lines: Sequence[Line]) -> list[dict[str, float]]:
    """The validations of a training, with the best one so far."""
    found, best = list[dict[str, float]](), -math.inf
    for steps, line in by_step(lines, "validate").items():
        score = float(line["goodput"])
        best = max(best, score)
        found.append({"steps": steps, "score": score, "best": best})
    return found
