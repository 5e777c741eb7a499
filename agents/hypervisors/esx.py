"""VMware ESX Server: shares, a tax on idle memory, min-funding revocation, and balloons that carry it out.

Each VM pays for its memory with its shares; idle pages cost k = 1 / (1 - tax) times as much as active ones. Memory is
taken from the VM that pays least per page and given to the one that pays most, until all pay the same or are at their
bounds (`divide`). What is active comes from sampled pages, smoothed so that it rises fast and falls slowly
(`Activity`). Balloons take memory only in the states below *high*; those follow from the host's free memory, with
hysteresis. Balloons move when a VM comes or goes, when the state changes, and every 15 s.

Sees the host and sampled activity, never inside a guest. Fails when: touching a page is not needing it (scans, zeroing
count), a thrashing guest looks no more active than its memory allows, memory fills faster than balloons, a guest that
hardly runs is hardly sampled, a guest has no swap to make room for its balloon.

Declared here, for the paper is silent. *Active pages* are held fixed while memory is divided, so what a VM loses is idle
first. A VM not yet sampled counts as fully active. A VM claims what it holds and what was taken from it, by balloon or
swap, but nothing that it has never touched: that is not allocated yet. Shares are telemetry's times size, as VMware's
default of so many per MiB; without `shares_by_size` they are telemetry's alone, which is kinder to small VMs. Balloons
go on in hard and low beside paging; paging itself, and the blocking of VMs in low, are the hypervisor's last resort and
belong to the model. A host with page cache counts it as free; ESX has none. Gains of the averages and the width of the
hysteresis are guesses.

Edge cases. Guests report nothing to it, so statistics that are missing, frozen or Windows' change nothing. Start: a
VM counts as fully active until it has been sampled, and memory that it has not touched is not allocated. A VM without
a reservation has none; without shares it has normal ones. A limit is the most that it may claim.

Sources: Waldspurger, OSDI 2002, sections 5 and 6 (tax 75 %, 100 pages a period of 30 s of VM time, largest of three
averages, states at 6, 4, 2 and 1 % free); VMware's resource management guides (Mem.BalancePeriod 15 s, Mem.CtlMaxPercent
65; 20, 10 or 5 shares per MiB at high, normal and low priority).
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.readings import least_mib, limit_mib, shares_of
from hvgym.envs.errors import InputError
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

HIGH, SOFT, HARD, LOW = range(4)
"""States of the host's memory."""

STATE_SHARES = (0.06, 0.04, 0.02, 0.01)
"""Free memory of the host at which high, soft, hard and low begin."""


@dataclass(frozen=True)
class Claim:
    """What a VM brings to the division of memory: shares, MiB that are active, and the least and most it may hold."""

    shares: float
    active_mib: float
    low_mib: float
    high_mib: float


@dataclass(frozen=True)
class SampledVm:
    """One VM as the hypervisor sees it. held_mib: host RAM behind its guest, at most limit_mib; swapped_mib: what the host has
    paged out of it.
    """

    shares: float
    memory_mib: float
    min_mib: float
    size_mib: float
    held_mib: float
    swapped_mib: float
    active_share: float
    limit_mib: float = math.inf


@dataclass(frozen=True)
class Activity:
    """Averages of a VM's sampled share of touched pages, over periods that have ended."""

    slow: float
    fast: float


def sampled(past: Activity | None, share: float, slow_gain: float, fast_gain: float) -> Activity:
    """The averages after one more period; the first period begins them."""
    if past is None:
        return Activity(share, share)
    return Activity(past.slow + slow_gain * (share - past.slow), past.fast + fast_gain * (share - past.fast))


def active_share(past: Activity | None, now_share: float, fast_gain: float) -> float:
    """Largest of three averages: slow, fast, and fast with the unfinished period. 1 before the first period has ended."""
    if past is None:
        return 1.0
    return max(past.slow, past.fast, past.fast + fast_gain * (now_share - past.fast))


def taxed_pages(pages: float | np.ndarray, active: float | np.ndarray, idle_tax: float) -> Any:
    """What `pages` cost when `active` of them are in use: an idle page costs as much as 1 / (1 - tax) active ones.

    Of one VM, or of each ``[vm]``.
    """
    used = np.minimum(active, pages)
    return used + (pages - used) / (1.0 - idle_tax)


def shares_per_page(shares: float, pages: float, used_share: float, idle_tax: float) -> float:
    """The paper's rho, the price that a VM pays per page; the VM that pays least is the victim."""
    return float(shares / taxed_pages(pages, used_share * pages, idle_tax))


def affordable_mib(claims: np.ndarray, mib_per_share: np.ndarray | float, idle_tax: float) -> np.ndarray:
    """Memory at which each VM pays 1 / `mib_per_share`, within its bounds: active pages first, taxed ones after.

    claims: a row for each field of `Claim`, ``[field, vm]``; prices ``[price, 1]`` or one give ``[price, vm]`` or ``[vm]``.
    """
    shares, active, low, high = claims
    paid = shares * mib_per_share
    idle = np.maximum(paid - active, 0.0)
    return np.asarray(np.minimum(np.maximum(paid - idle_tax * idle, low), high))


