"""Any table with a row a VM and time: CSV or Parquet, its columns named on the command line or as in the plain table."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.imports.cells import UNKNOWN
from hvgym.envs.imports.clocks import PER_SECOND, SINCE_1970
from hvgym.envs.imports.local_dates import formats_of
from hvgym.envs.imports.reading import Array, dates_s, frames, has_decimal_commas, numbers
from hvgym.envs.imports.source import QUANTITIES, Batch, Column, Kind, Options, Source

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.parquet as pq

TEXTS = ("uuid", "host", "group", "os", "power", "agg")

OTHERS = ("interval_s", "reported_s", "arrive_s", "depart_s")

ROWS = 50_000

VMS_A_FILE, MOST_VMS, TIMES_A_VM, LEAST_TIMES = 10, 100, 1000, 3
"""By which files with different columns are compared: the first VMs of each and so many in all, at so many times of each VM."""

Seen = dict[frozenset[str], dict[str, tuple[Path, Array]]]
"""By columns and VM the first file, and the VM's times in it."""

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

WORDS: Mapping[str, Mapping[str, str]] = {
    "power": {
        "on": "on|running|powered ?on|started|up|active|1|true|paused",
        "off": "off|stopped|powered ?off|shut ?(off|down)|down|0|false|suspended|saved|crashed",
        "unknown": "unknown",
    },
    "agg": {"mean": "mean|average|avg", "max": "max|maximum|peak", "last": "last|latest|instant"},
    "os": {
        "linux": ".*(linux|ubuntu|debian|rhel|red ?hat|centos|suse|sles|fedora|rocky|alma|coreos|photon).*",
        "windows": ".*windows.*|win(dows)?[ \\d].*",
        "other": "other.*|.*(bsd|solaris|sunos|illumos|mac ?os|darwin).*",
    },
}  # fmt: skip
"""What other tools write for what the table may say: the first that a whole cell is, in small letters and with blanks for ``_``
and ``-``. A VM that is paused has its memory, one that is suspended to disk has not."""

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
    headers = {file: _header(file) for file in files}
    _check_names(headers, options)
    maps = {file: _map(file, given, options) for file, given in headers.items()}
    if not any(set(names) & set(QUANTITIES) for names in maps.values()):
        raise InputError(f"{files[0]}: no column of memory is mapped; say columns={{cap: …, guest_used: …}}")
    seen: Seen = {}
    for file, names in maps.items():
        batches = _parquet(file, names, options) if _is_parquet(file) else _csv(file, names, options)
        for number, batch in enumerate(batches):
            if number == 0:
                _check_times(batch, seen)
            yield batch


