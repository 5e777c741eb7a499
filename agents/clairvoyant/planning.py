"""What a clairvoyant may ask of a host: plans, each a rule that turns the true state and the demand to come into requests.

`HOLD` never reclaims, and leaves a VM that started small at the size that it has been asked to have. `SQUEEZE` divides a share of
RAM with the balloons (``dividing``), for the most that tiers will want within the horizon. `RECLAIM` has the host take of the
workloads' pages what has been idle for longest, first where it costs least: to do without a page that is touched at rate lambda
costs weight / parallelism times lambda a second, without one that will become hot within the horizon more, and a free page that
its guest is about to use costs a false read. It takes what would make the hypervisor swap by itself before the next decision
(and `free_mib` more), and no more. `YIELD` takes the same by balloons: a guest keeps room for what it holds, for what comes back
and for growth, less what is bought of it; its own kernel picks the pages. No plan counts on memory above a VM's own limit.

Beside a plan each VM has three tilts, logarithms of factors by which its memory, its operations on the disk and its traffic are
worth more than its weight says. Shares of disk and link are weight times those, where a plan sets them.

Any plan can keep VMs waiting until the working sets of all that run fit, those first that are worth most per MiB.
"""

import math
from typing import Any

import numpy as np

from hvgym.agents.clairvoyant.dividing import AGES, LUMP_MIB, OLDEST_S, STEP, WorkRecord, divide, size_mib
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.guest import activity, balloon
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.host import limits, states, victims
from hvgym.envs.model.params import TIERS, DemandRecord, HostSpecRecord, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import put, tiers, total

HOLD, SQUEEZE, RECLAIM, YIELD = range(4)

OWN = -1.0
"""In a plan: left as it is."""

PLAN = np.dtype(
    [
        ("kind", "i8"),
        ("reports", "f8"),  # 1: guests report free pages; `OWN`: as they do
        ("scan_pages_per_s", "f8"),  # rate of page sharing; `OWN`: as the hypervisor has it
        ("whole", "f8"),  # 1: so much stays free that large pages are not split
        ("horizon_s", "f8"),  # how far ahead demand counts
        ("shrink_mib_per_s", "f8"),  # fastest squeeze of one VM: a faster one floods the disk with swap writes
        ("fills", "f8"),  # share of RAM that working sets may take when a VM starts; 0: as the hypervisor has it
        ("capacity", "f8"),  # share of RAM that a squeeze divides
        ("free_mib", "f8"),  # kept free beyond what the hypervisor wants
        ("sizes", "f8"),  # 1: sets memory sizes; so are
        ("by_age", "f8"),  # reclaim by age, and not by the host's lists
        ("shares", "f8"),  # and shares of disk and link
    ],
    align=True,
)

WORK = np.dtype(
    [
        ("size_mib", "f8"),  # the answer: what the balloon shall leave,
        ("reclaim_mib", "f8"),  # what the host shall take,
        ("admit", "f8"),  # and 0 if the VM shall wait
        (
            "tilt",
            "f8",
        ),  # asked for by the plan: logarithms of what memory, disk and link are worth beyond the VM's weight
        ("disk_tilt", "f8"),
        ("net_tilt", "f8"),
        ("wanted_mib", "f8", (TIERS,)),  # scratch from here: the most that the workload will want
        ("need_per_s", "f8", (TIERS,)),  # how often a page of the tier will be needed
        ("offer_mib", "f8", (AGES,)),  # what the VM can give between one age and the next
        ("price", "f8", (AGES,)),  # what a MiB of that costs
        ("taken", "i8"),  # ages gone through
    ],
    align=True,
)

TILTS = ("tilt", "disk_tilt", "net_tilt")

PlanRecord = Any

BY_AGE_S = 1e-3
"""Any age above zero has the host sort pages by their accessed bits instead of as its lists have them."""

MARGIN_SHARE = 0.002
"""Of RAM, left unused by a squeeze (a guess)."""

WORKING_S = 600.0
"""What is touched within this time belongs to the working set (a guess)."""


