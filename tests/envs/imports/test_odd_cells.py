"""Numbers and dates that are rare: what one reading is sound of is read, and what none is ends in one line that names its place."""

import json
from pathlib import Path

import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.registry import source_of
from hvgym.envs.imports.source import Options

BEYOND_FLOAT, BEYOND_INT = 400, 5000
"""Digits of whole numbers."""


def read(source: str, *files: Path, **options: object) -> int:
    return sum(len(batch.frame) for batch in source_of(source).read(list(files), Options(**options)))


def refused(source: str, *files: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        read(source, *files, **options)
    said = str(error.value)
    assert said.startswith(f"{files[0]}: ")
    assert "\n" not in said
    assert len(said) < 600
    return said


def proxmox(folder: Path, mem: str) -> Path:
    file = folder / "100.json"
    file.write_text(
        f'[{{"time": 1710028800, "maxmem": 4294967296, "mem": 1e9}},\n{{"time": 1710028860, "mem": {mem}}}]'
    )
    return file


def govc(folder: Path, value: str = "10", interval: str = "300") -> Path:
    file = folder / "stats.json"
    file.write_text(
        '{"sample": [{"entity": {"type": "VirtualMachine", "value": "vm-42"}, "sampleInfo": [{"timestamp": '
        f'"2024-05-01T00:05:00Z", "interval": {interval}}}], "value": [{{"name": "mem.active.average", "value": [{value}]}}]}}]}}'
    )
    return file


def vm_info(folder: Path, **config: object) -> Path:
    file = folder / "vms.json"
    vm = {
        "self": {"value": "vm-42"},
        "name": "web",
        "summary": {"config": {"memorySizeMB": 4096, "numCpu": 2} | config},
    }
    file.write_text(json.dumps({"virtualMachines": [vm]}))
    return file


def prometheus(folder: Path, time: str, value: str = '"4"') -> Path:
    file = folder / "week.json"
    metric = '{"__name__": "libvirt_domain_info_maximum_memory_bytes", "domain": "web"}'
    file.write_text(f'[{{"metric": {metric}, "values": [[1710028800, "1"], [{time}, {value}]]}}]')
    return file


def test_clean_twins_pass(tmp_path: Path) -> None:
    assert read("proxmox", proxmox(tmp_path, "1" * 9)) == 2
    assert read("govc", govc(tmp_path), vm_info(tmp_path)) == 1
    assert read("govc", govc(tmp_path), vm_info(tmp_path, memorySizeMB=None, numCpu=0)) == 1
    assert read("prometheus", prometheus(tmp_path, "1710028860")) == 2


def test_more_digits_than_python_reads(tmp_path: Path) -> None:
    said = refused("proxmox", proxmox(tmp_path, "7" * BEYOND_INT))
    assert "line 2: '77777" in said
    assert "more than 4,300 digits" in said
    assert "export it again" in said
    assert "line 1: '77777" in refused("govc", govc(tmp_path, "7" * BEYOND_INT))
    assert "line 1: '77777" in refused("prometheus", prometheus(tmp_path, "7" * BEYOND_INT))


def test_more_digits_than_a_number_of_measurement_has(tmp_path: Path) -> None:
    digits = "7" * BEYOND_FLOAT
    assert "row 2: field 'mem': 77777" in refused("proxmox", proxmox(tmp_path, digits))
    assert "sample[0].value mem.active.average[0] is 77777" in refused("govc", govc(tmp_path, digits))
    assert "sample[0].sampleInfo[0].interval is 77777" in refused("govc", govc(tmp_path, interval=digits))
    for file in (prometheus(tmp_path, digits), prometheus(tmp_path, "1710028860", digits)):
        said = refused("prometheus", file)
        assert "(number 2)" in said
        assert "expected [seconds" in said


@pytest.mark.parametrize("field", ["memorySizeMB", "numCpu"])
@pytest.mark.parametrize("value", ["4 GB", [4096], True, int("7" * BEYOND_FLOAT)])
def test_sizes_of_vm_info_that_are_no_numbers(tmp_path: Path, field: str, value: object) -> None:
    said = refused("govc", vm_info(tmp_path, **{field: value}), govc(tmp_path))
    assert f"virtualMachines[0].summary.config.{field} is " in said
    assert "expected a number" in said


COLUMNS = {"vm": "name", "time": "ts", "cap": "size", "guest_used": "used"}


def table(folder: Path, *stamps: str) -> Path:
    file = folder / "table.csv"
    file.write_text("name;ts;size;used\n" + "".join(f"web;{stamp};4096;1000\n" for stamp in stamps))
    return file


@pytest.mark.parametrize(
    ("stamp", "zone"),
    [
        ("2024-03-10 00:05:00 UTC", None),
        ("2024-03-10 00:05:00.000000 UTC", None),
        ("2024/03/10 0:05:00 UTC", "Europe/Berlin"),
        ("2024/03/10 0:05:00", "UTC"),
        ("2024. 03. 10. 9:05:00", "Asia/Seoul"),
        ("20.01.2024 0:05:00 UTC", None),
    ],
)
def test_dates_with_the_year_in_front_or_utc_behind(tmp_path: Path, stamp: str, zone: str | None) -> None:
    (batch,) = source_of("plain").read([table(tmp_path, stamp)], Options(columns=COLUMNS, zone=zone))
    assert batch.frame["time"].tolist() == [1705709100 if stamp.startswith("20.") else 1710029100]


def test_two_zones_of_one_date_and_none_are_refused(tmp_path: Path) -> None:
    odd = "2024-03-10 00:05:00+01:00 UTC"
    assert f"line 2: column 'ts': '{odd}' names two" in refused("plain", table(tmp_path, odd), columns=COLUMNS)
    odd = "2024/03/10 0:05:00"
    assert f"line 2: column 'ts': '{odd}' names no time zone" in refused("plain", table(tmp_path, odd), columns=COLUMNS)


@pytest.mark.parametrize("odd", ["0/0/0000 00:00:00", "0/5/2024 00:00:00", "5/0/2024 00:00:00"])
def test_a_date_of_nothing_is_told_by_its_line(tmp_path: Path, odd: str) -> None:
    said = refused(
        "plain", table(tmp_path, "1/20/2024 00:00:00", odd, "1/20/2024 00:05:00"), columns=COLUMNS, zone="UTC"
    )
    assert f"line 3: column 'ts': '{odd}' is no date; write it as 20" in said
    assert f"line 2: column 'ts': '{odd}' is no date" in refused(
        "plain", table(tmp_path, odd), columns=COLUMNS, zone="UTC"
    )
    assert read("plain", table(tmp_path, "1/20/2024 00:00:00", "1/20/2024 00:05:00"), columns=COLUMNS, zone="UTC") == 2
