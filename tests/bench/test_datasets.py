"""Data sets: what is stored is what the environment did, from whichever agents, and Minari loads it."""

import gymnasium
import numpy as np
import pytest

from hvgym.agents.learned import searched
from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.policy import Policy, make_policy
from hvgym.bench import datasets, suites
from hvgym.bench.rollout import rollout
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group
from hvgym.envs.telemetry import Targets, Visibility
from tests.scripts.calling import hvgym

SCENARIO = load("no-guest-swap-short")


class Half(Policy):
    period_s = 10.0
    visibility = Visibility.P1

    def decide(self, telemetry):
        return Targets(0.7 * telemetry.vm["memory_mib"])


def played(episodes=3, reward=None, action="relative", **policies):
    return datasets.collect(SCENARIO, policies or {"half": Half()}, episodes, 0, reward, action)


@pytest.mark.parametrize("action", datasets.KINDS)
def test_what_is_stored_is_what_the_environment_does(action):
    """The stored actions, given to a fresh environment of the stored seed, bring the stored observations and rewards."""
    reward = {"churn": 2.0}
    episode = played(2, reward, action)[1]
    env = gymnasium.make(datasets.ENVIRONMENT, scenario=SCENARIO, reward=reward, action=action)
    seen = [env.reset(seed=episode.seed)[0]]
    gains = []
    for action in episode.actions:
        observation, gained, _, truncated, _ = env.step(action)
        seen.append(observation)
        gains.append(gained)
    assert truncated
    assert np.stack(seen).tobytes() == episode.observations.tobytes()
    assert gains == episode.rewards.tolist()
    assert episode.goodput > np.mean(gains)


def test_an_agent_behaves_in_it_as_in_a_rollout():
    alone = rollout(SCENARIO, Half(), [suites.training_seed(0)])
    episode = played(1, action="absolute")[0]
    # float32 actions round sizes to a thousandth of a MiB; goodput of an episode divides sums, that of steps is a mean of shares
    assert episode.goodput == pytest.approx(alone.goodput[0], abs=2e-3)
    assert episode.cost_s == pytest.approx(alone.cost[0], abs=2.0)


def test_agents_take_turns_on_seeds_of_their_own():
    policies = {name: make_policy(load_group("agent", name)) for name in ("proxmox", "random")}
    mixed = played(5, **policies)
    assert [one.agent for one in mixed] == ["proxmox", "random", "proxmox", "random", "proxmox"]
    assert [one.seed - suites.training_seed(0) for one in mixed] == [0, 1, 2, 3, 4]
    alone = played(1, proxmox=policies["proxmox"])[0]
    assert alone.actions.tobytes() == mixed[0].actions.tobytes()


def test_an_agent_that_draws_draws_anew_in_every_episode():
    one, other = played(2, action="absolute", random=make_policy(load_group("agent", "random")))
    assert np.abs(one.actions - other.actions).max() > 0.5


def test_an_agent_that_takes_what_it_gets_is_given_sizes_alone():
    full, sizes = (
        played(1, it=make_policy(load_group("agent", name)))[0] for name in ("learned_full", "learned_sizes")
    )
    assert full.actions.tobytes() == sizes.actions.tobytes()


def test_an_agent_of_other_channels_is_refused():
    with pytest.raises(
        InputError, match=r"agent senpai: answers reclaim_mib; actions of hvgym/Host-v. are memory sizes"
    ):
        played(1, senpai=make_policy(load_group("agent", "senpai")))


def test_minari_loads_it(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    episodes = played(3, {"slo": 0.5})
    name = datasets.write(episodes, SCENARIO, tmp_path, "half", "half", {"slo": 0.5})
    assert name == "hvgym/no-guest-swap-short-half-v0"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = minari.load_dataset(name)
    assert data.total_episodes == 3
    assert data.total_steps == 3 * 120
    for stored, episode in zip(data.iterate_episodes(), episodes, strict=True):
        assert np.asarray(stored.observations).tobytes() == episode.observations.tobytes()
        assert np.asarray(stored.actions).tobytes() == episode.actions.tobytes()
        assert np.asarray(stored.rewards).tolist() == episode.rewards.tolist()
        assert stored.truncations.tolist() == [False] * 119 + [True]
    told = list(data.storage.get_episode_metadata([0, 2]))
    assert [one["demand_seed"] for one in told] == [episodes[0].seed, episodes[2].seed]
    assert told[0]["agent"] == "half"
    env = data.recover_environment()
    env.reset(seed=episodes[1].seed)
    assert env.step(episodes[1].actions[0])[1] == episodes[1].rewards[0]
    with pytest.raises(InputError, match="holds hvgym/no-guest-swap-short-half-v0 already"):
        datasets.write(episodes, SCENARIO, tmp_path, "half", "half")
    assert not (tmp_path / ".new").exists()


def test_a_trained_agent_joins_in_by_its_weights(tmp_path):
    pytest.importorskip("minari")
    weights = np.zeros(len(SharedLinear.names))
    (tmp_path / "best.json").write_text(searched.text(SharedLinear.of(weights), {}))
    words = ["dataset", "agents=[static,es]", "scenario=no-guest-swap-short", "episodes=2", f"out={tmp_path / 'data'}"]
    said = hvgym(*words, f"checkpoints={{es: {tmp_path / 'best.json'}}}").stdout
    assert "hvgym/no-guest-swap-short-static-es-v0: 2 episodes" in said
    assert "checkpoints.es=" in hvgym(*words, "checkpoints={es: none.json}", code=2).stderr
    assert "agent.checkpoint is missing" in hvgym(*words, code=2).stderr
