"""``hvgym replay``: a row of a study, live or as a GIF, of a host alone and of a cluster."""

import math
from dataclasses import replace

import pytest
from PIL import Image

from hvgym.bench import film as films
from hvgym.bench.protocol import Protocol
from hvgym.bench.study import run_study
from hvgym.bench.suites import Suite
from hvgym.envs.scenario import load, load_group
from hvgym.scripts import cli


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Two agents on a host alone, and one on a cluster."""
    place = tmp_path_factory.mktemp("runs") / "studies"
    scenarios = {"host": load("no-guest-swap-short"), "cluster": replace(load("n-plus-one"), episode_s=1800)}
    agents = {"host": ("stock", "proxmox"), "cluster": ("stock",)}
    for name, scenario in scenarios.items():
        suite = Suite(name, "", (scenario.name,), agents[name], eval_seeds=2)
        found = tuple(load_group("agent", agent) for agent in agents[name])
        run_study(Protocol(suite, found, (scenario.to_dict(),), {"code": "ours"}), place / name, 1)
    return place


def said(capsys, *words, code=0):
    assert cli.main(["replay", *words]) == code
    return capsys.readouterr()


def test_a_row_is_shown_and_comes_out_as_it_was(played, capsys):
    text = said(capsys, str(played / "host"), "agent=proxmox", "seed=1", "speed=0").out
    assert "proxmox on no-guest-swap-short, evaluation seed 2000000001: goodput " in text
    assert "no-guest-swap-short under proxmox" in text
    assert "goodput so far" in text
    assert text.endswith("the row is equal to that of the study, to the bit\n")


def test_a_number_counts_all_seeds_of_a_study_that_has_grown(played, capsys):
    scenario, agents = load("no-guest-swap-short"), (load_group("agent", "stock"), load_group("agent", "static"))
    for seeds in (2, 4):
        suite = Suite("grown", "", (scenario.name,), ("stock", "static"), eval_seeds=seeds)
        run_study(Protocol(suite, agents, (scenario.to_dict(),), {"code": "ours"}), played / "grown", 1)
    for seed in ("3", "2000000003"):
        text = said(capsys, str(played / "grown"), "agent=static", f"seed={seed}", "speed=0").out
        assert "static on no-guest-swap-short, evaluation seeds 2 to 3, evaluation seed 2000000003" in text
    error = said(capsys, str(played / "grown"), "agent=static", "seed=4", code=2).err
    assert "seed=4: not played; the evaluation seeds are 2000000000 to 2000000003, or 0 to 3 for short" in error


def test_a_row_of_a_cluster_is_shown(played, capsys):
    text = said(capsys, str(played / "cluster"), "seed=2000000001", "speed=0").out
    assert "stock on n-plus-one, evaluation seed 2000000001" in text
    assert "VMs worst" in text
    assert "equal to that of the study" in text


@pytest.mark.parametrize(("study", "size"), [("host", (640, 480)), ("cluster", None)])
def test_a_gif_has_the_episode_from_its_start_to_its_end(played, study, size, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(films, "MOST_FRAMES", 30)
    out = tmp_path / "film.gif"
    text = said(capsys, str(played / study), "agent=stock", f"out={out}").out
    assert text.endswith(f"the row is equal to that of the study, to the bit\n{out}\n")
    scenario = load("no-guest-swap-short") if study == "host" else replace(load("n-plus-one"), episode_s=1800)
    intervals = scenario.duration_s // scenario.control_interval_s
    with Image.open(out) as film:
        assert film.n_frames == math.ceil(intervals / math.ceil(intervals / 30))
        assert size in (None, film.size)
        film.seek(film.n_frames - 1)
        assert film.info["duration"] == 3000
        last = film.convert("RGB")
        film.seek(0)
        assert last.tobytes() != film.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "agent is missing; this study has: stock, proxmox"),
        (("agent=proxmx",), "agent=proxmx: has no finished job in this study (did you mean 'proxmox'?)"),
        (("agent=stock", "scenario=x"), "scenario=x: has no finished job in this study; has: no-guest-swap-short"),
        (("agent=stock", "train_seed=3"), "train_seed=3: has no finished job in this study; has: 0"),
        (("agent=stock", "seed=2"), "seed=2: not played; the evaluation seeds are 2000000000 to 2000000001, or 0 to 1"),
        (("agent=stock", "out=film.mp4"), "out=film.mp4: expected a file that ends in .gif"),
        (("agent=stock", "speed=-1"), "speed=-1: expected a number, at least 0"),
    ],
)
def test_words_that_are_wrong(played, words, message, capsys):
    assert message in said(capsys, str(played / "host"), *words, code=2).err


def test_a_study_must_be_named(capsys):
    assert "study is missing" in said(capsys, code=2).err
