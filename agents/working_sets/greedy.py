"""Marginal utility: memory moves in chunks from the VM that would miss it least to the one that would gain most.

What a chunk is worth is guessed from what a guest tells (P1): its available memory and how fast it swaps in. As long as
more than a reserve is available, another MiB saves nothing and one less costs nothing. Below, swap-ins are taken to fall
with size as a power law, r (S / x) ** a: at size x a MiB more saves a r / S (S / x) ** (a + 1) MiB/s, S and r being the
present size and rate. A guest that does not swap is taken to lose at a small rate if it is cut into what it uses. What
the host has left goes to the greatest gain; what it lacks comes from the least loss, of several VMs with memory to spare
from the one with most; then chunks move until no move gains.

Fails when page cache is worth something (available memory counts as free), when swapped-out memory will never be read
again, on guests without swap, which show nothing until they are killed, and on cold VMs whose few swap-ins count like
anybody's. A VM of which something is not known is left as it is and what it uses is set aside.

Edge cases. No statistics, or none newer than the last time: the VM is left as it is, and what it uses is set aside.
Windows: its caches count as available, as everybody's do. Start: a VM joins with its second report. No minimum is one
of 0; limits are not known.

A baseline of our own. Exponent 0.5 is the rule that misses halve when a cache grows fourfold (Chow, 1974; Hartstein et
al., 2006), measured on processor caches and here a guess; so are reserve, chunk, least rate, period and what is kept free.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.agents.readings import GuestRate, least_mib, room_for_mib
from hvgym.envs.errors import InputError
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


@dataclass(frozen=True)
class Guest:
    """One VM: bounds, present size, memory available in it and swap-ins."""

    min_mib: float
    memory_mib: float
    size_mib: float
    available_mib: float
    swap_in_mib_per_s: float


@dataclass(frozen=True)
class Law:
    """How swap-ins are taken to fall with size."""

    exponent: float = 0.5
    reserve_share: float = 0.05
    least_mib_per_s: float = 0.1


def spare_mib(guest: Guest, size_mib: float, law: Law) -> float:
    """Memory beyond the guest's reserve at this size."""
    return guest.available_mib + size_mib - guest.size_mib - law.reserve_share * guest.memory_mib


def value_per_s(guest: Guest, size_mib: float, law: Law) -> float:
    """Swap-ins per second and MiB, in MiB, that a little more memory saves at this size."""
    if spare_mib(guest, size_mib, law) >= 0.0:
        return 0.0
    rate = max(guest.swap_in_mib_per_s, law.least_mib_per_s)
    return law.exponent * rate / guest.size_mib * (guest.size_mib / size_mib) ** (law.exponent + 1.0)


def gain_of(guest: Guest, size_mib: float, chunk_mib: float, law: Law) -> float:
    """What a chunk more is worth; nothing to a VM that has no room for it."""
    return value_per_s(guest, size_mib, law) if size_mib + chunk_mib <= guest.memory_mib else 0.0


def loss_of(guest: Guest, size_mib: float, chunk_mib: float, law: Law) -> tuple[float, float]:
    """What a chunk less costs, and, to choose among equals, less the spare memory then; infinite at the minimum."""
    left_mib = size_mib - chunk_mib
    if left_mib < guest.min_mib or left_mib <= 0.0:
        return math.inf, 0.0
    return value_per_s(guest, left_mib, law), -spare_mib(guest, left_mib, law)


def allocate(guests: Sequence[Guest], capacity_mib: float, chunk_mib: float, law: Law) -> list[float]:
    """Sizes after all moves that are needed or gain; every change is a number of chunks."""
    sizes = [guest.size_mib for guest in guests]
    left_mib = capacity_mib - sum(sizes)
    losses = [loss_of(guest, guest.size_mib, chunk_mib, law) for guest in guests]
    while left_mib < 0.0 and guests and min(losses)[0] < math.inf:
        giver = losses.index(min(losses))
        sizes[giver] -= chunk_mib
        left_mib += chunk_mib
        losses[giver] = loss_of(guests[giver], sizes[giver], chunk_mib, law)
    gains = [gain_of(guest, size, chunk_mib, law) for guest, size in zip(guests, sizes, strict=True)]
    while guests:
        taker, giver = gains.index(max(gains)), losses.index(min(losses))
        moved = [taker]
        if left_mib >= chunk_mib and gains[taker] > 0.0:
            left_mib -= chunk_mib
        elif gains[taker] > losses[giver][0]:
            sizes[giver] -= chunk_mib
            moved.append(giver)
        else:
            break
        sizes[taker] += chunk_mib
        for index in moved:
            gains[index] = gain_of(guests[index], sizes[index], chunk_mib, law)
            losses[index] = loss_of(guests[index], sizes[index], chunk_mib, law)
    return sizes


class Greedy(Policy):
    """Applies `allocate` to every host of the batch."""

    visibility = Visibility.P1

    def __init__(
        self,
        chunk_mib: float = 256.0,
        exponent: float = 0.5,
        reserve_share: float = 0.05,
        least_mib_per_s: float = 0.1,
        keep_free_share: float = 0.05,
        period_s: float = 10.0,
    ) -> None:
        if chunk_mib <= 0.0:
            raise InputError(f"agent.chunk_mib={chunk_mib!r}: must be above 0")
        self.chunk_mib = chunk_mib
        self.law = Law(exponent, reserve_share, least_mib_per_s)
        self.keep_free_share = keep_free_share
        self.period_s = period_s

    def reset(self, first: Telemetry, seed: int) -> None:
        """Forget counters."""
        self._swap_in = GuestRate(first, first.vm["guest_swap_in_mib"])

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        swap_in = self._swap_in.update(telemetry, telemetry.vm["guest_swap_in_mib"])
        sizes = np.full(telemetry.vm.shape, np.nan)
        for lane, vm in enumerate(telemetry.vm):
            known = ~np.isnan(swap_in[lane] + vm["guest_available_mib"])
            columns = [least_mib(vm), *(vm[name] for name in ("memory_mib", "size_mib", "guest_available_mib"))]
            guests = [Guest(*row) for row in zip(*(c[known].tolist() for c in (*columns, swap_in[lane])), strict=True)]
            if guests:
                room = room_for_mib(vm, telemetry.host[lane, 0], known, self.keep_free_share)
                sizes[lane, known] = allocate(guests, room, self.chunk_mib, self.law)
        return Targets(sizes)
