"""``hvgym/Host-v0``: one overcommitted host as a Gymnasium environment, scalar and batched.

One step is the scenario's control interval. The reward is the goodput of that interval: weighted progress of all VMs
as a share of what was asked for, in [0, 1]; its companions that must not hide in one number stand in ``info``:
``cost`` (seconds in which a critical VM missed its objective), ``oom_kills``, ``host_swap_s``, ``balloon_moved_mib``.
An episode ends by truncation only.

Seeds: ``reset(seed=s)`` plays the demand of seed s; each later ``reset()`` plays the next of a sequence that s
determines. Lane i of a batch seeded s equals the scalar environment seeded s + i, bit for bit, episode after episode.
The batch resets lanes in the same step in which they end (the ended observation is ``infos["final_obs"]``).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from hvgym.envs import features, telemetry
from hvgym.envs.model import rng, tick
from hvgym.envs.model.compiled import compiled
from hvgym.envs.scenario import Scenario, load
from hvgym.envs.simulator import Simulator

DEFAULT_SCENARIO = "idle-giants"

TERMS = ("goodput", "cost", "oom_kills", "host_swap_s", "balloon_moved_mib")
"""Columns of the per-step terms; the first is the reward."""


@compiled
def _terms(vms, hosts, vm_specs, totals, terms, first, last) -> None:  # type: ignore[no-untyped-def]
    """Set terms ``[env, term]`` to what this step added, and totals to the running sums."""
    for e in range(first, last):
        asked = earned = cost = kills = moved = 0.0
        for v in range(vms.shape[1]):
            asked += vm_specs[e, v].weight * vms[e, v].asked_s
            earned += vm_specs[e, v].weight * vms[e, v].progress_s
            cost += vms[e, v].slo_violation_s
            kills += vms[e, v].oom_kills
            moved += vms[e, v].balloon_moved_mib
        now = (earned, cost, kills, hosts[e, 0].swapping_s, moved, asked)
        for i in range(6):
            rise = now[i] - totals[e, i]
            totals[e, i] = now[i]
            if i < 5:
                terms[e, i] = rise
            else:
                terms[e, 0] = terms[e, 0] / rise if rise > 0.0 else 1.0  # nobody asked: nothing was lost


@compiled
def _step(  # type: ignore[no-untyped-def]
    actions, vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s, seconds, vm_now, host_now, vm_before, host_before,
    observations, totals, terms, first, last,
) -> None:  # fmt: skip
    """One control interval of environments first..last-1 in one compiled call.

    Lane by lane, because the state of one fits into the processor's nearest cache and that of all of them does not.
    """
    for e in range(first, last):
        features.act(actions, vm_specs, vms, e, e + 1)
        telemetry.keep_counters(vm_now, host_now, vm_before, host_before, e, e + 1)
        tick.advance(vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s, seconds, e, e + 1)
        telemetry.read(vms, hosts, vm_specs, host_specs, vm_now, host_now, e, e + 1)
        features.observe(vm_now, host_now, vm_before, host_before, float(seconds), observations, e, e + 1)
        _terms(vms, hosts, vm_specs, totals, terms, e, e + 1)


class HostLanes:
    """What the scalar and the batched environment share: a simulator, its readings, and the sequence of seeds of each
    lane.
    """

    def __init__(self, scenario: str | Mapping[str, Any] | Scenario | None, lanes: int, threads: int = 1) -> None:
        self.scenario = _scenario(scenario)
        self.simulator = Simulator(self.scenario, lanes, threads)
        vms = self.simulator.vms.shape[1]
        self.observations = np.zeros((lanes, features.observation_size(vms)), np.float32)
        self.terms = np.zeros((lanes, len(TERMS)))
        self._totals = np.zeros((lanes, len(TERMS) + 1))  # the last is weighted time asked for
        self._vm_before = self.simulator.vm_signals.copy()
        self._host_before = self.simulator.host_signals.copy()
        self._seeds: list[int | None] = [None] * lanes
        self._episodes = [0] * lanes
        high = np.ones(vms, np.float32)
        self.action_space = gym.spaces.Box(-high, high, dtype=np.float32)
        high = np.ones(self.observations.shape[1], np.float32)
        self.observation_space = gym.spaces.Box(-high, high, dtype=np.float32)

    @property
    def unseeded(self) -> bool:
        """Whether no lane has been given a seed yet."""
        return self._seeds[0] is None

    def reset(self, lane: int, seed: int | None) -> None:
        """Start the episode of `seed`, or the next one of the lane's sequence."""
        if seed is not None:
            self._seeds[lane], self._episodes[lane] = seed, 0
        else:
            self._episodes[lane] += 1
        base, episode = self._seeds[lane] or 0, self._episodes[lane]
        if episode > 0:
            base = int(rng.random_bits(base, rng.STREAM_EPISODE, 0, episode)) >> 1
        sim = self.simulator
        sim.reset_lane(lane, base)
        self._totals[lane] = 0.0
        features.observe(
            sim.vm_signals, sim.host_signals, sim.vm_signals, sim.host_signals, 1.0, self.observations, lane, lane + 1
        )

    def step(self, actions: np.ndarray) -> None:
        """Advance every lane by one control interval; results are in ``observations`` and ``terms``."""
        sim = self.simulator
        seconds = self.scenario.control_interval_s
        sim.each_chunk(
            lambda first, last: _step(
                actions, sim.vms, sim.hosts, sim.vm_specs, sim.host_specs, sim.demand, sim.clock_s, sim.slot_s, seconds,
                sim.vm_signals, sim.host_signals, self._vm_before, self._host_before,
                self.observations, self._totals, self.terms, first, last,
            )
        )  # fmt: skip

    def ended(self, lane: int) -> bool:
        """Whether the episode of this lane is over."""
        return bool(self.simulator.clock_s[lane] >= self.scenario.duration_s)


