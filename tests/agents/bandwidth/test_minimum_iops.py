"""The minimum first and the rest alike, by hand."""

import numpy as np
import pytest

from hvgym.agents.bandwidth.minimum_iops import MinimumIops, shares
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry


def parts(served, minimums, running=(True, True, True)):
    found = shares(np.array([[served]]), np.array([minimums], float), np.array([running]))
    return found[0].tolist()


def test_each_has_its_minimum_and_a_like_part_of_the_rest():
    """Of 5,000 operations a second 2,000 are the first VM's; of 3,000 left each has 1,000: 3,000 to 1,000 to 1,000."""
    assert parts(5000.0, [2000.0, 0.0, 0.0]) == pytest.approx([1800.0, 600.0, 600.0])


def test_minimums_that_do_not_fit_are_in_proportion_and_leave_nothing():
    assert parts(3000.0, [4000.0, 2000.0, 0.0]) == pytest.approx([2000.0, 1000.0, 0.0])


def test_without_minimums_or_before_anything_was_served_all_have_alike():
    assert parts(5000.0, [0.0, 0.0, 0.0]) == pytest.approx([1000.0] * 3)
    assert parts(0.0, [0.0, 0.0, 0.0]) == [1000.0] * 3


def test_vms_that_do_not_run_take_no_part():
    assert parts(3000.0, [2000.0, 2000.0, 0.0], (True, False, True))[::2] == pytest.approx(
        [5.0 / 3.0 * 1000, 1000.0 / 3.0]
    )


def reading(time_s, moved_mib, running=(1.0, 1.0)):
    vm = np.zeros((1, 2), VM_TELEMETRY)
    vm["critical"], vm["running"], vm["disk_mib"] = [1.0, 0.0], running, moved_mib
    return Telemetry(np.full(1, float(time_s)), vm, np.zeros((1, 1), HOST_TELEMETRY))


def test_what_the_disk_served_in_the_last_period_is_counted_in_pieces_of_8_kib():
    """40 and 60 MiB in five seconds are 2,560 operations a second: 1,000 and half of 1,560, to half of 1,560."""
    policy = MinimumIops(1000.0)
    policy.reset(reading(0.0, [100.0, 0.0]), 0)
    found = policy.decide(reading(5.0, [140.0, 60.0])).disk_shares[0]
    assert found[0] / found[1] == pytest.approx(1780.0 / 780.0)
    assert np.isnan(policy.decide(reading(10.0, [150.0, 60.0], (1.0, 0.0))).disk_shares[0, 1])
