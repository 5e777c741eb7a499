"""Where goodput is lost: the second just played, taken apart by cause.

A VM that works at progress x spends 1 / x seconds on a second's work: the work itself, exits, page walks, waiting for a
pCPU, waiting for its own paging and waiting for the host's. What x lacks of one is given to these in proportion; what is
lost beyond x (memory that reclaim has not freed yet, balloons, first touches, the network, being down, halted or not
started) is `waiting`. A second is looked at once per control interval, so shares over an episode are samples.
"""

import numpy as np

from hvgym.envs.model.params import PAGES_PER_MIB
from hvgym.envs.simulator import Simulator

CAUSES = ("exits", "page_walks", "cpu", "guest_paging", "host_paging", "waiting")


def shares(sim: Simulator) -> dict[str, np.ndarray]:
    """Share of the weighted time asked for that each cause took in the last tick, ``[env]``; with goodput they make one."""
    vm, spec = sim.vms, sim.vm_specs
    host = np.take_along_axis(sim.hosts, spec["host"], axis=1)
    running = (vm["admitted"] > 0.0) & (vm["down_s"] <= 0.0)
    own = 1.0 - spec["slack"]
    walks = spec["walk_tax_small"] + (spec["walk_tax_large"] - spec["walk_tax_small"]) * vm["large_share"]
    zram = vm["zram_fault_mib_per_s"] * PAGES_PER_MIB * spec["zram_fault_s"] / spec["fault_parallelism"]
    parts = {
        "exits": own * spec["exit_tax"] + np.maximum(vm["busy_share"] - own * (1.0 + spec["exit_tax"]) * (1.0 + walks) - zram, 0.0),
        "page_walks": own * (1.0 + spec["exit_tax"]) * walks,
        "cpu": vm["busy_share"] * (1.0 / np.maximum(vm["cpu_grant"], 1e-9) - 1.0),
        "guest_paging": vm["fault_wait_operations"] * host["disk_wait_s"] + zram,
        "host_paging": vm["swap_wait_operations"] * host["swap_wait_s"] + vm["fixed_stall_s"],
    }  # fmt: skip
    extra = sum(parts.values())
    lost = np.where(running, 1.0 - 1.0 / np.maximum(own + extra, 1.0), 0.0)
    lost = np.minimum(lost, 1.0 - vm["progress"])
    asked = spec["weight"] * ((vm["admitted"] > 0.0) | (vm["arrive_in_s"] <= 0.0))
    asked = asked / np.maximum(asked.sum(axis=1, keepdims=True), 1e-9)
    result = {name: (asked * lost * part / np.maximum(extra, 1e-12)).sum(axis=1) for name, part in parts.items()}
    result["waiting"] = (asked * (1.0 - vm["progress"] - lost)).sum(axis=1)
    return result
