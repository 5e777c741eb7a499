"""The ends of the score: 0 is ``stock``, the hypervisor as shipped, 1 the clairvoyant reference of an agent's seat.

There is a reference a seat, confined to that seat's channels. Under open rules every channel is open to both seats, so one
serves both. A study plays stock and the references of the seats of those agents that play. Clusters have one reference, which
decides where VMs are and what hosts' memory policy is; 0 is the stack as shipped. Hosts alone and clusters are not ranked together.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from hvgym.agents.policy import declared_by
from hvgym.envs.errors import InputError
from hvgym.envs.rules import refusal
from hvgym.envs.scenario import Scenario

STOCK, REFERENCE, REFERENCE_OUTSIDE, CLUSTER_REFERENCE = "stock", "reference", "reference_outside", "cluster_reference"

CLAIRVOYANT = (REFERENCE, REFERENCE_OUTSIDE, CLUSTER_REFERENCE)

OF_ONE_HOST = (REFERENCE, REFERENCE_OUTSIDE)

ENDS = (STOCK, *CLAIRVOYANT)
"""Agents that a study plays unasked."""

SMALLEST_GAP = 0.01
"""Where a reference gains less goodput than this over stock, agents of its seat have no score: what tells them apart there is
too little to divide by."""

NOTHING_SCORED = (
    f"no reference gains {SMALLEST_GAP:g} of goodput over stock in any scenario, so nothing can be scored; raise overcommit (a "
    "smaller host: scenario.host.ram_mib) or use other scenarios"
)


class NothingScoredError(InputError):
    """No reference gains anything: there are results, and no scores (``unscored``)."""


def reference_of(seat: str, rules: str, clusters: bool = False) -> str:
    """Name of the reference that agents of a seat are measured by; of rules, and on clusters or not."""
    if clusters:
        return CLUSTER_REFERENCE
    return REFERENCE_OUTSIDE if seat == "outside" and rules != "open" else REFERENCE


def ends_of(agents: Iterable[Mapping[str, Any]], scenarios: Iterable[Mapping[str, Any]]) -> list[str]:
    """Stock, and the references of the seats of all agents that play on one of these scenarios; the inside one where nobody
    else does."""
    scenarios = list(scenarios)
    found = [Scenario.from_dict(dict(scenario)) for scenario in scenarios]
    if are_clusters(scenarios):
        return [STOCK, CLUSTER_REFERENCE]
    rules = rules_of(scenarios)
    seats = set[str]()
    for agent in agents:
        who = declared_by(agent)
        if agent["name"] not in ENDS and any(refusal(who, scenario) is None for scenario in found):
            seats.add(who.seat)
    return [STOCK, *sorted({reference_of(seat, rules) for seat in seats or {"inside"}})]


def are_clusters(scenarios: Iterable[Mapping[str, Any]]) -> bool:
    """Whether these are scenarios of several hosts. Raises `InputError` where some are and some are not."""
    kinds = {scenario["name"]: bool(scenario.get("hosts")) for scenario in scenarios}
    if len(set(kinds.values())) > 1:
        alone = next(name for name, cluster in kinds.items() if not cluster)
        several = next(name for name, cluster in kinds.items() if cluster)
        raise InputError(
            f"scenarios: {alone} has one host, {several} several; they have no common scale, so play them one after the other"
        )
    return any(kinds.values())


def rules_of(scenarios: Iterable[Mapping[str, Any]]) -> str:
    """Those of all scenarios in words; studies of before there were any are open."""
    return " and ".join(sorted({scenario.get("rules", "open") for scenario in scenarios}))
