"""Live migration of one VM: what has to be sent, the rounds of pre-copy, the last round, and post-copy.

Modelled. Memory with content is sent, once; then, round by round, what was dirtied meanwhile (law 1 of the measured guests):
round i takes t_i = V_i / B, and leaves V_{i+1} = sum over tiers of W_k (1 - exp(-d_k t_i / W_k)), W_k what the tier holds in
guest memory, d_k / W_k the rate at which a page of it is written: touches x write share x the VM's progress. Reading is free.
When V_{i+1} <= B x downtime limit, the VM stands still, and the rest goes at the speed of the link; where the stack keeps its
cap in the last round, at that. If d > B and the fixed point of this lies above the limit, it never ends. Rounds begin and end
inside a second, in continuous time, so a second is no unit of the result.

Pages that were never touched, were zeroed since, or are the balloon's cost `EMPTY_BYTES` each; a free page which the guest has
used before is sent whole, and so are compressed and merged ones. What the host has swapped out must be read back first
(`swapped_mib`). In post-copy the VM runs at the target: pages stream in, and a touch of a missing page waits for it, before
the others. Missing are what was left of the round, and what was sent and then dirtied.

``held_back`` is the share of the next second for which the VM's vCPUs stand still: throttle, last round and switch-over, remote
faults. Whoever calls `advance` applies it to the VM, whose ``progress`` in the next call then has it in it; `advance` applies
nothing twice. Hence a throttle that rises works from the next second on, and the last of a downtime is felt a second late.

Nothing here knows hosts or links: the caller says how much the link has room for. How a copy is made to end is in
``convergence``.

Left out: what the guest's kernel dirties; pages that come and go while the guest pages at an even rate; headers of full pages
(0.2 %); QEMU's look at the bitmap before a round's end, which saves a part of the last round; delta compression (XBZRLE);
several streams; CPU time at both ends, the cost of write protection (2-10 % of the VM's speed), prepaging in post-copy.

Sources: migration of real guests (docs/validation.md), M10 of the cards; zero pages in QEMU's ``ram.c``.
"""

from typing import Any

from hvgym.envs.model import convergence, params
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.convergence import DONE, IDLE, POSTCOPY, PRECOPY, PREPARING, RUNNING, SAME_S, STOPPED, left_mib
from hvgym.envs.model.guest import memory as guest
from hvgym.envs.model.host import overcommit
from hvgym.envs.model.params import PAGES_PER_MIB, TIERS, VmRecord, VmSpecRecord
from hvgym.envs.model.tiers import Tiers, put, tiers, total

CopyRecord = Any
MigrationRecord = Any

EMPTY_BYTES, PAGE_BYTES = 8.0, 4096.0
"""A page of zeros is sent as its header (QEMU; measured: 0.7 MB for 326 MiB of them)."""

LEAST_DOWNTIME_LIMIT_S = 1e-4
"""Shorter limits count as this: to stop a VM and read its bitmap takes as long (a guess)."""

NEVER_S = 1e18

STEPS = 16
"""Most steps of a schedule."""

