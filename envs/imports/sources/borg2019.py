"""Google's cluster traces of 2019 (Borg, version 3): use of instances, in windows of at most 300 s.

Columns and meanings as in google/cluster-data, clusterdata_trace_format_v3.proto (InstanceUsage). Two forms are read: the
table itself as the query below exports it, and extracts that have one column ``time`` (start of the window). There a window
ends at the next multiple of 300 s, for it is short only where an instance starts or stops.

Memory is a fraction of the largest machine's. What that machine had is not published: ``caps={machine: 524288}`` says what
to take it for, in MiB, and all sizes are scaled by it. An instance is a container, not a VM: its usage is memory behind it, hence
`backed`; its limit is its cap. Times are microseconds since the trace began (600 s before its period): relative, no dates.

Left out: CPU (in normalised units of which nobody knows how many make a core), random samples, distributions.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.flat_tables import pieces
from hvgym.envs.imports.reading import Array, files_of, numbers
from hvgym.envs.imports.source import MACHINE, Batch, Column, Options, Source

if TYPE_CHECKING:
    import pandas as pd

WINDOW_S = 300.0

CAP = Column("cap", "memory_limit, or assigned_memory", "B")
BACKED = Column("backed", "average_usage.memory, and in rows of maxima maximum_usage.memory", "B")
CACHE = Column("guest_cache", "page_cache_memory", "B")

START = ("start_time", "time")
MEAN = ("average_usage.memory", "average_usage_memory", "avg_memory_usage")
MAXIMUM = ("maximum_usage.memory", "maximum_usage_memory", "max_memory_usage")
LIMIT = ("memory_limit", "assigned_memory")


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of every instance, ``collection-index``: means, and maxima where they are there."""
    for file in files_of(paths, SOURCE.patterns):
        machine_bytes = _machine_bytes(options, file)
        for piece in pieces(file, ("collection_id", "instance_index")):
            frame, columns = _means(piece, file, machine_bytes)
            yield Batch(file, frame, columns)
            if maximum := _name(piece, MAXIMUM):
                highest = _fractions(piece, maximum, file) * machine_bytes
                rows = frame[["vm", "time", "interval_s", "end", "group", "line", "cap"]]
                yield Batch(file, rows.assign(agg="max", backed=highest), (CAP, BACKED))


def _machine_bytes(options: Options, file: Path) -> float:
    if MACHINE in options.caps_mib:
        return options.caps_mib[MACHINE] * 2.0**20
    raise InputError(
        f"{file}: memory is a fraction of the largest machine's, whose size is not published; say what to take it for in MiB, as "
        f"in caps={{{MACHINE}: 524288}}, and take results as scaled"
    )


def _name(piece: "pd.DataFrame", names: Sequence[str]) -> str | None:
    return next((name for name in names if name in piece.columns), None)


def _needed(piece: "pd.DataFrame", names: Sequence[str], file: Path) -> str:
    if name := _name(piece, names):
        return name
    raise InputError(f"{file}: no column {' or '.join(names)}; the columns are {shown(', '.join(piece.columns), 160)}")


def _means(piece: "pd.DataFrame", file: Path, machine_bytes: float) -> "tuple[pd.DataFrame, tuple[Column, ...]]":
    start, mean, limit = (_needed(piece, names, file) for names in (START, MEAN, LIMIT))
    start_s = numbers(piece[start], file, start) / 1e6
    end_s = (
        numbers(piece["end_time"], file, "end_time") / 1e6 if "end_time" in piece.columns else _window_end_s(start_s)
    )
    ends_early = end_s <= start_s
    if ends_early.any():
        at = int(np.argmax(ends_early))
        raise InputError(
            f"{file}: line {int(piece.index[at])}: column 'end_time': {shown(piece['end_time'].iloc[at])} is not behind {start} "
            f"{shown(piece[start].iloc[at])}; export the table's own columns, in microseconds"
        )
    frame = piece[[]].assign(
        vm=piece["collection_id"].str.strip() + "-" + piece["instance_index"].str.strip(),
        time=start_s,
        interval_s=end_s - start_s,
        end=False,
        agg="mean",
        group=piece["collection_id"].str.strip(),
        line=piece.index.to_numpy(np.int64),
        cap=_fractions(piece, limit, file) * machine_bytes,
        backed=_fractions(piece, mean, file) * machine_bytes,
    )
    if "machine_id" in piece.columns:
        frame["host"] = piece["machine_id"].str.strip()
    if "page_cache_memory" not in piece.columns:
        return frame, (CAP, BACKED)
    frame["guest_cache"] = _fractions(piece, "page_cache_memory", file) * machine_bytes
    return frame, (CAP, BACKED, CACHE)


def _fractions(piece: "pd.DataFrame", name: str, file: Path) -> Array:
    """Of the largest machine's memory, which nothing on it passes."""
    found = numbers(piece[name], file, name)
    wrong = found > 1
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(
            f"{file}: line {int(piece.index[at])}: column '{name}': {shown(piece[name].iloc[at])} is more than the largest machine "
            "has; memory is a fraction of it, from 0 to 1, as the trace publishes it"
        )
    return found


def _window_end_s(start_s: np.ndarray) -> np.ndarray:
    return (np.floor(start_s / WINDOW_S) + 1) * WINDOW_S


SOURCE = Source(
    name="borg2019",
    title="Google Borg 2019 (cluster traces version 3), instance_usage",
    command=(
        "bq query --use_legacy_sql=false --format=csv --max_rows=10000000 'SELECT start_time, end_time, collection_id, "
        "instance_index, machine_id, average_usage.memory AS average_usage_memory, maximum_usage.memory AS maximum_usage_memory, "
        "assigned_memory, page_cache_memory FROM `google.com:google-cluster-data.clusterdata_2019_a.instance_usage` "
        "WHERE collection_id IN (...)' > usage.csv"
    ),
    columns=(CAP, BACKED, CACHE),
    patterns=("*.csv",),
    read=read,
    notes=(
        "Memory is a fraction of the largest machine's: caps={machine: 524288} says what to take it for, in MiB.",
        "Times are relative to the start of the trace, in microseconds.",
        "Windows shorter than 300 s stand at starts and stops; a missing window is an instance that does not run.",
        "Instances are containers: memory behind them is what they use, so no size of a guest is known.",
        "Instances of one job (collection) are one group: they behave alike.",
    ),
    licence="CC-BY 4.0, Google",
)
