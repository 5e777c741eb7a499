"""Server Machine Dataset (Su et al., "Robust Anomaly Detection for Multivariate Time Series through Stochastic Recurrent Neural
Network", KDD 2019): one machine a file, a row a minute, every metric scaled to its own smallest and largest value.

Levels mean nothing: 0 is the machine's least, 1 its most, and neither is in bytes. What is real is how memory moves. With
``caps=`` the user takes 1 for the whole of a VM's memory; without, the import is refused. Metric names come from a listing by
third parties: mem_u counts page cache, mem_u_e does not (likely, not certain).

Left out: swap, disk, network and CPU, whose scaled values have no unit at all.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError
from hvgym.envs.imports.flat_tables import pieces, said_mib, there, values, vm_name
from hvgym.envs.imports.reading import Array, files_of, numbers
from hvgym.envs.imports.source import Batch, Column, Options, Source

if TYPE_CHECKING:
    import pandas as pd

MINUTE_S = 60.0

CAP = Column("cap", "caps= (what a scaled 1 stands for)", "MiB")
MEMORY = (Column("guest_notfree", "mem_u", "share"), Column("guest_used", "mem_u_e", "share"))
WHY = "its values are scaled to 0..1 between the machine's own least and most, and say nothing of sizes"


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of every machine."""
    for file in files_of(paths, SOURCE.patterns):
        vm = vm_name(file)
        cap_mib = said_mib(options.caps_mib, vm, file, WHY)
        for piece in pieces(file, ("minute", "mem_u")):
            columns = there(MEMORY, list(piece.columns))
            minute = numbers(piece["minute"], file, "minute")
            _check_minutes(piece, minute, file)
            frame = piece[[]].assign(
                vm=vm,
                time=minute * MINUTE_S,
                interval_s=MINUTE_S,
                end=False,
                agg="mean",
                line=piece.index.to_numpy(np.int64),
                cap=cap_mib,
                **values(piece, columns, file),
            )
            yield Batch(file, frame, (CAP, *columns))


def _check_minutes(piece: "pd.DataFrame", minute: Array, file: Path) -> None:
    """Rows are a minute apart, so that a regular step of 60 is one of seconds."""
    if len(minute) > 1 and np.nanmedian(np.diff(minute)) >= MINUTE_S:
        raise InputError(
            f"{file}: line {int(piece.index[1])}: column 'minute': {minute[1]:g} follows {minute[0]:g}, and so on, expected a row "
            "a minute; are these seconds? number the minutes from 0"
        )


SOURCE = Source(
    name="smd",
    title="Server Machine Dataset, one-minute metrics scaled to 0..1",
    command="take machine-*.csv with the columns minute, mem_u, mem_u_e (NetManAIOps/OmniAnomaly, train followed by test)",
    columns=(CAP, *MEMORY),
    patterns=("machine-*.csv",),
    read=read,
    notes=(
        "Every metric is scaled between the machine's own least and most: levels mean nothing, and only with caps={all: 16384}, "
        "which takes 1 for a VM's whole memory, is anything imported; results are scaled.",
        "There are no dates: the first minute is second 0.",
        "That mem_u counts page cache and mem_u_e does not is likely, not certain.",
    ),
    licence="MIT, NetManAIOps",
)
