"""Pictures of ``hvgym lab``, as PNG: levels, a schedule, measured against modelled, devices side by side, and a JVM."""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hvgym.bench.looks import COLOURS, DASHES, MARKS, MARKS_OF_OTHERS
from hvgym.envs.java import MEASURED_AT, Workload
from hvgym.envs.lab.bench import Measured, Row, mean_error
from hvgym.envs.lab.device import DeviceRow
from hvgym.envs.lab.jvm import HEAP_AWARE, JavaRow

PANELS: tuple[tuple[str, float, dict[str, str]], ...] = (
    (
        "MiB",
        10.0,
        {
            "actual_mib": "memory size",
            "target_mib": "asked for",
            "available_mib": "MemAvailable",
            "swap_used_mib": "swap used",
        },
    ),
    ("share of touches that miss", 0.05, {"miss": ""}),
    (
        "pages per second",
        10.0,
        {
            "major_faults_per_s": "major faults",
            "swap_in_pages_per_s": "swapped in",
            "swap_out_pages_per_s": "swapped out",
        },
    ),
    ("PSI memory, some avg10, %", 1.0, {"psi_some10": ""}),
)
"""Axis, the least that it spans, and columns with their labels."""

ASKED: dict[str, Any] = {"color": "#1d2733", "linestyle": "--", "linewidth": 1.0, "marker": None}


def levels(rows: Sequence[Row]) -> bytes:
    """Steady states over the level; of a killed guest only the kill."""
    kills = [row.level for row in rows if row.oom_killed]
    alive = sorted((row for row in rows if not row.oom_killed), key=lambda row: row.level)
    return _four(
        [row.level for row in alive], alive, kills, "memory for the workload / hot set", marker="o", markersize=4
    )


def schedule(rows: Sequence[Row]) -> bytes:
    """A transient over time; each point stands for the second before it."""
    kills = [now.t_s for before, now in itertools.pairwise(rows) if now.oom_killed > before.oom_killed]
    return _four([row.t_s for row in rows], rows, kills, "seconds", drawstyle="steps-pre")


def comparison(played: Mapping[str, Sequence[Row]], truths: Mapping[str, Measured]) -> bytes:
    """Measured points on modelled lines: left disk swap and page cache, right zram."""
    figure, panels = grid(1, 2, (10, 4.4))
    for i, (name, rows) in enumerate(played.items()):
        axes = panels["zram" in name]
        x = [row.level for row in rows]
        label = f"{name.replace('/', ', ')}: error {mean_error(rows, truths[name]):.3f}"
        label += _kills_in_words(rows, truths[name])
        axes.plot(x, [math.nan if row.oom_killed else row.miss for row in rows], color=COLOURS[i], label=label)
        axes.plot(x, [math.nan if miss is None else miss for miss in truths[name].miss], "o", color=COLOURS[i])
    for axes in panels:
        axes.plot([], [], "o", color="#5d6b7a", label="points: measured on real guests")
        axes.set_xlabel("memory for the workload / hot set")
        axes.set_ylabel("share of touches that miss")
        axes.set_ylim(bottom=-0.01)
        axes.legend(frameon=False, fontsize=8)
    panels[1].set_xlim(panels[0].get_xlim())
    return png(figure)


DEVICE_PANELS = (
    ("served_per_s", "served per second", "log"),
    ("latency_us", "mean latency, us", "log"),
    ("cpus", "CPUs, vCPU and backend", "linear"),
    ("cycles_per_request", "cycles per request", "log"),
)
"""Column, axis and its scale."""


WIDEST, NARROWEST, WIDER, MARKED = 4.2, 1.3, 1.8, 6
"""Widths of the first line and of the last in a picture, most between two of them, and marks on a line."""


