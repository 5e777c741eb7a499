"""Whole episodes in one compiled call, lane by lane, for policies and hosts that need nothing else between two decisions: what a
search over episodes plays.

`SharedLinear` on a host alone, where no policy runs on beneath, all that it sees is as it is at its decisions (samples of pages are
not) and sizes take effect at once; and who neither reads nor sets anything. Of others a rollout asks each decision. What is played
is the same to the bit.
"""

from collections.abc import Sequence

import numpy as np

from hvgym.agents.learned.linear import HALVINGS, MOST_PRICE, WEIGHT_AT, SharedLinear
from hvgym.agents.policy import Policy
from hvgym.agents.stock import beneath
from hvgym.envs import view
from hvgym.envs.model import tick
from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.rules import readable
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator
from hvgym.envs.stepping import see
from hvgym.envs.telemetry import SIGNAL_GROUPS, visible_to
from hvgym.envs.view import HOST_FEATURES, MOST_WEIGHT, VM_FEATURES
from hvgym.envs.watching import watching

SAMPLED = frozenset(SIGNAL_GROUPS["activity"])

_HOST_WIDTH, _VM_WIDTH = len(HOST_FEATURES), len(VM_FEATURES)


def ended(scenario: Scenario, policy: Policy, seeds: Sequence[int]) -> Simulator | None:
    """The hosts at the end of their episodes, one a seed; None where a rollout has to ask."""
    if scenario.is_cluster or beneath(scenario, policy.declaration) is not None:
        return None
    if policy.declaration.needs_nothing:
        sim = Simulator(scenario, len(seeds))
        sim.reset(seeds)
        sim.advance(scenario.duration_s)
        return sim
    if (
        type(policy) is not SharedLinear
        or policy.rescues
        or policy.least_mib
        or not float(policy.period_s).is_integer()
    ):
        return None
    return _ended(scenario, policy, seeds)


def _ended(scenario: Scenario, policy: SharedLinear, seeds: Sequence[int]) -> Simulator | None:
    names, profile = readable(policy.declaration, scenario), visible_to(policy.visibility)
    seen = (profile if names is None else profile & names) & view.OBSERVED
    if seen & SAMPLED:
        return None
    sim, period_s = Simulator(scenario, len(seeds), policy.threads), int(policy.period_s)
    held = watching(policy.declaration, scenario, names, sim)
    if held is not None and not held.is_live(period_s):
        return None
    first = sim.reset(seeds)
    if held is not None:
        held.begin(first)
    _play(sim, policy, period_s, seen)
    return sim


def _play(sim: Simulator, policy: SharedLinear, period_s: int, names: frozenset[str]) -> None:
    lanes, vms = sim.vms.shape
    weights = np.ascontiguousarray(np.broadcast_to(policy.weights, (lanes, policy.weights.shape[1])))
    seen, memory = view.reading_of(lanes, vms), view.memory_of(lanes, vms)
    arguments = (
        weights, (float(policy.step), float(policy.least_share)), period_s, sim.scenario.duration_s, sim.vms, sim.hosts,
        sim.vm_specs, sim.host_specs, sim.demand, sim.clock_s, sim.slot_s, seen, view.numbers_of(seen), view.hidden(names), memory,
        np.zeros((lanes, view.observation_size(vms))), np.zeros((lanes, vms)), np.zeros((lanes, vms)),
    )  # fmt: skip
    sim.each_chunk(lambda first, last: _play_chunk(*arguments, first, last))
    sim.unread = True


@inlined
def _pull(weights, seen, v: int) -> float:  # type: ignore[no-untyped-def]
    """w . x of a VM, in the order of its features, then its host's; the first is ``present``, the map's constant."""
    pull, at = 0.0, _HOST_WIDTH + v * _VM_WIDTH
    for i in range(_VM_WIDTH):
        pull += weights[i] * seen[at + i]
    for i in range(_HOST_WIDTH):
        pull += weights[_VM_WIDTH + i] * seen[i]
    return pull


@inlined
def _size(signal, pull: float, law) -> float:  # type: ignore[no-untyped-def]
    """What a VM is asked to have by a pull; NaN where its size cannot be read. law: step and least share."""
    asked = signal.target_mib if signal.target_mib < signal.size_mib else signal.size_mib
    wanted = asked + law[0] * signal.memory_mib * pull / (1.0 + abs(pull))
    least = max(law[1] * signal.memory_mib, signal.min_mib)
    return wanted if np.isnan(wanted) else min(max(wanted, least), signal.memory_mib)


