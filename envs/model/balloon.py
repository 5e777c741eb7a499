"""The balloon driver: a size is asked for, and then approached.

Modelled. The driver inflates at a limited rate while free memory lasts and at the guest's own reclaim speed
afterwards; without swap it stalls and waits, and takes whatever becomes free later. It deflates about ten times
faster. What it lets go is free for the guest but not backed by the host until touched, and is what the next inflation
takes first. Inflating costs the workload a share of its progress. A driver that answers the guest's OOM notifier
gives memory back when allocations fail. Asked, actual and host-backed memory are three different numbers.

Left out: 2 MiB balloons, free page reporting and virtio-mem, fragmentation, the 200 ms sleeps of a starved driver.

Sources: rates of virtio-balloon measured on a Xeon 6252 (hyperalloc-bench: 1.17 s/GiB inflate, 0.47 s/GiB deflate,
foreground loss 4-14 %, of which the middle is used) and on emulated guests (docs/validation.md).
"""

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import VmRecord, VmSpecRecord


@compiled
def wanted_mib(vm: VmRecord, spec: VmSpecRecord) -> float:
    """Size of the balloon that the asked memory size calls for."""
    if spec.stats_interval_s <= 0.0:  # no driver
        return vm.balloon_mib
    return min(max(spec.memory_mib - vm.asked_mib, 0.0), spec.balloon_cap_mib)


@compiled
def deflate(vm: VmRecord, amount_mib: float) -> None:
    """Give memory back to the guest; the host backs it again only when it is touched."""
    vm.balloon_mib -= amount_mib
    vm.free_deflated_mib += amount_mib
    vm.balloon_moved_mib += amount_mib


@compiled
def approach(vm: VmRecord, spec: VmSpecRecord) -> None:
    """Deflate at once what one tick allows; what it allows to inflate is left in ``inflate_mib``, subject to memory."""
    goal = wanted_mib(vm, spec)
    vm.inflate_mib = 0.0
    if goal < vm.balloon_mib:
        deflate(vm, min(spec.deflate_mib_per_s, vm.balloon_mib - goal))
    else:
        vm.inflate_mib = min(goal - vm.balloon_mib, spec.inflate_mib_per_s)


@compiled
def inflate(vm: VmRecord, amount_mib: float) -> None:
    """Take free memory: what was deflated last, then what the host backs (it is dropped there), then the untouched."""
    deflated = min(amount_mib, vm.free_deflated_mib)
    vm.free_deflated_mib -= deflated
    backed = min(amount_mib - deflated, vm.free_backed_mib)
    if backed > 0.0:
        vm.free_swapped_mib -= min(vm.free_swapped_mib, backed * vm.free_swapped_mib / vm.free_backed_mib)
        vm.free_backed_mib -= backed
    vm.free_untouched_mib -= amount_mib - deflated - backed
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
