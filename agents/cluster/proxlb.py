"""ProxLB, a balancer beside Proxmox VE: guests leave the fullest node, smallest first, for the emptiest.

A run starts when the fullest and the emptiest node lie more than `BALANCINESS` percent apart, or the fullest is above a
threshold, by memory used or by memory assigned (the sum of the guests' maxima). In psi mode it starts when any node or guest
is hot by its pressure. Guests of nodes in maintenance go first, each to the node that is emptiest then.

What the code does and its manual does not say, kept here and named where it happens:

- QUIRK, stale target: the emptiest node is looked for once in a run, not after each move, so a run can overshoot.
- QUIRK, order: groups are to be sorted by used memory, but the sum of that name adds up used CPU; hence `Guests.order`.
- QUIRK, fullest node: whether a guest may still leave is asked by *used* memory in every mode.
- QUIRK, reserve: it counts against a node's used share and its free memory only after a move has touched the node.
- QUIRK, books of psi mode: a guest that is not the next by pressure repeats the entry of the one moved before it.
- QUIRK, maintenance: whether the guest fits is not asked.
- QUIRK, broken affinity: while a guest (the last one excepted) is there, its rule of affinity counts as broken, and every run
  passes over all groups whether balance asks for it or not.

Left out: methods CPU and disk, anti-affinity, pins and tags, containers, and guests to be ignored. Memory in MiB.

Source: ProxLB 1.1.11 (proxlb/main.py, models/{calculations,nodes,groups}.py), read in 2026; defaults of the sample
configuration in config/proxlb_example.yaml.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvgym.envs.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Move = tuple[int, int]

BALANCINESS = 10.0
"""Percent between fullest and emptiest node up to which nothing is done, when the configuration is silent (calculations.py)."""
SAMPLE_BALANCINESS = 5.0
"""The same in the sample configuration, which most copy."""
SAMPLE_MEMORY_THRESHOLD = 75.0
"""Percent of the fullest node from which a run starts in any case (sample configuration)."""
SAMPLE_RESERVE_MIB = 4096.0
"""Kept on every node (sample configuration)."""
PERIOD_S = 12 * 3600.0
"""Of the daemon (sample configuration)."""


@dataclass(frozen=True)
class Nodes:
    """Nodes that are online, in the order of the API; each array is ``[node]``."""

    memory_mib: FloatArray
    used_mib: FloatArray
    reserve_mib: FloatArray
    maintenance: BoolArray


@dataclass(frozen=True)
class Guests:
    """Running guests; each array is ``[guest]``."""

    node: IntArray
    used_mib: FloatArray
    max_mib: FloatArray
    order: FloatArray
    """What groups of one size are sorted by, ascending: the code adds up used cores, its manual says used memory."""
    group: IntArray
    """Guests of one number stay together; a number of its own for a guest without affinity."""


@dataclass(frozen=True)
class Hot:
    """When pressure counts: shares of time stalled, as means of an hour, and the highest minute of the last six."""

    full: float = 0.20
    some: float = 0.20
    spikes: float = 1.00


@dataclass(frozen=True)
class Pressure:
    """Spikes of *full* memory pressure, ``[node]`` and ``[guest]``, and which of them are `hot`."""

    node_spikes: FloatArray
    guest_spikes: FloatArray
    node_hot: BoolArray
    guest_hot: BoolArray


class _Books:
    """What a run believes the nodes to hold, moves planned so far included."""

    def __init__(self, nodes: Nodes, guests: Guests) -> None:
        self.guests = guests
        self.used_mib = np.array(nodes.used_mib, float)
        self.assigned_mib = np.bincount(guests.node, guests.max_mib, len(nodes.memory_mib))
        self.usable_mib = nodes.memory_mib - nodes.reserve_mib
        self.total_mib = np.array(nodes.memory_mib, float)
        self.free_mib = nodes.memory_mib - nodes.used_mib

    def move(self, guest: int, target: int) -> None:
        """Enter a guest at its target and strike it at the node where it is now."""
        touched = [target, int(self.guests.node[guest])]
        for node, sign in zip(touched, (1.0, -1.0), strict=True):
            self.used_mib[node] += sign * self.guests.used_mib[guest]
            self.assigned_mib[node] += sign * self.guests.max_mib[guest]
        self.total_mib[touched] = self.usable_mib[touched]  # QUIRK: the reserve counts only from here on
        self.free_mib[touched] = np.maximum(0.0, self.usable_mib - self.used_mib)[touched]

    def percent(self, mode: str) -> FloatArray:
        """Share of each node in use or, in mode ``assigned``, promised."""
        held, total = (self.assigned_mib, self.usable_mib) if mode == "assigned" else (self.used_mib, self.total_mib)
        return held / total * 100.0


def out_of_balance(percent: FloatArray, balanciness: float = BALANCINESS, threshold: float | None = None) -> bool:
    """Whether a run has to move anything, by the nodes' percents ``[node]``; a threshold of 0 is none."""
    return bool(np.ptp(percent) > balanciness or (threshold and percent.max() >= threshold))


