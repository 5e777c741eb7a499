"""Whether a policy can run on a real host: it has every channel and interface that the policy declares, and something of each group
of signals. What is missing of a group it reads as NaN, as in the simulator where a VM does not report.

Seats are of simulated hypervisors: a real host has what its user may call. A policy that declares ``channels: any`` gets those that
are there.
"""

from hvgym.envs.real.host import NOWHERE, RealHost
from hvgym.envs.rules import GROUPS, Declaration
from hvgym.envs.seats import CHANNELS, OF_A_CLUSTER
from hvgym.envs.telemetry import SIGNAL_GROUPS, Telemetry, Visibility, visible_to

CALLABLE = ("libvirt", "qmp")
"""Interfaces that both backends stand for: a balloon's target and statistics are the same through either."""


def unfit(who: Declaration, host: RealHost, first: Telemetry) -> str | None:
    """Why a policy cannot run here, in words; None where it can."""
    channels = host.channels()
    lacked = [name for name in who.channels or () if name not in channels]
    if lacked:
        return "; ".join(f"needs {CHANNELS[name]}: {host.lacks(name)}" for name in lacked)
    if who.channels is None and not channels:
        return f"there is nothing to set: {host.lacks('memory_mib')}"
    if strange := [name for name in who.interfaces if name not in CALLABLE]:
        return f"needs {', '.join(strange)}, which is not here"
    known = host.signals(first)
    for group, names in SIGNAL_GROUPS.items():
        if (wanted := set(names) & (who.signals or frozenset())) and not wanted & known:
            return f"needs {GROUPS.get(group, group)}, which no VM and no file of this host says"
    return None


def granted(who: Declaration, host: RealHost) -> tuple[str, ...]:
    """The channels that a policy has here."""
    return tuple(name for name in host.channels() if who.channels is None or name in who.channels)


def unknown(who: Declaration, host: RealHost, first: Telemetry) -> list[str]:
    """Signals that a policy reads and finds missing."""
    return sorted((who.signals or frozenset()) - host.signals(first))


def absent(host: RealHost) -> list[str]:
    """Channels of the simulator that are not here, each with its reason."""
    there = host.channels()
    names = [name for name in CHANNELS if name not in there and name not in OF_A_CLUSTER]
    return [f"{CHANNELS[name]}: {NOWHERE.get(name) or host.lacks(name)}" for name in names]


def seen(who: Declaration, visibility: Visibility, telemetry: Telemetry) -> Telemetry:
    """What of a reading a policy may see: what it declares, within its profile."""
    names = visible_to(visibility)
    return telemetry.restricted_to(names if who.signals is None else names & who.signals)
