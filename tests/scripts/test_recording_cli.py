"""What ``hvgym train`` and sweeps (``-m``) leave in MLflow."""

import pytest

from hvgym.bench.recording import open_store
from tests.scripts.calling import hvgym as called

pytestmark = pytest.mark.usefixtures("no_pictures")


def hvgym(*words, cwd):
    return called(*words, cwd=cwd).stdout


def runs_of(folder, name):
    client = open_store(folder / "runs")
    experiment = client.get_experiment_by_name(f"hvgym/{name}")
    return client, client.search_runs([experiment.experiment_id])


def test_a_sweep_is_one_experiment_with_a_row_for_each_agent_and_combination(tmp_path):
    words = ["suite=micro", "suite.eval_seeds=2", "scenario=no-guest-swap-short", "agents=[proxmox]", "workers=1"]
    hvgym("bench", "-m", "hypervisor=kvm,xen", "rules=open", *words, "study=w", cwd=tmp_path)
    _, found = runs_of(tmp_path, "w")
    rows = [run for run in found if run.data.tags["stage"] == "agent"]
    assert sorted((run.data.params["agent"], run.data.params["hypervisor"]) for run in rows) == [
        (agent, hypervisor) for agent in ("proxmox", "reference", "stock") for hypervisor in ("kvm", "xen")
    ]
    assert all(set(run.data.params) == {"agent", "hypervisor"} for run in rows)
    studies = {run.info.run_name for run in found if run.data.tags["stage"] == "study"}
    assert studies == {"study, hypervisor=kvm", "study, hypervisor=xen"}
    client, _ = runs_of(tmp_path, "w")
    said = client.get_experiment_by_name("hvgym/w").tags["mlflow.note.content"]
    for run in (run for run in found if run.data.tags["stage"] == "study"):
        heading = f"#### {run.info.run_name}\n[report](#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/"
        assert said.count(f"{heading}report.html)\n") == 1
        assert "report.html" in {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {path.name for path in (tmp_path / "runs" / "studies").iterdir()} == {"w-hypervisor=kvm", "w-hypervisor=xen"}
    hvgym("report", "study=w-hypervisor=kvm", "tracking=local", cwd=tmp_path)
    hvgym("sync", "study=w-hypervisor=xen", "tracking.uri=local", cwd=tmp_path)
    client, again = runs_of(tmp_path, "w")
    assert {run.info.run_id for run in again} == {run.info.run_id for run in found}
    assert {one.name for one in client.search_experiments()} == {"Default", "hvgym/w"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    command = ["train", "-m", "scenario=no-guest-swap-short", "agent.train.total_steps=2000", "agent.train.envs=8",
               "agent.train.validations=2", "validation_seeds=1", "agent.train.gamma=0.9,0.95"]  # fmt: skip
    for _ in range(2):  # the second finds everything done
        hvgym(*command, cwd=folder)
    return folder


def test_each_training_is_a_run_with_its_curve_beside_the_levels(trained):
    client, found = runs_of(trained, "train")
    assert sorted(run.data.params["agent.train.gamma"] for run in found) == ["0.9", "0.95"]
    for run in found:
        assert run.info.status == "FINISHED"
        assert run.data.tags["kind"] == "learner"
        assert run.data.tags["visibility"] == "P1"
        curve = client.get_metric_history(run.info.run_id, "validation_goodput")
        for name in ("stock", "reference"):
            level = client.get_metric_history(run.info.run_id, f"validation_goodput_{name}")
            assert [point.step for point in level] == [point.step for point in curve]
        assert run.data.metrics["best_validation_goodput"] == max(point.value for point in curve)
        assert client.get_metric_history(run.info.run_id, "reward")
        assert run.info.start_time <= min(point.timestamp for point in curve) <= run.info.end_time
        contexts = {one.tags[0].value for one in run.inputs.dataset_inputs}
        assert contexts == {"train", "validation"}


def test_its_network_is_a_model_and_the_best_has_the_alias(trained):
    client, found = runs_of(trained, "train")
    models = client.search_logged_models([found[0].info.experiment_id])
    assert [model.name for model in models] == ["ppo-no-guest-swap-short-0"] * 2
    best = max(found, key=lambda run: run.data.metrics["best_validation_goodput"])
    version = client.get_model_version_by_alias("ppo-no-guest-swap-short", "best")
    assert float(version.tags["validation_goodput"]) == best.data.metrics["best_validation_goodput"]


def test_without_tracking_nothing_is_recorded(tmp_path):
    command = ["train", "scenario=no-guest-swap-short", "agent.train.total_steps=500", "agent.train.envs=8", "tracking=none",
               "agent.train.validations=1", "validation_seeds=1"]  # fmt: skip
    assert "MLflow" not in hvgym(*command, cwd=tmp_path)
    assert not (tmp_path / "runs" / "mlflow.db").exists()
