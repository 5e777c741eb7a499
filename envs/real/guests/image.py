"""What a guest boots from, made of packages: a kernel of Debian's, busybox, and the workload compiled on this machine.

    FOLDER/packages/      what apt-get download brought, unpacked
    FOLDER/vmlinuz        the kernel
    FOLDER/initrd         an archive (cpio, newc) with busybox, the modules that the guest's devices need, and the workload
    FOLDER/made_of        its init and the workload's source; of others it is made anew

Needed on the machine: apt-get and dpkg-deb (a Debian or Ubuntu with its package lists), gcc with a static C library, and
qemu-system-x86_64. What is missing is said in one line.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from hvgym.envs.errors import InputError
from hvgym.envs.files import write_atomically

KERNEL, BUSYBOX = "linux-image-cloud-amd64", "busybox-static"
"""Debian's packages; the first depends on the one that has the kernel."""

MODULES = (
    "drivers/virtio/virtio", "drivers/virtio/virtio_ring", "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci", "drivers/virtio/virtio_balloon",
    "drivers/block/virtio_blk",
)  # fmt: skip
"""Those that the kernel has built in are not there. Which of them needs which differs between releases (virtio and virtio_ring
did), so all are loaded twice."""

# the port stays open from before it says up: what arrives while nobody has it open is lost
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
/bin/busybox mount -t devtmpfs none /dev
for pass in 1 2; do for module in /modules/*; do /bin/busybox insmod $module 2> /dev/null; done; done
[ -b /dev/vda ] && /bin/busybox mkswap /dev/vda > /dev/null && /bin/busybox swapon /dev/vda
exec 3<> /dev/ttyS1
/bin/busybox stty raw -echo <&3
for driver in virtio_balloon virtio_blk; do [ -e /sys/bus/virtio/drivers/$driver ] || echo lacks $driver >&3; done
echo up >&3
exec /bin/load <&3 >&3
"""

NEEDED = {
    "apt-get": "a Debian or Ubuntu with its package lists",
    "dpkg-deb": "a Debian or Ubuntu",
    "gcc": "apt-get install gcc libc6-dev",
    "qemu-system-x86_64": "apt-get install qemu-system-x86",
}


def missing() -> list[str]:
    """Programs that are not there, and whence they come."""
    return [f"{program} ({whence})" for program, whence in NEEDED.items() if shutil.which(program) is None]


def built(folder: Path) -> tuple[Path, Path]:
    """Kernel and initrd; made where they are not there, or of an older workload. Raises `InputError` that says what is missing."""
    kernel, initrd, made_of = folder / "vmlinuz", folder / "initrd", folder / "made_of"
    if kernel.exists() and initrd.exists() and made_of.exists() and made_of.read_text() == INIT + _source():
        return kernel, initrd
    if lacking := missing():
        raise InputError(f"guests need {', '.join(lacking)}, which this machine lacks")
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    if not (packages / "bin/busybox").exists() or not list(packages.glob("boot/vmlinuz-*")):
        _download(packages)
    found = sorted(packages.glob("boot/vmlinuz-*"))
    if not found:
        raise InputError(f"{packages}: {KERNEL} brought no kernel")
    write_atomically(initrd, archive(_content(packages, found[-1].name.removeprefix("vmlinuz-"), _workload(folder))))
    write_atomically(kernel, found[-1].read_bytes())
    write_atomically(made_of, INIT + _source())
    return kernel, initrd


def _download(folder: Path) -> None:
    """Fetch and unpack both packages."""
    depends = _run(["apt-cache", "depends", KERNEL], folder)
    names = [line.split()[-1] for line in depends.splitlines() if "Depends: linux-image-" in line]
    if not names:
        raise InputError(f"{KERNEL}: apt knows no such package; run apt-get update first")
    _run(["apt-get", "download", names[0], BUSYBOX], folder)
    for package in sorted(folder.glob("*.deb")):
        _run(["dpkg-deb", "-x", package.name, "."], folder)


def _source() -> str:
    return (files("hvgym.envs.real.guests") / "load.c").read_text()


def _workload(folder: Path) -> bytes:
    """The workload, compiled."""
    source, program = folder / "load.c", folder / "load"
    source.write_text(_source())
    _run(["gcc", "-O2", "-static", "-o", program.name, source.name], folder)
    return program.read_bytes()


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"{' '.join(command[:3])}: {last}")
    return done.stdout


Entry = tuple[str, int, bytes]
"""Name, mode and content."""


def _content(packages: Path, version: str, workload: bytes) -> list[Entry]:
    entries: list[Entry] = [(name, 0o40755, b"") for name in ("bin", "dev", "modules", "proc", "sys")]
    entries += [
        ("bin/busybox", 0o100755, (packages / "bin/busybox").read_bytes()),
        ("bin/load", 0o100755, workload),
        ("init", 0o100755, INIT.encode()),
    ]
    for order, name in enumerate(MODULES):
        file = packages / "lib/modules" / version / "kernel" / f"{name}.ko"
        if file.exists():
            entries.append((f"modules/{order}-{file.name}", 0o100644, file.read_bytes()))
    return entries


def archive(entries: Iterable[Entry]) -> bytes:
    """Of cpio, format newc (Linux, Documentation/driver-api/early-userspace/buffer-format.rst)."""
    out = bytearray()
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + "".join(f"{field:08X}" for field in fields).encode() + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


if __name__ == "__main__":
    try:
        print("\n".join(map(str, built(Path(sys.argv[1])))))
    except InputError as error:
        sys.exit(f"make guests: {error}")
