"""A host of QEMU processes as telemetry: what is said, what is not, and VMs that come, go, hang and lie."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.real.host import RealHost
from hvgym.envs.real.linux import Machine
from hvgym.envs.real.qemu import QemuSource
from hvgym.envs.real.settings import read_host
from hvgym.envs.telemetry import Targets, Telemetry
from tests.envs.real.fake_qemu import MIB, UNSET, FakeQemu, running

OPENED: list[RealHost] = []


@pytest.fixture(autouse=True)
def _hang_up() -> Iterator[None]:
    yield
    for one in OPENED:
        one.close()
    OPENED.clear()


class Time:
    """A clock that goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def host_of(tmp_path: Path, *machines: FakeQemu, timeout_s: float = 2.0) -> tuple[RealHost, Time]:
    file = tmp_path / "h.yaml"
    vms = "".join(f"  {one.path.name}: {{min_mib: 256, qmp: {one.path}}}\n" for one in machines)
    file.write_text(f"backend: qemu\nram_mib: 4096\ntimeout_s: {timeout_s}\nvms:\n{vms}")
    settings, clock, machine = read_host(file), Time(), Machine(tmp_path)
    OPENED.append(RealHost(settings, QemuSource(settings, machine), machine, clock, clock, clock.sleep))
    return OPENED[-1], clock


def of(telemetry: Telemetry, name: str, vm: int = 0) -> float:
    return float(telemetry.vm[0, vm][name])


def test_statistics_are_mib_with_their_age_and_unset_ones_are_unknown(tmp_path: Path) -> None:
    qemu = FakeQemu(tmp_path / "a")
    qemu.last_update_s, qemu.stats["stat-available-memory"] = 997, UNSET
    with running(qemu):
        host, _ = host_of(tmp_path, qemu)
        now = host.reset([0])
    assert of(now, "guest_free_mib") == 600.0
    assert of(now, "guest_total_mib") == 980.0
    assert math.isnan(of(now, "guest_available_mib"))
    assert of(now, "stats_age_s") == 3.0
    assert (of(now, "memory_mib"), of(now, "size_mib"), of(now, "min_mib"), of(now, "vcpus")) == (
        1024.0,
        1024.0,
        256.0,
        2.0,
    )
    assert (
        "qom-set",
        {"path": "/machine/peripheral/balloon0", "property": "guest-stats-polling-interval", "value": 2},
    ) in qemu.asked


def test_a_guest_that_never_reported_has_no_statistics_and_no_age(tmp_path: Path) -> None:
    qemu = FakeQemu(tmp_path / "a")
    with running(qemu):
        host, _ = host_of(tmp_path, qemu)
        now = host.reset([0])
    assert math.isnan(of(now, "guest_free_mib"))
    assert math.isnan(of(now, "stats_age_s"))
    assert of(now, "running") == 1.0


def test_a_hung_guest_keeps_its_last_words_and_they_grow_old(tmp_path: Path) -> None:
    qemu = FakeQemu(tmp_path / "a")
    qemu.last_update_s = 1000
    with running(qemu):
        host, _ = host_of(tmp_path, qemu)
        host.reset([0])
        now = host.advance(40)
    assert of(now, "guest_free_mib") == 600.0
    assert of(now, "stats_age_s") == 40.0


def test_counters_that_begin_anew_do_not_jump(tmp_path: Path) -> None:
    qemu = FakeQemu(tmp_path / "a")
    qemu.last_update_s = 1000
    with running(qemu):
        host, _ = host_of(tmp_path, qemu)
        seen = []
        for mib in (500, 530, 0, 10):  # since before we looked; 30 more; the guest was booted; 10 more
            qemu.stats["stat-swap-in"] = mib * MIB
            seen.append(of(host.advance(5), "guest_swap_in_mib"))
    assert seen == [0.0, 30.0, 30.0, 40.0]


