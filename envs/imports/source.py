"""What a source of VM history hands to the importer: rows as they stand in its files, and what it believes their units to be.

A source reads and names; it converts nothing, rejects nothing by size, and decides nothing about units. What a column
holds is believed only once `envs.imports.units` has tested it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["gauge", "counter"]

QUANTITIES: Mapping[str, str] = {
    "cap": "memory configured for the VM, what it can have at most",
    "granted": "memory that the guest may use now (balloon actual, Hyper-V's physical memory); mostly constant",
    "balloon_taken": "memory that the balloon holds (VMware's vmmemctl): cap less granted",
    "guest_total": "memory that the guest sees (virtio's available, MemTotal)",
    "guest_usable": "memory that the guest could give without swapping (virtio's usable, MemAvailable)",
    "guest_unused": "memory that the guest uses for nothing (virtio's unused, MemFree)",
    "guest_used": "guest_total less guest_usable, where a source says it so",
    "guest_notfree": "guest_total less guest_unused, page cache included, where a source says it so",
    "guest_cache": "page cache of the guest",
    "backed": "host memory really behind the VM (resident, consumed)",
    "active": "pages touched lately, sampled (VMware's active, esxtop's Touched)",
    "host_swapped": "memory of the VM that the host has swapped out",
    "host_compressed": "memory of the VM that the host holds compressed",
    "guest_swap_in": "what the guest reads from its swap",
    "guest_swap_out": "what the guest writes to its swap",
    "guest_major_faults": "major page faults of the guest",
    "psi_mem_some": "share of time in which some task of the VM waits for memory (PSI)",
    "cpu_used": "CPU used",
    "cpu_cap": "CPU that the VM can use, where a source says it in MHz",
    "vcpus": "virtual CPUs",
    "cpu_wait": "CPU time that the VM was ready for and did not get",
    "disk_read": "read from disk",
    "disk_write": "written to disk",
    "net_rx": "received",
    "net_tx": "transmitted",
}
"""Every column that a source may yield, by its name in a `Batch`."""

MEMORY_UNITS: Mapping[str, float] = {
    "B": 1.0, "KiB": 2.0**10, "KB": 1e3, "MiB": 2.0**20, "MB": 1e6, "GiB": 2.0**30, "GB": 1e9, "pages": 4096.0,
}  # fmt: skip
"""Bytes in each. Of rates the unit is one of these with ``/s``, of counters one of these."""

SHARE_UNITS: Mapping[str, float] = {"share": 1.0, "percent": 1e-2, "hundredths": 1e-4}
"""Of cap (memory), of the VM's CPUs (cpu_used: ``share``, ``percent``), or of time (PSI)."""

CPU_UNITS = ("cores", "share", "percent", "percent_of_core", "MHz", "s", "ms", "us", "ns")
"""Of cpu_used and cpu_wait: as a level, or as CPU time (a counter, or time in the interval)."""


ALL, MACHINE = "all", "machine"
"""Stand among the sizes of ``caps=`` for every VM of a trace without sizes and for Borg's largest machine; no VM is called so."""


@dataclass(frozen=True)
class Column:
    """A column as a source knows it. `unit` and `kind` are what its documentation says: where they are None nothing is said, and
    every unit (gauge or counter) is tested. `zero`: what 0 means there; ``unknown`` is never read as a value."""

    quantity: str
    title: str
    unit: str | None = None
    kind: Kind | None = None
    zero: Literal["value", "unknown"] = "value"


@dataclass(frozen=True)
class Batch:
    """Some rows of one file, in the file's order; at most some 100,000, so that a file of any size passes in bounded memory.

    `frame` has the columns ``vm`` (str: the VM's name, as people know it), ``time`` (float64: the number that stands in the
    file, in whatever unit; seconds since 1970 UTC where the file writes dates) and any of `QUANTITIES` (float64, NaN where
    nothing is said). Optional: ``uuid``, ``host``, ``group``, ``os`` (str), ``power`` (str: on, off or unknown),
    ``interval_s`` (float64, where the file says it), ``agg`` (str: mean, last, max; a column of maxima is rows of their own),
    ``end`` (bool: time is the end of its interval; without it False for means, see docs/import.md), ``reported_s``
    (float64: seconds since 1970 at which the guest last answered), ``arrive_s``, ``depart_s`` (float64, as ``time``, of sources
    that know lives). ``line`` (int64): line number in the file, for messages.
    """

    file: Path
    frame: "pd.DataFrame"
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Options:
    """What the user says of the files. `columns`: quantity (or ``vm``, ``time``) to the name it has there; `units`: quantity
    to unit, in place of the source's belief; `zone`: of dates without one, an IANA name; `caps_mib`: configured memory by VM,
    for files that do not say it."""

    columns: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    zone: str | None = None
    caps_mib: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A kind of file. `command`: the one command or query that makes it, as docs/import.md prints it; `columns`: what it reads,
    as ``hvgym import --help`` prints it; `patterns`: which files of a folder are taken (glob); `notes`: traps, in a sentence
    each; `licence`: of published traces; `read`: its rows, streamed. ``read`` raises `InputError` that names file, line, column,
    value, and what would be right."""

    name: str
    title: str
    command: str
    columns: tuple[Column, ...]
    patterns: tuple[str, ...]
    read: Callable[[Sequence[Path], Options], Iterator[Batch]]
    notes: tuple[str, ...] = ()
    licence: str | None = None
