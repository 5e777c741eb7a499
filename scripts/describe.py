"""``hvgym describe scenario=…``: a scenario in plain words, with what its hypervisor lets one set and read; ``suite=…``: what a
suite holds (``describe_suite``)."""

from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from hvgym.envs.rules import INTERFACES
from hvgym.envs.seats import CHANNELS, METHODS, Channel, Reading
from hvgym.scripts import configuration, describe_cluster, describe_suite

TYPES = {0: "bare metal", 1: "Type 1", 2: "Type 2"}


def last_resort(hypervisor: Any, machine: Any, host: Any) -> str:
    """What the hypervisor of a machine does by itself when memory is short, in a sentence; host: `params.HOST_SPEC`."""
    if hypervisor.last_resort == "commit":
        paging = "pages only what a starting VM lacks" if hypervisor.smart_paging else "never pages VMs"
        return f"last resort: memory is committed to VMs, {paging}; {host['min_free_mib']:.0f} MiB are kept free"
    if hypervisor.last_resort == "esxi":
        states = ", ".join(
            f"{name} {mib:.0f}" for name, mib in zip(("clear", "soft", "hard", "low"), host["state_mib"], strict=True)
        )
        text = f"last resort: minFree's states (MiB free: {states}); swaps from hard on"
    else:
        text = f"last resort: swaps below {host['min_free_mib']:.0f} MiB free, until {host['goal_free_mib']:.0f} are"
    device = machine.swap or "the common disk"
    if machine.swap_iops is not None:
        device += f" at {host['swap_iops']:.0f} operations/s"
    return f"{text}, to {device} ({host['swap_mib'] / 1024:.0f} GiB)"


def memory(group: Any, hypervisor: Any) -> list[str]:
    """What is special about a VM's memory: how it starts, what its driver tells, and its limit."""
    parts = []
    if group.startup_mib is not None:
        held = "the rest in its balloon" if hypervisor.startup == "balloon" else "its startup memory"
        parts.append(f"starts with {group.startup_mib:.0f} MiB, {held}")
    if group.settled_mib is not None:
        since = "has filled its memory ballooned" if group.settled_cold else "has long been ballooned"
        parts.append(f"{since} to {group.settled_mib:.0f} MiB")
    if not group.balloon:
        parts.append("no balloon driver, so no statistics")
    elif group.stats == "none" or hypervisor.stats_interval_s == 0.0:
        parts.append("its balloon works and reports nothing")
    elif group.stats == "windows":
        parts.append("Windows' statistics: free memory includes the standby list")
    if group.stats_frozen_s is not None:
        parts.append(f"its statistics freeze at {group.stats_frozen_s:.0f} s")
    if group.limit_mib is not None:
        means = f"memory.{group.limit_kind or 'max'} of its cgroup"
        if hypervisor.limits == "esxi":
            means = "balloon, compression and swap, in this order" if group.balloon else "compression, then swap"
        parts.append(f"at most {group.limit_mib:.0f} MiB of host memory, by {means}")
    return parts


def story(group: Any) -> str:
    """What a VM's workload does, tier by tier and step by step."""
    tiers = ", ".join(
        f"{tier.name}{' (page cache)' if tier.page_cache else ''} touched every {tier.retouch_s:g} s"
        for tier in group.story.tiers
    )
    steps = "; ".join(
        f"from {step.at_s} s " + " + ".join(f"{mib:.0f}" for mib in sizes[: len(group.story.tiers)])
        for step, sizes in zip(group.story.steps, group.story.sizes_mib(), strict=True)
    )
    return f"story of {tiers}: {steps} MiB"


def generated(vm: Any) -> str:
    """What a generated VM is like."""
    from hvgym.envs.generators.classes import CLASSES

    views = {"hot_set": "hot", "resident": "held"}
    level = "a drawn share" if vm.level is None else f"a median of {vm.level:.0%}"
    parts = [CLASSES[vm.kind].says, f"{level} of its memory is {views[vm.family]} (figures of family {vm.family})"]
    parts += [f"bursts with all of siblings {vm.siblings}"] if vm.siblings >= 0 else []
    parts += [f"is started within {vm.arrive_within_s:g} s"] if vm.arrive_within_s > 0.0 else []
    return "; ".join(parts)


