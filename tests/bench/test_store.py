"""MLflow's store: moved, locked, damaged, without its artifacts, on a full disk, under odd names."""

import shutil
import sqlite3
from contextlib import closing

import mlflow
import pytest

from hvgym.bench import store
from hvgym.bench.identity import code_of
from hvgym.bench.logged import example_rows
from hvgym.bench.protocol import Protocol
from hvgym.bench.recording import open_store
from hvgym.bench.study import run_study
from hvgym.bench.suites import Suite
from hvgym.bench.tracking import Place, make_tracker
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group

NAMES = ("stock", "reference")
SUITE = Suite("one", "", ("no-guest-swap-short",), NAMES, eval_seeds=2)
PROTOCOL = Protocol(SUITE, tuple(load_group("agent", n) for n in NAMES), (load("no-guest-swap-short").to_dict(),))


def record(runs, protocol=PROTOCOL, models=NAMES):
    folder = runs / "studies" / "s"
    with make_tracker("mlflow", runs, Place("s")) as tracker:
        tracker.start(protocol, folder, models)
        run_study(protocol, folder, 1, lambda done, *_: tracker.job(done))
        tracker.finish({"agents": {}, "beaten": []}, [folder / "results.csv"])


def names(*agents):
    """Of the runs of a study of these."""
    return {"study", *agents, *(f"{agent} on no-guest-swap-short" for agent in agents)}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    runs = tmp_path_factory.mktemp("recorded") / "runs"
    record(runs)
    return runs


@pytest.fixture
def runs(recorded, tmp_path):
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()  # of this process, by run; another command has none
    return shutil.copytree(recorded, tmp_path / "other place")


def found(runs):
    """(run's name, artifacts' place, artifacts, logged models) of every run: "study", AGENT, or AGENT on SCENARIO."""
    client = open_store(runs)
    experiment = client.get_experiment_by_name("hvgym/s").experiment_id
    for run in client.search_runs([experiment]):
        query = f"source_run_id = '{run.info.run_id}'"
        models = client.search_logged_models([experiment], filter_string=query)
        artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        yield run.info.run_name, store.path_of(run.info.artifact_uri), artifacts, models


def test_a_folder_of_runs_that_was_moved_records_and_loads_in_its_new_place(recorded, runs):
    before = {path: path.stat().st_mtime_ns for path in recorded.rglob("*")}
    more = Protocol(SUITE, (*PROTOCOL.agents, load_group("agent", "proportional")), PROTOCOL.scenarios)
    record(runs, more, ("stock", "proportional"))
    seen = list(found(runs))
    assert {name for name, *_ in seen} == names("stock", "reference", "proportional")
    for agent, place, artifacts, models in seen:
        assert place.is_relative_to(runs)
        of_job = "episodes.json" if " on " in agent else "agent.json"
        assert artifacts >= ({"protocol.json", "results.csv"} if agent == "study" else {of_job})
        if agent in ("stock", "proportional"):
            assert mlflow.pyfunc.load_model(models[0].model_uri).predict(example_rows(4)).shape == (2, 4)
    assert {path: path.stat().st_mtime_ns for path in recorded.rglob("*")} == before
    with sqlite3.connect(runs / "mlflow.db") as connection:
        assert not [line for line in connection.iterdump() if recorded.as_uri() in line]


@pytest.mark.parametrize("name", ["ü b (1)", "100% q?x", "p%20q#x"])
def test_any_name_of_a_folder_will_do(tmp_path, name, made_store):
    client = open_store(tmp_path / name)
    run = client.create_run(client.create_experiment("e", (tmp_path / name / "artifacts" / "e").as_uri()))
    client.log_dict(run.info.run_id, {"a": 1}, "a.json")
    assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == ["a.json"]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(list((tmp_path / name).rglob("a.json"))) == 1
    assert (tmp_path / name / "mlflow.db").is_file()


