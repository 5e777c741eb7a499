"""Engines: the same bits as one process, also where a worker is lost; and what is wrong with them in one line."""

import importlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hvgym.bench import trial, workers
from hvgym.bench.engines import HOSTS
from hvgym.bench.identity import codes_of, sources
from hvgym.bench.jobs import job_file
from hvgym.bench.protocol import Protocol
from hvgym.bench.pump import Call, LostError, Place, Pump, perform
from hvgym.bench.study import run_study
from hvgym.bench.suites import Suite
from hvgym.bench.workers import Engine, called, crew, each
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group
from hvgym.scripts import cli

SCENARIO = load("no-guest-swap-short").to_dict()

DEADLY = """
import os, signal
from pathlib import Path
from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets


class Deadly(Policy):
    \"\"\"Kills the process that plays it, once.\"\"\"

    def decide(self, telemetry):
        mark = Path(os.environ["HVGYM_TEST_MARK"])
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Targets(telemetry.vm["memory_mib"] * 0.9)
"""


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    """A study whose first worker to play one of its agents is killed by that, and what one process makes of it."""
    place = tmp_path / "code"
    place.mkdir()
    (place / "deadly_once.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(str(place))
    importlib.invalidate_caches()
    monkeypatch.setenv("HVGYM_TEST_MARK", str(tmp_path / "mark"))
    agents = (
        load_group("agent", "stock"),
        load_group("agent", "reference"),
        {"name": "deadly", "_target_": "deadly_once.Deadly"},
    )
    suite = Suite("one", "", ("no-guest-swap-short",), tuple(agent["name"] for agent in agents), eval_seeds=2)
    protocol = Protocol(suite, agents, (SCENARIO,), sources([SCENARIO]), codes_of(agents))
    (tmp_path / "mark").touch()
    run_study(protocol, tmp_path / "one", 1)
    (tmp_path / "mark").unlink()
    yield protocol
    sys.modules.pop("deadly_once", None)


@pytest.mark.parametrize(
    ("engine", "package"),
    [
        (Engine("joblib", {"n_jobs": 2}), "joblib"),
        (Engine("slurm", {"cluster": "local", "tasks": 2}), "submitit"),
    ],
    ids=["joblib", "slurm"],
)
def test_a_study_whose_worker_is_killed_ends_in_the_bits_of_one_process(deadly, tmp_path, engine, package):
    pytest.importorskip(package)
    run_study(deadly, tmp_path / "many", engine)
    assert (tmp_path / "mark").exists()
    assert (tmp_path / "many" / "results.csv").read_bytes() == (tmp_path / "one" / "results.csv").read_bytes()
    assert not (tmp_path / "many" / "claims").exists()
    assert not (tmp_path / "many" / "slurm").exists()


def test_two_processes_on_one_folder_play_each_job_once(deadly, tmp_path):
    """As where a worker outlives the process that led: a second one plays the same jobs at the same time."""
    (tmp_path / "mark").touch()
    code = ("import sys, pickle; from pathlib import Path; from hvgym.bench.jobs import run_once\n"
            "for job in pickle.load(sys.stdin.buffer): run_once(job, Path(sys.argv[1]))")  # fmt: skip
    import pickle

    folder, jobs = tmp_path / "two", deadly.jobs()
    path = os.pathsep.join([str(tmp_path / "code"), os.environ.get("PYTHONPATH", "")])
    others = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}
        )
        for _ in range(2)
    ]
    for other, order in zip(others, (jobs, jobs[::-1]), strict=True):
        other.communicate(pickle.dumps(order), timeout=100)
        assert other.returncode == 0
    starts = [(folder / "progress" / f"{job.key}.jsonl").read_text().count('"start"') for job in jobs]
    assert starts == [1] * len(jobs)
    run_study(deadly, folder, 1)
    assert (folder / "results.csv").read_bytes() == (tmp_path / "one" / "results.csv").read_bytes()
    assert all(job_file(folder, job).exists() for job in jobs)


class Threads:
    """An engine of threads, that loses the first worker of each call as often as it is told."""

    def __init__(self, losses, again):
        self.again, self._losses, self._pool = again, losses, ThreadPoolExecutor(2)

    def share(self, waiting, running):
        return 1

    def start(self, calls):
        return self._pool.submit(perform, Place.here(), list(calls))

    def outcomes(self, handle):
        if not handle.done():
            return None
        if self._losses:
            self._losses -= 1
            raise LostError("gone")
        return handle.result()


def answered(pump, function, *arguments):
    pump.start()
    try:
        return pump.submit(function, *arguments).result(20)
    finally:
        pump.end()


def test_a_lost_call_is_given_again_and_at_last_given_up():
    assert answered(Pump(Threads(3, again=3)), pow, 2, 5) == 32
    with pytest.raises(InputError, match=r"its workers ended by themselves.*gone.*the same command goes on"):
        answered(Pump(Threads(4, again=3)), pow, 2, 5)


def test_an_error_of_a_call_is_its_own_and_one_of_the_engine_ends_all_calls():
    with pytest.raises(InputError, match="ZeroDivisionError"):
        answered(Pump(Threads(0, again=0)), pow, 0, -1)

    class Broken(Threads):
        def start(self, calls):
            raise RuntimeError("no such partition")

    with pytest.raises(InputError, match=r"no such partition.*finished jobs are safe"):
        answered(Pump(Broken(0, 0)), pow, 2, 5)


