"""Writes docs/workloads.md and its pictures: generated demand against real, statistic by statistic (``make workloads``).

    python docs/workloads.py [TRACES]

TRACES: a folder of GWA-T-12 files, whose VMs are drawn beside the published figures of the whole trace.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import workloads_pictures as pictures
from workloads_pictures import AUGUST, SEED, Demand, host_totals

from hvgym.bench import demand_statistics as statistics
from hvgym.bench.generated_fleets import fleet, history, peaks_within
from hvgym.bench.published_demand import (
    BITBRAINS,
    BORG_BATCH,
    CHANGE_PERCENT,
    LAGS,
    RESIDENT,
    RISES,
    WINDOWS,
    Published,
)
from hvgym.envs.generators.classes import CLASSES, MIX, Kind
from hvgym.envs.generators.draws import Array
from hvgym.envs.generators.fleet import Fleet
from hvgym.envs.traces.bitbrains import read_bitbrains

SERVICES: tuple[Kind, ...] = ("web", "oltp", "vdi", "jvm", "idle")

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

- `kind`: a class below.
- `family`: how demand is looked at. `hot_set` (if not told): as VMware's active memory of the Bitbrains VMs, low and spiky; what
  is drawn is hot, and nearly all memory was touched once. `resident`: as usage over limit at Google and Alibaba, high and flat,
  ramping or stepping; what is drawn is held, and 60-91 % of it hot.
- `level`: the median share of memory that is hot (`hot_set`) or held (`resident`); if not told, the seed draws it.
- `siblings`: VMs of one number do alike.
- `arrive_within_s`: the VM is started at a second drawn from so many.

A VM with `jvm` keeps its heap within what that says. Large VMs burst longer and higher than small ones. An episode is a piece of
an endless history, which begins at any time of any day. `hvgym describe scenario=NAME` says it in words.

## What a day looks like

One VM of each class, 8 GiB, level 6 % (`hot_set`) and 60 % (`resident`).

"""

HOT_SET = """
## Family hot_set against Bitbrains

400 VMs, 30 days in slots of five minutes, classes mixed, five groups of siblings (24, 24, 13, 12, 12). Marks: published.{beside}

{picture}

Percentiles of levels and CV are over VMs, 5 / 25 / 50 / 75 / 95; ranges are three months.
"""

SOURCES = """
## Family resident against Google, Borg and Alibaba

300 VMs of {services}, ten days, and 60 of `batch`, five days. Real ranges are over Google 2011, GenTD26 and a Borg
service, which differ much from one another.

{picture}
"""

CLASS_NOTE = """
## Classes

Factors of the family's figures. By the hour, steps: share of what wanders; sawtooth: share of memory; idle anonymous: share of
backed memory. They are guesses, but where `envs/generators/classes.py` names a source.
"""

OFF = """
## Where it is off

- After five and ten minutes the median VM remembers more ({five:.2f} and {ten:.2f}; published 0.5 and 0.2-0.3), and after a week
  nothing (published 0.1).
- Rises are clumped a little more than published ({fano:.1f}; 2.7-3.0). Over seeds it is 1.6 to 4.2, as groups of siblings happen to
  be quiet or busy.
- Gaps between bursts are shorter: half are below {gap:.0f} minutes (published: an hour), nine in ten below {long_gap:.0f}
  (840-1,020).
- The quietest VMs are too quiet: at the fifth percentile over VMs the 95th percentile is {quiet:.1f} % (published 1.5), the maximum
  {quiet_most:.0f} % (6-9).
- I/O in the slot of a rise is {io:.1f} times a VM's mean, as writes and network are, and below disk reads (7.9).
- Fewer VMs have a strong day: the hour explains {hour:.0%} at the 95th percentile (published 25 %).
- Instances of Borg's batch job correlate by 0.25-0.46, `batch` VMs of the same `siblings` by 0.9 like all others.
- `resident` lies between its sources: Google's VMs of 2011 are lower and flatter, Borg's services higher; `level` chooses.
- The jitter of hot memory from five minutes to five minutes is partly VMware's sampling error, in the traces and so here.
- Not there: reboots, VMs that leave (in a cluster `lifetime_s` of a group draws lives), growth over weeks.
- No trace says what its VMs did. Only the mix of classes is held against figures; what tells one class from another is guessed.
"""

TABLE = ["| | real | generated |", "|---|---|---|"]


def words(values: Iterable[float], digits: int = 1) -> str:
    """Figures between slashes."""
    return " / ".join(f"{value + 0.0:.{digits}f}" for value in values)


def spread(columns: Iterable[Sequence[float]], digits: int = 1) -> str:
    """Least and most of each column, between slashes."""
    texts = ([f"{value:.{digits}f}" for value in (min(column), max(column))] for column in columns)
    return " / ".join(least if least == most else f"{least}–{most}" for least, most in texts)


