"""Evolution strategies and the map that all VMs share: what it sees, what it answers, and that training learns and resumes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.learned import es, linear
from hvgym.agents.learned.es import EvolutionStrategy
from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.training import PPO, Task, Trainer, trainer_of
from hvgym.agents.learned.view import FEATURES, View
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs import view
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

SCENARIO = replace(load("idle-giants-short"), episode_s=300)
LARGER = replace(load("web-siblings"), episode_s=300)
TINY = EvolutionStrategy(total_steps=2400, population=4, seeds=1, validations=5)
CONSTANT = FEATURES.index("constant")


def play(scenario, policy, seeds):
    return rollout(scenario, policy, seeds, apart=False).goodput


def goodput(policy):
    return float(play(SCENARIO, policy, range(900, 902)).mean())


def task(folder, scenarios=(SCENARIO,), seed=0, first_seed=0, **others):
    return Task(scenarios, folder, seed, first_seed, play, goodput, **others)


def weights(**named):
    return np.array([named.get(name, 0.0) for name in FEATURES])


def test_a_size_moves_by_step_times_the_squashed_pull_within_its_bounds():
    """A pull of 1 moves by half of the step; of 0 leaves the size; -3 pulls by three quarters, down to the minimum."""
    sim = Simulator(SCENARIO, 1)
    telemetry = sim.reset([1])
    memory, least = telemetry.vm["memory_mib"], telemetry.vm["min_mib"]

    def answer(pull):
        policy = SharedLinear.of(weights(constant=pull), 0.1, 10.0)
        policy.reset(telemetry, 0)
        return policy.decide(telemetry).memory_mib

    target = telemetry.vm["target_mib"]
    assert answer(0.0) == pytest.approx(target)
    assert answer(-3.0) == pytest.approx(np.clip(target - 0.075 * memory, least, memory))
    assert (answer(1.0) <= memory).all()


def test_each_lane_has_its_own_weights():
    grow, shrink = weights(constant=2.0), weights(constant=-2.0)
    both = play(SCENARIO, SharedLinear.of(np.array([grow, shrink]), 0.1, 10.0), [5, 5])
    alone = [play(SCENARIO, SharedLinear.of(one, 0.1, 10.0), [5])[0] for one in (grow, shrink)]
    assert both.tolist() == alone
    assert both[0] != both[1]


def test_one_policy_plays_any_number_of_vms(tmp_path):
    trained = TINY.train(task(tmp_path, (SCENARIO, LARGER)))
    policy = SharedLinear(trained.model)
    assert len(SCENARIO.groups) != len(load("mixed-tenants").groups)
    for scenario in (SCENARIO, LARGER, replace(load("mixed-tenants"), episode_s=300)):
        assert np.isfinite(play(scenario, policy, [1])).all()
    assert json.loads(trained.model.read_text())["trained_on"] == [SCENARIO.name, LARGER.name]


def test_training_learns(tmp_path):
    """From shrinking all VMs, some generations are enough to let them grow."""
    settings = EvolutionStrategy(total_steps=16 * 12 * 60, population=12, seeds=1, validations=4, initial_growth=-0.5)
    untrained = goodput(settings.policy(weights(constant=-0.5)))
    assert settings.train(task(tmp_path)).curve[-1].best > untrained + 0.05


def test_the_best_weights_are_those_with_the_best_validation(tmp_path):
    trained = TINY.train(task(tmp_path))
    best = max(point.score for point in trained.curve)
    assert goodput(SharedLinear(trained.model)) == best == trained.curve[-1].best
    assert len(trained.curve) == TINY.validations


def test_a_training_that_was_stopped_ends_in_the_same_bits(tmp_path):
    whole = TINY.train(task(tmp_path / "whole", seed=3))

    def stop(point, total):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            TINY.train(task(tmp_path / "cut", seed=3, report=stop))
    resumed = TINY.train(task(tmp_path / "cut", seed=3))
    assert resumed.curve == whole.curve
    assert resumed.model.read_bytes() == whole.model.read_bytes()
    assert TINY.train(task(tmp_path / "other", seed=4)).model.read_bytes() != whole.model.read_bytes()


def test_a_damaged_checkpoint_begins_anew_and_says_so(tmp_path, capsys):
    whole = TINY.train(task(tmp_path))
    (tmp_path / es.CHECKPOINT).write_bytes(b"cut")
    again = TINY.train(task(tmp_path))
    assert "damaged" in capsys.readouterr().err
    assert again.curve == whole.curve


def test_each_generation_has_seeds_of_its_own_and_all_sets_the_same(tmp_path):
    asked = []

    def noting(scenario, policy, seeds):
        asked.append(list(seeds))
        return play(scenario, policy, seeds)

    replace_seeds = replace(TINY, seeds=2, total_steps=1000, validations=1)
    replace_seeds.train(replace(task(tmp_path, first_seed=7_000_000), play=noting))
    of_stock, of_sets = asked[0::2], asked[1::2]
    assert of_stock == [[7_000_000 + 2 * g, 7_000_001 + 2 * g] for g in range(len(of_stock))]
    assert of_sets == [4 * seeds for seeds in of_stock]


def test_updates_are_told(tmp_path):
    updates = []
    TINY.train(task(tmp_path, watch=updates.append))
    steps = TINY.steps_of([SCENARIO])
    assert [update.steps for update in updates] == [steps * (g + 1) for g in range(len(updates))]
    assert all(update.reward <= 1.0 for update in updates)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content | {"kind": "other"}, "its kind is not"),
        (lambda content: content | {"weights": content["weights"] | {"extra": 1.0}}, "extra"),
        (lambda content: content | {"weights": {**content["weights"], "constant": float("nan")}}, "not finite"),
        (lambda content: {"kind": content["kind"]}, "weights"),
        (lambda content: [content], "its kind is not"),
    ],
)
def test_a_file_that_is_none_of_weights_is_refused_by_name(tmp_path, change, said):
    path = tmp_path / "best.json"
    path.write_text(linear.text(weights(constant=1.0), 0.1, 10.0, {}))
    assert SharedLinear(path).weights[0].tolist() == weights(constant=1.0).tolist()
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=rf"best.json.*{said}"):
        SharedLinear(path)


def test_a_file_from_before_a_feature_came_weighs_it_0(tmp_path):
    path = tmp_path / "best.json"
    content = json.loads(linear.text(weights(constant=1.0, resident=2.0), 0.1, 10.0, {}))
    del content["weights"]["resident"]
    path.write_text(json.dumps(content))
    assert SharedLinear(path).weights[0].tolist() == weights(constant=1.0).tolist()


def test_each_vm_sees_its_own_features_then_those_of_its_host():
    telemetry = Simulator(SCENARIO, 2).reset([1, 2])
    seen, (vms, hosts) = View().look(telemetry), view.View().look(telemetry)
    assert seen.shape == (*telemetry.vm.shape, len(FEATURES))
    assert (seen[..., CONSTANT] == 1.0).all()
    assert (seen[..., FEATURES.index("size")] == vms[..., view.VM_FEATURES.index("size")]).all()
    assert (seen[..., FEATURES.index("free")] == hosts[..., view.HOST_FEATURES.index("free")]).all()


def test_without_weights_it_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="hvgym train agent=es"):
        make_policy(load_group("agent", "es"))
    with pytest.raises(InputError, match="no such file"):
        SharedLinear(tmp_path / "none.json")


def test_a_yaml_names_its_trainer():
    assert isinstance(trainer_of(load_group("agent", "es")), EvolutionStrategy)
    assert type(trainer_of(load_group("agent", "ppo"))).__name__ == PPO.rpartition(".")[2]
    with pytest.raises(InputError, match=r"agent.train._target_='nowhere.Own' cannot be loaded"):
        trainer_of({"train": {"_target_": "nowhere.Own"}})
    with pytest.raises(InputError, match=r"is no Trainer"):
        trainer_of({"train": {"_target_": "hvgym.agents.policy.Policy"}})
    with pytest.raises(InputError, match=r"agent.train.populaton: unknown key"):
        trainer_of({"train": {"_target_": "hvgym.agents.learned.es.EvolutionStrategy", "populaton": 3}})
    assert issubclass(EvolutionStrategy, Trainer)
