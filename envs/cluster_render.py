"""A table of the present of a cluster: one line a host, with the VMs that are on it."""

import math

from hvgym.envs import render
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.model.placement import ABSENT, MACHINE_STATES, RUNNING, STATES, UP

MODES = ("ansi",)


def table(sim: ClusterSimulator, lane: int) -> str:
    """State, CPU and memory of each host, and its VMs: an arrow to where one is copied, in brackets what is not at work; below them
    those without a host."""
    scenario, places, signals = sim.scenario, sim.places(), sim.host_signals[lane]
    host_names, of_hosts = scenario.host_names, places.host[lane]
    words = [
        _in_words(name, row, host_names) for name, row in zip(render.names(scenario), places.vm[lane], strict=True)
    ]
    where = places.vm[lane]["host"]
    lines = ["{}, {}".format(*render.title(sim, lane)), f"{'host':<14}{'state':<13}{'CPU':>5}{'GiB':>7}{'of':>6}  VMs"]
    for h, name in enumerate(host_names):
        row, total = signals[h], signals[h]["total_mib"] / 1024.0
        used = total - row["available_mib"] / 1024.0
        here = ", ".join(word for word, at in zip(words, where, strict=True) if at == h)
        works = of_hosts[h]["state"] == UP
        load = f"{row['cpu_utilisation']:>5.0%}{used:>7.1f}" if works else f"{'-':>5}{'-':>7}"
        state = (
            "maintenance" if works and of_hosts[h]["maintenance"] > 0.0 else MACHINE_STATES[int(of_hosts[h]["state"])]
        )
        lines.append(f"{name[:13]:<14}{state:<13}{load}{total:>6.0f}  {here}".rstrip())
    nowhere = [
        word
        for word, at, state in zip(words, where, places.vm[lane]["state"], strict=True)
        if math.isnan(at) and state != ABSENT
    ]
    return "\n".join([*lines, *([f"{'no host':<45}  {', '.join(nowhere)}"] if nowhere else [])])


def _in_words(name: str, place, host_names: tuple[str, ...]) -> str:  # type: ignore[no-untyped-def]
    """A VM's name and what is under way with it."""
    if not math.isnan(place["moving_to"]):
        return f"{name} -> {host_names[int(place['moving_to'])]}"
    return name if place["state"] == RUNNING else f"{name} ({STATES[int(place['state'])]})"
