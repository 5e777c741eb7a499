"""A JVM guest: what its heap costs, and what it costs to take memory from it.

Modelled. Time of a workload in a heap of h times the smallest it survives in is T(h) = t0 + a / (h - b), relative to an
ample heap; this is the physical g L / (s (H - L)) with live set L = b and implied speed s = g b / a (g: allocation
rate). Below h = 1 the JVM throws OutOfMemoryError and its process starts anew, below 1.05 it does little but collect.
 - A heap is used up, and collected, every (H - L) / g seconds. A full collection goes through all live memory, and pages
   of it that are swapped are read one after the other unless several threads collect: that takes seconds to minutes.
   A young collection goes through the young generation's survivors only.
 - Heap and non-heap memory that the guest has no room for is read again once per cycle, and other pages leave for it:
   least-recently-used replacement has nothing to hold on to under such a sweep.
 - A heap-aware balloon (VMware's EM4J: large objects inside the heap) takes the same memory out of the heap instead.
   It pays with the collection that makes room, and by T(h) from then on. It cannot go below the live data.
 - Elastic heaps: HotSpot keeps 40-70 % of a heap free after a full collection; G1 asked to collect when idle returns
   the rest, ZGC returns unused memory after five minutes. Neither goes below Xms.
 - After each start of the process code is interpreted, then compiled: speed is 1 - 0.6 exp(-t / 2.5 s).

Left out: concurrent collection beside the mutator (in `a` of the workload, which was measured with G1), the time that
collections of one JVM take from its neighbours, compressed pointers' limit at 32 GiB, NUMA, class-data sharing,
workloads that allocate less on fewer CPUs. Allocation is spread evenly. How a heap in a VM follows its load is in ``heap``.

Sources: heap curves and warm-up from DaCapo 23.11 (OpenJDK 21, G1, 32 threads of a Ryzen 7950X), whose implied speed
is 0.6-1 GB/s per collecting thread; parameters per workload in ``conf/jvm``; the balance of heaps from MemBalancer
(OOPSLA 2022); uncommit from JEP 346 and JEP 351; paged collections from the bookmarking collector (PLDI 2005); flag
defaults of HotSpot and non-heap sizes recalled. The form of the warm-up is a design choice, its two figures are set so
that the first iteration takes 1.45 times as long as later ones.
"""

import math

from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import PAGES_PER_MIB

GC_MIB_PER_S_PER_THREAD = 0.8e9 / 2**20
"""Live memory that one thread collects: 0.8 GB/s, the middle of 0.6-1."""

FINE, STORM, OUT_OF_MEMORY = 0, 1, 2
STORM_BELOW = 1.05
"""Heap over the smallest heap below which a JVM does little but collect (a guess)."""

WARMUP_DEPTH, WARMUP_S = 0.6, 2.5
"""Speed lost at the start, and time constant of the way up (design choice within 2-5 s)."""

WARM_AFTER = 40.0
"""So many time constants on, a double no longer knows that it was ever cold."""

INTERPRETER_TIMES, C1_TIMES = 12.6, 1.54
"""Time of a workload that is only interpreted, or only compiled by C1, over the default's; geometric means of 22."""

LEAST_FREE_SHARE, MOST_FREE_SHARE = 0.4, 0.7
"""Of a heap after a full collection, HotSpot's MinHeapFreeRatio and MaxHeapFreeRatio (recalled)."""

NEVER, G1_PERIODIC, ZGC = 0, 1, 2
"""How a heap shrinks while its application idles."""

ZGC_UNCOMMIT_S = 300.0
"""ZUncommitDelay (recalled)."""

SURVIVED_SHARE = 0.05
"""Of the young generation, alive at a young collection (a guess; most objects die young)."""

METASPACE_MIB, CODE_CACHE_MIB, STACK_MIB, GC_STRUCTURES_SHARE = 100.0, 100.0, 1.0, 0.1
"""Beside the heap: classes 50-250, compiled code 48-240, a thread's stack, G1's tables 5-15 % of the heap (recalled)."""


@compiled
def relative_time(heap_times: float, t0: float, a: float, b: float) -> float:
    """T(h): time of a unit of work over that in a heap of ten times the smallest; infinite where the JVM runs out."""
    return t0 + a / (heap_times - b) if heap_times >= 1.0 else math.inf


@compiled
def gc_share(heap_times: float, t0: float, a: float, b: float) -> float:
    """Share of the time that goes to collection: 1 - t0 / T(h)."""
    return 1.0 - t0 / relative_time(heap_times, t0, a, b)


@compiled
def heap_state(heap_mib: float, least_heap_mib: float) -> int:
    """FINE, STORM or OUT_OF_MEMORY."""
    if heap_mib < least_heap_mib:
        return OUT_OF_MEMORY
    return STORM if heap_mib < STORM_BELOW * least_heap_mib else FINE


@compiled
def collection_load(heap_mib: float, live_mib: float, alloc_mib_per_s: float, gc_mib_per_s: float) -> float:
    """Seconds of collection in a second of work: g L / (s (H - L)); infinite in a heap that live data fill."""
    room = heap_mib - live_mib
    return alloc_mib_per_s * live_mib / (gc_mib_per_s * room) if room > 0.0 else math.inf


@compiled
def cycle_s(heap_mib: float, live_mib: float, alloc_mib_per_s: float) -> float:
    """Seconds of work that use up what a full collection leaves free."""
    return max(heap_mib - live_mib, 0.0) / alloc_mib_per_s if alloc_mib_per_s > 0.0 else math.inf


