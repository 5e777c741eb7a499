"""DAMON_RECLAIM: pages out the host's coldest memory, at a limited speed that stall time steers.

Each second it may page out what nobody has touched for two minutes, oldest first, up to a quota: the least of 128 MiB, what
10 ms of CPU time move, and a goal quota that a tuner doubles while nothing stalls, keeps where stalls meet the target, cuts
above it and drops to one byte at twice the target. It works only while free memory is within watermarks: it starts below 40 %
free and stops above 50 % or below 20 %, where it leaves the host to ordinary reclaim. It knows pages, not VMs: what may be
idle is ranked by age over all of them. `activated`, `next_quota_bp`, `quota_bytes` and `spread` are pure; integers as in
the kernel.

Fails when: the host is already short (below 20 % free it sleeps), cold memory is about to turn hot, one VM pays for the
host's stalls or hides them. The quota begins at a byte and needs half a minute to matter.

Surrogate: ages come from idle-page tracking, at steps that double, where DAMON samples regions and ranks them by the
logarithm of their age; the quota is split over VMs in proportion to what they have at the age reached, for addresses are
spread; how fast CPU time moves memory is the kernel's first guess, never measured; the host's stall total is made from
those of the VMs, as if these were independent, and counts from the start. Left out: reclaim of the host's own memory, that
monitoring sleeps with the scheme. Without a reading of free memory the kernel leaves the scheme as it is.

Edge cases. Guests are asked nothing, so statistics that are missing, frozen or Windows' change nothing. Pages of a VM
that starts are young and safe for two minutes. Limits are not known.

Sources: Linux ``mm/damon/reclaim.c`` (parameters), ``mm/damon/core.c`` (watermarks, quota, tuner),
``mm/damon/ops-common.c`` (ranking), re-implemented.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import AGES_S, Targets, Telemetry, Visibility

MIB = 1 << 20
PAGE = 4096
GOAL_SCORE = 10_000
LEAST_QUOTA_BP = 10_000
"""One byte; a goal quota is kept in 1/10,000 of it."""
ULONG_MAX = (1 << 64) - 1


@dataclass(frozen=True)
class Watermarks:
    """Free memory in per mille of the host's."""

    high: int = 500
    mid: int = 400
    low: int = 200


@dataclass(frozen=True)
class Quota:
    """Limits of one window of a second; 0 lifts a limit, and for `mem_pressure_us` switches the tuner off."""

    time_ms: int = 10
    size_bytes: int = 128 << 20
    bytes_per_ms: int = PAGE * 1024
    mem_pressure_us: int = 0


def activated(active: bool, free_per_mille: int, marks: Watermarks) -> bool:
    """Whether the scheme works from now on."""
    if not marks.low <= free_per_mille <= marks.high:
        return False
    return active or free_per_mille < marks.mid


def next_quota_bp(last_bp: int, score: int) -> int:
    """DAMON's feedback loop: the quota that should bring `score` to 10,000; the least from 20,000 on."""
    distance = abs(GOAL_SCORE - score)
    fits = distance == 0 or last_bp < ULONG_MAX // distance
    change = last_bp * distance // GOAL_SCORE if fits else last_bp // GOAL_SCORE * distance
    if score > GOAL_SCORE:
        return max(last_bp - change, LEAST_QUOTA_BP)
    return min(last_bp + change, ULONG_MAX)


