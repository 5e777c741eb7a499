"""What looks wrong in a history as a whole: a unit that changes in the middle, VMs that were renamed; and what does not."""

import numpy as np
import pytest

from hvgym.envs.fleet.doubts import doubts
from hvgym.envs.fleet.history import History, VmHistory

SLOTS, STEP_S, START_S = 2 * 288, 300, 1_767_571_200  # two days from 2026-01-05
HALF = SLOTS // 2


def vm(name, used, cap_mib=4096.0, there=slice(None)):
    present = np.zeros(SLOTS, bool)
    present[there] = True
    used = np.where(present, np.broadcast_to(np.asarray(used, np.float32), SLOTS), np.nan).astype(np.float32)
    return VmHistory(name, "", "", cap_mib, 2.0, {"guest_used": used}, {}, present, np.isfinite(used))


def history(vms):
    return History("/data/shop", START_S, STEP_S, SLOTS, tuple(vms))


def level(seed, change=1.0, at=HALF):
    """Around 1 GiB with a daily wave and noise; from `at` on times `change`."""
    noise = np.random.default_rng(seed).normal(1.0, 0.05, SLOTS)
    wave = 1.0 + 0.3 * np.sin(2 * np.pi * np.arange(SLOTS) / 288 + seed)
    return 1024.0 * noise * wave * np.where(np.arange(SLOTS) < at, 1.0, change)


@pytest.mark.parametrize(("change", "verb", "times"), [(0.125, "falls", "0.1"), (4.0, "rises", "4")])
def test_a_unit_that_changes_in_the_middle_of_all_vms_is_told_with_its_time(change, verb, times):
    (line,) = doubts(history(vm(f"vm-{n}", level(n, change)) for n in range(5)))
    assert line.startswith(f"guest_used of 5 of 5 VMs {verb} at once, at 2026-01-06T00:00:00 UTC, to {times}")
    assert "a unit that was changed?" in line


def test_one_vm_in_five_may_have_kept_its_level_and_a_gap_may_lie_between():
    vms = [vm(f"vm-{n}", level(n, 0.125)) for n in range(9)] + [vm("other", level(9))]
    for one in vms:
        one.columns["guest_used"][HALF : HALF + 6] = np.nan
    assert "guest_used of 9 of 10 VMs falls at once" in doubts(history(vms))[0]


@pytest.mark.parametrize(
    "vms",
    [
        [vm(f"vm-{n}", level(n)) for n in range(5)],  # nothing happens
        [vm(f"vm-{n}", level(n, 0.6)) for n in range(5)],  # less than half
        [vm(f"vm-{n}", level(n, 0.125, at=100 + 60 * n)) for n in range(5)],  # one after the other
        [vm(f"vm-{n}", level(n, 0.125 if n < 3 else 1.0)) for n in range(5)],  # three of five
        [vm(f"vm-{n}", level(n, 0.125)) for n in range(3)],  # three VMs are few
        [vm(f"vm-{n}", np.where(np.arange(SLOTS) // 24 == 10, 0.25, 1.0) * level(n)) for n in range(5)],  # and back
    ],
)
def test_what_fleets_do_by_themselves_is_not_doubted(vms):
    assert doubts(history(vms)) == []


def test_a_vm_that_ends_as_another_of_its_size_begins_may_have_been_renamed():
    stays = vm("stays", level(0))
    old, new = vm("web-1", level(1), there=slice(0, HALF)), vm("web-01", level(2), there=slice(HALF + 2, None))
    found = doubts(history([stays, old, new]))
    assert found == [
        "web-1 ends as web-01 begins, with as much memory: was the VM renamed? They count as two.",
        "of 12 GiB configured, 8 GiB were there at once at the most: VMs that came and left are counted as if they were there all "
        "the time.",
    ]
    larger = vm("web-01", level(2), cap_mib=8192.0, there=slice(HALF + 2, None))
    later = vm("web-01", level(2), there=slice(HALF + 10, None))
    for other in (larger, later):
        assert not any("renamed" in line for line in doubts(history([stays, old, other])))
