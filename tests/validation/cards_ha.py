"""Cards of high availability (13): published times from a host's death to its VMs at work."""

from typing import Any

import numpy as np
from card import Card, Result
from cards_host import all_met, compared, near

from hvgym.envs import ha_rules
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.model import failure, params, placement
from hvgym.envs.scenario import resolve

DIES_S = 100
BOOTS_S = tuple(15.0 + 45.0 * i / 19 for i in range(20))
"""U(15, 60), evenly."""


def _twenty_vms() -> ClusterSimulator:
    """Four hosts of 32 GiB under vSphere, of which the second holds 20 VMs of 1 GiB and the others nothing; it loses its power."""
    demand = {"hot_mib": 200.0, "warm_mib": 200.0, "cold_mib": 100.0, "cache_mib": 100.0}
    vm = {"memory_mib": 1024.0, "host": "node-1", "demand": demand}
    return ClusterSimulator(resolve({
        "name": "card", "description": "", "hypervisor": "esxi", "stack": "vsphere", "episode_s": 600,
        "hosts": [{"name": "node", "count": 4, "ram_mib": 32768.0}],
        "vms": [vm | {"name": f"vm-{i}", "restart_s": boot_s} for i, boot_s in enumerate(BOOTS_S)],
        "failures": [{"host": "node-1", "at_s": DIES_S, "kind": "power"}],
    }))  # fmt: skip


def card_13_1() -> Result:
    sim = _twenty_vms()
    sim.reset([1])
    sim.advance(DIES_S)
    back = []
    for _ in range(240):
        sim.advance(1)
        back.append(int((sim.arrays.residents["slowest_recovery_s"] > 0.0).sum()))
    times = sim.arrays.residents["slowest_recovery_s"][0]
    first, last = float(times.min()), float(times.max())

    def plot(axes: Any) -> None:
        axes.step(np.arange(1, 241), back, label="got")
        axes.axvspan(33, 80, alpha=0.2, label="the first, as published")
        axes.axvspan(120, 180, alpha=0.1, color="black", label="the last")
        axes.set_xlabel("seconds after the loss of power")
        axes.set_ylabel("VMs back at work")
        axes.legend()

    return Result(f"{first:.0f} s; all by {last:.0f} s", 33.0 <= first <= 80.0 and last <= 180.0, plot)


def card_13_2() -> Result:
    """The isolated host first declares itself so, then switches its VMs off, which others start when it counts as dead."""
    machines, specs = params.zeros((3,), placement.MACHINE), params.zeros((3,), placement.MACHINE_SPEC)
    specs["boot_s"], specs["mean_time_to_failure_s"], specs["repair_s"] = 300.0, np.inf, 900.0
    ha = ha_rules.named("vsphere4").row()
    failures = np.array(
        [(1, failure.ISOLATION, DIES_S, np.inf), (2, failure.POWER_LOSS, DIES_S, np.inf)], placement.FAILURE
    )
    failure.begin(machines, specs, 1)
    for second in range(DIES_S + 60):
        failure.advance(machines, specs, ha, failures, 1, float(second))
    isolated, dead = machines[1], machines[2]
    rows = [
        near("detection", 15.0, 0.0, float(dead["noticed_s"]) - DIES_S),
        near("isolation", 12.0, 0.0, float(isolated["declares_s"]) - DIES_S),
        near("power-off", 14.0, 0.0, float(isolated["off_s"]) - DIES_S),
        near("restart", 15.0, 0.0, float(isolated["fenced_s"] + ha["start_s"]) - DIES_S),
    ]
    return Result("; ".join(f"{row.name} {row.got:.0f} s" for row in rows), all_met(rows), compared(rows, "seconds"))


CARDS = [
    Card("13.1", "20 VMs of a host that loses its power", "M13 of the calibration; vSphere's availability guide",
         "four hosts under vSphere, one dies with its 20 VMs, the others have room; boots of 15 to 60 s",
         "the first at work after 33 to 80 s, all within 2 to 3 min", "range", card_13_1),
    Card("13.2", "the agent of vSphere 4", "M13 of the calibration", "one host loses its power, one its network",
         "detection 15 s; isolation 12 s, power-off 14 s, restart 15 s", "exact", card_13_2),
]  # fmt: skip
