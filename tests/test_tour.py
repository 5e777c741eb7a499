"""docs/tour.md and docs/tour.ipynb: every command runs, and gives the figures that stand there.

The cells of the notebook are run as they are, once; what they print and leave answers the questions anew.
"""

import contextlib
import importlib.util
import io
import json
import os
import re
import textwrap
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).resolve().parents[1] / "docs"


def loaded():
    spec = importlib.util.spec_from_file_location("tour_page", DOCS / "tour.py")
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


tour = loaded()
NAMES = [experiment.name for experiment in tour.EXPERIMENTS]


def sources(kind):
    cells = json.loads((DOCS / "tour.ipynb").read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def quantized(whole, colours, dither):
    """`PIL.Image.Image.quantize` by the quicker of its two ways: the other one takes half the time of these tests."""
    return ORIGINAL(whole, colours, Image.Quantize.FASTOCTREE, dither=dither)


ORIGINAL = Image.Image.quantize


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The folder in which all cells were run, and what each experiment printed, by name."""
    place, here = tmp_path_factory.mktemp("tour"), Path.cwd()
    first, *cells = sources("code")
    names, printed = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(tour.WIDTH))
        patch.setattr("sys.argv", ["hvgym"])
        patch.setattr(Image.Image, "quantize", quantized)  # which colours a film has is looked at in test_demo_cli.py
        os.chdir(place)
        try:
            exec(compile(first, "tour.ipynb", "exec"), names)
            for experiment, cell in zip(tour.EXPERIMENTS, cells, strict=True):
                text = io.StringIO()
                with contextlib.redirect_stdout(text):
                    exec(compile(cell, f"tour.ipynb: {experiment.name}", "exec"), names)
                printed[experiment.name] = text.getvalue()
        finally:
            os.chdir(here)
    return place, printed


@pytest.mark.parametrize("experiment", tour.EXPERIMENTS, ids=NAMES)
def test_the_answer_on_the_page_is_the_commands_own(experiment, played):
    place, printed = played
    answer = experiment.answer(printed[experiment.name], place / tour.folder_of(experiment))
    page = (DOCS / "tour.md").read_text()
    part = re.search(rf"## \d+\. {re.escape(experiment.title)}\n(.*?)(?=\n## |\Z)", page, re.DOTALL)[1]
    assert experiment.question in part
    assert f"hvgym {experiment.command}\n" in part
    assert f"]({experiment.shown})" in part
    assert textwrap.fill(answer, 130) in part, "make tour writes it anew"
    assert answer in sources("markdown")
    assert re.search(r"\d", answer)


@pytest.mark.parametrize("experiment", tour.EXPERIMENTS, ids=NAMES)
def test_every_command_leaves_the_picture_of_the_page(experiment, played):
    place, _ = played
    with Image.open(place / experiment.picture) as here, Image.open(DOCS / experiment.shown) as there:
        assert here.size == there.size
        assert getattr(here, "n_frames", 1) == getattr(there, "n_frames", 1)
        assert max(high - low for low, high in here.convert("RGB").getextrema()) > 100


def test_page_and_notebook_are_what_is_written_of_the_same_experiments(played):
    place, printed = played
    answers = {
        one.name: one.answer(printed[one.name], place / tour.folder_of(one)) for one in tour.EXPERIMENTS
    }  # fmt: skip
    assert (DOCS / "tour.md").read_text() == tour.page(answers), "make tour writes it anew"
    assert (DOCS / "tour.ipynb").read_text() == tour.notebook(answers), "make tour writes it anew"


def test_a_command_that_fails_fails_the_tour_and_a_demo_that_says_nothing_has_no_answer(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["hvgym"])
    broken = tour.Experiment("x", "X", "?", "lab device=e100 out=x", "x/lab.png", lambda text, folder: "")
    with pytest.raises(RuntimeError, match="exit code 2"):
        tour.run(broken)
    with pytest.raises(KeyError):
        tour.host_swap("nothing", tmp_path)


def test_there_are_ten_with_names_of_their_own():
    assert len(set(NAMES)) == len({one.question for one in tour.EXPERIMENTS}) == 10
