"""QEMU processes with such guests: one a VM of a scenario, in a control group whose limit is the host's RAM.

KVM where it boots a guest, else TCG, which translates every instruction. Guests swap to a file of their own on a virtio disk, with
the VM's limit on operations as QEMU's own throttle. The processes have no transparent huge pages (a balloon of 4 KiB pages would
leave 2 MiB folios charged) and a small translation buffer. Without a control group that may be written the host's RAM is not
confined, and `confined` is None.

Source of what to mind: own measurements on QEMU 7.2 (docs/validation.md, ranks).
"""

import contextlib
import ctypes
import os
import selectors
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hvgym.envs.errors import InputError
from hvgym.envs.real.settings import RealHostSettings, VmSettings
from hvgym.envs.scenario import Scenario
from hvgym.envs.story import Story
from hvgym.envs.vm_group import VmGroup

BOOT_S = 180.0
"""For all guests to be up; TCG needs 7 s for one alone, more than a minute on a busy machine."""

FILL_S = 600.0
"""For all guests to have written their pages, some of them to a slow swap."""

PR_SET_THP_DISABLE = 41

TRANSLATION_MIB = 32

GROUPS = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"
"""Where control groups of memory lie, version 1 and 2."""


@dataclass
class Guest:
    """A VM that runs. said: lines that its workload said and nobody read yet."""

    name: str
    process: "subprocess.Popen[bytes]"
    port: socket.socket
    rest: bytes = b""
    said: list[str] = field(default_factory=list)

    def tell(self, line: str) -> None:
        """To its workload."""
        self.port.sendall(line.encode() + b"\n")

    def hear(self) -> None:
        """What has come since."""
        with contextlib.suppress(BlockingIOError):
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


def _ram_mib(scenario: Scenario) -> float:
    """The host's RAM as it was given, or what the overcommit ratio makes it."""
    if scenario.machine.ram_mib is not None:
        return scenario.machine.ram_mib
    ratio = (scenario.machine.overcommit or 1.0) * scenario.overcommit_scale
    return sum(group.memory_mib for group in scenario.groups) / ratio


