"""Guest statistics that fail: absent, frozen from a time on, or Windows'; the balloon works all the same."""

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import VM_SIGNALS, Targets, Visibility

STATISTICS = [signal.name for signal in VM_SIGNALS if signal.visibility in (Visibility.P1, Visibility.P2)]


def vm(name="vm", **changes):
    demand = Demand(**({"hot_mib": 1000.0, "cache_mib": 500.0, "cpu_share": 0.1} | changes.pop("demand", {})))
    return VmGroup(name, demand, 4096.0, guest_swap_mib=4096.0, **({"kernel_cache_mib": 0.0} | changes))


def start(*groups, interval_s=2.0):
    plain = Hypervisor("plain", 1, 0.0, 0.0, exit_us=0.0, nested_walks=False, stats_interval_s=interval_s)
    sim = Simulator(Scenario("s", "", Host(ram_mib=65536.0), plain, groups, episode_s=10_000))
    sim.reset([0])
    return sim


def silent(sim, v=0):
    return [name for name in STATISTICS if np.isnan(sim.telemetry().vm[name][0, v])]


def test_a_guest_that_reports_nothing_is_missing_and_not_zero_while_its_balloon_works():
    sim = start(vm(stats="none"), vm("heard"))
    sim.apply(Targets(np.array([[3000.0, 3000.0]])))
    sim.advance(10)
    assert silent(sim) == STATISTICS
    assert silent(sim, 1) == []
    seen = sim.telemetry().vm[0]
    assert seen["size_mib"].tolist() == [pytest.approx(3000.0)] * 2
    assert seen["resident_mib"][0] == pytest.approx(seen["resident_mib"][1])
    assert seen["guest_psi_some10"][0] == seen["guest_psi_some10"][1] == 0.0  # an agent is another program


def test_statistics_that_nobody_polls_are_missing():
    sim = start(vm(), interval_s=0.0)
    sim.apply(Targets(np.array([[3000.0]])))
    sim.advance(10)
    assert silent(sim) == STATISTICS
    assert sim.telemetry().vm["size_mib"][0, 0] == pytest.approx(3000.0)


def test_without_a_driver_there_is_neither():
    sim = start(vm(balloon=False))
    sim.apply(Targets(np.array([[3000.0]])))
    sim.advance(10)
    assert silent(sim) == STATISTICS
    assert sim.telemetry().vm["size_mib"][0, 0] == 4096.0


def test_frozen_statistics_stay_what_they_were_and_grow_old():
    """Polled every 2 s, the last answer is that of second 8."""
    sim = start(vm(stats_frozen_s=10.0), vm("heard"))
    sim.advance(9)
    last = sim.telemetry().vm[0, 0].copy()
    sim.demand["tier_mib"][..., 0] = 2000.0
    sim.advance(100)
    seen = sim.telemetry().vm[0]
    for name in STATISTICS:
        assert name == "stats_age_s" or seen[name][0] == last[name], name
    assert seen["stats_age_s"].tolist() == [101.0, 1.0]
    assert seen["guest_free_mib"][1] == pytest.approx(seen["guest_free_mib"][0] - 1000.0)
    assert seen["cpu_s"][0] == pytest.approx(seen["cpu_s"][1])


def test_a_driver_that_froze_before_its_vm_ran_has_said_nothing():
    sim = start(vm(stats_frozen_s=5.0, arrive_s=10.0), vm("late", arrive_s=10.0))
    sim.advance(60)
    assert silent(sim) == STATISTICS
    assert silent(sim, 1) == []


def test_windows_counts_its_standby_list_as_free_and_half_of_the_active_cache_as_available():
    """4,096 MiB less 18 of kernel, 1,000 in use and 500 of clean cache: Linux calls 2,578 free and Windows 3,078."""
    sim = start(vm(), vm("windows", stats="windows"))
    sim.advance(4)
    linux, windows = sim.telemetry().vm[0]
    assert linux["guest_free_mib"] == pytest.approx(2578.0)
    assert linux["guest_caches_mib"] == pytest.approx(500.0)
    assert windows["guest_free_mib"] == windows["guest_available_mib"] == pytest.approx(3078.0)
    assert windows["guest_caches_mib"] == pytest.approx(0.0)
    for name in ("guest_total_mib", "guest_committed_mib", "guest_major_faults"):
        assert windows[name] == linux[name]
    assert np.isnan(windows["guest_psi_some10"])  # there is no PSI


def test_windows_active_cache_is_what_is_dirty():
    """Of 500 MiB of cache 200 are clean: 300 are no longer standby, and half of them count as available."""
    sim = start(vm(stats="windows"))
    sim.vms["clean_mib"][0, 0, 3] = 200.0
    sim.advance(2)
    windows = sim.telemetry().vm[0, 0]
    assert windows["guest_free_mib"] == pytest.approx(2578.0 + 200.0)
    assert windows["guest_caches_mib"] == pytest.approx(300.0)
    assert windows["guest_available_mib"] == pytest.approx(2578.0 + 200.0 + 150.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stats": "none", "stats_frozen_s": 5.0}, r"stats_frozen_s=5: stats='none' never answers"),
        ({"balloon": False, "stats_frozen_s": 5.0}, r"stats_frozen_s=5: balloon=False has no driver to answer"),
        ({"tier_is_file": (0.0, 0.0, 0.5, 1.0)}, r"tier_is_file=\[0.0, 0.0, 0.5, 1.0\]: a tier is page cache"),
    ],
)
def test_what_cannot_be_is_one_line(changes, message):
    with pytest.raises(InputError, match=message) as error:
        vm(**changes)
    assert "\n" not in str(error.value)


def test_a_poll_is_at_least_a_second_apart():
    with pytest.raises(InputError, match=r"stats_interval_s=0.5: must be at least 1, or 0 for statistics"):
        start(vm(), interval_s=0.5)
