"""Memory demand of real VMs: reads a folder of GWA-T-12 (Bitbrains) files, one VM a file, onto one grid of time slots.

Source: S. Shen, V. van Beek, A. Iosup, "Statistical Characterization of Business-Critical Workloads Hosted in Cloud
Datacenters", CCGrid 2015; Grid Workloads Archive, trace GWA-T-12. Its column names mislead; they are taken to mean:

- 'Timestamp [ms]' is in seconds. Real milliseconds are told by their size (``rows`` reads one file).
- 'Memory capacity provisioned [KB]' climbs during the month, stays near its maximum, falls at reboots and is rarely a
  round size: not what was provisioned but what the host backs, hence `backed_mib`. The size that the VM was given is
  not in the trace; `configured_mib` guesses it as the next standard size above the largest backed value.
- 'Memory usage [KB]' is VMware's "active" memory, a sampled estimate of the pages touched recently: the hot set, not
  what the guest would call used, hence `hot_mib`. Its noise from slot to slot is partly sampling error and is kept.
- KB are KiB: sizes such as 8388608 KB (8 GiB) are common.

Slots are whole multiples of the sampling period since 1970. A slot without a row holds the last value; a VM that starts
late holds its first value backwards. Every row dropped, value clipped and slot filled is counted in the report.

Left out: CPU in MHz, changes of the core count (the largest counts), and anything faster than one slot.
"""

import csv
import math
import statistics
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.fleet.splits import SPLIT_SHARE, Split, fill_splits
from hvgym.envs.traces.rows import (
    CAPACITY,
    CORES,
    CPU_PERCENT,
    READ,
    RECEIVED,
    TIME,
    TRANSMITTED,
    USAGE,
    WRITE,
    Array,
    read_rows,
)

