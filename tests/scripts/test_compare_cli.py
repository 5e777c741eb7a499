"""``hvgym compare`` and ``stop=decided`` as they are typed, on small studies."""

import csv
import json
import shutil
import subprocess

import pytest

from tests.scripts.calling import hvgym

pytestmark = pytest.mark.usefixtures("no_pictures")

BENCH = [
    "bench",
    "suite=micro",
    "agents=[static,proxmox]",
    "tracking=none",
    "workers=1",
    "scenario=no-guest-swap-short",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A study of eight seeds that was begun with four, and a copy elsewhere."""
    place = tmp_path_factory.mktemp("place")
    hvgym(*BENCH, "suite.eval_seeds=4", "study=s", cwd=place)
    grown = hvgym(*BENCH, "suite.eval_seeds=8", "study=s", cwd=place).stdout
    assert "study s: 8 jobs, 4 agents, 1 scenarios, 8 evaluation seeds" in grown
    assert "proxmox on no-guest-swap-short, evaluation seeds 4 to 7: goodput" in grown
    shutil.copytree(place / "runs" / "studies" / "s", place / "other runs" / "s, too")
    return place


def test_a_study_that_has_grown_is_reported_and_compared(place):
    assert "agent" in hvgym("report", "s", cwd=place).stdout
    text = hvgym("compare", "s", "to=static", "margin=0.5", cwd=place).stdout
    assert "proxmox" in text
    assert "against static: 1 scenario x 8 evaluation seeds" in text
    assert "Equivalent, or by less than 0.5" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "Holm-corrected" in text
    asked_less = hvgym(*BENCH, "suite.eval_seeds=4", "study=s", cwd=place).stdout
    assert "8 evaluation seeds" in asked_less


def test_tables_are_written_for_papers(place):
    for ending in ("csv", "md", "tex"):
        assert hvgym("compare", "s", f"out=table.{ending}", cwd=place).stdout.endswith(f"table.{ending}\n")
    rows = list(csv.DictReader((place / "table.csv").read_text().splitlines()))
    assert len(rows) == 3
    assert {row["eval_seeds"] for row in rows} == {"8"}
    assert (place / "table.md").read_text().startswith("| agent | against |")
    assert "\\toprule" in (place / "table.tex").read_text()
    (place / "folder.md").mkdir()
    error = hvgym("compare", "s", "out=folder.md", cwd=place, code=2).stderr
    assert "out=folder.md: cannot be written there" in error
    assert ".folder.md." not in error


def test_the_latex_table_compiles(place):
    if not shutil.which("pdflatex"):
        pytest.skip("pdflatex is not installed (Debian: texlive-latex-base, texlive-latex-recommended for booktabs)")
    hvgym("compare", "s", "margin=0.5", "out=paper/table.tex", cwd=place)
    page = (
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\scriptsize\\input{table.tex}\\end{document}"
    )
    (place / "paper" / "page.tex").write_text(page)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"], cwd=place / "paper", capture_output=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (place / "paper" / "page.pdf").stat().st_size > 1000


def test_studies_are_compared_by_path_whatever_it_is_called(place):
    text = hvgym("compare", "s", "other runs/s, too", cwd=place).stdout
    assert "+0.0000" in text
    assert "alike to" in text
    assert "too)" in text
    shutil.copytree(place / "runs" / "studies" / "s", place / "older" / "s")
    hvgym("compare", "s", "older/s", "out=two.csv", cwd=place)
    rows = list(csv.DictReader((place / "two.csv").read_text().splitlines()))
    assert {(row["agent"].partition(" ")[2], row["against"].partition(" ")[2]) for row in rows} == {
        ("(older/s)", "(s)")
    }
    assert "'s' is there twice" not in text
    assert "one of them is there twice" in hvgym("compare", "s", "runs/studies/s", cwd=place, code=2).stderr


def test_seeds_are_added_until_it_is_decided(place):
    """Sizes drawn at random kill guests where never to reclaim kills none, by far."""
    words = [word.replace("proxmox", "random") for word in BENCH]
    words += ["suite.eval_seeds=2", "study=d", "stop=decided", "max_seeds=64", "to=static"]
    text = hvgym(*words, cwd=place).stdout
    assert "looks at 2, 4, 8, 16, 32, 64 evaluation seeds, false decisions at most 5% over all looks and 1 comp" in text
    folder = place / "runs" / "studies" / "d"
    found = json.loads((folder / "stopping.json").read_text())
    decision = found["decisions"]["random"]
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert 2 < decision["seeds"] < 64
    assert decision["hi"] < 0.0
    for agent in ("static", "random", "stock", "reference"):
        assert len([row for row in rows if row["agent"] == agent]) == decision["seeds"]
    assert f"random: worse than static with {decision['seeds']} evaluation seeds" in text
    assert "Seeds were added until it was decided" in text  # beside the leaderboard
    assert "Seeds were added until it was decided" in (folder / "report.html").read_text()
    again = hvgym(*words, cwd=place).stdout
    assert again.splitlines()[-3:] == text.splitlines()[-3:]
    assert json.loads((folder / "stopping.json").read_text()) == found
    assert "planned with max_seeds=64" in hvgym(*words[:-2], "max_seeds=32", "to=static", cwd=place, code=2).stderr
    assert "Seeds were added until it was decided" in hvgym("compare", "d", cwd=place).stdout


def test_seeds_are_not_added_where_each_gives_the_same(place):
    words = ["bench", "scenario=[guests-taking-turns]", "agents=[static]", "tracking=none", "workers=1"]
    text = hvgym(*words, "study=e", "suite.eval_seeds=2", "stop=decided", "max_seeds=64", cwd=place, code=2).stderr
    assert "stop=decided: every seed gave the same in guests-taking-turns, so more seeds decide nothing" in text
    assert "Every seed gave the same in guests-taking-turns" in hvgym("report", "e", cwd=place).stdout
