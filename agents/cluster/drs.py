"""DRS-classic-S and DRS2-S: surrogates of VMware's Distributed Resource Scheduler, which is published in part only.

Classic (up to vSphere 6.7). Every five minutes: load of a host is what its VMs are entitled to over its capacity; the
cluster's imbalance is the standard deviation of loads. Greedily the move that lowers it most is taken, if it pays, until
the deviation is at the slider's target. Published: deviation, priorities and slider, memory demand, the form of the
cost-benefit test. Ours: loads of CPU and memory are two deviations and the larger counts; what a move costs and gains; the
target as the priorities' formula solved for the deviation.

DRS 2 (7.0 and later). Every minute each VM has a score on each host and moves where it is better off by a margin.
Published: that, and what is looked at. Ours: score, margins and penalty, and that the scores of all VMs together must rise, without
which VMs of a cluster that is short chase each other.

Left out of both: affinity, network, hardware generations, resource pools; entitlements are given, not divided here.

Sources: vbrownbag.com 2010/06 (priorities); frankdenneman.nl 2013/01/15, 2018/01/15 (moves per host, memory demand);
VMware's technical journal on DRS (cost and benefit; abstract); core.vmware.com on the DRS score.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

PERIOD_S, PERIOD_2_S = 300.0, 60.0

SLIDER = 3
"""Default of 1 (mandatory moves only) to 5."""

STEP = 0.1
"""Of deviation times the root of the number of hosts, between two priorities."""

OVERHEAD = 0.06
"""Of capacity, that DRS keeps aside beside what HA reserves."""

IDLE_TAX = 0.25
"""Of memory that is consumed and not active, how much counts as demand."""

MIGRATION_CORES = 0.3
"""CPU that a migration is taken to cost; vMotion reserves as much on a 1 Gb/s link."""

STABLE_S = 300.0
"""How long a load is taken to last: ours, one period."""

LINK_CAP = 8
"""Migrations at once on a 10 Gb/s link."""

MARGINS = {1: math.inf, 2: 20.0, 3: 10.0, 4: 5.0, 5: 1.0}
"""DRS2-S: score points by which a host must be better, by slider; a guess, half a bucket of the display by default."""

MIGRATION_SLOWDOWN = 0.1
"""DRS2-S: what a VM loses while it moves; a guess (CloudSim's figure)."""

ROUNDING = 1e-9


@dataclass(frozen=True)
class Cluster:
    """Readings of one cluster; the second axis of entitlements and capacities is CPU in cores, memory in MiB."""

    capacity: np.ndarray
    """``[host, 2]``, as of `usable_capacity`."""
    entitlement: np.ndarray
    """``[vm, 2]``, what each VM should get."""
    vm_host: np.ndarray
    """``[vm]``, host index; negative where it does not run."""
    movable: np.ndarray
    """``[vm, host]``, whether the VM may move there."""
    migration_s: np.ndarray
    """``[vm]``, how long its move would take."""
    dirty_mib: np.ndarray
    """``[vm]``, memory it writes meanwhile, which its target must find beside what it is entitled to."""


Move = tuple[int, int]
"""A VM and its new host."""


def usable_capacity(total: np.ndarray, reserved: np.ndarray) -> np.ndarray:
    """Capacity less what HA reserves and DRS keeps aside."""
    return (total - reserved) * (1.0 - OVERHEAD)


def memory_demand_mib(active_mib: np.ndarray, consumed_mib: np.ndarray, overhead_mib: np.ndarray) -> np.ndarray:
    """Active memory, a quarter of what is consumed beyond, and overhead."""
    return active_mib + IDLE_TAX * np.maximum(0.0, consumed_mib - active_mib) + overhead_mib


def loads(cluster: Cluster) -> np.ndarray:
    """``[host, 2]``, entitlements over capacity."""
    used = np.zeros_like(cluster.capacity)
    running = cluster.vm_host >= 0
    np.add.at(used, cluster.vm_host[running], cluster.entitlement[running])
    return used / cluster.capacity


def imbalance(load: np.ndarray) -> float:
    """Standard deviation over hosts, ``[host]`` or the larger of ``[host, resource]``."""
    return float(np.max(np.std(load, axis=0)))


def priority(deviation: float, hosts: int) -> int:
    """Stars of a recommendation: 2 is urgent, 5 barely worth it, 6 nothing; 1 is for what rules demand only."""
    stars = 6 - math.ceil(deviation / STEP * math.sqrt(hosts) - ROUNDING)
    return min(max(stars, 2), 6)


def target_deviation(slider: int, hosts: int) -> float:
    """Deviation above which moves of a priority that the slider allows exist; none at slider 1."""
    return math.inf if slider <= 1 else (5 - slider) * STEP / math.sqrt(hosts)


def max_moves_per_host(mean_migration_s: float, link_cap: int = LINK_CAP) -> int:
    """Migrations of a host that fit into a period, one after another, but no more than the link takes at once."""
    return min(math.floor(PERIOD_S / mean_migration_s), link_cap)


def balance(cluster: Cluster, slider: int = SLIDER, most_per_host: int = LINK_CAP) -> list[Move]:
    """DRS-classic-S: moves of one period, in order."""
    moves: list[Move] = []
    done = np.zeros(len(cluster.capacity), dtype=int)
    target = target_deviation(slider, len(cluster.capacity))
    while imbalance(loads(cluster)) > target + ROUNDING:
        found = _best_move(cluster, done < most_per_host)
        if found is None:
            break
        vm, host = found
        done[[cluster.vm_host[vm], host]] += 1
        cluster = _moved(cluster, vm, host)
        moves.append(found)
    return moves


def goodness(cluster: Cluster) -> np.ndarray:
    """``[vm, host]``, by how much the imbalance falls if the VM moves there; -inf where it may not or is."""
    load = loads(cluster)
    running = np.flatnonzero(cluster.vm_host >= 0)
    source = cluster.vm_host[running]
    count, total, squares = len(load), load.sum(axis=0), (load**2).sum(axis=0)
    at_source = load[source] - cluster.entitlement[running] / cluster.capacity[source]
    at_target = load[None, :, :] + cluster.entitlement[running][:, None, :] / cluster.capacity[None, :, :]
    sums = total + (at_source - load[source])[:, None, :] + at_target - load[None]
    square_sums = squares + (at_source**2 - load[source] ** 2)[:, None, :] + at_target**2 - load[None] ** 2
    after = np.sqrt(np.maximum(0.0, square_sums / count - (sums / count) ** 2)).max(axis=2)
    result = np.full((len(cluster.vm_host), count), -np.inf)
    result[running] = imbalance(load) - after
    result[running, source] = -np.inf
    return np.where(cluster.movable, result, -np.inf)


def worth(cluster: Cluster) -> np.ndarray:
    """``[vm, host]``, benefit less cost of each move in core-seconds; it pays when that is not negative.

    The benefit is what more is served for as long as loads are taken to last; served is what of the entitlements fits into
    the two hosts, and a share of a host's memory is worth the same share of its cores. The cost is CPU of the migration,
    and the memory written meanwhile, which its target must find besides.
    """
    load, capacity, source = loads(cluster), cluster.capacity, np.maximum(cluster.vm_host, 0)
    at_source = load[source] - cluster.entitlement / capacity[source]
    at_target = load[None] + cluster.entitlement[:, None] / capacity[None]
    lost = (np.minimum(at_source, 1.0) - np.minimum(load[source], 1.0)).sum(axis=1) * capacity[source, 0]
    won = (np.minimum(at_target, 1.0) - np.minimum(load, 1.0)).sum(axis=2) * capacity[:, 0]
    claimed = cluster.dirty_mib[:, None] * capacity[:, 0] / capacity[:, 1]
    return (lost[:, None] + won) * STABLE_S - (MIGRATION_CORES + claimed) * cluster.migration_s[:, None]


def _best_move(cluster: Cluster, free: np.ndarray) -> Move | None:
    """The move that lowers imbalance most and pays, between hosts that may still migrate; of equals the first."""
    may = free[None] & free[cluster.vm_host][:, None] & (worth(cluster) >= 0.0)
    good = np.where(may, goodness(cluster), -np.inf)
    vm, host = divmod(int(np.argmax(good)), good.shape[1])
    return (vm, host) if good[vm, host] > ROUNDING else None


def _moved(cluster: Cluster, vm: int, host: int) -> Cluster:
    where = cluster.vm_host.copy()
    where[vm] = host
    return replace(cluster, vm_host=where)


def score(
    ready: np.ndarray, swap_stall: np.ndarray, ballooned: np.ndarray, headroom: np.ndarray, burst: np.ndarray
) -> np.ndarray:
    """DRS2-S: how well a VM is off, 0 to 100; arrays of any one shape.

    Shares of time it waited for a CPU and for swap-in, share of its memory that the balloon holds, and what its host has
    to spare for it over what it may need at once (1 if that is nothing).
    """
    spare = np.minimum(1.0, headroom / np.where(burst > 0.0, burst, 1.0))
    spare = np.where(burst > 0.0, np.maximum(spare, 0.0), 1.0)
    return 100.0 * (1.0 - ready) * (1.0 - swap_stall) * (1.0 - ballooned) * spare


def cluster_score(scores: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean of the VMs' scores; 100 when there are none."""
    total = float(weights.sum())
    return float((scores * weights).sum() / total) if total > 0.0 else 100.0


def scores(cluster: Cluster, burst_cores: np.ndarray, swap_stall: np.ndarray) -> np.ndarray:
    """DRS2-S: ``[vm, host]``, of each VM if it ran there and nothing else moved.

    CPU beyond a host's capacity is time that all its VMs wait alike; memory beyond is ballooned from all alike. Swap-in
    (``[vm]``, a share of time) follows a VM nowhere: it stays where the memory is short.
    """
    count, hosts = len(cluster.vm_host), len(cluster.capacity)
    here = cluster.vm_host[:, None] == np.arange(hosts)[None, :]
    others = (loads(cluster) * cluster.capacity)[None] - np.where(here[..., None], cluster.entitlement[:, None], 0.0)
    total = others + cluster.entitlement[:, None]
    short = 1.0 - np.minimum(1.0, cluster.capacity[None] / np.maximum(total, ROUNDING))
    headroom = cluster.capacity[None, :, 0] - others[..., 0]
    stall = np.where(here, swap_stall[:, None], 0.0)
    burst = np.broadcast_to(burst_cores[:, None], (count, hosts))
    return score(short[..., 0], stall, short[..., 1], headroom, burst)


def migration_penalty(migration_s: np.ndarray) -> np.ndarray:
    """DRS2-S: points that a move costs: what the VM loses meanwhile, over the time that a load is taken to last."""
    return 100.0 * MIGRATION_SLOWDOWN * migration_s / STABLE_S


def improve(
    cluster: Cluster, burst_cores: np.ndarray, swap_stall: np.ndarray, slider: int = SLIDER, most: int = LINK_CAP
) -> list[Move]:
    """DRS2-S: moves of one minute, the largest gain first; a VM moves once, and not where the others lose more than it wins."""
    moves: list[Move] = []
    margin = MARGINS[slider] + migration_penalty(cluster.migration_s)
    now = scores(cluster, burst_cores, swap_stall)
    gains = _gains(cluster, now, margin)
    while len(moves) < most and len(gains):
        vm, host = divmod(int(np.argmax(gains)), gains.shape[1])
        if gains[vm, host] <= ROUNDING:
            break
        gains[vm] = -np.inf
        moved = _moved(cluster, vm, host)
        after = scores(moved, burst_cores, swap_stall)
        if _sum_of_own(moved, after) > _sum_of_own(cluster, now) + ROUNDING:
            cluster, now = moved, after
            moves.append((vm, host))
            gains = _gains(cluster, now, margin)
            gains[[vm for vm, _ in moves]] = -np.inf
    return moves


def _gains(cluster: Cluster, now: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """``[vm, host]``, points that a move wins beyond its margin; -inf where a VM may not go."""
    gains = now - now[np.arange(len(now)), cluster.vm_host][:, None] - margin[:, None]
    return np.where(cluster.movable & (cluster.vm_host >= 0)[:, None], gains, -np.inf)


def _sum_of_own(cluster: Cluster, now: np.ndarray) -> float:
    """Of the VMs' scores where they run."""
    running = np.flatnonzero(cluster.vm_host >= 0)
    return float(now[running, cluster.vm_host[running]].sum())
