"""Writes docs/io.md and its pictures: what devices, neighbours and balloons do to I/O and to JVMs (``make io``)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import rollout
from hvgym.bench.suites import seeds
from hvgym.envs.device import DeviceModel
from hvgym.envs.scenario import Scenario, VmGroup, load, load_group
from hvgym.envs.schema import build
from hvgym.envs.simulator import Simulator

FOLDER = Path(__file__).resolve().parent
ORANGE, BLUE, GREEN, GREY = "#d1603d", "#3b6fb6", "#4f9d69", "#9aa5b1"
SQUEEZE = "proportional"
"""The policy under which guests are squeezed: each VM gets its share of the host, whatever it does."""

NICS = {"e1000": ORANGE, "virtio-net": GREY, "vhost-net": BLUE, "sriov-posted": GREEN}
OFFERED_MIB_PER_S = np.geomspace(1.0, 400.0, 25)

DIVISIONS = {"first come, first served": GREY, "equal shares": BLUE, "reservation": GREEN}

HEAD = """# Devices, bandwidth, heaps

Made by `make io`: three scenarios, each made for one thing, and the limits of a disk.
`hvgym describe scenario=NAME` says what is in them, `hvgym bench scenario=NAME` plays one with the agents of suite quick, and
`hvgym lab device=nic` and `hvgym lab jvm=h2` show the parts alone.

"""


def changed(scenario: Scenario, name: str, **changes: Any) -> Scenario:
    """The scenario with one group of VMs changed."""
    return replace(scenario, vms=tuple(replace(vm, **changes) if vm.name == name else vm for vm in scenario.vms))


def row_of(scenario: Scenario, name: str) -> int:
    """Index of the first VM of a group."""
    return [group.name for group in scenario.groups].index(name)


def episode(
    scenario: Scenario, agent: str, read: Callable[[Simulator], Mapping[str, np.ndarray]]
) -> tuple[float, dict[str, np.ndarray]]:
    """Goodput of one test episode, and what `read` saw of it, by name, ``[interval, vm]``."""
    seen: list[Mapping[str, np.ndarray]] = []
    policy = make_policy(load_group("agent", agent))
    episodes = rollout(scenario, policy, seeds("test", 1), lambda telemetry, sim: seen.append(read(sim)))
    return float(episodes.goodput[0]), {name: np.array([one[name] for one in seen]) for name in seen[0]}


def panel(axes: Axes, title: str, x: str, y: str) -> None:
    """Labels of one panel."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def saved(figure: Figure, name: str) -> str:
    """Write a picture; return the line of Markdown that shows it."""
    figure.savefig(FOLDER / f"io_{name}.png", dpi=110)
    return f"![{name}](io_{name}.png)"