def over(sets: Sequence[Published], read: Callable[[Published], Sequence[float]], digits: int = 1) -> str:
    """What several sets have, figure by figure."""
    return spread(zip(*(read(one) for one in sets), strict=True), digits)


def level_rows(share: Array, sets: Sequence[Published]) -> list[str]:
    """Levels over VMs."""
    found, rows = statistics.levels(share), list[str]()
    for name, label in (("mean", "mean"), ("p50", "median"), ("p95", "95th percentile"), ("max", "maximum")):
        real = over(sets, lambda one, name=name: one.levels[name])  # type: ignore[misc]
        rows.append(f"| a VM's {label}, % | {real} | {words(100.0 * found[name])} |")
    return [*rows, f"| a VM's CV | {over(sets, lambda one: one.levels['CV'], 2)} | {words(found['CV'], 2)} |"]


def change_rows(share: Array, sets: Sequence[Published], lags: int) -> list[str]:
    """Time constants, and changes from slot to slot."""
    names, change = list(LAGS)[:lags], 100.0 * statistics.changes(share)
    found = [statistics.autocorrelation(share, LAGS[name]) for name in names]
    sizes = np.percentile(abs(change), CHANGE_PERCENT)
    rises, falls = ([100.0 * (sign * change > rise).mean() for rise in RISES] for sign in (1.0, -1.0))
    return [
        f"| autocorrelation at {', '.join(names)} | {over(sets, lambda one: one.autocorrelation[:lags], 2)} | {words(found, 2)} |",
        f"| change in 5 min, p50 / 90 / 99 / 99.9, % | {over(sets, lambda one: one.changes, 2)} | {words(sizes, 2)} |",
        f"| rises by more than 1 / 5 / 10 / 25 %, % of intervals | {over(sets, lambda one: one.rises, 2)} | {words(rises, 2)} |",
        f"| falls by more than the same | {over(sets, lambda one: one.falls, 2)} | {words(falls, 2)} |",
    ]


BURSTS = {
    "share of time": ("bursts (10 % above the VM's median), % of time", 100.0),
    "a VM-day": ("bursts a VM-day", 1.0),
    "VMs with one": ("VMs with a burst in the month, %", 100.0),
    "length p50": ("length of a burst, minutes, p50", 1.0),
    "length p90": ("… p90", 1.0),
    "length p99": ("… p99", 1.0),
    "gap p50": ("gap between bursts, minutes, p50", 1.0),
    "gap p90": ("… p90", 1.0),
}


def burst_rows(share: Array) -> list[str]:
    """How often VMs burst, and for how long."""
    found = statistics.bursts(share)
    return [
        f"| {label} | {spread([[scale * one for one in AUGUST.bursts[name]]])} | {scale * found[name]:.1f} |"
        for name, (label, scale) in BURSTS.items()
    ]


def together_rows(drawn: Fleet, share: Array) -> list[str]:
    """What VMs do at the same time."""
    correlation, other = statistics.hourly_change_correlation(share), ~np.eye(len(share), dtype=bool)
    same = (drawn.shared[:, None] == drawn.shared) & other
    pairs, siblings = (
        np.nanpercentile(correlation[other], (25, 50, 75, 95)),
        np.nanpercentile(correlation[same], (50, 95)),
    )
    return [
        f"| VMs that rise by 5 % in a slot, variance / mean | 2.7–3.0 | {statistics.clumping(share)[1]:.1f} |",
        f"| correlation of hourly changes, any two VMs, p25 / 50 / 75 / 95 | -0.03 / 0.00 / 0.04 / 0.11 | {words(pairs, 2)} |",
        f"| … siblings, p50 / 95 | above 0.50 / 0.88 | {words(siblings, 2)} |",
    ]


def sum_rows(demand: Demand) -> list[str]:
    """Sums, windows, I/O and the hour."""
    share, total = demand.share, 100.0 * statistics.aggregate(demand.share, demand.memory_mib)
    figures = (total.mean(), *np.quantile(total, (0.95, 0.99, 1.0)))
    peaks = [100.0 * statistics.window_peaks(share, slots) for slots in WINDOWS.values()]
    io, hours = statistics.around_rises(share, demand.disk), statistics.hour_of_day(share)
    return [
        f"| sum of all, mean / p95 / p99 / max, % | {over(BITBRAINS, lambda one: one.total)} | {words(figures)} |",
        *(
            f"| … of the median host of {vms} VMs | {words(AUGUST.hosts[vms])} | {words(host_totals(demand, vms))} |"
            for vms in AUGUST.hosts
        ),
        f"| touched in {', '.join(WINDOWS)}, % of backed | {spread(AUGUST.windows, 0)} | {words(peaks)} |",
        f"| I/O over the VM's mean, slots -2 to 2 of a 5 % rise | {spread(zip(*AUGUST.io.values(), strict=True))} | {words(io)} |",
        f"| variance that the hour explains, p50 / 75 / 95 | {words(AUGUST.hours, 2)} | {words(hours, 2)} |",
    ]


