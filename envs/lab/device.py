"""A NIC or disk on the laboratory bench: requests per second against CPU time and latency, device model by device model.

A device is one YAML of ``conf/nic`` or ``conf/disk`` (``device``); the bench is the machine around it (`Bench`, defaults
in ``conf/lab.yaml``). `play` offers loads and says what is served, at what cost, how late, and what sets the limit. What the
model leaves out stands in ``model.devices.emulation``.
"""

import dataclasses
import importlib.resources
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hvgym.envs.device import DeviceModel, Iommu, cycles
from hvgym.envs.errors import InputError, nearest
from hvgym.envs.lab.guest import checked, merged
from hvgym.envs.model.devices import emulation, io
from hvgym.envs.scenario import group_files, load_group
from hvgym.envs.schema import build, number

GROUPS = ("nic", "disk")

LEAST_LOAD_PER_S, BEYOND, LOADS = 1000.0, 1.5, 61
"""Default loads: from this to `BEYOND` times the fastest device, this many, in equal ratios."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """The machine: clock, CPU given to vCPU and backend, hardware behind the device, sizes; sources in ``conf/lab.yaml``."""

    iommu: Iommu
    clock_ghz: float = number(above=0)
    vcpu_share: float = number(above=0, most=1)
    backend_share: float = number(above=0, most=1)
    scheduling_us: float = number(least=0)
    link_gbps: float = number(above=0)
    wire_us: float = number(above=0)
    packet_bytes: float = number(least=1)
    disk_iops: float = number(above=0)
    disk_latency_us: float = number(above=0)
    block_bytes: float = number(least=1)
    iommu_page_kib: float = number(above=0)

    @staticmethod
    def packaged(**changes: Any) -> "Bench":
        """The bench of ``conf/lab.yaml`` with changes."""
        text = importlib.resources.files("hvgym.conf").joinpath("lab.yaml").read_text()
        return Bench.from_dict(merged(yaml.safe_load(text)["bench"], changes))

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Bench":
        """Check plain data. Raises `InputError` with the key, the value, and what would be right."""
        return build(Bench, data, "bench")


@dataclasses.dataclass(frozen=True)
class Device:
    """A model with the group that it comes from: a NIC's requests are packets, a disk's are blocks."""

    group: str
    model: DeviceModel

    @staticmethod
    def load(name: str, folders: Iterable[str | Path] = ()) -> "Device":
        """Read a device by name. Raises `InputError` for an unknown name or a wrong value."""
        known = {name: group for group in GROUPS for name in group_files(group, folders)}
        if name not in known:
            raise InputError(
                f"device={name!r}: unknown{nearest(str(name), known)}; choose of hvgym list nics or disks, or all of nic or disk"
            )
        data = load_group(known[name], name, folders)
        return Device(known[name], build(DeviceModel, data, f"{known[name]}.{name}"))


class Costs(NamedTuple):
    """A device on a bench: CPU seconds of the vCPU a request and a notification, of the backend a request; and its hardware."""

    vcpu_s: float
    notice_s: float
    backend_s: float
    window_s: float
    batch_most: float
    depth: float
    hardware_per_s: float
    hardware_s: float
    iotlb_per_s: float


@dataclasses.dataclass(frozen=True)
class DeviceRow:
    """A line of lab.csv. CPUs are those of the vCPU's thread and of the backend's; an empty `limit` serves all that is offered."""

    device: str
    offered_per_s: float
    served_per_s: float
    mib_per_s: float
    batch: float
    exits_per_s: float
    vcpu_cpus: float
    backend_cpus: float
    cpus: float
    cycles_per_request: float
    latency_us: float
    limit: str


def costs(device: Device, bench: Bench) -> Costs:
    """Cycles of a device model as times on this bench."""
    model, size, cycle_s = device.model, request_bytes(device, bench), 1e-9 / bench.clock_ghz
    each = cycles(model, bench.iommu)
    return Costs(
        vcpu_s=(model.guest_cycles + each.vcpu + each.vcpu_byte * size) * cycle_s,
        notice_s=each.notice * cycle_s,
        backend_s=(each.backend + each.backend_byte * size) * cycle_s,
        window_s=1e-6 * model.window_us,
        batch_most=model.batch_most,
        depth=model.depth,
        hardware_per_s=hardware_per_s(device, bench),
        hardware_s=1e-6 * (bench.wire_us if device.group == "nic" else bench.disk_latency_us),
        iotlb_per_s=emulation.iotlb_per_s(size, 1024.0 * bench.iommu_page_kib) if model.passes_through else math.inf,
    )


def request_bytes(device: Device, bench: Bench) -> float:
    """Size of a packet or a block."""
    return bench.packet_bytes if device.group == "nic" else bench.block_bytes


def hardware_per_s(device: Device, bench: Bench) -> float:
    """Requests per second of the link or disk behind the device; frames' headers are not counted."""
    return 1e9 * bench.link_gbps / (8.0 * bench.packet_bytes) if device.group == "nic" else bench.disk_iops


