"""One rollout: each policy at its own pace, with its own visibility, on the same demand."""

import numpy as np
import pytest

from hvgym.agents.baselines.static import Static
from hvgym.agents.policy import Policy
from hvgym.bench.rollout import LOSSES, rollout
from hvgym.envs.scenario import load, load_group, resolve
from hvgym.envs.telemetry import VM_SIGNALS, Targets, Visibility

SCENARIO = resolve(load_group("scenario", "idle-giants-short"), load_group("hypervisor", "kvm"))


class Recorder(Policy):
    def __init__(self, period_s, visibility=Visibility.P1):
        self.period_s, self.visibility, self.readings = period_s, visibility, []

    def decide(self, telemetry):
        self.readings.append(telemetry)
        return Targets(np.full(telemetry.vm.shape, np.nan))


@pytest.mark.parametrize(
    ("period", "times"),
    [
        (1.0, range(600)),
        (2.0, range(0, 600, 2)),
        (5.0, range(0, 600, 5)),
        (10.0, range(0, 600, 10)),
        (15.0, range(0, 600, 15)),
        (60.0, range(0, 600, 60)),
    ],
)
def test_a_policy_is_asked_at_its_own_period(period, times):
    policy = Recorder(period)
    rollout(SCENARIO, policy, [0])
    assert [float(r.time_s[0]) for r in policy.readings] == list(times)


def test_how_often_a_policy_looks_changes_nothing():
    assert rollout(SCENARIO, Recorder(1.0), [3]).rows() == rollout(SCENARIO, Recorder(60.0), [3]).rows()


SEEN = {
    Visibility.P0: {Visibility.P0},
    Visibility.P1: {Visibility.P0, Visibility.P1},
    Visibility.P2: {Visibility.P0, Visibility.P1, Visibility.P2},
    Visibility.P3: {Visibility.P0, Visibility.P3},
    Visibility.P4: {Visibility.P0, Visibility.P1, Visibility.P2, Visibility.P4},
}


NOT_HERE = {"active_share", "heap_mib", "heap_ballooned_mib", "gc_share", "startup_mib", "limit_mib"}
"""NaN in any case: until the first period of sampling ends, and where no VM runs a JVM, is told how to start, or is limited."""


@pytest.mark.parametrize("visibility", list(Visibility))
def test_a_policy_sees_only_its_profile(visibility):
    policy = Recorder(60.0, visibility)
    rollout(SCENARIO, policy, [0])
    for signal in VM_SIGNALS:
        hidden = np.isnan(policy.readings[-1].vm[signal.name]).all()
        if signal.name not in NOT_HERE:
            assert hidden == (signal.visibility not in SEEN[visibility]), signal.name


def test_statistics_are_as_old_as_the_polling_interval_and_counters_never_fall():
    policy = Recorder(5.0)
    rollout(SCENARIO, policy, [0])
    ages = {float(age) for reading in policy.readings for age in reading.vm["stats_age_s"].ravel()}
    assert ages == {0.0, 1.0}  # polled every 2 s, read every 5 s
    for name in ("host_swap_in_mib", "guest_swap_in_mib", "guest_major_faults", "disk_mib", "cpu_s"):
        series = np.array([reading.vm[name][0] for reading in policy.readings])
        assert (np.diff(series, axis=0) >= 0).all(), name


def test_results_do_not_depend_on_the_company_of_a_seed():
    together = rollout(SCENARIO, Static(), [5, 6, 7])
    alone = rollout(SCENARIO, Static(), [6])
    assert together.rows()[1] == alone.rows()[0]


def test_goodput_is_weighted_progress_and_rows_carry_the_seeds():
    totals = {}

    def watch(telemetry, sim):
        totals["goodput"] = (sim.vm_specs["weight"] * sim.vms["progress_s"]).sum() / (
            sim.vm_specs["weight"].sum() * 600
        )
        totals["cost"] = sim.vms["slo_violation_s"].sum()

    episodes = rollout(SCENARIO, Static(), [5], watch)
    row = episodes.rows()[0]
    assert row["eval_seed"] == 5
    assert row["goodput"] == pytest.approx(totals["goodput"])
    assert row["cost"] == totals["cost"]
    assert row["sim_seconds"] == 600.0
    assert row["p99_slowdown"] >= 1.0


def test_a_policy_that_does_nothing_equals_static():
    assert rollout(SCENARIO, Recorder(10.0), [1]).rows() == rollout(SCENARIO, Static(), [1]).rows()


def test_the_first_reading_is_restricted_too():
    class First(Recorder):
        def reset(self, first, seed):
            self.first = first

    policy = First(60.0, Visibility.P0)
    rollout(SCENARIO, policy, [0])
    assert np.isnan(policy.first.vm["guest_free_mib"]).all()
    assert not np.isnan(policy.first.vm["resident_mib"]).any()


def test_p99_slowdown_is_the_quantile_over_vms_and_intervals():
    """With 8 VMs and 120 intervals, 9 or 10 of 960 are slower."""
    done, slowdowns = [np.zeros(8)], []

    def watch(telemetry, sim):
        done.append(sim.vms["progress_s"][0].copy())
        slowdowns.extend(5.0 / np.maximum(done[-1] - done[-2], 0.005))

    p99 = rollout(SCENARIO, Static(), [5], watch).p99_slowdown[0]
    assert sum(one > p99 for one in slowdowns) == 10
    assert sorted(slowdowns)[-11] <= p99 <= sorted(slowdowns)[-10]


def test_a_dead_vm_counts_as_a_thousand_times_slower():
    class Squeeze(Static):
        def decide(self, telemetry):
            return Targets(telemetry.vm["min_mib"].copy())

    episodes = rollout(load("no-guest-swap-short"), Squeeze(), [5])
    assert episodes.oom_kills[0] > 0
    assert episodes.p99_slowdown[0] == 1000.0


@pytest.mark.parametrize("hypervisor", ["esxi", "hyperv", "virtualbox"])
def test_goodput_and_what_is_lost_by_cause_make_one(hypervisor):
    scenario = resolve(load_group("scenario", "no-guest-swap-short"), load_group("hypervisor", hypervisor))
    (row,) = rollout(scenario, Static(), [5]).rows()
    causes = [row[name] for name in LOSSES]
    assert min(causes) >= 0.0
    assert row["goodput"] + sum(causes) == pytest.approx(1.0, abs=0.005)  # causes are sampled once per control interval
