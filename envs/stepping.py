"""The compiled step of an environment: actions in, one control interval, observations and terms out.

Apart from the environments, so that an edit there does not compile the model anew.
"""

import numpy as np

from hvgym.envs import actions as asking
from hvgym.envs import telemetry, view
from hvgym.envs.model import tick
from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.prefetch import prefetch

TERMS = ("goodput", "cost", "oom_kills", "failed_starts", "host_swap_s", "balloon_moved_mib")
"""Columns of the per-step terms; the first is the reward, in which kills and failed starts are charged."""

REWARD = TERMS[0]


@compiled
def add_terms(vms, hosts, vm_specs, totals, terms, first, last) -> None:  # type: ignore[no-untyped-def]
    """Set terms ``[env, term]`` to what this step added, and totals to the running sums."""
    for e in range(first, last):
        asked = earned = cost = kills = failed = moved = 0.0
        for v in range(vms.shape[1]):
            asked += vm_specs[e, v].weight * vms[e, v].asked_s
            earned += vm_specs[e, v].weight * (vms[e, v].progress_s - vms[e, v].charged_s)
            cost += vms[e, v].slo_violation_s
            kills += vms[e, v].oom_kills
            failed += vms[e, v].failed_starts
            moved += vms[e, v].balloon_moved_mib
        now = (earned, cost, kills, failed, hosts[e, 0].swapping_s, moved, asked)
        for i in range(7):
            rise = now[i] - totals[e, i]
            totals[e, i] = now[i]
            if i < 6:
                terms[e, i] = rise
            else:
                terms[e, 0] = terms[e, 0] / rise if rise > 0.0 else 1.0  # nobody asked: nothing was lost


@compiled
def _prefetch(vms, vm_specs, demand) -> None:  # type: ignore[no-untyped-def]
    """Have the VMs of one environment brought nearer; arguments are rows ``[vm]``."""
    for v in range(len(vms)):
        prefetch(vms[v])
        prefetch(vm_specs[v])
        prefetch(demand[v])


@inlined
def hide(signals, columns) -> None:  # type: ignore[no-untyped-def]
    """What a learner must not see is missing; signals are rows of a reading as plain numbers, ``[row, signal]``."""
    for i in columns:
        for row in range(len(signals)):
            signals[row, i] = np.nan


@inlined
def see(vms, host, vm_specs, host_spec, clock_s, pages, ages, seen, numbers, hidden, memory, out) -> None:  # type: ignore[no-untyped-def]
    """Write one host's flat observation as it is now. pages: whether samples and ages of pages are read, ages: whether ages are
    looked at. Pairs, of VMs and of hosts: seen, room for a reading, and the same memory as plain `numbers`; hidden, columns of it;
    memory of the view."""
    telemetry.watch(vms, host, vm_specs, host_spec, pages, seen[0], seen[1][0])
    hide(numbers[0], hidden[0])
    hide(numbers[1], hidden[1])
    view.look(seen[0], seen[1][0], float(clock_s), ages, memory[0], memory[1][0], out)


@compiled
def begin(  # type: ignore[no-untyped-def]
    lane, vms, hosts, vm_specs, host_specs, clock_s, pages, ages, seen, numbers, hidden, memory, observations
) -> None:
    """The first observation of an episode, in which nothing has been counted yet."""
    see(
        vms[lane], hosts[lane, 0], vm_specs[lane], host_specs[lane, 0], clock_s[lane], pages, ages, (seen[0][0], seen[1][0]),
        (numbers[0][0], numbers[1][0]), hidden, (memory[0][lane], memory[1][lane]), observations[lane],
    )  # fmt: skip


@compiled
def step(  # type: ignore[no-untyped-def]
    actions, kind, most, room, vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s, seconds, looks, pages, ages, seen,
    numbers, hidden, memory, observations, totals, terms, first, last,
) -> None:  # fmt: skip
    """One control interval of environments first..last-1 in one compiled call.

    Lane by lane, because the state of one fits into the processor's nearest cache and that of all of them does not. What is
    read on the way, ``[env, vm]`` and ``[env, host]``, stands in the rows of the first lane for all. actions ``[env, vm]`` are
    sizes of that kind (``actions.ask``; most: of a relative one); looks: whether observations are written here.
    """
    for e in range(first, last):
        if e + 1 < last:
            _prefetch(vms[e + 1], vm_specs[e + 1], demand[e + 1, tick.slot_at(clock_s[e + 1], slot_s, demand.shape[1])])
        asking.act(kind, most, actions[e], vms[e], vm_specs[e], host_specs[e, 0], room[first])
        tick.advance(vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s, seconds, e, e + 1)
        if looks:
            see(
                vms[e], hosts[e, 0], vm_specs[e], host_specs[e, 0], clock_s[e], pages, ages, (seen[0][first], seen[1][first]),
                (numbers[0][first], numbers[1][first]), hidden, (memory[0][e], memory[1][e]), observations[e],
            )  # fmt: skip
        add_terms(vms, hosts, vm_specs, totals, terms, e, e + 1)
