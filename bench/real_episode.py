"""One episode of a scenario's stories on real guests, and the same in the simulator: the same policy object, period by period.

Real: guests boot, are given their settled sizes, write the pages that they begin with, run while the host comes down to its
RAM and for three touch periods of their slowest paced tier (what is filled first is evicted first, so that a cold start would
say little), and begin together. Simulated: an ordinary rollout of the same scenario, in which the policy reads no signal that the
real host lacks, and free memory of guests is backed as far as it was there. In both a VM's progress is the mean over seconds of
the share of its touches that it did, and misses are the seconds in which a critical VM did less than its objective.

No rails here: these guests are nobody's.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.policy import Policy
from hvgym.envs.errors import InputError
from hvgym.envs.real.fitting import granted, seen, unfit
from hvgym.envs.real.guests.crowding import Crowding, Watch
from hvgym.envs.real.guests.machines import Guests
from hvgym.envs.real.host import open_host
from hvgym.envs.scenario import Scenario
from hvgym.envs.story import Story
from hvgym.envs.telemetry import Targets, Telemetry

NEVER_S = 3600.0
"""A tier whose pages are touched more seldom is idle, and nobody waits for it."""

WARM_UPS, LONGEST_WARM_UP_S = 3.0, 120.0

BOOT_ONLY_MIB, HANDED_OUT_LAST_MIB = 100.0, 24.0
"""What every guest of ``envs.real.guests`` is like, read from the kept episodes of all stories (docs/fidelity.md): of the 131 MiB
that its kernel and process hold what a short host takes first and nobody reads back, and how much of its free memory at most is
backed since booting and left to the end (14 to 23 were)."""

NOTHING_FREE = 0.03
"""Of a guest's size: with no more than this free it is at its watermark, and has touched all of its memory."""

EARLY_S, LAST_WORDS_S = 0.1, 0.5
"""A decision may come so much before its time, and what a workload says of its last second so much after it."""


class UnfitError(InputError):
    """The policy cannot run on such guests."""


SHOWN = (
    "size_mib", "resident_mib", "host_swap_mib", "guest_free_mib", "guest_available_mib", "guest_major_faults", "guest_swap_in_mib",
    "guest_swap_out_mib", "host_swap_in_mib",
)  # fmt: skip
"""What of each VM is kept."""

LOOK_S = 5.0
"""The longest time between two readings that are kept, also of a policy that decides more seldom."""


@dataclass(frozen=True)
class Episode:
    """progress ``[second, vm]``, 0 of a VM that is gone; faults ``[vm]``: major faults in the guest; rows: what was read, at each
    decision at least; lost: VMs that ended; crowding: who else had the processors; host: in words; signals: names of those that
    were known."""

    names: tuple[str, ...]
    progress: np.ndarray
    faults: np.ndarray
    lost: tuple[str, ...]
    rows: list[dict[str, Any]]
    crowding: Crowding
    host: str
    signals: tuple[str, ...]

    def figures(self) -> dict[str, Any]:
        """Means over seconds, by VM and of all."""
        by_vm = dict(zip(self.names, np.round(self.progress.mean(axis=0), 4).tolist(), strict=True))
        return {
            "progress": round(float(self.progress.mean()), 4), "by_vm": by_vm,
            "faults": dict(zip(self.names, self.faults.tolist(), strict=True)), "lost": list(self.lost),
        }  # fmt: skip


