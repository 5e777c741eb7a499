"""Writes docs/optimum.md: how far stock and the reference are from the bound that no policy can pass (``make optimum``)."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hvgym.agents.clairvoyant import bound
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import Episodes, rollout
from hvgym.bench.suites import seeds
from hvgym.envs.scenario import Scenario, load_group, resolve
from hvgym.envs.simulator import Simulator

HYPERVISORS = ("esxi", "kvm", "xen", "virtualbox")
SCENARIOS = (*load_group("suite", "quick")["scenarios"], "late-arrivals", "emulated-nic", "noisy-disk", "java-heaps")
EPISODES = 12

HEAD = """# The optimum

Made by `make optimum` ({episodes} test seeds a row, means of goodput in per cent).

What a policy can win lies between the hypervisor as shipped (`stock`) and what no policy can pass (`clairvoyant/bound.py`: each
second's best division of RAM with every move free and no queue, proved line by line in its docstring). Between them stands the
reference (`clairvoyant/reference.py`), a policy that sees the true state and the demand to come and tries its plans in copies of
the model. It is what scores are measured by, because it can be reached; the bound says how much more there can be at most.

| scenario | hypervisor | stock | reference | bound | to bound | least in an episode | of the way | reference loses to paging |
|---|---|---|---|---|---|---|---|---|
"""

READING = """
*Of the way*: (reference - stock) / (bound - stock). *Reference loses to paging*: waits for the guests' own and the host's, as in
`envs/losses.py`. An episode takes the reference {reference_s:.2f} s and the bound {bound_s:.2f} s on one core here.

## What lies between the two

- **Age is not use.** Every actuator takes what has been idle for longest; the bound keeps what will be used most, whatever
  its age. A page touched once in ten minutes and one touched once in six hours look alike for a while, so some of the former
  go too and come back. What the reference loses to paging is all but the whole of the gap where CPUs suffice.
- **How an episode begins.** The bound charges for pages that are out at the start while the demand of their kind is as it was,
  but not for what a changed demand then has to read, nor for the queue that all of them make at once (`tight-hdd`).
- **Compressed pages.** On `esxi` the bound lets a full pool of compressed pages hold the best of what is out, without a stall;
  in the model it holds a fair part of it.
- **Committed memory.** On `xen` only balloons move memory, and a guest that is squeezed evicts by two lists.
- **Plans are rules.** The reference chooses among a dozen for all VMs together; it does not search.
- **I/O and heaps.** The bound lets nobody wait for a busy disk (`noisy-disk`) and gives the room of a JVM's heap for nothing
  (`java-heaps`); the reference changes no shares and shrinks no heap on purpose.
"""


def start(scenario: Scenario, episodes: Sequence[int]) -> Simulator:
    """All episodes at their start."""
    sim = Simulator(scenario, len(episodes))
    sim.reset(episodes)
    return sim


def row(name: str, hypervisor: str, taken: dict[str, list[float]]) -> str:
    """One line of the table; adds the seconds that an episode took to `taken`."""
    scenario = resolve(load_group("scenario", name), load_group("hypervisor", hypervisor))
    episodes = seeds("test", EPISODES)
    stock = rollout(scenario, make_policy(load_group("agent", "stock")), episodes).goodput
    began = time.process_time()
    best: Episodes = rollout(scenario, make_policy(load_group("agent", "reference")), episodes)
    taken["reference"].append((time.process_time() - began) / EPISODES)
    began = time.process_time()
    most = bound.goodput(start(scenario, episodes).hidden(), scenario.duration_s)
    taken["bound"].append((time.process_time() - began) / EPISODES)
    gap, paging = most - best.goodput, best.lost_guest_paging + best.lost_host_paging
    way = (best.goodput - stock).mean() / (most - stock).mean()
    cells = [stock.mean(), best.goodput.mean(), most.mean(), gap.mean(), gap.min(), way, paging.mean()]
    return f"| {name} | {hypervisor} | " + " | ".join(f"{100 * cell:.1f}" for cell in cells) + " |"


def main() -> None:
    """Write the page beside this file."""
    taken: dict[str, list[float]] = {"reference": [], "bound": []}
    lines = []
    for name in SCENARIOS:
        for hypervisor in HYPERVISORS:
            lines.append(row(name, hypervisor, taken))
            print(lines[-1], flush=True)
    times = {f"{name}_s": float(np.median(seconds)) for name, seconds in taken.items()}
    page = Path(__file__).resolve().with_suffix(".md")
    page.write_text(HEAD.format(episodes=EPISODES) + "\n".join(lines) + "\n" + READING.format(**times))
    print(page)


if __name__ == "__main__":
    main()
