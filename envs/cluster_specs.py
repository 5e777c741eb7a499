"""From a scenario with several hosts to the model's arrays (``model.cluster.Arrays``): what a VM is on hosts of each group, what
stands in the way between them, and where it is as an episode begins.

A VM's specification follows its host: exits, devices, its part of the disk and the clock. Work is measured against the fastest host
of the cluster: on a slower clock the same work takes more CPU time, which is folded into the tax of exits.

At the beginning a VM is where the scenario says, or, VM by VM in the order of the scenario, on the host with the largest share of
RAM that is not promised yet: what every stack's own placement leads to on hosts alike.
"""

import math

import numpy as np

from hvgym.envs.cluster_parts import FAILURES, HOST_MODEL, YEAR_S, HostGroup
from hvgym.envs.errors import InputError
from hvgym.envs.model import concurrency, params, placement, rng
from hvgym.envs.model.failure import HA
from hvgym.envs.model.migration import MIGRATION
from hvgym.envs.scenario import Scenario, VmGroup
from hvgym.envs.specs import check_room, host_spec_row

LEVELS = {"x86-64-v2": 2, "x86-64-v3": 3, "x86-64-v4": 4, "arm64": 0}

MOVE_NOTHING = frozenset({"workstation", "virtualbox", "baremetal"})
"""Hypervisors that move no running VM by themselves: Workstation and bare metal have no way, VirtualBox's teleporting is a manual
act on two hosts that each name the other (recalled)."""

LIFE_SIGMA = 1.5
"""Of the logarithm of lifetimes: those of Azure's VMs that live for less than a day (M15: median 20 min, sigma 1.5)."""

GBIT_PER_MIB = 8.0 * 2**20 / 1e9

ENOUGH = 1e9
"""In place of no limit."""


def fit_clock(scenario: Scenario, kind: int, vm_specs: np.ndarray) -> None:
    """Let the work of VMs, ``[vm]``, take as long as on hosts of a group."""
    slower = max(group.clock_ghz for group in scenario.hosts) / scenario.hosts[kind].clock_ghz
    vm_specs["exit_tax"] = slower * vm_specs["exit_tax"] + (
        slower - 1.0
    )  # to the bit as it was, where clocks are alike
    vm_specs["arrive_s"] = 0.0


def host_rows(scenario: Scenario, kinds: np.ndarray) -> np.ndarray:
    """`params.HOST_SPEC` of every host, ``[host]``. Raises `InputError` where VMs do not fit into all hosts together."""
    rows = params.zeros((len(scenario.host_names),), params.HOST_SPEC)
    h = 0
    for k, group in enumerate(scenario.hosts):
        alone = scenario.alone_on(group)
        for _ in group.names:
            host_spec_row(alone, kinds[k], rows[h], alone=False)
            if group.shared_link:  # one wire for all
                rows[h]["nic_mib_per_s"] = min(group.nic_mib_per_s, group.link_mib_per_s)
            h += 1
    check_room(kinds[0], float(rows["ram_mib"].sum()), float(rows["own_mib"].sum()))
    return rows


def machine_rows(scenario: Scenario, host_specs: np.ndarray) -> np.ndarray:
    """`placement.MACHINE_SPEC` of every host, ``[host]``."""
    rows = np.zeros(len(scenario.host_names), placement.MACHINE_SPEC)
    h = 0
    for k, group in enumerate(scenario.hosts):
        for _ in group.names:
            row, spec = rows[h], host_specs[h]
            row["kind"] = k
            for field in ("own_mib", "nic_mib_per_s", "disk_mib_per_s"):
                row[field] = spec[field]
            row["own_storage"], row["shares_link"] = group.own_storage, group.shared_link
            row["link_mib_per_s"] = spec["nic_mib_per_s"] if group.shared_link else group.link_mib_per_s
            row["most_units"] = concurrency.pool_most(round(float(row["link_mib_per_s"]) * GBIT_PER_MIB, 1))
            rate = group.failures_per_year / YEAR_S
            row["mean_time_to_failure_s"] = 1.0 / rate if rate > 0.0 else math.inf
            row["repair_s"], row["boot_s"] = group.repair_s, group.boot_s
            h += 1
    return rows


