"""The machine of a scenario and the hypervisor on it, checked."""

import dataclasses
from typing import Literal

from hvgym.envs.device import DeviceModel, Iommu
from hvgym.envs.errors import InputError
from hvgym.envs.schema import number
from hvgym.envs.seats import Capabilities
from hvgym.envs.vm_group import VmGroup

UNPINNED = ("virtio_mem_vfio", "hyperalloc")
"""Ways to return memory that unmap it from the IOMMU first."""


@dataclasses.dataclass(frozen=True)
class Hypervisor:
    """How a hypervisor differs, by mechanism: its last resort, how guests return memory, what exits cost, its footprint.

    `last_resort`: `linux` swaps below the low watermark (a host's system, too, when the hypervisor runs on it), `esxi` goes
    through minFree's states, `commit` gives each VM its whole size and never swaps. `victims` is how it chooses what to
    swap (``model.host.victims``); a profile that does not say knows nothing of ages. Type 0 is bare metal. `startup` and `limits`
    say what a VM's `startup_mib` and `limit_mib` mean, `disk_limits` which limits of its disk there are (``capabilities``).
    `stats_interval_s` 0 polls nothing. `stock` names the packaged agent that manages memory as the hypervisor is shipped, null is
    none: it runs on beneath policies from outside (``agents.stock``).
    """

    name: str
    type: Literal[0, 1, 2]
    own_mib: float = number(least=0)
    vm_overhead_mib: float = number(least=0)
    min_free_share: float | None = number(None, least=0.001, most=0.5)
    own_ram_share: float = number(0.0, least=0, most=0.5)
    own_cpu_share: float = number(0.0, least=0, most=0.5)
    vm_overhead_share: float = number(0.0, least=0, most=0.1)
    last_resort: Literal["linux", "esxi", "commit"] = "linux"
    admission: Literal["always", "reservation", "commit", "fits"] = "always"
    startup: Literal["balloon", "assigned", "none"] = "balloon"
    limits: Literal["none", "cgroup", "esxi"] = "none"
    disk_limits: Literal["none", "iops", "iops_bursts"] = "iops"
    smart_paging: bool = False
    victims: Literal["random", "two_lists", "mglru", "mglru_before_6_12"] = "random"
    host_cache_swappiness: float = number(0.0, least=0, most=199)
    writes_behind: bool = False
    large_pages: bool = True
    nested_walks: bool = True
    scan_pages_per_s: float = number(0.0, least=0)
    scan_us_per_page: float = number(2.0, least=0)
    zip_cap_share: float = number(0.0, least=0, most=1)
    zip_stored_share: float = number(0.5, above=0, most=1)
    zip_load_us: float = number(30.0, least=0)
    zip_store_us: float = number(8.0, least=0)
    returning: Literal["balloon_4k", "balloon_2m", "virtio_mem", "virtio_mem_vfio", "hyperalloc"] = "balloon_4k"
    free_page_reporting: bool = False
    inflate_mib_per_s: float | None = number(None, above=0)
    deflate_mib_per_s: float | None = number(None, above=0)
    balloon_interference: float | None = number(None, least=0, most=1)
    balloon_cap_share: float = number(1.0, above=0, most=1)
    deflate_on_oom_mib_per_s: float = number(15.0, least=0)
    stats_interval_s: float = number(2.0, least=0)
    exit_us: float = number(0.6, least=0)
    disk: DeviceModel | None = None
    nic: DeviceModel | None = None
    stock: str | None = None
    capabilities: Capabilities | None = None

    def __post_init__(self) -> None:
        if (self.last_resort == "commit") != (self.admission == "commit"):
            raise InputError(
                f"admission={self.admission!r}: last_resort={self.last_resort!r} needs "
                f"{'commit, for memory is given at once' if self.last_resort == 'commit' else 'always, reservation or fits'}"
            )
        if self.smart_paging and self.last_resort != "commit":
            raise InputError("smart_paging=True: needs last_resort='commit'; other hypervisors page by themselves")
        if self.limits != "none" and self.last_resort == "commit":
            raise InputError(
                f"limits={self.limits!r}: last_resort='commit' swaps no running VM, so it holds none to a limit; leave limits out"
            )
        if 0.0 < self.stats_interval_s < 1.0:
            raise InputError(
                f"stats_interval_s={self.stats_interval_s:g}: must be at least 1, or 0 for statistics that nobody polls"
            )

    @property
    def unpins(self) -> bool:
        """Whether memory can be taken from a VM although a device is passed through to it."""
        return self.returning in UNPINNED

    def overhead_mib(self, group: VmGroup) -> float:
        """Host memory of a VM's process on top of its guest's, the VM's own figure first."""
        if group.overhead_mib is not None:
            return group.overhead_mib
        return self.vm_overhead_mib + self.vm_overhead_share * group.memory_mib


@dataclasses.dataclass(frozen=True)
class Host:
    """The machine. Give its RAM, or the overcommit ratio: sum of configured VM memory over RAM. `swap` names the device
    that the hypervisor swaps to; left out, it is the disk that everything uses. `swap_iops` holds host swap to so many
    operations per second and to a queue of its own, whatever it lies on. `own_mib` is what host and hypervisor need themselves
    (0 where VMs are confined to a part of the RAM, and `ram_mib` is that part), in place of the hypervisor's figure. The clock
    is that of the machine on which the exits of emulated devices were measured (``conf/nic/e1000.yaml``).
    """

    ram_mib: float | None = number(None, above=0)
    overcommit: float | None = number(None, above=0)
    own_mib: float | None = number(None, least=0)
    swap: Literal["disk", "nvme", "sata_ssd", "hdd", "zram", "remote"] | None = None
    swap_share: float = number(4.0, least=0)
    swap_iops: float | None = number(None, above=0)
    pcpus: float = number(16.0, above=0)
    disk_iops: float = number(400e3, above=0)
    disk_latency_us: float = number(100.0, above=0)
    disk_mib_per_s: float = number(1500.0, above=0)
    nic_mib_per_s: float = number(1192.0, above=0)
    clock_ghz: float = number(2.7, above=0)
    iommu: Iommu = "pinned"

    def __post_init__(self) -> None:
        if (self.ram_mib is None) == (self.overcommit is None):
            raise InputError("give either ram_mib or overcommit, not both and not neither")
