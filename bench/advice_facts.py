"""What a history says of its own, before anything is played: how often memory would be short, what each VM needs, what is
unknown.

All sums count VMs only while they are there, host by host as they are spread. A host needs its VMs' working sets, the memory of
their processes and its own (the hypervisor's figures). An episode of pressure is a stretch in which that passes its RAM;
stretches less than an hour apart are one.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from hvgym.bench import statistics
from hvgym.bench.advice_case import Case, for_vms_mib
from hvgym.bench.advice_own import OwnFleet
from hvgym.bench.advice_windows import DAY_S
from hvgym.envs.fleet.doubts import at_once_mib, doubts
from hvgym.envs.fleet.evidence import LEVELS, Level
from hvgym.envs.scenario import Scenario

Floats = npt.NDArray[np.float64]

MONTH_H = 720.0

APART_S = 3600

REPLICATES = 2000

SEED = 30
"""Of the resampled days."""


def fixed_mib(case: Case) -> list[float]:
    """What each host needs beside its VMs' memory."""
    return [_fixed(one, case.ram_mib) for one in case.at("mid", case.today)]


def _fixed(scenario: Scenario, ram_mib: float) -> float:
    own_mib = ram_mib - for_vms_mib(scenario, ram_mib)
    return own_mib + sum(scenario.hypervisor.overhead_mib(group) for group in scenario.groups)


def leaving(own: OwnFleet) -> list[str]:
    """VMs that leave, or are switched off, within a window that is played: there they stay behind without demand."""
    present, slots = own.fleets["mid"].present[:, own.columns], own.windows.slots
    windows = np.stack([present[start : start + slots] for start in own.windows.starts])
    leaves = np.flatnonzero((windows[:, :-1] & ~windows[:, 1:]).any(axis=(0, 1)))
    return [own.case.names[index] for index in leaves]


def needed_by_host(own: OwnFleet, level: Level) -> Floats:
    """Working sets, processes and hypervisor, ``[row, host]``, MiB."""
    case, data = own.case, own.fleets[level]
    columns, host_of = own.columns, np.array(case.host_of)
    working = (data.working * data.present)[:, columns].astype(np.float64)
    found = np.stack([working[:, host_of == host].sum(axis=1) for host in range(case.hosts)], axis=1)
    return found + np.array(fixed_mib(case))


def shortage(own: OwnFleet, level: Level) -> dict[str, Any]:
    """How often and by how much her hosts' RAM would not hold what is in use."""
    needed = needed_by_host(own, level)
    short = np.asarray((needed > own.case.ram_mib).any(axis=1))
    beyond = np.asarray((needed > own.case.ram_mib + own.case.swap_mib).any(axis=1))
    most = needed.max(axis=1)
    hours = _hours_a_month(own, short)
    return {
        "hours_in_30_days": hours[0],
        "hours_lo": hours[1],
        "hours_hi": hours[2],
        "beyond_swap_hours_in_30_days": _hours_a_month(own, beyond)[0],
        "episodes": episodes(short, own.history.slot_s),
        "peak_gib": float(most.max()) / 1024,
        "p999_gib": float(np.quantile(most, 0.999)) / 1024,
        "p99_gib": float(np.quantile(most, 0.99)) / 1024,
        "short_gib": max(0.0, float(most.max()) - own.case.ram_mib) / 1024,
    }


