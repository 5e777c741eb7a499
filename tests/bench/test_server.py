"""A study at a real MLflow server, on SQLite and PostgreSQL: one that is there, one that dies in the middle, one that never
answers, and a command that is killed while it delivers. Nothing is lost, nothing is there twice.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from hvgym.bench import delivery
from hvgym.bench.protocol import Protocol
from hvgym.bench.recording import Experiment, open_server, open_store, store_uri
from hvgym.bench.remote_tracking import deliver, read_note
from hvgym.bench.report import write_report
from hvgym.bench.study import read_study, run_study
from hvgym.bench.suites import Suite
from hvgym.bench.tracking import Place, make_tracker
from hvgym.bench.views import VIEWS
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group
from hvgym.scripts import cli

pytestmark = pytest.mark.usefixtures("no_pictures")

AGENTS = ("stock", "proxmox", "reference")
SCENARIO = "no-guest-swap-short"
SUITE = Suite("one", "", (SCENARIO,), AGENTS, eval_seeds=2)
PROTOCOL = Protocol(SUITE, tuple(load_group("agent", n) for n in AGENTS), (load(SCENARIO).to_dict(),))
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """``mlflow server``, which may be ended and started again."""

    def __init__(self, store, folder):
        self.port, self.process, self.artifacts = free_port(), None, folder
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1",
                        "--default-artifact-root", "mlflow-artifacts:/", "--artifacts-destination", folder.as_uri(),
                        "--port", str(self.port), "--uvicorn-opts", "--log-level error"]  # fmt: skip

    def start(self):
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        self.process = subprocess.Popen(self.command, env=environment, start_new_session=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        wait_until(self.answers)

    def answers(self):
        try:
            return urllib.request.urlopen(f"{self.url}/health", timeout=5).status == 200
        except OSError:
            assert self.process.poll() is None, "the server ended by itself"
            return False

    def kill(self):
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def wait_until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    started = Server(f"sqlite:///{folder / 'store.db'}", folder / "artifacts")
    started.start()
    yield started
    started.kill()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """The address of a database of a PostgreSQL server of our own, which refuses to run as root."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    if not POSTGRES:
        pytest.skip("no PostgreSQL here (Debian: apt-get install postgresql)")
    tool, folder, port = POSTGRES[-1].parent, Path(f"/tmp/hvgym-postgres-{os.getpid()}"), free_port()
    user = {"user": "postgres"} if os.geteuid() == 0 else {}

    def run(*command):
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, cwd="/", **user)

    run(tool / "initdb", "-D", folder, "-A", "trust", "-U", "hvgym", "--no-sync")
    try:
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        run(tool / "pg_ctl", "-D", folder, "-l", folder / "log", "-o", options, "-w", "start")
        try:
            run(tool / "createdb", "-h", "127.0.0.1", "-p", port, "-U", "hvgym", "mlflow")
            yield f"postgresql+psycopg2://hvgym@127.0.0.1:{port}/mlflow"
        finally:
            run(tool / "pg_ctl", "-D", folder, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Short pauses and no retries; a tracker is made anew whenever one fails."""
    monkeypatch.setattr(delivery, "EVERY_S", 0.05)
    monkeypatch.setattr(delivery, "PAUSES_S", (0.05,))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()  # of this process, by run


def record(runs, url, name, told=lambda done: None):
    """Play a study, recorded at a server; its folder."""
    folder = runs / "studies" / name
    with make_tracker(url, runs, Place(name)) as tracker:
        tracker.start(PROTOCOL, folder, ("stock", "proxmox"))

        def on_done(done, *_):
            tracker.job(done)
            told(done)

        run_study(PROTOCOL, folder, 1, on_done)
        tracker.finish(*write_report(folder))
    return folder


def found(url, name):
    """By stage and name, what the server has of a study: status, metrics, artifacts."""
    client = open_server(url)
    experiment = client.get_experiment_by_name(f"hvgym/{name}")  # None until the first delivery
    runs = [] if experiment is None else client.search_runs([experiment.experiment_id])
    return Counter((run.data.tags["stage"], run.info.run_name) for run in runs), {
        run.info.run_name: (run.info.status, run.data.metrics, {a.path for a in client.list_artifacts(run.info.run_id)})
        for run in runs
    }


def check_whole(url, folder):
    """Everything is there once, with the figures of the study's folder, its files and models."""
    counted, runs = found(url, folder.name)
    names = [agent["name"] for agent in read_study(folder)[0].agents]
    once = [
        ("study", "study"),
        *(("agent", name) for name in names),
        *(("job", f"{name} on {SCENARIO}") for name in names),
    ]
    assert counted == Counter(once)
    assert {status for status, *_ in runs.values()} == {"FINISHED"}
    summary = json.loads((folder / "summary.json").read_text())
    for name in names:
        assert runs[name][1]["score"] == pytest.approx(summary["agents"][name]["score_iqm"], rel=5e-5)
        assert "episodes.json" in runs[f"{name} on {SCENARIO}"][2]
    assert runs["study"][2] >= {"protocol.json", "report.html", "leaderboard.png"}
    client = open_server(url)
    experiment = client.get_experiment_by_name(f"hvgym/{folder.name}")
    assert sorted(model.name for model in client.search_logged_models([experiment.experiment_id])) == [
        "proxmox",
        "stock",
    ]
    note = read_note(folder)
    assert note.whole
    assert note.page.startswith(f"{url}/#/experiments/{experiment.experiment_id}/runs?")


def test_a_study_goes_through_a_server(server, tmp_path):
    folder = record(tmp_path, server.url, "there")
    check_whole(server.url, folder)
    record(tmp_path, server.url, "there")
    check_whole(server.url, folder)
    assert not (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / "artifacts").exists()


def test_artifacts_that_a_server_lost_are_written_again(server, tmp_path):
    """Runs and models stay in its database; files of two jobs, of an agent and of a model are gone."""
    folder = record(tmp_path, server.url, "lost")
    client = open_server(server.url)
    experiment = client.get_experiment_by_name("hvgym/lost").experiment_id
    before = {run.info.run_name: run for run in client.search_runs([experiment])}
    models = {model.name: model.model_id for model in client.search_logged_models([experiment])}
    for name in (f"stock on {SCENARIO}", f"proxmox on {SCENARIO}", "reference"):
        shutil.rmtree(next(server.artifacts.rglob(before[name].info.run_id)))
    (next(server.artifacts.rglob(models["proxmox"])) / "artifacts" / "MLmodel").unlink()
    for _ in range(2):
        assert cli.main(["sync", "lost", f"runs={tmp_path}"]) == 0
        check_whole(server.url, folder)
        after = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}
        kept = {name for name, run in before.items() if after[name] == run.info.run_id}
        assert kept == {"study", "stock", "proxmox", "reference", f"reference on {SCENARIO}"}
        now = {model.name: model.model_id for model in client.search_logged_models([experiment])}
        assert now["stock"] == models["stock"]
        assert now["proxmox"] != models["proxmox"]