def test_a_vm_that_stops_is_off_and_one_that_comes_back_is_read_again(tmp_path: Path) -> None:
    gone, stays = FakeQemu(tmp_path / "a"), FakeQemu(tmp_path / "b")
    with running(gone, stays):
        host, _ = host_of(tmp_path, gone, stays)
        host.reset([0])
        host.apply(Targets(np.array([[512.0, np.nan]])))
        gone.stop()
        now = host.advance(5)
        assert (of(now, "running", 0), of(now, "running", 1)) == (0.0, 1.0)
        assert math.isnan(of(now, "size_mib", 0))
        assert of(now, "memory_mib", 0) == 1024.0
        fresh = FakeQemu(tmp_path / "a")
        with running(fresh):
            now = host.advance(5)
            assert of(now, "running", 0) == 1.0
            assert (of(now, "size_mib", 0), of(now, "target_mib", 0)) == (1024.0, 1024.0)
            assert (
                "qom-set",
                {"path": "/machine/peripheral/balloon0", "property": "guest-stats-polling-interval", "value": 2},
            ) in fresh.asked


@pytest.mark.parametrize("state", ["postmigrate", "shutdown", "inmigrate", "internal-error", "prelaunch"])
def test_a_vm_that_moved_away_or_is_not_here_yet_is_off(tmp_path: Path, state: str) -> None:
    qemu = FakeQemu(tmp_path / "a")
    with running(qemu):
        host, _ = host_of(tmp_path, qemu)
        host.reset([0])
        qemu.status = state
        assert of(host.advance(5), "running") == 0.0


def test_a_qemu_that_hangs_runs_and_nothing_is_known_of_it(tmp_path: Path) -> None:
    qemu = FakeQemu(tmp_path / "a")
    with running(qemu):
        host, _ = host_of(tmp_path, qemu, timeout_s=0.1)
        host.reset([0])
        qemu.answers["query-status"] = 0.4
        now = host.advance(5)
    assert of(now, "running") == 1.0
    assert math.isnan(of(now, "size_mib"))


def test_without_a_balloon_there_is_no_channel_and_it_says_why(tmp_path: Path) -> None:
    qemu = FakeQemu(tmp_path / "a", device=False)
    with running(qemu):
        host, _ = host_of(tmp_path, qemu)
        now = host.reset([0])
        assert math.isnan(of(now, "size_mib"))
        assert host.channels() == ()
        with pytest.raises(InputError, match=r"targets\.memory_mib: this host has none; no VM has a balloon device"):
            host.apply(Targets(np.array([[512.0]])))


def test_requests_are_held_within_minimum_and_memory(tmp_path: Path) -> None:
    qemu = FakeQemu(tmp_path / "a")
    with running(qemu):
        host, _ = host_of(tmp_path, qemu)
        host.reset([0])
        for asked, got in ((100.0, 256.0), (5000.0, 1024.0), (700.5, 700.5)):
            host.apply(Targets(np.array([[asked]])))
            assert qemu.size_mib == got


def test_no_vm_answers(tmp_path: Path) -> None:
    host, _ = host_of(tmp_path, FakeQemu(tmp_path / "a"))
    with pytest.raises(InputError, match="none of its VMs answers: a"):
        host.reset([0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("backend: qemu\nvms: {a: {min_mib: 256}}\n", r"vms\.a\.qmp: missing"),
        ("backend: xen\nvms: {a: {min_mib: 256}}\n", "choose one of qemu, libvirt"),
        ("backend: libvirt\nvms: {}\n", "name at least one"),
        ("backend: libvirt\nvms: {a: {}}\n", r"a\.min_mib: missing"),
        ("backend: libvirt\nvms: {a: {min_mib: 256, size: 3}}\n", "unknown key"),
    ],
)
def test_a_host_file_that_is_wrong_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "h.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=said) as error:
        read_host(file)
    assert "h.yaml" in str(error.value)
