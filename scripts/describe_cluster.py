"""What ``hvgym describe`` says of a cluster: its hosts, the stack that manages them, failures and maintenance."""

from typing import TYPE_CHECKING, Any

import numpy as np

from hvgym.envs.cluster_parts import Failure, HostGroup, Maintenance, Stack
from hvgym.envs.ha_rules import HaRules
from hvgym.envs.migration_rules import MigrationRules
from hvgym.envs.scenario import Scenario

if TYPE_CHECKING:
    from hvgym.envs.cluster_simulator import ClusterSimulator

FAILS = {
    "power": "loses power",
    "crash": "crashes and reboots",
    "isolated": "is cut off from the network",
    "stall": "dies slowly: it stalls",
}
"""What a host does, by kind of failure."""

RESPONSES = {"leave_on": "leaves them running", "power_off": "powers them off", "pause": "pauses them"}
"""What an isolated host does with its VMs."""

FENCINGS = {
    "locks": "restarts wait for locks of the shared storage",
    "evicts": "evicts it from the cluster",
    "resets": "resets it by power management",
}
"""How it is made sure that the VMs of a silent host run no more."""


LAST = {
    "abort": "is given up",
    "postcopy": "switches to post-copy",
    "stop": "stops the VM and sends the rest",
}
"""What becomes of a copy that takes too long."""


def hosts_of(group: HostGroup) -> str:
    """Names of a group's hosts."""
    return group.name if group.count == 1 else f"{group.names[0]} to {group.names[-1]}"


def host_line(scenario: Scenario, group: HostGroup, row: Any) -> str:
    """A group of hosts; row: `params.HOST_SPEC` of one of them."""
    hypervisor = group.hypervisor or scenario.hypervisor
    storage = "disks of its own" if group.own_storage else "shared storage"
    shares = "VMs' traffic too" if group.shared_link else f"copies alone; VMs have {group.nic_mib_per_s:g} MiB/s beside"
    fails = f"; fails {group.failures_per_year:g} times a year" if group.failures_per_year else ""
    return (
        f"{hosts_of(group)}: {row['ram_mib'] / 1024:.1f} GiB RAM, {group.pcpus:.0f} CPUs of {group.clock_ghz:g} GHz ({group.cpu}), "
        f"hypervisor {hypervisor.name} with {row['own_mib']:.0f} MiB of its own; {storage}, {row['disk_iops']:.0f} random reads/s "
        f"at {row['disk_latency_s'] * 1e6:.0f} µs and {row['disk_mib_per_s']:.0f} MiB/s; link {group.link_mib_per_s:g} MiB/s for "
        f"{shares}; at work again {group.repair_s:g} s after a crash, {group.boot_s:g} s after a reset{fails}"
    )


def room_line(sim: "ClusterSimulator") -> str:
    """Whether all VMs that are there at once fit, on all hosts and without the largest."""
    hosts, demand, lives = sim.host_specs[0], sim.arrays.demand[0], sim.arrays.residents[0]
    at_s = np.arange(len(demand))[:, None] * sim.slot_s
    there = (at_s >= lives["arrive_s"]) & (at_s < lives["leave_s"])
    configured_mib = (sim.vm_specs[0]["memory_mib"] * there).sum(axis=1).max()
    wanted_mib = (demand["tier_mib"].sum(axis=-1) * there).sum(axis=1).max()
    ram_mib = hosts["ram_mib"].sum()
    left_mib = ram_mib - hosts["ram_mib"].max()
    configured, wanted = (
        f"{mib / ram_mib:.2f} x RAM, {mib / left_mib:.2f} x without the largest host"
        for mib in (configured_mib, wanted_mib)
    )
    return (
        f"{len(hosts)} hosts, {ram_mib / 1024:.0f} GiB RAM, {hosts['pcpus'].sum():.0f} CPUs; {len(lives)} VMs, at most "
        f"{there.sum(axis=1).max()} at once; configured memory {configured}; wanted memory at most {wanted}"
    )


def stack_lines(stack: Stack) -> list[str]:
    """What manages the hosts: placement, copies, high availability."""
    most = "any ratio" if stack.most_overcommit is None else f"{stack.most_overcommit:g} x a host's RAM"
    chooses = "chooses hosts for starts" if stack.places else "leaves the choice of hosts to others"
    balances = "does not balance by itself" if stack.stock is None else f"balances as agent {stack.stock} does"
    storage = "disks move with VMs where they must" if stack.moves_storage else "no VM moves without its storage"
    return [
        f"stack {stack.name}{f': {stack.description}' if stack.description else ''}",
        f"  placement: configured memory up to {most}; {chooses}; {balances}",
        f"  copies: {'; '.join(_copies(stack.migration))}; {storage}",
        f"  high availability: {'; '.join(_availability(stack.ha))}",
    ]


