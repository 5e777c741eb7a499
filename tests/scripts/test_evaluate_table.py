"""The table of hvgym evaluate says what the command said."""

from hvgym.bench.rollout import METRICS
from hvgym.scripts.evaluate import print_table


def test_lists_in_brackets_are_no_markup(capsys):
    row = {"agent": "ppo", "scenario": "mine[1]", "changed": "agent.channels=[memory_mib,limit_mib]", "code": "c"}
    print_table([row | {"eval_seed": seed, "hosts": 1} | dict.fromkeys(METRICS, 0.5) for seed in (1, 2)])
    said = capsys.readouterr().out
    assert "agent.channels=[memory_mib,limit_mib]" in said
    assert "mine[1]" in said
    assert "means over 2 test seeds" in said
