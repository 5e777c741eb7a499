"""Lines of styled text, of which views of an episode are made (``cluster_view``, ``host_view``).

A line is a list of pieces, each with the name of a style of ``rich``; what is said is said in characters, and the styles only
repeat it.
"""

from collections.abc import Sequence

from hvgym.envs.backends import AnySimulator
from hvgym.envs.render import clock
from hvgym.envs.scenario import Scenario

Line = list[tuple[str, str]]
"""Pieces of text, each with its style."""

LONGEST_NAME = 10
"""Characters."""

FULL_WORK, HALF_WORK = 0.9, 0.5
"""Progress above which a VM is green, and below which it is red."""


def style_of(progress: float) -> str:
    """Of a VM that works at this speed."""
    return "green" if progress > FULL_WORK else "yellow" if progress > HALF_WORK else "red"


def heading(sim: AnySimulator, lane: int, title: str, width: int) -> Line:
    """What is played, how far it is, and goodput, as much of it as has room."""
    weight, vms = sim.vm_specs["weight"][lane], sim.vms[lane]
    asked_s = float((weight * vms["asked_s"]).sum())
    earned_s = float((weight * (vms["progress_s"] - vms["charged_s"])).sum())
    goodput = f"{earned_s / asked_s:.3f}" if asked_s > 0.0 else "-"
    now, end = clock(int(sim.clock_s[lane])), clock(sim.scenario.duration_s)
    for figures in (f"   {now} of {end}   goodput so far ", f"  {now} of {end}  goodput ", f"  {now}  goodput "):
        room = width - len(figures) - len(goodput)
        if len(title) <= room:
            break
    shown = title if len(title) <= room else f"{title[: max(room - 1, 0)]}…"
    return [(shown, "bold"), (figures, ""), (goodput, "bold green")]


def short_names(scenario: Scenario, most: int = LONGEST_NAME) -> list[str]:
    """One a VM, of at most so many characters, no two alike."""
    ends = [[f"/{number + 1}" for number in range(group.count)] if group.count > 1 else [""] for group in scenario.vms]
    names, rooms = [group.name for group in scenario.vms], [most - len(of_it[-1]) for of_it in ends]
    starts = [name[:room] for name, room in zip(names, rooms, strict=True)]
    told_apart = [
        start if len(name) <= room or _alike(start, starts) == 1 else _with_its_end(name, room)
        for name, start, room in zip(names, starts, rooms, strict=True)
    ]
    numbered = [f"{name[: room - 4]}~{turn}" for turn, (name, room) in enumerate(zip(names, rooms, strict=True))]
    found = list[str]()
    for stems in (numbered, told_apart):
        full = [f"{stem}{end}" for stem, of_it in zip(stems, ends, strict=True) for end in of_it]
        found = full if len(set(full)) == len(full) else found
    return found


def _alike(start: str, starts: Sequence[str]) -> int:
    """How many begin so, or are the beginning of it."""
    return sum(other.startswith(start) or start.startswith(other) for other in starts)


def _with_its_end(name: str, room: int) -> str:
    """A long name by its beginning and its last word, or last letters."""
    first, hyphen, last = name.rpartition("-")
    end = f"-{last[:4]}" if hyphen else name[-4:]
    return f"{(first or name)[: room - len(end)]}{end}"


def cut(line: Line, width: int) -> Line:
    """Its first `width` characters."""
    found, left = Line(), width
    for text, style in line:
        found.append((text[:left], style))
        left -= len(found[-1][0])
    return found


def length(line: Line) -> int:
    """Its characters."""
    return sum(len(text) for text, _ in line)


def padded(line: Line, width: int) -> Line:
    """The line, exactly `width` characters long."""
    shown = cut(line, width)
    return [*shown, (" " * (width - length(shown)), "")]


def plain(lines: Sequence[Line]) -> list[str]:
    """Their characters alone."""
    return ["".join(text for text, _ in line).rstrip() for line in lines]
