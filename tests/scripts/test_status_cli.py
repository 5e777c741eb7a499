"""What one sees of a study while it is played: lines on a terminal, and ``hvgym status`` from another one."""

import io
import json
import os
import platform
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console, Group
from rich.text import Text

from hvgym.bench.progress import Progress, State, by_step, read
from hvgym.bench.standing import is_held, seconds_left
from hvgym.bench.study import locked
from hvgym.envs.model import compiled
from hvgym.scripts import cli
from hvgym.scripts.live import Board, clock, cold, counts, job_lines, printable, short
from tests.scripts.calling import COMMAND, hvgym

pytestmark = pytest.mark.usefixtures("no_pictures")

TRAINING = ("bench", "scenario=no-guest-swap-short", "agents=[ppo]", "suite.train_steps=400000", "suite.eval_seeds=2",
            "suite.validation_seeds=1", "suite.rules=open", "study=s", "tracking=none", "workers=1")  # fmt: skip


def wait_until(true, seconds=180):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def status(cwd, *words):
    return hvgym("status", *words, cwd=cwd).stdout


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_machine_is_cold_until_it_has_compiled_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "cache_folder", lambda: None)  # it cannot be kept
    assert cold()
    monkeypatch.setattr(compiled, "cache_folder", lambda: tmp_path)
    assert cold()
    (tmp_path / "model_1").mkdir()
    (tmp_path / "model_1" / "memory.shrink-1.py311.nbi").touch()
    assert cold()
    (tmp_path / "model_1" / "tick.advance-1.py311.nbi").touch()
    assert not cold()


def test_a_study_is_seen_from_another_terminal_and_after_a_kill(tmp_path):
    folder = tmp_path / "runs" / "studies" / "s"
    study = subprocess.Popen([*COMMAND, *TRAINING], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: any(len(by_step(read(p), "validate")) > 0 for p in folder.glob("progress/*.jsonl")))
        text = status(tmp_path, "s")
        assert text.startswith("study s: a process is working on it\n0 of 3 jobs finished, 1 running")
        assert "2 waiting" in text
        figures = r"validation 0\.\d{3} \(-?\d\.\d{3}–0\.\d{3}\)"  # beside stock and reference, which 80 columns have room for
        assert re.search(rf"ppo on [\w-]*… +[━·]+ +\d+% +[\d.]+k?/s {figures} +\d+:\d\d", text)
        assert re.search(r"study s +0/3 jobs +0:\d\d ago +running\n", status(tmp_path))
    finally:
        os.kill(study.pid, signal.SIGKILL)
        study.wait()
    [file] = folder.glob("progress/*.jsonl")
    lines = read(file)
    assert (lines[0]["what"], lines[0]["total"]) == ("start", 400_000)
    updates = by_step(lines, "train")
    assert updates
    assert all({"reward", "loss", "entropy"} <= line.keys() for line in updates.values())
    before = files_of(tmp_path)
    text = status(tmp_path, "s")
    assert "no process is working on it; the command that began it goes on" in text
    assert re.search(r"cut off at \d+%: ppo on no-guest-swap-short seed 0", text)
    assert "stopped" in status(tmp_path)
    assert files_of(tmp_path) == before


def test_a_finished_study_and_one_that_failed_say_so(tmp_path):
    own = tmp_path / "mine" / "agent"
    own.mkdir(parents=True)
    (own / "bad.yaml").write_text("name: bad\ndescription: fails\n_target_: bad.Bad\n")
    (own / "bad.py").write_text(
        "from hvgym.agents.policy import Policy\n\n\nclass Bad(Policy):\n"
        "    def decide(self, telemetry):\n        raise ValueError('on purpose')\n"
    )
    words = (
        "bench",
        "scenario=no-guest-swap-short",
        "suite.eval_seeds=2",
        "suite.rules=open",
        "tracking=none",
        "workers=1",
    )
    hvgym(*words, "agents=[bad]", "study=f", "--config-dir", "mine", cwd=tmp_path, code=2)
    text = status(tmp_path, "f")
    assert re.search(r"last error, 0:\d\d ago: bad on no-guest-swap-short: .*on purpose", text)
    assert "bad" not in sys.modules
    hvgym(*words, "agents=[proxmox]", "study=g", cwd=tmp_path)
    text = status(tmp_path, "g")
    assert text.startswith("study g: finished\n3 of 3 jobs finished, 0 running, 0 waiting\n")
    assert text.endswith("report.html\n")
    assert [line.split()[1] for line in status(tmp_path).splitlines()] == ["g", "f"]
    next((tmp_path / "runs/studies/g/jobs").glob("*.json")).write_text("")  # as a machine leaves it that lost its power
    assert status(tmp_path, "g").splitlines()[1].startswith("2 of 3 jobs finished")