@compiled
def _squeeze(vms, vm_specs, host_spec: HostSpecRecord, work, plan: PlanRecord, period_s: float) -> None:  # type: ignore[no-untyped-def]
    """Divide RAM, less what VMs that arrive within the horizon need to start, as far as it can be freed for them."""
    capacity = plan.capacity * ((1.0 - MARGIN_SHARE) * host_spec.ram_mib - host_spec.own_mib - host_spec.min_free_mib)
    least = 0.0
    for v in range(len(vms)):
        spec = vm_specs[v]
        capacity -= vms[v].admitted * spec.overhead_mib
        least += vms[v].admitted * max(spec.min_mib, spec.memory_mib - spec.balloon_cap_mib)
    for v in range(len(vms)):
        starts_with = vm_specs[v].startup_mib + vm_specs[v].overhead_mib
        if vms[v].admitted == 0.0 and vms[v].arrive_in_s <= plan.horizon_s and least + starts_with <= capacity:
            capacity -= starts_with
    divide(vms, vm_specs, work, capacity)
    for v in range(len(vms)):
        now = vm_specs[v].memory_mib - vms[v].balloon_mib
        work[v].size_mib = max(work[v].size_mib, now - plan.shrink_mib_per_s * period_s)


@compiled
def _set_needs(spec: VmSpecRecord, work: WorkRecord, demand, v: int, first: int, last: int, horizon_s: float) -> None:  # type: ignore[no-untyped-def]
    """How often a page of each tier will be needed: as it is touched, and when the workload moves it to a growing tier.

    What shrinks beyond a tick's growth is released, not moved (``guest.follow_demand``).
    """
    put(work.need_per_s, tiers(spec.tier_rate_per_s))
    for slot in range(first, last):
        before = tiers(demand[slot, v].tier_mib)
        change = tiers(demand[slot + 1, v].tier_mib) - before
        shrink = max(0.0 - change, 0.0)
        moved = min(min(total(max(change, 0.0)), total(shrink)), spec.growth_mib_per_s)
        if moved > 0.0:
            leave = shrink * (moved / total(shrink)) / max(before, guest.NEGLIGIBLE_MIB)
            put(work.need_per_s, tiers(work.need_per_s) + leave * (1.0 / horizon_s))


@compiled
def _set_offers(vm: VmRecord, spec: VmSpecRecord, work: WorkRecord, grows_in_s: float) -> None:
    """What a VM can give and at what price, oldest pages first; free ones come before all and make dear what follows."""
    unmerged, worth = victims.unmerged_share(vm), math.exp(work.tilt) * spec.weight / spec.fault_parallelism
    free = max(vm.free_backed_mib - vm.free_swapped_mib, 0.0)
    price = worth / grows_in_s if free > LUMP_MIB else 0.0
    age, given, cost = OLDEST_S, 0.0, 0.0
    for j in range(AGES):
        idle = activity.idle_pages_mib(vm, spec, age)
        older, dearer = total(idle), total(idle * tiers(work.need_per_s))
        if older > given + guest.NEGLIGIBLE_MIB:
            price = max(price, worth * (dearer - cost) / (older - given))
        work.offer_mib[j], work.price[j] = max(older - given, 0.0) * unmerged, price
        age, given, cost = age / STEP, older, dearer
    work.offer_mib[0] += free
    work.taken = 0


@compiled
def _short_mib(vms, vm_specs, host, host_spec, soon, plan: PlanRecord, period_s: float) -> float:  # type: ignore[no-untyped-def]
    """What must go so that the hypervisor need not swap by itself before the next decision; `soon` is the demand then."""
    free = host_spec.goal_free_mib + plan.free_mib
    if plan.whole > 0.0 and host_spec.large_state > 0.0:
        free = max(free, states.RISE * host_spec.state_mib[int(host_spec.large_state) - 1])
    for v in range(len(vms)):
        vm, spec = vms[v], vm_specs[v]
        if vm.admitted > 0.0:
            growth, back = _coming_mib(vm, spec, soon[v], period_s)
            free += growth + back
    return free - host.free_mib - host.cache_mib


@compiled
def _coming_mib(vm: VmRecord, spec: VmSpecRecord, soon: DemandRecord, period_s: float) -> tuple[float, float]:
    """What a VM will have before the next decision beyond what it has: memory that is new to it, and what comes back."""
    growth = total(tiers(soon.tier_mib)) - total(tiers(vm.allocated_mib))
    room = max(vm.limit_mib - limits.held_mib(vm, spec), 0.0)
    growth = min(min(max(growth, 0.0), spec.growth_mib_per_s * period_s), room)
    out = guest.missing_mib(vm) + tiers(vm.host_swapped_mib)
    back = total(out - guest.come_back(out, tiers(spec.tier_rate_per_s) * (vm.progress * period_s)))
    return growth, min(back, room - growth)


