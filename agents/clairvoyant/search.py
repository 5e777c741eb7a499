"""Search for the best course of an episode among plans (``planning``), by playing them in copies of the very model.

A course is a plan and the tilts of its VMs, for each of `PARTS` parts of the episode. The search begins from the state of one
environment and the demand to come, and has a budget of episodes:

1. Every plan of `basic` that the channels allow is played to the end.
2. Switches of the best are turned one by one: reporting, scanning, whole large pages, admission, shares.
3. Numbers are searched around the best: horizon, speed and share of a squeeze, what is kept free, and the tilts of VMs, those that
   are specified alike together. An evolution strategy with one parent; its step grows by `WIDER` when more than a fifth of the
   children are better than their parent, else it shrinks (Rechenberg's rule of one fifth).
4. Where each later part of the episode begins, the rest is searched once more around what has been found, and with the best of the
   other plans.

One course is better than another if it has fewer kills, and then by its weighted progress, less what kills cost; or by the seconds
in which critical VMs miss their objective, where that is what counts, and progress only between equals. To never reclaim
and leave all to the hypervisor is among the plans, so a course is never worse than that. A budget that does not cover all of 1
plays of each kind of plan the first few, and nothing after. Nothing is drawn but from a generator
seeded by the episode's seed, so a course does not depend on who plays beside it.

Left out: VMs that are specified alike have one tilt; plans are rules, and what no rule of theirs does is not found; limits of host
memory are never set, though a seat may have them.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hvgym.agents.clairvoyant import planning
from hvgym.agents.clairvoyant.planning import HOLD, OWN, PLAN, RECLAIM, SQUEEZE, YIELD
from hvgym.agents.policy import Policy
from hvgym.agents.stock import Running
from hvgym.envs.model import tick
from hvgym.envs.model.compiled import compiled
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import HiddenState

PARTS = 4
"""Of an episode (a guess: a quarter of an hour of an hour)."""

CHILDREN = 12
"""Of a generation (a guess)."""

WIDER, NARROWER, FIFTH = 1.3, 0.75, 0.2
FIRST_STEP, LATER_STEP = 0.5, 0.3
"""Of logarithms of numbers, and of tilts; guesses."""

MOST_TILT = 6.0
"""Either way: 400 times the weight."""

STEP_FREE_MIB, STEP_CAPACITY = 500.0, 0.1
"""Per step: of memory kept free, and of the logarithm of the share that is squeezed; guesses."""

ABOVE_COST, ABOVE_WORTH = 4.0, 0.005
"""A policy beneath is Python, so an episode above one counts as this many; and numbers are searched there only if switches have
gained this share of what could be gained at all."""

SQUEEZES = ((30.0, 12.0, 1.0), (30.0, 12.0, 1.1), (100.0, 30.0, 1.0), (100.0, 30.0, 1.1), (300.0, 30.0, 1.0))
TAKES = ((100.0, 0.0), (100.0, 2000.0), (1000.0, 0.0), (1000.0, 500.0))
"""Horizon, speed and share of a squeeze; horizon, and what is kept free. Found on training seeds of the packaged scenarios."""

ABOVE_ALL_PROGRESS = 2.0
"""Where misses count, progress is worth less than one second of them, rounding aside."""

Counts = Literal["goodput", "misses"]
"""What a course is judged by, beside kills."""

FIELDS = ("vms", "hosts", "vm_specs", "host_specs", "clock_s")


@dataclass(frozen=True)
class State:
    """Copies of an environment, as in `HiddenState`; the demand is shared, ``[1, slot, vm]``."""

    vms: np.ndarray
    hosts: np.ndarray
    vm_specs: np.ndarray
    host_specs: np.ndarray
    clock_s: np.ndarray

    def copies(self, count: int) -> "State":
        """As many of the only one here."""
        return State(*(np.repeat(getattr(self, name), count, axis=0) for name in FIELDS))


@dataclass(frozen=True)
class Course:
    """From which second on which plan holds, and the tilts of VMs, ``[part]`` and ``[part, vm, 3]``."""

    since_s: tuple[int, ...]
    plans: np.ndarray
    tilts: np.ndarray

    def at(self, clock_s: int) -> int:
        """The part that a second belongs to."""
        return max(part for part, since in enumerate(self.since_s) if since <= clock_s or part == 0)


@compiled
def _missed_s(vms, vm_specs, kill_s: float) -> float:  # type: ignore[no-untyped-def]
    """Seconds in which critical VMs of one environment have missed their objective, a kill of any counting as `kill_s`."""
    missed_s = 0.0
    for v in range(len(vms)):
        missed_s += vms[v].slo_violation_s * vm_specs[v].critical + kill_s * vms[v].oom_kills
    return missed_s


@compiled
def _play(  # type: ignore[no-untyped-def]
    vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s: int, plans, period_s: int, until_s: int, work, most_s: float,
    kill_s: float,
) -> None:  # fmt: skip
    """Let each environment follow its plan until a second, or until its missed seconds, a kill counting as `kill_s`, are more
    than `most_s`; arrays as in ``planning.decide``, demand ``[1, slot, vm]``."""
    last = demand.shape[1] - 1
    for e in range(vms.shape[0]):
        while clock_s[e] < until_s and _missed_s(vms[e], vm_specs[e], kill_s) <= most_s:
            planning.decide_one(
                vms[e], hosts[e], vm_specs[e], host_specs[e], demand[0], clock_s[e], slot_s, plans[e], float(period_s), work[e]
            )  # fmt: skip
            planning.apply_one(vms[e], hosts[e], vm_specs[e], host_specs[e], plans[e], work[e])
            for _ in range(min(period_s, until_s - clock_s[e])):
                tick.tick(
                    vms[e], hosts[e, 0], vm_specs[e], host_specs[e, 0], demand[0, min(clock_s[e] // slot_s, last)]
                )
                clock_s[e] += 1


class _Given:
    """Demand that is already there."""

    def __init__(self, demand: np.ndarray, slot_s: int) -> None:
        self.slots, self.slot_s, self._demand = demand.shape[1], slot_s, demand

    def fill(self, seed: int, vm_specs: np.ndarray, host_specs: np.ndarray, demand: np.ndarray) -> None:
        """See `DemandSource`."""
        demand[:] = self._demand[0]


class Trials:
    """Plays plans from one environment's state on. beneath: the hypervisor's own policy, where it runs on; played: episodes so
    far, parts of one counted as such."""

    def __init__(
        self, hidden: HiddenState, lane: int, period_s: int, scenario: Scenario, beneath: Policy | None = None,
        counts: Counts = "goodput",
    ) -> None:  # fmt: skip
        self.start = State(*(getattr(hidden, name)[lane : lane + 1].copy() for name in FIELDS))
        self.demand, self.slot_s = hidden.demand[lane : lane + 1], hidden.slot_s
        self.period_s, self.end_s = period_s, scenario.duration_s
        self.scenario, self.beneath, self.counts = scenario, beneath, counts
        self.played = 0.0

    @property
    def kill_s(self) -> float:
        """More than all seconds that can be missed."""
        return 2.0 + self.start.vms.shape[1] * self.end_s

    @property
    def start_s(self) -> int:
        """Second at which they begin."""
        return int(self.start.clock_s[0])

    def play(self, state: State, plans: np.ndarray, tilts: np.ndarray, until_s: int, floor: float = -math.inf) -> State:
        """Follow each plan with its tilts, ``[plan]`` and ``[plan, vm, 3]``, from the one state given.

        Where misses count, one is left as soon as it cannot come to a rank of `floor` any more; it then ranks below that.
        """
        trial = state.copies(len(plans))
        work = np.zeros(trial.vms.shape, planning.WORK)
        for index, name in enumerate(planning.TILTS):
            work[name] = tilts[..., index]
        if self.beneath is None:
            _play(
                trial.vms, trial.hosts, trial.vm_specs, trial.host_specs, self.demand, trial.clock_s, self.slot_s, plans,
                self.period_s, until_s, work, ABOVE_ALL_PROGRESS - floor if self.counts == "misses" else math.inf, self.kill_s,
            )  # fmt: skip
        else:
            trial = self._play_above(self.beneath, trial, plans, work, until_s)
        cost = ABOVE_COST if self.beneath is not None else 1.0
        self.played += cost * len(plans) * (until_s - int(state.clock_s[0])) / max(self.end_s - self.start_s, 1)
        return trial

    def _play_above(self, stock: Policy, trial: State, plans: np.ndarray, work: np.ndarray, until_s: int) -> State:
        """As `_play`, with a policy beneath that reads what the hosts tell; it begins anew, so only from an episode's start."""
        sim = Simulator(self.scenario, len(plans), source=_Given(self.demand, self.slot_s))
        for name in FIELDS:
            getattr(sim, name)[:] = getattr(trial, name)
        sim.demand[:] = self.demand
        sim.host_specs["watching_cpu"] = sim.vm_specs["watch_tax"] = 0.0  # it pays anew
        sim.read(0, sim.lanes)
        telemetry, begins = sim.telemetry(), int(sim.clock_s[0])
        running = Running(stock, sim)
        running.begin(telemetry)
        stride = math.gcd(self.period_s, *running.steps_s)
        for now in range(begins, until_s, stride):
            if (now - begins) % self.period_s == 0:
                planning.decide(
                    sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, sim.demand, sim.clock_s, self.slot_s, plans,
                    float(self.period_s), work,
                )  # fmt: skip
                planning.apply(sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, plans, work)
            running.act(telemetry)
            telemetry = sim.advance(min(stride, until_s - now))
        return State(*(getattr(sim, name) for name in FIELDS))

    def ranks(self, trial: State) -> np.ndarray:
        """What orders courses, ``[plan]``: work less what kills and failed starts cost; a missed second outweighs all of it
        where misses count, and a kill all of that."""
        weight = trial.vm_specs["weight"]
        done = weight * (trial.vms["progress_s"] - trial.vms["charged_s"])
        everything = weight.sum(axis=1) * (self.end_s + 2.0 * trial.vm_specs["kill_cost_s"].max(axis=1))
        ranks = done.sum(axis=1)
        if self.counts == "misses":
            missed_s = (trial.vms["slo_violation_s"] * (trial.vm_specs["critical"] > 0.0)).sum(axis=1)
            ranks = ranks / everything - missed_s
            everything = np.full(len(ranks), self.kill_s)
        found: np.ndarray = ranks - everything * trial.vms["oom_kills"].sum(axis=1)
        return found


