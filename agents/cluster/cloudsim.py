"""CloudSim's consolidation (Beloglazov and Buyya): empty overloaded hosts until they are not, then empty idle hosts entirely.

Every five minutes a detector says which hosts are overloaded (`thr`, `mad`, `iqr`, `lr`), a selector takes VMs from them
one by one (`smallest_memory` MMT, `lowest_use` MU, `any_vm` RS, `most_correlated` MC), and PABFD places these, the largest
first, each where power rises least. Then the least used host gives up all its VMs or none, again and again.

`optimise` is one such round; detectors and selectors are functions that it is given. CPU in cores: a VM's demand is what
it asks for now, a host's use the sum of it. Left out: speed of single CPUs, disks, VMs that migrate in (their use counts
at a tenth on the target meanwhile), the robust refit of LRR: it gives LR's line (see `lr`).

State outside of these functions: the VMs' histories (`remembered` adds a sample), the generator of RS.

Source: Cloudslab/cloudsim 2025-09, packages ``power`` and ``util``, as facts of a reading; Beloglazov and Buyya 2012
(Concurrency and Computation 24:13).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

PERIOD_S = 300.0
HISTORY = 30
"""Samples that are kept of a VM."""

LEAST_SAMPLES = 12
"""MAD and IQR need as many."""

LR_SAMPLES = 10
THR, MAD_SAFETY, IQR_SAFETY, LR_SAFETY = 0.8, 2.5, 1.5, 1.2
"""Of the examples; the class of THR has 0.9 by itself."""

FALLBACK = 0.7
"""Threshold where the history is too short."""

LINK_UNITS = 16000.0
"""A link's bandwidth in kbit/s over this is MB/s of half the link: migrations get half."""

MIGRATION_LOSS = 0.1
"""Of CPU, for a VM while it migrates."""

POWER_G4_W = np.array([86.0, 89.4, 92.6, 96.0, 99.5, 102.0, 106.0, 108.0, 112.0, 114.0, 117.0])
POWER_G5_W = np.array([93.7, 97.0, 101.0, 105.0, 110.0, 116.0, 121.0, 125.0, 129.0, 133.0, 135.0])
"""SPECpower_ssj2008 of HP ProLiant ML110 G4 (Xeon 3040) and G5 (Xeon 3075), at 0, 10, … 100 % of load."""

ROUNDING = 1e-9


@dataclass(frozen=True)
class Cluster:
    """Readings of one cluster."""

    host_cores: np.ndarray
    """``[host]``."""
    host_mib: np.ndarray
    """``[host]``, memory for VMs."""
    host_kbit_per_s: np.ndarray
    """``[host]``, of its link."""
    power_w: np.ndarray
    """``[host, 11]``, at 0 to 100 % of load."""
    vm_host: np.ndarray
    """``[vm]``, host index; negative where it does not run."""
    vm_demand: np.ndarray
    """``[vm]``, cores it asks for now."""
    vm_cores: np.ndarray
    """``[vm]``, cores it has."""
    vm_mib: np.ndarray
    """``[vm]``, its memory."""
    history: np.ndarray
    """``[vm, sample]``, cores it used, the newest first; 0 where there is no sample."""
    migrating: np.ndarray
    """``[vm]``, whether it migrates: it is not moved again."""
    allowed: np.ndarray | None = None
    """``[vm, host]``, where a VM may go; None: anywhere, as the original has it."""


Detector = Callable[[np.ndarray, float, float], bool]
"""Whether a host is overloaded, from its history (shares of its cores, the newest first, no zeros at the end), its use now
(a share), and the longest migration of its VMs in seconds."""

Selector = Callable[[Cluster, np.ndarray], int]
"""Which of these VMs (at least one, all on one host) goes."""


def remembered(history: np.ndarray, used_cores: np.ndarray) -> np.ndarray:
    """A history with a sample more, the newest first; the oldest goes."""
    return np.concatenate([used_cores[:, None], history], axis=1)[:, :HISTORY]


def thr(history: np.ndarray, use: float, migration_s: float, threshold: float = THR) -> bool:
    """Static threshold."""
    return use > threshold


def mad(history: np.ndarray, use: float, migration_s: float, safety: float = MAD_SAFETY) -> bool:
    """Threshold below 1 by the median absolute deviation of the history."""
    if len(history) < LEAST_SAMPLES:
        return thr(history, use, migration_s, FALLBACK)
    return use > 1.0 - safety * _median(np.abs(history - _median(history)))


def iqr(history: np.ndarray, use: float, migration_s: float, safety: float = IQR_SAFETY) -> bool:
    """Threshold below 1 by the interquartile range of the history; quartiles are single samples, no interpolation."""
    if len(history) < LEAST_SAMPLES:
        return thr(history, use, migration_s, FALLBACK)
    ordered, count = np.sort(history), len(history)
    first, third = (math.floor(share * (count + 1) + 0.5) - 1 for share in (0.25, 0.75))
    return use > 1.0 - safety * float(ordered[third] - ordered[first])


