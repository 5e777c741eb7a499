"""What unit each column is in: every reading is tried, and exactly one has to pass, or the import stops and shows them.

*Configured memory* first. A reading passes where 99.5 % of VMs have 64 MiB to 32 TiB and the VM in the middle 256 MiB to 256 GiB;
these two are a factor of 1024 apart, so of B, KiB, MiB and GiB one passes. KiB and KB (2.4 % apart) are told by sizes being
multiples of 128 MiB in 80 % of VMs. *Other memory* is held against it: at most what can be (used 1.02 times configured, backed
1.15 times and 1 GiB, as in `MOST`), in 99.5 % of rows; and no less than a thousandth or so, for the next smaller unit is 1024 times
smaller. Shares of it (share, per cent, hundredths) may not stay below 1 % everywhere. *CPU* is held against the VM's CPUs. A
*counter* is what falls in less than a tenth of its changes, a gauge in more than a quarter; between these nothing is told.

What the source's documentation says is a hypothesis like the others. Where the data contradict it the import stops. It decides only
between readings that all pass, which data cannot tell apart in principle: KiB and KB of memory in use, share and cores of VMs with
one CPU, and the units of disk, network, swap and faults, which nothing bounds. The manifest then says so, and memory has flag
``unit_guessed``. Limits are guesses at what fleets look like; ``units={…}`` overrides each.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.evidence import Evidence
from hvgym.envs.imports.source import CPU_UNITS, MEMORY_UNITS, SHARE_UNITS, Column, Kind, Options

Array = npt.NDArray[np.float64]
By = Literal["data", "user", "documentation", "sibling", "nothing"]

MIB, GIB, TIB = 2.0**20, 2.0**30, 2.0**40

ENOUGH = 0.995
"""Share of rows or VMs that have to obey."""

CAPS = (64 * MIB, 32 * TIB)
MIDDLE_CAP = (256 * MIB, 256 * GIB)
CAP_GRAIN, CAP_SLACK, CAPS_ON_GRAIN = 128 * MIB, MIB, 0.8

MOST: Mapping[str, float] = {
    "granted": 1.02, "balloon_taken": 1.02, "guest_total": 1.02, "guest_usable": 1.02, "guest_unused": 1.02, "guest_used": 1.02,
    "guest_notfree": 1.02, "guest_cache": 1.02, "backed": 1.15, "active": 1.001, "host_swapped": 1.05, "host_compressed": 1.05,
}  # fmt: skip
"""Of configured memory; backed may have 1 GiB more."""

BACKED_MORE = GIB

SMALL = ("guest_unused", "guest_cache", "balloon_taken", "host_swapped", "host_compressed")
"""Columns that may be near 0 in most VMs: the largest value of all has to be large enough, not each VM's."""

LEAST, LEAST_SMALL = 1 / 512, 1 / 2048

LEAST_SHARE = 0.0101
"""What per cent read as hundredths, or a share read as per cent, cannot pass."""

HUNDREDTHS = ("active",)
"""Columns that some product writes in hundredths of a per cent (VMware's mem.usage); of others it is not tried unless it is said."""

TWINS = {"KiB": "KB", "MiB": "MB", "GiB": "GB"}

RATES = ("guest_swap_in", "guest_swap_out", "disk_read", "disk_write", "net_rx", "net_tx")

MOST_RATE = 1e12
"""Bytes a second."""

CPU_TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

MOST_CORES, LEAST_CORES, CPU_SLACK = 1024.0, 0.002, 1.05

FALLS_COUNTER, FALLS_GAUGE, FEWEST_CHANGES = 0.10, 0.25, 20


@dataclass(frozen=True)
class Reading:
    """How a column is read. `unit` without ``/s``; `by`: what decided; `evidence`: in words."""

    quantity: str
    title: str
    unit: str
    kind: Kind
    by: By
    evidence: str

    @property
    def guessed(self) -> bool:
        return self.by in ("documentation", "sibling") and self.quantity in ("cap", *MOST)


