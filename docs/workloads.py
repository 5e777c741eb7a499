"""Writes docs/workloads.md and its pictures: generated demand against real, statistic by statistic (``make workloads``).

    python docs/workloads.py [TRACES]

TRACES: a folder of GWA-T-12 files, whose VMs are drawn beside the published figures of the whole trace.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hvgym.bench import demand_statistics as statistics
from hvgym.bench.generated_fleets import fleet, history
from hvgym.bench.looks import COLOURS, LIGHT
from hvgym.bench.published_demand import (
    BITBRAINS, BORG_BATCH, CHANGE_PERCENT, LAGS, RESIDENT, RISES, WINDOWS, Published,
)  # fmt: skip
from hvgym.envs.generators.classes import CLASSES, MIX, FamilyName, Generated, Kind
from hvgym.envs.generators.draws import Array
from hvgym.envs.generators.fleet import Fleet, Span
from hvgym.envs.traces.bitbrains import read_bitbrains

FOLDER = Path(__file__).resolve().parent
SEED = 7
GENERATED, REAL = COLOURS[0], LIGHT["ink"]
SERVICES: tuple[Kind, ...] = ("web", "oltp", "vdi", "jvm", "idle")
AUGUST = BITBRAINS[1]
VIEWS: dict[FamilyName, float] = {"hot_set": 0.06, "resident": 0.6}
OFFSETS = (-2, -1, 0, 1, 2)

HEAD = """\
# Generated workloads

Made by `make workloads`. `workload: generated` draws what a VM does from its class, seed by seed, with no trace at hand; this page
holds the result against real traces. In a scenario, a VM says what it is:

```yaml
workload: generated
vms:
  - {name: shop, count: 4, memory_mib: 8192, generated: {kind: web, siblings: 0}}
  - {name: database, memory_mib: 16384, generated: {kind: oltp, family: resident, level: 0.6}}
  - {name: nightly, memory_mib: 8192, generated: {kind: batch, arrive_within_s: 600}}
```

`kind` is a class below. `family` is how demand is looked at: `hot_set` (without it), as VMware's active memory of the Bitbrains VMs, low and
spiky; `resident`, as usage over limit at Google and Alibaba, high and flat, ramping or stepping. `level` fixes the median share of
memory that is hot (`hot_set`) or held (`resident`), else the seed draws it. VMs of one number of `siblings` do alike. With
`arrive_within_s` the VM is started at a second drawn from so many. A VM with `jvm` keeps its heap within what that says. An episode is a
piece of an endless history that begins at any time of any day.

"""

OFF = """\
## Where it is off

- Sums are calmer than real ones: the 95th percentile of the whole is {total:.0f} % of capacity where Bitbrains has 9-11, of a host of eight
  {eight:.0f} where it has 15. Large VMs there move more than small ones, which classes do not know.
- After five and ten minutes the median VM remembers more ({five:.2f} and {ten:.2f} where 0.5 and 0.2-0.3 are published), and after a week
  nothing where 0.1 is published: the generator has no memory beyond twelve days but the level.
