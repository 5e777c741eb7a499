"""Studies under default rules: what is refused has no jobs, stands beside the leaderboard with its reason, and costs no row."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.bench.protocol import Protocol
from hvgym.bench.report import write_report
from hvgym.bench.study import read_study, run_study
from hvgym.bench.suites import Suite
from hvgym.bench.summary import in_part, not_played, summarise, tabulate
from hvgym.bench.tuning import Tuning, check
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load_group, resolve

pytestmark = pytest.mark.usefixtures("no_pictures")

NAME = "idle-giants-short"
FIRST, SECOND = "idle-giants-short", "no-guest-swap-short"


def scenario(name, hypervisor, rules):
    return resolve(load_group("scenario", name), hypervisor=load_group("hypervisor", hypervisor), rules=rules).to_dict()


def protocol(agents, hypervisors=("esxi", "esxi"), rules="default"):
    suite = replace(Suite.from_dict(load_group("suite", "micro")), train_steps=None, eval_seeds=2, rules=rules)
    configs = tuple(load_group("agent", name) for name in agents)
    places = zip((FIRST, SECOND), hypervisors, strict=True)
    return Protocol(suite, configs, tuple(scenario(name, where, rules) for name, where in places))


def rows(folder):
    return list(csv.DictReader((folder / "results.csv").read_text().splitlines()))


def test_what_is_refused_has_no_jobs_and_the_study_ends_with_its_report(tmp_path):
    asked = protocol(("stock", "senpai", "esx_equal", "reference"))
    assert [job.name for job in asked.in_order()] == [
        f"{agent} on {name}" for agent in ("stock", "esx_equal", "reference") for name in (FIRST, SECOND)
    ]
    run_study(asked, tmp_path, 1)
    summary, _ = write_report(tmp_path)
    assert {row["agent"] for row in rows(tmp_path)} == {"stock", "esx_equal", "reference"}
    assert summary["rules"] == "default"
    assert summary["refused"] == {"senpai": dict.fromkeys((FIRST, SECOND), "needs memory.reclaim, which esxi lacks")}
    assert not_played(summary) == ["senpai is not played: needs memory.reclaim, which esxi lacks"]
    assert json.loads((tmp_path / "summary.json").read_text())["refused"] == summary["refused"]
    page = (tmp_path / "report.html").read_text()
    assert "<li>senpai is not played: needs memory.reclaim, which esxi lacks</li>" in page
    assert "rules default" in page
    read, done = read_study(tmp_path)
    assert read.refusals == asked.refusals
    assert len(done) == 6


def test_rows_of_those_who_play_are_those_of_open_rules(tmp_path):
    for rules in ("default", "open"):
        run_study(protocol(("stock", "senpai", "esx_equal", "reference"), rules=rules), tmp_path / rules, 1)
    held, opened = (rows(tmp_path / rules) for rules in ("default", "open"))
    held, rest = ([r for r in found if r["agent"] not in ("senpai", "reference")] for found in (held, opened))
    assert held == rest  # the reference of open rules has channels that esxi lacks
    assert len(opened) == len(held) + 8
    summary, _ = write_report(tmp_path / "open")
    assert summary["refused"] == {}
    assert "not played" not in (tmp_path / "open" / "report.html").read_text()


def test_rules_are_part_of_a_studys_identity_and_of_every_jobs():
    held, opened = (protocol(("stock", "esx_equal", "reference"), rules=rules) for rules in ("default", "open"))
    assert held.hash != opened.hash
    assert not {job.key for job in held.jobs()} & {job.key for job in opened.jobs()}


def test_a_study_of_other_rules_is_not_joined(tmp_path):
    run_study(protocol(("stock", "reference"), rules="open"), tmp_path, 1)
    with pytest.raises(InputError, match=r"differs in suite.rules .there 'open', asked 'default'"):
        run_study(protocol(("stock", "reference")), tmp_path, 1)


def test_an_agent_that_plays_in_part_is_scored_on_its_part(tmp_path):
    asked = protocol(("stock", "senpai", "esx_equal", "reference", "reference_outside"), ("esxi", "kvm"))
    assert asked.plays("senpai") == (SECOND,)
    assert asked.plays("esx_equal") == (FIRST,)
    assert asked.plays("stock") == (FIRST, SECOND)
    done = run_study(asked, tmp_path, 1)
    table = tabulate(asked, done)
    summary = summarise(asked, table)
    found = rows(tmp_path)

    def goodput(agent, name):
        return np.array([float(r["goodput"]) for r in found if r["agent"] == agent and r["scenario"] == name])

    for agent, name, other, by in (
        ("senpai", SECOND, FIRST, "reference_outside"), ("esx_equal", FIRST, SECOND, "reference"),
    ):  # fmt: skip
        stock, reference, own = (goodput(one, name) for one in ("stock", by, agent))
        result = summary["agents"][agent]
        np.testing.assert_allclose(table.scores[agent][0, 0], (own - stock) / (reference - stock).mean(), rtol=1e-12)
        assert result["goodput"] == pytest.approx(own.mean(), rel=1e-12)
        assert result["scenarios"][other] == {"score": None, "goodput": None}
        assert in_part(summary, agent) == f"{agent} (1 of 2)"
        test = summary["paired_to_best_heuristic"][agent]
        assert summary["best_heuristic"] == "stock"  # of those that play everything
        assert test["goodput_difference"] == pytest.approx((own - stock).mean(), rel=1e-9)
    assert in_part(summary, "reference") == "reference"
    assert not_played(summary) == [
        f"senpai is not played on {FIRST}: needs memory.reclaim, which esxi lacks",
        f"esx_equal is not played on {SECOND}: needs sampled activity, which kvm lacks",
    ]
    write_report(tmp_path)


def test_a_refused_agent_may_be_added_and_left_out_again(tmp_path):
    run_study(protocol(("stock", "reference")), tmp_path, 1)
    run_study(protocol(("stock", "senpai", "reference")), tmp_path, 1)
    assert "senpai" in read_study(tmp_path)[0].refusals
    run_study(protocol(("stock", "reference")), tmp_path, 1)
    assert read_study(tmp_path)[0].refusals == {}
    assert {row["agent"] for row in rows(tmp_path)} == {"stock", "reference"}


def test_a_tuning_of_what_is_refused_is_refused():
    references = tuple(load_group("agent", name) for name in ("stock", "reference"))
    for rules in ("default", "open"):
        tuning = Tuning(load_group("agent", "senpai"), references, (scenario(NAME, "esxi", rules),), 2, 1, 0)
        if rules == "open":
            check(tuning)
        else:
            with pytest.raises(InputError, match=r"agent senpai, scenario idle-giants-short: needs memory\.reclaim"):
                check(tuning)


def test_a_policy_of_ones_own_without_declarations_sets_sizes_inside():
    own = {"name": "own", "_target_": "hvgym.agents.baselines.best_constant.BestConstant", "share": 0.5}
    assert make_policy(own).declaration.channels == ("memory_mib",)
    places = ("esxi", "baremetal")
    asked = replace(protocol(("stock", "reference"), places), agents=(own,))
    assert asked.refusals == {"own": {SECOND: "needs a balloon target, which baremetal lacks"}}