def divide(claims: Sequence[Claim], capacity_mib: float, idle_tax: float) -> list[float]:
    """The end of min-funding revocation: every VM at one price or at a bound, `capacity_mib` used up.

    All get their least when that does not fit, and their most when it does.
    """
    if not claims or math.fsum(claim.high_mib for claim in claims) <= capacity_mib:
        return [claim.high_mib for claim in claims]
    rows = np.array([(claim.shares, claim.active_mib, claim.low_mib, claim.high_mib) for claim in claims]).T
    bends = [0.0, *_bends(rows[:, rows[0] > 0.0], idle_tax)]
    afforded = dict(zip(bends, affordable_mib(rows, np.array(bends)[:, None], idle_tax).tolist(), strict=True))
    level = level_at(capacity_mib, lambda bend: math.fsum(afforded[bend]), bends)
    found: list[float] = affordable_mib(rows, level, idle_tax).tolist()
    return found


def level_at(capacity: float, total: Callable[[float], float], bends: Iterable[float]) -> float:
    """Level from 0 to the last bend at which `total`, a rising line with these bends, reaches `capacity` (or comes nearest).

    The bend is sought before which it fits, and the line followed from there.
    """
    levels = sorted([0.0, *bends])
    after = bisect_right(levels, capacity, key=total)
    if after in (0, len(levels)):
        return levels[min(after, len(levels) - 1)]
    low, high = levels[after - 1], levels[after]
    return low + (high - low) * (capacity - total(low)) / (total(high) - total(low))


def _bends(claims: np.ndarray, idle_tax: float) -> list[float]:
    """Where the line of what each VM can afford bends, in MiB per share: at its active pages and at its bounds; claims as in
    `affordable_mib`."""
    shares, active, *bounds = claims
    taxed = [taxed_pages(mib, active, idle_tax) for mib in bounds]
    found: list[float] = (np.concatenate([active, *taxed]) / np.tile(shares, 3)).tolist()
    return found


def next_state(state: int, free_mib: float, begins_mib: Sequence[float], ends_mib: Sequence[float]) -> int:
    """State i + 1 begins when free memory falls below ``begins_mib[i]`` and ends when it rises above ``ends_mib[i]``."""
    while state > 0 and free_mib > ends_mib[state - 1]:
        state -= 1
    return max(state, sum(free_mib < threshold for threshold in begins_mib))


def claim_of(vm: SampledVm) -> Claim:
    """At most what the VM holds and what was taken from it, or its limit; at least its reservation of that."""
    most = min(vm.held_mib + vm.swapped_mib + vm.memory_mib - vm.size_mib, vm.memory_mib, vm.limit_mib)
    return Claim(vm.shares, vm.active_share * vm.memory_mib, min(vm.min_mib, most), most)


def plan(
    vms: Sequence[SampledVm], spare_mib: float, idle_tax: float, cap_share: float, shrinks: bool = True
) -> list[float]:
    """Size that each VM's balloon should leave, when `spare_mib` is free beyond the goal (negative: short of it).

    A balloon moves by what the VM holds above or below its target, and takes at most `cap_share` of the VM.
    """
    if not shrinks and all(vm.size_mib >= vm.memory_mib for vm in vms):
        return [vm.memory_mib for vm in vms]  # every balloon is empty
    capacity_mib = math.fsum(vm.held_mib for vm in vms) + spare_mib
    targets = divide([claim_of(vm) for vm in vms], capacity_mib, idle_tax)
    sizes = []
    for vm, target in zip(vms, targets, strict=True):
        change = target - vm.held_mib
        size = vm.size_mib + (change if shrinks else max(change, 0.0))
        sizes.append(min(max(size, (1.0 - cap_share) * vm.memory_mib), vm.memory_mib))
    return sizes


@dataclass
class _Host:
    """What the policy remembers of one host. activity, periods ``[vm]``; running is empty before the first decision."""

    activity: list[Activity | None]
    periods: list[float]
    running: list[bool]
    state: int = HIGH
    balanced_s: float = 0.0


_CALM = np.dtype([(name, "f8") for name in ("total_mib", "balanced_s", "begins_mib", "ends_mib")])
"""Of a host whose size is this: when it was balanced, below which free memory a worse state begins, above which a better one."""

_NEVER_CALM = np.nan


