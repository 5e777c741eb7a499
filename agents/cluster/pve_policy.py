"""Proxmox VE's HA manager as a policy: recovery, evacuation and automatic rebalancing, by the rules of ``pve``.

In each round of 10 s, VMs that wait get a node, in their order, with what was decided before them on the books. VMs on a node in
maintenance are all given another at once, and go back when it is done. Where rebalancing is on, one VM moves after three rounds
of imbalance, and no round counts in which a move is queued or under way.

Nodes that are online are those at work and not in maintenance. A guest that moves counts at both ends. VMs without high
availability count, are placed when they start (as by an operator who asks for the best node), and are not moved.

Guesses: in dynamic mode a guest that moves is booked at its target with what it uses. Left out: affinity, so every VM may be
anywhere where nothing stands in its way; max_workers, whose place the stack's own limit of copies takes.

Edge cases. A VM without a host that takes it is asked about again every round. Guests' statistics are not read. Before the second
reading no VM has used any CPU. Where fewer than two nodes are online there is no imbalance.

Sources: as ``pve``; going back after maintenance is Manager.pm's maintenance_node.
"""

import dataclasses

import numpy as np

from hvgym.agents.cluster import pve
from hvgym.agents.cluster.reading import NOWHERE
from hvgym.agents.cluster.rounds import FloatArray, InRounds, IntArray, Lane, Move, Round, numbered
from hvgym.envs.errors import InputError, shown

MODES = ("basic", "static", "dynamic")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of datacenter.cfg: `crs`. threshold, hold_rounds, margin and method are of rebalancing."""

    mode: str
    rebalances: bool
    threshold: float
    hold_rounds: int
    margin: float
    method: str


class Crs(InRounds):
    """mode: ``basic``, ``static`` or ``dynamic``; method: ``bruteforce`` or ``topsis``."""

    period_s = pve.ROUND_S

    def __init__(
        self,
        mode: str = "basic",
        rebalances: bool = False,
        threshold: float = pve.THRESHOLD,
        hold_rounds: int = pve.HOLD_ROUNDS,
        margin: float = pve.MARGIN,
        method: str = "bruteforce",
    ) -> None:
        if mode not in MODES:
            raise InputError(f"agent.mode={shown(mode)}: choose one of {', '.join(MODES)}")
        if method not in ("bruteforce", "topsis"):
            raise InputError(f"agent.method={shown(method)}: choose one of bruteforce, topsis")
        if rebalances and mode == "basic":
            raise InputError("agent.rebalances=True: mode basic has no imbalance; choose static or dynamic")
        self._settings = Settings(mode, rebalances, threshold, hold_rounds, margin, method)

    def begin(self, seed: int) -> Lane:
        """See `InRounds`."""
        return Manager(self._settings)


class Manager(Lane):
    """The active manager of one cluster."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._rounds = settings, 0
        self._returns_to: dict[int, int] = {}
        """Node that maintenance emptied, by VM."""

    def moves(self, at: Round) -> list[Move]:
        """See `Lane`."""
        books = Books(at, self._settings.mode)
        starts = [(vm, host) for vm in _listed(at.unplaced) if (host := books.choose(vm)) is not None]
        moves = self._evacuated(at, books)
        if self._settings.rebalances and not moves and not at.migrating:
            moves = self._balanced(at, books)
        return starts + moves

    def _evacuated(self, at: Round, books: "Books") -> list[Move]:
        """VMs leave a node in maintenance, and go back."""
        now, found = at.now, []
        for vm in _listed(at.settled & at.protected):
            here = int(now.host[vm])
            home = self._returns_to.get(vm, NOWHERE)
            if now.maintenance[here]:
                self._returns_to.setdefault(vm, here)
                host = books.choose(vm)
            elif home in (here, NOWHERE):
                self._returns_to.pop(vm, None)
                continue
            else:
                host = books.choose(vm, home) if at.allowed[vm, home] and now.targets[home] else None
            if host is not None:
                found.append((vm, host))
        return found

    def _balanced(self, at: Round, books: "Books") -> list[Move]:
        """The one move, if its time has come."""
        how, nodes = self._settings, books.reported
        self._rounds, acts = pve.count_round(
            self._rounds, pve.imbalance(pve.node_loads(nodes)), how.threshold, how.hold_rounds
        )
        if not acts:
            return []
        which = np.flatnonzero(at.settled & at.protected & (books.here != NOWHERE))
        services = pve.Services(books.here[which], books.cores[which], books.mib[which])
        allowed = at.allowed[np.ix_(which, books.online)]
        found = pve.balancing_move(nodes, services, allowed, how.method, how.margin)
        return [] if found is None else [(int(which[found[0]]), int(books.online[found[1]]))]


