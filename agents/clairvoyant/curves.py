"""How fast a VM can work at best with so much host RAM: the curves of which ``bound`` takes the best division.

An episode of one host is cut into pieces of time in which nothing changes, finely where something fades. For each piece and
VM a curve is a list of points (RAM, progress). The first has every page in the cheapest of places; from one to the next the
pages whose absence costs most per MiB come to RAM. Nothing queues, nothing is touched twice in a second, and reads are
ahead as far as they can be; why this is the least is said in ``bound``.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from hvgym.envs.model.devices import emulation, io
from hvgym.envs.model.host import cpu, sharing
from hvgym.envs.model.host import swap_devices as devices
from hvgym.envs.model.params import PAGES_PER_MIB, TIERS, WARM
from hvgym.envs.telemetry import HiddenState

Place = tuple[float, float]
"""Where a page may be: RAM that it takes there, and seconds that a touch of it stalls the VM."""

FADE = 1.4
"""Pieces grow by this factor from the start, and from where a late VM is up, so that what decays is followed."""


@dataclass(frozen=True)
class Pieces:
    """One host's episode: its VMs, its demand by slot, and when pieces end; asked: the VM has asked to run, ``[piece, vm]``."""

    specs: np.ndarray
    vms: np.ndarray
    spec: np.void
    host: np.void
    demand: np.ndarray
    end_s: np.ndarray
    length_s: np.ndarray
    slot: np.ndarray
    late: np.ndarray
    up_s: np.ndarray
    asked: np.ndarray

    @property
    def wanted_mib(self) -> np.ndarray:
        """Size of each workload, ``[piece, vm]``."""
        wanted: np.ndarray = self.demand["tier_mib"][self.slot].sum(axis=2)
        return wanted


@dataclass(frozen=True)
class Curves:
    """Points of every VM, ``[piece, vm, point]``, the last of them with all pages in RAM that can be."""

    ram_mib: np.ndarray
    progress: np.ndarray


def down_s(specs: np.ndarray) -> np.ndarray:
    """Seconds that a VM loses while it restarts; in the last of them it works already (``tick._prepare``)."""
    lost: np.ndarray = np.maximum(np.ceil(specs["restart_s"]) - 1.0, 0.0)
    return lost


