"""A guest on the laboratory bench: its size, swap and access pattern, and the machine that it runs on, checked.

`LabGuest` turns them into a scenario of one VM on a host with memory to spare; ``bench`` runs it. Defaults and the
constants of the machine live in ``conf/lab.yaml``, with their sources.
"""

import dataclasses
import functools
import importlib.resources
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import numpy as np
import yaml

from hvgym.envs.errors import InputError
from hvgym.envs.model import params
from hvgym.envs.model.guest import patterns
from hvgym.envs.scenario import Demand, Host, Hypervisor, Scenario, VmGroup
from hvgym.envs.schema import build, number

T = TypeVar("T")

KERNEL_CACHE_MIB, KERNEL_CACHE_SHARE = 5.0, 0.25
"""Caches that a kernel keeps under pressure, yet counts as available (law 1: d is 2 % of 256 MiB); at most this share."""

WEIGHTS_TOLERANCE = 0.005
"""Published mixtures are rounded to three digits; a sum this near to one is meant to be one."""

MOST_KERNEL_SHARE = 0.8
"""Of a guest's memory; a `VmGroup` takes no more."""

SWAP_PER_HOT_MIB = 4.0
"""Size of the guest's swap, which is never the limit here."""


@dataclasses.dataclass(frozen=True)
class Guest:
    """The virtual machine. kernel_mib includes the caches that the kernel keeps."""

    swap: Literal["disk", "zram", "none"]
    memory_mib: float = number(above=64, most=2**24)
    kernel_mib: float = number(least=2)


@dataclasses.dataclass(frozen=True)
class Machine:
    """The test bed; units in the names, sources in ``conf/lab.yaml``."""

    inflate_mib_per_s: float = number(above=0)
    deflate_mib_per_s: float = number(above=0)
    reclaim_disk_mib_per_s: float = number(above=0)
    reclaim_zram_mib_per_s: float = number(above=0)
    disk_latency_us: float = number(above=0)
    disk_iops: float = number(above=0)
    zram_fault_us: float = number(least=0)
    stats_interval_s: float = number(least=1)
    slack: float = number(least=0, most=0.99)
    restart_s: float = number(least=0)


