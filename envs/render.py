"""Pictures of an episode: an image of how memory and progress went so far, and a table of the present.

The image has time from left to right over the whole episode. From the top: host memory by owner; what balloons hold; what is
swapped out, by guests and by the host; the progress of every VM, a row each. A VM has the same colour in the first two and
beside its row. Drawn by hand, for videos draw every step and a plotting library takes several times as long.
"""

import functools
from typing import Any

import numpy as np

from hvgym.envs.backends import AnySimulator
from hvgym.envs.errors import InputError, nearest
from hvgym.envs.history import History, guest_swapped_mib
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator

MODES = ("rgb_array", "ansi")
FPS = 10
"""Steps a second in a video."""

WIDTH, HEIGHT = 640, 480
LEFT, RIGHT = 70, 632
HOST, BALLOONS, SWAP, PROGRESS = (44, 180), (206, 266), (292, 352), (378, 456)
"""Top and bottom of each panel."""

INK, GREY, FUTURE, NOT_STARTED = (40, 40, 40), (110, 110, 110), (240, 240, 240), (205, 205, 205)
OWN, CACHE, GUEST_SWAP, HOST_SWAP = (120, 120, 120), (190, 200, 210), (150, 150, 150), (170, 30, 40)
GROUPS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (150, 130, 60))
"""Okabe and Ito's colours, which all can tell apart, one a group of VMs; VMs of a group differ in lightness."""

SPEEDS, SPEED_COLOURS = (0.0, 0.5, 0.9, 1.0), ((120, 0, 30), (230, 100, 60), (250, 215, 150), (225, 240, 232))


def checked(mode: str | None, modes: tuple[str, ...] = MODES) -> str | None:
    """The mode. Raises `InputError` for one that is not offered."""
    if mode is not None and mode not in modes:
        raise InputError(f"render_mode={mode!r}: unknown{nearest(str(mode), modes)}; known: {', '.join(modes)}")
    return mode


def picture(mode: str | None, histories: list[History] | None, sim: Simulator, lane: int) -> Any:
    """One lane's episode: uint8 ``[480, 640, 3]``, text, or None without a mode."""
    if mode is None or histories is None:
        return None
    return table(sim, lane) if mode == "ansi" else image(histories[lane], sim)


def title(sim: AnySimulator, lane: int) -> tuple[str, str]:
    """What is played, and how far it is."""
    scenario, vm, weight = sim.scenario, sim.vms[lane], sim.vm_specs["weight"][lane]
    asked = float((weight * vm["asked_s"]).sum())
    goodput = (
        f"goodput {(weight * (vm['progress_s'] - vm['charged_s'])).sum() / asked:.3f}" if asked > 0.0 else "goodput -"
    )
    now = f"{clock(int(sim.clock_s[lane]))} of {clock(scenario.duration_s)}"
    return f"{scenario.name} on {scenario.hypervisor.name}", f"{now}   {goodput}"


def table(sim: Simulator, lane: int) -> str:
    """Sizes in MiB, progress of the last second."""
    vm, signals, swapped = sim.vms[lane], sim.vm_signals[lane], guest_swapped_mib(sim)[lane]
    lines = ["{}, {}".format(*title(sim, lane))]
    lines.append(
        f"{'MiB':<14}{'size':>9}{'asked':>9}{'resident':>10}{'guest swap':>12}{'host swap':>11}{'progress':>10}"
    )
    for v, name in enumerate(names(sim.scenario)):
        row = signals[v]
        progress = f"{vm[v]['progress']:.2f}" if vm[v]["admitted"] > 0.0 else "waits"
        lines.append(
            f"{name[:13]:<14}{row['size_mib']:>9.0f}{row['target_mib']:>9.0f}{row['resident_mib']:>10.0f}"
            f"{swapped[v]:>12.0f}{row['host_swap_mib']:>11.0f}{progress:>10}"
        )
    host = sim.host_signals[lane, 0]
    lines.append(
        f"{'host':<14}{host['total_mib']:>9.0f}{'':>9}{host['total_mib'] - host['available_mib']:>10.0f}"
        f"{'':>12}{host['swap_used_mib']:>11.0f}"
    )
    return "\n".join(lines)


