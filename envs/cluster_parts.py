"""What a scenario says of a cluster beside its VMs: groups of hosts, the stack that manages them, failures and maintenance.

A *stack* (``conf/stack``) is what is sold as one: placement, live migration and high availability with their timers; ``stock``
names the packaged agent that is its balancing as shipped.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from hvgym.envs import ha_rules, migration_rules
from hvgym.envs.errors import InputError, nearest
from hvgym.envs.ha_rules import HaRules
from hvgym.envs.machine import Host, Hypervisor
from hvgym.envs.migration_rules import MigrationRules
from hvgym.envs.schema import number, plain

if TYPE_CHECKING:
    from hvgym.envs.scenario import Scenario

Cpu = Literal["x86-64-v2", "x86-64-v3", "x86-64-v4", "arm64"]
"""Architecture, and for x86 the level of its instructions (psABI)."""

HOST_MODEL = "host"
"""A VM's processor model that is its host's own, so that it can move to hosts that have all of it."""

YEAR_S = 365.25 * 86400.0

FAILURES = ("power", "crash", "isolated", "stall")
"""Kinds, in the order of ``model.failure``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostGroup(Host):
    """`count` hosts alike, named NAME-0, NAME-1, ... (NAME where there is one). Keys of `Host` beside: `hypervisor` in place of the
    scenario's; `link_mib_per_s` carries copies, and VMs' traffic too where `shared_link`; `own_storage`: virtual disks lie in the
    host. `failures_per_year`: drawn beside those that the scenario names; calibration: 0.08 of hardware and 0.3 to 1 of software a
    host and year. `repair_s`: until one that has crashed is at work again (a guess), `boot_s` the
    last part of it (a guess: a server's power-on tests and boot)."""

    name: str
    count: int = number(1, least=1, most=1024)
    hypervisor: Hypervisor | None = None
    cpu: Cpu = "x86-64-v3"
    link_mib_per_s: float = number(1192.0, above=0)
    shared_link: bool = True
    own_storage: bool = False
    failures_per_year: float = number(0.0, least=0)
    repair_s: float = number(600.0, above=0)
    boot_s: float = number(180.0, above=0)

    def __post_init__(self) -> None:
        if self.ram_mib is None or self.overcommit is not None:
            raise InputError(f"hosts: {self.name} needs ram_mib, and no overcommit; hosts of a cluster have their RAM")

    @property
    def names(self) -> tuple[str, ...]:
        """One a host."""
        return (self.name,) if self.count == 1 else tuple(f"{self.name}-{i}" for i in range(self.count))

    @property
    def machine(self) -> Host:
        """What a host alone would be."""
        return Host(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Host)})


@dataclasses.dataclass(frozen=True)
class Stack:
    """What manages a cluster; in a file `migration` and `ha` may name those of a stack (`like`) and say what differs.

    most_overcommit: configured memory over RAM up to which it starts and moves VMs to a host; null has no such limit.
    needs_guaranteed: and only where memory that a VM is guaranteed is free, page cache included. places: it chooses hosts for
    starts by itself, unless a policy plays that does (`Policy.places_starts`). cpu_per_mib_per_s: pCPUs that a copy takes at
    either end, one core for about 1,192 MiB/s (10 Gb/s; recalled). moves_storage: disks move with VMs where storage is not shared.
    stock: the packaged agent that is its balancing as shipped; null is none.
    """

    name: str
    migration: MigrationRules
    ha: HaRules
    description: str = ""
    most_overcommit: float | None = number(None, above=0)
    needs_guaranteed: bool = False
    places: bool = True
    moves_storage: bool = True
    cpu_per_mib_per_s: float = number(1.0 / 1192.0, least=0)
    stock: str | None = None


