"""Cards of guest memory: recency tiers (M1), faults by who chooses the victims (M3), fault service and stall (M4), and
compressed memory (M5). M2, the faults of LRU, is a curve without a card of its own; M3 and M4 draw it.

M1 is closed form (``model.guest.patterns``); the others run the model on the bench of ``paging``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from card import Card, Result
from paging import (
    GENERAL,
    HDD_OF_THE_CARDS,
    INSTANT,
    MEASURE_S,
    NVME,
    THREADS,
    TOUCHED_MIB,
    TRAP_US,
    Bench,
    by_guest,
    by_host,
    lru_faults,
    random_faults,
    rising_through,
    short_host,
)

from hvgym.bench.looks import COLOURS, GREY
from hvgym.envs.model.guest import memory
from hvgym.envs.model.guest.patterns import idle_age, idle_share, retouch_rate
from hvgym.envs.model.host import overcommit
from hvgym.envs.model.host.swap_devices import SWAP_DEVICES
from hvgym.envs.scenario import VmGroup

TMO = ((0.45, 0.21, 0.34), (8.0, 120.0, 43200.0))
SERVICE_C = ((0.226, 0.513, 0.261), (0.1, 166.0, 11.8 * 3600.0))
"""Mixtures as `GENERAL`."""

MODEL, LRU, RANDOM = COLOURS[0], GREY, COLOURS[3]
PUBLISHED, ACCEPTED, EXPECTED = COLOURS[1], "#f7e3dc", "#edc6ba"


def published(axes: Any, x: float, least: float, most: float, best: float | None = None, named: bool = True) -> None:
    """A figure at `x`: what is accepted as a bar, what was published as a stroke across it."""
    axes.plot([x, x], [least, most], color=EXPECTED, linewidth=8, solid_capstyle="butt", zorder=0,
              label="accepted" if named else None)  # fmt: skip
    if best is not None:
        axes.plot(x, best, "_", color=PUBLISHED, markersize=12, label="published" if named else None)


def bands(axes: Any, accepted: tuple[float, float], expected: tuple[float, float]) -> None:
    """Levels that are accepted, and within them those that were published."""
    axes.axhspan(*accepted, color=ACCEPTED, label="accepted", zorder=0)
    axes.axhspan(*expected, color=EXPECTED, label="published", zorder=0)


def compared(axes: Any, rows: Sequence[tuple[str, float, float]], tolerance: float, unit: str) -> None:
    """Rows from the top: (name, published, got)."""
    for y, (_, best, got) in enumerate(rows):
        names = ("accepted", "published", "model") if y == 0 else (None, None, None)
        axes.barh(y, 2.0 * tolerance * best, left=(1.0 - tolerance) * best, height=0.55, color=EXPECTED, label=names[0])
        axes.plot([best, best], [y - 0.27, y + 0.27], color=PUBLISHED, label=names[1])
        axes.plot(got, y, "o", color=MODEL, label=names[2])
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -1.1)
    axes.set_xlabel(unit)
    axes.legend(loc="upper right", ncols=3)


def idle_curve(mixture: Any, age_s: float, low: float, high: float, best: float) -> Callable[[Any], None]:
    """Share of memory idle for longer than a, with one published point."""

    def plot(axes: Any) -> None:
        ages = np.linspace(age_s / 4.0, age_s * 4.0, 100)
        axes.plot(ages, [idle_share(age, *mixture) for age in ages], color=MODEL, label="model")
        axes.plot(age_s, idle_share(age_s, *mixture), "o", color=MODEL)
        published(axes, age_s, low, high, best)
        axes.set_xlabel("idle for longer than a, s")
        axes.set_ylabel("share S(a) of memory")
        axes.legend()

    return plot


def card_1_1() -> Result:
    got = idle_share(120.0, *GENERAL)
    return Result(f"{got:.3f}", abs(got - 0.32) <= 0.01, idle_curve(GENERAL, 120.0, 0.31, 0.33, 0.32))


def card_1_2() -> Result:
    def per_minute(age_s: float) -> float:
        return 60.0 * retouch_rate(age_s, *GENERAL) / idle_share(age_s, *GENERAL)

    def plot(axes: Any) -> None:
        ages = np.linspace(30.0, 480.0, 100)
        axes.plot(ages, [per_minute(age) for age in ages], color=MODEL, label="model")
        axes.plot(120.0, got, "o", color=MODEL)
        published(axes, 120.0, 0.13, 0.17, 0.15)
        axes.set_xlabel("idle for longer than a, s")
        axes.set_ylabel("touched again per minute")
        axes.legend()

    got = per_minute(120.0)
    return Result(f"{got:.3f} per min", abs(got - 0.15) <= 0.02, plot)


def card_1_3() -> Result:
    got = idle_share(300.0, *TMO)
    return Result(f"{got:.3f}", abs(got - 0.35) <= 0.02, idle_curve(TMO, 300.0, 0.33, 0.37, 0.35))


def card_1_4() -> Result:
    quantiles = {0.25: 7.9, 0.50: 2.1 * 60.0, 0.75: 30.9 * 60.0, 0.99: 38.5 * 3600.0}
    got = {q: idle_age(1.0 - q, *SERVICE_C) for q in quantiles}

    def plot(axes: Any) -> None:
        shares = np.linspace(0.02, 0.995, 200)
        axes.semilogy(shares, [idle_age(1.0 - q, *SERVICE_C) for q in shares], color=MODEL, label="model")
        axes.plot(list(got), list(got.values()), "o", color=MODEL)
        for i, (q, age) in enumerate(quantiles.items()):
            published(axes, q, 0.95 * age, 1.05 * age, age, named=i == 0)
        axes.set_xlabel("share of memory idle for less")
        axes.set_ylabel("idle time, s")
        axes.legend()

    words = f"{got[0.25]:.1f} s / {got[0.5] / 60:.1f} min / {got[0.75] / 60:.1f} min / {got[0.99] / 3600:.1f} h"
    return Result(words, all(abs(got[q] / age - 1.0) <= 0.05 for q, age in quantiles.items()), plot)


def card_1_5() -> Result:
    def promoted_percent(age_s: float) -> float:
        return 100.0 * 60.0 * retouch_rate(age_s, *GENERAL) / (1.0 - idle_share(120.0, *GENERAL))

    def plot(axes: Any) -> None:
        ages = np.geomspace(1.0, 30.0, 100)
        axes.axvspan(8.0, 15.0, color=ACCEPTED, label="accepted", zorder=0)
        axes.axvline(11.2, color=PUBLISHED, linewidth=1.0, label="published")
        axes.semilogy(ages, [promoted_percent(60.0 * age) for age in ages], color=MODEL, label="model")
        axes.axhline(0.2, color=LRU, linestyle=":", label="limit, 0.2 %")
        axes.plot(got / 60.0, 0.2, "o", color=MODEL)
        axes.set_xlabel("threshold T, min")
        axes.set_ylabel("promoted, % of WSS per min")
        axes.legend()

    got = rising_through(lambda age: 0.2 - promoted_percent(age), 120.0, 3600.0)
    return Result(f"T = {got / 60:.1f} min, S(T) = {100 * idle_share(got, *GENERAL):.0f} %", 480 <= got <= 900, plot)


LEVELS = (0.95, 0.9, 0.87, 0.85, 0.84, 0.83, 0.82, 0.81, 0.8, 0.79, 0.78, 0.77, 0.76, 0.75, 0.7, 0.6, 0.5)


def card_3_1() -> Result:
    balloon = by_guest(0.85, NVME).slower
    swap, deeper = by_host(0.85, HDD_OF_THE_CARDS).slower, by_host(0.80, HDD_OF_THE_CARDS).slower
    disk = SWAP_DEVICES["hdd"]
    single = [by_host(level, disk).slower for level in (0.85, 0.80)]

    def plot(axes: Any) -> None:
        levels = LEVELS[: LEVELS.index(0.75) + 1]
        axes.semilogy(levels, [100 * by_guest(c, NVME).slower for c in levels], color=MODEL, label="balloon, NVMe")
        axes.semilogy(levels, [100 * by_host(c, HDD_OF_THE_CARDS).slower for c in levels], color=RANDOM,
                      label="host swap, HDD")  # fmt: skip
        axes.plot([0.85, 0.85], [10.0, 20.0], color=PUBLISHED, linewidth=3, label="published")
        axes.plot([0.80, 0.85], [50.0, 1.0], linestyle="", marker="_", color=PUBLISHED, markersize=12)
        axes.annotate("balloon: below", (0.85, 1.0), textcoords="offset points", xytext=(8, -3), fontsize=7)
        axes.invert_xaxis()
        axes.set_xlabel("share C of touched pages in RAM")
        axes.set_ylabel("slower by, %")
        axes.legend()

    words = (
        f"balloon {100 * balloon:.2f} %; host swap {100 * swap:.0f} %, {100 * deeper:.0f} % at .80 "
        f"(with one disk of 120 IOPS {100 * single[0]:.0f} and {100 * single[1]:.0f} %)"
    )
    return Result(words, balloon < 0.01 < swap < deeper, plot)


def card_3_2() -> Result:
    inside = [level for level in LEVELS if 0.75 <= level <= 0.85]
    ratio = {c: by_host(c, INSTANT).faults_per_s / by_guest(c, INSTANT).faults_per_s for c in LEVELS}
    peak = max(inside, key=lambda c: ratio[c])

    def plot(axes: Any) -> None:
        bands(axes, (5.0, 30.0), (10.0, 27.0))
        levels = np.linspace(0.95, 0.5, 181)
        axes.semilogy(
            levels, [random_faults(c) / lru_faults(c) for c in levels], color=LRU, linestyle="--", label="RANDOM / LRU"
        )
        axes.semilogy(list(ratio), list(ratio.values()), color=MODEL, marker=".", label="model")
        axes.plot(peak, ratio[peak], "o", color=MODEL)
        axes.set_xlim(0.96, 0.6)
        axes.set_xlabel("share C of touched pages in RAM")
        axes.set_ylabel("faults, host / guest")
        axes.legend()

    words = f"{ratio[peak]:.1f}x at C = {peak:g}; RANDOM over LRU would be {random_faults(0.8) / lru_faults(0.8):.0f}x at C = 0.8"
    return Result(words, 5.0 <= ratio[peak] <= 30.0, plot)


def stalled(axes: Any, latencies_us: np.ndarray, points: Mapping[str, tuple[float, float]]) -> None:
    """Throughput at C = 0.5 against the latency of a fault: theory without a queue, and the model's points."""
    for faults, colour, name in ((lru_faults(0.5), LRU, "LRU"), (random_faults(0.5), RANDOM, "RANDOM")):
        axes.plot(latencies_us, 1.0 / (1.0 + faults * 1e-6 * latencies_us / THREADS), "--", color=colour,
                  label=f"{name}, no queue")  # fmt: skip
    for i, (name, point) in enumerate(points.items()):
        axes.plot(*point, "o", color=MODEL, label=None if i else "model")
        axes.annotate(name, point, textcoords="offset points", xytext=(-8, -5), ha="right", fontsize=7, color=MODEL)
    axes.set_xscale("log")
    axes.set_xlabel("latency of a fault, µs")
    axes.set_ylabel("throughput")


