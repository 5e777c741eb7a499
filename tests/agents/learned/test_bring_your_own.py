"""The learner of one's own of docs/bring_your_own: it trains, goes on in the same bits, and plays in a study beside the others."""

import csv
import json
import sys
from pathlib import Path

import pytest

from hvgym.agents import beside
from hvgym.scripts import cli

DOCS = Path(__file__).parents[3] / "docs"
OWN = f"--config-dir={DOCS / 'bring_your_own'}"


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains on two hypervisors in an empty folder; what was imported from the docs is forgotten afterwards."""
    monkeypatch.setattr(beside, "_BESIDE", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)

    def run(folder, steps, validations, code=0):
        words = ["train", "agent=climb", "scenario=no-guest-swap-short", "hypervisor=[kvm,xen]", f"out={folder}", OWN]
        more = [f"agent.train.total_steps={steps}", f"agent.train.validations={validations}"]
        assert cli.main([*words, *more, "validation_seeds=1", "tracking=none"]) == code
        return {name: (tmp_path / folder / name).read_bytes() for name in ("best.json", "climb.json")}

    yield run
    sys.modules.pop("climb", None)


def test_two_parts_are_one_training_and_one_that_was_killed_in_a_round_is_too(train, monkeypatch):
    whole = train("whole", 2880, 2)
    left = json.loads(whole["climb.json"])
    assert len(left["curve"]) == 2
    assert any(left["weights"])  # a candidate was better in its round than standing still
    train("parts", 1440, 1)
    assert train("parts", 2880, 2) == whole
    climb, real = sys.modules["climb"], sys.modules["climb"].write_atomically

    def killed(path, text):
        if path.name == "climb.json" and json.loads(text)["round"] == 2:
            raise KeyboardInterrupt
        real(path, text)

    monkeypatch.setattr(climb, "write_atomically", killed)
    with pytest.raises(FileNotFoundError):  # nothing was validated yet
        train("killed", 2880, 2, code=130)
    monkeypatch.setattr(climb, "write_atomically", real)
    assert train("killed", 2880, 2) == whole


def test_it_trains_and_plays_in_a_study(train, tmp_path):
    words = [
        "bench",
        "suite=micro",
        "scenario=[no-guest-swap-short]",
        "agents=[climb,proxmox]",
        "suite.eval_seeds=2",
        OWN,
    ]
    more = ["suite.train_steps=360", "suite.validation_seeds=1", "study=ours", "tracking=none", "workers=1"]
    assert cli.main([*words, *more]) == 0
    rows = list(csv.DictReader((tmp_path / "runs" / "studies" / "ours" / "results.csv").read_text().splitlines()))
    assert {"climb", "proxmox", "stock"} <= {row["agent"] for row in rows}


def test_the_file_is_one_that_is_read_in_one_go():
    assert len((DOCS / "bring_your_own" / "agent" / "climb.py").read_text().splitlines()) < 100
