"""Own VMs from the command line: `workload=DIR` in full, and a study that keeps their names and plays three levels."""

import csv
import json

import pytest

from hvgym.envs.errors import InputError
from hvgym.scripts import cli
from hvgym.scripts.words import prepared


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
