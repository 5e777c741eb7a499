"""What holds for every learner with the shared network: it trains on several scenarios, is killed and goes on to the bit, plays
on any number of VMs as any agent does, and refuses files that are none of its own."""

import io
import json
import pickle
import tempfile
import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest

from hvgym.agents.learned import checkpoints, network, seeing
from hvgym.agents.learned.actor import Memory
from hvgym.agents.learned.ars import ARSTrainer
from hvgym.agents.learned.imitation import Imitation, labels
from hvgym.agents.learned.network import SharedNetwork
from hvgym.agents.learned.ppo import PPOTrainer
from hvgym.agents.learned.recurrent_ppo import RecurrentPPOTrainer
from hvgym.agents.learned.sac import SACTrainer
from hvgym.agents.learned.seeing import FEATURES, HOST, VM, Acting
from hvgym.agents.learned.training import Task, Update, trainer_of
from hvgym.agents.learned.vec_env import HostVecEnv
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.bench.training import task_of, validation_of
from hvgym.envs.errors import InputError
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import load, load_group, resolve
from hvgym.envs.simulator import Simulator

FOUR = replace(load("no-guest-swap-short"), episode_s=100)
EIGHT = replace(load("idle-giants-short"), episode_s=100)
BOTH = (FOUR, EIGHT)
SIX = replace(load("mixed-tenants"), episode_s=100)

PPO = PPOTrainer(
    total_steps=512, envs=8, n_steps=16, batch_size=64, n_epochs=2, width=8, initial_action=-0.6, validations=4
)
TINY = {
    "ppo": PPO,
    "sac": SACTrainer(
        total_steps=192, envs=8, width=8, learning_starts=40, batch_size=16, buffer_size=120, initial_action=-0.6, validations=3
    ),
    "recurrent_ppo": RecurrentPPOTrainer(
        total_steps=384, envs=8, n_steps=16, batch_size=64, n_epochs=2, width=8, attention=True, initial_action=-0.6, validations=3
    ),
    "ars": ARSTrainer(total_steps=240, n_delta=2, n_top=2, seeds=1, initial_action=-0.6, validations=3),
    "imitation": Imitation(total_steps=60, episodes=3, epochs=2, width=8, batch_size=16, validations=3),
}  # fmt: skip
LEARNERS = sorted(TINY)
SEES = Declaration("inside", ("memory_mib",), None)
"""All of its profile that its seat has."""
OF_SB3 = [name for name in LEARNERS if name != "imitation"]


def goodput(policy):
    return float(np.mean([rollout(one, policy, [1_000_000_000], apart=False).goodput for one in BOTH]))


def task(folder, seed=3, scenarios=BOTH, **others):
    return Task(scenarios, folder, seed, 0, None, others.pop("validate", goodput), **others)


class KilledError(Exception):
    pass


def stop_at(points):
    def report(point, total):
        points.append(point)
        if len(points) == 2:
            raise KilledError

    return report


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Each learner's training, from the start to its end."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = TINY[name].train(task(tmp_path_factory.mktemp(name)))
        return made[name]

    return of


def state_of(name, folder):
    """Every weight at the end of a training, not only the best network's."""
    if name == "imitation":
        school = pickle.loads((folder / "checkpoint" / "school.pkl").read_bytes())
        return network.arrays_of(school.latent, school.head)
    model, _ = checkpoints.restore(folder, TINY[name].algorithm)
    return {key: tensor.numpy() for key, tensor in model.policy.state_dict().items()}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_yaml_names_it_and_knows_all_its_keys(name):
    config = load_group("agent", name)
    trainer = trainer_of(config)
    assert type(trainer) is type(TINY[name])
    unused = {"ars": {"envs", "gamma", "stagger"}}  # its hosts are sets, seeds and scenarios, over whole episodes
    assert {field.name for field in fields(trainer)} - set(config["train"]) == unused.get(name, set())
    with pytest.raises(InputError, match=r"agent.checkpoint is missing; train first"):
        make_policy(config)


