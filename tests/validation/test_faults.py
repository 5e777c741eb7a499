"""Where real guests once disagreed with the model (``faults``): each point with its figures."""

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
try:
    faults = importlib.import_module("faults")
finally:
    sys.path.pop(0)


def test_1_writes_count_against_the_limit_of_a_vm():
    """Measured: reads and writes are together the cap of 600. Reads alone would be 600, and progress .59. How many pages a write
    takes differed: progress was .36 with about one, and on other guests of the same set-up .50, with 2.4 (docs/fidelity.md)."""
    got = faults.writes_count()
    assert got["reads"] + got["operations"] == pytest.approx(600.0, rel=0.01)
    assert got["writes"] / got["operations"] == pytest.approx(2.4, abs=0.4)
    assert got["progress"] == pytest.approx(0.50, abs=0.03)


def test_2_one_fault_in_flight_gets_all_of_a_cap():
    """Measured: 600 of 600. A queue served at that rate lets 340 through."""
    got = faults.cap_is_no_queue()
    assert got["capped"] == pytest.approx(600.0, rel=1e-3)
    assert got["free"] > 1500.0


def test_3_a_squeeze_takes_what_is_idle_before_what_is_hot():
    """Measured: 1-2 faults a second. One hazard for all pages gave 250."""
    assert faults.squeeze_takes_the_idle()["faults"] < 2.0


def test_4_a_balloon_under_pressure_is_as_fast_as_the_guest_can_write():
    """Measured medians: 24 MiB/s at full progress (so fast these guests' processors reclaim), 2 MiB/s at progress .52."""
    got = faults.inflation_under_pressure()
    assert got["giant"] == pytest.approx(24.0, rel=0.05)
    assert got["giant_progress"] > 0.98
    assert got["steady"] == pytest.approx(2.0, abs=0.5)
    assert got["steady_progress"] == pytest.approx(0.52, abs=0.2)


def test_5_a_linux_host_takes_the_idle_giants_pages_and_leaves_the_others_alone():
    """Measured: the giant's process from 286 to 135 MiB, 92-159 host faults, the others at full speed. Measured again: from 300 to
    215 MiB (docs/fidelity.md)."""
    got = faults.host_takes_the_idle()
    assert got["giant"] == pytest.approx(215.0, abs=10.0)
    assert got["host_faults"] < 159.0
    assert got["others_swapped"] < 1.0
    assert got["slowest"] > 0.98


def test_6_free_memory_in_host_swap_is_read_back_before_a_balloon_has_it():
    """Measured: 157 MiB of three guests in 19 s under a cap of 600 reads. Without zeroing nothing is read."""
    got = faults.ballooning_what_the_host_swapped()
    assert 7.0 < got["zeroing"] < 30.0
    assert got["zeroing_read"] == pytest.approx(157.0, rel=1e-3)
    assert got["zeroing_most"] <= 600.0 * 8.0 / 256.0 * 1.01  # of which each may fetch eight pages
    assert got["not_zeroing_read"] == 0.0
    assert got["not_zeroing"] <= 2.0
