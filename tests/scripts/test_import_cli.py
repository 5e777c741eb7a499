"""``hvgym import``: a table, the page of what was read as what, one line for whatever is wrong, and nothing left behind."""

import errno
import os
import signal
import subprocess
import time

import numpy as np
import pytest

from hvgym.scripts import cli
from tests.scripts.calling import COMMAND, hvgym

MAP = "columns={vm: name, time: ts, cap: size, guest_used: Memory used [MiB]}"


def run(*arguments, cwd, code=0):
    done = hvgym("import", *arguments, cwd=cwd, code=code)
    assert "Traceback" not in done.stderr
    return done


def write(file, days=1, vms=6, step=300):
    rng = np.random.default_rng(0)
    rows = ["ts,name,size,Memory used [MiB]"]
    for time_s in range(1_700_000_000, 1_700_000_000 + 86_400 * days, step):
        rows += [f"{time_s},vm-{vm},{4096 * (1 + vm % 3)},{rng.uniform(500, 3500):.1f}" for vm in range(vms)]
    file.write_text("\n".join(rows) + "\n")


@pytest.fixture
def folder(tmp_path):
    """Whose path is as awkward as they come, with two files in it."""
    made = tmp_path / "My Traces [x=1], (2024)"
    made.mkdir()
    write(made / "a.csv")
    return made


def test_an_import_ends_with_its_path_and_what_to_do_next(folder, tmp_path):
    done = run("plain", str(folder), MAP, "out=the trace", cwd=tmp_path)
    *page, path, following = done.stdout.splitlines()
    assert path == str(tmp_path / "the trace")
    assert following == f"next: hvgym advise workload='{path}' host.ram_mib=… hypervisor=…"
    assert "\n".join(page).strip() == (tmp_path / "the trace" / "import.txt").read_text().strip()
    assert any("cap from 'size': MiB, told by the data" in line for line in page)
    assert sorted(os.listdir(tmp_path)) == [folder.name, "the trace"]


def test_check_prints_the_page_and_writes_nothing(folder, tmp_path):
    done = run("plain", str(folder / "a.csv"), MAP, "check=true", "out=trace", cwd=tmp_path)
    assert "guest_used from 'Memory used [MiB]': MiB" in done.stdout
    assert "Lives: 0 VMs arrive" in done.stdout
    assert os.listdir(tmp_path) == [folder.name]


def test_caps_and_groups_come_as_maps_or_files(folder, tmp_path):
    from hvgym.envs.imports.table import read_table

    (tmp_path / "sizes.csv").write_text("vm,mib\n" + "".join(f"vm-{i},{4096 * (1 + i)}\n" for i in range(6)))
    (tmp_path / "teams (all).csv").write_text("vm,group\nvm-0,shop\nvm-1,shop\n")
    run("plain", str(folder), MAP, "out=a", "caps=sizes.csv", "groups=teams (all).csv", cwd=tmp_path)
    table = read_table(tmp_path / "a")
    assert dict(table.vms())["vm-5"]["cap_bytes"].unique().tolist() == [24576 * 2**20]
    assert table.meta["group"].tolist() == ["shop", "shop", None, None, None, None]
    run("plain", str(folder), MAP, "out=a", "caps={vm-0: 8192}", cwd=tmp_path)
    assert dict(read_table(tmp_path / "a").vms())["vm-0"]["cap_bytes"].unique().tolist() == [2**33]


