"""``hvgym tune``: what a user types, sees, stops and uses afterwards."""

import base64
import json
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
import zlib

import pytest
import yaml

from hvgym.bench.recording import open_store
from hvgym.scripts import cli
from tests.scripts.calling import COMMAND, hvgym

pytestmark = pytest.mark.usefixtures("no_pictures")

SMALL = ["tune", "scenario=no-guest-swap-short", "rules=open", "seeds=4", "seeds_per_report=2", "validation_seeds=2"]


def tunings(folder):
    """Runs of every tuning in the store: parents and children."""
    client = open_store(folder)
    experiments = [e for e in client.search_experiments() if e.name.startswith("hvgym/tune/")]
    found = client.search_runs([e.experiment_id for e in experiments], max_results=1000)
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    return client, experiments, parents, [run for run in found if run not in parents]


def test_help_shows_the_keys_and_imports_nothing_heavy():
    assert "tune" in hvgym("--help").stdout
    assert "finalists:" in hvgym("tune", "--help").stdout
    code = (
        "import sys; from hvgym.scripts.cli import main\n"
        "try: main(['tune', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numba', 'torch', 'mlflow', 'optuna', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trials=0"], "trials=0: expected a whole number, at least 2"),
        (["trials=null"], "trials=None and steps=None: one of them must end the tuning"),
        (["steps=0"], "steps=0: expected a whole number, at least 1"),
        (["steps=100"], "steps=100: a trial takes up to 480 and the first is the original; give at least 960"),
        (["seeds=0"], "seeds=0: expected a whole number, at least 1"),
        (["validation_seeds=null"], "validation_seeds=null: expected a whole number, at least 1"),
        (["finalists=0"], "finalists=0: expected a whole number, at least 1"),
        (["train_steps=0"], "train_steps=0: expected a whole number, at least 1"),
        (["seed=4294967296"], "seed=4294967296: must be at least 0 and at most 4294967295"),
        (["agent=static"], "agent=static: has no search space; give its YAML a key tune"),
        (["agent=proxmx"], "agent='proxmx': unknown (did you mean 'proxmox'?)"),
        (["+agent.tune.target_shar=[0,1]"], "agent.tune.target_shar: no such parameter (did you mean 'target_share'?)"),
        (["agent.tune.target_share=[0.9,0.5]"], "agent.tune.target_share: low=0.9 must be below high=0.5"),
        (["agent.tune.target_share=[0.9,1]"], "agent.tune.target_share: the agent's own value 0.8 is outside [0.9, 1]"),
        (["agent.target_share=0.99"], "agent.tune.target_share: the agent's own value 0.99 is outside [0.5, 0.98]"),
        (["out=conf"], "out=conf: must be a folder named agent"),
        (["study=../x"], "study='../x': use letters"),
        (["tracking=mlflo"], "tracking.uri='mlflo': choose none, local"),
        (["trails=3"], "trails: unknown key (did you mean 'trials'?)"),
        (["workload=bitbrains", "workload.path=/nowhere"], "/nowhere"),
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_no_tuning(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setattr(sys, "argv", [])
    tracking = [] if "tracking=mlflo" in words else ["tracking=none"]
    assert cli.main([*SMALL, *words, *tracking]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.suffix in (".db", ".csv", ".yaml", ".png")] == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    return folder, hvgym(*SMALL, "trials=12", "study=t", cwd=folder)


def test_a_tuning_prints_its_trials_and_leaves_yaml_table_and_picture(finished):
    folder, done = finished
    lines = done.stdout.splitlines()
    trials = [line for line in lines if line.startswith("[")]
    assert len(trials) == 12
    assert trials[0].startswith("[1/12] trial 0, the original: score 0.")
    assert trials[11].startswith("[12/12] trial 11, s")
    assert "0 (original)" in done.stdout
    assert done.stderr == ""
    place = folder / "runs" / "tune"
    assert (place / "t" / "trials.png").read_bytes().startswith(b"\x89PNG")
    assert (place / "t" / "trials.csv").read_text().count("\n") == 13
    tuned = (place / "agent" / "proxmox_tuned.yaml").read_text()
    assert tuned.startswith(f"# Made by: hvgym {' '.join(SMALL)} trials=12 study=t\n# 12 trials (")
    assert yaml.safe_load(tuned)["name"] == "proxmox_tuned"


def test_the_printed_command_plays_original_and_tuned_in_one_study(finished):
    folder, done = finished
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("play both: ")]
    words = shlex.split(line.removeprefix("play both: hvgym "))
    played = hvgym(*words, "suite.eval_seeds=2", "tracking=none", "workers=1", cwd=folder).stdout
    table = played[played.index("agent") :]
    assert "proxmox_tuned" in table
    assert "proxmox " in table


