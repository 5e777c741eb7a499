"""The clairvoyant reference of clusters: what its plans ask for, by hand, and that what its search finds is what happens."""

import dataclasses

import numpy as np
import pytest

from hvgym.agents.cluster import plans, reference
from hvgym.agents.cluster.plans import COLDEST, ONCE_S, PROPORTIONAL, Future, Plan, answer
from hvgym.agents.cluster.reading import MOVING, RUNNING, WAITING, Reader
from hvgym.agents.cluster.reference import ClusterReference, Trials
from hvgym.agents.cluster.trivial import NeverMove
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs.cluster_parts import Maintenance
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.errors import InputError
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import load, load_group, resolve

FAILING = resolve(
    {
        "name": "failing",
        "description": "a host dies, and its VMs are more than the other one likes",
        "hypervisor": "kvm",
        "stack": "proxmox",
        "episode_s": 300,
        "hosts": [{"name": "a", "count": 2, "ram_mib": 8192, "pcpus": 4}],
        "failures": [{"host": "a-0", "at_s": 100, "lasts_s": 600}],
        "vms": [
            {
                "name": "web",
                "host": "a-0",
                "count": 3,
                "memory_mib": 2048,
                "min_mib": 512,
                "weight": 3,
                "demand": {"hot_mib": 500, "warm_mib": 300, "cold_mib": 200, "cache_mib": 200, "cpu_share": 0.3},
            }
        ],
    }
)


def reading(scenario=FAILING, **vms):
    """Of its first second, with this of its VMs' placement changed."""
    sim = ClusterSimulator(scenario)
    telemetry = sim.reset([3])
    for name, values in vms.items():
        telemetry.places.vm[name][0] = values
    return Reader(telemetry).read(telemetry)[0]


def asked(plan, now, needs, leaving=(False, False), at_once=1e9):
    return answer(now, plan, np.array(needs, dtype=float), np.array(leaving), at_once)


def test_vms_leave_a_host_that_goes_down_in_the_order_of_weight_and_memory_as_many_at_once_as_may():
    now = reading()
    now.weight[:] = (1.0, 3.0, 2.0)
    plan, needs = Plan((0, 0), leave_s=60.0), [[0.1, 100]] * 3
    assert asked(plan, now, needs, (True, False)) == {1: 1, 2: 1, 0: 1}
    assert asked(plan, now, needs, (True, False), at_once=2) == {1: 1, 2: 1}
    assert asked(dataclasses.replace(plan, by_weight=-1.0), now, needs, (True, False), at_once=1) == {0: 1}
    now.memory_mib[:] = (1000.0, 2000.0, 4000.0)
    by_memory = dataclasses.replace(plan, by_weight=0.0, by_memory=1.0)
    assert asked(by_memory, now, needs, (True, False), at_once=1) == {2: 1}
    assert asked(plan, now, needs, (True, True)) == {}


def test_a_copy_under_way_counts_as_one_of_those_at_once():
    now = reading(state=[MOVING, RUNNING, RUNNING], moving_to=[1.0, np.nan, np.nan])
    plan, needs = Plan((0, 0), leave_s=60.0), [[0.1, 100]] * 3
    assert asked(plan, now, needs, (True, False), at_once=1) == {}
    assert asked(plan, now, needs, (True, False), at_once=2) == {1: 1}


def test_levelling_by_hand():
    """3, 2 and 1 of 4 cores on the first host: the one of 3 leaves 3 and 3 behind; 6 - 0 of 4 is 1.5."""
    now, needs = reading(), [[3.0, 0], [2.0, 0], [1.0, 0]]
    plan = Plan((0, 0), level_every_s=ONCE_S, threshold=0.1)
    assert asked(plan, now, needs) == {0: 1}
    assert asked(dataclasses.replace(plan, threshold=1.6), now, needs) == {}
    assert asked(plan, now, [[0, 4096], [0, 3072], [0, 1024]]) == {0: 1}
    later = dataclasses.replace(now, time_s=60.0)
    assert asked(plan, later, needs) == {}
    assert asked(dataclasses.replace(plan, level_every_s=60.0), later, needs) == {0: 1}
    assert asked(dataclasses.replace(plan, level_every_s=60.0), dataclasses.replace(now, time_s=70.0), needs) == {}
    assert len(asked(dataclasses.replace(plan, most=1.0), now, [[1.0, 0]] * 3)) == 1


def test_starts_go_where_least_is_wanted():
    now = reading(host=[0.0, np.nan, 0.0], state=[RUNNING, WAITING, RUNNING])
    needs = [[1.0, 100], [1.0, 100], [1.0, 100]]
    assert asked(Plan((0, 0), stock=True), now, needs) == {}  # the stack's own balancing says where
    assert asked(Plan((0, 0)), now, needs) == {1: 1}  # where most RAM is not promised
    assert asked(Plan((0, 0), starts=True), now, needs) == {1: 1}


