"""What a training leaves that is refused before it begins."""

import pytest

from hvgym.bench.training_tracking import Training
from hvgym.bench.trainings import run_training
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group


def refused(folder):
    """A training on channels that its agent does not declare."""
    agent = load_group("agent", "ppo")
    agent["train"] |= {"channels": ["memory", "reclaim"]}
    scenario = load("idle-giants-short").to_dict() | {"rules": "default"}
    with pytest.raises(InputError, match=r"'reclaim' sets reclaim_mib, which agent.channels lacks"):
        run_training(Training(agent, (scenario,), "idle-giants-short", 0, 1, folder, {}, {}))


def test_a_new_folder_is_taken_away_again(tmp_path):
    refused(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_was_there_stays(tmp_path):
    (tmp_path / "best.zip").write_text("mine")
    refused(tmp_path)
    assert (tmp_path / "best.zip").read_text() == "mine"
