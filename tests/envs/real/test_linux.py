"""What Linux's files say, from a folder that stands for /."""

import math
from pathlib import Path

import pytest

from hvgym.envs.real.linux import Group, Host, Machine, Process, stalled

MEMINFO = (
    "MemTotal: 8388608 kB\nMemFree: 1048576 kB\nMemAvailable: 2097152 kB\nSwapTotal: 4194304 kB\nSwapFree: 3145728 kB\n"
)


def put(root: Path, path: str, text: str) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_psi_is_a_share_and_seconds() -> None:
    text = "some avg10=12.50 avg60=1.00 avg300=0.10 total=2500000\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=7\n"
    assert stalled(text) == {"some10": 0.125, "some_s": 2.5}


@pytest.mark.parametrize("text", [None, "", "some avg10=x total=1\n", "full avg10=1.00 total=7\n"])
def test_what_is_no_psi_says_nothing(text: str | None) -> None:
    assert stalled(text) == {}


def test_a_process_of_version_2(tmp_path: Path) -> None:
    put(tmp_path, "/proc/7/cgroup", "0::/machine.slice/vm.scope\n")
    put(
        tmp_path,
        "/proc/7/status",
        "Name:\tqemu\nRssAnon:\t  524288 kB\nRssFile: 99999 kB\nRssShmem:\t1024 kB\nVmSwap: 2048 kB\n",
    )
    put(tmp_path, "/proc/7/stat", "7 (qemu (x)) S 1 1 1 0 -1 0 5 0 256 0 150 50 0 0 20 0 4 0 1 1 1\n")
    put(tmp_path, "/proc/7/schedstat", "123 2500000000 9\n")
    folder = "/sys/fs/cgroup/machine.slice/vm.scope"
    put(tmp_path, f"{folder}/memory.current", "1\n")
    put(tmp_path, f"{folder}/memory.pressure", "some avg10=50.00 avg60=0.00 avg300=0.00 total=1000000\n")
    put(tmp_path, f"{folder}/memory.stat", "anon 1\npswpin 512\npswpout 1024\n")
    put(tmp_path, f"{folder}/io.weight", "default 250\n")
    known = Process(Machine(tmp_path), 7).known()
    assert known["resident_mib"] == 513.0
    assert known["host_swap_mib"] == 2.0
    assert known["host_swap_in_mib"] == 2.0  # of the group's counter, which knows better than major faults
    assert known["host_swap_out_mib"] == 4.0
    assert known["cpu_s"] == pytest.approx(2.0)  # 200 ticks of 10 ms
    assert known["cpu_ready_s"] == 2.5
    assert (known["host_psi_some10"], known["host_psi_some_s"], known["disk_shares"]) == (0.5, 1.0, 250.0)


def test_without_a_group_of_its_own_major_faults_are_what_was_read_back(tmp_path: Path) -> None:
    put(tmp_path, "/proc/7/cgroup", "0::/\n")
    put(tmp_path, "/proc/7/stat", "7 (qemu) S 1 1 1 0 -1 0 5 0 256 0 150 50 0 0 20 0 4 0 1 1 1\n")
    process = Process(Machine(tmp_path), 7)
    assert process.group is None
    assert process.known()["host_swap_in_mib"] == 1.0


def test_a_process_that_is_gone_says_nothing(tmp_path: Path) -> None:
    assert Process(Machine(tmp_path), 7).known() == {}


def test_reclaim_of_version_2_writes_bytes(tmp_path: Path) -> None:
    put(tmp_path, "/g/memory.current", "1\n")
    put(tmp_path, "/g/memory.reclaim", "")
    group = Group.at(Machine(tmp_path), "/g")
    assert group is not None
    group.reclaim(2.5)
    assert (tmp_path / "g/memory.reclaim").read_text() == "2621440"


