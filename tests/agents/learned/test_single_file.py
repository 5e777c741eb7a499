"""The single file of docs: trained for seconds, its network plays in a study beside the others by one class and one YAML."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

from hvgym.agents import beside
from hvgym.scripts import cli

DOCS = Path(__file__).parents[3] / "docs"


def test_what_the_single_file_trained_plays_in_bench(tmp_path, monkeypatch):
    monkeypatch.setattr(beside, "_BESIDE", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    command = [sys.executable, str(DOCS / "cleanrl_ppo.py"), "--scenario", "no-guest-swap-short", "--steps", "2048"]
    done = subprocess.run(
        [*command, "--envs", "8", "--rollout", "64", "--out", "best.npz"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5  # four updates and the path
    assert all("goodput " in line for line in lines[:-1])
    with np.load(tmp_path / "best.npz", allow_pickle=False) as kept:
        assert sorted(kept) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    monkeypatch.chdir(tmp_path)
    words = [
        "bench",
        "suite=micro",
        "scenario=[no-guest-swap-short]",
        "agents=[single_file,proxmox]",
        "suite.eval_seeds=2",
    ]
    words += [
        "checkpoints={single_file:best.npz}",
        "study=ours",
        "tracking=none",
        "workers=1",
        f"--config-dir={DOCS / 'bring_your_own'}",
    ]
    assert cli.main(words) == 0
    rows = list(csv.DictReader((tmp_path / "runs" / "studies" / "ours" / "results.csv").read_text().splitlines()))
    assert {"single_file", "proxmox", "stock"} <= {row["agent"] for row in rows}
    sys.modules.pop("single_file", None)


def test_the_file_is_one_that_is_read_in_one_go():
    assert len((DOCS / "cleanrl_ppo.py").read_text().splitlines()) < 200
