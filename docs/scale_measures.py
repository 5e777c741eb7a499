"""What ``docs/scale.py`` measures: jobs, workers, claims, files, and what records them."""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hvgym.bench import usage
from hvgym.bench.engines import engaged
from hvgym.bench.jobs import Done, job_file, run_job, run_once
from hvgym.bench.jobs import text_of as text_of_job
from hvgym.bench.progress import file_of, read
from hvgym.bench.protocol import Job, Protocol
from hvgym.bench.report import write_report
from hvgym.bench.study import run_study
from hvgym.bench.suites import Suite
from hvgym.bench.tracking import Place, make_tracker
from hvgym.bench.workers import Engine
from hvgym.envs.files import write_atomically
from hvgym.envs.scenario import load, load_group

FIRST_JOB = """
import sys, time; began = time.process_time()
from pathlib import Path
from hvgym.bench.jobs import run_once
from hvgym.bench.protocol import Job
from hvgym.envs.scenario import load, load_group
run_once(Job(load_group("agent", "stock"), load("no-guest-swap-short").to_dict(), 0, 1, 1), Path(sys.argv[1]))
print(time.process_time())
"""
"""A worker's first job, which is a short one: nearly all of it is Python's imports, and what is compiled read from the disk."""

CLAIMANT = """
import sys, time
from pathlib import Path
from hvgym.bench.claims import once
folder, done = Path(sys.argv[1]), []
def work(file):
    file.touch(); done.append(file); return True
print("ready", flush=True); sys.stdin.readline()
began, key = time.monotonic(), 0
while time.monotonic() - began < 3.0:
    file = folder / f"{key}.done"
    if not file.exists():
        once(folder / "claims", str(key), lambda: file.exists() or None, lambda: work(file))
    key += 1
print(len(done))
"""
"""Takes one claim after another, in the same order as all others; what another one has done counts for that one."""


def job_s(suite: str) -> dict[str, float]:
    """Processor seconds of a job on a suite's scenarios, of a policy and of the reference."""
    plan = Suite.from_dict(load_group("suite", suite))
    found = dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        for agent in ("proxmox", "reference"):
            seconds = []
            for name in plan.scenarios:
                job = Job(load_group("agent", agent), load(name).to_dict(), 0, plan.eval_seeds, 1)
                run_job(job, Path(folder))
                seconds.append(usage.of(read(file_of(Path(folder), job.key))).get("cpu_s", 0.0))
            found[agent] = statistics.mean(seconds)
    return found


def operations() -> int:
    """Files that a job opens, renames and removes in the study's folder, each claim and line of progress included."""
    with tempfile.TemporaryDirectory() as folder:
        seen = list[str]()

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(folder):
                seen.append(event)

        sys.addaudithook(hook)
        run_once(Job(load_group("agent", "stock"), load("no-guest-swap-short").to_dict(), 0, 1, 1), Path(folder))
        return len(seen)


def start_s() -> float:
    """Processor seconds until a worker's process has played its first job; the second of two, for what is compiled is kept."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2):
            ran = subprocess.run(
                [sys.executable, "-c", FIRST_JOB, f"{folder}/{number}"], capture_output=True, text=True, check=True
            )
    return float(ran.stdout)


def call_s(calls: int = 400) -> dict[str, float]:
    """Seconds of the leading process a call that does nothing, by engine."""
    found = dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        for name, options in {"joblib": {"n_jobs": 2}, "ray": {}, "slurm": {"cluster": "local", "tasks": 2}}.items():
            with engaged(Engine(name, options), Path(folder)) as submit:
                submit(pow, 2, 2).result()
                began = time.process_time()
                for future in [submit(pow, 2, 2) for _ in range(calls)]:
                    future.result()
                found[name] = (time.process_time() - began) / calls
    return found


def claims_per_s(claimants: int) -> float:
    """Claims that are taken, kept and removed a second, by so many processes in one folder that all want the same ones."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", CLAIMANT, folder]
        others = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(claimants)
        ]
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()
        return sum(float(other.communicate("\n")[0]) for other in others) / 3.0


def files_s(count: int, size: int) -> dict[str, float]:
    """Seconds for one of so many files in a folder, written whole and onto the disk, looked for, and read."""
    with tempfile.TemporaryDirectory(dir=".") as place:
        folder, content = Path(place), b"x" * size
        began = time.perf_counter()
        for number in range(count):
            write_atomically(folder / f"{number:016x}.json", content)
        wrote = time.perf_counter()
        assert all((folder / f"{number:016x}.json").exists() for number in range(count))
        looked = time.perf_counter()
        for path in folder.iterdir():
            path.read_bytes()
        return {
            "write": (wrote - began) / count,
            "look": (looked - wrote) / count,
            "read": (time.perf_counter() - looked) / count,
        }


