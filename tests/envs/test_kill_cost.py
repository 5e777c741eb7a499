"""What a kill and a failed start cost: charged once, in the second in which they happen, in every sum of goodput."""

import dataclasses

import numpy as np
import pytest

from hvgym.agents.clairvoyant import search
from hvgym.agents.clairvoyant.planning import HOLD, OWN
from hvgym.agents.policy import Policy
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.host_env import HostEnv
from hvgym.envs.model.host.admission import GIVEN_UP_S
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup, load
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets
from hvgym.envs.vector_env import HostVectorEnv

PLAIN = Hypervisor("plain", 1, 100.0, 50.0, exit_us=0.0, nested_walks=False)
RESERVES = dataclasses.replace(PLAIN, admission="reservation")
VM = {"memory_mib": 2048.0, "guest_swap_mib": 0.0, "kernel_mib": 18.0, "mergeable_share": 0.0, "restart_s": 1000.0}


def squeezed(kill_cost_s, **changes):
    """Two VMs, the first of weight 3; it is about to grow beyond what it can be without swap."""
    groups = tuple(VmGroup(f"vm{i}", Demand(hot_mib=500.0), **(VM | {"weight": 3.0 - 2.0 * i})) for i in range(2))
    settings = {"episode_s": 100, "control_interval_s": 5} | changes
    sim = Simulator(Scenario("s", "", Host(ram_mib=8192.0), PLAIN, groups, kill_cost_s=kill_cost_s, **settings))
    sim.reset([0])
    sim.demand["tier_mib"][0, :, 0, 0] = 3000.0
    return sim


def waiting(seconds, **changes):
    """A VM that asks to run from the tenth second on, on a host that cannot reserve its memory."""
    late = VmGroup("late", Demand(hot_mib=100.0), **(VM | {"min_mib": 2048.0, "arrive_s": 10.0} | changes))
    first = VmGroup("first", Demand(hot_mib=100.0), **(VM | {"min_mib": 1024.0}))
    sim = Simulator(Scenario("s", "", Host(ram_mib=2048.0), RESERVES, (first, late), episode_s=1000))
    sim.reset([0])
    sim.advance(seconds)
    return sim


class Least(Policy):
    """Asks for the least memory: guests without swap are killed again and again."""

    period_s = 5.0

    def decide(self, telemetry):
        return Targets(telemetry.vm["min_mib"].copy())


SCENARIO = load("no-guest-swap-short")


def priced(kill_cost_s):
    return dataclasses.replace(SCENARIO, kill_cost_s=kill_cost_s)


# ---- in the model


def test_each_kill_is_charged_and_its_workload_alone():
    sim = squeezed(250.0)
    sim.advance(60)
    assert sim.vms["oom_kills"][0].tolist() == [1.0, 0.0]
    assert sim.vms["charged_s"][0].tolist() == [250.0, 0.0]


def test_a_start_is_given_up_after_five_minutes_and_once():
    """It asks from the tenth second on, so 310 s are five minutes of waiting."""
    assert GIVEN_UP_S == 300.0
    assert waiting(309).vms["failed_starts"][0].tolist() == [0.0, 0.0]
    failed = waiting(310)
    assert failed.vms["failed_starts"][0].tolist() == [0.0, 1.0]
    assert failed.vms["charged_s"][0].tolist() == [0.0, 600.0]
    failed.advance(600)
    assert failed.vms["charged_s"][0].tolist() == [0.0, 600.0]


def test_a_start_that_succeeds_in_the_last_second_is_none_that_failed():
    sim = waiting(309)
    sim.vm_specs["min_mib"][0, 0] = 0.0  # what it had reserved is free
    sim.vm_specs["min_mib"][0, 1] = 1024.0
    sim.advance(300)
    assert sim.vms["admitted"][0].tolist() == [1.0, 1.0]
    assert sim.vms["charged_s"].sum() == 0.0


def test_a_restart_that_is_no_kill_costs_nothing():
    """A VM that boots as the episode begins loses its start, as before, and is charged nothing."""
    sim = waiting(100, min_mib=100.0)
    assert sim.vms["admitted"][0, 1] == 1.0
    assert sim.vms["charged_s"].sum() == 0.0


# ---- in goodput


def test_goodput_loses_the_weighted_charges_of_an_episode():
    """Two VMs of weight 1 and two of weight 2 ask for all 600 s: each kill takes its weight of 6."""
    kills = []
    free, dear = (
        rollout(priced(cost), Least(), [5, 6], lambda _, sim: kills.append(sim.vms["oom_kills"].copy()))
        for cost in (0.0, 300.0)
    )
    assert SCENARIO.duration_s == 600
    lost = kills[-1] @ [1.0, 1.0, 2.0, 2.0] * 300.0 / (6.0 * 600.0)
    assert (lost > 0.0).all()
    np.testing.assert_allclose(free.goodput - dear.goodput, lost)
    np.testing.assert_allclose(dear.lost_kills, lost)
    assert (free.lost_kills == 0.0).all()


