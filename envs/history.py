"""What an episode has looked like so far, for pictures of it: a few numbers a VM and step."""

import numpy as np

from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator


def guest_swapped_mib(sim: Simulator) -> np.ndarray:
    """Anonymous memory that guests hold in their own swap, ``[env, vm]``."""
    missing = sim.vms["allocated_mib"] - sim.vms["resident_mib"]
    return np.asarray((missing * (1.0 - sim.vm_specs["tier_is_file"])).sum(axis=-1))


class History:
    """One lane's episode. Arrays ``[step, vm]``, MiB: resident (of host RAM, its process included), balloon, guest_swap,
    host_swap; progress ``[step, vm]`` of the control interval, NaN while the VM is not started; own, cache ``[step]``: the
    hypervisor's, MiB. Step 0 is the reset; `steps` have been played since.
    """

    def __init__(self, scenario: Scenario, lane: int) -> None:
        self.lane = lane
        self.interval_s = scenario.control_interval_s
        self.most = scenario.duration_s // scenario.control_interval_s
        shape = (self.most + 1, len(scenario.groups))
        self.resident, self.balloon, self.guest_swap, self.host_swap, self.progress = np.zeros((5, *shape), np.float32)
        self.own, self.cache = np.zeros((2, shape[0]), np.float32)
        self.steps = 0
        self._done_s = np.zeros(shape[1])

    def begin(self, sim: Simulator) -> None:
        """Forget the episode before."""
        self.steps = 0
        self._done_s = sim.vms["progress_s"][self.lane].copy()
        self._note(sim, np.full(len(self._done_s), np.nan))

    def add(self, sim: Simulator) -> None:
        """Note one step; what is played beyond the end of the episode is left out."""
        done_s = sim.vms["progress_s"][self.lane].copy()
        progress = np.where(sim.vms["admitted"][self.lane] > 0.0, (done_s - self._done_s) / self.interval_s, np.nan)
        self._done_s = done_s
        if self.steps < self.most:
            self.steps += 1
            self._note(sim, progress)

    def _note(self, sim: Simulator, progress: np.ndarray) -> None:
        now, lane = self.steps, self.lane
        signals, host_spec = sim.vm_signals[lane], sim.host_specs[lane, 0]
        self.resident[now], self.host_swap[now] = signals["resident_mib"], signals["host_swap_mib"]
        self.balloon[now] = sim.vms["balloon_mib"][lane]
        self.guest_swap[now] = guest_swapped_mib(sim)[lane]
        self.progress[now] = progress
        kept = sim.hosts["swap_used_mib"][lane, 0] * host_spec["swap_stored_share"]  # swap in the host's own RAM
        self.own[now], self.cache[now] = host_spec["own_mib"] + kept, sim.hosts["cache_mib"][lane, 0]
