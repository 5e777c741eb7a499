"""The passes of XenServer's squeezed (``squeezed``) on arrays, for all hosts of a batch at once, compiled.

`look` is what a host's daemon does in one second; `iterate` one of its passes. All sizes are whole KiB. What is modelled, and
whence algorithm and constants come, the policy says.
"""

from typing import Any

import numpy as np

from hvgym.envs.model.compiled import compiled, inlined

INACCURACY_KIB = 4
"""How far from its target a domain may be and have reached it."""

ADJUST, SUCCESS, FAILED = range(3)
"""What a pass says: go on; settled with enough free; settled with too little free."""

ABSENT, BALLOONS, MUTE, WAITS = range(4)
"""What a VM is: off; a domain; one whose driver has not shown itself, of which all sizes are the same; to start."""

NOTHING = -1

VM = np.dtype([
    ("kind", "i8"),
    ("minimum", "i8"),  # KiB, as the three that follow
    ("maximum", "i8"),
    ("target", "i8"),
    ("actual", "i8"),
    ("seen", "i8"),  # 1: in an earlier pass of this check, and so the three that follow
    ("was", "i8"),  # KiB at the last look
    ("moved_at_s", "f8"),  # last progress towards its target
    ("stuck", "i8"),
    ("lost", "i8"),  # 1: did not take part in the last pass
    ("active", "i8"),  # 1: takes part in this one
    ("ideal", "i8"),  # KiB, of those that take part
    ("told", "i8"),  # KiB, NOTHING where nothing is sent
    ("served", "i8"),  # 1: memory was freed for it while it waits
    ("cooperated_at_s", "f8"),  # when it was last where it should be; NaN of one that does not run
], align=True)  # fmt: skip
"""One VM, as read and as remembered."""

HOST = np.dtype([
    ("checks_at_s", "f8"),
    ("amid", "i8"),  # 1: passes are under way
    ("serves", "i8"),  # VM for which they free memory, NOTHING where they balance
    ("goal", "i8"),  # KiB to keep free
], align=True)  # fmt: skip
"""One host: between checks, or amid passes."""


@inlined
def reached(actual: int, target: int) -> bool:
    """Whether a domain has hit a target."""
    return abs(actual - target) <= INACCURACY_KIB


@compiled
def freeable(vm: Any) -> int:
    """What a domain surely gives when told to shrink to its minimum."""
    return max(vm.actual - vm.minimum - 2 * INACCURACY_KIB, 0)


@compiled
def share_out(vms: Any, free: int, keep_free: int) -> None:
    """`ideal` of all that take part, at the one gamma at which `keep_free` of the host stay free."""
    surplus, spans = free - keep_free, 0
    for v in range(len(vms)):
        if vms[v].active:
            surplus += freeable(vms[v])
            spans += max(vms[v].maximum - vms[v].minimum, 0)
    gamma = min(max(surplus, 0) / max(spans, 1), 1.0)
    for v in range(len(vms)):
        if vms[v].active:
            vms[v].ideal = vms[v].minimum + int(gamma * max(vms[v].maximum - vms[v].minimum, 0))


@compiled
def watch(vm: Any, now_s: float, stuck_after_s: float) -> None:
    """A domain's progress after one more look; the first look is progress, and stuck lasts until it moves."""
    wants = 0 if reached(vm.actual, vm.target) else vm.target - vm.actual
    moved = vm.actual - vm.was
    if not vm.seen or (moved > 0 and wants > 0) or (moved < 0 and wants < 0):
        vm.moved_at_s, vm.stuck = now_s, 0
    elif wants != 0 and now_s - vm.moved_at_s > stuck_after_s:
        vm.stuck = 1
    vm.seen, vm.was = 1, vm.actual


@compiled
def kept(vm: Any) -> int:
    """Target of a stuck domain: it may give more, not take more."""
    return min(max(min(vm.target, vm.actual), vm.minimum), vm.maximum)


@inlined
def runs(vm: Any) -> bool:
    """Whether it is a domain."""
    return bool(vm.kind == BALLOONS or vm.kind == MUTE)


@inlined
def gives(vm: Any) -> bool:
    """Whether it has to give to come to its share."""
    return bool(vm.active and vm.actual - vm.ideal > INACCURACY_KIB)


