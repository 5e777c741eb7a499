"""What a generated VM is like: two families, whose figures are published, and seven classes, which vary them.

A *family* says how demand is looked at, and carries the figures. ``hot_set``: what a VM touched in five minutes over what the
host backs, low and spiky (GWA-T-12 Bitbrains, VMware's active memory of 345-424 VMs in three months). ``resident``: what
a VM holds over its limit, high and flat, with ramps and batch steps (Google 2011, Borg 2019, Alibaba GenTD26).

A *class* multiplies its family's figures by a few factors. No trace says what its VMs did, so the factors are guesses, chosen
such that a fleet with the classes in the shares of `MIX` has the family's statistics (docs/workloads.md, ``make workloads``).

Figures whose source is not named stand in ``bench.published_demand`` with theirs. Shares are of the VM's memory. Percentiles
given for a family are over VMs.
"""

import dataclasses
import math
from typing import Literal

from hvgym.envs.generators.draws import Quantiles
from hvgym.envs.schema import number

Kind = Literal["web", "oltp", "batch", "cache", "vdi", "jvm", "idle"]
FamilyName = Literal["hot_set", "resident"]


@dataclasses.dataclass(frozen=True)
class Generated:
    """What a scenario says of a VM that workload ``generated`` draws. kind: a key of `CLASSES`. level: median share of its memory
    that is hot (``hot_set``) or held (``resident``), drawn where it is left out. siblings: VMs of the same number do alike; -1:
    none. arrive_within_s: it is started at a second drawn from so many, in place of ``arrive_s``.
    """

    kind: Kind
    family: FamilyName = "hot_set"
    level: float | None = number(None, above=0, most=0.95)
    siblings: int = number(-1, least=-1, most=100_000)
    arrive_within_s: float = number(0.0, least=0)


OCTAVES_S = (60.0, 250.0, 3600.0, 6 * 3600.0, 86400.0, 12 * 86400.0)
"""Periods of what a level's wandering is made of."""


@dataclasses.dataclass(frozen=True)
class Family:
    """Figures over VMs. swing: standard deviation of the level over the level, bursts not counted; octaves: share of its variance
    in each of `OCTAVES_S`; strong_days: share of VMs that follow the hour; per_day: bursts; height: of a burst, over the VM's
    `height_times`; length_s: the same, `length_times`; hot_share: of what is held, ``resident`` only; backed: share of its memory
    that a VM has ever touched; sampled_pages: in five minutes, by which active memory was estimated."""

    level: Quantiles
    swing: Quantiles
    octaves: tuple[float, ...]
    strong_days: float
    per_day: Quantiles
    height: Quantiles
    height_times: Quantiles
    length_times: Quantiles
    length_s: Quantiles
    hot_share: Quantiles
    backed: Quantiles
    sampled_pages: float


