"""Which scenarios ask for the same: with one seed their VMs want the same memory at the same time, whatever host they are on.

Demand follows from seed, VMs and workload; hypervisor, host, cluster and what happens to it decide what becomes of it. Scenarios
that differ in these alone, and the low, middle and high reading of somebody's own VMs (``envs.fleet.evidence``), which play the
same windows, are no independent draws: statistics keep their seeds together (``statistics``).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

BESIDE_DEMAND = (
    "name", "description", "host", "hosts", "hypervisor", "stack", "failures", "maintenance", "rules", "kill_cost_s",
    "control_interval_s", "touched_share",
)  # fmt: skip
"""Keys of a scenario that change nothing of what its VMs ask for."""

OF_VMS = ("name", "count", "demand", "story", "generated", "jvm", "memory_mib", "arrive_s", "leave_s", "lifetime_s")
"""Keys of a group of VMs that decide over demand; devices, shares and limits say what becomes of it."""


def difference(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """The first key that decides over demand and is not the same in two scenarios; "" where there is none."""
    keys = [key for key in {**one, **two} if key not in BESIDE_DEMAND and key != "vms"]
    found = [key for key in keys if one.get(key) != two.get(key)]
    return found[0] if found else _vms_differ(one["vms"], two["vms"])


def _vms_differ(one: Sequence[Mapping[str, Any]], two: Sequence[Mapping[str, Any]]) -> str:
    if len(one) != len(two):
        return "vms"
    different = (key for a, b in zip(one, two, strict=True) for key in OF_VMS if a.get(key) != b.get(key))
    return next((f"vms.{key}" for key in different), "")


def demands_of(scenarios: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The number of each scenario's demand by its name: that of the first scenario with the same."""
    first = dict[str, int]()
    return {scenario["name"]: first.setdefault(_drawn_from(scenario), len(first)) for scenario in scenarios}


def _drawn_from(scenario: Mapping[str, Any]) -> str:
    """What decides over demand, and of own VMs which windows they are read from."""
    plain = {key: value for key, value in scenario.items() if key not in BESIDE_DEMAND and key != "vms"}
    work = scenario.get("workload", {})
    if work.get("kind") == "history":
        return json.dumps(
            plain | {"workload": {key: value for key, value in work.items() if key != "level"}}, sort_keys=True
        )
    vms = [{key: vm[key] for key in OF_VMS if key in vm} for vm in scenario["vms"]]
    return json.dumps(plain | {"vms": vms}, sort_keys=True)
