"""A host alone at a moment, as text: the host, and its VMs, a row each, or in several columns where they are many.

Everything is said in characters; the styles beside them only repeat it. A VM's bar is its configured memory: in RAM, in host swap,
not backed, in its balloon. Where not even short cells have room, those VMs stand there that work slowest, and the others
are counted.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hvgym.envs.events import state_in_words
from hvgym.envs.history import guest_swapped_mib
from hvgym.envs.lines import LONGEST_NAME, Line, short_names, style_of
from hvgym.envs.simulator import Simulator

MARKS = ("█", "blue"), ("▞", "red"), ("░", "dim"), ("○", "magenta")
"""Of a VM's memory: in RAM, in host swap, not backed, in its balloon."""

KEY: Line = [
    ("memory: ", "dim"), *((f"{mark} {name}  ", style) for (mark, style), name in
                           zip(MARKS, ("in RAM", "in host swap", "not backed", "balloon"), strict=True)),
]  # fmt: skip

OWN_MARKS = ("▓", "dim"), ("█", "blue"), ("·", "dim")
"""Of a host's memory: the hypervisor's own, of VMs, free."""

BAR_MOST, BAR_LEAST = 90, 6
"""Characters of a bar in a row of its own."""

CELL_BAR = 12
"""Characters of a bar in a cell, before a name has more than `LONGEST_NAME`."""

WORDS = 4
"""Characters of a VM's progress, or of the word that stands there."""


class Column(NamedTuple):
    """Of the table: head, width, and the least width of a row that has it."""

    head: str
    width: int
    from_width: int
    of: Callable[[Sequence[float]], str]


COLUMNS = (
    Column("GiB", 6, 50, lambda row: f"{row[0] / 1024:.1f}"),
    Column("balloon", 8, 50, lambda row: f"{row[1] / 1024:.1f}"),
    Column("host swap", 10, 30, lambda row: f"{row[2] / 1024:.1f}"),
    Column("guest swap", 11, 70, lambda row: f"{row[3] / 1024:.1f}"),
)
"""Amounts, MiB: configured, in the balloon, in host swap, in the guest's own."""


def body(sim: Simulator, lane: int, width: int, height: int) -> list[Line]:
    """The host's lines, and its VMs', at most `height` of them, each at most `width` long."""
    above, vms = _host(sim, lane, width), len(sim.scenario.groups)
    rows = height - len(above)
    if vms + 1 <= rows:
        return [*above, *_table(sim, lane, width)]
    return [*above, *_cells(sim, lane, width, max(rows, 1))]


