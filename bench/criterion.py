"""Whether a scenario tells policies apart: what there is to win on it, and how much of that those win who think of nothing.

A scenario of memory deserves its place in a suite where the clairvoyant reference of a seat gains at least `LEAST_GAP` of
goodput over stock, the hypervisor as shipped, and no trivial agent of that seat closes more than `MOST_CLOSED` of it. Else
whoever is placed high there has shown nothing. Scenarios of devices and bandwidth, and hosted hypervisors (Type 2), are there
to show what those cost, and real VMs whether what is found on generated ones holds: they are diagnostic, and exempt. Agents
are compared on equal demand, seed by seed, by mean goodput.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hvgym.agents.policy import declared_by, make_policy
from hvgym.bench import suites
from hvgym.bench.rollout import Episodes, rollout
from hvgym.envs.rules import refusal
from hvgym.envs.scenario import Scenario, load_group

STOCK = "stock"

REFERENCES = {"inside": "reference", "outside": "reference_outside"}
"""By seat; under open rules the first has every channel, and serves both."""

TRIVIAL = ("static", "proportional", "best_constant", "random", "coldest_first")

LEAST_GAP, MOST_CLOSED = 0.05, 0.60

DIAGNOSTIC = {
    "backup-window": "bandwidth", "noisy-disk": "bandwidth", "busy-io": "devices", "emulated-nic": "devices",
}  # fmt: skip
"""Scenarios that are not of memory, and of what."""


@dataclass(frozen=True)
class Played:
    """Goodput ``[seed]`` and kills an episode by agent, and why others were refused. gaps: what a seat's reference gains over
    stock; closed: what share of its seat's gap a trivial agent closes, where there is one of `LEAST_GAP`."""

    scenario: Scenario
    goodput: Mapping[str, np.ndarray]
    kills: Mapping[str, float]
    refused: Mapping[str, str]

    @property
    def gaps(self) -> dict[str, float]:
        """By seat."""
        return {seat: self._gain(name) for seat, name in REFERENCES.items() if name in self.goodput}

    @property
    def closed(self) -> dict[str, float]:
        """By trivial agent."""
        found = dict[str, float]()
        for agent in TRIVIAL:
            gap = self.gaps.get(seat_of(agent, self.scenario), 0.0)
            if agent in self.goodput and gap >= LEAST_GAP:
                found[agent] = self._gain(agent) / gap
        return found

    @property
    def diagnostic(self) -> str | None:
        """Of what it is, if not of memory."""
        if self.scenario.workload.kind in suites.REPLAYED:
            return "real VMs"
        hosted = "Type 2" if self.scenario.hypervisor.type == 2 else None
        return DIAGNOSTIC.get(self.scenario.name, hosted)

    @property
    def fault(self) -> str | None:
        """Why a scenario of memory does not deserve its place; None where it does or is exempt."""
        if self.diagnostic is not None:
            return None
        if not self.gaps or max(self.gaps.values()) < LEAST_GAP:
            return f"the references gain less than {LEAST_GAP:g}"
        easy = [agent for agent, share in self.closed.items() if share > MOST_CLOSED]
        return f"{' and '.join(easy)} close{'s' * (len(easy) == 1)} more than {MOST_CLOSED:.0%}" if easy else None

    def _gain(self, agent: str) -> float:
        return float((self.goodput[agent] - self.goodput[STOCK]).mean())


def seat_of(agent: str, scenario: Scenario) -> str:
    """The seat by whose reference an agent is measured."""
    return "inside" if scenario.rules == "open" else declared_by(load_group("agent", agent)).seat


def seats_of_trivial(scenario: Scenario) -> list[str]:
    """The seats at which a trivial agent plays."""
    agents = (name for name in TRIVIAL if refusal(declared_by(load_group("agent", name)), scenario) is None)
    return sorted({seat_of(name, scenario) for name in agents})


def play(
    scenario: Scenario, seeds: Sequence[int], progress: Callable[[str, Episodes], None] | None = None,
    seats: Collection[str] = tuple(REFERENCES), budget: int | None = None,
) -> Played:  # fmt: skip
    """Play stock, the references of these seats and the trivial agents; `progress` hears of each. budget: episodes in which a
    reference searches, in place of its own; with fewer it finds less, so the criterion is stricter."""
    goodput, kills, refused = dict[str, np.ndarray](), dict[str, float](), dict[str, str]()
    scenario = suites.split_of(scenario, "test")
    judged = ("inside",) if scenario.rules == "open" else seats
    for name in (STOCK, *(REFERENCES[seat] for seat in judged), *TRIVIAL):
        agent = load_group("agent", name)
        if reason := refusal(declared_by(agent), scenario):
            refused[name] = reason
            continue
        search = {"episodes": budget} if budget is not None and name in REFERENCES.values() else {}
        episodes = rollout(scenario, make_policy(agent | search), seeds, agent=name)
        goodput[name], kills[name] = episodes.goodput, float(episodes.oom_kills.mean())
        if progress is not None:
            progress(name, episodes)
    return Played(scenario, goodput, kills, refused)