@compiled
def read_s(swapped_mib: float, fault_s: float, pages_per_read: float, reads_at_once: float) -> float:
    """Time to read swapped memory back: a fault brings `pages_per_read` pages, and several threads may fault at once."""
    return swapped_mib * PAGES_PER_MIB * fault_s / (pages_per_read * reads_at_once)


@compiled
def full_pause_s(
    live_mib: float,
    swapped_share: float,
    gc_mib_per_s: float,
    fault_s: float,
    pages_per_read: float,
    reads_at_once: float,
) -> float:
    """Pause of a full collection with this share of live memory in swap: L / s + reading p L."""
    return live_mib / gc_mib_per_s + read_s(swapped_share * live_mib, fault_s, pages_per_read, reads_at_once)


@compiled
def young_pause_s(young_mib: float, survived_share: float, gc_mib_per_s: float) -> float:
    """Pause of a young collection, which copies survivors. Its memory was just allocated, and is in RAM."""
    return young_mib * survived_share / gc_mib_per_s


@compiled
def non_heap_mib(heap_mib: float, threads: float) -> float:
    """Memory of a JVM beside its heap."""
    return METASPACE_MIB + CODE_CACHE_MIB + STACK_MIB * threads + GC_STRUCTURES_SHARE * heap_mib


@compiled
def paging_load(short_mib: float, cycle: float, fault_s: float, pages_per_read: float, reads_at_once: float) -> float:
    """Seconds of reading in a second of work: memory that the guest lacks is read once per cycle (seconds of work)."""
    if short_mib <= 0.0:
        return 0.0
    return read_s(short_mib, fault_s, pages_per_read, reads_at_once) / cycle if cycle > 0.0 else math.inf


@compiled
def heap_balloon_mib(asked_mib: float, heap_mib: float, least_heap_mib: float) -> float:
    """What a heap-aware balloon takes: what is asked for, as far as the heap stays out of a storm of collections."""
    return min(max(asked_mib, 0.0), max(heap_mib - STORM_BELOW * least_heap_mib, 0.0))


@compiled
def heap_aware_time(taken_mib: float, heap_mib: float, least_heap_mib: float, t0: float, a: float, b: float) -> float:
    """T(h) of the heap that a heap-aware balloon leaves."""
    return relative_time((heap_mib - taken_mib) / least_heap_mib, t0, a, b)


@compiled
def resized_heap_mib(committed_mib: float, live_mib: float, xms_mib: float, xmx_mib: float) -> float:
    """Heap after a full collection: as it was, as far as 40-70 % of it are free, within Xms and Xmx."""
    least, most = live_mib / (1.0 - LEAST_FREE_SHARE), live_mib / (1.0 - MOST_FREE_SHARE)
    return min(max(min(max(committed_mib, least), most), xms_mib), xmx_mib)


@compiled
def idle_heap_mib(
    collector: int, committed_mib: float, live_mib: float, xms_mib: float, idle_s: float, wait_s: float
) -> float:
    """Heap of an application idle for this long; `wait_s` is G1's interval (0: off) or ZGC's delay."""
    if collector == NEVER or wait_s <= 0.0 or idle_s < wait_s:
        return committed_mib
    if collector == ZGC:
        return max(min(committed_mib, live_mib), min(xms_mib, committed_mib))
    return min(resized_heap_mib(committed_mib, live_mib, xms_mib, committed_mib), committed_mib)


@compiled
def warm_speed(age_s: float) -> float:
    """Speed of a process that has run for this long, over that of a warm one."""
    if age_s > WARM_AFTER * WARMUP_S:
        return 1.0
    return 1.0 - WARMUP_DEPTH * math.exp(-age_s / WARMUP_S)


@compiled
def warm_work_s(age_s: float) -> float:
    """Work done since the start, in seconds of a warm process."""
    return age_s - WARMUP_DEPTH * WARMUP_S * (1.0 - math.exp(-age_s / WARMUP_S))


@compiled
def age_after_s(work_s: float, age_s: float) -> float:
    """Age at which a process of `age_s` has done `work_s` more: by bisection."""
    goal = warm_work_s(age_s) + work_s
    low, high = age_s, age_s + work_s / (1.0 - WARMUP_DEPTH)
    for _ in range(60):
        middle = 0.5 * (low + high)
        if warm_work_s(middle) < goal:
            low = middle
        else:
            high = middle
    return high


@compiled
def restart_loss_s(down_s: float) -> float:
    """Work lost to an OutOfMemoryError or another restart: while down, and while warming up."""
    return down_s + WARMUP_DEPTH * WARMUP_S


@compiled
def compiled_time(interpreted_share: float, c1_share: float, interpreter_times: float) -> float:
    """Time over the default's when these shares of the work are only interpreted, or compiled by C1 only."""
    rest = 1.0 - interpreted_share - c1_share
    return interpreted_share * interpreter_times + c1_share * C1_TIMES + rest


@compiled
def progress(heap_times: float, t0: float, a: float, b: float, paging: float, age_s: float) -> float:
    """Work done in a second over that of a warm JVM which never collects nor pages; `paging`: see `paging_load`."""
    return warm_speed(age_s) * t0 / (relative_time(heap_times, t0, a, b) + paging)


@compiled
def balanced_room(live_mib: float, alloc_mib_per_s: float, gc_mib_per_s: float) -> float:
    """MemBalancer's weight of a heap: memory above the live sets is best divided by sqrt(L g / s)."""
    return (live_mib * alloc_mib_per_s / gc_mib_per_s) ** 0.5
