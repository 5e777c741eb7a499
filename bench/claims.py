"""Who plays a job: claims, as files in a folder that several machines may share.

    STUDY/claims/KEY.0      held by whoever created it; KEY.1 by whoever took it over, and so on

Creating a file that must not be there is atomic, on NFS too, and is the only thing that decides. The holder counts a heartbeat up
in its file. Whoever waits sees the count stand still for a lease on its own monotonic clock, and then creates the file of the next
number; no clock of one machine is ever compared with that of another. A holder on this machine whose process is gone is known at
once. A holder that ends removes its file and those before it.

A process that was frozen for longer than a lease may wake up and go on beside the one that took over: both leave the same bits,
each file whole. Left out: file systems without exclusive creation.
"""

import json
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hvgym.envs.errors import InputError

T = TypeVar("T")

LEADER = ".leader"
"""The claim of the process that leads a study, a tuning or a density."""


@dataclass(frozen=True)
class Pace:
    """beat_s: between heartbeats; lease_s: without one, after which a claim is taken over; look_s: between looks of who waits.

    A guess: twelve heartbeats may be missed. NFS shows a file that is opened anew as it is on the server (close-to-open), and
    attributes at most 60 s old by default (acregmax, nfs(5))."""

    beat_s: float = 5.0
    lease_s: float = 60.0
    look_s: float = 0.25


PACE = Pace()


def claims_of(study: Path) -> Path:
    """Where the claims of a study's jobs lie."""
    return study / "claims"


def once(folder: Path, key: str, stored: Callable[[], T | None], play: Callable[[], T]) -> T:
    """What a job left, or else play it: nobody else who asks so plays it meanwhile. stored: what it left, None where nothing is."""
    while (found := stored()) is None:
        with held(folder, key, lambda: stored() is not None) as mine:
            if mine:
                found = stored()  # it may have been finished before the claim was ours
                return play() if found is None else found
    return found


@contextmanager
def held(
    folder: Path, key: str, over: Callable[[], bool], pace: Pace | None = None, waits: str | None = None
) -> Iterator[bool]:
    """Wait until the claim is ours, and hold it; False where it is over before that. waits: what its holder does, for who looks on
    and is told once."""
    claim = Attempt(folder, key, pace or PACE)
    while not claim.taken():
        if over():
            yield False
            return
        if waits is not None and (who := claim.seen) and not claim.told:
            print(
                f"waits for process {who.get('pid')} on {who.get('node')}, which {waits}", file=sys.stderr, flush=True
            )
            claim.told = True
        time.sleep(claim.pace.look_s)
    with claim.beating():
        yield True


