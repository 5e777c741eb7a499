"""What numbers in [-1, 1] ask of a host: memory sizes in one of three ways, and the other channels of a seat (``seats``).

An action is flat: a block for each channel of VMs, in the order of `OF_VMS`, with a number for each VM (and for each place of a VM
that is not there, which counts for nothing), then a number for each channel of the host, in the order of `OF_HOSTS`. With u from 0
to 1 for -1 to 1:

 - memory, relative: the size last asked for moves by the number x `step` of configured memory, between minimum and configured size.
 - memory, absolute: from the guaranteed minimum to the configured size.
 - memory, water_filling: u is a VM's share, at least `LEAST_SHARE`. All sizes stand at one level x share x configured memory,
   between minimum and configured size; the level is that at which those that run fill the host's RAM, less their processes
   and `KEPT_FREE`.
 - reclaim: u x `MOST_RECLAIMED` of configured memory, anew at each step.
 - reclaim_age: from the youngest to the oldest age that idle-page tracking tells, by ratio.
 - reporting, admit: on from 0 up.
 - disk, net: 1 to `MOST_DISK_SHARES` and `MOST_NET_SHARES` shares, by ratio.
 - limits: host memory behind a VM's guest from its guaranteed minimum to its configured size, its process added; 1 is no limit.
 - sharing: u x `MOST_SCANNED` pages a second for the host's scanner.

These scales belong to the environment, as those of the view do. Left out: moves, which are the cluster's (``cluster_features``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.model.compiled import compiled
from hvgym.envs.telemetry import AGES_S, Targets, Telemetry
from hvgym.envs.view import MOST_SCANNED

KINDS = ("relative", "absolute", "water_filling")

RELATIVE, ABSOLUTE, WATER_FILLING = range(3)
AS_THEY_ARE = -1
"""Sizes are asked for elsewhere."""

OF_VMS = {
    "memory": "memory_mib",
    "reclaim": "reclaim_mib",
    "reclaim_age": "reclaim_age_s",
    "reporting": "report_free_pages",
    "admit": "admit",
    "disk": "disk_shares",
    "net": "net_shares",
    "limits": "limit_mib",
}
"""Channels with a number for each VM: fields of `Targets`."""

OF_HOSTS = {"sharing": "scan_pages_per_s"}

KEYS = OF_VMS | OF_HOSTS

MOST_STEP = 1.0

STEP = 0.1
"""Of configured memory: that of the prototype of which ``view`` tells."""

MOST_RECLAIMED = 0.05
"""Of a VM in one step; a guess, five of the largest probes of senpai, oomd and TMO."""

MOST_DISK_SHARES, MOST_NET_SHARES = 10_000.0, 100.0
"""Of cgroup's io.weight (1 to 10,000), and VMware's high shares of a network (recalled)."""

LEAST_SHARE = 0.01
"""A guess: a VM that is to have least still counts a hundredth of one that is to have most."""

KEPT_FREE = 0.05
"""Of the host's RAM, a guess; `proportional` keeps as much."""

_HALVINGS = 50

COLUMNS = 5

ASKED, MEMORY, LEAST, RUNNING, OVERHEAD = range(COLUMNS)
"""Columns of what sizes are made of, ``[vm, column]``, in MiB but for running."""


@compiled
def _level(actions, given, capacity_mib: float) -> float:  # type: ignore[no-untyped-def]
    """Level at which the VMs that run fill so much, by bisection: sums and products are the same everywhere."""
    low, high = 0.0, 1.0 / LEAST_SHARE
    for _ in range(_HALVINGS):
        level, filled = 0.5 * (low + high), 0.0
        for v in range(len(given)):
            filled += given[v, RUNNING] * _filled_mib(actions[v], given[v, MEMORY], given[v, LEAST], level)
        if filled > capacity_mib:
            high = level
        else:
            low = level
    return low


@compiled
def _filled_mib(action: float, memory_mib: float, least_mib: float, level: float) -> float:
    share = max(0.5 * (1.0 + min(max(float(action), -1.0), 1.0)), LEAST_SHARE)
    return min(max(level * share * memory_mib, least_mib), memory_mib)


@compiled
def ask(kind: int, step: float, actions, given, ram_mib: float) -> None:  # type: ignore[no-untyped-def]
    """Put the sizes that actions ``[vm]`` ask for into column `ASKED` of given ``[vm, column]``, in place of the last; NaN
    stays."""
    level = 0.0
    if kind == WATER_FILLING:
        capacity_mib = (1.0 - KEPT_FREE) * ram_mib
        for v in range(len(given)):
            capacity_mib -= given[v, RUNNING] * given[v, OVERHEAD]
        level = _level(actions, given, capacity_mib)
    for v in range(len(given)):
        action, memory_mib, least_mib = min(max(float(actions[v]), -1.0), 1.0), given[v, MEMORY], given[v, LEAST]
        if kind == RELATIVE:
            size_mib = given[v, ASKED] + step * memory_mib * action
        elif kind == ABSOLUTE:
            size_mib = least_mib + 0.5 * (1.0 + action) * (memory_mib - least_mib)
        else:
            size_mib = _filled_mib(actions[v], memory_mib, least_mib, level)
        if not np.isnan(size_mib):
            size_mib = min(max(size_mib, least_mib), memory_mib)
        given[v, ASKED] = size_mib


@compiled
def ask_all(kind: int, step: float, actions, given, ram_mib) -> None:  # type: ignore[no-untyped-def]
    """As `ask`, for actions ``[env, vm]``, given ``[env, vm, column]`` and ram_mib ``[env]``."""
    for e in range(len(given)):
        ask(kind, step, actions[e], given[e], ram_mib[e])


