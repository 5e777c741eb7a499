"""What the shared network sees of a host and how its actions are read (adapter on agents/learned/view until envs.view lands)."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hvgym.agents.learned.view import FEATURES as LINEAR, View
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets, Telemetry

FEATURES = ("constant", *LINEAR[:-1])
HOST, VM = 0, len(FEATURES)


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
    def __init__(self) -> None:
        self._view = View()

    def look(self, telemetry: Telemetry) -> np.ndarray:
        seen = self._view.look(telemetry)
        return np.concatenate([seen[..., -1:], seen[..., :-1]], axis=-1)


class ViewLanes:
    """HostLanes with the view, in numpy."""

    def __init__(self, scenario: Scenario, lanes: int, threads: int, acting: Acting, most_vms: int) -> None:
        self.scenario, self.acting, self.most = scenario, acting, most_vms
        self.simulator = Simulator(scenario, lanes, threads)
        self.eyes = Eyes()
        self.observations = np.zeros((lanes, most_vms * VM), np.float32)
        self.vms = self.simulator.vms.shape[1]
        self._progress = np.zeros((lanes, 2))
        self.terms = np.zeros((lanes, 1))
        self._episodes = [0] * lanes
        self._seeds = [0] * lanes

    def __getstate__(self):
        return self.__dict__

    def reset(self, lane: int, seed: int | None) -> None:
        from hvgym.envs import seeds
        if seed is not None:
            self._seeds[lane], self._episodes[lane] = seed, 0
        else:
            self._episodes[lane] += 1
        self.simulator.reset_lane(lane, seeds.later_key(self._seeds[lane], self._episodes[lane]))
        self._progress[lane] = 0.0
        view, t = self.eyes._view, self.simulator.telemetry()
        if view._before is not None:
            from hvgym.agents.learned import view as v
            one = Telemetry(t.time_s[lane : lane + 1], t.vm[lane : lane + 1], t.host[lane : lane + 1])
            fresh = View()
            seen = fresh.look(one)
            for average, new in zip(view._averages, fresh._averages):
                average[lane] = new[0]
            view._before.vm[lane] = t.vm[lane]
            view._before.host[lane] = t.host[lane]
            self.observations[lane].reshape(self.most, VM)[: self.vms] = np.concatenate([seen[0, :, -1:], seen[0, :, :-1]], -1)

    def look(self) -> None:
        t = self.simulator.telemetry()
        t = Telemetry(t.time_s.copy(), t.vm.copy(), t.host.copy())
        view = self.eyes._view
        if view._before is not None:
            view._before = Telemetry(t.time_s - self.scenario.control_interval_s, view._before.vm, view._before.host)
        seen = self.eyes.look(t)
        self.observations.reshape(-1, self.most, VM)[:, : self.vms] = seen

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
