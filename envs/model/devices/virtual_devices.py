"""What a VM's virtual disk and NIC take in a tick: CPU time of the vCPU and of the backend, waits, and a rate they never pass.

Modelled. A second of full progress sends so many requests through each device (the application's, and the guest's own paging
through its disk). Each costs what ``emulation`` says: the vCPU pays for traps, copies and whatever an emulated device does in
its thread, the host's pCPUs for the backend's thread. A device has one queue, served by one thread on either side, so it
carries no more than one CPU's worth of either; an IOMMU translates no more than its cache misses allow. Progress stays below
that. Operations that somebody waits for take longer by the device's own work, by the gathering of a batch, and by the queue
of the application's requests before them; who waits sends less, so the queue is taken at the rate at which both agree.

What the guest's own stack takes of the CPU is in the workload's demand for CPU already, and counts only where it fills the
thread of one vCPU. Left out: what paging adds to the queue of a device's thread (it waits for itself), several queues.

Sources: ``emulation``; device figures stand in ``conf/nic`` and ``conf/disk``.
"""

import math
from typing import Any

from hvgym.envs.model.compiled import compiled, inlined
from hvgym.envs.model.devices import emulation
from hvgym.envs.model.params import DemandRecord, VmRecord, VmSpecRecord

DeviceRecord = Any


@compiled
def used_s(device: DeviceRecord, per_s: float, mib_per_s: float) -> tuple[float, float, float]:
    """CPU time that so many requests take of the vCPU beyond the guest's own stack, and of the backend's thread; and for what
    share of a second the busiest part of the device is busy: the vCPU's thread, the backend's, or its IOMMU."""
    own = emulation.used_cpu(per_s, device.request_s, device.notice_s, device.window_s, device.batch_most)
    own += mib_per_s * device.request_s_per_mib
    backend = per_s * device.backend_s + mib_per_s * device.backend_s_per_mib
    return own, backend, max(own + per_s * device.guest_s, backend, mib_per_s / device.iotlb_mib_per_s)


@compiled
def latency_s(device: DeviceRecord, per_s: float, mib_per_s: float) -> float:
    """Time of one request in the device when the application sends so many, without the hardware behind it."""
    mib = mib_per_s / max(per_s, 1e-9)
    return emulation.latency_s(
        per_s,
        device.request_s + mib * device.request_s_per_mib,
        device.notice_s,
        device.backend_s + mib * device.backend_s_per_mib,
        device.window_s,
        device.batch_most,
        1.0,
        1.0,
        0.0,
        device.depth,
    )


@compiled
def pace(load: float, waits_per_s: float, service_s: float) -> float:
    """Share of its rate at which an application sends that would fill the busiest thread to `load`, and waits so often for it.

    A second's work takes 1 / x = 1 + n s y / (2 (1 - y)) with y = x load, the wait of an M/D/1 queue of service s.
    """
    half = 0.5 * waits_per_s * service_s
    return 2.0 / (1.0 + load + math.sqrt((1.0 - load) * (1.0 - load) + 4.0 * half * load))


@compiled
def waited_s(device: DeviceRecord, per_s: float, mib_per_s: float, load: float, waits_per_s: float) -> float:
    """Latency of a request at the rate that an application can keep up which waits for so many of them; `load` if it never
    waited."""
    x = pace(load, waits_per_s, load / max(per_s, 1e-9))
    return latency_s(device, x * per_s, x * mib_per_s)


@inlined
def _charge_disk(vm: VmRecord, spec: VmSpecRecord, per_s: float, mib_per_s: float) -> None:
    """What all requests of the disk take."""
    vm.disk_requests_per_s, vm.disk_moved_mib_per_s = per_s, mib_per_s
    vm.disk_cpu, vm.disk_backend_cpu, load = used_s(spec.disk, per_s, mib_per_s)
    vm.disk_device_limit = 1.0 / load if load > 1.0 else 1.0


@compiled
def _set_disk_latency(vm: VmRecord, spec: VmSpecRecord, per_s: float, mib_per_s: float) -> None:
    """How long a request takes in the device behind the application's own."""
    vm.disk_own_mib_per_s = mib_per_s
    _, _, load = used_s(spec.disk, per_s, mib_per_s)
    vm.disk_device_s = waited_s(spec.disk, per_s, mib_per_s, load, spec.disk_waits_per_s)


@compiled
def _charge_nic(vm: VmRecord, spec: VmSpecRecord) -> None:
    """What packets take."""
    packets_per_s = vm.net_moved_mib_per_s * spec.packets_per_mib
    vm.nic_cpu, vm.nic_backend_cpu, load = used_s(spec.nic, packets_per_s, vm.net_moved_mib_per_s)
    vm.nic_device_limit = 1.0 / load if load > 1.0 else 1.0
    vm.nic_device_s = waited_s(spec.nic, packets_per_s, vm.net_moved_mib_per_s, load, spec.net_waits_per_s)


@inlined
def charge(
    vm: VmRecord, spec: VmSpecRecord, demand: DemandRecord, own_per_s: float, paging_per_s: float, mib_per_s: float
) -> float:
    """Set what a second of full progress takes in the devices; return the vCPUs' part in CPU seconds.

    The disk has `own_per_s` requests of the application and `paging_per_s` of its guest; `mib_per_s` is what goes through it
    in all. Most seconds are like the one before, so costs are kept and found anew when rates change.
    """
    requests_per_s = own_per_s + paging_per_s
    if spec.disk.present > 0.0:
        if demand.disk_mib_per_s != vm.disk_own_mib_per_s:
            _set_disk_latency(vm, spec, own_per_s, demand.disk_mib_per_s)
        if requests_per_s != vm.disk_requests_per_s or mib_per_s != vm.disk_moved_mib_per_s:
            _charge_disk(vm, spec, requests_per_s, mib_per_s)
    if spec.nic.present > 0.0 and demand.net_mib_per_s != vm.net_moved_mib_per_s:
        vm.net_moved_mib_per_s = demand.net_mib_per_s
        _charge_nic(vm, spec)
    vm.device_limit = min(vm.disk_device_limit, vm.nic_device_limit)
    vm.disk_latency_s, vm.net_latency_s = vm.disk_device_s, vm.nic_device_s
    return vm.disk_cpu + vm.nic_cpu
