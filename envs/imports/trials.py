"""Readings of a column, each tried against what VMs can have: configured memory, memory in use, CPU, shares of time.

What the tests are and why they separate units is told in `envs.imports.units`, which decides. Limits are guesses at what fleets
look like.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hvgym.envs.imports.evidence import Evidence
from hvgym.envs.imports.source import CPU_UNITS, MEMORY_UNITS, SHARE_UNITS, Kind

Array = npt.NDArray[np.float64]

MIB, GIB, TIB = 2.0**20, 2.0**30, 2.0**40

ENOUGH = 0.995
"""Share of rows or VMs that have to obey."""

CAPS = (64 * MIB, 32 * TIB)
MIDDLE_CAP = (256 * MIB, 256 * GIB)
CAP_GRAIN, CAP_SLACK, CAPS_ON_GRAIN = 128 * MIB, MIB, 0.8

FINE_GRAIN: Mapping[str, float] = {"KiB": MIB, "MiB": 4 * MIB, "GiB": 4 * MIB}
FINE_SLACK = MIB / 50
"""Sizes as hypervisors take them (3000 MiB), where few are multiples of 128 MiB. One in 25 or more of other numbers is near."""

MOST: Mapping[str, float] = {
    "granted": 1.02, "balloon_taken": 1.02, "guest_total": 1.02, "guest_usable": 1.02, "guest_unused": 1.02, "guest_used": 1.02,
    "guest_notfree": 1.02, "guest_cache": 1.02, "backed": 1.15, "active": 1.001, "host_swapped": 1.05, "host_compressed": 1.05,
}  # fmt: skip
"""Of configured memory; backed may have 1 GiB more."""

BACKED_MORE = GIB

SMALL = ("guest_unused", "guest_cache", "balloon_taken", "host_swapped", "host_compressed")
"""Columns that may be near 0 in most VMs: the largest value of all has to be large enough, not each VM's."""

LEAST, LEAST_SMALL = 1 / 512, 1 / 2048

RUNNING = ("granted", "guest_total", "guest_usable", "guest_used", "guest_notfree", "backed")
"""Columns in which no VM that runs is near 0."""

LEAST_RUNNING, LEAST_RUNNING_SHARE, LEAST_OF_ALL = 128 * MIB, 0.1, 32 * MIB
"""What the VM in the middle has at its peak, or this share of its size where that is less, or the reading is a share; where numbers
pass a hundred and are no per cent, less will do."""

MOST_PERCENT = 102.0

LEAST_SHARE = 0.0101
"""What per cent read as hundredths, or a share read as per cent, cannot pass."""

HUNDREDTHS = ("active",)
"""Columns that some product writes in hundredths of a per cent (VMware's mem.usage); of others only where a share is said."""

TWINS = {"KiB": "KB", "MiB": "MB", "GiB": "GB"}

CPU_TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

MOST_CORES, LEAST_CORES, CPU_SLACK = 1024.0, 0.002, 1.05
"""The least is of CPU used alone: on a host with CPUs to spare a VM waits for next to nothing."""


@dataclass(frozen=True)
class Trial:
    """A reading that was tried. `sound`: nothing contradicts it outright; `passes`: every test says it."""

    unit: str
    sound: bool
    passes: bool
    why: str
    means: str


def positive(values: Array) -> Array:
    """No VM has a size of 0."""
    return np.where(values > 0, values, np.nan)


def human(amount: float) -> str:
    """Bytes for people."""
    for name, size in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", 1024.0)):
        if abs(amount) >= size:
            return f"{amount / size:.3g} {name}" if amount < 1000 * size else f"{amount / size:,.0f} {name}"
    return f"{amount:.3g} bytes"


def sizes(evidence: Evidence, quantity: str) -> list[Trial]:
    """Readings of configured memory."""
    by_vm = evidence.most_by_vm(positive(evidence.values(quantity)))
    example = evidence.example(quantity)[1]
    trials = [_size(by_vm, unit, size, example * size) for unit, size in MEMORY_UNITS.items() if unit != "pages"]
    if sum(trial.sound for trial in trials) == 1:  # VMs of a TiB in bytes: nothing else can be
        trials = [replace(trial, passes=trial.sound) for trial in trials]
    by_unit = {trial.unit: trial for trial in trials}
    for binary, decimal in TWINS.items():
        pair = by_unit[binary], by_unit[decimal]
        if all(trial.passes for trial in pair):
            trials = _told_from_twin(trials, pair, by_vm)
    return trials


