"""Where the VMs of a cluster are: the records of a cluster's state, and the order in which VMs lie in the arrays.

A host's VMs lie side by side in ``vms`` and ``vm_specs`` of an environment, hosts in order, VMs without a host last; within a host
by their index. So one host is a slice, and a second of it is ``tick.tick`` of that slice: the model of one host knows nothing
of others, and a host of a cluster costs what a host alone costs. ``RESIDENT`` is indexed by VM, whatever its row; rows change only
when a VM comes, goes or moves (`lay_out`).
"""

import numpy as np

from hvgym.envs.model import migration
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import record

NOWHERE = -1
"""Index of a host that there is not."""

ABSENT, WAITING, RUNNING, MOVING, LOST, RESTARTING, REFUSED = range(7)
"""What a VM is: not there yet or gone; asked to start and on no host; running; running while its memory is copied; down because
its host failed, which nobody has noticed or fenced yet; down, and in the queue of restarts; given up by high availability."""

STATES = ("absent", "waiting", "running", "moving", "lost", "restarting", "refused")

OBSTACLES = (
    "nothing",
    "its devices are passed through",
    "another architecture",
    "its CPU level is above the host's",
    "storage that is not shared",
    "another hypervisor",
    "this hypervisor moves no running VM",
    "the host is not at work",
    "the host is in maintenance",
    "the host's memory",
    "as many at once as the stack allows",
    "a copy that did not end",
)
"""What stands in the way of a move or a start."""

FREE, PASSED_THROUGH, ARCHITECTURE, CPU_LEVEL, STORAGE, HYPERVISOR = range(6)
NO_MIGRATION, NOT_UP, MAINTENANCE, MEMORY, CONCURRENCY, NOT_ENDED = range(6, len(OBSTACLES))

UP, DEAD, ISOLATED, STALLED, RETURNING = range(5)
"""What a host is: at work; without power or crashed; cut off from the network, its VMs at work for nobody; so slow that its VMs
stand still most of the time; booting."""

MACHINE_STATES = ("up", "dead", "isolated", "stalled", "returning")

RESIDENT = record(
    [
        ("row", "i8"),  # of the arrays, in which this VM lies
        ("host", "i8"),  # on which it runs
        ("state", "i8"),
        ("target", "i8"),  # host to which it moves
        ("source", "i8"),  # ... and from which
        ("disk_left_mib", "f8"),  # of its virtual disk, where that moves too
        ("wanted", "i8"),  # host to which somebody wants it moved, or on which to start
        ("wanted_s", "f8"),  # seconds for which that has been queued
        ("arrive_s", "f8"),  # second of the episode in which it is to be started; 0: it is there from the beginning
        ("leave_s", "f8"),  # ... and in which it is deleted
        ("restarts_it", "f8"),  # 1: high availability restarts it
        ("priority", "f8"),  # order of restarts, high first
        ("next_try_s", "f8"),  # second in which its start is tried again
        ("tries", "f8"),  # starts that were tried since it was lost
        ("lost_at_s", "f8"),  # second in which its host failed
        ("blocked", "i8"),  # why it has not moved to where it is wanted, or not started: one of `OBSTACLES`
        ("disk_host", "i8"),  # host in which its virtual disk lies; below 0: storage that hosts share
        ("booted_kind", "i8"),  # group of hosts on which it last booted, whose processor it saw
        ("recovering", "f8"),  # 1: its host failed, and it is not yet back at work
        ("outage_s", "f8"),  # counters from here on: seconds without service after failures of hosts
        ("downtime_s", "f8"),  # ... stopped at the end of a copy
        ("moves", "f8"),
        ("failed_moves", "f8"),
        ("restarts", "f8"),
        ("moved_mib", "f8"),
        ("slowest_recovery_s", "f8"),  # from failure to service, restored to what it was
        ("copy_operation", "i8"),  # what its copy is in ESXi's pools
        ("copy", migration.COPY),
    ]
)
"""A VM's place, ``[env, vm]``."""

