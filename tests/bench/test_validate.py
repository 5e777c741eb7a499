"""Rows played again from a study's folder alone: equal to the bit, or what differs is named."""

import io
import json
import math
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hvgym.agents import beside
from hvgym.bench.identity import code_of, here
from hvgym.bench.jobs import Done, digest, job_file, network_file, run_job
from hvgym.bench.protocol import Job, Protocol
from hvgym.bench.replay import Difference, check_trusted, differences, outside_code, play_again
from hvgym.bench.study import read_study, run_study
from hvgym.bench.suites import Suite
from hvgym.bench.validate import check_job, check_jobs, other_here, sample
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group
from hvgym.scripts import cli

SCENARIO = load("no-guest-swap-short").to_dict()
TRAIN = {
    "exploration": "gaussian",
    "log_std_init": -1.0,
    "total_steps": 256,
    "envs": 4,
    "n_steps": 16,
    "batch_size": 64,
    "n_epochs": 1,
    "validations": 1,
    "width": 4,
}
SEEDS = 2_000_000_000, 2_000_000_001

OWN = """
from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets


class Share(Policy):
    def decide(self, telemetry):
        return Targets(telemetry.vm["memory_mib"] * {share})
"""

MIXES = """
from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets


class Share(Policy):
    def decide(self, telemetry):
        return Targets(telemetry.vm["memory_mib"] * (1.0 - 0.1 * len(telemetry.vm)))
"""


def protocol_of(*agents):
    suite = Suite("one", "", ("no-guest-swap-short",), ("stock",), eval_seeds=2, validation_seeds=1, rules="open")
    codes = {agent["name"]: code for agent in agents if (code := code_of(agent))}
    scenario = SCENARIO | {"rules": "open"}
    return Protocol(suite, agents, (scenario,), {"code": "that of before"}, codes)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A study of three agents, one of them a learner."""
    ppo = load_group("agent", "ppo")
    agents = load_group("agent", "stock"), load_group("agent", "proxmox"), ppo | {"train": ppo["train"] | TRAIN}
    folder = tmp_path_factory.mktemp("runs") / "studies" / "s"
    run_study(protocol_of(*agents), folder, 1)
    return folder


@pytest.fixture
def study(played, tmp_path):
    """A copy, which is all that is known of it."""
    shutil.copytree(played, tmp_path / "runs" / "studies" / "s")
    return tmp_path / "runs" / "studies" / "s"


def job_of(folder, name):
    return next(done for done in read_study(folder)[1] if done.job.agent["name"] == name)


def edit(folder, name, change):
    """Change a job's file as somebody would who knows of the digest."""
    path = job_file(folder, job_of(folder, name).job)
    content = json.loads(path.read_text())
    del content["digest"]
    change(content)
    path.write_text(json.dumps(content | {"digest": digest(content)}))


def said(capsys, *words, code=0):
    assert cli.main(["validate", *words]) == code
    return capsys.readouterr()


def test_every_row_comes_out_again_to_the_bit(study, capsys):
    text = said(capsys, str(study), "rows=all", "workers=1").out
    assert "6 of 6 rows are played again" in text
    assert text.count("2 rows, equal\n") == 3
    assert text.endswith("all 6 rows are equal to the bit\n")
    assert "other here than there: code: that of before there, " in text


def test_a_learner_is_trained_again_to_the_bit(study, capsys):
    text = said(capsys, str(study), "rows=all", "train=true", "workers=1").out
    assert "6 of 6 rows are played again, 1 training done again" in text
    assert text.count("2 rows, equal\n") == 2
    assert text.count("2 rows, trained again, curve, weights and rows equal\n") == 1
    assert text.endswith("all 6 rows are equal to the bit\n")


def test_a_curve_of_another_bit_and_another_weight_are_found_by_training_again(study, capsys):
    """The weight is one of the critic, which changes nothing that is played."""

    def change(content):
        content["curve"][0]["score"] = math.nextafter(content["curve"][0]["score"], 0.0)

    edit(study, "ppo", change)
    heavier(study / job_of(study, "ppo").model, "value_net.bias")
    assert said(capsys, str(study), "rows=all", "workers=1").out.endswith("all 6 rows are equal to the bit\n")
    printed = said(capsys, str(study), "rows=all", "train=true", "workers=1", code=1)
    assert "2 rows, trained again, not equal: curve at step 256 score " in printed.out
    assert "; weights value_net.bias differ by up to 0.25\n" in printed.out
    assert printed.err.startswith("hvgym: 2 of 6 rows are not equal; ")


def heavier(path, name):
    """Add a quarter to a weight of a network's file."""
    with zipfile.ZipFile(path) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    weights = torch.load(io.BytesIO(members["policy.pth"]), weights_only=True)
    weights[name] += 0.25
    torch.save(weights, changed := io.BytesIO())
    with zipfile.ZipFile(path, "w") as archive:
        for one, content in (members | {"policy.pth": changed.getvalue()}).items():
            archive.writestr(one, content)


