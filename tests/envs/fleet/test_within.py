"""Within a row: means stay, peaks come once, ramps are bounded, and draws are by counter."""

import numpy as np

from hvgym.envs.fleet import within
from hvgym.envs.model import rng

KEYS = np.array([3, 2**31, 12345], np.uint64)


def rows(count=2000, seed=0):
    """A steady VM, one that jumps by 30 %, and one at nothing."""
    draw = np.random.default_rng(seed)
    steady = np.full(count, 1000.0)
    jumps = np.where(draw.random(count) < 0.5, 700.0, 1000.0)
    return np.stack([steady, jumps, np.zeros(count)], axis=1)


def spread(given, ratios=None, parts=5, seed=1, first=0):
    ratios = np.full_like(given, np.nan) if ratios is None else ratios
    return within.spread(given, given[0], ratios, parts, seed, KEYS, first)


def test_a_row_is_played_in_slots_of_at_most_a_minute():
    assert [within.parts_of(row_s) for row_s in (1, 20, 60, 90, 300, 1800, 97)] == [1, 1, 1, 2, 5, 30, 97]


def test_the_vectors_draws_are_the_models():
    index = np.arange(5, dtype=np.uint64)[:, None]
    drawn = within.draws(2_000_000_007, rng.STREAM_PHASE, KEYS, index)
    for row in range(5):
        for column, key in enumerate(KEYS):
            assert drawn[row, column] == rng.uniform(2_000_000_007, rng.STREAM_PHASE, int(key), row)


def test_every_row_keeps_its_mean():
    given = rows()
    means = spread(given).reshape(-1, 5, 3).mean(axis=1)
    np.testing.assert_allclose(means, given, rtol=1e-12)


def test_largest_over_mean_is_borgs():
    given = rows()
    largest = spread(given).reshape(-1, 5, 3).max(axis=1)
    steady = largest[:, 0] / given[:, 0]
    assert abs(np.median(steady) - 1.008) < 0.001
    assert abs(np.quantile(steady, 0.99) - 1.05) < 0.01
    moved = np.abs(np.diff(given[:, 1], prepend=given[0, 1])) > 100
    burst = largest[moved, 1] / given[moved, 1]
    assert abs(np.median(burst) - 1.06) < 0.01
    assert abs(np.quantile(burst, 0.9) - 1.26) < 0.02
    assert (largest[~moved, 1] / given[~moved, 1]).max() <= 1.1
    assert (largest[:, 2] == 0.0).all()


def test_a_peak_that_the_source_tells_is_met_exactly_and_the_mean_stays():
    given = rows(50)[:, :1] * np.ones(3)
    ratios = np.tile([1.3, 4.0, np.nan], (50, 1))
    slots = spread(given, ratios).reshape(-1, 5, 3)
    np.testing.assert_allclose(slots[:, :, 0].max(axis=1), 1300.0)
    np.testing.assert_allclose(slots[:, :, 1].max(axis=1), 4000.0)
    np.testing.assert_allclose(slots.mean(axis=1), given, rtol=1e-12)
    assert slots.min() >= 0.0


def test_a_row_is_no_line_to_the_next():
    given = np.array([[1000.0] * 3, [2000.0] * 3])
    slots = spread(given)[:, 0]
    assert slots[:5].max() < 1120
    assert slots[5:].min() > 900  # within the burst's own swing, not on a ramp of five minutes


def test_rises_are_bounded_and_falls_are_not():
    slots = np.array([0.0, 50000.0, 50000.0, 50000.0, 0.0])[:, None]
    per_slot = within.RISE_MIB_PER_S * 60
    assert np.diff(within.bounded(slots, 60)[:, 0]).tolist() == [per_slot] * 3 + [-3 * per_slot]


def test_a_window_that_begins_later_draws_the_same_and_a_seed_others():
    given = rows(100)
    whole, later = spread(given), within.spread(given[40:], given[39], np.full((60, 3), np.nan), 5, 1, KEYS, 40)
    assert whole[200:].tobytes() == later.tobytes()
    assert spread(given, seed=2).tobytes() != whole.tobytes()
    alone = within.spread(given[:, :1], given[0, :1], np.full((100, 1), np.nan), 5, 1, KEYS[:1], 0)
    assert alone[:, 0].tobytes() == whole[:, 0].tobytes()  # no other VM shifts a draw
