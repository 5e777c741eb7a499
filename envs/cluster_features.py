"""What learners see of a cluster, and what their actions ask for: sets of hosts and of VMs, with masks.

Observation, a dictionary of float32, every entry in [-1, 1]; H hosts, V VMs:

 - hosts ``[H, len(HOST_FEATURES)]``, host_mask ``[H]``: 1 where a host is at work as far as the stack knows. Of others only what
   they are stands there, and no load.
 - vms ``[V, len(VM_FEATURES)]``, vm_mask ``[V]``: 0 where a VM is not there yet or gone; all of such a VM reads 0.
 - placement, moving_to ``[V, H]``: 1 for the host where a VM is, and for that to which it is copied.
 - allowed ``[V, H]``: 1 where a VM may be moved to a host, or started there, now; 0 for its own host. How many copies may run at
   once does not count: a move that has to wait for others is queued.

All is from the telemetry and from `Places`, which is what the stack says. A signal that is missing reads 0, and so does its mask:
``reports`` for a guest's statistics, ``has_deadline`` and ``recovering`` for what they are named after. Scales are fixed, but for
sizes of hosts and VMs, which are shares of the largest host's, and weights, which are shares of the largest: so one network serves
clusters of any size.

Action, V + V * H numbers in [-1, 1]: a memory size for each VM, as ``features`` says, then for each VM a score for each host, VM
by VM. A VM that runs moves to the host with the best score of those that are allowed, if that is more than `margin` above the
score of its own host; else it stays, and a move of it that is still queued is called off. A VM that waits, or is in the queue of
restarts, starts on the best of those that are allowed. Of equal scores the first host's wins. A VM on its way is left alone, and
so is one that is lost until the stack knows.
"""

from collections.abc import Collection

import numpy as np

from hvgym.envs import features
from hvgym.envs.model.placement import (
    ABSENT,
    FREE,
    LOST,
    MACHINE_STATES,
    MOVING,
    REFUSED,
    RESTARTING,
    RUNNING,
    UP,
    WAITING,
)
from hvgym.envs.telemetry import Places, Targets, Telemetry

HOST_FEATURES = (
    *features.HOST_FEATURES,
    "net_rate",
    "copies_rate",
    "outgoing",
    "incoming",
    "vms",
    "ram_share",
    "cpu_share",
    "clock",
    "link_rate",
    "nic_rate",
    *MACHINE_STATES,
    "maintenance",
    "has_deadline",
    "deadline",
)
"""The first are those of ``features``; the states are as far as the stack knows."""

_LOAD = len(features.HOST_FEATURES) + 2
"""Features that are the load of a host at work."""

_SHOWN_STATES = {
    "waiting": WAITING,
    "running": RUNNING,
    "moving": MOVING,
    "lost": LOST,
    "restarting": RESTARTING,
    "refused": REFUSED,
}

VM_FEATURES = (
    *features.VM_FEATURES,
    *_SHOWN_STATES,
    "weight",
    "cpu_share",
    "net_rate",
    "ready_rate",
    "pinned",
    "bytecode",
    "queued",
    "blocked",
    "copied",
    "remaining",
    "throttle",
    "restarts",
    "recovering",
    "lost_for",
)
"""The first are those of ``features``, where ``memory_share`` is of the largest host's RAM."""

SIGNALS_OF_FEATURES = {
    "weight": "weight",
    "cpu_share": "vcpus",
    "net_rate": "net_mib",
    "ready_rate": "cpu_ready_s",
    "pinned": "pinned",
    "bytecode": "bytecode",
}
"""Features of a VM beside those of ``features``, by the signal that they need; the others are the stack's."""

OBSERVED = features.OBSERVED | frozenset(SIGNALS_OF_FEATURES.values())
"""All signals that an observation is made of."""

COUNTERS = np.dtype([("net_mib", "f8"), ("cpu_ready_s", "f8")])
"""Signals of VMs from whose rise rates are taken, beside those of ``features``."""

LINK_SCALE = 10.0
"""log(1 + 22,025 MiB/s) is 10: more than 100 Gb/s."""

MOST_CLOCK_GHZ = 8.0
"""More than any processor that is sold."""

MOST_COPIES = 8.0
"""vSphere's most for a host with a link of 10 Gb/s; more reads as this."""

