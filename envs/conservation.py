"""Whether a simulated host still makes sense: every number finite, every MiB somewhere, none twice.

Looked at once an episode (``bench.rollout``): a result of a state that does not hold is worth nothing.
"""

from collections.abc import Iterator

import numpy as np

from hvgym.envs.simulator import Simulator

TOLERANCE_MIB = 1e-3
"""Rounding of an hour comes to 1e-10; what a mechanism creates or loses grows with every tick."""

MAY_BE_INFINITE = ("heap_time", "full_pause_s", "unqueued_s")
"""Times of what never gets done."""

_BALANCES = ("free_backed_mib", "free_deflated_mib", "free_untouched_mib", "balloon_mib", "free_swapped_mib")


def fault(sim: Simulator) -> tuple[int, str] | None:
    """The first lane whose state does not hold, and what is wrong with it; None when all is well."""
    for wrong, what in _checks(sim):
        if wrong.any():
            return int(np.argmax(wrong)), what
    return None


def _checks(sim: Simulator) -> Iterator[tuple[np.ndarray, str]]:
    """Of each law the lanes ``[env]`` that break it."""
    yield from _numbers(sim.vms, "vm")
    yield from _numbers(sim.hosts, "host")
    for name in _BALANCES:
        yield _lanes(sim.vms[name] < -TOLERANCE_MIB), f"{name} of a VM is below 0"
    off = np.abs(_guest_mib(sim) - sim.vm_specs["memory_mib"]) > TOLERANCE_MIB
    yield _lanes(off & (sim.vms["admitted"] > 0.0)), "memory of a guest does not add up to its size"
    off = np.abs(_host_mib(sim) - sim.host_specs["ram_mib"]) > TOLERANCE_MIB
    yield _lanes(off), "memory of the host does not add up to its RAM"


def _numbers(rows: np.ndarray, of: str) -> Iterator[tuple[np.ndarray, str]]:
    for name in rows.dtype.names or ():
        wrong = np.isnan(rows[name]) if name in MAY_BE_INFINITE else ~np.isfinite(rows[name])
        yield _lanes(wrong), f"{name} of a {of} is not finite"


def _lanes(wrong: np.ndarray) -> np.ndarray:
    """Lanes in which anything is wrong."""
    return np.asarray(wrong.reshape(len(wrong), -1).any(axis=1))


def _guest_mib(sim: Simulator) -> np.ndarray:
    """What a guest's memory is made of, ``[env, vm]``; of what it swaps, zram keeps a part."""
    vm, spec = sim.vms, sim.vm_specs
    free = vm["free_backed_mib"] + vm["free_deflated_mib"] + vm["free_untouched_mib"]
    pool = ((vm["allocated_mib"] - vm["resident_mib"]) * (1.0 - spec["tier_gain"])).sum(axis=2)
    return np.asarray(spec["kernel_mib"] + vm["resident_mib"].sum(axis=2) + pool + vm["balloon_mib"] + free)


def _host_mib(sim: Simulator) -> np.ndarray:
    """What hosts' RAM is made of, ``[env, host]``."""
    host, spec = sim.hosts, sim.host_specs
    used = sim.on_hosts(sim.vm_signals["resident_mib"]) + spec["own_mib"] + host["free_mib"] + host["cache_mib"]
    return np.asarray(used + host["swap_used_mib"] * spec["swap_stored_share"])