def lr(history: np.ndarray, use: float, migration_s: float, safety: float = LR_SAFETY) -> bool:
    """A line through the last ten samples, and whether it reaches the top by the time a VM has left.

    QUIRK: the weights of the local regression (and of LRR's refit) are applied only where two fifths of them are zero,
    which never happens, so it is plain least squares. QUIRK: use now is not looked at.
    """
    if len(history) < LR_SAMPLES:
        return thr(history, use, migration_s, FALLBACK)
    x = np.arange(1.0, LR_SAMPLES + 1.0)
    y = history[LR_SAMPLES - 1 :: -1]
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    ahead = LR_SAMPLES + math.ceil(migration_s / PERIOD_S)
    return bool(safety * (y.mean() + slope * (ahead - x.mean())) >= 1.0)


def migration_s(mib: float, kbit_per_s: float) -> float:
    """How long a VM takes over half the link."""
    return mib / (kbit_per_s / LINK_UNITS)


def power_of(points_w: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Power in W of hosts, ``[host, 11]``, at a share of load, ``[host]`` in 0 to 1, linear between the eleven points."""
    below = np.minimum(use * 10.0, 9.0).astype(int)
    hosts = np.arange(len(use))
    low, high = points_w[hosts, below], points_w[hosts, below + 1]
    return low + (use * 10.0 - below) * (high - low)


def smallest_memory(cluster: Cluster, vms: np.ndarray) -> int:
    """MMT, minimum migration time; of equals the first."""
    return int(vms[np.argmin(cluster.vm_mib[vms])])


def lowest_use(cluster: Cluster, vms: np.ndarray) -> int:
    """MU: the least use of the VM's own cores."""
    return int(vms[np.argmin(cluster.vm_demand[vms] / cluster.vm_cores[vms])])


def any_vm(cluster: Cluster, vms: np.ndarray, rng: np.random.Generator) -> int:
    """RS: at random."""
    return int(vms[rng.integers(len(vms))])


def most_correlated(cluster: Cluster, vms: np.ndarray, fallback: Selector = smallest_memory) -> int:
    """MC: the VM whose history the others' explain best (coefficient of determination of the regression on all of them).

    Without more samples than VMs there is no regression, and `fallback` (MMT in the examples) decides.
    """
    samples = min((_samples(cluster.history[vm]) for vm in vms), default=0)
    if samples <= len(vms):
        return fallback(cluster, vms)
    return int(vms[np.argmax(determination(cluster.history[vms][:, :samples]))])


def determination(history: np.ndarray) -> np.ndarray:
    """Of each row, R² of its regression on the other rows and a constant; 0 for a row that does not vary.

    The diagonal of the inverse of the correlations gives all at once; rows that say the same have one that is nearly 1.
    """
    found = np.zeros(len(history))
    centred = history - history.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1))
    vary = length > ROUNDING
    if vary.sum() > 1:
        unit = centred[vary] / length[vary][:, None]
        inverse = np.linalg.inv(unit @ unit.T + ROUNDING * np.eye(len(unit)))
        found[vary] = 1.0 - 1.0 / np.diag(inverse)
    return found


def optimise(cluster: Cluster, detector: Detector, selector: Selector) -> list[tuple[int, int]]:
    """One round: moves, pairs of VM and new host.

    VMs that find no place stay. QUIRK: a host that has just been given VMs of an overloaded one may be emptied in the same
    round; such a VM goes to its last host at once.
    """
    now = _Placement(cluster, detector)
    over = [host for host in range(len(cluster.host_cores)) if now.overloaded(host)]
    moves = dict(_place(now, relieve(now, over, selector), set(over), all_or_none=False))
    moves.update(_empty_idle(now, set(over)))
    return list(moves.items())


def overloaded_hosts(cluster: Cluster, detector: Detector) -> list[int]:
    """Hosts that the detector finds overloaded."""
    now = _Placement(cluster, detector)
    return [host for host in range(len(cluster.host_cores)) if now.overloaded(host)]


def place_all(
    cluster: Cluster, vms: Iterable[int], excluded: Iterable[int], detector: Detector
) -> list[tuple[int, int]]:
    """PABFD for VMs that do not run: those that fit nowhere are missing."""
    return _place(_Placement(cluster, detector), list(vms), set(excluded), all_or_none=False)


