"""What was measured on real traces, in the statistics of ``demand_statistics``: figures only, no rows.

- Bitbrains: GWA-T-12 *Rnd*, 2013-7 / -8 / -9, 345 / 424 / 384 VMs, 30 days of 5 min (S. Shen, V. van Beek, A. Iosup, "Statistical
  Characterization of Business-Critical Workloads Hosted in Cloud Datacenters", CCGrid 2015; Bitbrains IT Services Inc.,
  Grid Workloads Archive). Memory usage over the largest "capacity provisioned", which is what the host backs.
- Google 2011: 97 jobs of ClusterData2011 as VMs, 10 days of 5 min (aggregated by HiPro-IT). Usage over limit.
- Borg 2019: instances of three jobs of ClusterData2019. Usage over limit.
- GenTD26: 170 instances of Alibaba's trace of that name, 0.95 days of 57 s.

Percentages of capacity; percentiles over VMs are 5 / 25 / 50 / 75 / 95. Pairs are the least and most of the three months.
"""

from dataclasses import dataclass, field

LAGS = {"5 min": 1, "10 min": 2, "1 h": 12, "6 h": 72, "24 h": 288, "7 d": 2016}
WINDOWS = {"5 min": 1, "1 h": 12, "6 h": 72, "24 h": 288, "7 d": 2016}
CHANGE_PERCENT = (50.0, 90.0, 99.0, 99.9)
RISES = (1, 5, 10, 25)


@dataclass(frozen=True)
class Published:
    """A set of VMs. levels: by name, percentiles over VMs; autocorrelation at `LAGS`; changes: absolute, at `CHANGE_PERCENT`;
    rises, falls: percentage of intervals with more than `RISES`; hours: R2 of the hour of day at the 50th, 75th, 95th
    percentile; total: mean, 95th, 99th percentile and maximum of the sum; windows: peak of a window at `WINDOWS`; clumping:
    variance over mean of the number of VMs that rise by 5 %; io: over a VM's mean, two slots before such a rise to two after;
    hosts: total of the median host of so many VMs; within: largest over mean use within a slot, median, 90th, 99th percentile."""

    name: str
    levels: dict[str, tuple[float, ...]]
    autocorrelation: tuple[float, ...]
    changes: tuple[float, ...]
    rises: tuple[float, ...]
    falls: tuple[float, ...]
    total: tuple[float, ...]
    hours: tuple[float, ...] = ()
    bursts: dict[str, tuple[float, float]] = field(default_factory=dict)
    windows: tuple[tuple[float, float], ...] = ()
    clumping: tuple[float, float] = (0.0, 0.0)
    io: dict[str, tuple[float, ...]] = field(default_factory=dict)
    within: tuple[float, ...] = ()
    hosts: dict[int, tuple[float, ...]] = field(default_factory=dict)


