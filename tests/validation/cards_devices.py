"""Cards of devices: what exits, copies and address translation cost (9), and who gets how much of a disk or a link (14).

The devices are those of ``conf/nic`` and ``conf/disk`` on a bench whose clock and link are the source's; card 9.1 alone
brings its own cycles per packet. Nothing is fitted to a card.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from card import Card, Result
from cards_host import ACCEPTED, MODEL, OTHER, PUBLISHED, Row, all_met, compared, near

from hvgym.envs.lab import device as lab_device
from hvgym.envs.lab.device import Bench, Device, DeviceModel
from hvgym.envs.model.devices import qos

AMPLE_GBPS = 1000.0


def gbps(device: Device, bench: Bench) -> float:
    """The most that a NIC carries."""
    return 8e-9 * bench.packet_bytes * lab_device.most_per_s(device, bench)


# M9: the path of a request


def lance(cycles: float) -> Device:
    """A NIC whose packet takes so many cycles, all in the vCPU's thread."""
    return Device("nic", DeviceModel("lance", "", "emulated", cycles, 0.0, 0.0, 256.0, backend="vcpu"))


HOSTED = (("unoptimized", 139e3, 64.0, 0.0), ("optimized", 71e3, 98.0, 21.7), ("native", 12.7e3, 98.0, 86.0))
"""Cycles per packet of 1,514 bytes; published Mb/s and % idle."""


def card_9_1() -> Result:
    bench = Bench.packaged(clock_ghz=0.733, link_gbps=0.098, packet_bytes=1514)
    rows = []
    for name, cycles, mbps, idle in HOSTED:
        played = lab_device.play(lance(cycles), bench, 1e9)
        rows.append(near(f"{name}, Mb/s", mbps, 0.1, 8e-6 * 1514 * played.served_per_s))
        rows.append(near(f"{name}, % idle", idle, 0.1, round(100.0 * (1.0 - played.cpus), 9)))
    ours = 1e3 * gbps(Device.load("e1000-hosted"), bench)
    words = "; ".join(f"{a.got:.0f} Mb/s, {b.got:.1f} % idle" for a, b in zip(rows[::2], rows[1::2], strict=True))
    words += f" (`e1000-hosted`, from its parts: {ours:.0f} Mb/s)"
    return Result(words, all_met(rows), compared(rows, "Mb/s; % idle"))


def card_9_2() -> Result:
    kpps = 1e-3 * lab_device.most_per_s(Device.load("e1000"), Bench.packaged())
    rows = [near("e1000", 24.0, 0.3, kpps)]
    return Result(f"{kpps:.1f} kpps", all_met(rows), compared(rows, "thousand packets/s"))


def card_9_3() -> Result:
    device = Device.load("virtio-net")
    segments = {"clock_ghz": 3.0, "link_gbps": AMPLE_GBPS, "packet_bytes": 65536}
    full, most = (gbps(device, Bench.packaged(**segments, backend_share=share)) for share in (1.0, 0.8))
    rows = [near("one core", 25.0, 0.2, full), Row("80 % of a core", 0.8 * 14.5, 1.2 * 20.0, None, most)]
    words = f"{full:.1f} Gb/s; {most:.1f} Gb/s"
    return Result(words, all_met(rows), compared(rows, "Gb/s"))


def card_9_4() -> Result:
    bench = Bench.packaged(clock_ghz=2.93, link_gbps=AMPLE_GBPS)
    with_exits, posted = Device.load("sriov"), Device.load("sriov-posted")
    bare = 1e9 * bench.clock_ghz / with_exits.model.guest_cycles
    shares = [100.0 * lab_device.most_per_s(device, bench) / bare for device in (with_exits, posted)]
    exits = lab_device.play(with_exits, bench, 1e9).exits_per_s
    rows = [Row("exits", 60.0, 70.0, 65.0, shares[0]), Row("posted (ELI)", 92.0, 105.0, None, shares[1])]
    words = f"{shares[0]:.1f} % at {exits / 1e3:.0f} thousand exits/s; {shares[1]:.1f} %"
    return Result(words, all_met(rows), compared(rows, "% of bare metal"))