def finished_study(folder: Path, agents: int, scenarios: int) -> tuple[Protocol, list[Done]]:
    """A study whose jobs are all there: one short job played for each scenario and kind of agent, and copied."""
    short = load("no-guest-swap-short").to_dict()
    copies = tuple(short | {"name": f"short-{number}"} for number in range(scenarios))
    policies = [load_group("agent", "proxmox") | {"name": f"proxmox-{number}"} for number in range(agents - 2)]
    all_agents = (*policies, load_group("agent", "stock"), load_group("agent", "reference"))
    suite = Suite(
        "copies", "", tuple(one["name"] for one in copies), tuple(one["name"] for one in all_agents), eval_seeds=8
    )
    protocol, played, found = Protocol(suite, all_agents, copies), dict[str, Done](), list[Done]()
    for job in protocol.jobs():
        kind = job.agent["name"].partition("-")[0]
        if kind not in played:
            played[kind] = run_job(job, folder)
        found.append(replace(played[kind], job=job))
        write_atomically(job_file(folder, job), text_of_job(found[-1]))
    return protocol, found


def sizes(folder: Path, done: Done) -> dict[str, int]:
    """Bytes that a job leaves."""
    return {
        "result": job_file(folder, done.job).stat().st_size,
        "progress": file_of(folder, done.job.key).stat().st_size,
    }


def leader_s(protocol: Protocol, folder: Path) -> tuple[float, float]:
    """Processor seconds a finished job that is read, checked and written as rows; and of the report in all."""
    began = time.process_time()
    count = len(run_study(protocol, folder, 1))
    read_s = (time.process_time() - began) / count
    began = time.process_time()
    write_report(folder)
    return read_s, time.process_time() - began


def recorded_s(protocol: Protocol, done: list[Done], folder: Path, kind: str) -> float:
    """Seconds on the clock a job, recorded under `folder` or at a server."""
    runs = folder.parents[1]
    summary, files = json.loads((folder / "summary.json").read_text()), [folder / "report.html"]
    with make_tracker(kind, runs, Place("warm")) as tracker:
        tracker.start(protocol, folder)
    began = time.perf_counter()
    with make_tracker(kind, runs, Place(f"scale-{time.monotonic_ns()}")) as tracker:
        tracker.start(protocol, folder)
        for one in done:
            tracker.job(one)
        tracker.finish(summary, files)
    return (time.perf_counter() - began) / len(done)


def free_port() -> int:
    """Of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(store: str, artifacts: Path) -> Iterator[str]:
    """An ``mlflow server`` on a store, with one process."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1", "--port", str(port),
               "--default-artifact-root", "mlflow-artifacts:/", "--artifacts-destination", artifacts.as_uri()]  # fmt: skip
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "mlflow server ended by itself"
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 9)
        server.wait()


@contextmanager
def postgres() -> Iterator[str | None]:
    """The address of a database of a PostgreSQL of our own, which refuses to run as root; None where there is none."""
    tools = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not tools:
        yield None
        return
    folder, port, user = (
        Path(f"/tmp/hvgym-scale-{os.getpid()}"),
        str(free_port()),
        {"user": "postgres"} if os.geteuid() == 0 else {},
    )

    def run(tool: str, *words: str) -> None:
        subprocess.run([tools[-1].with_name(tool), *words], check=True, stdout=subprocess.DEVNULL, cwd="/", **user)

    run("initdb", "-D", str(folder), "-A", "trust", "-U", "hvgym")
    try:
        run(
            "pg_ctl",
            "-D",
            str(folder),
            "-l",
            f"{folder}/log",
            "-o",
            f"-h 127.0.0.1 -p {port} -k {folder}",
            "-w",
            "start",
        )
        run("createdb", "-h", "127.0.0.1", "-p", port, "-U", "hvgym", "mlflow")
        yield f"postgresql+psycopg2://hvgym@127.0.0.1:{port}/mlflow"
    finally:
        subprocess.run(
            [tools[-1], "-D", folder, "-m", "immediate", "-w", "stop"], cwd="/", stdout=subprocess.DEVNULL, **user
        )
        shutil.rmtree(folder, ignore_errors=True)