@compiled
def _yield(vms, vm_specs, soon, work, period_s: float) -> None:  # type: ignore[no-untyped-def]
    """Sizes at which guests give up what has been bought of them, and have room for what is coming to them."""
    for v in range(len(vms)):
        vm, spec = vms[v], vm_specs[v]
        growth = max(total(tiers(soon[v].tier_mib)) - total(tiers(vm.allocated_mib)), 0.0)
        missing = guest.missing_mib(vm)
        back = total(missing - guest.come_back(missing, tiers(spec.tier_rate_per_s) * (vm.progress * period_s)))
        holds = total(tiers(vm.resident_mib)) + total(missing) * spec.zram_stored_share
        growth = min(growth, spec.growth_mib_per_s * period_s)
        work[v].size_mib = size_mib(vm, spec, holds + growth + back - work[v].reclaim_mib)
        work[v].reclaim_mib = 0.0


@compiled
def _grows_in_s(vm: VmRecord, demand, v: int, first: int, last: int, slot_s: int) -> float:  # type: ignore[no-untyped-def]
    """When the workload will want more than it has; never, if not within the horizon."""
    for slot in range(first, last):
        if total(tiers(demand[slot, v].tier_mib)) > total(tiers(vm.allocated_mib)) + 1.0:
            return (slot - first) * slot_s + 1.0
    return math.inf


@compiled
def _reclaim(vms, vm_specs, work, short: float) -> None:  # type: ignore[no-untyped-def]
    """Buy what is short where it is cheapest, step by step."""
    while short > 0.0:
        lowest, seller = math.inf, -1
        for v in range(len(vms)):
            if vms[v].admitted > 0.0 and work[v].taken < AGES and work[v].price[work[v].taken] < lowest:
                lowest, seller = work[v].price[work[v].taken], v
        if seller < 0:
            return
        bought = min(work[seller].offer_mib[work[seller].taken], short)
        work[seller].reclaim_mib += bought
        work[seller].taken += 1
        short -= bought


@compiled
def _working_set_mib(spec: VmSpecRecord, demand, v: int, first: int) -> float:  # type: ignore[no-untyped-def]
    """The most that a VM will touch within `WORKING_S` from a slot on, with what it costs to run it."""
    touched = 1.0 - guest.decay(tiers(spec.tier_rate_per_s) * WORKING_S)
    most = 0.0
    for slot in range(first, demand.shape[0]):
        most = max(most, total(tiers(demand[slot, v].tier_mib) * touched))
    return most + spec.kernel_mib + spec.overhead_mib


@compiled
def _admit(vms, vm_specs, host_spec: HostSpecRecord, demand, first: int, work, fills: float) -> None:  # type: ignore[no-untyped-def]
    """Let those start whose working sets fit beside the others', in the order of what a MiB of them is worth."""
    room = fills * (host_spec.ram_mib - host_spec.own_mib - host_spec.goal_free_mib)
    for v in range(len(vms)):
        work[v].size_mib = _working_set_mib(vm_specs[v], demand, v, first)
        work[v].admit = vms[v].admitted
        room -= work[v].size_mib * vms[v].admitted
    for _ in range(len(vms)):
        most, chosen = 0.0, -1
        for v in range(len(vms)):
            worth = vm_specs[v].weight / work[v].size_mib
            if work[v].admit == 0.0 and work[v].size_mib <= room and worth > most:
                most, chosen = worth, v
        if chosen < 0:
            return
        work[chosen].admit = 1.0
        room -= work[chosen].size_mib


