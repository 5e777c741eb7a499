"""Learning under a constraint: critical VMs may miss their objective for at most so many seconds an episode.

``train.constraint: {slo_s: 60}`` of a learner. What is bounded is the mean over training episodes of the seconds in which critical
VMs of a host missed their objective (``info["cost"]``), each VM's counted.

Learners that step an environment (PPO, SAC) get a `Lagrangian`: every second that a critical VM misses costs `multiplier` of what a
second of the whole host's work is worth, and the multiplier rises while the last rollout missed more than it may, and falls
while it missed less. Evolution strategies get a penalty of fixed weight on what is above the bound (`excess`), which is exact
when the weight is at least the multiplier that would hold it there.

Left out: a bound that holds in each episode, or while training; of a training the best network is still the one of best goodput on
validation seeds, so the learning curve shows what it cost beside (``slo_s``, ``multiplier``).

Source: Altman, Constrained Markov Decision Processes (1999); Ray, Achiam and Amodei, Benchmarking Safe Exploration (2019), for the
multiplier's step of 0.05. That the violation counts as a part of the bound, at most one whole, is a guess: it moves the multiplier
by at most `step` a rollout, however far off the first policies are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hvgym.envs.errors import InputError, shown
from hvgym.envs.schema import build, number

LEAST_BOUND_S = 1.0
"""Violations are parts of this where the bound is smaller."""


@dataclass(frozen=True)
class Constraint:
    """The ``train.constraint`` keys. slo_s: most seconds an episode; step, initial, most: of the multiplier; penalty: of evolution
    strategies, worth as a multiplier is (a guess, as `most`)."""

    slo_s: float = number(least=0)
    step: float = number(0.05, above=0)
    initial: float = number(0.0, least=0)
    most: float = number(10.0, above=0)
    penalty: float = number(10.0, above=0)

    def excess(self, cost_s: float, episode_s: float) -> float:
        """What so many seconds an episode are charged by evolution strategies, in goodput."""
        return self.penalty * max(cost_s - self.slo_s, 0.0) / episode_s


def constraint_of(given: Mapping[str, Any] | None, where: str = "agent.train.constraint") -> Constraint | None:
    """Read a ``constraint``. Raises `InputError` that names the key, its value, and what would be right."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise InputError(f"{where}={shown(given)}: expected keys, as in {{slo_s: 60}}")
    return build(Constraint, dict(given), where)


class Lagrangian:
    """Charges the seconds that critical VMs miss, by a multiplier that follows them. Plain numbers: it is pickled with the
    environments that it charges, and goes on in the same bits.

    episode_s: length of an episode; every: how often `charge` is called between two changes of the multiplier, a rollout.
    multiplier: what a missed second costs, as a part of a second's goodput of a host; seconds: an episode's missed seconds in the
    last rollout, NaN before the first has ended.
    """

    def __init__(self, constraint: Constraint, episode_s: float, every: int) -> None:
        self.constraint, self.episode_s, self.every = constraint, float(episode_s), every
        self.multiplier = min(constraint.initial, constraint.most)
        self.seconds = float("nan")
        self._calls, self._share = 0, 0.0

    def charge(self, costs: np.ndarray, interval_s: float) -> np.ndarray:
        """What to take off the rewards of a step, in goodput, ``[env]``; costs: missed seconds of each environment in it."""
        share = np.asarray(costs, np.float64) / interval_s
        charged = self.multiplier * share
        self._share += float(share.mean())
        self._calls += 1
        if self._calls == self.every:
            self._update()
        return charged

    def _update(self) -> None:
        bound, self.seconds = self.constraint.slo_s, self._share / self._calls * self.episode_s
        violation = (self.seconds - bound) / max(bound, LEAST_BOUND_S)
        moved = self.multiplier + self.constraint.step * min(max(violation, -1.0), 1.0)
        self.multiplier = min(max(moved, 0.0), self.constraint.most)
        self._calls, self._share = 0, 0.0
