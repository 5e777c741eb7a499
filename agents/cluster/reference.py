"""The clairvoyant reference of clusters: it searches the best plan of each episode in copies of the cluster, and plays that.

It knows demand, failures and maintenance to come, by chance or listed. At the beginning of an episode plans are played in copies of
the cluster (one lane a plan, the same seed), first a list of simple ones, then an evolution strategy around the best (one parent,
`CHILDREN` a generation; a step that finds nothing better shrinks). What the best plan asked for is asked for again, second by
second, so what the search found is what happens, to the bit. It seeks no kills, and then the most goodput.

A plan is a few numbers (`Plan`): how long before a host fails or must be empty its VMs leave, and in which order; how often hosts
are levelled by the demand of the next while, down to which difference and by how many moves, or the stack's own balancing; whether
starts and restarts go where demand is least, and those of weight first; which memory policy runs on each host. It has the channels
of an operator: moves, order of restarts, and where the hypervisor has no policy of its own (``agents.stock``), which runs on else,
what its outside seat offers for memory. Nothing depends on who plays beside it.

Left out: plans are rules, not an optimum, and hold for the whole episode; VMs are not told apart but by demand, weight and memory;
no admission, maintenance or shares; no memory policy but the three simple ones (of them Proxmox's ballooning keeps a part of
each host free); delays of readings and what watching pages costs.
"""

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from hvgym.agents.baselines.coldest_first import ColdestFirst
from hvgym.agents.baselines.proportional import ProportionalShare
from hvgym.agents.cluster.plans import (
    BALLOONS,
    COLDEST,
    NEEDS,
    NONE,
    PROPORTIONAL,
    Future,
    Plan,
    answer,
    child,
    first_plans,
)
from hvgym.agents.cluster.reading import Reader
from hvgym.agents.hypervisors.proxmox import Proxmox
from hvgym.agents.policy import ClairvoyantPolicy, Policy
from hvgym.agents.stock import NOBODY, Running, beneath, beneath_cluster
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.errors import InputError, shown
from hvgym.envs.hosts_view import HostsView
from hvgym.envs.rules import Declaration, channels_of
from hvgym.envs.scenario import Scenario
from hvgym.envs.telemetry import HiddenState, Targets, Telemetry

DECIDES_S = 10
CHILDREN = 8
FIRST_STEP, NARROWER = 0.7, 0.6
"""Of logarithms of a plan's numbers; guesses."""


class Heard:
    """A simulator on which what a policy asks for is heard and not carried out."""

    def __init__(self, sim: ClusterSimulator) -> None:
        self._sim, self.targets = sim, Targets()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sim, name)

    def apply(self, targets: Targets) -> None:
        """Keep it."""
        self.targets = targets


class Record(list[dict[str, np.ndarray]]):
    """What was asked for, a decision after another, by channel."""


class Trials:
    """Plays plans of one episode."""

    def __init__(self, scenario: Scenario, seed: int, period_s: int) -> None:
        self.scenario, self.seed, self.period_s = scenario, seed, period_s

    def play(self, plans: list[Plan]) -> tuple[np.ndarray, list[Record]]:
        """How good each is, ``[plan]`` (goodput, and less than any goodput for each kill), and what it asked for. Those that need
        the slow parts, the stack's balancing and ages of pages, are played apart."""
        ranks, records = np.zeros(len(plans)), [Record() for _ in plans]
        keys = [(plan.stock, COLDEST in plan.memory) for plan in plans]
        for key in sorted(set(keys)):
            which = [i for i, one in enumerate(keys) if one == key]
            found = self._play_alike([plans[i] for i in which])
            for i, rank, record in zip(which, *found, strict=True):
                ranks[i], records[i] = rank, record
        return ranks, records

    def _play_alike(self, plans: list[Plan]) -> tuple[np.ndarray, list[Record]]:
        """As `play`, in one batch."""
        sim = ClusterSimulator(self.scenario, len(plans))
        telemetry = sim.reset([self.seed] * len(plans))
        self._sim, self._each, self._plans, self._future = sim, HostsView(sim), plans, Future(sim)
        sim.leave_starts_to_policies()
        self._reader = Reader(telemetry)
        self._memory = {COLDEST: ColdestFirst(), PROPORTIONAL: ProportionalShare(), BALLOONS: Proxmox()}
        for policy in self._memory.values():
            policy.reset(self._each.split(telemetry), seed=0)
        hypervisor, _ = beneath_cluster(self.scenario, ())
        stack, heard = stock_of(self.scenario) if plans[0].stock else None, Heard(sim)
        below = None if hypervisor is None else Running(hypervisor, self._each)
        balancing = None if stack is None else Running(stack, heard)  # type: ignore[arg-type]
        if below is not None:
            below.begin(self._each.split(telemetry))
        if balancing is not None:
            balancing.begin(telemetry)
        asked: list[dict[str, np.ndarray]] = []
        stride = math.gcd(self.period_s, self.scenario.duration_s, *(() if below is None else below.steps_s))
        for now_s in range(0, self.scenario.duration_s, stride):
            if now_s % self.period_s == 0:
                heard.targets = Targets()
                if balancing is not None:
                    balancing.act(telemetry)
                asked.append(self._ask(telemetry, heard.targets.move_to, now_s))
                sim.apply(Targets(**asked[-1]))
            if below is not None:
                below.act(self._each.split(telemetry))
            telemetry = sim.advance(stride)
        records = [Record({name: rows[i] for name, rows in one.items()} for one in asked) for i in range(len(plans))]
        return goodput(sim) - sim.vms["oom_kills"].sum(axis=1), records

    def _ask(self, telemetry: Telemetry, balanced: np.ndarray | None, now_s: int) -> dict[str, np.ndarray]:
        sim, readings = self._sim, self._reader.read(telemetry)
        stack = sim.arrays.stack[0]
        at_once = min(stack["most_out"], stack["most_in"], stack["most_at_all"])
        asked = {"move_to": np.full((len(readings), len(readings[0].host)), np.nan)}
        for lane, (now, plan) in enumerate(zip(readings, self._plans, strict=True)):
            if plan.stock and balanced is not None:
                asked["move_to"][lane] = balanced[lane]
            leaving = self._future.goes_down(lane, now.time_s, plan.leave_s)
            needs = self._future.needs(now.time_s, plan.ahead_s)
            for vm, host in answer(now, plan, needs, leaving, at_once).items():
                asked["move_to"][lane, vm] = host
        if now_s == 0:
            by_weight = np.array([plan.restarts_by_weight for plan in self._plans])[:, None]
            asked["restart_priority"] = np.where(by_weight, sim.vm_specs["weight"], np.nan)
        return asked | self._ask_memory(telemetry)

    def _ask_memory(self, telemetry: Telemetry) -> dict[str, np.ndarray]:
        """Answers of the hosts' memory policies, each VM's by its host; balloons are let go on hosts that have none."""
        kinds = np.array([plan.memory for plan in self._plans])
        at, asked = self._sim.arrays.residents["host"], dict[str, np.ndarray]()
        kind = np.where(at >= 0, np.take_along_axis(kinds, np.maximum(at, 0), axis=1), NONE)
        lanes = np.arange(len(kinds))[:, None] * kinds.shape[1] + np.maximum(at, 0)
        for policy, channels in NEEDS.items() if kinds.any() else ():
            targets = self._memory[policy].decide(self._each.split(telemetry)) if (kinds == policy).any() else Targets()
            for name in channels:
                if (given := getattr(targets, name)) is not None:
                    of_host = np.take_along_axis(given, lanes, axis=0)
                    asked[name] = np.where(kind == policy, of_host, asked.get(name, np.nan))
        if "memory_mib" in asked:
            sizes = np.isin(kinds, (PROPORTIONAL, BALLOONS)).any(axis=1, keepdims=True)
            balloons = sizes & ~np.isin(kind, (PROPORTIONAL, BALLOONS))
            asked["memory_mib"] = np.where(balloons, self._sim.vm_specs["memory_mib"], asked["memory_mib"])
        return asked