def card_4_1() -> Result:
    got = by_guest(0.5, HDD_OF_THE_CARDS)
    single = by_guest(0.5, SWAP_DEVICES["hdd"]).progress

    def plot(axes: Any) -> None:
        stalled(axes, np.geomspace(100.0, 2e4, 100), {"500 IOPS": (8000.0, got.progress), "120 IOPS": (8000.0, single)})
        published(axes, 8000.0, 0.02, 0.08, 0.05)
        axes.set_yscale("log")
        axes.legend(loc="lower left")

    words = f"{got.progress:.3f} (slowdown {1 / got.progress:.0f}x; with one disk of 120 IOPS {single:.3f})"
    return Result(words, 0.02 <= got.progress <= 0.08, plot)


def card_4_2() -> Result:
    lz4 = {"swap": "zram", "zram_stored_share": 1.0 / 2.63, "zram_load_us": 2.5}
    zram = by_guest(0.5, INSTANT, **lz4, zram_store_us=0.0).progress
    with_store = by_guest(0.5, INSTANT, **lz4).progress
    nvme = by_guest(0.5, NVME).progress

    def plot(axes: Any) -> None:
        stalled(axes, np.geomspace(1.0, 400.0, 100), {"zram": (2.5, zram), "NVMe": (100.0, nvme)})
        published(axes, 2.5, 0.94, 1.0, 0.99)
        published(axes, 100.0, 0.70, 0.87, named=False)
        axes.set_ylim(0.4, 1.06)
        axes.legend(loc="lower left")

    words = f"zram {zram:.3f} ({with_store:.3f} with the packaged 4 µs of its successor's store); NVMe {nvme:.2f}"
    return Result(words, zram >= 0.99 and 0.70 <= nvme <= 0.87, plot)


