"""What happens within a row of a history that is coarser than a minute.

A row of five minutes is not a line to the next one: its mean stays, level changes are steps at its edges, no faster upwards than
`RISE_MIB_PER_S`, and within it there is a largest value. How far that lies above the mean is known where the source says it
(rows of ``agg=max``); else it is drawn as in Borg 2019: for most rows 1.008 at the median and 1.05 at the 99th percentile, for
those of a burst (a change of more than `BURST_CHANGE` from the row before, a guess) 1.06, 1.26 at the 90th and 1.47 at the 99th
percentile, as its batch jobs have. Where in the row it falls, and the minutes beside it, are uniform draws. Draws are by counter
(``model.rng``): by seed, VM and row, so that neither a policy nor another VM shifts them.

Left out: correlation of minutes, and steps elsewhere than at a row's edge.
"""

import numpy as np
import numpy.typing as npt

from hvgym.envs.model import rng

Array = npt.NDArray[np.float64]

MOST_SLOT_S = 60
"""A slot of demand is no longer."""

RISE_MIB_PER_S = 95.4
"""100 MB/s, about the fastest growth of active memory in GWA-T-12 as a mean of five minutes (99; the 99.9th percentile is 28)."""

BURST_CHANGE = 0.1

STEADY_RATIO = ((0.0, 0.5, 0.99, 1.0), (1.0, 1.008, 1.05, 1.1))
BURST_RATIO = ((0.0, 0.5, 0.9, 0.99, 1.0), (1.0, 1.06, 1.26, 1.47, 1.5))
"""Quantiles and the largest value over the mean; the ends are guesses."""


def parts_of(row_s: int) -> int:
    """In how many slots of equal whole seconds a row is played: the fewest that are no longer than `MOST_SLOT_S`."""
    return next(n for n in range(-(-row_s // MOST_SLOT_S), row_s + 1) if row_s % n == 0)


def draws(seed: int, stream: int, keys: npt.NDArray[np.uint64], index: npt.NDArray[np.uint64]) -> Array:
    """`rng.uniform` for arrays of VM keys and indices, which are broadcast against each other; the same bits."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    word = _mix(_mix(np.array(seed, np.uint64) + golden) ^ (np.array(stream, np.uint64) + golden))
    word = _mix(_mix(word ^ (keys + golden)) ^ (index + golden))
    return np.asarray((word >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mix(word: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):  # modulo 2**64, as meant
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def spread(
    rows: Array, before: Array, ratios: Array, parts: int, seed: int, keys: npt.NDArray[np.uint64], first_row: int
) -> Array:
    """Rows of one quantity, ``[row, vm]``, as slots, ``[row * parts, vm]``: each row keeps its mean and has its largest value once.

    before: the row before the first, ``[vm]``; ratios: largest value over mean as the source says it, NaN where it does not,
    ``[row, vm]``; keys: of the VMs, ``[vm]``; first_row: place of the first row in the history.
    """
    if parts == 1:
        return rows
    count, vms = rows.shape
    index = (np.uint64(first_row) + np.arange(count, dtype=np.uint64))[:, None]
    quantile = draws(seed, rng.STREAM_BURST_SIZE, keys, index)
    earlier = np.vstack([before, rows[:-1]])
    burst = np.abs(rows - earlier) > BURST_CHANGE * np.maximum(rows, earlier)
    drawn = np.where(burst, np.interp(quantile, *BURST_RATIO), np.interp(quantile, *STEADY_RATIO))
    above = np.where(np.isnan(ratios), drawn, np.maximum(ratios, 1.0)) - 1.0
    place = index[:, None] * np.uint64(parts) + np.arange(parts, dtype=np.uint64)[None, :, None]
    swing = draws(seed, rng.STREAM_PHASE, keys, place)
    swing -= swing.mean(axis=1, keepdims=True)
    most = swing.max(axis=1, keepdims=True)
    swing /= np.maximum(most, 1e-12)
    peak = np.where(
        swing == 1.0, 1.0, -1.0 / (parts - 1)
    )  # one slot high, the others alike: goes further than they can fall
    shape = np.where(above[:, None] * swing.min(axis=1, keepdims=True) < -1.0, peak, swing)
    slots = rows[:, None] * np.maximum(1.0 + above[:, None] * shape, 0.0)
    return np.asarray(slots.reshape(count * parts, vms))


def bounded(slots: Array, slot_s: int) -> Array:
    """The same with rises no faster than `RISE_MIB_PER_S`, from the first value on, ``[slot, vm]``."""
    slope = RISE_MIB_PER_S * slot_s * np.arange(len(slots))[:, None]
    return np.asarray(np.minimum.accumulate(slots - slope, axis=0) + slope)
