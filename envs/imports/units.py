"""What unit each column is in: every reading is tried, and exactly one has to pass, or the import stops and shows them.

*Configured memory* first. A reading passes where 99.5 % of VMs have 64 MiB to 32 TiB and the VM in the middle 256 MiB to 256 GiB;
these two are a factor of 1024 apart, so of B, KiB, MiB and GiB one passes; one that alone keeps to the first will do. KiB and KB
(2.4 % apart) are told by sizes being multiples of 128 MiB in 80 % of VMs, or else of 1 MiB (KiB) or 4 MiB (MiB, GiB). *Other
memory* is held against it: at most what can be (used 1.02 times configured, backed 1.15 times and 1 GiB, as in `MOST`), in 99.5 %
of rows; and no less than a thousandth or so, for the next smaller unit is 1024 times smaller. No VM runs in less than 128 MiB (32
MiB in numbers over 102, which are no per cent) or a tenth of its size, and shares of its size (share, per cent, hundredths) may
not stay below 1 % everywhere, 10 % for the VM in the middle in columns of which a running VM always has some. *CPU* is held
against the VM's CPUs; how little a VM waits for CPU says nothing, so that documentation decides between smaller units.
A *counter* is what falls in less than a tenth of its changes, a gauge in more than a third; between these
nothing is told.

What the source's documentation says is a hypothesis like the others. Where the data contradict it the import stops. It decides only
between readings that all pass, which data cannot tell apart in principle: KiB and KB of memory in use, share and cores of VMs with
one CPU, and the units of disk, network, swap and faults, which nothing bounds. The manifest then says so, and memory has flag
``unit_guessed``. Limits are guesses at what fleets look like; ``units={…}`` overrides each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports import trials
from hvgym.envs.imports.evidence import Evidence
from hvgym.envs.imports.source import MEMORY_UNITS, SHARE_UNITS, Column, Kind, Options
from hvgym.envs.imports.trials import CPU_TIMES, ENOUGH, HUNDREDTHS, MIB, MOST, MOST_CORES, TWINS, Trial, positive

Array = npt.NDArray[np.float64]
By = Literal["data", "user", "documentation", "sibling", "nothing"]

RATES = ("guest_swap_in", "guest_swap_out", "disk_read", "disk_write", "net_rx", "net_tx")

MOST_RATE = 1e12
"""Bytes a second."""

FALLS_COUNTER, FALLS_GAUGE, FEWEST_CHANGES = 0.10, 0.35, 20
FALLS_NEVER, FEWEST_SAID_CHANGES = 0.01, 200
"""Against what the user says: a gauge does not rise all the time."""


MEANS = 0.05
"""Share of a VM's rows that may be means over a change of its size (a guess)."""

NO_MHZ = "unknown in the table, for nothing says how many MHz the VMs may have; export CPU in percent too (vSphere's cpu.usage)"


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
        """Whether memory is in a unit that its values do not tell."""
        return self.by in ("documentation", "sibling") and self.quantity in ("cap", *MOST)


def decided(evidence: Evidence, columns: Mapping[str, Column], options: Options) -> tuple[dict[str, Reading], Evidence]:
    """How each column is read, and the evidence with configured memory known. Raises `InputError` where none or several pass."""
    for quantity in options.units:
        if quantity not in (*columns, "time"):
            raise InputError(f"units: {quantity}: the files have no such column; they have {', '.join(columns)}")
    readings = dict[str, Reading]()
    sizes = next((name for name in ("cap", "guest_total") if name in columns and name in evidence), None)
    if sizes is not None and not (sizes == "guest_total" and options.caps_mib):
        readings[sizes] = _read(evidence, columns[sizes], options, trials.sizes(evidence, sizes), sibling=None)
        evidence = evidence.with_caps(positive(evidence.values(sizes)) * MEMORY_UNITS[readings[sizes].unit])
    evidence = evidence.with_caps(_with_said(evidence, options.caps_mib))
    if np.isnan(evidence.cap_bytes).all():
        raise InputError("cap: the files do not say what VMs may have at most; give caps=FILE.csv with columns vm,mib")
    sibling = readings[sizes].unit if sizes in readings else "MiB"
    if "vcpus" in columns and "vcpus" in evidence:  # CPU is held against it
        _check_vcpus(evidence, columns["vcpus"])
    for quantity, column in columns.items():
        if quantity not in readings and quantity in evidence:
            readings[quantity] = _reading(evidence, column, options, sibling)
    return readings, evidence


def _with_said(evidence: Evidence, caps_mib: Mapping[str, float]) -> Array:
    """What the user says of a VM wins over its files."""
    names = evidence.frame["vm"].cat.categories
    said = np.array([caps_mib.get(str(name), np.nan) * MIB for name in names])[evidence.vms]
    return np.where(np.isnan(said), evidence.cap_bytes, said)


