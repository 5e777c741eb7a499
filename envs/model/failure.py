"""Hosts that fail, and how a stack of high availability notices it and fences them (``restarts`` brings their VMs back).

A stack is a record of general timers (`HA`), none is a branch of the code; ``envs/ha_rules.py`` has the figures of real ones.
Hosts say at multiples of `heartbeat_s` that they live. One that has been silent for long enough is noticed, in a round of the
manager; once it is certain that its VMs are down it counts as fenced, and they may be started elsewhere. An isolated host may
stop its VMs or reset itself. A stalled one goes on with its heartbeats: nobody notices. Cards 13.1 and 13.2 of the calibration hold
it to published timelines.

Failures come from a scenario's list or by chance: a Poisson process a host, in absolute time, so that nothing that happens shifts
a draw; what falls on a host that is down already is without effect. Chance makes hosts crash.

Left out: quorum (the rest of the hosts stays in charge however few they are), a manager that is itself down, fencing that does
not succeed, quarantine of hosts that fail again and again. VMs of an isolated host that run on for nobody are not told from paused
ones (`PAUSE`): both stand still and are unserved until the network is back. What happens to the VMs' memory is the caller's affair:
VMs of a host are down from its `off_s` on.
"""

import math

from hvgym.envs.model import rng
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import RETRIES, record
from hvgym.envs.model.placement import DEAD, ISOLATED, RETURNING, STALLED, UP

POWER_LOSS, CRASH, ISOLATION, STALL = range(4)
"""How a host fails: power is gone for so long, then it boots; it crashes and is at work again after so long, its boot
included; it is cut off from the network; it is so slow that its VMs stand still."""

LOCKS, EVICTS, RESETS = range(3)
"""What becomes of VMs on an isolated host that is to be fenced. `LOCKS`: they keep the locks of their disks and run on, unless
the host stops them or resets itself. `EVICTS`: the host stops them then. `RESETS`: its power is cut, and it boots."""

FENCINGS = ("locks", "evicts", "resets")

LEAVE_ON, POWER_OFF, PAUSE = range(3)
"""What a host does with its VMs once it takes itself for isolated."""

RESPONSES = ("leave_on", "power_off", "pause")

HA = record(
    [
        ("restarts", "f8"),  # 0: no high availability, nothing is restarted elsewhere
        ("restarts_all", "f8"),  # 1: VMs too that do not ask for it, after those that do
        ("autostart", "f8"),  # 1: VMs that nobody protects are started when their host is back
        ("heartbeat_s", "f8"),
        ("dead_s", "f8"),  # since its last heartbeat, until a host is taken for dead
        ("grace_per_vm_s", "f8"),  # ... longer
        ("grace_master_s", "f8"),  # ... longer for the host that leads: all else waits for its successor
        ("round_s", "f8"),  # the manager looks at multiples of it
        ("fence_s", "f8"),  # from then until it is fenced
        ("fence_after_s", "f8"),  # ... but not before so long after its last heartbeat
        ("quiet_s", "f8"),  # between two fences of a host
        ("fencing", "i8"),
        ("watchdog_s", "f8"),  # after the last heartbeat: an isolated host resets itself; infinite: it has none
        ("isolated_s", "f8"),  # after the last heartbeat: a host takes itself for isolated
        ("isolated_master_s", "f8"),  # ... the one that leads
        ("response", "i8"),
        ("response_s", "f8"),  # from then until it does it
        ("start_s", "f8"),  # from fenced to the first try
        ("power_on_s", "f8"),  # for which a start holds its place among those at once
        ("by_priority", "f8"),  # 1: restarts go by priority, then by name; 0: by name alone
        ("priority_wait_s", "f8"),  # for which the first try waits, at most, while a VM of higher priority is down
        ("starts_per_host", "f8"),  # at once
        ("starts_per_cluster", "f8"),
        ("retry_s", "f8", (RETRIES,)),  # after a try that failed
        ("retry_times", "f8", (RETRIES,)),  # so often each, the last for ever
        ("most_tries", "f8"),  # then the VM is given up
    ]
)
"""What a stack of high availability fixes, one per environment. Timers that there are not are infinite."""


