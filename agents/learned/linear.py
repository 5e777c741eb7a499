"""One linear map for all VMs: how fast each one's memory should grow or shrink, from its view (``view``).

The size that a VM is asked to have moves by at most `step` of its configured memory each `period_s`: by step x
s(w . x - price / weight), with x the VM's features, w what was learnt, the same for all VMs, and s(z) = z / (1 + |z|). The price is
one for all VMs of a host, and the least at which their sizes fit into what they have and what the host has available; 0 where they
do. So it works for any number of VMs on any host, what each number of w does can be read, and where all want to grow, those grow
that want it more than others. VMs that wait to be started count as if they had to have all their memory at once, as far as the
others could make room for them: a host without swap lets none in before there is room, and nobody else would make it.

Without the price every VM of a full host is asked to grow, none gives anything back, and who came first keeps what it has: on Xen
and Hyper-V, whose hosts do not swap, hosts stood still so. A VM's weight, in means of its host's, is what it pays with, as shares
are in Waldspurger's min-funding revocation (OSDI 2002). Paid alike by all, the price evens out the one sign that Xen's guests give,
what they swap in, and where all want far more than there is all thrash; a weight added to w . x lets the lightest die where little
is short (CHANGELOG.md has what both gain).

Fails when: what matters is not in the view (what a VM will touch next); demand differs from all that it was trained on; VMs of
the same weight want far more than there is and show it alike, for then they share, and all thrash where some should stand back.

Edge cases. Of several hosts each is seen alone, and VMs that no host has yet wait nowhere. Statistics that are missing (no
driver, frozen, not of this hypervisor) read 0, and a feature says so. Weights decide what that means. A VM that is not running is
left alone. Minimums hold, limits are features; a VM that starts grows from the size that it has then. Where what the host has
available cannot be read there is no price; a weight that cannot be read is the mean.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from hvgym.agents.learned.searched import Searched
from hvgym.agents.learned.view import FEATURES, View
from hvgym.agents.proactive.swap_reads import SwapReads
from hvgym.envs.telemetry import Targets, Telemetry
from hvgym.envs.view import MOST_WEIGHT

MOST_PRICE, HALVINGS = 64.0, 30
"""At the highest price VMs shrink, those of the mean weight almost by a whole step; it is found by so many halvings."""

WEIGHT_AT = FEATURES.index("weight")

NOTHING_SHARE, SPARE_SHARE = 0.01, 0.02
"""Chosen on training demand of KVM, where a half or twice the first changes goodput by less than .001, and .05 in place of the
second by less than .005, either way."""


class SharedLinear(Searched):
    """Sizes of memory; `first` makes VMs grow until something is learnt."""

    kind = "hvgym shared linear policy, version 3"
    names = FEATURES
    first: ClassVar[Mapping[str, float]] = {"constant": 0.3}
    settings: ClassVar[Mapping[str, float | str]] = {
        "step": 0.1, "period_s": 10.0, "least_share": 0.1, "visibility": "P1",
    }  # fmt: skip
    step: float
    least_share: float
    """Of its memory, below which no VM is asked to go. A guest that has next to nothing, and whose own swap is full, dies while it
    starts and looks as if it had memory to spare while it is down. The usual value is a guess; a fifth cost hosts whose VMs touch a
    twentieth of their memory .12 to .16 of goodput."""
    least_mib: float = 0.0
    """... and below how much none is that has as much."""
    rescues: bool = False
    """Whether a guest that has nothing left (`NOTHING_SHARE` of its memory available) and reads its own swap is given what it has
    read since the last decision, whatever the weights say, as long as its host has `SPARE_SHARE` of its RAM available."""

    @property
    def applied(self) -> np.ndarray:
        """Weights by which it decides, ``[1 or env, feature]``."""
        return self.weights

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._view, self._reads = View(), SwapReads(first)

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        seen = telemetry.seen_with(self.visibility)
        features = self._view.look(seen)
        pull, weight = shared(self.applied, features), MOST_WEIGHT * features[..., WEIGHT_AT]
        vm, available_mib = telemetry.vm, seen.host["available_mib"][:, 0]
        least = np.maximum(self.least_share * vm["memory_mib"], np.minimum(self.least_mib, vm["memory_mib"]))
        least = np.maximum(np.nan_to_num(vm["min_mib"]), least)
        left_mib = available_mib - awaited_mib(vm, least, available_mib)
        wanted = fitted(pull, np.where(weight > 0.0, weight, 1.0), self.step, vm, least, left_mib)
        read_mib = self._reads.since(seen)
        if self.rescues:
            has_nothing = seen.vm["guest_available_mib"] < NOTHING_SHARE * vm["memory_mib"]
            can_give = available_mib > SPARE_SHARE * seen.host["total_mib"][:, 0]
            rescued = np.minimum(vm["size_mib"] + read_mib, vm["memory_mib"])
            wanted = np.where(has_nothing & (read_mib > 0.0) & can_give[:, None], np.maximum(wanted, rescued), wanted)
        return Targets(np.where(vm["running"] > 0.0, wanted, np.nan))


def fitted(
    pull: np.ndarray,
    weight: np.ndarray,
    step: float,
    vm: np.ndarray,
    least_mib: np.ndarray,
    available_mib: np.ndarray,
) -> np.ndarray:
    """Sizes ``[env, vm]`` in MiB by pulls ``[env, vm]`` less the price of their host over weights ``[env, vm]``; vm: readings.
    available_mib ``[env]``, less what VMs wait for; where it is NaN there is no price."""
    asked = np.where(np.isnan(vm["target_mib"]), vm["size_mib"], np.minimum(vm["target_mib"], vm["size_mib"]))
    moved, counts = step * vm["memory_mib"], (vm["running"] > 0.0) & ~np.isnan(asked)

    def at(price: np.ndarray) -> np.ndarray:
        left = pull - price[:, None] / weight
        return np.clip(asked + moved * left / (1.0 + np.abs(left)), least_mib, vm["memory_mib"])

    def in_all(sizes: np.ndarray) -> np.ndarray:
        return _in_all(np.where(counts, sizes, 0.0))

    room_mib, low = in_all(vm["size_mib"]) + available_mib, np.zeros(len(pull))
    high = np.where(in_all(at(low)) > room_mib, MOST_PRICE, 0.0)
    if high.any():
        for _ in range(HALVINGS):
            price = 0.5 * (low + high)
            too_low = in_all(at(price)) > room_mib
            low, high = np.where(too_low, price, low), np.where(too_low, high, price)
    return at(high)


def awaited_mib(vm: np.ndarray, least_mib: np.ndarray, available_mib: np.ndarray) -> np.ndarray:
    """What VMs need that wait to be started, ``[env]`` in MiB: of each its memory and overhead, in their order, as long as that is
    no more than the host has available and running VMs have above their least."""
    waiting = vm["waiting"] > 0.0
    total = np.zeros(len(waiting))
    if not waiting.any():
        return total
    above = np.where((vm["running"] > 0.0) & (vm["size_mib"] > least_mib), vm["size_mib"] - least_mib, 0.0)
    room_mib, needed = available_mib + _in_all(above), vm["memory_mib"] + np.nan_to_num(vm["overhead_mib"])
    for v in range(waiting.shape[1]):
        total = np.where(waiting[:, v] & (total + needed[:, v] <= room_mib), total + needed[:, v], total)
    return total


def _in_all(mib: np.ndarray) -> np.ndarray:
    """Sum over VMs ``[env, vm]``, one after the other, as compiled episodes add."""
    return np.asarray(np.cumsum(mib, axis=1)[:, -1])


def shared(weights: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Sum of weights ``[lane, feature]`` (one lane for all, or each its own) x features ``[env, vm, feature]``: ``[env, vm]``."""
    found = np.zeros(seen.shape[:-1])
    for feature in range(seen.shape[-1]):  # in this order on every machine, where a product of matrices has its own
        found += weights[:, feature : feature + 1] * seen[..., feature]
    return found
