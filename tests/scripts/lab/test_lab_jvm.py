"""``hvgym lab jvm=NAME``: what it writes, and how it answers mistakes."""

import csv
import os
import sys

import pytest

from hvgym.scripts import cli

pytestmark = pytest.mark.usefixtures("no_lab_pictures")

COLUMNS = ["experiment", "taken_by", "taken_share", "taken_mib", "heap_mib", "heap_times", "time", "gc_share",
           "paging_share", "full_pause_s", "state"]  # fmt: skip


@pytest.fixture
def lab(tmp_path, monkeypatch, capsys):
    """Run ``hvgym lab`` in an empty folder; return the code, and what it printed."""
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


def test_both_sweeps_are_written_with_a_picture(lab, tmp_path):
    code, text, _ = lab(
        "jvm=h2", "java.heap_times=[0.9,1,2]", "java.taken_shares=[0,0.5]", "java.devices=[hdd]", "out=there"
    )
    assert code == 0
    rows, columns = rows_in(tmp_path / "there")
    assert columns == COLUMNS
    assert [row["experiment"] for row in rows] == ["heap"] * 3 + ["taken"] * 4
    assert [row["time"] for row in rows[:3]] == ["inf", "1.45084", "1.09355"]
    assert [row["taken_by"] for row in rows[3:]] == ["hdd"] * 2 + ["heap-aware balloon"] * 2
    assert float(rows[4]["time"]) > 100.0 > 2.0 > float(rows[6]["time"])
    assert (tmp_path / "there" / "lab.png").read_bytes().startswith(b"\x89PNG")
    assert text.splitlines()[-2:] == [str(tmp_path / "there" / name) for name in ("lab.csv", "lab.png")]
    assert "out of memory" in text
    assert max(map(len, text.splitlines()[2:-2])) <= 110


def test_any_figure_of_the_workload_may_be_changed(lab, tmp_path):
    lab("jvm=geomean", "jvm.a=0.5", "java.heap_times=[2]")
    assert float(rows_in(tmp_path / "runs" / "lab")[0][0]["time"]) == pytest.approx(0.964 + 0.5 / 1.13, rel=1e-5)


def test_a_flat_curve_and_one_that_never_ran_are_drawn(lab, tmp_path):
    assert lab("jvm=kafka", "java.heap_times=[0.5]", "java.taken_shares=[0]")[0] == 0
    assert rows_in(tmp_path / "runs" / "lab")[0][0]["state"] == "out of memory"


def test_a_workload_of_ones_own_needs_a_file_only(lab, tmp_path):
    (tmp_path / "mine" / "jvm").mkdir(parents=True)
    (tmp_path / "mine" / "jvm" / "shop.yaml").write_text(
        "name: shop\ndescription: ours\nleast_heap_mib: 100\nalloc_mb_per_s: null\niteration_s: 1\nt0: 0.9\na: 0.2\nb: 0.9\n"
        "measured_times: []\nfirst_iteration_times: 1\ninterpreter_times: 10\n"
    )
    code, text, _ = lab("jvm=shop", "--config-dir", "mine")
    assert code == 0
    assert text.startswith("shop: ours; at least 100 MiB of heap, 90 alive")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jvm=h3"], "jvm='h3': unknown"),
        (["java.vcpus=2"], "java.vcpus=2: only a JVM heeds java.vcpus; give jvm=NAME too, or leave it out"),
        (["jvm=h2", "hot_mib=3"], "hot_mib=3: a JVM has no hot_mib; leave it out, or jvm=h2"),
        (["jvm=h2", "preset=ground-truth"], "preset=ground-truth: a JVM has no preset"),
        (["jvm=h2", "jvm.b=2"], "jvm.b=2: must be at least -1 and at most 0.9999"),
        (["jvm=h2", "jvm.t0=fast"], "jvm.t0='fast': expected a number"),
        (["jvm.b=0.5"], "jvm.b: choose jvm=NAME first"),
        (["jvm=h2", "java.heap_times=[]"], "java.heap_times=[]: expected at least one"),
        (["jvm=h2", "java.heap_times=[1,0]"], "java.heap_times[1]=0: must be above 0"),
        (["jvm=h2", "java.taken_shares=[0.99]"], "java.taken_shares[0]=0.99: must be at least 0 and at most 0.95"),
        (["jvm=h2", "java.devices=[tape]"], "java.devices[0]='tape': choose of nvme, sata_ssd, hdd, zram, remote"),
        (["jvm=h2", "java.squeezed_heap_times=1"], "java.squeezed_heap_times=1: must be at least 1.05"),
        (["jvm=h2", "java.vcpus=0"], "java.vcpus=0: must be above 0 and at most 1024"),
        (["jvm=h2", "java.pages_per_read=9"], "java.pages_per_read=9: must be at least 1 and at most 8"),
        (["jvm=h2", "java.vcpu=2"], "java.vcpu: unknown key (did you mean 'vcpus'?)"),
    ],
)
def test_a_mistake_ends_in_one_line_and_leaves_nothing(arguments, message, lab, tmp_path):
    code, text, error = lab(*arguments)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert text == ""
    assert list(tmp_path.iterdir()) == []
