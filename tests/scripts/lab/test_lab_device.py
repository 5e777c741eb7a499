"""Devices on the laboratory bench from the command line: what it writes, and how it answers mistakes."""

import csv
import os
import sys

import pytest

from hvgym.scripts import cli

pytestmark = pytest.mark.usefixtures("no_lab_pictures")

COLUMNS = [
    "device", "offered_per_s", "served_per_s", "mib_per_s", "batch", "exits_per_s", "vcpu_cpus", "backend_cpus", "cpus",
    "cycles_per_request", "latency_us", "limit",
]  # fmt: skip


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


def rows_in(folder):
    with (folder / "lab.csv").open() as file:
        reader = csv.DictReader(file)
        return list(reader), reader.fieldnames


def test_a_device_gives_a_row_a_load_and_a_picture(hvgym, tmp_path):
    code, text, _ = hvgym("lab", "device=e1000", "offered_per_s=[1000,50000]", "out=there")
    assert code == 0
    rows, columns = rows_in(tmp_path / "there")
    assert columns == COLUMNS
    assert [row["offered_per_s"] for row in rows] == ["1000", "50000"]
    assert float(rows[0]["cpus"]) == pytest.approx(122150 * 1000 / 2.7e9, rel=1e-4)
    assert [row["limit"] for row in rows] == ["", "vcpu"]
    assert float(rows[1]["served_per_s"]) == pytest.approx(2.7e9 / 122150, rel=1e-4)
    assert (tmp_path / "there" / "lab.png").read_bytes().startswith(b"\x89PNG")
    assert text.splitlines()[-2:] == [str(tmp_path / "there" / name) for name in ("lab.csv", "lab.png")]


@pytest.mark.parametrize("group", ["nic", "disk"])
def test_a_group_is_all_of_its_devices_from_light_loads_to_too_much(group, hvgym, tmp_path):
    code, text, _ = hvgym("lab", f"device={group}")
    assert code == 0
    listed = {line.split()[0] for line in hvgym("list", f"{group}s")[1].splitlines()[1:]}
    rows, _ = rows_in(tmp_path / "runs" / "lab")
    assert {row["device"] for row in rows} == listed
    assert all(name in text for name in listed)
    assert float(rows[0]["offered_per_s"]) == 1000.0
    assert {row["device"] for row in rows if row["limit"]} == listed


def test_the_bench_can_be_changed(hvgym, tmp_path):
    hvgym("lab", "device=[sriov-posted,vhost-net]", "offered_per_s=[1e9]", "bench.iommu=strict", "bench.clock_ghz=2.93")
    rows, _ = rows_in(tmp_path / "runs" / "lab")
    assert [row["device"] for row in rows] == ["sriov-posted", "vhost-net"]
    assert float(rows[0]["served_per_s"]) == pytest.approx(2.93e9 / (3000 + 4200), rel=0.01)


def test_a_device_of_our_own_is_one_file(hvgym, tmp_path):
    folder = tmp_path / "mine" / "disk"
    folder.mkdir(parents=True)
    (folder / "ours.yaml").write_text(
        "name: ours\ndescription: one of our own\nkind: emulated\nbackend: vcpu\nguest_cycles: 1000\nexits: 1\n"
        "exit_cycles: 1000\ndepth: 8\n"
    )
    assert "one of our own" in hvgym("list", "disks", "--config-dir", "mine")[1]
    assert hvgym("lab", "device=ours", "offered_per_s=[1000]", "--config-dir", "mine")[0] == 0
    assert float(rows_in(tmp_path / "runs" / "lab")[0][0]["cycles_per_request"]) == pytest.approx(2150.0)
    (folder / "ours.yaml").write_text("name: ours\ndescription: x\nkind: emulated\nguest_cycles: 0\n")
    code, _, error = hvgym("lab", "device=ours", "--config-dir", "mine")
    assert code == 2
    assert "disk.ours.guest_cycles=0: must be above 0" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["device=e100"], "device='e100': unknown (did you mean 'e1000'?); choose of hvgym list nics or disks"),
        (["device=7"], "device=7: expected a name, or a list of names"),
        (["device=[e1000,7]"], "expected a name, or a list of names"),
        (["device=[]"], "device=[]: expected at least one name, none twice"),
        (["device=[e1000,e1000]"], "expected at least one name, none twice"),
        (["device=[e1000,nic]"], "expected at least one name, none twice"),
        (["device=[e1000,ide]"], "packets and blocks do not compare; give NICs or disks"),
        (["device=nic", "offered_per_s=[]"], "offered_per_s=[]: expected at least one load"),
        (["device=nic", "offered_per_s=5"], "offered_per_s=5: expected a list"),
        (["device=nic", "offered_per_s=[10,0]"], "offered_per_s[1]=0: must be above 0"),
        (["device=nic", "offered_per_s=[fast]"], "offered_per_s[0]='fast': expected a number"),
        (["device=nic", "bench.clock_ghz=0"], "bench.clock_ghz=0: must be above 0"),
        (["device=nic", "bench.vcpu_share=2"], "bench.vcpu_share=2: must be above 0 and at most 1"),
        (["device=nic", "bench.backend_share=0"], "bench.backend_share=0: must be above 0"),
        (["device=nic", "bench.scheduling_us=-1"], "bench.scheduling_us=-1: must be at least 0"),
        (["device=nic", "bench.iommu=strikt"], "bench.iommu='strikt': choose one of pinned, deferred, strict (did you"),
        (["device=e1000", "bench.iommu=strict"], "bench.iommu='strict': only passed-through devices map for DMA"),
        (["device=nic", "bench.clock=3"], "bench.clock: unknown key (did you mean 'clock_ghz'?)"),
        (["device=nic", "levels=[0.9]"], "levels=[0.9]: a device has no levels; leave it out, or device=nic"),
        (["device=nic", "guest.memory_mib=64"], "guest.memory_mib=64: a device has no guest.memory_mib"),
        (["device=nic", "preset=ground-truth"], "preset=ground-truth: a device has no preset"),
        (["bench.clock_ghz=3"], "bench.clock_ghz=3: only devices heed bench.clock_ghz; give device=NAME too"),
        (["offered_per_s=[10]"], "offered_per_s=[10]: only devices heed offered_per_s; give device=NAME too"),
        (["device=nic", "runs=null"], "runs=None: expected a folder"),
    ],
)  # fmt: skip
def test_a_mistake_ends_in_one_line_and_leaves_nothing(arguments, message, hvgym, tmp_path):
    code, text, error = hvgym("lab", *arguments)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert text == ""
    assert list(tmp_path.iterdir()) == []
