"""Cards of live migration (10): published copies, a self-check of the rounds, a fleet, and RDMA.

Each card copies one VM with ``model.migration``, second by second, on a link of its own. MB and GB are 10^6 and 10^9 bytes, as in
the sources; inputs that these do not give are named in `given`.
"""

import dataclasses
from typing import Any

import numpy as np
from card import Card, Result
from cards_host import Row, all_met, compared, near

from hvgym.envs.migration_rules import MigrationRules, named
from hvgym.envs.model import migration, params
from hvgym.envs.model.convergence import DONE, RUNNING

MIB_PER_MB = 1e6 / 2**20
LONGEST_S = 3600

UNITS = 1.024
"""QEMU's "MB" is 1024 x 1000 bytes in that document: only so do its bytes, rates and times agree."""


@dataclasses.dataclass(frozen=True)
class Copied:
    """A copy that has ended, or has not within an hour."""

    total_s: float
    downtime_s: float
    sent_mb: float
    rounds: int
    throttle: float
    done: bool


def copied(rules: MigrationRules, written_mb: float, mb_per_s: float, other_mb: float) -> Copied:
    """Copy a VM that writes to so much memory, at first so many unique MB/s of it, and has so much beside it.

    Its vCPUs have no time to spare: what holds them back, slows it down."""
    vm, spec = params.zeros((1,), params.VM)[0], params.zeros((1,), params.VM_SPEC)[0]
    copy, row = params.zeros((1,), migration.COPY)[0], rules.row()
    vm["resident_mib"][0], vm["progress"] = written_mb * MIB_PER_MB, 1.0
    spec["kernel_mib"] = other_mb * MIB_PER_MB
    spec["memory_mib"] = (written_mb + other_mb) * MIB_PER_MB
    spec["tier_rate_per_s"][0], spec["tier_write_share"][0] = (mb_per_s / written_mb if written_mb else 0.0), 1.0
    spec["fault_parallelism"] = 1.0
    migration.begin(copy, vm, spec, row)
    throttle = 0.0
    for _ in range(LONGEST_S):
        migration.advance(copy, vm, spec, row, float(row["bandwidth_mib_per_s"]))
        throttle = max(throttle, float(copy["throttle"]))
        vm["progress"] = 1.0 - float(copy["held_back"])
        if copy["result"] != RUNNING:
            break
    return Copied(
        float(copy["elapsed_s"]), float(copy["downtime_s"]), float(copy["sent_mib"]) / MIB_PER_MB, int(copy["round"]) - 1,
        throttle, bool(copy["result"] == DONE),
    )  # fmt: skip


def qemu(mb_per_s: float, **changes: Any) -> MigrationRules:
    """Its rules on a link of this speed; the card's figures leave the fixed part of the downtime out."""
    return dataclasses.replace(named("qemu"), bandwidth_mib_per_s=mb_per_s * MIB_PER_MB, switch_ms=0.0, **changes)


def card_10_1() -> Result:
    plain = copied(qemu(893.7 / 8), 0.0, 0.0, 363.5 * UNITS)
    packed = copied(qemu(482.0 / 8, compression_ratio=363.5 / 107.8), 0.0, 0.0, 363.5 * UNITS)
    rows = [near("plain", 3.33, 0.02, plain.total_s), near("compressed", 1.83, 0.02, packed.total_s)]
    return Result(f"{plain.total_s:.2f} s; {packed.total_s:.2f} s", all_met(rows), compared(rows, "seconds"))


def card_10_2() -> Result:
    got = copied(qemu(937.0 / 8), 320.0, 124.0, 116.0)
    rows = [
        near("rounds", 79.0, 0.05, got.rounds), near("total, s", 37.7, 0.05, got.total_s),
        near("downtime, 10 ms", 30.0, 0.05, 100.0 * got.downtime_s), near("sent, 100 MB", 44.0, 0.05, got.sent_mb / 100.0),
    ]  # fmt: skip
    words = f"{got.rounds} rounds, {got.total_s:.1f} s, {got.downtime_s:.2f} s, {got.sent_mb / 1e3:.2f} GB"
    return Result(words, all_met(rows), compared(rows, "figures of one copy"))


def card_10_3() -> Result:
    rows, words = [], []
    for dirty, total_s, downtime_s in ((200.0, 8.7, 0.13), (800.0, 9.8, 0.20), (1200.0, 11.3, 0.30)):
        got = copied(qemu(1100.0), 1024.0 * 1.048576, dirty, 7168.0 * 1.048576)
        rows.append(near(f"{dirty:g} MB/s, s", total_s, 0.05, got.total_s))
        rows.append(near("downtime, 10 ms", 100.0 * downtime_s, 0.05, 100.0 * got.downtime_s))
        words.append(f"{got.total_s:.1f} s, {got.downtime_s:.2f} s")
    return Result("; ".join(words), all_met(rows), compared(rows, "figures of three copies"))