def zram_as_seen(load_us: float, stored_share: float) -> tuple[float, float]:
    """Time per fault in µs, and compression: from how much a guest at C = 0.5 slows down, and what its pool takes."""
    bench = Bench(swap="zram", zram_load_us=load_us, zram_store_us=0.0, zram_stored_share=stored_share)
    bench.balloon_to(0.5)
    rates = bench.run(MEASURE_S)
    out_mib = float(np.sum(bench.vm["allocated_mib"] - bench.vm["resident_mib"]))
    stall_s = THREADS * (1.0 - rates["progress_s"])
    return 1e6 * stall_s / rates["major_faults"], out_mib / memory.pool_mib(bench.vm, bench.spec)


def card_4_3() -> Result:
    seen = {
        "lz4": zram_as_seen(VmGroup.zram_load_us, VmGroup.zram_stored_share),
        "zstd": zram_as_seen(5.7 + TRAP_US, 1.0 / 3.37),
    }
    rows = [(f"{name}, µs", best, seen[name][0] - TRAP_US) for name, best in (("lz4", 1.7), ("zstd", 5.7))]
    rows += [(f"{name}, ratio", best, seen[name][1]) for name, best in (("lz4", 2.63), ("zstd", 3.37))]

    def plot(axes: Any) -> None:
        compared(axes, rows, 0.1, "µs without the trap; original / stored")
        axes.set_xlim(left=0.0)

    words = "; ".join(f"{name} {us - TRAP_US:.2f} µs, ratio {ratio:.2f}" for name, (us, ratio) in seen.items())
    return Result(words, all(abs(got / best - 1.0) <= 0.1 for _, best, got in rows), plot)


