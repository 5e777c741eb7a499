"""Studies that grow: what is there is not played again, and the result is that of a study played at once."""

import json
from dataclasses import replace

import pytest

from hvgym.bench import growing, jobs
from hvgym.bench.growing import Settled, joined
from hvgym.bench.jobs import job_file
from hvgym.bench.protocol import Protocol
from hvgym.bench.report import write_report
from hvgym.bench.study import opened, read_study, run_study
from hvgym.bench.suites import Suite
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group

pytestmark = pytest.mark.usefixtures("no_pictures")

FIRST, SECOND = "no-guest-swap-short", "idle-giants-short"

TINY_PPO = load_group("agent", "ppo") | {
    "train": {"total_steps": 2000, "envs": 8, "n_steps": 16, "batch_size": 64, "n_epochs": 1, "validations": 2}
}


def protocol(agents=("stock", "proxmox", "reference"), scenarios=(FIRST,), eval_seeds=2, **changes):
    suite = Suite("one", "", scenarios, agents, eval_seeds, validation_seeds=1, **changes)
    configs = tuple(TINY_PPO if name == "ppo" else load_group("agent", name) for name in agents)
    return Protocol(suite, configs, tuple(load(name).to_dict() for name in scenarios), {"code": "x"})


def finish(of, folder, count=None):
    """As if these jobs had been played: whether they are is known by their files."""
    for job in of.in_order()[:count]:
        job_file(folder, job).parent.mkdir(exist_ok=True)
        job_file(folder, job).touch()


def names(of):
    return [agent["name"] for agent in of.agents]


# ---- keys


def test_keys_and_plain_data_of_a_first_block_are_those_of_before_there_were_blocks():
    """Golden: made by hvgym of before."""
    job = jobs.Job({"name": "a", "_target_": "x.Y"}, {"name": "s"}, 0, 8, 4, "", {"code": "c"})
    assert job.key == "0f85a9c11427bff9"
    assert set(job.plain()) == {"agent", "scenario", "train_seed", "eval_seeds", "validation_seeds", "code", "sources"}
    assert replace(job, first_eval_seed=8).key != job.key
    assert replace(job, trained_by="k").key != job.key


def test_a_block_has_the_seeds_after_those_before():
    asked = replace(protocol(eval_seeds=7), blocks=(2, 4, 1))
    found = asked.in_order()[:3]
    assert [list(job.seeds) for job in found] == [
        [2_000_000_000, 2_000_000_001],
        [2_000_000_002, 2_000_000_003, 2_000_000_004, 2_000_000_005],
        [2_000_000_006],
    ]
    assert [job.name for job in found] == [
        f"stock on {FIRST}",
        f"stock on {FIRST}, evaluation seeds 2 to 5",
        f"stock on {FIRST}, evaluation seed 6",
    ]
    assert found[0].key == protocol(eval_seeds=2).in_order()[0].key


def test_later_blocks_of_a_learner_are_played_by_the_network_of_the_first():
    first, later = replace(protocol(("ppo",), eval_seeds=5), blocks=(2, 3)).in_order()
    assert (first.trained_by, later.trained_by) == ("", first.key)
    heuristic = replace(protocol(("stock",), eval_seeds=5), blocks=(2, 3)).in_order()
    assert [job.trained_by for job in heuristic] == ["", ""]


# ---- what a command and a study make together


def test_more_seeds_are_a_block_and_fewer_change_nothing(tmp_path):
    old = protocol()
    finish(old, tmp_path)
    grown, settled = joined(protocol(eval_seeds=6), old, None, tmp_path)
    assert (grown.suite.eval_seeds, grown.blocks) == (6, (2, 4))
    assert grown.hash == protocol(eval_seeds=6).hash
    assert settled == Settled(("stock", "proxmox", "reference"), (FIRST,), (2,), 1)
    finish(grown, tmp_path)
    again, settled = joined(protocol(eval_seeds=3), grown, settled, tmp_path)
    assert (again.suite.eval_seeds, again.blocks, settled) == (6, (2, 4), None)
    more, _ = joined(protocol(eval_seeds=7), again, None, tmp_path)
    assert more.blocks == (2, 4, 1)


def test_a_growth_that_was_interrupted_goes_on_or_is_given_up(tmp_path):
    old = protocol()
    finish(old, tmp_path)
    grown, settled = joined(protocol(eval_seeds=2000), old, None, tmp_path)
    finish(grown, tmp_path, 2)
    same, kept = joined(protocol(eval_seeds=2000), grown, settled, tmp_path)
    assert (same.blocks, kept) == ((2, 1998), settled)
    other, kept = joined(protocol(eval_seeds=6), grown, settled, tmp_path)
    assert (other.blocks, kept) == ((2, 4), settled)
    given_up, kept = joined(protocol(), grown, settled, tmp_path)
    assert (given_up.blocks, given_up.suite.eval_seeds, kept) == ((), 2, None)
    assert given_up.hash == old.hash