@dataclass(frozen=True)
class Trial:
    """A reading that was tried. `sound`: nothing contradicts it outright; `passes`: every test says it."""

    unit: str
    sound: bool
    passes: bool
    why: str
    means: str


def decided(evidence: Evidence, columns: Mapping[str, Column], options: Options) -> tuple[dict[str, Reading], Evidence]:
    """How each column is read, and the evidence with configured memory known. Raises `InputError` where none or several pass."""
    for quantity in options.units:
        if quantity not in (*columns, "time"):
            raise InputError(f"units: {quantity}: the files have no such column; they have {', '.join(columns)}")
    readings = dict[str, Reading]()
    sizes = next((name for name in ("cap", "guest_total") if name in columns and name in evidence), None)
    if sizes is not None and not (sizes == "guest_total" and options.caps_mib):
        readings[sizes] = _read(evidence, columns[sizes], options, _sizes(evidence, sizes), sibling=None)
        evidence = evidence.with_caps(_positive(evidence.values(sizes)) * MEMORY_UNITS[readings[sizes].unit])
    evidence = evidence.with_caps(_with_said(evidence, options.caps_mib))
    if np.isnan(evidence.cap_bytes).all():
        raise InputError("cap: the files do not say what VMs may have at most; give caps=FILE.csv with columns vm,mib")
    sibling = readings[sizes].unit if sizes in readings else "MiB"
    for quantity, column in columns.items():
        if quantity not in readings and quantity in evidence:
            readings[quantity] = _reading(evidence, column, options, sibling)
    return readings, evidence


def _with_said(evidence: Evidence, caps_mib: Mapping[str, float]) -> Array:
    """What the user says of a VM wins over its files."""
    names = evidence.frame["vm"].cat.categories
    said = np.array([caps_mib.get(str(name), np.nan) * MIB for name in names])[evidence.vms]
    return np.where(np.isnan(said), evidence.cap_bytes, said)


def _positive(values: Array) -> Array:
    """No VM has a size of 0."""
    return np.where(values > 0, values, np.nan)


def _reading(evidence: Evidence, column: Column, options: Options, sibling: str) -> Reading:
    quantity = column.quantity
    values = evidence.values(quantity)
    if not (np.nan_to_num(values) != 0).any():
        unit, kind = _without_rate(options.units.get(quantity, column.unit) or "B"), column.kind or "gauge"
        return Reading(quantity, column.title, unit, kind, "nothing", "0 in all rows that were looked at")
    if quantity in MOST:
        tried = _memory(evidence, quantity)
        if quantity not in HUNDREDTHS and "hundredths" not in (column.unit, options.units.get(quantity)):
            tried = [trial for trial in tried if trial.unit != "hundredths"]
        return _read(evidence, column, options, tried, sibling)
    if quantity in RATES or quantity == "guest_major_faults":
        return _rate(evidence, column, options)
    if quantity == "vcpus":
        return Reading(quantity, column.title, "", "gauge", "data", f"{np.nanmin(values):g} to {np.nanmax(values):g}")
    kind = _kind(evidence, column, options)
    tried = _cpu(evidence, quantity, kind) if quantity != "psi_mem_some" else _psi(evidence, kind)
    return _read(evidence, column, options, tried, None, kind)