def _copies(rules: MigrationRules) -> list[str]:
    limit = (
        "the link's speed"
        if rules.bandwidth_mib_per_s is None
        else f"at most {rules.bandwidth_mib_per_s:.4g} MiB/s each"
    )
    at_once = [
        f"{count} {where}"
        for count, where in (
            (rules.parallel_out, "from a host"),
            (rules.parallel_in, "to a host"),
            (rules.parallel_per_cluster, "in all"),
        )
        if count is not None
    ]
    if rules.vmotion_pools:
        at_once.append("as ESXi's pools of hosts, networks and datastores allow")
    parts = [f"{rules.name}, {limit}", f"{', '.join(at_once)} at once" if at_once else "any number at once"]
    parts.append(f"stops for {rules.downtime_limit_ms:g} ms at most")
    if rules.throttle_most_share is not None:
        parts.append(f"vCPUs are throttled by up to {rules.throttle_most_share:.0%}")
    if rules.slow_to_share is not None:
        parts.append(f"vCPUs are slowed to {rules.slow_to_share:.0%}")
    if rules.postcopy_after_s is not None:
        parts.append(f"post-copy after {rules.postcopy_after_s:g} s")
    parts += [f"where it does not converge it {LAST[last]}" for last in rules.schedule_then]
    if rules.timeout_s_per_gib is not None:
        parts.append(f"after {rules.timeout_s_per_gib:g} s a GiB it {LAST[rules.on_timeout]}")
    if rules.progress_timeout_s is not None:
        parts.append(f"given up after {rules.progress_timeout_s:g} s without progress")
    return parts


def _availability(rules: HaRules) -> list[str]:
    if not rules.restarts:
        return [f"{rules.name}, restarts nothing"]
    order = "by priority" if rules.by_priority else "in no order of priority"
    at_once = rules.starts_per_host or rules.starts_per_cluster
    each = "a host" if rules.starts_per_host else "in all"
    delays = ", ".join(f"{delay:g}" for delay in rules.retry_s)
    tries = "for ever" if rules.most_tries is None else f"{rules.most_tries} times"
    parts = [
        f"{rules.name}, a heartbeat each {rules.heartbeat_s:g} s, a host is taken for dead after {rules.dead_s:g} s",
        FENCINGS[rules.fencing] + (f" within {rules.fence_s:g} s" if rules.fence_s else ""),
        f"restarts {order}{f', {at_once} {each} at once' if at_once else ''}; tries {tries}, again after {delays} s",
    ]
    if rules.watchdog_s is not None:
        parts.append(f"a host that is cut off resets itself after {rules.watchdog_s:g} s")
    if rules.isolated_s is not None:
        parts.append(f"an isolated host notices after {rules.isolated_s:g} s and {RESPONSES[rules.response]}")
    return parts


def event_lines(scenario: Scenario) -> list[str]:
    """What happens to hosts, in order."""
    repair_s = {name: group.repair_s for group in scenario.hosts for name in group.names}
    found = [(one.at_s, _failure(one, repair_s[one.host])) for one in scenario.failures]
    found += [(one.from_s, _maintenance(one)) for one in scenario.maintenance]
    by_chance = any(group.failures_per_year for group in scenario.hosts)
    return [text for _, text in sorted(found)] or [
        f"no host fails{' but by chance' if by_chance else ''}; no maintenance is planned"
    ]


def _failure(one: Failure, repair_s: float) -> str:
    lasts_s = one.lasts_s if one.lasts_s is not None or one.kind == "power" else repair_s
    back = "for good" if lasts_s is None else f"for {lasts_s:g} s"
    return f"failure at {one.at_s} s: {one.host} {FAILS[one.kind]}, {back}"


def _maintenance(one: Maintenance) -> str:
    back = "not back in this episode" if one.until_s is None else f"back at {one.until_s} s"
    forced = f"{one.host} is to be empty by {one.deadline_s} s, when VMs left there are forced off"
    return f"maintenance from {one.from_s} s: {forced}; {back}"
