"""Rules: which policy may play under which hypervisor, what it may read, and what it may ask for.

`default`: a policy sits at one seat (``seats``) and plays where that seat of the hypervisor has every channel, signal and
interface that it declares. It reads what it declares and nothing else, and answers on the channels that it declares. `open`
lifts this, for research on hypervisors that do not exist yet: every channel is open to everybody, and a policy reads its whole
profile of signals. Rules are a key of the scenario, so they are part of a study's identity. What delay and cost the default rules
hold besides is in ``watching``.

A policy that declares nothing sits inside, sets memory sizes, and reads of its profile what the seat has but ages of pages; it is
refused only where no sizes can be set. ``channels: any`` is whatever its seat has. Who sees the hidden state is held to its seat's
channels as everybody is. ``signals_with: {CHANNEL: [SIGNAL, …]}`` is what is read, and paid, where the seat has that channel, as
ages of pages by who reclaims by age wherever that can be done. ``signals: seat``: under open rules too
it keeps to the signals, and under ``channels: any`` to the channels, of its seat, as one that was trained on what there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.seats import CHANNELS, OF_A_CLUSTER, Seat, SeatName, check_channels, signals_of

if TYPE_CHECKING:
    from hvgym.envs.scenario import Hypervisor, Scenario
    from hvgym.envs.telemetry import Targets

Rules = Literal["default", "open"]
RULES = ("default", "open")
SEATS = ("inside", "outside")

ASKED_FOR = ("admit", "limit_mib")
"""Channels that no environment's actions set but where they are asked for (``channels``)."""

MOST_WORDS = 3
"""In a reason."""

SEVERAL = "a scenario with several hosts"
"""Which no rules make of one host."""

LIFTED = "rules=open opens every channel to everybody"

INTERFACES = {
    "libvirt": "libvirt's setMemory and memoryStats",
    "qmp": "QEMU's monitor (QMP)",
    "setmaxmem": "Xen's setmaxmem",
    "guest_target": "a guest that sets its own balloon's target",
    "page_protection": "miss-ratio curves by page protection (a research patch)",
    "kstaled": "kstaled and kreclaimd of Google's kernel",
    "pod_cgroup": "the cgroups of a Kubernetes pod",
    "trimming": "Workstation's trimming of VMs (MemTrimRate)",
}
"""In words; others go by their own name."""

GROUPS = {
    "balloon": "the balloon's target and size",
    "pressure": "the host's PSI of each VM",
    "guest_stats": "the guest's statistics",
    "committed": "the guest's committed memory",
    "activity": "sampled activity",
    "agent": "an agent in the guest",
    "page_ages": "ages of pages",
}
"""Groups of signals in words; others go by their own name."""


@dataclass(frozen=True)
class Declaration:
    """Where a policy sits and what it needs there. channels: None takes all that its seat has; signals: single ones, None takes
    what its profile and its seat share; signals_with: a channel and what is read besides where the seat has it; as_seat: keeps to
    its seat under open rules too."""

    seat: SeatName = "inside"
    channels: tuple[str, ...] | None = ("memory_mib",)
    signals: frozenset[str] | None = None
    interfaces: tuple[str, ...] = ()
    signals_with: tuple[tuple[str, frozenset[str]], ...] = ()
    as_seat: bool = False

    def read_besides(self, seat: Seat) -> frozenset[str]:
        """Signals that come with channels of this seat."""
        came = (signals for channel, signals in self.signals_with if channel in seat.channel_names)
        return frozenset().union(*came) & seat.signal_names

    @property
    def needs_nothing(self) -> bool:
        """Whether it neither reads nor sets anything."""
        return self.channels == () and self.signals == frozenset() and not self.interfaces


def declared(agent: Mapping[str, Any]) -> Declaration:
    """What an agent's YAML declares by its keys seat, channels, signals, interfaces and signals_with; what it leaves out is the
    default.

    Raises:
        InputError: naming the key and what would be right.
    """
    plain = Declaration()
    seat = agent.get("seat", plain.seat)
    if seat not in SEATS:
        raise InputError(f"agent.seat={shown(seat)}: choose one of {', '.join(SEATS)}{nearest(str(seat), SEATS)}")
    channels = None if agent.get("channels") == "any" else _names(agent, "channels", ("memory_mib",))
    check_channels("agent.channels", channels or ())
    named = agent.get("signals", "any")
    signals = None if named in ("any", "seat") else _signals(agent)
    interfaces = _names(agent, "interfaces", plain.interfaces)
    return Declaration(seat, channels, signals, interfaces, _signals_with(agent), named == "seat")


