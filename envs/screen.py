"""An episode as a screen of text that grows with it: how far it is, curves of memory and swap until now, host and VMs, or
hosts, as they are, and what happened, in words. Never more lines, nor longer ones, than there is room for.
"""

import numpy as np

from hvgym.envs import cluster_view, host_view
from hvgym.envs.backends import AnySimulator
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.course import Course, round_above_gib
from hvgym.envs.events import Log
from hvgym.envs.lines import Line, cut, heading, padded

LOG_LEAST, LOG_MOST = 3, 12
"""Lines of the newest events."""

CURVE_MOST = 9
"""Lines of a curve."""

LABEL, BESIDE = 8, 64
"""Characters before a curve, and of a line from which on two curves stand beside each other."""


class Screen:
    """One lane of a simulator that has just been reset."""

    def __init__(self, sim: AnySimulator, lane: int, title: str) -> None:
        self._lane, self._title = lane, title
        self.course, self.log = Course(sim.scenario, lane), Log(sim, lane)

    def note(self, sim: AnySimulator) -> None:
        """A step has passed."""
        self.course.add(sim)
        self.log.note(sim)

    def lines(self, sim: AnySimulator, width: int, height: int, key: bool = True) -> list[Line]:
        """At most `height` lines of at most `width` characters; key: the last one says what the characters mean."""
        flat = 1 if width >= BESIDE else 2
        height = height - 1 - key - flat
        log = min(len(self._said(width, LOG_LEAST)), max(height // 4, 1))
        if not isinstance(sim, ClusterSimulator):  # all VMs before all events
            log = max(min(log, height - host_view.least_height(len(sim.scenario.groups), width)), 1)
        body = self._body(sim, width, height - log)
        spare = height - log - len(body)
        curves = self._curves(sim, width, max(min(spare // (2 * flat), CURVE_MOST - 1), 0))
        left = height + flat - len(body) - len(curves)
        shown = [heading(sim, self._lane, self._title, width), *curves, *body, *self._said(width, min(left, LOG_MOST))]
        shown = shown[: height + 1 + flat]
        return [cut(line, width) for line in (*shown, *([self.key(sim)] if key else []))]

    def key(self, sim: AnySimulator) -> Line:
        """What the characters mean."""
        return [(cluster_view.KEY, "dim")] if isinstance(sim, ClusterSimulator) else host_view.KEY

    def _said(self, width: int, height: int) -> list[Line]:
        """The newest events that have room, those that are too long folded."""
        lines = list[Line]()
        for event in reversed(self.log.events):
            longer = [*event.lines(width), *lines]
            if len(longer) > height:
                break
            lines = longer
        return lines if self.log.events else [[("   -:-- no event yet", "dim")]]

    def _body(self, sim: AnySimulator, width: int, height: int) -> list[Line]:
        if isinstance(sim, ClusterSimulator):
            return cluster_view.body(sim, self._lane, width, height, self.course)
        return host_view.body(sim, self._lane, width, height)

    def _curves(self, sim: AnySimulator, width: int, more: int) -> list[Line]:
        """Memory and swap of all hosts, beside each other where there is room, each with so many lines more than one."""
        weights = np.asarray(sim.host_specs["ram_mib"][self._lane], float)
        swap_mib = self.course.swap_mib(weights)
        most_gib = round_above_gib(float(swap_mib.max(initial=0.0)))
        wide = (width - 2 * (LABEL + 1)) // 2 if width >= BESIDE else width - LABEL
        rows = self.course.curve(self.course.used(weights), 1.0, wide, 1 + more)
        memory = [
            _beside(label, row, "blue") for label, row in zip(_labels("memory", weights.sum(), more), rows, strict=True)
        ]
        rows = self.course.curve(swap_mib / 1024.0, most_gib, wide, 1 + more)
        swap = [
            _beside(label, row, "red")
            for label, row in zip(_labels("swap", 1024.0 * most_gib, more), rows, strict=True)
        ]
        return (
            [[*a, ("  ", ""), *b] for a, b in zip(memory, swap, strict=True)] if width >= BESIDE else [*memory, *swap]
        )


def _labels(name: str, most_mib: float, more: int) -> list[str]:
    """What stands left of a curve: from two lines on what its top means, and its name."""
    gib = most_mib / 1024.0
    most = f"{gib:.0f} GiB" if 10.0 <= gib < 1000.0 else f"{gib:.1g} GiB" if gib < 10.0 else f"{gib / 1024.0:.1f}TiB"
    return [most, *[""] * (more - 1), name] if more else [name]


def _beside(label: str, row: str, style: str) -> Line:
    return [(f"{label[:LABEL]:<{LABEL}}", "dim"), (row, style)]


def beside(left: list[Line], right: list[Line], width: int) -> list[Line]:
    """Two screens, `width` characters each, with a line between them."""
    rows = max(len(left), len(right))
    blank: list[Line] = [[]] * rows
    pairs = zip([*left, *blank][:rows], [*right, *blank][:rows], strict=True)
    return [[*padded(one, width), (" │ ", "dim"), *cut(other, width)] for one, other in pairs]
