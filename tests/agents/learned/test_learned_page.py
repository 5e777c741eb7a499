"""docs/learned.py: figures by hand, and sections whose studies are not there."""

import csv
import importlib.util
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "docs" / "learned.py"


@pytest.fixture(scope="module")
def learned():
    spec = importlib.util.spec_from_file_location("docs_learned", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def study(folder: Path, goodput: dict[str, list[float]], scenarios=("one", "two")) -> None:
    """results.csv of these agents; on the second scenario each gets .1 more."""
    folder.mkdir(parents=True)
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["scenario", "agent", "eval_seed", "goodput", "cost", "oom_kills"])
        for at, scenario in enumerate(scenarios):
            for agent, values in goodput.items():
                for seed, value in enumerate(values):
                    writer.writerow([scenario, agent, seed, value + 0.1 * at, 60.0, 2.0])


def test_of_trainings_the_spread_and_what_each_wins(learned, tmp_path):
    rivals = {"stock": [0.5, 0.5], "proxmox_tuned": [0.6, 0.6], "reference": [0.8, 0.8]}
    ours = {"learned_sizes": [0.7, 0.7], "learned_sizes_seed1": [0.5, 0.5], "learned_sizes_seed2": [0.6, 0.6]}
    study(tmp_path / "trainings", rivals | ours)
    lines = learned.trainings(learned.read(tmp_path / "trainings"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    assert rows[0] == ["learned_sizes", "75.0", "2", "0", "+10.0", "60", "2.00"]
    assert rows[1] == ["learned_sizes_seed1", "55.0", "0", "2", "-10.0", "60", "2.00"]
    assert rows[2] == ["learned_sizes_seed2", "65.0", "0", "0", "+0.0", "60", "2.00"]
    assert rows[3][1] == "10.00"  # of 75, 55 and 65


def test_without_other_trainings_there_is_no_spread(learned, tmp_path):
    study(tmp_path / "trainings", {"stock": [0.5], "proxmox_tuned": [0.6], "learned_sizes": [0.7]})
    assert learned.trainings(learned.read(tmp_path / "trainings")) == []


def test_a_part_of_the_densities_replaces_no_table(learned, tmp_path):
    part = tmp_path / "density-tenants-kvm" / "capacity"
    part.mkdir(parents=True)
    (part / "capacity.json").write_text("{}")
    assert learned.density(tmp_path) == []


def test_sections_without_a_study_stay_and_are_named(learned, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("# Old head\n\n## Suite quick, test seeds\n\nold quick\n\n## Real demand on ESXi\n\nold esxi\n")
    study(tmp_path / "quick", {"stock": [0.5], "proxmox_tuned": [0.6], "learned_sizes": [0.7], "learned_full": [0.7]})
    learned.page(tmp_path, page)
    text = page.read_text()
    assert "old esxi" in text
    assert "old quick" not in text
    assert "Old head" not in text
    assert "| one | 50.0 | proxmox_tuned 60.0 | 70.0 |" in text
    said = capsys.readouterr().out
    assert "kept as it was: Real demand on ESXi" in said
    assert "kept as it was: Suite quick" not in said
    assert "Not played yet: Suite standard, test seeds;" in text
    assert "Real demand on ESXi;" not in text
    learned.page(tmp_path, page)
    assert page.read_text() == text
