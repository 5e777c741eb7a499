"""A policy that runs on beneath whoever acts in an environment: the hypervisor's own, as shipped.

What it is and where it runs is not known here: an environment is given a function that makes it (``hvgym.agents.stock`` for
what ``gymnasium.make`` returns). Each lane has one of its own, which sees that lane alone, so a lane's result does not depend
on its neighbours. It decides on its own clock from the start of the lane's episode, also within a control interval.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from hvgym.envs.rules import Declaration, readable
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets, Telemetry, Visibility


class Beneath(Protocol):
    """What is asked of it, on a batch of one."""

    period_s: float
    visibility: Visibility
    declaration: Declaration

    def reset(self, first: Telemetry, seed: int) -> None:
        """Forget the past."""

    def decide(self, telemetry: Telemetry) -> Targets:
        """What it sets; None or NaN leaves a thing as it is."""


Maker = Callable[[Scenario, Declaration], Beneath | None]
"""Makes a new one for who acts; None where nothing runs beneath."""


class BeneathLanes:
    """One a lane. stride_s: in whole seconds, what divides all periods and the control interval."""

    def __init__(self, policies: list[Beneath], scenario: Scenario) -> None:
        self._policies = policies
        self._readable = [readable(policy.declaration, scenario) for policy in policies]
        self._next_s = [0.0] * len(policies)
        self.stride_s = math.gcd(scenario.control_interval_s, max(int(policies[0].period_s), 1))

    def reset(self, lane: int, sim: Simulator) -> None:
        """An episode has begun in this lane."""
        self._next_s[lane] = 0.0
        self._policies[lane].reset(self._seen(sim.telemetry(), lane), seed=0)

    def decide(self, sim: Simulator) -> None:
        """Carry out what those lanes decide whose time has come."""
        due = [lane for lane, clock_s in enumerate(sim.clock_s.tolist()) if clock_s >= self._next_s[lane]]
        if not due:
            return
        telemetry, answers = sim.telemetry(), dict[str, np.ndarray]()
        for lane in due:
            policy = self._policies[lane]
            self._next_s[lane] += policy.period_s
            targets = policy.decide(self._seen(telemetry, lane))
            for field in dataclasses.fields(targets):
                if (asked := getattr(targets, field.name)) is not None:
                    shape = (sim.lanes, np.shape(asked)[1])
                    answers.setdefault(field.name, np.full(shape, np.nan))[lane] = asked[0]
        sim.apply(Targets(**answers))

    def _seen(self, telemetry: Telemetry, lane: int) -> Telemetry:
        """What one may read of its lane."""
        own, signals = slice(lane, lane + 1), self._readable[lane]
        reading = Telemetry(telemetry.time_s[own], telemetry.vm[own], telemetry.host[own])
        seen = reading.seen_with(self._policies[lane].visibility)
        return seen if signals is None else seen.restricted_to(signals)


def beneath_lanes(make: Maker | None, scenario: Scenario, who: Declaration, lanes: int) -> BeneathLanes | None:
    """Those of a batch; None where nothing runs beneath."""
    policies = [policy for _ in range(lanes) if make is not None and (policy := make(scenario, who)) is not None]
    return BeneathLanes(policies, scenario) if policies else None
