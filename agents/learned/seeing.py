"""What the shared network sees of a host and how its actions are read."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hvgym.envs import seeds, view
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets, Telemetry, Visibility
from hvgym.envs.view import HOST_FEATURES, VM_FEATURES, View

FEATURES = (*VM_FEATURES, *HOST_FEATURES)
HOST, VM = len(HOST_FEATURES), len(VM_FEATURES)


@dataclass(frozen=True)
class Acting:
    action: str = "relative"
    step: float = 0.1

    @property
    def channels_of_vms(self) -> int:
        return 1

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of(data: Any) -> "Acting":
        return Acting(**data)

    def targets(self, actions: np.ndarray, telemetry: Telemetry) -> Targets:
        vm, a = telemetry.vm, actions[:, 0]
        asked = np.where(np.isnan(vm["target_mib"]), vm["size_mib"], vm["target_mib"])
        if self.action == "relative":
            wanted = asked + self.step * vm["memory_mib"] * a
        else:
            wanted = vm["min_mib"] + 0.5 * (1.0 + a) * (vm["memory_mib"] - vm["min_mib"])
        return Targets(np.clip(wanted, vm["min_mib"], vm["memory_mib"]))


class Eyes:
    """Looks at successive readings."""

    def __init__(self) -> None:
        self._view = View()

    def look(self, telemetry: Telemetry) -> np.ndarray:
        """Features ``[env, vm, feature]``, each VM's host's beside its own."""
        vm, host = self._view.look(telemetry)
        return np.concatenate([vm, np.broadcast_to(host, (*vm.shape[:2], HOST))], axis=-1)


class ViewLanes:
    """HostLanes with the view, for as long as it has none of its own."""

    def __init__(self, scenario: Scenario, lanes: int, threads: int, acting: Acting, most_vms: int) -> None:
        self.scenario, self.acting, self.most = scenario, acting, most_vms
        self.simulator = Simulator(scenario, lanes, threads)
        self.vms = self.simulator.vms.shape[1]
        self.observations = np.zeros((lanes, view.observation_size(most_vms)), np.float32)
        self._memory = np.zeros((lanes, self.vms), view.VM_MEMORY), np.zeros((lanes, 1), view.HOST_MEMORY)
        self._progress = np.zeros((lanes, 2))
        self._episodes, self._seeds = [0] * lanes, [0] * lanes

    def reset(self, lane: int, seed: int | None) -> None:
        if seed is not None:
            self._seeds[lane], self._episodes[lane] = seed, 0
        else:
            self._episodes[lane] += 1
        self.simulator.reset_lane(lane, seeds.later_key(self._seeds[lane], self._episodes[lane]))
        self._progress[lane] = 0.0
        view.forget(*self._memory, lane)
        self.look(slice(lane, lane + 1))

    def look(self, lanes: slice = slice(None)) -> None:
        t = self.simulator.telemetry().seen_with(Visibility.P1)
        of_vms, of_hosts = self._memory
        view.look_all(
            t.vm[lanes], t.host[lanes], t.time_s[lanes], False, of_vms[lanes], of_hosts[lanes], self.observations[lanes]
        )

    def step(self, actions: np.ndarray) -> np.ndarray:
        sim = self.simulator
        sim.apply(self.acting.targets(actions[:, None, : self.vms].astype(float), sim.telemetry()))
        sim.advance(self.scenario.control_interval_s)
        w = sim.vm_specs["weight"]
        now = np.stack([(w * (sim.vms["progress_s"] - sim.vms["charged_s"])).sum(1), (w * sim.vms["asked_s"]).sum(1)], 1)
        rise = now - self._progress
        self._progress = now
        self.look()
        return np.where(rise[:, 1] > 0, rise[:, 0] / np.maximum(rise[:, 1], 1e-9), 1.0)
