"""Learnt moves: gains computed by hand, who moves and starts, each lane by its own weights, and that a search finds better ones."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.cluster.reading import MOVING, WAITING
from hvgym.agents.learned.es import EvolutionStrategy
from hvgym.agents.learned.moves import SharedMoves
from hvgym.agents.learned.training import Task, trainer_of
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.rules import Declaration, refusal
from hvgym.envs.scenario import load, load_group
from tests.agents.cluster.test_policies_b import Vm, World, moves, play, telemetry
from tests.scripts.calling import hvgym

MOVES = "hvgym.agents.learned.moves.SharedMoves"
OUTSIDE = Declaration(seat="outside", channels=("move_to",))
HOSTS = [(8, 10_000), (8, 10_000)]


def weights(**named):
    assert set(named) <= set(SharedMoves.names)
    return np.array([named.get(name, 0.0) for name in SharedMoves.names])


def policy(*, most=4.0, every_s=10.0, **named):
    return SharedMoves.of(weights(**named), most=most, every_s=every_s)


def full(**changed):
    """Two VMs of 4,800 MiB on a host of 10,000, and none on the other."""
    return World(HOSTS, [Vm(used_mib=4800.0, **changed), Vm(used_mib=4800.0)])


def test_a_move_gains_what_the_prices_of_both_hosts_fall_by():
    """The host is .11 above .85 before, and neither is after: 4 x .11 = .44. What the move costs decides."""
    assert play(policy(used_above_85=1.0, constant=-0.43), full(), 20) == {0: 1}
    assert play(policy(used_above_85=1.0, constant=-0.45), full(), 20) == {}
    # of a threshold that the new host then exceeds as much as the old one did nothing is gained: .48 and .48 in place of .96 and 0
    assert play(policy(used_above_30=1.0, constant=-1.19), full(), 20) == {0: 1}  # 4 x (.66 - .18 - .18) = 1.2
    assert play(policy(used_above_30=1.0, constant=-1.21), full(), 20) == {}


def test_a_larger_host_is_worth_its_size():
    """Of a host twice as large both VMs take .48; prices count by size, so half of what the small one's fall by."""
    world = World([(8, 10_000), (8, 20_000)], full().vms)
    assert play(policy(used_above_85=1.0, constant=-0.21), world, 20) == {0: 1}
    assert play(policy(used_above_85=1.0, constant=-0.23), World(world.hosts, full().vms), 20) == {}


@pytest.mark.parametrize(
    ("named", "moves_it"),
    [
        ({"cpu": 1.0, "constant": -0.7}, True),  # uses two cores of four and waits for one
        ({"cpu": 1.0, "constant": -0.8}, False),
        ({"ready": 1.0, "constant": -0.2}, True),
        ({"ready": 1.0, "constant": -0.3}, False),
        ({"cores_above_30": 1.0, "constant": -1.1}, True),  # .75 of the cores, then .375 of both: 4 x (.45 - .15)
        ({"cores_above_30": 1.0, "constant": -1.3}, False),
        ({"copy_time": -1.0, "constant": 0.05}, True),  # 4,800 MiB at 1,192 a second are 4 s: .04
        ({"copy_time": -1.0, "constant": 0.03}, False),
    ],
)
def test_what_else_a_move_gains_or_costs(named, moves_it):
    world = World(HOSTS, [Vm(used_mib=4800.0, cores=2.0, ready=1.0) for _ in range(2)])
    assert play(policy(**named, most=1.0), world, 600) == ({0: 1} if moves_it else {})


def test_moves_of_a_decision_know_of_each_other():
    """Four VMs of .3 on one host; one has to leave for .9, the second would leave .6 and gains nothing."""
    vms = [Vm(used_mib=3000.0) for _ in range(4)]
    assert len(play(policy(used_above_100=1.0, constant=-0.1), World(HOSTS, vms), 20)) == 1
    assert len(play(policy(used_above_70=1.0, constant=-0.1), World(HOSTS, vms), 20)) == 2
    assert len(play(policy(used_above_70=1.0, constant=-0.1, most=1.0), World(HOSTS, vms), 20)) == 1


def test_no_move_before_its_time_nor_of_who_is_on_its_way():
    assert play(policy(used_above_85=1.0, every_s=30.0), full(), 20) == {}
    assert play(policy(used_above_85=1.0, every_s=30.0), full(), 30) == {0: 1}
    on_its_way = full(state=MOVING, moving_to=1.0)  # and then both hosts hold .48
    assert play(policy(used_above_85=1.0), on_its_way, 20) == {}


def test_a_host_in_maintenance_is_emptied_whatever_it_costs():
    world = World([*HOSTS, (8, 10_000)], [*full().vms, Vm(host=2.0, used_mib=3000.0)], maintenance=(0,))
    assert play(policy(used_above_50=1.0, constant=-50.0), world, 20) == {0: 1, 1: 2}  # .48 each; host 2 has .3 already


