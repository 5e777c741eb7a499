"""Trimming by hand: one host of 100 GiB, VMs of 1000 MiB, steps of 80 MiB."""

import numpy as np

from hvgym.agents.hypervisors.workstation_trim import WorkstationTrim
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry


def decided(available, size, running=1.0, least=100.0):
    vm, host = np.zeros((1, 1), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    vm["memory_mib"], vm["size_mib"], vm["running"], vm["min_mib"] = 1000.0, size, running, least
    host["total_mib"], host["available_mib"] = 102_400.0, available * 102_400.0
    return WorkstationTrim().decide(Telemetry(np.zeros(1), vm, host)).memory_mib[0, 0]


def test_a_short_host_takes_a_step_of_every_vm_down_to_three_quarters_and_an_ample_one_gives_it_back():
    assert decided(0.05, 1000.0) == 920.0
    assert decided(0.05, 790.0) == 750.0
    assert decided(0.25, 790.0) == 870.0
    assert decided(0.25, 960.0) == 1000.0


def test_between_the_two_nothing_is_asked():
    assert np.isnan(decided(0.15, 800.0))


def test_a_minimum_above_that_holds_and_vms_that_do_not_run_or_have_no_driver_are_left():
    assert decided(0.05, 1000.0, least=950.0) == 950.0
    assert np.isnan(decided(0.05, 1000.0, running=0.0))
    assert np.isnan(decided(0.05, np.nan))
