"""Writes docs/reference.md: does anybody beat the reference? Every agent on every hypervisor, and fleets drawn at random
(``make reference``; finished rows are kept in runs/reference/ and go on from there)."""

import argparse
import json
import multiprocessing
import os
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from hvgym.agents.policy import declared_by, make_policy
from hvgym.bench.rollout import rollout
from hvgym.bench.suites import seeds
from hvgym.envs.errors import InputError
from hvgym.envs.rules import of_hosts, refusal
from hvgym.envs.scenario import Scenario, group_files, load_group, resolve

HYPERVISORS = ("kvm", "esxi", "xen", "hyperv", "virtualbox", "workstation", "baremetal")
MATRIX_SCENARIO, MATRIX_EPISODES = "idle-giants-short", 4
EPISODES = 3
REFERENCES = {"inside": "reference", "outside": "reference_outside"}
NEAR = 1e-9


HEAD = """# Does anybody beat the reference?

Made by `make reference DRAWN={drawn}`. The reference is clairvoyant, confined to the channels of a seat, and searches with {budget}
episodes in copies of the model for each episode (`agents/clairvoyant/search.py`); it never looks at what other policies reach.
So it has to be shown that nobody passes it.
"""

MATRIX = """
## Every agent on every hypervisor

`{scenario}`, {episodes} test seeds, default rules. Goodput in per cent; an empty cell is refused by the rules (docs/rules.md says
why). *!* marks an agent above the reference of its seat in the mean, *k* one that kills nobody on a seed on which its reference
does.

| agent | seat | {names} |
|---|---|{lines}|
"""

FLEETS = """
## Fleets drawn at random

{fleets} fleets of two to twelve VMs, drawn by `docs/reference.py` over hypervisors, sizes, demand, bursts, disks, overcommit of
0.9 to 1.8, guest swap on disk, on zram or none, weights, late arrivals and VMs without a balloon driver; {episodes} seeds of 20
minutes each, every agent that the rules let play. Mean goodput over the seeds against the reference of the agent's seat.

| hypervisor | fleets | comparisons | ahead or level | behind | most behind, % of goodput | reference kills, agent does not |
|---|---|---|---|---|---|---|
"""


