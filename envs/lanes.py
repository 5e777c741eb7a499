"""What the scalar, the batched and Stable-Baselines3's environment share: a simulator with its readings, and of each lane
the sequence of its seeds and the end of its episode.

A reset with a seed plays that seed; each later one without plays the next of a sequence that the seed determines.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from hvgym.envs import actions, features, offers, render, seeds, stepping, telemetry, view
from hvgym.envs.actions import ActionMap
from hvgym.envs.beneath import BeneathLanes, Maker, beneath_lanes
from hvgym.envs.history import History
from hvgym.envs.model.compiled import entry
from hvgym.envs.reward import reward_of
from hvgym.envs.rewarding import Rewarding, total
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario
from hvgym.envs.seats import SeatName
from hvgym.envs.simulator import Simulator
from hvgym.envs.stepping import TERMS
from hvgym.envs.view import Pair


def counters(lanes: int, vms: int, hosts: int = 1) -> Pair:
    """Those that rates are taken from."""
    return np.zeros((lanes, vms), telemetry.VM_COUNTERS), np.zeros((lanes, hosts), telemetry.HOST_COUNTERS)


def keep(now: Pair, before: Pair, lanes: slice = slice(None)) -> None:
    """Keep the counters of a reading."""
    for signals, old in zip(now, before, strict=True):
        for name in old.dtype.names or ():
            old[name][lanes] = signals[name][lanes]


class Lanes(abc.ABC):
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

    @abc.abstractmethod
    def reset(self, lane: int, seed: int | None) -> None:
        """Start an episode in a lane."""

    def take(self, given: Any) -> None:
        """Check actions ``[env, entry]`` and keep them for `step`. Raises `ValueError` as `features.take`."""
        features.take(given, self.actions)

    @abc.abstractmethod
    def step(self) -> None:
        """Advance every lane by one control interval."""

    def rewards(self) -> np.ndarray:
        """Of the last step, float64 ``[env]``, the caller's own."""
        return self.terms[:, 0].copy()

    def reward_one(self) -> float:
        """That of the only lane."""
        return self.terms.item(0)  # of Python's own numbers

    def costs(self) -> np.ndarray:
        """Seconds in which critical VMs missed their objective in the last step, ``[env]``, the caller's own."""
        return self.terms[:, 1].copy()

    @abc.abstractmethod
    def seen(self) -> Any:
        """Observations of all lanes, the caller's own."""

    @abc.abstractmethod
    def seen_one(self, lane: int) -> Any:
        """Observation of one lane, the caller's own."""

    @abc.abstractmethod
    def picture(self, mode: str | None, lane: int) -> Any:
        """One lane's episode, as ``render_mode`` says; None without one."""

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
    """`lanes` hosts of one scenario. Arrays: observations ``[env, feature]`` (``view``), terms ``[env, term]`` of the last step,
    actions ``[env, entry]`` (``actions``). end_s: length of an episode. beneath: makes the policy that runs on beneath the actions
    (``beneath``).

    seat, visibility and page_ages say what is seen: what the seat has of that profile, and ages of pages where they are asked for,
    which costs who watches them. channels: keys of ``actions``, by themselves those of `rules.channels_at`; action, step, most_vms:
    of ``actions.ActionMap``. reward: as ``reward`` says; None is goodput. who: the declaration of a policy that is trained here, in
    place of its seat: signals, channels and their delay and cost are those that it has when it plays.

    Raises `InputError` where the rules leave the seat nothing to set, or not what is asked for, for a cluster, and for a wrong
    reward.
    """

    simulator: Simulator

    def __init__(
        self, scenario: Scenario, lanes: int, threads: int = 1, max_episode_steps: int | None = None,
        seat: SeatName = "inside", beneath: Maker | None = None, *, action: str = "relative", step: float = actions.STEP,
        channels: Sequence[str] | None = None, most_vms: int | None = None, visibility: str = "P1", page_ages: bool = False,
        reward: Mapping[str, Any] | None = None, who: Declaration | None = None,
    ) -> None:  # fmt: skip
        wanted, seat = reward_of(reward), seat if who is None else who.seat
        offers.check_alone(scenario)
        super().__init__(scenario, lanes, max_episode_steps)
        keys = offers.chosen(scenario, seat, channels)
        self.map = ActionMap(len(scenario.groups), action, step, keys, most_vms)
        self.channels = tuple(actions.KEYS[key] for key in keys)
        self.simulator = Simulator(scenario, lanes, threads)
        who, self._seen_names = offers.seen(scenario, seat, self.channels, visibility, page_ages, who)
        self._beneath = beneath_lanes(beneath, self.simulator, who)
        self._watching = offers.watched(who, scenario, self._seen_names, self.simulator)
        vms = self.simulator.vms.shape[1]
        self.observations = np.zeros((lanes, view.observation_size(self.map.places)), np.float32)
        self._rewarding: Rewarding | None = None
        if wanted is not None:
            self._rewarding = Rewarding(wanted, self.simulator, self.end_s, beneath)
            self.names, self.best_reward = (*TERMS, *self._rewarding.names), wanted.best
        self.terms = np.zeros((lanes, len(self.names)))
        self.actions = np.zeros((lanes, self.map.size), np.float32)
        held = self._watching is not None and self._watching.holds("memory_mib")
        self._only_sizes = keys == ("memory",) and not held
        self._page_ages, self._pages = page_ages, bool(self._seen_names & view.PAGES)
        self._hidden = view.hidden(self._seen_names)
        self._late = self._beneath is not None or (self._watching is not None and self._watching.changes)
        self.histories: list[History] | None = None
        self._totals = np.zeros((lanes, len(TERMS) + 1))  # the last is weighted time asked for
        self._room = np.zeros((lanes, vms, actions.COLUMNS))
        self._seen, self._memory = view.reading_of(lanes, vms), view.memory_of(lanes, vms)
        self._code: Callable[..., None] | None = None  # of the step, and its arguments for all lanes
        self._arguments: tuple[Any, ...] = ()
        high = np.ones(self.actions.shape[1], np.float32)
        self.action_space = gym.spaces.Box(-high, high, dtype=np.float32)
        high = np.ones(self.observations.shape[1], np.float32)
        self.observation_space = gym.spaces.Box(np.zeros_like(high), high, dtype=np.float32)

    def __getstate__(self) -> dict[str, Any]:
        """Compiled code does not travel; the copy finds its own, for its own arrays."""
        return self.__dict__ | {"_code": None, "_arguments": ()}

    def reset(self, lane: int, seed: int | None) -> None:
        """Start the episode of `seed`, or the next one of the lane's sequence; nothing has been earned in it yet."""
        sim, this = self.simulator, slice(lane, lane + 1)
        key = self._key(lane, seed)
        sim.reset_lane(lane, key)
        if self._rewarding is not None:
            self._rewarding.begin(lane, key)
        self._totals[lane] = self.terms[lane] = 0.0
        view.forget(*self._memory, lane)
        if self._watching is not None:
            self._watching.begin(self._reading(), this)
        if self._late:
            self._look_late(self._reading(), this)
        else:
            stepping.begin(lane, sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, sim.clock_s, *self._looking())
        if self._beneath is not None:
            self._beneath.reset(lane, sim.telemetry())
        if self.histories is not None:
            self.histories[lane].begin(sim)

    def _looking(self) -> tuple[Any, ...]:
        """What the compiled step looks with."""
        numbers = view.numbers_of(self._seen)
        return self._pages, self._page_ages, self._seen, numbers, self._hidden, self._memory, self.observations

    def _reading(self) -> telemetry.Telemetry:
        """Signals as they are."""
        sim = self.simulator
        if self._pages:
            return sim.telemetry()
        return telemetry.Telemetry(sim.clock_s.astype(np.float64), sim.vm_signals, sim.host_signals)

    def _look_late(self, reading: telemetry.Telemetry, lanes: slice = slice(None)) -> None:
        """Look at signals as old as their sources are, and after a policy beneath has acted on its own clock."""
        if self._watching is not None:
            reading = self._watching.seen(reading)
        reading = reading.restricted_to(self._seen_names)
        view.look_all(
            reading.vm[lanes], reading.host[lanes], reading.time_s[lanes], self._page_ages, self._memory[0][lanes],
            self._memory[1][lanes], self.observations[lanes],
        )  # fmt: skip

    def step(self) -> None:
        """Advance every lane by one control interval; results are in ``observations`` and ``terms``."""
        if self._never_reset:  # asked here too: a call that finds nothing takes one part in two hundred of a step
            self.check_stepped()
        if self._watching is not None:
            self._watching.pay_for_reading()
        if self._beneath is not None or not self._only_sizes:
            self._carry_out()
        if self._beneath is not None:
            self._step_over(self._beneath)
        else:
            self._step_all()
        if self._late:
            reading = self._reading()
            if self._watching is not None:
                self._watching.note(reading)
            self._look_late(reading)
        if self._rewarding is not None:
            self._rewarding.add(self.terms)
        if self.histories is not None:
            for history in self.histories:
                history.add(self.simulator)

    def _carry_out(self) -> None:
        """Ask for what the actions say, as far as it takes effect now."""
        sim = self.simulator
        specs, ram_mib = sim.vm_specs, sim.host_specs["ram_mib"][:, 0]
        parts = (
            sim.vms["asked_mib"],
            specs["memory_mib"],
            specs["min_mib"],
            sim.vms["admitted"],
            specs["overhead_mib"],
        )
        targets: telemetry.Targets | None = self.map.asked(self.actions, np.stack(parts, axis=2), ram_mib)
        if self._watching is not None:
            targets = self._watching.due(sim.clock_s.astype(np.float64), targets)
        if targets is not None:
            sim.apply(targets)
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
        for _ in range(0, interval_s, beneath.stride_s):
            beneath.decide(sim)
            sim.each_chunk(lambda first, last: sim.run(beneath.stride_s, first, last))
        stepping.add_terms(sim.vms, sim.hosts, sim.vm_specs, self._totals, self.terms, 0, sim.lanes)

    def _bind(self) -> Callable[..., None]:
        """The code of the step for the arrays of these lanes, kept as its arguments."""
        sim = self.simulator
        kind = self.map.kind if self._only_sizes else actions.AS_THEY_ARE
        self._arguments = (
            self.actions, kind, float(self.map.step), self._room, sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, sim.demand,
            sim.clock_s, sim.slot_s, self.scenario.control_interval_s, not self._late, *self._looking(), self._totals,
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
