"""Files of the Grid Workloads Archive's VM traces: one VM a file, vCenter's five-minute statistics.

Sources: S. Shen, V. van Beek, A. Iosup, "Statistical Characterization of Business-Critical Workloads Hosted in Cloud
Datacenters", CCGrid 2015 (GWA-T-12, Bitbrains), and its sibling GWA-T-13 (Materna), whose columns and forms are as OpenDC's
reader of both takes them. Their column names mislead (see `envs.traces.bitbrains`, which found out by the files):

- 'Memory usage [KB]' is what VMware calls active, sampled; it is not what the guest uses.
- 'Memory capacity provisioned [KB]' behaves as what the host backs. What the VM was given is not said: cap is the next
  standard size above the largest capacity of the file, a guess, unless ``caps=`` says it.
- KB are KiB: capacities such as 2097152 (2 GiB) are common.

A row with capacity 0 is no sample (an unregistered VM, or its record in a second vCenter): left out, where it stands beside a
real row of the same time that row holds, and else there is a gap.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError
from hvgym.envs.imports.cells import COMMA
from hvgym.envs.imports.flat_tables import next_standard_mib, pieces, there, titled, values, vm_name
from hvgym.envs.imports.local_dates import formats_of
from hvgym.envs.imports.reading import Array, dates_s, numbers
from hvgym.envs.imports.source import Batch, Column, Options

if TYPE_CHECKING:
    import pandas as pd

CAPACITY, USAGE = "Memory capacity provisioned [KB]", "Memory usage [KB]"

COLUMNS = (
    Column("backed", CAPACITY, "KiB", zero="unknown"),
    Column("active", USAGE, "KiB"),
    Column("cpu_used", "CPU usage [%]", "percent"),
    Column("vcpus", "CPU cores"),
    Column("disk_read", "Disk read throughput [KB/s]", "KiB/s"),
    Column("disk_write", "Disk write throughput [KB/s]", "KiB/s"),
    Column("net_rx", "Network received throughput [KB/s]", "KiB/s"),
    Column("net_tx", "Network transmitted throughput [KB/s]", "KiB/s"),
)
LEAST_KB = 65536.0
"""A VM has more than 64 MiB at its most (a guess; the least of the traces at hand has 380). Sizes in MiB under the name of KB
(4096) are below it, and would confirm the sizes that are guessed from them."""

GUESSED = Column("cap", f"guess: next standard size above the largest '{CAPACITY}'", "MiB")


def read_vm(file: Path, options: Options, time: str) -> Iterator[Batch]:
    """The rows of one VM. `time`: what the column of times is called."""
    columns = titled(COLUMNS, options)
    time = options.columns.get("time", time)
    capacity, usage = (column.title for column in columns[:2])
    needed = (time, capacity, usage)
    short = list(islice(pieces(file, needed), 2))  # most files are one piece, which need not be read again

    def again() -> "Iterator[pd.DataFrame]":
        return iter(short) if len(short) == 1 else pieces(file, needed)

    decimal, largest = _first_look(file, again(), capacity, time)
    guessed = () if vm_name(file) in options.caps_mib else (GUESSED,)
    for piece in again():
        read = there(columns, list(piece.columns))
        frame = _frame(piece, read, file, decimal, _times(piece[time], file, time, options.zone))
        if guessed:
            frame["cap"] = next_standard_mib(largest / 1024)
        yield Batch(file, frame[frame["backed"] != 0], (*read, *guessed))


def _times(cells: "pd.Series", file: Path, column: str, zone: str | None) -> Array:
    """Numbers as they stand, or dates."""
    if cells.iloc[0].strip().replace(".", "", 1).isdecimal():
        return numbers(cells, file, column)
    return dates_s(
        cells, file, column, zone, formats_of(cells.unique(), file, column, "write it as 2015-11-04T00:05:00Z")
    )


def _frame(piece: "pd.DataFrame", read: Sequence[Column], file: Path, decimal: str, time: Array) -> "pd.DataFrame":
    import pandas as pd

    said = values(piece, read, file, decimal)
    return pd.DataFrame(
        {"vm": vm_name(file), "time": time, "agg": "mean", "end": True, "line": piece.index.to_numpy(np.int64), **said}
    )


def _first_look(file: Path, read: "Iterator[pd.DataFrame]", capacity: str, time: str) -> tuple[str, float]:
    """Decimal sign of the file, and its largest capacity."""
    decimal, largest = ".", 0.0
    for piece in read:
        if decimal == "." and any(piece[name].str.fullmatch(COMMA).any() for name in piece.columns.drop(time)):
            decimal = ","
        largest = float(np.nanmax([largest, *numbers(piece[capacity], file, capacity, decimal)]))
    if not largest > 0:
        raise InputError(
            f"{file}: column '{capacity}': 0 or nothing in every row; the VM never ran, leave the file out"
        )
    if largest <= LEAST_KB:
        raise InputError(
            f"{file}: column '{capacity}': {largest:g} at most, which as KB are {largest / 1024:.3g} MiB and no VM's; the "
            "column has to be in KB: are they MiB, or GiB?"
        )
    return decimal, largest
