"""What learners see of hosts and VMs of a cluster beside what the stack says (``cluster_features``), and how numbers are taken.

Observation, float32, per host then per VM, every entry in [-1, 1]: sizes as shares of the VM's configured memory (or
of the host's RAM), rates as log(1 + MiB/s) / 8 from the difference of two readings of a cumulative counter. A signal
that is missing reads 0 and its mask reads 0. Scales are fixed constants: they belong to the environment, not to a
trained model. A host alone has a view with averages (``view``).

Action, float32 in [-1, 1] per VM: -1 asks for the VM's guaranteed minimum, +1 for its configured size. Numbers of any
kind are taken and held within; another shape and NaN are refused.
"""

import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from hvgym.envs.model.compiled import compiled, entry, inlined
from hvgym.envs.telemetry import Telemetry

HOST_FEATURES = ("available", "swap_used", "swap_in_rate", "swap_out_rate", "disk_utilisation", "cpu_utilisation")
VM_FEATURES = (
    "memory_share",
    "min_share",
    "size",
    "target",
    "resident",
    "host_swap",
    "host_swap_in_rate",
    "disk_rate",
    "cpu_rate",
    "critical",
    "reports",
    "guest_free",
    "guest_available",
    "guest_caches",
    "guest_swap_in_rate",
    "guest_swap_out_rate",
)

SIGNALS_OF_FEATURES = {
    "reports": "guest_free_mib",
    "guest_free": "guest_free_mib",
    "guest_available": "guest_available_mib",
    "guest_caches": "guest_caches_mib",
    "guest_swap_in_rate": "guest_swap_in_mib",
    "guest_swap_out_rate": "guest_swap_out_mib",
    "size": "size_mib",
    "target": "target_mib",
}
"""Features of a VM that not every seat of a hypervisor has (``seats``), by the signal that they need."""

OBSERVED = frozenset(SIGNALS_OF_FEATURES.values()) | {
    "memory_mib", "min_mib", "critical", "resident_mib", "host_swap_mib", "host_swap_in_mib", "disk_mib", "cpu_s",
    "host.total_mib", "host.available_mib", "host.swap_total_mib", "host.swap_used_mib", "host.swap_in_mib", "host.swap_out_mib",
    "host.disk_utilisation", "host.cpu_utilisation",
}  # fmt: skip
"""All signals that an observation is made of."""

RATE_SCALE = 8.0
"""log(1 + 2980 MiB/s) is 8: more than any disk of a scenario moves."""

_FLOAT32 = np.dtype(np.float32)

_LOG_2 = math.log(2.0)
_SQRT_HALF = int(np.float64(math.sqrt(0.5)).view(np.int64))


def missing_features(signals: Collection[str], vms: int, hosts: int = 1) -> np.ndarray:
    """Entries of an observation, bool ``[feature]``, that read 0 where only these signals are there."""
    lacking = [name in SIGNALS_OF_FEATURES and SIGNALS_OF_FEATURES[name] not in signals for name in VM_FEATURES]
    return np.concatenate([np.zeros(hosts * len(HOST_FEATURES), np.bool_), np.tile(lacking, vms)])


def observation_size(vms: int, hosts: int = 1) -> int:
    """Length of an observation."""
    return hosts * len(HOST_FEATURES) + vms * len(VM_FEATURES)


@compiled
def _share(part: float, whole: float) -> float:
    if math.isnan(part):
        return 0.0
    return min(max(part / whole, 0.0), 1.0)


@compiled
def _log(x: float) -> float:
    """Natural logarithm of x >= 1 to 1e-10, without libm: the exponent from the bits, a series for the rest."""
    bits = np.float64(x).view(np.int64)
    exponent = (bits - _SQRT_HALF) >> 52
    part = np.int64(bits - (exponent << 52)).view(np.float64)
    t = (part - 1.0) / (part + 1.0)
    t2 = t * t
    return exponent * _LOG_2 + 2.0 * t * (
        1.0 + t2 * (1 / 3 + t2 * (1 / 5 + t2 * (1 / 7 + t2 * (1 / 9 + t2 * (1 / 11)))))
    )


@compiled
def _rate(now: float, before: float, seconds: float) -> float:
    gone_by = now - before
    if not gone_by > 0.0:  # nor where it is missing
        return 0.0
    return min(_log(1.0 + gone_by / seconds) / RATE_SCALE, 1.0)


@compiled
def _observe_host(now, before, seconds, out) -> None:  # type: ignore[no-untyped-def]
    out[0] = _share(now.available_mib, now.total_mib)
    out[1] = _share(now.swap_used_mib, now.swap_total_mib + 1e-9)
    out[2] = _rate(now.swap_in_mib, before.swap_in_mib, seconds)
    out[3] = _rate(now.swap_out_mib, before.swap_out_mib, seconds)
    out[4] = now.disk_utilisation
    out[5] = now.cpu_utilisation


