"""The picture of an episode on one host: memory sizes of VMs, stacked, and below a row a VM, whose colour is the stronger the
slower it is.

A VM has the same colour in both, beside its name; VMs of a group have shades of one. Kills and failed starts are marked on the
rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hvgym.bench import marks
from hvgym.bench.drawing import pairs_of_panels, wrapped
from hvgym.bench.looks import COLOURS, LIGHT, look
from hvgym.bench.timeline import Timeline

COLUMNS = 4
"""Agents beside each other at most; more go below."""

COLUMN_IN, NAMES_IN, SIZES_IN, ROW_IN, TALLEST_IN = 2.7, 1.2, 1.7, 0.17, 5.0

NAMED_VMS = 16
"""With more VMs than this, groups are named and not each VM."""

SLOTS = 240
"""Columns of the rows, more than a picture has pixels for."""

SLOW = (0.76, 0.2, 0.04)
"""Colour of what stands still, the more transparent the faster; paler than any VM's, so that it reads on dark pages too."""

PALER = (0.05, 0.6)
"""The first and the last VM of a group, towards white; also the first a little, for areas keep their colours on dark pages."""


@dataclass(frozen=True)
class Vm:
    """What the picture must know of a VM."""

    group: str
    number: int
    of: int
    colour: tuple[float, float, float]
    arrives_min: float

    @property
    def name(self) -> str:
        """Its group's, and its number where that has several."""
        return self.group if self.of == 1 else f"{self.group} {self.number}"


def vms_of(scenario: Mapping[str, Any]) -> list[Vm]:
    """The VMs of a scenario's plain data, in order."""
    from matplotlib.colors import to_rgb

    found = list[Vm]()
    for i, group in enumerate(scenario["vms"]):
        count, rgb = int(group.get("count", 1)), np.array(to_rgb(COLOURS[i % len(COLOURS)]))
        for number in range(1, count + 1):
            paler = np.interp(number, (1, max(count, 2)), PALER)
            red, green, blue = (rgb + paler * (1.0 - rgb)).tolist()
            arrives_min = float(group.get("arrive_s", 0.0)) / 60.0
            found.append(Vm(str(group["name"]), number, count, (red, green, blue), arrives_min))
    return found


def highest_gib(lines: Iterable[Timeline]) -> float:
    """Of memory sizes and RAM, so that pictures of one episode have one scale."""
    return max(max(float(line.sizes_mib.sum(axis=1).max()), line.ram_mib) for line in lines) / 1024


def picture(scenario: Mapping[str, Any], lines: Mapping[str, Timeline], top_gib: float) -> Any:
    """A figure with a column for each agent, `COLUMNS` in a row; top_gib: of the scale of memory sizes."""
    vms = vms_of(scenario)
    lines_a_row = max(_label(vm).count("\n") for vm in vms) + 1 if len(vms) <= NAMED_VMS else 1
    rows_in = float(np.clip(ROW_IN * len(vms) * lines_a_row, 0.7, TALLEST_IN))
    figure, pairs, columns = pairs_of_panels(len(lines), COLUMNS, (SIZES_IN, rows_in), COLUMN_IN, NAMES_IN, 1.0, 0.4)
    for i, ((agent, line), (upper, lower)) in enumerate(zip(lines.items(), pairs, strict=True)):
        upper.set_title(wrapped(agent, 32), color=look(agent).colour, fontweight="bold", loc="left")
        sizes(upper, line, vms)
        rows(lower, line, vms)
        upper.set_ylim(0.0, 1.03 * top_gib)
        if i % columns == 0:
            upper.set_ylabel("memory sizes, GiB")
            _names(lower, vms)
    legend = _legend(list(lines.values()))
    figure.legend(handles=legend, loc="outside lower center", ncols=min(columns + 2, 5), frameon=False, fontsize=8)
    return figure


def sizes(axes: Any, line: Timeline, vms: Sequence[Vm]) -> None:
    """Memory sizes, stacked; a VM that has not come yet has none."""
    there = line.minutes[:, None] >= np.array([vm.arrives_min for vm in vms])
    stacked = np.where(there, line.sizes_mib, 0.0).T / 1024
    edges = {"edgecolor": "#fefefe", "linewidth": 0.3, "rasterized": True}
    axes.stackplot(line.minutes, stacked, colors=[vm.colour for vm in vms], labels=[vm.name for vm in vms], **edges)
    axes.axhline(line.ram_mib / 1024, color=LIGHT["ink"], linewidth=1.4)
    axes.margins(x=0.0)
    axes.tick_params(labelbottom=False)


def rows(axes: Any, line: Timeline, vms: Sequence[Vm]) -> None:
    """A row a VM, the stronger its colour the slower, and what befell it."""
    slot = -(-len(line.minutes) // SLOTS)
    parts = range(0, len(line.minutes), slot)
    lost = np.array([1.0 - line.progress[a : a + slot].mean(axis=0) for a in parts]).clip(0.0, 1.0)
    there = line.minutes[::slot, None] >= np.array([vm.arrives_min for vm in vms])
    colours = np.zeros((len(vms), len(parts), 4))
    colours[..., :3] = SLOW
    colours[..., 3] = np.where(there, lost, 0.0).T
    end = float(line.minutes[-1])
    axes.imshow(
        colours, extent=(0.0, end, -0.5, len(vms) - 0.5), origin="lower", aspect="auto", interpolation="nearest"
    )
    axes.hlines(np.arange(0.5, len(vms) - 1), 0.0, end, color=LIGHT["rule"], linewidth=0.6)
    marks.draw(axes, line)
    beside = {"transform": axes.get_yaxis_transform(), "clip_on": False, "marker": "s", "linewidth": 0.0}
    axes.scatter([-0.025] * len(vms), range(len(vms)), s=16, c=[vm.colour for vm in vms], **beside)
    axes.set_xlim(0.0, end)
    axes.set_ylim(-0.5, len(vms) - 0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _label(vm: Vm) -> str:
    return wrapped(vm.name, 20)


def _names(axes: Any, vms: Sequence[Vm]) -> None:
    if len(vms) <= NAMED_VMS:
        axes.set_yticks(range(len(vms)), [_label(vm) for vm in vms], fontsize=8)
    else:
        first = [(y, vm) for y, vm in enumerate(vms) if vm.number == 1]
        labels = [wrapped(vm.group if vm.of == 1 else f"{vm.of} {vm.group}", 20) for _, vm in first]
        axes.set_yticks([y + (vm.of - 1) / 2 for y, vm in first], labels, fontsize=8)
    axes.tick_params(axis="y", length=0, pad=9)


def _legend(lines: list[Timeline]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    speeds = [
        Patch(facecolor=(*SLOW, lost), label=words) for lost, words in ((0.5, "at half speed"), (1.0, "stands still"))
    ]
    return [Line2D([], [], color=LIGHT["ink"], linewidth=1.4, label="RAM"), *speeds, *marks.legend(lines)]
