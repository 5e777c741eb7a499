"""A learner from outside the package: a trainer, its policy and one YAML in a folder of the user's own."""

import json
import sys

import pytest

from hvgym.agents import beside
from hvgym.agents.learned.training import trainer_of
from hvgym.bench import jobs
from hvgym.bench.identity import code_of
from hvgym.bench.jobs import Job, job_file, read_job, run_job
from hvgym.bench.retraining import train_again
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load

SCENARIO = load("no-guest-swap-short").to_dict() | {"episode_s": 120}

POLICY = """
import json
from pathlib import Path

from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets


class Share(Policy):
    def __init__(self, checkpoint):
        self.share = json.loads(Path(checkpoint).read_text())

    def decide(self, telemetry):
        return Targets(telemetry.vm["memory_mib"] * self.share)
"""

TRAINER = """
import json
from dataclasses import dataclass

from hvgym.agents.learned.training import Trained, Trainer, Validation
from shares import Share


@dataclass(frozen=True)
class Tries(Trainer):
    total_steps: int = 30
    validations: int = 3

    def train(self, task):
        task.claim(self)
        model, curve, best = task.folder / "best.json", [], -1e9
        for tried in range(1, self.validations + 1):
            trial = task.folder / "trial.json"
            trial.write_text(json.dumps({first} - 0.1 * tried))
            score = task.validate(Share(trial))
            if score > best:
                best = score
                model.write_text(trial.read_text())
            curve.append(Validation(10 * tried, score, best))
            task.report(curve[-1], self.total_steps)
        return Trained(model, tuple(curve))
"""

OURS = {"name": "ours", "description": "", "_target_": "shares.Share", "train": {"_target_": "tries.Tries"}}


def write(folder, first):
    (folder / "agent" / "shares.py").write_text(POLICY)
    (folder / "agent" / "tries.py").write_text(TRAINER.replace("{first}", str(first)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's --config-dir; what was imported from it is forgotten afterwards."""
    paths = list(sys.path)
    monkeypatch.setattr(beside, "_BESIDE", [])
    (tmp_path / "mine" / "agent").mkdir(parents=True)
    write(tmp_path / "mine", 1.1)
    beside.make_importable([tmp_path / "mine"])
    yield tmp_path / "mine"
    sys.path[:] = paths
    for name in ("shares", "tries"):
        sys.modules.pop(name, None)
    jobs._imported.clear()


def test_it_trains_and_plays_in_a_study_and_what_it_left_is_played(folder, tmp_path):
    done = run_job(Job(OURS, SCENARIO, 0, 2, 2, code_of(OURS)), tmp_path)
    assert [point["steps"] for point in done.curve] == [10, 20, 30]
    scores = [point["score"] for point in done.curve]
    assert done.curve[-1]["best"] == max(scores)
    share = json.loads((tmp_path / done.model).read_text())
    assert share == pytest.approx(1.0 - 0.1 * scores.index(max(scores)))
    assert len(done.rows) == 2


def test_the_trainers_code_is_part_of_what_its_rows_are(folder):
    before = code_of(OURS)
    write(folder, 1.05)
    assert code_of(OURS) != before
    policy_of_the_package = {"name": "o", "_target_": "hvgym.agents.stock.Stock", "train": {"_target_": "tries.Tries"}}
    assert code_of(policy_of_the_package) != ""


def test_a_text_that_is_longer_than_a_name_of_a_file_may_be_is_none(folder):
    """255 bytes between two slashes: a docstring of one paragraph, or a key of the YAML."""
    file = folder / "agent" / "shares.py"
    file.write_text(f'"""{"A share of each, " * 20}"""\n' + file.read_text())
    assert code_of(OURS | {"note": "of all " * 50, "plain": "x" * 300}) != ""


def test_it_is_trained_again_and_compared_whatever_the_form_of_its_model(folder, tmp_path):
    job = Job(OURS, SCENARIO, 0, 2, 2, code_of(OURS))
    run_job(job, tmp_path)
    done = read_job(tmp_path, job)
    assert job_file(tmp_path, job).is_file()
    assert train_again(done, done, tmp_path, job.seeds) == ([], [])
    (tmp_path / done.model).write_text("0.5")
    assert train_again(done, done, tmp_path, job.seeds)[0] == ["best.json differs"]


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ("None", r"tries.Tries.train: left NoneType; expected Trained\(model, curve\)"),
        ("Trained(model, ())", "left Trained; expected .* a point for each validation"),
        (
            "Trained(task.folder / 'trial.json', tuple(curve))",
            r"its model is .*trial.json; expected a file best.SUFFIX in ",
        ),
        (
            "Trained(task.folder / 'best.zip', tuple(curve))",
            r"its model is .*best.zip; expected a file best.SUFFIX in ",
        ),
    ],
)
def test_what_it_leaves_has_to_be_a_model_and_a_curve(folder, tmp_path, left, said):
    file = folder / "agent" / "tries.py"
    file.write_text(file.read_text().replace("Trained(model, tuple(curve))", left))
    with pytest.raises(InputError, match=rf"ours on no-guest-swap-short.*: .*{said}"):
        run_job(Job(OURS, SCENARIO, 0, 2, 2, code_of(OURS)), tmp_path)


def test_a_trainer_must_not_hide_behind_a_module_of_the_same_name(folder):
    (folder / "agent" / "statistics.py").write_text(TRAINER.replace("{first}", "1.0"))
    with pytest.raises(InputError, match=r"agent.train._target_='statistics.Tries': .*statistics.py.; rename it"):
        trainer_of(OURS | {"train": {"_target_": "statistics.Tries"}})


def test_a_trainer_takes_any_scenarios_unless_it_says_otherwise(folder):
    several = [load("no-guest-swap-short"), load("idle-giants-short")]
    trainer_of(OURS).check(several)
    with pytest.raises(InputError, match=r"agent.train.envs=1: at least one for each of 2 scenarios"):
        trainer_of({"train": {"envs": 1}}).check(several)
