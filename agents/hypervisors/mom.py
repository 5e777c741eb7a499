"""MOM, oVirt's Memory Overcommitment Manager: balloons and page sharing from how much of a host is free.

While a fifth of RAM is free every guest grows by 5 % a cycle; while less is free every guest shrinks by 5 %, but not into
what it uses and a share of free memory that falls with the host's own. At 5 % of RAM free or less that share is negative:
guests are to swap. Steps below 0.25 % of a guest are not sent. A guest below its guaranteed minimum gets it at once. What is
free or used is the mean of the last ten samples. The rules (`shrink`, `grow`, `guarantee`, `balloon`) take memory in any one
unit; the policy counts KiB and cuts fractions, as the original.

Two variants. vdsm (oVirt's host agent): samples and decides every 15 s, also grows by the scaled share. Upstream: samples
every 5 s, decides every 10 s, grows until a fifth of the guest is free. A third, older one is a known bug and not here.

Sees balloon statistics. A guest that does not report free memory is left alone, but for its guarantee; samples without it
do not count in means. Fails when: a guest is full of page cache, which is not free to it (spared until the host is
nearly full); many guests shrink together (there is no sum of what is missing); load changes within the 150 s of its mean.
It sees swapping and ignores it.

Surrogate. The host's free memory is MemFree, Buffers and Cached; telemetry's available memory stands for it. Page sharing
follows ``ksmtuned`` from the kernel's own first batch, with committed memory as the address space of VM processes: here
memory and overhead of all running VMs, which no balloon lowers. Left out: NUMA, unmerging, rules for CPU and I/O, the
standalone rules' sleep below 10 ms on large hosts.

Edge cases. No statistics: to vdsm's variant the guest has its guarantee and nothing else happens to it; upstream's
collectors demand all statistics, so to it there is no such guest, and not even the guarantee holds. Frozen: libvirt
gives the last values at once, and MOM does not look at their age. Windows: free memory includes caches, so a guest
full of cache shrinks like an empty one. Start: a guest is taken as it started (full size, where nobody says
otherwise) and grows by its rules. Limits: none are known; no guarantee is one of 0.

Sources: rules, constants and periods of oVirt's vdsm (``mom.d/02-balloon.policy``, ``03-ksm.policy``, ``mom.conf.in``) and of
mom (``doc/balloon.rules``, ``doc/balloon-qos.rules``, ``doc/mom-balloon.conf``, ``mom/Entity.py``, ``mom/Controllers``,
``mom/Collectors/HostKSM.py``), re-implemented from a description.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hvgym.agents.hypervisors import ksmtuned
from hvgym.agents.hypervisors.ksmtuned import KIB_PER_MIB
from hvgym.agents.policy import Policy
from hvgym.agents.readings import least_mib
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

KERNEL_BATCH_PAGES = 100
"""Linux's pages_to_scan until somebody changes it."""

KSM_FREE_SHARE = 0.20
"""Page sharing runs at full pace while less of a host is free."""


@dataclass(frozen=True)
class Rules:
    """Constants of the balloon rules: shares of the host, of a guest's free memory, and of a guest's size."""

    pressure_threshold: float = 0.20
    pressure_critical: float = 0.05
    min_guest_free: float = 0.20
    max_change: float = 0.05
    min_change: float = 0.0025
    scaled_growth: bool = True
    enabled: bool = True


@dataclass(frozen=True)
class Guest:
    """One guest: bounds, size now and on average, free memory on average; None when the latest is not known."""

    minimum: float
    maximum: float
    size: float
    mean_size: float
    mean_free: float | None


def scaled_free_share(host_free: float, rules: Rules) -> float:
    """Share of its size that a guest should have free, by the share of the host that is; jumps from 0.05 to 0."""
    if host_free <= rules.pressure_critical:
        return host_free - rules.pressure_critical
    return rules.min_guest_free * (host_free / rules.pressure_threshold)


def needed(guest: Guest, mean_free: float, free_share: float) -> float:
    """What a guest uses and a share of free memory, at least its minimum."""
    return max(guest.minimum, guest.mean_size - mean_free + free_share * guest.size)


def large_enough(guest: Guest, size: float, rules: Rules) -> bool:
    """Whether a change is worth a command."""
    return abs(size - guest.size) > rules.min_change * guest.size


def shrink(guest: Guest, mean_free: float, host_free: float, rules: Rules) -> float | None:
    """Size of a guest under pressure; None sends nothing."""
    least = needed(guest, mean_free, scaled_free_share(host_free, rules))
    size = max(guest.size * (1 - rules.max_change), least)
    return size if size <= guest.size and large_enough(guest, size, rules) else None


def grow(guest: Guest, mean_free: float, host_free: float, rules: Rules) -> float | None:
    """Size of a guest with memory to spare; None sends nothing."""
    if guest.size >= guest.maximum:
        return None
    free_share = scaled_free_share(host_free, rules) if rules.scaled_growth else rules.min_guest_free
    size = max(guest.size * (1 + rules.max_change), needed(guest, mean_free, free_share))
    size = min(size, guest.maximum)
    return size if large_enough(guest, size, rules) else None


def guarantee(guest: Guest) -> float | None:
    """The minimum of a guest that is below it."""
    return guest.minimum if guest.size < guest.minimum else None