FAMILIES: dict[FamilyName, Family] = {
    "hot_set": Family(
        # a VM's median in the three months: 0.1 / 1.3 / 3.1 / 6.4 / 17.6 %
        level=Quantiles((0, 5, 25, 50, 75, 95, 100), (0.0002, 0.002, 0.017, 0.033, 0.064, 0.125, 0.32)),
        # fitted to the published changes and CV
        swing=Quantiles((0, 5, 25, 50, 75, 95, 100), (0.03, 0.08, 0.17, 0.36, 0.65, 1.1, 1.6)),
        # half of the variance is gone after 10 min, an eighth is left after a day and a week
        octaves=(0.01, 0.03, 0.04, 0.12, 0.12, 0.68),
        strong_days=0.07,  # hour of day explains more than 20 % for 6-7 % of the VMs
        # 2.7 / 3.7 / 2.9 a VM-day; 12-20 % of the VMs have none in a month. Rises of less than 10 % come on top
        per_day=Quantiles((0, 10, 25, 50, 75, 90, 97, 100), (0.25, 0.5, 1.1, 2.7, 8.0, 19.0, 42.0, 72.0)),
        # rises above 5 / 10 / 25 % in 2.5-3.1 / 1.0 / 0.17 % of the intervals
        height=Quantiles((0, 40, 70, 85, 93, 97, 99, 99.8, 100), (0.03, 0.065, 0.11, 0.175, 0.26, 0.40, 0.60, 0.85, 0.95)),
        height_times=Quantiles((0, 10, 30, 50, 80, 100), (0.20, 0.35, 0.65, 1.0, 1.4, 2.2)),
        length_times=Quantiles((0, 50, 80, 92, 100), (0.4, 0.7, 1.2, 4.0, 20.0)),
        # median 10 min, 90th percentile 30-40 min, 99th 4.5-4.8 h
        length_s=Quantiles((0, 25, 50, 80, 90, 97, 99, 100), (120, 330, 500, 900, 1400, 2400, 5000, 20000)),
        hot_share=Quantiles((0, 100), (1.0, 1.0)),
        backed=Quantiles((0, 100), (0.94, 0.98)),  # GWA-T-12: of the most that is ever backed
        sampled_pages=250.0,  # 100 a minute fit the jitter of GWA-T-12
    ),
    "resident": Family(
        # a VM's median, GenTD26: 6.6 / 26 / 54 / 70 / 87 %; Google 2011 is lower, Borg in its upper half
        level=Quantiles((0, 5, 25, 50, 75, 95, 100), (0.04, 0.066, 0.26, 0.54, 0.70, 0.87, 0.93)),
        # CV .00 / .02 / .03-.04 / .08-.15 / .13-.30 of Google and GenTD26
        swing=Quantiles((0, 5, 25, 50, 75, 95, 100), (0.002, 0.006, 0.018, 0.035, 0.08, 0.15, 0.25)),
        # ACF .93 / .88 / .80-.87 / .52-.74 / .28-.32 of Google and Borg 1138
        octaves=(0.01, 0.06, 0.05, 0.13, 0.25, 0.50),
        strong_days=0.04,  # R2 p95 of .34 (Google); the share is a guess
        # rises above 5 % in .07-.15 %, above 10 % in .01-.06 % of the intervals
        per_day=Quantiles((0, 50, 80, 95, 100), (0.01, 0.1, 0.4, 1.5, 4.0)),
        height=Quantiles((0, 50, 80, 95, 99, 100), (0.02, 0.05, 0.08, 0.15, 0.35, 0.6)),
        height_times=Quantiles((0, 100), (0.7, 1.3)),  # a guess
        length_times=Quantiles((0, 100), (0.5, 1.5)),  # a guess
        length_s=Quantiles((0, 50, 90, 100), (300, 3600, 20000, 43200)),  # a guess: GenTD26's changes last
        # 60-90 % hot at Borg and Alibaba (a guess); testbed pods: working set over usage .60-.91
        hot_share=Quantiles((0, 100), (0.60, 0.91)),
        backed=Quantiles((0, 100), (1.0, 1.0)),
        sampled_pages=math.inf,
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Class:
    """A class of VMs: factors of its family's figures, and what only it does. All guesses but where a source is named.

    level, swing, bursts, height, length: factors. day: share of its wandering's variance that follows the hour.
    steps: the same for levels held for `steps_s`. saw, saw_s: height (share of memory) and length of a sawtooth in view
    ``hot_set`` and ``resident``. anonymous_idle: anonymous memory that is seldom touched, over backed; what is left is page cache.
    cpu_share: of its vCPUs. disk, net: factors of `DISK_MIB_PER_S` and `NET_MIB_PER_S`.
    """

    says: str
    level: float = 1.0
    swing: float = 1.0
    bursts: float = 1.0
    height: float = 1.0
    length: float = 1.0
    day: float = 0.02
    steps: float = 0.0
    steps_s: float = 900.0
    saw: tuple[float, float] = (0.0, 0.0)
    saw_s: float = 3600.0
    anonymous_idle: float = 0.3
    cpu_share: float = 0.1
    disk: float = 1.0
    net: float = 1.0


CLASSES: dict[Kind, Class] = {
    "web": Class(
        "a web front end: short bursts that siblings have together, a little more by day",
        bursts=1.3, length=0.8, day=0.05, anonymous_idle=0.25, cpu_share=0.15, disk=0.3, net=3.0,
    ),
    "oltp": Class(
        "a transactional database: a steady hot buffer pool, bursts of reports, much I/O",
        level=1.3, swing=0.7, bursts=0.8, height=1.0, anonymous_idle=0.45, cpu_share=0.15, disk=3.0, net=1.5,
    ),
    "batch": Class(
        "batch jobs: levels held for a quarter of an hour, tall long bursts, mostly page cache",
        # Borg job 3995..: changes of 10-25 % every 15 min around 65 %, CV .17
        level=1.0, swing=1.4, bursts=1.5, height=1.4, length=1.6, steps=0.9, anonymous_idle=0.15, cpu_share=0.3, disk=3.0, net=0.5,
    ),
    "cache": Class(
        "an in-memory cache: nearly all anonymous, fills for hours and is dropped at once",
        # Borg job 3994..: a ramp of 15 h; SMD: falls of more than 10 %/min 12 times as frequent as rises
        level=1.5, swing=0.6, bursts=0.5, saw=(0.02, 0.25), saw_s=54000.0, anonymous_idle=0.65, cpu_share=0.1, disk=0.2, net=3.0,
    ),
    "vdi": Class(
        "a desktop: busy by day, small frequent bursts",
        level=0.9, swing=1.2, bursts=1.6, height=0.8, length=0.7, day=0.35, anonymous_idle=0.35, cpu_share=0.1, disk=0.5, net=0.3,
    ),
    "jvm": Class(
        "a Java service: its heap fills and is collected, a sawtooth of about an hour",
        # SMD: falls of more than 10 % in a minute every 77 min
        level=1.4, swing=0.8, bursts=0.8, saw=(0.03, 0.04), saw_s=4600.0, anonymous_idle=0.5, cpu_share=0.2, disk=0.3, net=1.0,
    ),
    "idle": Class(
        "hardly used: a small hot set, a burst every few days",
        level=0.35, swing=0.8, bursts=0.25, height=0.8, anonymous_idle=0.3, cpu_share=0.02, disk=0.1, net=0.1,
    ),
}  # fmt: skip

MIX: dict[Kind, float] = {
    "web": 0.28,
    "oltp": 0.18,
    "batch": 0.10,
    "cache": 0.08,
    "vdi": 0.08,
    "jvm": 0.13,
    "idle": 0.15,
}
"""Shares of the classes in a fleet whose statistics are its family's; a guess."""

RESIDENT_BATCH_SWING, RESIDENT_BATCH_LEVEL = 0.19, 0.62
"""CV and level of Borg's batch job 3995.., in place of the family's."""

SIZES_MIB = (512.0, 2048.0, 6144.0, 12288.0, 32768.0)
LENGTH_BY_SIZE, HEIGHT_BY_SIZE = (0.25, 0.4, 0.75, 1.7, 4.5), (0.5, 0.6, 0.8, 1.4, 1.5)
LEVEL_BY_SIZE = (1.1, 1.1, 1.0, 0.8, 0.6)
"""Of bursts and of the level in between, over their family's: large VMs burst longer and higher, from a lower level. Fitted to
the sums of hosts; of the 64 public VMs of GWA-T-12, by quarters of size (0.4-3, 3-8, 8-16, 16-96 GiB), 1.7 / 6.5 / 9.1 / 18.9 %
of the time is in bursts, 0.06 / 0.08 / 0.91 / 0.61 % of the intervals rise by more than 25 %, and the ACF after five minutes is
.37 / .57 / .77 / .84."""

SIBLING_CORRELATION = 0.9
"""Of siblings' demand: neighbours of GWA-T-12 reach .88 (95th percentile of neighbours), instances of a Borg job .83-.99."""

DISK_MIB_PER_S = Quantiles((0, 25, 50, 75, 90, 97, 100), (0.0003, 0.0015, 0.004, 0.015, 0.12, 0.7, 3.0))
NET_MIB_PER_S = Quantiles((0, 25, 50, 75, 90, 97, 100), (0.0001, 0.0003, 0.002, 0.015, 0.08, 0.3, 1.2))
"""Of a VM at rest. a host of 32 has 7 MB/s of disk and 3 of network on average, a tenth of the VMs carry 91-98 % (80-92 %)."""

IO_LEAD, IO_BURST, IO_AFTER = 35.0, 40.0, 4.0
"""I/O over the VM's at rest before, at and after the beginning of a burst of `FULL_BURST` or more. 3.1-5.1 times a VM's mean
in the slot before a rise of more than 5 %, 4.9-7.9 in it, 1.6-2.6 in the next; the mean has the bursts in it."""

FULL_BURST = 0.06

CPU_BURST = 4.5
"""CPU over that at rest when I/O is at `IO_BURST`. 3.2 times a VM's mean in the slot of a rise, 2.0 in the slot before."""

MOST_IO_MIB_PER_S = 80.0
"""Of a VM's disk, and of its network; the most in a slot of the 64 public VMs of GWA-T-12 is 71 for disks."""

IO_SLOT_S = 300.0
"""So long before a burst's beginning the I/O is up at most (2.7), and so long after."""