def card_10_4() -> Result:
    vm = (4300.0, 2000.0, 8192.0 * 1.048576 - 4300.0)
    free, throttled = copied(qemu(1100.0), *vm), copied(qemu(1100.0, throttle_most_share=0.99), *vm)
    row = Row("throttle at the end", 0.6, 0.8, 0.7, throttled.throttle)
    words = (
        f"throttle {throttled.throttle:.1f} after {throttled.total_s:.0f} s; without {'done' if free.done else 'never'}"
    )
    return Result(words, row.met and throttled.done and not free.done, compared([row], "throttle"))


FLEET = 2000
FLEET_DIRTY = ((1.0, 5.0), (10.0, 50.0), (50.0, 200.0), (100.0, 400.0), (100.0, 300.0))
"""MB/s of unique pages: idle, web and application, OLTP, key-value store, build; as published, an equal share of the fleet each."""


def fleet() -> np.ndarray:
    """Blackouts in ms of VMs of 2 to 16 GiB, 10 to 40 % of it written, 25 to 100 GbE, 20 to 100 ms of fixed downtime."""
    draw = np.random.Generator(np.random.PCG64(10_5))
    blackouts = np.empty(FLEET)
    for i in range(FLEET):
        low, high = FLEET_DIRTY[i % len(FLEET_DIRTY)]
        size_mb = 1073.741824 * 2.0 ** draw.uniform(1.0, 4.0)
        written = size_mb * draw.uniform(0.1, 0.4)
        rules = dataclasses.replace(qemu(125.0 * draw.choice((25.0, 50.0, 100.0))), switch_ms=draw.uniform(20.0, 100.0))
        blackouts[i] = 1e3 * copied(rules, written, draw.uniform(low, high), size_mb - written).downtime_s
    return blackouts


def card_10_5() -> Result:
    blackouts = fleet()
    median, p99 = np.percentile(blackouts, (50, 99))
    rows = [Row("median", 30.0, 100.0, 50.0, float(median)), Row("P99", 200.0, 500.0, 300.0, float(p99))]
    return Result(f"{median:.0f} ms; {p99:.0f} ms", all_met(rows), compared(rows, "blackout, ms"))


PIN_S_PER_GIB = 1.5 / 8.0
"""Pinning of 8 GB takes about 1.5 s."""


def card_10_6() -> Result:
    pinned = copied(qemu(26e3 / 8, prepare_s_per_gib=PIN_S_PER_GIB), 0.0, 0.0, 8e3)
    dynamic = copied(qemu(9.5e3 / 8), 0.0, 0.0, 8e3)
    rows = [near("pin all", 4.0, 0.2, pinned.total_s), near("dynamic", 7.5, 0.2, dynamic.total_s)]
    return Result(f"{pinned.total_s:.1f} s; {dynamic.total_s:.1f} s", all_met(rows), compared(rows, "seconds"))


CARDS = [
    Card("10.1", "an idle VM of 4 GiB on 1 GbE, plain and compressed", "QEMU's document on compression",
         "363.5 MB of content, 893.7 Mb/s; compressed to 107.8 MB, 482 Mb/s", "3.33 s; 1.83 s", "± 2 %", card_10_1),
    Card("10.2", "the same VM writing random data", "QEMU's document on compression",
         "436 MB of content, 320 of them written at 124 MB/s (fitted to this point), 937 Mb/s, 300 ms",
         "79 rounds, 37.7 s, 0.30 s, 4.4 GB (measured: 37.4 s, 0.337 s, 4.38 GB)", "± 5 %", card_10_2),
    Card("10.3", "8 GiB on 10 GbE at three dirty rates", "self-check of the rounds",
         "1 GiB of it written at 200, 800, 1200 MB/s; 1.1 GB/s, 300 ms", "8.7 s, 0.13 s; 9.8 s, 0.20 s; 11.3 s, 0.30 s",
         "± 5 %", card_10_3),
    Card("10.4", "auto-converge", "QEMU's rule", "8 GiB, 4.3 GB of it written at 2 GB/s, 1.1 GB/s",
         "throttle near 0.7, in about 33 s; without never", "± 0.1", card_10_4),
    Card("10.5", "blackouts of a fleet", "Google's fleet (VEE 2018)",
         f"{FLEET} VMs of 2 to 16 GiB, 10 to 40 % of it written at published rates, 25 to 100 GbE, fixed part 20 to 100 ms; "
         "the mix is an assumption", "median 50 ms; P99 300 ms", "30-100; 200-500 ms", card_10_5),
    Card("10.6", "RDMA, memory pinned before or meanwhile", "QEMU's document on RDMA",
         "8 GB, idle; pinning 1.5 s, then 26 Gb/s; dynamic registration 9.5 Gb/s", "4 s; 7.5 s", "± 20 %", card_10_6),
]  # fmt: skip
