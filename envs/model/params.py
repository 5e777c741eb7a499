"""What a VM and a host are made of: the fields of the state and of the specification, each with its unit.

A scenario fixes `VM_SPEC` and `HOST_SPEC`; a tick changes `VM` and `HOST`; a workload writes `DEMAND`. Memory is in
MiB, time in seconds, shares are fractions. Arrays are ``[env, vm]``, ``[env, host]`` and ``[env, slot, vm]``.

Pages of a VM are a mixture of recency tiers: tier k holds S_k MiB, each page of which is touched as a Poisson process
of rate lambda_k per second of guest progress. Tiers are anonymous memory or page cache (``tier_is_file``).
"""

import math
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

SCHEDULE_STEPS, RETRIES = 16, 4
"""Most steps of a migration's schedule, and delays between restarts, that a stack may list."""

NEVER_S = 1e18
"""Later than any episode."""

VmRecord = Any
HostRecord = Any
VmSpecRecord = Any
HostSpecRecord = Any
DemandRecord = Any

DEVICE = np.dtype(
    [
        ("present", "f8"),  # 0: the bare machine's own, which costs nothing
        ("guest_s", "f8"),  # CPU time of a request in the guest's own stack; the demand for CPU holds it already
        ("request_s", "f8"),  # ... more of the vCPU's thread: traps, and what an emulated device does
        ("notice_s", "f8"),  # ... per notification, which the requests of a batch share
        ("backend_s", "f8"),  # ... of the backend's thread
        ("request_s_per_mib", "f8"),  # copies by the vCPU's thread
        ("backend_s_per_mib", "f8"),  # ... by the backend's
        ("window_s", "f8"),  # for which requests gather before a notification
        ("batch_most", "f8"),
        ("depth", "f8"),  # requests that may be in flight
        ("iotlb_mib_per_s", "f8"),  # the most whose addresses an IOMMU translates
    ],
    align=True,
)
"""A virtual disk or NIC of a VM; times are on the host's clock."""

JVM = np.dtype(
    [
        ("present", "f8"),
        ("xmx_mib", "f8"),
        ("xms_mib", "f8"),
        ("non_heap_mib", "f8"),  # part of the hot tier that is no heap
        ("live_share", "f8"),  # live data over the smallest heap
        ("t0", "f8"),  # time over heap: t0 + a / (h - b), h the heap over the smallest
        ("a", "f8"),
        ("b", "f8"),
        ("gc_mib_per_s", "f8"),  # live memory that its threads collect
        ("heap_aware", "f8"),  # 1: the balloon sits in the heap
        ("uncommit", "i8"),  # how the heap of an idle application shrinks
        ("idle_s", "f8"),  # ... after this long
    ],
    align=True,
)
"""A JVM that is a VM's workload: its heap lies in the tiers HOT (live data) and WARM (the room of its allocation)."""

LINE_BYTES = 64
"""Of a processor's caches."""


ZEROED = (
    "fault_mib_per_s", "paging_mib_per_s", "host_fault_mib_per_s", "zram_fault_mib_per_s", "replaced_mib", "written_share",
    "disk_demand", "swap_demand", "fault_wait_operations", "swap_wait_operations", "cpu_want", "net_want_mib_per_s", "working",
)  # fmt: skip
"""Fields of a VM with which every tick begins at 0: side by side, a few stores do it."""

