"""A policy of one host on every host of a cluster: each sees its own VMs and decides for them alone."""

import numpy as np
import pytest

from hvgym.envs.hosts_view import HostsView
from hvgym.envs.telemetry import Targets

VMS = [{"name": f"vm-{h}", "count": 2, "host": f"node-{h}"} for h in range(3)]


@pytest.fixture
def viewed(clusters):
    cluster = clusters(vms=VMS, lanes=2)
    cluster.second(10)
    return cluster, HostsView(cluster.sim)


def test_a_vm_runs_on_the_lane_of_its_host_and_on_no_other(viewed):
    cluster, view = viewed
    assert view.lanes == 6
    seen = view.split(cluster.telemetry())
    on = seen.vm["running"].reshape(2, 3, 6)
    assert (on == np.repeat(np.eye(3), 2, axis=1)[None]).all()
    assert (view.vms["admitted"].reshape(2, 3, 6) == on).all()
    np.testing.assert_array_equal(
        seen.vm["resident_mib"].reshape(2, 3, 6).sum(axis=1), cluster.telemetry().vm["resident_mib"]
    )
    np.testing.assert_array_equal(seen.host[:, 0], cluster.telemetry().host.reshape(-1))


def test_a_moved_vm_is_on_another_lane(viewed):
    cluster, view = viewed
    cluster.move(v0=2).second(20)
    on = view.split(cluster.telemetry()).vm["running"].reshape(2, 3, 6)
    assert on[:, :, 0].tolist() == [[0, 0, 1]] * 2


def test_what_a_host_asks_of_its_vms_is_done_and_what_it_asks_of_others_is_not(viewed):
    cluster, view = viewed
    asked = 1000.0 + 100.0 * np.arange(3)[None, :, None] + np.zeros((2, 3, 6))
    rates = 10.0 * np.arange(1.0, 7.0).reshape(6, 1)
    view.apply(Targets(asked.reshape(6, 6), scan_pages_per_s=rates))
    np.testing.assert_array_equal(cluster.vms["asked_mib"], [[1000, 1000, 1100, 1100, 1200, 1200]] * 2)
    np.testing.assert_array_equal(cluster.hosts["scan_pages_per_s"], rates.reshape(2, 3))


def test_nothing_is_asked_of_a_vm_without_a_host(clusters):
    cluster = clusters(vms=[VMS[0], {"name": "late", "count": 1, "arrive_s": 900.0}])
    view, before = HostsView(cluster.sim), cluster.vms["asked_mib"].copy()
    view.apply(Targets(np.full((3, 3), 900.0)))
    np.testing.assert_array_equal(cluster.vms["asked_mib"], [[900.0, 900.0, before[0, 2]]])