def _read(
    evidence: Evidence,
    column: Column,
    options: Options,
    tried: Sequence[Trial],
    sibling: str | None,
    kind: Kind = "gauge",
) -> Reading:
    """The one reading that passes; or what the user says; or, of several, what the documentation says."""
    said, declared = options.units.get(column.quantity), column.unit
    known = {trial.unit: trial for trial in tried}
    for unit in (said, declared):
        if unit is not None and unit not in known:
            raise InputError(f"units: {column.quantity}={shown(unit)}: choose one of {', '.join(known)}")
    passing = [trial.unit for trial in tried if trial.passes]

    def reading(unit: str, by: By, more: str = "") -> Reading:
        return Reading(column.quantity, column.title, unit, kind, by, f"{known[unit].why}{more}")

    if said is not None:
        return reading(said, "user", "; said by units={…}")
    if passing == [declared] or (declared is None and len(passing) == 1):
        return reading(passing[0], "data")
    if (
        declared in passing
        and declared == sibling
        and set(passing) == {declared, TWINS.get(declared, _binary(declared))}
    ):
        return reading(declared, "data", "; as configured memory is")
    if declared in passing:
        others = ", ".join(unit for unit in passing if unit != declared)
        return reading(str(declared), "documentation", f"; {others} would pass too, documentation decides")
    if declared is not None and not passing and known[declared].sound:
        return reading(declared, "documentation", "; no reading passes all tests, documentation decides")
    if declared is None and sibling in passing and set(passing) <= {sibling, TWINS.get(str(sibling)), _binary(sibling)}:
        return reading(str(sibling), "sibling", f"; {' or '.join(passing)}, taken as configured memory is")
    raise InputError(_stopped(evidence, column, [known[unit] for unit in passing], known.get(str(declared)), tried))


def _binary(unit: str | None) -> str | None:
    return next((binary for binary, decimal in TWINS.items() if decimal == unit), None)


def _stopped(
    evidence: Evidence, column: Column, passing: Sequence[Trial], declared: Trial | None, tried: Sequence[Trial]
) -> str:
    quantity = column.quantity
    vm, value = evidence.example(quantity)
    readings = [*([declared] if declared else []), *(passing or ([] if declared else tried))]
    shown_as = "; ".join(f"as {trial.unit} {trial.means} ({trial.why})" for trial in readings)
    first = (
        f"documentation says {declared.unit}, which the data contradict"
        if declared
        else f"{'several readings pass' if passing else 'no reading passes'}"
    )
    better = passing[0].unit if passing else "UNIT"
    return (
        f"'{column.title}' ({quantity}): {first}. {vm} has {value:.6g}: {shown_as}. Say which it is: "
        f"units={{{quantity}: {better}}}"
    )


def human(amount: float) -> str:
    """Bytes for people."""
    for name, size in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", 1024.0)):
        if abs(amount) >= size:
            return f"{amount / size:.3g} {name}" if amount < 1000 * size else f"{amount / size:,.0f} {name}"
    return f"{amount:.3g} bytes"


def _sizes(evidence: Evidence, quantity: str) -> list[Trial]:
    """Readings of configured memory."""
    by_vm = evidence.most_by_vm(_positive(evidence.values(quantity)))
    example = evidence.example(quantity)[1]
    trials = [_size(by_vm, unit, size, example * size) for unit, size in MEMORY_UNITS.items() if unit != "pages"]
    by_unit = {trial.unit: trial for trial in trials}
    for binary, decimal in TWINS.items():
        pair = by_unit[binary], by_unit[decimal]
        if all(trial.passes for trial in pair):
            on_grain = [_on_grain(by_vm * MEMORY_UNITS[trial.unit]) for trial in pair]
            if max(on_grain) >= CAPS_ON_GRAIN:
                trials = [_with_grain(trial, pair, on_grain) for trial in trials]
    return trials


def _size(by_vm: Array, unit: str, size: float, example: float) -> Trial:
    caps = by_vm * size
    middle = float(np.median(caps))
    sound = bool(np.mean((caps >= CAPS[0]) & (caps <= CAPS[1])) >= ENOUGH)
    passes = sound and MIDDLE_CAP[0] <= middle < MIDDLE_CAP[1]
    why = f"VMs have {human(float(caps.min()))} to {human(float(caps.max()))}, the middle one {human(middle)}"
    return Trial(unit, sound, passes, why, human(example))


def _on_grain(caps: Array) -> float:
    """Share of sizes that are a multiple of 128 MiB."""
    return float(np.mean(np.abs(caps - np.round(caps / CAP_GRAIN) * CAP_GRAIN) <= CAP_SLACK))


