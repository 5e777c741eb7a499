"""How a stack of high availability brings VMs back: which may be restarted, in which order, how many at once, how often.

The caller marks VMs of a host that is down (``placement.MACHINE.off_s``) as LOST. One that is `restartable` is put in the queue
(`release`); `queue` says whose turn it is, the caller looks for a host that `may_start` it and where it fits, and books the try
(`tried`). A start holds one of the places at once for `power_on_s`, not until the guest has booted: stacks wait for the power-on.

Left out: dependencies between VMs, a restart on the same host before another is tried, and waiting for room without counting
tries. Order by name is order by index.
"""

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import RETRIES
from hvgym.envs.model.placement import LOST, REFUSED, RESTARTING, RUNNING, UP


@compiled
def is_protected(resident, ha) -> bool:  # type: ignore[no-untyped-def]
    """Whether this VM is restarted on any host; others come back on their own, if they do."""
    return ha.restarts > 0.0 and (ha.restarts_all > 0.0 or resident.restarts_it > 0.0)


@compiled
def restartable(resident, machine, ha) -> bool:  # type: ignore[no-untyped-def]
    """Whether a VM that was lost with this host may be started: elsewhere if it is protected, else on this host."""
    if is_protected(resident, ha):
        return machine.fenced_s >= 0.0
    return ha.autostart > 0.0 and machine.state == UP


@compiled
def release(resident, ha, clock_s: float) -> None:  # type: ignore[no-untyped-def]
    """Put a VM that was lost into the queue of restarts."""
    if resident.state == LOST:
        resident.state, resident.tries, resident.next_try_s = RESTARTING, 0.0, clock_s + ha.start_s


@compiled
def queue(residents, ha, clock_s: float, out) -> int:  # type: ignore[no-untyped-def]
    """VMs whose next try is due, in the order of the stack, into ``out[:n]``; returns n. residents, out ``[vm]``."""
    n = 0
    for v in range(len(residents)):
        if residents[v].state == RESTARTING and residents[v].next_try_s <= clock_s:
            if ha.priority_wait_s > 0.0 and _waits(residents, ha, v, clock_s):
                continue
            at = n
            while at > 0 and _before(residents[v], residents[out[at - 1]], ha):
                out[at] = out[at - 1]
                at -= 1
            out[at] = v
            n += 1
    return n


@compiled
def _before(one, other, ha) -> bool:  # type: ignore[no-untyped-def]
    if one.restarts_it != other.restarts_it:
        return one.restarts_it > other.restarts_it
    return ha.by_priority > 0.0 and one.priority > other.priority


@compiled
def _waits(residents, ha, v: int, clock_s: float) -> bool:  # type: ignore[no-untyped-def]
    """Whether the first try of a VM waits, for another of higher priority is down or starting."""
    mine = residents[v]
    if mine.tries > 0.0 or clock_s >= mine.next_try_s + ha.priority_wait_s:
        return False
    for w in range(len(residents)):
        down = residents[w].state == RESTARTING or is_starting(residents[w], clock_s)
        if down and residents[w].priority > mine.priority:
            return True
    return False


@compiled
def is_starting(resident, clock_s: float) -> bool:  # type: ignore[no-untyped-def]
    """Whether a VM that was restarted still holds a place among the starts at once."""
    return resident.state == RUNNING and resident.tries > 0.0 and resident.next_try_s > clock_s


@compiled
def tried(resident, ha, clock_s: float, started: bool) -> None:  # type: ignore[no-untyped-def]
    """Book a try to start a VM in this second.

    Started, it is running, and holds a place among the starts until `next_try_s`. Not started, it is tried again then, or given
    up.
    """
    resident.tries += 1.0
    if started:
        resident.state, resident.next_try_s = RUNNING, clock_s + ha.power_on_s
        resident.restarts += 1.0
    elif resident.tries >= ha.most_tries:
        resident.state = REFUSED
    else:
        resident.next_try_s = clock_s + retry_delay_s(ha, resident.tries)


@compiled
def retry_delay_s(ha, tries: float) -> float:  # type: ignore[no-untyped-def]
    """Time from the try of this number, which failed, to the next."""
    listed = 0.0
    for k in range(RETRIES):
        listed += ha.retry_times[k]
        if tries <= listed:
            return ha.retry_s[k]
    return ha.retry_s[RETRIES - 1]


@compiled
def count_starts(machines, residents, clock_s: float) -> int:  # type: ignore[no-untyped-def]
    """Count the starts under way into each host's `starting`; returns those of the cluster. machines ``[host]``, residents
    ``[vm]``."""
    for h in range(len(machines)):
        machines[h].starting = 0.0
    count = 0
    for v in range(len(residents)):
        if is_starting(residents[v], clock_s):
            machines[residents[v].host].starting += 1.0
            count += 1
    return count


@compiled
def may_start(machine, ha) -> bool:  # type: ignore[no-untyped-def]
    """Whether a VM may be restarted on this host now, if it fits."""
    return machine.state == UP and machine.maintenance == 0.0 and machine.starting < ha.starts_per_host
