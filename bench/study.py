"""A study: a protocol, a job per agent, scenario, training seed and block of evaluation seeds, and rows in a folder.

    runs/studies/NAME/protocol.json   what is compared, with a hash
                      jobs/KEY.json   one finished job; KEY is the hash of its resolved configuration
                      models/         networks, trained here or named by the command
                      progress/       how far jobs were, while they ran (``progress``)
                      results.csv     all rows, floats in full, with the digest of the code that made them
                      vms.csv         of somebody's own VMs, what each got (``by_vm``)
                      summary.json    scores with intervals

A job file appears whole or not at all, so a study that was killed goes on where it stopped: finished jobs are read,
the others run (a training from its last checkpoint), and the results are the same to the bit. Agents, scenarios and seeds
may be added later (``growing``); an agent whose own code was edited is played anew, and its old job files
stay. Anything else that differs from the protocol is refused, nothing is overwritten. Reading a study imports and calls nothing
that it names.
"""

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import hvgym
from hvgym.bench import by_vm
from hvgym.bench.claims import claims_of, leading
from hvgym.bench.growing import Settled, joined, to_dict
from hvgym.bench.jobs import AGAIN, Done, digest, job_file, read_job, read_json, run_jobs
from hvgym.bench.protocol import FORMAT, Protocol
from hvgym.bench.rollout import METRICS
from hvgym.bench.suites import Suite
from hvgym.bench.workers import Workers
from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically

COLUMNS = ("agent", "scenario", "train_seed", "eval_seed", *METRICS, "code")


@contextmanager
def opened(protocol: Protocol, folder: Path) -> Iterator[Protocol]:
    """Hold the study of a folder for this process alone; gives the protocol joined with the one that is there.

    Raises `InputError` when another process holds it, or when it differs in more than what may be added (``growing``).
    """
    with locked(folder):
        yield _agree(protocol, folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a study's folder, those of other machines too; may be nested."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock((folder / ".lock").resolve(), is_singleton=True)
    nested = lock.is_locked
    try:
        lock.acquire(timeout=0.2)  # ``standing.is_held`` holds it for an instant
    except Timeout:
        raise InputError(
            f"{folder}: another hvgym process is working on this study; wait, or choose study=NAME"
        ) from None
    try:
        with nullcontext() if nested else leading(folder):
            yield
    finally:
        lock.release()


def run_study(
    protocol: Protocol,
    folder: Path,
    workers: Workers,
    on_done: Callable[[Done, int, int], None] = lambda done, finished, total: None,
) -> list[Done]:
    """Have what is missing played (``workers``); return all finished jobs in protocol order.

    on_done(job, finished, total) is called in this process for every job, also for those that an earlier run had
    finished.
    """
    with opened(protocol, folder) as protocol:
        jobs = protocol.jobs()
        done = {job.key: read_job(folder, job) for job in jobs if job_file(folder, job).exists()}
        for count, result in enumerate(tuple(done.values()), 1):
            on_done(result, count, len(jobs))
        waiting = [job for job in jobs if job.key not in done]
        for wave in ([job for job in waiting if not job.trained_by], [job for job in waiting if job.trained_by]):
            for result in run_jobs(wave, folder, workers):  # a learner's later blocks need the network of its first
                done[result.job.key] = result
                on_done(result, len(done), len(jobs))
        ordered = [done[job.key] for job in protocol.in_order()]
        write_results(protocol, ordered, folder / "results.csv")
        by_vm.write(ordered, folder / "vms.csv")
        shutil.rmtree(claims_of(folder), ignore_errors=True)  # what processes that were killed have left
    return ordered


def _agree(protocol: Protocol, folder: Path) -> Protocol:
    """Join the protocol with the one in the folder (``growing``)."""
    path, settled = folder / "protocol.json", None
    if path.exists():
        protocol, settled = joined(protocol, *_read_protocol(path), folder)
    content = {"hash": protocol.hash, "identity": protocol.identity, "agents": protocol.agents, "codes": protocol.codes}
    content |= {"hvgym": hvgym.__version__} | _growth(protocol, settled)
    write_atomically(path, json.dumps(content | {"digest": digest(content)}, indent=1))
    return protocol


def _growth(protocol: Protocol, settled: Settled | None) -> dict[str, Any]:
    """What the file of a study that has grown holds beside; nothing for any other."""
    grown = {"blocks": protocol.blocks, "sources_of": protocol.sources_of}
    grown["settled"] = to_dict(settled) if settled else {}
    return {key: value for key, value in grown.items() if value}


def _read_protocol(path: Path) -> tuple[Protocol, Settled | None]:
    """A protocol, and what was finished before it last grew. Raises `InputError` that names the file when it is of another format,
    damaged or edited.
    """
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
        blocks, sources_of = tuple(data.get("blocks", ())), data.get("sources_of", {})
        protocol = Protocol(
            suite, agents, tuple(identity["scenarios"]), identity["sources"], data["codes"], blocks, sources_of
        )
        settled = Settled.from_dict(data["settled"]) if "settled" in data else None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: lacks a key ({error}); {AGAIN}") from None
    return protocol, settled


def read_protocol(folder: Path) -> Protocol:
    """Read the protocol of a study. Raises `InputError` when there is none."""
    path = folder / "protocol.json"
    if not path.exists():
        raise InputError(f"{folder}: no study here (protocol.json is missing)")
    return _read_protocol(path)[0]


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