- Gaps between bursts are shorter: half are below {gap:.0f} minutes where it is an hour, nine in ten below {long_gap:.0f} where it is 840-1,020.
- I/O in the slot of a rise is {io:.1f} times a VM's mean: as network and disk writes are, below disk reads (7.9).
- Instances of Borg's batch job correlate by 0.25-0.46, those of `batch` with the same `siblings` by 0.9 like all others.
- Google's VMs of 2011 are lower and flatter than `resident`, Borg's services higher: the class lies between, and `level` chooses.
- Not there: reboots, lifetimes of VMs (a group's `lifetime_s` draws them, in a cluster), growth over weeks.
- A class multiplies its family's figures by guesses. No trace says what its VMs did; only the mix of classes (`MIX`, also a guess) is held
  against figures.
"""


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


def levels_panel(axes: Axes, share: Array, sets: Sequence[Published], real: Array | None, name: str) -> None:
    """One statistic of VMs over their percentile."""
    read: dict[str, Callable[[Array], Array]] = {
        "p50": lambda one: np.median(one, axis=1), "p95": lambda one: np.quantile(one, 0.95, axis=1),
        "max": lambda one: one.max(axis=1), "mean": lambda one: one.mean(axis=1),
    }  # fmt: skip
    for one, colour, dash in ((share, GENERATED, "-"), (real, LIGHT["dim"], "--")):
        if one is not None:
            values = 100.0 * np.sort(read[name](one))
            axes.plot(100.0 * (np.arange(len(values)) + 0.5) / len(values), values, color=colour, ls=dash, lw=1.6)
    marks(axes, sets, lambda one: (statistics.VM_PERCENTILES, one.levels[name]))


MARKS = ("o", "^", "s", "D")


def marks(
    axes: Axes, sets: Sequence[Published], read: Callable[[Published], tuple[Iterable[float], Iterable[float]]]
) -> None:
    """What was published, a mark a set."""
    for one, mark in zip(sets, MARKS, strict=False):
        x, y = (list(values) for values in read(one))
        axes.plot(x, y, mark, color=REAL, markerfacecolor=LIGHT["paper"], ms=5, ls="none", label=one.name)


def memory_panel(axes: Axes, share: Array, sets: Sequence[Published], real: Array | None) -> None:
    """ACF of the median VM over lag."""
    most = min(2016, share.shape[1] // 3)
    lags = np.unique([*np.geomspace(1, most, 24).astype(int), *(lag for lag in LAGS.values() if lag <= most)])
    for one, colour, dash in ((share, GENERATED, "-"), (real, LIGHT["dim"], "--")):
        if one is not None:
            axes.semilogx(
                lags / 12.0, [statistics.autocorrelation(one, lag) for lag in lags], color=colour, ls=dash, lw=1.6
            )
    hours = [lag / 12.0 for lag in LAGS.values()]
    marks(axes, sets, lambda one: (hours[: len(one.autocorrelation)], one.autocorrelation))
    axes.set_xticks((1 / 12, 1, 24, 168), ("5 min", "1 h", "1 d", "7 d"))
    axes.minorticks_off()
    axes.axhline(0.0, color=LIGHT["rule"], lw=0.8, zorder=0)
    panel(axes, "autocorrelation, median VM", "lag", "")


def changes_panel(axes: Axes, share: Array, sets: Sequence[Published], real: Array | None, title: str) -> None:
    """Quantiles of what changes in five minutes."""
    rare = np.geomspace(0.6, 1e-4, 60)
    for one, colour, dash in ((share, GENERATED, "-"), (real, LIGHT["dim"], "--")):
        if one is not None:
            values = 100.0 * np.quantile(np.abs(statistics.changes(one)), 1.0 - rare)
            axes.loglog(100.0 * rare, np.maximum(values, 0.01), color=colour, ls=dash, lw=1.6)
    marks(axes, sets, lambda one: (100.0 - np.array(CHANGE_PERCENT), np.maximum(one.changes, 0.01)))
    axes.invert_xaxis()
    axes.set_xticks((50, 10, 1, 0.1, 0.01), ("50", "10", "1", "0.1", "0.01"))
    axes.set_yticks((0.1, 1, 10, 100), ("0.1", "1", "10", "100"))
    axes.minorticks_off()
    panel(axes, title, "share of intervals with more, %", "change in 5 min, % of capacity")


def windows_panel(axes: Axes, share: Array, real: Array | None) -> None:
    """How much of what is backed a window touches."""
    slots = np.array((1, 2, 4, 12, 24, 72, 144, 288, 720, 2016))
    for one, colour, dash in ((share, GENERATED, "-"), (real, LIGHT["dim"], "--")):
        if one is not None:
            axes.semilogx(
                slots / 12.0, [100.0 * statistics.window_peaks(one, k) for k in slots], color=colour, ls=dash, lw=1.6
            )
    for slot, (least, most) in zip(WINDOWS.values(), AUGUST.windows, strict=True):
        axes.plot([slot / 12.0] * 2, [least, most + 0.4], color=REAL, lw=4, solid_capstyle="butt")
    axes.set_xticks((1 / 12, 1, 24, 168), ("5 min", "1 h", "1 d", "7 d"))
    axes.minorticks_off()
    axes.set_ylim(0)
    panel(axes, "touched within a window (bars: published)", "window", "% of backed memory")


def io_panel(axes: Axes, share: Array, disk: Array, real: tuple[Array, Array] | None) -> None:
    """I/O around a rise."""
    axes.plot(OFFSETS, statistics.around_rises(share, disk), color=GENERATED, lw=1.6, label="generated")
    if real is not None:
        axes.plot(
            OFFSETS, statistics.around_rises(*real), color=LIGHT["dim"], ls="--", lw=1.6, label="64 public VMs, disk"
        )
    for (name, values), mark in zip(AUGUST.io.items(), MARKS, strict=True):
        axes.plot(OFFSETS, values, mark, color=REAL, markerfacecolor=LIGHT["paper"], ms=5, ls="none", label=name)
    axes.set_xticks(OFFSETS)
    axes.set_ylim(0)
    axes.legend(frameon=False, fontsize=7, loc="upper right")
    panel(axes, "I/O around a rise of 5 %", "slots of 5 min after the rise", "over the VM's mean")


def hot_set_picture(drawn: Fleet, share: Array, disk: Array, real: tuple[Array, Array] | None) -> str:
    """Family ``hot_set`` against Bitbrains."""
    figure, axes = figure_of(2, 3)
    known = None if real is None else real[0]
    for name, colour_free in (("p50", 0), ("p95", 1), ("max", 2)):
        levels_panel(axes[0, 0], share, BITBRAINS if colour_free == 0 else (), known, name)
        marks(
            axes[0, 0],
            BITBRAINS if colour_free else (),
            lambda one, name=name: (statistics.VM_PERCENTILES, one.levels[name]),
        )  # type: ignore[misc]
        axes[0, 0].annotate(
            {"p50": "median", "p95": "95th percentile", "max": "maximum"}[name],
            (7, 100.0 * levels_at(share, name)),
            fontsize=8,
            color=GENERATED,
        )
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_ylim(0.08, 130)
    axes[0, 0].set_yticks((0.1, 1, 10, 100), ("0.1", "1", "10", "100"))
    panel(axes[0, 0], "a VM's median, 95th percentile, maximum", "percentile over VMs", "% of capacity")
    memory_panel(axes[0, 1], share, BITBRAINS, known)
    axes[0, 1].legend(frameon=False, fontsize=7)
    changes_panel(axes[0, 2], share, BITBRAINS, known, "changes")
    windows_panel(axes[1, 0], share, known)
    io_panel(axes[1, 1], share, disk, real)
    total_panel(axes[1, 2], drawn, share)
    return saved(figure, "hot_set")


def levels_at(share: Array, name: str) -> float:
    """Where a curve's name stands."""
    return float(1.25 * statistics.levels(share)[name][0] + 0.0006)


def host_totals(drawn: Fleet, share: Array, vms: int) -> Array:
    """Mean, 95th, 99th percentile and maximum of the median of 200 hosts of so many VMs, % of capacity."""
    pick, sizes = np.random.default_rng(SEED), drawn.memory_mib
    hosts = (pick.choice(len(share), vms, replace=False) for _ in range(200))
    totals = [statistics.aggregate(share[host], sizes[host]) for host in hosts]
    return 100.0 * np.median([(one.mean(), *np.quantile(one, (0.95, 0.99, 1.0))) for one in totals], axis=0)


def total_panel(axes: Axes, drawn: Fleet, share: Array) -> None:
    """Sums on hosts."""
    names = ("mean", "95 %", "99 %", "max")
    for vms, colour, mark in zip((8, 32), (COLOURS[0], COLOURS[1]), MARKS, strict=False):
        axes.plot(names, host_totals(drawn, share, vms), color=colour, lw=1.6, label=f"{vms} VMs, generated")
        axes.plot(
            names,
            AUGUST.hosts[vms],
            mark,
            color=colour,
            markerfacecolor=LIGHT["paper"],
            ms=6,
            ls="none",
            label=f"{vms} VMs, Bitbrains 2013-8",
        )
    axes.set_ylim(0)
    axes.legend(frameon=False, fontsize=7)
    panel(axes, "sum over a host's VMs, median host", "over time", "% of capacity")


def resident_picture(services: Array, batch: Array) -> str:
    """Family ``resident`` against Google, Borg and Alibaba."""
    figure, grid = figure_of(2, 2)
    axes = grid.flat
    levels_panel(axes[0], services, RESIDENT, None, "mean")
    axes[0].set_ylim(0, 100)
    panel(axes[0], "a VM's mean", "percentile over VMs", "% of capacity")
    axes[0].legend(frameon=False, fontsize=7, loc="upper left")
    memory_panel(axes[1], services, RESIDENT, None)
    changes_panel(axes[2], services, RESIDENT, None, "changes of services")
    changes_panel(axes[3], batch, (BORG_BATCH,), None, "changes of batch")
    axes[3].legend(frameon=False, fontsize=7, loc="upper left")
    return saved(figure, "resident")


def examples_picture() -> str:
    """A day of each class in both views."""
    figure, axes = figure_of(2, 4)
    span = Span(0.0, 1440, 60.0)
    vms = [Generated(kind, family, level) for kind in CLASSES for family, level in VIEWS.items()]
    drawn = Fleet(vms, np.full(len(vms), 8192.0))
    share, hours = drawn.use(SEED, drawn.figures(SEED), span).share, span.times_s / 3600.0
    for row, (place, kind) in enumerate(zip(axes.flat, CLASSES, strict=False)):
        place.plot(hours, 100.0 * share[2 * row + 1], color=COLOURS[1], lw=1.0, label="resident: held")
        place.plot(hours, 100.0 * share[2 * row], color=COLOURS[0], lw=1.0, label="hot_set: hot")
        place.set_ylim(0, 100)
        place.set_xticks(range(0, 25, 6))
        panel(place, kind, "hour", "% of memory")
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(*axes[0, 0].get_legend_handles_labels(), frameon=False, loc="center")
    return saved(figure, "examples")


def words(values: Iterable[float], digits: int = 1) -> str:
    """Figures between slashes."""
    return " / ".join(f"{value:.{digits}f}" for value in values)


def spread(sets: Sequence[Published], read: Callable[[Published], Sequence[float]], digits: int = 1) -> str:
    """Least and most of several sets, figure by figure."""
    columns = zip(*(read(one) for one in sets), strict=True)
    return " / ".join(
        f"{min(column):.{digits}f}"
        if min(column) == max(column)
        else f"{min(column):.{digits}f}–{max(column):.{digits}f}"
        for column in columns
    )


def common(share: Array, sets: Sequence[Published], lags: int) -> list[str]:
    """Rows of levels, time constants and changes."""
    levels, change = statistics.levels(share), statistics.changes(share)
    names = {"mean": "mean", "p50": "median", "p95": "95th percentile", "max": "maximum"}
    rows = [
        f"| a VM's {names[name]}, % | {spread(sets, lambda one, name=name: one.levels[name])} | {words(100.0 * levels[name])} |"
        for name in names
    ]  # type: ignore[misc]
    rows.append(f"| a VM's CV | {spread(sets, lambda one: one.levels['CV'], 2)} | {words(levels['CV'], 2)} |")
    which = list(LAGS)[:lags]
    found = [statistics.autocorrelation(share, LAGS[lag]) for lag in which]
    rows.append(
        f"| autocorrelation at {', '.join(which)} | {spread(sets, lambda one: one.autocorrelation[:lags], 2)} | {words(found, 2)} |"
    )
    rows.append(
        f"| change in 5 min, p50 / 90 / 99 / 99.9, % | {spread(sets, lambda one: one.changes, 2)} | {words(100.0 * np.percentile(abs(change), CHANGE_PERCENT), 2)} |"
    )
    for word, sign, read in (("rises", 1.0, lambda one: one.rises), ("falls", -1.0, lambda one: one.falls)):
        shares = [100.0 * (sign * change > rise / 100.0).mean() for rise in RISES]
        rows.append(
            f"| {word} by more than 1 / 5 / 10 / 25 %, % of intervals | {spread(sets, read, 2)} | {words(shares, 2)} |"
        )
    return rows


TABLE = ["| | real | generated |", "|---|---|---|"]


def hot_set_rows(drawn: Fleet, share: Array, disk: Array) -> list[str]:
    """The table of family ``hot_set``."""
    rows, found = common(share, BITBRAINS, 6), statistics.bursts(share)
    units = {"share of time": 100.0, "VMs with one": 100.0}
    labels = {
        "share of time": "bursts, % of time", "a VM-day": "bursts a VM-day", "VMs with one": "VMs with a burst in a month, %",
        "length p50": "burst, minutes: p50", "length p90": "p90", "length p99": "p99", "gap p50": "gap, minutes: p50", "gap p90": "p90",
    }  # fmt: skip
    for name, label in labels.items():
        least, most = (units.get(name, 1.0) * one for one in AUGUST.bursts[name])
        real = f"{least:g}" if least == most else f"{least:g}–{most:g}"
        rows.append(f"| {label} | {real} | {units.get(name, 1.0) * found[name]:.1f} |")
    rows.append(f"| VMs that rise by 5 % in a slot: variance / mean | 2.7–3.0 | {statistics.clumping(share)[1]:.1f} |")
    correlation = statistics.hourly_change_correlation(share)
    other = ~np.eye(len(share), dtype=bool)
    same = (drawn.shared[:, None] == drawn.shared) & other
    rows.append(
        f"| hourly changes, any two VMs: correlation p25 / 50 / 75 / 95 | -0.03 / 0.00 / 0.04 / 0.11 | {words(np.nanpercentile(correlation[other], (25, 50, 75, 95)), 2)} |"
    )
    rows.append(f"| siblings: p50 / 95 | 0.5–0.9 / 0.88 | {words(np.nanpercentile(correlation[same], (50, 95)), 2)} |")
    total = statistics.aggregate(share, drawn.memory_mib)
    rows.append(
        f"| sum: mean / p95 / p99 / max, % | {spread(BITBRAINS, lambda one: one.total)} | {words(100.0 * np.array((total.mean(), *np.quantile(total, (0.95, 0.99, 1.0)))))} |"
    )
    for vms in (8, 16, 32):
        rows.append(
            f"| the same, median host of {vms} VMs | {words(AUGUST.hosts[vms])} | {words(host_totals(drawn, share, vms))} |"
        )
    peaks = [100.0 * statistics.window_peaks(share, slots) for slots in WINDOWS.values()]
    real = " / ".join(f"{least:g}" if least == most else f"{least:g}–{most:g}" for least, most in AUGUST.windows)
    rows.append(f"| touched in {', '.join(WINDOWS)}, % of backed | {real} | {words(peaks)} |")
    rows.append(
        f"| I/O over a VM's mean, slots -2 to +2 of a rise | {spread_of(AUGUST.io.values())} | {words(statistics.around_rises(share, disk))} |"
    )
    rows.append(
        f"| hour of day, share of variance, p50 / 75 / 95 | {words(AUGUST.hours, 2)} | {words(statistics.hour_of_day(share), 2)} |"
    )
    return rows


def spread_of(sets: Iterable[Sequence[float]]) -> str:
    """Least and most, figure by figure."""
    return " / ".join(f"{min(column):.1f}–{max(column):.1f}" for column in zip(*sets, strict=True))


def classes_table() -> list[str]:
    """What each class changes."""
    rows = [
        "| class | what it is | share of a fleet | level | bursts | height | length | by the hour | steps | sawtooth hot / held | idle anonymous | CPU | disk | net |"
    ]
    rows.append("|---|---|" + "--:|" * 12)
    for kind, one in CLASSES.items():
        saw = f"{one.saw[0]:.0%} / {one.saw[1]:.0%} in {one.saw_s / 3600:.1f} h" if any(one.saw) else "–"
        rows.append(
            f"| `{kind}` | {one.says} | {MIX[kind]:.0%} | {one.level:g} | {one.bursts:g} | {one.height:g} | {one.length:g} | {one.day:.0%} | {one.steps:.0%} | "
            f"{saw} | {one.anonymous_idle:.0%} | {one.cpu_share:.0%} | {one.disk:g} | {one.net:g} |"
        )
    return rows


def real_vms(folder: str) -> tuple[Array, Array]:
    """Hot set over the most that was backed, and disk in MiB/s, of a folder's VMs."""
    vms = read_bitbrains(folder).vms
    return np.array([vm.hot_mib / vm.backed_mib.max() for vm in vms]), np.array([vm.disk_mib_per_s for vm in vms])


def off(drawn: Fleet, share: Array, disk: Array) -> str:
    """The honest part, with figures."""
    total, found = statistics.aggregate(share, drawn.memory_mib), statistics.bursts(share)
    return OFF.format(
        total=100.0 * np.quantile(total, 0.95), eight=host_totals(drawn, share, 8)[1], five=statistics.autocorrelation(share, 1),
        ten=statistics.autocorrelation(share, 2), gap=found["gap p50"], long_gap=found["gap p90"], io=statistics.around_rises(share, disk)[2],
    )  # fmt: skip


def main() -> None:
    """Draw, measure, write."""
    real = real_vms(sys.argv[1]) if len(sys.argv) > 1 else None
    drawn = fleet("hot_set", 400)
    share, disk = history(drawn, SEED, 30)
    services = history(fleet("resident", 300, SERVICES), SEED, 10)[0]
    batch = history(fleet("resident", 60, ("batch",)), SEED, 5)[0]
    beside = "" if real is None else f" Dashed: {len(real[0])} public VMs of 2013-8, which were chosen for moving much."
    lines = [
        HEAD + "## What a day looks like", "", "One VM of each class, level 6 % (`hot_set`) and 60 % (`resident`).", "", examples_picture(), "",
        "## Family hot_set against Bitbrains", "",
        f"400 VMs, 30 days in slots of five minutes, classes mixed, five groups of siblings (24, 24, 13, 12, 12). Marks: published.{beside}", "",
        hot_set_picture(drawn, share, disk, real), "", "Percentiles of levels and CV are over VMs, 5 / 25 / 50 / 75 / 95; ranges are three months.", "",
        *TABLE, *hot_set_rows(drawn, share, disk), "",
        "## Family resident against Google, Borg and Alibaba", "",
        f"300 VMs of {', '.join(SERVICES)}, ten days, and 60 of `batch`, five days. Real ranges are over Google 2011, GenTD26 and a Borg service.", "",
        resident_picture(services, batch), "", *TABLE, *common(services, RESIDENT, 4), "",
        "Batch, against a Borg batch job:", "", *TABLE, *common(batch, (BORG_BATCH,), 5), "",
        "## Classes", "", "Factors of the family's figures; levels and steps are shares of what wanders, sawtooth of memory, idle anonymous of backed memory. All", "are guesses except where `envs/generators/classes.py` names a source.", "",
        *classes_table(), "", off(drawn, share, disk),
    ]  # fmt: skip
    path = Path(__file__).with_suffix(".md")
    path.write_text("\n".join(lines).rstrip("\n") + "\n")
    print(path)


if __name__ == "__main__":
    main()
