"""XenServer's failover planner: could every protected VM be restarted whichever hosts fail, and where would it go?

VMs of a failed host are packed largest first, each into the host that has the most free memory at that moment; if it does
not fit there it fits nowhere. For a pool that is small enough every ordered sequence of failures is played; for a larger
one a worst case is computed. If there is a sequence that cannot be survived the pool is overcommitted: the last VM that
made it so is refused.

Only memory counts. Left out: CPU, VMs that can run on some hosts only (the original takes them as not agile), and what the
hosts that come back would add.

Source: xen-api 2026-08, ``ocaml/xapi/binpack.ml`` and ``xapi_ha_vm_failover.ml``, as facts of a reading.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