BITBRAINS = (
    Published(
        "Bitbrains 2013-7",
        {
            "mean": (0.7, 2.4, 4.5, 8.1, 18.3), "p50": (0.1, 1.1, 3.1, 6.5, 17.7), "p95": (1.6, 4.5, 8.3, 19.7, 43),
            "max": (6, 18, 46, 82, 96), "CV": (0.17, 0.34, 0.59, 1.2, 3.1),
        },
        (0.52, 0.23, 0.23, 0.14, 0.18, 0.12), (0.73, 3.1, 14.3, 34), (19, 2.5, 0.97, 0.16),
        (20, 2.5, 0.84, 0.09), (4.9, 9.4, 12.3, 16.8),
    ),
    Published(
        "Bitbrains 2013-8",
        {
            "mean": (0.7, 2.6, 4.2, 8.6, 17.8), "p50": (0.2, 1.5, 3.5, 6.3, 16.3), "p95": (1.5, 4.6, 8.8, 18.4, 42),
            "max": (8, 23, 43, 76, 94), "CV": (0.19, 0.36, 0.72, 1.1, 2.2),
        },
        (0.48, 0.20, 0.21, 0.13, 0.16, 0.08), (0.80, 3.7, 15.3, 39), (21, 3.1, 1.08, 0.21),
        (23, 3.1, 0.96, 0.12), (6.0, 10.8, 12.3, 19.2),
        hours=(0.02, 0.05, 0.25),
        bursts={
            "share of time": (0.04, 0.06), "a VM-day": (2.7, 3.7), "VMs with one": (0.80, 0.88), "length p50": (10, 10),
            "length p90": (30, 40), "length p99": (270, 288), "gap p50": (60, 60), "gap p90": (840, 1020),
        },
        windows=((6, 6), (8, 10), (13, 16), (21, 25), (35, 41)),
        clumping=(2.7, 3.0),
        io={
            "disk read": (0.9, 5.1, 7.9, 2.6, 2.1), "disk write": (1.1, 3.1, 4.9, 2.0, 1.6),
            "network in": (1.4, 4.3, 5.8, 2.3, 2.0), "network out": (1.2, 3.3, 5.6, 2.4, 1.9),
        },
        hosts={8: (6.2, 15.2, 20.8, 35.6), 16: (6.4, 13.8, 17.8, 31.0), 32: (6.3, 12.3, 15.5, 26.5)},
    ),
    Published(
        "Bitbrains 2013-9",
        {
            "mean": (0.5, 1.8, 3.8, 8.5, 18.7), "p50": (0.0, 1.4, 3.1, 6.4, 17.5), "p95": (1.4, 3.5, 7.1, 15.2, 46),
            "max": (9, 20, 35, 76, 96), "CV": (0.18, 0.35, 0.64, 1.1, 2.5),
        },
        (0.56, 0.30, 0.16, 0.09, 0.15, 0.09), (0.77, 3.2, 14.2, 33), (20, 2.5, 0.97, 0.17),
        (21, 2.5, 0.85, 0.09), (5.7, 9.8, 11.3, 16.9),
    ),
)  # fmt: skip

RESIDENT = (
    Published(
        "Google 2011",
        {
            "mean": (7.1, 9.6, 12.9, 25.5, 44.8), "p50": (7.2, 9.6, 12.9, 25.6, 45.6), "p95": (7.8, 11.2, 14.3, 26.8, 47.7),
            "max": (8.6, 12.5, 20, 28, 55), "CV": (0.00, 0.02, 0.04, 0.08, 0.13),
        },
        (0.93, 0.88, 0.80, 0.52, 0.32), (0.03, 0.33, 1.7, 8.6), (1.0, 0.12, 0.03, 0.00),
        (1.1, 0.14, 0.04, 0.00), (19.3, 19.7, 19.8, 20.2),
        hours=(0.04, 0.09, 0.34),
    ),
    Published(
        "GenTD26, steps of 57 s",
        {
            "mean": (5.8, 26, 54, 68, 88), "p50": (6.6, 26, 54, 70, 87), "p95": (8, 26, 56, 75, 91), "max": (12, 27, 57, 76, 94),
            "CV": (0.00, 0.02, 0.03, 0.15, 0.30),
        },
        (0.94, 0.61, 0.45, -0.02), (0.00, 0.42, 3.0, 4.9), (2.8, 0.07, 0.01, 0.00),
        (3.1, 0.02, 0.02, 0.01), (48.7, 50.5, 51.1, 51.5),
    ),
    Published(
        "Borg 2019, service",
        {
            "mean": (69, 71, 72, 74, 83), "p50": (68, 69, 70, 74, 82), "p95": (78, 86, 88, 90, 93), "max": (83, 91, 93, 95, 98),
            "CV": (0.06, 0.07, 0.10, 0.11, 0.13),
        },
        (0.96, 0.94, 0.87, 0.74, 0.28, 0.05), (0.76, 1.6, 3.6, 26), (11, 0.15, 0.06, 0.04),
        (18, 0.25, 0.07, 0.06), (72.6, 90, 91, 92),
        hours=(0.01, 0.02, 0.10),
    ),
)  # fmt: skip

BORG_BATCH = Published(
    "Borg 2019, batch",
    {
        "mean": (61, 63, 64, 66, 67), "p50": (56, 57, 58, 64, 69), "p95": (80, 82, 83, 83, 84), "max": (88, 90, 91, 93, 95),
        "CV": (0.16, 0.17, 0.17, 0.18, 0.20),
    },
    (0.71, 0.38, 0.14, -0.02, 0.07), (2.4, 15.7, 25, 50), (28, 17.4, 10.5, 0.51), (30, 17, 10, 0.49), (64.6, 77, 79, 82),
    hours=(0.22, 0.25, 0.29), within=(1.06, 1.26, 1.47),
)  # fmt: skip
