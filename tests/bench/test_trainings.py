"""A training that its agent could not play is refused before anything is written, with MLflow too."""

import pytest

from hvgym.agents.learned.training import trainer_of
from hvgym.agents.policy import declared_by
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
