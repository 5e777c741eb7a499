"""govc's JSON of samples, in its old and its new spelling, and vm.info beside it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources.govc import SOURCE

SAMPLE = {
    "sample": [
        {
            "entity": {"type": "VirtualMachine", "value": "vm-42"},
            "sampleInfo": [
                {"timestamp": "2024-05-01T00:05:00Z", "interval": 300},
                {"timestamp": "2024-05-01T02:10:00+02:00", "interval": 300},
            ],
            "value": [
                {"name": "mem.active.average", "unit": "kiloBytes", "instance": "", "value": [262144, -1]},
                {"name": "cpu.usage.average", "unit": "percent", "instance": "", "value": [1250, 275]},
                {"name": "cpu.usage.average", "unit": "percent", "instance": "0", "value": [9999, 9999]},
                {"name": "mem.usage.average", "unit": "percent", "instance": "", "value": [625, 625]},
            ],
        },
        {"entity": {"type": "HostSystem", "value": "host-9"}, "sampleInfo": [], "value": []},
    ]
}
INFO = {
    "virtualMachines": [
        {
            "self": {"type": "VirtualMachine", "value": "vm-42"},
            "name": "web",
            "summary": {"config": {"name": "web", "memorySizeMB": 4096, "numCpu": 2, "instanceUuid": "5027-ab"}},
        }
    ]
}
START = 1714521900.0  # date -u -d '2024-05-01 00:05' +%s


def capitals(found: Any) -> Any:
    """As older versions of govc spell keys."""
    if isinstance(found, dict):
        return {key[0].upper() + key[1:]: capitals(value) for key, value in found.items()}
    return [capitals(value) for value in found] if isinstance(found, list) else found


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
    return path


def read(*files: Path) -> pd.DataFrame:
    return pd.concat([batch.frame for batch in SOURCE.read(list(files), Options())], ignore_index=True)


def refused(*files: Path) -> str:
    with pytest.raises(InputError) as error:
        read(*files)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("spelling", [lambda found: found, capitals])
def test_samples_with_names_and_sizes_of_vm_info(tmp_path: Path, spelling: Any) -> None:
    rows = read(write(tmp_path / "a.json", spelling(SAMPLE)), write(tmp_path / "b.json", spelling(INFO)))
    assert list(rows["vm"]) == ["web", "web"]
    assert list(rows["time"]) == [START, START + 300]
    assert set(rows["interval_s"]) == {300}
    assert rows["active"][0] == 262144
    assert np.isnan(rows["active"][1]), "-1 is a missing sample"
    assert list(rows["cpu_used"]) == [12.5, 2.75], "of the whole VM, not of CPU 0"
    assert (rows["cap"][0], rows["vcpus"][0], rows["uuid"][0]) == (4096, 2, "5027-ab")


def test_units_are_kibibytes_and_percent(tmp_path: Path) -> None:
    columns = next(iter(SOURCE.read([write(tmp_path / "a.json", SAMPLE)], Options()))).columns
    assert {column.quantity: column.unit for column in columns} == {
        "active": "KiB",
        "cpu_used": "percent",
        "cap": "MiB",
        "vcpus": None,
    }


def test_usage_where_active_is_missing_is_in_hundredths_of_percent(tmp_path: Path) -> None:
    columns = next(
        iter(SOURCE.read([write(tmp_path / "a.json", changed(value=SAMPLE["sample"][0]["value"][3:]))], Options()))
    ).columns
    assert {column.quantity: column.unit for column in columns}["active"] == "hundredths"


def test_without_vm_info_a_vm_is_called_by_its_managed_object_and_has_no_size(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.json", SAMPLE))
    assert set(rows["vm"]) == {"vm-42"}
    assert rows["cap"].isna().all()


def test_days_behind_each_other_in_one_file(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.json", json.dumps(SAMPLE) + "\n" + json.dumps(SAMPLE)))
    assert len(rows) == 4


def changed(**change: Any) -> dict[str, Any]:
    entity = json.loads(json.dumps(SAMPLE["sample"][0]))
    entity.update(change)
    return {"sample": [entity]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"sample": [', "line 1, column"),
        ({"sample": 5}, "sample is 5, expected a list"),
        ({"pools": []}, "neither samples nor VMs ('pools')"),
        (INFO, "no samples in any file"),
        (
            changed(value=[{"name": "mem.active.average", "instance": "", "value": [1]}]),
            "sample[0].value mem.active.average: 1 values for 2 times",
        ),
        (
            changed(value=[{"name": "mem.active.average", "instance": "", "value": [1, "2"]}]),
            "sample[0].value mem.active.average[1] is '2', expected a number",
        ),
        (changed(sampleInfo=[{"timestamp": "1.5.2024"}, {}]), "sample[0].sampleInfo[0].timestamp is '1.5.2024'"),
        (changed(sampleInfo=[{"timestamp": "2024-05-01T00:05:00"}, {}]), "expected a date as 2024-05-01T00:05:00Z"),
        (changed(entity={"type": "VirtualMachine", "value": 42}), "sample[0].entity.value is 42"),
        (
            changed(value=[{"name": "mem.granted.average", "instance": "", "value": [1, 2]}]),
            "counter that is read; there are 'mem.granted.average', wanted are mem.active.average, mem.usage.average",
        ),
        ({"sample": []}, "there are none at all, wanted are mem.active.average"),
        ({"virtualMachines": [{"name": "web"}]}, "virtualMachines[0] has no name or no self.value"),
    ],
)
def test_what_is_wrong_is_shown_where_it_stands(tmp_path: Path, content: Any, words: str) -> None:
    assert words in refused(write(tmp_path / "a.json", content))