READ_S = 3000


def swap_in_s(host_swap: str | None, sequential_share: float) -> float:
    """Time for which one thread waits until 5 GiB have come back from the guest's zram, or from the host's device."""
    bench = Bench(((5120.0 / TOUCHED_MIB,), (100.0,)), host_swap=host_swap, memory_mib=6144.0, fault_parallelism=1.0,
                  swap="zram", zram_store_us=0.0, sequential_share=sequential_share)  # fmt: skip
    if host_swap is None:
        bench.vm["resident_mib"][0] = 0.0
        bench.vm["free_backed_mib"] += 5120.0 - memory.pool_mib(bench.vm, bench.spec)
    else:
        bench.vm["host_swapped_mib"][0] = 5120.0
    return READ_S * (1.0 - bench.run(READ_S)["progress_s"])


def card_4_4() -> Result:
    page_by_page, ahead = swap_in_s(None, 0.0), swap_in_s("zram", 1.0)

    def plot(axes: Any) -> None:
        compared(axes, [("page by page", 1.64, page_by_page), ("read ahead", 1.64, ahead)], 0.1, "s for 5 GiB")
        axes.set_xlim(left=0.0)

    words = f"{page_by_page:.2f} s page by page (guest's zram); {ahead:.2f} s with read-ahead (host's zram)"
    return Result(words, abs(page_by_page / 1.64 - 1.0) <= 0.1, plot)