@dataclasses.dataclass(frozen=True)
class LabGuest:
    """A set-up; fields as in ``conf/lab.yaml``. tiers: (share of pages, mean time between touches of a page)."""

    guest: Guest
    machine: Machine
    pattern: Literal["uniform", "zipf", "mixture"]
    page_kind: Literal["anon", "file"]
    zipf_exponent: float = number(least=0, most=4)
    tiers: tuple[tuple[float, float], ...] | None = number(above=0)
    hot_mib: float = number(least=1)
    touches_per_s: float | None = number(above=0)
    write_share: float = number(least=0, most=1)
    zram_stored_share: float = number(above=0, most=0.99)
    settle_s: int | None = number(least=5)
    measure_s: int = number(least=1)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "LabGuest":
        """Check plain data. Raises `InputError` with the key, the value, and what would be right."""
        return checked(LabGuest, data)

    @staticmethod
    def packaged(**changes: Any) -> "LabGuest":
        """The set-up of ``conf/lab.yaml`` with changes; a group takes a mapping: ``packaged(guest={"swap": "zram"})``."""
        text = importlib.resources.files("hvgym.conf").joinpath("lab.yaml").read_text()
        names = {field.name for field in dataclasses.fields(LabGuest)}
        data = {key: value for key, value in yaml.safe_load(text).items() if key in names}
        return LabGuest.from_dict(merged(data, changes))

    def __post_init__(self) -> None:
        memory_mib, fixed_mib = self.guest.memory_mib, self.size_for(0.0) + self.kernel_cache_mib
        if fixed_mib >= MOST_KERNEL_SHARE * memory_mib:
            raise InputError(
                f"guest.kernel_mib={self.guest.kernel_mib:g}: with the watermark it must be below "
                f"{MOST_KERNEL_SHARE:.0%} of guest.memory_mib={memory_mib:g}"
            )
        if self.hot_mib > memory_mib - fixed_mib:
            raise InputError(
                f"hot_mib={self.hot_mib:g}: guest.memory_mib={memory_mib:g} leaves at most {int(memory_mib - fixed_mib)} "
                "beside kernel and watermark"
            )
        if self.pattern == "mixture":
            self._check_mixture()
        elif self.tiers is not None:
            raise InputError(f"tiers={_listed(self.tiers)}: only pattern=mixture has tiers; pattern={self.pattern}")
        elif self.touches_per_s is None:
            raise InputError(
                f"touches_per_s=None: pattern={self.pattern} needs a number; a mixture has a rate of its own"
            )

    def _check_mixture(self) -> None:
        if not self.tiers or len(self.tiers) > params.TIERS:
            raise InputError(
                f"tiers={_listed(self.tiers)}: pattern=mixture takes 1 to {params.TIERS} tiers, [[weight,tau_s],...]"
            )
        total = sum(weight for weight, _ in self.tiers)
        if abs(total - 1.0) > WEIGHTS_TOLERANCE:
            raise InputError(f"tiers={_listed(self.tiers)}: weights sum to {total:g}; they must sum to 1")

    @property
    def kernel_cache_mib(self) -> float:
        """The part of kernel_mib that the guest counts as available."""
        return min(KERNEL_CACHE_MIB, KERNEL_CACHE_SHARE * self.guest.kernel_mib)

    def size_for(self, level: float) -> float:
        """Memory size in MiB at which the workload can hold `level` times its hot set, by MemAvailable."""
        kernel = self.guest.kernel_mib - self.kernel_cache_mib
        return level * self.hot_mib + kernel + params.default_watermark_mib(self.guest.memory_mib)

    @functools.cached_property
    def pages(self) -> patterns.Pattern:
        """The access pattern as tiers."""
        count = self.hot_mib * params.PAGES_PER_MIB
        if self.pattern == "mixture":
            weights, tau_s = zip(*(self.tiers or ()), strict=True)
            return patterns.mixture(count, self.touches_per_s, weights, tau_s)
        rate = float(self.touches_per_s or 0.0)
        return (
            patterns.zipf(count, rate, self.zipf_exponent) if self.pattern == "zipf" else patterns.uniform(count, rate)
        )

    @property
    def reclaim_mib_per_s(self) -> float:
        """How fast the balloon inflates under pressure."""
        zram = self.guest.swap == "zram" and self.page_kind == "anon"
        return self.machine.reclaim_zram_mib_per_s if zram else self.machine.reclaim_disk_mib_per_s

    def move_s(self, mib: float) -> float:
        """Time that the balloon needs for this much, at most."""
        return abs(mib) / min(self.machine.inflate_mib_per_s, self.reclaim_mib_per_s)

    def scenario(self) -> Scenario:
        """One VM of constant demand on a host with memory to spare."""
        return Scenario("lab", "", self._host(), self._hypervisor(), (self._vm(),), episode_s=1, control_interval_s=1)

    def _host(self) -> Host:
        ample_mib = 2.0 * self.guest.memory_mib + 4096.0
        return Host(ram_mib=ample_mib, disk_iops=self.machine.disk_iops, disk_latency_us=self.machine.disk_latency_us)

    def _hypervisor(self) -> Hypervisor:
        """The measured VM process costs 58-97 MiB. The guest's slowdown by an inflation is in the rates of the machine."""
        same = {
            name: getattr(self.machine, name) for name in ("inflate_mib_per_s", "deflate_mib_per_s", "stats_interval_s")
        }
        return Hypervisor("emulated", 1, 256.0, 78.0, 0.01, balloon_interference=0.0, **same)

    def _vm(self) -> VmGroup:
        share, rate = self.pages
        is_file = float(self.page_kind == "file")
        swap, sizes = self.guest.swap, (share * self.hot_mib).tolist()
        return VmGroup(
            name="guest",
            demand=Demand(*sizes),
            memory_mib=self.guest.memory_mib,
            kernel_mib=self.guest.kernel_mib - self.kernel_cache_mib,
            kernel_cache_mib=self.kernel_cache_mib,
            guest_swap_mib=0.0 if swap == "none" else SWAP_PER_HOT_MIB * self.hot_mib,
            swap="zram" if swap == "zram" else "disk",
            zram_stored_share=self.zram_stored_share,
            zram_load_us=self.machine.zram_fault_us,
            zram_store_us=0.0,
            slack=self.machine.slack,
            fault_parallelism=1.0,
            restart_s=self.machine.restart_s,
            reclaim_mib_per_s=self.reclaim_mib_per_s,
            tier_tau_s=_four(1.0 / rate),
            tier_write_share=_four(np.full(params.TIERS, self.write_share * (1.0 - is_file))),
            tier_is_file=_four(np.full(params.TIERS, is_file)),
        )


def merged(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with changes; a group keeps the keys that its change does not name."""
    return dict(data) | {
        key: {**data[key], **change} if isinstance(change, Mapping) and isinstance(data.get(key), Mapping) else change
        for key, change in changes.items()
    }


def checked(cls: type[T], data: Mapping[str, Any]) -> T:
    """Build from keys that stand at the top of the verb's configuration, and are named so in errors."""
    try:
        return build(cls, data, "lab")
    except InputError as error:
        raise InputError(str(error).removeprefix("lab: ").removeprefix("lab.")) from None


def _four(values: np.ndarray) -> tuple[float, float, float, float]:
    """One figure a tier, as plain data."""
    hot, warm, cold, cache = values.tolist()
    return hot, warm, cold, cache


def _listed(tiers: tuple[tuple[float, float], ...] | None) -> str:
    return "None" if tiers is None else f"[{','.join(f'[{weight:g},{tau:g}]' for weight, tau in tiers)}]"