def test_a_logged_model_comes_back_through_the_server(server, tmp_path):
    import mlflow

    from hvgym.bench.logged import example_rows

    record(tmp_path, server.url, "models")
    client = open_server(server.url)
    experiment = client.get_experiment_by_name("hvgym/models").experiment_id
    (model,) = client.search_logged_models([experiment], filter_string="name = 'stock'")
    assert mlflow.pyfunc.load_model(model.model_uri).predict(example_rows(4)).shape == (2, 4)


def test_a_server_that_dies_is_one_line_and_gets_the_rest_when_it_is_back(server, tmp_path, capsys):
    jobs = []

    def told(done):
        jobs.append(done.job.name)
        if len(jobs) == 1:
            wait_until(lambda: found(server.url, "dies")[0][("job", jobs[0])])
            server.kill()
        if len(jobs) == 2:
            # said once: that nobody is there, or where a request was under way, that the connection was closed
            wait_until(lambda: "this goes on, and delivers later" in capsys.readouterr().err)
            server.start()

    folder = record(tmp_path, server.url, "dies", told)
    assert capsys.readouterr().err == ""
    check_whole(server.url, folder)


def test_a_study_without_its_server_is_played_and_synchronised_later(server, tmp_path, capsys, monkeypatch):
    server.kill()
    folder = record(tmp_path, server.url, "later")
    refused = f"hvgym: {server.url}: no server there (the connection was refused); this goes on, and delivers later"
    assert capsys.readouterr().err.splitlines() == [
        refused,
        f"hvgym: not everything was delivered; hvgym sync runs={tmp_path} does it",
    ]
    assert len(read_study(folder)[1]) == len(AGENTS)
    assert not read_note(folder).whole
    assert cli.main(["sync", f"runs={tmp_path}"]) == 2
    assert f"{server.url}: no server there" in capsys.readouterr().err
    server.start()
    for _ in range(2):
        assert cli.main(["sync", f"runs={tmp_path}"]) == 0
        check_whole(server.url, folder)
    assert "nothing is missing" in capsys.readouterr().out
    assert cli.main(["sync", "later", f"runs={tmp_path}"]) == 0
    check_whole(server.url, folder)
    nobody = f"http://127.0.0.1:{free_port()}"
    for words in (["later", f"tracking.uri={nobody}"], []):  # it belongs to the new address from the first word on
        assert cli.main(["sync", *words, f"runs={tmp_path}"]) == 2
        assert f"{nobody}: no server there" in capsys.readouterr().err


