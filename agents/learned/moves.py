"""Which VM of a cluster moves where, and where it starts: a price of load that a search has found, the same for all hosts.

A host's price is a sum of w x size x max(0, load - threshold) over `LOADS` and `THRESHOLDS`: load is what its VMs take of one of
its resources, as a share of it, and size its share of the largest host's. A move of a VM gains what the prices of the two hosts
fall by, and what the weights of `BESIDE` say of the move itself (that it is one; how long its copy takes; what else is copied; how
its old host and it itself suffer). Every `every_s` the move that gains most is made, the loads are taken as they will be then, and
so on, up to `most` moves, while one gains more than nothing. So one set of weights serves any number of VMs and hosts, and what
each weight does can be read.

Every `period_s` VMs that wait are started, by their restart priority, and then those on hosts in maintenance leave, each for the
host that takes it where the prices rise least. Who is to be started counts as much as it did before; where it has never run, all
that it is configured with.

Prices above a threshold are what balancers look at, and so is the gain of a move less its cost (VMware's DRS, ProxLB, oVirt). Here
how much each counts is learnt, from whole episodes (``es``).

Fails when: demand to come differs from what was seen (loads are those of now, and the most within an hour); a VM writes faster
than its copy is sent, which no signal tells before; what starts needs room on one host, which nothing here makes.

Edge cases. VMs that are down or on their way are left alone, and loads are counted where VMs are going. Where guests say nothing,
all that a VM has of its host counts as active. Before the second reading no CPU has been used, so nothing moves. A host that is
down or in maintenance has no price and takes nothing. A VM without a minimum is as any other.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from hvgym.agents.cluster.reading import NOWHERE, Reading
from hvgym.agents.cluster.rounds import InRounds, Lane, Move, Round
from hvgym.agents.learned.searched import Searched
from hvgym.envs.telemetry import Telemetry

LOADS = ("used", "active", "most_active", "configured", "cores", "most_cores")
"""Memory that VMs have of their host, that is active in them, the most of it, what they are configured with; CPU that they use or
wait for, and the most of it."""

THRESHOLDS = (0.3, 0.5, 0.7, 0.85, 1.0)

BESIDE = (
    "constant", "copy_time", "copies", "weight", "cpu", "pressure", "swap_stall", "ready", "moved_lately",
)  # fmt: skip
"""Of a move: 1; its copy in units of `COPY_S`; copies from or to both hosts; the VM's weight in means less 1, and the CPU that it
uses or waits for as a share of its own; memory pressure of its host less that of the new one; how much it waits for host swap, and
for CPU; and how lately it was moved, 1 at once, 0 after `MOST_S`."""

COPY_S, MOST_COPIES_S = 100.0, 1000.0
"""Of a copy: 10 Gb/s send the memory of a large VM in a tenth of the first, 1 Gb/s in all of it; the second is the most."""

CPU_S = 60.0
"""Over which CPU is averaged (a guess)."""

MOST_S = 3600.0
"""The most that a VM took is forgotten evenly within it (a guess: the length of most scenarios)."""

SCALE = 4.0
"""Of what prices fall by: a VM is some tenths of a host, so that a weight of 1 is worth about 1."""

PRICES = len(LOADS) * len(THRESHOLDS)


class SharedMoves(InRounds, Searched):
    """Moves and starts of VMs; `first` takes VMs off hosts that are full, until something better is learnt."""

    kind = "hvgym shared moves, version 1"
    names = (*(f"{load}_above_{round(100 * at)}" for load in LOADS for at in THRESHOLDS), *BESIDE)
    first: ClassVar[Mapping[str, float]] = {
        "active_above_85": 1.0, "active_above_100": 1.0, "most_active_above_100": 1.0, "configured_above_30": 0.1,
        "cores_above_85": 1.0, "most_cores_above_100": 1.0, "constant": -0.2, "copy_time": -0.2, "moved_lately": -0.3,
    }  # fmt: skip
    settings: ClassVar[Mapping[str, float | str]] = {
        "period_s": 10.0, "every_s": 30.0, "most": 4.0, "visibility": "P1",
    }  # fmt: skip
    every_s: float
    most: float
    """Moves that may begin at once."""

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        super().reset(first, seed)
        for row, lane in enumerate(self._lanes):
            assert isinstance(lane, _Mover)
            lane.weights = self.weights[row if len(self.weights) > 1 else 0]

    def begin(self, seed: int) -> Lane:
        """See `InRounds`."""
        return _Mover(self.weights[0], self.every_s, self.most)


class _Mover(Lane):
    """One cluster, and what is remembered of it: CPU of each VM, the most of it and of active memory, seconds of last moves."""

    def __init__(self, weights: np.ndarray, every_s: float, most: float) -> None:
        self.weights, self._every_s, self._most = weights, every_s, most
        self._next_s: float | None = None

    def moves(self, at: Round) -> list[Move]:
        now = at.now
        if self._next_s is None:
            nothing = np.zeros(len(now.host))
            self._next_s, self._moved_s = now.time_s + self._every_s, np.full(len(now.host), -np.inf)
            self._cores, self._most_cores, self._most_active_mib = nothing, nothing, nothing
        plan = _Plan(at, self.weights, self._asked(now), (now.time_s - self._moved_s) / MOST_S)
        starts, leaves = np.flatnonzero(at.unplaced), np.flatnonzero(at.settled & (now.maintenance & now.up)[now.host])
        for vms in (starts, leaves):
            for vm in vms[np.argsort(-now.priority[vms], kind="stable")].tolist():
                plan.move(vm)
        if now.time_s >= self._next_s:
            self._next_s += self._every_s
            chosen = 0
            while chosen < self._most and plan.move():
                chosen += 1
        for vm, _ in plan.moves:
            self._moved_s[vm] = now.time_s
        return plan.moves

    def _asked(self, now: Reading) -> np.ndarray:
        """What each VM takes, ``[load, vm]`` in MiB or cores; the most of it is kept."""
        runs, passed = now.movable, min(now.since_s / CPU_S, 1.0)
        self._cores = np.where(
            runs, self._cores + passed * (now.cpu_cores + now.ready_cores - self._cores), self._cores
        )
        kept = max(1.0 - now.since_s / MOST_S, 0.0)
        self._most_active_mib = np.maximum(kept * self._most_active_mib, np.where(runs, now.active_mib, 0.0))
        self._most_cores = np.maximum(kept * self._most_cores, self._cores)
        new = self._most_active_mib == 0.0
        most_mib = np.where(new, now.memory_mib, self._most_active_mib)
        most_cores = np.where(new, now.vcpus, self._most_cores)
        used, active = (np.where(now.waits, most_mib, mib) for mib in (now.used_mib, now.active_mib))
        of_guest = (mib + now.overhead_mib for mib in (active, most_mib, now.memory_mib))
        return np.stack([used, *of_guest, np.where(now.waits, most_cores, self._cores), most_cores])


class _Plan:
    """Moves of one decision, each as the ones before it leave the cluster. asked ``[load, vm]``; moved: since each VM was moved, in
    `MOST_S`."""

    def __init__(self, at: Round, weights: np.ndarray, asked: np.ndarray, moved: np.ndarray) -> None:
        self.moves: list[Move] = []
        now = at.now
        self._now, self._weights, self._asked, self._moved = now, weights, asked, moved
        self._size = np.stack([now.total_mib] * 4 + [now.pcpus] * 2)
        self._where = np.where(at.going == NOWHERE, at.here, at.going)
        self._copies = now.outgoing + now.incoming
        self._may = at.allowed & now.targets & (at.settled | at.unplaced)[:, None]
        self._chooses = at.settled & (now.since_s > 0.0)

    def move(self, vm: int | None = None) -> bool:
        """Move or start a VM where that gains most; without one, that which gains most of all, if it gains at all. Whether any
        did."""
        may = self._may & self._chooses[:, None] if vm is None else self._may[vm : vm + 1]
        if not may.any():
            return False
        vms = np.arange(len(self._where)) if vm is None else np.array([vm])
        gain = np.where(may, self.gains(vms), -np.inf)
        row, host = divmod(int(np.argmax(gain)), gain.shape[1])
        if vm is None and not gain[row, host] > 0.0:
            return False
        vm = int(vms[row])
        ends = [host] if self._where[vm] == NOWHERE else [self._where[vm], host]
        self._copies[ends] += float(len(ends) > 1)
        self._where[vm], self._may[vm] = host, False
        self.moves.append((vm, host))
        return True

    def gains(self, vms: np.ndarray) -> np.ndarray:
        """Of a move of each of these VMs to each host, ``[vm, host]``."""
        placed = self._where >= 0
        here, runs = np.where(placed, self._where, 0)[vms], placed[vms]
        prices = self._weights[:PRICES].reshape(len(LOADS), len(THRESHOLDS))
        gain = np.zeros((len(vms), len(self._now.up)))
        for asked, size, of_load in zip(self._asked, self._size, prices, strict=True):
            load = np.bincount(self._where[placed], asked[placed], len(size)) / size
            share = asked[vms][:, None] / size
            joined, left = load + share, load[here] - share[np.arange(len(vms)), here]
            relative = np.where(self._now.targets, size / size.max(), 0.0)
            for price, threshold in zip(of_load, THRESHOLDS, strict=True):
                above = np.maximum(load - threshold, 0.0)
                eased = np.where(runs, (above[here] - np.maximum(left - threshold, 0.0)) * relative[here], 0.0)
                gain += SCALE * price * (eased[:, None] - (np.maximum(joined - threshold, 0.0) - above) * relative)
        for weight, feature in zip(self._weights[PRICES:], self._beside(vms, here), strict=True):
            gain += np.where(runs[:, None], weight * feature, 0.0)
        return gain

    def _beside(self, vms: np.ndarray, here: np.ndarray) -> list[np.ndarray]:
        """`BESIDE`, each for ``[vm, host]``."""
        now, copies, vcpus = self._now, self._copies, np.maximum(self._now.vcpus, 1.0)
        link = np.minimum(now.link_mib_per_s[here][:, None], now.link_mib_per_s)
        weight = np.where(np.isnan(now.weight), 1.0, now.weight)
        copy_s = np.minimum(now.used_mib[vms][:, None] / np.maximum(link, 1e-9), MOST_COPIES_S)
        found = {
            "constant": np.ones(1),
            "copy_time": copy_s / COPY_S,
            "copies": 0.25 * (copies[here][:, None] + copies),
            "weight": (weight / max(weight.mean(), 1e-9) - 1.0)[vms][:, None],
            "cpu": np.minimum(self._asked[4] / vcpus, 1.0)[vms][:, None],
            "pressure": now.psi[here][:, None] - now.psi,
            "swap_stall": now.swap_stall[vms][:, None],
            "ready": np.minimum(now.ready_cores / vcpus, 1.0)[vms][:, None],
            "moved_lately": np.maximum(1.0 - self._moved, 0.0)[vms][:, None],
        }
        return [found[name] for name in BESIDE]