@pytest.mark.parametrize("name", LEARNERS)
def test_an_interrupted_training_ends_in_the_same_bits(name, whole, tmp_path):
    first = whole(name)
    with pytest.raises(KilledError):
        TINY[name].train(task(tmp_path, report=stop_at([])))
    resumed = TINY[name].train(task(tmp_path))
    assert resumed.curve == first.curve
    assert len(first.curve) == TINY[name].validations
    assert len({point.score for point in first.curve}) > 1  # else it had learnt nothing between
    ours, theirs = (state_of(name, one.model.parent) for one in (first, resumed))
    assert all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)


def test_sac_that_is_killed_before_it_learns_ends_in_the_same_bits(tmp_path):
    """Its first actions are drawn from the space, whose generator Stable-Baselines3 seeds anew as it reads a model."""
    late = replace(TINY["sac"], learning_starts=160)
    whole = late.train(task(tmp_path / "whole"))
    with pytest.raises(KilledError):
        late.train(task(tmp_path / "cut", report=stop_at([])))
    assert late.train(task(tmp_path / "cut")).curve == whole.curve
    ours, theirs = state_of("sac", tmp_path / "whole"), state_of("sac", tmp_path / "cut")
    assert all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)


@pytest.mark.parametrize("name", ["ppo", "sac", "recurrent_ppo", "ars"])
def test_a_multiplier_moves_once_in_a_rollout_or_in_32_decisions(name):
    trainer = replace(TINY[name], constraint={"slo_s": 60.0})
    assert trainer._lagrangian(BOTH).every == (16 if "ppo" in name else 32)


@pytest.mark.parametrize("name", LEARNERS)
def test_it_plays_any_number_of_vms_and_a_row_is_the_same_alone(name, whole):
    policy = SharedNetwork(whole(name).model)
    for scenario in (*BOTH, SIX):
        rows = rollout(scenario, policy, [5, 6, 7], apart=False).goodput
        assert np.isfinite(rows).all()
        assert rollout(scenario, policy, [6], apart=False).goodput[0] == rows[1]


@pytest.mark.parametrize("name", LEARNERS)
def test_the_best_network_is_the_one_with_the_best_validation(name, whole):
    trained = whole(name)
    best = max(point.score for point in trained.curve)
    assert goodput(SharedNetwork(trained.model)) == best == trained.curve[-1].best


@pytest.mark.parametrize("name", OF_SB3)
def test_stable_baselines3_loads_it_and_answers_alike(name, whole):
    """On observations of its own environment; recurrent networks with an empty memory."""
    path = whole(name).model
    model, ours = TINY[name].algorithm.load(path, device="cpu"), network.load(path)
    seen = HostVecEnv((EIGHT,), 5, ours.acting, seed=9).reset()
    theirs, _ = model.predict(seen, deterministic=True)
    assert ours.actor.act(features_of(seen), Memory())[:, 0] == pytest.approx(theirs, abs=1e-5)


def features_of(seen):
    """By VM, from flat observations of eight."""
    host = np.broadcast_to(seen[:, None, :HOST], (len(seen), 8, HOST))
    return np.concatenate([seen[:, HOST:].reshape(len(seen), 8, VM), host], axis=-1).astype(np.float64)


def test_a_network_plays_in_a_rollout_as_in_the_environment(whole):
    """The environment is driven by SB3's own ``load`` and ``predict``; float32 there, float64 here. Each action is alike to its
    last digits, which tip the model here and there: .0002 of goodput were seen."""
    path = whole("ppo").model
    ours = network.load(path)
    model, env = (
        PPO.algorithm.load(path, device="cpu"),
        HostVecEnv((replace(EIGHT, control_interval_s=10),), 1, Acting(), 77),
    )
    observation, goodputs = env.reset(), []
    for _ in range(10):
        action = model.predict(observation, deterministic=True)[0]
        assert ours.actor.act(features_of(observation), Memory())[:, 0] == pytest.approx(action, abs=1e-5)
        observation, reward, _, _ = env.step(action)
        goodputs.append(1.0 + reward[0] / 10.0)
    assert float(rollout(EIGHT, SharedNetwork(path), [77], apart=False).goodput[0]) == pytest.approx(
        np.mean(goodputs), abs=1e-3
    )


