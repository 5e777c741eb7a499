"""Whole episodes in one compiled call, for policies and hosts that need nothing else between two decisions.

`SharedLinear` on a host alone, where no policy runs on beneath, all that it sees is as it is at its decisions and sizes take effect
at once; and who neither reads nor sets anything. Of others a rollout asks each decision. What is played is the same to the bit.
"""

from collections.abc import Sequence

import numpy as np

from hvgym.agents.learned.linear import SharedLinear
from hvgym.agents.policy import Policy
from hvgym.agents.stock import beneath
from hvgym.envs import episodes, view
from hvgym.envs.rules import readable
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import visible_to
from hvgym.envs.watching import watching


def ended(scenario: Scenario, policy: Policy, seeds: Sequence[int]) -> Simulator | None:
    """The hosts at the end of their episodes, one a seed; None where a rollout has to ask."""
    if scenario.is_cluster or beneath(scenario, policy.declaration) is not None:
        return None
    if policy.declaration.needs_nothing:
        sim = Simulator(scenario, len(seeds))
        sim.reset(seeds)
        sim.advance(scenario.duration_s)
        return sim
    if type(policy) is SharedLinear and not policy.least_share and float(policy.period_s).is_integer():
        return _ended(scenario, policy, seeds)
    return None


def _ended(scenario: Scenario, policy: SharedLinear, seeds: Sequence[int]) -> Simulator | None:
    sim, period_s = Simulator(scenario, len(seeds), policy.threads), int(policy.period_s)
    names = readable(policy.declaration, scenario)
    held = watching(policy.declaration, scenario, names, sim)
    if held is not None and not held.is_live(period_s):
        return None
    first = sim.reset(seeds)
    if held is not None:
        held.begin(first)
    profile = visible_to(policy.visibility)
    seen = (profile if names is None else profile & names) & view.OBSERVED
    _play(sim, policy, period_s, seen)
    return sim


def _play(sim: Simulator, policy: SharedLinear, period_s: int, names: frozenset[str]) -> None:
    lanes, vms = sim.vms.shape
    weights = np.ascontiguousarray(np.broadcast_to(policy.weights, (lanes, policy.weights.shape[1])))
    seen, memory = view.reading_of(lanes, vms), view.memory_of(lanes, vms)
    arguments = (
        weights, float(policy.step), period_s, sim.scenario.duration_s, sim.vms, sim.hosts, sim.vm_specs, sim.host_specs,
        sim.demand, sim.clock_s, sim.slot_s, seen, view.numbers_of(seen), view.hidden(names), memory,
        np.zeros((lanes, view.observation_size(vms))),
    )  # fmt: skip
    sim.each_chunk(lambda first, last: episodes.play(*arguments, first, last))
    sim.unread = True