SELDOM = frozenset(
    (
        # of a VM: policies that reclaim, limits, divided devices, JVMs, what is reported beyond what learners see
        "may_start", "reclaim_mib", "reclaim_age_s", "limit_mib", "limit_age_s", "limit_calm_s", "throttle_s_per_mib", "unqueued_s",
        "disk_waits", "read_want", "want", "given", "disk_allowed", "per_operation", "disk_tokens", "disk_shares", "net_shares",
        "arrive_in_s", "heap_mib", "heap_ballooned_mib", "heap_time", "heap_stall_s", "gc_share", "full_pause_s", "idle_s",
        "heap_errors", "gc_s", "sample_periods", "sampled_share", "ready_s", "report_total_mib", "report_major_faults",
        "report_committed_mib", "failed_starts", "charged_s",
        # of its specification: how it starts, the same, and what an objective or an error calls for
        "startup_mib", "starts_small", "arrive_s", "settled_mib", "settled_cold", "limit_least_mib", "limit_yields",
        "limit_balloons", "shares", "cpu_shares", "cpu_reservation", "cpu_limit", "jvm", "deflate_on_oom_mib_per_s",
        "stats_frozen_s", "stats_windows",
        "restart_s", "commit_ratio", "first_touch_s_per_mib", "packets_per_mib", "disk_reservation", "disk_burst", "disk_bucket",
        "net_reservation_mib_per_s", "net_limit_mib_per_s", "kill_cost_s",
    )
)  # fmt: skip
"""Fields that most ticks of most scenarios do not look at: they lie last, and are not fetched ahead."""


def _place(field: tuple[Any, ...]) -> tuple[int, int]:
    if len(field) > 2:
        return 0, 0
    if field[0] in ZEROED:
        return 1, ZEROED.index(field[0])
    if field[0] in SELDOM:
        return 3, int(field[0] != "jvm")  # whether there is one, every tick asks
    return 2, 0


def record(fields: list[tuple[Any, ...]]) -> np.dtype[np.void]:
    """A record with its per-tier fields first and the size of whole cache lines: in an array that begins at one (`zeros`),
    no vector of tiers lies across two. Others follow as they are used together. What fills the last line is a field, so that a
    copy has the same bytes."""
    ordered = sorted(fields, key=_place)
    spare = -np.dtype(ordered, align=True).itemsize % LINE_BYTES // 8
    return np.dtype([*ordered, ("spare", "f8", (spare,))] if spare else ordered, align=True)


def zeros(shape: tuple[int, ...], record: np.dtype[np.void]) -> np.ndarray:
    """An array of records of zeros that begins at a cache line."""
    size = math.prod(shape) * record.itemsize
    raw = np.zeros(size + LINE_BYTES, np.uint8)
    first = -raw.ctypes.data % LINE_BYTES
    return raw[first : first + size].view(record).reshape(shape)


