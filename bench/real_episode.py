"""One episode of a scenario's stories on real guests, and the same in the simulator: the same policy object, period by period.

Real: guests boot, are given their settled sizes, write the pages that they begin with, run for three touch periods of their
slowest paced tier (what is filled first is evicted first, so that a cold start would say little), and begin together. Simulated: an
ordinary rollout of the same scenario. In both a VM's progress is the mean over seconds of the share of its touches that it did.

No rails here: these guests are nobody's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.errors import InputError
from hvgym.envs.real.fitting import granted, seen, unfit
from hvgym.envs.real.guests.machines import Guests
from hvgym.envs.real.host import open_host
from hvgym.envs.scenario import Scenario
from hvgym.envs.story import Story
from hvgym.envs.telemetry import Targets, Telemetry

NEVER_S = 3600.0
"""A tier whose pages are touched more seldom is idle, and nobody waits for it."""

WARM_UPS, LONGEST_WARM_UP_S = 3.0, 120.0

SHOWN = ("size_mib", "resident_mib", "host_swap_mib", "guest_free_mib", "guest_available_mib")


@dataclass(frozen=True)
class Episode:
    """progress ``[second, vm]``, 0 of a VM that is gone; faults ``[vm]``: major faults in the guest; rows: what was read at each
    decision; lost: VMs that ended."""

    names: tuple[str, ...]
    progress: np.ndarray
    faults: np.ndarray
    lost: tuple[str, ...]
    rows: list[dict[str, Any]]

    def figures(self) -> dict[str, Any]:
        """Means over seconds, by VM and of all."""
        by_vm = dict(zip(self.names, np.round(self.progress.mean(axis=0), 4).tolist(), strict=True))
        return {
            "progress": round(float(self.progress.mean()), 4), "by_vm": by_vm,
            "faults": dict(zip(self.names, self.faults.tolist(), strict=True)), "lost": list(self.lost),
        }  # fmt: skip


def play(
    guests: Guests, policy: Policy, agent: str, seed: int, say: Callable[[str], None] = lambda text: None
) -> Episode:
    """On real guests, which are started and ended here. Raises `InputError` where the policy cannot run."""
    scenario = guests.scenario
    try:
        guests.start()
        say(f"{len(guests.guests)} guests are up ({guests.accelerator})")
        host = open_host(guests.settings())
        try:
            first = host.reset([0])
            settle(host, scenario)
            guests.fill(seed)
            guests.go(warm_up_s(scenario) + scenario.duration_s)
            host.advance(warm_up_s(scenario))
            first = host.reset([0])
            if reason := unfit(policy.declaration, host, first):
                raise InputError(f"agent {agent} on real guests: {reason}")
            guests.progress()
            say("warm; the episode begins")
            return _played(guests, host, policy, first)
        finally:
            host.close()
    finally:
        guests.stop()


def _played(guests: Guests, host: Any, policy: Policy, first: Telemetry) -> Episode:
    scenario, names = guests.scenario, tuple(guests.names)
    policy.granted(granted(policy.declaration, host))
    policy.reset(seen(policy.declaration, policy.visibility, first), seed=0)
    told: dict[str, dict[int, float]] = {name: {} for name in names}
    rows, now = list[dict[str, Any]](), first
    while now.time_s[0] < scenario.duration_s:
        host.apply(_open_to(host, policy.decide(seen(policy.declaration, policy.visibility, now))))
        rows += _rows(names, now)
        now = host.advance(min(policy.period_s, max(scenario.duration_s - float(now.time_s[0]), 0.2)))
        for name, seconds in guests.progress().items():
            told[name] |= dict(seconds)
    begun = warm_up_s(scenario)
    progress = np.zeros((scenario.duration_s, len(names)))
    for index, name in enumerate(names):
        for second, share in told[name].items():
            if 0 <= second - begun < scenario.duration_s:
                progress[second - begun, index] = min(share, 1.0)
    lost = tuple(guest.name for guest in guests.guests if guest.process.poll() is not None)
    faults = now.vm["guest_major_faults"][0] - first.vm["guest_major_faults"][0]
    return Episode(names, progress, faults, lost, rows)


def _open_to(host: Any, asked: Targets) -> Targets:
    """What of an answer this host has a channel for; the scanner of page sharing is not ours to set."""
    return Targets(
        memory_mib=asked.memory_mib, reclaim_mib=asked.reclaim_mib if asked.reclaim_mib is not None else None
    )


def _rows(names: tuple[str, ...], now: Telemetry) -> list[dict[str, Any]]:
    return [
        {
            "time_s": round(float(now.time_s[0]), 1),
            "vm": name,
            **{signal: float(now.vm[0, i][signal]) for signal in SHOWN},
        }
        for i, name in enumerate(names)
    ]


def settle(host: Any, scenario: Scenario, seconds: float = 60.0) -> None:
    """Give VMs the sizes that their balloons have held for long, and wait until they have them."""
    sizes = np.array([[group.settled_mib or np.nan for group in scenario.groups]])
    if np.isnan(sizes).all():
        return
    host.apply(Targets(memory_mib=sizes))
    end = time.monotonic() + seconds
    while np.nanmax(np.abs(host.advance(1.0).vm["size_mib"] - sizes)) > 1.0 and time.monotonic() < end:
        continue


def warm_up_s(scenario: Scenario) -> int:
    """Seconds that guests run before an episode."""
    periods = [
        tier.retouch_s
        for group in scenario.groups
        if isinstance(group.story, Story)
        for tier in group.story.tiers
        if tier.retouch_s < NEVER_S
    ]
    return round(min(WARM_UPS * max(periods, default=0.0), LONGEST_WARM_UP_S))


def simulated(scenario: Scenario, policy: Policy, agent: str) -> dict[str, Any]:
    """The same figures of an ordinary rollout."""
    from hvgym.bench.rollout import playing

    last = None
    for _, sim in playing(scenario, policy, [0], agent):
        last = sim
    assert last is not None
    vms = last.vms[0]
    by_vm = dict(
        zip(
            [group.name for group in scenario.groups],
            np.round(vms["progress_s"] / vms["asked_s"], 4).tolist(),
            strict=True,
        )
    )
    return {
        "progress": round(float(np.mean(list(by_vm.values()))), 4),
        "by_vm": by_vm,
        "kills": float(vms["oom_kills"].sum()),
    }


def folder_of_guests(runs: Path) -> Path:
    """Where kernel, initrd and sockets lie."""
    return runs / "guests"
