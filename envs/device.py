"""A virtual device as a scenario names it: one YAML of ``conf/nic`` or ``conf/disk``, and what it means on a machine.

`DeviceModel` counts cycles, copies and notifications (``model.devices.emulation`` says what of); `Cycles` divides them between the
vCPU's thread and the backend's, and `fill` writes them as seconds into a row of `params.DEVICE`. The laboratory bench
(``lab.device``) and the host (``specs``) read the same figures. The compiled model is imported where it is needed, for a list
of scenarios must not wait for numba.
"""

import dataclasses
import math
from typing import Literal, NamedTuple

import numpy as np

from hvgym.envs.errors import InputError
from hvgym.envs.schema import number

Iommu = Literal["pinned", "deferred", "strict"]
"""How a passed-through device's addresses are mapped: the whole VM once, or each DMA, flushed in batches or each time."""

IOMMU_PAGE_BYTES = 4096.0
"""Pages of the buffers through which a passed-through device streams."""


@dataclasses.dataclass(frozen=True)
class DeviceModel:
    """What a request costs. Counts are per request; `exits` are per notification, which is a request when `batch_most` is 1.

    `backend` says where the host's work is done: in the vCPU's own thread, or in another.
    """

    name: str
    description: str
    kind: Literal["emulated", "paravirtual", "passthrough"]
    guest_cycles: float = number(above=0)
    exits: float = number(least=0)
    exit_cycles: float = number(least=0)
    depth: float = number(least=1)
    backend: Literal["vcpu", "thread"] = "thread"
    pollution_cycles: float = number(0.0, least=0)
    world_switches: float = number(0.0, least=0)
    system_calls: float = number(0.0, least=0)
    host_cycles: float = number(0.0, least=0)
    copies: float = number(0.0, least=0)
    segments: float = number(1.0, least=1)
    window_us: float = number(0.0, least=0)
    batch_most: float = number(1.0, least=1)

    def __post_init__(self) -> None:
        if self.kind == "passthrough" and self.host_cycles + self.copies > 0.0:
            raise InputError(
                f"copies={self.copies:g}, host_cycles={self.host_cycles:g}: a passed-through device has no backend; leave them out"
            )
        if self.batch_most > 1.0 and self.world_switches + self.system_calls > 0.0:
            raise InputError(
                f"batch_most={self.batch_most:g}: world_switches and system_calls are not batched; leave it at 1"
            )

    @property
    def passes_through(self) -> bool:
        """Whether the guest drives the hardware itself; then its memory is pinned."""
        return self.kind == "passthrough"


class Cycles(NamedTuple):
    """Cycles of a request in the vCPU's thread beside the guest's own stack, of a notification, of a request in the backend's
    thread; and of a byte that is copied, in either."""

    vcpu: float
    notice: float
    backend: float
    vcpu_byte: float
    backend_byte: float


def cycles(model: DeviceModel, iommu: Iommu) -> Cycles:
    """Who spends what on a request."""
    from hvgym.envs.model.devices import emulation

    mapped = {"pinned": emulation.PINNED, "deferred": emulation.DEFERRED, "strict": emulation.STRICT}
    switches = emulation.trap_cycles(0.0, 0.0, model.world_switches, model.system_calls)
    notice = emulation.trap_cycles(model.exits, model.exit_cycles + model.pollution_cycles, 0.0, 0.0)
    kind = mapped[iommu] if model.passes_through else emulation.SOFTWARE
    walk = emulation.translation_cycles(kind, model.segments)
    work, byte = model.host_cycles + walk, emulation.copy_cycles(model.copies, 1.0)
    if model.passes_through or model.backend == "vcpu":  # the guest's own driver maps, or the vCPU does all
        return Cycles(switches + work, notice, 0.0, byte, 0.0)
    return Cycles(switches, notice, work, 0.0, byte)


def fill(model: DeviceModel | None, clock_ghz: float, iommu: Iommu, row: np.void) -> None:
    """Write a device of one VM into a row of `params.DEVICE`; None is the bare machine's own."""
    from hvgym.envs.model.devices import emulation

    row["batch_most"] = row["depth"] = 1.0
    row["iotlb_mib_per_s"] = math.inf
    if model is None:
        row["depth"] = math.inf
        return
    each, cycle_s = cycles(model, iommu), 1e-9 / clock_ghz
    row["present"] = 1.0
    row["guest_s"] = model.guest_cycles * cycle_s
    row["request_s"], row["notice_s"], row["backend_s"] = (
        value * cycle_s for value in (each.vcpu, each.notice, each.backend)
    )
    row["request_s_per_mib"], row["backend_s_per_mib"] = (
        value * cycle_s * 2**20 for value in (each.vcpu_byte, each.backend_byte)
    )
    row["window_s"], row["batch_most"], row["depth"] = 1e-6 * model.window_us, model.batch_most, model.depth
    if model.passes_through:
        row["iotlb_mib_per_s"] = emulation.iotlb_per_s(1.0, IOMMU_PAGE_BYTES) / 2**20
