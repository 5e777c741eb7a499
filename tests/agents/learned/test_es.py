"""Evolution strategies and the map that all VMs share: what it sees, what it answers, and that training learns and resumes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hvgym.agents.learned import es, searched
from hvgym.agents.learned.es import EvolutionStrategy
from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.learned.training import PPO, Task, Trainer, trainer_of
from hvgym.agents.learned.view import FEATURES, View
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs import view
from hvgym.envs.errors import InputError
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import load, load_group
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets

SCENARIO = replace(load("idle-giants-short"), episode_s=300)
LARGER = replace(load("web-siblings"), episode_s=300)
TINY = EvolutionStrategy(total_steps=2400, population=4, seeds=1, validations=5)
CONSTANT = FEATURES.index("constant")
LINEAR = "hvgym.agents.learned.linear.SharedLinear"


def play(scenario, policy, seeds):
    return rollout(scenario, policy, seeds, apart=False).goodput


def goodput(policy):
    return float(play(SCENARIO, policy, range(900, 902)).mean())


def task(folder, scenarios=(SCENARIO,), seed=0, first_seed=0, **others):
    return Task(scenarios, folder, seed, first_seed, play, goodput, **others)


def weights(**named):
    return np.array([named.get(name, 0.0) for name in FEATURES])


def test_weights_keep_the_profile_that_they_read(tmp_path):
    trained = replace(TINY, policy={"_target_": LINEAR, "visibility": "P3"}).train(task(tmp_path))
    assert json.loads(trained.model.read_text())["visibility"] == "P3"
    assert SharedLinear(trained.model).visibility.name == "P3"
    before = {key: value for key, value in json.loads(trained.model.read_text()).items() if key != "visibility"}
    (tmp_path / "old.json").write_text(json.dumps(before))
    assert SharedLinear(tmp_path / "old.json").visibility.name == "P1"
    with pytest.raises(InputError, match=r"agent\.train\.policy\.visibility='P9': choose one of P0, P1"):
        replace(TINY, policy={"_target_": LINEAR, "visibility": "P9"}).check((SCENARIO,))


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
    settings = EvolutionStrategy(
        total_steps=16 * 12 * 60, population=12, seeds=1, validations=4, start={"constant": -0.5}
    )
    untrained = goodput(settings.of(weights(constant=-0.5)))
    assert settings.train(task(tmp_path)).curve[-1].best > untrained + 0.05


def test_the_best_weights_are_those_with_the_best_validation(tmp_path):
    trained = TINY.train(task(tmp_path))
    first = goodput(TINY.of(TINY.first()))
    best = max(first, *(point.score for point in trained.curve))
    assert goodput(SharedLinear(trained.model)) == best == trained.curve[-1].best
    assert len(trained.curve) == TINY.validations


def test_to_halve_what_stock_loses_is_worth_the_same_in_every_scenario():
    """Goodput .4 to .7, .9 to .95, and with kills -3 to -1; below `LEAST_LOSS` nothing is won. Of a reward whose best is not known,
    it is the difference."""
    for stock, worth in ((0.4, 0.7), (0.9, 0.95), (-3.0, -1.0)):
        assert es._above(stock, np.array([stock, worth]), 1.0) == pytest.approx([0.0, np.log(2.0)])
    assert es._above(0.9, np.array([0.99, 1.0]), 1.0) == pytest.approx([np.log(5.0)] * 2)
    assert es._above(20.0, np.array([50.0]), None) == pytest.approx([30.0])


def test_what_is_validated_is_the_average_of_the_later_half_of_the_means():
    search, means = es._Search(TINY, 0), []
    for _ in range(5):
        sets = search.ask()
        search.tell(sets, sets[:, CONSTANT])
        means.append(search.mean)
    assert search.average == pytest.approx(np.mean(means[2:], axis=0))
    assert not np.allclose(search.average, search.mean)


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
    of_stock, *of_sets = asked
    assert of_sets == [4 * [7_000_000 + 2 * g, 7_000_001 + 2 * g] for g in range(len(of_sets))]
    assert len(of_sets) > 1
    assert of_stock == sorted(set(sum(of_sets, [])))  # noqa: RUF017 - all generations' at once


def test_how_far_ahead_stock_is_played_changes_no_bit(tmp_path, monkeypatch):
    """On a hypervisor where its own policy goes on beneath, whose episodes of one batch must not know of each other."""
    settings, means = replace(TINY, seeds=2), []
    played = task(tmp_path, (SCENARIO, replace(load("services-xen"), episode_s=300)), first_seed=7_000_000)
    for ahead in (1, 3):
        monkeypatch.setattr(es, "AHEAD", ahead)
        stock = es._Stock(settings, played, 5)
        means.append([stock.mean(1, generation) for generation in (0, 1, 2, 4)])
    assert means[0] == means[1]
    assert len(set(means[0])) == 4


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
    path.write_text(searched.text(SharedLinear.of(weights(constant=1.0), 0.1, 10.0), {}))
    assert SharedLinear(path).weights[0].tolist() == weights(constant=1.0).tolist()
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=rf"best.json.*{said}"):
        SharedLinear(path)


def test_a_file_from_before_a_feature_came_weighs_it_0(tmp_path):
    path = tmp_path / "best.json"
    content = json.loads(searched.text(SharedLinear.of(weights(constant=1.0, resident=2.0), 0.1, 10.0), {}))
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


def test_a_training_that_is_given_more_steps_goes_on(tmp_path):
    """The first five generations are the same, and weights are those of ten from the start."""
    whole = replace(TINY, total_steps=2 * TINY.total_steps, validations=10)
    at_once = whole.train(task(tmp_path / "at once"))
    TINY.train(task(tmp_path / "in two"))
    asked = []

    def noting(scenario, policy, seeds):
        asked.append(seeds[0])
        return play(scenario, policy, seeds)

    in_two = whole.train(replace(task(tmp_path / "in two"), play=noting))
    assert in_two.curve == at_once.curve
    assert in_two.model.read_bytes() == at_once.model.read_bytes()
    generations = -(-whole.total_steps // whole.steps_of([SCENARIO]))
    assert len(set(asked)) == generations - -(-TINY.total_steps // TINY.steps_of([SCENARIO]))
    with pytest.raises(InputError, match=r"other settings .settings"):
        replace(whole, sigma=0.2).train(task(tmp_path / "in two"))


def test_scenarios_are_drawn_for_each_generation_and_all_as_often(tmp_path):
    asked = []

    def noting(scenario, policy, seeds):
        asked.append((scenario.name, policy.declaration.needs_nothing))
        return np.full(len(seeds), 0.5)

    several = tuple(replace(SCENARIO, name=f"s{i}") for i in range(5))
    settings = replace(TINY, scenarios=2, validations=1)
    settings = replace(settings, total_steps=10 * settings.steps_of(several))
    settings.train(replace(task(tmp_path, several, seed=4), play=noting))
    of_sets = [name for name, is_stock in asked if not is_stock]
    by_generation = list(zip(of_sets[::2], of_sets[1::2], strict=True))
    assert len(by_generation) == 10
    assert len(set(by_generation)) > 2
    assert [of_sets.count(one.name) for one in several] == [4] * 5
    assert sorted(name for name, is_stock in asked if is_stock) == sorted(one.name for one in several)


def test_sets_play_the_beginning_of_an_episode_and_their_kills_cost_what_is_told(tmp_path):
    asked = []

    def noting(scenario, policy, seeds):
        asked.append((scenario.duration_s, scenario.kill_cost_s))
        return np.full(len(seeds), 0.5)

    settings = replace(TINY, episode_s=120, kill_cost_s=1800.0, validations=1)
    assert settings.steps_of([SCENARIO]) == TINY.steps_of([SCENARIO]) * 120 // SCENARIO.duration_s
    settings.train(replace(task(tmp_path), play=noting))
    assert set(asked) == {(120, 1800.0)}
    with pytest.raises(InputError, match=r"episode_s=7: must be a multiple of 5"):
        replace(TINY, episode_s=7).check([SCENARIO])


class Halves(searched.Searched):
    """A policy of one's own: the part of its memory that each VM has, and that those that matter have besides."""

    kind, names, settings = "halves", ("part", "more"), {"period_s": 5.0, "note": "none"}

    def decide(self, telemetry):
        part = 0.5 + self.weights[:, :1] + self.weights[:, 1:] * telemetry.vm["critical"]
        return Targets(np.clip(part, 0.1, 1.0) * telemetry.vm["memory_mib"])


