"""What a host learns of its VMs without asking, and what a policy may have it do: ages, samples, cgroup reclaim, channels."""

import math

import numpy as np
import pytest

from hvgym.envs.model.guest import activity
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import AGES_S, Targets

COSTLESS = {"exit_us": 0.0, "nested_walks": False, "min_free_share": 0.01}


def start(*groups, lanes=1, seeds=None, ram_mib=65536.0, touched_share=0.0, hv=None, **host):
    hypervisor = Hypervisor("plain", 1, 0.0, 0.0, **(COSTLESS | (hv or {})))
    scenario = Scenario(
        "s", "", Host(ram_mib=ram_mib, **host), hypervisor, groups, episode_s=100_000, touched_share=touched_share
    )
    sim = Simulator(scenario, lanes)
    sim.reset(seeds or [0] * lanes)
    return sim


def vm(name="vm", memory_mib=4096.0, hot_mib=1000.0, tau_s=100.0, **changes):
    demand = Demand(hot_mib=hot_mib, **changes.pop("demand", {}))
    return VmGroup(name, demand, memory_mib=memory_mib, tier_tau_s=(tau_s,) * 4, kernel_cache_mib=0.0, **changes)


# Ages


@pytest.mark.parametrize("age", AGES_S)
def test_pages_touched_once_in_100_s_are_idle_for_an_age_with_probability_exp_minus_age(age):
    signals = start(vm()).telemetry().vm[0, 0]
    left = math.exp(-age / 100.0) if age < 4000 else 0.0
    assert signals[f"idle_{age}s_mib"] == pytest.approx(1000.0 * left, rel=2e-4, abs=1e-6)
    assert signals[f"woken_{age}s_mib_per_s"] == pytest.approx(10.0 * left, rel=2e-4, abs=1e-6)


def test_free_memory_that_the_host_backs_is_idle_for_ever():
    sim = start(vm(hot_mib=0.0), touched_share=1.0)
    backed = sim.vms["free_backed_mib"][0, 0]
    assert backed > 3000.0
    assert sim.telemetry().vm["idle_3840s_mib"][0, 0] == backed


def test_what_the_host_has_swapped_out_is_the_oldest():
    sim = start(vm())
    sim.vms["host_swapped_mib"][0, 0, 0] = 300.0
    signals = sim.telemetry().vm[0, 0]
    assert signals["idle_60s_mib"] == pytest.approx(1000.0 * math.exp(-0.6) - 300.0, rel=1e-6)
    assert signals["idle_240s_mib"] == 0.0


# Samples


def test_a_sample_period_is_30_s_of_the_vms_own_cpu_time():
    sim = start(vm(vcpus=2.0, demand={"cpu_share": 0.5}))
    sim.advance(59)
    assert sim.telemetry().vm["active_periods"][0, 0] == 1.0
    sim.advance(1)
    signals = sim.telemetry().vm[0, 0]
    assert signals["active_periods"] == 2.0
    assert signals["active_now_share"] == 0.0


def test_a_vm_that_has_been_running_has_been_sampled_and_one_that_starts_has_not():
    """On an eighth of its CPUs a period lasts 240 s, in which 1 - exp(-2.4) of 1000 MiB and the kernel are touched."""
    sim = start(vm(demand={"cpu_share": 0.125}), vm(name="late", arrive_s=5.0))
    assert sim.vms["sampled_share"][0, 0] == pytest.approx((1000.0 * (1.0 - math.exp(-2.4)) + 18.0) / 4096.0, rel=1e-4)
    sim.advance(20)
    running, late = sim.telemetry().vm["active_share"][0]
    assert 0.1 < running < 0.4
    assert np.isnan(late)


def test_sampled_activity_is_binomial_around_what_was_touched():
    """In 60 s of progress 1 - exp(-0.6) of 1000 MiB and the kernel's 18 are touched, of 4096."""
    sim = start(vm(vcpus=2.0, demand={"cpu_share": 0.5}), lanes=400, seeds=list(range(400)))
    sim.advance(60)
    shares = sim.telemetry().vm["active_share"][:, 0]
    touched = (1000.0 * (1.0 - math.exp(-0.6)) + 18.0) / 4096.0
    deviation = math.sqrt(touched * (1.0 - touched) / activity.SAMPLED_PAGES)
    assert shares.mean() == pytest.approx(touched, abs=4 * deviation / 20)  # four standard errors of 400 draws
    assert shares.std() == pytest.approx(deviation, rel=0.15)
    np.testing.assert_allclose(shares * 100, np.round(shares * 100), atol=1e-9)


def test_within_a_period_the_count_never_falls_and_periods_differ():
    sim = start(vm(vcpus=2.0, demand={"cpu_share": 0.5}))
    seen, ended = [], set()
    for _ in range(59):
        sim.advance(1)
        seen.append(sim.telemetry().vm["active_now_share"][0, 0])
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]
    for _ in range(10):
        sim.advance(60)
        ended.add(sim.telemetry().vm["active_share"][0, 0])
    assert len(ended) > 3


