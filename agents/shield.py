"""A shield around any policy: what it asks for is held to what a careful operator would let pass.

``agent.shield=true``, or a group of limits, of any agent. From what the policy itself may see of each VM:

 - never below a floor: `floor` times the memory that the VM uses, and for a while (`hold_s`) what it used before. Used is its
   size less what its statistics call available, else less what they call free; without statistics its sampled activity; where none
   is there `blind_share` of its configured memory, for nothing is known of it.
 - shrinking is slow: by at most `step` of configured memory a decision. Growing is not held back.
 - who stalls gets it back: a VM that reads from its own swap at `stall_mib_per_s`, or whose guest waits for memory (PSI) for
   `stall_share` of the time, is asked to have its configured size for `hand_back_s`, as far as the host has memory available
   beyond `kept_free` of its RAM.

What a policy asks to be reclaimed now is held to the same floor and step, and to nothing for a VM that stalls. Its other
channels pass. Sizes that it does not set are not set for it: a policy without sizes is held in what it reclaims alone.

Left out: the host's own stalls. A VM whose memory the host swaps is not helped by more of it: handing back then made objectives be
missed for six times as long. And a floor that holds in every guest may be more than the host has; then the hypervisor's last resort
is at work. That is the shield's cost (docs/shield.md has it in figures).

Edge cases. A VM without statistics has the floor of the blind. A signal that is missing says nothing of a stall. NaN of the policy
leaves the size that was asked last, which the floor may raise. Period, profile and declaration are the policy's own.

Sources: that a guest is left what it uses and a reserve is Proxmox's and MOM's rule too. On validation seeds of quick, with a
trained `es`, hand-backs without `kept_free` killed VMs (15 in 8 episodes, with it none); a `floor` of .75 lost less goodput there,
and without guest swap did not keep anybody alive. The rest are guesses.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hvgym.agents.policy import ClairvoyantPolicy, Policy
from hvgym.envs.errors import InputError, shown
from hvgym.envs.schema import build, number
from hvgym.envs.telemetry import Targets, Telemetry


@dataclass(frozen=True)
class Limits:
    """The ``shield`` keys of an agent."""

    floor: float = number(1.1, above=0, most=2)
    hold_s: float = number(60.0, above=0)
    blind_share: float = number(0.5, least=0, most=1)
    step: float = number(0.05, above=0, most=1)
    stall_mib_per_s: float = number(4.0, above=0)
    stall_share: float = number(0.1, above=0, most=1)
    hand_back_s: float = number(60.0, least=0)
    kept_free: float = number(0.1, least=0, most=1)


def shielded(policy: Policy | ClairvoyantPolicy, given: Any) -> Policy:
    """The policy behind a shield. given: true, or its limits. Raises `InputError` for what cannot be shielded."""
    if given is not True and not isinstance(given, Mapping):
        raise InputError(f"agent.shield={shown(given)}: expected true, false or limits, as in {{step: 0.05}}")
    if not isinstance(policy, Policy):
        raise InputError("agent.shield: a clairvoyant reads no telemetry; it cannot be shielded")
    if policy.of_cluster or len(policy.parts) > 1:
        raise InputError("agent.shield: is of one host's policies; a policy of clusters cannot be shielded")
    return Shield(policy, Limits() if given is True else build(Limits, dict(given), "agent.shield"))


class Shield(Policy):
    """See the module. policy: what is shielded. held: share of the sizes asked for that it changed, since `reset`."""

    def __init__(self, policy: Policy, limits: Limits) -> None:
        self.policy, self.limits = policy, limits
        self.visibility, self.declaration = policy.visibility, policy.declaration
        self.places_starts = policy.places_starts

    @property
    def period_s(self) -> float:  # type: ignore[override]
        """The policy's own."""
        return self.policy.period_s

    @property
    def held(self) -> float:
        """See `Shield`."""
        return self._held / max(self._asked_for, 1)

    def granted(self, channels: Collection[str]) -> None:
        """See `Policy`."""
        self.policy.granted(channels)

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self.policy.reset(first, seed)
        vm = first.vm
        self._asked_mib = _known(vm["target_mib"], vm["size_mib"], vm["memory_mib"]).copy()
        self._floor_mib, self._handed_s = np.zeros(vm.shape), np.zeros(vm.shape)
        self._before: Telemetry | None = None
        self._held = self._asked_for = 0

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        answer = self.policy.decide(telemetry)
        seconds = 1.0 if self._before is None else max(float(telemetry.time_s[0] - self._before.time_s[0]), 1.0)
        floor_mib = self._floor(telemetry, seconds)
        stalled = self._stalled(telemetry, seconds)
        self._before = telemetry
        if answer.reclaim_mib is not None:
            answer = replace(answer, reclaim_mib=self._spared(answer.reclaim_mib, telemetry, floor_mib, stalled))
        if answer.memory_mib is None:
            return answer
        return replace(answer, memory_mib=self._sized(np.asarray(answer.memory_mib), telemetry, floor_mib, stalled))

    def _floor(self, telemetry: Telemetry, seconds: float) -> np.ndarray:
        """What a VM must keep, ``[env, vm]``."""
        vm, limits = telemetry.vm, self.limits
        size_mib = _known(vm["size_mib"], self._asked_mib)
        by_activity = np.where(np.nan_to_num(vm["active_periods"]) > 0.0, vm["active_share"] * vm["memory_mib"], np.nan)
        used_mib = _known(
            size_mib - vm["guest_available_mib"], size_mib - vm["guest_free_mib"], by_activity,
            limits.blind_share / limits.floor * vm["memory_mib"],
        )  # fmt: skip
        now_mib = np.maximum(used_mib, 0.0) * limits.floor
        kept = limits.hold_s / (limits.hold_s + seconds)
        self._floor_mib = np.maximum(now_mib, now_mib + (self._floor_mib - now_mib) * kept)
        return np.asarray(np.clip(self._floor_mib, vm["min_mib"], vm["memory_mib"]))

    def _stalled(self, telemetry: Telemetry, seconds: float) -> np.ndarray:
        """Which VMs stall for want of memory of their own, or did a short while ago."""
        vm, limits = telemetry.vm, self.limits
        stalls = np.nan_to_num(vm["guest_psi_some10"]) >= limits.stall_share
        if self._before is not None:
            rate = np.nan_to_num(vm["guest_swap_in_mib"] - self._before.vm["guest_swap_in_mib"]) / seconds
            stalls = stalls | (rate >= limits.stall_mib_per_s)
        self._handed_s = np.where(stalls, limits.hand_back_s, np.maximum(self._handed_s - seconds, 0.0))
        return np.asarray(stalls | (self._handed_s > 0.0))

    def _handed(self, safe_mib: np.ndarray, telemetry: Telemetry, stalled: np.ndarray) -> np.ndarray:
        """Sizes with what VMs that stall get back, each the same part of what it lacks, as far as the host has it."""
        lacks_mib = np.where(stalled, telemetry.vm["memory_mib"] - safe_mib, 0.0)
        most_mib = lacks_mib.sum(axis=1, keepdims=True)
        host = telemetry.host[:, :1]
        has_mib = np.maximum(_known(host["available_mib"] - self.limits.kept_free * host["total_mib"], most_mib), 0.0)
        part = np.divide(has_mib, most_mib, out=np.ones(most_mib.shape), where=most_mib > 0.0)
        return np.asarray(safe_mib + np.minimum(part, 1.0) * lacks_mib)

    def _sized(
        self, wanted_mib: np.ndarray, telemetry: Telemetry, floor_mib: np.ndarray, stalled: np.ndarray
    ) -> np.ndarray:
        """Sizes that pass, ``[env, vm]``; NaN where nothing is to change."""
        memory_mib, before_mib = telemetry.vm["memory_mib"], self._asked_mib
        asked_mib = np.where(np.isnan(wanted_mib), before_mib, wanted_mib)
        safe_mib = np.maximum(asked_mib, np.maximum(before_mib - self.limits.step * memory_mib, floor_mib))
        safe_mib = self._handed(np.minimum(safe_mib, np.maximum(memory_mib, asked_mib)), telemetry, stalled)
        changed = safe_mib != asked_mib
        self._held += int(changed.sum())
        self._asked_for += changed.size
        self._asked_mib = safe_mib
        return np.where(np.isnan(wanted_mib) & ~changed, np.nan, safe_mib)

    def _spared(
        self, reclaim_mib: np.ndarray, telemetry: Telemetry, floor_mib: np.ndarray, stalled: np.ndarray
    ) -> np.ndarray:
        """What may be reclaimed, ``[env, vm]``."""
        vm = telemetry.vm
        most_mib = np.minimum(
            _known(vm["resident_mib"], vm["memory_mib"]) - floor_mib, self.limits.step * vm["memory_mib"]
        )
        spared = np.minimum(reclaim_mib, np.where(stalled, 0.0, np.maximum(most_mib, 0.0)))
        return np.where(np.isnan(reclaim_mib), np.nan, spared)


def _known(*readings: np.ndarray) -> np.ndarray:
    """The first reading that is there, element by element."""
    found = readings[0]
    for reading in readings[1:]:
        found = np.where(np.isnan(found), reading, found)
    return np.asarray(found)
