"""Guard rails: what a policy's wishes become before a real host hears of them. No policy can pass them.

- Only VMs that the host's file names, that run, and whose size and statistics are known are touched.
- None goes below its `min_mib`, nor above its configured memory.
- A size moves by at most `step_share` of the VM's configured memory at a decision.
- Whose statistics are older than `stale_s`, and who stalls, is handed back for `hold_s`: it gets the size it had when driving
  began, at once. Stalling is `stall_share` of time that its host makes it wait, or `swap_in_mib_per_s` read from its own swap.
- What is smaller than `least_change_mib` is not sent.

Other channels pass where the host has them, memory.reclaim not of a VM that is handed back, and at most `step_share` of its
memory at a time. All figures are guesses on the careful side. A disk of 600 operations a second reads 2.3 MiB/s from a guest's
swap at most: a bound above that would never be met there (8 was not, with a guest that crawled).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hvgym.envs.schema import number
from hvgym.envs.telemetry import Targets, Telemetry

OFF, UNKNOWN, STALE, STALLED, HELD = "off", "size unknown", "statistics stale", "stalls", "handed back"
FLOOR, STEP, SMALL = "minimum", "step", "unchanged"


@dataclass(frozen=True)
class RailSettings:
    """Keys of ``rails``."""

    step_share: float = number(0.1, above=0, most=1)
    stale_s: float = number(30.0, above=0)
    stall_share: float = number(0.2, above=0, most=1)
    swap_in_mib_per_s: float = number(1.0, above=0)
    hold_s: float = number(60.0, least=0)
    least_change_mib: float = number(1.0, least=0)


class Rails:
    """Of one host. first: its reading when driving began; its sizes are what is handed back."""

    def __init__(self, settings: RailSettings, first: Telemetry, needs_statistics: bool) -> None:
        self._settings, self._needs_statistics = settings, needs_statistics
        self.restored_mib = first.vm["size_mib"][0].copy()
        self._held_until_s = np.full(len(self.restored_mib), -np.inf)
        self._before = first

    def held(self, asked: Targets, now: Telemetry) -> tuple[Targets, Sequence[str]]:
        """What may be sent, and for each VM why it is not what was asked for; empty where it is."""
        vm, time_s = now.vm[0], float(now.time_s[0])
        # a VM that was off when driving began is handed back what it had when it came
        self.restored_mib = np.where(np.isnan(self.restored_mib), vm["size_mib"], self.restored_mib)
        back = self._handed_back(now)
        self._held_until_s = np.where(back != "", time_s + self._settings.hold_s, self._held_until_s)
        wanted = (
            np.full(len(vm), np.nan)
            if asked.memory_mib is None
            else np.asarray(asked.memory_mib, np.float64).reshape(-1)
        )
        reasons = list[str]()
        sizes = np.full(len(vm), np.nan)
        for index in range(len(vm)):
            held = self._held_until_s[index] > time_s
            sizes[index], why = self._one(vm[index], wanted[index], str(back[index]), held, self.restored_mib[index])
            reasons.append(why)
        self._before = now
        untouched = np.isnan(vm["size_mib"]) | (self._held_until_s > time_s) | (vm["running"] == 0.0)
        return replace(asked, memory_mib=sizes[None], **self._reclaimed(asked, vm, untouched)), reasons

    def _reclaimed(self, asked: Targets, vm: np.ndarray, untouched: np.ndarray) -> dict[str, np.ndarray]:
        if asked.reclaim_mib is None:
            return {}
        most = np.where(untouched, 0.0, self._settings.step_share * vm["memory_mib"])
        return {"reclaim_mib": np.minimum(asked.reclaim_mib, most[None])}

    def _handed_back(self, now: Telemetry) -> np.ndarray:
        """Why a VM is handed back, ``[vm]``; empty where it is not."""
        vm, old, rules = now.vm[0], self._before.vm[0], self._settings
        seconds = max(float(now.time_s[0] - self._before.time_s[0]), 1.0)
        swapped = (vm["guest_swap_in_mib"] - old["guest_swap_in_mib"]) / seconds
        stalls = (vm["host_psi_some10"] > rules.stall_share) | (swapped > rules.swap_in_mib_per_s)
        known_before = ~np.isnan(vm["stats_age_s"])
        stale = (vm["stats_age_s"] > rules.stale_s) | (self._needs_statistics & ~known_before)
        return np.where(stalls, STALLED, np.where(stale, STALE, ""))

    def _one(self, vm: np.void, wanted: float, back: str, held: bool, restored: float) -> tuple[float, str]:
        """Size to send, NaN for none, and why."""
        if vm["running"] == 0.0:
            return np.nan, OFF
        if np.isnan(vm["size_mib"]) or np.isnan(vm["memory_mib"]):
            return np.nan, UNKNOWN
        if back or held:
            return self._sent(vm, restored if restored >= vm["size_mib"] else np.nan, back or HELD)
        if np.isnan(wanted):
            return np.nan, ""
        step = self._settings.step_share * vm["memory_mib"]
        near = float(np.clip(wanted, vm["size_mib"] - step, vm["size_mib"] + step))
        size = float(np.clip(near, vm["min_mib"], vm["memory_mib"]))
        why = FLOOR if size > near else STEP if near != wanted else ""
        return self._sent(vm, size, why)

    def _sent(self, vm: np.void, size: float, why: str) -> tuple[float, str]:
        if np.isnan(size) or abs(size - vm["target_mib"]) < self._settings.least_change_mib:
            return np.nan, why or SMALL
        return size, why
