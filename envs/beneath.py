"""A policy that runs on beneath whoever acts in an environment: the hypervisor's own, as shipped.

What it is and where it runs is not known here: an environment is given a function that makes it (``hvgym.agents.stock`` for
what ``gymnasium.make`` returns). Each lane has one of its own, which sees that lane alone, so a lane's result does not depend
on its neighbours; that of a cluster sees each host as one alone (``hosts_view``). It decides on its own clock from the start of
the lane's episode, also within a control interval.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from hvgym.envs.hosts_view import HostsView
from hvgym.envs.rules import Declaration, readable
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Targets, Telemetry, Visibility
from hvgym.envs.watching import watching


class Beneath(Protocol):
    """What is asked of it, on a batch of one, or of the hosts of a cluster."""

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
    """One a lane, all alike. hosts: rows of a lane in readings. stride_s: in whole seconds, what divides all periods and the
    control interval."""

    def __init__(self, policies: list[Beneath], sim: Simulator | HostsView, hosts: int = 1) -> None:
        self._policies, self._hosts = policies, hosts
        self._readable = readable(policies[0].declaration, sim.scenario)
        self._watching = watching(policies[0].declaration, sim.scenario, self._readable, sim)
        self._next_s = [0.0] * len(policies)
        steps_s = () if self._watching is None else self._watching.steps_s
        self.stride_s = math.gcd(sim.scenario.control_interval_s, max(int(policies[0].period_s), 1), *steps_s)

    def reset(self, lane: int, telemetry: Telemetry) -> None:
        """An episode has begun in this lane, with this reading of all."""
        self._next_s[lane] = 0.0
        if self._watching is not None:
            self._watching.begin(telemetry, self._own(lane))
            telemetry = self._watching.seen(telemetry)
        self._policies[lane].reset(self._seen(telemetry, lane), seed=0)

    def decide(self, sim: Simulator | HostsView) -> None:
        """Carry out what those lanes decide whose time has come, and what takes effect now of earlier decisions."""
        clocks_s = sim.clock_s[:: self._hosts].tolist()
        due = [lane for lane, clock_s in enumerate(clocks_s) if clock_s >= self._next_s[lane]]
        if not due and self._watching is None:
            return
        telemetry = sim.telemetry()
        clock_s = telemetry.time_s
        if self._watching is not None:
            self._watching.note(telemetry)
            telemetry = self._watching.seen(telemetry) if due else telemetry
        answers = dict[str, np.ndarray]()
        for lane in due:
            policy = self._policies[lane]
            self._next_s[lane] += policy.period_s
            targets = policy.decide(self._seen(telemetry, lane))
            for field in dataclasses.fields(targets):
                if (asked := getattr(targets, field.name)) is not None:
                    shape = (sim.lanes, np.shape(asked)[1])
                    answers.setdefault(field.name, np.full(shape, np.nan))[self._own(lane)] = asked
        self._carry_out(sim, clock_s, Targets(**answers) if due else None)

    def _carry_out(self, sim: Simulator | HostsView, clock_s: np.ndarray, targets: Targets | None) -> None:
        if self._watching is not None:
            if targets is not None:
                self._watching.pay_for_reading()
            targets = self._watching.due(clock_s, targets)
        if targets is not None:
            sim.apply(targets)
            if self._watching is not None:
                self._watching.pay_for_asking(targets)

    def _own(self, lane: int) -> slice:
        """A lane's rows of a reading."""
        return slice(lane * self._hosts, (lane + 1) * self._hosts)

    def _seen(self, telemetry: Telemetry, lane: int) -> Telemetry:
        """What one may read of its lane."""
        own, signals = self._own(lane), self._readable
        reading = Telemetry(telemetry.time_s[own], telemetry.vm[own], telemetry.host[own])
        seen = reading.seen_with(self._policies[lane].visibility)
        return seen if signals is None else seen.restricted_to(signals)


def beneath_lanes(
    make: Maker | None, sim: Simulator | HostsView, who: Declaration, hosts: int = 1
) -> BeneathLanes | None:
    """Those of a batch whose lanes have so many hosts; None where nothing runs beneath."""
    made = [make(sim.scenario, who) for _ in range(sim.lanes // hosts)] if make is not None else []
    policies = [policy for policy in made if policy is not None]
    return BeneathLanes(policies, sim, hosts) if policies else None
