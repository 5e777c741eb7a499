"""The monitor's line of JSON, whole and broken."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hvgym.envs.real import qmp
from hvgym.envs.real.qmp import MonitorError, MonitorRefusedError, MonitorSilentError
from tests.envs.real.fake_qemu import FakeQemu, running

OPENED: list[qmp.Monitor] = []


@pytest.fixture(autouse=True)
def _hang_up() -> Iterator[None]:
    yield
    for one in OPENED:
        one.close()
    OPENED.clear()


def Monitor(path: Path, timeout_s: float = 2.0) -> qmp.Monitor:  # noqa: N802 - stands for the class
    OPENED.append(qmp.Monitor(path, timeout_s))
    return OPENED[-1]


def test_skips_events_and_returns_what_qemu_returns(tmp_path: Path) -> None:
    qemu = FakeQemu(tmp_path / "m")
    with running(qemu):
        monitor = Monitor(qemu.path)
        assert monitor.execute("query-status")["status"] == "running"
        assert monitor.execute("query-balloon") == {"actual": 1024 * 2**20}
    assert qemu.asked[0][0] == "qmp_capabilities"


def test_an_error_reply_names_command_and_reason_and_the_line_stays_open(tmp_path: Path) -> None:
    qemu = FakeQemu(tmp_path / "m")
    with running(qemu):
        monitor = Monitor(qemu.path)
        with pytest.raises(
            MonitorRefusedError, match="query-magic: The command query-magic has not been found"
        ) as refusal:
            monitor.execute("query-magic")
        assert refusal.value.kind == "CommandNotFound"
        assert monitor.execute("query-status")["running"]
    assert [name for name, _ in qemu.asked].count("qmp_capabilities") == 1


def test_silence_ends_the_call_in_time_and_the_late_reply_is_never_taken_for_another(tmp_path: Path) -> None:
    qemu = FakeQemu(tmp_path / "m")
    qemu.answers["query-cpus-fast"] = 0.5
    with running(qemu):
        monitor = Monitor(qemu.path, timeout_s=0.1)
        with pytest.raises(MonitorSilentError, match="no answer in time"):
            monitor.execute("query-cpus-fast")
        assert monitor.execute("query-status")["status"] == "running"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b'{"return": {"status": "run', "hung up"),
        (b"", "hung up"),
        (b"not json\n", "Expecting value"),
        (b"[1, 2]\n", "expected a JSON object"),
        (b"\xc3(\n", "decode"),
    ],
)
def test_a_broken_answer_is_one_line_and_the_next_command_connects_anew(
    tmp_path: Path, reply: bytes, reason: str
) -> None:
    qemu = FakeQemu(tmp_path / "m")
    qemu.answers["query-status"] = reply
    with running(qemu):
        monitor = Monitor(qemu.path)
        with pytest.raises(MonitorError, match=reason) as error:
            monitor.execute("query-status")
        assert "\n" not in str(error.value)
        del qemu.answers["query-status"]
        assert monitor.execute("query-status")["status"] == "running"


def test_an_endless_line_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvgym.envs.real.qmp.LONGEST_LINE", 1000)
    qemu = FakeQemu(tmp_path / "m")
    qemu.answers["query-status"] = b"x" * 100_000
    with running(qemu), pytest.raises(MonitorError, match="longer than 1000 bytes"):
        Monitor(qemu.path).execute("query-status")


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="no monitor answers"):
        Monitor(tmp_path / "none").execute("query-status")
