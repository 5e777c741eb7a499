"""What cannot be: values beyond what a VM has, guests whose numbers stand still, columns that are not what they are called.

Single values that are impossible become unknown, are flagged (``nulled``, ``stale``) and counted; where more than 0.5 % of rows
are, a column is read wrongly and the import ends. Each limit is a guess.

Left out: the sum of host memory behind VMs against the host's RAM, which no file says.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hvgym.envs.errors import InputError
from hvgym.envs.imports.clocks import Clock
from hvgym.envs.imports.evidence import Evidence
from hvgym.envs.imports.source import MEMORY_UNITS
from hvgym.envs.imports.table import FLAGS
from hvgym.envs.imports.tally import EXCHANGED, Found, Tally
from hvgym.envs.imports.trials import BACKED_MORE, CAPS, CPU_SLACK, MIB, MOST, MOST_CORES, human
from hvgym.envs.imports.units import Reading, no_vcpus

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

GUEST = ("guest_used_bytes", "guest_notfree_bytes", "guest_cache_bytes", "guest_usable", "guest_unused")
"""What only the guest knows."""

GUEST_RATES = ("guest_swap_in_bytes_per_s", "guest_swap_out_bytes_per_s", "guest_major_faults_per_s")
"""Of its counters, which come in the same answer; that they stand still alone says nothing."""

RESERVE = 0.1
"""Of configured memory: what Linux keeps back counts as unused and not as usable (MemAvailable is MemFree less its watermarks,
and what it can drop besides). In guests with little page cache it is 1 to 4 % (seen in public logs of domstats); the rest is
room (a guess)."""

FROZEN_S, FROZEN_MIB_S, OLD_S = 7200.0, 86_400.0, 300.0
"""A guest whose numbers do not change for so long while it works, and one whose numbers are whole MiB or of which nothing tells
whether it works; whose last answer is so old (or three steps)."""

ALLOTTED = 0.8
"""Share of VMs in which a column never changes that is then no use."""

OVERLAP = 1.05
"""Of a VM's memory, which what it uses and its cache may be together (a guess)."""

CPU_MORE = 2.0
"""CPU beyond a VM's virtual CPUs that passes: what is counted in one interval may have been used in the one before (a guess)."""

GRIDS, ON_GRID, GRID_VMS = (100.0, 1500.0), 0.25, 0.25
"""Of configured memory: where samplers' means lie; share of a VM's values, and of VMs, that say so."""

NEAR_GRID = 0.005
"""Of a step of a grid."""

GRID_VALUES = 25
"""Different values that a VM must have: memory that was given in a few steps lies where it may."""

USED = ("guest_used", "guest_notfree", "active")

LEFT = ("guest_usable", "guest_unused")
"""What use is inferred from where a file has no column of it."""

NEVER_TINY = ("guest_used", "guest_notfree", "backed")

INFERRED_FROM: Mapping[str, tuple[str, ...]] = {
    "guest_used": ("guest_total", "guest_usable"),
    "guest_notfree": ("guest_total", "guest_unused"),
}
"""Where a file lacks the first, these give it."""

LEAST_OF_SIZE, LEAST_USED = 512, 64 * MIB
"""Of a running guest's memory: this part of its size, or so many bytes."""

IN_PER_CENT = ("guest_used", "guest_notfree", "backed")
"""Columns in which no VM that runs stays near 0, so that a share among per cent is seen."""

MOST_AS_SHARE, NO_SHARE, FEWEST_VALUES = 1.01, 5.0, 10
"""Per cent: what a share stays below, what the peaks of VMs pass (a guess); values that a VM must have."""

MINUTES_S, PLANNING_S = 300.0, 1800.0


def check_columns(evidence: Evidence, readings: Mapping[str, Reading]) -> None:
    """Raise `InputError` for columns that are not what they are called."""
    for quantity in (*USED, *LEFT):
        if quantity in readings and readings[quantity].by != "nothing":
            _check_changes(evidence, readings[quantity])
    for quantity in ("guest_used", "guest_notfree", "backed"):
        if quantity in readings and readings[quantity].unit in MEMORY_UNITS:
            _check_sampled(evidence, readings[quantity])
    for free in ("guest_usable", "guest_unused"):
        for used in ("guest_used", "guest_notfree"):
            if free in readings and used in readings:
                _check_opposite(evidence, readings[used], readings[free])


