"""ProxLB as a policy: a daemon beside Proxmox VE, which itself recovers and evacuates as shipped (``pve_policy``, mode basic).

A run plans all its moves from one reading (``proxlb.rebalance``); they are carried out one after the other (`jobs` at once), looked
at every 10 s, and given up after `job_limit_s`. The next run begins `every_s` after the last job. A run finds guests on nodes in
maintenance only where high availability does not look after them, for the HA manager is there first; it leaves guests alone that
are locked by a migration.

The daemon's schedule as shipped is 12 h, so that no episode would see a run. Episodes begin amid the daemon's sleep: the first run
is after `every_s`.

Left out: as in ``proxlb``, and mode psi (it needs *full* pressure, which the telemetry does not have).

Edge cases. A planned move that is no longer possible when its turn comes is passed over. Guests' statistics are not read.

Sources: as ``proxlb``; jobs one at a time, 10 s and 1800 s are balancing.py's.
"""

import dataclasses

import numpy as np

from hvgym.agents.cluster import proxlb, pve
from hvgym.agents.cluster.pve_policy import Manager, Settings
from hvgym.agents.cluster.reading import NOWHERE
from hvgym.agents.cluster.rounds import InRounds, Lane, Move, Round, numbered
from hvgym.envs.errors import InputError, shown

POLL_S = 10.0
"""Between two looks at a job (balancing.py)."""
JOB_LIMIT_S = 1800.0
"""After which a job is no longer waited for (balancing.py)."""

AS_SHIPPED = Settings("basic", False, pve.THRESHOLD, pve.HOLD_ROUNDS, pve.MARGIN, "bruteforce")
"""Of the Proxmox VE beneath it."""


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Of ProxLB's YAML."""

    every_s: float
    mode: str
    balanciness: float
    memory_threshold: float
    reserve_mib: float
    larger_first: bool
    jobs: int
    job_limit_s: float


class ProxLb(InRounds):
    """mode: ``used`` or ``assigned``; memory_threshold: 0 is none; larger_first: balance_larger_guests_first."""

    period_s = POLL_S

    def __init__(
        self,
        every_s: float = proxlb.PERIOD_S,
        mode: str = "used",
        balanciness: float = proxlb.SAMPLE_BALANCINESS,
        memory_threshold: float = proxlb.SAMPLE_MEMORY_THRESHOLD,
        reserve_mib: float = proxlb.SAMPLE_RESERVE_MIB,
        larger_first: bool = False,
        jobs: int = 1,
        job_limit_s: float = JOB_LIMIT_S,
    ) -> None:
        if mode not in ("used", "assigned"):
            raise InputError(f"agent.mode={shown(mode)}: choose one of used, assigned")
        self._configuration = Configuration(
            every_s, mode, balanciness, memory_threshold, reserve_mib, larger_first, jobs, job_limit_s
        )

    def begin(self, seed: int) -> Lane:
        """See `InRounds`."""
        return _Daemon(self._configuration)


class _Daemon(Lane):
    """ProxLB and the HA manager at work on one cluster."""

    def __init__(self, configuration: Configuration) -> None:
        self._how, self._manager = configuration, Manager(AS_SHIPPED)
        self._plan: list[Move] = []
        self._jobs: dict[int, float] = {}
        """Second in which a guest's migration began."""
        self._next_s: float | None = None

    def moves(self, at: Round) -> list[Move]:
        first = self._manager.moves(at)
        taken = {vm for vm, _ in first}
        return first + [move for move in self._balancing(at, taken) if move[0] not in taken]

    def _balancing(self, at: Round, taken: set[int]) -> list[Move]:
        now_s, worked = at.now.time_s, bool(self._plan or self._jobs)
        self._jobs = {
            vm: since_s
            for vm, since_s in self._jobs.items()
            if at.going[vm] != NOWHERE and now_s - since_s < self._how.job_limit_s
        }
        if self._next_s is None or (worked and not self._plan and not self._jobs):
            self._next_s = now_s + self._how.every_s
        if now_s >= self._next_s and not self._plan and not self._jobs:
            self._plan = self._run(at)
            self._next_s = now_s + self._how.every_s
        return self._begun(at, taken)

    def _begun(self, at: Round, taken: set[int]) -> list[Move]:
        """The next jobs of the plan, as many as are free."""
        found = []
        while self._plan and len(self._jobs) < self._how.jobs:
            vm, host = self._plan.pop(0)
            if at.settled[vm] and at.allowed[vm, host] and vm not in taken:
                self._jobs[vm] = at.now.time_s
                found.append((vm, host))
        return found

    def _run(self, at: Round) -> list[Move]:
        now, how = at.now, self._how
        online = np.flatnonzero(now.up)
        here = numbered(online, len(now.up))[at.here]
        guests = np.flatnonzero(here != NOWHERE)
        nodes = proxlb.Nodes(
            now.total_mib[online],
            now.host_used_mib[online],
            np.full(len(online), how.reserve_mib),
            now.maintenance[online],
        )
        running = proxlb.Guests(
            here[guests], now.used_mib[guests], now.memory_mib[guests], now.cpu_cores[guests], np.arange(len(guests))
        )
        moves = proxlb.rebalance(nodes, running, how.mode, how.balanciness, how.memory_threshold, how.larger_first)
        return [(int(guests[guest]), int(online[node])) for guest, node in moves]