def names(scenario: Scenario) -> list[str]:
    """One name a VM."""
    return [
        group.name if group.count == 1 else f"{group.name} {number + 1}"
        for group in scenario.vms
        for number in range(group.count)
    ]


def image(history: History, sim: Simulator) -> np.ndarray:
    """The episode so far, uint8 ``[480, 640, 3]``."""
    canvas = _Canvas(history)
    colours, lane = _colours(sim.scenario), history.lane
    canvas.text(LEFT, 6, title(sim, lane)[0], size=14)
    canvas.text(RIGHT, 7, title(sim, lane)[1], size=12, anchor="ra")
    ram = float(sim.host_specs["ram_mib"][lane, 0])
    canvas.stack(HOST, [history.own, *history.resident.T, history.cache], [OWN, *colours, CACHE], ram)
    canvas.label(HOST, "Host memory, GiB", ram, (("hypervisor", OWN), ("its page cache", CACHE), ("free", (255,) * 3)))
    most = canvas.stack(BALLOONS, [*history.balloon.T], colours)
    canvas.label(BALLOONS, "In balloons, GiB", most)
    swapped = [history.guest_swap.sum(axis=1), history.host_swap.sum(axis=1)]
    most = canvas.stack(SWAP, swapped, [GUEST_SWAP, HOST_SWAP])
    canvas.label(SWAP, "Swapped out, GiB", most, (("by guests", GUEST_SWAP), ("by the host", HOST_SWAP)))
    canvas.rows(PROGRESS, history.progress.T)
    canvas.label(PROGRESS, "Progress of each VM", None, (("0", SPEED_COLOURS[0]), ("0.5", SPEED_COLOURS[1]),
                 ("0.9", SPEED_COLOURS[2]), ("1", SPEED_COLOURS[3]), ("not started", NOT_STARTED)))  # fmt: skip
    canvas.owners(PROGRESS, sim.scenario, colours)
    canvas.times(sim.scenario.duration_s)
    return canvas.done()


