"""What MLflow holds of a study: a row an agent, every job once below it, curves, inputs, times, and policies that load back."""

import json
import math
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from hvgym.agents.policy import make_policy
from hvgym.bench import suites, usage, views
from hvgym.bench.bulk import fits
from hvgym.bench.job_times import span_ms
from hvgym.bench.logged import columns, example_rows, from_row, to_rows
from hvgym.bench.models import policy_model
from hvgym.bench.parented import Parented
from hvgym.bench.progress import Progress, by_step, file_of, read
from hvgym.bench.protocol import Protocol, learns
from hvgym.bench.recording import Experiment, open_store
from hvgym.bench.report import write_report
from hvgym.bench.rollout import rollout
from hvgym.bench.study import opened, run_study
from hvgym.bench.study_tracking import MlflowTracker
from hvgym.bench.suites import Suite
from hvgym.bench.summary import tabulate
from hvgym.bench.tracking import Place, make_tracker
from hvgym.bench.training_tracking import Training, TrainingTracker
from hvgym.envs.scenario import load, load_group

pytestmark = pytest.mark.usefixtures("no_pictures")

AGENTS = ("stock", "proxmox", "ppo", "reference")
TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces" / "bitbrains_rnd_2013-8"
SMALL_PPO = {
    "total_steps": 2000,
    "envs": 8,
    "n_steps": 16,
    "batch_size": 64,
    "n_epochs": 1,
    "validations": 2,
    "width": 8,
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A store without runs, which takes seconds to make: a copy is as good, for stores may be moved."""
    open_store(folder := tmp_path_factory.mktemp("empty"))
    return folder / "mlflow.db"


@pytest.fixture
def runs(empty, tmp_path):
    return fresh(tmp_path, empty)


def fresh(folder, empty):
    folder.mkdir(exist_ok=True)
    shutil.copy(empty, folder)
    return folder


def protocol_of(*names, eval_seeds=2, train_seeds=1, scenarios=("no-guest-swap-short",)):
    suite = Suite("one", "", scenarios, names, eval_seeds=eval_seeds, validation_seeds=1, train_seeds=train_seeds)
    agents = tuple(load_group("agent", name) | ({"train": SMALL_PPO} if name == "ppo" else {}) for name in names)
    return Protocol(suite, agents, tuple(load(name).to_dict() for name in scenarios))


def record(runs, protocol, models=(), place=None):
    folder = runs / "studies" / "one"
    with make_tracker("mlflow", runs, place or Place("one")) as tracker:
        tracker.start(protocol, folder, models)
        done = run_study(protocol, folder, 1, lambda result, *_: tracker.job(result))
        summary, files = write_report(folder)
        tracker.finish(summary, files)
    return done, summary


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    runs, protocol = tmp_path_factory.mktemp("runs"), protocol_of(*AGENTS, train_seeds=2)
    began = time.time()
    for _ in range(2):  # the second finds everything done
        done, summary = record(runs, protocol, AGENTS)
    return runs, done, summary, protocol, (began, time.time())


def found(runs, name="one"):
    """The client, and the runs of an experiment by stage."""
    client = open_store(runs)
    experiment = client.get_experiment_by_name(f"hvgym/{name}")
    stages = {"study": [], "agent": [], "job": [], "training": []}
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        stages[run.data.tags["stage"]].append(run)
    return client, stages


def of_agent(runs, agent, stage="agent"):
    return [run for run in found(runs)[1][stage] if run.data.params["agent"] == agent]


def test_each_agent_is_one_row_with_the_figures_of_the_summary(tracked):
    _, stages = found(tracked[0])
    assert sorted(run.info.run_name for run in stages["agent"]) == sorted(AGENTS)
    assert not any("mlflow.parentRunId" in run.data.tags for run in (*stages["agent"], *stages["study"]))
    names = {"score": "score_iqm", "score_lo": "score_lo", "score_hi": "score_hi", "goodput": "goodput", "kills": "oom_kills",
             "slo_missed_s": "cost", "p99_slowdown": "p99_slowdown", "host_swap_s": "host_swap_s"}  # fmt: skip
    for run in stages["agent"]:
        figures = tracked[2]["agents"][run.info.run_name]
        for shown, name in names.items():
            assert run.data.metrics[shown] == pytest.approx(figures[name], rel=5e-5)
            assert len(repr(run.data.metrics[shown])) <= 8  # as wide as its column
        assert len(run.data.metrics) <= 15
        assert run.info.status == "FINISHED"


def test_a_second_run_of_a_finished_study_records_nothing_twice(tracked):
    client, stages = found(tracked[0])
    assert [len(stages[stage]) for stage in ("study", "agent", "job")] == [1, 4, 5]
    assert len({run.data.tags["hvgym.job"] for run in stages["job"]}) == 5
    for run in (*stages["agent"], *stages["job"]):
        assert {len(client.get_metric_history(run.info.run_id, name)) for name in ("goodput", "score")} == {1}
    experiment = client.get_experiment_by_name("hvgym/one").experiment_id
    assert len(client.search_logged_models([experiment])) == 4  # stock, proxmox, two networks
    assert len(client.search_model_versions("name = 'ppo-no-guest-swap-short'")) == 2


def test_jobs_lie_below_their_agent_with_their_own_score_and_their_episodes(tracked):
    runs, done, _, protocol, _ = tracked
    client, stages = found(runs)
    parents = {run.info.run_id: run.info.run_name for run in stages["agent"]}
    scores = tabulate(protocol, done).scores
    jobs = {run.data.tags["hvgym.job"]: run for run in stages["job"]}
    for result in done:
        run, agent = jobs[result.job.key], result.job.agent["name"]
        assert parents[run.data.tags["mlflow.parentRunId"]] == agent == run.data.params["agent"]
        assert run.data.metrics["goodput"] == np.mean([row["goodput"] for row in result.rows])
        assert run.data.metrics["score"] == pytest.approx(scores[agent][0, result.job.train_seed].mean(), abs=1e-12)
        table = client.load_table(run.info.experiment_id, "episodes.json", run_ids=[run.info.run_id])
        assert table["eval_seed"].tolist() == [2_000_000_000, 2_000_000_001]
        kept = json.loads(Path(client.download_artifacts(run.info.run_id, "episodes.json")).read_text())
        assert [dict(zip(kept["columns"], row, strict=True)) for row in kept["data"]] == result.rows


def test_times_are_those_of_the_job_and_not_of_its_recording(tracked):
    runs, done, _, _, (began, ended) = tracked
    client, stages = found(runs)
    (study,) = stages["study"]
    for result in done:
        (run,) = [run for run in stages["job"] if run.data.tags["hvgym.job"] == result.job.key]
        folder = runs / "studies" / "one"
        lines = read(file_of(folder, result.job.key))
        assert run.info.start_time == round(lines[0]["at"] * 1000)
        assert run.info.end_time == round(lines[-1]["at"] * 1000)
        (point,) = client.get_metric_history(run.info.run_id, "goodput")
        assert point.timestamp == run.info.end_time
        (agent,) = [run for run in stages["agent"] if run.info.run_name == result.job.agent["name"]]
        assert study.info.start_time <= agent.info.start_time <= run.info.start_time <= run.info.end_time
        assert run.info.end_time <= agent.info.end_time <= study.info.end_time
    assert 1000 * began <= study.info.start_time
    assert study.info.end_time <= 1000 * ended


def test_a_job_ends_with_its_progress_also_in_a_copy_of_its_folder(tmp_path):
    result, progress = tmp_path / "result.json", tmp_path / "progress.jsonl"
    result.write_text("{}")
    os.utime(result, (300, 300))
    assert span_ms(result, read(progress)) == (300_000, 300_000)
    progress.write_text('{"at": 100, "what": "start"}\n{"at": 101, "what": "play"}\n')
    assert span_ms(result, read(progress)) == (100_000, 300_000)
    with progress.open("a") as file:
        file.write('{"at": 102, "what": "end"}\n')
    assert span_ms(result, read(progress)) == (100_000, 102_000)


def test_what_jobs_took_stands_on_their_runs_and_summed_on_those_above(tracked):
    runs, done, *_ = tracked
    _, stages = found(runs)
    took = {d.job.key: usage.of(read(file_of(runs / "studies" / "one", d.job.key))) for d in done}

    def system(run):
        return {name[7:]: value for name, value in run.data.metrics.items() if name.startswith("system/")}

    for run in stages["job"]:
        assert system(run) == took[run.data.tags["hvgym.job"]]
        assert system(run)["cpu_s"] > 0.0
        assert 50.0 < system(run)["peak_rss_mib"] < 100_000.0
    for agent in stages["agent"]:
        below = [system(run) for run in stages["job"] if run.data.tags["mlflow.parentRunId"] == agent.info.run_id]
        assert system(agent)["cpu_s"] == pytest.approx(sum(one["cpu_s"] for one in below))
        assert system(agent)["peak_rss_mib"] == max(one["peak_rss_mib"] for one in below)
    (study,) = stages["study"]
    assert system(study)["wall_s"] == pytest.approx(sum(one["wall_s"] for one in took.values()))


def test_what_a_job_took_is_that_of_the_last_go_in_which_it_worked():
    def end(cpu_s):
        return {"what": "end", "cpu_s": cpu_s, "wall_s": 2 * cpu_s, "peak_rss_mib": 10 * cpu_s}

    start, work = {"what": "start"}, {"what": "train"}
    assert usage.of([start, work, end(1.0), start, work, end(2.0), start, {"what": "end"}])["cpu_s"] == 2.0
    assert (
        usage.of([start, end(0.1)])["cpu_s"] == 0.1
    )  # its only line of work came too soon after the first to be written
    assert usage.of([start, work, end(1.0), start, work]) == {}
    assert usage.of([start, work, {"what": "end"}]) == {}
    both = usage.together([usage.of([start, work, end(cpu_s)]) for cpu_s in (1.0, 3.0)] + [{}])
    assert both == {"cpu_s": 4.0, "wall_s": 8.0, "peak_rss_mib": 30.0}


def test_runs_are_told_apart_by_tags(tracked):
    _, stages = found(tracked[0])
    kinds = {run.info.run_name: run.data.tags for run in stages["agent"]}
    assert {name: tags["kind"] for name, tags in kinds.items()} == {
        "stock": "stock", "proxmox": "heuristic", "ppo": "learner", "reference": "clairvoyant"
    }  # fmt: skip
    assert (kinds["proxmox"]["seat"], kinds["proxmox"]["visibility"]) == ("outside", "P1")
    for run in (*stages["study"], *stages["agent"], *stages["job"]):
        tags = run.data.tags
        assert (tags["suite"], tags["hypervisor"], tags["rules"], tags["study"]) == ("one", "esxi", "open", "one")
        assert tags["mlflow.user"]
        assert tags["mlflow.source.name"] == "hvgym bench"
        assert tags["hvgym.version"]


def test_parameters_are_what_differs():
    from hvgym.bench.run_contents import differing

    plain = {"description": "x", "_target_": "a.B", "seat": "inside"}
    agents = [
        plain | {"name": "a", "gain": 1.0, "period_s": 10, "train": {"gamma": 0.9, "envs": 8}, "alone": 1},
        plain | {"name": "b", "gain": 2.0, "period_s": 10, "train": {"gamma": 0.8, "envs": 8}},
        plain | {"name": "c", "gain": 1.0},
    ]
    assert differing(agents) == {
        "a": {"agent.gain": 1.0, "agent.train.gamma": 0.9},
        "b": {"agent.gain": 2.0, "agent.train.gamma": 0.8},
        "c": {"agent.gain": 1.0},
    }


def test_the_learning_curve_stands_at_its_steps_and_times_with_its_levels(tracked):
    runs, done, *_ = tracked
    client, stages = found(runs)
    for result in done:
        if not learns(result.job.agent):
            continue
        (run,) = [run for run in stages["job"] if run.data.tags["hvgym.job"] == result.job.key]
        lines = read(file_of(runs / "studies" / "one", result.job.key))
        for metric, what, name in [("validation_goodput", "validate", "goodput"), ("reward", "train", "reward"),
                                   ("loss", "train", "loss"), ("entropy", "train", "entropy")]:  # fmt: skip
            points = client.get_metric_history(run.info.run_id, metric)
            wanted = [(step, line[name], round(line["at"] * 1000)) for step, line in by_step(lines, what).items()]
            assert sorted((p.step, p.value, p.timestamp) for p in points) == wanted
            assert wanted
        curve = client.get_metric_history(run.info.run_id, "validation_goodput")
        assert sorted((p.step, p.value) for p in curve) == [(int(p["steps"]), p["score"]) for p in result.curve]
        levels = {}
        for name in ("stock", "reference"):
            points = client.get_metric_history(run.info.run_id, f"validation_goodput_{name}")
            assert sorted(p.step for p in points) == sorted(p.step for p in curve)
            (levels[name],) = {p.value for p in points}
        validation = suites.split_of(load("no-guest-swap-short"), "validation")
        stock = rollout(validation, make_policy(load_group("agent", "stock")), suites.seeds("validation", 1))
        assert levels["stock"] == stock.goodput.mean() < levels["reference"]


def test_a_training_that_runs_is_shown_step_by_step_and_nothing_twice(runs):
    protocol = protocol_of("stock", "ppo", "reference")
    folder = runs / "studies" / "one"
    (job,) = [job for job in protocol.jobs() if learns(job.agent)]
    tracker = MlflowTracker(runs, Place("one"))
    tracker.start(protocol, folder, ["ppo"])
    tracker.look()
    assert found(runs)[1]["job"] == []
    with Progress(file_of(folder, job.key), job.name, 100) as progress:
        progress.trained(steps=10, total=100, reward=0.5, loss=1.0, entropy=2.0)
        progress.validated(50, 100, goodput=0.75)
        for _ in range(2):
            tracker.look()
            client, stages = found(runs)
            (run,), (agent,) = stages["job"], stages["agent"]
            assert (run.info.status, agent.info.status) == ("RUNNING", "RUNNING")
            assert run.data.tags["mlflow.parentRunId"] == agent.info.run_id
            assert [p.step for p in client.get_metric_history(run.info.run_id, "validation_goodput")] == [50]
        progress.validated(100, 100, goodput=0.875)
        tracker.look()
        assert [p.value for p in client.get_metric_history(run.info.run_id, "validation_goodput")] == [0.75, 0.875]
    tracker.stopped("KILLED")
    assert {run.info.status for of_it in found(runs)[1].values() for run in of_it} == {"KILLED"}


def test_a_training_whose_run_is_deleted_while_it_is_shown_is_recorded_whole(tracked, runs):
    source, done, _, protocol, _ = tracked
    folder = source / "studies" / "one"
    result = next(d for d in done if learns(d.job.agent))
    tracker = MlflowTracker(runs, Place("one"))
    tracker.start(protocol, folder)
    tracker.look()
    client, stages = found(runs)
    (live,) = [run for run in stages["job"] if run.data.tags["hvgym.job"] == result.job.key]
    client.delete_run(live.info.run_id)
    tracker.job(result)
    (again,) = [run for run in found(runs)[1]["job"] if run.data.tags["hvgym.job"] == result.job.key]
    assert again.info.status == "FINISHED"
    curve = client.get_metric_history(again.info.run_id, "validation_goodput")
    assert sorted((p.step, p.value) for p in curve) == [(int(p["steps"]), p["score"]) for p in result.curve]


def training_of(result, source, runs):
    """The training of a study's job as one by ``hvgym train``, and its tracker."""
    job, folder = result.job, runs / "training" / "one"
    folder.mkdir(parents=True)
    shutil.copy(file_of(source / "studies" / "one", job.key), folder / "progress.jsonl")
    (folder / "training.json").write_text("{}")
    training = Training(
        job.agent, (job.scenario,), job.scenario["name"], 0, job.validation_seeds, folder, {}, job.sources
    )
    return training, TrainingTracker(runs, training), source / "studies" / "one" / result.model


@pytest.mark.parametrize("looks", [0, 2])
def test_a_run_of_train_that_is_deleted_meanwhile_is_recorded_whole(tracked, runs, looks):
    source, done, *_ = tracked
    result = next(d for d in done if learns(d.job.agent))
    training, tracker, model = training_of(result, source, runs)
    tracker.start()
    tracker.look()
    client = open_store(runs)
    experiment = client.get_experiment_by_name("hvgym/train").experiment_id
    (run,) = client.search_runs([experiment])
    client.delete_run(run.info.run_id)
    with Progress(training.folder / "progress.jsonl", "one", 100) as progress:
        progress.validated(100, 100, goodput=0.5)
    ended_ms = round(read(training.folder / "progress.jsonl")[-2]["at"] * 1000)
    with (training.folder / "progress.jsonl").open("a") as file:  # the same command, later
        file.writelines(f'{{"at": {time.time() + 77}, "what": "{what}"}}\n' for what in ("start", "end"))
    for _ in range(looks):
        tracker.look()
    tracker.finish(model, result.curve)
    (again,) = client.search_runs([experiment])
    assert (again.info.status, again.info.end_time) == ("FINISHED", ended_ms)
    curve = client.get_metric_history(again.info.run_id, "validation_goodput")
    assert {(int(p["steps"]), p["score"]) for p in result.curve} <= {(p.step, p.value) for p in curve}
    assert len(client.search_logged_models([experiment])) == 1


def test_a_parent_ends_with_its_last_child_and_the_same_command_changes_nothing(runs):
    def contents():
        parented = Parented(runs, "tune/one", runs)
        parented.open("key", "one", "", {}, 1000, {})
        parented.child("1", "first", [("score", 1.0, 0)], {}, (2000, 5000), {}, {})
        parented.child("0", "second", [("score", 2.0, 0)], {}, (1000, 3000), {}, {})
        parented.close([("best", 2.0, 0)], {}, [])
        client = open_store(runs)
        (parent,) = [
            run.info.run_id for run in client.search_runs([parented.experiment[1]]) if run.info.run_name == "one"
        ]
        run, points = client.get_run(parent), client.get_metric_history(parent, "best")
        return run.info.start_time, run.info.end_time, run.info.status, [point.timestamp for point in points]

    assert contents() == (1000, 5000, "FINISHED", [5000])
    assert contents() == (1000, 5000, "FINISHED", [5000])


def test_a_training_that_lost_its_episodes_is_recorded_anew_with_one_model(tracked, runs):
    source, done, summary, protocol, _ = tracked
    folder = source / "studies" / "one"

    def models():
        with make_tracker("mlflow", runs, Place("one")) as tracker:
            tracker.start(protocol, folder, ["ppo"])
            for result in done:
                tracker.job(result)
            tracker.finish(summary, [])
        client, stages = found(runs)
        experiment = client.get_experiment_by_name("hvgym/one").experiment_id
        trainings = {run.info.run_id for run in stages["job"] if run.data.params["agent"] == "ppo"}
        return {model.source_run_id: model.name for model in client.search_logged_models([experiment])}, trainings

    first, trainings = models()
    assert set(first) == trainings
    lost = min(trainings)
    (episodes,) = runs.glob(f"artifacts/one/{lost}/artifacts/episodes.json")
    episodes.unlink()
    again, trainings = models()
    assert lost not in again
    assert set(again) == trainings
    assert sorted(again.values()) == sorted(first.values())


def test_a_study_says_what_it_was_played_on(tracked):
    runs, _, summary, protocol, _ = tracked
    client, stages = found(runs)
    (study,) = stages["study"]
    artifacts = {file.path for file in client.list_artifacts(study.info.run_id)}
    assert artifacts >= {"protocol.json", "report.html", "leaderboard.png", "results.csv", "environments"}
    text = client.download_artifacts(study.info.run_id, "environments/no-guest-swap-short.json")
    spec = EnvSpec.from_json(Path(text).read_text())
    assert spec.id == "hvgym/Host-v1"
    assert spec.kwargs["scenario"] == json.loads(json.dumps(protocol.scenarios[0]))
    for note in (study.data.tags["mlflow.note.content"],
                 client.get_experiment_by_name("hvgym/one").tags["mlflow.note.content"]):  # fmt: skip
        rows = [line.split(" | ") for line in note.splitlines() if line.startswith("| ")][1:]
        assert [row[0].strip("| ") for row in rows] == sorted(AGENTS, key=lambda a: -summary["agents"][a]["score_iqm"])
    inputs = {run.info.run_name: run.inputs.dataset_inputs for run in stages["agent"]}
    contexts = {name: sorted(one.tags[0].value for one in of_it) for name, of_it in inputs.items()}
    assert contexts["ppo"] == ["test", "train", "validation"]
    assert contexts["proxmox"] == ["test"]
    (test,) = [one.dataset for one in inputs["ppo"] if one.tags[0].value == "test"]
    assert test.digest == inputs["stock"][0].dataset.digest
    assert json.loads(test.source)["seeds"] == "2000000000 to 2000000001"
    for run in stages["job"]:
        of_job = {one.tags[0].value: one.dataset for one in run.inputs.dataset_inputs}
        learner = run.data.tags["kind"] == "learner"
        assert sorted(of_job) == (["test", "train", "validation"] if learner else ["test"])
        assert json.loads(of_job["test"].source)["seeds"] == "2000000000 to 2000000001"
        if learner:
            first = json.loads(of_job["train"].source)["first_seeds"]
            assert first == str(suites.training_seed(int(run.data.params["train_seed"])))


def test_inputs_written_at_once_are_those_that_the_client_writes(empty, tmp_path, monkeypatch):
    """The file of the store and the client's calls hold the same: name, digest, context, source, profile."""
    kept = []
    for at_once in (True, False):
        runs = fresh(tmp_path / str(at_once), empty)
        monkeypatch.setattr("hvgym.bench.bulk.fits", lambda database, at_once=at_once: at_once)
        record(
            runs, protocol_of("stock", "proxmox", "reference", scenarios=("no-guest-swap-short", "idle-giants-short"))
        )
        inputs = [
            (run.info.run_name, one.tags[0].key, one.tags[0].value, one.dataset.to_dictionary())
            for of_it in found(runs)[1].values()
            for run in of_it
            for one in run.inputs.dataset_inputs
        ]
        with closing(sqlite3.connect(runs / "mlflow.db")) as connection:
            assert connection.execute("SELECT count(*) FROM datasets").fetchone()[0] == 3  # all, and each scenario's
        kept.append(sorted(inputs, key=str))
    assert kept[0] == kept[1]
    assert len(kept[0]) == 9


def test_an_agents_run_begins_with_the_first_of_its_jobs_that_began(tracked, runs):
    """Another one may be finished before it."""
    source, done, *_, protocol, _ = tracked
    folder = source / "studies" / "one"
    first, last = sorted(
        (d for d in done if learns(d.job.agent)), key=lambda d: read(file_of(folder, d.job.key))[0]["at"]
    )
    tracker = MlflowTracker(runs, Place("one"))
    tracker.start(protocol, folder)
    tracker.job(last)
    tracker.job(first)
    (agent,) = of_agent(runs, "ppo")
    assert agent.info.start_time == round(read(file_of(folder, first.job.key))[0]["at"] * 1000)


def test_other_demand_has_another_digest():
    from hvgym.bench.provenance import demands

    def digest(**keywords):
        protocol = protocol_of("stock", "reference", **keywords)
        return demands(protocol, protocol.agents[0])[0].digest

    assert len({digest(), digest(eval_seeds=3), digest(scenarios=("no-guest-swap-short", "idle-giants-short"))}) == 3


def test_what_is_deleted_while_a_study_runs_is_there_in_the_end(runs):
    protocol, folder = protocol_of("stock", "proxmox", "reference"), runs / "studies" / "one"
    with make_tracker("mlflow", runs, Place("one")) as tracker:
        tracker.start(protocol, folder, ["proxmox"])
        run_study(protocol, folder, 1, lambda result, *_: tracker.job(result))
        client, stages = found(runs)
        (agent,) = of_agent(runs, "proxmox")
        (job,) = of_agent(runs, "stock", "job")
        for run in (*stages["study"], agent, job):
            client.delete_run(run.info.run_id)
        tracker.finish(*write_report(folder))
    _, stages = found(runs)
    assert [len(stages[stage]) for stage in ("study", "agent", "job")] == [1, 3, 3]
    parents = {run.info.run_id for run in stages["agent"]}
    assert {run.data.tags["mlflow.parentRunId"] for run in stages["job"]} == parents
    assert all("score" in run.data.metrics for run in (*stages["agent"], *stages["job"]))
    experiment = client.get_experiment_by_name("hvgym/one").experiment_id
    (proxmox,) = of_agent(runs, "proxmox")
    assert proxmox.info.run_id in {model.source_run_id for model in client.search_logged_models([experiment])}


def test_a_study_that_grows_keeps_its_runs_and_models(runs):
    folder, seen = runs / "studies" / "one", []
    for seeds in (2, 4):
        protocol = protocol_of("stock", "ppo", "reference", eval_seeds=seeds)
        with opened(protocol, folder) as protocol, make_tracker("mlflow", runs, Place("one")) as tracker:
            tracker.start(protocol, folder, ["stock", "ppo"])
            run_study(protocol, folder, 1, lambda result, *_, tracker=tracker: tracker.job(result))
            summary, files = write_report(folder)
            tracker.finish(summary, files)
        client, stages = found(runs)
        seen.append({run.info.run_id for run in (*stages["study"], *stages["agent"])})
    assert seen[0] == seen[1]
    assert [len(stages[stage]) for stage in ("study", "agent", "job")] == [1, 3, 6]
    for run in stages["agent"]:
        assert run.data.metrics["score"] == pytest.approx(summary["agents"][run.info.run_name]["score_iqm"], rel=1e-4)
        tests = [one for one in run.inputs.dataset_inputs if one.tags[0].value == "test"]
        assert len(tests) == 2
    assert all("score" in run.data.metrics for run in stages["job"])
    rows = client.search_runs([stages["study"][0].info.experiment_id], views.TRAININGS.rows)
    assert [run.info.run_name for run in rows] == ["ppo on no-guest-swap-short seed 0"]  # its later block has no curve
    experiment = client.get_experiment_by_name("hvgym/one").experiment_id
    assert sorted(model.name for model in client.search_logged_models([experiment])) == [
        "ppo-no-guest-swap-short-0",
        "stock",
    ]


class Killed(BaseException):
    """As kill -9: nobody tidies up."""


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A finished study that is not recorded."""
    folder, protocol = (
        tmp_path_factory.mktemp("played") / "studies" / "one",
        protocol_of("stock", "proxmox", "reference"),
    )
    done = run_study(protocol, folder, 1)
    return protocol, folder, done, write_report(folder)


def deliver(runs, played):
    protocol, folder, done, (summary, files) = played
    tracker = MlflowTracker(runs, Place("one"))
    tracker.start(protocol, folder, ["proxmox"])
    for result in done:
        tracker.job(result)
    tracker.finish(summary, files)


def contents(runs):
    """All that is recorded, without ids."""
    client, stages = found(runs)
    names = {run.info.run_id: run.info.run_name for of_it in stages.values() for run in of_it}
    experiment = client.get_experiment_by_name("hvgym/one").experiment_id
    models = sorted((m.name, names[m.source_run_id], str(m.status)) for m in client.search_logged_models([experiment]))
    kept = [
        (
            run.info.run_name,
            run.info.status,
            (run.info.start_time, run.info.end_time),
            names.get(run.data.tags.get("mlflow.parentRunId")),
            run.data.params,
            {name: [p.value for p in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics},
            sorted(one.dataset.digest for one in run.inputs.dataset_inputs),
            sorted(file.path for file in client.list_artifacts(run.info.run_id)),
        )
        for of_it in stages.values()
        for run in of_it
    ]
    return models, sorted(kept, key=lambda one: (one[0], str(one[3])))


def test_a_kill_at_any_call_leaves_nothing_doubled_and_nothing_half(played, empty, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "hvgym.bench.study_tracking.EVERY_S", -1.0
    )  # else the number of calls depends on the machine's speed
    plain, calls = Experiment.call, 0

    def counted(self, *arguments, **keywords):
        nonlocal calls
        calls += 1
        return plain(self, *arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(Experiment, "call", counted)
        deliver(fresh(tmp_path / "whole", empty), played)
    whole = contents(tmp_path / "whole")
    assert calls < 70
    for last in range(2, calls, 4):
        left = last

        def cut(self, *arguments, **keywords):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return plain(self, *arguments, **keywords)

        runs = fresh(tmp_path / str(last), empty)
        with monkeypatch.context() as patched:
            patched.setattr(Experiment, "call", cut)
            with pytest.raises(Killed):
                deliver(runs, played)
        deliver(runs, played)
        assert contents(runs) == whole, f"killed at call {last}"


@pytest.mark.parametrize("at", ["log_outputs", "finalize_logged_model"])
def test_a_kill_while_a_model_is_written_leaves_one_model(played, runs, monkeypatch, at):
    import mlflow

    def cut(*arguments, **keywords):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(mlflow.MlflowClient, at, cut)
        with pytest.raises(Killed):
            deliver(runs, played)
    deliver(runs, played)
    models, _ = contents(runs)
    assert models == [("proxmox", "proxmox", "READY")]


def test_finished_jobs_are_recorded_together(played, runs, monkeypatch):
    """A client's call takes some ten milliseconds, about what a short job takes to play."""
    monkeypatch.setattr("hvgym.bench.study_tracking.EVERY_S", math.inf)  # however slow the machine is
    protocol, folder, done, _ = played
    tracker, plain, calls = MlflowTracker(runs, Place("one")), Experiment.call, []
    tracker.start(protocol, folder)
    for result in done:
        tracker.job(result)
    tracker.look()
    jobs = found(runs)[1]["job"]
    for run in jobs:
        tracker._experiment.delete(run.info.run_id)
    tracker._jobs.clear()

    def counted(self, function, *arguments, **keywords):
        calls.append(function.__name__)
        return plain(self, function, *arguments, **keywords)

    monkeypatch.setattr(Experiment, "call", counted)
    for result in done:
        tracker.job(result)
    tracker.look()
    assert calls == ["add_runs"]
    assert len(found(runs)[1]["job"]) == len(jobs) == 3


def test_a_store_of_another_form_gets_the_same_from_the_client(played, empty, tmp_path, monkeypatch):
    deliver(fresh(tmp_path / "at once", empty), played)
    monkeypatch.setattr("hvgym.bench.bulk.fits", lambda database: False)
    deliver(fresh(tmp_path / "one by one", empty), played)
    assert contents(tmp_path / "at once") == contents(tmp_path / "one by one")


def test_a_column_that_is_needed_and_not_known_is_seen(runs):
    assert fits(runs / "mlflow.db")
    with closing(sqlite3.connect(runs / "mlflow.db")) as connection, connection:
        connection.execute("ALTER TABLE tags ADD COLUMN plain TEXT")
    assert fits(runs / "mlflow.db")
    with closing(sqlite3.connect(runs / "mlflow.db")) as connection, connection:
        connection.execute("ALTER TABLE params RENAME COLUMN value TO other")
    assert not fits(runs / "mlflow.db")


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_study_that_stops_is_marked_and_goes_on(played, runs, error, status):
    protocol, folder, done, (summary, files) = played

    def statuses():
        return {run.info.status for of_it in found(runs)[1].values() for run in of_it if of_it}

    def stop():
        with make_tracker("mlflow", runs, Place("one")) as tracker:
            tracker.start(protocol, folder)
            raise error

    with pytest.raises(error):
        stop()
    assert statuses() == {status}
    with make_tracker("mlflow", runs, Place("one")) as tracker:
        tracker.start(protocol, folder)
        assert statuses() == {"RUNNING"}
        tracker.job(done[0])
        assert {run.info.status for run in found(runs)[1]["agent"]} == {"RUNNING"}
        for result in done[1:]:
            tracker.job(result)
        tracker.finish(summary, files)
    assert statuses() == {"FINISHED"}


def test_combinations_of_a_sweep_share_an_experiment_and_have_the_swept_keys_as_parameters(played, runs):
    protocol, folder, done, (summary, files) = played
    for value in ("1.4", "1.5"):
        with make_tracker("mlflow", runs, Place("one", {"scenario.host.overcommit": value})) as tracker:
            tracker.start(protocol, folder)
            for result in done:
                tracker.job(result)
            tracker.finish(summary, files)
    client, stages = found(runs)
    assert [len(stages[stage]) for stage in ("study", "agent", "job")] == [2, 6, 6]
    assert sorted(
        (run.data.params["agent"], run.data.params["scenario.host.overcommit"]) for run in stages["agent"]
    ) == sorted((agent, value) for agent in ("stock", "proxmox", "reference") for value in ("1.4", "1.5"))
    note = client.get_experiment_by_name("hvgym/one").tags["mlflow.note.content"]
    assert note.count("| reference |") == 2


def test_a_store_whose_creation_was_cut_short_is_made_anew(tmp_path, made_store):
    (tmp_path / ".mlflow.db.new").write_bytes(b"half a database")
    open_store(tmp_path)
    assert (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / ".mlflow.db.new").exists()


def test_no_warning_of_mlflow_reaches_the_user(recwarn):
    policy_model(load_group("agent", "stock"))
    assert [str(w.message) for w in recwarn if "type hint" in str(w.message)] == []


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


@pytest.mark.parametrize("name", ["stock", "proxmox", "ppo-no-guest-swap-short-1"])
def test_a_logged_policy_loads_back_by_its_name_and_gives_the_same_targets(tracked, name):
    import mlflow

    runs, done, *_ = tracked
    client, _ = found(runs)
    experiment = client.get_experiment_by_name("hvgym/one").experiment_id
    (logged,) = client.search_logged_models([experiment], filter_string=f"name = '{name}'")
    model = mlflow.pyfunc.load_model(logged.model_uri)
    agent, seed = name.partition("-")[0], int(name[-1]) if name[-1].isdigit() else 0
    (result,) = [d for d in done if (d.job.agent["name"], d.job.train_seed) == (agent, seed)]
    checkpoint = {"checkpoint": str(runs / "studies" / "one" / result.model)} if result.model else {}
    seen, answered = readings(make_policy(result.job.agent, **checkpoint))
    targets = model.predict(to_rows(seen))
    assert list(targets.columns) == [f"vm{v}.target_mib" for v in range(4)]
    np.testing.assert_array_equal(targets.to_numpy(), answered)
    assert model.metadata.signature is not None
    assert model.input_example is not None


def test_the_best_network_by_validation_has_the_alias(tracked):
    runs, done, *_ = tracked
    client, _ = found(runs)
    best = {d.job.key: max(point["best"] for point in d.curve) for d in done if d.curve}
    version = client.get_model_version_by_alias("ppo-no-guest-swap-short", "best")
    assert best[version.tags["hvgym.job"]] == max(best.values()) == float(version.tags["validation_goodput"])


def test_a_model_takes_hosts_of_as_many_vms_as_the_scenarios_have(runs):
    import mlflow

    from hvgym.bench.models import Models

    experiment = Experiment(runs, "one")
    experiment.open({})
    run = experiment.create("proxmox", {}, 1)
    models = Models(experiment)
    model = mlflow.pyfunc.load_model(f"models:/{models.log(run, 'proxmox', load_group('agent', 'proxmox'), (2, 5))}")
    for vms in (2, 3, 5):
        assert model.predict(example_rows(vms)).shape == (2, vms)
    with pytest.raises(mlflow.MlflowException, match=r"vm1\.memory_mib"):
        model.predict(example_rows(1))


def test_rows_of_a_reading_round_trip():
    seen, _ = readings(make_policy(load_group("agent", "proxmox")))
    table = to_rows(seen)
    assert list(table.columns) == columns(4)
    again = from_row(table.to_numpy()[5], 4)
    assert again.vm[0].tobytes() == seen[5].vm[0].tobytes()
    assert again.host[0].tobytes() == seen[5].host[0].tobytes()


@pytest.mark.skipif(not TRACES.exists(), reason="the public trace files are not beside this checkout")
def test_a_leaderboard_on_real_traces_is_in_the_database(runs):
    suite = Suite("traced", "", ("idle-giants",), ("stock", "reference"), eval_seeds=2)
    workload = load_group("workload", "bitbrains") | {"path": str(TRACES), "episode_s": 900}
    scenarios = tuple(suites.scenario_of(name, workload=workload).to_dict() for name in suite.scenarios)
    agents = load_group("agent", "stock"), load_group("agent", "reference") | {"episodes": 20}
    record(runs, Protocol(suite, agents, scenarios))
    metrics = {run.info.run_name: run.data.metrics for run in found(runs)[1]["agent"]}
    assert metrics["stock"]["score"] == 0.0
    assert metrics["reference"]["goodput"] > metrics["stock"]["goodput"]