@inlined
def _observe_vm(now, before, ram_mib, seconds, out) -> None:  # type: ignore[no-untyped-def]
    memory = now.memory_mib
    out[0] = _share(memory, ram_mib)
    out[1] = _share(now.min_mib, memory)
    out[2] = _share(now.size_mib, memory)
    out[3] = _share(now.target_mib, memory)
    out[4] = _share(now.resident_mib, memory)
    out[5] = _share(now.host_swap_mib, memory)
    out[6] = _rate(now.host_swap_in_mib, before.host_swap_in_mib, seconds)
    out[7] = _rate(now.disk_mib, before.disk_mib, seconds)
    out[8] = _share(now.cpu_s - before.cpu_s, 16.0 * seconds)
    out[9] = now.critical
    known = not math.isnan(now.guest_free_mib)
    out[10] = 1.0 if known else 0.0
    for i in range(11, 16):
        out[i] = 0.0
    if known:
        out[11] = _share(now.guest_free_mib, memory)
        out[12] = _share(now.guest_available_mib, memory)
        out[13] = _share(now.guest_caches_mib, memory)
        out[14] = _rate(now.guest_swap_in_mib, before.guest_swap_in_mib, seconds)
        out[15] = _rate(now.guest_swap_out_mib, before.guest_swap_out_mib, seconds)


@compiled
def observe(vm, host, vm_before, host_before, seconds: float, out) -> None:  # type: ignore[no-untyped-def]
    """Fill observations ``[env, feature]`` from two readings `seconds` apart."""
    hosts, vms = host.shape[1], vm.shape[1]
    for e in range(len(out)):
        at = 0
        for h in range(hosts):
            _observe_host(host[e, h], host_before[e, h], seconds, out[e, at : at + 6])
            at += 6
        for v in range(vms):
            _observe_vm(vm[e, v], vm_before[e, v], host[e, 0].total_mib, seconds, out[e, at : at + 16])
            at += 16


@compiled
def _first_nan(actions) -> int:  # type: ignore[no-untyped-def]
    """Place of the first NaN, counted through all dimensions; -1 without one."""
    for place, action in enumerate(actions.flat):
        if math.isnan(action):
            return place
    return -1


_FIND_NAN: dict[int, Callable[..., int]] = {}
"""Code of `_first_nan` by the number of dimensions of a contiguous array, for a call costs more than the search."""


def take(actions: Any, into: np.ndarray) -> None:
    """Copy actions (array, list or tensor of any kind of number) into a contiguous float32 array of the shape that they must have.

    Into one that is there, because the compiled step reads memory as that array says: what a caller hands over may be
    shorter, of another type or laid out in another way. Infinity is beyond [-1, 1] as any number is, and held there.

    Raises:
        ValueError: naming both shapes, or where there is a NaN, or what is no number.
    """
    if type(actions) is not np.ndarray or actions.dtype is not _FLOAT32:
        actions = _numbers(actions)
    if actions.shape != into.shape:
        raise ValueError(f"action of shape {actions.shape}, expected {into.shape}")
    into[...] = actions
    code = _FIND_NAN.get(into.ndim)
    if code is None:
        code = _FIND_NAN[into.ndim] = entry(_first_nan, into)
    place = code(into)
    if place >= 0:
        where = ", ".join(map(str, np.unravel_index(place, into.shape)))
        raise ValueError(f"action[{where}] is NaN; expected a number in [-1, 1]")


def _numbers(actions: Any) -> np.ndarray:
    try:
        given = np.asarray(actions)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"action of {type(actions).__name__}: expected numbers in [-1, 1] ({error})") from None
    if given.dtype.kind not in "biuf" or np.ma.isMaskedArray(actions):
        what = "masked array" if np.ma.isMaskedArray(actions) else str(given.dtype)
        raise ValueError(f"action of {what}: expected numbers in [-1, 1]")
    return np.clip(given.astype(np.float64), -1.0, 1.0)  # beyond float32's range it would become infinite


def targets_mib(actions: Any, telemetry: Telemetry) -> np.ndarray:
    """Memory sizes ``[env, vm]`` that actions ask for, from what an operator can read. Raises as `take`."""
    taken = np.empty(telemetry.vm.shape, np.float32)
    take(actions, taken)
    share = 0.5 * (1.0 + np.clip(taken.astype(np.float64), -1.0, 1.0))
    low = telemetry.vm["min_mib"]
    return np.asarray(low + share * (telemetry.vm["memory_mib"] - low))