def least_height(vms: int, width: int) -> int:
    """Lines in which all VMs have a place, the host's included."""
    return 1 + min(vms + 1, -(-vms // _most_columns(width)))


def _host(sim: Simulator, lane: int, width: int) -> list[Line]:
    signals, own_mib = sim.host_signals[lane, 0], float(sim.host_specs["own_mib"][lane, 0])
    total_mib = float(signals["total_mib"])
    used_mib = total_mib - float(signals["available_mib"])
    figures = [f" {used_mib / total_mib:.0%} of {total_mib / 1024:.{0 if total_mib >= 10240 else 1}f} GiB"]
    if signals["shared_mib"] >= 102.4:
        figures.append(f"{signals['shared_mib'] / 1024:.1f} merged away")
    figures += [f"{signals['swap_used_mib'] / 1024:.1f} in host swap", f"CPU {signals['cpu_utilisation']:.0%}"]
    figures += [f"disk {signals['disk_utilisation']:.0%} busy"]
    if state := state_in_words(sim, lane):
        figures.append(f"state {state}")
    bar, text = max(min(width // 5, BAR_MOST), 4), ""
    for figure in figures:
        longer = f"{text}, {figure}" if text else figure
        if len("host ") + bar + len(longer) > width:
            break
        text = longer
    edges = np.cumsum([0.0, min(own_mib, used_mib), max(used_mib - own_mib, 0.0), total_mib - used_mib]) / total_mib
    return [[("host ", "bold"), *_bar(edges, OWN_MARKS, bar), (text, "")]]


def _bar(edges: np.ndarray, marks: tuple[tuple[str, str], ...], width: int) -> Line:
    """Pieces from edge to edge, which are shares of its width."""
    at = np.round(edges.clip(0.0, 1.0) * width).astype(int)
    return [(mark * int(b - a), style) for (mark, style), a, b in zip(marks, at[:-1], at[1:], strict=True)]


def _memory_bar(sim: Simulator, lane: int, v: int, width: int) -> Line:
    """The VM's memory, `width` for all of it."""
    vm = sim.vm_signals[lane, v]
    total = float(vm["memory_mib"])
    resident, balloon = min(float(vm["resident_mib"]), total), total - float(vm["size_mib"])
    parts = [resident, float(vm["host_swap_mib"]), 0.0, balloon]
    parts[2] = max(total - sum(parts), 0.0)
    return _bar(np.cumsum([0.0, *parts]) / max(sum(parts), 1.0), MARKS, width)


def _state(sim: Simulator, lane: int, v: int) -> tuple[str, str]:
    """The VM's speed, or why it has none."""
    vm = sim.vms[lane, v]
    if vm["admitted"] <= 0.0:
        return ("wait", "yellow") if vm["arrive_in_s"] <= 0.0 else ("  - ", "dim")
    if vm["down_s"] > 0.0:
        return (" OOM", "bold red") if vm["oom_kills"] > 0.0 else ("boot", "yellow")
    return f"{vm['progress']:4.0%}", style_of(float(vm["progress"]))


def _in_words(sim: Simulator, lane: int, v: int) -> str:
    """What stands behind a VM's speed where there is room."""
    vm = sim.vms[lane, v]
    if vm["admitted"] <= 0.0:
        waits = "kept by the policy" if vm["may_start"] == 0.0 else "no room on the host"
        return f"for {-vm['arrive_in_s']:.0f} s: {waits}" if vm["arrive_in_s"] <= 0.0 else "not there yet"
    if vm["down_s"] > 0.0:
        return f"{'killed, ' if vm['oom_kills'] > 0.0 else ''}up in {vm['down_s']:.0f} s"
    return ""


def _table(sim: Simulator, lane: int, width: int) -> list[Line]:
    names = short_names(sim.scenario, LONGEST_NAME if width < 70 else 2 * LONGEST_NAME)
    longest = max(map(len, names))
    columns = [column for column in COLUMNS if width >= column.from_width]
    taken = longest + 1 + sum(column.width for column in columns) + 2 + WORDS
    words = max(len(_in_words(sim, lane, v)) for v in range(len(names)))
    work = max(11, words + 1) if width - taken >= 2 * BAR_LEAST + 11 + words else 0
    bar = max(min(width - taken - work, BAR_MOST), BAR_LEAST)
    head = f"{'VM':<{longest}} {'memory':<{bar}}" + "".join(f"{column.head:>{column.width}}" for column in columns)
    lines: list[Line] = [[(f"{head}  {'work':>{WORDS}}", "dim")]]
    swapped, memory = guest_swapped_mib(sim)[lane], sim.vm_signals["memory_mib"][lane]
    for v, name in enumerate(names):
        vm, (word, style) = sim.vm_signals[lane, v], _state(sim, lane, v)
        row = (memory[v], memory[v] - vm["size_mib"], vm["host_swap_mib"], swapped[v])
        amounts = "".join(f"{column.of(row):>{column.width}}" for column in columns)
        length = max(round(bar * float(memory[v] / memory.max())), 1)
        line: Line = [(f"{name:<{longest}} ", ""), *_memory_bar(sim, lane, v, length), (" " * (bar - length), "")]
        line += [(amounts, ""), (f"  {word}", style)]
        lines.append([*line, *_work(sim, lane, v, min(work, 11), style)])
    return lines


def _work(sim: Simulator, lane: int, v: int, width: int, style: str) -> Line:
    """A bar of its speed, or words for what keeps it from work."""
    if not width:
        return []
    if words := _in_words(sim, lane, v):
        return [(f" {words}", style)]
    done = round((width - 1) * float(sim.vms["progress"][lane, v]))
    return [(f" {'▇' * done}{'·' * (width - 1 - done)}", style)]


def _most_columns(width: int) -> int:
    """Columns of the shortest cells: name and speed."""
    return max((width + 2) // (LONGEST_NAME + 1 + WORDS + 2), 1)


def _cells(sim: Simulator, lane: int, width: int, rows: int) -> list[Line]:
    """VMs in columns, downwards; those that work slowest where not all have room."""
    vms = len(sim.scenario.groups)
    columns = min(-(-vms // rows), _most_columns(width))
    shown, lines = list(range(vms)), list[Line]()
    if columns * rows < vms:
        shown = _slowest(sim, lane, columns * (rows - 1))
        rest = sorted(set(range(vms)) - set(shown))
        worst = float(sim.vms["progress"][lane][rest].min())
        said = f"and {len(rest)} VMs more, all at {worst:.0%} of their work or better"
        lines = [[(said if len(said) <= width else f"and {len(rest)} more, at least {worst:.0%}", "dim")]]
        rows -= 1
    a_column, cell = -(-len(shown) // columns), (width + 2) // columns - 2
    names = short_names(sim.scenario, min(max(LONGEST_NAME, cell - WORDS - CELL_BAR - 2), 2 * LONGEST_NAME))
    longest = max(map(len, names))
    bar = max(cell - longest - WORDS - 2, 0)
    for row in range(min(a_column, rows)):
        pieces = Line()
        for v in shown[row::a_column]:
            word, style = _state(sim, lane, v)
            pieces += [(f"{names[v]:<{longest}} ", ""), *_memory_bar(sim, lane, v, bar)]
            pieces += [(f"{' ' if bar else ''}{word}  ", style)]
        lines.insert(row, pieces)
    return lines


def _slowest(sim: Simulator, lane: int, count: int) -> list[int]:
    """VMs that work slowest, in the order of their index."""
    order = np.argsort(sim.vms["progress"][lane], kind="stable")[:count]
    return sorted(map(int, order))
