"""What the scalar, the batched and Stable-Baselines3's environment share: a simulator with its readings, and of each lane
the sequence of its seeds and the end of its episode.

A reset with a seed plays that seed; each later one without plays the next of a sequence that the seed determines.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from hvgym.envs import actions, features, render, rules, seeds, stepping, telemetry
from hvgym.envs.beneath import BeneathLanes, Maker, beneath_lanes
from hvgym.envs.errors import InputError
from hvgym.envs.history import History
from hvgym.envs.model.compiled import entry
from hvgym.envs.reward import reward_of
from hvgym.envs.rewarding import Rewarding, total
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario
from hvgym.envs.seats import SeatName
from hvgym.envs.simulator import Simulator
from hvgym.envs.stepping import TERMS
from hvgym.envs.watching import watching

Pair = tuple[np.ndarray, np.ndarray]
"""Of VMs, ``[env, vm]``, and of hosts, ``[env, host]``."""


def counters(lanes: int, vms: int, hosts: int = 1) -> Pair:
    """Those that rates are taken from."""
    return np.zeros((lanes, vms), telemetry.VM_COUNTERS), np.zeros((lanes, hosts), telemetry.HOST_COUNTERS)


def keep(now: Pair, before: Pair, lanes: slice = slice(None)) -> None:
    """Keep the counters of a reading."""
    for signals, old in zip(now, before, strict=True):
        for name in old.dtype.names or ():
            old[name][lanes] = signals[name][lanes]


class Lanes:
    """Of each lane the sequence of its seeds and the end of its episode: what lanes of hosts alone and of clusters share.

    terms ``[env, term]`` of the last step, by `names`; actions ``[env, entry]``; end_s: length of an episode.
    """

    names: tuple[str, ...] = TERMS
    best_reward: float = 1.0  # of a step in which nothing is lost
    simulator: Any
    terms: np.ndarray
    actions: np.ndarray
    action_space: gym.spaces.Box
    observation_space: gym.Space[Any]

    def __init__(self, scenario: Scenario, lanes: int, max_episode_steps: int | None) -> None:
        self.scenario = scenario
        self.end_s = _end_s(scenario, max_episode_steps)
        self._seeds: list[int | None] = [None] * lanes
        self._episodes = [0] * lanes
        self._never_reset = set(range(lanes))  # lanes that have not been reset yet

    def unseeded(self, lane: int) -> bool:
        """Whether this lane has not been given a seed yet: its first reset must bring one."""
        return self._seeds[lane] is None

    def _key(self, lane: int, seed: int | None) -> int:
        """Key of the episode of `seed`, or of the next one of the lane's sequence, which begins now."""
        if seed is not None:
            self._seeds[lane], self._episodes[lane] = seed, 0
        else:
            self._episodes[lane] += 1
        self._never_reset.discard(lane)
        return seeds.later_key(self._seeds[lane] or 0, self._episodes[lane])

    def reset(self, lane: int, seed: int | None) -> None:
        """Start an episode in a lane."""
        raise NotImplementedError

    def take(self, given: Any) -> None:
        """Check actions ``[env, entry]`` and keep them for `step`. Raises `ValueError` as `features.take`."""
        features.take(given, self.actions)

    def step(self) -> None:
        """Advance every lane by one control interval."""
        raise NotImplementedError

    def rewards(self) -> np.ndarray:
        """Of the last step, float64 ``[env]``, the caller's own."""
        return self.terms[:, 0].copy()

    def reward_one(self) -> float:
        """That of the only lane."""
        return self.terms.item(0)  # of Python's own numbers

    def costs(self) -> np.ndarray:
        """Seconds in which critical VMs missed their objective in the last step, ``[env]``, the caller's own."""
        return self.terms[:, 1].copy()

    def seen(self) -> Any:
        """Observations of all lanes, the caller's own."""
        raise NotImplementedError

    def seen_one(self, lane: int) -> Any:
        """Observation of one lane, the caller's own."""
        raise NotImplementedError

    def picture(self, mode: str | None, lane: int) -> Any:
        """One lane's episode, as ``render_mode`` says; None without one."""
        raise NotImplementedError

    def ended(self) -> np.ndarray:
        """Of which lanes the episode is over, ``[env]``."""
        return np.asarray(self.simulator.clock_s >= self.end_s)

    def ended_one(self) -> bool:
        """Whether that of the only lane is."""
        over: bool = self.simulator.clock_s.item(0) >= self.end_s  # of Python's own numbers
        return over

    def check_stepped(self) -> None:
        """Raise Gymnasium's `ResetNeeded` while a lane has not been reset yet."""
        if self._never_reset:
            raise gym.error.ResetNeeded("Cannot call env.step() before calling env.reset()")

    def check_begun(self) -> None:
        """Raise Gymnasium's `ResetNeeded` while a lane has not been reset yet."""
        if self._never_reset:
            raise gym.error.ResetNeeded("Cannot call env.render() before calling env.reset()")


