"""The pictures of docs/workloads.md (``workloads.py``): generated demand in blue, what was published as marks, traces dashed."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hvgym.bench import demand_statistics as statistics
from hvgym.bench.looks import COLOURS, LIGHT
from hvgym.bench.published_demand import BITBRAINS, BORG_BATCH, CHANGE_PERCENT, LAGS, RESIDENT, WINDOWS, Published
from hvgym.envs.generators.classes import CLASSES, FamilyName, Generated
from hvgym.envs.generators.draws import Array
from hvgym.envs.generators.fleet import Fleet, Span

FOLDER = Path(__file__).resolve().parent
SEED = 7
BLUE, ORANGE, INK, DIM = COLOURS[0], COLOURS[1], LIGHT["ink"], LIGHT["dim"]
MARKS = ("o", "^", "s", "D")
VIEWS: dict[FamilyName, float] = {"hot_set": 0.06, "resident": 0.6}
AUGUST = BITBRAINS[1]
OFFSETS = (-2, -1, 0, 1, 2)
TIME_TICKS = ((1 / 12, 1, 24, 168), ("5 min", "1 h", "1 d", "7 d"))


class Demand(NamedTuple):
    """Memory over capacity and disk in MiB/s, ``[vm, slot]``, and capacity ``[vm]``."""

    share: Array
    disk: Array
    memory_mib: Array


Curve = Callable[[Array], tuple[Iterable[float], Iterable[float]]]
Marks = Callable[[Published], tuple[Iterable[float], Iterable[float]]]


def panel(axes: Axes, title: str, x: str, y: str) -> None:
    """Labels of one panel."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def figure_of(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """Panels in a grid."""
    figure = Figure((4.2 * columns, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def saved(figure: Figure, name: str) -> str:
    """Write a picture; return the line of Markdown that shows it."""
    figure.savefig(FOLDER / f"workloads_{name}.png", dpi=110)
    return f"![{name}](workloads_{name}.png)"


def compared(axes: Axes, demands: Sequence[Array], curve: Curve, sets: Sequence[Published], marks: Marks) -> None:
    """The first demand as a line, a second one dashed, and what was published as marks."""
    for share, colour, dash in zip(demands, (BLUE, DIM), ("-", "--"), strict=False):
        axes.plot(*curve(share), color=colour, ls=dash, lw=1.6)
    for one, mark in zip(sets, MARKS, strict=False):
        axes.plot(*marks(one), mark, color=INK, markerfacecolor=LIGHT["paper"], ms=5, ls="none", label=one.name)


OF_A_VM: dict[str, Callable[[Array], Array]] = {
    "mean": lambda share: share.mean(axis=1),
    "p50": lambda share: np.median(share, axis=1),
    "p95": lambda share: np.quantile(share, 0.95, axis=1),
    "max": lambda share: share.max(axis=1),
}


def levels(axes: Axes, demands: Sequence[Array], sets: Sequence[Published], name: str) -> None:
    """One figure of each VM, over its percentile."""

    def curve(share: Array) -> tuple[Array, Array]:
        values = 100.0 * np.sort(OF_A_VM[name](share))
        return 100.0 * (np.arange(len(values)) + 0.5) / len(values), values

    compared(axes, demands, curve, sets, lambda one: (statistics.VM_PERCENTILES, one.levels[name]))


def spread_of_levels(axes: Axes, demands: Sequence[Array]) -> None:
    """Median, 95th percentile and maximum of the VMs of family ``hot_set``."""
    for name in ("p50", "p95", "max"):
        levels(axes, demands, BITBRAINS, name)
    axes.set_yscale("log")
    axes.set_ylim(0.08, 150)
    axes.set_yticks((0.1, 1, 10, 100), ("0.1", "1", "10", "100"))
    axes.minorticks_off()
    panel(axes, "a VM's median, 95th percentile, maximum", "percentile over VMs", "% of capacity")


def memory(axes: Axes, demands: Sequence[Array], sets: Sequence[Published]) -> None:
    """Autocorrelation of the median VM."""
    most = min(2016, demands[0].shape[1] // 3)
    lags = np.unique([*np.geomspace(1, most, 24).astype(int), *(lag for lag in LAGS.values() if lag <= most)])
    hours = [lag / 12.0 for lag in LAGS.values()]
    compared(
        axes, demands, lambda share: (lags / 12.0, [statistics.autocorrelation(share, lag) for lag in lags]), sets,
        lambda one: (hours[: len(one.autocorrelation)], one.autocorrelation),
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(*TIME_TICKS)
    axes.minorticks_off()
    axes.axhline(0.0, color=LIGHT["rule"], lw=0.8, zorder=0)
    panel(axes, "autocorrelation, median VM", "lag", "")


def changes(axes: Axes, demands: Sequence[Array], sets: Sequence[Published], title: str) -> None:
    """Quantiles of what changes in five minutes."""
    rare = np.geomspace(0.6, 1e-4, 60)
    compared(
        axes, demands, lambda share: (100.0 * rare, 100.0 * np.quantile(np.abs(statistics.changes(share)), 1.0 - rare)), sets,
        lambda one: (100.0 - np.array(CHANGE_PERCENT), np.where(np.array(one.changes) > 0.0, one.changes, np.nan)),
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(0.02, 130)
    axes.invert_xaxis()
    axes.set_xticks((50, 10, 1, 0.1, 0.01), ("50", "10", "1", "0.1", "0.01"))
    axes.set_yticks((0.1, 1, 10, 100), ("0.1", "1", "10", "100"))
    axes.minorticks_off()
    panel(axes, title, "share of intervals with more, %", "change in 5 min, % of capacity")


def windows(axes: Axes, demands: Sequence[Array]) -> None:
    """How much of what is backed a window touches."""
    slots = (1, 2, 4, 12, 24, 72, 144, 288, 720, 2016)
    hours = [one / 12.0 for one in slots]
    compared(
        axes, demands, lambda share: (hours, [100.0 * statistics.window_peaks(share, one) for one in slots]), (), _none
    )
    for slot, (least, most) in zip(WINDOWS.values(), AUGUST.windows, strict=True):
        axes.plot([slot / 12.0] * 2, [least - 0.3, most + 0.3], color=INK, lw=4, solid_capstyle="butt", zorder=0)
    axes.set_xscale("log")
    axes.set_xticks(*TIME_TICKS)
    axes.minorticks_off()
    axes.set_ylim(0)
    panel(axes, "touched within a window (bars: published)", "window", "% of backed memory")


def _none(_: Published) -> tuple[Iterable[float], Iterable[float]]:
    return (), ()


def around_rises(axes: Axes, demands: Sequence[Demand]) -> None:
    """I/O around a rise."""
    for one, colour, dash, words in zip(
        demands, (BLUE, DIM), ("-", "--"), ("generated", "public VMs, disk"), strict=False
    ):
        rates = statistics.around_rises(one.share, one.disk)
        axes.plot(OFFSETS, rates, color=colour, ls=dash, lw=1.6, label=words)
    for (name, values), mark in zip(AUGUST.io.items(), MARKS, strict=True):
        axes.plot(OFFSETS, values, mark, color=INK, markerfacecolor=LIGHT["paper"], ms=5, ls="none", label=name)
    axes.set_xticks(OFFSETS)
    axes.set_ylim(0, 10)
    axes.legend(frameon=False, fontsize=7, loc="upper right")
    panel(axes, "I/O around a rise of 5 %", "slots of 5 min after the rise", "over the VM's mean")


def host_totals(demand: Demand, vms: int) -> Array:
    """Mean, 95th, 99th percentile and maximum of the sum on the median of 200 hosts of so many VMs, % of capacity."""
    pick, share, sizes = np.random.default_rng(SEED), demand.share, demand.memory_mib
    hosts = (pick.choice(len(share), vms, replace=False) for _ in range(200))
    totals = (statistics.aggregate(share[host], sizes[host]) for host in hosts)
    figures = [(one.mean(), *np.quantile(one, (0.95, 0.99, 1.0))) for one in totals]
    return np.asarray(100.0 * np.median(figures, axis=0))


def sums(axes: Axes, demand: Demand) -> None:
    """Sums on hosts."""
    names = ("mean", "95 %", "99 %", "max")
    for vms, colour, mark in ((8, BLUE, "o"), (32, ORANGE, "^")):
        axes.plot(names, host_totals(demand, vms), color=colour, lw=1.6, label=f"{vms} VMs, generated")
        axes.plot(
            names, AUGUST.hosts[vms], mark, color=colour, markerfacecolor=LIGHT["paper"], ms=6, ls="none",
            label=f"{vms} VMs, Bitbrains 2013-8",
        )  # fmt: skip
    axes.set_ylim(0)
    axes.legend(frameon=False, fontsize=7)
    panel(axes, "sum over a host's VMs, median host", "over time", "% of capacity")


def hot_set(demands: Sequence[Demand]) -> str:
    """Family ``hot_set`` against Bitbrains."""
    figure, axes = figure_of(2, 3)
    shares = [one.share for one in demands]
    spread_of_levels(axes[0, 0], shares)
    memory(axes[0, 1], shares, BITBRAINS)
    axes[0, 1].legend(frameon=False, fontsize=7)
    changes(axes[0, 2], shares, BITBRAINS, "changes")
    windows(axes[1, 0], shares)
    around_rises(axes[1, 1], demands)
    sums(axes[1, 2], demands[0])
    return saved(figure, "hot_set")


def resident(services: Array, batch: Array) -> str:
    """Family ``resident`` against Google, Borg and Alibaba."""
    figure, axes = figure_of(2, 2)
    levels(axes[0, 0], [services], RESIDENT, "mean")
    axes[0, 0].set_ylim(0, 100)
    axes[0, 0].legend(frameon=False, fontsize=7, loc="upper left")
    panel(axes[0, 0], "mean of a VM", "percentile over VMs", "% of capacity")
    memory(axes[0, 1], [services], RESIDENT)
    changes(axes[1, 0], [services], RESIDENT, "changes of services")
    changes(axes[1, 1], [batch], (BORG_BATCH,), "changes of batch")
    axes[1, 1].legend(frameon=False, fontsize=7, loc="upper left")
    return saved(figure, "resident")


def examples() -> str:
    """A day of each class in both views."""
    figure, axes = figure_of(2, 4)
    span = Span(0.0, 1440, 60.0)
    vms = [Generated(kind, family, level) for kind in CLASSES for family, level in VIEWS.items()]
    drawn = Fleet(vms, np.full(len(vms), 8192.0))
    share, hours = 100.0 * drawn.use(SEED, drawn.figures(SEED), span).share, span.times_s / 3600.0
    for row, (place, kind) in enumerate(zip(axes.flat, CLASSES, strict=False)):
        place.plot(hours, share[2 * row + 1], color=ORANGE, lw=1.0, label="resident: held")
        place.plot(hours, share[2 * row], color=BLUE, lw=1.0, label="hot_set: hot")
        place.set_ylim(0, 100)
        place.set_xticks(range(0, 25, 6))
        panel(place, kind, "hour", "% of memory")
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(*axes[0, 0].get_legend_handles_labels(), frameon=False, loc="center")
    return saved(figure, "examples")
