"""Gives calls of functions to an engine, and what they gave to whoever waits for it.

Results lie in files that all workers share, and a call whose worker was lost is given again: what it had finished is read, the
rest goes on (``claims``). A worker refuses to play with other code of hvgym than the process that leads has.
"""

import os
import platform
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from hvgym.bench.identity import package_code
from hvgym.envs.errors import InputError, in_words

MOST_LOST = 5
"""So often is a call given again whose worker was lost (a guess): one that runs out of memory ends each worker that plays it."""

LOOK_S = 0.1
"""How often it is looked what is finished; shorter than the shortest jobs matters to nobody."""


class LostError(Exception):
    """The worker of a call is gone."""


@dataclass(frozen=True)
class Call:
    """A function of a module, with its arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Place:
    """Where the leading process is, and its code: workers look for modules and files as it does."""

    path: tuple[str, ...]
    folder: str
    code: str

    @staticmethod
    def here() -> "Place":
        """Of this process."""
        return Place(tuple(map(os.path.abspath, sys.path)), str(Path.cwd()), _code())

    def enter(self) -> None:
        """In a worker. Raises `InputError` where hvgym is another here."""
        sys.path += [place for place in self.path if place not in sys.path]
        with suppress(OSError):
            os.chdir(self.folder)
        if _code() != self.code:
            raise InputError(
                f"{platform.node()}: its hvgym has other code ({_code()}) than that of the command ({self.code}); install the same"
            )


@cache
def _code() -> str:
    return package_code()


Outcome = tuple[Any, BaseException | None]
"""What a call gave, or why not: engines wrap errors, each in its own way."""


def perform(place: Place, calls: Sequence[Call]) -> list[Outcome]:
    """In a worker: make these calls, one after another."""
    found = list[Outcome]()
    for call in calls:
        try:
            place.enter()
            found.append((call.function(*call.arguments), None))
        except Exception as error:
            found.append((None, error if isinstance(error, (InputError, OSError)) else InputError(in_words(error))))
    return found


class Host(Protocol):
    """What is asked of an engine. A handle is its own word for calls that it was given together."""

    again: int
    """How often a lost call is to be given again."""

    def share(self, waiting: int, running: int) -> int:
        """How many of the calls that wait it takes now, in one go; 0 where it has enough."""

    def start(self, calls: Sequence[Call]) -> Any:
        """Have calls made; gives a handle."""

    def outcomes(self, handle: Any) -> list[Outcome] | None:
        """What they gave, once they are over. Raises `LostError`."""

    def stop(self) -> None:
        """End everything that is under way."""

    def close(self) -> None:
        """End when nothing is under way."""


class Pump(threading.Thread):
    """Gives calls to an engine, and what they gave to whoever waits for it."""

    def __init__(self, host: Host) -> None:
        super().__init__(daemon=True)
        self._host, self._over = host, threading.Event()
        self._waiting = deque[tuple[Call, Future[Any], int]]()
        self._running = dict[Any, list[tuple[Call, Future[Any], int]]]()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """As of an ``Executor``."""
        future: Future[Any] = Future()
        self._waiting.append((Call(function, arguments), future, 0))
        return future

    def end(self) -> None:
        """Take nothing more."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Until it is ended."""
        try:
            while not self._over.wait(LOOK_S):
                self._give()
                self._take()
        except Exception as error:  # of the engine itself
            said = InputError(
                f"{' '.join(in_words(error).split())[:300]}; finished jobs are safe, the same command goes on"
            )
            for _, future, _ in [*self._waiting, *(one for of_it in self._running.values() for one in of_it)]:
                future.set_exception(said)

    def _give(self) -> None:
        while count := min(self._host.share(len(self._waiting), len(self._running)), len(self._waiting)):
            taken = [self._waiting.popleft() for _ in range(count)]
            try:
                self._running[self._host.start([call for call, _, _ in taken])] = taken
            except BaseException:
                self._waiting.extendleft(reversed(taken))
                raise

    def _take(self) -> None:
        for handle, taken in list(self._running.items()):
            try:
                outcomes = self._host.outcomes(handle)
            except LostError as error:
                del self._running[handle]
                self._lost(taken, error)
                continue
            if outcomes is None:
                continue
            del self._running[handle]
            for (_, future, _), (value, why) in zip(taken, outcomes, strict=True):
                future.set_result(value) if why is None else future.set_exception(why)

    def _lost(self, taken: Sequence[tuple[Call, Future[Any], int]], error: LostError) -> None:
        for call, future, lost in taken:
            if lost < self._host.again:
                self._waiting.appendleft((call, future, lost + 1))
            else:
                future.set_exception(
                    InputError(f"its workers ended by themselves, killed for want of memory or by the code of a policy ({error}); "
                               "the same command goes on")
                )  # fmt: skip
