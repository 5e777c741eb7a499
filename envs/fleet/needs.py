"""What the VMs of a history need at one level, side by side, and which of them are one application."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvgym.envs.errors import InputError
from hvgym.envs.fleet.evidence import Evidence, Level, evidence
from hvgym.envs.fleet.history import Flags, Floats, History, VmHistory, held, read_history, stamp


@dataclass(frozen=True, eq=False)
class Fleet:
    """A history at one level, side by side: ``[row, vm]`` float32, MiB, MiB/s, shares of vCPUs (NaN: not known); ratios: largest
    working set over its mean, NaN where the source does not say; present, unknown bool ``[row, vm]``."""

    history: History
    evidence: tuple[Evidence, ...]
    working: Floats
    anonymous: Floats
    filled: Floats
    cpu: Floats
    disk: Floats
    net: Floats
    ratios: Floats
    present: Flags
    unknown: Flags

    @property
    def touched_share(self) -> float:
        """Of the memory that the guests do not hold, what the host backs all the same; the median of all rows."""
        backed = np.stack([one.backed for one in self.evidence], axis=1)
        caps = np.array([vm.cap_mib for vm in self.history.vms], np.float32)
        free = ((caps - self.filled) * self.present).sum(axis=1, dtype=np.float64)
        behind = ((backed - self.filled) * self.present).sum(axis=1, dtype=np.float64)
        shares = behind[free > 0.0] / free[free > 0.0]
        return float(np.clip(np.median(shares), 0.0, 1.0)) if len(shares) else 1.0


def fleet(folder: str, level: Level) -> Fleet:
    """The VMs of a table at a level, once per process and content."""
    return _fleet(folder, level, stamp(Path(folder)))


@functools.lru_cache(maxsize=4)
def _fleet(folder: str, level: Level, content: tuple[tuple[str, int, int], ...]) -> Fleet:
    history = read_history(folder)
    found = tuple(_evidence(vm, level, history) for vm in history.vms)
    missing = np.full(history.slots, np.nan, np.float32)

    def stacked(columns: list[Floats | None]) -> Floats:
        return np.stack([missing if one is None else one for one in columns], axis=1)

    vms = history.vms
    return Fleet(
        history,
        found,
        stacked([one.working for one in found]),
        stacked([one.anonymous for one in found]),
        stacked([one.filled for one in found]),
        stacked([_cpu_share(vm) for vm in vms]),
        stacked([_sum(vm, "disk_read", "disk_write") for vm in vms]),
        stacked([_sum(vm, "net_rx", "net_tx") for vm in vms]),
        stacked([_ratios(vm) for vm in vms]),
        np.stack([vm.present for vm in vms], axis=1),
        np.stack([vm.present & ~vm.known for vm in vms], axis=1),
    )


def _evidence(vm: VmHistory, level: Level, history: History) -> Evidence:
    try:
        return evidence(vm, level, history.slot_s)
    except InputError as error:
        raise InputError(f"{history.folder}: {error}") from None


def _cpu_share(vm: VmHistory) -> Floats | None:
    if "cpu" not in vm.columns or not vm.vcpus:
        return None
    return np.clip(held(vm.columns["cpu"]) / np.float32(vm.vcpus), 0.0, 1.0)


def _sum(vm: VmHistory, *names: str) -> Floats | None:
    known = [held(vm.columns[name]) for name in names if name in vm.columns]
    return np.sum(known, axis=0, dtype=np.float32) if known else None


def _ratios(vm: VmHistory) -> Floats | None:
    """Of the column that the working set follows."""
    for name in ("guest_used", "guest_notfree", "active", "backed"):
        if name in vm.columns:
            if name not in vm.peaks:
                return None
            mean = vm.columns[name]
            return np.where(mean > 0.0, vm.peaks[name] / np.where(mean > 0.0, mean, 1.0), np.nan).astype(np.float32)
    return None


def groups_of(history: History) -> tuple[int, ...]:
    """A number for each VM, the same for those of one application."""
    return _groups_of(history)


@functools.lru_cache(maxsize=4)
def _groups_of(history: History) -> tuple[int, ...]:
    from hvgym.envs.traces.bitbrains import correlated

    names = [vm.group for vm in history.vms]
    if any(names):
        return tuple(
            next(i for i, other in enumerate(names) if other == name) if name else i for i, name in enumerate(names)
        )
    used = np.stack([np.nan_to_num(held(_used(vm))) for vm in history.vms]).astype(np.float64)
    return tuple(correlated(used, max(1, round(3600 / history.slot_s))))


def _used(vm: VmHistory) -> Floats:
    """Whatever says how its use of memory changes."""
    for name in ("guest_used", "guest_notfree", "active", "backed", "cpu"):
        if name in vm.columns:
            return vm.columns[name]
    return np.zeros(len(vm.present), np.float32)