def test_artifacts_that_were_deleted_are_made_anew_and_what_is_there_is_left(runs):
    seen = {name: place for name, place, *_ in found(runs)}
    shutil.rmtree(seen["reference on no-guest-swap-short"])
    shutil.rmtree(seen["reference"])
    record(runs)
    again = {name: place for name, place, *_ in found(runs)}
    assert again["stock on no-guest-swap-short"] == seen["stock on no-guest-swap-short"]
    assert again["reference on no-guest-swap-short"] != seen["reference on no-guest-swap-short"]
    shutil.rmtree(runs / "artifacts")
    record(runs)
    for agent, _, artifacts, models in found(runs):
        assert artifacts
        if agent == "stock":
            assert mlflow.pyfunc.load_model(models[0].model_uri).predict(example_rows(4)).shape == (2, 4)


def test_a_model_that_is_gone_is_logged_again(runs):
    (model,) = next(models for agent, _, _, models in found(runs) if agent == "stock")
    shutil.rmtree(store.path_of(model.artifact_location))
    record(runs)
    (model,) = next(models for agent, _, _, models in found(runs) if agent == "stock")
    assert (store.path_of(model.artifact_location) / "MLmodel").is_file()


def test_a_policy_that_the_command_did_not_choose_is_not_logged_until_it_does(tmp_path):
    record(tmp_path, models=())
    assert not any(models for *_, models in found(tmp_path))
    record(tmp_path)
    assert [agent for agent, _, _, models in found(tmp_path) if models] == ["stock"]


def test_an_experiment_that_was_deleted_in_the_ui_comes_back(runs):
    client = open_store(runs)
    client.delete_experiment(client.get_experiment_by_name("hvgym/s").experiment_id)
    record(runs)
    assert {name for name, *_ in found(runs)} == names(*NAMES)


def test_a_model_carries_the_code_that_lies_beside_its_yaml(tmp_path, monkeypatch):
    (tmp_path / "carried.py").write_text(
        "from hvgym.agents.policy import Policy\nfrom hvgym.envs.telemetry import Targets\n"
        "class Half(Policy):\n    def decide(self, telemetry):\n        return Targets(telemetry.vm['memory_mib'] / 2)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    agent = {"name": "half", "_target_": "carried.Half"}
    protocol = Protocol(SUITE, (*PROTOCOL.agents, agent), PROTOCOL.scenarios, codes={"half": code_of(agent)})
    record(tmp_path / "runs", protocol, ("half",))
    (model,) = next(models for agent, _, _, models in found(tmp_path / "runs") if agent == "half")
    assert (store.path_of(model.artifact_location) / "code" / "carried.py").is_file()


def test_a_locked_store_is_one_line(runs, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE_S", 0.1)
    other = sqlite3.connect(runs / "mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(InputError, match=r"mlflow.db: locked by another program; wait for it or end it, or choose tr"):
        open_store(runs)
    other.close()
    open_store(runs)


@pytest.mark.parametrize("at", [0, 40_000])
def test_a_damaged_store_is_one_line(runs, at):
    with (runs / "mlflow.db").open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 60_000)
    with pytest.raises(InputError, match=r"mlflow.db: damaged; move it away and a new one is made"):
        open_store(runs)


def test_a_database_of_something_else_is_one_line(runs):
    with closing(sqlite3.connect(runs / "mlflow.db")) as connection, connection:
        connection.execute("DROP TABLE experiments")
    with pytest.raises(InputError, match=r"mlflow\.db: no store of this MLflow; move it away") as told:
        open_store(runs)
    assert "\n" not in str(told.value)


def test_a_full_disk_while_mlflow_records_is_one_line_and_leaves_the_rows(tmp_path, monkeypatch):
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(LocalArtifactRepository, "log_artifact", full)
        with pytest.raises(
            InputError, match=r"no space left on device while MLflow recorded; make room; finished jobs"
        ):
            record(tmp_path)
    record(tmp_path)
    assert {name for name, *_ in found(tmp_path)} == names(*NAMES)
