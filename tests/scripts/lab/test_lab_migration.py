"""A guest copied on the laboratory bench from the command line: what it writes, and how it answers mistakes."""

import csv
import json
import os
import re
import sys

import pytest

from hvgym.scripts import cli

pytestmark = pytest.mark.usefixtures("no_lab_pictures")

COLUMNS = ["t_s", "round", "remaining_mib", "sent_mib", "throttle", "progress"]
HOT = ("hot_mib=128", "write_share=1")


@pytest.fixture
def hvgym(tmp_path, monkeypatch, capsys):
    """Run a verb in an empty folder, without another process; return the code, and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        os.environ["HYDRA_FULL_ERROR"] = ""
        try:
            code = cli.main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def written(folder):
    with (folder / "lab.csv").open() as file:
        reader = csv.DictReader(file)
        rows = [{name: float(value) for name, value in row.items()} for row in reader]
        return rows, reader.fieldnames, json.loads((folder / "summary.json").read_text())


def test_a_copy_gives_a_row_a_second_totals_and_a_picture(hvgym, tmp_path):
    code, text, _ = hvgym("lab", "migrate=precopy", *HOT, "touches_per_s=5000", "out=there")
    assert code == 0
    rows, columns, totals = written(tmp_path / "there")
    assert columns == COLUMNS
    assert [row["t_s"] for row in rows[:-1]] == [0, 1, 2, 3]
    assert list(totals) == ["total_s", "downtime_ms", "sent_mib", "result"]
    assert totals["result"] == "done"
    assert rows[-1]["t_s"] == pytest.approx(totals["total_s"], abs=1e-6)
    assert rows[-1]["sent_mib"] == pytest.approx(totals["sent_mib"], abs=1e-6)
    assert rows[1]["sent_mib"] == pytest.approx(64e6 / 2**20)
    assert rows[-1]["remaining_mib"] == 0.0
    assert (tmp_path / "there" / "lab.png").read_bytes().startswith(b"\x89PNG")
    assert text.splitlines()[-3:] == [str(tmp_path / "there" / name) for name in ("lab.csv", "summary.json", "lab.png")]


def test_a_copy_that_never_ends_is_given_up_after_its_duration(hvgym, tmp_path):
    hvgym("lab", "migrate=precopy", *HOT, "touches_per_s=20000", "duration_s=50")
    rows, _, totals = written(tmp_path / "runs" / "lab")
    assert totals["result"] == "never"
    assert rows[-1]["t_s"] == pytest.approx(50.0)
    assert totals["sent_mib"] == pytest.approx(50.0 * 64e6 / 2**20)


def test_a_balloon_saves_what_it_takes_of_free_pages_with_content(hvgym, tmp_path):
    sent = {}
    for balloon in (0, 200):
        hvgym("lab", "migrate=precopy", *HOT, "touches_per_s=0", "other_mib=300", f"balloon_mib={balloon}", "out=b")
        sent[balloon] = written(tmp_path / "b")[2]["sent_mib"]
    assert sent[0] - sent[200] == pytest.approx(200.0, abs=1.0)


def test_a_sweep_gives_a_copy_for_each_value(hvgym, tmp_path):
    _, text, _ = hvgym("lab", "migrate=precopy", *HOT, "sweep=dirty", "values=[0,2000,20000]", "duration_s=30")
    rows, columns, totals = written(tmp_path / "runs" / "lab")
    assert columns == ["touches_per_s", *COLUMNS]
    assert [(each["touches_per_s"], each["result"]) for each in totals] == [
        (0, "done"),
        (2000, "done"),
        (20000, "never"),
    ]
    assert {row["touches_per_s"] for row in rows} == {0.0, 2000.0, 20000.0}
    assert "> 30.00" in text


def test_a_sweep_gives_what_each_value_gives_alone(hvgym, tmp_path):
    hvgym("lab", "migrate=postcopy", *HOT, "sweep=bandwidth", "values=[32,96]", "out=many")
    hvgym("lab", "migrate=postcopy", *HOT, "bandwidth_mb_per_s=96", "out=one")
    many, one = (written(tmp_path / name)[2] for name in ("many", "one"))
    assert many[1] == {"bandwidth_mb_per_s": 96.0, **one}


def test_a_closed_loop_is_slowed_by_every_step_of_auto_converge_and_a_paced_one_by_the_last(hvgym, tmp_path):
    throttles = {}
    for slack in (0.0, 0.9):
        hvgym(
            "lab",
            "migrate=autoconverge",
            *HOT,
            "touches_per_s=20000",
            "bandwidth_mb_per_s=48",
            f"machine.slack={slack}",
        )
        rows, _, totals = written(tmp_path / "runs" / "lab")
        assert totals["result"] == "done"
        throttles[slack] = max(row["throttle"] for row in rows)
    assert throttles[0.0] < 0.8
    assert throttles[0.9] == 0.99


def told(text):
    """Lines of the time line, by their seconds."""
    return [(int(second), words.strip()) for second, words in re.findall(r"^ *(\d+) s  (.*)$", text, re.MULTILINE)]


def test_a_copy_that_ends_tells_its_rounds_and_why(hvgym, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, text, _ = hvgym("lab", "migrate=precopy", *HOT, "touches_per_s=5000")
    events = told(text)
    assert events[0] == (0, "round 1: 189 MiB to send, at 61 MiB/s")
    assert events[1][1] == "round 2: 15 MiB to send, dirtied meanwhile"
    assert "within the 18 MiB that 300 ms let pass: the guest stands still" in events[-2][1]
    assert events[-1] == (4, "done: the guest stood still for 14 ms")
    assert "\nIt ends by itself: rounds would shrink to nothing, and 300 ms of downtime let 18 MiB pass.\n" in text


def test_a_copy_that_never_ends_says_which_downtime_would_end_it_and_is_right(hvgym, tmp_path):
    _, text, _ = hvgym("lab", "migrate=precopy", *HOT, "touches_per_s=20000", "duration_s=60")
    needed_ms = int(re.search(r"A downtime limit above (\d+) ms would end it", text.replace("\n", " "))[1])
    assert re.search(r"rounds \d+ to \d+: about 5\d MiB to send", text)
    for limit_ms, result in ((0.97 * needed_ms, "never"), (1.03 * needed_ms, "done")):
        hvgym(
            "lab", "migrate=precopy", *HOT, "touches_per_s=20000", f"downtime_limit_ms={limit_ms:.0f}", "duration_s=300"
        )
        assert written(tmp_path / "runs" / "lab")[2]["result"] == result


def test_throttle_and_post_copy_stand_in_the_time_line(hvgym):
    throttled = ("bandwidth_mb_per_s=48", "machine.slack=0", "touches_per_s=20000")
    _, text, _ = hvgym("lab", "migrate=autoconverge", *HOT, *throttled)
    found = [int(share) for share in re.findall(r"held back for (\d+)%", text)]
    assert found == [20, 30, 40, 50, 60]
    assert "held back, it dirties less, so the copy ends" in text.replace("\n", " ")
    _, text, _ = hvgym("lab", "migrate=postcopy", *HOT, "touches_per_s=20000")
    assert re.search(r"3 s +post-copy: the guest runs at the target", text)
    assert re.search(r"[\d,]+ touches waited for a page", text)


def test_a_long_time_line_leaves_out_its_middle():
    from hvgym.envs.lab import rounds
    from hvgym.envs.model import convergence, migration, params

    copy = params.zeros((1,), migration.COPY)[0]
    copy["round"], copy["phase"], copy["round_mib"] = 1, convergence.PRECOPY, 1000.0
    line = rounds.Rounds(copy, 100.0, 300.0)
    for number in range(2, 202):
        copy["round"], copy["elapsed_s"], copy["round_mib"] = number, number, 1000.0 + 100.0 * (number % 2)
        line.note(copy)
    events = line.events()
    assert len(events) == rounds.LINES
    assert sum("more like these" in event.words for event in events) == 1
    assert events[-1].words.startswith("round 201: 1,100 MiB")
    assert "(162 more like these)" in [event.words for event in events]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["migrate=precop"],
            "migrate='precop': choose one of precopy, autoconverge, postcopy (did you mean 'precopy'?)",
        ),
        (["other_mib=60"], "other_mib=60: only a migration heeds other_mib"),
        (["migrate=precopy", "levels=[1]"], "levels=[1]: a migration has no levels"),
        (["migrate=precopy", "preset=ground-truth"], "a migration has no preset"),
        (["migrate=precopy", "other_mib=3"], "other_mib=3: must be between 18, the guest's kernel, and 256"),
        (["migrate=precopy", "balloon_mib=500"], "balloon_mib=500: must be at most 488"),
        (["migrate=precopy", "postcopy_after_s=2"], "migrate=precopy has none"),
        (["migrate=precopy", "values=[1]"], "give sweep=dirty or sweep=bandwidth"),
        (["migrate=precopy", "sweep=dirty", "touches_per_s=3"], "sweep=dirty sets touches_per_s"),
        (["migrate=precopy", "sweep=bandwidth", "values=[0]"], "a bandwidth must be above 0"),
        (["migrate=precopy", "touches_per_s=-1"], "touches_per_s=-1: must be at least 0"),
        (["migrate=precopy", "device=nic"], "a device has no migrate"),
        (["migrate=precopy", "jvm=h2"], "a JVM has no migrate"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_would_be_right(arguments, words, hvgym, tmp_path):
    code, _, errors = hvgym("lab", *arguments)
    assert code == 2
    assert words in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