def test_a_vm_that_stands_twice_in_caps_or_groups_is_refused(folder, tmp_path):
    for key, second in (("caps", "mib"), ("groups", "group")):
        (tmp_path / "said.csv").write_text(f"vm,{second}\nvm-0,4096\nvm-1,4096\nvm-0,8192\n")
        done = run("plain", str(folder), MAP, "out=a", f"{key}=said.csv", cwd=tmp_path, code=2)
        assert "said.csv: line 4: VM 'vm-0' stands twice, as 4096 and 8192; say it once" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "source is missing; hvgym import SOURCE FILES out=DIR; known: plain"),
        (["plain"], "files are missing; hvgym import plain FILES out=DIR"),
        (["plan", "DIR", "out=x"], "source='plan': no such source (did you mean 'plain'?)"),
        (["plain", "DIR"], "out=null: expected a folder for the table"),
        (["plain", "none.csv", "out=x"], "none.csv: there is no such file or folder"),
        (["plain", "DIR", "out=x", "columns={vm: name, time: ts, cap: siz, guest_used: mem}"], "did you mean 'size'"),
        (["plain", "DIR", "out=x", "columns={vm: name, tim: ts}"], "columns: 'tim': no such quantity (did you mean 'time'?)"),
        (["plain", "DIR", "out=x", "columns=name"], "columns='name': expected columns={QUANTITY: NAME, …}"),
        (["plain", "DIR", "out=x", MAP, "units={cap: KiBs}"], "units: cap='KiBs': choose one of B, KiB"),
        (["plain", "DIR", "out=x", MAP, "units={backed: KiB}"], "units: backed: the files have no such column"),
        (["plain", "DIR", "out=x", MAP, "caps={vm-0: big}"], "caps: vm-0: 'big': expected configured memory in MiB"),
        (["plain", "DIR", "out=x", MAP, "caps=none.csv"], "caps='none.csv': there is no such file"),
        (["plain", "DIR", "out=x", MAP, "groups=none.csv"], "groups='none.csv': there is no such file"),
        (["plain", "DIR", "out=x", MAP, "anonymise=maybe"], "anonymise='maybe': choose one of true, false"),
        (["-m", "plain", "DIR", "out=x"], "-m: import has nothing to sweep over"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_and_nothing_is_written(folder, tmp_path, words, says):
    done = run(*(str(folder) if word == "DIR" else word for word in words), cwd=tmp_path, code=2)
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == [folder.name]


def test_a_folder_of_ones_own_is_not_written_over(folder, tmp_path):
    done = run("plain", str(folder), MAP, f"out={folder}", cwd=tmp_path, code=2)
    assert "holds other files; choose a new folder, or remove it" in done.stderr
    assert os.listdir(folder) == ["a.csv"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_import_leaves_nothing_and_the_earlier_one(folder, tmp_path, sent):
    run("plain", str(folder), MAP, "out=trace", cwd=tmp_path)
    before = (tmp_path / "trace" / "manifest.json").read_bytes()
    write(folder / "b.csv", days=30, vms=40)
    running = subprocess.Popen(
        [*COMMAND, "import", "plain", str(folder), MAP, "out=trace"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    until = time.time() + 60
    while not list(tmp_path.glob(".trace-*/rows")) and time.time() < until:
        time.sleep(0.02)
    running.send_signal(sent)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130
    assert error == "hvgym: interrupted; nothing was written, an earlier import is as it was\n"
    assert sorted(os.listdir(tmp_path)) == [folder.name, "trace"]
    assert (tmp_path / "trace" / "manifest.json").read_bytes() == before


def test_a_full_disk_is_told_with_its_place_and_no_claim_that_anything_goes_on(folder, tmp_path, monkeypatch, capsys):
    def full(request, progress):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hvgym.envs.imports.importing.import_files", full)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["import", "plain", str(folder), MAP, "out=trace"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"hvgym: {tmp_path}: no space left on device")
    assert error.endswith("nothing was written, an earlier import is as it was\n")
    assert os.listdir(tmp_path) == [folder.name]  # its progress is gone, too


def test_help_lists_sources_with_what_they_read(tmp_path):
    text = run("--help", cwd=tmp_path).stdout
    assert "Sources:\n  plain " in text
    assert "reads cap, granted, guest_used" in text


def test_a_zone_that_is_none_is_refused_in_files_without_dates_too(folder, tmp_path):
    done = run("plain", str(folder / "a.csv"), MAP, "zone=Berlin", "check=true", cwd=tmp_path, code=2)
    assert done.stderr == ("hvgym: zone='Berlin': no time zone is called so; give one as in zone=Europe/Berlin\n")
