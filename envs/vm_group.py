"""The VMs of a scenario: a group of VMs alike, its synthetic demand and its devices, checked.

Defaults of `VmGroup` are a Linux guest; each figure stands beside its source.
"""

import dataclasses
from typing import Literal

from hvgym.envs import capabilities
from hvgym.envs.device import DeviceModel
from hvgym.envs.errors import InputError
from hvgym.envs.generators.classes import Generated
from hvgym.envs.java import JvmGuest
from hvgym.envs.model import params
from hvgym.envs.schema import number
from hvgym.envs.story import Story

NEVER_S = 1e7
"""A touch every four months."""


@dataclasses.dataclass(frozen=True)
class Demand:
    """Synthetic demand of one VM; fields as in ``model.workload.PATTERN``."""

    hot_mib: float = number(least=0)
    warm_mib: float = number(0.0, least=0)
    cold_mib: float = number(0.0, least=0)
    cache_mib: float = number(0.0, least=0)
    phase_s: float = number(900.0, above=0)
    phase_swing: float = number(0.0, least=0, most=1)
    burst_mib: float = number(0.0, least=0)
    burst_every_s: float = number(1800.0, above=0)
    burst_length_s: float = number(300.0, above=0)
    group: int = number(-1, least=-1)
    group_correlation: float = number(0.9, least=0, most=1)
    cpu_share: float = number(0.2, least=0, most=1)
    disk_mib_per_s: float = number(0.0, least=0)
    net_mib_per_s: float = number(0.0, least=0)