VM_SPEC = record(
    [
        ("memory_mib", "f8"),  # configured size; the guest never has more
        ("min_mib", "f8"),  # size that the operator guarantees; policies stay above it
        ("kernel_mib", "f8"),  # unevictable memory of the guest kernel and its agents
        ("kernel_cache_mib", "f8"),  # caches the kernel keeps under anonymous pressure, yet counts as available
        ("handed_out_last_mib", "f8"),  # of its free memory; in use since boot, so that the host backs it (ZONE_DMA)
        ("watermark_mib", "f8"),  # free memory at which the guest starts to reclaim, and parks
        ("guest_swap_mib", "f8"),  # swap device inside the guest; 0 is none
        ("zram_stored_share", "f8"),  # compressed swap keeps this share of what it takes; 0: swap is a disk
        ("zram_fault_s", "f8"),  # CPU time per page that comes back from zram, its successor's compression included
        ("overhead_mib", "f8"),  # host memory of the VMM process on top of guest memory
        (
            "boot_only_mib",
            "f8",
        ),  # of kernel_mib and overhead_mib, what nobody touches after booting: a host may swap it
        ("committed", "f8"),  # 1: the hypervisor gives the VM its whole size, touched or not, and pages nothing
        ("zip_cap_mib", "f8"),  # host RAM that may hold compressed pages of it; 0: none
        ("zip_stored_share", "f8"),  # of a compressed page, in its slot
        ("growth_mib_per_s", "f8"),  # how fast the workload takes new memory or moves between tiers
        ("reclaim_mib_per_s", "f8"),  # how fast the guest frees memory for growth and balloon under pressure
        ("first_touch_s_per_mib", "f8"),  # CPU time of a thread that touches memory which the host must back first
        ("reporting_share_per_s", "f8"),  # free page reporting: share of free memory handed to the host each second
        ("init_on_alloc", "f8"),  # 1: its kernel zeroes pages as it allocates them, those for a balloon too
        ("inflate_mib_per_s", "f8"),
        ("deflate_mib_per_s", "f8"),
        ("balloon_cap_mib", "f8"),  # the most a balloon may hold
        ("balloon_interference", "f8"),  # share of progress lost while inflating at full speed
        ("deflate_on_oom_mib_per_s", "f8"),  # 0: the driver does not answer to the guest's OOM notifier
        ("balloons", "f8"),  # 1: a driver in the guest works the balloon
        ("stats_interval_s", "f8"),  # guest statistics are polled this often; 0: never
        ("stats_frozen_s", "f8"),  # second of the episode from which on they are not answered
        ("stats_windows", "f8"),  # 1: they say what Windows' driver says
        ("restart_s", "f8"),  # time until a killed workload runs again
        ("kill_cost_s", "f8"),  # of its work: what a kill or a failed start costs its operator
        ("fault_parallelism", "f8"),  # faults that the workload keeps in flight
        ("slack", "f8"),  # share of a second that a paced workload idles; 0 is a closed loop
        ("sequential_share", "f8"),  # of its touches, for which read-ahead fetches the pages that follow
        ("mergeable_share", "f8"),  # pages whose sharing would free memory: zero, equal within the VM or to another's
        ("compressible_share", "f8"),  # pages that compress well enough to keep
        ("commit_ratio", "f8"),  # address space that the workload commits per MiB of anonymous memory
        ("vcpus", "f8"),
        ("cpu_shares", "f8"),  # weight when pCPUs are short
        ("cpu_reservation", "f8"),  # pCPUs it can count on
        ("cpu_limit", "f8"),  # pCPUs it never exceeds
        ("exit_tax", "f8"),  # CPU time of timer, interrupt and scheduling exits, per second of guest CPU time
        ("watch_tax", "f8"),  # ... of traps by which its pages are watched
        ("walk_tax_large", "f8"),  # time lost to two-dimensional page walks when the host backs with 2 MiB pages
        ("walk_tax_small", "f8"),  # ... with 4 KiB pages
        ("arrive_s", "f8"),  # when the VM is to be started; 0: it runs from the beginning
        ("startup_mib", "f8"),  # memory it needs to boot
        ("starts_small", "f8"),  # 1: it starts with that, and stays there until it is asked to be larger
        ("settled_mib", "f8"),  # size at which it has been for long as the episode begins
        ("settled_cold", "f8"),  # 1: it was taken there before its workload used what it had filled
        ("limit_mib", "f8"),  # most host memory behind its guest at the start of an episode, process not counted
        ("limit_least_mib", "f8"),  # the least that a limit can be set to at run time; infinite: none can
        ("limit_yields", "f8"),  # 1: the limit throttles and may be passed (memory.high); 0: it is never passed
        ("limit_balloons", "f8"),  # 1: the hypervisor itself balloons the VM towards its limit
        ("weight", "f8"),  # value of this VM's progress
        ("shares", "f8"),  # what the operator configured for share-based policies
        ("critical", "f8"),  # 1: has a service-level objective
        ("slo_slowdown", "f8"),  # objective: 1 / progress stays below this
        ("disk", DEVICE),
        ("nic", DEVICE),
        ("jvm", JVM),
        ("pinned", "f8"),  # 1: a passed-through device pins its memory: no balloon, no host swap, no sharing
        ("packets_per_mib", "f8"),
        ("disk_waits_per_s", "f8"),  # operations that the application waits for, one after the other, at full progress
        ("net_waits_per_s", "f8"),  # ... and requests to the network
        ("disk_shares", "f8"),  # of the host's disk, at the start of an episode
        ("disk_reservation", "f8"),  # share of the host's disk that it can count on
        ("disk_limit", "f8"),  # ... and never exceeds, but in bursts
        ("disk_burst", "f8"),  # ... then that
        ("disk_bucket", "f8"),  # what it may have beyond its limit in bursts, seconds of the disk; 0: no bursts
        ("net_shares", "f8"),
        ("net_reservation_mib_per_s", "f8"),
        ("net_limit_mib_per_s", "f8"),
        ("slo_disk_latency_s", "f8"),  # objectives: a disk operation, and a request to the network, take no longer
        ("slo_net_latency_s", "f8"),
        ("slo_disk_mib_per_s", "f8"),  # ... and so much is served, if it is asked for
        ("slo_net_mib_per_s", "f8"),
        ("tier_rate_per_s", "f8", (TIERS,)),  # lambda_k
        ("tier_touched_share", "f8", (TIERS,)),  # 1 - exp(-lambda_k): pages touched within one tick
        ("tier_write_share", "f8", (TIERS,)),  # share of touches that write
        ("tier_is_file", "f8", (TIERS,)),  # 1: page cache, else anonymous
        (
            "tier_appears",
            "f8",
            (TIERS,),
        ),  # of what a tier still lacks, the share that a second of progress allocates; 1: all
        ("tier_stays", "f8", (TIERS,)),  # age at which its pages leave, relative to page cache (swappiness)
        ("tier_leaves", "f8", (TIERS,)),  # 1 / tier_stays, or 0 where there is no swap for it
        ("tier_gain", "f8", (TIERS,)),  # memory that evicting 1 MiB frees: 1, or what compression leaves
        ("tier_keeps_copy", "f8", (TIERS,)),  # 1: a page that comes back keeps its copy on the device
    ]
)

