"""Which scenarios deserve their place: by hand, and those of suite quick by play."""

from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.policy import make_policy
from hvgym.bench import suites
from hvgym.bench.criterion import DIAGNOSTIC, Played, play, seats_of_trivial
from hvgym.bench.rollout import rollout
from hvgym.bench.suites import Suite, scenario_of
from hvgym.envs.scenario import Workload, load_group

QUICK = Suite.from_dict(load_group("suite", "quick"))
SCENARIOS = {name: scenario_of(name, rules=QUICK.rules) for name in QUICK.scenarios}
OF_MEMORY = [name for name in QUICK.scenarios if name not in DIAGNOSTIC]


def played(scenario="mixed-tenants", hypervisor=None, rules="default", **goodput):
    profile = hypervisor and load_group("hypervisor", hypervisor)
    means = {"stock": 0.8, "reference": 0.9} | goodput
    varied = {agent: np.array([mean - 0.05, mean + 0.05]) for agent, mean in means.items()}
    return Played(scenario_of(scenario, hypervisor=profile, rules=rules), varied, {}, {})


def test_a_trivial_agent_is_measured_by_the_gap_of_its_own_seat():
    found = played(reference_outside=1.0, static=0.84, coldest_first=0.86)
    assert found.gaps == pytest.approx({"inside": 0.1, "outside": 0.2})
    assert found.closed == pytest.approx({"static": 0.4, "coldest_first": 0.3})
    assert found.fault is None


def test_under_open_rules_one_reference_serves_both_seats():
    assert played(rules="open", coldest_first=0.86).closed == pytest.approx({"coldest_first": 0.6})


def test_three_fifths_of_the_gap_are_the_most_that_a_trivial_agent_may_close():
    assert played(random=0.859).fault is None
    assert played(random=0.861).fault == "random closes more than 60%"
    assert played(static=0.87, random=0.87).fault == "static and random close more than 60%"


def test_a_twentieth_of_goodput_is_the_least_that_there_must_be_to_win_at_one_seat():
    assert played(reference=0.849, reference_outside=0.849).fault == "the references gain less than 0.05"
    assert played(reference=0.851, reference_outside=0.8).fault is None
    assert played(reference=0.8, reference_outside=0.851).fault is None


def test_where_a_seat_has_nothing_to_win_its_trivial_agents_are_not_judged():
    assert played(reference_outside=0.801, coldest_first=0.801).closed == {}


def test_scenarios_of_devices_and_hosted_hypervisors_are_exempt():
    of_io, hosted = played("backup-window", reference=0.8), played("idle-giants", "virtualbox", reference=0.8)
    assert (of_io.diagnostic, of_io.fault) == ("bandwidth", None)
    assert (hosted.diagnostic, hosted.fault) == ("Type 2", None)


def test_scenarios_of_real_vms_are_exempt_for_they_are_as_they_are():
    found = played(reference=0.81)
    real = replace(found.scenario, workload=Workload("bitbrains", "/somewhere"))
    assert found.fault == "the references gain less than 0.05"
    assert (replace(found, scenario=real).diagnostic, replace(found, scenario=real).fault) == ("real VMs", None)


def test_quick_is_played_within_the_rules_on_kvm_esxi_and_a_hypervisor_that_commits_memory():
    assert {scenario.rules for scenario in SCENARIOS.values()} == {"default"}
    assert {scenario.hypervisor.name for scenario in SCENARIOS.values()} >= {"kvm", "esxi", "hyperv"}
    assert max(s.duration_s // s.control_interval_s for s in SCENARIOS.values()) <= 720


def test_quick_has_page_cache_both_kinds_of_guest_swap_siblings_stuck_balloons_and_unequal_vms():
    groups = [group for name in OF_MEMORY for group in SCENARIOS[name].vms]
    assert {group.swap for group in groups if group.guest_swap_mib} == {"disk", "zram"}
    assert any(group.demand.cache_mib > 0.5 * group.memory_mib for group in groups)
    assert any(group.demand.group >= 0 for group in groups)
    assert any(not group.balloon for group in groups)
    assert {group.stats for group in groups} == {"linux", "windows", "none"}
    kvm = [s for s in SCENARIOS.values() if s.hypervisor.name == "kvm"]
    assert all(len({group.weight for group in scenario.vms}) > 1 for scenario in kvm)


@pytest.mark.parametrize("name", OF_MEMORY)
def test_a_scenario_of_quick_deserves_its_place(name):
    """By references with a third of their budget, for time."""
    scenario = SCENARIOS[name]
    found = play(scenario, suites.seeds("validation", 2), seats=seats_of_trivial(scenario), budget=50)
    assert found.fault is None, (found.gaps, found.closed)


def test_shares_of_disk_and_link_are_worth_something_in_the_backup_window():
    scenario, seeds = SCENARIOS["backup-window"], suites.seeds("validation", 2)
    goodput = {
        agent: rollout(scenario, make_policy(load_group("agent", agent)), seeds, agent=agent).goodput.mean()
        for agent in ("static", "static_shares", "io_latency", "minimum_iops")
    }
    assert goodput["static_shares"] > goodput["static"] + 0.03
    assert min(goodput["io_latency"], goodput["minimum_iops"]) > goodput["static"] + 0.01