def _hours_a_month(own: OwnFleet, when: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Of 30 days, with the interval of resampled days."""
    history = own.history
    day = (history.start_s + np.arange(len(when)) * history.slot_s) // DAY_S
    _, of_day = np.unique(day, return_inverse=True)
    hits, rows = np.bincount(of_day, when), np.bincount(of_day)
    drawn = np.random.default_rng(SEED).integers(len(rows), size=(REPLICATES, len(rows)))
    shares = hits[drawn].sum(axis=1) / rows[drawn].sum(axis=1)
    lo, hi = statistics.interval(shares)
    return float(MONTH_H * when.mean()), MONTH_H * lo, MONTH_H * hi


def episodes(when: npt.NDArray[np.bool_], slot_s: int) -> int:
    """Stretches in which it is so."""
    rows = np.flatnonzero(when)
    return int(len(rows) > 0) + int((np.diff(rows) * slot_s > APART_S).sum())


def at_once(case: Case) -> dict[str, float]:
    """If every VM uses all it has: GiB needed, there, and short, of the host that is worst off."""
    memory, host_of = case.memory_mib, np.array(case.host_of)
    needed = [float(memory[host_of == host].sum()) + fixed for host, fixed in enumerate(fixed_mib(case))]
    worst = max(needed)
    return {
        "needed_gib": sum(needed) / 1024,
        "ram_gib": case.hosts * case.ram_mib / 1024,
        "worst_host_gib": worst / 1024,
        "short_gib": max(0.0, worst - case.ram_mib) / 1024,
        "beyond_swap_gib": max(0.0, worst - case.ram_mib - case.swap_mib) / 1024,
    }


def vm_facts(own: OwnFleet) -> list[dict[str, Any]]:
    """A row a VM: sizes in GiB, the band of what it needs, what is known of it."""
    floors = own.case.floors_mib(own.case.today)
    return [
        _vm(own, name, column, float(floors[row]))
        for row, (name, column) in enumerate(zip(own.case.names, own.columns, strict=True))
    ]


def _vm(own: OwnFleet, name: str, column: int, floor_mib: float) -> dict[str, Any]:
    vm, evidence = own.history.vms[column], own.fleets["mid"].evidence[column]
    there = own.fleets["mid"].present[:, column]
    rows = there if there.any() else np.ones_like(there)

    def quantile(level: Level, share: float) -> float:
        return float(np.quantile(own.fleets[level].working[rows, column].astype(np.float64), share)) / 1024

    return {
        "name": name,
        "group": vm.group,
        "host": own.case.host_of[own.case.names.index(name)] + 1,
        "configured_gib": vm.cap_mib / 1024,
        "floor_mib": floor_mib,
        "median_gib": quantile("mid", 0.5),
        "p99_gib": {level: quantile(level, 0.99) for level in LEVELS},
        "evidence": evidence.label,
        "censored": float(evidence.censored[rows].mean()),
        "idle_backed_gib": _idle_backed(own, column, rows),
    }


def _idle_backed(own: OwnFleet, column: int, rows: npt.NDArray[np.bool_]) -> float | None:
    """Mean memory that the host backs and the guest does not use, where both were measured."""
    columns = own.history.vms[column].columns
    if "backed" not in columns or "guest_used" not in columns:
        return None
    idle = (columns["backed"] - columns["guest_used"])[rows]
    return float(np.nanmean(idle)) / 1024 if np.isfinite(idle).any() else None


def history_facts(own: OwnFleet) -> dict[str, Any]:
    """Length, rows, what is played."""
    history, windows = own.history, own.windows
    start = np.datetime64(history.start_s, "s")
    vms = [history.vms[column] for column in own.columns]
    cpu = sum("cpu" in vm.columns for vm in vms)
    disk = sum("disk_read" in vm.columns or "disk_write" in vm.columns for vm in vms)
    return {
        "first": str(start)[:16],
        "days": history.days,
        "row_s": history.slot_s,
        "vms": len(own.case.names),
        "window_s": windows.slots * history.slot_s,
        "hardest": sum(windows.hard),
        "random": windows.count - sum(windows.hard),
        "windows": windows.blocks,
        "share": windows.share,
        "days_played": len(set(windows.days)),
        "with_cpu": cpu,
        "with_disk": disk,
        "leaving": leaving(own),
        "doubts": doubts(own.history),
        "at_once": at_once_mib(own.history) / sum(vm.cap_mib for vm in own.history.vms),
    }