def card_9_5() -> Result:
    device = Device.load("sriov-posted")
    lines = {
        kind: 10.0 * gbps(device, Bench.packaged(clock_ghz=2.93, link_gbps=10, iommu=kind))
        for kind in ("strict", "deferred", "pinned")
    }
    fast = [Bench.packaged(link_gbps=200, packet_bytes=4096, iommu_page_kib=kib) for kib in (4, 2048)]
    parts = [lab_device.limits(device, bench) for bench in fast]
    lost = [100.0 * max(1.0 - part["iotlb"] / part["link"], 0.0) for part in parts]
    rows = [
        Row("strict", 33.0, 53.0, 43.0, lines["strict"]),
        Row("deferred", 81.0, 101.0, 91.0, lines["deferred"]),
        Row("lost at 200 Gb/s", 10.0, 30.0, 20.0, lost[0]),
        Row("... 2 MiB pages", 0.0, 10.0, 0.0, lost[1]),
    ]
    words = f"strict {lines['strict']:.0f} %, deferred {lines['deferred']:.0f} % (pinned {lines['pinned']:.0f} %); "
    words += f"-{lost[0]:.0f} % (2 MiB pages: -{lost[1]:.0f} %)"
    return Result(words, all_met(rows), compared(rows, "% of line rate"))


IOPS = (2e3, 1e4, 5e4, 1.5e5)


def card_9_6() -> Result:
    bench = Bench.packaged()
    pvscsi, lsi = Device.load("pvscsi"), Device.load("lsilogic")
    ratios = [lab_device.play(pvscsi, bench, load).cpus / lab_device.play(lsi, bench, load).cpus for load in IOPS]
    rows = [Row(f"{load:,.0f} IOPS", 0.7, 0.9, None, ratio) for load, ratio in zip(IOPS, ratios, strict=True)]
    words = " / ".join(f"{ratio:.2f}" for ratio in ratios) + f" at {IOPS[0]:,.0f} to {IOPS[-1]:,.0f} IOPS"
    return Result(words, all_met(rows), compared(rows, "CPU a request, of LSI Logic's"))


# M14: quality of service


def divided(
    capacity: float, weight: Sequence[float], reservation: float = 0.0, limit: Sequence[float] | None = None
) -> list[float]:
    """The fluid, for VMs that want all."""
    count = len(weight)
    given = np.zeros(count)
    most = np.array(limit or [math.inf] * count)
    qos.divide(np.full(count, 1e9), np.full(count, reservation), most, np.array(weight), capacity, given)
    return [float(part) for part in given]


TAG_S, IN_FLIGHT = 60, 4


def tagged(capacity: float, weight: Sequence[float], reservation: float) -> list[float]:
    """The scheduler by tags, for VMs that always have requests waiting; requests per second served to each."""
    scheduler = qos.Mclock([qos.Client(reservation, math.inf, share) for share in weight])
    served = [0] * len(weight)
    for vm in range(len(weight)):
        for _ in range(IN_FLIGHT):
            scheduler.queue(vm, 0.0)
    for request in range(int(TAG_S * capacity)):
        now_s = request / capacity
        vm = scheduler.serve(now_s)
        if vm is not None:
            served[vm] += 1
            scheduler.queue(vm, now_s)
    return [count / TAG_S for count in served]


MCLOCK = {1000.0: (667.0, 333.0), 600.0: (350.0, 250.0), 400.0: (200.0, 200.0)}


