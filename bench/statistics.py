"""How sure we are that one policy beats another.

Scores of one agent are a float64 array [scenario, train_seed, eval_seed]; a heuristic has one training seed. Demand is
exogenous, so evaluation seed e of a scenario is the same demand for every agent: comparisons of two agents are paired.
Performance profile, probability of improvement and the stratified bootstrap follow Agarwal et al., "Deep RL at the edge of the
statistical precipice", NeurIPS 2021; so does the interquartile mean, but over scenarios and not over runs (`iqm_of_scenarios`). The
correction for many comparisons is Holm's (1979).

Left out: corrections for few seeds. Percentile intervals are too narrow with five training seeds or fewer.
Every random function takes its Generator: same seed, same bits. NaN and infinity anywhere raise ValueError.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Statistic = Callable[[FloatArray], FloatArray]  # [block, scenario, train_seed, eval_seed] -> [block, ...]

_BLOCK_FLOATS = 4_000_000  # the largest temporary array: 32 MB, of which about five live at a time
_MOST_PAIRS_TO_ENUMERATE = 14  # 2**14 sign patterns
_SMALLEST_HEADROOM = 1e-9  # goodput between stock and reference below which a score means nothing


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True)
class PairedTest:
    """Mean difference a - b, its confidence interval and a two-sided p-value. demands: how many the scenarios have; fixed: in how
    many of them every seed gave the same (`repeated`)."""

    mean: float
    lo: float
    hi: float
    p_value: float
    demands: int
    fixed: int


def seeded_by(figures: Iterable[npt.ArrayLike]) -> np.random.Generator:
    """Draws that hang on the figures alone: equal results have equal intervals, whatever code or machine made them."""
    seen = hashlib.sha256()
    for one in figures:
        seen.update(np.ascontiguousarray(one, dtype=np.float64).tobytes())
    return np.random.default_rng(list(seen.digest()))


def iqm(values: npt.ArrayLike) -> float:
    """Interquartile mean of all values, whatever their shape; see `iqm_rows`."""
    return float(iqm_rows(_finite("values", values).ravel()))


def iqm_rows(values: FloatArray) -> FloatArray:
    """Interquartile mean over the last axis, [..., n] -> [...].

    Drops floor(n / 4) values from each end, as scipy.stats.trim_mean(0.25) and so rliable do: figures compare with the
    literature, and up to three values are simply averaged.
    """
    # A full sort, not a partition: the order a partition leaves, and so the last bit of the sum, depends on the CPU.
    ordered = np.sort(_finite("values", values), axis=-1)
    n = ordered.shape[-1]
    return np.asarray(ordered[..., n // 4 : n - n // 4].mean(axis=-1))


def iqm_of_scenarios(runs: FloatArray) -> FloatArray:
    """The mean over runs of each scenario, then the IQM over scenarios: [..., scenario, train_seed, eval_seed] -> [...].

    Agarwal et al. trim runs of all tasks together. Here a score is scaled by the *mean* of what its scenario has to win
    (`normalised_score`), and on some seeds there is several times as much to win as on others, so runs are skewed to the right: to
    trim them takes away the seeds on which most is won, and the reference itself gets less than 1. Means over seeds first make it 1
    on every scenario, and stock 0, whatever the seeds; what is trimmed are whole scenarios on which an agent is far off, a quarter
    from each end. A rare seed that goes very wrong therefore counts, as it does for an operator.
    """
    return iqm_rows(runs.mean(axis=(-2, -1)))


def stratified_bootstrap(
    scores: npt.ArrayLike,
    statistic: Statistic,
    rng: np.random.Generator,
    replicates: int = 2000,
    demands: npt.ArrayLike | None = None,
) -> FloatArray:
    """Replicates of a statistic, [replicates, ...], from scores [scenario, train_seed, eval_seed].

    Each scenario is a stratum; those with the same demand (demands: its number, [scenario]; all apart if not told) share their
    evaluation seeds. Training seeds are drawn with replacement (outer level), evaluation seeds too (inner
    level), in one draw for all training seeds of the scenario: every trained agent meets the same demand, and a draw
    apart would treat that common demand as averaged out (95 % intervals then cover 61 % of the time when demand
    dominates the spread; drawn in common, 94 %). `statistic` gets blocks of resampled scores, [block, *scores.shape].
    """
    runs = _scores("scores", scores)
    scenarios, train_seeds, eval_seeds = runs.shape
    scenario, drawn_by = np.arange(scenarios)[:, None, None], _numbered(demands, scenarios)
    parts = []
    for block in _blocks(replicates, runs.size):
        train = rng.integers(train_seeds, size=(block, scenarios, train_seeds, 1))
        evaluation = rng.integers(eval_seeds, size=(block, drawn_by.max() + 1, 1, eval_seeds))[:, drawn_by]
        parts.append(statistic(runs[scenario, train, evaluation]))
    return np.concatenate(parts)


def interval(replicates: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval (lo, hi) of replicates [replicates]."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    lo, hi = np.quantile(_finite("replicates", replicates), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lo), float(hi)


def score_interval(
    scores: npt.ArrayLike,
    rng: np.random.Generator,
    replicates: int = 2000,
    confidence: float = 0.95,
    demands: npt.ArrayLike | None = None,
) -> Estimate:
    """`iqm_of_scenarios` of scores [scenario, train_seed, eval_seed] and its stratified bootstrap interval, over seeds: scenarios
    stay as they are, and so does the scale, so the interval of the reference's own 1 says how much its gain varies with demand."""
    drawn = stratified_bootstrap(scores, iqm_of_scenarios, rng, replicates, demands)
    return Estimate(float(iqm_of_scenarios(_scores("scores", scores))), *interval(drawn, confidence))


