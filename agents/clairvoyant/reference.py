"""The reference: the one of the score. Clairvoyant, and confined to the channels of a seat.

It is the oracle (``oracle``) without the plans, and without the answers, for which its seat has no channel: balloons where
sizes can be set, reclaim where pages can be taken by age. What of a plan it cannot set stays as the hypervisor has it. In its
trials it leaves out the hypervisor's own policy, which may run beneath it (``agents.stock``).
"""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from hvgym.agents.clairvoyant.oracle import PLANS, Oracle
from hvgym.agents.clairvoyant.planning import OWN, RECLAIM, SQUEEZE
from hvgym.envs.rules import Declaration
from hvgym.envs.scenario import Scenario
from hvgym.envs.seats import CHANNELS, SeatName
from hvgym.envs.telemetry import HiddenState, Targets

NEEDS = {SQUEEZE: {"memory_mib"}, RECLAIM: {"reclaim_mib", "reclaim_age_s"}}
"""Channels that make a plan what it is, by kind."""


class Reference(Oracle):
    """The oracle of a seat. Before `begin` it has every channel."""

    def __init__(self, seat: SeatName = "inside", review_s: int = 900, horizon_s: int = 1800) -> None:
        super().__init__(review_s, horizon_s)
        self.seat = seat
        self.declaration = Declaration(seat, channels=None, signals=frozenset())
        self._channels = frozenset(CHANNELS)

    def begin(self, scenario: Scenario, channels: Collection[str]) -> None:
        """See `ClairvoyantPolicy`."""
        self._channels, self._kept = frozenset(channels), {}

    def decide(self, hidden: HiddenState) -> Targets:
        """See `ClairvoyantPolicy`."""
        answer = super().decide(hidden)
        return dataclasses.replace(answer, **{name: None for name in CHANNELS if name not in self._channels})

    def plans(self, hidden: HiddenState, choice: Sequence[int]) -> np.ndarray:
        """Sharing and reporting as the hypervisor has them, where they cannot be set; to hold, where the rest cannot be."""
        found = super().plans(hidden, choice)
        for index, plan in enumerate(found):
            needed = NEEDS.get(int(plan["kind"]), set()) | ({"admit"} if plan["fills"] > 0.0 else set())
            if not needed <= self._channels:
                found[index] = PLANS[0]
        if "scan_pages_per_s" not in self._channels:
            found["scan_pages_per_s"] = OWN
        if "report_free_pages" not in self._channels:
            found["reports"] = float((hidden.vm_specs["reporting_share_per_s"] > 0.0).any())
        return found