def figure_of(columns: int) -> tuple[Figure, np.ndarray]:
    """Panels side by side."""
    figure = Figure((4.2 * columns, 3.3), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def gateway(nic: str, offered_mib_per_s: float) -> tuple[float, float, float, float]:
    """A gateway alone on the host: MiB/s served, CPUs of its vCPUs' and of the backend's threads for I/O, latency in ms."""
    scenario = load("emulated-nic")
    group = next(vm for vm in scenario.vms if vm.name == "gateway-emulated")
    demand = replace(group.demand, net_mib_per_s=offered_mib_per_s, phase_swing=0.0)
    alone: VmGroup = replace(group, nic=build(DeviceModel, load_group("nic", nic), nic), demand=demand, min_mib=1024.0)
    host = replace(scenario.host, overcommit=None, ram_mib=32768.0)
    sim = Simulator(replace(scenario, vms=(alone,), host=host))
    sim.reset([0])
    sim.advance(10)
    vm = sim.vms[0, 0]
    served = offered_mib_per_s * float(vm["progress"])
    cpus = [float(vm[field] * vm["progress"]) for field in ("nic_cpu", "nic_backend_cpu")]
    return served, cpus[0], cpus[1], 1e3 * float(vm["net_latency_s"])


def nics() -> list[str]:
    """What each NIC serves, costs and delays."""
    figure, (served, cpu, late) = figure_of(3)
    lines = [
        "| NIC | most packets/s | MiB/s | vCPU, CPUs | backend, CPUs | latency at 10 MiB/s, ms |",
        "|---|---|---|---|---|---|",
    ]
    for nic, colour in NICS.items():
        rows = np.array([gateway(nic, offered) for offered in OFFERED_MIB_PER_S])
        served.loglog(OFFERED_MIB_PER_S, rows[:, 0], color=colour, label=nic)
        cpu.semilogx(OFFERED_MIB_PER_S, rows[:, 1] + rows[:, 2], color=colour)
        cpu.semilogx(OFFERED_MIB_PER_S, rows[:, 1], color=colour, ls=":")
        late.loglog(OFFERED_MIB_PER_S, rows[:, 3], color=colour)
        light = gateway(nic, 10.0)
        top = rows[-1]
        lines.append(
            f"| {nic} | {top[0] * 2**20 / 1500:,.0f} | {top[0]:.0f} | {top[1]:.2f} | {top[2]:.2f} | {light[3]:.3f} |"
        )
    panel(served, "served", "offered, MiB/s in packets of 1,500 bytes", "MiB/s")
    panel(cpu, "CPUs for I/O (dotted: of the vCPUs)", "offered, MiB/s", "CPUs")
    panel(late, "latency of a packet", "offered, MiB/s", "ms")
    served.legend(frameon=False, fontsize=8)
    picture = saved(figure, "nics")
    goodputs, seen = episode(load("emulated-nic"), "static", lambda sim: {"progress": sim.vms["progress"][0].copy()})
    scenario = load("emulated-nic")
    two = [
        100 * seen["progress"][:, row_of(scenario, name)].mean() for name in ("gateway-emulated", "gateway-paravirtual")
    ]
    return [
        "## An emulated NIC fills a core, a paravirtual one does not (`emulated-nic`)",
        "",
        "Two gateways of four vCPUs send 48 MiB/s each. Under `static` the one with an e1000 works at",
        f"{two[0]:.1f} %, the one with vhost-net at {two[1]:.1f} % (goodput of the host {100 * goodputs:.1f} %): 4.5 exits to user",
        "space a packet fill the thread of one vCPU. One gateway alone, over what it is asked to send (the end of each curve is",
        "the table):",
        "",
        picture,
        "",
        *lines,
        "",
        "A paravirtual NIC moves most of the work to a thread of the host, which shows as CPUs of the backend and comes out of the",
        "host's pCPUs. A passed-through one costs neither, and pins the VM's memory: no balloon, no sharing, no host swap.",
    ]  # fmt: skip


def divided(division: str) -> Scenario:
    """The scenario of the noisy disk, its disk divided in this way."""
    scenario = load("noisy-disk")
    if division == "reservation":
        return scenario
    shares = None if division.startswith("first") else 1000.0
    return replace(
        scenario, vms=tuple(replace(vm, disk_reservation_iops=0.0, disk_shares=shares) for vm in scenario.vms)
    )


def disks() -> list[str]:
    """What a database waits while its neighbours swap."""
    scenario = load("noisy-disk")
    figure, panels = figure_of(2)
    vm = row_of(scenario, "database-reserved")
    objective_ms = scenario.groups[vm].slo_disk_latency_ms or 0.0
    lines = [
        "| disk | policy | latency, ms: mean | 95th percentile | progress | seconds in which it missed its objective |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for axes, agent in zip(panels, ("static", SQUEEZE), strict=True):
        for division, colour in DIVISIONS.items():
            plan = divided(division)
            _, seen = episode(
                plan,
                agent,
                lambda sim: {
                    "ms": 1e3 * sim.vms["disk_latency_s"][0], "progress": sim.vms["progress"][0].copy(),
                    "missed": sim.vms["slo_violation_s"][0].copy(),
                },
            )  # fmt: skip
            ms = seen["ms"][:, vm]
            minutes = (np.arange(len(ms)) + 1) * plan.control_interval_s / 60
            axes.semilogy(minutes, ms, color=colour, lw=1.0, label=division)
            lines.append(
                f"| {division} | {agent} | {ms.mean():.2f} | {np.quantile(ms, 0.95):.2f} "
                f"| {100 * seen['progress'][:, vm].mean():.1f} % | {seen['missed'][-1, vm]:.0f} of {plan.duration_s} |"
            )
        axes.axhline(objective_ms, color="black", lw=0.8, ls="--")
        panel(axes, f"under {agent} (dashed: objective)", "minutes", "latency of the database's disk, ms")
        axes.set_ylim(0.2, 12.0)
    panels[0].legend(frameon=False, fontsize=8)
    return [
        "## A neighbour's swapping breaks a database's latency unless its reservation holds (`noisy-disk`)",
        "",
        "A database with all its memory reserved waits 800 times a second for a disk of 20,000 operations a second; five",
        f"neighbours are overcommitted. Under `static` the hypervisor swaps them, under `{SQUEEZE}` their balloons make them swap.",
        "The scenario reserves 8,000 operations for one of its two databases; here the same VM with and without:",
        "",
        saved(figure, "disk"),
        "",
        *lines,
        "",
        "With equal shares the database is slowed because it asks for more than its share while the others have a backlog; first",
        "come, first served is worse or better by who asks for more. `Targets.disk_shares` lets a policy set the shares.",
    ]


LIMITS_IOPS = (None, 5000.0, 3000.0, 1000.0)
"""Of the database; 4,000 operations a second are all that it asks for."""


def limited(**limits: float | None) -> Simulator:
    """The database of `noisy-disk` alone on the disk, its operations limited as QEMU does."""
    scenario = load("noisy-disk")
    group = next(vm for vm in scenario.vms if vm.name == "database")
    demand = replace(group.demand, phase_swing=0.0, burst_mib=0.0)
    alone = replace(group, demand=demand, disk_reservation_iops=0.0, disk_shares=1000.0, **limits)
    host = replace(scenario.host, overcommit=None, ram_mib=32768.0)
    hypervisor = replace(scenario.hypervisor, disk_limits="iops_bursts")
    sim = Simulator(replace(scenario, vms=(alone,), host=host, hypervisor=hypervisor))
    sim.reset([0])
    sim.advance(1)
    return sim


def operations(sim: Simulator) -> float:
    """Of the disk's, that the VM takes a second."""
    vm = sim.vms[0, 0]
    return float(vm["progress"] * vm["disk_demand"] * sim.host_specs[0, 0]["disk_iops"])


def limits() -> list[str]:
    """What a limit of operations does below and above it, and how long a burst is."""
    lines = ["| limit, IOPS | operations/s | latency, ms | progress |", "|---|---|---|---|"]
    for limit in LIMITS_IOPS:
        sim = limited(disk_limit_iops=limit)
        vm = sim.vms[0, 0]
        lines.append(
            f"| {'none' if limit is None else f'{limit:,.0f}'} | {operations(sim):,.0f} | {1e3 * vm['disk_latency_s']:.2f} "
            f"| {100 * vm['progress']:.1f} % |"
        )
    sim = limited(disk_limit_iops=1000.0, disk_burst_iops=3000.0, disk_burst_s=60.0)
    rates = [operations(sim)]
    for _ in range(120):
        sim.advance(1)
        rates.append(operations(sim))
    full = sum(rate > 2999.0 for rate in rates)
    return [
        "## A limit is a token bucket, a device is a queue",
        "",
        "The database of `noisy-disk` alone on the disk, with a limit of its operations (`disk_limit_iops`): below it nothing",
        "changes, above it each operation waits for as long as makes the database as slow as the limit allows. Latency grows",
        "although the disk is idle.",
        "",
        *lines,
        "",
        "`disk_burst_iops: 3000` and `disk_burst_s: 60` beside a limit of 1,000 (QEMU's `iops_max` and `iops_max_length`, on",
        f"hypervisor `kvm` only): {full} s at 3,000, since the bucket fills at 1,000 a second while it is emptied, then 1,000.",
        "`esxi`, `hyperv` and `baremetal` have limits without bursts, the others none of operations (`envs/capabilities.py`).",
    ]


def heaps() -> list[str]:
    """Two JVMs, squeezed alike."""
    scenario = load("java-heaps")
    names = {"java": ORANGE, "java-aware": GREEN}
    figure, (speed, heap, pause) = figure_of(3)
    lines = [
        "| policy | balloon | progress | heap, MiB | full collection, s (median) | time collecting |",
        "|---|---|---|---|---|---|",
    ]
    for agent in ("static", SQUEEZE):
        _, seen = episode(
            scenario,
            agent,
            lambda sim: {
                "progress": sim.vms["progress"][0].copy(), "heap": sim.vms["heap_mib"][0].copy(),
                "pause": sim.vms["full_pause_s"][0].copy(), "gc": sim.vms["gc_s"][0].copy(),
            },
        )  # fmt: skip
        minutes = (np.arange(len(seen["heap"])) + 1) * scenario.control_interval_s / 60
        for name, colour in names.items():
            vm, kind = row_of(scenario, name), "within the heap" if name == "java-aware" else "ordinary"
            if agent == SQUEEZE:
                label = "balloon within the heap" if name == "java-aware" else "ordinary balloon"
                speed.plot(minutes, 100 * seen["progress"][:, vm], color=colour, label=label)
                heap.plot(minutes, seen["heap"][:, vm] / 1024, color=colour)
                pause.semilogy(minutes, seen["pause"][:, vm], color=colour)
            lines.append(
                f"| {agent} | {kind} | {100 * seen['progress'][:, vm].mean():.1f} % "
                f"| {seen['heap'][:, vm].mean():.0f} | {np.median(seen['pause'][:, vm]):.1f} "
                f"| {100 * seen['gc'][-1, vm] / scenario.duration_s:.1f} % |"
            )
    panel(speed, f"progress under {SQUEEZE}", "minutes", "%")
    panel(heap, "heap", "minutes", "GiB")
    panel(pause, "a full collection would take", "minutes", "s")
    speed.set_ylim(0, 100)
    heap.set_ylim(0, None)
    speed.legend(frameon=False, fontsize=8, loc="center right")
    return [
        "## A balloon under a JVM is a disaster, a balloon within its heap is not (`java-heaps`)",
        "",
        f"Two services alike (h2, heap of 4 GiB, four times the smallest) on a SATA SSD. `{SQUEEZE}` takes the same from both. The",
        "ordinary balloon makes the guest page a heap that allocation and collection go through from end to end each cycle; the",
        "other makes the heap smaller and pays in collections.",
        "",
        saved(figure, "heaps"),
        "",
        *lines,
        "",
        "Under `static` nothing is ballooned and the host swaps both alike. A policy with an agent in the guest (profile P4) reads",
        "heap and collections; a JVM's service may be started on another processor architecture (`bytecode` in Telemetry), a",
        "native one may not.",
    ]


def main() -> None:
    """Play, draw and write."""
    sections = []
    for section in (nics, disks, limits, heaps):
        sections.append("\n".join(section()))
        print(section.__name__, flush=True)
    (FOLDER / "io.md").write_text(HEAD + "\n\n".join(sections) + "\n")
    print(FOLDER / "io.md")


if __name__ == "__main__":
    main()