VM = record(
    [
        ("asked_mib", "f8"),  # memory size that the policy asked for
        ("reclaim_mib", "f8"),  # what the policy asked the host to take of it, less what it has taken
        ("reclaim_age_s", "f8"),  # ... from pages idle for at least this long; 0: in the order of the host's two lists
        ("may_start", "f8"),  # 0: the policy keeps it waiting
        ("limit_mib", "f8"),  # most host memory behind its guest, process not counted
        ("limit_size_mib", "f8"),  # memory size to which the hypervisor itself balloons it, for its limit
        ("limit_age_s", "f8"),  # age at which its pages last left for its limit
        ("limit_calm_s", "f8"),  # ... and seconds since
        ("throttle_s_per_mib", "f8"),  # what its threads wait for each MiB that they add beyond its limit
        ("balloon_mib", "f8"),  # what the balloon holds; memory size is memory_mib - balloon_mib
        ("allocated_mib", "f8", (TIERS,)),  # S_k, resident or not
        ("resident_mib", "f8", (TIERS,)),  # in guest memory, as the guest sees it
        ("clean_mib", "f8", (TIERS,)),  # resident with a valid copy on disk or swap: evicted without a write
        ("slot_mib", "f8", (TIERS,)),  # resident and anonymous, with a slot of its swap: clean, or written since
        ("host_swapped_mib", "f8", (TIERS,)),  # resident for the guest, but swapped out by the host
        ("zipped_mib", "f8"),  # part of what the host swapped out that it holds compressed in RAM
        (
            "zipped_share",
            "f8",
        ),  # ... as a tick begins, of what the host has swapped out, where some of it is to come back
        ("leaving_mib", "f8", (TIERS,)),  # scratch of the host's reclaim: what it would take at an age
        ("free_leaving_mib", "f8"),  # ... and of free pages
        ("merged_mib", "f8", (TIERS,)),  # resident for the guest, but the host keeps one copy for several
        ("shared_mib", "f8"),  # all of it
        ("large_share", "f8"),  # of the memory that the host backs, in 2 MiB pages
        ("free_backed_mib", "f8"),  # free in the guest, still backed by the host
        ("free_swapped_mib", "f8"),  # part of free_backed_mib that sits in host swap
        ("boot_swapped_mib", "f8"),  # part of the cold memory of its kernel and process that sits in host swap
        (
            "free_deflated_mib",
            "f8",
        ),  # free since the balloon let go or reported; not backed; the balloon takes it first
        ("free_untouched_mib", "f8"),  # never touched since boot; not backed
        ("lru_age_s", "f8"),  # T: age at which the guest evicts, start value of the next search
        ("oldest_s", "f8"),  # A: no resident page has been idle for longer
        ("free_runs_mib", "f8"),  # free slots of its swap in stretches of which none is in use
        ("run_share", "f8"),  # of what its swap-out last wrote, what lay in runs
        ("replaced_mib", "f8"),  # swap-out of the last tick that took the place of what came in
        ("replaced_mib_per_s", "f8"),  # ... per second of progress, for which this tick keeps room on the disk
        ("queued_single_mib", "f8"),  # writes that its disk has not served yet: of pages one by one
        ("queued_runs_mib", "f8"),  # ... and of pages that lie together
        ("written_share", "f8"),  # of the disk's second, that went to them in this tick
        ("inflate_cut", "f8"),  # share of its speed that a balloon does not try, for host swap could not read so much
        ("balloon_slept", "f8"),  # 1: its balloon found nothing in the last tick
        ("kernel_room_mib", "f8"),  # pages that its kernel's one thread can read of host swap, one by one
        ("fault_room_mib", "f8"),  # what its disk can serve of faults within this second
        ("other_disk_mib", "f8"),  # all else that it plans to do with its disk, as faults that take as long
        ("host_read_cost", "f8"),  # reads of the host's swap device for a page that it touches: read-ahead saves some
        (
            "swap_room_mib",
            "f8",
        ),  # pages that the host's swap device can read one by one for it, beyond those that it touches
        ("growth_mib", "f8"),  # growth asked for in this tick
        ("fault_mib_per_s", "f8"),  # guest faults (swap or file) per second of progress, each missing page once
        ("paging_mib_per_s", "f8"),  # ... pages that come, go and come again within the second included
        ("sequential_file_mib_per_s", "f8"),  # those of files that are read in sequence
        ("file_growth_mib", "f8"),  # page cache among the growth asked for
        ("zram_fault_mib_per_s", "f8"),  # those of them that zram serves
        ("host_fault_mib_per_s", "f8"),  # faults on host-swapped memory per second of progress
        ("disk_demand", "f8"),  # share of the disk that a second of full progress takes
        ("swap_demand", "f8"),  # share of the host's swap device, where that is another
        (
            "fault_wait_operations",
            "f8",
        ),  # the guest's waits for the disk in a second of full progress, one after the other
        ("swap_wait_operations", "f8"),  # its waits for the host's swap device, of which the guest does not know
        ("fixed_stall_s", "f8"),  # waits whose length does not depend on a queue: decompression, copies on write
        ("copy_stall_s", "f8"),  # those for copies on write
        ("sync_wait_operations", "f8"),  # ... those of the application itself, of which the bare machine has as many
        (
            "device_stall_s",
            "f8",
        ),  # time in virtual devices, less what those operations would take on the idle bare disk
        ("device_limit", "f8"),  # progress at which the thread of a virtual device has no time left, or its IOMMU
        ("disk_own_mib_per_s", "f8"),  # through its virtual disk at full progress: the application's
        ("disk_requests_per_s", "f8"),  # ... and with the guest's paging
        ("disk_moved_mib_per_s", "f8"),
        ("net_moved_mib_per_s", "f8"),  # through its NIC
        ("disk_cpu", "f8"),  # vCPU time that these take beyond the guest's own stack
        ("nic_cpu", "f8"),
        ("disk_backend_cpu", "f8"),  # ... and pCPUs of the backends
        ("nic_backend_cpu", "f8"),
        ("disk_device_limit", "f8"),  # progress at which a thread of the device has no time left
        ("nic_device_limit", "f8"),
        ("disk_device_s", "f8"),  # time of an operation in the virtual device
        ("nic_device_s", "f8"),
        ("disk_latency_s", "f8"),  # of one operation, as the guest sees it
        ("net_latency_s", "f8"),  # of one packet between guest and link
        ("disk_wait_s", "f8"),  # of one operation at the host's disk
        ("net_want_mib_per_s", "f8"),  # what its device can send
        ("net_grant", "f8"),  # progress that its part of the link allows
        ("disk_most", "f8"),  # progress that its part of the host's disk allows, where it is divided
        ("limit_left", "f8"),  # share of the disk that its limit leaves it beyond what it was given
        ("unqueued_s", "f8"),  # scratch of a division of the disk: what a second's work takes without its queue
        ("disk_waits", "f8"),  # ... and operations that wait in it
        (
            "read_want",
            "f8",
        ),  # scratch of a division of the disk: what its reads and its application's I/O would take alone
        ("want", "f8"),  # scratch of a division: what it asks for
        ("given", "f8"),  # ... and gets
        ("disk_allowed", "f8"),  # ... and what its limit allows in this second, share of the disk
        ("per_operation", "f8"),  # ... operations in a second of the disk as it uses it, over those that it can do
        ("disk_tokens", "f8"),  # left for bursts, seconds of the disk
        ("disk_shares", "f8"),
        ("net_shares", "f8"),
        ("cpu_want", "f8"),  # pCPUs at full progress
        ("cpu_grant", "f8"),  # share of that which it gets
        ("busy_share", "f8"),  # of a second of full progress without any wait, exits included
        ("false_read_mib", "f8"),  # freed pages read back from host swap in the last tick
        ("double_paged_mib", "f8"),  # evicted pages read from host swap in the last tick, to be written to guest swap
        ("zeroed_mib", "f8"),  # free pages read from host swap in the last tick, because a balloon's kernel zeroes them
        ("ahead_pages", "f8"),  # pages of host swap that are read in order in the time of one that is not
        ("granted_mib", "f8"),  # scratch of one tick from here: growth that gets memory
        ("inflate_mib", "f8"),  # what the balloon takes
        ("missing_goal_mib", "f8"),  # what reclaim must leave missing; below 0: nothing needs to leave
        ("moving", "f8"),  # 1: workload pages come or go
        ("starving", "f8"),  # 1: allocations find nothing to evict
        ("held_up", "f8"),  # share of the second that it waits because devices can read no more
        ("working", "f8"),  # 1: the workload runs
        ("done", "f8"),  # share of the tick's work that gets done
        ("io_mib", "f8"),  # through its disk
        ("next_missing_mib", "f8", (TIERS,)),  # S_k - R_k after the tick
        ("fault_in_mib", "f8", (TIERS,)),  # faulted in during the tick
        ("progress", "f8"),  # of the last tick, 0..1
        ("admitted", "f8"),  # 1: the hypervisor has started it
        ("arrive_in_s", "f8"),  # seconds until it is to be started
        ("down_s", "f8"),  # seconds until a killed workload runs again
        ("held_back", "f8"),  # share of a second for which its vCPUs stand still: a migration throttles or stops it
        ("refilling", "f8"),  # 1 after a kill until the working set is back
        ("process_s", "f8"),  # since its process was started
        ("heap_mib", "f8"),  # a JVM's heap
        ("heap_ballooned_mib", "f8"),  # taken out of it by a balloon that sits in it
        ("heap_time", "f8"),  # time of a second's work over that in the whole heap, compilation included
        ("heap_stall_s", "f8"),  # collections of this second that make room for a balloon
        ("gc_share", "f8"),  # of the time in its heap, spent collecting
        ("full_pause_s", "f8"),  # of a full collection as things are
        ("idle_s", "f8"),  # for which its application has been idle
        ("ungrown_mib", "f8", (TIERS,)),  # what its heap leaves of the demand; negative where it is larger
        ("starved_s", "f8"),  # seconds for which allocations found no memory
        ("psi_some10", "f8"),  # share of time stalled on memory as the guest sees it, ten-second average
        ("host_psi_some10", "f8"),  # ... as the host sees it: waits for host swap
        ("sample_cpu_s", "f8"),  # sampling of active memory: CPU time at which its period began
        ("sample_progress_s", "f8"),  # ... and progress
        ("sample_periods", "f8"),  # periods finished
        ("sampled_share", "f8"),  # of guest memory, touched in the last of them
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
        ("ready_s", "f8"),  # runnable vCPUs that waited for a pCPU
        ("asked_s", "f8"),  # seconds for which it wanted to run
        ("progress_s", "f8"),
        ("slo_violation_s", "f8"),
        ("oom_kills", "f8"),
        ("failed_starts", "f8"),  # 1: its start was given up
        ("charged_s", "f8"),  # of its work, for kills and a failed start
        ("heap_errors", "f8"),  # OutOfMemoryErrors of a JVM
        ("gc_s", "f8"),  # seconds that a JVM has spent collecting
        ("host_stalled_s", "f8"),  # waits for host swap
        ("report_answered", "f8"),  # 0: the driver has said nothing yet
        ("report_age_s", "f8"),  # since the balloon driver last reported; the rest is what it said
        ("report_free_mib", "f8"),
        ("report_available_mib", "f8"),
        ("report_total_mib", "f8"),
        ("report_caches_mib", "f8"),
        ("report_swap_in_mib", "f8"),
        ("report_swap_out_mib", "f8"),
        ("report_major_faults", "f8"),
        ("report_committed_mib", "f8"),
    ]
)

