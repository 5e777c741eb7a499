"""docs/fidelity.py writes its page from episodes that were made by hand; nothing here boots a guest."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from hvgym.bench import fidelity
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCENARIO = "guests-taking-turns"
NAMES = [group.name for group in load(SCENARIO).groups]
MODEL = {"stock": 0.77, "greedy": 0.93, "proxmox": 0.76}


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    spec = importlib.util.spec_from_file_location("page_fidelity", DOCS / "fidelity.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DOCS", tmp_path)
    monkeypatch.setattr(module, "PICTURES", tmp_path / "fidelity")
    monkeypatch.setattr(fidelity, "model_of", lambda scenario, name, found: world(MODEL[name], found["victims"]))
    return module


def world(progress, victims="two_lists", faults=100.0):
    rows = [
        {"time_s": t, "vm": vm, "size_mib": 200.0, "host_swap_in_mib": t} for t in (0.0, 60.0, 120.0) for vm in NAMES
    ]
    return {
        "progress": progress, "by_vm": dict.fromkeys(NAMES, progress), "misses": 56.0, "kills": 0.0, "victims": victims,
        "signals": ["size_mib"],
        "faults": dict.fromkeys(NAMES, faults), "rows": rows, "seconds": np.full((120, len(NAMES)), progress).tolist(),
    }  # fmt: skip


def keep(folder, policy, seed, progress, **changed):
    job = fidelity.Job(SCENARIO, policy, seed)
    machine = {"seconds": 120.0, "waited": 0.01, "stolen": 0.0, "others": 0.2, "guests": 0.4}
    kept = world(progress) | {"identity": job.identity(), "busy": None, "machine": machine, "wall_s": 150.0}
    job.file(folder).parent.mkdir(parents=True, exist_ok=True)
    job.file(folder).write_text(json.dumps(kept | {"begun_at": "2026-12-01 07:36"} | changed))


def written(page, folder, tmp_path, *words):
    page.main([str(folder), f"scenarios={SCENARIO}", "policies=stock,greedy,proxmox", "play=false", *words])
    return (tmp_path / "fidelity.md").read_text()


def test_figures_stand_side_by_side_and_what_does_not_count_is_left_out(page, tmp_path):
    folder = tmp_path / "runs"
    keep(folder, "stock", 0, 0.70)
    keep(folder, "stock", 1, 0.74)
    keep(folder, "greedy", 0, 0.95)
    keep(folder, "greedy", 1, 0.10, busy="a guest waited 20% of the time for a processor (at most 5%)")
    text = written(page, folder, tmp_path)
    assert "| stock | 0.720 (0.700, 0.740) | 0.770 | +0.050 | 56 | 56 | 0 | 0 |" in text
    assert "| greedy | 0.950 | 0.930 | -0.020 | 56 | 56 | 0 | 0 |" in text
    assert text.index("| greedy |") < text.index("| stock |")
    assert "0.10" not in text
    assert "3 of 6 episodes count" in text
    assert f"| {SCENARIO} | 1.00 [1.00, 1.00] | 1 of 1 | 1 |" in text
    assert (tmp_path / "fidelity" / f"{SCENARIO}.png").stat().st_size > 5000
    assert (tmp_path / "fidelity" / "progress.png").exists()


def test_vms_that_part_are_listed_with_what_differs(page, tmp_path):
    folder = tmp_path / "runs"
    keep(folder, "proxmox", 0, 0.60, faults=dict.fromkeys(NAMES, 25_000.0))
    text = written(page, folder, tmp_path)
    assert f"| {SCENARIO} | proxmox | first | 0.600 / 0.760 | 25,000 / 100 | – / – | 120 / 120 | 200 / 200 |" in text


def test_who_cannot_run_says_why_and_a_page_of_nothing_says_so(page, tmp_path):
    job = fidelity.Job(SCENARIO, "stock", 0)
    job.file(tmp_path / "runs").parent.mkdir(parents=True)
    refusal = {"identity": job.identity(), "refused": "agent stock on real guests: needs an ear"}
    job.file(tmp_path / "runs").write_text(json.dumps(refusal))
    text = written(page, tmp_path / "runs", tmp_path)
    assert "- `stock` cannot run on these guests: needs an ear." in text
    assert "**Nothing has been played yet** of 6 episodes" in text


@pytest.mark.parametrize(
    ("word", "reason"),
    [("seeds=0", "seeds=0: expected a whole number above 0"), ("sceanrios=a", "sceanrios: unknown key"),
     ("policies=nobody", "nobody"), ("policies=reference", "needs the future"), ("scenarios=nowhere", "nowhere")],
)  # fmt: skip
def test_wrong_words_end_it_before_anything_is_played(page, tmp_path, word, reason):
    with pytest.raises(InputError, match=reason):
        page.main([str(tmp_path), word])
