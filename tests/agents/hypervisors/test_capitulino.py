"""QEMU's proposed automatic ballooning: levels of the host, amounts, and the guest's own deflation."""

import numpy as np
import pytest

from hvgym.agents.hypervisors.capitulino import Capitulino, Level, change_mib, level
from hvgym.agents.policy import make_policy
from hvgym.envs.model.host.states import linux_watermarks_mib
from hvgym.envs.scenario import load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry, Visibility

UNDECLARED = {"declaration": None}
"""What a YAML declares is no argument of the class."""


@pytest.mark.parametrize(
    ("available", "psi", "expected"),
    [
        (198.0, 0.0, Level.NONE),
        (197.0, 0.0, Level.LOW),
        (132.0, 0.0, Level.LOW),
        (131.0, 0.0, Level.MEDIUM),
        (66.0, 0.0, Level.MEDIUM),
        (65.0, 0.0, Level.CRITICAL),
        (9000.0, 0.009, Level.NONE),
        (9000.0, 0.01, Level.MEDIUM),
        (150.0, 0.01, Level.MEDIUM),
        (9000.0, 0.19, Level.MEDIUM),
        (9000.0, 0.20, Level.CRITICAL),
    ],
)
def test_levels_of_64_gib_whose_watermarks_are_197_131_and_66_mib(available, psi, expected):
    assert level(available, 65536.0, psi, 0.01, 0.20) == expected


def test_a_watermark_itself_is_not_below_it():
    high, low, least = linux_watermarks_mib(65536.0)
    assert [level(free, 65536.0, 0.0, 0.01, 0.20) for free in (high, low, least)] == [
        Level.NONE,
        Level.LOW,
        Level.MEDIUM,
    ]


@pytest.mark.parametrize(
    ("inflate", "free", "expected"), [(16.0, 500.0, -16.0), (16.0, 98.0, 4.0), (0.0, 98.0, 20.0), (0.0, 99.0, 0.0)]
)
def test_changes_by_hand(inflate, free, expected):
    assert change_mib(inflate, free, 99.0, 20.0) == expected


def test_a_guest_that_does_not_report_gets_nothing_back():
    assert change_mib(16.0, float("nan"), 99.0, 20.0) == -16.0


def reading(available=9000.0, psi=0.0, **columns):
    """Two VMs of 4,000 MiB, at 3,000."""
    rows, host = np.zeros((1, 2), VM_TELEMETRY), np.zeros((1, 1), HOST_TELEMETRY)
    given = {"memory_mib": 4000.0, "min_mib": 1000.0, "size_mib": 3000.0, "running": 1.0, "guest_free_mib": 800.0}
    for name, value in (given | columns).items():
        rows[name] = value
    host["total_mib"], host["available_mib"], host["psi_some10"] = 65536.0, available, psi
    return Telemetry(np.zeros(1), rows, host)


def sizes(telemetry, **arguments):
    policy = Capitulino(**arguments)
    policy.reset(telemetry, seed=0)
    return policy.decide(telemetry.seen_with(policy.visibility)).memory_mib[0]


def test_without_distress_it_leaves_balloons_alone():
    assert np.isnan(sizes(reading())).all()


@pytest.mark.parametrize(("available", "change"), [(150.0, None), (100.0, 16.0), (50.0, 16.0)])
def test_the_patches_listen_at_medium_and_hear_critical(available, change):
    expected = [np.nan] * 2 if change is None else [3000.0 - change] * 2
    np.testing.assert_array_equal(sizes(reading(available)), expected)


@pytest.mark.parametrize(("available", "change"), [(150.0, 1.0), (100.0, 16.0), (50.0, 128.0)])
def test_the_plan_has_an_amount_for_each_level(available, change):
    planned = {"low_mib": 1.0, "medium_mib": 16.0, "critical_mib": 128.0}
    assert sizes(reading(available), **planned).tolist() == [3000.0 - change] * 2


def test_stalls_of_the_host_count():
    assert sizes(reading(psi=0.05), critical_mib=99.0).tolist() == [2984.0] * 2
    assert sizes(reading(psi=0.05), critical_mib=99.0, critical_psi=0.05).tolist() == [2901.0] * 2
    assert np.isnan(sizes(reading(psi=0.05), medium_psi=0.06)).all()


def test_every_vm_gives_the_same_whatever_its_size_and_a_guest_under_pressure_takes_back():
    given = sizes(reading(100.0, size_mib=[[2000.0, 3500.0]], guest_free_mib=[[900.0, 60.0]]), deflate_mib=20.0)
    assert given.tolist() == [1984.0, 3504.0]
    np.testing.assert_array_equal(sizes(reading(guest_free_mib=[[900.0, 60.0]])), [np.nan, 3016.0])


def test_equal_amounts_cancel_and_leave_the_balloon_alone():
    assert np.isnan(sizes(reading(100.0, guest_free_mib=60.0))).all()


def test_sizes_stay_between_minimum_and_all_of_it():
    given = sizes(reading(100.0, size_mib=[[1005.0, 3990.0]], guest_free_mib=[[900.0, 60.0]]), deflate_mib=40.0)
    assert given.tolist() == [1000.0, 4000.0]


def test_it_counts_from_what_the_balloon_has_reached():
    assert sizes(reading(100.0, size_mib=3000.0, target_mib=1000.0)).tolist() == [2984.0] * 2


def test_vms_that_do_not_run_are_left_alone():
    np.testing.assert_array_equal(sizes(reading(100.0, running=[[1.0, 0.0]])), [2984.0, np.nan])


def test_lanes_do_not_meet():
    one, other = reading(100.0), reading(9000.0, guest_free_mib=60.0)
    both = Telemetry(np.zeros(2), np.concatenate([one.vm, other.vm]), np.concatenate([one.host, other.host]))
    np.testing.assert_array_equal(Capitulino().decide(both).memory_mib, [sizes(one), sizes(other)])


def test_period_visibility_and_configuration():
    policy = make_policy(load_group("agent", "capitulino"))
    assert vars(policy) | UNDECLARED == vars(Capitulino()) | UNDECLARED
    assert (policy.period_s, policy.visibility) == (1.0, Visibility.P1)
