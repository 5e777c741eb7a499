"""The data warehouse's views as rows of VMs: percent and unknown zeros, states that share a time, versions of a configuration."""

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import Options
from hvgym.envs.imports.sources.ovirt import SOURCE

START_S = 1_767_571_200
CONFIGURATION = (
    "history_id,vm_id,vm_name,memory_size_mb,cpu_per_socket,number_of_sockets\n7,u-1,web,4096,1,2\n9,u-1,web,8192,1,4\n"
)
HOURLY = (
    "history_datetime,vm_id,vm_status,seconds_in_status,cpu_usage_percent,max_cpu_usage,memory_usage_percent,max_memory_usage,"
    "currently_running_on_host,vm_configuration_version,memory_buffered_kb,memory_cached_kb\n"
)


def written(folder, content, name="vms.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def both(folder, rows, header=HOURLY):
    return [written(folder, CONFIGURATION, "config.csv"), written(folder, header + "\n".join(rows) + "\n")]


def frames(paths, **options):
    return list(SOURCE.read(paths if isinstance(paths, list) else [paths], Options(**options)))


def wrong(paths, **options):
    with pytest.raises(InputError) as error:
        frames(paths, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_means_and_maxima_are_rows_of_their_own(tmp_path):
    mean, most = frames(both(tmp_path, ["2026-01-05 00:00:00+00,u-1,1,3600,5,50,40,60,h1,7,10,100"]))
    row = mean.frame.iloc[0]
    assert (row["vm"], row["uuid"], row["host"], row["power"], row["agg"]) == ("web", "u-1", "h1", "on", "mean")
    assert row[["time", "cap", "vcpus", "guest_used", "cpu_used", "guest_cache"]].tolist() == [
        START_S,
        4096,
        2,
        40,
        5,
        110,
    ]
    assert most.frame[["agg", "guest_used", "cpu_used"]].to_numpy().tolist() == [["max", 60, 50]]
    units = {column.quantity: (column.unit, column.zero) for column in mean.columns}
    assert units["guest_used"] == ("percent", "unknown")
    assert units["cap"] == ("MiB", "unknown")
    assert units["guest_cache"] == ("KiB", "unknown")


def test_each_row_has_the_size_that_the_vm_had_then(tmp_path):
    rows = [f"2026-01-05 0{hour}:00:00+00,u-1,1,3600,5,50,40,60,h1,{version},0,0" for hour, version in ((0, 7), (1, 9))]
    mean, _ = frames(both(tmp_path, rows))
    assert mean.frame[["cap", "vcpus"]].to_numpy().tolist() == [[4096, 2], [8192, 4]]


def test_a_vm_that_was_renamed_is_one_vm_under_its_last_name(tmp_path):
    rows = [
        f"2026-01-05 0{hour}:00:00+00,{vm},1,3600,5,50,40,60,h1,{version},0,0"
        for hour, vm, version in ((0, "u-1", 7), (0, "u-2", 8), (1, "u-1", 9), (1, "u-2", 8))
    ]
    configuration = CONFIGURATION.replace("9,u-1,web,", "8,u-2,db,2048,1,2\n9,u-1,web-old,")
    files = both(tmp_path, rows)
    written(tmp_path, configuration, "config.csv")
    mean, most = frames(files)
    for batch in (mean, most):
        assert batch.frame[["vm", "uuid"]].to_numpy().tolist() == [["web-old", "u-1"], ["db", "u-2"]] * 2
    assert mean.frame["cap"].tolist() == [4096, 2048, 8192, 2048]


def test_of_two_states_of_an_hour_the_longer_counts_and_down_says_nothing_of_memory(tmp_path):
    rows = [
        "2026-01-05 00:00:00+00,u-1,1,600,5,50,40,60,h1,7,0,0",
        "2026-01-05 00:00:00+00,u-1,0,3000,0,0,0,0,,7,0,0",
        "2026-01-05 01:00:00+00,u-1,0,600,0,0,0,0,,7,0,0",
        "2026-01-05 01:00:00+00,u-1,1,3000,5,50,40,60,h1,7,0,0",
    ]
    mean = [batch.frame for batch in frames(both(tmp_path, rows)) if batch.frame["agg"].iloc[0] == "mean"]
    assert [power for frame in mean for power in frame["power"]] == ["off", "on"]
    np.testing.assert_array_equal([used for frame in mean for used in frame["guest_used"]], [np.nan, 40])


def test_without_configuration_vms_are_called_by_their_id(tmp_path):
    _, statistics = both(tmp_path, ["2026-01-05 00:00:00+00,u-1,1,3600,5,50,40,60,h1,7,0,0"])
    mean, _ = frames(statistics)
    assert mean.frame["vm"].tolist() == ["u-1"]
    assert "cap" not in mean.frame


def test_offsets_of_dates_count_and_dates_without_need_a_zone(tmp_path):
    row = "2026-01-05 02:00:00+02,u-1,1,3600,5,50,40,60,h1,7,0,0"
    assert frames(both(tmp_path, [row]))[0].frame["time"].tolist() == [START_S]
    daily = both(tmp_path, [row.replace(" 02:00:00+02", "")])
    assert "zone=" in wrong(daily)
    assert frames(daily, zone="UTC")[0].frame["time"].tolist() == [START_S]


def test_samples_have_no_maxima_and_the_latest_size(tmp_path):
    header = "history_datetime,vm_id,vm_status,cpu_usage_percent,memory_usage_percent\n"
    (batch,) = frames(both(tmp_path, ["2026-01-05 00:00:00+00,u-1,1,5,40"], header))
    assert batch.frame[["guest_used", "cap"]].to_numpy().tolist() == [[40, 8192]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"),
        (b"PGDMP\x01\x00", "binary"),
        ("<html>\n<body>\n", "no column is called 'history_datetime'"),
        (HOURLY, "a header without rows"),
        (HOURLY + "2026-01-05 00:00:00+00,u-1,1,3600,5,50\n", "line 2: 6 cells"),
        (
            HOURLY + "2026-01-05 00:00:00+00,u-1,1,3600,5,50,forty,60,h1,7,0,0\n",
            "line 2: column 'memory_usage_percent': 'forty'",
        ),
        (HOURLY + "yesterday,u-1,1,3600,5,50,40,60,h1,7,0,0\n", "line 2: column 'history_datetime': 'yesterday'"),
        ("time,vm,memory_percent\n1,2,3\n", "no column is called 'history_datetime'"),
        (CONFIGURATION, "without statistics"),
    ],
)
def test_broken_files_name_line_and_column(tmp_path, content, words):
    message = wrong(written(tmp_path, content))
    assert words in message
    assert "vms.csv" in message


def test_other_names_are_those_of_percentages_alone(tmp_path):
    header = "history_datetime,vm_id,vm_status,cpu_usage_percent,mem\n"
    files = both(tmp_path, ["2026-01-05 00:00:00+00,u-1,1,5,40"], header)
    assert frames(files, columns={"guest_used": "mem"})[0].frame["guest_used"].tolist() == [40]
    assert "fixed but for guest_used and cpu_used" in wrong(files, columns={"cap": "mem"})