COPY = params._record(
    [
        ("left_mib", "f8", (TIERS,)),  # of the running round, or missing at the target: not yet sent
        ("dirty_mib", "f8", (TIERS,)),  # dirtied since the round began
        ("known_mib", "f8", (TIERS,)),  # held by the tier when last looked at
        ("other_left_mib", "f8"),  # the same of kernel, free pages with content, and headers of pages without
        ("other_dirty_mib", "f8"),
        ("other_known_mib", "f8"),
        ("phase", "i8"),
        ("result", "i8"),
        ("round", "i8"),  # the running one, from 1, as QEMU counts
        ("round_mib", "f8"),  # memory with which it began
        ("elapsed_s", "f8"),
        ("prepare_left_s", "f8"),  # until the target is ready for the first page
        ("switch_left_s", "f8"),  # of the fixed part of the downtime
        ("sent_mib", "f8"),  # through the link
        ("throttle", "f8"),  # share of their time for which vCPUs are kept from running
        ("held_back", "f8"),  # share of the next second for which they stand still, for any reason
        ("downtime_limit_s", "f8"),
        ("downtime_s", "f8"),
        ("faults", "f8"),  # touches that waited for a page from the source
        ("period_began_s", "f8"),  # auto-converge: last test of what was dirtied ...
        ("period_sent_mib", "f8"),  # ... against what was sent since
        ("period_dirtied_mib", "f8"),
        ("bad_periods", "f8"),
        ("next_look_s", "f8"),  # when the stack's watcher looks next
        ("seen_round", "i8"),  # what it saw when it last did
        ("last_left_mib", "f8"),
        ("watermark_mib", "f8"),  # below which it calls it progress
        ("gained_s", "f8"),  # when it last saw progress
        ("growths", "f8"),  # looks that found more left than the look before
        ("steps_taken", "i8"),  # of the downtime schedule
    ]
)
"""State of the copy of one VM. All zeros: there is none."""

MIGRATION = params._record(
    [
        ("step_at", "f8", (STEPS,)),  # count from which each step of the schedule may be taken
        ("step_does", "f8", (STEPS,)),  # downtime limit in seconds, or a code of ``convergence``
        ("steps", "i8"),
        ("step_counts", "i8"),  # what is counted
        ("poll_s", "f8"),  # time between looks of the stack's watcher; 0: nobody watches
        ("bandwidth_mib_per_s", "f8"),  # cap of one copy
        ("postcopy_mib_per_s", "f8"),  # ... in post-copy
        ("caps_last_round", "f8"),  # 1: ... while the VM stands still, too
        ("compression_ratio", "f8"),  # memory over what is sent for it
        ("prepare_s_per_gib", "f8"),  # time of the target before the first page: allocation, pinning
        ("switch_s", "f8"),  # downtime beside what is sent: device state, announcing the new place
        ("downtime_limit_s", "f8"),  # before the schedule's first step
        ("stop_below_mib", "f8"),  # what is as good as nothing left, whatever the limit
        ("most_rounds", "i8"),  # after which the VM is stopped in any case; 0: any number
        ("throttle_trigger", "f8"),  # auto-converge: dirtied over sent that makes a period bad
        ("throttle_period_s", "f8"),
        ("throttle_periods", "f8"),  # bad ones before each step
        ("throttle_first", "f8"),
        ("throttle_step", "f8"),
        ("throttle_most", "f8"),  # 0: it does not throttle
        ("slow_to_share", "f8"),  # ESXi: what a round may dirty, over what it sent; 0: it does not slow down
        ("postcopy_after_s", "f8"),
        ("remote_fault_s", "f8"),  # wait for a page from the source
        ("timeout_s_per_gib", "f8"),  # 0: none
        ("least_gib", "f8"),  # a smaller VM counts as so large
        ("on_timeout", "i8"),
        ("progress_timeout_s", "f8"),  # without progress; 0: none
        ("progress_since_last_look", "f8"),  # 1: progress is less left than at the last look; 0: than ever
    ]
)
"""What a stack fixes (``migration_rules``)."""


@compiled
def _other_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """What is sent beside the workload's pages; a header stands for each page without content."""
    full = spec.kernel_mib + vm.free_backed_mib
    if spec.zram_stored_share > 0.0:
        full += guest.pool_mib(vm, spec)
    empty = max(spec.memory_mib - full - total(tiers(vm.resident_mib)), 0.0)
    return full + empty * EMPTY_BYTES / PAGE_BYTES


@compiled
def content_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """What a copy has to send once, before compression: memory with content, and a header for each page without."""
    return total(tiers(vm.resident_mib)) + _other_mib(vm, spec)


