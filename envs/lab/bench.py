"""The laboratory bench: one guest alone on an ample host, squeezed by its balloon as the measured guests were.

`steady` asks for a memory size, waits until nothing moves, and measures: a row per level. `transient` follows a
schedule of sizes: a row per second. A level is A / W: the memory that the workload could hold by MemAvailable, over its
hot set, so a level of 1 is a memory size of hot set + kernel + watermark. `GROUND_TRUTH` has the figures measured on
real guests and the set-ups that they belong to.

The workload is paced: it has its touches per second as long as faults leave time for them. What the model leaves out
stands in ``model.guest.memory`` and ``model.guest.patterns``.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hvgym.envs.errors import InputError
from hvgym.envs.lab.guest import LabGuest
from hvgym.envs.model import params
from hvgym.envs.model.guest import memory
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

LEVELS = (1.4, 1.05, 1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
"""The levels of the measurements, and the default."""

LEAST_SETTLE_S, SETTLE_S, WINDOW_S = 5, 600, 10
STEADY = {"miss": 1e-4, "actual_mib": 0.1, "psi_some10": 0.1}
"""A guest is steady when none of these changes by more from one window to the next."""

SLOWEST_S = 21600.0
"""Pages touched less often than every six hours are not waited for."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """A set-up of the ground truth: how it differs from the packaged one, and the misses measured at `LEVELS`.

    Real guests (QEMU 7.2, Linux 6.1, virtio-balloon), one run per cell, sampling error 0.003; None: OOM kill.
    """

    changes: Mapping[str, Any]
    miss: tuple[float | None, ...]


_DISK, _ZRAM, _ZIPF = (
    {"guest": {"swap": "disk"}},
    {"guest": {"swap": "zram"}},
    {"pattern": "zipf", "zipf_exponent": 0.99},
)

GROUND_TRUTH: dict[str, Measured] = {
    "anon/disk/uniform": Measured(_DISK, (0, 0, 0.021, 0.067, 0.124, 0.212, 0.327, 0.418, 0.514)),
    "anon/disk/zipf": Measured(_DISK | _ZIPF, (0, 0, 0.006, 0.015, 0.024, 0.042, 0.055, 0.068, 0.102)),
    "anon/zram/uniform": Measured(_ZRAM, (0, 0, 0.053, 0.171, 0.289, 0.524, 0.769, 0.999, None)),
    "anon/zram/zipf": Measured(_ZRAM | _ZIPF, (0, 0, 0.012, 0.037, 0.058, 0.099, 0.192, 0.512, None)),
    "file/uniform": Measured({"page_kind": "file"}, (0, 0, 0, 0.034, 0.100, 0.211, 0.304, 0.413, 0.511)),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of lab.csv. Rates are means over the time that the row measured; NaN: no level, or no touches to miss."""

    t_s: float
    level: float
    target_mib: float
    actual_mib: float
    touches_per_s: float
    miss: float
    major_faults_per_s: float
    swap_in_pages_per_s: float
    swap_out_pages_per_s: float
    free_mib: float
    available_mib: float
    swap_used_mib: float
    psi_some10: float
    oom_killed: int


def mean_error(rows: Sequence[Row], truth: Measured) -> float:
    """Mean absolute error of the modelled misses, over levels up to 1 at which no workload was killed; rows at `LEVELS`."""
    pairs = [(row.miss, miss) for row, miss in zip(rows, truth.miss, strict=True) if row.level <= 1.0]
    return float(np.mean([abs(got - miss) for got, miss in pairs if miss is not None and not math.isnan(got)]))


class _Running:
    """A booted guest with its workload, all of its memory resident."""

    def __init__(self, setup: LabGuest) -> None:
        self._setup = setup
        self._sim = Simulator(setup.scenario())
        self._sim.reset([0])
        self._vm: Any = self._sim.vms[0, 0]
        self._spec: Any = self._sim.vm_specs[0, 0]

    @property
    def kills(self) -> int:
        return int(self._vm["oom_kills"])

    @property
    def age_s(self) -> int:
        return int(self._sim.clock_s[0])

    @property
    def size_mib(self) -> float:
        return self._setup.guest.memory_mib - float(self._vm["balloon_mib"])

    def ask(self, memory_mib: float) -> None:
        self._sim.apply(Targets(np.array([[memory_mib]])))

    def run(self, seconds: int, level: float = math.nan) -> Row:
        """The row of this time, which a kill cuts short."""
        before, start, kills = self._vm.copy(), self.age_s, self.kills
        while (left := start + seconds - self.age_s) > 0 and self.kills == kills:
            self._sim.run(min(left, WINDOW_S), 0, 1)
        return self._row(before, self.age_s - start, level)

    def settle(self) -> None:
        """Let time pass until misses, balloon and pressure stand still, to the limit, or to a kill."""
        setup = self._setup
        slowest = min(float(np.max(1.0 / setup.pages.rate_per_s)), SLOWEST_S)
        window = max(WINDOW_S, math.ceil(slowest / 10.0))
        moving = setup.move_s(self.size_mib - float(self._vm["asked_mib"]))
        end = self.age_s + (setup.settle_s or math.ceil(max(SETTLE_S, moving + 5.0 * slowest)))
        before = self.run(LEAST_SETTLE_S)
        while self.age_s < end and not self.kills:
            now = self.run(min(window, end - self.age_s))
            if all(abs(getattr(now, name) - getattr(before, name)) < most for name, most in STEADY.items()):
                return
            before = now

    def _row(self, before: Any, seconds: int, level: float) -> Row:
        vm = self._vm
        names = ("touches", "major_faults", "swap_in_mib", "swap_out_mib")
        touches, faults, swapped_in, swapped_out = (float(vm[name] - before[name]) / seconds for name in names)
        return Row(
            t_s=float(self.age_s),
            level=level,
            target_mib=float(vm["asked_mib"]),
            actual_mib=self.size_mib,
            touches_per_s=touches,
            miss=faults / touches if touches > 0.0 else math.nan,
            major_faults_per_s=faults,
            swap_in_pages_per_s=swapped_in * params.PAGES_PER_MIB,
            swap_out_pages_per_s=swapped_out * params.PAGES_PER_MIB,
            free_mib=float(vm["report_free_mib"]),
            available_mib=float(vm["report_available_mib"]),
            swap_used_mib=float(memory.swap_used_mib(vm, self._spec)),
            psi_some10=100.0 * float(vm["psi_some10"]),
            oom_killed=self.kills,
        )


