"""``hvgym demo scenario=… agent=…``: one episode live in the terminal: host memory, balloons, progress."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from hvgym.scripts import configuration

if TYPE_CHECKING:
    from hvgym.envs.backends import AnySimulator
    from hvgym.envs.scenario import Scenario
    from hvgym.envs.telemetry import Telemetry

WIDTH = 44
"""Characters of a memory bar, on a terminal that has room for it."""

OTHERS = 42
"""Characters of the other columns, without the name."""


@configuration.verb("demo")
def main(config: DictConfig) -> None:
    """Play and draw."""
    from hvgym.agents.policy import declared_by, make_policy
    from hvgym.bench.rollout import rollout
    from hvgym.envs.rules import check_played

    scenario = configuration.scenario(config)
    agent, seed = configuration.chosen_agent(config), configuration.seed(config)
    speed = configuration.number(config, "speed", least=0, whole=False)
    seconds = configuration.number(config, "seconds", least=0, whole=False)
    configuration.runs_folder(config)
    checkpoint = {"checkpoint": agent["checkpoint"]} if "checkpoint" in agent else {}
    policy = make_policy(agent, **checkpoint)
    check_played(declared_by(agent), scenario, agent["name"])
    configuration.print_trace_report(scenario.to_dict())
    level = f" at {scenario.workload.level}" if scenario.workload.kind == "history" else ""
    with shown_live(scenario, f"{scenario.name}{level} under {agent['name']}", speed, seconds) as watch:
        rollout(scenario, policy, [seed], watch, agent["name"])


@contextlib.contextmanager
def shown_live(
    scenario: "Scenario", title: str, speed: float | None, seconds: float | None
) -> "Iterator[Callable[[Telemetry, AnySimulator], None]]":
    """Gives what draws the first lane of a rollout (``rollout.Watcher``); `speed`: simulated seconds a second, `seconds`: after so
    many it ends."""
    from rich.console import Console
    from rich.live import Live

    console, names = Console(), [group.name for group in scenario.groups]
    width = max(8, min(WIDTH, console.width - OTHERS - max(map(len, names))))
    began = time.monotonic()
    with Live(console=console, refresh_per_second=12, transient=False) as live, contextlib.suppress(StopIteration):

        def watch(telemetry: "Telemetry", sim: "AnySimulator") -> None:
            if scenario.is_cluster:
                live.update(draw_cluster(title, sim, console.width, console.height - 1))
            else:
                live.update(draw(title, names, telemetry, sim, width))
            if seconds is not None and telemetry.time_s[0] >= seconds:
                raise StopIteration
            if speed:
                time.sleep(max(0.0, began + float(telemetry.time_s[0]) / speed - time.monotonic()))

        yield watch


def draw_cluster(title: str, sim: Any, width: int, height: int) -> Any:
    """One picture of several hosts."""
    from rich.text import Text

    from hvgym.envs import cluster_view

    return Text("\n").join(Text.assemble(*line) for line in cluster_view.view(sim, 0, title, width, height))


def draw(title: str, names: list[str], telemetry: Any, sim: Any, width: int = WIDTH) -> Any:
    """One picture of the host; the largest VM's memory bar is `width` characters long."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    host, now = telemetry.host[0, 0], float(telemetry.time_s[0])
    earned_s = sim.vms["progress_s"][0] - sim.vms["charged_s"][0]
    goodput = np.average(earned_s / now, weights=sim.vm_specs["weight"][0])
    used = 1.0 - host["available_mib"] / host["total_mib"]
    head = Text.assemble(
        (title, "bold"), f"   {int(now) // 60:3d}:{int(now) % 60:02d}   goodput so far ", (f"{goodput:.3f}", "bold green"), "\n",
        f"host {host['total_mib'] / 1024:.0f} GiB: {used:4.0%} used, {host['swap_used_mib'] / 1024:5.1f} GiB in host swap, "
        f"disk {host['disk_utilisation']:4.0%} busy",
    )  # fmt: skip
    table = Table(box=None, padding=(0, 1))
    for column, justify in (
        ("VM", "left"),
        ("memory", "left"),
        ("balloon", "right"),
        ("host swap", "right"),
        ("progress", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    largest = float(telemetry.vm["memory_mib"][0].max())
    for name, vm, state in zip(names, telemetry.vm[0], sim.vms[0], strict=True):
        progress = float(state["progress"])
        colour = "green" if progress > 0.9 else "yellow" if progress > 0.5 else "red"
        bar = Text("▇" * round(10 * progress) + "·" * (10 - round(10 * progress)), style=colour)
        balloon = vm["memory_mib"] - vm["size_mib"]
        table.add_row(
            Text(name), memory_bar(vm, largest, width), f"{balloon / 1024:.1f} GiB", f"{vm['host_swap_mib'] / 1024:.1f} GiB",
            bar + (Text(" OOM!", style="bold red") if state["down_s"] > 0 else Text(f" {progress:4.0%}")),
        )  # fmt: skip
    key = Text.assemble(
        ("█", "blue"),
        " in RAM  ",
        ("█", "red"),
        " in host swap  ",
        ("░", "dim"),
        " not backed  ",
        ("▒", "magenta"),
        " balloon",
    )
    return Group(head, table, key)


def memory_bar(vm: Any, largest_mib: float, width: int) -> Any:
    """In RAM, in host swap, unbacked, balloon; the length is the configured size."""
    from rich.text import Text

    total = float(vm["memory_mib"])
    length = max(4, round(width * total / largest_mib))
    parts = [min(float(vm["resident_mib"]), total), float(vm["host_swap_mib"]), 0.0, total - float(vm["size_mib"])]
    parts[2] = max(total - parts[0] - parts[1] - parts[3], 0.0)
    edges = np.round(np.cumsum([0.0, *parts]) / max(sum(parts), 1.0) * length).astype(int)
    text = Text()
    for (mark, style), first, last in zip(
        (("█", "blue"), ("█", "red"), ("░", "dim"), ("▒", "magenta")), edges[:-1], edges[1:], strict=True
    ):
        text.append(mark * int(last - first), style=style)
    return text
