"""The batch of hosts as a Stable-Baselines3 ``VecEnv``: same arrays, no copy per lane, SB3's conventions.

SB3 wants resets in the step in which an episode ends, the ended observation in ``infos[i]["terminal_observation"]``,
time limits marked, and observations alone from ``reset``. The learner's reward is an affine image of goodput,
LOSS_SCALE x (goodput - 1): its optimum is the same, and its returns are small.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from hvgym.envs import seeds
from hvgym.envs.lanes import HostLanes
from hvgym.envs.scenario import Scenario
from hvgym.envs.stepping import TERMS

LOSS_SCALE = 10.0


class HostVecEnv(VecEnv):
    """`num_envs` hosts; lane i is seeded with the seed given to ``seed`` plus i. `keywords`: of `HostLanes`."""

    def __init__(self, scenario: Scenario, num_envs: int, seed: int = 0, threads: int = 1, **keywords: Any) -> None:
        self.lanes = HostLanes(scenario, num_envs, threads, **keywords)
        super().__init__(num_envs, self.lanes.observation_space, self.lanes.action_space)
        self._first_seed: int | None = seed
        self._actions: Any = None
        self._returns = np.zeros(num_envs)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed lane i with seed + i at the next reset."""
        if seed is not None:
            self._first_seed = seeds.whole(seed)
        return seeds.of_lanes(self._first_seed, self.num_envs)

    def reset(self) -> np.ndarray:
        """Start an episode in every lane; a second reset goes on with each lane's sequence of seeds."""
        for lane, seed in enumerate(seeds.of_lanes(self._first_seed, self.num_envs)):
            self.lanes.reset(lane, seed)
        self._first_seed = None
        self._returns[:] = 0.0
        return self.lanes.observations.copy()

    def step_async(self, actions: Any) -> None:
        """Keep the actions ``[env, entry]`` for `step_wait`, which raises `ValueError` as ``features.take``."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Advance all lanes; lanes that end start their next episode."""
        self.lanes.take(self._actions)
        self.lanes.step()
        goodput = self.lanes.terms[:, 0].copy()  # a lane's reset clears its terms
        self._returns += goodput
        dones = self.lanes.ended()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if dones.any():
            ended = self.lanes.observations.copy()
            for lane in np.flatnonzero(dones).tolist():
                infos[lane] = self._end(lane, ended[lane])
        return self.lanes.observations.copy(), (LOSS_SCALE * (goodput - 1.0)).astype(np.float32), dones, infos

    def _end(self, lane: int, observation: np.ndarray) -> dict[str, Any]:
        steps = self.lanes.scenario.duration_s // self.lanes.scenario.control_interval_s
        info = {"terminal_observation": observation, "TimeLimit.truncated": True}
        info |= dict(zip(TERMS, self.lanes.terms[lane].tolist(), strict=True))
        info["episode"] = {"r": self._returns[lane] / steps, "l": steps, "t": 0.0}
        self._returns[lane] = 0.0
        self.lanes.reset(lane, None)
        return info

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same attribute for every lane: lanes differ only in their arrays."""
        if attr_name == "render_mode":
            return [None for _ in self._get_indices(indices)]
        return [getattr(self.lanes, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not offered: a lane is a row of arrays, not an object."""
        raise AttributeError(f"lanes have no attribute {attr_name} of their own")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Not offered: see `set_attr`."""
        raise AttributeError(f"lanes have no method {method_name} of their own")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No lane is wrapped."""
        return [False for _ in self._get_indices(indices)]
