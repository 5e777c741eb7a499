"""``hvgym explain``, ``export`` and ``dataset``, and ``agent.shield``: what they leave, and what they refuse in one line."""

import csv
import json

import numpy as np
import pytest

from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.searched import text
from hvgym.agents.learned.view import FEATURES
from hvgym.scripts import cli

SCENARIO = "scenario=no-guest-swap-short"


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def said(capsys, *words, code=0):
    assert cli.main([*words]) == code
    return capsys.readouterr()


def test_explain_leaves_page_pictures_and_a_tree_that_plays_and_is_exported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = said(capsys, "explain", "agent=proxmox_tuned", SCENARIO, "seeds=1", "leaves=3").out
    folder = tmp_path / "runs" / "explain" / "proxmox_tuned-no-guest-swap-short"
    assert sorted(path.name for path in folder.iterdir()) == [
        "burst.png", "explain.html", "explain.json", "sensitivities.png", "tree.json",
    ]  # fmt: skip
    assert text.splitlines()[-1] == str(folder / "explain.html")
    assert "fidelity on 1 validation seeds" in text
    tree = f"agent.checkpoint={folder / 'tree.json'}"
    said(capsys, "evaluate", "agent=tree", tree, SCENARIO, "seeds=1", "out=rows.csv")
    played = rows_of(tmp_path / "rows.csv")
    assert [row["agent"] for row in played] == ["tree"]
    assert said(capsys, "export", "agent=tree", tree, "out=tree.py").out.splitlines()[-1] == str(tmp_path / "tree.py")
    assert json.loads((folder / "explain.json").read_text())["goodput"].keys() == {"proxmox_tuned", "tree", "stock"}


def test_export_writes_a_linear_policy(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    weights = [1.0 if name in ("constant", "cpu_60s", "psi") else 0.0 for name in FEATURES]
    (tmp_path / "best.json").write_text(text(SharedLinear.of(np.array(weights), 0.1, 10.0), {}))
    printed = said(capsys, "export", "agent=es", "agent.checkpoint=best.json", "out=decide.py").out
    assert printed.splitlines() == [
        "NEEDS: maximum, actual, host.total, host.available, cpu_s, vcpus, host.psi",
        "to be added to the loop of docs/learning.md: host.psi",
        str(tmp_path / "decide.py"),
    ]
    assert '"constant": 1.0' in (tmp_path / "decide.py").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["export", "agent=proxmox", "out=x.py"],
            "agent proxmox: Proxmox is not exported: only linear policies (es) and trees are",
        ),
        (["export", "agent=proxmox"], "out=None: name the file to write, as in out=decide.py"),
        (["export", "agent=proxmox", "out=x.json"], "name the file to write, as in out=decide.py"),
        (["export", "agent=reference", "out=x.py"], "sees the hidden state"),
        (["explain", "agent=senpai", SCENARIO, "seeds=1"], "agent senpai: sets no memory sizes"),
        (["explain", "agent=reference", SCENARIO], "sees the hidden state"),
        (["explain", "agent=learned_moves", "scenario=hot-host"], "scenario='hot-host': has several hosts"),
        (["explain", "agent=proxmox", "leaves=1"], "leaves=1: expected a whole number, at least 2"),
        (
            ["dataset", "agent=proxmox", "out=d", "action=water_filling"],
            "action='water_filling': choose one of relative, absolute",
        ),
        (["dataset", "agents=[proxmox,proxmox]", "out=d"], "expected a list of names, none twice"),
        (["dataset", "agent=proxmox", "out=d", "reward={slow: 1}"], "reward.slow: unknown key"),
        (["evaluate", "agent=proxmox", SCENARIO, "agent.shield=3"], "agent.shield=3: expected true, false or limits"),
        (["evaluate", "agent=reference", SCENARIO, "agent.shield=true"], "it cannot be shielded"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_leaves_nothing(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    error = said(capsys, *words, code=2).err
    assert told in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_shield_is_a_key_of_any_agent_and_stands_in_its_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in ([], ["agent.shield=true"], ["agent.shield.step=0.01"]):
        said(capsys, "evaluate", "agent=proxmox", SCENARIO, "seeds=1", "out=rows.csv", *words)
    rows = rows_of(tmp_path / "rows.csv")
    assert [row["changed"].lstrip("+") for row in rows] == ["", "agent.shield=true", "agent.shield.step=0.01"]
    assert len({row["goodput"] for row in rows}) == 3


def test_a_data_set_is_loaded_where_the_command_says(tmp_path, monkeypatch, capsys):
    minari = pytest.importorskip("minari")
    monkeypatch.chdir(tmp_path)
    words = ("dataset", "agents=[proxmox,random]", SCENARIO, "episodes=2", "reward={slo: 1}", "out=data")
    text = said(capsys, *words).out
    assert "hvgym/no-guest-swap-short-proxmox-random-v0: 2 episodes, 240 steps, goodput -0." in text
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    assert minari.load_dataset("hvgym/no-guest-swap-short-proxmox-random-v0").total_episodes == 2
    assert "holds hvgym/no-guest-swap-short-proxmox-random-v0 already" in said(capsys, *words, code=2).err
