"""The part of a machine that guests have: control groups of memory and of reads from host swap, and files in memory.

The limit on memory is the host's RAM. It is lowered step by step once guests hold their pages, for a kernel that is asked for
hundreds of MiB at once gives up (version 1) or kills (version 2). Host swap is what the machine has; where it has none and this
user may, a file is added while guests run. Guests swap to files in /dev/shm, written through before by this process, so that they
are charged to nobody's limit. What may not be set is not: without a control group the RAM is not confined.

Left out: limits on writes to host swap, for the kernel throttles those who wait, and nobody waits for write-back.

Source: Linux cgroup-v1/memory.rst, cgroup-v1/blkio-controller.rst, cgroup-v2.rst; own measurements (docs/validation.md, ranks).
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from hvgym.envs.errors import InputError
from hvgym.envs.real.linux import Group, Machine

CGROUPS = Path("/sys/fs/cgroup")
IN_MEMORY = Path("/dev/shm")
OURS = "hvgym-"

STEP_MIB, STEP_S, PATIENCE_S = 16.0, 0.5, 120.0
"""By how much the limit goes down at a time, how long the host has to see who touches what, how long all may take; guesses."""

MIB = 2**20


LOCK = "lock"


def _locked(folder: Path) -> IO[str]:
    """Held until it is closed. Raises `InputError` where another run has it."""
    lock = (folder / LOCK).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise InputError(
            f"{folder}: another run plays guests there; wait for its end, or choose another runs="
        ) from None
    return lock


class Confined:
    """Not there before `open`. ram_mib: of all guests; swap_iops: reads from host swap a second, None without limit;
    folder: where a swap file may lie."""

    def __init__(self, ram_mib: float, swap_iops: float | None, folder: Path) -> None:
        self._ram_mib, self._swap_iops, self._folder = ram_mib, swap_iops, folder
        self._host_swap = folder / "host.swap"
        self._lock: IO[str] | None = None
        self.memory: Path | None = None
        self._reads: Path | None = None
        self._swaps = False
        self.files = IN_MEMORY / f"{OURS}{os.getpid()}"

    def open(self, images_mib: Sequence[float], host_swap_mib: float) -> list[Path]:
        """Make all of it: files of the sizes asked for, and host swap of this size where there is none. One at a time has a folder.
        Raises `InputError`."""
        self._lock = _locked(self._folder)
        sweep(self._host_swap)
        self._add_swap(host_swap_mib)
        self.memory = _made(("memory", "."), ("memory.limit_in_bytes", "memory.max"))
        self._reads = _made(("blkio", "."), ("blkio.throttle.read_iops_device", "io.max")) if self._swap_iops else None
        for device in swap_devices() if self._reads else ():
            self._limit_reads(device)
        return self._images(images_mib)

    def enter(self) -> None:
        """Let the process that calls this, and what it becomes, be confined."""
        for group in {self.memory, self._reads} - {None}:
            assert group is not None
            (group / "cgroup.procs").write_text(str(os.getpid()))

    def squeeze(self) -> None:
        """Lower the limit to the host's RAM. Raises `InputError` where guests hold more and host swap takes no more of them."""
        group = Group.at(Machine(), str(self.memory)) if self.memory else None
        if group is None:
            return
        end, step_mib = time.monotonic() + PATIENCE_S, STEP_MIB
        while group.limit_mib > self._ram_mib:
            limit_mib = max(min(group.used_mib, group.limit_mib) - step_mib, self._ram_mib)
            time.sleep(STEP_S)
            try:
                self._limit(limit_mib)
            except OSError:  # busy: writes to host swap are under way
                if time.monotonic() > end:
                    raise InputError(
                        f"guests hold {group.used_mib:.0f} MiB of {self._ram_mib:.0f}, and host swap takes no more"
                    ) from None

    def close(self) -> None:
        """Remove what was made; guests have ended."""
        if self._lock is None:
            return
        for group in (self.memory, self._reads):
            if group is not None:
                _removed(group)
        shutil.rmtree(self.files, ignore_errors=True)
        if self._swaps:
            _swap_off(self._host_swap)
        self._lock.close()
        self.memory = self._reads = self._lock = None
        self._swaps = False

    @property
    def told(self) -> str:
        """In words."""
        memory = f"confined to {self._ram_mib:.0f} MiB" if self.memory else "RAM is not confined"
        swap = "host swap of the machine" if swap_devices() else "no host swap"
        limit = f", {self._swap_iops:.0f} reads/s" if self._reads and swap_devices() else ""
        return f"{memory}, {'a file as host swap' if self._swaps else swap}{limit}"

    def _limit(self, mib: float) -> None:
        assert self.memory is not None
        name = "memory.max" if (self.memory / "memory.max").exists() else "memory.limit_in_bytes"
        (self.memory / name).write_text(str(int(mib * MIB)))

    def _limit_reads(self, device: str) -> None:
        assert self._reads is not None
        rate = f"{self._swap_iops:.0f}"
        with contextlib.suppress(OSError):  # a file system that is on no device
            if (self._reads / "io.max").exists():
                (self._reads / "io.max").write_text(f"{device} riops={rate}")
            else:
                (self._reads / "blkio.throttle.read_iops_device").write_text(f"{device} {rate}")

    def _add_swap(self, mib: float) -> None:
        if mib <= 0.0 or swap_devices() or os.geteuid() != 0 or not all(map(shutil.which, ("mkswap", "swapon"))):
            return
        with self._host_swap.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            os.posix_fallocate(file.fileno(), 0, int(mib * MIB))
        for command in (["mkswap", str(self._host_swap)], ["swapon", str(self._host_swap)]):
            if subprocess.run(command, capture_output=True, check=False).returncode:
                self._host_swap.unlink(missing_ok=True)
                return
        self._swaps = True

    def _images(self, sizes_mib: Sequence[float]) -> list[Path]:
        self.files.mkdir(exist_ok=True)
        free_mib = shutil.disk_usage(self.files).free / MIB
        if sum(sizes_mib) > free_mib:
            raise InputError(f"{IN_MEMORY}: {sum(sizes_mib):.0f} MiB for guests' swap, but {free_mib:.0f} are free")
        paths = [self.files / f"{number}.swap" for number in range(len(sizes_mib))]
        for path, mib in zip(paths, sizes_mib, strict=True):
            with path.open("wb") as file:
                file.truncate(max(int(mib * MIB), 4096))
                os.posix_fallocate(file.fileno(), 0, max(int(mib * MIB), 4096))
        return paths


