"""When jobs began and ended, for MLflow, in milliseconds since the epoch.

Results hold no times, so that they can be compared to the bit. A job's beginning is the first line of its progress, its end the
last one where that says so. Else the end is the time of its own file (a copy may have another), and where there is no file, the
progress' last line. Where there is no progress both are the end.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from hvgym.bench.progress import Line, read


def now_ms() -> int:
    """The time on the wall."""
    return round(time.time() * 1000)


def span_ms(result: Path | None, lines: Sequence[Line]) -> tuple[int, int]:
    """Of one job, by the file that it left and the lines of its progress."""
    times = [round(line["at"] * 1000) for line in lines]
    over = bool(lines) and lines[-1]["what"] == "end"
    if not over and result is not None and result.exists():
        end = round(result.stat().st_mtime * 1000)
    else:
        end = times[-1] if times else now_ms()
    return min([end, *times[:1]]), end


def first_ms(results: Iterable[Path], progress: Iterable[Path]) -> int:
    """When the first of several began; now where nothing has."""
    began = [round(lines[0]["at"] * 1000) for path in progress if (lines := read(path))]
    return min([now_ms(), *began, *(round(path.stat().st_mtime * 1000) for path in results)])