def test_a_training_that_is_watched_ends_in_the_same_bits(whole, tmp_path):
    updates = list[Update]()
    watched = PPO.train(task(tmp_path, watch=updates.append))
    assert watched.curve == whole("ppo").curve
    assert [update.steps for update in updates] == [128, 256, 384, 512]
    assert len({update.loss for update in updates}) == 4
    # of a Gaussian with the deviation exp(-1) that it starts with, on 6 VMs in the mean
    assert updates[0].entropy == pytest.approx(6 * (0.5 * np.log(2 * np.pi * np.e) - 1.0), rel=0.05)


def test_a_network_is_validated_once_where_validations_are_closer_than_updates(tmp_path):
    """Sixteen are wanted in 512 steps, and a rollout has 128: four networks."""
    asked = []
    trained = replace(PPO, validations=16).train(task(tmp_path, validate=lambda policy: asked.append(policy) or 0.0))
    assert len(asked) == 4
    assert [point.steps for point in trained.curve] == [128, 256, 384, 512]


def test_another_seed_is_another_training(whole, tmp_path):
    assert PPO.train(task(tmp_path, seed=4)).curve != whole("ppo").curve
    with pytest.raises(InputError, match=r"other settings .seed"):
        PPO.train(task(tmp_path, seed=5))


def test_ppo_learns(tmp_path):
    """20,000 decisions on suite micro's scenarios are enough to beat leaving all memory where it is (docs/learning-ppo.md)."""
    scenarios = [load("idle-giants-short"), load("no-guest-swap-short")]
    validate = validation_of(scenarios, 8, "ppo")
    settings = PPOTrainer(
        total_steps=20_000, envs=64, n_steps=32, batch_size=2048, learning_rate=0.01, width=0, initial_action=0.1,
        stagger=False, validations=1,
    )  # fmt: skip
    trained = settings.train(task_of(scenarios, tmp_path, 0, "ppo", validate, lambda point, total: None))
    assert trained.curve[-1].score > validate(make_policy(load_group("agent", "static"))) + 0.005


@pytest.mark.parametrize("name", ["ppo", "ars"])
def test_a_learner_outside_sets_what_its_seat_has(name, tmp_path, monkeypatch):
    """memory.high of a VM's cgroup, which nobody inside can set."""
    outside = Declaration("outside", ("memory_mib", "limit_mib"))
    kvm = resolve(
        load_group("scenario", "idle-giants-short") | {"hypervisor": "kvm", "rules": "default", "episode_s": 100}
    )
    learner = replace(TINY[name], channels=("memory", "limits"))

    def training(folder, who):
        return learner.train(task(folder, scenarios=(kvm,), declaration=who, validate=validated))

    def validated(policy):
        return float(rollout(kvm, policy, [1_000_000_000], apart=False).goodput[0])

    policy = SharedNetwork(training(tmp_path / "outside", outside).model)
    policy.declaration = outside
    asked = [decided.limit_mib for decided in decisions(policy, kvm, monkeypatch)]
    assert np.isfinite(asked).all()
    assert np.ptp(asked) > 0.0
    with pytest.raises(InputError, match="'limits' is not among what kvm has inside"):
        training(tmp_path / "inside", replace(outside, seat="inside"))
    with pytest.raises(InputError, match=r"'limits' sets limit_mib, which agent\.channels lacks"):
        training(tmp_path / "undeclared", Declaration("outside", ("memory_mib",)))
    assert not (tmp_path / "undeclared").exists()
    kvm = replace(kvm, rules="open")  # where everybody may set everything
    training(tmp_path / "open", Declaration())


@pytest.mark.parametrize("name", ["ppo", "imitation"])
def test_a_learner_is_trained_on_the_signals_that_its_agent_declares(name, tmp_path, monkeypatch):
    who, seen = Declaration(signals=frozenset({"memory_mib", "size_mib", "target_mib"})), list[np.ndarray]()
    kvm = resolve(
        load_group("scenario", "idle-giants-short") | {"hypervisor": "kvm", "rules": "default", "episode_s": 100}
    )
    step_wait = HostVecEnv.step_wait
    monkeypatch.setattr(HostVecEnv, "step_wait", lambda env: [answer := step_wait(env), seen.append(answer[0])][0])
    TINY[name].train(task(tmp_path, scenarios=(kvm,), declaration=who, validate=lambda policy: 0.0))
    features = features_of(np.concatenate(seen))
    assert features[..., FEATURES.index("size")].all()
    assert not features[..., FEATURES.index("resident")].any()
    assert not features[..., FEATURES.index("available")].any()


