"""When the host is short, the pages go whose loss costs least: importance of their VM times how often pages of that age come back.

Nothing is trained. It has every channel of a Linux host, so it is what a learner with the same channels has to beat (``learned``),
and what tells the worth of the channels from that of learning.

*Price.* Of what has been idle for between two of the ages that the host tracks, a share `woken / idle` comes back each second, and
each MiB of it stops its VM for `swap_in_s_per_mib`: weight x that is lost a second. A VM cannot lose more than all of its work, so
no MiB of it costs more than weight / what it has in RAM; that is also the price of what is younger than all ages, which cannot be
told apart. Hence who is short of everything takes from one unimportant VM until it stands still, before a second one feels it.

*Amount.* What the host lacks of `keep_free_share` of its RAM, as long as pages with an age are cheap enough (all below the most
that a VM can lose). Younger ones go only to keep free what comes back between two decisions: `keep_hot_share`, and what the host
has swapped in since the last decision times `intervals`.

*Sizes.* A VM keeps `spare_share` of its memory free inside the guest; the balloon takes half of what is above it at each
decision, and gives back all that is below it. What its kernel keeps for itself (its watermark, some 55 MiB of 2 GiB) is free but
nobody's to use: no more counts as free than is available. When the host lacks memory and its swap is full to `FULL_SHARE`, page
cache counts as free as well: what a guest drops, the host need not find a place for. A guest that reads its own swap gets
`intervals` times what it has read since the last decision, whatever it calls free (Windows counts its kernel's reserve). Guests
report free pages.

Fails when: demand comes faster than a decision every two seconds can follow; what has long been idle is about to be used; weights
do not tell what matters.

Edge cases. Statistics that are missing (no driver, another hypervisor's) or older than `MOST_STALE_S` leave the size as it is. A
VM that is not running is left alone, one that starts has young pages, and is cheap only if it is unimportant. Minimums hold for
sizes; what a pinned VM is asked for is not met. Limits are the hypervisor's.

Source: a prototype on the packaged scenarios (weight x hazard). The cap on the price, the amount of young pages and sizes were
added on training seeds of quick and standard; constants are round numbers there: `swap_in_s_per_mib` from .003 to .04 changes no
scenario by more than .004 of goodput; it would be 256 faults of 80 us, two at a time.
"""

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.proactive.swap_reads import SwapReads
from hvgym.envs.telemetry import AGES_S, Targets, Telemetry, Visibility

OLDEST_FIRST_S = np.array([*reversed(AGES_S), 0.0])
"""Ages from which pages are asked for, by column; 0 asks for any, in the order of the host's lists."""

MOST_STALE_S = 20.0
"""Ten polls without an answer."""

FULL_SHARE = 0.85
"""Of a host's swap; a guess."""

LEAST_MIB = 64.0
"""What a VM holds at least where its price is divided by it."""