def test_without_a_price_all_is_as_without_kills_being_charged_to_the_bit():
    free = rollout(priced(0.0), Least(), [5])
    sim = Simulator(SCENARIO)
    sim.reset([5])
    for _ in range(0, SCENARIO.duration_s, 5):
        sim.apply(Targets(sim.vm_specs["min_mib"].copy()))
        sim.advance(5)
    weight = sim.vm_specs["weight"]
    assert free.goodput[0] == ((weight * sim.vms["progress_s"]).sum() / (weight * sim.vms["asked_s"]).sum())


def test_goodput_and_all_that_is_lost_make_one_where_kills_are_charged_too():
    (row,) = rollout(priced(600.0), Least(), [5]).rows()
    lost = sum(value for name, value in row.items() if name.startswith("lost_"))
    assert row["lost_kills"] > 0.0
    assert row["goodput"] + lost == pytest.approx(1.0, abs=0.005)


def test_a_failed_start_is_counted_beside_kills():
    scenario = dataclasses.replace(waiting(0).scenario, control_interval_s=5)
    (row,) = rollout(scenario, Least(), [0]).rows()
    assert (row["oom_kills"], row["failed_starts"]) == (0.0, 1.0)
    assert row["lost_kills"] == pytest.approx(600.0 / (1000.0 + 991.0))


# ---- in rewards


def played(kill_cost_s):
    """Rewards ``[step]`` and kills ``[step, vm]`` of an episode at the least memory."""
    env = HostEnv(priced(kill_cost_s), action="absolute")
    env.reset(seed=5)
    rewards, kills = [], [np.zeros(4)]
    for _ in range(SCENARIO.duration_s // SCENARIO.control_interval_s):
        rewards.append(env.step(-np.ones(4, np.float32))[1])
        kills.append(env.simulator.vms["oom_kills"][0].copy())
    return np.array(rewards), np.diff(kills, axis=0)


def test_the_step_of_a_kill_pays_for_it_and_rewards_add_up_to_goodput():
    """Five seconds of weights 1, 1, 2, 2 are 30 weighted seconds."""
    assert SCENARIO.control_interval_s == 5
    (free, kills), (dear, _) = played(0.0), played(600.0)
    np.testing.assert_allclose(free - dear, 600.0 * kills @ [1.0, 1.0, 2.0, 2.0] / 30.0, atol=1e-12)
    assert (dear < 0.0).tolist() == (kills.sum(axis=1) > 0.0).tolist()
    assert dear.mean() == pytest.approx(rollout(priced(600.0), Least(), [5]).goodput[0], abs=1e-12)


def test_a_batch_is_charged_as_the_single_environment_to_the_bit():
    single, batch = HostEnv(priced(123.0), step=1.0), HostVectorEnv(2, priced(123.0), step=1.0)
    single.reset(seed=6)
    batch.reset(seed=5)
    for _ in range(60):
        action = -np.ones(4, np.float32)
        _, reward, *_ = single.step(action)
        _, rewards, *_ = batch.step(np.stack([action, action]))
        assert rewards[1] == reward
    assert batch.simulator.vms["charged_s"][1].tolist() == single.simulator.vms["charged_s"][0].tolist()
    assert batch.simulator.vms["charged_s"][1].sum() > 0.0


# ---- for clairvoyants


def test_the_search_weighs_kills():
    """Nothing that a plan does saves the VM: every plan gains what it gains for nothing, less a weight of 3 times the cost."""
    gains = []
    for cost in (0.0, 250.0):
        sim = squeezed(cost)
        trials = search.Trials(sim.hidden(), 0, 5, sim.scenario)
        plans = search.plan(HOLD, ("memory_mib",), reports=OWN, scan_pages_per_s=OWN)[None]
        state = trials.play(trials.start, plans, np.zeros((1, 2, 3)), 60)
        assert state.vms["oom_kills"].sum() == 1.0
        weight = state.vm_specs["weight"]
        kills = -trials.ranks(state) + (weight * (state.vms["progress_s"] - state.vms["charged_s"])).sum()
        assert kills >= (weight * 100.0).sum()  # a kill alone outweighs all work
        gains.append((weight * (state.vms["progress_s"] - state.vms["charged_s"])).sum())
    np.testing.assert_allclose(gains[0] - gains[1], 3.0 * 250.0)


# ---- in a configuration


def test_a_cost_below_zero_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"scenario\.kill_cost_s=-1: must be at least 0"):
        Scenario.from_dict(SCENARIO.to_dict() | {"kill_cost_s": -1})
