"""An episode as a GIF: of a host alone the picture that environments draw (``envs.render``), of a cluster the view that the demo
shows (``envs.cluster_view``), typeset."""

import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from hvgym.envs import render
from hvgym.envs.backends import AnySimulator, simulator
from hvgym.envs.cluster_simulator import ClusterSimulator
from hvgym.envs.errors import InputError
from hvgym.envs.history import History
from hvgym.envs.lines import Line
from hvgym.envs.scenario import Scenario
from hvgym.envs.screen import Screen
from hvgym.envs.simulator import Simulator
from hvgym.envs.telemetry import Telemetry

MOST_FRAMES = 150
"""A longer episode is thinned."""

FRAMES_PER_S, LAST_S = 10, 3.0
"""How fast it runs, and how long its end stands."""

COLUMNS, LINES, SIZE = 100, 48, 13
"""Characters of a line of a cluster, most lines, and the size of letters in pixels."""

HEAD, TIME_WIDE = 26, 190
"""Pixels of the line above a host's picture, and of the time at its end."""

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
        self._title, self._turn, self._drawn = title, 0, 0
        self._frames, self._views = list[Any](), list[list[Line]]()
        self._last = scenario.duration_s // scenario.control_interval_s
        self._every = -(-self._last // MOST_FRAMES)
        self._history, self._screen = None, None
        self._sim = start = simulator(scenario)
        start.reset([seed])
        if isinstance(start, ClusterSimulator):
            self._screen = Screen(start, 0, title)
        else:
            self._history = History(scenario, 0)
            self._history.begin(start)

    def watch(self, telemetry: Telemetry, sim: AnySimulator) -> None:
        """Draw a frame, or pass it over."""
        self._turn, self._sim = self._turn + 1, sim
        if self._history is not None and isinstance(sim, Simulator):
            self._history.add(sim)
        if self._screen is not None:
            self._screen.note(sim)
        if self._turn % self._every == 0 or self._turn == self._last:
            self._draw()

    def _draw(self) -> None:
        self._drawn = self._turn
        if self._screen is not None:
            self._views.append(self._screen.lines(self._sim, COLUMNS, LINES))
        elif self._history is not None and isinstance(self._sim, Simulator):
            self._frames.append(_titled(render.image(self._history, self._sim), self._title))

    def frames(self) -> list[Any]:
        """Images of one size, the last one of what was watched last. Raises `InputError` where nothing was."""
        if self._turn == 0:
            raise InputError(f"{self._title}: nothing was played, so there is no picture of it")
        if self._drawn < self._turn:  # the episode was left before its end
            self._draw()
        most = max(map(len, self._views), default=0)
        return self._frames or [_typeset(view, most) for view in self._views]

    def gif(self) -> bytes:
        """All frames, the last one longer; it begins again."""
        return gif([self])


def gif(films: Sequence[Film]) -> bytes:
    """Films of the same steps side by side."""
    from PIL import Image

    data, frames = io.BytesIO(), list[Any]()
    for together in zip(*(film.frames() for film in films), strict=True):
        wide, high = sum(frame.width for frame in together), max(frame.height for frame in together)
        whole, left = Image.new("RGB", (wide, high), BACKGROUND), 0
        for frame in together:
            whole.paste(frame, (left, 0))
            left += frame.width
        frames.append(whole.quantize(256, dither=Image.Dither.NONE))
    spans = [1000 // FRAMES_PER_S] * (len(frames) - 1) + [round(1000 * LAST_S)]
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:], duration=spans, loop=0, optimize=True)
    return data.getvalue()


def _titled(pixels: np.ndarray, title: str) -> Any:
    """The picture with a title of ours in the place of its own, which does not say who decides."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    draw, font = ImageDraw.Draw(image), _font("DejaVuSans", SIZE)
    room = render.RIGHT - render.LEFT - TIME_WIDE
    while font.getlength(title) > room:
        title = f"{title.rstrip('…')[:-1]}…"
    draw.rectangle((0, 0, render.LEFT + room, HEAD), fill=(255, 255, 255))
    draw.text((render.LEFT, 6), title, (40, 40, 40), font=font)
    return image


def _typeset(lines: list[Line], most: int) -> Any:
    """Lines of styled text as an image that has room for `most` of them: frames are of one size."""
    from PIL import Image, ImageDraw

    plain, bold = (_font(name, SIZE) for name in ("DejaVuSansMono", "DejaVuSansMono-Bold"))
    wide, high = plain.getlength("M"), round(1.35 * SIZE)
    image = Image.new("RGB", (round(wide * (COLUMNS + 2)), high * (most + 1)), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        column = 1
        for text, style in line:
            words = style.split()
            colour = next((COLOURS[word] for word in reversed(words) if word in COLOURS), COLOURS[""])
            draw.text((wide * column, high * (row + 0.5)), text, colour, font=bold if "bold" in words else plain)
            column += len(text)
    return image


@functools.cache
def _font(name: str, size: int) -> Any:
    """Comes with matplotlib."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}.ttf", size)
