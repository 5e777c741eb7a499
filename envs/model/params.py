"""What a VM and a host are made of: the fields of the state and of the specification, each with its unit.

A scenario fixes `VM_SPEC` and `HOST_SPEC`; a tick changes `VM` and `HOST`; a workload writes `DEMAND`. Memory is in
MiB, time in seconds, shares are fractions. Arrays are ``[env, vm]``, ``[env, host]`` and ``[env, slot, vm]``.

Pages of a VM are a mixture of recency tiers: tier k holds S_k MiB, each page of which is touched as a Poisson process
of rate lambda_k per second of guest progress. Tiers are anonymous memory or page cache (``tier_is_file``).
"""

from typing import Any

import numpy as np

TIERS = 4
"""Recency tiers per VM. Three exponentials fit published idle-age curves to a few percent, a fourth holds page cache."""

HOT, WARM, COLD, CACHE = range(TIERS)
"""The workloads' use of the tiers; the physics does not know these names."""

PAGES_PER_MIB = 256.0
"""4 KiB pages."""

TICK_S = 1.0
"""Length of a tick. The compiled physics relies on it being one second."""

VmRecord = Any
HostRecord = Any
VmSpecRecord = Any
HostSpecRecord = Any
DemandRecord = Any

VM_SPEC = np.dtype(
    [
        ("memory_mib", "f8"),  # configured size; the guest never has more
        ("min_mib", "f8"),  # size that the operator guarantees; policies stay above it
        ("kernel_mib", "f8"),  # unevictable memory of the guest kernel and its agents
        ("kernel_cache_mib", "f8"),  # caches the kernel keeps under anonymous pressure, yet counts as available
        ("watermark_mib", "f8"),  # free memory at which the guest starts to reclaim, and parks
        ("guest_swap_mib", "f8"),  # swap device inside the guest; 0 is none
        ("overhead_mib", "f8"),  # host memory of the VMM process on top of guest memory
        ("growth_mib_per_s", "f8"),  # how fast the workload takes new memory or moves between tiers
        ("reclaim_mib_per_s", "f8"),  # how fast the guest frees memory for growth and balloon under pressure
        ("inflate_mib_per_s", "f8"),
        ("deflate_mib_per_s", "f8"),
        ("balloon_cap_mib", "f8"),  # the most a balloon may hold
        ("balloon_interference", "f8"),  # share of progress lost while inflating at full speed
        ("deflate_on_oom_mib_per_s", "f8"),  # 0: the driver does not answer to the guest's OOM notifier
        ("stats_interval_s", "f8"),  # guest statistics are polled this often; 0: there is no balloon driver
        ("restart_s", "f8"),  # time until a killed workload runs again
        ("fault_parallelism", "f8"),  # faults that the workload keeps in flight
        ("slack", "f8"),  # share of a second that a paced workload idles; 0 is a closed loop
        ("vcpus", "f8"),
        ("weight", "f8"),  # value of this VM's progress
        ("shares", "f8"),  # what the operator configured for share-based policies
        ("critical", "f8"),  # 1: has a service-level objective
        ("slo_slowdown", "f8"),  # objective: 1 / progress stays below this
        ("host", "i8"),  # index of its host
        ("tier_rate_per_s", "f8", (TIERS,)),  # lambda_k
        ("tier_touched_share", "f8", (TIERS,)),  # 1 - exp(-lambda_k): pages touched within one tick
        ("tier_write_share", "f8", (TIERS,)),  # share of touches that write
        ("tier_is_file", "f8", (TIERS,)),  # 1: page cache, else anonymous
    ],
    align=True,
)

