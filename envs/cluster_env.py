"""``hvgym/Cluster-v0``: several hosts under one stack as a Gymnasium environment (the batch is in ``cluster_vector_env``).

One step is the scenario's control interval. Observation and action are those of ``cluster_features``: hosts and VMs with masks;
a memory size for each VM, and a score for each VM and host. The actions take the place of the stack's balancing; what the
hypervisors do by themselves goes on beneath them (``cluster_lanes``), and high availability is the model's.

The reward is goodput as in ``hvgym/Host-v1``: weighted progress of all VMs over what was asked for, less ``kill_cost_s`` for each
kill and failed start. What must not hide in it stands in ``info``, each what the step added, float64: ``cost``, ``oom_kills``,
``failed_starts``, ``host_swap_s`` (of all hosts), ``balloon_moved_mib``, ``outage_s`` (VM seconds without service after failures
of hosts), ``downtime_s`` (VM seconds stopped at the end of copies), ``moves``, ``failed_moves``, ``moved_gib``. An episode ends
by truncation only. Seeds are those of ``hvgym/Host-v1``.
"""

import os
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from hvgym.envs import cluster_view, features, render, seeds
from hvgym.envs.beneath import Maker
from hvgym.envs.cluster_lanes import MOVE_MARGIN, TERMS, ClusterLanes
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.making import Given, Group, PlainSpec, scenario_of
from hvgym.envs.seats import SeatName
from hvgym.envs.stepping import REWARD

DEFAULT_SCENARIO = "hot-host"


class ClusterEnv(PlainSpec, gym.Env[dict[str, np.ndarray], np.ndarray]):
    """Scalar environment.

    scenario: one with hosts and a stack; it and what can be replaced in it, the stack too, as for ``host_env.HostEnv``. rules:
    ``default`` or ``open`` in place of the scenario's own. seat: ``inside`` or ``outside`` of the hypervisor, for the memory part
    of the action and for what can be read; `channels` says which parts count. move_margin: by how much another host's score must
    be better, 0 to 2. render_mode: None or ``ansi``. beneath: makes the policy that runs on beneath the actions on each host;
    ``gymnasium.make`` gives the hypervisor's own, nobody gives none.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(cluster_view.MODES), "render_fps": render.FPS}  # type: ignore[misc]

    def __init__(
        self, scenario: Given = None, *, hypervisor: Group = None, disk: Group = None, nic: Group = None,
        workload: Group = None, stack: Group = None, config_dir: str | os.PathLike[str] | None = None,
        render_mode: str | None = None, rules: str | None = None, seat: SeatName = "outside",
        move_margin: float = MOVE_MARGIN, beneath: Maker | None = None,
    ) -> None:  # fmt: skip
        given = DEFAULT_SCENARIO if scenario is None else scenario
        chosen = scenario_of(given, hypervisor, disk, nic, workload, config_dir, rules, stack)
        self._lanes = ClusterLanes(chosen, 1, seat=seat, move_margin=move_margin, beneath=beneath)
        self.action_space = self._lanes.action_space
        self.observation_space = self._lanes.observation_space
        self.render_mode = render.checked(render_mode, cluster_view.MODES)

    @property
    def simulator(self) -> ClusterSimulator:
        """The simulated cluster (for scorers and tests; policies get observations)."""
        return self._lanes.simulator

    @property
    def channels(self) -> tuple[str, ...]:
        """Of ``memory_mib`` and ``move_to``, which parts of the action count."""
        return self._lanes.channels

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode; see the module for seeds."""
        seed = None if seed is None else seeds.whole(seed)
        super().reset(seed=seed)
        if seed is None and self._lanes.unseeded(0):
            seed = int(self.np_random.integers(2**62))
        self._lanes.reset(0, seed)
        return self._lanes.seen_one(0), dict(zip(TERMS, self._lanes.terms[0], strict=True))

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Ask for memory sizes and moves, and let one control interval pass.

        action: numbers ``[vm + vm * host]`` as ``cluster_features`` says. Raises `ValueError` for another shape and for NaN.
        """
        lanes = self._lanes
        features.take(action, lanes.actions[0])
        lanes.step()
        info = dict(zip(TERMS, lanes.terms[0], strict=True))
        return lanes.seen_one(0), float(info[REWARD]), False, lanes.ended_one(), info

    def render(self) -> str | None:
        """A table of the present where `render_mode` asks for it."""
        self._lanes.check_begun()
        return self._lanes.picture(self.render_mode, 0)