def test_the_future_knows_failures_deadlines_and_demand():
    maintained = dataclasses.replace(FAILING, maintenance=(Maintenance("a-1", from_s=150, deadline_s=200),))
    sim = ClusterSimulator(maintained)
    sim.reset([1])
    future = Future(sim)
    assert future.goes_down(0, 0.0, 99.0).tolist() == [False, False]
    assert future.goes_down(0, 0.0, 100.0).tolist() == [True, False]
    assert future.goes_down(0, 100.0, 100.0).tolist() == [False, True]
    assert future.goes_down(0, 100.0, 0.0).tolist() == [False, False]
    demand, spec = sim.arrays.demand[0], sim.vm_specs[0]
    slots = slice(2, 5)  # of 20 s: 40 to 99
    by_hand = demand["cpu_share"][slots].max(axis=0) * spec["vcpus"]
    assert future.needs(45.0, 40.0)[:, 0] == pytest.approx(by_hand)
    mib = demand["tier_mib"][slots].sum(axis=2).max(axis=0) + spec["kernel_mib"] + spec["overhead_mib"]
    assert future.needs(45.0, 40.0)[:, 1] == pytest.approx(np.minimum(mib, spec["memory_mib"] + spec["overhead_mib"]))


def test_children_keep_to_what_there_is():
    rng, parent = np.random.default_rng(0), Plan((0, 0, 0))
    for _ in range(300):
        parent = plans.child(rng, parent, 0.7, False, (PROPORTIONAL,))
        assert not parent.stock
        assert set(parent.memory) <= {0, PROPORTIONAL}
        assert 0.0 <= parent.leave_s <= 3600.0
        assert 1.0 <= parent.most <= 64.0
    assert plans.child(rng, parent, 0.7, False, ()).memory == parent.memory


@pytest.fixture(scope="module")
def found():
    """A search of 16 episodes for two seeds, played."""
    policy = ClusterReference(episodes=16)
    policy.declaration = Declaration("outside", ("move_to", "restart_priority"), frozenset())
    return policy, rollout(FAILING, policy, [3, 4])


def test_what_the_search_finds_is_what_happens_to_the_bit(found):
    policy, played = found
    assert [policy.best[seed][0] for seed in (3, 4)] == (played.goodput - played.oom_kills).tolist()


def test_it_leaves_before_the_failure_and_so_is_better_than_who_stays(found):
    policy, played = found
    stays = rollout(FAILING, agent("never_move"), [3, 4])
    assert (played.goodput > stays.goodput + 0.2).all()
    assert (played.outage_s == 0.0).all()
    assert all(policy.best[seed][1].leave_s > 0.0 for seed in (3, 4))


def test_an_episode_is_searched_the_same_whoever_plays_beside_it(found):
    policy, played = found
    alone = ClusterReference(episodes=16)
    alone.declaration = Declaration("outside", ("move_to", "restart_priority"), frozenset())
    assert rollout(FAILING, alone, [4]).goodput[0] == played.goodput[1]
    assert alone.best[4] == policy.best[4]


def test_to_never_move_is_among_its_plans_and_a_budget_of_one_is_that():
    ranks, _ = Trials(FAILING, 3, 10).play([Plan((0, 0))])
    assert ranks[0] == rollout(FAILING, NeverMove(), [3]).goodput[0]
    policy = ClusterReference(episodes=1)
    policy.declaration = Declaration("outside", ("move_to", "restart_priority"), frozenset())
    assert rollout(FAILING, policy, [3]).goodput[0] == ranks[0]


def test_memory_policies_of_hosts_are_those_of_agents():
    """Of one kind on all hosts, the plan is the agent, but for the coldest, which decides twice as often."""
    ranks, _ = Trials(FAILING, 3, 10).play([Plan((0, 0)), Plan((PROPORTIONAL,) * 2), Plan((COLDEST, 0))])
    assert ranks[1] == rollout(FAILING, agent("proportional"), [3]).goodput[0]
    assert ranks[2] == pytest.approx(ranks[0], abs=0.05)


def test_a_stack_s_own_balancing_is_a_plan():
    shipped = dataclasses.replace(FAILING, stack=dataclasses.replace(FAILING.stack, stock="drs2"))
    assert reference.stock_of(shipped) is not None
    ranks, _ = Trials(shipped, 3, 10).play([Plan((0, 0), stock=True), Plan((0, 0))])
    assert ranks.tolist() == [rollout(shipped, agent(name), [3]).goodput[0] for name in ("stock", "never_move")]


def agent(name, **changed):
    return make_policy(load_group("agent", name) | changed)


def test_it_plays_clusters_alone_and_others_hosts_alone():
    with pytest.raises(InputError, match="several hosts"):
        rollout(load("late-arrivals"), agent("cluster_reference"), [0])
    with pytest.raises(InputError, match="plans for one host"):
        rollout(FAILING, agent("reference_outside"), [0])
    with pytest.raises(InputError, match=r"agent\.episodes=0"):
        agent("cluster_reference", episodes=0)


def test_it_sets_what_its_seat_has_for_memory_under_default_rules():
    """What it may set it says when it is told what is played; a rollout held it to what it had said before, and stopped."""
    whole = load("never-converge")
    workload = dataclasses.replace(whole.workload, episode_s=300)
    scenario = dataclasses.replace(whole, rules="default", workload=workload)
    assert np.isfinite(rollout(scenario, agent("cluster_reference", episodes=4), [0]).goodput).all()