def plan(kind: int, channels: tuple[str, ...], **numbers: float) -> np.ndarray:
    """A plan that keeps to the channels: free pages are reported and nothing is scanned, where that can be chosen."""
    chosen = np.zeros((), PLAN)
    chosen["kind"], chosen["capacity"], chosen["shrink_mib_per_s"] = kind, 1.0, 1e9
    chosen["reports"] = 1.0 if "report_free_pages" in channels else OWN
    chosen["scan_pages_per_s"] = 0.0 if "scan_pages_per_s" in channels else OWN
    chosen["sizes"], chosen["by_age"] = "memory_mib" in channels, "reclaim_age_s" in channels
    for name, value in numbers.items():
        chosen[name] = value
    return chosen


def basic(channels: tuple[str, ...]) -> np.ndarray:
    """Plans to begin with; the first is to leave everything to the hypervisor."""
    found = [plan(HOLD, channels, reports=OWN, scan_pages_per_s=OWN), plan(HOLD, channels)]
    if "memory_mib" in channels:
        found += [
            plan(SQUEEZE, channels, horizon_s=horizon_s, shrink_mib_per_s=speed, capacity=capacity)
            for horizon_s, speed, capacity in SQUEEZES
        ]
    for kind, channel in ((YIELD, "memory_mib"), (RECLAIM, "reclaim_mib")):
        if channel in channels:
            found += [plan(kind, channels, horizon_s=horizon_s, free_mib=free) for horizon_s, free in TAKES]
    return np.array(found)