INDEX = "INDEX.csv"
STANDARD_GIB = (0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
SIZE_TOLERANCE = 0.005
LARGEST_PERIOD_RATIO = 1.1
SMALLEST_COVERAGE = 0.5
SIBLING_CORRELATION = 0.5  # of hourly changes; corr_cluster of the published INDEX.csv uses the same


@dataclass
class FileReport:
    """What became of one file, counted up while it is read.

    rows = bad_rows + zero_capacity_rows + duplicate_slots + rows used; rows used + filled_slots = slots of the grid.
    """

    file: str
    rows: int = 0
    bad_rows: int = 0  # wrong number of fields, text, negative or not finite
    zero_capacity_rows: int = 0  # VM not registered: memory capacity or cores are 0
    first_fault: str = ""  # of the first bad row, in words
    millisecond_rows: int = 0
    microsecond_rows: int = 0
    nanosecond_rows: int = 0
    out_of_order_rows: int = 0  # earlier than the row before
    duplicate_slots: int = 0  # rows after the first of their slot
    usage_above_capacity: int = 0  # clipped
    cpu_above_100_percent: int = 0  # clipped
    filled_slots: int = 0
    coverage: float = 0.0  # of the time from the first row to the last row of all files
    left_out: bool = False  # coverage too small: not among the VMs

    def __str__(self) -> str:
        """One line for people: every count that is not 0."""
        left_out = [f"LEFT OUT, covers only {self.coverage:.1%} of the common window"] if self.left_out else []
        counted = [f"{count} {name.replace('_', ' ')}" for name, count in self.counts() if count]
        fault = f"; first bad row, {self.first_fault}" if self.first_fault else ""
        return f"{self.file}: {', '.join(left_out + counted) or '0 rows'}{fault}"

    def counts(self) -> list[tuple[str, int]]:
        """Return the names and values of all counts."""
        return [(part.name, getattr(self, part.name)) for part in fields(self) if part.type is int]


@dataclass(frozen=True)
class TraceReport:
    """What was read, dropped and repaired, file by file."""

    folder: str
    files: tuple[FileReport, ...]

    def total(self, count: str) -> int:
        """Sum one count of `FileReport`, for example 'filled_slots', over all files."""
        return sum(dict(file.counts())[count] for file in self.files)

    def lines(self) -> list[str]:
        """Return the totals and then one line per file."""
        total = FileReport(f"{self.folder}: {len(self.files)} files")
        for name, _ in total.counts():
            setattr(total, name, self.total(name))
        return [str(report) for report in (total, *self.files)]


@dataclass(frozen=True, eq=False)
class TraceVm:
    """One VM on the common grid; every array is [slot]."""

    name: str
    cluster: int  # VMs of one cluster move together: from INDEX.csv, or else by correlation of hourly changes
    cores: int
    configured_mib: float  # backed_mib may pass it by 0.5 %, the tolerance of the standard sizes
    backed_mib: Array
    hot_mib: Array  # at most backed_mib
    cpu_share: Array  # of its cores, 0..1
    disk_mib_per_s: Array  # read + write
    net_mib_per_s: Array  # received + transmitted


@dataclass(frozen=True, eq=False)
class TraceSet:
    """All VMs of a folder, ordered by name (numbers by value), with the same slots."""

    slot_s: float
    start_unix_s: float
    vms: tuple[TraceVm, ...]
    report: TraceReport


@dataclass
class _Samples:
    """The usable rows of one file."""

    file: Path
    period_s: float  # NaN when there is only one point in time
    table: Array  # [row, native column], time in seconds
    report: FileReport
    slots: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # [row], see keep_first_of_slot

    def keep_first_of_slot(self, slot_s: float) -> None:
        """Of each slot keep the row that comes first in the file, and order the rows by time."""
        rows = len(self.table)
        self.slots, first = np.unique(np.floor(self.table[:, TIME] / slot_s).astype(np.int64), return_index=True)
        self.table = self.table[first]
        self.report.duplicate_slots = rows - len(self.table)
        self.report.usage_above_capacity = int((self.table[:, USAGE] > self.table[:, CAPACITY]).sum())
        self.report.cpu_above_100_percent = int((self.table[:, CPU_PERCENT] > 100).sum())


def read_bitbrains(path: str | Path) -> TraceSet:
    """Read every '*.csv' and '*.csv.gz' of a folder but INDEX.csv; `InputError` if one cannot be trusted."""
    folder = Path(path)
    samples = [_read_file(file) for file in _trace_files(folder)]
    slot_s = _common_period(folder, samples)
    for sample in samples:
        sample.keep_first_of_slot(slot_s)
    kept = _well_covered(folder, samples)
    first, last = _window(kept)
    vms = [_on_grid(sample, np.arange(first, last + 1)) for sample in kept]
    vms = [replace(vm, cluster=cluster) for vm, cluster in zip(vms, _clusters(folder, vms, slot_s), strict=True)]
    return TraceSet(slot_s, first * slot_s, tuple(vms), TraceReport(str(folder), tuple(s.report for s in samples)))


def split_clusters(traces: TraceSet, split: Split) -> tuple[int, ...]:
    """Return the indices of the VMs of a split: whole clusters, about 50 / 20 / 30 % of VMs, always the same."""
    if split not in SPLIT_SHARE:
        raise InputError(f"unknown split '{split}'{nearest(split, SPLIT_SHARE)}; use {', '.join(SPLIT_SHARE)}")
    clusters = [vm.cluster for vm in traces.vms]
    if len(set(clusters)) < len(SPLIT_SHARE):
        raise InputError(
            f"{traces.report.folder}: {len(traces.vms)} VMs in {len(set(clusters))} clusters cannot be split into "
            f"{', '.join(SPLIT_SHARE)}; at least 3 VMs in 3 clusters are needed, add files of unrelated VMs"
        )
    return tuple(sorted(fill_splits([vm.name for vm in traces.vms], clusters)[split]))


def _trace_files(folder: Path) -> list[Path]:
    if not folder.exists():
        raise InputError(f"{folder}: no such folder; give the folder with the *.csv or *.csv.gz files of GWA-T-12")
    if not folder.is_dir():
        raise InputError(f"{folder}: this is a file; give the folder that holds it, {folder.parent}")
    files: dict[str, Path] = {}
    for file in sorted([*folder.glob("[!.]*.csv"), *folder.glob("[!.]*.csv.gz")]):
        if file.name != INDEX and files.setdefault(_vm_name(file), file) != file:
            raise InputError(f"{file}: the same VM as {files[_vm_name(file)].name}; remove one of the two")
    if not files:
        raise InputError(f"{folder}: no *.csv or *.csv.gz file here; give the folder with the files of GWA-T-12")
    order = {name: (0, int(name)) if name.isdecimal() else (1, 0) for name in files}
    return [files[name] for name in sorted(files, key=lambda name: (*order[name], name))]


def _vm_name(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".csv")


def _read_file(file: Path) -> _Samples:
    read = read_rows(file)
    table = read.table
    usable = table[(table[:, CAPACITY] > 0) & (table[:, CORES] > 0)]
    report = FileReport(file.name, rows=read.lines, bad_rows=read.lines - len(table), first_fault=read.first_fault)
    report.millisecond_rows, report.microsecond_rows, report.nanosecond_rows = read.in_unit
    report.zero_capacity_rows = len(table) - len(usable)
    report.out_of_order_rows = int((np.diff(usable[:, TIME]) < 0).sum())
    if not len(usable):
        why = (
            ""
            if read.first_fault
            else "; in every row memory capacity or cores are 0"
            if read.lines
            else "; it is a header alone"
        )
        raise InputError(f"{file}: no usable row of {report}{why}")
    return _Samples(file, _period_s(table[:, TIME]), usable, report)


def _period_s(time_s: Array) -> float:
    steps = np.diff(np.unique(time_s))
    return float(max(1, round(np.median(steps)))) if len(steps) else math.nan


def _common_period(folder: Path, samples: list[_Samples]) -> float:
    timed = sorted((sample for sample in samples if sample.period_s > 0), key=lambda sample: sample.period_s)
    if not timed:
        raise InputError(f"{folder}: no file has rows at two times, so the sampling period is unknown; add rows")
    short, long = timed[0], timed[-1]
    if long.period_s > LARGEST_PERIOD_RATIO * short.period_s:
        raise InputError(
            f"{folder}: mixed sampling, {short.file.name} has a row every {short.period_s:.0f} s but "
            f"{long.file.name} every {long.period_s:.0f} s; keep files of one sampling period in one folder"
        )
    return statistics.median_low(sample.period_s for sample in timed)


def _window(samples: list[_Samples]) -> tuple[int, int]:
    """First and last slot, both included."""
    return min(int(sample.slots[0]) for sample in samples), max(int(sample.slots[-1]) for sample in samples)


def _well_covered(folder: Path, samples: list[_Samples]) -> list[_Samples]:
    first, last = _window(samples)
    for sample in samples:
        sample.report.coverage = len(sample.slots) / (last + 1 - first)
        sample.report.left_out = sample.report.coverage < SMALLEST_COVERAGE
    kept = [sample for sample in samples if not sample.report.left_out]
    if not kept:
        early = next(sample for sample in samples if sample.slots[0] == first)
        late = next(sample for sample in samples if sample.slots[-1] == last)
        raise InputError(
            f"{folder}: no file covers half of the common window: {early.file.name} starts at "
            f"{early.table[0, TIME]:.0f} s and {late.file.name} ends at {late.table[-1, TIME]:.0f} s; "
            "remove rows with wrong timestamps and files of another time"
        )
    return kept


def _on_grid(sample: _Samples, grid: npt.NDArray[np.int64]) -> TraceVm:
    """Hold the last row, and before the first row hold the first; the cluster is not known yet (-1)."""
    sample.report.filled_slots = len(grid) - len(sample.slots)
    held = np.clip(np.searchsorted(sample.slots, grid, side="right") - 1, 0, None)
    column = sample.table[held].T
    backed_mib = column[CAPACITY] / 1024
    return TraceVm(
        name=_vm_name(sample.file),
        cluster=-1,
        cores=int(column[CORES].max()),
        configured_mib=_standard_size_mib(float(backed_mib.max())),
        backed_mib=backed_mib,
        hot_mib=np.minimum(column[USAGE] / 1024, backed_mib),
        cpu_share=np.minimum(column[CPU_PERCENT] / 100, 1.0),
        disk_mib_per_s=(column[READ] + column[WRITE]) / 1024,
        net_mib_per_s=(column[RECEIVED] + column[TRANSMITTED]) / 1024,
    )


def _standard_size_mib(largest_mib: float) -> float:
    gib = largest_mib / 1024 / (1 + SIZE_TOLERANCE)
    return 1024.0 * next((size for size in STANDARD_GIB if size >= gib), 128 * math.ceil(gib / 128))


def _clusters(folder: Path, vms: list[TraceVm], slot_s: float) -> list[int]:
    index = folder / INDEX
    if not index.exists():
        return correlated(np.array([vm.hot_mib for vm in vms]), max(1, round(3600 / slot_s)))
    try:
        with index.open(encoding="utf-8-sig", newline="") as file:
            known = {row["vm"]: row["corr_cluster"].strip() for row in csv.DictReader(file)}
        names = sorted({known[vm.name] for vm in vms}, key=lambda name: (len(name), name))  # numbers in their order
        return [int(known[vm.name]) if all(map(str.isdecimal, names)) else names.index(known[vm.name]) for vm in vms]
    except (OSError, KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise InputError(
            f"{index}: {what}; give it the columns vm and corr_cluster (a number or a name) and one row for each file, "
            "or remove it to have clusters computed"
        ) from error


def correlated(hot_mib: Array, hour_slots: int) -> list[int]:
    """Connected components of correlated VMs, each named by its first VM; hot_mib is [vm, slot]."""
    vms, hours = len(hot_mib), hot_mib.shape[1] // hour_slots
    hourly_mib = hot_mib[:, : hours * hour_slots].reshape(vms, hours, hour_slots).mean(axis=2)
    siblings = np.eye(vms, dtype=bool)
    if hours > 2:  # two changes at least
        with np.errstate(invalid="ignore"):  # a flat VM has no correlation
            siblings |= np.atleast_2d(np.corrcoef(np.diff(hourly_mib))) > SIBLING_CORRELATION
    component = np.arange(vms)
    while not np.array_equal(component, smallest := np.where(siblings, component, vms).min(axis=1)):
        component = smallest
    return [int(vm) for vm in component]