def test_reclaim_of_version_1_puts_the_limit_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "/g/memory.usage_in_bytes", f"{100 * 2**20}\n")
    put(tmp_path, "/g/memory.limit_in_bytes", "9223372036854771712\n")
    written: list[str] = []
    real = Machine.write

    def write(self: Machine, path: str | Path, value: str) -> None:
        written.append(value)
        real(self, path, value)
        if len(written) == 1:
            raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Machine, "write", write)
    group = Group.at(Machine(tmp_path), "/g")
    assert group is not None
    assert group.limit_mib == math.inf
    group.reclaim(30.0)
    assert written == [str(70 * 2**20), "9223372036854771712"]


def host(root: Path, ram_mib: float | None = None, confined_to: str | None = None) -> dict[str, float]:
    put(root, "/proc/meminfo", MEMINFO)
    put(root, "/proc/vmstat", "pswpin 256\npswpout 512\n")
    return Host(Machine(root), ram_mib, confined_to, None, lambda: 0.0).known(vms_mib=3000.0)


def test_a_whole_machine(tmp_path: Path) -> None:
    known = host(tmp_path)
    assert (known["total_mib"], known["free_mib"], known["available_mib"]) == (8192.0, 1024.0, 2048.0)
    assert (known["swap_total_mib"], known["swap_used_mib"], known["swap_in_mib"], known["swap_out_mib"]) == (
        4096.0,
        1024.0,
        1.0,
        2.0,
    )
    assert math.isnan(known["psi_some10"])
    assert math.isnan(known["disk_utilisation"])


def test_a_part_of_a_machine_has_what_its_vms_leave_of_it_and_no_more_than_the_machine(tmp_path: Path) -> None:
    assert host(tmp_path, ram_mib=4000.0)["available_mib"] == 1000.0
    assert host(tmp_path, ram_mib=9000.0)["available_mib"] == 2048.0
    assert host(tmp_path, ram_mib=2000.0)["available_mib"] == 0.0


def test_a_host_that_is_a_control_group(tmp_path: Path) -> None:
    put(tmp_path, "/g/memory.usage_in_bytes", f"{700 * 2**20}\n")
    put(tmp_path, "/g/memory.limit_in_bytes", f"{802 * 2**20}\n")
    put(tmp_path, "/g/memory.stat", f"inactive_file 0\ntotal_inactive_file {50 * 2**20}\n")
    known = host(tmp_path, confined_to="/g")
    assert (known["total_mib"], known["free_mib"], known["available_mib"]) == (802.0, 102.0, 152.0)


def test_utilisation_is_what_was_busy_between_two_readings(tmp_path: Path) -> None:
    now_s = 0.0
    put(tmp_path, "/proc/diskstats", "8 0 sda 1 0 0 0 1 0 0 0 0 1000 0\n")
    put(tmp_path, "/proc/stat", "cpu 100 0 100 800 0 0 0 0 0 0\n")
    found = Host(Machine(tmp_path), None, None, "sda", lambda: now_s)
    first = found.known(0.0)
    assert (first["cpu_utilisation"], first["disk_utilisation"]) == (0.0, 0.0)
    now_s = 10.0
    put(tmp_path, "/proc/diskstats", "8 0 sda 1 0 0 0 1 0 0 0 0 3500 0\n")
    put(tmp_path, "/proc/stat", "cpu 125 0 125 1550 200 0 0 0 0 0\n")
    second = found.known(0.0)
    assert second["cpu_utilisation"] == pytest.approx(0.05)
    assert second["disk_utilisation"] == pytest.approx(0.25)


def test_page_sharing_is_set_by_its_own_sleep(tmp_path: Path) -> None:
    for name, value in (("run", "0"), ("pages_to_scan", "100"), ("sleep_millisecs", "20"), ("pages_sharing", "512")):
        put(tmp_path, f"/sys/kernel/mm/ksm/{name}", value)
    found = Host(Machine(tmp_path), None, None, None, lambda: 0.0)
    assert found.known(0.0)["scan_pages_per_s"] == 0.0
    found.scan(10_000.0)
    known = found.known(0.0)
    assert (known["scan_pages_per_s"], known["shared_mib"]) == (10_000.0, 2.0)
    found.scan(0.0)
    assert (tmp_path / "sys/kernel/mm/ksm/run").read_text() == "0"
