"""Borg's windows and normalised memory."""

from pathlib import Path

import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources.borg2019 import SOURCE

EXTRACT = (
    "time,collection_id,instance_index,machine_id,avg_memory_usage,max_memory_usage,assigned_memory,memory_limit\n"
)
QUERY = (
    "start_time,end_time,collection_id,instance_index,machine_id,average_usage_memory,maximum_usage_memory,assigned_memory,"
    "page_cache_memory\n"
)


def read(*files: Path, machine_mib: float | None = 524288) -> pd.DataFrame:
    caps_mib = {"machine": machine_mib} if machine_mib else {}
    return pd.concat([batch.frame for batch in SOURCE.read(list(files), Options(caps_mib=caps_mib))], ignore_index=True)


def refused(*files: Path, machine_mib: float | None = 524288) -> str:
    with pytest.raises(InputError) as error:
        read(*files, machine_mib=machine_mib)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def extract(tmp_path: Path) -> Path:
    path = tmp_path / "usage.csv"
    path.write_text(EXTRACT + "301000000,11,4,9,0.25,0.375,0.5,0.75\n600000000,11,4,9,0.125,0.25,0.5,0.75\n")
    return path


@pytest.mark.parametrize("column", ["avg_memory_usage", "max_memory_usage", "memory_limit"])
def test_more_memory_than_the_largest_machine_has_is_named(extract: Path, column: str) -> None:
    rows = pd.read_csv(extract, dtype={column: str})
    rows.loc[1, column] = "37.5"
    rows.to_csv(extract, index=False)
    assert f"usage.csv: line 3: column '{column}': '37.5' is more than the largest machine has" in refused(extract)


@pytest.mark.parametrize("end", [300000000, 600000000])
def test_a_window_that_ends_before_it_has_begun_is_named(tmp_path: Path, end: int) -> None:
    path = tmp_path / "usage.csv"
    path.write_text(QUERY + f"300000000,600000000,11,4,9,0.25,0.3,0.5,0.1\n600000000,{end},11,4,9,0.25,0.3,0.5,0.1\n")
    assert f"usage.csv: line 3: column 'end_time': '{end}' is not behind start_time '600000000'" in refused(path)


def test_means_and_maxima_are_rows_of_their_own(extract: Path) -> None:
    rows = read(extract)
    assert list(rows["vm"]) == ["11-4"] * 4
    assert list(rows["agg"]) == ["mean", "mean", "max", "max"]
    assert list(rows["backed"]) == [part * 512 * 2**30 for part in (0.25, 0.125, 0.375, 0.25)]
    assert set(rows["cap"]) == {0.75 * 512 * 2**30}
    assert set(rows["group"]) == {"11"}


def test_a_window_starts_when_the_row_says_and_ends_at_the_next_multiple_of_300_s(extract: Path) -> None:
    means = read(extract).query("agg == 'mean'")
    assert list(means["time"]) == [301.0, 600.0]
    assert list(means["interval_s"]) == [299.0, 300.0]
    assert not means["end"].any()


def test_the_table_of_the_query(tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    path.write_text(QUERY + "301000000,401000000,11,4,9,0.25,,0.5,0.0625\n")
    rows = read(path, machine_mib=262144)
    assert rows["interval_s"][0] == 100
    assert rows["guest_cache"][0] == 16 * 2**30
    assert rows["cap"][0] == 128 * 2**30
    assert rows.query("agg == 'max'")["backed"].isna().all()


def test_what_the_largest_machine_has_must_be_said(extract: Path) -> None:
    assert "caps={machine: 524288}" in refused(extract, machine_mib=None)
    assert "scaled" in refused(extract, machine_mib=None)


def test_a_missing_column_is_told(extract: Path) -> None:
    extract.write_text(extract.read_text().replace("avg_memory_usage", "memory"))
    assert "no column average_usage.memory or average_usage_memory or avg_memory_usage" in refused(extract)


def test_a_cell_that_is_no_number(extract: Path) -> None:
    extract.write_text(extract.read_text().replace("0.125", "many"))
    assert refused(extract).startswith(f"{extract}: line 3: column 'avg_memory_usage': 'many' is no number")
