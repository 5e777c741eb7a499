"""The terminal on which ``hvgym demo`` and ``replay`` show episodes: one, or two side by side, at a speed that keys change."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from hvgym.scripts.keyboard import Keyboard, keyboard
from hvgym.scripts.live import COMPILING, cold

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from hvgym.envs.backends import AnySimulator
    from hvgym.envs.lines import Line
    from hvgym.envs.scenario import Scenario
    from hvgym.envs.screen import Screen

SPEEDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 240.0, 600.0, 1200.0, 3600.0)
"""Simulated seconds a second, through which + and - go; beyond the last as fast as possible."""

REDRAWN_S = 0.05
"""Between two pictures, at least."""

BACKLOG_S = 0.5
"""What a simulation that is slower than its speed may catch up later."""

POLLED_S = 0.2
"""How often keys are looked for while nothing moves, and the picture is fitted to the terminal's size."""


class Pace:
    """When the next step is due, and what keys do to that. speed: simulated seconds a second; 0: as fast as possible."""

    def __init__(self, speed: float) -> None:
        self.speed, self.paused, self.over = speed, False, False
        self._step = False
        self._last = time.monotonic()

    def press(self, key: str) -> None:
        """Space, s, right, +, -, q; others do nothing."""
        if key == "space":
            self.paused = not self.paused
        elif key in ("s", "right"):
            self.paused = self._step = True
        elif key in ("+", "="):
            self.speed = 0.0 if not self.speed else next((speed for speed in SPEEDS if speed > self.speed), 0.0)
        elif key == "-":
            slower = [speed for speed in SPEEDS if speed < self.speed or not self.speed]
            self.speed = slower[-1] if slower else self.speed
        elif key in ("q", "Q"):
            self.over = True

    def left_s(self, seconds: float) -> float:
        """Until the step after one of so many simulated seconds is due; not above 0: now."""
        if self._step or self.over:
            return 0.0
        if self.paused:
            return POLLED_S
        return self._last + seconds / self.speed - time.monotonic() if self.speed else 0.0

    def stepped(self, seconds: float) -> None:
        """The step is taken."""
        self._step = False
        due = self._last + seconds / self.speed if self.speed and not self.paused else 0.0
        self._last = max(due, time.monotonic() - BACKLOG_S)

    def in_words(self) -> str:
        """What keys there are, and what they have set."""
        speed = f"{self.speed:g} x" if self.speed else "as fast as possible"
        return f"space {'goes on' if self.paused else 'pauses'}  s steps  + - {speed}  q quits"


class Stage:
    """Shows what simulators do, each on a screen of its own; all have the same clock."""

    def __init__(
        self,
        console: "Console",
        live: "Live",
        keys: Keyboard,
        screens: "Sequence[Screen]",
        pace: Pace,
        interrupts: Sequence[int] = (),
    ) -> None:
        self._console, self._live, self._keys, self._screens = console, live, keys, screens
        self.sims: Sequence[AnySimulator] = ()
        self._now_s, self._drawn_at = 0.0, 0.0
        self._interrupts = interrupts
        self.pace = pace

    @property
    def over(self) -> bool:
        """Whether somebody has quit."""
        return self.pace.over

    def show(self, *sims: "AnySimulator") -> None:
        """Draw the step that has passed, and wait until the next one is due. After somebody has quit it does nothing."""
        self._check_interrupts()
        if self.over:
            return
        self.sims = sims
        for screen, sim in zip(self._screens, sims, strict=True):
            screen.note(sim)
        now_s = float(sims[0].clock_s[0])
        seconds, self._now_s = now_s - self._now_s, now_s
        if time.monotonic() - self._drawn_at >= REDRAWN_S or self.pace.paused:
            self._draw()
        self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        if self._keys.there and (key := self._keys.key(0.0)):  # also where every step is due at once
            self._press(key)
        while (left_s := self.pace.left_s(seconds)) > 0.0:
            self._check_interrupts()
            if key := self._keys.key(min(left_s, POLLED_S)):
                self._press(key)
            elif self.pace.paused:
                self._draw()
        self.pace.stepped(seconds)

    def _check_interrupts(self) -> None:
        if self._interrupts:
            raise KeyboardInterrupt

    def _press(self, key: str) -> None:
        self.pace.press(key)
        self._draw()

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        self._live.update(self.picture(self._keys.there), refresh=True)

    def picture(self, keys: bool, left: int = 1) -> Any:
        """All screens as they are, fitted to the terminal but for `left` lines; keys: with a line that names them."""
        from rich.text import Text

        lines = self._lines(self._console.width, self._console.height - left - keys)
        if keys:
            lines.append([(self.pace.in_words()[: self._console.width], "dim")])
        return Text("\n", no_wrap=True, overflow="crop").join(Text.assemble(*line) for line in lines)

    def _lines(self, width: int, height: int) -> "list[Line]":
        from hvgym.envs.lines import cut
        from hvgym.envs.render import clock
        from hvgym.envs.screen import beside

        if (
            not self.sims
        ):  # the first step compiles what the machine has not compiled yet: several hosts have code of their own
            return [cut([(COMPILING, "dim")], width)]
        if len(self._screens) == 1:
            return self._screens[0].lines(self.sims[0], width, height)
        each = (width - 3) // 2
        both = zip(self._screens, self.sims, strict=True)
        left, right = (screen.lines(sim, each, height - 1, key=False) for screen, sim in both)
        scenario = self.sims[0].scenario
        played = (f"   {scenario.name} on {scenario.hypervisor.name}, {clock(scenario.duration_s)}", "dim")
        return [*beside(left, right, each), cut([*self._screens[0].key(self.sims[0]), played], width)]


@contextlib.contextmanager
def _interrupts() -> Iterator[Sequence[int]]:
    """Signals that asked to end: the exception that they raise is lost where it falls into a callback of compiled code."""
    came = list[int]()
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    ours = [
        number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is signal.default_int_handler
    ]
    for number in ours:
        signal.signal(number, note)
    try:
        yield came
    finally:
        for number in ours:
            signal.signal(number, signal.default_int_handler)


@contextlib.contextmanager
def stage(scenario: "Scenario", seed: int, titles: Sequence[str], speed: float) -> Iterator[Stage]:
    """A stage for one or two episodes of a scenario; the last picture stays on the terminal."""
    from rich.console import Console
    from rich.live import Live

    from hvgym.envs.backends import simulator
    from hvgym.envs.screen import Screen

    console = Console(force_jupyter=False)
    whole = console.is_terminal and not console.is_dumb_terminal
    if whole and cold():
        console.print(COMPILING)
    start = simulator(scenario)
    start.reset([seed])
    longest = max(map(len, titles))  # so that what stands behind is told alike on both
    screens = [Screen(start, 0, title.ljust(longest)) for title in titles]
    with _interrupts() as interrupts, keyboard() as keys:
        with Live(console=console, screen=whole, auto_refresh=False) as live:
            stage = Stage(console, live, keys, screens, Pace(speed), interrupts)
            if whole:
                live.update(stage.picture(keys=False), refresh=True)
            yield stage
            if not whole:
                live.update(stage.picture(keys=False), refresh=True)
        if whole:  # and below it a line for each, that of a file, and the shell's own
            console.print(stage.picture(keys=False, left=len(titles) + 2))
        else:
            print()  # after the last picture, which ends without a line's end there
