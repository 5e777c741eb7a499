"""A host that fails on the laboratory bench: timers are those of the stack, and what is written adds up."""

import csv
import json
import os
import sys

import pytest

from hvgym.envs.lab import failure as lab
from hvgym.envs.scenario import group_files, load_group
from hvgym.scripts import cli
from hvgym.scripts.keys import verb

pytestmark = pytest.mark.usefixtures("no_lab_pictures")


@pytest.fixture
def hvgym(tmp_path, monkeypatch, capsys):
    """Run a verb in an empty folder, without another process; return the code, and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments):
        os.environ["HYDRA_FULL_ERROR"] = ""
        try:
            code = cli.main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def played(fail="power", stack="proxmox", **cluster):
    data = {"fail": fail, "cluster": dict(verb("lab").keys["cluster"]) | cluster}
    return lab.play(lab.setup(data, load_group("stack", stack))[0])


def test_proxmox_by_hand():
    """Silent for 60 s, its lock free after 120 s; the target's agent starts VMs a round later, and they boot for 30 s."""
    failed = played()
    assert (failed.host, failed.noticed_s, failed.fenced_s) == ("host-2", 60.0, 120.0)
    queued = [row.t_s for row in failed.rows if row.queued]
    assert (queued[0], queued[-1]) == (121, 130)
    assert sum(row.booting > 0 for row in failed.rows) == 30 - 1
    assert failed.first_back_s == failed.all_back_s > 160
    assert failed.rows[failed.all_back_s - 1].progress >= 0.5
    assert failed.rows[-1].progress > 0.9


def test_vsphere_is_faster_and_slower_where_its_primary_fails():
    assert (played(stack="vsphere").noticed_s, played(stack="vsphere").fenced_s) == (15.0, 18.0)
    assert played(stack="vsphere", fails="first").noticed_s == 15.0 + 17.0


@pytest.mark.parametrize("stack", sorted(group_files("stack")))
@pytest.mark.parametrize("fail", ["power", "crash", "isolated", "stall"])
def test_every_second_has_all_vms_of_the_host_in_some_phase(stack, fail):
    failed = played(fail, stack, vms_per_host=3, duration_s=400)
    for row in failed.rows:
        assert row.at_work + row.slow + row.down + row.queued + row.booting == 3
    assert [row.t_s for row in failed.rows] == list(range(1, failed.stopped_s + 1))
    assert failed.lost_s == pytest.approx(sum(3 * (1.0 - row.progress) for row in failed.rows))
    if failed.noticed_s is not None and failed.fenced_s is not None:
        assert 0.0 <= failed.noticed_s <= failed.fenced_s


def test_a_stalled_host_is_not_noticed():
    failed = played("stall", lasts_s=200)
    assert (failed.noticed_s, failed.fenced_s) == (None, None)
    assert failed.all_back_s == pytest.approx(201, abs=2)
    assert [event.words for event in failed.events] == ["host-2 stands still most of the time", "host-2 is up again"]


def test_hosts_that_are_full_leave_vms_waiting():
    """Without overcommit vSphere's reservation rule has no say, but XenServer commits memory, and there is none."""
    failed = played(stack="xenserver", vms_per_host=7, vm_mib=8192, duration_s=600)
    assert failed.all_back_s is None
    assert failed.rows[-1].queued > 0
    assert any("cannot be restarted yet: the host's memory" in event.words for event in failed.events)


def test_the_command_tells_the_time_line_and_leaves_three_files(hvgym, tmp_path):
    code, text, error = hvgym("lab", "fail=power", "stack=vsphere", "out=there")
    assert code == 0, error
    assert "vsphere on esxi; host-2 loses its power, for 900 s" in text
    assert "host-2 taken for dead, 15 s after it failed" in text
    assert "taken for dead after 15 s; fenced after 18 s" in text
    assert text.splitlines()[-3:] == [str(tmp_path / "there" / name) for name in ("lab.csv", "summary.json", "lab.png")]
    with (tmp_path / "there" / "lab.csv").open() as file:
        rows = list(csv.DictReader(file))
    totals = json.loads((tmp_path / "there" / "summary.json").read_text())
    assert int(rows[-1]["t_s"]) == totals["stopped_s"] == totals["all_back_s"] + lab.AFTER_S - 1
    assert (tmp_path / "there" / "lab.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fail=fire"], "fail='fire': choose one of power, crash, isolated, stall"),
        (["fail=power", "cluster.hosts=1"], "cluster.hosts=1: must be at least 2"),
        (["fail=power", "cluster.vm_mib=40000"], "cluster.vm_mib=40000: 4 of them do not fit into host_mib=65536"),
        (["fail=power", "cluster.host=3"], "cluster.host: unknown key (did you mean 'hosts'?)"),
        (["fail=power", "levels=[0.9]"], "levels=[0.9]: a host that fails has no levels; leave it out, or fail=power"),
        (["fail=power", "migrate=precopy"], "migrate=precopy: a host that fails has no migrate"),
        (["stack=vsphere"], "stack=vsphere: only a host that fails heeds stack; give fail=power too"),
        (["cluster.hosts=4"], "cluster.hosts=4: only a host that fails heeds cluster.hosts"),
        (["fail=power", "stack=vmware"], "stack='vmware': unknown"),
    ],
)
def test_a_mistake_ends_in_one_line_and_leaves_nothing(arguments, message, hvgym, tmp_path):
    code, _, error = hvgym("lab", *arguments)
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
