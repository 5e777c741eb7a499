"""What a study leaves where nobody can be scored: results, a page and the reason, and which of two reasons it is."""

import json
from dataclasses import replace

import pytest

from hvgym.bench import run_contents
from hvgym.bench.jobs import Done
from hvgym.bench.protocol import Protocol
from hvgym.bench.rollout import METRICS
from hvgym.bench.suites import Suite, seeds
from hvgym.bench.unscored import rows, summarise, write_unscored
from hvgym.envs.scenario import load_group, resolve
from hvgym.scripts.bench import print_leaderboard

AGENTS = ("stock", "static", "reference")
NAME = "idle-giants-short"


def study(cost, kills=0.0, ram_mib=None):
    """By hand: every agent has the same goodput, and so many missed seconds and kills."""
    data = resolve(load_group("scenario", NAME), load_group("hypervisor", "kvm"), rules="open").to_dict()
    if ram_mib is not None:
        data["host"] |= {"ram_mib": ram_mib, "overcommit": None}
    suite = replace(Suite.from_dict(load_group("suite", "micro")), eval_seeds=2, rules="open")
    protocol = Protocol(suite, tuple(load_group("agent", name) for name in AGENTS), (data,))
    row = dict.fromkeys(METRICS, 0.0) | {"goodput": 0.875, "cost": cost, "oom_kills": kills}
    done = [
        Done(job, [{"eval_seed": seed} | row for seed in seeds("test", 2)], [], None, "P0")
        for job in protocol.in_order()
    ]
    return protocol, done


def test_memory_that_suffices_is_an_answer_with_the_ratio_of_the_host():
    protocol, done = study(cost=0.0, ram_mib=1048576.0)
    configured_mib = sum(group["memory_mib"] * group["count"] for group in protocol.scenarios[0]["vms"])
    why, then = summarise(protocol, done)["nothing_scored"]
    assert why == (
        f"On this host (configured memory over its RAM: {configured_mib / 1048576:.2f}) nothing is to be won: memory suffices, "
        "stock misses next to nothing and kills no VM."
    )
    assert "scenario.host.overcommit=" in then


@pytest.mark.parametrize(("cost", "kills"), [(1e9, 0.0), (0.0, 1.0)])
def test_a_host_on_which_vms_miss_or_die_is_not_called_roomy(cost, kills):
    why, _ = summarise(*study(cost, kills))["nothing_scored"]
    assert "VMs miss their objective, but even the reference" in why
    assert "suffices" not in why


def test_own_vms_are_sent_to_advise():
    protocol, done = study(cost=0.0)
    scenario = protocol.scenarios[0]
    scenario["workload"] = dict(scenario["workload"]) | {"kind": "history", "path": "/data/our shop"}
    scenario["host"] |= {"ram_mib": 65536.0, "overcommit": None}
    then = summarise(protocol, done)["nothing_scored"][1]
    assert "hvgym advise workload='/data/our shop' host.ram_mib=65536 hypervisor=kvm" in then


def test_page_terminal_and_note_have_goodput_misses_and_kills(tmp_path, capsys):
    protocol, done = study(cost=12.0)
    summary, files = write_unscored(tmp_path, protocol, done)
    assert [file.name for file in files] == ["report.html", "summary.json", "results.csv"]
    assert json.loads((tmp_path / "summary.json").read_text())["nothing_scored"] == summary["nothing_scored"]
    assert rows(summary)[0][1:4] == ["0.8750", "12", "0.00"]
    page = (tmp_path / "report.html").read_text()
    assert all(f"<td>{name}</td><td>0.8750</td><td>12</td><td>0.00</td>" in page for name in AGENTS)
    print_leaderboard(summary)
    shown = capsys.readouterr().out
    assert "no scores" in shown
    assert summary["nothing_scored"][0] in shown
    note = run_contents.note(protocol, summary)
    assert summary["nothing_scored"][0] in note
    assert "| static | inside | – | 0.8750 |" in note
    assert "score" not in run_contents.figures(summary, "static")
    assert run_contents.scores(protocol, done, summary) == {}