def _with_grain(trial: Trial, pair: tuple[Trial, Trial], on_grain: Sequence[float]) -> Trial:
    if trial not in pair:
        return trial
    share = on_grain[pair.index(trial)]
    why = f"{trial.why}, {100 * share:.0f} % of them a multiple of 128 MiB"
    return replace(trial, passes=share >= CAPS_ON_GRAIN, sound=share >= CAPS_ON_GRAIN, why=why)


def _memory(evidence: Evidence, quantity: str) -> list[Trial]:
    """Readings of memory in use, against what is configured."""
    values = evidence.values(quantity)
    known = (np.nan_to_num(values) != 0) & ~np.isnan(evidence.cap_bytes)
    values, caps = np.where(known, values, np.nan), evidence.cap_bytes
    example = evidence.example(quantity)[1]
    middle_cap = float(np.nanmedian(caps))
    units: Iterable[tuple[str, float, bool]] = (
        *((unit, size, False) for unit, size in MEMORY_UNITS.items() if unit != "pages"),
        *((unit, share, True) for unit, share in SHARE_UNITS.items()),
    )
    return [
        _use(evidence, quantity, unit, values * size / (1 if of_cap else caps), example * size * (middle_cap if of_cap else 1), of_cap)
        for unit, size, of_cap in units
    ]  # fmt: skip


def _use(evidence: Evidence, quantity: str, unit: str, ratio: Array, example: float, of_cap: bool) -> Trial:
    bound = MOST[quantity] + (BACKED_MORE / evidence.cap_bytes if quantity == "backed" else 0.0)
    known = ~np.isnan(ratio)
    within = float(np.mean((ratio <= bound)[known])) if known.any() else 0.0
    by_vm = evidence.most_by_vm(ratio)
    top = float(np.quantile(ratio[known], 0.999)) if known.any() else 0.0
    large = float(np.max(by_vm)) >= LEAST_SMALL if quantity in SMALL else float(np.median(by_vm)) >= LEAST
    if of_cap:
        large = large and top > LEAST_SHARE
    why = f"{100 * within:.4g} % of rows within what a VM can have, peaks {100 * float(np.median(by_vm)):.2g} % of it"
    sound = within >= ENOUGH and (ratio[known] >= 0).mean() >= ENOUGH
    return Trial(unit, bool(sound), bool(sound and large), why, human(example))


def _without_rate(unit: str) -> str:
    return unit.removesuffix("/s")


def _kind(evidence: Evidence, column: Column, options: Options) -> Kind:
    """Counter or gauge: what its changes say, else the user's unit, else the documentation."""
    change, _ = evidence.steps(evidence.values(column.quantity))
    change = change[change != 0]
    falls = float(np.mean(change < 0)) if len(change) else 0.0
    said = options.units.get(column.quantity)
    if said is not None:
        return "counter" if said in CPU_TIMES or said in MEMORY_UNITS or said == "count" else "gauge"
    if len(change) >= FEWEST_CHANGES:
        if falls < FALLS_COUNTER:
            return "counter"
        if falls > FALLS_GAUGE:
            if column.kind == "counter":
                raise InputError(
                    f"'{column.title}' ({column.quantity}): documentation says that it counts up, but it falls in "
                    f"{100 * falls:.0f} % of its changes: is it a rate already? Say so with units={{{column.quantity}: B/s}}"
                )
            return "gauge"
    if column.kind is None:
        raise InputError(
            f"'{column.title}' ({column.quantity}): it falls in {100 * falls:.0f} % of {len(change)} changes, which tells neither a "
            f"counter nor a rate; say units={{{column.quantity}: B}} for a counter or units={{{column.quantity}: B/s}} for a rate"
        )
    return column.kind