POOL = {"zip_cap_share": 0.2, "zip_stored_share": 1.0 / 3.0}
"""A pool that stores pages at ratio 3 and takes up to 20 % of memory (zswap's default)."""


def dram_saved(bench: Bench) -> tuple[float, float]:
    """By compression and by the device beneath it, as shares of the touched memory."""
    out_mib = overcommit.host_swapped_mib(bench.vm)
    zipped_mib = float(bench.vm["zipped_mib"])
    return zipped_mib * (1.0 - POOL["zip_stored_share"]) / TOUCHED_MIB, (out_mib - zipped_mib) / TOUCHED_MIB


def card_5_1() -> Result:
    def saved(compressible: float) -> float:
        bench = short_host(1.0 - 0.20 * 0.32, host_swap="sata_ssd", hypervisor=POOL, compressible_share=compressible)
        return dram_saved(bench)[0]

    shares = (0.5, 0.6, 0.69, 0.8, 0.9, 1.0)
    got = [100.0 * saved(share) for share in shares]
    low, high = got[shares.index(VmGroup.compressible_share)], got[-1]

    def plot(axes: Any) -> None:
        bands(axes, (2.5, 5.5), (3.0, 4.5))
        axes.plot(shares, got, color=MODEL, label="model")
        axes.plot([VmGroup.compressible_share, 1.0], [low, high], "o", color=MODEL)
        axes.set_ylim(0.0, 6.5)
        axes.set_xlabel("compressible share z")
        axes.set_ylabel("DRAM saved, %")
        axes.legend(loc="lower right")

    return Result(f"{low:.1f} to {high:.1f} %", 2.5 <= low <= high <= 5.5, plot)


PSI_LIMIT_PERCENT = 0.1
"""Threshold of TMO's controller, some memory pressure."""


def card_5_2() -> Result:
    all_idle = 1.0 - idle_share(300.0, *TMO)
    levels = (all_idle, 0.65, 0.66, 0.665, 0.67, 0.68, 0.70, 0.75, 0.80)
    pressure, saved = [], []
    for resident in levels:
        hypervisor = POOL | {"victims": "two_lists"}
        bench = short_host(resident, mixture=TMO, host_swap="sata_ssd", hypervisor=hypervisor)
        bench.run(3600)
        pressure.append(100.0 * (1.0 - bench.run(MEASURE_S)["progress_s"]))
        saved.append(100.0 * sum(dram_saved(bench)))
    got = float(np.interp(np.log(PSI_LIMIT_PERCENT), np.log(pressure[::-1]), saved[::-1]))

    def plot(axes: Any) -> None:
        bands(axes, (15.0, 37.0), (20.0, 32.0))
        axes.semilogx(pressure, saved, ".-", color=MODEL, label="model")
        axes.axvline(PSI_LIMIT_PERCENT, color=LRU, linestyle=":", label="limit")
        axes.plot(PSI_LIMIT_PERCENT, got, "o", color=MODEL)
        axes.set_ylim(0.0, 40.0)
        axes.set_xlabel("PSI some, %")
        axes.set_ylabel("DRAM saved, %")
        axes.legend(loc="lower left")

    words = f"{got:.1f} % at the limit; all of S(300) saves {saved[0]:.1f} % at a PSI of {pressure[0]:.2f} %"
    return Result(words, 15.0 <= got <= 37.0, plot)


FAR_MEMORY = "Google, software-defined far memory (ASPLOS 2019)"
META = "Meta, transparent memory offloading (ASPLOS 2022)"
ZRAM_NOTES = "zram measurements on an x86 desktop"

