"""What several policies make of a reading: what is configured, rates of guest counters, and the room that a host has."""

import numpy as np

from hvgym.envs.telemetry import Telemetry

PAGES_PER_MIB = 256.0
DEFAULT_SHARES = 1000.0
"""Of a VM for which none are configured."""


def least_mib(vm: np.ndarray | np.void) -> np.ndarray:
    """What each VM is guaranteed, ``[vm]``; 0 where nothing is configured."""
    return np.where(np.isnan(vm["min_mib"]), 0.0, vm["min_mib"])


def limit_mib(vm: np.ndarray | np.void) -> np.ndarray:
    """Most host memory behind each VM, its process counted, ``[vm]``; infinite where no limit is configured."""
    return np.where(np.isnan(vm["limit_mib"]), np.inf, vm["limit_mib"])


def started_before(first: Telemetry) -> np.ndarray:
    """Which VMs have been running for a while as an episode begins, ``[env, vm]``; one told how to start starts then."""
    return (first.vm["running"] > 0.0) & np.isnan(first.vm["startup_mib"])


def shares_of(vm: np.ndarray | np.void) -> np.ndarray:
    """Shares of each VM, ``[vm]``."""
    return np.where(np.isnan(vm["shares"]), DEFAULT_SHARES, vm["shares"])


class GuestRate:
    """Growth per second of a cumulative guest counter between its two latest reports, ``[env, vm]``.

    NaN while it is not known: before the second report, when no newer one has come, when there are no statistics, when the
    counter went backwards (the guest has started anew), or when the VM does not run.
    """

    def __init__(self, first: Telemetry, counter: np.ndarray) -> None:
        self._counter = counter.copy()
        self._reported_at_s = _reported_at_s(first)

    def update(self, telemetry: Telemetry, counter: np.ndarray) -> np.ndarray:
        """The rate at this reading."""
        reported_at_s = _reported_at_s(telemetry)
        passed_s, grown = reported_at_s - self._reported_at_s, counter - self._counter
        known = (passed_s > 0.0) & (grown >= 0.0) & (telemetry.vm["running"] > 0.0)
        newer = (passed_s > 0.0) | np.isnan(passed_s)
        self._counter = np.where(newer, counter, self._counter)
        self._reported_at_s = np.where(newer, reported_at_s, self._reported_at_s)
        return np.where(known, grown / np.where(known, passed_s, 1.0), np.nan)


def _reported_at_s(telemetry: Telemetry) -> np.ndarray:
    return telemetry.time_s[:, None] - telemetry.vm["stats_age_s"]


def room_for_mib(vm: np.ndarray, host: np.void, known: np.ndarray, keep_free_share: float) -> float:
    """What a host has for the VMs, ``[vm]``, that are `known`, in MiB: RAM less what is kept free, what it uses besides
    VMs, their overheads, and what the other VMs use now.
    """
    own_mib = host["total_mib"] - host["available_mib"] - vm["resident_mib"].sum()
    others_mib = vm["resident_mib"][~known].sum() + vm["overhead_mib"][known].sum()
    return float((1.0 - keep_free_share) * host["total_mib"] - own_mib - others_mib)
