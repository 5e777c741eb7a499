"""A node of a Ray cluster is killed in the middle of a study (``node_killed``): it ends in the bits of one process."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed (hvgym[ray])")

WORDS = ["suite=micro", "agents=[proxmox,ppo]", "suite.train_steps=12000", "suite.eval_seeds=2", "tracking=none"]


def test_a_study_outlives_a_node_that_is_killed_while_it_trains(tmp_path):
    script = Path(__file__).with_name("node_killed.py")
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "ray"), *WORDS], capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stderr
    assert "killed: ppo on" in ran.stdout
    alone = [
        sys.executable,
        "-m",
        "hvgym.scripts.cli",
        "bench",
        *WORDS,
        "workers=1",
        "study=s",
        f"runs={tmp_path / 'one'}",
    ]
    subprocess.run(alone, check=True, capture_output=True)
    results = [(tmp_path / place / "studies" / "s" / "results.csv").read_bytes() for place in ("ray", "one")]
    assert results[0] == results[1]
    starts = [path.read_text().count('"start"') for path in (tmp_path / "ray").glob("studies/s/progress/*.jsonl")]
    assert max(starts) > 1