def test_agents_that_had_finished_before_a_growth_stay_when_it_is_interrupted(tmp_path):
    old = protocol()
    finish(old, tmp_path)
    grown, settled = joined(protocol(eval_seeds=4), old, None, tmp_path)
    again, _ = joined(protocol(("stock", "reference"), eval_seeds=4), grown, settled, tmp_path)
    assert names(again) == ["stock", "proxmox", "reference"]
    changed = protocol(eval_seeds=4)
    changed = replace(changed, agents=(changed.agents[0], changed.agents[1] | {"target_share": 0.5}, changed.agents[2]))
    with pytest.raises(InputError, match="agent proxmox differs"):
        joined(changed, grown, settled, tmp_path)


def test_nothing_binds_a_study_in_which_nothing_is_finished(tmp_path):
    old = protocol(eval_seeds=2000)
    asked, settled = joined(protocol(("stock",), (SECOND,), eval_seeds=3), old, None, tmp_path)
    assert (asked.suite.eval_seeds, asked.blocks, names(asked), settled) == (3, (), ["stock"], None)
    assert [scenario["name"] for scenario in asked.scenarios] == [SECOND]


def test_scenarios_are_added_and_those_that_are_there_stay(tmp_path):
    old = replace(protocol(), sources={"code": "x", "stock a": "1"})
    finish(old, tmp_path)
    asked = replace(protocol(scenarios=(SECOND,)), sources={"code": "x", "stock b": "2"})
    grown, settled = joined(asked, old, None, tmp_path)
    assert grown.suite.scenarios == tuple(scenario["name"] for scenario in grown.scenarios) == (FIRST, SECOND)
    assert grown.sources == {"code": "x", "stock a": "1", "stock b": "2"}
    keys = {job.key for job in grown.in_order()}
    assert keys > {job.key for job in old.in_order()}  # to be found again
    assert [job.sources for job in grown.in_order() if job.scenario["name"] == SECOND] == [asked.sources] * 3
    assert settled.scenarios == (FIRST,)
    finish(grown, tmp_path)
    for command in (asked, old):
        assert joined(command, grown, settled, tmp_path)[0] == grown
    dropped, _ = joined(old, grown, settled, tmp_path / "elsewhere")  # where no file of the new scenario lies
    assert dropped.suite.scenarios == (FIRST,)


def test_a_study_of_named_scenarios_has_the_name_of_all(tmp_path):
    suite = protocol().suite
    one, two = (replace(protocol(scenarios=(name,)), suite=suite.on((name,))) for name in (FIRST, SECOND))
    finish(one, tmp_path)
    grown, _ = joined(two, one, None, tmp_path)
    assert grown.suite.name == f"one-on-{FIRST}-{SECOND}"
    assert grown.hash == replace(protocol(scenarios=(FIRST, SECOND)), suite=suite.on((FIRST, SECOND))).hash
    again, _ = joined(one, one, None, tmp_path)
    assert again.suite.name == one.suite.name
    whole = protocol(scenarios=(SECOND,))
    assert joined(whole, one, None, tmp_path)[0].suite.name == "one"


def test_training_seeds_are_added(tmp_path):
    old = protocol(("stock", "ppo", "reference"))
    finish(old, tmp_path)
    grown, _ = joined(protocol(("ppo",), train_seeds=3), old, None, tmp_path)
    assert [job.train_seed for job in grown.in_order() if job.agent["name"] == "ppo"] == [0, 1, 2]
    assert grown.hash == protocol(train_seeds=3).hash
    assert joined(protocol(), grown, None, tmp_path)[0].suite.train_seeds == 3