def details(scenario: Any) -> list[str]:
    """Virtual devices, parts of disk and link, JVMs and memory: a line a group of VMs, where there is something to say."""
    lines = []
    known = evidence(scenario)
    for group in scenario.vms:
        disk, nic = (getattr(group, kind) or getattr(scenario.hypervisor, kind) for kind in ("disk", "nic"))
        parts = [f"disk {disk.name if disk else 'native'}, nic {nic.name if nic else 'native'}"]
        if any(device is not None and device.passes_through for device in (disk, nic)):
            parts.append("passed through: its memory is pinned")
        parts += [
            f"{name} {value:g}{unit}"
            for name, value, unit in (
                ("disk shares", group.disk_shares, ""),
                ("disk reservation", group.disk_reservation_iops or None, " IOPS"),
                ("disk limit", group.disk_limit_iops, " IOPS"),
                ("disk burst", group.disk_burst_iops, f" IOPS for {group.disk_burst_s or 1.0:g} s"),
                ("network shares", group.net_shares, ""),
                ("network reservation", group.net_reservation_mib_per_s or None, " MiB/s"),
                ("network limit", group.net_limit_mib_per_s, " MiB/s"),
                ("objective for the disk", group.slo_disk_latency_ms, " ms"),
                ("for the network", group.slo_net_latency_ms, " ms"),
            )
            if value is not None
        ]
        if group.jvm is not None:
            aware = ", heap-aware balloon" if group.jvm.heap_aware else ""
            parts.append(f"JVM {group.jvm.workload.name}, heap {group.jvm.xmx_mib:.0f} MiB{aware}")
        parts += memory(group, scenario.hypervisor)
        if scenario.workload.kind == "story":
            parts.append(story(group))
        parts += [f"evidence: {known[group.name]}"] if group.name in known else []
        if scenario.workload.kind == "generated":
            parts.append(generated(group.generated))
        lines.append(f"{group.name}: {'; '.join(parts)}; processor: {group.architecture}")
    return lines


def evidence(scenario: Any) -> dict[str, str]:
    """What is known of each VM of a table, by name; nothing of other scenarios."""
    if scenario.workload.kind != "history" or scenario.workload.vms != "all":
        return {}
    from hvgym.envs.fleet.telling import labels

    return labels(scenario.to_dict()["workload"])


def channel_line(channel: Channel) -> str:
    """A channel with what its source says of it."""
    parts = [
        f"{label} {text}"
        for label, text in (
            ("grain", channel.grain),
            ("rate", channel.rate),
            ("delay", channel.delay),
            ("one setting each", f"{channel.every_s} s" if channel.every_s > 1 else ""),
            ("finds pages by", METHODS[channel.method] if channel.method else ""),
            ("cap", channel.cap),
            ("a guest that does not cooperate:", channel.unwilling),
            ("source:", channel.source),
        )
        if text
    ]
    return f"  sets {channel.name} ({CHANNELS[channel.name]}) by {channel.by}; {'; '.join(parts)}"


def reading_line(reading: Reading) -> str:
    """What is read, how old it is, and what it takes."""
    parts = [f"delay {reading.delay}"] if reading.delay else []
    parts += [f"refreshed each {reading.every_s} s"] if reading.every_s else []
    parts += [f"silent for {reading.silent_s} s after a start"] if reading.silent_s else []
    parts += [f"watches pages by {METHODS[reading.method]}"] if reading.method else []
    return f"  reads {'; '.join([', '.join(reading.names), *parts, f'source: {reading.source}'])}"


def seats(scenario: Any) -> list[str]:
    """The rules, and what each seat of the hypervisor can set and read."""
    rules = {
        "open": "every channel is open to everybody; rules=default would hold policies to what follows",
        "default": "a policy plays where its seat has what it declares (hvgym bench says who does not)",
    }
    lines = [f"rules {scenario.rules}: {rules[scenario.rules]}"]
    capabilities = scenario.hypervisor.capabilities
    if capabilities is None:
        return [
            *lines,
            f"hypervisor {scenario.hypervisor.name} declares no capabilities: rules=default refuses everybody",
        ]
    for name in ("inside", "outside"):
        seat = capabilities.seat(name)
        lines.append(f"{name}:")
        lines += [channel_line(channel) for channel in seat.channels]
        for reading in seat.signals:
            lines.append(reading_line(reading))
        for label, names in (("has", seat.interfaces), ("not in this model:", seat.not_modelled)):
            if names:
                lines.append(f"  {label} {', '.join(INTERFACES.get(one, one) for one in names)}")
    return lines


@configuration.verb("describe")
def main(config: DictConfig) -> None:
    """Print hosts, VMs and the demand of the episode of one seed."""
    from rich.console import Console
    from rich.markup import escape

    from hvgym.envs.backends import simulator

    if OmegaConf.select(config, "suite") is not None:
        describe_suite.main(config)
        return
    scenario = configuration.scenario(config)
    seed = configuration.seed(config)
    configuration.runs_folder(config)
    configuration.print_trace_report(scenario.to_dict())
    sim = simulator(scenario)
    sim.reset([seed ^ 1])
    other = sim.hidden().demand.tobytes()
    sim.reset([seed])
    one_demand = sim.hidden().demand.tobytes() == other
    console = Console(markup=False)
    console.print(f"[bold]{escape(scenario.name)}[/]: {escape(scenario.description)}", markup=True)
    for line in (*(of_cluster if scenario.is_cluster else of_host)(scenario, sim), *details(scenario)):
        console.print(line, highlight=False, markup=False)
    console.print(table(scenario, sim))
    groups = ", of a group's first VM" if scenario.is_cluster else ""
    console.print(f"All sizes in MiB; hot and wanted memory over the episode of seed {seed}{groups}.", style="dim")
    if one_demand:
        console.print(
            "Every seed has the same demand: episodes of several seeds are copies and count as one.", style="dim"
        )
    for line in seats(scenario):
        console.print(line, highlight=False, markup=False)


