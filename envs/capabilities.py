"""What a hypervisor can do for a VM's starting memory, statistics and limits; where it cannot, the key is refused in one line.

*Starting memory* (`startup` of a hypervisor's profile):
 - `balloon`: the guest boots with all of its memory in view, of which its driver holds what is above ``startup_mib``. KVM:
   libvirt's ``currentMemory``, Proxmox's ``balloon`` (VMs start at their minimum). Xen: a target below static-max, populated on
   demand. VirtualBox: ``--guestmemoryballoon``, the balloon's size when the VM starts. Without a driver it cannot be.
 - `assigned`: the guest boots with so much (Hyper-V's Startup RAM), and grows by hot-add or balloon; without a driver it stays.
 - `none`: ESXi takes no balloon target from outside and its driver runs only once the guest does; Workstation has no balloon that
   can be set for a VM; a process on bare metal has no size.

A VM that has long been ballooned as the episode begins (``settled_mib``) needs a driver and a size, whoever asked for it.

*Limit* (`limits`):
 - `esxi`: ``limit`` of a VM's memory allocation, hard.
 - `cgroup`: ``memory.max`` or ``memory.high`` of its process.
 - `none`: Xen and Hyper-V commit memory, so what a VM may have at most is its size; VirtualBox (ring-0 pages) and Workstation
   (pages locked by its monitor) keep guest memory off the lists that a cgroup reclaims.

At run time (``Targets.limit_mib``) a limit moves by the same means; a VM whose scenario has none gets a cgroup's ``memory.high``.

*Limits of the disk* (`disk_limits`):
 - `iops_bursts`: so many operations a second, in bursts more: QEMU's throttling (libvirt's ``iotune``): ``total_iops_sec``,
   and ``total_iops_sec_max`` for ``total_iops_sec_max_length`` seconds from a leaky bucket. An operation counts once whatever its
   size, unless ``size_iops_sec`` is set.
 - `iops`: so many, no more. ESXi's limit of a virtual disk (in mClock a tag of each operation; counted in multiples of
   32 KiB), Hyper-V's MaximumIOPS (multiples of 8 KiB), ``io.max`` of a process' cgroup on bare metal.
 - `none`: VirtualBox's bandwidth groups limit bytes (of asynchronous I/O), not operations; Xen's block backend has no limit but
   what a cgroup in Dom0 sets; Workstation has no such setting.

Statistics are the guest's affair: any hypervisor may have a guest whose driver is silent.

Sources: libvirt's domain XML, Proxmox's AutoBalloon, xapi's memory ranges, VirtualBox's manual (4.10.1), VMware's resource
management guide, Microsoft's Dynamic Memory, Linux's cgroup-v2.rst; VirtualBox's and Workstation's pages recalled. Disks: QEMU's
docs/throttle.txt and util/throttle.c, libvirt's domain XML; Broadcom's article 385258 (mClock since ESXi 7.0 U3q); Microsoft's
Storage Quality of Service for Hyper-V; VirtualBox's manual, 5.8; ``io.max``, Xen and Workstation recalled.
"""

from typing import TYPE_CHECKING

from hvgym.envs.errors import InputError

if TYPE_CHECKING:
    from hvgym.envs.machine import Hypervisor
    from hvgym.envs.vm_group import VmGroup


def check_memory_keys(group: "VmGroup") -> None:
    """What cannot be on any hypervisor. Raises `InputError`."""
    if any(share not in (0.0, 1.0) for share in group.tier_is_file):
        raise InputError(
            f"tier_is_file={list(group.tier_is_file)}: a tier is page cache (1) or anonymous (0); split a mixed one into two"
        )
    silent = "balloon=False has no driver to answer" if not group.balloon else "stats='none' never answers"
    if group.stats_frozen_s is not None and (not group.balloon or group.stats == "none"):
        raise InputError(f"stats_frozen_s={group.stats_frozen_s:g}: {silent}; leave one of them out")
    if group.startup_mib is not None and group.startup_mib < group.boot_mib:
        raise InputError(
            f"startup_mib={group.startup_mib:g}: kernel, its caches and watermark need {group.boot_mib:.0f} to boot"
        )
    if group.settled_cold and group.settled_mib is None:
        raise InputError("settled_cold=True: needs settled_mib, the size at which its workload filled its memory")
    if group.settled_mib is not None and group.settled_mib < group.boot_mib:
        raise InputError(
            f"settled_mib={group.settled_mib:g}: kernel, its caches and watermark need {group.boot_mib:.0f}"
        )
    if group.settled_mib is not None and group.arrive_s > 0.0:
        raise InputError(
            f"settled_mib={group.settled_mib:g}: arrive_s={group.arrive_s:g} starts the VM later; leave one of them out"
        )
    if group.limit_kind is not None and group.limit_mib is None:
        raise InputError(f"limit_kind={group.limit_kind!r}: needs limit_mib")
    if group.limit_mib is not None and group.limit_mib < group.min_mib:
        raise InputError(
            f"limit_mib={group.limit_mib:g}: must be at least min_mib={group.min_mib:g}, which is guaranteed"
        )


