"""What the user says and what some of the rows say against the rest: it is named, and the twin without it passes."""

import sys
from pathlib import Path

import numpy as np
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