@compiled
def _size(vms, vm_specs, host, host_spec, demand, clock_s, slot_s, plan, period_s, work) -> None:  # type: ignore[no-untyped-def]
    """Squeeze or reclaim in one environment."""
    slots = demand.shape[0] - 1
    first, last = min(clock_s // slot_s, slots), min((clock_s + int(plan.horizon_s)) // slot_s, slots)
    for v in range(len(vms)):
        wanted = tiers(demand[first, v].tier_mib)
        for slot in range(first + 1, last + 1):
            wanted = max(wanted, tiers(demand[slot, v].tier_mib))
        put(work[v].wanted_mib, wanted)
    if plan.kind == SQUEEZE:
        _squeeze(vms, vm_specs, host_spec, work, plan, period_s)
        return
    soon = demand[min((clock_s + int(period_s)) // slot_s, slots)]
    short = _short_mib(vms, vm_specs, host, host_spec, soon, plan, period_s)
    if plan.kind == YIELD:  # a balloon takes what is free before it takes anything else
        for v in range(len(vms)):
            short -= vms[v].admitted * max(vms[v].free_backed_mib - vms[v].free_swapped_mib - LUMP_MIB, 0.0)
    for v in range(len(vms)):
        work[v].size_mib = size_mib(vms[v], vm_specs[v], total(tiers(work[v].wanted_mib)))
        if short > 0.0:
            _set_needs(vm_specs[v], work[v], demand, v, first, last, plan.horizon_s)
            _set_offers(vms[v], vm_specs[v], work[v], _grows_in_s(vms[v], demand, v, first, last, slot_s))
            if plan.kind == YIELD:
                work[v].offer_mib[0] -= max(vms[v].free_backed_mib - vms[v].free_swapped_mib, 0.0)
    _reclaim(vms, vm_specs, work, short)
    if plan.kind == YIELD:
        _yield(vms, vm_specs, soon, work, period_s)


@compiled
def decide_one(  # type: ignore[no-untyped-def]
    vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s: int, plan, period_s: float, work
) -> None:
    """Fill the answers in `work` ``[vm]`` for one environment by its plan; the rest as in `HiddenState`, without the first axis."""
    for v in range(vms.shape[0]):
        work[v].admit = 1.0
    if plan.fills > 0.0 and hosts[0].waiting > 0.0:
        first = min(clock_s // slot_s, demand.shape[0] - 1)
        _admit(vms, vm_specs, host_specs[0], demand, first, work, plan.fills)
    for v in range(vms.shape[0]):
        small = plan.kind == HOLD and vm_specs[v].starts_small > 0.0
        work[v].size_mib = vms[v].asked_mib if small else vm_specs[v].memory_mib
        work[v].reclaim_mib = 0.0
    if plan.kind != HOLD:
        _size(vms, vm_specs, hosts[0], host_specs[0], demand, clock_s, slot_s, plan, period_s, work)


@compiled
def decide(vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s: int, plans, period_s: float, work) -> None:  # type: ignore[no-untyped-def]
    """Fill the answers in `work` ``[env, vm]``, each environment by its plan, ``[env]``; the rest as in `HiddenState`."""
    for e in range(vms.shape[0]):
        decide_one(
            vms[e], hosts[e], vm_specs[e], host_specs[e], demand[e], clock_s[e], slot_s, plans[e], period_s, work[e]
        )  # fmt: skip


@compiled
def apply_one(vms, hosts, vm_specs, host_specs, plan, work) -> None:  # type: ignore[no-untyped-def]
    """Carry answers into one environment's state, as a simulator would (``envs.simulator.Simulator.apply``)."""
    asks = 0.0
    for v in range(vms.shape[0]):
        vm, spec, answer = vms[v], vm_specs[v], work[v]
        if plan.sizes > 0.0:
            vm.asked_mib = min(max(answer.size_mib, spec.min_mib), spec.memory_mib)
        vm.reclaim_mib, vm.reclaim_age_s, vm.may_start = answer.reclaim_mib, plan.by_age * BY_AGE_S, answer.admit
        if plan.reports != OWN:
            spec.reporting_share_per_s = plan.reports * balloon.REPORTED_PER_S
        if plan.shares > 0.0:
            vm.disk_shares, vm.net_shares = (
                spec.weight * math.exp(answer.disk_tilt),
                spec.weight * math.exp(answer.net_tilt),
            )
        asks = max(asks, answer.reclaim_mib)
    for h in range(hosts.shape[0]):
        hosts[h].reclaims = 1.0 if asks > 0.0 else 0.0
        scan = plan.scan_pages_per_s
        hosts[h].scan_pages_per_s = host_specs[h].scan_pages_per_s if scan == OWN else scan
        if plan.shares > 0.0:
            hosts[h].divides_disk = hosts[h].divides_net = 1.0


@compiled
def apply(vms, hosts, vm_specs, host_specs, plans, work) -> None:  # type: ignore[no-untyped-def]
    """`apply_one` for every environment."""
    for e in range(vms.shape[0]):
        apply_one(vms[e], hosts[e], vm_specs[e], host_specs[e], plans[e], work[e])
