"""Hyper-V's counters, wide and long, with local clocks and names in other languages."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports import pdh
from hvgym.envs.imports.importing import Request, import_files
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources.hyperv import SOURCE
from hvgym.envs.imports.table import read_table

ROMANCE = "(PDH-CSV 4.0) (Romance Standard Time)(-60)"
NOON_CET = 1704798000.0  # date -u -d '2024-01-09 11:00' +%s


def memory(vm: str, counter: str) -> str:
    return f"\\\\hv1\\Hyper-V Dynamic Memory VM({vm})\\{counter}"


def cpu(vm: str, vp: int) -> str:
    return f"\\\\hv1\\Hyper-V Hypervisor Virtual Processor({vm}:Hv VP {vp})\\% Total Run Time"


TITLES = [
    memory("web", name)
    for name in ("Physical Memory", "Guest Visible Physical Memory", "Guest Available Memory", "Current Pressure")
]
TITLES += [cpu("web", 0), cpu("web", 1), "\\\\hv1\\Hyper-V Hypervisor Virtual Processor(_Total)\\% Total Run Time"]


def table(
    path: Path, rows: list[list[object]], clock: str = ROMANCE, titles: list[str] = TITLES, tail: str = ""
) -> Path:
    lines = [[clock, *titles], *rows]
    path.write_text(
        "\n" + "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines) + tail, encoding="utf-8"
    )
    return path


def read(*files: Path, **options: object) -> pd.DataFrame:
    return pd.concat([batch.frame for batch in SOURCE.read(list(files), Options(**options))], ignore_index=True)


def refused(*files: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        read(*files, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def sample(minute: int, used: object = 12.5) -> list[object]:
    return [f"01/09/2024 12:{minute:02d}:00.123", 2048, 4096, 1024, 75, used, 25.0, 99]


def test_typeperf_with_a_blank_first_sample_and_words_behind_the_table(tmp_path: Path) -> None:
    tail = "Exiting, please wait...                         \nThe command completed successfully.\n\n"
    path = table(tmp_path / "vm.csv", [sample(0, " "), sample(1)], tail=tail)
    rows = read(path)
    assert list(rows["vm"]) == ["web", "web"]
    assert list(rows["time"]) == pytest.approx([NOON_CET + 0.123, NOON_CET + 60.123])
    assert np.isnan(rows["cpu_used"][0])
    assert rows["cpu_used"][1] == 37.5  # both of its processors
    last = rows.iloc[1]
    assert (last["granted"], last["guest_total"], last["backed"], last["cap"], last["guest_usable"]) == (
        2048,
        2048,
        2048,
        4096,
        1024,
    )
    assert last["vcpus"] == 2
    assert list(rows["line"]) == [3, 4]


def test_the_header_says_how_far_the_clock_is_from_utc(tmp_path: Path) -> None:
    east = read(table(tmp_path / "a.csv", [sample(0)], "(PDH-CSV 4.0) (Central Daylight Time)(300)"))
    assert east["time"][0] == pytest.approx(NOON_CET + 6 * 3600 + 0.123)


def test_a_clock_without_a_zone_has_to_be_told(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [sample(0)], "(PDH-CSV 4.0)")
    assert "names no time zone" in refused(path)
    assert "line 3" in refused(path)
    assert read(path, zone="Europe/Paris")["time"][0] == pytest.approx(NOON_CET + 0.123)


def test_clocks_that_were_set_back_are_told_and_a_zone_mends_it(tmp_path: Path) -> None:
    night = [["10/27/2024 01:30:00.000", *sample(0)[1:]], ["10/27/2024 03:10:00.000", *sample(0)[1:]]]
    summer = "(PDH-CSV 4.0) (Romance Daylight Time)(-120)"
    assert read(table(tmp_path / "a.csv", night, summer), zone="Europe/Paris")["time"].diff()[1] == (60 + 100) * 60
    night.insert(1, ["10/27/2024 02:59:00.000", *sample(0)[1:]])
    night.insert(2, ["10/27/2024 02:01:00.000", *sample(0)[1:]])
    assert "line 5" in refused(table(tmp_path / "b.csv", night, summer))
    assert "were the clocks set back?" in refused(table(tmp_path / "b.csv", night, summer))
    assert list(read(tmp_path / "b.csv", zone="Europe/Paris")["time"].diff()[1:]) == [89 * 60, 2 * 60, 69 * 60]


def autumn(folder: Path, first: str, last: str, step: str) -> Path:
    """A recording in local time over the night in which clocks go back from 3 to 2 h, by its first and last row in UTC."""
    times = pd.date_range(first, last, freq=step, tz="UTC").tz_convert("Europe/Paris").strftime("%m/%d/%Y %H:%M:%S.000")
    return table(folder / "night.csv", [[stamp, *sample(0)[1:]] for stamp in times])


@pytest.mark.parametrize("block", [4, 7, 50_000])
@pytest.mark.parametrize(
    ("first", "last", "step"),
    [
        ("2024-10-26 22:00", "2024-10-27 04:00", "10min"),
        ("2024-10-26 22:00", "2024-10-27 04:00", "60min"),
        ("2024-10-27 00:30", "2024-10-27 04:00", "1min"),  # begins in the hour that comes again
        ("2024-10-26 23:30", "2024-10-27 00:40", "1min"),  # ends in it
    ],
)
def test_an_hour_that_clocks_repeat_is_told_by_the_order_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, first: str, last: str, step: str
) -> None:
    monkeypatch.setattr(pdh, "MOST_ROWS", block)
    path = autumn(tmp_path, first, last, step)
    if block < 50_000 and first.endswith("00:30"):
        assert "line 3: column" in refused(path, zone="Europe/Paris")  # a block of rows that are all there twice
        return
    times = read(path, zone="Europe/Paris")["time"]
    assert times[0] == pd.Timestamp(first, tz="UTC").timestamp()
    assert set(times.diff()[1:]) == {pd.Timedelta(step).total_seconds()}


def test_a_recording_that_begins_in_the_second_of_two_hours_goes_on_behind_it(tmp_path: Path) -> None:
    path = autumn(tmp_path, "2024-10-27 01:20", "2024-10-27 04:00", "5min")
    assert set(read(path, zone="Europe/Paris")["time"].diff()[1:]) == {300.0}


def test_an_hour_of_two_that_no_row_around_tells_is_refused(tmp_path: Path) -> None:
    for first, last in (("2024-10-27 00:10", "2024-10-27 00:50"), ("2024-10-27 01:10", "2024-10-27 01:50")):
        said = refused(autumn(tmp_path, first, last, "10min"), zone="Europe/Paris")
        assert "line 3: column" in said
        assert "was twice in Europe/Paris: clocks repeat that hour, and the rows around it do not tell which" in said


def test_clocks_that_were_put_forward_are_told_and_a_zone_mends_it(tmp_path: Path) -> None:
    stamps = ["01:58", "01:59", "03:00", "03:01"]
    winter = "(PDH-CSV 4.0) (Eastern Standard Time)(300)"
    night = [[f"03/10/2024 {stamp}:00.000", *sample(0)[1:]] for stamp in stamps]
    said = refused(table(tmp_path / "a.csv", night, winter))
    assert "line 5" in said
    assert "the hour before 03/10/2024 03:00:00.000 is missing" in said
    assert "say zone=" in said
    assert set(read(tmp_path / "a.csv", zone="America/New_York")["time"].diff()[1:]) == {60.0}
    week_before = [[f"03/03/2024 {stamp}:00.000", *sample(0)[1:]] for stamp in stamps]
    assert read(table(tmp_path / "b.csv", week_before, winter))["time"].diff()[2] == 3660.0  # it was off


def test_pages_of_partitions_say_what_is_backed_of_vms_with_static_memory_too(tmp_path: Path) -> None:
    titles = [
        memory("web", "Physical Memory"),
        *(f"\\\\hv1\\Hyper-V VM Vid Partition({vm})\\Physical Pages Allocated" for vm in ("web", "db")),
    ]
    path = table(tmp_path / "a.csv", [["01/09/2024 12:00:00.000", 2048, 524288, 1048576]], titles=titles)
    rows = read(path)
    assert dict(zip(rows["vm"], rows["backed"], strict=True)) == {"web": 524288, "db": 1048576}
    units = {column.quantity: column.unit for batch in SOURCE.read([path], Options()) for column in batch.columns}
    assert units["backed"] == "pages"
    assert units["granted"] == "MiB"


GERMAN = [
    "\\\\hv1\\Hyper-V - VM mit dynamischem Arbeitsspeicher(web)\\Physischer Speicher",
    "\\\\hv1\\Hyper-V - VM mit dynamischem Arbeitsspeicher(web)\\Druck",
]


def test_names_in_another_language_are_listed_and_mapped(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [["01/09/2024 12:00:00.000", 2048, 80]], titles=GERMAN)
    assert "'Physischer Speicher', 'Druck'" in refused(path)
    assert "columns={" in refused(path)
    rows = read(path, columns={"granted": "Physischer Speicher"})
    assert list(rows["granted"]) == [2048]


def test_german_processors_are_known(tmp_path: Path) -> None:
    titles = [
        memory("web", "Physical Memory"),
        "\\\\hv1\\Hyper-V - virtueller Prozessor des Hypervisors(web:Hv VP 0)\\% Gesamtausführungszeit",
    ]
    assert read(table(tmp_path / "a.csv", [["01/09/2024 12:00:00.000", 2048, 12]], titles=titles))["cpu_used"][0] == 12


def long_table(path: Path, separator: str = ",", decimal: str = ".", stamp: str = "2024-01-09T11:0{}:00Z") -> Path:
    lines = [
        "#TYPE Microsoft.PowerShell.Commands.GetCounter.PerformanceCounterSample",
        separator.join(('"Path"', '"InstanceName"', '"CookedValue"', '"Timestamp"')),
    ]
    for minute in (0, 1):
        for title, instance, value in (
            (memory("web", "Physical Memory"), "web", "2048"),
            (cpu("web", 0), "web:hv vp 0", "12.25"),
            (cpu("web", 1), "web:hv vp 1", "25.25"),
            (cpu("_total", 1), "_total", "99"),
        ):
            cells = (title.lower(), instance, value.replace(".", decimal), stamp.format(minute))
            lines.append(separator.join(f'"{cell}"' for cell in cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-16")
    return path


def test_samples_of_get_counter_one_a_row(tmp_path: Path) -> None:
    rows = read(long_table(tmp_path / "a.csv"))
    assert list(rows["vm"]) == ["web", "web"]
    assert list(rows["time"]) == [NOON_CET, NOON_CET + 60]
    assert list(rows["cpu_used"]) == [37.5, 37.5]
    assert list(rows["granted"]) == list(rows["backed"]) == [2048, 2048]


@pytest.mark.parametrize("separator", [",", ";"])
def test_samples_in_german_have_decimal_commas_and_local_times(tmp_path: Path, separator: str) -> None:
    path = long_table(tmp_path / "a.csv", separator, ",", "09.01.2024 12:0{}:00")
    assert "names no time zone" in refused(path)
    pd.testing.assert_frame_equal(read(path, zone="Europe/Berlin"), read(long_table(tmp_path / "b.csv")))


def test_a_number_with_the_wrong_sign_is_shown(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [sample(0), sample(1, "12,5")])
    assert refused(path).startswith(f"{path}: line 4: column '{cpu('web', 0)}': '12,5'")


DAY = pd.date_range("2024-01-09 00:00", periods=288, freq="5min")


def recorded(path: Path, titles: list[str], row: object, clock: str = ROMANCE) -> Path:
    rows = [[when.strftime("%m/%d/%Y %H:%M:%S.000"), *row(i)] for i, when in enumerate(DAY)]  # type: ignore[operator]
    return table(path, rows, clock, titles)


def whole(*files: Path, **options: object) -> dict[str, pd.DataFrame]:
    out = files[0].parent / f"out-{files[0].stem}"
    import_files(Request(SOURCE, list(files), out, Options(**options)))
    return dict(read_table(out).vms())


def used(i: int) -> list[object]:
    """Assigned and available MiB, and busy CPU, of the i-th sample."""
    return [2048 + 8 * (i % 7), 4096, 1024 - 16 * (i % 11), 75, 20.0 + i % 13, 30.0 + i % 5, 99]


def test_pages_are_read_whole_as_the_command_of_the_documentation_records_them(tmp_path: Path) -> None:
    titles = [*TITLES, "\\\\hv1\\Hyper-V VM Vid Partition(web)\\Physical Pages Allocated"]
    found = whole(recorded(tmp_path / "vm.csv", titles, lambda i: [*used(i), 256 * (2048 + 8 * (i % 7))]))["web"]
    np.testing.assert_array_equal(found["backed_bytes"], [(2048 + 8 * (i % 7)) * 2**20 for i in range(288)])
    assert found["guest_used_bytes"].notna().all()


@pytest.mark.parametrize("clock", ["(PDH-CSV 4.0) (", "(PDH-CSV 4.0) (Paris, Madrid (heure d"])
def test_a_clock_that_pdh_cut_off_is_said_by_zone(tmp_path: Path, clock: str) -> None:
    """At the first letter that the code page lacks: Japanese, Chinese, French Windows."""
    path = table(tmp_path / "a.csv", [sample(0), sample(1)], clock)
    assert "say which it is, as in zone=Europe/Berlin" in refused(path)
    assert read(path, zone="Europe/Paris")["time"].tolist() == pytest.approx([NOON_CET + 0.123, NOON_CET + 60.123])


def test_a_last_line_that_ends_within_a_cell_is_told(tmp_path: Path) -> None:
    """With as many cells as the header it would be read, with a number that lacks digits."""
    path = table(tmp_path / "a.csv", [one[:-1] for one in (sample(0), sample(1), sample(2))], titles=TITLES[:-1])
    text = path.read_text(encoding="utf-8")
    for cut in (3, 4, 5):  # ...,"25.  ...,"25  ...,"2
        path.write_text(text[:-cut], encoding="utf-8")
        assert "line 5: ends within a cell" in refused(path)
    path.write_text(text[:-1], encoding="utf-8")  # without its line end it is whole
    assert len(read(path)) == 3


def test_a_vm_in_small_letters_and_as_it_is_named_is_one(tmp_path: Path) -> None:
    """Get-Counter writes instances in small letters, typeperf as they are named."""
    titles = [title.replace("(web", "(Web 01") for title in TITLES]
    first = table(tmp_path / "a.csv", [sample(0), sample(1)], titles=titles)
    second = table(tmp_path / "b.csv", [sample(2), sample(3)], titles=[title.lower() for title in titles])
    rows = read(first, second)
    assert set(rows["vm"]) == {"Web 01"}
    assert len(rows) == 4


def test_processors_of_a_second_vm_of_one_name_are_its_own(tmp_path: Path) -> None:
    titles = [memory("web", "Physical Memory"), memory("web#1", "Physical Memory"), cpu("web", 0),
              cpu("web", 0).replace("VP 0", "VP 0#1")]  # fmt: skip
    rows = read(table(tmp_path / "a.csv", [["01/09/2024 12:00:00.000", 2048, 512, 10, 20]], titles=titles))
    assert dict(zip(rows["vm"], rows["cpu_used"], strict=True)) == {"web": 10, "web#1": 20}
    assert set(rows["vcpus"]) == {1}


def test_a_counter_that_is_mapped_says_all_that_its_english_one_says(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", [["01/09/2024 12:00:00.000", 2048, 80]], titles=GERMAN)
    for quantity in ("granted", "guest_total"):
        rows = read(path, columns={quantity: "Physischer Speicher"})
        assert rows[["granted", "guest_total", "backed"]].iloc[0].tolist() == [2048, 2048, 2048]


def test_memory_in_another_language_is_told_though_its_cpu_is_known(tmp_path: Path) -> None:
    busy = "\\\\hv1\\Hyper-V - Virtueller Prozessor des Hypervisors(web:Hv VP 0)\\% Gesamtausführungszeit"
    said = refused(table(tmp_path / "a.csv", [["01/09/2024 12:00:00.000", 2048, 80, 3]], titles=[*GERMAN, busy]))
    assert "are they in another language? map them as in columns={granted: 'Physischer Speicher'" in said


def test_two_hosts_in_one_recording_keep_their_vms(tmp_path: Path) -> None:
    """Of one name, and one that moves from the first to the second."""

    def on(host: str, vm: str, name: str) -> str:
        return memory(vm, name).replace("hv1", host)

    titles = [on(host, vm, name) for host in ("hv1", "hv2") for vm in ("web", "moves")
              for name in ("Physical Memory", "Guest Available Memory")]  # fmt: skip
    rows = read(table(tmp_path / "a.csv", [["01/09/2024 12:00:00.000", 2048, 512, 1024, 256, 8192, 4096, " ", " "],
                                           ["01/09/2024 12:01:00.000", 2048, 512, " ", " ", 8192, 4096, 1024, 128]],
                      titles=titles))  # fmt: skip
    found = {(row.vm, row.host, round(row.time - NOON_CET)): row.granted for row in rows.itertuples()}
    assert found == {("web", "hv1", 0): 2048, ("web", "hv1", 60): 2048, ("web", "hv2", 0): 8192, ("web", "hv2", 60): 8192,
                     ("moves", "hv1", 0): 1024, ("moves", "hv2", 60): 1024}  # fmt: skip


def test_pages_that_are_mapped_are_what_is_backed_and_memory_is_not(tmp_path: Path) -> None:
    pages = "\\\\hv1\\Hyper-V - VM-VID-Partition(web)\\Zugeordnete physische Seiten"
    path = table(tmp_path / "a.csv", [["01/09/2024 12:00:00.000", 2048, 80, 524288]], titles=[*GERMAN, pages])
    columns = {"granted": "Physischer Speicher", "backed": "Zugeordnete physische Seiten"}
    (batch,) = SOURCE.read([path], Options(columns=columns))
    assert batch.frame[["granted", "guest_total", "backed"]].iloc[0].tolist() == [2048, 2048, 524288]
    assert {column.quantity: column.unit for column in batch.columns}["backed"] is None