MOST_DEADLINE_S, MOST_LOST_S = 3600.0, 600.0
"""Seconds until a host must be empty, and since a VM was lost; more reads as this (guesses)."""

KEYS = ("hosts", "vms", "host_mask", "vm_mask", "allowed", "placement", "moving_to")


def shapes(vms: int, hosts: int) -> dict[str, tuple[int, ...]]:
    """Of an observation, by key."""
    pairs = (vms, hosts)
    sizes = ((hosts, len(HOST_FEATURES)), (vms, len(VM_FEATURES)), (hosts,), (vms,), pairs, pairs, pairs)
    return dict(zip(KEYS, sizes, strict=True))


def action_size(vms: int, hosts: int) -> int:
    """Length of an action."""
    return vms + vms * hosts


def missing(signals: Collection[str]) -> np.ndarray:
    """Features of a VM, bool ``[feature]``, that read 0 where only these signals are there."""
    lacking = features.missing_features(signals, 1)[len(features.HOST_FEATURES) :]
    more = [
        name in SIGNALS_OF_FEATURES and SIGNALS_OF_FEATURES[name] not in signals
        for name in VM_FEATURES[len(features.VM_FEATURES) :]
    ]
    return np.concatenate([lacking, more])


def may_go(places: Places) -> np.ndarray:
    """Whether a VM may be moved to a host, or started there, now, ``[env, vm, host]``."""
    moves_or_starts = np.isin(places.vm["state"], (RUNNING, WAITING, RESTARTING))
    return np.asarray((places.obstacles == FREE) & moves_or_starts[:, :, None] & ~_one_hot(places, "host"))


def move_to(scores: np.ndarray, places: Places, margin: float) -> np.ndarray:
    """Where scores ``[env, vm, host]`` want VMs, as `Targets` has it, ``[env, vm]``."""
    allowed, scores = may_go(places), scores.astype(np.float64)
    here, runs = places.vm["host"], places.vm["state"] == RUNNING
    at = np.where(np.isnan(here), 0.0, here).astype(int)[:, :, None]
    stay = np.where(runs, np.take_along_axis(scores, at, axis=2)[:, :, 0] + margin, -np.inf)
    among = np.where(allowed, scores, -np.inf)
    return np.where(among.max(axis=2) > stay, among.argmax(axis=2), np.where(runs, here, np.nan))


def targets(actions: np.ndarray, telemetry: Telemetry, margin: float, sets_memory: bool) -> Targets:
    """What actions ``[env, entry]`` ask for."""
    places = telemetry.places
    assert places is not None  # of a cluster
    vms = telemetry.vm.shape[1]
    scores = np.clip(actions[:, vms:].reshape(places.obstacles.shape), -1.0, 1.0)
    sizes = features.targets_mib(actions[:, :vms], telemetry) if sets_memory else None
    return Targets(memory_mib=sizes, move_to=move_to(scores, places, margin))


