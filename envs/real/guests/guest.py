"""A guest that runs: its QEMU process, and the port through which its workload hears and answers.

KVM where it boots a guest, else TCG, which translates every instruction. The processes have no transparent huge pages (a balloon
of 4 KiB pages would leave 2 MiB folios charged), a small translation buffer, the processors before others where this user may ask
for that, and end with whoever started them, kill -9 included.

Source of what to mind: own measurements on QEMU 7.2 (docs/validation.md, ranks).
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hvgym.envs.errors import InputError

PR_SET_PDEATHSIG, PR_SET_THP_DISABLE = 1, 41

TRANSLATION_MIB = 32

NICE = -15
"""With it guests kept 99.5 % of their pace on two busy cores; as root."""

CONNECT_S = 30.0


@dataclass(frozen=True)
class Hardware:
    """What a QEMU is started with. folder: for its sockets; swap: a file for its swap disk, of at most iops operations a second;
    incoming: where it waits for another's memory instead of booting."""

    name: str
    memory_mib: float
    kernel: Path
    initrd: Path
    folder: Path
    accelerator: str
    swap: Path
    iops: float | None = None
    incoming: str | None = None

    @property
    def port(self) -> Path:
        """Socket of the workload's serial port."""
        return self.folder / f"{self.name}.port"

    @property
    def monitor(self) -> Path:
        """Socket of QEMU's monitor."""
        return self.folder / f"{self.name}.qmp"

    def command(self) -> list[str]:
        """Of QEMU."""
        throttle = f",throttling.iops-total={int(self.iops)}" if self.iops and self.iops < 1e9 else ""
        accelerator = f"tcg,tb-size={TRANSLATION_MIB}" if self.accelerator == "tcg" else "kvm"
        return [
            "qemu-system-x86_64", "-accel", accelerator, "-m", f"{self.memory_mib:.0f}", "-no-reboot",
            "-nodefaults", "-no-user-config", "-display", "none", "-kernel", str(self.kernel), "-initrd", str(self.initrd),
            "-append", "console=ttyS0 quiet panic=-1 transparent_hugepage=never", "-serial", "null",
            "-chardev", f"socket,id=port,path={self.port},server=on,wait=off", "-serial", "chardev:port",
            "-device", "virtio-balloon-pci,id=balloon0", "-qmp", f"unix:{self.monitor},server=on,wait=off",
            "-drive", f"file={self.swap},if=virtio,format=raw,cache=writeback{throttle}",
            *(("-incoming", self.incoming) if self.incoming else ()),
        ]  # fmt: skip


@dataclass
class Guest:
    """A VM that runs. said: lines that its workload said and nobody read yet; share: of its last second's touches."""

    name: str
    process: "subprocess.Popen[bytes]"
    port: socket.socket
    rest: bytes = b""
    said: list[str] = field(default_factory=list)
    share: float = 1.0

    def tell(self, line: str) -> None:
        """To its workload."""
        self.port.sendall(line.encode() + b"\n")

    def hear(self) -> None:
        """What has come since."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while got := self.port.recv(65536):
                self.rest += got
        *lines, self.rest = self.rest.split(b"\n")
        self.said += [line.decode(errors="replace").strip() for line in lines]

    def told(self, word: str) -> bool:
        """Whether it has said this; lines up to it are gone then."""
        if word in self.said:
            del self.said[: self.said.index(word) + 1]
            return True
        return False

    def seconds(self) -> list[tuple[int, float]]:
        """Second and share of the touches that were done, of all seconds that were told since the last call. One in which nothing
        was owed belongs to the one before: a guest that stood still for longer tells all of it in the first."""
        self.hear()
        rows = [line.split() for line in self.said if line.startswith("s ")]
        self.said = [line for line in self.said if not line.startswith("s ")]
        found = []
        for second, done, owed in (map(int, row[1:]) for row in rows if len(row) == 4):
            self.share = min(done / owed, 1.0) if owed else self.share
            found.append((second, self.share))
        return found

    def come_first(self) -> None:
        """Let it run at once when it wakes, where this user may (root): by its share of the processors alone it waited a quarter of
        its time beside one busy process. Its main thread, in which I/O ends, comes before vCPUs, or it waits for their time slices.
        Not before it is up: a kernel that boots waits for ticks that another thread gives."""
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            priority = 2 if thread.name == str(self.process.pid) else 1
            with contextlib.suppress(OSError):
                os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(priority))

    @property
    def last_words(self) -> str:
        """What QEMU wrote before it ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode(errors="replace").strip()[-200:]

    def end(self) -> None:
        """Kill it."""
        self.port.close()
        self.process.kill()
        self.process.communicate()


def started(hardware: Hardware, enter: Callable[[], None] = lambda: None) -> Guest:
    """Start a QEMU. enter: called in the new process before it becomes QEMU, to join control groups. Raises `InputError`."""
    process = subprocess.Popen(
        hardware.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=lambda: _alone(enter),
    )  # fmt: skip
    return Guest(hardware.name, process, _connected(hardware, process))


def _alone(enter: Callable[[], None]) -> None:
    """In the new process: not our Ctrl-C but our end, no huge pages, first in the queue for processors."""
    os.setsid()
    library = ctypes.CDLL(None)
    library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    library.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        Path("/proc/self/autogroup").write_text(
            str(NICE)
        )  # where each session has its share, nice counts within it only
    enter()


def _connected(hardware: Hardware, process: "subprocess.Popen[bytes]") -> socket.socket:
    end = time.monotonic() + CONNECT_S
    while time.monotonic() < end:
        if process.poll() is not None:
            assert process.stderr is not None
            said = process.stderr.read().decode(errors="replace").strip()[-200:]
            raise InputError(f"{hardware.name}: QEMU ended: {said}")
        found = socket.socket(socket.AF_UNIX)
        try:
            found.connect(str(hardware.port))
        except OSError:
            found.close()
            time.sleep(0.05)
            continue
        found.setblocking(False)
        return found
    process.kill()
    process.communicate()
    raise InputError(f"{hardware.name}: QEMU opened no port within {CONNECT_S:.0f} s")
