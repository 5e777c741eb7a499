"""What a set of VMs demands, in the statistics by which traces are described: levels, time constants, changes, bursts, clumping,
siblings, sums, windows, I/O around rises.

`share` is ``[vm, slot]``: memory in use over capacity, the mean of slots of five minutes. Percentiles are over VMs unless said.
"""

import numpy as np

from hvgym.envs.generators.draws import Array

SLOTS_PER_HOUR, SLOTS_PER_DAY = 12, 288

VM_PERCENTILES = (5, 25, 50, 75, 95)

RISE = 0.05
"""Of capacity in a slot: what counts as a rise."""

BURST_ABOVE = 0.10
"""Of capacity, above a VM's median: what counts as a burst."""


def levels(share: Array) -> dict[str, Array]:
    """Mean, median, 95th percentile, maximum and CV of each VM, at `VM_PERCENTILES`; shares."""
    mean = share.mean(axis=1)
    of_vms = {
        "mean": mean, "p50": np.median(share, axis=1), "p95": np.quantile(share, 0.95, axis=1), "max": share.max(axis=1),
        "CV": share.std(axis=1) / np.maximum(mean, 1e-9),
    }  # fmt: skip
    return {name: np.percentile(values, VM_PERCENTILES) for name, values in of_vms.items()}


def autocorrelation(share: Array, lag: int) -> float:
    """Of the median VM; VMs that never change are left out."""
    change = share - share.mean(axis=1, keepdims=True)
    variance = (change**2).mean(axis=1)
    moves = variance > 0.0
    both = (change[:, :-lag] * change[:, lag:]).mean(axis=1)
    return float(np.median(both[moves] / variance[moves]))


def changes(share: Array) -> Array:
    """From slot to slot, ``[vm, slot - 1]``."""
    return np.diff(share, axis=1)


def hour_of_day(share: Array) -> Array:
    """Share of each VM's variance that the hour explains, at the median, 75th and 95th percentile."""
    days = share.shape[1] // SLOTS_PER_DAY
    by_hour = share[:, : days * SLOTS_PER_DAY].reshape(len(share), days, 24, SLOTS_PER_HOUR)
    explained = by_hour.mean(axis=(1, 3)).var(axis=1) / np.maximum(by_hour.reshape(len(share), -1).var(axis=1), 1e-12)
    return np.percentile(explained, (50, 75, 95))


def bursts(share: Array) -> dict[str, float]:
    """How often VMs are above their median by `BURST_ABOVE`, for how long, and how long they are not, minutes."""
    above = share > np.median(share, axis=1, keepdims=True) + BURST_ABOVE
    edges = np.diff(np.pad(above, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (vm, begin), (_, end) = np.nonzero(edges > 0), np.nonzero(edges < 0)
    length, gap = 5.0 * (end - begin), 5.0 * (begin[1:] - end[:-1])[vm[1:] == vm[:-1]]
    days = share.shape[1] / SLOTS_PER_DAY
    return {
        "share of time": float(above.mean()),
        "a VM-day": len(begin) / len(share) / days,
        "VMs with one": float(above.any(axis=1).mean()),
        **{f"length p{p}": float(np.percentile(length, p)) for p in (50, 90, 99)},
        **{f"gap p{p}": float(np.percentile(gap, p)) for p in (50, 90)},
    }


def clumping(share: Array) -> tuple[float, float]:
    """Share of VMs that rise by `RISE` in a slot, and variance over mean of their number."""
    rising = (changes(share) > RISE).sum(axis=0)
    return float(rising.mean() / len(share)), float(rising.var() / rising.mean())


def hourly_change_correlation(share: Array) -> Array:
    """Of each pair of VMs that move, ``[vm, vm]``; NaN for those that do not."""
    hours = share.shape[1] // SLOTS_PER_HOUR
    change = np.diff(share[:, : hours * SLOTS_PER_HOUR].reshape(len(share), hours, SLOTS_PER_HOUR).mean(axis=2), axis=1)
    change -= change.mean(axis=1, keepdims=True)
    size = np.sqrt((change**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        change /= np.where(size > 0.0, size, np.nan)[:, None]
    return change @ change.T


def aggregate(share: Array, capacity: Array) -> Array:
    """Sum of demand over sum of capacity, ``[slot]``."""
    return (share * capacity[:, None]).sum(axis=0) / capacity.sum()


def window_peaks(share: Array, slots: int) -> float:
    """Mean peak of windows of so many slots: what a window touches at least."""
    windows = share.shape[1] // slots
    return float(share[:, : windows * slots].reshape(len(share), windows, slots).max(axis=2).mean())


def around_rises(share: Array, rate: Array) -> Array:
    """Mean rate over the VM's own mean, two slots before a rise of `RISE` to two after, ``[5]``."""
    vm, slot = np.nonzero(changes(share) > RISE)
    slot += 1
    inside = (slot >= 2) & (slot < share.shape[1] - 2)
    vm, slot = vm[inside], slot[inside]
    relative = rate / np.maximum(rate.mean(axis=1, keepdims=True), 1e-12)
    return np.array([relative[vm, slot + offset].mean() for offset in (-2, -1, 0, 1, 2)])
