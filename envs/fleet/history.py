"""The history of somebody's own VMs on one grid of time, as it was imported (``envs.imports``); what is not known stays NaN.

A slot is the table's most common interval; slot s covers the seconds from ``start_s + s * slot_s`` on. A row that covers several
slots (an older, coarser archive) fills each of them, several rows of one slot are averaged. Rows of ``agg=max`` lie beside the
means as peaks.

Presence follows the first and the last row of a VM: one that comes later than three slots (an hour at least) after all others
began has arrived then, one that ends so much earlier has left; whoever is there at the edges counts as there before and after.
Rows of power off, and such with nothing but zeros for three slots, are times at which a VM is off.

Left out: the host on which a VM was, changes of its size (the largest counts), and anything faster than a slot.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hvgym.envs.errors import InputError
from hvgym.envs.imports.opening import by_value

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

MIB = 2.0**-20

COLUMNS = {
    "cap": ("cap_bytes", MIB),
    "granted": ("granted_bytes", MIB),
    "guest_used": ("guest_used_bytes", MIB),
    "guest_notfree": ("guest_notfree_bytes", MIB),
    "guest_cache": ("guest_cache_bytes", MIB),
    "backed": ("backed_bytes", MIB),
    "active": ("active_bytes", MIB),
    "host_swapped": ("host_swapped_bytes", MIB),
    "swap_in": ("guest_swap_in_bytes_per_s", MIB),
    "swap_out": ("guest_swap_out_bytes_per_s", MIB),
    "major_faults": ("guest_major_faults_per_s", 1.0),
    "psi": ("psi_mem_some_pct", 1.0),
    "cpu": ("cpu_used_cores", 1.0),
    "vcpus": ("vcpus", 1.0),
    "disk_read": ("disk_read_bytes_per_s", MIB),
    "disk_write": ("disk_write_bytes_per_s", MIB),
    "net_rx": ("net_rx_bytes_per_s", MIB),
    "net_tx": ("net_tx_bytes_per_s", MIB),
}
"""Of the plain table, by the names here, and what makes MiB (MiB/s) of them; faults are per second, PSI in per cent."""

MEMORY = ("guest_used", "guest_notfree", "backed", "active")
"""Any of them says something of how much memory a VM uses."""

MOST_OF_CAP, MOST_PROCESS_MIB = 1.25, 1024.0
"""What no VM uses, and no process of one takes, beyond its size (guesses)."""

SCALED = ("borg2019", "google2011")
"""Sources in shares of a machine whose size is not published and was assumed at the import."""

LATE_SLOTS, LATE_S = 3, 3600
"""How much later (earlier) than all others a VM must begin (end) to have arrived (left)."""

OFF_SLOTS = 3
"""Rows in which everything is zero, in a row, that make a VM off."""

HELD_SLOTS = 3
"""A gap that is no longer is bridged by the last value."""


@dataclass(frozen=True, eq=False)
class VmHistory:
    """One VM; arrays ``[slot]``, float32, NaN where nothing is known. `columns`, `peaks`: by the names of `COLUMNS`, MiB or MiB/s;
    one that says nothing at all is not there. present: it exists and is on; known: its memory is known there. scaled: its bytes
    come of a machine size that was assumed."""

    name: str
    group: str
    os_family: str
    cap_mib: float
    vcpus: float | None
    columns: dict[str, Floats]
    peaks: dict[str, Floats]
    present: Flags
    known: Flags
    scaled: bool = False

    @property
    def arrive_slot(self) -> int:
        """The first slot in which it is there; all slots where it never is."""
        return int(self.present.argmax()) if self.present.any() else len(self.present)

    @property
    def leave_slot(self) -> int:
        """The slot after the last in which it is there."""
        return int(len(self.present) - self.present[::-1].argmax()) if self.present.any() else 0


@dataclass(frozen=True, eq=False)
class History:
    """All VMs of a folder, by name, with the same slots. start_s: seconds since 1970, UTC."""

    folder: str
    start_s: int
    slot_s: int
    slots: int
    vms: tuple[VmHistory, ...]

    @property
    def days(self) -> float:
        """Its length."""
        return self.slots * self.slot_s / 86400.0

    def lines(self) -> list[str]:
        """What was read, for people."""
        came = [vm.name for vm in self.vms if vm.arrive_slot > 0]
        left = [vm.name for vm in self.vms if vm.leave_slot < self.slots]
        unknown = 1.0 - sum(int((vm.known & vm.present).sum()) for vm in self.vms) / max(
            1, sum(int(vm.present.sum()) for vm in self.vms)
        )
        text = f"{self.folder}: {len(self.vms)} VMs, {self.days:.1f} days, a slot every {self.slot_s} s"
        text += f", {unknown:.1%} of it unknown (held)" if unknown > 0.0005 else ""
        lines = [text]
        for verb, names in (("came later", came), ("left earlier", left)):
            if names:
                lines.append(f"{verb}: {', '.join(names[:12])}{f' and {len(names) - 12} more' * (len(names) > 12)}")
        return lines


def read_history(folder: str | Path) -> History:
    """Read a table once per process and content. Raises `InputError` for what is none, and for a VM of which nothing is known."""
    place = Path(folder)
    return _read(str(place), stamp(place))


def stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells a table's content from another's without reading it."""
    return tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in table_files(folder).values())


