"""An episode as a GIF: of a host alone the picture that environments draw (``envs.render``), of a cluster the view that the demo
shows (``envs.cluster_view``), typeset."""

import functools
import io
from typing import Any

import numpy as np

from hvgym.envs import cluster_view, render
from hvgym.envs.backends import AnySimulator, simulator
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.history import History
from hvgym.envs.scenario import Scenario
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Telemetry

MOST_FRAMES = 150
"""A longer episode is thinned."""

FRAMES_PER_S, LAST_S = 10, 3.0
"""How fast it runs, and how long its end stands."""

COLUMNS, SIZE = 100, 13
"""Characters of a line of a cluster, and their size in pixels."""

BACKGROUND = (24, 27, 33)

COLOURS = {
    "": (215, 219, 224),
    "dim": (128, 134, 142),
    "bold": (255, 255, 255),
    "blue": (86, 156, 230),
    "magenta": (214, 130, 200),
    "green": (92, 190, 120),
    "yellow": (226, 192, 80),
    "red": (240, 100, 90),
}
"""Of what ``rich`` calls so, on a dark ground."""


class Film:
    """Watches a rollout (``rollout.Watcher``) and draws its first lane."""

    def __init__(self, scenario: Scenario, seed: int, title: str) -> None:
        self._title, self._frames, self._turn = title, list[Any](), 0
        intervals = scenario.duration_s // scenario.control_interval_s
        self._every = -(-intervals // MOST_FRAMES)
        self._last = intervals
        start = simulator(scenario)
        start.reset([seed])
        self._history = None if isinstance(start, ClusterSimulator) else History(scenario, 0)
        if self._history is not None and isinstance(start, Simulator):
            self._history.begin(start)

    def watch(self, telemetry: Telemetry, sim: AnySimulator) -> None:
        """Draw a frame, or pass it over."""
        self._turn += 1
        if self._history is not None and isinstance(sim, Simulator):
            self._history.add(sim)
        if self._turn % self._every and self._turn != self._last:
            return
        if self._history is not None and isinstance(sim, Simulator):
            self._frames.append(_image(render.image(self._history, sim)))
        elif isinstance(sim, ClusterSimulator):
            most = _height(sim.scenario)
            self._frames.append(_typeset(cluster_view.view(sim, 0, self._title, COLUMNS, most), most))

    def gif(self) -> bytes:
        """All frames, the last one longer; it begins again."""
        data = io.BytesIO()
        first, *others = (frame.quantize(256, dither=0) for frame in self._frames)
        spans = [1000 // FRAMES_PER_S] * len(others) + [round(1000 * LAST_S)]
        first.save(data, "GIF", save_all=True, append_images=others, duration=spans, loop=0, optimize=True)
        return data.getvalue()


def _image(pixels: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)


def _height(scenario: Scenario) -> int:
    """Lines that a cluster's hosts, VMs, copies and VMs out of work mostly need."""
    return min(4 + 3 * len(scenario.host_names) + 8, 48)


def _typeset(lines: list[cluster_view.Line], most: int) -> Any:
    """Lines of styled text as an image that has room for `most` of them: frames are of one size."""
    from PIL import Image, ImageDraw

    wide, high = _font(False).getlength("M"), round(1.35 * SIZE)
    image = Image.new("RGB", (round(wide * (COLUMNS + 2)), high * (most + 1)), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        column = 1
        for text, style in line:
            words = style.split()
            colour = next((COLOURS[word] for word in reversed(words) if word in COLOURS), COLOURS[""])
            draw.text((wide * column, high * (row + 0.5)), text, colour, font=_font("bold" in words))
            column += len(text)
    return image


@functools.cache
def _font(bold: bool) -> Any:
    """Comes with matplotlib."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSansMono-Bold.ttf" if bold else "DejaVuSansMono.ttf"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}", SIZE)
