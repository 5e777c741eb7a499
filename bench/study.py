"""A study: a protocol, one job per (agent, scenario, training seed), and their results as rows in a folder.

    runs/studies/NAME/protocol.json   what is compared, with a hash
                      jobs/KEY.json   one finished job; KEY is the hash of its resolved configuration
                      models/         networks, trained here or named by the command
                      progress/       how far jobs were, while they ran (``progress``)
                      results.csv     all rows, floats in full, with the digest of the code that made them
                      summary.json    scores with intervals

A job file appears whole or not at all, so a study that was killed goes on where it stopped: finished jobs are read,
the others run (a training from its last checkpoint), and the results are the same to the bit. Agents may be added
later; one whose code outside the package was edited is played anew, and its old job files stay; one that never finished
may be changed or left out. Anything else that differs from the protocol is refused, nothing is overwritten. Reading a
study imports and calls nothing that it names.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import hvgym
from hvgym.bench.jobs import AGAIN, Done, digest, job_file, read_job, read_json, run_jobs
from hvgym.bench.protocol import FORMAT, Protocol, played
from hvgym.bench.rollout import METRICS
from hvgym.bench.suites import Suite
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically

COLUMNS = ("agent", "scenario", "train_seed", "eval_seed", *METRICS, "code")


@contextmanager
def opened(protocol: Protocol, folder: Path) -> Iterator[Protocol]:
    """Hold the study of a folder for this process alone; gives the protocol joined with the one that is there.

    Raises `InputError` when another process holds it, or when it differs in more than added agents and edited code of theirs.
    """
    with locked(folder):
        yield _agree(protocol, folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a study's folder; may be nested."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock((folder / ".lock").resolve(), is_singleton=True)
    try:
        lock.acquire(timeout=0.2)  # ``standing.is_held`` holds it for an instant
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
        done = {job.key: read_job(folder, job) for job in jobs if job_file(folder, job).exists()}
        for count, result in enumerate(tuple(done.values()), 1):
            on_done(result, count, len(jobs))
        for result in run_jobs([job for job in jobs if job.key not in done], folder, workers):
            done[result.job.key] = result
            on_done(result, len(done), len(jobs))
        ordered = [done[job.key] for job in protocol.in_order()]
        write_results(protocol, ordered, folder / "results.csv")
    return ordered


def _agree(protocol: Protocol, folder: Path) -> Protocol:
    """Join the protocol with the one in the folder: agents may be added or have other code, the rest must be the same."""
    path = folder / "protocol.json"
    if path.exists():
        protocol = _joined(protocol, _read_protocol(path), folder)
    content = {"hash": protocol.hash, "identity": protocol.identity, "agents": protocol.agents, "codes": protocol.codes}
    content |= {"hvgym": hvgym.__version__}
    write_atomically(path, json.dumps(content | {"digest": digest(content)}, indent=1))
    return protocol


def _joined(asked: Protocol, old: Protocol, folder: Path) -> Protocol:
    if old.identity != asked.identity:
        raise InputError(f"{folder}: {_difference(old.identity, asked.identity)}; choose study=NAME")
    given = {agent["name"]: json.loads(json.dumps(agent)) for agent in asked.agents}
    kept, codes = list[dict[str, Any]](), dict(asked.codes)
    for agent in old.agents:
        ours = given.pop(agent["name"], None)
        if _finished(replace(old, agents=(agent,)), folder):
            if ours and played(ours) != played(agent):
                raise InputError(
                    f"{folder}: agent {agent['name']} differs from the one in this study; choose study=NAME"
                )
            if ours is None and agent["name"] in old.codes:
                codes[agent["name"]] = old.codes[agent["name"]]
            kept.append(ours or agent)
        elif ours:  # nothing is lost when one that never finished is changed or left out
            kept.append(ours)
    return replace(asked, agents=(*kept, *given.values()), codes=codes)


def _finished(protocol: Protocol, folder: Path) -> bool:
    jobs = protocol.jobs()  # none where the rules refuse the agent everywhere
    return bool(jobs) and all(job_file(folder, job).exists() for job in jobs)


def _difference(old: Any, new: Any, where: str = "") -> str:
    """The first key at which two plain trees differ, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                return _difference(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            if a != b:
                return _difference(a, b, f"{where}[{index}]")
    if where == "sources.code":
        return f"holds a study made by other code of hvgym than this one (there {old!r}, asked {new!r})"
    return f"holds a study that differs in {where} (there {old!r:.60}, asked {new!r:.60})"


def _read_protocol(path: Path) -> Protocol:
    """Raises `InputError` that names the file when it is of another format, damaged or edited."""
    data = read_json(path)
    found = data["identity"].get("format") if isinstance(data.get("identity"), dict) else None
    if found != FORMAT:
        raise InputError(
            f"{path}: a study of format {found}, this hvgym reads {FORMAT}; its rows stay in results.csv, hvgym bench study=NAME "
            "with another name plays it anew"
        )
    if data.pop("digest", None) != digest(data):
        raise InputError(f"{path}: was changed after it was written (its digest differs); {AGAIN}")
    try:
        identity, agents = data["identity"], tuple(data["agents"])
        suite = Suite.from_dict(identity["suite"] | {"description": "", "agents": [a["name"] for a in agents]})
        protocol = Protocol(suite, agents, tuple(identity["scenarios"]), identity["sources"], data["codes"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: lacks a key ({error}); {AGAIN}") from None
    return protocol


def read_protocol(folder: Path) -> Protocol:
    """Read the protocol of a study. Raises `InputError` when there is none."""
    path = folder / "protocol.json"
    if not path.exists():
        raise InputError(f"{folder}: no study here (protocol.json is missing)")
    return _read_protocol(path)


def read_study(folder: Path) -> tuple[Protocol, list[Done]]:
    """Read the protocol and the finished jobs of a study. Raises `InputError` when there is none."""
    protocol = read_protocol(folder)
    return protocol, [read_job(folder, job) for job in protocol.in_order() if job_file(folder, job).exists()]


def write_results(protocol: Protocol, done: Sequence[Done], path: Path) -> None:
    """Write every row; ``repr`` keeps all digits of a float."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in done:
        agent = result.job.agent["name"]
        for row in result.rows:
            head = [agent, result.job.scenario["name"], result.job.train_seed, row["eval_seed"]]
            writer.writerow([*head, *(repr(row[name]) for name in METRICS), protocol.code(agent)])
    write_atomically(path, text.getvalue())
