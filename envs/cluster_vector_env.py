"""``hvgym/Cluster-v0`` in a batch: lane i of a batch seeded s is the scalar environment seeded s + i, bit for bit; autoreset as in
``vector_env``."""

import os
from typing import Any, ClassVar

from gymnasium.vector import AutoresetMode

from hvgym.envs import cluster_view, render
from hvgym.envs.beneath import Maker
from hvgym.envs.cluster_env import DEFAULT_SCENARIO
from hvgym.envs.cluster_lanes import MOVE_MARGIN, ClusterLanes
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.making import Given, Group, scenario_of
from hvgym.envs.seats import SeatName
from hvgym.envs.vector_env import LanesVectorEnv, check_counts


class ClusterVectorEnv(LanesVectorEnv):
    """`num_envs` environments in one batch, on `threads` threads.

    autoreset_mode: an `AutoresetMode`, its name or its value. max_episode_steps: truncates earlier than the scenario does.
    The rest as for `ClusterEnv`; `render` gives one table a lane.
    """

    _lanes: ClusterLanes
    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(cluster_view.MODES), "render_fps": render.FPS}  # type: ignore[misc]

    def __init__(
        self, num_envs: int = 1, scenario: Given = None, threads: int = 1, *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP, max_episode_steps: int | None = None,
        hypervisor: Group = None, disk: Group = None, nic: Group = None, workload: Group = None, stack: Group = None,
        config_dir: str | os.PathLike[str] | None = None, render_mode: str | None = None,
        rules: str | None = None, seat: SeatName = "outside", move_margin: float = MOVE_MARGIN, beneath: Maker | None = None,
    ) -> None:  # fmt: skip
        check_counts(num_envs=num_envs, threads=threads)
        given = DEFAULT_SCENARIO if scenario is None else scenario
        chosen = scenario_of(given, hypervisor, disk, nic, workload, config_dir, rules, stack)
        self._lanes = ClusterLanes(chosen, num_envs, threads, max_episode_steps, seat, move_margin, beneath)
        self._begin(num_envs, autoreset_mode, render.checked(render_mode, cluster_view.MODES))

    @property
    def simulator(self) -> ClusterSimulator:
        """The simulated clusters."""
        return self._lanes.simulator

    @property
    def channels(self) -> tuple[str, ...]:
        """As of `ClusterEnv`."""
        return self._lanes.channels
