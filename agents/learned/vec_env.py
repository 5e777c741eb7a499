"""Batches of hosts as one Stable-Baselines3 ``VecEnv``, of one scenario or of several with unlike numbers of VMs.

Lanes are shared out evenly among the scenarios; observations and actions are padded to the most VMs (``envs.view``). SB3 wants
resets in the step in which an episode ends, the ended observation in ``infos[i]["terminal_observation"]``, time limits marked, and
observations alone from ``reset``. The learner's reward is an affine image of the hosts', LOSS_SCALE x (reward - that
of a step in which nothing is lost): its optimum is the same, and its returns are small. A `Lagrangian` takes off what missed
seconds cost under a constraint.

`stagger`: the first episode of each lane ends at a second of its own, so that at any time lanes are all over their episodes. In
step, an update sees the same minutes of all lanes' episodes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from stable_baselines3.common.vec_env import VecEnv

from hvgym.agents.learned.safety import Lagrangian
from hvgym.agents.learned.seeing import Acting
from hvgym.agents.learned.training import shared_out
from hvgym.agents.stock import beneath
from hvgym.envs import seeds
from hvgym.envs.lanes import HostLanes
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario

LOSS_SCALE = 10.0


class HostVecEnv(VecEnv):
    """`num_envs` hosts; lane i is seeded with the seed given to ``seed`` plus i. parts: lanes of each scenario; who: what
    the policy declares that learns there; visibility: the profile whose signals it reads."""

    def __init__(
        self, scenarios: Sequence[Scenario], num_envs: int, acting: Acting, seed: int = 0, threads: int = 1,
        stagger: bool = False, reward: Mapping[str, Any] | None = None, lagrangian: Lagrangian | None = None,
        who: Declaration | None = None, visibility: str = "P1",
    ) -> None:  # fmt: skip
        self.vms, self.acting = max(len(scenario.groups) for scenario in scenarios), acting
        self._ends = shared_out(num_envs, len(scenarios))
        self.parts = [
            HostLanes(
                scenario, last - first, threads, beneath=beneath, action=acting.action, step=acting.step,
                channels=acting.channels, most_vms=self.vms, visibility=visibility, reward=reward, who=who,
            )
            for scenario, first, last in zip(scenarios, self._ends[:-1], self._ends[1:], strict=True)
        ]  # fmt: skip
        answers = Box(-1.0, 1.0, (acting.answers * self.vms,), np.float32)
        super().__init__(num_envs, self.parts[0].observation_space, answers)
        self._first_seed: int | None = seed
        self._stagger, self.lagrangian = stagger, lagrangian
        self._actions: Any = None
        self._returns, self._steps, self._length = np.zeros(num_envs), np.zeros(num_envs, int), np.zeros(num_envs, int)

    def places(self) -> Iterator[tuple[HostLanes, int, int]]:
        """Of each scenario: its lanes, and which they are of all, first and last."""
        return zip(self.parts, self._ends[:-1], self._ends[1:], strict=True)

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
            apart = np.arange(1, last - first + 1) / (last - first)
            self._length[first:last] = np.ceil(_steps(part) * apart) if self._stagger else _steps(part)
        self._returns[:], self._steps[:] = 0.0, 0
        return self._seen()

    def _seen(self) -> np.ndarray:
        return np.concatenate([part.observations for part in self.parts])

    def step_async(self, actions: Any) -> None:
        """Keep the actions ``[env, entry]`` for `step_wait`, which raises `ValueError` as ``features.take``."""
        self._actions = np.asarray(actions)
        wanted = (self.num_envs, *self.action_space.shape)
        if self._actions.shape != wanted:  # or each scenario would take its own part of it
            raise ValueError(f"action of shape {self._actions.shape}, expected {wanted}")

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Advance all lanes; lanes that end start their next episode."""
        for part, first, last in self.places():
            answers = self._actions[first:last].reshape(last - first, self.acting.answers, self.vms)
            part.take(self.acting.actions(answers, len(part.scenario.groups)))
            part.step()
        goodput = np.concatenate([part.terms[:, 0] for part in self.parts])  # a copy: a lane's reset clears its terms
        rewards = self._rewards()
        self._returns += goodput
        self._steps += 1
        dones = self._steps >= self._length
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if dones.any():
            ended = self._seen()
            for part, first, last in self.places():
                for lane in (first + np.flatnonzero(dones[first:last])).tolist():
                    infos[lane] = self._end(part, lane, first, ended[lane])
        return self._seen(), rewards, dones, infos

    def _rewards(self) -> np.ndarray:
        """Of the step, as the learner gets them, float32 ``[env]``."""
        best = self.parts[0].best_reward
        rewards = np.concatenate([part.rewards() for part in self.parts]) - best
        if self.lagrangian is not None:
            costs = np.concatenate([part.costs() for part in self.parts])
            rewards -= self.lagrangian.charge(costs, float(self.parts[0].scenario.control_interval_s))
        return np.asarray(LOSS_SCALE * rewards, np.float32)

    def _end(self, part: HostLanes, lane: int, first: int, observation: np.ndarray) -> dict[str, Any]:
        steps = int(self._steps[lane])
        info = {"terminal_observation": observation, "TimeLimit.truncated": True}
        info |= dict(zip(part.names, part.terms[lane - first].tolist(), strict=True))
        info["episode"] = {"r": self._returns[lane] / steps, "l": steps, "t": 0.0}
        self._returns[lane], self._steps[lane], self._length[lane] = 0.0, 0, _steps(part)
        part.reset(lane - first, None)
        return info

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same attribute for every lane: lanes of a scenario differ only in their arrays."""
        if attr_name == "render_mode":
            return [None for _ in self._get_indices(indices)]
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


def _steps(part: HostLanes) -> int:
    """Decisions of an episode."""
    return part.scenario.duration_s // part.scenario.control_interval_s
