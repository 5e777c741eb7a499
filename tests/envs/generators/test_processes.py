"""The parts of a generated VM's demand, by hand and by their statistics."""

import numpy as np
import pytest

from hvgym.envs.generators import processes
from hvgym.envs.generators.draws import Quantiles
from hvgym.envs.generators.fleet import CPU_PER_IO, Span, _busy

KEYS = np.arange(400)
PERIODS_S = np.full(400, 600.0)


def times_s(count, step_s, first_s=0.0):
    return first_s + step_s * np.arange(count)


def painted(begin_s, end_s, height=1.0):
    """One span over six slots of 100 s."""
    one = np.array([0]), np.array([begin_s]), np.array([end_s]), np.array([height])
    return processes.painted((1, 6), 100.0, 0.0, *one)[0]


def test_a_span_weighs_in_each_slot_what_it_covers():
    assert painted(150.0, 420.0, 2.0) == pytest.approx([0.0, 1.0, 2.0, 2.0, 0.4, 0.0])
    assert painted(210.0, 240.0) == pytest.approx([0.0, 0.0, 0.3, 0.0, 0.0, 0.0])


def test_a_span_is_cut_to_what_is_painted():
    assert painted(-1000.0, 50.0) == pytest.approx([0.5, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert painted(550.0, 9000.0) == pytest.approx([0.0, 0.0, 0.0, 0.0, 0.0, 0.5])
    assert painted(700.0, 900.0).sum() == painted(-300.0, -200.0).sum() == 0.0


@pytest.mark.parametrize("process", [processes.wander, processes.held])
def test_a_wandering_level_has_variance_1_at_any_time_and_forgets_after_its_period(process):
    drawn = process(1, 64, KEYS, times_s(200, 60.0), PERIODS_S)
    assert drawn.std(axis=0) == pytest.approx(np.ones(200), abs=0.15)
    assert (drawn[:, 0] * drawn[:, 5]).mean() > 0.2  # five minutes later
    assert abs((drawn[:, 0] * drawn[:, 25]).mean()) < 0.2  # after 25


@pytest.mark.parametrize("process", [processes.wander, processes.held, processes.sawtooth])
def test_a_moment_is_the_same_from_wherever_one_begins(process):
    whole = process(7, 64, KEYS, times_s(300, 20.0), PERIODS_S)
    later = process(7, 64, KEYS, times_s(100, 20.0, 4000.0), PERIODS_S)
    assert np.array_equal(whole[:, 200:], later)


def test_a_sawtooth_falls_at_once_and_rises_slowly():
    drawn = processes.sawtooth(3, 64, KEYS, times_s(500, 20.0), PERIODS_S)
    change = np.diff(drawn, axis=1)
    assert (change > 0.1).sum() == 0
    assert (change < -0.5).sum() > 1000
    assert abs(drawn.mean()) < 0.1


def test_a_day_has_one_hump_of_variance_1():
    drawn = processes.daily(3, 64, KEYS[:5], times_s(288, 300.0))
    assert drawn.mean(axis=1) == pytest.approx(np.zeros(5), abs=0.01)
    assert drawn.var(axis=1) == pytest.approx(np.ones(5), abs=0.01)
    assert np.allclose(drawn, processes.daily(3, 64, KEYS[:5], times_s(288, 300.0, processes.DAY_S)))
    assert ((drawn[:, :-1] < 0) & (drawn[:, 1:] >= 0)).sum(axis=1).max() == 1


LENGTH = Quantiles((0, 100), (600.0, 600.0))


def drawn_bursts(begin_s, end_s, shared=KEYS, share=0.0, seed=2):
    per_day = np.full(400, 3.0)
    return processes.bursts(seed, 64, KEYS, shared, share, (begin_s, end_s), per_day, LENGTH, np.ones(400))


def test_bursts_come_at_the_rate_that_is_asked_for():
    found = drawn_bursts(0.0, 20 * processes.DAY_S)
    assert len(found.vm) / 400 / 20 == pytest.approx(3.0 * 0.97, rel=0.15)  # the mean of ACTIVITY is 0.97
    assert found.end_s - found.begin_s == pytest.approx(np.full(len(found.vm), 600.0))


def test_a_burst_that_began_before_the_span_is_there():
    whole, later = drawn_bursts(0.0, 50_000.0), drawn_bursts(30_000.0, 50_000.0)
    cut = (whole.end_s > 30_000.0) & (whole.begin_s < 30_000.0)
    assert cut.sum() > 5
    assert set(whole.begin_s[cut]) <= set(later.begin_s)


def test_siblings_burst_together_in_the_share_that_is_asked_for():
    group = np.full(400, 1 << 20)
    found = drawn_bursts(0.0, 10 * processes.DAY_S, group, 0.9)
    _, counts = np.unique(found.begin_s, return_counts=True)
    assert counts.max() > 340
    assert counts[counts > 100].sum() / counts.sum() == pytest.approx(0.9, abs=0.03)


def test_io_is_up_before_at_and_after_the_beginning_of_a_burst():
    """A burst from 600 to 1500 s whose I/O begins 150 s before: 35 times that at rest, then 40 for 300 s, then 4."""
    one = processes.Bursts(np.array([0]), np.array([600.0]), np.array([1500.0]), np.array([0.0]), np.array([0.5]))
    tall, half = (1.0 + _busy((1, 6), Span(0.0, 6, 300.0), one, np.array([height]))[0] for height in (0.2, 0.03))
    assert tall == pytest.approx([1.0, 1.0 + 34.0 / 2.0, 40.0, 4.0, 4.0, 1.0])
    assert half == pytest.approx([1.0, 1.0 + 34.0 / 4.0, 20.5, 2.5, 2.5, 1.0])
    full = 39.0 * CPU_PER_IO
    assert full == pytest.approx(3.5)
