"""Free page reporting alone: on for whoever runs, and the host gets the memory that guests do not use."""

import numpy as np
import pytest

from hvgym.agents.hypervisors.free_page_reporting import FreePageReporting
from hvgym.agents.policy import make_policy
from hvgym.envs.scenario import load_group, resolve
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility


def test_it_turns_reporting_on_for_vms_that_run_and_does_nothing_else():
    rows = np.zeros((2, 2), VM_TELEMETRY)
    rows["running"] = [[1.0, 0.0], [0.0, 1.0]]
    targets = FreePageReporting().decide(Telemetry(np.zeros(2), rows, np.zeros((2, 1), HOST_TELEMETRY)))
    np.testing.assert_array_equal(targets.report_free_pages, [[1.0, np.nan], [np.nan, 1.0]])
    rest = ("memory_mib", "reclaim_mib", "reclaim_age_s", "scan_pages_per_s", "admit")
    assert [getattr(targets, name) for name in rest] == [None] * len(rest)


@pytest.mark.parametrize("reports", [True, False])
def test_a_host_gets_the_free_memory_of_its_guests(reports):
    sim = Simulator(resolve(load_group("scenario", "idle-giants"), load_group("hypervisor", "kvm")))
    telemetry = sim.reset([3])
    policy = make_policy(load_group("agent", "free_page_reporting"))
    policy.reset(telemetry.seen_with(policy.visibility), seed=0)
    sizes = telemetry.vm["size_mib"].copy()
    if reports:
        sim.apply(policy.decide(telemetry.seen_with(policy.visibility)))
    sim.advance(30)
    kept = sim.vms["free_backed_mib"] - sim.vm_specs["watermark_mib"]
    assert bool(kept.sum() < 100.0) is reports
    np.testing.assert_array_equal(sim.telemetry().vm["size_mib"], sizes)


def test_period_visibility_and_name():
    policy = make_policy(load_group("agent", "free_page_reporting"))
    assert isinstance(policy, FreePageReporting)
    assert (policy.period_s, policy.visibility) == (10.0, Visibility.P0)