def test_the_same_command_again_plays_nothing_and_says_the_same(finished):
    folder, done = finished
    record = folder / "runs" / "tune" / "t.db"
    tuned = folder / "runs" / "tune" / "agent" / "proxmox_tuned.yaml"
    before = record.read_bytes(), tuned.read_bytes()
    again = hvgym(*SMALL, "trials=12", "study=t", cwd=folder)
    assert again.stdout == done.stdout
    assert (record.read_bytes(), tuned.read_bytes()) == before
    refused = hvgym(*SMALL, "trials=12", "study=t", "seed=1", cwd=folder, code=2)
    assert "t.db: holds a tuning of another agent" in refused.stderr


def test_mlflow_has_a_child_run_a_trial_and_the_choice_at_the_parent(finished):
    folder, _ = finished
    client, (experiment,), (parent,), children = tunings(folder / "runs")
    assert experiment.name == "hvgym/tune/t"
    assert parent.data.tags["mlflow.runName"] == "tune proxmox"
    assert sorted(int(run.data.tags["hvgym.job"]) for run in children) == list(range(12))
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    assert {a.path for a in client.list_artifacts(parent.info.run_id)} >= {
        "trials.png",
        "trials.csv",
        "proxmox_tuned.yaml",
    }
    rows = (folder / "runs" / "tune" / "t" / "trials.csv").read_text().splitlines()
    for row in rows[1:]:
        number, score, stopped, reports, steps, share, change = row.split(",")
        (run,) = [run for run in children if run.data.tags["hvgym.job"] == number]
        assert run.data.metrics["score"] == float(score)
        assert run.data.metrics["steps"] == float(steps)
        assert run.data.params == {"target_share": share, "max_change_mib": change}
        assert run.data.tags["state"] == ("stopped early" if stopped == "1" else "played whole")
        assert len(client.get_metric_history(run.info.run_id, "running_score")) == int(reports)
    tuned = (folder / "runs" / "tune" / "agent" / "proxmox_tuned.yaml").read_text()
    figures = parent.data.metrics
    assert f"{figures['tuned/validation_score']:.4f}" in tuned
    assert f"{figures['original/validation_score']:.4f}" in tuned
    assert figures["tuned/validation_score"] >= figures["original/validation_score"]
    assert figures["trials"] == 12
    state = shown_of(experiment)
    assert state["selectedColumns"][-2:] == ["params.`target_share`", "params.`max_change_mib`"]
    (parallel,) = [chart for chart in state["compareRunCharts"] if chart["type"] == "PARALLEL"]
    assert parallel["selectedParams"] == ["target_share", "max_change_mib"]
    assert parallel["selectedMetrics"] == ["score"]
    assert parent.data.metrics["system/cpu_s"] == pytest.approx(
        sum(run.data.metrics["system/cpu_s"] for run in children)
    )