def observe(
    now: Telemetry, before: tuple[np.ndarray, np.ndarray, np.ndarray], seconds: float, lacking: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Observations, each ``[env, ...]``, from a reading and the counters of one `seconds` before: of VMs and of hosts, those of
    ``features``, and `COUNTERS`. lacking: as `missing` gives it."""
    places = now.places
    assert places is not None  # of a cluster
    lanes, vms, hosts = places.obstacles.shape
    flat = np.empty((lanes, features.observation_size(vms, hosts)), np.float32)
    features.observe(now.vm, now.host, before[0], before[1], seconds, flat)
    at = hosts * len(features.HOST_FEATURES)
    plain_hosts, plain_vms = flat[:, :at].reshape(lanes, hosts, -1), flat[:, at:].reshape(lanes, vms, -1)
    of_hosts = np.concatenate([plain_hosts, _more_of_hosts(now, places)], axis=2)
    of_vms = np.concatenate([plain_vms, _more_of_vms(now, places, before[2], seconds)], axis=2)
    of_vms[:, :, 0] = _share(now.vm["memory_mib"], _largest(now.host["total_mib"]))
    if lacking is not None:
        of_vms[:, :, lacking] = 0.0
    up, there = places.host["state"] == UP, places.vm["state"] != ABSENT
    of_hosts[:, :, :_LOAD] *= up[:, :, None]
    of_vms *= there[:, :, None]
    pairs = (may_go(places), _one_hot(places, "host"), _one_hot(places, "moving_to"))
    parts = (of_hosts, of_vms, up, there, *pairs)
    return {name: np.clip(part, 0.0, 1.0, dtype=np.float32) for name, part in zip(KEYS, parts, strict=True)}


def _more_of_hosts(now: Telemetry, places: Places) -> np.ndarray:
    """Features of hosts beside those of ``features``, ``[env, host, feature]``."""
    host, deadline_s = places.host, places.host["deadline_s"]
    found = {
        "net_rate": _rate(host["net_mib_per_s"]),
        "copies_rate": _rate(host["copies_mib_per_s"]),
        "outgoing": host["outgoing"] / MOST_COPIES,
        "incoming": host["incoming"] / MOST_COPIES,
        "vms": host["vms"] / places.vm.shape[1],
        "ram_share": _share(now.host["total_mib"], _largest(now.host["total_mib"])),
        "cpu_share": _share(host["pcpus"], _largest(host["pcpus"])),
        "clock": host["clock_ghz"] / MOST_CLOCK_GHZ,
        "link_rate": _rate(host["link_mib_per_s"]),
        "nic_rate": _rate(host["nic_mib_per_s"]),
        "maintenance": host["maintenance"],
        "has_deadline": ~np.isnan(deadline_s),
        "deadline": _share(deadline_s, MOST_DEADLINE_S),
    }
    found |= {name: host["state"] == state for state, name in enumerate(MACHINE_STATES)}
    return np.stack([found[name] for name in HOST_FEATURES[len(features.HOST_FEATURES) :]], axis=2)


def _more_of_vms(now: Telemetry, places: Places, before: np.ndarray, seconds: float) -> np.ndarray:
    """Features of VMs beside those of ``features``, ``[env, vm, feature]``."""
    vm, place = now.vm, places.vm
    found = {
        "weight": _share(vm["weight"], _largest(vm["weight"])),
        "cpu_share": _share(vm["vcpus"], _largest(places.host["pcpus"])),
        "net_rate": _rate((vm["net_mib"] - before["net_mib"]) / seconds),
        "ready_rate": _share(vm["cpu_ready_s"] - before["cpu_ready_s"], vm["vcpus"] * seconds),
        "pinned": _share(vm["pinned"], 1.0),
        "bytecode": _share(vm["bytecode"], 1.0),
        "queued": ~np.isnan(place["wanted"]),
        "blocked": place["blocked"] != FREE,
        "copied": _share(place["copied_mib"], vm["memory_mib"]),
        "remaining": _share(place["remaining_mib"], vm["memory_mib"]),
        "throttle": place["throttle"],
        "restarts": place["restarts"],
        "recovering": ~np.isnan(place["since_lost_s"]),
        "lost_for": _share(place["since_lost_s"], MOST_LOST_S),
    }
    found |= {name: place["state"] == state for name, state in _SHOWN_STATES.items()}
    return np.stack([found[name] for name in VM_FEATURES[len(features.VM_FEATURES) :]], axis=2)


def _one_hot(places: Places, field: str) -> np.ndarray:
    """Which host a field of a VM's place names, ``[env, vm, host]``; none where it is NaN."""
    return np.asarray(places.vm[field][:, :, None] == np.arange(places.host.shape[1]))


def _largest(amounts: np.ndarray) -> np.ndarray:
    """Of each environment, ``[env, 1]``."""
    return np.asarray(np.fmax.reduce(amounts, axis=1, keepdims=True))


def _share(part: np.ndarray, whole: np.ndarray | float) -> np.ndarray:
    """0 where one of both is missing, and where the whole is nothing; held within 0 and 1."""
    share = part / np.where(np.greater(whole, 0.0), whole, np.inf)
    return np.fmin(np.fmax(share, 0.0), 1.0)  # fmax leaves no NaN


def _rate(mib_per_s: np.ndarray) -> np.ndarray:
    """A rate by its logarithm; 0 where it is missing, or a counter has begun anew."""
    return np.log1p(np.fmax(mib_per_s, 0.0)) / LINK_SCALE