def test_a_server_that_never_answers_does_not_hold_a_study_up(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(100)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        folder = record(tmp_path, url, "deaf")
        with pytest.raises(InputError, match="no answer in time"):
            deliver(folder, tmp_path, url, Place("deaf"))
    assert f"hvgym: {url}: no answer in time; this goes on" in capsys.readouterr().err
    assert len(read_study(folder)[1]) == len(AGENTS)


def test_a_command_that_is_killed_while_it_delivers_leaves_nothing_half_or_twice(server, tmp_path):
    words = ["bench", "suite=micro", f"scenario={SCENARIO}", "suite.eval_seeds=2", "agents=[proxmox]", "study=killed",
             "workers=1", f"runs={tmp_path}"]  # fmt: skip
    command = [sys.executable, "-m", "hvgym.scripts.cli", *words]
    environment = os.environ | {"MLFLOW_TRACKING_URI": server.url}
    client = open_server(server.url)

    def begun():
        experiment = client.get_experiment_by_name("hvgym/killed")
        return experiment and client.search_runs([experiment.experiment_id], "tags.stage = 'job'")

    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        wait_until(begun)
        os.killpg(process.pid, signal.SIGKILL)
    folder = tmp_path / "studies" / "killed"
    assert not read_note(folder).whole
    assert cli.main(["sync", f"runs={tmp_path}"]) == 0
    assert cli.main([*words, f"tracking.uri={server.url}"]) == 0
    check_whole(server.url, folder)


def test_a_capacity_goes_where_the_environment_says(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    words = [
        "hypervisor=kvm",
        "agents=[stock,static]",
        "fleets=2",
        "most_ratio=1.0",
        "study=c",
        "workers=1",
        f"runs={tmp_path}",
    ]
    assert cli.main(["capacity", *words]) == 0
    assert f"fleets, recorded at {server.url}\n" in capsys.readouterr().out
    client = open_server(server.url)
    runs = client.search_runs([client.get_experiment_by_name("hvgym/capacity/c").experiment_id])
    assert {(run.info.run_name, run.info.status) for run in runs} == {
        (name, "FINISHED") for name in ("capacity idle-giants", "stock", "static")
    }
    assert list(tmp_path.glob("mlflow*")) == []
    assert os.environ["MLFLOW_TRACKING_URI"] == server.url


def test_what_a_server_missed_of_tuning_capacity_and_training_is_delivered_by_sync(server, tmp_path, capsys):
    """All three while it is down; then once, with the figures that the same commands record."""
    server.kill()
    common = [f"runs={tmp_path}", f"tracking.uri={server.url}"]
    small = ["agent.train.total_steps=500", "agent.train.envs=8", "agent.train.validations=2", "validation_seeds=1"]
    commands = {
        "training": ["train", f"scenario={SCENARIO}", *small],
        "tune": ["tune", "agent=proxmox", f"scenario={SCENARIO}", "rules=open", "trials=3", "seeds=2", "seeds_per_report=1",
                 "finalists=1", "validation_seeds=2", "study=t"],
        "capacity": ["capacity", "hypervisor=kvm", "agents=[stock,static]", "fleets=2", "most_ratio=1.0", "study=c", "workers=1"],
    }  # fmt: skip
    for words in commands.values():
        assert cli.main([*words, *common]) == 0
        assert "not everything was delivered; hvgym sync" in capsys.readouterr().err
    assert cli.main(["sync", f"runs={tmp_path}"]) == 2
    assert capsys.readouterr().err.count(f"hvgym: {server.url}: no server there") == 3
    server.start()

    def recorded():
        client, kept = open_server(server.url), []
        for name in ("train", "tune/t", "capacity/c"):
            experiment = client.get_experiment_by_name(f"hvgym/{name}")
            for run in client.search_runs([experiment.experiment_id]):
                files = sorted(file.path for file in client.list_artifacts(run.info.run_id))
                kept.append(
                    (
                        name,
                        run.info.run_name,
                        run.info.run_id,
                        run.info.status,
                        run.data.metrics,
                        run.data.params,
                        files,
                    )
                )
        return sorted(kept, key=str)

    assert cli.main(["sync", f"runs={tmp_path}"]) == 0
    once = recorded()
    assert Counter(name for name, *_ in once) == {"train": 1, "tune/t": 4, "capacity/c": 3}
    assert {run[3] for run in once} == {"FINISHED"}
    files = {(name, title): of_it for name, title, *_, of_it in once}
    assert {"trials.csv", "trials.png", "proxmox_tuned.yaml", "tuning.json"} <= set(files["tune/t", "tune proxmox"])
    assert {"family.json", "capacity.png"} <= set(files["capacity/c", "capacity idle-giants"])
    assert {"training.json", "environment.json"} <= set(files["train", f"ppo-{SCENARIO}-0"])
    best = open_server(server.url).get_model_version_by_alias(f"ppo-{SCENARIO}", "best")
    assert best.run_id in {run[2] for run in once}
    assert capsys.readouterr().err == ""
    assert cli.main(["sync", f"runs={tmp_path}"]) == 0
    assert "nothing is missing" in capsys.readouterr().out
    for words in commands.values():  # the server has nothing less than from the commands themselves, and nothing twice
        assert cli.main([*words, *common]) == 0
    assert recorded() == once
    for name in ("t", "c", f"ppo-{SCENARIO}-0"):
        assert cli.main(["sync", name, f"runs={tmp_path}"]) == 0
    assert recorded() == once


def test_a_training_names_the_experiment_that_it_is_in(server, tmp_path, capsys):
    """Where hvgym/train has its files on the server's own machine, it is in another one."""
    client = open_server(server.url)
    if there := client.get_experiment_by_name("hvgym/train"):
        client.rename_experiment(there.experiment_id, "hvgym/before")
    client.create_experiment("hvgym/train", artifact_location=(tmp_path / "of the server's owner").as_uri())
    small = ["agent.train.total_steps=256", "agent.train.envs=8", "agent.train.validations=1", "validation_seeds=1"]
    words = ["train", f"scenario={SCENARIO}", *small, f"runs={tmp_path}", f"tracking.uri={server.url}"]
    assert cli.main(words) == 0
    *_, place, model = capsys.readouterr().out.splitlines()
    number = client.get_experiment_by_name("hvgym/train (server)").experiment_id
    assert place.startswith(f"MLflow UI: {server.url}/#/experiments/{number}/runs?")
    assert place.endswith("(experiment hvgym/train (server))")
    assert model == f"best model: {tmp_path / 'training' / f'ppo-{SCENARIO}-0' / 'best.zip'}"


def test_trainings_of_an_owner_and_of_a_colleague_are_recorded_side_by_side(tmp_path):
    """Through the owner's server, whose store is the owner's own; whoever comes first."""
    for first in ("local", "server"):
        owner, colleague = tmp_path / first / "owner", tmp_path / first / "colleague"
        colleague.mkdir(parents=True)
        open_store(owner)
        served = Server(store_uri(owner), owner / "artifacts")
        served.start()
        try:
            for who in (first, "server", "local"):
                here, url = (owner, "") if who == "local" else (colleague, served.url)
                if who == "server":  # the owner's files are not on the colleague's machine
                    hidden = [path.rename(tmp_path / path.name) for path in (owner / "artifacts").glob("train*")]
                experiment = Experiment(here, "train", url)
                experiment.open(VIEWS["train"])
                run = experiment.create(who, {}, 1_600_000_000_000)
                experiment.text(run, who, "a.txt")
                if who == "server":
                    for path in hidden:
                        path.rename(owner / "artifacts" / path.name)
            client = open_store(owner)
            names = {one.experiment_id: one.name for one in client.search_experiments() if one.name != "Default"}
            assert set(names.values()) == {"hvgym/train", f"hvgym/train ({'server' if first == 'local' else 'local'})"}
            counted = Counter((names[r.info.experiment_id], r.info.run_name) for r in client.search_runs(list(names)))
            other = "server" if first == "local" else "local"
            assert counted == {("hvgym/train", first): 2, (f"hvgym/train ({other})", other): 1}
        finally:
            served.kill()


def test_a_study_goes_through_a_server_on_postgresql(postgres, tmp_path):
    server = Server(postgres, tmp_path / "artifacts-of-server")
    try:
        server.start()
        folder = record(tmp_path, server.url, "postgres")
        check_whole(server.url, folder)
        deliver(folder, tmp_path, server.url, Place("postgres"))
        check_whole(server.url, folder)
    finally:
        server.kill()
