"""From what is known of a VM to what it may need: working set and backed memory at three levels, low, mid and high.

What a history says decides the kind of evidence, and the kind decides how far the levels lie apart:

- guest_used with page cache: ``bounds``. Low 0.3 x used, mid used, high used + cache. Where the guest suffers (`SWAP_MIB_PER_S`,
  `FAULTS_PER_S`) low is used, too: then less was not enough.
- guest_used alone: ``scenario band``. Low 0.3 x used, mid used, high half of the way from used to all of its memory.
- guest_notfree alone: ``cache unknown``. Low 0.3 x, mid 0.6 x, high all of it.
- active (sampled) with or without backed: ``lower bound``. Low its mean of the last hour, mid its largest value of the last hour,
  high what the host backs, or all of its memory. Single samples are no reading: they rise and fall with chance, each rise is played
  as pages that were idle, and so the lowest reading would ask a host for more than the middle one.
- backed alone: ``occupancy only``. Low 0, high all of it with what the host has swapped out; there is no evidence for a middle, and
  half of high takes its place. Where it stays at all of the VM's memory it says nothing (`check`).
- CPU and size alone: ``synthetic memory``, drawn from shares that other fleets use (`USED_SHARES`); by seed, not by level alone.

Backed memory is what the host measured, or else the running maximum of what the guest held, up to all of its memory: a guest that
was given pages seldom gives them back. The factors 0.3, 0.5 and 0.6 are scenario knobs without evidence, as are the middles of
backed memory; so a result counts where it is the same at all three levels.

History was observed under what ruled then: stretches with less granted than configured, or with swapping, are demand that was
cut (`Evidence.censored`). They are flagged and not mended.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hvgym.envs.errors import InputError
from hvgym.envs.fleet.history import Flags, Floats, VmHistory, held

Level = Literal["low", "mid", "high"]

LEVELS: tuple[Level, ...] = ("low", "mid", "high")

USED_AT_LEAST, NOTFREE_LIKELY, BETWEEN = 0.3, 0.6, 0.5
"""Knobs (module docstring)."""

SWAP_MIB_PER_S, FAULTS_PER_S = 1.0, 5.0
"""From here on the guest suffers: KubeVirt's alert on memory pressure (monitoring/rules/alerts/vms.go)."""

PSI_PERCENT = 1.0
"""Share of time in which some task waits, from which on demand counts as cut (a guess; KubeVirt has none)."""

GRANTED_SHARE = 0.98
"""Of configured memory; less is a balloon (2 % for rounding and firmware, a guess)."""

ACTIVE_WINDOW_S = 3600

UNBACKED_SHARES: dict[Level, float] = {"low": 0.6, "mid": 0.8, "high": 1.0}
"""Backed memory of a VM of which active is all that is known, of configured."""

SATURATED_SHARE, SATURATED_RANGE = 0.95, 0.02
"""Backed memory that says nothing: above this share of configured all along, within this range of it (Windows touches all)."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

USED_SHARES: dict[Level, tuple[float, ...]] = {
    "low": (0.007, 0.026, 0.042, 0.086, 0.178),
    "mid": (0.071, 0.096, 0.129, 0.255, 0.448),
    "high": (0.058, 0.26, 0.54, 0.68, 0.88),
}
"""Mean use of a VM's memory at `QUANTILES` of VMs: pages touched lately in GWA-T-12 (2013-8), use of the limit in Google's cluster
of 2011, resident memory in Alibaba's GenTD26. Published traces, computed per VM; other fleets are between or beyond."""

