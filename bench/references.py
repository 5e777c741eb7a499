"""The ends of the score: 0 is ``stock``, the hypervisor as shipped, 1 the clairvoyant reference of an agent's seat.

There is a reference a seat, confined to that seat's channels. Under open rules every channel is open to both seats, so one
serves both. A study plays stock and the references of the seats of those agents that play.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from hvgym.agents.policy import declared_by
from hvgym.envs.rules import refusal
from hvgym.envs.scenario import Scenario

STOCK, REFERENCE, REFERENCE_OUTSIDE = "stock", "reference", "reference_outside"

CLAIRVOYANT = (REFERENCE, REFERENCE_OUTSIDE)

ENDS = (STOCK, *CLAIRVOYANT)
"""Agents that a study plays unasked."""

SMALLEST_GAP = 0.01
"""Where a reference gains less goodput than this over stock, agents of its seat have no score: what tells them apart there is
too little to divide by."""

NOTHING_SCORED = (
    f"no reference gains {SMALLEST_GAP:g} of goodput over stock in any scenario, so nothing can be scored; raise overcommit or use "
    "other scenarios"
)


def reference_of(seat: str, rules: str) -> str:
    """Name of the reference that agents of a seat are measured by; rules: of all scenarios of a study."""
    return REFERENCE_OUTSIDE if seat == "outside" and rules != "open" else REFERENCE


def ends_of(agents: Iterable[Mapping[str, Any]], scenarios: Iterable[Mapping[str, Any]]) -> list[str]:
    """Stock, and the references of the seats of all agents that play on one of these scenarios; the inside one where nobody
    else does."""
    found = [Scenario.from_dict(dict(scenario)) for scenario in scenarios]
    rules = rules_of(scenarios)
    seats = set[str]()
    for agent in agents:
        who = declared_by(agent)
        if agent["name"] not in ENDS and any(refusal(who, scenario) is None for scenario in found):
            seats.add(who.seat)
    return [STOCK, *sorted({reference_of(seat, rules) for seat in seats or {"inside"}})]


def rules_of(scenarios: Iterable[Mapping[str, Any]]) -> str:
    """Those of all scenarios in words; studies of before there were any are open."""
    return " and ".join(sorted({scenario.get("rules", "open") for scenario in scenarios}))
