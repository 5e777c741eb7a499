"""Pictures of ``hvgym lab migrate=``, as PNG: one copy over time, and a sweep."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hvgym.bench.looks import COLOURS
from hvgym.scripts.lab.pictures import grid, png

if TYPE_CHECKING:
    from hvgym.envs.lab.migration import Played

DARK = "#1d2733"

AXES = {"touches_per_s": "touches per second", "bandwidth_mb_per_s": "bandwidth, MB/s"}


def one(played: "Played") -> bytes:
    """What is left, what was sent, and what it does to the guest."""
    figure, (left, sent, below) = grid(3, 1, (8.5, 7.5))
    t_s = [row.t_s for row in played.rows]
    left.plot(t_s, [row.remaining_mib for row in played.rows], color=COLOURS[0], label="left of a round")
    left.axhline(
        played.passes_mib, color=DARK, linestyle="--", linewidth=1.0, label="what the downtime limit lets pass"
    )
    left.legend(frameon=False, fontsize=8, loc="upper right")
    sent.plot(t_s, [row.sent_mib for row in played.rows], color=COLOURS[1])
    speeds = [row.progress for row in played.rows]
    throttles = [row.throttle for row in played.rows]
    throttles[-1] = throttles[-2]  # what the second was played with that ended the copy
    below.plot(t_s, speeds, color=COLOURS[2], label="speed of the guest", drawstyle="steps-pre")
    below.plot(t_s, throttles, color=DARK, label="throttle", drawstyle="steps-post")
    below.set_ylim(-0.03, 1.05)
    below.set_xlabel("seconds")
    below.legend(frameon=False, fontsize=8)
    for axes, unit in ((left, "left to send, MiB"), (sent, "sent, MiB"), (below, "share")):
        axes.set_ylabel(unit)
        axes.set_xlim(below.get_xlim())
    end = f"done after {played.total_s:.2f} s, downtime {played.downtime_ms:.0f} ms"
    left.set_title(end if played.result == "done" else f"not done after {played.total_s:.0f} s", loc="left", fontsize=9)
    for second, name in played.marks:
        for axes in (left, sent, below):
            axes.axvline(second, color=DARK, linestyle=":", linewidth=1.2)
        late = second > 0.8 * t_s[-1]
        sent.annotate(name, (second, 1.0), xycoords=("data", "axes fraction"), xytext=(-4 if late else 4, -12),
                      textcoords="offset points", ha="right" if late else "left", fontsize=8)  # fmt: skip
    return png(figure)


def sweep(key: str, played: "Sequence[tuple[float, Played]]") -> bytes:
    """Time, bytes and downtime over what is swept; values at which a copy never ends are marked."""
    figure, (times, sent, downtimes) = grid(1, 3, (12, 4.0))
    done = [(value, copy) for value, copy in played if copy.result == "done"]
    x = [value for value, _ in done]
    for axes, y, unit in (
        (times, [copy.total_s for _, copy in done], "total seconds"),
        (sent, [copy.sent_mib for _, copy in done], "sent, MiB"),
        (downtimes, [copy.downtime_ms for _, copy in done], "downtime, ms"),
    ):
        axes.plot(x, y, "o-", color=COLOURS[0], markersize=4)
        axes.set_ylabel(unit)
        axes.set_xlabel(AXES[key])
        if key == "bandwidth_mb_per_s":
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(bottom=0.0)
        _mark_never(axes, [value for value, copy in played if copy.result != "done"])
    return png(figure)


def _mark_never(axes: Any, values: Sequence[float]) -> None:
    for value in values:
        label = "never ends" if value == values[0] else None
        axes.axvline(value, color="black", linestyle=":", linewidth=1.2, label=label)
    if values:
        axes.legend(frameon=False, fontsize=8)