def test_it_searches_any_policy_of_named_weights(tmp_path):
    target = f"{Halves.__module__}.Halves"
    told = {"_target_": target, "period_s": 20, "note": "own"}
    settings = trainer_of(
        {"train": {"_target_": f"{es.__name__}.EvolutionStrategy", "policy": told, "start": {"part": -0.2}}}
    )
    settings = replace(settings, total_steps=2400, population=6, seeds=1, validations=2)
    settings.check([SCENARIO])
    trained = settings.train(task(tmp_path))
    content = json.loads(trained.model.read_text())
    assert (content["kind"], content["period_s"], content["note"]) == ("halves", 20.0, "own")
    assert content["weights"]["part"] != -0.2
    played = Halves(trained.model)
    assert (played.period_s, played.weights.tolist()) == (20.0, [[*content["weights"].values()]])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"policy": {"_target_": "nowhere.Own"}}, r"agent.train.policy._target_='nowhere.Own' cannot be loaded"),
        ({"policy": {"_target_": "hvgym.agents.policy.Policy"}}, r"is no Searched"),
        ({"policy": {"stepp": 0.1}}, r"agent.train.policy.stepp: unknown key.*did you mean 'step'"),
        ({"policy": {"step": -1}}, r"agent.train.policy.step=-1: expected a number above 0"),
        ({"start": {"constnt": 1.0}}, r"agent.train.start.constnt: unknown weight"),
        ({"scenarios": 0}, r"agent.train.scenarios=0: must be at least 1"),
    ],
)
def test_a_wrong_key_is_told_before_anything_is_played(keys, said):
    with pytest.raises(InputError, match=said):
        trainer_of({"train": {"_target_": f"{es.__name__}.EvolutionStrategy"} | keys}).check([SCENARIO])


def test_what_is_trained_sits_where_its_yaml_says(tmp_path):
    outside, seen = Declaration("outside", ("memory_mib",)), []

    def noting(scenario, policy, seeds):
        seen.append(policy.declaration)
        return np.full(len(seeds), 0.5)

    TINY.train(replace(task(tmp_path, declaration=outside), play=noting))
    assert outside in seen
    assert Declaration() not in seen
    with pytest.raises(InputError, match=r"other settings .declaration"):
        TINY.train(task(tmp_path))


def test_nothing_worse_than_what_it_begins_with_is_kept(tmp_path):
    """A judge that likes the start alone: its weights stay, and every point of the curve says so."""
    first = TINY.first().tolist()

    def judge(policy):
        return 1.0 if policy.weights[0].tolist() == first else 0.0

    trained = TINY.train(replace(task(tmp_path), validate=judge))
    assert SharedLinear(trained.model).weights[0].tolist() == first
    assert json.loads(trained.model.read_text())["generations"] == 0
    assert {(point.score, point.best) for point in trained.curve} == {(0.0, 1.0)}
