"""Recording at a server that may be down, slow, or gone in the middle: a thread does it, and the study goes on meanwhile.

Nothing is spooled, for whatever is recorded follows from files that are there anyway. After a failure a tracker is made anew; it
finds by its tags what the server has, and is told everything again. What is missing in the end is delivered by ``hvgym sync``,
or by the same command.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar, cast

from hvgym.bench.recording import Stoppable
from hvgym.envs.errors import InputError, in_words

T = TypeVar("T", bound=Stoppable)

EVERY_S = 3.0
"""How often what is new is delivered."""

PAUSES_S = (5.0, 10.0, 20.0, 40.0)
"""Between attempts, while a server does not answer; then the last one."""

PATIENCE_S = 10.0
"""How long a command that is over delivers without a word, and one that was stopped at all."""


class Courier(Generic[T]):
    """Tells a tracker, when its server answers, all that it is told itself, in order."""

    def __init__(self, server: str, make: Callable[[], T], look: Callable[[T], None] = lambda tracker: None) -> None:
        """make: connects; look: called after every delivery."""
        self._server, self._make, self._look = server, make, look
        self._calls, self._told = list[Callable[[T], None]](), 0
        self._tracker: T | None = None
        self._over, self._failures, self._whole = threading.Event(), 0, False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def open(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def tell(self, call: Callable[[T], None]) -> None:
        """Deliver this, too."""
        self._calls.append(call)

    def close(self, patience_s: float | None = None) -> bool:
        """Deliver the rest; whether nothing is missing. It ends when the server fails once more, or after `patience_s`."""
        self._over.set()
        self._thread.join(PATIENCE_S if patience_s is None else patience_s)
        if patience_s is None and self._thread.is_alive():
            print(f"delivering to {self._server}: {len(self._calls) - self._told} of {len(self._calls)} are left; "
                  "Ctrl-C leaves them", flush=True)  # fmt: skip
            self._thread.join()
        return self._whole

    @property
    def tracker(self) -> T | None:
        """The tracker that was told everything; None where something is missing."""
        return self._tracker if self._whole else None

    def _run(self) -> None:
        while True:
            last = self._over.is_set()  # before it delivers: what is told later must not be missed
            try:
                self._deliver()
                self._whole = last
                pause = EVERY_S
            except Exception as error:
                self._fail(error)
                pause = PAUSES_S[min(self._failures, len(PAUSES_S)) - 1]
            if last:
                return
            self._over.wait(pause)

    def _deliver(self) -> None:
        if self._tracker is None:
            self._tracker, self._told = self._make(), 0
        while self._told < len(self._calls):
            self._calls[self._told](self._tracker)
            self._told += 1
        self._look(self._tracker)

    def _fail(self, error: Exception) -> None:
        self._tracker, self._told = None, 0
        self._failures += 1
        if self._failures == 1:
            reason = str(error) if isinstance(error, InputError) else f"{self._server}: {in_words(error)}"
            print(f"hvgym: {reason}; this goes on, and delivers later", file=sys.stderr, flush=True)


class _Told:
    """Stands for a tracker: what it is told, a courier tells the tracker."""

    def __init__(self, courier: Courier[Any]) -> None:
        self._courier = courier

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self._courier.tell(lambda tracker: getattr(tracker, name)(*arguments))


@contextmanager
def at_server(server: str, make: Callable[[], T], look: Callable[[T], None] = lambda tracker: None) -> Iterator[T]:
    """Something that takes a tracker's calls for it; they are made while the body runs and after it (see `Courier`)."""
    courier = Courier(server, make, look)
    with delivered(courier, "the same command"):
        yield cast(T, _Told(courier))


@contextmanager
def delivered(courier: Courier[T], later: str) -> Iterator[None]:
    """Deliver while the body runs, and the rest after it; mark what fails or is interrupted so. later: the command that
    delivers what is missing."""
    courier.open()
    try:
        yield
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        courier.tell(lambda tracker: tracker.stopped(status))
        with suppress(KeyboardInterrupt):
            courier.close(PATIENCE_S)
        raise
    if not courier.close():
        print(f"hvgym: not everything was delivered; {later} does it", file=sys.stderr, flush=True)
