"""A training that its agent could not play is refused before anything is written, with MLflow too."""

import os
from contextlib import ExitStack

import pytest

from hvgym.agents.learned.training import trainer_of
from hvgym.agents.policy import declared_by
from hvgym.bench import claims
from hvgym.bench.claims import held
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load_group, resolve
from tests.scripts.calling import hvgym


def test_nothing_is_left_of_a_training_with_channels_that_its_agent_does_not_declare(tmp_path):
    done = hvgym(
        "train", "agent=ppo", "scenario=idle-giants-short", "rules=default", "agent.train.channels=[memory,reclaim]",
        "out=there", "runs=kept", cwd=tmp_path, code=2,
    )  # fmt: skip
    assert "agent.train.channels: 'reclaim' sets reclaim_mib, which agent.channels lacks; add it there" in done.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("name", ["ppo", "imitation"])
def test_networks_that_keep_to_their_seat_are_not_trained_where_hosts_show_them_more(name):
    agent = load_group("agent", name) | {"signals": "seat"}
    for rules in ("open", "default"):
        scenario = resolve(load_group("scenario", "idle-giants-short"), rules=rules)
        if rules == "open":
            with pytest.raises(
                InputError, match=r"agent.signals='seat': hosts under open rules show a learner everything"
            ):
                trainer_of(agent).check_declared(declared_by(agent), [scenario])
        else:
            trainer_of(agent).check_declared(declared_by(agent), [scenario])


ES = (
    "train", "agent=es", "scenario=idle-giants-short", "agent.train.population=4", "agent.train.seeds=1",
    "agent.train.validations=1", "agent.train.total_steps=1", "agent.train.episode_s=60", "validation_seeds=1", "out=there",
)  # fmt: skip


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_training_in_a_folder_of_another_one_leaves_it_as_it_is(tmp_path):
    """Recorded in MLflow or not, and several seeds as one."""
    hvgym(*ES, "tracking=none", cwd=tmp_path)
    before = contents(tmp_path)
    for words in (["tracking=none"], ["runs=kept"]):
        done = hvgym(*ES, "agent.train.sigma=0.2", *words, cwd=tmp_path, code=2)
        assert "es on idle-giants-short: " in done.stderr
        assert "there: holds a training with other settings (settings)" in done.stderr
    assert contents(tmp_path) == before
    hvgym(*ES, "seed=[0,1]", "workers=1", "tracking=none", cwd=tmp_path)
    before = contents(tmp_path)
    hvgym(*ES, "seed=[1,2]", "agent.train.sigma=0.2", "workers=1", "runs=kept", cwd=tmp_path, code=2)
    assert contents(tmp_path) == before


def test_who_waits_for_another_training_says_so_once_and_who_could_not_go_on_is_refused_at_once(tmp_path, monkeypatch):
    looks = []
    with ExitStack() as other:
        hvgym(*ES, "tracking=none", cwd=tmp_path)
        other.enter_context(held(tmp_path / "there" / "claims", "training", lambda: False))
        monkeypatch.setattr(
            claims.time, "sleep", lambda seconds: looks.append(seconds) or len(looks) < 3 or other.close()
        )
        hvgym(*ES, "agent.train.sigma=0.2", "tracking=none", cwd=tmp_path, code=2)
        assert looks == []
        done = hvgym(*ES, "tracking=none", cwd=tmp_path)
    assert len(looks) == 3
    assert done.stderr.count(f"waits for process {os.getpid()} on ") == 1
    assert f", which trains in {tmp_path / 'there'}\n" in done.stderr


@pytest.mark.parametrize("agent", ["ppo", "imitation"])
def test_a_key_that_the_agent_does_not_have_is_refused_before_it_is_trained(agent, tmp_path):
    words = [
        "+agent.widht=4",
        "agent.train.total_steps=1",
        "agent.train.validations=1",
        "validation_seeds=1",
        "tracking=none",
    ]
    done = hvgym("train", f"agent={agent}", *words, "scenario=idle-giants-short", "out=there", cwd=tmp_path, code=2)
    assert f"agent {agent}: unknown key 'widht'; known: checkpoint" in done.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("agent", ["ppo", "imitation"])
def test_what_a_learner_cannot_be_trained_on_leaves_no_folder(agent, tmp_path):
    for words, said in (
        (["scenario=hot-host"], "scenario='hot-host': is a cluster of"),
        (
            ["scenario=idle-giants-short", "hypervisor=baremetal", "rules=default", "agent.channels=any"],
            "channels: 'memory' is not among what baremetal has inside",
        ),
    ):
        done = hvgym("train", f"agent={agent}", *words, "out=there", "runs=kept", cwd=tmp_path, code=2)
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert list(tmp_path.rglob("*")) == []