@pytest.mark.parametrize("with_study", [True, False])
def test_points_of_a_density_are_played_again_and_an_edited_one_is_found(study, capsys, with_study):
    runs = study.parents[1]
    name = "s" if with_study else "d"
    words = ["hypervisor=kvm", "agents=[stock,proxmox]", "fleets=2", "most_ratio=1.0", "workers=1", "tracking=none"]
    assert cli.main(["capacity", *words, f"study={name}", f"runs={runs}"]) == 0
    capsys.readouterr()
    text = said(capsys, name, "rows=all", "workers=1", f"runs={runs}").out
    files = sorted((runs / "studies" / name / "capacity" / "jobs").glob("*.json"))
    assert f"densities: {len(files)} of {len(files)} points are played again\n" in text
    assert text.count("2 fleets, equal\n") == len(files)
    rows = "6 rows and " if with_study else ""
    assert text.endswith(f"all {rows}{len(files)} points of densities are equal to the bit\n")
    content = json.loads(files[0].read_text())
    del content["digest"]
    before = content["fleets"]["goodput"][1]
    content["fleets"]["goodput"][1] = there = math.nextafter(before, 0.0)
    files[0].write_text(json.dumps(content | {"digest": digest(content)}))
    printed = said(capsys, name, "rows=all", "workers=1", f"runs={runs}", code=1)
    assert f"2 fleets not equal: seed {SEEDS[1]} goodput {there!r} there, {before!r} here\n" in printed.out
    assert f"1 of {len(files)} points of densities are not equal" in printed.err
    content["key"] = "0" * 16  # of an agent whose settings are nowhere
    files[0].write_text(json.dumps(content | {"digest": digest(content)}))
    assert "the settings of its agent stand nowhere here" in said(capsys, name, "rows=all", f"runs={runs}", code=1).out


def test_rows_are_checked_in_several_processes_as_in_one(study):
    done = read_study(study)[1]
    one, two = ({c.done.job.key: c for c in check_jobs(sample(done, None, 0), study, n)} for n in (1, 2))
    assert one == two
    assert len(one) == 3


def test_a_row_that_was_edited_by_one_bit_is_found_with_its_metric_and_both_values(study, capsys):
    def change(content):
        content["rows"][1]["goodput"] = math.nextafter(content["rows"][1]["goodput"], 0.0)

    before = job_of(study, "proxmox").rows[1]["goodput"]
    edit(study, "proxmox", change)
    printed = said(capsys, str(study), "rows=all", "workers=1", code=1)
    there = math.nextafter(before, 0.0)
    assert f"1 of 2 rows not equal: seed {SEEDS[1]} goodput {there!r} there, {before!r} here\n" in printed.out
    assert printed.out.count("rows, equal\n") == 2
    assert printed.err == "hvgym: 1 of 6 rows are not equal; see above what is other here\n"


def test_what_is_other_here_is_named(study, capsys):
    def change(content):
        content["version"] = "0.0.9"
        content["made_on"] |= {"numpy": "1.0", "cpu": "pentium"}

    edit(study, "proxmox", change)
    text = said(capsys, str(study), "rows=all", "workers=1", "agents=[proxmox]").out
    ours = here()
    for line in (
        "hvgym: 0.0.9 there, ",
        f"numpy: 1.0 there, {ours['numpy']} here",
        f"cpu: pentium there, {ours['cpu']} here",
    ):
        assert f"other here than there: {line}" in text


def test_a_study_of_before_says_that_its_machine_was_not_recorded(study):
    edit(study, "proxmox", lambda content: content.pop("made_on"))
    assert "machine and libraries: not recorded there" in other_here([job_of(study, "proxmox")])
    assert "machine and libraries: not recorded there" not in other_here([job_of(study, "stock")])


def test_differences_are_of_bits():
    rows = [{"eval_seed": 7} | dict.fromkeys(differences.__globals__["METRICS"], 0.0)]
    done = Done(Job({"name": "a"}, {"name": "s"}, 0, 1, 1), rows, [], None, "P1")
    assert differences(done, rows) == []
    assert differences(done, [rows[0] | {"cost": -0.0}]) == [Difference(7, "cost", 0.0, -0.0)]


def test_a_sample_is_spread_over_the_jobs_and_takes_no_row_twice():
    done = [
        Done(Job({"name": str(i)}, {"name": "s"}, 0, 4, 1), [{"eval_seed": s} for s in range(4)], [], None, "P1")
        for i in range(5)
    ]
    for rows in range(1, 21):
        drawn = sample(done, rows, 1)
        assert sum(len(seeds) for _, seeds in drawn) == rows
        assert len(drawn) == min(rows, 5)
        assert all(len(set(seeds)) == len(seeds) for _, seeds in drawn)
        assert max(len(seeds) for _, seeds in drawn) - min(len(seeds) for _, seeds in drawn) <= 1
    assert sample(done, None, 1) == sample(done, 20, 2) or len(sample(done, None, 1)) == 5
    assert sample(done, 3, 1) != sample(done, 3, 2)
    assert sample(done, 3, 1) == sample(done, 3, 1)


# ---- networks


