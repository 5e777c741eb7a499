"""Several policies on one host, each as it would run alone: its own period, its own view, its own channels.

A host rarely runs one thing: Proxmox balloons, and ksmtuned sets page sharing beside it. Parts do not know of each other.
Each decides when its own period has passed and sees what its own profile includes; in between its channels are left as they
are. Two parts may not answer the same channel.

Edge cases. Each part meets them as it does alone.

What the whole declares holds, ``signals: seat`` too. A part that declares channels is told of those alone; another of all that
both have. It runs at the greatest common divisor of the periods, in whole seconds, and counts as the least profile that includes
those of all parts. Parts share a clock, as all hosts of a rollout do.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hvgym.agents.policy import Policy, make_policy
from hvgym.envs.errors import InputError
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


class Together(Policy):
    """Asks every part in turn. `parts`: configurations as of any agent."""

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        if not isinstance(parts, Sequence) or not parts or not all(isinstance(part, Mapping) for part in parts):
            raise InputError(f"agent.parts={parts!r}: expected a list of agents, each with its _target_")
        self.names = [str(part.get("name", part.get("_target_", "?"))) for part in parts]
        self.runs = [_made(part, name) for part, name in zip(parts, self.names, strict=True)]
        self._declared = [
            run.declaration.channels if "channels" in part else None for run, part in zip(self.runs, parts, strict=True)
        ]
        self.period_s = self._common_s()
        self.visibility = least_profile([part.visibility for part in self.runs])

    def granted(self, channels: Collection[str]) -> None:
        """See `Policy`."""
        for part, declared in zip(self.runs, self._declared, strict=True):
            part.granted([name for name in channels if declared is None or name in declared])
        self.period_s = self._common_s()  # a part may decide at another pace with what it has here

    def _common_s(self) -> float:
        """What divides the periods of all parts."""
        return float(math.gcd(*(_seconds(part, name) for part, name in zip(self.runs, self.names, strict=True))))

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self.owners: dict[str, int] = {}
        self.next_s = [float(first.time_s[0])] * len(self.runs)
        for part in self.runs:
            part.reset(first.seen_with(part.visibility), seed)

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        merged, now_s = Targets(), float(telemetry.time_s[0])
        for index, part in enumerate(self.runs):
            if now_s >= self.next_s[index]:
                self.next_s[index] += part.period_s
                merged = self._merge(merged, part.decide(telemetry.seen_with(part.visibility)), index)
        return merged

    def _merge(self, merged: Targets, answer: Targets, index: int) -> Targets:
        """Add one part's answer. Raises `InputError` where a channel is another part's."""
        given = {f.name: getattr(answer, f.name) for f in dataclasses.fields(Targets)}
        given = {channel: value for channel, value in given.items() if value is not None}
        for channel in given:
            owner = self.owners.setdefault(channel, index)
            if owner != index:
                raise InputError(f"agent.parts: {self.names[owner]} and {self.names[index]} both answer {channel}")
        return dataclasses.replace(merged, **given)


def least_profile(seen: Sequence[Visibility]) -> Visibility:
    """The profile that includes all of these and least else."""
    union = frozenset().union(*(profile.includes for profile in seen))
    able = [profile for profile in Visibility if profile.includes >= union]
    if not able:
        raise InputError(f"agent.parts: no profile includes {' and '.join(sorted({profile.name for profile in seen}))}")
    return min(able, key=lambda profile: (len(profile.includes), profile))


def _made(config: Mapping[str, Any], name: str) -> Policy:
    policy = make_policy(config)
    if not isinstance(policy, Policy):
        raise InputError(f"agent.parts: {name} sees the hidden state; a part must be a Policy")
    return policy


def _seconds(part: Policy, name: str) -> int:
    if part.period_s < 1.0 or part.period_s != int(part.period_s):
        raise InputError(f"agent.parts: {name} runs every {part.period_s:g} s; a part needs whole seconds")
    return int(part.period_s)
