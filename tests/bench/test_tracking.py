"""What MLflow holds: the leaderboard, every job once, and policies that load back."""

from pathlib import Path

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.bench import suites
from hvgym.bench.logged import columns, from_row, to_rows
from hvgym.bench.protocol import Protocol
from hvgym.bench.report import write_report
from hvgym.bench.rollout import rollout
from hvgym.bench.study import run_study
from hvgym.bench.suites import Suite
from hvgym.bench.tracking import (
    MlflowTracker,
    make_tracker,
    open_store,
    policy_model,
    read_leaderboard,
)
from hvgym.envs.scenario import load, load_group

AGENTS = ("stock", "proxmox", "ppo", "reference")
TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces" / "bitbrains_rnd_2013-8"


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    suite = Suite("one", "", ("no-guest-swap-short",), AGENTS, eval_seeds=2, validation_seeds=1)
    ppo = {
        "total_steps": 2000,
        "envs": 8,
        "n_steps": 16,
        "batch_size": 64,
        "n_epochs": 1,
        "validations": 2,
        "hidden": [8],
    }
    agents = tuple(load_group("agent", name) | ({"train": ppo} if name == "ppo" else {}) for name in AGENTS)
    protocol = Protocol(suite, agents, (load("no-guest-swap-short").to_dict(),))
    folder = runs / "studies" / "one"
    for _ in range(2):  # the second run finds everything done
        tracker = MlflowTracker(runs, "one")
        tracker.start(protocol, models=AGENTS)
        done = run_study(protocol, folder, 1, lambda result, *_, tracker=tracker: tracker.job(result, folder))
        summary, files = write_report(folder)
        tracker.finish(summary, files)
    return runs, folder, done, summary


def test_the_leaderboard_is_read_back_with_mlflows_client(tracked):
    runs, _, _, summary = tracked
    metrics = read_leaderboard(runs, "one")
    for agent, result in summary["agents"].items():
        for name in ("score_iqm", "score_lo", "score_hi", "goodput"):
            assert metrics[f"{agent}/{name}"] == result[name]


def test_a_store_whose_creation_was_cut_short_is_made_anew(tmp_path):
    (tmp_path / ".mlflow.db.new").write_bytes(b"half a database")
    open_store(tmp_path)
    assert (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / ".mlflow.db.new").exists()


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_study_that_stops_is_marked_and_goes_on(tmp_path, error, status):
    agents = tuple(load_group("agent", name) for name in ("stock", "reference"))
    suite = Suite("one", "", ("no-guest-swap-short",), ("stock", "reference"), eval_seeds=2)
    protocol = Protocol(suite, agents, (load("no-guest-swap-short").to_dict(),))

    def statuses():
        client = open_store(tmp_path)
        return [run.info.status for run in client.search_runs([client.get_experiment_by_name("hvgym/s").experiment_id])]

    def stop():
        with make_tracker("mlflow", tmp_path, "s") as tracker:
            tracker.start(protocol)
            raise error

    with pytest.raises(error):
        stop()
    assert statuses() == [status]
    with make_tracker("mlflow", tmp_path, "s") as tracker:
        tracker.start(protocol)
        assert statuses() == ["RUNNING"]


def test_no_warning_of_mlflow_reaches_the_user(recwarn):
    policy_model(load_group("agent", "stock"))
    assert [str(w.message) for w in recwarn if "type hint" in str(w.message)] == []


def children(runs):
    client = open_store(runs)
    experiment = client.get_experiment_by_name("hvgym/one")
    found = client.search_runs([experiment.experiment_id], max_results=100)
    return client, [run for run in found if "mlflow.parentRunId" in run.data.tags], [
        run for run in found if "mlflow.parentRunId" not in run.data.tags
    ]  # fmt: skip


def test_a_second_run_of_a_finished_study_records_nothing_twice(tracked):
    _, jobs, parents = children(tracked[0])
    assert len(parents) == 1
    assert sorted(run.data.params["agent"] for run in jobs) == sorted(AGENTS)


