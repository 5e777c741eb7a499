"""``hvgym/Host-v1``: one overcommitted host as a Gymnasium environment (the batch is in ``vector_env``).

One step is the scenario's control interval. The reward is the goodput of that interval: weighted progress of all VMs
as a share of what was asked for, in [0, 1], less ``kill_cost_s`` of the VM's work for each kill and failed start in that
interval (so a step can be below 0). Its companions that must not hide in one number stand in ``info``: ``cost`` (seconds in
which a critical VM missed its objective), ``oom_kills``, ``failed_starts``, ``host_swap_s``, ``balloon_moved_mib``, each what
the step added, float64; after a reset they are 0. An episode ends by truncation only.

Seeds: ``reset(seed=s)`` plays the demand of seed s (any integer from 0 on); each later ``reset()`` plays the next of a
sequence that s determines. Lane i of a batch seeded s equals the scalar environment seeded s + i, bit for bit, episode
after episode.
"""

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from hvgym.envs import actions, features, render, seeds
from hvgym.envs.beneath import Maker
from hvgym.envs.lanes import HostLanes
from hvgym.envs.making import Given, Group, PlainSpec, scenario_of
from hvgym.envs.seats import SeatName
from hvgym.envs.simulator import Simulator
from hvgym.envs.stepping import REWARD, TERMS


class HostEnv(PlainSpec, gym.Env[np.ndarray, np.ndarray]):
    """Scalar environment.

    scenario: name of a packaged scenario, path of a YAML, its plain data, or a `Scenario`. hypervisor, disk, nic, workload:
    replace the scenario's own, by name or as plain data. config_dir: folder with groups of your own. render_mode: None,
    ``rgb_array`` (uint8 ``[480, 640, 3]``, the episode so far) or ``ansi`` (a table of the present). rules: ``default`` or
    ``open`` in place of the scenario's own. seat: ``inside`` or ``outside``; under default rules actions are what that seat of the
    hypervisor can set (`rules.channels_at`), and what it cannot read is missing from the observation. channels: keys of
    ``actions`` in place of them, each within the rules; action: how sizes are asked for, ``relative`` (by at most `step` of
    configured memory a step), ``absolute`` or ``water_filling``. most_vms: places for VMs in observation and action. visibility:
    profile of signals, P0 to P4; page_ages: see ages of pages, too, and pay for it. beneath: makes the policy
    that runs on beneath the actions (``beneath``); ``gymnasium.make`` gives the hypervisor's own, nobody gives none.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(render.MODES), "render_fps": render.FPS}  # type: ignore[misc]

    def __init__(
        self, scenario: Given = None, *, hypervisor: Group = None, disk: Group = None, nic: Group = None,
        workload: Group = None, config_dir: str | os.PathLike[str] | None = None, render_mode: str | None = None,
        rules: str | None = None, seat: SeatName = "inside", beneath: Maker | None = None, action: str = "relative",
        step: float = actions.STEP, channels: Sequence[str] | None = None, most_vms: int | None = None, visibility: str = "P1",
        page_ages: bool = False,
    ) -> None:  # fmt: skip
        chosen = scenario_of(scenario, hypervisor, disk, nic, workload, config_dir, rules)
        self._lanes = HostLanes(
            chosen, 1, seat=seat, beneath=beneath, action=action, step=step, channels=channels,
            most_vms=most_vms, visibility=visibility, page_ages=page_ages,
        )  # fmt: skip
        self.action_space = self._lanes.action_space
        self.observation_space = self._lanes.observation_space
        self.render_mode = render.checked(render_mode)
        if render_mode is not None:
            self._lanes.remember()

    @property
    def simulator(self) -> Simulator:
        """The simulated host (for scorers and tests; policies get observations)."""
        return self._lanes.simulator

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; see the module for seeds."""
        seed = None if seed is None else seeds.whole(seed)
        super().reset(seed=seed)
        if seed is None and self._lanes.unseeded(0):
            seed = int(self.np_random.integers(2**62))
        self._lanes.reset(0, seed)
        return self._lanes.observations[0].copy(), dict(zip(TERMS, self._lanes.terms[0], strict=True))

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Ask for memory sizes and let one control interval pass.

        action: numbers ``[entry]`` as ``actions`` says. Raises `ValueError` for
        another shape and for NaN.
        """
        lanes = self._lanes
        features.take(action, lanes.actions[0])
        lanes.step()
        info = dict(zip(TERMS, lanes.terms[0]))  # noqa: B905 - half a microsecond of every step
        return lanes.observations[0].copy(), float(info[REWARD]), False, lanes.ended_one(), info

    def render(self) -> Any:
        """A picture of the episode so far, as `render_mode` says; None without one."""
        self._lanes.check_begun()
        return self._lanes.picture(self.render_mode, 0)