@compiled
def take_part(vms: Any, now_s: float, stuck_after_s: float) -> None:
    """Who takes part in this pass; one that no longer does is told so once."""
    for v in range(len(vms)):
        vm = vms[v]
        vm.told = NOTHING
        if runs(vm):
            watch(vm, now_s, stuck_after_s)
        else:
            vm.seen = 0
        vm.active = vm.kind == BALLOONS and not vm.stuck
        if vm.kind == BALLOONS and not vm.active and not vm.lost:
            vm.told = kept(vm)
        vm.lost = runs(vm) and not vm.active


@compiled
def iterate(vms: Any, free: int, keep_free: int, enough: bool, now_s: float, stuck_after_s: float) -> int:
    """One pass: writes what is `told`, returns the verdict. enough: whether what is free will do once all is settled."""
    take_part(vms, now_s, stuck_after_s)
    share_out(vms, free, keep_free)
    some_give, settled = False, True
    for v in range(len(vms)):
        some_give = some_give or gives(vms[v])
    for v in range(len(vms)):  # in this phase those that have to give are told, or else all
        vm = vms[v]
        if vm.active and not (
            reached(vm.actual, vm.target) and (vm.target == vm.ideal or (some_give and not gives(vm)))
        ):
            settled = False
    if settled:
        return SUCCESS if enough else FAILED
    for v in range(len(vms)):
        if vms[v].active and (gives(vms[v]) or not some_give):
            vms[v].told = vms[v].ideal
    return ADJUST


@compiled
def choose(host: Any, vms: Any, free: int, keep_free: int) -> None:
    """Serve the first VM that waits and whose minimum fits beside all minimums; otherwise balance."""
    most = free - keep_free
    for v in range(len(vms)):
        vms[v].active = runs(vms[v])
        most += freeable(vms[v]) if vms[v].active else 0
        vms[v].served = vms[v].served and vms[v].kind == WAITS
    host.serves, host.goal = NOTHING, keep_free
    for v in range(len(vms)):
        if vms[v].kind == WAITS and not vms[v].served and vms[v].minimum <= most:
            vms[v].active = 1
            share_out(vms, free, keep_free)
            host.serves, host.goal = v, keep_free + vms[v].ideal
            return


@compiled
def close(host: Any, vms: Any, verdict: int, next_check_s: float) -> None:
    """Wait for the next check; until then nobody takes what was freed."""
    if host.serves != NOTHING and verdict == SUCCESS:
        vms[host.serves].served = 1
    host.amid, host.checks_at_s = 0, next_check_s
    for v in range(len(vms)):
        vms[v].seen, vms[v].stuck, vms[v].lost = 0, 0, 0


@compiled
def all_reached(vms: Any) -> bool:
    """Whether every domain is where it should be."""
    late = 0
    for v in range(len(vms)):
        late += runs(vms[v]) and not reached(vms[v].actual, vms[v].target)
    return late == 0


@compiled
def as_told(vms: Any) -> bool:
    """Whether what is told changes nothing."""
    changes = 0
    for v in range(len(vms)):
        changes += vms[v].told != NOTHING and vms[v].told != vms[v].target
    return changes == 0


@compiled
def note_cooperation(vms: Any, now_s: float) -> None:
    """When each domain was last where it should be; a new one is."""
    for v in range(len(vms)):
        vm = vms[v]
        if not runs(vm):
            vm.cooperated_at_s = np.nan
        elif reached(vm.actual, vm.target) or np.isnan(vm.cooperated_at_s):
            vm.cooperated_at_s = now_s


@compiled
def look(host: Any, vms: Any, free: int, now_s: float, keep_free: int, check_s: float, stuck_after_s: float) -> None:
    """A pass of one host whose VMs were read; a check that finds all targets as they should be is the only one."""
    note_cooperation(vms, now_s)
    if not host.amid or (host.serves != NOTHING and vms[host.serves].kind != WAITS):
        choose(host, vms, free, keep_free)
    serves = host.serves != NOTHING
    if not host.amid and serves and free >= host.goal and all_reached(vms):
        close(host, vms, SUCCESS, now_s + check_s)
        return
    enough = not serves or free >= vms[host.serves].minimum + keep_free
    verdict = iterate(vms, free, host.goal, enough, now_s, stuck_after_s)
    checks = not host.amid and not serves
    host.amid = 1
    if verdict != ADJUST or (checks and as_told(vms)):
        close(host, vms, verdict, now_s + check_s)
