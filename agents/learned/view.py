"""What learners of any number of VMs see of each: the same features for every VM, from what an operator can read.

Shares are of the VM's configured memory, its present size or the host's RAM; a rate r reads r / (r + `HALF_MIB_PER_S`). A
signal that is missing reads 0, and ``reports`` says so. What changes from reading to reading (`NOW`, and of the host
`HOST_NOW`) stands three times: now, and as its exponential average over `AVERAGED_S`. Scales are fixed constants, they belong to
the view and not to a trained policy. Only sums, products and quotients are taken, which are the same bits on every machine.

Source of the choice: a prototype on the packaged scenarios, in which these averages and the host's figures gained .016 of score
over a reading alone, and a hidden layer over a linear map nothing.
"""

import numpy as np

from hvgym.envs.telemetry import Telemetry

NOW = (
    "guest_free", "guest_available", "guest_caches", "guest_swap_in_rate", "guest_swap_out_rate", "host_swap_in_rate",
    "host_swap", "resident", "disk_rate", "cpu", "host_psi",
)  # fmt: skip
"""Of a VM: parts of its size, rates, parts of its memory, part of its CPUs, and share of time stalled in the host."""

HOST_NOW = ("available", "swap_used", "swap_in_rate", "swap_out_rate", "disk_utilisation")
"""Of its host."""

STILL = (
    "size",
    "target",
    "minimum",
    "share_of_ram",
    "critical",
    "reports",
    "weight",
    "cpu_utilisation",
    "state",
    "overcommit",
)
"""Of a VM and its host, now alone: sizes as shares of memory, its weight beside the others' mean, how much the VMs could use."""

AVERAGED_S = (60.0, 600.0)

FEATURES = (
    *NOW, *HOST_NOW, *(f"{name}_{seconds:.0f}s" for seconds in AVERAGED_S for name in (*NOW, *HOST_NOW)), *STILL, "constant",
)  # fmt: skip
"""Names of the last axis of what `View.look` answers."""

HALF_MIB_PER_S = 16.0
"""The rate that reads one half: what a slow disk reads at random (a guess)."""

MOST_WEIGHT, MOST_OVERCOMMIT = 4.0, 2.0
"""A weight of so many means, and VMs of so many times the RAM, read 1."""


class View:
    """Looks at successive readings and keeps their averages."""

    def __init__(self) -> None:
        self._before: Telemetry | None = None
        self._averages: list[np.ndarray] = []

    def look(self, telemetry: Telemetry) -> np.ndarray:
        """Features ``[env, vm, feature]``; of the first reading rates are 0, and averages are that reading."""
        before = self._before or telemetry
        seconds = max(float(telemetry.time_s[0] - before.time_s[0]), 1.0)
        now = _now(telemetry, before, seconds)
        if self._before is None:
            self._averages = [now.copy() for _ in AVERAGED_S]
        for average, length_s in zip(self._averages, AVERAGED_S, strict=True):
            average += seconds / (seconds + length_s) * (now - average)
        self._before = telemetry
        return np.concatenate([now, *self._averages, _still(telemetry)], axis=-1)


def _now(telemetry: Telemetry, before: Telemetry, seconds: float) -> np.ndarray:
    vm, host, old, old_host = telemetry.vm, telemetry.host[:, :1], before.vm, before.host[:, :1]
    memory, size = vm["memory_mib"], np.maximum(vm["size_mib"], 1.0)
    of_vm = [
        _share(vm["guest_free_mib"], size),
        _share(vm["guest_available_mib"], size),
        _share(vm["guest_caches_mib"], size),
        _rate(vm["guest_swap_in_mib"] - old["guest_swap_in_mib"], seconds),
        _rate(vm["guest_swap_out_mib"] - old["guest_swap_out_mib"], seconds),
        _rate(vm["host_swap_in_mib"] - old["host_swap_in_mib"], seconds),
        _share(vm["host_swap_mib"], memory),
        _share(vm["resident_mib"], memory),
        _rate(vm["disk_mib"] - old["disk_mib"], seconds),
        _share(vm["cpu_s"] - old["cpu_s"], vm["vcpus"] * seconds),
        _share(vm["host_psi_some10"], 1.0),
    ]
    of_host = [
        _share(host["available_mib"], host["total_mib"]),
        _share(host["swap_used_mib"], host["swap_total_mib"]),
        _rate(host["swap_in_mib"] - old_host["swap_in_mib"], seconds),
        _rate(host["swap_out_mib"] - old_host["swap_out_mib"], seconds),
        _share(host["disk_utilisation"], 1.0),
    ]
    return np.stack([*of_vm, *(np.broadcast_to(part, memory.shape) for part in of_host)], axis=-1)


def _still(telemetry: Telemetry) -> np.ndarray:
    vm, host = telemetry.vm, telemetry.host[:, :1]
    memory, weight, ram_mib = vm["memory_mib"], vm["weight"], host["total_mib"]
    parts = [
        _share(vm["size_mib"], memory),
        _share(vm["target_mib"], memory),
        _share(vm["min_mib"], memory),
        _share(memory, ram_mib),
        _share(vm["critical"], 1.0),
        (~np.isnan(vm["guest_free_mib"])).astype(np.float64),
        _share(weight, MOST_WEIGHT * weight.mean(axis=1, keepdims=True)),
        _share(host["cpu_utilisation"], 1.0),
        _share(host["memory_state"], 4.0),
        _share(memory.sum(axis=1, keepdims=True), MOST_OVERCOMMIT * ram_mib),
        np.ones(1),
    ]
    return np.stack([np.broadcast_to(part, memory.shape) for part in parts], axis=-1)


def _share(part: np.ndarray, whole: "np.ndarray | float") -> np.ndarray:
    """In [0, 1]; 0 where it is missing, or there is nothing of which it could be a part."""
    found = np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=np.asarray(whole) > 0.0)
    return np.clip(np.nan_to_num(found, nan=0.0), 0.0, 1.0)


def _rate(gone_by: np.ndarray, seconds: float) -> np.ndarray:
    per_s = np.maximum(np.nan_to_num(gone_by / seconds, nan=0.0), 0.0)
    return per_s / (per_s + HALF_MIB_PER_S)