@compiled
def swapped_mib(vm: VmRecord) -> float:
    """Part of it that the host must first read from its swap device."""
    return overcommit.host_swapped_mib(vm) - vm.zipped_mib


@compiled
def dirtied_mib(vm: VmRecord, spec: VmSpecRecord, seconds: float) -> float:
    """Memory that the workload dirties in this time at its present speed: what the next round would have to send."""
    return total(tiers(vm.resident_mib) * (1.0 - guest.decay(_written_per_s(vm, spec) * seconds)))


@compiled
def _written_per_s(vm: VmRecord, spec: VmSpecRecord) -> Tiers:
    """Rate at which a page of each tier is written."""
    return tiers(spec.tier_rate_per_s) * tiers(spec.tier_write_share) * vm.progress


@compiled
def begin(copy: CopyRecord, vm: VmRecord, spec: VmSpecRecord, rules: MigrationRecord) -> None:
    """Start a copy of a VM; whatever the record held before is gone."""
    put(copy.left_mib, tiers(vm.resident_mib))
    put(copy.known_mib, tiers(vm.resident_mib))
    put(copy.dirty_mib, 0.0 * tiers(vm.resident_mib))
    copy.other_left_mib = copy.other_known_mib = _other_mib(vm, spec)
    copy.other_dirty_mib = 0.0
    copy.phase, copy.result, copy.round, copy.round_mib = PREPARING, RUNNING, 1, left_mib(copy)
    copy.elapsed_s = copy.switch_left_s = copy.sent_mib = copy.downtime_s = copy.faults = 0.0
    copy.prepare_left_s = rules.prepare_s_per_gib * spec.memory_mib / 1024.0
    copy.throttle = copy.held_back = 0.0
    copy.downtime_limit_s = rules.downtime_limit_s
    copy.period_began_s = copy.period_sent_mib = copy.period_dirtied_mib = copy.bad_periods = 0.0
    copy.next_look_s = rules.poll_s if rules.poll_s > 0.0 else NEVER_S
    copy.last_left_mib = copy.watermark_mib = copy.gained_s = copy.growths = 0.0
    copy.seen_round, copy.steps_taken = 1, 0


@compiled
def cancel(copy: CopyRecord) -> bool:
    """Call a copy off: the VM goes on where it was, at its own speed. False, and nothing changes, where there is none or the
    VM runs at the target already."""
    return convergence.abort(copy)


@compiled
def advance(copy: CopyRecord, vm: VmRecord, spec: VmSpecRecord, rules: MigrationRecord, room_mib: float) -> float:
    """Go on for the second that the VM has just run, on a link that had room for `room_mib`; return MiB sent.

    A copy that has ended sends nothing, and holds nothing back after the second in which it ended.
    """
    sent, down = copy.sent_mib, copy.downtime_s
    left_s = 1.0
    if copy.result == RUNNING and copy.phase != IDLE and copy.phase != STOPPED:
        _follow(copy, vm, spec)
    while left_s > 0.0 and copy.result == RUNNING and copy.phase != IDLE:
        if copy.phase == PREPARING:
            left_s -= _prepare(copy, left_s)
        elif copy.phase == PRECOPY:
            left_s -= _copy(copy, vm, spec, rules, min(room_mib, rules.bandwidth_mib_per_s), left_s)
        elif copy.phase == STOPPED:
            most = rules.bandwidth_mib_per_s if rules.caps_last_round > 0.0 else room_mib
            left_s -= _finish(copy, rules, min(room_mib, most), left_s)
        else:
            left_s -= _fetch(copy, vm, spec, rules, min(room_mib, rules.postcopy_mib_per_s), left_s)
    down = copy.downtime_s - down
    copy.held_back = down + (1.0 - down) * _slowed(copy, spec, rules, room_mib)
    return copy.sent_mib - sent


