"""The plain table of VM history: what every import becomes, and what may be written by hand.

    DIR/vm_samples/part-000.parquet …   a row a VM, interval and aggregate (`SAMPLES`); a VM is in one part, sorted by t_end
    DIR/vm_meta.parquet                 a row a VM (`META`)
    DIR/manifest.json                   where it comes from, what each column was read as, and why

By hand: ``vm_samples.csv`` and ``vm_meta.csv`` (or ``.csv.gz``) with the same columns; what is not known is left out. Bytes,
cores and seconds; null is unknown, never 0. A row covers the time from its t_end less its interval to its t_end. Where a VM was
not measured for more than three steps one row covers the whole gap: ``power`` off says that the VM was off, ``power`` unknown
with flag ``gap`` that nobody looked, and the values are those before it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.imports.opening import by_value
from hvgym.envs.imports.reading import frames, numbers

if TYPE_CHECKING:
    import pandas as pd


class Field(NamedTuple):
    """Of a table: Arrow's name of its type, its unit, and what it holds."""

    type: str
    unit: str
    title: str


SAMPLES: Mapping[str, Field] = {
    "vm_id": Field("string", "", "name of the VM; a name that is used again is name#2"),
    "t_end_utc_s": Field("int64", "s", "end of the interval, since 1970 UTC"),
    "interval_s": Field("int32", "s", "length of the interval"),
    "agg": Field("string", "", "mean, max or last of the interval"),
    "power": Field("string", "", "on, off or unknown"),
    "host_id": Field("string", "", "host that ran it"),
    "cap_bytes": Field("double", "bytes", "configured memory, what the VM can have at most"),
    "granted_bytes": Field("double", "bytes", "what the guest may use now (balloon)"),
    "guest_used_bytes": Field("double", "bytes", "guest's total less what it could give without swapping"),
    "guest_notfree_bytes": Field("double", "bytes", "guest's total less unused: page cache counts"),
    "guest_cache_bytes": Field("double", "bytes", "page cache of the guest"),
    "backed_bytes": Field("double", "bytes", "host memory behind the VM"),
    "active_bytes": Field("double", "bytes", "pages touched lately, sampled"),
    "active_window_s": Field("double", "s", "over which active pages are counted"),
    "host_swapped_bytes": Field("double", "bytes", "swapped out by the host"),
    "host_compressed_bytes": Field("double", "bytes", "compressed by the host"),
    "guest_swap_in_bytes_per_s": Field("double", "bytes/s", "read from the guest's swap"),
    "guest_swap_out_bytes_per_s": Field("double", "bytes/s", "written to the guest's swap"),
    "guest_major_faults_per_s": Field("double", "1/s", "major faults of the guest"),
    "psi_mem_some_pct": Field("double", "percent", "of time in which some task waited for memory"),
    "cpu_used_cores": Field("double", "cores", "CPU used"),
    "vcpus": Field("double", "", "virtual CPUs"),
    "cpu_wait_cores": Field("double", "cores", "CPU that the VM was ready for and did not get"),
    "disk_read_bytes_per_s": Field("double", "bytes/s", "read from disk"),
    "disk_write_bytes_per_s": Field("double", "bytes/s", "written to disk"),
    "net_rx_bytes_per_s": Field("double", "bytes/s", "received"),
    "net_tx_bytes_per_s": Field("double", "bytes/s", "transmitted"),
    "flags": Field("int32", "", "sum of what is in FLAGS"),
}
"""Columns of vm_samples. A table must have the first three, cap_bytes and one column of `MEMORY`."""

MEMORY = ("guest_used_bytes", "guest_notfree_bytes", "backed_bytes", "active_bytes")
"""Columns of which one at least must be there (granted memory says nothing of use)."""

META: Mapping[str, Field] = {
    "vm_id": Field("string", "", "as in vm_samples"),
    "arrive_s": Field("double", "s", "first second that is known of it, since 1970 UTC"),
    "arrive_kind": Field("string", "", "observed, or left_censored: it was there when the history begins"),
    "depart_s": Field("double", "s", "last second that is known of it"),
    "depart_kind": Field("string", "", "observed, or right_censored: it was there when the history ends"),
    "os_family": Field("string", "", "linux, windows, other"),
    "guest_stats": Field("string", "", "yes where the guest reports its memory, or no"),
    "group": Field("string", "", "application or tenant"),
    "uuid": Field("string", "", "the hypervisor's own name of it"),
}
"""Columns of vm_meta."""

FLAGS: Mapping[str, int] = {
    "imputed": 1,  # the row is carried forward from the one before it
    "reset": 2,  # a counter began anew within the interval
    "stale": 4,  # the guest's numbers were old, and are null
    "unit_guessed": 8,  # the files cannot tell the unit; it is what the source's documentation says
    "bound": 16,  # a value is a bound rather than a measurement
    "nulled": 32,  # a value was impossible, and is null
    "gap": 64,  # the row covers a time that was not measured
}
"""Bits of ``flags``."""

FORMAT = "hvgym vm history 1"

MOST_CSV_BYTES = 2**31


@dataclass(frozen=True)
class Table:
    """A table of VM history. `meta` has a row a VM and the columns of `META`."""

    folder: Path
    manifest: dict[str, Any]
    meta: "pd.DataFrame"

    def vms(self) -> "Iterator[tuple[str, pd.DataFrame]]":
        """Name and samples of one VM at a time: all columns of `SAMPLES`, sorted by t_end_utc_s (then agg), in the same order each
        time."""
        for frame in _parts(self.folder):
            order = frame["vm_id"].ne(frame["vm_id"].shift()).cumsum()
            for _, rows in frame.groupby(order, sort=False):
                yield str(rows["vm_id"].iloc[0]), rows.reset_index(drop=True)


