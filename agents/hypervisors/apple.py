"""Apple Containerization's balloon policy: Hyper-V's target, moved by oVirt MOM's rules. One controller per machine.

Every 5 s it reads machine and host and keeps ten readings; every 10 s it aims at what the guest needs and a buffer of 20 %.
Need is committed memory, a floor for the kernel and what the kernel set aside at boot; the larger of its mean and its
last value counts, so a rise acts at once. The buffer narrows with the mean of the host's free share, and is negative when
that is critical. A machine shrinks by at most 5 % a decision and never into its guest's floor, grows at once, and leaves
changes below 0.25 % alone. `next_target` is pure and in bytes, as the original.

Fails when: a guest lives on page cache (not committed); every machine decides alone, so all shrink or grow together;
committed memory is never touched. A failed reading counts for nothing, and no decision is taken with it.

Surrogate: free share of the host is MemAvailable over MemTotal (original: free, buffers and cache). What the kernel sets
aside is a parameter, 0 in the model: here size and MemTotal are not read at one time, and their difference would be
mistaken for it. The minimum, 0 in the original's default, is the VM's own.

Edge cases. No statistics: the reading has failed, and no decision is taken with it. Frozen: the original asks the
guest itself, and a guest that hangs does not answer; an answer older than ``patience_s`` (a guess) has failed here.
Windows: its guests are Linux's; what is committed counts whoever reports it. Start: a controller of its own, first
decision after 10 s. Limits: the maximum is the configured size; the minimum is 0 where none is configured.

Source: algorithm and constants of apple/containerization ``MemoryBalloonPolicy`` and ``MemoryBalloonController`` (2026),
re-implemented from a description; its floor is Linux's ``hv_balloon``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from hvgym.agents.hypervisors.hyperv_like import floor_mib
from hvgym.agents.policy import Policy
from hvgym.agents.readings import least_mib
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

MIB = 1 << 20

BELOW_CRITICAL = -0.05
"""Buffer of a host without free memory; the original writes it apart from `Rules.pressure_critical`."""


@dataclass(frozen=True)
class Rules:
    """Shares of what the guest needs (buffer), of the host's memory (pressure) and of what the machine holds (changes)."""

    buffer: float = 0.20
    pressure_threshold: float = 0.20
    pressure_critical: float = 0.05
    max_shrink: float = 0.05
    min_change: float = 0.0025


@dataclass(frozen=True)
class Reading:
    """One reading of a machine and its host; bytes, `host_free` a share."""

    host_free: float
    current: int
    needs: int
    available: int
    floor: int


def balloon_floor(held: int) -> int:
    """What a guest that holds so many bytes keeps available."""
    return int(floor_mib(held / MIB) * MIB)


def need(committed: int, held: int, set_aside: int) -> int:
    """What a machine needs, from its guest's Committed_AS, MemTotal without the balloon, and what MemTotal leaves out."""
    return committed + balloon_floor(held) + set_aside


def buffer_share(host_free: float, rules: Rules) -> float:
    """The buffer narrows as the host runs short, and jumps below zero when that is critical."""
    if host_free >= rules.pressure_threshold:
        return rules.buffer
    if host_free > rules.pressure_critical:
        return rules.buffer * (host_free / rules.pressure_threshold)
    return BELOW_CRITICAL + host_free


def next_target(readings: Sequence[Reading], minimum: int, maximum: int, rules: Rules) -> int | None:
    """Size to ask for next; None leaves the machine as it is. Oldest reading first, at least one."""
    last = readings[-1]
    host_free = reduce(add, (reading.host_free for reading in readings)) / len(readings)
    needs = max(sum(reading.needs for reading in readings) / len(readings), float(last.needs))
    size = min(max(needs * (1.0 + buffer_share(host_free, rules)), float(minimum)), float(maximum))
    spare = max(last.available - last.floor, 0)
    size = max(size, last.current * (1.0 - rules.max_shrink), float(last.current - spare))  # bounds shrinking only
    return int(size) if abs(size - last.current) > rules.min_change * last.current else None


class _Controller:
    """One machine's controller: its clock starts with the machine."""

    def __init__(self, started_s: float, sample_s: float, decision_s: float) -> None:
        self.next_reading_s = started_s + sample_s
        self.next_decision_s = started_s + decision_s
        self.readings: list[Reading] = []


class Apple(Policy):
    """Runs one controller per VM."""

    visibility = Visibility.P2

    def __init__(
        self,
        buffer: float = 0.20,
        pressure_threshold: float = 0.20,
        pressure_critical: float = 0.05,
        max_shrink: float = 0.05,
        min_change: float = 0.0025,
        sample_s: float = 5.0,
        history: int = 10,
        decision_s: float = 10.0,
        set_aside_mib: float = 0.0,
        patience_s: float = 300.0,
    ) -> None:
        self.rules = Rules(buffer, pressure_threshold, pressure_critical, max_shrink, min_change)
        self.period_s = self.sample_s = sample_s
        self.history = history
        self.decision_s = decision_s
        self.set_aside = int(set_aside_mib * MIB)
        self.patience_s = patience_s

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        lanes, vms = first.vm.shape
        self._controllers: list[list[_Controller | None]] = [[None] * vms for _ in range(lanes)]
        self._follow(first)

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        self._follow(telemetry)
        sizes = np.full(telemetry.vm.shape, np.nan)
        for lane, controllers in enumerate(self._controllers):
            host_free = float(telemetry.host["available_mib"][lane, 0] / telemetry.host["total_mib"][lane, 0])
            for index, controller in enumerate(controllers):
                if controller is not None:
                    now_s, vm = float(telemetry.time_s[lane]), telemetry.vm[lane, index]
                    sizes[lane, index] = self._step(controller, now_s, host_free, vm)
        return Targets(sizes)

    def _follow(self, telemetry: Telemetry) -> None:
        """Begin a controller for each VM that has started, end those of VMs that are gone."""
        running = (telemetry.vm["running"] > 0.0).tolist()
        for row, now_s, runs in zip(self._controllers, telemetry.time_s.tolist(), running, strict=True):
            for index, here in enumerate(runs):
                if not here:
                    row[index] = None
                elif row[index] is None:
                    row[index] = _Controller(now_s, self.sample_s, self.decision_s)

    def _step(self, controller: _Controller, now_s: float, host_free: float, vm: np.void) -> float:
        """Read when it is time, and decide when it is time for that and the reading has come; MiB, NaN changes nothing."""
        if now_s < controller.next_reading_s:
            return math.nan
        controller.next_reading_s = now_s + self.sample_s
        reading = self._read(host_free, vm)
        if reading is None:
            return math.nan
        controller.readings = [*controller.readings, reading][-self.history :]
        if now_s < controller.next_decision_s:
            return math.nan
        controller.next_decision_s = now_s + self.decision_s
        minimum, maximum = int(least_mib(vm) * MIB), int(vm["memory_mib"] * MIB)
        target = next_target(controller.readings, minimum, maximum, self.rules)
        return math.nan if target is None else target / MIB

    def _read(self, host_free: float, vm: np.void) -> Reading | None:
        """A reading of this machine; None when its guest has not answered."""
        names = ("size_mib", "guest_committed_mib", "guest_total_mib", "guest_available_mib")
        values = [float(vm[name]) for name in names]
        if any(map(math.isnan, values)) or vm["stats_age_s"] > self.patience_s:
            return None
        current, committed, held, available = (int(value * MIB) for value in values)
        return Reading(host_free, current, need(committed, held, self.set_aside), available, balloon_floor(held))
