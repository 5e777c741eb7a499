"""Ten migrations of real guests, measured against modelled, as rows and panels of docs/validation.md.

Measured with QEMU 7.2 (TCG) to a second QEMU on the same machine, guests with Linux 6.1, one thread that touches a hot set
uniformly at a paced rate; caps in 10^6 bytes/s, downtime limit 300 ms, one run a row, a few per cent of noise. Modelled by
``hvgym lab migrate=`` with the same keys; nothing is fitted to a row but ``other_mib``, which is what an idle guest held.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from hvgym.bench.looks import COLOURS
from hvgym.envs.lab import migration as lab

TIME_TOLERANCE, BYTES_TOLERANCE, AUTO_CONVERGE_TOLERANCE = 0.08, 0.05, 0.25
"""Set before anything was played. Auto-converge depends on how much of its time the measured workload idled."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """A row: total_s of what never ended is how long it was watched."""

    hot_mib: float
    touches_per_s: float
    write_share: float
    bandwidth_mb_per_s: float
    result: str
    total_s: float
    sent_mb: float
    kind: str = "precopy"
    memory_mib: float = 512.0
    other_mib: float = 60.4

    @property
    def name(self) -> str:
        how = "" if self.kind == "precopy" else f", {self.kind}"
        size = "" if self.memory_mib == 512.0 else f" of {self.memory_mib:g}"
        does = "reads" if self.write_share == 0.0 else "writes"
        return f"{self.hot_mib:g}{size} MiB, {self.touches_per_s:,.0f} {does}/s, {self.bandwidth_mb_per_s:g} MB/s{how}"

    @property
    def tolerances(self) -> tuple[float, float]:
        """Of total time and bytes."""
        if self.kind == "autoconverge":
            return AUTO_CONVERGE_TOLERANCE, AUTO_CONVERGE_TOLERANCE
        return TIME_TOLERANCE, BYTES_TOLERANCE

    def play(self) -> lab.Played:
        """The same in the model; what was seen not to end is watched for as long."""
        return lab.play(
            *lab.packaged(
                migrate=self.kind,
                guest={"memory_mib": self.memory_mib},
                hot_mib=self.hot_mib,
                touches_per_s=self.touches_per_s,
                write_share=self.write_share,
                bandwidth_mb_per_s=self.bandwidth_mb_per_s,
                other_mib=self.other_mib,
                postcopy_after_s=3.0 if self.kind == "postcopy" else None,
                duration_s=int(self.total_s) if self.result == "never" else None,
            )
        )


ROWS = (
    Measured(128, 0, 1, 64, "done", 3.01, 197.5),
    Measured(128, 2000, 1, 64, "done", 3.23, 222.1),
    Measured(128, 5000, 1, 64, "done", 3.83, 261.9),
    Measured(128, 10000, 1, 64, "done", 5.24, 352.0),
    Measured(128, 20000, 1, 64, "never", 150.0, 9565.0),
    Measured(256, 10000, 1, 32, "never", 90.0, 2852.0),
    Measured(128, 5000, 0, 64, "done", 3.07, 197.6),
    Measured(128, 20000, 1, 48, "done", 37.8, 1730.0, "autoconverge"),
    Measured(128, 20000, 1, 48, "done", 5.90, 278.1, "postcopy"),
    Measured(128, 5000, 1, 64, "done", 4.22, 277.2, memory_mib=1024.0, other_mib=67.0),
)


TICKS = {"seconds": (3, 5, 10, 20, 40), "MB": (200, 500, 1000, 2000, 5000, 10000)}


def sent_mb(played: lab.Played) -> float:
    """In 10^6 bytes, as measured."""
    return played.sent_mib / lab.MIB_PER_MB


def met(row: Measured, played: lab.Played) -> bool:
    """Whether result, total time and bytes are those that were measured."""
    time, sent = row.tolerances
    return (
        played.result == row.result
        and abs(played.total_s / row.total_s - 1.0) <= time
        and abs(sent_mb(played) / row.sent_mb - 1.0) <= sent
    )


def play_all() -> list[tuple[Measured, lab.Played]]:
    """Every row, beside what the model gives."""
    return [(row, row.play()) for row in ROWS]


def lines(runs: Sequence[tuple[Measured, lab.Played]]) -> list[list[str]]:
    """The table: what never ends has no total time, but bytes."""
    return [
        [
            row.name,
            row.result,
            played.result,
            *_pair(row.total_s, played.total_s, ".2f", row.result == "done"),
            *_pair(row.sent_mb, sent_mb(played), ",.1f", True),
            f"{row.tolerances[0]:.0%}, {row.tolerances[1]:.0%}",
            "yes" if met(row, played) else "**no**",
        ]
        for row, played in runs
    ]


def _pair(measured: float, got: float, form: str, ends: bool) -> tuple[str, str, str]:
    if not ends:
        return "–", "–", "–"
    return f"{measured:{form}}", f"{got:{form}}", f"{got / measured - 1.0:+.1%}"


def panels(runs: Sequence[tuple[Measured, lab.Played]]) -> list[tuple[str, Callable[[Any], None]]]:
    """Total time and bytes, and a copy that is throttled."""
    throttled = next(played for row, played in runs if row.kind == "autoconverge")
    return [
        ("Total time of the eight that end", lambda axes: _against(axes, runs, "seconds", lambda row, p: (row.total_s, p.total_s))),
        ("Bytes sent by the ten", lambda axes: _against(axes, runs, "MB", lambda row, p: (row.sent_mb, sent_mb(p)))),
        ("Auto-converge on a guest that idles a lot", lambda axes: _throttling(axes, throttled)),
    ]  # fmt: skip


def _against(
    axes: Any, runs: Sequence[tuple[Measured, lab.Played]], unit: str, of: Callable[..., tuple[float, float]]
) -> None:
    shown = [(row, played) for row, played in runs if unit == "MB" or row.result == "done"]
    for colour, kind in zip(COLOURS, ("precopy", "autoconverge", "postcopy"), strict=False):
        points = [of(row, played) for row, played in shown if row.kind == kind]
        axes.plot(*zip(*points, strict=True), "o", color=colour, label=kind)
    ends = [min(of(*run)[0] for run in shown), max(of(*run)[0] for run in shown)]
    axes.plot(ends, ends, color="black", linewidth=0.8, zorder=0, label="equal")
    ticks = TICKS[unit]
    for scale, ticks_at in ((axes.set_xscale, axes.set_xticks), (axes.set_yscale, axes.set_yticks)):
        scale("log")
        ticks_at(ticks, [f"{tick:,}" for tick in ticks])
        ticks_at([], minor=True)
    axes.set_xlabel(f"measured, {unit}")
    axes.set_ylabel(f"model, {unit}")
    axes.legend(loc="upper left")


def _throttling(axes: Any, played: lab.Played) -> None:
    t_s = [row.t_s for row in played.rows[:-1]]
    axes.plot(
        t_s, [row.throttle for row in played.rows[:-1]], color=COLOURS[0], drawstyle="steps-post", label="throttle"
    )
    axes.plot(
        t_s, [row.progress for row in played.rows[:-1]], color=COLOURS[2], drawstyle="steps-pre", label="guest's speed"
    )
    axes.axvline(ROWS[7].total_s, color="black", linestyle=":", linewidth=1, label="measured end")
    axes.set_xlabel("seconds")
    axes.set_ylim(0.0, 1.25)
    axes.legend(loc="upper left", ncols=2)
