"""GWA-T-13, Materna: VMs of a German IT service provider, one a file (`envs.imports.gwa` says what its columns mean).

As Bitbrains, but with dates of the form 04.11.2015 00:05:00, decimal commas, and usage in percent besides (OpenDC's reader of
the trace). No file of it was at hand: that capacity and usage mean what they mean in GWA-T-12 is taken from its name.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hvgym.envs.imports.gwa import COLUMNS, GUESSED, read_vm
from hvgym.envs.imports.reading import files_of, frames
from hvgym.envs.imports.source import Batch, Options, Source

TIMES = ("Timestamp", "Timestamp [ms]")
"""Both are found in descriptions of the trace."""


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of every VM, file by file."""
    for file in files_of(paths, SOURCE.patterns):
        first = next(frames(file, rows=1), None)
        time = next((name for name in TIMES if first is not None and name in first.columns), TIMES[0])
        yield from read_vm(file, options, time)


SOURCE = Source(
    name="materna",
    title="Materna, GWA-T-13",
    command="download gwa_t_13_materna.zip from atlarge-research.com/gwa-traces, unpack it, and say zone=Europe/Berlin",
    columns=(*COLUMNS, GUESSED),
    patterns=("*.csv",),
    read=read,
    notes=(
        "Dates name no zone: say zone=Europe/Berlin (the provider's home; the archive does not say it, so it is a guess).",
        "Numbers have decimal commas.",
        "Capacity is taken to be what the host backs and usage to be active memory, as in Bitbrains; nobody has verified it.",
        "Sizes are not in the trace: cap is the next standard size above the largest capacity, a guess; caps= overrules it.",
    ),
    licence="none stated; acknowledge Materna and the Grid Workloads Archive",
)
