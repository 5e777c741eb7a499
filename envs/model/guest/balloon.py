"""How a guest returns memory: a size is asked for, and then approached.

Modelled. A driver returns memory at the limited rate of its kind while free memory lasts, and afterwards as fast as the
guest's kernel reclaims and its disk writes (``devices.io``); without swap it stalls and waits, sleeps `SLEEP_S` each time it
finds nothing, and takes whatever becomes free later. Free pages that the host has swapped out are read back first where the
guest's kernel zeroes what it allocates (``init_on_alloc``), in order, as fast as the host's swap device reads. Giving back is
faster. What it lets go is free for the guest but not backed by the host until touched (``first_touch_s_per_mib``), and is
what the next inflation takes first. Inflating costs the workload a share of its progress. A driver that answers the guest's
OOM notifier gives memory back when allocations fail. Where the hypervisor commits memory, a balloon deflates only into what
the host has free. Asked, actual and host-backed memory are three different numbers. Free page reporting returns free memory
unasked (``guest.report_free_pages``).

Left out: fragmentation (a driver of 2 MiB pieces may find none), blocks that cannot be unplugged, the 200 ms sleeps of a
starved driver within a second that gives it something, the spread of the interference within a second.

Sources: `KINDS`, computed from the raw times of hyperalloc-bench on a Xeon 6252 (18 GiB of a 20 GiB guest), foreground loss
4-14 % for 4 KiB, under 1 % otherwise; on emulated guests docs/validation.md.
"""

import dataclasses

from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.guest import paging
from hvgym.envs.model.params import VmRecord, VmSpecRecord


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way to return memory. interference: share of progress lost at full speed."""

    inflate_mib_per_s: float
    deflate_mib_per_s: float
    first_touch_s_per_mib: float
    interference: float


_GIB = 1024.0
_TOUCH_4K_S_PER_MIB, _TOUCH_2M_S_PER_MIB = 3.9e-6 * 256, 455e-6 / 2
"""First touch of memory that the host must back, zeroing and the warm touch included: 3.9 us a page, 455 us per 2 MiB."""

KINDS = {
    "balloon_4k": Kind(_GIB / 1.17, _GIB / 0.47, _TOUCH_4K_S_PER_MIB, 0.09),
    "balloon_2m": Kind(_GIB / 0.0081, _GIB / 0.0034, _TOUCH_2M_S_PER_MIB, 0.005),
    "virtio_mem": Kind(_GIB / 0.032, _GIB / 0.011, 0.24 / _GIB, 0.005),
    "virtio_mem_vfio": Kind(_GIB / 0.049, _GIB / 0.234, 0.077 / _GIB, 0.005),
    "hyperalloc": Kind(_GIB / 0.0032, _GIB / 0.0001, 0.25 / _GIB, 0.005),
}

SLEEP_S = 0.2
"""A Linux driver that finds no page sleeps so long before it asks again (``msleep(200)`` in virtio_balloon)."""

REPORTED_PER_S = 0.53
"""Share of free memory that free page reporting returns in a second: 304 of 320 MiB within 4 s (measured)."""


@compiled
def asked_mib(vm: VmRecord) -> float:
    """Memory size that the driver is to reach: the policy's, or the hypervisor's own for the VM's limit."""
    return min(vm.asked_mib, vm.limit_size_mib)


@compiled
def wanted_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Size of the balloon that the asked memory size calls for."""
    if spec.balloons == 0.0:
        return vm.balloon_mib
    return min(max(spec.memory_mib - asked_mib(vm), 0.0), spec.balloon_cap_mib)


@compiled
def deflate(vm: VmRecord, amount_mib: float) -> None:
    """Give memory back to the guest; the host backs it again only when it is touched."""
    vm.balloon_mib -= amount_mib
    vm.free_deflated_mib += amount_mib
    vm.balloon_moved_mib += amount_mib


@inlined
def approach(vm: VmRecord, spec: VmSpecRecord, deflate_share: float) -> None:
    """Deflate at once what one tick and the host allow (`deflate_share` of it); what one tick allows to inflate is left in
    ``inflate_mib``, subject to the guest's memory. Free pages in host swap that must be zeroed come as fast as it reads.
    """
    goal = wanted_mib(vm, spec)
    vm.inflate_mib = 0.0
    if goal < vm.balloon_mib:
        deflate(vm, deflate_share * min(spec.deflate_mib_per_s, vm.balloon_mib - goal))
    else:
        awake_s = 1.0 - SLEEP_S * vm.balloon_slept
        vm.inflate_mib = min(goal - vm.balloon_mib, awake_s * (1.0 - vm.inflate_cut) * spec.inflate_mib_per_s)
        if vm.free_swapped_mib > 0.0 and spec.init_on_alloc > 0.0:
            backed = min(vm.swap_room_mib, vm.kernel_room_mib) * vm.ahead_pages / paging.swapped_share(vm)
            if backed < vm.free_backed_mib:
                if spec.handed_out_last_mib > 0.0 and backed >= vm.free_backed_mib - spec.handed_out_last_mib:
                    backed += vm.free_untouched_mib
                vm.inflate_mib = min(vm.inflate_mib, vm.free_deflated_mib + backed)


@compiled
def inflate(vm: VmRecord, spec: VmSpecRecord, amount_mib: float) -> None:
    """Take free memory: what was deflated last, then what the host backs (it is dropped there), then the untouched, at the end
    what the guest's kernel hands out last.

    Backed pages in host swap are read back first where the guest's kernel zeroes what it allocates.
    """
    deflated = min(amount_mib, vm.free_deflated_mib)
    vm.free_deflated_mib -= deflated
    backed = paging.backed_mib(vm, spec, amount_mib - deflated, 0.0)
    vm.free_untouched_mib -= amount_mib - deflated - backed
    if backed > 0.0:
        swapped = min(vm.free_swapped_mib, backed * paging.swapped_share(vm))
        vm.free_swapped_mib -= swapped
        vm.free_backed_mib -= backed
        if spec.init_on_alloc > 0.0:
            vm.zeroed_mib += swapped
            vm.host_swap_in_mib += swapped
    vm.balloon_mib += amount_mib
    vm.balloon_moved_mib += amount_mib


@compiled
def deflate_on_oom(vm: VmRecord, spec: VmSpecRecord) -> bool:
    """Answer the guest's OOM notifier; return whether the balloon had something to give."""
    amount = min(spec.deflate_on_oom_mib_per_s, vm.balloon_mib)
    if amount <= 0.0:
        return False
    deflate(vm, amount)
    return True
