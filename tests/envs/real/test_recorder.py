"""What is recorded is a table that the rest of the product reads."""

from pathlib import Path

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.imports.table import FLAGS, read_table
from hvgym.envs.real.recorder import Recorder, rows
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry


def reading(time_s: float, **values: float) -> Telemetry:
    vm = np.zeros((1, 2), VM_TELEMETRY)
    for name in VM_TELEMETRY.names or ():
        vm[name] = np.nan
    given = {"memory_mib": 1024.0, "size_mib": 1000.0, "guest_total_mib": 980.0, "guest_available_mib": 480.0, "stats_age_s": 1.0,
             "guest_free_mib": 400.0, "running": 1.0, "vcpus": 2.0, "cpu_s": 0.0, "guest_swap_in_mib": 0.0}  # fmt: skip
    for name, value in (given | values).items():
        vm[name][0, 0] = value
    return Telemetry(np.array([time_s]), vm, np.zeros((1, 1), HOST_TELEMETRY))


def test_rows_are_read_back_as_what_they_are(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "t")
    before = reading(0.0)
    for minute in (1, 2):
        now = reading(60.0 * minute, cpu_s=30.0 * minute, guest_swap_in_mib=6.0 * minute)
        recorder.add(rows(["web", "off-all-the-time"], "h", 1_700_000_000 + 60 * minute, before, now))
        before = now
    recorder.close()
    ((name, found),) = read_table(tmp_path / "t").vms()
    assert name == "web"
    assert found["interval_s"].tolist() == [60, 60]
    assert found["guest_used_bytes"].tolist() == [500 * 2**20] * 2
    assert found["guest_notfree_bytes"].tolist() == [580 * 2**20] * 2
    assert found["cpu_used_cores"].tolist() == [0.5, 0.5]
    assert found["guest_swap_in_bytes_per_s"].tolist() == pytest.approx([2**20 / 10] * 2, rel=1e-5)


def test_old_words_of_a_guest_are_unknown_and_flagged(tmp_path: Path) -> None:
    (row,) = rows(["web", "b"], "h", 0, reading(0.0), reading(60.0, stats_age_s=71.0))
    assert row["guest_used_bytes"] == ""
    assert row["flags"] == str(FLAGS["stale"])


def test_half_a_row_of_a_killed_recording_goes_and_what_is_whole_stays(tmp_path: Path) -> None:
    for cut in (b"", b"web,1700000"):
        recorder = Recorder(tmp_path / "t")
        recorder.add(rows(["web", "b"], "h", 60, reading(0.0), reading(60.0)))
        recorder.close()
        with recorder.file.open("ab") as file:
            file.write(cut)
    Recorder(tmp_path / "t").close()
    assert recorder.file.read_text().count("\n") == 3
    assert recorder.file.read_text().endswith("\n")


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "vm_samples.csv").write_text("vm_id,t_end_utc_s\na,1\n")
    with pytest.raises(InputError, match="other columns"):
        Recorder(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        Recorder(tmp_path / "x")