def goodput(sim: ClusterSimulator) -> np.ndarray:
    """As results have it, ``[env]``."""
    vms, weight = sim.vms, sim.vm_specs["weight"]
    earned_s = vms["progress_s"] - vms["charged_s"]
    return np.asarray((weight * earned_s).sum(axis=1) / (weight * vms["asked_s"]).sum(axis=1))


def stock_of(scenario: Scenario) -> Policy | None:
    """The stack's balancing as shipped, new."""
    return beneath_cluster(scenario, ())[1]


class ClusterReference(ClairvoyantPolicy):
    """Searches at the start of each episode. episodes: its budget, played in copies of the cluster."""

    of_cluster = True
    places_starts = True

    def __init__(self, episodes: int = 64) -> None:
        if not isinstance(episodes, int) or isinstance(episodes, bool) or episodes < 1:
            raise InputError(f"agent.episodes={shown(episodes)}: expected a whole number, at least 1")
        self.episodes = episodes

    def begin(self, scenario: Scenario, channels: Collection[str]) -> None:
        """See `ClairvoyantPolicy`."""
        seat = channels_of(Declaration("outside", channels=None), scenario)
        own = beneath(scenario, NOBODY) is not None
        self._memory = () if own else tuple(kind for kind, needs in NEEDS.items() if set(needs) <= set(seat))
        also = tuple(name for kind in self._memory for name in NEEDS[kind])
        self.declaration = Declaration("outside", (*channels, *(n for n in also if n not in channels)), frozenset())
        self.scenario = scenario
        stack = stock_of(scenario)
        self.period_s = float(DECIDES_S if stack is None else math.gcd(DECIDES_S, int(stack.period_s)))
        self.best = dict[int, tuple[float, Plan]]()

    def decide(self, hidden: HiddenState) -> Targets:
        """See `ClairvoyantPolicy`."""
        second = int(hidden.clock_s[0])
        if second == 0:
            seeds = hidden.hosts["seed"][:, 0].astype(int).tolist()
            self._records = [self.search(seed) for seed in seeds]
        rows = [record[second // int(self.period_s)] for record in self._records]
        nothing = np.full(hidden.vms.shape[1], np.nan)
        names = sorted({name for row in rows for name in row})
        return Targets(**{name: np.stack([row.get(name, nothing) for row in rows]) for name in names})

    def search(self, seed: int) -> Record:
        """What the best plan that is found asks for."""
        trials = Trials(self.scenario, seed, int(self.period_s))
        hosts, stock, rng = (
            len(self.scenario.host_names),
            stock_of(self.scenario) is not None,
            np.random.default_rng(seed),
        )
        plans, step, played = first_plans(hosts, stock, self._memory)[: self.episodes], FIRST_STEP, 0
        best, record = (-math.inf, plans[0]), Record()
        while plans:
            ranks, records = trials.play(plans)
            played += len(plans)
            first = int(np.argmax(ranks))
            if ranks[first] > best[0]:
                best, record = (float(ranks[first]), plans[first]), records[first]
            else:
                step *= NARROWER
            left = min(CHILDREN, self.episodes - played)
            plans = [child(rng, best[1], step, stock, self._memory) for _ in range(left)]
        self.best[seed] = best
        return record