# Reclaim that a policy asks for


def reclaim(sim, mib, age_s=None):
    shape = sim.vms.shape
    sim.apply(Targets(reclaim_mib=np.full(shape, mib), reclaim_age_s=None if age_s is None else np.full(shape, age_s)))


def test_reclaim_takes_what_was_asked_once():
    sim = start(vm(tau_s=1e9))
    reclaim(sim, 200.0)
    sim.advance(1)
    assert sim.vms["host_swapped_mib"].sum() == pytest.approx(200.0)
    before = sim.telemetry().vm["resident_mib"][0, 0]
    sim.advance(20)
    assert sim.telemetry().vm["resident_mib"][0, 0] == pytest.approx(before, abs=1e-4)
    assert sim.hosts["reclaims"][0, 0] == 0.0


def test_free_pages_go_first_and_need_no_reading_back_until_they_are_used():
    sim = start(vm(tau_s=1e9), touched_share=0.1)
    free = sim.vms["free_backed_mib"][0, 0]
    reclaim(sim, free + 50.0)
    sim.advance(1)
    assert sim.vms["free_swapped_mib"][0, 0] == pytest.approx(free)
    assert sim.vms["host_swapped_mib"].sum() == pytest.approx(50.0)
    sim.advance(10)
    assert sim.vms["host_swap_in_mib"][0, 0] < 1e-5  # a page in 300 years


def test_the_coldest_tier_goes_first():
    group = VmGroup("vm", Demand(hot_mib=1000.0, cold_mib=1000.0), memory_mib=4096.0, tier_tau_s=(10.0, 1e9, 1e5, 1e9))
    sim = start(group)
    reclaim(sim, 500.0)
    sim.advance(1)
    hot, _, cold, _ = sim.vms["host_swapped_mib"][0, 0]
    assert cold == pytest.approx(500.0, rel=1e-3)
    assert hot < 0.5


def test_an_age_limits_reclaim_to_pages_that_have_been_idle_so_long():
    """1000 MiB touched once in 100 s: exp(-1.2) of it has been idle for 120 s."""
    sim = start(vm())
    reclaim(sim, 1e6, age_s=120.0)
    sim.run(1, 0, 1)
    taken = sim.vms["host_swap_out_mib"][0, 0]
    assert taken == pytest.approx(1000.0 * math.exp(-1.2), rel=1e-3)


def test_the_kernels_lists_are_a_worse_order_than_ages():
    """Half of 1000 MiB hot pages and 1000 MiB cold ones: lists take more of the hot than ages do."""
    group = VmGroup("vm", Demand(hot_mib=1000.0, cold_mib=1000.0), memory_mib=4096.0, tier_tau_s=(10.0, 1e9, 1e3, 1e9))
    by_lists, by_age = start(group), start(group)
    reclaim(by_lists, 700.0)
    reclaim(by_age, 700.0, age_s=1.0)
    for sim in (by_lists, by_age):
        sim.advance(1)
    assert by_lists.vms["host_swapped_mib"][0, 0, 0] > 2.0 * by_age.vms["host_swapped_mib"][0, 0, 0]


def test_a_slow_device_takes_a_request_second_by_second():
    sim = start(vm(tau_s=1e9), disk_mib_per_s=30.0)
    reclaim(sim, 100.0)
    written = []
    for _ in range(5):
        sim.advance(1)
        written.append(sim.vms["host_swap_out_mib"][0, 0])
    assert written == pytest.approx([30.0, 60.0, 90.0, 100.0, 100.0])


def test_a_new_request_replaces_the_rest_of_the_last():
    sim = start(vm(tau_s=1e9), disk_mib_per_s=30.0)
    reclaim(sim, 1000.0)
    sim.advance(1)
    reclaim(sim, 0.0)
    sim.advance(5)
    assert sim.vms["host_swap_out_mib"][0, 0] == pytest.approx(30.0)


def test_a_vm_that_is_left_alone_keeps_its_request_and_its_age():
    sim = start(vm(), vm(name="other"), disk_mib_per_s=30.0)
    reclaim(sim, 1000.0, age_s=120.0)
    sim.apply(Targets(reclaim_mib=np.array([[np.nan, 50.0]])))
    assert sim.vms["reclaim_mib"][0].tolist() == [1000.0, 50.0]
    assert sim.vms["reclaim_age_s"][0].tolist() == [120.0, 0.0]


def test_full_swap_ends_reclaim():
    sim = start(vm(tau_s=1e9), swap_share=0.005)
    reclaim(sim, 1000.0)
    sim.advance(5)
    assert sim.vms["host_swap_out_mib"][0, 0] == pytest.approx(0.005 * 65536.0)


def test_a_hypervisor_that_commits_memory_takes_nothing():
    sim = start(vm(tau_s=1e9), hv={"last_resort": "commit", "admission": "commit"})
    reclaim(sim, 1000.0)
    sim.advance(3)
    assert sim.vms["host_swap_out_mib"][0, 0] == 0.0
    assert sim.vms["reclaim_mib"][0, 0] == 0.0