def read_table(folder: Path) -> Table:
    """An import, or a table that was written by hand. Raises `InputError` where it is neither."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; hvgym import writes one")
    if not ((folder / "vm_samples").is_dir() or _csv(folder, "vm_samples")):
        raise InputError(f"{folder}: no vm_samples in it; give a folder that hvgym import wrote, or vm_samples.csv")
    manifest = read_manifest(folder) or {"format": FORMAT, "source": "by hand"}
    return Table(folder, manifest, _meta(folder))


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Of an import; None where there is none. Raises `InputError` for a file that is no manifest."""
    file = folder / "manifest.json"
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{file}: cannot be read ({error}); import the files again") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        said = found.get("format") if isinstance(found, dict) else found
        raise InputError(f"{file}: format {shown(said, 40)}, expected {FORMAT!r}; import the files again")
    return found


def _csv(folder: Path, name: str) -> Path | None:
    return next((file for end in (".csv", ".csv.gz") if (file := folder / f"{name}{end}").is_file()), None)


def _parts(folder: Path) -> "Iterator[pd.DataFrame]":
    if file := None if (folder / "vm_samples").is_dir() else _csv(folder, "vm_samples"):
        yield _by_hand(file)
        return
    files = sorted((folder / "vm_samples").glob("part-*.parquet"), key=lambda file: by_value(file.name))
    if not files:
        raise InputError(f"{folder / 'vm_samples'}: no part-*.parquet in it; import the files again")
    yield from map(_parquet, files, [SAMPLES] * len(files))


def _parquet(file: Path, fields: Mapping[str, Field]) -> "pd.DataFrame":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(file, use_threads=False).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: no whole Parquet file ({str(error)[:80]}); import the files again") from error
    return _complete(file, found, fields)


def _complete(file: Path, frame: "pd.DataFrame", fields: Mapping[str, Field]) -> "pd.DataFrame":
    """All columns of a kind of table, in order; what is not there is unknown."""
    import pandas as pd

    for name in frame.columns:
        if name not in fields:
            raise InputError(f"{file}: unknown column {shown(name, 40)}{nearest(str(name), fields)}")
    columns = dict[str, Any]()
    for name, field in fields.items():
        said = frame[name] if name in frame else pd.Series(np.nan, index=frame.index)
        columns[name] = said.astype(object).where(said.notna(), None) if field.type == "string" else said
    found = pd.DataFrame(columns)
    if "flags" in fields:
        found["agg"], found["power"] = found["agg"].fillna("mean"), found["power"].fillna("unknown")
        found["flags"] = found["flags"].fillna(0).astype(np.int32)
    return found


def _by_hand(file: Path) -> "pd.DataFrame":
    """vm_samples.csv: everything is looked at, for nobody else has."""
    if file.stat().st_size > MOST_CSV_BYTES:
        raise InputError(
            f"{file}: larger than {MOST_CSV_BYTES >> 30} GiB; hvgym import plain {file.name} out=DIR reads it in pieces"
        )
    found = _typed(file, SAMPLES)
    needed = ("vm_id", "t_end_utc_s", "interval_s", "cap_bytes")
    for name in needed:
        if found[name].isna().any():
            line = int(found.index[found[name].isna()][0])
            raise InputError(f"{file}: line {line}: column '{name}' says nothing; it is needed in every row")
    if found[list(MEMORY)].isna().all(axis=None):
        raise InputError(f"{file}: no column says what VMs use; give one of {', '.join(MEMORY)}")
    found = found.astype({"t_end_utc_s": np.int64, "interval_s": np.int32})
    return found.sort_values(["vm_id", "t_end_utc_s", "agg"], kind="stable")


def _typed(file: Path, fields: Mapping[str, Field]) -> "pd.DataFrame":
    import pandas as pd

    pieces = list[pd.DataFrame]()
    for cells in frames(file):
        columns = {
            name: cells[name].str.strip().replace("", None).astype(object)
            if name not in fields or fields[name].type == "string"
            else numbers(cells[name], file, name)
            for name in map(str, cells.columns)
        }
        pieces.append(pd.DataFrame(columns, index=cells.index))
    if not pieces:
        raise InputError(f"{file}: no rows below the header")
    return _complete(file, pd.concat(pieces), fields)


def _meta(folder: Path) -> "pd.DataFrame":
    """vm_meta, or what the samples say where it is not there."""
    if (folder / "vm_meta.parquet").is_file():
        return _parquet(folder / "vm_meta.parquet", META)
    if file := _csv(folder, "vm_meta"):
        return _typed(file, META).reset_index(drop=True)
    return _meta_of(folder)


def _meta_of(folder: Path) -> "pd.DataFrame":
    import pandas as pd

    rows = [
        {"vm_id": rows["vm_id"].iloc[0], "arrive_s": float((rows["t_end_utc_s"] - rows["interval_s"]).min()),
         "arrive_kind": "left_censored", "depart_s": float(rows["t_end_utc_s"].max()), "depart_kind": "right_censored"}
        for frame in _parts(folder)
        for _, rows in frame.groupby("vm_id", sort=True)
    ]  # fmt: skip
    return _complete(folder, pd.DataFrame(rows), META)
