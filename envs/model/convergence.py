"""How a live migration is made to end: throttled vCPUs, a downtime limit that grows, time-outs, a switch to post-copy.

Modelled, each as it is in the stack that has it, by fields of ``migration.MIGRATION`` and no branch per stack:
 - auto-converge (QEMU): the bitmap of dirty pages is read at the end of each round; when more than ``throttle_period_s`` has
   passed since the last test and more was dirtied than ``throttle_trigger`` of what was sent, the period is bad. After
   ``throttle_periods`` bad periods, not necessarily one after the other, vCPUs are throttled by ``throttle_first``, then by
   ``throttle_step`` more each time, up to ``throttle_most``;
 - slow-down during page send (ESXi): a round that dirties more than ``slow_to_share`` of what it sent slows the vCPUs in that
   ratio. That ESXi does so only when the guest dirties faster than the link sends is published, the rule is a surrogate;
 - a schedule: a watcher looks every ``poll_s`` and may take one step, which sets the downtime limit, gives up, or switches to
   post-copy. Its clock is one of three: rounds (oVirt; one step per look that sees a new round), seconds per GiB of the VM
   (Nova), or looks that found more left than the look before (Proxmox);
 - time-outs: a time per GiB of the VM, and a time without progress. Progress is less left than at the last look or, as
   a flag has it, than ever: KubeVirt compares with the last look, so every new round that is under way counts as progress.

Left out: QEMU's tail slow and per-vCPU dirty limit, Proxmox's faster looks near the end, KubeVirt's stall detector (a feature
gate).

Sources: the sources of QEMU, qemu-server, Nova, oVirt and KubeVirt; figures stand in ``migration_rules``.
"""

from typing import Any

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.tiers import put, tiers, total

CopyRecord = Any
MigrationRecord = Any

IDLE, PREPARING, PRECOPY, STOPPED, POSTCOPY = range(5)
"""Phases. STOPPED: the VM stands still, and what is left is sent. POSTCOPY: it runs at the target and misses pages."""

RUNNING, DONE, ABORTED = range(3)
"""Results. A copy that nothing ends keeps RUNNING."""

NOTHING, ABORT, TO_POSTCOPY, STOP = range(4)
"""What a time-out does. STOP: the VM stands still until all is sent, however long that takes."""

ROUNDS, SECONDS_PER_GIB, GROWTHS = range(3)
"""What a schedule counts."""

STEP_ABORT, STEP_POSTCOPY = -1.0, -2.0
"""Steps of a schedule that set no downtime limit."""

SAME_S = 1e-9
"""Times nearer than this are the same."""

NOTHING_MIB = 1e-9


@compiled
def left_mib(copy: CopyRecord) -> float:
    """Memory of the running round, or missing at the target, that has not been sent."""
    return total(tiers(copy.left_mib)) + copy.other_left_mib


@compiled
def end_round(copy: CopyRecord, rules: MigrationRecord, dirtied_mib: float) -> None:
    """Throttle or slow down the VM, if this round calls for it; `dirtied_mib` is what the next has to send."""
    copy.period_sent_mib += copy.round_mib
    copy.period_dirtied_mib += dirtied_mib
    if rules.slow_to_share > 0.0 and dirtied_mib > rules.slow_to_share * copy.round_mib:
        copy.throttle = 1.0 - (1.0 - copy.throttle) * rules.slow_to_share * copy.round_mib / dirtied_mib
    if copy.elapsed_s - copy.period_began_s > rules.throttle_period_s:
        if copy.period_dirtied_mib > rules.throttle_trigger * copy.period_sent_mib:
            copy.bad_periods += 1.0
        if rules.throttle_most > 0.0 and copy.bad_periods >= rules.throttle_periods:
            copy.bad_periods = 0.0
            raised = copy.throttle + rules.throttle_step if copy.throttle > 0.0 else rules.throttle_first
            copy.throttle = min(raised, rules.throttle_most)
        copy.period_began_s, copy.period_sent_mib, copy.period_dirtied_mib = copy.elapsed_s, 0.0, 0.0