def _rate(evidence: Evidence, column: Column, options: Options) -> Reading:
    """Of disk, network, swap and faults: whether it counts is told by the data, its unit by nothing but words."""
    quantity = column.quantity
    faults = quantity == "guest_major_faults"
    said = options.units.get(quantity)
    unit = said or column.unit or ("count" if faults else None)
    known = ("count", "count/s") if faults else (*MEMORY_UNITS, *(f"{unit}/s" for unit in MEMORY_UNITS))
    if unit is None or unit not in known:
        raise InputError(
            f"'{column.title}' ({quantity}): {'no test can tell its unit' if unit is None else f'no unit {shown(unit)}'}; say "
            f"units={{{quantity}: B/s}}, or one of {', '.join(known)} (without /s it is a counter)"
        )
    kind = _kind(evidence, column, options)
    size = 1.0 if faults else MEMORY_UNITS[_without_rate(unit)]
    values = evidence.values(quantity)
    change, seconds = evidence.steps(values)
    rates = size * (change[change >= 0] / seconds[change >= 0] if kind == "counter" else values[~np.isnan(values)])
    top = float(np.quantile(rates, 0.999)) if len(rates) else 0.0
    if top > MOST_RATE:
        raise InputError(
            f"'{column.title}' ({quantity}): read as {unit}, {'' if kind == 'gauge' else 'a counter, '}VMs pass {top:.3g} a second, "
            f"which none can; say units={{{quantity}: …}}, one of {', '.join(known)}"
        )
    as_said = "" if column.kind in (None, kind) else f", though documentation calls it a {column.kind}"
    told = f"{'counts up' if kind == 'counter' else 'rises and falls'}{as_said}; at most {top:.3g} a second"
    return Reading(quantity, column.title, _without_rate(unit), kind, "user" if said else "documentation", told)


def _cpu(evidence: Evidence, quantity: str, kind: Kind) -> list[Trial]:
    """Readings of CPU, in cores where the VM's CPUs are known."""
    values = evidence.values(quantity)
    vcpus = _positive(evidence.values("vcpus")) if "vcpus" in evidence else np.full(len(values), np.nan)
    most = np.where(np.isnan(vcpus), MOST_CORES, CPU_SLACK * vcpus)
    if quantity == "cpu_cap":
        return [Trial("MHz", True, True, "a size", f"{evidence.example(quantity)[1]:g} MHz")]
    if kind == "counter":
        return [_counted(evidence, values, unit, size) for unit, size in CPU_TIMES.items()]
    cap = _positive(evidence.values("cpu_cap")) if "cpu_cap" in evidence else np.full(len(values), np.nan)
    seconds = float(np.median(evidence.steps(values)[1])) if len(evidence.steps(values)[1]) else np.nan
    ratios = {
        "cores": values / most, "share": values / CPU_SLACK, "percent": values / (100 * CPU_SLACK), "percent_of_core": values / 100 / most,
        "MHz": values / (CPU_SLACK * cap), **{unit: values * size / seconds / most for unit, size in CPU_TIMES.items()},
    }  # fmt: skip
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
    passes = sound and top > least and (unit not in CPU_TIMES or typical > LEAST_CORES)
    return Trial(
        unit,
        bool(sound),
        bool(passes),
        f"peaks at {100 * top:.3g} % of what can be",
        f"{100 * typical:.3g} % at its peak",
    )


def _counted(evidence: Evidence, values: Array, unit: str, size: float) -> Trial:
    """Of a counter of CPU time."""
    change, seconds = evidence.steps(values)
    cores = change[change >= 0] * size / seconds[change >= 0]
    vcpus = evidence.values("vcpus")[:1] if "vcpus" in evidence else np.array([np.nan])
    most = MOST_CORES if np.isnan(vcpus).all() else CPU_SLACK * float(np.nanmax(evidence.values("vcpus")))
    top = float(np.quantile(cores, 0.99)) if len(cores) else 0.0
    sound = float(np.mean(cores <= most)) >= ENOUGH if len(cores) else False
    return Trial(
        unit,
        bool(sound),
        bool(sound and top >= LEAST_CORES),
        f"VMs use up to {top:.3g} cores",
        f"{top:.3g} cores at its peak",
    )


def _psi(evidence: Evidence, kind: Kind) -> list[Trial]:
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
