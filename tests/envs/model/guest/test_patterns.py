"""Patterns against every page on its own, and idle ages against published figures."""

import time

import numpy as np
import pytest

from hvgym.envs.model.guest import patterns

PAGES = 65536
GENERAL = ((0.525, 0.259, 0.215), (8.0, 134.0, 21600.0))
SERVICE_C = ((0.226, 0.513, 0.261), (0.1, 166.0, 11.8 * 3600))


def che(count, rate, memory):
    """Miss ratio of LRU with `memory` pages: a page is there if touched within the age at which memory is full."""
    return solved(lambda age: np.exp(-rate * age), count, rate, memory)


def gelenbe(count, rate, memory):
    """Miss ratio of RANDOM replacement."""
    return solved(lambda age: 1.0 / (1.0 + rate * age), count, rate, memory)


def solved(missing, count, rate, memory):
    low, high = 1e-9, 1e12
    for _ in range(100):
        age = np.sqrt(low * high)
        low, high = (age, high) if np.sum(count * (1.0 - missing(age))) < memory else (low, age)
    return np.sum(count * rate * missing(age)) / np.sum(count * rate)


@pytest.mark.parametrize("exponent", [0.7, 0.8, 0.99, 1.2])
@pytest.mark.parametrize("level", [0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
@pytest.mark.parametrize(("policy", "tolerance"), [(che, 0.05), (gelenbe, 0.10)])
def test_four_tiers_miss_like_65536_pages_of_a_zipf_pattern(policy, tolerance, exponent, level):
    tiers = patterns.zipf(PAGES, 5000.0, exponent)
    every_page = np.arange(1, PAGES + 1) ** -exponent
    exact = policy(1.0, every_page, level * PAGES)
    got = policy(tiers.share * PAGES, tiers.rate_per_s, level * PAGES)
    assert got == pytest.approx(exact, rel=tolerance, abs=2e-4)


@pytest.mark.parametrize(
    "pattern",
    [
        patterns.uniform(PAGES, 5000.0),
        patterns.zipf(PAGES, 5000.0, 0.99),
        patterns.mixture(PAGES, 5000.0, *GENERAL),
        patterns.mixture(PAGES, 5000.0, (0.5, 0.2, 0.2, 0.1), (1.0, 10.0, 100.0, 1000.0)),
    ],
)
def test_shares_sum_to_one_and_touches_to_the_rate_of_the_workload(pattern):
    assert pattern.share.sum() == pytest.approx(1.0)
    assert PAGES * np.sum(pattern.share * pattern.rate_per_s) == pytest.approx(5000.0)
    assert np.all(pattern.rate_per_s > 0.0)


def test_zipf_by_hand():
    """Ten pages at exponent 1: 1, 1/2 + 1/3, 1/4 + 1/5 + 1/6 and the rest, of 7381/2520 in all."""
    share, rate = patterns.zipf(10, 7381 / 2520, 1.0)
    assert share.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rate[:3].tolist() == pytest.approx([1.0, (1 / 2 + 1 / 3) / 2, (1 / 4 + 1 / 5 + 1 / 6) / 3])


def test_zipf_of_exponent_zero_is_uniform():
    assert patterns.zipf(PAGES, 5000.0, 0.0).rate_per_s == pytest.approx(patterns.uniform(PAGES, 5000.0).rate_per_s)


def test_sixteen_million_pages_take_seconds_at_most():
    start = time.monotonic()
    pattern = patterns.zipf(16_777_216, 5000.0, 0.99)
    assert time.monotonic() - start < 10.0
    assert 16_777_216 * np.sum(pattern.share * pattern.rate_per_s) == pytest.approx(5000.0)


def test_a_mixture_keeps_its_times_unless_told_its_rate():
    share, rate = patterns.mixture(PAGES, None, (0.25, 0.75), (10.0, 50.0))
    assert share.tolist() == [0.25, 0.75, 0.0, 0.0]
    assert rate.tolist() == pytest.approx([0.1, 0.02, 0.02, 0.02])
    twice = patterns.mixture(PAGES, 2 * PAGES * (0.25 * 0.1 + 0.75 * 0.02), (0.25, 0.75), (10.0, 50.0))
    assert twice.rate_per_s == pytest.approx(2.0 * rate)


def test_a_third_of_memory_is_idle_for_two_minutes_and_15_percent_of_it_comes_back_each_minute():
    assert patterns.idle_share(120.0, *GENERAL) == pytest.approx(0.32, abs=0.01)
    again = 60.0 * patterns.retouch_rate(120.0, *GENERAL) / patterns.idle_share(120.0, *GENERAL)
    assert again == pytest.approx(0.15, abs=0.02)


def test_the_retouch_rate_is_the_slope_of_the_idle_share():
    step = 1e-3
    fall = patterns.idle_share(100.0 - step, *GENERAL) - patterns.idle_share(100.0 + step, *GENERAL)
    assert patterns.retouch_rate(100.0, *GENERAL) == pytest.approx(fall / (2 * step), rel=1e-6)


@pytest.mark.parametrize(("older", "age_s"), [(0.75, 7.9), (0.50, 126.0), (0.25, 1854.0), (0.01, 138600.0)])
def test_published_quartiles_of_a_services_idle_time(older, age_s):
    assert patterns.idle_age(older, *SERVICE_C) == pytest.approx(age_s, rel=0.05)