def _check_changes(evidence: Evidence, reading: Reading) -> None:
    """What VMs were given does not change, nor what a guest has told once; what they use does."""
    values = evidence.values(reading.quantity)
    known = ~np.isnan(values) & (values != 0)
    vms, count = np.unique(evidence.vms[known], return_counts=True)
    if not len(vms):
        return
    least, most = (np.full(vms.max() + 1, start) for start in (np.inf, -np.inf))
    np.minimum.at(least, evidence.vms[known], values[known])
    np.maximum.at(most, evidence.vms[known], values[known])
    enough = vms[count >= 10]
    if len(enough) and (share := float(np.mean(least[enough] == most[enough]))) > ALLOTTED:
        still = f"'{reading.title}' ({reading.quantity}): never changes in {100 * share:.0f} % of VMs"
        if reading.quantity in LEFT:
            raise InputError(
                f"{still}, so their guests were not asked again: let the balloon driver report (libvirt: virsh "
                "dommemstat VM --period 10 --live) and record anew, or leave the column out"
            )
        raise InputError(
            f"{still}, so it is what they were allotted, not what they use; give it as granted, and another column of use"
        )


def note_shares(raw: "pd.DataFrame", readings: Mapping[str, Reading], tally: Tally) -> None:
    """Of columns in per cent, VMs whose values may be shares. Whole numbers are none: they would be nothing or all of it."""
    for quantity in IN_PER_CENT:
        reading = readings.get(quantity)
        if quantity in raw and reading is not None and reading.unit == "percent" and reading.by != "user":
            known = raw[["vm", quantity]][raw[quantity] > 0].astype({"vm": str})
            by_vm = known.groupby("vm")[quantity]
            most, whole = by_vm.max(), (known[quantity] % 1 == 0).groupby(known["vm"]).all()
            low = most[(most <= MOST_AS_SHARE) & (by_vm.count() >= FEWEST_VALUES) & ~whole]
            tally.as_shares.setdefault(quantity, {}).update(zip(low.index, low, strict=True))
            others = tally.per_cent.setdefault(quantity, Found())
            others.count += int((most > NO_SHARE).sum())
            others.total += len(most) - len(low)


def check_shares(readings: Mapping[str, Reading], tally: Tally) -> None:
    """Raise `InputError` where single VMs are a share and most are in per cent."""
    for quantity, low in tally.as_shares.items():
        others = tally.per_cent[quantity]
        if low and 2 * others.count > others.total:
            vm, most = min(low.items())
            raise InputError(
                f"'{readings[quantity].title}' ({quantity}): {vm} has at most {most:.4g}, as a share of its memory would be, and "
                f"{others.count} of {others.total} other VMs pass {NO_SHARE:g} per cent; write all in per cent, or if it uses so "
                f"little say units={{{quantity}: percent}}"
            )


def _check_sampled(evidence: Evidence, reading: Reading) -> None:
    """Means of a page sampler lie on a grid of the VM's size. Each value of a VM counts once, for memory that was given once stays
    where it is; and numbers that are rounded to steps that are not much finer than a grid tell nothing of it."""
    values, size = evidence.values(reading.quantity), MEMORY_UNITS[reading.unit]
    known = ~np.isnan(values) & (values > 0) & ~np.isnan(evidence.cap_bytes)
    known &= np.abs(values * size / MIB - np.round(np.nan_to_num(values * size / MIB))) > 1e-6  # given in whole MiB
    rows = np.unique(np.c_[evidence.vms[known], values[known], evidence.cap_bytes[known]], axis=0)
    vms, different, caps = rows[:, 0].astype(np.int64), rows[:, 1] * size, rows[:, 2]
    count = np.bincount(vms, minlength=int(evidence.vms.max()) + 1)
    rounded_to = size * _decimals_step(rows[:, 1], vms, len(count))
    sampled = np.zeros(len(count), bool)
    for grid in GRIDS:
        steps = different / (caps / grid)
        near = np.bincount(vms[np.abs(steps - np.round(steps)) < NEAR_GRID], minlength=len(count))
        fine = rounded_to[vms] <= 2 * NEAR_GRID * caps / grid
        sampled |= (near > ON_GRID * count) & (np.bincount(vms[fine], minlength=len(count)) == count)
    sampled = sampled[count >= GRID_VALUES]
    if len(sampled) and (share := float(np.mean(sampled))) > GRID_VMS and reading.by != "user":
        raise InputError(
            f"'{reading.title}' ({reading.quantity}): in {100 * share:.0f} % of VMs it lies on a grid of 1/100 or 1/1500 of their "
            f"size, as sampled active memory does; give it as active, or say that it is none: "
            f"units={{{reading.quantity}: {reading.unit}}}"
        )


