"""Actions of an environment that set more than memory sizes: what a seat has (``seats``), a block of numbers in [-1, 1] each.

Blocks stand in the order of `Targets`, each with an entry a VM, a rate of page sharing with one. -1 to 1 is, with u from 0 to 1:

 - memory_mib: from the guaranteed minimum to the configured size, as ``features`` says.
 - reclaim_mib: u x `MOST_RECLAIMED` of configured memory, anew at each step.
 - reclaim_age_s: from the youngest to the oldest age that idle-page tracking tells, by ratio.
 - scan_pages_per_s: u x `MOST_SCANNED`.
 - report_free_pages: on from 0 up.
 - disk_shares, net_shares: 1 to `MOST_DISK_SHARES` and `MOST_NET_SHARES`, by ratio.

These scales belong to the environment, as those of the observation do.
"""

from typing import Any

import numpy as np

from hvgym.envs.telemetry import AGES_S, Targets

MOST_RECLAIMED = 0.05
"""Of a VM in one step; a guess, five of the largest probes of senpai, oomd and TMO."""

MOST_SCANNED = 125_000.0
"""Pages a second: ksmtuned's most, 1,250 each 10 ms."""

MOST_DISK_SHARES, MOST_NET_SHARES = 10_000.0, 100.0
"""Of cgroup's io.weight (1 to 10,000), and VMware's high shares of a network (recalled)."""


def size_of(channels: tuple[str, ...], vms: int, hosts: int = 1) -> int:
    """Length of an action."""
    return sum(hosts if channel == "scan_pages_per_s" else vms for channel in channels)


def blocks(actions: np.ndarray, channels: tuple[str, ...], vms: int, hosts: int = 1) -> dict[str, np.ndarray]:
    """The part of each channel, views of actions ``[env, entry]``: ``[env, vm]``, of scan_pages_per_s ``[env, host]``."""
    found, at = {}, 0
    for channel in channels:
        width = size_of((channel,), vms, hosts)
        found[channel] = actions[:, at : at + width]
        at += width
    return found


def targets(asked: dict[str, np.ndarray], memory_mib: np.ndarray) -> Targets:
    """What these blocks ask for beside memory sizes; memory_mib is the VMs' configured memory, ``[env, vm]``."""
    share = {channel: 0.5 * (1.0 + np.clip(part.astype(np.float64), -1.0, 1.0)) for channel, part in asked.items()}
    answers: dict[str, Any] = {
        "reclaim_mib": lambda u: u * MOST_RECLAIMED * memory_mib,
        "reclaim_age_s": lambda u: AGES_S[0] * (AGES_S[-1] / AGES_S[0]) ** u,
        "scan_pages_per_s": lambda u: u * MOST_SCANNED,
        "report_free_pages": lambda u: (u >= 0.5).astype(np.float64),
        "disk_shares": lambda u: MOST_DISK_SHARES**u,
        "net_shares": lambda u: MOST_NET_SHARES**u,
    }
    return Targets(**{channel: answers[channel](u) for channel, u in share.items() if channel != "memory_mib"})
