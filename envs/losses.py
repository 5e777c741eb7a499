"""Where goodput is lost: the second just played, taken apart by cause.

A VM that works at progress x spends 1 / x seconds on a second's work: the work itself, exits and emulated devices, page
walks, a JVM's collections (beyond those in its whole heap) and compiling, waiting for a pCPU, for its own paging, for the
host's, and for I/O. What x lacks of one is given to these in proportion; what is
lost beyond x (memory that reclaim has not freed yet, balloons, first touches, the network, being down, halted or not
started) is `waiting`. A second is looked at once per control interval, so shares over an episode are samples. What kills and
failed starts are charged (`kills`) is counted, not sampled.
"""

import numpy as np

from hvgym.envs.model.params import PAGES_PER_MIB
from hvgym.envs.simulator import Simulator

SAMPLED = ("exits", "page_walks", "collections", "cpu", "guest_paging", "host_paging", "io_waits", "waiting")
CAUSES = (*SAMPLED, "kills")


def shares(sim: Simulator) -> dict[str, np.ndarray]:
    """Share of the weighted time asked for that each cause of `SAMPLED` took in the last tick, ``[env]``; with progress they
    make one."""
    vm, spec = sim.vms, sim.vm_specs
    of_host = np.arange(len(spec))[:, None], spec["host"]
    swap_is_disk, swap_wait_s = sim.host_specs["swap_is_disk"][of_host], sim.hosts["swap_wait_s"][of_host]
    swap_wait_s = np.where(swap_is_disk > 0.0, vm["disk_wait_s"], swap_wait_s)
    running = (vm["admitted"] > 0.0) & (vm["down_s"] <= 0.0)
    own = 1.0 - spec["slack"]
    walks = spec["walk_tax_small"] + (spec["walk_tax_large"] - spec["walk_tax_small"]) * vm["large_share"]
    zram = vm["zram_fault_mib_per_s"] * PAGES_PER_MIB * spec["zram_fault_s"] / spec["fault_parallelism"]
    longer = np.where(spec["jvm"]["present"] > 0.0, vm["heap_time"], 1.0)
    busy = (vm["busy_share"] - vm["heap_stall_s"]) / np.maximum(longer, 1e-9)
    paging_s = vm["fault_wait_operations"] * vm["disk_latency_s"]
    parts = {
        "exits": own * spec["exit_tax"] + np.maximum(busy - own * (1.0 + spec["exit_tax"]) * (1.0 + walks) - zram, 0.0),
        "page_walks": own * (1.0 + spec["exit_tax"]) * walks,
        "cpu": vm["busy_share"] * (1.0 / np.maximum(vm["cpu_grant"], 1e-9) - 1.0),
        "collections": np.maximum(vm["busy_share"] - busy, 0.0),
        "guest_paging": paging_s + zram,
        "host_paging": vm["swap_wait_operations"] * swap_wait_s + vm["fixed_stall_s"],
        "io_waits": np.maximum(vm["sync_wait_operations"] * vm["disk_wait_s"] + vm["device_stall_s"]
                               - vm["fault_wait_operations"] * (vm["disk_latency_s"] - vm["disk_wait_s"]), 0.0),
    }  # fmt: skip
    extra = sum(parts.values())
    lost = np.where(running, 1.0 - 1.0 / np.maximum(own + extra, 1.0), 0.0)
    lost = np.minimum(lost, 1.0 - vm["progress"])
    asked = spec["weight"] * ((vm["admitted"] > 0.0) | (vm["arrive_in_s"] <= 0.0))
    asked = asked / np.maximum(asked.sum(axis=1, keepdims=True), 1e-9)
    result = {name: (asked * lost * part / np.maximum(extra, 1e-12)).sum(axis=1) for name, part in parts.items()}
    result["waiting"] = (asked * (1.0 - vm["progress"] - lost)).sum(axis=1)
    return result


def kills(sim: Simulator) -> np.ndarray:
    """What kills and failed starts were charged since the start, as a share of the weighted time asked for, ``[env]``."""
    weight = sim.vm_specs["weight"]
    return np.asarray((weight * sim.vms["charged_s"]).sum(axis=1) / (weight * sim.vms["asked_s"]).sum(axis=1))
