"""How a host divides its disk and its link: reservations, limits and shares, and what each VM then waits.

Modelled. The disk goes to VMs by the fluid limit of mClock (``qos.divide``), in shares of the device: each asks for what it
would take if it had the disk alone, reads and what its guest has to write, and the hypervisor's own writes (host swap) are
one more client with `SYSTEM_SHARES`, after all reservations. Queued writes of a VM go before its reads, up to
``io.IN_TURN`` of what it was given; its limit counts operations, of which writes in runs need few for their time. A VM
waits as in a queue of its own (M/M/1) whose server is the part of the disk that it could have: what it was given and whatever
nobody wants, its reservation, or its shares' part among those that use the disk, whichever is most. Under generalised
processor sharing a session is never worse off than so (Parekh and Gallager, 1993). So a VM's swapping slows itself, and a
neighbour only as far as shares and reservations let it. Progress and wait are solved together, in closed form.

A limit is no queue but a token bucket: it delays nothing as long as there are tokens, and beyond that holds operations back
until the VM is as slow as it allows. A second's work takes 1 / x = c + o w, c without the disk's queue and o operations that
wait w in it. Below the limit w is the queue's wait, the same as without a limit; where the limit binds, x is known (what was
given over what is demanded) and so is the wait that makes it so, w = (1 / x - c) / o. Of that the queue of the device is a
part. A VM none of whose operations wait is held back as well; one of them would wait for the longest queue that this model
solves. Where bursts are configured (QEMU), unused seconds fill a bucket, and while that lasts the limit is the burst's rate; an
operation is what takes 1 / `disk_iops` of the disk, so large transfers count by their size, as they do with ESXi and Hyper-V.

The link goes to VMs in the same way, in MiB/s; where nothing is configured it is cut in proportion to demand. A packet waits
for the link's queue, or, where traffic is divided, for one packet of every other VM.

Left out: the order of single requests (``qos.Mclock`` has it), requests of unequal size, limits of reads or writes alone or
of bytes, the tenth of a second's operations that QEMU lets through above any limit, threshold latency (SIOC), shares of a swap
device of its own, the queue of a VM that waits for operations without moving bytes.

Sources: as in ``qos``; how each hypervisor counts, ``capabilities``; the weight of the hypervisor's own writes is a guess (that
of a VM of normal shares).
"""

import math

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.devices import io, qos
from hvgym.envs.model.params import HostRecord, HostSpecRecord, VmRecord, VmSpecRecord

SYSTEM_SHARES = 1000.0

UNLIMITED = 1e9
"""Disks that a VM without a limit may use: a number, for states must be finite."""

LEAST_PART = 1e-9
"""A part of the disk is never taken to be smaller: a VM that gets nothing waits for long, not for ever."""

ROUNDING = 1e-9
"""What was given counts as short of what the queue would let through when it is less by more than this."""

LONGEST_QUEUE = io.MAX_UTILISATION / (1.0 - io.MAX_UTILISATION)
"""Operations ahead of one in the longest queue that is solved."""

LINK_QUEUE_PACKETS = 256.0
"""Most packets before one that waits for a link that is full: a usual ring (a guess)."""


@compiled
def _set_waits(vm: VmRecord, host: HostRecord, spec: HostSpecRecord) -> None:
    """Leave what a second's work takes without the queue of the disk, and how many operations wait in it."""
    vm.disk_waits = vm.fault_wait_operations + vm.sync_wait_operations
    swap_wait_s = host.swap_wait_s
    if spec.swap_is_disk > 0.0:
        vm.disk_waits += vm.swap_wait_operations
        swap_wait_s = spec.disk_latency_s
    vm.unqueued_s = vm.busy_share / vm.cpu_grant + io.stall_s(vm, spec.disk_latency_s, swap_wait_s)


@compiled
def _progress(vm: VmRecord, spec: HostSpecRecord, part: float) -> float:
    """Progress of a VM that has this part of the disk to itself.

    A second's work takes 1 / x = c + o w, c without the queue, o operations that wait w = y / ((1 - y) p i) each at an own
    device of p i operations a second of which it uses y = x d / p. That is (b - a) y^2 + (a + 1) y - 1 = 0 with a = c p / d
    and b = o / (d i).
    """
    per_demand = 1.0 / vm.disk_demand
    a, b = vm.unqueued_s * part * per_demand, vm.disk_waits * per_demand / spec.disk_iops
    used = 2.0 / (a + 1.0 + math.sqrt((a - 1.0) * (a - 1.0) + 4.0 * b))
    return min(used * part * per_demand, vm.device_limit)


