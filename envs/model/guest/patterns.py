"""Access patterns as the model's recency tiers: which share of the pages each tier holds, and how often a page of it is
touched.

A pattern of independent touches is a distribution of rates over pages. The model knows `params.TIERS` rates, so a
continuous pattern is cut into as many classes of equal pages. Cut at `ZIPF_EDGES`, the misses of a Zipf pattern stay
within 5 % (LRU, Che's approximation) and 10 % (RANDOM, Gelenbe's) of those of every page on its own, down to memory for
0.4 of the pages and for exponents 0.7 to 1.2 (tests/envs/model/guest/test_patterns.py). A mixture of exponentials is exact.

`idle_share`, `retouch_rate` and `idle_age` say how long the pages of a mixture have been idle: what cold-memory surveys
measure. The form, a sum of exponentials whose weights are shares of touched memory, follows from Poisson touches; three
terms fit published idle-age curves of data centres to a few percent (Lagar-Cavilla et al., ASPLOS 2019; Weiner et al.,
ASPLOS 2022).

Left out: scans and loops, phases, and any dependence of one touch on the last.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hvgym.envs.model.params import TIERS

ZIPF_EDGES = (0.1, 0.3, 0.6)
"""Ranks, as shares of all pages, at which a Zipf pattern is cut into tiers."""


class Pattern(NamedTuple):
    """A workload's pages by tier."""

    share: np.ndarray
    """Of all pages, ``[tier]``; sums to one. Tiers that are not used hold none."""

    rate_per_s: np.ndarray
    """Touches of one page per second, ``[tier]``; above zero in every tier."""


def uniform(pages: float, touches_per_s: float) -> Pattern:
    """Every page alike; all of them in the first tier."""
    share = np.zeros(TIERS)
    share[0] = 1.0
    return Pattern(share, np.full(TIERS, touches_per_s / pages))


def zipf(pages: float, touches_per_s: float, exponent: float) -> Pattern:
    """The page of rank i is touched in proportion to i ** -exponent; tiers are ranges of ranks (at least 10 pages)."""
    count = round(pages)
    starts = np.array([0, *(round(edge * count) for edge in ZIPF_EDGES)])
    weight = np.add.reduceat(np.arange(1, count + 1, dtype=np.float64) ** -exponent, starts)
    share = np.diff(starts, append=count) / count
    return Pattern(share, touches_per_s * weight / weight.sum() / (share * pages))


def mixture(pages: float, touches_per_s: float | None, weights: Sequence[float], tau_s: Sequence[float]) -> Pattern:
    """Up to `TIERS` classes with these shares of the pages, a page of which is touched every tau_s seconds on average.

    The weights are normalised. `touches_per_s` speeds all classes up or down alike until the whole workload has this
    rate; None leaves them as given.
    """
    share = np.zeros(TIERS)
    share[: len(weights)] = np.asarray(weights) / np.sum(weights)
    rate = np.full(TIERS, 1.0 / tau_s[-1])
    rate[: len(tau_s)] = 1.0 / np.asarray(tau_s)
    if touches_per_s is not None:
        rate *= touches_per_s / (pages * np.sum(share * rate))
    return Pattern(share, rate)


def idle_share(age_s: float, weights: Sequence[float], tau_s: Sequence[float]) -> float:
    """S(a): share of pages that have been idle for longer than `age_s`, sum of w_k exp(-a / tau_k)."""
    return float(np.sum(np.asarray(weights) * np.exp(-age_s / np.asarray(tau_s))))


def retouch_rate(age_s: float, weights: Sequence[float], tau_s: Sequence[float]) -> float:
    """D(a): touches per second of pages idle for longer than `age_s`, per page of all, sum of w_k / tau_k exp(-a / tau_k).

    With a working LRU that evicts at this age it is the fault rate; D / S is the share of idle pages that are touched
    again per second.
    """
    tau = np.asarray(tau_s)
    return float(np.sum(np.asarray(weights) / tau * np.exp(-age_s / tau)))


def idle_age(share: float, weights: Sequence[float], tau_s: Sequence[float]) -> float:
    """The age in seconds that this share of the pages has passed: S(a) = share, by bisection; 0 < share < sum of weights."""
    low, high = 0.0, max(tau_s)
    while idle_share(high, weights, tau_s) > share:
        high *= 2.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if idle_share(middle, weights, tau_s) > share else (low, middle)
    return 0.5 * (low + high)
