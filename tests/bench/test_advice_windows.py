"""Windows of a history: the peak is always there, the others stand for what is not played, days stay together."""

import numpy as np
import pytest

from hvgym.bench.advice_windows import DAY_S, choose, draws_by_day
from hvgym.envs.errors import InputError

HOURS = 24 * 7


def history(seed=3):
    """A week of hours with one peak in the middle."""
    needed = np.random.default_rng(seed).uniform(10.0, 20.0, HOURS)
    needed[100] = 50.0
    return needed


def chosen(needed, hardest=3, random=12, seed=0, unknown=None, window_s=3600):
    dark = np.zeros(len(needed)) if unknown is None else unknown
    return choose(needed, dark, 3600, 1_780_272_000, window_s, hardest, random, 0.1, seed)


def test_the_hardest_windows_are_those_of_the_highest_sums():
    needed = history()
    windows = chosen(needed)
    hard = [start for start, is_hard in zip(windows.starts, windows.hard, strict=True) if is_hard]
    assert sorted(hard) == sorted(np.argsort(-needed)[:3].tolist())
    assert 100 in hard


def test_weights_add_up_to_the_history_and_estimate_its_sum_without_bias():
    needed = history()
    sums = []
    for seed in range(400):
        windows = chosen(needed, seed=seed)
        assert sum(windows.weights) == HOURS
        assert windows.share == 15 / HOURS
        sums.append(np.dot(windows.weights, needed[list(windows.starts)]))
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - needed.sum()) < 4 * error
    assert error < 0.01 * needed.sum()


def test_random_windows_lie_on_every_day():
    windows = chosen(history(), hardest=1, random=14)
    assert len(set(windows.days)) == 7


def test_a_short_history_is_played_whole_and_one_that_is_too_short_is_refused():
    windows = chosen(history()[:5], hardest=3, random=12)
    assert windows.starts == (0, 1, 2, 3, 4)
    assert windows.weights == (1.0,) * 5
    assert windows.share == 1.0
    with pytest.raises(InputError, match="window_s=7200: the history has 3600 seconds"):
        chosen(history()[:1], window_s=7200)


def test_windows_of_which_too_little_is_known_are_neither_played_nor_stood_for():
    unknown = np.zeros(HOURS)
    unknown[90:110] = 0.5  # with the peak
    windows = chosen(history(), unknown=unknown)
    assert not set(windows.starts) & set(range(90, 110))
    assert sum(windows.weights) == HOURS - 20


def test_a_draw_takes_whole_days_with_their_weights():
    days, weights = [1, 1, 2, 3, 3, 3], [1.0, 4.0, 1.0, 1.0, 2.0, 3.0]
    draws = draws_by_day(days, weights, seed=1, replicates=50)
    assert draws[0].tolist() == weights
    times = draws / np.array(weights)
    for day in (1, 2, 3):
        of_day = times[:, [one == day for one in days]]
        assert (of_day == of_day[:, :1]).all()
    first_of_each = times[:, [0, 2, 3]]
    assert (first_of_each.sum(axis=1) == 3).all()
    assert len({tuple(row) for row in first_of_each.tolist()}) > 5


def test_days_are_those_of_the_clock():
    windows = chosen(history(), hardest=1, random=HOURS - 1)
    assert windows.days[0] == 1_780_272_000 // DAY_S
    assert windows.days[-1] - windows.days[0] == 6