def sweep(host_swap: Path) -> None:
    """Remove what runs left that were killed: their control groups, files in memory, host swap."""
    for place in (CGROUPS, CGROUPS / "memory", CGROUPS / "blkio", IN_MEMORY):
        for folder in place.glob(f"{OURS}[0-9]*"):
            if not Path("/proc", folder.name.removeprefix(OURS)).exists():
                shutil.rmtree(folder, ignore_errors=True) if place == IN_MEMORY else _removed(folder)
    if host_swap.exists():
        _swap_off(host_swap)


def swap_devices() -> list[str]:
    """Numbers of the disks that the host swaps to, ``major:minor``."""
    found = []
    for line in Path("/proc/swaps").read_text().splitlines()[1:]:
        place = Path(line.split()[0])
        with contextlib.suppress(OSError):
            known = place.stat()
            found.append(_whole_disk(known.st_dev if place.is_file() else known.st_rdev))
    return found


def _whole_disk(device: int) -> str:
    """Of a disk or one of its partitions."""
    number = f"{os.major(device)}:{os.minor(device)}"
    place = Path("/sys/dev/block", number)
    return (place.resolve().parent / "dev").read_text().strip() if (place / "partition").exists() else number


def _swap_off(file: Path) -> None:
    subprocess.run(["swapoff", str(file)], capture_output=True, check=False)
    file.unlink(missing_ok=True)


def _made(places: Sequence[str], files: Sequence[str]) -> Path | None:
    """A control group under the first of these folders in which it has the file that is to be written; None."""
    for place, name in zip(places, files, strict=True):
        folder = CGROUPS / place / f"{OURS}{os.getpid()}"
        with contextlib.suppress(OSError):
            ours = folder.exists()  # version 2 has one for all
            folder.mkdir(exist_ok=True)
            if os.access(folder / name, os.W_OK):
                return folder
            if not ours:
                folder.rmdir()
    return None


def _removed(folder: Path) -> None:
    """A control group goes when its last process is gone, which may take a moment."""
    for _ in range(50):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return
