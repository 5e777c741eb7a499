"""Real guests: the archive by hand, the story as the workload reads it, and where QEMU is installed one of 256 MiB."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hvgym.envs.errors import InputError
from hvgym.envs.real.guests import confined, image, machines
from hvgym.envs.real.host import open_host
from hvgym.envs.scenario import load, resolve
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets


def test_an_archive_is_what_cpio_says() -> None:
    """Header of 110 characters, name and content padded to four bytes."""
    made = image.archive([("init", 0o100755, b"hello")])
    assert made[:6] == b"070701"
    assert int(made[6 + 8 : 14 + 8], 16) == 0o100755  # mode
    assert int(made[6 + 8 * 6 : 14 + 8 * 6], 16) == 5  # size
    assert made[110:115] == b"init\0"
    assert made[116:121] == b"hello"
    assert b"TRAILER!!!" in made
    assert len(made) % 4 == 0


def test_the_archive_is_read_by_cpio(tmp_path: Path) -> None:
    if shutil.which("bsdtar") is None and shutil.which("cpio") is None:
        pytest.skip("neither bsdtar nor cpio is installed")
    import subprocess

    made = image.archive([("bin", 0o40755, b""), ("bin/x", 0o100644, b"odd")])
    command = ["bsdtar", "-xf", "-"] if shutil.which("bsdtar") else ["cpio", "-idm"]
    subprocess.run(command, input=made, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "bin/x").read_bytes() == b"odd"


def test_a_story_names_every_tier_in_every_step() -> None:
    story = load("real-guests").groups[2].story
    assert story is not None
    assert machines.lines_of(story) == [
        "tier 16 0.5",
        "tier 1e+07 0.5",
        "step 0 60 30",
        "step 40 220 0",
        "step 90 60 30",
    ]


def test_what_guests_do_not_play_is_refused() -> None:
    data = load("real-guests").to_dict()
    data["vms"][0]["story"]["tiers"][0]["page_cache"] = True
    story = resolve(data).groups[0].story
    assert story is not None
    with pytest.raises(InputError, match="anonymous memory"):
        machines.lines_of(story)


def test_a_machine_without_qemu_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"qemu-system-x86_64 .*which this machine lacks"):
        image.built(tmp_path / "g")


@pytest.mark.skipif(bool(image.missing()), reason="no QEMU, gcc or apt here")
def test_one_real_guest_of_256_mib_gives_memory_and_takes_it_back(tmp_path: Path) -> None:
    try:
        kernel, initrd = image.built(tmp_path / "guests")
    except InputError as error:
        pytest.skip(f"packages cannot be had here: {error}")
    data = load("real-guests").to_dict()
    story = {"tiers": [{"name": "hot", "retouch_s": 5.0}], "steps": [{"at_s": 0, "mib": {"hot": 40}}]}
    data["vms"] = [
        data["vms"][1] | {"name": "one", "memory_mib": 256, "settled_mib": 256, "min_mib": 120, "story": story}
    ]
    guests = machines.Guests(resolve(data), kernel, initrd, tmp_path / "run", "tcg")
    try:
        guests.start()
        guests.fill(seed=0)
        guests.warm()
        guests.go(600)
        host = open_host(guests.settings())
        host.reset([0])
        host.apply(Targets(np.array([[200.0]])))
        now = host.advance(8.0)
        assert now.vm["size_mib"].tolist() == [[200.0]]
        assert 40.0 < now.vm["resident_mib"][0, 0] < 256.0 + 90.0
        assert now.vm["guest_total_mib"][0, 0] < 210.0
        host.apply(Targets(np.array([[256.0]])))
        assert host.advance(8.0).vm["size_mib"].tolist() == [[256.0]]
        seconds = guests.progress()["one"]
        assert len(seconds) >= 5
        assert all(0.0 <= share <= 1.0 for _, share in seconds)
        host.close()
    finally:
        guests.stop()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [confined.LOCK]
    assert not guests.confined.files.exists()


def test_a_hosts_ram_is_what_the_simulator_makes_of_an_overcommit_ratio() -> None:
    """A ratio, and a size in MiB, which stays."""
    scenario = load("idle-giants-short")
    given = replace(scenario, host=replace(scenario.host, ram_mib=40_000.0, overcommit=None))
    for one in (scenario, given):
        sim = Simulator(one)
        sim.reset([0])
        assert machines.ram_mib(one) == sim.host_specs["ram_mib"][0, 0]
    assert machines.ram_mib(given) == 40_000.0
