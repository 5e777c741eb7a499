"""``vms.csv`` of a study of somebody's own VMs: what each of them got, by name, in the first evaluation episode of every job.

    agent, scenario, train_seed, eval_seed, vm, progress, worst_progress, kills, failed_starts

progress: mean share of its work that a VM did while it was there, and the least of a control interval; both are of the points that
the time line keeps, and empty for a VM that was not there. Means over all episodes are those of ``results.csv``, which do not tell
VMs apart.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.bench.jobs import Done
from hvgym.bench.timeline import Timeline
from hvgym.envs.files import write_atomically

COLUMNS = ("agent", "scenario", "train_seed", "eval_seed", "vm", "progress", "worst_progress", "kills", "failed_starts")


def write(done: Sequence[Done], path: Path) -> None:
    """Write it, where a scenario plays a table."""
    of_tables = [
        one for one in done if one.job.scenario["workload"]["kind"] == "history" and one.job.first_eval_seed == 0
    ]
    if not of_tables:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in of_tables:
        writer.writerows(_rows(one))
    write_atomically(path, text.getvalue())


def _rows(done: Done) -> list[list[Any]]:
    """A row a VM."""
    job, line = done.job, Timeline.unpack(done.timeline)
    names = [vm["name"] for vm in job.scenario["vms"] for _ in range(int(vm.get("count", 1)))]
    kills, failed = (None if counts is None else counts[-1].tolist() for counts in (line.killed, line.failed))
    found = list[list[Any]]()
    for v, name in enumerate(names):
        there = line.progress[line.sizes_mib[:, v] > 0.0, v].astype(np.float64)
        share = ["", ""] if not len(there) else [f"{there.mean():.6f}", f"{there.min():.6f}"]
        head = [job.agent["name"], job.scenario["name"], job.train_seed, job.seeds[0], name]
        found.append([*head, *share, "" if kills is None else kills[v], "" if failed is None else failed[v]])
    return found
