"""QEMU processes with such guests: one a VM of a scenario, on a part of the machine that is the scenario's host.

What each is started with stands in `guest`, what they share in `confined`.
"""

import os
import selectors
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from hvgym.envs.errors import InputError
from hvgym.envs.real.guests.confined import Confined
from hvgym.envs.real.guests.guest import Guest, Hardware, started
from hvgym.envs.real.settings import RealHostSettings, VmSettings
from hvgym.envs.scenario import Scenario
from hvgym.envs.story import Story
from hvgym.envs.vm_group import VmGroup

BOOT_S = 180.0
"""For all guests to be up; TCG needs 7 s for one alone, more than a minute on a busy machine."""

FILL_S = 600.0
"""For all guests to have written their pages, some of them to a slow swap."""

OVERHEAD_MIB = 58.0
"""Of a QEMU beside its guest's memory, where the scenario does not say (docs/validation.md, ranks)."""


def ram_mib(scenario: Scenario) -> float:
    """The host's RAM as it was given, or what the overcommit ratio makes it."""
    if scenario.machine.ram_mib is not None:
        return scenario.machine.ram_mib
    ratio = (scenario.machine.overcommit or 1.0) * scenario.overcommit_scale
    return sum(group.memory_mib for group in scenario.groups) / ratio


class Guests:
    """All guests of a scenario. folder: for sockets and host swap."""

    def __init__(self, scenario: Scenario, kernel: Path, initrd: Path, folder: Path, accelerator: str) -> None:
        self.scenario, self._folder, self.accelerator = scenario, folder, accelerator
        self._kernel, self._initrd = kernel, initrd
        if scenario.host is None:
            raise InputError(f"scenario {scenario.name}: has several hosts; real guests share one")
        self.ram_mib = ram_mib(scenario)
        self.guests = list[Guest]()
        self.confined = Confined(self.ram_mib, scenario.host.swap_iops, folder)
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def names(self) -> list[str]:
        """Of VMs, in the scenario's order."""
        return [name for group in self.scenario.vms for name in _named(group.name, group.count)]

    def start(self) -> None:
        """Boot them, and wait until all are up. Raises `InputError` for one that does not come up."""
        for name, group in zip(self.names, self.scenario.groups, strict=True):
            if not isinstance(group.story, Story):
                raise InputError(f"scenario {self.scenario.name}: VM {name} has no story; real guests play stories")
            lines_of(group.story)
        groups = self.scenario.groups
        whole_mib = sum(group.memory_mib + (group.overhead_mib or OVERHEAD_MIB) for group in groups)
        images = self.confined.open([group.guest_swap_mib for group in groups], whole_mib)
        for name, group, image in zip(self.names, groups, images, strict=True):
            self.guests.append(started(self._hardware(name, group, image), self.confined.enter))
        self._wait("up", BOOT_S)
        for guest in self.guests:
            guest.come_first()

    def fill(self, seed: int) -> None:
        """Let workloads write the pages that they begin with."""
        for number, (guest, group) in enumerate(zip(self.guests, self.scenario.groups, strict=True)):
            assert isinstance(group.story, Story)
            for line in lines_of(group.story):
                guest.tell(line)
            guest.tell(f"seed {seed * 1000 + number}")
            guest.tell("fill")
        self._wait("filled", FILL_S)

    def warm(self) -> None:
        """Let workloads run as they begin, and the host come down to the scenario's RAM meanwhile."""
        for guest in self.guests:
            guest.tell("warm")
        self.confined.squeeze()

    def go(self, seconds: int) -> None:
        """Let the story begin."""
        for guest in self.guests:
            guest.tell(f"go {seconds}")

    def progress(self) -> dict[str, list[tuple[int, float]]]:
        """Second and share of the touches that were done, for each VM, of all seconds that were told since the last call."""
        return {guest.name: guest.seconds() for guest in self.guests}

    def settings(self) -> RealHostSettings:
        """As a real host."""
        vms = {
            name: VmSettings(
                min_mib=group.min_mib, qmp=str(self._folder / f"{name}.qmp"), memory_mib=group.memory_mib, weight=group.weight,
                critical=group.critical, overhead_mib=group.overhead_mib or OVERHEAD_MIB,
            )
            for name, group in zip(self.names, self.scenario.groups, strict=True)
        }  # fmt: skip
        confined_to = str(self.confined.memory) if self.confined.memory else None
        return RealHostSettings(
            self.scenario.name, "qemu", vms, ram_mib=self.ram_mib, confined_to=confined_to, stats_every_s=1, timeout_s=5.0
        )  # fmt: skip

    def stop(self) -> None:
        """End them, and remove what they held."""
        for guest in self.guests:
            guest.end()
            for end in ("qmp", "port"):
                (self._folder / f"{guest.name}.{end}").unlink(missing_ok=True)
        self.confined.close()
        self.guests = []

    def _hardware(self, name: str, group: VmGroup, image: Path) -> Hardware:
        return Hardware(
            name, group.memory_mib, self._kernel, self._initrd, self._folder, self.accelerator, image,
            group.disk_limit_iops,
        )  # fmt: skip

    def _why(self, guest: Guest) -> str:
        """In words, as far as it can be told."""
        if guest.process.returncode == -9 and self.confined.memory:
            return f": the host's {self.ram_mib:.0f} MiB did not suffice ({self.confined.told})"
        return f": {guest.last_words}"

    @staticmethod
    def _complete(guest: Guest) -> None:
        if lacks := [line for line in guest.said if line.startswith("lacks ")]:
            raise InputError(f"{guest.name}: {lacks[0]}: its modules do not load into this kernel (image.MODULES)")

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
                    self._complete(self.guests[number])
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
