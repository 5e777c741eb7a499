"""What a job took of the machine, from the standard library: processor time, time on the clock, the most memory.

It stands in the last line of a job's progress (``progress``), and in MLflow below ``system/``, where its tab System metrics looks.
MLflow's own, a curve of the whole machine every ten seconds, need psutil and are not recorded. Processor time is that of all
threads of the process that played the job, so with ``workers=1`` recording is in it. Memory is the most that this process held
until then, so a worker's later jobs have at least that of its earlier ones. Left out: what a kill cut short, and Windows.
"""

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

from hvgym.bench.bulk import Point

SUMMED, LARGEST = ("cpu_s", "wall_s"), ("peak_rss_mib",)
"""Of several jobs together."""

DIGITS = 3
"""After the point: a millisecond."""

OUTER = ("start", "end")
"""Lines of progress in which nothing was done."""


class Meter:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._cpu_s, self._wall_s = time.process_time(), time.monotonic()

    def figures(self) -> dict[str, float]:
        """So far."""
        found = {"cpu_s": time.process_time() - self._cpu_s, "wall_s": time.monotonic() - self._wall_s} | _memory()
        return {name: round(value, DIGITS) for name, value in found.items()}


def _memory() -> dict[str, float]:
    """The most that this process has held, MiB; nothing where the system does not tell."""
    try:
        import resource
    except ImportError:
        return {}
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, else KiB
    return {"peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}


def of(lines: Iterable[Mapping[str, object]]) -> dict[str, float]:
    """Of one job by its progress: the last go in which it did something; nothing where that has no end."""
    found = dict[str, float]()
    for line in lines:
        if line["what"] not in OUTER:
            found = {}
        elif line["what"] == "end":
            took = {name: value for name in (*SUMMED, *LARGEST) if isinstance(value := line.get(name), float)}
            found = took or found
    return found


def together(usages: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Of several jobs, in whatever order: sums, and of memory the largest."""
    usages = list(usages)
    sums = {name: [one[name] for one in usages if name in one] for name in (*SUMMED, *LARGEST)}
    return {
        name: round(math.fsum(values), DIGITS) if name in SUMMED else max(values)
        for name, values in sums.items()
        if values
    }


def points(usage: Mapping[str, float], at_ms: int) -> Sequence[Point]:
    """As metrics of MLflow."""
    return [Point(f"system/{name}", value, 0, at_ms) for name, value in usage.items()]
