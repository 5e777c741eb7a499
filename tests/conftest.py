"""A guest alone on an ample host, like the ones that the measurements were made on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hvgym.envs.model import params
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

PAGES = 65536
"""Hot set of the measurements: 256 MiB of 4 KiB pages, touched 5,000 times a second."""


class LoneGuest:
    """512 MiB, a paced workload, emulated hardware: the set-up of the ground truth, any part of it replaceable."""

    def __init__(self, page_cache: bool = False, hot_mib: float = 256.0, **changes: Any) -> None:
        hypervisor = Hypervisor("emulated", 1, 256.0, 78.0, min_free_share=0.01, exit_us=0.0, nested_walks=False,
                                inflate_mib_per_s=100.0, deflate_mib_per_s=1000.0, balloon_interference=0.0,
                                stats_interval_s=1.0)  # fmt: skip
        tau = PAGES / 5000.0
        demand = Demand(hot_mib=0.0, cache_mib=hot_mib) if page_cache else Demand(hot_mib=hot_mib)
        guest = {
            "memory_mib": 512.0,
            "guest_swap_mib": 1024.0,
            "reclaim_mib_per_s": 45.0,
            "slack": 0.9,
            "fault_parallelism": 1.0,
        }
        guest |= {"tier_tau_s": (tau, tau, tau, tau), "tier_write_share": (0.5, 0.5, 0.5, 0.0)}
        group = VmGroup(name="guest", demand=demand, **(guest | changes))
        host = Host(ram_mib=65536.0, disk_iops=20000.0, disk_latency_us=100.0)
        self.sim = Simulator(Scenario("lone", "", host, hypervisor, (group,), episode_s=100_000, slot_s=1000))
        self.sim.reset([0])
        self.hot_mib = hot_mib
        self.vm: Any = self.sim.vms[0, 0]
        self.spec: Any = self.sim.vm_specs[0, 0]

    def size_for(self, level: float) -> float:
        """Memory size at which the workload can hold `level` times its hot set, by MemAvailable."""
        return float(level * self.hot_mib + self.spec["kernel_mib"] + self.spec["watermark_mib"])

    def ask(self, memory_mib: float) -> None:
        self.sim.apply(Targets(np.array([[memory_mib]])))

    def run(self, seconds: int) -> dict[str, float]:
        """Advance; return by how much each scalar of the state rose."""
        before = self.vm.copy()
        self.sim.advance(seconds)
        names = [name for name in params.VM.names or () if np.ndim(before[name]) == 0]
        return {name: float(self.vm[name] - before[name]) for name in names}

    def squeeze(self, level: float, settle_s: int = 60, measure_s: int = 30) -> dict[str, float]:
        """Ask for a level, settle, and measure rates per second; adds miss."""
        self.ask(self.size_for(level))
        self.run(settle_s)
        rates = {name: rise / measure_s for name, rise in self.run(measure_s).items()}
        return rates | {"miss": rates["major_faults"] / rates["touches"]}


@pytest.fixture
def lone_guest() -> Callable[..., LoneGuest]:
    return LoneGuest