@compiled
def act(kind: int, step: float, actions, vms, vm_specs, host_spec, given) -> None:  # type: ignore[no-untyped-def]
    """Write the sizes that actions ``[vm]`` ask for into the model; vms, vm_specs are rows ``[vm]``, given ``[vm, column]`` is
    room."""
    if kind == AS_THEY_ARE:
        return
    for v in range(len(vms)):
        vm, spec, row = vms[v], vm_specs[v], given[v]
        row[ASKED], row[MEMORY], row[LEAST] = vm.asked_mib, spec.memory_mib, spec.min_mib
        row[RUNNING], row[OVERHEAD] = vm.admitted, spec.overhead_mib
    ask(kind, step, actions, given, host_spec.ram_mib)
    for v in range(len(vms)):
        vms[v].asked_mib = given[v, ASKED]


@dataclass(frozen=True)
class ActionMap:
    """What actions of an environment mean. vms: how many there are; action: of `KINDS`; step: of relative ones; channels: of
    `KEYS`; most_vms: places in a block, at least as many. Raises `InputError` that names the key."""

    vms: int
    action: str = "relative"
    step: float = STEP
    channels: tuple[str, ...] = ("memory",)
    most_vms: int | None = None

    def __post_init__(self) -> None:
        if self.action not in KINDS:
            raise InputError(
                f"action={self.action!r}: choose one of {', '.join(KINDS)}{nearest(str(self.action), KINDS)}"
            )
        number = isinstance(self.step, (int, float)) and not isinstance(self.step, bool)
        if not number or not 0.0 < self.step <= MOST_STEP:
            raise InputError(
                f"step={self.step!r}: expected a share of configured memory, above 0 and at most {MOST_STEP:g}"
            )
        most = self.most_vms
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < self.vms):
            raise InputError(f"most_vms={most!r}: expected a whole number, at least the {self.vms} VMs that there are")

    @property
    def places(self) -> int:
        """Numbers in a block of VMs."""
        return self.most_vms or self.vms

    @property
    def of_vms(self) -> tuple[str, ...]:
        """Channels with a block, in order."""
        return tuple(key for key in OF_VMS if key in self.channels)

    @property
    def of_hosts(self) -> tuple[str, ...]:
        """Channels with one number, in order."""
        return tuple(key for key in OF_HOSTS if key in self.channels)

    @property
    def size(self) -> int:
        """Length of an action."""
        return len(self.of_vms) * self.places + len(self.of_hosts)

    @property
    def kind(self) -> int:
        """How `ask` counts ways to ask for sizes."""
        return KINDS.index(self.action)

    def blocks(self, actions: np.ndarray) -> dict[str, np.ndarray]:
        """The part of each channel, views of actions ``[env, entry]``: ``[env, vm]``, of a host's ``[env, host]``."""
        ends = len(self.of_vms) * self.places
        found = {key: actions[:, i * self.places :][:, : self.vms] for i, key in enumerate(self.of_vms)}
        return found | {key: actions[:, ends + i : ends + i + 1] for i, key in enumerate(self.of_hosts)}

    def targets(self, actions: np.ndarray, telemetry: Telemetry) -> Targets:
        """What actions ``[env, entry]``, checked numbers, ask for, from what an operator can read."""
        vm = telemetry.vm
        asked = np.where(np.isnan(vm["target_mib"]), vm["size_mib"], vm["target_mib"])
        parts = (asked, vm["memory_mib"], vm["min_mib"], vm["running"], vm["overhead_mib"])
        return self.asked(actions, np.stack(parts, axis=2), telemetry.host["total_mib"][:, 0])

    def asked(self, actions: np.ndarray, given: np.ndarray, ram_mib: np.ndarray) -> Targets:
        """What actions ask for; given ``[env, vm, column]``, which changes, and ram_mib ``[env]``: what sizes are made of."""
        parts = self.blocks(actions)
        memory_mib = given[:, :, MEMORY].copy()
        share = {key: 0.5 * (1.0 + np.clip(part.astype(np.float64), -1.0, 1.0)) for key, part in parts.items()}
        found: dict[str, Any] = {KEYS[key]: _SCALES[key](u, memory_mib) for key, u in share.items() if key in _SCALES}
        if "limits" in parts:
            found["limit_mib"] = _limit_mib(share["limits"], given)
        if "memory" in parts:
            ask_all(self.kind, self.step, np.ascontiguousarray(parts["memory"]), given, np.ascontiguousarray(ram_mib))
            found["memory_mib"] = given[:, :, ASKED]
        return Targets(**found)


_SCALES = {
    "reclaim": lambda u, memory_mib: u * MOST_RECLAIMED * memory_mib,
    "reclaim_age": lambda u, memory_mib: AGES_S[0] * (AGES_S[-1] / AGES_S[0]) ** u,
    "reporting": lambda u, memory_mib: (u >= 0.5).astype(np.float64),
    "admit": lambda u, memory_mib: (u >= 0.5).astype(np.float64),
    "disk": lambda u, memory_mib: MOST_DISK_SHARES**u,
    "net": lambda u, memory_mib: MOST_NET_SHARES**u,
    "sharing": lambda u, memory_mib: u * MOST_SCANNED,
}


def _limit_mib(u: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Limits that u ``[env, vm]`` ask for: exactly memory and process at 1, which is no limit."""
    memory_mib, least_mib = given[:, :, MEMORY], given[:, :, LEAST]
    return np.asarray(memory_mib - (1.0 - u) * (memory_mib - least_mib) + given[:, :, OVERHEAD])


def keys_of(channels: Sequence[str]) -> tuple[str, ...]:
    """Keys of these fields of `Targets`, in the order of an action."""
    return tuple(key for key, field in KEYS.items() if field in channels)
