"""Water-filling: RAM divided among guests at one price for a MiB, the least weighted stall in the long run.

For each VM the sizes S_k that its tiers will want and their access rates give the guest's own curve (``model.guest.memory``): at
age T the share m_k = (1 + lambda_k T / 2)^-2 of tier k is missing, so it holds C(T) = sum S_k (1 - m_k) and faults
F(T) = sum S_k lambda_k m_k times a second. The marginal value of memory,

    -dF/dC = sum S lambda^2 m^1.5 / sum S lambda m^1.5,

(with zram, less what the compressed pages take) falls with T. It is tabulated over ages, and one price for all VMs, found
by bisection, divides RAM. Left out: where a guest stands now, and what it costs to get it elsewhere.
"""

import math
from typing import Any

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import tiers, total

WorkRecord = Any
"""A row of ``planning.WORK``."""

AGES = 40
OLDEST_S, STEP = 1e6, 1.45
"""Ages at which a VM's memory is priced: from eleven days down to half a second."""

LUMP_MIB = 16.0
"""Left free in each guest beyond its reserve: a size that fits to the byte kills a guest without swap (a guess)."""

FLAT = 1e-9
"""A price that rises by less from one age to the next is the same for all pages."""

CHEAPEST, DEAREST, PRICE_STEPS = -40.0, 14.0, 28
"""Bisection of the price in its logarithm; the error left is 2e-7."""


@compiled
def _price(work: WorkRecord, spec: VmSpecRecord, age_s: float) -> float:
    """The logarithm of what one more MiB is worth to a guest at this age, as weighted stall per operation latency."""
    rate, stays = tiers(spec.tier_rate_per_s), tiers(spec.tier_stays)
    movable = tiers(work.wanted_mib) * tiers(spec.tier_leaves) * stays  # without swap anonymous memory cannot leave
    untouched = 1.0 + rate * stays * (0.5 * age_s)
    slope = movable * rate * stays / (untouched * untouched * untouched)
    saved = total(slope * rate) / max(total(slope * tiers(spec.tier_gain)), 1e-300)
    return work.tilt + math.log(spec.weight / spec.fault_parallelism * max(saved, 1e-300))


@compiled
def _set_prices(work: WorkRecord, spec: VmSpecRecord) -> None:
    """Tabulate the price over ages."""
    age, price = OLDEST_S, -math.inf
    for j in range(AGES):
        price = max(price, _price(work, spec, age))
        work.price[j] = price
        age /= STEP


@compiled
def _age_s(work: WorkRecord, spec: VmSpecRecord, price: float) -> float:
    """Age at which a guest's memory is worth this much: from the table, and then one Newton step in logarithms."""
    low, high = 0, AGES - 1
    while high - low > 1:
        middle = (low + high) // 2
        if work.price[middle] > price:
            high = middle
        else:
            low = middle
    rise = work.price[high] - work.price[low]
    if rise < FLAT:
        return OLDEST_S * STEP**-low
    age = OLDEST_S * STEP ** -(low + min(max((price - work.price[low]) / rise, 0.0), 1.0))
    step = (_price(work, spec, age) - price) / rise
    return age * STEP ** min(max(step, -1.0), 1.0)


@compiled
def _held_mib(work: WorkRecord, spec: VmSpecRecord, price: float) -> float:
    """Workload memory that a guest keeps at this price."""
    wanted, stays = tiers(work.wanted_mib), tiers(spec.tier_stays)
    untouched = 1.0 + tiers(spec.tier_rate_per_s) * stays * (0.5 * _age_s(work, spec, price))
    return total(wanted * (1.0 - tiers(spec.tier_gain) * tiers(spec.tier_leaves) * stays / (untouched * untouched)))


@compiled
def _most_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """The largest size that is of use to a VM: what lies above its limit would be swapped."""
    return min(spec.memory_mib, vm.limit_mib)


@compiled
def size_mib(vm: VmRecord, spec: VmSpecRecord, held_mib: float) -> float:
    """Memory size at which a guest holds so much of its workload, within its bounds."""
    size = held_mib + spec.kernel_mib + spec.kernel_cache_mib + spec.watermark_mib + LUMP_MIB
    size = max(size, max(spec.min_mib, spec.memory_mib - spec.balloon_cap_mib))
    return min(size, _most_mib(vm, spec)) if spec.balloons > 0.0 else _most_mib(vm, spec)


@compiled
def divide(vms, vm_specs, work, capacity_mib: float) -> None:  # type: ignore[no-untyped-def]
    """Size the VMs that run so that they add up to at most `capacity_mib`, for what each will want; rows ``[vm]``."""
    for v in range(len(vms)):
        _set_prices(work[v], vm_specs[v])
    low, high = CHEAPEST, DEAREST
    for _ in range(PRICE_STEPS):
        middle = 0.5 * (low + high)
        needed = 0.0
        for v in range(len(vms)):
            needed += vms[v].admitted * size_mib(vms[v], vm_specs[v], _held_mib(work[v], vm_specs[v], middle))
        if needed > capacity_mib:
            low = middle
        else:
            high = middle
    spare = capacity_mib
    headroom = 1e-9
    for v in range(len(vms)):
        work[v].size_mib = size_mib(vms[v], vm_specs[v], _held_mib(work[v], vm_specs[v], high))
        spare -= vms[v].admitted * work[v].size_mib
        headroom += vms[v].admitted * (_most_mib(vms[v], vm_specs[v]) - work[v].size_mib)
    for v in range(len(vms)):
        work[v].size_mib += min(max(spare, 0.0) / headroom, 1.0) * (_most_mib(vms[v], vm_specs[v]) - work[v].size_mib)
