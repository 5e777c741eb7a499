"""What the user says and what some of the rows say against the rest: it is named, and the twin without it passes."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvgym.envs.errors import InputError

sys.path.insert(0, str(Path(__file__).resolve().parent))

from made_fleet import COLUMNS, KIB, STEP, fleet, imported, without

sys.path.pop(0)


def test_a_counter_is_no_rate_whoever_says_so(tmp_path):
    with pytest.raises(InputError, match=r"'rx' \(net_rx\): units=\{net_rx: B/s\}.* it falls in 0 % of .*, B$"):
        imported(tmp_path, fleet(), units={"net_rx": "B/s"})
    with pytest.raises(InputError, match=r"'cpu' \(cpu_used\): units=\{cpu_used: cores\}.* counts up.* s$"):
        imported(tmp_path, fleet(), units={"net_rx": "B", "cpu_used": "cores"})


def test_a_rate_is_no_counter_whoever_says_so(tmp_path):
    frame = fleet()
    frame["rx"] = frame.groupby("name")["rx"].diff().fillna(0) / STEP
    with pytest.raises(
        InputError, match=r"'rx' \(net_rx\): units=\{net_rx: B\}.* counts up, but .*units=\{net_rx: B/s\}"
    ):
        imported(tmp_path, frame)
    _, table = imported(tmp_path, frame, units={"net_rx": "B/s"})
    np.testing.assert_allclose(
        dict(table.vms())["vm-3"]["net_rx_bytes_per_s"], frame[frame["name"] == "vm-3"]["rx"], rtol=1e-9
    )


@pytest.mark.parametrize("which", ["some VMs", "some days"])
def test_a_unit_that_only_some_rows_are_in_is_told(tmp_path, which):
    frame = fleet()
    some = frame["name"].isin(["vm-1", "vm-2"]) if which == "some VMs" else frame["ts"] > frame["ts"].quantile(0.7)
    frame.loc[some, "used"] = np.round(frame["used"][some] / KIB)
    with pytest.raises(InputError, match=r"guest_used of less than 1/512 .*another unit.*units="):
        imported(tmp_path, frame)


def test_what_is_marked_as_unknown_by_a_negative_number_is_told(tmp_path):
    frame = fleet()
    frame.loc[frame.index % 20 == 3, "used"] = -1
    with pytest.raises(InputError, match=r"'used' \(guest_used\): .* 5 % of rows are below 0: leave cells .* empty"):
        imported(tmp_path, frame, without(COLUMNS, "backed"))


def test_cpu_that_changes_its_unit_in_the_middle_is_told_and_not_thrown_away(tmp_path):
    """Cores in the first half, per cent of them in the second: most of these are more than the VM's processors can do."""
    frame = cores(fleet())
    late = frame["ts"] > frame["ts"].median()
    frame.loc[late, "cpu"] *= 100.0
    with pytest.raises(InputError, match=r"^cpu_used that a VM of its virtual CPUs cannot have, now unknown: .* % of "):
        imported(tmp_path, frame, units={"net_rx": "B", "cpu_used": "cores"})


def test_single_bursts_of_cpu_beyond_the_processors_are_unknown_and_counted(tmp_path):
    frame = cores(fleet())
    frame.loc[frame.index[7], "cpu"] = 64.0
    found, table = imported(tmp_path, frame, units={"net_rx": "B", "cpu_used": "cores"})
    assert [
        line for line in found.tally.lines() if line.startswith("cpu_used that a VM of its virtual CPUs cannot have")
    ]
    known = pd.concat([rows for _, rows in table.vms()])["cpu_used_cores"]
    assert known.isna().sum() == 1
    assert known.max() < 5.0


def cores(frame):
    """Its counter of CPU seconds as cores in use."""
    frame = frame.sort_values(["name", "ts"], ignore_index=True)
    used = frame.groupby("name")["cpu"].diff() / STEP
    return frame.assign(cpu=used.bfill())


def test_two_files_that_contradict_each_other_are_no_overlap(tmp_path):
    one = fleet()
    other = one.assign(used=one["used"] * 0.8)
    with pytest.raises(
        InputError, match=r"^VM 'vm-0' has two rows of one time that differ, 432 times \(50 % of its rows\)"
    ):
        imported(tmp_path, pd.concat([one, other]))
    begin = one["ts"] < one["ts"].min() + 15 * STEP  # too few of each VM for a word on it, enough of all
    with pytest.raises(
        InputError, match=r"rows are of a VM and a time that another row has with other values, first vm-0 at"
    ):
        imported(tmp_path, pd.concat([one[begin], other[begin]]))
    some = other[other["ts"] > other["ts"].quantile(0.7)]
    found, _ = imported(tmp_path, pd.concat([one, some]))
    assert any(line.startswith("two rows of a VM at one time that differ") for line in found.tally.lines())