@pytest.mark.parametrize("name", ["ppo", "imitation"])
def test_a_learner_reads_its_profile_in_training_and_when_it_plays(name, tmp_path, monkeypatch):
    """Sampled activity on ESXi: P3 has it, P1 has not."""
    esxi = resolve(
        load_group("scenario", "idle-giants-short") | {"hypervisor": "esxi", "rules": "default", "episode_s": 200}
    )
    seen, step_wait = list[np.ndarray](), HostVecEnv.step_wait
    monkeypatch.setattr(HostVecEnv, "step_wait", lambda env: [answer := step_wait(env), seen.append(answer[0])][0])
    for profile in ("P1", "P3"):
        seen.clear()
        trainer = replace(TINY[name], visibility=profile)
        model = trainer.train(
            task(tmp_path / profile, scenarios=(esxi,), declaration=SEES, validate=lambda policy: 0.0)
        ).model
        features = features_of(np.concatenate(seen))
        assert features[..., FEATURES.index("active")].any() == (profile == "P3")
        policy = SharedNetwork(model)
        policy.declaration = SEES
        assert policy.visibility.name == profile
        read, looked = [], seeing.Eyes.look
        monkeypatch.setattr(
            seeing.Eyes, "look", lambda eyes, now, read=read, looked=looked: read.append(looked(eyes, now)) or read[-1]
        )
        rollout(esxi, policy, [5], apart=False)
        monkeypatch.setattr(seeing.Eyes, "look", looked)
        assert np.concatenate(read)[..., FEATURES.index("active")].any() == (profile == "P3")


def test_a_network_of_before_reads_what_it_was_trained_on(whole, tmp_path):
    """Weights of version 1 without a profile are of P1, and those of a profile that there is not are none."""
    for profile, says in ((None, None), ("P9", "visibility='P9': choose one of P0, P1")):
        path = tmp_path / "best.zip"
        with zipfile.ZipFile(whole("ppo").model) as old, zipfile.ZipFile(path, "w") as new:
            for member in old.namelist():
                words = json.loads(old.read(member)) if member == network.WORDS else None
                if words is not None:
                    words = {k: v for k, v in words.items() if k != "visibility"} | (
                        {"visibility": profile} if profile else {}
                    )
                new.writestr(member, old.read(member) if words is None else json.dumps(words))
        if says is None:
            assert SharedNetwork(path).visibility.name == "P1"
        else:
            with pytest.raises(InputError, match=says):
                SharedNetwork(path)


def decisions(policy, scenario, monkeypatch):
    """All that it decides in an episode."""
    decide, found = policy.decide, []
    monkeypatch.setattr(policy, "decide", lambda telemetry: found.append(decide(telemetry)) or found[-1])
    rollout(scenario, policy, [5], apart=False)
    return found


@pytest.mark.parametrize("name", OF_SB3)
def test_a_start_is_where_it_begins(name, whole, tmp_path):
    """With a step too small to move a weight, the network that comes out is the one that went in."""
    given = whole("recurrent_ppo" if name == "recurrent_ppo" else "imitation").model
    still = replace(TINY[name], width=8, validations=1, learning_rate=1e-30, start=str(given))
    trained = still.train(task(tmp_path))
    ours, theirs = network.load(given).actor.weights, network.load(trained.model).actor.weights
    assert all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)


@pytest.mark.parametrize("name", OF_SB3)
def test_what_it_began_with_is_the_best_until_another_is_better(name, whole, tmp_path):
    """Here none is: scores fall. Killed right after it was validated, it goes on to the same bits."""
    given = whole("recurrent_ppo" if name == "recurrent_ppo" else "imitation").model
    begun = replace(TINY[name], width=8, start=str(given))

    def falling():
        scores = iter(range(9, 0, -1))
        return lambda policy: float(next(scores))

    trained = begun.train(task(tmp_path / "whole", validate=falling()))
    assert trained.curve[0].steps == 0
    assert {point.best for point in trained.curve} == {9.0}
    ours, theirs = network.load(given).actor.weights, network.load(trained.model).actor.weights
    assert all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)

    def kill(point, total):
        raise KilledError

    with pytest.raises(KilledError):
        begun.train(task(tmp_path / "killed", validate=falling(), report=kill))
    begun.train(task(tmp_path / "killed", validate=falling()))
    one, two = (state_of(name, tmp_path / folder) for folder in ("whole", "killed"))
    assert all(one[key].tobytes() == two[key].tobytes() for key in one)