@dataclasses.dataclass(frozen=True)
class VmGroup:
    """`count` VMs alike. Tier time constants are those of a mixture fitted to two published idle-age figures (8 s,
    134 s, 6 h; docs/validation.md); the page cache's is a guess, and so are packets of 16 KiB (TCP that a NIC cuts up; 1,500
    where each packet counts).

    `startup_mib`: size with which it starts, and at which it stays until somebody asks for another; without it, all its memory.
    `stats`: what its balloon driver tells: Linux's figures, Windows' (free memory includes the standby list), or nothing,
    though the balloon works; from second `stats_frozen_s` of the episode on it answers no more. Committed memory (P2) comes by
    the same way and fails with it; an agent in the guest (P4) is a program of its own. `settled_mib`: size at which its balloon
    has held it for long as the episode begins, and at which it stays until somebody asks for another; `settled_cold`: not for long,
    but since its workload filled its memory, tier by tier in their order, of which it has used nothing since. `overhead_mib`: host
    memory of its process, in place of the hypervisor's figure. `demand` is what workload ``phases`` draws from, `story` what
    workload ``story`` plays, `generated` the class of which workload ``generated`` makes it; the tiers below are those of
    ``phases``. `limit_mib`: at most so much host memory behind it, by the hypervisor's means (``model.host.limits``);
    `limit_kind` names the file of a cgroup, `max` if not told. `disk_burst_iops` for `disk_burst_s` (1 if not told) may pass its
    disk's limit, and the burst comes back as it uses less (QEMU's iops_max and iops_max_length). What each hypervisor can do of
    this is in ``capabilities``. `init_on_alloc`: the guest's kernel zeroes pages as it allocates them, those for its balloon too
    (Linux's name; on in most distributions).

    In a cluster: `host` names the host, or the group of hosts, on which it begins (else most room decides); `cpu_model` is what its
    guest sees; `disk_mib` moves with it where hosts have their own storage (20 GiB, a guess); at `leave_s` it is deleted;
    with `lifetime_s` its life is drawn: every other VM of the group is there at the beginning, the others come at any second, and
    each lasts for a log-normal time of that median (``cluster_specs``);
    `high_availability` restarts it, those of a high `restart_priority` first.
    """

    name: str
    demand: Demand | None
    memory_mib: float = number(above=64)
    count: int = number(1, least=1, most=4096)
    min_mib: float = number(0.0, least=0)
    kernel_mib: float = number(18.0, least=1)
    kernel_cache_mib: float = number(5.0, least=0)
    boot_only_mib: float = number(0.0, least=0)
    handed_out_last_mib: float = number(0.0, least=0)
    guest_swap_mib: float = number(0.0, least=0)
    swap: Literal["disk", "zram"] = "disk"
    zram_stored_share: float = number(0.38, above=0, most=0.99)
    zram_load_us: float = number(2.5, least=0)
    zram_store_us: float = number(4.0, least=0)
    swappiness: float = number(60.0, least=0, most=200)
    sequential_share: float = number(0.0, least=0, most=1)
    mergeable_share: float = number(0.05, least=0, most=1)
    compressible_share: float = number(0.69, least=0, most=1)
    commit_ratio: float = number(1.3, least=1)
    vcpus: float = number(2.0, above=0)
    cpu_shares: float | None = number(None, least=0)
    cpu_reservation: float = number(0.0, least=0)
    cpu_limit: float | None = number(None, above=0)
    tlb_misses_per_kilo_instruction: float = number(0.289, least=0)
    instructions_per_cycle: float = number(1.38, above=0)
    huge_pages: bool = False
    arrive_s: float = number(0.0, least=0)
    startup_mib: float | None = number(None, above=0)
    settled_mib: float | None = number(None, above=0)
    settled_cold: bool = False
    overhead_mib: float | None = number(None, least=0)
    limit_mib: float | None = number(None, above=0)
    limit_kind: Literal["max", "high"] | None = None
    disk: DeviceModel | None = None
    nic: DeviceModel | None = None
    packet_bytes: float = number(16384.0, least=64, most=65536)
    disk_waits_per_s: float = number(0.0, least=0)
    net_waits_per_s: float = number(0.0, least=0)
    disk_shares: float | None = number(None, above=0)
    disk_reservation_iops: float = number(0.0, least=0)
    disk_limit_iops: float | None = number(None, above=0)
    disk_burst_iops: float | None = number(None, above=0)
    disk_burst_s: float | None = number(None, least=1)
    net_shares: float | None = number(None, above=0)
    net_reservation_mib_per_s: float = number(0.0, least=0)
    net_limit_mib_per_s: float | None = number(None, above=0)
    slo_disk_latency_ms: float | None = number(None, above=0)
    slo_net_latency_ms: float | None = number(None, above=0)
    slo_disk_mib_per_s: float = number(0.0, least=0)
    slo_net_mib_per_s: float = number(0.0, least=0)
    jvm: JvmGuest | None = None
    weight: float = number(1.0, above=0)
    shares: float = number(1000.0, least=0, most=50000)
    critical: bool = False
    slo_slowdown: float = number(1.1, least=1)
    slack: float = number(0.0, least=0, most=0.99)
    fault_parallelism: float = number(2.0, least=1)
    balloon: bool = True
    stats: Literal["linux", "windows", "none"] = "linux"
    stats_frozen_s: float | None = number(None, least=0)
    deflate_on_oom: bool = False
    init_on_alloc: bool = True
    host: str | None = None
    cpu_model: Literal["host", "x86-64-v2", "x86-64-v3", "x86-64-v4", "arm64"] = "host"
    disk_mib: float = number(20480.0, above=0)
    leave_s: float | None = number(None, above=0)
    lifetime_s: float | None = number(None, above=0)
    high_availability: bool = True
    restart_priority: float = number(1.0, least=0)
    restart_s: float = number(30.0, least=0)
    growth_mib_per_s: float = number(100.0, above=0)
    reclaim_mib_per_s: float = number(200.0, above=0)
    tier_tau_s: tuple[float, float, float, float] = number((8.0, 134.0, 21600.0, 600.0), above=0)
    tier_write_share: tuple[float, float, float, float] = number((0.3, 0.3, 0.1, 0.0), least=0, most=1)
    tier_is_file: tuple[float, float, float, float] = number((0.0, 0.0, 0.0, 1.0), least=0, most=1)
    story: Story | None = None
    generated: Generated | None = None

    def __post_init__(self) -> None:
        if self.min_mib > self.memory_mib:
            raise InputError(f"min_mib={self.min_mib:g}: must be at most memory_mib={self.memory_mib:g}")
        capabilities.check_memory_keys(self)
        capabilities.check_disk_keys(self)
        if self.cpu_limit is not None and self.cpu_reservation > self.cpu_limit:
            raise InputError(f"cpu_reservation={self.cpu_reservation:g}: must be at most cpu_limit={self.cpu_limit:g}")
        for most, least in (
            ("disk_limit_iops", "disk_reservation_iops"),
            ("net_limit_mib_per_s", "net_reservation_mib_per_s"),
        ):
            if (limit := getattr(self, most)) is not None and getattr(self, least) > limit:
                raise InputError(f"{least}={getattr(self, least):g}: must be at most {most}={limit:g}")
        for key in ("startup_mib", "settled_mib"):
            size = getattr(self, key)
            if size is not None and not self.min_mib <= size <= self.memory_mib:
                raise InputError(
                    f"{key}={size:g}: must lie between min_mib={self.min_mib:g} and memory_mib={self.memory_mib:g}"
                )
        if self.startup_mib is not None and self.settled_mib is not None:
            raise InputError(
                f"settled_mib={self.settled_mib:g}: startup_mib={self.startup_mib:g} starts the VM anew; leave one of them out"
            )
        fixed = self.kernel_mib + self.kernel_cache_mib + params.default_watermark_mib(self.memory_mib)
        if fixed >= 0.8 * self.memory_mib:
            raise InputError(
                f"memory_mib={self.memory_mib:g}: kernel and watermark need {fixed:.0f}; give the guest more memory"
            )
        if self.story is not None and fixed + max(most_mib := self.story.sizes_mib().sum(axis=1)) > self.memory_mib:
            raise InputError(
                f"story.steps[{most_mib.argmax()}].mib: tiers add up to {max(most_mib):g}; memory_mib={self.memory_mib:g} leaves "
                f"{self.memory_mib - fixed:.0f} beside kernel, its caches and watermark"
            )
        if self.jvm is not None and fixed + self.jvm.xmx_mib + self.jvm.non_heap_mib > self.memory_mib:
            raise InputError(
                f"jvm.xmx_mib={self.jvm.xmx_mib:g}: with {self.jvm.non_heap_mib:.0f} MiB of the JVM beside its heap and "
                f"{fixed:.0f} of the guest it does not fit into memory_mib={self.memory_mib:g}"
            )

    def told(self) -> "VmGroup":
        """Itself with the tiers of its story; those that the story does not use are never touched."""
        assert self.story is not None
        rows = [(tier.retouch_s, tier.write_share, float(tier.page_cache)) for tier in self.story.tiers]
        one, two, three, four = rows + [(NEVER_S, 0.0, 0.0)] * (params.TIERS - len(rows))
        tau_s, write_share, is_file = zip(one, two, three, four, strict=True)
        return dataclasses.replace(self, tier_tau_s=tau_s, tier_write_share=write_share, tier_is_file=is_file)

    @property
    def boot_mib(self) -> float:
        """Least memory with which its kernel runs, a fifth of it left for processes."""
        return self.boot_mib_at(self.memory_mib)

    def boot_mib_at(self, memory_mib: float) -> float:
        """The same of a VM alike with so much memory."""
        return 1.25 * (self.kernel_mib + self.kernel_cache_mib + params.default_watermark_mib(memory_mib))

    def scaled_min_mib(self, scale: float, least_mib: float) -> float:
        """What another VM in its place is guaranteed, at least so much where anything is."""
        return max(self.min_mib * scale, least_mib) if self.min_mib else 0.0

    @property
    def divides_disk(self) -> bool:
        """Whether it asks for a part of the disk, so that the host must divide it."""
        return self.disk_shares is not None or self.disk_reservation_iops > 0.0 or self.disk_limit_iops is not None

    @property
    def divides_net(self) -> bool:
        """Whether it asks for a part of the link."""
        return (
            self.net_shares is not None or self.net_reservation_mib_per_s > 0.0 or self.net_limit_mib_per_s is not None
        )

    @property
    def architecture(self) -> str:
        """On which hosts it can be started anew: bytecode runs on any processor, a native program on the kind it was made for."""
        return "any, as bytecode" if self.jvm is not None else "that of its host"