def steady(setup: LabGuest, levels: Sequence[float]) -> list[Row]:
    """Play levels in the order given on one guest; after a kill the next level starts with a fresh one.

    Raises:
        InputError: a level is not positive, or needs more memory than the guest has.
    """
    _check_levels(setup, levels)
    rows, running = list[Row](), _Running(setup)
    for level in levels:
        if running.kills:
            running = _Running(setup)
        running.ask(setup.size_for(level))
        running.settle()
        rows.append(running.run(setup.measure_s, level))
    return rows


def transient(setup: LabGuest, schedule: Sequence[tuple[float, float]], duration_s: int | None = None) -> list[Row]:
    """Ask for sizes at the scheduled seconds, (t_s, target_mib); the row of t_s is the second that ends then.

    Raises:
        InputError: times are not whole, rising seconds within the duration, or a size is none that the guest can have.
    """
    _check_schedule(setup, schedule)
    duration = duration_s or _long_enough(setup, schedule)
    if duration <= schedule[-1][0]:
        raise InputError(f"duration_s={duration}: the last target comes at {schedule[-1][0]:g} s; go on beyond it")
    targets, running, rows = dict(schedule), _Running(setup), list[Row]()
    for second in range(duration):
        if second in targets:
            running.ask(targets[second])
        rows.append(running.run(1))
    return rows


def default_levels(setup: LabGuest) -> tuple[float, ...]:
    """Those of `LEVELS` that the guest has memory for."""
    return tuple(level for level in LEVELS if setup.size_for(level) <= setup.guest.memory_mib)


def _check_levels(setup: LabGuest, levels: Sequence[float]) -> None:
    if not levels:
        raise InputError("levels=[]: expected at least one")
    for i, level in enumerate(levels):
        if not level > 0.0:
            raise InputError(f"levels[{i}]={level:g}: must be above 0")
        if setup.size_for(level) > setup.guest.memory_mib:
            most = math.floor(1000.0 * (setup.guest.memory_mib - setup.size_for(0.0)) / setup.hot_mib) / 1000.0
            raise InputError(
                f"levels[{i}]={level:g}: needs {setup.size_for(level):.0f} MiB; "
                f"guest.memory_mib={setup.guest.memory_mib:g} allows at most {most:g}"
            )


def _check_schedule(setup: LabGuest, schedule: Sequence[tuple[float, float]]) -> None:
    if not schedule:
        raise InputError("schedule=[]: expected at least one [t_s, target_mib]")
    for i, (time_s, target_mib) in enumerate(schedule):
        if time_s < 0 or time_s != int(time_s):
            raise InputError(f"schedule[{i}][0]={time_s:g}: expected whole seconds, at least 0")
        if not setup.guest.kernel_mib <= target_mib <= setup.guest.memory_mib:
            raise InputError(
                f"schedule[{i}][1]={target_mib:g}: must be between guest.kernel_mib={setup.guest.kernel_mib:g} and "
                f"guest.memory_mib={setup.guest.memory_mib:g}"
            )
    for i, ((first, _), (then, _)) in enumerate(itertools.pairwise(schedule)):
        if then <= first:
            raise InputError(f"schedule[{i + 1}][0]={then:g}: times must rise; it follows {first:g}")


def _long_enough(setup: LabGuest, schedule: Sequence[tuple[float, float]]) -> int:
    """Half a minute after the last target, or twice what the balloon needs for it."""
    (_, before), (start, target) = (0.0, setup.guest.memory_mib), schedule[-1]
    if len(schedule) > 1:
        _, before = schedule[-2]
    return math.ceil(start + max(30.0, 2.0 * setup.move_s(target - before)))