class Guests:
    """All guests of a scenario. folder: for sockets and swap files."""

    def __init__(self, scenario: Scenario, kernel: Path, initrd: Path, folder: Path, accelerator: str) -> None:
        self.scenario, self._folder, self.accelerator = scenario, folder, accelerator
        self._kernel, self._initrd = kernel, initrd
        if scenario.host is None:
            raise InputError(f"scenario {scenario.name}: has several hosts; real guests share one")
        self.ram_mib = _ram_mib(scenario)
        self.guests = list[Guest]()
        self.confined: str | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def names(self) -> list[str]:
        """Of VMs, in the scenario's order."""
        return [name for group in self.scenario.vms for name in _named(group.name, group.count)]

    def start(self) -> None:
        """Boot them, and wait until all are up. Raises `InputError` for one that does not come up."""
        self.confined = self._group()
        for name, group in zip(self.names, self.scenario.groups, strict=True):
            if not isinstance(group.story, Story):
                raise InputError(f"scenario {self.scenario.name}: VM {name} has no story; real guests play stories")
            self.guests.append(self._started(name, group))
        self._wait("up", BOOT_S)

    def fill(self, seed: int) -> None:
        """Let workloads write the pages that they begin with."""
        for number, (guest, group) in enumerate(zip(self.guests, self.scenario.groups, strict=True)):
            story = group.story
            assert isinstance(story, Story)
            for line in lines_of(story):
                guest.tell(line)
            guest.tell(f"seed {seed * 1000 + number}")
            guest.tell("fill")
        self._wait("filled", FILL_S)

    def go(self, seconds: int) -> None:
        """Let all begin."""
        for guest in self.guests:
            guest.tell(f"go {seconds}")

    def progress(self) -> dict[str, list[tuple[int, float]]]:
        """Second and share of the touches that were done, for each VM, of all seconds that were told since the last call."""
        found = dict[str, list[tuple[int, float]]]()
        for guest in self.guests:
            guest.hear()
            rows = [line.split() for line in guest.said if line.startswith("s ")]
            found[guest.name] = [(int(row[1]), int(row[2]) / max(int(row[3]), 1)) for row in rows if len(row) == 4]
            guest.said = [line for line in guest.said if not line.startswith("s ")]
        return found

    def settings(self) -> RealHostSettings:
        """As a real host."""
        vms = {
            name: VmSettings(
                min_mib=group.min_mib, qmp=str(self._folder / f"{name}.qmp"), memory_mib=group.memory_mib, weight=group.weight,
                critical=group.critical, overhead_mib=group.overhead_mib or 58.0,
            )
            for name, group in zip(self.names, self.scenario.groups, strict=True)
        }  # fmt: skip
        return RealHostSettings(
            self.scenario.name,
            "qemu",
            vms,
            ram_mib=self.ram_mib,
            confined_to=self.confined,
            stats_every_s=1,
            timeout_s=5.0,
        )

    def stop(self) -> None:
        """End them, and remove what they held."""
        for guest in self.guests:
            guest.port.close()
            guest.process.kill()
            guest.process.communicate()
        for name in self.names:
            for end in ("swap", "qmp", "port"):
                (self._folder / f"{name}.{end}").unlink(missing_ok=True)
        if self.confined:
            with contextlib.suppress(OSError):
                os.rmdir(self.confined)
        self.guests = []

    def _group(self) -> str | None:
        """A control group with the host's RAM as limit; None where there can be none."""
        for root in GROUPS:
            folder = Path(root) / f"hvgym-{os.getpid()}"
            limit = "memory.limit_in_bytes" if root.endswith("memory") else "memory.max"
            try:
                folder.mkdir()
                (folder / limit).write_text(str(int(self.ram_mib * 2**20)))
            except OSError:
                with contextlib.suppress(OSError):
                    folder.rmdir()
                continue
            return str(folder)
        return None

    def _started(self, name: str, group: VmGroup) -> Guest:
        swap = self._folder / f"{name}.swap"
        with swap.open("wb") as file:
            file.truncate(int(group.guest_swap_mib * 2**20))
        iops = group.disk_limit_iops
        throttle = f",throttling.iops-total={int(iops)}" if iops and iops < 1e9 else ""
        port, monitor = self._folder / f"{name}.port", self._folder / f"{name}.qmp"
        accelerator = f"tcg,tb-size={TRANSLATION_MIB}" if self.accelerator == "tcg" else "kvm"
        command = [
            "qemu-system-x86_64", "-accel", accelerator, "-m", f"{group.memory_mib:.0f}",
            "-nodefaults", "-no-user-config", "-display", "none", "-kernel", str(self._kernel), "-initrd", str(self._initrd),
            "-append", "console=ttyS0 quiet panic=-1 transparent_hugepage=never", "-serial", "null",
            "-chardev", f"socket,id=port,path={port},server=on,wait=off", "-serial", "chardev:port",
            "-device", "virtio-balloon-pci,id=balloon0", "-qmp", f"unix:{monitor},server=on,wait=off",
            "-drive", f"file={swap},if=virtio,format=raw,cache=writeback{throttle}",
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=self._alone
        )
        return Guest(name, process, self._connected(port, process, name))

    def _alone(self) -> None:
        """In the new process: its control group, no huge pages, not our Ctrl-C."""
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
        if self.confined:
            (Path(self.confined) / "cgroup.procs").write_text(str(os.getpid()))

    @staticmethod
    def _connected(port: Path, process: "subprocess.Popen[bytes]", name: str) -> socket.socket:
        end = time.monotonic() + 30.0
        while time.monotonic() < end:
            if process.poll() is not None:
                assert process.stderr is not None
                raise InputError(f"{name}: QEMU ended: {process.stderr.read().decode(errors='replace').strip()[-200:]}")
            found = socket.socket(socket.AF_UNIX)
            try:
                found.connect(str(port))
            except OSError:
                found.close()
                time.sleep(0.05)
                continue
            found.setblocking(False)
            return found
        process.kill()
        raise InputError(f"{name}: QEMU opened no port within 30 s")

    def _why(self, guest: Guest) -> str:
        """In words, as far as it can be told."""
        if guest.process.returncode == -9 and self.confined:
            return f": the host's {self.ram_mib:.0f} MiB did not suffice, and there is no swap of the host"
        assert guest.process.stderr is not None
        return f": {guest.process.stderr.read().decode(errors='replace').strip()[-200:]}"

    def _wait(self, word: str, seconds: float) -> None:
        """Until all guests have said it."""
        end, left = time.monotonic() + seconds, set(range(len(self.guests)))
        with selectors.DefaultSelector() as selector:
            for number, guest in enumerate(self.guests):
                selector.register(guest.port, selectors.EVENT_READ, number)
            while left:
                if time.monotonic() > end:
                    names = ", ".join(self.guests[number].name for number in sorted(left))
                    raise InputError(f"{names}: not {word} within {seconds:.0f} s ({self.accelerator})")
                selector.select(0.5)
                if dead := [guest for guest in self.guests if guest.process.poll() is not None]:
                    raise InputError(f"{dead[0].name}: QEMU ended before it was {word}{self._why(dead[0])}")
                for number in list(left):
                    self.guests[number].hear()
                    if self.guests[number].told(word):
                        left.remove(number)


def _named(name: str, count: int) -> Sequence[str]:
    return [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]


def lines_of(story: Story) -> list[str]:
    """A story as the workload reads it: each step with the size of every tier."""
    lines = [f"tier {tier.retouch_s:g} {tier.write_share:g}" for tier in story.tiers]
    if wrong := [tier.name for tier in story.tiers if tier.page_cache or tier.fill_mib_per_s]:
        raise InputError(f"story.tiers.{wrong[0]}: real guests play anonymous memory that appears as it is touched")
    sizes = dict.fromkeys((tier.name for tier in story.tiers), 0.0)
    for step in story.steps:
        sizes |= dict(step.mib or {})
        lines.append(" ".join(["step", str(step.at_s), *(f"{size:g}" for size in sizes.values())]))
    return lines


def accelerator(kernel: Path, initrd: Path) -> str:
    """kvm where it boots a guest within 20 s, else tcg: /dev/kvm may be there and not work."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    command = [
        "qemu-system-x86_64", "-accel", "kvm", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none", "-kernel",
        str(kernel), "-initrd", str(initrd), "-append", "console=ttyS0 quiet panic=-1", "-serial", "null", "-serial", "stdio",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            return "kvm" if selector.select(20.0) and process.stdout.readline().strip() == b"up" else "tcg"
    finally:
        process.kill()
        process.communicate()
