"""A scenario whose VMs are somebody's own: one VM for each of a table, by name, with the values of the scenario's VMs for what a
history does not say (weight, guest swap, importance, devices).

The first of the scenario's VMs whose name matches is the pattern of a VM (``*`` matches all, ``db*`` those that begin so). What it
gives in MiB scales with memory. `without` leaves VMs out. Of the host only what is not given is filled in: ``pcpus`` by the fleet's
largest use of CPU, and ``touched_share`` by what the host backed beside what guests held.
"""

import dataclasses
import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from hvgym.envs.errors import InputError, nearest
from hvgym.envs.fleet.history import History, VmHistory, held, read_history
from hvgym.envs.fleet.needs import fleet
from hvgym.envs.schema import build, plain
from hvgym.envs.vm_group import VmGroup

CPU_ROOM = 1.25
"""Processors of a host that is not described, over the fleet's largest use: CPU is not to be what is short (a choice)."""


TAU_S = (8.0, 1800.0, 43200.0, 2.6e6)
"""Re-touch times of those tiers: hot as in the synthetic VMs, then half an hour, half a day, a month."""


def expanded(data: Mapping[str, Any]) -> dict[str, Any]:
    """A scenario's plain data with a VM for each of the table that its workload names. Raises `InputError` where that cannot be."""
    work = data["workload"]
    history = read_history(str(work["path"]))
    templates = [build(VmGroup, vm, f"scenario.vms[{i}]") for i, vm in enumerate(data["vms"])]
    chosen = without(history, work.get("without") or ())
    vms = [plain(group_of(_template(templates, vm.name, history), vm)) | {"name": vm.name, "count": 1} for vm in chosen]
    result = dict(data) | {"vms": vms}
    if "touched_share" not in data:
        result["touched_share"] = round(fleet(str(work["path"]), work.get("level") or "mid").touched_share, 4)
    if isinstance(data.get("host"), Mapping):
        result["host"] = {"pcpus": _pcpus(history)} | dict(data["host"])
        if (ram_mib := result["host"].get("ram_mib")) is not None:  # a size that is given stays
            result["host"]["overcommit"] = None
            _check_size(ram_mib, chosen, history)
    return result


def _check_size(ram_mib: Any, vms: tuple[VmHistory, ...], history: History) -> None:
    """A VM larger than its host can be started by some hypervisors, but a size in another unit is what it means."""
    largest = max(vms, key=lambda vm: vm.cap_mib)
    if isinstance(ram_mib, (int, float)) and largest.cap_mib > ram_mib > 0:
        raise InputError(
            f"scenario.host.ram_mib={ram_mib:g}: VM {largest.name!r} of {history.folder} alone has {largest.cap_mib:.0f} MiB; "
            f"give the host's RAM in MiB, or leave the VM out (workload.without=[{largest.name}])"
        )


def without(history: History, names: Any) -> tuple[VmHistory, ...]:
    """The VMs but those named."""
    known = [vm.name for vm in history.vms]
    for name in names:
        if name not in known:
            raise InputError(f"workload.without: no VM {name!r} in {history.folder}{nearest(name, known)}")
    left = tuple(vm for vm in history.vms if vm.name not in names)
    if not left:
        raise InputError("workload.without: leaves no VM")
    return left


def _template(templates: list[VmGroup], name: str, history: History) -> VmGroup:
    for template in templates:
        if fnmatchcase(name, template.name):
            return template
    if len(templates) == 1:
        return templates[0]
    raise InputError(
        f"scenario.vms: none is a pattern of VM {name!r} of {history.folder}; name one '*', or choose scenario=own-vms"
    )


def _pcpus(history: History) -> int:
    """For what the VMs use at most, together."""
    used = [np.nan_to_num(held(vm.columns["cpu"])) * vm.present for vm in history.vms if "cpu" in vm.columns]
    most = float(np.sum(used, axis=0).max()) if used else sum(vm.vcpus or 1.0 for vm in history.vms) / 4.0
    return max(4, math.ceil(CPU_ROOM * most))


def group_of(template: VmGroup, vm: VmHistory, overcommit_scale: float = 1.0) -> VmGroup:
    """A scenario's VM at the size of somebody's own: what is given in MiB scales with memory. Guarantees shrink as the host is
    filled more than the scenario says, else they would add up to more than its RAM, but nobody guarantees less than a kernel runs
    with."""
    scale = vm.cap_mib / template.memory_mib
    least_mib = template.boot_mib_at(vm.cap_mib)
    min_mib = template.scaled_min_mib(scale / max(overcommit_scale, 1.0), least_mib)

    def scaled(mib: float | None, least: float) -> float | None:
        return None if mib is None else max(mib * scale, least)

    return dataclasses.replace(
        template,
        memory_mib=vm.cap_mib,
        min_mib=min_mib,
        guest_swap_mib=template.guest_swap_mib * scale,
        startup_mib=scaled(template.startup_mib, least_mib),
        settled_mib=scaled(template.settled_mib, least_mib),
        limit_mib=scaled(template.limit_mib, min_mib),
        vcpus=vm.vcpus or template.vcpus,
        tier_tau_s=TAU_S,
        jvm=None,
        story=None,
    )