def _told_from_twin(trials: list[Trial], pair: tuple[Trial, Trial], by_vm: Array) -> list[Trial]:
    """KiB from KB, and so on, by the sizes that VMs are given; where these tell nothing both still pass. Sizes that are round in
    both are binary: 16 GiB in KiB are 16,000 MiB in KB, which nobody has. Finer grains speak for the binary unit alone."""
    for grain, slack, twins in ((CAP_GRAIN, CAP_SLACK, 2), (FINE_GRAIN[pair[0].unit], FINE_SLACK, 1)):
        on_grain = [_on_grain(by_vm * MEMORY_UNITS[trial.unit], grain, slack) for trial in pair]
        if max(on_grain[:twins]) >= CAPS_ON_GRAIN:
            taken = pair[int(on_grain[0] < CAPS_ON_GRAIN)]
            return [_with_grain(trial, pair, on_grain, grain, taken) for trial in trials]
    return trials


def _size(by_vm: Array, unit: str, size: float, example: float) -> Trial:
    caps = by_vm * size
    middle = float(np.median(caps))
    sound = bool(np.mean((caps >= CAPS[0]) & (caps <= CAPS[1])) >= ENOUGH)
    passes = sound and MIDDLE_CAP[0] <= middle < MIDDLE_CAP[1]
    why = f"VMs have {human(float(caps.min()))} to {human(float(caps.max()))}, the middle one {human(middle)}"
    return Trial(unit, sound, passes, why, human(example))


def _on_grain(caps: Array, grain: float, slack: float) -> float:
    """Share of sizes that are a multiple of so many bytes."""
    return float(np.mean(np.abs(caps - np.round(caps / grain) * grain) <= slack))


def _with_grain(
    trial: Trial, pair: tuple[Trial, Trial], on_grain: Sequence[float], grain: float, taken: Trial
) -> Trial:
    if trial not in pair:
        return trial
    why = f"{trial.why}, {100 * on_grain[pair.index(trial)]:.0f} % of them a multiple of {human(grain)}"
    return replace(trial, passes=trial is taken, sound=trial is taken, why=why)


def memory(evidence: Evidence, quantity: str) -> list[Trial]:
    """Readings of memory in use, against what is configured."""
    values = evidence.values(quantity)
    known = (np.nan_to_num(values) != 0) & ~np.isnan(evidence.cap_bytes)
    values, caps = np.where(known, values, np.nan), evidence.cap_bytes
    units: Iterable[tuple[str, float, bool]] = (
        *((unit, size, False) for unit, size in MEMORY_UNITS.items()),
        *((unit, share, True) for unit, share in SHARE_UNITS.items()),
    )
    return [
        _use(evidence, quantity, unit, values * size / (1 if of_cap else caps), of_cap, float(np.nanmax(values)))
        for unit, size, of_cap in units
    ]


def _use(evidence: Evidence, quantity: str, unit: str, ratio: Array, of_cap: bool, largest: float) -> Trial:
    bound = MOST[quantity] + (BACKED_MORE / evidence.cap_bytes if quantity == "backed" else 0.0)
    known = ~np.isnan(ratio)
    within = float(np.mean((ratio <= bound)[known])) if known.any() else 0.0
    by_vm = evidence.most_by_vm(ratio)
    top = float(np.quantile(ratio[known], 0.999)) if known.any() else 0.0
    large = float(np.max(by_vm)) >= LEAST_SMALL if quantity in SMALL else float(np.median(by_vm)) >= LEAST
    if of_cap:
        large = large and top > LEAST_SHARE
    if quantity in RUNNING:
        least = LEAST_RUNNING if largest <= MOST_PERCENT else LEAST_OF_ALL
        share = LEAST_RUNNING_SHARE if of_cap else np.minimum(least / evidence.cap_bytes, LEAST_RUNNING_SHARE)
        large = large and float(np.median(evidence.most_by_vm(ratio / share))) >= 1
    why = f"{100 * within:.4g} % of rows within what a VM can have, peaks {100 * float(np.median(by_vm)):.3g} % of it"
    sound = within >= ENOUGH and (ratio[known] >= 0).mean() >= ENOUGH
    example = known & (evidence.vms == evidence.example_vm(quantity))
    means = human(float(np.median((ratio * evidence.cap_bytes)[example]))) if example.any() else "nothing"
    return Trial(unit, bool(sound), bool(sound and large), why, means)


