"""What hosts of a cluster cost beside a host alone: ``make perf``.

The rack (16 hosts, 200 VMs) against one host of 8 VMs of the same kinds and the same load, in turn, on one core: times per VM that
runs and second of the model, and their ratio. Both play without a policy, so that only the model is measured.
"""

import dataclasses
import time
from statistics import median

from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.scenario import Scenario, load
from hvgym.envs.simulator import Simulator

RACK = "rack"
VMS, SECONDS, TURNS = 8, 20, 40
MOST = 1.5
"""Of a host alone: what is asked for."""


def one_host(rack: Scenario) -> Scenario:
    """Eight of the rack's VMs, group by group in turn, on a host that has for each VM what the rack's have."""
    counts = [0] * len(rack.vms)
    for turn in range(VMS):
        counts[turn % len(counts)] += 1
    vms = tuple(dataclasses.replace(vm, count=n) for vm, n in zip(rack.vms, counts, strict=True) if n)
    alone = dataclasses.replace(rack, vms=vms, failures=(), maintenance=()).alone_on(rack.hosts[0])
    share = VMS * len(rack.host_names) / len(rack.groups)
    assert alone.host is not None
    smaller = {name: share * getattr(alone.host, name) for name in ("ram_mib", "pcpus", "disk_iops", "disk_mib_per_s")}
    return dataclasses.replace(alone, host=dataclasses.replace(alone.host, **smaller))


def cluster_cost() -> tuple[float, float, float]:
    """Nanoseconds per VM and second of the rack and of the host, and the median of their ratios, measured in turn."""
    rack = load(RACK)
    many, one = ClusterSimulator(rack), Simulator(one_host(rack), lanes=32)
    many.reset([0])
    one.reset(list(range(one.lanes)))
    costs = [(_ns(many), _ns(one)) for _ in range(TURNS)]
    late = costs[5:]  # caches and clocks have settled
    return median(a for a, _ in late), median(b for _, b in late), median(a / b for a, b in late)


def _ns(sim: Simulator | ClusterSimulator) -> float:
    vms = int(sim.asks.sum())
    began = time.perf_counter()
    sim.run(SECONDS, 0, sim.lanes)
    return 1e9 * (time.perf_counter() - began) / (vms * SECONDS)


def main() -> None:
    """Measure and print."""
    many, one, ratio = cluster_cost()
    print(f"a rack of 16 hosts and 200 VMs: {many:.0f} ns per VM and tick; a host of {VMS}: {one:.0f} ns")
    print(f"{ratio:.2f} times as much (asked: at most {MOST})")


if __name__ == "__main__":
    main()