def _reading(evidence: Evidence, column: Column, options: Options, sibling: str) -> Reading:
    quantity = column.quantity
    values = evidence.values(quantity)
    if not (np.nan_to_num(values) != 0).any():
        unit, kind = _without_rate(options.units.get(quantity) or column.unit or "B"), column.kind or "gauge"
        return Reading(quantity, column.title, unit, kind, "nothing", "0 in all rows that were looked at")
    if quantity in MOST:
        tried = trials.memory(evidence, quantity)
        if "pages" not in (column.unit, options.units.get(quantity)):
            tried = [trial for trial in tried if trial.unit != "pages"]  # counted by few, and asked for by name
        if quantity not in HUNDREDTHS and not {column.unit, options.units.get(quantity)} & set(SHARE_UNITS):
            tried = [trial for trial in tried if trial.unit != "hundredths"]
        return _read(evidence, column, options, tried, sibling)
    if quantity in RATES or quantity == "guest_major_faults":
        return _rate(evidence, column, options)
    if quantity == "vcpus":
        return Reading(quantity, column.title, "", "gauge", "data", f"{np.nanmin(values):g} to {np.nanmax(values):g}")
    said = options.units.get(quantity)
    if (said or column.unit) == "MHz" and quantity != "cpu_cap" and "cpu_cap" not in evidence:
        return Reading(quantity, column.title, "MHz", "gauge", "user" if said else "documentation", NO_MHZ)
    kind = _kind(evidence, column, options)
    tried = trials.cpu(evidence, quantity, kind) if quantity != "psi_mem_some" else trials.psi(evidence, kind)
    if kind == "gauge" and not {column.unit, options.units.get(quantity)} & set(CPU_TIMES):
        tried = [
            trial for trial in tried if trial.unit not in CPU_TIMES
        ]  # CPU time of an interval is rare, and asked for by name
    return _read(evidence, column, options, tried, None, kind)


def _check_vcpus(evidence: Evidence, column: Column) -> None:
    """Raise `InputError` where it is no number of processors (MHz, memory). 0 says nothing; single fractions of a VM are means over
    a change (RRD)."""
    values, vms = evidence.values("vcpus"), evidence.vms
    known = ~np.isnan(values) & (values != 0)
    wrong = known & no_vcpus(values)
    wrong &= (
        np.bincount(vms[wrong], minlength=vms.max() + 1) > MEANS * np.bincount(vms[known], minlength=vms.max() + 1)
    )[vms]
    if wrong.sum() > (1 - ENOUGH) * known.sum():
        at = int(np.argmax(wrong))
        raise InputError(
            f"'{column.title}' (vcpus): {evidence.frame['vm'].iloc[at]} has {values[at]:.6g}, expected its virtual CPUs, a whole "
            f"number from 1 to {MOST_CORES:g}; is it MHz, or another column? say columns={{vcpus: …}}, or leave it out"
        )


def no_vcpus(values: Array) -> npt.NDArray[np.bool_]:
    """Where a number is none of virtual CPUs."""
    with np.errstate(invalid="ignore"):
        wrong: npt.NDArray[np.bool_] = (values < 0) | (values > MOST_CORES) | (values % 1 > 0)
    return wrong


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
    if declared is not None and known[declared].sound and _may_idle(evidence, column):
        others = ", ".join(passing)
        return reading(
            str(declared), "documentation", f"; the fleet is idle, or they are {others}: documentation decides"
        )
    if declared is not None and not passing and known[declared].sound:
        return reading(declared, "documentation", "; no reading passes all tests, documentation decides")
    if declared is None and sibling in passing and set(passing) <= {sibling, TWINS.get(str(sibling)), _binary(sibling)}:
        return reading(str(sibling), "sibling", f"; {' or '.join(passing)}, taken as configured memory is")
    raise InputError(_stopped(evidence, column, [known[unit] for unit in passing], known.get(str(declared)), tried))


def _may_idle(evidence: Evidence, column: Column) -> bool:
    """Whether CPU that stays below 1 % is no contradiction: nothing is smaller than a share by a hundred, and shares have more
    decimals than the two of per cent."""
    if column.quantity != "cpu_used":
        return False
    values = 100 * evidence.values(column.quantity)
    return column.unit == "share" or (
        column.unit == "percent" and bool(np.nanmax(np.abs(values - np.round(values))) < 1e-6)
    )


def _binary(unit: str | None) -> str | None:
    return next((binary for binary, decimal in TWINS.items() if decimal == unit), None)


