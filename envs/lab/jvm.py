"""A JVM guest on the laboratory bench: time against the size of its heap, and against the share of it that is swapped.

A workload is one YAML of ``conf/jvm``. `heap_rows` gives it heaps of several sizes. `taken_rows` takes memory from one
heap, once by an ordinary balloon (the guest swaps that share of the heap, to one device or another) and once by a
heap-aware one (the heap shrinks). What the model leaves out stands in ``model.guest.jvm``.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hvgym.envs.errors import InputError
from hvgym.envs.java import MEASURED_THREADS, Curve, Workload, checked
from hvgym.envs.model.guest import jvm
from hvgym.envs.model.host.swap_devices import SWAP_DEVICES
from hvgym.envs.scenario import load_group
from hvgym.envs.schema import number

HEAP_AWARE = "heap-aware balloon"


def fitted(heap_times: np.ndarray, times: np.ndarray) -> Curve:
    """The curve of least squared relative error: over b by search, t0 and a by linear least squares."""

    def best_at(b: float) -> tuple[float, Curve]:
        matrix = np.stack([1.0 / times, 1.0 / (times * (heap_times - b))], axis=1)
        (t0, a), *_ = np.linalg.lstsq(matrix, np.ones(len(times)), rcond=None)
        return float(np.sum((matrix @ (t0, a) - 1.0) ** 2)), Curve(float(t0), float(a), float(b))

    rooms = np.geomspace(1e-3, 2.0, 600)
    return min(best_at(heap_times.min() - room) for room in rooms)[1]


@dataclasses.dataclass(frozen=True)
class JavaBench:
    """The experiment; fields as in ``conf/lab.yaml``."""

    devices: tuple[str, ...]
    heap_times: tuple[float, ...] = number(above=0)
    squeezed_heap_times: float = number(least=jvm.STORM_BELOW)
    taken_shares: tuple[float, ...] = number(least=0, most=0.95)
    vcpus: float = number(above=0, most=1024)
    pages_per_read: float = number(least=1, most=8)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "JavaBench":
        """Check plain data. Raises `InputError` with the key, the value, and what would be right."""
        return checked(JavaBench, data, "java")

    def __post_init__(self) -> None:
        for key in ("heap_times", "taken_shares", "devices"):
            if not getattr(self, key):
                raise InputError(f"{key}=[]: expected at least one")
        for i, device in enumerate(self.devices):
            if device not in SWAP_DEVICES:
                raise InputError(f"devices[{i}]={device!r}: choose of {', '.join(SWAP_DEVICES)}")

    @property
    def gc_mib_per_s(self) -> float:
        """Live memory that a full collection goes through in a second, a thread per vCPU."""
        return self.vcpus * jvm.GC_MIB_PER_S_PER_THREAD

    def alloc_mib_per_s(self, workload: Workload) -> float:
        """A workload allocates in proportion to its vCPUs."""
        return workload.alloc_mib_per_s * self.vcpus / MEASURED_THREADS

    def reading(self, device: str) -> tuple[float, float, float]:
        """Of swapped memory: seconds per fault, pages per fault, faults at once. Compressed memory is not read ahead."""
        figures = SWAP_DEVICES[device]
        seconds = figures.latency_us / 1e6
        ahead = self.pages_per_read if figures.stored_share == 0.0 else 1.0
        return seconds, ahead, max(1.0, min(self.vcpus, figures.iops * seconds))


@dataclasses.dataclass(frozen=True)
class JavaRow:
    """A line of lab.csv. time is relative to a heap of ten times the smallest, and infinite after an OutOfMemoryError."""

    experiment: Literal["heap", "taken"]
    taken_by: str
    taken_share: float
    taken_mib: float
    heap_mib: float
    heap_times: float
    time: float
    gc_share: float
    paging_share: float
    full_pause_s: float
    state: Literal["fine", "storm", "out of memory"]


STATES: tuple[Literal["fine", "storm", "out of memory"], ...] = ("fine", "storm", "out of memory")


def packaged(name: str, folders: Sequence[str | Path] = ()) -> Workload:
    """A workload by the name of its file."""
    return Workload.from_dict(load_group("jvm", name, tuple(str(folder) for folder in folders)))


def heap_rows(workload: Workload, bench: JavaBench) -> list[JavaRow]:
    """Heaps of several sizes, nothing swapped."""
    row = functools.partial(_row, workload, bench, "heap", "")
    return [row(0.0, 0.0, times * workload.least_heap_mib, 0.0, 0.0) for times in bench.heap_times]


def taken_rows(workload: Workload, bench: JavaBench) -> list[JavaRow]:
    """One heap from which memory is taken, in every way."""
    heap_mib = bench.squeezed_heap_times * workload.least_heap_mib
    rows = [
        _swapped(workload, bench, device, heap_mib, share) for device in bench.devices for share in bench.taken_shares
    ]
    for share in bench.taken_shares:
        taken = jvm.heap_balloon_mib(share * heap_mib, heap_mib, workload.least_heap_mib)
        rows.append(_row(workload, bench, "taken", HEAP_AWARE, share, taken, heap_mib - taken, 0.0, 0.0))
    return rows


def _swapped(workload: Workload, bench: JavaBench, device: str, heap_mib: float, share: float) -> JavaRow:
    """This share of the heap in swap, live data and room alike."""
    reading = bench.reading(device)
    cycle_s = jvm.cycle_s(heap_mib, workload.live_mib, bench.alloc_mib_per_s(workload))
    paging = jvm.paging_load(share * heap_mib, cycle_s, *reading)
    extra_s = jvm.read_s(share * workload.live_mib, *reading)
    return _row(workload, bench, "taken", device, share, share * heap_mib, heap_mib, paging, extra_s)


def _row(
    workload: Workload, bench: JavaBench, experiment: Literal["heap", "taken"], taken_by: str, share: float,
    taken_mib: float, heap_mib: float, paging: float, reading_s: float,
) -> JavaRow:  # fmt: skip
    heap_times = heap_mib / workload.least_heap_mib
    plain = workload.curve.at(heap_times)
    time = plain + paging
    ran = bool(np.isfinite(time))
    return JavaRow(
        experiment,
        taken_by,
        share,
        taken_mib,
        heap_mib,
        heap_times,
        time,
        (plain - workload.t0) / time if ran else 1.0,
        paging / time if ran else 0.0,
        jvm.full_pause_s(workload.live_mib, 0.0, bench.gc_mib_per_s, 0.0, 1.0, 1.0) + reading_s,
        STATES[jvm.heap_state(heap_mib, workload.least_heap_mib)],
    )
