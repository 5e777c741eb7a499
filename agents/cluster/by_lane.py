"""What policies share that balance a cluster by moves: one memory a lane, means of a window, and the emptying of hosts.

A policy says what it remembers of a cluster (`remember`) and which moves it asks for now (`moves`); lanes know nothing of each
other. Whatever it says, VMs that are down, on their way or queued for a move are not moved, nor is anything moved to where it may
not be: real stacks refuse such calls.
"""

import abc
from collections import deque
from typing import Generic, TypeVar

import numpy as np

from hvgym.agents.cluster.reading import Reader, Reading
from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry

Memory = TypeVar("Memory")

Move = tuple[int, int]
"""A VM and its new host."""


class LaneByLane(Policy, Generic[Memory]):
    """A policy of clusters that decides for one at a time."""

    of_cluster = True

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._reader = Reader(first)
        self._memories = [self.remember(now) for now in self._reader.read(first)]

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        readings = self._reader.read(telemetry)
        move_to = np.full((len(readings), len(readings[0].host)), np.nan)
        for lane, (now, memory) in enumerate(zip(readings, self._memories, strict=True)):
            may = now.allowed & now.settled[:, None]
            for vm, host in self.moves(now, memory):
                if may[vm, host]:
                    move_to[lane, vm] = host
        return Targets(move_to=move_to)

    @abc.abstractmethod
    def remember(self, first: Reading) -> Memory:
        """What is known of a cluster as an episode begins."""

    @abc.abstractmethod
    def moves(self, now: Reading, memory: Memory) -> list[Move]:
        """What is to move now; the last word on a VM counts."""


class Recent:
    """The last readings of something, as many as a window holds, all of one shape."""

    def __init__(self, window_s: float, every_s: float) -> None:
        self._samples = deque[np.ndarray](maxlen=max(round(window_s / every_s), 1))

    def add(self, sample: np.ndarray) -> None:
        """The newest."""
        self._samples.append(sample)

    @property
    def mean(self) -> np.ndarray:
        """Over the window, at least one sample."""
        return np.asarray(np.mean(self._samples, axis=0))

    @property
    def most(self) -> np.ndarray:
        """The largest of the window."""
        return np.asarray(np.max(self._samples, axis=0))


def emptied(now: Reading, demand: np.ndarray, capacity: np.ndarray, order: np.ndarray | None = None) -> list[Move]:
    """Moves off hosts in maintenance, each VM to the allowed host that is then used least; those that fit nowhere are missing.

    demand ``[vm, resource]``, capacity ``[host, resource]``; order: VMs, those to be moved first at the front.
    """
    used, heading = np.zeros(capacity.shape), now.heading
    np.add.at(used, heading[heading >= 0], demand[heading >= 0])
    leaves = now.settled & now.maintenance[now.host] & now.up[now.host]
    moves: list[Move] = []
    for vm in np.arange(len(demand)) if order is None else order:
        to = np.flatnonzero(now.allowed[vm] & now.targets)
        if not leaves[vm] or not len(to):
            continue
        after = ((used[to] + demand[vm]) / np.maximum(capacity[to], 1e-9)).max(axis=1)
        host = int(to[np.argmin(after)])
        used[host] += demand[vm]
        moves.append((int(vm), host))
    return moves
