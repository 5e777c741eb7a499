"""The bench of the cards on paging: one VM of 4 GiB of touched pages in a closed loop, in which only paging costs time
(no exits, no nested walks), settled.

`by_guest`: a balloon leaves the choice of victims to the guest, whose replacement lies between LRU and RANDOM. `by_host`:
the host is short of RAM and picks blindly. `lru_faults` and `random_faults` are what theory gives for the same mixture.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hvgym.envs.model.guest import memory
from hvgym.envs.model.host.swap_devices import SWAP_DEVICES, SwapDevice
from hvgym.envs.model.params import PAGES_PER_MIB, TIERS
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

GENERAL = ((0.525, 0.259, 0.215), (8.0, 134.0, 21600.0))
"""A mixture: shares of touched memory, and mean time between touches of a page in s."""

TOUCHED_MIB = 4096.0
THREADS = 4.0
TRAP_US = 0.8
"""Part of a zram fault that is the processor's trap, not the device's work."""

NVME = SWAP_DEVICES["nvme"]
HDD_OF_THE_CARDS = dataclasses.replace(SWAP_DEVICES["hdd"], iops=1e6 * THREADS / SWAP_DEVICES["hdd"].latency_us)
"""8 ms, and as many requests served at once as there are threads, which is the cards' m: 500 IOPS. One real disk of
8 ms has 120."""

INSTANT = SwapDevice(1.0, 1e6, 1e5)
SETTLE_S, SWITCH_S, MEASURE_S = 200_000, 300, 600
"""Nine times the slowest tier's 6 h; time to get used to another device; and time to measure."""


class Bench:
    """The VM, booted and settled. `resident`: share of its touched pages in RAM."""

    def __init__(
        self, mixture=GENERAL, ram_mib=65536.0, device=INSTANT, host_swap=None, hypervisor=None, **guest
    ) -> None:
        shares, tau_s = mixture
        disk = {"disk_latency_us": device.latency_us, "disk_iops": device.iops, "disk_mib_per_s": device.mib_per_s}
        free_of_cost = {"min_free_share": 0.02, "exit_us": 0.0, "nested_walks": False}
        profile = Hypervisor("card", 1, 512.0, 78.0, **free_of_cost | (hypervisor or {}))
        demand = Demand(*(TOUCHED_MIB * share for share in shares))
        size = {"memory_mib": TOUCHED_MIB + 256.0, "guest_swap_mib": 2.0 * TOUCHED_MIB, "fault_parallelism": THREADS}
        vm = VmGroup("vm", demand, tier_tau_s=(*tau_s, *tau_s[-1:] * (TIERS - len(tau_s))), **size | guest)
        host = Host(ram_mib=ram_mib, swap=host_swap, **disk)
        self.sim = Simulator(Scenario("card", "", host, profile, (vm,), touched_share=0.0))
        self.sim.reset([0])
        self.vm, self.spec = self.sim.vms[0, 0], self.sim.vm_specs[0, 0]

    @property
    def resident(self) -> float:
        return float(np.sum(self.vm["resident_mib"] - self.vm["host_swapped_mib"])) / TOUCHED_MIB

    def run(self, seconds: int) -> Mapping[str, float]:
        """Advance; return mean rates per second."""
        before = self.vm.copy()
        self.sim.run(seconds, 0, 1)
        names = ("progress_s", "major_faults", "host_swap_in_mib")
        return {name: float(self.vm[name] - before[name]) / seconds for name in names}

    def balloon_to(self, resident: float) -> None:
        """Take memory until the guest can hold this share of its pages, and let it sort them."""
        out_mib = np.sum(self.vm["allocated_mib"]) - resident * TOUCHED_MIB
        pool_mib = out_mib * self.spec["zram_stored_share"]
        size = resident * TOUCHED_MIB + pool_mib + self.spec["kernel_mib"] + memory.reserve_mib(self.vm, self.spec)
        self.sim.apply(Targets(np.array([[size]])))
        self.run(SETTLE_S)

    def swap_to(self, device: SwapDevice) -> None:
        """Replace the disk."""
        row = self.sim.host_specs[0, 0]
        row["disk_latency_s"], row["disk_iops"] = 1e-6 * device.latency_us, device.iops
        row["disk_mib_per_s"] = device.mib_per_s
        self.run(SWITCH_S)


@dataclasses.dataclass(frozen=True)
class Paged:
    """Progress as a share of full speed, and faults per second of progress."""

    progress: float
    faults_per_s: float

    @property
    def slower(self) -> float:
        return 1.0 / self.progress - 1.0


@functools.cache
def by_guest(resident: float, device: SwapDevice, **guest: Any) -> Paged:
    """A balloon leaves the guest this share of its pages; the guest pages."""
    bench = Bench(**guest)
    bench.balloon_to(resident)
    bench.swap_to(device)
    rates = bench.run(MEASURE_S)
    return Paged(rates["progress_s"], rates["major_faults"] / rates["progress_s"])


@functools.cache
def by_host(resident: float, device: SwapDevice) -> Paged:
    """The host's RAM leaves the VM this share of its pages; the host pages, and picks victims blindly."""
    rates = short_host(resident, device=device).run(MEASURE_S)
    return Paged(rates["progress_s"], rates["host_swap_in_mib"] * PAGES_PER_MIB / rates["progress_s"])


def short_host(resident: float, **bench: Any) -> Bench:
    """A bench whose host has just so much RAM."""
    ram_mib = rising_through(lambda ram: Bench(ram_mib=ram, **bench).resident - resident, 1500.0, 8192.0)
    return Bench(ram_mib=ram_mib, **bench)


def rising_through(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses zero."""
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if function(middle) < 0.0 else (low, middle)
    return 0.5 * (low + high)


def faults_in_theory(resident: float, still_out: Callable[[np.ndarray], np.ndarray]) -> float:
    """Faults per second of progress of the general mixture; still_out: share of pages out against rate x age (M2, M3)."""
    share, rate = np.array(GENERAL[0]), 1.0 / np.array(GENERAL[1])
    log_age = rising_through(lambda x: np.sum(share * (1.0 - still_out(rate * np.exp(x)))) - resident, -10.0, 25.0)
    return TOUCHED_MIB * PAGES_PER_MIB * float(np.sum(share * rate * still_out(rate * np.exp(log_age))))


def lru_faults(resident: float) -> float:
    return faults_in_theory(resident, lambda x: np.exp(-x))


def random_faults(resident: float) -> float:
    return faults_in_theory(resident, lambda x: 1.0 / (1.0 + x))
