"""What the scalar and the batched environment of a cluster share: the simulator with its readings, the actions carried out, and
the terms of each step. The sequence of seeds and the end of an episode are those of ``lanes``.

Actions take the place of the stack's own balancing. `seat` says where their memory part sits, as a memory policy that runs beside
one of the cluster: inside it takes the place of the hypervisor's own, from outside that runs on beneath it on every host, unless it
sets the same (``beneath``). Moves are the stack's at either seat. Where the seat of the hypervisor sets no memory sizes under
default rules, that part of the action counts for nothing; `channels` says what counts.
"""

import numbers

import gymnasium as gym
import numpy as np

from hvgym.envs import cluster_features, cluster_view, rules, stepping
from hvgym.envs.beneath import Maker, beneath_lanes
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.errors import InputError, nearest
from hvgym.envs.hosts_view import HostsView
from hvgym.envs.lanes import Lanes, counters, keep
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario
from hvgym.envs.seats import SeatName
from hvgym.envs.telemetry import Telemetry
from hvgym.envs.watching import watching

OF_MOVES = ("outage_s", "downtime_s", "moves", "failed_moves")
"""Counters of VMs' places (``model.placement``) that are terms as they are."""

TERMS = (*stepping.TERMS, *OF_MOVES, "moved_gib")
"""Columns of the per-step terms; the first is the reward."""

MOVE_MARGIN = 0.2
"""A guess: a tenth of the range of scores."""


def channels_at(scenario: Scenario, seat: SeatName) -> tuple[str, ...]:
    """What actions set: memory sizes where the hypervisor's seat has them, or rules are open, and moves. Raises `InputError`."""
    if seat not in rules.SEATS:
        raise InputError(f"seat={seat!r}: choose one of {', '.join(rules.SEATS)}{nearest(str(seat), rules.SEATS)}")
    there = rules.channels_of(Declaration(seat, channels=None), scenario)
    return ("memory_mib", "move_to") if "memory_mib" in there else ("move_to",)


