"""Static asks for nothing, so VMs keep what they were last asked to have."""

import numpy as np

from hvgym.agents.baselines.static import Static
from hvgym.bench.rollout import rollout
from hvgym.envs.scenario import load
from hvgym.envs.targets import checked


def test_it_answers_on_no_channel_whatever_it_is_shown():
    assert checked(Static().decide(None), lanes=2, vms=3, hosts=1) == {}


def test_vms_keep_their_configured_size_those_that_started_small_that_and_ballooned_ones_their_balloon():
    sizes = {}

    def watch(telemetry, sim):
        sizes[sim.scenario.name] = telemetry.vm["size_mib"][0].copy()

    for name in ("idle-giants-short", "small-starts", "real-guests"):
        rollout(load(name), Static(), [1], watch)
    np.testing.assert_array_equal(
        sizes["idle-giants-short"], [group.memory_mib for group in load("idle-giants-short").groups]
    )
    assert (sizes["small-starts"][:3] == 1024.0).all()
    np.testing.assert_allclose(sizes["real-guests"], [group.settled_mib for group in load("real-guests").groups])