class _Canvas:
    """An image, and for each of its columns the step of the episode that it shows."""

    def __init__(self, history: History) -> None:
        from PIL import Image, ImageDraw  # comes with matplotlib

        columns = np.linspace(0, history.most, RIGHT - LEFT).astype(int)
        self._played = columns[columns <= history.steps]
        self._pixels = np.full((HEIGHT, WIDTH, 3), 255.0, np.float32)
        self._texts: list[tuple[Any, ...]] = []
        self._boxes: list[tuple[Any, ...]] = []
        self._image, self._draw = Image, ImageDraw

    def _panel(self, panel: tuple[int, int]) -> np.ndarray:
        """Its part of the image, the future greyed out; returns the played part."""
        top, bottom = panel
        self._pixels[top:bottom, LEFT:RIGHT] = FUTURE
        past = self._pixels[top:bottom, LEFT : LEFT + len(self._played)]
        past[:] = 255.0
        return past

    def stack(
        self, panel: tuple[int, int], layers: list[np.ndarray], colours: list[tuple[int, ...]], most: float | None = None
    ) -> float:  # fmt: skip
        """Layers ``[step]`` one upon the other; returns what the panel's height stands for."""
        past = self._panel(panel)
        sums = np.cumsum([layer[self._played] for layer in layers], axis=0)
        most = _round_above(float(sums[-1].max())) if most is None else most
        lower = np.full(len(self._played), len(past), np.float32)
        for total, colour in zip(sums, colours, strict=True):
            upper = len(past) * (1.0 - total / most).astype(np.float32)
            first, last = max(int(upper.min()), 0), min(int(np.ceil(lower.max())), len(past))
            rows = np.arange(first, last, dtype=np.float32)[:, None]
            cover = np.clip(lower - rows, 0.0, 1.0) - np.clip(
                upper - rows, 0.0, 1.0
            )  # of each pixel, between the edges
            past[first:last] += cover[:, :, None] * (np.asarray(colour, np.float32) - 255.0)
            lower = upper
        return most

    def rows(self, panel: tuple[int, int], progress: np.ndarray) -> None:
        """One row a VM, coloured by its progress ``[vm, step]``."""
        past = self._panel(panel)
        which = np.arange(len(past)) * len(progress) // len(past)
        shown = progress[which][:, self._played]
        for channel in range(3):
            past[:, :, channel] = np.interp(shown, SPEEDS, [colour[channel] for colour in SPEED_COLOURS])
        past[np.isnan(shown)] = NOT_STARTED
        if len(past) >= 6 * len(progress):
            past[1:][np.diff(which) > 0] = 255.0

    def label(
        self, panel: tuple[int, int], name: str, most_mib: float | None,
        legend: tuple[tuple[str, tuple[int, ...]], ...] = (),
    ) -> None:  # fmt: skip
        """Name, scale and legend of a panel."""
        top, bottom = panel
        self.text(LEFT, top - 16, name, size=11)
        right = RIGHT
        for word, colour in reversed(legend):
            self.text(right, top - 15, word, GREY, size=10, anchor="ra")
            right -= 8 + int(_font(10).getlength(word))
            self._boxes.append(((right - 6, top - 13, right, top - 7), colour))
            right -= 14
        self._boxes.append(((LEFT - 1, top - 1, RIGHT, bottom), None))
        if most_mib is not None:
            for share in (0.0, 0.5, 1.0):
                level = f"{share * most_mib / 1024.0:.3g}"
                self.text(LEFT - 6, bottom - share * (bottom - top), level, GREY, size=10, anchor="rm")

    def owners(self, panel: tuple[int, int], scenario: Scenario, colours: list[tuple[int, ...]]) -> None:
        """Beside the rows the colour of each VM, and the name of each group that there is room for."""
        top, bottom = panel
        height, last = (bottom - top) / len(colours), float(top) - 12.0
        for v, colour in enumerate(colours):
            self._boxes.append(((LEFT - 9, top + v * height, LEFT - 4, top + (v + 1) * height - 1.0), colour))
        first = 0
        for group in scenario.vms:
            middle = top + (first + 0.5 * group.count) * height
            first += group.count
            if middle - last >= 11.0:
                self.text(LEFT - 12, middle, _short(group.name, 52), GREY, size=10, anchor="rm")
                last = middle

    def times(self, duration_s: int) -> None:
        """The axis below."""
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            anchor = {0.0: "la", 1.0: "ra"}.get(share, "ma")
            at = LEFT + share * (RIGHT - LEFT)
            self.text(at, PROGRESS[1] + 5, clock(int(share * duration_s)), GREY, size=10, anchor=anchor)

    def text(
        self, x: float, y: float, words: str, colour: tuple[int, ...] = INK, *, size: int, anchor: str = "la"
    ) -> None:
        """Write words; anchor as PIL's."""
        self._texts.append((x, y, words, colour, size, anchor))

    def done(self) -> np.ndarray:
        """The image, with lines and words on it."""
        shown = self._image.fromarray(np.clip(self._pixels + 0.5, 0.0, 255.0).astype(np.uint8))
        draw = self._draw.Draw(shown)
        for corners, colour in self._boxes:
            draw.rectangle(corners, fill=colour, outline=GREY if colour is None or min(colour) > 220 else None)
        for x, y, words, colour, size, anchor in self._texts:
            draw.text((x, y), words, colour, font=_font(size), anchor=anchor)
        return np.array(shown)


@functools.cache
def _font(size: int) -> Any:
    """matplotlib's own, which is there whatever the machine has."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def _colours(scenario: Scenario) -> list[tuple[int, ...]]:
    """One a VM."""
    found = []
    for turn, group in enumerate(scenario.vms):
        base = np.array(GROUPS[turn % len(GROUPS)])
        for number in range(group.count):
            pale = 0.5 * (number % 6) / 6.0
            found.append(tuple((base + pale * (255 - base)).astype(int).tolist()))
    return found


def _round_above(mib: float) -> float:
    """A round number of GiB that is at least as much, so that the scale seldom changes."""
    gib = max(mib / 1024.0, 1.0)
    step = 10.0 ** np.floor(np.log10(gib))
    return float(1024.0 * next(round_ * step for round_ in (1.0, 2.0, 5.0, 10.0) if round_ * step >= gib))


def _short(name: str, most_px: int) -> str:
    """As much of a name as fits."""
    if _font(10).getlength(name) <= most_px:
        return name
    return next(f"{name[:n]}…" for n in range(len(name), -1, -1) if _font(10).getlength(f"{name[:n]}…") <= most_px)


def clock(seconds: int) -> str:
    """Minutes and seconds, and hours where there are any."""
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"