class Books:
    """What nodes that are online hold, as one mode counts, with what this round has decided so far."""

    def __init__(self, at: Round, mode: str) -> None:
        now = at.now
        self._at, self._mode = at, mode
        self.online = np.flatnonzero(now.targets)
        number = numbered(self.online, len(now.targets))
        self.here, going = number[at.here], number[at.going]
        self._counts = pve.basic_usage(len(self.online), self.here, going)
        dynamic = mode == "dynamic"
        self.cores, self.mib = (now.cpu_cores, now.used_mib) if dynamic else (now.vcpus, now.memory_mib)
        self.reported = self._measured() if dynamic else self._promised(going)
        """Of which imbalance is taken."""
        self._nodes = self._with_pending(going) if dynamic else self.reported

    def _measured(self) -> pve.Nodes:
        now, on = self._at.now, self.online
        return pve.Nodes(now.pcpus[on], now.total_mib[on], now.host_cpu_cores[on], now.host_used_mib[on])

    def _promised(self, going: IntArray) -> pve.Nodes:
        now, on = self._at.now, self.online
        return pve.static_usage(now.pcpus[on], now.total_mib[on], self.here, going, now.vcpus, now.memory_mib)

    def _with_pending(self, going: IntArray) -> pve.Nodes:
        """Guests that are still to start at their maxima, those that move with what they use."""
        now, starts = self._at.now, self._at.now.waits
        nodes = pve.with_maxima(self.reported, np.where(starts, going, NOWHERE), now.vcpus, now.memory_mib)
        return _with_use(nodes, np.where(starts, NOWHERE, going), self.cores, self.mib)

    def choose(self, vm: int, home: int = NOWHERE) -> int | None:
        """Host for a VM, `home` if that is one; None if there is none. It is on the books from then on."""
        now, on = self._at.now, self.online
        if not len(on):
            return None
        tier = np.where(self._at.allowed[vm, on], 0, NOWHERE)
        returns_to = int(numbered(on, len(now.targets))[home])
        node = pve.select_node(self._scores(vm), tier, returns_to=returns_to)
        if node is None:
            return None
        self._book(vm, node)
        return int(on[node])

    def _scores(self, vm: int) -> FloatArray:
        """``[node]``, the highest wins."""
        if self._mode == "basic":
            return -self._counts.astype(float)
        now = self._at.now
        return pve.start_scores(self._nodes, float(now.vcpus[vm]), float(now.memory_mib[vm]))

    def _book(self, vm: int, node: int) -> None:
        now, one = self._at.now, np.array([vm])
        self._counts[node] += 1
        if self._mode == "dynamic" and not now.waits[vm]:
            self._nodes = _with_use(self._nodes, np.array([node]), self.cores[one], self.mib[one])
        else:
            self._nodes = pve.with_maxima(self._nodes, np.array([node]), now.vcpus[one], now.memory_mib[one])


def _with_use(nodes: pve.Nodes, at: IntArray, cores: FloatArray, mib: FloatArray) -> pve.Nodes:
    """Nodes with what guests use added."""
    there, count = at != NOWHERE, len(nodes.cores)
    return dataclasses.replace(
        nodes,
        used_cores=nodes.used_cores + np.bincount(at[there], cores[there], count),
        used_mib=nodes.used_mib + np.bincount(at[there], mib[there], count),
    )


def _listed(which: np.ndarray) -> list[int]:
    """Indices of VMs, in order."""
    return [int(vm) for vm in np.flatnonzero(which)]
