"""A policy beside a host of one VM that only a test knows: what it is told before it decides."""

from types import SimpleNamespace

import numpy as np
import pytest

from hvgym.agents.policy import Policy
from hvgym.bench.driving import Session
from hvgym.envs.real.rails import RailSettings
from hvgym.envs.rules import Declaration
from hvgym.envs.telemetry import HOST_TELEMETRY, VM_TELEMETRY, Targets, Telemetry, Visibility


class Listens(Policy):
    period_s = 10.0
    visibility = Visibility.P1
    channels: tuple[str, ...] = ()

    def granted(self, channels):
        self.channels = tuple(channels)

    def reset(self, first, seed):
        self.channels_at_reset = self.channels

    def decide(self, telemetry):
        return Targets()


class Host:
    settings, names = SimpleNamespace(name="here", stats_every_s=1.0), ["a"]

    def channels(self):
        return ("memory_mib", "reclaim_mib")

    def signals(self, first):
        return frozenset({"size_mib"})

    def reset(self, seeds):
        return self.advance(0.0)

    def advance(self, seconds):
        return Telemetry(np.zeros(1), np.ones((1, 1), VM_TELEMETRY), np.ones((1, 1), HOST_TELEMETRY))


@pytest.mark.parametrize(
    ("declared", "told"), [(None, ("memory_mib", "reclaim_mib")), (("reclaim_mib",), ("reclaim_mib",))]
)
def test_a_policy_is_told_before_its_first_reading_which_channels_the_host_has(declared, told):
    policy = Listens()
    policy.declaration = Declaration("outside", declared)
    next(Session(Host(), policy, RailSettings(), "listens", acts=False).decisions(10.0))
    assert policy.channels_at_reset == told
