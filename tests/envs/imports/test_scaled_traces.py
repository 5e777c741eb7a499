"""Traces whose levels are no sizes (Google 2011 as days of VMs, SMD): refused until the user says what 100 % stands for."""

from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources import google2011, smd


def read(source: ModuleType, *files: Path, **caps_mib: float) -> pd.DataFrame:
    return pd.concat(
        [batch.frame for batch in source.SOURCE.read(list(files), Options(caps_mib=caps_mib))], ignore_index=True
    )


def refused(source: ModuleType, *files: Path, **caps_mib: float) -> str:
    with pytest.raises(InputError) as error:
        read(source, *files, **caps_mib)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.csv"
    path.write_text("job_id,day,slot,cpu_pct,mem_pct\n3418442,1,0,22.5,9.25\n3418442,2,287,21.0,101.5\n")
    return path


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    path = tmp_path / "machine-1-6.csv"
    path.write_text("minute,cpu_r,mem_u,mem_u_e,si\n0,0.0617,0.875,0.0625,0\n1,0.1,1,0.125,0\n")
    return path


@pytest.mark.parametrize("slot", ["288", "-1", "3600"])
def test_a_slot_that_no_day_has_is_named(jobs: Path, slot: str) -> None:
    jobs.write_text(jobs.read_text().replace(",287,", f",{slot},"))
    assert f"jobs.csv: line 3: column 'slot': '{slot}' is no slot of a day" in refused(google2011, jobs, all=16384)


def test_minutes_that_are_seconds_are_named(machine: Path) -> None:
    machine.write_text("minute,mem_u\n" + "".join(f"{60 * i},0.5\n" for i in range(10)))
    said = refused(smd, machine, all=16384)
    assert "machine-1-6.csv: line 3: column 'minute': 60 follows 0, and so on, expected a row a minute" in said


def test_days_of_a_job_follow_each_other(jobs: Path) -> None:
    rows = read(google2011, jobs, all=16384)
    assert list(rows["vm"]) == ["3418442"] * 2
    assert list(rows["time"]) == [0, 86400 + 287 * 300]
    assert not rows["end"].any()
    assert list(rows["backed"]) == [9.25, 101.5]
    assert set(rows["cap"]) == {16384}
    columns = next(iter(google2011.SOURCE.read([jobs], Options(caps_mib={"all": 1})))).columns
    assert [column.unit for column in columns] == ["MiB", "percent", "percent"]


def test_minutes_of_a_machine_become_seconds(machine: Path) -> None:
    rows = read(smd, machine, **{"machine-1-6": 8192})
    assert list(rows["time"]) == [0, 60]
    assert list(rows["guest_notfree"]) == [0.875, 1]
    assert list(rows["guest_used"]) == [0.0625, 0.125]
    assert set(rows["cap"]) == {8192}
    assert not set(rows) & {"guest_swap_in", "cpu_used"}, "scaled values without any unit"


def test_without_caps_nothing_is_imported(jobs: Path, machine: Path) -> None:
    assert "VM '3418442': its memory is in percent of a VM that was made up" in refused(google2011, jobs)
    assert "VM 'machine-1-6': its values are scaled to 0..1" in refused(smd, machine, other=8192)
    for said in (refused(google2011, jobs), refused(smd, machine)):
        assert "caps={all: 16384}" in said
        assert "scaled" in said


def test_cells_that_are_no_numbers(jobs: Path, machine: Path) -> None:
    jobs.write_text(jobs.read_text().replace("101.5", "1e"))
    assert refused(google2011, jobs, all=1).startswith(f"{jobs}: line 3: column 'mem_pct': '1e'")
    machine.write_text(machine.read_text().replace("0.875", "0,875;"))
    assert "line 2" in refused(smd, machine, all=1)


def test_a_missing_column_is_told(machine: Path) -> None:
    machine.write_text(machine.read_text().replace("mem_u,", "memory,"))
    assert "no column 'mem_u'" in refused(smd, machine, all=1)
