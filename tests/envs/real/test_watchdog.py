"""However driving ends, the guests have the sizes back that they had. Real processes; QEMU's monitor is played."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.envs.real.fake_qemu import MIB, FakeQemu, running

SQUEEZE = """
import numpy as np
from hvgym.agents.policy import Policy
from hvgym.envs.telemetry import Targets

class Squeeze(Policy):
    period_s = 0.2
    def __init__(self, fails: bool = False) -> None:
        self.fails, self.turns = fails, 0
    def decide(self, telemetry):
        self.turns += 1
        if self.fails and self.turns > 2:
            raise RuntimeError("no idea")
        return Targets(np.full(telemetry.vm.shape, 300.0))
"""


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[FakeQemu]:
    machine = FakeQemu(tmp_path / "a.qmp")
    machine.last_update_s = round(time.time()) + 3600  # never stale
    (tmp_path / "conf/agent").mkdir(parents=True)
    (tmp_path / "conf/agent/squeeze.py").write_text(SQUEEZE)
    for name, fails in (("squeeze", "false"), ("failing", "true")):
        text = f"name: {name}\ndescription: x\n_target_: squeeze.Squeeze\nsignals: [balloon, guest_free_mib]\nfails: {fails}\n"
        (tmp_path / f"conf/agent/{name}.yaml").write_text(text)
    (tmp_path / "h.yaml").write_text(
        f"name: h\nbackend: qemu\nram_mib: 4096\nstats_every_s: 1\nvms: {{a: {{min_mib: 256, qmp: {machine.path}}}}}\n"
    )
    with running(machine):
        yield machine


def drive(folder: Path, *words: str, agent: str = "squeeze", confirm: str = "true") -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "hvgym.scripts.cli",
        "drive",
        f"host={folder}/h.yaml",
        f"agent={agent}",
        f"drive.confirm={confirm}",
    ]
    fixed = ["tracking=none", f"runs={folder}/runs", "minutes=1", "--config-dir", str(folder / "conf")]
    return subprocess.Popen(
        [*command, *fixed, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
    )


def wait_for(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def test_kill_9_in_mid_squeeze_and_the_watchdog_gives_the_memory_back(tmp_path: Path, qemu: FakeQemu) -> None:
    driver = drive(tmp_path)
    wait_for(lambda: qemu.size_mib < 500)
    kept = tmp_path / "runs/drive/.h.restore.json"
    assert json.loads(kept.read_text())["sizes_mib"] == {"a": 1024.0}
    os.kill(driver.pid, signal.SIGKILL)
    wait_for(lambda: qemu.size_mib == 1024.0)
    wait_for(lambda: not kept.exists())
    driver.communicate()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_told_to_end_the_driver_gives_it_back_itself(tmp_path: Path, qemu: FakeQemu, end: signal.Signals) -> None:
    driver = drive(tmp_path)
    wait_for(lambda: qemu.size_mib < 900)
    driver.send_signal(end)
    text, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, text
    assert qemu.size_mib == 1024.0
    assert list((tmp_path / "runs/drive").glob("*/decisions.csv"))
    assert not (tmp_path / "runs/drive/.h.restore.json").exists()


def test_a_policy_that_fails_ends_driving_and_the_memory_is_given_back(tmp_path: Path, qemu: FakeQemu) -> None:
    driver = drive(tmp_path, agent="failing")
    text, _ = driver.communicate(timeout=60)
    assert driver.returncode == 2
    assert "no idea" in text
    assert "Traceback" not in text
    assert qemu.size_mib == 1024.0


def test_whom_the_watchdog_could_not_help_the_next_command_does(tmp_path: Path, qemu: FakeQemu) -> None:
    qemu.size_mib = 400.0
    kept = tmp_path / "runs/drive/.h.restore.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"host": str(tmp_path / "h.yaml"), "sizes_mib": {"a": 1000.0}}))
    text, _ = drive(tmp_path, "restore=true").communicate(timeout=60)
    assert "gave a the size back" in text
    assert qemu.size_mib == 1000.0
    assert not kept.exists()


def test_without_confirmation_nothing_is_asked_for(tmp_path: Path, qemu: FakeQemu) -> None:
    text, _ = drive(tmp_path, confirm="false").communicate(timeout=60)
    assert "watch hvgym shadow first" in text
    assert qemu.size_mib == 1024.0
    assert not qemu.asked


def test_shadow_says_what_it_would_do_and_does_not(tmp_path: Path, qemu: FakeQemu) -> None:
    words = [
        "shadow",
        f"host={tmp_path}/h.yaml",
        "agent=squeeze",
        "tracking=none",
        f"runs={tmp_path}/runs",
        "minutes=0.05",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "hvgym.scripts.cli", *words, "--config-dir", str(tmp_path / "conf")],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "a would be 1024 -> 922 MiB (step)" in done.stdout
    assert not [name for name, _ in qemu.asked if name == "balloon"]
    assert qemu.size_mib * MIB == 1024 * MIB
