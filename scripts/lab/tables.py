"""What the experiments share: a table on the terminal, and the files that each leaves."""

import csv
import io
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

Justify = Literal["left", "right"]


def print_lines(
    title: str | None, names: Sequence[str], lines: Sequence[Sequence[str]], justify: Sequence[Justify] = ()
) -> None:
    """A table without a frame; columns are flush right unless told."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title)
    for name, side in itertools.zip_longest(names, justify, fillvalue="right"):
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for line in lines:
        table.add_row(*line)
    Console(markup=False).print(table)


def write(
    out: Path, rows: Sequence[Mapping[str, str]], picture: bytes, others: Mapping[str, bytes] | None = None
) -> None:
    """Leave lab.csv, lab.png and other files by name in `out`, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    out.mkdir(parents=True, exist_ok=True)
    for name, data in {"lab.csv": text.getvalue().encode(), **(others or {}), "lab.png": picture}.items():
        fresh = out / f".{name}.{os.getpid()}"
        fresh.write_bytes(data)
        os.replace(fresh, out / name)
        print(out / name)