def style(i: int, count: int, points: int) -> dict[str, Any]:
    """How line `i` of `count` looks: no two have both colour and mark alike, and those of one colour differ in their dashes
    too. Each line is narrower than the one below it, and marks stand at other points: lines that coincide are seen all."""
    marks = MARKS + MARKS_OF_OTHERS
    every = max(points // MARKED, 1)
    wider = min(WIDER, (WIDEST - NARROWEST) / max(count - 1, 1))
    return {
        "color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)], "marker": marks[i % len(marks)],
        "markersize": 6.0, "markevery": (i * every // max(count, 1), every), "markeredgecolor": "white", "markeredgewidth": 0.5,
        "linewidth": NARROWEST + wider * (count - 1 - i) if count > 1 else 1.8,
    }  # fmt: skip


def devices(rows: Sequence[DeviceRow]) -> bytes:
    """Devices over the load that is offered."""
    figure, panels = grid(2, 2, (11, 6.8))
    names = list(dict.fromkeys(row.device for row in rows))
    for i, name in enumerate(names):
        mine = sorted((row for row in rows if row.device == name), key=lambda row: row.offered_per_s)
        x = [row.offered_per_s for row in mine]
        look = style(i, len(names), len(mine))
        for axes, (column, _, _) in zip(panels, DEVICE_PANELS, strict=True):
            axes.plot(x, [getattr(row, column) for row in mine], label=name, **look)
    for axes, (_, unit, scale) in zip(panels, DEVICE_PANELS, strict=True):
        axes.set_xscale("log")
        axes.set_yscale(scale)
        axes.set_ylabel(unit)
    for axes in panels[2:]:
        axes.set_xlabel("requests offered per second")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    return png(figure)


def jvm(workload: Workload, rows: Sequence[JavaRow]) -> bytes:
    """Above: time and GC share over the heap; below: a full collection and time over the memory that is taken."""
    figure, panels = grid(2, 2, (11, 7.0))
    heaps = sorted((row for row in rows if row.experiment == "heap"), key=lambda row: row.heap_times)
    ran = [row for row in heaps if math.isfinite(row.time)]
    x = [row.heap_times for row in ran]
    panels[0].plot(x, [row.time for row in ran], color=COLOURS[0], label=f"model, {workload.name}")
    if workload.measured_times:
        panels[0].plot((*MEASURED_AT, 10.0), (*workload.measured_times, 1.0), "o", color=COLOURS[1], label="measured")
    panels[1].plot(x, [100.0 * row.gc_share for row in ran], color=COLOURS[0])
    for axes, unit in zip(panels, ("time / that in an ample heap", "% of time in collection"), strict=False):
        axes.set_xlabel("heap / smallest heap")
        axes.set_ylabel(unit)
        if len(ran) < len(heaps):
            axes.axvline(1.0, color="black", linestyle=":", linewidth=1.2, label="below: OutOfMemoryError")
    _jvm_taken([row for row in rows if row.experiment == "taken"], panels[2:])
    if max((row.time for row in ran), default=1.0) > 5.0:
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_formatter("{x:g}")
    panels[1].set_ylim(bottom=0.0)
    for axes in (panels[0], panels[2], panels[3]):
        axes.legend(frameon=False, fontsize=8)
    return png(figure)


def _jvm_taken(rows: Sequence[JavaRow], panels: Sequence[Any]) -> None:
    names = list(dict.fromkeys(row.taken_by for row in rows))
    for i, name in enumerate(names):
        mine = sorted((row for row in rows if row.taken_by == name), key=lambda row: row.taken_share)
        aware = name == HEAP_AWARE
        label = name if aware else f"balloon, swap on {name.replace('_', ' ')}"
        look = style(i, len(names), len(mine)) | ({"color": "#1d2733", "linestyle": "--"} if aware else {})
        for axes, column in zip(panels, ("full_pause_s", "time"), strict=True):
            axes.plot([100.0 * row.taken_mib / mine[0].heap_mib for row in mine],
                      [getattr(row, column) for row in mine], label=label, **look)  # fmt: skip
    for axes, unit in zip(panels, ("seconds of a full collection", "time / that in an ample heap"), strict=True):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("memory taken, % of the heap")
        axes.set_ylabel(unit)


def _kills_in_words(rows: Sequence[Row], truth: Measured) -> str:
    measured = [f"{row.level:g}" for row, miss in zip(rows, truth.miss, strict=True) if miss is None]
    modelled = [f"{row.level:g}" for row in rows if row.oom_killed]
    if measured == modelled:
        return f"; OOM kill at {', '.join(measured)} in both" if measured else ""
    return f"; OOM kill measured at {', '.join(measured) or 'none'}, modelled at {', '.join(modelled) or 'none'}"


def _four(x: Sequence[float], rows: Sequence[Row], kills: Sequence[float], across: str, **style: Any) -> bytes:
    figure, panels = grid(2, 2, (10, 6.4))
    for axes, (unit, span, columns) in zip(panels, PANELS, strict=True):
        for i, (column, name) in enumerate(columns.items()):
            width = 1.4 + 1.0 * (len(columns) - 1 - i)  # of lines that coincide both are seen
            look = {"color": COLOURS[i], "linewidth": width, **style, **(ASKED if column == "target_mib" else {})}
            axes.plot(x, [getattr(row, column) for row in rows], label=name, **look)
        for kill in kills:
            label = "OOM kill" if kill == kills[0] else None
            axes.axvline(kill, color="black", linestyle=":", linewidth=1.2, label=label)
        axes.set_ylabel(unit)
        top = max(span, axes.get_ylim()[1])
        axes.set_ylim(-0.02 * top, top)  # a line at zero is seen
        if len(columns) > 1 or kills:
            axes.legend(frameon=False, fontsize=8)
    for axes in panels[2:]:
        axes.set_xlabel(across)
    return png(figure)


def grid(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """A figure without pyplot: no global state, no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def png(figure: Any) -> bytes:
    """A figure as a file's content."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    return data.getvalue()