def test_a_learner_plays_with_the_network_of_its_study_and_with_none_where_it_is_gone(study):
    done = job_of(study, "ppo")
    (study / done.model).unlink()
    checked = check_job(done, study, SEEDS)
    assert "its network is not there" in checked.failed
    assert checked.wrong_rows == 2


def test_a_network_that_was_changed_is_found(study):
    done = job_of(study, "ppo")
    other = run_job(replace(done.job, train_seed=5), study)
    shutil.copy(study / other.model, study / done.model)
    assert check_job(done, study, SEEDS).wrong_rows == 2


def test_a_network_outside_the_study_is_not_read(study):
    done = replace(job_of(study, "ppo"), model="../../../best.zip")
    with pytest.raises(InputError, match="lies outside the study's folder"):
        play_again(done, study, SEEDS[:1])


def test_a_network_that_the_command_named_is_kept_in_the_study(study, tmp_path):
    given = tmp_path / "elsewhere" / "best.zip"
    given.parent.mkdir()
    shutil.copy(study / job_of(study, "ppo").model, given)
    agent = job_of(study, "ppo").job.agent | {"checkpoint": str(given), "checkpoint_sha256": "0123456789abcdef" * 4}
    done = run_job(replace(job_of(study, "ppo").job, agent=agent), study)
    shutil.rmtree(given.parent)
    assert network_file(study, agent).is_file()
    assert check_job(done, study, SEEDS).wrong_rows == 0


# ---- code from outside the package


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A study of a user's own policy, whose code lies in a folder that is known here."""
    paths = list(sys.path)
    monkeypatch.setattr(beside, "_BESIDE", [])
    place = tmp_path / "mine" / "agent"
    place.mkdir(parents=True)
    (place / "shares.py").write_text(OWN.format(share=0.7))
    beside.make_importable([place.parent])
    agent = {"name": "mine", "description": "", "_target_": "shares.Share"}
    folder = tmp_path / "runs" / "studies" / "own"
    run_study(protocol_of(agent), folder, 1)
    sys.modules.pop("shares")
    yield folder, place / "shares.py"
    sys.path[:] = paths
    sys.modules.pop("shares", None)


def test_code_from_outside_the_package_is_named_and_runs_only_where_it_is_trusted(own, capsys):
    folder, file = own
    printed = said(capsys, str(folder), code=2)
    assert (
        f"agent mine: would run code outside the package, shares.Share ({file}); read it, then trust=true"
        in printed.err
    )
    assert "shares" not in sys.modules
    assert said(capsys, str(folder), "trust=true", "workers=1").out.endswith("all 2 rows are equal to the bit\n")


def test_code_that_was_changed_is_named(own, capsys):
    folder, file = own
    file.write_text(
        OWN.format(share=0.65)
    )  # another length: a .pyc of the same second and size would be taken for this one's
    printed = said(capsys, str(folder), "trust=true", "workers=1", code=1)
    assert "2 of 2 rows not equal" in printed.out
    assert "other here than there: code of mine: " in printed.out


def test_code_in_a_part_of_an_agent_is_found_too():
    parts = {"name": "both", "_target_": "hvgym.agents.together.Together", "parts": [{"_target_": "os.system"}]}
    assert outside_code(parts).startswith("os.system (")
    assert outside_code(load_group("agent", "proxmox_ksmtuned")) == ""
    with pytest.raises(InputError, match=r"agent both: would run code outside the package, os\.system"):
        check_trusted([load_group("agent", "proxmox"), parts], trust=False)


def test_a_policy_that_mixes_its_episodes_is_played_as_it_was(tmp_path, own):
    _, file = own
    file.write_text(MIXES)
    agent = {"name": "mine", "description": "", "_target_": "shares.Share"}
    folder = tmp_path / "runs" / "studies" / "mixes"
    [done] = run_study(protocol_of(agent), folder, 1)
    assert differences(done, play_again(done, folder, SEEDS[:1]))
    assert check_job(done, folder, SEEDS[:1]).differences == ()


# ---- words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rows=0",), "rows=0: expected a whole number, at least 1, or all"),
        (("rows=some",), "rows='some': expected a whole number, at least 1, or all"),
        (("trust=maybe",), "trust='maybe': choose one of true, false"),
        (("agents=[esx]",), "agents='esx': has no finished job in this study; has: stock, proxmox, ppo"),
        ((), "study is missing; hvgym validate STUDY"),
    ],
)
def test_words_that_are_wrong(played, words, message, capsys):
    study = [str(played)] if words else []
    assert message in said(capsys, *study, *words, code=2).err


def test_a_study_without_a_finished_job_has_nothing_to_compare(study, capsys):
    shutil.rmtree(study / "jobs")
    assert "the study has no finished job yet" in said(capsys, str(study), code=2).err


def test_a_study_is_found_by_its_name(played, capsys, monkeypatch):
    monkeypatch.chdir(Path(played).parents[2])
    runs = Path(played).parents[1]
    assert "1 of 6 rows" in said(capsys, "s", f"runs={runs}", "rows=1").out
