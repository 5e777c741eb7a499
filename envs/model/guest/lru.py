"""What leaves a guest under pressure: the search for the age T beyond which untouched pages go.

Modelled. The fixed point and the hazards are those of ``memory``; T is such that what must be missing is missing.

Lists remember. Where reclaim has to reach T below the age A of the oldest page that is still there, what has been idle for
longer goes at once: of tier k the share 1 - g_k(T) / g_k(A), g(T) = 1 - (1 + lambda T / 2)^-2, before any hazard counts. So a
squeeze takes memory that nobody has touched for hours before it takes what was used a second ago, however fast it comes; at a
steady T nothing goes so. A rises by a second a second, and falls to T when pages leave.
"""

from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.params import VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import Tiers, put, tiers, total, where

AGE_TOLERANCE_MIB = 0.03
"""The search for the LRU age stops here; what is left over stays in (or comes out of) the watermark."""

MIN_AGE_S = 1e-9

ALMOST = 1.0 - 1e-9

UNTOUCHED_PER_S = 1e-12
"""Keeps shares by age defined where nothing is touched: then the oldest part of the memory's time leaves."""

MAX_SEARCH = 24


@compiled
def _younger(touches: Tiers, stays: Tiers, age_s: float) -> tuple[Tiers, Tiers]:
    """Share of each tier that has been idle for less than `age_s` (two stages), and its derivative."""
    rate = 0.5 * touches * stays + UNTOUCHED_PER_S
    older = 1.0 / (1.0 + rate * age_s)
    return rate * age_s * older * (1.0 + older), 2.0 * rate * older * older * older


@compiled
def _evict(  # type: ignore[no-untyped-def]
    size: Tiers, missing: Tiers, touches: Tiers, stays: Tiers, leaves: Tiers, known: Tiers, known_s: float, pace: float
):  # fmt: skip
    """Solve one tick in which the untouched leave at `pace` = 1 / T; return what is missing then, what was faulted in,
    and d missing / d pace.

    First go the pages that have been idle for longer than T already: of `known` pages per tier, were they all there, none
    is older than `known_s`. Then, with mu `touches` per tick, age f T (`stays` = f, `leaves` = 1 / f or 0) and hazard h:
    missing tends to N* = S h / (mu + h) at rate mu + h.
    """
    sudden, age_s = 0.0 * size, 1.0 / pace
    if pace * known_s > ALMOST:
        younger, rise = _younger(touches, stays, age_s)
        missing = where(leaves > 0.0, max(size - known * younger, missing), missing)
        sudden = where(leaves > 0.0, known * rise * (age_s * age_s), 0.0)
    quarter = 0.25 * touches * stays
    slower = 1.0 / (pace + quarter)
    hazard = leaves * (pace * pace) * slower
    rate = touches + hazard + 1e-300
    once = 1.0 / rate
    keep = guest.decay(rate)
    fixed = size * (hazard * once)
    excess = missing - fixed
    gone = (1.0 - keep) * once
    fault_in = touches * (fixed + excess * gone)
    slope = (gone * size * touches * once - keep * excess) * hazard * (pace + 2.0 * quarter) * slower
    return fixed + excess * keep, fault_in, slope * age_s + keep * sudden


@inlined
def reclaim(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Plan a tick after which ``missing_goal_mib`` is missing: find the LRU age (Newton in 1 / T, warm start)."""
    size = tiers(vm.allocated_mib)
    missing = guest.missing_mib(vm)
    touches = tiers(spec.tier_rate_per_s) * vm.progress
    stays, leaves, gain = tiers(spec.tier_stays), tiers(spec.tier_leaves), tiers(spec.tier_gain)
    known_s = max(vm.oldest_s - 1.0, MIN_AGE_S)
    younger, _ = _younger(touches, stays, known_s)
    known = (size - missing) / younger
    pace = 1.0 / vm.lru_age_s
    left, fault_in, slope = _evict(size, missing, touches, stays, leaves, known, known_s, pace)
    low, high = 1.0 / guest.MAX_AGE_S, 1.0 / MIN_AGE_S
    for _ in range(MAX_SEARCH):
        error = total(left * gain) - vm.missing_goal_mib
        low, high = (low, pace) if error > 0.0 else (pace, high)
        steep = total(slope * gain) * pace
        step = error / steep if steep > 1e-12 else error * 1e12
        step = max(-0.9, min(0.9, step))
        knows = pace * known_s > ALMOST
        change = slope * (pace * step)
        pace = (
            pace / (1.0 + step) if knows else pace * (1.0 - step)
        )  # what is missing is all but linear in T, or in 1 / T
        if abs(error * step) < AGE_TOLERANCE_MIB and (pace * known_s > ALMOST) == knows:
            left = max(max(min(left - change, size), missing - fault_in), 0.0)
            break
        if not low < pace < high:  # beyond the bend where ages begin to be known
            pace = (low * high) ** 0.5
        left, fault_in, slope = _evict(size, missing, touches, stays, leaves, known, known_s, pace)
    vm.lru_age_s = 1.0 / pace
    vm.oldest_s = min(vm.oldest_s, vm.lru_age_s)
    put(vm.next_missing_mib, left)
    put(vm.fault_in_mib, fault_in)
    if total(left * (1.0 - tiers(spec.tier_is_file))) > spec.guest_swap_mib > 0.0:
        _fill_swap_only(vm, spec, size, missing, touches)


@compiled
def _fill_swap_only(vm: VmRecord, spec: VmSpecRecord, size: Tiers, missing: Tiers, touches: Tiers) -> None:
    """The plan would overfill the guest's swap: evict anonymous pages until it is full, and page cache for the rest."""
    is_file = tiers(spec.tier_is_file)
    left, fault_in = tiers(vm.next_missing_mib), tiers(vm.fault_in_mib)
    stay = guest.come_back(missing, touches)
    least, most = total(stay * (1.0 - is_file)), total(left * (1.0 - is_file))
    share = max(is_file, (spec.guest_swap_mib - least) / (most - least))
    left = stay + share * (left - stay)
    put(vm.fault_in_mib, missing - stay + share * (fault_in - missing + stay))
    cache = (size - left) * is_file
    more = min(1.0, (most - spec.guest_swap_mib) / max(total(cache), guest.NEGLIGIBLE_MIB))
    put(vm.next_missing_mib, left + cache * more)
