"""Mistakes that histories come with, each planted in a sound fleet: it is caught by name, and the fleet without it passes."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports import clocks
from hvgym.envs.imports.importing import Request, import_files
from hvgym.envs.imports.registry import source_of
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.table import FLAGS, read_table

sys.path.insert(0, str(Path(__file__).resolve().parent))

from made_fleet import COLUMNS, GIB, KIB, MIB, START, STEP, UNITS, VMS, declaring, fleet, imported, without, write

sys.path.pop(0)

DAY = 86_400


def samples(table):
    return pd.concat([rows for _, rows in table.vms()], ignore_index=True)


def found(result, words):
    """How many of a kind were found."""
    kinds = [kind for kind in result.tally.found if words in kind]
    assert len(kinds) == 1, (words, list(result.tally.found))
    return result.tally.found[kinds[0]].count


def test_a_sound_fleet_passes_and_is_what_was_written(tmp_path):
    frame = fleet()
    result, table = imported(tmp_path, frame)
    assert result.tally.lines() == []
    assert {name: (reading.unit, reading.kind) for name, reading in result.readings.items()} == {
        "cap": ("B", "gauge"), "guest_used": ("B", "gauge"), "backed": ("B", "gauge"), "vcpus": ("", "gauge"),
        "cpu_used": ("s", "counter"), "net_rx": ("B", "counter"),
    }  # fmt: skip
    rows = dict(table.vms())["vm-5"]
    said = frame[frame["name"] == "vm-5"].reset_index(drop=True)
    np.testing.assert_array_equal(rows["guest_used_bytes"], said["used"])
    np.testing.assert_array_equal(rows["t_end_utc_s"], said["ts"])
    np.testing.assert_allclose(rows["cpu_used_cores"][1:], np.diff(said["cpu"]) / STEP)
    np.testing.assert_allclose(rows["net_rx_bytes_per_s"][1:], np.diff(said["rx"]) / STEP)
    assert rows["cpu_used_cores"].isna().tolist()[:2] == [True, False]
    assert set(rows["interval_s"]) == {STEP}
    assert set(rows["flags"]) == {0}
    assert (table.meta["arrive_kind"] == "left_censored").all()
    assert (table.meta["depart_kind"] == "right_censored").all()


@pytest.mark.parametrize(("unit", "size"), [("KiB", KIB), ("MiB", MIB), ("GiB", GIB), ("KB", 1e3)])
def test_units_of_memory_are_told_by_sizes_and_bounds(tmp_path, unit, size):
    """Decimal units only where sizes are round in them, which no size of a VM is: 2,097.152 KB are 2 GiB."""
    frame = fleet()
    frame[["size", "used", "rss"]] /= size
    result, table = imported(tmp_path, frame)
    assert result.readings["cap"].unit == unit
    assert result.readings["guest_used"].unit == unit
    assert result.readings["cap"].by == "data"
    assert result.readings["guest_used"].by == "sibling"  # 2.4 % apart: its own values do not tell
    assert set(samples(table)["cap_bytes"]) == {2 * GIB, 4 * GIB, 8 * GIB, 16 * GIB}
    assert (samples(table)["flags"] & FLAGS["unit_guessed"]).all()


def test_sizes_that_tell_kib_from_kb_in_no_way_are_asked_for(tmp_path):
    frame = fleet()
    frame["size"] = np.round(frame["size"] * 0.973 / KIB)
    with pytest.raises(
        InputError, match=r"'size' \(cap\): several readings pass\. .* as KiB .*; as KB .*units=\{cap: KiB\}"
    ):
        imported(tmp_path, frame)
    result, _ = imported(tmp_path, frame, units=UNITS | {"cap": "KiB"})
    assert result.readings["cap"].by == "user"


def own(frame):
    """With the plain table's own names, whose units their names say."""
    names = {
        "ts": "t_end_utc_s",
        "name": "vm_id",
        "size": "cap_bytes",
        "used": "guest_used_bytes",
        "rss": "backed_bytes",
    }
    return frame[list(names)].rename(columns=names)


@pytest.mark.parametrize("column", ["cap_bytes", "guest_used_bytes", "backed_bytes"])
@pytest.mark.parametrize(("size", "unit"), [(KIB, "KiB"), (MIB, "MiB")])
def test_kib_under_the_name_of_bytes_stop_the_import_and_show_both(tmp_path, column, size, unit):
    frame = own(fleet())
    frame[column] /= size
    with pytest.raises(InputError) as error:
        imported(tmp_path, frame, {}, {})
    text = str(error.value)
    assert text.startswith(f"'{column}' (")
    assert "documentation says B, which the data contradict" in text
    assert "as B " in text
    assert f"as {unit} " in text
    assert f": {unit}}}" in text
    assert not (tmp_path / "out").exists()


def test_the_plain_tables_own_columns_need_no_map(tmp_path):
    result, _ = imported(tmp_path, own(fleet()), {}, {})
    assert {reading.by for reading in result.readings.values()} == {"data"}


def test_per_cent_of_memory_are_told(tmp_path):
    frame = fleet()
    share = frame["used"] / frame["size"]
    frame["used"] = 100 * share
    frame["size"] /= MIB
    result, table = imported(tmp_path, frame.drop(columns="rss"), without(COLUMNS, "backed"))
    assert result.readings["guest_used"].unit == "percent"
    assert result.readings["guest_used"].by == "data"
    np.testing.assert_allclose(
        dict(table.vms())["vm-3"]["guest_used_bytes"] / 16 / GIB, share[frame["name"] == "vm-3"], atol=1e-5
    )


def test_hundredths_of_per_cent_are_told_from_per_cent(tmp_path):
    frame = fleet()
    frame["used"] = np.round(10_000 * frame["used"] / frame["size"])
    frame["size"] = frame["size"] / GIB
    columns = without(COLUMNS, "backed", "guest_used") | {"active": "used"}
    result, _ = imported(tmp_path, frame, columns)
    assert result.readings["active"].unit == "hundredths"


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_clocks_are_told_by_their_size(tmp_path, unit, scale):
    frame = fleet(days=1)
    frame["ts"] = (frame["ts"] * scale).astype("int64")
    result, table = imported(tmp_path, frame)
    assert (result.clock.unit, result.clock.step_s) == (unit, STEP)
    assert samples(table)["t_end_utc_s"].min() == START + STEP


