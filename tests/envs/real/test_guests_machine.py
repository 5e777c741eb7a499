"""What real guests run on, without any: who had the processors, files in memory, seconds in which a guest stood still."""

import os
import socket

import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.real.guests import image, machines
from hvgym.envs.real.guests.confined import Confined
from hvgym.envs.real.guests.crowding import Watch
from hvgym.envs.real.guests.guest import Guest, Hardware


def machine(root, delays_s, guest_ticks, machine_ticks):
    """Files of /proc: run delays by thread of process 7, its CPU time, and the machine's user, idle and stolen time."""
    for thread, delay in delays_s.items():
        folder = root / "proc/7/task" / thread
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "schedstat").write_text(f"1 {int(delay * 1e9)} 3\n")
    (root / "proc/7/stat").write_text(f"7 (qemu) S {' '.join(['0'] * 10)} {guest_ticks} 0 0\n")
    user, idle, stolen = machine_ticks
    (root / "proc/stat").write_text(f"cpu {user} 0 0 {idle} 0 0 0 {stolen} 0 0\n")


def test_a_guest_waited_as_long_as_its_threads_could_have_run(tmp_path):
    """Two threads that were there all the time, 2 + 3 s of 100; of 150 s of CPU time 40 were the guest's, 50 of 200 stolen."""
    tick = os.sysconf("SC_CLK_TCK")
    machine(tmp_path, {"7": 1.0, "8": 0.0, "9": 5.0}, 0, (0, 0, 0))
    clock = iter((10.0, 110.0))
    watch = Watch([7], tmp_path, lambda: next(clock))
    (tmp_path / "proc/7/task/9/schedstat").unlink()
    machine(tmp_path, {"7": 3.0, "8": 3.0, "10": 50.0}, 40 * tick, (150 * tick, 50 * tick, 50 * tick))
    found = watch.told()
    assert found.waited == pytest.approx(0.05)
    assert found.guests == pytest.approx(0.4)
    assert found.others == pytest.approx(1.1)
    assert found.stolen == pytest.approx(0.25)


def test_swap_of_guests_is_in_memory_whole_and_gone_afterwards(tmp_path):
    confined = Confined(64.0, None, tmp_path)
    try:
        paths = confined.open([1.0, 2.0], 0.0)
        assert [path.stat().st_blocks * 512 / 2**20 for path in paths] == [1.0, 2.0]
        assert all(path.is_relative_to("/dev/shm") for path in paths)
    finally:
        confined.close()
    assert not confined.files.exists()


def test_more_swap_than_there_is_memory_is_refused(tmp_path):
    confined = Confined(64.0, None, tmp_path)
    with pytest.raises(InputError, match="for guests' swap"):
        confined.open([1e9], 0.0)
    confined.close()


def test_a_guest_that_stood_still_did_in_each_second_what_it_tells_of_all():
    """Three seconds of which the first says 30 of 90, then one of its own."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.sendall(b"s 4 30 90\ns 5 0 0\ns 6 0 0\ns 7 20 20\nother\ns 8 1")
    guest = Guest("one", None, here)
    assert guest.seconds() == [
        (4, pytest.approx(1 / 3)),
        (5, pytest.approx(1 / 3)),
        (6, pytest.approx(1 / 3)),
        (7, 1.0),
    ]
    assert guest.said == ["other"]
    there.sendall(b" 2\n")
    assert guest.seconds() == [(8, 0.5)]
    there.close()
    here.close()


def test_a_folder_of_guests_is_one_runs(tmp_path):
    first, second = Confined(64.0, None, tmp_path), Confined(64.0, None, tmp_path)
    first.open([1.0], 0.0)
    with pytest.raises(InputError, match="another run plays guests there"):
        second.open([1.0], 0.0)
    second.close()
    assert first.files.exists()
    first.close()
    second.open([1.0], 0.0)
    second.close()


def test_a_guest_that_lacks_a_driver_is_said(tmp_path):
    guest = Guest("one", None, None, said=["lacks virtio_balloon", "up"])
    with pytest.raises(InputError, match="one: lacks virtio_balloon"):
        machines.Guests._complete(guest)


def test_an_image_of_an_older_workload_is_made_anew(tmp_path, monkeypatch):
    for name in ("vmlinuz", "initrd", "made_of"):
        (tmp_path / name).write_text("")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="guests need"):
        image.built(tmp_path)
    (tmp_path / "made_of").write_text(image.INIT + image._source())
    assert image.built(tmp_path) == (tmp_path / "vmlinuz", tmp_path / "initrd")


def test_a_guest_that_waits_for_another_does_not_boot(tmp_path):
    hardware = Hardware("one", 256, tmp_path / "k", tmp_path / "i", tmp_path, "tcg", tmp_path / "s", iops=600)
    assert "throttling.iops-total=600" in " ".join(hardware.command())
    assert "-incoming" not in hardware.command()
    moving = Hardware("one", 256, tmp_path / "k", tmp_path / "i", tmp_path, "tcg", tmp_path / "s", incoming="unix:w")
    assert moving.command()[-2:] == ["-incoming", "unix:w"]