@compiled
def begin(machines, machine_specs, seed: int) -> None:  # type: ignore[no-untyped-def]
    """All hosts of an environment at work, and the first failure by chance of each drawn. machines, machine_specs ``[host]``."""
    for h in range(len(machines)):
        machine = machines[h]
        machine.state, machine.since_s, machine.ends_s = UP, 0.0, math.inf
        machine.noticed_s = machine.fenced_s = machine.off_s = -1.0
        machine.declares_s = math.inf
        machine.grace_s = machine.quiet_until_s = machine.heard_s = 0.0
        machine.next_failure = 0
        machine.draws, machine.next_draw_s = 1, gap_s(machine_specs[h].mean_time_to_failure_s, seed, h, 0)


@compiled
def gap_s(mean_s: float, seed: int, host: int, draw: int) -> float:
    """Time between two failures by chance of a host: exponential, from 0 to the first one; there are none where the mean is
    infinite or 0."""
    if not 0.0 < mean_s < math.inf:
        return math.inf
    return -mean_s * math.log1p(-rng.uniform(seed, rng.STREAM_FAILURE, host, draw))


@compiled
def advance(machines, machine_specs, ha, failures, seed: int, clock_s: float) -> None:  # type: ignore[no-untyped-def]
    """One second of all hosts of one environment, which begins at `clock_s`.

    machines, machine_specs ``[host]``; ha: a record; failures ``[failure]`` in order of their seconds.
    """
    master = leader(machines)
    for h in range(len(machines)):
        machine, spec = machines[h], machine_specs[h]
        _recover(machine, spec, clock_s)
        _fail_as_listed(machine, spec, ha, failures, h, h == master, clock_s)
        _fail_by_chance(machine, spec, ha, seed, h, h == master, clock_s)
        if machine.state == ISOLATED:
            _respond(machine, spec, ha, clock_s)
        if is_silent(machine):
            _notice(machine, spec, ha, clock_s)
            machine.down_s += 1.0


@compiled
def leader(machines) -> int:  # type: ignore[no-untyped-def]
    """Host that leads the stack (master, primary, SPM): of those at work the one that has been for longest, the first of equals.
    -1 if none is."""
    eldest = -1
    for h in range(len(machines)):
        if machines[h].state == UP and (eldest < 0 or machines[h].since_s < machines[eldest].since_s):
            eldest = h
    return eldest


@compiled
def is_silent(machine) -> bool:  # type: ignore[no-untyped-def]
    """Whether no heartbeat of this host is heard."""
    return machine.state == DEAD or machine.state == ISOLATED or machine.state == RETURNING


@compiled
def notices_at_s(machine, ha) -> float:  # type: ignore[no-untyped-def]
    """Second in which a silent host is taken for dead, if it stays silent."""
    return _round_up(machine.heard_s + ha.dead_s + machine.grace_s, ha.round_s)


@compiled
def fences_at_s(machine, ha) -> float:  # type: ignore[no-untyped-def]
    """Second in which it is fenced; of an isolated host whose VMs keep their locks only if they are down by then."""
    unlocked_s = _round_up(machine.heard_s + ha.fence_after_s, ha.round_s)
    return max(notices_at_s(machine, ha) + ha.fence_s, unlocked_s, machine.quiet_until_s)


@compiled
def _round_up(time_s: float, round_s: float) -> float:
    return math.ceil(time_s / round_s) * round_s if math.isfinite(time_s) else time_s


@compiled
def _recover(machine, spec, clock_s: float) -> None:  # type: ignore[no-untyped-def]
    """What ends by itself; a stalled host that has been emptied for maintenance is booted anew."""
    if machine.state == UP:
        return
    if machine.state == DEAD:
        if clock_s >= machine.ends_s - spec.boot_s and clock_s > machine.since_s:
            machine.state, machine.since_s = RETURNING, clock_s
    elif machine.state == STALLED and machine.maintenance > 0.0 and machine.count == 0:
        machine.state, machine.since_s, machine.ends_s = RETURNING, clock_s, clock_s + spec.boot_s
        machine.heard_s = machine.off_s = machine.noticed_s = machine.fenced_s = clock_s  # as planned, with no VM on it
    if machine.state != DEAD and clock_s >= machine.ends_s:
        machine.state, machine.since_s, machine.ends_s = UP, clock_s, math.inf
        if machine.off_s >= 0.0 > machine.fenced_s:
            machine.fenced_s = clock_s  # its VMs are down for certain
        machine.off_s = -1.0