def _decimals_step(values: Array, vms: npt.NDArray[np.int64], count: int) -> Array:
    """By VM the step of the last decimal of its numbers, of three at most; 0 of finer ones."""
    found = np.zeros(count)
    for step in (0.001, 0.01, 0.1, 1.0):
        off = np.abs(values / step - np.round(values / step)) >= 1e-6 * np.maximum(1.0, values / step)
        found[np.bincount(vms[off], minlength=count) == 0] = step
    return found


def _check_opposite(evidence: Evidence, used: Reading, free: Reading) -> None:
    """What is used falls when what is free rises."""
    (more, _), (less, _) = (evidence.steps(evidence.values(reading.quantity)) for reading in (used, free))
    both = min(len(more), len(less))
    moving = (more[:both] != 0) & (less[:both] != 0)
    if moving.sum() >= 20 and (share := float(np.mean((more[:both] * less[:both])[moving] > 0))) > 0.9:
        raise InputError(
            f"'{used.title}' ({used.quantity}) rises with '{free.title}' ({free.quantity}) in {100 * share:.0f} % of changes: one "
            f"of them is the other kind; say columns={{…}}"
        )


def warnings(clock: Clock) -> list[str]:
    """What the step between rows does not let anybody judge."""
    said = []
    if clock.step_s > PLANNING_S:
        said.append(
            f"a row every {clock.step_s / 60:g} minutes: good for planning of occupancy only, peaks and minutes are averaged away"
        )
    elif clock.step_s > MINUTES_S:
        said.append(
            f"a row every {clock.step_s / 60:g} minutes: policies that act within minutes cannot be judged by it"
        )
    mixed = [f"{step:g} s ({100 * share:.1f} %)" for step, share in clock.steps.items() if share >= 0.01]
    if len(mixed) > 1:
        said.append(f"steps differ: {', '.join(mixed[:5])}")
    return said


def cleaned(
    rows: "pd.DataFrame", clock: Clock, tally: Tally, readings: Mapping[str, Reading] | None = None
) -> "pd.DataFrame":
    """Impossible and stale values of whole VMs made unknown, in place. `rows` as `convert.converted` gives them."""
    note_sizes(rows, tally)
    _null_old(rows, clock, tally)
    _null_frozen(rows, tally)
    _null_impossible(rows, tally)
    _null_tiny(rows, tally, readings or {})
    return rows


def note_sizes(rows: "pd.DataFrame", tally: Tally) -> None:
    """VMs of sizes that none has, of which so few are in a fleet that the unit of the others stands."""
    least, most = CAPS
    wrong = ((rows["cap_bytes"] < least) | (rows["cap_bytes"] > most)).to_numpy()
    first = (
        "" if not wrong.any() else f"{rows['vm_id'][wrong].iloc[0]}, {human(float(rows['cap_bytes'][wrong].iloc[0]))}"
    )
    kind = f"VMs of less than {human(least)} or more than {human(most)} (another unit?)"
    tally.add(kind, rows["vm_id"][wrong].nunique(), rows["vm_id"].nunique(), first)


def _null_old(rows: "pd.DataFrame", clock: Clock, tally: Tally) -> None:
    age = (rows["time"] - rows["reported_s"]).to_numpy(np.float64)
    with np.errstate(invalid="ignore"):
        _null_guest(rows, age > max(OLD_S, 3 * clock.step_s), tally, "rows in which the guest's last answer was old")