def test_used_and_cache_that_pass_a_vms_memory_are_counted(tmp_path):
    frame = fleet()
    frame["cache"] = 0.2 * frame["size"]
    columns = COLUMNS | {"guest_cache": "cache"}
    free = frame.assign(used=(frame["size"] - 0.1 * frame["used"]).round())
    for given, found_any in ((frame.assign(used=(0.5 * frame["used"]).round()), False), (free, True)):
        found, _ = imported(tmp_path, given, columns)
        assert any("guest_used and guest_cache together pass" in line for line in found.tally.lines()) == found_any


def test_a_header_that_stands_again_is_no_row(tmp_path):
    file = tmp_path / "days.csv"
    text = fleet().to_csv(index=False)
    head, rows = text.split("\n", 1)
    lines = rows.splitlines()
    file.write_text("\n".join([head, *lines[:5000], head, *lines[5000:]]) + "\n")
    _, twice = imported(tmp_path, file=file)
    two = pd.concat([rows for _, rows in twice.vms()], ignore_index=True)
    _, once = imported(tmp_path, fleet())
    pd.testing.assert_frame_equal(two, pd.concat([rows for _, rows in once.vms()], ignore_index=True))


def told_by_its_rest(frame):
    """The fleet as libvirt tells it: what a guest has, and what it could still use."""
    frame["total"] = 0.98 * frame["size"]
    frame["usable"] = frame["total"] - frame["used"]
    return frame, without(COLUMNS, "guest_used", "backed") | {"guest_total": "total", "guest_usable": "usable"}


def test_a_unit_that_one_vm_is_in_is_told_where_use_is_inferred(tmp_path):
    frame, columns = told_by_its_rest(fleet())
    imported(tmp_path, frame, columns)
    one = frame["name"] == "vm-1"
    frame.loc[one, ["total", "usable"]] = np.round(frame.loc[one, ["total", "usable"]] / KIB)
    with pytest.raises(InputError, match=r"guest_used of less than 1/512 .*another unit"):
        imported(tmp_path, frame, columns)


def test_a_unit_that_one_vm_is_in_is_told_of_host_memory(tmp_path):
    frame = fleet()
    frame.loc[frame["name"] == "vm-1", "rss"] /= KIB
    with pytest.raises(InputError, match=r"backed of less than 1/512 .*another unit"):
        imported(tmp_path, frame)


def test_guests_that_told_once_are_no_use_though_nothing_else_says_that_they_work(tmp_path):
    frame, columns = told_by_its_rest(fleet())
    columns = without(columns, "cpu_used", "net_rx")
    for name in ("total", "usable"):
        frame[name] = frame.groupby("name")[name].transform("first")
    with pytest.raises(
        InputError, match=r"'usable' \(guest_usable\): never changes in 100 % of VMs, so their guests were not asked"
    ):
        imported(tmp_path, frame, columns, units={})


def test_where_one_vm_makes_a_unit_doubtful_it_is_named(tmp_path):
    frame = fleet()
    one = frame["name"] == "vm-1"
    frame.loc[one, "used"] *= KIB
    peaks = frame[~one].groupby("name")["used"].max()
    with pytest.raises(InputError, match=r"'used' \(guest_used\)") as error:
        imported(tmp_path, frame)
    most = frame["used"][one].max()
    told = f"from the rest is vm-1: {most:.6g} at most, where others have {peaks.min():.6g} to {peaks.max():.6g}."
    assert told in str(error.value)


def test_a_vm_of_a_size_that_none_has_is_named_among_many(tmp_path):
    """One of 250 in another unit is below what would end the import, and said."""
    frame = fleet(vms=250, days=0.1)
    of = frame["name"] == "vm-7"
    frame.loc[of, ["size", "used", "rss"]] /= KIB
    result, table = imported(tmp_path, frame)
    assert (
        "VMs of less than 64 MiB or more than 32 TiB (another unit?): 1 of 250 (first: vm-7, 16 MiB)"
        in result.tally.lines()
    )
    assert len(table.meta) == 250


def test_vms_of_the_user_that_no_file_has_are_said(tmp_path):
    result, _ = imported(
        tmp_path, fleet(), caps_mib={"vm-0": 2048.0, "VM-1": 4096.0}, groups={"db": "shop", "vm-2": "shop"}
    )
    assert "VMs of caps= that no file has: 1 of 2 (first: VM-1)" in result.tally.lines()
    assert "VMs of groups= that no file has: 1 of 2 (first: db)" in result.tally.lines()
    result, _ = imported(tmp_path, fleet(), caps_mib={"vm-0": 2048.0}, groups={"vm-2": "shop"})
    assert not any("no file has" in line for line in result.tally.lines())