VM = np.dtype(
    [
        ("asked_mib", "f8"),  # memory size that the policy asked for
        ("balloon_mib", "f8"),  # what the balloon holds; memory size is memory_mib - balloon_mib
        ("allocated_mib", "f8", (TIERS,)),  # S_k, resident or not
        ("resident_mib", "f8", (TIERS,)),  # in guest memory, as the guest sees it
        ("clean_mib", "f8", (TIERS,)),  # resident with a valid copy on disk or swap: evicted without a write
        ("host_swapped_mib", "f8", (TIERS,)),  # resident for the guest, but swapped out by the host
        ("free_backed_mib", "f8"),  # free in the guest, still backed by the host
        ("free_swapped_mib", "f8"),  # part of free_backed_mib that sits in host swap
        ("free_deflated_mib", "f8"),  # free since the balloon let go; not backed; the balloon takes it first
        ("free_untouched_mib", "f8"),  # never touched since boot; not backed
        ("lru_age_s", "f8"),  # T: age at which the guest evicts, start value of the next search
        ("growth_mib", "f8"),  # growth asked for in this tick
        ("fault_mib_per_s", "f8"),  # guest faults (swap or file) per second of progress
        ("host_fault_mib_per_s", "f8"),  # faults on host-swapped memory per second of progress
        ("disk_demand", "f8"),  # share of the disk that a second of full progress takes
        ("fault_wait_operations", "f8"),  # waits for the disk in a second of full progress, one after the other
        ("busy_share", "f8"),  # of a second of full progress without any wait, exits included
        ("false_read_mib", "f8"),  # freed pages read back from host swap in the last tick
        (
            "double_paged_mib",
            "f8",
        ),  # evicted pages read back from host swap in the last tick, to be written to guest swap
        ("granted_mib", "f8"),  # scratch of one tick from here: growth that gets memory
        ("inflate_mib", "f8"),  # what the balloon takes
        ("missing_goal_mib", "f8"),  # what reclaim must leave missing; below 0: nothing needs to leave
        ("moving", "f8"),  # 1: workload pages come or go
        ("next_missing_mib", "f8", (TIERS,)),  # S_k - R_k after the tick
        ("fault_in_mib", "f8", (TIERS,)),  # faulted in during the tick
        ("progress", "f8"),  # of the last tick, 0..1
        ("down_s", "f8"),  # seconds until a killed workload runs again
        ("refilling", "f8"),  # 1 after a kill until the working set is back
        ("starved_s", "f8"),  # seconds for which allocations found no memory
        ("touches", "f8"),  # counters from here on, cumulative since reset
        ("major_faults", "f8"),
        ("swap_in_mib", "f8"),
        ("swap_out_mib", "f8"),
        ("file_in_mib", "f8"),
        ("file_out_mib", "f8"),
        ("host_swap_in_mib", "f8"),
        ("host_swap_out_mib", "f8"),
        ("balloon_moved_mib", "f8"),
        ("disk_mib", "f8"),  # through the VM's disk device: the application's and the guest's own paging
        ("net_mib", "f8"),
        ("cpu_s", "f8"),
        ("progress_s", "f8"),
        ("slo_violation_s", "f8"),
        ("oom_kills", "f8"),
        ("report_age_s", "f8"),  # since the balloon driver last reported; the rest is what it said
        ("report_free_mib", "f8"),
        ("report_available_mib", "f8"),
        ("report_total_mib", "f8"),
        ("report_caches_mib", "f8"),
        ("report_swap_in_mib", "f8"),
        ("report_swap_out_mib", "f8"),
        ("report_major_faults", "f8"),
    ],
    align=True,
)

HOST_SPEC = np.dtype(
    [
        ("ram_mib", "f8"),
        ("own_mib", "f8"),  # hypervisor, and for Type 2 the host operating system
        ("min_free_mib", "f8"),  # the hypervisor swaps VMs to keep this much free
        ("swap_mib", "f8"),
        ("pcpus", "f8"),
        ("disk_iops", "f8"),  # 4 KiB random operations per second, saturated
        ("disk_latency_s", "f8"),  # of one operation on an idle device
        ("disk_mib_per_s", "f8"),  # sequential
        ("nic_mib_per_s", "f8"),
        ("io_exit_s", "f8"),  # CPU time of exits, world switches and copies per I/O request
    ],
    align=True,
)

HOST = np.dtype(
    [
        ("free_mib", "f8"),
        ("swap_used_mib", "f8"),
        ("disk_utilisation", "f8"),
        ("disk_wait_s", "f8"),  # latency of one operation, queueing included
        ("write_backlog_mib", "f8"),  # swap writes and write-back that the disk has not served yet
        ("cpu_grant", "f8"),  # share of the CPU time asked for that was given
        ("net_grant", "f8"),
        ("cpu_utilisation", "f8"),  # of the last tick, by the VMs
        ("swap_in_mib", "f8"),  # counters
        ("swap_out_mib", "f8"),
        ("swapping_s", "f8"),
        ("tick_swap_mib", "f8"),  # scratch: swapped in within the tick
        ("tick_pool_mib", "f8"),  # scratch: memory that could be swapped
        ("tick_cpu", "f8"),
        ("tick_net_mib_per_s", "f8"),
    ],
    align=True,
)

DEMAND = np.dtype(
    [
        ("tier_mib", "f8", (TIERS,)),  # wanted S_k
        ("cpu_share", "f8"),  # of the VM's vCPUs
        ("disk_mib_per_s", "f8"),
        ("net_mib_per_s", "f8"),
    ],
    align=True,
)


def default_watermark_mib(memory_mib: float) -> float:
    """Free memory at which a Linux guest parks under pressure.

    Measured on kernel 6.1: 5.5-6 MB at 512 MiB, 50-65 MB at 768 MiB and 1 GiB. The step is the huge-page daemon's
    recommended ``min_free_kbytes`` (44 MiB with two zones, 66 MiB with three, from 4 GiB up); the low watermark is
    1.25 of it.
    """
    if memory_mib < 640.0:
        return 0.0112 * memory_mib
    return 1.25 * (44.0 if memory_mib < 4096.0 else 66.0)