class _Placement:
    """Who is where while a round is worked out."""

    def __init__(self, cluster: Cluster, detector: Detector) -> None:
        self.cluster = cluster
        self.detector = detector
        self.host = cluster.vm_host.copy()
        self.used = np.zeros(len(cluster.host_cores))
        self.used_mib = np.zeros(len(cluster.host_cores))
        self.history = np.zeros((len(cluster.host_cores), cluster.history.shape[1]))
        for vm in np.flatnonzero(cluster.vm_host >= 0).tolist():
            self._count(vm, int(cluster.vm_host[vm]), 1.0)

    def _count(self, vm: int, host: int, sign: float) -> None:
        self.used[host] += sign * self.cluster.vm_demand[vm]
        self.used_mib[host] += sign * self.cluster.vm_mib[vm]
        self.history[host] += sign * self.cluster.history[vm]

    def put(self, vm: int, host: int) -> None:
        """Move a VM; -1 takes it off its host."""
        if self.host[vm] >= 0:
            self._count(vm, int(self.host[vm]), -1.0)
        if host >= 0:
            self._count(vm, host, 1.0)
        self.host[vm] = host
        self.used[self.used < ROUNDING] = 0.0
        self.history[self.history < ROUNDING] = 0.0

    def movable(self, host: int) -> np.ndarray:
        """VMs on a host that do not migrate."""
        return np.flatnonzero((self.host == host) & ~self.cluster.migrating)

    def use(self, host: int) -> float:
        """Share of the host's cores that is asked for."""
        return float(self.used[host] / self.cluster.host_cores[host])

    def overloaded(self, host: int, with_vm: int | None = None) -> bool:
        """What the detector says, of the host as it is or with a VM more.

        A host's history is the sum of its VMs' histories: it comes and goes with them.
        """
        cores, there = self.cluster.host_cores[host], self.host == host
        used, history = self.used[host], self.history[host]
        if with_vm is not None:
            used, history = used + self.cluster.vm_demand[with_vm], history + self.cluster.history[with_vm]
            there[with_vm] = True
        longest = migration_s(self.cluster.vm_mib[there].max(initial=0.0), self.cluster.host_kbit_per_s[host])
        return self.detector(history[: _samples(history)] / cores, float(used / cores), longest)

    def best_host(self, vm: int, excluded: set[int]) -> int | None:
        """Where power rises least, among hosts that the VM fits and does not overload; of equals the first.

        An empty host is not asked whether it would be overloaded. QUIRK: it is taken to draw its idle power already.
        """
        cluster = self.cluster
        after = self.used + cluster.vm_demand[vm]
        fits = (after <= cluster.host_cores + ROUNDING) & (
            self.used_mib + cluster.vm_mib[vm] <= cluster.host_mib + ROUNDING
        )
        if cluster.allowed is not None:
            fits &= cluster.allowed[vm]
        rise_w = power_of(cluster.power_w, np.minimum(1.0, after / cluster.host_cores))
        rise_w -= power_of(cluster.power_w, np.minimum(1.0, self.used / cluster.host_cores))
        for host in np.argsort(rise_w.round(9), kind="stable").tolist():
            if fits[host] and host not in excluded and not (self.used[host] and self.overloaded(host, with_vm=vm)):
                return int(host)
        return None


def relieve(now: _Placement, over: Iterable[int], selector: Selector) -> list[int]:
    """Take VMs off overloaded hosts until these are so no more."""
    taken = []
    for host in over:
        while len(vms := now.movable(host)):
            taken.append(selector(now.cluster, vms))
            now.put(taken[-1], -1)
            if not now.overloaded(host):
                break
    return taken


def _place(now: _Placement, vms: list[int], excluded: set[int], all_or_none: bool) -> list[tuple[int, int]]:
    """PABFD: largest demand first."""
    moves: list[tuple[int, int]] = []
    before = {vm: int(now.host[vm]) for vm in vms}
    for vm in sorted(vms, key=lambda vm: -now.cluster.vm_demand[vm]):
        host = now.best_host(vm, excluded)
        if host is not None:
            now.put(vm, host)
            moves.append((vm, host))
        elif all_or_none:
            for moved, _ in moves:
                now.put(moved, before[moved])
            return []
    return moves


def _empty_idle(now: _Placement, over: set[int]) -> list[tuple[int, int]]:
    """All VMs of the least used host that is on, or none; then of the next. Hosts that took VMs so are left alone."""
    off = {host for host in range(len(now.used)) if now.used[host] == 0.0}
    done, excluded = over | off, over | off
    moves: list[tuple[int, int]] = []
    while idle := [host for host in range(len(now.used)) if host not in done and _may_be_emptied(now, host)]:
        host = min(idle, key=now.use)
        done, excluded = done | {host}, excluded | {host}
        found = _place(now, now.movable(host).tolist(), excluded, all_or_none=True)
        done |= {target for _, target in found}
        moves += found
    return moves


def _may_be_emptied(now: _Placement, host: int) -> bool:
    """On, not full, and with a VM that does not migrate already."""
    return 0.0 < now.use(host) < 1.0 and len(now.movable(host)) > 0


def _median(values: np.ndarray) -> float:
    ordered, half = np.sort(values), len(values) // 2
    return float(ordered[half] + ordered[-half - 1]) / 2.0


def _samples(history: np.ndarray) -> int:
    """Length without zeros at the end."""
    found = np.flatnonzero(history)
    return int(found[-1]) + 1 if len(found) else 0