def play(
    guests: Guests,
    policy: Policy,
    agent: str,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
    warm_up_s: float | None = None,
) -> Episode:
    """On real guests, which are started and ended here. warm_up_s: how long they run before; None lets them get warm.

    Raises `UnfitError` where the policy cannot run.
    """
    scenario = guests.scenario
    warm_up_s = warm_up_of(scenario) if warm_up_s is None else warm_up_s
    try:
        guests.start()
        say(f"{len(guests.guests)} guests are up ({guests.accelerator}; {guests.confined.told})")
        host = open_host(guests.settings())
        try:
            first = host.reset([0])
            settle(host, scenario)
            guests.fill(seed)
            guests.warm()
            host.advance(0.0)
            host.advance(warm_up_s)
            first = host.reset([0])
            if reason := unfit(policy.declaration, host, first):
                raise UnfitError(f"agent {agent} on real guests: {reason}")
            say("warm; the episode begins")
            guests.go(scenario.duration_s)
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
    rows, now, next_s = list[dict[str, Any]](), first, 0.0
    crowd = Watch([guest.process.pid for guest in guests.guests])
    while now.time_s[0] < scenario.duration_s:
        if now.time_s[0] >= next_s - EARLY_S and next_s < scenario.duration_s:
            host.apply(_open_to(host, policy.decide(seen(policy.declaration, policy.visibility, now))))
            next_s += policy.period_s
        rows += _rows(names, now)
        left_s = min(next_s, scenario.duration_s) - float(now.time_s[0])
        now = host.advance(min(max(left_s, 0.2), LOOK_S))
        for name, seconds in guests.progress().items():
            told[name] |= dict(seconds)
    rows += _rows(names, now)
    crowding = crowd.told()
    time.sleep(LAST_WORDS_S)
    for name, seconds in guests.progress().items():
        told[name] |= dict(seconds)
    progress = _by_second(told, names, scenario.duration_s)
    lost = tuple(guest.name for guest in guests.guests if guest.process.poll() is not None)
    faults = now.vm["guest_major_faults"][0] - first.vm["guest_major_faults"][0]
    return Episode(
        names, progress, faults, lost, rows, crowding, guests.confined.told, tuple(sorted(host.signals(first)))
    )


def _by_second(told: dict[str, dict[int, float]], names: tuple[str, ...], seconds: int) -> np.ndarray:
    progress = np.zeros((seconds, len(names)))
    for index, name in enumerate(names):
        for second, share in told[name].items():
            if second < seconds:
                progress[second, index] = share
    return progress


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
            **{signal: _known(now.vm[0, i][signal]) for signal in SHOWN},
        }
        for i, name in enumerate(names)
    ]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 2)


def settle(host: Any, scenario: Scenario, seconds: float = 60.0) -> None:
    """Give VMs the sizes that their balloons have held for long, and wait until they have them."""
    sizes = np.array([[group.settled_mib or np.nan for group in scenario.groups]])
    if np.isnan(sizes).all():
        return
    host.apply(Targets(memory_mib=sizes))
    end = time.monotonic() + seconds
    while np.nanmax(np.abs(host.advance(1.0).vm["size_mib"] - sizes)) > 1.0 and time.monotonic() < end:
        continue


def warm_up_of(scenario: Scenario) -> int:
    """Seconds that guests run before an episode: `WARM_UPS` touch periods of the slowest paced tier."""
    periods = [
        tier.retouch_s
        for group in scenario.groups
        if isinstance(group.story, Story)
        for tier in group.story.tiers
        if tier.retouch_s < NEVER_S
    ]
    return round(min(WARM_UPS * max(periods, default=0.0), LONGEST_WARM_UP_S))


class _Seeing(Policy):
    """A policy to which other signals are not known, whatever the rules."""

    def __init__(self, policy: Policy, signals: frozenset[str]) -> None:
        self.policy, self.signals = policy, signals
        self.period_s, self.visibility, self.declaration = policy.period_s, policy.visibility, policy.declaration

    def granted(self, channels: Collection[str]) -> None:
        """See `Policy`."""
        self.policy.granted(channels)

    def reset(self, first: Telemetry, seed: int) -> None:
        """See `Policy`."""
        self.policy.reset(first.restricted_to(self.signals), seed)

    def decide(self, telemetry: Telemetry) -> Targets:
        """See `Policy`."""
        return self.policy.decide(telemetry.restricted_to(self.signals))