def few(plans: np.ndarray, count: int) -> np.ndarray:
    """So many of them, the first of each kind before the second of any; all are left in their order."""
    kinds = plans["kind"].tolist()
    turns = [kinds[:index].count(kind) for index, kind in enumerate(kinds)]
    return plans[np.sort(np.argsort(turns, kind="stable")[:count])]


def turned(
    best: np.ndarray, tilts: np.ndarray, channels: tuple[str, ...], start: State
) -> tuple[np.ndarray, np.ndarray]:
    """A plan and its tilts with one switch turned each, as far as there is such a channel and it can matter."""
    host, spec, specs = start.hosts[0, 0], start.host_specs[0, 0], start.vm_specs[0]
    turns: list[tuple[dict[str, float], np.ndarray]] = []
    if "report_free_pages" in channels:
        turns += [({"reports": value}, tilts) for value in (0.0, 1.0)]
    if "scan_pages_per_s" in channels:
        turns += [({"scan_pages_per_s": value}, tilts) for value in (OWN, 0.0, 100e3)]
    if "reclaim_mib" in channels and spec["large_state"] > 0.0:
        turns += [({"whole": 1.0}, tilts)]
    if "admit" in channels and (host["waiting"] > 0.0 or (specs["arrive_s"] > 0.0).any()):
        turns += [({"fills": value}, tilts) for value in (0.8, 0.9, 1.0, 1.1, 1.25)]
    if {"disk_shares", "net_shares"} & set(channels):
        waits = specs["disk_waits_per_s"] > 0.0
        for urgent in (np.zeros(len(specs)), specs["critical"], 1.0 * waits):
            turns += [({"shares": 1.0}, tilts + factor * urgent[:, None] * [0.0, 1.0, 1.0]) for factor in (1.0, 3.0)]
    plans = np.repeat(best[None], len(turns))
    for index, (numbers, _) in enumerate(turns):
        for name, value in numbers.items():
            plans[name][index] = value
    return plans, np.array([tilt for _, tilt in turns]).reshape(len(turns), *tilts.shape)