BACKED_SHARES = (0.12, 0.27, 0.57, 0.76, 0.94)
"""Largest resident memory at the same quantiles, GenTD26."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """One VM at one level; MiB ``[slot]``, no NaN: gaps hold the last value.

    working: working set, touched again and again; anonymous: memory that only swap can take, None where that is not known; filled:
    all that the guest holds; backed: host memory behind it; censored: where demand was cut; drawn: shares of configured
    memory by quantile of VMs, for working and filled, in the place of history.
    """

    label: str
    working: Floats
    anonymous: Floats | None
    filled: Floats
    backed: Floats
    censored: Flags
    drawn: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def kind_of(vm: VmHistory) -> str:
    """The label of what is known of a VM. Raises `InputError` where that is nothing."""
    known = vm.columns
    if "guest_used" in known or ("guest_notfree" in known and "guest_cache" in known):
        cache = "guest_cache" in known or "guest_notfree" in known
        return ("bounds, harm observed" if _harms(vm).any() else "bounds") if cache else "scenario band"
    for column, label in (
        ("guest_notfree", "cache unknown"),
        ("active", "lower bound"),
        ("backed", "occupancy only"),
        ("cpu", "synthetic memory"),
    ):
        if column in known:
            return label
    raise InputError(f"VM {vm.name!r}: nothing but its size is known; give a memory column, or leave it out")


def check(vm: VmHistory) -> None:
    """Raise `InputError` for a VM of which nothing can be derived."""
    if kind_of(vm) == "occupancy only" and _saturated(vm):
        raise InputError(
            f"VM {vm.name!r}: the host backs {np.nanmin(vm.columns['backed']) / vm.cap_mib:.0%} of its memory or more all along, "
            "which says nothing of what it uses; record the guest's own figures (a balloon driver with its statistics, or an "
            f"agent), or leave it out: workload.without=[{vm.name}]"
        )


def _saturated(vm: VmHistory) -> bool:
    backed = vm.columns["backed"][vm.present]
    if not np.isfinite(backed).any():
        return False
    least, most = float(np.nanmin(backed)), float(np.nanmax(backed))
    return least > SATURATED_SHARE * vm.cap_mib and most - least < SATURATED_RANGE * vm.cap_mib


def _harms(vm: VmHistory) -> Flags:
    """Where the guest suffers by KubeVirt's limits."""
    found = np.zeros(len(vm.present), np.bool_)
    for column, limit in (("major_faults", FAULTS_PER_S), ("swap_in", SWAP_MIB_PER_S), ("swap_out", SWAP_MIB_PER_S)):
        if column in vm.columns:
            found |= np.nan_to_num(vm.columns[column]) > limit
    return found


def censored(vm: VmHistory) -> Flags:
    """Where the VM had less than it may have wanted: ballooned, swapped, or waiting for memory."""
    found = _harms(vm)
    for column, least in (("host_swapped", 0.0), ("swap_in", 0.0), ("swap_out", 0.0), ("psi", PSI_PERCENT)):
        if column in vm.columns:
            found |= np.nan_to_num(vm.columns[column]) > least
    if "granted" in vm.columns:
        found |= np.nan_to_num(vm.columns["granted"], nan=vm.cap_mib) < GRANTED_SHARE * vm.cap_mib
    return found & vm.present


def evidence(vm: VmHistory, level: Level, slot_s: int) -> Evidence:
    """What a VM needs at a level. Raises `InputError` as `check`."""
    check(vm)
    label, cut = kind_of(vm), censored(vm)
    if label == "synthetic memory":
        return _drawn(vm, level, cut)
    if label.startswith(("bounds", "scenario band")):
        working, anonymous, filled, backed = _of_used(vm, level)
    else:
        working, filled, backed = {
            "cache unknown": _of_notfree, "lower bound": _of_active, "occupancy only": _of_backed,
        }[label](vm, level, slot_s)  # fmt: skip
        anonymous = None
    most = np.minimum(np.maximum(backed, filled), vm.cap_mib)
    filled = np.minimum(filled, most)
    working = np.minimum(working, filled)
    if anonymous is not None:
        anonymous = np.clip(anonymous, working, filled)
    return Evidence(f"{label}, scaled" if vm.scaled else label, working, anonymous, filled, most, cut)


def _column(vm: VmHistory, name: str) -> Floats | None:
    return held(vm.columns[name]) if name in vm.columns else None


def _so_far(values: Floats) -> Floats:
    """The running maximum."""
    return np.asarray(np.maximum.accumulate(values))


def _between(low: Floats, high: Floats | float, level: Level) -> Floats:
    """The low end, the middle (a guess) or the high end."""
    share = {"low": 0.0, "mid": 0.5, "high": 1.0}[level]
    return np.asarray(low + np.float32(share) * (high - low), np.float32)


