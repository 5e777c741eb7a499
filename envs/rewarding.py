"""The reward of a batch of hosts, where it is not goodput alone (``reward``), and the paired course of the hypervisor as shipped.

Stock's course depends on the seed alone. So it is played ahead, for all lanes whose episodes have just begun in one batch, and what
each of its steps is rewarded is kept: with it an environment takes about twice the time.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hvgym.envs import stepping
from hvgym.envs.backends import AnySimulator
from hvgym.envs.beneath import Maker, beneath_lanes
from hvgym.envs.errors import InputError
from hvgym.envs.reward import COUNTERS, STEP_VM, Reward, Step, reward_of
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator
from hvgym.envs.stepping import TERMS
from hvgym.envs.telemetry import Telemetry

PREFIX = "reward_"
"""Of the names of terms in ``info``."""

NOBODY = Declaration(seat="outside", channels=(), signals=frozenset())
"""Who sets nothing, so that what a hypervisor does by itself goes on."""


class _Steps:
    """Makes a `Step` of what the simulators of a batch have just done."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._vm, self._before = np.zeros(sim.vms.shape, STEP_VM), np.zeros(sim.vms.shape, STEP_VM)

    def begin(self, lane: int) -> None:
        """An episode has begun."""
        for name, counter in COUNTERS.items():
            self._before[name][lane] = self._sim.vms[counter][lane]

    def next(self, terms: np.ndarray) -> Step:
        """The control interval that has just ended, with its terms ``[env, term]``."""
        sim, vm = self._sim, self._vm
        for name, counter in COUNTERS.items():
            now = sim.vms[counter]
            vm[name] = now - self._before[name]
            self._before[name] = now
        for name in ("weight", "critical", "memory_mib", "min_mib"):
            vm[name] = sim.vm_specs[name]
        vm["size_mib"] = sim.vm_specs["memory_mib"] - sim.vms["balloon_mib"]
        return Step(
            seconds=float(sim.scenario.control_interval_s),
            time_s=sim.clock_s.astype(np.float64),
            terms={name: terms[:, column] for column, name in enumerate(TERMS)},
            vm=vm,
            ram_mib=sim.host_specs["ram_mib"][:, 0],
            host_cpu=np.minimum(sim.hosts["tax_cpu"][:, 0] / sim.host_specs["pcpus"][:, 0], 1.0),
            read=sim.telemetry,
        )


