"""What a VM's demand is made of, as functions of time that can be asked anywhere without playing what came before.

- `wander`: a Gaussian process of one time scale, value noise: normal draws a `period_s` apart, blended so that the variance stays
  1. `held` keeps each draw for its whole period instead: the steps of batch work.
- `sawtooth`: what fills evenly and drops at once; the cycles' lengths wander.
- `daily`: one hump a day, made of two parabolas that come within a few hundredths of a sine.
- `bursts`: candidates in windows of half an hour, accepted at the VM's rate, some again and again; `painted` turns spans into means
  over slots, so that a burst shorter than a slot weighs what it lasts.

Each is drawn by counter from (seed, stream, key, index) and begins at a place of its own, so all are stationary. VMs with the same
key do the same at the same time. Arrays are ``[vm, slot]``, times in seconds since the start of an endless history.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hvgym.envs.generators.draws import Array, Quantiles, normals, uniforms

Keys = npt.NDArray[np.int64]

DAY_S = 86400.0

WINDOW_S = 1800.0
"""Of bursts: each window has one candidate of each kind of `OFTEN`."""

OFTEN = (0.3, 0.3, 0.4)
"""Shares of bursts that come every hour for half a day, at one time of the day for a week, and when they like. Fitted: the ACF of
the median VM is no lower after one hour than after ten minutes, nor after a day than after six hours, and half of the gaps
last an hour (GWA-T-12), as where jobs run by the clock."""

HOUR, DAY, WEEK = 2, 48, 336
"""Windows of each."""

LONGEST_BURST_S = 12 * 3600.0

ACTIVITY = Quantiles((0, 35, 60, 80, 93, 100), (0.0, 0.2, 0.6, 1.3, 2.8, 5.0))
"""Rate of bursts in half a day over the VM's own, mean 0.97: bursts come in spells (fitted to gaps, 90th percentile 14-17 h)."""

SITE, SITE_DAYS, SITE_BURSTS = 1 << 21, 0.35, 0.04
"""Key of what all VMs have in common; the share of half days in which a VM's rate is everybody's, and of bursts that come whenever
those of others do (both fitted: to the tail of the sum, and to the clumping of rises of unrelated VMs)."""


def _place(seed: int, stream: int, keys: Keys, times_s: Array, period_s: Array) -> tuple[npt.NDArray[np.int64], Array]:
    """Number of the period that covers each time, and the share of it that has passed, both ``[vm, slot]``; period_s ``[vm]``."""
    offset = uniforms(seed, stream, keys, -1) * period_s
    position = (times_s[None, :] + offset[:, None]) / period_s[:, None]
    number = np.floor(position)
    return number.astype(np.int64), position - number


