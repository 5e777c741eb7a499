"""Files of Bitbrains (GWA-T-12) and Materna (GWA-T-13): headers that mislead, dates and commas of two archives."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources import bitbrains, materna

NAMES = (
    *(
        "CPU cores",
        "CPU capacity provisioned [MHZ]",
        "CPU usage [MHZ]",
        "CPU usage [%]",
        "Memory capacity provisioned [KB]",
    ),
    *("Memory usage [KB]", "Disk read throughput [KB/s]", "Disk write throughput [KB/s]"),
    *("Network received throughput [KB/s]", "Network transmitted throughput [KB/s]"),
)
START = 1375315200  # 2013-08-01


def row(usage: object = 524288, capacity: object = 4000000, cpu: object = 12.5) -> list[object]:
    return [2, 5200, 650, cpu, capacity, usage, 0, 1.5, 10, 20]


def table(
    path: Path,
    times: list[object],
    rows: list[list[object]],
    time: str = "Timestamp [ms]",
    sign: str = ";\t",
    decimal: str = ".",
) -> Path:
    lines = [[time, *NAMES], *([t, *cells] for t, cells in zip(times, rows, strict=True))]
    text = "".join(
        sign.join(str(cell).replace(".", decimal) if isinstance(cell, float) else str(cell) for cell in line) + "\n"
        for line in lines
    )
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())
    return path


def read(source: object, *paths: Path, **options: object) -> pd.DataFrame:
    return pd.concat([batch.frame for batch in source.SOURCE.read(list(paths), Options(**options))], ignore_index=True)  # type: ignore[attr-defined]


def refused(source: object, *paths: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        read(source, *paths, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_capacity_is_backed_usage_is_active_and_the_size_a_guess(tmp_path: Path) -> None:
    path = table(tmp_path / "7.csv.gz", [START, START + 300], [row(), row(capacity=4100000)])
    rows = read(bitbrains, path)
    assert set(rows["vm"]) == {"7"}
    assert list(rows["time"]) == [START, START + 300], "as they stand; what they are is tested later"
    assert list(rows["backed"]) == [4000000, 4100000]
    assert list(rows["active"]) == [524288, 524288]
    assert set(rows["cap"]) == {4096}, "next standard size above 4100000 KiB (3.91 GiB)"
    assert (rows["cpu_used"][0], rows["vcpus"][0], rows["disk_write"][0], rows["net_tx"][0]) == (12.5, 2, 1.5, 20)
    columns = {
        column.quantity: column for batch in bitbrains.SOURCE.read([path], Options()) for column in batch.columns
    }
    assert columns["cap"].title.startswith("guess: next standard size")
    assert columns["backed"].unit == columns["active"].unit == "KiB"
    assert columns["backed"].zero == "unknown"


def test_a_size_that_the_user_says_is_no_guess(tmp_path: Path) -> None:
    path = table(tmp_path / "7.csv", [START], [row()])
    assert "cap" not in read(bitbrains, path, caps_mib={"7": 6144})


def test_rows_with_capacity_0_are_no_samples(tmp_path: Path) -> None:
    path = table(tmp_path / "7.csv", [START, START, START + 300], [row(), row(0, 0, 0), row(0, 0, 0)])
    assert list(read(bitbrains, path)["line"]) == [2]


def test_a_vm_that_never_ran_is_told(tmp_path: Path) -> None:
    assert "0 or nothing in every row" in refused(bitbrains, table(tmp_path / "7.csv", [START], [row(0, 0)]))


def test_a_size_in_mib_under_the_name_of_kb_is_refused(tmp_path: Path) -> None:
    said = refused(bitbrains, table(tmp_path / "7.csv", [START], [row(2000, 4096)]))
    assert "4096 at most, which as KB are 4 MiB and no VM's; the column has to be in KB: are they MiB, or GiB?" in said


def test_the_index_of_the_folder_is_no_vm(tmp_path: Path) -> None:
    table(tmp_path / "7.csv", [START], [row()])
    table(tmp_path / "10.csv", [START], [row()])
    (tmp_path / "INDEX.csv").write_text("vm,corr_cluster\n7,0\n")
    assert list(read(bitbrains, tmp_path)["vm"]) == ["7", "10"]


def test_a_file_in_several_pieces_is_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hvgym.envs.imports import flat_tables, reading

    path = table(
        tmp_path / "7.csv", [START + 300 * i for i in range(5)], [row(capacity=1000000 * (i + 1)) for i in range(5)]
    )
    whole = read(bitbrains, path)
    monkeypatch.setattr(
        flat_tables, "frames", lambda file, separator, skip, header: reading.frames(file, separator, 2, skip, header)
    )
    assert len(list(bitbrains.SOURCE.read([path], Options()))) == 3
    pd.testing.assert_frame_equal(read(bitbrains, path), whole)


DATES = ["04.11.2015 00:05:00", "13.11.2015 00:10:00"]


def test_materna_has_german_dates_and_commas(tmp_path: Path) -> None:
    path = table(tmp_path / "1.csv", DATES, [row(524288.5), row(1.25)], "Timestamp", ";", ",")
    assert "names no time zone" in refused(materna, path)
    rows = read(materna, path, zone="Europe/Berlin")
    assert list(rows["time"]) == [1446591900.0, 1447369800.0]  # 23:05 and 23:10 UTC of the days before
    assert list(rows["active"]) == [524288.5, 1.25]
    assert list(rows["cpu_used"]) == [12.5, 12.5]


def test_materna_under_the_other_name_of_its_time(tmp_path: Path) -> None:
    path = table(tmp_path / "1.csv", DATES, [row(), row()], "Timestamp [ms]", ";")
    assert len(read(materna, path, zone="Europe/Berlin")) == 2


def test_columns_are_found_under_the_names_that_the_user_gives(tmp_path: Path) -> None:
    path = table(tmp_path / "1.csv", [START], [row()])
    path.write_text(path.read_text().replace("Memory usage [KB]", "Speicher"))
    assert "no column 'Memory usage [KB]'" in refused(bitbrains, path)
    assert list(read(bitbrains, path, columns={"active": "Speicher"})["active"]) == [524288]


def test_a_cell_that_is_no_number(tmp_path: Path) -> None:
    path = table(tmp_path / "7.csv", [START, START + 300], [row(), row("12 KB")])
    assert refused(bitbrains, path).startswith(f"{path}: line 3: column 'Memory usage [KB]': '12 KB' is no number")


def test_commas_and_points_in_one_cell(tmp_path: Path) -> None:
    path = table(tmp_path / "7.csv", [START, START + 300], [row(1.5), row("1.234,5")], sign=";", decimal=",")
    assert "line 3: column 'Memory usage [KB]': '1.234,5' has both signs" in refused(bitbrains, path)


def test_unknown_values_stay_unknown(tmp_path: Path) -> None:
    assert np.isnan(read(bitbrains, table(tmp_path / "7.csv", [START], [row("")]))["active"][0])
