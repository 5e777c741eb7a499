"""esxtop's batch mode: wide tables, of which only the VMs' columns count."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports import pdh
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources.esxtop import SOURCE

CLOCK = "(PDH-CSV 4.0) (UTC)(0)"
MEMORY = ("Memory Size MBytes", "Memory Consumed Size MBytes", "Touched MBytes", "Memctl MBytes")


def group(number: int, name: str, object: str = "Group Memory", counters: tuple[str, ...] = MEMORY) -> list[str]:
    return [f"\\\\esx1\\{object}({number}:{name})\\{counter}" for counter in counters]


def table(path: Path, titles: list[str], rows: list[list[object]]) -> Path:
    lines = [[CLOCK, *titles], *rows]
    path.write_text("".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines))
    return path


def read(*files: Path, **options: object) -> pd.DataFrame:
    return pd.concat([batch.frame for batch in SOURCE.read(list(files), Options(**options))], ignore_index=True)


def refused(*files: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        read(*files, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    titles = ["\\\\esx1\\Memory\\Free MBytes", *group(77, "web 1"), *group(78, "db.2024"), *group(8, "helper")]
    titles += group(77, "web 1", "Group Cpu", ("% Used", "% Ready")) + group(9, "hostd.4711")
    titles += [
        f"\\\\esx1\\Vcpu({n}:{name}:1:vmx-vcpu-{i}:{name})\\% Used"
        for n, name, i in ((77, "web 1", 0), (77, "web 1", 1))
    ]
    titles += [f"\\\\esx1\\Virtual Disk({name})\\MBytes Read/sec" for name in ("web 1", "db.2024", "web 1:scsi0:0")]
    rows = [
        [
            f"05/15/2024 02:{m:02d}:00",
            9000,
            4096,
            3000 + m,
            500,
            0,
            8192,
            8000,
            700,
            64,
            0,
            1,
            1,
            0,
            150.5,
            2.5,
            90,
            80,
            1,
            0,
            75,
            76,
            1.5,
            0.25,
            1.5,
        ]
        for m in (0, 1)
    ]
    return table(tmp_path / "esxtop.csv", titles, rows)


def test_a_row_for_each_vm_and_time_and_none_for_the_hosts_own_groups(clean: Path) -> None:
    rows = read(clean)
    assert list(rows["vm"]) == ["web 1", "db.2024"] * 2
    assert list(rows["time"]) == [1715738400.0] * 2 + [1715738460.0] * 2  # date -u -d '2024-05-15 02:00' +%s
    web = rows[rows["vm"] == "web 1"].iloc[1]
    assert (web["cap"], web["backed"], web["active"], web["balloon_taken"]) == (4096, 3001, 500, 0)
    assert (web["cpu_used"], web["cpu_wait"], web["vcpus"], web["disk_read"]) == (150.5, 2.5, 2, 1.5)
    assert set(rows["host"]) == {"esx1"}
    assert rows["end"].all()
    assert list(rows["line"]) == [2, 2, 3, 3]


def test_a_vm_whose_name_looks_like_a_process_of_the_host_is_told_by_its_disk(clean: Path) -> None:
    assert "db.2024" in set(read(clean)["vm"])


def test_without_worlds_and_disks_names_tell_vms_from_the_hosts_own(tmp_path: Path) -> None:
    titles = group(77, "web") + group(8, "helper") + group(2, "system") + group(12, "vpxa.68012")
    path = table(tmp_path / "a.csv", titles, [["05/15/2024 02:00:00", *[64] * 16]])
    assert list(read(path)["vm"]) == ["web"]


def test_units_are_believed_to_be_mebibytes_and_percent_of_one_core(clean: Path) -> None:
    columns = {column.quantity: column.unit for batch in SOURCE.read([clean], Options()) for column in batch.columns}
    assert columns["cap"] == columns["active"] == "MiB"
    assert columns["cpu_used"] == "percent_of_core"
    assert columns["disk_read"] == "MiB/s"


def test_its_clock_is_utc_whatever_zone_is_said(clean: Path) -> None:
    pd.testing.assert_frame_equal(read(clean), read(clean, zone="Europe/Berlin"))


def test_two_vms_of_one_name_keep_apart(tmp_path: Path) -> None:
    titles = group(77, "web") + group(78, "web")
    path = table(tmp_path / "a.csv", titles, [["05/15/2024 02:00:00", 1024, 1, 1, 0, 2048, 2, 2, 0]])
    assert dict(zip(read(path)["vm"], read(path)["cap"], strict=True)) == {"web (77)": 1024, "web (78)": 2048}


def test_a_vm_that_is_off_has_no_row(tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.csv", group(77, "web") + group(78, "db"), [["05/15/2024 02:00:00", *[1024] * 4, *[" "] * 4]]
    )
    assert list(read(path)["vm"]) == ["web"]


def test_blocks_do_not_change_what_is_read(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(clean)
    monkeypatch.setattr(pdh, "MOST_ROWS", 2)
    assert len(list(SOURCE.read([clean], Options()))) == 2
    pd.testing.assert_frame_equal(whole, read(clean))


def test_a_cell_that_is_no_number_is_shown_with_line_and_column(tmp_path: Path) -> None:
    good, bad = ["05/15/2024 02:00:00", 1024, 1, 1, 0], ["05/15/2024 02:01:00", 1024, "1,5", 1, 0]
    path = table(tmp_path / "a.csv", group(77, "web"), [good, bad])
    assert refused(path).startswith(
        f"{path}: line 3: column '\\\\esx1\\Group Memory(77:web)\\Memory Consumed Size MBytes': '1,5'"
    )


def test_a_file_cut_off_in_a_row_is_told(clean: Path) -> None:
    clean.write_text(clean.read_text()[:-40])
    assert "line 3" in refused(clean)
    assert "cut off" in refused(clean)


def test_a_recorder_that_was_started_again_repeats_its_header(clean: Path) -> None:
    lines = clean.read_text().splitlines(keepends=True)
    clean.write_text("".join([lines[0], lines[1], lines[0], lines[2]]))
    assert list(read(clean)["line"]) == [2, 2, 4, 4]
    clean.write_text("".join([lines[0], lines[1], lines[0].replace("web 1", "web 2")]))
    assert "line 3: a second header with other counters" in refused(clean)


def test_no_vm_in_the_file_is_told(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", group(8, "helper"), [["05/15/2024 02:00:00", *[1] * 4]])
    assert "no column is of a VM (4 of 'Group Memory'" in refused(path)


def test_another_kind_of_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,mem\n1,2\n")
    assert "column 1 is 'time', expected '(PDH-CSV 4.0)'" in refused(path)


def test_thousands_of_columns_pass_in_bounded_pieces(tmp_path: Path) -> None:
    titles = [title for n in range(1000, 2500) for title in group(n, f"vm-{n}")]
    rows = [[f"05/15/2024 02:{m:02d}:00", *np.arange(6000) + m] for m in range(60)]
    sizes = [len(batch.frame) for batch in SOURCE.read([table(tmp_path / "a.csv", titles, rows)], Options())]
    assert sum(sizes) == 60 * 1500
    assert max(sizes) <= 50_000
