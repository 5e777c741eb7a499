"""What the rules let a learner see and set from its seat: what an environment of a host is made with, checked."""

from collections.abc import Sequence

from hvgym.envs import actions, rules, view
from hvgym.envs.capabilities import no_limits
from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario
from hvgym.envs.seats import OF_A_CLUSTER, SeatName, signals_of
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import SIGNAL_GROUPS, Visibility, visible_to
from hvgym.envs.watching import Watching, watching


def check_alone(scenario: Scenario) -> None:
    """Raise `InputError` for a scenario of several hosts."""
    if scenario.is_cluster:
        raise InputError(
            f"scenario={scenario.name!r}: is a cluster of {len(scenario.host_names)} hosts; play it in hvgym/Cluster-v0, or "
            "choose one with a single host"
        )


def chosen(scenario: Scenario, seat: SeatName, channels: Sequence[str] | None) -> tuple[str, ...]:
    """Keys of the channels that actions set, in their order (``actions``). Raises `InputError` for one that the seat does not
    have, and where there is none."""
    if channels is None:
        return actions.keys_of(rules.channels_at(scenario, seat))
    rules.check_seat(seat)
    if isinstance(channels, str) or not isinstance(channels, Sequence) or not channels:
        raise InputError(f"channels={shown(channels)}: expected a list of channels; known: {', '.join(actions.KEYS)}")
    there = rules.channels_of(Declaration(seat, channels=None), scenario)
    allowed = actions.keys_of([name for name in there if name not in OF_A_CLUSTER])
    if not allowed:
        rules.channels_at(scenario, seat)  # says that nothing is there
    if "limits" in channels and scenario.hypervisor.limits == "none":
        raise InputError(f"channels: 'limits': {no_limits(scenario.hypervisor)}")
    for key in channels:
        _check(key, list(channels), allowed, f"{scenario.hypervisor.name} has {seat}")
    return tuple(key for key in actions.KEYS if key in channels)


ELSEWHERE = {"move": "needs several hosts; play hvgym/Cluster-v0"}
"""What learners may look for among channels."""


def _check(key: str, channels: list[str], allowed: tuple[str, ...], where: str) -> None:
    if key in ELSEWHERE:
        raise InputError(f"channels: {key!r} {ELSEWHERE[key]}")
    if key not in actions.KEYS:
        raise InputError(
            f"channels: {key!r} is no channel{nearest(str(key), actions.KEYS)}; known: {', '.join(actions.KEYS)}"
        )
    if channels.count(key) > 1:
        raise InputError(f"channels: {key!r} is there twice")
    if key not in allowed:
        raise InputError(f"channels: {key!r} is not among what {where}: {', '.join(allowed)}; rules='open' opens all")


def profile_of(key: str, name: str) -> Visibility:
    """The profile of this name. Raises `InputError` where there is none."""
    profiles = [profile.name for profile in Visibility]
    if name not in profiles:
        raise InputError(f"{key}={shown(name)}: choose one of {', '.join(profiles)}")
    return Visibility[name]


def seen(
    scenario: Scenario, seat: SeatName, channels: tuple[str, ...], visibility: str, page_ages: bool,
    who: Declaration | None = None,
) -> tuple[Declaration, frozenset[str]]:  # fmt: skip
    """As what a learner sits there, and the signals of a view that it sees; who: what it declares, where it plays elsewhere and
    is held to that there. Raises `InputError` for a profile that there is not, and for ages of pages where the seat has none."""
    profile = visible_to(profile_of("visibility", visibility))
    readable = rules.readable(who or Declaration(seat), scenario)
    ages = frozenset(SIGNAL_GROUPS["page_ages"])
    names = profile - ages if readable is None else profile & readable
    who = who or Declaration(seat, channels)
    if page_ages:
        names |= ages
        who = Declaration(seat, channels, names)
        rules.check_played(Declaration(seat, (), signals_of(["page_ages"])), scenario, "page_ages=True")
    return who, names & view.OBSERVED


def watched(who: Declaration, scenario: Scenario, names: frozenset[str], sim: Simulator) -> Watching | None:
    """What is held of it. A source that is refreshed at least once in a step is seen as it is at the end of the step."""
    if scenario.rules == "open":
        return None
    return watching(who, scenario, names, sim, scenario.control_interval_s)
