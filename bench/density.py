"""Density at the SLO: the largest overcommit ratio up to which, at every ratio that was played, critical VMs miss their
objective in no more than an allowed share of their seconds and no more VMs are killed than allowed.

Ratios are whole steps of a grid. A search begins at the least ratio and climbs by coarse steps until it fails; then it halves
the gap between the last ratio that holds and the first that fails, down to one step. A failure lower down counts wherever it is
found, so a curve that goes up and down again does not hide one from the coarse steps; one that lies within a coarse step
below can be missed (``coarse`` = ``step`` plays every ratio).

The interval is a percentile bootstrap over fleets (Efron 1979): each draw takes as many fleets with replacement and makes a
search of its own over the same rows. What is played next is what the sample itself still needs, and what the draws need at which
the interval ends; the others may stay in doubt within a gap, which moves no end. Draws are those of one seed, the same for every
agent. Left out: corrections for few fleets, with which percentile intervals are too narrow.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hvgym.bench.statistics import Estimate
from hvgym.envs.errors import InputError

REPLICATES = 2000

ENDS = (0.025, 0.975)
"""Quantiles of the draws that the 95 % interval ends at."""

ROUNDING = 1e-12
"""Of shares; a share that equals the allowed one but for rounding does not pass it."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """What happened to every fleet at one ratio, each ``[fleet]``.

    missed_s: seconds, summed over critical VMs, in which one missed its objective; asked_s: seconds in which they wanted to
    run; kills: out of memory, of all VMs; goodput: share of what was asked for; fits: whether the host held what is guaranteed
    (where it did not, nothing started: all is missed).
    """

    missed_s: FloatArray
    asked_s: FloatArray
    kills: FloatArray
    goodput: FloatArray
    fits: FloatArray

    def minus(self, ample: "Point") -> "Point":
        """Without the misses and kills that the same fleets have with ample memory."""
        return Point(self.missed_s - ample.missed_s, self.asked_s, self.kills - ample.kills, self.goodput, self.fits)

    def missed_share(self, draws: FloatArray) -> FloatArray:
        """Missed share of the critical VMs' seconds, all fleets of a draw together; draws ``[draw, fleet]`` -> ``[draw]``."""
        return np.asarray((draws @ self.missed_s) / (draws @ self.asked_s))


Curve = Mapping[float, Point]
"""What was played, by ratio."""


@dataclass(frozen=True)
class Rule:
    """What must hold (`slo`: share of seconds; `kills`: of all fleets together), and which ratios are searched."""

    slo: float = 0.01
    kills: int = 0
    least: float = 0.75
    most: float = 4.0
    coarse: float = 0.25
    step: float = 0.05

    def __post_init__(self) -> None:
        for name in ("least", "most", "coarse"):
            value = getattr(self, name)
            if abs(value - self.ratio(self.index(value))) > 1e-9:
                key = name if name == "coarse" else f"{name}_ratio"
                raise InputError(f"{key}={value:g}: must be a multiple of step={self.step:g}")
        if not self.least < self.most:
            raise InputError(f"least_ratio={self.least:g}: must be below most_ratio={self.most:g}")

    def index(self, ratio: float) -> int:
        """Its number on the grid."""
        return round(ratio / self.step)

    def ratio(self, index: int) -> float:
        """The ratio of that number, rounded so that equal ratios are equal floats."""
        return round(index * self.step, 9)

    def above(self, ratio: float) -> float | None:
        """The coarse ratio after one; None where the search ends."""
        if ratio >= self.most:
            return None
        coarse, least = self.index(self.coarse), self.index(self.least)
        steps = (self.index(ratio) - least) // coarse + 1
        return min(self.ratio(least + steps * coarse), self.most)

    def between(self, low: float, high: float) -> float | None:
        """The ratio in the middle of two; None where they are neighbours."""
        first, last = self.index(low), self.index(high)
        return self.ratio((first + last) // 2) if last - first > 1 else None

    def fails(self, point: Point, draws: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether a ratio fails, for every draw."""
        missed, killed = point.missed_share(draws) > self.slo + ROUNDING, draws @ point.kills > self.kills + ROUNDING
        # also where ample memory holds no more: then nothing is missed beyond it
        unfit = draws @ (point.fits <= 0.0) > 0.0
        return np.asarray(missed | killed | unfit)


def draws_of(fleets: int, seed: int, replicates: int = REPLICATES) -> FloatArray:
    """How often each draw has each fleet, ``[1 + replicates, fleet]``; the first is the sample itself."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(fleets, np.full(fleets, 1.0 / fleets), size=replicates)
    return np.vstack([np.ones(fleets), drawn])


@dataclass(frozen=True)
class Search:
    """How far every draw has come on a curve: the last ratio below its first failure (0 where the least fails), and that
    failure (infinite where nothing failed), each ``[draw]``.
    """

    rule: Rule
    ratios: tuple[float, ...]
    holds: FloatArray
    fails: FloatArray = field(repr=False)

    @staticmethod
    def on(curve: Curve, rule: Rule, draws: FloatArray) -> "Search":
        """Look at what was played, lowest ratio first."""
        holds, fails = np.zeros(len(draws)), np.full(len(draws), np.inf)
        ratios = tuple(sorted(curve))
        for ratio in ratios:
            failing = rule.fails(curve[ratio], draws) & np.isinf(fails)
            fails[failing] = ratio
            holds[np.isinf(fails)] = ratio
        return Search(rule, ratios, holds, fails)

    def wanted(self) -> list[float]:
        """Ratios to play next, lowest first; none when the search is over."""
        if not self.ratios:
            return [self.rule.least]
        needed = (self._next(float(self.holds[draw]), float(self.fails[draw])) for draw in (0, *self._ends()))
        return sorted({ratio for ratio in needed if ratio is not None})

    def _ends(self) -> list[int]:
        """The draws at which the interval ends, as `np.quantile` counts them (inverted_cdf)."""
        order = 1 + np.lexsort((self.fails[1:], self.holds[1:]))
        return [int(order[math.ceil(end * len(order)) - 1]) for end in ENDS]

    def _next(self, low: float, high: float) -> float | None:
        if np.isinf(high):
            return self.rule.above(self.ratios[-1])
        return self.rule.between(low, high) if low > 0.0 else None

    @property
    def density(self) -> Estimate:
        """Of the sample, with the 95 % interval of the draws: ratios of the grid, 0 where even the least ratio fails."""
        lo, hi = (float(self.holds[draw]) for draw in self._ends())
        return Estimate(float(self.holds[0]), lo, hi)

    def shown(self, ratio: float) -> str:
        """A density for people: ends of the search are no estimates."""
        if ratio <= 0.0:
            return f"< {self.rule.least:.2f}"
        return f"≥ {ratio:.2f}" if ratio >= self.rule.most else f"{ratio:.2f}"