MACHINE = record(
    [
        ("first", "i8"),  # rows of its VMs
        ("count", "i8"),
        ("state", "i8"),
        ("since_s", "f8"),  # second of the episode in which that began
        ("ends_s", "f8"),  # ... and in which it is at work again: it has booted, the network is back
        ("heard_s", "f8"),  # of its last heartbeat, once it is silent
        ("grace_s", "f8"),  # silence that its stack allows it beyond what it allows any host
        ("declares_s", "f8"),  # in which it takes itself for isolated
        ("off_s", "f8"),  # in which its VMs went down, with it or by its stack's hand; below 0: they run on
        ("noticed_s", "f8"),  # second in which the others took it for dead; below 0: they have not
        ("fenced_s", "f8"),  # second from which on its VMs may be started elsewhere; below 0: not yet
        ("quiet_until_s", "f8"),  # it is not fenced again before
        ("maintenance", "f8"),  # 1: to be emptied, and nothing may be started there
        ("deadline_s", "f8"),  # ... by this second
        ("emptied_s", "f8"),  # second in which it was; below 0: not
        ("next_failure", "i8"),  # of the list of those that are given
        ("draws", "i8"),  # of failures by chance, until now
        ("next_draw_s", "f8"),  # second of the next one
        # As of `starting.look`, of its VMs and of those that are on their way:
        ("promised_mib", "f8"),  # configured memory
        ("reserved_mib", "f8"),  # what admission by reservations counts
        ("incoming_mib", "f8"),  # memory held for copies of VMs that run elsewhere
        ("outgoing", "f8"),  # copies under way
        ("incoming", "f8"),
        ("units", "f8", (3,)),  # charged in ESXi's pools of network, datastore and host (`concurrency`)
        ("copying", "f8"),  # copies that ran in the last second
        ("tx_mib_per_s", "f8"),  # of copies in the last second, out of it
        ("rx_mib_per_s", "f8"),  # ... and into it
        ("copy_cpu", "f8"),  # pCPUs that copies took
        ("starting", "f8"),  # VMs that it is booting
        ("net_mib_per_s", "f8"),  # of VMs, in the last second
        ("was_down", "f8"),  # 1: no VM could exist on it in the last second
        ("failures", "f8"),  # counter
        ("down_s", "f8"),  # counter
    ]
)
"""A host as part of a cluster, ``[env, host]``."""

MACHINE_SPEC = record(
    [
        ("kind", "i8"),  # group of hosts alike: index of the specifications that a VM has there
        ("own_mib", "f8"),  # what ``host_spec.own_mib`` is without copies
        ("nic_mib_per_s", "f8"),  # the VMs' link, without copies
        ("own_storage", "f8"),  # 1: VMs' disks lie in it
        ("disk_mib_per_s", "f8"),  # at which they are read and written when they move
        ("link_mib_per_s", "f8"),  # for migrations
        ("most_units", "f8", (3,)),  # of `MACHINE.units`
        ("shares_link", "f8"),  # 1: copies and VMs use one link
        ("mean_time_to_failure_s", "f8"),  # of draws; infinite: none
        ("repair_s", "f8"),  # until a host that has crashed is at work again
        ("boot_s", "f8"),  # ... the last part of it; also after a loss of power and after a reset
    ]
)

STACK = record(
    [
        ("most_out", "f8"),  # copies at once from a host
        ("most_in", "f8"),  # ... to a host
        ("most_at_all", "f8"),  # ... in the cluster
        ("pools", "f8"),  # 1: copies are also charged in ESXi's pools
        ("most_overcommit", "f8"),  # configured memory over RAM up to which it starts and moves VMs
        ("needs_guaranteed", "f8"),  # 1: ... and only where what a VM is guaranteed is free
        ("places", "f8"),  # 1: it starts VMs by itself, where most memory is free
        ("cpu_per_mib_per_s", "f8"),  # pCPUs that a copy takes at either end
        ("moves_storage", "f8"),  # 1: a VM whose disk the target cannot reach moves with its disk
    ]
)
"""What manages a cluster, beside its migration's rules and its high availability."""

MAINTENANCE_PLAN = np.dtype([("host", "i8"), ("from_s", "f8"), ("deadline_s", "f8"), ("until_s", "f8")], align=True)
"""Work that is planned on a host, ``[plan]``."""

FAILURE = np.dtype([("host", "i8"), ("kind", "i8"), ("at_s", "f8"), ("lasts_s", "f8")], align=True)
"""A failure that a scenario names, ordered by second, ``[failure]``."""


@compiled
def answers(state: int) -> bool:
    """Whether a host in this state takes orders: to start a VM or take one in. Nobody knows of one that dies slowly."""
    return state in (UP, STALLED)


@compiled
def lay_out(vms, vm_specs, residents, machines, order, spare_vms, spare_specs) -> None:  # type: ignore[no-untyped-def]
    """Put the VMs of one environment in order after some have changed hosts.

    Rows ``[vm]``: vms, vm_specs, residents, order (VM that lies in a row), spare_vms and spare_specs (scratch); machines
    ``[host]``.
    """
    for row in range(len(vms)):
        spare_vms[row], spare_specs[row] = vms[row], vm_specs[row]
    row = 0
    for h in range(len(machines)):
        machines[h].first = row
        for v in range(len(residents)):
            if residents[v].host == h:
                row = _move_row(vms, vm_specs, residents, order, spare_vms, spare_specs, v, row)
        machines[h].count = row - machines[h].first
    for v in range(len(residents)):
        if residents[v].host == NOWHERE:
            row = _move_row(vms, vm_specs, residents, order, spare_vms, spare_specs, v, row)


@compiled
def _move_row(vms, vm_specs, residents, order, spare_vms, spare_specs, v: int, row: int) -> int:  # type: ignore[no-untyped-def]
    old = residents[v].row
    if old != row:
        vms[row], vm_specs[row] = spare_vms[old], spare_specs[old]
    order[row], residents[v].row = v, row
    return row + 1