def drawn(index: int) -> dict[str, Any]:
    """A fleet drawn at random within what the schema allows and a data centre has; the same index draws the same fleet."""
    rng = np.random.default_rng([7, index])
    hypervisor = HYPERVISORS[index % len(HYPERVISORS)]

    def between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def one_of(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    groups = []
    for number in range(int(rng.integers(2, 5))):
        memory = 256.0 * round(between(1024, 16384) / 256.0)
        parts = rng.dirichlet((2.0, 1.0, 2.0, 1.5)) * memory * rng.uniform(0.4, 0.9)
        demand = {
            "hot_mib": float(parts[0]), "warm_mib": float(parts[1]), "cold_mib": float(parts[2]), "cache_mib": float(parts[3]),
            "phase_s": between(300, 1800), "phase_swing": float(rng.uniform(0.0, 0.5)),
            "burst_mib": one_of(0.0, float(rng.uniform(0.05, 0.2)) * memory), "burst_every_s": between(300, 1200),
            "burst_length_s": between(60, 240), "group": one_of(-1, 0, 1),
            "cpu_share": float(rng.uniform(0.05, 0.6)), "disk_mib_per_s": between(0.1, 10),
        }  # fmt: skip
        groups.append({
            "name": f"group-{number}", "count": int(rng.integers(1, 4)), "memory_mib": memory, "min_mib": 0.125 * memory,
            "guest_swap_mib": one_of(0.0, memory, memory), "swap": one_of("disk", "disk", "zram"),
            "weight": one_of(1.0, 1.0, 2.0, 4.0),
            "critical": bool(rng.random() < 0.4), "vcpus": one_of(1.0, 2.0, 4.0), "deflate_on_oom": bool(rng.random() < 0.3),
            "balloon": bool(rng.random() < 0.85), "arrive_s": one_of(0.0, 0.0, 0.0, float(rng.integers(60, 600))),
            "fault_parallelism": one_of(1.0, 2.0, 4.0), "demand": demand,
        })  # fmt: skip
    disk = one_of((2e3, 5000.0, 400.0), (80e3, 150.0, 500.0), (400e3, 100.0, 1500.0))
    return {
        "name": f"fleet-{index}", "description": "drawn at random", "hypervisor": hypervisor, "episode_s": 1200, "rules": "default",
        "host": {
            "overcommit": float(rng.uniform(0.9, 1.8)), "pcpus": 16.0, "disk_iops": disk[0], "disk_latency_us": disk[1],
            "disk_mib_per_s": disk[2],
        },
        "vms": groups,
    }  # fmt: skip


def playing(scenario: Scenario, names: list[str]) -> tuple[list[str], dict[str, str]]:
    """Agents that the rules let play, and why others are refused."""
    reasons = {name: refusal(declared_by(load_group("agent", name)), scenario) for name in names}
    return [name for name in names if reasons[name] is None], {name: why for name, why in reasons.items() if why}


def judged(task: tuple[str, dict[str, Any], list[str], int]) -> dict[str, Any]:
    """Goodput and kills of every agent that plays a scenario, and of the references of their seats."""
    key, data, names, count = task
    scenario = resolve(data)
    try:
        played, refused = playing(scenario, names)
        wanted = dict.fromkeys(REFERENCES[declared_by(load_group("agent", name)).seat] for name in played)
        found = {}
        for name in ["stock", *wanted, *played]:
            episodes = rollout(scenario, make_policy(load_group("agent", name)), seeds("test", count), agent=name)
            found[name] = {"goodput": episodes.goodput.tolist(), "kills": episodes.oom_kills.tolist()}
    except InputError as error:
        return {"key": key, "error": str(error)}
    return {"key": key, "hypervisor": scenario.hypervisor.name, "rows": found, "refused": refused}


def results(
    tasks: list[tuple[str, dict[str, Any], list[str], int]], folder: Path, workers: int
) -> Iterator[dict[str, Any]]:
    """Of every task, those first that are already there."""
    folder.mkdir(parents=True, exist_ok=True)
    left = []
    for task in tasks:
        file = folder / f"{task[0]}-{zlib.crc32(json.dumps(task).encode()):08x}.json"
        if file.exists():
            yield json.loads(file.read_text())
        else:
            left.append((task, file))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(judged, task): file for task, file in left}
        for done, future in enumerate(as_completed(running), 1):
            result = future.result()
            running[future].write_text(json.dumps(result))
            print(f"\r{done} of {len(left)}", end="\n" if done == len(left) else "", file=sys.stderr, flush=True)
            yield result


def beaten(result: dict[str, Any]) -> list[tuple[str, float, int]]:
    """Agents whose mean goodput is above their reference's: by how much, and kills of the reference beyond theirs."""
    found = []
    for name, row in result["rows"].items():
        if name in ("stock", *REFERENCES.values()):
            continue
        own = result["rows"][REFERENCES[declared_by(load_group("agent", name)).seat]]
        ahead = float(np.mean(row["goodput"]) - np.mean(own["goodput"]))
        kills = sum(1 for mine, theirs in zip(own["kills"], row["kills"], strict=True) if mine > 0 and theirs == 0)
        if ahead > NEAR or kills:
            found.append((name, ahead, kills))
    return found


def seat_of(name: str) -> str:
    """Where an agent sits."""
    return str(declared_by(load_group("agent", name)).seat)


