"""Policies outside the package: their code identifies their rows, and finished rows need no code."""

import importlib
import json
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from hvgym.agents import beside
from hvgym.agents.policy import make_policy
from hvgym.bench import jobs
from hvgym.bench.identity import code_of, inside_files, outside_files, outside_roots, sources
from hvgym.bench.jobs import Job, run_job
from hvgym.bench.protocol import Protocol
from hvgym.bench.report import write_report
from hvgym.bench.study import read_study, run_study
from hvgym.bench.suites import Suite
from hvgym.envs.errors import InputError
from hvgym.envs.scenario import load, load_group
from tests.scripts.calling import ended

SCENARIO = load("no-guest-swap-short").to_dict()

POLICY = """
from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets


class Share(Policy):
    def decide(self, telemetry):
        {body}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's --config-dir; what was imported from it is forgotten afterwards."""
    paths = list(sys.path)
    monkeypatch.setattr(beside, "_BESIDE", [])
    (tmp_path / "mine" / "agent").mkdir(parents=True)
    yield tmp_path / "mine"
    sys.path[:] = paths
    for name, module in tuple(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def write(place, name, text):
    path = place / "agent" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    importlib.invalidate_caches()


def share(place, value, module="shares"):
    write(place, f"{module}.py", POLICY.format(body=f"return Targets(telemetry.vm['memory_mib'] * {value})"))


def agent(target, **keys):
    return {"name": "mine", "description": "", "_target_": target, **keys}


def study_of(*agents):
    suite = Suite("one", "", ("no-guest-swap-short",), ("stock", "reference"), eval_seeds=2)
    references = tuple(load_group("agent", name) for name in ("stock", "reference"))
    codes = {a["name"]: code_of(a) for a in agents}
    return Protocol(suite, (*references, *agents), (SCENARIO,), {"code": "ours"}, codes)


# ---- what belongs to a policy


def test_all_that_a_policy_imports_beside_itself_belongs_to_it(folder):
    write(folder, "pack/__init__.py", "from . import first")
    write(
        folder,
        "pack/first.py",
        "from .deep.second import x\nimport numpy, json\nfrom hvgym.envs.telemetry import Targets",
    )
    write(folder, "pack/deep/__init__.py", "")
    write(folder, "pack/deep/second.py", "x = 1\ndef later():\n    import lonely")
    write(folder, "pack/deep/unused.py", "")
    write(folder, "lonely.py", "import importlib\nimportlib.import_module('named')")
    write(folder, "named.py", "")
    beside.make_importable([folder])
    found = outside_files(agent("pack.first.Policy"))
    assert set(found) == {"pack", "pack.first", "pack.deep", "pack.deep.second", "lonely", "named"}
    assert "pack" not in sys.modules
    roots = {path.name for path in outside_roots(agent("pack.first.Policy"))}
    assert roots == {"pack", "lonely.py", "named.py"}


def test_the_package_has_no_outside_code_and_parts_of_an_agent_have(folder):
    share(folder, 0.9)
    beside.make_importable([folder])
    assert outside_files(load_group("agent", "proxmox_ksmtuned")) == {}
    parts = {"parts": [load_group("agent", "proxmox"), agent("shares.Share")]}
    together = agent("hvgym.agents.together.Together", **parts)
    before = code_of(together)
    share(folder, 0.8)
    assert "" != code_of(together) != before


def test_what_code_outside_imports_of_the_package_is_its_own_too(folder):
    write(
        folder,
        "mine.py",
        "from hvgym.agents.proactive.cheapest_pages import CheapestPages\nclass Mine(CheapestPages): ...",
    )
    beside.make_importable([folder])
    found = inside_files(agent("mine.Mine"))
    of_rule = {"", ".cheapest_pages", ".swap_reads"}  # what it imports comes with it
    assert set(found) == {f"hvgym.agents.proactive{module}" for module in of_rule}


def test_data_that_the_code_or_the_yaml_names_belongs_to_it(folder, tmp_path):
    write(
        folder,
        "shares.py",
        "from pathlib import Path\nHERE = Path(__file__).parent\nx = HERE / 'data' / 'w.json'\ny = 'b.csv'",
    )
    for name in ("data/w.json", "b.csv", "log.txt", "other.json"):
        write(folder, name, "1")
    (tmp_path / "weights.npz").write_bytes(b"1")
    beside.make_importable([folder])
    ours = agent("shares.Share", weights=str(tmp_path / "weights.npz"))
    assert set(outside_files(ours)) == {"shares", "shares/data/w.json", "shares/b.csv", "agent.weights"}
    before = code_of(ours)
    (tmp_path / "weights.npz").write_bytes(b"2")
    assert code_of(ours) != before


@pytest.mark.parametrize(
    ("reads", "keys", "place"),
    [
        ("Path(__file__).with_suffix('.json').read_text()", {}, "agent/reads.json"),
        ("(Path(__file__).parent / 'gain.txt').read_text()", {}, "agent/gain.txt"),
        ("(Path(__file__).parent.parent / 'data' / 'w.json').read_text()", {}, "data/w.json"),
        ("open(Path(__file__).parent / '../data/w.json').read()", {}, "data/w.json"),
        ("list((Path(__file__).parent / 'tables').glob('*.csv'))", {}, "agent/tables/deep.csv"),
        ("exec((Path(__file__).parent / 'helper_code.py').read_text())", {}, "agent/helper_code.py"),
        ("None", {"weights": "w.json"}, "agent/w.json"),
        ("None", {"nested": {"files": ["w.json"]}}, "agent/w.json"),
        ("None", {"tables": "tables"}, "agent/tables/a.csv"),
    ],
)
def test_a_file_that_a_policy_reads_belongs_to_it_however_it_is_named(folder, reads, keys, place):
    beside.make_importable([folder])
    write(folder, "reads.py", f"from pathlib import Path\n{POLICY.format(body=reads)}")
    file = folder / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("1")
    digests = []
    for text in ("1", "2", "1"):
        file.write_text(text)
        digests.append(code_of({"name": "reads", "_target_": "reads.Share", **keys}))
    assert digests[0] == digests[2] != digests[1]


def test_code_that_a_process_has_imported_is_not_called_by_a_new_name(folder, tmp_path):
    beside.make_importable([folder])
    share(folder, 0.9)
    ours = agent("shares.Share")
    run_job(Job(ours, SCENARIO, 0, 2, 2, code_of(ours)), tmp_path)
    share(folder, 0.5)
    with pytest.raises(InputError, match="its code was edited after this process had imported it"):
        run_job(Job(ours, SCENARIO, 0, 2, 2, code_of(ours)), tmp_path)


def test_the_same_code_in_another_folder_is_the_same_code(folder, tmp_path):
    share(folder, 0.9)
    digests = []
    for place in (folder, tmp_path / "moved"):
        if place != folder:
            folder.rename(place)
        code = f"import sys; sys.path.append({str(place / 'agent')!r}); from hvgym.bench.identity import code_of; " \
               "print(code_of({'name': 'mine', '_target_': 'shares.Share'}))"  # fmt: skip
        digests.append(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert digests[0] == digests[1] != "\n"


# ---- beside the YAML


def test_a_policy_beside_its_yaml_needs_no_path_and_must_not_hide_behind_another(folder):
    share(folder, 0.9)
    share(folder, 0.9, module="statistics")
    beside.make_importable([folder])
    assert type(make_policy(agent("shares.Share"))).__name__ == "Share"
    with pytest.raises(InputError, match=r"statistics.py has the name of another module .*statistics.py.; rename it"):
        make_policy(agent("statistics.Share"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("raise SystemExit(0)", "SystemExit"), ("def (", "SyntaxError"), ("1 / 0", "ZeroDivisionError")],
)
def test_a_module_that_cannot_be_loaded_is_one_line(folder, text, reason):
    write(folder, "broken.py", text)
    beside.make_importable([folder])
    with pytest.raises(InputError, match=rf"agent mine: _target_='broken.P' cannot be loaded .*{reason}"):
        make_policy(agent("broken.P"))


@pytest.mark.parametrize(
    ("target", "said"), [("", "_target_ is missing"), ("shares", "_target_='shares': names no class")]
)
def test_who_names_no_class_is_told_how(target, said):
    with pytest.raises(InputError, match=rf"agent mine: {said}; expected FILE.Class of a Python file beside your YAML"):
        make_policy(agent(target))


# ---- rows


def test_edited_code_is_played_anew_and_nothing_else_is(folder, tmp_path):
    share(folder, 0.9)
    beside.make_importable([folder])
    first = run_study(study_of(agent("shares.Share")), tmp_path / "s", 1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "s" / "jobs").iterdir()}
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s" / "jobs").iterdir()}
    # Of another length: Python takes bytecode of the same second and length for that of this source.
    share(folder, 0.85)
    del sys.modules["shares"]
    again = run_study(study_of(agent("shares.Share")), tmp_path / "s", 1)
    assert [done.rows for done in again[:2]] == [done.rows for done in first[:2]]
    assert again[2].rows != first[2].rows
    after = {path.name: path for path in (tmp_path / "s" / "jobs").iterdir()}
    assert len(after) == len(before) + 1
    for name, content in before.items():
        assert after[name].read_bytes() == content
        assert after[name].stat().st_mtime_ns == stamps[name]
    summary, _ = write_report(tmp_path / "s")
    code = code_of(agent("shares.Share"))
    assert summary["agents"]["mine"]["code"] == summary["code"]["outside"]["mine"] == code
    assert summary["agents"]["stock"]["code"] == "ours"
    assert f"mine by <code>{code}</code>" in (tmp_path / "s" / "report.html").read_text()
    rows = (tmp_path / "s" / "results.csv").read_text().splitlines()
    assert [row.rpartition(",")[2] for row in rows] == ["code", *["ours"] * 4, code, code]


def test_code_that_was_edited_back_finds_its_old_rows(folder, tmp_path):
    beside.make_importable([folder])
    keys = []
    for value in (0.9, 0.8, 0.9):
        share(folder, value)
        keys.append(Job(agent("shares.Share"), SCENARIO, 0, 2, 2, code_of(agent("shares.Share"))).key)
    assert keys[0] == keys[2] != keys[1]


def test_code_that_is_edited_while_it_plays_leaves_no_rows(folder, tmp_path):
    share(folder, 0.9)
    beside.make_importable([folder])
    job = Job(agent("shares.Share"), SCENARIO, 0, 2, 2, code_of(agent("shares.Share")))
    share(folder, 0.8)
    with pytest.raises(InputError, match="mine on no-guest-swap-short: its code was changed while the study ran"):
        run_job(job, tmp_path)
    assert not (tmp_path / "jobs").exists()


def test_an_agent_of_earlier_keeps_its_rows_without_its_code(folder, tmp_path):
    share(folder, 0.9)
    beside.make_importable([folder])
    run_study(study_of(agent("shares.Share")), tmp_path / "s", 1)
    (folder / "agent" / "shares.py").unlink()
    run_study(study_of(load_group("agent", "proxmox")), tmp_path / "s", 1)
    protocol, done = read_study(tmp_path / "s")
    assert [a["name"] for a in protocol.agents] == ["stock", "reference", "mine", "proxmox"]
    assert len(done) == 4


def test_a_report_imports_nothing_that_a_study_names(folder, tmp_path, monkeypatch):
    share(folder, 0.9)
    beside.make_importable([folder])
    run_study(study_of(agent("shares.Share")), tmp_path / "s", 1)
    pictures = [write_report(tmp_path / "s")[1]]
    timeline = (tmp_path / "s" / "timeline.png").read_bytes()

    def refuse(*_):
        raise AssertionError("a report builds no policy")

    (folder / "agent" / "shares.py").unlink()
    for name in ("make_policy", "policy_class"):
        monkeypatch.setattr(f"hvgym.agents.policy.{name}", refuse)
    monkeypatch.setattr(jobs, "policy_of", refuse)
    monkeypatch.setattr(importlib, "import_module", refuse)
    pictures.append(write_report(tmp_path / "s")[1])
    assert pictures[0] == pictures[1]
    assert (tmp_path / "s" / "timeline.png").read_bytes() == timeline


def test_a_report_needs_no_network_library(folder, tmp_path):
    run_study(study_of(load_group("agent", "proxmox")), tmp_path / "s", 1)
    code = (
        "import sys, pathlib; from hvgym.bench.report import write_report\n"
        f"write_report(pathlib.Path({str(tmp_path / 's')!r}))\n"
        "assert not {'torch', 'stable_baselines3', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_tuning_is_identified_by_the_code_of_its_agent(folder):
    beside.make_importable([folder])
    found = []
    for value in (0.9, 0.8):
        share(folder, value)
        found.append(sources([SCENARIO], [agent("shares.Share"), load_group("agent", "stock")]))
    assert found[0].keys() == found[1].keys() == {"code", "stock esxi6", "agent mine", "agent stock"}
    assert found[0]["code"] == found[1]["code"]
    assert found[0]["agent mine"] != found[1]["agent mine"]


@pytest.mark.parametrize(("leave", "workers"), [("sys.exit(0)", 1), ("sys.exit(0)", 2), ("os._exit(0)", 2)])
def test_a_policy_that_ends_the_program_fails_the_study(folder, tmp_path, leave, workers):
    write(folder, "leaving.py", POLICY.format(body=f"import os, sys; {leave}"))
    write(folder, "leaving.yaml", "name: leaving\n_target_: leaving.Share\n")
    words = ["bench", "suite=micro", "suite.eval_seeds=2", "study=s", "tracking=none", "--config-dir", str(folder)]
    words += ["suite.scenarios=[no-guest-swap-short]", "agents=[leaving]", f"workers={workers}"]
    done = ended(words, tmp_path, {})
    assert done.returncode != 0
    assert "leaving on no-guest-swap-short" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_network_may_lie_elsewhere_when_its_content_is_the_same():
    trained = load_group("agent", "ppo") | {"checkpoint": "/a/best.zip", "checkpoint_sha256": "1"}
    job = Job(trained, SCENARIO, 0, 2, 2)
    assert replace(job, agent=trained | {"checkpoint": "/b/best.zip"}).key == job.key
    assert replace(job, agent=trained | {"checkpoint_sha256": "2"}).key != job.key


def test_the_protocol_says_which_code(folder, tmp_path):
    share(folder, 0.9)
    beside.make_importable([folder])
    run_study(study_of(agent("shares.Share")), tmp_path / "s", 1)
    written = json.loads((tmp_path / "s" / "protocol.json").read_text())
    assert written["codes"] == {"mine": code_of(agent("shares.Share"))}
    assert written["hvgym"]
