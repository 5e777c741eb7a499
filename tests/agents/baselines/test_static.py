"""Static asks for what VMs have anyway."""

import numpy as np

from hvgym.agents.baselines.static import Static
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry


def test_vms_keep_their_configured_size_and_those_that_started_small_what_they_started_with():
    vm = np.zeros((1, 3), VM_TELEMETRY)
    vm["memory_mib"], vm["startup_mib"] = [[4096.0, 8192.0, 2048.0]], [[np.nan, 1024.0, np.nan]]
    sizes = Static().decide(Telemetry(np.zeros(1), vm, np.zeros((1, 1), HOST_TELEMETRY))).memory_mib
    np.testing.assert_array_equal(sizes, [[4096.0, np.nan, 2048.0]])