def test_clocks_that_count_from_a_start_of_their_own_are_told_by_their_step(tmp_path):
    frame = fleet(days=1)
    frame["ts"] = (frame["ts"] - START) * 1000
    result, table = imported(tmp_path, frame)
    assert (result.clock.unit, result.clock.relative) == ("ms", True)
    assert samples(table)["t_end_utc_s"].min() == STEP


@pytest.mark.parametrize("step", [5, 10, 15, 20, 30, 60, 300])
def test_seconds_from_a_start_of_their_own_are_taken_at_any_step_of_monitoring(tmp_path, step):
    frame = fleet(vms=4, days=3)
    frame["ts"] = (frame["ts"] - START) / STEP * step
    result, _ = imported(tmp_path, frame, without(COLUMNS, "cpu_used"))
    assert (result.clock.unit, result.clock.step_s) == ("s", step)


@pytest.mark.parametrize(("unit", "scale"), [("min", 60), ("h", 3600), ("d", 86_400)])
def test_minutes_hours_and_days_from_a_start_of_their_own_are_no_seconds(tmp_path, unit, scale):
    frame = fleet(vms=4, days=1.5 if unit == "min" else 60, step=STEP if unit == "min" else scale)
    frame["ts"] = (frame["ts"] - START) / scale
    said = rf"^time: .* can be read as s \(every .* as {unit} \(every .*say units=\{{time: s\}}"
    with pytest.raises(InputError, match=said):
        imported(tmp_path, frame, without(COLUMNS, "cpu_used"))
    result, _ = imported(tmp_path, frame, without(COLUMNS, "cpu_used"), units=UNITS | {"time": unit})
    assert (result.clock.unit, result.clock.step_s) == (unit, STEP if unit == "min" else scale)


def test_days_with_fractions_can_be_nothing_else(tmp_path):
    frame = fleet(days=1)
    frame["ts"] = (frame["ts"] - START) / DAY
    result, _ = imported(tmp_path, frame)
    assert (result.clock.unit, round(result.clock.step_s)) == ("d", STEP)


def test_rows_that_say_their_interval_say_that_times_are_seconds(tmp_path):
    frame = fleet(days=0.5 / 24, step=60).assign(seconds=60)
    frame["ts"] -= START
    columns = without(COLUMNS, "cpu_used")
    with pytest.raises(InputError, match=r"as s .* or as min"):
        imported(tmp_path, frame, columns)
    result, _ = imported(tmp_path, frame, columns | {"interval_s": "seconds"})
    assert (result.clock.unit, result.clock.step_s) == ("s", 60)


def test_mixed_clocks_and_steps_that_no_monitoring_has_are_shown(tmp_path):
    frame = fleet(days=1)
    mixed = frame.assign(ts=frame["ts"].where(frame["name"] != "vm-3", frame["ts"] * 1000))
    with pytest.raises(InputError, match="are units mixed"):
        imported(tmp_path, mixed)
    ahead = frame.assign(ts=frame["ts"] + 15 * 365 * DAY)
    with pytest.raises(InputError, match="which is yet to come"):
        imported(tmp_path, ahead)
    fast = frame.assign(ts=START + (frame["ts"] - START) / 1000)
    with pytest.raises(InputError, match="which no monitoring does"):
        imported(tmp_path, fast)


@pytest.mark.parametrize(("unit", "scale"), [("ns", 1e9), ("us", 1e6), ("ms", 1e3), ("s", 1)])
def test_counters_of_cpu_time_are_told_by_what_a_vm_can_use(tmp_path, unit, scale):
    frame = fleet()
    frame["cpu"] *= scale
    result, table = imported(tmp_path, frame)
    assert (result.readings["cpu_used"].unit, result.readings["cpu_used"].kind) == (unit, "counter")
    assert samples(table)["cpu_used_cores"].max() <= 4


def cpu_share(frame):
    cores = frame.groupby("name")["cpu"].diff().fillna(0) / STEP
    return cores / frame["vcpu"]


def test_cpu_in_per_cent_under_the_name_of_a_share_is_shown(tmp_path):
    frame = fleet()
    share = cpu_share(frame)
    frame["cpu"] = 100 * share
    units = UNITS | {"cpu_used": "percent"}
    result, table = imported(tmp_path, frame, units=units)
    assert result.readings["cpu_used"].kind == "gauge"
    np.testing.assert_allclose(samples(table)["cpu_used_cores"].max(), (share * frame["vcpu"]).max())
    with pytest.raises(
        InputError, match=r"'cpu' \(cpu_used\): several readings pass.* as percent .*as percent_of_core"
    ):
        imported(tmp_path, frame)


def test_a_counter_is_told_from_a_gauge_whatever_it_is_called(tmp_path):
    """Received bytes that count up, under a name that says bytes a second."""
    frame = fleet()
    columns = without(COLUMNS, "net_rx")
    renamed = frame.rename(columns={"rx": "net_rx_bytes_per_s"})
    result, table = imported(tmp_path, renamed, columns, {})
    assert result.readings["net_rx"].kind == "counter"
    assert "though documentation calls it a gauge" in result.readings["net_rx"].evidence
    assert samples(table)["net_rx_bytes_per_s"].max() < 1e7
    renamed["net_rx_bytes_per_s"] = np.random.default_rng(1).gamma(1.0, 1e5, len(renamed))
    result, _ = imported(tmp_path, renamed, columns, {})
    assert result.readings["net_rx"].kind == "gauge"


def test_a_unit_that_no_test_can_tell_is_asked_for(tmp_path):
    with pytest.raises(InputError, match=r"'rx' \(net_rx\): no test can tell its unit; say units=\{net_rx: B/s\}"):
        imported(tmp_path, fleet(days=1), units={})


