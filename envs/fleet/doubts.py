"""What looks wrong in a history as a whole, and what no row of it shows: levels of most VMs that break at one time, and VMs that
end as others begin.

A break is a time at which the level of a memory column halves or doubles, or more, in `MOST_OF_VMS` of the VMs in one direction,
for `BESIDE_S` before and after it and for the rest of the history too. A unit that was changed in the middle of a recording does
that; so may a fleet that was rebuilt. Factors below two (GB for GiB) cannot be told from use. Each limit is a guess.
"""

import numpy as np
import numpy.typing as npt

from hvgym.envs.fleet.history import HELD_SLOTS, MEMORY, History

MOST_OF_VMS, LEAST_VMS = 0.8, 4

BESIDE_S = 3600

MOST_LINES = 4


def doubts(history: History) -> list[str]:
    """A line for each; nothing where nothing looks wrong."""
    return [
        *(line for column in MEMORY for line in _breaks(history, column)),
        *_renamed(history),
        *_never_together(history),
    ]


def _breaks(history: History, column: str) -> list[str]:
    """The sharpest break of a column, if there is one."""
    of_it = [vm.columns[column] for vm in history.vms if column in vm.columns]
    beside = max(3, BESIDE_S // history.slot_s)
    if len(of_it) < LEAST_VMS or history.slots < 2 * beside:
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(np.stack(of_it, axis=1).astype(np.float64))
    logs[~np.isfinite(logs)] = np.nan
    change = _change(logs, beside)
    enough = np.maximum(LEAST_VMS, MOST_OF_VMS * np.isfinite(change).sum(axis=1))
    steps = np.nan_to_num(change)
    up, down = (steps >= 1.0).sum(axis=1) >= enough, (steps <= -1.0).sum(axis=1) >= enough
    if not (up | down).any():
        return []
    mean = np.abs(np.nan_to_num(change).mean(axis=1)) * (up | down)
    slot = int(mean.argmax())
    factors = 2.0 ** (_median(logs[slot + beside :]) - _median(logs[: slot + beside]))
    changed = factors >= 2.0 if up[slot] else factors <= 0.5
    if changed.sum() < max(LEAST_VMS, MOST_OF_VMS * np.isfinite(factors).sum()):
        return []
    when = np.datetime64(history.start_s + (slot + beside) * history.slot_s, "s")
    verb = "rises" if up[slot] else "falls"
    return [
        f"{column} of {int(changed.sum())} of {len(of_it)} VMs {verb} at once, at {when} UTC, to {np.nanmedian(factors):.2g} times "
        "what it was, and stays: a unit that was changed? Import what lies before and after it as two tables, with units= for each."
    ]


def _change(logs: npt.NDArray[np.float64], beside: int) -> npt.NDArray[np.float64]:
    """Mean of the next so many slots less that of the last, ``[slot from beside on, vm]``; NaN where nothing is known."""
    known = np.isfinite(logs)
    sums, counts = (
        np.cumsum(np.vstack([np.zeros(logs.shape[1]), x]), axis=0) for x in (np.where(known, logs, 0.0), known)
    )
    with np.errstate(invalid="ignore"):
        means = (sums[beside:] - sums[:-beside]) / (counts[beside:] - counts[:-beside])
    return np.asarray(means[beside:] - means[:-beside])


def _median(logs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.array([np.median(one[np.isfinite(one)]) if np.isfinite(one).any() else np.nan for one in logs.T])


def _renamed(history: History) -> list[str]:
    gone = [vm for vm in history.vms if 0 < vm.leave_slot < history.slots]
    came = [vm for vm in history.vms if 0 < vm.arrive_slot < history.slots]
    lines = [
        f"{old.name} ends as {new.name} begins, with as much memory: was the VM renamed? They count as two."
        for old in gone
        for new in came
        if abs(new.arrive_slot - old.leave_slot) <= HELD_SLOTS and new.cap_mib == old.cap_mib and new is not old
    ]
    more = [f"{len(lines) - MOST_LINES} more pairs of VMs of which one ends as the other begins"]
    return lines if len(lines) <= MOST_LINES else lines[:MOST_LINES] + more


def at_once_mib(history: History) -> float:
    """Configured memory that was there at once at the most."""
    caps = np.array([vm.cap_mib for vm in history.vms])
    return float((np.stack([vm.present for vm in history.vms], axis=1) * caps).sum(axis=1).max())


def _never_together(history: History) -> list[str]:
    all_mib, at_once = sum(vm.cap_mib for vm in history.vms), at_once_mib(history)
    if at_once >= 0.995 * all_mib:
        return []
    return [
        f"of {all_mib / 1024:.0f} GiB configured, {at_once / 1024:.0f} GiB were there at once at the most: VMs that came "
        "and left are counted as if they were there all the time."
    ]
