"""One share for all VMs, by hand."""

import numpy as np
import pytest

from hvgym.agents.baselines.best_constant import BestConstant
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs.scenario import load, load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility


def telemetry(running=(1.0, 1.0, 1.0)):
    vm = np.zeros((2, 3), VM_TELEMETRY)
    vm["min_mib"], vm["memory_mib"], vm["running"] = [1000.0, 2000.0, 4096.0], [4000.0, 2000.0, 8192.0], running
    vm["size_mib"] = vm["memory_mib"]
    return Telemetry(np.zeros(2), vm, np.zeros((2, 1), HOST_TELEMETRY))


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, [1000.0, 2000.0, 4096.0]),
        (0.25, [1750.0, 2000.0, 5120.0]),
        (0.5, [2500.0, 2000.0, 6144.0]),
        (1.0, [4000.0, 2000.0, 8192.0]),
    ],
)
def test_every_vm_gets_the_same_share_of_what_lies_above_its_minimum(share, expected):
    np.testing.assert_array_equal(BestConstant(share).decide(telemetry()).memory_mib, [expected, expected])


def test_a_vm_that_does_not_run_is_left_alone():
    sizes = BestConstant(0.5).decide(telemetry(running=(1.0, 0.0, 1.0))).memory_mib
    np.testing.assert_array_equal(sizes[0], [2500.0, np.nan, 6144.0])


def test_it_looks_at_nothing_but_the_control_plane():
    seen = telemetry().seen_with(Visibility.P0)
    for name in ("size_mib", "resident_mib", "host_swap_mib"):
        seen.vm[name] = np.nan
    seen.host["total_mib"] = np.nan
    np.testing.assert_array_equal(BestConstant(0.25).decide(seen).memory_mib[0], [1750.0, 2000.0, 5120.0])


def test_the_packaged_share_is_one_half_and_all_of_it_is_static():
    packaged = make_policy(load_group("agent", "best_constant"))
    assert (packaged.share, packaged.period_s, packaged.visibility) == (0.5, 10.0, Visibility.P0)
    scenario = load("idle-giants-short")
    whole, static = (rollout(scenario, make_policy(agent), [5]) for agent in (
        load_group("agent", "best_constant") | {"share": 1.0}, load_group("agent", "static")))  # fmt: skip
    assert whole.goodput == static.goodput
