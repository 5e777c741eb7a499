"""What policies of stacks share that decide in rounds: one memory a lane, who is on the way where, and what becomes of jobs.

A stack that is asked for a move queues it; until it begins, it is on its way as far as the stack's own rules count. A queued move
whose target takes the VM no longer is called off, as a migration job fails at its checks before it starts; a start is chosen anew.
Whatever a stack's rule says, nothing is asked for VMs that are down, absent, moving or queued, nor for a host that is not allowed.
Lanes know nothing of each other.
"""

import abc
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvgym.agents.cluster.reading import LOST, MOVING, NOWHERE, RESTARTING, RUNNING, Reader, Reading
from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Places, Targets, Telemetry, Visibility

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Move = tuple[int, int]
"""A VM and its host."""


@dataclass(frozen=True)
class Round:
    """One cluster as its stack sees it in one round. going ``[vm]``: host to which a VM moves, or on which it is to start, begun
    or queued; `NOWHERE` else. protected ``[vm]``: high availability looks after it. allowed ``[vm, host]`` is the reading's."""

    now: Reading
    allowed: BoolArray
    going: IntArray
    protected: BoolArray

    @property
    def here(self) -> IntArray:
        """Host that a VM takes part of, ``[vm]``; that of a lost one until its stack knows."""
        counts = np.isin(self.now.state, (RUNNING, MOVING, LOST))
        return np.where(counts, self.now.host, NOWHERE)

    @property
    def settled(self) -> BoolArray:
        """Whether a VM runs and is to stay where it is, ``[vm]``."""
        return np.asarray(self.now.movable & (self.going == NOWHERE))

    @property
    def unplaced(self) -> BoolArray:
        """Whether a VM is to be started and nobody has said where, ``[vm]``."""
        return np.asarray(self.now.waits & (self.going == NOWHERE))

    @property
    def migrating(self) -> bool:
        """Whether any VM moves or is queued to."""
        return bool(((self.now.state == MOVING) | (self.now.movable & (self.going != NOWHERE))).any())


class Lane(abc.ABC):
    """A stack at work on one cluster; it lives as long as an episode."""

    @abc.abstractmethod
    def moves(self, at: Round) -> Iterable[Move]:
        """What is asked for in this round."""


class InRounds(Policy):
    """A policy of clusters with one `Lane` for each."""

    of_cluster = True
    places_starts = True
    visibility = Visibility.P0

    @abc.abstractmethod
    def begin(self, seed: int) -> Lane:
        """A new one, for an episode to come."""

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._reader = Reader(first)
        self._lanes = [self.begin(seed) for _ in first.time_s]

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        places = telemetry.places
        assert places is not None  # the rollout plays policies of clusters on clusters alone
        readings = self._reader.read(telemetry)
        rows = [_asked(stack, now, places, e) for e, (stack, now) in enumerate(zip(self._lanes, readings, strict=True))]
        return Targets(move_to=np.stack(rows))


def _asked(stack: Lane, now: Reading, places: Places, lane: int) -> FloatArray:
    """A row of `Targets.move_to`, ``[vm]``."""
    wanted = places.vm["wanted"][lane]
    queued = np.where(np.isnan(wanted), NOWHERE, wanted).astype(np.int64)
    allowed, vms = now.allowed, np.arange(len(queued))
    protected = places.vm["restarts"][lane] > 0.0
    fails = (queued != NOWHERE) & ~allowed[vms, queued]
    fails &= protected | (now.state != RESTARTING)  # one without high availability waits for its own host
    queued[fails] = NOWHERE
    going = np.where(now.state == MOVING, now.moving_to, queued)
    at = Round(now, allowed, going, protected)
    asked = np.where(fails & now.movable, now.host, np.nan)
    for vm, host in stack.moves(at):
        if allowed[vm, host] and (at.settled[vm] or at.unplaced[vm]):
            asked[vm] = host
    return asked


def numbered(hosts: IntArray, count: int) -> IntArray:
    """Number of each host among some, ``[host + 1]``; `NOWHERE` for others, and at the end, so that it takes `NOWHERE` too."""
    number = np.full(count + 1, NOWHERE)
    number[hosts] = np.arange(len(hosts))
    return number
