"""Single keys from the terminal, without Return, while something is shown; only where somebody sits at it.

The terminal's settings come back however the block is left. Ctrl-C goes on to interrupt.
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

NAMES = {b"\x1b[C": "right", b"\x1bOC": "right", b" ": "space", b"\x03": "q", b"\x04": "q"}
"""Of keys that are no letters."""


class Keyboard:
    """Reads the keys of a file descriptor; with None it only waits."""

    def __init__(self, terminal: int | None) -> None:
        self._terminal = terminal

    @property
    def there(self) -> bool:
        """Whether there are keys to press."""
        return self._terminal is not None

    def key(self, seconds: float) -> str:
        """The next key within so many seconds, or "": a letter or sign, space, right. A terminal that has gone away says q."""
        if self._terminal is None:
            time.sleep(max(seconds, 0.0))
            return ""
        if not select.select([self._terminal], [], [], max(seconds, 0.0))[0]:
            return ""
        try:
            pressed = os.read(self._terminal, 1)
            if pressed == b"\x1b" and select.select([self._terminal], [], [], 0.01)[0]:
                pressed += os.read(self._terminal, 2)
        except OSError:
            return "q"
        return (
            "q" if not pressed else NAMES.get(pressed, pressed.decode("ascii", "ignore") if len(pressed) == 1 else "")
        )


@contextlib.contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Keys as they are pressed, where input and output are a terminal of ours and not in the background."""
    if not _sits_there():
        yield Keyboard(None)
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def go_on(number: int, frame: FrameType | None) -> None:
        """A shell sets the terminal to its own liking while a program is stopped."""
        tty.setcbreak(terminal)

    previous = signal.signal(signal.SIGCONT, go_on)
    try:
        tty.setcbreak(terminal)
        yield Keyboard(terminal)
    finally:
        signal.signal(signal.SIGCONT, previous)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _sits_there() -> bool:
    try:
        seen = sys.stdin.isatty() and sys.stdout.isatty()
        return seen and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # no such thing on this system, or closed
        return False
