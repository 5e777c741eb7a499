"""Picture of ``hvgym lab fail=``, as PNG: what the VMs of the failed host are, second by second, and what the stack does when."""

from typing import TYPE_CHECKING, Any

from hvgym.bench.looks import LIGHT
from hvgym.envs.lab.failure import PHASES
from hvgym.scripts.lab.pictures import grid, png

if TYPE_CHECKING:
    from hvgym.envs.lab.failure import Failed

LOOKS = {
    "at_work": ("at work", LIGHT["green"], ""),
    "slow": ("runs below half of its work", LIGHT["brown"], "."),
    "down": ("down, not fenced yet", LIGHT["maroon"], "x"),
    "queued": ("to be started elsewhere", LIGHT["orange"], "/"),
    "booting": ("boots", LIGHT["sky"], "\\"),
}
"""Name, colour and hatch of each phase."""


def failure(failed: "Failed") -> bytes:
    """Above, VMs by phase; below, their work; vertical lines where the stack acts."""
    figure, (phases, work) = grid(2, 1, (9.0, 6.0))
    edges = [row.t_s - 1 for row in failed.rows] + [failed.rows[-1].t_s]
    lower = [0.0] * len(failed.rows)
    for name in PHASES:
        label, colour, hatch = LOOKS[name]
        upper = [low + getattr(row, name) for low, row in zip(lower, failed.rows, strict=True)]
        if upper != lower:
            phases.stairs(upper, edges, baseline=lower, fill=True, facecolor=colour, hatch=hatch, edgecolor="white",
                          linewidth=0.0, label=label)  # fmt: skip
        lower = upper
    work.stairs([100.0 * row.progress for row in failed.rows], edges, color=LIGHT["blue"], linewidth=1.8, baseline=None)
    work.set_ylim(-3.0, 105.0)
    work.set_ylabel("% of their work")
    work.set_xlabel(f"seconds since {failed.host} failed")
    phases.set_ylabel(f"VMs of {failed.host}")
    phases.yaxis.get_major_locator().set_params(integer=True)
    _marks((phases, work), failed)
    figure.legend(*phases.get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize=8, ncols=3)
    return png(figure)


def _marks(panels: tuple[Any, Any], failed: "Failed") -> None:
    """Lines at what the stack does, named above; names of lines that are close stand in two rows."""
    first = None if failed.first_back_s == failed.all_back_s else failed.first_back_s
    told = (
        (failed.noticed_s, "taken for dead"), (failed.fenced_s, "fenced"), (first, "first back"), (failed.all_back_s, "all back"),
    )  # fmt: skip
    marks = sorted((second, name) for second, name in told if second is not None)
    for turn, (second, name) in enumerate(marks):
        for axes in panels:
            axes.axvline(second, color=LIGHT["ink"], linestyle=":", linewidth=1.2)
            axes.set_xlim(0, failed.rows[-1].t_s)
        panels[0].annotate(
            f"{name}, {second:.0f} s", (second, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3 + 11 * (turn % 2)),
            textcoords="offset points", ha="center" if second < 0.9 * failed.rows[-1].t_s else "right", fontsize=8,
        )  # fmt: skip