def cpu(evidence: Evidence, quantity: str, kind: Kind) -> list[Trial]:
    """Readings of CPU, in cores where the VM's CPUs are known."""
    values = evidence.values(quantity)
    vcpus = positive(evidence.values("vcpus")) if "vcpus" in evidence else np.full(len(values), np.nan)
    most = np.where(np.isnan(vcpus), MOST_CORES, CPU_SLACK * vcpus)
    if quantity == "cpu_cap":
        return [Trial("MHz", True, True, "a size", f"{evidence.example(quantity)[1]:g} MHz")]
    if kind == "counter":
        return [_counted(evidence, values, unit, size, quantity) for unit, size in CPU_TIMES.items()]
    cap = positive(evidence.values("cpu_cap")) if "cpu_cap" in evidence else np.full(len(values), np.nan)
    seconds = float(np.median(evidence.steps(values)[1])) if len(evidence.steps(values)[1]) else np.nan
    ratios = {
        "cores": values / most,
        "share": values / CPU_SLACK,
        "percent": values / (100 * CPU_SLACK),
        "percent_of_core": values / 100 / most,
        "MHz": values / (CPU_SLACK * cap),
        **{unit: values * size / seconds / most for unit, size in CPU_TIMES.items()},
    }
    return [_level(evidence, unit, ratios[unit], quantity) for unit in CPU_UNITS]


def _level(evidence: Evidence, unit: str, ratio: Array, quantity: str) -> Trial:
    """Of a gauge: `ratio` to the most that can be."""
    known = ~np.isnan(ratio)
    if not known.any():
        return Trial(unit, False, False, "what the VM has is not known", "nothing")
    top = float(np.quantile(ratio[known], 0.999))
    sound = float(np.mean((ratio[known] <= 1) & (ratio[known] >= 0))) >= ENOUGH
    least = LEAST_SHARE if quantity == "cpu_used" and unit in ("share", "percent", "MHz") else LEAST_CORES / MOST_CORES
    typical = float(np.median(evidence.most_by_vm(ratio)))
    used = quantity == "cpu_wait" or (top > least and (unit not in CPU_TIMES or typical > LEAST_CORES))
    return Trial(
        unit,
        bool(sound),
        bool(sound and used),
        f"peaks at {100 * top:.3g} % of what can be",
        f"{100 * typical:.3g} % at its peak",
    )


def _counted(evidence: Evidence, values: Array, unit: str, size: float, quantity: str) -> Trial:
    """Of a counter of CPU time."""
    change, seconds = evidence.steps(values)
    cores = change[change >= 0] * size / seconds[change >= 0]
    vcpus = evidence.most_by_vm(evidence.values("vcpus")) if "vcpus" in evidence else np.zeros(0)
    most = CPU_SLACK * float(np.max(vcpus)) if len(vcpus) else MOST_CORES
    top = float(np.quantile(cores, 0.99)) if len(cores) else 0.0
    sound = float(np.mean(cores <= most)) >= ENOUGH if len(cores) else False
    return Trial(
        unit,
        bool(sound),
        bool(sound and (quantity == "cpu_wait" or top >= LEAST_CORES)),
        f"VMs use up to {top:.3g} cores",
        f"{top:.3g} cores at its peak",
    )


def psi(evidence: Evidence, kind: Kind) -> list[Trial]:
    """Readings of a share of time."""
    values = evidence.values("psi_mem_some")
    if kind == "counter":
        change, seconds = evidence.steps(values)
        shares = change[change >= 0] / seconds[change >= 0]
        return [_share_of_time(unit, shares * size) for unit, size in CPU_TIMES.items()]
    return [_share_of_time(unit, values[~np.isnan(values)] * size) for unit, size in SHARE_UNITS.items()]


def _share_of_time(unit: str, shares: Array) -> Trial:
    top = float(np.quantile(shares, 0.999)) if len(shares) else 0.0
    sound = bool(np.mean((shares <= 1.005) & (shares >= 0)) >= ENOUGH) if len(shares) else True
    return Trial(unit, sound, sound, f"at most {100 * top:.3g} % of time", f"{100 * top:.3g} % of time")
