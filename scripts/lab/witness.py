"""``make jvm-witness``: does a real JVM follow the curve T(h) = t0 + a / (h - b) of ``envs/model/guest/jvm.py``?

A Java program (``JvmWitness.java``: one thread, fixed live set, fixed volume, serial collector) runs at heap sizes from
the smallest in which it ends in tolerable time to ten times that. Time is CPU time of the process, mutator and collector together:
wall time on a shared machine measures its neighbours. Medians over repetitions, which run round by round so that a
busy minute does not fall on one heap size. The curve is fitted to these medians; besides the fit's own error, each
heap size is predicted by a fit to the others.

Writes ``jvm_witness.csv``, a row per run. ``tests/validation/page.py`` makes the picture of docs/validation.md from it.
"""

import csv
import dataclasses
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.bench.looks import COLOURS, GREY
from hvgym.envs.errors import InputError
from hvgym.envs.java import Curve
from hvgym.envs.lab.jvm import fitted
from hvgym.envs.model.guest import jvm

LIVE_MIB, VOLUME_MIB = 64, 2048
HEAP_TIMES = (1.0, 1.05, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)
REPEATS = 5
LONGEST_CPU_S, TOO_SLOW = 10, 3
"""A heap is too small in which the program takes longer than this, about ten times what it takes in an ample one."""

FLAGS = ("-XX:+UseSerialGC", "-XX:-UsePerfData")

ROOMY = 1.3
"""Heap over the smallest from which the serial collector's young collections carry the load, by a run before the recorded one."""

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Run:
    """A line of jvm_witness.csv: one run of the program. Collections are young and full ones, their seconds wall time."""

    heap_mib: int
    wall_s: float
    cpu_s: float
    young: int
    young_s: float
    full: int
    full_s: float


@dataclasses.dataclass(frozen=True)
class Record:
    """What was recorded: notes on the machine, and the runs."""

    notes: tuple[str, ...]
    runs: tuple[Run, ...]

    def medians(self, field: str = "cpu_s") -> tuple[np.ndarray, np.ndarray]:
        """Heap sizes over the smallest, and the median of a field at each."""
        sizes = sorted({run.heap_mib for run in self.runs})
        middle = [np.median([getattr(run, field) for run in self.runs if run.heap_mib == size]) for size in sizes]
        return np.array(sizes) / sizes[0], np.array(middle)

    def times(self, field: str = "cpu_s") -> tuple[np.ndarray, np.ndarray]:
        """Heap sizes, and time relative to the largest heap."""
        heap_times, middle = self.medians(field)
        return heap_times, middle / middle[-1]


