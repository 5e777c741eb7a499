"""Google's cluster trace of 2011 by days of "VMs": jobs whose tasks HiPro-IT added up every five minutes.

Source: HiPro-IT/CPU-and-Memory-resource-usage-from-Google-Cluster-Data, made for "Virtual Machine Consolidation with Multiple
Usage Prediction for Energy-Efficient Cloud Data Centers" (IEEE Transactions on Services Computing). Only jobs between 5 % and
90 % were kept there, so that there are no idle ones and no peaks. The publisher's files, one a job and day of 288 rows, are
expected in one table with the columns job_id, day, slot, cpu_pct, mem_pct.

Memory is in percent of a VM that the publisher made up: ``caps=`` says what 100 % is to stand for. It is memory behind
containers, hence `backed`. There are no dates: days follow each other from day 1.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvgym.envs.errors import InputError, shown
from hvgym.envs.imports.flat_tables import pieces, said_mib
from hvgym.envs.imports.reading import Array, files_of, numbers
from hvgym.envs.imports.source import Batch, Column, Options, Source

if TYPE_CHECKING:
    import pandas as pd

DAY_S, SLOT_S = 86_400.0, 300.0
COLUMNS = ("job_id", "day", "slot", "cpu_pct", "mem_pct")

CAP = Column("cap", "caps= (what 100 % stands for)", "MiB")
BACKED = Column("backed", "mem_pct", "percent")
CPU = Column("cpu_used", "cpu_pct", "percent")
WHY = "its memory is in percent of a VM that was made up, whose size nobody knows"


def read(paths: Sequence[Path], options: Options) -> Iterator[Batch]:
    """Rows of every job."""
    for file in files_of(paths, SOURCE.patterns):
        for piece in pieces(file, COLUMNS):
            jobs = piece["job_id"].str.strip()
            caps = {job: said_mib(options.caps_mib, job, file, WHY) for job in jobs.unique()}
            day, slot = (numbers(piece[name], file, name) for name in ("day", "slot"))
            _check_slots(piece, slot, file)
            frame = piece[[]].assign(
                vm=jobs,
                time=(day - 1) * DAY_S + slot * SLOT_S,
                interval_s=SLOT_S,
                end=False,
                agg="mean",
                line=piece.index.to_numpy(np.int64),
                cap=jobs.map(caps),
                backed=numbers(piece["mem_pct"], file, "mem_pct"),
                cpu_used=numbers(piece["cpu_pct"], file, "cpu_pct"),
            )
            yield Batch(file, frame, (CAP, BACKED, CPU))


def _check_slots(piece: "pd.DataFrame", slot: Array, file: Path) -> None:
    wrong = ~np.isnan(slot) & ~((slot >= 0) & (slot < DAY_S / SLOT_S))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(
            f"{file}: line {int(piece.index[at])}: column 'slot': {shown(piece['slot'].iloc[at].strip())} is no slot of a day; "
            f"number the five minutes of each day from 0 to {DAY_S / SLOT_S - 1:g}"
        )


SOURCE = Source(
    name="google2011",
    title="Google 2011 as days of VMs (HiPro-IT)",
    command=(
        "put the job-days of github.com/HiPro-IT/CPU-and-Memory-resource-usage-from-Google-Cluster-Data in one CSV with the "
        "columns job_id,day,slot,cpu_pct,mem_pct (day from 1, slot 0 to 287)"
    ),
    columns=(CAP, BACKED, CPU),
    patterns=("*.csv",),
    read=read,
    notes=(
        "Levels are percent of a VM that was made up: caps={all: 16384} says what 100 % stands for; results are scaled.",
        "There are no dates: day 1 is second 0, and jobs of single days have gaps of whole days.",
        "Values pass 100 % in a few rows; the publisher left out jobs below 5 % and above 90 %: no idle VMs, no peaks.",
    ),
    licence="CC-BY 4.0, Google; cite the HiPro-IT paper",
)
