"""``hvgym advise``: what a user types, sees, stops and finds again."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from hvgym.bench.recording import open_store
from hvgym.scripts import cli
from tests.scripts.calling import COMMAND, hvgym

MIB = 2.0**20
FEW = ["hypervisor=kvm", "host.ram_mib=8192", "hardest=1", "random=2", "window_s=600", "most_ratio=1.5", "study=s"]


@pytest.fixture
def folder(own_table):
    """Three VMs of 4 GiB, one of them with a name that shells take apart; three hours."""
    used = 1024 * MIB * np.repeat([1.0, 1.5, 2.2], 60)
    names = ("web 'one'", "db;$(x)", "mail")
    known = {"cap_bytes": 4096 * MIB, "guest_used_bytes": used, "guest_cache_bytes": 512 * MIB, "vcpus": 2}
    return own_table(dict.fromkeys(names, known), name="her VMs (2026)")


def outputs(place):
    return {path.name: path.read_bytes() for path in (place / "runs" / "advice" / "s").glob("advice.*")}


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from hvgym.scripts.cli import main\n"
        "try: main(['advise', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numba', 'torch', 'mlflow', 'optuna', 'pandas', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "ram_mib: null     # must be given" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["workload="], "workload=null: expected the folder that hvgym import wrote"),
        (["workload=/nowhere"], "workload=/nowhere: there is no such folder; hvgym import writes one"),
        (["workload=/tmp"], "/tmp: no vm_samples in it; give a folder that hvgym import wrote"),
        (["host.ram_mib=null"], "host.ram_mib=null: expected the RAM of one of your hosts in MiB"),
        (["host.ram_mib=0"], "host.ram_mib=0: expected the RAM of one of your hosts in MiB"),
        (
            ["+host.own_mib=99999999"],
            "leaves nothing to VMs, for the host itself needs 99999999 MiB under kvm; host.own_mib=",
        ),
        (["host.ram_mib=much"], "host.ram_mib='much': expected a number of MiB"),
        (["host.ram_mib=-1"], "host.ram_mib=-1: expected a number of MiB"),
        (["host.ram_mib=8"], "if these are GiB, write host.ram_mib=8192"),
        (["host.swap_mib=x"], "host.swap_mib='x': expected a number of MiB"),
        (["+host.disk_iop=5"], "disk_iop"),
        (["-hypervisor"], "hypervisor=null: expected a name; hvgym list hypervisors shows them"),
        (["hypervisor=kvmm"], "hypervisor='kvmm': unknown (did you mean 'kvm'?)"),
        (["hosts=0"], "hosts=0: expected a whole number, at least 1"),
        (["hosts=4"], "hosts=4: expected at most as many as VMs, and you have 3 VMs"),
        (["slo=2"], "slo=2: expected a number, at least 0 and at most 1"),
        (["kills=0.5"], "kills=0.5: expected a whole number, at least 0"),
        (["floor=null"], "floor=null: expected a number"),
        (["hardest=0"], "hardest=0: expected a whole number, at least 1"),
        (["window_s=90"], "window_s=90: must be a multiple of 60, whole rows of the history (60 s)"),
        (["window_s=86400"], "window_s=86400: the history has 10800 seconds; give a shorter window_s"),
        (["without=[webb]"], "workload.without: no VM 'webb'"),
        (["agents=[]"], "agents=[]: expected a list of names, none twice, or all"),
        (["without={a: b}"], "without={a: b}: of another kind than what is there"),
        (["host=8192"], "host='8192': expected keys, as in host.ram_mib=131072"),
        (["agents=[proxmx]"], "agent='proxmx': unknown (did you mean 'proxmox'?)"),
        (["agents=[esx]"], "esx: needs sampled activity, which kvm lacks"),
        (["checkpoints={ppo:x.zip}"], "checkpoints.ppo: no such agent among those that play"),
        (["least_ratio=0.51"], "least_ratio=0.51: must be a multiple of step=0.05"),
        (["ram_mib=8192"], "ram_mib: unknown key"),
        (["study=../x"], "study='../x': use letters"),
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_no_page(words, message, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setattr(sys, "argv", [])
    keys = [word.lstrip("-").partition("=")[0] for word in words]
    words = [word for word in words if not word.startswith("-")]  # -key: without it
    given = [word for word in [*FEW, f"workload={folder}", "agents=[stock]"] if word.partition("=")[0] not in keys]
    assert cli.main(["advise", *given, *words, "tracking=none"]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.rglob("advice.*")) == []


def test_it_answers_leaves_a_page_and_records_it(folder, tmp_path):
    done = hvgym("advise", *FEW, f"workload={folder}", "agents=[stock,static,proxmox,esx]", "workers=1", cwd=tmp_path)
    assert "Today: 12 GiB of 3 VMs on one host of 8 GiB, a ratio of 1.50." in done.stdout
    assert "3 VMs on 1 host, the 1 hardest window and 2 random ones, 16.7 % of the history" in done.stdout
    assert "Not known: 0.1 days are a replay" in " ".join(done.stdout.split())
    summary = json.loads((tmp_path / "runs" / "advice" / "s" / "advice.json").read_text())
    assert set(summary["policies"]) == {"stock", "static", "proxmox"}
    assert summary["refused"] == {"esx": "needs sampled activity, which kvm lacks"}
    assert {vm["name"] for vm in summary["vms"]} == {"web 'one'", "db;$(x)", "mail"}
    assert "MLflow UI" in done.stdout
    client = open_store(tmp_path / "runs")
    (experiment,) = [one for one in client.search_experiments() if one.name.endswith("advise/s")]
    runs = client.search_runs([experiment.experiment_id])
    names = {run.info.run_name: run for run in runs}
    assert set(names) == {"advice", "stock", "static", "proxmox"}
    assert "ratio_mid" in names["proxmox"].data.metrics
    files = {one.path for one in client.list_artifacts(names["advice"].info.run_id)}
    assert files >= {"advice.html", "advice.json", "advice.png"}
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_an_interruption_loses_at_most_the_jobs_in_flight_and_leaves_no_trace_in_the_page(folder, tmp_path):
    words = ["advise", *FEW, f"workload={folder}", "agents=[stock,proxmox,mom_vdsm]", "tracking=none"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for place in (whole, cut):
        place.mkdir()
    hvgym(*words, "workers=1", cwd=whole)
    process = subprocess.Popen(
        [*COMMAND, *words, "workers=1"], cwd=cut, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    jobs = cut / "runs" / "advice" / "s" / "jobs"
    until = time.monotonic() + 300
    while len(list(jobs.glob("*.json"))) < 4 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert b"the same command goes on where this one stopped" in errors
    before = {path: path.stat().st_mtime_ns for path in jobs.glob("*.json")}
    assert len(before) >= 4
    assert outputs(cut) == {}
    hvgym(*words, "workers=1", cwd=cut)
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    assert outputs(cut) == outputs(whole)
    assert set(outputs(cut)) == {"advice.json", "advice.html", "advice.png"}
