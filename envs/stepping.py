"""The compiled step of an environment: actions in, one control interval, observations and terms out.

Apart from the environments, so that an edit there does not compile the model anew.
"""

from hvgym.envs import features, telemetry
from hvgym.envs.model import tick
from hvgym.envs.model.compiled import compiled
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


@compiled
def begin(vms, hosts, vm_specs, host_specs, watched_vms, watched_hosts, observations, lane) -> None:  # type: ignore[no-untyped-def]
    """The first observation of an episode, in which nothing has been counted yet."""
    now_vms, now_hosts = watched_vms[lane], watched_hosts[lane]
    telemetry.keep_counters(vms[lane], hosts[lane], vm_specs[lane], now_vms, now_hosts)
    telemetry.watch(vms[lane], hosts[lane], vm_specs[lane], host_specs[lane], now_vms, now_hosts)
    features.observe_watched(now_vms, now_hosts, 1.0, observations[lane])


@compiled
def step(  # type: ignore[no-untyped-def]
    actions, vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s, seconds, watched_vms, watched_hosts, observations,
    totals, terms, first, last,
) -> None:  # fmt: skip
    """One control interval of environments first..last-1 in one compiled call.

    Lane by lane, because the state of one fits into the processor's nearest cache and that of all of them does not. What is
    watched, ``[env, vm]`` and ``[env, host]``, is read into the rows of the first lane for all.
    """
    now_vms, now_hosts = watched_vms[first], watched_hosts[first]
    for e in range(first, last):
        if e + 1 < last:
            _prefetch(vms[e + 1], vm_specs[e + 1], demand[e + 1, tick.slot_at(clock_s[e + 1], slot_s, demand.shape[1])])
        features.act(actions, vm_specs, vms, e, e + 1)
        telemetry.keep_counters(vms[e], hosts[e], vm_specs[e], now_vms, now_hosts)
        tick.advance(vms, hosts, vm_specs, host_specs, demand, clock_s, slot_s, seconds, e, e + 1)
        telemetry.watch(vms[e], hosts[e], vm_specs[e], host_specs[e], now_vms, now_hosts)
        features.observe_watched(now_vms, now_hosts, float(seconds), observations[e])
        add_terms(vms, hosts, vm_specs, totals, terms, e, e + 1)
