"""Rows of an import on disk, by VM: what a source yields in the order of its files comes back VM by VM, in bounded memory.

Rows go into as many partitions as the size of the input asks for, chosen by a hash of the VM's name. A partition fits into memory
and holds whole VMs, so partitions are also a sample of VMs with all that is known of them.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hvgym.envs.errors import InputError
from hvgym.envs.imports.source import QUANTITIES, Batch, Column

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

BYTES_A_PARTITION = 2**25
"""Of input as text; as a frame some 200 MB."""

MOST_PARTITIONS = 512
"""Files that are open at once."""

PACKED = 10
"""How often a compressed file is larger as text (a guess)."""

ROWS_HELD = 500_000
"""In memory until all partitions are written to."""

TEXTS = ("vm", "uuid", "host", "group", "os", "power", "agg")

NUMBERS = ("time", "interval_s", "end", "reported_s", "arrive_s", "depart_s", *QUANTITIES)


@dataclass
class Seen:
    """Of a column over all rows: how many say something, how many of these are 0, the least and the most."""

    known: int = 0
    zeros: int = 0
    least: float = np.inf
    most: float = -np.inf

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Look at these too."""
        values = values[~np.isnan(values)]
        if len(values):
            self.known += len(values)
            self.zeros += int((values == 0).sum())
            self.least, self.most = min(self.least, float(values.min())), max(self.most, float(values.max()))


@dataclass
class Spool:
    """Rows by partition, and what was seen of each column on the way."""

    folder: Path
    count: int
    columns: dict[str, Column] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    rows: int = 0
    _held: list["pa.Table"] = field(default_factory=list)
    _writers: dict[int, Any] = field(default_factory=dict)

    @staticmethod
    def of(folder: Path, files: Sequence[Path]) -> "Spool":
        """For files of this size."""
        size = sum(file.stat().st_size * (PACKED if file.suffix == ".gz" else 1) for file in files)
        return Spool(folder, int(np.clip(-(-size // BYTES_A_PARTITION), 1, MOST_PARTITIONS)))

    def add(self, batch: Batch) -> None:
        """Take a batch in. Raises `InputError` for rows without name or time."""
        frame = batch.frame
        _check(batch)
        for column in batch.columns:
            self._know(batch, column)
        for name in frame.columns:
            if name in NUMBERS:
                self.seen.setdefault(name, Seen()).add(frame[name].to_numpy(np.float64))
        self.rows += len(frame)
        self._held.append(_arrow(frame, self._partition(frame["vm"])))
        if sum(table.num_rows for table in self._held) >= ROWS_HELD:
            self._write()

    def close(self) -> None:
        """No more rows come."""
        self._write()
        for writer in self._writers.values():
            writer.close()

    def partitions(self) -> "Iterator[pd.DataFrame]":
        """Frames of whole VMs, each in memory alone. Text is categorical; columns of which nothing is known are missing."""
        for number in range(self.count):
            if (frame := self.partition(number)) is not None:
                yield frame

    def partition(self, number: int, only: Sequence[str] | None = None) -> "pd.DataFrame | None":
        """One of them, or of its columns those named; None where it has no rows."""
        import pyarrow as pa

        file = self.folder / f"{number}.arrow"
        if not file.exists():
            return None
        fields = None if only is None else [(*TEXTS, *NUMBERS).index(name) for name in only]
        with pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=fields)) as reader:
            table = reader.read_all()
        known = [name for name in table.column_names if table[name].null_count < table.num_rows]
        frame: pd.DataFrame = table.select(known).to_pandas(strings_to_categorical=True)
        return frame

    def _know(self, batch: Batch, column: Column) -> None:
        known = self.columns.setdefault(column.quantity, column)
        if (known.unit, known.kind) != (column.unit, column.kind):
            raise InputError(
                f"{batch.file}: {column.title} is in {column.unit} here, in another file in {known.unit}; import the "
                f"files apart"
            )

    def _partition(self, names: "pd.Series") -> npt.NDArray[np.int64]:
        import pandas as pd

        codes, known = pd.factorize(names)
        return np.array([zlib.crc32(str(name).encode()) % self.count for name in known], np.int64)[codes]

    def _write(self) -> None:
        import pyarrow as pa

        if not self._held:
            return
        table = pa.concat_tables(self._held, promote_options="default")
        self._held = []
        partition = table["partition"].to_numpy()
        order = np.argsort(partition, kind="stable")
        numbers, first = np.unique(partition[order], return_index=True)
        table = _whole(table.drop_columns("partition").take(pa.array(order)))
        for number, start, end in zip(numbers.tolist(), first, [*first[1:], len(order)], strict=True):
            if number not in self._writers:
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                self._writers[number] = pa.ipc.new_file(self.folder / f"{number}.arrow", table.schema, options=options)
            self._writers[number].write_table(table.slice(start, end - start))


def _check(batch: Batch) -> None:
    frame = batch.frame
    for name in ("vm", "time"):
        lacking = frame[name].isna() if name == "time" else frame[name].isna() | (frame[name] == "")
        if lacking.any():
            line = f"line {int(frame['line'][lacking].iloc[0])}: " if "line" in frame else ""
            said = "time" if name == "time" else "name of a VM"
            raise InputError(f"{batch.file}: {line}no {said} in this row; remove the row, or give it one")


def _arrow(frame: "pd.DataFrame", partition: npt.NDArray[np.int64]) -> "pa.Table":
    """What a batch says."""
    import pyarrow as pa

    columns = dict[str, Any]()
    for name in frame.columns:
        if name in TEXTS:
            columns[name] = pa.array(frame[name].astype(object), pa.string(), from_pandas=True)
        elif name in NUMBERS:
            columns[name] = pa.array(frame[name].to_numpy(np.float64), pa.float64(), from_pandas=True)
    return pa.table(columns | {"partition": pa.array(partition)})


def _whole(table: "pa.Table") -> "pa.Table":
    """With every column that there may be, so that all pieces of a partition look alike."""
    import pyarrow as pa

    kinds = dict.fromkeys(TEXTS, pa.string()) | dict.fromkeys(NUMBERS, pa.float64())
    given = table.column_names
    return pa.table(
        {name: table[name] if name in given else pa.nulls(len(table), kind) for name, kind in kinds.items()}
    )