@compiled
def _follow(copy: CopyRecord, vm: VmRecord, spec: VmSpecRecord) -> None:
    """Take note of what the guest has allocated and freed: a new page is dirty, a freed one keeps its content and its place."""
    now, known = tiers(vm.resident_mib), tiers(copy.known_mib)
    gone = max(known - now, 0.0) / max(known, guest.NEGLIGIBLE_MIB)
    grown = max(now - known, 0.0) if copy.phase != POSTCOPY else 0.0 * now
    other = _other_mib(vm, spec)
    freed = total(max(known - now, 0.0))
    carried = min(max(other - copy.other_known_mib, 0.0) / max(freed, guest.NEGLIGIBLE_MIB), 1.0)
    kept = min(other / max(copy.other_known_mib, guest.NEGLIGIBLE_MIB), 1.0)
    copy.other_left_mib = kept * copy.other_left_mib + carried * total(gone * tiers(copy.left_mib))
    copy.other_dirty_mib = kept * copy.other_dirty_mib + carried * total(gone * tiers(copy.dirty_mib))
    put(copy.left_mib, tiers(copy.left_mib) * (1.0 - gone))
    put(copy.dirty_mib, tiers(copy.dirty_mib) * (1.0 - gone) + grown)
    put(copy.known_mib, now)
    copy.other_known_mib = other


@compiled
def _prepare(copy: CopyRecord, left_s: float) -> float:
    """Let the target allocate or pin memory; return seconds used."""
    used_s = min(left_s, copy.prepare_left_s)
    copy.prepare_left_s -= used_s
    copy.elapsed_s += used_s
    if copy.prepare_left_s <= 0.0:
        copy.phase, copy.period_began_s = PRECOPY, copy.elapsed_s
    return used_s


@compiled
def _send(copy: CopyRecord, rules: MigrationRecord, share: float) -> None:
    """Send this share of what is left."""
    copy.sent_mib += share * left_mib(copy) / rules.compression_ratio
    put(copy.left_mib, tiers(copy.left_mib) * (1.0 - share))
    copy.other_left_mib *= 1.0 - share


@compiled
def _copy(
    copy: CopyRecord, vm: VmRecord, spec: VmSpecRecord, rules: MigrationRecord, rate: float, left_s: float
) -> float:
    """Send pages of the running round while the VM dirties others, up to the next event; return seconds used."""
    mib_per_s = rate * rules.compression_ratio
    round_s = left_mib(copy) / mib_per_s if mib_per_s > 0.0 else NEVER_S
    used_s = max(min(left_s, round_s, copy.next_look_s - copy.elapsed_s, rules.postcopy_after_s - copy.elapsed_s), 0.0)
    _send(copy, rules, used_s / round_s if round_s > 0.0 else 1.0)
    clean = tiers(copy.known_mib) - tiers(copy.dirty_mib)
    put(copy.dirty_mib, tiers(copy.known_mib) - clean * guest.decay(_written_per_s(vm, spec) * used_s))
    copy.elapsed_s += used_s
    if used_s == round_s:
        _end_round(copy, rules, mib_per_s)
    if copy.phase == PRECOPY and copy.elapsed_s >= copy.next_look_s - SAME_S:
        copy.next_look_s += rules.poll_s
        convergence.look(copy, rules, spec.memory_mib / 1024.0)
    if copy.phase == PRECOPY and copy.elapsed_s >= rules.postcopy_after_s - SAME_S:
        convergence.to_postcopy(copy, rules)
    return used_s


@compiled
def _end_round(copy: CopyRecord, rules: MigrationRecord, mib_per_s: float) -> None:
    """What was dirtied is the next round, or the last."""
    dirtied = total(tiers(copy.dirty_mib)) + copy.other_dirty_mib
    convergence.end_round(copy, rules, dirtied)
    put(copy.left_mib, tiers(copy.dirty_mib))
    put(copy.dirty_mib, 0.0 * tiers(copy.dirty_mib))
    copy.other_left_mib, copy.other_dirty_mib = copy.other_dirty_mib, 0.0
    over = 0 < rules.most_rounds <= copy.round
    copy.round += 1
    copy.round_mib = dirtied
    limit_mib = max(copy.downtime_limit_s, LEAST_DOWNTIME_LIMIT_S) * mib_per_s
    if over or dirtied <= max(limit_mib, rules.stop_below_mib):
        convergence.stop(copy, rules)


