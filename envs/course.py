"""How memory and swap of every host went so far, as curves of block characters over the whole episode."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from hvgym.envs.backends import AnySimulator
from hvgym.envs.scenario import Scenario

BLOCKS = "▁▂▃▄▅▆▇█"
NOTHING = "·"
"""Where a curve is at 0; what is not played yet is blank."""


class Course:
    """One lane's hosts. used ``[step, host]``: share of RAM; swap_mib ``[step, host]``: in host swap. `steps` are noted."""

    def __init__(self, scenario: Scenario, lane: int = 0) -> None:
        self._lane = lane
        self.most = max(scenario.duration_s // scenario.control_interval_s, 1)
        hosts = len(scenario.host_names) if scenario.is_cluster else 1
        self._used, self._swap_mib = np.zeros((2, self.most, hosts))
        self.steps = 0

    def add(self, sim: AnySimulator) -> None:
        """Note a step; what is played beyond the end of the episode is left out."""
        if self.steps < self.most:
            signals = sim.host_signals[self._lane]
            self._used[self.steps] = 1.0 - signals["available_mib"] / signals["total_mib"]
            self._swap_mib[self.steps] = signals["swap_used_mib"]
            self.steps += 1

    def used(self, weights: np.ndarray) -> np.ndarray:
        """Share of RAM in use, ``[step]``, of hosts weighted by `weights` ``[host]``: their RAM, or one host alone."""
        return np.asarray(self._used[: self.steps] @ (weights / weights.sum()))

    def swap_mib(self, weights: np.ndarray) -> np.ndarray:
        """In host swap, ``[step]``, of the hosts whose weight is not 0."""
        return np.asarray(self._swap_mib[: self.steps] @ (weights > 0.0))

    def curve(self, values: np.ndarray, most: float, width: int, height: int = 1) -> list[str]:
        """Rows of characters from the top, `width` of them for the whole episode: the largest value of each column's steps as a
        share of `most`."""
        shares = np.clip(np.array(self._columns(values, width)) / max(most, 1e-9), 0.0, 1.0)
        return [
            "".join(_block(share * height - row, row == 0) for share in shares) + " " * (width - len(shares))
            for row in reversed(range(height))
        ]

    def _columns(self, values: np.ndarray, width: int) -> list[float]:
        edges = [column * self.most // width for column in range(width + 1)]
        return [
            float(values[first : max(last, first + 1)].max())
            for first, last in itertools.pairwise(edges)
            if first < len(values)
        ]


def _block(height: float, lowest: bool) -> str:
    """The part of a curve that lies in one row, of which it is `height` high."""
    if height <= 0.0:
        return NOTHING if lowest else " "
    return BLOCKS[min(math.ceil(height * len(BLOCKS)), len(BLOCKS)) - 1]


def round_above_gib(mib: float) -> float:
    """A round number of GiB, at least as much, so that a scale seldom changes."""
    gib = max(mib / 1024.0, 0.1)
    step = 10.0 ** math.floor(math.log10(gib))
    rounds: Sequence[float] = (1.0, 2.0, 5.0, 10.0)
    return next(round_ * step for round_ in rounds if round_ * step >= gib * (1.0 - 1e-9))