def as_measured(scenario: Scenario, rows: Sequence[Mapping[str, Any]]) -> Scenario:
    """The scenario with these guests: they have run warm, are what they are like (`BOOT_ONLY_MIB` and
    `HANDED_OUT_LAST_MIB`), and what the `rows` of a real episode say of them, the memory of their processes (`process_mib`) and
    how much of their free memory the host backed as it began (`backed_free_share`)."""
    own_mib = process_mib(rows)
    vms = tuple(
        replace(
            group,
            settled_cold=False,
            boot_only_mib=BOOT_ONLY_MIB,
            handed_out_last_mib=HANDED_OUT_LAST_MIB,
            overhead_mib=group.overhead_mib if own_mib is None else own_mib,
        )
        for group in scenario.vms
    )
    scenario = replace(scenario, vms=vms)
    backed = backed_free_share(scenario, rows)
    return scenario if backed is None else replace(scenario, touched_share=backed)


def process_mib(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Host memory of a guest's process beside its guest's: what the host holds and has swapped out beyond the guest's size, where
    next to nothing is free in it and so all of it is backed; the median. None where no guest was squeezed so far."""
    found = [
        float(row["resident_mib"]) + float(row["host_swap_mib"]) - float(row["size_mib"])
        for row in rows
        if None not in [row.get(key) for key in ("resident_mib", "host_swap_mib", "size_mib", "guest_free_mib")]
        and float(row["guest_free_mib"]) <= NOTHING_FREE * float(row["size_mib"])
    ]
    return max(round(float(np.median(found)), 1), 0.0) if found else None


def backed_free_share(scenario: Scenario, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Of what is free in the guests as an episode begins, the share that the host backs, as its `rows` have it: a guest that has
    just booted has never touched most of it, one that has run for weeks has. None where the host does not say, or nothing is
    free."""
    names = {group.name: group.overhead_mib for group in scenario.groups}
    backed = free = 0.0
    for row in rows[: len(names)]:
        read = [row.get(key) for key in ("resident_mib", "host_swap_mib", "size_mib", "guest_free_mib")]
        if None in read:
            return None
        resident, swapped, size, unused = (float(value) for value in read if value is not None)
        overhead = names[row["vm"]]
        backed += min(max(resident + swapped - (overhead or 0.0) - (size - unused), 0.0), unused)
        free += unused
    return backed / free if free > 0.0 else None


def simulated(
    scenario: Scenario,
    policy: Policy,
    agent: str,
    signals: Collection[str] | None = None,
) -> dict[str, Any]:
    """The same figures of an ordinary rollout, with the state of VMs after each control interval. signals: all that a policy can
    read, as on a real host; None leaves it what it declares."""
    from hvgym.bench.rollout import playing

    if signals is not None:
        policy = _Seeing(policy, frozenset(signals))
    names = [group.name for group in scenario.groups]
    rows, seconds = list[dict[str, Any]](), list[list[float]]()
    vms, done_s = None, np.zeros(len(names))
    for now, sim in playing(scenario, policy, [0], agent):
        vms = sim.vms[0].copy()
        rows += _rows(tuple(names), now)
        share = np.round((vms["progress_s"] - done_s) / scenario.control_interval_s, 4)
        seconds += [share.tolist()] * scenario.control_interval_s
        done_s = vms["progress_s"]
    assert vms is not None
    by_vm = dict(zip(names, np.round(vms["progress_s"] / vms["asked_s"], 4).tolist(), strict=True))
    return {
        "progress": round(float(np.mean(list(by_vm.values()))), 4),
        "by_vm": by_vm,
        "misses": float(vms["slo_violation_s"].sum()),
        "kills": float(vms["oom_kills"].sum()),
        "faults": dict(zip(names, np.round(vms["major_faults"]).tolist(), strict=True)),
        "rows": rows,
        "seconds": seconds,
    }


def misses(scenario: Scenario, progress: np.ndarray) -> float:
    """Seconds in which critical VMs did less than their objective, summed over VMs; progress ``[second, vm]``."""
    groups = scenario.groups
    return float(sum((progress[:, i] < 1.0 / one.slo_slowdown).sum() for i, one in enumerate(groups) if one.critical))


def folder_of_guests(runs: Path) -> Path:
    """Where kernel, initrd and sockets lie."""
    return runs / "guests"