def test_counters_that_begin_anew_are_no_negative_rates(tmp_path):
    frame = fleet()
    one = frame["name"] == "vm-2"
    rates = np.diff(frame.loc[one, "cpu"]) / STEP
    later = one & (frame["ts"] > START + DAY)
    frame.loc[later, ["cpu", "rx"]] -= frame.loc[one & ~later, ["cpu", "rx"]].iloc[-1]
    frame.loc[later, "rx"] += 1
    result, table = imported(tmp_path, frame)
    rows = dict(table.vms())["vm-2"]
    assert found(result, "began anew") == 1
    np.testing.assert_allclose(rows["cpu_used_cores"][1:], rates)
    assert rows["t_end_utc_s"][rows["flags"] & FLAGS["reset"] > 0].tolist() == [START + DAY + STEP]


def test_decimal_commas_are_read_and_both_signs_refused(tmp_path):
    frame = fleet(days=1)
    frame[["size", "used", "rss"]] /= MIB
    imported(tmp_path, frame)
    points = (tmp_path / "out" / "vm_samples" / "part-000.parquet").read_bytes()
    file = write(tmp_path, frame, sep=";", decimal=",")
    imported(tmp_path, file=file)
    assert (tmp_path / "out" / "vm_samples" / "part-000.parquet").read_bytes() == points
    file.write_text(file.read_text().replace(";2048,0;", ";2.048,0;", 1))
    with pytest.raises(InputError, match=r"fleet.csv: line \d+: column 'size': '2.048,0' has both signs"):
        imported(tmp_path, file=file)


def test_commas_that_may_separate_thousands_are_refused_and_decimal_ones_in_quotes_read(tmp_path):
    frame, columns, units = fleet(days=1), COLUMNS | {"net_rx": "net"}, {"net_rx": "KiB/s"}
    net = np.random.default_rng(1).integers(600, 5000, len(frame))
    frame["net"] = [f"{value:,}" for value in net]  # 745 and 1,507: as decimals they are wrong by 1000
    with pytest.raises(
        InputError, match=r"line \d+: column 'net': '\d,\d{3}' may be decimal or .* thousands, as .*; write"
    ):
        imported(tmp_path, frame, columns, units)
    assert not (tmp_path / "out").exists()
    for digits, share in ((1, 10), (2, 100), (3, 10_000)):  # 0,507 separates no thousands
        frame["net"] = np.round(net / share, digits)
        _, table = imported(tmp_path, None, columns, units, write(tmp_path, frame, decimal=","))
        said = frame["net"][frame["name"] == "vm-5"] * KIB
        np.testing.assert_allclose(dict(table.vms())["vm-5"]["net_rx_bytes_per_s"], said)


def two_files(folder, frame, first, second, suffix="csv", late=0):
    """A frame's columns in two files, the times of the second so much later."""
    files = [folder / f"{name}.{suffix}" for name in ("first", "second")]
    for file, names, shift in ((files[0], first, 0), (files[1], second, late)):
        part = frame[["ts", "name", *names]].assign(ts=frame["ts"] + shift)
        part.to_csv(file, index=False) if suffix == "csv" else part.to_parquet(file)
    return files


def imported_files(folder, files, columns, **options):
    import_files(Request(source_of("plain"), files, folder / "out", Options(columns, **options)))
    return read_table(folder / "out")


MAPPED = without(COLUMNS, "host", "backed", "net_rx")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_of_the_same_vms_may_have_other_columns_of_those_that_are_mapped(tmp_path, suffix):
    frame = fleet(days=1)
    table = imported_files(tmp_path, two_files(tmp_path, frame, ["size", "used"], ["vcpu", "cpu"], suffix), MAPPED)
    rows, said = dict(table.vms())["vm-5"], frame[frame["name"] == "vm-5"].reset_index(drop=True)
    np.testing.assert_array_equal(rows["guest_used_bytes"], said["used"])
    np.testing.assert_allclose(rows["cpu_used_cores"][1:], np.diff(said["cpu"]) / STEP)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (MAPPED | {"cpu_used": "cpus"}, "first.csv: columns: cpu_used: 'cpus' is a column of none of 2 files"),
        (MAPPED | {"time": "at"}, "first.csv: columns: time: 'at' is a column of none of 2 files"),
        (MAPPED | {"time": "used"}, "second.csv: columns: time: 'used' is no column"),
        (without(MAPPED, "cpu_used", "vcpus"), "second.csv: no column is mapped but vm and time"),
        (without(MAPPED, "vm"), "first.csv: nothing says which column is vm"),
        ({"vm": "name", "time": "ts", "group": "cpu", "os": "used"}, "first.csv: no column of memory is mapped"),
    ],
)
def test_names_that_no_file_has_and_files_without_vm_or_time_are_told(tmp_path, columns, says):
    files = two_files(tmp_path, fleet(days=1), ["size", "used"], ["vcpu", "cpu"])
    with pytest.raises(InputError, match=says):
        imported_files(tmp_path, files, columns)