class Attempt:
    """To get hold of a claim."""

    def __init__(self, folder: Path, key: str, pace: Pace) -> None:
        self.pace, self._folder, self._key = pace, folder, key
        self._passed = list[bytes]()  # what stands in the files of those who are gone
        self._seen, self._since = b"", 0.0
        self.changed = self.told = False
        self._me = {"node": platform.node(), "machine": machine(), "pid": os.getpid(), "began": began(os.getpid())}
        self._me |= {"token": secrets.token_hex(4)}

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._key}.{number}"

    @property
    def _own(self) -> Path:
        """The file that is ours, or is to be."""
        return self._path(len(self._passed))

    @property
    def seen(self) -> dict[str, Any]:
        """Who had it when it was looked at last."""
        return holder(self._seen)

    def taken(self) -> bool:
        """Look once; whether the claim is ours now."""
        self._make_folder()
        while not self._create():
            there = _content(self._own)
            if there is None:  # its holder ended
                self._passed.clear()
            elif self._is_dead(there):
                self._passed.append(there)
            else:
                return False
        return True

    def _make_folder(self) -> None:
        with suppress(FileExistsError):  # one that is removed at this moment; the next look makes it
            self._folder.mkdir(parents=True, exist_ok=True)

    def _create(self) -> bool:
        try:
            with self._own.open("xb") as file:
                file.write(self._line(0))
        except FileExistsError:
            return False
        except FileNotFoundError:  # the folder was removed
            self._make_folder()
            return False
        if self._passed and not self._still(len(self._passed) - 1):  # all was removed, and begun anew
            self._own.unlink(missing_ok=True)
            self._passed.clear()
            return False
        return True

    def _still(self, number: int) -> bool:
        """Whether the file of one who was passed is still that one's."""
        there, then = _content(self._path(number)), self._passed[number]
        return there is not None and (there == then or holder(there).get("token", "") == holder(then).get("token"))

    def _line(self, beat: int) -> bytes:
        return json.dumps(self._me | {"beat": beat}).encode()

    def _is_dead(self, there: bytes) -> bool:
        """Whether its holder is gone, or on another machine has not been heard of for a lease."""
        now = time.monotonic()
        if there != self._seen:
            self.changed = bool(self._seen)
            self._seen, self._since = there, now
        if holder(there).get("machine") == machine():
            return is_gone(there)
        return now - self._since > self.pace.lease_s

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Keep the claim while the body runs."""
        over = threading.Event()
        heart = threading.Thread(target=self._beat, args=(over,), daemon=True)
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()
            self._remove()

    def _remove(self) -> None:
        """From the first on: nobody may begin anew while a later file is still there for another reason than ours."""
        if not self._is_mine() or self._path(len(self._passed) + 1).exists():
            return
        for number in range(len(self._passed)):
            if self._still(number):
                self._path(number).unlink(missing_ok=True)
        self._own.unlink(missing_ok=True)

    def _beat(self, over: threading.Event) -> None:
        beat = 0
        while not over.wait(self.pace.beat_s):
            beat += 1
            with suppress(OSError):  # a server that is away for a while
                if not self._is_mine():
                    return
                with self._own.open("r+b") as file:
                    file.write(self._line(beat))

    def _is_mine(self) -> bool:
        return str(self._me["token"]).encode() in (_content(self._own) or b"")


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def holder(content: bytes) -> dict[str, Any]:
    """Who wrote a claim; nothing where it is half written."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def is_gone(content: bytes) -> bool:
    """Whether the holder was a process of this machine that is not there any more."""
    who = holder(content)
    if who.get("machine") != machine() or not isinstance(who.get("pid"), int):
        return False
    return began(who["pid"]) != who.get("began")


@cache
def machine() -> str:
    """By what processes are known: the boot of a machine, and the container within it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def began(pid: int) -> str:
    """When a process began, in ticks since the boot, so that one that was given its number is not taken for it; "" where there is
    none, "there" where the system does not tell."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if words[0] == "Z" else words[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except OSError:
        return ""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return "there"
    except (OSError, OverflowError):
        return ""
    return "there"


@contextmanager
def leading(folder: Path, pace: Pace | None = None) -> Iterator[None]:
    """Lead what lies in a folder. Whether a leader on another machine lives is seen by its heartbeat, which may take a lease.

    Raises `InputError` that names the one who leads it.
    """
    claim = Attempt(folder, LEADER, pace or PACE)
    while not claim.taken():
        who = claim.seen
        if who.get("machine") == machine() or claim.changed:
            raise InputError(
                f"{folder}: process {who.get('pid')} on {who.get('node')} is working on this; wait, or choose study=NAME"
            )
        if not claim.told:
            print(f"process {who.get('pid')} on {who.get('node')} was working on this; looking whether it is there, up to "
                  f"{claim.pace.lease_s:.0f} s", file=sys.stderr, flush=True)  # fmt: skip
            claim.told = True
        time.sleep(claim.pace.look_s)
    with claim.beating():
        yield


def is_led(folder: Path, pace: Pace | None = None) -> bool:
    """Whether somebody leads what lies in a folder; of another machine it is known when its heart has beaten. It writes nothing."""
    until = time.monotonic() + 2.0 * (pace or PACE).beat_s
    found = sorted(folder.glob(f"{LEADER}.*"), key=lambda one: int(one.suffix[1:]))
    first = _content(found[-1]) if found else None
    if first is None or is_gone(first):
        return False
    if holder(first).get("machine") == machine():
        return True
    while (now := _content(found[-1])) == first and time.monotonic() < until:
        time.sleep((pace or PACE).look_s)
    return now is not None and now != first
