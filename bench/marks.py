"""Marks of what befell VMs, for time lines: kills and failed starts, on the row of the VM at the minute."""

from typing import Any

import numpy as np

from hvgym.bench.looks import LIGHT
from hvgym.bench.timeline import Timeline

MARKS = {"killed": ("X", "killed"), "failed": ("^", "start failed")}
"""matplotlib's mark and words, by field of `Timeline`."""

SIZE = 6.0


def happened(line: Timeline, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Minutes and VMs at which a count of the time line rose; none where it was not kept."""
    counts = getattr(line, what)
    if counts is None:
        return np.zeros(0), np.zeros(0, int)
    points, vms = np.nonzero(np.diff(counts.astype(np.int64), axis=0, prepend=0) > 0)
    return line.minutes[points], vms


def draw(axes: Any, line: Timeline) -> None:
    """Put the marks on rows, one a VM at its index."""
    for what, (mark, words) in MARKS.items():
        minutes, vms = happened(line, what)
        if len(minutes):
            axes.plot(minutes, vms, linestyle="", clip_on=False, label=words, zorder=5, **_look(mark))


def legend(lines: list[Timeline]) -> list[Any]:
    """Handles of the marks that these time lines have."""
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], linestyle="", label=words, **_look(mark))
        for what, (mark, words) in MARKS.items()
        if any(len(happened(line, what)[0]) for line in lines)
    ]


def _look(mark: str) -> dict[str, Any]:
    edge = {"markeredgecolor": LIGHT["paper"], "markeredgewidth": 0.7}
    return {"marker": mark, "color": LIGHT["ink"], "markersize": SIZE} | edge
