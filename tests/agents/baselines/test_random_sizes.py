"""Sizes by lot, the same in whatever batch."""

import numpy as np

from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs.scenario import load, load_group
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Telemetry


def reading(times_s=(0.0,), vms=3, running=1.0):
    vm = np.zeros((len(times_s), vms), VM_TELEMETRY)
    vm["memory_mib"], vm["min_mib"], vm["running"] = 4096.0, 1024.0, running
    return Telemetry(np.array(times_s, float), vm, np.zeros((len(times_s), 1), HOST_TELEMETRY))


def sizes(times_s=(0.0,), vms=3, seed=0):
    policy = make_policy(load_group("agent", "random"))
    policy.reset(reading(times_s, vms), seed)
    return policy.decide(reading(times_s, vms)).memory_mib


def test_sizes_lie_between_minimum_and_memory_and_are_uniform():
    drawn = sizes(np.arange(20000) * 60.0)
    assert drawn.min() >= 1024.0
    assert drawn.max() <= 4096.0
    np.testing.assert_allclose(drawn.mean(axis=0), 2560.0, rtol=0.01)
    np.testing.assert_allclose(drawn.std(axis=0), 3072.0 / np.sqrt(12.0), rtol=0.01)


def test_each_minute_and_each_vm_has_its_own_draw_and_a_minute_keeps_it():
    drawn = sizes([0.0, 59.0, 60.0, 120.0])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert len(np.unique(drawn[[0, 2, 3]])) == 9


def test_a_draw_depends_on_seed_time_and_vm_alone():
    np.testing.assert_array_equal(sizes([0.0, 60.0])[1], sizes([60.0])[0])
    np.testing.assert_array_equal(sizes([60.0], vms=7)[0, :3], sizes([60.0])[0])
    assert (sizes([60.0], seed=1) != sizes([60.0])).all()


def test_vms_that_do_not_run_are_left_alone_and_episodes_repeat():
    policy = make_policy(load_group("agent", "random"))
    assert np.isnan(policy.decide(reading(running=0.0)).memory_mib).all()
    scenario = load("idle-giants-short")
    both, one = rollout(scenario, policy, [5, 6]), rollout(scenario, policy, [6])
    assert both.goodput[1] == one.goodput[0]