def _null_frozen(rows: "pd.DataFrame", tally: Tally) -> None:
    """Guest columns that do not change for two hours while CPU or network move; where a file has neither, for a day."""
    guest = [name for name in GUEST if name in rows and rows[name].notna().any()]
    moving = [name for name in ("cpu_used_cores", "net_rx_bytes_per_s", "net_tx_bytes_per_s") if name in rows]
    if not guest or not len(rows):
        return
    values = rows[guest].to_numpy()
    begins = ~_same_vm(rows)
    begins[1:] |= ((values[1:] != values[:-1]) & ~(np.isnan(values[1:]) & np.isnan(values[:-1]))).any(axis=1)
    run = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    last = np.r_[first[1:], len(rows)] - 1
    times = rows["time"].to_numpy()
    lasted_s = times[last] - times[first]
    says = (np.nan_to_num(values) > 0).any(axis=1)[first]
    limit_s = _frozen_after_s(rows, guest)[run_vm(rows, first)]
    if not moving:
        frozen = says & (lasted_s > np.maximum(limit_s, FROZEN_MIB_S))
        _null_guest(rows, frozen[run], tally, "rows in which the guest's numbers stand still for more than a day")
        return
    moved = np.zeros(len(first), bool)
    for name in moving:
        rates = np.where(begins, np.nan, rows[name].to_numpy())  # of the time before the run
        moved |= _spread(rates, run, len(first)) > 0
    whole = rows[guest].notna().any(axis=1).to_numpy()[first]
    frozen = whole & moved & (lasted_s > limit_s)
    _null_guest(rows, frozen[run], tally, "rows in which the guest's numbers stand still while it works")


