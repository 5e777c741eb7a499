"""Recording at a server that may be down, slow, or gone in the middle: a thread does it, and the study goes on meanwhile.

Nothing is spooled, for whatever is recorded follows from files that are there anyway. After a failure a tracker is made anew; it
finds by its tags what the server has, and is told everything again. What is missing in the end is delivered by ``hvgym sync``.
"""

import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from hvgym.bench.curves import followed
from hvgym.bench.recording import Stoppable, marked
from hvgym.bench.study_note import Note, read_note, write_note
from hvgym.bench.tracking import Place
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


class Placed(Stoppable, Protocol):
    """A tracker that knows the name and the id of its experiment, once that is open."""

    @property
    def experiment(self) -> tuple[str, str]:
        """They are."""


P = TypeVar("P", bound=Placed)


class _Told:
    """Stands for a tracker: what it is told, a courier tells the tracker."""

    def __init__(self, courier: Courier[Any]) -> None:
        self._courier = courier

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **keywords: self._courier.tell(
            lambda tracker: getattr(tracker, name)(*arguments, **keywords)
        )


@contextmanager
def recorded(
    kind: str, folder: Path, place: Place, make: Callable[[str], P], look: Callable[[P], None] = lambda tracker: None
) -> Iterator[P | None]:
    """A tracker of what lies in a folder, where a note of it is left. make: connects to the address of a server, or where that is
    empty to the store under ``runs``; look: called every few seconds.

    kind: none, which gives None, mlflow, or the address of a server: then something takes the tracker's calls for it, and they are
    made while the body runs and after it (see `Courier`). What fails or is interrupted is marked so.
    """
    if kind == "none":
        yield None
        return
    server = "" if kind == "mlflow" else kind
    _note(folder, Note(server, place, whole=False))
    if server:
        courier = Courier(server, lambda: make(server), look)
        with delivered(courier, f"hvgym sync {shlex.quote(str(folder))}"):
            yield cast(P, _Told(courier))
        tracker = courier.tracker
    else:
        with marked(make("")) as here, followed(lambda: look(here)):
            yield here
        tracker = here
    if tracker is not None:
        _note(folder, note_of(server, place, tracker))


def note_of(server: str, place: Place, tracker: Placed) -> Note:
    """That everything is recorded."""
    name, number = tracker.experiment
    return Note(server, replace(place, experiment=name), True, number)


def _note(folder: Path, note: Note) -> None:
    """Leave a note; that of a server which something is owed to stays."""
    there = read_note(folder)
    if note.server or there is None or there.whole or not there.server:
        write_note(folder, note)


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