class Holds:
    """A reward that no checkpoint could keep."""

    def __init__(self):
        self.taken = lambda step: step.terms["goodput"]

    def __call__(self, step):
        return self.taken(step)


def test_what_cannot_begin_leaves_the_folder_to_the_next(tmp_path):
    wrong = replace(PPO, reward={"_target_": f"{__name__}.Holds"})
    with pytest.raises(
        InputError, match=r"agent.train.reward: cannot be kept in a checkpoint \(AttributeError: Can't pickle"
    ):
        wrong.train(task(tmp_path))
    assert not (tmp_path / "training.json").exists()
    replace(PPO, total_steps=128, validations=1).train(task(tmp_path))


def test_a_start_of_another_form_is_refused(whole, tmp_path):
    still = replace(PPO, start=str(whole("imitation").model))
    with pytest.raises(InputError, match=r"agent.train.start=.*: a network of another form"):
        replace(still, width=4).train(task(tmp_path / "wide"))
    with pytest.raises(InputError, match=r"agent.train.start=nowhere.zip: no such file"):
        replace(still, start="nowhere.zip").check(BOTH)


@pytest.mark.parametrize(
    ("steps", "rounds", "kinds", "played"), [(44, 1, 1, 50), (40, 2, 1, 40), (170, 2, 3, 200), (160, 2, 3, 160)]
)
def test_imitation_plays_as_many_rounds_as_it_is_told(steps, rounds, kinds, played, tmp_path):
    """Episodes of 10 decisions, those of the third scenario of 20: 85 decisions are 2, 2 and 3 episodes of each, 100."""
    scenarios = (FOUR, EIGHT, replace(EIGHT, episode_s=200))[:kinds]
    tiny = replace(TINY["imitation"], total_steps=steps, validations=rounds, epochs=1)
    scores = iter(range(99))
    curve = tiny.train(task(tmp_path, scenarios=scenarios, validate=lambda policy: float(next(scores)))).curve
    assert [point.steps for point in curve] == [played * (turn + 1) // rounds for turn in range(rounds)]


@pytest.mark.parametrize("action", ["relative", "absolute"])
def test_a_label_is_the_action_that_asks_for_the_size(action):
    sim = Simulator(EIGHT, 2)
    telemetry = sim.reset([1, 2])
    memory, least, asked = (telemetry.vm[name] for name in ("memory_mib", "min_mib", "target_mib"))
    sizes = np.clip(asked - 0.03 * memory, least, memory)
    settings = replace(TINY["imitation"], action=action)
    told = labels(sizes, telemetry, settings)[:, None]
    assert settings.acting.targets(told, telemetry).memory_mib == pytest.approx(sizes, rel=1e-5)


# ---- what is refused


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"period_s": 7.0}, "agent.train.period_s=7: no-guest-swap-short has episodes of 100 s"),
        ({"envs": 1}, "agent.train.envs=1: at least one for each of 2 scenarios"),
        ({"channels": ("move",)}, r"channels=\['move'\]: choose of memory"),
    ],
)
def test_settings_that_cannot_be_trained_are_one_line(change, said):
    with pytest.raises(InputError, match=said):
        replace(PPO, **change).check(BOTH)


def test_ars_with_more_best_directions_than_directions_is_one_line():
    with pytest.raises(InputError, match=r"agent.train.n_top=5: at most n_delta, 2"):
        replace(TINY["ars"], n_top=5).check(BOTH)


