"""Whether a simulated host still makes sense: every number finite, every MiB somewhere, none twice, no work done unasked.

Looked at once an episode (``bench.rollout``): a result of a state that does not hold is worth nothing.
"""

from collections.abc import Iterator

import numpy as np

from hvgym.envs.backends import AnySimulator

TOLERANCE_MIB = 1e-3
"""Rounding of an hour comes to 1e-10; what a mechanism creates or loses grows with every tick."""

TOLERANCE_S = 1e-6
"""Rounding of a day's seconds comes to 1e-11."""

MAY_BE_INFINITE = ("heap_time", "full_pause_s", "unqueued_s", "limit_mib")
"""Times of what never gets done, and the limit of a VM that has none."""

_BALANCES = (
    "free_backed_mib",
    "free_deflated_mib",
    "free_untouched_mib",
    "balloon_mib",
    "free_swapped_mib",
    "boot_swapped_mib",
)


def fault(sim: AnySimulator) -> tuple[int, str] | None:
    """The first lane whose state does not hold, and what is wrong with it; None when all is well."""
    for wrong, what in _checks(sim):
        if wrong.any():
            return int(np.argmax(wrong)), what
    return None


def _checks(sim: AnySimulator) -> Iterator[tuple[np.ndarray, str]]:
    """Of each law the lanes ``[env]`` that break it."""
    yield from _numbers(sim.vms, "vm")
    yield from _numbers(sim.hosts, "host")
    for name in _BALANCES:
        yield _lanes(sim.vms[name] < -TOLERANCE_MIB), f"{name} of a VM is below 0"
    yield _lanes(sim.vms["progress_s"] > sim.vms["asked_s"] + TOLERANCE_S), "a VM did more work than it was asked for"
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


def _guest_mib(sim: AnySimulator) -> np.ndarray:
    """What a guest's memory is made of, ``[env, vm]``; of what it swaps, zram keeps a part."""
    vm, spec = sim.vms, sim.vm_specs
    free = vm["free_backed_mib"] + vm["free_deflated_mib"] + vm["free_untouched_mib"]
    held = spec["kernel_mib"] + vm["resident_mib"].sum(axis=2) + _pool_mib(vm, spec)
    return np.asarray(held + vm["balloon_mib"] + free)


def _used_mib(sim: AnySimulator) -> np.ndarray:
    """Host memory of a VM, ``[env, vm]``: added up here from its parts, for signals tell only what an operator can read."""
    vm, spec = sim.vms, sim.vm_specs
    committed = spec["memory_mib"] - vm["balloon_mib"] - vm["free_swapped_mib"]
    here = (vm["resident_mib"] - vm["host_swapped_mib"]).sum(axis=2) - vm["shared_mib"] + _pool_mib(vm, spec)
    touched = spec["kernel_mib"] + vm["free_backed_mib"] - vm["free_swapped_mib"] + here
    touched -= vm["boot_swapped_mib"]
    touched += vm["zipped_mib"] * spec["zip_stored_share"]
    used = np.where(spec["committed"] > 0.0, committed, touched) + spec["overhead_mib"]
    return np.asarray(np.where(vm["admitted"] > 0.0, used, 0.0))


def _pool_mib(vm: np.ndarray, spec: np.ndarray) -> np.ndarray:
    """Guest memory in which zram keeps what it has swapped, ``[env, vm]``."""
    missing = vm["allocated_mib"] - vm["resident_mib"]
    return np.asarray((missing * (1.0 - spec["tier_gain"])).sum(axis=2))


def _host_mib(sim: AnySimulator) -> np.ndarray:
    """What hosts' RAM is made of, ``[env, host]``; what copies hold is the hosts' own."""
    host, spec = sim.hosts, sim.host_specs
    used = sim.on_hosts(_used_mib(sim)) + spec["own_mib"] + host["free_mib"] + host["cache_mib"]
    return np.asarray(used + host["swap_used_mib"] * spec["swap_stored_share"])