def _stopped(
    evidence: Evidence, column: Column, passing: Sequence[Trial], declared: Trial | None, tried: Sequence[Trial]
) -> str:
    quantity = column.quantity
    vm, value = evidence.example(quantity)
    sound = [trial for trial in tried if trial.sound and trial is not declared]
    readings = [*([declared] if declared else []), *(passing or sound or tried)]
    shown_as = "; ".join(f"as {trial.unit} {trial.means} ({trial.why})" for trial in readings)
    first = (
        f"documentation says {declared.unit}, which the data contradict"
        if declared
        else f"{'several readings pass' if passing else 'no reading passes'}"
    )
    units = ", ".join(trial.unit for trial in passing or sound or tried)
    which = f"units={{{quantity}: {passing[0].unit}}}" if passing else f"units={{{quantity}: …}}, one of {units}"
    asked = "Say which it is" if passing else "Is it another quantity? If one of these is right, say so"
    below = float(np.mean(evidence.values(quantity) < 0))
    negative = (
        f" {100 * below:.2g} % of rows are below 0: leave cells of what is not known empty." if below > 0.001 else ""
    )
    far = evidence.apart(quantity)
    one = (
        f" Furthest from the rest is {far[0]}: {far[1]:.6g} at most, where others have {far[2]:.6g} to {far[3]:.6g}."
        if far
        else ""
    )
    return f"'{column.title}' ({quantity}): {first}.{negative}{one} {vm} has {value:.6g}: {shown_as}. {asked}: {which}"


def _without_rate(unit: str) -> str:
    return unit.removesuffix("/s")


def _kind(evidence: Evidence, column: Column, options: Options) -> Kind:
    """Counter or gauge: what the user's unit says, else its changes, else the documentation, whose unit may say it."""
    change, _ = evidence.steps(evidence.values(column.quantity))
    change = change[change != 0]
    falls = float(np.mean(change < 0)) if len(change) else 0.0
    said = options.units.get(column.quantity)
    if said is not None:
        return _said_kind(column, said, falls, len(change))
    if len(change) >= FEWEST_CHANGES:
        per_s = (column.unit or "").endswith("/s")  # documented rates are counters only if they hardly ever fall
        if falls < (FALLS_NEVER if per_s else FALLS_COUNTER):
            return "counter"
        if falls > FALLS_GAUGE:
            if column.kind == "counter":
                raise InputError(
                    f"'{column.title}' ({column.quantity}): documentation says that it counts up, but it falls in "
                    f"{100 * falls:.0f} % of its changes: is it a rate already? Say so with "
                    f"units={{{column.quantity}: {_as(column)[1]}}}"
                )
            return "gauge"
    if column.kind is None and (column.unit is None or _counts(column.unit)):
        counter, gauge = _as(column)
        raise InputError(
            f"'{column.title}' ({column.quantity}): it falls in {100 * falls:.0f} % of {len(change)} changes, which tells neither "
            f"a counter nor a rate; say units={{{column.quantity}: {counter}}} for a counter or "
            f"units={{{column.quantity}: {gauge}}} for a rate"
        )
    return column.kind or "gauge"


def _counts(unit: str) -> bool:
    """Whether an amount in this unit is one since a start: no rate, no level."""
    return unit in CPU_TIMES or unit in MEMORY_UNITS or unit == "count"


def _as(column: Column) -> tuple[str, str]:
    """Units to name in a message, of a counter and of a gauge: the documented one where it is of that kind."""
    quantity, unit = column.quantity, column.unit
    if quantity in RATES or quantity == "guest_major_faults":
        bare = _without_rate(unit or ("B" if quantity in RATES else "count"))
        return bare, f"{bare}/s"
    gauge = "percent" if quantity == "psi_mem_some" else "cores"
    if unit is None:
        return "s", gauge
    return (unit, gauge) if _counts(unit) else ("s", unit)


def _said_kind(column: Column, said: str, falls: float, changes: int) -> Kind:
    """What the user's unit says, where it can be."""
    counts = _counts(said)
    many = changes >= FEWEST_SAID_CHANGES
    if many and counts and falls > FALLS_GAUGE and said not in CPU_TIMES:  # CPU time of an interval is a gauge too
        raise InputError(
            f"'{column.title}' ({column.quantity}): units={{{column.quantity}: {said}}} says that it counts up, but it falls in "
            f"{100 * falls:.0f} % of its changes; units={{{column.quantity}: {said}/s}} is a rate"
        )
    if many and not counts and falls < FALLS_NEVER:
        raise InputError(
            f"'{column.title}' ({column.quantity}): units={{{column.quantity}: {said}}} says how much there is at a time, but it "
            f"falls in {100 * falls:.2g} % of {changes:,} changes, so it counts up; say its unit as a counter, "
            f"{'ns, us, ms or s' if '/' not in said else said.removesuffix('/s')}"
        )
    return "counter" if counts else "gauge"


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
            f"'{column.title}' ({quantity}): read as {unit}, {'' if kind == 'gauge' else 'a counter, '}VMs pass {top:.3g} a "
            f"second, which none can; say units={{{quantity}: …}}, one of {', '.join(known)}"
        )
    as_said = "" if column.kind in (None, kind) else f", though documentation calls it a {column.kind}"
    told = f"{'counts up' if kind == 'counter' else 'rises and falls'}{as_said}; at most {top:.3g} a second"
    return Reading(quantity, column.title, _without_rate(unit), kind, "user" if said else "documentation", told)