def _is_parquet(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def _header(file: Path) -> Sequence[str]:
    if _is_parquet(file):
        with _whole_parquet(file) as opened:
            names: Sequence[str] = opened.schema_arrow.names
            return names
    first = next(frames(file, rows=1), None)
    if first is None:
        raise InputError(f"{file}: no rows below the header")
    return list(first.columns)


def _check_names(headers: Mapping[Path, Sequence[str]], options: Options) -> None:
    """A name that is said has to be in one file at least; that of VMs and times is looked for in each (`_map`)."""
    for quantity, name in options.columns.items():
        if not any(name in given for given in headers.values()):
            file, given = next(iter(headers.items()))
            where = "no column" if len(headers) == 1 else f"a column of none of {len(headers)} files"
            raise InputError(
                f"{file}: columns: {quantity}: {shown(name)} is {where}{nearest(name, given)}; {_has(given)}"
            )


def _has(given: Sequence[str]) -> str:
    return f"the file has {', '.join(given[:20])}"


def _map(file: Path, given: Sequence[str], options: Options) -> dict[str, str]:
    """Quantity to name in this file."""
    own = {quantity: name for quantity, name in TABLE.items() if name in given and quantity not in options.columns}
    found = {quantity: name for quantity, name in options.columns.items() if name in given}
    found |= {quantity: name for quantity, name in own.items() if name not in options.columns.values()}
    for needed in ("vm", "time"):
        if needed in options.columns and needed not in found:
            name = options.columns[needed]
            raise InputError(
                f"{file}: columns: {needed}: {shown(name)} is no column{nearest(name, given)}; {_has(given)}"
            )
        if needed not in found:
            raise InputError(
                f"{file}: nothing says which column is {needed}; say columns={{vm: …, time: …, cap: …, guest_used: …}}; "
                f"{_has(given)}"
            )
    if len(found) == 2:
        raise InputError(
            f"{file}: no column is mapped but vm and time; leave the file out, or say columns=; {_has(given)}"
        )
    return found


def _check_times(batch: Batch, seen: Seen) -> None:
    """Raise `InputError` where two files say different things of a VM in the same hours and hardly ever at the same time. Rows are
    put together where times are equal: else each would lack what the other says, and the step would be that between the files."""
    columns = frozenset(batch.frame.columns) - {"line", "end"}
    for vm in sorted(batch.frame["vm"].dropna().unique())[:VMS_A_FILE]:
        times = np.unique(batch.frame["time"].to_numpy(np.float64)[(batch.frame["vm"] == vm).to_numpy()])[:TIMES_A_VM]
        for others, by_vm in seen.items():
            if others != columns and vm in by_vm and (apart := _apart(by_vm[vm][1], times)):
                unit = next((f" {unit}" for unit, scale in PER_SECOND.items() if times[0] / scale <= SINCE_1970[1]), "")
                raise InputError(
                    f"{batch.file}: times of VM {shown(vm)} differ by {apart:.6g}{unit} from those in {by_vm[vm][0]}, which has "
                    "other columns of it, and only rows of equal times are put together; round times of both files down to the "
                    "step, or export them as one"
                )
        same = seen.setdefault(columns, {})
        if len(same) < MOST_VMS:
            same.setdefault(vm, (batch.file, times))


def _apart(first: Array, second: Array) -> float:
    """How far times of one are from those of the other while both go on (the median); 0 where most of one are in the other."""
    start, end = max(first[0], second[0]), min(first[-1], second[-1])
    first, second = (times[(times >= start) & (times <= end)] for times in (first, second))
    fewer = min(len(first), len(second))
    if fewer < LEAST_TIMES or 2 * len(np.intersect1d(first, second)) >= fewer:
        return 0.0
    after = np.clip(np.searchsorted(first, second), 1, len(first) - 1)
    return float(np.median(np.minimum(np.abs(first[after] - second), np.abs(first[after - 1] - second))))


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


def _csv(file: Path, names: Mapping[str, str], options: Options) -> Iterator[Batch]:
    commas, formats = set[str](), tuple[str, ...]()
    for number, cells in enumerate(frames(file, rows=ROWS)):
        if number == 0:
            formats = formats_of(cells[names["time"]].unique(), file, names["time"], "write 2024-03-10T01:05:00Z")
        commas.update(_with_commas(cells, names, file, commas))
        decimal = "," if commas else "."  # of the whole file: nobody writes one column so and the next otherwise
        yield Batch(file, _frame(cells, names, file, options, decimal, formats), _columns(names, options))


def _with_commas(cells: "pd.DataFrame", names: Mapping[str, str], file: Path, known: set[str]) -> Iterator[str]:
    """Columns of numbers in which commas are decimal, but those that are `known` to have them. A comma within a cell (quoted where
    commas separate cells) may separate thousands as well, which each column has to tell by itself."""
    for quantity, name in names.items():
        numeric = (
            quantity in OTHERS or quantity in QUANTITIES or (quantity == "time" and _is_number(cells[name].iloc[0]))
        )
        if numeric and name not in known and has_decimal_commas(cells[name], file, name):
            yield name


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
        if quantity in WORDS:
            columns[quantity] = _known_words(cells[name], quantity, file, name)
        elif quantity in TEXTS:
            columns[quantity] = _words(cells[name])
        elif quantity in OTHERS or quantity in QUANTITIES:
            columns[quantity] = numbers(cells[name], file, name, decimal)
    return pd.DataFrame(columns, index=cells.index).reset_index(drop=True)


def _words(cells: "pd.Series") -> object:
    """Names without blanks around them; None where there is none. A column has few different ones."""
    import pandas as pd

    codes, words = pd.factorize(cells)
    return np.array([str(word).strip() or None for word in words], object)[codes]


def _known_words(cells: "pd.Series", quantity: str, file: Path, name: str) -> object:
    """Cells in the words of the table, None where nothing is said. Raises `InputError` for words that may mean anything."""
    import pandas as pd

    codes, words = pd.factorize(cells)
    known = list[str | None]()
    for code, word in enumerate(words):
        plain = word.strip().lower().replace("_", " ").replace("-", " ").strip()
        meant = next((own for own, like in WORDS[quantity].items() if re.fullmatch(like, plain)), None)
        if meant is None and word.strip().lower() not in UNKNOWN:
            line = int(cells.index[int(np.argmax(codes == code))])
            raise InputError(
                f"{file}: line {line}: column '{name}': {shown(word, 40)} is no {quantity} that is known; write one of "
                f"{', '.join(WORDS[quantity])}, or leave it empty"
            )
        known.append(meant)
    return np.array(known, object)[codes]


def _times(cells: "pd.Series", file: Path, name: str, zone: str | None, decimal: str, formats: Sequence[str]) -> object:
    """Numbers, or dates; what the first row is."""
    if _is_number(cells.iloc[0]):
        return numbers(cells, file, name, decimal)
    return dates_s(cells, file, name, zone, formats)


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"-?\d+([.,]\d*)?([eE][+-]?\d+)?", cell.strip()) is not None