def shown_of(experiment):
    """What MLflow's UI shows of an experiment at first."""
    packed = experiment.tags["mlflow.sharedViewState.hvgym"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_kill_9_in_the_middle_leaves_the_same_result(finished, tmp_path):
    folder, done = finished
    record = tmp_path / "runs" / "tune" / "t.db"
    command = [*COMMAND, *SMALL, "trials=12", "study=t"]
    open_store(tmp_path / "runs")  # to make it takes the command seconds
    for at_least in (2, 6):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and recorded(record) < at_least:
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert at_least <= recorded(record) < 12
    again = hvgym(*SMALL, "trials=12", "study=t", cwd=tmp_path)
    assert again.stdout.replace(str(tmp_path), str(folder)) == done.stdout
    for name in ("t/trials.csv", "agent/proxmox_tuned.yaml"):
        assert (tmp_path / "runs" / "tune" / name).read_bytes() == (folder / "runs" / "tune" / name).read_bytes()
    _, _, parents, children = tunings(tmp_path / "runs")
    assert len(parents) == 1
    assert sorted(int(run.data.tags["hvgym.job"]) for run in children) == list(range(12))
    assert {run.info.status for run in [*parents, *children]} == {"FINISHED"}


def recorded(record):
    if not record.exists():
        return 0
    with sqlite3.connect(f"file:{record}?mode=ro", uri=True) as rows:
        return rows.execute("select count(*) from trials").fetchone()[0]


def test_ctrl_c_says_how_to_go_on_and_marks_the_run(tmp_path):
    words = [*COMMAND, *SMALL, "trials=5000", "study=t"]
    open_store(tmp_path / "runs")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, text=True) as process:
        while not process.stdout.readline().startswith("[3/5000]"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors == "hvgym: interrupted; the same command goes on where this one stopped\n"
    _, _, (parent,), children = tunings(tmp_path / "runs")
    assert parent.info.status == "KILLED"
    assert {run.info.status for run in children} == {"FINISHED"}


def test_a_tuning_belongs_to_one_process_at_a_time(tmp_path):
    from hvgym.bench.study import locked

    with locked(tmp_path / "runs" / "tune" / "t"):
        words = [*COMMAND, *SMALL, "study=t", "tracking=none"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "another hvgym process is working on this study" in done.stderr


def test_a_users_agent_is_tuned_into_the_users_folder_and_a_failing_one_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ours.py").write_text(
        "from hvgym.agents.hypervisors.proxmox import Proxmox\n"
        "class Ours(Proxmox):\n    def decide(self, telemetry):\n"
        "        assert self.max_change_mib < 300, 'out of ideas'\n        return super().decide(telemetry)\n"
    )
    (tmp_path / "mine" / "agent").mkdir(parents=True)
    text = "name: ours\n_target_: ours.Ours\nmax_change_mib: 100\ntune:\n  max_change_mib: [50, 250]\n"
    (tmp_path / "mine" / "agent" / "ours.yaml").write_text(text)
    words = [*SMALL, "agent=ours", "trials=2", "tracking=none", "--config-dir", "mine"]
    done = hvgym(*words, cwd=tmp_path)
    assert yaml.safe_load((tmp_path / "mine" / "agent" / "ours_tuned.yaml").read_text())["_target_"] == "ours.Ours"
    assert f"'agents=[ours,ours_tuned]' --config-dir {tmp_path / 'mine'}" in done.stdout
    failed = hvgym(*words, "agent.tune.max_change_mib=[50,100000]", cwd=tmp_path, code=2)
    assert "hvgym: trial 1 (max_change_mib=" in failed.stderr
    assert "out of ideas" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_a_learner_is_tuned_within_a_budget_of_steps_and_its_yaml_keeps_its_own_training(tmp_path):
    small = ["agent.train.envs=8", "agent.train.n_steps=16", "agent.train.validations=2", "train_steps=500"]
    small += ["agent.train.width=8", "agent.train.batch_size=512", "agent.train.n_epochs=1"]
    done = hvgym(
        *SMALL, "agent=ppo", "trials=null", "steps=6000", "tracking=none", "out=mine/agent", *small, cwd=tmp_path
    )
    trials = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert trials[0].startswith("[ 25%] trial 0, the original")  # 512 of training and 2 x 4 seeds x 120 of validation
    assert trials[-1].startswith("[ 98%] trial 3,")
    tuned = yaml.safe_load((tmp_path / "mine" / "agent" / "ppo_tuned.yaml").read_text())
    assert tuned["train"]["total_steps"] == 1_000_000
    assert tuned["train"]["width"] == 8
    assert "--config-dir" in done.stdout
    assert (
        f"scenario=no-guest-swap-short rules=open 'agents=[ppo,ppo_tuned]' --config-dir {tmp_path / 'mine'}"
        in done.stdout
    )


def test_a_suite_gives_scenarios_and_the_steps_of_a_training(tmp_path):
    words = ["tune", "suite=micro", "seeds=1", "validation_seeds=1", "trials=2", "tracking=none"]
    done = hvgym(*words, "hypervisor=kvm", cwd=tmp_path)
    assert "of each of 2 scenarios" in done.stdout
    assert "tuning proxmox-micro-" in done.stdout
    assert (
        "play both: hvgym bench suite=micro hypervisor=kvm 'agents=[proxmox,proxmox_tuned]' --config-dir" in done.stdout
    )
    steps = ["agent=ppo", "steps=1", "suite.train_steps=9000", "agent.train.envs=10", "agent.train.n_steps=10"]
    refused = hvgym(*words, *steps, "agent.train.validations=1", cwd=tmp_path, code=2)
    assert f"a trial takes up to {2 * 9000 + 2 * 120} " in refused.stderr


def test_nothing_is_cut_off_at_80_columns(tmp_path):
    done = hvgym(*SMALL, "trials=2", "tracking=none", cwd=tmp_path, COLUMNS="80")
    assert "\N{HORIZONTAL ELLIPSIS}" not in done.stdout
