"""The clairvoyant bound: water-filling on the marginal cost of memory, from true working sets and future demand.

For each VM the tier sizes of the next `horizon_s` seconds (their maximum) and the access rates give the guest's own
curve (``model.guest``): at age T the share m_k = (1 + lambda_k T / 2)^-2 of tier k is missing, so it holds
C(T) = sum S_k (1 - m_k) and faults F(T) = sum S_k lambda_k m_k times a second. The marginal value of memory,

    -dF/dC = sum S lambda^2 m^1.5 / sum S lambda m^1.5,

(with zram, less what the compressed pages take) falls with T, so one price for all VMs, found by bisection, divides RAM at
the least weighted stall. Sizes add up to what the host has, so the hypervisor never swaps.

It is a bound in practice, not in theory: it plans for stalls rather than for goodput, looks a fixed time ahead, and
ignores what moving costs. A proof-grade bound is work to come.
"""

import math

import numpy as np

from hvgym.agents.policy import ClairvoyantPolicy
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import TIERS
from hvgym.envs.telemetry import HiddenState, Targets

LUMP_MIB = 16.0
"""Left free in each guest beyond its reserve: a size that fits to the byte kills a guest without swap (a guess)."""

AGE_STEPS, PRICE_STEPS = 22, 28
"""Bisection steps: relative errors of 5e-6 in age and 2e-7 in price."""


@compiled
def _value(sizes, spec, age_s: float) -> float:  # type: ignore[no-untyped-def]
    """Weighted stall saved by one more MiB at LRU age `age_s` (per operation latency)."""
    above = below = 0.0
    for k in range(TIERS):
        rate = spec.tier_rate_per_s[k]
        stays = 1.0 + 0.5 * rate * age_s * spec.tier_stays[k]
        slope = sizes[k] * rate * spec.tier_stays[k] / (stays * stays * stays)
        above += slope * rate
        below += slope * spec.tier_gain[k]
    return 0.0 if below <= 0.0 else spec.weight / spec.fault_parallelism * above / below


@compiled
def _held_mib(sizes, spec, price: float) -> float:  # type: ignore[no-untyped-def]
    """Tier memory that a VM buys at this price."""
    low, high = math.log(0.01), math.log(1e8)
    for _ in range(AGE_STEPS):
        middle = 0.5 * (low + high)
        if _value(sizes, spec, math.exp(middle)) > price:
            low = middle
        else:
            high = middle
    age = math.exp(low)
    held = 0.0
    for k in range(TIERS):
        stays = 1.0 + 0.5 * spec.tier_rate_per_s[k] * age * spec.tier_stays[k]
        kept = 1.0 - spec.tier_gain[k] / (stays * stays)
        if spec.guest_swap_mib <= 0.0 and spec.tier_is_file[k] == 0.0:
            kept = 1.0  # cannot be evicted; a balloon that wants it ends in a kill
        held += sizes[k] * kept
    return held


@compiled
def _size_mib(vm, sizes, spec, price: float) -> float:  # type: ignore[no-untyped-def]
    """Memory size of a VM at this price, within its bounds."""
    size = _held_mib(sizes, spec, price) + spec.kernel_mib + spec.kernel_cache_mib + spec.watermark_mib + LUMP_MIB
    size = max(size, max(spec.min_mib, spec.memory_mib - spec.balloon_cap_mib))
    return min(size, spec.memory_mib) if spec.stats_interval_s > 0.0 else spec.memory_mib


@compiled
def divide(vms, vm_specs, wanted, capacity_mib: float, sizes_mib) -> None:  # type: ignore[no-untyped-def]
    """Fill sizes_mib ``[vm]`` so that they add up to at most `capacity_mib` at one price; wanted ``[vm, tier]``."""
    low, high = math.log(1e-16), math.log(1e6)
    for _ in range(PRICE_STEPS):
        middle = 0.5 * (low + high)
        total = 0.0
        for v in range(len(vms)):
            total += _size_mib(vms[v], wanted[v], vm_specs[v], math.exp(middle))
        if total > capacity_mib:
            low = middle
        else:
            high = middle
    spare = capacity_mib
    headroom = 1e-9
    for v in range(len(vms)):
        sizes_mib[v] = _size_mib(vms[v], wanted[v], vm_specs[v], math.exp(high))
        spare -= sizes_mib[v]
        headroom += vm_specs[v].memory_mib - sizes_mib[v]
    for v in range(len(vms)):
        sizes_mib[v] += min(max(spare, 0.0) / headroom, 1.0) * (vm_specs[v].memory_mib - sizes_mib[v])


@compiled
def _plan(vms, vm_specs, host_specs, demand, clock_s, slot_s, horizon_s, margin_share, wanted, sizes_mib) -> None:  # type: ignore[no-untyped-def]
    """Fill sizes_mib ``[env, vm]`` for every environment; wanted ``[vm, tier]`` is scratch."""
    for e in range(vms.shape[0]):
        first = clock_s[e] // slot_s
        last = min((clock_s[e] + horizon_s) // slot_s, demand.shape[1] - 1)
        host = host_specs[e, 0]
        capacity = (1.0 - margin_share) * host.ram_mib - host.own_mib - host.min_free_mib
        for v in range(vms.shape[1]):
            capacity -= vm_specs[e, v].overhead_mib
            for k in range(TIERS):
                wanted[v, k] = 0.0
                for slot in range(min(first, last), last + 1):
                    wanted[v, k] = max(wanted[v, k], demand[e, slot, v].tier_mib[k])
        divide(vms[e], vm_specs[e], wanted, capacity, sizes_mib[e])


class Oracle(ClairvoyantPolicy):
    """Plans every `period_s` for the demand of the next `horizon_s`, leaving `margin_share` of RAM unused."""

    period_s = 5.0

    def __init__(self, horizon_s: int = 30, margin_share: float = 0.002, shrink_mib_per_s: float = 12.0) -> None:
        self.horizon_s = horizon_s
        self.margin_share = margin_share
        self.shrink_mib_per_s = shrink_mib_per_s

    def decide(self, hidden: HiddenState) -> Targets:
        """See `ClairvoyantPolicy`."""
        sizes = np.empty(hidden.vms.shape)
        _plan(
            hidden.vms, hidden.vm_specs, hidden.host_specs, hidden.demand, hidden.clock_s, hidden.slot_s,
            self.horizon_s, self.margin_share, np.empty((hidden.vms.shape[1], TIERS)), sizes,
        )  # fmt: skip
        now = hidden.vm_specs["memory_mib"] - hidden.vms["balloon_mib"]
        return Targets(np.maximum(sizes, now - self.shrink_mib_per_s * self.period_s))
