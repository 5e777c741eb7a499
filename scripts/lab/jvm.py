"""``hvgym lab jvm=NAME``: a JVM guest; what is played, and what is printed."""

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hvgym.envs.errors import InputError
from hvgym.scripts import configuration
from hvgym.scripts.lab.tables import print_lines, write

if TYPE_CHECKING:
    from hvgym.envs.java import Workload
    from hvgym.envs.lab.jvm import JavaBench, JavaRow

KEYS, WRITTEN = ("jvm", "java"), ("out", "runs")
"""Keys of this experiment, and those that it shares with the others."""


def chosen(config: DictConfig) -> bool:
    """Whether the command chose a JVM. Raises `InputError` for a key that the chosen experiment would ignore."""
    named = configuration.chosen(config, "jvm") is not None
    for override in HydraConfig.get().overrides.task:
        key = override.lstrip("+~").partition("=")[0]
        group = key.partition(".")[0].partition("@")[0]
        if not named and group == "java":
            raise InputError(f"{override}: only a JVM heeds {key}; give jvm=NAME too, or leave it out")
        if named and group not in (*KEYS, *WRITTEN):
            raise InputError(f"{override}: a JVM has no {key}; leave it out, or jvm={config.jvm.name}")
    return named


def run(config: DictConfig, out: Path) -> None:
    """A JVM guest in heaps of several sizes, and with memory taken from it."""
    from hvgym.scripts.lab import pictures

    workload, rows = play(config)
    write(out, [cells(row) for row in rows], pictures.jvm(workload, rows))


def play(config: DictConfig) -> "tuple[Workload, list[JavaRow]]":
    """The workload and the rows of both sweeps."""
    from hvgym.envs import java
    from hvgym.envs.lab import jvm as lab_jvm

    workload = java.Workload.from_dict(configuration.chosen(config, "jvm") or {})
    bench = lab_jvm.JavaBench.from_dict(configuration.plain(config.java))
    heaps, taken = lab_jvm.heap_rows(workload, bench), lab_jvm.taken_rows(workload, bench)
    _print_workload(workload, bench)
    _print_heaps(heaps)
    _print_taken(taken)
    return workload, heaps + taken


def cells(row: "JavaRow") -> dict[str, str]:
    """A row as text."""
    return {
        name: value if isinstance(value, str) else f"{value:.6g}" for name, value in dataclasses.asdict(row).items()
    }


def _print_workload(workload: "Workload", bench: "JavaBench") -> None:
    from hvgym.envs.model.guest import jvm

    alloc, heap = bench.alloc_mib_per_s(workload), bench.squeezed_heap_times * workload.least_heap_mib
    g1 = jvm.idle_heap_mib(jvm.G1_PERIODIC, heap, workload.live_mib, 0.0, jvm.ZGC_UNCOMMIT_S, jvm.ZGC_UNCOMMIT_S)
    zgc = jvm.idle_heap_mib(jvm.ZGC, heap, workload.live_mib, 0.0, jvm.ZGC_UNCOMMIT_S, jvm.ZGC_UNCOMMIT_S)
    first = jvm.age_after_s(workload.iteration_s, 0.0) / workload.iteration_s
    print(f"{workload.name}: {workload.description}; at least {workload.least_heap_mib:g} MiB of heap, {workload.live_mib:.0f} "
          f"alive, {alloc:,.0f} MiB/s allocated on {bench.vcpus:g} vCPUs")  # fmt: skip
    print(f"first iteration after a start {first:.2f} x as long; an idle heap of {heap:.0f} MiB returns {heap - g1:.0f} by G1's "
          f"periodic collection, {heap - zgc:.0f} by ZGC after {jvm.ZGC_UNCOMMIT_S:g} s (Xms 0)")  # fmt: skip


def _print_heaps(rows: Sequence["JavaRow"]) -> None:
    lines = [
        (f"{row.heap_times:.3g}", f"{row.heap_mib:.0f}", _number(row.time), f"{row.gc_share:.1%}", row.state)
        for row in rows
    ]
    print_lines("Heaps, nothing swapped", ("heap / least", "MiB", "time", "GC", "state"), lines)


def _print_taken(rows: Sequence["JavaRow"]) -> None:
    names = list(dict.fromkeys(row.taken_by for row in rows))
    lines = []
    for share in dict.fromkeys(row.taken_share for row in rows):
        ways = [row for row in rows if row.taken_share == share]
        cells = [_number(number) for row in ways for number in (row.time, row.full_pause_s)]
        lines.append((f"{100.0 * share:g}%", *cells))
    words = [re.split("[_-]", name.replace(" balloon", "")) for name in names]
    heads = [head for name in words for head in ("\n" * (2 - len(name)) + "\n".join(name) + "\ntime", "\n\npause")]
    print_lines("Memory taken from a heap, by swap device and by a heap-aware balloon", ("\nof\nheap", *heads), lines)
    print("time of a unit of work over that in a heap of ten times the least; pause: seconds of a full collection.")


def _number(value: float) -> str:
    return (
        "–"
        if math.isinf(value)
        else f"{value:.2g}"
        if value < 0.1
        else f"{value:.3g}"
        if value < 1000.0
        else f"{value:,.0f}"
    )