def _measured(vm: VmHistory) -> Floats | None:
    """Memory that the host backs or has swapped out."""
    backed, swapped = _column(vm, "backed"), _column(vm, "host_swapped")
    return backed if backed is None or swapped is None else backed + swapped


def _of_used(vm: VmHistory, level: Level) -> tuple[Floats, Floats, Floats, Floats]:
    """Working set, anonymous, filled and backed memory of a guest that tells what it uses."""
    used, cache, notfree = (_column(vm, name) for name in ("guest_used", "guest_cache", "guest_notfree"))
    if used is None:
        assert notfree is not None  # `kind_of`
        assert cache is not None
        used = np.maximum(notfree - cache, 0.0)
    if cache is None and notfree is not None:
        cache = np.maximum(notfree - used, 0.0)
    beyond = used + cache if cache is not None else used + np.float32(BETWEEN) * np.maximum(vm.cap_mib - used, 0.0)
    low = np.where(_harms(vm), used, np.float32(USED_AT_LEAST) * used)
    working = {"low": low, "mid": used, "high": np.minimum(beyond, vm.cap_mib)}[level]
    held_mib = notfree if notfree is not None else used + cache if cache is not None else None
    backed = _measured(vm)
    if backed is None:
        known = _so_far(used if held_mib is None else held_mib)
        backed = np.minimum(known, vm.cap_mib) if held_mib is not None else _between(known, vm.cap_mib, level)
    filled = np.minimum(np.maximum(held_mib, working), vm.cap_mib) if held_mib is not None else backed
    return working, used, filled, backed


def _of_notfree(vm: VmHistory, level: Level, slot_s: int) -> tuple[Floats, Floats, Floats]:
    notfree = _column(vm, "guest_notfree")
    assert notfree is not None
    working = np.float32({"low": USED_AT_LEAST, "mid": NOTFREE_LIKELY, "high": 1.0}[level]) * notfree
    backed = _measured(vm)
    return working, notfree, _between(notfree, vm.cap_mib, level) if backed is None else backed


def _of_active(vm: VmHistory, level: Level, slot_s: int) -> tuple[Floats, Floats, Floats]:
    active, backed = _column(vm, "active"), _measured(vm)
    assert active is not None
    if backed is None:
        backed = np.full_like(active, UNBACKED_SHARES[level] * vm.cap_mib)
        highest = np.full_like(active, vm.cap_mib)
    else:
        highest = backed
    slots = max(1, round(ACTIVE_WINDOW_S / slot_s))
    working = {"low": _mean_of_last(active, slots), "mid": _largest_of_last(active, slots), "high": highest}[level]
    return working, np.maximum(backed, working), backed


def _of_backed(vm: VmHistory, level: Level, slot_s: int) -> tuple[Floats, Floats, Floats]:
    backed = _measured(vm)
    assert backed is not None
    return _between(np.zeros_like(backed), backed, level), backed, backed


def _mean_of_last(values: Floats, slots: int) -> Floats:
    """The mean of the last so many slots, this one included; of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    end = np.arange(1, len(values) + 1)
    begin = np.maximum(end - slots, 0)
    return np.asarray((sums[end] - sums[begin]) / (end - begin), np.float32)


def _largest_of_last(values: Floats, slots: int) -> Floats:
    """The largest value of the last so many slots, this one included."""
    padded = np.concatenate([np.full(slots - 1, values[0], np.float32), values])
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, slots).max(axis=1))


def _drawn(vm: VmHistory, level: Level, cut: Flags) -> Evidence:
    """Half-way VMs, until a seed has drawn others."""
    shares = (USED_SHARES[level], BACKED_SHARES)
    working, filled = (np.full(len(cut), share * vm.cap_mib, np.float32) for share in drawn_shares(shares, 0.5))
    return Evidence("synthetic memory", working, None, filled, filled, cut, shares)


def drawn_shares(shares: tuple[tuple[float, ...], tuple[float, ...]], quantile: float) -> tuple[float, float]:
    """Shares of configured memory that the VM at a quantile uses and holds; beyond the outermost ones of the tables, these."""
    used, filled = (float(np.interp(quantile, QUANTILES, table)) for table in shares)
    return used, max(used, filled)