@dataclasses.dataclass(frozen=True)
class Failure:
    """A host fails at a second: `power` (until `lasts_s` is over; null: for ever), `crash` (it reboots), `isolated` (from the
    network), `stall` (it dies slowly); these last for its `repair_s` unless they say."""

    host: str
    at_s: int = number(least=1)
    kind: Literal["power", "crash", "isolated", "stall"] = "power"
    lasts_s: float | None = number(None, above=0)


@dataclasses.dataclass(frozen=True)
class Maintenance:
    """A host is to be empty by `deadline_s`; it is back at `until_s` (null: not in this episode)."""

    host: str
    from_s: int = number(least=1)
    deadline_s: int = number(least=2)
    until_s: int | None = number(None, least=3)

    def __post_init__(self) -> None:
        if not self.from_s < self.deadline_s < (math.inf if self.until_s is None else self.until_s):
            raise InputError(
                f"deadline_s={self.deadline_s}: must lie after from_s={self.from_s} and before until_s={self.until_s}"
            )


def expanded(stack: Any) -> Any:
    """Plain data of a stack in which `migration` and `ha` stand in full, where they name those of a stack. Raises `InputError`."""
    if not isinstance(stack, Mapping):
        return stack
    full = dict(stack)
    for key, named in (("migration", migration_rules.named), ("ha", ha_rules.named)):
        given = full.get(key)
        if isinstance(given, str):
            given = {"like": given}
        if isinstance(given, Mapping) and "like" in given:
            full[key] = plain(named(str(given["like"]))) | {
                name: value for name, value in given.items() if name != "like"
            }
    return full


ALONE: dict[str, Any] = {
    "host": None,
    "cpu_model": HOST_MODEL,
    "leave_s": None,
    "lifetime_s": None,
    "high_availability": True,
    "restart_priority": 1.0,
}
"""Keys of a VM that only a cluster has, as they are without one."""


def check(scenario: "Scenario") -> None:
    """Whether a scenario has one host or a cluster, and names no host that there is not. Raises `InputError`."""
    if (scenario.host is None) == (not scenario.hosts):
        raise InputError("host: give either host, or hosts and the stack that manages them, not both and not neither")
    if not scenario.hosts:
        _check_no_cluster(scenario)
        return
    if scenario.stack is None:
        raise InputError("stack: missing; hosts need one (hvgym list stacks)")
    names = scenario.host_names
    if len(set(names)) < len(names):
        raise InputError(f"hosts: names are not unique: {', '.join(names)}")
    for key in ("failures", "maintenance"):
        for index, one in enumerate(getattr(scenario, key)):
            if one.host not in names:
                raise InputError(
                    f"{key}[{index}].host={one.host!r}: no such host{nearest(one.host, names)}; known: {', '.join(names)}"
                )
    groups = [group.name for group in scenario.hosts]
    for index, vm in enumerate(scenario.vms):
        if vm.host is not None and vm.host not in (*names, *groups):
            raise InputError(
                f"vms[{index}].host={vm.host!r}: no such host{nearest(vm.host, names)}; known: {', '.join(names)}"
            )
        if vm.lifetime_s is not None and (vm.leave_s is not None or vm.arrive_s > 0.0):
            raise InputError(
                f"vms[{index}].lifetime_s={vm.lifetime_s:g}: arrive_s and leave_s say when; leave them out"
            )
        if vm.startup_mib is not None or vm.settled_mib is not None:
            key = "startup_mib" if vm.startup_mib is not None else "settled_mib"
            raise InputError(f"vms[{index}].{key}: VMs of a cluster begin with all their memory; leave it out")


def _check_no_cluster(scenario: "Scenario") -> None:
    for key in ("stack", "failures", "maintenance"):
        if getattr(scenario, key):
            raise InputError(f"{key}: only a cluster has it; give hosts in place of host, or leave it out")
    for index, vm in enumerate(scenario.vms):
        for key, without in ALONE.items():
            if getattr(vm, key) != without:
                raise InputError(
                    f"vms[{index}].{key}={getattr(vm, key)!r}: only a cluster has it; give hosts in place of host"
                )
