"""Batches of hosts as one Stable-Baselines3 ``VecEnv``, of one scenario or of several with unlike numbers of VMs.

Lanes are shared out evenly among the scenarios; observations and actions are padded to the most VMs (``envs.view``). SB3 wants
resets in the step in which an episode ends, the ended observation in ``infos[i]["terminal_observation"]``, time limits marked, and
observations alone from ``reset``. The learner's reward is an affine image of goodput, LOSS_SCALE x (goodput - 1): its optimum is the
same, and its returns are small.

`stagger`: the first episode of each lane ends at a second of its own, so that at any time lanes are all over their episodes, and
an update sees morning and evening. In step, an update saw the same five minutes of all lanes, and unlearnt the rest.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from hvgym.agents.learned.seeing import HOST, VM, Acting, ViewLanes
from hvgym.envs import seeds
from hvgym.envs.scenario import Scenario

LOSS_SCALE = 10.0


class HostVecEnv(VecEnv):
    """`num_envs` hosts; lane i is seeded with the seed given to ``seed`` plus i."""

    def __init__(
        self, scenarios: Sequence[Scenario], num_envs: int, acting: Acting, seed: int = 0, threads: int = 1,
        stagger: bool = True,
    ) -> None:  # fmt: skip
        self.vms = max(len(scenario.groups) for scenario in scenarios)
        self._first = np.linspace(0, num_envs, len(scenarios) + 1).astype(int)
        self.parts = [
            ViewLanes(scenario, int(count), threads, acting, self.vms)
            for scenario, count in zip(scenarios, np.diff(self._first), strict=True)
        ]
        observation = gym.spaces.Box(0.0, 1.0, (HOST + self.vms * VM,), np.float32)
        action = gym.spaces.Box(-1.0, 1.0, (self.vms * acting.channels_of_vms,), np.float32)
        super().__init__(num_envs, observation, action)
        self.render_mode = None
        self._first_seed: int | None = seed
        self._stagger = stagger
        self._actions: Any = None
        self._returns, self._steps, self._end = np.zeros(num_envs), np.zeros(num_envs, int), np.zeros(num_envs, int)

    def places(self) -> Any:
        """Of each scenario its lanes: they, and the first and last of theirs among all."""
        return zip(self.parts, self._first[:-1].tolist(), self._first[1:].tolist(), strict=True)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed lane i with seed + i at the next reset."""
        if seed is not None:
            self._first_seed = seeds.whole(seed)
        return seeds.of_lanes(self._first_seed, self.num_envs)

    def reset(self) -> np.ndarray:
        """Start an episode in every lane; a second reset goes on with each lane's sequence of seeds."""
        given = seeds.of_lanes(self._first_seed, self.num_envs)
        self._first_seed = None
        return self.begin(given)

    def begin(self, given: Sequence[int | None]) -> np.ndarray:
        """Start the episode of a seed in each lane."""
        for part, first, last in self.places():
            for lane in range(first, last):
                part.reset(lane - first, given[lane])
            whole = part.scenario.duration_s // part.scenario.control_interval_s
            apart = np.arange(1, last - first + 1) / (last - first)
            self._end[first:last] = np.ceil(whole * apart) if self._stagger else whole
        self._returns[:], self._steps[:] = 0.0, 0
        return self._seen()

    def _seen(self) -> np.ndarray:
        return np.concatenate([part.observations for part in self.parts])

    def step_async(self, actions: Any) -> None:
        """Keep the actions ``[env, entry]`` for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Advance all lanes; lanes that end start their next episode."""
        goodput = np.concatenate([part.step(self._actions[first:last]) for part, first, last in self.places()])
        self._returns += goodput
        self._steps += 1
        dones = self._steps >= self._end
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if dones.any():
            ended = self._seen()
            for part, first, last in self.places():
                for lane in (first + np.flatnonzero(dones[first:last])).tolist():
                    infos[lane] = self._end_lane(part, lane, first, ended[lane])
        return self._seen(), (LOSS_SCALE * (goodput - 1.0)).astype(np.float32), dones, infos

    def _end_lane(self, part: Any, lane: int, first: int, observation: np.ndarray) -> dict[str, Any]:
        info: dict[str, Any] = {"terminal_observation": observation, "TimeLimit.truncated": True}
        info["episode"] = {"r": self._returns[lane] / self._steps[lane], "l": int(self._steps[lane]), "t": 0.0}
        self._returns[lane], self._steps[lane] = 0.0, 0
        self._end[lane] = part.scenario.duration_s // part.scenario.control_interval_s
        part.reset(lane - first, None)
        return info

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same attribute for every lane: lanes differ only in their arrays."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not offered: a lane is a row of arrays, not an object."""
        raise AttributeError(f"lanes have no attribute {attr_name} of their own")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Not offered: see `set_attr`."""
        raise AttributeError(f"lanes have no method {method_name} of their own")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No lane is wrapped."""
        return [False for _ in self._get_indices(indices)]