def test_what_differs_otherwise_is_named(tmp_path):
    old = protocol()
    finish(old, tmp_path)
    longer = replace(protocol(), scenarios=(load(FIRST).to_dict() | {"episode_s": 300},))
    for asked, message in (
        (replace(protocol(), suite=replace(old.suite, validation_seeds=3)), r"differs in suite.validation_seeds .there 1, asked 3"),
        (replace(protocol(), suite=replace(old.suite, name="two")), r"differs in suite.name .there 'one', asked 'two'"),
        (longer, rf"differs in scenarios.{FIRST}.episode_s"),
        (replace(protocol(), sources={"code": "y"}), r"other code of hvgym than this one .there 'x', asked 'y'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            joined(asked, old, None, tmp_path)


def test_traces_of_scenarios_that_a_command_does_not_name_must_be_the_same(tmp_path, monkeypatch):
    old = replace(protocol(), sources={"code": "x", "traces t": "1"})
    finish(old, tmp_path)
    asked = protocol(scenarios=(SECOND,))
    monkeypatch.setattr(growing, "sources", lambda scenarios: {"code": "x", "traces t": "1"})
    joined(asked, old, None, tmp_path)
    monkeypatch.setattr(growing, "sources", lambda scenarios: {"code": "x", "traces t": "2"})
    with pytest.raises(
        InputError,
        match=r"the files in t were edited since \(their digest was 1, now it is 2\), so they are other demand; choose study=NAME",
    ):
        joined(asked, old, None, tmp_path)


def test_hosts_alone_and_clusters_are_not_joined(tmp_path):
    old = protocol()
    finish(old, tmp_path)
    with pytest.raises(InputError, match="hot-host several; they have no common scale"):
        joined(protocol(("stock", "cluster_reference"), ("hot-host",)), old, None, tmp_path)


def test_the_references_of_the_join_play(tmp_path, monkeypatch):
    """Senpai, refused on the first scenario, plays the second, so the reference of its seat does."""

    def where(names, hypervisors):
        from hvgym.envs.scenario import resolve

        return tuple(
            resolve(load_group("scenario", name), hypervisor=load_group("hypervisor", on), rules="default").to_dict()
            for name, on in zip(names, hypervisors, strict=True)
        )

    old = replace(
        protocol(("stock", "senpai", "esx_equal", "reference"), rules="default"), scenarios=where([FIRST], ["esxi"])
    )
    finish(old, tmp_path)
    asked = protocol(("stock", "esx_equal", "senpai", "reference"), (SECOND,), rules="default")
    monkeypatch.setattr(growing, "sources", lambda scenarios: {"code": "x"})
    grown, _ = joined(replace(asked, scenarios=where([SECOND], ["kvm"])), old, None, tmp_path)
    assert names(grown)[-1] == "reference_outside"


# ---- played


class StoppedError(Exception):
    pass


def test_a_study_that_has_grown_equals_one_that_was_played_at_once(tmp_path):
    """By seeds, then by a scenario, then by an agent; interrupted in between. Rows and summary are equal to the bit."""
    at_once, grown = tmp_path / "at once", tmp_path / "grown"
    run_study(protocol(("stock", "reference", "proxmox"), (FIRST, SECOND), eval_seeds=5), at_once, 1)

    def stop(done, finished, total):
        if finished == 3:
            raise StoppedError

    run_study(protocol(("stock", "reference")), grown, 1)
    stamps = {path: path.stat().st_mtime_ns for path in (grown / "jobs").glob("*.json")}
    with pytest.raises(StoppedError):
        run_study(protocol(("stock", "reference"), eval_seeds=5), grown, 1, stop)
    run_study(protocol(("stock", "reference"), (SECOND,), eval_seeds=5), grown, 1)
    run_study(protocol(("proxmox",), eval_seeds=3), grown, 1)
    for folder in (at_once, grown):
        write_report(folder)
    for name in ("results.csv", "summary.json"):
        assert (grown / name).read_bytes() == (at_once / name).read_bytes()
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(list((grown / "jobs").glob("*.json"))) == 3 * 2 * 2


def test_a_network_is_trained_once_and_plays_every_block(tmp_path, monkeypatch):
    run_study(protocol(("stock", "ppo", "reference")), tmp_path, 1)
    files = {path: path.read_bytes() for path in (tmp_path / "models").rglob("best.zip")}
    assert len(files) == 1
    monkeypatch.setattr(jobs, "train_network", lambda *arguments: pytest.fail("trained again"))
    done = run_study(protocol(("ppo",), eval_seeds=4), tmp_path, 1)
    first, later = (one for one in done if one.job.agent["name"] == "ppo")
    assert first.model == later.model
    assert later.curve == []
    assert {path: path.read_bytes() for path in (tmp_path / "models").rglob("best.zip")} == files
    assert [row["eval_seed"] for row in later.rows] == [2_000_000_002, 2_000_000_003]
    assert read_study(tmp_path)[1] == done

    (tmp_path / later.model).unlink()
    job_file(tmp_path, later.job).unlink()
    with pytest.raises(InputError, match=rf"its network .*best.zip is gone; delete .*{first.job.key}.json"):
        run_study(protocol(("ppo",), eval_seeds=4), tmp_path, 1)


def test_the_files_of_a_study_that_never_grew_are_as_they_were(tmp_path):
    with opened(protocol(), tmp_path):
        content = json.loads((tmp_path / "protocol.json").read_text())
    assert list(content) == ["hash", "identity", "agents", "codes", "hvgym", "digest"]
    job = protocol().in_order()[0]
    done = jobs.run_job(job, tmp_path)
    written = json.loads(job_file(tmp_path, job).read_text())
    assert list(written["job"]) == [
        "agent",
        "scenario",
        "train_seed",
        "eval_seeds",
        "validation_seeds",
        "code",
        "sources",
    ]
    assert done == jobs.read_job(tmp_path, job)
