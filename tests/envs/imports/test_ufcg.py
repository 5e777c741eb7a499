"""UFCG's private cloud: use in one file, sizes and owners in others."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources.ufcg import SOURCE


def read(*paths: Path, **options: object) -> pd.DataFrame:
    return pd.concat([batch.frame for batch in SOURCE.read(list(paths), Options(**options))], ignore_index=True)


def refused(*paths: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        read(*paths, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    (tmp_path / "servers_utilization.csv").write_text(
        "id,timestamp,server_id,vcpu_utilization,ram_utilization,host_id\n"
        "1,1714521900,aa,150.5,40.25,h1\n2,1714521900,bb,3,0,h2\n3,1714522200,aa,,41,h1\n"
    )
    (tmp_path / "servers_specs.csv").write_text("id,timestamp,server_id,flavor_id\n1,1,aa,f2\n2,1,bb,f1\n3,2,bb,f2\n")
    (tmp_path / "flavors.csv").write_text(
        "id,flavor_id,flavor_name,vcpu,ram,disk\n1,f1,small,1,2048,20\n2,f2,large,4,8192,40\n"
    )
    (tmp_path / "servers_ownerships.csv").write_text(
        "id,timestamp,server_id,user_id,project_id\n1,1,aa,u1,p1\n2,1,bb,u1,p2\n"
    )
    return tmp_path


def test_use_with_sizes_and_owners(cloud: Path) -> None:
    rows = read(cloud)
    assert list(rows["vm"]) == ["aa", "bb", "aa"]
    assert list(rows["time"]) == [1714521900, 1714521900, 1714522200]
    assert list(rows["guest_used"]) == [40.25, 0, 41]
    assert rows["cpu_used"][0] == 150.5
    assert np.isnan(rows["cpu_used"][2])
    assert list(rows["cap"]) == [8192, 8192, 8192], "of the flavour that stands last"
    assert list(rows["vcpus"]) == [4, 4, 4]
    assert list(rows["group"]) == ["p1", "p2", "p1"]
    assert list(rows["host"]) == ["h1", "h2", "h1"]


def test_units_and_that_0_is_unknown(cloud: Path) -> None:
    columns = {column.quantity: column for column in next(iter(SOURCE.read([cloud], Options()))).columns}
    assert columns["guest_used"].unit == "percent"
    assert columns["guest_used"].zero == "unknown"
    assert columns["cpu_used"].unit == "percent_of_core"
    assert columns["cap"].unit == "MiB"


def test_without_sizes_there_is_no_import_unless_the_user_says_them(cloud: Path) -> None:
    (cloud / "flavors.csv").unlink()
    assert "give servers_specs.csv and flavors.csv too, or caps=" in refused(cloud)
    assert read(cloud, caps_mib={"aa": 8192})["cap"].isna().all()


def test_without_use_there_is_nothing(cloud: Path) -> None:
    assert "give servers_utilization.csv" in refused(cloud / "flavors.csv")


def test_a_cell_that_is_no_number(cloud: Path) -> None:
    path = cloud / "servers_utilization.csv"
    path.write_text(path.read_text().replace("40.25", "40%"))
    assert refused(cloud).startswith(f"{path}: line 2: column 'ram_utilization': '40%' is no number")