def cut(hidden: HiddenState, lane: int, seconds: int) -> Pieces:
    """The episode of the host of one lane. A late VM asks from the tick on that counts down to its arrival, and boots."""
    specs, demand = hidden.vm_specs[lane], hidden.demand[lane]
    first_s = np.maximum(np.ceil(specs["arrive_s"]) - 1.0, 0.0)
    late, up_s = (specs["arrive_s"] > 0.0) | (specs["starts_small"] > 0.0), first_s + down_s(specs)
    fades = np.rint(FADE ** np.arange(math.log(seconds + 1.0, FADE)))
    cuts = [np.arange(0, seconds, hidden.slot_s), fades, first_s, up_s, *(fades + up for up in np.unique(up_s[late]))]
    starts = np.unique(np.concatenate(cuts))
    starts = starts[starts < seconds]
    return Pieces(
        specs, hidden.vms[lane], hidden.host_specs[lane, 0], hidden.hosts[lane, 0], demand,
        end_s=np.append(starts[1:], seconds), length_s=np.diff(starts, append=seconds),
        slot=np.minimum(starts // hidden.slot_s, len(demand) - 1).astype(int),
        late=late, up_s=up_s, asked=starts[:, None] >= first_s,
    )  # fmt: skip


def speeds(pieces: Pieces) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds that a second's work takes at least, pCPUs that it wants at least, highest progress, each ``[piece, vm]``."""
    spec, demand = pieces.specs, pieces.demand[pieces.slot]
    large = np.where(pieces.late, 1.0, pieces.vms["large_share"])
    small = (1.0 - large) * (1.0 - sharing.COLLAPSE_PER_S) ** pieces.end_s[:, None]
    walks = spec["walk_tax_large"] + small * (spec["walk_tax_small"] - spec["walk_tax_large"])
    taxes = (1.0 + spec["exit_tax"]) * (1.0 + np.minimum(walks, spec["walk_tax_small"]))
    disk, net = demand["disk_mib_per_s"], demand["net_mib_per_s"]
    exits, limit = _in_devices(spec["disk"], disk * io.REQUESTS_PER_MIB, disk)
    in_nic, limit_of_nic = _in_devices(spec["nic"], net * spec["packets_per_mib"], net)
    exits, limit = exits + in_nic, np.minimum(limit, limit_of_nic)
    work_s = (1.0 - spec["slack"]) * taxes + exits / spec["vcpus"]
    pcpus = np.minimum(demand["cpu_share"] * spec["vcpus"] * taxes + exits, spec["vcpus"])
    granted = np.minimum(1.0, spec["cpu_limit"] / np.maximum(pcpus, 1e-12))
    return work_s, pcpus, np.minimum(limit, granted / work_s)


def _in_devices(device: np.ndarray, per_s: np.ndarray, mib_per_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CPU time of the vCPU that the application's own requests take, and the progress at which a thread of the device is
    full; each ``[piece, vm]``. Paging only adds to both (``virtual_devices``)."""
    batches = np.vectorize(emulation.used_cpu, otypes=[float])
    with np.errstate(divide="ignore", invalid="ignore"):  # compiled code may divide ahead of the test of a zero
        used = batches(per_s, device["request_s"], device["notice_s"], device["window_s"], device["batch_most"])
    used += mib_per_s * device["request_s_per_mib"]
    backend = per_s * device["backend_s"] + mib_per_s * device["backend_s_per_mib"]
    full = np.maximum.reduce([used + per_s * device["guest_s"], backend, mib_per_s / device["iotlb_mib_per_s"]])
    return used, np.minimum(1.0, 1.0 / np.maximum(full, 1e-12))


def outside_mib(pieces: Pieces) -> np.ndarray:
    """Pages that have been out of RAM since the start, at the end of a piece at the least, ``[piece, vm, tier]``.

    Only as long as the demand of their kind stays as it was; and a host's page cache may read them unseen.
    """
    out = pieces.vms["host_swapped_mib"] + pieces.vms["allocated_mib"] - pieces.vms["resident_mib"]
    wanted, is_file = pieces.demand["tier_mib"], pieces.specs["tier_is_file"] > 0.0
    moves = np.abs(np.diff(wanted, axis=0, prepend=pieces.vms["allocated_mib"][None])) > 1e-6
    alike = np.stack([(moves & (is_file == is_file[:, [k]])).any(axis=2) for k in range(TIERS)], axis=2)
    still = ~np.logical_or.accumulate(alike, axis=0)[pieces.slot]
    left = out * np.exp(-pieces.specs["tier_rate_per_s"] * pieces.end_s[:, None, None])
    return np.where(still & (pieces.spec["cache_weight"] == 0.0), left, 0.0)


def curves(pieces: Pieces, outside: np.ndarray) -> Curves:
    """The curves of all VMs, when at least `outside` of their pages, ``[piece, vm, tier]``, are not in RAM."""
    work_s, _, top = speeds(pieces)
    each = [_curve(pieces, v, outside[:, v], work_s[:, v], top[:, v]) for v in range(len(pieces.specs))]
    points = max(ram.shape[1] for ram, _ in each)
    ram, progress = (
        np.stack([np.pad(one[i], ((0, 0), (0, points - one[i].shape[1])), mode="edge") for one in each], axis=1)
        for i in (0, 1)
    )
    runs_in = np.where(pieces.late, pieces.specs["kernel_mib"] + pieces.specs["overhead_mib"], 0.0)
    return Curves(ram + runs_in[None, :, None], progress)


def _curve(
    pieces: Pieces, v: int, outside: np.ndarray, work_s: np.ndarray, top: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points of one VM, ``[piece, point]`` each; the first is where a stall begins to show that slack has hidden."""
    spec = pieces.specs[v]
    sizes = pieces.demand["tier_mib"][pieces.slot, v] - outside
    touched = spec["tier_touched_share"] * PAGES_PER_MIB
    found = [places(spec, pieces.spec, k) for k in range(TIERS)]
    hulls = [lower_hull(tier) for tier in found]
    ram = [(sizes * [hull[0][0] for hull in hulls]).sum(axis=1)]
    stall = [(sizes * touched * [hull[0][1] for hull in hulls]).sum(axis=1)]
    stall[0] = stall[0] + (outside * touched * [_least_stall(spec, tier) for tier in found]).sum(axis=1)
    for _, k, mib, saved_s in _steps(hulls, touched):
        ram.append(ram[-1] + mib * sizes[:, k])
        stall.append(np.maximum(stall[-1] - saved_s * sizes[:, k], 0.0))
    rams, stalls = np.stack(ram, axis=1), np.stack(stall, axis=1)
    hidden_s = 1.0 / top - work_s
    corner = np.array([np.interp(-h, -s, m) for h, s, m in zip(hidden_s, stalls, rams, strict=True)])
    stalls = np.column_stack([np.maximum(hidden_s, stalls[:, -1]), stalls])
    return np.column_stack([corner, rams]), np.minimum(top[:, None], 1.0 / (work_s[:, None] + stalls))


def _steps(hulls: list[list[Place]], touched: np.ndarray) -> list[tuple[float, int, float, float]]:
    """Moves towards RAM, the most worthwhile first: stall saved per MiB of RAM, tier, RAM and stall saved per MiB of pages."""
    steps = [
        ((s - t) / (n - m) * touched[k], k, n - m, (s - t) * touched[k])
        for k, hull in enumerate(hulls)
        for (m, s), (n, t) in itertools.pairwise(hull)
    ]
    return sorted(steps, reverse=True)


def places(spec: np.void, host: np.void, k: int) -> list[Place]:
    """Where a page of tier k of a VM can be; RAM is the first."""
    faults, disk = spec["fault_parallelism"], spec["disk"]
    alone_s = disk["notice_s"] * (disk["batch_most"] == 1.0)  # a batch may take one more for nothing
    exits = (disk["request_s"] + alone_s + disk["request_s_per_mib"] / PAGES_PER_MIB) / spec["vcpus"]
    exit_s = spec["exit_tax"] / cpu.EXITS_PER_CPU_S / spec["vcpus"]
    is_file = spec["tier_is_file"][k] > 0.0
    found: list[Place] = [(1.0, 0.0)]
    if not is_file and spec["guest_swap_mib"] > 0.0 and spec["zram_stored_share"] > 0.0:
        found.append((spec["zram_stored_share"], spec["zram_fault_s"] / faults))
    elif is_file or spec["guest_swap_mib"] > 0.0:
        wait_s = (host["disk_latency_s"] - io.SOLVED / host["disk_iops"]) / faults + exits
        ahead = spec["sequential_share"] * (1.0 - 1.0 / io.FILE_READ_AHEAD_PAGES) if is_file else 0.0
        found.append((0.0, (1.0 - ahead) * wait_s + ahead / (PAGES_PER_MIB * host["disk_mib_per_s"] * faults)))
    if host["swaps"] > 0.0 and host["swap_mib"] > 0.0 and spec["committed"] == 0.0:
        wait_s = (host["swap_latency_s"] - io.SOLVED / host["swap_iops"]) / faults + exit_s
        pages = 1.0 + spec["sequential_share"] * (devices.READ_AHEAD_PAGES - 1.0)
        fetch_s = (1.0 - 1.0 / pages) / (PAGES_PER_MIB * host["swap_mib_per_s"] * faults)
        found.append((host["swap_stored_share"], min(wait_s, wait_s / pages + fetch_s)))
    if spec["jvm"]["present"] > 0.0 and k == WARM:
        found.append((0.0, 0.0))  # a heap may shrink
    return found


def stored_mib(pieces: Pieces) -> np.ndarray:
    """RAM that all pages may take outside RAM, in swap that is kept there, ``[piece]``."""
    share = [
        [max((m for m, _ in places(s, pieces.spec, k)[1:]), default=0.0) for k in range(TIERS)] for s in pieces.specs
    ]
    stored: np.ndarray = (pieces.demand["tier_mib"][pieces.slot] * np.array(share)).sum(axis=(1, 2))
    return stored


def _least_stall(spec: np.void, found: list[Place]) -> float:
    """The least that a touch outside RAM stalls, when the host may have compressed the page."""
    least = min((stall for _, stall in found[1:]), default=0.0)
    return float(least * (1.0 - spec["compressible_share"] * (spec["zip_cap_mib"] > 0.0)))


def lower_hull(found: list[Place]) -> list[Place]:
    """The places that are best for some price of RAM, by RAM."""
    hull: list[Place] = []
    for place in sorted(found):
        if hull and place[1] >= hull[-1][1]:
            continue
        while len(hull) > 1 and _is_above(hull[-2], hull[-1], place):
            hull.pop()
        hull.append(place)
    return hull


def _is_above(left: Place, middle: Place, right: Place) -> bool:
    """Whether the middle point lies on or above the chord of the others."""
    return (middle[1] - left[1]) * (right[0] - left[0]) >= (right[1] - left[1]) * (middle[0] - left[0])
