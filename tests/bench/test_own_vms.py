"""What bench makes of a table: splits that are named are kept, its content is part of a study, VMs have rows of their own."""

from dataclasses import replace

import pytest

from hvgym.bench import suites
from hvgym.bench.identity import sources
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
