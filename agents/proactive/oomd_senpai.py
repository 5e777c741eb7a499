"""Senpai as a plugin of oomd, in its two modes; oomd looks every five seconds.

Classic (`OomdSenpai`): senpai.py's law, with differences that its code makes. Errors are whole numbers (a stall of 1.9 targets
counts as 1), the target itself already backs off, a probe comes every seventh look and not the sixth, and the limit's bounds
are set anew each time: at least what cannot be reclaimed and 100 MiB, at most what is used now and 10 GiB.
Immediate backoff (`OomdImmediate`), nearest to TMO: at the seventh look after the last time, and then at each until it holds,
if memory and I/O pressure are below 0.1 % in both averages, reclaim 1 % of what lies above the lower bound; nothing is
limited afterwards. It can also ask whether swap has room, off by default, and as coded it then goes on only once swap is
80 % full, the opposite of what it is for; `fixed` turns that round.

Fails when: classic, as senpai.py, with a probe in 35 s; immediate, whenever a VM waits for its own disk (I/O pressure), or
when 1 % of a large VM is too little. With swap validation as coded, until swap is nearly full.

Surrogate: ``memory.high`` is reclaim, each second, of what the VM's host RAM exceeds the limit by; ``memory.min`` is the
VM's guaranteed size; what cannot be reclaimed is the VMM's overhead, or all where the host has no swap; both memory averages
are made of the stall total as the kernel makes them, the long one of I/O from the short one. Left out: modulated swappiness
(off by default; a VM's memory is all anonymous), ``memory.high.tmp``, cgroup swap limits, the host's other cgroups. A VM
without a reading is dropped, and taken up anew when it has one.

Edge cases. Guests are asked nothing, so statistics that are missing, frozen or Windows' change nothing. A VM that
starts is followed from the next look on. No minimum is a memory.min of 0. Classic: a limit bounds its own from above
(the original minds memory.max always, memory.high where memory.high.tmp exists; here both); immediate: none is known.

Source: facebookincubator/oomd ``src/oomd/plugins/Senpai.cpp`` and ``Senpai.h``, re-implemented.
"""

import math
from dataclasses import dataclass

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.proactive.senpai import MIB, PAGE, Controlled, Law
from hvgym.agents.proactive.tmo import StallAverage
from hvgym.agents.readings import least_mib, limit_mib
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

ENGINE_S = 5.0
"""Period of oomd's engine by default."""
GROWTH_BYTES = 10 << 30
"""A limit of the classic mode is at most this much above use."""


@dataclass(frozen=True)
class Usage:
    """Memory of a cgroup in bytes. most: memory.max, or the host's RAM where that is less."""

    current: int
    unreclaimable: int
    protected: int
    most: int


def lower_bytes(usage: Usage, min_bytes: int) -> int:
    """Below this a cgroup is not pressed."""
    return max(usage.unreclaimable + min_bytes, usage.protected)


def start(usage: Usage, total_us: int, law: Law) -> Controlled:
    """The classic mode takes over a cgroup: its limit is what it uses."""
    return Controlled(usage.current, total_us, 0, law.interval_ticks)


