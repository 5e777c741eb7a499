"""One rollout: each policy at its own pace, with its own visibility, on the same demand."""

import sys

import numpy as np
import pytest

from hvgym.agents.baselines.static import Static
from hvgym.agents.policy import ClairvoyantPolicy, Policy
from hvgym.bench.rollout import LOSSES, rollout
from hvgym.envs.errors import InputError
from hvgym.envs.features import targets_mib
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


def test_to_leave_out_where_goodput_went_changes_nothing_else():
    (whole,), (short,) = (rollout(SCENARIO, Static(), [3], apart=apart).rows() for apart in (True, False))
    assert {name for name, value in short.items() if np.isnan(value)} == set(LOSSES) - {"lost_kills"}
    others = set(whole) - set(LOSSES)
    assert {name: whole[name] for name in others} == {name: short[name] for name in others}


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


# A policy that fails


class Failing(Policy):
    """Does nothing, and from second `at` on what it is told."""

    def __init__(self, act, at=30):
        self.act, self.at = act, at

    def decide(self, telemetry):
        return self.act(telemetry) if telemetry.time_s[0] >= self.at else Targets()


def said(policy, seeds=(7,), scenario=SCENARIO, agent=None):
    with pytest.raises(InputError) as told:
        rollout(scenario, policy, list(seeds), agent=agent)
    text = str(told.value)
    assert "\n" not in text
    return text


def full(telemetry, value, lane=None):
    values = np.ones(telemetry.vm.shape)
    values[slice(None) if lane is None else lane] = value
    return values


def broken(telemetry):
    raise KeyError("memory_mb")


def leaves_otherwise(telemetry):
    raise GeneratorExit


def leaves(telemetry):
    sys.exit(0)


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (lambda t: Targets(full(t, np.inf)), r"targets.memory_mib[0, 0]=inf: must be finite"),
        (lambda t: Targets(np.ones(3)), "targets.memory_mib of shape (3,), expected (1, 8)"),
        (lambda t: Targets(scan_pages_per_s=np.full((1, 1), np.inf)), "targets.scan_pages_per_s[0, 0]=inf"),
        (lambda t: Targets(report_free_pages=full(t, 5.0)), "targets.report_free_pages[0, 0]=5: must be 0 or 1"),
        (lambda t: {"memory_mib": 5}, "a decision of dict; expected Targets"),
        (lambda t: None, "a decision of NoneType; expected Targets"),
        (broken, "KeyError: 'memory_mb'"),
        (leaves, "SystemExit: 0"),
        (leaves_otherwise, "GeneratorExit"),
        (lambda t: Targets(np.ma.masked_all(t.vm.shape)), "expected an array of numbers"),
        (lambda t: Targets(full(t, 3000.0).astype(complex)), "expected an array of numbers"),
        (lambda t: Targets(full(t, 3000.0).astype(str)), "expected an array of numbers"),
        (lambda t: Targets(targets_mib(full(t, np.nan), t)), "action[0, 0] is NaN"),
    ],
)
def test_a_policy_that_fails_is_named_with_scenario_seed_and_second(act, what):
    text = said(Failing(act))
    assert text.startswith("agent Failing, scenario idle-giants-short, seed 7, second 30: ")
    assert what in text


def test_an_agent_goes_by_the_name_of_its_configuration():
    assert said(Failing(broken, at=0), agent="mine").startswith(
        "agent mine, scenario idle-giants-short, seed 7, second 0: KeyError"
    )


def test_of_a_batch_the_seed_of_the_first_wrong_lane_is_named_or_all():
    wrong = Failing(lambda t: Targets(full(t, np.inf, lane=1)), at=0)
    assert "seed 12, second 0: targets.memory_mib[1, 0]=inf" in said(wrong, seeds=(11, 12, 13))
    assert "seeds 11 to 13, second 0: KeyError" in said(Failing(broken, at=0), seeds=(11, 12, 13))


@pytest.mark.parametrize("failure", [KeyError("x"), SystemExit(0)])
def test_a_policy_that_fails_before_the_first_second_is_named_too(failure):
    class Never(Static):
        def reset(self, first, seed):
            raise failure

    assert said(Never()).startswith("agent Never, scenario idle-giants-short, seed 7, second 0: ")


@pytest.mark.parametrize("period", [0, -1.0, np.nan, np.inf, "10", None, True])
def test_a_period_that_is_no_time_is_refused(period):
    policy = Static()
    policy.period_s = period
    assert f"second 0: period_s={period!r}: expected a positive number of seconds" in said(policy)


def test_a_period_that_stops_being_one_is_refused_when_it_does():
    class Forgets(Static):
        def decide(self, telemetry):
            self.period_s = np.nan if telemetry.time_s[0] >= 20.0 else 10.0
            return super().decide(telemetry)

    assert "second 20: period_s=nan" in said(Forgets())


def test_a_clairvoyant_policy_is_named_too():
    class Sees(ClairvoyantPolicy):
        def decide(self, hidden):
            return Targets(np.full(hidden.vms.shape, np.inf))

    assert "agent Sees, scenario idle-giants-short, seed 7, second 0: targets.memory_mib" in said(Sees())


def spoil(field, change, lane=1):
    """A watcher that breaks the state of one lane in mid-episode, as a fault of the model would."""

    def watch(telemetry, sim):
        if sim.clock_s[0] == 300:
            rows = sim.hosts if field in sim.hosts.dtype.names else sim.vms
            rows[field][lane, 0] = change(rows[field][lane, 0])

    return watch


@pytest.mark.parametrize(
    ("field", "change", "what"),
    [
        ("progress_s", lambda old: np.nan, "progress_s of a vm is not finite"),
        ("disk_mib", lambda old: np.inf, "disk_mib of a vm is not finite"),
        ("free_backed_mib", lambda old: old + 500.0, "memory of a guest does not add up to its size"),
        ("balloon_mib", lambda old: old - 500.0, "of a VM is below 0|does not add up"),
        ("progress_s", lambda old: old + 500.0, "a VM did more work than it was asked for"),
    ],
)
def test_a_state_that_does_not_hold_gives_no_result(field, change, what):
    with pytest.raises(InputError, match=rf"seed 12, by second 600: the state of the host does not hold: .*({what})"):
        rollout(SCENARIO, Static(), [11, 12, 13], spoil(field, change))


def test_a_host_whose_memory_does_not_add_up_gives_no_result():
    def watch(telemetry, sim):
        if sim.clock_s[0] == 600:  # the model does this sum anew each second
            sim.hosts["free_mib"][0, 0] += 50.0

    with pytest.raises(InputError, match="memory of the host does not add up to its RAM"):
        rollout(SCENARIO, Static(), [5], watch)
