"""How far the order of policies on real guests and in the simulator agree: Kendall's tau with an interval, and decided pairs.

The interval is a percentile bootstrap that draws policies again (the same for all scenarios, for they are the same policies) and of
each the seeds. A pair of policies is decided where their real means differ by more than chance between seeds would explain; in
other pairs the order means nothing, and tau over all pairs punishes the model for chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NEAR = 0.05
"""A figure of the model is near to a real one within this (docs/validation.md, ranks)."""

REPEAT = 0.02
"""What the progress of a repeat differs by (docs/validation.md, ranks): pairs nearer than this are never decided."""

DRAWS = 4000

Real = Mapping[str, Sequence[float]]
"""Progress by policy, one figure a seed."""

Model = Mapping[str, float]


@dataclass(frozen=True)
class Agreement:
    """tau and its 95 % interval (NaN where one side ties everything); pairs; decided: of them; alike: of these, in which the
    model has the same order; near: policies within `NEAR`; policies."""

    tau: float
    low: float
    high: float
    pairs: int
    decided: int
    alike: int
    near: int
    policies: int


def tau(groups: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """Kendall's tau-b over the pairs within each group; of one group that of ``bench.statistics``."""
    both = ones = others = 0.0
    for one, other in groups:
        first, second = (np.sign(np.subtract.outer(values, values)) for values in map(np.asarray, (one, other)))
        both, ones, others = both + (first * second).sum(), ones + (first**2).sum(), others + (second**2).sum()
    tied = math.sqrt(ones * others)
    return float(both / tied) if tied > 0.0 else math.nan


def agreement(worlds: Sequence[tuple[Real, Model]], draws: int = DRAWS) -> Agreement:
    """Of one scenario, or of several pooled; policies that one of the two worlds lacks are left out."""
    shared = [[name for name in real if name in model and real[name]] for real, model in worlds]
    groups = [
        ([float(np.mean(real[name])) for name in names], [model[name] for name in names])
        for (real, model), names in zip(worlds, shared, strict=True)
    ]
    low, high = _interval(worlds, shared, draws)
    decided = [
        _decided(real, model, names, repeat_of(real)) for (real, model), names in zip(worlds, shared, strict=True)
    ]
    return Agreement(
        tau(groups), low, high,
        sum(len(names) * (len(names) - 1) // 2 for names in shared),
        sum(len(pairs) for pairs in decided),
        sum(alike for pairs in decided for alike in pairs),
        sum(abs(a - b) <= NEAR for ones, others in groups for a, b in zip(ones, others, strict=True)),
        sum(map(len, shared)),
    )  # fmt: skip


def repeat_of(real: Real) -> float:
    """What two means of this many seeds may differ by: twice the standard error of a difference, pooled over policies, and
    `REPEAT` at least."""
    repeated = [runs for runs in real.values() if len(runs) > 1]
    if not repeated:
        return REPEAT
    variance = float(np.mean([np.var(runs, ddof=1) for runs in repeated]))
    seeds = float(np.mean([len(runs) for runs in repeated]))
    return max(REPEAT, 2.0 * math.sqrt(2.0 * variance / seeds))


def _decided(real: Real, model: Model, names: Sequence[str], repeat: float) -> list[bool]:
    """For each pair that is decided, whether the model has its order."""
    means = {name: float(np.mean(real[name])) for name in names}
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if abs(means[a] - means[b]) > repeat]
    return [(means[a] - means[b]) * (model[a] - model[b]) > 0.0 for a, b in pairs]


def _interval(worlds: Sequence[tuple[Real, Model]], shared: Sequence[Sequence[str]], draws: int) -> tuple[float, float]:
    """Percentiles of tau over draws of policies and seeds."""
    rng, everybody = np.random.default_rng(0), sorted({name for names in shared for name in names})
    taus = []
    for _ in range(draws):
        drawn = [everybody[i] for i in rng.integers(0, max(len(everybody), 1), len(everybody))]
        groups = []
        for (real, model), names in zip(worlds, shared, strict=True):
            here = [name for name in drawn if name in names]
            again = [np.asarray(real[name])[rng.integers(0, len(real[name]), len(real[name]))].mean() for name in here]
            groups.append((again, [model[name] for name in here]))
        taus.append(tau(groups))
    known = np.asarray([value for value in taus if not math.isnan(value)])
    return (math.nan, math.nan) if known.size == 0 else (float(x) for x in np.quantile(known, (0.025, 0.975)))  # type: ignore[return-value]