# Other channels


def test_the_scanner_runs_as_fast_as_told_and_merged_pages_outlive_it():
    sim = start(vm(tau_s=1e9, mergeable_share=0.5), vm(name="twin", tau_s=1e9, mergeable_share=0.5))
    sim.advance(60)
    assert sim.telemetry().host["shared_mib"][0, 0] == 0.0
    sim.apply(Targets(scan_pages_per_s=np.full((1, 1), 1e6)))
    sim.advance(60)
    merged = sim.telemetry().host["shared_mib"][0, 0]
    assert merged == pytest.approx(1000.0, rel=0.01)
    sim.apply(Targets(scan_pages_per_s=np.zeros((1, 1))))
    sim.advance(60)
    assert sim.telemetry().host["shared_mib"][0, 0] == pytest.approx(merged, rel=1e-3)


def test_written_pages_come_apart_after_the_scanner_has_stopped():
    sim = start(vm(tau_s=10.0, mergeable_share=0.5, tier_write_share=(1.0,) * 4))
    sim.apply(Targets(scan_pages_per_s=np.full((1, 1), 1e9)))
    sim.advance(60)
    merged = sim.telemetry().host["shared_mib"][0, 0]
    sim.apply(Targets(scan_pages_per_s=np.zeros((1, 1))))
    before = sim.vms["progress_s"][0, 0]
    sim.advance(20)
    writes = 0.1 * (sim.vms["progress_s"][0, 0] - before)  # of each page; merging goes by the last second's progress
    assert sim.telemetry().host["shared_mib"][0, 0] == pytest.approx(merged * math.exp(-writes), rel=5e-3)


def test_free_page_reporting_can_be_turned_on_and_off():
    sim = start(vm(tau_s=1e9), touched_share=1.0)
    sim.advance(5)
    assert sim.vms["free_deflated_mib"][0, 0] == 0.0
    sim.apply(Targets(report_free_pages=np.ones((1, 1))))
    sim.advance(20)
    assert sim.vms["free_backed_mib"][0, 0] == pytest.approx(sim.vm_specs["watermark_mib"][0, 0], rel=0.01)
    sim.apply(Targets(report_free_pages=np.zeros((1, 1))))
    assert sim.vm_specs["reporting_share_per_s"][0, 0] == 0.0


def test_a_policy_keeps_a_vm_waiting_and_lets_it_go():
    sim = start(vm(), vm(name="late", arrive_s=5.0))
    sim.apply(Targets(admit=np.array([[np.nan, 0.0]])))
    sim.advance(20)
    signals = sim.telemetry().vm[0]
    assert signals["running"].tolist() == [1.0, 0.0]
    assert signals["waiting"].tolist() == [0.0, 1.0]
    assert sim.vms["asked_s"][0, 1] == 16.0  # its demand counts as lost from its arrival on
    sim.apply(Targets(admit=np.array([[np.nan, 1.0]])))
    sim.advance(1)
    assert sim.telemetry().vm["running"][0].tolist() == [1.0, 1.0]


def test_a_policy_cannot_start_what_the_hypervisor_would_not():
    sim = start(vm(), vm(name="late", arrive_s=5.0, min_mib=4096.0), ram_mib=6000.0,
                hv={"last_resort": "esxi", "admission": "reservation", "min_free_share": None})  # fmt: skip
    sim.vm_specs["min_mib"][0, 0] = 3000.0
    sim.apply(Targets(admit=np.ones((1, 2))))
    sim.advance(20)
    assert sim.telemetry().vm["running"][0].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("channel", ["memory_mib", "reclaim_mib", "scan_pages_per_s", "report_free_pages", "admit"])
def test_a_decision_of_another_shape_is_refused_by_name(channel):
    with pytest.raises(ValueError, match=rf"targets\.{channel} of shape \(3, 3\), expected \(1, 1\)"):
        start(vm()).apply(Targets(**{channel: np.zeros((3, 3))}))


def test_nan_and_none_leave_everything_as_it_is():
    sim = start(vm(), vm(name="other"))
    before = sim.vms.copy(), sim.hosts.copy(), sim.vm_specs.copy()
    nan = np.full((1, 2), np.nan)
    sim.apply(Targets())
    sim.apply(Targets(nan, nan, nan, np.full((1, 1), np.nan), nan, nan))
    for now, then in zip((sim.vms, sim.hosts, sim.vm_specs), before, strict=True):
        assert now.tobytes() == then.tobytes()


def test_committed_memory_is_the_workloads_anonymous_memory_and_more():
    sim = start(vm(commit_ratio=1.5, demand={"cache_mib": 500.0}))
    sim.vm_specs["tier_is_file"][..., 3] = 1.0
    sim.advance(2)
    assert sim.telemetry().vm["guest_committed_mib"][0, 0] == pytest.approx(1500.0)
