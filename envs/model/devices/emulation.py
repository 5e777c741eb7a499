"""What one virtual device costs: exits, copies, address translation, batches; and how fast and how late it is.

Modelled. One queue of a device: a vCPU issues requests (packets or block I/O), a backend serves them. CPU time of a request
is what the guest's driver and stack take, plus exits by their cost, plus copies by the byte, plus the backend's own work
(M9). An emulated device works in the vCPU's own thread, trap by trap; a paravirtual one has a thread of its own (the VMM's,
vhost, Dom0, the hypervisor's kernel); a passed-through one has no backend, and all memory of its VM is pinned. A hosted
hypervisor adds world switches and system calls of the host.

Notifications (kick and interrupt) are shared by the requests that gather in a window: the backend's wake-up or the
interrupt moderation of the hardware. With Poisson arrivals a window opens with a request and holds 1 + rate * window of
them, so notifications per second never pass 1 / window. Waiting is that of an M/D/1 queue at vCPU and backend, plus the
mean wait of a queue whose server starts up (Levy and Kleinrock, Operations Research 1986), which is the gathering.

Translation of guest to host addresses: in software, a walk a segment; by an IOMMU that maps the whole VM once; or by one in
which the guest maps each DMA, flushing each time (strict) or in batches (deferred). Devices that stream through more 4 KiB
pages than the IOTLB holds miss once a page, and one miss after the other is walked (a guess: walks do not overlap).

Left out: several queues, segmentation offload beyond the size of a request, losses of overrun rings, the fight of backend
and vCPU for one core, polling, caches beyond the pollution of exits. Times of CPU work scale with the clock.

Sources of the constants below: Firecracker's specification (25 Gb/s on a core of about 3 GHz: 0.8-1.0 cycles a byte);
Amit et al., WIOSCA 2010, and Malka et al., ASPLOS 2015 (IOMMU: map 200-400 cycles, unmap and flush 1,500-2,100, miss
100-330 ns; recalled); a log of exits of many processors (system call 240-340 cycles). Device figures stand in ``conf/nic``
and ``conf/disk``.
"""

import math

from hvgym.envs.model.compiled import compiled

COPY_CYCLES_PER_BYTE = 0.9
"""A copy of large segments, all handling of a byte included."""

SYSTEM_CALL_CYCLES = 300.0

WORLD_SWITCH_CYCLES = 10_800.0
"""From a hosted monitor to its host, one way: 4 us at 2.7 GHz (a guess; 4.45 us at 733 MHz is recalled for 2001)."""

SOFTWARE_WALK_CYCLES = 150.0
"""Guest to host address in software, a segment (a guess)."""

MAP_CYCLES, UNMAP_CYCLES, FLUSH_CYCLES = 300.0, 200.0, 1600.0
"""IOMMU work for one DMA. Unmap and flush together are the middle of what is published; their parts are a guess."""

IOTLB_MISS_S = 215e-9
"""Walk of the IOMMU's tables: the middle of what is published."""

SOFTWARE, PINNED, DEFERRED, STRICT = range(4)
"""Kinds of translation; PINNED is an IOMMU that maps the whole VM once."""


@compiled
def trap_cycles(exits: float, exit_cycles: float, world_switches: float, system_calls: float) -> float:
    """vCPU time of leaving the guest."""
    return exits * exit_cycles + world_switches * WORLD_SWITCH_CYCLES + system_calls * SYSTEM_CALL_CYCLES


@compiled
def translation_cycles(kind: int, segments: float) -> float:
    """CPU time of finding where the segments of a request lie in host memory."""
    if kind == SOFTWARE:
        return segments * SOFTWARE_WALK_CYCLES
    if kind == PINNED:
        return 0.0
    flush = FLUSH_CYCLES if kind == STRICT else 0.0
    return segments * (MAP_CYCLES + UNMAP_CYCLES + flush)


@compiled
def copy_cycles(copies: float, request_bytes: float) -> float:
    """CPU time of moving the data of a request through the host."""
    return copies * request_bytes * COPY_CYCLES_PER_BYTE


@compiled
def iotlb_per_s(request_bytes: float, page_bytes: float) -> float:
    """Most requests per second that an IOMMU translates when every page of their buffers misses its cache once."""
    return page_bytes / (request_bytes * IOTLB_MISS_S)


@compiled
def gathering_s(per_s: float, window_s: float, batch_most: float) -> float:
    """Length of the window at this rate: a full batch ends it early."""
    return min(window_s, (batch_most - 1.0) / per_s) if per_s > 0.0 else window_s


@compiled
def batch(per_s: float, window_s: float, batch_most: float) -> float:
    """Requests that share a notification."""
    return 1.0 + per_s * gathering_s(per_s, window_s, batch_most)


@compiled
def used_cpu(per_s: float, request_s: float, notice_s: float, window_s: float, batch_most: float) -> float:
    """CPUs that this rate takes, at so much CPU time a request and a notification."""
    return per_s * (request_s + notice_s / batch(per_s, window_s, batch_most))


@compiled
def most_per_s(cpu: float, request_s: float, notice_s: float, window_s: float, batch_most: float) -> float:
    """Rate at which `used_cpu` reaches `cpu`: the root of a quadratic, or where batches are full."""
    if request_s + notice_s <= 0.0:
        return math.inf
    full = request_s + notice_s / batch_most
    if full > 0.0 and cpu / full * window_s > batch_most - 1.0:
        return cpu / full
    b = request_s + notice_s - cpu * window_s
    root = math.sqrt(b * b + 4.0 * request_s * window_s * cpu)
    return 2.0 * cpu / (b + root) if b + root > 0.0 else math.inf


@compiled
def gather_wait_s(per_s: float, window_s: float, batch_most: float) -> float:
    """Mean wait for the notification: the first of a batch waits all of the window, those that join it half."""
    window = gathering_s(per_s, window_s, batch_most)
    return window * (2.0 + per_s * window) / (2.0 * (1.0 + per_s * window))


@compiled
def queue_wait_s(per_s: float, service_s: float, cpu: float, depth: float) -> float:
    """Mean wait in an M/D/1 queue whose server has this share of a CPU, with at most `depth` requests in flight."""
    taken_s = service_s / cpu
    load, longest_s = per_s * taken_s, (depth - 1.0) * taken_s
    return min(0.5 * load * taken_s / (1.0 - load), longest_s) if load < 1.0 else longest_s


@compiled
def latency_s(per_s, vcpu_s, notice_s, backend_s, window_s, batch_most, vcpu, backend, device_s, depth) -> float:  # type: ignore[no-untyped-def]
    """Mean time from issue to completion: `vcpu` and `backend` are CPUs given, `device_s` the hardware's part."""
    vcpu_s = vcpu_s + notice_s / batch(per_s, window_s, batch_most)
    own = vcpu_s / vcpu + backend_s / backend
    waits = queue_wait_s(per_s, vcpu_s, vcpu, depth) + queue_wait_s(per_s, backend_s, backend, depth)
    return own + waits + gather_wait_s(per_s, window_s, batch_most) + device_s
