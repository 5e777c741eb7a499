"""Writes docs/hypervisors.md and its picture from the studies that ``make hypervisors`` has run, one a hypervisor."""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

HYPERVISORS = ("baremetal", "kvm", "esxi", "xen", "hyperv", "virtualbox", "workstation")
SCENARIOS = {"idle-giants": "memory (idle-giants)", "cache-hogs": "page cache (cache-hogs)", "busy-io": "I/O (busy-io)"}
CAUSES = {
    "exits": ("exits", "#8c6bb1"),
    "page_walks": ("page walks", "#c6b2d9"),
    "cpu": ("waiting for a pCPU", "#9aa5b1"),
    "guest_paging": ("the guest's own paging", "#e0a458"),
    "host_paging": ("paging by the host", "#d1603d"),
    "waiting": ("waiting for memory", "#3b6fb6"),
    "kills": ("kills and failed starts", "#222222"),
}

Means = dict[tuple[str, str, str], dict[str, float]]


def read(studies: Path) -> Means:
    """Mean of every metric by (hypervisor, scenario, agent)."""
    rows = defaultdict(list)
    for hypervisor in HYPERVISORS:
        with (studies / hypervisor / "results.csv").open() as file:
            for row in csv.DictReader(file):
                rows[hypervisor, row["scenario"], row["agent"]].append(row)
    numbers = ("goodput", "host_swap_s", "oom_kills", *(f"lost_{cause}" for cause in CAUSES))
    return {key: {name: float(np.mean([float(r[name]) for r in got])) for name in numbers} for key, got in rows.items()}


def picture(means: Means, path: Path) -> None:
    """What static loses, by cause, stacked; a mark where the reference stands."""
    figure = Figure((11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (scenario, title) in zip(figure.subplots(1, 3), SCENARIOS.items(), strict=True):
        left = np.zeros(len(HYPERVISORS))
        places = np.arange(len(HYPERVISORS))[::-1]
        for cause, (label, colour) in CAUSES.items():
            width = np.array([100 * means[h, scenario, "static"][f"lost_{cause}"] for h in HYPERVISORS])
            axes.barh(places, width, left=left, color=colour, label=label, height=0.65)
            left += width
        best = [100 * (1 - means[h, scenario, "reference"]["goodput"]) for h in HYPERVISORS]
        axes.plot(
            best, places, "|", color="black", markersize=16, markeredgewidth=1.6, label="all that the reference loses"
        )
        axes.set_yticks(places, HYPERVISORS if axes.get_subplotspec().is_first_col() else [""] * len(HYPERVISORS))
        axes.set_title(title, fontsize=10)
        axes.set_xlim(0, 1.06 * max(left.max(), *best))
        axes.set_xlabel("work lost by never reclaiming, % of what was asked for", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.25)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def table(means: Means, scenario: str) -> list[str]:
    """One row a hypervisor, per cent of what was asked for."""
    lines = [
        f"### {SCENARIOS[scenario]}",
        "",
        "| hypervisor | static | Proxmox | reference | " + " | ".join(label for label, _ in CAUSES.values()) + " |",
        "|---" * (4 + len(CAUSES)) + "|",
    ]
    for hypervisor in HYPERVISORS:
        goodputs = [
            f"{100 * means[hypervisor, scenario, agent]['goodput']:.1f}" for agent in ("static", "proxmox", "reference")
        ]
        static = means[hypervisor, scenario, "static"]
        causes = [f"{100 * static[f'lost_{cause}']:.1f}" for cause in CAUSES]
        lines.append(f"| {hypervisor} | " + " | ".join([*goodputs, *causes]) + " |")
    return [*lines, ""]


TEXT = """# The same scenarios on seven hypervisors

Made by `make hypervisors`, which plays suite `hypervisors` on each with `hvgym bench` (6 test seeds) and writes this page.

![what is lost, by cause](hypervisors.png)

Goodput of three agents, and what `static` (never reclaim, the hypervisor's own policy off) loses by cause, all in per cent of the
work asked for. Causes are sampled once per control interval, so rows add up to 100 within a tenth or two.
"""

READING = """## Why

- **Bare metal** loses only to paging, and pages best: one kernel sees the ages of all pages. It is the reference, not a
  hypervisor without cost: nothing isolates its VMs.
- **kvm**'s host is a Linux that sees the accessed bits of guest memory and takes the oldest pages of whichever VM; what
  remains are exits and page walks. That never to reclaim comes near the reference there is a finding of this model, with this
  reference, and agrees with real guests (below); it does not hold where victims are random.
- **esxi** picks victims at random, on purpose, keeps some compressed, and splits large pages under pressure, so page walks rise.
- **xen** and **hyperv** commit memory and never page VMs, so a host that is too full shows inside the guests, which start
  smaller and swap by themselves. Without a policy nothing moves memory to whoever needs it; with one they come near the
  others. Dom0 makes Xen's I/O dearer than Hyper-V's or KVM's.
- **virtualbox** and **workstation** run on a desktop system: it takes memory and CPU, its page cache grows with VM I/O,
  memory is backed by 4 KiB pages, and a request costs two world switches, or nine through VirtualBox's emulated NIC.
  Workstation's mapped file adds writes.

Published comparisons agree in direction: CPU-bound guests lose 0-3 % on any hypervisor with hardware assistance; the gap of
a hosted one is the cost per I/O exit, the competition of the host system, and double buffering (VMware's hosted NIC study;
Xen 2003: a hosted VMM keeps 0.98 of native speed on CPU, 0.1-0.5 on databases, with binary translation). The model's gap is
smaller than those of 2001-2003, as hardware assistance has made it. Footprints, desktop load and requests per MiB are
guesses and say so in `conf/hypervisor/`.

## Whose pages a host takes

Key `victims` of a profile; `envs/model/host/victims.py` has the law. All but `random` take first what has been idle for longest,
whichever VM it is of; they differ in how well they tell old pages from those in use.

- `random`: every page alike. esxi (the vendor: Waldspurger, OSDI 2002).
- `two_lists`: pages untouched through two stages, the active and the inactive list, as measured in guests. Linux without MGLRU.
- `mglru`: untouched through three generations (three is a guess). kvm and baremetal: Linux 6.12 and later, as most distributions
  ship it.
- `mglru_before_6_12`: one look, when a page is about to leave, for walks did not clear the accessed bits of guest memory; how much
  that look is worth is a guess. virtualbox and workstation, whose page tables the kernel does not walk: also a guess.

Three real guests on a host of 802 MiB (scenario `real-guests`, policy `static`), of whom one idles on 376 MiB and one grows:
the Linux host took the idle guest's pages (resident 286 to 135 MiB; measured again, 300 to 215) and hardly any other, with
92-159 host faults in all. The model: down to 213 MiB, no host fault, and nobody below full speed ([validation](validation.md),
fault 5). With random victims: 29,000 host faults, and the busy guests below 0.5 at worst.
"""


def main() -> None:
    """Write page and picture beside this file."""
    folder = Path(__file__).resolve().parent
    means = read(Path(sys.argv[1]))
    picture(means, folder / "hypervisors.png")
    lines = [TEXT, *(line for scenario in SCENARIOS for line in table(means, scenario)), READING]
    (folder / "hypervisors.md").write_text("\n".join(lines).rstrip() + "\n")
    print(folder / "hypervisors.md")


if __name__ == "__main__":
    main()