@compiled
def abort(copy: CopyRecord) -> bool:
    """Give up, so that the VM goes on where it was; False where it cannot, for it runs at the target already."""
    if copy.result != RUNNING or copy.phase == IDLE or copy.phase == POSTCOPY:
        return False
    copy.result, copy.phase = ABORTED, IDLE
    copy.throttle = copy.held_back = 0.0
    return True


@compiled
def stop(copy: CopyRecord, rules: MigrationRecord) -> None:
    """Let the VM stand still; what was dirtied and what is left are sent."""
    _gather(copy)
    copy.phase, copy.switch_left_s = STOPPED, rules.switch_s


@compiled
def to_postcopy(copy: CopyRecord, rules: MigrationRecord) -> None:
    """Let the VM run at the target; what it lacks there is what is left, and what was sent and then dirtied."""
    _gather(copy)
    copy.phase, copy.switch_left_s = POSTCOPY, rules.switch_s
    copy.throttle = 0.0


@compiled
def _gather(copy: CopyRecord) -> None:
    """Unite what is left of the round with what was dirtied since it began: pages that are both are sent once.

    The round is sent in the order of addresses, which has nothing to do with what is dirtied: the two are independent.
    """
    left, dirty = tiers(copy.left_mib), tiers(copy.dirty_mib)
    both = left * dirty / max(tiers(copy.known_mib), NOTHING_MIB)
    put(copy.left_mib, left + dirty - both)
    put(copy.dirty_mib, 0.0 * dirty)
    copy.other_left_mib = min(copy.other_left_mib + copy.other_dirty_mib, copy.other_known_mib)
    copy.other_dirty_mib = 0.0


@compiled
def look(copy: CopyRecord, rules: MigrationRecord, gib: float) -> None:
    """What the stack's watcher does when it looks at a copy of a VM of this size."""
    left = left_mib(copy)
    gib = max(gib, rules.least_gib)
    if copy.last_left_mib > 0.0 and left > copy.last_left_mib:
        copy.growths += 1.0
    lower = left < copy.watermark_mib or copy.watermark_mib == 0.0
    if lower:
        copy.gained_s = copy.elapsed_s
    if lower or rules.progress_since_last_look > 0.0:
        copy.watermark_mib = left
    copy.last_left_mib = left
    _follow_schedule(copy, rules, gib)
    if copy.phase != PRECOPY:
        return
    if rules.timeout_s_per_gib > 0.0 and copy.elapsed_s > rules.timeout_s_per_gib * gib:
        _time_out(copy, rules)
    elif rules.progress_timeout_s > 0.0 and copy.elapsed_s - copy.gained_s > rules.progress_timeout_s:
        abort(copy)


@compiled
def _time_out(copy: CopyRecord, rules: MigrationRecord) -> None:
    if rules.on_timeout == ABORT:
        abort(copy)
    elif rules.on_timeout == TO_POSTCOPY:
        to_postcopy(copy, rules)
    elif rules.on_timeout == STOP:
        stop(copy, rules)


@compiled
def _follow_schedule(copy: CopyRecord, rules: MigrationRecord, gib: float) -> None:
    """Take the next step of the downtime schedule, if its clock has come so far."""
    new_round = copy.round > copy.seen_round
    copy.seen_round = copy.round
    if copy.steps_taken >= rules.steps or (rules.step_counts == ROUNDS and not new_round):
        return
    count = copy.round
    if rules.step_counts == SECONDS_PER_GIB:
        count = copy.elapsed_s / gib
    elif rules.step_counts == GROWTHS:
        count = copy.growths
    if count < rules.step_at[copy.steps_taken]:
        return
    does = rules.step_does[copy.steps_taken]
    copy.steps_taken += 1
    if does == STEP_ABORT:
        abort(copy)
    elif does == STEP_POSTCOPY:
        to_postcopy(copy, rules)
    else:
        copy.downtime_limit_s = does