def of_hosts(agent: Mapping[str, Any]) -> bool:
    """Whether an agent decides for several hosts at once: it declares a channel of the stack."""
    channels = agent.get("channels", ())
    return isinstance(channels, (list, tuple)) and bool(set(channels) & set(OF_A_CLUSTER))


def _signals(agent: Mapping[str, Any]) -> frozenset[str]:
    names = _names(agent, "signals", ())
    try:
        return signals_of(names)
    except InputError as error:
        raise InputError(f"agent.{error}") from None


def _signals_with(agent: Mapping[str, Any]) -> tuple[tuple[str, frozenset[str]], ...]:
    given = agent.get("signals_with") or {}
    if not isinstance(given, Mapping):
        raise InputError(f"agent.signals_with={shown(given)}: expected channels, each with a list of signals")
    check_channels("agent.signals_with", [str(channel) for channel in given])
    found = []
    for channel in given:
        try:
            found.append((str(channel), signals_of(_names(given, channel, ()))))
        except InputError as error:
            raise InputError(f"agent.signals_with.{channel}: {error}") from None
    return tuple(found)


def _names(agent: Mapping[str, Any], key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    given = agent.get(key, default)
    if not isinstance(given, (list, tuple)) or not all(isinstance(name, str) for name in given):
        also = {"channels": ", or any", "signals": ", or any, or seat"}.get(key, "")
        raise InputError(f"agent.{key}={shown(given)}: expected a list of names{also}")
    return tuple(given)


def refusal(who: Declaration, scenario: "Scenario") -> str | None:
    """Why a policy is not played on a scenario, as in "needs memory.reclaim, which esxi lacks"; None where it is."""
    of_cluster = frozenset(who.channels or ()) & set(OF_A_CLUSTER)
    if of_cluster and not scenario.is_cluster:
        return f"needs {' and '.join(_words(of_cluster, who))}, and so {SEVERAL}"
    if scenario.rules == "open" or who.needs_nothing:
        return None
    hypervisor = scenario.hypervisor
    if hypervisor.capabilities is None:
        return f"hypervisor {hypervisor.name} declares no capabilities, so nobody can be shown to need no more"
    kind, lacked = _lacked(who, hypervisor.capabilities.seat(who.seat))
    if who.seat == "outside":
        lacked -= of_cluster
    if not lacked:
        return None
    other: SeatName = "inside" if who.seat == "outside" else "outside"
    where = f"has {other} only" if lacked <= _there(hypervisor.capabilities.seat(other))[kind] else "lacks"
    words = _words(lacked, who)
    more = [f"{len(words) - MOST_WORDS} more"] if len(words) > MOST_WORDS else []
    return f"needs {' and '.join(words[:MOST_WORDS] + more)}, which {hypervisor.name} {where}"


def _lacked(who: Declaration, seat: Seat) -> tuple[str, frozenset[str]]:
    """Names that a seat does not have, of the first kind of which it lacks any: channels, then interfaces, then signals."""
    for kind, there in _there(seat).items():
        if lacked := frozenset(getattr(who, kind) or ()) - there:
            return kind, lacked
    return "", frozenset()


def _there(seat: Seat) -> dict[str, frozenset[str]]:
    """What a seat has, by kind."""
    names = {"channels": seat.channel_names, "interfaces": seat.interfaces, "signals": seat.signal_names}
    return {kind: frozenset(there) for kind, there in names.items()}


def _words(lacked: frozenset[str], who: Declaration) -> list[str]:
    """Names in words, in the order of their declaration; a group of signals in one where all that is wanted of it is lacked."""
    from hvgym.envs.telemetry import SIGNAL_GROUPS

    found = [words for name, words in CHANNELS.items() if name in lacked]
    found += [INTERFACES.get(name, name) for name in who.interfaces if name in lacked]
    for group, signals in SIGNAL_GROUPS.items() if not found else ():
        wanted = [name for name in signals if name in (who.signals or ())]
        missing = [name for name in wanted if name in lacked]
        whole = missing == wanted and (len(wanted) > 1 or len(signals) == 1)
        found += [GROUPS.get(group, group)] if missing and whole else missing
    return found


def check_played(who: Declaration, scenario: "Scenario", name: str) -> None:
    """Raise `InputError`, on one line, where a policy is refused."""
    if reason := refusal(who, scenario):
        lifted = "" if reason.endswith(SEVERAL) else f"; {LIFTED}"
        raise InputError(f"agent {name}, scenario {scenario.name}: {reason}{lifted}")


def readable(who: Declaration, scenario: "Scenario") -> frozenset[str] | None:
    """Signals that a policy may read besides what its profile leaves out; None is no restriction. Ages of pages cost those who
    watch them, so only who declares them reads them."""
    if _is_open(who, scenario):
        return None
    seat = _seat(scenario.hypervisor, who.seat) if who.signals is None or who.signals_with else None
    besides = frozenset() if seat is None else who.read_besides(seat)
    if who.signals is not None or seat is None:
        return (who.signals or frozenset()) | besides
    return seat.signal_names - (signals_of(["page_ages"]) - besides)


def _is_open(who: Declaration, scenario: "Scenario") -> bool:
    """Whether everything is there for it: under open rules, but for who keeps to its seat where seats are declared."""
    return scenario.rules == "open" and not (who.as_seat and scenario.hypervisor.capabilities)


def check_written(who: Declaration, scenario: "Scenario", targets: "Targets") -> None:
    """Raise `InputError` for an answer on a channel that the policy does not declare, or that its seat lacks."""
    allowed = channels_of(who, scenario)
    held = scenario.rules != "open" or (who.channels is None and not _is_open(who, scenario))
    for field in fields(targets) if held else ():
        if getattr(targets, field.name) is None or field.name in allowed:
            continue
        if who.channels is None:
            raise InputError(f"targets.{field.name}: {scenario.hypervisor.name} has no such channel {who.seat}")
        raise InputError(
            f"targets.{field.name}: not declared; add it to channels in the agent's YAML, or leave it at None"
        )


def channels_of(who: Declaration, scenario: "Scenario") -> tuple[str, ...]:
    """What a policy counts on to set: what it declares, or all that its seat has; under open rules a seat has everything,
    but for who keeps to it."""
    if who.channels is not None:
        return who.channels
    if _is_open(who, scenario):
        return tuple(name for name in CHANNELS if scenario.is_cluster or name not in OF_A_CLUSTER)
    return _seat(scenario.hypervisor, who.seat).channel_names


def channels_at(scenario: "Scenario", seat: SeatName) -> tuple[str, ...]:
    """What an environment's actions set by themselves: inside sizes where there is a balloon, else all that the seat has but a
    say in which VMs start (that is the control plane's) and limits, which are to be asked for. Under open rules sizes.

    Raises:
        InputError: where that is nothing.
    """
    check_seat(seat)
    if scenario.rules == "open":
        return ("memory_mib",)
    there = tuple(name for name in _seat(scenario.hypervisor, seat).channel_names if name not in ASKED_FOR)
    if not there:
        raise InputError(
            f"seat={seat!r}: hypervisor {scenario.hypervisor.name} has no channel there at run time; choose the other seat or "
            "another hypervisor, or rules='open'"
        )
    return ("memory_mib",) if seat == "inside" and "memory_mib" in there else there


def check_seat(seat: str) -> None:
    """Raise `InputError` for one that there is not."""
    if seat not in SEATS:
        raise InputError(f"seat={seat!r}: choose one of {', '.join(SEATS)}")


def _seat(hypervisor: "Hypervisor", name: str) -> Seat:
    if hypervisor.capabilities is None:
        raise InputError(f"hypervisor.capabilities: missing for {hypervisor.name}; rules='open' needs none")
    return hypervisor.capabilities.inside if name == "inside" else hypervisor.capabilities.outside
