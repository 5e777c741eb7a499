"""What a backend asks of a virtual machine monitor."""

from collections.abc import Sequence
from typing import Protocol

from hvgym.envs.real.readings import VmReading


class Source(Protocol):
    """QEMU's monitors, or libvirt. VMs by name."""

    interface: str
    """Of `rules.INTERFACES`."""

    def read(self, name: str) -> VmReading:
        """One VM now; a VM that is off, gone or does not answer is a reading like another, never an exception."""

    def set_size(self, name: str, mib: float) -> None:
        """Ask a balloon for this size. Raises `InputError` where nobody takes the request."""

    def reclaims(self, name: str) -> bool:
        """Whether memory can be taken of it through its control group."""

    def reclaim(self, name: str, mib: float) -> None:
        """Take so much of it now."""

    def close(self) -> None:
        """Hang up."""


def known_balloons(readings: Sequence[VmReading]) -> list[bool]:
    """Which VMs have one: their size is known."""
    return ["size_mib" in one.known for one in readings]