def balloon(guest: Guest, host_free: float, rules: Rules) -> float | None:
    """All rules in their order: a guarantee overrides; None sends nothing."""
    guaranteed = guarantee(guest)
    if guaranteed is not None or guest.mean_free is None:
        return guaranteed
    pressed = host_free < rules.pressure_threshold and rules.enabled
    return (shrink if pressed else grow)(guest, guest.mean_free, host_free, rules)


class _Lane:
    """What MOM remembers of one host: samples (KiB) of the host and of each guest, the scanner's batch."""

    def __init__(self, vms: int, history: int, statistics_optional: bool) -> None:
        self.statistics_optional = statistics_optional
        self.complete = [False] * vms
        self.host_free: deque[float] = deque(maxlen=history)
        self.sizes: list[deque[float]] = [deque(maxlen=history) for _ in range(vms)]
        self.frees: list[deque[float]] = [deque(maxlen=history) for _ in range(vms)]
        self.batch_pages = KERNEL_BATCH_PAGES
        self.decides_at_s = -math.inf

    def sample(self, vm: np.ndarray, host: np.void) -> None:
        """Keep one reading, ``[vm]``; a VM that does not run is no guest, nor one of which too little is known."""
        self.host_free.append(_kib(host["available_mib"]))
        columns = (vm[name].tolist() for name in ("running", "size_mib", "guest_free_mib"))
        for index, (runs, size, free) in enumerate(zip(*columns, strict=True)):
            self.complete[index] = self.statistics_optional or not math.isnan(size + free)
            if runs > 0.0 and self.complete[index]:
                self.sizes[index].append(_kib(size))
                self.frees[index].append(_kib(free))
            elif runs <= 0.0:
                self.sizes[index].clear()
                self.frees[index].clear()

    def guest(self, index: int, minimum: float, maximum: float) -> Guest | None:
        """The guest as the rules see it; None when it is none or its size is not known."""
        sizes, frees = self.sizes[index], self.frees[index]
        if not sizes or math.isnan(sizes[-1]) or not self.complete[index]:
            return None
        free = None if math.isnan(frees[-1]) else _mean(frees)
        return Guest(_kib(minimum), _kib(maximum), sizes[-1], _mean(sizes), free)


class Mom(Policy):
    """Applies `balloon`, and its rule of page sharing, to every host of the batch."""

    visibility = Visibility.P1

    def __init__(
        self,
        monitor_s: float = 15.0,
        engine_s: float = 15.0,
        history: int = 10,
        scaled_growth: bool = True,
        enabled: bool = True,
        ksm: bool = True,
        statistics_optional: bool = True,
        pressure_threshold: float = 0.20,
        pressure_critical: float = 0.05,
        min_guest_free: float = 0.20,
        max_change: float = 0.05,
        min_change: float = 0.0025,
    ) -> None:
        self.period_s = monitor_s
        self.engine_s = engine_s
        self.history = history
        self.ksm = ksm
        self.statistics_optional = statistics_optional
        self.rules = Rules(
            pressure_threshold, pressure_critical, min_guest_free, max_change, min_change, scaled_growth, enabled
        )

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self.lanes = [_Lane(first.vm.shape[1], self.history, self.statistics_optional) for _ in first.vm]

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        sizes, rates = np.full(telemetry.vm.shape, np.nan), np.full(telemetry.host.shape, np.nan)
        for index, lane in enumerate(self.lanes):
            vm, host, now_s = telemetry.vm[index], telemetry.host[index, 0], float(telemetry.time_s[index])
            lane.sample(vm, host)
            if now_s >= lane.decides_at_s:
                lane.decides_at_s = now_s + self.engine_s
                sizes[index] = self._sizes(lane, vm, host)
                rates[index, 0] = _scan_pages_per_s(lane, vm, host)
        return Targets(sizes, scan_pages_per_s=rates if self.ksm else None)

    def _sizes(self, lane: _Lane, vm: np.ndarray, host: np.void) -> list[float]:
        """Sizes to ask for, ``[vm]`` in MiB."""
        host_free = _mean(lane.host_free) / _kib(host["total_mib"])
        asked = []
        for index, (minimum, maximum) in enumerate(zip(least_mib(vm).tolist(), vm["memory_mib"].tolist(), strict=True)):
            guest = lane.guest(index, minimum, maximum)
            size = None if guest is None else balloon(guest, host_free, self.rules)
            asked.append(math.nan if size is None else int(size) / KIB_PER_MIB)
        return asked


def _scan_pages_per_s(lane: _Lane, vm: np.ndarray, host: np.void) -> float:
    """Rate of page sharing; the batch is kept in the lane."""
    total, runs = _kib(host["total_mib"]), vm["running"] > 0.0
    committed = _kib((vm["memory_mib"] + vm["overhead_mib"])[runs].sum())
    pages = ksmtuned.step(lane.batch_pages, total, _mean(lane.host_free), committed, KSM_FREE_SHARE * total)
    lane.batch_pages = lane.batch_pages if pages is None else pages
    return ksmtuned.scan_pages_per_s(pages, ksmtuned.sleep_ms(int(total)))


def _kib(mib: float) -> float:
    return mib if math.isnan(mib) else float(round(mib * KIB_PER_MIB))


def _mean(values: Iterable[float]) -> float:
    """Of what is known."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known)