def table_files(folder: Path) -> dict[str, Path]:
    """The files of a table that make its demand, by their place in it; the manifest tells of where they came from."""
    found = [
        *sorted(folder.glob("vm_samples*")),
        *sorted(folder.glob("vm_samples/*")),
        *sorted(folder.glob("vm_meta*")),
    ]
    return {path.relative_to(folder).as_posix(): path for path in found if path.is_file()}


@functools.lru_cache(maxsize=4)
def _read(folder: str, content: tuple[tuple[str, int, int], ...]) -> History:
    from hvgym.envs.imports.table import read_table

    table = read_table(Path(folder))
    meta = {str(row["vm_id"]): {str(key): value for key, value in row.items()} for row in table.meta.to_dict("records")}
    scaled = table.manifest.get("source") in SCALED
    rows = {name: _rows(frame) for name, frame in table.vms()}
    slot_s, first_s, last_s = _grid(list(rows.values()), folder)
    slots = (last_s - first_s) // slot_s
    vms = list[VmHistory]()
    for name in sorted(rows, key=by_value):
        found = _on_grid(rows.pop(name), first_s, slot_s, slots)
        vms.append(_vm(name, found, meta.get(name, {}), slot_s, scaled, folder))
    return History(folder, first_s, slot_s, slots, tuple(vms))


@dataclass(frozen=True)
class _Rows:
    """One VM's rows as they stand in the table, ``[row]``: end and length in seconds, whether they are maxima, say that it is off,
    or cover a time that nobody measured; columns by the names of `COLUMNS`."""

    end_s: npt.NDArray[np.int64]
    length_s: npt.NDArray[np.int64]
    peak: Flags
    off: Flags
    gap: Flags
    columns: dict[str, Floats]


def _rows(frame: "pd.DataFrame") -> _Rows:
    from hvgym.envs.imports.table import FLAGS

    columns = {
        name: (frame[column].to_numpy(np.float64, na_value=np.nan) * scale).astype(np.float32)
        for name, (column, scale) in COLUMNS.items()
    }
    return _Rows(
        frame["t_end_utc_s"].to_numpy(np.int64),
        frame["interval_s"].to_numpy(np.int64),
        (frame["agg"] == "max").to_numpy(),
        (frame["power"] == "off").to_numpy(),
        (frame["flags"].to_numpy(np.int64) & FLAGS["gap"]) > 0,
        {name: values for name, values in columns.items() if np.isfinite(values).any()},
    )