def test_status_of_what_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["status"]) == 0
    assert "nothing under" in capsys.readouterr().out
    assert cli.main(["status", "x"]) == 2
    assert "study='x': not found" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_cannot_be_read_stands_in_the_list_with_its_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "studies" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "studies" / "old" / "protocol.json").write_text('{"identity": {"format": 1}}')
    assert cli.main(["status"]) == 0
    assert "a study of format 1" in capsys.readouterr().out


def test_a_training_alone_has_a_status(tmp_path):
    command = ("train", "scenario=no-guest-swap-short", "agent.train.total_steps=2000", "agent.train.envs=8",
               "agent.train.validations=2", "validation_seeds=1", "out=t")  # fmt: skip
    hvgym(*command, cwd=tmp_path)
    assert "training t: finished" in status(tmp_path, "t")
    (tmp_path / "runs" / "training").mkdir(parents=True)
    (tmp_path / "t").rename(tmp_path / "runs" / "training" / "u")
    assert "training u: finished" in status(tmp_path, "u")
    assert re.search(r"training u +100% +0:\d\d ago +finished\n", status(tmp_path))
    lines = read(tmp_path / "runs" / "training" / "u" / "progress.jsonl")
    assert [line["what"] for line in lines if line["what"] != "train"] == ["start", "validate", "validate", "end"]


# ---- the lock


HOLDER = """
from pathlib import Path
from hvgym.bench.study import locked
with locked(Path("s")):
    print(flush=True)
    input()
"""


def test_a_lock_is_seen_without_being_taken(tmp_path):
    assert not is_held(tmp_path / "s")
    with locked(tmp_path / "s"):
        pass
    before = files_of(tmp_path)
    assert not is_held(tmp_path / "s")
    assert files_of(tmp_path) == before
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert is_held(tmp_path / "s")
    finally:
        holder.kill()
        holder.communicate()
    assert not is_held(tmp_path / "s")


# ---- lines on a terminal


def on_a_terminal(cwd, *words, columns=100, **variables):
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    environment |= {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "30", **variables}
    command = subprocess.Popen([*COMMAND, *words], cwd=cwd, stdout=theirs, stderr=subprocess.STDOUT, env=environment)
    os.close(theirs)
    data = b""
    while True:
        try:
            data += os.read(ours, 65536)
        except OSError:  # nobody writes to it any more
            break
    os.close(ours)
    assert command.wait() == 0, data[-2000:]
    return data.decode()


def test_a_bench_on_a_terminal_has_a_line_for_each_running_job(tmp_path):
    text = on_a_terminal(tmp_path, *TRAINING, "workers=2", "suite.train_steps=20000", columns=120)
    assert re.search(r"ppo on no-guest-swap-short seed 0 .*━.*·.* \d+% .*k/s.*validation 0\.\d{3}", text)
    assert re.search(r"\d of 3 jobs finished, \d running", text)
    assert "[3/3]" in text


def test_under_ci_a_terminal_gets_the_plain_lines_of_a_pipe(tmp_path):
    words = [word.replace("ppo", "proxmox") for word in TRAINING]
    text = on_a_terminal(tmp_path / "..", *words, f"runs={tmp_path / 'a'}", CI="true")
    assert "[3/3]" in text
    assert "running" not in text
    assert "━" not in text


def test_a_line_says_all_that_is_known_and_is_never_wider_than_the_terminal():
    state = State(
        name="ppo on " + "x" * 60, what="train", steps=430, total=1000, steps_per_s=21_300.0, goodput=0.9121, at=100.0,
        _first=(57.0, 0),
    )  # fmt: skip
    levels = lambda key: (0.88, 0.951)  # noqa: E731
    [wide], [narrow] = (job_lines({"k": state}, levels, width, 100.0) for width in (140, 80))
    assert wide.plain.endswith(" ━━━━━······· 43% 21.3k/s validation 0.912 stock 0.880 reference 0.951 0:57")
    assert narrow.plain.endswith(" ━━━━━······· 43% 21.3k/s validation 0.912 (0.880–0.951) 0:57")
    (small,) = job_lines({"k": state}, levels, 79, 100.0)
    assert small.plain.endswith(" ━━━━━······· 43% 21.3k/s validation 0.912 0:57")
    assert len(wide.plain) <= 140
    assert len(narrow.plain) <= 80
    assert "…" in narrow.plain
    assert job_lines({"k": State(name="a")}, levels, 80, 0.0)[0].plain.split() == ["a", "·" * 12, "0%"]
    console = Console(width=80, file=io.StringIO())
    console.print(Group(*job_lines({"k": State(name="a"), "l": State(name="b")}, levels, 80, 0.0), Text("2 jobs")))
    assert [line.split()[0] for line in console.file.getvalue().splitlines()] == ["a", "b", "2"]


