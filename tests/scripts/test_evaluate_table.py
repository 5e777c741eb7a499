"""The table of hvgym evaluate says what the command said."""

from hvgym.bench.rollout import METRICS
from hvgym.scripts import cli
from hvgym.scripts.evaluate import print_table


def test_lists_in_brackets_are_no_markup(capsys):
    row = {"agent": "ppo", "scenario": "mine[1]", "changed": "agent.channels=[memory_mib,limit_mib]", "code": "c"}
    print_table([row | {"eval_seed": seed, "hosts": 1} | dict.fromkeys(METRICS, 0.5) for seed in (1, 2)])
    said = capsys.readouterr().out
    assert "agent.channels=[memory_mib,limit_mib]" in said
    assert "mine[1]" in said
    assert "means over 2 test seeds" in said


def test_a_place_that_cannot_be_written_is_found_before_anything_is_played(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hvgym.bench.rollout.rollout", None)  # nothing is played
    (tmp_path / "file").write_text("")
    said = [
        "evaluate",
        "agent=proxmox",
        "scenario=no-guest-swap-short",
        f"runs={tmp_path}",
        f"out={tmp_path}/file/rows.csv",
    ]
    assert cli.main(said) == 1
    assert capsys.readouterr().err == f"hvgym: {tmp_path / 'file'}: File exists\n"