LABELS = {
    "power": {
        "on": ["on", "poweredOn", "POWERED_ON", "running", "Up", "1", "paused", "true"],
        "off": ["off", "poweredOff", "stopped", "shut off", "Shutdown", "down", "0", "suspended"],
        "unknown": ["unknown", "", "n/a"],
    },
    "agg": {
        "mean": ["mean", "Average", "avg", ""], "max": ["max", "maximum", "peak"], "last": ["last", "Latest", "instant"],
    },
    "os": {
        "linux": ["linux", "Ubuntu 22.04", "Debian GNU/Linux 12", "rhel8_64Guest", "CentOS 7", "SUSE 15", "Other 3.x Linux"],
        "windows": ["windows", "Microsoft Windows Server 2022 (64-bit)", "windows9Server64Guest", "Win10"],
        "other": ["other", "FreeBSD 14", "darwin22_64Guest", "otherGuest64"],
    },
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(("quantity", "says"), [(name, own) for name, words in LABELS.items() for own in words])
def test_words_of_other_tools_become_those_of_the_table(tmp_path, quantity, says, suffix):
    words = LABELS[quantity][says]
    frame = fleet(days=1).assign(label=lambda frame: [words[i % len(words)] for i in range(len(frame))])
    file = two_files(tmp_path, frame, [*frame.columns.difference(["ts", "name"])], [], suffix)[0]
    (batch,) = source_of("plain").read([file], Options(MAPPED | {quantity: "label"}))
    assert set(batch.frame[quantity].fillna({"power": "unknown", "agg": "mean"}.get(quantity))) == {says}


def test_a_vm_that_another_tool_calls_stopped_is_off_in_the_table(tmp_path):
    frame = fleet(days=1).assign(state="running")
    frame.loc[frame["name"] == "vm-3", "state"] = "poweredOff"
    _, table = imported(tmp_path, frame, COLUMNS | {"power": "state"})
    assert {name: set(rows["power"]) for name, rows in table.vms() if name in ("vm-3", "vm-5")} == {
        "vm-3": {"off"}, "vm-5": {"on"},
    }  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(("quantity", "word"), [("power", "migrating"), ("agg", "minimum"), ("os", "Plan 9")])
def test_words_that_say_nothing_of_the_table_are_refused(tmp_path, quantity, word, suffix):
    frame = fleet(days=1).assign(label="")
    frame.loc[4, "label"] = word
    file = two_files(tmp_path, frame, [*frame.columns.difference(["ts", "name"])], [], suffix)[0]
    line = 6 if suffix == "csv" else 5  # Parquet has no header to count
    says = f"first.{suffix}: line {line}: column 'label': '{word}' is no {quantity} that is known; write one of "
    with pytest.raises(InputError, match=says + ", ".join(LABELS[quantity])):
        list(source_of("plain").read([file], Options(MAPPED | {quantity: "label"})))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_with_other_columns_at_other_times_are_told_by_how_much(tmp_path, suffix):
    files = two_files(tmp_path, fleet(days=1), ["size", "used"], ["vcpu", "cpu"], suffix, late=7)
    with pytest.raises(
        InputError, match=r"second\.\w+: times of VM 'vm-0' differ by 7 s from those in .*/first\.\w+, which"
    ):
        imported_files(tmp_path, files, MAPPED)
    assert not (tmp_path / "out").exists()


def test_files_of_other_steps_vms_or_days_and_of_the_same_columns_may_have_their_own_times(tmp_path):
    frame = fleet(days=1)
    first, second = two_files(tmp_path, frame, ["size", "used"], ["vcpu", "cpu"])
    whole = pd.read_csv(second)
    others = {
        "step": whole[whole["ts"] % (2 * STEP) == 0],
        "vms": whole.assign(name="x" + whole["name"], ts=whole["ts"] + 7),
        "days": whole.assign(ts=whole["ts"] + DAY + 7),
        "columns": pd.read_csv(first).assign(ts=frame["ts"] + 7),
    }
    for name, rows in others.items():
        rows.to_csv(second, index=False)
        columns = MAPPED if name != "columns" else without(MAPPED, "vcpus", "cpu_used")
        assert len(list(source_of("plain").read([first, second], Options(columns)))) == 2, name


def test_an_interval_with_a_separator_of_thousands_is_refused(tmp_path):
    frame = fleet(days=2, step=1800).assign(seconds="1,800")
    with pytest.raises(InputError, match=r"line 2: column 'seconds': '1,800' may be decimal"):
        imported(tmp_path, frame, COLUMNS | {"interval_s": "seconds"})
    _, table = imported(tmp_path, frame.assign(seconds="1800"), COLUMNS | {"interval_s": "seconds"})
    assert set(samples(table)["interval_s"]) == {1800}


def test_dates_without_a_zone_are_asked_for_their_zone(tmp_path):
    frame = fleet(days=1)
    dates = pd.to_datetime(frame["ts"], unit="s").dt.strftime("%Y-%m-%d %H:%M:%S")
    with pytest.raises(InputError, match=r"line 2: column 'ts': .* names no time zone"):
        imported(tmp_path, frame.assign(ts=dates))
    _, table = imported(tmp_path, frame.assign(ts=dates), zone="Europe/Berlin")
    assert samples(table)["t_end_utc_s"].min() == START + STEP - 3600


def local(frame, zone):
    """Seconds of a clock on the wall, taken for UTC."""
    wall = pd.to_datetime(frame["ts"], unit="s", utc=True).dt.tz_convert(zone).dt.tz_localize(None)
    return wall.astype("datetime64[s]").astype("int64")


@pytest.mark.parametrize(
    ("start", "zone"),
    [
        ("2024-03-30", "Europe/Berlin"), ("2024-10-26", "Europe/Berlin"),
        ("2024-03-09", "America/New_York"), ("2024-11-02", "America/Los_Angeles"),
        ("2024-10-05", "Australia/Sydney"), ("2024-04-06", "Australia/Sydney"), ("2023-09-23", "Pacific/Auckland"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("only", [None, "vm-2"])
def test_local_time_is_told_by_the_hour_that_is_missing_or_doubled(tmp_path, start, zone, only):
    frame = fleet(days=2)
    frame = frame[frame["name"] == only] if only else frame
    frame["ts"] += int(pd.Timestamp(start, tz=zone).timestamp()) - START
    frame = frame.drop(columns=["cpu", "rx"])
    columns = without(COLUMNS, "cpu_used", "net_rx")
    wall = frame.assign(ts=local(frame, zone))
    with pytest.raises(InputError, match=r"as in local time .*say the zone of the files, as in zone=Europe/Berlin"):
        imported(tmp_path, wall, columns, {})
    imported(tmp_path, frame, columns, {})


def test_a_machine_without_time_zones_says_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(clocks, "PUT_FORWARD", ("Nowhere/Here",))
    clocks._zones.cache_clear()
    frame = fleet(days=2)
    gap = START + DAY
    with pytest.raises(InputError, match=r"no data of time zones .*pip install tzdata"):
        imported(tmp_path, frame[(frame["ts"] <= gap) | (frame["ts"] > gap + 3600)])
    imported(tmp_path, frame)
    clocks._zones.cache_clear()


@pytest.mark.parametrize("night", ["2024-03-17 02:00", "2024-03-31 05:00"])
def test_an_hour_that_no_clock_skips_is_an_outage(tmp_path, night):
    frame = fleet(days=2)
    hour = pd.Timestamp(night, tz="UTC").timestamp()
    frame["ts"] += int(hour) // DAY * DAY - START
    frame = frame[(frame["ts"] <= hour) | (frame["ts"] > hour + 3600)]
    result, _ = imported(tmp_path, frame)
    assert len(result.clock.outages)


def test_0_of_what_cannot_be_0_is_unknown(tmp_path):
    frame = fleet()
    frame.loc[frame.index % 7 == 0, ["used", "rss"]] = 0
    _, table = imported(tmp_path, frame)
    rows = samples(table)
    assert rows["guest_used_bytes"].isna().sum() == (frame.index % 7 == 0).sum()
    assert (rows["guest_used_bytes"].dropna() > 0).all()
    assert (rows["power"] != "off").all()


def test_a_column_of_nothing_but_0_is_unknown(tmp_path):
    frame = fleet().assign(rss=0)
    result, table = imported(tmp_path, frame)
    assert result.empty == ["backed"]
    assert samples(table)["backed_bytes"].isna().all()
    with pytest.raises(InputError, match="no column says what VMs use of their memory"):
        imported(tmp_path, frame.assign(used=0))


def test_frozen_guest_statistics_are_unknown_while_the_vm_works(tmp_path):
    frame = fleet()
    one = (frame["name"] == "vm-4") & (frame["ts"] > START + DAY) & (frame["ts"] <= START + DAY + 6 * 3600)
    frame.loc[one, "used"] = frame.loc[one, "used"].iloc[0]
    result, table = imported(tmp_path, frame)
    rows = dict(table.vms())["vm-4"]
    stale = rows["flags"] & FLAGS["stale"] > 0
    assert found(result, "stand still while it works") == stale.sum() == one.sum()
    assert rows["guest_used_bytes"][stale].isna().all()
    assert rows["backed_bytes"].notna().all()
    idle = frame.copy()  # a VM that does nothing may stand still
    idle.loc[one, ["cpu", "rx"]] = idle.loc[one, ["cpu", "rx"]].iloc[0].to_numpy()
    idle.loc[(frame["name"] == "vm-4") & (frame["ts"] > START + DAY + 6 * 3600), ["cpu", "rx"]] += 1
    result, _ = imported(tmp_path, idle)
    assert found(result, "stand still while it works") == 0


def test_what_vms_were_allotted_is_not_what_they_use(tmp_path):
    frame = fleet().assign(used=lambda frame: frame["size"] * 0.75)
    with pytest.raises(InputError, match="never changes in 100 % of VMs, so it is what they were allotted"):
        imported(tmp_path, frame)
    columns = without(COLUMNS, "guest_used") | {"granted": "used"}
    _, table = imported(tmp_path, frame, columns)
    assert (samples(table)["granted_bytes"] == 0.75 * samples(table)["cap_bytes"]).all()


def test_sampled_active_memory_is_not_what_guests_use(tmp_path):
    frame = fleet()
    frame["used"] = np.round(1500 * frame["used"] / frame["size"]) * frame["size"] / 1500
    with pytest.raises(InputError, match="on a grid of 1/100 or 1/1500 of their size, as sampled active memory does"):
        imported(tmp_path, frame)
    _, table = imported(tmp_path, frame, without(COLUMNS, "guest_used") | {"active": "used"})
    assert samples(table)["active_bytes"].notna().all()


def test_free_memory_sold_as_used_rises_with_what_is_free(tmp_path):
    frame = fleet()
    frame["free"] = frame["size"] - frame["used"]
    columns = without(COLUMNS, "backed") | {"guest_unused": "free"}
    imported(tmp_path, frame, columns)
    with pytest.raises(InputError, match=r"'used' \(guest_used\) rises with 'free' \(guest_unused\) in 100 %"):
        imported(tmp_path, frame.assign(used=frame["free"] * 0.99), columns)


def test_a_few_impossible_values_become_unknown_and_many_end_the_import(tmp_path):
    frame = fleet()
    frame.loc[[10, 500], "used"] = frame["size"] * 1.5
    result, table = imported(tmp_path, frame)
    assert found(result, "guest_used that a VM of its size cannot have") == 2
    nulled = samples(table)[samples(table)["flags"] & FLAGS["nulled"] > 0]
    assert nulled["guest_used_bytes"].isna().tolist() == [True, True]
    frame.loc[frame["name"] == "vm-0", "used"] *= 3  # one VM of twelve is in another unit
    with pytest.raises(InputError, match="guest_used"):
        imported(tmp_path, frame)
    assert samples(table).shape[0] == len(frame)  # the table before it is as it was


def test_a_vm_on_two_hosts_at_once_is_the_running_one_and_never_the_sum(tmp_path):
    frame = fleet()
    moving = (frame["name"] == "vm-1") & (frame["ts"] > START + DAY) & (frame["ts"] <= START + DAY + 3600)
    behind = frame[moving].assign(host="host-9", rss=1e8)
    behind["cpu"] = behind["cpu"].iloc[0]
    behind["rx"] = behind["rx"].iloc[0]
    result, table = imported(tmp_path, pd.concat([frame, behind]))
    rows = dict(table.vms())["vm-1"]
    assert found(result, "another host reports as well") == moving.sum() == 12
    assert len(rows) == (frame["name"] == "vm-1").sum()
    np.testing.assert_array_equal(rows["backed_bytes"], frame["rss"][frame["name"] == "vm-1"])


def test_overlapping_exports_count_once(tmp_path):
    frame = fleet()
    result, table = imported(tmp_path, pd.concat([frame, frame.iloc[1000:2000]]))
    assert found(result, "there twice") == 1000
    assert len(samples(table)) == len(frame)


@pytest.mark.parametrize("steps", [1, 3])
def test_short_gaps_are_carried_forward_and_flagged(tmp_path, steps):
    frame = fleet()
    gap = (frame["name"] == "vm-6") & (frame["ts"] > START + DAY) & (frame["ts"] <= START + DAY + steps * STEP)
    _, table = imported(tmp_path, frame[~gap])
    rows = dict(table.vms())["vm-6"]
    assert np.diff(rows["t_end_utc_s"]).tolist() == [STEP] * (len(rows) - 1)
    imputed = rows[rows["flags"] & FLAGS["imputed"] > 0]
    assert len(imputed) == steps
    assert set(imputed["guest_used_bytes"]) == set(rows["guest_used_bytes"][rows["t_end_utc_s"] == START + DAY])


def gap_of(frame, name, hours, restart):
    gap = (frame["name"] == name) & (frame["ts"] > START + DAY) & (frame["ts"] <= START + DAY + hours * 3600)
    later = (frame["name"] == name) & (frame["ts"] > START + DAY + hours * 3600)
    if restart:
        frame.loc[later, ["cpu", "rx"]] -= frame.loc[gap, ["cpu", "rx"]].iloc[-1]
    return frame[~gap]


@pytest.mark.parametrize(
    ("restart", "power", "kind"), [(True, "off", "the VM was off"), (False, "unknown", "nobody looked")]
)
def test_long_gaps_are_off_or_unseen_by_what_counters_say(tmp_path, restart, power, kind):
    result, table = imported(tmp_path, gap_of(fleet(), "vm-6", 5, restart))
    rows = dict(table.vms())["vm-6"]
    long = rows[rows["interval_s"] > STEP]
    assert long["interval_s"].tolist() == [5 * 3600]
    assert long["t_end_utc_s"].tolist() == [START + DAY + 5 * 3600]
    assert long["power"].tolist() == [power]
    assert long["guest_used_bytes"].isna().tolist() == [restart]
    assert (long["flags"] & FLAGS["gap"] > 0).tolist() == [not restart]
    assert found(result, f"long gaps in which {'' if restart else 'counters went on: '}{kind}") == 1


def test_when_all_vanish_at_once_the_collector_was_down(tmp_path):
    frame = fleet()
    down = (frame["ts"] > START + DAY) & (frame["ts"] <= START + DAY + 2 * 3600)
    frame.loc[frame["ts"] > START + DAY, ["cpu", "rx"]] = (
        frame.loc[frame["ts"] > START + DAY].groupby("name")[["cpu", "rx"]].transform(lambda of: of - of.iloc[0])
    )
    result, table = imported(tmp_path, frame[~down])
    assert found(result, "collector was down") == VMS
    assert (samples(table)["power"] != "off").all()


def test_arrivals_and_departures_are_observed_or_censored(tmp_path):
    frame = fleet(days=3)
    late = (frame["name"] == "vm-3") & (frame["ts"] <= START + DAY)
    left = (frame["name"] == "vm-7") & (frame["ts"] > START + 2 * DAY)
    _, table = imported(tmp_path, frame[~late & ~left])
    meta = table.meta.set_index("vm_id")
    assert meta["arrive_kind"].eq("observed").pipe(lambda of: of[of].index.tolist()) == ["vm-3"]
    assert meta["depart_kind"].eq("observed").pipe(lambda of: of[of].index.tolist()) == ["vm-7"]
    assert meta.loc["vm-3", "arrive_s"] == START + DAY
    assert meta.loc["vm-7", "depart_s"] == START + 2 * DAY


def test_a_third_that_comes_or_leaves_at_once_is_the_collectors_doing(tmp_path):
    frame = fleet(days=3)
    left = frame["name"].isin([f"vm-{i}" for i in range(6)]) & (frame["ts"] > START + 2 * DAY)
    result, table = imported(tmp_path, frame[~left])
    assert found(result, "vanish at once") == 6
    assert (table.meta["depart_kind"] == "right_censored").all()


def test_a_name_that_is_used_again_is_another_vm(tmp_path):
    frame = gap_of(fleet(), "vm-6", 5, restart=True)
    later = (frame["name"] == "vm-6") & (frame["ts"] > START + DAY)
    frame.loc[later, "size"] *= 2
    result, table = imported(tmp_path, frame)
    assert found(result, "used again") == 1
    found_rows = dict(table.vms())
    assert set(found_rows["vm-6"]["cap_bytes"]) == {8 * GIB}
    assert set(found_rows["vm-6#2"]["cap_bytes"]) == {16 * GIB}
    meta = table.meta.set_index("vm_id")
    assert meta.loc["vm-6", "depart_kind"] == meta.loc["vm-6#2", "arrive_kind"] == "observed"
    resized = fleet()  # the same while it runs is a VM that was resized
    resized.loc[(resized["name"] == "vm-6") & (resized["ts"] > START + DAY), "size"] *= 2
    _, table = imported(tmp_path, resized)
    assert "vm-6#2" not in dict(table.vms())


def test_two_vms_of_one_name_are_told_apart_by_their_uuid(tmp_path):
    frame = fleet().assign(uuid=lambda frame: "u-" + frame["name"])
    frame.loc[frame["name"] == "vm-7", "name"] = "vm-3"
    _, table = imported(tmp_path, frame, COLUMNS | {"uuid": "uuid"})
    assert [name for name in dict(table.vms()) if name.startswith("vm-3")] == ["vm-3", "vm-3#2"]
    assert set(table.meta["uuid"][table.meta["vm_id"].str.startswith("vm-3")]) == {"u-vm-3", "u-vm-7"}


@pytest.mark.parametrize("renamed", [True, False])
def test_a_uuid_under_two_names_is_noted(tmp_path, renamed):
    frame = fleet().assign(id=lambda frame: "u-" + frame["name"])
    if renamed:
        frame.loc[(frame["name"] == "vm-3") & (frame["ts"] > START + DAY), "name"] = "old"
    result, _ = imported(tmp_path, frame, COLUMNS | {"uuid": "id"})
    noted = [line for line in result.tally.lines() if "under several names" in line]
    says = "UUIDs under several names, each now a VM of its own (renamed, say): 1 of 12 (first: old, vm-3)"
    assert noted == ([says] if renamed else [])


def test_mixed_steps_in_one_reply_keep_their_own_intervals(tmp_path):
    """Proxmox: half hours of a month, then minutes of a day."""
    fine, coarse = fleet(days=1, step=60), fleet(days=3, step=1800)
    mixed = pd.concat([coarse, fine.assign(ts=fine["ts"] + 3 * DAY)]).drop(columns=["cpu", "rx"])
    _, table = imported(tmp_path, mixed, without(COLUMNS, "cpu_used", "net_rx"), {})
    rows = dict(table.vms())["vm-0"]
    assert set(rows["interval_s"][rows["t_end_utc_s"] <= START + 3 * DAY]) == {1800}
    assert set(rows["interval_s"][rows["t_end_utc_s"] > START + 3 * DAY]) == {60}
    assert not (rows["flags"] & FLAGS["gap"]).any()


@pytest.mark.parametrize(
    ("step", "says"), [(600, "within minutes cannot be judged"), (3600, "planning of occupancy only"), (300, None)]
)
def test_coarse_steps_are_warned_of(tmp_path, step, says):
    from hvgym.envs.imports.page import page_of

    result, _ = imported(tmp_path, fleet(step=step, days=3))
    assert ("warning" in page_of(result)) == (says is not None)
    assert says is None or says in page_of(result)


def test_maxima_stand_beside_the_means(tmp_path):
    frame = fleet().assign(agg="mean")
    both = pd.concat([frame, frame.assign(agg="max", used=np.minimum(frame["used"] * 1.04, frame["size"]))])
    _, table = imported(tmp_path, both, COLUMNS | {"agg": "agg"})
    rows = dict(table.vms())["vm-0"]
    assert rows["agg"].tolist()[:4] == ["max", "mean"] * 2
    means, maxima = (rows[rows["agg"] == kind]["guest_used_bytes"].to_numpy() for kind in ("mean", "max"))
    assert (maxima > means).all()


def test_sizes_that_the_files_do_not_say_come_from_the_user(tmp_path):
    frame = fleet().drop(columns="size")
    columns = without(COLUMNS, "cap")
    with pytest.raises(InputError, match=r"the files do not say what VMs may have at most; give caps=FILE.csv"):
        imported(tmp_path, frame, columns)
    caps = {f"vm-{i}": 1024.0 * 2 ** (1 + i % 4) for i in range(VMS)}
    _, table = imported(tmp_path, frame, columns, caps_mib=caps)
    assert set(samples(table)["cap_bytes"]) == {2 * GIB, 4 * GIB, 8 * GIB, 16 * GIB}
    caps.pop("vm-0")
    with pytest.raises(InputError, match=r"what 1 of 12 VMs may have at most \(vm-0"):
        imported(tmp_path, frame, columns, caps_mib=caps)


def test_documentation_that_the_data_bear_out_is_taken_without_a_question(tmp_path):
    frame = fleet()
    frame[["size", "used", "rss"]] /= KIB
    source = declaring(cap="KiB", guest_used="KiB", backed="KiB", cpu_used=("s", "counter"), net_rx=("B", "counter"))
    result, table = imported(tmp_path, frame, units={}, source=source)
    assert {name: reading.by for name, reading in result.readings.items()} == {
        "cap": "data", "guest_used": "data", "backed": "data", "cpu_used": "data", "vcpus": "data", "net_rx": "documentation"
    }  # fmt: skip
    assert set(samples(table)["flags"]) == {0}


@pytest.mark.parametrize(
    ("column", "scale", "said", "right"),
    [
        ("guest_used", KIB, "B", "KiB"),
        ("guest_used", MIB, "KiB", "MiB"),
        ("guest_used", 1, "KiB", "B"),
        ("backed", KIB, "MiB", "KiB"),
        ("cap", KIB, "KB", "KiB"),
        ("cap", MIB, "GiB", "MiB"),
        ("cpu_used", 1, "ns", "s"),
        ("cpu_used", 1e-9, "s", "ns"),
        ("cpu_used", 1e-3, "us", "ms"),
    ],
)
def test_documentation_that_the_data_contradict_stops_with_both_readings(tmp_path, column, scale, said, right):
    frame = fleet()
    frame[COLUMNS[column]] /= scale
    kind = "counter" if column == "cpu_used" else "gauge"
    with pytest.raises(InputError) as error:
        imported(tmp_path, frame, source=declaring(**{column: (said, kind)}))
    text = str(error.value)
    assert f"({column}): documentation says {said}, which the data contradict. vm-" in text
    assert f"as {said} " in text
    assert f"as {right} " in text
    result, _ = imported(tmp_path, frame, units=UNITS | {column: right}, source=declaring(**{column: (said, kind)}))
    assert (result.readings[column].unit, result.readings[column].by) == (right, "user")


@pytest.mark.parametrize(
    ("column", "said", "scale", "right"),
    [
        ("guest_used", "percent", 1, "share"),
        ("guest_used", "share", 100, "percent"),
        ("guest_used", "percent", 10_000, "hundredths"),
        ("cpu_used", "percent", 1, "share"),
        ("cpu_used", "share", 100, "percent"),
    ],
)
def test_shares_per_cent_and_hundredths_are_told_apart(tmp_path, column, said, scale, right):
    frame = fleet()
    share = frame["used"] / frame["size"] if column == "guest_used" else cpu_share(frame)
    frame[COLUMNS[column]] = share * scale
    columns = without(COLUMNS, "backed")
    result, _ = imported(tmp_path, frame, columns, source=declaring(**{column: (right, "gauge")}))
    assert result.readings[column].unit == right
    with pytest.raises(InputError, match=f"documentation says {said}, which the data contradict.* as {right} "):
        imported(tmp_path, frame, columns, source=declaring(**{column: (said, "gauge")}))


def test_a_rate_that_is_documented_as_a_counter_stops_the_import(tmp_path):
    frame = fleet()
    frame["rx"] = np.random.default_rng(1).gamma(1.0, 1e5, len(frame))
    with pytest.raises(
        InputError, match=r"\(net_rx\): documentation says that it counts up, but it falls in (49|50|51) %"
    ):
        imported(tmp_path, frame, units={}, source=declaring(net_rx=("B", "counter")))


def test_two_imports_of_the_same_files_are_the_same_bytes_and_so_from_another_place(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        imported(tmp_path / name, gap_of(fleet(), "vm-6", 5, restart=True))
    files = sorted(
        path.relative_to(tmp_path / "one" / "out") for path in (tmp_path / "one" / "out").rglob("*") if path.is_file()
    )
    assert [file.name for file in files] == ["import.txt", "manifest.json", "vm_meta.parquet", "part-000.parquet"]
    for file in files:
        content = (tmp_path / "one" / "out" / file).read_bytes()
        assert content == (tmp_path / "two" / "out" / file).read_bytes()
        assert str(tmp_path).encode() not in content


def test_partitions_of_any_number_give_the_same_table(tmp_path, monkeypatch):
    frame = fleet()
    _, table = imported(tmp_path, frame)
    whole = dict(table.vms())
    monkeypatch.setattr("hvgym.envs.imports.spool.BYTES_A_PARTITION", 2**16)
    monkeypatch.setattr("hvgym.envs.imports.spool.ROWS_HELD", 700)
    _, table = imported(tmp_path, frame)
    parted = dict(table.vms())
    assert sorted(parted) == sorted(whole)
    for name, rows in whole.items():
        pd.testing.assert_frame_equal(rows, parted[name])


def test_anonymised_imports_hold_no_name_and_agree(tmp_path):
    import hashlib

    frame = fleet().assign(team="finance")
    _, table = imported(tmp_path, frame, COLUMNS | {"group": "team"}, anonymise=True)
    names = {f"vm-{i}" for i in range(VMS)}
    assert set(table.meta["vm_id"]) == {hashlib.sha256(name.encode()).hexdigest()[:10] for name in names}
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert not any(word in path.read_bytes() for word in (b"vm-1", b"host-1", b"finance", b"fleet.csv")), path
    assert [rows["vm_id"].iloc[0] for _, rows in table.vms()] == sorted(table.meta["vm_id"])


def test_groups_come_from_the_file_and_from_the_user(tmp_path):
    _, table = imported(tmp_path, fleet().assign(team="finance"), COLUMNS | {"group": "team"}, groups={"vm-3": "shop"})
    assert table.meta.set_index("vm_id")["group"].value_counts().to_dict() == {"finance": VMS - 1, "shop": 1}
    assert table.meta.set_index("vm_id").loc["vm-3", "group"] == "shop"


def test_memory_that_was_given_once_is_no_sampled_memory(tmp_path):
    frame = fleet()
    result, _ = imported(tmp_path, frame.assign(rss=0.65 * frame["size"]))
    assert result.readings["backed"].unit == "B"


@pytest.mark.parametrize(("of", "value"), [("all", 4800.0), ("all", 0.75), ("vm-5", -2.0), ("vm-5", 2.5)])
def test_virtual_cpus_that_are_none_end_the_import(tmp_path, of, value):
    frame = fleet()
    frame["vcpu"] = frame["vcpu"].where((frame["name"] != of) & (of != "all"), value)
    with pytest.raises(
        InputError, match=rf"^'vcpu' \(vcpus\): vm-\d+ has {value:g}, expected its virtual CPUs, a whole number"
    ):
        imported(tmp_path, frame)


def test_a_single_mean_over_a_change_of_virtual_cpus_is_unknown_and_counted(tmp_path):
    frame = fleet(vms=1, days=0.3)
    frame["vcpu"] = np.where(frame.index < 40, 2, 4).astype(float)
    frame.loc[40, "vcpu"] = 2.6
    result, table = imported(tmp_path, frame)
    assert any(
        line.startswith("vcpus that are no whole number from 1 to 1024, now unknown: 1 of")
        for line in result.tally.lines()
    )
    assert samples(table)["vcpus"].dropna().unique().tolist() == [2, 4]


def test_used_and_not_free_that_are_exchanged_are_told(tmp_path):
    frame = fleet()
    frame["notfree"] = np.minimum(frame["used"] + 0.3 * frame["size"], frame["size"])
    columns = without(COLUMNS, "backed") | {"guest_notfree": "notfree"}
    imported(tmp_path, frame, columns)
    exchanged = columns | {"guest_used": "notfree", "guest_notfree": "used"}
    with pytest.raises(InputError, match="guest_used larger than guest_notfree, which is it and the page cache"):
        imported(tmp_path, frame, exchanged)


def test_two_vms_of_one_name_among_many_are_told(tmp_path):
    """Rows of one of them would be left out, of ten VMs a tenth of all rows."""
    frame = fleet(vms=10)
    frame["name"] = frame["name"].replace("vm-9", "vm-5")
    with pytest.raises(InputError, match=r"VM 'vm-5' has two rows of one time that differ, .* two VMs of one name"):
        imported(tmp_path, frame, without(COLUMNS, "cpu_used", "net_rx"), units={})


def test_times_as_spreadsheets_write_large_numbers_are_read(tmp_path):
    frame = fleet(days=0.5)
    _, table = imported(tmp_path, frame.assign(ts=frame["ts"].map("{:.9e}".format)))
    assert set(samples(table)["t_end_utc_s"]) == set(frame["ts"])