class HostLanes(Lanes):
    """`lanes` hosts of one scenario. Arrays: observations ``[env, feature]``, terms ``[env, term]`` of the last step, actions
    ``[env, entry]``, an entry a VM where they set memory sizes alone (``rules``, ``actions``). end_s: length of an episode.
    beneath: makes the policy that runs on beneath the actions (``beneath``). reward: as ``reward`` says; None is goodput.

    Raises `InputError` where the rules leave the seat nothing to set, for a cluster, and for a wrong reward.
    """

    simulator: Simulator

    def __init__(
        self, scenario: Scenario, lanes: int, threads: int = 1, max_episode_steps: int | None = None,
        seat: SeatName = "inside", beneath: Maker | None = None, reward: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        wanted = reward_of(reward)
        if scenario.is_cluster:
            raise InputError(
                f"scenario={scenario.name!r}: is a cluster of {len(scenario.host_names)} hosts; play it in hvgym/Cluster-v0, or "
                "choose one with a single host"
            )
        super().__init__(scenario, lanes, max_episode_steps)
        self.channels = rules.channels_at(scenario, seat)
        self.simulator = Simulator(scenario, lanes, threads)
        self._beneath = beneath_lanes(beneath, self.simulator, Declaration(seat, self.channels))
        vms = self.simulator.vms.shape[1]
        self.observations = np.zeros((lanes, features.observation_size(vms)), np.float32)
        self._rewarding: Rewarding | None = None
        if wanted is not None:
            self._rewarding = Rewarding(wanted, self.simulator, self.end_s, beneath)
            self.names, self.best_reward = (*TERMS, *self._rewarding.names), wanted.best
        self.terms = np.zeros((lanes, len(self.names)))
        self.actions = np.zeros((lanes, actions.size_of(self.channels, vms)), np.float32)
        readable = rules.readable(Declaration(seat), scenario)
        self._missing = None if readable is None else features.missing_features(readable, vms)
        observed = None if readable is None else readable & features.OBSERVED
        self._watching = watching(Declaration(seat, self.channels), scenario, observed, self.simulator)
        plain = self._watching is None or not self._watching.holds("memory_mib")
        only_sizes = self.channels == ("memory_mib",) and plain
        self._sizes = self.actions if only_sizes else np.full((lanes, vms), np.nan, np.float32)  # NaN: as it is
        self.histories: list[History] | None = None
        self._totals = np.zeros((lanes, len(TERMS) + 1))  # the last is weighted time asked for
        self._watched_vms = np.zeros((lanes, vms), telemetry.WATCHED_VM)
        self._watched_hosts = np.zeros((lanes, 1), telemetry.WATCHED_HOST)
        self._before = counters(lanes, vms)  # as a step over a policy beneath began
        self._seen_before = counters(lanes, vms)  # as they were last seen
        self._code: Callable[..., None] | None = None  # of the step, and its arguments for all lanes
        self._arguments: tuple[Any, ...] = ()
        high = np.ones(self.actions.shape[1], np.float32)
        self.action_space = gym.spaces.Box(-high, high, dtype=np.float32)
        high = np.ones(self.observations.shape[1], np.float32)
        self.observation_space = gym.spaces.Box(-high, high, dtype=np.float32)

    def __getstate__(self) -> dict[str, Any]:
        """Compiled code does not travel; the copy finds its own, for its own arrays."""
        return self.__dict__ | {"_code": None, "_arguments": ()}

    def reset(self, lane: int, seed: int | None) -> None:
        """Start the episode of `seed`, or the next one of the lane's sequence; nothing has been earned in it yet."""
        sim = self.simulator
        key = self._key(lane, seed)
        sim.reset_lane(lane, key)
        if self._rewarding is not None:
            self._rewarding.begin(lane, key)
        self._totals[lane] = self.terms[lane] = 0.0
        stepping.begin(
            sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, self._watched_vms, self._watched_hosts, self.observations, lane
        )  # fmt: skip
        if self._watching is not None:
            this = slice(lane, lane + 1)
            self._watching.begin(self._reading(), this)
            now, old = self._watching.signals_seen(self._reading()), self._seen_before
            keep(now, old, this)
            features.observe(now[0][this], now[1][this], old[0][this], old[1][this], 1.0, self.observations[this])
        self._hide(lane)
        if self._beneath is not None:
            self._beneath.reset(lane, sim.telemetry())
        if self.histories is not None:
            self.histories[lane].begin(sim)

    def _reading(self) -> telemetry.Telemetry:
        """Signals as they are."""
        sim = self.simulator
        return telemetry.Telemetry(sim.clock_s.astype(np.float64), sim.vm_signals, sim.host_signals)

    def _observe_late(self) -> None:
        """Observe signals as old as their sources are, where the compiled step has seen them as they are."""
        assert self._watching is not None
        self._watching.note(self._reading())
        now, seconds = self._watching.signals_seen(self._reading()), float(self.scenario.control_interval_s)
        features.observe(*now, *self._seen_before, seconds, self.observations)
        keep(now, self._seen_before)

    def _hide(self, lane: slice | int = slice(None)) -> None:
        """What the seat does not have reads as a guest that does not report."""
        if self._missing is not None:
            self.observations[lane, self._missing] = 0.0

    def step(self) -> None:
        """Advance every lane by one control interval; results are in ``observations`` and ``terms``."""
        if self._never_reset:  # asked here too: a call that finds nothing takes one part in two hundred of a step
            self.check_stepped()
        if self._sizes is not self.actions:
            self._carry_out()
        if self._beneath is not None:
            self._step_over(self._beneath)
        else:
            self._step_all()
        if self._watching is not None and self._watching.delays:
            self._observe_late()
        if self._missing is not None:
            self._hide()
        if self._rewarding is not None:
            self._rewarding.add(self.terms)
        if self.histories is not None:
            for history in self.histories:
                history.add(self.simulator)

    def _carry_out(self) -> None:
        """Ask for what is no memory size; leave the memory sizes for the compiled step."""
        memory_mib = self.simulator.vm_specs["memory_mib"]
        asked = actions.blocks(self.actions, self.channels, memory_mib.shape[1])
        targets = dataclasses.replace(actions.targets(asked, memory_mib), memory_mib=asked.get("memory_mib"))
        if self._watching is not None:
            targets = self._watching.due(self.simulator.clock_s.astype(np.float64), targets) or telemetry.Targets()
        sizes = targets.memory_mib  # as actions, for the compiled step
        self._sizes[:] = np.nan if sizes is None else sizes
        targets = dataclasses.replace(targets, memory_mib=None)
        self.simulator.apply(targets)
        if self._watching is not None:
            self._watching.pay_for_asking(targets)

    def _step_all(self) -> None:
        """One compiled call a chunk."""
        if self._code is None:
            self._code = self._bind()
        simulator = self.simulator
        if len(simulator.chunks) == 1:
            self._code(*self._arguments)
        else:
            simulator.each_chunk(self._step)
        simulator.unread = True

    def _step_over(self, beneath: BeneathLanes) -> None:
        """What the compiled step does, with a policy that decides in between."""
        sim, interval_s = self.simulator, self.scenario.control_interval_s
        features.act(self._sizes, sim.vm_specs, sim.vms, 0, sim.lanes)
        keep((sim.vm_signals, sim.host_signals), self._before)
        for _ in range(0, interval_s, beneath.stride_s):
            beneath.decide(sim)
            sim.each_chunk(lambda first, last: sim.run(beneath.stride_s, first, last))
        features.observe(sim.vm_signals, sim.host_signals, *self._before, float(interval_s), self.observations)
        stepping.add_terms(sim.vms, sim.hosts, sim.vm_specs, self._totals, self.terms, 0, sim.lanes)

    def _bind(self) -> Callable[..., None]:
        """The code of the step for the arrays of these lanes, kept as its arguments."""
        sim = self.simulator
        self._arguments = (
            self._sizes, sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, sim.demand, sim.clock_s, sim.slot_s,
            self.scenario.control_interval_s, self._watched_vms, self._watched_hosts, self.observations, self._totals,
            self.terms, 0, sim.lanes,
        )  # fmt: skip
        return entry(stepping.step, *self._arguments)

    def _step(self, first: int, last: int) -> None:
        assert self._code is not None
        self._code(*self._arguments[:-2], first, last)

    def rewards(self) -> np.ndarray:
        """See `Lanes`."""
        return super().rewards() if self._rewarding is None else total(self.terms[:, len(TERMS) :])

    def reward_one(self) -> float:
        """See `Lanes`."""
        return super().reward_one() if self._rewarding is None else self.rewards().item(0)

    def seen(self) -> np.ndarray:
        """See `Lanes`."""
        return self.observations.copy()

    def seen_one(self, lane: int) -> np.ndarray:
        """See `Lanes`."""
        return self.observations[lane].copy()

    def picture(self, mode: str | None, lane: int) -> Any:
        """See `Lanes`."""
        return render.picture(mode, self.histories, self.simulator, lane)

    def remember(self) -> None:
        """Keep from now on what pictures of the episode need (a few numbers a VM and step)."""
        self.histories = [History(self.scenario, lane) for lane in range(self.simulator.lanes)]


def _end_s(scenario: Scenario, max_episode_steps: int | None) -> int:
    """Length of an episode; -1 is no limit of steps, as for `gymnasium.make`."""
    if max_episode_steps is None or max_episode_steps == -1:
        return scenario.duration_s
    if isinstance(max_episode_steps, bool) or not isinstance(max_episode_steps, int) or max_episode_steps < 1:
        raise ValueError(f"max_episode_steps={max_episode_steps!r}: expected a whole number of steps, at least 1")
    return min(scenario.duration_s, max_episode_steps * scenario.control_interval_s)