class Rewarding:
    """Fills the columns of `names` in the terms ``[env, term]`` of a batch, after those of ``stepping``."""

    def __init__(self, reward: Reward, sim: Simulator, end_s: int, beneath: Maker | None) -> None:
        scenario = sim.scenario
        if reward.less_stock and beneath is None and scenario.hypervisor.stock is not None:
            raise InputError(f"{reward.where}: less_stock needs hypervisor.stock; make this with gymnasium.make")
        self._reward, self._steps, self._beneath = reward, _Steps(sim), beneath
        self._sim, self._count = sim, max(-(-end_s // scenario.control_interval_s), 1)
        self._own = tuple(reward.terms(_idle(sim)))
        self.names = tuple(f"{PREFIX}{name}" for name in (*self._own, *(("stock",) if reward.less_stock else ())))
        self._stock = np.zeros((sim.lanes if reward.less_stock else 0, self._count))
        self._waiting = dict[int, int]()  # keys of lanes whose stock has not been played yet
        self._at = np.zeros(sim.lanes, np.int64)  # steps done

    def begin_all(self, keys: Sequence[int]) -> None:
        """The episodes of these keys have begun, of which nothing is counted yet."""
        if self._reward.less_stock:
            self._waiting = dict(enumerate(keys))

    def begin(self, lane: int, key: int) -> None:
        """The episode of a key has begun in a lane."""
        self._steps.begin(lane)
        self._at[lane] = 0
        if self._reward.less_stock:
            self._waiting[lane] = key

    def add(self, terms: np.ndarray) -> None:
        """Reward the step that has just been made."""
        if self._waiting:
            self._stock[[*self._waiting]] = self._played([*self._waiting.values()])
            self._waiting.clear()
        found = self._reward.terms(self._steps.next(terms))
        if tuple(found) != self._own:
            raise InputError(f"{self._reward.where}: answers {', '.join(found)}; it began with {', '.join(self._own)}")
        for column, values in enumerate(found.values(), len(TERMS)):
            terms[:, column] = values
        if self._reward.less_stock:
            now = np.minimum(self._at, self._count - 1)  # a lane that has ended may be advanced until it is reset
            terms[:, -1] = -self._stock[np.arange(len(now)), now]
        self._at += 1

    def _played(self, keys: Sequence[int]) -> np.ndarray:
        """Rewards of stock's steps, ``[episode, step]``."""
        scenario, rewards = self._sim.scenario, np.zeros((len(keys), self._count))
        sim = Simulator(scenario, len(keys), len(self._sim.chunks))
        steps = _Steps(sim)
        for lane, key in enumerate(keys):
            sim.reset_lane(lane, key)
            steps.begin(lane)
        advance = _stock_of(scenario, sim, self._beneath)
        terms, totals = np.zeros((len(keys), len(TERMS))), np.zeros((len(keys), len(TERMS) + 1))
        for column in range(self._count):
            advance()
            stepping.add_terms(sim.vms, sim.hosts, sim.vm_specs, totals, terms, 0, sim.lanes)
            rewards[:, column] = total(np.stack([*self._reward.terms(steps.next(terms)).values()], axis=1))
        return rewards


class Follower:
    """Rewards of a rollout, of which it is the watcher. beneath: makes the hypervisor's own policy."""

    def __init__(self, reward: Mapping[str, Any], seeds: Sequence[int], beneath: Maker) -> None:
        read = reward_of(reward, "agent.train.reward")
        assert read is not None
        self._reward, self._seeds, self._beneath = read, seeds, beneath
        self._rewarding: Rewarding | None = None
        self._sum, self._steps = np.zeros(len(seeds)), 0

    def watch(self, telemetry: Telemetry, sim: AnySimulator) -> None:
        """See ``bench.rollout``: called after each control interval."""
        if not isinstance(sim, Simulator):
            raise InputError(
                f"{self._reward.where}: is of one host, as environments are; train on scenarios without hosts"
            )
        if self._rewarding is None:
            self._rewarding = Rewarding(self._reward, sim, sim.scenario.duration_s, self._beneath)
            self._rewarding.begin_all(self._seeds)
            self._terms = np.zeros((sim.lanes, len(TERMS) + len(self._rewarding.names)))
            self._totals = np.zeros((sim.lanes, len(TERMS) + 1))
        stepping.add_terms(sim.vms, sim.hosts, sim.vm_specs, self._totals, self._terms, 0, sim.lanes)
        self._rewarding.add(self._terms)
        self._sum += total(self._terms[:, len(TERMS) :])
        self._steps += 1

    def mean(self) -> np.ndarray:
        """Of a step, ``[seed]``."""
        return self._sum / max(self._steps, 1)


def total(terms: np.ndarray) -> np.ndarray:
    """Sum of columns ``[env, term]``, in their order, so that a lane's does not depend on how many lanes there are."""
    summed = np.zeros(len(terms))
    for column in terms.T:
        summed += column
    return summed


def _stock_of(scenario: Scenario, sim: Simulator, make: Maker | None) -> Callable[[], None]:
    """Advances lanes that began together by a control interval under the hypervisor's own policy."""
    below = beneath_lanes(make, sim, NOBODY, sim.lanes)  # one policy for all, as one lane of so many hosts
    stride_s = scenario.control_interval_s if below is None else below.stride_s
    if below is not None:
        below.reset(0, sim.telemetry())

    def advance() -> None:
        for _ in range(0, scenario.control_interval_s, stride_s):
            if below is not None:
                below.decide(sim)
            sim.each_chunk(lambda first, last: sim.run(stride_s, first, last))

    return advance


def _idle(sim: Simulator) -> Step:
    """A step in which all VMs did all that they wanted, by which a function is asked for the names of its terms."""
    lanes, seconds = sim.lanes, float(sim.scenario.control_interval_s)
    vm = np.zeros(sim.vms.shape, STEP_VM)
    sizes = np.array([group.memory_mib for group in sim.scenario.groups], np.float64)
    vm["asked_s"] = vm["progress_s"] = seconds
    vm["weight"], vm["memory_mib"], vm["min_mib"], vm["size_mib"] = 1.0, sizes, sizes, sizes
    terms: dict[str, Any] = {name: np.zeros(lanes) for name in TERMS} | {"goodput": np.ones(lanes)}
    ram_mib = np.full(lanes, max(float(sizes.sum()), 1.0))
    return Step(seconds, np.full(lanes, seconds), terms, vm, ram_mib, np.zeros(lanes), sim.telemetry)
