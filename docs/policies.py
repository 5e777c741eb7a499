"""Writes docs/policies.md and its picture: what each policy says of itself, and what each does on the same burst."""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hvgym.agents.policy import Policy, make_policy
from hvgym.bench.rollout import rollout
from hvgym.envs.rules import of_hosts
from hvgym.envs.scenario import group_files, load, load_group

SCENARIO, SEED = "one-burst", 12
COLOURS = {"cache": "#9aa5b1", "idle": "#c6b2d9", "steady": "#3b6fb6", "burst": "#d1603d"}
COLUMNS = 5
EDGE_CASES = "Edge cases."
"""Begins the paragraph in which a policy says what it does where statistics fail, at a start and under a limit."""


def agents() -> dict[str, dict]:
    """Every packaged agent of one host that plays without a file of the user's and is no tuned copy, by name."""
    configs = {name: load_group("agent", name) for name in sorted(group_files("agent"))}
    return {
        name: c
        for name, c in configs.items()
        if "checkpoint" not in c and not name.endswith("_tuned") and not of_hosts(c)
    }


def play(config: dict) -> dict[str, np.ndarray]:
    """The host memory of each VM and the burster's progress, second by second, and the goodput of the episode."""
    scenario = load(SCENARIO)
    used, progress = [], []

    def watch(telemetry, sim) -> None:  # type: ignore[no-untyped-def]
        used.append(sim.vm_signals["resident_mib"][0].copy())
        progress.append(sim.vms["progress"][0, -1])

    episodes = rollout(scenario, make_policy(config), [SEED], watch)
    return {"used": np.array(used), "progress": np.array(progress), "goodput": episodes.goodput[0]}


def burst_s() -> tuple[float, float]:
    """When the burst begins and ends, from the demand itself."""
    from hvgym.envs.simulator import Simulator

    sim = Simulator(load(SCENARIO))
    sim.reset([SEED])
    hot = sim.demand["tier_mib"][0, :, -1, 0]
    slots = np.flatnonzero(hot > hot.min() + 1.0)
    return float(slots[0] * sim.slot_s), float((slots[-1] + 1) * sim.slot_s)


def picture(played: dict[str, dict], path: Path) -> None:
    """One panel a policy: host memory of the VMs, stacked, and the progress of the VM that bursts."""
    scenario = load(SCENARIO)
    names = [group.name for group in scenario.groups]
    rows = -(-len(played) // COLUMNS)
    figure = Figure((3.1 * COLUMNS, 1.75 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    begin, end = burst_s()
    minutes = (np.arange(len(next(iter(played.values()))["progress"])) + 1) * scenario.control_interval_s / 60
    for axes, (name, run) in zip(grid.ravel(), played.items(), strict=False):
        axes.axvspan(begin / 60, end / 60, color="#f4e3d7", zorder=0)
        axes.stackplot(minutes, run["used"].T / 1024, colors=[COLOURS[n] for n in names], labels=names, lw=0)
        axes.plot(
            minutes, 10.0 * run["progress"], color="black", lw=0.9, label="progress of the VM that bursts (0 to top)"
        )
        axes.set_title(f"{name}  {100 * run['goodput']:.1f} %", fontsize=9)
        axes.set_xlim(0, minutes[-1])
        axes.set_ylim(0, 10.4)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.ravel()[len(played) :]:
        axes.set_visible(False)
    figure.supxlabel("minutes", fontsize=9)
    figure.supylabel("host memory of each VM, GiB", fontsize=9)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    figure.savefig(path, dpi=100)


def paragraphs(module: str) -> list[str]:
    """A module's docstring as Markdown."""
    source = inspect.getsource(importlib.import_module(module))
    text = re.sub(r"``(.+?)``", r"`\1`", ast.get_docstring(ast.parse(source)) or "")
    text = text.replace(EDGE_CASES, f"**{EDGE_CASES}**")
    return [line.replace("\n", " ") if not line.startswith("-") else line for line in text.split("\n\n")]


def page(configs: dict[str, dict], played: dict[str, dict]) -> str:
    """The whole page."""
    lines = [
        "# Policies",
        "",
        "Written by `make policies` from the policies' own descriptions and from one episode of each.",
        "",
        "Profiles: P0 host only, P1 and balloon statistics, P2 and committed memory, P3 host and sampled activity, P4 P2 and an",
        "agent in the guest. References see everything and are no contenders. Goodput is work done as a share of what was asked",
        f"for, on `scenario={SCENARIO}`, seed {SEED}: `hvgym demo scenario={SCENARIO} seed={SEED} agent=NAME` shows it live.",
        f"Under *{EDGE_CASES[:-1]}* each says what it does as its original does: with a guest that reports nothing, one whose",
        "statistics have frozen, one that reports what Windows does, at the start of a VM, and with a limited one.",
        "",
        "![Every policy on the same burst](policies.png)",
        "",
        "| agent | what it is | sees | decides every | goodput |",
        "|---|---|---|---|---|",
    ]
    modules: dict[str, list[str]] = {}
    for name, config in configs.items():
        policy = make_policy(config)
        sees = policy.visibility.name if isinstance(policy, Policy) else "everything"
        goodput = f"{100 * played[name]['goodput']:.1f} %" if name in played else "no VM arrives here"
        lines.append(f"| {name} | {config['description']} | {sees} | {policy.period_s:g} s | {goodput} |")
        modules.setdefault(type(policy).__module__, []).append(name)
    for module, names in modules.items():
        title, *rest = paragraphs(module)
        lines += ["", f"## {', '.join(names)}", "", title, *(line for text in rest for line in ("", text))]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Play, draw and write."""
    folder = Path(__file__).parent
    configs, played = agents(), {}
    on_stage = {name: config for name, config in configs.items() if config.get("needs") != "arrivals"}
    for i, (name, config) in enumerate(on_stage.items(), start=1):
        played[name] = play(config)
        print(f"[{i}/{len(on_stage)}] {name}: {100 * played[name]['goodput']:.1f} %", file=sys.stderr, flush=True)
    picture(played, folder / "policies.png")
    (folder / "policies.md").write_text(page(configs, played))
    print(folder / "policies.md")


if __name__ == "__main__":
    main()
