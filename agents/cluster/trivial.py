"""Policies of clusters that think of nothing: what they gain is what there is to gain without thought.

Edge cases. None of them answers for VMs that are down or on their way; starts are the stack's. `MoveRandomly` draws a VM of those
that run and a host of those on which it may be; where there is none it rests. `FirstFit` starts a waiting VM on the first host that
may have it, by index, and moves nothing.

Draws are by counter (Philox, keyed with the seed, counted by period), so that a move depends on seed, time and cluster alone, in
whatever batch it is drawn.
"""

import numpy as np

from hvgym.agents.cluster.reading import RESTARTING, RUNNING, WAITING
from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


class NeverMove(Policy):
    """Takes the place of the stack's balancing, and moves nothing."""

    of_cluster = True
    period_s = 60.0
    visibility = Visibility.P0

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        return Targets()


class MoveRandomly(Policy):
    """Moves a VM now and then. every_s: a move in each of these intervals."""

    of_cluster = True
    visibility = Visibility.P0

    def __init__(self, every_s: float = 300.0) -> None:
        self.period_s = every_s

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._seed = seed

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        places = telemetry.places
        assert places is not None  # the rollout plays it on clusters alone
        move_to = np.full(places.vm.shape, np.nan)
        for lane, now_s in enumerate(telemetry.time_s):
            period = int(now_s // self.period_s)
            rng = np.random.Generator(np.random.Philox(key=self._seed, counter=[0, period, 0, 0]))
            here = places.vm["host"][lane]
            free = places.obstacles[lane] == 0
            free &= (places.vm["state"][lane] == RUNNING)[:, None]
            free &= np.arange(free.shape[1])[None, :] != here[:, None]
            pairs = np.argwhere(free)
            if len(pairs):
                v, h = pairs[rng.integers(len(pairs))]
                move_to[lane, v] = h
        return Targets(move_to=move_to)


class FirstFit(Policy):
    """Starts VMs on the first host that takes them."""

    of_cluster = True
    places_starts = True
    period_s = 10.0
    visibility = Visibility.P0

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        places = telemetry.places
        assert places is not None  # the rollout plays it on clusters alone
        free = places.obstacles == 0
        waits = np.isin(places.vm["state"], (WAITING, RESTARTING)) & free.any(axis=2)
        return Targets(move_to=np.where(waits, free.argmax(axis=2), np.nan))