def rewritten(source, target, **members):
    """A copy of an archive with members replaced; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = members.get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


class Harm:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_playing_a_network_runs_no_code_that_it_carries(whole, tmp_path):
    """Pickles lie in what SB3 would load, or among the arrays themselves."""
    mark, content = tmp_path / "mark", io.BytesIO()
    given, harm = whole("ppo").model, pickle.dumps(Harm(mark))
    SharedNetwork(rewritten(given, tmp_path / "best.zip", data=harm, **{"policy.pth": harm}))
    np.savez(content, **{"head.linear.weight": np.array(Harm(mark), dtype=object)})
    with pytest.raises(InputError, match=r"bad.zip: not a best.zip"):
        SharedNetwork(rewritten(given, tmp_path / "bad.zip", **{network.WEIGHTS: content.getvalue()}))
    assert not mark.exists()


def test_a_file_that_is_none_of_its_own_is_refused_by_name(whole, tmp_path):
    given = whole("ppo").model
    with zipfile.ZipFile(given) as archive:
        words = json.loads(archive.read(network.WORDS))
    for change, said in (
        ({"kind": "other"}, "does not say"),
        ({"features": ["present"]}, "it sees features"),
        ({"period_s": 0}, "period_s=0"),
        ({"acting": {"action": "sideways", "step": 0.1, "channels": ["memory"]}}, "sideways"),
        ({"acting": words["acting"] | {"channels": ["memory", "disk"]}}, "answers 1 numbers a VM"),
        ({"period_s": "x"}, "could not convert string to float"),
    ):
        with pytest.raises(InputError, match=rf"best.zip: not a best.zip as hvgym train writes it .*{said}"):
            SharedNetwork(rewritten(given, tmp_path / "best.zip", **{network.WORDS: json.dumps(words | change)}))
    with pytest.raises(InputError, match=r"nowhere.zip: no such file"):
        SharedNetwork("nowhere.zip")


@pytest.mark.parametrize("length", [0, 100, 5000])
def test_a_network_that_was_cut_short_is_one_line(whole, tmp_path, length):
    (tmp_path / "best.zip").write_bytes(whole("ppo").model.read_bytes()[:length])
    with pytest.raises(InputError, match=r"best.zip: not a best.zip as hvgym train writes it") as caught:
        SharedNetwork(tmp_path / "best.zip")
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused(whole, tmp_path):
    arrays = dict(network.load(whole("ppo").model).actor.weights)
    arrays["head.linear.bias"] = np.array([np.nan], np.float32)
    content = io.BytesIO()
    np.savez(content, **arrays)
    with pytest.raises(InputError, match="its weights are not finite numbers"):
        SharedNetwork(rewritten(whole("ppo").model, tmp_path / "best.zip", **{network.WEIGHTS: content.getvalue()}))


# ---- interrupted and damaged trainings


@pytest.mark.parametrize("file", ["state.pkl", "model.zip", "best.zip"])
def test_a_damaged_checkpoint_is_named_and_the_training_ends_in_the_same_bits(whole, tmp_path, capsys, file):
    with pytest.raises(KilledError):
        PPO.train(task(tmp_path, report=stop_at([])))
    damaged = tmp_path / file if file == "best.zip" else tmp_path / "checkpoint" / file
    damaged.write_bytes(damaged.read_bytes()[:200])
    capsys.readouterr()
    resumed = PPO.train(task(tmp_path))
    said = capsys.readouterr().err
    assert "checkpoint: damaged" in said
    assert said.count("\n") == 1
    assert resumed.curve == whole("ppo").curve


def test_a_damaged_checkpoint_leaves_the_older_one(tmp_path, capsys):
    settings = replace(PPO, total_steps=128, validations=1)
    settings.train(task(tmp_path))
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.pkl").write_bytes(b"")
    points = []
    settings.train(task(tmp_path, report=lambda point, total: points.append(point)))
    assert points == []  # the older one was at the end
    assert "checkpoint: damaged" in capsys.readouterr().err


def test_a_training_that_diverges_is_one_line_with_seed_and_step(tmp_path):
    with pytest.raises(InputError, match=r"the training with seed 4 diverged by step \d+: the network") as caught:
        replace(PPO, learning_rate=1e30).train(task(tmp_path, seed=4))
    assert len(str(caught.value)) < 200


def test_a_training_leaves_nothing_outside_its_folder(tmp_path, monkeypatch):
    """Stable-Baselines3's logger makes a folder of its own where temporary files lie."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "temporary").mkdir()
    replace(PPO, total_steps=128, validations=1).train(task(tmp_path / "training", validate=lambda policy: 0.0))
    assert list((tmp_path / "temporary").iterdir()) == []