def limits(device: Device, bench: Bench) -> dict[str, float]:
    """Requests per second that each part could serve, were it alone."""
    cost = costs(device, bench)
    batching = (cost.window_s, cost.batch_most)
    return {
        "link" if device.group == "nic" else "disk": cost.hardware_per_s,
        "vcpu": emulation.most_per_s(bench.vcpu_share, cost.vcpu_s, cost.notice_s, *batching),
        "backend": emulation.most_per_s(bench.backend_share, cost.backend_s, 0.0, *batching),
        "iotlb": cost.iotlb_per_s,
        "depth": cost.depth / _latency_s(cost, bench, 0.0),
    }


def most_per_s(device: Device, bench: Bench) -> float:
    """The most that the device serves."""
    return min(limits(device, bench).values())


def play(device: Device, bench: Bench, offered_per_s: float) -> DeviceRow:
    """Offer this load for long, and see."""
    cost, most = costs(device, bench), limits(device, bench)
    least = min(most, key=lambda part: most[part])
    served = min(offered_per_s, most[least])
    shared = emulation.batch(served, cost.window_s, cost.batch_most)
    vcpu = emulation.used_cpu(served, cost.vcpu_s, cost.notice_s, cost.window_s, cost.batch_most)
    backend = served * cost.backend_s
    return DeviceRow(
        device=device.model.name,
        offered_per_s=offered_per_s,
        served_per_s=served,
        mib_per_s=served * request_bytes(device, bench) / 2**20,
        batch=shared,
        exits_per_s=served * device.model.exits / shared,
        vcpu_cpus=vcpu,
        backend_cpus=backend,
        cpus=vcpu + backend,
        cycles_per_request=1e9 * bench.clock_ghz * (vcpu + backend) / served,
        latency_us=1e6 * _bounded_latency_s(cost, bench, offered_per_s, served),
        limit=least if served < offered_per_s else "",
    )


def default_loads(devices: Sequence[Device], bench: Bench) -> list[float]:
    """Loads in equal ratios from light to more than any of the devices serves."""
    top = BEYOND * max(most_per_s(device, bench) for device in devices)
    ratio = max(top / LEAST_LOAD_PER_S, 1.0) ** (1.0 / (LOADS - 1))
    return [LEAST_LOAD_PER_S * ratio**i for i in range(LOADS)]


def chosen(names: Sequence[str], folders: Iterable[str | Path] = ()) -> list[Device]:
    """Devices by name; ``nic`` or ``disk`` is all of that group. Raises `InputError` where packets and blocks are mixed."""
    folders = tuple(folders)
    wanted = [name for given in names for name in (sorted(group_files(given, folders)) if given in GROUPS else [given])]
    if not wanted or len(set(wanted)) < len(wanted):
        raise InputError(f"device={list(names)!r}: expected at least one name, none twice")
    devices = [Device.load(name, folders) for name in wanted]
    if len({device.group for device in devices}) > 1:
        raise InputError(f"device={list(names)!r}: packets and blocks do not compare; give NICs or disks")
    return devices


def check_bench(devices: Sequence[Device], bench: Bench) -> None:
    """Raises `InputError` for a choice that none of the devices heeds."""
    if bench.iommu != "pinned" and not any(device.model.passes_through for device in devices):
        raise InputError(f"bench.iommu={bench.iommu!r}: only passed-through devices map for DMA; leave it at pinned")


@dataclasses.dataclass(frozen=True)
class DeviceExperiment:
    """Loads that are offered."""

    offered_per_s: tuple[float, ...] | None = number(above=0)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "DeviceExperiment":
        """Check plain data. Raises `InputError` with the key, the value, and what would be right."""
        experiment = checked(DeviceExperiment, data)
        if experiment.offered_per_s == ():
            raise InputError("offered_per_s=[]: expected at least one load")
        return experiment


def _latency_s(cost: Costs, bench: Bench, per_s: float) -> float:
    """Mean latency with room in the rings, at this rate; the hardware's queue is the disk's of ``model.devices.io``."""
    load = min(per_s / cost.hardware_per_s, io.MAX_UTILISATION)
    hardware = io.wait(cost.hardware_per_s, cost.hardware_s, load) + 1e-6 * bench.scheduling_us
    return emulation.latency_s(
        per_s, cost.vcpu_s, cost.notice_s, cost.backend_s, cost.window_s, cost.batch_most, bench.vcpu_share,
        bench.backend_share, hardware, cost.depth,
    )  # fmt: skip


def _bounded_latency_s(cost: Costs, bench: Bench, offered_per_s: float, served_per_s: float) -> float:
    """A full ring takes its depth over the rate (Little's law); nobody waits longer inside the device."""
    full = cost.depth / served_per_s
    return full if served_per_s < offered_per_s else min(full, _latency_s(cost, bench, offered_per_s))