def _scenario(given: str | Mapping[str, Any] | Scenario | None) -> Scenario:
    if isinstance(given, Scenario):
        return given
    return Scenario.from_dict(given) if isinstance(given, Mapping) else load(given or DEFAULT_SCENARIO)


class HostEnv(gym.Env[np.ndarray, np.ndarray]):
    """Scalar environment. `scenario` is the name of a packaged scenario or its plain data (`Scenario.to_dict`)."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(self, scenario: str | Mapping[str, Any] | Scenario | None = None) -> None:
        self._lanes = HostLanes(scenario, 1)
        self.action_space = self._lanes.action_space
        self.observation_space = self._lanes.observation_space

    @property
    def simulator(self) -> Simulator:
        """The simulated host (for scorers and tests; policies get observations)."""
        return self._lanes.simulator

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; see the module for seeds."""
        super().reset(seed=seed)
        if seed is None and self._lanes.unseeded:
            seed = int(self.np_random.integers(2**62))
        self._lanes.reset(0, seed)
        return self._lanes.observations[0].copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Ask for memory sizes (see ``features``) and let one control interval pass."""
        lanes = self._lanes
        lanes.step(action.reshape(1, -1))
        terms = lanes.terms[0].tolist()
        info = dict(zip(TERMS, terms, strict=True))
        return lanes.observations[0].copy(), terms[0], False, lanes.ended(0), info


class HostVectorEnv(gym.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`num_envs` environments in one compiled batch, on `threads` threads."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # type: ignore[misc]

    def __init__(
        self, num_envs: int = 1, scenario: str | Mapping[str, Any] | Scenario | None = None, threads: int = 1
    ) -> None:
        self._lanes = HostLanes(scenario, num_envs, threads)
        self.num_envs = num_envs
        self.single_action_space = self._lanes.action_space
        self.single_observation_space = self._lanes.observation_space
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)

    @property
    def simulator(self) -> Simulator:
        """The simulated hosts."""
        return self._lanes.simulator

    @property
    def scenario(self) -> Scenario:
        """What every lane plays."""
        return self._lanes.scenario

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every lane; an integer seed gives lane i seed + i."""
        super().reset(seed=seed if isinstance(seed, int) else None)
        if seed is None and self._lanes.unseeded:
            seed = int(self.np_random.integers(2**62))
        for lane in range(self.num_envs):
            self._lanes.reset(lane, None if seed is None else seed + lane if isinstance(seed, int) else int(seed[lane]))
        return self._lanes.observations.copy(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance all lanes; lanes that end are reset in the same step."""
        lanes = self._lanes
        lanes.step(actions)
        terms = lanes.terms.copy()
        infos: dict[str, Any] = {name: terms[:, i] for i, name in enumerate(TERMS)}
        truncated = lanes.simulator.clock_s >= lanes.scenario.duration_s
        if truncated.any():
            infos["final_obs"] = lanes.observations.copy()
            infos["_final_obs"] = truncated
            for lane in np.flatnonzero(truncated).tolist():
                lanes.reset(lane, None)
        terminated = np.zeros(self.num_envs, np.bool_)
        return lanes.observations.copy(), terms[:, 0], terminated, truncated, infos