@contextmanager
def _whole_parquet(file: Path) -> "Iterator[pq.ParquetFile]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            yield opened
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file}: no whole Parquet file ({' '.join(str(error).split())[:80]}); write it again"
        ) from error


def _parquet(file: Path, names: Mapping[str, str], options: Options) -> Iterator[Batch]:
    with _whole_parquet(file) as opened:
        read = 0
        for piece in opened.iter_batches(ROWS, columns=sorted(set(names.values()))):
            rows = piece.to_pandas()
            rows.index += read + 1  # what a message calls a line: the rows of the file from 1
            read += len(rows)
            yield Batch(file, _typed(rows, names, file, options), _columns(names, options))


def _typed(piece: "pd.DataFrame", names: Mapping[str, str], file: Path, options: Options) -> "pd.DataFrame":
    import pandas as pd

    columns: dict[str, object] = {"end": np.ones(len(piece))}
    for quantity, name in names.items():
        if quantity in WORDS:
            words = piece[name].astype(str).where(piece[name].notna(), "")
            columns[quantity] = _known_words(words, quantity, file, name)
        elif quantity in ("vm", *TEXTS):
            columns[quantity] = piece[name].astype(str).where(piece[name].notna(), None)
        elif quantity == "time" and not pd.api.types.is_numeric_dtype(piece[name]):
            columns[quantity] = _stamps(piece[name], file, name, options.zone)
        elif pd.api.types.is_numeric_dtype(piece[name]):
            columns[quantity] = piece[name].to_numpy(np.float64, na_value=np.nan)
        else:
            columns[quantity] = numbers(piece[name].astype(str), file, name)
    return pd.DataFrame(columns, index=piece.index).reset_index(drop=True)


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
        "Files may have different columns of the same VMs, each with vm and time; rows of equal times are put together, and files "
        "whose times differ are refused.",
        "power is on, off or unknown, agg mean, max or last, os linux, windows or other, or what tools usually write for these "
        "(poweredOn, running, suspended; average, peak, latest; Ubuntu 22.04); other words are refused.",
        "A file with the names of the plain table (vm_id, t_end_utc_s, cap_bytes, guest_used_bytes …) needs no columns=.",
    ),
)
