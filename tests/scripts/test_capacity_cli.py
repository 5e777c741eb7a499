"""``hvgym capacity``: what a user types, sees, stops and finds again in the leaderboard."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hvgym.scripts import cli
from tests.scripts.calling import COMMAND, hvgym

TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces" / "bitbrains_rnd_2013-8"
SMALL = ["capacity", "scenario=idle-giants-short", "fleets=3", "most_ratio=1.5", "study=s"]


def outputs(folder):
    place = folder / "runs" / "studies" / "s" / "capacity"
    found = [path for path in place.iterdir() if path.suffix in (".json", ".csv", ".png")]
    return {path.name: path.read_bytes() for path in found if path.name != "tracking.json"}  # where it is recorded


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from hvgym.scripts.cli import main\n"
        "try: main(['capacity', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numba', 'torch', 'mlflow', 'optuna', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "slo: 0.01" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fleets=1"], "fleets=1: expected a whole number, at least 2"),
        (["fleets=null"], "fleets=null: expected a whole number, at least 2"),
        (["slo=1.5"], "slo=1.5: expected a number, at least 0 and at most 1"),
        (["slo=null"], "slo=null: expected a number"),
        (["kills=0.5"], "kills=0.5: expected a whole number, at least 0"),
        (["misses=some"], "misses='some': choose one of added, all"),
        (["step=0"], "step=0: expected a number, at least 0.01"),
        (["coarse=0.12"], "coarse=0.12: must be a multiple of step=0.05"),
        (["least_ratio=1.5"], "least_ratio=1.5: must be below most_ratio=1.5"),
        (["agents=null"], "agents=null: expected a list of names, or all"),
        (["agents=[static,static]"], "expected a list of names, none twice, or all"),
        (["agents=[proxmx]"], "agent='proxmx': unknown (did you mean 'proxmox'?)"),
        (["agents=[ppo]"], "ppo: has not been trained; hvgym train agent=ppo leaves a best.zip"),
        (["checkpoints={ppo:x.zip}"], "checkpoints.ppo: no such agent among those that play"),
        (["scenario=[idle-giants,tight-hdd]"], "hvgym capacity -m scenario=idle-giants,tight-hdd searches each"),
        (["tracking=mlflo"], "tracking.uri='mlflo': choose none, local"),
        (["reference=null"], "reference=null: expected the keys episodes and counts"),
        (["reference.episodes=0"], "reference.episodes=0: expected a whole number, at least 1"),
        (["reference.counts=kills"], "reference.counts='kills': choose one of goodput, misses"),
        (["rato=2"], "rato: unknown key"),
        (["study=../x"], "study='../x': use letters"),
        (["workload=bitbrains", "workload.path=/nowhere"], "/nowhere"),
        (["+scenario.host.pcpu=4"], "scenario.host.pcpu: unknown key (did you mean 'pcpus'?)"),
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_no_capacity(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setattr(sys, "argv", [])
    given = [word for word in SMALL if word.partition("=")[0] not in [one.partition("=")[0] for one in words]]
    tracking = [] if "tracking=mlflo" in words else ["tracking=none"]
    assert cli.main([*given, *words, *tracking]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.suffix in (".csv", ".png")] == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("capacity")
    return folder, hvgym(*SMALL, "agents=[static,proxmox,ppo]", "workers=1", cwd=folder)


def test_it_prints_points_and_densities_and_leaves_four_files(finished):
    folder, done = finished
    lines = done.stdout.splitlines()
    assert lines[0] == "capacity s: 3 agents, 3 fleets"
    assert lines[1].startswith("[1] static at ratio 0.75: missed 0.00 %, killed 0")
    assert "density at the SLO: idle-giants-short on esxi, 3 fleets" in done.stdout
    assert "ppo: not played: has not been trained" in done.stdout
    assert done.stderr == ""
    files = outputs(folder)
    assert set(files) == {"family.json", "capacity.json", "capacity.csv", "fleets.csv", "capacity.png"}
    assert files["capacity.png"].startswith(b"\x89PNG")
    summary = json.loads(files["capacity.json"])
    for agent, figures in summary["agents"].items():
        assert f"{agent} " in done.stdout
        assert figures["shown"] in done.stdout


def test_the_same_command_again_plays_nothing_and_says_the_same(finished):
    folder, done = finished
    jobs = folder / "runs" / "studies" / "s" / "capacity" / "jobs"
    stamps = {path.name: path.stat().st_mtime_ns for path in jobs.iterdir()}
    again = hvgym(*SMALL, "agents=[static,proxmox,ppo]", "workers=1", cwd=folder)
    assert again.stdout.splitlines()[-12:] == done.stdout.splitlines()[-12:]
    assert {path.name: path.stat().st_mtime_ns for path in jobs.iterdir()} == stamps


def test_mlflow_has_the_curve_and_the_density_of_each_agent_once(finished):
    from hvgym.bench.recording import open_store

    folder, _ = finished
    summary = json.loads(outputs(folder)["capacity.json"])
    client = open_store(folder / "runs")
    experiment = client.get_experiment_by_name("hvgym/capacity/s")
    runs = client.search_runs([experiment.experiment_id])
    children = {run.data.params["agent"]: run for run in runs if "mlflow.parentRunId" in run.data.tags}
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(runs) == 3
    assert set(children) == {"static", "proxmox"}
    for agent, run in children.items():
        density = summary["agents"][agent]["density"]
        assert run.data.metrics["density"] == parent.data.metrics[f"{agent}/density"] == density
        curve = client.get_metric_history(run.info.run_id, "missed")
        assert {point.step for point in curve} >= {75, 100}
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {"capacity.png", "capacity.csv"}


def test_bench_shows_the_density_of_the_study_of_its_name(finished):
    folder, _ = finished
    words = ["bench", "scenario=no-guest-swap-short", "agents=[static]", "suite.eval_seeds=2", "study=s"]
    done = hvgym(*words, "tracking=none", "workers=1", cwd=folder)
    assert "density" in done.stdout
    assert "Density (95 % interval): overcommit ratio of idle-giants-short on esxi" in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.lstrip().startswith("static"))
    summary = json.loads(outputs(folder)["capacity.json"])
    assert f"{summary['agents']['static']['shown'].partition(' (')[0]} " in line


@pytest.mark.skipif(not TRACES.exists(), reason="the public trace files are not beside this checkout")
def test_traces_are_played_by_the_default_rules_unless_told_otherwise(tmp_path):
    words = ["capacity", "workload=bitbrains", f"workload.path={TRACES}", "workload.episode_s=60", "hypervisor=esxi",
             "fleets=2", "most_ratio=1.0", "tracking=none", "workers=1", "agents=[stock,tmo]"]  # fmt: skip
    done = hvgym(*words, "study=d", cwd=tmp_path)
    assert "2 fleets, default rules" in done.stdout
    assert "tmo: not played: needs memory.reclaim, which esxi lacks" in done.stdout
    done = hvgym(*words, "study=o", "rules=open", cwd=tmp_path)
    assert "2 fleets, open rules" in done.stdout
    assert "not played" not in done.stdout


def test_kill_9_in_the_middle_leaves_the_same_results(finished, tmp_path):
    words = [*SMALL, "agents=[static,proxmox,ppo]", "workers=2", "tracking=none"]
    jobs = tmp_path / "runs" / "studies" / "s" / "capacity" / "jobs"
    process = subprocess.Popen([*COMMAND, *words], cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and len(list(jobs.glob("*.json"))) < 3:
        time.sleep(0.02)
    assert process.poll() is None, "it was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (jobs.parent / "capacity.json").exists()
    hvgym(*words, cwd=tmp_path)
    assert outputs(tmp_path) == outputs(finished[0])


def test_ctrl_c_says_how_to_go_on(tmp_path):
    words = [*SMALL, "scenario=idle-giants", "agents=[static,proxmox]", "workers=2", "tracking=none"]
    del words[1]
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("[1]"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors == "hvgym: interrupted; the same command goes on where this one stopped\n"
