"""Synthetic demand: working-set phases, bursts and correlated groups, drawn by counter.

Modelled. A VM's anonymous memory keeps its total while the hot part of it changes: from phase to phase by a uniform
factor, and in bursts that turn cold pages hot (and allocate what the cold tier cannot give). One burst falls into
each window with probability 0.8, at a uniform place, with log-normal length. VMs of one group share each window's
draws with the group's correlation, so rises are clumped. I/O is 8 times the mean during a burst and 4 times in the
slot before.

The shape follows data-centre traces (Bitbrains GWA-T-12: bursts of 10-40 min, heavy-tailed, clumped by sibling groups
at correlation 0.9, I/O up 5-10 times at the burst and 3-7 times in the slot before). Levels
and periods are the scenario's; the burst probability and the log-normal's sigma are guesses.

Left out: daily cycles (they explain 2-4 % of a median VM's variance in those traces), slow ramps, restarts.
"""

import math

import numpy as np

from hvgym.envs.model import rng
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import CACHE, COLD, HOT, TIERS, WARM, DemandRecord, VmSpecRecord

PATTERN = np.dtype(
    [
        ("hot_mib", "f8"),
        ("warm_mib", "f8"),
        ("cold_mib", "f8"),
        ("cache_mib", "f8"),
        ("phase_s", "f8"),
        ("phase_swing", "f8"),  # hot memory varies by +- this share from phase to phase
        ("burst_mib", "f8"),  # mean size of a burst; 0 is none
        ("burst_every_s", "f8"),  # length of a window with at most one burst
        ("burst_length_s", "f8"),  # median
        ("group", "i8"),  # -1: none
        ("group_correlation", "f8"),
        ("cpu_share", "f8"),
        ("disk_mib_per_s", "f8"),
        ("net_mib_per_s", "f8"),
        ("heap", "f8"),  # 1: hot and warm memory are a JVM's heap, within which it changes
    ],
    align=True,
)
"""What a scenario says about one VM's demand, ``[env, vm]``."""

BURST_PROBABILITY = 0.8
BURST_SIGMA = 0.7
BURST_IO, BEFORE_BURST_IO = 8.0, 4.0
GROUP_KEY = 1 << 20
"""Key of a group's draws, beyond any VM index."""


@compiled
def _normal(seed: int, stream: int, vm: int, index: int) -> float:
    """Standard normal draw (Box and Muller)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - rng.uniform(seed, stream, vm, 2 * index)))
    return radius * math.cos(2.0 * math.pi * rng.uniform(seed, stream, vm, 2 * index + 1))


@compiled
def _burst(pattern, seed: int, vm: int, time_s: float) -> float:  # type: ignore[no-untyped-def]
    """Extra hot memory at this time, MiB."""
    if pattern.burst_mib <= 0.0:
        return 0.0
    window = int(time_s // pattern.burst_every_s)
    key = vm
    if pattern.group >= 0 and rng.uniform(seed, rng.STREAM_GROUP, vm, window) < pattern.group_correlation:
        key = GROUP_KEY + pattern.group
    if rng.uniform(seed, rng.STREAM_BURST, key, window) >= BURST_PROBABILITY:
        return 0.0
    length = pattern.burst_length_s * math.exp(BURST_SIGMA * _normal(seed, rng.STREAM_BURST_SIZE, key, window))
    length = min(length, 0.9 * pattern.burst_every_s)
    begin = (pattern.burst_every_s - length) * rng.uniform(seed, rng.STREAM_BURST_START, key, window)
    since = time_s - window * pattern.burst_every_s - begin
    if since < 0.0 or since >= length:
        return 0.0
    return pattern.burst_mib * (0.5 + rng.uniform(seed, rng.STREAM_IO, key, window))


@compiled
def _phase_factor(pattern, seed: int, vm: int, time_s: float) -> float:  # type: ignore[no-untyped-def]
    """Level of the hot set in the phase that covers this time; phases of different VMs do not coincide."""
    offset = rng.uniform(seed, rng.STREAM_PHASE, vm, -1) * pattern.phase_s
    phase = int((time_s + offset) // pattern.phase_s)
    return 1.0 + pattern.phase_swing * (2.0 * rng.uniform(seed, rng.STREAM_PHASE, vm, phase) - 1.0)


@compiled
def fit(demand: DemandRecord, spec: VmSpecRecord) -> None:
    """Cut a demand to what the guest could hold with no balloon: page cache gives way first, then all alike."""
    most = spec.memory_mib - spec.kernel_mib - spec.kernel_cache_mib - spec.watermark_mib
    wanted = 0.0
    for k in range(TIERS):
        wanted += demand.tier_mib[k]
    if wanted <= most:
        return
    cut = min(wanted - most, demand.tier_mib[CACHE])
    demand.tier_mib[CACHE] -= cut
    if wanted - cut > most:
        for k in range(TIERS):
            demand.tier_mib[k] *= most / (wanted - cut)


@compiled
def fill(demands, patterns, vm_specs, seed: int, slot_s: float) -> None:  # type: ignore[no-untyped-def]
    """Write the whole demand of one environment: demands ``[slot, vm]`` from patterns, vm_specs ``[vm]``."""
    for slot in range(demands.shape[0]):
        for v in range(demands.shape[1]):
            pattern = patterns[v]
            demand = demands[slot, v]
            burst = _burst(pattern, seed, v, slot * slot_s)
            hot = pattern.hot_mib * _phase_factor(pattern, seed, v, slot * slot_s) + burst
            anonymous = pattern.hot_mib + pattern.warm_mib + pattern.cold_mib
            demand.tier_mib[HOT] = hot
            demand.tier_mib[WARM] = pattern.warm_mib
            if pattern.heap > 0.0:
                demand.tier_mib[WARM] = max(pattern.warm_mib + pattern.hot_mib - hot, 0.0)
                demand.tier_mib[COLD] = pattern.cold_mib
            else:
                demand.tier_mib[COLD] = max(anonymous - hot - pattern.warm_mib, 0.0)
            demand.tier_mib[CACHE] = pattern.cache_mib
            busy = 1.0
            if burst > 0.0:
                busy = BURST_IO
            elif _burst(pattern, seed, v, (slot + 1) * slot_s) > 0.0:
                busy = BEFORE_BURST_IO
            demand.cpu_share = min(pattern.cpu_share * math.sqrt(busy), 1.0)
            demand.disk_mib_per_s = pattern.disk_mib_per_s * busy
            demand.net_mib_per_s = pattern.net_mib_per_s * busy
            fit(demand, vm_specs[v])
