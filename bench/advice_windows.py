"""Which stretches of a history are played: the hardest, and random ones that stand for all others.

The history is cut into windows of equal length, one after the other; what is left at the end is not played. The hardest are
those in which the sum of the VMs' working sets comes highest. Of the others one is drawn from each of as many stretches of equal
length, so days are hit evenly; it stands for its whole stretch (weight: how many windows that has). A sum over windows times
weights then estimates the sum over the history without bias (Horvitz and Thompson 1952), and no peak of the sum is missed.

Intervals resample whole days, because hours of a day are alike; a day of the world's clock (UTC), for a table has no zone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hvgym.bench.density import REPLICATES
from hvgym.envs.errors import InputError
from hvgym.envs.model import rng

Floats = npt.NDArray[np.float64]

DAY_S = 86400

STREAM = rng.STREAM_PICK


@dataclass(frozen=True)
class Windows:
    """What is played, each ``[window]``, in order of time. starts: first slots; weights: windows that each stands for; days: number
    of the day since 1970; hard: whether it is one of the hardest. slots: of a window; start_s: of the history; share: of it that
    is played; blocks: windows that it has.
    """

    starts: tuple[int, ...]
    weights: tuple[float, ...]
    days: tuple[int, ...]
    hard: tuple[bool, ...]
    slots: int
    start_s: int
    share: float
    blocks: int

    @property
    def count(self) -> int:
        """How many."""
        return len(self.starts)


def choose(
    needed_mib: Floats, unknown: Floats, slot_s: int, start_s: int, window_s: int, hardest: int, random: int,
    most_unknown: float, seed: int,
) -> Windows:  # fmt: skip
    """Choose windows by the sum of working sets ``[slot]``; start_s: of the first slot, seconds since 1970; unknown: share of the
    VMs of which nothing is known, ``[slot]``: windows of more than `most_unknown` are not played, nor stood for.

    Raises:
        InputError: where the history is shorter than a window, which is a whole number of slots.
    """
    slots = window_s // slot_s
    count = len(needed_mib) // slots
    if count < 1:
        raise InputError(
            f"window_s={window_s}: the history has {len(needed_mib) * slot_s} seconds; give a shorter window_s"
        )
    dark = unknown[: count * slots].reshape(count, slots).mean(axis=1)
    known = np.flatnonzero(dark <= max(most_unknown, float(dark.min())))
    peaks = needed_mib[: count * slots].reshape(count, slots).max(axis=1)[known]
    hard = np.sort(known[np.argsort(-peaks, kind="stable")[:hardest]])
    rest = np.setdiff1d(known, hard)
    picked, weights = _one_of_each(rest, min(random, len(rest)), seed)
    blocks = np.concatenate([hard, picked])
    order = np.argsort(blocks, kind="stable")
    blocks = blocks[order]
    weight = np.concatenate([np.ones(len(hard)), weights])[order]
    return Windows(
        tuple(int(block) * slots for block in blocks),
        tuple(map(float, weight)),
        tuple(int((start_s + int(block) * window_s) // DAY_S) for block in blocks),
        tuple(bool(block in hard) for block in blocks),
        slots,
        start_s,
        float(len(blocks) * slots / len(needed_mib)),
        count,
    )


def _one_of_each(rest: npt.NDArray[np.int64], count: int, seed: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """One of each of `count` stretches of the rest, and how many lie in each."""
    stretches = np.array_split(rest, count) if count else []
    picked = [one[int(rng.uniform(seed, STREAM, number, 0) * len(one))] for number, one in enumerate(stretches)]
    return np.array(picked, np.int64), np.array([len(one) for one in stretches], np.float64)


def draws_by_day(
    window_days: Sequence[int], weights: Sequence[float], seed: int, replicates: int = REPLICATES
) -> Floats:
    """How much each draw counts each window, ``[1 + replicates, window]``; the first is the sample itself. A draw takes as many
    days with replacement as there are, each with all of its windows and their weights."""
    days, of_day = np.unique(np.array(window_days), return_inverse=True)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(days), np.full(len(days), 1.0 / len(days)), size=replicates)
    taken = np.vstack([np.ones(len(days)), drawn])[:, of_day]
    found = taken * np.array(weights)
    return np.asarray(found, np.float64)
