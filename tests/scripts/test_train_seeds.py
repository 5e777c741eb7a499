"""``hvgym train seed=[0,1]``: a network a seed, each as if it had been trained alone."""

import pytest

from hvgym.agents.learned.network import load
from hvgym.bench.progress import by_step, read
from hvgym.scripts import cli

TINY = [
    "train", "agent=ppo", "scenario=no-guest-swap-short", "validation_seeds=1", "agent.train.total_steps=256",
    "agent.train.envs=8", "agent.train.n_steps=16", "agent.train.batch_size=64", "agent.train.n_epochs=1",
    "+agent.train.validations=2",
]  # fmt: skip


def curve(folder):
    return [line["goodput"] for line in by_step(read(folder / "progress.jsonl"), "validate").values()]


def weights(folder):
    return {name: array.tolist() for name, array in load(folder / "best.zip").actor.weights.items()}


def test_several_seeds_are_trained_as_each_alone_and_recorded_by_the_one_that_leads(tmp_path, capsys):
    assert cli.main([*TINY, "seed=[0,1]", "workers=1", f"runs={tmp_path / 'both'}"]) == 0
    said = capsys.readouterr().out
    assert "[2/2] ppo on no-guest-swap-short seed 1: best validation goodput" in said
    assert cli.main([*TINY, "seed=1", f"runs={tmp_path / 'alone'}", "tracking=none"]) == 0
    name = "ppo-no-guest-swap-short-1"
    both, alone = (tmp_path / runs / "training" / name for runs in ("both", "alone"))
    assert curve(both) == curve(alone)
    assert len(curve(both)) == 2
    assert weights(both) == weights(alone)
    assert weights(both) != weights(both.with_name("ppo-no-guest-swap-short-0"))

    from hvgym.bench.recording import open_store

    client = open_store(tmp_path / "both")
    experiment = client.get_experiment_by_name("hvgym/train")
    found = client.search_runs([experiment.experiment_id])
    assert sorted((run.info.run_name, run.info.status) for run in found) == [
        ("ppo-no-guest-swap-short-0", "FINISHED"),
        ("ppo-no-guest-swap-short-1", "FINISHED"),
    ]
    capsys.readouterr()
    assert cli.main([*TINY, "seed=[1,0]", "workers=1", f"runs={tmp_path / 'both'}"]) == 0  # finds both
    assert len(client.search_runs([experiment.experiment_id])) == 2


@pytest.mark.parametrize("seed", ["[]", "[0,0]", "[0,-1]", "[0,x]", "[0,1.5]"])
def test_seeds_that_are_none_are_one_line(seed, tmp_path, capsys):
    assert cli.main([*TINY, f"seed={seed}", f"runs={tmp_path}", "tracking=none"]) == 2
    assert "expected whole numbers, at least 0" in capsys.readouterr().err
