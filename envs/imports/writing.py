"""Writes the plain table: into a folder beside the one that is asked for, which takes its place when it is whole.

Whatever ends an import before that leaves nothing behind, and an earlier import as it was. Nothing that is written depends on the
clock, the machine or the place: the same files give the same bytes.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvgym.envs.errors import InputError
from hvgym.envs.imports.table import FORMAT, META, SAMPLES, Field, read_manifest

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ROWS_A_PART = 500_000
"""A part ends with the VMs that pass it; rows wait in memory until then."""


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """A folder on the disk of `out` that is gone afterwards, whatever happens."""
    lacking = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise InputError(f"out={out}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in lacking:
            with suppress(OSError):  # it has the table in it
                parent.rmdir()


def check_out(out: Path, source: str) -> None:
    """Raise `InputError` where `out` holds anything but an earlier import of the same source."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"out={out}: is a file; choose a folder")
    if not any(out.iterdir()):
        return
    manifest = read_manifest(out)
    if manifest is None:
        raise InputError(f"out={out}: holds other files; choose a new folder, or remove it")
    if manifest.get("source") != source:
        raise InputError(
            f"out={out}: holds an import of {manifest.get('source')}, not of {source}; choose another folder"
        )


class Writer:
    """Writes a table into `folder`. VMs are added one by one; which order is the caller's."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._parts, self._rows = folder, 0, 0
        self._waiting = list["pd.DataFrame"]()
        (folder / "vm_samples").mkdir()

    def add(self, rows: "pd.DataFrame") -> None:
        """All samples of a VM, with any columns of `SAMPLES`."""
        self._waiting.append(rows)
        self._rows += len(rows)
        if self._rows >= ROWS_A_PART:
            self._flush()

    def finish(self, meta: "pd.DataFrame", manifest: Mapping[str, Any], page: str) -> None:
        """Write what is left, vm_meta, the manifest and the page for people."""
        self._flush()
        _write(arrow(meta, META), self._folder / "vm_meta.parquet")
        told = json.dumps({"format": FORMAT} | dict(manifest), indent=2, ensure_ascii=False, sort_keys=False)
        (self._folder / "manifest.json").write_text(told + "\n", encoding="utf-8")
        (self._folder / "import.txt").write_text(page, encoding="utf-8")

    def _flush(self) -> None:
        import pandas as pd

        if self._waiting:
            file = self._folder / "vm_samples" / f"part-{self._parts:03d}.parquet"
            _write(arrow(pd.concat(self._waiting, ignore_index=True), SAMPLES), file)
            self._waiting, self._rows, self._parts = [], 0, self._parts + 1


def arrow(frame: "pd.DataFrame", fields: Mapping[str, Field]) -> "pa.Table":
    """A frame as Arrow's table, without pandas' own marks; columns of which nothing is known are left out."""
    import pyarrow as pa

    known = {name: field for name, field in fields.items() if name in frame and frame[name].notna().any()}
    arrays = [
        pa.array(frame[name].to_numpy(), type=getattr(pa, _MADE_BY[field.type])(), from_pandas=True)
        for name, field in known.items()
    ]
    units = [
        pa.field(name, array.type, metadata={"unit": field.unit, "title": field.title})
        for (name, field), array in zip(known.items(), arrays, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(units))


_MADE_BY = {"string": "string", "double": "float64", "int64": "int64", "int32": "int32"}
"""Arrow's function for a type by its name."""


def _write(table: "pa.Table", file: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, file, compression="zstd")


def put_in_place(folder: Path, out: Path) -> None:
    """Give a whole table the place of `out`; an earlier one is removed only then."""
    whole = folder / "table"
    if out.exists():
        old = folder / "old"
        os.rename(out, old)
        try:
            os.rename(whole, out)
        except BaseException:
            os.rename(old, out)
            raise
    else:
        os.rename(whole, out)