def _knots(seed: int, stream: int, keys: Keys, number: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    """Normal draws at the beginning and end of each period, ``[vm, slot]``; each is drawn once, however many slots it covers."""
    first = number[:, :1]
    numbers = first + np.arange(int((number[:, -1:] - first).max()) + 2)
    drawn = normals(seed, stream, keys[:, None], numbers)
    index = number - first
    return np.take_along_axis(drawn, index, axis=1), np.take_along_axis(drawn, index + 1, axis=1)


def wander(seed: int, stream: int, keys: Keys, times_s: Array, period_s: Array) -> Array:
    """A smooth standard normal process, correlated over about `period_s` ``[vm]``."""
    number, passed = _place(seed, stream, keys, times_s, period_s)
    before, after = _knots(seed, stream, keys, number)
    late = passed * passed * (3.0 - 2.0 * passed)
    return ((1.0 - late) * before + late * after) / np.sqrt((1.0 - late) ** 2 + late**2)


def held(seed: int, stream: int, keys: Keys, times_s: Array, period_s: Array) -> Array:
    """A standard normal draw that lasts for `period_s` ``[vm]``."""
    number, _ = _place(seed, stream, keys, times_s, period_s)
    return _knots(seed, stream, keys, number)[0]


def sawtooth(seed: int, stream: int, keys: Keys, times_s: Array, period_s: Array) -> Array:
    """From -1/2 up to 1/2 in about `period_s` ``[vm]``, then back at once."""
    number, passed = _place(seed, stream, keys, times_s, period_s)
    early = 1.0 + 0.5 * (uniforms(seed, stream + 1, keys[:, None], number) - 0.5)  # a cycle may drop before it is full
    filled = passed * early
    return filled - np.floor(filled) - 0.5


def daily(seed: int, stream: int, keys: Keys, times_s: Array) -> Array:
    """A day's hump, of variance 1 and mean 0, at an hour of the VM's own."""
    share = times_s[None, :] / DAY_S + uniforms(seed, stream, keys, 0)[:, None]
    half = 2.0 * (share - np.floor(share))
    sign = np.where(half < 1.0, 1.0, -1.0)
    half = half - np.floor(half)
    return sign * 4.0 * half * (1.0 - half) * np.sqrt(15.0 / 8.0)


class Bursts(NamedTuple):
    """Spans of time in which a VM uses more, each ``[burst]``; height is a uniform draw that the class makes a size of."""

    vm: npt.NDArray[np.int64]
    begin_s: Array
    end_s: Array
    height: Array
    lead: Array  # uniform: how long before it the I/O begins


def bursts(
    seed: int, stream: int, keys: Keys, shared: Keys, share: float, span_s: tuple[float, float], per_day: Array, length: Quantiles,
    length_times: Array,
) -> Bursts:  # fmt: skip
    """All bursts that touch a span. A candidate is drawn by the key `shared` ``[vm]`` with probability `share`, else by the VM's
    own; per_day, length_times ``[vm]``."""
    window, often, index = _candidates(span_s)
    chosen = uniforms(seed, stream, keys[:, None], index)
    key = np.where(chosen < share, shared[:, None], np.where(chosen >= 1.0 - SITE_BURSTS, SITE, keys[:, None]))
    begin_s = WINDOW_S * (window + uniforms(seed, stream + 1, key, index))
    wanted = (
        per_day[:, None] * (WINDOW_S / DAY_S) * np.array(OFTEN)[often] * _activity(seed, stream + 2, key, window, often)
    )
    length_s = np.minimum(length.at(uniforms(seed, stream + 3, key, index)) * length_times[:, None], LONGEST_BURST_S)
    comes = uniforms(seed, stream + 4, key, index) < wanted
    vm, which = np.nonzero(comes & (begin_s + length_s > span_s[0]))
    height, lead = (uniforms(seed, stream + more, key[vm, which], index[which]) for more in (5, 6))
    return Bursts(vm, begin_s[vm, which], (begin_s + length_s)[vm, which], height, lead)


def _candidates(span_s: tuple[float, float]) -> tuple[Keys, Keys, Keys]:
    """Window, kind and index of draws of each that may touch a span; what comes again has the index of its first time."""
    windows = np.arange(int((span_s[0] - LONGEST_BURST_S) // WINDOW_S), int(span_s[1] // WINDOW_S) + 1)
    window, often = np.repeat(windows, 3), np.tile(np.arange(3), len(windows))
    hourly = window // (DAY // 2) * (DAY // 2) + window % HOUR
    weekly = window // WEEK * WEEK + window % DAY
    return window, often, np.choose(often, (hourly, weekly, window)) * 3 + often


def _activity(seed: int, stream: int, key: Keys, window: Keys, often: Keys) -> Array:
    """Rate over the VM's own, ``[vm, candidate]``; what comes daily has no spells."""
    spell = window // (DAY // 2)
    whose = np.where(uniforms(seed, stream + 5, key, spell) < SITE_DAYS, SITE, key)
    return np.where(often == 1, 1.0, ACTIVITY.at(uniforms(seed, stream, whose, spell)))


def painted(
    shape: tuple[int, int], slot_s: float, start_s: float, vm: npt.NDArray[np.int64], begin_s: Array, end_s: Array, height: Array
) -> Array:  # fmt: skip
    """Mean of overlapping spans over each slot, ``[vm, slot]``: height times the share of the slot that a span covers."""
    changes = np.zeros((shape[0], shape[1] + 2))
    for time_s, sign in ((begin_s, 1.0), (end_s, -1.0)):
        position = np.clip((time_s - start_s) / slot_s, 0.0, float(shape[1]))
        slot = np.floor(position).astype(np.int64)
        late = position - slot
        np.add.at(changes, (vm, slot), sign * height * (1.0 - late))
        np.add.at(changes, (vm, slot + 1), sign * height * late)
    return np.maximum(np.cumsum(changes, axis=1)[:, : shape[1]], 0.0)
