"""Counter-based draws for whole arrays: ``model.rng`` without a compiler, and quantile functions in place of distributions.

`uniforms` gives bit by bit what ``model.rng.uniform`` gives (tests/envs/generators/test_draws.py). Whatever is not uniform is
drawn by a quantile function that is linear between a few published percentiles, so a published table goes in as it stands.
Only +, -, *, / and square roots are used, which IEEE 754 fixes, so every machine draws the same bits.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seed: int, stream: int, keys: npt.ArrayLike, indices: npt.ArrayLike) -> Array:
    """Doubles in [0, 1) of the broadcast shape of `keys` (a VM or a group of siblings) and `indices`; seed below 2**63."""
    word = _mix(np.array([seed], np.uint64) + GOLDEN)
    word = _mix(word ^ (np.array([stream], np.uint64) + GOLDEN))
    word = _mix(word ^ (_words(keys) + GOLDEN))
    word = _mix(word ^ (_words(indices) + GOLDEN))
    return (word >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _words(whole: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Whole numbers as 64 bits; an axis more than a scalar has, for numpy warns where a scalar wraps round."""
    return np.atleast_1d(np.asarray(whole, np.int64)).view(np.uint64)


def _mix(word: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


class Quantiles(NamedTuple):
    """A distribution by some of its quantiles: percent from 0 to 100, and the value at each."""

    percent: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, uniform: npt.ArrayLike) -> Array:
        """Values at shares of 1, linear between those that are known."""
        return np.interp(np.asarray(uniform, np.float64), np.array(self.percent) / 100.0, self.values)


NORMAL = Quantiles(
    (0.01, 0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 97.5, 99, 99.5, 99.9, 99.99),
    (
        -3.719, -3.090, -2.576, -2.326, -1.960, -1.645, -1.282, -0.842, -0.524, -0.253, 0.0,
        0.253, 0.524, 0.842, 1.282, 1.645, 1.960, 2.326, 2.576, 3.090, 3.719,
    ),
)  # fmt: skip
"""Standard normal, cut at 3.7 standard deviations."""


def normals(seed: int, stream: int, keys: npt.ArrayLike, indices: npt.ArrayLike) -> Array:
    """Standard normal draws, shaped as those of `uniforms`."""
    return NORMAL.at(uniforms(seed, stream, keys, indices))
