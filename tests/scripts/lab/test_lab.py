"""The laboratory bench from the command line: what it writes, and how it answers mistakes."""

import csv
import os
import subprocess
import sys

import pytest

from hvgym.scripts import cli

pytestmark = pytest.mark.usefixtures("no_lab_pictures")

COLUMNS = [
    "t_s", "level", "target_mib", "actual_mib", "touches_per_s", "miss", "major_faults_per_s", "swap_in_pages_per_s",
    "swap_out_pages_per_s", "free_mib", "available_mib", "swap_used_mib", "psi_some10", "oom_killed",
]  # fmt: skip


@pytest.fixture
def lab(tmp_path, monkeypatch, capsys):
    """Run ``hvgym lab`` in an empty folder, without another process; return the code, and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        os.environ["HYDRA_FULL_ERROR"] = ""
        try:
            code = cli.main(["lab", *arguments])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def rows_in(folder):
    with (folder / "lab.csv").open() as file:
        reader = csv.DictReader(file)
        return list(reader), reader.fieldnames


def test_levels_give_a_row_each_and_a_picture(lab, tmp_path):
    code, text, _ = lab("levels=[1.2,0.8]", "out=there/yet")
    assert code == 0
    rows, columns = rows_in(tmp_path / "there" / "yet")
    assert columns == COLUMNS
    assert [row["level"] for row in rows] == ["1.2", "0.8"]
    assert [float(row["miss"]) for row in rows] == pytest.approx([0.0, 0.22], abs=0.01)
    assert float(rows[1]["target_mib"]) == pytest.approx(0.8 * 256 + 18 + 5.73, abs=0.01)
    assert (tmp_path / "there" / "yet" / "lab.png").read_bytes().startswith(b"\x89PNG")
    assert text.splitlines()[-2:] == [str(tmp_path / "there" / "yet" / name) for name in ("lab.csv", "lab.png")]


def test_without_levels_and_schedule_the_measured_levels_that_fit_are_played(lab, tmp_path):
    lab("hot_mib=400")
    rows, _ = rows_in(tmp_path / "runs" / "lab")
    assert [float(row["level"]) for row in rows] == [1.05, 1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5]


def test_a_schedule_gives_a_row_a_second(lab, tmp_path):
    _, text, _ = lab("schedule=[[0,512],[5,210],[20,512]]")
    rows, columns = rows_in(tmp_path / "runs" / "lab")
    assert columns == COLUMNS
    assert [int(row["t_s"]) for row in rows] == list(range(1, 51))
    assert {row["level"] for row in rows} == {""}
    assert [float(row["target_mib"]) for row in rows] == [512.0] * 5 + [210.0] * 15 + [512.0] * 30
    assert float(rows[4]["actual_mib"]) == 512.0
    assert float(rows[19]["actual_mib"]) == pytest.approx(210.0)
    assert float(rows[19]["miss"]) > 0.2
    assert "reached" in text


def test_a_duration_is_kept(lab, tmp_path):
    lab("schedule=[[0,400]]", "duration_s=7")
    assert len(rows_in(tmp_path / "runs" / "lab")[0]) == 7


def test_the_preset_compares_every_measured_set_up(lab, tmp_path):
    code, text, _ = lab("preset=ground-truth")
    assert code == 0
    rows, columns = rows_in(tmp_path / "runs" / "lab")
    assert columns == ["setup", *COLUMNS]
    setups = ["anon/disk/uniform", "anon/disk/zipf", "anon/zram/uniform", "anon/zram/zipf", "file/uniform"]
    assert list(dict.fromkeys(row["setup"] for row in rows)) == setups
    assert len(rows) == 5 * 9
    assert "error" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_compressed_swap_kills_below_its_cliff_and_the_next_level_starts_anew(lab, tmp_path):
    lab("guest.swap=zram", "levels=[0.9,0.5,0.9]")
    rows, _ = rows_in(tmp_path / "runs" / "lab")
    assert [int(row["oom_killed"]) for row in rows] == [0, 1, 0]
    assert rows[1]["miss"] == "nan"
    assert rows[2] == rows[0]


def test_page_cache_faults_without_swap(lab, tmp_path):
    lab("page_kind=file", "levels=[0.7]")
    row = rows_in(tmp_path / "runs" / "lab")[0][0]
    assert float(row["miss"]) == pytest.approx(0.3, abs=0.01)
    assert [row[name] for name in ("swap_in_pages_per_s", "swap_out_pages_per_s", "swap_used_mib")] == ["0", "0", "0"]


def test_without_swap_the_balloon_stalls(lab, tmp_path):
    lab("guest.swap=none", "hot_mib=350", "levels=[0.8]")
    row = rows_in(tmp_path / "runs" / "lab")[0][0]
    assert float(row["actual_mib"]) > float(row["target_mib"]) + 50.0
    assert row["oom_killed"] == "0"


def test_a_mixture_has_its_own_rate_if_left_to_it(lab, tmp_path):
    _, text, _ = lab("pattern=mixture", "tiers=[[0.25,2],[0.75,50]]", "touches_per_s=null", "levels=[0.5]")
    assert "0.25 every 2 s, 0.75 every 50 s" in text
    row = rows_in(tmp_path / "runs" / "lab")[0][0]
    assert float(row["touches_per_s"]) == pytest.approx(65536 * (0.25 / 2 + 0.75 / 50), rel=1e-3)


def test_64_gib_are_squeezed_to_the_target(lab, tmp_path):
    big = ("guest.memory_mib=65536", "guest.kernel_mib=900", "hot_mib=50000")
    assert lab(*big, "levels=[1.2,0.5]")[0] == 0
    rows, _ = rows_in(tmp_path / "runs" / "lab")
    assert float(rows[1]["actual_mib"]) == pytest.approx(float(rows[1]["target_mib"]), abs=1.0)
    assert float(rows[1]["miss"]) == pytest.approx(0.5, abs=0.01)


def test_a_second_run_takes_the_place_of_the_first_and_leaves_nothing_else(lab, tmp_path):
    lab("levels=[0.9]")
    first = (tmp_path / "runs" / "lab" / "lab.csv").read_bytes()
    lab("levels=[0.8]")
    assert (tmp_path / "runs" / "lab" / "lab.csv").read_bytes() != first
    lab("levels=[0.9]")
    assert (tmp_path / "runs" / "lab" / "lab.csv").read_bytes() == first
    assert sorted(path.name for path in (tmp_path / "runs" / "lab").iterdir()) == ["lab.csv", "lab.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["levels=[0.9]", "schedule=[[0,400]]"], "levels=[0.9]: schedule is given too; give one of levels, schedule"),
        (["levels=[]"], "levels=[]: expected at least one"),
        (["levels=0.9"], "levels=0.9: expected a list"),
        (["levels=[0.9,-0.5]"], "levels[1]=-0.5: must be above 0"),
        (["levels=[0.9,deep]"], "levels[1]='deep': expected a number"),
        (["levels=[2.5]"], "levels[0]=2.5: needs 664 MiB; guest.memory_mib=512 allows at most 1.907"),
        (["schedule=[]"], "schedule=[]: expected at least one [t_s, target_mib]"),
        (["schedule=[[0,400],[5]]"], "schedule[1]=[5]: expected 2 values, got 1"),
        (["schedule=[0,400]"], "schedule[0]=0: expected a list"),
        (["schedule=[[10,400],[5,300]]"], "schedule[1][0]=5: times must rise; it follows 10"),
        (["schedule=[[1.5,400]]"], "schedule[0][0]=1.5: expected whole seconds, at least 0"),
        (["schedule=[[-1,400]]"], "schedule[0][0]=-1: must be at least 0"),
        (["schedule=[[0,600]]"], "schedule[0][1]=600: must be between guest.kernel_mib=23 and guest.memory_mib=512"),
        (["schedule=[[0,10]]"], "schedule[0][1]=10: must be between guest.kernel_mib=23"),
        (["schedule=[[0,400],[9,300]]", "duration_s=9"], "duration_s=9: the last target comes at 9 s; go on beyond it"),
        (["duration_s=9"], "duration_s=9: only a schedule has a duration; give schedule too"),
        (["guest.memory_mib=-512"], "guest.memory_mib=-512: must be above 64"),
        (["guest.kernel_mib=-1"], "guest.kernel_mib=-1: must be at least 2"),
        (["guest.kernel_mib=500", "hot_mib=1"], "guest.kernel_mib=500: "),
        (["guest.swap=zrm"], "guest.swap='zrm': choose one of disk, zram, none (did you mean 'zram'?)"),
        (["guest.memory=512"], "guest.memory: unknown key (did you mean 'memory_mib'?)"),
        (["hot_mib=-1"], "hot_mib=-1: must be at least 1"),
        (["hot_mib=600"], "hot_mib=600: guest.memory_mib=512 leaves at most 483 beside kernel and watermark"),
        (["pattern=zip"], "pattern='zip': choose one of uniform, zipf, mixture (did you mean 'zipf'?)"),
        (["page_kind=filed"], "page_kind='filed': choose one of anon, file (did you mean 'file'?)"),
        (["zipf_exponent=-1"], "zipf_exponent=-1: must be at least 0 and at most 4"),
        (["touches_per_s=0"], "touches_per_s=0: must be above 0"),
        (["touches_per_s=null"], "touches_per_s=None: pattern=uniform needs a number"),
        (["pattern=mixture"], "tiers=None: pattern=mixture takes 1 to 4 tiers, [[weight,tau_s],...]"),
        (["pattern=mixture", "tiers=[[0.5,8],[0.4,100]]"], "tiers=[[0.5,8],[0.4,100]]: weights sum to 0.9; they must"),
        (["pattern=mixture", "tiers=[[1.0,0]]"], "tiers[0][1]=0: must be above 0"),
        (["pattern=mixture", "tiers=[[.2,1],[.2,2],[.2,3],[.2,4],[.2,5]]"], "takes 1 to 4 tiers"),
        (["tiers=[[1,8]]"], "tiers=[[1,8]]: only pattern=mixture has tiers; pattern=uniform"),
        (["zram_stored_share=1.0"], "zram_stored_share=1.0: must be above 0 and at most 0.99"),
        (["zram_stored_share=0"], "zram_stored_share=0: must be above 0"),
        (["machine.disk_iops=0"], "machine.disk_iops=0: must be above 0"),
        (["settle_s=1"], "settle_s=1: must be at least 5"),
        (["measure_s=0.5"], "measure_s=0.5: expected a whole number"),
        (["runs=null"], "runs=None: expected a folder"),
        (["preset=ground-trut"], "preset='ground-trut': choose one of ground-truth (did you mean 'ground-truth'?)"),
        (["preset=ground-truth", "hot_mib=100"], "hot_mib=100: fixed by preset=ground-truth; leave hot_mib out"),
        (["level=[0.9]"], "level: unknown key (did you mean 'levels'?)"),
    ],
)  # fmt: skip
def test_a_mistake_ends_in_one_line_and_leaves_nothing(arguments, message, lab, tmp_path):
    code, text, error = lab(*arguments)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert text == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_ends_in_one_line(lab, tmp_path):
    (tmp_path / "taken").write_text("a file")
    code, _, error = lab("levels=[0.9]", "out=taken")
    assert code == 1
    assert "taken: File exists" in error
    assert error.count("\n") == 1


def test_it_is_a_verb_of_its_own_process(tmp_path):
    command = [sys.executable, "-m", "hvgym.scripts.cli", "lab", "-m", "levels=[0.9]", "pattern=uniform,zipf", "out=x"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "uniform: 1 every 13.1 s" in done.stdout
    assert "zipf: 0.1 every" in done.stdout
    folders = sorted(path.parent.name for path in (tmp_path / "x").rglob("lab.csv"))
    assert folders == ["levels=_0.9_pattern=uniform", "levels=_0.9_pattern=zipf"]
