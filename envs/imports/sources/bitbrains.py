"""GWA-T-12, Bitbrains: VMs of a managed-hosting provider, one a file (`envs.imports.gwa` says what its columns mean).

'Timestamp [ms]' holds seconds; the values overrule the header. ``workload=bitbrains`` plays the same files without an import.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hvgym.envs.imports.gwa import COLUMNS, GUESSED, read_vm
from hvgym.envs.imports.reading import files_of
from hvgym.envs.imports.source import Batch, Options, Source
from hvgym.envs.traces.bitbrains import INDEX


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of every VM, file by file; INDEX.csv of a folder is none."""
    for file in files_of(paths, SOURCE.patterns):
        if file.name != INDEX:
            yield from read_vm(file, options, "Timestamp [ms]")


SOURCE = Source(
    name="bitbrains",
    title="Bitbrains, GWA-T-12 (fastStorage, Rnd)",
    command="download fastStorage.zip or rnd.zip from gwa.ewi.tudelft.nl/datasets/gwa-t-12-bitbrains and unpack it",
    columns=(*COLUMNS, GUESSED),
    patterns=("*.csv",),
    read=read,
    notes=(
        "Times are seconds since 1970, whatever the header says.",
        "Capacity is what the host backs, usage is active memory (sampled): what the guests use is not in the trace.",
        "Sizes are not in the trace: cap is the next standard size above the largest capacity, a guess; caps= overrules it.",
        "Rows with capacity 0 are no samples and are left out; use above capacity stands in single rows around reboots.",
        "Acknowledge Bitbrains IT Services Inc. and the Grid Workloads Archive.",
    ),
    licence="none stated; acknowledge Bitbrains IT Services Inc. and the Grid Workloads Archive",
)