class ClusterLanes(Lanes):
    """`lanes` clusters of one scenario. Arrays: terms ``[env, term]`` of the last step, actions ``[env, entry]``
    (``cluster_features``). end_s: length of an episode. beneath: makes the policy that runs on beneath the actions, for each host.

    Raises `InputError` for a host alone.
    """

    names: tuple[str, ...] = TERMS
    simulator: ClusterSimulator

    def __init__(
        self, scenario: Scenario, lanes: int, threads: int = 1, max_episode_steps: int | None = None,
        seat: SeatName = "outside", move_margin: float = MOVE_MARGIN, beneath: Maker | None = None,
    ) -> None:  # fmt: skip
        if not scenario.is_cluster:
            raise InputError(
                f"scenario={scenario.name!r}: has a host alone; play it in hvgym/Host-v1, or choose one with hosts and a stack"
            )
        super().__init__(scenario, lanes, max_episode_steps)
        self.channels = channels_at(scenario, seat)
        self.move_margin = _margin(move_margin)
        self.simulator = ClusterSimulator(scenario, lanes, threads)
        vms, hosts = len(scenario.groups), len(scenario.host_names)
        self._each_host = HostsView(self.simulator)
        self._beneath = beneath_lanes(beneath, self._each_host, self._of_hosts(seat), hosts)
        readable = rules.readable(Declaration(seat), scenario)
        observed = None if readable is None else readable & cluster_features.OBSERVED
        self._lacking = None if readable is None else cluster_features.missing(readable)
        self._watching = watching(Declaration(seat, self.channels), scenario, observed, self.simulator)
        self.terms = np.zeros((lanes, len(TERMS)))
        self._totals = np.zeros((lanes, len(TERMS) + 1))  # the last is weighted time asked for
        self.actions = np.zeros((lanes, cluster_features.action_size(vms, hosts)), np.float32)
        self._before = (*counters(lanes, vms, hosts), np.zeros((lanes, vms), cluster_features.COUNTERS))
        shapes = cluster_features.shapes(vms, hosts)
        self._observations = {name: np.zeros((lanes, *shape), np.float32) for name, shape in shapes.items()}
        self._fresh = np.zeros(lanes, np.bool_)  # lanes that have been reset, and not yet observed since
        self.action_space = _box(self.actions.shape[1:])
        self.observation_space = gym.spaces.Dict({name: _box(shape) for name, shape in shapes.items()})

    def _of_hosts(self, seat: SeatName) -> Declaration:
        """The memory part as a policy of hosts; without one, what they do by themselves goes on."""
        if "memory_mib" in self.channels:
            return Declaration(seat, ("memory_mib",))
        return Declaration("outside", (), frozenset())

    def reset(self, lane: int, seed: int | None) -> None:
        """Start the episode of `seed`, or the next one of the lane's sequence; nothing has been earned in it yet."""
        sim, this = self.simulator, slice(lane, lane + 1)
        sim.reset_lane(lane, self._key(lane, seed))
        self._totals[lane] = self.terms[lane] = 0.0
        if self._watching is not None:
            self._watching.begin(self._reading(), this)
        self._keep(*self._signals(), this)
        self._fresh[lane] = True
        if self._beneath is not None:
            self._beneath.reset(lane, self._each_host.telemetry())

    def step(self) -> None:
        """Advance every lane by one control interval; results are in `seen` and ``terms``."""
        self.check_stepped()
        sim, interval_s = self.simulator, self.scenario.control_interval_s
        self._carry_out()
        stride_s = interval_s if self._beneath is None else self._beneath.stride_s
        for _ in range(0, interval_s, stride_s):
            if self._beneath is not None:
                self._beneath.decide(self._each_host)
            sim.each_chunk(lambda first, last: sim.run(stride_s, first, last))
            sim.unread = True
        if self._watching is not None:
            self._watching.note(self._reading())
        self._observe(np.arange(sim.lanes), float(interval_s))
        self._add_terms()

    def _carry_out(self) -> None:
        """Ask for what the actions say, as far as it takes effect now."""
        reading = self._reading()
        targets = cluster_features.targets(self.actions, reading, self.move_margin, "memory_mib" in self.channels)
        if self._watching is not None:
            due = self._watching.due(reading.time_s, targets)
            assert due is not None  # moves are not held
            targets = due
        self.simulator.apply(targets)

    def _reading(self) -> Telemetry:
        """Signals as they are."""
        sim = self.simulator
        return Telemetry(sim.clock_s.astype(np.float64), sim.vm_signals, sim.host_signals, sim.places())

    def _signals(self) -> tuple[np.ndarray, np.ndarray]:
        """Of VMs and of hosts, as old as their sources are."""
        if self._watching is not None and self._watching.delays:
            return self._watching.signals_seen(self._reading())
        return self.simulator.vm_signals, self.simulator.host_signals

    def _keep(self, vm: np.ndarray, host: np.ndarray, lanes: slice = slice(None)) -> None:
        """Keep the counters of a reading."""
        of_vms, of_hosts, more = self._before
        keep((vm, host), (of_vms, of_hosts), lanes)
        for name in cluster_features.COUNTERS.names or ():
            more[name][lanes] = vm[name][lanes]

    def _observe(self, lanes: np.ndarray, seconds: float) -> None:
        """Observe these lanes, `seconds` after their counters were kept."""
        (vm, host), places = self._signals(), self.simulator.places()
        places = type(places)(places.vm[lanes], places.host[lanes], places.obstacles[lanes])
        reading = Telemetry(self.simulator.clock_s[lanes].astype(np.float64), vm[lanes], host[lanes], places)
        of_vms, of_hosts, more = self._before
        before = (of_vms[lanes], of_hosts[lanes], more[lanes])
        for name, part in cluster_features.observe(reading, before, seconds, self._lacking).items():
            self._observations[name][lanes] = part
        self._keep(vm, host)
        self._fresh[lanes] = False

    def _observe_fresh(self) -> None:
        """The first observation of episodes, in which nothing has been counted yet; late, so that a batch has one for all lanes."""
        if self._fresh.any():
            self._observe(np.flatnonzero(self._fresh), 1.0)

    def seen(self) -> dict[str, np.ndarray]:
        """See `Lanes`."""
        self._observe_fresh()
        return {name: part.copy() for name, part in self._observations.items()}

    def seen_one(self, lane: int) -> dict[str, np.ndarray]:
        """See `Lanes`."""
        self._observe_fresh()
        return {name: part[lane].copy() for name, part in self._observations.items()}

    def picture(self, mode: str | None, lane: int) -> str | None:
        """See `Lanes`."""
        return None if mode is None else cluster_view.table(self.simulator, lane)

    def _add_terms(self) -> None:
        """What this step added; the reward as a share of what was asked for."""
        now = self._counted()
        rise, self._totals = now - self._totals, now
        earned, asked = rise[:, 0], rise[:, -1]
        self.terms[:] = rise[:, :-1]
        self.terms[:, 0] = np.divide(
            earned, asked, out=np.ones(len(asked)), where=asked > 0.0
        )  # nobody asked: nothing was lost

    def _counted(self) -> np.ndarray:
        """Counters since the start of the episode, ``[env, term]``; at the ends weighted seconds of work earned, and asked for."""
        c = self.simulator.arrays
        vms, weight, residents = c.vms, c.vm_specs["weight"], c.residents
        of_vms = [
            weight * (vms["progress_s"] - vms["charged_s"]),
            vms["slo_violation_s"],
            vms["oom_kills"],
            vms["failed_starts"],
        ]
        columns = [*of_vms, c.hosts["swapping_s"], vms["balloon_moved_mib"]]
        columns += [*(residents[name] for name in OF_MOVES), residents["moved_mib"] / 1024.0, weight * vms["asked_s"]]
        return np.stack([column.sum(axis=1) for column in columns], axis=1)


def _box(shape: tuple[int, ...]) -> gym.spaces.Box:
    return gym.spaces.Box(-1.0, 1.0, shape, np.float32)


def _margin(given: float) -> float:
    if isinstance(given, bool) or not isinstance(given, numbers.Real) or not 0.0 <= given <= 2.0:
        raise InputError(f"move_margin={given!r}: expected a number from 0 to 2, the range of scores")
    return float(given)
