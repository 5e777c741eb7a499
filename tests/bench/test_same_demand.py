"""Scenarios that ask for the same are one draw: which they are, and that their demand is the same to the bit."""

from dataclasses import replace

import numpy as np
import pytest

from hvgym.bench.same_demand import demands_of, difference
from hvgym.envs.demand import demand_source
from hvgym.envs.model import params
from hvgym.envs.scenario import load

GENERATED = ("hosting-xen", "tenants-kvm", "hosting-hyperv", "tenants-xen", "hosting-esxi")


def demand(scenario, seed=5):
    source = demand_source(scenario)
    vms, host = np.zeros(len(scenario.groups), params.VM_SPEC), np.zeros(1, params.HOST_SPEC)
    found = np.zeros((source.slots, len(scenario.groups)), params.DEMAND)
    source.fill(seed, vms, host, found)
    return found.tobytes()


def test_scenarios_on_other_hosts_ask_for_the_same():
    scenarios = [load(name) for name in GENERATED]
    numbers = demands_of([scenario.to_dict() for scenario in scenarios])
    assert numbers == dict(zip(GENERATED, (0, 1, 0, 1, 0), strict=True))
    asked = [demand(scenario) for scenario in scenarios]
    assert [asked.index(one) for one in asked] == [0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"host": replace(load("tight-hdd").host, overcommit=1.1), "rules": "default"}, ""),
        ({"episode_s": 600}, "episode_s"),
        ({"vms": load("tight-hdd").vms[:1]}, "vms"),
    ],
)
def test_what_decides_over_demand(changes, differs):
    one, two = load("tight-hdd").to_dict(), replace(load("tight-hdd"), name="other", **changes).to_dict()
    assert difference(one, two) == differs
    assert (len({*demands_of([one, two]).values()}) == 1) is (differs == "")


def test_readings_of_ones_own_vms_are_of_the_same_windows():
    work = {"kind": "history", "path": "mine", "level": "low"}
    own = {"name": "mine-low", "vms": [{"name": "web", "count": 1, "memory_mib": 4096.0}], "workload": work}
    high = own | {"name": "mine-high", "workload": work | {"level": "high"}}
    assert demands_of([own, high, own | {"name": "o", "workload": work | {"path": "other"}}]) == {
        "mine-low": 0, "mine-high": 0, "o": 1
    }  # fmt: skip
