"""senpai: a limit on each VM's cgroup that closes in until the VM just begins to stall.

Each second it adds up what the VM's process has stalled on memory since the last change (PSI ``some`` total). Above the
target the limit rises at once, by the square of the excess; after six seconds without that it falls, by 1 % while stalls
stay below a tenth of the target, by 0.01 % at the target. It sees nothing else: no free memory, no other VM. `start` and
`tick` are pure, in bytes and microseconds as the original, so that they can be compared with it.

Fails when: memory turns hot again faster than the limit rises, a surplus is large (1 % in six seconds is all it takes),
the host has plenty (it reclaims all the same, down to 100 MiB where nothing stalls).

Surrogate: ``memory.high`` is reclaim, each second, of what the VM's host RAM exceeds the limit by; a VM is not throttled
for growing. Left out: that somebody else changes the limit, on which the original starts anew. Where a signal is missing
the original ends with the limit in force; here the VM's tick is skipped.

Edge cases. Guests are asked nothing, so statistics that are missing, frozen or Windows' change nothing. A VM that
starts is taken over with a limit of what it holds in its first second, so its growth stalls it until the limit has
backed off. Where somebody else limits the VM too, both limits hold (the original sets its own anew).

Source: facebookincubator/senpai ``senpai.py`` (law, constants), re-implemented.
"""

import math
from dataclasses import dataclass

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets, Telemetry, Visibility

MIB = 1 << 20
PAGE = 4096


@dataclass(frozen=True)
class Law:
    """The original's command line."""

    interval_ticks: int = 6
    target_us: int = 10_000
    max_probe_share: float = 0.01
    max_backoff_share: float = 1.0
    probe_coefficient: float = 10.0
    backoff_coefficient: float = 20.0
    min_bytes: int = 100 << 20
    max_bytes: int = 100 << 30


@dataclass(frozen=True)
class Controlled:
    """What senpai remembers of a cgroup."""

    limit_bytes: int
    total_us: int
    integral_us: int
    grace_ticks: int


def start(current_bytes: int, total_us: int, law: Law) -> Controlled:
    """Take over a cgroup: its limit is what it uses."""
    return Controlled(_held(current_bytes, law), total_us, 0, law.interval_ticks)


def tick(seen: Controlled, total_us: int, law: Law) -> Controlled:
    """One second later, with the cgroup's stall total at `total_us`."""
    integral_us = seen.integral_us + total_us - seen.total_us
    if integral_us > law.target_us:
        excess = integral_us / law.target_us
        share = min((excess / law.backoff_coefficient) ** 2 * law.max_backoff_share, law.max_backoff_share)
    elif seen.grace_ticks > 0:
        return Controlled(seen.limit_bytes, total_us, integral_us, seen.grace_ticks - 1)
    else:
        calm = law.target_us / max(integral_us, 1)
        share = -min((calm / law.probe_coefficient) ** 2 * law.max_probe_share, law.max_probe_share)
    limit_bytes = _held(int(seen.limit_bytes + seen.limit_bytes * share), law)
    return Controlled(limit_bytes, total_us, 0, law.interval_ticks - 1)


def _held(limit_bytes: int, law: Law) -> int:
    """Within the bounds, in whole pages."""
    return max(law.min_bytes, min(law.max_bytes, limit_bytes)) & ~(PAGE - 1)


class Senpai(Policy):
    """Keeps one limit per VM."""

    period_s = 1.0
    visibility = Visibility.P0

    def __init__(
        self,
        interval_ticks: int = Law.interval_ticks,
        target_us: int = Law.target_us,
        max_probe_share: float = Law.max_probe_share,
        max_backoff_share: float = Law.max_backoff_share,
        probe_coefficient: float = Law.probe_coefficient,
        backoff_coefficient: float = Law.backoff_coefficient,
        min_mib: int = Law.min_bytes // MIB,
        max_mib: int = Law.max_bytes // MIB,
    ) -> None:
        self.law = Law(
            interval_ticks,
            target_us,
            max_probe_share,
            max_backoff_share,
            probe_coefficient,
            backoff_coefficient,
            min_mib * MIB,
            max_mib * MIB,
        )
        self._seen: list[list[Controlled | None]] = []

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self._seen = [[None] * first.vm.shape[1] for _ in range(first.vm.shape[0])]

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        reclaim_mib = np.full(telemetry.vm.shape, np.nan)
        for lane, seen in enumerate(self._seen):
            row = telemetry.vm[lane]
            columns = [row[name].tolist() for name in ("running", "resident_mib", "host_psi_some_s")]
            for index, (running, resident_mib, stalled_s) in enumerate(zip(*columns, strict=True)):
                if not running:
                    seen[index] = None
                elif not math.isnan(resident_mib + stalled_s):
                    current_bytes = int(resident_mib * MIB) & ~(PAGE - 1)
                    last, total_us = seen[index], round(stalled_s * 1e6)
                    now = start(current_bytes, total_us, self.law) if last is None else tick(last, total_us, self.law)
                    seen[index] = now
                    reclaim_mib[lane, index] = max(current_bytes - now.limit_bytes, 0) / MIB
        return Targets(reclaim_mib=reclaim_mib)