def test_letters_that_move_the_cursor_are_not_printed():
    [line] = job_lines({"k": State(name="a\x1b[2Jb\n")}, lambda key: (None, None), 80, 0.0)
    assert "\x1b" not in line.plain
    assert "\n" not in line.plain
    assert printable("Łódź") == "Łódź"


def test_a_board_shows_jobs_that_began_since_and_forgets_them_when_they_are_over(tmp_path):
    Progress(tmp_path / "old.jsonl", "cut off before", 10).__exit__(None, None, None)
    board = Board(tmp_path, below=lambda states, running: f"{len(states)} known, {len(running)} running")

    def shown():
        return [str(line) for line in board.draw(80, 24).renderables]

    assert shown() == ["1 known, 0 running"]
    with Progress(tmp_path / "k.jsonl", "stock on host", 10):
        assert shown()[0].startswith("stock on host ")
        assert shown()[1] == "2 known, 1 running"
    assert shown() == ["2 known, 0 running"]


def test_numbers_and_times_are_short():
    assert [short(n) for n in (7.4, 999, 1500, 123456, 2.5e6)] == ["7", "999", "1.5k", "123k", "2.5M"]
    assert [clock(s) for s in (0, 59.6, 61, 3599, 7500, 2e5)] == [
        "0:00",
        "1:00",
        "1:01",
        "59:59",
        "2 h 05 min",
        "2 days",
    ]
    assert counts(3, 9, 2, 125.0) == "3 of 9 jobs finished, 2 running, about 2:05 left"
    assert counts(3, None, 2, None) == "3 jobs finished, 2 running"
    assert counts(9, 9, 0, None) == "9 of 9 jobs finished, 0 running"


# ---- time left


def test_time_left_is_that_of_jobs_alike_shared_among_those_that_run():
    from hvgym.bench.protocol import Job

    def job(agent, scenario, train=None):
        return Job({"name": agent} | ({"train": train} if train else {}), {"name": scenario}, 0, 2, 1)

    learner = {"total_steps": 1}
    jobs = {
        "a": job("ppo", "x", learner),
        "b": job("ppo", "y", learner),
        "c": job("esx", "x"),
        "d": job("mom", "x"),
        "e": job("esx", "y"),
    }
    states = {
        "a": State(began=0.0, at=100.0, over=True),
        "b": State(what="train", steps=500, total=1000, began=100.0, at=150.0, _first=(100.0, 0)),
        "c": State(began=0.0, at=8.0, over=True),
    }
    running = {"b": states["b"]}
    assert seconds_left(jobs, states, {"a", "c"}, running, 150.0) == 50.0 + 8.0 + 8.0  # mom as esx, both are heuristics
    assert seconds_left(jobs, states, {"a"}, running, 150.0) is None  # no heuristic has been played
    assert seconds_left(jobs, states, {"a", "c"}, running | {"e": State(began=147.0)}, 150.0) == (50.0 + 8.0 + 5.0) / 2


def test_advices_and_imports_under_way_are_listed_and_killed_imports_say_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    advice = tmp_path / "runs" / "advice" / "shop" / "progress"
    with Progress(advice / "a.jsonl", "stock, mid demand, ratio 1.00", 10):
        pass
    running = Progress(advice / "b.jsonl", "stock, mid demand, ratio 1.05", 10)
    importing = Progress(tmp_path / "runs" / "imports" / "x.jsonl", "/data/trace", 100)
    time.sleep(0.3)  # lines are not written more often
    running.note("play", 5, 10)
    importing.note("import", 40, 100)
    killed = {"at": time.time() - 60, "what": "start", "name": "/data/other", "total": 100, "pid": gone.pid}
    killed |= {"node": platform.node()}
    (tmp_path / "runs" / "imports" / "y.jsonl").write_text(json.dumps(killed) + "\n")
    with running, importing:
        assert cli.main(["status"]) == 0
        lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
        assert set(lines) == {"advice shop", "import /data/trace", "import /data/other"}
        assert "1 jobs" in lines["advice shop"]
        assert lines["advice shop"].endswith("running")
        assert "40%" in lines["import /data/trace"]
        assert lines["import /data/trace"].endswith("running")
        assert lines["import /data/other"].endswith("was killed and has left nothing; give the command again")
        assert cli.main(["status", "shop"]) == 0
        assert "advice shop: running" in capsys.readouterr().out
