"""What bench makes of a table: splits that are named are kept, its content is part of a study, VMs have rows of their own."""

from dataclasses import replace

import pytest

from hvgym.bench import contents, suites
from hvgym.bench.growing import edited
from hvgym.bench.identity import sources
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Workload, load, load_group, resolve


def with_workload(kind, split):
    return replace(load("idle-giants"), workload=Workload(kind, "/somewhere", split))


@pytest.mark.parametrize("kind", ["bitbrains", "history"])
def test_a_split_that_is_named_is_kept_by_every_verb(kind):
    for split in ("train", "validation", "test"):
        assert suites.split_of(with_workload(kind, None), split).workload.split == split
        for named in ("all", "train"):
            assert suites.split_of(with_workload(kind, named), split).workload.split == named
    assert suites.split_of(load("idle-giants"), "test").workload.split is None


def test_an_edited_table_is_another_study_and_its_manifest_is_not(own_table):
    used = {"cap_bytes": 2.0**32, "guest_used_bytes": [2.0**30] * 100}
    folder = own_table({"a": used})
    scenario = resolve(load_group("scenario", "own-vms"), workload={"kind": "history", "path": str(folder)})
    before = sources([scenario.to_dict()])
    assert f"traces {folder}" in before
    (folder / "manifest.json").write_text('{"format": "hvgym vm history 1"}')
    assert sources([scenario.to_dict()]) == before
    file = folder / "vm_samples.csv"
    file.write_text(file.read_text().replace(str(2.0**30), str(2.0**29)))
    assert sources([scenario.to_dict()]) != before


def test_an_edit_of_the_table_is_told_and_not_what_follows_from_it():
    then, now = {"code": "x", "traces /a": "1", "traces /b": "2"}, {"code": "y", "traces /a": "1", "traces /b": "3"}
    assert edited(then, now) == (
        "the files in /b were edited since (their digest was 2, now it is 3), so they are other demand"
    )
    assert edited(then, then | {"code": "y", "traces /c": "4"}) == ""


SUITE = {
    "name": "mixed", "description": "", "scenarios": ["tenants-kvm"], "agents": ["static"], "eval_seeds": 2, "rules": "default",
    "real": [{"scenario": "tenants-kvm", "overcommit_scale": 3, "swap_share": 8, "episode_s": 7200}],
}  # fmt: skip


def test_a_suite_has_real_vms_beside_where_there_are_files():
    without, given = (suites.Suite.from_dict(SUITE | {"traces": traces}) for traces in (None, "/somewhere"))
    assert without.real_scenarios() == []
    assert without.left_out == (
        "suite mixed: left out for want of real VMs: tenants-kvm-real; suite.traces=DIR names a folder of GWA-T-12 files"
    )
    (real,) = given.real_scenarios(rules="default")
    assert (real.name, real.workload.kind, real.workload.path) == ("tenants-kvm-real", "bitbrains", "/somewhere")
    assert (real.workload.overcommit_scale, real.duration_s) == (3.0, 7200)
    assert (real.machine.swap_share, real.machine.overcommit) == (
        8.0,
        suites.scenario_of("tenants-kvm").machine.overcommit,
    )
    assert (real.rules, given.left_out) == ("default", "")
    only = suites.Suite.from_dict(SUITE | {"traces": "/somewhere", "scenarios": []})
    assert [scenario.name for scenario in only.real_scenarios()] == ["tenants-kvm-real"]


@pytest.mark.parametrize("suite", ["standard", "full"])
def test_no_host_of_real_vms_runs_out_of_swap_before_a_policy_acts(suite):
    """Where it has less than the VMs hold, those of stock die one after the other, and ranks say who was killed."""
    for real in suites.Suite.from_dict(load_group("suite", suite) | {"traces": "/somewhere"}).real_scenarios():
        if real.hypervisor.name == "kvm":
            assert real.machine.overcommit * real.workload.overcommit_scale < 1.0 + real.machine.swap_share


def test_a_suite_without_a_part_for_traces_says_how_they_are_played():
    with pytest.raises(
        InputError, match=r"traces=/x: suite mixed has no part for traces; workload=bitbrains workload.path=/x plays"
    ):
        suites.Suite.from_dict(SUITE | {"real": [], "traces": "/x"})
    with pytest.raises(InputError, match=r"scenarios=.*: expected names"):
        suites.Suite.from_dict(SUITE | {"scenarios": []})


def test_the_files_count_in_a_suites_hash_and_where_they_lie_does_not(tmp_path):
    def of(folder, content):
        folder.mkdir(exist_ok=True)
        (folder / "1.csv").write_text(content)
        suite = suites.Suite.from_dict(SUITE | {"traces": str(folder)})
        scenarios = [suites.scenario_of("tenants-kvm", rules="default"), *suite.real_scenarios(rules="default")]
        return contents.hash_of(contents.protocol_of(suite, scenarios))

    first = of(tmp_path / "a", "x")
    assert of(tmp_path / "b", "x") == first
    assert of(tmp_path / "b", "y") != first


def test_what_could_be_played_is_no_part_of_what_is():
    plain = contents.protocol_of(suites.Suite.from_dict(SUITE), [suites.scenario_of("tenants-kvm", rules="default")])
    bare = contents.protocol_of(
        suites.Suite.from_dict(SUITE | {"real": []}), [suites.scenario_of("tenants-kvm", rules="default")]
    )
    assert plain.identity == bare.identity
    assert contents.hash_of(plain) == contents.hash_of(bare)