def fit_error(curve: Curve, heap_times: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """Relative error of a curve: root mean square, and largest."""
    error = np.array([curve.at(h) for h in heap_times]) / times - 1.0
    return float(np.sqrt(np.mean(error**2))), float(np.max(np.abs(error)))


def left_out_error(heap_times: np.ndarray, times: np.ndarray) -> float:
    """Root mean square relative error at heap sizes that the fit has not seen; first and last are always seen."""
    errors = []
    for i in range(1, len(times) - 1):
        seen = np.arange(len(times)) != i
        errors.append(fitted(heap_times[seen], times[seen]).at(heap_times[i]) / times[i] - 1.0)
    return float(np.sqrt(np.mean(np.square(errors))))


def collected_mib_per_s(record: Record) -> float:
    """Live memory collected per CPU second: full collections of the smallest heap by what they cost beyond the largest."""
    (_, cpu_s), (_, full) = record.medians(), record.medians("full")
    return float(LIVE_MIB * (full[0] - full[-1]) / (cpu_s[0] - cpu_s[-1]))


def missing() -> str:
    """What this machine lacks; empty if nothing."""
    lacks = [name for name in ("java", "javac") if shutil.which(name) is None]
    return f"no {' and no '.join(lacks)} on PATH: install a JDK, 11 or later" if lacks else ""


def compile_program(folder: Path) -> None:
    """Compile the Java program into a folder."""
    source = resources.files("hvgym.scripts.lab").joinpath("JvmWitness.java")
    with resources.as_file(source) as path:
        subprocess.run(["javac", "-d", str(folder), str(path)], check=True, capture_output=True, text=True)


def command(folder: Path, heap_mib: int, most_cpu_s: int) -> list[str]:
    """The command of one run: a heap that neither grows nor shrinks."""
    sizes, amounts = (f"-Xms{heap_mib}m", f"-Xmx{heap_mib}m"), map(str, (LIVE_MIB, VOLUME_MIB, most_cpu_s))
    return ["java", *sizes, *FLAGS, "-cp", str(folder), "JvmWitness", *amounts]


def run_once(folder: Path, heap_mib: int, most_cpu_s: int) -> Run | None:
    """One run; None where the heap is too small."""
    asked = command(folder, heap_mib, most_cpu_s)
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        if done.returncode == TOO_SLOW or "OutOfMemoryError" in done.stderr + done.stdout:
            return None
        raise RuntimeError(f"{' '.join(asked)}: {' '.join((done.stderr + done.stdout).split())[:300]}")
    wall, cpu, young, young_ms, full, full_ms = map(int, done.stdout.split())
    return Run(heap_mib, wall / 1e9, cpu / 1e9, young, young_ms / 1e3, full, full_ms / 1e3)


def smallest_heap_mib(survives: Callable[[int], bool], low: int, high: int) -> int:
    """By bisection: the least whole MiB that survives; `low` does not, `high` does."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if survives(middle) else (middle, high)
    return high


def sweep(folder: Path, say: Say) -> list[Run]:
    """All runs, round by round."""
    smallest = smallest_heap_mib(
        lambda mib: run_once(folder, mib, LONGEST_CPU_S) is not None, LIVE_MIB // 2, 4 * LIVE_MIB
    )
    say(f"smallest heap: {smallest} MiB for {LIVE_MIB} MiB alive")
    runs = []
    for repeat in range(REPEATS):
        for times in HEAP_TIMES:
            run = run_once(folder, round(smallest * times), 10 * LONGEST_CPU_S)
            if run is None:
                raise RuntimeError(f"heap of {round(smallest * times)} MiB: failed, though {smallest} MiB did not")
            runs.append(run)
        say(f"round {repeat + 1} of {REPEATS} done")
    return sorted(runs, key=lambda run: run.heap_mib)


def machine_notes() -> tuple[str, ...]:
    """What the figures were measured with."""
    version = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    heap = f"{LIVE_MIB} MiB alive, {VOLUME_MIB} MiB allocated, {REPEATS} repetitions"
    return version, f"{' '.join(FLAGS)}; {heap}", f"{os.cpu_count()} CPUs{load}"


def write(record: Record, path: Path) -> None:
    """Notes as comments, then a row per run."""
    text = io.StringIO()
    text.writelines(f"# {note}\n" for note in record.notes)
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(Run)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(run) for run in record.runs)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text.getvalue())
    os.replace(fresh, path)


def read(path: Path) -> Record:
    """What `write` wrote. Raises `InputError` naming the file and what is wrong."""
    lines = path.read_text().splitlines()
    notes = tuple(line.removeprefix("# ") for line in lines if line.startswith("#"))
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    kinds = {field.name: int if field.type is int else float for field in dataclasses.fields(Run)}
    try:
        runs = tuple(Run(**{name: kind(row[name]) for name, kind in kinds.items()}) for row in rows)  # type: ignore[arg-type]
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}; expected columns {', '.join(kinds)}; make jvm-witness writes it") from None
    if not runs:
        raise InputError(f"{path}: no runs; make jvm-witness writes it")
    return Record(notes, runs)


def roomy(heap_times: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The heaps from `ROOMY` on."""
    return heap_times[heap_times >= ROOMY], times[heap_times >= ROOMY]


def _fit_in_words(heap_times: np.ndarray, times: np.ndarray) -> str:
    curve = fitted(heap_times, times)
    rms, worst = fit_error(curve, heap_times, times)
    return (
        f"T(h) = {curve.t0:.3f} + {curve.a:.3f} / (h - {curve.b:.3f}) misses the medians of CPU time by {rms:.1%} (root mean "
        f"square; at most {worst:.1%}), a heap size that it was not fitted to by {left_out_error(heap_times, times):.1%}"
    )


def in_words(record: Record) -> str:
    """Fit and errors in a few sentences."""
    points = record.times()
    wall_rms, _ = fit_error(fitted(*record.times("wall_s")), *record.times("wall_s"))
    return (
        f"{_fit_in_words(*points)}; fitted to wall time instead it misses by {wall_rms:.1%}. Fitted from {ROOMY:g} times the "
        f"smallest heap on (a limit set by an earlier run: in smaller heaps this collector does mostly full collections, "
        f"which the form does not know), {_fit_in_words(*roomy(*points))}. A full collection goes through "
        f"{collected_mib_per_s(record):.0f} MiB of live memory per CPU second; the model has "
        f"{jvm.GC_MIB_PER_S_PER_THREAD:.0f} per thread. The smallest heap is {min(run.heap_mib for run in record.runs)} MiB, by a "
        f"limit of {LONGEST_CPU_S} s of CPU time, and differs by a few MiB from run to run."
    )


def plot(axes: Any, record: Record) -> None:
    """Runs, medians and the fitted curve."""
    heap_times, times = record.times()
    curve = fitted(heap_times, times)
    smallest, unit = min(run.heap_mib for run in record.runs), record.medians()[1][-1]
    runs = [(run.heap_mib / smallest, run.cpu_s / unit) for run in record.runs]
    axes.plot(*zip(*runs, strict=True), ".", color=GREY, alpha=0.5, markersize=3, label="single runs")
    axes.plot(heap_times, times, "o", color=COLOURS[1], label="measured, median")
    fine = np.geomspace(1.0, heap_times[-1], 300)
    axes.plot(fine, [curve.at(h) for h in fine], color=COLOURS[0], label="model, fitted", zorder=0)
    part, above = fitted(*roomy(heap_times, times)), fine[fine >= ROOMY]
    axes.plot(above, [part.at(h) for h in above], "--", color=COLOURS[2], label=f"fitted from {ROOMY:g} on", zorder=0)
    axes.set_xscale("log")
    axes.set_xticks([1, 1.5, 2, 3, 4, 6, 10], ["1", "1.5", "2", "3", "4", "6", "10"])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("heap / smallest heap")
    axes.set_ylabel("CPU time / that of the largest heap")
    axes.set_ylim(bottom=0.0)
    axes.legend(loc="upper right")


def main(arguments: Sequence[str]) -> int:
    """Measure and write into a folder, docs/validation unless named; 0 also where there is no JDK."""
    if lacks := missing():
        print(f"jvm-witness: skipped; {lacks}")
        return 0
    out = Path(arguments[0] if arguments else "docs/validation")
    if not out.is_dir():
        print(f"jvm-witness: {out}: no such folder; name the one to write jvm_witness.csv into", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        compile_program(Path(folder))
        runs = sweep(Path(folder), lambda line: print(line, flush=True))
    record = Record(machine_notes(), tuple(runs))
    write(record, out / "jvm_witness.csv")
    print(in_words(record))
    print(out / "jvm_witness.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