def within_row(drawn: Fleet, real: str) -> str:
    """What happens within a slot."""
    found = np.percentile(peaks_within(drawn, SEED), (50, 90, 99))
    return f"| largest over mean use within 5 min, p50 / 90 / 99 | {real} | {words(found, 3)} |"


def class_rows() -> list[str]:
    """What each class changes."""
    heads = (
        "class",
        "what it is",
        "in a fleet",
        "level",
        "swing",
        "bursts",
        "height",
        "length",
        "by the hour",
        "steps",
    )
    heads += ("sawtooth, hot / held", "idle anonymous", "CPU", "disk", "network")
    rows = [f"| {' | '.join(heads)} |", "|---|---|" + "--:|" * (len(heads) - 2)]
    for kind, one in CLASSES.items():
        saw = f"{one.saw[0]:.0%} / {one.saw[1]:.0%} in {one.saw_s / 3600:.1f} h" if any(one.saw) else "–"
        factors = (one.level, one.swing, one.bursts, one.height, one.length)
        cells = [f"`{kind}`", one.says, f"{MIX[kind]:.0%}", *(f"{factor:g}" for factor in factors), f"{one.day:.0%}"]
        cells += [
            f"{one.steps:.0%}",
            saw,
            f"{one.anonymous_idle:.0%}",
            f"{one.cpu_share:.0%}",
            f"{one.disk:g}",
            f"{one.net:g}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def real_vms(folder: str) -> Demand:
    """Hot set over the most that was backed, and disk in MiB/s, of a folder's VMs."""
    vms = read_bitbrains(folder).vms
    backed = np.array([vm.backed_mib.max() for vm in vms])
    return Demand(
        np.array([vm.hot_mib for vm in vms]) / backed[:, None], np.array([vm.disk_mib_per_s for vm in vms]), backed
    )


def off(demand: Demand) -> str:
    """The honest part, with figures."""
    share, found = demand.share, statistics.bursts(demand.share)
    levels = statistics.levels(share)
    return OFF.format(
        five=statistics.autocorrelation(share, 1), ten=statistics.autocorrelation(share, 2), gap=found["gap p50"],
        long_gap=found["gap p90"], io=statistics.around_rises(share, demand.disk)[2], fano=statistics.clumping(share)[1],
        quiet=100.0 * levels["p95"][0], quiet_most=100.0 * levels["max"][0], hour=statistics.hour_of_day(share)[2],
    )  # fmt: skip


def page(real: Demand | None) -> list[str]:
    """Draw, measure, and say."""
    drawn = fleet("hot_set", 400)
    demand = Demand(*history(drawn, SEED, 30), drawn.memory_mib)
    of_services, of_batch = fleet("resident", 300, SERVICES), fleet("resident", 60, ("batch",))
    services, batch = history(of_services, SEED, 10)[0], history(of_batch, SEED, 5)[0]
    beside = (
        "" if real is None else f" Dashed: {len(real.share)} public VMs of 2013-8, 24 of them chosen for moving much."
    )
    picture = pictures.hot_set([demand] if real is None else [demand, real])
    hot_rows = [
        *level_rows(demand.share, BITBRAINS),
        *change_rows(demand.share, BITBRAINS, 6),
        *burst_rows(demand.share),
    ]
    return [
        HEAD + pictures.examples(), HOT_SET.format(beside=beside, picture=picture), *TABLE, *hot_rows,
        *together_rows(drawn, demand.share), *sum_rows(demand),
        SOURCES.format(services=", ".join(f"`{kind}`" for kind in SERVICES), picture=pictures.resident(services, batch)),
        *TABLE, *level_rows(services, RESIDENT), *change_rows(services, RESIDENT, 4),
        within_row(of_services, "1.008 / – / 1.050 (Borg's production)"), "", "Batch, against a batch job of Borg:", "",
        *TABLE, *level_rows(batch, (BORG_BATCH,)), *change_rows(batch, (BORG_BATCH,), 5),
        within_row(of_batch, words(BORG_BATCH.within, 3)), CLASS_NOTE, *class_rows(), off(demand),
    ]  # fmt: skip


def main() -> None:
    """Write the page."""
    real = real_vms(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] else None
    path = Path(__file__).with_suffix(".md")
    path.write_text("\n".join(page(real)).rstrip("\n") + "\n")
    print(path)


if __name__ == "__main__":
    main()
