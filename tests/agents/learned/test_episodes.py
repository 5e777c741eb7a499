"""Whole episodes in one compiled call equal what a rollout plays, to the bit, and are only played where they can."""

from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.learned.episodes import ended
from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.view import FEATURES
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.bench.training import goodput
from hvgym.envs.scenario import load_group, resolve

SEEDS = [3, 4, 9]


def on(hypervisor, name="idle-giants-short", rules="default"):
    data = load_group("scenario", name) | {"episode_s": 300}
    return resolve(data, load_group("hypervisor", hypervisor), rules=rules)


def drawn(period_s=10.0, sets=3):
    """Weights that make sizes go up and down, a set for each lane."""
    weights = np.random.default_rng(2).normal(0.0, 1.0, (sets, len(FEATURES)))
    return SharedLinear.of(weights, 0.1, period_s)


def played(scenario, policy):
    return rollout(scenario, policy, SEEDS, apart=False).goodput


@pytest.mark.parametrize(
    ("hypervisor", "rules"),
    [("kvm", "default"), ("esxi", "default"), ("xen", "default"), ("virtualbox", "default"), ("hyperv", "open")],
)
@pytest.mark.parametrize("period_s", [10.0, 4.0])
def test_an_episode_in_one_call_is_the_one_that_a_rollout_plays(hypervisor, rules, period_s):
    scenario = on(hypervisor, rules=rules)
    sim = ended(scenario, drawn(period_s), SEEDS)
    assert sim is not None
    assert goodput(scenario, drawn(period_s), SEEDS, "es").tolist() == played(scenario, drawn(period_s)).tolist()
    assert (sim.vms["balloon_moved_mib"] > 0.0).any()


def test_an_episode_in_one_call_reads_the_profile_that_the_policy_has():
    """P0 is without what guests say; P3 has sampled activity on ESXi, for which a rollout has to ask."""
    answers = []
    for hypervisor, profile in (("kvm", "P0"), ("kvm", "P1"), ("esxi", "P1"), ("esxi", "P3")):
        scenario = on(hypervisor)
        weights = np.zeros(len(FEATURES))
        weights[[FEATURES.index("constant"), FEATURES.index("active"), FEATURES.index("reports")]] = -1.0, 2.0, 2.0
        policy = SharedLinear.of(weights, 0.1, 10.0, visibility=profile)
        assert policy.visibility.name == profile
        assert (ended(scenario, policy, SEEDS) is None) == (profile == "P3")
        answers.append(goodput(scenario, policy, SEEDS, "es").tolist())
        assert answers[-1] == played(scenario, policy).tolist()
    assert answers[0] != answers[1]
    assert answers[2] != answers[3]


def test_it_plays_vms_that_start_later_and_one_set_of_weights_for_all():
    scenario = on("kvm", "late-arrivals")
    one = drawn(sets=1)
    assert ended(scenario, one, SEEDS) is not None
    assert goodput(scenario, one, SEEDS, "es").tolist() == played(scenario, one).tolist()


def test_it_makes_room_for_vms_that_wait():
    """On Xen, where the host is full of VMs that want to grow; at the end no room would do for two of them."""
    scenario = replace(on("xen", "late-arrivals"), episode_s=1200)
    weights = np.zeros(len(FEATURES))
    weights[FEATURES.index("constant")] = 2.0
    growing = SharedLinear.of(weights, 0.1, 10.0)
    sim = ended(scenario, growing, SEEDS)
    assert (sim.vms["balloon_mib"] > 100.0).any()
    assert goodput(scenario, growing, SEEDS, "es").tolist() == played(scenario, growing).tolist()


def test_threads_and_neighbours_change_no_bit():
    scenario, policy = on("kvm"), drawn()
    alone = goodput(scenario, policy, SEEDS, "es")
    policy.threads = 2
    assert goodput(scenario, policy, SEEDS, "es").tolist() == alone.tolist()
    for lane, seed in enumerate(SEEDS):
        single = SharedLinear.of(policy.weights[lane], 0.1, 10.0)
        assert goodput(scenario, single, [seed], "es")[0] == alone[lane]


def test_an_episode_that_does_not_end_with_a_decision_ends_in_time():
    scenario = replace(on("kvm"), episode_s=305)
    sim = ended(scenario, drawn(), SEEDS)
    assert (sim.clock_s == 305).all()
    assert goodput(scenario, drawn(), SEEDS, "es").tolist() == played(scenario, drawn()).tolist()


def test_where_readings_are_held_or_a_policy_runs_beneath_a_rollout_asks():
    assert ended(on("hyperv"), drawn(), SEEDS) is None  # silent after a start
    assert ended(on("kvm"), drawn(period_s=5.0), SEEDS) is None  # pressure each 2 s
    assert ended(on("kvm"), drawn(period_s=7.5), SEEDS) is None
    assert ended(on("esxi"), make_policy(load_group("agent", "stock")), SEEDS) is None
    assert ended(on("kvm"), make_policy(load_group("agent", "greedy")), SEEDS) is None
    outside = drawn()
    outside.declaration = replace(outside.declaration, seat="outside")
    assert ended(on("virtualbox"), outside, SEEDS) is None  # sizes each 30 s


def test_who_does_nothing_is_played_in_one_call_too():
    scenario, stock = on("kvm"), make_policy(load_group("agent", "stock"))
    assert ended(scenario, stock, SEEDS) is not None
    assert goodput(scenario, stock, SEEDS, "stock").tolist() == played(scenario, stock).tolist()
