"""A scenario: which VMs, on which host, under which hypervisor, with what demand; plain data that YAML and JSON can
hold.

`load` reads the packaged groups ``conf/scenario``, ``conf/hypervisor`` and ``conf/workload`` (and folders that a user
adds); `Scenario` is the checked form, made of VMs (``vm_group``), a host and a hypervisor (``machine``); ``specs`` turns it
into rows of the model's arrays.
"""

import dataclasses
import functools
import importlib.resources
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from hvgym.envs import capabilities, cluster_parts, yaml_file
from hvgym.envs.cluster_parts import Failure, HostGroup, Maintenance, Stack
from hvgym.envs.errors import InputError, nearest, shown
from hvgym.envs.machine import Host, Hypervisor
from hvgym.envs.rules import RULES, Rules
from hvgym.envs.schema import build, number, plain
from hvgym.envs.vm_group import Demand, VmGroup

__all__ = [
    "Demand", "Host", "Hypervisor", "Scenario", "VmGroup", "Workload",
    "group_files", "known_names", "load", "load_group", "resolve", "unknown_choice",
]  # fmt: skip
"""A scenario and all that it is made of, so that users need one import."""

MOST_NAMES = 24
"""In a message."""

MOST_VM_STEPS = 20_000_000
"""Of an episode, a gigabyte of demand (a guess): a month of 38 VMs at 5 s, a day of 1,150."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """Where demand comes from. `overcommit_scale` (of a host's ``overcommit``; a ``ram_mib`` stays) and `episode_s` adapt a
    scenario to a family of traces. `split`: which part of VMs or time; None is all of it, until a verb sets its own
    (``bench.suites``). `origin`: of several tests by time, counted from the end (``fleet.splits``).

    Of ``history`` (``fleet.replay``): `level`; `vms`: all of the table, by name, or as many as the scenario has, drawn;
    `without`: names left out; `windows`: seconds since 1970 at which episodes begin, one a seed in turn.
    """

    kind: Literal["phases", "bitbrains", "story", "history", "generated"] = "phases"
    path: str | None = None
    split: Literal["train", "validation", "test", "all"] | None = None
    overcommit_scale: float = number(1.0, above=0)
    episode_s: int | None = number(None, least=1)
    sibling_probability: float = number(0.3, least=0, most=1)
    level: Literal["low", "mid", "high"] = "mid"
    vms: Literal["all", "drawn"] = "all"
    without: tuple[str, ...] = ()
    windows: tuple[int, ...] | None = number(None, least=0)
    origin: int = number(0, least=0)

    def __post_init__(self) -> None:
        if self.kind == "bitbrains" and not self.path:
            raise InputError(f"path is missing; workload {self.kind} needs the folder of its traces: workload.path=DIR")
        if self.kind == "history" and not self.path:
            raise InputError(
                "path is missing; workload history needs the folder of a table (hvgym import makes one): workload=DIR"
            )


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Everything an episode needs beside a seed. `rules` say who may play it (``rules``); they change nothing of the model.

    kill_cost_s: what a kill, or a start that fails, costs its operator, in seconds of the VM's work, charged in goodput. 600 is
    a guess: ten minutes in which somebody looks after it and its users wait.
    """

    name: str
    description: str
    host: Host | None
    hypervisor: Hypervisor
    vms: tuple[VmGroup, ...]
    hosts: tuple[HostGroup, ...] = ()
    stack: Stack | None = None
    failures: tuple[Failure, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()
    workload: Workload = Workload()
    episode_s: int = number(3600, least=1)
    control_interval_s: int = number(5, least=1)
    slot_s: int = number(20, least=1)
    touched_share: float = number(0.95, least=0, most=1)
    kill_cost_s: float = number(600.0, least=0)
    rules: Rules = "open"

    def __post_init__(self) -> None:
        if not self.vms:
            raise InputError("vms is empty; a scenario needs at least one VM")
        cluster_parts.check(self)
        for index, group in enumerate(self.vms):
            self._check_demand(group, f"vms[{index}]")
        for key, machine, hypervisor in self.machines:
            self._check_machine(key, machine, hypervisor)
        if self.duration_s % self.control_interval_s:
            raise InputError(
                f"episode_s={self.duration_s}: must be a multiple of control_interval_s={self.control_interval_s}"
            )
        slot_s = 1 if self.workload.kind == "story" else self.slot_s
        steps = self.duration_s // min(self.control_interval_s, slot_s)
        if steps * len(self.groups) > MOST_VM_STEPS:
            raise InputError(
                f"episode_s={self.duration_s}: {steps:,} steps of {len(self.groups)} VMs do not fit into memory; at most "
                f"{MOST_VM_STEPS:,} steps x VMs. Shorten it, or raise control_interval_s and slot_s"
            )

    def _check_machine(self, key: str, machine: Host, hypervisor: Hypervisor) -> None:
        """Whether VMs can be on it as they are told."""
        for index, group in enumerate(self.vms):
            capabilities.check(group, hypervisor, f"vms[{index}]")
        pages = hypervisor.last_resort != "commit" or hypervisor.smart_paging
        if machine.swap is not None and not pages:
            raise InputError(
                f"{key}.swap={machine.swap!r}: hypervisor {hypervisor.name} never swaps VMs; leave {key}.swap out, or choose "
                "a hypervisor that does"
            )
        for kind, capacity in (("disk_reservation_iops", "disk_iops"), ("net_reservation_mib_per_s", "nic_mib_per_s")):
            reserved, most = sum(getattr(group, kind) for group in self.groups), getattr(machine, capacity)
            if reserved > most:
                raise InputError(f"vms: {kind} adds up to {reserved:g}; {key}.{capacity}={most:g} is all there is")

    def _check_demand(self, group: VmGroup, where: str) -> None:
        """Whether a VM has what the workload plays."""
        kind = self.workload.kind
        if kind == "phases" and group.demand is None:
            told = "; its story needs workload: {kind: story}" if group.story is not None else ""
            told = "; its class needs workload: {kind: generated}" if group.generated is not None else told
            raise InputError(f"{where}.demand: missing; workload {kind} draws what a VM does from it{told}")
        if kind == "story" and group.story is None:
            raise InputError(f"{where}.story: missing; workload {kind} plays tiers and steps of every VM")
        if kind == "generated" and group.generated is None:
            raise InputError(
                f"{where}.generated: missing; workload {kind} draws a VM by its class: generated: {{kind: web}}"
            )
        if self.is_cluster and group.generated is not None and group.generated.arrive_within_s > 0.0:
            raise InputError(
                f"{where}.generated.arrive_within_s={group.generated.arrive_within_s:g}: in a cluster lifetime_s or arrive_s says "
                "when VMs come; leave it out"
            )
        if kind == "story" and group.jvm is not None:
            raise InputError(
                f"{where}.jvm: a JVM sizes its own heap; workload {kind} says what a VM holds; leave jvm out"
            )

    @property
    def is_cluster(self) -> bool:
        """Whether there are several hosts, which a stack manages."""
        return bool(self.hosts)

    @property
    def machines(self) -> tuple[tuple[str, Host, Hypervisor], ...]:
        """Key, machine and hypervisor of the host, or of each group of hosts."""
        if self.host is not None:
            return (("host", self.host, self.hypervisor),)
        return tuple(
            (f"hosts[{i}]", group.machine, group.hypervisor or self.hypervisor) for i, group in enumerate(self.hosts)
        )

    @property
    def machine(self) -> Host:
        """The host of a scenario that has one. Raises `InputError` for a cluster."""
        if self.host is None:
            raise InputError(
                f"scenario {self.name} is a cluster of {len(self.host_names)} hosts; choose one with a single host"
            )
        return self.host

    @property
    def host_names(self) -> tuple[str, ...]:
        """One a host, in order."""
        return tuple(name for group in self.hosts for name in group.names) or ("host",)

    def alone_on(self, group: HostGroup) -> "Scenario":
        """The same VMs with one host of a group, and no cluster."""
        vms = tuple(dataclasses.replace(vm, **cluster_parts.ALONE) for vm in self.vms)
        return dataclasses.replace(
            self, host=group.machine, hosts=(), stack=None, failures=(), maintenance=(), vms=vms,
            hypervisor=group.hypervisor or self.hypervisor,
        )  # fmt: skip

    @property
    def duration_s(self) -> int:
        """Length of an episode in seconds."""
        return self.workload.episode_s or self.episode_s

    @property
    def overcommit_scale(self) -> float:
        """The workload's, where the host is given as a ratio; a size that is given stays as it is."""
        return self.workload.overcommit_scale if self.host is not None and self.host.ram_mib is None else 1.0

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


def group_files(group: str, folders: Iterable[str | Path] = ()) -> dict[str, Path]:
    """Names and files of a configuration group; folders given later win over the packaged one."""
    files = dict(_packaged_files(group))
    for folder in map(Path, folders):
        files.update(_files(folder / group))
    return files


@functools.cache
def _packaged_files(group: str) -> dict[str, Path]:
    return _files(Path(str(importlib.resources.files("hvgym.conf"))) / group)


def _files(folder: Path) -> dict[str, Path]:
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def unknown_choice(group: str, name: str, folders: Iterable[str | Path] = ()) -> str:
    """What to say of a name that a group does not have."""
    folders = tuple(folders)
    files = group_files(group, folders)
    for folder in map(Path, folders):
        if (other := folder / group / f"{name}.yml").exists():
            return f"{group}={name!r}: unknown; rename {other} to {name}.yaml"
    if group == "hypervisor" and name in ("proxmox", "ovirt", "rhev", "openstack", "kubevirt", "qemu", "libvirt"):
        return f"hypervisor={name!r}: unknown; its hypervisor is kvm (hypervisor=kvm)"
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
    stack: Mapping[str, Any] | None = None,
) -> Scenario:
    """Fill in what a scenario names, let `hypervisor`, `workload`, `rules` and `stack` replace its own, `disk` and `nic` every VM's
    device, and check the whole."""
    if rules is not None and rules not in RULES:
        raise InputError(f"rules={shown(rules)}: choose one of {', '.join(RULES)}{nearest(str(rules), RULES)}")
    data = dict(scenario) | ({} if rules is None else {"rules": rules})
    folders = tuple(folders)
    for group, replacement in (("hypervisor", hypervisor), ("workload", workload), ("stack", stack)):
        if replacement is not None:
            data[group] = dict(replacement)
        elif isinstance(data.get(group), str):
            data[group] = load_group(group, data[group], folders)
    data["hypervisor"] = _named(data.get("hypervisor"), folders)
    if "stack" in data:
        data["stack"] = cluster_parts.expanded(data["stack"])
    if isinstance(data.get("hosts"), (list, tuple)):
        data["hosts"] = [_with_hypervisor(group, folders) for group in data["hosts"]]
    if isinstance(data.get("vms"), (list, tuple)):
        data["vms"] = [_named(group, folders) for group in data["vms"]]
        for kind, device in (("disk", disk), ("nic", nic)):
            if device is not None:
                data["vms"] = [dict(group) | {kind: dict(device)} for group in data["vms"]]
    return Scenario.from_dict(_with_own_vms(data))


def _with_own_vms(data: dict[str, Any]) -> dict[str, Any]:
    """A scenario's data with the VMs of a table in place of its own, where it plays all of them."""
    work = data.get("workload")
    if not isinstance(work, Mapping) or work.get("kind") != "history" or not data.get("vms"):
        return data
    checked = build(Workload, work, "scenario.workload")
    if checked.vms != "all":
        return data
    from hvgym.envs.fleet.own_vms import expanded

    return expanded(data)


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


def _with_hypervisor(group: Any, folders: tuple[str | Path, ...]) -> Any:
    """A group of hosts with the hypervisor that it names in full."""
    if not isinstance(group, Mapping) or not isinstance(group.get("hypervisor"), str):
        return group
    return dict(group) | {"hypervisor": _named(load_group("hypervisor", group["hypervisor"], folders), folders)}


def load(name: str, folders: Iterable[str | Path] = ()) -> Scenario:
    """Read a scenario by name."""
    folders = tuple(folders)
    return resolve(load_group("scenario", name, folders), folders=folders)
