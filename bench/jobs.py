"""Jobs: played in this process or in others, each by one at a time, and their files.

A job's file holds the job itself, its rows, the time line of its first episode and a digest of it all, so a file that was
edited, swapped or cut short is refused by name.
"""

import hashlib
import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import hvgym
from hvgym.agents.policy import declared_by, profile_of
from hvgym.bench import suites
from hvgym.bench.claims import claims_of, once
from hvgym.bench.identity import code_of, here, is_outside, targets
from hvgym.bench.levels import play_levels
from hvgym.bench.progress import Progress, file_of
from hvgym.bench.protocol import FORMAT, Job, learns, policy_of
from hvgym.bench.rollout import METRICS, rollout
from hvgym.bench.timeline import Recorder
from hvgym.bench.workers import Workers, each
from hvgym.envs.backends import AnySimulator
from hvgym.envs.errors import InputError, in_words
from hvgym.envs.files import write_atomically
from hvgym.envs.scenario import Scenario
from hvgym.envs.telemetry import Telemetry

AGAIN = "delete it and run hvgym bench again"

_imported = dict[str, str]()
"""Digests of the agents' own code that this process plays, by agent."""


@dataclass(frozen=True)
class Done:
    """A finished job: one row per evaluation seed; sees: the profile of signals that its policy read; for learners the curve
    (of the block that trained) and the model's path in the study folder; version: of hvgym; timeline: packed; made_on: machine
    and libraries, empty in studies of before (``identity.here``).
    """

    job: Job
    rows: list[dict[str, float]]
    curve: list[dict[str, float]]
    model: str | None
    sees: str
    version: str = hvgym.__version__
    timeline: dict[str, Any] = field(default_factory=dict)
    made_on: dict[str, str] = field(default_factory=dict)

    @property
    def checkpoint(self) -> str | None:
        """The network that the configuration names."""
        return self.job.agent.get("checkpoint")


def run_job(job: Job, folder: Path) -> Done:
    """Train if the agent learns, evaluate on the test seeds, and leave the job's file; meanwhile its progress (``progress``).

    Raises `InputError` that names the job when its agent fails, leaves the program, or has other code than the job says.
    """
    with _named(job):
        total = _steps(job)
    with Progress(file_of(folder, job.key), job.name, total) as progress:
        with _named(job):
            _check_code(job)
            done = _play(job, folder, progress)
            _check_code(job)
        write_atomically(job_file(folder, job), text_of(done))
    if done.model is not None:
        shutil.rmtree((folder / done.model).parent / "checkpoint", ignore_errors=True)
    return done


@contextmanager
def _named(job: Job) -> Iterator[None]:
    """Errors of its agent name the job."""
    try:
        yield
    except OSError:
        raise
    except InputError as error:
        raise InputError(f"{job.name}: {error}") from error
    except SystemExit as error:
        raise InputError(f"{job.name}: its code ended the program (SystemExit: {error.code})") from error
    except Exception as error:
        raise InputError(f"{job.name}: {in_words(error)}") from error


def _check_code(job: Job) -> None:
    """The code is read before the study and loaded by each worker: between the two it may have been edited. What a process
    has imported stays as it was then."""
    if not any(target.rpartition(".")[0] in sys.modules for target in targets(job.agent)):
        _imported.pop(job.agent["name"], None)
    if job.code and _imported.setdefault(job.agent["name"], job.code) != job.code:
        raise InputError("its code was edited after this process had imported it; a new process plays it")
    if (now := code_of(job.agent)) != job.code and (job.code or is_outside(job.agent)):
        if not now:
            raise InputError("its code is not found here; --config-dir names the folder of its YAML")
        raise InputError("its code was changed while the study ran; give the same command again")


def _steps(job: Job) -> int:
    """Environment steps that a job trains, or else plays."""
    if learns(job.agent):
        from hvgym.agents.learned.training import trainer_of

        return trainer_of(job.agent).total_steps
    return job.eval_seeds * _intervals(Scenario.from_dict(job.scenario))


def _intervals(scenario: Scenario) -> int:
    """Of control, in an episode."""
    return scenario.duration_s // scenario.control_interval_s


def _play(job: Job, folder: Path, progress: Progress) -> Done:
    scenario = Scenario.from_dict(job.scenario)
    model, curve = None, list[dict[str, float]]()
    agent = job.agent
    if learns(agent):
        model, curve = (_trained(job, folder), curve) if job.trained_by else train_network(job, folder, progress)
        agent = agent | {"checkpoint": str(folder / model)}
    policy, recorder = policy_of(agent), Recorder()
    tell = progress.player(len(job.seeds), _intervals(scenario))

    def watch(telemetry: Telemetry, sim: AnySimulator) -> None:
        recorder.watch(telemetry, sim)
        tell(telemetry, sim)

    rows = rollout(suites.split_of(scenario, "test"), policy, job.seeds, watch, agent["name"]).rows()
    for row in rows:
        if bad := [name for name, value in row.items() if not math.isfinite(value)]:
            raise InputError(f"{bad[0]} of evaluation seed {row['eval_seed']} is {row[bad[0]]}, not a finite number")
    _keep_network(job, folder)
    return Done(job, rows, curve, model, profile_of(policy), timeline=recorder.timeline().pack(), made_on=here())


