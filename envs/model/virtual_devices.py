"""What a VM's virtual disk and NIC take in a tick: CPU time of the vCPU and of the backend, waits, and a rate they never pass.

Modelled. A second of full progress sends so many requests through each device (the application's, and the guest's own paging
through its disk). Each costs what ``emulation`` says: the vCPU pays for traps, copies and whatever an emulated device does in
its thread, the host's pCPUs for the backend's thread. A device has one queue, served by one thread on either side, so it
carries no more than one CPU's worth of either; an IOMMU translates no more than its cache misses allow. Progress stays below
that. Operations that somebody waits for take longer by the device's own work, by the gathering of a batch, and by the queue
of the application's requests before them.

What the guest's own stack takes of the CPU is in the workload's demand for CPU already, and counts only where it fills the
thread of one vCPU. Left out: what paging adds to the queue of a device's thread (it waits for itself), several queues.

Sources: ``emulation``; device figures stand in ``conf/nic`` and ``conf/disk``.
"""

from typing import Any

from hvgym.envs.model import emulation
from hvgym.envs.model.compiled import compiled
from hvgym.envs.model.params import DemandRecord, VmRecord, VmSpecRecord

DeviceRecord = Any


@compiled
def vcpu_s(device: DeviceRecord, per_s: float, mib_per_s: float) -> float:
    """CPU time of the vCPU for so many requests, beyond the guest's own stack."""
    used = emulation.used_cpu(per_s, device.request_s, device.notice_s, device.window_s, device.batch_most)
    return used + mib_per_s * device.request_s_per_mib


@compiled
def backend_s(device: DeviceRecord, per_s: float, mib_per_s: float) -> float:
    """CPU time of the backend's thread."""
    return per_s * device.backend_s + mib_per_s * device.backend_s_per_mib


@compiled
def occupancy(device: DeviceRecord, per_s: float, mib_per_s: float) -> float:
    """Share of a second that the busiest part of the device is busy for: the vCPU's thread, the backend's, or its IOMMU."""
    own = vcpu_s(device, per_s, mib_per_s) + per_s * device.guest_s
    return max(own, backend_s(device, per_s, mib_per_s), mib_per_s / device.iotlb_mib_per_s)


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
def charge(
    vm: VmRecord, spec: VmSpecRecord, demand: DemandRecord, requests_per_s: float, paging_per_s: float, mib_per_s: float
) -> float:
    """Set what a second of full progress takes in the devices; return the vCPUs' part in CPU seconds.

    Of the disk's requests, `paging_per_s` are the guest's own; `mib_per_s` is all that goes through it.
    """
    vm.device_limit, vm.backend_cpu = 1.0, 0.0
    vm.disk_latency_s = vm.net_latency_s = 0.0
    used = 0.0
    if spec.disk.present > 0.0 and requests_per_s > 0.0:
        used += vcpu_s(spec.disk, requests_per_s, mib_per_s)
        vm.backend_cpu += backend_s(spec.disk, requests_per_s, mib_per_s)
        vm.device_limit = min(1.0, 1.0 / occupancy(spec.disk, requests_per_s, mib_per_s))
        vm.disk_latency_s = latency_s(spec.disk, requests_per_s - paging_per_s, demand.disk_mib_per_s)
    if spec.nic.present > 0.0 and demand.net_mib_per_s > 0.0:
        packets_per_s = demand.net_mib_per_s * spec.packets_per_mib
        used += vcpu_s(spec.nic, packets_per_s, demand.net_mib_per_s)
        vm.backend_cpu += backend_s(spec.nic, packets_per_s, demand.net_mib_per_s)
        vm.device_limit = min(vm.device_limit, 1.0 / occupancy(spec.nic, packets_per_s, demand.net_mib_per_s))
        vm.net_latency_s = latency_s(spec.nic, packets_per_s, demand.net_mib_per_s)
    return used
