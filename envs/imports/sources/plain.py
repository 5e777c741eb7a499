"""Any table with a row a VM and time: CSV or Parquet, its columns named on the command line or as in the plain table."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.imports.local_dates import formats_of
from hvgym.envs.imports.reading import dates_s, decimal_of, frames, numbers
from hvgym.envs.imports.source import QUANTITIES, Batch, Column, Kind, Options, Source

if TYPE_CHECKING:
    import pandas as pd

TEXTS = ("uuid", "host", "group", "os", "power", "agg")

OTHERS = ("interval_s", "reported_s", "arrive_s", "depart_s")

ROWS = 50_000

TABLE: Mapping[str, str] = {
    "vm": "vm_id", "time": "t_end_utc_s", "interval_s": "interval_s", "agg": "agg", "power": "power", "host": "host_id",
    "cap": "cap_bytes", "granted": "granted_bytes", "guest_used": "guest_used_bytes", "guest_notfree": "guest_notfree_bytes",
    "guest_cache": "guest_cache_bytes", "backed": "backed_bytes", "active": "active_bytes", "host_swapped": "host_swapped_bytes",
    "host_compressed": "host_compressed_bytes", "guest_swap_in": "guest_swap_in_bytes_per_s",
    "guest_swap_out": "guest_swap_out_bytes_per_s", "guest_major_faults": "guest_major_faults_per_s",
    "psi_mem_some": "psi_mem_some_pct", "cpu_used": "cpu_used_cores", "vcpus": "vcpus", "cpu_wait": "cpu_wait_cores",
    "disk_read": "disk_read_bytes_per_s", "disk_write": "disk_write_bytes_per_s", "net_rx": "net_rx_bytes_per_s",
    "net_tx": "net_tx_bytes_per_s",
}  # fmt: skip
"""Names that the plain table has for them: with these a file needs no map."""

UNIT_OF: Mapping[str, tuple[str, Kind]] = {
    "_bytes_per_s": ("B/s", "gauge"), "faults_per_s": ("count/s", "gauge"), "_bytes": ("B", "gauge"), "_cores": ("cores", "gauge"),
    "_pct": ("percent", "gauge"),
}  # fmt: skip


def read(files: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of all files; each may have other columns of those that are mapped, but vm and time."""
    for name in options.columns:
        if name not in ("vm", "time", *TEXTS, *OTHERS, *QUANTITIES):
            known = ("vm", "time", *TEXTS, *OTHERS, *QUANTITIES)
            raise InputError(
                f"columns: {shown(name)}: no such quantity{nearest(name, known)}; known: {', '.join(known)}"
            )
    for file in files:
        yield from _parquet(file, options) if _is_parquet(file) else _csv(file, options)