@compiled
def _fail_as_listed(machine, spec, ha, failures, h: int, leads: bool, clock_s: float) -> None:  # type: ignore[no-untyped-def]
    while machine.next_failure < len(failures) and failures[machine.next_failure].at_s <= clock_s:
        failure = failures[machine.next_failure]
        machine.next_failure += 1
        if failure.host == h:
            _fail(machine, spec, ha, failure.kind, failure.lasts_s, leads, clock_s)


@compiled
def _fail_by_chance(machine, spec, ha, seed: int, h: int, leads: bool, clock_s: float) -> None:  # type: ignore[no-untyped-def]
    while machine.next_draw_s <= clock_s:
        machine.next_draw_s += gap_s(spec.mean_time_to_failure_s, seed, h, machine.draws)
        machine.draws += 1
        _fail(machine, spec, ha, CRASH, 0.0, leads, clock_s)


@compiled
def _fail(machine, spec, ha, kind: int, lasts_s: float, leads: bool, clock_s: float) -> None:  # type: ignore[no-untyped-def]
    """A failure of this kind; `lasts_s` 0 is the host's own figure. A host that is down or booting does not fail, nor is
    one cut off or slowed down that is not at work."""
    if machine.state == DEAD or machine.state == RETURNING or (kind > CRASH and machine.state != UP):
        return
    lasts_s = lasts_s if lasts_s > 0.0 else spec.repair_s
    machine.failures += 1.0
    if kind != STALL and not is_silent(machine):
        _fall_silent(machine, ha, leads, clock_s)
    if kind <= CRASH:
        _die(machine, clock_s + lasts_s + (spec.boot_s if kind == POWER_LOSS else 0.0), clock_s)
    else:
        machine.state = ISOLATED if kind == ISOLATION else STALLED
        machine.since_s, machine.ends_s = clock_s, clock_s + lasts_s


@compiled
def _fall_silent(machine, ha, leads: bool, clock_s: float) -> None:  # type: ignore[no-untyped-def]
    machine.heard_s = math.floor(clock_s / ha.heartbeat_s) * ha.heartbeat_s
    machine.grace_s = math.floor(ha.grace_per_vm_s * machine.count + (ha.grace_master_s if leads else 0.0))
    machine.declares_s = machine.heard_s + (ha.isolated_master_s if leads else ha.isolated_s)
    machine.noticed_s = machine.fenced_s = machine.off_s = -1.0


@compiled
def _die(machine, back_s: float, clock_s: float) -> None:  # type: ignore[no-untyped-def]
    machine.state, machine.since_s, machine.ends_s = DEAD, clock_s, back_s
    if machine.off_s < 0.0:
        machine.off_s = clock_s


@compiled
def _respond(machine, spec, ha, clock_s: float) -> None:  # type: ignore[no-untyped-def]
    """What an isolated host does by itself."""
    if clock_s >= machine.heard_s + ha.watchdog_s:
        _reset(machine, spec, clock_s)
    elif ha.response == POWER_OFF and machine.off_s < 0.0 and clock_s >= machine.declares_s + ha.response_s:
        machine.off_s = clock_s


@compiled
def _reset(machine, spec, clock_s: float) -> None:  # type: ignore[no-untyped-def]
    """An isolated host boots; it is of no use before its network is back."""
    _die(machine, max(machine.ends_s, clock_s + spec.boot_s), clock_s)


@compiled
def _notice(machine, spec, ha, clock_s: float) -> None:  # type: ignore[no-untyped-def]
    if machine.noticed_s < 0.0 and clock_s >= notices_at_s(machine, ha):
        machine.noticed_s = clock_s
    if machine.fenced_s >= 0.0 or clock_s < fences_at_s(machine, ha):
        return
    if machine.state == ISOLATED and machine.off_s < 0.0:
        if ha.fencing == LOCKS:
            return
        machine.off_s = clock_s
    if machine.state == ISOLATED and ha.fencing == RESETS:
        _reset(machine, spec, clock_s)
    machine.fenced_s, machine.quiet_until_s = clock_s, clock_s + ha.quiet_s