def most_free(percent: FloatArray, maintenance: BoolArray) -> int:
    """The emptiest node that is not in maintenance; the first of equals. In psi mode by spikes instead of percents."""
    return int(np.argmin(np.where(maintenance, np.inf, percent)))


def hot(full: FloatArray, some: FloatArray, spikes: FloatArray, thresholds: Hot | None = None) -> BoolArray:
    """Which nodes or guests suffer: for long by both means, or in one minute so badly that it alone counts."""
    limit = thresholds or Hot()
    return ((full >= limit.full) & (some >= limit.some)) | (spikes >= limit.spikes)


def rebalance(
    nodes: Nodes,
    guests: Guests,
    mode: str = "used",
    balanciness: float = BALANCINESS,
    threshold: float | None = None,
    larger_first: bool = False,
    pressure: Pressure | None = None,
) -> list[Move]:
    """All moves (guest, node) of one run, in the order in which they are carried out.

    Args:
        nodes: as measured.
        guests: as measured.
        mode: ``used``, ``assigned`` or ``psi``.
        balanciness: see `out_of_balance`.
        threshold: see `out_of_balance`.
        larger_first: sorts groups of one size descending.
        pressure: for mode ``psi``.

    Raises:
        InputError: for another mode, or psi without pressure.
    """
    if mode not in ("used", "assigned", "psi") or (mode == "psi" and pressure is None):
        raise InputError(f"mode={mode!r}: expected used, assigned, or psi with pressure")
    if not len(guests.node) or nodes.maintenance.all():
        return []
    run = _Run(nodes, guests, mode, balanciness, threshold, pressure)
    run.empty_maintenance()
    run.balance(larger_first)
    return [(guest, node) for guest, node in run.targets.items() if node != guests.node[guest]]


class _Run:
    """One run: its books, its target and what it has decided so far."""

    def __init__(self, nodes: Nodes, guests: Guests, mode: str, balanciness: float, threshold: float | None,
                 pressure: Pressure | None) -> None:  # fmt: skip
        self.nodes, self.guests, self.mode, self.pressure = nodes, guests, mode, pressure
        self.balanciness, self.threshold = balanciness, threshold
        self.books = _Books(nodes, guests)
        self.targets: dict[int, int] = {}
        self.chosen: int | None = None
        self.processed: set[int] = set()
        self.find_target()

    def find_target(self) -> None:
        """QUIRK: asked for once in a run, and once more for each guest that leaves a node in maintenance."""
        by = self.pressure.node_spikes if self.mode == "psi" and self.pressure else self.books.percent(self.mode)
        self.target = most_free(by, self.nodes.maintenance)

    def move(self) -> None:
        """Enter the chosen guest at the target; in psi mode this may be one that is entered already."""
        if self.chosen is not None:
            self.books.move(self.chosen, self.target)
            self.targets[self.chosen] = self.target

    def empty_maintenance(self) -> None:
        """Every guest of a node in maintenance goes to the node that is emptiest when its turn comes."""
        for guest in np.flatnonzero(self.nodes.maintenance[self.guests.node]):
            self.chosen = int(guest)
            self.find_target()
            self.move()

    def wanted(self) -> bool:
        """Whether balance asks for a move."""
        if self.mode == "psi" and self.pressure:
            return bool(self.pressure.node_hot.any() or self.pressure.guest_hot.any())
        return out_of_balance(self.books.percent(self.mode), self.balanciness, self.threshold)

    def balance(self, larger_first: bool) -> None:
        """Groups in turn, until balance is reached."""
        enforced = affinity_broken(self.nodes, self.guests)
        for members in sorted_groups(self.guests, larger_first):
            if not (enforced or self.wanted()):
                break
            for guest in members:
                if int(np.argmax(self.books.percent("used"))) != self.guests.node[guest]:
                    break  # QUIRK: by used memory in every mode
                if self.guests.used_mib[guest] < self.books.free_mib[self.target]:
                    self.choose(guest)
                    self.move()

    def choose(self, guest: int) -> None:
        """QUIRK: in psi mode a guest that is not the next by pressure leaves the choice as it was."""
        if self.mode == "psi" and self.pressure:
            spikes = self.pressure.guest_spikes
            left = [other for other in range(len(spikes)) if other not in self.processed]
            if max(left, key=lambda other: spikes[other]) != guest:
                return
            self.processed.add(guest)
        self.chosen = guest


def sorted_groups(guests: Guests, larger_first: bool = False) -> list[list[int]]:
    """Members of each group, the groups by the number of members and then by the sum of `Guests.order`."""
    groups: dict[int, list[int]] = {}
    for guest, number in enumerate(guests.group):
        groups.setdefault(int(number), []).append(guest)
    sign = -1.0 if larger_first else 1.0
    return sorted(groups.values(), key=lambda members: (len(members), sign * sum(guests.order[g] for g in members)))


def affinity_broken(nodes: Nodes, guests: Guests) -> bool:
    """Whether a group is spread over nodes or has a member on one in maintenance. QUIRK: the last guest is not asked."""
    broken = []
    for members in sorted_groups(guests):
        at = guests.node[members]
        if nodes.maintenance[at].any() or len(set(at)) > 1:
            broken += members
    return any(guest != len(guests.node) - 1 for guest in broken)