class Esx(Policy):
    """Applies `plan` to every host of the batch."""

    period_s = 1.0
    visibility = Visibility.P3

    def __init__(
        self,
        idle_tax: float = 0.75,
        slow_gain: float = 0.1,
        fast_gain: float = 0.5,
        cap_share: float = 0.65,
        balance_s: float = 15.0,
        rise_share: float = 0.1,
        shares_by_size: bool = True,
    ) -> None:
        if not 0.0 <= idle_tax < 1.0:
            raise InputError(f"agent.idle_tax={idle_tax}: expected at least 0 and less than 1")
        self.idle_tax = idle_tax
        self.slow_gain = slow_gain
        self.fast_gain = fast_gain
        self.cap_share = cap_share
        self.balance_s = balance_s
        self.rise_share = rise_share
        self.shares_by_size = shares_by_size

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        lanes, vms = first.vm.shape
        self._hosts = [_Host([None] * vms, [0.0] * vms, []) for _ in range(lanes)]
        self._calm = np.full(lanes, _NEVER_CALM, _CALM)
        self._last = first.vm[["running", "active_periods"]].copy()

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        sizes = np.full(telemetry.vm.shape, np.nan)
        for lane in np.flatnonzero(self._calls(telemetry)).tolist():
            host, signals = self._hosts[lane], telemetry.host[lane, 0]
            self._decide(host, float(telemetry.time_s[lane]), telemetry.vm[lane], signals, sizes[lane])
            self._calm[lane] = self._calm_of(host, float(signals["total_mib"]))
        return Targets(sizes)

    def _calls(self, telemetry: Telemetry) -> np.ndarray:
        """Hosts of which a decision could learn anything or do anything, ``[env]``; of all others all is as it was, and most
        seconds are of that kind."""
        calm, host = self._calm, telemetry.host[:, 0]
        calls = (host["total_mib"] != calm["total_mib"]) | ~(telemetry.time_s - calm["balanced_s"] < self.balance_s)
        calls |= (host["available_mib"] < calm["begins_mib"]) | (host["available_mib"] > calm["ends_mib"])
        for name in ("running", "active_periods"):
            calls |= (telemetry.vm[name] != self._last[name]).any(axis=1)
            self._last[name] = telemetry.vm[name]
        return np.asarray(calls)

    def _calm_of(self, host: _Host, total_mib: float) -> tuple[float, float, float, float]:
        """As in `_CALM`: what free memory a host's state lasts with."""
        begins, ends, _ = self.levels_mib(total_mib)
        worse_mib = begins[host.state] if host.state < len(begins) else -math.inf
        return total_mib, host.balanced_s, worse_mib, ends[host.state - 1] if host.state > 0 else math.inf

    def levels_mib(self, total_mib: float) -> tuple[list[float], list[float], float]:
        """Free memory below which soft, hard and low begin, above which they end, and the goal, for a host of this size."""
        high, soft, hard, low = (share * total_mib for share in STATE_SHARES)
        ends = [level * (1.0 + self.rise_share) for level in (high, soft, hard)]
        return [soft, hard, low], ends, ends[0]

    def sizes_mib(self, state: int, vms: Sequence[SampledVm], spare_mib: float) -> list[float]:
        """What balloons do in a state of the host."""
        return plan(vms, spare_mib, self.idle_tax, self.cap_share, shrinks=state != HIGH)

    def _decide(self, host: _Host, now_s: float, vms: np.ndarray, signals: np.void, sizes: np.ndarray) -> None:
        """Fill `sizes` when something calls for a new balance."""
        free_mib, running = float(signals["available_mib"]), (vms["running"] > 0.0).tolist()
        begins, ends, goal_mib = self.levels_mib(float(signals["total_mib"]))
        self._sample(host, vms)
        state = next_state(host.state, free_mib, begins, ends)
        if state == host.state and running == host.running and now_s - host.balanced_s < self.balance_s:
            return
        host.state, host.running, host.balanced_s = state, running, now_s
        there = [index for index, runs in enumerate(running) if runs]
        sizes[there] = self.sizes_mib(state, self._read(host, vms, there), free_mib - goal_mib)

    def _sample(self, host: _Host, vms: np.ndarray) -> None:
        """Take in periods of sampling that have ended; a VM that starts anew starts unsampled."""
        for index, (periods, share) in enumerate(
            zip(vms["active_periods"].tolist(), vms["active_share"].tolist(), strict=True)
        ):
            if periods < host.periods[index]:
                host.activity[index] = None
            if periods != host.periods[index] and not math.isnan(share):
                host.activity[index] = sampled(host.activity[index], share, self.slow_gain, self.fast_gain)
            host.periods[index] = periods

    def _read(self, host: _Host, vms: np.ndarray, there: Sequence[int]) -> list[SampledVm]:
        shares = (shares_of(vms) * (vms["memory_mib"] if self.shares_by_size else 1.0))[there].tolist()
        columns = [column[there].tolist() for column in (vms["memory_mib"], least_mib(vms), vms["size_mib"])]
        held = (vms["resident_mib"] - vms["overhead_mib"])[there].tolist()
        swapped = (vms["host_swap_mib"] + vms["compressed_mib"])[there].tolist()
        now = vms["active_now_share"].tolist()
        active = [active_share(host.activity[index], now[index], self.fast_gain) for index in there]
        limits = (limit_mib(vms) - vms["overhead_mib"])[there].tolist()
        return [SampledVm(*values) for values in zip(shares, *columns, held, swapped, active, limits, strict=True)]