def test_a_worker_with_other_code_refuses_to_play():
    ((value, error),) = perform(Place((), ".", "0000"), [Call(pow, (2, 5))])
    assert value is None
    assert "its hvgym has other code" in str(error)


def test_bundles_get_smaller_as_the_rest_does():
    """100 calls, 4 batch jobs at a time: an eighth of the rest each."""
    pytest.importorskip("submitit")
    host = HOSTS["slurm"]({"cluster": "local", "tasks": 4}, Path("unused"))
    assert [host.share(waiting, 0) for waiting in (100, 50, 8, 1, 0)] == [13, 7, 1, 1, 0]
    assert host.share(100, 4) == 0


def test_each_gives_what_is_finished_first_and_one_worker_plays_in_order(tmp_path):
    seen = [item for item, _ in each([3, 1, 2], lambda submit, item: submit(pow, item, 2), 1, tmp_path, str)]
    assert seen == [3, 1, 2]
    with crew(1, tmp_path, list) as submit:
        assert called(submit, pow, [(2, 3), (3, 2)]) == called(None, pow, [(2, 3), (3, 2)]) == [8, 9]


def test_a_learners_trial_is_told_alike_by_a_crew_and_waits_for_trainings_that_are_in_vain(monkeypatch, tmp_path):
    ended = []

    def train(agent, place, seed, folder, report, progress):
        folder.mkdir(parents=True)
        for i, score in enumerate(place.curve, 1):
            report(score, 10 * i, i == len(place.curve))
        time.sleep(place.takes)
        ended.append(folder.name)
        return max(place.curve), 10 * len(place.curve)

    class Ground:
        def __init__(self, name, curve, takes=0.0):
            self.scenario, self.curve, self.takes = type("S", (), {"name": name}), curve, takes

    monkeypatch.setattr(trial, "_train", train)
    agent = load_group("agent", "ppo")
    places = [Ground("one", [0.2, 0.4]), Ground("two", [0.1, 0.8]), Ground("three", [0.5], 0.3)]

    def told(folder, submit):
        points = []
        score = trial.learn(agent, places, 0, tmp_path / folder, lambda *point: points.append(point), None, submit)
        return score, points

    with ThreadPoolExecutor(3) as pool:
        assert told("alone", None) == told("crew", pool.submit)
        ended.clear()

        def stop(*point):
            raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            trial.learn(agent, places, 0, tmp_path / "stopped", stop, None, pool.submit)
        assert "three" in ended


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "workers=rya",
            "workers=rya: expected a number of processes, or one of joblib, ray, slurm (did you mean 'ray'?)",
        ),
        ("workers=0", "workers=0: expected a whole number, at least 1"),
        ("workers=2 engine.num_cpus=2", "engine.num_cpus: is of an engine; give workers=joblib|ray|slurm, too"),
        ("workers=slurm engine=3", "engine=3: expected keys of an engine"),
        ("workers=joblib engine.cores=2", "engine.cores: joblib takes n_jobs, a whole number"),
        (
            "workers=slurm",
            "workers=slurm: no Slurm here (srun is not found); engine.cluster=local plays on this machine",
        ),
        ("workers=slurm engine.cluster=local engine.tasks=x", "engine.tasks='x': expected a whole number, at least 1"),
        ("workers=slurm engine.cluster=local engine.partition=x", "workers=slurm: "),
    ],
)
def test_what_an_engine_cannot_do_is_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    for package in ("joblib", "submitit"):
        pytest.importorskip(package)
    command = ["bench", "scenario=no-guest-swap-short", "agents=[proxmox]", "suite.eval_seeds=2", "tracking=none"]
    assert cli.main([*command, f"runs={tmp_path}", *words.split()]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"hvgym: {message}")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.rglob("jobs"))


@pytest.mark.parametrize("engine", workers.ENGINES)
def test_a_missing_package_is_named_with_the_command_that_installs_it(engine, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(workers.NEEDS, engine, "no_such_package_here")
    for verb in ("bench", "capacity", "tune", "train"):
        assert cli.main([verb, f"workers={engine}", f"runs={tmp_path}", "tracking=none"]) == 2
        assert f"workers={engine}: its package is missing; pip install 'hvgym[{engine}]'" in capsys.readouterr().err


def test_ctrl_c_ends_the_workers(tmp_path):
    """Of the engine that leaves processes of its own behind."""
    pytest.importorskip("submitit")
    job = 0
    try:
        with crew(Engine("slurm", {"cluster": "local", "tasks": 1}), tmp_path, list) as submit:
            submit(time.sleep, 1000.0)
            while not (found := list((tmp_path / "slurm").glob("*_submitted.pkl"))):
                time.sleep(0.05)
            job = int(found[0].name.partition("_")[0])
            assert workers_of(job)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    for _ in range(600):
        if not workers_of(job):
            return
        time.sleep(0.05)
    pytest.fail("a worker is left")


def workers_of(controller):
    """Processes that submitit's controller has started, and itself."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(stat.parent.name)
        if words[0] != "Z" and (pid == controller or int(words[1]) == controller):
            found.append(pid)
    return found
