"""Proxmox VE's cluster resource scheduling (CRS): where a service starts, and which one move evens the nodes out.

Three modes count differently. *basic* (the default) counts services; *static* adds up what guests may use at most; *dynamic*
takes what nodes measure. static and dynamic score a start by TOPSIS on the state after it. Automatic rebalancing (off by
default, not in basic) moves one service at a time when the imbalance has stayed above a threshold for some rounds.

Nodes and services stand in the order of their names, so that the original's ties by name are ties by index (it compares
strings: ``vm:1000`` before ``vm:99``). Only nodes that are online are passed. State (the count of rounds, moves under way)
is the caller's.

Left out: services without failback, which stay where they are before anything else is asked; rounding of memory to bytes.
A tie of TOPSIS goes to the first candidate in the order of services and targets: a guess.

Sources: pve-ha-manager 5.2.0 (Manager.pm, Usage.pm, Usage/Basic.pm, Rules/ResourceAffinity.pm) and proxmox-rs
(proxmox-resource-scheduling: scheduler.rs, topsis.rs, node.rs), read in 2026.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hvgym.envs.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

WEIGHTS = np.array([1.0, 2.0, 5.0, 10.0]) / 18.0
"""Of average CPU, highest CPU, average memory and highest memory; all are to be small (scheduler.rs, topsis.rs)."""
THRESHOLD = 0.3
"""ha-auto-rebalance-threshold: imbalance up to which nothing is done (api-viewer/apidata.js)."""
MARGIN = 0.1
"""ha-auto-rebalance-margin: share by which a move must lower the imbalance (apidata.js)."""
HOLD_ROUNDS = 3
"""ha-auto-rebalance-hold-duration, in rounds of the manager (apidata.js)."""
ROUND_S = 10.0
"""A round of the active manager (CRM.pm)."""
SIGNIFICANT = 1e15
"""Digits of a double that count: the rest of a score is cut off before candidates are compared (scheduler.rs)."""
NOWHERE = -1
"""In place of a node: the service is not there."""


@dataclass(frozen=True)
class Nodes:
    """Nodes that are online; each array is ``[node]``."""

    cores: FloatArray
    memory_mib: FloatArray
    used_cores: FloatArray
    used_mib: FloatArray


@dataclass(frozen=True)
class Services:
    """Started HA services, or bundles that must stay together; each array is ``[service]``.

    What they use is measured in dynamic mode and their maximum in static mode.
    """

    node: IntArray
    used_cores: FloatArray
    used_mib: FloatArray


def basic_usage(nodes: int, at: IntArray, moving_to: IntArray) -> IntArray:
    """Services on each node ``[node]``; one that moves counts at both ends. `NOWHERE`: stopped, or not moving."""
    at, moving_to = np.asarray(at), np.asarray(moving_to)
    elsewhere = moving_to[moving_to != at]
    places = np.concatenate([at, elsewhere])
    return np.bincount(places[places != NOWHERE], minlength=nodes)


def static_usage(
    cores: FloatArray,
    memory_mib: FloatArray,
    at: IntArray,
    moving_to: IntArray,
    max_cores: FloatArray,
    max_mib: FloatArray,
) -> Nodes:
    """Nodes with the maxima of their guests, those of a guest that moves at both ends; measured use does not count."""
    empty = Nodes(cores, memory_mib, np.zeros(len(cores)), np.zeros(len(cores)))
    at, moving_to = np.asarray(at), np.asarray(moving_to)
    elsewhere = np.where(moving_to == at, NOWHERE, moving_to)
    return with_maxima(with_maxima(empty, at, max_cores, max_mib), elsewhere, max_cores, max_mib)


def with_maxima(nodes: Nodes, at: IntArray, max_cores: FloatArray, max_mib: FloatArray) -> Nodes:
    """Nodes to whose use the maxima of some guests are added; a maximum of 0 cores means all of the node's.

    In dynamic mode these are the guests that still start: measurements do not show them yet.
    """
    here = np.asarray(at) != NOWHERE
    at, max_cores, max_mib = np.asarray(at)[here], np.asarray(max_cores)[here], np.asarray(max_mib)[here]
    added_cores = np.where(max_cores == 0.0, nodes.cores[at], max_cores)
    count = len(nodes.cores)
    return replace(
        nodes,
        used_cores=nodes.used_cores + np.bincount(at, added_cores, count),
        used_mib=nodes.used_mib + np.bincount(at, max_mib, count),
    )


def criteria(cpu: FloatArray, memory: FloatArray) -> FloatArray:
    """Rows of TOPSIS ``[alternative, 4]`` from the loads of all nodes, ``[alternative, node]`` each.

    The 1 keeps tiny differences tiny: 0.004 is twice 0.002, 1.004 hardly more than 1.002.
    """
    columns = [np.sqrt(np.mean(cpu**2, axis=1)), cpu.max(axis=1)]
    columns += [np.sqrt(np.mean(memory**2, axis=1)), memory.max(axis=1)]
    return 1.0 + np.stack(columns, axis=1)


def topsis(rows: FloatArray) -> FloatArray:
    """Closeness of each alternative to the worst, none to the best: scores ``[alternative]``, the highest wins."""
    norm = np.sqrt((rows**2).sum(axis=0))
    rows = rows / np.where(norm == 0.0, 1.0, norm)
    to_best = np.sqrt((((rows - rows.min(axis=0)) * WEIGHTS) ** 2).sum(axis=1))
    to_worst = np.sqrt((((rows - rows.max(axis=0)) * WEIGHTS) ** 2).sum(axis=1))
    both = to_best + to_worst
    return np.where(both == 0.0, 0.0, to_worst / np.where(both == 0.0, 1.0, both))


def start_rows(nodes: Nodes, max_cores: float, max_mib: float) -> FloatArray:
    """Rows ``[node, 4]``: the cluster as if the VM ran at its maximum on each node in turn."""
    added_cores = np.where(max_cores == 0.0, nodes.cores, max_cores)
    cpu = (nodes.used_cores + np.diag(added_cores)) / nodes.cores
    memory = (nodes.used_mib + np.diag(np.full(len(nodes.cores), max_mib))) / nodes.memory_mib
    return criteria(cpu, memory)


def start_scores(nodes: Nodes, max_cores: float, max_mib: float) -> FloatArray:
    """Score ``[node]`` of a start on each node, static and dynamic mode; the highest wins. In basic: minus `basic_usage`."""
    return topsis(start_rows(nodes, max_cores, max_mib))


def select_node(
    scores: FloatArray,
    tier: IntArray | None = None,
    rivals: IntArray | None = None,
    companions: IntArray | None = None,
    current: int = NOWHERE,
    preference: str = "best-score",
    tried: Collection[int] = (),
    returns_to: int = NOWHERE,
) -> int | None:
    """The node to run a service on, or None.

    Args:
        scores: ``[node]``, the highest wins; ties go to the first.
        tier: ``[node]`` priority by node affinity, negative where the service must not run; only the highest tier counts.
        rivals: ``[node]`` services there that must be apart from this one.
        companions: ``[node]`` services there that must be with it.
        current: where it is.
        preference: ``none`` to stay if it may, ``best-score``, or ``try-next`` after a failed start.
        tried: nodes where the start failed.
        returns_to: where it ran before maintenance moved it.

    Raises:
        InputError: for another preference.
    """
    if preference not in ("none", "best-score", "try-next"):
        raise InputError(f"preference={preference!r}: expected none, best-score or try-next")
    left = allowed_nodes(len(scores), tier, rivals, companions, tried if preference == "try-next" else ())
    if returns_to in left:
        return returns_to
    if preference == "none" and current in left:
        return current
    order = sorted(left, key=lambda node: (-scores[node], node))
    if preference == "try-next" and current in order[:-1]:
        return order[order.index(current) + 1]  # the one after the current, not the best: as in the code
    return order[0] if order else None


def allowed_nodes(
    nodes: int,
    tier: IntArray | None = None,
    rivals: IntArray | None = None,
    companions: IntArray | None = None,
    tried: Collection[int] = (),
) -> list[int]:
    """Nodes left by affinity, in their order; see `select_node`."""
    tier = np.zeros(nodes, int) if tier is None else np.asarray(tier)
    best = tier.max(initial=NOWHERE)
    left = [node for node in range(nodes) if best >= 0 and tier[node] == best and node not in tried]
    if rivals is not None:
        left = [node for node in left if not rivals[node]]
    if companions is not None and any(companions[node] for node in left):
        left = [max(left, key=lambda node: companions[node])]  # only the node with most of them; the first of equals
    return left


def node_loads(nodes: Nodes) -> FloatArray:
    """Load ``[node]``: the mean of the shares of CPU and memory in use."""
    return (nodes.used_cores / nodes.cores + nodes.used_mib / nodes.memory_mib) / 2.0


def imbalance(loads: FloatArray) -> float:
    """0 for equal loads, 1 when one node has it all: coefficient of variation over its maximum, sqrt(N - 1)."""
    return float(_imbalances(np.asarray(loads, float)))


def _imbalances(loads: FloatArray) -> FloatArray:
    """The same over the last axis."""
    count = loads.shape[-1]
    if count < 2:
        return np.zeros(loads.shape[:-1])
    mean = loads.sum(axis=-1) / count
    deviation = np.sqrt(((loads - mean[..., None]) ** 2).sum(axis=-1) / count)
    return np.where(mean == 0.0, 0.0, deviation / np.where(mean == 0.0, 1.0, mean)) / math.sqrt(count - 1)


def count_round(
    rounds: int, imbalance: float, threshold: float = THRESHOLD, hold_rounds: int = HOLD_ROUNDS
) -> tuple[int, bool]:
    """Rounds above the threshold after this one, and whether to act now (the count then starts anew).

    A round in which a move is queued or under way is not to be counted at all.
    """
    if imbalance <= threshold:
        return 0, False
    return (0, True) if rounds + 1 >= hold_rounds else (rounds + 1, False)


def balancing_move(
    nodes: Nodes,
    services: Services,
    allowed: BoolArray | None = None,
    method: str = "bruteforce",
    margin: float = MARGIN,
) -> tuple[int, int] | None:
    """The one move (service, node) that balances best, or None if it does not lower the imbalance by the margin.

    Imbalance is that of what `nodes` use, guests outside of `services` included; those are never moved.

    Args:
        nodes: as measured in dynamic mode, by maxima in static mode.
        services: which may be moved.
        allowed: ``[service, node]``, False where it must not go; everywhere without it.
        method: ``bruteforce`` (least imbalance afterwards) or ``topsis`` (the criteria of a start, on the state afterwards).
        margin: share of the imbalance that must go.

    Raises:
        InputError: for another method.
    """
    if method not in ("bruteforce", "topsis"):
        raise InputError(f"method={method!r}: expected bruteforce or topsis")
    service, node = _candidates(services, len(nodes.cores), allowed)
    before = imbalance(node_loads(nodes))
    if not len(service) or before == 0.0:
        return None
    cpu = _after(nodes.used_cores, services.node[service], node, services.used_cores[service]) / nodes.cores
    memory = _after(nodes.used_mib, services.node[service], node, services.used_mib[service]) / nodes.memory_mib
    # Rounding must not decide between equals, so the digits that mean nothing are cut off.
    after = np.trunc(SIGNIFICANT * _imbalances((cpu + memory) / 2.0)) / SIGNIFICANT
    best = int(np.argmin(after) if method == "bruteforce" else np.argmax(topsis(criteria(cpu, memory))))
    enough = (before - after[best]) / before >= margin
    return (int(service[best]), int(node[best])) if enough else None


def _candidates(services: Services, nodes: int, allowed: BoolArray | None) -> tuple[IntArray, IntArray]:
    """Services and targets of all moves that may be made, in the order in which ties are broken."""
    count = len(services.node)
    may = np.ones((count, nodes), bool) if allowed is None else np.array(allowed, bool)
    may[np.arange(count), services.node] = False
    service, node = np.nonzero(may)
    return service, node


def _after(used: FloatArray, source: IntArray, target: IntArray, amount: FloatArray) -> FloatArray:
    """Use ``[move, node]`` after each move; what leaves cannot leave less than nothing (measurements may disagree)."""
    moves = np.arange(len(source))
    after = np.tile(used, (len(source), 1))
    after[moves, source] = np.maximum(0.0, used[source] - amount)
    after[moves, target] += amount
    return after
