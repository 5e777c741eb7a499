"""Plans of the clairvoyant reference of clusters (``reference``): what one is, which there are, and what it asks for.

A plan is a few numbers. Before a host fails or must be empty its VMs leave, in the order of weight and memory, as many at once as
the stack lets move, each to where demand is least. Starts and restarts go there too, or to where most RAM is not promised.
Levelling takes the move that lowers the most loaded host most, over and over. Demand is the most that each VM will want within a
time ahead, of CPU and memory; a host's load the larger of the two shares.
"""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from hvgym.agents.cluster.reading import Reading
from hvgym.envs.cluster_simulator import ClusterSimulator

NEVER_S, ONCE_S = 0.0, 1e9
NONE, COLDEST, PROPORTIONAL, BALLOONS = range(4)
NEEDS = {
    COLDEST: ("reclaim_mib", "reclaim_age_s", "report_free_pages"),
    PROPORTIONAL: ("memory_mib",),
    BALLOONS: ("memory_mib",),
}
"""Memory policies of a host, and their channels."""


@dataclass(frozen=True)
class Plan:
    """Numbers of one course. Of the order in which VMs leave, `by_weight` and `by_memory` are exponents; level_every_s: `NEVER_S`,
    `ONCE_S` at the beginning only; memory: a policy a host."""

    memory: tuple[int, ...]
    leave_s: float = 0.0
    by_weight: float = 1.0
    by_memory: float = 0.0
    level_every_s: float = NEVER_S
    ahead_s: float = 600.0
    threshold: float = 0.1
    most: float = 8.0
    stock: bool = False
    starts: bool = False
    restarts_by_weight: bool = False


def first_plans(hosts: int, stock: bool, memory: Collection[int]) -> list[Plan]:
    """What an operator would think of, the simplest first; stock: the stack has a balancing of its own."""
    none, all_of = (NONE,) * hosts, {kind: (kind,) * hosts for kind in memory}
    both = Plan(none, leave_s=600.0, level_every_s=60.0, starts=True, restarts_by_weight=True)
    plans = [Plan(none), Plan(none, stock=True)] if stock else [Plan(none)]
    light_first = Plan(
        none, leave_s=1200.0, by_weight=-1.0, by_memory=-1.0
    )  # a large copy that never ends blocks the others
    plans += [Plan(none, level_every_s=ONCE_S), Plan(none, leave_s=600.0), light_first, both]
    for kind in all_of.values():
        plans += [Plan(kind), *([Plan(kind, stock=True)] if stock else []), dataclasses.replace(both, memory=kind)]
    return plans


def child(rng: np.random.Generator, parent: Plan, step: float, stock: bool, memory: Collection[int]) -> Plan:
    """A plan like another."""
    drawn, flips = np.exp(step * rng.standard_normal(4)), rng.random(6) < 0.25
    kinds = list(parent.memory)
    if flips[0] and memory:
        kind = int(rng.choice([NONE, *memory]))
        which = range(len(kinds)) if rng.random() < 0.5 else [int(rng.integers(len(kinds)))]
        for host in which:
            kinds[host] = kind
    leave_s = 600.0 if flips[1] and parent.leave_s == 0.0 else 0.0 if flips[1] else parent.leave_s
    every_s = float(rng.choice([NEVER_S, ONCE_S, 60.0, 300.0])) if flips[2] else parent.level_every_s
    return Plan(
        memory=tuple(kinds),
        leave_s=min(leave_s * drawn[0], 3600.0),
        by_weight=parent.by_weight + step * rng.standard_normal(),
        by_memory=parent.by_memory + step * rng.standard_normal(),
        level_every_s=every_s,
        ahead_s=float(np.clip(parent.ahead_s * drawn[1], 30.0, 3600.0)),
        threshold=float(np.clip(parent.threshold * drawn[2], 0.01, 1.0)),
        most=float(np.clip(parent.most * drawn[3], 1.0, 64.0)),
        stock=bool(stock and parent.stock != flips[3]),
        starts=bool(parent.starts != flips[4]),
        restarts_by_weight=bool(parent.restarts_by_weight != flips[5]),
    )