def episode(scenario: Any) -> str:
    """Length, workload and what a kill costs."""
    return (
        f"{scenario.duration_s / 60:.0f} min, a decision every {scenario.control_interval_s} s; workload {workload(scenario)}; "
        f"a kill or a failed start costs {scenario.kill_cost_s:g} s of the VM's work"
    )


def workload(scenario: Any) -> str:
    """Its kind, and of a table the level."""
    work = scenario.workload
    return f"history at level {work.level}" if work.kind == "history" else str(work.kind)


def of_host(scenario: Any, sim: Any) -> list[str]:
    """The host of a scenario that has one."""
    host, specs, hypervisor = sim.host_specs[0, 0], sim.vm_specs[0], scenario.hypervisor
    tiers = sim.demand[0]["tier_mib"].sum(axis=-1)
    return [
        f"{episode(scenario)}; hypervisor {hypervisor.name} ({TYPES[hypervisor.type]}, {host['own_mib']:.0f} MiB of its own)",
        last_resort(hypervisor, scenario.machine, host),
        f"host: {host['ram_mib'] / 1024:.1f} GiB RAM, {host['pcpus']:.0f} CPUs, disk {host['disk_iops']:.0f} random reads/s at "
        f"{host['disk_latency_s'] * 1e6:.0f} µs and {host['disk_mib_per_s']:.0f} MiB/s; configured VM memory is "
        f"{specs['memory_mib'].sum() / host['ram_mib']:.2f} x RAM, "
        f"wanted memory {tiers.sum(axis=1).max() / host['ram_mib']:.2f} x at most",
    ]


def of_cluster(scenario: Any, sim: Any) -> list[str]:
    """Hosts, group by group, their stack, and what happens to them."""
    hosts = sim.host_specs[0]
    lines = [episode(scenario), describe_cluster.room_line(sim)]
    first = 0
    for group in scenario.hosts:
        lines.append(describe_cluster.host_line(scenario, group, hosts[first]))
        lines.append(f"  {last_resort(group.hypervisor or scenario.hypervisor, group.machine, hosts[first])}")
        first += group.count
    lines += describe_cluster.stack_lines(scenario.stack)
    return lines + describe_cluster.event_lines(scenario)


def table(scenario: Any, sim: Any) -> Any:
    """A row a VM, or in a cluster a row a group of VMs alike."""
    from rich import box
    from rich.table import Table

    specs, demand = sim.vm_specs[0], sim.hidden().demand[0]
    tiers = demand["tier_mib"].sum(axis=-1)
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    words = ("VMs", "on", "memory", "min") if scenario.is_cluster else ("VM", "memory", "minimum")
    for name in (*words, "swap", "weight", "hot", "hot, max", "wanted", "critical"):
        found.add_column(
            name, justify="left" if name in ("VMs", "VM", "on") else "right", no_wrap=name in ("VMs", "min")
        )
    for v, cells in rows(scenario):
        spec, group = specs[v], scenario.groups[v]
        figures = [spec["memory_mib"], spec["min_mib"], spec["guest_swap_mib"]]
        hot = demand["tier_mib"][:, v, 0]
        found.add_row(
            *cells, *(f"{x:.0f}" for x in figures), f"{spec['weight']:g}", f"{np.median(hot):.0f}", f"{hot.max():.0f}",
            f"{np.median(tiers[:, v]):.0f}", "yes" if group.critical else "",
        )  # fmt: skip
    return found


def rows(scenario: Any) -> list[tuple[int, tuple[str, ...]]]:
    """The VM that a row shows, and what stands at its beginning."""
    from rich.markup import escape

    if not scenario.is_cluster:
        return [(v, (escape(f"{v} {group.name}"),)) for v, group in enumerate(scenario.groups)]
    first = np.cumsum([0, *(group.count for group in scenario.vms)])
    return [
        (int(v), (f"{group.count} {group.name}", begins(group))) for v, group in zip(first, scenario.vms, strict=False)
    ]


def begins(group: Any) -> str:
    """Where VMs are at first, or when they come and how long they stay."""
    if group.lifetime_s is not None:
        return f"for {group.lifetime_s:g} s"
    when = f" from {group.arrive_s:g} s" if group.arrive_s > 0.0 else ""
    when += f" until {group.leave_s:g} s" if group.leave_s is not None else ""
    return f"{group.host or 'any'}{when}"
