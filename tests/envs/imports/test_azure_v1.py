"""Azure 2017: arrivals, sizes and lifetimes, as published and as processed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources.azure_v1 import SOURCE


def read(*paths: Path) -> pd.DataFrame:
    return pd.concat([batch.frame for batch in SOURCE.read(list(paths), Options())], ignore_index=True)


def refused(*paths: Path) -> str:
    with pytest.raises(InputError) as error:
        read(*paths)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def churn(tmp_path: Path) -> Path:
    (tmp_path / "flav_map.txt").write_text("1,1.75 b\n16,112 d\n")
    (tmp_path / "v1.interval_map.txt").write_text("0 0\n300 1\n600 1\n900 2\n")
    (tmp_path / "v1.dev.txt").write_text("300 b,|,b,d,|,\n600 d,|,\n")
    (tmp_path / "v1.dev.c1200.txt").write_text("300 U0,|,C2,U1,|,\n600 U2,|,\n")
    return tmp_path


def test_a_row_for_each_vm(churn: Path) -> None:
    rows = read(churn)
    assert list(rows["arrive_s"]) == [300, 300, 300, 600]
    assert list(rows["cap"]) == [1.75, 1.75, 112, 112]
    assert list(rows["vcpus"]) == [1, 1, 16, 16]
    assert rows["vm"].is_unique
    assert list(rows["group"]) == ["300-0", "300-1", "300-1", "600-0"]


def test_a_lifetime_is_the_middle_of_its_bin_and_ends_with_the_trace(churn: Path) -> None:
    depart = list(read(churn)["depart_s"])
    assert depart[0] == 300 + 150
    assert np.isnan(depart[1]), "still there when the trace ends"
    assert depart[2] == 300 + 600, "bin 1 holds 300 to 900 s"
    assert depart[3] == 1200, "600 + 1050 s would pass the end of the trace"


def test_the_table_as_published(tmp_path: Path) -> None:
    path = tmp_path / "vmtable.csv"
    path.write_text(
        "aa==,s1,d1,300,900,99.5,3.25,80,Interactive,2,3.5\nbb==,s1,d1,600,2591400,99,50,98,Delay-insensitive,>24,>64\n"
    )
    rows = read(path)
    assert list(rows["vm"]) == ["aa==", "bb=="]
    assert list(rows["arrive_s"]) == [300, 600]
    assert list(rows["depart_s"]) == [900, 2591400]
    assert list(rows["cap"]) == [3.5, 64]
    assert list(rows["vcpus"]) == [2, 24]
    assert set(rows["group"]) == {"s1"}
    assert not {"active", "backed", "guest_used"} & set(rows)


def test_a_cell_of_the_published_table_that_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "vmtable.csv"
    path.write_text("aa==,s1,d1,300,900,99.5,3.25,80,Interactive,2,3.5\nbb==,s1,d1,soon,9,9,5,9,Unknown,2,3.5\n")
    assert refused(path).startswith(f"{path}: line 2: column 'vmcreated': 'soon' is no number")


@pytest.mark.parametrize("name", ["flav_map.txt", "v1.interval_map.txt", "v1.dev.c1200.txt", "v1.dev.txt"])
def test_a_missing_file_is_asked_for(churn: Path, name: str) -> None:
    (churn / name).unlink()
    words = {"v1.dev.c1200.txt": "lifetimes are missing", "v1.dev.txt": "no arrivals of VMs here, only"}
    assert words.get(name, f"give {name} too") in refused(churn)


def test_arrivals_and_lifetimes_that_are_no_partners(churn: Path) -> None:
    (churn / "v1.dev.c1200.txt").write_text("300 U0,|,U1,|,\n600 U2,|,\n")
    assert "line 1: v1.dev.c1200.txt does not have the same VMs at second 300" in refused(churn)
    (churn / "v1.dev.c1200.txt").write_text("300 U0,|,C2,U1,|,\n")
    assert "line 2" in refused(churn)


def test_letters_and_bins_that_no_map_knows(churn: Path) -> None:
    (churn / "flav_map.txt").write_text("1,1.75 b\n")
    assert "v1.dev.txt: line 1: flavour 'd' is not in the map" in refused(churn)
    (churn / "flav_map.txt").write_text("1,1.75 b\n1,2 b\n")
    assert "line 2: 'b' stands for two flavours" in refused(churn)
    (churn / "flav_map.txt").write_text("1,1.75 b\n16,112 d\n")
    (churn / "v1.interval_map.txt").write_text("0 0\n300 1\n")
    assert "lifetime 'C2'" not in refused(churn)
    assert "v1.dev.c1200.txt: line 2: lifetime 'U2' is in no bin" in refused(churn)


def test_a_line_that_is_something_else(churn: Path) -> None:
    (churn / "v1.dev.txt").write_text("300 b,|,b,d,|,\nsix d,|,\n")
    assert "v1.dev.txt: line 2: 'six d,|,' is no 'seconds g,|,b,m'" in refused(churn)
    (churn / "note.txt").write_text("downloaded in May\n")
    assert "note.txt: line 1: 'downloaded in May' is neither" in refused(churn)
