"""Ten migrations of real guests: the model gives the same result, time and bytes within the tolerances set beforehand."""

import functools
import importlib
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
try:
    migrations = importlib.import_module("migrations")
finally:
    sys.path.pop(0)

ROWS = migrations.ROWS

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@functools.cache
def played(row):
    return row.play()


@each_row
def test_the_result_is_the_measured_one(row):
    assert played(row).result == row.result


@each_row
def test_total_time_is_the_measured_one(row):
    assert played(row).total_s == pytest.approx(row.total_s, rel=row.tolerances[0])


@each_row
def test_bytes_are_the_measured_ones(row):
    assert migrations.sent_mb(played(row)) == pytest.approx(row.sent_mb, rel=row.tolerances[1])


def test_bytes_of_what_never_ends_grow_at_the_speed_of_the_cap():
    for row in ROWS:
        if row.result == "never":
            assert migrations.sent_mb(played(row)) == pytest.approx(row.bandwidth_mb_per_s * row.total_s)


def test_post_copy_sends_again_only_what_was_sent_and_then_dirtied():
    row = next(row for row in ROWS if row.kind == "postcopy")
    whole = next(rows for rows in ROWS if rows.touches_per_s == 0.0)
    first, hot = migrations.sent_mb(played(whole)), row.hot_mib * 1.048576
    dirtied = hot * -math.expm1(-row.touches_per_s * 4096e-6 * 3.0 / hot)
    assert migrations.sent_mb(played(row)) == pytest.approx(
        first + dirtied * 3.0 * row.bandwidth_mb_per_s / first, rel=1e-3
    )
    assert played(row).downtime_ms == pytest.approx(2.0)


def test_auto_converge_ends_at_the_last_step_of_its_throttle_as_measured():
    assert played(next(row for row in ROWS if row.kind == "autoconverge")).throttle == 0.99


def law(hot_mib, touches_per_s, mb_per_s, other_mib=60.4, limit_s=0.3):
    """Laws 1, 2 and 4 written out, in MB: total seconds and bytes; None where it never ends."""
    hot, volume = hot_mib * 1.048576, (hot_mib + other_mib) * 1.048576
    seconds, sent = 0.0, volume
    for _ in range(10_000):
        t = volume / mb_per_s
        volume = hot * -math.expm1(-touches_per_s * 4096e-6 * t / hot)
        seconds, sent = seconds + t, sent + volume
        if volume <= mb_per_s * limit_s:
            return seconds, sent
    return None


@pytest.mark.parametrize("hot_mib", [64, 200, 330])
@pytest.mark.parametrize("touches_per_s", [700, 4000, 9000, 40000])
@pytest.mark.parametrize("mb_per_s", [20, 50, 110, 400])
def test_guests_that_were_not_measured_obey_the_laws(hot_mib, touches_per_s, mb_per_s):
    row = migrations.Measured(hot_mib, touches_per_s, 1, mb_per_s, "done", 0.0, 0.0)
    expected, got = law(hot_mib, touches_per_s, mb_per_s), played(row)
    assert got.result == ("never" if expected is None else "done")
    if expected is not None:
        assert got.total_s - got.downtime_ms / 1e3 == pytest.approx(expected[0], rel=0.02)
        assert migrations.sent_mb(got) == pytest.approx(expected[1], rel=0.01)
