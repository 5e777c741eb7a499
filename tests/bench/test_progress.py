"""Lines of progress: whole ones are read, whatever a kill left, and a job's state follows from them."""

import json
import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from hvgym.bench import usage
from hvgym.bench.progress import Progress, State, by_step, follow, read


def lines_of(path):
    changing = ("at", "pid", "node", *usage.SUMMED, *usage.LARGEST)
    return [{key: value for key, value in line.items() if key not in changing} for line in read(path)]


def test_a_job_leaves_its_start_its_steps_and_its_end(tmp_path):
    with Progress(tmp_path / "p" / "k.jsonl", "ppo on host", 100) as progress:
        progress.trained(steps=40, total=100, reward=-0.5, loss=0.25, entropy=float("nan"))
        progress.validated(40, 100, goodput=0.875)
    assert lines_of(tmp_path / "p" / "k.jsonl") == [
        {"what": "start", "name": "ppo on host", "total": 100},
        {"what": "validate", "steps": 40, "total": 100, "goodput": 0.875},
        {"what": "end"},
    ]


def test_lines_in_quick_succession_are_left_out_but_not_the_last_step(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    with Progress(tmp_path / "k.jsonl", "a", 100) as progress:
        for steps in range(10, 101, 10):
            clock[0] += 0.1
            progress.note("play", steps, 100)
    assert [line["steps"] for line in read(tmp_path / "k.jsonl")[1:-1]] == [30, 60, 90, 100]


def test_a_rate_is_that_since_the_last_update_and_a_validation_takes_none_of_its_time(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    with Progress(tmp_path / "k.jsonl", "a", 1000) as progress:
        for steps in (100, 300):
            clock[0] += 1.0
            progress.trained(steps, 1000, 0.0, 0.0, 0.0)
        clock[0] += 60.0
        progress.validated(300, 1000, goodput=0.5)
        clock[0] += 2.0
        progress.trained(700, 1000, 0.0, 0.0, 0.0)
    rates = [line.get("steps_per_s") for line in read(tmp_path / "k.jsonl") if line["what"] == "train"]
    assert rates == [None, 200.0, 200.0]


def test_an_error_is_the_last_line(tmp_path):
    with pytest.raises(ValueError, match="no such"), Progress(tmp_path / "k.jsonl", "a", 1):
        raise ValueError("no such\nthing")
    assert lines_of(tmp_path / "k.jsonl")[-1] == {"what": "end", "error": "no such thing"}
    assert State.of(read(tmp_path / "k.jsonl")).error == "no such thing"


def test_a_job_that_is_taken_up_again_goes_on_after_half_a_line(tmp_path):
    path = tmp_path / "k.jsonl"
    with Progress(path, "a", 100) as first:
        first.validated(50, 100, goodput=0.5)
    path.write_bytes(path.read_bytes().partition(b'"end"')[0])  # as a kill leaves it
    with Progress(path, "a", 100) as again:
        again.validated(50, 100, goodput=0.625)
        again.validated(100, 100, goodput=0.75)
    assert [line["what"] for line in read(path)] == ["start", "validate", "start", "validate", "validate", "end"]
    assert {steps: line["goodput"] for steps, line in by_step(read(path), "validate").items()} == {50: 0.625, 100: 0.75}


@pytest.mark.parametrize(
    "text", ["", "[1]", "{}", '{"at": "x", "what": "start"}', '{"at": 1, "what": 2}', "\0", "[" * 10**5]
)
def test_what_is_no_line_is_left_out(tmp_path, text):
    (tmp_path / "k.jsonl").write_text(f'{text}\n{{"at": 1, "what": "end"}}\n')
    assert read(tmp_path / "k.jsonl") == [{"at": 1, "what": "end"}]


@pytest.mark.parametrize(
    "line", [{"steps": "many"}, {"steps": None}, {"total": []}, {"goodput": "good"}, {"steps": True}]
)
def test_figures_that_are_none_are_left_out(line):
    state = State.of([{"at": 1.0, "what": "start", "total": 10}, {"at": 2.0, "what": "train", **line}])
    assert (state.steps, state.total, state.goodput) == (0, 10, None)


def test_no_file_has_no_lines(tmp_path):
    assert read(tmp_path / "k.jsonl") == []


def test_one_who_follows_gets_every_line_once_and_none_by_half(tmp_path):
    new = follow(tmp_path / "progress")
    assert new() == {}
    with Progress(tmp_path / "progress" / "k.jsonl", "a", 9):
        assert [line["what"] for line in new()["k"]] == ["start"]
        with (tmp_path / "progress" / "k.jsonl").open("a") as file:
            file.write('{"at": 1, "what":')
            file.flush()
            assert new() == {}
            file.write(' "play", "steps": 3}\n')
        assert new() == {"k": [{"at": 1, "what": "play", "steps": 3}]}
    assert [line["what"] for line in new()["k"]] == ["end"]
    assert new() == {}


def test_a_state_says_how_far_and_how_long():
    lines = [
        {"at": 100.0, "what": "start", "name": "ppo on host", "total": 1000},
        {"at": 110.0, "what": "train", "steps": 100, "total": 1000},
        {"at": 120.0, "what": "train", "steps": 300, "total": 1000, "steps_per_s": 25.0},
        {"at": 130.0, "what": "validate", "steps": 500, "total": 1000, "goodput": 0.75},
    ]
    state = State.of(lines)
    assert (state.name, state.what, state.share, state.goodput) == ("ppo on host", "validate", 0.5, 0.75)
    assert state.seconds_left(130.0) == 25.0  # 400 steps in 20 s, 500 to go
    assert state.seconds_left(140.0) == 15.0
    playing = State.of([*lines, {"at": 160.0, "what": "play", "steps": 4, "total": 8}])
    assert (playing.share, playing.seconds_left(160.0)) == (0.5, None)
    assert State.of(lines[:3]).steps_per_s == 25.0


def test_a_job_is_alive_as_long_as_its_process(tmp_path):
    code = "from pathlib import Path; from hvgym.bench.progress import Progress; Progress(Path('k.jsonl'), 'a', 1); input()"
    writer = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE)
    try:
        end = time.monotonic() + 60
        while not read(tmp_path / "k.jsonl"):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert State.of(read(tmp_path / "k.jsonl")).alive
    finally:
        writer.kill()
        writer.communicate()
    state = State.of(read(tmp_path / "k.jsonl"))
    assert (state.alive, state.over) == (False, False)


@pytest.mark.parametrize("process", [{}, {"pid": "1"}, {"pid": 0}, {"pid": -1}, {"pid": 10**30}])
def test_a_process_that_is_none_is_not_alive(process):
    line = {"at": 1.0, "what": "start", "node": platform.node()} | process
    assert not State.of([line]).alive


def test_a_start_begins_anew():
    lines = [{"at": 1.0, "what": "start", "name": "a", "total": 10}, {"at": 2.0, "what": "end", "error": "failed"}]
    state = State.of([*lines, {"at": 9.0, "what": "start", "name": "a", "total": 10}])
    assert (state.over, state.error, state.began, state.steps) == (False, None, 9.0, 0)


WRITER = """
import sys, time
from pathlib import Path
from hvgym.bench.progress import Progress
progress = Progress(Path(sys.argv[1]), "a", 10**9)
for step in range(10**9):
    progress.validated(step, 10**9, goodput=0.5)
"""


def test_a_killed_writer_leaves_a_file_that_can_be_read(tmp_path):
    path = tmp_path / "k.jsonl"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    try:
        end = time.monotonic() + 60
        while len(read(path)) < 1000:
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    whole = path.read_bytes()
    assert [line["steps"] for line in read(path)[1:]] == list(range(whole.count(b"\n") - 1))
    path.write_bytes(whole[:-20])
    assert len(read(path)) == len([json.loads(text) for text in whole[:-20].splitlines()[:-1]])


def test_a_place_that_cannot_be_written_stops_no_job(tmp_path):
    (tmp_path / "file").write_text("")
    with Progress(tmp_path / "file" / "k.jsonl", "a", 1) as progress:
        progress.validated(1, 1, goodput=0.5)
    assert (tmp_path / "file").read_text() == ""