def check_disk_keys(group: "VmGroup") -> None:
    """Bursts without a limit, or below it. Raises `InputError`."""
    limit, burst, length_s = group.disk_limit_iops, group.disk_burst_iops, group.disk_burst_s
    if burst is not None and limit is None:
        raise InputError(f"disk_burst_iops={burst:g}: needs disk_limit_iops, which it may pass for a while")
    if burst is not None and limit is not None and burst < limit:
        raise InputError(f"disk_burst_iops={burst:g}: must be at least disk_limit_iops={limit:g}")
    if length_s is not None and burst is None:
        raise InputError(f"disk_burst_s={length_s:g}: needs disk_burst_iops")


def check(group: "VmGroup", hypervisor: "Hypervisor", where: str) -> None:
    """What this hypervisor cannot do for a VM. Raises `InputError`."""
    devices = (group.disk or hypervisor.disk, group.nic or hypervisor.nic)
    pinned = any(one is not None and one.passes_through for one in devices)
    if group.startup_mib is not None:
        reason = _no_startup(group, hypervisor, pinned)
        if reason:
            raise InputError(f"{where}.startup_mib={group.startup_mib:g}: {reason}")
    if group.settled_mib is not None:
        reason = _no_balloon(group, hypervisor, pinned)
        if reason:
            raise InputError(f"{where}.settled_mib={group.settled_mib:g}: {reason}")
    if group.limit_mib is not None:
        reason = _no_limit(group, hypervisor, pinned)
        if reason:
            raise InputError(f"{where}.limit_mib={group.limit_mib:g}: {reason}")

    _check_disk_limit(group, hypervisor, where)


def _check_disk_limit(group: "VmGroup", hypervisor: "Hypervisor", where: str) -> None:
    """Whether the hypervisor has limits of a disk as this VM's, in operations. Raises `InputError`."""
    if group.disk_limit_iops is not None and hypervisor.disk_limits == "none":
        raise InputError(
            f"{where}.disk_limit_iops={group.disk_limit_iops:g}: hypervisor {hypervisor.name} limits no operations of a disk; "
            "leave it out"
        )
    if group.disk_burst_iops is not None and hypervisor.disk_limits != "iops_bursts":
        raise InputError(
            f"{where}.disk_burst_iops={group.disk_burst_iops:g}: a limit of hypervisor {hypervisor.name} has no bursts; "
            "leave it out, or raise disk_limit_iops"
        )


def _no_startup(group: "VmGroup", hypervisor: "Hypervisor", pinned: bool) -> str | None:
    """Why a VM cannot start with less than its memory, and what would be right; None if it can."""
    startup_mib = group.startup_mib or group.memory_mib
    least = (1.0 - hypervisor.balloon_cap_share) * group.memory_mib
    if hypervisor.startup == "none":
        return f"hypervisor {hypervisor.name} starts a VM with all of its memory; leave it out, or lower memory_mib"
    if pinned and not hypervisor.unpins and startup_mib < group.memory_mib:
        return (
            f"a passed-through device pins all of its memory from the start; leave it out, or say {group.memory_mib:g}"
        )
    if hypervisor.startup == "balloon" and not group.balloon:
        return (
            f"hypervisor {hypervisor.name} starts it ballooned, and balloon=False has no driver; leave one of them out"
        )
    if hypervisor.startup == "balloon" and startup_mib < least:
        return f"a balloon of hypervisor {hypervisor.name} leaves at least {least:g}"
    return None


def _no_balloon(group: "VmGroup", hypervisor: "Hypervisor", pinned: bool) -> str | None:
    """Why a VM cannot have been ballooned, and what would be right; None if it can."""
    least = (1.0 - hypervisor.balloon_cap_share) * group.memory_mib
    if hypervisor.type == 0:
        return f"a process on {hypervisor.name} has no size; leave it out"
    if not group.balloon:
        return "balloon=False has no driver; leave one of them out"
    if pinned and not hypervisor.unpins:
        return "a passed-through device pins all of its memory; leave it out"
    if (group.settled_mib or 0.0) < least:
        return f"a balloon of hypervisor {hypervisor.name} leaves at least {least:g}"
    return None


def no_limits(hypervisor: "Hypervisor") -> str:
    """What is said where nothing limits a VM."""
    return f"hypervisor {hypervisor.name} has no limit below a VM's size"


def _no_limit(group: "VmGroup", hypervisor: "Hypervisor", pinned: bool) -> str | None:
    """Why a VM cannot be limited, and what would be right; None if it can."""
    if hypervisor.limits == "none":
        return f"{no_limits(hypervisor)}; leave it out, or lower memory_mib"
    if hypervisor.limits == "esxi" and group.limit_kind is not None:
        return f"limit_kind={group.limit_kind!r} is a cgroup's; hypervisor {hypervisor.name} has one kind; leave limit_kind out"
    if pinned:
        return "a passed-through device pins all of its memory, so nothing can be reclaimed; leave it out"
    process = 0.0 if hypervisor.limits == "esxi" else hypervisor.overhead_mib(group)
    if (group.limit_mib or 0.0) < group.boot_mib + process:
        return f"guest kernel and process need {group.boot_mib + process:.0f}"
    return None