def live_obstacles(scenario: Scenario) -> np.ndarray:
    """What stands in the way of a running VM, ``[vm, kind on which it booted, kind]``."""
    groups = scenario.groups
    found = np.zeros((len(groups), len(scenario.hosts), len(scenario.hosts)), np.int64)
    for v, vm in enumerate(groups):
        for a, source in enumerate(scenario.hosts):
            for b, target in enumerate(scenario.hosts):
                found[v, a, b] = _live(scenario, vm, source, target)
    return found


def _live(scenario: Scenario, vm: VmGroup, source: HostGroup, target: HostGroup) -> int:
    here, there = (group.hypervisor or scenario.hypervisor for group in (source, target))
    if here.name in MOVE_NOTHING or there.name in MOVE_NOTHING:
        return placement.NO_MIGRATION
    if here.name != there.name:
        return placement.HYPERVISOR
    if any(one is not None and one.passes_through for one in (vm.disk or here.disk, vm.nic or here.nic)):
        return placement.PASSED_THROUGH
    if (source.cpu == "arm64") != (target.cpu == "arm64"):
        return placement.ARCHITECTURE
    sees = source.cpu if vm.cpu_model == HOST_MODEL else vm.cpu_model
    return placement.CPU_LEVEL if LEVELS[sees] > LEVELS[target.cpu] else placement.FREE


def cold_obstacles(scenario: Scenario) -> np.ndarray:
    """What stands in the way of a VM that is started, ``[vm, kind]``."""
    found = np.zeros((len(scenario.groups), len(scenario.hosts)), np.int64)
    for v, vm in enumerate(scenario.groups):
        home = home_of(scenario, vm)
        for k, group in enumerate(scenario.hosts):
            found[v, k] = _cold(scenario, vm, home, group)
    return found


def home_of(scenario: Scenario, vm: VmGroup) -> HostGroup:
    """The group of hosts for which a VM was made: that on which it begins, or the first that has its processor."""
    for group in scenario.hosts:
        if vm.host in (group.name, *group.names):
            return group
    arm = vm.cpu_model == "arm64"
    fitting = [group for group in scenario.hosts if (group.cpu == "arm64") == arm]
    return (fitting or list(scenario.hosts))[0]


def _cold(scenario: Scenario, vm: VmGroup, home: HostGroup, group: HostGroup) -> int:
    """A native program needs the architecture that it was made for and an image for the hypervisor; bytecode runs anywhere, as a
    service that is started anew."""
    if vm.jvm is not None:
        return placement.FREE
    if (group.hypervisor or scenario.hypervisor).name != (home.hypervisor or scenario.hypervisor).name:
        return placement.HYPERVISOR
    if (group.cpu == "arm64") != (home.cpu == "arm64"):
        return placement.ARCHITECTURE
    if vm.cpu_model != HOST_MODEL and LEVELS[vm.cpu_model] > LEVELS[group.cpu]:
        return placement.CPU_LEVEL
    return placement.FREE


def stack_row(scenario: Scenario) -> np.ndarray:
    """`placement.STACK`, ``[1]``."""
    stack = scenario.stack
    assert stack is not None  # a scenario's check
    row = np.zeros(1, placement.STACK)
    rules = stack.migration
    most = {"out": rules.parallel_out, "in": rules.parallel_in, "at_all": rules.parallel_per_cluster}
    for where, count in most.items():
        row[f"most_{where}"] = ENOUGH if count is None else count
    row["pools"] = rules.vmotion_pools
    row["most_overcommit"] = ENOUGH if stack.most_overcommit is None else stack.most_overcommit
    row["needs_guaranteed"] = stack.needs_guaranteed
    row["places"], row["moves_storage"] = stack.places, stack.moves_storage
    row["cpu_per_mib_per_s"] = stack.cpu_per_mib_per_s
    return row


def migration_row(scenario: Scenario) -> np.ndarray:
    """`migration.MIGRATION`, ``[1]``."""
    assert scenario.stack is not None
    rows = np.zeros(1, MIGRATION)
    rows[0] = scenario.stack.migration.row()
    return rows


