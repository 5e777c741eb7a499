"""XenServer's failover planner: could every protected VM be restarted whichever hosts fail, and where would it go?

VMs of a failed host are packed largest first, each into the host that has the most free memory at that moment; if it does
not fit there it fits nowhere. For a pool that is small enough every ordered sequence of failures is played; for a larger
one a worst case is computed. If there is a sequence that cannot be survived the pool is overcommitted: the last VM that
made it so is refused.

Only memory counts. Left out: CPU, VMs that can run on some hosts only (the original takes them as not agile), and what the
hosts that come back would add.

`XapiHa` is the policy: it keeps VMs waiting whose start would leave no plan. Restarts go where the planner puts them, in the order
of the pool's high availability. A host in maintenance is evacuated by the planner too, all its VMs or none (recalled). As in the
original (recalled) every VM counts with the memory to which it can be squeezed, and so does what hosts have free.

Edge cases. Guests' statistics are not read. A VM for which no minimum is configured can be squeezed to its process alone.

Source: xen-api 2026-08, ``ocaml/xapi/binpack.ml`` and ``xapi_ha_vm_failover.ml``, as facts of a reading.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hvgym.agents.cluster.reading import ABSENT, RESTARTING, WAITING, Reader, Reading
from hvgym.agents.policy import Policy
from hvgym.envs.errors import InputError, shown
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

MOST_HOSTS = 32
"""Up to this many hosts all sequences of failures are tried."""

MOST_SEQUENCES = 3500
"""Ordered sequences of failures, of which there must be fewer, or the worst case is computed instead."""

PLAN_PERIOD_S = 1800.0
"""A plan is made anew at least this often."""


@dataclass(frozen=True)
class Pool:
    """Hosts that live, and VMs that are protected."""

    free_mib: np.ndarray
    """``[host]``."""
    vm_mib: np.ndarray
    """``[vm]``, with overhead."""
    vm_host: np.ndarray
    """``[vm]``, index of a host."""


@dataclass(frozen=True)
class Plan:
    """Where VMs of a failed host restart, largest first, and those that fit nowhere."""

    moves: list[tuple[int, int]]
    left: list[int]


def pack(vm_mib: Sequence[tuple[int, float]], free_mib: Sequence[tuple[int, float]]) -> Plan:
    """Pack VMs, pairs of index and size, into hosts, pairs of index and free memory.

    QUIRK: only the largest host is tried, though one with less room may do as well. Of equal hosts, the one that took a VM
    last comes first; else the order given.
    """
    bins = sorted(((-free, host) for host, free in free_mib), key=lambda bin_: bin_[0])
    plan = Plan([], [])
    for vm, size in sorted(vm_mib, key=lambda pair: -pair[1]):
        if not bins or -bins[0][0] < size:
            plan.left.append(vm)
            continue
        free, host = bins.pop(0)
        at = bisect.bisect_left(bins, free + size, key=lambda bin_: bin_[0])
        bins.insert(at, (free + size, host))
        plan.moves.append((vm, host))
    return plan


def failover(pool: Pool, failed: Sequence[int]) -> Plan:
    """Where VMs of hosts that have failed at once would restart."""
    dead = np.isin(pool.vm_host, failed)
    free = [(host, mib) for host, mib in enumerate(pool.free_mib.tolist()) if host not in failed]
    return pack([(vm, float(pool.vm_mib[vm])) for vm in np.flatnonzero(dead).tolist()], free)


def plan_exists(pool: Pool, failures: int, hosts: int | None = None) -> bool:
    """Whether all VMs survive `failures` hosts, whichever fail in whatever order; False: the pool is overcommitted.

    `hosts` counts the pool with those that are down; it only chooses between the exact and the worst case.
    """
    live = len(pool.free_mib)
    if live < failures or (live == failures and len(pool.vm_mib) > 0):
        return False
    if sequences_are_tried(live if hosts is None else hosts, failures):
        placed: list[list[tuple[int, float]]] = [[] for _ in range(live)]
        for vm, host in enumerate(pool.vm_host.tolist()):
            placed[host].append((vm, float(pool.vm_mib[vm])))
        return _survives(dict(enumerate(pool.free_mib.tolist())), dict(enumerate(placed)), failures)
    return worst_case_fits(pool, failures)


def sequences_are_tried(hosts: int, failures: int) -> bool:
    """Whether the pool is small enough for the exact planner."""
    return hosts <= MOST_HOSTS and math.perm(hosts, failures) < MOST_SEQUENCES


def worst_case_fits(pool: Pool, failures: int) -> bool:
    """The cautious planner: every VM as large as the largest, the hosts with the most room and those with most VMs fail."""
    largest = float(pool.vm_mib.max(initial=0.0))
    if largest <= 0.0:
        return True
    rooms = np.sort(np.floor(pool.free_mib / largest))[::-1]
    counts = np.sort(np.bincount(pool.vm_host, minlength=len(pool.free_mib)))[::-1]
    return bool(counts[:failures].sum() <= rooms[failures:].sum())


def restart_order(order: np.ndarray, best_effort: np.ndarray) -> list[int]:
    """VMs in the order of restart: by number, negative ones after all others, and then those of best effort."""
    return np.lexsort((np.where(order < 0, np.inf, order), best_effort)).tolist()


def _survives(free_mib: dict[int, float], placed: dict[int, list[tuple[int, float]]], failures: int) -> bool:
    """Whether every further sequence of failures can be packed; what has been packed fails with its new host."""
    if failures == 0:
        return True
    for dead, vms in placed.items():
        plan = pack(vms, [(host, free) for host, free in free_mib.items() if host != dead])
        if plan.left:
            return False
        if failures > 1 and not _survives(*_after(free_mib, placed, dead, plan), failures - 1):
            return False
    return True


def _after(
    free_mib: dict[int, float], placed: dict[int, list[tuple[int, float]]], dead: int, plan: Plan
) -> tuple[dict[int, float], dict[int, list[tuple[int, float]]]]:
    """The pool when a plan for one dead host has been carried out."""
    size = dict(placed[dead])
    free = {host: mib for host, mib in free_mib.items() if host != dead}
    vms = {host: list(there) for host, there in placed.items() if host != dead}
    for vm, host in plan.moves:
        free[host] -= size[vm]
        vms[host].append((vm, size[vm]))
    return free, vms


class XapiHa(Policy):
    """XenServer's planner as admission. failures: hosts whose loss is to be survived.

    A VM that is asked for is looked at in the next decision, so it starts up to `period_s` later; the original looks at once.
    """

    of_cluster = True
    period_s = 5.0
    visibility = Visibility.P0

    def __init__(self, failures: int = 1) -> None:
        if not isinstance(failures, int) or isinstance(failures, bool) or failures < 0:
            raise InputError(f"agent.failures={shown(failures)}: expected a whole number, at least 0")
        self.failures = failures

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._reader = Reader(first)
        self._own_mib = [_own_mib(now) for now in self._reader.read(first)]

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        readings = self._reader.read(telemetry)
        admit = np.ones((len(readings), len(readings[0].host)))
        move_to = np.full(admit.shape, np.nan)
        for lane, (now, own_mib) in enumerate(zip(readings, self._own_mib, strict=True)):
            admit[lane] = np.where((now.state == ABSENT) | (now.state == WAITING), 0.0, 1.0)
            for vm, host in _restarts(now, own_mib) + _evacuation(now, own_mib):
                move_to[lane, vm] = host
            for vm, host in self._starts(now, own_mib):
                admit[lane, vm], move_to[lane, vm] = 1.0, host
        return Targets(admit=admit, move_to=move_to)

    def _starts(self, now: Reading, own_mib: np.ndarray) -> list[tuple[int, int]]:
        """VMs that may be started, each on the allowed host with most free memory, in order; the pool survives with all of them."""
        moves: list[tuple[int, int]] = []
        where = now.heading.copy()
        for vm in np.flatnonzero(now.state == WAITING).tolist():
            to = np.flatnonzero(now.allowed[vm] & now.targets)
            if len(to):
                host = int(to[np.argmax(_free_mib(now, own_mib, where)[to])])
                where[vm] = host
                if self.survives(now, own_mib, where):
                    moves.append((vm, host))
                else:
                    where[vm] = now.heading[vm]
        return moves

    def survives(self, now: Reading, own_mib: np.ndarray, where: np.ndarray) -> bool:
        """Whether a plan exists for VMs on these hosts, ``[vm]``; protected ones that are down are restarted first."""
        live = np.flatnonzero(now.targets)
        place, size = np.full(len(now.up) + 1, -1), _least_mib(now)
        place[live] = np.arange(len(live))
        down = np.flatnonzero(now.protected & (now.state == RESTARTING)).tolist()
        free = _free_mib(now, own_mib, where)[live]
        first = pack([(vm, float(size[vm])) for vm in down], list(enumerate(free.tolist())))
        at = place[where]
        for vm, host in first.moves:
            at[vm] = host
            free[host] -= size[vm]
        counted = now.protected & (at >= 0)
        pool = Pool(free, size[counted], at[counted])
        return not first.left and plan_exists(pool, self.failures, len(now.up))


def _least_mib(now: Reading) -> np.ndarray:
    """What each VM takes of a host when it is squeezed, ``[vm]``."""
    return np.asarray(now.min_mib + now.overhead_mib)


def _own_mib(now: Reading) -> np.ndarray:
    """What hosts use beside VMs, ``[host]``."""
    used = now.host_used_mib.copy()
    there = now.host >= 0
    np.subtract.at(used, now.host[there], now.used_mib[there])
    return np.maximum(used, 0.0)


def _free_mib(now: Reading, own_mib: np.ndarray, where: np.ndarray) -> np.ndarray:
    """What hosts have for more VMs with those on them squeezed, ``[host]``; where: hosts of VMs, ``[vm]``."""
    free = now.total_mib - own_mib
    there = where >= 0
    np.subtract.at(free, where[there], _least_mib(now)[there])
    return free


def _planned(now: Reading, own_mib: np.ndarray, vms: np.ndarray) -> Plan:
    """The planner's places for some VMs on hosts that are at work and not in maintenance."""
    free, size = _free_mib(now, own_mib, now.heading), _least_mib(now)
    hosts = np.flatnonzero(now.targets).tolist()
    return pack([(vm, float(size[vm])) for vm in np.flatnonzero(vms).tolist()], [(h, float(free[h])) for h in hosts])


def _restarts(now: Reading, own_mib: np.ndarray) -> list[tuple[int, int]]:
    """Places of VMs that were lost, those that are protected before the others."""
    moves = []
    for which in (now.protected, ~now.protected):
        moves += _planned(now, own_mib, which & (now.state == RESTARTING)).moves
    return [(vm, host) for vm, host in moves if now.allowed[vm, host]]


def _evacuation(now: Reading, own_mib: np.ndarray) -> list[tuple[int, int]]:
    """Places of VMs of hosts that are to be emptied; none where not all fit."""
    plan = _planned(now, own_mib, now.settled & (now.maintenance & now.up)[now.host])
    return [(vm, host) for vm, host in plan.moves if now.allowed[vm, host]] if not plan.left else []
