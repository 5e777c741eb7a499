"""Own VMs from the command line: `workload=DIR` in full, and a study that keeps their names and plays three levels."""

import csv
import json

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.scripts import cli
from hvgym.scripts.words import prepared

HEADER = (
    "Timestamp [ms];CPU cores;CPU capacity provisioned [MHZ];CPU usage [MHZ];CPU usage [%];Memory capacity provisioned [KB];"
    "Memory usage [KB];Disk read throughput [KB/s];Disk write throughput [KB/s];Network received throughput [KB/s];"
    "Network transmitted throughput [KB/s]"
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vm_samples.csv").write_text("vm_id\n")
    return tmp_path


@pytest.mark.parametrize("verb", ["describe", "demo", "bench", "capacity", "evaluate", "train", "tune"])
def test_a_folder_is_short_for_the_workload_and_its_path(verb, folder):
    ready = prepared(verb, [f"workload={folder}"], False, [])
    assert ready == ["workload=history", f"workload.path={folder}", "scenario=own-vms"]
    named = prepared(verb, [f"workload={folder}", "scenario=idle-giants"], False, [])
    assert named[-1] == "scenario=idle-giants"
    assert len(named) == 3


def test_drawn_vms_take_the_suites_scenarios(folder):
    ready = prepared("bench", [f"workload={folder}", "workload.vms=drawn"], False, [])
    assert "scenario=own-vms" not in ready


def test_names_still_choose(folder):
    assert prepared("describe", ["workload=phases"], False, []) == ["workload=phases"]


def test_what_is_no_table_says_what_makes_one(tmp_path):
    with pytest.raises(InputError, match="no table in it"):
        prepared("demo", [f"workload={tmp_path}"], False, [])
    (tmp_path / "1.csv").write_text("Timestamp [ms]\n")
    with pytest.raises(InputError, match=r"no table .*but 1.csv; hvgym import .* or workload=bitbrains workload.path="):
        prepared("demo", [f"workload={tmp_path}"], False, [])
    with pytest.raises(InputError, match="no such folder"):
        prepared("demo", [f"workload={tmp_path / 'missing'}"], False, [])
    with pytest.raises(InputError, match="is a file; give the folder that holds it"):
        prepared("demo", [f"workload={tmp_path / '1.csv'}"], False, [])


def test_describe_shows_names_evidence_and_what_can_be_claimed(twelve, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["describe", f"workload={twelve}", "scenario.host.ram_mib=131072", "workload.level=high"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "12 VMs, 7.0 days, a slot every 60 s" in shown
    assert "replay and sensitivity only, no claim about new weeks" in shown
    assert "workload history at level high" in shown
    assert "host: 128.0 GiB RAM" in shown
    for name in ("db01", "cache01", "wiki"):
        assert f"{name}: disk" in shown
    assert "evidence: bounds" in shown


def test_a_study_plays_three_levels_and_keeps_names(twelve, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [
        "bench",
        "suite=micro",
        f"workload={twelve}",
        "scenario.host.ram_mib=40960",
        "agents=[static]",
        "rules=open",
    ]
    words += ["suite.eval_seeds=2", "workload.episode_s=600", "tracking=none", "workers=1", "study=own"]
    assert cli.main(words) == 0
    study = tmp_path / "runs" / "studies" / "own"
    with (study / "results.csv").open() as file:
        played = {row["scenario"] for row in csv.DictReader(file)}
    assert played == {"own-vms-low", "own-vms-mid", "own-vms-high"}
    with (study / "vms.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["vm"] for row in rows} >= {"db01", "web03", "idle"}
    assert all(0.0 <= float(row["worst_progress"]) <= float(row["progress"]) <= 1.0 for row in rows)
    assert "db01" in (study / "report.html").read_text()
    protocol = json.loads((study / "protocol.json").read_text())["identity"]
    assert f"traces {twelve}" in protocol["sources"]
    assert [scenario["workload"]["level"] for scenario in protocol["scenarios"]] == ["low", "mid", "high"]
    assert all(scenario["host"]["ram_mib"] == 40960 for scenario in protocol["scenarios"])


@pytest.fixture
def five_weeks(own_table):
    """Two VMs, five weeks by the hour."""
    used = 2.0**30 * (1.0 + 0.5 * np.sin(np.arange(5 * 168)))
    return own_table({name: {"cap_bytes": 2.0**32, "guest_used_bytes": used} for name in ("a", "b")}, step_s=3600)


def test_five_weeks_are_played_at_three_origins_whose_tests_are_apart(five_weeks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [
        "bench",
        "suite=micro",
        f"workload={five_weeks}",
        "agents=[static]",
        "suite.eval_seeds=2",
        "workload.episode_s=3600",
    ]
    words += ["scenario.host.ram_mib=4096", "workload.level=mid", "tracking=none", "workers=1", "study=own"]
    cli.main(words)  # nothing may be scored there
    said = capsys.readouterr().out
    assert "3 rolling origins, each with its own test, trained on what lies before it: NAME is the last" in said
    assert "5.0 weeks of history: origin 0, the last week is the test" in said
    protocol = json.loads((tmp_path / "runs" / "studies" / "own" / "protocol.json").read_text())["identity"]
    names = {scenario["name"]: scenario["workload"]["origin"] for scenario in protocol["scenarios"]}
    assert names == {"own-vms": 0, "own-vms-origin-1": 1, "own-vms-origin-2": 2}
    capsys.readouterr()
    assert cli.main([*words, "origins=4"]) == 2
    assert "origins=4: must be at most 3 for 5.0 weeks of history" in capsys.readouterr().err
    assert cli.main([*words, "origins=2", "workload.origin=1"]) == 2
    assert "origins=2: stands beside workload.origin=1; give one of the two" in capsys.readouterr().err


def test_a_study_of_a_table_that_was_edited_since_says_so(five_weeks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [
        "bench",
        "suite=micro",
        f"workload={five_weeks}",
        "agents=[static]",
        "suite.eval_seeds=2",
        "workload.episode_s=3600",
    ]
    words += ["workload.level=mid", "origins=1", "tracking=none", "workers=1", "study=own"]
    cli.main(words)
    file = five_weeks / "vm_samples.csv"
    file.write_text(file.read_text().replace(str(2.0**32), str(2.0**31)))  # sizes, and so the host, follow
    capsys.readouterr()
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert f"the files in {five_weeks} were edited since (their digest was " in said
    assert "; choose study=NAME" in said


def test_a_verb_that_plays_one_reading_says_which(five_weeks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "agent=static", f"workload={five_weeks}", "seeds=1", "workload.episode_s=3600"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert (
        "at the middle reading of your data alone (workload.level=mid); workload.level=low and high are the others"
        in said
    )
    assert cli.main([*words, "workload.level=high", "workload.origin=2"]) == 0
    said = capsys.readouterr().out
    assert "at the high reading of your data alone (workload.level=high)" in said
    assert "origin 2, the last week is the test but for 2 that come after it" in said


def test_a_suite_plays_real_vms_where_there_are_files_and_else_says_what_it_leaves_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "suite").mkdir(parents=True)
    (tmp_path / "mine" / "suite" / "mixed.yaml").write_text(
        "{name: mixed, description: x, scenarios: [no-guest-swap-short], agents: [static], eval_seeds: 2, traces: null,\n"
        "real: [{scenario: no-guest-swap-short, overcommit_scale: 0.5, episode_s: 600}]}\n"
    )
    (tmp_path / "traces").mkdir()
    rest = ";2;5000;500;10;4194304;1048576;0;0;0;0"
    for vm in range(12):
        rows = [f"{1375308000 + 300 * slot}{rest}" for slot in range(20)]
        (tmp_path / "traces" / f"{vm}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    words = ["evaluate", "agent=static", "suite=mixed", "seeds=1", "--config-dir", "mine"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert (
        "suite mixed: left out for want of real VMs: no-guest-swap-short-real; suite.traces=DIR names a folder" in said
    )
    assert cli.main([*words, "suite.traces=traces", "out=rows.csv"]) == 0
    assert "left out" not in capsys.readouterr().out
    with (tmp_path / "rows.csv").open() as file:
        assert [row["scenario"] for row in csv.DictReader(file)] == ["no-guest-swap-short", "no-guest-swap-short-real"]
    assert cli.main([*words, "suite.traces=traces", "workload=phases"]) == 2
    assert "suite.traces=traces: stands beside workload=; give one of the two" in capsys.readouterr().err


def test_a_roomy_host_ends_well_with_results_a_page_and_what_to_do(twelve, tmp_path, monkeypatch, capsys):
    """80 GiB of VMs on 256 GiB."""
    monkeypatch.chdir(tmp_path)
    words = [
        "bench",
        "suite=micro",
        f"workload={twelve}",
        "scenario.host.ram_mib=262144",
        "agents=[static]",
        "rules=open",
    ]
    words += [
        "suite.eval_seeds=2",
        "workload.episode_s=600",
        "workload.level=mid",
        "tracking=none",
        "workers=1",
        "study=roomy",
    ]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "nothing is to be won: memory suffices" in shown
    assert f"hvgym advise workload={twelve} host.ram_mib=262144 hypervisor=kvm" in shown
    study = tmp_path / "runs" / "studies" / "roomy"
    assert "nothing is to be won" in (study / "report.html").read_text()
    assert (study / "results.csv").exists()
    assert cli.main(["report", "roomy", "tracking=none"]) == 0


def test_a_capacity_of_a_table_plays_three_levels_and_says_what_they_leave_undecided(
    twelve, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = ["capacity", f"workload={twelve}", "agents=[stock]", "fleets=2", "workload.episode_s=600", "tracking=none"]
    words += ["least_ratio=1.0", "most_ratio=1.25", "workers=1", "study=own"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    studies = tmp_path / "runs" / "studies"
    found = {
        level: json.loads((studies / f"own-{level}" / "capacity" / "capacity.json").read_text())
        for level in ("low", "mid", "high")
    }
    assert [one["scenario"] for one in found.values()] == ["own-vms-low", "own-vms-mid", "own-vms-high"]
    together = json.loads((studies / "own" / "capacity" / "capacity.json").read_text())
    least = min(one["agents"]["stock"]["density"] for one in found.values())
    assert together["agents"]["stock"]["density"] == least
    assert "own-vms at low, mid, high: density" in shown
    assert cli.main([*words[:-1], "study=one", "workload.level=mid"]) == 0
    assert sorted(path.name for path in studies.iterdir()) == ["one", "own", "own-high", "own-low", "own-mid"]
    one = json.loads((studies / "one" / "capacity" / "capacity.json").read_text())
    assert one["agents"] == found["mid"]["agents"]
