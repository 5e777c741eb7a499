"""What a VM's demand is made of, as functions of time that can be asked anywhere without playing what came before.

- `wander`: a Gaussian process of one time scale, value noise: normal draws a `period_s` apart, blended so that the variance stays
  1. `held` keeps each draw for its whole period instead: the steps of batch work.
- `sawtooth`: what fills evenly and drops at once; the cycles' lengths wander.
- `daily`: one hump a day, made of two parabolas that come within a few hundredths of a sine.
- `bursts`: candidates in windows of half an hour, accepted at the VM's rate of the half day; `painted` turns spans into means
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

WINDOW_S, CANDIDATES = 1800.0, 2
"""Of bursts: most of them in so many seconds."""

LONGEST_BURST_S = 12 * 3600.0

ACTIVITY_S = DAY_S / 2
ACTIVITY = Quantiles((0, 35, 60, 80, 93, 100), (0.0, 0.2, 0.6, 1.3, 2.8, 5.0))
"""Rate of bursts in half a day over the VM's own, mean 0.95: bursts come in spells, with a median gap of one hour and a ninetieth
percentile of 14-17 (GWA-T-12). The values are fitted to those two."""

SITE, SITE_SHARE = 1 << 21, 0.35
"""Key of what all VMs have in common, and the share of half days in which a VM's rate is everybody's (fitted to the sum's tail)."""


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
    first = int((span_s[0] - LONGEST_BURST_S) // WINDOW_S) * CANDIDATES
    number = np.arange(first, (int(span_s[1] // WINDOW_S) + 1) * CANDIDATES)
    key = np.where(uniforms(seed, stream, keys[:, None], number) < share, shared[:, None], keys[:, None])
    begin_s = WINDOW_S * (number // CANDIDATES + uniforms(seed, stream + 1, key, number))
    rate = per_day * WINDOW_S / DAY_S / CANDIDATES
    spell = np.floor(begin_s / ACTIVITY_S).astype(np.int64)
    busy = np.where(uniforms(seed, stream + 7, key, spell) < SITE_SHARE, SITE, key)
    wanted = rate[:, None] * ACTIVITY.at(uniforms(seed, stream + 2, busy, spell))
    length_s = np.minimum(length.at(uniforms(seed, stream + 3, key, number)) * length_times[:, None], LONGEST_BURST_S)
    comes = uniforms(seed, stream + 4, key, number) < wanted
    vm, index = np.nonzero(comes & (begin_s + length_s > span_s[0]))
    height, lead = (uniforms(seed, stream + more, key[vm, index], number[index]) for more in (5, 6))
    return Bursts(vm, begin_s[vm, index], (begin_s + length_s)[vm, index], height, lead)


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