def tick(seen: Controlled, usage: Usage, total_us: int, law: Law) -> Controlled:
    """Its next look, with the cgroup's stall total at `total_us`; `law.max_bytes` counts from what is used."""
    integral_us = seen.integral_us + total_us - seen.total_us
    if integral_us >= law.target_us:
        error = (integral_us // law.target_us) / law.backoff_coefficient
        share = min(error * error * law.max_backoff_share, law.max_backoff_share)
    elif seen.grace_ticks > 0:
        return Controlled(seen.limit_bytes, total_us, integral_us, seen.grace_ticks - 1)
    else:
        error = (law.target_us // max(integral_us, 1)) / law.probe_coefficient
        share = -min(error * error * law.max_probe_share, law.max_probe_share)
    upper_bytes = min(usage.most, usage.current + law.max_bytes)
    wanted_bytes = int(seen.limit_bytes + seen.limit_bytes * share)
    limit_bytes = max(lower_bytes(usage, law.min_bytes), min(upper_bytes, wanted_bytes)) & ~(PAGE - 1)
    return Controlled(limit_bytes, total_us, 0, law.interval_ticks)


@dataclass(frozen=True)
class ImmediateLaw:
    """Parameters of immediate backoff; pressures are per cent of time."""

    interval_ticks: int = 6
    max_probe_share: float = 0.01
    memory_percent: float = 0.1
    io_percent: float = 0.1
    min_bytes: int = 100 << 20
    swap_threshold: float = 0.8
    swap_validation: bool = False
    fixed: bool = False


@dataclass(frozen=True)
class Pressure:
    """The higher of the 10 s and the 60 s average of ``some``, in per cent."""

    memory: float
    io: float


def swap_is_valid(used_share: float | None, law: ImmediateLaw) -> bool:
    """Swap validation, as coded or fixed; None: the host has no swap."""
    if used_share is None:
        return True
    full = used_share >= law.swap_threshold
    return not full if law.fixed else full


def tick_immediate(
    ticks: int, usage: Usage, pressure: Pressure, swap_used_share: float | None, law: ImmediateLaw
) -> tuple[int, int]:
    """One look: how many to wait from now, and bytes to reclaim."""
    if ticks > 0:
        return ticks - 1, 0
    calm = pressure.memory < law.memory_percent and pressure.io < law.io_percent
    above_bytes = usage.current - lower_bytes(usage, law.min_bytes)
    if not calm or above_bytes <= 0 or (law.swap_validation and not swap_is_valid(swap_used_share, law)):
        return 0, 0
    return law.interval_ticks, int(above_bytes * law.max_probe_share)


@dataclass(frozen=True)
class _Reading:
    usage: Usage
    total_us: int
    io_percent: float


def _read(telemetry: Telemetry, lane: int) -> list[_Reading | None]:
    """The VMs of a host; None for those that do not run or cannot be read."""
    row, host = telemetry.vm[lane], telemetry.host[lane, 0]
    swaps = bool(host["swap_total_mib"] > 0.0)
    names = ("running", "resident_mib", "overhead_mib", "host_psi_some_s", "host_io_psi_some10")
    bounds = (least_mib(row).tolist(), np.minimum(limit_mib(row), host["total_mib"]).tolist())
    columns = (*(row[name].tolist() for name in names), *bounds)
    readings: list[_Reading | None] = []
    for running, resident, overhead, stalled_s, io, least, most in zip(*columns, strict=True):
        if not running or math.isnan(resident + stalled_s):
            readings.append(None)
            continue
        current = int(resident * MIB) & ~(PAGE - 1)
        fixed = int(overhead * MIB) if swaps else current
        usage = Usage(current, fixed, int(least * MIB), int(most * MIB))
        readings.append(_Reading(usage, round(stalled_s * 1e6), io * 100.0))
    return readings


class OomdSenpai(Policy):
    """The classic mode: one limit per VM."""

    period_s = 1.0
    visibility = Visibility.P0

    def __init__(
        self,
        interval_ticks: int = Law.interval_ticks,
        target_us: int = Law.target_us,
        max_probe_share: float = Law.max_probe_share,
        max_backoff_share: float = Law.max_backoff_share,
        probe_coefficient: float = Law.probe_coefficient,
        backoff_coefficient: float = Law.backoff_coefficient,
        min_mib: int = Law.min_bytes // MIB,
        max_mib: int = GROWTH_BYTES // MIB,
    ) -> None:
        shares = (max_probe_share, max_backoff_share, probe_coefficient, backoff_coefficient)
        self.law = Law(interval_ticks, target_us, *shares, min_mib * MIB, max_mib * MIB)
        self._seen: list[list[Controlled | None]] = []
        self._next_s: list[float] = []

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        lanes, vms = first.vm.shape
        self._seen, self._next_s = [[None] * vms for _ in range(lanes)], [-math.inf] * lanes

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        reclaim_mib = np.full(telemetry.vm.shape, np.nan)
        for lane, seen in enumerate(self._seen):
            looks = telemetry.time_s[lane] >= self._next_s[lane]
            if looks:
                self._next_s[lane] = float(telemetry.time_s[lane]) + ENGINE_S
            for index, reading in enumerate(_read(telemetry, lane)):
                now = seen[index] if reading is not None else None
                if looks and reading is not None:
                    usage, total_us = reading.usage, reading.total_us
                    now = start(usage, total_us, self.law) if now is None else tick(now, usage, total_us, self.law)
                seen[index] = now
                if now is not None and reading is not None:
                    reclaim_mib[lane, index] = max(reading.usage.current - now.limit_bytes, 0) / MIB
        return Targets(reclaim_mib=reclaim_mib)


@dataclass
class _Watched:
    """A VM under immediate backoff; `ticks` is None until oomd has looked."""

    average: StallAverage
    seen_s: float
    io_percent: float
    io60_percent: float
    ticks: int | None = None


class OomdImmediate(Policy):
    """Immediate backoff: reclaims, and limits nothing."""

    period_s = 1.0
    visibility = Visibility.P0

    def __init__(
        self,
        interval_ticks: int = ImmediateLaw.interval_ticks,
        max_probe_share: float = ImmediateLaw.max_probe_share,
        memory_percent: float = ImmediateLaw.memory_percent,
        io_percent: float = ImmediateLaw.io_percent,
        min_mib: int = ImmediateLaw.min_bytes // MIB,
        swap_threshold: float = ImmediateLaw.swap_threshold,
        swap_validation: bool = ImmediateLaw.swap_validation,
        fixed: bool = ImmediateLaw.fixed,
    ) -> None:
        least, swap = min_mib * MIB, (swap_validation, fixed)
        self.law = ImmediateLaw(
            interval_ticks, max_probe_share, memory_percent, io_percent, least, swap_threshold, *swap
        )
        self._watched: list[list[_Watched | None]] = []
        self._next_s: list[float] = []

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        lanes, vms = first.vm.shape
        self._watched, self._next_s = [[None] * vms for _ in range(lanes)], [-math.inf] * lanes

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        reclaim_mib = np.full(telemetry.vm.shape, np.nan)
        for lane, watched in enumerate(self._watched):
            now_s, swap_used_share = float(telemetry.time_s[lane]), _swap_used_share(telemetry.host[lane, 0])
            looks = now_s >= self._next_s[lane]
            if looks:
                self._next_s[lane] = now_s + ENGINE_S
            for index, reading in enumerate(_read(telemetry, lane)):
                one = watched[index] = _followed(watched[index], reading, now_s)
                if looks and one is not None and reading is not None:
                    size = self._look(one, reading.usage, swap_used_share)
                    if size > 0:
                        reclaim_mib[lane, index] = size / MIB
        return Targets(reclaim_mib=reclaim_mib)

    def _look(self, one: _Watched, usage: Usage, swap_used_share: float | None) -> int:
        """Bytes to reclaim of a VM."""
        if one.ticks is None:
            one.ticks = self.law.interval_ticks
            return 0
        average = one.average
        memory_percent = max(average.avg10_percent, average.avg60_percent)
        pressure = Pressure(memory_percent, max(one.io_percent, one.io60_percent))
        one.ticks, size = tick_immediate(one.ticks, usage, pressure, swap_used_share, self.law)
        return size


def _followed(one: _Watched | None, reading: _Reading | None, now_s: float) -> _Watched | None:
    """A VM's averages, brought up to date."""
    if reading is None or math.isnan(reading.io_percent):
        return None
    if one is None:
        return _Watched(StallAverage(now_s, reading.total_us), now_s, reading.io_percent, reading.io_percent)
    one.average = one.average.at(now_s, reading.total_us)
    gain = 1.0 - math.exp((one.seen_s - now_s) / 60.0)
    one.io60_percent += gain * (reading.io_percent - one.io60_percent)
    one.io_percent, one.seen_s = reading.io_percent, now_s
    return one


def _swap_used_share(host: np.void) -> float | None:
    total_mib, used_mib = float(host["swap_total_mib"]), float(host["swap_used_mib"])
    return used_mib / total_mib if total_mib > 0.0 else None