def test_what_waits_starts_where_prices_rise_least_as_it_was_before():
    hosts = [(8, 10_000)] * 3
    vms = [
        Vm(host=0.0, used_mib=6000.0),
        Vm(host=1.0, used_mib=2000.0),
        Vm(host=2.0, used_mib=5000.0, memory_mib=5000.0),
    ]
    known = World(hosts, vms, down=(0,))
    learnt = policy(most_active_above_50=1.0)
    learnt.reset(telemetry(known), 0)
    learnt.decide(telemetry(known.run(10)))
    vms[2].state, vms[2].host = WAITING, np.nan
    assert moves(learnt.decide(telemetry(known.run(10)))) == {2: 2}  # .7 of host 1, or .5 of host 2


def test_each_lane_has_its_own_weights_and_plays_as_alone():
    both = np.array([weights(used_above_85=1.0), weights(constant=-1.0)])
    learnt = SharedMoves.of(both, every_s=10.0)
    learnt.reset(telemetry(full(), full()), 0)
    one, other = full(), full()
    learnt.decide(telemetry(one, other))
    asked = learnt.decide(telemetry(one.run(10), other.run(10)))
    assert (moves(asked, 0), moves(asked, 1)) == ({0: 1}, {})


HOT = replace(load("hot-host"), workload=replace(load("hot-host").workload, episode_s=1200))


def goodput(learnt, seeds=(1,)):
    learnt.declaration = OUTSIDE
    return rollout(HOT, learnt, list(seeds), apart=False).goodput


def test_batched_equals_scalar():
    first = EvolutionStrategy(policy={"_target_": MOVES}).first()
    assert goodput(SharedMoves.of(first), (3, 4)).tolist() == [goodput(SharedMoves.of(first), (s,))[0] for s in (3, 4)]


def test_the_search_finds_moves_from_none(tmp_path):
    """It begins with a policy that never moves."""
    start = dict.fromkeys(SharedMoves.first, 0.0) | {"constant": -0.1}
    settings = EvolutionStrategy(
        policy={"_target_": MOVES}, start=start, total_steps=4 * 12 * 120, population=12, seeds=1, validations=2
    )
    task = Task((HOT,), tmp_path, 0, 0, lambda s, p, seeds: goodput(p, seeds), lambda p: float(goodput(p, (8,))[0]))
    assert settings.train(task).curve[-1].best > goodput(SharedMoves.of(weights(constant=-0.1)), (8,))[0] + 0.02
    assert SharedMoves(tmp_path / "best.json").most == 4.0


def test_a_learner_of_moves_needs_several_hosts_and_others_one():
    agent = load_group("agent", "es_moves")
    assert isinstance(trainer_of(agent), EvolutionStrategy)
    said = refusal(make_policy(load_group("agent", "never_move")).declaration, load("cache-hogs"))
    assert said
    with pytest.raises(InputError, match=r"agent\.train\.policy\.most='many': expected a number"):
        EvolutionStrategy(policy={"_target_": MOVES, "most": "many"}).check((HOT,))


def test_it_is_trained_goes_on_and_plays_beside_the_others(tmp_path):
    words = [
        "agent=es_moves",
        "scenario=never-converge",
        "validation_seeds=1",
        "agent.train.population=4",
        "agent.train.validations=1",
        "out=moves",
        "tracking=none",
    ]
    hvgym("train", *words, "agent.train.total_steps=960", cwd=tmp_path)
    hvgym("train", *words, "agent.train.total_steps=1920", cwd=tmp_path)
    played = ["scenario=[never-converge]", "agents=[es_moves,never_move]", "checkpoints={es_moves: moves/best.json}"]
    hvgym("bench", "suite=cluster", *played, "suite.eval_seeds=2", "study=it", "tracking=none", cwd=tmp_path)
    assert "es_moves" in (tmp_path / "runs" / "studies" / "it" / "results.csv").read_text()
    assert json.loads((tmp_path / "moves" / "best.json").read_text())["kind"] == SharedMoves.kind
    done = hvgym("train", "agent=es_moves", "scenario=cache-hogs", "out=alone", "tracking=none", cwd=tmp_path, code=2)
    assert "several hosts" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "alone").exists()


def test_a_policy_of_one_host_is_searched_on_clusters_too_with_its_weights_on_every_host(tmp_path):
    """It played the weights of other lanes' hosts."""
    linear = {"_target_": "hvgym.agents.learned.linear.SharedLinear"}
    settings = EvolutionStrategy(policy=linear, total_steps=4 * 120, population=4, seeds=1, validations=1)
    played = []

    def goodput_of(scenario, learnt, seeds):
        learnt.declaration = Declaration()
        played.append((learnt, rollout(scenario, learnt, seeds, apart=False).goodput))
        return played[-1][1]

    settings.train(Task((HOT,), tmp_path, 0, 0, goodput_of, lambda p: 0.0))
    searched = next(one for one in played if getattr(one[0], "weights", np.zeros(0)).shape[0] == 16)  # 4 sets x 4 hosts
    alone = settings.of(searched[0].weights[4])
    assert goodput_of(HOT, alone, [0])[0] == searched[1][1]