def _trained(job: Job, folder: Path) -> str:
    """The path of the network that the first block of these jobs has trained. Raises `InputError` when it is gone."""
    first = _file(folder, job.trained_by)
    model = read_json(first).get("model")
    if not (isinstance(model, str) and (folder / model).is_file()):
        raise InputError(f"its network {folder / str(model)} is gone; delete {first}, and hvgym bench trains it again")
    return model


def network_file(folder: Path, agent: Mapping[str, Any]) -> Path:
    """Where a study keeps a network that the command named; its agent's ``checkpoint`` may be gone, or elsewhere."""
    kind = Path(agent["checkpoint"]).suffix or ".zip"
    return folder / "models" / f"{agent['name']}-{agent['checkpoint_sha256'][:16]}" / f"best{kind}"


def _keep_network(job: Job, folder: Path) -> None:
    """Copy the network that was played, so that the study can be played again from its folder alone."""
    agent = job.agent
    if not (agent.get("checkpoint") and agent.get("checkpoint_sha256")):
        return
    kept, given = network_file(folder, agent), Path(agent["checkpoint"])
    for suffix in (".json", ".zip"):  # figures lay beside the network before they lay in it
        if given.with_suffix(suffix).is_file() and not kept.with_suffix(suffix).exists():
            write_atomically(kept.with_suffix(suffix), given.with_suffix(suffix).read_bytes())


def train_network(job: Job, folder: Path, progress: Progress) -> tuple[str, list[dict[str, float]]]:
    """Train within a job; return the model's path relative to the folder of the study, and the learning curve."""
    from hvgym.agents.learned.training import trainer_of
    from hvgym.bench.training import task_of, train, validation_of

    trainer, name, scenario = trainer_of(job.agent), job.agent["name"], Scenario.from_dict(job.scenario)
    place = Path("models") / f"{name}-{job.scenario['name']}-{job.train_seed}-{job.key}"
    play_levels(folder, job.agent, job.scenario, job.validation_seeds)
    task = task_of(
        [scenario],
        folder / place,
        job.train_seed,
        name,
        validation_of([scenario], job.validation_seeds, name),
        report=lambda point, total: progress.validated(point.steps, total, goodput=point.score),
        watch=lambda update: progress.trained(total=trainer.total_steps, **asdict(update)),
        declaration=declared_by(job.agent),
    )
    trained = train(trainer, task)
    return str(place / trained.model.name), [asdict(point) for point in trained.curve]


def job_file(folder: Path, job: Job) -> Path:
    """Where a finished job lies."""
    return _file(folder, job.key)


def _file(folder: Path, key: str) -> Path:
    return folder / "jobs" / f"{key}.json"


def text_of(done: Done) -> str:
    """What a finished job's file holds."""
    content = {"format": FORMAT} | asdict(done) | {"job": done.job.plain()}
    return json.dumps(content | {"digest": digest(content)}, indent=1)


def digest(content: Mapping[str, Any]) -> str:
    """Of the content of a file that carries it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_job(folder: Path, job: Job) -> Done:
    """Read a finished job. Raises `InputError` that names the file when it is not what this job left."""
    path = job_file(folder, job)
    data = read_json(path)
    if data.pop("digest", None) != digest(data):
        raise InputError(f"{path}: was changed after it was written (its digest differs); {AGAIN}")
    try:
        written = Job(**data["job"])
        done = Done(
            job, data["rows"], data["curve"], data["model"], data["sees"], data["version"], data["timeline"],
            data.get("made_on", {}),
        )  # fmt: skip
        seeds = [row["eval_seed"] for row in done.rows]
        whole = all(row.keys() == {"eval_seed", *METRICS} for row in done.rows)
        same, name = written.key == job.key, written.name
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: lacks a key or has one too many ({error}); {AGAIN}") from None
    if not same:
        raise InputError(f"{path}: holds another job ({name}), not {job.name}; {AGAIN}")
    if not whole or seeds != list(job.seeds):
        raise InputError(f"{path}: its rows are not those of {job.eval_seeds} evaluation seeds; {AGAIN}")
    return done


def read_json(path: Path, again: str = AGAIN) -> dict[str, Any]:
    """The content of a file of a study. Raises `InputError` that names it, and what to do, when it is no JSON object."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({' '.join(str(error).split())}); {again}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: damaged (expected keys and values); {again}")
    return content


def run_jobs(jobs: Sequence[Job], folder: Path, workers: Workers) -> Iterator[Done]:
    """Have jobs played (``workers``); each is given when it is finished."""
    for _, done in each(jobs, lambda submit, job: submit(run_once, job, folder), workers, folder, lambda job: job.name):
        yield done


def run_once(job: Job, folder: Path) -> Done:
    """The same as `run_job`, unless another process has finished the job, or is at it."""

    def stored() -> Done | None:
        return read_job(folder, job) if job_file(folder, job).exists() else None

    return once(claims_of(folder), job.key, stored, lambda: run_job(job, folder))
