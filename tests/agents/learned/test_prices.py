"""Learned prices: the rule where nothing is learnt, what a weight does, and which channels are used where."""

from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.learned.by_statistics import LinearByStatistics
from hvgym.agents.learned.prices import CONSTANTS, SharedPrices, factor
from hvgym.agents.policy import declared_by, make_policy
from hvgym.agents.proactive.cheapest_pages import CheapestPages
from hvgym.bench.rollout import rollout
from hvgym.envs.scenario import load_group, resolve
from hvgym.envs.simulator import Simulator

SCENARIO = resolve(load_group("scenario", "mixed-tenants") | {"episode_s": 300}, rules="default")


def weights(**named):
    return np.array([named.get(name.replace("rule.", ""), 0.0) for name in SharedPrices.names])


def on(hypervisor):
    data = load_group("scenario", "idle-giants-short") | {"episode_s": 60}
    return resolve(data, hypervisor=load_group("hypervisor", hypervisor), rules="default")


def decided(policy, scenario, channels):
    sim = Simulator(scenario, 1)
    telemetry = sim.reset([1])
    policy.granted(channels)
    policy.reset(telemetry, 0)
    return policy.decide(telemetry)


def test_without_weights_it_is_the_rule():
    rule = CheapestPages()
    rule.declaration = declared_by(load_group("agent", "cheapest_pages"))
    ours, rules = (rollout(SCENARIO, one, [1, 2], apart=False) for one in (SharedPrices.of(weights()), rule))
    assert ours.goodput.tolist() == rules.goodput.tolist()
    assert ours.host_swap_s.tolist() == rules.host_swap_s.tolist()


def test_a_factor_doubles_at_1_halves_at_minus_1_and_is_1_at_0():
    assert factor(np.array([0.0, 1.0, -1.0, -1e9])).tolist() == pytest.approx([1.0, 2.0, 0.5, 0.0], abs=1e-6)


def test_a_weight_makes_dear_whom_it_is_of_and_each_lane_has_its_own():
    """Pages of VMs that matter are dearer in one lane, cheaper in the other: they lose less in the first."""
    dear, cheap = weights(critical=5.0), weights(critical=-5.0)
    both = rollout(SCENARIO, SharedPrices.of(np.array([dear, cheap])), [1, 1], apart=False)
    alone = [rollout(SCENARIO, SharedPrices.of(one), [1], apart=False).goodput[0] for one in (dear, cheap)]
    assert both.goodput.tolist() == alone
    assert both.goodput[0] > both.goodput[1]


def test_a_constant_of_the_rule_is_multiplied():
    twice = SharedPrices.of(weights(keep_free_share=1.0))
    rule = CheapestPages(keep_free_share=2 * CheapestPages().keep_free_share)
    rule.declaration = declared_by(load_group("agent", "cheapest_pages"))
    assert rollout(SCENARIO, twice, [1], apart=False).goodput == rollout(SCENARIO, rule, [1], apart=False).goodput
    assert len(CONSTANTS) == 5


@pytest.mark.parametrize(
    ("hypervisor", "channels"),
    [
        ("kvm", {"memory_mib", "reclaim_mib", "reclaim_age_s", "report_free_pages"}),
        ("baremetal", {"reclaim_mib", "reclaim_age_s"}),
        ("hyperv", {"memory_mib", "report_free_pages"}),
        ("esxi", {"memory_mib"}),
        ("xen", {"memory_mib"}),
    ],
)
def test_it_answers_on_what_its_seat_has(hypervisor, channels):
    scenario = on(hypervisor)
    policy = make_policy(load_group("agent", "learned_full"))
    seat = scenario.hypervisor.capabilities.inside.channel_names
    targets = decided(policy, scenario, seat)
    assert {name for name, value in vars(targets).items() if value is not None} == channels
    assert np.isfinite(rollout(scenario, policy, [1], apart=False).goodput).all()


def test_where_sizes_are_the_channel_it_does_what_the_map_of_sizes_does():
    scenario = on("xen")
    ours, sizes = (make_policy(load_group("agent", name)) for name in ("learned_full", "learned_sizes"))
    assert rollout(scenario, ours, [1, 2]).goodput.tolist() == rollout(scenario, sizes, [1, 2]).goodput.tolist()
    assert ours.period_s == sizes.period_s == LinearByStatistics(weights="learned_sizes").period_s


def test_ages_are_read_and_paid_only_where_pages_are_reclaimed_by_them():
    """On Xen a research patch could tell them, and would slow all guests by 2 %."""
    who = declared_by(load_group("agent", "learned_full"))
    seats = {name: on(name).hypervisor.capabilities.inside for name in ("kvm", "xen", "esxi")}
    assert "idle_60s_mib" in who.read_besides(seats["kvm"])
    assert who.read_besides(seats["xen"]) == who.read_besides(seats["esxi"]) == frozenset()
    assert replace(who, signals_with=()).read_besides(seats["kvm"]) == frozenset()