CARDS: tuple[Card, ...] = (
    Card("1.1", "Share of memory idle for two minutes", FAR_MEMORY, "general mixture, a = 120 s", "S = 0.320", "± 0.01",
         card_1_1),
    Card("1.2", "Idle memory that is touched again", FAR_MEMORY, "general mixture, a = 120 s: 60 D(a) / S(a)",
         "0.150 per min", "± 0.02", card_1_2),
    Card("1.3", "Share of memory idle for five minutes", META, "TMO mixture, a = 300 s", "S = 0.35", "± 0.02", card_1_3),
    Card("1.4", "Quartiles of a service's idle time", "Meta, Vistara (ISCA 2026), table I, service C",
         "mixture C at P25 / P50 / P75 / P99", "7.9 s / 2.1 min / 30.9 min / 38.5 h", "± 5 %", card_1_4),
    Card("1.5", "Threshold of proactive reclaim", FAR_MEMORY,
         "general mixture, promotions 60 D(T) / (1 - S(120)) of at most 0.2 % of the working set per min",
         "T = 11.2 min, S(T) = 21 %, an upper bound", "T 8-15 min", card_1_5),
    Card("3.1", "A balloon is flat where host swap falls", "VMware, balloon against host swap (Drummonds, 2009)",
         "general mixture, 4 GiB, 4 threads: balloon to C = .85 on NVMe; random host swap to C = .85 and .80 on an HDD "
         "of 8 ms that serves 4 requests at once",
         "balloon < 1 % slower; host swap 10-20 %, at .80 about 50 %", "sign and ordering", card_3_1),
    Card("3.2", "Worst ratio of uncooperative to balloon", "VSwapper (ASPLOS 2014), an order of magnitude",
         "general mixture, 4 GiB, C from .75 to .85: faults under random host swap / under a balloon", "peak of 10-27x",
         "5-30x", card_3_2),
    Card("4.1", "Half of memory on a hard disk", "Infiniswap, VoltDB at half of its memory",
         "general mixture, 4 GiB, 4 threads, C = .5, HDD of 8 ms that serves 4 requests at once",
         "throughput 0.05 of full (slowdown 20-27x); VoltDB 0.04", "0.02-0.08", card_4_1),
    Card("4.2", "Half of memory on zram or NVMe", "closed form M4 with the devices' figures",
         "as 4.1 with zram lz4 (2.5 µs with the trap); with NVMe (100 µs)", "≥ 0.99; 0.75-0.82", "± 0.05 (NVMe)",
         card_4_2),
    Card("4.3", "Service time of zram", ZRAM_NOTES,
         "guest at C = .5; lz4 as packaged, zstd given as parameters; 0.8 µs of trap taken off",
         "lz4 1.7 µs, ratio 2.63; zstd 5.7 µs, ratio 3.37", "± 10 %", card_4_3),
    Card("4.4", "Sequential swap-in from zram", "commit text of Linux's synchronous zram swap-in",
         "5 GiB of 4 KiB pages, lz4, one thread", "1.64 s", "± 10 %", card_4_4,
         unmet="The model has one figure for a page from zram, 1.7 µs of device and 0.8 µs of trap (card 4.3), random or "
         "not; the commit's machine takes 1.25 µs for both on sequential pages. Both cards cannot be met with one figure. "
         "A host that reads its zram ahead comes near the figure, but by a path that the commit does not take."),
    Card("5.1", "What compressing cold memory saves", FAR_MEMORY,
         "cold 32 %, coverage 20 % of it, ratio 3, z = .69 to 1", "DRAM saved 3-4.5 % (published: cost of it 4-5 %)",
         "2.5-5.5 %", card_5_1),
    Card("5.2", "What offloading saves under a PSI limit", META,
         "TMO mixture, 4 GiB, 4 threads, up to S(300) offloaded by Linux's two lists; pool of ratio 3, z = .69, 30 µs; the rest "
         "on a SATA SSD; PSI some at most 0.1 %", "20-32 % saved", "± 5 points", card_5_2),
)  # fmt: skip
