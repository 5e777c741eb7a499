"""A study: a protocol, one job per (agent, scenario, training seed), and their results as rows in a folder.

    runs/studies/NAME/protocol.json   what is compared, with a hash
                      jobs/KEY.json   one finished job; KEY is the hash of its resolved configuration
                      models/         trained networks
                      results.csv     all rows, floats in full
                      summary.json    scores with intervals

A job file appears whole or not at all, so a study that was killed goes on where it stopped: finished jobs are read,
the others run (a training from its last checkpoint), and the results are the same to the bit. Agents may be added
later, and one that never finished may be changed or left out; anything else that differs from the protocol is
refused, nothing is overwritten.
"""

import csv
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import hvgym.envs
from hvgym.agents.policy import ClairvoyantPolicy, Policy, make_policy
from hvgym.bench import suites
from hvgym.bench.rollout import METRICS, rollout
from hvgym.bench.suites import Suite
from hvgym.envs.errors import InputError, in_words
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator

FORMAT = 1
"""Version of job and row layout; part of every key."""

COLUMNS = ("agent", "scenario", "train_seed", "eval_seed", *METRICS)


@dataclass(frozen=True)
class Job:
    """One agent on one scenario with one training seed."""

    agent: dict[str, Any]
    scenario: dict[str, Any]
    train_seed: int
    eval_seeds: int
    validation_seeds: int

    @property
    def key(self) -> str:
        """Hash of everything that determines the result."""
        text = json.dumps({"format": FORMAT} | asdict(self) | {"agent": _played(self.agent)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """For people."""
        seed = f" seed {self.train_seed}" if self.agent.get("train") else ""
        return f"{self.agent['name']} on {self.scenario['name']}{seed}"


@dataclass(frozen=True)
class Done:
    """A finished job: one row per evaluation seed, and for learners the curve and the model's path in the study folder."""

    job: Job
    rows: list[dict[str, float]]
    curve: list[dict[str, float]]
    model: str | None


@dataclass(frozen=True)
class Protocol:
    """What a study compares; agents and scenarios are resolved configurations, in order. sources: see `sources`."""

    suite: Suite
    agents: tuple[dict[str, Any], ...]
    scenarios: tuple[dict[str, Any], ...]
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change within a study."""
        suite = {key: value for key, value in asdict(self.suite).items() if key not in ("agents", "description")}
        identity = {"format": FORMAT, "suite": suite, "scenarios": self.scenarios, "sources": self.sources}
        plain: dict[str, Any] = json.loads(json.dumps(identity))
        return plain

    @property
    def hash(self) -> str:
        """Of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]

    def jobs(self) -> list[Job]:
        """All jobs, learners (the long ones) first."""
        jobs = [
            Job(self._budgeted(agent), scenario, seed, self.suite.eval_seeds, self.suite.validation_seeds)
            for agent in self.agents
            for scenario in self.scenarios
            for seed in range(self.suite.train_seeds if _learns(agent) else 1)
        ]
        return sorted(jobs, key=lambda job: not _learns(job.agent))

    def _budgeted(self, agent: dict[str, Any]) -> dict[str, Any]:
        if not _learns(agent) or self.suite.train_steps is None:
            return agent
        return agent | {"train": {**agent["train"], "total_steps": self.suite.train_steps}}


def sources(scenarios: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Digests of what makes a result beside configuration: the code of model and agents, and the files of traces.

    They are part of a study's identity, so rows of two versions never mix.
    """
    package = Path(hvgym.envs.__file__).parents[1]
    code = [*(package / "envs").rglob("*.py"), *(package / "agents").rglob("*.py"), package / "bench" / "rollout.py"]
    found = {"code": _digest(code)}
    for folder in sorted({str(s["workload"]["path"]) for s in scenarios if s["workload"]["kind"] != "phases"}):
        if Path(folder).is_dir():  # else `check` says what is wrong
            found[f"traces {folder}"] = _digest([path for path in Path(folder).iterdir() if path.is_file()])
    return found


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def check(protocol: Protocol) -> None:
    """Raise `InputError` for whatever a job would stumble over: traces that cannot be read, agents that cannot be
    built.
    """
    for group, configs in (("agents", protocol.agents), ("scenarios", protocol.scenarios)):
        names = [config["name"] for config in configs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"{group}: two are named {twice[0]!r}; give the YAML of one of them another name")
    for data in protocol.scenarios:
        scenario = Scenario.from_dict(data)
        learning = any(_learns(agent) for agent in protocol.agents)
        for split in ("train", "validation", "test") if learning else ("test",):
            Simulator(suites.split_of(scenario, split)).reset([0])
    for agent in protocol.agents:
        if _learns(agent):
            from hvgym.agents.learned.ppo import settings_of

            settings_of(agent)
        else:
            _policy(agent)


def policy_of(done: Done, folder: Path) -> Policy | ClairvoyantPolicy:
    """The policy of a finished job, trained in this study or not."""
    return _policy(done.job.agent | ({"checkpoint": str(folder / done.model)} if done.model else {}))


def _policy(agent: Mapping[str, Any]) -> Policy | ClairvoyantPolicy:
    checkpoint = {"checkpoint": agent["checkpoint"]} if agent.get("checkpoint") else {}
    return make_policy(agent, **checkpoint)


def _learns(agent: Mapping[str, Any]) -> bool:
    return bool(agent.get("train")) and not agent.get("checkpoint")


def _played(agent: Mapping[str, Any]) -> dict[str, Any]:
    """The agent without its search space (`tuning`), which changes nothing that is played."""
    return {key: value for key, value in agent.items() if key != "tune"}


def run_job(job: Job, folder: Path) -> Done:
    """Train if the agent learns, evaluate on the test seeds, and leave the job's file.

    Raises `InputError` that names the job when its agent fails.
    """
    try:
        return _play(job, folder)
    except (InputError, OSError):
        raise
    except Exception as error:
        raise InputError(f"{job.name}: {in_words(error)}") from error


def _play(job: Job, folder: Path) -> Done:
    scenario = Scenario.from_dict(job.scenario)
    model, curve = None, list[dict[str, float]]()
    policy_config = job.agent
    if _learns(job.agent):
        model, curve = _train(job, scenario, folder)
        policy_config = job.agent | {"checkpoint": str(folder / model)}
    policy = _policy(policy_config)
    episodes = rollout(suites.split_of(scenario, "test"), policy, suites.seeds("test", job.eval_seeds))
    done = Done(job, episodes.rows(), curve, model)
    write_atomically(folder / "jobs" / f"{job.key}.json", json.dumps(asdict(done), indent=1))
    if model is not None:
        shutil.rmtree((folder / model).parent / "checkpoint", ignore_errors=True)
    return done


def _train(job: Job, scenario: Scenario, folder: Path) -> tuple[str, list[dict[str, float]]]:
    """Train within the job; return the model's path relative to the study, and the learning curve."""
    from hvgym.agents.learned.ppo import settings_of, train

    place = Path("models") / f"{job.agent['name']}-{job.scenario['name']}-{job.train_seed}-{job.key}"
    validation = suites.split_of(scenario, "validation")
    trained = train(
        suites.split_of(scenario, "train"),
        settings_of(job.agent),
        folder / place,
        seed=job.train_seed,
        first_seed=suites.training_seed(job.train_seed),
        validate=lambda policy: float(
            rollout(validation, policy, suites.seeds("validation", job.validation_seeds)).goodput.mean()
        ),
    )
    return str(place / trained.model.name), [asdict(point) for point in trained.curve]


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    os.replace(fresh, path)


@contextmanager
def opened(protocol: Protocol, folder: Path) -> Iterator[Protocol]:
    """Hold the study of a folder for this process alone; gives the protocol joined with the one that is there.

    Raises `InputError` when another process holds it, or when it differs in more than added agents.
    """
    with locked(folder):
        yield _agree(protocol, folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a study's folder; may be nested."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock((folder / ".lock").resolve(), is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{folder}: another hvgym process is working on this study; wait, or choose study=NAME"
        ) from None
    try:
        yield
    finally:
        lock.release()


def run_study(
    protocol: Protocol,
    folder: Path,
    workers: int,
    on_done: Callable[[Done, int, int], None] = lambda done, finished, total: None,
) -> list[Done]:
    """Run what is missing, in up to `workers` processes; return all finished jobs in protocol order.

    on_done(job, finished, total) is called in this process for every job, also for those that an earlier run had
    finished.
    """
    with opened(protocol, folder) as protocol:
        jobs = protocol.jobs()
        done = {job.key: read_job(folder, job) for job in jobs if (folder / "jobs" / f"{job.key}.json").exists()}
        for count, result in enumerate(tuple(done.values()), 1):
            on_done(result, count, len(jobs))
        for result in _run_missing([job for job in jobs if job.key not in done], folder, workers):
            done[result.job.key] = result
            on_done(result, len(done), len(jobs))
        ordered = [done[job.key] for job in _in_order(protocol)]
        write_results(ordered, folder / "results.csv")
    return ordered


def _in_order(protocol: Protocol) -> list[Job]:
    order = {agent["name"]: index for index, agent in enumerate(protocol.agents)}
    return sorted(protocol.jobs(), key=lambda job: order[job.agent["name"]])


def _run_missing(jobs: Sequence[Job], folder: Path, workers: int) -> Iterator[Done]:
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield run_job(job, folder)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=_follow_parent)
    try:
        running = {pool.submit(run_job, job, folder) for job in jobs}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BaseException:
        _stop(pool)
        raise
    pool.shutdown()


def _follow_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end with it even when it is killed, so that no job runs twice."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: their jobs are lost, which is what a rerun is for."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()


def _agree(protocol: Protocol, folder: Path) -> Protocol:
    """Join the protocol with the one in the folder: agents may be added, the rest must be the same."""
    path = folder / "protocol.json"
    if path.exists():
        old = _read_json(path)
        if old["identity"] != protocol.identity:
            raise InputError(
                f"{folder}: holds a study that differs in {_difference(old['identity'], protocol.identity)}; choose study=NAME"
            )
        asked = {agent["name"]: json.loads(json.dumps(agent)) for agent in protocol.agents}
        agents = []
        for agent in old["agents"]:
            if not _finished(replace(protocol, agents=(agent,)), folder):
                agent = asked.get(agent["name"])  # nothing is lost when it is left out or changed
            elif _played(asked.get(agent["name"], agent)) != _played(agent):
                raise InputError(
                    f"{folder}: agent {agent['name']} differs from the one in this study; choose study=NAME"
                )
            agents += [agent] if agent else []
        known = [agent["name"] for agent in agents]
        added = [agent for agent in protocol.agents if agent["name"] not in known]
        protocol = replace(protocol, agents=(*agents, *added))
    text = {"hash": protocol.hash, "identity": protocol.identity, "agents": protocol.agents}
    write_atomically(path, json.dumps(text, indent=1))
    return protocol


def _finished(protocol: Protocol, folder: Path) -> bool:
    return all((folder / "jobs" / f"{job.key}.json").exists() for job in protocol.jobs())


def _difference(old: Any, new: Any, where: str = "") -> str:
    """The first key at which two plain trees differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                return _difference(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            if a != b:
                return _difference(a, b, f"{where}[{index}]")
    return f"{where} (there {old!r:.60}, asked {new!r:.60})"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); delete it and run hvgym bench again") from None
    return content


def read_job(folder: Path, job: Job) -> Done:
    """Read a finished job."""
    data = _read_json(folder / "jobs" / f"{job.key}.json")
    return Done(job, data["rows"], data["curve"], data["model"])


def read_study(folder: Path) -> tuple[Protocol, list[Done]]:
    """Read the protocol and the finished jobs of a study. Raises `InputError` when there is none."""
    path = folder / "protocol.json"
    if not path.exists():
        raise InputError(f"{folder}: no study here (protocol.json is missing)")
    data = _read_json(path)
    identity = data["identity"]
    suite = Suite.from_dict(identity["suite"] | {"description": "", "agents": [a["name"] for a in data["agents"]]})
    protocol = Protocol(suite, tuple(data["agents"]), tuple(identity["scenarios"]), identity["sources"])
    jobs = [job for job in _in_order(protocol) if (folder / "jobs" / f"{job.key}.json").exists()]
    return protocol, [read_job(folder, job) for job in jobs]


def write_results(done: Sequence[Done], path: Path) -> None:
    """Write every row; ``repr`` keeps all digits of a float."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in done:
        for row in result.rows:
            head = [result.job.agent["name"], result.job.scenario["name"], result.job.train_seed, row["eval_seed"]]
            writer.writerow([*head, *(repr(row[name]) for name in METRICS)])
    write_atomically(path, text.getvalue())
