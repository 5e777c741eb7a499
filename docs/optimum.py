"""Writes docs/optimum.md: how far stock and the references are from the bound that no policy can pass (``make optimum``)."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hvgym.agents.clairvoyant import bound
from hvgym.agents.policy import make_policy
from hvgym.bench.rollout import Episodes, rollout
from hvgym.bench.suites import seeds
from hvgym.envs.rules import channels_of
from hvgym.envs.scenario import Scenario, load_group, resolve
from hvgym.envs.simulator import Simulator

HYPERVISORS = ("kvm", "esxi", "xen", "hyperv", "virtualbox")
SCENARIOS = (*load_group("suite", "quick")["scenarios"], "late-arrivals", "noisy-disk", "java-heaps")
EPISODES = 6
LEAST_GAIN = 0.0005
"""A seat whose reference gains less over stock has nothing to decide, and no row."""

HEAD = """# The optimum

Made by `make optimum` ({episodes} test seeds a row, means of goodput in per cent; default rules).

What a policy can win lies between the hypervisor as shipped (`stock`, score 0) and what no policy can pass
(`clairvoyant/bound.py`: each second's best division of RAM with every move free and no queue, proved line by line in its
docstring). Between them stands the reference (`clairvoyant/reference.py`, score 1), a policy that sees the true state and the
demand to come, is confined to the channels of its seat, and searches the course of each episode in copies of the model
({budget} episodes each). It is what scores are measured by, because it can be reached; the bound says how much more there can be
at most. Seats that can gain nothing are left out.

| scenario | hypervisor | seat | stock | reference | bound | between | least in an episode | of the way | lost to paging |
|---|---|---|---|---|---|---|---|---|---|
"""

READING = """
*Between*: reference to bound. *Of the way*: (reference - stock) / (bound - stock). *Lost to paging*: by the reference, waits for
the guests' own and the host's, as in `envs/losses.py`. An episode
takes the reference {reference_s:.1f} s and the bound {bound_s:.2f} s on one core here (medians).

## What lies between the two

- **Age is not use.** Every actuator takes what has been idle for longest; the bound keeps what will be used most, whatever
  its age. A page touched once in ten minutes and one touched once in six hours look alike for a while, so some of the former
  go too and come back. What the reference loses to paging is most of the gap where CPUs and devices suffice.
- **How an episode begins.** The bound charges for pages that are out at the start while the demand of their kind is as it was,
  but not for what a changed demand then has to read, nor for the queue that all of them make at once.
- **The hypervisor's victims.** On `esxi` no channel takes pages by age: what balloons do not take in time is swapped at random. The
  bound knows no such loss.
- **Compressed pages.** On `esxi` the bound lets a full pool of compressed pages hold the best of what is out, without a stall;
  in the model it holds a fair part of it.
- **Committed memory.** On `xen` and `hyperv` only balloons move memory, and a guest that is squeezed evicts by two lists.
- **Plans are rules.** The reference searches among rules with a few numbers each, not among all that could be done.
- **I/O and heaps.** The bound lets nobody wait for a busy disk and gives the room of a JVM's heap for nothing (`java-heaps`); the
  reference shrinks no heap on purpose.
"""


def start(scenario: Scenario, episodes: Sequence[int]) -> Simulator:
    """All episodes at their start."""
    sim = Simulator(scenario, len(episodes))
    sim.reset(episodes)
    return sim


def rows(name: str, hypervisor: str, taken: dict[str, list[float]]) -> list[str]:
    """A line of the table for each seat that can gain something; adds the seconds that an episode took to `taken`."""
    scenario = resolve(load_group("scenario", name), load_group("hypervisor", hypervisor), rules="default")
    episodes, lines = seeds("test", EPISODES), []
    stock = rollout(scenario, make_policy(load_group("agent", "stock")), episodes).goodput
    for agent in ("reference", "reference_outside"):
        policy = make_policy(load_group("agent", agent))
        began = time.process_time()
        found: Episodes = rollout(scenario, policy, episodes)
        taken["reference"].append((time.process_time() - began) / EPISODES)
        began = time.process_time()
        channels = channels_of(policy.declaration, scenario)
        most = bound.goodput(start(scenario, episodes).hidden(), scenario.duration_s, channels)
        taken["bound"].append((time.process_time() - began) / EPISODES)
        if (found.goodput - stock).mean() < LEAST_GAIN:
            continue
        gap, paging = most - found.goodput, found.lost_guest_paging + found.lost_host_paging
        way = (found.goodput - stock).mean() / (most - stock).mean()
        cells = [stock.mean(), found.goodput.mean(), most.mean(), gap.mean(), gap.min(), way, paging.mean()]
        shown = " | ".join(f"{100 * cell:.1f}" for cell in cells)
        lines.append(f"| {name} | {hypervisor} | {policy.declaration.seat} | {shown} |")
    return lines


def main() -> None:
    """Write the page beside this file."""
    taken: dict[str, list[float]] = {"reference": [], "bound": []}
    lines = []
    for name in SCENARIOS:
        own = load_group("scenario", name)["hypervisor"]
        for hypervisor in dict.fromkeys((own, *HYPERVISORS)):
            lines += rows(name, hypervisor, taken)
            print(f"{name} on {hypervisor}", flush=True)
    times = {f"{name}_s": float(np.median(seconds)) for name, seconds in taken.items()}
    page = Path(__file__).resolve().with_suffix(".md")
    head = HEAD.format(episodes=EPISODES, budget=load_group("agent", "reference")["episodes"])
    page.write_text(head + "\n".join(lines) + "\n" + READING.format(**times))
    print(page)


if __name__ == "__main__":
    main()