def by_age(vm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """MiB of a VM that have been idle for as long as a column says and not for longer, and how much of them comes back a second;
    ``[env, vm, column]`` of `OLDEST_FIRST_S`, the last what is younger than all ages, of which nobody knows."""
    idle = np.nan_to_num(np.stack([vm[f"idle_{age}s_mib"] for age in reversed(AGES_S)], axis=-1))
    woken = np.nan_to_num(np.stack([vm[f"woken_{age}s_mib_per_s"] for age in reversed(AGES_S)], axis=-1))
    idle, woken = np.maximum.accumulate(idle, axis=-1), np.maximum.accumulate(woken, axis=-1)
    there = np.maximum(np.nan_to_num(vm["resident_mib"] - vm["overhead_mib"]), 0.0)
    idle = np.concatenate([idle, np.maximum(idle[..., -1:], there[..., None])], axis=-1)
    mib, per_s = np.diff(idle, axis=-1, prepend=0.0), np.diff(woken, axis=-1, prepend=0.0)
    hazard = np.divide(per_s, mib[..., :-1], out=np.zeros(per_s.shape), where=mib[..., :-1] > 0.0)
    hazard = np.maximum.accumulate(hazard, axis=-1)  # noise aside, what is younger comes back sooner
    return mib, np.concatenate([hazard, np.full((*hazard.shape[:-1], 1), np.inf)], axis=-1)


def prices(vm: np.ndarray, hazard_per_s: np.ndarray, swap_in_s_per_mib: float) -> np.ndarray:
    """Work that is lost for each MiB that goes, in weights, ``[env, vm, column]``."""
    weight = vm["weight"][..., None]
    there = np.maximum(np.nan_to_num(vm["resident_mib"] - vm["overhead_mib"]), LEAST_MIB)[..., None]
    return np.minimum(weight * hazard_per_s * swap_in_s_per_mib, weight / there)


def cheapest(mib: np.ndarray, price: np.ndarray, short_mib: np.ndarray) -> np.ndarray:
    """What goes of `mib` ``[env, vm, column]``, the cheapest first, until `short_mib` ``[env]`` is there or nothing is left."""
    lanes = len(mib)
    order = np.argsort(price.reshape(lanes, -1), axis=1, kind="stable")
    there = np.take_along_axis(mib.reshape(lanes, -1), order, axis=1)
    before = np.cumsum(there, axis=1) - there
    taken = np.zeros(there.shape)
    np.put_along_axis(taken, order, np.clip(short_mib[:, None] - before, 0.0, there), axis=1)
    return taken.reshape(mib.shape)


def request(taken: np.ndarray, running: np.ndarray) -> dict[str, np.ndarray]:
    """How a VM is asked for what goes, ``[env, vm, column]``: so much, from pages that are as old as the youngest of it."""
    youngest = taken.shape[-1] - 1 - (taken[..., ::-1] > 0.0).argmax(axis=-1)
    amount_mib = taken.sum(axis=-1)
    age_s = np.where(amount_mib > 0.0, OLDEST_FIRST_S[youngest], OLDEST_FIRST_S[0])
    return {"reclaim_mib": np.where(running, amount_mib, np.nan), "reclaim_age_s": np.where(running, age_s, np.nan)}


def nowhere_to_go(host: np.ndarray, short_mib: np.ndarray) -> np.ndarray:
    """Whether a host ``[env]`` that lacks memory has its swap nearly full too, or none: its kernel will kill."""
    return (short_mib > 0.0) & (host["swap_used_mib"] >= FULL_SHARE * host["swap_total_mib"])


def sizes_mib(
    vm: np.ndarray, spare_share: "float | np.ndarray", caches_too: np.ndarray, missed_mib: np.ndarray
) -> np.ndarray:
    """Sizes that leave a guest its spare memory, ``[env, vm]``; NaN where nobody knows what it has free. caches_too ``[env]``: its
    page cache is spare; missed_mib ``[env, vm]``: what it is to have more because it reads that from its swap."""
    free, told = vm["guest_free_mib"], vm["guest_available_mib"]
    available = np.where(np.isnan(told), free, told)
    above = np.where(caches_too[:, None], available, np.minimum(free, available)) - spare_share * vm["memory_mib"]
    known = (vm["running"] > 0.0) & (vm["stats_age_s"] <= MOST_STALE_S)
    above = np.where(missed_mib > 0.0, np.minimum(above, 0.0), above)
    wanted = vm["size_mib"] - np.where(above > 0.0, 0.5 * above, above) + missed_mib
    return np.where(known, np.clip(wanted, np.nan_to_num(vm["min_mib"]), vm["memory_mib"]), np.nan)


class CheapestPages(Policy):
    """Reclaims by price; the balloon takes what guests do not use."""

    visibility = Visibility.P1

    def __init__(
        self, period_s: float = 2.0, keep_free_share: float = 0.02, keep_hot_share: float = 0.01, intervals: float = 3.0,
        spare_share: float = 0.025, swap_in_s_per_mib: float = 0.01,
    ) -> None:  # fmt: skip
        self.period_s = period_s
        self.keep_free_share, self.keep_hot_share, self.intervals = keep_free_share, keep_hot_share, intervals
        self.spare_share, self.swap_in_s_per_mib = spare_share, swap_in_s_per_mib

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._swapped_in_mib, self._reads = first.host["swap_in_mib"][:, 0].copy(), SwapReads(first)

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        vm, host = telemetry.vm, telemetry.host[:, 0]
        running = vm["running"] > 0.0
        come_back_mib = host["swap_in_mib"] - self._swapped_in_mib
        self._swapped_in_mib = host["swap_in_mib"].copy()
        mib, hazard = by_age(vm)
        hot_mib = self.keep_hot_share * host["total_mib"] + self.intervals * come_back_mib
        short_mib = self.keep_free_share * host["total_mib"] - host["available_mib"]
        taken = reclaimed(
            np.where(running[..., None], mib, 0.0), prices(vm, hazard, self.swap_in_s_per_mib), short_mib,
            hot_mib - host["available_mib"],
        )  # fmt: skip
        return Targets(
            memory_mib=sizes_mib(
                vm, self.spare_share, nowhere_to_go(host, short_mib), self.intervals * self._reads.since(telemetry)
            ),
            report_free_pages=np.where(running, 1.0, np.nan),
            **request(taken, running),
        )


def reclaimed(mib: np.ndarray, price: np.ndarray, short_mib: np.ndarray, short_hot_mib: np.ndarray) -> np.ndarray:
    """What goes, ``[env, vm, column]``: pages with an age for all that is short, young ones too for what is short of hot memory
    and no more than that."""
    aged = np.where(np.arange(mib.shape[-1]) < len(AGES_S), mib, 0.0)
    cold = cheapest(aged, price, np.maximum(short_mib, 0.0))
    any_age = cheapest(mib, price, np.minimum(np.maximum(short_hot_mib, 0.0), np.maximum(short_mib, 0.0)))
    more = any_age.sum(axis=(1, 2)) > cold.sum(axis=(1, 2))
    return np.where(more[:, None, None], any_age, cold)