def _is_parquet(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def _map(file: Path, given: Sequence[str], options: Options) -> dict[str, str]:
    """Quantity to name in this file."""
    for quantity, name in options.columns.items():
        if name not in given:
            raise InputError(
                f"{file}: columns: {quantity}: {shown(name)} is no column{nearest(name, given)}; the file has "
                f"{', '.join(given[:20])}"
            )
    own = {quantity: name for quantity, name in TABLE.items() if name in given and quantity not in options.columns}
    found = dict(options.columns) | {
        quantity: name for quantity, name in own.items() if name not in options.columns.values()
    }
    for needed in ("vm", "time"):
        if needed not in found:
            raise InputError(
                f"{file}: nothing says which column is {needed}; say columns={{vm: …, time: …, cap: …, guest_used: …}}; the file "
                f"has {', '.join(given[:20])}"
            )
    if not set(found) & set(QUANTITIES):
        raise InputError(f"{file}: no column of memory is mapped; say columns={{cap: …, guest_used: …}}")
    return found


def _columns(names: Mapping[str, str], options: Options) -> tuple[Column, ...]:
    """The plain table's own columns have their units in their names; of others nothing is believed."""
    return tuple(
        Column(quantity, name, *(_said(name) if name == TABLE.get(quantity) else (None, None)))
        for quantity, name in names.items()
        if quantity in QUANTITIES
    )


def _said(name: str) -> tuple[str | None, Kind | None]:
    """Unit and kind, by the ending of a name."""
    return next((said for ending, said in UNIT_OF.items() if name.endswith(ending)), (None, None))


def _csv(file: Path, options: Options) -> Iterator[Batch]:
    names: dict[str, str] | None = None
    decimal, formats = ".", tuple[str, ...]()
    for cells in frames(file, rows=ROWS):
        if names is None:
            names = _map(file, list(cells.columns), options)
            mapped = [name for quantity, name in names.items() if quantity in QUANTITIES]
            # a comma separates cells where the header has more of them than of anything else
            decimal = decimal_of(cells[mapped].to_numpy().ravel(), ";")
            formats = formats_of(cells[names["time"]].unique(), file, names["time"], "write 2024-03-10T01:05:00Z")
        yield Batch(file, _frame(cells, names, file, options, decimal, formats), _columns(names, options))
    if names is None:
        raise InputError(f"{file}: no rows below the header")


def _frame(
    cells: "pd.DataFrame",
    names: Mapping[str, str],
    file: Path,
    options: Options,
    decimal: str,
    formats: Sequence[str],
) -> "pd.DataFrame":
    import pandas as pd

    columns: dict[str, object] = {
        "vm": _words(cells[names["vm"]]),
        "time": _times(cells[names["time"]], file, names["time"], options.zone, decimal, formats),
        "line": cells.index.to_numpy(np.int64),
        "end": 1.0,
    }
    for quantity, name in names.items():
        if quantity in TEXTS:
            columns[quantity] = _words(cells[name])
        elif quantity in OTHERS or quantity in QUANTITIES:
            columns[quantity] = numbers(cells[name], file, name, decimal)
    return pd.DataFrame(columns, index=cells.index).reset_index(drop=True)


def _words(cells: "pd.Series") -> object:
    """Names without blanks around them; None where there is none. A column has few different ones."""
    import pandas as pd

    codes, words = pd.factorize(cells)
    return np.array([str(word).strip() or None for word in words], object)[codes]


def _times(cells: "pd.Series", file: Path, name: str, zone: str | None, decimal: str, formats: Sequence[str]) -> object:
    """Numbers, or dates; what the first row is."""
    first = str(cells.iloc[0]).strip()
    if first.replace(".", "", 1).replace(",", "", 1).lstrip("-").isdecimal():
        return numbers(cells, file, name, decimal)
    return dates_s(cells, file, name, zone, formats)


def _parquet(file: Path, options: Options) -> Iterator[Batch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(file)
        names = _map(file, opened.schema_arrow.names, options)
        for piece in opened.iter_batches(ROWS, columns=sorted(set(names.values()))):
            yield Batch(file, _typed(piece.to_pandas(), names, file, options), _columns(names, options))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file}: no whole Parquet file ({' '.join(str(error).split())[:80]}); write it again"
        ) from error


def _typed(piece: "pd.DataFrame", names: Mapping[str, str], file: Path, options: Options) -> "pd.DataFrame":
    import pandas as pd

    columns: dict[str, object] = {"end": np.ones(len(piece))}
    for quantity, name in names.items():
        if quantity in ("vm", *TEXTS):
            columns[quantity] = piece[name].astype(str).where(piece[name].notna(), None)
        elif quantity == "time" and not pd.api.types.is_numeric_dtype(piece[name]):
            columns[quantity] = _stamps(piece[name], file, name, options.zone)
        elif pd.api.types.is_numeric_dtype(piece[name]):
            columns[quantity] = piece[name].to_numpy(np.float64, na_value=np.nan)
        else:
            columns[quantity] = numbers(piece[name].astype(str), file, name)
    return pd.DataFrame(columns)


def _stamps(cells: "pd.Series", file: Path, name: str, zone: str | None) -> object:
    import pandas as pd

    if not pd.api.types.is_datetime64_any_dtype(cells):
        return dates_s(cells.astype(str), file, name, zone)
    return dates_s(cells.map(lambda date: date.isoformat()), file, name, zone)


SOURCE = Source(
    name="plain",
    title="Any table, a row a VM and time",
    command="hvgym import plain FILES 'columns={vm: NAME, time: NAME, cap: NAME, guest_used: NAME}' out=DIR",
    columns=tuple(Column(quantity, name, *_said(name)) for quantity, name in TABLE.items() if quantity in QUANTITIES),
    patterns=("*.csv", "*.tsv", "*.parquet"),
    read=read,
    notes=(
        "A time is a number since 1970 (its unit is told by its size) or a date, in ISO 8601 or as in 2024/03/10 1:05, "
        "10.03.2024 01:05 or 3/10/2024 1:05 AM where days and months cannot be mixed up; a date without a zone needs zone=.",
        "A time is the end of its interval.",
        "Units of memory and CPU are told by the data; of disk, network, swap and faults say units={net_rx: B/s} for a rate, "
        "units={net_rx: B} for a counter.",
        "A file with the names of the plain table (vm_id, t_end_utc_s, cap_bytes, guest_used_bytes …) needs no columns=.",
    ),
)
