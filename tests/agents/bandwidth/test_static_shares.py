"""vSphere's levels by hand."""

import numpy as np

from hvgym.agents.bandwidth.static_shares import StaticShares
from hvgym.agents.policy import make_policy
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry


def decided(policy):
    vm = np.zeros((1, 4), VM_TELEMETRY)
    vm["critical"], vm["running"] = [1.0, 0.0, 0.0, np.nan], [1.0, 1.0, 0.0, 1.0]
    return policy.decide(Telemetry(np.zeros(1), vm, np.zeros((1, 1), HOST_TELEMETRY)))


def test_critical_vms_have_high_shares_and_all_others_that_run_normal_ones():
    targets = decided(make_policy(load_group("agent", "static_shares")))
    np.testing.assert_array_equal(targets.disk_shares, [[2000.0, 1000.0, np.nan, 1000.0]])
    np.testing.assert_array_equal(targets.net_shares, [[100.0, 50.0, np.nan, 50.0]])


def test_how_high_is_the_operators():
    np.testing.assert_array_equal(decided(StaticShares(8.0)).disk_shares, [[8000.0, 1000.0, np.nan, 1000.0]])