STATES = 4
"""Thresholds of a hypervisor's memory states: state 0 is ample, each threshold that free memory is below adds 1."""

HOST_SPEC = record(
    [
        ("ram_mib", "f8"),
        ("own_mib", "f8"),  # hypervisor, and for Type 2 the host operating system
        ("state_mib", "f8", (STATES,)),  # free memory below which the next state begins, falling
        ("swaps", "f8"),  # 1: it swaps VMs out when memory is short
        ("limited", "f8"),  # 1: some VM has a limit of host memory from the start
        ("min_free_mib", "f8"),  # free memory below which it does; where it commits, what growing VMs leave free
        ("block_state", "f8"),  # state from which VMs above their share stand still
        ("large_state", "f8"),  # state from which large pages are split so that they can be shared
        ("goal_free_mib", "f8"),  # when it reclaims, it does so until this is free
        ("pages_restarts", "f8"),  # 1: swap serves VMs that are starting, and nothing else
        ("admission", "i8"),  # rule by which VMs are started, see ``admission``
        ("victims_know_ages", "f8"),  # 0: victims are random, else the oldest go first; see ``victims``
        (
            "victims_a",
            "f8",
        ),  # how much a page is spared that is touched x times while an untouched one leaves: 1 + a x + b x^2
        ("victims_b", "f8"),
        ("cache_weight", "f8"),  # host page cache: willingness to swap VMs rather than drop it; 0: VM I/O bypasses it
        ("writes_behind", "f8"),  # 1: VM memory is a mapped file that the host writes back every 30 s
        ("scan_pages_per_s", "f8"),  # page sharing at the start of an episode; 0: off
        ("scan_cpu_s", "f8"),  # page sharing: CPU time per page scanned
        ("zip_load_s", "f8"),
        ("zip_store_s", "f8"),
        ("swap_mib", "f8"),
        ("swap_is_disk", "f8"),  # 1: host swap lies on the disk that everything uses
        ("swap_iops", "f8"),
        ("swap_latency_s", "f8"),
        ("swap_mib_per_s", "f8"),
        ("swap_stored_share", "f8"),  # of swapped memory that stays in RAM (host zram)
        ("pcpus", "f8"),
        ("own_cpu_share", "f8"),  # of the pCPUs, for hypervisor and host operating system
        ("cpu_limited", "f8"),  # 1: a VM has a limit, which holds on an idle host too
        ("watching_cpu", "f8"),  # pCPUs that watching pages takes all the time
        ("commits", "f8"),  # 1: memory is committed to VMs (``committed`` of each)
        ("disk_iops", "f8"),  # 4 KiB random operations per second, saturated
        ("disk_latency_s", "f8"),  # of one operation on an idle device
        ("disk_mib_per_s", "f8"),  # sequential
        ("nic_mib_per_s", "f8"),
        ("divides_disk", "f8"),  # 1: by reservations, limits and shares from the start; 0: first come, first served
        ("divides_net", "f8"),
    ]
)

