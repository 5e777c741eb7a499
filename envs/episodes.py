"""Whole episodes with a linear map of the view inside the model's loop, lane by lane: what a search over episodes plays.

The map is that of ``agents.learned.linear``, which is the same to the bit where a rollout asks it: memory sizes move by
step x s(w . x) of configured memory, s(z) = z / (1 + |z|), x being a VM's features, then its host's.
"""

import numpy as np

from hvgym.envs.model import tick
from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.stepping import see
from hvgym.envs.view import HOST_FEATURES, VM_FEATURES

_HOST_WIDTH, _VM_WIDTH = len(HOST_FEATURES), len(VM_FEATURES)


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
def _decide(weights, step: float, signals, seen, vms) -> None:  # type: ignore[no-untyped-def]
    """Ask for sizes; signals and vms are rows ``[vm]``, what can be read and the model's."""
    for v in range(len(vms)):
        signal, pull = signals[v], _pull(weights, seen, v)
        asked = signal.size_mib if np.isnan(signal.target_mib) else signal.target_mib
        wanted = asked + step * signal.memory_mib * pull / (1.0 + abs(pull))
        if not np.isnan(wanted) and signal.running > 0.0:
            vms[v].asked_mib = min(max(wanted, signal.min_mib), signal.memory_mib)


@compiled
def play(  # type: ignore[no-untyped-def]
    weights, step, period_s, end_s, vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s, seen, numbers, hidden, memory,
    flat, first, last,
) -> None:  # fmt: skip
    """Play environments first..last-1 to `end_s`, with a decision every `period_s`. weights ``[env, feature]``; the rest as of
    ``stepping.see``, rooms with a row for each chunk of lanes at least; flat ``[row, feature]``: room for an observation."""
    now = (seen[0][first], seen[1][first])
    plain = (numbers[0][first], numbers[1][first])
    for e in range(first, last):
        while clock_s[e] < end_s:
            see(
                vms[e], hosts[e, 0], vm_specs[e], host_specs[e, 0], clock_s[e], False, False, now, plain, hidden,
                (memory[0][e], memory[1][e]), flat[first],
            )  # fmt: skip
            _decide(weights[e], step, now[0], flat[first], vms[e])
            seconds = min(period_s, end_s - clock_s[e])
            tick.advance(vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s, seconds, e, e + 1)