@compiled
def _allowed(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Share of the disk that a VM's limit lets it have in this second, bursts included."""
    if spec.disk_bucket == 0.0:
        return min(spec.disk_limit, UNLIMITED)
    return qos.take(vm.disk_tokens, 1.0, spec.disk_limit, spec.disk_burst, spec.disk_bucket, 1.0)[0]


@compiled
def _pay(vm: VmRecord, spec: VmSpecRecord, counted: float) -> None:
    """Take from its bucket what a VM uses in this second: `counted` for its writes, and its reads, which may be less than it was
    given, for its link may be slower."""
    x = min(vm.disk_most, vm.net_grant) if vm.net_want_mib_per_s > io.NOTHING else vm.disk_most
    used = x * vm.disk_demand * vm.per_operation + counted
    _, vm.disk_tokens = qos.take(vm.disk_tokens, used, spec.disk_limit, spec.disk_burst, spec.disk_bucket, 1.0)


@compiled
def _ask(vms, vm_specs, host: HostRecord, spec: HostSpecRecord) -> tuple[float, float, float]:  # type: ignore[no-untyped-def]
    """Leave in `want` what each VM would take of the disk alone, reads and queued writes, and in ``limit_left`` its limit;
    return sums of wants, reservations in use, and shares."""
    wants = reserved = shares = 0.0
    for v in range(len(vms)):
        vms[v].want = 0.0
        vms[v].disk_allowed = _allowed(vms[v], vm_specs[v])
        vms[v].limit_left = min(vms[v].disk_allowed, 1.0)
        if vms[v].disk_demand > io.NOTHING or io.has_queued(vms[v]):
            _want(vms[v], host, spec)
            wants += vms[v].want
            reserved += min(vm_specs[v].disk_reservation, vms[v].want)
            shares += vms[v].disk_shares
    return wants, reserved, shares


@compiled
def _want(vm: VmRecord, host: HostRecord, spec: HostSpecRecord) -> None:
    """What one VM would take of the disk alone. Its limit counts operations, of which writes in runs need few for their time."""
    asked = operations = 0.0
    vm.per_operation = 1.0
    if vm.disk_demand > io.NOTHING:
        _set_waits(vm, host, spec)
        alone = _progress(vm, spec, 1.0)
        asked = alone * vm.disk_demand
        runs = vm.run_share * vm.replaced_mib_per_s
        operations = asked * spec.disk_iops + alone * (
            io.write_operations(0.0, runs) - io.write_s(0.0, runs, spec) * spec.disk_iops
        )
        vm.per_operation = operations / (asked * spec.disk_iops)
    vm.read_want = asked
    asked += io.write_s(vm.queued_single_mib, vm.queued_runs_mib, spec)
    operations += io.write_operations(vm.queued_single_mib, vm.queued_runs_mib)
    vm.limit_left = vm.disk_allowed * asked * spec.disk_iops / operations
    vm.want = min(asked, vm.limit_left)


@compiled
def _write_queued(vm: VmRecord, spec: HostSpecRecord) -> tuple[float, float]:
    """Of what a VM was given, serve its queued writes, reads and writes in turn: by the time that they take, and by the operations
    that its limit counts. Return what the writes take of the disk's second, and of the operations that it does in one."""
    allowed = vm.disk_allowed
    queued, share, counted = io.write_s(vm.queued_single_mib, vm.queued_runs_mib, spec), 0.0, 0.0
    if queued > 0.0:
        counted = io.write_operations(vm.queued_single_mib, vm.queued_runs_mib) / spec.disk_iops
        reads = min(vm.read_want, max((1.0 - io.IN_TURN) * vm.given, vm.given - queued))
        reads = min(reads, max((1.0 - io.IN_TURN) * allowed, allowed - counted) / vm.per_operation)
        share = min((vm.given - reads) / queued, max(allowed - reads * vm.per_operation, 0.0) / counted, 1.0)
        io.serve_writes(vm, spec, share)
        vm.given = reads
    vm.limit_left = min(max(allowed - vm.given * vm.per_operation - share * counted, 0.0), 1.0)
    return share * queued, share * counted


@compiled
def divide_disk(vms, vm_specs, host: HostRecord, spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Give each VM its part of the disk of the host, and set progress and wait that follow."""
    wants, reserved, shares = _ask(vms, vm_specs, host, spec)
    fair = SYSTEM_SHARES / (SYSTEM_SHARES + shares)
    writes = min(io.write_load(host.write_backlog_mib, spec.disk_mib_per_s), max(fair, 1.0 - wants))
    writes = min(writes, max(1.0 - reserved, 0.0))
    host.write_backlog_mib -= writes * spec.disk_mib_per_s
    qos.divide(
        vms["want"],
        vm_specs["disk_reservation"],
        vms["want"],  # limits are in it
        vms["disk_shares"],
        1.0 - writes,
        vms["given"],
    )
    spare, load = 1.0 - writes, writes
    for v in range(len(vms)):
        spare -= vms[v].given
    for v in range(len(vms)):
        written, counted = _write_queued(vms[v], spec)
        fair = vms[v].disk_shares * (1.0 - writes) / max(shares, io.NOTHING)
        _use(vms[v], vm_specs[v], spec, max(spare, 0.0), fair - written)
        load += written + min(vms[v].disk_most, 1.0) * vms[v].disk_demand
        if vm_specs[v].disk_bucket > 0.0:
            _pay(vms[v], vm_specs[v], counted)
    host.disk_utilisation = min(load, 1.0)
    host.disk_spare = (1.0 - host.disk_utilisation) / max(host.tick_running, 1.0)
    host.disk_wait_s = io.wait(spec.disk_iops, spec.disk_latency_s, min(load, io.MAX_UTILISATION))


@compiled
def _use(vm: VmRecord, vm_spec: VmSpecRecord, spec: HostSpecRecord, spare: float, fair: float) -> None:
    """Progress and wait of one VM, from what it was given, what nobody wants, and its shares' part."""
    vm.disk_most, vm.disk_wait_s = 1.0, spec.disk_latency_s
    if vm.disk_demand <= io.NOTHING:
        return
    part = max(min(max(vm.given + spare, vm_spec.disk_reservation, fair), 1.0), LEAST_PART)
    queued, allowed = _progress(vm, spec, part), vm.given / vm.disk_demand
    vm.disk_most = min(queued, allowed)
    used = min(vm.disk_most * vm.disk_demand / part, io.MAX_UTILISATION)
    wait_s = used / ((1.0 - used) * part * spec.disk_iops)
    if allowed < queued * (1.0 - ROUNDING):
        wait_s = max(wait_s, _held_back_s(vm, spec))
    vm.disk_wait_s += wait_s


@compiled
def _held_back_s(vm: VmRecord, spec: HostSpecRecord) -> float:
    """Wait of an operation that makes a VM as slow as what it was given: w of 1 / x = c + o w."""
    given = max(vm.given, LEAST_PART)
    longest = LONGEST_QUEUE / (given * spec.disk_iops)
    lost_s = vm.disk_demand / given - vm.unqueued_s
    return lost_s / vm.disk_waits if lost_s < longest * vm.disk_waits else longest


@compiled
def divide_link(vms, vm_specs, host: HostRecord, spec: HostSpecRecord) -> None:  # type: ignore[no-untyped-def]
    """Share of its traffic that the link of the host carries for each VM, and how long a packet waits for the link."""
    asked, senders = host.tick_net_mib_per_s, 0.0
    divided = host.divides_net > 0.0
    if divided:
        for v in range(len(vms)):
            vms[v].want = vms[v].net_want_mib_per_s
            senders += 1.0 if vms[v].want > 0.0 else 0.0
        qos.divide(
            vms["want"], vm_specs["net_reservation_mib_per_s"], vm_specs["net_limit_mib_per_s"], vms["net_shares"],
            spec.nic_mib_per_s, vms["given"],
        )  # fmt: skip
    alike = 1.0 if asked <= spec.nic_mib_per_s else spec.nic_mib_per_s / asked
    load = min(asked / spec.nic_mib_per_s, io.MAX_UTILISATION)
    queue = min(load / (1.0 - load), LINK_QUEUE_PACKETS)
    for v in range(len(vms)):
        vm = vms[v]
        vm.net_grant = 1.0
        if vm.net_want_mib_per_s > io.NOTHING:
            carried = vm.given / vm.net_want_mib_per_s if divided else alike
            vm.net_grant = vm.device_limit * carried
            ahead = queue
            if divided and carried >= 1.0:
                ahead = min(queue, senders - 1.0)
            elif divided:
                ahead = LINK_QUEUE_PACKETS
            wait_s = ahead / (vm_specs[v].packets_per_mib * spec.nic_mib_per_s)
            vm.net_latency_s += wait_s
            vm.device_stall_s += vm_specs[v].net_waits_per_s * wait_s
