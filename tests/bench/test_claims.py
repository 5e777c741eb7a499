"""Claims on jobs: real processes on one folder, one of them killed, and no job is ever played by two at a time."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hvgym.bench import claims
from hvgym.bench.claims import Attempt, Pace, held, is_led, leading, once
from hvgym.envs.errors import InputError

PLAYER = """
import os, random, sys, time
from pathlib import Path

from hvgym.bench import claims
folder, machine, pace, keys = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(), int(sys.argv[4])
if machine:
    claims.machine = lambda: machine
claims.PACE = claims.Pace(*map(float, pace))

def stored(key):
    return (folder / f"{key}.done").exists() or None

def play(key):
    inside = folder / f"{key}.inside"
    try:
        inside.open("x").write(str(os.getpid()))
    except FileExistsError:
        other = int(inside.read_text() or 0)
        if claims.began(other):
            (folder / "twice").write_text(key)
        inside.write_text(str(os.getpid()))
    time.sleep(random.uniform(0.0, 0.02))
    with (folder / "log").open("a") as log:
        log.write(f"{key} {os.getpid()}\\n")
    (folder / f"{key}.done").touch()
    inside.unlink()
    return True

order = list(range(keys))
random.Random(os.getpid()).shuffle(order)
print("begins", flush=True)
while not (folder / "go").exists():
    time.sleep(0.01)
for key in order:
    claims.once(folder / "claims", str(key), lambda: stored(key), lambda: play(key))
"""

HOLDER = """
import sys, time
from pathlib import Path
from hvgym.bench import claims
claims.machine = lambda: sys.argv[2]
with claims.held(Path(sys.argv[1]), sys.argv[3], lambda: False, claims.Pace(0.1, 1.5)):
    print("holds", flush=True)
    sys.stdin.readline()
"""
"""Holds a claim as if it were on another machine, until it is told to end."""


def begun(code, *arguments):
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout.readline().strip() in ("begins", "holds")
    return process


@pytest.mark.parametrize("machines", [["", "", "", ""], ["a", "b", "a", "c"]], ids=["one machine", "three machines"])
def test_of_four_processes_one_is_killed_and_no_job_is_played_by_two_at_a_time(tmp_path, machines):
    """Of one machine a dead holder is known at once; of another its heart must stand still for a lease."""
    pace = "0.1 2.0 0.02"
    players = [begun(PLAYER, tmp_path, machine, pace, 120) for machine in machines]
    (tmp_path / "go").touch()
    while not (tmp_path / "log").exists() or len((tmp_path / "log").read_text().splitlines()) < 20:
        time.sleep(0.005)
    players[0].kill()
    for player in players[1:]:
        player.communicate(timeout=100)
        assert player.returncode == 0
    players[0].communicate()
    assert not (tmp_path / "twice").exists()
    played = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert set(played) == set(map(str, range(120)))
    assert len(played) <= 121  # the one that was killed may have been finished but for its file
    assert (
        len(list((tmp_path / "claims").glob("*"))) <= 1
    )  # that of the one that was killed, when its job had just been finished


def test_a_heart_that_beats_keeps_a_claim_whatever_the_clocks_say_and_one_that_stops_loses_it(tmp_path):
    holder = begun(HOLDER, tmp_path, "elsewhere", "job")
    (file,) = tmp_path.glob("job.*")
    waiting = Attempt(tmp_path, "job", Pace(0.1, 1.5))
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        os.utime(file, (0, 0))  # a clock that is fifty years late
        assert not waiting.taken()
        time.sleep(0.1)
    holder.kill()
    holder.communicate()
    died = time.monotonic()
    while not waiting.taken():
        time.sleep(0.02)
    assert time.monotonic() - died > 1.0
    assert [path.name for path in sorted(tmp_path.glob("job.*"))] == ["job.0", "job.1"]


def test_a_holder_that_was_frozen_takes_nothing_from_the_one_after_it(tmp_path):
    holder = begun(HOLDER, tmp_path, "elsewhere", "job")
    holder.send_signal(signal.SIGSTOP)
    with held(tmp_path, "job", lambda: False, Pace(0.1, 0.5)) as mine:
        assert mine
        holder.send_signal(signal.SIGCONT)
        holder.communicate("\n")
        assert not Attempt(tmp_path, "job", Pace(0.1, 60.0)).taken()
    assert not list(tmp_path.glob("job.*"))


def test_a_holder_of_this_machine_that_was_killed_is_known_at_once(tmp_path):
    holder = begun(HOLDER, tmp_path, claims.machine(), "job")
    assert not Attempt(tmp_path, "job", Pace(5.0, 1000.0)).taken()
    holder.kill()
    holder.wait()
    assert Attempt(tmp_path, "job", Pace(5.0, 1000.0)).taken()
    holder.communicate()


def test_who_waits_reads_what_the_other_left(tmp_path):
    """And plays nothing; a job that fails leaves its claim to the next."""
    results = iter([None, None, "theirs"])
    mine = Attempt(tmp_path, "job", Pace())
    assert mine.taken()
    with mine.beating():
        found = once(tmp_path, "job", lambda: next(results, "theirs"), lambda: pytest.fail("was played"))
    assert found == "theirs"

    def fail():
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        once(tmp_path, "job", lambda: None, fail)
    assert once(tmp_path, "job", lambda: None, lambda: "ours") == "ours"


def test_a_study_led_on_another_machine_is_refused_by_name_and_one_whose_leader_died_is_taken_over(tmp_path, capsys):
    assert not is_led(tmp_path)
    other = begun(HOLDER, tmp_path, "elsewhere", claims.LEADER)
    assert is_led(tmp_path, Pace(0.5))
    with pytest.raises(InputError, match=rf"process {other.pid} on .* is working on this"), leading(tmp_path):
        pass
    other.kill()
    other.communicate()
    assert not is_led(tmp_path, Pace(0.1))
    with leading(tmp_path, Pace(0.1, 0.5)):
        assert is_led(tmp_path)
        assert json.loads(next(tmp_path.glob(".leader.1")).read_text())["pid"] == os.getpid()
    assert "was working on this; looking whether it is there" in capsys.readouterr().err