def kendall(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Kendall's tau-b of two rankings of the same things, ``[thing]``; NaN where one of them ties everything."""
    first, second = (np.sign(np.subtract.outer(values, values)) for values in map(np.asarray, (one, other)))
    tied = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / tied) if tied > 0.0 else float("nan")


def performance_profile(scores: npt.ArrayLike, thresholds: npt.ArrayLike) -> FloatArray:
    """Share of runs whose score is above each threshold, [threshold], from [scenario, train_seed, eval_seed]."""
    ordered = np.sort(_scores("scores", scores), axis=None)
    not_above = np.searchsorted(ordered, _finite("thresholds", thresholds), side="right")
    return (ordered.size - not_above) / ordered.size


def probability_of_improvement(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Mean over scenarios of P(A > B) + P(A = B) / 2, over all pairs of a run of a and a run of b.

    a, b: [scenario, train_seed, eval_seed]; only the training seeds may differ in number.
    """
    return float(_wins(*_score_pair(a, b)).mean())


def probability_of_improvement_interval(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    rng: np.random.Generator,
    replicates: int = 2000,
    confidence: float = 0.95,
    demands: npt.ArrayLike | None = None,
) -> Estimate:
    """`probability_of_improvement` with the interval of a bootstrap that draws the same demand for a and b."""
    runs_a, runs_b = _score_pair(a, b)
    wins = _wins(runs_a, runs_b)

    def share_won(drawn_a: FloatArray, drawn_b: FloatArray) -> FloatArray:
        of_a, of_b = (d.reshape(*d.shape[:2], -1).swapaxes(0, 1) for d in (drawn_a, drawn_b))  # [scenario, block, run]
        won = (of_a @ wins * of_b).sum(axis=(0, 2))  # halves and whole numbers: exact in any order of summation
        return np.asarray(won / wins.size)

    drawn_shares = _paired_bootstrap(runs_a, runs_b, share_won, rng, replicates, _numbered(demands, len(wins)))
    return Estimate(float(wins.mean()), *interval(drawn_shares, confidence))


def paired_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    rng: np.random.Generator,
    replicates: int = 2000,
    confidence: float = 0.95,
    permutations: int = 10_000,
    demands: npt.ArrayLike | None = None,
) -> PairedTest:
    """Mean of a - b over the same demand: positive when a is better.

    a, b: [scenario, train_seed, eval_seed]; only the training seeds may differ in number. The interval resamples
    evaluation seeds, in common, and training seeds, apart. The p-value flips the signs of the (scenario, eval_seed)
    differences of training-seed means, all patterns up to 14 pairs, else `permutations` random ones: it speaks about
    new demand for *these* trained agents, only the interval about training again. Scenarios with the same demand (demands: its
    number, [scenario]; all apart if not told) flip and are drawn together seed by seed: they are one draw on several hosts. Where
    every seed gave the same, seeds are copies of one pair and flip together.
    """
    runs_a, runs_b = _score_pair(a, b)

    def mean_difference(drawn_a: FloatArray, drawn_b: FloatArray) -> FloatArray:
        axes = (1, 2, 3)  # how often runs are drawn averages to 1, so this mean needs no further weight
        return np.asarray((drawn_a * runs_a).mean(axis=axes) - (drawn_b * runs_b).mean(axis=axes))

    drawn_by = _numbered(demands, len(runs_a))
    lo, hi = interval(_paired_bootstrap(runs_a, runs_b, mean_difference, rng, replicates, drawn_by), confidence)
    differences = runs_a.mean(axis=1) - runs_b.mean(axis=1)  # [scenario, eval_seed]
    units = by_demand(differences, drawn_by)
    same = ~np.isin(np.arange(len(units)), drawn_by[~repeated(runs_a, runs_b)])  # [demand]
    flipped = np.concatenate([units[~same].ravel(), units[same].sum(axis=1)])
    p_value = _sign_flip_p_value(flipped, rng, permutations)
    return PairedTest(float(differences.mean()), lo, hi, p_value, len(units), int(same.sum()))


def by_demand(differences: FloatArray, demands: npt.ArrayLike) -> FloatArray:
    """Differences [scenario, eval_seed] of scenarios with the same demand as one, [demand, eval_seed]: their sum, scaled so that
    the mean stays."""
    drawn_by = _numbered(demands, len(differences))
    units = np.zeros((drawn_by.max() + 1, differences.shape[1]))
    np.add.at(units, drawn_by, differences)
    return np.asarray(units * (len(units) / len(differences)))


def _numbered(demands: npt.ArrayLike | None, scenarios: int) -> npt.NDArray[np.int64]:
    """Demands [scenario] as 0, 1, … in ascending order; each scenario's own where they are not told."""
    if demands is None:
        return np.arange(scenarios)
    given = np.asarray(demands)
    if given.shape != (scenarios,):
        raise ValueError(f"demands has shape {given.shape}; it must have a number for each of {scenarios} scenarios")
    return np.unique(given, return_inverse=True)[1]


def repeated(*runs: FloatArray) -> npt.NDArray[np.bool_]:
    """In which scenarios every one of several evaluation seeds gave the same to the bit, in all of these runs
    ([scenario, train_seed, eval_seed], NaN where not played): bool [scenario]. Such seeds are one observation, as those of a story
    are, whose demand no seed changes."""
    same = np.full(len(runs[0]), runs[0].shape[2] > 1)
    for of_one in runs:
        same &= ((of_one == of_one[..., :1]) | np.isnan(of_one)).all(axis=(1, 2))
    return same


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Holm's step-down adjusted p-values, in the order given; no p-values give none."""
    p = np.asarray(p_values, dtype=np.float64).ravel()
    if not np.all((p >= 0.0) & (p <= 1.0)):
        raise ValueError(f"p_values must lie in [0, 1], got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return adjusted


def holm_of_distinct(p_values: npt.ArrayLike, differences: Sequence[FloatArray]) -> tuple[FloatArray, list[int]]:
    """Holm's adjusted p-values, and the number of each one's hypothesis: rows with the same differences to the bit are one, not
    several, with the p-value of the first of them."""
    keys = [(one.shape, np.asarray(one + 0.0).tobytes()) for one in differences]  # + 0.0: -0.0 is 0.0
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    p = np.asarray(p_values, dtype=np.float64).ravel()
    adjusted = dict(zip(first, holm(p[list(first.values())]), strict=True))
    return np.array([adjusted[key] for key in keys]), [list(first).index(key) for key in keys]


def normalised_score(goodput: npt.ArrayLike, stock: npt.ArrayLike, reference: npt.ArrayLike) -> FloatArray:
    """(G - G_stock) / (G_reference - G_stock), [scenario, train_seed, eval_seed]; stock, reference: one training seed.

    The numerator is paired seed by seed. The denominator is the scenario's mean: that of a single seed can come near 0
    and blow its score up. So stock scores exactly 0 and the reference 1 on average. ValueError where the reference is no
    better than stock.
    """
    played, nothing = _score_pair(goodput, stock, "goodput", "stock")
    played, best = _score_pair(goodput, reference, "goodput", "reference")
    if nothing.shape[1] != 1 or best.shape[1] != 1:
        raise ValueError(f"stock and reference have {nothing.shape[1]} and {best.shape[1]} training seeds; both need 1")
    headroom = (best - nothing).mean(axis=2, keepdims=True)  # [scenario, 1, 1]
    hopeless = np.flatnonzero(headroom <= _SMALLEST_HEADROOM)
    if hopeless.size:
        gap = headroom[hopeless[0], 0, 0]
        raise ValueError(f"scenario {hopeless[0]}: reference - stock is {gap:.3g} on average; it must be above 1e-9")
    return np.asarray((played - nothing) / headroom)


def _paired_bootstrap(
    a: FloatArray,
    b: FloatArray,
    statistic: Callable[[FloatArray, FloatArray], FloatArray],
    rng: np.random.Generator,
    replicates: int,
    drawn_by: npt.NDArray[np.int64],
) -> FloatArray:
    """Replicates of statistic(how often each run of a is drawn, the same of b), each [block, scenario, train, eval].

    Within a scenario one draw of evaluation seeds serves all training seeds of both agents: they met the same demand.
    """

    def drawn(block: int, seeds: int, rows: int) -> npt.NDArray[np.int64]:  # [block, row, seed]
        return rng.multinomial(seeds, np.full(seeds, 1.0 / seeds), size=(block, rows))

    parts = []
    for block in _blocks(replicates, a.size + b.size):
        demand = drawn(block, a.shape[2], drawn_by.max() + 1)[:, drawn_by, None, :].astype(np.float64)
        parts.append(statistic(*(drawn(block, runs.shape[1], len(a))[..., None] * demand for runs in (a, b))))
    return np.concatenate(parts)


def smallest_p_value(pairs: int, permutations: int = 10_000) -> float:
    """The least p-value that `paired_difference` can give with so many pairs: all of one sign, that pattern and its mirror."""
    exact = min(1.0, 2.0 ** (1 - pairs))
    return exact if pairs <= _MOST_PAIRS_TO_ENUMERATE else 1.0 / (1 + permutations)


def worst_case_interval(
    differences: npt.ArrayLike, worst: float, rng: np.random.Generator, confidence: float = 0.95, replicates: int = 5000
) -> tuple[float, float]:
    """Interval of the mean of differences that cannot lie beyond +-worst, at each end with that worst case added once.

    Few pairs do not show a loss that is rare, and other intervals take it for impossible. This is the Bayesian bootstrap with the
    end of the range among the values (Gaffke, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a
    nonnegative variable", Mathematical Methods of Statistics 14, 2005; Phan, Thomas, Learned-Miller, "Towards practical mean
    bounds for small samples", ICML 2021): nothing is supposed of the shape. It is exact where a difference has two values, one of
    them the worst; that it covers as often as it says for all others is a conjecture that simulations bear out.
    """
    values = _finite("differences", differences).ravel()
    if not 0.0 < confidence < 1.0 or np.abs(values).max() > worst:
        raise ValueError(
            f"confidence is {confidence}, worst {worst}; between 0 and 1, and no less than every difference"
        )
    parts = []
    for block in _blocks(replicates, values.size + 1):
        weights = rng.standard_exponential((block, values.size + 1))
        weights /= weights.sum(axis=1, keepdims=True)
        parts.append(np.stack([weights[:, 1:] @ values, worst * weights[:, 0]]))
    mean, beyond = np.concatenate(parts, axis=1)
    cut = math.floor((1.0 - confidence) / 2.0 * replicates)
    return float(np.sort(mean - beyond)[cut]), float(np.sort(mean + beyond)[-1 - cut])


def day_bootstrap(
    values: npt.ArrayLike,
    days: npt.ArrayLike,
    rng: np.random.Generator,
    replicates: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """Mean of values [window] and the interval of a bootstrap over whole days: windows of one day (days: its number, [window]) are
    drawn together, for they share what happened on it.

    Few days give too narrow an interval, one gives none: lo and hi are the mean itself then.
    """
    figures, which = _finite("values", values).ravel(), np.asarray(days).ravel()
    if figures.shape != which.shape:
        raise ValueError(f"{figures.size} values and {which.size} days; there must be as many")
    _, day = np.unique(which, return_inverse=True)
    sums, counts = np.bincount(day, figures), np.bincount(day).astype(np.float64)
    drawn = rng.integers(len(sums), size=(replicates, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return Estimate(float(figures.mean()), *interval(means, confidence))


def seeds_for_power(differences: npt.ArrayLike, level: float, power: float = 0.8, fixed: int = 0) -> float:
    """Evaluation seeds a scenario with which the sign-flip test shows a mean difference like this one, infinite where it is 0.

    differences: [scenario, eval_seed], of training-seed means; in so many of the scenarios, fixed, seeds are copies of one pair
    (`repeated`), and more of them show no more. Normal approximation with two standard deviations,
    n = ((z_(1 - level/2) s0 + z_power s1) / mean)**2 pairs (Lachin, "Introduction to sample size determination and power
    analysis for clinical trials", Controlled Clinical Trials 2, 1981): under sign flips s0 is the root mean square of the
    differences, what varies from seed to seed, s1, is their spread within scenarios. Mean and spread are taken as observed, so
    the figure is as uncertain as they are.
    """
    runs = _finite("differences", differences)
    if runs.ndim != 2 or runs.shape[1] < 2:
        raise ValueError(f"differences has shape {runs.shape}; it must be [scenario, eval_seed] with at least 2 seeds")
    mean = abs(float(runs.mean()))
    if mean == 0.0:
        return math.inf
    flipped, within = math.sqrt(float(np.square(runs).mean())), math.sqrt(float(runs.var(axis=1, ddof=1).mean()))
    z_level, z_power = NormalDist().inv_cdf(1.0 - level / 2.0), NormalDist().inv_cdf(power)
    pairs = ((z_level * flipped + z_power * within) / mean) ** 2
    while smallest_p_value(math.ceil(pairs)) > level and math.ceil(pairs) <= _MOST_PAIRS_TO_ENUMERATE:
        pairs += 1.0
    if fixed == len(runs):
        return 2.0 if math.ceil(pairs) <= fixed else math.inf
    return float(max(2, math.ceil((pairs - fixed) / (len(runs) - fixed))))


def _sign_flip_p_value(differences: FloatArray, rng: np.random.Generator, permutations: int) -> float:
    """Two-sided p-value of mean 0 for differences [pair] that are symmetric about 0 under the null hypothesis."""
    # A pattern that ties with the observed sum but for rounding counts as a tie.
    threshold = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()

    def extreme(flips: npt.NDArray[Any]) -> int:  # [pattern, pair] of 0 and 1
        return int(np.count_nonzero(np.abs((1.0 - 2.0 * flips) @ differences) >= threshold))

    n = differences.size
    if n <= _MOST_PAIRS_TO_ENUMERATE:
        return extreme(np.arange(2**n)[:, None] >> np.arange(n) & 1) / float(2**n)
    hits = sum(extreme(rng.integers(2, size=(block, n), dtype=np.int8)) for block in _blocks(permutations, n))
    return (1 + hits) / (1 + permutations)  # the observed pattern is one of them, so never 0


def _wins(a: FloatArray, b: FloatArray) -> FloatArray:
    """1 where a run of a beats a run of b, 1/2 where they tie, [scenario, run of a, run of b]."""
    runs_a, runs_b = a.reshape(len(a), -1, 1), b.reshape(len(b), 1, -1)
    return np.asarray(0.5 * np.add(runs_a > runs_b, runs_a >= runs_b, dtype=np.int8))


def _blocks(replicates: int, floats_each: int) -> list[int]:
    """Sizes of the blocks that `replicates` are computed in, so that memory stays bounded."""
    if replicates < 1:
        raise ValueError(f"replicates is {replicates}; it must be at least 1")
    size = max(1, _BLOCK_FLOATS // floats_each)
    return [min(size, replicates - start) for start in range(0, replicates, size)]


def _finite(name: str, values: npt.ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{name} is empty")
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}{list(index)} is {array[index]}; every value must be finite")
    return array


def _scores(name: str, values: npt.ArrayLike) -> FloatArray:
    array = _finite(name, values)
    if array.ndim != 3:
        raise ValueError(f"{name} has shape {array.shape}; it must be [scenario, train_seed, eval_seed]")
    return array


def _score_pair(
    a: npt.ArrayLike, b: npt.ArrayLike, name_a: str = "a", name_b: str = "b"
) -> tuple[FloatArray, FloatArray]:
    first, second = _scores(name_a, a), _scores(name_b, b)
    if first.shape[::2] != second.shape[::2]:
        raise ValueError(
            f"{name_a} has shape {first.shape}, {name_b} {second.shape}; scenarios and evaluation seeds must agree"
        )
    return first, second
