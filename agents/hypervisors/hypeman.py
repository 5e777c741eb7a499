"""hypeman's active ballooning: a host-only controller that runs every 2 s.

Pressure begins when at most 10 % of the host's memory is available or its PSI is above zero, and ends at 15 % without
stall. Under pressure the amount to take from all VMs together is what available memory lacks of 15 %, split by
headroom above each VM's floor (512 MiB or half of it). Each VM moves by 64 to 256 MiB, at most once in 5 s. The functions
are pure and in bytes, as the original's.

Fails by design: the amount is a *total*, yet available memory already includes what was taken before. Success lowers the
next total and memory is handed back, so it stops half-way to the watermark or swings about there, damped only by least
step and cooldown. `fixed` counts from what is out already and, once healthy, hands back only what exceeds the low
watermark. It knows nothing of guests: a busy VM loses as much as an idle one.

PSI counts as above zero from 0.01 %, for the kernel prints two decimals of its per cent. Left out: manual reclaim and
holds, VMs that boot at less than their ceiling and their growth on demand (later revisions). The VM's own minimum holds as
well.

Edge cases. Guests are asked nothing, so statistics that are missing, frozen or Windows' change nothing. Start: a VM
that starts below its floor is raised to the floor at once. Limits are not known.

Source: algorithm and constants of kernel/hypeman ``lib/guestmemory`` (planner.go, controller.go, active_ballooning.go,
pressure_linux.go; planner.go at revision 1525c46, others begin pressure below 10 %, not at it), re-implemented from a
description.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

MIB = 1 << 20

PSI_RESOLUTION = 1e-4
"""Least share that ``/proc/pressure/memory`` shows: two decimals of a per cent."""


@dataclass(frozen=True)
class Config:
    """The original's settings; whole per cent and bytes."""

    high_watermark_percent: int = 10
    low_watermark_percent: int = 15
    floor_percent: int = 50
    floor_min: int = 512 * MIB
    min_adjustment: int = 64 * MIB
    max_step: int = 256 * MIB
    cooldown_s: float = 5.0


@dataclass(frozen=True)
class Sample:
    """The host's memory in bytes, and whether anything stalled on it."""

    total: int
    available: int
    stressed: bool


@dataclass(frozen=True)
class BalloonVm:
    """One VM; bytes. assigned: its configured size; target: what its balloon was last asked for."""

    assigned: int
    target: int


def under_pressure(before: bool, sample: Sample, config: Config) -> bool:
    """Whether the host is under pressure now, given whether it was."""
    percent = sample.available / sample.total * 100.0
    if before:
        return sample.stressed or percent < config.low_watermark_percent
    return sample.stressed or percent <= config.high_watermark_percent


def total_reclaim(pressure: bool, sample: Sample, out: int, config: Config, fixed: bool = False) -> int:
    """Bytes that all VMs together shall give, when balloons were asked for `out` so far."""
    missing = sample.total * config.low_watermark_percent // 100 - sample.available
    if fixed:
        wanted = max(out + missing, out if sample.stressed else 0)
        return wanted if pressure else min(wanted, out)
    if not pressure:
        return 0
    if missing > 0:
        return missing
    return out if sample.stressed else 0


def floor(assigned: int, config: Config) -> int:
    """Least that a VM keeps."""
    return min(max(config.floor_min, assigned * config.floor_percent // 100), assigned)


def plan(assigned: Sequence[int], reclaim: int, config: Config) -> list[int]:
    """Sizes of VMs that give `reclaim` bytes together, in proportion to headroom; the rest of the division first come."""
    headroom = [size - floor(size, config) for size in assigned]
    reclaim = min(max(reclaim, 0), sum(headroom))
    if reclaim == 0:
        return list(assigned)
    gives = [reclaim * room // sum(headroom) for room in headroom]
    rest = reclaim - sum(gives)
    for index, room in enumerate(headroom):
        extra = min(room - gives[index], rest)
        gives[index] += extra
        rest -= extra
    return [size - give for size, give in zip(assigned, gives, strict=True)]


def step(vm: BalloonVm, planned: int, since_s: float, config: Config) -> int:
    """Size to ask for now; the target as it is when the change is small or the last one was `since_s` ago, too soon."""
    change = planned - vm.target
    if abs(change) < config.min_adjustment or since_s < config.cooldown_s:
        change = 0
    change = min(max(change, -config.max_step), config.max_step)
    return min(max(vm.target + change, floor(vm.assigned, config)), vm.assigned)


class Hypeman(Policy):
    """Runs the controller on every host of the batch."""

    period_s = 2.0
    visibility = Visibility.P0

    def __init__(
        self,
        high_watermark_percent: int = 10,
        low_watermark_percent: int = 15,
        floor_percent: int = 50,
        floor_min_mib: int = 512,
        min_adjustment_mib: int = 64,
        max_step_mib: int = 256,
        cooldown_s: float = 5.0,
        fixed: bool = False,
    ) -> None:
        self.fixed = fixed
        self.config = Config(
            high_watermark_percent,
            low_watermark_percent,
            floor_percent,
            floor_min_mib * MIB,
            min_adjustment_mib * MIB,
            max_step_mib * MIB,
            cooldown_s,
        )

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._pressure = [False] * len(first.vm)
        self._applied_s = np.full(first.vm.shape, -np.inf)

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        sizes = np.full(telemetry.vm.shape, np.nan)
        for lane in range(len(sizes)):
            there = np.flatnonzero(telemetry.vm["running"][lane] > 0.0)
            vms = _read(telemetry.vm[lane, there])
            planned = self._plan(lane, _sample(telemetry.host[lane, 0]), vms)
            now_s = float(telemetry.time_s[lane])
            for index, vm, size in zip(there.tolist(), vms, planned, strict=True):
                asked = step(vm, size, now_s - self._applied_s[lane, index], self.config)
                if asked != vm.target:
                    sizes[lane, index], self._applied_s[lane, index] = asked / MIB, now_s
        self._applied_s[telemetry.vm["running"] == 0.0] = -np.inf
        return Targets(sizes)

    def _plan(self, lane: int, sample: Sample, vms: Sequence[BalloonVm]) -> list[int]:
        self._pressure[lane] = under_pressure(self._pressure[lane], sample, self.config)
        out = sum(vm.assigned - vm.target for vm in vms)
        reclaim = total_reclaim(self._pressure[lane], sample, out, self.config, self.fixed)
        return plan([vm.assigned for vm in vms], reclaim, self.config)


def _sample(host: np.void) -> Sample:
    return Sample(int(host["total_mib"] * MIB), int(host["available_mib"] * MIB), host["psi_some10"] >= PSI_RESOLUTION)


def _read(row: np.ndarray) -> list[BalloonVm]:
    """Running VMs of one host, ``[vm]`` of telemetry."""
    assigned, target = ([int(size * MIB) for size in row[name].tolist()] for name in ("memory_mib", "target_mib"))
    return [BalloonVm(size, min(asked, size)) for size, asked in zip(assigned, target, strict=True)]
