"""Writes docs/clusters.md and its pictures: what happens to VMs of a cluster, and who does how well on suite ``cluster``.

    python docs/clusters.py STUDY | PICTURE ...      (``make clusters``)

STUDY: folder of a study of the suite. With names of pictures only these are drawn.
"""

import csv
import sys
from pathlib import Path

import numpy as np

from hvgym.agents.policy import make_policy
from hvgym.bench import cluster_picture, drawing, suites
from hvgym.bench.references import CLUSTER_REFERENCE, SMALLEST_GAP, STOCK
from hvgym.bench.rollout import rollout
from hvgym.bench.timeline import Recorder, Timeline
from hvgym.envs.scenario import Scenario, load, load_group

PICTURES = {"failure": ("n-plus-one", ("stock", "proxmox")), "maintenance": ("drain-deadline", ("stock", "never_move"))}
"""Scenario and agents by name of picture."""

COLUMNS = ("goodput", "cost", "oom_kills", "outage_s", "recovery_s", "moves", "failed_moves", "moved_gib")
"""Of results, in the order of the tables."""

INTRODUCTION = """\
# Several hosts

Written by `make clusters` from `hvgym bench suite=cluster`, {seeds} test seeds a scenario.

A scenario with `hosts` in place of `host` is a cluster under a *stack* (`hvgym list stacks`): placement, live migration and high
availability with the defaults and timers of the original. Each host has its second as a host alone has it; hosts meet in what moves
between them, and in what their failure does. What is modelled of a copy, and how far it is from real ones, stands on
[validation](validation.md); who may do what in [rules](rules.md).

Score 0 is the stack as shipped (`stock`): Proxmox's HA manager, oVirt's engine, Nova, vSphere's DRS and so on, with the
hypervisor's own memory policy on each host. Score 1 is one clairvoyant reference, which sees demand, failures and maintenance to
come. A failure costs the time that VMs are without service and no `kill_cost_s`; a VM that is forced off because its host was not
empty by the deadline is charged as a kill is. A policy of memory runs on every host unchanged; `agent=cluster agent.memory=…
agent.placement=…` plays one of each.

In the pictures a row is a VM, in the colour and with the number of the host that it is on; grey and hatched it is being copied, red
and crossed it is down; a single cross marks where it was killed or forced off. Below is the share
of each host's memory that is used, what is held for copies included; a line breaks where its host is off. What happens to hosts
stands at the dashed marks.

## A failure

`python docs/clusters.py failure`: scenario `n-plus-one`, whose oVirt starts a VM only where the memory that it is guaranteed is
free. A host loses its power after 25 minutes, at the peak of demand. As shipped the other hosts are full, and VMs wait until it is
back; where Proxmox's ballooning keeps a fifth of each host free, they are back within minutes.

![A host dies under the stack as shipped, and where hosts balloon](clusters_failure.png)

The same live: `hvgym demo scenario=n-plus-one agent=stock`.

## Maintenance

`python docs/clusters.py maintenance`: scenario `drain-deadline`. A host is to be empty after 15 minutes. Proxmox's HA manager moves
its VMs away and, when the host is back, home again; where nobody does, they are forced off at the deadline and start cold.

![A host is emptied, and one is not](clusters_maintenance.png)

## Who does how well

Goodput in hundredths and, an episode: seconds in which critical VMs missed their objective, VMs forced off, VM seconds of outage
after failures of hosts, seconds until the last of them was back at work, moves, those that did not end, and GiB sent. The first
line of a scenario says how far its best agent is from its worst.
"""

HEAD = (
    "| agent | goodput | score | SLO misses, s | forced off | outage, VM s | recovery, s | moves | failed | sent, GiB |",
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
)


def line_of(scenario: Scenario, agent: str) -> Timeline:
    """An agent's episode on the first test seed."""
    recorder = Recorder()
    policy = make_policy(load_group("agent", agent))
    rollout(scenario, policy, suites.seeds("test", 1), recorder.watch, agent)
    return recorder.timeline()


def draw(name: str) -> Path:
    """Play, and write one picture."""
    scenario, agents = load(PICTURES[name][0]), PICTURES[name][1]
    path = Path(__file__).with_name(f"clusters_{name}.png")
    with drawing.style():
        figure = cluster_picture.picture(scenario, {agent: line_of(scenario, agent) for agent in agents})
        path.write_bytes(drawing.png(figure))
    return path


def rows_of(study: Path) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Results of a study by scenario, agent and column, ``[seed]``."""
    found = dict[str, dict[str, dict[str, np.ndarray]]]()
    with (study / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    for scenario, agent in dict.fromkeys((line["scenario"], line["agent"]) for line in lines):
        mine = [line for line in lines if (line["scenario"], line["agent"]) == (scenario, agent)]
        columns = {name: np.array([float(line[name]) for line in mine]) for name in COLUMNS}
        found.setdefault(scenario, {})[agent] = columns
    return found


def row(agent: str, got: dict[str, np.ndarray], stock: np.ndarray, reference: np.ndarray) -> str:
    """One agent's means."""
    gap = float((reference - stock).mean())
    score = f"{float((got['goodput'] - stock).mean()) / gap:.2f}" if gap >= SMALLEST_GAP else "–"
    cells = [f"`{agent}`", f"{100.0 * got['goodput'].mean():.1f}", score]
    cells += [f"{got[name].mean():,.0f}" for name in COLUMNS[1:]]
    return f"| {' | '.join(cells)} |"


def section(name: str, played: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """One scenario: what it is, and a line an agent, best first."""
    scenario = load(name)
    best_first = sorted(played, key=lambda agent: -float(played[agent]["goodput"].mean()))
    goodput = [100.0 * float(played[agent]["goodput"].mean()) for agent in best_first]
    stock, reference = played[STOCK]["goodput"], played[CLUSTER_REFERENCE]["goodput"]
    assert scenario.stack is not None
    return [
        "", f"### {name}", "",
        f"{scenario.description} Stack {scenario.stack.name}, {len(scenario.host_names)} hosts, {len(scenario.groups)} VMs. "
        f"Spread {goodput[0] - goodput[-1]:.1f}, the reference's gain over stock {100.0 * float((reference - stock).mean()):.1f}.",
        "", *HEAD, *(row(agent, played[agent], stock, reference) for agent in best_first),
    ]  # fmt: skip


def main() -> None:
    """Draw the pictures that are named, or all and write the page from a study."""
    names = [word for word in sys.argv[1:] if word in PICTURES]
    for name in names or PICTURES:
        print(draw(name))
    if names:
        return
    played = rows_of(Path(sys.argv[1]))
    seeds = len(next(iter(played.values()))[STOCK]["goodput"])
    lines = [line for name, agents in played.items() for line in section(name, agents)]
    path = Path(__file__).with_suffix(".md")
    path.write_text("\n".join([INTRODUCTION.format(seeds=seeds).rstrip("\n"), *lines]) + "\n")
    print(path)


if __name__ == "__main__":
    main()