class Future:
    """What is to come in one episode: demand of VMs ``[slot, vm, 2]`` (cores, MiB of the host), and when hosts go down."""

    def __init__(self, sim: ClusterSimulator) -> None:
        specs, demand = sim.vm_specs[0], sim.arrays.demand[0]
        own = specs["kernel_mib"] + specs["overhead_mib"]
        mib = np.minimum(demand["tier_mib"].sum(axis=2) + own, specs["memory_mib"] + specs["overhead_mib"])
        self._needs, self._slot_s = np.stack([demand["cpu_share"] * specs["vcpus"], mib], axis=2), sim.slot_s
        self._downs = [(int(one["host"]), float(one["at_s"])) for one in sim.arrays.failures]
        self._downs += [(int(one["host"]), float(one["deadline_s"])) for one in sim.arrays.plans]
        self._machines = sim.arrays.machines

    def needs(self, now_s: float, ahead_s: float) -> np.ndarray:
        """The most that VMs will want soon, ``[vm, 2]``."""
        slots = len(self._needs)
        first = min(int(now_s // self._slot_s), slots - 1)
        last = min(int((now_s + ahead_s) // self._slot_s), slots - 1)
        return np.asarray(self._needs[first : last + 1].max(axis=0))

    def goes_down(self, lane: int, now_s: float, within_s: float) -> np.ndarray:
        """Hosts that fail, or must be empty, so soon, ``[host]``."""
        soon = self._machines["next_draw_s"][lane] - now_s <= within_s
        for host, at_s in self._downs:
            soon[host] |= 0.0 < at_s - now_s <= within_s
        return np.asarray(soon & (within_s > 0.0))


def answer(now: Reading, plan: Plan, needs: np.ndarray, leaving: np.ndarray, at_once: float) -> dict[int, int]:
    """Where a plan wants VMs, by VM. at_once: copies that the stack lets a host have."""
    capacity = np.stack([now.pcpus, now.total_mib], axis=1)
    used, heading = np.zeros(capacity.shape), now.heading.copy()
    np.add.at(used, heading[heading >= 0], needs[heading >= 0])
    may = now.allowed & (now.targets & ~leaving)
    wanted: dict[int, int] = {}

    def send(vm: int, host: int) -> None:
        if heading[vm] >= 0:
            used[heading[vm]] -= needs[vm]
        used[host] += needs[vm]
        heading[vm], wanted[vm] = host, host

    worth = now.weight**plan.by_weight * now.memory_mib**plan.by_memory
    leaves = now.settled & leaving[now.host]
    moves = (now.host >= 0) & ((now.movable & ~now.settled) | (now.moving_to >= 0))
    busy = np.bincount(now.host[moves], minlength=len(used))
    starts = now.waits & (plan.starts or not plan.stock)
    promised = np.bincount(now.host[now.host >= 0], now.memory_mib[now.host >= 0], len(used))
    for vm in sorted(np.flatnonzero(leaves | starts).tolist(), key=lambda vm: -worth[vm]):
        to = np.flatnonzero(may[vm])
        if not len(to) or (leaves[vm] and busy[now.host[vm]] >= at_once):
            continue
        if leaves[vm]:
            busy[now.host[vm]] += 1
        by = (
            ((used[to] + needs[vm]) / capacity[to]).max(axis=1)
            if leaves[vm] or plan.starts
            else (promised - now.total_mib)[to]
        )
        send(vm, int(to[np.argmin(by)]))
        promised[wanted[vm]] += now.memory_mib[vm]
    once = plan.level_every_s == ONCE_S and now.time_s == 0.0
    if once or (NEVER_S < plan.level_every_s < ONCE_S and now.time_s % plan.level_every_s == 0.0):
        open_ = now.targets & ~leaving
        for _ in range(round(plan.most)):
            load = (used / capacity).max(axis=1)
            hot = int(np.argmax(np.where(open_, load, -1.0)))
            vms = np.flatnonzero((heading == hot) & now.settled & may.any(axis=1))
            vms = vms[[int(vm) not in wanted for vm in vms]]
            if not open_[hot] or load[hot] - load[open_].min() <= plan.threshold or not len(vms):
                break
            left = ((used[hot] - needs[vms]) / capacity[hot]).max(axis=1)
            after = ((used + needs[vms][:, None]) / capacity).max(axis=2)
            worse = np.where(may[vms], np.maximum(after, left[:, None]), np.inf)
            row, host = divmod(int(np.argmin(worse)), len(used))
            if worse[row, host] >= load[hot]:
                break
            send(int(vms[row]), host)
    return wanted