def ha_row(scenario: Scenario) -> np.ndarray:
    """`failure.HA`, ``[1]``."""
    assert scenario.stack is not None
    rows = np.zeros(1, HA)
    rows[0] = scenario.stack.ha.row()
    return rows


def failure_rows(scenario: Scenario) -> np.ndarray:
    """`placement.FAILURE`, by second."""
    names = scenario.host_names
    rows = np.zeros(len(scenario.failures), placement.FAILURE)
    for row, one in zip(rows, sorted(scenario.failures, key=lambda one: one.at_s), strict=True):
        row["host"], row["kind"], row["at_s"] = names.index(one.host), FAILURES.index(one.kind), one.at_s
        row["lasts_s"] = one.lasts_s or (math.inf if one.kind == "power" else 0.0)  # 0 is the host's own figure
    return rows


def plan_rows(scenario: Scenario) -> np.ndarray:
    """`placement.MAINTENANCE_PLAN`."""
    rows = np.zeros(len(scenario.maintenance), placement.MAINTENANCE_PLAN)
    for row, one in zip(rows, scenario.maintenance, strict=True):
        row["host"], row["from_s"], row["deadline_s"] = scenario.host_names.index(one.host), one.from_s, one.deadline_s
        row["until_s"] = math.inf if one.until_s is None else one.until_s
    return rows


def begin_residents(
    scenario: Scenario, seed: int, memory_mib: np.ndarray, host_specs: np.ndarray, rows: np.ndarray
) -> None:
    """Write where VMs of these sizes (``[vm]``) are as the episode begins into `placement.RESIDENT`, ``[vm]``.

    Raises:
        InputError: where a VM can start on no host.
    """
    cold, kind_of = cold_obstacles(scenario), _kinds(scenario)
    names = scenario.host_names
    promised = np.zeros(len(names))
    for v, vm in enumerate(scenario.groups):
        row = rows[v]
        row["row"] = v
        row["arrive_s"], row["leave_s"] = life_s(scenario, seed, v)
        row["restarts_it"], row["priority"] = vm.high_availability, vm.restart_priority
        for field in ("host", "target", "source", "wanted", "disk_host"):
            row[field] = placement.NOWHERE
        row["state"] = placement.ABSENT
        if row["arrive_s"] > 0.0:
            continue
        allowed = [h for h in range(len(names)) if cold[v, kind_of[h]] == placement.FREE and _named(vm, names[h])]
        if not allowed:
            raise InputError(f"vms: {vm.name} can start on no host: {placement.OBSTACLES[int(cold[v].max())]}")
        h = min(allowed, key=lambda h: (promised[h] + memory_mib[v]) / host_specs["ram_mib"][h])
        promised[h] += memory_mib[v]
        row["host"], row["state"], row["booted_kind"] = h, placement.RUNNING, kind_of[h]
        if scenario.hosts[kind_of[h]].own_storage:
            row["disk_host"] = h


def life_s(scenario: Scenario, seed: int, v: int) -> tuple[float, float]:
    """Seconds of the episode in which a VM comes and goes."""
    vm = scenario.groups[v]
    if vm.lifetime_s is None:
        return vm.arrive_s, math.inf if vm.leave_s is None else vm.leave_s
    begins = (
        0.0 if v % 2 == 0 else math.floor(1.0 + rng.uniform(seed, rng.STREAM_LIFE, v, 0) * (scenario.duration_s - 1))
    )
    normal = math.sqrt(-2.0 * math.log(1.0 - rng.uniform(seed, rng.STREAM_LIFE, v, 1)))
    normal *= math.cos(2.0 * math.pi * rng.uniform(seed, rng.STREAM_LIFE, v, 2))
    return begins, math.floor(begins + 1.0 + vm.lifetime_s * math.exp(LIFE_SIGMA * normal))


def _kinds(scenario: Scenario) -> list[int]:
    return [k for k, group in enumerate(scenario.hosts) for _ in group.names]


def _named(vm: VmGroup, name: str) -> bool:
    """Whether a VM may begin on a host of this name: it is told none, or this one, or its group."""
    return vm.host is None or vm.host == name or name.rpartition("-")[0] == vm.host