def run_vm(rows: "pd.DataFrame", at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The VM's number at these rows."""
    return np.asarray(rows["vm_id"].astype("category").cat.codes, np.int64)[at]


def _frozen_after_s(rows: "pd.DataFrame", guest: list[str]) -> Array:
    """By the VM's number: for how long its numbers may stand still. Those in whole MiB a day; in whole per cent or hundredths of
    GiB, as they are of idle VMs, for ever."""
    codes = run_vm(rows, np.arange(len(rows)))
    limits = np.full(int(codes.max()) + 1, np.inf)
    for name in guest:
        values, longest = rows[name].to_numpy(), np.full(len(limits), FROZEN_S)
        steps = (MIB, FROZEN_MIB_S), (1024 * MIB / 100, np.inf), (rows["cap_bytes"].to_numpy() / 100, np.inf)
        for step, limit_s in steps:
            fine = np.zeros(len(limits), bool)
            off = np.abs(values / step - np.round(np.nan_to_num(values / step))) > 1e-6
            fine[np.unique(codes[off & ~np.isnan(values)])] = True
            longest[~fine] = np.maximum(longest[~fine], limit_s)
        limits = np.minimum(limits, longest)
    return limits


def _spread(values: Array, run: npt.NDArray[np.int64], count: int) -> Array:
    known = ~np.isnan(values)
    least, most = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(least, run[known], values[known])
    np.maximum.at(most, run[known], values[known])
    return np.where(most > least, most - least, 0.0)


def _same_vm(rows: "pd.DataFrame") -> Flags:
    same = np.ones(len(rows), bool)
    for name in ("vm_id", "uuid", "agg"):
        if name in rows:
            codes = rows[name].astype("category").cat.codes.to_numpy()
            same[1:] &= codes[1:] == codes[:-1]
    same[:1] = False
    return same


def _null_guest(rows: "pd.DataFrame", stale: Flags, tally: Tally, kind: str) -> None:
    guest = [name for name in GUEST if name in rows]
    if not guest:
        return
    stale = stale & rows[guest].notna().any(axis=1).to_numpy()
    rows.loc[stale, guest] = np.nan
    counted = [name for name in GUEST_RATES if name in rows]
    after = np.r_[False, stale[:-1]] & _same_vm(rows)  # what was counted meanwhile comes at once
    for name in counted:
        still = stale & (rows[name] == 0).to_numpy()
        rows.loc[still | (after & np.r_[False, still[:-1]]), name] = np.nan
    rows.loc[stale, "flags"] |= FLAGS["stale"]
    tally.add(f"{kind}, now unknown", int(stale.sum()), len(rows), _first(rows, stale))


def _null_impossible(rows: "pd.DataFrame", tally: Tally) -> None:
    cap = rows["cap_bytes"].to_numpy()
    for quantity, share in MOST.items():
        name = f"{quantity}_bytes"
        if name in rows:
            bound = share * cap + (BACKED_MORE if quantity == "backed" else 0.0)
            values = rows[name].to_numpy()
            with np.errstate(invalid="ignore"):
                _null(
                    rows,
                    [name],
                    (values > bound) | (values < 0),
                    tally,
                    f"{quantity} that a VM of its size cannot have",
                )
    _null_vcpus(rows, tally)
    _null_cpu(rows, tally)
    _note_overlap(rows, tally)
    if "guest_usable" in rows and "guest_unused" in rows:
        wrong = (rows["guest_unused"] > rows["guest_usable"] + RESERVE * rows["cap_bytes"]).to_numpy()
        guest = [name for name in GUEST if name in rows]
        _null(
            rows,
            guest,
            wrong,
            tally,
            "guest_unused larger than guest_usable, which contains all but the kernel's reserve",
        )
    if "guest_used_bytes" in rows and "guest_notfree_bytes" in rows:
        more = (rows["guest_used_bytes"] > rows["guest_notfree_bytes"] + RESERVE * rows["cap_bytes"]).to_numpy()
        both = rows["guest_used_bytes"].notna() & rows["guest_notfree_bytes"].notna()
        tally.add(EXCHANGED, int(more.sum()), int(both.sum()), _first(rows, more))


def _note_overlap(rows: "pd.DataFrame", tally: Tally) -> None:
    """Used and cached memory pass a VM's size together where shared memory counts in both; or used is what is free, or counts the
    cache. Nothing tells which, so it is said and not mended."""
    if "guest_used_bytes" in rows and "guest_cache_bytes" in rows:
        both = (rows["guest_used_bytes"] + rows["guest_cache_bytes"]).to_numpy()
        over = both > OVERLAP * rows["cap_bytes"].to_numpy()
        kind = "rows in which guest_used and guest_cache together pass the VM's memory: is used what is free, or the cache in it?"
        tally.add(kind, int(over.sum()), int(np.isfinite(both).sum()), _first(rows, over))


def _null_vcpus(rows: "pd.DataFrame", tally: Tally) -> None:
    """What is no number of processors; most of it would have ended the import before (`units`)."""
    if "vcpus" in rows:
        wrong = no_vcpus(rows["vcpus"].to_numpy())
        kind = f"vcpus that are no whole number from 1 to {MOST_CORES:g}"
        _null(rows, ["vcpus"], wrong, tally, kind, strict=False)


def _null_cpu(rows: "pd.DataFrame", tally: Tally) -> None:
    """CPU below nothing, or far beyond what a VM's virtual CPUs can do; where their number is not known, beyond any machine."""
    most = rows["vcpus"].to_numpy() if "vcpus" in rows else np.full(len(rows), np.nan)
    most = CPU_MORE * CPU_SLACK * np.where(np.isnan(most), MOST_CORES, most)
    for quantity in ("cpu_used", "cpu_wait"):
        if f"{quantity}_cores" in rows:
            cores = rows[f"{quantity}_cores"].to_numpy()
            with np.errstate(invalid="ignore"):
                kind = f"{quantity} that a VM of its virtual CPUs cannot have"
                _null(rows, [f"{quantity}_cores"], (cores < 0) | (cores > most), tally, kind)


def _null_tiny(rows: "pd.DataFrame", tally: Tally, readings: Mapping[str, Reading]) -> None:
    """Less than any running guest has, by which a unit that only some VMs or days are in is told: KiB as bytes are under 1/1024 of
    a VM's size. Shares are left out, which may be rounded. What is inferred from other columns is no better than they are."""
    for quantity in NEVER_TINY:
        by = [readings[name] for name in (quantity, *INFERRED_FROM.get(quantity, ())) if name in readings]
        if by and f"{quantity}_bytes" in rows and all(reading.unit in MEMORY_UNITS for reading in by):
            least = np.minimum(rows["cap_bytes"].to_numpy() / LEAST_OF_SIZE, LEAST_USED)
            with np.errstate(invalid="ignore"):
                tiny = (rows[f"{quantity}_bytes"].to_numpy() < least) & (rows[f"{quantity}_bytes"].to_numpy() >= 0)
            kind = f"{quantity} of less than 1/512 of the VM and 64 MiB, which no running guest has (another unit?)"
            _null(rows, [f"{quantity}_bytes"], tiny, tally, kind)


def _null(rows: "pd.DataFrame", names: list[str], wrong: Flags, tally: Tally, kind: str, strict: bool = True) -> None:
    known = int(rows[names].notna().any(axis=1).sum())
    tally.add(f"{kind}, now unknown", int(wrong.sum()), known, _first(rows, wrong), strict=strict)
    if wrong.any():
        rows.loc[wrong, names] = np.nan
        rows.loc[wrong, "flags"] |= FLAGS["nulled"]


def _first(rows: "pd.DataFrame", wrong: Flags) -> str:
    if not wrong.any():
        return ""
    row = rows.iloc[int(np.argmax(wrong))]
    return f"{row['vm_id']} at {row['time']:.0f}"