@compiled
def _wait(copy: CopyRecord, left_s: float) -> float:
    """The fixed part of a downtime; return seconds used."""
    used_s = min(left_s, copy.switch_left_s)
    copy.switch_left_s -= used_s
    copy.downtime_s += used_s
    copy.elapsed_s += used_s
    return used_s


@compiled
def _finish(copy: CopyRecord, rules: MigrationRecord, rate: float, left_s: float) -> float:
    """Switch over, and send what is left while the VM stands still; return seconds used."""
    waited_s = _wait(copy, left_s)
    mib_per_s = rate * rules.compression_ratio
    need_s = left_mib(copy) / mib_per_s if mib_per_s > 0.0 else NEVER_S
    used_s = min(left_s - waited_s, need_s)
    _send(copy, rules, used_s / need_s if need_s > 0.0 else 1.0)
    copy.downtime_s += used_s
    copy.elapsed_s += used_s
    if used_s == need_s and copy.switch_left_s <= 0.0:
        copy.result, copy.throttle = DONE, 0.0
    return waited_s + used_s


@compiled
def _fetch(
    copy: CopyRecord, vm: VmRecord, spec: VmSpecRecord, rules: MigrationRecord, rate: float, left_s: float
) -> float:
    """Let the target fetch what it lacks, what the VM touches first; return seconds used."""
    waited_s = _wait(copy, left_s)
    mib_per_s = rate * rules.compression_ratio
    missing = left_mib(copy)
    need_s = missing / mib_per_s if mib_per_s > 0.0 else NEVER_S
    used_s = min(left_s - waited_s, need_s)
    there = 1.0 - 0.5 * used_s / max(need_s, SAME_S)  # of the missing pages, the mean over this time
    touched = tiers(copy.left_mib) * (there * (1.0 - guest.decay(tiers(spec.tier_rate_per_s) * vm.progress * used_s)))
    faulted = min(total(touched), mib_per_s * used_s)
    put(copy.left_mib, tiers(copy.left_mib) - touched * (faulted / max(total(touched), guest.NEGLIGIBLE_MIB)))
    copy.sent_mib += faulted / rules.compression_ratio
    copy.faults += faulted * PAGES_PER_MIB
    _send(copy, rules, min((mib_per_s * used_s - faulted) / max(missing - faulted, guest.NEGLIGIBLE_MIB), 1.0))
    copy.elapsed_s += used_s
    if used_s == need_s and copy.switch_left_s <= 0.0:
        copy.result = DONE
    return waited_s + used_s


@compiled
def _slowed(copy: CopyRecord, spec: VmSpecRecord, rules: MigrationRecord, room_mib: float) -> float:
    """Share of the time for which the VM is kept from running, while it is not stopped."""
    if copy.result != RUNNING or copy.phase != POSTCOPY:
        return copy.throttle
    mib_per_s = min(room_mib, rules.postcopy_mib_per_s) * rules.compression_ratio
    lasts_s = left_mib(copy) / max(mib_per_s, guest.NEGLIGIBLE_MIB)
    there = (
        1.0 - 0.5 / lasts_s if lasts_s > 1.0 else 0.5 * lasts_s
    )  # mean over the second of what falls at an even rate
    faults = there * total(tiers(copy.left_mib) * tiers(spec.tier_touched_share)) * PAGES_PER_MIB
    stall_s = faults * rules.remote_fault_s / spec.fault_parallelism
    return stall_s / (1.0 + stall_s)