def card_14_1() -> Result:
    rows, tags = [], []
    for capacity, published in MCLOCK.items():
        fluid, by_tags = divided(capacity, (2.0, 1.0), 250.0), tagged(capacity, (2.0, 1.0), 250.0)
        tags += by_tags
        rows += [near(f"VM {i + 1} of {capacity:,.0f}", published[i], 0.03, fluid[i]) for i in range(2)]
    checked = [row._replace(got=got) for row, got in zip(rows, tags, strict=True)]
    words = "; ".join(f"{a.got:.0f} : {b.got:.0f}" for a, b in zip(rows[::2], rows[1::2], strict=True))
    words += " (by tags " + "; ".join(f"{a:.0f} : {b:.0f}" for a, b in zip(tags[::2], tags[1::2], strict=True)) + ")"
    return Result(words, all_met(rows) and all_met(checked), compared(rows, "IOPS", tags, "model, by tags"))


SHARES, PERIODS = (2000.0, 1000.0), 15
FAST_IOPS, SLOW_IOPS, IDLE_S = 10_000.0, 1000.0, 0.005


def windows(per_s: float) -> tuple[list[float], list[float]]:
    """Ratio of the throughputs of two hosts, and latency in ms, each period of 4 s; both begin with full windows."""
    window = [qos.WINDOW_MOST] * 2
    ratios, latencies = [], []
    for _ in range(PERIODS):
        latency_s = qos.datastore_latency_s(sum(window), per_s, IDLE_S)
        ratios.append(window[0] / window[1])
        latencies.append(1e3 * latency_s)
        window = [
            qos.next_window(have, latency_s, qos.SIOC_THRESHOLD_S, qos.SIOC_GAIN, qos.BETA_PER_SHARE * shares)
            for have, shares in zip(window, SHARES, strict=True)
        ]
    return ratios, latencies


def card_14_2() -> Result:
    (below, quiet), (above, busy) = windows(FAST_IOPS), windows(SLOW_IOPS)
    reached = next((i for i, ratio in enumerate(above) if ratio >= 1.8), PERIODS)
    met = max(below) <= 1.1 and max(quiet) < 30.0 < min(busy) and reached <= 5 and 1.8 <= above[-1] <= 2.2

    def plot(axes: Any) -> None:
        seconds = [qos.SIOC_PERIOD_S * i for i in range(PERIODS)]
        axes.axhspan(1.8, 2.2, color=ACCEPTED, label="accepted", zorder=0)
        axes.axhline(2.0, color=PUBLISHED, linewidth=1.0, label="published: ratio of shares")
        axes.plot(seconds, above, "o-", color=MODEL, markersize=3, label=f"latency from {busy[0]:.0f} ms")
        axes.plot(seconds, below, "o-", color=OTHER, markersize=3, label=f"latency {quiet[0]:.0f} ms")
        axes.set_xlabel("seconds")
        axes.set_ylabel("throughput of host 1 / host 2")
        axes.set_ylim(0.8, 3.0)
        axes.legend(loc="upper right", ncols=2)

    words = (
        f"{below[-1]:.2f} at {quiet[-1]:.0f} ms; {above[-1]:.2f} from {busy[0]:.0f} ms (1.8 after {reached} periods)"
    )
    return Result(words, met, plot)


def card_14_3() -> Result:
    shares = (100.0, 50.0, 50.0)
    busy, limited = divided(10.0, shares), divided(10.0, shares, limit=(2.0, math.inf, math.inf))
    rows = [near(f"{best:g} of 10", best, 0.02, got) for best, got in zip((5.0, 2.5, 2.5), busy, strict=True)]
    rows += [near(f"{best:g}, limit 2", best, 0.02, got) for best, got in zip((2.0, 4.0, 4.0), limited, strict=True)]
    words = "; ".join(" / ".join(f"{part:.2f}" for part in parts) for parts in (busy, limited)) + " Gb/s"
    return Result(words, all_met(rows), compared(rows, "Gb/s"))