HOST = record(
    [
        ("seed", "i8"),  # of the episode, for what the host draws
        ("clock_s", "f8"),  # seconds since reset
        ("free_mib", "f8"),
        ("state", "f8"),
        ("reclaims", "f8"),  # 1: a policy has asked for memory of VMs
        ("limited", "f8"),  # 1: some VM has, or has had, a limit of host memory
        ("shared_mib", "f8"),  # merged pages of all VMs
        ("cache_mib", "f8"),  # page cache of a host that VM I/O passes through
        ("scan_pages_per_s", "f8"),  # page sharing; 0: off
        ("lru_age_s", "f8"),  # T: age at which pages of all VMs left when it last swapped
        ("calm_s", "f8"),  # seconds since: no page is older than both together
        ("waiting", "f8"),  # VMs that have not been started
        ("deflate_share", "f8"),  # of the growth that VMs ask for, what free memory allows
        ("swap_used_mib", "f8"),
        ("swap_order", "f8"),  # how far swapped pages still lie in the order in which they are read, 0..1
        ("disk_utilisation", "f8"),
        ("disk_wait_s", "f8"),  # latency of one operation, queueing included
        ("write_backlog_mib", "f8"),  # swap writes and write-back that the disk has not served yet
        ("swap_utilisation", "f8"),
        ("swap_wait_s", "f8"),
        ("swap_backlog_mib", "f8"),
        ("divides_disk", "f8"),  # 1: disk or network are divided by reservations, limits and shares
        ("divides_net", "f8"),
        ("cpu_utilisation", "f8"),  # of the last tick, by the VMs and by watching their pages
        ("tax_cpu", "f8"),  # pCPUs that scanning, compressing and the backends of devices took in the last tick
        ("pass_left_s", "f8"),  # CPU time that a pass over accessed bits still takes (``scanning``)
        ("swap_in_mib", "f8"),  # counters
        ("swap_out_mib", "f8"),
        ("swapping_s", "f8"),
        ("tick_swap_mib", "f8"),  # scratch: swapped in within the tick
        ("tick_io_mib", "f8"),  # scratch: VM I/O that passed through the host
        ("tick_reread_mib", "f8"),  # scratch: the part of it that guests had written out before
        ("tick_evicted_mib", "f8"),  # scratch: what guests have evicted to their disks, before this tick
        ("tick_shares", "f8"),  # scratch: sum of the VMs' memory shares
        ("tick_cpu", "f8"),
        ("tick_net_mib_per_s", "f8"),
        ("tick_running", "f8"),  # scratch: VMs that have been started
        ("disk_spare", "f8"),  # scratch: share of the disk that nobody has planned to use, for each of its VMs
        ("swap_spare", "f8"),  # ... of a swap device of its own
        ("page_write_s", "f8"),  # scratch: for how long the disk writes a MiB of pages one by one
        ("run_write_s", "f8"),  # ... and of pages that lie together
        ("write_part", "f8"),  # ... and what of its time each VM's writes may take before reads
        ("ahead_pages", "f8"),  # scratch: pages of its swap that are read in order in the time of one that is not
        ("kernel_room_mib", "f8"),  # scratch: what one thread reads of its swap in a second, page by page
        ("swap_fit", "f8"),  # ... and the part of what its VMs plan to read that this can serve
    ]
)

DEMAND = record(
    [
        ("tier_mib", "f8", (TIERS,)),  # wanted S_k
        ("cpu_share", "f8"),  # of the VM's vCPUs
        ("disk_mib_per_s", "f8"),
        ("net_mib_per_s", "f8"),
    ]
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
