"""What a user sees of clusters: describe, list, stack=, demo, and columns of results."""

import csv
from functools import partial

import pytest

from hvgym.bench.rollout import OF_CLUSTERS, OUTCOMES
from hvgym.envs.errors import InputError
from hvgym.envs.making import scenario_of
from hvgym.envs.scenario import group_files, load, load_group, resolve
from hvgym.scripts import describe_cluster, tables
from hvgym.scripts.bench import print_leaderboard
from tests.scripts.calling import hvgym as called

hvgym = partial(called, COLUMNS="200")


def test_stacks_are_listed():
    text = hvgym("list", "stacks").stdout
    assert [line.split()[0] for line in text.splitlines()] == ["stacks", *sorted(group_files("stack"))]
    assert "XenServer pool" in text


def test_describe_tells_hosts_stack_failures_and_maintenance(tmp_path):
    text = hvgym("describe", "scenario=rack", cwd=tmp_path).stdout
    assert "front-0 to front-5: 80.0 GiB RAM, 28 CPUs of 2.7 GHz (x86-64-v3), hypervisor kvm" in text
    assert "16 hosts, 1280 GiB RAM, 448 CPUs; 200 VMs" in text
    assert "stack ovirt" in text
    assert "failure at 1500 s: front-3 crashes and reboots, for 600 s" in text
    assert "maintenance from 600 s: back-1 is to be empty by 1800 s" in text
    assert "50 web" in text


def test_a_stack_takes_the_place_of_the_scenarios_own(tmp_path):
    text = hvgym("describe", "scenario=n-plus-one", "stack=vsphere", "+stack.most_overcommit=1.25", cwd=tmp_path).stdout
    assert "stack vsphere" in text
    assert "configured memory up to 1.25 x a host's RAM" in text
    assert "stack ovirt" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["describe", "scenario=rack", "stack=ovrit"],
            "stack='ovrit': unknown (did you mean 'ovirt'?); known: hyperv, kubevirt",
        ),
        (
            ["evaluate", "scenario=idle-giants", "stack=ovirt"],
            "stack: only a cluster has it; give hosts in place of host",
        ),
        (["demo", "scenario=rack", "stack.places=false"], "stack.places: choose stack=NAME first; known: hyperv"),
        (["describe", "scenario=rack", "stack=nova", "stack.migration=novva"], "migration"),
        (["list", "stakcs"], "what='stakcs': choose one of"),
    ],
)
def test_wrong_stacks_end_in_one_line(arguments, message, tmp_path):
    done = hvgym(*arguments, cwd=tmp_path, code=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_environments_and_python_take_a_stack_by_name_or_as_plain_data():
    assert scenario_of("n-plus-one").stack.name == "ovirt"
    named = scenario_of("n-plus-one", stack="nova")
    assert named.stack == load("n-plus-one").stack.__class__(
        **vars(resolve(load_group("scenario", "n-plus-one"), stack=load_group("stack", "nova")).stack)
    )
    assert named.hosts == load("n-plus-one").hosts
    assert scenario_of(load("n-plus-one"), stack=load_group("stack", "nova")) == named
    with pytest.raises(InputError, match=r"stack='nowa': unknown .did you mean 'nova'"):
        scenario_of("n-plus-one", stack="nowa")


@pytest.mark.parametrize("stack", sorted(group_files("stack")))
def test_every_stack_is_told_with_its_own_timers(stack):
    rules = scenario_of("n-plus-one", stack=stack).stack
    placement, copies, availability = describe_cluster.stack_lines(rules)[1:]
    assert f"taken for dead after {rules.ha.dead_s:g} s" in availability
    assert f"stops for {rules.migration.downtime_limit_ms:g} ms" in copies
    assert ("any ratio" in placement) == (rules.most_overcommit is None)


def test_nothing_that_happens_is_said_to_be_nothing():
    assert describe_cluster.event_lines(load("hot-host")) == ["no host fails; no maintenance is planned"]
    assert describe_cluster.event_lines(load("n-plus-one")) == ["failure at 1500 s: node-1 loses power, for 1500 s"]


def test_demo_of_a_cluster_ends_with_its_hosts(tmp_path):
    text = hvgym("demo", "scenario=n-plus-one", "agent=stock", "speed=0", "seconds=1510", cwd=tmp_path).stdout
    assert "n-plus-one under stock   25:10" in text
    assert "dead for 10 s, not noticed" in text


def test_evaluate_shows_columns_of_clusters_where_there_is_one_and_writes_them_always(tmp_path):
    alone = hvgym(
        "evaluate", "agent=stock", "scenario=idle-giants-short", "seeds=1", "out=rows.csv", cwd=tmp_path
    ).stdout
    assert "outage" not in alone
    both = hvgym(
        "evaluate", "agent=stock", "scenario=[idle-giants-short,n-plus-one]", "seeds=1", "out=rows.csv", cwd=tmp_path
    ).stdout
    rows = {row["scenario"]: row for row in csv.DictReader((tmp_path / "rows.csv").read_text().splitlines())}
    assert all(name in row for name in OF_CLUSTERS for row in rows.values())
    assert [rows[name]["hosts"] for name in ("idle-giants-short", "n-plus-one")] == ["1", "4"]
    outage_s = float(rows["n-plus-one"]["outage_s"])
    assert outage_s > 1000.0
    line = [line for line in both.splitlines() if "n-plus-one" in line][1]
    assert line.split()[-6:] == [f"{float(rows['n-plus-one'][name]):.4g}" for name in tables.OF_CLUSTERS]
    assert "outage" in both


def summary(clusters):
    figures = dict.fromkeys((*OUTCOMES, *OF_CLUSTERS), 0.0) | {"score_iqm": 0.5, "score_lo": 0.4, "score_hi": 0.6}
    figures |= {"outage_s": 8752.0, "recovery_s": 2176.0, "downtime_s": 1.25, "moves": 17.5, "moved_gib": 123.4}
    agents = {"watcher_stabilization": figures | {"seat": "outside", "sees": "P0", "scenarios": {"s": {}}}}
    power = {"eval_seeds": 8, "smallest_p_holm": 0.01, "eval_seeds_needed": 8}
    return {"suite": "cluster", "agents": agents, "clusters": clusters, "refused": {}, "unscored": [], "not_scored": {},
            "beaten": [], "code": {"outside": {}}, "significance": power, "paired_to_best_heuristic": {}}  # fmt: skip


@pytest.mark.parametrize("clusters", [[], ["n-plus-one"]])
def test_the_leaderboard_has_a_table_of_failures_and_moves_where_there_is_a_cluster(clusters, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_leaderboard(summary(clusters))
    text = capsys.readouterr().out
    assert text.count("watcher_stabilization") == 1 + len(clusters)
    assert ("Outage:" in text) == bool(clusters)
    figures = [line.split()[1:] for line in text.splitlines() if "watcher_stabilization" in line]
    assert figures[1:] == ([["8752.0", "2176.0", "1.2", "17.5", "0.0", "123.4"]] if clusters else [])