def matrix(found: dict[str, dict[str, Any]], names: list[str]) -> str:
    """The table of agents and hypervisors."""
    marks = {h: {name: (ahead, kills) for name, ahead, kills in beaten(found[h])} for h in HYPERVISORS}
    lines = []
    for name in ("stock", *REFERENCES.values(), *names):
        cells = []
        for hypervisor in HYPERVISORS:
            row = found[hypervisor]["rows"].get(name)
            ahead, kills = marks[hypervisor].get(name, (0.0, 0))
            mark = ("!" if ahead > NEAR else "") + ("k" if kills else "")
            cells.append("" if row is None else f"{100 * np.mean(row['goodput']):.1f}{mark}")
        lines.append(f"| {name} | {seat_of(name)} | {' | '.join(cells)} |")
    rule = "|".join(["---"] * len(HYPERVISORS))
    head = MATRIX.format(
        scenario=MATRIX_SCENARIO,
        episodes=MATRIX_EPISODES,
        names=" | ".join(HYPERVISORS),
        lines=rule,
    )
    return head + "\n".join(lines) + "\n"


def fleets(found: list[dict[str, Any]], unfit: int) -> str:
    """The table of fleets, and who was ahead where."""
    lines, named, every = [], [], {"comparisons": 0, "behind": 0}
    for hypervisor in HYPERVISORS:
        own = [result for result in found if result["hypervisor"] == hypervisor]
        compared = sum(len([n for n in result["rows"] if n not in ("stock", *REFERENCES.values())]) for result in own)
        over = [(result["key"], *one) for result in own for one in beaten(result)]
        behind = [one for one in over if one[2] > NEAR]
        named += behind
        most = max((ahead for _, _, ahead, _ in behind), default=0.0)
        kills = sum(1 for one in over if one[3])
        every["comparisons"] += compared
        every["behind"] += len(behind)
        lines.append(
            f"| {hypervisor} | {len(own)} | {compared} | {100 * (1 - len(behind) / max(compared, 1)):.1f} % | {len(behind)} | "
            f"{100 * most:.2f} | {kills} |"
        )
    share = 100.0 * (1.0 - every["behind"] / max(every["comparisons"], 1))
    text = f"\nAll together: {every['comparisons']} comparisons, the reference ahead or level in {share:.2f} %."
    text += " A fleet whose VMs do not fit into the host that was drawn for it is not played." if unfit else ""
    if named:
        listed = (
            f"{name} on {key} (+{100 * ahead:.2f} %)" for key, name, ahead, _ in sorted(named, key=lambda one: -one[2])
        )
        text += " Behind: " + ", ".join(listed) + "."
    return FLEETS.format(fleets=len(found), episodes=EPISODES) + "\n".join(lines) + "\n" + text + "\n"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleets", type=int, default=203)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, default=Path("runs/reference"))
    given = parser.parse_args()
    configs = {name: load_group("agent", name) for name in sorted(group_files("agent"))}
    every = [name for name, config in configs.items() if not config.get("train") and not of_hosts(config)]
    names = [
        name
        for name in every
        if name not in ("stock", *REFERENCES.values())
        and configs[name].get("checkpoint", "") is not None  # none of its own
    ]
    for name in names:
        make_policy(configs[name])  # one that cannot be made would be found in every fleet, and an hour later
    base = load_group("scenario", MATRIX_SCENARIO) | {"rules": "default"}
    tasks = [(f"matrix-{h}", base | {"hypervisor": h}, names, MATRIX_EPISODES) for h in HYPERVISORS]
    tasks += [(f"fleet-{index:03d}", drawn(index), names, EPISODES) for index in range(given.fleets)]
    found = {result["key"]: result for result in results(tasks, given.folder, given.workers)}
    played = {key: result for key, result in found.items() if "error" not in result}
    for key in sorted(set(found) - set(played)):
        print(f"{key}: {found[key]['error']}")
    page = Path(__file__).resolve().with_suffix(".md")
    text = HEAD.format(drawn=given.fleets, budget=load_group("agent", "reference")["episodes"])
    text += matrix({h: played[f"matrix-{h}"] for h in HYPERVISORS}, names)
    text += fleets([played[key] for key in sorted(played) if key.startswith("fleet")], len(found) - len(played))
    page.write_text(text)
    print(page)


if __name__ == "__main__":
    main()