def test_jobs_carry_metrics_parameters_curve_and_episodes(tracked):
    client, jobs, parents = children(tracked[0])
    ppo = next(run for run in jobs if run.data.params["agent"] == "ppo")
    done = next(d for d in tracked[2] if d.job.agent["name"] == "ppo")
    assert ppo.data.metrics["goodput"] == np.mean([row["goodput"] for row in done.rows])
    assert ppo.data.params["agent.train.total_steps"] == "2000"
    curve = client.get_metric_history(ppo.info.run_id, "validation_goodput")
    assert [(m.step, m.value) for m in curve] == [(int(p["steps"]), p["score"]) for p in done.curve]
    assert {a.path for a in client.list_artifacts(ppo.info.run_id)} >= {"episodes.json", "scenario.json"}
    assert {a.path for a in client.list_artifacts(parents[0].info.run_id)} >= {
        "report.html",
        "leaderboard.png",
        "results.csv",
    }


def readings(policy):
    """What the policy saw in an episode, and what it answered."""
    seen, answered = [], []
    original = policy.decide

    def decide(telemetry):
        seen.append(telemetry)
        answered.append(original(telemetry))
        return answered[-1]

    policy.decide = decide
    rollout(load("no-guest-swap-short"), policy, [3])
    left = np.full(seen[0].vm.shape, np.nan)
    sizes = [left if targets.memory_mib is None else targets.memory_mib for targets in answered]
    return seen, np.concatenate(sizes)


@pytest.mark.parametrize("agent", ["stock", "proxmox", "ppo"])
def test_a_logged_policy_loads_back_and_gives_the_same_targets(tracked, agent):
    import mlflow

    runs, folder, done, _ = tracked
    client, jobs, _ = children(runs)
    run = next(run for run in jobs if run.data.params["agent"] == agent)
    (logged,) = client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    model = mlflow.pyfunc.load_model(logged.model_uri)
    result = next(d for d in done if d.job.agent["name"] == agent)
    checkpoint = {"checkpoint": str(folder / result.model)} if result.model else {}
    seen, answered = readings(make_policy(result.job.agent, **checkpoint))
    targets = model.predict(to_rows(seen))
    assert list(targets.columns) == [f"vm{v}.target_mib" for v in range(4)]
    np.testing.assert_array_equal(targets.to_numpy(), answered)


def test_rows_of_a_reading_round_trip(tracked):
    seen, _ = readings(make_policy(load_group("agent", "proxmox")))
    table = to_rows(seen)
    assert list(table.columns) == columns(4)
    again = from_row(table.to_numpy()[5], 4)
    assert again.vm[0].tobytes() == seen[5].vm[0].tobytes()
    assert again.host[0].tobytes() == seen[5].host[0].tobytes()


@pytest.mark.skipif(not TRACES.exists(), reason="the public trace files are not beside this checkout")
def test_a_leaderboard_on_real_traces_is_in_the_database(tmp_path):
    suite = Suite("traced", "", ("tight-hdd", "idle-giants"), ("stock", "proxmox", "reference"), eval_seeds=2)
    workload = load_group("workload", "bitbrains") | {"path": str(TRACES)}
    scenarios = tuple(suites.scenario_of(name, workload=workload).to_dict() for name in suite.scenarios)
    protocol = Protocol(suite, tuple(load_group("agent", name) for name in suite.agents), scenarios)
    tracker = MlflowTracker(tmp_path, "traced")
    tracker.start(protocol)
    folder = tmp_path / "studies" / "traced"
    run_study(protocol, folder, 1, lambda done, *_: tracker.job(done, folder))
    tracker.finish(*write_report(folder))
    metrics = read_leaderboard(tmp_path, "traced")
    assert metrics["stock/score_iqm"] == 0.0
    assert metrics["reference/goodput"] > metrics["stock/goodput"]
