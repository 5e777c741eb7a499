"""Which pages a host takes when it must: at random, or by the accessed bits of its VMs' pages, as its lists have them.

Modelled. Of a tier touched at rate lambda per page, 1 / (1 + Q) is out in the long run, Q = x (1 + a x + b x^2), x = lambda T, T
the age at which pages leave: one for all VMs of a host (all lists are scanned at the same share of their length per second),
another for a VM that a limit of its own holds. The hazard that keeps it so is lambda / Q = 1 / (T (1 + a x + b x^2)).
 - `random`: a = b = 0, every page alike, whatever its age (Gelenbe). ESXi, on purpose.
 - `two_lists`: a page leaves after it has gone untouched through two stages, the active and the inactive list, each of which
   takes an exponential time of mean T / 2: 1 + Q = (1 + x / 2)^2, a = 1/4. It is what ``guest.memory`` says of a Linux guest, and
   was measured there; a host sees the same bits, its own and, through KVM, those of EPT.
 - `mglru`: three stages, 1 + Q = (1 + x / 3)^3, a = 1/3, b = 1/27: the two youngest generations are kept (MIN_NR_GENS), the third
   is evicted. A walk of all page tables begins each generation and moves what was touched to the youngest. That three stages of
   random length stand for it is a guess; no measurement on VMs is known that would tell three from four.
 - `mglru_before_6_12`: these walks did not clear the bits in EPT. Guest pages go through the generations whether they are touched
   or not and are looked at once, when they are about to leave, by a bit that says only "at some time since the last such look".
   A look is better than none and worse than two: a = 0.1, a guess (within the usual q = 0.6-0.9 between RANDOM and LRU).

Lists remember, as in ``guest.memory``: nothing that is still there has been idle for longer than A, which grows by a second a
second and falls to T when pages leave. Where reclaim must reach T below A, what has been idle for longer goes first: of each tier
the share 1 - g(T) / g(A), with g = Q / (1 + Q) the share that has been idle for less. So a host that is pressed after a while takes
what nobody has touched for hours, of whichever VM, before what was used a second ago. At a steady T nothing goes so. Random victims
have no age. A guest that reclaims for itself has nothing older than its own oldest page.

Free guest pages that the host still backs look like pages that nobody touches.

Left out: ages of single pages (new ones count as old as their tier's), time for which a VM stood still, the first pass after a
long calm (in which every page that was touched since the last one looks young), CPU time of scans and walks, the share of
anonymous and file pages, and that other memory of the host suffers in favour of VMs before 6.12.

Sources: Waldspurger (OSDI 2002, 3.3) for random victims; Linux's folio_referenced, which asks KVM's notifier at eviction;
Documentation/mm/multigen_lru.rst; commit 1d4832becdc2 ("use {ptep,pmdp}_clear_young_notify()": in 6.12 and 6.11.7, it did not
apply to 6.6 and 6.1), whose series measured a tab of ChromeOS beside a VM to open in 1.12 s with it, 2.56 s without, and 1.32 s
with two lists: the order in which these choose.
"""

from typing import NamedTuple

from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.params import HostSpecRecord, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import Tiers, put, tiers, total


class Law(NamedTuple):
    """How a host chooses: whether it knows ages, and a and b of its long run."""

    knows_ages: float
    a: float
    b: float


LAWS = {
    "random": Law(0.0, 0.0, 0.0),
    "two_lists": Law(1.0, 1 / 4, 0.0),
    "mglru": Law(1.0, 1 / 3, 1 / 27),
    "mglru_before_6_12": Law(1.0, 0.1, 0.0),
}

YOUNGEST_S, OLDEST_S = 1e-9, 1e12
"""At the first age everything leaves, at the second nothing."""

FREE_RATE_PER_S = 1e-7
"""Free guest pages are all but never touched; a positive rate keeps the fixed point continuous."""

TOLERANCE = 0.01
"""The search for T ends with this much more than is wanted; no more than that is then taken, of all alike."""

ALMOST = 1.0 - 1e-9

MAX_SEARCH = 30


@compiled
def here_mib(vm: VmRecord) -> float:
    """Guest memory of this VM's workload in host RAM, merged pages counted as if they were not."""
    return total(tiers(vm.resident_mib) - tiers(vm.host_swapped_mib))


@compiled
def unmerged_share(vm: VmRecord) -> float:
    """Share of a VM's memory in RAM that is not merged; merged pages are not swapped."""
    here = here_mib(vm)
    return max(1.0 - vm.shared_mib / here, 0.0) if here > guest.NEGLIGIBLE_MIB else 0.0


@compiled
def lingering(host_spec: HostSpecRecord, x: Tiers) -> Tiers:
    """How much longer than an untouched page one stays that is touched x times in that time: 1 + a x + b x^2."""
    return 1.0 + x * (host_spec.victims_a + x * host_spec.victims_b)


@compiled
def out_share(host_spec: HostSpecRecord, rate_per_s: Tiers, age_s: float) -> Tiers:
    """Share of pages that are out in the long run when the untouched leave at this age."""
    x = rate_per_s * age_s
    return 1.0 / (1.0 + x * lingering(host_spec, x))


