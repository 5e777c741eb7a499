"""``hvgym/Host-v1`` in a batch: one compiled step for all lanes, and what Gymnasium's own ``SyncVectorEnv`` of scalar
environments would answer, bit for bit, in every mode of autoreset.

Next step (Gymnasium's default): a lane that has ended starts its next episode in the step after, whose action counts for
nothing and whose reward is 0. Same step: in the step that ends it; the ended observation and terms are
``infos["final_obs"]`` and ``infos["final_info"]``. Disabled: whoever steps the batch resets ended lanes, with
``reset(options={"reset_mask": mask})``.
"""

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from hvgym.envs import actions, render, seeds
from hvgym.envs.beneath import Maker
from hvgym.envs.errors import InputError, nearest
from hvgym.envs.lanes import HostLanes, Lanes
from hvgym.envs.making import Given, Group, PlainSpec, scenario_of
from hvgym.envs.scenario import Scenario
from hvgym.envs.seats import SeatName
from hvgym.envs.simulator import Simulator


class LanesVectorEnv(PlainSpec, gym.vector.VectorEnv[Any, np.ndarray, np.ndarray]):
    """What a batch does, of hosts alone or of clusters: seeds, ends of episodes and autoreset."""

    _lanes: Lanes

    def _begin(self, num_envs: int, autoreset_mode: str | AutoresetMode, render_mode: str | None) -> None:
        """Describe what the lanes are."""
        self.num_envs = num_envs
        self.single_action_space = self._lanes.action_space
        self.single_observation_space = self._lanes.observation_space
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = type(self).metadata | {"autoreset_mode": self.autoreset_mode}
        self._ended = np.zeros(num_envs, np.bool_)
        self.render_mode = render_mode

    @property
    def scenario(self) -> Scenario:
        """What every lane plays."""
        return self._lanes.scenario

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every lane, or in those of ``options["reset_mask"]`` (bool ``[env]``).

        seed: s gives lane i s + i; a list gives each its own, None in it the next of the lane's sequence.
        """
        given = seeds.of_lanes(seed, self.num_envs)
        super().reset(seed=given[0] if isinstance(seed, (int, np.integer)) else None)
        which = self._masked(options)
        if any(given[lane] is None and self._lanes.unseeded(lane) for lane in np.flatnonzero(which).tolist()):
            drawn = int(self.np_random.integers(2**62))
            given = [
                drawn + lane if one is None and self._lanes.unseeded(lane) else one for lane, one in enumerate(given)
            ]
        self._reset(which, given)
        return self._lanes.seen(), self._infos(which)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance all lanes; those that have ended as the mode of autoreset says.

        actions: numbers ``[env, entry]``, as the scalar environment takes them. Raises `ValueError` for another shape and for NaN.
        """
        lanes, again = self._lanes, self._ended
        if self.autoreset_mode is AutoresetMode.DISABLED and again.any():
            which = np.flatnonzero(again).tolist()
            raise gym.error.ResetNeeded(f"lanes {which} have ended; reset them with options={{'reset_mask': mask}}")
        lanes.take(actions)
        if not again.all():  # else there is nothing to advance
            lanes.step()
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and again.any():
            self._reset(again, [None] * self.num_envs)
        truncated = lanes.ended()
        self._ended = truncated.copy()
        rewards, infos = lanes.terms[:, 0].copy(), {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and truncated.any():
            infos = self._final(truncated)
            self._reset(truncated, [None] * self.num_envs)
        infos |= self._infos(np.ones(self.num_envs, np.bool_))
        return lanes.seen(), rewards, np.zeros(self.num_envs, np.bool_), truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """One picture a lane, as `render_mode` says; None without one."""
        if self.render_mode is None:
            return None
        self._lanes.check_begun()
        return tuple(self._lanes.picture(self.render_mode, lane) for lane in range(self.num_envs))

    def _masked(self, options: dict[str, Any] | None) -> np.ndarray:
        """Lanes that a reset is for."""
        if not options or "reset_mask" not in options:
            return np.ones(self.num_envs, np.bool_)
        mask = options["reset_mask"]
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"options['reset_mask'] must be a numpy array of bool, got {mask!r}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must have shape ({self.num_envs},) and one True value at least, got {mask!r}"
            )
        return mask.copy()

    def _reset(self, which: np.ndarray, given: Sequence[int | None]) -> None:
        for lane in np.flatnonzero(which).tolist():
            self._lanes.reset(lane, given[lane])
        self._ended = self._ended & ~which

    def _infos(self, which: np.ndarray) -> dict[str, Any]:
        """The terms of these lanes, each with its mask."""
        columns = np.where(which, self._lanes.terms.T, 0.0)
        infos: dict[str, Any] = {}
        for name, column in zip(self._lanes.names, columns, strict=True):
            infos[name], infos[f"_{name}"] = column, which.copy()
        return infos

    def _final(self, ended: np.ndarray) -> dict[str, Any]:
        """What these lanes ended with."""
        observations = np.full(self.num_envs, None, object)
        for lane in np.flatnonzero(ended).tolist():
            observations[lane] = self._lanes.seen_one(lane)
        return {
            "final_obs": observations, "_final_obs": ended.copy(),
            "final_info": self._infos(ended), "_final_info": ended.copy(),
        }  # fmt: skip


class HostVectorEnv(LanesVectorEnv):
    """`num_envs` environments in one compiled batch, on `threads` threads.

    autoreset_mode: an `AutoresetMode`, its name or its value. max_episode_steps: truncates earlier than the scenario does.
    The rest as for `HostEnv`; `render` gives one picture a lane.
    """

    _lanes: HostLanes
    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(render.MODES), "render_fps": render.FPS}  # type: ignore[misc]

    def __init__(
        self, num_envs: int = 1, scenario: Given = None, threads: int = 1, *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP, max_episode_steps: int | None = None,
        hypervisor: Group = None, disk: Group = None, nic: Group = None, workload: Group = None,
        config_dir: str | os.PathLike[str] | None = None, render_mode: str | None = None,
        rules: str | None = None, seat: SeatName = "inside", beneath: Maker | None = None, action: str = "relative",
        step: float = actions.STEP, channels: Sequence[str] | None = None, most_vms: int | None = None, visibility: str = "P1",
        page_ages: bool = False,
    ) -> None:  # fmt: skip
        check_counts(num_envs=num_envs, threads=threads)
        chosen = scenario_of(scenario, hypervisor, disk, nic, workload, config_dir, rules)
        self._lanes = HostLanes(
            chosen, num_envs, threads, max_episode_steps, seat, beneath, action=action, step=step, channels=channels,
            most_vms=most_vms, visibility=visibility, page_ages=page_ages,
        )  # fmt: skip
        self._begin(num_envs, autoreset_mode, render.checked(render_mode))
        if render_mode is not None:
            self._lanes.remember()

    @property
    def simulator(self) -> Simulator:
        """The simulated hosts."""
        return self._lanes.simulator


def check_counts(**counts: int) -> None:
    """Raise `ValueError` for what is no number of things."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
            raise ValueError(f"{name}={count!r}: expected a whole number, at least 1")


def _mode(given: str | AutoresetMode) -> AutoresetMode:
    if isinstance(given, AutoresetMode):
        return given
    known = {mode.value: mode for mode in AutoresetMode} | {mode.name: mode for mode in AutoresetMode}
    if given not in known:
        raise InputError(
            f"autoreset_mode={given!r}: unknown{nearest(str(given), known)}; "
            f"known: {', '.join(mode.value for mode in AutoresetMode)}"
        )
    return known[given]