def children(
    rng: np.random.Generator, best: np.ndarray, tilts: np.ndarray, alike: np.ndarray, step: float, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Plans and tilts around one; alike: for each VM the number of its kind."""
    plans = np.repeat(best[None], count)
    drawn = rng.standard_normal((count, 4))
    plans["horizon_s"] = np.clip(plans["horizon_s"] * np.exp(step * drawn[:, 0]), 5.0, 3600.0)
    plans["shrink_mib_per_s"] = np.clip(plans["shrink_mib_per_s"] * np.exp(step * drawn[:, 1]), 1.0, 1e9)
    plans["capacity"] = np.clip(plans["capacity"] * np.exp(STEP_CAPACITY * step * drawn[:, 2]), 0.5, 2.0)
    plans["free_mib"] += STEP_FREE_MIB * step * drawn[:, 3]
    tilted = tilts + step * rng.standard_normal((count, alike.max() + 1, tilts.shape[1]))[:, alike]
    return plans, np.clip(tilted, -MOST_TILT, MOST_TILT)


class Search:
    """One environment's search; `episodes`: its budget, at least 1. Switches are played in any case where all basic plans are."""

    def __init__(self, trials: Trials, channels: tuple[str, ...], episodes: float) -> None:
        self.trials, self.channels, self.episodes = trials, channels, episodes
        self.rng = np.random.default_rng([int(trials.start.hosts["seed"][0, 0]), trials.start_s])
        rows = [spec.tobytes() for spec in trials.start.vm_specs[0]]
        self.alike = np.array([rows.index(row) for row in rows])
        self.alike = np.unique(self.alike, return_inverse=True)[1]

    def course(self) -> Course:
        """The best that is found."""
        trials, end_s = self.trials, self.trials.end_s
        plans = basic(self.channels)
        if cut := len(plans) > self.episodes:
            plans = few(plans, int(self.episodes))
        none = np.zeros((len(self.alike), len(planning.TILTS)))
        if cut and trials.beneath is None:
            return Course((trials.start_s,), self._first(plans, none)[None], none[None])
        ranks = trials.ranks(trials.play(trials.start, plans, np.zeros((len(plans), *none.shape)), end_s))
        order = np.argsort(-ranks, kind="stable")
        best: Any = (plans[order[0]], none, ranks[order[0]])
        if cut:
            return Course((trials.start_s,), best[0][None], none[None])
        best = self._better(trials.start, best, *turned(best[0], none, self.channels, trials.start))
        tunable = bool(best[0]["kind"] != HOLD or best[0]["shares"] > 0.0)
        if trials.beneath is not None:
            tunable &= best[2] - ranks[0] > ABOVE_WORTH * trials.start.vm_specs["weight"].sum() * (
                end_s - trials.start_s
            )
        parts = PARTS if end_s - trials.start_s >= PARTS * trials.period_s and trials.beneath is None else 1
        others = plans[order[1 : CHILDREN // 2]]
        later = sum((1.0 - part / parts) * CHILDREN for part in range(1, parts))
        step = FIRST_STEP
        while tunable and trials.played + CHILDREN + later <= self.episodes:
            before = best[2]
            family = children(self.rng, best[0], best[1], self.alike, step, CHILDREN)
            ranks = trials.ranks(trials.play(trials.start, *family, end_s, before))
            best = _best(best, *family, ranks)
            step *= WIDER if (ranks > before).mean() > FIFTH else NARROWER
        since, found = [trials.start_s], [best]
        state = trials.start
        for part in range(1, parts):
            begins = trials.start_s + (end_s - trials.start_s) * part // parts // trials.period_s * trials.period_s
            state = trials.play(state, best[0][None], best[1][None], begins)
            if trials.played < self.episodes:
                plans, tilts = children(self.rng, best[0], best[1], self.alike, LATER_STEP, CHILDREN - len(others))
                plans = np.concatenate([plans, others])
                tilts = np.concatenate([tilts, np.repeat(best[1][None], len(others), axis=0)])
                best = self._better(state, best, plans, tilts)
            since.append(begins)
            found.append(best)
        return Course(tuple(since), np.array([one[0] for one in found]), np.array([one[1] for one in found]))

    def _first(self, plans: np.ndarray, tilts: np.ndarray) -> Any:
        """The first of the best, each played no longer than it can be that."""
        best: Any = (plans[0], tilts, -math.inf)
        for one in plans:
            trial = self.trials.play(self.trials.start, one[None], tilts[None], self.trials.end_s, best[2])
            best = _best(best, one[None], tilts[None], self.trials.ranks(trial))
        return best[0]

    def _better(self, state: State, best: Any, plans: np.ndarray, tilts: np.ndarray) -> Any:
        """The best of one and of others, played from a state to the end."""
        if not len(plans):
            return best
        trial = self.trials.play(state, plans, tilts, self.trials.end_s, best[2])
        return _best(best, plans, tilts, self.trials.ranks(trial))


def _best(best: Any, plans: np.ndarray, tilts: np.ndarray, ranks: np.ndarray) -> Any:
    first = int(np.argmax(ranks))
    return (plans[first], tilts[first], ranks[first]) if ranks[first] > best[2] else best
