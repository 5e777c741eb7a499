"""Writes docs/capacity.md and its pictures from the capacities that ``make capacity`` has run."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from hvgym.bench.density_column import killed

ORDER = ("traces", "idle-giants", "tight-hdd")
"""First part of a study's name; what was not played is left out."""

TITLES = {
    "traces": "VMs of a trace (Bitbrains)",
    "idle-giants": "Scenario idle-giants",
    "tight-hdd": "Scenario tight-hdd",
}

HEAD = """# Density at the SLO

How far may a host be overcommitted before critical VMs feel it? Made by `make capacity`, which runs `hvgym capacity` and
writes this page; with `TRACES=DIR` it also replays the VMs of a folder of GWA-T-12 files.

**Ratio** is configured memory over RAM: the largest one up to which, at every ratio that was played, critical VMs miss their
objective in at most {slo:g} % of their seconds and {killed}; in parentheses its 95 % bootstrap interval over
fleets. A fleet is what one test seed draws; every agent and every ratio meets the same fleets, with ever less RAM and all else
equal. The search climbs by 0.25 and halves the last gap down to 0.05. **VMs a host**: so many fit on a host with as much RAM as
one fleet has configured. **GiB saved**: RAM that 100 such VMs need less than without overcommitment. **Then**: what fails at
the next ratio. Seconds that the same fleet misses with twice its memory (for want of CPU, say) are not counted here. Agents play
by the default rules ([rules.md](rules.md)); whom they refuse is listed below the table. The reference searches plans for the
fewest misses of critical VMs, within the small budget that is printed: it shows what was found so, not the most that is possible.
"""

READING = """## How to read it

- A ratio below 1 is no mistake: the hypervisor and the VMs' processes take memory too, so a host with as much RAM as its VMs
  have configured is already overcommitted once they have touched it all, and some agents begin to squeeze before a host is
  full (Proxmox at 80 % of it).
- `< 0.75` means that an agent costs critical VMs more than allowed even where memory is ample: it reclaims all the time.
- The scenarios' own ratios (1.35 to 1.7) lie above the densities of the hypervisor as shipped and of most policies on purpose:
  they are made to tell policies apart, where an operator would have stopped.
- Kills depend on how many fleets are drawn: {fleets} fleets without one do not show that the next has none.
- These are figures of a model. `hvgym capacity workload=bitbrains workload.path=DIR` gives those of your own VMs.
"""


def read(studies: Path) -> dict[str, list[tuple[Path, dict[str, Any]]]]:
    """Capacities by family, each with its folder, in order of hypervisors' names."""
    found: dict[str, list[tuple[Path, dict[str, Any]]]] = {name: [] for name in ORDER}
    for file in sorted(studies.glob("*/capacity/capacity.json")):
        family = next((name for name in ORDER if file.parents[1].name.startswith(f"{name}-")), None)
        if family:
            found[family].append((file.parent, json.loads(file.read_text())))
    return {name: capacities for name, capacities in found.items() if capacities}


def section(name: str, place: Path, data: dict[str, Any], docs: Path) -> list[str]:
    """One family on one hypervisor: picture and table."""
    image = f"capacity_{name}-{data['hypervisor']}.png"
    shutil.copyfile(place / "capacity.png", docs / image)
    host = f"rules={data['rules']} hypervisor={data['hypervisor']}"
    given = "workload=bitbrains workload.path=DIR" if name == "traces" else f"scenario={data['scenario']}"
    agents = ",".join(sorted([*data["agents"], *data["refused"]]))
    ample = data["ample"]
    left_out = (
        f"; with ample memory they miss {100 * ample['missed']:.2f} %, not counted" if ample["missed"] > 0.0005 else ""
    )
    lines = [
        f"### On {data['hypervisor']}",
        "",
        f"`hvgym capacity {given} {host} fleets={data['fleets']} agents=[{agents}]`{left_out}",
        "",
        f"![violations over ratio]({image})",
        "",
        f"| agent | ratio (95 % interval) | VMs a host of {data['fleet_gib']:.0f} GiB | GiB saved per 100 VMs | then |",
        "|---|---|---|---|---|",
    ]
    for agent, figures in data["agents"].items():
        vms = f"{figures['vms_a_host']:.1f}" if figures["density"] else "–"
        saved = figures["gib_saved_per_100_vms"]
        cells = [agent, figures["shown"], vms, "–" if saved is None else f"{saved:.0f}", figures["stopped_by"]]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"\n{agent}: {how}." for agent, how in data["searched"].items()]
    lines += [f"\n{agent} was not played: {reason}." for agent, reason in data["refused"].items()]
    return [*lines, ""]


def main() -> None:
    """Write the page and its pictures beside this file."""
    docs = Path(__file__).resolve().parent
    families = read(Path(sys.argv[1]))
    if not families:
        sys.exit(f"{sys.argv[1]}: no capacities here; run make capacity")
    for old in docs.glob("capacity_*.png"):
        old.unlink()
    first = next(iter(families.values()))[0][1]
    lines = [HEAD.format(slo=100 * first["slo"], killed=killed(first["kills"]))]
    for name, capacities in families.items():
        lines += [f"## {TITLES[name]}", ""]
        for place, data in capacities:
            lines += section(name, place, data, docs)
    lines.append(READING.format(fleets=first["fleets"]))
    (docs / "capacity.md").write_text("\n".join(lines).rstrip() + "\n")
    print(docs / "capacity.md")


if __name__ == "__main__":
    main()
