"""What a hypervisor can do for a VM's starting memory, statistics and limit; where it cannot, the key is refused in one line.

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

Statistics are the guest's affair: any hypervisor may have a guest whose driver is silent.

Sources: libvirt's domain XML, Proxmox's AutoBalloon, xapi's memory ranges, VirtualBox's manual (4.10.1), VMware's resource
management guide, Microsoft's Dynamic Memory, Linux's cgroup-v2.rst; VirtualBox's and Workstation's pages recalled.
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


def _no_limit(group: "VmGroup", hypervisor: "Hypervisor", pinned: bool) -> str | None:
    """Why a VM cannot be limited, and what would be right; None if it can."""
    if hypervisor.limits == "none":
        return f"hypervisor {hypervisor.name} has no limit below a VM's size; leave it out, or lower memory_mib"
    if hypervisor.limits == "esxi" and group.limit_kind is not None:
        return f"limit_kind={group.limit_kind!r} is a cgroup's; hypervisor {hypervisor.name} has one kind; leave limit_kind out"
    if pinned:
        return "a passed-through device pins all of its memory, so nothing can be reclaimed; leave it out"
    process = 0.0 if hypervisor.limits == "esxi" else hypervisor.overhead_mib(group)
    if (group.limit_mib or 0.0) < group.boot_mib + process:
        return f"guest kernel and process need {group.boot_mib + process:.0f}"
    return None