def _grid(vms: list[_Rows], folder: str) -> tuple[int, int, int]:
    """Slot, first and last second of the grid: whole slots since 1970."""
    counts = dict[int, int]()
    for rows in vms:
        interval, many = np.unique(rows.length_s[~rows.gap], return_counts=True)
        for length, count in zip(interval.tolist(), many.tolist(), strict=True):
            counts[length] = counts.get(length, 0) + count
    if not counts:
        raise InputError(f"{folder}: the table has no samples; import the files again")
    slot_s = max(counts, key=lambda length: (counts[length], -length))
    if slot_s < 1:
        raise InputError(f"{folder}: interval_s={slot_s}: must be at least 1 second; import the files again")
    first_s = min(int((rows.end_s - rows.length_s).min()) for rows in vms) // slot_s * slot_s
    last_s = max(int(rows.end_s.max()) for rows in vms)
    return slot_s, first_s, max(first_s + slot_s, -(-last_s // slot_s) * slot_s)


@dataclass(frozen=True)
class _Gridded:
    """One VM's rows on the grid: means, peaks, where rows are and where one says that it is off, ``[slot]``."""

    means: dict[str, Floats]
    peaks: dict[str, Floats]
    rows: Flags
    off: Flags


def _on_grid(rows: _Rows, first_s: int, slot_s: int, slots: int) -> _Gridded:
    last = (rows.end_s - 1 - first_s) // slot_s
    many = np.maximum(1, np.round(rows.length_s / slot_s).astype(np.int64))
    row = np.repeat(np.arange(len(many)), many)
    slot = np.asarray(last[row] - (np.cumsum(many)[row] - 1 - np.arange(int(many.sum()))), np.int64)
    inside = (slot >= 0) & (slot < slots)
    slot, row = slot[inside], row[inside]
    means, peaks = dict[str, Floats](), dict[str, Floats]()
    for name, column in rows.columns.items():
        values = column[row]
        for found, there in ((means, ~rows.peak), (peaks, rows.peak)):
            known = (there & ~rows.gap)[row] & np.isfinite(values)
            if known.any():
                found[name] = _slots(slot[known], values[known], slots, found is peaks)
    there = np.zeros((2, slots), np.bool_)
    there[0, slot] = True
    there[1, slot[rows.off[row]]] = True
    return _Gridded(means, peaks, there[0], there[1])


def _slots(slot: npt.NDArray[np.int64], values: Floats, slots: int, peak: bool) -> Floats:
    """The mean of the values of each slot, or the largest; NaN where there is none."""
    if peak:
        most = np.full(slots, -np.inf)
        np.maximum.at(most, slot, values)
        return np.where(np.isfinite(most), most, np.nan).astype(np.float32)
    counts, sums = np.bincount(slot, minlength=slots), np.bincount(slot, values, minlength=slots)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def _vm(name: str, found: _Gridded, meta: dict[str, Any], slot_s: int, scaled: bool, folder: str) -> VmHistory:
    means = found.means
    cap = means.get("cap")
    if cap is None:
        raise InputError(f"{folder}: VM {name!r} has no cap_bytes; give its configured memory to hvgym import")
    _check(name, means, float(np.nanmax(cap)), folder)
    memory = [means[kind] for kind in MEMORY if kind in means]
    known = np.isfinite(np.stack(memory)).any(axis=0) if memory else np.isfinite(means.get("cpu", cap))
    zeros = _off([*memory, *([means["cpu"]] if "cpu" in means else [])], len(found.rows))
    present = _there(found.rows, slot_s, meta) & ~(found.off | zeros)
    cpus = means.get("vcpus")
    return VmHistory(
        name,
        _text(meta, "group"),
        _text(meta, "os_family"),
        float(np.nanmax(cap)),
        None if cpus is None else float(np.nanmax(cpus)),
        {key: values for key, values in means.items() if key not in ("cap", "vcpus")},
        found.peaks,
        present,
        known & ~zeros,
        scaled,
    )


def _check(name: str, means: dict[str, Floats], cap_mib: float, folder: str) -> None:
    """Raise `InputError` for memory that a VM cannot have: tables that were written by hand are read, too."""
    for kind in (*MEMORY, "guest_cache"):
        values = means.get(kind)
        if values is None:
            continue
        with np.errstate(invalid="ignore"):
            wrong = (values < 0) | (values > MOST_OF_CAP * cap_mib + MOST_PROCESS_MIB)
        if wrong.any():
            value = float(values[int(np.argmax(wrong))])
            raise InputError(
                f"{folder}: VM {name!r} has {COLUMNS[kind][0]} of {value / MIB:.6g}, expected 0 to its cap_bytes, "
                f"{cap_mib / MIB:.6g}; hvgym import plain tells units"
            )


def _text(meta: dict[str, Any], key: str) -> str:
    value = meta.get(key)
    return value if isinstance(value, str) else ""


def _there(rows: Flags, slot_s: int, meta: dict[str, Any]) -> Flags:
    """From arrival to departure."""
    first, last = int(rows.argmax()), int(len(rows) - rows[::-1].argmax())
    late = max(LATE_SLOTS, -(-LATE_S // slot_s))
    there = np.zeros(len(rows), np.bool_)
    came = first > late or meta.get("arrive_kind") == "observed"
    left = len(rows) - last > late or meta.get("depart_kind") == "observed"
    there[first if came else 0 : last if left else len(rows)] = True
    return there


def _off(columns: list[Floats], slots: int) -> Flags:
    """Where all that is known is zero for `OFF_SLOTS` slots or more."""
    if not columns:
        return np.zeros(slots, np.bool_)
    stacked = np.stack(columns)
    zero = np.isfinite(stacked).any(axis=0) & (np.nan_to_num(stacked) == 0.0).all(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], zero, [False]]).astype(np.int8)))
    off = np.zeros(len(zero), np.bool_)
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        off[begin:end] = end - begin >= OFF_SLOTS
    return off


def held(values: Floats) -> Floats:
    """NaN replaced by the last value before, and at the beginning by the first that is known; all NaN stays so."""
    known = np.isfinite(values)
    if known.all() or not known.any():
        return values
    last = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    return values[np.where(last < 0, int(known.argmax()), last)]
