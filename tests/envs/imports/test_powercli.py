"""Get-Stat | Export-Csv in the languages and zones of its users, newest first."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources.powercli import SOURCE

AFTERNOON_UTC = 1484662500.0  # date -u -d '2017-01-17 14:15' +%s

HEADER = ("Entity", "MetricId", "Timestamp", "Value", "Unit")
STATS = [
    ("web", "mem.active.average", 1, "524288", "KB"),
    ("web", "mem.active.average", 0, "262144", "KB"),
    ("web", "mem.consumed.average", 1, "2097152", "KB"),
    ("web", "mem.consumed.average", 0, "2097152", "KB"),
    ("web", "cpu.usage.average", 1, "12.5", "%"),
    ("web", "cpu.usage.average", 0, "2.75", "%"),
    ("db", "mem.active.average", 1, "1024", "KB"),
    ("db", "mem.vmmemctl.average", 1, "0", "KB"),
]  # the second field but two counts half hours


def table(
    path: Path,
    stamps: tuple[str, str],
    rows: list[tuple] = STATS,
    separator: str = ",",
    decimal: str = ".",
    encoding: str = "utf-8",
) -> Path:
    lines = [
        "#TYPE Selected.VMware.VimAutomation.ViCore.Types.V1.Stat.Sample",
        separator.join(f'"{name}"' for name in HEADER),
    ]
    for vm, metric, half_hour, value, unit in rows:
        lines.append(
            separator.join(f'"{cell}"' for cell in (vm, metric, stamps[half_hour], value.replace(".", decimal), unit))
        )
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


UTC = ("2017-01-17T14:15:00.0000000Z", "2017-01-17T14:45:00.0000000Z")


def read(*files: Path, **options: object) -> pd.DataFrame:
    return pd.concat([batch.frame for batch in SOURCE.read(list(files), Options(**options))], ignore_index=True)


def refused(*files: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        read(*files, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def units(file: Path) -> dict[str, str | None]:
    return {column.quantity: column.unit for batch in SOURCE.read([file], Options()) for column in batch.columns}


def test_rows_of_one_vm_and_time_come_beside_each_other(tmp_path: Path) -> None:
    rows = read(table(tmp_path / "stats.csv", UTC)).set_index(["vm", "time"])
    later = rows.loc[("web", AFTERNOON_UTC + 1800)]
    assert (later["active"], later["backed"], later["cpu_used"]) == (524288, 2097152, 12.5)
    assert rows.loc[("web", AFTERNOON_UTC), "active"] == 262144
    other = rows.loc[("db", AFTERNOON_UTC + 1800)]
    assert (other["active"], other["balloon_taken"]) == (1024, 0)
    assert np.isnan(other["cpu_used"])
    assert len(rows) == 3
    assert later["line"] == 3
    assert rows["end"].all()


def test_units_are_kibibytes_and_percent_of_the_vm(tmp_path: Path) -> None:
    assert units(table(tmp_path / "a.csv", UTC)) == {
        "active": "KiB",
        "backed": "KiB",
        "cpu_used": "percent",
        "balloon_taken": "KiB",
    }


def test_the_unit_that_stands_in_the_file_overrules(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", UTC, [("web", "mem.active.average", 0, "512", "MB")])
    assert units(path) == {"active": "MiB"}


@pytest.mark.parametrize(
    ("stamps", "zone"),
    [
        (("1/17/2017 3:15:00 PM", "1/17/2017 3:45:00 PM"), "Europe/Berlin"),
        (("17/01/2017 15:15:00", "17/01/2017 15:45:00"), "Europe/Paris"),
        (("17.01.2017 15:15:00", "17.01.2017 15:45:00"), "Europe/Berlin"),
        (("17.1.2017 15:15", "17.1.2017 15:45"), "Europe/Berlin"),
        (("2017-01-17 14:15:00", "2017-01-17 14:45:00"), "UTC"),
        (("2017/01/17 23:15:00", "2017/01/17 23:45:00"), "Asia/Tokyo"),
        (("2017/1/17 9:15:00", "2017/1/17 9:45:00"), "America/New_York"),
        (("2017. 01. 17. 15:15:00", "2017. 01. 17. 15:45:00"), "Europe/Budapest"),
        (("2017-01-17 9:15:00 AM", "2017-01-17 9:45:00 AM"), "America/Toronto"),
        (("1/17/2017 9:15:00 AM", "1/17/2017 9:45:00 AM"), "America/New_York"),
    ],
)
def test_times_in_any_language_are_the_same_times(tmp_path: Path, stamps: tuple[str, str], zone: str) -> None:
    local = table(tmp_path / "local.csv", stamps)
    pd.testing.assert_frame_equal(read(local, zone=zone), read(table(tmp_path / "utc.csv", UTC)))
    assert "names no time zone" in refused(local)


def test_a_year_in_front_tells_month_from_day(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ("2017/03/04 0:00:00", "2017/03/04 0:30:00"))
    assert read(path, zone="UTC")["time"].min() == 1488585600  # date -u -d 2017-03-04 +%s
    path = table(tmp_path / "b.csv", ("2017/13/04 0:00:00", "2017/13/04 0:30:00"))
    assert "line 3: column 'Timestamp': '2017/13/04 0:30:00' is no date" in refused(path, zone="UTC")


def test_day_and_month_are_told_apart_by_which_keeps_dates_together(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ("3/4/2017 10:00:00 AM", "3/5/2017 10:00:00 AM"))
    assert np.diff(sorted(read(path, zone="UTC")["time"].unique())) == 86400
    path = table(tmp_path / "b.csv", ("3/4/2017 10:00:00", "4/4/2017 10:00:00"))
    assert np.diff(sorted(read(path, zone="UTC")["time"].unique())) == 86400


def test_day_and_month_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ("3/4/2017 10:00:00 AM", "3/4/2017 10:30:00 AM"))
    assert "'3/4/2017 10:" in refused(path, zone="UTC")
    assert "ToUniversalTime" in refused(path, zone="UTC")


@pytest.mark.parametrize("separator", [",", ";"])
def test_decimal_commas(tmp_path: Path, separator: str) -> None:
    path = table(tmp_path / "a.csv", UTC, separator=separator, decimal=",")
    assert sorted(read(path)["cpu_used"].dropna()) == [2.75, 12.5]


def test_a_comma_that_may_separate_thousands_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", UTC, [("web", "mem.active.average", 0, "524,288", "KB")])
    assert refused(path).startswith(f"{path}: line 3: column 'Value': '524,288'")


def test_a_number_with_both_signs_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", UTC, [("web", "mem.active.average", 0, "1.524,5", "KB")], separator=";")
    assert "line 3: column 'Value': '1.524,5' has both signs" in refused(path)


def test_utf_16_of_windows_powershell(tmp_path: Path) -> None:
    pd.testing.assert_frame_equal(
        read(table(tmp_path / "a.csv", UTC, encoding="utf-16")), read(table(tmp_path / "b.csv", UTC))
    )


def test_an_hour_that_the_clocks_repeat_is_told_by_line(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", ("29.10.2017 01:30:00", "29.10.2017 02:30:00"))
    assert "line 3: column 'Timestamp': '29.10.2017 02:30:00' was twice in Europe/Berlin" in refused(
        path, zone="Europe/Berlin"
    )


def test_sizes_from_the_list_of_vms(tmp_path: Path) -> None:
    stats = table(tmp_path / "stats.csv", UTC)
    vms = tmp_path / "vms.csv"
    vms.write_text('"Name","MemoryMB","NumCpu","VMHost"\n"web","4096","2","esx1"\n"db","8192","4","esx2"\n')
    rows = read(stats, vms)
    assert dict(zip(rows["vm"], zip(rows["cap"], rows["vcpus"], rows["host"], strict=True), strict=True)) == {
        "web": (4096, 2, "esx1"),
        "db": (8192, 4, "esx2"),
    }
    vms.write_text('"Name";"MemoryGB"\n"web";"1,5"\n"db";"8"\n')
    assert set(read(stats, vms)["cap"]) == {1536, 8192}
    assert "a list of VMs only" in refused(vms)


def test_usage_in_percent_only_where_active_is_missing(tmp_path: Path) -> None:
    both = [("web", "mem.usage.average", 0, "6.25", "%"), ("web", "mem.active.average", 0, "262144", "KB")]
    assert list(read(table(tmp_path / "a.csv", UTC, both))["active"]) == [262144]
    assert units(table(tmp_path / "b.csv", UTC, both[:1])) == {"active": "percent"}


def test_devices_beside_the_whole_vm(tmp_path: Path) -> None:
    rows = [("web", "net.received.average", 0, "10", "KBps"), ("web", "net.received.average", 0, "30", "KBps")]
    path = table(tmp_path / "a.csv", UTC, rows)
    assert "line 3: VM 'web' has two values of net.received.average" in refused(path)
    lines = path.read_text().splitlines()
    instance = ['"Instance"', '""', '"4000"']
    path.write_text("\n".join([lines[0], *(f"{line},{cell}" for line, cell in zip(lines[1:], instance, strict=True))]))
    assert list(read(path)["net_rx"]) == [10]


def test_metrics_that_stand_in_other_pieces_of_the_file_are_all_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hvgym.envs.imports import long_tables, reading

    path = table(tmp_path / "a.csv", UTC)
    whole = read(path).groupby(["vm", "time"]).max(numeric_only=True)
    monkeypatch.setattr(long_tables, "frames", lambda file, skip: reading.frames(file, rows=3, skip=skip))
    assert len(list(SOURCE.read([path], Options()))) > 1
    pd.testing.assert_frame_equal(
        read(path).groupby(["vm", "time"]).max(numeric_only=True)[whole.columns].drop(columns="line"),
        whole.drop(columns="line"),
    )


def test_no_counter_that_is_known(tmp_path: Path) -> None:
    assert "(disk.used.latest)" in refused(
        table(tmp_path / "a.csv", UTC, [("web", "disk.used.latest", 0, "1", "KB")])
    ).replace("'", "")


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Entity,MetricId,TimeStamp,Value\nweb,mem.active.average,2017-01-17T14:15:00Z,1\n")
    assert "no column 'Timestamp' (did you mean 'TimeStamp'?)" in refused(path)


def test_rows_of_one_counter_in_two_units_are_refused(tmp_path: Path) -> None:
    rows = [*STATS, ("mail", "mem.active.average", 0, "256", "MB")]
    said = refused(table(tmp_path / "stats.csv", UTC, rows))
    assert (
        f"{tmp_path / 'stats.csv'}, line 11: mem.active.average has unit 'MB', and 'KB' before: export it in one unit"
        in said
    )