CARDS = (
    Card(
        "9.1",
        "A NIC under a hosted hypervisor",
        "M9; Sugerman et al., USENIX ATC 2001",
        "733 MHz, 98 Mb/s, packets of 1,514 bytes; 139,000 cycles each unoptimized, 71,000 optimized, 12,700 native. The cycles "
        "were computed from the same measurements, so this checks the formulas only",
        "64 Mb/s and CPU bound; link rate with 21.7 % idle; link rate with 86 % idle",
        "± 10 %",
        card_9_1,
    ),
    Card(
        "9.2",
        "A fully emulated NIC",
        "M9; exits by a log of a Linux port to KVM; Rizzo et al., ANCS 2013 (recalled)",
        "`e1000` at 2.7 GHz: 4.5 exits of 25,000 cycles a packet, stack and emulation",
        "24 thousand packets/s (literature 20-24)",
        "± 30 %",
        card_9_2,
    ),
    Card(
        "9.3",
        "A thread of the VMM that moves large segments",
        "M9; Firecracker's specification",
        "`virtio-net` at 3 GHz, segments of 64 KiB, ample link. The cost of a byte is derived from the first figure",
        "25 Gb/s on one core; 14.5-20 Gb/s on 80 % of it",
        "± 20 %",
        card_9_3,
    ),
    Card(
        "9.4",
        "Exits of an assigned NIC",
        "M9; ELI, ASPLOS 2012 (rates recalled)",
        "`sriov` and `sriov-posted` at 2.93 GHz, CPU bound: ample link",
        "100 thousand exits/s leave 65 % of bare metal; ELI 97-100 %",
        "± 5 points",
        card_9_4,
    ),
    Card(
        "9.5",
        "What the IOMMU leaves of a link",
        "M9; vIOMMU, USENIX ATC 2011; KTH, PeerJ CS 2023",
        "`sriov-posted` at 2.93 GHz on 10 Gb/s, packets of 1,500 bytes in two segments (a guess), the guest maps each; then what "
        "the IOTLB allows at 200 Gb/s",
        "strict 43 % of the line, deferred 91 %; 200 Gb/s with 4 KiB buffers -20 %, recovered by huge pages",
        "± 10 points",
        card_9_5,
    ),
    Card(
        "9.6",
        "A paravirtual SCSI adapter against an emulated one",
        "M9; VMware, PVSCSI, 2010",
        "`pvscsi` and `lsilogic` at equal loads",
        "CPU a request 0.70-0.90",
        "in range",
        card_9_6,
    ),
    Card(
        "14.1",
        "Reservations and shares of a disk",
        "M14; mClock, OSDI 2010",
        "two VMs that always want more, 250 IOPS reserved for each, weights 2 : 1; capacity 1,000, 600 and 400 IOPS",
        "667 : 333; 350 : 250; 200 : 200",
        "± 3 %, fluid and tags",
        card_14_1,
    ),
    Card(
        "14.2",
        "Shares count above a latency",
        "M14; Storage I/O Control; Gulati et al., FAST 2009",
        "two hosts with shares of 2 : 1 and 64 requests in flight each on a datastore of 10,000 or 1,000 IOPS; threshold 30 ms, "
        "4 per 1,000 shares and period (a guess)",
        "below the threshold shares have no effect; above it throughput tends to their ratio within a few periods of 4 s",
        "± 10 %; at most 5 periods",
        card_14_2,
        unmet="Shares have no effect below the threshold, and above it the ratio of 2 is reached, but passes 1.8 after 8 periods, "
        "not 5. How fast it goes depends on what a period adds per share, which no source gives; 8 per 1,000 shares and period "
        "would do, at 54 ms instead of 42. The guess was not changed for the card.",
    ),
    Card(
        "14.3",
        "Shares and limits of a link",
        "M14; Network I/O Control (recalled)",
        "10 Gb/s, shares 100 / 50 / 50, all busy; then 2 Gb/s as the limit of the first",
        "5 / 2.5 / 2.5 Gb/s; 2 / 4 / 4 Gb/s",
        "± 2 %",
        card_14_3,
    ),
)
