"""A scenario: which VMs, on which host, under which hypervisor, with what demand; plain data that YAML and JSON can
hold.

`load` reads the packaged groups ``conf/scenario``, ``conf/hypervisor`` and ``conf/workload`` (and folders that a user
adds); `Scenario` is the checked form; ``specs`` turns it into rows of the model's arrays. Defaults of `VmGroup` are a Linux
guest; each figure stands beside its source.
"""

import dataclasses
import functools
import importlib.resources
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from hvgym.envs import capabilities, yaml_file
from hvgym.envs.device import DeviceModel, Iommu
from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.java import JvmGuest
from hvgym.envs.model import params
from hvgym.envs.rules import RULES, Rules
from hvgym.envs.schema import build, number, plain
from hvgym.envs.seats import Capabilities

UNPINNED = ("virtio_mem_vfio", "hyperalloc")
"""Ways to return memory that unmap it from the IOMMU first."""
MOST_NAMES = 24
"""In a message."""

MOST_VM_STEPS = 20_000_000
"""Of an episode, a gigabyte of demand (a guess): a month of 38 VMs at 5 s, a day of 1,150."""


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
    the same way and fails with it; an agent in the guest (P4) is a program of its own. `limit_mib`: at most so much host
    memory behind it, by the hypervisor's means (``model.host.limits``); `limit_kind` names the file of a cgroup, `max` if
    not told. What each hypervisor can do of this is in ``capabilities``.
    """

    name: str
    demand: Demand
    memory_mib: float = number(above=64)
    count: int = number(1, least=1, most=4096)
    min_mib: float = number(0.0, least=0)
    kernel_mib: float = number(18.0, least=1)
    kernel_cache_mib: float = number(5.0, least=0)
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
    restart_s: float = number(30.0, least=0)
    growth_mib_per_s: float = number(100.0, above=0)
    reclaim_mib_per_s: float = number(200.0, above=0)
    tier_tau_s: tuple[float, float, float, float] = number((8.0, 134.0, 21600.0, 600.0), above=0)
    tier_write_share: tuple[float, float, float, float] = number((0.3, 0.3, 0.1, 0.0), least=0, most=1)
    tier_is_file: tuple[float, float, float, float] = number((0.0, 0.0, 0.0, 1.0), least=0, most=1)

    def __post_init__(self) -> None:
        if self.min_mib > self.memory_mib:
            raise InputError(f"min_mib={self.min_mib:g}: must be at most memory_mib={self.memory_mib:g}")
        if self.startup_mib is not None and not self.min_mib <= self.startup_mib <= self.memory_mib:
            raise InputError(
                f"startup_mib={self.startup_mib:g}: must lie between min_mib={self.min_mib:g} and memory_mib={self.memory_mib:g}"
            )
        capabilities.check_memory_keys(self)
        if self.cpu_limit is not None and self.cpu_reservation > self.cpu_limit:
            raise InputError(f"cpu_reservation={self.cpu_reservation:g}: must be at most cpu_limit={self.cpu_limit:g}")
        for most, least in (
            ("disk_limit_iops", "disk_reservation_iops"),
            ("net_limit_mib_per_s", "net_reservation_mib_per_s"),
        ):
            if (limit := getattr(self, most)) is not None and getattr(self, least) > limit:
                raise InputError(f"{least}={getattr(self, least):g}: must be at most {most}={limit:g}")
        fixed = self.kernel_mib + self.kernel_cache_mib + params.default_watermark_mib(self.memory_mib)
        if fixed >= 0.8 * self.memory_mib:
            raise InputError(
                f"memory_mib={self.memory_mib:g}: kernel and watermark need {fixed:.0f}; give the guest more memory"
            )
        if self.jvm is not None and fixed + self.jvm.xmx_mib + self.jvm.non_heap_mib > self.memory_mib:
            raise InputError(
                f"jvm.xmx_mib={self.jvm.xmx_mib:g}: with {self.jvm.non_heap_mib:.0f} MiB of the JVM beside its heap and "
                f"{fixed:.0f} of the guest it does not fit into memory_mib={self.memory_mib:g}"
            )

    @property
    def boot_mib(self) -> float:
        """Least memory with which its kernel runs, a fifth of it left for processes."""
        return 1.25 * (self.kernel_mib + self.kernel_cache_mib + params.default_watermark_mib(self.memory_mib))

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


@dataclasses.dataclass(frozen=True)
class Hypervisor:
    """How a hypervisor differs, by mechanism: its last resort, how guests return memory, what exits cost, its footprint.

    `last_resort`: `linux` swaps below the low watermark (a host's system, too, when the hypervisor runs on it), `esxi` goes
    through minFree's states, `commit` gives each VM its whole size and never swaps. Type 0 is bare metal. `startup` and
    `limits` say what a VM's `startup_mib` and `limit_mib` mean (``capabilities``). `stats_interval_s` 0 polls nothing.
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
    smart_paging: bool = False
    victim_memory: float = number(0.0, least=0, most=0.25)
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
        """Host memory of a VM's process on top of its guest's."""
        return self.vm_overhead_mib + self.vm_overhead_share * group.memory_mib


@dataclasses.dataclass(frozen=True)
class Host:
    """The machine. Give its RAM, or the overcommit ratio: sum of configured VM memory over RAM. `swap` names the device
    that the hypervisor swaps to; left out, it is the disk that everything uses. The clock is that of the machine on which the
    exits of emulated devices were measured (``conf/nic/e1000.yaml``).
    """

    ram_mib: float | None = number(None, above=0)
    overcommit: float | None = number(None, above=0)
    swap: Literal["disk", "nvme", "sata_ssd", "hdd", "zram", "remote"] | None = None
    swap_share: float = number(4.0, least=0)
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


@dataclasses.dataclass(frozen=True)
class Workload:
    """Where demand comes from. `overcommit_scale` (of a host's ``overcommit``; a ``ram_mib`` stays) and `episode_s` adapt a
    scenario to a family of traces."""

    kind: Literal["phases", "bitbrains"] = "phases"
    path: str | None = None
    split: Literal["train", "validation", "test", "all"] = "all"
    overcommit_scale: float = number(1.0, above=0)
    episode_s: int | None = number(None, least=1)
    sibling_probability: float = number(0.3, least=0, most=1)

    def __post_init__(self) -> None:
        if self.kind != "phases" and not self.path:
            raise InputError(f"path is missing; workload {self.kind} needs the folder of its traces: workload.path=DIR")


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Everything an episode needs beside a seed. `rules` say who may play it (``rules``); they change nothing of the model."""

    name: str
    description: str
    host: Host
    hypervisor: Hypervisor
    vms: tuple[VmGroup, ...]
    workload: Workload = Workload()
    episode_s: int = number(3600, least=1)
    control_interval_s: int = number(5, least=1)
    slot_s: int = number(20, least=1)
    touched_share: float = number(0.95, least=0, most=1)
    rules: Rules = "open"

    def __post_init__(self) -> None:
        if not self.vms:
            raise InputError("vms is empty; a scenario needs at least one VM")
        for index, group in enumerate(self.vms):
            capabilities.check(group, self.hypervisor, f"vms[{index}]")
        pages = self.hypervisor.last_resort != "commit" or self.hypervisor.smart_paging
        if self.host.swap is not None and not pages:
            raise InputError(
                f"host.swap={self.host.swap!r}: hypervisor {self.hypervisor.name} never swaps VMs; leave host.swap out, or choose "
                "a hypervisor that does"
            )
        for kind, capacity in (("disk_reservation_iops", "disk_iops"), ("net_reservation_mib_per_s", "nic_mib_per_s")):
            reserved, most = sum(getattr(group, kind) for group in self.groups), getattr(self.host, capacity)
            if reserved > most:
                raise InputError(f"vms: {kind} adds up to {reserved:g}; host.{capacity}={most:g} is all there is")
        if self.duration_s % self.control_interval_s:
            raise InputError(
                f"episode_s={self.duration_s}: must be a multiple of control_interval_s={self.control_interval_s}"
            )
        steps = self.duration_s // min(self.control_interval_s, self.slot_s)
        if steps * len(self.groups) > MOST_VM_STEPS:
            raise InputError(
                f"episode_s={self.duration_s}: {steps:,} steps of {len(self.groups)} VMs do not fit into memory; at most "
                f"{MOST_VM_STEPS:,} steps x VMs. Shorten it, or raise control_interval_s and slot_s"
            )

    @property
    def duration_s(self) -> int:
        """Length of an episode in seconds."""
        return self.workload.episode_s or self.episode_s

    @property
    def overcommit_scale(self) -> float:
        """The workload's, where the host is given as a ratio; a size that is given stays as it is."""
        return self.workload.overcommit_scale if self.host.ram_mib is None else 1.0

    @property
    def groups(self) -> tuple[VmGroup, ...]:
        """One entry a VM, in order."""
        return tuple(group for group in self.vms for _ in range(group.count))

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Scenario":
        """Check plain data. Raises `InputError` with the key, the value, and what would be right."""
        return build(Scenario, data, "scenario")

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` takes back."""
        result: dict[str, Any] = plain(self)
        return result


@functools.cache
def _packaged() -> Path:
    return Path(str(importlib.resources.files("hvgym.conf")))


def group_files(group: str, folders: Iterable[str | Path] = ()) -> dict[str, Path]:
    """Names and files of a configuration group; folders given later win over the packaged one."""
    files: dict[str, Path] = {}
    for folder in (_packaged(), *map(Path, folders)):
        files.update({file.stem: file for file in sorted((folder / group).glob("*.yaml"))})
    return files


def unknown_choice(group: str, name: str, folders: Iterable[str | Path] = ()) -> str:
    """What to say of a name that a group does not have."""
    folders = tuple(folders)
    files = group_files(group, folders)
    for folder in map(Path, folders):
        if (other := folder / group / f"{name}.yml").exists():
            return f"{group}={name!r}: unknown; rename {other} to {name}.yaml"
    return f"{group}={name!r}: unknown{nearest(name, files)}; known: {known_names(group, folders)}"


def known_names(group: str, folders: Iterable[str | Path] = ()) -> str:
    """The names of a group, or where to see them when they are many."""
    names = sorted(group_files(group, folders))
    return ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names)} names, see hvgym list {group}s"


def load_group(group: str, name: str, folders: Iterable[str | Path] = ()) -> dict[str, Any]:
    """Read one configuration file as plain data. Raises `InputError` for an unknown name or a broken file."""
    folders = tuple(folders)
    files = group_files(group, folders)
    if name not in files:
        raise InputError(unknown_choice(group, name, folders))
    return yaml_file.read(files[name])


def resolve(
    scenario: Mapping[str, Any],
    hypervisor: Mapping[str, Any] | None = None,
    workload: Mapping[str, Any] | None = None,
    folders: Iterable[str | Path] = (),
    disk: Mapping[str, Any] | None = None,
    nic: Mapping[str, Any] | None = None,
    rules: str | None = None,
) -> Scenario:
    """Fill in what a scenario names, let `hypervisor`, `workload` and `rules` replace its own, `disk` and `nic` every VM's
    device, and check the whole."""
    if rules is not None and rules not in RULES:
        raise InputError(f"rules={shown(rules)}: choose one of {', '.join(RULES)}{nearest(str(rules), RULES)}")
    data = dict(scenario) | ({} if rules is None else {"rules": rules})
    folders = tuple(folders)
    for group, replacement in (("hypervisor", hypervisor), ("workload", workload)):
        if replacement is not None:
            data[group] = dict(replacement)
        elif isinstance(data.get(group), str):
            data[group] = load_group(group, data[group], folders)
    data["hypervisor"] = _named(data.get("hypervisor"), folders)
    if isinstance(data.get("vms"), (list, tuple)):
        data["vms"] = [_named(group, folders) for group in data["vms"]]
        for kind, device in (("disk", disk), ("nic", nic)):
            if device is not None:
                data["vms"] = [dict(group) | {kind: dict(device)} for group in data["vms"]]
    return Scenario.from_dict(data)


def _named(data: Any, folders: tuple[str | Path, ...]) -> Any:
    """A hypervisor or VM with the devices and the workload that it names in full."""
    if not isinstance(data, Mapping):
        return data
    data = dict(data)
    for group in ("disk", "nic"):
        if isinstance(data.get(group), str):
            data[group] = load_group(group, data[group], folders)
    if isinstance(data.get("jvm"), Mapping) and isinstance(data["jvm"].get("workload"), str):
        data["jvm"] = dict(data["jvm"]) | {"workload": load_group("jvm", data["jvm"]["workload"], folders)}
    return data


def load(name: str, folders: Iterable[str | Path] = ()) -> Scenario:
    """Read a scenario by name."""
    folders = tuple(folders)
    return resolve(load_group("scenario", name, folders), folders=folders)