def quota_bytes(goal_bp: int | None, quota: Quota) -> int:
    """Bytes of this window; `goal_bp` is what the tuner allows, None without one."""
    limits = [limit for limit in (quota.size_bytes, quota.bytes_per_ms * quota.time_ms) if limit > 0]
    if goal_bp is not None:
        limits.append(goal_bp // LEAST_QUOTA_BP)
    return min(limits, default=ULONG_MAX)


def spread(idle: Sequence[Sequence[float]], amount: float) -> tuple[int, list[float]]:
    """Step of age to take from, and how much of each VM; in the unit of `idle`.

    `idle` has, by step of age from young to old and then by VM, memory idle for at least so long.
    """
    totals = [sum(step) for step in idle]
    oldest = next((step for step in reversed(range(len(idle))) if totals[step] >= amount), 0)
    share = min(amount / totals[oldest], 1.0) if totals[oldest] > 0.0 else 0.0
    return oldest, [share * of_vm for of_vm in idle[oldest]]


@dataclass(frozen=True)
class Scheme:
    """State of one host's scheme; a sleeping one looks at free memory again at `next_check_s`."""

    active: bool = False
    next_check_s: float = -math.inf
    goal_bp: int = 0
    scored_us: int = 0


@dataclass
class Stalls:
    """Stall time of the host, from that of its VMs."""

    time_s: float
    of_vms_s: list[float]
    total_us: float = 0.0

    def add(self, now_s: float, of_vms_s: Sequence[float]) -> int:
        """Count up to `now_s`; stalls that are not known count as none."""
        passed_s, calm = now_s - self.time_s, 1.0
        for index, stalled_s in enumerate(of_vms_s):
            if not math.isnan(stalled_s):
                if passed_s > 0.0 and not math.isnan(self.of_vms_s[index]):
                    calm *= 1.0 - min((stalled_s - self.of_vms_s[index]) / passed_s, 1.0)
                self.of_vms_s[index] = stalled_s
        self.time_s = now_s
        self.total_us += (1.0 - calm) * passed_s * 1e6
        return round(self.total_us)


class DamonReclaim(Policy):
    """One scheme per host, a window a second."""

    period_s = 1.0
    visibility = Visibility.P0

    def __init__(
        self,
        min_age_s: float = 120.0,
        quota_ms: int = Quota.time_ms,
        quota_mib: int = Quota.size_bytes // MIB,
        mib_per_ms: float = Quota.bytes_per_ms / MIB,
        mem_pressure_us: int = Quota.mem_pressure_us,
        high_per_mille: int = Watermarks.high,
        mid_per_mille: int = Watermarks.mid,
        low_per_mille: int = Watermarks.low,
        check_s: float = 5.0,
    ) -> None:
        self.ages_s = tuple(age for age in AGES_S if age >= min_age_s)
        self.quota = Quota(quota_ms, quota_mib * MIB, int(mib_per_ms * MIB), mem_pressure_us)
        self.marks = Watermarks(high_per_mille, mid_per_mille, low_per_mille)
        self.check_s = check_s
        self._schemes: list[Scheme] = []
        self._stalls: list[Stalls] = []

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._schemes = [Scheme()] * len(first.vm)
        starts = zip(first.time_s.tolist(), first.vm["host_psi_some_s"].tolist(), strict=True)
        self._stalls = [Stalls(time_s, of_vms_s) for time_s, of_vms_s in starts]

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        amounts_mib, ages_s = np.full(telemetry.vm.shape, np.nan), np.full(telemetry.vm.shape, np.nan)
        for lane in range(len(self._schemes)):
            row, now_s = telemetry.vm[lane], float(telemetry.time_s[lane])
            stalled_us = self._stalls[lane].add(now_s, row["host_psi_some_s"].tolist())
            scheme = self._schemes[lane] = self._checked(self._schemes[lane], telemetry.host[lane, 0], now_s)
            runs = row["running"] > 0.0
            amounts_mib[lane, runs] = 0.0  # what is left of the last window's request ends
            if scheme.active:
                scheme = self._schemes[lane] = self._tuned(scheme, stalled_us)
                goal_bp = scheme.goal_bp if self.quota.mem_pressure_us else None
                pages_mib = quota_bytes(goal_bp, self.quota) // PAGE * PAGE / MIB
                idle = [np.where(runs, np.nan_to_num(row[f"idle_{age}s_mib"]), 0.0).tolist() for age in self.ages_s]
                step, of_vms_mib = spread(idle, pages_mib)
                amounts_mib[lane, runs] = np.array(of_vms_mib)[runs]
                ages_s[lane, runs] = self.ages_s[step]
        return Targets(reclaim_mib=amounts_mib, reclaim_age_s=ages_s)

    def _checked(self, scheme: Scheme, host: np.void, now_s: float) -> Scheme:
        """After a look at the watermarks: always while it works, every `check_s` while it sleeps."""
        if not scheme.active and now_s < scheme.next_check_s:
            return scheme
        free_per_mille = float(host["free_mib"] * 1000.0 // host["total_mib"])
        if math.isnan(free_per_mille):
            return scheme
        active = activated(scheme.active, int(free_per_mille), self.marks)
        return replace(scheme, active=active, next_check_s=now_s + self.check_s)

    def _tuned(self, scheme: Scheme, stalled_us: int) -> Scheme:
        """After the tuner has seen the stalls since it last did."""
        if not self.quota.mem_pressure_us:
            return scheme
        score = (stalled_us - scheme.scored_us) * GOAL_SCORE // self.quota.mem_pressure_us
        return replace(scheme, goal_bp=next_quota_bp(max(scheme.goal_bp, LEAST_QUOTA_BP), score), scored_us=stalled_us)