@inlined
def _is_too_much(signals, pulls, means, price: float, law, room_mib: float) -> bool:  # type: ignore[no-untyped-def]
    total = 0.0
    for v in range(len(pulls)):
        if signals[v].running > 0.0:
            wanted = _size(signals[v], pulls[v] - price / means[v], law)
            if not np.isnan(wanted):
                total += wanted
    return total > room_mib


@inlined
def _price(signals, pulls, means, law, available_mib: float) -> float:  # type: ignore[no-untyped-def]
    room_mib = 0.0
    for v in range(len(pulls)):
        if signals[v].running > 0.0 and not np.isnan(signals[v].size_mib):
            room_mib += signals[v].size_mib
    room_mib += available_mib
    low, high = 0.0, 0.0
    if _is_too_much(signals, pulls, means, 0.0, law, room_mib):
        high = MOST_PRICE
        for _ in range(HALVINGS):
            price = 0.5 * (low + high)
            if _is_too_much(signals, pulls, means, price, law, room_mib):
                low = price
            else:
                high = price
    return high


@inlined
def _awaited_mib(signals, law, available_mib: float) -> float:  # type: ignore[no-untyped-def]
    """See ``linear.awaited_mib``."""
    above, waits = 0.0, False
    for v in range(len(signals)):
        least = max(law[1] * signals[v].memory_mib, signals[v].min_mib)
        if signals[v].running > 0.0 and signals[v].size_mib > least:
            above += signals[v].size_mib - least
        waits = waits or signals[v].waiting > 0.0
    total, room_mib = 0.0, available_mib + above
    for v in range(len(signals) if waits else 0):
        overhead_mib = 0.0 if np.isnan(signals[v].overhead_mib) else signals[v].overhead_mib
        needed = signals[v].memory_mib + overhead_mib
        if signals[v].waiting > 0.0 and total + needed <= room_mib:
            total += needed
    return total


@inlined
def _decide(weights, law, signals, available_mib: float, seen, vms, pulls, means) -> None:  # type: ignore[no-untyped-def]
    """Ask for sizes; signals and vms are rows ``[vm]``, what can be read and the model's; pulls and means ``[vm]``: room, the
    latter for weights in means of the host's."""
    for v in range(len(vms)):
        pulls[v] = _pull(weights, seen, v)
        mean = MOST_WEIGHT * seen[_HOST_WIDTH + v * _VM_WIDTH + WEIGHT_AT]
        means[v] = mean if mean > 0.0 else 1.0
    price = _price(signals, pulls, means, law, available_mib - _awaited_mib(signals, law, available_mib))
    for v in range(len(vms)):
        wanted = _size(signals[v], pulls[v] - price / means[v], law)
        if not np.isnan(wanted) and signals[v].running > 0.0:
            vms[v].asked_mib = wanted


@compiled
def _play_chunk(  # type: ignore[no-untyped-def]
    weights, law, period_s, end_s, vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s, seen, numbers, hidden, memory,
    flat, pulls, means, first, last,
) -> None:  # fmt: skip
    """Play environments first..last-1 to `end_s`, with a decision every `period_s`. weights ``[env, feature]``; law: step and least
    share; the rest as of ``stepping.see``, rooms with a row for each chunk of lanes at least; flat ``[row, feature]``, pulls
    and means ``[row, vm]``: room for an observation and for what it makes of it."""
    now = (seen[0][first], seen[1][first])
    plain = (numbers[0][first], numbers[1][first])
    for e in range(first, last):
        while clock_s[e] < end_s:
            see(
                vms[e], hosts[e, 0], vm_specs[e], host_specs[e, 0], clock_s[e], False, False, now, plain, hidden,
                (memory[0][e], memory[1][e]), flat[first],
            )  # fmt: skip
            _decide(
                weights[e],
                law,
                now[0],
                now[1][0].available_mib,
                flat[first],
                vms[e],
                pulls[first],
                means[first],
            )
            seconds = min(period_s, end_s - clock_s[e])
            tick.advance(vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s, seconds, e, e + 1)
