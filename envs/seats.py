"""Seats: from where a host's memory is managed, and which channels and signals exist there; declared by each hypervisor's
profile (``conf/hypervisor``), source beside each.

*Inside* is what the hypervisor's own kernel and its drivers can do: ESX sets balloon targets by sampled activity, a Linux host
reclaims by its lists or by DAMON's ages. *Outside* is what an operator's program can call. A channel is a field of `Targets`, a
signal a field of the telemetry or one of its `SIGNAL_GROUPS`. An interface is a part of a product that is neither: libvirt,
Xen's setmaxmem, a kernel patch; a program that was written for one needs an adapter elsewhere.

What a channel's texts say of grain, rate, delay, cap and unwilling guests is what its source says, for people to read. What of it
is held (``watching``) stands in numbers: `every_s`, `silent_s` and the `method` by which pages are watched. Guest statistics that
the hypervisor polls age in the model itself (`stats_interval_s`), so `every_s` stands there only where a reading is older than
that. The model's own figures are the other keys of the profile. `not_modelled` names what the hypervisor offers there and no
field of `Targets` carries.
"""

import dataclasses
from typing import Literal

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.schema import number

SeatName = Literal["inside", "outside"]

Method = Literal["walk", "rmap", "damon", "sampling", "page_protection"]
"""By which pages are watched, and which costs what ``model.host.scanning`` says."""

METHODS: dict[Method, str] = {
    "walk": "walking page tables",
    "rmap": "reverse mapping",
    "damon": "DAMON",
    "sampling": "samples of 100 pages",
    "page_protection": "page protection",
}
"""In words."""

CHANNELS = {
    "memory_mib": "a balloon target",
    "reclaim_mib": "memory.reclaim",
    "reclaim_age_s": "reclaim by page age",
    "scan_pages_per_s": "a rate of page sharing",
    "report_free_pages": "free page reporting",
    "admit": "a say in which VMs start",
    "disk_shares": "shares of the disk",
    "net_shares": "shares of the network",
    "limit_mib": "a limit of host memory",
    "move_to": "live migration",
    "maintenance": "hosts to put into maintenance",
    "restart_priority": "an order of restarts",
}
"""Fields of `Targets` in words."""

OF_A_CLUSTER = ("move_to", "maintenance", "restart_priority")
"""Channels of the stack that manages several hosts, at the outside seat of each."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """What can be set. by: the call; unwilling: what happens when the guest does not cooperate; every_s: least time between two
    settings of a VM that take effect; method: how it finds pages by their age."""

    name: str
    by: str
    source: str
    grain: str = ""
    rate: str = ""
    delay: str = ""
    cap: str = ""
    unwilling: str = ""
    every_s: int = number(0, least=0)
    method: Method | None = None


@dataclasses.dataclass(frozen=True)
class Reading:
    """What can be read: signals of VMs, or groups of signals. every_s: how often the source is refreshed, 0: it is live;
    silent_s: for which it says nothing of a VM that has been started; method: how pages are watched for it."""

    names: tuple[str, ...]
    source: str
    delay: str = ""
    every_s: int = number(0, least=0)
    silent_s: int = number(0, least=0)
    method: Method | None = None


@dataclasses.dataclass(frozen=True)
class Seat:
    """What exists at one seat."""

    channels: tuple[Channel, ...] = ()
    signals: tuple[Reading, ...] = ()
    interfaces: tuple[str, ...] = ()
    not_modelled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_channels("channels", [channel.name for channel in self.channels])
        for reading in self.signals:
            signals_of(reading.names)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """In the order of `Targets`."""
        there = {channel.name for channel in self.channels}
        return tuple(name for name in CHANNELS if name in there)

    @property
    def signal_names(self) -> frozenset[str]:
        """Every single signal; those of hosts begin with ``host.``."""
        return signals_of([name for reading in self.signals for name in reading.names])


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """Both seats of a hypervisor."""

    inside: Seat
    outside: Seat

    def seat(self, name: SeatName) -> Seat:
        """One of the two."""
        return self.inside if name == "inside" else self.outside


def check_channels(where: str, names: list[str] | tuple[str, ...]) -> None:
    """Raise `InputError` for a name that is no channel, or stands there twice."""
    for name in names:
        if name not in CHANNELS:
            raise InputError(f"{where}: {name!r} is no channel{nearest(name, CHANNELS)}; known: {', '.join(CHANNELS)}")
        if list(names).count(name) > 1:
            raise InputError(f"{where}: {name!r} is there twice")


def signals_of(names: list[str] | tuple[str, ...]) -> frozenset[str]:
    """Single signals of names that may be of groups. Raises `InputError` for an unknown one."""
    from hvgym.envs.telemetry import SIGNAL_GROUPS  # compiles the model's code, which a list of names must not wait for

    known = {signal for group in SIGNAL_GROUPS.values() for signal in group}
    found = set[str]()
    for name in names:
        if name not in known and name not in SIGNAL_GROUPS:
            groups = ", ".join(SIGNAL_GROUPS)
            raise InputError(
                f"signals: {name!r} is no signal{nearest(name, [*SIGNAL_GROUPS, *known])}; groups: {groups}"
            )
        found |= set(SIGNAL_GROUPS.get(name, (name,)))
    return frozenset(found)