@compiled
def _staying(host_spec: HostSpecRecord, rate_per_s: Tiers, age_s: float, known_s: float, calm_s: float):  # type: ignore[no-untyped-def]
    """Share of pages that stay when the host reaches `age_s`, and its derivative by that; of a tier or of all of them.

    None is older than `known_s` + `calm_s`, the seconds since pages left: for as long the hazard acts, and what lies between
    `age_s` and `known_s` goes at once.
    """
    x = rate_per_s * age_s
    linger = lingering(host_spec, x)
    rise = 1.0 + x * (2.0 * host_spec.victims_a + x * (3.0 * host_spec.victims_b))
    hazard = 1.0 / (linger * age_s)
    stay = guest.decay(hazard * calm_s)
    slope = hazard * hazard * rise * stay * calm_s
    if age_s <= known_s:
        known = rate_per_s * known_s
        known_linger = lingering(host_spec, known)
        once = 1.0 / (1.0 + x * linger)
        scale = once * (1.0 + known * known_linger) / (known_linger * known_s)
        younger = linger * scale * age_s
        slope = slope * younger + stay * rise * once * scale
        stay = stay * younger
    return stay, slope


@inlined
def leaving(vm: VmRecord, spec: VmSpecRecord, host_spec: HostSpecRecord, age_s: float, known_s: float, calm_s: float):  # type: ignore[no-untyped-def]
    """What leaves of a VM when the host reaches `age_s` (see `_staying`): MiB of each tier, MiB of free pages, and by how much
    all of it falls as the age rises; at random, all there is.

    Of guest kernel and process only what they have not touched since they booted leaves, and before all this
    (``overcommit.swap_boot_only``).
    """
    if vm.admitted == 0.0 or spec.committed > 0.0:
        return 0.0 * tiers(vm.resident_mib), 0.0, 0.0
    pages = (tiers(vm.resident_mib) - tiers(vm.host_swapped_mib)) * unmerged_share(vm)
    free = vm.free_backed_mib - vm.free_swapped_mib
    if host_spec.victims_know_ages == 0.0:
        return pages, free, 0.0
    stay, slope = _staying(host_spec, tiers(spec.tier_rate_per_s), age_s, min(known_s, vm.oldest_s), calm_s)
    free_stay, free_slope = _staying(host_spec, FREE_RATE_PER_S, age_s, known_s, calm_s)
    return pages * (1.0 - stay), free * (1.0 - free_stay), total(pages * slope) + free * free_slope


@compiled
def _all_leaving(vms, vm_specs, host_spec: HostSpecRecord, age_s: float, known_s: float, calm_s: float):  # type: ignore[no-untyped-def]
    """MiB that leave of the VMs of the host, each VM's left in ``leaving_mib``, and by how much they fall as the age rises."""
    mib = slope = 0.0
    for v in range(len(vms)):
        pages, free, falls = leaving(vms[v], vm_specs[v], host_spec, age_s, known_s, calm_s)
        put(vms[v].leaving_mib, pages)
        vms[v].free_leaving_mib = free
        mib += total(pages) + free
        slope += falls
    return mib, slope


@compiled
def _there_mib(vms, vm_specs) -> float:  # type: ignore[no-untyped-def]
    """All that the host might take."""
    mib = 0.0
    for v in range(len(vms)):
        if vms[v].admitted > 0.0 and vm_specs[v].committed == 0.0:
            mib += here_mib(vms[v]) * unmerged_share(vms[v]) + vms[v].free_backed_mib - vms[v].free_swapped_mib
    return mib


@compiled
def find_age(vms, vm_specs, host_spec: HostSpecRecord, known_s: float, calm_s: float, wanted_mib: float):  # type: ignore[no-untyped-def]
    """The greatest age that the host must reach so that `wanted_mib` leave, and what leaves then: as much, up to 1 % more or
    whatever more has come of age since. Which pages these are is left with each VM (`_all_leaving`).

    Newton in the age where ages are known, for what leaves is all but linear in it; in its inverse beyond, for it goes with that.
    """
    age_s = known_s + calm_s
    mib, slope = _all_leaving(vms, vm_specs, host_spec, age_s, known_s, calm_s)
    if mib >= wanted_mib or host_spec.victims_know_ages == 0.0:
        return age_s, mib
    if wanted_mib >= ALMOST * _there_mib(vms, vm_specs):
        _all_leaving(vms, vm_specs, host_spec, YOUNGEST_S, known_s, calm_s)
        return YOUNGEST_S, wanted_mib
    low, high, aim = YOUNGEST_S, age_s, (1.0 + TOLERANCE) * wanted_mib
    for _ in range(MAX_SEARCH):
        low, high = (age_s, high) if mib > aim else (low, age_s)
        step = (mib - aim) / max(slope * age_s, 1e-9 * aim)
        age_s = age_s * (1.0 + max(step, -0.9)) if age_s <= known_s else age_s / (1.0 - min(step, 0.9))
        if not low < age_s < high:
            age_s = (low * high) ** 0.5
        mib, slope = _all_leaving(vms, vm_specs, host_spec, age_s, known_s, calm_s)
        if abs(mib - aim) <= TOLERANCE * wanted_mib:
            break
    return age_s, mib


@compiled
def aged(age_s: float, known_s: float, calm_s: float, share: float):  # type: ignore[no-untyped-def]
    """`known_s` and `calm_s` after the `share` of what had reached `age_s` left: seconds that reclaim has not caught up with
    remain, for as much is older."""
    left_s = calm_s * (1.0 - share) if age_s >= known_s + calm_s else 0.0
    return age_s - left_s, left_s
